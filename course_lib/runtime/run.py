"""A lesson's run: which device, which seed, at which scale."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

import numpy as np
import torch

from course_lib.runtime.errors import CourseError

Scale = Literal["smoke", "standard", "full"]
SCALES: tuple[str, ...] = get_args(Scale)
MINIMUM_PYTHON = (3, 11)
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What every cell of a lesson may ask for.

    Attributes:
        lesson: the lesson's number.
        seed: the seed of everything random.
        scale: "smoke" (seconds, for tests), "standard" (a laptop), "full" (a GPU).
        device: where tensors live.
        dataset: "riverbank", or the name of a public data set that the lesson knows.

    """

    lesson: int
    seed: int = 0
    scale: str = "standard"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dataset: str = "riverbank"

    def pick(self, *, smoke: T, standard: T, full: T) -> T:
        """Return the value for this scale: ``run.pick(smoke=10, standard=300, full=5000)``."""
        return {"smoke": smoke, "standard": standard, "full": full}[self.scale]

    def generator(self, offset: int = 0) -> torch.Generator:
        """Return a CPU generator seeded with ``seed + offset``: the same numbers on every device."""
        return torch.Generator().manual_seed(self.seed + offset)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in bfloat16 on CUDA; elsewhere do nothing (on CPUs bfloat16 is slower)."""
        if self.device.type == "cuda":
            with torch.autocast("cuda", dtype=torch.bfloat16):
                yield
        else:
            yield


_current = Run(lesson=0)


def current() -> Run:
    """Return the run that was started last, or a default one (lesson 0, seed 0, CPU)."""
    return _current


def choose_device(wanted: str = "auto") -> torch.device:
    """Return the device that ``wanted`` names.

    Args:
        wanted: "auto" (CUDA, else Apple's MPS, else the CPU), "cuda", "cuda:1", "mps" or "cpu".

    Raises:
        CourseError: the name is unknown, or this machine has no such device.

    """
    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if has_mps else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise CourseError(
            f'DEVICE is "{wanted}", which is no device: use "auto", "cuda", "mps" or "cpu".'
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        reason = (
            "this PyTorch was built without CUDA"
            if torch.version.cuda is None
            else "PyTorch finds no NVIDIA GPU or driver"
        )
        raise CourseError(
            f'DEVICE is "{wanted}", but {reason}: use DEVICE = "auto", or run `course doctor`.'
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CourseError(
            f'DEVICE is "{wanted}", but this machine has {torch.cuda.device_count()} GPU(s), '
            'counted from 0: use DEVICE = "cuda".'
        )
    if device.type == "mps" and not has_mps:
        raise CourseError(
            f'DEVICE is "{wanted}", but this is no Mac with a GPU: use DEVICE = "auto".'
        )
    if device.type not in {"cuda", "mps", "cpu"}:
        raise CourseError(
            f'The course does not run on "{wanted}": use "auto", "cuda", "mps" or "cpu".'
        )
    return device


def describe_device(device: torch.device) -> str:
    """Return the device in words, such as ``cpu (2 threads)`` or ``cuda (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        count = torch.get_num_threads()
        return f"cpu ({count} thread{'s' if count > 1 else ''})"
    return str(device)


def start(
    lesson: int,
    seed: int = 0,
    scale: str = "standard",
    device: str = "auto",
    dataset: str = "riverbank",
) -> Run:
    """Begin a lesson: choose the device, seed everything, print one line about it.

    ``COURSE_SEED``, ``COURSE_SCALE`` and ``COURSE_DEVICE`` in the environment override the arguments,
    so that a tool can run a notebook whose cells it may not change.

    Raises:
        CourseError: Python is too old, or the seed, scale or device is not one that exists here.

    """
    global _current
    if sys.version_info < MINIMUM_PYTHON:
        raise CourseError(
            f"The course needs Python {MINIMUM_PYTHON[0]}.{MINIMUM_PYTHON[1]} or newer and this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}: install a newer one and run `make lab` again."
        )
    scale = os.environ.get("COURSE_SCALE") or scale
    if scale not in SCALES:
        raise CourseError(f'SCALE is "{scale}": use one of {", ".join(SCALES)}.')
    given_seed = os.environ.get("COURSE_SEED") or seed
    try:
        seed = int(given_seed)
        if not isinstance(given_seed, str) and seed != given_seed:
            raise ValueError("a fraction")
    except (TypeError, ValueError, OverflowError) as error:
        raise CourseError(f'SEED is "{given_seed}": use a whole number.') from error
    if not 0 <= seed < 2**31:
        raise CourseError(f"SEED is {seed}: use a whole number from 0 to 2147483647.")
    chosen = choose_device(os.environ.get("COURSE_DEVICE") or device)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    _current = Run(lesson=lesson, seed=seed, scale=scale, device=chosen, dataset=dataset)
    print(
        f"Lesson {lesson:02d} · device {describe_device(chosen)} · scale {scale} · seed {seed} · "
        f"data {dataset}"
    )
    return _current
