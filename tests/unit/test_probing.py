"""Calling a learner's object: nothing escapes, nothing is changed, and the outcome can cross to another process."""

import linecache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from course_lib.exercises.probing import (
    Failure,
    Outcome,
    gradients,
    on_device,
    pair,
    run_probe,
)
from course_lib.exercises.values import pack, unpack


def call(function: Any, **inputs: Any) -> dict[str, Any]:
    """Probe: call the function with the inputs by name."""
    return {"result": function(**inputs)}


def cell(source: str, name: str = "<cell>") -> dict[str, Any]:
    """Run a notebook's cell, with its source where tracebacks look for it, and return its names."""
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    namespace: dict[str, Any] = {"torch": torch}
    exec(compile(source, name, "exec"), namespace)
    return namespace


def fails(function: Any, **inputs: Any) -> Failure:
    outcome = run_probe(call, (function,), inputs)
    assert outcome.values is None
    assert outcome.error is not None
    return outcome.error


def test_values_come_back_plain_and_named() -> None:
    x = torch.arange(3.0, requires_grad=True)
    outcome = run_probe(call, (lambda x: x.exp(),), {"x": x})
    assert outcome.error is None
    assert outcome.values is not None
    assert torch.equal(outcome.values["result"], x.exp())
    assert not outcome.values["result"].requires_grad
    assert outcome.devices == {"result": "cpu"}


def test_several_objects_are_given_in_their_order() -> None:
    def both(first: Any, second: Any, x: int) -> dict[str, Any]:
        return {"a": first(x), "b": second(x)}

    outcome = run_probe(both, (lambda x: x + 1, lambda x: x * 10), {"x": 4})
    assert outcome.values == {"a": 5, "b": 40}


def test_the_inputs_are_copied_and_what_became_of_them_is_told() -> None:
    inputs = {"x": torch.zeros(3), "items": [1, {"a": torch.zeros(1)}]}

    def spoil(x: Tensor, items: list[Any]) -> None:
        x += 1
        items[1]["a"] += 5
        items.append("more")

    outcome = run_probe(call, (spoil,), inputs)
    assert inputs["x"].tolist() == [0, 0, 0]
    assert inputs["items"] == [1, {"a": torch.zeros(1)}]
    assert outcome.inputs_after["x"].tolist() == [1, 1, 1]
    assert outcome.inputs_after["items"] == [1, {"a": torch.full((1,), 5.0)}, "more"]


def test_strides_reach_the_learner() -> None:
    inputs = {
        "expanded": torch.ones(1, 3).expand(4, 3),
        "sliced": torch.arange(10.0)[::2],
        "transposed": torch.ones(2, 3).T,
    }
    for name, value in on_device(inputs, torch.device("cpu")).items():
        assert torch.equal(value, inputs[name])
        assert value.stride() == inputs[name].stride()
        assert value.data_ptr() != inputs[name].data_ptr()


