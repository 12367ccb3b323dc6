"""Watch a language model write: the probabilities of the next token, and what temperature and cuts make of them."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.figures import PALETTE, for_who_hears, png

_ALT = "Two bars for each of the most probable next tokens: what the model says, and what is drawn from."
Settings = dict[str, float]  # temperature, k, p, min_p
Shares = tuple[Sequence[str], Sequence[float], Sequence[float]]  # tokens; before; after


def draw_next(
    tokens: Sequence[str],
    before: Sequence[float],
    after: Sequence[float],
    title: str = "",
    ax: Any = None,
) -> Figure:
    """Draw two bars for each token: its probability in the model, and in what is drawn from.

    Args:
        tokens: the tokens as they are shown, the most probable first.
        before: the model's probabilities.
        after: those behind temperature and cuts; 0 for a token that is cut off.
        title: what the panel shows.
        ax: where to draw; a new figure if not given.

    Returns:
        The figure.

    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7.2, 0.5 + 0.26 * len(tokens)))
    places = range(len(tokens))
    ax.barh([y - 0.2 for y in places], before, 0.38, color=PALETTE["grey"], label="the model")
    ax.barh([y + 0.2 for y in places], after, 0.38, color=PALETTE["blue"], label="drawn from")
    for y, share in zip(places, after):
        if share == 0:
            ax.text(0.004, y + 0.2, "cut off", va="center", fontsize=7, color=PALETTE["vermillion"])
    ax.set_yticks(places, tokens)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="probability", title=title)
    ax.grid(axis="y", visible=False)
    figure = ax.get_figure()
    assert figure is not None
    return figure


class SamplerView(widgets.VBox):
    """A text, sliders for the sampler, the next token's probabilities, and buttons to write on.

    Args:
        shares: what stands next behind a text with these settings; it raises ValueError with a sentence
            where the text cannot be read.
        write: returns the text with one more token, or more.
        text: the first text.
        settings: where the sliders stand at first: ``temperature``, ``k``, ``p``, ``min_p``.

    """

    def __init__(
        self,
        shares: Callable[[str, Settings], Shares],
        write: Callable[[str, Settings, int], str],
        text: str,
        **settings: float,
    ) -> None:
        self._shares, self._write, self._first = shares, write, text
        wide = widgets.Layout(width="46em", max_width="100%")
        style = {"description_width": "7em"}
        self.text = widgets.Textarea(
            text, description="text", layout=wide, style=style, continuous_update=False
        )

        def slider(name: str, low: float, high: float, step: float, value: float) -> Any:
            kind = widgets.IntSlider if step == 1 else widgets.FloatSlider
            return kind(
                value, min=low, max=high, step=step, description=name, layout=wide, style=style
            )

        self.sliders = {
            "temperature": slider("temperature", 0.1, 2.0, 0.1, settings.get("temperature", 1.0)),
            "k": slider("top-k", 1, 50, 1, int(settings.get("k", 50))),
            "p": slider("top-p", 0.05, 1.0, 0.05, settings.get("p", 1.0)),
            "min_p": slider("min-p", 0.0, 0.5, 0.02, settings.get("min_p", 0.0)),
        }
        self.buttons = {
            1: widgets.Button(description="write a token"),
            12: widgets.Button(description="write twelve"),
            0: widgets.Button(description="start again"),
        }
        for number, button in self.buttons.items():
            button.on_click(lambda _, number=number: self.press(number))
        self.picture = widgets.Image(
            format="png", layout=widgets.Layout(max_width="100%", width="fit-content")
        )
        self.problem = widgets.Label()
        for each in (self.text, *self.sliders.values()):
            each.observe(self._redraw, names="value")
        super().__init__(
            [
                self.text,
                *self.sliders.values(),
                widgets.HBox(list(self.buttons.values())),
                self.problem,
                self.picture,
                widgets.HTML(for_who_hears(_ALT)),
            ]
        )
        self._redraw()

    @property
    def settings(self) -> Settings:
        """Where the sliders stand."""
        return {name: each.value for name, each in self.sliders.items()}

    def press(self, number: int) -> None:
        """Do what a button does: write so many tokens, or begin again with 0."""
        try:
            self.text.value = (
                self._write(self.text.value, self.settings, number) if number else self._first
            )
        except ValueError as error:
            self.problem.value = str(error)

    def _redraw(self, _: Any = None) -> None:
        try:
            tokens, before, after = self._shares(self.text.value, self.settings)
        except ValueError as error:
            self.problem.value = str(error)
            return
        self.problem.value = (
            f"{sum(share > 0 for share in after)} of these {len(tokens)} tokens can be drawn."
        )
        figure = draw_next(tokens, before, after)
        figure.axes[0].legend(loc="lower right", fontsize=8)
        self.picture.value = png(figure)
        plt.close(figure)
