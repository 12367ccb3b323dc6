"""Comparing outcomes with the oracle: what passes, what fails, and what is said of it."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.exercises.judging import judge, run_and_judge, same_outcome, show
from course_lib.exercises.probing import Failure, Outcome, run_probe
from course_lib.exercises.spec import Case, Exercise, Mistake, Tolerance


def probe(function: Any, x: Any) -> dict[str, Any]:
    return {"result": function(x)}


def exercise(right: Any, *wrong: tuple[str, Any], draw: Any = None, **others: Any) -> Exercise:
    """Return an exercise: compute ``right(x)``."""
    return Exercise(
        name="double",
        lesson=99,
        points=1,
        probe=probe,
        draw=draw or (lambda seed: [Case("three numbers", {"x": torch.arange(1.0, 4.0) + seed})]),
        oracle=lambda x: {"result": right(x)},
        finished=(right,),
        mistakes=tuple(Mistake(name, f"You did: {name}.", (f,)) for name, f in wrong),
        hints=("Think.",),
        **others,
    )


def says(expected: Any, got: Any, **others: Any) -> str | None:
    """Return what is said where ``got`` comes back and ``expected`` should; None if it passes."""
    one = exercise(lambda x: expected, draw=lambda seed: [Case("nothing", {"x": 0})], **others)
    outcome = run_probe(probe, (lambda x: got,), {"x": 0})
    verdict = judge(one, one.draw(0), [outcome])
    return None if verdict.status == "passed" else verdict.message


T = torch.tensor


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (T([1.0, 2.0]), T([1.0, 2.0 + 1e-5])),
        (T([1.0], dtype=torch.float64), T([1.0 + 1e-10], dtype=torch.float64)),
        (T([math.nan, math.inf]), T([math.nan, math.inf])),
        (T(3), T(3)),
        (torch.empty(0, 3), torch.empty(0, 3)),
        (T([True]), T([True])),
        (0.1 + 0.2, 0.3),
        (2.0, 2),
        (math.nan, math.nan),
        (math.inf, math.inf),
        ([1, "a", None], [1, "a", None]),
        ((1, [T([1.0])]), (1, [T([1.0])])),
        ({"a": 1.0, "b": {}}, {"b": {}, "a": 1.0}),
        (None, None),
        (True, True),
    ],
    ids=str,
)
def test_what_is_right_passes(expected: Any, got: Any) -> None:
    assert says(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (T([1.0]), None, "The result is None: did you forget `return`?"),
        (T([1.0]), [1.0], "The result is a list and should be a tensor."),
        (T([1.0]), 1.0, "The result is a float and should be a tensor."),
        (T([1.0]), T(1.0), "The result has shape () and should have (1,)."),
        (T([1.0]), T([[1.0]]), "The result has shape (1, 1) and should have (1,)."),
        (
            T([1.0]),
            T([1.0], dtype=torch.float64),
            "The result has dtype torch.float64 and should have torch.float32.",
        ),
        (T([True]), T([1]), "The result has dtype torch.int64 and should have torch.bool."),
        (T([1]), T([1.0]), "The result has dtype torch.float32 and should have torch.int64."),
        (
            T([1.0, 0.0]),
            T([1.0, math.nan]),
            "The result holds NaN (not a number): look for 0/0 or inf − inf.",
        ),
        (
            T([[1.0, 2.0], [3.0, 4.0]]),
            T([[1.0, 2.5], [3.0, 5.0]]),
            "2 of 4 numbers of the result are wrong. First at [0, 1]: expected 2, got 2.5.",
        ),
        (T(1.0), T(2.0), "The result is wrong: expected 1, got 2."),
        (
            T([math.nan]),
            T([1.0]),
            "1 of 1 numbers of the result are wrong. First at [0]: expected nan",
        ),
        (T([math.inf]), T([-math.inf]), "1 of 1 numbers of the result are wrong."),
        (
            T([1, 2]),
            T([1, 3]),
            "1 of 2 numbers of the result are wrong. First at [1]: expected 2, got 3.",
        ),
        (1.5, 2.5, "The result is 2.5 and should be 1.5."),
        (1.5, math.nan, "The result is nan and should be 1.5."),
        (1.0, True, "The result is a bool and should be a float."),
        (1.0, T(1.0), "The result is a tensor and should be a float."),
        (1.0, 2**2000, "The result is too large for a float."),
        (1, 1.0, "The result is a float and should be an int."),
        (1, True, "The result is a bool and should be an int."),
        (True, 1, "The result is an int and should be a bool."),
        (3, 4, "The result is 4 and should be 3."),
        ("a", "b", "The result is 'b' and should be 'a'."),
        (None, 0, "The result is an int and should be None."),
        ([1], (1,), "The result is a tuple and should be a list."),
        ([1, 2], [1], "The result has 1 items and should have 2."),
        ([1, [2.0]], [1, [3.0]], "The result[1][0] is 3 and should be 2."),
        ({"a": 1}, [1], "The result is a list and should be a dictionary."),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "The result lacks ['b'] and has ['c'] too many."),
        ({"a": 1}, {"a": 2}, "The result['a'] is 2 and should be 1."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_said(expected: Any, got: Any, message: str) -> None:
    found = says(expected, got)
    assert found is not None
    assert found.startswith(message)


@given(
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    st.floats(-100, 100),
    st.floats(0, 3),
)
def test_the_tolerance_of_a_dtype_is_kept(dtype: torch.dtype, centre: float, share: float) -> None:
    tolerance = Tolerance(0.5, 0.125)  # exact in every one of these dtypes
    expected = T([centre], dtype=dtype)
    size = expected.abs().clamp(min=1)  # the absolute part grows with the largest number
    got = expected + T([share], dtype=dtype) * (0.5 * size + 0.125 * expected.abs())
    gap = float((got.double() - expected.double()).abs())
    edge = 0.5 * float(size) + 0.125 * float(expected.abs())
    passed = says(expected, got, tolerances={dtype: tolerance}) is None
    if gap < edge * (1 - 1e-3):
        assert passed
    if gap > edge * (1 + 1e-3):
        assert not passed


def test_a_small_number_among_large_ones_is_rounded_as_they_are() -> None:
    tolerances = {torch.float32: Tolerance(1e-5, 1e-4)}
    expected = T([1000.0, 0.0])
    assert says(expected, T([1000.0, 5e-3]), tolerances=tolerances) is None
    assert says(expected, T([1000.0, 2e-2]), tolerances=tolerances) is not None
    assert says(T([1.0, 0.0]), T([1.0, 1e-4]), tolerances=tolerances) is not None


def test_a_dtype_without_tolerance_is_exact() -> None:
    assert says(T([1.0]), T([1.0 + 1e-6]), tolerances={}) is not None
    assert says(T([1.0]), T([1.0]), tolerances={}) is None


# --- verdicts ------------------------------------------------------------------------------------

DOUBLE = exercise(
    lambda x: x * 2,
    ("square", lambda x: x * x),
    ("half", lambda x: x / 2),
    ("crash", lambda x: x @ torch.ones(7)),
)


def test_a_right_answer_passes() -> None:
    verdict = run_and_judge(DOUBLE, (lambda x: x + x,))
    assert (verdict.status, verdict.message) == ("passed", "All 2 cases are right.")
    assert (verdict.mistake, verdict.failing, verdict.cases) == (None, [], 2)
    assert run_and_judge(DOUBLE, (lambda x: x + x,), (0,)).message == "The one case is right."


def test_a_known_mistake_is_named() -> None:
    for mistake in DOUBLE.mistakes:
        verdict = run_and_judge(DOUBLE, mistake.answer)
        assert (verdict.status, verdict.mistake) == ("failed", mistake)
        assert verdict.message == mistake.says
        assert len(verdict.failing) == 2


def test_a_mistake_must_be_the_same_in_every_case() -> None:
    verdict = run_and_judge(DOUBLE, (lambda x: x * x if x[0] == 1 else x * 2 + 1,))
    assert verdict.mistake is None
    assert verdict.message.startswith("2 of 3 numbers of the result are wrong.")


def test_what_is_right_beside_a_fault_is_told() -> None:
    two = Exercise(
        name="both",
        lesson=99,
        points=1,
        probe=lambda function, x: dict(zip(("loss", "gradients"), function(x))),
        draw=lambda seed: [Case("numbers", {"x": torch.arange(1.0, 4.0)})],
        oracle=lambda x: {"loss": x.sum(), "gradients": torch.ones(3)},
        finished=(lambda x: (x.sum(), torch.ones(3)),),
        mistakes=(),
        hints=("Think.",),
    )
    verdict = run_and_judge(two, (lambda x: (x.sum(), x),), (0,))
    assert verdict.right == ("loss",)
    assert verdict.message.startswith("2 of 3 numbers of the gradients are wrong.")
    assert run_and_judge(two, (lambda x: (x.sum(), x[1:]),), (0,)).message.startswith(
        "The gradients have shape (2,)"
    )
    assert run_and_judge(two, (lambda x: (x.sum() + 1, x),), (0,)).right == ()


def test_a_small_number_added_is_seen_though_it_prints_the_same() -> None:
    tolerances = {torch.float64: Tolerance(1e-10, 1e-10)}
    said = says(T([0.25]).double(), T([0.25]).double() + 1e-8, tolerances=tolerances)
    assert said is not None
    assert "expected 0.25, and yours is off by 1e-08." in said


def test_of_two_mistakes_the_one_that_shows_alone_is_named() -> None:
    many = exercise(
        lambda x: x * 2,
        ("square", lambda x: x * x),
        ("half", lambda x: x / 2),
        draw=lambda seed: [Case(f"{n}", {"x": torch.arange(3.0, 3.0 + n)}) for n in (1, 2, 3, 4)],
    )

    def both(x: torch.Tensor) -> torch.Tensor:
        return x * x if len(x) < 3 else x / 2 if len(x) < 4 else x * x / 2

    verdict = run_and_judge(many, (both,), (0,))
    assert verdict.mistake is None
    assert verdict.partly is many.mistakes[0]
    once = run_and_judge(many, (lambda x: x * x if len(x) == 1 else x + 1,), (0,))
    assert (once.status, once.partly) == ("failed", None)  # one case alone may be chance


def test_an_error_is_no_mistake_of_another_kind() -> None:
    verdict = run_and_judge(DOUBLE, (lambda x: {}["a"],))
    assert verdict.mistake is None
    assert (
        verdict.message == "Your code stopped in the line `verdict = run_and_judge(DOUBLE, "
        "(lambda x: {}[\"a\"],))` with KeyError: 'a'"
    )


def test_an_error_without_text_still_makes_a_sentence() -> None:
    one = [Outcome(None, {}, Failure("error", "ValueError", ""), {})]
    verdict = judge(DOUBLE, DOUBLE.draw(0), one)
    assert verdict.message == "Your code stopped with ValueError: (no message)"


def test_the_smallest_failing_case_comes_first() -> None:
    sizes = [5, 2, 9]
    many = exercise(
        lambda x: x * 2, draw=lambda seed: [Case(f"{n}", {"x": torch.ones(n)}) for n in sizes]
    )
    verdict = run_and_judge(many, (lambda x: x,), (0,))
    assert [each.case.label for each in verdict.failing] == ["2", "5", "9"]
    difference = verdict.failing[0].difference
    assert difference is not None
    assert difference.key == "result"
    assert difference.expected == "tensor([2., 2.])\nshape (2,), torch.float32"
    assert difference.got == "tensor([1., 1.])\nshape (2,), torch.float32"


def test_a_stub_in_any_case_is_not_attempted() -> None:
    def stub(x: Any) -> Any:
        if x[0] == 1:
            return x * 2
        raise NotImplementedError

    verdict = run_and_judge(DOUBLE, (stub,))
    assert verdict.status == "not-attempted"
    assert verdict.message.startswith("Write your code in place of")


def test_changing_an_input_in_place_fails() -> None:
    def in_place(x: torch.Tensor) -> torch.Tensor:
        result = x * 2
        x.zero_()
        return result

    verdict = run_and_judge(DOUBLE, (in_place,))
    assert verdict.status == "failed"
    assert verdict.message.startswith("Your code changed one of its inputs in place")
    assert verdict.message.endswith("It was `x`.")


def test_changing_the_input_and_returning_it_fails() -> None:
    assert run_and_judge(DOUBLE, (lambda x: x.mul_(2),)).status == "failed"
    assert run_and_judge(DOUBLE, (lambda x: x.mul_(2)[:],)).status == "failed"


def with_gradient(function: Any, x: torch.Tensor) -> Mapping[str, Any]:
    result = function(x.requires_grad_())
    return {"result": result, "gradient": torch.autograd.grad(result.sum(), x)[0]}


def test_in_place_under_autograd_is_said_in_words() -> None:
    one = exercise(lambda x: x.exp())
    cases = one.draw(0)

    def spoils_its_input(x: torch.Tensor) -> torch.Tensor:
        x += 1
        return x

    def spoils_its_result(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        y += 1
        return y

    for function, message in [
        (spoils_its_input, "Your code changed one of its inputs in place"),
        (spoils_its_result, "Your code changed in place a tensor that its gradient still needs"),
    ]:
        outcome = run_probe(with_gradient, (function,), cases[0].inputs)
        assert judge(one, cases, [outcome]).message.startswith(message)
    lineless = Failure("error", "RuntimeError", "a leaf Variable that requires grad is being used")
    verdict = judge(one, cases, [Outcome(None, {}, lineless, {})])
    assert verdict.message.endswith("ends in _).")


def test_a_missing_value_is_named() -> None:
    verdict = judge(DOUBLE, DOUBLE.draw(0), [Outcome({}, {}, None, DOUBLE.draw(0)[0].inputs)])
    assert verdict.message == "There is no result."


def test_forged_inputs_are_not_believed() -> None:
    (case,) = DOUBLE.draw(0)
    right = run_probe(probe, DOUBLE.finished, case.inputs)
    forged = Outcome(right.values, right.devices, None, {})
    assert judge(DOUBLE, [case], [forged]).status == "failed"
    assert judge(DOUBLE, [case], [right]).status == "passed"


def test_right_values_on_the_wrong_device_fail() -> None:
    (case,) = DOUBLE.draw(0)
    right = run_probe(probe, DOUBLE.finished, case.inputs)
    verdict = judge(DOUBLE, [case], [right], device="cuda")
    assert verdict.status == "failed"
    assert verdict.message == (
        "The result is on cpu and the inputs are on cuda: make new tensors with device=…."
    )


def test_each_case_has_its_outcome() -> None:
    for cases, outcomes in [([], []), (DOUBLE.draw(0), [])]:
        with pytest.raises(ValueError, match="one outcome for each case"):
            judge(DOUBLE, cases, outcomes)


def test_outcomes_are_the_same_by_values_inputs_and_errors() -> None:
    x = {"x": torch.ones(2)}
    one, same, other, broken = (
        run_probe(probe, (function,), x)
        for function in (
            lambda x: x * 2,
            lambda x: x + x,
            lambda x: x * 3,
            lambda x: x @ torch.ones(7),
        )
    )
    assert same_outcome(DOUBLE, one, same)
    assert not same_outcome(DOUBLE, one, other)
    assert not same_outcome(DOUBLE, one, broken)
    assert same_outcome(DOUBLE, broken, broken)
    changed = Outcome(one.values, one.devices, None, {"x": torch.zeros(2)})
    assert not same_outcome(DOUBLE, one, changed)


def test_values_are_shown_short() -> None:
    assert len(show(torch.zeros(100, 100))) <= 600
    assert len(show("a" * 5000)) == 600
    assert show(1.5) == "1.5"
