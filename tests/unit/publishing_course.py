"""A course of one small lesson, for the tests of publishing: its package defines what it writes out."""

from pathlib import Path

from course_lib.publishing.lessons import LessonFiles

POINTS = {"double": 2, "Counter": 3}

SOURCE = '''\
# %% [markdown]
r"""
# 03 · Counting

A formula: $\\frac{a}{b}$.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"
DEVICE = "auto"
DATASET = "riverbank"

# %% tags=["setup"]
import math

from course_lib.exercises import check, claim
from course_lib.runtime import start

run = start(lesson=3, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)

# %% [markdown]
"""
## Twice

Some words.
"""

# %% tags=["exercise"] exercise="double"
from course_lib.models.toy import double  # course: write out

# %% tags=["check"] exercise="double"
double = check("double")

# %% tags=["exercise"] exercise="Counter"
from course_lib.models.toy import Counter  # course: write out

# %% tags=["check"] exercise="Counter"
Counter = check("Counter")

# %% [markdown]
"""
## What it gives
"""

# %% tags=["experiment"]
print(double(3))

# %% tags=["claim"]
claim("twice three is six", measured=double(3), equals=6)

# %% tags=["record"]
print("hours of work")
'''

TOY = '''\
"""The finished parts."""

import math


def double(x: float) -> float:
    """Return twice x."""
    # The comment above the first line goes with the solution.
    result_of_the_doubling = x * math.sqrt(4.0)
    return result_of_the_doubling


class Counter:
    """Count."""

    start: int = 0

    def __init__(self) -> None:
        self.the_number_that_is_kept = self.start

    def up(self) -> int:
        """Add one and return the count."""
        self.the_number_that_is_kept += 1

        return self.the_number_that_is_kept


def narrowed(x: float) -> float:
    """Return x, in a part that stays and a part that is cut."""
    shown = x
    ### BEGIN SOLUTION
    hidden = shown
    return hidden
    ### END SOLUTION


def crowded(x): return x


LIMIT = 3
'''


def make_course(root: Path, source: str = SOURCE, name: str = "03_counting") -> LessonFiles:
    """Write the course into ``root`` and return its lesson."""
    for folder in ("solutions", "notebooks", "course_lib/models"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "course_lib/models/toy.py").write_text(TOY, encoding="utf-8")
    files = LessonFiles(root, name)
    files.source.write_text(source, encoding="utf-8")
    return files


def make_real_course(root: Path) -> LessonFiles:
    """Write a course around the real package: a lesson 07 that is only its exercises and their checks."""
    from course_lib.exercises.spec import exercises_of

    for folder in ("solutions", "notebooks"):
        (root / folder).mkdir(parents=True)
    for name in (
        "course_lib",
        "pyproject.toml",
        "constraints.txt",
        "environment.yml",
        "Makefile",
        "LICENSE",
        "LICENSE-TEXT",
    ):
        (root / name).symlink_to(REPOSITORY / name)
    parts = [SETUP_07]
    for exercise in exercises_of(7):
        names = ", ".join(exercise.defines)
        parts.append(
            f'# %% tags=["exercise"] exercise="{exercise.name}"\n'
            f"from {exercise.finished[0].__module__} import {names}  # course: write out\n\n"
            f'# %% tags=["check"] exercise="{exercise.name}"\n'
            f'{names} = check("{exercise.name}")\n'
        )
    files = LessonFiles(root, "07_exercises")
    files.source.write_text("\n".join(parts), encoding="utf-8")
    return files


REPOSITORY = Path(__file__).parents[2]
SETUP_07 = '''\
# %% [markdown]
"""
# 07 · Exercises alone
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"
DEVICE = "auto"
DATASET = "riverbank"

# %% tags=["setup"]
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.exercises import check
from course_lib.runtime import start

run = start(lesson=7, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
'''
