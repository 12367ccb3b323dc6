"""The real nbgrader makes an assignment of the published lesson, and grades what students hand in."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.notebooknode import NotebookNode

from course_lib.exercises.spec import exercises_of, find
from course_lib.publishing.lessons import LessonFiles, select

LESSON = 7
POINTS = {exercise.name: float(exercise.points) for exercise in exercises_of(LESSON)}
WRONG = "SelfAttention"  # nothing after it depends on it


@pytest.fixture(scope="module")
def files(request: pytest.FixtureRequest) -> LessonFiles:
    (found,) = select(request.config.rootpath, [str(LESSON)])
    return found


def nbgrader(course: Path, *words: str) -> str:
    """Run an nbgrader command in a course folder; return what it said."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COURSE_", "JUPYTER", "NBGRADER", "IPYTHON"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words],
        cwd=course,
        env={
            **environment,
            "HOME": str(course.parent),
            # As in an activated environment: nbgrader calls alembic by its bare name.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "COURSE_HOME": str(course.parent / "learner"),
            "COURSE_SCALE": "smoke",
            "JUPYTER_PREFER_ENV_PATH": "1",
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def course(files: LessonFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a course of nbgrader whose one assignment is made of the published, executed solution."""
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    source = folder / "source" / "attention"
    source.mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        'c.CourseDirectory.course_id = "transformers"\n'
        "c.ExecutePreprocessor.timeout = 600\n"
    )
    (source / files.solution.name).write_bytes(files.solution.read_bytes())
    nbgrader(folder, "generate_assignment", "attention")
    return folder


def released(course: Path, files: LessonFiles) -> NotebookNode:
    return nbformat.read(course / "release" / "attention" / files.learner.name, as_version=4)


@pytest.fixture(scope="module")
def scores(course: Path, files: LessonFiles) -> dict[str, dict[str, float]]:
    """Hand in four notebooks, grade them, and return each student's points by exercise."""
    solved = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in nbformat.read(files.solution, as_version=4).cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    exercise = find(WRONG, LESSON)
    mistake = (
        f"from course_lib.exercises.spec import find\n\n"
        f'{exercise.defines[0]} = find("{WRONG}").mistakes[0].answer[0]'
    )
    taken = "".join(
        f"from {thing.__module__} import {thing.__name__}\n" for thing in exercise.finished
    )
    answers = {
        "solved": solved,
        "blank": {},
        "wrong": {**solved, f"exercise-{WRONG}": mistake},
        "taken": {**solved, f"exercise-{WRONG}": taken},
    }
    for student, sources in answers.items():
        notebook = copy.deepcopy(released(course, files))
        for cell in notebook.cells:
            marks = cell.metadata.get("nbgrader", {})
            cell.source = sources.get(marks.get("grade_id"), cell.source)
            if marks.get("grade"):
                marks["points"] = 1000  # what a student writes into the file is not believed
        folder = course / "submitted" / student / "attention"
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / files.learner.name)
    nbgrader(course, "autograde", "attention")

    from nbgrader.api import Gradebook

    found = {}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        for student in answers:
            notebook = book.find_submission_notebook(files.learner.stem, "attention", student)
            for grade in notebook.grades:
                assert grade.max_score == POINTS[grade.name.removeprefix("check-")]
                assert not grade.needs_manual_grade
            found[student] = {
                grade.name.removeprefix("check-"): grade.auto_score for grade in notebook.grades
            }
    return found


def test_the_release_is_the_published_notebook(course, files):
    """What nbgrader makes of the solution is what the course publishes: same cells, same identities."""

    def essence(notebook: NotebookNode) -> list[tuple]:
        return [
            (cell.id, cell.cell_type, cell.source, cell.metadata.get("nbgrader"))
            for cell in notebook.cells
        ]

    ours = nbformat.read(files.learner, as_version=4)
    theirs = released(course, files)
    assert essence(theirs) == essence(ours)
    assert not any(cell.get("outputs") for cell in theirs.cells)


def test_solved_gets_full_points(scores):
    assert scores["solved"] == POINTS


def test_blank_gets_nothing(scores):
    assert scores["blank"] == dict.fromkeys(POINTS, 0.0)


def test_one_wrong_answer_costs_its_own_points(scores):
    assert scores["wrong"] == {**POINTS, WRONG: 0.0}


def test_the_courses_version_is_not_the_students(scores):
    assert scores["taken"] == {**POINTS, WRONG: 0.0}
