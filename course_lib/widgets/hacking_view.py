"""Walk along a policy's way away from its reference: what the learnt reward says, what is true, and what it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.figures import PALETTE
from course_lib.widgets.explorer import explorer

_ALT = (
    "Left, the learnt and the true reward against KL, with a mark where the slider stands. Right, a sample reply "
    "and a bar for each part of its true reward."
)


@dataclass(frozen=True)
class Said:
    """One reply.

    Attributes:
        prompt: what was asked.
        text: what was answered.
        proxy: what the learnt reward gives for it.
        parts: what the true reward is made of, by name.

    """

    prompt: str
    text: str
    proxy: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Stop:
    """A place on the way.

    Attributes:
        kl: the distance from the reference, in nats a reply.
        proxy: the mean of the learnt reward.
        gold: the mean of the true one.
        said: replies to some questions, the same questions at each stop.

    """

    kl: float
    proxy: float
    gold: float
    said: Sequence[Said]


def draw_stop(stops: Sequence[Stop], at: int, question: int = 0) -> Figure:
    """Draw the whole way, one place on it, and one reply that was given there.

    Args:
        stops: the way.
        at: the number of the stop.
        question: the number of the question.

    Returns:
        The figure.

    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 3.3), gridspec_kw={"width_ratios": [1.25, 1]}
    )
    far = [each.kl for each in stops]
    left.plot(far, [each.proxy for each in stops], marker="", label="learnt reward (proxy)")
    left.plot(
        far, [each.gold for each in stops], marker="", linestyle="--", label="true reward (gold)"
    )
    here = stops[at]
    left.axvline(here.kl, color=PALETTE["grey"], linewidth=1, marker="")
    left.plot([here.kl, here.kl], [here.proxy, here.gold], "o", color=PALETTE["black"])
    left.set(xlabel="KL from the reference (nats a reply)", ylabel="mean reward of a reply")
    left.legend(fontsize=8)
    said = here.said[question]
    names = list(said.parts)
    right.barh(
        range(len(names)),
        list(said.parts.values()),
        color=[
            PALETTE["blue"] if each >= 0 else PALETTE["vermillion"] for each in said.parts.values()
        ],
    )
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.axvline(0, color=PALETTE["black"], linewidth=0.8, marker="")
    right.set(
        xlim=(-2.3, 2.3),
        xlabel=f"true reward of this reply: {sum(said.parts.values()):.2f}; learnt: {said.proxy:.2f}",
    )
    right.set_title(f"{said.prompt}\n{_broken(said.text)}", fontsize=9, fontweight="normal")
    return figure


def hacking_view(runs: Mapping[str, Sequence[Stop]]) -> widgets.VBox:
    """Return a view of several ways, with a choice of the way and sliders for the place and the question.

    Args:
        runs: ways by name.

    """
    wide = widgets.Layout(width="40em", max_width="100%")
    style = {"description_width": "7em"}

    def draw(run: str, place: int, question: int) -> Figure:
        stops = runs[run]
        return draw_stop(stops, round(place / 100 * (len(stops) - 1)), question)

    questions = min(len(stop.said) for stops in runs.values() for stop in stops)
    return explorer(
        draw,
        _ALT,
        run=widgets.Dropdown(options=list(runs), description="run", layout=wide, style=style),
        place=widgets.IntSlider(0, 0, 100, 5, description="way gone (%)", layout=wide, style=style),
        question=widgets.IntSlider(
            0, 0, questions - 1, description="question", layout=wide, style=style
        ),
    )


def _broken(text: str, width: int = 52) -> str:
    """Break a reply into lines."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
