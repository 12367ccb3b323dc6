"""Where students' code runs: what is asked and answered (protocol), and the ways to isolate it."""

import shutil
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from course_lib.grading.sandbox import bubblewrap, container
from course_lib.grading.sandbox.bubblewrap import Bubblewrap
from course_lib.grading.sandbox.container import Container
from course_lib.grading.sandbox.protocol import Limits, Request, Response, Sandbox
from course_lib.grading.sandbox.unconfined import Unconfined
from course_lib.grading.sandbox.warm import WarmSandbox, ZygoteError
from course_lib.runtime import CourseError

__all__ = [
    "Limits",
    "Request",
    "Response",
    "Sandbox",
    "SoloRetry",
    "engine_here",
    "open_sandbox",
]


def open_sandbox(
    library: Path,
    hidden: Sequence[Path],
    unsafe: bool = False,
    warm_up: str = "",
    engine: str = "auto",
) -> Sandbox:
    """Return the sandbox of this machine, the fastest that can be had; close it in the end.

    Args:
        library: the folder that holds the reduced course_lib.
        hidden: folders that a student's code must not see.
        unsafe: go without one.
        warm_up: source whose imports the fast sandbox makes once for all.
        engine: "bubblewrap", "docker" or "podman" for that one alone; "auto" for the first of them that works.

    Raises:
        CourseError: no such sandbox can be had here, and ``unsafe`` is False.

    """
    if unsafe:
        return Unconfined(library)
    if engine in container.ENGINES:
        return Container(engine, library)
    try:
        bubblewrap.check()
    except CourseError as refusal:
        found = [each for each in container.ENGINES if shutil.which(each)]
        if engine == "bubblewrap" or not found:
            raise
        return _first_container(found, library, str(refusal))
    around = Bubblewrap(library, hidden)
    try:
        return WarmSandbox(around, warm_up)
    except ZygoteError:  # a system that allows no sandbox in a sandbox: a new process for every run
        return around


def _first_container(engines: Sequence[str], library: Path, refusal: str) -> Sandbox:
    """Return a sandbox of the first engine that can be used."""
    refusals = [refusal]
    for engine in engines:
        try:
            return Container(engine, library)
        except CourseError as error:
            refusals.append(str(error))
    raise CourseError(" ".join(refusals))


def engine_here() -> tuple[str, str]:
    """Return the engine that "auto" finds on this machine, and why it is "none" ("" otherwise)."""
    refusals = []
    engines: dict[str, Callable[[], None]] = {"bubblewrap": bubblewrap.check}
    for each in container.ENGINES:
        if shutil.which(each):
            engines[each] = partial(container.check, each, container.image())
    for engine, check in engines.items():
        try:
            check()
        except CourseError as error:
            refusals.append(str(error))
        else:
            return engine, ""
    return "none", " ".join(refusals)


class SoloRetry:
    """A sandbox whose runs are repeated alone when they meet the wall-clock limit.

    Processor time decides what a student's code may use. Wall time also depends on what else the machine
    does, so a run that met that limit beside others is judged by one that has the machine to itself.

    Args:
        inner: what runs the requests; used from several threads at once.

    """

    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner
        self._changed = threading.Condition()
        self._running = 0
        self._waiting_alone = 0

    def close(self) -> None:
        """Close the sandbox inside."""
        self._inner.close()

    def run(self, request: Request, limits: Limits) -> Response:
        """Run the request, a second time alone if wall time was the reason that it stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_alone == 0)
            self._running += 1
        try:
            response = self._inner.run(request, limits)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
        if response.stop is None or response.stop.why != "wall":
            return response
        with self._changed:
            self._waiting_alone += 1
            self._changed.wait_for(lambda: self._running == 0)
            self._running += 1
        try:
            return self._inner.run(request, limits)
        finally:
            with self._changed:
                self._running -= 1
                self._waiting_alone -= 1
                self._changed.notify_all()
