"""What a student's code can see and do inside: printed by code that looks for a way out."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from submissions import EXERCISES

from course_lib.grading import reduced
from course_lib.grading.sandbox import Limits, bubblewrap, open_sandbox
from course_lib.grading.sandbox.bubblewrap import Bubblewrap
from course_lib.grading.sandbox.protocol import Cell, Request
from course_lib.grading.sandbox.unconfined import Unconfined
from course_lib.grading.sandbox.warm import WarmSandbox
from course_lib.grading.sandbox.watch import descendants
from course_lib.runtime import CourseError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Return a folder that stands for the instructor's: a gradebook and a submission lie in it."""
    folder = tmp_path_factory.mktemp("instructor")
    (folder / "gradebook.sqlite").write_text("marks")
    (folder / "ben").mkdir()
    (folder / "ben" / "07.ipynb").write_text("another student's work")
    return folder


@pytest.fixture(scope="module", params=["warm", "cold"])
def sandbox(request, library, needs_sandbox, outside):
    """Return the fast sandbox, which copies a warmed process, and then the one that begins anew."""
    around = Bubblewrap(library, [ROOT, outside])
    made = WarmSandbox(around) if request.param == "warm" else around
    yield made
    made.close()


@pytest.fixture
def run(sandbox):
    """Return a function that runs code inside and gives what it printed."""

    def look(source, **limits):
        response = sandbox.run(Request("", (Cell(1, source),), ()), Limits(**limits))
        assert response.stop is None, (response.stop, response.output)
        return response.output

    return look


def test_the_network_is_not_there(run):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        output = run(
            "import socket\n"
            f"for place in (('127.0.0.1', {port}), ('1.1.1.1', 53), ('8.8.8.8', 443)):\n"
            "    try:\n        socket.create_connection(place, timeout=2); print('REACHED')\n"
            "    except OSError as error: print(type(error).__name__)"
        )
    assert "REACHED" not in output
    assert output.count("Error") == 3


@pytest.mark.parametrize(
    "path",
    [
        str(ROOT),
        str(ROOT / "solutions"),
        "/etc/passwd",
        "/etc/shadow",
        "/home",
        "/var",
        "/sys",
        "/mnt",
    ],
)
def test_the_machine_is_not_there(run, path):
    assert run(f"import os; print(os.path.exists({path!r}))").strip() == "False"


def test_home_is_empty_and_gradebook_and_other_submissions_are_not_there(run, outside):
    home = Path.home()
    output = run(
        "import os, json\n"
        f"print(json.dumps([os.path.exists({str(outside)!r}),"
        f" sorted(os.listdir({str(home)!r})) if os.path.exists({str(home)!r}) else []]))"
    )
    there, listing = json.loads(output)
    assert not there
    # the Python that runs may lie below the home folder; nothing else of it is there
    inside = Path(sys.base_prefix).resolve()
    allowed = [inside.relative_to(home).parts[0]] if inside.is_relative_to(home) else []
    assert listing == allowed


def test_no_file_of_the_instructor_is_found_anywhere(run):
    output = run(
        "import os\nfound = []\n"
        "for top in ('/',):\n    for place, folders, files in os.walk(top):\n"
        "        folders[:] = [f for f in folders if os.path.join(place, f) not in ('/proc', '/usr')]\n"
        "        found += [os.path.join(place, f) for f in files"
        " if f in ('gradebook.sqlite', 'judging.py', 'lesson_07.py', 'seed', 'gradebook.py')]\n"
        "print(found)"
    )
    assert output.strip() == "['/course/library/course_lib/exercises/probes/lesson_07.py']"


def test_the_environment_is_clean(run, monkeypatch):
    monkeypatch.setenv("COURSE_TEST_SECRET", "swordfish")
    output = run(
        "import os\nprint(sorted(os.environ))\n"
        "for pid in os.listdir('/proc'):\n"
        "    if pid.isdecimal():\n"
        "        try: print(open(f'/proc/{pid}/environ').read())\n        except OSError: pass"
    )
    assert "OMP_NUM_THREADS" in output
    assert "swordfish" not in output
    assert "COURSE_TEST_SECRET" not in output


def test_nothing_can_be_written_but_the_private_folders(run):
    output = run(
        "import os\n"
        "for path in ('/x', '/usr/x', '/course/x', '/course/library/course_lib/x', '/course/runner.py',"
        " '/dev/x', '/tmp/x', '/dev/shm/x'):\n"
        "    try:\n        open(path, 'a').close(); print('wrote', path)\n"
        "    except OSError: pass"
    )
    assert set(output.split()) - {"wrote"} <= {"/tmp/x", "/dev/shm/x", "/dev/x"}
    assert "wrote /tmp/x" in output
    assert "/usr" not in output
    assert "/course" not in output


