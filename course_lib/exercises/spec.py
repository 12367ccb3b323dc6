"""What an exercise is, and where each one is found."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from course_lib.exercises.values import Value
from course_lib.runtime import CourseError


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from the expected one: ``|got − expected| ≤ absolute·s + relative·|expected|``.

    s is the largest magnitude in the expected tensor, at least 1: a small number that is a difference of
    large ones is rounded as they are.
    """

    absolute: float
    relative: float


DEFAULT_TOLERANCES: Mapping[torch.dtype, Tolerance] = {
    torch.float64: Tolerance(1e-10, 1e-9),
    torch.float32: Tolerance(1e-5, 1e-4),
    torch.float16: Tolerance(1e-3, 1e-2),
    torch.bfloat16: Tolerance(1e-2, 2e-2),
}


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        label: the kind of case in a few words, safe to show to a student ("a fully masked row").
        inputs: the probe's keyword arguments.

    """

    label: str
    inputs: dict[str, Value]


@dataclass(frozen=True)
class Mistake:
    """A realistic wrong solution.

    Attributes:
        name: a short name for reports.
        says: the sentence that tells the learner what went wrong.
        answer: the wrong objects, in the order of the exercise's ``defines``.

    """

    name: str
    says: str
    answer: tuple[Any, ...]


@dataclass(frozen=True)
class Exercise:
    """One exercise: how it is called, what is right, what often goes wrong.

    Attributes:
        name: unique in the course; what `check` is given.
        lesson: the lesson's number.
        points: what it is worth.
        probe: calls the learner's objects: ``probe(*objects, **case.inputs)`` returns values by name.
        draw: gives the cases of a seed.
        oracle: the expected values: ``oracle(**case.inputs)``, with the probe's names.
        finished: the finished objects, from course_lib.models.
        mistakes: at least four wrong solutions.
        hints: at least three, from a nudge to nearly the answer.
        defines: the names that the learner's cell defines; the exercise's own name if not given.
        needs: exercises of the same lesson whose objects the solution calls.
        forbidden: dotted names that the solution may not use.
        tolerances: by dtype.
        minutes: how long it takes a learner, about.
        difficulty: 1 (a line or two) to 5.

    """

    name: str
    lesson: int
    points: int
    probe: Callable[..., Mapping[str, Value]]
    draw: Callable[[int], list[Case]]
    oracle: Callable[..., Mapping[str, Value]]
    finished: tuple[Any, ...]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, ...]
    defines: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    tolerances: Mapping[torch.dtype, Tolerance] = field(default_factory=lambda: DEFAULT_TOLERANCES)
    minutes: int = 10
    difficulty: int = 2

    def __post_init__(self) -> None:
        if not self.defines:
            object.__setattr__(self, "defines", (self.name,))
        if len(self.finished) != len(self.defines):
            raise ValueError(f"{self.name}: one finished object for each of {self.defines}")


def lessons() -> list[int]:
    """Return the numbers of the lessons that have exercises."""
    folder = Path(__file__).parent / "lessons"
    return sorted(int(path.stem.removeprefix("lesson_")) for path in folder.glob("lesson_*.py"))


@cache
def exercises_of(lesson: int) -> tuple[Exercise, ...]:
    """Return a lesson's exercises in the order of the notebook; none for a lesson without any."""
    module = f"course_lib.exercises.lessons.lesson_{lesson:02d}"
    if importlib.util.find_spec(module) is None:
        return ()
    found: tuple[Exercise, ...] = importlib.import_module(module).EXERCISES
    return found


def find(name: str, lesson: int | None = None) -> Exercise:
    """Return the exercise called ``name``.

    Args:
        name: the exercise's name.
        lesson: the lesson to look in first, so that the other lessons need not be imported.

    Raises:
        CourseError: there is none.

    """
    order = sorted(lessons(), key=lambda number: number != lesson)
    for number in order:
        for exercise in exercises_of(number):
            if exercise.name == name:
                return exercise
    here = [each.name for each in exercises_of(lesson)] if lesson is not None else []
    known = f" This lesson has: {', '.join(here)}." if here else ""
    raise CourseError(f'There is no exercise called "{name}".{known}')
