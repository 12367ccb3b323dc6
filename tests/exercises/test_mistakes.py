"""Every exercise of every lesson: the finished answer passes, and each wrong one fails with its own sentence."""

import ast
import contextlib
import dataclasses
import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from course_lib.exercises import spec
from course_lib.exercises.judging import KnownAnswers, judge, run_and_judge, same_outcome
from course_lib.exercises.probing import Outcome, on_device, run_probe
from course_lib.exercises.spec import Case, Exercise, Mistake, Tolerance
from course_lib.exercises.values import pack

EXERCISES = [exercise for lesson in spec.lessons() for exercise in spec.exercises_of(lesson)]
MISTAKES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.mistakes]
CHECKED = (0, 1)  # the seeds that `check` draws from
OTHERS = (2, 17, 101, 2024, 2**31 - 1)
PROBES = Path(spec.__file__).parent / "probes"

every_exercise = pytest.mark.parametrize(
    "exercise", EXERCISES, ids=lambda each: f"{each.lesson:02d}-{each.name}"
)
every_mistake = pytest.mark.parametrize(
    ("exercise", "mistake"),
    MISTAKES,
    ids=[f"{each.lesson:02d}-{each.name}-{mistake.name}" for each, mistake in MISTAKES],
)


@functools.cache
def drawn(name: str, seeds: tuple[int, ...]) -> tuple[Case, ...]:
    """Return the cases of an exercise; they are shared, since nothing may change them."""
    exercise = next(each for each in EXERCISES if each.name == name)
    return tuple(case for seed in seeds for case in exercise.draw(seed))


@functools.cache
def outcomes_of_finished(name: str, seeds: tuple[int, ...]) -> tuple[Outcome, ...]:
    exercise = next(each for each in EXERCISES if each.name == name)
    return tuple(probed(exercise, exercise.finished, seeds))


def probed(exercise: Exercise, answer: tuple[Any, ...], seeds: tuple[int, ...]) -> list[Outcome]:
    return [run_probe(exercise.probe, answer, case.inputs) for case in drawn(exercise.name, seeds)]


@functools.cache
def undiagnosed(name: str) -> Exercise:
    """Return an exercise without its mistakes: it fails what it failed, and does not look for the reason."""
    exercise = next(each for each in EXERCISES if each.name == name)
    return dataclasses.replace(exercise, mistakes=())


@functools.cache
def known(name: str, diagnosed: bool = True) -> KnownAnswers:
    """Return what the oracle and the mistakes answer; computed once for all tests of an exercise."""
    exercise = next(each for each in EXERCISES if each.name == name)
    return KnownAnswers(exercise if diagnosed else undiagnosed(name))


# --- what is right, and how an exercise is described ---------------------------------------------


@every_exercise
def test_the_finished_answer_passes_at_twenty_seeds(exercise: Exercise, device: str) -> None:
    for seed in range(20):
        verdict = run_and_judge(exercise, exercise.finished, (seed,), device)
        assert verdict.status == "passed", f"seed {seed}: {verdict.message}"


@every_exercise
def test_the_finished_answer_lies_well_inside_the_tolerance(exercise: Exercise) -> None:
    """Rounding differs from machine to machine, and so do right answers: half of the room is theirs."""
    halved = {
        dtype: Tolerance(each.absolute / 2, each.relative / 2)
        for dtype, each in exercise.tolerances.items()
    }
    strict = dataclasses.replace(exercise, mistakes=(), tolerances=halved)
    for seed in range(1000, 1015):
        verdict = run_and_judge(strict, exercise.finished, (seed,))
        assert verdict.status == "passed", f"seed {seed}: {verdict.failing[0]}"


