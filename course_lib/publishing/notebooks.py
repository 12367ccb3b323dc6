"""Makes the two notebooks of a lesson, the solution and the learner's, from its source."""

import ast
import logging
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from nbformat.notebooknode import NotebookNode

from course_lib.publishing.source import Cell, Source, parse, plain
from course_lib.publishing.written_out import Written, bound_names, write_out
from course_lib.runtime import CourseError

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    # No version: it would differ between machines and change nothing.
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}


@dataclass(frozen=True)
class Composed:
    """A lesson's notebooks, without outputs.

    Attributes:
        solution: everything written out, with nbgrader's solution marks (nbgrader's source version).
        learner: the same with the solutions cut.
        written: what was written out from the package.

    """

    solution: NotebookNode
    learner: NotebookNode
    written: tuple[Written, ...]


def compose(source: Source, points: Mapping[str, int], *, recording: bool = False) -> Composed:
    """Make the notebooks of a lesson.

    Args:
        source: the lesson.
        points: what each exercise is worth, by name.
        recording: keep cells tagged "record" as code; elsewhere they are shown and not run.

    Raises:
        CourseError: code cannot be written out or cut; the sentence names the cell's line.

    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = []
    written: list[Written] = []
    known: set[str] = set()
    for cell in source.cells:
        if cell.kind == "markdown":
            cells.append(new_markdown_cell(cell.source, id=cell.id))
            continue
        if "record" in cell.tags and not recording:
            cells.append(new_markdown_cell(_shown_record(cell, source.files.number), id=cell.id))
            continue
        try:
            text, new = write_out(cell.source, source.files.root, exercise="exercise" in cell.tags)
        except CourseError as error:
            _fail(source, cell, str(error), error)
        known |= bound_names(plain(text))
        for each in new:
            missing = sorted(each.borrowed - known)
            if missing:
                _fail(
                    source,
                    cell,
                    f"`{each.name}` uses {' and '.join(f'`{name}`' for name in missing)} of "
                    f"{each.module}, which the lesson does not have at this point: import it in the "
                    "setup cell, or write it out before.",
                )
        written += new
        cells.append(new_code_cell(text, id=cell.id, metadata=_metadata(cell, points)))
    solution = new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)
    return Composed(solution, _cut(source, solution), tuple(written))


def _metadata(cell: Cell, points: Mapping[str, int]) -> dict[str, object]:
    metadata: dict[str, object] = {}
    if cell.tags:
        metadata["tags"] = list(cell.tags)
    if not cell.exercise:
        return metadata
    is_check = "check" in cell.tags
    metadata["exercise"] = cell.exercise
    metadata["nbgrader"] = {
        "grade": is_check,
        "grade_id": cell.id,
        "locked": is_check,
        "schema_version": 3,
        "solution": not is_check,
        "task": False,
    }
    if is_check:
        metadata["nbgrader"]["points"] = points[cell.exercise]  # type: ignore[index]
    return metadata


def _shown_record(cell: Cell, number: int) -> str:
    return (
        "*The cell below takes too long to run here. It was run once, by the command "
        f"`course record {number:02d}`, and what it found is kept beside the lessons.*\n\n"
        f"```python\n{cell.source}\n```"
    )


def _cut(source: Source, solution: NotebookNode) -> NotebookNode:
    """Return the learner's notebook: what nbgrader's own generate_assignment would make."""
    import nbformat
    from nbgrader import preprocessors
    from nbgrader.nbgraderformat import ValidationError

    notebook: NotebookNode = nbformat.from_dict(solution)
    notebook.cells = [nbformat.from_dict(cell) for cell in solution.cells]
    for cell in notebook.cells:
        # The stub of a cell without solution marks would stand outside any function and raise.
        if (
            cell.metadata.get("nbgrader", {}).get("solution")
            and "BEGIN SOLUTION" not in cell.source
        ):
            _fail(
                source,
                _cell_of(source, cell),
                "this exercise holds no solution to cut: write code out from the package, or put "
                "### BEGIN SOLUTION and ### END SOLUTION into a function's body.",
            )
    for name in (
        "LockCells",
        "ClearSolutions",
        "ClearOutput",
        "CheckCellMetadata",
        "ComputeChecksums",
        "ClearHiddenTests",
        "ClearMarkScheme",
        "ComputeChecksums",
        "CheckCellMetadata",
    ):
        step = getattr(preprocessors, name)(log=_quiet())
        try:
            notebook, _ = step.preprocess(notebook, {})
        except (RuntimeError, ValidationError, ValueError, KeyError) as error:
            raise CourseError(
                f"{source.files.show(source.files.source)}: nbgrader's {name} refuses the notebook: "
                f"{error}."
            ) from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            line = _bare_stub(cell.source)
            if line:
                _fail(
                    source,
                    _cell_of(source, cell),
                    "a solution is cut outside of any function, so the learner's notebook would stop "
                    f"there (line {line} of the cell): put it into a function's body.",
                )
    return notebook


def _bare_stub(text: str) -> int | None:
    """Return the line of a `raise NotImplementedError` that runs as soon as the cell does, or None."""
    pending: list[ast.AST] = list(parse(plain(text)).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc and "NotImplementedError" in ast.dump(node.exc):
            return node.lineno
        pending.extend(ast.iter_child_nodes(node))
    return None


def _cell_of(source: Source, cell: NotebookNode) -> Cell:
    return next(each for each in source.cells if each.id == cell.id)


def _fail(source: Source, cell: Cell, sentence: str, cause: Exception | None = None) -> NoReturn:
    where = source.files.show(source.files.source)
    raise CourseError(f"{where}, line {cell.line}: {textwrap.shorten(sentence, 600)}") from cause


def _quiet() -> logging.Logger:
    """Return a logger that keeps nbgrader's own messages away from the user, who gets a sentence."""
    logger = logging.getLogger("course.nbgrader")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
