"""A text with spans taken out: what is read, what is said, as rows of coloured words (lesson 15)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

_KEPT, _TAKEN, _MARK = "#F2F2F2", "#CFE3F1", "#F9E7BF"
_LETTER, _GAP, _LINE, _WIDTH = 0.088, 0.07, 0.42, 9.4


def draw_spans(
    rows: Mapping[str, Sequence[tuple[str, str]]], note: str = "", least: int = 0
) -> Figure:
    """Draw rows of words in boxes: kept ones grey, taken ones blue and underlined, sentinels yellow and bold.

    Args:
        rows: for each row its name and its words, each with its kind: "kept", "taken" or "mark".
        note: a line of text below.
        least: the number of lines for which there is room at least, so that the picture keeps its size.

    Returns:
        The figure.

    """
    figure: Any
    figure, ax = plt.subplots()
    y, lines = 0.0, 0
    for name, words in rows.items():
        ax.text(0, y, f"{name} ({len(words)})", va="center", fontsize=9, color="#333333")
        x = left = 1.45
        for word, kind in words:
            size = max(len(word), 2) * _LETTER + 0.14
            if x + size > _WIDTH:
                x, y, lines = left, y - _LINE, lines + 1
            tint = {"kept": _KEPT, "taken": _TAKEN, "mark": _MARK}[kind]
            edge = "#8A8A8A" if kind == "kept" else "#1A1A1A"
            box = FancyBboxPatch(
                (x, y - 0.13), size, 0.26, boxstyle="round,pad=0.02", facecolor=tint,
                edgecolor=edge, linewidth=0.7,
            )  # fmt: skip
            ax.add_patch(box)
            weight = "bold" if kind == "mark" else "normal"
            ax.text(x + size / 2, y, word, ha="center", va="center", fontsize=8.5, weight=weight)
            if kind == "taken":
                ax.plot(
                    [x + 0.05, x + size - 0.05], [y - 0.1, y - 0.1], color=edge, lw=0.8, marker=""
                )
            x += size + _GAP
        y, lines = y - _LINE - 0.1, lines + 1
    if note:
        ax.text(0, y, note, va="center", fontsize=9)
        y -= 0.25
    y -= _LINE * max(0, least - lines)
    figure.set_size_inches(_WIDTH, max(0.8, 0.35 - y))
    ax.set(xlim=(-0.05, _WIDTH), ylim=(y, 0.3))
    ax.axis("off")
    return figure
