"""Public data sets by address, SHA-256, licence and citation: fetched once, checked at each use.

The table is ``registry.json`` beside this module. A file lies in the cache folder as ``NAME/FILE``; the
folder is the environment variable COURSE_DATA_DIR where that is set (a read-only mirror will do, and a file
may be stored there as ``FILE.xz``), else the platform's own place for caches.
"""

import functools
import hashlib
import importlib
import json
import lzma
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from course_lib.runtime import CourseError

DOWNLOADS_AT_ONCE = 4
RETRIES = 1
TIMEOUT_SECONDS = 30


class DataUnavailable(CourseError):
    """A data set cannot be used now; the message is one sentence that says why and what to do."""


class MalformedData(CourseError, ValueError):
    """A file of a data set does not have the form its reader expects; the message names file and line."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: ``sha256`` and ``bytes`` are of the file as published, not of a stored .xz.

    ``bytes`` is None where the publisher gives a SHA-256 and no size.
    """

    name: str
    url: str
    bytes: int | None
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """One row of the table: what a set is, who made it, on what terms, and which lessons use it."""

    name: str
    title: str
    lessons: tuple[int, ...]
    licence: str
    citation: str
    notes: str
    warning: str
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        """Total size of the files whose size is known."""
        return sum(file.bytes or 0 for file in self.files)

    @property
    def size(self) -> str:
        """The total size in words, such as ``"1.1 MB"``."""
        if any(file.bytes is None for file in self.files):
            return "size not published"
        return (
            f"{self.bytes / 1e6:.1f} MB" if self.bytes >= 50_000 else f"{self.bytes / 1e3:.0f} kB"
        )


@dataclass(frozen=True)
class FileStatus:
    """What was found for one file: ``path`` is where it lies, or where it would lie if it is missing."""

    dataset: str
    file: str
    state: Literal["ok", "missing", "corrupt", "unreadable"]
    path: Path
    message: str


@functools.cache
def table() -> tuple[DataSet, ...]:
    """Return every data set of the course, in the order of the table."""
    entries = json.loads(resources.files(__package__).joinpath("registry.json").read_text("utf-8"))
    return tuple(_entry(**entry) for entry in entries)


def _entry(base: str, files: list[dict], lessons: list[int], **words: str) -> DataSet:
    return DataSet(
        lessons=tuple(lessons),
        files=tuple(
            DataFile(f["path"].rsplit("/", 1)[-1], base + f["path"], f["bytes"], f["sha256"])
            for f in files
        ),
        **words,
    )


def dataset(name: str) -> DataSet:
    """Return the row of the table with this name.

    Raises:
        CourseError: there is no such data set.

    """
    for row in table():
        if row.name == name:
            return row
    names = ", ".join(row.name for row in table())
    raise CourseError(f"There is no data set named {name!r}: choose one of {names}.")


def cache_dir() -> Path:
    """Return the folder of the data sets (COURSE_DATA_DIR, else the user's cache); it may not exist yet."""
    named = os.environ.get("COURSE_DATA_DIR")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("transformers-course", appauthor=False))


def path(name: str, file: str) -> Path:
    """Return where a file of a data set lies on this machine, checked against its SHA-256.

    In a mirror that stores it compressed the path ends in ``.xz``; ``read_bytes`` gives the content in
    either case.

    Raises:
        DataUnavailable: the file is missing or damaged.
        CourseError: there is no such data set or file.

    """
    row = dataset(name)
    status = _status(row, _file(row, file))
    if status.state != "ok":
        raise DataUnavailable(status.message)
    return status.path


def read_bytes(name: str, file: str) -> bytes:
    """Return the content of a file of a data set as published (a stored .xz is decompressed), checked.

    Raises:
        DataUnavailable: the file is missing, damaged or cannot be read.
        CourseError: there is no such data set or file.

    """
    row = dataset(name)
    wanted = _file(row, file)
    place = _find(row, wanted)
    if place is None:
        raise DataUnavailable(_missing(row))
    try:
        content = _content(place)
    except OSError as error:
        raise DataUnavailable(_unreadable(row, place, error)) from error
    if content is None or hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise DataUnavailable(_corrupt(row, place))
    return content


