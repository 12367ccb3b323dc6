"""The gradebook: SQLite, written as results come, so that a grader killed at any moment loses nothing."""

import errno
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from course_lib.grading.intake import Submission
from course_lib.grading.marking import Mark, Marked, Status
from course_lib.grading.roster import Roster
from course_lib.runtime import CourseError

_FORMAT = 2
_MOST_CODE = 50_000
_ROOM = (
    "make room and run the same command again (`course grade` with --resume). "
    "No mark that was written is lost."
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, begun TEXT NOT NULL, ended TEXT, paths TEXT NOT NULL, unsafe INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS submissions (
    student TEXT PRIMARY KEY, name TEXT NOT NULL, lms_id TEXT NOT NULL, origin TEXT NOT NULL,
    sha256 TEXT NOT NULL, submitted TEXT, state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'failed')),
    problem TEXT NOT NULL DEFAULT '', flags TEXT NOT NULL DEFAULT '[]', seconds REAL, graded TEXT,
    lms TEXT NOT NULL DEFAULT '', email TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS results (
    student TEXT NOT NULL REFERENCES submissions (student), position INTEGER NOT NULL,
    exercise TEXT NOT NULL, points REAL NOT NULL, most INTEGER NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL, mistake TEXT NOT NULL, label TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (student, exercise));
CREATE TABLE IF NOT EXISTS code (
    student TEXT NOT NULL REFERENCES submissions (student), exercise TEXT NOT NULL, source TEXT NOT NULL,
    PRIMARY KEY (student, exercise));