@every_exercise
def test_an_exercise_is_described_in_full(exercise: Exercise) -> None:
    assert exercise.points > 0
    assert 1 <= exercise.difficulty <= 5
    assert exercise.minutes > 0
    assert len(exercise.hints) >= 3
    assert len(exercise.mistakes) >= 4
    sentences = [*exercise.hints, *(mistake.says for mistake in exercise.mistakes)]
    assert all(sentence.strip() == sentence and len(sentence) > 15 for sentence in sentences)
    assert all(mistake.says.endswith((".", "?", "!")) for mistake in exercise.mistakes)
    assert set(Counter(sentences).values()) == {1}
    assert set(Counter(mistake.name for mistake in exercise.mistakes).values()) == {1}
    assert all(len(mistake.answer) == len(exercise.defines) for mistake in exercise.mistakes)
    assert all(each.isidentifier() for each in exercise.defines)
    assert exercise.probe.__module__ == f"course_lib.exercises.probes.lesson_{exercise.lesson:02d}"
    places = ("course_lib.models.", "course_lib.training.", "course_lib.posttraining.")
    assert all(each.__module__.startswith(places) for each in exercise.finished)


@every_exercise
def test_what_an_exercise_needs_stands_before_it(exercise: Exercise) -> None:
    names = [each.name for each in spec.exercises_of(exercise.lesson)]
    assert set(exercise.needs) <= set(names[: names.index(exercise.name)])


def test_names_are_unique_in_the_course() -> None:
    assert EXERCISES
    assert set(Counter(exercise.name for exercise in EXERCISES).values()) == {1}
    for lesson in spec.lessons():
        assert {exercise.lesson for exercise in spec.exercises_of(lesson)} <= {lesson}
        assert all(spec.find(each.name) is each for each in spec.exercises_of(lesson))


@every_exercise
def test_draws_are_labelled_and_follow_their_seed(exercise: Exercise) -> None:
    by_seed = [exercise.draw(seed) for seed in range(10)]
    for cases in by_seed:
        labels = [case.label for case in cases]
        assert len(set(labels)) == len(labels)
        assert all(label and label.strip() == label for label in labels)
    packed = [[pack(case.inputs) for case in cases] for cases in by_seed]
    assert packed == [
        [pack(case.inputs) for case in exercise.draw(seed)] for seed in range(len(by_seed))
    ]
    assert packed[0] != packed[1]
    assert len({tuple(each) for each in packed}) >= 5


@every_exercise
def test_every_case_expects_something(exercise: Exercise) -> None:
    for case in drawn(exercise.name, CHECKED):
        assert exercise.oracle(**case.inputs), case.label


# --- known mistakes ------------------------------------------------------------------------------


@every_mistake
def test_a_mistake_is_answered_with_its_own_sentence(exercise: Exercise, mistake: Mistake) -> None:
    for seeds in (CHECKED, *((seed,) for seed in OTHERS)):
        cases = list(drawn(exercise.name, seeds))
        outcomes = probed(exercise, mistake.answer, seeds)
        verdict = judge(exercise, cases, outcomes, known=known(exercise.name))
        assert verdict.status == "failed", f"seeds {seeds}: {verdict.message}"
        assert verdict.mistake is mistake, f"seeds {seeds}: {verdict.message}"
        assert verdict.message == mistake.says
        assert verdict.failing


@pytest.mark.cuda
@every_exercise
def test_every_mistake_is_recognised_on_cuda(exercise: Exercise) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    for mistake in exercise.mistakes:
        verdict = run_and_judge(exercise, mistake.answer, CHECKED, "cuda")
        assert verdict.mistake is mistake, f"{mistake.name}: {verdict.message}"


@every_exercise
def test_no_two_mistakes_do_the_same(exercise: Exercise) -> None:
    found = {
        mistake.name: probed(exercise, mistake.answer, CHECKED) for mistake in exercise.mistakes
    }
    for one, other in itertools.combinations(found, 2):
        alike = [same_outcome(exercise, a, b) for a, b in zip(found[one], found[other])]
        assert not all(alike), f"“{one}” and “{other}”"


