"""The first process of a container: starts the runner behind walls, passes on what it says and what it uses.

Its standard input brings the request and stays open: when it ends, the grader has gone, and with the first
process of a container all others end. Its standard output carries messages: a letter, a length, and bytes;
replies (r), printed text (p), what the container uses (u), and that the run is over (e). The student's code
gets neither of the two, and cannot send a signal to the first process nor look into it.

    python -I -B -u supervisor.py {"environment": {...}, "limits": {...}, "seconds": 900, ...}
"""

import json
import os
import select
import signal
import struct
import sys
import sysconfig
import time
from types import ModuleType
from typing import Any, NoReturn

_LENGTH = struct.Struct("<Q")
_HEAD = struct.Struct("<cI")
_CHUNK = 1 << 16
_TICK = 0.1


def main() -> None:
    """Read the request, start the runner, and pass on until it ends."""
    settings = json.loads(sys.argv[1])
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import walls
    import watch

    walls.hide()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _leave)
    signal.alarm(settings["seconds"])  # whatever happens outside, no container stays for ever
    request = _take(_LENGTH.unpack(_take(_LENGTH.size))[0])
    request_out, request_in = os.pipe()
    replies_out, replies_in = os.pipe()
    printed_out, printed_in = os.pipe()
    worker = os.fork()
    if worker == 0:
        _become_runner(settings, request_out, replies_in, printed_in, walls)
    for each in (request_out, replies_in, printed_in):
        os.close(each)
    for each in (1, request_in, replies_out, printed_out):
        os.set_blocking(each, False)
    _pass_on(worker, request, request_in, replies_out, printed_out, settings, watch)
    _say(b"e")
    _leave()


def _leave(*_: Any) -> NoReturn:
    os._exit(0)


def _take(count: int) -> bytes:
    """Read so many bytes; leave where there are no more."""
    data = bytearray()
    while len(data) < count:
        more = os.read(0, min(count - len(data), 1 << 20))
        if not more:
            _leave()
        data += more
    return bytes(data)


def _say(kind: bytes, data: bytes = b"") -> None:
    """Send a message; leave where nobody listens any more."""
    rest = memoryview(_HEAD.pack(kind, len(data)) + data)
    while rest:
        ended, _, _ = select.select([0], [1], [])
        if ended and not os.read(0, _CHUNK):
            _leave()
        try:
            rest = rest[os.write(1, rest) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            _leave()


def _become_runner(
    settings: dict[str, Any], request: int, replies: int, printed: int, walls: ModuleType
) -> None:
    """Become the runner, with pipes in place of the container's own ends, behind walls that do not open again."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        os.chdir(settings["environment"]["HOME"])
        os.dup2(request, 0)
        for number in (1, 2):
            os.dup2(printed, number)
        os.set_inheritable(replies, True)
        walls.drop_rights()
        walls.landlock()
        walls.seccomp()
        scripts = os.path.dirname(os.path.abspath(__file__))
        sites = dict.fromkeys(sysconfig.get_path(each) for each in ("purelib", "platlib"))
        told = {name: settings[name] for name in ("limits", "request_limits")}
        told["path"] = [os.path.join(os.path.dirname(scripts), "library"), *sites]
        python = os.path.realpath(sys.executable)
        runner = ["-I", "-S", "-B", "-u", os.path.join(scripts, "runner.py")]
        argv = [python, *runner, json.dumps({**told, "fd": replies})]
        os.execve(python, argv, settings["environment"])
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def _pass_on(
    worker: int,
    request: bytes,
    request_in: int,
    replies: int,
    printed: int,
    settings: dict[str, Any],
    watch: ModuleType,
) -> None:
    """Feed the request and pass on replies, the beginning of what is printed, and what is used."""
    to_send, to_keep = memoryview(request), settings["kept_output_bytes"]
    reading, writing = [0, replies, printed], [request_in]
    next_look, over = 0.0, False
    while not over:
        # Asked before reading: what was written last is still read, and no more than that.
        over = worker in _buried()
        ready, can_write, _ = select.select(reading, writing, [], 0 if over else _TICK)
        if 0 in ready and not os.read(0, _CHUNK):
            _leave()
        if can_write:
            try:
                to_send = to_send[os.write(request_in, to_send[:_CHUNK]) :]
            except BrokenPipeError:
                to_send = to_send[:0]
            if not to_send:
                os.close(request_in)
                writing = []
        if printed in ready:
            data = os.read(printed, _CHUNK)
            if not data:
                reading.remove(printed)
            if kept := data[:to_keep]:
                to_keep -= len(kept)
                _say(b"p", kept)
        if replies in ready:
            data = os.read(replies, _CHUNK)
            if not data:
                return
            _say(b"r", data)
        now = time.monotonic()
        if now >= next_look:
            next_look = now + _TICK
            used = watch.usage(os.getpid())
            if used is not None:
                numbers = [used.cpu_seconds, used.memory_bytes, used.threads]
                _say(b"u", json.dumps(numbers).encode())


def _buried() -> list[int]:
    """Bury every process that has ended, as a first process must, and return their numbers."""
    found = []
    try:
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            found.append(pid)
    except ChildProcessError:  # none is left
        pass
    return found


if __name__ == "__main__":
    main()
