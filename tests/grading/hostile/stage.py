"""The instructor's side while the collection runs: what is there to be taken or broken, and the judgement."""

import copy
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import shared_memory
from pathlib import Path

from submissions import EXERCISES, LESSON, PUBLISHED, points

from course_lib.grading import batch, cases, reduced, reports
from course_lib.grading.gradebook import Row
from course_lib.grading.intake import Submission
from course_lib.grading.marking import Marked, Marker
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox import Limits, Request, Response, Sandbox, SoloRetry, open_sandbox
from course_lib.grading.sandbox.bubblewrap import Bubblewrap
from course_lib.grading.sandbox.watch import descendants
from hostile.case import (
    BLANK,
    FULL,
    SOLUTIONS,
    SOLVED,
    STOLEN,
    ZERO,
    Case,
    Handed,
    Points,
    with_answers,
)
from hostile.injection import complaints_of_reports

ROOT = Path(__file__).resolve().parents[3]
THE_LESSON = Lesson(LESSON, EXERCISES, PUBLISHED)
SECRET = b"a secret of the hostile collection"
CANARY = "canary of the instructor"
USUAL = Limits(unit_cpu_seconds=10, unit_wall_seconds=60)
# A right notebook that would lose marks if devices, terminals, folders or modules were not as they should be.
SENSITIVE = with_answers(
    attention="""!echo hello
import matplotlib.pyplot as plt, multiprocessing, os, random, tempfile
assert not os.listdir('/tmp') or not os.path.exists('/tmp/left')
assert not os.listdir('/dev/shm') and os.urandom(4) and os.path.exists('/dev/zero')
open('/dev/null', 'w').write('x')
tempfile.TemporaryFile().write(b'x')
multiprocessing.Lock(), os.openpty()
"""
    + SOLUTIONS["attention"]
)
NEIGHBOURS = {"00-honest": FULL, "mm-blank": ZERO, "zz-honest": FULL}


@dataclass
class Found:
    """What came of one case; all empty and False if it ended as it should."""

    fooled: bool = False
    harsh: bool = False
    crashed: bool = False
    complaints: list[str] = field(default_factory=list)

    def compare(self, got: Points, fair: Points, whose: str = "") -> None:
        """Compare marks with the fair ones."""
        for name, most in fair.items():
            if got.get(name) == most:
                continue
            self.fooled |= got.get(name, 0.0) > most
            self.harsh |= got.get(name, 0.0) < most
            self.complaints.append(f"{whose}{name}: {got.get(name)} points, and {most} are fair")

    def complain(self, text: str) -> None:
        """Note something that is not as it should be, whatever the marks: the grader was fooled."""
        self.fooled = True
        self.complaints.append(text)


class _Listening:
    """A sandbox that keeps what was printed in another one."""

    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner
        self._kept = threading.local()

    def listen(self) -> list[str]:
        """Return a list that gets what this thread's runs print."""
        self._kept.heard = heard = []
        return heard

    def run(self, request: Request, limits: Limits) -> Response:
        response = self._inner.run(request, limits)
        self._kept.heard.append(response.output)
        return response

    def close(self) -> None:
        self._inner.close()


