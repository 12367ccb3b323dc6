"""Decide whether outcomes are right, and if not, which known mistake they are.

This is the trusted side: it computes the oracle and the mistakes itself and believes nothing else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from course_lib.exercises.probing import Outcome, run_probe
from course_lib.exercises.spec import Case, Exercise, Mistake, Tolerance
from course_lib.exercises.values import Value, plain

EXACT = Tolerance(0.0, 0.0)
PLAIN_FLOAT = Tolerance(1e-9, 1e-7)
_LOOKED_AT = 8  # failing cases in which a known mistake is looked for
_IN_PLACE = (
    "Your code changed one of its inputs in place: make a new tensor instead "
    "(no `x -= …`, no method whose name ends in _)."
)
_IN_PLACE_BEFORE_BACKWARD = (
    "Your code changed in place a tensor that its gradient still needs: make a new tensor instead "
    "(no `x -= …`, no `x[…] = …`, no method whose name ends in _)."
)

_KEEPDIM = (
    " These shapes do not broadcast; after a sum, a mean or a maximum, `keepdim=True` keeps the axis, with "
    "length 1."
)


@dataclass(frozen=True)
class Difference:
    """Where a value departs from the expected one.

    Attributes:
        key: which of the probe's values, such as "output" or "gradient of q".
        reason: what is different, in a sentence.
        values: the expected value and the learner's, where they are worth showing.

    """

    key: str
    reason: str
    values: tuple[Value, Value] | None = None

    @property
    def expected(self) -> str:
        """The expected value, as text; empty where there is nothing to show."""
        return "" if self.values is None else show(self.values[0])

    @property
    def got(self) -> str:
        """The learner's value, as text."""
        return "" if self.values is None else show(self.values[1])


@dataclass(frozen=True)
class CaseResult:
    """One case's judgement; ``difference`` is None where it is right."""

    case: Case
    outcome: Outcome
    difference: Difference | None


@dataclass(frozen=True)
class Verdict:
    """What is to be said about an answer.

    Attributes:
        status: "passed", "failed" or "not-attempted".
        message: one sentence.
        mistake: the known mistake whose answers these are, if it is one.
        failing: the cases that failed, smallest input first.
        cases: how many cases there were.
        partly: where no mistake explains every case, the one that explains most of those that failed.
        right: where no mistake explains every case, the probe's values that are right in all of them.

    """

    status: Literal["passed", "failed", "not-attempted"]
    message: str
    mistake: Mistake | None
    failing: list[CaseResult]
    cases: int
    partly: Mistake | None = None
    right: tuple[str, ...] = ()


def judge(
    exercise: Exercise,
    cases: list[Case],
    outcomes: list[Outcome],
    device: str = "cpu",
    known: "KnownAnswers | None" = None,
) -> Verdict:
    """Judge the outcomes of one answer.

    Args:
        exercise: the exercise.
        cases: what was drawn.
        outcomes: one outcome for each case.
        device: the type of device that the inputs were on.
        known: what was computed for the same cases when other answers were judged.

    Returns:
        The verdict.

    """
    known = KnownAnswers(exercise) if known is None else known
    if len(cases) != len(outcomes) or not cases:
        raise ValueError("one outcome for each case, and at least one case")
    if any(each.error and each.error.kind == "not-attempted" for each in outcomes):
        return Verdict(
            "not-attempted",
            "Write your code in place of `raise NotImplementedError`.",
            None,
            [],
            len(cases),
        )
    failing = []
    for case, outcome in zip(cases, outcomes):
        difference = _difference(known, case, outcome, device)
        if difference is not None:
            failing.append(CaseResult(case, outcome, difference))
    if not failing:
        return Verdict("passed", f"{_cases(len(cases))} right.", None, [], len(cases))
    failing.sort(key=lambda result: _size(result.case.inputs))
    mistake = known.explain(cases, outcomes)
    smallest = failing[0].difference
    assert smallest is not None
    if mistake is not None:
        return Verdict("failed", mistake.says, mistake, failing, len(cases))
    partly = known.explain_in_part(failing)
    right = _always_right(known, failing)
    return Verdict("failed", smallest.reason, None, failing, len(cases), partly, right)


