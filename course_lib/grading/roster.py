"""Match submissions with the students of a roster: a CSV as Canvas, Moodle or Gradescope exports it."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from course_lib.runtime import CourseError

MOST_ROSTER_BYTES = 16 * 2**20
MOST_STUDENTS = 100_000

# The usual names of columns, in lower case without spaces and signs.
_COLUMNS = {
    "name": ("student", "fullname", "name", "studentname", "displayname"),
    "first": ("firstname", "givenname", "forename"),
    "last": ("lastname", "surname", "familyname"),
    "email": ("emailaddress", "email", "mail", "studentemail"),
    "canvas_id": (),  # Canvas calls it "ID", as others call their own number
    "sis_id": ("sisuserid",),
    "login": ("sisloginid", "username", "login", "loginid", "userid", "netid"),
    "section": ("section", "sections", "group", "groups"),
    "participant": ("identifier",),
    "number": ("idnumber", "sid", "studentid", "studentnumber", "matriculationnumber", "number"),
}
_ROLES = ("role", "roles")
_IDS = ("canvas_id", "sis_id", "login", "participant", "number")
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"}
)
_LESSON = re.compile(r"^(.*?[^\W_].*?)[\W_]+\d\d(?:[\W_].*)?$")
_SHOWN = 8


@dataclass(frozen=True)
class Student:
    """A line of the roster; what it does not say is "".

    Attributes:
        name: as the roster has it: "Ada Lovelace", or "Lovelace, Ada".
        email: the address.
        canvas_id: Canvas's number.
        sis_id: the number in the university's own system, as Canvas has it.
        login: the name to log in with.
        section: the section or group.
        participant: Moodle's number of the participant in one assignment.
        number: any other number: Moodle's "ID number", Gradescope's "SID", a plain "id".

    """

    name: str
    email: str = ""
    canvas_id: str = ""
    sis_id: str = ""
    login: str = ""
    section: str = ""
    participant: str = ""
    number: str = ""

    @property
    def called(self) -> str:
        """The name, or what there is in its place."""
        ids = (self.number, self.login, self.sis_id, self.canvas_id, self.participant)
        return next(filter(None, (self.name, self.email, *ids)), "")


@dataclass(frozen=True)
class Roster:
    """The students of a class, and the column headings of the file that named them."""

    students: tuple[Student, ...]
    headings: tuple[str, ...] = ()

    def as_value(self) -> dict[str, Any]:
        """Return plain data, for the gradebook."""
        return {
            "students": [asdict(each) for each in self.students],
            "headings": list(self.headings),
        }

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "Roster":
        """Return the roster that ``as_value`` gave."""
        return cls(tuple(Student(**each) for each in value["students"]), tuple(value["headings"]))


class Submitted(Protocol):
    """What is known of a submission: a Submission or a Row."""

    @property
    def student(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def lms(self) -> str: ...  # noqa: D102
    @property
    def lms_id(self) -> str: ...  # noqa: D102
    @property
    def email(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Matching:
    """Who handed in what.

    Attributes:
        students: by submission, the student.
        how: by submission, what they were matched by.
        unmatched: submissions that fit no student, with the reason.
        missing: students without a submission.

    """

    students: dict[str, Student]
    how: dict[str, str]
    unmatched: dict[str, str]
    missing: tuple[Student, ...]


# --- the file ------------------------------------------------------------------------------------


def read_roster(path: Path) -> Roster:
    """Return the students that a CSV file names.

    Raises:
        CourseError: it cannot be read, has no column that tells students apart, names nobody, or gives two
            students the same id or e-mail address.

    """
    rows = _rows(path)
    if not rows:
        raise CourseError(f"The roster {path} is empty: export it again.")
    headings = [_clean(each) for each in rows[0][1]]
    places = _places(headings)
    if not places.keys() & {"name", "last", "email", *_IDS}:
        shown = ", ".join(f'"{each[:30]}"' for each in headings[:_SHOWN] if each) or "no text"
        raise CourseError(
            f"The roster {path} has no column that names students (its first line: {shown}): it needs "
            "headings such as name, id, email, or those of an export of Canvas, Moodle or Gradescope."
        )
    role = next((at for at, each in enumerate(headings) if _plain(each) in _ROLES), None)
    students, lines = [], []
    for number, row in rows[1:]:
        if role is not None and role < len(row):
            roles = {_plain(each) for each in re.split(r"[,;/]", row[role])} - {""}
            if roles and not roles & {"student", "learner"}:
                continue
        student = _student(row, places)
        if student is not None:
            students.append(student)
            lines.append(number)
    if not students:
        raise CourseError(
            f"The roster {path} names no student below its headings: export it again."
        )
    if len(students) > MOST_STUDENTS:
        raise CourseError(f"The roster {path} has more than {MOST_STUDENTS} students: split it.")
    _refuse_duplicates(path, students, lines)
    return Roster(tuple(students), tuple(headings))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not blank, each with its number."""
    if path.is_dir():
        raise CourseError(f"The roster {path} is a folder: give a CSV file.")
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_ROSTER_BYTES + 1)
    except OSError as error:
        raise CourseError(
            f"The roster {path} cannot be read ({error.strerror}): give a CSV file."
        ) from error
    if len(data) > MOST_ROSTER_BYTES:
        raise CourseError(
            f"The roster {path} is larger than {MOST_ROSTER_BYTES >> 20} MB: give a smaller CSV file."
        )
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise CourseError(
            f"The roster {path} is a spreadsheet or a zip, not CSV: open it and save it as CSV (UTF-8)."
        )
    text = _text(data)
    if text is None or "\0" in text:
        raise CourseError(f"The roster {path} is not text: save it as CSV (UTF-8).")
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CourseError(
            f"The roster {path} is no CSV that can be read (line {reader.line_num}: {error}): export it again."
        ) from error


