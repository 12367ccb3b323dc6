"""Saved outputs that the re-run does not confirm: what is compared, and what is not."""

import json

import pytest
from submissions import as_bytes

from course_lib.grading.intake import NotebookCell, parse_notebook
from course_lib.grading.outputs import disagreements

COUNT = "print('parameters', 3 * 4)"
USES = "table = attention(1)\nprint(table)"
LATER = "print(table + 1)"
CHECK = 'attention = check("attention")'
EXACT = frozenset({"nbval-check-output"})
PUBLISHED = (
    NotebookCell("markdown", "text"),
    NotebookCell("code", COUNT, EXACT),
    NotebookCell("code", CHECK, frozenset({"check"})),
    NotebookCell("code", USES, EXACT),
    NotebookCell("code", LATER, EXACT),
    NotebookCell("code", "print('free')"),
)
RIGHT = "✓ attention: right\n  All 16 cases are right."


def saved(*cells):
    return [
        NotebookCell("code", source, printed=text, displayed=card) for source, text, card in cells
    ]


def flags(cells, passed=True, printed=("parameters 12\n5\n6\n",), ran=range(1, 9)):
    return disagreements(
        PUBLISHED, cells, {"attention": passed}, {"attention": ("attention",)}, ran, printed
    )


def test_what_the_rerun_printed_agrees():
    assert flags(saved((COUNT, "parameters 12\n", ""), (USES, "5\n", ""), (LATER, "6", ""))) == []


def test_an_output_that_was_changed_is_flagged_with_its_cell():
    (flag,) = flags(saved((COUNT, "parameters 13\n", ""), (USES, "5\n", "")))
    assert flag.startswith("Cell 1: the saved output is not")


@pytest.mark.parametrize(
    ("cell", "more"),
    [
        ((COUNT + "  # mine", "parameters 13", ""), {}),
        (("print('free')", "other", ""), {}),
        ((COUNT, "", ""), {}),
        ((COUNT, "parameters 13", ""), {"ran": [2]}),
        ((COUNT, "parameters 13", ""), {"printed": ()}),
        ((COUNT, "parameters 12   \n\n", ""), {}),
    ],
    ids=["changed source", "not exact", "no output", "did not run", "cut off", "spaces"],
)
def test_what_is_not_compared(cell, more):
    assert flags(saved(cell), **more) == []


def test_what_comes_from_an_exercise_that_is_not_right_is_not_compared():
    cells = saved((USES, "7\n", ""), (LATER, "8\n", ""))
    assert len(flags(cells)) == 2
    assert flags(cells, passed=False) == []


def test_addresses_do_not_count():
    cells = saved((COUNT, "<object at 0x7f00aa11bb22>", ""))
    assert flags(cells, printed=("<object at 0x7fffffffff00>\n",)) == []


def test_a_card_that_says_right_where_the_rerun_says_failed_is_flagged():
    cells = saved((CHECK, "", RIGHT))
    assert flags(cells) == []
    (flag,) = flags(cells, passed=False)
    assert "the saved card says that `attention` is right" in flag
    assert flags(saved((CHECK, "", "✗ attention: not right yet")), passed=False) == []
    assert flags(saved((CHECK + "  # x", "", RIGHT)), passed=False) == []


def outputs_of(outputs):
    cell = {"cell_type": "code", "metadata": {}, "source": COUNT, "outputs": outputs}
    (read,) = parse_notebook(as_bytes([cell]))
    return read.printed, read.displayed


def test_saved_outputs_are_read():
    stream = {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]}
    warning = {"output_type": "stream", "name": "stderr", "text": "warning"}
    card = {"output_type": "display_data", "data": {"text/plain": RIGHT, "text/html": "<b>"}}
    assert outputs_of([stream, warning, card, {**stream, "text": "c"}]) == ("a\nb\nc", RIGHT)


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        7,
        {},
        [7, None, []],
        [{"output_type": "stream", "name": "stdout", "text": 7}],
        [{"output_type": "stream", "name": "stdout", "text": [7, None]}],
        [{"data": {"text/plain": {"x": 1}}}],
        [{"data": 3}],
    ],
)
def test_odd_outputs_are_none(outputs):
    assert outputs_of(outputs) == ("", "")


def test_long_outputs_are_cut():
    text = "x" * 1_000_000
    printed, _ = outputs_of([{"output_type": "stream", "name": "stdout", "text": text}])
    assert len(printed) <= 20_000
    assert json.dumps(printed)
