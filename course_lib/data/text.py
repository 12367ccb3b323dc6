"""Real English that every machine has: Python's own manual and the docstrings of its standard library.

The text is that of the Python that runs the course, so it differs between versions of Python and a little
between builds; a corpus names its version and gives the SHA-256 of its text.
"""

import ast
import functools
import gc
import hashlib
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from course_lib.data.registry import DataUnavailable
from course_lib.runtime import CourseError

LICENCE = "Python Software Foundation License 2"
# Tests and generated tables hold little English; the rest is packaged apart by some systems.
LEFT_OUT = {
    *("distutils", "encodings", "ensurepip", "idle_test", "idlelib", "lib2to3"),
    *("pydoc_data", "test", "tests", "tkinter", "turtledemo"),
}
SHORTEST_REPEAT = 40


@dataclass(frozen=True)
class Corpus:
    """A text made of documents (topics of the manual, or modules).

    ``source`` says where it is from, with the version of Python, and ``licence`` on what terms.
    """

    name: str
    documents: tuple[str, ...] = field(repr=False)
    source: str
    licence: str

    @functools.cached_property
    def text(self) -> str:
        """The documents in order, a blank line between them."""
        return "\n\n".join(self.documents)

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the text in UTF-8: equal where two machines have the same text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def split(self, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> tuple["Corpus", ...]:
        """Share out whole documents so that each part has about its fraction of the characters.

        The documents are dealt in the order of their SHA-256, each to the part that is furthest below its
        share, so the parts depend on the text alone. In a part they keep their order.

        Args:
            fractions: positive numbers that add up to 1, one for each part.

        Raises:
            CourseError: the fractions are not such numbers, or there are fewer documents than parts.

        """
        if not fractions or not min(fractions) > 0 or not abs(sum(fractions) - 1) < 1e-6:
            raise CourseError(
                f"A corpus is split by positive fractions that add up to 1, not by {tuple(fractions)}."
            )
        if len(self.documents) < len(fractions):
            raise CourseError(
                f"{self.name} has {len(self.documents)} documents, too few for {len(fractions)} parts."
            )
        size = sum(map(len, self.documents))
        room = [fraction * size for fraction in fractions]
        part_of: dict[int, int] = {}
        by_hash = sorted(
            range(len(self.documents)),
            key=lambda i: hashlib.sha256(self.documents[i].encode("utf-8")).digest(),
        )
        for i in by_hash:
            part = max(range(len(room)), key=room.__getitem__)
            part_of[i] = part
            room[part] -= len(self.documents[i])
        return tuple(
            Corpus(
                f"{self.name}, part {part + 1} of {len(fractions)}",
                tuple(text for i, text in enumerate(self.documents) if part_of[i] == part),
                self.source,
                self.licence,
            )
            for part in range(len(fractions))
        )


@functools.cache
def python_manual() -> Corpus:
    """Return the reference manual that ``help()`` shows, a document per topic (about 0.4 million characters).

    Underlines of headings are taken out, and a paragraph that several topics share stands once.

    Raises:
        DataUnavailable: this Python came without the manual's text.

    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataUnavailable(
            "This Python came without its manual (the module pydoc_data.topics): install Python in full, "
            "from python.org, conda or your system's complete package."
        ) from error
    documents = _without_repeats(_paragraphs(topics[name]) for name in sorted(topics))
    return Corpus("the Python manual", documents, _version("pydoc_data.topics"), LICENCE)


@functools.cache
def stdlib_docstrings() -> Corpus:
    """Return the standard library's docstrings, a document per module (about 1.2 million characters).

    The modules' files are parsed, none is imported. Doctest examples are taken out, and a paragraph that
    stands more than once is kept where it stands first.

    Raises:
        DataUnavailable: the library's source files are not on this machine.

    """
    folder = Path(sysconfig.get_path("stdlib"))
    # The trees of 400 files are millions of objects: searching them for cycles takes a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        modules = [_docstrings(file) for file in _modules(folder)]
    finally:
        if collecting:
            gc.enable()
    documents = _without_repeats(_paragraphs("\n\n".join(found)) for found in modules)
    if not documents:
        raise DataUnavailable(
            f"The source files of Python's standard library are not in {folder}: install Python in full, "
            "from python.org, conda or your system's complete package."
        )
    return Corpus("the standard library's docstrings", documents, _version("docstrings"), LICENCE)


@functools.cache
def python_docs() -> Corpus:
    """Return the manual and the docstrings as one corpus (about 1.6 million characters).

    Raises:
        DataUnavailable: this Python came without one of the two.

    """
    manual, docstrings = python_manual(), stdlib_docstrings()
    return Corpus(
        "the Python manual and the standard library's docstrings",
        manual.documents + docstrings.documents,
        _version("pydoc_data.topics and docstrings"),
        LICENCE,
    )


def _version(what: str) -> str:
    return f"{what} of {platform.python_implementation()} {platform.python_version()}"


def _modules(folder: Path) -> Iterator[Path]:
    """Yield the standard library's source files in an order that no file system decides."""
    for root, folders, files in os.walk(folder):
        within = Path(root).relative_to(folder).parts
        folders[:] = sorted(name for name in folders if _belongs((*within, name)))
        for file in sorted(files):
            if file.endswith(".py") and _belongs((*within, file.removesuffix(".py"))):
                yield Path(root, file)


def _belongs(parts: tuple[str, ...]) -> bool:
    """Whether a dotted name is the standard library's: its folder also holds what users and systems add."""
    return parts[0] in sys.stdlib_module_names and parts[-1] not in LEFT_OUT


def _docstrings(file: Path) -> list[str]:
    try:
        source = file.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            return []
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        # A file that this Python cannot read or parse (broken on purpose, or another version's) has no text.
        return []
    return [text for scope in _scopes(tree) if (text := ast.get_docstring(scope))]


_Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _scopes(scope: _Scope) -> Iterator[_Scope]:
    """Yield a module, class or function and those defined directly in it."""
    yield scope
    for statement in scope.body:
        if isinstance(statement, _Scope):
            yield from _scopes(statement)


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text without underlines, rulers and doctest examples."""
    text = re.sub(r"^[ \t]*([*=\-~^\"#_])\1{2,}[ \t]*$", "", text, flags=re.MULTILINE)
    paragraphs = re.split(r"\n\s*\n", text.expandtabs())
    kept = []
    for paragraph in paragraphs:
        # An example runs from its prompt to the next blank line.
        prose = re.split(r"^\s*>>>", paragraph, maxsplit=1, flags=re.MULTILINE)[0]
        lines = [line.rstrip() for line in prose.split("\n") if line.strip()]
        if lines:
            kept.append("\n".join(lines))
    return kept


def _without_repeats(documents: Iterable[list[str]]) -> tuple[str, ...]:
    """Join each document's paragraphs, leaving out long ones seen before and documents left empty."""
    seen: set[str] = set()
    kept = []
    for paragraphs in documents:
        new = []
        for paragraph in paragraphs:
            if len(paragraph) < SHORTEST_REPEAT or paragraph not in seen:
                new.append(paragraph)
            seen.add(paragraph)
        if any(len(paragraph) >= SHORTEST_REPEAT for paragraph in new):
            kept.append("\n\n".join(new))
    return tuple(kept)