CREATE TABLE IF NOT EXISTS adjustments (
    id INTEGER PRIMARY KEY, student TEXT NOT NULL, exercise TEXT NOT NULL, points REAL NOT NULL,
    reason TEXT NOT NULL, made TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Adjustment:
    """Points set by hand, with the reason."""

    points: float
    reason: str
    made: str


@dataclass(frozen=True)
class Row:
    """All that is known of one student: what was submitted, the marks, adjustments, and the penalty."""

    student: str
    name: str
    lms_id: str
    origin: str
    submitted: datetime | None
    state: str
    problem: str
    flags: tuple[str, ...]
    seconds: float
    marks: tuple[Mark, ...]
    adjustments: dict[str, Adjustment]
    days_late: int
    penalty: float
    lms: str = ""
    email: str = ""

    def points_of(self, mark: Mark) -> float:
        """Return an exercise's points, after adjustment."""
        adjusted = self.adjustments.get(mark.exercise)
        return adjusted.points if adjusted else mark.points

    @property
    def before_penalty(self) -> float:
        """The sum of all exercises."""
        return sum(self.points_of(mark) for mark in self.marks)

    @property
    def total(self) -> float:
        """The points that count: the sum less the late penalty."""
        return round(self.before_penalty * (1 - self.penalty), 2)


class Gradebook:
    """One lesson's gradebook in a file; every change is a transaction.

    Args:
        path: the SQLite file.

    Raises:
        CourseError: the file cannot be made or is no gradebook.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(_SCHEMA)
        except (sqlite3.DatabaseError, OSError) as error:
            advice = _ROOM if _is_full(error) else "choose another folder with -o."
            raise CourseError(f"The gradebook {path} cannot be used ({error}): {advice}") from error
        self._connection.row_factory = sqlite3.Row
        self.settle(
            "format", str(_FORMAT), "This gradebook was written by another version of the course"
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def fact(self, name: str) -> str | None:
        """Return a fact about the whole gradebook, None if it is not known yet."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row["value"] if row else None

    def set_fact(self, name: str, value: str) -> None:
        """Note a fact, in place of an older one."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def settle(self, name: str, value: str, otherwise: str) -> None:
        """Note a fact that never changes.

        Raises:
            CourseError: it was noted with another value; the message begins with ``otherwise``.

        """
        before = self.fact(name)
        if before is None:
            self.set_fact(name, value)
        elif before != value:
            raise CourseError(
                f"{otherwise} ({before}, not {value}): choose another folder with -o."
            )

    @property
    def is_empty(self) -> bool:
        """Whether no submission was ever entered."""
        return self._connection.execute("SELECT 1 FROM submissions").fetchone() is None

    # --- a batch -------------------------------------------------------------------------

    def begin_run(self, paths: Iterable[Path], unsafe: bool) -> int:
        """Note that a batch begins, and return its number."""
        cursor = self._connection.execute(
            "INSERT INTO runs (begun, paths, unsafe) VALUES (?, ?, ?)",
            (_now(), json.dumps([str(path.resolve()) for path in paths]), int(unsafe)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end_run(self, run: int) -> None:
        """Note that a batch came to its end."""
        self._connection.execute("UPDATE runs SET ended = ? WHERE id = ?", (_now(), run))

    def last_paths(self) -> list[Path]:
        """Return the paths that were graded, over all batches, newest batch first."""
        rows = self._connection.execute("SELECT paths FROM runs ORDER BY id DESC").fetchall()
        return list(dict.fromkeys(Path(each) for row in rows for each in json.loads(row["paths"])))

    def enter(self, submissions: Iterable[Submission], again: bool = False) -> list[Submission]:
        """Enter submissions and return those that wait to be graded.

        One that was graded and whose file has not changed since stays as it is, unless ``again``. One on
        which the grader itself failed waits again.
        """
        waiting = []
        with self._transaction():
            for each in submissions:
                row = self._connection.execute(
                    "SELECT state, sha256 FROM submissions WHERE student = ?", (each.student,)
                ).fetchone()
                graded = row is not None and row["state"] == "done" and row["sha256"] == each.sha256
                if graded and not again:
                    continue
                waiting.append(each)
                self._connection.execute(
                    "INSERT INTO submissions"
                    " (student, name, lms_id, lms, email, origin, sha256, submitted, state)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting') ON CONFLICT (student) DO UPDATE SET"
                    " name = excluded.name, lms_id = excluded.lms_id, lms = excluded.lms,"
                    " email = excluded.email, origin = excluded.origin, sha256 = excluded.sha256,"
                    " submitted = excluded.submitted, state = 'waiting'",
                    (
                        each.student,
                        each.name,
                        each.lms_id,
                        each.lms,
                        each.email,
                        each.origin,
                        each.sha256,
                        each.submitted.isoformat() if each.submitted else None,
                    ),
                )
        return waiting

    def write(self, student: str, marked: Marked) -> None:
        """Write a submission's marks, all of them or none."""
        with self._transaction():
            self._connection.execute("DELETE FROM results WHERE student = ?", (student,))
            self._connection.executemany(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        student,
                        position,
                        mark.exercise,
                        mark.points,
                        mark.most,
                        mark.status,
                        mark.reason,
                        mark.mistake,
                        mark.label,
                        mark.detail,
                    )
                    for position, mark in enumerate(marked.marks)
                ],
            )
            self._connection.execute("DELETE FROM code WHERE student = ?", (student,))
            self._connection.executemany(
                "INSERT INTO code VALUES (?, ?, ?)",
                [
                    (student, exercise, source)
                    for exercise, source in marked.code.items()
                    if len(source) <= _MOST_CODE
                ],
            )
            self._connection.execute(
                "UPDATE submissions SET state = ?, problem = ?, flags = ?, seconds = ?, graded = ?"
                " WHERE student = ?",
                (
                    "failed" if marked.retry else "done",
                    marked.problem,
                    json.dumps(marked.flags),
                    marked.seconds,
                    _now(),
                    student,
                ),
            )

    # --- by hand -------------------------------------------------------------------------

    def adjust(self, student: str, exercise: str, points: float, reason: str) -> None:
        """Set the points of one exercise by hand; this outlives every regrade.

        Raises:
            CourseError: the student, the exercise or the points do not exist, or the reason is empty.

        """
        if not reason.strip():
            raise CourseError("An adjustment needs a reason: give one with --reason.")
        row = self._connection.execute(
            "SELECT most FROM results WHERE student = ? AND exercise = ?", (student, exercise)
        ).fetchone()
        if row is None:
            raise CourseError(
                f'There is no mark of "{student}" for "{exercise}": use the names in gradebook.csv.'
            )
        if not 0 <= points <= row["most"]:
            raise CourseError(
                f"`{exercise}` has 0 to {row['most']} points: give a number in that range."
            )
        self._connection.execute(
            "INSERT INTO adjustments (student, exercise, points, reason, made) VALUES (?, ?, ?, ?, ?)",
            (student, exercise, points, reason.strip(), _now()),
        )

    def rows(self) -> list[Row]:
        """Return every student, in order of the names."""
        adjustments: dict[str, dict[str, Adjustment]] = {}
        for row in self._connection.execute("SELECT * FROM adjustments ORDER BY id"):
            adjustments.setdefault(row["student"], {})[row["exercise"]] = Adjustment(
                row["points"], row["reason"], row["made"]
            )
        marks: dict[str, list[Mark]] = {}
        for row in self._connection.execute("SELECT * FROM results ORDER BY student, position"):
            status: Status = row["status"]
            marks.setdefault(row["student"], []).append(
                Mark(
                    row["exercise"],
                    row["points"],
                    row["most"],
                    status,
                    row["reason"],
                    row["mistake"],
                    row["label"],
                    row["detail"],
                )
            )
        due, rate = self.fact("due"), float(self.fact("late_per_day") or 0)
        found = []
        for row in self._connection.execute("SELECT * FROM submissions ORDER BY student"):
            submitted = datetime.fromisoformat(row["submitted"]) if row["submitted"] else None
            days = days_late(submitted, datetime.fromisoformat(due)) if due and submitted else 0
            found.append(
                Row(
                    row["student"],
                    row["name"],
                    row["lms_id"],
                    row["origin"],
                    submitted,
                    row["state"],
                    row["problem"],
                    tuple(json.loads(row["flags"])),
                    row["seconds"] or 0.0,
                    tuple(marks.get(row["student"], ())),
                    adjustments.get(row["student"], {}),
                    days,
                    min(1.0, days * rate / 100),
                    row["lms"],
                    row["email"],
                )
            )
        return found

    def code(self) -> dict[str, dict[str, str]]:
        """Return, by student, the cells that define the exercises."""
        found: dict[str, dict[str, str]] = {}
        for row in self._connection.execute("SELECT * FROM code ORDER BY student, exercise"):
            found.setdefault(row["student"], {})[row["exercise"]] = row["source"]
        return found

    # --- the roster ----------------------------------------------------------------------

    def set_roster(self, roster: Roster) -> None:
        """Keep the class's roster, in place of an older one."""
        self.set_fact("roster", json.dumps(roster.as_value(), ensure_ascii=False))

    @property
    def roster(self) -> Roster | None:
        """The roster that was given last, None if there was none."""
        kept = self.fact("roster")
        return Roster.from_value(json.loads(kept)) if kept else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # on a full disk SQLite has rolled back by itself
                self._connection.execute("ROLLBACK")
            raise


