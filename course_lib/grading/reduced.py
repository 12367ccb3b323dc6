"""The course_lib that a student's code meets: without this lesson's answers and all that imports them."""

import ast
import compileall
import inspect
import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from course_lib.exercises.spec import Exercise

PACKAGE = Path(__file__).resolve().parents[1]
_KEPT = ("runtime", "data", "models", "training", "posttraining", "figures", "widgets")
_SHARED = ("exercises/values.py", "exercises/probing.py", "exercises/probes/__init__.py")
_NO_CODE = '"""Part of the course that the grader leaves out."""\n'
_STAND_IN = '''"""Stand-ins for what notebooks call: the grader's check comes later and elsewhere."""

import sys
from typing import Any

_DEFINES: dict[str, tuple[str, ...]] = {defines!r}


def check(name: str) -> Any:
    """Return what the caller has under the exercise's names."""
    namespace = sys._getframe(1).f_globals
    found = tuple(namespace.get(each) for each in _DEFINES.get(name, (name,)))
    return found[0] if len(found) == 1 else found


def hint(name: str, number: int | None = None) -> None:
    """Do nothing."""


def record(name: str, value: Any) -> None:
    """Do nothing."""


def recorded(name: str, lesson: int | None = None) -> Any:
    """Know no record."""
    return None


def predict(name: str, question: str, options: Any, answer: int, because: str) -> None:
    """Do nothing."""


def claim(
    text: str,
    *,
    measured: float,
    at_least: float | None = None,
    at_most: float | None = None,
    equals: float | None = None,
    between: tuple[float, float] | None = None,
    breaks_when: Any = None,
    timing: bool = False,
) -> None:
    """Judge nothing."""
'''


def modules_of(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the files of a package's modules by dotted name; packages go by the name of their folder."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return the modules among ``known`` that the module ``name`` imports anywhere in its file."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return {each for each in found if each in known} - {name}


@cache
def _graph(package: Path) -> tuple[dict[str, Path], dict[str, set[str]]]:
    """Return a package's modules and what each imports; read once, since it takes a second."""
    known = modules_of(package)
    return known, {name: imports_of(name, path, known) for name, path in known.items()}


def answer_modules(exercises: Iterable[Exercise], package: Path = PACKAGE) -> set[str]:
    """Return the modules that define the exercises' finished parts, and all that import one of them."""
    known, imports = _graph(package)
    answers = set()
    for exercise in exercises:
        for thing in exercise.finished:
            module = inspect.getmodule(thing)
            if module is not None and module.__name__ in known:
                answers.add(module.__name__)
    grown = True
    while grown:
        more = {name for name, used in imports.items() if used & answers} - answers
        answers |= more
        grown = bool(more)
    return answers


def build(
    lesson: int, exercises: Iterable[Exercise], folder: Path, package: Path = PACKAGE
) -> Path:
    """Write the reduced package below ``folder`` and return ``folder``, which goes on sys.path.

    Kept are runtime, data, models, training, posttraining, figures and widgets, less the answer modules;
    of the exercises how values are carried and probes called, this lesson's probes, and stand-ins for
    check, hint, claim and predict.
    """
    exercises = tuple(exercises)
    left_out = answer_modules(exercises, package)
    root = folder / package.name
    root.mkdir(parents=True)
    (root / "__init__.py").write_text(_NO_CODE)
    for name in _KEPT:
        source = package / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in left_out:
        path = root / modules_of(package)[name].relative_to(package)
        if path.name == "__init__.py" and path.exists():
            path.write_text(_NO_CODE)
        else:
            path.unlink(missing_ok=True)
    for part in (*_SHARED, f"exercises/probes/lesson_{lesson:02d}.py"):
        if (package / part).exists():
            (root / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(package / part, root / part)
    defines = {exercise.name: exercise.defines for exercise in exercises}
    stand_in = _STAND_IN.replace("{defines!r}", repr(defines))
    (root / "exercises" / "__init__.py").write_text(stand_in)
    compileall.compile_dir(str(root), quiet=2)
    return folder
