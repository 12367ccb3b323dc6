"""Cut finished parts out of their modules, so that a later exercise can be graded without an earlier one."""

import ast
import inspect
from collections.abc import Collection, Iterable
from pathlib import Path

from course_lib.exercises.spec import Exercise
from course_lib.grading.sandbox.protocol import Supplied


def finished_parts(
    exercises: Iterable[Exercise], answers: Collection[str], modules: dict[str, Path]
) -> tuple[Supplied, ...]:
    """Return the source of the exercises' finished objects and of what they need, and nothing else.

    Args:
        exercises: the exercises whose finished objects are wanted.
        answers: the modules that the sandbox does not have, so that parts of them travel along.
        modules: the files of all modules.

    """
    wanted: dict[str, dict[str, None]] = {}
    public: dict[str, list[str]] = {}
    for exercise in exercises:
        for name, thing in zip(exercise.defines, exercise.finished):
            module = inspect.getmodule(thing)
            assert module is not None
            wanted.setdefault(module.__name__, {})[name] = None
            public.setdefault(module.__name__, []).append(name)
    order: list[str] = []
    for module_name in list(wanted):
        _follow(module_name, wanted, order, answers, modules, ())
    return tuple(
        Supplied(name, _cut(modules[name], wanted[name])[0], tuple(public.get(name, ())))
        for name in order
    )


def _follow(
    name: str,
    wanted: dict[str, dict[str, None]],
    order: list[str],
    answers: Collection[str],
    modules: dict[str, Path],
    above: tuple[str, ...],
) -> None:
    """Add to ``wanted`` what the wanted parts of a module import from other answer modules."""
    for module, imported in _cut(modules[name], wanted[name])[1]:
        if module in answers and module not in above:
            wanted.setdefault(module, {})[imported] = None
            _follow(module, wanted, order, answers, modules, (*above, name))
    if name not in order:
        order.append(name)


def _cut(path: Path, names: Collection[str]) -> tuple[str, list[tuple[str, str]]]:
    """Return the statements of a module that ``names`` need, and what these import from where."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    statements = ast.parse(text).body
    needed, kept = set(names), set()
    grown = True
    while grown:
        grown = False
        for number, statement in enumerate(statements):
            future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
            if number not in kept and (future or _bound(statement) & needed):
                kept.add(number)
                if not isinstance(statement, (ast.Import, ast.ImportFrom)):
                    needed |= {
                        node.id for node in ast.walk(statement) if isinstance(node, ast.Name)
                    }
                grown = True
    pieces, imported = [], []
    for number in sorted(kept):
        statement = statements[number]
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            statement.names = [
                alias
                for alias in statement.names
                if (alias.asname or alias.name.split(".")[0]) in needed
                or getattr(statement, "module", None) == "__future__"
            ]
            pieces.append(ast.unparse(statement))
            if isinstance(statement, ast.ImportFrom) and statement.module:
                imported += [(statement.module, alias.name) for alias in statement.names]
            continue
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(each.lineno for each in decorators)])
        pieces.append("\n".join(lines[first - 1 : statement.end_lineno]))
    return "\n\n".join(pieces) + "\n", imported


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