@every_exercise
def test_probing_leaves_the_cases_as_they_were(exercise: Exercise) -> None:
    for seed in CHECKED:
        cases = exercise.draw(seed)
        before = [pack(case.inputs) for case in cases]
        answers = [
            exercise.finished,
            *(mistake.answer for mistake in exercise.mistakes),
            tuple(_changing_inputs(thing) for thing in exercise.finished),
        ]
        for answer in answers:
            for case in cases:
                run_probe(exercise.probe, answer, case.inputs)
        assert [pack(case.inputs) for case in cases] == before


# --- answers that must never pass: what comes back is replaced -----------------------------------


def _replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``value`` with ``change`` applied to each tensor, number, string and Boolean in it."""
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(each, change) for each in value)
    if isinstance(value, dict):
        return {key: _replaced(each, change) for key, each in value.items()}
    return value if value is None else change(value)


def _filled(number: float) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.full_like(value, number)
        return type(value)(number) if not isinstance(value, str) else str(number)

    return change


def _nan(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        dtype = value.dtype if value.dtype.is_floating_point else torch.float32
        return torch.full_like(value, torch.nan, dtype=dtype)
    return float("nan")


_OTHER_DTYPE = {
    torch.float32: torch.float64,
    torch.float64: torch.float32,
    torch.bool: torch.int64,
    torch.int64: torch.int32,
    torch.int32: torch.int64,
}


def _other_dtype(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(_OTHER_DTYPE.get(value.dtype, torch.float64))
    return str(value) if not isinstance(value, str) else value.encode()


def _other_kind(value: Any) -> Any:
    """Return whole numbers where floats or Booleans belong, and floats where whole numbers do."""
    if isinstance(value, torch.Tensor):
        whole = value.dtype != torch.bool and not value.dtype.is_floating_point
        return value.nan_to_num().to(torch.float32 if whole else torch.int64)
    return str(value) if not isinstance(value, str) else value.encode()


def _one_more_axis(value: Any) -> Any:
    return value.unsqueeze(0) if isinstance(value, torch.Tensor) else [value]


def _transposed(value: Any) -> Any:
    """Return the same numbers in a wrong shape: flat, or a single number as a row."""
    return value.reshape(-1, 1) if isinstance(value, torch.Tensor) else (value,)


LAZY: dict[str, Callable[[Any], Any]] = {
    "zeros": _filled(0),
    "ones": _filled(1),
    "another constant": _filled(-7),
    "NaN": _nan,
    "an axis too many": _one_more_axis,
    "a column": _transposed,
    "another dtype": _other_dtype,
    "another kind of number": _other_kind,
}


@pytest.mark.parametrize("change", LAZY.values(), ids=LAZY.keys())
@every_exercise
def test_worthless_results_fail(exercise: Exercise, change: Callable[[Any], Any]) -> None:
    """The finished answer's results, made worthless, in a form that a submission could send."""
    cases = list(drawn(exercise.name, CHECKED))
    outcomes = [
        Outcome(_replaced(each.values, change), each.devices, None, each.inputs_after)
        for each in outcomes_of_finished(exercise.name, CHECKED)
    ]
    verdict = judge(undiagnosed(exercise.name), cases, outcomes, known=known(exercise.name, False))
    assert verdict.status == "failed"
    assert verdict.message.endswith((".", "?"))


@every_exercise
def test_no_results_fail(exercise: Exercise) -> None:
    cases = list(drawn(exercise.name, CHECKED))
    finished = outcomes_of_finished(exercise.name, CHECKED)
    for values in ({}, dict.fromkeys(finished[0].values or {})):
        outcomes = [Outcome(values, {}, None, each.inputs_after) for each in finished]
        assert (
            judge(
                undiagnosed(exercise.name), cases, outcomes, known=known(exercise.name, False)
            ).status
            == "failed"
        )


