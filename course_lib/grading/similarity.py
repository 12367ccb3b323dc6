"""Find pairs of students whose code is nearly identical, measured against their class: a flag, never a mark.

Fingerprints are chosen by winnowing (Schleimer, Wilkerson and Aiken, "Winnowing: local algorithms for document
fingerprinting", SIGMOD 2003, section 4) over tokens from which names of locals, comments, docstrings and
annotations are gone.
"""

import ast
import io
import math
import sys
import tokenize
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, triu

from course_lib.grading.notebook import python_of

GRAM = 8  # tokens of one fingerprint
WINDOW = 4  # so that 11 equal tokens in a row always leave a common fingerprint
LEAST_STUDENTS, MOST_STUDENTS = 5, 5000
LEAST_SHARED = 12
LEAST_SIMILARITY = 0.6
SPREADS = 6.0
LEAST_SPREAD = 0.05
COMMON_SHARE = 0.15
COMMON_STUDENTS, MOST_COMMON = 4, 50
_MOST_TOKENS = 5_000
_LEFT_OUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}

Prints = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Pair:
    """Two students whose code is more alike than the class's.

    Attributes:
        students: the two.
        similarity: from 0 to 1, the share of the shorter one's rare fingerprints that the other has too.
        shared: how many they share.
        exercises: where.

    """

    students: tuple[str, str]
    similarity: float
    shared: int
    exercises: tuple[str, ...]


@dataclass(frozen=True)
class Similarities:
    """The pairs that stand out, most alike first, and the similarity that a pair had to reach.

    ``threshold`` is None where the class is too small, or too large, to be compared.
    """

    pairs: tuple[Pair, ...]
    threshold: float | None


def stand_out(
    code: Mapping[str, Mapping[str, str]],
    common: Mapping[str, Sequence[str]],
    origins: Mapping[str, str],
) -> Similarities:
    """Return the pairs of students whose code is alike beyond what is usual in this class.

    Left out are fingerprints of ``common`` and those that more than 15 % of the class and more than four
    students, or more than fifty, have. The others weigh the more the fewer have them. A pair is reported if
    the two share twelve or more, if these are 60 % or more of the lesser one's by weight, and if that is at
    least six times the class's spread (median absolute deviation over all pairs) above the class's median.

    Args:
        code: by student and exercise, the cell that defines it.
        common: by exercise, sources that everyone may have: the published stub, the course's answer.
        origins: by student, where the notebook was found; a group's members have the same one.

    """
    files = {origins.get(student, student) for student in code}
    if not LEAST_STUDENTS <= len(files) <= MOST_STUDENTS:
        return Similarities((), None)
    known = {name: set().union(*map(fingerprints, each)) for name, each in common.items()}
    prints: dict[str, Prints] = {}
    for student, cells in code.items():
        prints[student] = frozenset(
            (exercise, each)
            for exercise, source in cells.items()
            for each in fingerprints(source) - known.get(exercise, set())
        )
    # A group hands in once, so it counts once.
    by_file = {origins.get(student, student): each for student, each in prints.items()}
    counts = Counter(each for found in by_file.values() for each in found)
    most = max(COMMON_STUDENTS, min(COMMON_SHARE * len(files), MOST_COMMON))
    weights = {each: math.log(len(files) / n) for each, n in counts.items() if n <= most}
    students = sorted(prints)
    rare = [prints[student] & weights.keys() for student in students]
    first, second, similarity = _similarities(rare, weights)
    own = [origins.get(student, student) for student in students]
    apart = np.array([own[i] != own[j] for i, j in zip(first, second)], dtype=bool)
    first, second, similarity = first[apart], second[apart], similarity[apart]
    threshold = _threshold(similarity, len(students) * (len(students) - 1) // 2)
    pairs = []
    for at in np.flatnonzero(similarity >= threshold):
        i, j = int(first[at]), int(second[at])
        both = rare[i] & rare[j]
        if len(both) >= LEAST_SHARED:
            where = tuple(sorted({exercise for exercise, _ in both}))
            alike = min(1.0, float(similarity[at]))
            pairs.append(Pair((students[i], students[j]), alike, len(both), where))
    pairs.sort(key=lambda each: (-each.similarity, -each.shared, each.students))
    return Similarities(tuple(pairs), threshold)


def _similarities(
    rare: Sequence[Prints], weights: Mapping[tuple[str, int], float]
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the pairs that share anything, as two arrays of places, and how alike each is."""
    columns = {each: number for number, each in enumerate(weights)}
    indices = [columns[each] for found in rare for each in found]
    ends = np.cumsum([0, *(len(found) for found in rare)])
    has = csr_array((np.ones(len(indices)), indices, ends), shape=(len(rare), len(columns)))
    weighted = has * np.array(list(weights.values()))[None, :]  # (students, fingerprints)
    common = triu(csr_array(weighted) @ has.T, k=1).tocoo()  # (students, students)
    sizes = np.asarray(weighted.sum(axis=1)).ravel()
    first, second = common.coords
    return first, second, common.data / np.minimum(sizes[first], sizes[second])


def _threshold(similarities: NDArray, pairs: int) -> float:
    """Return how alike a pair must be; pairs that are not among ``similarities`` have nothing in common."""
    middle = spread = 0.0
    if 2 * len(similarities) >= pairs:
        everyone = np.zeros(pairs)
        everyone[: len(similarities)] = similarities
        middle = float(np.median(everyone))
        spread = 1.4826 * float(np.median(np.abs(everyone - middle)))
    return max(LEAST_SIMILARITY, middle + SPREADS * max(spread, LEAST_SPREAD))


def fingerprints(source: str) -> set[int]:
    """Return the fingerprints of a cell: the least hash of each window of token sequences."""
    tokens = normalised(source)
    hashes = [
        zlib.crc32("\x00".join(tokens[at : at + GRAM]).encode(errors="replace"))
        for at in range(len(tokens) - GRAM + 1)
    ]
    if len(hashes) <= WINDOW:
        return {min(hashes)} if hashes else set()
    return {min(hashes[at : at + WINDOW]) for at in range(len(hashes) - WINDOW + 1)}


@lru_cache(maxsize=2048)
def normalised(source: str) -> tuple[str, ...]:
    """Return a cell's tokens without what a copyist changes: locals' names, comments, layout, annotations.

    What does not parse has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(python_of(source))
        text = ast.unparse(ast.fix_missing_locations(_Plain(_local_names(tree)).visit(tree)))
        tokens = tuple(
            sys.intern(each.string)
            for each in tokenize.generate_tokens(io.StringIO(text).readline)
            if each.type not in _LEFT_OUT
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return ()
    return tokens[:_MOST_TOKENS]


def _local_names(tree: ast.AST) -> set[str]:
    """Return the names that the cell binds itself: parameters, variables, and attributes that it sets."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(f".{node.attr}")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
    return found


class _Plain(ast.NodeTransformer):
    """Replaces local names by one sign, and drops annotations, docstrings and decorators' layout."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name("v", node.ctx), node) if node.id in self._names else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if f".{node.attr}" in self._names:
            node.attr = "v"
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg("v", None)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.generic_visit(node)
        if node.arg in self._names:
            node.arg = "v"
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is None:
            return ast.Pass()
        return ast.Assign([node.target], node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def _body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        node.body = [
            each
            for each in node.body
            if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        ] or [ast.Pass()]
        if node.name in self._names:
            node.name = "v"
        self.generic_visit(node)
        return node
