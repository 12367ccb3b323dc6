"""Grade on a Dask cluster: submissions go out as bytes, marks come back as plain data.

The workers are the instructor's own machines. Each has the course installed in the same version and is a
grader of its own, with oracles, one warm sandbox and the seeds of this lesson's hidden inputs. It is told no
student's name, and has neither the secret behind the seeds nor the gradebook.
"""

import atexit
import contextlib
import hashlib
import json
import logging
import platform
import shutil
import tempfile
import threading
import time
import uuid
import warnings
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy
import torch

from course_lib.exercises.spec import exercises_of
from course_lib.grading import cases, reduced
from course_lib.grading.intake import NotebookCell, Submission
from course_lib.grading.marking import Mark, Marked, Marker, nothing
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox import Limits, SoloRetry, engine_here, open_sandbox
from course_lib.runtime import CourseError

MOST_DEATHS = 3
_CONNECT_SECONDS, _WORKERS_SECONDS, _WITHOUT_WORKERS_SECONDS = 10.0, 30.0, 120.0
_LOOK_SECONDS = 1.0
_IDLE_SECONDS = 300.0
_MOST_LISTED = 3


@dataclass(frozen=True)
class Briefing:
    """What a worker is told once for all submissions.

    Attributes:
        lesson: the lesson's number.
        published: the cells of its notebook as it was published.
        seeds: by exercise, those of the hidden cases.
        limits: what a submission may use.
        unsafe: go without a sandbox.

    """

    lesson: int
    published: tuple[NotebookCell, ...]
    seeds: Mapping[str, Sequence[int]]
    limits: Limits
    unsafe: bool

    def packed(self) -> bytes:
        """Return it as bytes, with the versions that it is meant for."""
        cells = [{**asdict(cell), "tags": sorted(cell.tags)} for cell in self.published]
        value = {**vars(self), "published": cells, "limits": asdict(self.limits)}
        return zlib.compress(json.dumps({**value, "versions": versions()}).encode())

    @classmethod
    def unpacked(cls, packed: bytes) -> tuple["Briefing", dict[str, str]]:
        """Return what ``packed`` holds: the briefing, and the versions."""
        value = json.loads(zlib.decompress(packed))
        wanted = value.pop("versions")
        published = tuple(
            NotebookCell(**{**cell, "tags": frozenset(cell["tags"])}) for cell in value["published"]
        )
        limits = Limits(**value["limits"])
        return cls(**{**value, "published": published, "limits": limits}), wanted


