"""Every lesson that there is, found by its source."""

from pathlib import Path

import pytest

from course_lib.publishing.lessons import LessonFiles, find_lessons

ROOT = Path(__file__).parents[2]
LESSONS = find_lessons(ROOT)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lesson" in metafunc.fixturenames:
        metafunc.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


@pytest.fixture
def exercises(lesson: LessonFiles) -> tuple:
    from course_lib.exercises.spec import exercises_of

    return exercises_of(lesson.number)
