"""A diagram of the encoder–decoder transformer: two streams, and what hangs on them."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from course_lib.figures.style import PALETTE

_READS, _WRITES = 0.0, 8.2  # where the two streams run upwards
_ATTENTION, _NETWORK, _TABLE, _PLAIN = "#D9E8F3", "#FBE3D6", "#FFF2CC", "#F2F2F2"


def draw_transformer() -> Figure:
    """Draw the encoder on the left and the decoder on the right; the memory goes from one to the other."""
    figure: Any
    figure, ax = plt.subplots(figsize=(8.8, 5.6))
    own, consult, compute = 2.75, 3.95, 5.15
    _stream(ax, _READS, 0.25, 6.05)
    _stream(ax, _WRITES, 0.25, 8.0)
    for x, words in ((_READS, "source words"), (_WRITES, "target words so far")):
        ax.text(x, 0.0, words, ha="center", va="center", fontsize=11)
        _box(ax, x, 0.75, "table $E$, times √d", _TABLE, 1.15)
        _box(ax, x, 1.45, "+ positions", _PLAIN, 1.15)
    for x, y, role in (
        (_READS, own, "communicate"),
        (_READS, consult, "compute"),
        (_WRITES, own, "communicate"),
        (_WRITES, consult, "consult"),
        (_WRITES, compute, "compute"),
    ):
        ax.text(x - 1.95, y + 0.59, role, va="center", fontsize=8.5, color=PALETTE["grey"])
    for x, top, title in ((_READS, consult, "encoder block"), (_WRITES, compute, "decoder block")):
        frame = FancyBboxPatch(
            (x - 3.5, 2.15), 4.1, top - 1.4, boxstyle="round,pad=0.02,rounding_size=0.15",
            facecolor="none", edgecolor=PALETTE["grey"], linewidth=1.2, linestyle="--",
        )  # fmt: skip
        ax.add_patch(frame)
        label: Any = {"rotation": 270, "va": "center", "fontsize": 10, "color": PALETTE["grey"]}
        ax.text(x + 0.75, (2.9 + top) / 2, f"{title}, $N$ times", **label)
    _sublayer(ax, _READS, own, "self-attention\n(padding hidden)", _ATTENTION)
    _sublayer(ax, _READS, consult, "feed-forward", _NETWORK)
    _sublayer(ax, _WRITES, own, "self-attention\n(future hidden)", _ATTENTION)
    _sublayer(ax, _WRITES, consult, "cross-attention\n(padding hidden)", _ATTENTION)
    _sublayer(ax, _WRITES, compute, "feed-forward", _NETWORK)
    _box(ax, _READS, 5.2, "norm", _PLAIN, 0.55)
    _box(ax, _WRITES, 6.4, "norm", _PLAIN, 0.55)
    _box(ax, _WRITES, 7.2, "table $E$ again: $xE^T$", _TABLE, 1.3)
    ax.text(_WRITES, 8.25, "logits of the next word", ha="center", va="center", fontsize=11)
    _memory(ax, 6.1, consult)
    ax.set(xlim=(-3.9, 9.9), ylim=(-0.3, 8.5))
    ax.axis("off")
    return figure


def _memory(ax: Axes, top: float, consult: float) -> None:
    """Draw the way of the memory, from the top of the encoder to the cross-attention."""
    green, middle = PALETTE["green"], 2.9
    words = "memory: a vector\nfor each source word"
    ax.text(_READS, top + 0.22, words, ha="center", va="bottom", fontsize=10, color=green)
    ax.plot([_READS, middle, middle], [top, top, consult], color=green, linewidth=2.6, marker="")
    _arrow(ax, (middle - 0.02, consult), (_WRITES - 3.32, consult), green, 2.6)
    ax.text(middle + 0.1, consult + 0.18, "keys,\nvalues", fontsize=9, color=green)


def _sublayer(ax: Axes, stream: float, y: float, name: str, fill: str) -> None:
    """Draw a sublayer beside its stream: it reads below and adds above."""
    blue, middle = PALETTE["blue"], stream - 2.05
    ax.plot(
        [stream, middle, middle],
        [y - 0.46, y - 0.46, y - 0.3],
        color=blue,
        linewidth=1.4,
        marker="",
    )
    _box(ax, middle, y, name, fill, 1.22, 0.29)
    ax.plot([middle, middle], [y + 0.3, y + 0.46], color=blue, linewidth=1.4, marker="")
    _arrow(ax, (middle, y + 0.46), (stream - 0.17, y + 0.46), blue)
    ring = {"boxstyle": "circle,pad=0.08", "facecolor": "white", "edgecolor": PALETTE["black"]}
    ax.text(stream, y + 0.46, "+", ha="center", va="center", fontsize=10, bbox=ring, zorder=5)


def _stream(ax: Axes, x: float, bottom: float, top: float) -> None:
    _arrow(ax, (x, bottom), (x, top), PALETTE["vermillion"], 2.6)


def _box(
    ax: Axes, x: float, y: float, text: str, fill: str, half: float, half_height: float = 0.22
) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x - half, y - half_height),
            2 * half,
            2 * half_height,
            boxstyle="round,pad=0.02,rounding_size=0.08",
            facecolor=fill,
            edgecolor=PALETTE["grey"],
            linewidth=1.2,
            zorder=3,
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=9.5, zorder=4)


def _arrow(
    ax: Axes, begin: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1.4
) -> None:
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, begin, arrowprops=arrow, zorder=2)