def available(name: str) -> bool:
    """Return whether every file of a data set is on this machine and undamaged.

    A file is hashed once in a process; after that its size and time of change are looked at.

    Raises:
        CourseError: there is no such data set.

    """
    row = dataset(name)
    return all(_status(row, file).state == "ok" for file in row.files)


def verify(name: str) -> list[FileStatus]:
    """Hash every file of a data set anew and say how each stands.

    Raises:
        CourseError: there is no such data set.

    """
    row = dataset(name)
    for file in row.files:
        place = _find(row, file)
        if place is not None:
            _hashes.pop(str(place), None)
    return [_status(row, file) for file in row.files]


def fetch(name: str, progress: bool = True) -> Path:
    """Download what is missing or damaged of a data set and return its folder.

    Each file is written beside its place, checked, and only then moved there, so an interrupted download
    leaves nothing half done, and the next call goes on with the files that are still missing.

    Raises:
        DataUnavailable: no connection, a refusal, a damaged download, or a folder that cannot be written.
        CourseError: there is no such data set.

    """
    row = dataset(name)
    folder = cache_dir() / row.name
    wanted = [file for file in row.files if _status(row, file).state != "ok"]
    if not wanted:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataUnavailable(_unwritable(error.strerror or str(error))) from error
    if not os.access(folder, os.W_OK):
        raise DataUnavailable(_unwritable("no permission"))

    import pooch
    from tqdm.auto import tqdm

    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(
        path=folder,
        base_url="",
        registry={file.name: f"sha256:{file.sha256}" for file in row.files},
        urls={file.name: file.url for file in row.files},
        retry_if_failed=RETRIES,
    )
    bar = tqdm(
        total=sum(file.bytes or 0 for file in wanted) or None,
        desc=row.name,
        unit="B",
        unit_scale=True,
        disable=not progress,
    )
    lock = threading.Lock()
    with bar, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        jobs = [pool.submit(_download, store, row, file, _Share(bar, lock)) for file in wanted]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return folder


def load(name: str) -> Any:
    """Return the typed records of a data set: the result of the function of that name in ``readers``.

    Raises:
        DataUnavailable: the set is not on this machine, or damaged.
        MalformedData: a file does not have the expected form.
        CourseError: there is no such data set.

    """
    row = dataset(name)
    # The readers stand on this module, so they can only be looked up once it is whole.
    readers = importlib.import_module("course_lib.data.readers")
    return getattr(readers, row.name)()


def load_or_none(name: str) -> Any | None:
    """Return the records of a data set, or None where it cannot be had, saying so once in a process.

    This is what a lesson's real-data section calls: with None it goes on with the lesson's default data.

    Raises:
        CourseError: there is no such data set.

    """
    try:
        return load(name)
    except DataUnavailable as reason:
        if name not in _told:
            _told.add(name)
            print(reason)
        return None


_told: set[str] = set()
_hashes: dict[str, tuple[tuple[int, int], str | None]] = {}


def _file(row: DataSet, name: str) -> DataFile:
    for file in row.files:
        if file.name == name:
            return file
    raise CourseError(
        f"The data set {row.name!r} has no file {name!r}: "
        f"it has {', '.join(file.name for file in row.files[:8])}{'…' if len(row.files) > 8 else ''}."
    )


def _find(row: DataSet, file: DataFile) -> Path | None:
    plain = cache_dir() / row.name / file.name
    for place in (plain, plain.with_name(plain.name + ".xz")):
        if os.path.isfile(place):
            return place
    return None


def _content(place: Path) -> bytes | None:
    """Return a stored file's content, decompressed where the registry stored it so; None if that fails."""
    content = place.read_bytes()
    if place.suffix != ".xz":
        return content
    try:
        return lzma.decompress(content)
    except (lzma.LZMAError, EOFError):
        return None


