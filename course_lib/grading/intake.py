"""Collect submissions from folders, files and the zips of Canvas and Moodle; read notebooks defensively."""

import hashlib
import json
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from course_lib.runtime import CourseError

MOST_NOTEBOOK_BYTES = 32 * 2**20
MOST_CELLS = 5_000
MOST_SOURCE = 2 * 2**20
MOST_ZIP_ENTRIES = 20_000
MOST_ZIP_BYTES = 4 * 2**30

# What editors and systems leave lying about; any other name may be a student's.
_CLUTTER = frozenset({".ipynb_checkpoints", ".git", ".venv", "__MACOSX", "__pycache__"})
_CANVAS = re.compile(
    r"^(?P<name>[^_/]+)_(?P<late>LATE_)?(?P<id>\d+)_(?P<submission>\d+)_(?P<file>.+)$"
)
_MOODLE = re.compile(r"^(?P<name>[^_/]+)_(?P<id>\d+)_assignsubmission_file(?:_(?P<file>[^/]*))?$")


@dataclass(frozen=True)
class NotebookCell:
    """A cell of a notebook: "code" or another type, its source, its tags."""

    type: str
    source: str
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Submission:
    """One student's notebook, or why there is none.

    Attributes:
        student: names the student in files and commands: letters, digits, "-", "_" and "."; unique.
        name: the name as it was found.
        lms_id: the number that Canvas or Moodle gave; empty where the name holds none.
        origin: where the notebook was found.
        data: the file's bytes; empty where ``problem`` says why.
        submitted: the file's time, in local time; None if unknown.
        late: Canvas marked it late.
        problem: a sentence, where the file could not be taken in; else "".

    """

    student: str
    name: str
    lms_id: str
    origin: str
    data: bytes
    submitted: datetime | None = None
    late: bool = False
    problem: str = ""

    @property
    def sha256(self) -> str:
        """The fingerprint of the notebook's bytes (of the problem, where there are none)."""
        return hashlib.sha256(self.data or self.problem.encode()).hexdigest()


@dataclass(frozen=True)
class _Found:
    """A notebook before its student is known to be its only one."""

    name: str
    lms_id: str
    file: str
    origin: str
    data: bytes
    submitted: datetime | None
    late: bool
    problem: str


def collect(paths: Sequence[Path], lesson: int) -> list[Submission]:
    """Return one submission for each student found under ``paths``, in order of their names.

    A path is a folder of students (each a folder with a notebook, at any depth; or notebooks side by
    side), a notebook, or a zip from Canvas or Moodle. Where a student has several notebooks, the one
    whose name begins with the lesson's number is taken, and of Canvas's numbered versions the newest.

    Raises:
        CourseError: a path is not there or is none of these, or there is no notebook in any of them.

    """
    found: list[_Found] = []
    for path in paths:
        if path.is_dir():
            found += _from_folder(path)
        elif path.suffix.lower() == ".zip" and path.is_file():
            found += _from_zip(path)
        elif path.suffix.lower() == ".ipynb" and path.exists():
            found.append(_from_file(path, path.name, path.stem))
        elif not path.exists():
            raise CourseError(
                f"{path} does not exist: give a folder of students, notebooks or a zip."
            )
        else:
            raise CourseError(f"{path} is no folder, notebook (.ipynb) or zip: give one of these.")
    if not found:
        raise CourseError(
            f"No notebook (.ipynb) was found in {', '.join(map(str, paths))}: "
            "give the folder that holds the students' folders or files."
        )
    by_student: dict[tuple[str, str], list[_Found]] = {}
    for each in found:
        by_student.setdefault((each.name, each.lms_id), []).append(each)
    taken: dict[str, int] = {}
    submissions = []
    for (name, lms_id), several in sorted(by_student.items()):
        student = _safe_name(f"{name}_{lms_id}" if lms_id else name)
        taken[student.casefold()] = taken.get(student.casefold(), 0) + 1
        if taken[student.casefold()] > 1:
            student = f"{student}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"
        one = _choose(several, lesson)
        submissions.append(
            Submission(
                student,
                _printable(name),
                lms_id,
                _printable(one.origin),
                one.data,
                one.submitted,
                one.late,
                one.problem,
            )
        )
    return submissions


def read_notebook(path: Path) -> list[NotebookCell]:
    """Return the cells of a notebook file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no notebook; the message is a sentence.

    """
    data, problem, _ = _read_file(path)
    if problem:
        raise ValueError(problem)
    return parse_notebook(data)


