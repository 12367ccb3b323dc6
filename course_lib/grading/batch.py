"""Grade a whole class: what waits is graded by several workers, and written down as it comes."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from course_lib.grading import cases, reduced
from course_lib.grading.gradebook import Gradebook
from course_lib.grading.intake import Submission, collect, students_of
from course_lib.grading.marking import Marked, Marker
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox import Limits, SoloRetry, open_sandbox
from course_lib.runtime import CourseError

DATABASE = "gradebook.sqlite"
SEED = "private/seed"


@dataclass(frozen=True)
class Settings:
    """How a batch is graded.

    Attributes:
        out: the folder of the gradebook and the reports.
        seed_file: the instructor's secret; None for one that is made and kept in ``out``.
        draws: how many times the cases of each exercise are drawn.
        workers: how many submissions are graded at the same time.
        unsafe: go without a sandbox.
        limits: what one submission may use.
        hidden: folders that students' code must not see, besides ``out`` and what is graded.

    """

    out: Path
    seed_file: Path | None = None
    draws: int = 3
    workers: int = 1
    unsafe: bool = False
    limits: Limits = field(default_factory=Limits)
    hidden: tuple[Path, ...] = ()


def open_gradebook(out: Path, lesson: int | None = None) -> Gradebook:
    """Open the gradebook in ``out``; without a lesson it must be there already.

    Raises:
        CourseError: it is not there, cannot be used, or is another lesson's.

    """
    path = out / DATABASE
    if lesson is None and not path.exists():
        raise CourseError(
            f"There is no gradebook in {out}: give the folder of `course grade` with -o."
        )
    book = Gradebook(path)
    if lesson is not None:
        book.settle("lesson", f"{lesson:02d}", f"{out} holds another lesson's gradebook")
    return book


def grade(
    lesson: Lesson,
    paths: Sequence[Path],
    settings: Settings,
    *,
    again: Sequence[str] | None = None,
    started: Callable[[int, int], None] = lambda waiting, total: None,
    finished: Callable[[Submission, Marked], None] = lambda submission, marked: None,
) -> Gradebook:
    """Grade what waits under ``paths`` and return the gradebook.

    Args:
        lesson: the lesson.
        paths: folders, notebooks and zips.
        settings: how.
        again: students whose marks are made anew (none named: all of them); None leaves marks that exist.
        started: told how many wait, of how many.
        finished: told of each submission once its marks are written.

    Raises:
        CourseError: there is no sandbox, nothing to grade, or the gradebook does not fit.

    """
    torch.set_num_threads(1)  # oracles are small, and the processors belong to the sandboxes
    submissions = collect(paths, lesson.number)
    book = open_gradebook(settings.out, lesson.number)
    own_seed = settings.out / SEED
    secret = (
        cases.read_secret(settings.seed_file) if settings.seed_file else cases.own_secret(own_seed)
    )
    mark = f"{cases.fingerprint(secret)} × {settings.draws}"
    book.settle("seed", mark, "This gradebook was begun with another seed")
    hidden = (settings.out, *settings.hidden, *(path for path in paths if path.is_dir()))
    with _alone(settings.out) as folder:
        library = reduced.build(lesson.number, lesson.exercises, folder)
        drawn = cases.draw(lesson.exercises, secret, settings.draws)
        chosen = students_of(submissions, again or ())
        warm_up = "\n".join(lesson.setup)
        with closing(SoloRetry(open_sandbox(library, hidden, settings.unsafe, warm_up))) as sandbox:
            marker = Marker(lesson, drawn, sandbox, settings.limits)
            run = book.begin_run(paths, settings.unsafe)
            waiting = book.enter(chosen, again=again is not None)
            started(len(waiting), len(chosen))
            _work(waiting, marker, settings.workers, book, finished)
            book.end_run(run)
    return book


@contextmanager
def _alone(out: Path) -> Iterator[Path]:
    """Keep other graders out of ``out`` and give a folder for the reduced library, removed at the end.

    The folder lies in ``out``, so that a grader that was killed leaves nothing anywhere else, and the next
    one clears it away.
    """
    import fcntl

    private = out.resolve() / "private"
    private.mkdir(mode=0o700, exist_ok=True)
    with open(private / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CourseError(
                f"Another grader is at work in {out}: wait for it, or choose another folder with -o."
            ) from error
        library = private / "library"
        shutil.rmtree(library, ignore_errors=True)
        try:
            yield library
        finally:
            shutil.rmtree(library, ignore_errors=True)


def _work(
    waiting: Sequence[Submission],
    marker: Marker,
    workers: int,
    book: Gradebook,
    finished: Callable[[Submission, Marked], None],
) -> None:
    """Mark submissions in threads, which wait for sandboxes; write in this one as they come."""
    queue = list(reversed(waiting))
    running: dict[Future[Marked], Submission] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while queue or running:
                while queue and len(running) < workers:
                    submission = queue.pop()
                    running[pool.submit(marker.mark, submission)] = submission
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    submission = running.pop(future)
                    try:
                        marked = future.result()
                    except Exception as error:  # a fault of the grader's own must not end the batch
                        marked = marker.nothing(
                            f"The grader failed on this submission ({type(error).__name__}): "
                            "grade it again or look at it by hand.",
                            retry=True,
                        )
                    book.write(submission.student, marked)
                    finished(submission, marked)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