def _sha256(place: Path) -> str | None:
    """Return the SHA-256 of a stored file's content, from memory where size and time are unchanged."""
    stat = place.stat()
    stamp = (stat.st_size, stat.st_mtime_ns)
    known = _hashes.get(str(place))
    if known is None or known[0] != stamp:
        content = _content(place)
        known = (stamp, None if content is None else hashlib.sha256(content).hexdigest())
        _hashes[str(place)] = known
    return known[1]


def _status(row: DataSet, file: DataFile) -> FileStatus:
    place = _find(row, file)
    if place is None:
        expected = cache_dir() / row.name / file.name
        return FileStatus(row.name, file.name, "missing", expected, _missing(row))
    try:
        fits = _sha256(place) == file.sha256
    except OSError as error:
        return FileStatus(row.name, file.name, "unreadable", place, _unreadable(row, place, error))
    if fits:
        return FileStatus(row.name, file.name, "ok", place, f"{_shown(place)} is as published.")
    return FileStatus(row.name, file.name, "corrupt", place, _corrupt(row, place))


def _download(store: Any, row: DataSet, file: DataFile, share: "_Share") -> None:
    """Download one file into its place, or raise DataUnavailable with the sentence for what went wrong."""
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(
        progressbar=share, chunk_size=1 << 16, timeout=TIMEOUT_SECONDS
    )
    try:
        place = Path(store.fetch(file.name, downloader=downloader))
        # pooch's temporary file is private to its user, and a cache may be shared by a class.
        place.chmod(0o644)
    except requests.HTTPError as error:
        raise DataUnavailable(
            f"The server refused {row.name}/{file.name} ({error}): try again later, and report it if "
            "it lasts."
        ) from error
    except requests.RequestException as error:
        raise DataUnavailable(
            f"{row.name}/{file.name} could not be downloaded from {file.url} "
            f"({type(error).__name__}): check the network connection and run "
            f"`course data fetch {row.name}` again; what is already here is kept."
        ) from error
    except OSError as error:
        raise DataUnavailable(_unwritable(error.strerror or str(error))) from error
    except ValueError as error:
        raise DataUnavailable(
            f"The download of {row.name}/{file.name} from {file.url} was damaged (its SHA-256 is not the "
            f"published one) and was deleted: run `course data fetch {row.name}` again, and report it if "
            "it lasts."
        ) from error
    share.finish(file.bytes)


class _Share:
    """What one download adds to the bar of the whole set, behind the calls that pooch makes on a bar."""

    def __init__(self, bar: Any, lock: threading.Lock) -> None:
        self.total = 0
        self._bar = bar
        self._lock = lock
        self._done = 0

    def update(self, count: int) -> None:
        with self._lock:
            self._bar.update(count)
        self._done += count

    def reset(self) -> None:
        self.update(-self._done)

    def close(self) -> None:
        """The bar belongs to the set and stays open."""

    def finish(self, count: int | None) -> None:
        """Count the file in full: the server may have sent it compressed."""
        if count is not None:
            self.update(count - self._done)


def _shown(place: Path) -> str:
    """Return a path for people, with the home folder as ``~`` so that saved outputs name nobody."""
    try:
        return (Path("~") / place.relative_to(Path.home())).as_posix()
    except (ValueError, RuntimeError):
        return str(place)


def _missing(row: DataSet) -> str:
    return (
        f"The data set {row.name} is not on this machine (looked in {_shown(cache_dir() / row.name)}): run "
        f"`course data fetch {row.name}` while online to get it ({row.size}); until then the lesson uses "
        "its default data."
    )


def _corrupt(row: DataSet, place: Path) -> str:
    return (
        f"{_shown(place)} is damaged (its SHA-256 is not the published one): delete it and run "
        f"`course data fetch {row.name}` while online; until then the lesson uses its default data."
    )


def _unwritable(why: str) -> str:
    return (
        f"The folder {_shown(cache_dir())} for data sets cannot be written ({why}): set COURSE_DATA_DIR "
        "to a folder that you may write."
    )


def _unreadable(row: DataSet, place: Path, error: OSError) -> str:
    return (
        f"{_shown(place)} cannot be read ({error.strerror or error}): make it readable, or set "
        "COURSE_DATA_DIR to another folder; until then the lesson uses its default data."
    )
