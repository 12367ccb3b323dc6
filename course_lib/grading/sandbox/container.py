"""The sandbox where bubblewrap cannot run: a container of Docker or Podman for every run, with the same limits."""

import contextlib
import hashlib
import io
import json
import os
import platform
import select
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from course_lib.grading.sandbox.process import (
    INSIDE,
    Running,
    TheirPipes,
    environment,
    resource_limits,
    run_pipes,
)
from course_lib.grading.sandbox.protocol import REQUEST_LIMITS, Limits, Request, Response, Stop
from course_lib.grading.sandbox.watch import Usage
from course_lib.runtime import CourseError

ENGINES = ("docker", "podman")
IMAGE = "transformers-course-grader"
LABEL = "transformers-course.grader"
CONTAINERFILE = Path(__file__).with_name("Containerfile")
# What a student's code may import: what the course installs for learners, without the tools around notebooks.
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "matplotlib",
    "ipython",
    "ipykernel",
    "ipywidgets",
    "anywidget",
    "einops",
    "jaxtyping",
    "safetensors",
    "pooch",
    "platformdirs",
    "conllu",
    "regex",
    "tqdm",
    "rich",
    "PyYAML",
)

_NOBODY = "65534:65534"
_LENGTH, _HEAD = struct.Struct("<Q"), struct.Struct("<cI")
_CHUNK, _MOST_MESSAGE = 1 << 16, 1 << 20
_TICK = 0.1
_COMMAND_SECONDS, _ENDING_SECONDS, _SPARE_SECONDS = 60.0, 10.0, 60
_OWN_BYTES = 64 * 2**20  # what the first process needs besides the student's
_OWN_PROCESSES = 4
_ENGINES_OWN_FAULT = 125
# The first thing that runs inside: unpack the code, which comes over the standard input, and go on with it.
_UNPACK = """
import io, json, os, runpy, struct, sys, tarfile
def take(count):
    data = bytearray()
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            os._exit(0)
        data += more
    return bytes(data)
code = take(struct.unpack("<Q", take(8))[0])
folder = json.loads(sys.argv[1])["folder"]
with tarfile.open(fileobj=io.BytesIO(code)) as archive:
    archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
    archive.extractall(folder)
runpy.run_path(os.path.join(folder, "scripts", "supervisor.py"), run_name="__main__")
"""


