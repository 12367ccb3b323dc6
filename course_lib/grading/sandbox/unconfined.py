"""Run without any wall, for machines where no sandbox can be had and an instructor who takes the risk."""

import shutil
import tempfile
from pathlib import Path

from course_lib.grading.sandbox.process import (
    INSIDE,
    Command,
    environment,
    run_process,
    runner_argv,
    site_folders,
)
from course_lib.grading.sandbox.protocol import Limits, Request, Response


class Unconfined:
    """The runner with limits and a clean environment, and nothing else.

    A student's code can read and write whatever the instructor can. It satisfies `Sandbox`.
    """

    def __init__(self, library: Path) -> None:
        self._library = library.resolve()

    def run(self, request: Request, limits: Limits) -> Response:
        """Run the request in an empty temporary folder, which is removed afterwards."""
        home = tempfile.mkdtemp(prefix="course-grade-")
        path = [str(self._library), *map(str, site_folders())]
        try:
            return run_process(
                request,
                limits,
                lambda fd: Command(
                    runner_argv(str(INSIDE / "runner.py"), fd, path, limits),
                    environment(home),
                    home,
                ),
            )
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def close(self) -> None:
        """Do nothing: every run has ended when it returns."""
