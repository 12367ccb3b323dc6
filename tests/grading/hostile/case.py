"""What a case of the collection is, and the few words that cases are written with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from submissions import EXERCISES, FULL, SETUP, SOLUTIONS, as_bytes, notebook

Points = Mapping[str, float]

ZERO: Points = dict.fromkeys(FULL, 0.0)
NAMES = tuple(exercise.name for exercise in EXERCISES)
SOLVED = as_bytes(notebook(SOLUTIONS))
BLANK = as_bytes(notebook())

# Code that prints this word has got hold of something that it should not.
STOLEN = "STO" + "LEN"


@dataclass(frozen=True)
class Case:
    """A notebook that is marked in the sandbox.

    Attributes:
        name: what it is called in the table, and in tests.
        why: why the fair mark is fair.
        data: the file. ``@FOLDER@``, ``@PORT@``, ``@PID@``, ``@SOCKET@``, ``@MEMORY@`` and ``@SHARED@`` in it
            stand for things of the instructor's, which are there while it runs.
        fair: the points of each exercise.
        flags: words that must stand in a flag.
        limits: what it may use, where that is not the usual.
        says: by exercise, words that must stand in the reason.

    """

    name: str
    why: str
    data: bytes
    fair: Points
    flags: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Handed:
    """Files and folders that lie among a class's submissions.

    Attributes:
        name: what it is called in the table, and in tests.
        why: why the fair mark is fair.
        put: puts it below a folder, and returns the zips that the grader is to be given besides the folder.
        fair: the points, by the beginning of the student's name in the gradebook.
        problem: words that the reason for not grading must hold; empty where it is graded.
        students: how many students' names begin so.

    """

    name: str
    why: str
    put: Callable[[Path], list[Path]]
    fair: Mapping[str, Points]
    problem: str = ""
    students: int = 1


def without(*names: str) -> Points:
    """Return full marks but for these exercises."""
    return {**FULL, **dict.fromkeys(names, 0.0)}


def only(*names: str) -> Points:
    """Return marks for these exercises alone."""
    return {**ZERO, **{name: FULL[name] for name in names}}


def blank_with(*added: str) -> bytes:
    """Return the blank notebook with cells after the others: whatever they do, it earns nothing."""
    return as_bytes(notebook(added=added))


def solved_with(*first: str, added: tuple[str, ...] = ()) -> bytes:
    """Return the solved notebook with cells after the setup cell (and at the end)."""
    return as_bytes(notebook(SOLUTIONS, added=added, first=first))


def with_answers(added: tuple[str, ...] = (), first: tuple[str, ...] = (), **answers: str) -> bytes:
    """Return the solved notebook with some exercises answered in another way."""
    return as_bytes(notebook({**SOLUTIONS, **answers}, added=added, first=first))


def alone(first: tuple[str, ...] = (), added: tuple[str, ...] = (), **answers: str) -> bytes:
    """Return a notebook in which only these exercises are answered."""
    return as_bytes(notebook(answers, added=added, first=first))


def code(source: str, **more: Any) -> dict[str, Any]:
    """Return a code cell."""
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], **more}


def file_of(*sources: str) -> bytes:
    """Return a notebook of these code cells, after the lesson's setup."""
    return as_bytes([code(each) for each in (SETUP, *sources)])


def raw(content: Any) -> bytes:
    """Return anything as JSON."""
    return json.dumps(content).encode()
