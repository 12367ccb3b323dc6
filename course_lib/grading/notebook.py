"""Read a student's notebook as source code: which cells run, which one defines what, what looks odd."""

import ast
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from course_lib.exercises.spec import Exercise, exercises_of
from course_lib.grading.intake import NotebookCell, read_notebook
from course_lib.grading.sandbox.protocol import Cell
from course_lib.runtime import CourseError

SKIPPED_TAGS = frozenset({"experiment", "claim", "widget", "check", "record"})


@dataclass(frozen=True)
class Lesson:
    """What is graded: a lesson's exercises, and its notebook as it was published."""

    number: int
    exercises: tuple[Exercise, ...]
    published: tuple[NotebookCell, ...]

    @property
    def points(self) -> int:
        """The points of all exercises."""
        return sum(exercise.points for exercise in self.exercises)

    @property
    def setup(self) -> list[str]:
        """The sources of the published notebook's setup cells."""
        cells = (each for each in self.published if each.type == "code")
        return [python_of(each.source) for each in cells if "setup" in each.tags]


def load_lesson(number: int, root: Path, published: Path | None = None) -> Lesson:
    """Return the lesson ``number``.

    Args:
        number: the lesson's number.
        root: the repository, whose folder notebooks holds what students were given.
        published: that notebook itself, where it lies elsewhere.

    Raises:
        CourseError: the lesson has no exercises, or its published notebook is not there.

    """
    exercises = exercises_of(number)
    if not exercises:
        raise CourseError(f"Lesson {number:02d} has no exercises: choose a lesson that has.")
    if published is None:
        found = sorted((root / "notebooks").glob(f"{number:02d}_*.ipynb"))
        if not found:
            raise CourseError(
                f"The published notebook of lesson {number:02d} is not in {root / 'notebooks'}: "
                f"run `course build {number:02d}`, or name it with --published."
            )
        published = found[0]
    try:
        cells = read_notebook(published)
    except (OSError, ValueError) as error:
        raise CourseError(f"The published notebook {published} cannot be used: {error}") from error
    return Lesson(number, exercises, tuple(cells))


@dataclass(frozen=True)
class Definition:
    """A cell that binds a name of an exercise, and the names' sources in it."""

    index: int
    source: str


@dataclass(frozen=True)
class Plan:
    """How a student's notebook is run.

    Attributes:
        cells: the code cells to run, in order; ``index`` counts all cells of the notebook from 1.
        definitions: by exercise, the cells that define one of its names, in order.
        elsewhere: by exercise, cells that mention a definition but are not code that parses.
        added: cells that are not the lesson's own.

    """

    cells: tuple[Cell, ...]
    definitions: dict[str, list[Definition]]
    elsewhere: dict[str, list[NotebookCell]]
    added: tuple[Cell, ...]


def plan(lesson: Lesson, cells: Sequence[NotebookCell]) -> Plan:
    """Decide which cells of a student's notebook run.

    The lesson's own experiments, claims, views and checks are left out where they are unchanged: compared
    with the published notebook by source, since ids, tags and order in the student's file prove nothing.
    One of them runs after all where a cell that runs uses a name which only it binds.
    """
    own = {_normal(cell.source): cell.tags for cell in lesson.published if cell.type == "code"}
    code = [
        (index, cell.source)
        for index, cell in enumerate(cells, start=1)
        if cell.type == "code" and cell.source.strip()
    ]
    skipped = {
        index for index, source in code if own.get(_normal(source), frozenset()) & SKIPPED_TAGS
    }
    trees = {index: _tree(source) for index, source in code}
    stores = {index: _stored(source) for index, source in code}
    loads = {index: _loaded(source) for index, source in code}
    checks = {index for index in trees if _is_check(trees[index])}
    grown = True
    while grown:
        running = [index for index, _ in code if index not in skipped]
        bound = set().union(*(stores[index] for index in running))
        lacking = set().union(*(loads[index] for index in running)) - bound
        needed = {index for index in skipped - checks if stores[index] & lacking}
        skipped -= needed
        grown = bool(needed)

    setup_heads = {
        _first_line(cell.source)
        for cell in lesson.published
        if "setup" in cell.tags and cell.type == "code"
    }
    runs = tuple(
        Cell(
            index,
            source,
            setup="setup" in own.get(_normal(source), frozenset())
            or _first_line(source) in setup_heads,
        )
        for index, source in code
        if index not in skipped
    )
    definitions: dict[str, list[Definition]] = {}
    elsewhere: dict[str, list[NotebookCell]] = {}
    for exercise in lesson.exercises:
        names = set(exercise.defines)
        definitions[exercise.name] = [
            Definition(index, source)
            for index, source in code
            if stores[index] & names
            and "exercise" in own.get(_normal(source), frozenset({"exercise"}))
            and index not in checks
        ]
        elsewhere[exercise.name] = [
            cell
            for index, cell in enumerate(cells, start=1)
            if (cell.type != "code" or trees.get(index) is None)
            and any(f"{word} {name}" in cell.source for word in ("def", "class") for name in names)
        ]
    added = tuple(cell for cell in runs if _normal(cell.source) not in own)
    return Plan(runs, definitions, elsewhere, added)


@lru_cache(maxsize=4096)  # most cells of a class are the lesson's own
def python_of(source: str) -> str:
    """Return a cell's source as plain Python, its magics and shell lines rewritten as calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return TransformerManager().transform_cell(source)
    except Exception:  # the transformer meets anything at all; what it cannot read is left as it is
        return source


def patched_modules(source: str) -> list[tuple[str, int]]:
    """Return assignments to attributes of imported modules (``torch.allclose = …``), with their lines."""
    tree = _tree(source)
    if tree is None:
        return []
    modules = {"torch", "np", "numpy", "builtins", "sys", "F", "nn", "math", "course_lib"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    found = []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "setattr"
            and node.args
            and isinstance(node.args[0], (ast.Name, ast.Attribute))
        ):
            targets = [ast.Attribute(node.args[0], "…", ast.Store(), lineno=node.lineno)]
        for target in targets:
            if isinstance(target, ast.Attribute):
                text = ast.unparse(target)
                if text.split(".")[0] in modules:
                    found.append((text, node.lineno))  # type: ignore[attr-defined]
    return found


def _normal(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _first_line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(python_of(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _tables(source: str) -> Iterator[symtable.SymbolTable]:
    try:
        queue = [symtable.symtable(python_of(source), "cell", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while queue:
        table = queue.pop()
        yield table
        queue += table.get_children()


def _stored(source: str) -> set[str]:
    """Return the global names that a cell binds."""
    return {
        symbol.get_name()
        for table in _tables(source)
        for symbol in table.get_symbols()
        if (symbol.is_assigned() or symbol.is_imported())
        and (table.get_type() == "module" or symbol.is_declared_global())
    }


def _loaded(source: str) -> set[str]:
    """Return the global names that a cell uses, also inside its functions."""
    return {
        symbol.get_name()
        for table in _tables(source)
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global())
    }


def _is_check(tree: ast.Module | None) -> bool:
    """Tell whether a cell is only ``name = check("…")``, whatever was done to its tags."""
    return (
        tree is not None
        and len(tree.body) > 0
        and all(
            isinstance(each, (ast.Assign, ast.Expr))
            and isinstance(each.value, ast.Call)
            and isinstance(each.value.func, ast.Name)
            and each.value.func.id == "check"
            for each in tree.body
        )
    )
