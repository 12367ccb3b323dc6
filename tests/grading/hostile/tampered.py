"""Notebooks whose points, ids, tags, outputs and order were changed."""

import copy
from typing import Any

from hostile.case import (
    BLANK,
    FULL,
    SETUP,
    SOLUTIONS,
    ZERO,
    Case,
    as_bytes,
    code,
    file_of,
    notebook,
    only,
    raw,
    without,
)

FILE = "Only the sources of cells count: points, ids, tags and saved outputs prove nothing."
BY_NAME = "An answer is looked up by the name it defines, wherever it stands."


def everywhere(cells: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Return the cells with something added to each."""
    return [{**copy.deepcopy(cell), **more} for cell in cells]


SOLVED_CELLS = notebook(SOLUTIONS)
SETUP_AT = next(n for n, cell in enumerate(SOLVED_CELLS) if "start(" in cell["source"])
GREEN = [
    {"output_type": "stream", "name": "stdout", "text": "attention: right. All 16 cases are right."}
]
POINTS = {
    "nbgrader": {"grade": True, "points": 1000, "score": 1000, "solution": False, "locked": False}
}
HEAD, TAIL = SOLVED_CELLS[: SETUP_AT + 1], SOLVED_CELLS[SETUP_AT + 1 :]

CASES = [
    Case(
        "a blank with a solved one's outputs and a thousand points",
        FILE,
        as_bytes(everywhere(notebook(), metadata=POINTS, outputs=GREEN, execution_count=1)),
        ZERO,
    ),
    Case(
        "a blank that says it was graded",
        FILE,
        raw(
            {
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {"grade": 10, "nbgrader": {"score": 100}, "course": {"passed": True}},
                "cells": notebook(),
            }
        ),
        ZERO,
    ),
    Case("every cell with the same id", FILE, as_bytes(everywhere(SOLVED_CELLS, id="same")), FULL),
    Case(
        "every cell tagged as an experiment",
        FILE,
        as_bytes(
            everywhere(
                SOLVED_CELLS,
                metadata={"tags": ["experiment", "claim", "check", "widget", "record"]},
            )
        ),
        FULL,
    ),
    Case(
        "tags, ids and metadata of wrong kinds",
        FILE,
        as_bytes(
            [
                {
                    **cell,
                    "id": [number],
                    "metadata": [
                        7,
                        None,
                        "x",
                        {"tags": 5},
                        {"tags": {"a": 1}},
                        {"tags": [[], {}, None]},
                    ][number % 6],
                }
                for number, cell in enumerate(SOLVED_CELLS)
            ]
        ),
        FULL,
    ),
    Case(
        "cells without metadata, outputs or counts",
        FILE,
        as_bytes(
            [{"cell_type": cell["cell_type"], "source": cell["source"]} for cell in SOLVED_CELLS]
        ),
        FULL,
    ),
    Case(
        "sources as lists of lines",
        FILE,
        as_bytes(
            [{**cell, "source": cell["source"].splitlines(keepends=True)} for cell in SOLVED_CELLS]
        ),
        FULL,
    ),
    Case(
        "Windows line ends",
        FILE,
        as_bytes(
            [{**cell, "source": cell["source"].replace("\n", "\r\n")} for cell in SOLVED_CELLS]
        ),
        FULL,
    ),
    Case("the answers in reverse order", BY_NAME, as_bytes([*HEAD, *reversed(TAIL)]), FULL),
    Case("every cell twice", BY_NAME, as_bytes([*HEAD, *TAIL, *copy.deepcopy(TAIL)]), FULL),
    Case(
        "an old stub above the answer",
        BY_NAME,
        as_bytes([*HEAD, *notebook()[SETUP_AT + 1 :], *TAIL]),
        FULL,
    ),
    Case(
        "an old stub below the answer",
        "The last definition counts, as in the student's own run.",
        as_bytes([*HEAD, *TAIL, *notebook()[SETUP_AT + 1 :]]),
        ZERO,
    ),
    Case(
        "the setup cell deleted",
        "The setup is the lesson's; without it nothing is imported, and nothing works.",
        as_bytes([cell for cell in SOLVED_CELLS if "start(" not in cell["source"]]),
        {**ZERO},
    ),
    Case(
        "the setup cell written anew",
        "What the answers need is imported.",
        as_bytes(
            [
                code(
                    "import math, torch\nimport torch.nn.functional as F\n"
                    "from torch import Tensor, nn\nfrom jaxtyping import *"
                ),
                *TAIL,
            ]
        ),
        FULL,
    ),
    Case(
        "one answer deleted",
        "What is not there is not attempted; what builds on it is spared.",
        as_bytes([cell for cell in SOLVED_CELLS if "def padding_mask" not in cell["source"]]),
        without("padding_mask"),
        says={"SelfAttention": "course's version of `padding_mask`"},
    ),
    Case(
        "an answer turned into Markdown",
        "A cell that is no code cell defines nothing; the reason says so.",
        as_bytes(
            [
                {**cell, "cell_type": "markdown"} if "def padding_mask" in cell["source"] else cell
                for cell in SOLVED_CELLS
            ]
        ),
        without("padding_mask"),
        says={"padding_mask": "not a code cell"},
    ),
    Case(
        "a raw cell and a cell of an unknown kind",
        "They are not run.",
        as_bytes(
            [
                *SOLVED_CELLS,
                {"cell_type": "raw", "source": "1/0"},
                {"cell_type": "heading", "level": 1, "source": "x"},
            ]
        ),
        FULL,
    ),
    Case(
        "the published experiments changed so that they give the answers",
        "They run like the student's own cells, and define nothing.",
        as_bytes(
            [
                {**cell, "source": "attention = causal_mask = padding_mask = SelfAttention = 1"}
                if "10**9" in cell["source"]
                else cell
                for cell in notebook()
            ]
        ),
        ZERO,
    ),
    Case(
        "checks answered with a right object",
        "A check cell that assigns is the student's word.",
        as_bytes(
            [
                {**cell, "source": cell["source"] + " or True"}
                if "check(" in cell["source"]
                else cell
                for cell in notebook()
            ]
        ),
        ZERO,
    ),
    Case(
        "another lesson's notebook",
        "None of the exercises is in it.",
        file_of("x = 1", "def relu(x): return x"),
        ZERO,
        flags=("another lesson",),
    ),
    Case(
        "the answers in a string that is executed",
        "What is executed is defined.",
        file_of(*[f"exec({source!r})" for source in SOLUTIONS.values()]),
        FULL,
    ),
    Case(
        "half of it",
        "Half is half.",
        as_bytes(notebook({name: SOLUTIONS[name] for name in ("attention", "causal_mask")})),
        only("attention", "causal_mask"),
    ),
    Case("nothing done", "Nothing is nothing.", BLANK, ZERO, says={"attention": "Not attempted"}),
    Case(
        "deep attribute chains, deep brackets, a very long line",
        "They do not parse, or do nothing, and cost themselves.",
        as_bytes(
            [
                *HEAD,
                code("torch" + ".x" * 3000 + " = 1"),
                code("x = " + "(" * 5000 + ")" * 5000),
                code("x = " + "-" * 100_000 + "1"),
                code("x = " + "1+" * 100_000 + "1"),
                code("x = '" + "y" * 10**6 + "'"),
                code("torch" + ".x" * 400),
                *TAIL,
            ]
        ),
        FULL,
    ),
    Case(
        "ten thousand magics in a cell",
        "The cell costs itself, not the class's time.",
        as_bytes([*HEAD, code("%pwd\n" * 10_000), code("!true\n" * 3000 + "x = ?"), *TAIL]),
        FULL,
        limits={"unit_cpu_seconds": 3.0},
    ),
    Case(
        "null bytes and control characters in a cell",
        "The cell has an error and costs itself.",
        as_bytes(
            [
                *HEAD,
                code("x = '\x00'"),
                code("\x0c\x1b[2J"),
                code("y = '\ud800'"),
                code("‮x = 1"),
                *TAIL,
            ]
        ),
        FULL,
    ),
    Case(
        "the setup cell with a failing line",
        "A setup cell runs statement by statement.",
        as_bytes([code(SETUP.replace("import math", "import no_such_module\nimport math")), *TAIL]),
        FULL,
    ),
]