def test_what_one_run_leaves_the_next_does_not_find(run):
    assert "left" in run("open('/tmp/note', 'w').write('left'); print(open('/tmp/note').read())")
    assert run("import os; print(os.listdir('/tmp'))").find("note") == -1


def test_the_disk_cannot_be_filled(run):
    output = run(
        "try:\n    with open('/tmp/big', 'wb') as f:\n"
        "        for _ in range(200): f.write(bytes(2**20))\n"
        "    print('FILLED')\nexcept OSError as error: print('stopped')",
        file_bytes=16 * 2**20,
    )
    assert output.strip() == "stopped"


def test_no_rights_no_other_processes_no_new_namespaces(run, sandbox):
    output = run(
        "import os, ctypes, struct\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "rights = ctypes.create_string_buffer(24)\n"
        "libc.capget(struct.pack('=Ii', 0x20080522, 0), rights)\n"
        "print(os.getuid(), any(rights.raw), libc.prctl(39, 0, 0, 0, 0))\n"
        "print(len([p for p in os.listdir('/proc') if p.isdecimal()]))\n"
        "print(libc.unshare(0x10000000))"
    )
    ids, processes, unshared = output.splitlines()[:3]
    assert ids == "1000 False 1"
    assert int(processes) <= 3
    if isinstance(sandbox, WarmSandbox) or "--disable-userns" in bubblewrap._walls():
        assert unshared == "-1"


def test_neither_answers_nor_specifications_can_be_imported(run):
    names = [
        "course_lib.models.attention",
        "course_lib.exercises.lessons",
        "course_lib.exercises.spec",
        "course_lib.exercises.judging",
        "course_lib.exercises.notebook",
        "course_lib.grading",
        "course_lib.publishing",
    ]
    output = run(
        "import importlib\n"
        f"for name in {names!r}:\n"
        "    try: importlib.import_module(name); print('IMPORTED', name)\n"
        "    except ImportError: pass\n"
        "import course_lib, site\n"
        "print(course_lib.__file__)"
    )
    assert output.split() == ["/course/library/course_lib/__init__.py"]


def test_every_module_of_the_reduced_library_imports(run, library):
    names = [
        name
        for name in reduced.modules_of(library / "course_lib")
        if "lesson_" not in name
        and not name.startswith(("course_lib.figures", "course_lib.widgets"))
    ]
    output = run(
        "import importlib\n"
        f"for name in {names!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error:\n        if 'course_lib' in str(error): print(name, error)\n"
        "print('tried')"
    )
    assert output.strip() == "tried"


def test_the_stand_ins_take_the_real_calls(run):
    output = run(
        "from course_lib.exercises import check, claim, hint, predict\n"
        "attention = 5\nprint(check('attention'), check('nothing'), hint('attention', 2))\n"
        "print(claim('x', measured=1, at_least=0, breaks_when={'y': 2}),"
        " predict('a', 'b?', options=['c', 'd'], answer=1, because='e'))"
    )
    assert output.split() == ["5", "None", "None", "None", "None"]


def test_a_setup_cell_loses_only_the_statement_that_fails(library, needs_sandbox):
    sandbox = open_sandbox(library, [ROOT])
    cells = (
        Cell(1, "import no_such_module\n%no_such_magic\nx = 41\nx += 1", setup=True),
        Cell(2, "print(x)"),
    )
    response = sandbox.run(Request("", cells, ()), Limits())
    assert response.output.strip().endswith("42")
    assert response.cells[1].type == "ModuleNotFoundError"
    assert response.cells[2] is None


def test_output_is_kept_up_to_its_limit(run):
    assert len(run("print('x' * 50_000_000)", kept_output_bytes=1000)) == 1000


def test_nothing_is_left_running_or_lying_about(run, tmp_path):
    def mine():
        text = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "args="],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [line for line in text.splitlines() if "runner.py" in line]

    before = len(os.listdir("/proc/self/fd"))
    run(
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(1000)"
    )
    assert mine() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_real_package_is_covered_up_where_it_is_installed_as_a_copy(
    library, tmp_path, monkeypatch
):
    site = tmp_path / "site-packages"
    (site / "course_lib").mkdir(parents=True)
    monkeypatch.setattr(bubblewrap, "site_folders", lambda: [site])
    monkeypatch.setattr(bubblewrap, "_program", lambda: "bwrap")
    argv = bubblewrap.Bubblewrap(library, [site / "secret"]).command(5, Limits()).argv
    assert argv[argv.index("/course/site-packages-0/course_lib") - 1] == "--tmpfs"


