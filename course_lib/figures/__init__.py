"""One look for every figure of the course: colours that all eyes can tell apart, captions, alt text."""

from course_lib.figures.plots import attention_map, heatmap, lines, wiring
from course_lib.figures.style import CYCLE, PALETTE, for_who_hears, png, show, use_course_style

__all__ = [
    "CYCLE",
    "PALETTE",
    "attention_map",
    "for_who_hears",
    "heatmap",
    "lines",
    "png",
    "show",
    "use_course_style",
    "wiring",
]
