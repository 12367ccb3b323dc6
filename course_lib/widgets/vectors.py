"""Two arrows in the plane, moved by sliders, with the projection of one onto the other."""

import io
import math
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.figures import PALETTE

OfTwo = Callable[[Tensor, Tensor], Tensor]
_REACH = 3.3


def draw_vectors(
    a: Tensor, b: Tensor, *, dot: OfTwo, cosine: OfTwo, project: OfTwo, ax: Axes | None = None
) -> Figure:
    """Draw two vectors of the plane, and the projection of the first onto the second.

    Args:
        a: (2,) the vector that is projected.
        b: (2,) the one that it is projected onto, not zero.
        dot: gives the dot product of two vectors.
        cosine: gives the cosine of their angle.
        project: gives the projection of the first onto the second.
        ax: where to draw; a new figure if not given.

    Returns:
        The figure.

    """
    figure: Any
    if ax is None:
        figure, ax = plt.subplots(figsize=(4.6, 4.6))
    else:
        figure = ax.figure
    shadow = project(a, b).tolist()
    (ax_, ay), (bx, by) = a.tolist(), b.tolist()
    length = math.hypot(bx, by)
    line = [(-2 * _REACH * bx / length, 2 * _REACH * bx / length)]
    line += [(-2 * _REACH * by / length, 2 * _REACH * by / length)]
    ax.plot(*line, color=PALETTE["grey"], linewidth=0.8, linestyle=":", marker="")
    ax.plot([ax_, shadow[0]], [ay, shadow[1]], color=PALETTE["grey"], linestyle="--", marker="")
    ax.plot([0, shadow[0]], [0, shadow[1]], color=PALETTE["orange"], linewidth=7, alpha=0.75,
            marker="", solid_capstyle="butt", label="projection of a onto b")  # fmt: skip
    for (x, y), name, colour in (
        ((bx, by), "b", PALETTE["vermillion"]),
        ((ax_, ay), "a", PALETTE["blue"]),
    ):
        ax.annotate("", xy=(x, y), xytext=(0, 0),
                    arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2,
                                "shrinkA": 0, "shrinkB": 0, "mutation_scale": 14})  # fmt: skip
        size = math.hypot(x, y)
        ax.text(x + 0.22 * x / size, y + 0.22 * y / size, name, color=colour, weight="bold",
                fontsize=13, ha="center", va="center")  # fmt: skip
    ax.set(xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH), aspect="equal")
    ax.set(xlabel="first number", ylabel="second number")
    ax.set_title(f"a·b = {_two(float(dot(a, b)))}     cos = {_two(float(cosine(a, b)))}")
    ax.legend(loc="lower right", fontsize=8)
    return figure


def describe_vectors(a: Tensor, b: Tensor, *, dot: OfTwo, cosine: OfTwo, project: OfTwo) -> str:
    """Return in words what `draw_vectors` shows: the picture's text for those who hear it."""
    along = math.copysign(float(project(a, b).norm()), float(dot(a, b)))
    return (
        f"a has length {_two(float(a.norm()))}, b has length {_two(float(b.norm()))}; "
        f"a·b = {_two(float(dot(a, b)))}, cosine {_two(float(cosine(a, b)))}, "
        f"the projection of a onto b reaches {_two(along)} along b."
    )


def vectors_view(*, dot: OfTwo, cosine: OfTwo, project: OfTwo) -> Any:
    """Return the interactive view: angle and length of two vectors, the picture following.

    Args:
        dot: gives the dot product of two vectors.
        cosine: gives the cosine of their angle.
        project: gives the projection of the first onto the second.

    Returns:
        An ipywidgets box; the last line of a cell shows it.

    """
    import ipywidgets as widgets

    def slider(name: str, value: float, low: float, high: float, step: float) -> Any:
        return widgets.FloatSlider(
            value=value,
            min=low,
            max=high,
            step=step,
            description=name,
            readout_format=".0f" if step >= 1 else ".1f",
            style={"description_width": "7em"},
        )

    controls = [
        slider("angle of a (°)", 75, 0, 360, 5),
        slider("length of a", 2.5, 0.5, 3, 0.1),
        slider("angle of b (°)", 20, 0, 360, 5),
        slider("length of b", 2.4, 0.5, 3, 0.1),
    ]
    picture, words = widgets.HTML(), widgets.HTML()

    def follow(_: object = None) -> None:
        a, b = (arrow(*(each.value for each in pair)) for pair in (controls[:2], controls[2:]))
        text = describe_vectors(a, b, dot=dot, cosine=cosine, project=project)
        picture.value = _svg(draw_vectors(a, b, dot=dot, cosine=cosine, project=project), text)
        table = _table(float(dot(a, b)), float(cosine(a, b)), float(project(a, b).norm()))
        words.value = f'<div role="status" style="line-height:1.5">{table}</div>'

    for control in controls:
        control.observe(follow, names="value")
    follow()
    return widgets.HBox(
        [picture, widgets.VBox([*controls, words])],
        layout=widgets.Layout(flex_flow="row wrap", align_items="center"),
    )


def arrow(degrees: float, length: float) -> Tensor:
    """Return the vector of the plane at this angle from the first axis and of this length, (2,) float64."""
    radians = math.radians(degrees)
    return torch.tensor(
        [length * math.cos(radians), length * math.sin(radians)], dtype=torch.float64
    )


def _table(dot: float, cosine: float, shadow: float) -> str:
    """Return what was measured, as an HTML table; ``shadow`` is the length of the projection."""
    angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    rows = [
        ("dot product a·b", _two(dot)),
        ("angle between them", f"{angle:.0f}°"),
        ("cosine", _two(cosine)),
        ("projection of a onto b, along b", _two(math.copysign(shadow, dot))),
    ]
    cells = "".join(
        f'<tr><td style="text-align:left">{name}</td><td style="text-align:right;padding-left:1em">'
        f"<b>{number}</b></td></tr>"
        for name, number in rows
    )
    return f"<table>{cells}</table>"


def _two(number: float) -> str:
    """Return a number with two decimals, a typographic minus, and no minus before zero."""
    return f"{round(number, 2) + 0.0:.2f}".replace("-", "−")


def _svg(figure: Figure, text: str) -> str:
    """Return a figure as inline SVG that a screen reader reads as ``text``, and close it."""
    from html import escape

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return drawing.replace("<svg", f'<svg role="img" aria-label="{escape(text)}"', 1)
