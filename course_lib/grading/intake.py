"""Collect submissions from folders, files and the zips of Canvas, Moodle and Gradescope; read them defensively."""

import hashlib
import json
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from course_lib.runtime import CourseError

MOST_NOTEBOOK_BYTES = 32 * 2**20
MOST_CELLS = 5_000
MOST_SOURCE = 2 * 2**20
MOST_ZIP_ENTRIES = 20_000
MOST_ZIP_BYTES = 4 * 2**30
MOST_METADATA_BYTES, MOST_METADATA_DEPTH = 16 * 2**20, 100
MOST_SUBMITTERS = 50
_MOST_OUTPUTS, _MOST_SHOWN = 100, 20_000

# What editors and systems leave lying about; any other name may be a student's.
_CLUTTER = frozenset({".ipynb_checkpoints", ".git", ".venv", "__MACOSX", "__pycache__"})
_CANVAS = re.compile(
    r"^(?P<name>[^_/]+)_(?P<late>LATE_)?(?P<id>\d+)_(?P<submission>\d+)_(?P<file>.+)$"
)
_MOODLE = re.compile(r"^(?P<name>[^_/]+)_(?P<id>\d+)_assignsubmission_file(?:_(?P<file>[^/]*))?$")
# Gradescope's export: folders submission_123 and a file that says whose they are.
_METADATA = "submission_metadata.yml"
_EXPORT = re.compile(r"^assignment_\d+_export$")
# What other systems' exports look like; their files do not name a student in a way that is known here.
_OTHERS = {
    "Blackboard": re.compile(r"^[^/]*_attempt_\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d_[^/]*$"),
    "Brightspace": re.compile(r"^\d+-\d+ - [^/]+ - [^/]+$"),
}


@dataclass(frozen=True)
class NotebookCell:
    """A cell of a notebook.

    Attributes:
        type: "code" or another one.
        source: its text.
        tags: its tags.
        printed: what the file says that it printed; the beginning.
        displayed: what the file says that it displayed, as text; the beginning.

    """

    type: str
    source: str
    tags: frozenset[str] = frozenset()
    printed: str = ""
    displayed: str = ""


@dataclass(frozen=True)
class Submission:
    """One student's notebook, or why there is none.

    Attributes:
        student: names the student in files and commands: letters, digits, "-", "_" and "."; unique.
        name: the name as it was found.
        lms_id: the number that Canvas or Moodle gave, or the SID that Gradescope knows; empty if unknown.
        origin: where the notebook was found.
        data: the file's bytes; empty where ``problem`` says why.
        submitted: the file's time, in local time; None if unknown.
        late: Canvas marked it late.
        problem: a sentence, where the file could not be taken in; else "".
        lms: "canvas", "moodle" or "gradescope", where the names tell; else "".
        email: the address, if it is known.

    """

    student: str
    name: str
    lms_id: str
    origin: str
    data: bytes
    submitted: datetime | None = None
    late: bool = False
    problem: str = ""
    lms: str = ""
    email: str = ""

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
    lms: str = ""
    email: str = ""


def collect(paths: Sequence[Path], lesson: int) -> list[Submission]:
    """Return one submission for each student found under ``paths``, in order of their names.

    A path is a folder of students (each a folder with a notebook, at any depth; or notebooks side by
    side), a notebook, or a zip from Canvas, Moodle or Gradescope. Where a student has several notebooks, the
    one whose name begins with the lesson's number is taken, and of Canvas's numbered versions the newest.
    Of a group that Gradescope knows, each member is a student with the same notebook.

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
            + _why_nothing(paths)
        )
    by_student: dict[tuple[str, str, str], list[_Found]] = {}
    for each in found:
        by_student.setdefault((each.name, each.lms_id, each.email), []).append(each)
    taken: set[str] = set()
    submissions = []
    for (name, lms_id, _), several in sorted(by_student.items()):
        student = _safe_name(f"{name}_{lms_id}" if lms_id else name)
        number = 0
        while student.casefold() in taken:  # a name may also look like what was made of another one
            mark = hashlib.sha256(f"{name}{number}".encode(errors="replace")).hexdigest()[:8]
            student, number = f"{student[:80]}-{mark}", number + 1
        taken.add(student.casefold())
        one = _choose(several, lesson)
        submissions.append(
            Submission(
                student,
                _printable(name),
                _printable(lms_id),
                _printable(one.origin),
                one.data,
                one.submitted,
                one.late,
                one.problem,
                one.lms,
                _printable(one.email),
            )
        )
    return submissions


def _why_nothing(paths: Sequence[Path]) -> str:
    """Say what to give instead, by what there is."""
    folders = [path for path in paths if path.is_dir()]
    zips = [each for folder in folders for each in sorted(folder.glob("*.zip"))]
    if zips:
        return f"give the zips themselves ({zips[0]} and the like), not the folder they lie in."
    if any(path.suffix.lower() == ".zip" for path in paths):
        return "give the zip that holds all submissions, as Canvas, Moodle or Gradescope made it."
    return "give the folder that holds the students' folders or files."


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
    read = [_cell(cell, key) for cell in cells]
    if sum(len(cell.source) for cell in read if cell.type == "code") > MOST_SOURCE:
        raise ValueError("The notebook has more than 2 MB of code: load long data from a file.")
    return read


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
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    plain = source.encode("utf-8", errors="replace").decode(
        "utf-8"
    )  # no lone surrogates from \\ud800
    return NotebookCell(
        kind,
        plain,
        frozenset(tag for tag in tags if isinstance(tag, str))
        if isinstance(tags, list)
        else frozenset(),
        *_saved_outputs(cell.get("outputs") if kind == "code" else None),
    )


def _saved_outputs(outputs: Any) -> tuple[str, str]:
    """Return what a cell's saved outputs say that it printed and displayed; nothing where they are odd."""
    printed, displayed = [], []
    for each in outputs[:_MOST_OUTPUTS] if isinstance(outputs, list) else []:
        if not isinstance(each, dict):
            continue
        data = each.get("data")
        if each.get("output_type") == "stream" and each.get("name") == "stdout":
            printed.append(_joined(each.get("text")))
        elif isinstance(data, dict):
            displayed.append(_joined(data.get("text/plain")))
    return "".join(printed)[:_MOST_SHOWN], "\n".join(displayed)[:_MOST_SHOWN]


