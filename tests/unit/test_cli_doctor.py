"""`course doctor`: each judgement, by facts of machines that are not at hand."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from course_lib.cli import app, machine
from course_lib.cli.machine import Check, Facts, Folder, Torch, examine

FINE = Facts(
    python=(3, 11, 7),
    executable="/course/.venv/bin/python",
    system="Linux",
    architecture="x86_64",
    torch=Torch(version="2.13.0+cpu"),
    nvidia_card=False,
    nvidia_driver="",
    hidden_gpus=None,
    unmet=(),
    kernel="python",
    widgets_extension=True,
    memory_total=16.0,
    memory_free=8.0,
    disk_free=100.0,
    home=Folder("/home/me/.local/share/transformers-course"),
    data=Folder("/home/me/.cache/transformers-course"),
    notebooks=Folder("/course/notebooks"),
    bubblewrap="/usr/bin/bwrap",
)
CUDA = Torch(version="2.13.0", cuda_build="13.0")


def judged(check, **facts: object) -> Check:
    return check(dataclasses.replace(FINE, **facts))


def test_a_good_machine_is_good_in_every_respect():
    checks = examine(FINE)
    assert [check.status for check in checks] == ["ok"] * 12
    assert all(check.sentence.endswith(".") and not check.remedy for check in checks)
    assert len({check.name for check in checks}) == 12


@pytest.mark.parametrize(
    ("check", "facts", "status", "said", "remedy"),
    [
        (
            machine.python_version,
            {"python": (3, 10, 4)},
            "fail",
            "Python 3.10.4",
            "PYTHON=python3.11",
        ),
        (machine.python_version, {"python": (3, 14, 0)}, "ok", "3.14.0", ""),
        (
            machine.pytorch,
            {"torch": Torch(error="libcudart.so.12: cannot open shared object file")},
            "fail",
            "libcudart.so.12",
            "--force-reinstall torch",
        ),
        (
            machine.pytorch,
            {"torch": Torch(error="No module named torch"), "system": "Darwin"},
            "fail",
            "Intel processor",
            "Apple processor",
        ),
        (
            machine.accelerator,
            {"torch": dataclasses.replace(CUDA, cuda=True, gpus=("NVIDIA H200",))},
            "ok",
            "NVIDIA H200",
            "",
        ),
        (machine.accelerator, {"torch": Torch(version="2.13.0", mps=True)}, "ok", "Apple GPU", ""),
        (machine.accelerator, {}, "ok", "lessons use the CPU", ""),
        (
            machine.accelerator,
            {"nvidia_card": True, "nvidia_driver": "570.1"},
            "warn",
            "build for CPUs",
            "pytorch.org/get-started",
        ),
        (
            machine.accelerator,
            {"torch": CUDA, "nvidia_card": True},
            "warn",
            "no driver for it is loaded",
            "nvidia-smi",
        ),
        (
            machine.accelerator,
            {"torch": CUDA, "nvidia_card": True, "nvidia_driver": "570.1", "hidden_gpus": ""},
            "warn",
            'CUDA_VISIBLE_DEVICES is ""',
            "Unset",
        ),
        (
            machine.accelerator,
            {"torch": CUDA, "nvidia_card": True, "nvidia_driver": "390.1"},
            "warn",
            "390.1",
            "too old",
        ),
        (machine.accelerator, {"torch": Torch(error="broken")}, "warn", "does not import", ""),
        (
            machine.packages,
            {"unmet": ("rich is missing", "torch is 2.9, not <2.14,>=2.13")},
            "fail",
            "rich is missing; torch is 2.9",
            "make install",
        ),
        (machine.kernel, {"kernel": ""}, "fail", "no Jupyter kernel", "ipykernel install"),
        (
            machine.kernel,
            {"kernel": "/usr/bin/python3"},
            "warn",
            "/usr/bin/python3",
            "ipykernel install",
        ),
        (machine.kernel, {"kernel": "/course/.venv/bin/python3"}, "ok", "this Python", ""),
        (machine.widgets, {"widgets_extension": False}, "fail", "blank", "jupyterlab_widgets"),
        (machine.memory, {"memory_total": 2.0, "memory_free": 1.0}, "warn", "2.0 GB", "smoke"),
        (machine.memory, {"memory_free": 1.0}, "warn", "1.0 GB free of 16.0 GB", "Close other"),
        (machine.disk, {"disk_free": 0.2}, "warn", "0.2 GB", "COURSE_DATA_DIR"),
        (
            machine.notebooks_folder,
            {"notebooks": Folder("/srv/n", "cannot be written (Permission denied)")},
            "fail",
            "/srv/n cannot be written (Permission denied)",
            "folder of your own",
        ),
        (
            machine.progress_folder,
            {"home": Folder("/h", "cannot be written (Read-only file system)")},
            "warn",
            "Read-only file system",
            "COURSE_HOME",
        ),
        (
            machine.data_folder,
            {"data": Folder("/d", "cannot be read")},
            "warn",
            "lessons use the course's own data",
            "COURSE_DATA_DIR",
        ),
        (machine.sandbox, {"system": "Darwin"}, "warn", "Grading on Darwin", "Docker or Podman"),
        (
            machine.sandbox,
            {"system": "Darwin", "engine": "podman"},
            "warn",
            "in containers",
            "--engine podman",
        ),
        (machine.sandbox, {"system": "Windows"}, "warn", "Grading needs Linux", "WSL 2"),
        (machine.sandbox, {"bubblewrap": ""}, "warn", "not installed", "apt install bubblewrap"),
        (
            machine.sandbox,
            {
                "bubblewrap_error": "setting up uid map: Permission denied",
                "apparmor_restricts": True,
            },
            "warn",
            "AppArmor forbids",
            "profile bwrap /usr/bin/bwrap flags=(unconfined) {",
        ),
        (
            machine.sandbox,
            {"bubblewrap_error": "No permissions to create a new namespace"},
            "warn",
            "No permissions to create a new namespace",
            "user namespaces allowed",
        ),
    ],
)
def test_judgements(check, facts, status, said, remedy):
    result = judged(check, **facts)
    assert result.status == status
    assert said in result.sentence
    assert remedy in result.remedy
    # What is wrong always comes with what to do, except where another check says it.
    if status != "ok" and "does not import" not in result.sentence:
        assert result.remedy


def test_apparmor_profile_is_printed_whole_with_where_to_save_it():
    result = judged(machine.sandbox, bubblewrap_error="x", apparmor_restricts=True)
    assert "/etc/apparmor.d/bwrap" in result.remedy
    assert "apparmor_parser -r" in result.remedy
    assert result.remedy.count("{") == result.remedy.count("}") == 1
    assert "  userns," in result.remedy


def test_the_sandbox_is_looked_at_only_where_the_grader_is():
    assert len(examine(dataclasses.replace(FINE, grading=False, bubblewrap=""))) == 11


@pytest.mark.parametrize(
    ("facts", "status", "last"),
    [
        ({}, 0, "Lessons run here."),
        ({"bubblewrap": ""}, 0, "Lessons run here."),
        ({"python": (3, 9, 1)}, 1, "Lessons do not run here"),
    ],
)
def test_exit_status_is_about_lessons_alone(monkeypatch, facts, status, last):
    monkeypatch.setattr(machine, "gather", lambda: dataclasses.replace(FINE, **facts))
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == status
    assert last in shown.output


def test_json(monkeypatch):
    monkeypatch.setattr(machine, "gather", lambda: dataclasses.replace(FINE, kernel=""))
    shown = CliRunner().invoke(app, ["doctor", "--json"])
    assert shown.exit_code == 1
    content = json.loads(shown.output)
    assert content["healthy"] is False
    broken = [check for check in content["checks"] if check["status"] == "fail"]
    assert [check["name"] for check in broken] == ["Jupyter kernel"]
    assert set(broken[0]) == {"name", "status", "sentence", "remedy"}


# ---- gathering the facts


def test_this_machine_runs_lessons():
    checks = examine(machine.gather())
    assert [check.sentence for check in checks if check.status == "fail"] == []


def test_folders_are_tried_and_not_left_behind(tmp_path):
    assert machine._writable(tmp_path / "new/deeper") == Folder(str(tmp_path / "new/deeper"))
    assert not (tmp_path / "new").exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "is a file" in machine._writable(tmp_path / "file/inside").problem


def test_an_unwritable_folder_is_found(tmp_path, monkeypatch):
    def refuse(**_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    assert machine._writable(tmp_path).problem == "cannot be written (Read-only file system)"


def test_a_mirror_that_can_only_be_read_is_good(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "_writable", lambda path: pytest.fail("it need not be writable"))
    assert machine._data() == Folder(str(tmp_path))


def test_a_command_that_fails_or_is_not_there_gives_its_reason():
    assert machine._command(sys.executable, "-c", "print('x')").text == "x"
    failed = machine._command(sys.executable, "-c", "import sys; sys.exit('bad luck')")
    assert failed.error == "bad luck"
    assert "No such file" in machine._command("/nowhere/program").error
    slow = machine._command(sys.executable, "-c", "import time; time.sleep(60)", seconds=0.2)
    assert "timed out" in slow.error


def test_torch_that_does_not_import_is_a_fact_not_a_crash(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('libc10.so: not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert machine._torch() == Torch(error="ImportError: libc10.so: not found")


def test_doctor_answers_where_torch_does_not_import(tmp_path, monkeypatch):
    """The whole command, in a process in which PyTorch is broken."""
    import subprocess

    (tmp_path / "torch.py").write_text("raise ImportError('libc10.so: not found')")
    done = subprocess.run(
        [sys.executable, "-c", "from course_lib.cli import main; main()", "doctor"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "PyTorch does not import: ImportError: libc10.so: not found" in done.stdout
    assert "Traceback" not in done.stderr


def test_unmet_requirements_are_named(monkeypatch):
    monkeypatch.setattr(
        machine.importlib.metadata,
        "requires",
        lambda _: ["rich>=99", "nosuchpackage", "numpy>=1", 'pytest>=99; extra == "test"'],
    )
    unmet = machine._unmet("transformers-course")
    assert [each.split(" is ")[0] for each in unmet] == ["rich", "nosuchpackage"]
