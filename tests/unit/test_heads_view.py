"""The view of several heads: what it sends to the browser."""

from course_lib.widgets.heads_view import HeadsAsked, HeadsView


def compute(text: str) -> HeadsAsked:
    words = text.split()
    if len(words) < 2:
        raise ValueError("Type two words or more.")
    n = len(words)
    weights = [[[float(i == j) for j in range(n)] for i in range(n)], [[1 / n] * n] * n]
    return HeadsAsked(words, words, ["head 1", "head 2"], weights, [f"{word}!" for word in words])


def test_a_text_brings_its_weights() -> None:
    view = HeadsView(compute, "the miller")
    assert view.shown["queries"] == view.shown["keys"] == ["the", "miller"]
    assert view.shown["heads"] == ["head 1", "head 2"]
    assert view.shown["weights"][1] == [[0.5, 0.5], [0.5, 0.5]]
    assert view.shown["notes"] == ["the!", "miller!"]
    view.text = "the miller sees"
    assert len(view.shown["weights"][0]) == 3
    assert view.problem == ""


def test_a_text_that_cannot_be_read_is_told_and_changes_nothing() -> None:
    view = HeadsView(compute, "the miller")
    view.text = "the"
    assert view.problem == "Type two words or more."
    assert view.shown["queries"] == ["the", "miller"]
    view.text = "the baker"
    assert (view.problem, view.shown["queries"]) == ("", ["the", "baker"])
