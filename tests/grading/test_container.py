"""The engine of containers: its command line, and how it works end to end with a stand-in for Docker.

The stand-in (fake_engine.py) starts the container's real first process and the real runner, but no namespace around
them. So what is tested here is the conversation, limits, ends and sentences; not the walls of a real engine.
"""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from submissions import FULL, SOLUTIONS, notebook, points, submission

from course_lib.cli.common import UsageError
from course_lib.cli.grade import _prepare, grader_image
from course_lib.grading import cases
from course_lib.grading.marking import Marker
from course_lib.grading.reduced import modules_of
from course_lib.grading.sandbox import Limits, bubblewrap, container, open_sandbox
from course_lib.grading.sandbox.container import LABEL, PACKAGES, Container
from course_lib.grading.sandbox.protocol import Cell, Request, Stop
from course_lib.runtime import CourseError

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_engine.py")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the stand-in for a container engine needs Linux"
)


class Engine:
    """The stand-in's state, and a folder for PATH in which it is called docker."""

    def __init__(self, folder):
        self.state, self.programs = folder / "state", folder / "programs"
        for each in ("containers", "images"):
            (self.state / each).mkdir(parents=True)
        self.programs.mkdir()
        self.install("docker")
        self.pull()

    def install(self, name):
        words = map(shlex.quote, (sys.executable, "-I", "-S", str(FAKE), str(self.state)))
        (self.programs / name).write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        (self.programs / name).chmod(0o755)

    def pull(self):
        (self.state / "images" / container.image().replace(":", "-")).touch()

    def set(self, name, text=""):
        (self.state / name).write_text(text)

    def calls(self, command):
        lines = (self.state / "calls").read_text().splitlines()
        return [words for words in map(json.loads, lines) if words[0] == command]

    def containers(self):
        return sorted(each.name for each in (self.state / "containers").iterdir())

    def path(self):
        return f"{self.programs}:{os.environ['PATH']}"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    made = Engine(tmp_path / "engine")
    monkeypatch.setenv("PATH", made.path())
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory, library):
    """Return an engine, and a sandbox of it that was opened once."""
    made = Engine(tmp_path_factory.mktemp("engine"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", made.path())
        sandbox = Container("docker", library)
        yield made, sandbox
        sandbox.close()
        assert made.containers() == []


def look(sandbox, *sources, **limits):
    cells = tuple(Cell(number, source) for number, source in enumerate(sources, start=1))
    return sandbox.run(Request("", cells, ()), Limits(**limits))


# --- the command line --------------------------------------------------------------------------


def test_every_limit_and_every_wall_is_on_the_command_line(shared):
    _, sandbox = shared
    limits = Limits(memory_bytes=3 * 2**30, processes=77, file_bytes=5 * 2**20)
    argv = sandbox.argv("course-grader-x", limits)
    options = argv[: argv.index(container.image())]

    def value(option):
        assert options.count(option) == 1, option
        return options[options.index(option) + 1]

    assert options[:2] == ["docker", "run"]
    assert {"--rm", "--interactive", "--read-only"} <= set(options)
    expected = {
        "--network": "none",
        "--ipc": "private",
        "--user": "65534:65534",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges",
        "--pull": "never",
        "--log-driver": "none",
        "--pids-limit": "81",
        "--cpus": "1",
        "--shm-size": str(5 * 2**20),
        "--name": "course-grader-x",
        "--label": f"{LABEL}=course-grader-x",
        "--workdir": "/tmp",
    }
    assert {option: value(option) for option in expected} == expected
    # no swap; the folders in memory count, and so does the container's first process
    assert value("--memory") == value("--memory-swap") == str(3 * 2**30 + 10 * 2**20 + 64 * 2**20)
    pairs = list(itertools.pairwise(options))
    folders = [value.split(":")[0] for option, value in pairs if option == "--tmpfs"]
    assert folders == ["/tmp", "/course"]
    assert all("nosuid,nodev,size=" in value for option, value in pairs if option == "--tmpfs")
    ulimits = {value for option, value in pairs if option == "--ulimit"}
    assert ulimits == {f"fsize={5 * 2**20}:{5 * 2**20}", "nofile=256:256", "core=0:0"}
    # nothing of this machine: no mount, no variable, no device, no rights
    assert not {"--volume", "-v", "--mount", "--env", "-e", "--env-file", "--device"} & set(options)
    assert not {"--privileged", "--cap-add", "--pid", "--userns", "--gpus"} & set(options)
    inside = json.loads(argv[-1])
    assert inside["limits"]["RLIMIT_AS"] == 3 * 2**30
    assert "RLIMIT_NPROC" not in inside["limits"]  # counted over all containers of a user
    assert inside["seconds"] > limits.total_wall_seconds


def test_the_image_holds_the_tested_versions_of_what_students_import(library):
    pinned = dict(line.split("==") for line in container.requirements().split())
    assert len(pinned) == len(PACKAGES)
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(f"{name}=={version}" in constraints for name, version in pinned.items())
    imported = set()
    for path in modules_of(library / "course_lib").values():
        imported |= set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE))
    known = {name.lower() for name in PACKAGES} | set(sys.stdlib_module_names) | {"course_lib"}
    along = {"pil", "cycler", "traitlets"}  # matplotlib and ipython bring these
    assert {name for name in imported if name.lower() not in known | along} == set()


