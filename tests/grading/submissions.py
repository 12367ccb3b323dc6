"""Notebooks of lesson 07 as students might hand them in, made from small cells without running any."""

import inspect
import json
import re
from typing import Any

from course_lib.exercises.spec import exercises_of
from course_lib.grading.intake import NotebookCell, Submission
from course_lib.grading.marking import Mark, Marked

LESSON = 7
EXERCISES = exercises_of(LESSON)
SETUP = """import math
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from course_lib.exercises import check, claim, hint, predict
from course_lib.runtime import start

run = start(lesson=7)"""
EXPERIMENT = "for _ in range(10**9):\n    scores_of_experiment = 1\ntable = {1: 2}"


def source_of(exercise: Any) -> str:
    """Return the source of an exercise's finished objects."""
    return "\n\n\n".join(inspect.getsource(thing) for thing in exercise.finished)


def stub_of(exercise: Any) -> str:
    """Return what a student finds in the published notebook."""
    return re.sub(
        r"^( +)### BEGIN SOLUTION\n(.*?)^ +### END SOLUTION\n?",
        r"\1# YOUR CODE HERE\n\1raise NotImplementedError()\n",
        source_of(exercise),
        flags=re.MULTILINE | re.DOTALL,
    )


STUBS = {exercise.name: stub_of(exercise) for exercise in EXERCISES}
SOLUTIONS = {exercise.name: source_of(exercise) for exercise in EXERCISES}


def published_cells() -> tuple[NotebookCell, ...]:
    """Return the cells of a small lesson 07 with every exercise of the real one."""
    found = [
        NotebookCell("markdown", "# 07 · Self-attention"),
        NotebookCell("code", SETUP, frozenset({"setup"})),
        NotebookCell("code", EXPERIMENT, frozenset({"experiment"})),
    ]
    for exercise in EXERCISES:
        names = ", ".join(exercise.defines)
        found.append(NotebookCell("code", STUBS[exercise.name], frozenset({"exercise"})))
        found.append(
            NotebookCell("code", f'{names} = check("{exercise.name}")', frozenset({"check"}))
        )
    return tuple(found)


PUBLISHED = published_cells()


def notebook(
    answers: dict[str, str] | None = None, added: tuple[str, ...] = (), first: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Return notebook cells with some exercises answered; ``first`` and ``added`` stand before and after."""
    answers = answers or {}
    by_stub = {STUBS[name]: source for name, source in answers.items()}
    cells = []
    for cell in PUBLISHED:
        source = by_stub.get(cell.source, cell.source)
        cells.append(
            {"cell_type": cell.type, "metadata": {"tags": sorted(cell.tags)}, "source": source}
        )
        if "setup" in cell.tags:
            cells += [_code(text) for text in first]
    return cells + [_code(text) for text in added]


def _code(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}


def as_bytes(cells: list[dict[str, Any]]) -> bytes:
    """Return a notebook file's bytes."""
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def submission(cells: list[dict[str, Any]], student: str = "anna") -> Submission:
    """Return a submission of these cells."""
    return Submission(student, student, "", f"{student}.ipynb", as_bytes(cells))


def points(marked: Marked) -> dict[str, float]:
    """Return the points of each exercise."""
    return {each.exercise: each.points for each in marked.marks}


def of(marked: Marked, exercise: str) -> Mark:
    """Return the mark of one exercise."""
    return next(each for each in marked.marks if each.exercise == exercise)


FULL = {exercise.name: float(exercise.points) for exercise in EXERCISES}
