"""`--scheduler`: a real scheduler and real workers on this machine, one of them killed midway."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Loopback
from submissions import EXERCISES, PUBLISHED, SOLUTIONS, as_bytes, notebook

from course_lib.grading import batch, cases, cluster
from course_lib.grading.cluster import Briefing, Cluster, about, mark_there, versions
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox import Limits
from course_lib.grading.sandbox.watch import descendants
from course_lib.runtime import CourseError

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

SECRET = b"a secret of the tests"
HALF = {name: SOLUTIONS[name] for name in ("attention", "causal_mask")}
# A worker that dies of one submission, as of a fault in a library; another is slow enough to be met at work.
# Dask runs the script twice.
PRELOAD = """
import os, time
from course_lib.grading import cluster, marking

class Fragile(marking.Marker):
    def mark(self, submission):
        if b"a worker dies of this" in submission.data:
            os._exit(1)
        if b"this takes a while" in submission.data:
            time.sleep(1)
        return super().mark(submission)

cluster.Marker = Fragile
"""


@pytest.fixture(scope="module")
def loopback(needs_sandbox, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    (folder / "fragile.py").write_text(PRELOAD)
    with Loopback(folder / "cluster", workers=2, preload=folder / "fragile.py") as running:
        yield running


@pytest.fixture
def lesson():
    return Lesson(7, EXERCISES, PUBLISHED)


@pytest.fixture
def briefing():
    return Briefing(7, PUBLISHED, cases.seeds(EXERCISES, SECRET, 1), Limits(), False)


@pytest.fixture
def students(tmp_path):
    """Return a folder of ten; marking each takes a second on these workers."""
    folder = tmp_path / "students"
    folder.mkdir()
    kinds = [{"answers": SOLUTIONS}, {"answers": HALF}, {}]
    for number in range(9):
        cells = notebook(added=(f"'this takes a while', {number}",), **kinds[number % 3])
        (folder / f"s{number}.ipynb").write_bytes(as_bytes(cells))
    (folder / "s9.ipynb").write_text("no notebook")
    return folder


def settings(out, seed, address="", **more):
    return batch.Settings(out, seed_file=seed, draws=1, workers=2, scheduler=address, **more)


@pytest.fixture
def seed(tmp_path):
    path = tmp_path / "seed"
    path.write_bytes(SECRET)
    return path


def graded(book):
    """Return all that a gradebook says of the marks."""
    return [(row.student, row.state, row.problem, row.flags, row.marks) for row in book.rows()]


def test_a_worker_killed_midway_loses_nothing_and_marks_are_those_of_one_machine(
    loopback, lesson, students, seed, tmp_path
):
    killed = []

    def finished(submission, marked):
        if len(killed) == 0:
            killed.append(submission.student)
            loopback.kill()
            loopback.add_worker()

    there = batch.grade(
        lesson,
        [students],
        settings(tmp_path / "there", seed, loopback.address),
        finished=finished,
    )
    assert killed
    here = batch.grade(lesson, [students], settings(tmp_path / "here", seed))
    assert graded(there) == graded(here)
    assert [row.state for row in there.rows()] == ["done"] * 10
    points = [row.total for row in there.rows()]
    assert len(set(points[:3])) == 3
    assert points[0] == lesson.points
    loopback.wait_for_workers()


def test_what_is_graded_is_not_sent_again_and_no_sandbox_stays(
    loopback, lesson, students, seed, tmp_path
):
    (students / "s0.ipynb").rename(tmp_path / "later.ipynb")
    options = settings(tmp_path / "out", seed, loopback.address)
    batch.grade(lesson, [students], options).close()
    (tmp_path / "later.ipynb").rename(students / "s0.ipynb")
    came = []
    book = batch.grade(
        lesson, [students], options, finished=lambda submission, _: came.append(submission.student)
    )
    assert came == ["s0"]
    assert len(book.rows()) == 10
    for worker in loopback.workers:
        assert descendants(worker.pid) == [worker.pid]


def test_what_three_workers_died_of_is_given_up_and_the_batch_goes_on(
    loopback, lesson, seed, tmp_path
):
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "deadly.ipynb").write_bytes(as_bytes(notebook(added=("'a worker dies of this'",))))
    (folder / "honest.ipynb").write_bytes(as_bytes(notebook(SOLUTIONS)))
    keeper = _Keeper(loopback)
    with keeper:
        book = batch.grade(lesson, [folder], settings(tmp_path / "out", seed, loopback.address))
    deadly, honest = book.rows()
    assert honest.total == lesson.points
    assert deadly.state == "failed"
    assert "workers of the cluster died while they graded this submission" in deadly.problem
    assert {mark.status for mark in deadly.marks} == {"not-graded"}
    loopback.wait_for_workers()


class _Keeper:
    """Starts a worker for each one that has died, as Dask's nanny does, from a thread of its own."""

    def __init__(self, loopback):
        import threading

        self._loopback = loopback
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _keep(self):
        while not self._over.wait(0.1):
            dead = [each for each in self._loopback.workers if each.poll() is not None]
            for each in dead:
                self._loopback.workers.remove(each)
                self._loopback.add_worker()


