"""Claims: each kind of bound, what breaks them, and what is recorded of them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from course_lib.exercises import claim
from course_lib.exercises.claims import within
from course_lib.runtime import CourseError, Run


@pytest.fixture(autouse=True)
def _standard(monkeypatch: pytest.MonkeyPatch) -> None:
    at_scale(monkeypatch, "standard")


def at_scale(monkeypatch: pytest.MonkeyPatch, scale: str) -> None:
    monkeypatch.setattr("course_lib.runtime.run._current", Run(lesson=7, seed=3, scale=scale))


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what a claim prints."""

    def show(text: str = "water is wet", **arguments: Any) -> str:
        assert claim(text, **arguments) is None
        return capsys.readouterr().out

    return show


KINDS: list[tuple[str, Any, list[float], list[float]]] = [
    ("at_least", 0.5, [0.5, 0.6, math.inf], [0.4999, -math.inf, math.nan]),
    ("at_most", 0.5, [0.5, 0.4, -math.inf], [0.5001, math.inf, math.nan]),
    ("equals", 3, [3, 3.0], [3.0000001, 2, math.nan]),
    ("between", (1, 2), [1, 1.5, 2], [0.999, 2.001, math.inf, math.nan]),
]


@pytest.mark.parametrize(("kind", "bound", "good", "bad"), KINDS, ids=[each[0] for each in KINDS])
def test_each_kind_of_bound(
    shown: Any, kind: str, bound: Any, good: list[float], bad: list[float]
) -> None:
    for measured in good:
        text = shown(measured=measured, **{kind: bound})
        assert text.startswith("✓ water is wet\n  Measured: ")
        assert "does not hold" not in text
        assert within(measured, kind, list(bound) if isinstance(bound, tuple) else bound)
    for measured in bad:
        text = shown(measured=measured, **{kind: bound})
        assert text.startswith("✗ water is wet\n")
        assert "It does not hold in this run." in text
        assert not within(measured, kind, list(bound) if isinstance(bound, tuple) else bound)


def test_the_figure_and_the_bound_are_shown(shown: Any) -> None:
    assert "Measured: 0.1235 (claimed: at least 0.1)." in shown(measured=0.123456, at_least=0.1)
    assert "Measured: nan (claimed: at most 1)." in shown(measured=math.nan, at_most=1)
    assert "(claimed: between 0.9 and 1.1)." in shown(measured=1, between=(0.9, 1.1))
    assert "(claimed: equals 12)." in shown(measured=12, equals=12)
    assert "Measured: 0.25" in shown(measured=torch.tensor(0.25), at_least=0)


def test_a_zero_bound_is_a_bound(shown: Any) -> None:
    assert shown(measured=0.0, equals=0).startswith("✓")
    assert shown(measured=-0.1, at_least=0).startswith("✗")


@pytest.mark.parametrize(
    "bounds", [{}, {"at_least": 1, "at_most": 2}, {"equals": 1, "between": (0, 2)}]
)
def test_exactly_one_bound_is_given(bounds: dict[str, Any]) -> None:
    with pytest.raises(CourseError, match='"water is wet" needs exactly one of at_least, at_most'):
        claim("water is wet", measured=1, **bounds)


@pytest.mark.parametrize("bound", [(1, 2, 3), (1,), (), (2, 1), (math.nan, 1)])
def test_between_is_two_numbers_in_order(bound: Any) -> None:
    with pytest.raises(CourseError, match='"water is wet" needs two numbers as between'):
        claim("water is wet", measured=1, between=bound)


def test_between_may_be_a_list(shown: Any) -> None:
    assert shown(measured=1, between=[0.9, 1.1]).startswith("✓")


def test_a_broken_variant_must_break_the_claim(shown: Any) -> None:
    good = shown(measured=1, at_least=0.9, breaks_when={"without water": 0.1, "frozen": math.nan})
    assert good.startswith("✓")
    assert "Without water: 0.1, which breaks the claim, as it should." in good
    assert "Frozen: nan, which breaks the claim, as it should." in good
    bad = shown(measured=1, at_least=0.9, breaks_when={"without water": 0.95, "frozen": 0.1})
    assert bad.startswith("✗")
    assert "Without water: the claim still holds, so it tells nothing." in bad
    assert "Frozen: 0.1, which breaks the claim" in bad
    assert "It does not hold in this run." not in bad


def test_a_claim_at_smoke_scale_is_not_judged(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_scale(monkeypatch, "smoke")
    text = shown(measured=0, at_least=1)
    assert text.startswith("○ water is wet\n  Measured: 0 (claimed: at least 1).")
    assert "Not judged here: the scale is smoke." in text
    at_scale(monkeypatch, "full")
    assert shown(measured=0, at_least=1).startswith("✗")


def test_a_claim_about_time_is_judged_by_course_claims_alone(
    shown: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = shown(measured=0, at_least=1, timing=True)
    assert text.startswith("○")
    assert "Not judged here: a time on an unknown machine." in text
    monkeypatch.setenv("COURSE_CLAIMS_FILE", str(tmp_path / "claims.jsonl"))
    assert shown(measured=0, at_least=1, timing=True).startswith("✗")
    assert shown(measured=2, at_least=1, timing=True).startswith("✓")


def test_claims_are_recorded_line_by_line(
    shown: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "claims.jsonl"
    shown(measured=1, at_least=0)
    assert not path.exists()
    monkeypatch.setenv("COURSE_CLAIMS_FILE", str(path))
    shown("first – “é”", measured=torch.tensor(0.5), between=(0, 1), breaks_when={"off": 2})
    at_scale(monkeypatch, "smoke")
    shown("second", measured=math.nan, at_most=1, timing=True)
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first == {
        "lesson": 7,
        "claim": "first – “é”",
        "measured": 0.5,
        "bound": {"kind": "between", "value": [0.0, 1.0]},
        "holds": True,
        "judged": True,
        "breaks": {"off": {"measured": 2.0, "holds": False}},
        "timing": False,
        "seed": 3,
        "scale": "standard",
    }
    assert math.isnan(second.pop("measured"))
    assert second == {
        "lesson": 7,
        "claim": "second",
        "bound": {"kind": "at_most", "value": 1.0},
        "holds": False,
        "judged": False,
        "breaks": {},
        "timing": True,
        "seed": 3,
        "scale": "smoke",
    }
