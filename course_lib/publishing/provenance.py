"""What a record says about its own making: the hash of the code behind it, and the machine."""

import ast
import hashlib
import os
import platform
import tokenize
from io import StringIO
from pathlib import Path
from typing import Any

from course_lib.publishing.source import Source, parse
from course_lib.publishing.written_out import module_file

# These show what was measured and measure nothing: a new colour makes no record stale.
_SHOWING = ("course_lib.exercises", "course_lib.figures", "course_lib.widgets")


def source_hash(source: Source, *, with_records: bool = True) -> str:
    """Return the SHA-256 of all code that a lesson's figures depend on.

    That is: the lesson's code cells, every module of course_lib that they import (those whose source is
    written out among them), and what those import, transitively; and the lesson's records, which claims
    may read. Prose, comments, docstrings and blank lines do not count, nor do course_lib.exercises,
    figures and widgets.

    Args:
        source: the lesson.
        with_records: whether the lesson's own records count.

    """
    # Markdown cells are strings that stand alone or comments, so they go with the docstrings.
    parts = {"": code_text(source.text)}
    for module, path in imported_modules(source.text, source.files.root).items():
        parts[module] = code_text(path.read_text(encoding="utf-8"))
    records = source.files.records
    if with_records and records.exists():
        parts["records"] = records.read_text(encoding="utf-8")
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name}\n{parts[name]}\n".encode())
    return digest.hexdigest()


def imported_modules(code: str, root: Path) -> dict[str, Path]:
    """Return the course's modules that a piece of code imports, transitively, with their files."""
    found: dict[str, Path] = {}
    pending = _imports(parse(code))
    while pending:
        name = pending.pop()
        # `from package.module import name`: the name may be a module too, or something inside one.
        for module in (name, *_parents(name)):
            if module in found or module == "course_lib" or module.startswith(_SHOWING):
                continue
            path = module_file(root, module)
            if path is not None:
                found[module] = path
                pending |= _imports(parse(path.read_text(encoding="utf-8")))
    return found


def code_text(source: str) -> str:
    """Return Python code without its comments, docstrings and blank lines.

    It is cut from the text, not printed from the tree, so that every version of Python gives the same.
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            for row in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def machine() -> dict[str, Any]:
    """Return what a reader must know of this machine to judge a figure: processor, cores, versions."""
    import torch

    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "course_lib"}


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
