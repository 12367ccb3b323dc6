"""A process that has imported what notebooks import, and is copied for every student (Linux, inside bubblewrap).

It is told over a socket whom to serve: each message brings the limits and four descriptors (request in,
replies out, printed text out, and a socket on which the copy says hello). It computes nothing itself, so
that a copy is as good as a new process, and it never reads a byte that a student's code wrote.

    python -I -S -u zygote.py {"control": 5, "path": [...], "request_limits": {...}, "warm_up": "..."}
"""

import array
import ast
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import warnings
from types import ModuleType
from typing import Any

_MOST_MESSAGE = 1 << 16
_HELLO, _GO = b"hello", b"go"


def main() -> None:
    """Import, say that all is ready, then serve until the other end of the socket is closed."""
    settings = json.loads(sys.argv[1])
    runner = _beside("runner")
    runner.prepare(settings["path"])
    walls = _beside("walls")
    control = socket.socket(fileno=settings["control"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import torch  # noqa: F401 - the point of it all

    shell = runner.new_shell()
    _import(_modules_of(settings["warm_up"], runner))
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"{threads} threads before the first copy: a copy would hang")
    gc.freeze()  # what is here stays: copies need not look at it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.send(b"ready")
    while True:
        message, descriptors = _receive(control)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            _become_student(json.loads(message), descriptors, settings, runner, walls, shell)
        for each in descriptors:
            os.close(each)


def _beside(name: str) -> ModuleType:
    """Import a module that lies beside this file."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    message, ancillary, _, _ = control.recvmsg(_MOST_MESSAGE, socket.CMSG_SPACE(4 * 8))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, descriptors.tolist()


def _modules_of(source: str, runner: Any) -> list[str]:
    """Return the modules that running ``source`` loads, found out by a copy that then ends.

    PyTorch loads hundreds of modules on first use. Here they are only imported; nothing is computed. What the
    source itself imports is imported here meanwhile.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            runner.run_quietly(source)
        finally:
            with os.fdopen(writer, "w") as file:
                file.write("\n".join(sys.modules))
            os._exit(0)
    os.close(writer)
    _import(_imported_by(source))
    with os.fdopen(reader) as file:
        names = file.read().split("\n")
    os.wait()
    return names


def _imported_by(source: str) -> list[str]:
    """Return the modules that import statements of a source name, in order."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names


def _import(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name and name not in sys.modules:
                try:
                    importlib.import_module(name)
                except BaseException:  # made while it ran, not a file: a copy will make its own
                    continue


def _become_student(
    told: dict[str, Any],
    descriptors: list[int],
    settings: dict[str, Any],
    runner: Any,
    walls: Any,
    shell: Any,
) -> None:
    """Go behind walls of one's own in three steps: namespaces, mounts as their first process, the work."""
    request, replies, printed, hello_fd = descriptors
    hello = socket.socket(fileno=hello_fd)
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        walls.enter_namespaces()
        if os.fork() != 0:
            os._exit(0)  # the sandbox's first process takes the child over
        walls.mount_private(told["file_bytes"])
        hello.send(_HELLO)  # the kernel adds who is speaking
        if hello.recv(16) != _GO:
            os._exit(0)
        hello.close()
        worker = os.fork()
        if worker != 0:
            for each in (request, replies, printed):
                os.close(each)
            while os.wait()[0] != worker:
                pass
            os._exit(0)  # with the first process of a namespace all others end
        os.setsid()
        os.chdir("/tmp")
        for number in (1, 2):
            os.dup2(printed, number)
        os.close(printed)
        walls.drop_rights()
        walls.limit(told["limits"])
        walls.landlock()
        walls.seccomp()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    with os.fdopen(request, "rb") as file:
        wanted = file.read()
    runner.work(wanted, settings["request_limits"], replies, shell)


if __name__ == "__main__":
    main()
