"""The maintainer's commands: build, run, claims, record, release."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib.cli.common import UsageError, cells_progress, course_root

if TYPE_CHECKING:
    from course_lib.publishing.lessons import LessonFiles
    from course_lib.publishing.running import Report

Lessons = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NN…]", help="Lessons: 7, 07, 00-07 or a name; all if none is given."),
]
_PANEL = "For maintainers"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (build, run, claims, record, release):
        app.command(rich_help_panel=_PANEL)(function)


def build(
    lessons: Lessons = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Also run the solutions and write them with outputs.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where notebooks have drifted.")
    ] = False,
) -> None:
    """Make the notebooks from solutions/NN_slug.py."""
    from rich.console import Console

    from course_lib.publishing import build as building

    if execute and check:
        raise UsageError(
            "--check writes nothing, so it does not go with --execute: give one of them."
        )
    console = Console(highlight=False)
    chosen = _select(lessons)
    if check:
        found = [sentence for files in chosen for sentence in building.drift(files)]
        for sentence in found:
            console.print(sentence, markup=False, soft_wrap=True)
        if found:
            raise typer.Exit(1)
        console.print(f"{_count(chosen)}: notebooks and sources agree.")
        return
    with cells_progress() as progress:
        for files in chosen:
            task = progress.add_task(files.name, total=_code_cells(files) if execute else None)
            built = building.build(files, run=execute, on_cell=partial(progress.advance, task))
            progress.remove_task(task)
            words = ", ".join(files.show(path) for path in built.changed) or "nothing changed"
            progress.console.print(f"{files.name}: {words}", markup=False, highlight=False)
            if built.behind:
                progress.console.print(
                    f"  solutions/{files.name}.ipynb is behind ({len(built.behind)} differences): "
                    f"course build --execute {files.number:02d}",
                    markup=False,
                    highlight=False,
                )


def run(
    lessons: Lessons = None,
    scale: Annotated[
        str | None, typer.Option(help="smoke, standard or full; the notebook's own if not given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed; the notebook's own if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    solutions: Annotated[
        bool, typer.Option("--solutions/--learner", help="Which notebooks.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the executed notebooks.")
    ] = None,
) -> None:
    """Run the notebooks as they lie there, and report."""
    import nbformat

    from course_lib.publishing.running import run_notebook

    root = course_root()
    if scale not in {None, "smoke", "standard", "full"}:
        raise UsageError(f'--scale is "{scale}": use smoke, standard or full.')
    parameters = {
        name: value
        for name, value in (("SCALE", scale), ("SEED", seed), ("DEVICE", device))
        if value is not None
    }
    reports = []
    with cells_progress() as progress:
        for files in _select(lessons):
            path = files.solution if solutions else files.learner
            try:
                notebook = nbformat.read(path, as_version=4)
            except FileNotFoundError as error:
                raise UsageError(f"{files.show(path)} is missing: run `course build`.") from error
            except (ValueError, AttributeError, KeyError, nbformat.ValidationError) as error:
                raise UsageError(
                    f"{files.show(path)} is not a notebook: run `course build`."
                ) from error
            total = sum(cell.cell_type == "code" for cell in notebook.cells)
            task = progress.add_task(files.name, total=total)
            reports.append(
                run_notebook(
                    notebook,
                    files.name,
                    root / "notebooks",
                    parameters=parameters,
                    output=output / path.name if output else None,
                    on_cell=partial(progress.advance, task),
                )
            )
            progress.remove_task(task)
    _show_runs(reports)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


def claims(
    lessons: Lessons = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on; 2 or more.")] = 3,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Measure nothing; fail where a record is missing, stale or false."
        ),
    ] = False,
) -> None:
    """Measure what the lessons claim over several seeds, judge it, and keep the record."""
    from rich.console import Console

    from course_lib.publishing import claims as judging

    console = Console(highlight=False)
    chosen = _select(lessons)
    if check:
        found = [sentence for files in chosen for sentence in judging.faults(files)]
        for sentence in found:
            console.print(sentence, markup=False, soft_wrap=True)
        if found:
            raise typer.Exit(1)
        console.print(f"{_count(chosen)}: every claim has a record, fresh and true.")
        return
    false = 0
    for files in chosen:
        with cells_progress() as progress:
            total = _code_cells(files) * seeds
            task = progress.add_task(f"{files.name}, {seeds} seeds", total=total)
            measured = judging.measure(files, seeds, on_cell=partial(progress.advance, task))
        judging.save(files, measured)
        _show_claims(measured)
        false += sum(claim["verdict"] != "holds" for claim in measured["claims"])
    if false:
        console.print(f"{false} claim{'s do' if false > 1 else ' does'} not hold.", style="red")
        raise typer.Exit(1)


def record(
    lesson: Annotated[str, typer.Argument(metavar="NN", help="The lesson.")],
    scale: Annotated[str, typer.Option(help="smoke, standard or full.")] = "standard",
    seed: Annotated[int, typer.Option(help="The seed.")] = 0,
) -> None:
    """Run a lesson's long computations and keep what they find in solutions/NN_slug.records.json."""
    from rich.console import Console

    from course_lib.publishing.records import record_lesson

    if scale not in {"smoke", "standard", "full"}:
        raise UsageError(f'--scale is "{scale}": use smoke, standard or full.')
    chosen = _select([lesson])
    for files in chosen:
        with cells_progress() as progress:
            task = progress.add_task(files.name, total=None)
            content = record_lesson(
                files, scale=scale, seed=seed, on_cell=partial(progress.advance, task)
            )
        names = ", ".join(content["values"])
        Console(highlight=False).print(
            f"{files.show(files.records)}: {names} ({content['seconds']} s)", markup=False
        )


