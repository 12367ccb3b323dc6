"""Start the runner in a process of its own, feed it, read its frames, stop it where it exceeds a limit."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from course_lib.exercises.probing import Outcome
from course_lib.exercises.values import Limits as ValueLimits
from course_lib.exercises.values import unpack
from course_lib.grading.sandbox.protocol import (
    LENGTH,
    REQUEST_LIMITS,
    CellError,
    Limits,
    Request,
    Response,
    Stop,
    Why,
)
from course_lib.grading.sandbox.watch import Usage, descendants, usage

INSIDE = Path(__file__).with_name("inside")  # the scripts that run beside a student's code
_FRAME_LIMITS = ValueLimits()
_TICK = 0.1
_CHUNK = 1 << 16
_START = "start"


@dataclass(frozen=True)
class Command:
    """How to start the runner: argument list, environment, working folder."""

    argv: list[str]
    environment: dict[str, str]
    folder: str


def site_folders() -> list[Path]:
    """Return the folders in which this Python's installed packages lie."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(Path(paths[key]).resolve() for key in ("purelib", "platlib")))


def environment(home: str) -> dict[str, str]:
    """Return the whole environment that a student's code gets: nothing of the instructor's."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "USER": "student",
        "LANG": "C.UTF-8",
        "IPYTHONDIR": f"{home}/ipython",
        "MPLCONFIGDIR": f"{home}/matplotlib",
        "MPLBACKEND": "Agg",
        "COURSE_HOME": f"{home}/course",
        "COURSE_SCALE": "smoke",
        "COURSE_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }


def resource_limits(limits: Limits) -> dict[str, int]:
    """Return the limits that the kernel itself keeps for each process, by their names."""
    return {
        "RLIMIT_CPU": int(limits.total_cpu_seconds) + 1,
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": 256,
        "RLIMIT_CORE": 0,
    }


def script_argv(script: str, settings: dict[str, Any]) -> list[str]:
    """Return the command of one of the scripts inside."""
    python = os.path.realpath(sys.executable)
    given = {**settings, "request_limits": asdict(REQUEST_LIMITS)}
    return [python, "-I", "-S", "-B", "-u", script, json.dumps(given)]


def runner_argv(runner: str, fd: int, path: list[str], limits: Limits) -> list[str]:
    """Return the command of the runner itself; ``path`` is what it appends to sys.path."""
    return script_argv(runner, {"fd": fd, "path": path, "limits": resource_limits(limits)})


class Running(Protocol):
    """A run under way, however it was started."""

    def usage(self) -> Usage | None:
        """Return what it uses by now; None where nothing is known."""
        ...

    def gone(self) -> bool:
        """Tell whether its first process has ended."""
        ...

    def end(self) -> None:
        """Kill whatever is left of it, and wait until nothing is."""
        ...


@dataclass
class Pipes:
    """The trusted side's ends: requests go in, replies and printed text come out; −1 where closed."""

    request: int
    replies: int
    printed: int

    def request_sent(self) -> None:
        """Close the request's end, so that the run sees that it is whole."""
        os.close(self.request)
        self.request = -1

    def close(self) -> None:
        """Close what is open."""
        for each in (self.request, self.replies, self.printed):
            if each >= 0:
                os.close(each)


@dataclass
class TheirPipes:
    """The other ends, which the run gets."""

    request: int
    replies: int
    printed: int


def run_pipes(request: Request, limits: Limits, start: Callable[[TheirPipes], Running]) -> Response:
    """Start a run, feed it its request, and return what came back.

    Args:
        request: what to run.
        limits: what it may use.
        start: starts a run on its ends of the pipes.

    Returns:
        The response; ``stop`` tells where a run that did not reach its end was, and why it ended.

    """
    request_out, request_in = os.pipe()
    replies_out, replies_in = os.pipe()
    printed_out, printed_in = os.pipe()
    ours = Pipes(request_in, replies_out, printed_out)
    theirs = TheirPipes(request_out, replies_in, printed_in)
    try:
        try:
            running = start(theirs)
        finally:
            for each in (request_out, replies_in, printed_in):
                os.close(each)
        try:
            return _converse(running, request, limits, ours)
        finally:
            running.end()
    finally:
        ours.close()


