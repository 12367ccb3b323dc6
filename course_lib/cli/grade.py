"""The instructor's commands: grade, regrade, adjust."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from course_lib.cli.common import UsageError, course_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from course_lib.grading.batch import Settings
    from course_lib.grading.intake import Submission
    from course_lib.grading.marking import Marked
    from course_lib.grading.notebook import Lesson
    from course_lib.grading.roster import Matching, Roster

_PANEL = "For instructors"
_MOST_LISTED = 30

LessonNumber = Annotated[int, typer.Option("--lesson", help="The lesson's number.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the gradebook and the reports.")]
Published = Annotated[
    Path | None,
    typer.Option(help="The notebook that students were given; the one in notebooks/ if not named."),
]
SeedFile = Annotated[
    Path | None,
    typer.Option(
        help="A file that holds your secret; one is made and kept in the folder if not given."
    ),
]
Draws = Annotated[
    int, typer.Option(min=1, max=20, help="How often each exercise's cases are drawn.")
]
Workers = Annotated[int, typer.Option(min=1, help="Submissions graded at the same time.")]
Scheduler = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Grade on a Dask cluster: its scheduler's address, such as tcp://10.0.0.1:8786.",
    ),
]
CpuSeconds = Annotated[
    float, typer.Option(min=1, help="Processor time of one cell or one exercise, in seconds.")
]
MemoryGb = Annotated[float, typer.Option(min=1, help="Memory of one submission, in GB.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print grades.json in place of the table.")]
Engine = Annotated[
    Literal["auto", "bubblewrap", "docker", "podman"],
    typer.Option(help="What keeps students' code apart; auto takes the first of them that works."),
]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe-no-sandbox", help="Run students' code with your own rights. Dangerous."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (grade, regrade, adjust, grader_image):
        app.command(rich_help_panel=_PANEL)(function)


def grade(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A folder of students, notebooks, or a zip of Canvas, Moodle or Gradescope."
        ),
    ],
    lesson: LessonNumber,
    out: Out,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a gradebook that was begun.")
    ] = False,
    roster: Annotated[
        Path | None,
        typer.Option(
            help="A CSV of the class: name, id, email, or an export of Canvas, Moodle or Gradescope."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be graded; nothing is run or written."),
    ] = False,
    seed_file: SeedFile = None,
    draws: Draws = 3,
    workers: Workers = 1,
    scheduler: Scheduler = "",
    due: Annotated[
        datetime | None,
        typer.Option(help="When it was due, in local time, as 2026-01-31T23:59:59."),
    ] = None,
    late_per_day: Annotated[
        float,
        typer.Option(min=0, max=100, help="Per cent taken off for each day begun after --due."),
    ] = 0.0,
    published: Published = None,
    cpu_seconds: CpuSeconds = 30.0,
    memory_gb: MemoryGb = 4.0,
    as_json: AsJson = False,
    engine: Engine = "auto",
    unsafe: Unsafe = False,
) -> None:
    """Grade students' notebooks in a sandbox."""
    from course_lib.grading.batch import DATABASE, open_gradebook
    from course_lib.grading.gradebook import disk_trouble
    from course_lib.grading.roster import read_roster

    if late_per_day and due is None:
        raise UsageError("--late-per-day needs --due: say when it was due.")
    if due is not None and due.tzinfo is not None:
        raise UsageError("--due is in local time: give it without a time zone.")
    people = read_roster(roster) if roster else None
    if dry_run:
        _dry_run(lesson, paths, out, people, due, published, as_json)
        return
    chosen, settings = _prepare(
        lesson,
        out,
        published,
        seed_file,
        draws,
        workers,
        scheduler,
        cpu_seconds,
        memory_gb,
        engine,
        unsafe,
    )
    begun = (out / DATABASE).exists()
    with disk_trouble(out):
        book = open_gradebook(out, lesson)
        if begun and not resume and not book.is_empty:
            raise UsageError(
                f"{out} holds a gradebook already: go on with it with --resume, make marks anew with "
                "`course regrade`, or choose another folder."
            )
        if due is not None:
            book.set_fact("due", due.isoformat())
            book.set_fact("late_per_day", str(late_per_day))
        if people is not None:
            book.set_roster(people)
        book.close()
    _grade(chosen, paths, settings, None, as_json)


def regrade(
    students: Annotated[
        list[str] | None, typer.Argument(help="Students as gradebook.csv names them; all if none.")
    ] = None,
    *,
    lesson: LessonNumber,
    out: Out,
    seed_file: SeedFile = None,
    draws: Draws = 3,
    workers: Workers = 1,
    scheduler: Scheduler = "",
    published: Published = None,
    cpu_seconds: CpuSeconds = 30.0,
    memory_gb: MemoryGb = 4.0,
    as_json: AsJson = False,
    engine: Engine = "auto",
    unsafe: Unsafe = False,
) -> None:
    """Make marks anew, from the files where they were found; adjustments by hand stay."""
    from course_lib.grading.batch import open_gradebook

    open_gradebook(out).close()
    book = open_gradebook(out, lesson)
    paths = book.last_paths()
    book.close()
    if not paths:
        raise UsageError(f"Nothing was graded in {out} yet: use `course grade`.")
    chosen, settings = _prepare(
        lesson,
        out,
        published,
        seed_file,
        draws,
        workers,
        scheduler,
        cpu_seconds,
        memory_gb,
        engine,
        unsafe,
    )
    _grade(chosen, paths, settings, tuple(students or ()), as_json)