@every_exercise
def test_one_wrong_number_in_one_case_fails(exercise: Exercise) -> None:
    """Each value of the probe counts: spoil one value of one case, and the answer falls."""
    cases = list(drawn(exercise.name, CHECKED))
    finished = outcomes_of_finished(exercise.name, CHECKED)
    for case, right in zip(cases, finished):
        for key in known(exercise.name, False).right(case):
            assert right.values is not None
            spoiled = Outcome(
                {**right.values, key: _spoiled(right.values[key])},
                right.devices,
                None,
                right.inputs_after,
            )
            verdict = judge(
                undiagnosed(exercise.name), [case], [spoiled], known=known(exercise.name, False)
            )
            assert verdict.status == "failed", f"{case.label}: {key}"


def _spoiled(value: Any) -> Any:
    """Return ``value`` with its last number changed by a thousandth, or by one where it is whole."""
    if isinstance(value, torch.Tensor):
        if value.numel() == 0:
            return value.unsqueeze(0)
        changed = value.clone().flatten()
        if value.dtype == torch.bool:
            changed[-1] = ~changed[-1]
        elif value.dtype.is_floating_point:
            changed[-1] += 1e-3 * max(1.0, abs(float(changed[-1])))
        else:
            changed[-1] += 1
        return changed.reshape(value.shape)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 1e-3 * max(1.0, abs(value))
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (list, tuple)):
        return type(value)([*value[:-1], _spoiled(value[-1])]) if value else type(value)([0])
    if isinstance(value, dict):
        *others, last = value or {"": None}
        return {**{key: value[key] for key in others}, last: _spoiled(value.get(last))}
    return 0


# --- answers that must never pass: the learner's object itself -----------------------------------

Wrapped = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def _wrapping(thing: Any, wrapped: Wrapped) -> Any:
    """Return ``thing`` with each call going through ``wrapped(call, args, kwargs)``.

    A function is wrapped itself, a module in its forward, another class in each public method.
    """
    if not inspect.isclass(thing):

        @functools.wraps(thing)
        def function(*args: Any, **kwargs: Any) -> Any:
            return wrapped(thing, args, kwargs)

        return function
    names = (
        ["forward"]
        if issubclass(thing, nn.Module)
        else [
            name
            for name, each in vars(thing).items()
            if inspect.isfunction(each) and not name.startswith("_")
        ]
    )

    def method(name: str) -> Callable[..., Any]:
        original = getattr(thing, name)

        @functools.wraps(original)
        def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
            return wrapped(functools.partial(original, self), args, kwargs)

        return replaced

    return type(thing.__name__, (thing,), {name: method(name) for name in names})