class Container:
    """A new container for every run, which holds nothing of this machine. It satisfies `Sandbox`.

    No file is mounted: the code comes over the standard input. While a run lasts, that input stays open; when
    it ends, as it does with the grader, so does the container.

    Args:
        engine: the program, "docker" or "podman".
        library: the folder that holds the reduced course_lib.

    Raises:
        CourseError: the engine is missing, does not answer, has no image, or does not keep the limits.

    """

    def __init__(self, engine: str, library: Path) -> None:
        self._engine = engine
        self._image = image()
        self._code = _packed(library)
        check(engine, self._image)
        sweep(engine)
        attempt = _Attempt()
        response = self._once(attempt, Request("", (), ()), Limits())
        dropped = [line for line in attempt.errors.splitlines() if "discarded" in line]
        if response.stop is not None or dropped:
            reason = [*dropped, *response.output.strip().splitlines()[-1:], "no reason given"][0]
            raise CourseError(
                f"A container of {engine} cannot be used as a sandbox here ({reason[:300]}): "
                "correct that, or grade on a Linux machine with bubblewrap."
            )

    def run(self, request: Request, limits: Limits) -> Response:
        """Run the request in a container of its own; a second time where the first was ended from outside."""
        for _ in range(2):
            attempt = _Attempt()
            response = self._once(attempt, request, limits)
            if response.stop is None or response.stop.why != "died" or attempt.over:
                break
        return response

    def close(self) -> None:
        """Do nothing: every container has ended when its run returns."""

    def argv(self, name: str, limits: Limits) -> list[str]:
        """Return the command line that runs one container."""
        files = limits.file_bytes
        memory = limits.memory_bytes + 2 * files + _OWN_BYTES
        return [
            self._engine,
            *("run", "--rm", "--interactive", "--pull", "never"),
            *("--name", name, "--label", f"{LABEL}={name}", "--log-driver", "none"),
            *("--network", "none", "--ipc", "private", "--hostname", "sandbox"),
            *("--read-only", "--user", _NOBODY, "--workdir", "/tmp"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,size={files},mode=1777"),
            *("--tmpfs", f"/course:rw,noexec,nosuid,nodev,size={3 * len(self._code)},mode=1777"),
            *("--shm-size", str(files)),
            *("--memory", str(memory), "--memory-swap", str(memory), "--cpus", "1"),
            *("--pids-limit", str(limits.processes + _OWN_PROCESSES)),
            *("--ulimit", f"fsize={files}:{files}", "--ulimit", "nofile=256:256"),
            *("--ulimit", "core=0:0"),
            *("--entrypoint", "python", self._image),
            *("-I", "-B", "-u", "-c", _UNPACK, json.dumps(_settings(limits))),
        ]

    def _once(self, attempt: "_Attempt", request: Request, limits: Limits) -> Response:
        name = _name()

        def start(theirs: TheirPipes) -> Running:
            argv = self.argv(name, limits)
            return _Running(self._engine, name, argv, self._code, theirs, attempt)

        try:
            return run_pipes(request, limits, start)
        except FileNotFoundError:
            return Response(stop=Stop("start", "died"), output=f"{self._engine} has gone")


class _Attempt:
    """What is known of one container besides its response: it came to its end itself; the engine's own words."""

    over = False
    errors = ""


def _settings(limits: Limits) -> dict[str, object]:
    # The kernel counts a user's processes over all containers together, so that one could be short of them for
    # what another does: here the container's own limit stands in place of it.
    kept = {name: most for name, most in resource_limits(limits).items() if name != "RLIMIT_NPROC"}
    return {
        "folder": "/course",
        "environment": environment("/tmp"),
        "limits": kept,
        "request_limits": asdict(REQUEST_LIMITS),
        "kept_output_bytes": limits.kept_output_bytes,
        "seconds": int(limits.total_wall_seconds) + _SPARE_SECONDS,
    }


def _packed(library: Path) -> bytes:
    """Return the reduced library and the scripts that run inside, as an archive of nobody's files."""

    def nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(library, "library", filter=nobodys)
        for script in (*sorted(INSIDE.glob("*.py")), INSIDE.with_name("watch.py")):
            archive.add(script, f"scripts/{script.name}", filter=nobodys)
    return buffer.getvalue()


# --- a container that runs ---------------------------------------------------------------------


class _Stopped(Exception):
    """The trusted side has heard enough."""


class _Running:
    """A container, and the thread that passes on between its engine and the trusted side's pipes.

    It satisfies `Running`.
    """

    def __init__(
        self,
        engine: str,
        name: str,
        argv: list[str],
        code: bytes,
        theirs: TheirPipes,
        attempt: _Attempt,
    ) -> None:
        self._engine, self._name, self._code, self._attempt = engine, name, code, attempt
        self._usage: Usage | None = None
        self._heard = False
        self._stop = threading.Event()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in the end
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            self._said.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._pipes = TheirPipes(*map(os.dup, (theirs.request, theirs.replies, theirs.printed)))
        for each in (self._in.fileno(), *vars(self._pipes).values()):
            os.set_blocking(each, False)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def usage(self) -> Usage | None:
        """Return what the container's first process saw last."""
        return self._usage

    def gone(self) -> bool:
        """Tell whether all that it said has been passed on."""
        return not self._thread.is_alive()

    def end(self) -> None:
        """End the container by the end of its input; where that does not do, have the engine remove it."""
        self._stop.set()
        self._thread.join()
        for each in (self._in, self._out):
            with contextlib.suppress(OSError):
                each.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_SECONDS)
        if (
            self._process.returncode is None
            or not 0 <= self._process.returncode < _ENGINES_OWN_FAULT
        ):
            self._process.kill()
            self._process.wait()
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                _command(self._engine, "rm", "--force", self._name)
        self._attempt.errors = self._words()
        self._said.close()

    def _work(self) -> None:
        """Pass on until one side ends; then close the trusted side's pipes, which tells it so."""
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended early: what it said tells why
                request = b"".join(iter(self._request_part, b""))
                self._write(self._in.fileno(), _LENGTH.pack(len(self._code)) + self._code)
                self._write(self._in.fileno(), _LENGTH.pack(len(request)) + request)
            for kind, data in self._messages():
                self._heard = True
                if kind == b"r":
                    self._write(self._pipes.replies, data)
                elif kind == b"p":
                    self._write(self._pipes.printed, data)
                elif kind == b"u":
                    self._usage = Usage(*json.loads(data))
                elif kind == b"e":
                    self._attempt.over = True
                    return
            if not self._heard:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_ENDING_SECONDS)
                self._write(self._pipes.printed, self._words().encode()[-_CHUNK:])
        except (_Stopped, BrokenPipeError, ValueError, TypeError):
            pass
        finally:
            for each in vars(self._pipes).values():
                os.close(each)

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        buffer = bytearray()
        while True:
            self._wait(self._out.fileno())
            data = os.read(self._out.fileno(), _CHUNK)
            if not data:
                return
            buffer += data
            while len(buffer) >= _HEAD.size:
                kind, length = _HEAD.unpack_from(buffer)
                if length > _MOST_MESSAGE:
                    raise ValueError("what the engine sends is not from the grader's own process")
                if len(buffer) < _HEAD.size + length:
                    break
                message = bytes(buffer[_HEAD.size : _HEAD.size + length])
                del buffer[: _HEAD.size + length]
                yield kind, message

    def _request_part(self) -> bytes:
        self._wait(self._pipes.request)
        return os.read(self._pipes.request, _CHUNK)

    def _write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(fd, to_write=True)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(fd, rest[:_CHUNK]) :]

    def _wait(self, fd: int, to_write: bool = False) -> None:
        """Wait until something can be read or written."""
        while not self._stop.is_set():
            readable, writable, _ = select.select(
                [] if to_write else [fd], [fd] if to_write else [], [], _TICK
            )
            if readable or writable:
                return
        raise _Stopped

    def _words(self) -> str:
        """Return what the engine said on its error stream."""
        with os.fdopen(os.dup(self._said.fileno()), "rb") as said:
            return os.pread(said.fileno(), _CHUNK, 0).decode("utf-8", errors="replace")