@cache
def versions() -> dict[str, str]:
    """Return what must be the same on two machines, so that they give the same marks."""
    digest = hashlib.sha256()
    for name, path in sorted(reduced.modules_of().items()):
        digest.update(f"{name}\n".encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return {
        "the course": digest.hexdigest()[:12],
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "PyTorch": torch.__version__.partition("+")[0],
        "NumPy": numpy.__version__,
    }


def _mismatch(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Say which versions differ; "" if none does."""
    return ", ".join(
        f"{name} {theirs.get(name, 'unknown')} and not {version}"
        for name, version in ours.items()
        if theirs.get(name) != version
    )


# --- on a worker -----------------------------------------------------------------------------


class _Station:
    """One batch's grader on a worker: a marker and its warm sandbox, closed when nothing comes any more.

    It has threads of its own: a sandbox ends with the thread that opened it.
    """

    def __init__(self, briefing: Briefing, place: Path) -> None:
        self.busy = 0
        self.last = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="course-grade-", dir=place))
        self._threads = ThreadPoolExecutor(thread_name_prefix="course-grade")
        try:
            self._marker = self._threads.submit(self._open, briefing, place).result()
        except BaseException:
            self.close()
            raise

    def _open(self, briefing: Briefing, place: Path) -> Marker:
        torch.set_num_threads(1)
        exercises = exercises_of(briefing.lesson)
        lesson = Lesson(briefing.lesson, exercises, briefing.published)
        library = reduced.build(lesson.number, exercises, self._folder / "library")
        hidden = (place, reduced.PACKAGE.parent)
        sandbox = open_sandbox(library, hidden, briefing.unsafe, "\n".join(lesson.setup))
        drawn = cases.draw_from(exercises, briefing.seeds)
        return Marker(lesson, drawn, SoloRetry(sandbox), briefing.limits)

    def mark(self, submission: Submission) -> Marked:
        return self._threads.submit(self._marker.mark_safely, submission).result()

    def close(self) -> None:
        if hasattr(self, "_marker"):
            self._marker.stop()
        self._threads.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


_stations: dict[str, _Station] = {}
_stations_lock = threading.Lock()


def mark_there(packed: bytes, data: bytes, late: bool, problem: str) -> bytes:
    """Mark one submission on a worker.

    Args:
        packed: the briefing.
        data: the notebook's bytes.
        late: the learning platform marked it late.
        problem: why there is no notebook, or "".

    Returns:
        JSON: what `Marked` holds, or why this worker cannot mark ("refused").

    """
    try:
        with _station(packed) as station:
            marked = station.mark(Submission("", "", "", "", data, late=late, problem=problem))
    except CourseError as error:
        return json.dumps({"refused": str(error)}).encode()
    return json.dumps(asdict(marked)).encode()


@contextmanager
def _station(packed: bytes) -> Iterator[_Station]:
    key = hashlib.sha256(packed).hexdigest()
    with _stations_lock:
        if key not in _stations:
            briefing, wanted = Briefing.unpacked(packed)
            if different := _mismatch(versions(), wanted):
                raise CourseError(f"it has {different}")
            _stations[key] = _Station(briefing, _own_folder())
            threading.Thread(target=_close_when_idle, args=(key,), daemon=True).start()
        station = _stations[key]
        station.busy += 1
    try:
        yield station
    finally:
        with _stations_lock:
            station.busy -= 1
            station.last = time.monotonic()


def _own_folder() -> Path:
    from distributed import get_worker

    return Path(get_worker().local_directory)


def _close_when_idle(key: str) -> None:
    """Close a batch's station when no submission has come for minutes: its client may have been killed."""
    while True:
        time.sleep(_IDLE_SECONDS / 10)
        with _stations_lock:
            station = _stations.get(key)
            if station is None:
                return
            if not station.busy and time.monotonic() - station.last > _IDLE_SECONDS:
                _stations.pop(key).close()
                return


def leave(packed: bytes) -> None:
    """Close a batch's station on a worker, at the batch's end."""
    with _stations_lock:
        station = _stations.pop(hashlib.sha256(packed).hexdigest(), None)
    if station is not None:
        station.close()


@atexit.register
def _leave_all() -> None:
    for station in list(_stations.values()):
        station.close()


def about(unsafe: bool) -> dict[str, Any]:
    """Return a worker's versions, the engine of its sandbox, and why that is "none" ("" otherwise)."""
    engine, problem = ("unsafe", "") if unsafe else engine_here()
    return {"versions": versions(), "engine": engine, "problem": problem}


# --- on the instructor's machine -------------------------------------------------------------


@contextmanager
def connected(address: str, briefing: Briefing) -> Iterator["Cluster"]:
    """Connect to a scheduler, look whether its workers fit, and leave nothing on them in the end.

    Raises:
        CourseError: Dask is not installed, there is no scheduler, no worker, or one that does not fit.

    """
    try:
        import distributed
    except ImportError as error:
        raise CourseError(
            "--scheduler needs Dask, which is not installed: "
            "`pip install distributed`, in the version of the workers."
        ) from error
    for name in ("distributed", "distributed.client", "distributed.comm", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said in a sentence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notebooks are large for a message
        try:
            client = distributed.Client(
                address, timeout=_CONNECT_SECONDS, set_as_default=False, name="course-grade"
            )
        except (OSError, ValueError, TypeError) as error:
            raise CourseError(
                f"No Dask scheduler answers at {address}: start one (`dask scheduler`) and give the "
                "address that it prints, such as tcp://10.0.0.1:8786."
            ) from error
        cluster = Cluster(client, address, briefing)
        try:
            cluster.check()
            yield cluster
        finally:
            cluster.close()


class Cluster:
    """The workers of one scheduler, for one batch.

    Args:
        client: the connection.
        address: the scheduler's.
        briefing: what the workers are told.

    """

    def __init__(self, client: Any, address: str, briefing: Briefing) -> None:
        self._client = client
        self._address = address
        self._briefing = briefing
        self._packed = briefing.packed()
        self._exercises = exercises_of(briefing.lesson)
        self._told: SimpleQueue[Any] = (
            SimpleQueue()
        )  # futures that are done, and keys of lost tasks

    def check(self) -> None:
        """Look at every worker.

        Raises:
            CourseError: there is none, or one that cannot mark or would mark differently.

        """
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError as error:
            raise CourseError(
                f"The scheduler at {self._address} has no workers: start some with "
                f"`dask worker {self._address} --nthreads 1`."
            ) from error
        found = self._client.run(about, self._briefing.unsafe, on_error="return")
        wrong = []
        for worker, said in found.items():
            if not isinstance(said, dict):
                wrong.append(
                    f"{worker} cannot run the course ({type(said).__name__}: {said})"[:300]
                )
            elif different := _mismatch(said["versions"], versions()):
                wrong.append(f"{worker} has {different}")
            elif said["engine"] == "none":
                wrong.append(f"{worker}: {said['problem']}")
        if wrong:
            more = f" (and {len(wrong) - _MOST_LISTED} more)" if len(wrong) > _MOST_LISTED else ""
            raise CourseError(
                f"Workers that do not fit: {'; '.join(wrong[:_MOST_LISTED])}{more}. Install the same "
                "versions of the course and its packages there (constraints.txt) and start them again."
            )

    def close(self) -> None:
        """Close the sandboxes on the workers, and the connection."""
        with contextlib.suppress(Exception):  # workers, or the scheduler, may have gone
            self._client.run(leave, self._packed, on_error="ignore")
        with contextlib.suppress(Exception):  # it may not answer in time; the marks are written
            self._client.close(timeout=5)

    def mark_all(
        self, waiting: list[Submission]
    ) -> Generator[tuple[Submission, Marked], None, None]:
        """Yield submissions with their marks as they come; ``waiting`` is emptied.

        No more are under way than the workers have threads, so that a worker that dies takes with it only
        what it was at. That is given to another one; what three workers died of is given up.

        Raises:
            CourseError: the scheduler has gone, no worker is left, or one that came later does not fit.

        """
        waiting.reverse()
        batch, number = uuid.uuid4().hex[:8], 0
        running: dict[str, tuple[Any, Submission]] = {}
        deaths: Counter[str] = Counter()
        self._client.subscribe_topic("all", self._note)
        last_seen = time.monotonic()
        try:
            while waiting or running:
                threads = self._threads()
                if threads:
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > _WITHOUT_WORKERS_SECONDS:
                    raise CourseError(
                        f"The scheduler at {self._address} has had no worker for "
                        f"{_WITHOUT_WORKERS_SECONDS / 60:g} minutes: start some and go on with --resume."
                    )
                while waiting and len(running) < threads:
                    submission = waiting.pop()
                    key, number = f"course-grade-{batch}-{number}", number + 1
                    future = self._client.submit(
                        mark_there,
                        self._packed,
                        submission.data,
                        submission.late,
                        submission.problem,
                        key=key,
                        pure=False,
                    )
                    running[key] = future, submission
                    future.add_done_callback(self._told.put)
                try:
                    told = self._told.get(timeout=_LOOK_SECONDS)
                except Empty:
                    continue
                if isinstance(told, str):
                    deaths[told] += 1
                    if told not in running or deaths[told] < MOST_DEATHS:
                        continue
                    future, submission = running.pop(told)
                    future.cancel()
                    yield submission, self._given_up(deaths[told])
                elif told.key in running:
                    future, submission = running.pop(told.key)
                    yield submission, self._taken(future)
        finally:
            with contextlib.suppress(Exception):
                self._client.unsubscribe_topic("all")
                self._client.cancel([future for future, _ in running.values()], force=True)

    def _threads(self) -> int:
        """Return how many threads all workers have."""
        try:
            return sum(self._client.nthreads().values())
        except Exception as error:
            raise self._gone() from error

    def _note(self, event: Any) -> None:
        """Take the scheduler's word that a worker has gone, and what it was at."""
        what = event[1] if isinstance(event, tuple) else event
        if isinstance(what, dict) and what.get("action") == "remove-worker":
            lost = () if what.get("expected") else what.get("processing-tasks", ())
            for key in lost:
                self._told.put(str(key))

    def _gone(self) -> CourseError:
        return CourseError(
            f"The scheduler at {self._address} has gone: start it again and go on with --resume. "
            "No mark that was written is lost."
        )

    def _given_up(self, count: int) -> Marked:
        return nothing(
            self._exercises,
            f"{count} workers of the cluster died while they graded this submission: grade it again "
            "on this machine, without --scheduler, or look at it by hand.",
            retry=True,
        )

    def _taken(self, future: Any) -> Marked:
        """Return what a task that is done brought.

        Raises:
            CourseError: the scheduler has gone, or the worker does not fit.

        """
        from distributed.scheduler import KilledWorker

        if future.status == "cancelled" or future.status == "lost":
            raise self._gone()
        try:
            value = json.loads(future.result())
        except KilledWorker as error:
            return self._given_up(error.allowed_failures + 1)
        except Exception as error:
            return nothing(
                self._exercises,
                f"The cluster failed on this submission ({type(error).__name__}): grade it again.",
                retry=True,
            )
        if "refused" in value:
            raise CourseError(
                f"A worker of {self._address} cannot mark: {value['refused']}. Stop it, or install the "
                "course's same version there, and go on with --resume."
            )
        marks = tuple(Mark(**mark) for mark in value.pop("marks"))
        return Marked(marks, tuple(value.pop("flags")), **value)