def run_and_judge(
    exercise: Exercise,
    objects: tuple[object, ...],
    seeds: tuple[int, ...] = (0, 1),
    device: str = "cpu",
) -> Verdict:
    """Draw the cases of ``seeds``, call ``objects`` on them in this process, and judge."""
    cases = [case for seed in seeds for case in exercise.draw(seed)]
    outcomes = [run_probe(exercise.probe, objects, case.inputs, device) for case in cases]
    return judge(exercise, cases, outcomes, torch.device(device).type)


def _cases(count: int) -> str:
    return "The one case is" if count == 1 else f"All {count} cases are"


def _size(value: Value) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, dict):
        return sum(_size(each) for each in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_size(each) for each in value)
    return len(value) if isinstance(value, str) else 1


def _difference(
    known: "KnownAnswers", case: Case, outcome: Outcome, device: str
) -> Difference | None:
    expected = known.right(case)
    if outcome.error is not None:
        error = outcome.error
        where = f" in the line `{error.line}`" if error.line else ""
        if "leaf Variable that requires grad" in error.message:
            return Difference("call", _IN_PLACE + (f" It happened{where}." if where else ""))
        if "modified by an inplace operation" in error.message:
            return Difference("call", _IN_PLACE_BEFORE_BACKWARD)
        return Difference(
            "call",
            f"Your code stopped{where} with {error.type}: {error.message or '(no message)'}"
            + (_KEEPDIM if "must match the size of tensor" in error.message else ""),
        )
    assert outcome.values is not None
    for key, value in expected.items():
        if key not in outcome.values:
            return Difference(key, f"There is no {key}.")
        wanted = value
        on_device = any(isinstance(each, torch.Tensor) for each in case.inputs.values())
        if on_device and outcome.devices.get(key, device) != device:
            return Difference(
                key,
                f"The {key} is on {outcome.devices[key]} and the inputs are on {device}: "
                "make new tensors with device=….",
            )
        found = _compare(key, wanted, outcome.values[key], known.exercise.tolerances)
        if found is not None:
            return found
    for key, before in known.asked(case).items():
        after = outcome.inputs_after.get(key)
        if _compare(key, before, after, {}) is not None:
            return Difference(key, f"{_IN_PLACE} It was `{key}`.", (before, after))
    return None


