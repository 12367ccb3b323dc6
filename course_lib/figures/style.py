"""The course's colours and settings, and `show`, which every figure goes through."""

import io
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure

# Okabe & Ito 2008, "Color Universal Design": distinct for every common kind of colour vision.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "grey": "#6E6E6E",
    "black": "#1A1A1A",
}
CYCLE = [PALETTE[name] for name in ("blue", "vermillion", "green", "orange", "purple", "sky")]
# Colour is never alone: each line of a figure has its own marker too.
MARKERS = ["o", "s", "^", "D", "v", "P"]
SEQUENTIAL = "cividis"
DIVERGING = "PuOr"


def use_course_style() -> None:
    """Set matplotlib to the course's look. Call it once, in a lesson's setup cell."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 96,
            "savefig.dpi": 96,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.7,
            "axes.prop_cycle": cycler(color=CYCLE) + cycler(marker=MARKERS),
            "lines.linewidth": 1.8,
            "lines.markersize": 4.5,
            "legend.frameon": False,
            "image.cmap": SEQUENTIAL,
        }
    )


def show(figure: Figure, caption: str, alt: str) -> None:
    """Show a figure with its caption, and close it.

    The image carries ``alt`` for those who cannot see it; outside a notebook the texts are printed.

    Args:
        figure: the figure.
        caption: one or two sentences that say what to see.
        alt: what the picture shows, for a reader who hears it.

    """
    from IPython import get_ipython

    if get_ipython() is None:
        print(f"[figure: {alt}]\n{caption}")
        plt.close(figure)
        return
    from IPython.display import display

    bundle: dict[str, Any] = {"image/png": png(figure), "text/plain": f"[figure: {alt}]"}
    display(bundle, metadata={"image/png": {"alt": alt}}, raw=True)
    html = (
        f'<div style="max-width:46em;font-size:92%;opacity:.85;margin:0 0 8px">{_escape(caption)}'
        f"{for_who_hears(alt)}</div>"
    )
    display({"text/html": html, "text/plain": caption}, raw=True)
    plt.close(figure)


def png(figure: Figure) -> bytes:
    """Return the figure as a small PNG: colours reduced to a palette where that loses nothing visible."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    image = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    small = io.BytesIO()
    image.quantize(colors=128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return min(small.getvalue(), buffer.getvalue(), key=len)


def for_who_hears(alt: str) -> str:
    """Return HTML that a screen reader speaks and nobody sees: JupyterLab gives pictures no text of their own."""
    hidden = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"
    return f'<span style="{hidden}"> Picture: {_escape(alt)}</span>'


def _escape(text: str) -> str:
    from html import escape

    return escape(text, quote=False)