def test_the_image_is_built_from_the_package_and_named_after_what_is_in_it(engine, tmp_path):
    (engine.state / "images" / container.image().replace(":", "-")).unlink()
    assert container.build_image("docker") == container.image()
    (words,) = engine.calls("build")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert words[words.index("--tag") + 1] == container.image()
    assert words[words.index("--build-arg") + 1] == f"PYTHON={version}"
    context = engine.state / "context"
    assert (context / "requirements.txt").read_text() == container.requirements()
    assert (context / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()
    text = (context / "Containerfile").read_text()
    assert "USER 65534:65534" in text
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith(("COPY", "ADD"))]
    assert copied == [["requirements.txt", "constraints.txt"]]  # nothing of the course
    other = tmp_path / "constraints.txt"
    other.write_text((ROOT / "constraints.txt").read_text().replace("torch==", "torch==9"))
    assert container.image(other) != container.image()


# --- end to end --------------------------------------------------------------------------------


def test_marks_are_those_of_any_sandbox(shared, lesson):
    _, sandbox = shared
    drawn = cases.draw(lesson.exercises, b"a secret of the tests", draws=1)
    cells = notebook(SOLUTIONS, first=("import os; os._exit(0)",))
    marked = Marker(lesson, drawn, sandbox, Limits()).mark(submission(cells))
    assert points(marked) == FULL
    assert any("ended the process" in flag for flag in marked.flags)


def test_what_a_run_sees_and_leaves(shared, monkeypatch):
    made, sandbox = shared
    monkeypatch.setenv("COURSE_TEST_SECRET", "swordfish")
    response = look(
        sandbox,
        "import os\nprint(*sorted(os.environ.items()), os.environ.get('COURSE_TEST_SECRET'))",
        # the first process cannot be looked into, and its descriptors are not to be had
        "for name in ('fd/0', 'fd/1', 'mem', 'environ'):\n"
        "    try: print('SEEN', name, open(f'/proc/{os.getppid()}/{name}', 'rb'))\n"
        "    except OSError: pass",
        "import ctypes\nprint('unshare', ctypes.CDLL(None).unshare(0x10000000))",
        "import course_lib\n"
        "try: import course_lib.models.attention; print('IMPORTED')\n"
        "except ImportError: pass",
        "print('y' * 50_000)",
        # processes that would stay, one of them writing without end
        "if os.fork() == 0:\n    os.setsid()\n    while True: print('x' * 1000)\n"
        "if os.fork() == 0:\n    os.setsid()\n    import time; time.sleep(1000)\n"
        "open(os.environ['HOME'] + '/left', 'w').write(str(os.getpid()))",
    )
    assert response.stop is None, (response.stop, response.output)
    assert "OMP_NUM_THREADS" in response.output
    assert "None\n" in response.output
    assert "unshare -1" in response.output
    assert not re.findall("SEEN|IMPORTED|swordfish", response.output)
    assert len(response.output) == Limits().kept_output_bytes
    assert made.containers() == []
    listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True)
    own = f"fake-container-{made.state.stat().st_ino}-"  # other tests run beside this one
    assert own in response.output
    assert not [line for line in listed.stdout.splitlines() if own in line]


