"""Grade a class while the grader, its sandboxes, its workers or its disk are taken away, and look what is left.

Used by the tests and, at length, by benchmarks/soak.py. Linux only. As root a full disk is a small one that is
filled; otherwise the gradebook is told that there is no page left.
"""

import contextlib
import ctypes
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopback import Loopback
from submissions import PUBLISHED, SOLUTIONS, STUBS, as_bytes, notebook

from course_lib.grading.sandbox.watch import descendants

_MAIN = [sys.executable, "-c", "from course_lib.cli import main; main()"]
_MAX_PAGES = """
import sys
from course_lib.grading import gradebook

most = int(sys.argv.pop(1))

class Small(gradebook.Gradebook):
    def __init__(self, path):
        super().__init__(path)
        pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
        self._connection.execute(f"PRAGMA max_page_count = {pages + most}")

gradebook.Gradebook = Small
from course_lib.cli import main
main()
"""
_SUBREAPER = 36
_GONE_SECONDS = 30.0
_DISK_BYTES, _LITTLE_BYTES = 64 * 2**20, 2**18


def write_class(folder: Path, students: int) -> None:
    """Write submissions of nine kinds, one after the other, and the published notebook beside them.

    Each student's code is a little different, and some of it ends its process, fails, or is no notebook.
    """
    half = {name: SOLUTIONS[name] for name in ("attention", "causal_mask")}
    wrong = {**SOLUTIONS, "attention": SOLUTIONS["attention"].replace("math.sqrt", "float")}
    first = next(iter(SOLUTIONS))
    kinds: list[dict[str, Any]] = [
        {"answers": SOLUTIONS},
        {"answers": half},
        {"answers": wrong},
        {},
        {
            "answers": SOLUTIONS,
            "added": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",),
        },
        {"answers": half, "first": ("1 / 0",)},
        {"answers": {**SOLUTIONS, first: SOLUTIONS[first].replace("return ", "return (", 1)}},
        {"answers": {**SOLUTIONS, first: f"import os\n\ndef {first}(*given):\n    os._exit(0)"}},
    ]
    for number in range(students):
        path = folder / "students" / f"s{number:04d}" / "07_self_attention.ipynb"
        path.parent.mkdir(parents=True)
        kind = number % (len(kinds) + 1)
        if kind == len(kinds):
            path.write_text(f"no JSON {number}")
            continue
        given = dict(kinds[kind])
        given["added"] = (*given.get("added", ()), f"print('student', {number})")
        path.write_bytes(as_bytes(notebook(**given)))
    published = [
        {"cell_type": cell.type, "metadata": {"tags": sorted(cell.tags)}, "source": cell.source}
        for cell in PUBLISHED
    ]
    (folder / "published.ipynb").write_bytes(as_bytes(published))
    (folder / "seed").write_text("a secret of the soak")
    assert len(STUBS) == len(SOLUTIONS)


def command(folder: Path, out: Path) -> list[str]:
    """Return the command that grades the class of `write_class` into ``out``."""
    words = ["grade", str(folder / "students"), "--lesson", "7", "-o", str(out), "--resume"]
    words += ["--published", str(folder / "published.ipynb")]
    return [*_MAIN, *words, "--seed-file", str(folder / "seed"), "--workers", "2"]


def environment(temporary: Path) -> dict[str, str]:
    """Return the environment of a grader whose temporary files go into a folder of their own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary), "COLUMNS": "200"}


def mounts_below(folder: Path) -> list[str]:
    """Return the mounts that have to do with a folder; others on this machine come and go."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line]


def left_behind(temporary: Path) -> list[str]:
    """Return what graders left in their folder for temporary files.

    PyTorch makes an empty one for a cache, one for all processes of a user; it does not count.
    """
    cache = set(temporary.glob("torchinductor_*"))
    return sorted(str(path) for path in temporary.rglob("*") if path not in cache)


