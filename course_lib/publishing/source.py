"""Reads a lesson's source, solutions/NN_slug.py, and says in one sentence what is wrong with it."""

import ast
import itertools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from course_lib.publishing.lessons import LessonFiles
from course_lib.runtime import CourseError

TAGS = frozenset(
    {
        "parameters",
        "setup",
        "exercise",
        "check",
        "experiment",
        "claim",
        "widget",
        "record",
        "nbval-check-output",
        "nbval-ignore-output",
    }
)
PARAMETERS = ("SEED", "SCALE", "DEVICE", "DATASET")
_MARKER = re.compile(r"^#\s*%%")
_FORMATTING = {"cell_marker", "lines_to_next_cell", "lines_to_end_of_cell_marker"}


@dataclass(frozen=True)
class Cell:
    """One cell of a lesson's source.

    Attributes:
        kind: "code" or "markdown".
        source: its text as written, imports to be written out included.
        tags: of `TAGS`.
        exercise: the exercise that an "exercise" or "check" cell belongs to, else "".
        id: what the cell is called in every notebook made from it.
        line: where its marker stands in the file, from 1.

    """

    kind: str
    source: str
    tags: tuple[str, ...]
    exercise: str
    id: str
    line: int


@dataclass(frozen=True)
class Source:
    """A lesson as its author wrote it."""

    files: LessonFiles
    text: str
    cells: tuple[Cell, ...]


def read_source(files: LessonFiles, exercises: Mapping[str, int]) -> Source:
    """Read and check a lesson's source.

    Args:
        files: the lesson.
        exercises: the points of each exercise that the lesson is specified to have, by name.

    Raises:
        CourseError: the source breaks one of the rules in docs/maintaining.md; the sentence names the line.

    """
    try:
        text = files.source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(
            f"{files.show(files.source)} cannot be read ({error}): it must be a UTF-8 text file."
        ) from error
    reader = _Reader(files, text)
    reader.check_python()
    cells = reader.read_cells()
    reader.check_parts(cells)
    reader.check_exercises(cells, exercises)
    return Source(files, text, cells)


def parse(text: str) -> ast.Module:
    """Parse Python and keep quiet about backslashes in strings (formulas have many)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def plain(text: str) -> str:
    """Return a cell's text with its magics and shell lines taken out, so that it is Python."""
    if text.lstrip().startswith("%%"):
        return ""
    return "\n".join("" if line.lstrip()[:1] in {"%", "!"} else line for line in text.splitlines())


