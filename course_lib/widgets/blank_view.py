"""Move a blank through a sentence: what a model puts into it, beside what the town would."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.figures import PALETTE, for_who_hears, png

_ALT = "Two bars for each of the most probable words in a blank: the model's and the exact probability."


@dataclass(frozen=True)
class Filled:
    """What can stand in a blank.

    Attributes:
        model: the model's probability of each word.
        exact: the town's; None where no text of the town has these words around a blank.

    """

    model: Mapping[str, float]
    exact: Mapping[str, float] | None


def draw_blank(filled: Filled, title: str = "", ax: Any = None, n: int = 8) -> Figure:
    """Draw two bars for each word: the model's probability and the exact one.

    Args:
        filled: the probabilities.
        title: what the panel shows, such as the sentence with its blank.
        ax: where to draw; a new figure if not given.
        n: how many words, those with the largest sum of both.

    Returns:
        The figure.

    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7.2, 0.9 + 0.32 * n))
    exact = filled.exact or {}
    weight = {
        word: filled.model.get(word, 0.0) + exact.get(word, 0.0) for word in {*filled.model, *exact}
    }
    words = sorted(weight, key=lambda word: (-weight[word], word))[:n]
    places = range(len(words))
    ours = [filled.model.get(word, 0.0) for word in words]
    ax.barh([y - 0.2 for y in places], ours, 0.38, color=PALETTE["blue"], label="the model")
    if filled.exact is not None:
        truth = [exact.get(word, 0.0) for word in words]
        ax.barh(
            [y + 0.2 for y in places],
            truth,
            0.38,
            color=PALETTE["orange"],
            label="exact",
            hatch="//",
            edgecolor="white",
        )
        for y, share in zip(places, truth):
            if share == 0:
                ax.text(
                    0.006, y + 0.2, "impossible", va="center", fontsize=7, color=PALETTE["grey"]
                )
    ax.set_yticks(places, words)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="probability", title=title)
    ax.grid(axis="y", visible=False)
    figure = ax.get_figure()
    assert figure is not None
    return figure


class BlankView(widgets.VBox):
    """A sentence, a slider that moves a blank through it, and the bars of what can stand there.

    Args:
        fill: what can stand in place i of a sentence's words; it raises ValueError with a sentence where the
            words cannot be read.
        text: the first sentence.
        place: where the blank is at first.

    """

    def __init__(self, fill: Callable[[list[str], int], Filled], text: str, place: int = 0) -> None:
        self._fill = fill
        wide = widgets.Layout(width="46em", max_width="100%")
        self.text = widgets.Text(text, description="sentence", layout=wide, continuous_update=False)
        self.place = widgets.SelectionSlider(
            options=self._options(text),
            index=place,
            description="the blank",
            layout=wide,
            continuous_update=False,
        )
        self.note = widgets.Label()
        self.picture = widgets.Image(
            format="png", layout=widgets.Layout(max_width="100%", width="fit-content")
        )
        self.text.observe(self._reread, names="value")
        self.place.observe(self._redraw, names="value")
        super().__init__(
            [self.text, self.place, self.note, self.picture, widgets.HTML(for_who_hears(_ALT))]
        )
        self._redraw()

    @staticmethod
    def _options(text: str) -> list[tuple[str, int]]:
        return [(f"{i + 1}: {word}", i) for i, word in enumerate(text.lower().split())] or [("", 0)]

    def _reread(self, _: Any = None) -> None:
        self.place.unobserve(self._redraw, names="value")
        self.place.options = self._options(self.text.value)
        self.place.observe(self._redraw, names="value")
        self._redraw()

    def _redraw(self, _: Any = None) -> None:
        words, place = self.text.value.lower().split(), self.place.value
        if not words:
            self.note.value = "Type a sentence, with spaces around punctuation."
            return
        try:
            filled = self._fill(words, place)
        except ValueError as error:
            self.note.value = str(error)
            return
        answer = words[place]
        said = f"“{answer}” stood here. The model gives it {filled.model.get(answer, 0.0):.2f}"
        if filled.exact is None:
            self.note.value = f"{said}; no document of the town begins like this."
        else:
            self.note.value = f"{said}, the town {filled.exact.get(answer, 0.0):.2f}."
        shown = " ".join("____" if i == place else word for i, word in enumerate(words))
        figure = draw_blank(filled, shown)
        figure.axes[0].legend(loc="lower right")
        self.picture.value = png(figure)
        plt.close(figure)
