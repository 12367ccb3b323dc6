"""`course grade`, `regrade` and `adjust` from the command line to the reports, with the real sandbox."""

import csv
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime

import pytest
from rich.console import Console
from submissions import EXERCISES, SOLUTIONS, as_bytes, notebook

from course_lib.cli.grade import _duration, _progress
from course_lib.grading.batch import _alone
from course_lib.grading.gradebook import Gradebook, days_late
from course_lib.grading.intake import Submission, collect
from course_lib.grading.marking import Mark, Marked
from course_lib.grading.reports import write_all
from course_lib.runtime import CourseError

POINTS = sum(exercise.points for exercise in EXERCISES)
_MAIN = [sys.executable, "-c", "from course_lib.cli import main; main()"]


def course(*words, path=None, folder=None):
    """Run the command in a folder and return its result."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [*_MAIN, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
    )


@pytest.fixture
def options(tmp_path, class_folder):
    return ["--lesson", "7", "-o", tmp_path / "out", "--published", tmp_path / "published.ipynb"]


def totals(out):
    with sqlite3.connect(out / "gradebook.sqlite") as book:
        return dict(book.execute("SELECT student, SUM(points) FROM results GROUP BY student"))


def test_a_class_from_folder_to_reports(needs_sandbox, class_folder, options, tmp_path):
    (class_folder / "dora.ipynb").write_text("this is not JSON")
    (class_folder / "<script>alert(1)<").mkdir()
    (class_folder / "<script>alert(1)<" / "07.ipynb").write_bytes(
        as_bytes(
            notebook({**SOLUTIONS, "causal_mask": "def causal_mask(*a, **k):\n    return '<b>'/0"})
        )
    )
    relative = [str(each).replace(f"{tmp_path}/", "") for each in (class_folder, *options)]
    done = course("grade", *relative, "--workers", "2", folder=tmp_path)
    out = tmp_path / "out"
    assert done.returncode == 1, done.stderr  # one could not be graded
    assert "4 of 5 graded" in done.stdout
    assert "not JSON" in done.stderr
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines] == [f"{number}/5" for number in range(1, 6)]
    assert " left" in lines[0]
    assert " left" not in lines[-1]
    assert any(f"anna: {POINTS:g} points" in line for line in lines)
    with open(out / "gradebook.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert float(rows["anna"]["total"]) == POINTS
    assert float(rows["ben"]["total"]) == POINTS / 2
    assert float(rows["carla"]["total"]) == 0
    assert "not JSON" in rows["dora"]["problem"]
    grades = json.loads((out / "grades.json").read_text())
    assert len(grades["students"]) == 5
    assert grades["class"]["graded"] == 4
    pages = {path.stem: path.read_text() for path in (out / "feedback").glob("*.html")}
    assert len(pages) == 5
    for page in [*pages.values(), (out / "report.html").read_text()]:
        assert "<script" not in page
        assert "default-src 'none'" in page
    hostile = next(text for name, text in pages.items() if "script" in name)
    assert "&lt;script&gt;" in hostile
    assert "&#39;&lt;b&gt;&#39;/0" in hostile
    assert "TypeError" in hostile
    assert not (out / "private" / "library").exists()
    assert (out / "private" / "seed").stat().st_mode & 0o077 == 0

    again = course("grade", class_folder, *options)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1

    seed = tmp_path / "seed"
    seed.write_text("another secret")
    other = course("grade", class_folder, *options, "--resume", "--seed-file", seed)
    assert other.returncode == 2
    assert "another seed" in other.stderr

    adjusted = course(
        "adjust", "ben", "SelfAttention", "3", "-o", out, "--reason", "<i>oral exam</i>"
    )
    assert adjusted.returncode == 0, adjusted.stderr
    regraded = course("regrade", "ben", *options, "--json")
    assert regraded.returncode == 1
    ben = next(s for s in json.loads(regraded.stdout)["students"] if s["student"] == "ben")
    assert ben["points"] == POINTS / 2 + 3
    assert "&lt;i&gt;oral exam&lt;/i&gt;" in (out / "feedback" / "ben.html").read_text()


def test_a_dry_run_shows_who_is_who_and_writes_nothing(class_folder, options, tmp_path):
    (class_folder / "dora.ipynb").write_text("x")
    roster = tmp_path / "roster.csv"
    roster.write_text("name,id\nAnna,1\nben,2\nZoe,3\n")
    before = sorted(tmp_path.rglob("*"))
    words = ["grade", class_folder, *options, "--roster", roster, "--dry-run"]
    shown = course(*words)
    assert shown.returncode == 0, shown.stderr
    assert "Anna (by name)" in shown.stdout
    assert "4 of 4 submissions would be graded. Nothing was run or written." in shown.stdout
    assert "In nobody's name in the roster (2): carla, dora" in shown.stdout
    assert "Without a submission (1): Zoe" in shown.stdout
    value = json.loads(course(*words, "--json").stdout)
    assert [each["matched_to"] for each in value["submissions"]] == ["Anna", "ben", None, None]
    assert value["without_submission"] == ["Zoe"]
    assert sorted(tmp_path.rglob("*")) == before

    book = Gradebook(tmp_path / "out" / "gradebook.sqlite")
    book.settle("lesson", "07", "")
    carla = next(each for each in collect([class_folder], 7) if each.student == "carla")
    book.enter([carla])
    book.write("carla", marked())
    value = json.loads(course(*words, "--json", "--resume").stdout)
    assert [each["graded_already"] for each in value["submissions"]] == [False, False, True, False]
    book.close()
    other = ["--lesson", "5", *options[2:]]
    wrong = course("grade", class_folder, *other, "--dry-run")
    assert wrong.returncode == 2
    assert "another lesson's" in wrong.stderr


def test_saved_outputs_copies_and_a_roster_reach_the_reports(needs_sandbox, tmp_path):
    exact = 'print("shape", tuple(torch.ones(2, 3).shape))'
    published = notebook(added=(exact,))
    published[-1]["metadata"] = {"tags": ["nbval-check-output"]}
    (tmp_path / "published.ipynb").write_bytes(as_bytes(published))
    folder = tmp_path / "students"
    for number, text in enumerate(["shape (2, 3)\n", "shape (9, 9)\n"]):
        cells = notebook(SOLUTIONS, added=(exact,))
        cells[-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
        (folder / f"s{number}").mkdir(parents=True)
        (folder / f"s{number}" / "07.ipynb").write_bytes(as_bytes(cells))
    roster = tmp_path / "roster.csv"
    roster.write_text("name,id,email\nAda Lovelace,s0,ada@x.org\nZoe,z,zoe@x.org\n")
    options = ["--lesson", "7", "-o", tmp_path / "out", "--roster", roster]
    published_option = ["--published", tmp_path / "published.ipynb"]
    done = course("grade", folder, *options, *published_option)
    assert done.returncode == 0, done.stderr
    assert "In nobody's name in the roster (1): s1" in done.stdout
    assert "Without a submission (1): Zoe" in done.stdout
    grades = json.loads((tmp_path / "out" / "grades.json").read_text())
    first, second = grades["students"]
    assert first["points"] == second["points"] == POINTS
    assert first["flags"] == []
    assert any(
        "the saved output is not what the re-run printed" in each for each in second["flags"]
    )
    assert first["roster"]["name"] == "Ada Lovelace"
    assert second["roster"] is None
    assert [each["name"] for each in grades["class"]["roster"]["missing"]] == ["Zoe"]
    with sqlite3.connect(tmp_path / "out" / "gradebook.sqlite") as book:
        kept = dict(book.execute("SELECT exercise, source FROM code WHERE student = 's0'"))
    assert kept == SOLUTIONS


def test_killed_at_any_moment_resume_finishes_with_the_same_marks(
    needs_sandbox, class_folder, options, tmp_path
):
    for number in range(4):
        (class_folder / f"s{number}").mkdir()
        (class_folder / f"s{number}" / "07.ipynb").write_bytes(as_bytes(notebook(SOLUTIONS)))
    seed = tmp_path / "seed"
    seed.write_text("the same secret")
    out = tmp_path / "out"
    database = out / "gradebook.sqlite"
    graded = 0
    for number, most in enumerate((1, 3)):
        words = [
            "grade",
            class_folder,
            *options,
            "--seed-file",
            seed,
            *(["--resume"] if number else []),
        ]
        process = subprocess.Popen(
            [*_MAIN, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None
            if database.exists():
                with sqlite3.connect(database, timeout=30) as book:
                    try:
                        query = "SELECT COUNT(*) FROM submissions WHERE state = 'done'"
                        (graded,) = book.execute(query).fetchone()
                    except sqlite3.OperationalError:  # the tables are not there yet
                        graded = 0
                if graded >= most:
                    break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert most <= graded < 7
    with sqlite3.connect(database) as book:
        before = dict(book.execute("SELECT student, graded FROM submissions WHERE state = 'done'"))
    done = course("grade", class_folder, *options, "--seed-file", seed, "--resume")
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(database) as book:
        after = dict(book.execute("SELECT student, graded FROM submissions"))
        counts = set(book.execute("SELECT COUNT(*) FROM results GROUP BY student"))
    assert len(after) == 7
    assert {name: after[name] for name in before} == before  # none of these was graded again
    assert counts == {(len(EXERCISES),)}
    fresh = [*options[:3], tmp_path / "fresh", *options[4:]]
    assert course("grade", class_folder, *fresh, "--seed-file", seed).returncode == 0
    assert totals(tmp_path / "fresh") == totals(out)


def test_a_changed_file_is_graded_again_on_resume(needs_sandbox, class_folder, options, tmp_path):
    assert course("grade", class_folder / "carla", *options).returncode == 0
    (class_folder / "carla" / "07_self_attention.ipynb").write_bytes(as_bytes(notebook(SOLUTIONS)))
    assert course("grade", class_folder / "carla", *options, "--resume").returncode == 0
    assert list(totals(tmp_path / "out").values()) == [POINTS]


def test_no_sandbox_is_one_sentence_and_unsafe_warns(class_folder, options, tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    refused = course("grade", class_folder / "anna", *options, path=empty)
    assert refused.returncode == 2
    assert "bubblewrap is not installed" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if line.startswith("course:")]) == 1
    unsafe = course(
        "grade", class_folder / "anna", *options, "--unsafe-no-sandbox", "--resume", path=empty
    )
    assert unsafe.returncode == 0, unsafe.stderr
    assert "WARNING" in unsafe.stderr
    assert list(totals(tmp_path / "out").values()) == [POINTS]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["grade", "nowhere", "--lesson", "7", "-o", "OUT", "--published", "PUB"],
            "does not exist",
        ),
        (["grade", "IN", "--lesson", "999", "-o", "OUT"], "has no exercises"),
        (["grade", "IN", "--lesson", "7", "-o", "OUT", "--published", "nowhere"], "cannot be used"),
        (
            [
                "grade",
                "IN",
                "--lesson",
                "7",
                "-o",
                "OUT",
                "--published",
                "PUB",
                "--seed-file",
                "nowhere",
            ],
            "cannot be read",
        ),
        (["grade", "IN", "--lesson", "7", "-o", "PUB", "--published", "PUB"], "cannot be used"),
        (
            [
                "grade",
                "IN",
                "--lesson",
                "7",
                "-o",
                "OUT",
                "--published",
                "PUB",
                "--late-per-day",
                "5",
            ],
            "needs --due",
        ),
        (
            ["grade", "IN", "--lesson", "7", "-o", "OUT", "--roster", "nowhere"],
            "cannot be read (No such file or directory)",
        ),
        (["grade", "IN", "--lesson", "7", "-o", "OUT", "--roster", "IN"], "is a folder"),
        (
            ["grade", "IN", "--lesson", "7", "-o", "OUT", "--roster", "PUB"],
            "has no column that names students",
        ),
        (
            ["grade", "nowhere", "--lesson", "7", "-o", "OUT", "--published", "PUB", "--dry-run"],
            "does not exist",
        ),
        (["regrade", "--lesson", "7", "-o", "OUT"], "There is no gradebook"),
        (
            ["adjust", "anna", "attention", "1", "-o", "OUT", "--reason", "x"],
            "There is no gradebook",
        ),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(words, says, class_folder, tmp_path):
    places = {"IN": class_folder, "OUT": tmp_path / "none", "PUB": tmp_path / "published.ipynb"}
    done = course(*[places.get(word, word) for word in words])
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# --- gradebook and reports, without a sandbox ----------------------------------------------------


def marked(points=4.0, status="passed", reason="All right.", **more):
    return Marked((Mark("attention", points, 4, status, reason, **more),), (), 1.0)


def entered(book, student="anna", **more):
    given = Submission(
        student, more.pop("name", student), more.pop("lms_id", ""), "x", b"1", **more
    )
    book.enter([given])
    return given


def test_the_late_penalty(tmp_path):
    due = datetime(2026, 1, 31, 23, 59, 59)
    assert days_late(due, due) == 0
    assert days_late(datetime(2026, 2, 1, 0, 0, 0), due) == 1
    assert days_late(datetime(2026, 2, 2, 0, 0, 0), due) == 2
    book = Gradebook(tmp_path / "g.sqlite")
    book.set_fact("due", due.isoformat())
    book.set_fact("late_per_day", "10")
    entered(book, "anna", submitted=datetime(2026, 2, 1, 12))
    entered(book, "ben", submitted=datetime(2026, 1, 1))
    entered(book, "carla", submitted=datetime(2027, 1, 1))
    entered(book, "dora")
    for name in ("anna", "ben", "carla", "dora"):
        book.write(name, marked())
    assert [row.total for row in book.rows()] == [3.6, 4.0, 0.0, 4.0]


def test_adjustments_have_rules_and_outlive_a_regrade(tmp_path):
    book = Gradebook(tmp_path / "g.sqlite")
    entered(book)
    book.write("anna", marked(0.0, "failed", "No."))
    for student, exercise, points, reason, words in (
        ("zoe", "attention", 1, "x", "no mark"),
        ("anna", "nothing", 1, "x", "no mark"),
        ("anna", "attention", 5, "x", "0 to 4"),
        ("anna", "attention", 1, " ", "needs a reason"),
    ):
        with pytest.raises(CourseError, match=words):
            book.adjust(student, exercise, points, reason)
    book.adjust("anna", "attention", 2, "oral exam")
    book.write("anna", marked(1.0, "failed", "No."))
    assert book.rows()[0].total == 2


def test_an_other_lessons_or_another_kind_of_file_is_refused(tmp_path):
    book = Gradebook(tmp_path / "g.sqlite")
    book.settle("lesson", "07", "other lesson")
    with pytest.raises(CourseError, match=r"other lesson \(07, not 08\)"):
        book.settle("lesson", "08", "other lesson")
    (tmp_path / "text.sqlite").write_text(
        "this is no database, but it is long enough to look like one" * 20
    )
    with pytest.raises(CourseError, match="cannot be used"):
        Gradebook(tmp_path / "text.sqlite")


def test_texts_are_escaped_and_formulas_defused(tmp_path):
    book = Gradebook(tmp_path / "g.sqlite")
    book.settle("lesson", "07", "")
    evil = "<img src=x onerror=alert(1)>"
    entered(book, "anna", name="=HYPERLINK(1)", lms_id="12", lms="canvas")
    entered(book, "ben", name=evil)
    book.write("anna", marked(reason=evil, status="failed", points=0.0, label=evil))
    book.write("ben", Marked(marked().marks, (evil,), 1.0, problem=evil))
    write_all(book, EXERCISES, tmp_path)
    for path in [*(tmp_path / "feedback").glob("*.html"), tmp_path / "report.html"]:
        assert "<img" not in path.read_text()
    assert "&lt;img" in (tmp_path / "report.html").read_text()
    with open(tmp_path / "gradebook.csv", newline="") as file:
        assert next(csv.DictReader(file))["name"] == "'=HYPERLINK(1)"
    with open(tmp_path / "canvas.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0][:2] == ["Student", "ID"]
    assert lines[1][-1] == str(POINTS)
    assert [line[1] for line in lines[2:]] == ["12"]


def test_what_the_grader_failed_on_waits_again_and_what_the_student_failed_on_does_not(tmp_path):
    book = Gradebook(tmp_path / "g.sqlite")
    anna, ben = entered(book, "anna"), entered(book, "ben")
    book.write("anna", Marked((), (), 1.0, "The sandbox did not start.", retry=True))
    book.write("ben", Marked((), (), 1.0, "The file is empty."))
    assert book.enter([anna, ben]) == [anna]


@pytest.mark.parametrize("live", [True, False])
def test_progress_is_a_bar_for_a_person_and_lines_for_a_pipe(live):
    shown = io.StringIO()
    console = Console(
        file=shown, force_terminal=live, width=120, highlight=False, color_system=None
    )
    given = [Submission(name, name, "", "x", b"1") for name in ("anna", "[red]ben", "carla")]
    with _progress(console) as (started, finished):
        started(3, 5)
        finished(given[0], marked())
        finished(given[1], marked(0.0, "failed"))
        if live:
            assert "2/3" in _last_frame(shown)
            assert "left:" in _last_frame(shown)
        finished(given[2], Marked((), (), 0.1, "The file is empty."))
    text = shown.getvalue()
    assert "2 of 5 are graded already." in text
    assert "carla: The file is empty." in text
    assert ("\x1b[" in text) == live
    if not live:
        first, second, third = text.splitlines()[1:]
        assert re.fullmatch(r"1/3 anna: 4 points, 1\.0 s, about \d+ s left", first)
        assert second.startswith("2/3 [red]ben: 0 points")
        assert third == "3/3 carla: The file is empty."


def _last_frame(shown):
    """Wait until the bar has been drawn with what it was told, and return all that was drawn."""
    deadline = time.monotonic() + 30
    while "2/3" not in shown.getvalue() and time.monotonic() < deadline:
        time.sleep(0.02)
    return shown.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "about 0 s"), (119, "about 119 s"), (121, "about 2 min")]
)
def test_the_time_left_in_words(seconds, text):
    assert _duration(seconds) == text


def test_two_graders_do_not_work_in_one_folder(tmp_path):
    refused = pytest.raises(CourseError, match="Another grader")
    with _alone(tmp_path), refused, _alone(tmp_path):
        pass
