"""Grading beside nbgrader and otter-grader: the same notebooks, the same two cores, in turn in one run.

Usage: python benchmarks/grading.py [--each 3] [--large 240] [--otter PATH] [--notebooks DIR]

Lesson 07 is handed in solved, half done, blank and wrong in five ways, each --each times; no two files have the
same code. Every notebook is executed first, which is not timed. Ours is `course grade --workers 2` with the
sandbox on and a fresh gradebook, from the command to the reports, and once more with --large submissions
(the same ones repeated), as a class is. nbgrader is `nbgrader autograde` on two gradebooks side by side, half of the
notebooks each. otter-grader (--otter names its program, in an environment that has the course) is two `otter run`
side by side. Prints tables, and writes benchmarks/grading.json.
"""

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import psutil
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests" / "grading"))

from executed_notebooks import executed, filled_in, learnt_by_heart, solutions, write  # noqa: E402

from course_lib.publishing.lessons import LessonFiles, select  # noqa: E402
from course_lib.publishing.provenance import machine  # noqa: E402

LESSON = 7
PHASES = HERE / "grading_phases.py"
_MAIN = [sys.executable, "-c", "from course_lib.cli import main; main()"]


def kinds(lesson: LessonFiles) -> dict[str, dict[str, str]]:
    """Return what students write, by exercise; what one leaves out is missing."""
    right = solutions(lesson)

    def edited(name: str, old: str, new: str) -> dict[str, str]:
        assert old in right[name], f"the solution of {name} no longer holds {old!r}"
        return {**right, name: right[name].replace(old, new, 1)}

    return {
        "solved": right,
        "blank": {},
        "half": {name: right[name] for name in ("attention", "causal_mask")},
        "first": {"attention": right["attention"]},
        "unscaled": edited("attention", " / math.sqrt(q.shape[-1])", ""),
        "future": edited("causal_mask", "<=", ">="),
        "syntax": edited("padding_mask", "return ", "return ("),
        "heart": {**right, "padding_mask": learnt_by_heart("padding_mask")},
    }


def hand_in(folder: Path, lesson: LessonFiles, each: int) -> dict[str, Path]:
    """Write executed notebooks and return them by student; those that are there already are taken."""
    found = {}
    for kind, answers in tqdm(kinds(lesson).items(), desc="executing"):
        master = folder / "executed" / kind / lesson.learner.name
        if not master.exists():
            write(executed(lesson, filled_in(lesson, answers)), master)
        for number in range(each):
            found[f"{kind}-{number}"] = master
    return found


def class_of(given: dict[str, Path], size: int) -> dict[str, Path]:
    """Return a class of any size, in which the same notebooks come again and again."""
    masters = list(given.values())
    return {f"s{number:04d}": masters[number % len(masters)] for number in range(size)}


def own_copy(master: Path, student: str, path: Path) -> None:
    """Write a student's copy of an executed notebook, with a comment of their own in each exercise."""
    notebook = nbformat.read(master, as_version=4)
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            cell.source += f"\n# by {student}"
    write(notebook, path)


