"""The grader under two hundred kills, and a thousand submissions in one go: what is lost, and what is left.

Usage: python benchmarks/soak.py [--kills 200] [--class-size 20] [--large 1000] [--seed N]

Kills, at random moments from a seed that is printed: the grader; the warmed process or a wall around it; one
student's copy; a worker of a Dask cluster (where Dask is installed); and a disk that is full (as root a small
one that is filled). After each the same command is given again with --resume, until all is graded. Every batch
is then compared with an undisturbed one: each submission graded once, marks, flags and reports the same, the
files the same, no process, mount or temporary file left.

The large class is graded by one process, and looked at after each hundred: memory, descriptors, threads,
processes. Prints tables, writes benchmarks/soak.json, and ends with status 1 if anything is wrong.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "grading"))

from disturbance import Disturbed, command, environment, left_behind, mounts_below, write_class  # noqa: E402

from course_lib.grading.sandbox import bubblewrap  # noqa: E402
from course_lib.grading.sandbox.watch import descendants  # noqa: E402
from course_lib.publishing.provenance import machine  # noqa: E402
from course_lib.runtime import CourseError  # noqa: E402

HERE_KINDS = {"grader": 30, "warmed process": 25, "copy": 30, "disk": 15}
CLUSTER_KINDS = {"grader": 15, "warmed process": 15, "copy": 20, "worker": 50}
PER_BATCH = 10
CLUSTER_SHARE = 0.3
MOST_GROWTH_MB = 32.0  # of the grader, between the 100th submission and the last


def kills(folder: Path, wanted: int, students: int, seed: int, cluster: bool) -> dict[str, Any]:
    """Disturb batches until that many kills came about; return what was done and found."""
    chance = random.Random(seed)
    table = CLUSTER_KINDS if cluster else HERE_KINDS
    begun = time.monotonic()
    with (
        Disturbed(folder, students, seed, cluster) as disturbed,
        tqdm(total=wanted, desc="cluster" if cluster else "this machine") as bar,
    ):
        while (done := disturbed.tally.kills.total()) < wanted and not disturbed.tally.complaints:
            count = min(PER_BATCH, wanted - done)
            disturbed.batch(chance.choices(list(table), list(table.values()), k=count))
            bar.update(disturbed.tally.kills.total() - done)
    tally = disturbed.tally
    return {
        "kills": dict(sorted(tally.kills.items())),
        "batches": tally.batches,
        "submissions each": students,
        "starts": tally.runs,
        "seconds": round(time.monotonic() - begun),
        "complaints": tally.complaints,
    }


def large(folder: Path, students: int) -> dict[str, Any]:
    """Grade a large class with one process and look at it after each hundred."""
    write_class(folder, students)
    temporary = folder / "tmp"
    temporary.mkdir()
    begun = time.monotonic()
    process = subprocess.Popen(
        command(folder, folder / "out"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(temporary),
    )
    assert process.stderr is not None
    looks = []
    with tqdm(total=students, desc="a large class") as bar:
        for line in process.stderr:
            if not (match := re.match(r"(\d+)/\d+ ", line)):
                continue
            bar.update()
            count = int(match[1])
            if count % 100 == 0 or count == students:
                looks.append({"graded": count, **_look(process.pid)})
    _, status, used = os.wait4(process.pid, 0)
    found: dict[str, Any] = {
        "submissions": students,
        "seconds": round(time.monotonic() - begun),
        "looks": looks,
        "peak MB": round(
            used.ru_maxrss / 1024, 1
        ),  # with the reports, which are written at the end
        "growth MB": round(looks[-1]["grader MB"] - looks[0]["grader MB"], 1),
    }
    complaints = []
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        complaints.append(f"exit status {os.waitstatus_to_exitcode(status)}")
    if found["growth MB"] > MOST_GROWTH_MB:
        complaints.append(f"memory grew by {found['growth MB']} MB")
    for what in ("descriptors", "threads"):
        if looks[-1][what] > looks[0][what]:
            complaints.append(f"{what}: {looks[0][what]} after 100, {looks[-1][what]} at the end")
    if mounts_below(folder):
        complaints.append("mounts were left")
    complaints += [f"left: {name}" for name in left_behind(temporary)]
    others = set(descendants(os.getpid())) - {os.getpid()}
    complaints += [f"process {pid} was left" for pid in sorted(others)]
    grades = json.loads((folder / "out" / "grades.json").read_text(encoding="utf-8"))
    if len(grades["students"]) != students:
        complaints.append(f"{len(grades['students'])} of {students} are in the books")
    return {**found, "complaints": complaints}


def _look(pid: int) -> dict[str, Any]:
    """Return what a grader uses at this moment."""
    below = descendants(pid)[1:]
    return {
        "grader MB": _resident(pid),
        # The walls and the warmed process; the copies come and go.
        "largest process below, MB": max(map(_resident, below), default=0.0),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "processes": len(below),
    }


def _resident(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+)", text)
    return round(int(match[1]) / 1024, 1) if match else 0.0


def show(record: dict[str, Any], console: Console) -> None:
    table = Table(title="Killed and resumed")
    for column in ("", "kills", "of which", "batches", "starts", "seconds", "complaints"):
        table.add_column(column, justify="left" if column in ("", "of which") else "right")
    for name in ("this machine", "cluster"):
        if found := record.get(name):
            kinds = ", ".join(f"{kind} {count}" for kind, count in found["kills"].items())
            row = (found["batches"], found["starts"], found["seconds"], len(found["complaints"]))
            table.add_row(name, str(sum(found["kills"].values())), kinds, *map(str, row))
    console.print(table)
    if found := record.get("large"):
        table = Table(title=f"{found['submissions']} submissions in {found['seconds']} s")
        for column in found["looks"][0]:
            table.add_column(column, justify="right")
        for look in found["looks"]:
            table.add_row(*map(str, look.values()))
        console.print(table)
        console.print(f"peak, with the reports: {found['peak MB']} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--class-size", type=int, default=20)
    parser.add_argument("--large", type=int, default=1000, help="0 for none")
    parser.add_argument("--seed", type=int, help="of the moments; drawn anew if not given")
    options = parser.parse_args()
    try:
        bubblewrap.check()
    except CourseError as error:
        sys.exit(str(error))
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    console = Console(width=120)
    console.print(f"seed {seed}")
    record: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/soak.py", *sys.argv[1:]]),
        "machine": machine(),
        "seed": seed,
        "full disk": "a small disk, filled" if os.geteuid() == 0 else "no page left for SQLite",
    }
    there = importlib.util.find_spec("distributed") is not None
    if not there:
        console.print("Dask is not installed, so no worker of a cluster is killed.")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        on_cluster = round(CLUSTER_SHARE * options.kills) if there else 0
        given = options.class_size, seed
        record["this machine"] = kills(
            place / "here", options.kills - on_cluster, *given, cluster=False
        )
        if on_cluster:
            record["cluster"] = kills(place / "there", on_cluster, *given, cluster=True)
        if options.large:
            record["large"] = large(place / "large", options.large)
    total: Counter[str] = Counter()
    complaints = []
    for part in ("this machine", "cluster", "large"):
        total.update(record.get(part, {}).get("kills", {}))
        complaints += record.get(part, {}).get("complaints", [])
    record["kills"] = dict(sorted(total.items()))
    show(record, console)
    console.print(f"{total.total()} kills, {len(complaints)} complaints")
    console.print("\n".join(complaints), markup=False)
    target = HERE / "soak.json"
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
