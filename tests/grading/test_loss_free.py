"""The batch is killed, in whole or in part, and finished: every submission graded once, with the same marks."""

import contextlib
import errno
import gc
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from disturbance import Disturbed
from submissions import EXERCISES, PUBLISHED, SOLUTIONS, as_bytes, notebook, submission

from course_lib.grading import batch, gradebook
from course_lib.grading.gradebook import Gradebook, disk_trouble
from course_lib.grading.marking import Mark, Marked, Marker
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox.protocol import Limits, Response, Stop
from course_lib.runtime import CourseError

# A short stretch of what `make soak` does two hundred times (benchmarks/soak.py).
KILLS = ["copy", "grader", "warmed process", "copy", "disk"]
SEED = 20


def test_killed_in_every_part_and_resumed_the_batch_is_as_if_nothing_had_been(
    needs_sandbox, tmp_path
):
    print(f"seed {SEED}")
    with Disturbed(tmp_path, students=10, seed=SEED) as disturbed:
        disturbed.batch(KILLS)
    assert disturbed.tally.complaints == []
    assert disturbed.tally.kills["grader"] >= 1
    assert sum(disturbed.tally.kills.values()) >= 4, disturbed.tally


class Scripted:
    """A sandbox whose runs end as they are told, the last of them for ever. It satisfies `Sandbox`."""

    def __init__(self, *stops):
        self._stops = list(stops)
        self.runs = 0
        self.closed = threading.Event()

    def run(self, request, limits):
        self.runs += 1
        stop = self._stops.pop(0) if len(self._stops) > 1 else self._stops[0]
        if stop is None:
            missing = {call.exercise: list(call.defines) for call in request.exercises}
            return Response(missing=missing)
        return Response(stop=stop)

    def close(self):
        self.closed.set()


@pytest.fixture
def lesson():
    return Lesson(7, EXERCISES, PUBLISHED)


def marked_by(sandbox, lesson):
    cases = {each.name: tuple(each.draw(0)) for each in EXERCISES}
    cells = notebook(SOLUTIONS, added=("x = 1",))
    return Marker(lesson, cases, sandbox, Limits()).mark(submission(cells))


def died(unit):
    return Stop(unit, "died")


def test_a_run_that_was_killed_once_is_made_again_and_costs_nothing(lesson):
    killed, undisturbed = Scripted(died("cell 2"), None), Scripted(None)
    assert marked_by(killed, lesson).marks == marked_by(undisturbed, lesson).marks
    assert killed.runs == undisturbed.runs + 1


def test_a_run_that_was_killed_twice_at_the_same_place_is_made_again_and_costs_nothing(lesson):
    killed, undisturbed = Scripted(died("cell 2"), died("cell 2"), None), Scripted(None)
    assert marked_by(killed, lesson).marks == marked_by(undisturbed, lesson).marks
    assert killed.runs == undisturbed.runs + 2


def test_a_run_that_dies_three_times_at_the_same_place_ended_itself(lesson):
    two = died("cell 2")
    itself, undisturbed = Scripted(two, died("cell 4"), two, two, None), Scripted(None)
    marked_by(undisturbed, lesson)
    marked = marked_by(itself, lesson)
    assert itself.runs == undisturbed.runs + 4
    assert any("Cell 2: This cell ended the process" in flag for flag in marked.flags)
    assert not any("Cell 4: This cell" in flag for flag in marked.flags)


def test_dying_at_ever_other_places_comes_to_an_end(lesson):
    for_ever = Scripted(*(died(f"cell {number}") for number in range(2, 200)))
    marked_by(for_ever, lesson)
    assert for_ever.runs < 70


def test_where_no_run_begins_the_submission_waits_for_another_day(lesson):
    marked = marked_by(Scripted(died("start")), lesson)
    assert marked.retry
    assert "The sandbox did not start" in marked.problem


