"""Timing with warm-up and medians, and the progress bar."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median, and every repeat that it was taken from."""

    median: float
    repeats: tuple[float, ...]


def median_time(
    function: Callable[[], Any],
    *,
    warmup: int = 2,
    repeats: int = 7,
    device: torch.device | None = None,
) -> Timing:
    """Time ``function()``: a few calls to warm up, then the median of several.

    Args:
        function: takes no argument.
        warmup: calls that are not timed.
        repeats: calls that are timed, at least 1.
        device: where the work is done; on an accelerator work is queued, so each call is waited for.

    Returns:
        The seconds per call.

    """

    def finish() -> None:
        if device is None:
            return
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        finish()
        begin = time.perf_counter()
        function()
        finish()
        seconds.append(time.perf_counter() - begin)
    return Timing(statistics.median(seconds), tuple(seconds))


def progress(iterable: Iterable[T], total: int | None = None, desc: str = "") -> Iterable[T]:
    """Yield from ``iterable`` and show a bar, which is removed at its end.

    The bar is plain text, so that it works in a notebook, a terminal and a log. It goes to the error
    stream, but in a notebook, which paints that stream red, to the output.
    """
    from tqdm import tqdm

    return tqdm(
        iterable,
        total=total,
        desc=desc,
        file=sys.stdout if "ipykernel" in sys.modules else sys.stderr,
        leave=False,
        ncols=80,
        mininterval=0.5,
        delay=1.0,
    )
