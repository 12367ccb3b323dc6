"""Compare the outputs that a student's file holds with what the re-run gave: a flag for a human, never a mark."""

import ast
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from course_lib.grading.intake import NotebookCell
from course_lib.grading.notebook import EXACT, python_of

_CHECK = re.compile(r"\bcheck\(\s*[\"'](\w+)[\"']\s*\)")
_MOST_KEPT = 20_000
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def disagreements(
    published: Iterable[NotebookCell],
    cells: Sequence[NotebookCell],
    passed: Mapping[str, bool],
    defines: Mapping[str, Collection[str]],
    ran: Collection[int],
    printed: Sequence[str],
) -> list[str]:
    """Return a sentence for each saved output that the re-run does not confirm.

    Two kinds are compared, both only in cells whose source is the published one. What a cell tagged as exact
    by nature printed must be found in what the re-run printed, where the cell ran there without an error
    and uses nothing that comes from an exercise which is not right: in the student's notebook the lesson went
    on with the course's version of that. And where a saved card of `check` says right, the exercise must be.

    Args:
        published: the cells of the notebook as it was published.
        cells: the student's.
        passed: by exercise, whether it is right.
        defines: by exercise, the names that it defines.
        ran: the numbers, from 1, of the cells that ran without an error.
        printed: what each re-run printed, whole; none if it was cut off.

    """
    tags = {_normal(each.source): each.tags for each in published if each.type == "code"}
    rerun = [_text(each) for each in printed]
    doubtful = {name for each, right in passed.items() if not right for name in defines[each]}
    found = []
    for index, cell in enumerate(cells, start=1):
        if cell.type != "code":
            continue
        own = tags.get(_normal(cell.source), frozenset())
        if "check" in own:
            for name in _CHECK.findall(cell.source):
                says_right = f"✓ {name}: right" in cell.displayed.splitlines()
                if says_right and not passed.get(name, True):
                    found.append(
                        f"Cell {index}: the saved card says that `{name}` is right, the re-run that it is not."
                    )
            continue
        kept = len(cell.source) <= _MOST_KEPT
        used, bound = (_names if kept else _names.__wrapped__)(cell.source)
        if used & doubtful:
            doubtful |= bound
        elif EXACT in own and cell.printed.strip() and rerun and index in ran:
            saved = _text(cell.printed)
            if not any(saved in each for each in rerun):
                found.append(f"Cell {index}: the saved output is not what the re-run printed.")
    return found


@lru_cache(maxsize=4096)  # most cells of a class are the lesson's own
def _names(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return all names that a cell mentions, and those that it binds anywhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(python_of(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset(), frozenset()
    used, bound = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
            if not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(
            node.ctx, ast.Load
        ):
            bound |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return frozenset(used | bound), frozenset(bound)


def _normal(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _text(printed: str) -> str:
    return _ADDRESS.sub("0x…", _normal(printed))
