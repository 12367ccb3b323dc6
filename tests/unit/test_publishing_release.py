"""The students' repository: it holds no solutions, and it works."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from publishing_course import make_real_course

from course_lib.publishing.build import build, compose_lesson
from course_lib.publishing.lessons import LessonFiles
from course_lib.publishing.release import release
from course_lib.publishing.running import run_notebook
from course_lib.runtime import CourseError


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> LessonFiles:
    files = make_real_course(tmp_path_factory.mktemp("course"))
    build(files)
    files.records.write_text('{"values": {"kept": 3}}', encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def released(lesson: LessonFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "repository"
    release([lesson], folder)
    return folder


def test_what_it_holds(released):
    for name in (
        "README.md",
        "Makefile",
        "pyproject.toml",
        "constraints.txt",
        "environment.yml",
        "LICENSE",
        "LICENSE-TEXT",
        ".gitignore",
        "notebooks/07_exercises.ipynb",
        "notebooks/07_exercises.records.json",
        "course_lib/exercises/lessons/lesson_07.py",
        "course_lib/cli/lab.py",
        "course_lib/cli/jupyter/labconfig/default_setting_overrides.json",
    ):
        assert (released / name).is_file(), name
    for name in ("solutions", "tests", "course_lib/grading", "course_lib/publishing"):
        assert not (released / name).exists(), name
    assert not list(released.rglob("__pycache__"))
    assert {
        path.stem for path in (released / "course_lib/exercises/lessons").glob("lesson_*.py")
    } == {"lesson_07"}


def test_no_module_that_is_left_out_is_imported_by_one_that_is_kept(released):
    for path in released.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        # These look first whether the module is there.
        optional = path.parent.name == "cli" and path.name in ("__init__.py", "pretrain.py")
        assert optional or "course_lib.publishing" not in text, path
        assert optional or "import course_lib.grading" not in text, path
        assert "from course_lib.grading" not in text, path


def test_its_makefile_has_the_learners_targets_only(released):
    done = subprocess.run(
        ["make", "-n", "lab"], cwd=released, capture_output=True, text=True, check=True
    )
    assert "course lab" in done.stdout
    assert subprocess.run(["make", "-n", "test"], cwd=released, capture_output=True).returncode


def test_its_notebook_runs_with_its_own_package(released, tmp_path):
    notebook = nbformat.read(released / "notebooks/07_exercises.ipynb", as_version=4)
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            "import course_lib\nfrom course_lib.exercises.records import recorded\n"
            "print('package', course_lib.__file__, recorded('kept'))",
            id="where",
        )
    )
    output = tmp_path / "out.ipynb"
    report = run_notebook(
        notebook,
        "07_exercises",
        released / "notebooks",
        output=output,
        settings={"PYTHONPATH": str(released), "COURSE_SCALE": "smoke"},
    )
    assert report.error is None
    last = nbformat.read(output, as_version=4).cells[-1]
    assert last.outputs[0].text == f"package {released / 'course_lib/__init__.py'} 3\n"


def test_its_course_command_has_the_learners_commands_only(released):
    def course(*words: str) -> subprocess.CompletedProcess:
        code = "import sys; from course_lib.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=released,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(released), "PATH": "", "COURSE_HOME": str(released.parent)},
        )

    shown = course("--help")
    assert shown.returncode == 0, shown.stderr
    for command in ("lab", "status", "doctor", "data"):
        assert f"│ {command} " in shown.stdout
    for command in ("grade", "build", "release", "claims"):
        assert f"│ {command} " not in shown.stdout
    status = course("status", "--json")
    assert status.returncode == 0, status.stderr
    assert '"exercise": "attention"' in status.stdout


def test_a_folder_that_is_not_empty_or_lies_inside_the_course_is_refused(lesson, tmp_path):
    (tmp_path / "mine.txt").write_text("work")
    with pytest.raises(CourseError, match="is not empty"):
        release([lesson], tmp_path)
    with pytest.raises(CourseError, match="inside the course itself"):
        release([lesson], lesson.root / "students")
    assert (tmp_path / "mine.txt").read_text() == "work"


def test_a_clone_that_is_still_empty_is_accepted(lesson, tmp_path):
    (tmp_path / ".git").mkdir()
    assert Path("README.md") in release([lesson], tmp_path)


def test_drifted_notebooks_are_not_released(tmp_path):
    files = make_real_course(tmp_path / "course")
    with pytest.raises(CourseError, match=r"notebooks/07_exercises\.ipynb is missing"):
        release([files], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_line_of_a_solution_is_in_the_learners_notebook(lesson):
    composed = compose_lesson(lesson)
    assert "softmax" in str([cell.source for cell in composed.solution.cells])
    learner = "\n".join(cell.source for cell in composed.learner.cells)
    assert "softmax(dim=-1)" not in learner
