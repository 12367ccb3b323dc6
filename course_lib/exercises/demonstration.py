"""Lets a lesson show `check` and `hint` at work without touching the learner's progress."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def demonstration() -> Iterator[None]:
    """Inside this block nothing that is checked counts.

    Progress goes to a folder that is thrown away, and a wrong answer is shown and not raised, under
    nbgrader too.
    """
    kept = {name: os.environ.pop(name, None) for name in ("COURSE_HOME", "NBGRADER_EXECUTION")}
    try:
        with tempfile.TemporaryDirectory(prefix="course-demonstration-") as scratch:
            os.environ["COURSE_HOME"] = scratch
            yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