def _compare(
    key: str, expected: Value, got: Value, tolerances: Mapping[torch.dtype, Tolerance]
) -> Difference | None:
    """Return where ``got`` departs from ``expected``, or None."""

    def differ(reason: str) -> Difference:
        return Difference(key, reason, (expected, got))

    if isinstance(expected, torch.Tensor):
        if got is None:
            return differ(f"The {key} {_verb(key, 'is', 'are')} None: did you forget `return`?")
        if not isinstance(got, torch.Tensor):
            return differ(
                f"The {key} {_verb(key, 'is', 'are')} {kind_of(got)} and should be a tensor."
            )
        if got.shape != expected.shape:
            return differ(
                f"The {key} {_verb(key, 'has', 'have')} shape {tuple(got.shape)} and should have "
                f"{tuple(expected.shape)}."
            )
        if got.dtype != expected.dtype:
            return differ(
                f"The {key} {_verb(key, 'has', 'have')} dtype {got.dtype} and should have {expected.dtype}."
            )
        if torch.equal(got, expected):
            return None
        if not expected.dtype.is_floating_point and not expected.dtype.is_complex:
            wrong = got != expected
        else:
            if bool((got.isnan() & ~expected.isnan()).any()):
                return differ(
                    f"The {key} {_verb(key, 'holds', 'hold')} NaN (not a number): "
                    "look for 0/0 or inf − inf."
                )
            tolerance = tolerances.get(expected.dtype, EXACT)
            absolute = tolerance.absolute * max(1.0, _largest(expected))
            wrong = ~torch.isclose(
                got, expected, rtol=tolerance.relative, atol=absolute, equal_nan=True
            )
        count = int(wrong.sum())
        if count == 0:
            return None
        first = tuple(int(i) for i in wrong.nonzero()[0])
        told = _expected_and_got(expected[first], got[first])
        if not first:
            return differ(f"The {key} {_verb(key, 'is', 'are')} wrong: {told}")
        many = f"{count} of {expected.numel()} numbers of the {key} are wrong."
        return differ(f"{many} First at {list(first)}: {told}")
    if isinstance(expected, float) and isinstance(got, (int, float)) and not isinstance(got, bool):
        tolerance = tolerances.get(torch.float64, PLAIN_FLOAT)
        try:
            got = float(got)
        except OverflowError:
            return differ(f"The {key} is too large for a float.")
        close = math.isclose(
            got,
            expected,
            rel_tol=max(tolerance.relative, 1e-12),
            abs_tol=tolerance.absolute,
        ) or (math.isnan(expected) and math.isnan(got))
        return None if close else differ(f"The {key} is {got:.6g} and should be {expected:.6g}.")
    if isinstance(expected, (list, tuple)):
        if type(got) is not type(expected):
            return differ(
                f"The {key} {_verb(key, 'is', 'are')} {kind_of(got)} and should be {kind_of(expected)}."
            )
        if len(got) != len(expected):
            return differ(
                f"The {key} {_verb(key, 'has', 'have')} {len(got)} items and should have {len(expected)}."
            )
        for index, (left, right) in enumerate(zip(expected, got)):
            found = _compare(f"{key}[{index}]", left, right, tolerances)
            if found is not None:
                return found
        return None
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return differ(f"The {key} is {kind_of(got)} and should be a dictionary.")
        if set(got) != set(expected):
            missing, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
            parts = [f"lacks {missing[:5]}"] if missing else []
            parts += [f"has {extra[:5]} too many"] if extra else []
            return differ(f"The {key} {' and '.join(parts)}.")
        for name in expected:
            found = _compare(f"{key}[{name!r}]", expected[name], got[name], tolerances)
            if found is not None:
                return found
        return None
    if type(got) is not type(expected):
        return differ(
            f"The {key} {_verb(key, 'is', 'are')} {kind_of(got)} and should be {kind_of(expected)}."
        )
    return (
        None
        if got == expected
        else differ(
            f"The {key} {_verb(key, 'is', 'are')} {show(got)} and should be {show(expected)}."
        )
    )


def _largest(value: torch.Tensor) -> float:
    """Return the largest finite magnitude: sums of large numbers round as large numbers do."""
    finite = value.detach().abs()[value.isfinite()]
    return float(finite.max()) if finite.numel() else 0.0


