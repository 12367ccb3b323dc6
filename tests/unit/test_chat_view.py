"""The view of conversations: a box for each token, probabilities below what a model wrote."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from course_lib.widgets.chat_view import Spoken, chat_view, draw_conversation


def spoken(n: int) -> Spoken:
    tokens = ["<|user|>", *[" word"] * n, "<|end|>", "<|assistant|>", " mill", "<|end|>"]
    learnt = [False] * (n + 3) + [True, True]
    shares: list[float | None] = [None] * (n + 3) + [0.25, 1.0]
    return Spoken("tuned", tokens, learnt, shares)


@pytest.mark.parametrize("n", [0, 3, 60])
def test_every_token_has_its_box_and_every_written_one_its_share(n: int) -> None:
    conversation = spoken(n)
    figure = draw_conversation([conversation, conversation])
    (ax,) = figure.axes
    assert len(ax.patches) == 2 * len(conversation.tokens)
    texts = [each.get_text() for each in ax.texts]
    assert texts.count("tuned") == 2
    assert texts.count(".25") == texts.count("1.00") == 2
    assert texts.count("word") == 2 * n
    plt.close(figure)


def test_another_question_is_asked() -> None:
    asked: list[str] = []

    def ask(question: str) -> list[Spoken]:
        asked.append(question)
        return [spoken(len(question.split()))]

    view = chat_view(ask, ["who ?", "where does anna live ?"])
    field, picture = view.children[:2]
    assert isinstance(picture, ipywidgets.Image)
    before = picture.value
    field.value = "where does anna live ?"
    assert asked == ["who ?", "where does anna live ?"]
    assert picture.value != before
