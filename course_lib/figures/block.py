"""A diagram of the transformer block: the stream, and where its norms stand."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from course_lib.figures.style import PALETTE

_STREAM, _BRANCH, _WIDTH = 0.0, 1.15, 4.9


def draw_blocks() -> Figure:
    """Draw a block with PreNorm above one with PostNorm: the stream runs straight, sublayers stand beside it."""
    figure: Any
    figure, axes = plt.subplots(2, 1, figsize=(8.6, 4.2))
    for ax, title, pre in zip(axes, ("PreNorm", "PostNorm"), (True, False)):
        ax.text(-0.7, _STREAM, "$x$", ha="right", va="center", fontsize=12)
        _connection(ax, 0.0, "attention", "#D9E8F3", pre)
        _connection(ax, _WIDTH, "feed-forward", "#FBE3D6", pre)
        end = 2 * _WIDTH
        _arrow(ax, (-0.6, _STREAM), (end + 0.6, _STREAM), PALETTE["vermillion"], 2.6)
        for left, words in ((0.0, "communicate"), (_WIDTH, "compute")):
            ax.text(left + 0.25, _STREAM - 0.42, words, color=PALETTE["grey"], fontsize=9)
        ax.set(xlim=(-1.1, end + 0.8), ylim=(-0.6, 1.55), title=title)
        ax.axis("off")
    return figure


def _connection(ax: Axes, left: float, name: str, colour: str, pre: bool) -> None:
    """Draw one residual connection: the stream below, the sublayer above it."""
    blue = PALETTE["blue"]
    plus = left + (4.2 if pre else 3.0)
    sublayer = left + (2.85 if pre else 1.55)
    _line(ax, [left + 0.25] * 2, [_STREAM, _BRANCH], blue)
    _arrow(ax, (left + 0.25, _BRANCH), (left + (0.75 if pre else 0.8), _BRANCH), blue)
    if pre:
        _box(ax, left + 1.2, _BRANCH, "norm", "#F2F2F2", 0.43)
        _arrow(ax, (left + 1.65, _BRANCH), (sublayer - 0.75, _BRANCH), blue)
    else:
        _box(ax, left + 4.05, _STREAM, "norm", "#F2F2F2", 0.43)
    _box(ax, sublayer, _BRANCH, name, colour, 0.73)
    _line(ax, [sublayer + 0.75, plus, plus], [_BRANCH, _BRANCH, _BRANCH - 0.1], blue)
    _arrow(ax, (plus, _BRANCH - 0.05), (plus, _STREAM + 0.13), blue)
    ring = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": PALETTE["black"]}
    ax.text(plus, _STREAM, "+", ha="center", va="center", fontsize=13, bbox=ring, zorder=4)


def _line(ax: Axes, x: list[float], y: list[float], colour: str, width: float = 1.4) -> None:
    ax.plot(x, y, color=colour, linewidth=width, marker="", zorder=2)


def _box(ax: Axes, x: float, y: float, text: str, fill: str, half: float) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x - half, y - 0.22),
            2 * half,
            0.44,
            boxstyle="round,pad=0.02,rounding_size=0.08",
            facecolor=fill,
            edgecolor=PALETTE["grey"],
            linewidth=1.2,
            zorder=3,
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=10, zorder=4)


def _arrow(
    ax: Axes, begin: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1.4
) -> None:
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, begin, arrowprops=arrow, zorder=2)
