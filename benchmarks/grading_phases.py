"""Runs `course grade` with a clock on each of its phases and prints their seconds as one line of JSON.

Usage: python benchmarks/grading_phases.py grade PATH… (as `course grade`; with --workers 1 the phases add up)
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

_BEGUN = time.perf_counter()

from course_lib.cli import main  # noqa: E402
from course_lib.grading import batch, cases, marking, reduced, reports  # noqa: E402
from course_lib.grading.gradebook import Gradebook  # noqa: E402
from course_lib.grading.sandbox import process, protocol  # noqa: E402

_IMPORTED = time.perf_counter()
# In the order in which they come: the phase, whose side, whether it comes once or for each submission.
PHASES = {
    "import of PyTorch and the grader": ("trusted", True),
    "intake of all files": ("trusted", True),
    "the reduced library": ("trusted", True),
    "the warmed process": ("sandbox", True),
    "what the marker knows": ("trusted", True),
    "parse": ("trusted", False),
    "plan from the syntax trees": ("trusted", False),
    "request": ("trusted", False),
    "set-up of a copy": ("sandbox", False),
    "cells": ("sandbox", False),
    "probes": ("sandbox", False),
    "end of a copy": ("sandbox", False),
    "oracle, comparison, mistakes": ("trusted", False),
    "flags": ("trusted", False),
    "database": ("trusted", False),
    "similarity": ("trusted", True),
    "reports": ("trusted", True),
}
spent = dict.fromkeys(PHASES, 0.0)


def clock(owner: Any, name: str, phase: str, inside: str | None = None) -> None:
    """Let calls of ``owner.name`` count for a phase, and no longer for the one that they are ``inside`` of."""
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            seconds = time.perf_counter() - begun
            spent[phase] += seconds
            if inside:
                spent[inside] -= seconds

    setattr(owner, name, timed)


def clock_runs() -> None:
    """Divide a run by its frames: set-up until the first one, then cells, then probes, then its end."""
    converse, run_pipes, take = process._converse, process.run_pipes, process._Reader._take

    def timed_take(self: Any, frame: Any) -> None:
        take(self, frame)
        now = time.perf_counter()
        unit = str(frame.get("unit", ""))
        if frame.get("kind") == "ready":
            advance("cells", now)
        elif frame.get("kind") == "begin" and unit.startswith("exercise") and at[0] == "cells":
            advance("probes", now)

    at: list[Any] = ["", 0.0]

    def advance(phase: str, now: float) -> None:
        if at[0]:
            spent[at[0]] += now - at[1]
        at[:] = [phase, now]

    def timed_converse(*given: Any) -> Any:
        response = converse(*given)
        advance("end of a copy", time.perf_counter())
        return response

    def timed_run(*given: Any) -> Any:
        advance("set-up of a copy", time.perf_counter())
        response = run_pipes(*given)
        advance("", time.perf_counter())
        return response

    process._Reader._take = timed_take  # type: ignore[method-assign]
    process._converse = timed_converse
    process.run_pipes = timed_run
    from course_lib.grading.sandbox import warm

    warm.run_pipes = timed_run


if __name__ == "__main__":
    spent["import of PyTorch and the grader"] = _IMPORTED - _BEGUN
    clock_runs()
    clock(batch, "collect", "intake of all files")
    clock(reduced, "build", "the reduced library")
    clock(batch, "open_sandbox", "the warmed process")
    clock(cases, "draw", "what the marker knows")
    clock(marking.Marker, "__init__", "what the marker knows")
    clock(marking, "parse_notebook", "parse")
    clock(marking, "plan", "plan from the syntax trees")
    clock(protocol.Request, "packed", "request", inside="set-up of a copy")
    clock(marking.Marker, "_judge", "oracle, comparison, mistakes")
    clock(marking.Marker, "_flags", "flags")
    clock(marking, "disagreements", "flags")
    clock(Gradebook, "write", "database")
    clock(reports, "stand_out", "similarity", inside="reports")
    clock(reports, "write_all", "reports")
    try:
        main()
    except SystemExit as left:
        if left.code not in (0, 1, None):
            raise
    rows = [
        {"phase": phase, "side": side, "once": once, "seconds": round(spent[phase], 3)}
        for phase, (side, once) in PHASES.items()
    ]
    sys.stdout.flush()
    print(json.dumps(rows))
