"""Ask a model: its conversation token by token, what the template wrote, what is learnt, and how sure it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from course_lib.figures import PALETTE
from course_lib.widgets.explorer import explorer

_ALT = (
    "The conversation as a row of tokens for each model. The template's tokens are grey, the question is white, and "
    "the answer's tokens are the darker the more probable they were, with the probability below each."
)
_WIDTH, _LETTER = 92.0, 1.0  # of a line, and of a letter, in letters


@dataclass(frozen=True)
class Spoken:
    """A conversation that one model took part in.

    Attributes:
        name: of the model.
        tokens: the text of each token.
        learnt: for each, whether a loss on responses would count it.
        shares: for each, how probable the model found it; None for what it did not write.

    """

    name: str
    tokens: Sequence[str]
    learnt: Sequence[bool]
    shares: Sequence[float | None]


def draw_conversation(spoken: Sequence[Spoken]) -> Figure:
    """Draw each conversation as a row of boxes, broken into lines.

    Args:
        spoken: one conversation for each model.

    Returns:
        The figure.

    """
    places: list[tuple[Spoken, int, float, float, float]] = []  # whose, which, x, y, width
    y = 0.0
    names: list[tuple[str, float]] = []
    for each in spoken:
        names.append((each.name, y))
        y -= 1.5
        x = 0.0
        for i, token in enumerate(each.tokens):
            width = _LETTER * max(3.2, len(token.strip()) + 1.4)
            if x + width > _WIDTH:
                x, y = 0.0, y - 2.3
            places.append((each, i, x, y, width))
            x += width + 0.4
        y -= 2.6
    figure, ax = plt.subplots(figsize=(9.6, max(1.2, -0.25 * y)))
    for name, top in names:
        ax.text(0, top, name, fontsize=9, fontweight="bold", va="center")
    for each, i, x, line, width in places:
        token, share = each.tokens[i], each.shares[i]
        template = token.startswith("<|")
        face: Any = "#E4E4E4" if template and not each.learnt[i] else "white"
        dark = False
        if share is not None:
            face, dark = plt.get_cmap("Blues")(0.08 + 0.8 * share), share > 0.6
        edge = PALETTE["vermillion"] if each.learnt[i] else "#BBBBBB"
        heavy = 1.4 if each.learnt[i] else 0.7
        ax.add_patch(
            Rectangle((x, line - 0.55), width, 1.1, facecolor=face, edgecolor=edge, linewidth=heavy)
        )
        ax.text(
            x + width / 2, line, token.strip(), fontsize=7.5, family="monospace",
            ha="center", va="center", color="white" if dark else PALETTE["black"],
        )  # fmt: skip
        if share is not None:
            ax.text(
                x + width / 2, line - 0.95, f"{share:.2f}".removeprefix("0"), fontsize=6.5,
                ha="center", va="center", color=PALETTE["grey"],
            )  # fmt: skip
    ax.set(xlim=(-0.5, _WIDTH + 1), ylim=(y + 1.6, 0.9))
    ax.axis("off")
    return figure


def chat_view(ask: Callable[[str], Sequence[Spoken]], questions: Sequence[str]) -> widgets.VBox:
    """Return a field for a question above what each model answers.

    Args:
        ask: lets the models answer a question.
        questions: some to choose from; anything else may be typed. The first is asked at once.

    Returns:
        The view, to be displayed.

    """
    question = widgets.Combobox(
        value=questions[0], options=tuple(questions), description="question", ensure_option=False,
        continuous_update=False, layout=widgets.Layout(width="34em"),
    )  # fmt: skip
    return explorer(lambda question: draw_conversation(ask(question)), _ALT, question=question)
