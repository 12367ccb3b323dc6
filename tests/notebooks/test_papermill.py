"""papermill runs every learner's notebook to its end: unsolved, solved, and with one wrong answer."""

import json
from pathlib import Path

import nbformat

from course_lib.publishing.build import compose_lesson
from course_lib.publishing.lessons import LessonFiles
from course_lib.publishing.running import run_notebook


def run(lesson: LessonFiles, home: Path, sources: dict[str, str]) -> dict[str, str]:
    """Run the learner's notebook with exercise cells replaced; return each exercise's status."""
    notebook = nbformat.read(lesson.learner, as_version=4)
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = sources.get(cell.metadata.exercise, cell.source)
    report = run_notebook(
        notebook,
        lesson.name,
        lesson.root / "notebooks",
        settings={"COURSE_SCALE": "smoke", "COURSE_HOME": str(home), "OMP_NUM_THREADS": "1"},
    )
    assert report.error is None, f"{lesson.name}, {report.error}"
    assert report.done == report.cells
    path = home / "progress.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        key.partition("/")[2]: facts["status"] for key, facts in kept.items() if "status" in facts
    }


def solutions(lesson: LessonFiles) -> dict[str, str]:
    cells = compose_lesson(lesson).solution.cells
    return {
        cell.metadata.exercise: cell.source
        for cell in cells
        if "exercise" in cell.metadata.get("tags", [])
    }


def test_unsolved(lesson, exercises, tmp_path):
    states = run(lesson, tmp_path, {})
    for exercise in exercises:
        assert states[exercise.name] == "not-attempted"


def test_solved(lesson, exercises, tmp_path):
    states = run(lesson, tmp_path, solutions(lesson))
    for exercise in exercises:
        assert states[exercise.name] == "passed"


def test_one_wrong_answer(lesson, exercises, tmp_path):
    """What follows a wrong answer goes on with the finished version, so all the others still pass."""
    wrong = exercises[:1]
    sources = solutions(lesson)
    for exercise in wrong:
        names = "".join(f"{name}, " for name in exercise.defines)
        # A mistake may be made of a wrong part and a finished one, which must not look like the course's own.
        sources[exercise.name] = (
            "from course_lib.exercises.spec import find\n\n\n"
            "def own(thing):\n"
            "    if isinstance(thing, type):\n"
            "        return type(thing.__name__, (thing,), {})\n"
            "    return lambda *args, **named: thing(*args, **named)\n\n\n"
            f'{names}= (own(each) for each in find("{exercise.name}").mistakes[0].answer)'
        )
    states = run(lesson, tmp_path, sources)
    for exercise in exercises:
        assert states[exercise.name] == ("failed" if exercise in wrong else "passed")