def _changing_inputs(thing: Any) -> Any:
    """Return an answer with the right results that changes the tensors and lists it is given."""

    def spoil(value: Any) -> None:
        if isinstance(value, torch.Tensor) and value.numel():
            with torch.no_grad():
                if value.dtype == torch.bool:
                    value.logical_not_()
                else:
                    value.add_(1)
        elif isinstance(value, list) and value:
            value.append(value[0])
        elif isinstance(value, dict) and value:
            value.popitem()

    def wrapped(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = call(*args, **kwargs)
        for value in (*args, *kwargs.values()):
            spoil(value)
        return result

    return _wrapping(thing, wrapped)


@every_exercise
def test_an_answer_that_changes_its_input_fails(exercise: Exercise) -> None:
    """Wherever a change of what the answer was given reaches the case's inputs, it is seen."""
    answer = tuple(_changing_inputs(thing) for thing in exercise.finished)
    for case in drawn(exercise.name, CHECKED):
        given = on_device(case.inputs, torch.device("cpu"))
        with contextlib.suppress(RuntimeError):  # autograd may see the change first
            exercise.probe(*answer, **given)
        if pack(given) != pack(case.inputs):
            outcome = run_probe(exercise.probe, answer, case.inputs)
            verdict = judge(
                undiagnosed(exercise.name), [case], [outcome], known=known(exercise.name, False)
            )
            assert verdict.status == "failed", case.label
            assert "in place" in verdict.message


def _returning(result: Callable[[tuple[Any, ...], Any], Any]) -> Wrapped:
    def wrapped(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return result((*args, *kwargs.values()), call(*args, **kwargs))

    return wrapped


def _tensors_replaced(change: Callable[[Any], Any]) -> Wrapped:
    return _returning(lambda args, right: _replaced(right, change))


OBJECTS: dict[str, Wrapped] = {
    "returns None": _returning(lambda args, right: None),
    "returns its first input": _returning(lambda args, right: args[0] if args else None),
    "returns all its inputs": _returning(lambda args, right: args),
    "returns an enormous integer": _returning(lambda args, right: 10**5000),
    "returns a list that holds itself": _returning(lambda args, right: _endless()),
    "returns an object": _returning(lambda args, right: object()),
    "returns a sparse tensor": _tensors_replaced(
        lambda value: (
            value.to_sparse() if isinstance(value, torch.Tensor) and value.ndim else object()
        )
    ),
    "returns a tensor without numbers": _tensors_replaced(
        lambda value: (
            torch.empty_like(value, device="meta") if isinstance(value, torch.Tensor) else object()
        )
    ),
    **{f"returns {name}": _tensors_replaced(change) for name, change in LAZY.items()},
}


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize("wrapped", OBJECTS.values(), ids=OBJECTS.keys())
@every_exercise
def test_worthless_answers_fail(exercise: Exercise, wrapped: Wrapped) -> None:
    answer = tuple(_wrapping(thing, wrapped) for thing in exercise.finished)
    verdict = run_and_judge(undiagnosed(exercise.name), answer, CHECKED)
    assert verdict.status == "failed", verdict.message
    assert verdict.message


# --- stubs and errors ----------------------------------------------------------------------------


def _stub(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise NotImplementedError()


class OwnError(Exception):
    """An error that no known mistake raises."""


def _broken(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise OwnError("the sum of everything is missing")


def _exits(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise SystemExit("enough")


@every_exercise
def test_the_stub_is_not_attempted(exercise: Exercise) -> None:
    answer = tuple(_wrapping(thing, _stub) for thing in exercise.finished)
    verdict = run_and_judge(exercise, answer, CHECKED)
    assert verdict.status == "not-attempted"


@every_exercise
def test_an_answer_that_raises_is_told_so(exercise: Exercise) -> None:
    answer = tuple(_wrapping(thing, _broken) for thing in exercise.finished)
    verdict = run_and_judge(exercise, answer, CHECKED)
    assert verdict.status == "failed"
    assert verdict.mistake is None
    assert verdict.message.startswith("Your code stopped")
    assert "OwnError: the sum of everything is missing" in verdict.message


@every_exercise
def test_an_answer_that_exits_is_told_so(exercise: Exercise) -> None:
    answer = tuple(_wrapping(thing, _exits) for thing in exercise.finished)
    verdict = run_and_judge(exercise, answer, CHECKED)
    assert verdict.status == "failed"
    assert "SystemExit: enough" in verdict.message


# --- what may enter the sandbox ------------------------------------------------------------------

ALLOWED = {"course_lib.exercises.probing", "course_lib.exercises.values"}


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports; relative ones begin with a dot."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize(
    "path",
    [*sorted(PROBES.glob("*.py")), PROBES.parent / "probing.py", PROBES.parent / "values.py"],
    ids=lambda path: path.stem,
)
def test_what_the_sandbox_holds_knows_no_answer(path: Path) -> None:
    own = {name for name in imports_of(path) if name.startswith((".", "course_lib"))}
    assert own <= ALLOWED


def test_each_lesson_has_its_probes() -> None:
    assert {path.stem for path in PROBES.glob("lesson_*.py")} == {
        f"lesson_{lesson:02d}" for lesson in spec.lessons()
    }
