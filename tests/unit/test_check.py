"""`check` and `hint`, called as a notebook calls them: cells run one after another in one namespace."""

import inspect
import itertools
import linecache
import os
import textwrap
from pathlib import Path
from typing import Any

import IPython
import IPython.display
import pytest
import torch

from course_lib.exercises import progress
from course_lib.exercises.demonstration import demonstration
from course_lib.exercises.spec import find
from course_lib.models import attention as finished
from course_lib.runtime import CourseError, Run

SETUP = """
import math
import torch
import torch.nn.functional as F
from torch import nn
from jaxtyping import Bool, Float, Int
from torch import Tensor
from course_lib.exercises import check, hint
"""
SOLUTION = inspect.getsource(finished.causal_mask)
STUB = "def causal_mask(n_q, n_k=None, device=None):\n    raise NotImplementedError()\n"
WRONG = """
def causal_mask(n_q, n_k=None, device=None):
    n_k = n_q if n_k is None else n_k
    return torch.ones(n_q, n_k, dtype=torch.bool, device=device).tril(n_k - n_q - 1)
"""
CHECK = 'causal_mask = check("causal_mask")'


class Notebook:
    """A namespace in which cells run, with their sources where Python looks for them."""

    numbers = itertools.count()

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._capsys = capsys
        self.run(SETUP)

    def run(self, source: str) -> str:
        """Run a cell and return what it printed."""
        source = textwrap.dedent(source)
        name = f"<notebook cell {next(self.numbers)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), self.names)
        return self._capsys.readouterr().out


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(progress, "_warned", False)
    monkeypatch.setattr("course_lib.runtime.run._current", Run(lesson=7))
    return tmp_path / "home"


@pytest.fixture
def notebook(home: Path, capsys: pytest.CaptureFixture[str]) -> Notebook:
    return Notebook(capsys)


def recorded(name: str = "causal_mask") -> dict[str, Any]:
    entry = progress.read().get(f"07/{name}", {})
    return {key: entry[key] for key in ("status", "attempts") if key in entry}


# --- what check says and returns -----------------------------------------------------------------


def test_a_right_answer_passes_and_is_used(notebook: Notebook) -> None:
    notebook.run(SOLUTION)
    mine = notebook.names["causal_mask"]
    said = notebook.run(CHECK)
    assert said.startswith("✓ causal_mask: right\n")
    assert "All 10 cases are right." in said
    assert notebook.names["causal_mask"] is mine
    assert mine is not finished.causal_mask
    assert recorded() == {"status": "passed", "attempts": 1}


def test_a_wrong_answer_is_told_and_replaced(notebook: Notebook) -> None:
    notebook.run(WRONG)
    said = notebook.run(CHECK)
    assert said.startswith("✗ causal_mask: not right yet\n")
    (mistake,) = (each for each in find("causal_mask").mistakes if each.name == "cannot see itself")
    assert mistake.says in said
    assert "10 of 10 cases fail; the smallest is: one position." in said
    assert "The failing input" in said
    assert "n_q = 1" in said
    assert "Expected: mask" in said
    assert "Yours: mask" in said
    assert "The lesson goes on with the course's `causal_mask`." in said
    assert 'hint("causal_mask")' in said
    assert notebook.names["causal_mask"] is finished.causal_mask
    assert recorded() == {"status": "failed", "attempts": 1}


def test_a_stub_is_not_attempted(notebook: Notebook) -> None:
    notebook.run(STUB)
    said = notebook.run(CHECK)
    assert said.startswith("○ causal_mask: not attempted\n")
    assert "The lesson goes on with the course's `causal_mask`." in said
    assert notebook.names["causal_mask"] is finished.causal_mask
    assert recorded() == {"status": "not-attempted", "attempts": 0}


