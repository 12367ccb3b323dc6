"""Diagrams of recurrent networks: unrolled over time, and the inside of an LSTM."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from course_lib.figures.style import PALETTE


def draw_unrolled(steps: int = 4) -> Figure:
    """Draw an unrolled recurrent network, with the way of the gradient back through it."""
    figure: Any
    figure, ax = plt.subplots(figsize=(8.6, 3.2))
    for t in range(steps + 1):
        _box(ax, 2 * t, 1, f"$h_{t}$")
        if t == 0:
            continue
        _box(ax, 2 * t, -0.35, f"$x_{t}$", "#F2F2F2")
        _box(ax, 2 * t, 2.35, rf"$\ell_{t}$", "#F2F2F2")
        _arrow(ax, (2 * t - 1.68, 1.08), (2 * t - 0.32, 1.08), PALETTE["blue"])
        ax.text(2 * t - 1, 1.2, "$W_h$", ha="center", va="bottom", color=PALETTE["blue"])
        _arrow(ax, (2 * t, -0.1), (2 * t, 0.74), PALETTE["blue"])
        ax.text(2 * t + 0.1, 0.3, "$W_x$", ha="left", va="center", color=PALETTE["blue"])
        _arrow(ax, (2 * t - 0.07, 1.26), (2 * t - 0.07, 2.1), PALETTE["blue"])
        _arrow(ax, (2 * t + 0.07, 2.1), (2 * t + 0.07, 1.26), PALETTE["vermillion"], dashed=True)
        ax.text(2 * t + 0.17, 1.7, f"$e_{t}$", va="center", color=PALETTE["vermillion"])
        _arrow(ax, (2 * t - 0.32, 0.92), (2 * t - 1.68, 0.92), PALETTE["vermillion"], dashed=True)
        ax.text(2 * t - 1, 0.8, rf"$\delta_{t} W_h^\top$", ha="center", va="top",
                color=PALETTE["vermillion"])  # fmt: skip
    ax.set(xlim=(-0.6, 2 * steps + 0.7), ylim=(-0.75, 2.75))
    ax.axis("off")
    return figure


def draw_lstm_cell() -> Figure:
    """Draw one step of an LSTM: the memory's straight way, and the gates beside it."""
    figure: Any
    figure, ax = plt.subplots(figsize=(8.6, 3.4))
    memory, gates, bottom, right = 2.4, 0.9, -0.1, 8.1
    _box(ax, 0, memory, "$c_{t-1}$")
    _box(ax, 9.4, memory, "$c_t$")
    _box(ax, 9.4, gates, "$h_t$")
    _box(ax, 0, bottom, "$x_t,\\ h_{t-1}$", "#F2F2F2", 0.62)
    for left, stop in ((0.36, 1.82), (2.18, 4.12), (4.48, 9.04)):
        _arrow(ax, (left, memory), (stop, memory), PALETTE["vermillion"], width=2.4)
    for x, y, sign in ((2, memory, "×"), (4.3, memory, "+"), (4.3, 1.7, "×"), (right, gates, "×")):
        ring = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": PALETTE["black"]}
        ax.text(x, y, sign, ha="center", va="center", fontsize=13, bbox=ring)
    ax.plot([0.68, 6.7], [bottom, bottom], color=PALETTE["blue"], marker="", linewidth=1.3)
    names = ("forget\n$f_t$  σ", "input\n$i_t$  σ", "candidate\n$g_t$  tanh", "output\n$o_t$  σ")
    for x, name in zip((2, 3.55, 5.05, 6.7), names):
        _box(ax, x, gates, name, "#D9E8F3", 0.6, 0.3)
        _arrow(ax, (x, bottom), (x, gates - 0.34), PALETTE["blue"])
    _box(ax, right, 1.7, "tanh", "#D9E8F3", 0.36, 0.2)
    ax.plot([right, right], [memory, 1.95], color=PALETTE["blue"], marker="", linewidth=1.3)
    for begin, end in (
        ((2, gates + 0.34), (2, memory - 0.15)),
        ((3.75, gates + 0.34), (4.2, 1.57)),
        ((4.85, gates + 0.34), (4.4, 1.57)),
        ((4.3, 1.84), (4.3, memory - 0.15)),
        ((7.34, gates), (right - 0.18, gates)),
        ((right, 1.46), (right, gates + 0.15)),
        ((right + 0.18, gates), (9.04, gates)),
    ):
        _arrow(ax, begin, end, PALETTE["blue"])
    ax.set(xlim=(-0.9, 10), ylim=(-0.5, 2.8))
    ax.axis("off")
    return figure


def _box(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    fill: str = "white",
    half: float = 0.3,
    tall: float = 0.24,
) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x - half, y - tall),
            2 * half,
            2 * tall,
            boxstyle="round,pad=0.02,rounding_size=0.08",
            facecolor=fill,
            edgecolor=PALETTE["grey"],
            linewidth=1.2,
            zorder=2,
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=10, zorder=3, linespacing=1.1)


def _arrow(
    ax: Axes,
    begin: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    dashed: bool = False,
    width: float = 1.3,
) -> None:
    ax.annotate(
        "",
        end,
        begin,
        arrowprops={
            "arrowstyle": "-|>",
            "color": colour,
            "linewidth": width,
            "linestyle": "--" if dashed else "-",
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )
