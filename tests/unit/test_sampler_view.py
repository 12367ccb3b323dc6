"""The sampler's view: what its sliders and buttons ask for, and what it says when a text cannot be read."""

from course_lib.widgets.sampler_view import SamplerView, Settings, Shares, draw_next


def shares(text: str, settings: Settings) -> Shares:
    if "?" in text:
        raise ValueError("No question marks, please.")
    return ["·a", "·b"], [0.7, 0.3], [1.0, 0.0] if settings["k"] < 2 else [0.7, 0.3]


def write(text: str, settings: Settings, n: int) -> str:
    if len(text) > 20:
        raise ValueError("The text is too long.")
    return text + " a" * n


def test_sliders_change_what_is_drawn_from() -> None:
    view = SamplerView(shares, write, "the king", k=2, temperature=0.5)
    assert view.settings == {"temperature": 0.5, "k": 2, "p": 1.0, "min_p": 0.0}
    assert view.problem.value == "2 of these 2 tokens can be drawn."
    before = view.picture.value
    view.sliders["k"].value = 1
    assert view.problem.value == "1 of these 2 tokens can be drawn."
    assert view.picture.value != before


def test_buttons_write_and_begin_again() -> None:
    view = SamplerView(shares, write, "the")
    view.press(1)
    assert view.text.value == "the a"
    view.press(12)
    assert view.text.value == "the a" + " a" * 12
    view.press(1)
    assert view.problem.value == "The text is too long."
    view.press(0)
    assert view.text.value == "the"


def test_a_text_that_cannot_be_read_is_told_and_changes_nothing() -> None:
    view = SamplerView(shares, write, "the king")
    before = view.picture.value
    view.text.value = "who?"
    assert view.problem.value == "No question marks, please."
    assert view.picture.value == before


def test_tokens_that_are_cut_off_are_marked() -> None:
    figure = draw_next(["·a", "·b", "·c"], [0.5, 0.3, 0.2], [0.6, 0.4, 0.0], "a title")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["cut off"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["·a", "·b", "·c"]
