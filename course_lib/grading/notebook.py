"""Read a student's notebook as source code: which cells run, which one defines what, what looks odd."""

import ast
import re
import symtable
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from course_lib.exercises.forbidden import executed_texts
from course_lib.exercises.spec import Exercise, exercises_of
from course_lib.grading.intake import NotebookCell, read_notebook
from course_lib.grading.sandbox.protocol import Cell
from course_lib.runtime import CourseError

SKIPPED_TAGS = frozenset({"experiment", "claim", "widget", "check", "record"})
# Beyond these a cell with magics is taken as it stands: rewriting takes time for each of them.
_MOST_REWRITTEN = 100_000
_MOST_MAGICS = 50
_MAGIC = re.compile(r"^\s*[%!?]|[%!?]\s*\S|\?\s*$", re.MULTILINE)
_MOST_QUOTED = 80
# What changes the cells after it: IPython's hooks, and Python's own.
_HOOKS = frozenset(
    {
        "ast_transformers",
        "input_transformers_cleanup",
        "input_transformers_post",
        "input_transformer_manager",
        "set_custom_exc",
        "meta_path",
        "path_hooks",
        "settrace",
        "setprofile",
        "__code__",
        "__globals__",
        "__closure__",
        "__defaults__",
    }
)
# With these a cell reaches for names by strings, so that its statements do not tell what they bind.
_BY_NAME = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr", "delattr"})
_BY_ATTRIBUTE = _HOOKS | {"__dict__", "__setattr__", "user_ns", "run_cell", "push", "modules"}
# Cell magics whose body is Python that runs in the notebook's own names.
_PYTHON_MAGIC = re.compile(r"\A\s*%%(?:time|capture|prun|python|py)\b[^\n]*")


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

    setups = [
        cell.source for cell in lesson.published if "setup" in cell.tags and cell.type == "code"
    ]
    runs = tuple(
        Cell(
            index,
            source,
            setup="setup" in own.get(_normal(source), frozenset())
            or any(_resembles(source, each) for each in setups),
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


def python_of(source: str) -> str:
    """Return a cell's source as plain Python, its magics and shell lines rewritten as calls."""
    return _short_python_of(source) if len(source) <= _MOST_REWRITTEN else source


@lru_cache(maxsize=4096)  # most cells of a class are the lesson's own
def _short_python_of(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    source = _PYTHON_MAGIC.sub("", source, count=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
        return source
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    if len(_MAGIC.findall(source)) > _MOST_MAGICS:  # each one costs a walk over the whole cell
        return source
    try:
        return TransformerManager().transform_cell(source)
    except Exception:  # the transformer meets anything at all; what it cannot read is left as it is
        return source


def patched_modules(source: str) -> list[tuple[str, int]]:
    """Return what bends a cell's surroundings, with the lines.

    That is assignments to attributes of imported modules (``torch.allclose = …``) and the use of hooks that
    change other cells.
    """
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
        if isinstance(node, ast.Attribute) and node.attr in _HOOKS:
            found.append((f"uses `{node.attr}`, which changes other code", node.lineno))
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
            if isinstance(target, ast.Attribute) and _root(target) in modules:
                try:
                    text = ast.unparse(target)
                except RecursionError:
                    text = f"{_root(target)}….{target.attr}"
                found.append((f"assigns to `{text[:_MOST_QUOTED]}`", node.lineno))  # type: ignore[attr-defined]
    return found


def lines_behind(source: str, names: Collection[str]) -> set[int] | None:
    """Return the lines of a cell that make the objects called ``names``, as far as the source tells.

    These are the statements that bind one of the names or something of theirs, and whatever those use.
    Statements that only use the objects, such as a comparison with a built-in, are left out. None stands for
    the whole cell: it does not parse, or reaches for names by strings.
    """
    tree = _tree(source)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _BY_NAME:
            return None
        if isinstance(node, ast.Attribute) and node.attr in _BY_ATTRIBUTE:
            return None
    lines: set[int] = set()
    needed, left = set(names), list(tree.body)
    grown = True
    while grown:
        behind = [each for each in left if _binds(each) & needed]
        left = [each for each in left if each not in behind]
        for each in behind:
            needed |= _used(each)
            decorators = getattr(each, "decorator_list", [])
            first = min([each.lineno, *(one.lineno for one in decorators)])
            lines |= set(range(first, (each.end_lineno or each.lineno) + 1))
        grown = bool(behind)
    return lines


def _used(statement: ast.stmt) -> set[str]:
    """Return the names of its cell that a top-level statement uses."""
    try:
        return _loaded(ast.unparse(statement))
    except RecursionError:
        return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _binds(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds in its cell, or changes something of."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            found.add(_root(node))
    return found - {""}


def _root(node: ast.AST) -> str:
    """Return the name at the beginning of ``name.a[0].b``."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _normal(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _resembles(source: str, published: str) -> bool:
    """Tell whether a cell begins like a published one, or holds most of its lines."""
    lines, original = (
        [line.strip() for line in text.splitlines() if line.strip()] for text in (source, published)
    )
    return bool(lines and original) and (
        lines[0] == original[0] or 2 * len(set(lines) & set(original)) > len(set(original))
    )


def _tree(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
    """Return the global names that a cell binds, also in strings that it executes."""
    tree = _tree(source) if "exec" in source else None
    executed = executed_texts(tree) if tree is not None else []
    inside = set().union(*(_bound_by(text) for text, _ in executed))
    return inside | _bound_by(source)


def _bound_by(source: str) -> set[str]:
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