def test_the_seed_is_fixed_and_the_lessons_own_numbers_are_kept() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, second = (run_probe(call, (lambda: torch.rand(3),), {}) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert first.values is not None
    assert second.values is not None
    assert torch.equal(first.values["result"], second.values["result"])


def test_a_stub_is_not_attempted() -> None:
    def stub() -> None:
        raise NotImplementedError()

    assert fails(stub).kind == "not-attempted"


def test_pytorchs_own_not_implemented_error_is_an_error() -> None:
    """A softmax of whole numbers raises NotImplementedError too, and that was an attempt."""
    failure = fails(lambda x: x.softmax(-1), x=torch.arange(3))
    assert failure.kind == "error"
    assert "not implemented for" in failure.message


def test_an_error_names_the_learners_line() -> None:
    learners = cell(
        "def f(x):\n    y = x + 1\n    return helper(y)\n\ndef helper(y):\n    return y @ y.T.T\n"
    )
    failure = fails(learners["f"], x=torch.ones(2, 3))
    assert failure.type == "RuntimeError"
    assert (failure.line, failure.lineno) == ("return y @ y.T.T", 6)


def test_a_line_inside_a_library_is_not_the_learners() -> None:
    learners = cell(
        "import torch\ndef f(x):\n    return torch.nn.functional.cross_entropy(x, x[:1])\n"
    )
    failure = fails(learners["f"], x=torch.ones(2, 3))
    assert failure.line == "return torch.nn.functional.cross_entropy(x, x[:1])"
    assert failure.lineno == 3


@pytest.mark.parametrize(
    "error",
    [ValueError("x" * 5000), KeyError("a"), SystemExit(3), RecursionError("deep"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_no_error_of_the_learners_escapes(error: BaseException) -> None:
    def raises() -> None:
        raise error

    failure = fails(raises)
    assert (failure.kind, failure.type) == ("error", type(error).__name__)
    assert len(failure.message) <= 500


def test_an_interrupt_stops_the_check() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(call, (interrupted,), {})


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (object(), "`result` is of type object, which is no result."),
        ({1: 2}, "`result` is a dictionary whose keys are not all strings, which is no result."),
        (10**5000, "`result` is an integer of 16610 bits, which is no result."),
        (torch.eye(2).to_sparse(), "`result` is a torch.sparse_coo tensor"),
        (torch.empty(2, device="meta"), "`result` is a tensor on the device meta"),
        (len, "`result` is of type builtin_function_or_method"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_value_is_an_error(result: Any, says: str) -> None:
    failure = fails(lambda: result)
    assert failure.kind == "error"
    assert failure.message.startswith(says)


def test_an_answer_that_is_not_callable_is_an_error() -> None:
    assert fails(3).type == "TypeError"
    assert fails(None).type == "TypeError"


def test_the_device_of_each_tensor_is_told(device: str) -> None:
    outcome = run_probe(
        lambda f, x: {"given": f(x), "moved": f(x).cpu(), "number": 1},
        (lambda x: x * 2,),
        {"x": torch.ones(2)},
        device,
    )
    assert outcome.devices == {"given": device, "moved": "cpu"}
    assert outcome.values is not None
    assert outcome.values["given"].device.type == "cpu"


# --- crossing to another process -----------------------------------------------------------------

TEXT = st.text(max_size=20)
FAILURES = st.builds(
    Failure,
    kind=st.sampled_from(["not-attempted", "error"]),
    type=TEXT,
    message=TEXT,
    line=st.none() | TEXT,
    lineno=st.none() | st.integers(0, 10**6),
)
VALUES = st.dictionaries(TEXT, st.none() | st.integers() | TEXT | st.lists(st.booleans()))
OUTCOMES = st.builds(
    Outcome,
    values=VALUES,
    devices=st.dictionaries(TEXT, TEXT),
    error=st.none(),
    inputs_after=VALUES,
) | st.builds(
    Outcome,
    values=st.none(),
    devices=st.just({}),
    error=FAILURES,
    inputs_after=VALUES,
)


@given(OUTCOMES)
def test_an_outcome_crosses_unchanged(outcome: Outcome) -> None:
    assert Outcome.from_value(unpack(pack(outcome.to_value()))) == outcome


def test_a_real_outcome_crosses_unchanged() -> None:
    for function in (lambda x: x * 2, lambda x: x @ x @ x.T.T):
        outcome = run_probe(call, (function,), {"x": torch.ones(2, 3)})
        back = Outcome.from_value(unpack(pack(outcome.to_value())))
        assert repr(back) == repr(outcome)


GOOD = Outcome({"a": 1}, {"a": "cpu"}, None, {}).to_value()
BAD = Outcome(None, {}, Failure("error", "E", "m", "l", 1), {}).to_value()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {**GOOD, "more": 1},
        {key: GOOD[key] for key in ("values", "devices", "error")},
        {**GOOD, "values": [1]},
        {**GOOD, "values": None},
        {**GOOD, "devices": None},
        {**GOOD, "devices": {"a": 1}},
        {**GOOD, "inputs_after": [1]},
        {**GOOD, "error": BAD["error"]},
        {**BAD, "error": "failed"},
        {**BAD, "error": {"kind": "error"}},
        {**BAD, "error": {**BAD["error"], "kind": "passed"}},
        {**BAD, "error": {**BAD["error"], "kind": ["error"]}},
        {**BAD, "error": {**BAD["error"], "type": 3}},
        {**BAD, "error": {**BAD["error"], "message": None}},
        {**BAD, "error": {**BAD["error"], "line": torch.ones(2)}},
    ],
)
def test_a_forged_outcome_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"outcome"):
        Outcome.from_value(value)


def test_long_texts_of_a_forged_outcome_are_cut() -> None:
    long = "x" * 10**5
    error = {"kind": "error", "type": long, "message": long, "line": long, "lineno": "12"}
    failure = Outcome.from_value({**BAD, "error": error}).error
    assert failure == Failure("error", "x" * 100, "x" * 500, "x" * 200, None)


# --- helpers of probes ---------------------------------------------------------------------------


def test_gradients_of_what_does_not_depend_are_zeros() -> None:
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    found = gradients(a * 3, torch.tensor([1.0, 2.0]), {"a": a, "b": b})
    assert {name: each.tolist() for name, each in found.items()} == {
        "gradient of a": [3.0, 6.0],
        "gradient of b": [0.0, 0.0],
    }
    cut = gradients((a * 3).detach(), torch.ones(2), {"a": a})
    assert cut["gradient of a"].tolist() == [0.0, 0.0]


def test_a_pair_is_a_pair() -> None:
    assert pair("f", (1, 2)) == (1, 2)
    with pytest.raises(TypeError, match="f returned None: is there a `return`"):
        pair("f", None)
    for wrong in (torch.ones(2), (1,), (1, 2, 3), [1, 2]):
        with pytest.raises(TypeError, match="should return a pair"):
            pair("f", wrong)