def test_of_two_things_the_one_that_is_a_stub_is_named(notebook: Notebook) -> None:
    notebook.run("from course_lib.runtime import start\nrun = start(lesson=1)")
    notebook.run(
        "def character_ngrams(word, n_min=3, n_max=6):\n    return [word]\n\n"
        "def subword_vector(word, table, n_min=3, n_max=6):\n    raise NotImplementedError"
    )
    said = notebook.run('character_ngrams, subword_vector = check("subword_vector")')
    assert said.startswith("○ subword_vector: not attempted\n")
    assert "Still to be written: `subword_vector`, in place of" in said


def test_a_name_that_is_not_defined_is_told(notebook: Notebook) -> None:
    said = notebook.run(CHECK)
    assert "`causal_mask` is not defined: run the cell above" in said
    assert notebook.names["causal_mask"] is finished.causal_mask
    assert recorded() == {"status": "not-attempted", "attempts": 0}


def test_a_cell_with_a_syntax_error_defines_nothing(notebook: Notebook) -> None:
    with pytest.raises(SyntaxError):
        notebook.run("def causal_mask(n_q:\n    return\n")
    said = notebook.run(CHECK)
    assert "`causal_mask` is not defined: run the cell above, and look there for an error." in said


def test_after_the_fallback_the_courses_version_is_recognised(notebook: Notebook) -> None:
    notebook.run(WRONG)
    notebook.run(CHECK)
    before = recorded()
    said = notebook.run(CHECK)
    assert said.startswith("○ causal_mask: this is the course's version\n")
    assert "run your cell again, then this one" in said
    assert recorded() == before
    assert notebook.names["causal_mask"] is finished.causal_mask
    notebook.run(SOLUTION)
    assert notebook.run(CHECK).startswith("✓")
    assert recorded() == {"status": "passed", "attempts": 2}


def test_passed_stays_passed(notebook: Notebook) -> None:
    for source, mark in [(SOLUTION, "✓"), (WRONG, "✗"), (STUB, "○")]:
        notebook.run(source)
        assert notebook.run(CHECK).startswith(mark)
        assert recorded()["status"] == "passed"
    assert recorded()["attempts"] == 2


def test_an_error_in_the_answer_names_its_line(notebook: Notebook) -> None:
    notebook.run("def causal_mask(n_q, n_k=None, device=None):\n    return torch.trill(n_q)\n")
    said = notebook.run(CHECK)
    assert "Your code stopped in the line `return torch.trill(n_q)` with AttributeError" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "value", ["None", "3", "'a'", "[]", "lambda: 1", "exit", "10**5000", "type", "print"]
)
def test_whatever_the_name_holds_check_returns(notebook: Notebook, value: str) -> None:
    notebook.run(f"causal_mask = {value}")
    assert notebook.run(CHECK).splitlines()[-1]
    assert notebook.names["causal_mask"] is finished.causal_mask
    assert recorded() == {"status": "failed", "attempts": 1}


def test_an_unknown_exercise_is_one_sentence(notebook: Notebook) -> None:
    for call in ('check("atention")', 'hint("atention")'):
        with pytest.raises(CourseError) as caught:
            notebook.run(call)
        assert str(caught.value) == (
            'There is no exercise called "atention". '
            "This lesson has: attention, causal_mask, padding_mask, SelfAttention."
        )