# --- the copies of a warmed process --------------------------------------------------------------


@pytest.fixture(scope="module")
def warm(library, needs_sandbox, outside):
    sandbox = WarmSandbox(Bubblewrap(library, [ROOT, outside]))
    yield sandbox
    sandbox.close()


def look(sandbox, source, **limits):
    return sandbox.run(Request("", (Cell(1, source),), ()), Limits(**limits))


@pytest.mark.parametrize(
    "call",
    [
        "mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)",
        "umount2(b'/tmp', 2)",
        "chroot(b'/tmp')",
        "setns(0, 0)",
        "unshare(0x20000000)",
        "ptrace(0, 0, 0, 0)",
        "process_vm_readv(1, None, 0, None, 0, 0)",
        "syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0)",
        "syscall(425, 8, ctypes.create_string_buffer(120))",
    ],
)
def test_system_calls_that_no_notebook_needs_are_refused(warm, call):
    source = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"result = libc.{call}\nif result == 0: os._exit(3)\nprint(result, ctypes.get_errno())"
    )
    assert look(warm, source).output.strip() == "-1 1"


def test_threads_processes_and_pipes_still_work(warm):
    source = (
        "import subprocess, threading, multiprocessing\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "print(subprocess.run(['/usr/bin/env', 'echo', 'process'], capture_output=True, text=True).stdout)\n"
        "import torch\nprint(torch.utils.data.DataLoader(range(3), num_workers=0).__len__())"
    )
    response = look(warm, source)
    assert response.output.split() == ["thread", "process", "3"], response


def test_a_run_changes_nothing_that_a_later_one_meets(warm):
    spoil = (
        "import torch, builtins, sys, os, json\n"
        "torch.softmax = None\nbuiltins.print_was = print\nsys.modules['math'] = None\n"
        "json.dumps = lambda *a, **k: 'no'\nsys.path.insert(0, '/tmp')\n"
        "os.environ['LEFT'] = '1'\ntorch.manual_seed(5)\nsys.setrecursionlimit(50_000)\n"
        "for number in range(3, 200):\n    try: os.close(number)\n    except OSError: pass"
    )
    look(warm, spoil)
    source = (
        "import torch, builtins, sys, os, json, math\n"
        "print(torch.softmax is None, hasattr(builtins, 'print_was'), json.dumps(1), '/tmp' in sys.path,"
        " 'LEFT' in os.environ, torch.initial_seed() == 5, sys.getrecursionlimit() > 49_000)"
    )
    expected = ["False", "False", "1", "False", "False", "False", "False"]
    assert look(warm, source).output.split() == expected


def test_two_runs_at_the_same_time_do_not_meet(warm):
    """One leaves marks in every place that processes share, the other looks for them."""
    leave = (
        "import socket, time, os\nfrom multiprocessing import shared_memory\n"
        "abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0mark'); abstract.listen()\n"
        "near = socket.socket(); near.bind(('0.0.0.0', 45678)); near.listen()\n"
        "memory = shared_memory.SharedMemory('mark', create=True, size=8)\n"
        "open('/tmp/mark', 'w').write('x'); open('/dev/shm/other', 'w').write('x')\n"
        "time.sleep(6)"
    )
    find = (
        "import socket, os, time\nfrom multiprocessing import shared_memory\ntime.sleep(2)\n"
        "def meets(step):\n    try: step(); return True\n    except OSError: return False\n"
        "print(meets(lambda: socket.socket(socket.AF_UNIX).connect('\\0mark')),"
        " meets(lambda: socket.create_connection(('127.0.0.1', 45678), 1)),"
        " meets(lambda: shared_memory.SharedMemory('mark')), os.path.exists('/tmp/mark'),"
        " os.path.exists('/dev/shm/other'), [n for n in range(2, 500) if meets(lambda: os.kill(n, 0))])"
    )
    with ThreadPoolExecutor() as pool:
        left, found = pool.submit(look, warm, leave), pool.submit(look, warm, find)
    assert left.result().stop is None, left.result()
    *met, others = found.result().output.strip().split(maxsplit=5)
    assert met == ["False"] * 5
    assert others in ("[]", "[2]")  # its own worker is number 2


