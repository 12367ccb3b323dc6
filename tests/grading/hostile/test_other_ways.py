"""A part of the collection in the other ways to run: a new process for every run, and as an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.collection import CHOSEN, CHOSEN_FOR_USERS, FAMILIES
from hostile.stage import ROOT, Stage

BY_NAME = {case.name: case for family in FAMILIES.values() for case in family}
NOBODY = "65534"


@pytest.fixture(scope="module")
def cold(needs_sandbox):
    """Return what came of the chosen cases with a new process for every run, and what was left behind."""
    with Stage(draws=1, cold=True) as stage:
        results = dict(zip(CHOSEN, stage.judge_all([BY_NAME[name] for name in CHOSEN])))
        yield results, stage.disturbed()


@pytest.mark.parametrize("name", CHOSEN)
def test_a_new_process_for_every_run_is_as_fair(cold, name):
    results, _ = cold
    assert not results[name].complaints, "\n".join(results[name].complaints)


def test_a_new_process_for_every_run_leaves_nothing(cold):
    assert cold[1] == []


# In mounts of its own, so that what root alone may enter (a home folder with Python in it) can be entered.
AS_USER = """
set -e
kept=$1; shift
user=$1; shift
number=0
while [ "$1" != -- ]; do
  number=$((number + 1)); mkdir "$kept/$number"; mount --bind "$1" "$kept/$number"
  eval "place_$number=\\$1"; shift
done
shift
while [ "$1" != -- ]; do mount -t tmpfs -o mode=755 tmpfs "$1"; shift; done
shift
while [ "$number" -gt 0 ]; do
  eval "place=\\$place_$number"; mkdir -p "$place"; mount --bind "$kept/$number" "$place"
  number=$((number - 1))
done
exec setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@"
"""


def as_user(argv: list[str], kept: Path) -> list[str]:
    """Return the command that runs ``argv`` as nobody; root alone can."""
    needed = dict.fromkeys(Path(each).resolve() for each in (sys.base_prefix, sys.prefix, ROOT))
    closed = {}
    for place in needed:
        for above in reversed(place.parents):  # from the top
            if not above.stat().st_mode & 0o001:
                closed[above] = None
                break
    inside = [each for each in needed if any(each.is_relative_to(above) for above in closed)]
    words = [str(kept), NOBODY, *map(str, inside), "--", *map(str, closed), "--", *argv]
    return ["unshare", "--mount", "sh", "-c", AS_USER, "sh", *words]


@pytest.fixture(scope="module")
def as_ordinary_user(needs_sandbox, tmp_path_factory):
    """Return what an ordinary user's run of the chosen cases said."""
    if os.getuid() != 0:
        pytest.skip("the whole collection ran as an ordinary user: these tests are for root")
    lacking = [each for each in ("unshare", "mount", "setpriv") if shutil.which(each) is None]
    if lacking:
        pytest.skip(f"no way to become an ordinary user here: {', '.join(lacking)} is missing")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no way to become an ordinary user here: mounts of one's own are not allowed")
    folder = tmp_path_factory.mktemp("ordinary")
    home = Path(
        subprocess.check_output(["mktemp", "-d", "/tmp/ordinary-XXXXXX"], text=True).strip()
    )
    os.chown(home, int(NOBODY), int(NOBODY))
    done = subprocess.run(
        as_user([sys.executable, "-B", "-m", "hostile.ordinary"], folder),
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "COURSE_HOME": str(home),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'grading'}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CHOSEN_FOR_USERS)
def test_as_an_ordinary_user_marks_are_as_fair(as_ordinary_user, name):
    assert as_ordinary_user["user"] == int(NOBODY)
    assert as_ordinary_user["complaints"][name] == []


def test_as_an_ordinary_user_nothing_is_left_and_no_process_but_ones_own_is_seen(as_ordinary_user):
    assert as_ordinary_user["disturbed"] == []
    # the first process of its own namespace, and itself; none where the system allows no /proc
    assert as_ordinary_user["seen"] in ([], ["1", "2"])