@contextmanager
def disk_trouble(out: Path) -> Iterator[None]:
    """Tell in a sentence of a disk that is full, or fails, while ``out`` is worked on.

    Raises:
        CourseError: instead of what SQLite or the system raise.

    """
    try:
        yield
    except sqlite3.OperationalError as error:
        busy = _code(error) == sqlite3.SQLITE_BUSY
        advice = "another program has it open: close that and run the same command again."
        raise CourseError(
            f"The gradebook in {out} cannot be written ({error}): {advice if busy else _ROOM}"
        ) from error
    except OSError as error:
        if not _is_full(error) and error.errno not in (errno.EROFS, errno.EIO):
            raise
        why = error.strerror or os.strerror(errno.ENOSPC)
        raise CourseError(f"{error.filename or out} cannot be written ({why}): {_ROOM}") from error


def _is_full(error: Exception) -> bool:
    """Tell whether an error means that the disk is full; SQLite may only say that writing failed."""
    if isinstance(error, sqlite3.Error):
        return _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    if isinstance(error, shutil.Error):
        return os.strerror(errno.ENOSPC) in str(error)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's number for the kind of an error; 0 where the error is Python's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def graded_already(out: Path, lesson: int) -> tuple[dict[str, str], Roster | None]:
    """Return the fingerprints of what a folder's gradebook has marks for, by student, and its roster.

    The folder is left as it is: a copy is read.

    Raises:
        CourseError: the gradebook cannot be used, or is another lesson's.

    """
    path = out / "gradebook.sqlite"
    if not path.exists():
        return {}, None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-wal"):
            try:
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CourseError(
                    f"The gradebook {path} cannot be used ({error}): choose another folder with -o."
                ) from error
        book = Gradebook(copy)
        try:
            book.settle("lesson", f"{lesson:02d}", f"{out} holds another lesson's gradebook")
            rows = book._connection.execute(
                "SELECT student, sha256 FROM submissions WHERE state = 'done'"
            )
            return {row["student"]: row["sha256"] for row in rows}, book.roster
        finally:
            book.close()


def days_late(submitted: datetime, due: datetime) -> int:
    """Return the days begun after ``due``: 0 if in time, 1 from the first second on."""
    seconds = (submitted - due).total_seconds()
    return 0 if seconds <= 0 else int(-(-seconds // 86_400))


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")
