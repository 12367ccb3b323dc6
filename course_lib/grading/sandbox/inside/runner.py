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
_MOST_NOTED = 20_000


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

    wanted, *exercises = [unpack(each, Limits(**request_limits)) for each in _divided(request)]
    send = _sender(reply_fd, pack)
    probes = _probes(wanted["probes_module"], exercises)
    watches = {each["name"]: Watch(each["watched"]) for each in exercises}
    send({"kind": "ready"})
    for cell in wanted["cells"]:
        send({"kind": "begin", "unit": f"cell {cell['index']}"})
        run = _run_statements if cell["setup"] else _run_cell
        send({"kind": "cell", "index": cell["index"], "error": run(shell, cell["source"])})
    for part in wanted["supply"]:
        _supply(shell, part)
    for exercise in exercises:
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
                outcome = run_probe(probes[name], objects, laid_out, around=watches[name])
                send({**frame, "outcome": outcome.to_value()})
            except BaseException as error:  # SystemExit and values that cannot be sent, too
                failure = Failure("error", type(error).__name__[:100], str(error)[:_MOST_TEXT])
                outcome = Outcome(None, {}, failure, {})
                send({**frame, "outcome": outcome.to_value()})
        if watches[name].seen:
            send({"kind": "called", "exercise": name, "names": sorted(watches[name].seen)})
    send({"kind": "done"})
    os._exit(0)


def _divided(request: bytes) -> list[bytes]:
    """Return the packed values of a request, each of which stands behind its length."""
    found, at = [], 0
    while at < len(request):
        (length,) = _LENGTH.unpack_from(request, at)
        at += _LENGTH.size
        found.append(request[at : at + length])
        at += length
    return found


class Watch:
    """Notes which of some functions and classes are called while it is entered.

    It is told by the interpreter of every call, whatever name or road led there, up to a number of calls, so
    that slow code is not slowed down. It is a hint for a human: the student's code runs in the same process and
    can switch it off. What the probe itself calls is not noted.

    Args:
        names: dotted names; those of modules, and those that are not there, are passed over.

    """

    def __init__(self, names: list[str]) -> None:
        self.seen: set[str] = set()
        self._left = 0
        self._by_code: dict[types.CodeType, str] = {}
        self._builtins: dict[int, str] = {}
        self._methods: dict[str, str] = {}
        self._operators: dict[str, str] = {}
        for name in names:
            self._add(name)

    def _add(self, name: str) -> None:
        owner, last = _found(name.rpartition(".")[0]), name.rpartition(".")[2]
        thing = getattr(owner, last, None)
        if isinstance(thing, type):
            for method in (vars(thing).get("__init__"), vars(thing).get("forward")):
                if isinstance(method, types.FunctionType):
                    self._by_code[method.__code__] = name
        elif isinstance(thing, types.FunctionType):
            self._by_code[thing.__code__] = name
        elif isinstance(owner, type) and callable(thing):
            self._methods[last] = name
        elif isinstance(thing, types.BuiltinFunctionType):
            self._builtins[id(thing)] = name
        if not isinstance(thing, (type, types.ModuleType, types.NoneType)):
            self._operators[last] = name

    def __enter__(self) -> None:
        self._left = _MOST_NOTED
        if self._by_code or self._builtins or self._methods:
            sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: types.FrameType, event: str, argument: Any) -> None:
        self._left -= 1
        if self._left < 0:
            sys.setprofile(None)
        if event == "c_call":
            name = self._builtins.get(id(argument))
            if name is None and argument.__name__ in self._methods:
                owner = type(argument.__self__)
                name = self._methods[argument.__name__] if hasattr(owner, "requires_grad") else None
            caller: types.FrameType | None = frame
        elif event == "call":
            code, caller = frame.f_code, frame.f_back
            name = self._by_code.get(code)
            if name is None and code.co_name == "__call__" and "_ops.py" in code.co_filename:
                name = self._operator(frame)
        else:
            return
        if name is not None and caller is not None and not _is_probe(caller):
            self.seen.add(name)

    def _operator(self, frame: types.FrameType) -> str | None:
        """Return the watched function whose operator is called, as in ``torch.ops.aten.softmax(x)``."""
        operator = str(next(iter(frame.f_locals.values()), "")).partition(".")[2].split(".")[0]
        if operator.startswith("_scaled_dot_product_"):
            operator = "scaled_dot_product_attention"
        return self._operators.get(operator) or self._operators.get(operator.lstrip("_"))


def _found(dotted: str) -> Any:
    """Return the module or class of this name, None if nothing has imported it."""
    first, *rest = dotted.split(".")
    thing: Any = sys.modules.get(first)
    for each in rest:
        thing = getattr(thing, each, None)
    return thing


def _is_probe(frame: types.FrameType) -> bool:
    return "/course_lib/exercises/" in frame.f_code.co_filename


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