def adjust(
    student: Annotated[str, typer.Argument(help="The student, as gradebook.csv names them.")],
    exercise: Annotated[str, typer.Argument(help="The exercise's name.")],
    points: Annotated[float, typer.Argument(help="The points it shall have.")],
    out: Out,
    reason: Annotated[str, typer.Option(help="Why; the student reads it.")],
) -> None:
    """Set the points of one exercise by hand, with a reason that the student reads."""
    from course_lib.exercises.spec import exercises_of
    from course_lib.grading.batch import open_gradebook
    from course_lib.grading.gradebook import disk_trouble
    from course_lib.grading.reports import write_all

    with disk_trouble(out):
        book = open_gradebook(out)
        book.adjust(student, exercise, points, reason)
        write_all(book, exercises_of(int(book.fact("lesson") or 0)), out)
        book.close()
    typer.echo(f"{student}: `{exercise}` has {points:g} points now.")


def grader_image(
    engine: Annotated[
        Literal["docker", "podman"] | None,
        typer.Option(help="The program; the first of the two that is installed if none is named."),
    ] = None,
) -> None:
    """Build the image in which Docker or Podman runs students' code; needs the network, once."""
    import shutil

    from course_lib.grading.sandbox.container import ENGINES, build_image

    installed = [each for each in ENGINES if shutil.which(each)]
    chosen: str = engine or [*installed, *ENGINES][0]
    image = build_image(chosen)
    typer.echo(f"{image} is there: grade with `course grade … --engine {chosen}`.")


def _prepare(
    lesson: int,
    out: Path,
    published: Path | None,
    seed_file: Path | None,
    draws: int,
    workers: int,
    scheduler: str,
    cpu_seconds: float,
    memory_gb: float,
    engine: str,
    unsafe: bool,
) -> "tuple[Lesson, Settings]":
    from course_lib.grading.batch import Settings
    from course_lib.grading.notebook import load_lesson
    from course_lib.grading.sandbox import Limits

    if engine != "auto" and (unsafe or scheduler):
        other = "--unsafe-no-sandbox" if unsafe else "--scheduler"
        raise UsageError(
            f"--engine and {other} do not go together: give one of them"
            f"{'' if unsafe else ' (workers of a cluster take the sandbox that they have)'}."
        )
    root = course_root()
    limits = Limits(
        unit_cpu_seconds=cpu_seconds,
        total_cpu_seconds=10 * cpu_seconds,
        unit_wall_seconds=6 * cpu_seconds,
        total_wall_seconds=30 * cpu_seconds,
        memory_bytes=int(memory_gb * 2**30),
    )
    settings = Settings(out, seed_file, draws, workers, unsafe, limits, (root,), scheduler, engine)
    return load_lesson(lesson, root, published), settings