class Stage:
    """A sandbox with an instructor's things around it; used as a context.

    Args:
        draws: how often the hidden cases are drawn.
        cold: a new process for every run, in place of a copy of a warmed one.

    """

    def __init__(self, draws: int = 2, cold: bool = False) -> None:
        self._draws = draws
        self._cold = cold

    def __enter__(self) -> "Stage":
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="instructor-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for name in ("gradebook.sqlite", "private/seed", "ben/07_self_attention.ipynb"):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_text(CANARY)
            os.environ["COURSE_CANARY"] = CANARY
            stack.callback(os.environ.pop, "COURSE_CANARY", None)
            self._victim = subprocess.Popen(
                [sys.executable, "-c", "import sys; sys.stdin.read()"],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            stack.callback(self._victim.wait)
            stack.callback(self._victim.kill)
            self._port = socket.create_server(("127.0.0.1", 0))
            stack.enter_context(self._port)
            self._socket = socket.socket(socket.AF_UNIX)
            stack.enter_context(self._socket)
            self._socket.bind(f"\0instructor-{os.getpid()}")
            self._socket.listen()
            for each in (self._port, self._socket):
                each.setblocking(False)
            self._memory = shared_memory.SharedMemory(create=True, size=4096)
            stack.callback(self._memory.unlink)
            stack.callback(self._memory.close)
            self._memory.buf[: len(CANARY)] = CANARY.encode()
            library = reduced.build(LESSON, EXERCISES, Path(self.folder) / "library")
            warm_up = "\n".join(THE_LESSON.setup)
            hidden = [ROOT, self.folder]
            around = (
                Bubblewrap(library, hidden)
                if self._cold
                else open_sandbox(library, hidden, warm_up=warm_up, engine="bubblewrap")
            )
            inner = SoloRetry(around)
            stack.callback(inner.close)
            self._sandbox = _Listening(inner)
            drawn = cases.draw(EXERCISES, SECRET, self._draws)
            self._marker = Marker(THE_LESSON, drawn, self._sandbox, USUAL)
            self._before = self._seen()
            self._processes = len(descendants(os.getpid()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _seen(self) -> dict[str, bytes]:
        """Return every file of the instructor's, and the shared memory."""
        files = {
            str(path): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "library" not in path.relative_to(self.folder).parts
        }
        return {**files, "shared memory": bytes(self._memory.buf)}

    def filled_in(self, data: bytes) -> bytes:
        """Put the instructor's things in place of their words."""
        for word, thing in {
            "@FOLDER@": str(self.folder),
            "@PORT@": str(self._port.getsockname()[1]),
            "@PID@": str(self._victim.pid),
            "@SOCKET@": f"instructor-{os.getpid()}",
            "@MEMORY@": self._memory.name,
            "@SHARED@": "/dev/shm/" + self._memory.name,
        }.items():
            data = data.replace(word.encode(), thing.encode())
        return data

    def mark(self, data: bytes, limits: Limits = USUAL) -> tuple[Marked, str]:
        """Mark a notebook and return its marks, and all that it printed."""
        heard = self._sandbox.listen()
        marker = copy.copy(self._marker)  # with all that it knows, which takes long to find out
        marker._limits = limits
        marked = marker.mark(Submission("anna", "anna", "", "anna.ipynb", self.filled_in(data)))
        return marked, "\n".join(heard)

    def judge(self, case: Case) -> Found:
        """Mark a case and tell what is not as it should be."""
        found = Found()
        limits = Limits(**{**vars(USUAL), **case.limits})
        try:
            marked, printed = self.mark(case.data, limits)
        except Exception as error:
            found.crashed = True
            found.complaints.append(f"the grader failed: {type(error).__name__}: {error}")
            return found
        if marked.retry:
            found.crashed = True
            found.complaints.append(f"the grader failed: {marked.problem}")
        found.compare(points(marked), case.fair)
        for words in case.flags:
            if not any(words in flag for flag in marked.flags):
                found.complain(f"no flag says “{words}”: {list(marked.flags)}")
        reasons = {mark.exercise: mark.reason for mark in marked.marks}
        for exercise, words in case.says.items():
            if words not in reasons[exercise]:
                found.complain(f"{exercise}: “{reasons[exercise]}” does not say “{words}”")
        if STOLEN in printed:
            found.complain(f"it got hold of something: {printed[printed.index(STOLEN) :][:200]}")
        for text in self.touched():
            found.complain(text)
        if found.complaints:
            found.complaints += [
                f"{mark.exercise}: {mark.reason} [{mark.detail}]" for mark in marked.marks
            ]
            found.complaints += [f"flag: {flag}" for flag in marked.flags]
        return found

    def judge_all(self, cases: Sequence[Case], at_once: int = 2) -> list[Found]:
        """Mark cases, several at the same time, and tell of each what is not as it should be."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self.judge, cases))

    def disturbed(self) -> list[str]:
        """Return what is not as it was before anything ran, once nothing runs any more."""
        found = self.touched()
        patience = time.monotonic() + 20
        while len(descendants(os.getpid())) > self._processes and time.monotonic() < patience:
            time.sleep(0.02)  # the kernel clears away what was killed
        if (count := len(descendants(os.getpid()))) > self._processes:
            found.append(f"{count - self._processes} processes were left behind")
        return found

    def touched(self) -> list[str]:
        """Return what of the instructor's is not as it was."""
        found = []
        if self._seen() != self._before:
            found.append("the instructor's files were changed")
        if self._victim.poll() is not None:
            found.append("a process of the instructor's was ended")
        for each in (self._port, self._socket):
            try:
                each.accept()[0].close()
                found.append("a socket of the instructor's was reached")
            except BlockingIOError:
                pass
        return found

    def beside(self, data: Sequence[bytes]) -> list[Marked]:
        """Mark notebooks at the same time."""
        results: list[Marked | None] = [None] * len(data)

        def work(number: int) -> None:
            results[number] = self.mark(data[number])[0]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(data))]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return [each for each in results if each is not None]

    def pair(self, hostile: bytes) -> Found:
        """Mark a hostile notebook before, and beside, an honest and a blank one."""
        found = Found()
        self.mark(hostile)
        found.compare(points(self.mark(SENSITIVE)[0]), FULL, "after it, honest: ")
        _, honest, blank = self.beside([hostile, SENSITIVE, BLANK])
        found.compare(points(honest), FULL, "beside it, honest: ")
        found.compare(points(blank), ZERO, "beside it, blank: ")
        if honest.flags or blank.flags:
            found.complain(f"flags of the neighbours: {honest.flags} {blank.flags}")
        for text in self.disturbed():
            found.complain(text)
        return found


@dataclass(frozen=True)
class Graded:
    """A class that was graded: what is in the books, and what is wrong with files and reports."""

    rows: tuple[Row, ...]
    complaints: tuple[str, ...]


def grade_class(handed: Sequence[Handed], place: Path) -> Graded:
    """Put everything handed in below ``place``, with honest neighbours, grade it as a class, and write reports."""
    students = place / "students"
    students.mkdir()
    for name in NEIGHBOURS:
        (students / name).mkdir()
        (students / name / "07_self_attention.ipynb").write_bytes(
            SOLVED if NEIGHBOURS[name] == FULL else BLANK
        )
    zips = [path for each in handed for path in each.put(students)]
    (place / "seed").write_text("a secret of the hostile collection")
    before = files_below(students)
    settings = batch.Settings(
        place / "out", place / "seed", draws=1, workers=2, limits=USUAL, hidden=(ROOT, place)
    )
    book = batch.grade(THE_LESSON, [students, *zips], settings)
    complaints = []
    if files_below(students) != before:
        complaints.append("submissions were changed")
    reports.write_all(book, EXERCISES, place / "out")
    rows = tuple(book.rows())
    book.close()
    complaints += complaints_of_reports(place / "out")
    return Graded(rows, tuple(complaints))


def files_below(folder: Path) -> dict[str, int]:
    """Return the time of change of everything below a folder."""
    return {
        os.fsdecode(os.path.join(place, name)): os.lstat(os.path.join(place, name)).st_mtime_ns
        for place, folders, files in os.walk(folder)
        for name in [*folders, *files]
    }


def judge_handed(each: Handed, graded: Graded) -> Found:
    """Tell what is not as it should be in the books."""
    found = Found()
    for begin, fair in {**each.fair, **NEIGHBOURS}.items():
        whose = [row for row in graded.rows if row.student.casefold().startswith(begin.casefold())]
        wanted = each.students if begin in each.fair else 1
        problem = each.problem if begin in each.fair else ""
        if len(whose) != wanted:
            found.harsh = True
            found.complaints.append(f"{len(whose)} students begin with {begin}, not {wanted}")
        for row in whose:
            found.compare(_points(row), fair, f"{row.student}: ")
            if row.state != "done":
                found.crashed = True
                found.complaints.append(f"{row.student} is {row.state}: {row.problem}")
            if problem not in row.problem or bool(problem) != bool(row.problem):
                found.harsh = True
                found.complaints.append(f"{row.student}: “{row.problem}” and not “{problem}”")
    return found


def _points(row: Row) -> Mapping[str, float]:
    return {mark.exercise: row.points_of(mark) for mark in row.marks}