class _Reader:
    """Holds what the rules below share: the file, its text, and how a sentence about it begins."""

    def __init__(self, files: LessonFiles, text: str) -> None:
        self.files = files
        self.text = text
        self.markers = [
            number for number, line in enumerate(text.splitlines(), start=1) if _MARKER.match(line)
        ]

    def fail(self, sentence: str, line: int | None = None) -> NoReturn:
        where = self.files.show(self.files.source)
        raise CourseError(f"{where}, line {line}: {sentence}" if line else f"{where}: {sentence}")

    def check_python(self) -> None:
        if not self.markers:
            self.fail(
                "this is not a notebook in percent format: begin each cell with a line "
                '"# %%" or "# %% [markdown]".'
            )
        for number, line in enumerate(self.text.splitlines()[: self.markers[0] - 1], start=1):
            if line.strip():
                self.fail(
                    'text stands before the first cell: begin it with "# %% [markdown]".', number
                )
        try:
            tree = parse(self.text)
        except SyntaxError as error:
            self.fail(
                f"this is not valid Python ({error.msg}): a lesson's source must run as it stands, "
                'so write a magic as a comment ("# %matplotlib inline").',
                error.lineno,
            )
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr | ast.Constant):
                continue
            for marker in self.markers:
                if node.lineno < marker <= (node.end_lineno or node.lineno):
                    self.fail(
                        'a string holds a line that begins with "# %%", which would cut the cell in '
                        "two: write that line otherwise.",
                        marker,
                    )

    def read_cells(self) -> tuple[Cell, ...]:
        import jupytext

        try:
            notebook = jupytext.reads(self.text, fmt="py:percent")
        except (TypeError, ValueError, AttributeError) as error:
            self.fail(
                f"a cell's marker cannot be read ({error}): tags must be a list of words, "
                'such as tags=["exercise"].'
            )
        if len(notebook.cells) != len(self.markers):
            self.fail(
                "its cells cannot be told apart: begin each one with a line of its own, # %%."
            )
        read = []
        ids = _Ids()
        for raw, line in zip(notebook.cells, self.markers, strict=True):
            metadata = {key: raw.metadata[key] for key in raw.metadata if key not in _FORMATTING}
            tags = metadata.pop("tags", [])
            exercise = metadata.pop("exercise", "")
            if metadata:
                self.fail(
                    f"the cell's marker says {_said(metadata)}, which is not understood: only "
                    'tags=["…"] and exercise="…" may stand there.',
                    line,
                )
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                self.fail('tags must be a list of words, such as tags=["exercise"].', line)
            for tag in tags:
                if tag not in TAGS:
                    self.fail(f'there is no tag "{tag}": use {", ".join(sorted(TAGS))}.', line)
            if not isinstance(exercise, str):
                self.fail('exercise must be a name, such as exercise="attention".', line)
            if raw.cell_type not in {"code", "markdown"}:
                self.fail(f"a cell is code or markdown, not {raw.cell_type}.", line)
            if tags and raw.cell_type != "code":
                self.fail("tags belong to code cells, and this one is markdown.", line)
            kinds = {"exercise", "check"}.intersection(tags)
            if bool(exercise) != bool(kinds) or len(kinds) > 1:
                self.fail(
                    'a cell tagged "exercise" or "check" names its exercise (exercise="…"), '
                    "and no other cell does.",
                    line,
                )
            if not raw.source.strip():
                self.fail("this cell is empty: remove it.", line)
            name = ids.of(raw.cell_type, raw.source, tags, exercise)
            read.append(Cell(raw.cell_type, raw.source, tuple(tags), exercise, name, line))
        return tuple(read)

    def check_parts(self, cells: tuple[Cell, ...]) -> None:
        if cells[0].kind != "markdown" or not cells[0].source.lstrip().startswith("# "):
            self.fail(
                "the first cell is markdown and begins with the title (# NN · …).", cells[0].line
            )
        code = [cell for cell in cells if cell.kind == "code"]
        for tag in ("parameters", "setup"):
            tagged = [cell for cell in code if tag in cell.tags]
            if not tagged:
                self.fail(f'there is no cell tagged "{tag}": every lesson has one.')
            if len(tagged) > 1:
                self.fail(f'a second cell is tagged "{tag}": a lesson has one.', tagged[1].line)
        if code[0].tags != ("parameters",) or "setup" not in code[1].tags:
            self.fail(
                'the first code cell is the one tagged "parameters", the second the one tagged "setup".',
                code[0].line,
            )
        assigned = {
            target.id: node.value
            for node in parse(plain(code[0].source)).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for name in PARAMETERS:
            if not isinstance(assigned.get(name), ast.Constant):
                self.fail(
                    f"the parameters cell must set {name} to a plain value: it holds "
                    f"{', '.join(PARAMETERS)}, one to a line.",
                    code[0].line,
                )
        starts = [
            keyword.value.value
            for node in ast.walk(parse(plain(code[1].source)))
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("start")
            for keyword in node.keywords
            if keyword.arg == "lesson" and isinstance(keyword.value, ast.Constant)
        ]
        if starts != [self.files.number]:
            self.fail(
                f"the setup cell must start this lesson: run = start(lesson={self.files.number}, …).",
                code[1].line,
            )

    def check_exercises(self, cells: tuple[Cell, ...], exercises: Mapping[str, int]) -> None:
        seen: dict[tuple[str, str], int] = {}
        for position, cell in enumerate(cells):
            if not cell.exercise:
                continue
            kind = "exercise" if "exercise" in cell.tags else "check"
            if cell.exercise not in exercises:
                known = ", ".join(exercises) or "none"
                self.fail(
                    f'there is no exercise "{cell.exercise}" in lesson {self.files.number:02d}: '
                    f"its specification has {known}.",
                    cell.line,
                )
            if (kind, cell.exercise) in seen:
                self.fail(f'a second {kind} cell for the exercise "{cell.exercise}".', cell.line)
            seen[kind, cell.exercise] = position
            if kind == "check":
                if ("exercise", cell.exercise) not in seen:
                    self.fail(
                        f'the check of "{cell.exercise}" stands before the exercise: move it after.',
                        cell.line,
                    )
                if cell.exercise not in _checked(cell.source):
                    self.fail(f'this cell must call check("{cell.exercise}").', cell.line)
        for name in exercises:
            for kind in ("exercise", "check"):
                if (kind, name) not in seen:
                    self.fail(
                        f'the exercise "{name}" has no {kind} cell: add one with '
                        f'# %% tags=["{kind}"] exercise="{name}".'
                    )


class _Ids:
    """Gives each cell its id: from its part in the lesson, else from its heading and the place under it."""

    def __init__(self) -> None:
        self.section = "start"
        self.used: set[str] = set()

    def of(self, kind: str, source: str, tags: list[str], exercise: str) -> str:
        for tag in ("exercise", "check"):
            if tag in tags:
                return self._free(re.sub(r"[^A-Za-z0-9_-]", "-", f"{tag}-{exercise}"))
        for tag in ("parameters", "setup"):
            if tag in tags:
                return self._free(tag)
        heading = re.search(r"^#{1,6}\s+(.+)$", source, flags=re.MULTILINE)
        if kind == "markdown" and heading:
            self.section = _slug(heading[1])
            return self._free(self.section)
        return self._numbered(self.section, first=1)

    def _free(self, wanted: str) -> str:
        if wanted in self.used:
            return self._numbered(wanted, first=2)
        self.used.add(wanted)
        return wanted

    def _numbered(self, stem: str, first: int) -> str:
        number = next(n for n in itertools.count(first) if f"{stem}-{n}" not in self.used)
        return self._free(f"{stem}-{number}")


def _slug(heading: str) -> str:
    # An id of nbformat: letters, digits, - and _, at most 64; 56 leaves room for a number.
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")[:56].strip("-") or "section"


def _checked(source: str) -> set[object]:
    return {
        node.args[0].value
        for node in ast.walk(parse(plain(source)))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "check"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def _said(metadata: dict[str, object]) -> str:
    return " ".join(
        str(value) if key == "title" else f"{key}={value}" for key, value in metadata.items()
    )