@dataclass
class Tally:
    """What was done and what was found; ``complaints`` are what must not be."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    batches: int = 0
    complaints: list[str] = field(default_factory=list)


class Disturbed:
    """Batches of one class that are disturbed until they are done, each compared with an undisturbed one.

    Args:
        folder: an empty folder.
        students: how many there are.
        seed: of the moments and the kinds.
        cluster: grade on a scheduler and two workers of this machine.

    """

    def __init__(self, folder: Path, students: int, seed: int, cluster: bool = False) -> None:
        self.folder = folder
        self.tally = Tally()
        self._random = random.Random(seed)
        self._students = students
        self._cluster = cluster
        self._loopback: Loopback | None = None
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True)
        self._disk = folder / "disk"  # all that is graded into; as root a disk of its own
        self._disk.mkdir()
        self._mounted = False
        self._log = folder / "log"
        self._log_from = 0
        write_class(folder, students)

    def __enter__(self) -> "Disturbed":
        _adopt_orphans(True)
        self._others = set(descendants(os.getpid()))
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        self._mounted = os.geteuid() == 0 and _mount(self._disk)
        self._mounts = mounts_below(self.folder)
        begun = time.monotonic()
        out = self._disk / "undisturbed"
        process = self._start(out, local=True)
        while process.poll() is None and not self._graded():
            time.sleep(0.01)
        self._start_seconds = time.monotonic() - begun
        assert process.wait() in (0, 1), self.said()
        self._pace = (time.monotonic() - begun - self._start_seconds) / self._students
        self.expected = books(out)
        self._files = listing(out)
        if self._cluster:
            self._loopback = Loopback(self.folder / "dask").__enter__()

    def __exit__(self, *_: object) -> None:
        if self._loopback:
            self._loopback.__exit__()
        self._look_for_processes("the end")
        if self._mounted:
            subprocess.run(["umount", str(self._disk)], check=True)
        _adopt_orphans(False)

    def said(self) -> str:
        """Return the last that a grader printed."""
        return self._log.read_text()[-3000:]

    def batch(self, kinds: list[str]) -> None:
        """Grade the class once, with these disturbances one after the other, until it is done.

        Those that did not come about, since all was done before, are not counted in the tally.
        """
        self.tally.batches += 1
        out = self._disk / f"out-{self.tally.batches}"
        left = list(kinds)
        self._step = max(1, self._students // (len(kinds) + 1))
        done: dict[str, tuple[str, float]] = {}
        for _ in range(3 * len(kinds) + 3):
            self.tally.runs += 1
            code = self._disturb(out, left)
            done = self._look(out, done)
            if code in (0, 1) and not self._waits(out):
                break
            if code not in (0, 1, 2, -signal.SIGKILL):
                self._complain(f"exit status {code}", self.said())
                break
        else:
            self._complain("the batch comes to no end", self.said())
        self._compare(out)
        shutil.rmtree(out)

    # --- disturbing ----------------------------------------------------------------------

    def _start(
        self, out: Path, pages: int | None = None, local: bool = False
    ) -> "subprocess.Popen[bytes]":
        words = command(self.folder, out)
        if pages is not None:
            words = [sys.executable, "-c", _MAX_PAGES, str(pages), *words[len(_MAIN) :]]
        if self._loopback and not local:
            words += ["--scheduler", self._loopback.address]
        self._log_from = self._log.stat().st_size if self._log.exists() else 0
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(self._temporary),
            )

    def _graded(self) -> int:
        """Return how many marks the last grader has written, as it says."""
        return len(
            re.findall(rb"^\d+/\d+ ", self._log.read_bytes()[self._log_from :], re.MULTILINE)
        )

    def _fill(self, process: "subprocess.Popen[bytes]") -> int:
        """Fill the disk under a grader, but for a little; return its exit status, and make room again."""
        ballast = self._disk / "ballast"
        with open(ballast, "wb") as file:
            free = os.statvfs(self._disk)
            size = free.f_bavail * free.f_bsize - self._random.randrange(_LITTLE_BYTES)
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        code = process.wait()
        ballast.unlink()
        return self._told_of_the_disk(code)

    def _told_of_the_disk(self, code: int) -> int:
        if code == 2:
            self.tally.kills["disk"] += 1
            if "make room and run the same command again" not in self.said()[-500:]:
                self._complain("a full disk is not told in a sentence", self.said())
        elif code not in (0, 1):
            self._complain(f"exit status {code} on a full disk", self.said())
        return code

    def _wait_for_a_moment(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for a random moment of a run: one in five is counted from now, the others from some marks later."""
        if self._random.random() < 0.2:
            delay = self._random.uniform(0.0, self._start_seconds)
        else:
            marks = self._graded() + self._random.randint(1, self._step)
            delay = self._random.uniform(0.0, self._pace)
            while process.poll() is None and self._graded() < marks:
                time.sleep(0.01)
        moment = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.005)

    def _disturb(self, out: Path, left: list[str]) -> int:
        """Run a grader, disturb it at random moments with what is left to do, and return its exit status."""
        if left[:1] == ["disk"] and not self._mounted:
            left.pop(0)
            return self._told_of_the_disk(self._start(out, pages=self._random.randrange(12)).wait())
        process = self._start(out)
        while left:
            self._wait_for_a_moment(process)
            if process.poll() is not None:
                break
            kind = left[0]
            if kind == "disk" and self._mounted:
                left.pop(0)
                return self._fill(process)
            if kind in ("grader", "disk"):
                process.kill()
                self.tally.kills["grader"] += 1
                del left[: kind == "grader"]
                break
            if self._kill_below(process, kind):
                self.tally.kills[kind] += 1
                left.pop(0)
        return process.wait()

    def _kill_below(self, process: "subprocess.Popen[bytes]", kind: str) -> bool:
        """Kill a part of a run; wait until there is one. Tell whether there was."""
        if kind == "worker":
            assert self._loopback is not None
            self._loopback.kill(self._random.randrange(len(self._loopback.workers)))
            self._loopback.add_worker()
            return True
        while process.poll() is None:
            roots = [process.pid]
            if self._loopback:
                roots = [worker.pid for worker in self._loopback.workers]
            wall, copies = parts_of_sandboxes(roots)
            found = wall if kind == "warmed process" else copies
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._random.choice(found), signal.SIGKILL)
                    return True
            time.sleep(0.005)
        return False

    # --- looking -------------------------------------------------------------------------

    def _waits(self, out: Path) -> bool:
        """Tell whether a submission is not graded yet, or has to be again."""
        with contextlib.closing(sqlite3.connect(out / "gradebook.sqlite", timeout=30)) as book:
            rows = book.execute("SELECT COUNT(*) FROM submissions WHERE state != 'done'")
            return bool(rows.fetchone()[0])

    def _look(
        self, out: Path, before: dict[str, tuple[str, float]]
    ) -> dict[str, tuple[str, float]]:
        """Look at the gradebook after a run: it is whole, and what was written stays as it was."""
        self._look_for_processes("a run")
        path = out / "gradebook.sqlite"
        if not path.exists():
            return before
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as book:
            if book.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                self._complain("the gradebook is damaged", "")
            try:
                rows = book.execute(
                    "SELECT student, graded, seconds FROM submissions WHERE state = 'done'"
                )
                now = {student: (graded, seconds) for student, graded, seconds in rows}
            except sqlite3.OperationalError:  # killed before the tables were there
                return before
        for student, when in before.items():
            if now.get(student) != when:
                self._complain(f"{student} was graded again, or lost", f"{when} {now.get(student)}")
        return now

    def _compare(self, out: Path) -> None:
        """Compare a batch that is done with the undisturbed one."""
        if not (out / "grades.json").is_file():
            self._complain("no reports", self.said())
            return
        found = books(out)
        for name, expected in self.expected.items():
            if found[name] != expected:
                different = [each for each in found[name] if each not in expected]
                self._complain(f"{name} differs from an undisturbed run's", str(different)[:2000])
        if listing(out) != self._files:
            self._complain("files", str(listing(out) ^ self._files))
        if left := left_behind(self._temporary):
            self._complain("temporary files were left", str(left[:20]))
        if mounts_below(self.folder) != self._mounts:
            self._complain("mounts were left", "")

    def _look_for_processes(self, after: str) -> None:
        """Wait until nothing of a grader runs; what still does after half a minute is a complaint."""
        deadline = time.monotonic() + _GONE_SECONDS
        while True:
            kept = set(self._others)
            if self._loopback:
                mine = [each for each in self._loopback.workers if each.poll() is None]
                assert self._loopback.scheduler is not None
                for each in [*mine, self._loopback.scheduler]:
                    kept |= set(descendants(each.pid))
            left = [pid for pid in _children_reaped() if pid not in kept]
            if not left:
                return
            if time.monotonic() > deadline:
                names = [_command(pid)[:200] for pid in left]
                self._complain(f"processes were left after {after}", "\n".join(names))
                return
            time.sleep(0.02)

    def _complain(self, what: str, details: str) -> None:
        self.tally.complaints.append(f"batch {self.tally.batches}: {what}\n{details}".strip())


