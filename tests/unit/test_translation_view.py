"""The translation view: what it sends to the browser, and what it says where it cannot translate."""

from course_lib.widgets.translation_view import Translated, TranslationView


def shout(text: str) -> Translated:
    words = text.split()
    if not words:
        raise ValueError("Type a word.")
    weights = [[float(i == j) for j in range(len(words))] for i in range(len(words))]
    said = [word.upper() for word in words]
    return Translated(words, said, weights, [f"sure of {word}" for word in said], {"whispered": text})


def test_a_text_is_translated() -> None:
    view = TranslationView(shout, "look here")
    assert (view.source, view.target) == (["look", "here"], ["LOOK", "HERE"])
    assert view.weights == [[1.0, 0.0], [0.0, 1.0]]
    assert view.notes == ["sure of LOOK", "sure of HERE"]
    assert view.others == {"whispered": "look here"}
    view.text = "go"
    assert (view.source, view.target, view.problem) == (["go"], ["GO"], "")


def test_what_cannot_be_translated_is_told_and_changes_nothing() -> None:
    view = TranslationView(shout, "go")
    view.text = ""
    assert view.problem == "Type a word."
    assert view.target == ["GO"]
    view.text = "stay"
    assert (view.target, view.problem) == (["STAY"], "")
