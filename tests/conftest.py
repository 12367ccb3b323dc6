"""What every test stands on: a home of its own, the smallest scale, one thread, no settings of the machine's user."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# Before torch is imported, so that subprocesses have it too.
os.environ["OMP_NUM_THREADS"] = "1"
for name in (
    "COURSE_CLAIMS_FILE",
    "COURSE_DEVICE",
    "COURSE_RECORD_FILE",
    "COURSE_SEED",
    "NBGRADER_EXECUTION",
):
    os.environ.pop(name, None)
os.environ.setdefault("COURSE_SCALE", "smoke")

# The same examples in every run, so that a test fails for everyone or for no one; no test judges time.
settings.register_profile("course", deadline=None, derandomize=True, database=None)
settings.load_profile("course")

_home = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give this session, and each worker of pytest-xdist, a home that is thrown away at its end."""
    config.stash[_home] = tempfile.mkdtemp(prefix="course-home-")
    os.environ["COURSE_HOME"] = config.stash[_home]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, under pytest-xdist, what shares a costly fixture: a file, or an exercise's tests."""
    for item in items:
        group = item.path.name
        if item.path.parent.name == "exercises" and isinstance(item, pytest.Function):
            parameters = getattr(item, "callspec", None)
            exercise = parameters.params.get("exercise") if parameters else None
            group = exercise.name if exercise is not None else group
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_home], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """Run a test on the CPU, and on a CUDA device where there is one."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return request.param
