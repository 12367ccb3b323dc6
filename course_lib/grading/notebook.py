"""Read a student's notebook as source code: which cells run, which one defines what, what looks odd."""

import ast
import re
import symtable
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from course_lib.exercises.forbidden import executed_texts
from course_lib.exercises.spec import Exercise, exercises_of
from course_lib.grading.intake import NotebookCell, read_notebook
from course_lib.grading.sandbox.protocol import Cell
from course_lib.runtime import CourseError

EXACT = "nbval-check-output"
# Of the lesson's own cells these run, and what they need: `EXACT` ones for their outputs to be compared.
RUNNING_TAGS = frozenset({"setup", "exercise", EXACT})
# Beyond these a cell with magics is taken as it stands: rewriting takes time for each of them.
_MOST_REWRITTEN = 100_000
_MOST_MAGICS = 50
_MAGIC = re.compile(r"^\s*[%!?]|[%!?]\s*\S|\?\s*$", re.MULTILINE)
_MOST_QUOTED = 80
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = frozenset({"listcomp", "setcomp", "dictcomp", "genexpr"})
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

    Of the lesson's own cells, setup, exercises and those with exact outputs run; figures, experiments, claims,
    views and checks do not. Which cells are its own is told by the source, since ids, tags and order in the
    student's file prove nothing. What a cell that runs uses is there: the cells run, too, that bind its names
    or change what they stand for.
    """
    own = {_normal(cell.source): cell.tags for cell in lesson.published if cell.type == "code"}
    code = [
        (index, cell.source)
        for index, cell in enumerate(cells, start=1)
        if cell.type == "code" and cell.source.strip()
    ]
    names = {index: _names(source) for index, source in code}
    checks = {index for index in names if names[index].is_check}
    running = {
        index for index, source in code if own.get(_normal(source), RUNNING_TAGS) & RUNNING_TAGS
    }
    running = _with_what_they_need(running, {i: names[i] for i in names if i not in checks})

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
        if index in running
    )
    definitions: dict[str, list[Definition]] = {}
    elsewhere: dict[str, list[NotebookCell]] = {}
    for exercise in lesson.exercises:
        wanted = set(exercise.defines)
        definitions[exercise.name] = [
            Definition(index, source)
            for index, source in code
            if names[index].bound & wanted
            and "exercise" in own.get(_normal(source), frozenset({"exercise"}))
            and index not in checks
        ]
        elsewhere[exercise.name] = [
            cell
            for index, cell in enumerate(cells, start=1)
            if (cell.type != "code" or index not in names or not names[index].parses)
            and any(f"{word} {name}" in cell.source for word in ("def", "class") for name in wanted)
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
        _, now, later = _symbols(ast.unparse(statement))
        return now | later
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


@dataclass(frozen=True)
class _Names:
    """The global names of a cell.

    Attributes:
        bound: those that it binds, also in strings that it executes.
        surely: those of them that it binds whatever happens before.
        imported: those of them that it imports.
        changed: those whose objects it may change in place.
        now: those that it uses while it runs, and before it binds them itself.
        later: those that its functions and classes use.
        parses: whether it is Python at all.
        is_check: whether it is nothing but a call of `check`.

    """

    bound: frozenset[str] = frozenset()
    surely: frozenset[str] = frozenset()
    imported: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    parses: bool = True
    is_check: bool = False


def _names(source: str) -> _Names:
    return _short_names(source) if len(source) <= _MOST_REWRITTEN else _any_names(source)


@lru_cache(maxsize=4096)  # most cells of a class are the lesson's own
def _short_names(source: str) -> _Names:
    return _any_names(source)


def _any_names(source: str) -> _Names:
    tree = _tree(source)
    if tree is None:
        return _Names(parses=False)
    bound, now, later = _symbols(source)
    for text, _ in executed_texts(tree) if "exec" in source else ():
        bound |= _symbols(text)[0]
    surely, imported, changed = set[str](), set[str](), set[str]()
    used = _used_first(tree.body, surely)
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            imported |= _binds(statement)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            changed.add(_root(node))
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
        ):
            changed.add(_root(node.value.func))  # such as table.append(…)
    return _Names(
        frozenset(bound),
        frozenset(surely & bound),
        frozenset(imported),
        frozenset(changed - {""}),
        frozenset(now & used),
        frozenset(later),
        is_check=_is_check(tree),
    )


def _used_first(statements: Sequence[ast.stmt], bound: set[str]) -> set[str]:
    """Return the names that statements use before they bind them, and add to ``bound`` those that they bind.

    What stands inside of functions is left out. A loop is taken to run at least once; what an `if` or a `try`
    binds is not counted as bound after it.
    """
    used: set[str] = set()

    def use(*nodes: ast.AST | None) -> None:
        for node in nodes:
            used.update(_read(node) - bound if node is not None else ())

    for each in statements:
        blocks = [getattr(each, name, []) for name in ("body", "orelse", "finalbody")]
        blocks += [one.body for one in getattr(each, "handlers", [])]
        if isinstance(each, (ast.For, ast.AsyncFor)):
            use(each.iter)
            bound |= _written(each.target)
            used |= _used_first(each.body, bound) | _used_first(each.orelse, set(bound))
        elif isinstance(each, (ast.With, ast.AsyncWith)):
            for item in each.items:
                use(item.context_expr)
                bound |= _written(item.optional_vars)
            used |= _used_first(each.body, bound)
        elif isinstance(each, (ast.If, ast.While, ast.Try)):
            use(getattr(each, "test", None))
            for block in blocks:
                used |= _used_first(block, set(bound))
        elif isinstance(each, ast.ClassDef):
            use(*each.decorator_list, *each.bases, *each.keywords)
            used |= _used_first(each.body, set(bound))
            bound.add(each.name)
        else:
            use(each)
            bound |= _binds(each) if isinstance(each, _NAMED) else _written(each)
    return used


def _read(node: ast.AST) -> set[str]:
    """Return the names that something reads, without those inside its functions and of its comprehensions."""
    found, own = set[str](), set[str]()
    queue = [node]
    while queue:
        each = queue.pop()
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Store):
            found.add(each.id)
        elif isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name):
            found.add(each.target.id)
        elif isinstance(each, ast.comprehension):
            own |= _written(each.target)
        later = getattr(each, "body", []) if isinstance(each, _FUNCTIONS) else []
        later = later if isinstance(later, list) else [later]
        queue += [one for one in ast.iter_child_nodes(each) if one not in later]
    return found - own


def _written(node: ast.AST | None) -> set[str]:
    """Return the names that something binds, other than by `def`, `class` and `import`."""
    return {
        each.id
        for each in (ast.walk(node) if node is not None else ())
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def _symbols(source: str) -> tuple[set[str], set[str], set[str]]:
    """Return the global names that a cell binds, those that it uses, and those that its functions use."""
    bound, now, later = set[str](), set[str](), set[str]()
    for table in _tables(source):
        top = table.get_type() == "module"
        uses = now if top or table.get_name() in _COMPREHENSIONS else later
        for symbol in table.get_symbols():
            name = symbol.get_name()
            if (symbol.is_assigned() or symbol.is_imported()) and (
                top or symbol.is_declared_global()
            ):
                bound.add(name)
            if symbol.is_referenced() and (top or symbol.is_global()):
                uses.add(name)
    return bound, now, later


def _with_what_they_need(running: set[int], names: Mapping[int, _Names]) -> set[int]:
    """Return the cells that run, and those that bind, or change, what they use.

    What a cell uses while it runs comes from the last cell before it that binds the name for sure, and from
    those in between. What its functions use may come from any cell.
    """
    bound = set().union(*(each.bound - each.imported for each in names.values()))
    by_name: dict[str, list[int]] = {}
    for index, each in names.items():
        for name in each.bound | (
            each.changed & bound
        ):  # who calls a module's functions leaves it as it is
            by_name.setdefault(name, []).append(index)
    found, queue = set(running), list(running)
    while queue:
        index = queue.pop()
        if index not in names:
            continue
        needed: set[int] = set()
        for name in names[index].now:
            binders = by_name.get(name, [])
            before = [each for each in binders if each < index]
            for binder in reversed(before):
                needed.add(binder)
                if name in names[binder].surely:
                    break
            if not before:
                needed |= set(binders)
        for name in names[index].later:
            needed |= set(by_name.get(name, ()))
        queue += needed - found
        found |= needed
    return found


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
