"""`course grade` on lesson 07's real notebook, filled in and executed: from saved files to marks."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from executed_notebooks import card, executed, filled_in, learnt_by_heart, solutions, write
from nbformat.notebooknode import NotebookNode

from course_lib.exercises.spec import exercises_of
from course_lib.publishing.lessons import LessonFiles, select

LESSON = 7
POINTS = {exercise.name: float(exercise.points) for exercise in exercises_of(LESSON)}
TOTAL = sum(POINTS.values())
NOTHING = dict.fromkeys(POINTS, 0.0)
HALF = ("attention", "causal_mask")
BROKEN = "padding_mask"  # SelfAttention calls it


@dataclass(frozen=True)
class Graded:
    """The notebooks that were handed in, and what `course grade` made of them."""

    notebooks: dict[str, NotebookNode]
    students: dict[str, dict]
    out: Path

    def points(self, student: str) -> dict[str, float]:
        return {each["exercise"]: each["points"] for each in self.students[student]["exercises"]}

    def reason(self, student: str, exercise: str) -> str:
        found = self.students[student]["exercises"]
        return next(each["reason"] for each in found if each["exercise"] == exercise)


@pytest.fixture(scope="module")
def lesson_07(request: pytest.FixtureRequest) -> LessonFiles:
    (found,) = select(request.config.rootpath, [str(LESSON)])
    return found


@pytest.fixture(scope="module")
def handed_in(lesson_07: LessonFiles) -> dict[str, NotebookNode]:
    right = solutions(lesson_07)
    answers = {
        "solved": right,
        "half": {name: right[name] for name in HALF},
        "blank": {},
        "typo": {**right, BROKEN: right[BROKEN].replace("return ", "return (", 1)},
        "by-heart": {**right, BROKEN: learnt_by_heart(BROKEN)},
    }
    notebooks = {
        student: executed(lesson_07, filled_in(lesson_07, given))
        for student, given in answers.items()
    }
    notebooks["faked"] = faked(notebooks["blank"], notebooks["solved"])
    return notebooks


def faked(blank: NotebookNode, solved: NotebookNode) -> NotebookNode:
    """Return a blank notebook with a solved one's outputs, and with points written into its metadata."""
    result = copy.deepcopy(blank)
    for cell, source in zip(result.cells, solved.cells):
        if cell.cell_type == "code":
            cell.outputs = copy.deepcopy(source.outputs)
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.update(points=1000, score=1000)
    return result


@pytest.fixture(scope="module")
def graded(
    needs_sandbox: None,
    lesson_07: LessonFiles,
    handed_in: dict[str, NotebookNode],
    tmp_path_factory: pytest.TempPathFactory,
) -> Graded:
    folder = tmp_path_factory.mktemp("class")
    for student, notebook in handed_in.items():
        write(notebook, folder / "students" / student / lesson_07.learner.name)
    write(filled_in(lesson_07, {}), folder / lesson_07.learner.name)
    course = [sys.executable, "-c", "from course_lib.cli import main; main()"]
    done = subprocess.run(
        [
            *course,
            "grade",
            "students",
            "--lesson",
            str(LESSON),
            "-o",
            "out",
            "--published",
            lesson_07.learner.name,
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grades = json.loads((folder / "out" / "grades.json").read_text())
    return Graded(handed_in, {each["student"]: each for each in grades["students"]}, folder / "out")


def test_solved_is_full_marks(graded):
    assert all(f"{name}: right" in card(graded.notebooks["solved"], name) for name in POINTS)
    assert graded.points("solved") == POINTS
    assert graded.students["solved"]["points"] == TOTAL
    assert graded.students["solved"]["flags"] == []


def test_half_is_half(graded):
    assert graded.points("half") == {**NOTHING, **{name: POINTS[name] for name in HALF}}
    assert graded.students["half"]["points"] == TOTAL / 2


def test_blank_is_nothing(graded):
    assert all("not attempted" in card(graded.notebooks["blank"], name) for name in POINTS)
    assert graded.points("blank") == NOTHING
    statuses = {each["status"] for each in graded.students["blank"]["exercises"]}
    assert statuses == {"not-attempted"}


def test_a_syntax_error_costs_only_its_exercise(graded):
    cells = {cell.id: cell for cell in graded.notebooks["typo"].cells}
    (error,) = cells[f"exercise-{BROKEN}"].outputs
    assert error.ename == "SyntaxError"
    assert graded.points("typo") == {**POINTS, BROKEN: 0.0}
    assert "syntax error" in graded.reason("typo", BROKEN)


def test_outputs_and_points_in_the_file_are_not_believed(graded):
    assert all(f"{name}: right" in card(graded.notebooks["faked"], name) for name in POINTS)
    assert graded.points("faked") == NOTHING


def test_what_passes_the_public_check_by_heart_does_not_pass_the_secret_cases(graded):
    assert f"{BROKEN}: right" in card(graded.notebooks["by-heart"], BROKEN)
    assert graded.points("by-heart") == {**POINTS, BROKEN: 0.0}


def test_every_student_gets_a_page_with_the_reason_of_each_deduction(graded):
    for student, found in graded.students.items():
        page = (graded.out / "feedback" / f"{student}.html").read_text()
        for each in found["exercises"]:
            assert each["exercise"] in page
            assert each["reason"]
    assert "syntax error" in (graded.out / "feedback" / "typo.html").read_text()
