"""The `course` command: speed, errors as sentences, status, data, lab."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from publishing_course import make_course, make_real_course
from typer.testing import CliRunner

from course_lib.cli import app, main
from course_lib.cli.common import UsageError, course_root, is_for_user
from course_lib.cli.lab import DEFAULTS, find_notebook, lab_command
from course_lib.cli.status import progress_rows
from course_lib.publishing.build import build
from course_lib.runtime import CourseError

ROOT = Path(__file__).parents[2]


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["course", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_help_imports_neither_torch_nor_jupyter():
    code = (
        "import sys; sys.argv = ['course', '--help']\n"
        "from course_lib.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'numpy', 'nbformat', 'jupytext', 'nbgrader', 'papermill'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "build" in done.stdout
    assert "doctor" in done.stdout


def test_a_course_error_is_one_line_and_status_2(monkeypatch, capsys, tmp_path):
    make_course(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "build", "12") == 2
    assert capsys.readouterr().err == 'course: There is no lesson "12": this course has 03.\n'


def test_a_usage_error_is_one_line_and_status_2(monkeypatch, capsys, tmp_path):
    make_course(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "build", "--check", "--execute") == 2
    assert capsys.readouterr().err.startswith("course: --check writes nothing")
    assert run_main(monkeypatch, "run", "--scale", "huge") == 2
    assert capsys.readouterr().err == 'course: --scale is "huge": use smoke, standard or full.\n'
    assert run_main(monkeypatch, "run", "3") == 2
    assert "solutions/03_counting.ipynb is missing: run `course build`" in capsys.readouterr().err


def test_a_bug_is_not_hidden_behind_a_sentence():
    assert is_for_user(CourseError("x"))
    assert is_for_user(UsageError("x"))
    assert not is_for_user(ValueError("x"))


def test_root_is_the_course_around_the_current_folder_else_the_packages(tmp_path, monkeypatch):
    make_course(tmp_path)
    assert course_root(tmp_path / "notebooks") == tmp_path
    elsewhere = tmp_path.parent
    assert course_root(elsewhere) == ROOT
    monkeypatch.setattr("course_lib.cli.common.__file__", "/nowhere/course_lib/cli/common.py")
    with pytest.raises(UsageError, match="is not inside the course"):
        course_root(elsewhere)


# ---- the maintainer's commands, end to end on a real exercise


def test_build_check_run_and_claims_from_the_command_line(tmp_path, monkeypatch):
    files = make_real_course(tmp_path)
    text = files.source.read_text(encoding="utf-8")
    text = text.replace("import check\n", "import check, claim\n")
    text += '\n# %% tags=["claim"]\nclaim("one is one", measured=run.seed * 0 + 1, equals=1)\n'
    files.source.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    course = CliRunner()

    built = course.invoke(app, ["build", "--execute"])
    assert built.exit_code == 0, built.output
    assert files.solution.exists()
    checked = course.invoke(app, ["build", "--check"])
    assert checked.exit_code == 0, checked.output

    ran = course.invoke(
        app, ["run", "7", "--scale", "smoke", "--learner", "-o", str(tmp_path / "out")]
    )
    assert ran.exit_code == 0, ran.output
    assert "passed" in ran.output
    assert (tmp_path / "out/07_exercises.ipynb").exists()

    missing = course.invoke(app, ["claims", "--check"])
    assert missing.exit_code == 1
    assert "07_exercises.claims.json is missing" in missing.output
    measured = course.invoke(app, ["claims", "--seeds", "2"])
    assert measured.exit_code == 0, measured.output
    assert "one is one" in measured.output
    assert course.invoke(app, ["claims", "--check"]).exit_code == 0

    files.source.write_text(text.replace("equals=1)", "equals=2)"), encoding="utf-8")
    drifted = course.invoke(app, ["build", "--check"])
    assert drifted.exit_code == 1
    assert "differs from the source" in drifted.output
    false = course.invoke(app, ["claims", "--seeds", "2"])
    assert false.exit_code == 1
    assert "1 claim does not hold" in false.output


def test_run_fails_where_a_notebook_fails(tmp_path, monkeypatch):
    files = make_real_course(tmp_path)
    build(files)
    notebook = json.loads(files.learner.read_text(encoding="utf-8"))
    notebook["cells"][2]["source"] = ["x = 1\n", "undefined_name"]
    files.learner.write_text(json.dumps(notebook), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["run", "--learner"])
    assert ran.exit_code == 1
    assert 'cell "setup", line 2: NameError' in ran.output


# ---- status


def test_status_counts_what_is_passed(tmp_path, monkeypatch):
    from course_lib.exercises import progress
    from course_lib.exercises.spec import exercises_of

    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    progress.record(7, "attention", status="passed", attempts=2)
    progress.record(7, "causal_mask", status="failed", attempts=1, hints=1)
    rows = {row["exercise"]: row for row in progress_rows([7])}
    assert set(rows) == {exercise.name for exercise in exercises_of(7)}
    assert (rows["attention"]["status"], rows["attention"]["attempts"]) == ("passed", 2)
    assert (rows["causal_mask"]["status"], rows["causal_mask"]["hints"]) == ("failed", 1)
    assert rows["padding_mask"]["status"] == "not-attempted"

    shown = CliRunner().invoke(app, ["status", "07"])
    assert shown.exit_code == 0
    assert f"1 of {len(rows)} exercises passed" in shown.output
    assert json.loads(CliRunner().invoke(app, ["status", "7", "--json"]).output) == list(
        rows.values()
    )


def test_status_of_a_lesson_that_is_not_there(monkeypatch, capsys):
    assert run_main(monkeypatch, "status", "99") == 2
    assert "Lesson 99 has no exercises" in capsys.readouterr().err
    assert run_main(monkeypatch, "status", "x") == 2
    assert '"x" is no lesson' in capsys.readouterr().err


# ---- data


def test_data_list_shows_every_set(tmp_path, monkeypatch):
    from course_lib.data import registry

    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    shown = CliRunner().invoke(app, ["data", "list", "--json"])
    assert shown.exit_code == 0
    rows = json.loads(shown.output)
    assert [row["name"] for row in rows] == [each.name for each in registry.table()]
    assert not any(row["here"] for row in rows)
    assert "tinyshakespeare" in CliRunner().invoke(app, ["data", "list"]).output


def test_data_verify_names_a_damaged_file(tmp_path, monkeypatch):
    from course_lib.data import registry

    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    fine = CliRunner().invoke(app, ["data", "verify"])
    assert fine.exit_code == 0
    assert "Nothing is damaged." in fine.output
    file = registry.dataset("names").files[0].name
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / file).write_bytes(b"damaged")
    damaged = CliRunner().invoke(app, ["data", "verify"])
    assert damaged.exit_code == 1
    assert file in damaged.output
    assert CliRunner().invoke(app, ["data", "verify", "names"]).exit_code == 1


def test_data_set_that_is_not_there(monkeypatch, capsys):
    assert run_main(monkeypatch, "data", "fetch", "nosuchset") == 2
    assert "nosuchset" in capsys.readouterr().err


# ---- lab


def test_lab_opens_the_lesson_with_the_courses_defaults(tmp_path):
    files = make_course(tmp_path)
    files.learner.write_text("{}")
    command, environment = lab_command(
        tmp_path,
        "3",
        ["--no-browser", "--port=8899"],
        {"PATH": "/bin", "JUPYTER_CONFIG_PATH": "/mine"},
    )
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={tmp_path}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks/03_counting.ipynb" in command
    assert command[-2:] == ["--no-browser", "--port=8899"]
    assert environment["JUPYTER_CONFIG_PATH"] == f"{DEFAULTS}{os.pathsep}/mine"
    assert environment["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/bin"


def test_lab_names_the_lessons_that_there_are(tmp_path):
    files = make_course(tmp_path)
    with pytest.raises(UsageError, match="it has none"):
        find_notebook(tmp_path, "03")
    files.learner.write_text("{}")
    assert find_notebook(tmp_path, "03_counting") == files.learner
    with pytest.raises(UsageError, match=r'no lesson "4" in .*: it has 03'):
        find_notebook(tmp_path, "4")


def test_lab_passes_options_on(tmp_path, monkeypatch):
    files = make_course(tmp_path)
    (files.root / "notebooks/00_start_here.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path)
    started = []

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess:
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("course_lib.cli.lab.subprocess.run", start)
    monkeypatch.setattr("course_lib.cli.lab.os.geteuid", lambda: 1000)
    assert CliRunner().invoke(app, ["lab", "--no-browser", "--port", "8899"]).exit_code == 0
    assert CliRunner().invoke(app, ["lab", "0", "--no-browser"]).exit_code == 0
    assert started[0][-3:] == ["--no-browser", "--port", "8899"]
    assert started[1][-1:] == ["--no-browser"]
    assert all("/lab/tree/notebooks/00_start_here.ipynb" in command[4] for command in started)


def test_lab_as_root_says_what_to_do(tmp_path, monkeypatch, capsys):
    (make_course(tmp_path).root / "notebooks/00_start_here.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("course_lib.cli.lab.subprocess.run", pytest.fail)
    monkeypatch.setattr("course_lib.cli.lab.os.geteuid", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["course", "lab"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert 'make lab LAB="--allow-root"' in capsys.readouterr().err


def test_jupyterlab_takes_the_courses_defaults(tmp_path):
    """A real server: its settings say that it fetches no news, and it serves the lesson."""
    files = make_real_course(tmp_path)
    build(files)
    command, environment = lab_command(
        tmp_path, "7", ["--no-browser", "--ServerApp.token=t", "--ServerApp.port=0"], os.environ
    )
    environment |= {
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
    }
    if os.name == "posix" and os.geteuid() == 0:
        command.append("--allow-root")
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = wait_for_server(tmp_path / "runtime", server)
        settings = get(url + "lab/api/settings/@jupyterlab/apputils-extension:notification")
        assert settings["schema"]["properties"]["fetchNews"]["default"] == "false"
        assert (
            get(url + "api/contents/notebooks/07_exercises.ipynb?content=0")["type"] == "notebook"
        )
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for_server(folder: Path, server: subprocess.Popen) -> str:
    for _ in range(600):
        assert server.poll() is None, "JupyterLab ended"
        for path in folder.glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text())["url"]
            except ValueError:
                break  # still being written
        time.sleep(0.1)
    raise AssertionError("JupyterLab did not start within a minute")


def get(url: str) -> dict:
    from urllib.request import Request, urlopen

    with urlopen(Request(url, headers={"Authorization": "token t"}), timeout=30) as answer:
        return json.load(answer)