@pytest.mark.parametrize(
    ("source", "limits", "why"),
    [
        ("while True: pass", {"unit_cpu_seconds": 1.0}, "cpu"),
        ("import time; time.sleep(1000)", {"unit_wall_seconds": 2.0}, "wall"),
        (
            "import os, time\n"
            "for _ in range(4):\n    if os.fork() == 0:\n"
            "        hoard = bytearray(400 * 2**20)\n"
            "        for i in range(0, len(hoard), 4096): hoard[i] = 1\n        time.sleep(1000)\n"
            "time.sleep(1000)",
            {"memory_bytes": 3 * 2**29},
            "memory",
        ),
        (
            "import threading, time\n"
            "for _ in range(30): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
            "time.sleep(1000)",
            {"processes": 20},
            "processes",
        ),
        (
            "import os\nfor fd in range(3, 64):\n"
            "    try: os.write(fd, b'rubbish' * 100)\n    except OSError: pass",
            {},
            "reply",
        ),
        ("import os; os.closerange(3, 256)", {}, "died"),
    ],
)
def test_a_run_that_exceeds_a_limit_is_stopped_where_it_did(shared, source, limits, why):
    made, sandbox = shared
    response = look(sandbox, "print('first')", source, **limits)
    assert response.stop == Stop("cell 2", why)
    assert response.output.startswith("first")
    assert made.containers() == []


def wait_for(condition):
    patience = time.monotonic() + 60
    while not condition() and time.monotonic() < patience:
        time.sleep(0.05)
    assert condition()


def test_a_run_that_was_ended_from_outside_is_made_again(shared):
    made, sandbox = shared
    source = "import time; time.sleep(3); print('done')"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(look, sandbox, source)
        wait_for(lambda: any((made.state / "containers").glob("*/pid")))
        first = made.containers()
        subprocess.run([made.programs / "docker", "rm", "--force", *first], check=True)
    assert running.result().stop is None
    assert running.result().output == "done\n"


def test_a_container_that_does_not_end_is_removed(shared, monkeypatch):
    made, sandbox = shared
    monkeypatch.setattr(container, "_ENDING_SECONDS", 0.5)
    made.set("deaf")
    try:
        response = look(sandbox, "import time; time.sleep(1000)", unit_wall_seconds=1.0)
    finally:
        (made.state / "deaf").unlink()
    assert response.stop == Stop("cell 1", "wall")
    assert made.containers() == []
    assert made.calls("rm")[-1][:2] == ["rm", "--force"]


def test_a_killed_grader_leaves_no_container(shared, library):
    made, _ = shared
    script = (
        "from pathlib import Path\n"
        "from course_lib.grading.sandbox import Limits\n"
        "from course_lib.grading.sandbox.container import Container\n"
        "from course_lib.grading.sandbox.protocol import Cell, Request\n"
        f"sandbox = Container('docker', Path({str(library)!r}))\n"
        "print('ready', flush=True)\n"
        "sandbox.run(Request('', (Cell(1, 'import time; time.sleep(1000)'),), ()), Limits())\n"
    )
    grader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert grader.stdout.readline() == b"ready\n"
    wait_for(lambda: any((made.state / "containers").glob("*/pid")))
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    grader.stdout.close()
    wait_for(lambda: made.containers() == [])


def test_leftovers_of_graders_that_are_no_more_are_swept_and_others_are_not(engine):
    ended = subprocess.Popen(["true"])
    ended.wait()
    machine = container._machine()
    names = {
        "gone": f"course-grader-{machine}-{ended.pid}-0123",
        "ours": f"course-grader-{machine}-{os.getpid()}-0123",
        "elsewhere": f"course-grader-00000000-{ended.pid}-0123",
        "odd": "course-grader",
    }
    for name in names.values():
        (engine.state / "containers" / name).mkdir()
    assert container.sweep("docker") == [names["gone"]]
    assert engine.containers() == sorted(set(names.values()) - {names["gone"]})
    (words,) = engine.calls("ps")
    assert f"label={LABEL}" in words


