"""Call a learner's object as an exercise's probe says, and keep what came back.

This module also runs inside the grader's sandbox: it knows no exercise and no answer.
"""

import copy
import linecache
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from course_lib.exercises.values import Value, plain

_PACKAGE = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class Failure:
    """Why a probe gave no values.

    Attributes:
        kind: "not-attempted" (the stub's NotImplementedError, which has no message) or "error".
        type: the exception's class.
        message: its text, at most 500 characters.
        line: the learner's own line that raised, where there is one.
        lineno: that line's number in its cell.

    """

    kind: Literal["not-attempted", "error"]
    type: str
    message: str
    line: str | None = None
    lineno: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a probe brought back from one case.

    Attributes:
        values: what the probe returned, by name; None after a failure.
        devices: for each value that is a tensor, the type of its device.
        error: the failure, if there was one.
        inputs_after: the inputs as they were after the call.

    """

    values: dict[str, Value] | None
    devices: dict[str, str]
    error: Failure | None
    inputs_after: dict[str, Value]

    def to_value(self) -> Value:
        """Return the outcome as a Value, which `pack` can carry."""
        return {
            "values": self.values,
            "devices": self.devices,
            "error": asdict(self.error) if self.error else None,
            "inputs_after": self.inputs_after,
        }

    @classmethod
    def from_value(cls, value: Value) -> "Outcome":
        """Return the outcome that ``to_value`` gave; nothing in ``value`` is trusted.

        Raises:
            ValueError: it does not have the form of an outcome.

        """

        def text(item: Any, most: int = 500) -> str:
            if not isinstance(item, str):
                raise ValueError("an outcome with a text that is no string")
            return item[:most]

        if not isinstance(value, dict) or set(value) != {
            "values",
            "devices",
            "error",
            "inputs_after",
        }:
            raise ValueError("not an outcome")
        values, devices, error = value["values"], value["devices"], value["error"]
        if not (values is None or isinstance(values, dict)):
            raise ValueError("an outcome whose values have no names")
        if not isinstance(devices, dict) or not isinstance(value["inputs_after"], dict):
            raise ValueError("an outcome with parts of the wrong type")
        if (values is None) == (error is None):
            raise ValueError("an outcome needs either values or an error")
        failure = None
        if error is not None:
            if not isinstance(error, dict) or set(error) != set(Failure.__dataclass_fields__):
                raise ValueError("an outcome with a malformed error")
            if error["kind"] not in ("not-attempted", "error"):
                raise ValueError("an outcome with an unknown kind of error")
            lineno = error["lineno"]
            failure = Failure(
                kind=error["kind"],
                type=text(error["type"], 100),
                message=text(error["message"]),
                line=None if error["line"] is None else text(error["line"], 200),
                lineno=lineno if isinstance(lineno, int) else None,
            )
        return cls(
            values=values,
            devices={str(key): text(item, 20) for key, item in devices.items()},
            error=failure,
            inputs_after=value["inputs_after"],
        )


def on_device(value: Value, device: torch.device) -> Value:
    """Return a copy of ``value`` with its tensors on ``device``, strides kept."""
    if isinstance(value, torch.Tensor):
        moved = value.detach().to(device)
        # clone() alone would lose the stride-0 of expanded tensors and the gaps of sliced ones
        return moved if moved.data_ptr() != value.data_ptr() else copy.deepcopy(moved)
    if isinstance(value, list):
        return [on_device(item, device) for item in value]
    if isinstance(value, tuple):
        return tuple(on_device(item, device) for item in value)
    if isinstance(value, dict):
        return {key: on_device(item, device) for key, item in value.items()}
    return value


def run_probe(
    probe: Callable[..., Mapping[str, Value]],
    objects: tuple[Any, ...],
    inputs: Mapping[str, Value],
    device: torch.device | str = "cpu",
    around: AbstractContextManager[object] | None = None,
) -> Outcome:
    """Call ``probe(*objects, **inputs)`` on a copy of the inputs and return what happened.

    Args:
        probe: one of `course_lib.exercises.probes`.
        objects: the learner's objects, in the order of the exercise's ``defines``.
        inputs: a case's inputs; they are not changed.
        device: where the tensors among them go first.
        around: entered around the call alone.

    Returns:
        The outcome; no exception of the learner's leaves this function.

    """
    given = {key: on_device(value, torch.device(device)) for key, value in inputs.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            if torch.device(device).type == "cpu":
                torch.default_generator.manual_seed(0)  # the others' cost a millisecond a time
            else:
                torch.manual_seed(0)
            with around or nullcontext():
                returned = probe(*objects, **given)
        values: dict[str, Value] = {}
        devices: dict[str, str] = {}
        for key, value in returned.items():
            if isinstance(value, torch.Tensor):
                devices[key] = device_of(value)
            try:
                values[key] = plain(value)
            except TypeError as error:
                return _failed(
                    Failure("error", "TypeError", f"`{key}` is {error}, which is no result."),
                    inputs,
                )
        after = {key: plain(value) for key, value in given.items()}
        return Outcome(values, devices, None, after)
    except (Exception, SystemExit) as error:
        return _failed(_failure(error), inputs)


def device_of(value: Any) -> str:
    """Return the type of the device that a tensor is on, "none" for anything else.

    What a subclass of Tensor says about itself does not count.
    """
    if not isinstance(value, torch.Tensor):
        return "none"
    with torch._C.DisableTorchFunctionSubclass():
        found: torch.device = torch._C.TensorBase.device.__get__(value)
    return found.type


def _failed(failure: Failure, inputs: Mapping[str, Value]) -> Outcome:
    return Outcome(None, {}, failure, {key: plain(value) for key, value in inputs.items()})


def _failure(error: BaseException) -> Failure:
    # PyTorch raises NotImplementedError too, with a message: a softmax of integers, say.
    stub = isinstance(error, NotImplementedError) and not str(error)
    kind: Literal["not-attempted", "error"] = "not-attempted" if stub else "error"
    line, lineno = None, None
    for frame in traceback.extract_tb(error.__traceback__):
        # The last frame that is the learner's: notebook cells have no file that lies on a disk.
        if "site-packages" in frame.filename or frame.filename.startswith(_PACKAGE):
            continue
        source = linecache.getline(frame.filename, frame.lineno or 0).strip()
        if source:
            line, lineno = source[:200], frame.lineno
    return Failure(kind, type(error).__name__, str(error)[:500], line, lineno)


def gradients(
    output: torch.Tensor, cotangent: torch.Tensor, wrt: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the gradient of ``(output · cotangent).sum()`` for each tensor of ``wrt``.

    For probes. A tensor that the output does not depend on gets zeros, and so does each one where the
    learner cut the graph.

    Returns:
        The gradients, called "gradient of NAME".

    """
    if not output.requires_grad:
        found: tuple[torch.Tensor | None, ...] = (None,) * len(wrt)
    else:
        found = torch.autograd.grad(
            (output * cotangent).sum(), list(wrt.values()), allow_unused=True
        )
    return {
        f"gradient of {name}": torch.zeros_like(tensor) if each is None else each
        for (name, tensor), each in zip(wrt.items(), found)
    }


def pair(name: str, returned: Any) -> tuple[Any, Any]:
    """Return the two things that ``name`` must return, for probes.

    Raises:
        TypeError: it returned something else.

    """
    if returned is None:
        raise TypeError(f"{name} returned None: is there a `return` at its end?")
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"{name} returned a {type(returned).__name__} and should return a pair: outputs, weights."
        )
    return returned
