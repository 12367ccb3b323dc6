"""The kinds of plot that several lessons use."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from course_lib.figures.style import DIVERGING, PALETTE, SEQUENTIAL

Numbers = Sequence[float] | np.ndarray | Any


def lines(
    ax: Axes,
    x: Numbers,
    series: Mapping[str, Numbers],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    bands: Mapping[str, tuple[Numbers, Numbers]] | None = None,
) -> Axes:
    """Draw one line for each series.

    Args:
        ax: where to draw.
        x: the positions of the points.
        series: the values of each line, by its name in the legend.
        xlabel: the name of the horizontal axis, with its unit.
        ylabel: the name of the vertical axis, with its unit.
        title: what the panel shows.
        log: "x", "y" or "xy" for logarithmic axes.
        bands: for some series, the lower and upper ends of a shaded band, such as a spread over seeds.

    Returns:
        ``ax``.

    """
    for name, values in series.items():
        (line,) = ax.plot(x, values, label=name)
        if bands and name in bands:
            low, high = bands[name]
            ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    if "x" in log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if "y" in log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(series) > 1:
        ax.legend()
    return ax


def heatmap(
    ax: Axes,
    matrix: Numbers,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    diverging: bool = False,
    limits: tuple[float, float] | None = None,
    numbers: str | None = None,
    bar: str | None = None,
) -> Axes:
    """Draw a matrix as coloured squares.

    Args:
        ax: where to draw.
        matrix: (rows, columns) numbers; NaN is left white.
        rows: a label for each row.
        columns: a label for each column.
        xlabel: what the columns are.
        ylabel: what the rows are.
        title: what the panel shows.
        diverging: two hues that meet at zero, for numbers of both signs.
        limits: the values of the darkest and the lightest colour; the matrix's own if not given.
        numbers: a format, such as ".2f", to write each number into its square.
        bar: the name of the quantity, with its unit, to draw a colour bar.

    Returns:
        ``ax``.

    """
    array = np.asarray(matrix, dtype=float)
    if limits is None:
        low, high = float(np.nanmin(array)), float(np.nanmax(array))
        if diverging:
            high = max(abs(low), abs(high)) or 1.0
            low = -high
    else:
        low, high = limits
    image = ax.imshow(array, cmap=DIVERGING if diverging else SEQUENTIAL, vmin=low, vmax=high)
    ax.grid(False)
    if columns is not None:
        turned = max(len(label) for label in columns) > 2
        ax.set_xticks(
            range(len(columns)),
            columns,
            rotation=50 if turned else 0,
            ha="right" if turned else "center",
        )
    if rows is not None:
        ax.set_yticks(range(len(rows)), rows)
    if numbers is not None:
        for i, j in np.ndindex(array.shape):
            if np.isnan(array[i, j]):
                continue
            red, green, blue, _ = image.cmap(image.norm(array[i, j]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            text = format(array[i, j], numbers)
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if bar is not None:
        plt.colorbar(image, ax=ax, label=bar, shrink=0.85)
    return ax


def attention_map(
    ax: Axes,
    weights: Numbers,
    queries: Sequence[str],
    keys: Sequence[str],
    title: str = "",
    bar: str | None = "weight",
) -> Axes:
    """Draw attention weights: a row for each query, a column for each key, colours from 0 to 1.

    ``bar`` names the colour bar; None leaves it out, for all panels of a row but the last.
    """
    return heatmap(
        ax,
        weights,
        rows=queries,
        columns=keys,
        ylabel="query: who asks",
        xlabel="key: who is asked",
        title=title,
        limits=(0.0, 1.0),
        bar=bar,
    )


def wiring(
    ax: Axes, weights: Numbers, queries: Sequence[str], keys: Sequence[str], title: str = ""
) -> Axes:
    """Draw attention as a graph: keys below, queries above, an edge as thick as its weight.

    Args:
        ax: where to draw.
        weights: (queries, keys) numbers from 0 to 1; an edge of weight 0 is left out.
        queries: the words that ask.
        keys: the words that are asked.
        title: what the panel shows.

    Returns:
        ``ax``.

    """
    array = np.asarray(weights, dtype=float)
    x_query = np.linspace(0, 1, len(queries)) if len(queries) > 1 else np.array([0.5])
    x_key = np.linspace(0, 1, len(keys)) if len(keys) > 1 else np.array([0.5])
    for i, j in np.ndindex(array.shape):
        if array[i, j] > 0:
            ax.plot(
                [x_key[j], x_query[i]],
                [0, 1],
                color=PALETTE["blue"],
                linewidth=0.4 + 3.6 * array[i, j],
                alpha=0.25 + 0.75 * array[i, j],
                marker="",
                zorder=1,
            )
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": PALETTE["grey"]}
    for xs, y, words in ((x_query, 1, queries), (x_key, 0, keys)):
        for x, word in zip(xs, words):
            ax.text(x, y, word, ha="center", va="center", fontsize=9, bbox=box, zorder=2)
    ax.text(-0.12, 1, "queries", ha="right", va="center", color=PALETTE["grey"])
    ax.text(-0.12, 0, "keys", ha="right", va="center", color=PALETTE["grey"])
    ax.set(xlim=(-0.3, 1.12), ylim=(-0.25, 1.25), title=title)
    ax.axis("off")
    return ax
