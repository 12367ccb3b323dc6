"""A figure with sliders: each move of a slider draws it anew."""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.figures import for_who_hears, png


def explorer(draw: Callable[..., Figure], alt: str, **sliders: widgets.Widget) -> widgets.VBox:
    """Return sliders above the figure that ``draw`` makes of their values.

    Args:
        draw: takes the sliders' values by name and returns a figure.
        alt: what the picture shows, for a reader who hears it.
        sliders: ipywidgets controls, such as ``widgets.IntSlider(…)``, by the name of the argument.

    Returns:
        The view, to be displayed.

    """
    picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", width="fit-content"))

    def redraw(_: Any = None) -> None:
        figure = draw(**{name: slider.value for name, slider in sliders.items()})
        picture.value = png(figure)
        plt.close(figure)

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    return widgets.VBox([*sliders.values(), picture, widgets.HTML(for_who_hears(alt))])
