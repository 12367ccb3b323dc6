"""What comes out of a gradebook: tables for Canvas and Moodle, pages, the class's figures."""

import csv
import io
import json
import re
from datetime import datetime
from html.parser import HTMLParser

import pytest
from submissions import EXERCISES, PUBLISHED, SOLUTIONS

from course_lib.grading.gradebook import Gradebook
from course_lib.grading.intake import Submission
from course_lib.grading.marking import Mark, Marked
from course_lib.grading.notebook import Lesson
from course_lib.grading.reports import keep_published, write_all
from course_lib.grading.roster import Roster, Student

POINTS = sum(exercise.points for exercise in EXERCISES)
LONG = "Wolfeschlegelsteinhausenbergerdorff" * 8


def marked(share=1.0, flags=(), seconds=1.0, code=None, **more):
    """Return marks of which the first ``share`` are right."""
    right = round(share * len(EXERCISES))
    marks = [
        Mark(each.name, float(each.points), each.points, "passed", "All right.")
        if number < right
        else Mark(
            each.name, 0.0, each.points, more.get("status", "failed"), "No.", **_mistake(each)
        )
        for number, each in enumerate(EXERCISES)
    ]
    return Marked(tuple(marks), tuple(flags), seconds, code=code or {})


def _mistake(exercise):
    return {"mistake": exercise.mistakes[0].name, "label": "a batch of one"}


@pytest.fixture
def book(tmp_path):
    book = Gradebook(tmp_path / "gradebook.sqlite")
    book.settle("lesson", "07", "")
    yield book
    book.close()


def enter(book, student, result, **more):
    given = Submission(
        student, more.pop("name", student), more.pop("lms_id", ""), student, b"1", **more
    )
    book.enter([given])
    book.write(student, result)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_canvas_gets_its_own_numbers_and_its_own_column(book, tmp_path):
    ada = Student("Lovelace, Ada", "", "501", "u1001", "alovelace", "NLP-01")
    headings = ("Student", "ID", "SIS User ID", "Lesson 07 (4711)", "Lesson 077 (1)")
    book.set_roster(Roster((ada,), headings))
    enter(book, "ada", marked(), name="Ada Lovelace")
    enter(book, "emmy", marked(0.5), name="noetheremmy", lms="canvas", lms_id="502")
    enter(book, "kim", marked(), lms="moodle", lms_id="503")
    enter(book, "zoe", Marked((), (), 1.0, "The file is empty."), lms="canvas", lms_id="504")
    write_all(book, EXERCISES, tmp_path)
    assert table(tmp_path / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lesson 07 (4711)"],
        ["    Points Possible", "", "", "", "", str(POINTS)],
        ["Lovelace, Ada", "501", "u1001", "alovelace", "NLP-01", f"{POINTS:.1f}"],
        ["noetheremmy", "502", "", "", "", f"{POINTS / 2:.1f}"],
    ]


def test_moodle_gets_participants_id_numbers_and_addresses(book, tmp_path):
    people = (
        Student("Ada Lovelace", "Ada@example.org", participant="11", number="u1001"),
        Student("Emmy Noether", "emmy@example.org", number="u1002"),
    )
    book.set_roster(Roster(people))
    enter(book, "ada", marked(), name="A. L.", lms="moodle", lms_id="11")
    enter(book, "emmy", marked(0.5), name="Emmy Noether")
    enter(book, "kim", marked(), name="Kim", lms="moodle", lms_id="12")
    enter(book, "grace", marked(), name="Grace", lms="gradescope", email="grace@example.org")
    enter(book, "nobody", marked())
    write_all(book, EXERCISES, tmp_path)
    full, half = f"{POINTS:.1f}", f"{POINTS / 2:.1f}"
    assert table(tmp_path / "moodle.csv") == [
        ["Identifier", "Full name", "ID number", "Email address", "Grade"],
        ["Participant 11", "Ada Lovelace", "u1001", "Ada@example.org", full],
        ["", "Emmy Noether", "u1002", "emmy@example.org", half],
        ["", "Grace", "", "grace@example.org", full],
        ["Participant 12", "Kim", "", "", full],
    ]