def _grade(
    lesson: "Lesson",
    paths: list[Path],
    settings: "Settings",
    again: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    from rich.console import Console

    from course_lib.grading.batch import grade as grade_batch
    from course_lib.grading.gradebook import disk_trouble
    from course_lib.grading.reports import keep_published, write_all

    errors = Console(stderr=True, highlight=False)
    if settings.unsafe:
        errors.print(
            "WARNING: --unsafe-no-sandbox runs students' code with your rights: it can read and change "
            "your files, this gradebook and other submissions, and use the network.",
            style="bold red",
        )
    with _progress(errors) as (started, finished):
        book = grade_batch(lesson, paths, settings, again=again, started=started, finished=finished)
    with disk_trouble(settings.out):
        keep_published(book, lesson)
        grades = write_all(book, lesson.exercises, settings.out)
        book.close()
    if as_json:
        typer.echo(json.dumps(grades, indent=2, ensure_ascii=False))
    else:
        _summary(grades, settings.out)
    if grades["class"]["not_graded"]:
        raise typer.Exit(1)


def _dry_run(
    lesson: int,
    paths: list[Path],
    out: Path,
    roster: "Roster | None",
    due: datetime | None,
    published: Path | None,
    as_json: bool,
) -> None:
    """Show what would be graded, from where, and whose it is."""
    from course_lib.grading.gradebook import days_late, graded_already
    from course_lib.grading.intake import collect
    from course_lib.grading.notebook import load_lesson
    from course_lib.grading.roster import match

    load_lesson(lesson, course_root(), published)
    submissions = collect(paths, lesson)
    done, kept = graded_already(out, lesson)
    roster = roster or kept
    matching = match(submissions, roster) if roster else None
    found = []
    for each in submissions:
        student = matching.students.get(each.student) if matching else None
        found.append(
            {
                "student": each.student,
                "name": each.name,
                "origin": each.origin,
                "bytes": len(each.data),
                "submitted": each.submitted.isoformat() if each.submitted else None,
                "days_late": days_late(each.submitted, due) if due and each.submitted else 0,
                "problem": each.problem,
                "graded_already": done.get(each.student) == each.sha256,
                "matched_to": student.called if student else None,
                "matched_by": matching.how.get(each.student) if matching else None,
                "why_unmatched": matching.unmatched.get(each.student) if matching else None,
            }
        )
    missing = [each.called for each in matching.missing] if matching else []
    if as_json:
        typer.echo(
            json.dumps(
                {"submissions": found, "without_submission": missing}, indent=2, ensure_ascii=False
            )
        )
        return
    _show_plan(found, matching, missing)


def _show_plan(
    found: list[dict[str, Any]], matching: "Matching | None", missing: list[str]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What would be graded")
    table.add_column("Student", overflow="fold")
    table.add_column("From", overflow="fold")
    if matching:
        table.add_column("In the roster", overflow="fold")
    table.add_column("Note", overflow="fold")
    for each in found:
        late = f"{each['days_late']} days late" if each["days_late"] else ""
        done = "graded already" if each["graded_already"] else ""
        cells = [each["student"], each["origin"]]
        if matching:
            whom = f"{each['matched_to']} (by {each['matched_by']})"
            cells.append(whom if each["matched_to"] else f"nobody: {each['why_unmatched']}")
        cells.append("; ".join(filter(None, (each["problem"], late, done))))
        table.add_row(*map(_plain, cells))
    console = Console(highlight=False)
    console.print(table)
    waiting = sum(not each["graded_already"] for each in found)
    _say(
        console,
        f"{waiting} of {len(found)} submissions would be graded. Nothing was run or written.",
    )
    if matching:
        unmatched = [each["student"] for each in found if not each["matched_to"]]
        _say_people(console, unmatched, missing)


@contextmanager
def _progress(
    console: Any,
) -> "Iterator[tuple[Callable[[int, int], None], Callable[[Submission, Marked], None]]]":
    """Show how many submissions are done, and how long the rest will take; a line for each if nobody watches."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("grading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    live = console.is_terminal
    bar = Progress(
        *columns, console=console, transient=True, speed_estimate_period=600, disable=not live
    )
    task = bar.add_task("grading", total=None)
    begun, count, total = time.monotonic(), 0, 0

    def started(waiting: int, of: int) -> None:
        nonlocal begun, total
        begun, total = time.monotonic(), waiting
        bar.update(task, total=waiting)
        bar.start()
        if waiting < of:
            _say(bar.console, f"{of - waiting} of {of} are graded already.")

    def finished(submission: "Submission", marked: "Marked") -> None:
        nonlocal count
        count += 1
        bar.advance(task)
        if live and not marked.problem:
            return
        points = f"{sum(mark.points for mark in marked.marks):g} points, {marked.seconds:.1f} s"
        line = f"{submission.student}: {marked.problem or points}"
        if not live:
            left = (time.monotonic() - begun) / count * (total - count)
            line = f"{count}/{total} {line}{f', {_duration(left)} left' if count < total else ''}"
        _say(bar.console, line)

    try:
        yield started, finished
    finally:
        bar.stop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes} min" if minutes >= 2 else f"about {60 * minutes + rest} s"


def _say(console: Any, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _say_people(console: Any, unmatched: Sequence[str], missing: Sequence[str]) -> None:
    """List submissions that nobody in the roster made, and students without one."""
    if unmatched:
        _say(console, f"In nobody's name in the roster ({len(unmatched)}): {_list(unmatched)}")
    if missing:
        _say(console, f"Without a submission ({len(missing)}): {_list(missing)}")


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _summary(grades: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Lesson {grades['lesson']}, {grades['points']} points")
    table.add_column("Student")
    names = [each["exercise"] for each in grades["class"]["exercises"]]
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("Total", justify="right")
    table.add_column("Look at", no_wrap=True)
    for student in grades["students"]:
        by_name = {each["exercise"]: each["points"] for each in student["exercises"]}
        notes = "not graded" if student["problem"] else "; ".join(student["flags"])
        points = [f"{by_name[name]:g}" if name in by_name else "" for name in names]
        total = f"{student['points']:g}" if student["state"] == "done" else ""
        table.add_row(_plain(student["student"]), *points, total, _plain(notes))
    console = Console(highlight=False)
    console.print(table)
    summary = grades["class"]
    pairs = len(summary["similar"]["pairs"])
    alike = f"{pairs} pair{'s' * (pairs > 1)} nearly identical, " if pairs else ""
    _say(
        console,
        f"{summary['graded']} of {summary['submissions']} graded, "
        f"{len(summary['flagged'])} with flags, {alike}reports: {out / 'report.html'}",
    )
    if summary["roster"]:
        missing = [each["who"] for each in summary["roster"]["missing"]]
        _say_people(console, [each["student"] for each in summary["roster"]["unmatched"]], missing)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