def _text(data: bytes) -> str | None:
    encodings = ["utf-8-sig", "cp1252"]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _places(headings: Sequence[str]) -> dict[str, int]:
    """Return which column holds what."""
    plain = [_plain(each) for each in headings]
    places = {}
    for field, names in _COLUMNS.items():
        found = [plain.index(name) for name in names if name in plain]
        if found:
            places[field] = found[0]
    if "id" in plain:
        of_canvas = {"sisuserid", "sisloginid"} & set(plain)
        places.setdefault("canvas_id" if of_canvas else "number", plain.index("id"))
    return places


def _student(row: Sequence[str], places: dict[str, int]) -> Student | None:
    """Return the line's student; None for Canvas's lines of points and its test student."""
    values = {field: _clean(row[at]) if at < len(row) else "" for field, at in places.items()}
    first, last = values.pop("first", ""), values.pop("last", "")
    name = values.pop("name", "") or f"{first} {last}".strip()
    values["participant"] = re.sub(r"^\D+", "", values.get("participant", ""))
    student = Student(name, **values)
    of_canvas = "canvas_id" in places
    if of_canvas and (name.startswith("Points Possible") or not student.canvas_id):
        return None
    if of_canvas and name in ("Student, Test", "Test Student") and not student.sis_id:
        return None
    known = any(getattr(student, field.name) for field in fields(Student))
    return student if known else None


def _refuse_duplicates(path: Path, students: Sequence[Student], lines: Sequence[int]) -> None:
    first: dict[Student, int] = {}
    for student, line in zip(students, lines):
        if first.setdefault(student, line) != line:
            raise CourseError(
                f"The roster {path} says the same in lines {first[student]} and {line}: take one out, "
                "or give both students an id."
            )
    for field, what in (*((each, "id") for each in _IDS), ("email", "e-mail address")):
        seen: dict[str, int] = {}
        for student, line in zip(students, lines):
            value = getattr(student, field).casefold()
            if value and value in seen:
                raise CourseError(
                    f'The roster {path} gives lines {seen[value]} and {line} the same {what} "{value[:60]}": '
                    "correct one of them."
                )
            seen[value] = line


# --- who is who ----------------------------------------------------------------------------------