def release(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    lessons: Annotated[
        str, typer.Option(help="Which lessons, such as 00-07 or 00,01,07; all if not given.")
    ] = "",
) -> None:
    """Make the students' repository: notebooks and what they need, no solutions."""
    from rich.console import Console

    from course_lib.publishing.release import release as write

    chosen = _select([word for word in lessons.split(",") if word])
    files = write(chosen, target)
    Console(highlight=False).print(
        f"{target}: {_count(chosen)}, {len(files)} files.", markup=False, soft_wrap=True
    )


def _select(words: list[str] | None) -> "list[LessonFiles]":
    from course_lib.publishing.lessons import select

    chosen = select(course_root(), words or [])
    if not chosen:
        raise UsageError("There is no lesson yet: write solutions/NN_slug.py.")
    return chosen


def _code_cells(files: "LessonFiles") -> int:
    from course_lib.publishing.build import compose_lesson

    cells = compose_lesson(files).solution.cells
    return sum(cell.cell_type == "code" for cell in cells)


def _count(lessons: "list[LessonFiles]") -> str:
    return f"{len(lessons)} lesson{'s' if len(lessons) != 1 else ''}"


def _show_runs(reports: "list[Report]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("Lesson", "Cells", "Seconds", "Claims", "Result")
    for report in reports:
        judged = [claim for claim in report.claims if claim["judged"]]
        held = len(judged) - len(report.failed_claims)
        said = f"{held} of {len(judged)} hold" if judged else f"{len(report.claims)} measured"
        table.add_row(
            report.name,
            f"{report.done} of {report.cells}",
            f"{report.seconds:.1f}",
            said,
            "[green]passed[/]" if report.passed else "[red]failed[/]",
        )
    console.print(table)
    for report in reports:
        if report.error:
            console.print(f"{report.name}, {report.error}", markup=False, soft_wrap=True)
        for claim in report.failed_claims:
            console.print(
                f'{report.name}: the claim "{claim["claim"]}" does not hold '
                f"(measured {claim['measured']:.4g}).",
                markup=False,
                soft_wrap=True,
            )


def _show_claims(measured: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Claim", "Measured", "Bound", "Margin (s.d.)", "Broken variants", "Verdict")
    for claim in measured["claims"]:
        good = claim["verdict"] == "holds"
        kind = claim["bound"]["kind"].replace("_", " ")
        table.add_row(
            claim["claim"] + (" (timing)" if claim["timing"] else ""),
            _span(claim["measured"]),
            f"{kind} {_span(claim['bound']['values'])}",
            "exact" if claim["margin"] is None else f"{claim['margin']:.1f}",
            "\n".join(
                f"{name}: {_span(each['measured'])}" for name, each in claim["breaks"].items()
            ),
            f"[{'green' if good else 'red'}]{claim['verdict']}[/]",
        )
    table.title = f"{measured['lesson']}, seeds {measured['seeds'][0]} to {measured['seeds'][-1]}"
    Console(highlight=False).print(table)


def _span(values: list[Any]) -> str:
    """Return the figures of all seeds in the shortest way: one, or the smallest and the largest."""
    if isinstance(values[0], list):
        return f"{_span([pair[0] for pair in values])} and {_span([pair[1] for pair in values])}"
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} … {high}"