def _joined(text: Any) -> str:
    if isinstance(text, list):
        text = "".join(line for line in text if isinstance(line, str))
    return text.encode("utf-8", errors="replace").decode("utf-8") if isinstance(text, str) else ""


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
    try:
        inside = [each for each in folder.iterdir() if not _is_clutter(each.name)]
        if len(inside) == 1 and _EXPORT.match(inside[0].name) and not inside[0].is_symlink():
            folder = inside[0]
        data, problem, _ = _read_file(folder / _METADATA)
    except FileNotFoundError:
        yield from _notebooks_below(folder)
        return
    except OSError as error:
        raise CourseError(
            f"{error.filename} cannot be read ({error.strerror}): change its rights, or give another path."
        ) from error
    if problem:
        raise CourseError(f"{folder / _METADATA} cannot be used: {problem[0].lower()}{problem[1:]}")
    people = _gradescope(data, str(folder / _METADATA))
    for found in _notebooks_below(folder):
        yield from _of_each(found, people)


def _notebooks_below(folder: Path) -> Iterator[_Found]:
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(each for each in folders if not _is_clutter(each))
        # A folder that is called like a notebook, and holds none, was meant as one.
        empty = [each for each in folders if each.lower().endswith(".ipynb")]
        empty = [
            each for each in empty if not any((Path(place) / each).rglob("*.[iI][pP][yY][nN][bB]"))
        ]
        for file in sorted([*files, *empty]):
            path = Path(place) / file
            if _is_clutter(file):
                continue
            if file.lower().endswith(".ipynb"):
                relative = path.relative_to(folder)
                label = relative.parts[0] if len(relative.parts) > 1 else path.stem
                yield _from_file(path, relative.parts[0], label)


def _from_file(path: Path, first: str, label: str) -> _Found:
    name, lms_id, late, file, lms = _who(first, label, path.name)
    try:
        data, problem, submitted = _read_file(path)
    except OSError as error:
        data, submitted = b"", None
        problem = f"The file cannot be read ({error.strerror}): look at it by hand."
    return _Found(name, lms_id, file, str(path), data, submitted, late, problem, lms)


def _read_file(path: Path) -> tuple[bytes, str, datetime | None]:
    """Read a regular file of allowed size; neither links nor pipes nor devices are opened."""
    if path.is_symlink():
        return b"", "The file is a link to another one: submit the .ipynb file itself.", None
    if path.is_dir():
        return b"", "This is a folder, no notebook: submit the .ipynb file itself.", None
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
        _refuse_others(path, entries, notebooks)
        people, above = _people_of(archive, path, entries, notebooks)
        top = above or _common_folder(notebooks)
        left = MOST_ZIP_BYTES
        for entry in notebooks:
            parts = [part for part in PurePosixPath(entry.filename).parts if part != "/"][top:]
            label = parts[0] if len(parts) > 1 else PurePosixPath(parts[0]).stem
            name, lms_id, late, file, lms = _who(parts[0], label, parts[-1])
            data, problem = _read_entry(archive, entry, min(left, MOST_NOTEBOOK_BYTES))
            if ".." in parts:
                data, problem = (
                    b"",
                    "Its path in the zip leads out of it: submit the file by itself.",
                )
            left -= len(data)
            origin = f"{path}!{entry.filename}"
            found = _Found(name, lms_id, file, origin, data, _time(entry), late, problem, lms)
            yield from _of_each(found, people)


