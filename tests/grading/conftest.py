"""A lesson, students' notebooks, and a sandbox to run them in."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from submissions import EXERCISES, LESSON, PUBLISHED, SOLUTIONS, as_bytes, notebook, submission

from course_lib.grading import cases, reduced
from course_lib.grading.marking import Marked, Marker
from course_lib.grading.notebook import Lesson
from course_lib.grading.sandbox import Limits, SoloRetry, bubblewrap, open_sandbox
from course_lib.runtime import CourseError


@pytest.fixture(scope="session")
def lesson() -> Lesson:
    return Lesson(LESSON, EXERCISES, PUBLISHED)


@pytest.fixture(scope="session")
def needs_sandbox() -> None:
    """Skip, with the reason, where this machine cannot have a sandbox; fail where it was promised."""
    try:
        bubblewrap.check()
    except CourseError as error:
        if os.environ.get("COURSE_REQUIRE_SANDBOX"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reduced.build(LESSON, EXERCISES, tmp_path_factory.mktemp("reduced") / "library")


Marking = Callable[..., Marked]


@pytest.fixture(scope="session")
def mark(lesson: Lesson, library: Path, needs_sandbox: None) -> Iterator[Marking]:
    """Return a function that marks the cells of a notebook, in the real sandbox."""
    drawn = cases.draw(EXERCISES, b"a secret of the tests", draws=2)
    root = Path(__file__).resolve().parents[2]
    sandbox = SoloRetry(open_sandbox(library, [root], warm_up="\n".join(lesson.setup)))

    def run(cells: list[dict[str, Any]], **limits: Any) -> Marked:
        return Marker(lesson, drawn, sandbox, Limits(**limits)).mark(submission(cells))

    yield run
    sandbox.close()


@pytest.fixture
def class_folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder of students: one solved, one half, one blank, and the published notebook beside it."""
    folder = tmp_path / "students"
    half = {name: SOLUTIONS[name] for name in ("attention", "causal_mask")}
    for student, cells in {
        "anna": notebook(SOLUTIONS),
        "ben": notebook(half),
        "carla": notebook(),
    }.items():
        (folder / student).mkdir(parents=True)
        (folder / student / "07_self_attention.ipynb").write_bytes(as_bytes(cells))
    published = [
        {"cell_type": cell.type, "metadata": {"tags": sorted(cell.tags)}, "source": cell.source}
        for cell in PUBLISHED
    ]
    (tmp_path / "published.ipynb").write_bytes(as_bytes(published))
    yield folder
    shutil.rmtree(folder)
