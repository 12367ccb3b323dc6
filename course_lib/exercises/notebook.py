"""What a learner calls in a notebook about an exercise: `check` and `hint`."""

import dataclasses
import inspect
import os
import sys
import textwrap
from typing import Any

from course_lib.exercises import progress
from course_lib.exercises.forbidden import find_forbidden
from course_lib.exercises.judging import CaseResult, Verdict, run_and_judge, show
from course_lib.exercises.render import card
from course_lib.exercises.spec import Exercise, find
from course_lib.exercises.values import plain
from course_lib.runtime import current


def check(name: str) -> Any:
    """Check the exercise ``name``, show what was found, and return what the lesson goes on with.

    The learner's objects are looked up, by the names that the exercise defines, where `check` is called.
    If they pass, they are returned; if not, the course's finished ones, and the card says so. The lesson
    runs on in any case; only under nbgrader (NBGRADER_EXECUTION is set) does a failed check raise.

    Args:
        name: the exercise's name, such as "attention".

    Returns:
        One object, or a tuple where the exercise defines several names.

    Raises:
        CourseError: there is no exercise of this name.
        AssertionError: under nbgrader, where the answer does not pass.

    """
    run = current()
    exercise = find(name, run.lesson)
    namespace = sys._getframe(1).f_globals
    missing = [each for each in exercise.defines if each not in namespace]
    names = " and ".join(f"`{each}`" for each in exercise.defines)
    if missing:
        verdict = Verdict(
            "not-attempted",
            f"`{missing[0]}` is not defined: run the cell above, and look there for an error.",
            None,
            [],
            0,
        )
    else:
        objects = tuple(namespace[each] for each in exercise.defines)
        if any(mine is theirs for mine, theirs in zip(objects, exercise.finished)):
            if os.environ.get("NBGRADER_EXECUTION"):
                raise AssertionError(f"{name}: this is the course's version, not your own.")
            card(
                "neutral",
                f"{name}: this is the course's version",
                [f"To check your own {names}, run your cell again, then this one."],
            )
            return _as_given(exercise.finished)
        device = run.device.type if run.device.type == "cuda" else "cpu"
        verdict = _allowed(exercise, objects) or run_and_judge(exercise, objects, device=device)
        verdict = _which_is_missing(exercise, objects, verdict)
    entry = progress.read().get(f"{exercise.lesson:02d}/{name}", {})
    attempts = progress.count(entry, "attempts") + (verdict.status != "not-attempted")
    best = "passed" if "passed" in (entry.get("status"), verdict.status) else verdict.status
    progress.record(exercise.lesson, name, status=best, attempts=attempts)
    _show(exercise, verdict, names)
    if verdict.status == "passed":
        return _as_given(objects)
    if os.environ.get("NBGRADER_EXECUTION"):
        # The assignment after the call will not happen: make it here, so that one fault is paid once.
        namespace.update(zip(exercise.defines, exercise.finished))
        raise AssertionError(f"{name}: {verdict.message}")
    return _as_given(exercise.finished)


def hint(name: str, number: int | None = None) -> None:
    """Show a hint for the exercise ``name``: the next one, or the one with this number.

    Args:
        name: the exercise's name.
        number: 1 for the first hint.

    Raises:
        CourseError: there is no exercise of this name.

    """
    exercise = find(name, current().lesson)
    count = len(exercise.hints)
    if number is None:
        entry = progress.read().get(f"{exercise.lesson:02d}/{name}", {})
        number = min(progress.count(entry, "hints") + 1, count)
        progress.record(exercise.lesson, name, hints=number)
    if not 1 <= number <= count:
        card("neutral", f"{name} has hints 1 to {count}", [])
        return
    more = " This is the last one." if number == count else " Run this cell again for the next one."
    card("neutral", f"Hint {number} of {count} for {name}", [exercise.hints[number - 1] + more])


def _as_given(objects: tuple[Any, ...]) -> Any:
    return objects[0] if len(objects) == 1 else objects


def source_of(thing: Any) -> str:
    """Return the source of a function or class, or "" where Python does not know it."""
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        if not inspect.isclass(thing):
            return ""
    # Python 3.11 does not find the source of a class that a cell defines, but that of its methods.
    return "\n".join(source_of(each) for each in vars(thing).values() if inspect.isfunction(each))


def _allowed(exercise: Exercise, objects: tuple[Any, ...]) -> Verdict | None:
    for each in objects:
        uses = find_forbidden(source_of(each), exercise.forbidden)
        if uses:
            return Verdict(
                "failed",
                f"You used `{uses[0].name}`, which is what this exercise asks you to build: "
                "write it out yourself.",
                None,
                [],
                0,
            )
    return None


def _which_is_missing(exercise: Exercise, objects: tuple[Any, ...], verdict: Verdict) -> Verdict:
    """Where an exercise defines several things and some are written, say which are not."""
    if verdict.status != "not-attempted":
        return verdict
    stubs = [
        name
        for name, thing in zip(exercise.defines, objects)
        if "raise NotImplementedError" in source_of(thing)
    ]
    if not 0 < len(stubs) < len(exercise.defines):
        return verdict
    missing = " and ".join(f"`{name}`" for name in stubs)
    message = f"Still to be written: {missing}, in place of `raise NotImplementedError`."
    return dataclasses.replace(verdict, message=message)


def _show(exercise: Exercise, verdict: Verdict, names: str) -> None:
    if verdict.status == "passed":
        card("good", f"{exercise.name}: right", [verdict.message])
        return
    goes_on = f"The lesson goes on with the course's {names}."
    help_line = f'Stuck? Run `hint("{exercise.name}")` in a new cell.'
    if verdict.status == "not-attempted":
        card("neutral", f"{exercise.name}: not attempted", [verdict.message, goes_on, help_line])
        return
    lines = [verdict.message]
    details = []
    if verdict.failing:
        smallest = verdict.failing[0]
        assert smallest.difference is not None
        if verdict.mistake:
            lines.append(f"Seen as: {smallest.difference.reason}")
        lines.append(
            f"{len(verdict.failing)} of {verdict.cases} cases fail; "
            f"the smallest is: {smallest.case.label}."
        )
        if verdict.partly:
            lines.insert(1, f"On other inputs it looks like this mistake: {verdict.partly.says}")
        if verdict.right:
            lines.append(f"Right in every case: {', '.join(verdict.right)}.")
        details = _details(smallest)
    card("bad", f"{exercise.name}: not right yet", [*lines, goes_on, help_line], details)


def _details(result: CaseResult) -> list[tuple[str, str]]:
    assert result.difference is not None
    inputs = "\n".join(f"{key} = {show(plain(value))}" for key, value in result.case.inputs.items())
    if "cotangent" in result.case.inputs:
        inputs += "\nThe gradients are those of (output * cotangent).sum()."
    details = [("The failing input", inputs)]
    if result.difference.expected:
        details.append((f"Expected: {result.difference.key}", result.difference.expected))
        details.append((f"Yours: {result.difference.key}", result.difference.got))
    return details
