"""`course status`: what the learner has done, lesson by lesson."""

from typing import Annotated, Any

import typer

_SHOWN = {"passed": "[green]✓ passed[/]", "failed": "[red]✗ not right yet[/]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    lessons: Annotated[
        list[str] | None, typer.Argument(metavar="[NN…]", help="Lessons; all if none is given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show which exercises you have passed."""
    import json

    from rich.console import Console
    from rich.table import Table

    rows = progress_rows([_number(word) for word in lessons or []])
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    table = Table("Lesson", "Exercise", "Points", "State", "Attempts", "Hints")
    for row in rows:
        table.add_row(
            f"{row['lesson']:02d}",
            row["exercise"],
            str(row["points"]),
            _SHOWN.get(row["status"], "not attempted"),
            str(row["attempts"] or ""),
            str(row["hints"] or ""),
        )
    console.print(table)
    passed = [row for row in rows if row["status"] == "passed"]
    console.print(
        f"{len(passed)} of {len(rows)} exercises passed, "
        f"{sum(row['points'] for row in passed)} of {sum(row['points'] for row in rows)} points."
    )


def progress_rows(wanted: list[int]) -> list[dict[str, Any]]:
    """Return one dictionary for each exercise, of the lessons ``wanted`` or of all where it is empty.

    Each holds lesson, exercise, points, status ("passed", "failed", "not-attempted"), attempts and hints.

    Raises:
        CourseError: a lesson that is wanted has no exercises.

    """
    from course_lib.exercises import progress
    from course_lib.exercises.spec import exercises_of, lessons
    from course_lib.runtime import CourseError

    have = lessons()
    for number in wanted:
        if number not in have:
            known = ", ".join(f"{each:02d}" for each in have)
            raise CourseError(f"Lesson {number:02d} has no exercises: those that have are {known}.")
    known_facts = progress.read()
    rows = []
    for number in wanted or have:
        for exercise in exercises_of(number):
            facts = known_facts.get(f"{number:02d}/{exercise.name}", {})
            rows.append(
                {
                    "lesson": number,
                    "exercise": exercise.name,
                    "points": exercise.points,
                    "status": facts.get("status", "not-attempted"),
                    "attempts": facts.get("attempts", 0),
                    "hints": facts.get("hints", 0),
                }
            )
    return rows


def _number(word: str) -> int:
    from course_lib.cli.common import UsageError

    if not word[:2].isdigit() and not word.isdigit():
        raise UsageError(f'"{word}" is no lesson: give its number, such as 07.')
    return int(word[:2])