def test_the_command_grades_on_a_cluster(loopback, seed, tmp_path):
    (tmp_path / "anna.ipynb").write_bytes(as_bytes(notebook(SOLUTIONS)))
    published = [
        {"cell_type": cell.type, "metadata": {"tags": sorted(cell.tags)}, "source": cell.source}
        for cell in PUBLISHED
    ]
    (tmp_path / "published.ipynb").write_bytes(as_bytes(published))
    words = ["grade", "anna.ipynb", "--lesson", "7", "-o", "out", "--published", "published.ipynb"]
    done = course(*words, "--scheduler", loopback.address, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 graded" in done.stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "gradebook.sqlite")) as book:
        (points,) = book.execute("SELECT SUM(points) FROM results").fetchone()
    assert points == sum(exercise.points for exercise in EXERCISES)


def course(*words, folder):
    return subprocess.run(
        [sys.executable, "-c", "from course_lib.cli import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        cwd=folder,
        check=False,
    )


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "tcp://[::1"])
def test_where_no_scheduler_answers_it_is_one_sentence(address, briefing, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1.0)
    refused = pytest.raises(CourseError, match="No Dask scheduler answers at")
    with refused, cluster.connected(address, briefing):
        pass


def test_without_dask_it_is_one_sentence(briefing, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused = pytest.raises(CourseError, match="needs Dask, which is not installed")
    with refused, cluster.connected("tcp://127.0.0.1:1", briefing):
        pass


FITS = {"versions": versions(), "engine": "bubblewrap", "problem": ""}


class Pretended:
    """A client whose workers say what they are told to say."""

    def __init__(self, said, threads=None):
        self._said = said
        self._threads = threads or {}

    def wait_for_workers(self, count, timeout):
        if not self._said:
            raise TimeoutError

    def run(self, function, *given, on_error):
        return self._said

    def nthreads(self):
        return self._threads

    def subscribe_topic(self, topic, handler):
        pass

    def unsubscribe_topic(self, topic):
        pass

    def cancel(self, futures, force):
        pass


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "has no workers: start some with `dask worker"),
        (
            {"tcp://a:1": {**FITS, "versions": {**versions(), "PyTorch": "1.0"}}},
            r"tcp://a:1 has PyTorch 1\.0 and not",
        ),
        ({"tcp://a:1": ModuleNotFoundError("No module named 'course_lib'")}, "No module named"),
        (
            {"tcp://a:1": {**FITS, "engine": "none", "problem": "bubblewrap is not installed."}},
            "bubblewrap is not installed",
        ),
    ],
)
def test_workers_that_do_not_fit_are_one_sentence(said, words, briefing):
    with pytest.raises(CourseError, match=words):
        Cluster(Pretended(said), "tcp://here:1", briefing).check()


def test_workers_that_fit_are_taken_whatever_their_sandbox(briefing):
    said = {"tcp://a:1": FITS, "tcp://b:1": {**FITS, "engine": "docker"}}
    Cluster(Pretended(said), "tcp://here:1", briefing).check()


def test_a_worker_says_which_sandbox_it_has(needs_sandbox):
    assert about(unsafe=False) == FITS
    assert about(unsafe=True)["engine"] == "unsafe"


def test_where_no_engine_works_a_worker_says_why(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    said = about(unsafe=False)
    assert said["engine"] == "none"
    assert "Students' code runs only in a sandbox" in said["problem"]


def test_a_worker_that_came_later_and_does_not_fit_refuses(briefing, monkeypatch):
    packed = briefing.packed()
    monkeypatch.setattr(cluster, "versions", lambda: {**versions(), "the course": "an older one"})
    said = json.loads(mark_there(packed, b"", False, ""))
    assert "the course an older one and not" in said["refused"]


def test_where_no_worker_is_left_the_batch_ends_in_a_sentence(briefing, monkeypatch):
    monkeypatch.setattr(cluster, "_WITHOUT_WORKERS_SECONDS", 0.05)
    monkeypatch.setattr(cluster, "_LOOK_SECONDS", 0.02)
    alone = Cluster(Pretended({}), "tcp://here:1", briefing)
    with pytest.raises(CourseError, match=r"has had no worker for .* go on with --resume"):
        list(alone.mark_all(["a submission"]))


def test_a_briefing_holds_neither_the_secret_nor_a_name(briefing):
    packed = briefing.packed()
    again, wanted = Briefing.unpacked(packed)
    assert again == replace(briefing, seeds={name: list(s) for name, s in briefing.seeds.items()})
    assert wanted == versions()
    assert SECRET not in cluster.zlib.decompress(packed)
    assert cases.draw_from(EXERCISES, again.seeds).keys() == {each.name for each in EXERCISES}


def test_seeds_differ_between_exercises_lessons_and_secrets():
    seeds = cases.seeds(EXERCISES, SECRET, 3)
    drawn = [each for given in seeds.values() for each in given]
    assert len(set(drawn)) == len(drawn) == 3 * len(EXERCISES)
    others = tuple(replace(each, lesson=8) for each in EXERCISES)
    assert not set(drawn) & {x for each in cases.seeds(others, SECRET).values() for x in each}
    assert not set(drawn) & {x for each in cases.seeds(EXERCISES, b"other").values() for x in each}


def test_a_station_that_nobody_asks_any_more_closes(briefing, monkeypatch, tmp_path):
    """As after a client that was killed: the worker keeps no warmed process for ever."""
    monkeypatch.setattr(cluster, "_IDLE_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "_own_folder", lambda: Path(tmp_path))
    unsafe = replace(briefing, unsafe=True).packed()
    said = json.loads(mark_there(unsafe, b"", False, ""))
    assert said["problem"] == "The file is empty: save the notebook and submit it again."
    deadline = time.monotonic() + 60
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    assert not cluster._stations
