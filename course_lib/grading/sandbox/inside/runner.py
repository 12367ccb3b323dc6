"""The only code of the grader that runs beside a student's: execute cells, call probes, send back what came.

It is started as a script with a reduced course_lib, knows no answer, and nothing it says is believed:
the trusted side checks the form of every frame and judges every value itself.

    python -I -S -u runner.py {"fd": 5, "path": [...], "limits": {...}}   < request   > the student's output
"""

import ast
import json
import os
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

_LENGTH = struct.Struct("<Q")
_MOST_TEXT = 300


def main() -> None:
    """Read one request from the standard input, work through it, and leave without any exit handler."""
    settings = json.loads(sys.argv[1])
    prepare(settings["path"])
    import walls

    walls.limit(settings["limits"])
    request = sys.stdin.buffer.read()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    work(request, settings["request_limits"], settings["fd"], new_shell())


def prepare(path: list[str]) -> None:
    """Look for modules in ``path``, and for those of the grader's own beside this file."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if "site-packages" not in each] + path + [here]
    sys.dont_write_bytecode = True


def work(request: bytes, request_limits: dict[str, int], reply_fd: int, shell: Any) -> None:
    """Work through a request, send back what came, and leave without any exit handler."""
    import torch

    torch.set_num_threads(1)
    from course_lib.exercises.probing import Failure, Outcome, run_probe
    from course_lib.exercises.values import Limits, pack, unpack

    wanted = unpack(request, Limits(**request_limits))
    send = _sender(reply_fd, pack)
    probes = _probes(wanted["probes_module"], wanted["exercises"])
    send({"kind": "ready"})
    for cell in wanted["cells"]:
        send({"kind": "begin", "unit": f"cell {cell['index']}"})
        run = _run_statements if cell["setup"] else _run_cell
        send({"kind": "cell", "index": cell["index"], "error": run(shell, cell["source"])})
    for part in wanted["supply"]:
        _supply(shell, part)
    for exercise in wanted["exercises"]:
        name, namespace = exercise["name"], shell.user_ns
        send({"kind": "begin", "unit": f"exercise {name}"})
        missing = [each for each in exercise["defines"] if namespace.get(each) is None]
        if missing:
            send({"kind": "missing", "exercise": name, "names": missing})
            continue
        objects = tuple(namespace[each] for each in exercise["defines"])
        for number, inputs in enumerate(exercise["cases"]):
            laid_out = _laid_out(inputs, exercise["layouts"][number], torch)
            frame = {"kind": "outcome", "exercise": name, "case": number}
            try:
                outcome = run_probe(probes[name], objects, laid_out)
                send({**frame, "outcome": outcome.to_value()})
            except BaseException as error:  # SystemExit and values that cannot be sent, too
                failure = Failure("error", type(error).__name__[:100], str(error)[:_MOST_TEXT])
                outcome = Outcome(None, {}, failure, {})
                send({**frame, "outcome": outcome.to_value()})
    send({"kind": "done"})
    os._exit(0)


def _sender(fd: int, pack: Callable[[Any], bytes]) -> Callable[[dict[str, Any]], None]:
    write = os.write

    def send(frame: dict[str, Any]) -> None:
        packed = pack(frame)
        rest = memoryview(_LENGTH.pack(len(packed)) + packed)
        while rest:
            rest = rest[write(fd, rest) :]

    return send


def _probes(module: str, exercises: list[dict[str, Any]]) -> dict[str, Callable[..., Any]]:
    import importlib

    found = importlib.import_module(module) if exercises else None
    return {each["name"]: getattr(found, each["probe"]) for each in exercises}


def new_shell() -> Any:
    """Return an interactive shell as notebooks have it, without history."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            """Do nothing, so that %matplotlib works as it does in a notebook."""

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Minimal"
    shell = Shell.instance(config=config, user_module=types.ModuleType("__main__"))
    shell.user_ns.setdefault("exit", _leave)
    shell.user_ns.setdefault("quit", _leave)
    return shell


def _leave(*_: Any) -> None:
    raise RuntimeError("exit() does nothing in a notebook that is graded")


def _run_cell(shell: Any, source: str) -> dict[str, Any] | None:
    """Run one cell as a notebook would; return its error, if it had one."""
    try:
        result = shell.run_cell(source, store_history=False, silent=True)
        error = result.error_before_exec or result.error_in_exec
    except BaseException as stopped:
        error = stopped
    return _described(error) if error is not None else None


def _run_statements(shell: Any, source: str) -> dict[str, Any] | None:
    """Run a cell statement by statement, so that one failing import costs itself alone."""
    first = None
    try:
        statements = ast.parse(shell.transform_cell(source)).body
    except Exception as error:
        return _described(error)
    for statement in statements:
        try:
            code = compile(ast.Module([statement], []), "<setup cell>", "exec")
            exec(code, shell.user_ns)
        except BaseException as error:
            first = first or _described(error)
    return first


def _described(error: BaseException) -> dict[str, Any]:
    lineno = error.lineno if isinstance(error, SyntaxError) else None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename.startswith(("<ipython-input", "<setup cell>")):
            lineno = frame.tb_lineno
        frame = frame.tb_next
    return {
        "type": type(error).__name__[:100],
        "message": str(error)[:_MOST_TEXT],
        "lineno": lineno if isinstance(lineno, int) else None,
    }


def run_quietly(source: str) -> None:
    """Run statements one by one in a namespace of their own; what fails or prints does not matter."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        for statement in ast.parse(source).body:
            try:
                exec(compile(ast.Module([statement], []), "<warm-up>", "exec"), namespace)
            except BaseException:
                continue


def _supply(shell: Any, part: dict[str, Any]) -> None:
    """Make a module out of the finished parts that were sent, and give the student's names to them."""
    module = types.ModuleType(part["module"])
    sys.modules[part["module"]] = module
    exec(compile(part["source"], f"<{part['module']}>", "exec"), module.__dict__)
    for name in part["names"]:
        shell.user_ns[name] = getattr(module, name)


def _laid_out(inputs: dict[str, Any], layouts: dict[str, Any], torch: Any) -> dict[str, Any]:
    """Give tensors that were sent as their storage the strides that they were drawn with."""
    laid_out = dict(inputs)
    for name, (size, stride, offset) in layouts.items():
        laid_out[name] = torch.as_strided(inputs[name], size, stride, offset)
    return laid_out


if __name__ == "__main__":
    main()
