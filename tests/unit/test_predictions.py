"""Predictions: a question in every place that a notebook is read in."""

import html
from typing import Any

import IPython
import IPython.display
import ipywidgets
import pytest

from course_lib.exercises import predict, progress
from course_lib.runtime import CourseError, Run

QUESTION: dict[str, Any] = {
    "name": "variance",
    "question": "Is <b>a & b</b> larger?",
    "options": ["<i>yes</i>", "no", "neither"],
    "answer": 1,
    "because": "x < y & y < z.",
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("course_lib.runtime.run._current", Run(lesson=7))


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Pretend to be in IPython, and return what is displayed there."""
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(
        IPython.display, "display", lambda bundle, raw: bundles.append(bundle) if raw else None
    )
    return bundles


@pytest.fixture
def asked(displayed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to be in a kernel; ask, and return the buttons and the reply."""

    class Shell:
        kernel = None

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    boxes: list[Any] = []
    original = ipywidgets.VBox.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        boxes.append(self)

    monkeypatch.setattr(ipywidgets.VBox, "__init__", made)

    def ask(**changes: Any) -> tuple[ipywidgets.RadioButtons, ipywidgets.HTML]:
        predict(**{**QUESTION, **changes})
        _, buttons, reply = boxes[-1].children
        return buttons, reply

    return ask


def test_outside_ipython_the_question_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    predict(**QUESTION)
    assert capsys.readouterr().out == (
        "Predict. Is <b>a & b</b> larger?\n  (a) <i>yes</i>\n  (b) no\n  (c) neither\n"
    )


def escaped(markup: str) -> None:
    """Hold that no text of the question became markup."""
    for text in (QUESTION["question"], QUESTION["because"], QUESTION["options"][0]):
        assert html.escape(text) in markup
        assert text not in markup


def test_on_a_page_the_answer_is_folded(displayed: list[dict[str, Any]]) -> None:
    predict(**QUESTION)
    (bundle,) = displayed
    escaped(bundle["text/html"])
    before, folded = bundle["text/html"].split("<details>")
    assert "<b>no.</b>" in folded
    assert "<b>no.</b>" not in before
    assert before.count("<li>") == 3
    assert "neither" in bundle["text/plain"]


def test_in_a_kernel_the_options_are_buttons(asked: Any, displayed: list[dict[str, Any]]) -> None:
    buttons, reply = asked()
    assert [label for label, _ in buttons.options] == QUESTION["options"]
    assert buttons.index is None
    assert reply.value == ""
    (bundle,) = displayed
    assert "application/vnd.jupyter.widget-view+json" in bundle
    escaped(bundle["text/html"])


def test_a_choice_is_kept_and_the_answer_unfolds(asked: Any) -> None:
    buttons, reply = asked()
    buttons.index = 0
    entry = progress.read()["07/predict-variance"]
    assert (entry["choice"], entry["right"]) == (0, False)
    assert "You said: <i>&lt;i&gt;yes&lt;/i&gt;</i>." in reply.value
    assert "<details>" in reply.value
    buttons.index = 1
    entry = progress.read()["07/predict-variance"]
    assert (entry["choice"], entry["right"]) == (1, True)
    again, reply = asked()
    assert again.index == 1
    assert "You said: <i>no</i>." in reply.value


@pytest.mark.parametrize("choice", [9, -1, "b", None, 1.0])
def test_a_choice_that_cannot_be_is_forgotten(asked: Any, choice: Any) -> None:
    progress.record(7, "predict-variance", choice=choice)
    buttons, _ = asked()
    assert buttons.index is None


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": 3},
        {"answer": -1},
        {"options": ["one"], "answer": 0},
        {"options": [], "answer": 0},
    ],
)
def test_an_answer_is_one_of_the_options(changes: dict[str, Any]) -> None:
    with pytest.raises(CourseError, match='The prediction "variance" needs two options or more'):
        predict(**{**QUESTION, **changes})