def parse_notebook(data: bytes) -> list[NotebookCell]:
    """Return the cells that a notebook's bytes hold: nbformat 4 or 3, UTF-8 or UTF-16, with or without BOM.

    Raises:
        ValueError: it is no notebook; the message is a sentence that a student can act on.

    """
    if not data.strip():
        raise ValueError("The file is empty: save the notebook and submit it again.")
    if len(data) > MOST_NOTEBOOK_BYTES:
        raise ValueError(
            f"The file is larger than {MOST_NOTEBOOK_BYTES >> 20} MB: clear the outputs and submit it again."
        )
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise ValueError("The file is not text: submit the .ipynb file itself.") from error
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("The file is nested too deeply to be a notebook.") from error
    except ValueError as error:
        raise ValueError(
            "The file is not JSON, so it is no notebook or was cut off: submit the .ipynb file again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError("The file is JSON but no notebook: submit the .ipynb file itself.")
    version = content.get("nbformat")
    if version == 4:
        cells, key = content.get("cells"), "source"
    elif version == 3 and isinstance(content.get("worksheets"), list):
        cells = [
            cell
            for sheet in content["worksheets"]
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)
            for cell in sheet["cells"]
        ]
        key = "input"
    else:
        raise ValueError(
            "The file has no notebook format that is known (4, or 3): open it in JupyterLab and save it."
        )
    if not isinstance(cells, list):
        raise ValueError("The notebook has no list of cells: open it in JupyterLab and save it.")
    if len(cells) > MOST_CELLS:
        raise ValueError(
            f"The notebook has more than {MOST_CELLS} cells: take out what is not needed."
        )
    return [_cell(cell, key) for cell in cells]