# --- the engine --------------------------------------------------------------------------------


def check(engine: str, wanted: str) -> None:
    """Ask whether the engine can be used.

    Raises:
        CourseError: it is missing, does not answer, or has no image of this name.

    """
    called = engine.capitalize()
    if sys.platform == "win32":
        raise CourseError(
            "Containers are for grading on macOS and Linux: on Windows install the course inside WSL 2, "
            "where bubblewrap works."
        )
    if shutil.which(engine) is None:
        raise CourseError(
            f"{called} is not installed: install it, or choose another sandbox with --engine."
        )
    try:
        answer = _command(engine, "ps", "--quiet")
        known = _command(engine, "image", "inspect", wanted)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CourseError(f"{called} does not answer ({error}): is it running?") from error
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CourseError(
            f"{called} does not answer ({reason[:300]}): start it, or choose another sandbox with --engine."
        )
    if known.returncode != 0:
        raise CourseError(
            f"{called} has no image for the grader yet ({wanted}): run "
            f"`course grader-image --engine {engine}` once."
        )


def sweep(engine: str) -> list[str]:
    """Remove containers of graders of this machine that are no more, and return their names."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        listed = _command(
            engine, "ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}"
        )
        left = [name for name in listed.stdout.split() if _is_orphan(name)]
        if left:
            _command(engine, "rm", "--force", *left)
        return left
    return []


def _name() -> str:
    """Return a name for a container that tells whose it is: this machine's, this process's."""
    return f"course-grader-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_orphan(name: str) -> bool:
    parts = name.split("-")
    if parts[:3] != ["course", "grader", _machine()] or len(parts) != 5 or not parts[3].isdecimal():
        return False
    try:
        os.kill(int(parts[3]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _command(engine: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [engine, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_COMMAND_SECONDS,
        check=False,
    )


# --- the image ---------------------------------------------------------------------------------


def requirements(constraints: Path | None = None) -> str:
    """Return the packages of the image with the versions that the course is tested with.

    Raises:
        CourseError: constraints.txt is not there, or does not name one of them.

    """
    path = constraints or _constraints()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CourseError(
            f"The versions for the grader's image stand in {path}, which cannot be read "
            f"({error.strerror}): grade from the course's repository."
        ) from error
    pinned = {line.partition("==")[0].lower(): line for line in lines if "==" in line}
    lacking = [name for name in PACKAGES if name.lower() not in pinned]
    if lacking:
        raise CourseError(f"{path} does not say which version of {', '.join(lacking)} to install.")
    return "".join(f"{pinned[name.lower()]}\n" for name in PACKAGES)


def image(constraints: Path | None = None) -> str:
    """Return the image's name, which changes with whatever goes into it."""
    parts = (CONTAINERFILE.read_text(encoding="utf-8"), requirements(constraints), _python())
    return f"{IMAGE}:{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


def build_image(engine: str) -> str:
    """Build the image, with the engine's own messages on the terminal, and return its name.

    Raises:
        CourseError: the engine is missing, or does not build it.

    """
    if shutil.which(engine) is None:
        raise CourseError(f"{engine.capitalize()} is not installed: install it first.")
    wanted = image()
    with tempfile.TemporaryDirectory(prefix="course-grader-image-") as folder:
        context = Path(folder)
        shutil.copy(CONTAINERFILE, context / "Containerfile")
        shutil.copy(_constraints(), context / "constraints.txt")
        (context / "requirements.txt").write_text(requirements(), encoding="utf-8")
        done = subprocess.run(build_argv(engine, wanted, context), check=False)
    if done.returncode != 0:
        raise CourseError(
            f"{engine.capitalize()} did not build the grader's image (see above): it needs the network, "
            "4 GB of disk, and to be running."
        )
    return wanted


def build_argv(engine: str, wanted: str, context: Path) -> Sequence[str]:
    """Return the command line that builds the image from a folder."""
    named = ("--tag", wanted, "--label", f"{LABEL}=image", "--build-arg", f"PYTHON={_python()}")
    return [engine, "build", *named, "--file", str(context / "Containerfile"), str(context)]


def _constraints() -> Path:
    return Path(__file__).resolve().parents[3] / "constraints.txt"


def _python() -> str:
    """Return the version of Python inside: the grader's own, so that both read a cell alike."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
