"""Grade a whole class: what waits is graded by several workers, and written down as it comes."""

import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from course_lib.grading import cases, reduced
from course_lib.grading.gradebook import Gradebook, disk_trouble
from course_lib.grading.intake import Submission, collect, students_of
from course_lib.grading.marking import Marked, Marker, known_answers
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox import Limits, SoloRetry, open_sandbox
from course_lib.runtime import CourseError

DATABASE = "gradebook.sqlite"
SEED = "private/seed"
# Yields submissions with their marks, in any order, and empties the list that it is given.
MarkAll = Callable[[list[Submission]], Generator[tuple[Submission, Marked], None, None]]


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
        scheduler: the address of a Dask scheduler whose workers do the marking; "" for this machine.
        engine: what keeps students' code apart on this machine, as `open_sandbox` takes it.

    """

    out: Path
    seed_file: Path | None = None
    draws: int = 3
    workers: int = 1
    unsafe: bool = False
    limits: Limits = field(default_factory=Limits)
    hidden: tuple[Path, ...] = ()
    scheduler: str = ""
    engine: str = "auto"


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
        CourseError: there is no sandbox, nothing to grade, no cluster, no room on the disk, or the gradebook
            does not fit.

    """
    torch.set_num_threads(1)  # oracles are small, and the processors belong to the sandboxes
    submissions = collect(paths, lesson.number)
    with disk_trouble(settings.out):
        book = open_gradebook(settings.out, lesson.number)
        secret = _secret(settings)
        mark = f"{cases.fingerprint(secret)} × {settings.draws}"
        book.settle("seed", mark, "This gradebook was begun with another seed")
        total = len(chosen := students_of(submissions, again or ()))
        hidden = (settings.out, *settings.hidden, *(path for path in paths if path.is_dir()))
        with (
            _alone(settings.out) as folder,
            _hands(lesson, secret, settings, folder, hidden) as mark_all,
        ):
            run = book.begin_run(paths, settings.unsafe)
            waiting = book.enter(chosen, again=again is not None)
            del submissions, chosen  # each notebook's bytes go when it is graded
            started(len(waiting), total)
            with closing(mark_all(waiting)) as marks:
                for submission, marked in marks:
                    book.write(submission.student, marked)
                    finished(submission, marked)
            book.end_run(run)
    return book


def _secret(settings: Settings) -> bytes:
    if settings.seed_file:
        return cases.read_secret(settings.seed_file)
    return cases.own_secret(settings.out / SEED)


@contextmanager
def _hands(
    lesson: Lesson, secret: bytes, settings: Settings, folder: Path, hidden: Sequence[Path]
) -> Iterator[MarkAll]:
    """Give what marks submissions: threads of this machine with a sandbox, or a cluster."""
    if settings.scheduler:
        from course_lib.grading.cluster import Briefing, connected

        seeds = cases.seeds(lesson.exercises, secret, settings.draws)
        briefing = Briefing(
            lesson.number, lesson.published, seeds, settings.limits, settings.unsafe
        )
        with connected(settings.scheduler, briefing) as cluster:
            yield cluster.mark_all
        return
    library = reduced.build(lesson.number, lesson.exercises, folder)
    drawn = cases.draw(lesson.exercises, secret, settings.draws)
    warm_up = "\n".join(lesson.setup)
    with ThreadPoolExecutor(max_workers=1) as aside:
        answers = aside.submit(known_answers, lesson.exercises, drawn)
        inner = open_sandbox(library, hidden, settings.unsafe, warm_up, settings.engine)
    with closing(SoloRetry(inner)) as sandbox:
        marker = Marker(lesson, drawn, sandbox, settings.limits, answers.result())
        yield partial(_in_threads, marker, settings.workers)


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


def _in_threads(
    marker: Marker, workers: int, waiting: list[Submission]
) -> Generator[tuple[Submission, Marked], None, None]:
    """Yield submissions with their marks as they come; ``waiting`` is emptied.

    Marking is done by threads, which for the most part wait for sandboxes.
    """
    waiting.reverse()
    running: dict[Future[Marked], Submission] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    submission = waiting.pop()
                    running[pool.submit(marker.mark_safely, submission)] = submission
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            marker.stop()
            raise