# --- sentences ---------------------------------------------------------------------------------


def test_an_engine_that_is_not_there_is_one_sentence(library, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CourseError, match=r"^Podman is not installed: install it"):
        open_sandbox(library, [], engine="podman")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("down", "", r"^Docker does not answer \(Cannot connect.*\): start it"),
        ("broken", "", r"^A container of docker cannot be used.*\(docker: Error .*no room\)"),
        (
            "says",
            "WARNING: Your kernel does not support memory limit capabilities. Limitation discarded.",
            r"^A container of docker cannot be used.*Limitation discarded",
        ),
    ],
)
def test_an_engine_that_cannot_be_used_is_one_sentence(engine, library, file, text, words):
    engine.set(file, text)
    with pytest.raises(CourseError, match=words) as refused:
        open_sandbox(library, [], engine="docker")
    assert "\n" not in str(refused.value)
    assert engine.containers() == []


def test_an_image_that_was_not_built_is_one_sentence(engine, library):
    (engine.state / "images" / container.image().replace(":", "-")).unlink()
    with pytest.raises(CourseError, match=r"no image.*run `course grader-image --engine docker`"):
        open_sandbox(library, [], engine="docker")


def test_an_engine_that_goes_while_it_works_is_a_start_that_failed(shared, monkeypatch, tmp_path):
    _, sandbox = shared
    monkeypatch.setenv("PATH", str(tmp_path))
    response = look(sandbox, "print('runs')")
    assert response.stop == Stop("start", "died")
    assert response.output == "docker has gone"


# --- which one ---------------------------------------------------------------------------------


@pytest.fixture
def no_bubblewrap(monkeypatch):
    def refuse():
        raise CourseError("bubblewrap does not work here.")

    monkeypatch.setattr(bubblewrap, "check", refuse)


def test_without_bubblewrap_the_first_engine_that_works_is_taken(
    engine, library, no_bubblewrap, monkeypatch
):
    monkeypatch.setattr(container, "ENGINES", ("docker", "podman"))
    engine.install("podman")
    opened = []
    monkeypatch.setattr(
        "course_lib.grading.sandbox.Container", lambda name, _: opened.append(name) or name
    )
    assert open_sandbox(library, []) == "docker"
    assert open_sandbox(library, [], engine="podman") == "podman"
    with pytest.raises(CourseError, match=r"^bubblewrap does not work here\.$"):
        open_sandbox(library, [], engine="bubblewrap")
    assert opened == ["docker", "podman"]


def test_where_nothing_works_each_reason_is_said(engine, library, no_bubblewrap):
    engine.set("down")
    words = r"^bubblewrap does not work here\. Docker does not answer"
    with pytest.raises(CourseError, match=words):
        open_sandbox(library, [])


def test_the_engine_is_chosen_on_the_command_line(engine, class_folder, tmp_path, capsys):
    grader_image("docker")
    assert capsys.readouterr().out.startswith(f"{container.image()} is there")
    options = ["--lesson", "7", "-o", tmp_path / "out", "--published", tmp_path / "published.ipynb"]
    words = [
        "grade",
        class_folder / "anna",
        *options,
        "--draws",
        "1",
        "--json",
        "--engine",
        "docker",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "from course_lib.cli import main; main()", *map(str, words)],
        env={**os.environ, "PATH": engine.path(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (student,) = json.loads(done.stdout)["students"]
    assert student["points"] == sum(FULL.values())
    assert len(engine.calls("run")) == 2  # one to try it, one for anna


@pytest.mark.parametrize(
    ("scheduler", "unsafe", "words"),
    [("", True, "--unsafe-no-sandbox do not go"), ("tcp://x", False, "--scheduler do not go")],
)
def test_an_engine_and_what_has_none_do_not_go_together(tmp_path, scheduler, unsafe, words):
    with pytest.raises(UsageError, match=words):
        _prepare(7, tmp_path, None, None, 1, 1, scheduler, 30.0, 4.0, "docker", unsafe)