def _refuse_others(
    path: Path, entries: Sequence[zipfile.ZipInfo], notebooks: Sequence[zipfile.ZipInfo]
) -> None:
    """Refuse the zips of systems whose names would be mistaken for students'."""
    for system, pattern in _OTHERS.items():
        parts = [PurePosixPath(each.filename).parts for each in notebooks]
        # One such name may be a student's own; in an export of that system every one is.
        if parts and all(any(map(pattern.match, each)) for each in parts):
            raise CourseError(
                f"{path} looks like an export of {system}, whose names are not known here: "
                "unpack it into one folder for each student, named like the roster, and give that."
            )
    if not notebooks and any(each.filename.lower().endswith(".zip") for each in entries):
        raise CourseError(
            f"{path} holds other zips and no notebook: unpack it and give those zips."
        )


def _people_of(
    archive: zipfile.ZipFile,
    path: Path,
    entries: Sequence[zipfile.ZipInfo],
    notebooks: Sequence[zipfile.ZipInfo],
) -> "tuple[dict[str, _Handed] | None, int]":
    """Return whose Gradescope's folders are, and how many folders lie above these; None and 0 for another zip.

    The file that says so lies above every notebook: one of that name in a student's folder says nothing.
    """
    for entry in sorted(entries, key=lambda each: each.filename.count("/")):
        folder = PurePosixPath(entry.filename).parent
        if PurePosixPath(entry.filename).name != _METADATA or not all(
            folder in PurePosixPath(each.filename).parents[1:] for each in notebooks
        ):
            continue
        data, problem = _read_entry(archive, entry, MOST_METADATA_BYTES)
        if problem:
            raise CourseError(f"{_METADATA} in {path} cannot be read: download the zip again.")
        return _gradescope(data, f"{path}!{entry.filename}"), len(folder.parts)
    return None, 0


def _common_folder(entries: Sequence[zipfile.ZipInfo]) -> int:
    """Return 1 where one folder that names no student holds everything, else 0."""
    paths = [PurePosixPath(entry.filename.lstrip("/")).parts for entry in entries]
    tops = {parts[0] for parts in paths}
    deep = all(len(parts) > 2 for parts in paths)
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


def _who(first: str, label: str, file: str) -> tuple[str, str, bool, str, str]:
    """Return name, number, lateness, file name and system, from the first part of a path."""
    for lms, pattern in (("moodle", _MOODLE), ("canvas", _CANVAS)):
        match = pattern.match(first)
        if match:
            groups = match.groupdict()
            late = bool(groups.get("late"))
            return groups["name"], groups["id"], late, groups["file"] or file, lms
    return label, "", False, file, ""


@dataclass(frozen=True)
class _Handed:
    """What Gradescope knows of a submission: name, SID and e-mail of each submitter, and the time."""

    people: tuple[tuple[str, str, str], ...]
    submitted: datetime | None


def _gradescope(data: bytes, origin: str) -> dict[str, _Handed]:
    """Return who handed in each folder, from Gradescope's submission_metadata.yml.

    Raises:
        CourseError: the file is not that.

    """
    wrong = CourseError(
        f"{origin} is not what Gradescope writes: download the submissions again, or remove that file "
        "to name students by their folders."
    )
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if len(data) > MOST_METADATA_BYTES or _is_too_deep(data, loader):
            raise wrong
        content = yaml.load(data, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:
        raise wrong from error
    if not isinstance(content, dict):
        raise wrong
    found = {}
    for folder, about in content.items():
        submitters = _get(about, "submitters")
        if not isinstance(submitters, list):
            raise wrong
        people = []
        for each in submitters[:MOST_SUBMITTERS]:
            name, sid, email = (_text(_get(each, key)) for key in ("name", "sid", "email"))
            people.append((name or email or sid or str(folder), sid, email))
        found[str(folder)] = _Handed(tuple(people), _local(_get(about, "created_at")))
    return found


def _is_too_deep(data: bytes, loader: Any) -> bool:
    """Tell whether YAML is nested so deeply that the fast loader would crash: it calls itself for each level."""
    depth = 0
    for event in yaml.parse(data, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_METADATA_DEPTH:
            return True
    return False


def _get(mapping: Any, key: str) -> Any:
    """Return a value of Gradescope's mappings, whose keys are Ruby's symbols."""
    return mapping.get(f":{key}", mapping.get(key)) if isinstance(mapping, dict) else None


def _text(value: Any) -> str:
    return str(value).strip()[:300] if isinstance(value, (str, int)) else ""


def _local(value: Any) -> datetime | None:
    """Return a time of Gradescope's, which is in UTC where it has no zone, in local time."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day) if isinstance(value, date) else None
    try:
        return (
            (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone().replace(tzinfo=None)
        )
    except (OverflowError, OSError, ValueError):
        return None


def _of_each(found: _Found, people: dict[str, _Handed] | None) -> Iterator[_Found]:
    """Yield a notebook once for each submitter; as it is where Gradescope says nothing of it."""
    handed = people.get(found.name) if people is not None else None
    if handed is None or not handed.people:
        yield found
        return
    for name, sid, email in handed.people:
        yield replace(
            found,
            name=name,
            lms_id=sid,
            email=email,
            lms="gradescope",
            submitted=handed.submitted or found.submitted,
        )


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
        one.lms,
        one.email,
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
    while (
        len(safe.encode()) > 160
    ):  # a file's name, with all that is put to it, has 255 bytes at most
        safe = safe[:-1]
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
