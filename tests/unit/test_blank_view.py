"""The blank that is moved through a sentence, without a browser."""

import matplotlib.pyplot as plt

from course_lib.widgets.blank_view import BlankView, Filled, draw_blank

ASKED: list[tuple[list[str], int]] = []


def fill(words: list[str], place: int) -> Filled:
    ASKED.append((words, place))
    if "zebra" in words:
        raise ValueError("The town has no word zebra.")
    return Filled({"cat": 0.75, "dog": 0.25}, None if "moon" in words else {"cat": 0.5, "cow": 0.5})


def test_the_blank_moves_and_both_probabilities_are_told():
    view = BlankView(fill, "The cat sat .", place=1)
    assert ASKED[-1] == (["the", "cat", "sat", "."], 1)
    assert view.note.value == "“cat” stood here. The model gives it 0.75, the town 0.50."
    before = view.picture.value
    view.place.value = 2
    assert ASKED[-1] == (["the", "cat", "sat", "."], 2)
    assert view.note.value == "“sat” stood here. The model gives it 0.00, the town 0.00."
    assert view.picture.value != before


def test_a_new_sentence_begins_at_its_first_word():
    view = BlankView(fill, "the cat sat .", place=3)
    view.text.value = "A moon"
    assert ASKED[-1] == (["a", "moon"], 0)
    assert [label for label, _ in view.place.options] == ["1: a", "2: moon"]
    assert view.note.value.endswith("no document of the town begins like this.")


def test_what_cannot_be_read_is_a_sentence_and_the_last_picture_stays():
    view = BlankView(fill, "the cat")
    before = view.picture.value
    view.text.value = "a zebra"
    assert view.note.value == "The town has no word zebra."
    view.text.value = ""
    assert view.note.value == "Type a sentence, with spaces around punctuation."
    assert view.picture.value == before


def test_words_stand_in_the_order_of_both_probabilities_and_the_impossible_is_marked():
    (axes,) = draw_blank(fill(["a"], 0), n=2).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "cow"]
    assert [text.get_text() for text in axes.texts] == []
    (axes,) = draw_blank(fill(["a"], 0), n=3).axes
    assert [text.get_text() for text in axes.texts] == ["impossible"]
    plt.close("all")
