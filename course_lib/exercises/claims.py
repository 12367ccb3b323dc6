"""Executable claims: a sentence of the text, and the measurement that it stands on."""

import json
import math
import os
from collections.abc import Mapping

from course_lib.exercises.render import card
from course_lib.runtime import CourseError, current


def claim(
    text: str,
    *,
    measured: float,
    at_least: float | None = None,
    at_most: float | None = None,
    equals: float | None = None,
    between: tuple[float, float] | None = None,
    breaks_when: Mapping[str, float] | None = None,
    timing: bool = False,
) -> None:
    """State a result, with the figure that was measured and the bound that it must keep.

    Exactly one of ``at_least``, ``at_most``, ``equals`` and ``between`` is given. At the scale "smoke" the
    figure is printed and not judged, and a claim about time (``timing``) is judged only by
    `course claims`. If COURSE_CLAIMS_FILE is set, the claim is also appended there as a line of JSON.

    Args:
        text: the sentence; it names the claim, so it is unique in its lesson and holds no figure that varies.
        measured: the figure.
        at_least: the smallest value that keeps the claim.
        at_most: the largest.
        equals: the only one (exactly equal).
        between: the smallest and the largest.
        breaks_when: what the same measurement gives for broken variants; each must break the bound.
        timing: the figure is a ratio of times.

    Raises:
        CourseError: not exactly one bound is given, or ``between`` is not two numbers in order.

    """
    bounds = {"at_least": at_least, "at_most": at_most, "equals": equals, "between": between}
    given = {kind: value for kind, value in bounds.items() if value is not None}
    if len(given) != 1:
        raise CourseError(
            f'The claim "{text}" needs exactly one of at_least, at_most, equals, between.'
        )
    ((kind, bound),) = given.items()
    measured = float(measured)
    value = _as_bound(text, bound)
    holds = within(measured, kind, value)
    broken = {
        name: {"measured": float(figure), "holds": within(float(figure), kind, value)}
        for name, figure in (breaks_when or {}).items()
    }
    run = current()
    judging = bool(os.environ.get("COURSE_CLAIMS_FILE"))
    judged = run.scale != "smoke" and (judging or not timing)
    if judging:
        line = {
            "lesson": run.lesson,
            "claim": text,
            "measured": measured,
            "bound": {"kind": kind, "value": value},
            "holds": holds,
            "judged": judged,
            "breaks": broken,
            "timing": timing,
            "seed": run.seed,
            "scale": run.scale,
        }
        with open(os.environ["COURSE_CLAIMS_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    survivors = [name for name, each in broken.items() if each["holds"]]
    lines = [f"Measured: {_figure(measured)} (claimed: {_bound(kind, value)})."]
    lines += [
        f"{name[:1].upper()}{name[1:]}: {_figure(float(each['measured']))}, which breaks the claim, as it should."
        for name, each in broken.items()
        if not each["holds"]
    ]
    lines += [
        f"{name[:1].upper()}{name[1:]}: the claim still holds, so it tells nothing."
        for name in survivors
    ]
    good = holds and not survivors
    if not judged:
        why = "the scale is smoke" if run.scale == "smoke" else "a time on an unknown machine"
        card("neutral", text, [*lines, f"Not judged here: {why}."])
    else:
        if not holds:
            lines.append("It does not hold in this run.")
        card("good" if good else "bad", text, lines)


def within(measured: float, kind: str, bound: float | list[float]) -> bool:
    """Return whether ``measured`` keeps the bound; NaN keeps none."""
    if math.isnan(measured):
        return False
    if isinstance(bound, list):
        return bound[0] <= measured <= bound[1]
    return {
        "at_least": measured >= bound,
        "at_most": measured <= bound,
        "equals": measured == bound,
    }[kind]


def _as_bound(text: str, bound: float | tuple[float, ...] | list[float]) -> float | list[float]:
    if not isinstance(bound, (tuple, list)):
        return float(bound)
    if len(bound) != 2 or not bound[0] <= bound[1]:
        raise CourseError(
            f'The claim "{text}" needs two numbers as between, the smaller one first.'
        )
    return [float(each) for each in bound]


def _figure(number: float) -> str:
    return f"{number:.4g}" if math.isfinite(number) else str(number)


def _bound(kind: str, value: float | list[float]) -> str:
    if isinstance(value, list):
        return f"between {_figure(value[0])} and {_figure(value[1])}"
    return f"{kind.replace('_', ' ')} {_figure(value)}"
