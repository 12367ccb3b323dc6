"""What is published agrees with its source, gives no solution away, and claims what was measured."""

import re

import nbformat

from course_lib.publishing.build import compose_lesson, drift
from course_lib.publishing.claims import faults
from course_lib.publishing.lessons import find_lessons

LONG_ENOUGH = 30


def test_there_are_lessons(pytestconfig):
    assert find_lessons(pytestconfig.rootpath)


def test_notebooks_and_source_agree(lesson):
    assert drift(lesson) == []


def test_claims_have_a_record_fresh_and_true(lesson):
    assert faults(lesson) == []


def test_learners_notebook_holds_no_line_of_a_solution(lesson, exercises):
    learner = nbformat.read(lesson.learner, as_version=4)
    shown = "\n".join(cell.source for cell in learner.cells)
    hidden = set()
    for cell in compose_lesson(lesson).solution.cells:
        for part in re.findall(
            r"BEGIN SOLUTION(.*?)### END SOLUTION", cell.source, flags=re.DOTALL
        ):
            hidden |= {
                line.strip() for line in part.splitlines() if len(line.strip()) > LONG_ENOUGH
            }
    assert bool(hidden) == bool(exercises)
    assert sorted(line for line in hidden if line in shown) == []


def test_learners_notebook_asks_for_every_exercise(lesson, exercises):
    learner = nbformat.read(lesson.learner, as_version=4)
    stubs = [cell.metadata.exercise for cell in learner.cells if "# YOUR CODE HERE" in cell.source]
    assert sorted(stubs) == sorted(exercise.name for exercise in exercises)
