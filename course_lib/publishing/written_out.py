"""Replaces `from module import name  # course: write out` by the source of what it imports.

So a lesson's code and the package's are one text: the finished `attention` that later lessons import is the
one that lesson 07 writes out, and what a learner is asked to write is that same text, cut.
"""

import ast
import re
import symtable
import tokenize
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from course_lib.publishing.source import parse
from course_lib.runtime import CourseError

MARK = "course: write out"
BEGIN = "### BEGIN SOLUTION"
END = "### END SOLUTION"


@dataclass(frozen=True)
class Written:
    """One object whose source was written out.

    Attributes:
        module: where it is defined.
        name: what it is called.
        source: its text, without solution marks.
        borrowed: names of its module that it uses, and which the lesson must therefore have.

    """

    module: str
    name: str
    source: str
    borrowed: frozenset[str]


def write_out(cell: str, root: Path, *, exercise: bool) -> tuple[str, list[Written]]:
    """Return a cell's text with its marked imports replaced by source, and what was written out.

    Args:
        cell: the cell's text.
        root: the folder in which the modules are found.
        exercise: whether the bodies are to be put between solution marks. What stands after the
            docstring of each function and method is; marks in the module's own text narrow that.

    Raises:
        CourseError: a module or name is not there, or an import is written in another way.

    """
    if MARK not in cell:
        return cell, []
    lines = cell.splitlines()
    try:
        tree = parse(cell)
    except SyntaxError as error:
        raise CourseError(
            f"the cell that writes out code is not plain Python ({error.msg})."
        ) from error
    marked = {
        token.start[0]
        for token in tokenize.generate_tokens(StringIO(cell).readline)
        if token.type == tokenize.COMMENT and MARK in token.string
    }
    written: list[Written] = []
    for node in reversed(tree.body):
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if not marked.intersection(span):
            continue
        marked.difference_update(span)
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            raise CourseError(
                f'"# {MARK}" belongs behind an import: from course_lib.… import name.'
            )
        texts = []
        for alias in node.names:
            if alias.asname or alias.name == "*":
                raise CourseError(
                    f"`{ast.unparse(node)}` cannot be written out: import each object by its own name."
                )
            found = _find(root, node.module, alias.name)
            written.append(found[0])
            texts.append(_with_marks(found[1]) if exercise else found[0].source)
        lines[node.lineno - 1 : node.end_lineno] = "\n\n\n".join(texts).splitlines()
    if marked:
        raise CourseError(f'"# {MARK}" stands on a line of its own: put it behind the import.')
    return "\n".join(lines), written


def module_file(root: Path, module: str) -> Path | None:
    """Return the file of a module inside ``root``, or None."""
    stem = root.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


def bound_names(source: str) -> set[str]:
    """Return the names that a piece of top-level code binds."""
    table = symtable.symtable(source, "<cell>", "exec")
    return {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    }


def _find(root: Path, module: str, name: str) -> tuple[Written, str]:
    path = module_file(root, module)
    if path is None:
        raise CourseError(f"there is no module {module}, whose `{name}` is to be written out.")
    text = path.read_text(encoding="utf-8")
    tree = parse(text)
    for node in tree.body:
        if name in _defined(node):
            break
    else:
        raise CourseError(f"{module} defines no `{name}`, which is to be written out.")
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    lines = text.splitlines()
    last = node.end_lineno or node.lineno
    # Comments that end a body, an end mark among them, are not in the syntax tree.
    for number in range(last, len(lines)):
        if lines[number].strip() and not re.match(r"\s+#", lines[number]):
            break
        last = number + 1
    raw = "\n".join(lines[first - 1 : last]).rstrip()
    clean = "\n".join(line for line in raw.splitlines() if not _is_mark(line))
    borrowed = frozenset(_used_names(clean) & bound_names(text)) - {name}
    return Written(module, name, clean, borrowed), raw


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _used_names(source: str) -> set[str]:
    """Return the names that a piece of code takes from outside itself, annotations included."""
    used = set()
    tables = [symtable.symtable(source, "<source>", "exec")]
    while tables:
        table = tables.pop()
        tables.extend(table.get_children())
        used |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module")
        }
    return used - bound_names(source)


def _is_mark(line: str) -> bool:
    return "BEGIN SOLUTION" in line or "END SOLUTION" in line


def _with_marks(source: str) -> str:
    """Put the body of each function and method between solution marks, unless there are marks already."""
    lines = source.splitlines()
    if any(_is_mark(line) for line in lines):
        return source
    for node in sorted(_functions(parse(source).body), key=lambda each: -each.lineno):
        body = node.body
        if ast.get_docstring(node) is not None:
            body = body[1:]
        if not body:
            continue
        before = node.body[0].end_lineno if len(body) < len(node.body) else None
        first = _first_line(lines, before, body[0])
        if lines[body[0].lineno - 1][: body[0].col_offset].strip():
            raise CourseError(
                f"`{node.name}` has its body on the line of its def, so it cannot be cut for an "
                "exercise: give the body lines of its own."
            )
        indent = " " * body[0].col_offset
        lines.insert(node.end_lineno or node.lineno, indent + END)
        lines.insert(first - 1, indent + BEGIN)
    return "\n".join(lines)


def _first_line(lines: list[str], docstring_end: int | None, statement: ast.stmt) -> int:
    """Return the line (from 1) at which the cut begins: comments above the first statement go too."""
    if docstring_end is None:
        decorators = getattr(statement, "decorator_list", [])
        number = min([statement.lineno, *(each.lineno for each in decorators)])
        while lines[number - 2].strip().startswith("#"):
            number -= 1
        return number
    number = docstring_end + 1
    while not lines[number - 1].strip():
        number += 1
    return number


def _functions(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            found += _functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node)
    return found
