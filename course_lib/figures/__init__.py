"""One look for every figure of the course: colours that all eyes can tell apart, captions, alt text."""

from course_lib.figures.plots import attention_map, heatmap, lines
from course_lib.figures.style import CYCLE, PALETTE, show, use_course_style

__all__ = ["CYCLE", "PALETTE", "attention_map", "heatmap", "lines", "show", "use_course_style"]
