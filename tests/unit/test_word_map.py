"""The map of words: what it sends to the browser, and what it draws for a page."""

import itertools

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text

from course_lib.widgets.word_map import WordMap, draw_word_map

POINTS = {"king": (0.0, 2.0), "queen": (1.0, 2.0), "bread": (4.0, -2.0), "of": (2.0, 0.0)}
GROUPS = {"king": "people", "queen": "people", "bread": "things"}
NEAR = {"king": [("queen", 0.9), ("throne", 0.7)], "queen": [("king", 0.9)], "bread": [("of", 0.1)]}


def test_a_choice_brings_its_neighbours():
    view = WordMap(POINTS, GROUPS, NEAR.__getitem__, word="king")
    assert view.shown == "king"
    assert view.near == [["queen", 0.9], ["throne", 0.7]]
    view.word = "queen"
    assert (view.shown, view.near, view.problem) == ("queen", [["king", 0.9]], "")


def test_an_unknown_word_is_told_and_changes_nothing():
    view = WordMap(POINTS, GROUPS, NEAR.__getitem__, word="king")
    view.word = "dragon"
    assert "dragon" in view.problem
    assert view.shown == "king"
    view.word = "bread"
    assert (view.shown, view.problem) == ("bread", "")


def test_the_map_fills_the_unit_square_and_groups_have_colours():
    view = WordMap(POINTS, GROUPS, NEAR.__getitem__, word="king")
    assert view.words == list(POINTS)
    assert view.xs == [0.0, 0.25, 1.0, 0.5]
    assert view.ys == [1.0, 1.0, 0.0, 0.5]
    assert [view.names[i] for i in view.group] == ["people", "people", "things", "other"]
    assert len(view.colours) == len(view.names) == 3


def test_the_first_word_must_be_on_the_map():
    with pytest.raises(ValueError, match="dragon"):
        WordMap(POINTS, GROUPS, NEAR.__getitem__, word="dragon")


def test_the_page_shows_the_word_its_neighbours_and_the_key():
    figure = draw_word_map(POINTS, GROUPS, "king", NEAR.__getitem__, labelled=["bread"])
    (ax,) = figure.axes
    written = [text.get_text() for text in ax.texts]
    assert written == ["king", "queen", "bread"]  # the throne has no place on the map
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "people",
        "things",
        "other",
    }
    assert len(ax.lines) == 1
    plt.close(figure)


def test_labels_of_words_in_one_place_are_kept_apart():
    crowd = {f"word{i}": (0.5, 0.5 + i * 1e-6) for i in range(8)} | {"far": (9.0, 9.0)}
    figure = draw_word_map(
        crowd, {}, "word0", lambda word: [(f"word{i}", 0.9) for i in range(1, 8)]
    )
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without arrows
    assert len(boxes) == 8
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    plt.close(figure)
