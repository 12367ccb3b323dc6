"""Devices, seeds, scales, timing, folders and errors."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import course_lib.runtime
from course_lib.runtime import (
    CourseError,
    Run,
    choose_device,
    course_home,
    current,
    describe_device,
    median_time,
    progress,
    start,
)


@pytest.fixture(autouse=True)
def _no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the settings of the test run away: these tests are about them."""
    for name in ("COURSE_SEED", "COURSE_SCALE", "COURSE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("course_lib.runtime.run._current", Run(lesson=0))


def pretend(
    monkeypatch: pytest.MonkeyPatch, gpus: int = 0, mps: bool = False, built: str | None = "13.0"
) -> None:
    """Make PyTorch say that the machine has so many NVIDIA GPUs, and is or is not a Mac with one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )


# --- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "mps", "chosen"), [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_best_device(
    monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool, chosen: str
) -> None:
    pretend(monkeypatch, gpus, mps)
    assert choose_device() == torch.device(chosen)
    assert choose_device("cpu") == torch.device("cpu")


def test_a_named_device_that_exists_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=2, mps=True)
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("mps") == torch.device("mps")


@pytest.mark.parametrize(
    ("wanted", "gpus", "built", "says"),
    [
        ("cuda", 0, None, "this PyTorch was built without CUDA"),
        ("cuda", 0, "13.0", "PyTorch finds no NVIDIA GPU or driver"),
        ("cuda:7", 0, "13.0", "PyTorch finds no NVIDIA GPU or driver"),
        ("cuda:7", 2, "13.0", "this machine has 2 GPU(s)"),
        ("mps", 0, None, "this is no Mac with a GPU"),
        ("xpu", 0, None, 'The course does not run on "xpu"'),
        ("gpu", 0, None, "which is no device"),
        ("", 0, None, "which is no device"),
        (None, 0, None, "which is no device"),
    ],
)
def test_a_missing_device_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, wanted: str, gpus: int, built: str | None, says: str
) -> None:
    pretend(monkeypatch, gpus, built=built)
    with pytest.raises(CourseError) as caught:
        choose_device(wanted)
    sentence = str(caught.value)
    assert says in sentence
    assert "use " in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_devices_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_device(torch.device("cpu")) == "cpu (1 thread)"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert describe_device(torch.device("cpu")) == "cpu (8 threads)"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert describe_device(torch.device("cuda:1")) == "cuda:1 (NVIDIA H200)"
    assert describe_device(torch.device("mps")) == "mps"


# --- start ---------------------------------------------------------------------------------------


def test_start_says_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run = start(lesson=7, seed=3, scale="standard", device="cpu", dataset="riverbank")
    assert run == Run(7, 3, "standard", torch.device("cpu"), "riverbank")
    assert current() is run
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    for part in ("Lesson 07", "cpu (", "scale standard", "seed 3", "data riverbank"):
        assert part in printed


def test_before_start_there_is_a_default_run() -> None:
    assert (current().lesson, current().seed, current().device) == (0, 0, torch.device("cpu"))


def test_the_environment_overrides_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_SEED", "11")
    monkeypatch.setenv("COURSE_SCALE", "smoke")
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    pretend(monkeypatch)
    run = start(lesson=1, seed=5, scale="full", device="cuda")
    assert (run.seed, run.scale, run.device) == (11, "smoke", torch.device("cpu"))
    for name in ("COURSE_SEED", "COURSE_SCALE", "COURSE_DEVICE"):
        monkeypatch.setenv(name, "")
    run = start(lesson=1, seed=5, scale="full", device="cpu")
    assert (run.seed, run.scale) == (5, "full")


def numbers() -> tuple[float, float, float, float]:
    g = current().generator()
    return (
        random.random(),
        float(np.random.rand()),
        float(torch.rand(())),
        float(torch.rand((), generator=g)),
    )


def test_the_same_seed_gives_the_same_numbers() -> None:
    drawn = {}
    for seed in (0, 1, 0):
        start(lesson=7, seed=seed, device="cpu")
        now = numbers()
        assert drawn.setdefault(seed, now) == now
    assert all(one != other for one, other in zip(drawn[0], drawn[1]))


def test_generators_depend_on_seed_and_offset_alone() -> None:
    run = Run(lesson=7, seed=4)
    torch.rand(3)
    first = torch.rand(5, generator=run.generator(2))
    assert torch.equal(first, torch.rand(5, generator=run.generator(2)))
    assert torch.equal(first, torch.rand(5, generator=Run(lesson=1, seed=6).generator()))
    assert not torch.equal(first, torch.rand(5, generator=run.generator(3)))


@pytest.mark.parametrize(
    "seed", ["three", "1.5", 1.5, None, -1, 2**31, float("nan"), float("inf"), [1]]
)
def test_a_bad_seed_is_one_sentence(seed: object) -> None:
    with pytest.raises(CourseError, match=r"^SEED is .*: use a whole number[^\n]*\.$"):
        start(lesson=7, seed=seed, device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, 7, "7", 2**31 - 1, 7.0])
def test_a_good_seed_is_taken(seed: object) -> None:
    assert start(lesson=7, seed=seed, device="cpu").seed == int(seed)  # type: ignore[arg-type,call-overload]


@pytest.mark.parametrize("scale", ["large", "", "Smoke", None, 3])
def test_a_bad_scale_is_one_sentence(scale: object) -> None:
    with pytest.raises(CourseError, match=r"^SCALE is .*use one of smoke, standard, full\.$"):
        start(lesson=7, scale=scale, device="cpu")  # type: ignore[arg-type]


def test_bad_settings_in_the_environment_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, says in [
        ("COURSE_SEED", "x", 'SEED is "x"'),
        ("COURSE_SCALE", "huge", 'SCALE is "huge"'),
        ("COURSE_DEVICE", "tpu9", 'DEVICE is "tpu9"'),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(CourseError, match=says):
                start(lesson=7, device="cpu")


def test_an_old_python_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("course_lib.runtime.run.MINIMUM_PYTHON", (99, 0))
    with pytest.raises(CourseError, match=r"needs Python 99\.0 or newer and this is 3\.\d+"):
        start(lesson=7, device="cpu")


@pytest.mark.parametrize(("scale", "value"), [("smoke", 1), ("standard", "two"), ("full", None)])
def test_pick_takes_the_value_of_the_scale(scale: str, value: object) -> None:
    assert Run(lesson=7, scale=scale).pick(smoke=1, standard="two", full=None) == value


def test_autocast_is_for_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 2)
    with Run(lesson=7).autocast():
        assert (x @ x).dtype == torch.float32
    asked = []
    real = torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda *args, **kwargs: asked.append((args, kwargs)) or real("cpu")
    )
    with Run(lesson=7, device=torch.device("cuda")).autocast():
        pass
    assert asked == [(("cuda",), {"dtype": torch.bfloat16})]


def test_a_run_on_this_device(device: str) -> None:
    run = start(lesson=7, device=device)
    assert run.device.type == device
    x = torch.rand(3, 3, device=run.device)
    with run.autocast():
        assert (x @ x).dtype == (torch.bfloat16 if device == "cuda" else torch.float32)


# --- timing and progress -------------------------------------------------------------------------


def test_median_time_warms_up_and_takes_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr("course_lib.runtime.timing.time.perf_counter", lambda: next(clock))
    calls: list[int] = []
    timing = median_time(lambda: calls.append(1), warmup=4, repeats=3)
    assert len(calls) == 7
    assert timing.repeats == (5.0, 1.0, 3.0)
    assert timing.median == 3.0


def test_median_time_waits_for_cuda_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append("wait"))
    median_time(lambda: events.append("call"), warmup=1, repeats=2, device=torch.device("cuda"))
    assert events == ["call", *["wait", "call", "wait"] * 2]
    events.clear()
    median_time(lambda: events.append("call"), warmup=0, repeats=2, device=torch.device("cpu"))
    assert events == ["call", "call"]


def test_progress_yields_everything_and_leaves_standard_output_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(progress(iter("abc"), total=3, desc="letters")) == ["a", "b", "c"]
    assert list(progress([])) == []
    assert capsys.readouterr().out == ""


# --- folders and errors --------------------------------------------------------------------------


def test_course_home_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "a" / "b"))
    assert course_home() == tmp_path / "a" / "b"
    assert course_home().is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("COURSE_HOME", "~/mine")
    assert course_home() == tmp_path / "mine"


def test_without_a_setting_home_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COURSE_HOME")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / name))
    assert course_home() == tmp_path / "transformers-course"


def test_a_home_that_cannot_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    # The superuser may write everywhere, whatever the mode of the folder.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CourseError, match=r"cannot be written: set COURSE_HOME to .*\.$"):
        course_home()


def test_a_home_that_cannot_be_made_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CourseError, match=r"cannot be made .*: set COURSE_HOME to .*\.$"):
        course_home()


def test_a_course_error_has_no_traceback_in_ipython(tmp_path: Path) -> None:
    done = run_python(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance(colors='nocolor')\n"
        "shell.run_cell('from course_lib.runtime import CourseError')\n"
        "shell.run_cell('raise CourseError(\"It rains: take an umbrella.\")')\n",
        IPYTHONDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "CourseError: It rains: take an umbrella."
    assert "Traceback" not in done.stdout + done.stderr


def test_importing_the_runtime_does_not_import_torch() -> None:
    done = run_python(
        "import sys, course_lib.runtime as runtime\n"
        "runtime.CourseError, runtime.course_home\n"
        "print(sorted({'torch', 'numpy', 'tqdm'} & set(sys.modules)))\n"
        "runtime.start\n"
        "print('torch' in sys.modules)\n"
    )
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stderr


def test_the_runtime_offers_what_it_names() -> None:
    assert all(getattr(course_lib.runtime, name) for name in course_lib.runtime.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        course_lib.runtime.nothing  # noqa: B018
