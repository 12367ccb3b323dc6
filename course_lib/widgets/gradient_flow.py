"""How a gradient fares on its way back through an unrolled network."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.figures import PALETTE, lines

_DECADES = 4.0  # an arrow is drawn between 10^-4 (a hair) and 10^4 (as thick as they get)


def draw_gradient_flow(
    norms: Mapping[str, Sequence[float]], shown: str, title: str = "", every: int = 5
) -> Figure:
    """Draw an unrolled network with the gradient as arrows, and the same numbers as curves.

    Args:
        norms: for each kind of network, the gradient's norm 0, 1, 2 … steps back from the loss.
        shown: the one that is drawn as arrows.
        title: what is shown.
        every: a box of the picture is drawn each so many steps.

    Returns:
        The figure.

    """
    figure: Any
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8.2, 4.6), gridspec_kw={"height_ratios": [1, 2.4]}
    )
    _draw_arrows(above, norms[shown], every, title)
    lines(
        below,
        range(len(norms[shown])),
        norms,
        xlabel="distance from the loss (steps back)",
        ylabel="gradient norm",
        log="y",
    )
    for line in below.lines:
        line.set_markevery(every)
    below.axhline(1, color=PALETTE["grey"], linewidth=0.8, linestyle=":")
    below.set_ylim(1e-9, 1e9)
    below.invert_xaxis()  # the loss stands on the right, as in the picture above
    return figure


def _draw_arrows(ax: Axes, norms: Sequence[float], every: int, title: str) -> None:
    """Draw boxes from the past (left) to the loss (right), joined by arrows that point back."""
    distances = range(0, len(norms), every)
    last = distances[-1]
    for distance in distances:
        x = last - distance
        name = "loss" if distance == 0 else f"−{distance}"
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": PALETTE["grey"]}
        ax.text(x, 0, name, ha="center", va="center", fontsize=8, bbox=box, zorder=3)
        size = norms[distance]
        ax.text(x, -0.8, _short(size), ha="center", va="center", fontsize=7, color=PALETTE["grey"])
        if distance == 0:
            continue
        decades = math.log10(size) if size > 0 else -math.inf
        strength = min(1.0, max(0.0, (decades + _DECADES) / (2 * _DECADES)))
        if decades < -_DECADES:
            style: dict[str, Any] = {"linestyle": ":", "color": PALETTE["grey"], "linewidth": 0.8}
        else:
            colour = PALETTE["vermillion" if decades > 0.5 else "blue"]
            style = {"linestyle": "-", "color": colour, "linewidth": 0.6 + 11 * strength}
        ax.plot([x, x + every], [0, 0], marker="", zorder=1, solid_capstyle="butt", **style)
        ax.plot(x + 0.52 * every, 0, marker="<", markersize=style["linewidth"] + 5,
                color=style["color"], zorder=1)  # fmt: skip
    ax.set(xlim=(-0.6 * every, last + 0.6 * every), ylim=(-1.2, 0.9), title=title)
    ax.axis("off")


def _short(size: float) -> str:
    """Write a norm in a few characters: 0.3, 12, 4·10⁻⁷."""
    if size == 0 or 0.01 <= size < 1000:
        return f"{float(f'{size:.1g}'):g}"
    digit, power = f"{size:.0e}".split("e")
    superscripts = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"{digit}·10{str(int(power)).translate(superscripts)}"
