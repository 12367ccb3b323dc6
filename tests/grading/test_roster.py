"""Rosters as Canvas, Moodle and Gradescope export them, and whose submission is whose."""

import pytest

from course_lib.grading.intake import Submission
from course_lib.grading.roster import Roster, Student, match, read_roster
from course_lib.runtime import CourseError

CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Lesson 07 (4711),Current Score\n"
    ",,,,,Manual Posting,\n"
    "    Points Possible,,,,,16.00,(read only)\n"
    '"Lovelace, Ada",501,u1001,alovelace,NLP-01,,\n'
    '"Noether, Emmy",502,u1002,enoether,NLP-01,,\n'
    '"Student, Test",599,,4d1f,NLP-01,,\n'
)
WORKSHEET = (
    "\ufeffIdentifier,Full name,ID number,Email address,Status,Grade,Maximum Grade\n"
    "Participant 11,Ada Lovelace,u1001,ada@example.org,Submitted for grading,,16.00\n"
    "Participant 12,Émilie du Châtelet,u1003,emilie@example.org,No submission,,16.00\n"
)
GRADEBOOK = (
    "First name,Surname,ID number,Institution,Department,Email address\n"
    "Ada,Lovelace,u1001,,,ada@example.org\n"
)
GRADESCOPE = (
    "First Name,Last Name,SID,Email,Role,Section\n"
    "Ada,Lovelace,u1001,ada@example.org,Student,1\n"
    "Grace,Hopper,,grace@example.org,Instructor,\n"
    "Emmy,Noether,u1002,emmy@example.org,student,2\n"
)


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "roster.csv"
    path.write_bytes(text.encode(encoding))
    return path


def handed_in(name, lms="", lms_id="", email="", student=""):
    return Submission(student or f"{name}{lms_id}", name, lms_id, "x", b"", lms=lms, email=email)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CANVAS,
            [
                Student("Lovelace, Ada", "", "501", "u1001", "alovelace", "NLP-01"),
                Student("Noether, Emmy", "", "502", "u1002", "enoether", "NLP-01"),
            ],
        ),
        (
            WORKSHEET,
            [
                Student("Ada Lovelace", "ada@example.org", participant="11", number="u1001"),
                Student(
                    "Émilie du Châtelet", "emilie@example.org", participant="12", number="u1003"
                ),
            ],
        ),
        (GRADEBOOK, [Student("Ada Lovelace", "ada@example.org", number="u1001")]),
        (
            GRADESCOPE,
            [
                Student("Ada Lovelace", "ada@example.org", section="1", number="u1001"),
                Student("Emmy Noether", "emmy@example.org", section="2", number="u1002"),
            ],
        ),
        (
            "name,id,email\nAda Lovelace,7,ada@example.org\n",
            [Student("Ada Lovelace", "ada@example.org", number="7")],
        ),
        (
            "Name;E-Mail;Student ID\r\nAda Lovelace;ada@example.org;7\r\n\r\n",
            [Student("Ada Lovelace", "ada@example.org", number="7")],
        ),
        ("email\tname\nada@example.org\tAda\n", [Student("Ada", "ada@example.org")]),
        ('name,id\n"Ada\nLovelace",\'7\n', [Student("Ada Lovelace", number="7")]),
    ],
    ids=["canvas", "moodle", "moodle-grades", "gradescope", "plain", "semicolons", "tabs", "odd"],
)
def test_columns_are_found_by_their_usual_names(tmp_path, text, expected):
    assert list(read_roster(written(tmp_path, text)).students) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_spreadsheets_encodings_are_read(tmp_path, encoding):
    path = written(tmp_path, "name,id\nÉmilie du Châtelet,3\n", encoding)
    assert read_roster(path).students[0].name == "Émilie du Châtelet"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("colour,size\nred,3\n", 'no column that names students .*"colour", "size"'),
        ("Ada,7\nEmmy,8\n", "no column that names students"),
        ('{"a\nb": 1,\n"x": [2]}', "no column that names students"),
        ("name,id\n", "names no student"),
        ("name,id\n,\n", "names no student"),
        ("name,id\nAda,7\nEmmy,8\nGrace,7\n", 'lines 2 and 4 the same id "7"'),
        ("name,email\nA,x@y.z\nB,X@Y.Z\n", 'lines 2 and 3 the same e-mail address "x@y.z"'),
        ("name\nKim\nAda\nKim\n", "the same in lines 2 and 4"),
        ("PK\x03\x04 is how a spreadsheet begins", "save it as CSV"),
        ("name,id\nA\0da,7\n", "is not text"),
        ('name,id\n"' + "x" * 140_000 + '",7\n', "is no CSV that can be read"),
    ],
)
def test_what_is_no_roster_is_one_sentence(tmp_path, text, words):
    with pytest.raises(CourseError, match=words) as caught:
        read_roster(written(tmp_path, text))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_roster_that_is_no_file_is_one_sentence(tmp_path):
    with pytest.raises(CourseError, match="is a folder"):
        read_roster(tmp_path)
    with pytest.raises(CourseError, match="No such file"):
        read_roster(tmp_path / "none.csv")


def test_a_roster_survives_the_gradebook(tmp_path):
    roster = read_roster(written(tmp_path, CANVAS))
    assert Roster.from_value(roster.as_value()) == roster


@pytest.mark.parametrize(
    ("text", "submission", "name", "by"),
    [
        (CANVAS, handed_in("lovelaceada", "canvas", "501"), "Lovelace, Ada", "id"),
        (CANVAS, handed_in("lovelaceada", "canvas", "9"), "Lovelace, Ada", "normalised name"),
        (CANVAS, handed_in("alovelace"), "Lovelace, Ada", "id"),
        (CANVAS, handed_in("u1002"), "Noether, Emmy", "id"),
        (CANVAS, handed_in("Emmy Noether"), "Noether, Emmy", "name"),
        (CANVAS, handed_in("noether_emmy"), "Noether, Emmy", "normalised name"),
        (CANVAS, handed_in("emmy-noether-07_self_attention"), "Noether, Emmy", "normalised name"),
        (CANVAS, handed_in("u1002_07_self_attention"), "Noether, Emmy", "id"),
        (WORKSHEET, handed_in("someone", "moodle", "12"), "Émilie du Châtelet", "id"),
        (WORKSHEET, handed_in("Émilie du Châtelet", "moodle", "99"), "Émilie du Châtelet", "name"),
        (WORKSHEET, handed_in("E\u0301milie du Cha\u0302telet"), "Émilie du Châtelet", "name"),
        (WORKSHEET, handed_in("EMILIE DU CHATELET"), "Émilie du Châtelet", "normalised name"),
        (WORKSHEET, handed_in("duchateletemilie", "canvas", "5"), "Émilie du Châtelet", "normalised name"),
        (WORKSHEET, handed_in("emilie@example.org"), "Émilie du Châtelet", "e-mail"),
        (GRADESCOPE, handed_in("A.", "gradescope", "u1001"), "Ada Lovelace", "id"),
        (GRADESCOPE, handed_in("A.", "gradescope", "", "ADA@example.org"), "Ada Lovelace", "e-mail"),
    ],
)  # fmt: skip
def test_who_it_is(tmp_path, text, submission, name, by):
    found = match([submission], read_roster(written(tmp_path, text)))
    assert found.students[submission.student].name == name
    assert found.how[submission.student] == by
    assert not found.unmatched
    assert len(found.missing) == 1


def test_numbers_of_one_system_are_not_those_of_another(tmp_path):
    roster = read_roster(written(tmp_path, CANVAS))
    found = match([handed_in("someone", "moodle", "501")], roster)
    assert not found.students
    roster = read_roster(written(tmp_path, "name,id\nAda Lovelace,501\n"))
    assert not match([handed_in("someone", "canvas", "501")], roster).students


def test_doubt_is_settled_by_nobody():
    twins = Roster((Student("Kim Lee", number="1"), Student("Kim Lee", number="2"), Student("Ada")))
    found = match([handed_in("Kim Lee"), handed_in("2"), handed_in("Zoe")], twins)
    assert found.students == {"2": twins.students[1], "Kim Lee": twins.students[0]}
    found = match([handed_in("Kim Lee"), handed_in("Zoe")], twins)
    assert found.unmatched == {
        "Kim Lee": "Fits 2 students by name.",
        "Zoe": "Nobody in the roster fits.",
    }
    assert len(found.missing) == 3


def test_two_submissions_for_one_student_are_both_listed_unless_one_is_surer():
    roster = Roster((Student("Ada Lovelace", canvas_id="5"), Student("Ben")))
    same = [handed_in("ada lovelace", student="a"), handed_in("Ada Lovelace", student="b")]
    found = match(same, roster)
    assert not found.students
    assert set(found.unmatched) == {"a", "b"}
    assert "2 submissions fit Ada Lovelace by name" in found.unmatched["a"]
    third = handed_in("lovelace_ada", student="d")
    found = match([*same, third], roster)
    assert not found.students
    assert found.missing == roster.students
    surer = handed_in("lovelaceada", "canvas", "5", student="c")
    found = match([same[0], surer], roster)
    assert set(found.students) == {"c"}
    assert found.unmatched == {"a": "Ada Lovelace has another submission already."}


def test_an_empty_or_odd_name_fits_nobody():
    roster = Roster((Student("", email="a@b.c"), Student("李小龍"), Student("…", number="9")))
    found = match([handed_in(" ", student="a"), handed_in("...", student="b")], roster)
    assert not found.students
    assert match([handed_in("李小龍")], roster).how == {"李小龍": "name"}