def test_an_exercise_of_another_lesson_is_found(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course_lib.runtime.run._current", Run(lesson=0))
    notebook.run(SOLUTION)
    assert notebook.run(CHECK).startswith("✓")
    assert recorded() == {"status": "passed", "attempts": 1}


def test_check_uses_the_runs_device(notebook: Notebook, device: str) -> None:
    on_cpu = "def causal_mask(n_q, n_k=None, device=None):\n" + textwrap.indent(
        "n_k = n_q if n_k is None else n_k\n"
        "device = None if torch.device(device).type == 'cuda' else device\n"
        "return torch.ones(n_q, n_k, dtype=torch.bool, device=device).tril(n_k - n_q)\n",
        "    ",
    )
    notebook.names["device"] = device
    notebook.run("from course_lib.runtime import start\nrun = start(lesson=7, device=device)")
    notebook.run(on_cpu)
    said = notebook.run(CHECK)
    assert said.startswith("✓" if device == "cpu" else "✗")
    assert ("is on cpu and the inputs are on cuda" in said) == (device == "cuda")


def test_several_names_come_back_in_order(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = find("padding_mask")
    both = type(one)(
        name="two_masks",
        lesson=7,
        points=1,
        probe=lambda a, b, lengths, n_k: {"a": a(n_k), "b": b(lengths, n_k)},
        draw=one.draw,
        oracle=lambda lengths, n_k: {
            "a": finished.causal_mask(n_k),
            "b": finished.padding_mask(lengths, n_k),
        },
        finished=(finished.causal_mask, finished.padding_mask),
        mistakes=(),
        hints=("One.",),
        defines=("causal_mask", "padding_mask"),
    )
    monkeypatch.setattr("course_lib.exercises.notebook.find", lambda name, lesson: both)
    call = 'causal_mask, padding_mask = check("two_masks")'
    assert "`causal_mask` is not defined" in notebook.run(call)
    assert notebook.names["padding_mask"] is finished.padding_mask
    notebook.run(SOLUTION)
    assert "this is the course's version" in notebook.run(call)
    notebook.run(SOLUTION)
    notebook.run(inspect.getsource(finished.padding_mask))
    mine = notebook.names["causal_mask"], notebook.names["padding_mask"]
    assert notebook.run(call).startswith("✓ two_masks: right")
    assert (notebook.names["causal_mask"], notebook.names["padding_mask"]) == mine


# --- forbidden names -----------------------------------------------------------------------------


def test_a_forbidden_function_is_named(notebook: Notebook) -> None:
    notebook.run("""
        def attention(q, k, v, mask=None):
            eye = torch.eye(k.shape[-2], dtype=k.dtype).expand(*k.shape[:-1], k.shape[-2])
            sdpa = F.scaled_dot_product_attention
            return sdpa(q, k, v, attn_mask=mask), sdpa(q, k, eye, attn_mask=mask)
    """)
    said = notebook.run('attention = check("attention")')
    assert said.startswith("✗ attention: not right yet")
    assert "You used `torch.nn.functional.scaled_dot_product_attention`" in said
    assert "write it out yourself" in said
    assert notebook.names["attention"] is finished.attention
    assert recorded("attention") == {"status": "failed", "attempts": 1}


def test_a_forbidden_function_is_found_inside_a_class(notebook: Notebook) -> None:
    notebook.run("""
        class SelfAttention(nn.Module):
            def __init__(self, d_model, d_k, d_v):
                super().__init__()
                self.to_q = nn.Linear(d_model, d_k, bias=False)

            def forward(self, x, lengths=None, causal=False):
                q = self.to_q(x)
                return F.scaled_dot_product_attention(q, q, q), None
    """)
    said = notebook.run('SelfAttention = check("SelfAttention")')
    assert "You used `torch.nn.functional.scaled_dot_product_attention`" in said


def test_a_class_that_is_right_passes(notebook: Notebook) -> None:
    for exercise in ("attention", "causal_mask", "padding_mask", "SelfAttention"):
        notebook.run(inspect.getsource(getattr(finished, exercise)))
        said = notebook.run(f'{exercise} = check("{exercise}")')
        assert said.startswith(f"✓ {exercise}: right"), said
        assert notebook.names[exercise] is not getattr(finished, exercise)
    assert {key: entry["status"] for key, entry in progress.read().items()} == {
        "07/attention": "passed",
        "07/causal_mask": "passed",
        "07/padding_mask": "passed",
        "07/SelfAttention": "passed",
    }


# --- under nbgrader ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (WRONG, "causal_mask: A position cannot see itself in your mask"),
        (STUB, "causal_mask: Write your code in place of"),
        ("", "causal_mask: `causal_mask` is not defined"),
        (
            "from course_lib.models.attention import causal_mask",
            "causal_mask: this is the course's version, not your own.",
        ),
        ("from torch.nn.attention.bias import causal_lower_right as causal_mask", "causal_mask: "),
    ],
    ids=["wrong", "stub", "undefined", "the course's", "a library's"],
)
def test_under_nbgrader_what_does_not_pass_raises(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    notebook.run(source)
    with pytest.raises(AssertionError) as caught:
        notebook.run(CHECK)
    assert str(caught.value).startswith(says)
    # What follows in the notebook goes on with the finished part, so that one fault is paid once.
    if "causal_lower_right" not in source:
        assert notebook.names["causal_mask"] is finished.causal_mask


def test_under_nbgrader_a_right_answer_passes(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    notebook.run(SOLUTION)
    assert notebook.run(CHECK).startswith("✓")


def test_a_demonstration_neither_counts_nor_raises(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    notebook.run(WRONG)
    notebook.names["demonstration"] = demonstration
    assert notebook.run(f"with demonstration():\n    {CHECK}").startswith("✗")
    assert progress.read() == {}
    assert (os.environ["NBGRADER_EXECUTION"], os.environ["COURSE_HOME"]) == ("autograde", str(home))


# --- progress and hints --------------------------------------------------------------------------


def test_an_unwritable_home_does_not_stop_the_lesson(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    notebook.run(SOLUTION)
    mine = notebook.names["causal_mask"]
    said = notebook.run(CHECK)
    assert said.count("set COURSE_HOME to a folder that you may write") == 1
    assert "✓ causal_mask: right" in said
    assert notebook.names["causal_mask"] is mine
    again = notebook.run('causal_mask = check("causal_mask")\nhint("causal_mask")')
    assert "COURSE_HOME" not in again
    assert "Hint 1 of 3" in again


@pytest.mark.parametrize("content", ["{", '{"07/causal_mask": {"attempts": "x", "hints": []}}'])
def test_a_damaged_progress_does_not_stop_the_lesson(
    notebook: Notebook, home: Path, content: str
) -> None:
    home.mkdir()
    (home / "progress.json").write_text(content, encoding="utf-8")
    notebook.run(SOLUTION)
    assert "✓ causal_mask: right" in notebook.run(CHECK)
    assert recorded() == {"status": "passed", "attempts": 1}
    assert "Hint 1 of 3" in notebook.run('hint("causal_mask")')


def test_hints_come_one_after_another(notebook: Notebook) -> None:
    hints = find("causal_mask").hints
    for number, text in enumerate([*hints, hints[-1], hints[-1]], start=1):
        said = notebook.run('hint("causal_mask")')
        shown = min(number, len(hints))
        assert said.startswith(f"○ Hint {shown} of {len(hints)} for causal_mask\n  {text}")
        assert ("Run this cell again for the next one." in said) == (shown < len(hints))
    assert progress.read()["07/causal_mask"]["hints"] == len(hints)


def test_a_hint_is_had_by_its_number(notebook: Notebook) -> None:
    hints = find("causal_mask").hints
    for number in (2, 1, 3):
        assert hints[number - 1] in notebook.run(f'hint("causal_mask", {number})')
    assert "hints" not in progress.read().get("07/causal_mask", {})
    for number in (0, 4, -1):
        assert f"has hints 1 to {len(hints)}" in notebook.run(f'hint("causal_mask", {number})')


# --- how it looks --------------------------------------------------------------------------------


def test_in_ipython_the_card_is_html_with_everything_escaped(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles: list[dict[str, str]] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(
        IPython.display, "display", lambda bundle, raw: bundles.append(bundle) if raw else None
    )
    notebook.run("""
        def causal_mask(n_q, n_k=None, device=None):
            raise ValueError("<script>alert('a & b')</script> `code` <b>")
    """)
    assert notebook.run(CHECK) == ""
    (bundle,) = bundles
    assert "<script>" in bundle["text/plain"]
    markup = bundle["text/html"]
    assert "<script>" not in markup
    assert "<b>" not in markup
    assert "&lt;script&gt;alert('a &amp; b')&lt;/script&gt; <code>code</code> &lt;b&gt;" in markup
    assert markup.count("<div") == markup.count("</div>")
    assert "<details" in markup
    assert torch.is_tensor(notebook.names["causal_mask"](2))