def test_an_interrupted_batch_waits_for_nobody(lesson):
    """Whoever consumes the marks fails: the sandbox is closed, so that threads that wait for it go on."""
    sandbox = Scripted(None)

    class Slow(Marker):
        def mark(self, given):
            if given.student != "first":
                assert sandbox.closed.wait(60)
            return super().mark(given)

    cases = {each.name: tuple(each.draw(0)) for each in EXERCISES}
    marker = Slow(lesson, cases, sandbox, Limits())
    waiting = [submission(notebook(), name) for name in ("first", "second", "third")]
    marks = batch._in_threads(marker, 2, waiting)
    assert next(marks)[0].student == "first"
    marks.close()
    assert sandbox.closed.is_set()
    assert [each.student for each in waiting] == ["third"]


def full_after(book, pages):
    (now,) = book._connection.execute("PRAGMA page_count").fetchone()
    book._connection.execute(f"PRAGMA max_page_count = {now + pages}")


def test_on_a_full_disk_nothing_written_is_lost_and_the_next_goes_on(tmp_path):
    book = Gradebook(tmp_path / "g.sqlite")
    names = [f"s{number}" for number in range(40)]
    book.enter([submission(notebook(), name) for name in names])
    full_after(book, 3)
    marks = Marked((Mark("attention", 4.0, 4, "passed", "x" * 3000),), (), 1.0)
    written = []

    def write_all():
        with disk_trouble(tmp_path):
            for name in names:
                book.write(name, marks)
                written.append(name)

    with pytest.raises(CourseError, match=r"full.*make room and run the same command again"):
        write_all()
    assert 0 < len(written) < len(names)
    with sqlite3.connect(tmp_path / "g.sqlite") as other:
        done = other.execute("SELECT student FROM submissions WHERE state = 'done'").fetchall()
        rows = other.execute("SELECT student FROM results").fetchall()
    assert sorted(done) == sorted(rows) == sorted((name,) for name in written)
    full_after(book, 1000)  # room was made
    for name in names[len(written) :]:
        book.write(name, marks)
    assert all(row.total == 4.0 for row in book.rows())
    book.close()


def test_a_disk_that_is_full_before_the_gradebook_is_made_is_told_as_such(tmp_path, monkeypatch):
    full = sqlite3.OperationalError("disk I/O error")
    full.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE  # so it is where the disk is a small one

    def connect(*_, **__):
        raise full

    monkeypatch.setattr(gradebook.sqlite3, "connect", connect)
    with pytest.raises(CourseError, match="make room and run the same command again"):
        Gradebook(tmp_path / "g.sqlite")


def test_a_gradebook_that_another_program_writes_to_is_one_sentence(tmp_path):
    book = Gradebook(tmp_path / "g.sqlite")
    book._connection.execute("PRAGMA busy_timeout = 10")
    with contextlib.closing(sqlite3.connect(book.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = pytest.raises(CourseError, match="another program has it open: close that")
        with told, disk_trouble(tmp_path):
            book.set_fact("due", "today")
    book.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fails_elsewhere_is_one_sentence_too(number, tmp_path):
    with pytest.raises(CourseError, match="cannot be written"), disk_trouble(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "report.html"))


def test_a_copy_that_meets_a_full_disk_is_one_sentence_too(tmp_path):
    text = [("a", "b", str(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))]
    with pytest.raises(CourseError, match="cannot be written"), disk_trouble(tmp_path):
        raise gradebook.shutil.Error(text)
    with pytest.raises(FileNotFoundError), disk_trouble(tmp_path):
        Path(tmp_path / "nowhere").read_bytes()


def test_after_a_batch_no_descriptor_thread_or_process_is_left(
    needs_sandbox, class_folder, lesson, tmp_path
):
    for number in range(6):
        (class_folder / f"s{number}.ipynb").write_bytes(as_bytes(notebook(added=("import os",))))
    settings = batch.Settings(tmp_path / "out", workers=2, hidden=(Path(__file__).parents[2],))
    gc.collect()  # what earlier tests left open is closed now, not meanwhile
    before = _open(), threading.active_count(), _children()
    book = batch.grade(lesson, [class_folder], settings)
    book.close()
    assert (_open(), threading.active_count(), _children()) == before


def _open():
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(found)


def _children():
    tasks = Path("/proc/self/task").iterdir()
    return sorted(pid for task in tasks for pid in (task / "children").read_text().split())