def environment(**more: str) -> dict[str, str]:
    """Return the environment in which all are run: one thread each, the smallest scale."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COURSE_", "JUPYTER", "NBGRADER", "IPYTHON"))
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # nbgrader calls alembic by its bare name, as in an activated environment
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, **threads, "COURSE_SCALE": "smoke", "PATH": path, **more}


def run(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed; end here if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])} …: {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


@contextmanager
def timed(into: dict[str, Any]) -> Iterator[None]:
    """Note wall time and the processor time of the whole machine: let nothing else run on it.

    What a process of a sandbox used is added to no parent if the kernel ends it with its namespace.
    """
    before, begun = busy(), time.perf_counter()
    yield
    into["seconds"] = round(time.perf_counter() - begun, 2)
    into["core_seconds"] = round(busy() - before, 2)


def busy() -> float:
    """Return the seconds that the processors of this machine have worked since it was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def side_by_side(work: Callable[[int], Any]) -> None:
    """Do the work twice at the same time: with 0 and with 1."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 1)))


# --- ours ------------------------------------------------------------------------------------


def ours(
    folder: Path, lesson: LessonFiles, given: dict[str, Path], workers: int, scheduler: str = ""
) -> dict[str, Any]:
    """Grade with `course grade` on this machine, or on a cluster."""
    for student, master in given.items():
        own_copy(master, student, folder / "students" / student / lesson.learner.name)
    write(filled_in(lesson, {}), folder / lesson.learner.name)
    (folder / "seed").write_text("the secret of the benchmark")
    words = ["grade", "students", "--lesson", str(LESSON), "--published", lesson.learner.name]
    words += ["--seed-file", "seed", "--workers", str(workers), "-o", "out"]
    words += ["--scheduler", scheduler] if scheduler else []
    found: dict[str, Any] = {"submissions": len(given), "workers": workers}
    with timed(found):
        run([*_MAIN, *words], folder)
    grades = json.loads((folder / "out" / "grades.json").read_text(encoding="utf-8"))
    found["points"] = {
        each["student"]: {one["exercise"]: one["points"] for one in each["exercises"]}
        for each in grades["students"]
    }
    return found


def phases(folder: Path) -> list[dict[str, Any]]:
    """Return where the time goes, one submission after the other, so that the phases add up."""
    words = [
        "grade",
        "students",
        "--lesson",
        str(LESSON),
        "--seed-file",
        "seed",
        "-o",
        "out-phases",
    ]
    (published,) = (path.name for path in folder.glob("*.ipynb"))
    said = run([sys.executable, str(PHASES), *words, "--published", published], folder)
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


# --- nbgrader --------------------------------------------------------------------------------


def nbgraders(folder: Path, lesson: LessonFiles, given: dict[str, Path]) -> dict[str, Any]:
    """Grade with `nbgrader autograde` on two gradebooks side by side."""
    courses = [folder / f"gradebook-{number}" for number in (0, 1)]
    command = [sys.executable, "-m", "nbgrader"]
    homes = [
        environment(
            HOME=str(course), COURSE_HOME=str(course / "learner"), JUPYTER_PREFER_ENV_PATH="1"
        )
        for course in courses
    ]
    for number, course in enumerate(courses):
        source = course / "source" / "attention"
        source.mkdir(parents=True)
        (course / "nbgrader_config.py").write_text(
            'c = get_config()\nc.CourseDirectory.course_id = "transformers"\n'
            "c.ExecutePreprocessor.timeout = 600\n"
        )
        shutil.copy(lesson.solution, source)
        run([*command, "generate_assignment", "attention"], course, homes[number])
        for student, master in list(given.items())[number::2]:
            path = course / "submitted" / student / "attention" / lesson.learner.name
            own_copy(master, student, path)
    found: dict[str, Any] = {"submissions": len(given), "gradebooks": 2}
    with timed(found):
        side_by_side(
            lambda number: run([*command, "autograde", "attention"], courses[number], homes[number])
        )
    from nbgrader.api import Gradebook

    found["points"] = {}
    for course in courses:
        with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
            for submitted in book.assignment_submissions("attention"):
                (notebook,) = submitted.notebooks
                found["points"][submitted.student.id] = {
                    grade.name.removeprefix("check-"): grade.auto_score for grade in notebook.grades
                }
    return found


# --- otter-grader ----------------------------------------------------------------------------

_OTTER_TEST = """from otter.test_files import test_case

OK_FORMAT = False
name = "{name}"
points = {points}


@test_case(points={points}, hidden=False)
def test_it({names}, env):
    from course_lib.exercises import check

    scope = dict(env)
    exec('from course_lib.exercises import check\\ncheck("{name}")', scope)