def run_process(request: Request, limits: Limits, command: Callable[[int], Command]) -> Response:
    """Run one request in a new process.

    Args:
        request: what to run.
        limits: what it may use.
        command: gives the command for the descriptor that the runner shall write its frames to.

    """

    def start(theirs: TheirPipes) -> Running:
        wanted = command(theirs.replies)
        return _NewProcess(
            subprocess.Popen(
                wanted.argv,
                stdin=theirs.request,
                stdout=theirs.printed,
                stderr=theirs.printed,
                pass_fds=(theirs.replies,),
                env=wanted.environment,
                cwd=wanted.folder,
                start_new_session=True,
            )
        )

    return run_pipes(request, limits, start)


class _NewProcess:
    """A run that is a process of its own. It satisfies `Running`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def usage(self) -> Usage | None:
        return usage(self._process.pid)

    def gone(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        alive = self._process.poll() is None
        below = descendants(self._process.pid) if sys.platform == "linux" and alive else []
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()


def _converse(running: Running, request: Request, limits: Limits, pipes: Pipes) -> Response:
    """Feed the request, read frames and output, and watch, until the run ends or is stopped."""
    reader = _Reader(request, limits)
    printed = bytearray()
    to_send = memoryview(request.packed())
    begun = time.monotonic()
    request_fd, reply_fd, output_fd = pipes.request, pipes.replies, pipes.printed
    for fd in (request_fd, reply_fd, output_fd):
        os.set_blocking(fd, False)
    with selectors.DefaultSelector() as selector:
        selector.register(request_fd, selectors.EVENT_WRITE)
        selector.register(reply_fd, selectors.EVENT_READ)
        selector.register(output_fd, selectors.EVENT_READ)
        next_watch = begun + _TICK
        unit = _Unit(reader.unit, begun, 0.0)
        while not reader.done:
            gone = running.gone()  # asked before reading: what it wrote last is still read
            ready = selector.select(timeout=_TICK)
            gone = gone and not any(key.fd == reply_fd for key, _ in ready)
            for key, _ in ready:
                if key.fd == request_fd:
                    try:
                        to_send = to_send[os.write(request_fd, to_send[:_CHUNK]) :]
                    except BrokenPipeError:
                        to_send = to_send[:0]
                    if not to_send:
                        selector.unregister(request_fd)
                        pipes.request_sent()
                elif key.fd == output_fd:
                    data = os.read(output_fd, _CHUNK)
                    printed += data[: limits.kept_output_bytes - len(printed)]
                    if not data:
                        selector.unregister(output_fd)
                else:
                    data = os.read(reply_fd, _CHUNK)
                    if not data:
                        reader.ended()
                        break
                    reader.feed(data)
            now = time.monotonic()
            if gone and not reader.done:
                reader.ended()
            if not reader.done and now >= next_watch:
                next_watch = now + _TICK
                reader.stopped(_excess(running.usage(), limits, unit, reader.unit, now, begun))
    with contextlib.suppress(BlockingIOError):
        while len(printed) < limits.kept_output_bytes and (data := os.read(output_fd, _CHUNK)):
            printed += data[: limits.kept_output_bytes - len(printed)]
    reader.response.output = bytes(printed).decode("utf-8", errors="replace")
    return reader.response


@dataclass
class _Unit:
    """The unit that was running at the last look, when it was first seen, and the time used till then."""

    name: str
    since: float
    cpu_before: float


def _excess(
    used: Usage | None, limits: Limits, unit: _Unit, name: str, now: float, begun: float
) -> Why | None:
    """Return which limit the run exceeds, if one."""
    cpu = used.cpu_seconds if used else 0.0
    if unit.name != name:
        unit.name, unit.since, unit.cpu_before = name, now, cpu
    # At the start no line of the student's has run yet: only the whole run's limits hold.
    inside = name != _START
    if inside and cpu - unit.cpu_before > limits.unit_cpu_seconds:
        return "cpu"
    if cpu > limits.total_cpu_seconds:
        return "cpu"
    if used and used.memory_bytes > limits.memory_bytes:
        return "memory"
    if used and used.threads > limits.processes:
        return "processes"
    if inside and now - unit.since > limits.unit_wall_seconds:
        return "wall"
    if now - begun > limits.total_wall_seconds:
        return "wall"
    return None


class _Reader:
    """Cuts what comes from the runner into frames, checks form and order, and fills the response.

    The student's code can write to the same pipe. What it writes out of turn or out of form ends the run
    in the unit that wrote it; what it writes in form is judged like any answer.
    """

    def __init__(self, request: Request, limits: Limits) -> None:
        self.response = Response()
        self.unit = _START
        self.done = False
        self._limits = limits
        self._buffer = bytearray()
        self._received = 0
        self._next = [f"cell {cell.index}" for cell in request.cells]
        self._next += [f"exercise {call.exercise}" for call in request.exercises]
        self._next.reverse()
        self._calls = {call.exercise: len(call.cases) for call in request.exercises}
        self._watched = {call.exercise: call.watched for call in request.exercises}
        self._partial: dict[str, dict[int, Outcome]] = {}

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._received += len(data)
        if self._received > self._limits.reply_bytes:
            self.stopped("reply")
            return
        self._buffer += data
        while not self.done and len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > _FRAME_LIMITS.total_bytes:
                self.stopped("reply")
                return
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            blob = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            try:
                self._take(unpack(blob, _FRAME_LIMITS))
            except (
                Exception
            ):  # whatever reading hostile bytes may raise, it is the student's loss alone
                self.stopped("reply")

    def ended(self) -> None:
        """Note that nothing more will come."""
        if not self.done:
            self.stopped("died")

    def stopped(self, why: Why | None) -> None:
        """Note that the run was ended for this reason, if there is one."""
        if why is not None:
            self.done = True
            self.response.stop = Stop(self.unit, why)

    def _take(self, frame: Any) -> None:
        if not isinstance(frame, dict):
            raise ValueError("a frame that is no dictionary")
        kind = frame.get("kind")
        if kind == "begin":
            self._begin(frame.get("unit"))
        elif kind == "cell":
            self._cell(frame.get("index"), frame.get("error"))
        elif kind == "missing":
            self._missing(frame.get("exercise"), frame.get("names"))
        elif kind == "outcome":
            self._outcome(frame.get("exercise"), frame.get("case"), frame.get("outcome"))
        elif kind == "called":
            self._called(frame.get("exercise"), frame.get("names"))
        elif kind == "done":
            self.done = True
        elif kind != "ready":
            raise ValueError("a frame of an unknown kind")

    def _begin(self, unit: Any) -> None:
        if not self._next or unit != self._next[-1]:
            raise ValueError("a unit out of turn")
        self.unit = self._next.pop()

    def _cell(self, index: Any, error: Any) -> None:
        if type(index) is not int or self.unit != f"cell {index}":
            raise ValueError("a report of a cell that is not running")
        self.response.cells[index] = None if error is None else _cell_error(error)

    def _missing(self, exercise: Any, names: Any) -> None:
        if self.unit != f"exercise {exercise}" or not isinstance(names, list):
            raise ValueError("a report of an exercise that is not running")
        self.response.missing[exercise] = [str(name)[:100] for name in names[:20]]

    def _called(self, exercise: Any, names: Any) -> None:
        if self.unit != f"exercise {exercise}" or not isinstance(names, list):
            raise ValueError("a report of calls in an exercise that is not running")
        known = [name for name in self._watched[exercise] if name in names]
        before = self.response.called.get(exercise, [])
        self.response.called[exercise] = [*before, *(each for each in known if each not in before)]

    def _outcome(self, exercise: Any, number: Any, value: Any) -> None:
        if self.unit != f"exercise {exercise}":
            raise ValueError("an outcome of an exercise that is not running")
        found = self._partial.setdefault(exercise, {})
        if type(number) is not int or number != len(found) or number >= self._calls[exercise]:
            raise ValueError("an outcome out of turn")
        found[number] = Outcome.from_value(value)
        if len(found) == self._calls[exercise]:
            self.response.outcomes[exercise] = [found[each] for each in range(len(found))]


def _cell_error(error: Any) -> CellError:
    if not isinstance(error, dict) or not all(
        isinstance(error.get(key), str) for key in ("type", "message")
    ):
        raise ValueError("a malformed error of a cell")
    lineno = error.get("lineno")
    return CellError(
        error["type"][:100],
        error["message"][:300],
        lineno if type(lineno) is int and 0 < lineno < 100_000 else None,
    )
