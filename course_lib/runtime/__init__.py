"""Where and how a lesson runs: device, seed, scale, autocast, progress, timing, errors.

The parts that need torch are imported on first use, so that the command line starts at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from course_lib.runtime.errors import CourseError
from course_lib.runtime.folders import course_home

if TYPE_CHECKING:
    from course_lib.runtime.run import SCALES, Run, choose_device, current, describe_device, start
    from course_lib.runtime.timing import Timing, median_time, progress

__all__ = [
    "SCALES",
    "CourseError",
    "Run",
    "Timing",
    "choose_device",
    "course_home",
    "current",
    "describe_device",
    "median_time",
    "progress",
    "start",
]

_LAZY = {
    **dict.fromkeys(("SCALES", "Run", "choose_device", "current", "describe_device", "start"), "run"),
    **dict.fromkeys(("Timing", "median_time", "progress"), "timing"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