"""


def otters(
    folder: Path, lesson: LessonFiles, given: dict[str, Path], program: Path
) -> dict[str, Any]:
    """Grade with `otter run`, which uses no container, on the same notebooks, two at a time."""
    from course_lib.exercises.spec import exercises_of

    kit = folder / "kit"
    (kit / "tests").mkdir(parents=True)
    for exercise in exercises_of(LESSON):
        (kit / "tests" / f"{exercise.name}.py").write_text(
            _OTTER_TEST.format(
                name=exercise.name, points=exercise.points, names=", ".join(exercise.defines)
            )
        )
    (kit / "otter_config.json").write_text(json.dumps({"lang": "python"}))
    with zipfile.ZipFile(folder / "autograder.zip", "w") as archive:
        for path in sorted(kit.rglob("*")):
            archive.write(path, path.relative_to(kit))
    for student, master in given.items():
        own_copy(master, student, folder / student / lesson.learner.name)
        notebook = nbformat.read(folder / student / lesson.learner.name, as_version=4)
        first = nbformat.v4.new_code_cell("import otter\ngrader = otter.Notebook()")
        notebook.cells.insert(0, copy.deepcopy(first))
        nbformat.write(notebook, folder / student / lesson.learner.name)
    found: dict[str, Any] = {"submissions": len(given), "processes": 2, "points": {}}
    env = environment(HOME=str(folder), COURSE_HOME=str(folder / "learner"), NBGRADER_EXECUTION="1")
    env["PATH"] = os.pathsep.join([str(program.parent), env["PATH"]])

    def half(number: int) -> None:
        for student in list(given)[number::2]:
            place = folder / student
            words = ["run", "-a", str(folder / "autograder.zip"), "-o", str(place), "--no-logo"]
            run([str(program), *words, str(place / lesson.learner.name)], place, env)

    with timed(found):
        side_by_side(half)
    for student in given:
        results = json.loads((folder / student / "results.json").read_text())
        found["points"][student] = {
            each["name"].split(" ")[0]: each.get("score", 0.0) for each in results["tests"]
        }
    return found


# --- all -------------------------------------------------------------------------------------


def per_minute(found: dict[str, Any]) -> float:
    return 60 * found["submissions"] / found["seconds"]


def show(results: dict[str, dict[str, Any]], console: Console) -> None:
    table = Table(title="Lesson 07, the same notebooks on the same cores, start-up included")
    table.add_column("grader")
    for column in ("submissions", "seconds", "per minute", "core-seconds each", "beside nbgrader"):
        table.add_column(column, justify="right")
    base = per_minute(results["nbgrader"]) if "nbgrader" in results else None
    for name, found in results.items():
        table.add_row(
            name,
            str(found["submissions"]),
            f"{found['seconds']:.1f}",
            f"{per_minute(found):.0f}",
            f"{found['core_seconds'] / found['submissions']:.2f}",
            f"{per_minute(found) / base:.1f}×" if base else "",
        )
    console.print(table)
    for name, found in results.items():
        if "phases" not in found:
            continue
        table = Table(title=f"{name}: where the time goes")
        for column, side in (
            ("phase", "left"),
            ("side", "left"),
            ("s", "right"),
            ("ms each", "right"),
        ):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        for phase in found["phases"]:
            each = phase["seconds"] / found["submissions"] * 1000
            shown = "" if phase["once"] else f"{each:.0f}"
            table.add_row(phase["phase"], phase["side"], f"{phase['seconds']:.2f}", shown)
        console.print(table)


def disagreements(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return where two graders gave the same notebook different points; hidden cases find more than shown ones."""
    found = []
    for name, result in results.items():
        for student, points in result["points"].items():
            mine = results["ours"]["points"].get(student, {})
            given = {exercise: float(points.get(exercise, 0)) for exercise in mine}
            if mine != given:
                found.append(f"{student}: ours {mine}, {name} {given}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=3, help="copies of each of the eight kinds")
    parser.add_argument("--large", type=int, default=240, help="size of a large class; 0 for none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--otter", type=Path, help="otter-grader's program; left out if not given")
    parser.add_argument("--notebooks", type=Path, help="where executed notebooks are kept")
    parser.add_argument("--only", choices=("ours", "nbgrader", "otter"), help="no comparison")
    options = parser.parse_args()
    console = Console(width=110)
    (lesson,) = select(ROOT, [str(LESSON)])
    results: dict[str, dict[str, Any]] = {}

    def wanted(name: str) -> bool:
        return options.only in (None, name)

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        given = hand_in(options.notebooks or place, lesson, options.each)
        if wanted("ours"):
            results["ours"] = ours(place / "ours", lesson, given, options.workers)
            results["ours"]["phases"] = phases(place / "ours")
        if wanted("nbgrader"):
            results["nbgrader"] = nbgraders(place / "nbgrader", lesson, given)
        if wanted("otter") and options.otter:
            results["otter-grader"] = otters(
                place / "otter", lesson, given, options.otter.resolve()
            )
        elif wanted("otter"):
            console.print("otter-grader is left out: name its program with --otter.")
        if wanted("ours") and options.large:
            large = class_of(given, options.large)
            results["ours, a large class"] = ours(place / "large", lesson, large, options.workers)
    show(results, console)
    for line in disagreements(results) if "ours" in results else []:
        console.print(line, markup=False)
    for name, found in results.items():
        if not any(sum(each.values()) for each in found["points"].values()):
            sys.exit(f"{name} gave nobody a point: it does not work here, and its time means nothing.")
    if options.only is None:
        for found in results.values():
            found["per_minute"] = round(per_minute(found), 1)
            found.pop("points")
        record = {
            "command": "python benchmarks/grading.py" + " --otter OTTER" * bool(options.otter),
            "each": options.each,
            "machine": machine(),
            "graders": results,
        }
        target = HERE / "grading.json"
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