def test_without_a_roster_nothing_is_said_of_it(book, tmp_path):
    enter(book, "ada", marked())
    grades = write_all(book, EXERCISES, tmp_path)
    assert grades["class"]["roster"] is None
    assert grades["students"][0]["roster"] is None
    assert "Roster" not in (tmp_path / "report.html").read_text()


def test_the_roster_in_every_report(book, tmp_path):
    book.set_roster(
        Roster((Student("Ada Lovelace", number="7"), Student("Zoe <b>"), Student("", "x@y.z")))
    )
    enter(book, "lovelace_ada", marked(), name="lovelaceada")
    enter(book, "stranger", marked())
    grades = write_all(book, EXERCISES, tmp_path)
    assert json.loads((tmp_path / "grades.json").read_text()) == grades
    roster = grades["class"]["roster"]
    assert (roster["students"], roster["matched"]) == (3, 1)
    assert [each["student"] for each in roster["unmatched"]] == ["stranger"]
    assert [each["who"] for each in roster["missing"]] == ["Zoe <b>", "x@y.z"]
    assert grades["students"][0]["roster"]["matched_by"] == "normalised name"
    report = (tmp_path / "report.html").read_text()
    for text in ("1 submission of nobody in the roster", "Nobody in the roster fits.", "x@y.z"):
        assert text in report
    assert "<li>Zoe &lt;b&gt;</li>" in report
    assert "<p>Ada Lovelace</p>" in (tmp_path / "feedback" / "lovelace_ada.html").read_text()
    first = next(csv.DictReader(io.StringIO((tmp_path / "gradebook.csv").read_text())))
    assert (first["roster_name"], first["roster_id"]) == ("Ada Lovelace", "7")
    assert first["matched_by"] == "normalised name"


def test_the_classs_figures(book, tmp_path):
    enter(book, "a", marked(code={"attention": SOLUTIONS["attention"]}))
    enter(book, "b", marked(0.5, seconds=9.0))
    enter(book, "c", marked(0.0, status="forbidden"))
    enter(book, "d", marked(0.0, status="not-attempted", flags=("Cell 3: look.",)))
    enter(book, "e", Marked((), (), 0.1, "The file is empty."))
    figures = write_all(book, EXERCISES, tmp_path)["class"]
    assert (figures["submissions"], figures["graded"]) == (5, 4)
    assert figures["median"] == POINTS / 4
    assert sum(each["count"] for each in figures["distribution"]) == 4
    assert figures["distribution"][-1]["count"] == 1
    assert [each["passed"] for each in figures["exercises"]] == [2, 2, 1, 1]
    assert figures["slowest"][0] == {"student": "b", "seconds": 9.0}
    assert [each["student"] for each in figures["forbidden"]] == ["c"] * len(EXERCISES)
    assert figures["flagged"] == [{"student": "d", "flags": ["Cell 3: look."]}]
    assert figures["not_graded"] == [{"student": "e", "problem": "The file is empty."}]
    assert figures["similar"]["threshold"] is None
    report = (tmp_path / "report.html").read_text()
    for text in ("Not compared", "Cell 3: look.", "The file is empty."):
        assert text in report