def books(out: Path) -> dict[str, list[Any]]:
    """Return all of a gradebook that does not depend on the time, and the reports."""
    with contextlib.closing(sqlite3.connect(out / "gradebook.sqlite", timeout=30)) as book:
        found = {
            "submissions": "student, name, origin, sha256, state, problem, flags",
            "results": "*",
            "code": "*",
        }
        value = {
            table: book.execute(f"SELECT {columns} FROM {table} ORDER BY student").fetchall()
            for table, columns in found.items()
        }
    grades = json.loads((out / "grades.json").read_text())
    for student in grades["students"]:
        del student["seconds"]
    del grades["class"]["slowest"]
    value["gradebook.csv"] = (out / "gradebook.csv").read_text().splitlines()
    value["grades.json"] = [grades["class"], *grades["students"]]
    return value


def _mount(folder: Path) -> bool:
    """Make a folder a small disk of its own; tell whether that is allowed."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def listing(out: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.name != "seed"}


def parts_of_sandboxes(roots: list[int]) -> tuple[list[int], list[int]]:
    """Return the processes below graders: walls and warmed processes, and the copies behind them."""
    walls, copies = [], []
    for root in roots:
        for outer in _children(root):
            if "zygote.py" not in _command(outer):
                continue
            for inner in _children(outer):
                inside = _children(inner)
                walls += [outer, inner, *inside[:1]]  # the first in there is the warmed one
                copies += [each for one in inside[1:] for each in descendants(one)]
    return walls, copies


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return sorted(found)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _children_reaped() -> Iterator[int]:
    """Yield all processes below this one, after those that ended and nobody waits for are seen off."""
    for pid in descendants(os.getpid()):
        if pid == os.getpid():
            continue
        try:
            state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if state[0] == "Z" and int(state[1]) == os.getpid():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if state[0] != "Z":
            yield pid


def _adopt_orphans(on: bool) -> None:
    """Make this process the parent of what its children leave behind, so that it is seen."""
    assert ctypes.CDLL(None).prctl(_SUBREAPER, int(on), 0, 0, 0) == 0