def match(submissions: Iterable[Submitted], roster: Roster) -> Matching:
    """Match submissions with students: by id, by e-mail address, by name, by name without accents and order.

    A stronger sign is used before a weaker one over the whole class, and what fits two students, or two
    submissions that fit one student equally well, is matched with nobody.
    """
    waiting = list(submissions)
    free = list(roster.students)
    students: dict[str, Student] = {}
    how: dict[str, str] = {}
    doubts: dict[str, str] = {}
    for what, of_submission, of_student in _SIGNS:
        by_key: dict[str, list[Student]] = {}
        for student in free:
            for key in of_student(student):
                by_key.setdefault(key, []).append(student)
        found: dict[str, Student] = {}
        for each in waiting:
            fitting = list(
                dict.fromkeys(one for key in of_submission(each) for one in by_key.get(key, ()))
            )
            if len(fitting) == 1:
                found[each.student] = fitting[0]
            elif fitting:
                doubts[each.student] = f"Fits {len(fitting)} students by {what}."
        claims = Counter(found.values())
        for name, student in found.items():
            if claims[student] == 1:
                students[name], how[name] = student, what
            else:
                doubts[name] = f"{claims[student]} submissions fit {student.called} by {what}."
        # Whom several submissions fit is nobody's, also for a weaker sign.
        free = [each for each in free if not claims[each]]
        # A doubt by a strong sign is not settled by a weaker one.
        waiting = [
            each for each in waiting if each.student not in students and each.student not in doubts
        ]
    everyone = {_words(each.name).casefold(): each.called for each in students.values()}
    for each in waiting:
        other = everyone.get(_words(each.name).casefold())
        doubts[each.student] = (
            f"{other} has another submission already." if other else "Nobody in the roster fits."
        )
    taken = set(students.values())
    missing = tuple(each for each in roster.students if each not in taken)
    return Matching(students, how, doubts, missing)


def _ids_of_submission(each: Submitted) -> set[str]:
    kinds = {
        "canvas": ("canvas_id",),
        "moodle": ("participant",),
        "gradescope": ("number", "sis_id", "login"),
    }.get(each.lms, ())
    found = {f"{kind} {each.lms_id.casefold()}" for kind in kinds if each.lms_id}
    if not each.lms:
        found |= {
            f"{kind} {_words(name).casefold()}"
            for kind in _IDS
            for name in _named(each)
            if kind != "participant"
        }
    return found


def _named(each: Submitted) -> list[str]:
    """Return a submission's name, also without what follows it in "ada_lovelace_07_self_attention"."""
    before = _LESSON.match(each.name) if not each.lms else None
    return [each.name, before[1]] if before else [each.name]


def _ids_of_student(student: Student) -> set[str]:
    values = {kind: getattr(student, kind).casefold() for kind in _IDS}
    return {f"{kind} {value}" for kind, value in values.items() if value}


def _emails_of_submission(each: Submitted) -> set[str]:
    named = {_words(name).casefold() for name in _named(each) if "@" in name}
    return {each.email.casefold()} - {""} | named


def _emails_of_student(student: Student) -> set[str]:
    return {student.email.casefold(), student.login.casefold() if "@" in student.login else ""} - {
        ""
    }


def _names_of_submission(each: Submitted) -> set[str]:
    return {_words(name).casefold() for name in _named(each)} - {""}


def _names_of_student(student: Student) -> set[str]:
    return {_words(each).casefold() for each in _orders(student.name)} - {""}


def _loose_of_submission(each: Submitted) -> set[str]:
    """Return the name without accents, signs and spaces, in the order given and with its words sorted."""
    return {key for name in _named(each) for key in (_letters(name), _sorted(name))} - {""}


def _loose_of_student(student: Student) -> set[str]:
    orders = {_letters(each) for each in _orders(student.name)}
    return orders | {_sorted(student.name)} - {""}


_Sign = tuple[str, Callable[[Submitted], set[str]], Callable[[Student], set[str]]]
_SIGNS: tuple[_Sign, ...] = (
    ("id", _ids_of_submission, _ids_of_student),
    ("e-mail", _emails_of_submission, _emails_of_student),
    ("name", _names_of_submission, _names_of_student),
    ("normalised name", _loose_of_submission, _loose_of_student),
)


def _orders(name: str) -> list[str]:
    """Return a name as it stands, "First Last" for "Last, First", and with its last word, or words, in front.

    Canvas writes "lovelaceada" for Ada Lovelace, and does not say where the family name began.
    """
    last, comma, first = (part.strip() for part in name.partition(","))
    if comma:
        return [name, f"{first} {last}", f"{last} {first}"]
    words = name.split()
    return [name, *(" ".join(words[at:] + words[:at]) for at in range(1, len(words)))]


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _clean(text: str) -> str:
    """Return a cell of the roster on one line, without what spreadsheets and exports put around it."""
    line = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(line.split())[:300].removeprefix("'").strip()


def _words(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _letters(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    return "".join(each for each in letters if each.isalnum())


def _sorted(name: str) -> str:
    return " ".join(sorted(filter(None, (_letters(word) for word in re.split(r"[\W_]+", name)))))