def _cell(cell: Any, code_key: str) -> NotebookCell:
    if not isinstance(cell, dict):
        raise ValueError("The notebook has a cell that is none: open it in JupyterLab and save it.")
    kind = cell.get("cell_type")
    source = cell.get(code_key if kind == "code" else "source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str) or not isinstance(kind, str):
        raise ValueError("The notebook has a cell without text: open it in JupyterLab and save it.")
    if len(source) > MOST_SOURCE:
        raise ValueError("The notebook has a cell of more than 2 MB of code: take it out.")
    metadata = cell.get("metadata")
    tags = metadata.get("tags", []) if isinstance(metadata, dict) else []
    plain = source.encode("utf-8", errors="replace").decode(
        "utf-8"
    )  # no lone surrogates from \\ud800
    return NotebookCell(
        kind, plain, frozenset(tag for tag in tags if isinstance(tag, str)) if tags else frozenset()
    )


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if data[:2] == b"{\x00":
        return "utf-16-le"
    if data[:2] == b"\x00{":
        return "utf-16-be"
    return "utf-8-sig"


# --- where notebooks are found ---------------------------------------------------------------


def _from_folder(folder: Path) -> Iterator[_Found]:
    """Yield the notebooks below a folder; the first folder below it, or the file, names the student."""
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(each for each in folders if not _is_clutter(each))
        for file in sorted(files):
            path = Path(place) / file
            if _is_clutter(file):
                continue
            if path.suffix.lower() == ".ipynb":
                relative = path.relative_to(folder)
                label = relative.parts[0] if len(relative.parts) > 1 else path.stem
                yield _from_file(path, relative.parts[0], label)


def _from_file(path: Path, first: str, label: str) -> _Found:
    name, lms_id, late, file = _who(first, label, path.name)
    try:
        data, problem, submitted = _read_file(path)
    except OSError as error:
        data, submitted = b"", None
        problem = f"The file cannot be read ({error.strerror}): look at it by hand."
    return _Found(name, lms_id, file, str(path), data, submitted, late, problem)


def _read_file(path: Path) -> tuple[bytes, str, datetime | None]:
    """Read a regular file of allowed size; neither links nor pipes nor devices are opened."""
    if path.is_symlink():
        return b"", "The file is a link to another one: submit the .ipynb file itself.", None
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b"", "This is no regular file: submit the .ipynb file itself.", None
        data = file.read(MOST_NOTEBOOK_BYTES + 1)
    return data, _too_large(data), datetime.fromtimestamp(status.st_mtime)


def _too_large(data: bytes) -> str:
    if len(data) <= MOST_NOTEBOOK_BYTES:
        return ""
    return (
        f"The file is larger than {MOST_NOTEBOOK_BYTES >> 20} MB: "
        "clear the outputs and submit it again."
    )


def _from_zip(path: Path) -> Iterator[_Found]:
    """Yield the notebooks of a zip; nothing is ever unpacked to the disk."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CourseError(
            f"{path} is no zip that can be read ({error}): download it again."
        ) from error
    with archive:
        entries = archive.infolist()
        if len(entries) > MOST_ZIP_ENTRIES:
            raise CourseError(
                f"{path} holds more than {MOST_ZIP_ENTRIES} files: give a smaller zip."
            )
        notebooks = [
            entry
            for entry in entries
            if not entry.is_dir()
            and entry.filename.lower().endswith(".ipynb")
            and not any(_is_clutter(part) for part in PurePosixPath(entry.filename).parts)
        ]
        top = _common_folder(notebooks)
        left = MOST_ZIP_BYTES
        for entry in notebooks:
            parts = [part for part in PurePosixPath(entry.filename).parts if part != "/"][top:]
            label = parts[0] if len(parts) > 1 else PurePosixPath(parts[0]).stem
            name, lms_id, late, file = _who(parts[0], label, parts[-1])
            data, problem = _read_entry(archive, entry, min(left, MOST_NOTEBOOK_BYTES))
            if ".." in parts:
                data, problem = (
                    b"",
                    "Its path in the zip leads out of it: submit the file by itself.",
                )
            left -= len(data)
            yield _Found(
                name, lms_id, file, f"{path}!{entry.filename}", data, _time(entry), late, problem
            )


def _common_folder(entries: Sequence[zipfile.ZipInfo]) -> int:
    """Return 1 where one folder that names no student holds everything, else 0."""
    tops = {PurePosixPath(entry.filename).parts[0] for entry in entries}
    deep = all(len(PurePosixPath(entry.filename).parts) > 2 for entry in entries)
    return 1 if len(tops) == 1 and deep and not any(_MOODLE.match(each) for each in tops) else 0


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> tuple[bytes, str]:
    if entry.flag_bits & 1:
        return b"", "The file is encrypted in the zip: submit it without a password."
    if stat.S_ISLNK(entry.external_attr >> 16):
        return b"", "The file is a link to another one: submit the .ipynb file itself."
    try:
        with archive.open(entry) as file:
            data = file.read(most + 1)  # what the zip says about its sizes is not believed
    except Exception as error:  # zlib, lzma, bz2 and zipfile each have their own errors
        return b"", f"The file is damaged in the zip ({type(error).__name__}): submit it again."
    if len(data) > most:
        return b"", _too_large(bytes(MOST_NOTEBOOK_BYTES + 1))
    return data, ""


def _time(entry: zipfile.ZipInfo) -> datetime | None:
    try:
        return datetime(*entry.date_time)
    except ValueError:
        return None


def _is_clutter(name: str) -> bool:
    return name in _CLUTTER or name.startswith("._") or name.endswith("-checkpoint.ipynb")


# --- whose they are --------------------------------------------------------------------------


def _who(first: str, label: str, file: str) -> tuple[str, str, bool, str]:
    """Return name, number, lateness and file name, from the first part of a path."""
    for pattern, text in ((_MOODLE, first), (_CANVAS, first)):
        match = pattern.match(text)
        if match:
            groups = match.groupdict()
            return groups["name"], groups["id"], bool(groups.get("late")), groups["file"] or file
    return label, "", False, file


def _choose(several: Sequence[_Found], lesson: int) -> _Found:
    if len(several) == 1:
        return several[0]
    fitting = [each for each in several if each.file.startswith(f"{lesson:02d}")] or list(several)
    newest = max(_version(each.file) for each in fitting)
    fitting = [each for each in fitting if _version(each.file) == newest]
    if len(fitting) == 1:
        return fitting[0]
    if len({each.data for each in fitting}) == 1:
        return fitting[0]
    names = ", ".join(_printable(each.file) for each in fitting[:5])
    one = fitting[0]
    return _Found(
        one.name,
        one.lms_id,
        one.file,
        one.origin,
        b"",
        one.submitted,
        one.late,
        f"There are {len(fitting)} notebooks that could be meant ({names}): keep one.",
    )


def _version(file: str) -> int:
    """Return the N of Canvas's ``name-N.ipynb``, 0 where there is none."""
    match = re.search(r"-(\d{1,4})\.ipynb$", file)
    return int(match[1]) if match else 0


def _printable(text: str) -> str:
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    return "".join(each if each.isprintable() else "�" for each in text)[:300]


def _safe_name(text: str) -> str:
    """Return a name fit for files and commands; names that had to be changed get a mark of their own."""
    normal = unicodedata.normalize("NFC", text.encode("utf-8", errors="replace").decode("utf-8"))
    safe = re.sub(r"[^\w.\-]+", "_", normal).strip("._-")[:80]
    if safe == re.sub(r"\s+", "_", normal):
        return safe
    return f"{safe or 'student'}-{hashlib.sha256(normal.encode()).hexdigest()[:8]}"


def students_of(submissions: Iterable[Submission], wanted: Sequence[str]) -> list[Submission]:
    """Return the submissions of the students named; all if none is named.

    Raises:
        CourseError: one of the names fits no student.

    """
    everyone = list(submissions)
    if not wanted:
        return everyone
    unknown = [
        name for name in wanted if not any(name in (each.student, each.name) for each in everyone)
    ]
    if unknown:
        raise CourseError(
            f"No submission of {', '.join(unknown)} was found: use the names in gradebook.csv."
        )
    return [each for each in everyone if each.student in wanted or each.name in wanted]
