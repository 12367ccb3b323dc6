"""What the commands share: where the course is, what a user's error is, and how many cells are done.

Nothing here imports PyTorch, so that `course --help` and `course doctor` answer at once, and on a machine
where PyTorch does not import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class UsageError(Exception):
    """A command cannot do what it was asked: one sentence."""


def is_for_user(error: BaseException) -> bool:
    """Return whether an error's message is a sentence for the user (a CourseError or one of ours).

    Told by name: importing CourseError imports PyTorch, which may be what is wrong.
    """
    names = {each.__name__ for each in type(error).__mro__}
    return bool(names & {"CourseError", "UsageError"})


def course_root(start: Path | None = None) -> Path:
    """Return the course folder: the one around ``start`` (the current folder), else the package's own.

    Raises:
        UsageError: neither holds notebooks/.

    """
    start = (start or Path.cwd()).resolve()
    own = Path(__file__).resolve().parents[2]
    for folder in (start, *start.parents, own):
        if (folder / "notebooks").is_dir() and (folder / "course_lib").is_dir():
            return folder
        if (folder / "solutions").is_dir() and (folder / "course_lib").is_dir():
            return folder
    raise UsageError(
        f"{start} is not inside the course: change to the folder that holds notebooks/ and course_lib/."
    )


@contextmanager
def cells_progress() -> Iterator["Progress"]:
    """Show a progress bar on the error stream, one task for each notebook, counted in cells."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress
