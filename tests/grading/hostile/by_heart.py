"""Answers that know the visible cases, count their calls, look at the clock, or guess."""

from typing import Any

import torch
from submissions import EXERCISES

from course_lib.exercises.probing import run_probe
from hostile.case import FULL, SOLUTIONS, Case, with_answers, without

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
CASES_DRAWN = 1  # how often the tests' stage draws the cases of an exercise


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value


def visible(name: str, seeds: tuple[int, ...] = (0, 1)) -> str:
    """Return a table: the arguments of the cases that `check` shows, and the right values."""
    exercise = BY_NAME[name]
    rows = []
    for seed in seeds:
        for case in exercise.draw(seed):
            outcome = run_probe(exercise.probe, exercise.finished, case.inputs)
            assert outcome.values is not None
            rows.append(
                (
                    {key: _plain(each) for key, each in case.inputs.items()},
                    _plain(outcome.values["mask"]),
                )
            )
    return repr(rows)


PADDING = f"""
TABLE = {visible("padding_mask")}
def padding_mask(lengths, n_k):
    for given, mask in TABLE:
        if given['lengths'] == lengths.tolist() and given['n_k'] == n_k:
            return torch.tensor(mask)
    return torch.ones(len(lengths), 1, n_k, dtype=torch.bool)
"""
CAUSAL = f"""
TABLE = {visible("causal_mask")}
def causal_mask(n_q, n_k=None, device=None):
    for given, mask in TABLE:
        if (given['n_q'], given['n_k']) == (n_q, n_k):
            return torch.tensor(mask, device=device)
    return torch.ones(n_q, n_k or n_q, dtype=torch.bool, device=device)
"""
IN_ORDER = f"""
TABLE = {visible("padding_mask")}
calls = []
def padding_mask(lengths, n_k):
    calls.append(1)
    return torch.tensor(TABLE[(len(calls) - 1) % len(TABLE)][1])
"""


def counted(name: str, when: str) -> str:
    """Return a right answer that gives something else when ``when`` holds of the number of calls."""
    head, _, body = SOLUTIONS[name].partition("    ### BEGIN SOLUTION\n")
    return f"calls = []\n{head}    calls.append(1)\n    if {when}:\n        return None\n{body}"


ALL_CALLS = CASES_DRAWN * len(BY_NAME["padding_mask"].draw(0))

CASES = [
    Case(
        "the visible padding masks by heart",
        "The hidden cases are others.",
        with_answers(padding_mask=PADDING),
        without("padding_mask"),
    ),
    Case(
        "the visible causal masks by heart",
        "The hidden cases are others.",
        with_answers(causal_mask=CAUSAL),
        without("causal_mask"),
    ),
    Case(
        "the visible answers in the order of the calls",
        "The hidden cases are others.",
        with_answers(padding_mask=IN_ORDER),
        without("padding_mask"),
    ),
    Case(
        "right in the first call only",
        "Most cases are wrong.",
        with_answers(padding_mask=counted("padding_mask", "len(calls) > 1")),
        without("padding_mask"),
    ),
    Case(
        "wrong in the first call only",
        "One case is wrong.",
        with_answers(padding_mask=counted("padding_mask", "len(calls) == 1")),
        without("padding_mask"),
    ),
    Case(
        "right in every second call",
        "Half of the cases are wrong.",
        with_answers(padding_mask=counted("padding_mask", "len(calls) % 2")),
        without("padding_mask"),
    ),
    Case(
        "right as often as there are cases",
        "Asked again, it answers something else: it is not a function of its inputs.",
        with_answers(padding_mask=counted("padding_mask", f"len(calls) > {ALL_CALLS}")),
        without("padding_mask"),
    ),
    Case(
        "right by the clock",
        "It is wrong nearly always.",
        with_answers(
            padding_mask="import time\n"
            + counted("padding_mask", "time.perf_counter_ns() // 1000 % 1000")
        ),
        without("padding_mask"),
    ),
    Case(
        "a guess",
        "Chance does not pass so many cases.",
        with_answers(
            padding_mask="import random\ndef padding_mask(lengths, n_k):\n"
            "    return torch.rand(len(lengths), 1, n_k) < random.random()"
        ),
        without("padding_mask"),
    ),
    Case(
        "zeros of the right shape",
        "They are wrong.",
        with_answers(
            attention="def attention(q, k, v, mask=None):\n"
            "    w = torch.zeros(*q.shape[:-1], k.shape[-2], dtype=q.dtype)\n"
            "    return w @ v, w"
        ),
        without("attention"),
    ),
    Case(
        "right forward, cut off from its gradient",
        "Gradients are compared too.",
        with_answers(
            attention=SOLUTIONS["attention"].replace(
                "return weights @ v, weights", "return (weights @ v).detach(), weights"
            )
        ),
        without("attention"),
    ),
    Case(
        "right for one thing only: no masks",
        "Some cases have a mask.",
        with_answers(
            attention="def attention(q, k, v, mask=None):\n"
            "    w = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)\n    return w @ v, w"
        ),
        without("attention"),
    ),
    Case(
        "the inputs are changed so that they fit",
        "Inputs must stay as they are.",
        with_answers(
            padding_mask="def padding_mask(lengths, n_k):\n    lengths.fill_(n_k)\n"
            "    return torch.ones(len(lengths), 1, n_k, dtype=torch.bool)"
        ),
        without("padding_mask"),
    ),
    Case(
        "a right answer that remembers what it was asked",
        "A cache by value gives right answers.",
        with_answers(
            padding_mask="known = {}\n"
            + SOLUTIONS["padding_mask"].replace("def padding_mask", "def made")
            + "\n\ndef padding_mask(lengths, n_k):\n    key = (tuple(lengths.tolist()), n_k)\n"
            "    if key not in known:\n        known[key] = made(lengths, n_k)\n    return known[key]"
        ),
        FULL,
    ),
]