def test_copies_are_reported_by_name_and_blanks_and_short_answers_are_not(book, tmp_path):
    def unusual(seed):
        steps = "\n".join(
            f"    x{n} = q.roll({seed * n}).{'exp' if (seed + n) % 3 else 'abs'}() + k[{n * seed}:, {n}]"
            for n in range(12)
        )
        return f"def attention(q, k, v, mask=None):\n{steps}\n    return x1, x2"

    keep_published(book, Lesson(7, EXERCISES, PUBLISHED))
    stubs = {
        each.name: cell.source
        for each, cell in zip(EXERCISES, (c for c in PUBLISHED if "exercise" in c.tags))
    }
    for number in range(8):
        own = {**SOLUTIONS, "attention": unusual(number + 2)}
        enter(book, f"own{number}", marked(code=own))
    for name in ("blank1", "blank2"):
        enter(book, name, marked(0.0, status="not-attempted", code=stubs))
    copied = unusual(77)
    enter(book, "anna", marked(code={"attention": copied}), name="Anna <i>")
    renamed = copied.replace("q", "query").replace("x1", "first") + "  # mine"
    enter(book, "ben", marked(0.5, code={"attention": renamed}))
    similar = write_all(book, EXERCISES, tmp_path)["class"]["similar"]
    assert [each["students"] for each in similar["pairs"]] == [["anna", "ben"]]
    assert similar["pairs"][0]["exercises"] == ["attention"]
    report = (tmp_path / "report.html").read_text()
    assert "Anna &lt;i&gt;<br>ben" in report
    assert all(row.total in (POINTS, POINTS / 2, 0) for row in book.rows())


def test_the_feedback_says_what_was_late_and_what_was_set_by_hand(book, tmp_path):
    book.set_fact("due", "2026-01-31T23:59:59")
    book.set_fact("late_per_day", "10")
    enter(book, "ada", marked(0.75), submitted=datetime(2026, 2, 2, 12), name=LONG)
    book.adjust("ada", EXERCISES[-1].name, 1, "an oral exam")
    book.write("ada", marked(0.75))  # graded again
    write_all(book, EXERCISES, tmp_path)
    page = " ".join((tmp_path / "feedback" / "ada.html").read_text().split())
    before = POINTS - EXERCISES[-1].points + 1
    assert f"{before:g} points less 20 % for 2 days after the due time." in page
    assert f"{round(before * 0.8, 2):g} of {POINTS} points" in page
    assert "Set by hand from 0 to 1: an oral exam" in page
    assert "The simplest case that fails: a batch of one." in page
    assert LONG in page


class _Outline(HTMLParser):
    """Notes headings, unclosed elements, and what would load or run something."""

    def __init__(self):
        super().__init__()
        self.open, self.bad = [], []

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "link", "img", "iframe", "object"):
            self.bad.append(tag)
        self.bad += [
            name for name, _ in attributes if name.startswith("on") or name in ("src", "href")
        ]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.bad.append(f"/{tag}")


def test_the_pages_of_two_hundred_students_are_well_formed_and_load_nothing(book, tmp_path):
    people = []
    for number in range(200):
        name = f"{LONG if number == 3 else 'Ada'} <Lovelace> & {number}"
        people.append(Student(name, number=str(number)))
        flags = (
            ("Cell 3: the saved output is not what the re-run printed.",) if number % 9 == 0 else ()
        )
        if number % 10:
            result = marked((number % 5) / 4, flags, number / 7)
            enter(book, f"s{number:03d}", result, name=name, lms="canvas", lms_id=str(number))
    book.set_roster(Roster(tuple(people)))
    grades = write_all(book, EXERCISES, tmp_path)
    assert grades["class"]["roster"]["matched"] == 180
    assert len(grades["class"]["roster"]["missing"]) == 20
    pages = [tmp_path / "report.html", *(tmp_path / "feedback").glob("*.html")]
    assert len(pages) == 181
    for path in pages:
        outline = _Outline()
        text = path.read_text()
        outline.feed(text)
        assert (outline.open, outline.bad) == ([], []), path
        assert "default-src 'none'" in text
        assert re.search(r"prefers-color-scheme: dark", text)


def test_a_gradebook_of_another_format_is_refused(tmp_path, book):
    book.set_fact("format", "1")
    with pytest.raises(Exception, match="written by another version of the course"):
        Gradebook(tmp_path / "gradebook.sqlite")