def test_where_the_warmed_process_was_killed_the_run_is_made_again(warm):
    with ThreadPoolExecutor() as pool:
        running = pool.submit(look, warm, "import time; time.sleep(3); print('done')")
        time.sleep(1)
        os.kill(warm._zygote._process.pid, signal.SIGKILL)
    assert running.result().stop is None
    assert running.result().output.strip() == "done"


def test_closing_leaves_no_process(library, needs_sandbox):
    sandbox = WarmSandbox(Bubblewrap(library, [ROOT]))
    pids = descendants(sandbox._zygote._process.pid)
    sandbox.close()
    assert len(pids) > 1
    deadline = time.monotonic() + 20  # the system's first process buries what was orphaned
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_where_no_copy_can_be_made_each_run_gets_a_new_process(library, needs_sandbox, monkeypatch):
    monkeypatch.setattr(bubblewrap, "_walls", lambda last=True, real=bubblewrap._walls: real(True))
    sandbox = open_sandbox(library, [ROOT])
    assert isinstance(
        sandbox, Bubblewrap if "--disable-userns" in bubblewrap._walls() else WarmSandbox
    )
    assert look(sandbox, "print('runs')").output.strip() == "runs"


# --- no sandbox to be had ----------------------------------------------------------------------


def test_without_bubblewrap_there_is_one_sentence(library, monkeypatch):
    monkeypatch.setattr(bubblewrap.sys, "platform", "linux")
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: None)
    with pytest.raises(
        CourseError, match=r"not installed: install the package.*--unsafe-no-sandbox"
    ):
        open_sandbox(library, [], engine="bubblewrap")


def test_where_bubblewrap_is_blocked_there_is_one_sentence(library, tmp_path, monkeypatch):
    blocked = tmp_path / "bwrap"
    blocked.write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"
    )
    blocked.chmod(0o755)
    monkeypatch.setattr(bubblewrap.sys, "platform", "linux")
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: str(blocked))
    with pytest.raises(CourseError, match=r"uid map: Permission denied\): run `course doctor`"):
        open_sandbox(library, [], engine="bubblewrap")


def test_elsewhere_than_on_linux_there_is_one_sentence(library, monkeypatch):
    monkeypatch.setattr(bubblewrap.sys, "platform", "darwin")
    with pytest.raises(CourseError, match="grade on a Linux machine"):
        open_sandbox(library, [], engine="bubblewrap")


def test_the_unconfined_runner_works_with_a_clean_environment(library, monkeypatch):
    monkeypatch.setenv("COURSE_TEST_SECRET", "swordfish")
    sandbox = open_sandbox(library, [], unsafe=True)
    assert isinstance(sandbox, Unconfined)
    source = "import os; print(os.getcwd()); print(os.environ.get('COURSE_TEST_SECRET'))"
    response = sandbox.run(Request("", (Cell(1, source),), ()), Limits())
    assert response.stop is None
    folder, secret = response.output.split()
    assert secret == "None"
    assert not Path(folder).exists()


# --- the reduced library -----------------------------------------------------------------------


def test_all_that_imports_an_answer_is_left_out(tmp_path):
    package = tmp_path / "course_lib"
    files = {
        "__init__.py": "",
        "models/__init__.py": "from course_lib.models.attention import attention",
        "models/attention.py": "def attention(): ...",
        "models/heads.py": "from .attention import attention",
        "models/later.py": "def f():\n    import course_lib.models.heads as h",
        "models/other.py": "import math",
        "training/__init__.py": "",
        "training/loop.py": "from course_lib.models import attention",
        "figures/__init__.py": "",
        "grading/__init__.py": "",
        "cli/__init__.py": "",
        "exercises/values.py": "",
        "exercises/probing.py": "",
        "exercises/spec.py": "",
        "exercises/probes/__init__.py": "",
        "exercises/probes/lesson_07.py": "",
        "exercises/probes/lesson_08.py": "",
        "exercises/lessons/lesson_07.py": "from course_lib.models.attention import attention",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    reduced.build(7, EXERCISES, tmp_path / "out", package)
    root = tmp_path / "out" / "course_lib"
    kept = {str(path.relative_to(root)) for path in root.rglob("*.py")}
    assert kept == {
        "__init__.py",
        "models/__init__.py",
        "models/other.py",
        "training/__init__.py",
        "figures/__init__.py",
        "exercises/__init__.py",
        "exercises/values.py",
        "exercises/probing.py",
        "exercises/probes/__init__.py",
        "exercises/probes/lesson_07.py",
    }
    assert "import" not in (root / "models/__init__.py").read_text()
