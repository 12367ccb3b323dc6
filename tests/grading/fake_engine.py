"""A stand-in for Docker and Podman: keeps books as they do, and runs "containers" as plain processes.

    python fake_engine.py STATE COMMAND WORD…

What is called is written to STATE/calls. A file STATE/down stands for an engine that does not answer, STATE/says
for what it prints when a container starts, STATE/broken for an engine that starts none, STATE/deaf for one that
never closes a container's input. Images are files below STATE/images, containers folders below STATE/containers.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STATE = Path(sys.argv[1])
CONTAINERS, IMAGES = STATE / "containers", STATE / "images"
FLAGS = {"--rm", "--interactive", "--read-only"}  # options that take no value
SUBREAPER = 36


def main(words):
    with open(STATE / "calls", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    if (STATE / "down").exists():
        sys.exit("Cannot connect to the daemon. Is the daemon running?")
    command = words[0]
    if command == "ps" and "--all" in words:
        print("\n".join(sorted(each.name for each in CONTAINERS.iterdir())))
    elif command == "image":
        sys.exit(0 if (IMAGES / words[2].replace(":", "-")).exists() else "No such image")
    elif command == "build":
        context = Path(words[-1])
        shutil.copytree(context, STATE / "context")
        (IMAGES / words[words.index("--tag") + 1].replace(":", "-")).touch()
    elif command == "rm":
        for name in words[2:]:
            remove(name)
    elif command == "run":
        run(words[1:])


def run(words):
    """Do as the engine's client does: have a container started, copy to and fro, and leave as it left."""
    if (STATE / "says").exists():
        print((STATE / "says").read_text(), file=sys.stderr)
    if (STATE / "broken").exists():
        print("docker: Error response from daemon: no room", file=sys.stderr)
        sys.exit(125)
    options, rest = {}, list(words)
    while rest[0].startswith("-"):
        option = rest.pop(0)
        options.setdefault(option, []).append("" if option in FLAGS else rest.pop(0))
    name = options["--name"][0]
    (CONTAINERS / name).mkdir()
    input_out, input_in = os.pipe()
    output_out, output_in = os.pipe()
    status_out, status_in = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for each in (input_in, output_out, status_out, 0, 1):
                os.close(each)
            os.write(status_in, b"%d" % contain(name, rest, input_out, output_in))
        os._exit(0)
    os.wait()
    for each in (input_out, output_in, status_in):
        os.close(each)
    threading.Thread(target=copy, args=(0, input_in, not deaf()), daemon=True).start()
    copy(output_out, 1, False)
    os._exit(int(os.read(status_out, 10) or b"125"))


def deaf():
    return (STATE / "deaf").exists()


def copy(source, target, close):
    try:
        while data := os.read(source, 1 << 16):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass
    if close:
        os.close(target)


def contain(name, rest, its_input, its_output):
    """Do as the engine's daemon does: run the first process; when it ends, nothing of the container stays."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    home = tempfile.mkdtemp(prefix=f"fake-container-{STATE.stat().st_ino}-", dir="/tmp")
    settings = json.loads(rest[-1])
    settings["folder"] = home + settings["folder"]
    settings["environment"] = {
        key: value.replace("/tmp", home, 1) if value.startswith("/tmp") else value
        for key, value in settings["environment"].items()
    }
    image, *command = rest[:-1]
    assert image.startswith("transformers-course-grader:")
    first = subprocess.Popen(
        [sys.executable, *command, json.dumps(settings)],
        stdin=its_input,
        stdout=its_output,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(its_input)
    os.close(its_output)
    (CONTAINERS / name / "pid").write_text(str(first.pid))
    status = first.wait()
    while below := children(os.getpid()):
        for pid in below:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(CONTAINERS / name, ignore_errors=True)
    return status % 256


def children(pid):
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def remove(name):
    place = CONTAINERS / name
    if (place / "pid").exists():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it ends just now
            os.kill(int((place / "pid").read_text()), signal.SIGKILL)
        patience = time.monotonic() + 20
        while place.exists() and time.monotonic() < patience:
            time.sleep(0.02)
    shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[2:])
