"""`course build`: writes the notebooks, and finds where they have drifted from their source."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbformat.notebooknode import NotebookNode

from course_lib.publishing.execution import code_cells, environment, execute
from course_lib.publishing.lessons import LessonFiles
from course_lib.publishing.notebooks import Composed, compose
from course_lib.publishing.source import read_source
from course_lib.runtime import CourseError

MAXIMUM_BYTES = 1_000_000


@dataclass(frozen=True)
class Built:
    """What a build did: the files it changed, and whether the executed solution is behind."""

    changed: tuple[Path, ...]
    behind: tuple[str, ...]


def points_of(lesson: int) -> dict[str, int]:
    """Return what each exercise of a lesson is worth, from its specification."""
    from course_lib.exercises.spec import exercises_of

    return {exercise.name: exercise.points for exercise in exercises_of(lesson)}


def compose_lesson(
    files: LessonFiles, points: Mapping[str, int] | None = None, *, recording: bool = False
) -> Composed:
    """Read a lesson's source and make its notebooks, without running them.

    Args:
        files: the lesson.
        points: what each exercise is worth; the specification's where not given.
        recording: keep cells tagged "record" as code.

    Raises:
        CourseError: the source is wrong.

    """
    points = points_of(files.number) if points is None else points
    return compose(read_source(files, points), points, recording=recording)


def build(
    files: LessonFiles,
    points: Mapping[str, int] | None = None,
    *,
    run: bool = False,
    on_cell: Callable[[], None] = lambda: None,
) -> Built:
    """Write a lesson's notebooks.

    Args:
        files: the lesson.
        points: what each exercise is worth; the specification's where not given.
        run: also execute the solution at standard scale and write it.
        on_cell: called after each cell that ran.

    Raises:
        CourseError: the source is wrong, a cell failed, or a folder cannot be written.

    """
    composed = compose_lesson(files, points)
    changed = [files.learner] if _write(files, files.learner, composed.learner) else []
    if run:
        files.learner.parent.mkdir(exist_ok=True)
        try:
            with environment(COURSE_SCALE="standard"):
                execute(composed.solution, files.learner.parent, on_cell)
        except CourseError as error:
            raise CourseError(f"{files.show(files.source)}: {error}") from error
        _refuse_paths(files, composed.solution)
        if _write(files, files.solution, composed.solution):
            changed.append(files.solution)
        return Built(tuple(changed), ())
    return Built(tuple(changed), tuple(_solution_drift(files, composed)))


def drift(files: LessonFiles, points: Mapping[str, int] | None = None) -> list[str]:
    """Return a sentence for each way in which a lesson's notebooks differ from its source.

    Raises:
        CourseError: the source is wrong.

    """
    composed = compose_lesson(files, points)
    found = _differences(files, files.learner, composed.learner, "course build")
    learner = _read(files.learner)
    if learner and any(cell.outputs or cell.execution_count for cell in code_cells(learner)):
        found.append(
            f"{files.show(files.learner)}: it holds outputs; run `course build {files.number:02d}`."
        )
    found += _solution_drift(files, composed)
    executed = _read(files.solution)
    if executed:
        found += _execution_faults(files, executed)
    return found


def _solution_drift(files: LessonFiles, composed: Composed) -> list[str]:
    return _differences(files, files.solution, composed.solution, "course build --execute")


def _differences(files: LessonFiles, path: Path, expected: NotebookNode, command: str) -> list[str]:
    where = files.show(path)
    remedy = f"run `{command} {files.number:02d}`"
    if not path.exists():
        return [f"{where} is missing: {remedy}."]
    notebook = _read(path)
    if notebook is None:
        return [f"{where} is not a notebook: {remedy}."]
    found = []
    old = {cell.get("id", ""): cell for cell in notebook.cells}
    new = {cell.id: cell for cell in expected.cells}
    for name in old.keys() - new.keys():
        found.append(f'{where}: the cell "{name}" is not in the source; {remedy}.')
    for name, cell in new.items():
        if name not in old:
            found.append(f'{where}: the cell "{name}" of the source is missing; {remedy}.')
            continue
        parts = [
            part
            for part in ("cell_type", "source", "metadata")
            if old[name].get(part) != cell.get(part)
        ]
        if parts:
            words = " and ".join(part.replace("cell_type", "type") for part in parts)
            found.append(f'{where}: the cell "{name}" differs from the source ({words}); {remedy}.')
    if not found and [cell.get("id") for cell in notebook.cells] != [
        cell.id for cell in expected.cells
    ]:
        found.append(f"{where}: the cells stand in another order than in the source; {remedy}.")
    if not found and notebook.metadata != expected.metadata:
        found.append(f"{where}: the notebook's metadata differ; {remedy}.")
    return found


def _execution_faults(files: LessonFiles, notebook: NotebookNode) -> list[str]:
    where = files.show(files.solution)
    remedy = f"run `course build --execute {files.number:02d}`"
    found = []
    for count, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != count:
            found.append(f'{where}: the cell "{cell.id}" was not executed in its turn; {remedy}.')
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f'{where}: the cell "{cell.id}" holds an error; {remedy}.')
    size = files.solution.stat().st_size
    if size >= MAXIMUM_BYTES:
        found.append(
            f"{where} has {size / 1e6:.1f} MB, and a notebook stays under "
            f"{MAXIMUM_BYTES / 1e6:.0f} MB: save its figures smaller."
        )
    return found


def _refuse_paths(files: LessonFiles, notebook: NotebookNode) -> None:
    """An output that names this machine's folders would differ on every other, and tell of its user."""
    places = {str(files.root.resolve()), str(Path.home())} - {"/", "/root"}
    for cell in code_cells(notebook):
        for output in cell.outputs:
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            for place in places:
                if place in text:
                    raise CourseError(
                        f'{files.show(files.source)}: the cell "{cell.id}" prints a folder of this '
                        f"machine ({place}): print what does not depend on the machine, and mend what warns."
                    )


def _read(path: Path) -> NotebookNode | None:
    import nbformat

    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError, KeyError, nbformat.ValidationError):
        return None
    return notebook


def _write(files: LessonFiles, path: Path, notebook: NotebookNode) -> bool:
    """Write a notebook unless the file holds it already; return whether it was written."""
    import nbformat

    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    try:
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved into place: whoever reads it meanwhile sees the old one, whole.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise CourseError(
            f"{files.show(path)} cannot be written ({error.strerror}): "
            "give yourself the right to write in that folder."
        ) from error
    return True