class KnownAnswers:
    """What the oracle and each known mistake answer in each case, computed when it is asked for, once.

    Args:
        exercise: the exercise.

    """

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self._right: dict[int, dict[str, Value]] = {}
        self._asked: dict[int, dict[str, Value]] = {}
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        self._cases: dict[int, Case] = {}  # kept, so that no other case gets the number of one

    def right(self, case: Case) -> dict[str, Value]:
        """Return the oracle's values, as plain ones."""
        if id(case) not in self._right:
            values = self.exercise.oracle(**case.inputs)
            self._cases[id(case)] = case
            self._right[id(case)] = {key: plain(value) for key, value in values.items()}
        return self._right[id(case)]

    def asked(self, case: Case) -> dict[str, Value]:
        """Return the case's inputs, as plain values."""
        if id(case) not in self._asked:
            self._cases[id(case)] = case
            self._asked[id(case)] = {key: plain(value) for key, value in case.inputs.items()}
        return self._asked[id(case)]

    def answers_so(self, mistake: Mistake, case: Case, outcome: Outcome) -> bool:
        """Tell whether the mistake has this outcome in this case."""
        key = (mistake.name, id(case))
        if key not in self._outcomes:
            self._cases[id(case)] = case
            self._outcomes[key] = run_probe(self.exercise.probe, mistake.answer, case.inputs)
        return same_outcome(self.exercise, outcome, self._outcomes[key])

    def explain(self, cases: list[Case], outcomes: list[Outcome]) -> Mistake | None:
        """Return the known mistake that gives the same outcome in every case, if there is one."""
        for mistake in self.exercise.mistakes:
            if all(self.answers_so(mistake, *each) for each in zip(cases, outcomes)):
                return mistake
        return None

    def explain_in_part(self, failing: list[CaseResult]) -> Mistake | None:
        """Return the known mistake that gives the same values in most of the smallest failing cases.

        Two mistakes at once are no known mistake; but where only one of them matters, it shows. One case
        alone may be chance, so it takes two.
        """
        answered = [each for each in failing if each.outcome.values is not None][:_LOOKED_AT]
        best, most = None, 1
        for mistake in self.exercise.mistakes if len(answered) > 1 else ():
            count = sum(self.answers_so(mistake, each.case, each.outcome) for each in answered)
            if count > most:
                best, most = mistake, count
        return best


def _always_right(known: KnownAnswers, failing: list[CaseResult]) -> tuple[str, ...]:
    """Return those of the probe's values that are right even in the cases that failed."""
    if any(result.outcome.values is None for result in failing):
        return ()
    right: dict[str, bool] = {}
    for result in failing:
        values = result.outcome.values or {}
        for key, expected in known.right(result.case).items():
            found = key in values and (
                _compare(key, expected, values[key], known.exercise.tolerances) is None
            )
            right[key] = right.get(key, True) and found
    return tuple(key for key, always in right.items() if always)


def same_outcome(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    """Tell whether two answers did the same: equal values, or the same type of error."""
    if one.error or other.error:
        return bool(one.error and other.error and one.error.type == other.error.type)
    assert one.values is not None
    assert other.values is not None
    return (
        set(one.values) == set(other.values)
        and _compare("values", other.values, one.values, exercise.tolerances) is None
        and _compare("inputs", other.inputs_after, one.inputs_after, {}) is None
    )


def kind_of(value: Value) -> str:
    """Return what a value is, with its article."""
    if value is None:
        return "None"
    name = "tensor" if isinstance(value, torch.Tensor) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _verb(key: str, singular: str, plural: str) -> str:
    """Return the form that fits the key, such as "answers", "loss", "gradients of q" or "pieces[0]"."""
    noun = key.split(" of ")[0]
    return plural if noun.endswith("s") and not noun.endswith("ss") else singular


def _expected_and_got(expected: torch.Tensor, got: torch.Tensor) -> str:
    if _number(expected) != _number(got):
        return f"expected {_number(expected)}, got {_number(got)}."
    away = (got.double() - expected.double()).item()
    return (
        f"expected {_number(expected)}, and yours is off by {away:.1g}. That is more than rounding: "
        "was a small number added to avoid a division by zero or a logarithm of zero?"
    )


def _number(value: torch.Tensor) -> str:
    number = value.item()
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def show(value: Value, most: int = 600) -> str:
    """Return a short text of a value for a reader."""
    if isinstance(value, torch.Tensor) and value.dim() == 0 and value.is_floating_point():
        text = f"{value.item():.6g}\na tensor without axes, {value.dtype}"
    elif isinstance(value, torch.Tensor):
        with torch._tensor_str.printoptions(precision=4, threshold=60, edgeitems=3, linewidth=90):
            text = f"{value}\nshape {tuple(value.shape)}, {value.dtype}"
    else:
        text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
