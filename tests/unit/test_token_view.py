"""The view of a text cut into tokens, without a browser."""

import matplotlib.pyplot as plt
import pytest

from course_lib.widgets.token_view import Cut, TokenView, draw_cuts, shown


def by_letters(text: str, n: int) -> Cut:
    if n > 5:
        raise ValueError("There are 5 merges.")
    return Cut([bytes([byte]) for byte in text.encode()], list(text.encode()), f"{n} merges used.")


def test_a_change_of_text_or_merges_cuts_anew():
    view = TokenView(by_letters, "ab", n_merges=1, most=5)
    assert view.cut["pieces"] == [["a", 97, "61"], ["b", 98, "62"]]
    assert view.cut["note"] == "2 tokens. 1 merges used."
    view.text = "é"
    assert view.cut["pieces"] == [["‹c3›", 195, "c3"], ["‹a9›", 169, "a9"]]
    view.n_merges = 3
    assert view.cut["note"] == "2 tokens. 3 merges used."


def test_what_cannot_be_cut_is_a_sentence_and_the_last_cut_stays():
    view = TokenView(by_letters, "a", n_merges=0, most=5)
    view.n_merges = 6
    assert view.problem == "There are 5 merges."
    assert len(view.cut["pieces"]) == 1
    view.n_merges = 5
    assert view.problem == ""


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        (b" the", "·the"),
        (b"\n\t", "↵⇥"),
        ("é".encode(), "é"),
        (b"\xc3", "‹c3›"),
        (b"\x00", "‹00›"),
        ("\u200b".encode(), "‹200b›"),
    ],
)
def test_every_token_can_be_seen(piece, text):
    assert shown(piece) == text


def test_long_rows_are_broken():
    short = draw_cuts([("one", by_letters("a" * 5, 0))])
    long = draw_cuts([("one", by_letters("a" * 200, 0)), ("none", Cut([], []))])
    assert long.get_size_inches()[1] > 2 * short.get_size_inches()[1]
    assert {text.get_text() for text in long.axes[0].texts} >= {
        "one · 200 tokens",
        "none · 0 tokens",
        "a",
    }
    plt.close("all")
