"""Makes ten executed notebooks of lesson 07, grades them with `course grade`, and prints marks and time.

    python benchmarks/grade_ten.py [--workers N] [--keep DIR]

The notebooks (solved, blank, half, one exercise wrong in a known way, a syntax error, …) are executed at
smoke scale first, which is not timed. Grading runs in the sandbox; its whole command is timed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "grading"))

from executed_notebooks import (  # noqa: E402
    executed,
    filled_in,
    learnt_by_heart,
    solutions,
    write,
)

from course_lib.exercises.spec import exercises_of  # noqa: E402
from course_lib.publishing.lessons import LessonFiles, select  # noqa: E402

LESSON = 7


def answers(lesson: LessonFiles) -> dict[str, dict[str, str]]:
    """Return what ten students wrote, by exercise; what one left out is missing."""
    right = solutions(lesson)

    def only(*names: str) -> dict[str, str]:
        return {name: right[name] for name in names}

    def edited(name: str, old: str, new: str) -> dict[str, str]:
        assert old in right[name], f"the solution of {name} no longer holds {old!r}"
        return {**right, name: right[name].replace(old, new, 1)}

    return {
        "01-solved": right,
        "02-solved": right,
        "03-solved": right,
        "04-blank": {},
        "05-half": only("attention", "causal_mask"),
        "06-first-only": only("attention"),
        "07-unscaled": edited("attention", " / math.sqrt(q.shape[-1])", ""),
        "08-sees-the-future": edited("causal_mask", "<=", ">="),
        "09-syntax-error": edited("padding_mask", "return ", "return ("),
        "10-by-heart": {**right, "padding_mask": learnt_by_heart("padding_mask")},
    }


def main() -> None:
    """Make, grade, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="submissions graded side by side")
    parser.add_argument("--keep", type=Path, help="an empty folder for notebooks and reports")
    options = parser.parse_args()
    (lesson,) = select(ROOT, [str(LESSON)])
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        given = answers(lesson)
        for student, written in tqdm(given.items(), desc="executing"):
            path = folder / "submissions" / student / lesson.learner.name
            write(executed(lesson, filled_in(lesson, written)), path)
        write(filled_in(lesson, {}), folder / lesson.learner.name)
        begin = time.perf_counter()
        command = [sys.executable, "-c", "from course_lib.cli import main; main()", "grade"]
        command += ["submissions", "--lesson", str(LESSON), "-o", "graded"]
        command += ["--published", lesson.learner.name, "--workers", str(options.workers)]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            sys.exit(done.returncode)
        grades = json.loads((folder / "graded" / "grades.json").read_text(encoding="utf-8"))
        for student in grades["students"]:
            print(f"{student['student']:<20} {student['points']:>4g} of {grades['points']:g}")
        total = sum(exercise.points for exercise in exercises_of(LESSON))
        assert grades["points"] == total
        print(
            f"{len(given)} notebooks, {options.workers} worker(s), sandbox on: {seconds:.1f} s in all, "
            f"{seconds / len(given):.2f} s per notebook, {60 * len(given) / seconds:.0f} per minute"
        )


if __name__ == "__main__":
    main()
