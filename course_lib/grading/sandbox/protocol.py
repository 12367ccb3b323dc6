"""What is asked of a sandbox and what comes back: the seam between the grader and any way to isolate."""

import struct
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch

from course_lib.exercises.probing import Outcome
from course_lib.exercises.spec import Case
from course_lib.exercises.values import Limits as ValueLimits
from course_lib.exercises.values import Value, pack

LENGTH = struct.Struct("<Q")  # stands before each packed value, in requests and in replies
# Requests are written by the trusted side and may be long; replies are held much shorter.
REQUEST_LIMITS = ValueLimits(total_bytes=512 * 2**20, tree_bytes=128 * 2**20, nodes=5_000_000)


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        unit_cpu_seconds: processor time of one cell, or of one exercise's probing. This one decides.
        total_cpu_seconds: processor time of the whole run.
        unit_wall_seconds: a backstop for code that waits; a run that meets it is repeated alone.
        total_wall_seconds: the same for the whole run.
        memory_bytes: address space of each process, and resident memory of all of them together.
        processes: processes and threads.
        file_bytes: the size of one file, and of the private /tmp.
        kept_output_bytes: how much of what the student's code prints is kept; the rest is thrown away.
        reply_bytes: how much may be sent back.

    """

    unit_cpu_seconds: float = 30.0
    total_cpu_seconds: float = 300.0
    unit_wall_seconds: float = 180.0
    total_wall_seconds: float = 900.0
    memory_bytes: int = 4 * 2**30
    processes: int = 128
    file_bytes: int = 256 * 2**20
    kept_output_bytes: int = 16 * 2**10
    reply_bytes: int = 256 * 2**20


@dataclass(frozen=True)
class Cell:
    """A code cell to run; a setup cell is run statement by statement."""

    index: int
    source: str
    setup: bool = False


@dataclass(frozen=True)
class ProbeCall:
    """One exercise to probe: the names that the student defines, the probe's name, the cases.

    ``watched`` are functions and classes by dotted name; which of them were called is reported.
    """

    exercise: str
    defines: tuple[str, ...]
    probe: str
    cases: tuple[Case, ...]
    watched: tuple[str, ...] = ()

    @cached_property
    def packed(self) -> bytes:
        """The call as bytes; worked out once, since all students are asked the same."""
        drawn = [_storages(case.inputs) for case in self.cases]
        return pack(
            {
                "name": self.exercise,
                "defines": list(self.defines),
                "probe": self.probe,
                "cases": [inputs for inputs, _ in drawn],
                "layouts": [layouts for _, layouts in drawn],
                "watched": list(self.watched),
            }
        )


@dataclass(frozen=True)
class Supplied:
    """Finished parts of one module: its reduced source, and the names that the student's code gets."""

    module: str
    source: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """One run: cells in order, finished parts to supply after them, exercises to probe."""

    probes_module: str
    cells: tuple[Cell, ...]
    exercises: tuple[ProbeCall, ...]
    supply: tuple[Supplied, ...] = ()

    def packed(self) -> bytes:
        """Return the request as bytes for the runner: packed values, each behind its length."""
        own = pack(
            {
                "probes_module": self.probes_module,
                "cells": [asdict(cell) for cell in self.cells],
                "supply": [{**asdict(part), "names": list(part.names)} for part in self.supply],
            }
        )
        blobs = (own, *(call.packed for call in self.exercises))
        return b"".join(LENGTH.pack(len(blob)) + blob for blob in blobs)


def _storages(inputs: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Replace tensors that are not contiguous by their storage, with size, strides and offset beside."""
    sent, layouts = dict(inputs), {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and not value.is_contiguous():
            count = value.untyped_storage().nbytes() // value.element_size()
            sent[name] = value.detach().as_strided((count,), (1,), 0)
            layouts[name] = (list(value.size()), list(value.stride()), value.storage_offset())
    return sent, layouts


Why = Literal["died", "cpu", "wall", "memory", "processes", "reply"]


@dataclass(frozen=True)
class Stop:
    """A run that did not reach its end: in which unit ("start", "cell 3", "exercise NAME"), and why."""

    unit: str
    why: Why


@dataclass(frozen=True)
class CellError:
    """The error that a cell ended with, as the student's side tells it."""

    type: str
    message: str
    lineno: int | None


@dataclass
class Response:
    """What came back. All of it is the student's word; the form is checked, the content is not believed.

    Attributes:
        cells: by index, the error of each cell that ran (None for none).
        outcomes: by exercise, the outcomes in the order of its cases; only complete ones.
        missing: by exercise, names that nothing defined.
        called: by exercise, which of the watched names were seen to be called.
        stop: where the run ended early, None if it did not.
        output: the beginning of what was printed.

    """

    cells: dict[int, CellError | None] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    called: dict[str, list[str]] = field(default_factory=dict)
    stop: Stop | None = None
    output: str = ""


class Sandbox(Protocol):
    """Anything that can run a request apart from the grader."""

    def run(self, request: Request, limits: Limits) -> Response:
        """Run the request and return what came back; never raise for what the student's code does."""
        ...

    def close(self) -> None:
        """Leave nothing running."""
        ...
