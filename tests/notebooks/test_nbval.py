"""nbval runs every notebook; the outputs of cells tagged nbval-check-output must be those that are saved."""

import subprocess
import sys
from pathlib import Path

from course_lib.publishing.execution import environment

SANITISE = Path(__file__).with_name("nbval.cfg")


def run_nbval(path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--nbval-lax", f"--nbval-sanitize-with={SANITISE}"]
    command += ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", str(path)]
    with environment(COURSE_SCALE="smoke", OMP_NUM_THREADS="1"):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_executed_solution(lesson):
    run_nbval(lesson.solution, lesson.root)


def test_learners_notebook(lesson):
    run_nbval(lesson.learner, lesson.root)


def test_nbval_would_notice(tmp_path, pytestconfig):
    """An output that is compared, and differs, fails: the tests above can."""
    import nbformat
    import pytest

    cell = nbformat.v4.new_code_cell("print(1)", metadata={"tags": ["nbval-check-output"]})
    cell.outputs = [nbformat.v4.new_output("stream", text="2\n")]
    cell.execution_count = 1
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    with pytest.raises(AssertionError, match="1 failed"):
        run_nbval(tmp_path / "a.ipynb", pytestconfig.rootpath)
