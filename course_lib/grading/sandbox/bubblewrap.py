"""The sandbox of Linux machines: bubblewrap, a read-only system, no network, nothing of the instructor's."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from course_lib.grading.sandbox.process import (
    INSIDE,
    Command,
    environment,
    run_process,
    runner_argv,
    script_argv,
    site_folders,
)
from course_lib.grading.sandbox.protocol import Limits, Request, Response
from course_lib.runtime import CourseError

_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache")
_INSIDE = "/course"
_USER = "1000"


class Bubblewrap:
    """A new set of namespaces for every run. It satisfies `Sandbox`.

    Args:
        library: the folder that holds the reduced course_lib.
        hidden: folders that must not be seen, wherever they lie: repository, submissions, gradebook.

    """

    def __init__(self, library: Path, hidden: Sequence[Path] = ()) -> None:
        self._library = library.resolve()
        self._hidden = [path.resolve() for path in hidden]

    def run(self, request: Request, limits: Limits) -> Response:
        """Run the request in a sandbox of its own."""
        return run_process(request, limits, lambda fd: self.command(fd, limits))

    def close(self) -> None:
        """Do nothing: every run has ended when it returns."""

    def command(self, fd: int, limits: Limits) -> Command:
        """Return the command line for a runner that writes its frames to ``fd``."""
        runner = runner_argv(f"{_INSIDE}/scripts/runner.py", fd, self.path(), limits)
        return Command(
            [*self._around(limits.file_bytes, last=True), *runner], environment("/tmp"), "/"
        )

    def zygote_command(self, control: int, warm_up: str, limits: Limits) -> Command:
        """Return the command line for a zygote that is told by ``control`` whom to serve."""
        settings = {"control": control, "path": self.path(), "warm_up": warm_up}
        zygote = script_argv(f"{_INSIDE}/scripts/zygote.py", settings)
        return Command(
            [*self._around(limits.file_bytes, last=False), *zygote], environment("/tmp"), "/"
        )

    def path(self) -> list[str]:
        """Return what goes on sys.path inside."""
        sites = range(len(site_folders()))
        return [f"{_INSIDE}/library", *(f"{_INSIDE}/site-packages-{number}" for number in sites)]

    def _around(self, file_bytes: int, last: bool) -> list[str]:
        """Return bubblewrap's own part of a command line; behind a ``last`` wall no other can be built."""
        argv = [_program(), *_walls(last)]
        bound = []
        for path in _SYSTEM:
            if os.path.islink(path):
                argv += ["--symlink", os.readlink(path), path]
            elif os.path.exists(path):
                argv += ["--ro-bind", path, path]
                bound.append((Path(path), path))
        prefix = str(Path(sys.base_prefix).resolve())
        if prefix != "/usr":
            argv += ["--ro-bind", prefix, prefix]
            bound.append((Path(prefix), prefix))
        for folder, name in zip(site_folders(), self.path()[1:]):
            argv += ["--ro-bind", str(folder), name]
            bound.append((folder, name))
        for path in self._covered(bound):
            argv += ["--tmpfs", path, "--remount-ro", path]
        argv += ["--ro-bind", str(self._library), f"{_INSIDE}/library"]
        argv += ["--ro-bind", str(INSIDE), f"{_INSIDE}/scripts"]
        argv += ["--proc", "/proc", "--dev", "/dev"]
        for path in ("/tmp", "/dev/shm"):
            argv += [*_size(file_bytes), "--tmpfs", path]
        # What is shared by all who run in here must not change: devices could be removed from a writable /dev.
        argv += ["--remount-ro", "/dev", "--remount-ro", "/"]
        return [*argv, "--chdir", "/tmp", "--"]

    def _covered(self, bound: list[tuple[Path, str]]) -> list[str]:
        """Return where, inside, something lies that must be covered up."""
        covered = []
        for outside, inside in bound:
            if (outside / "course_lib").is_dir():  # installed as a copy: the answers are in it
                covered.append(f"{inside}/course_lib")
            for path in self._hidden:
                if path.is_dir() and path != outside and path.is_relative_to(outside):
                    covered.append(f"{inside}/{path.relative_to(outside)}")
        return list(dict.fromkeys(covered))


def check() -> None:
    """Try a sandbox once.

    Raises:
        CourseError: there is no bubblewrap, or it does not work here.

    """
    advice = (
        "run `course doctor` for the remedy, or, only for submissions whose code you trust, "
        "grade with --unsafe-no-sandbox."
    )
    if sys.platform != "linux":
        raise CourseError(
            "Students' code runs only in a sandbox, and bubblewrap exists for Linux alone: grade on a "
            "Linux machine (a virtual one will do), or, only for submissions whose code you trust, "
            "with --unsafe-no-sandbox."
        )
    if shutil.which("bwrap") is None:
        raise CourseError(
            "Students' code runs only in a sandbox, and bubblewrap is not installed: install the package "
            f"`bubblewrap` (`sudo apt install bubblewrap`), {advice}"
        )
    probe = subprocess.run(
        [_program(), *_walls(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if probe.returncode != 0:
        reason = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CourseError(
            f"Students' code runs only in a sandbox, and bubblewrap does not work here ({reason}): {advice}"
        )


def _program() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise CourseError("bubblewrap has gone: install the package `bubblewrap`.")
    return found


@functools.cache
def _options() -> str:
    return subprocess.run(
        [_program(), "--help"], capture_output=True, text=True, check=False
    ).stdout


def _walls(last: bool = True) -> list[str]:
    # --unshare-user by name: as root --unshare-all would go on without it and keep root's rights.
    walls = ["--unshare-all", "--unshare-user", "--uid", _USER, "--gid", _USER, "--cap-drop", "ALL"]
    walls += ["--die-with-parent", "--new-session", "--hostname", "sandbox"]
    return walls + (["--disable-userns"] if last and "--disable-userns" in _options() else [])


def _size(count: int) -> list[str]:
    """Limit the next tmpfs; bubblewrap before 0.7 cannot, and the memory limit alone stands there."""
    return ["--size", str(count)] if "--size " in _options() else []
