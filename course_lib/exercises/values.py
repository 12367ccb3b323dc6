"""Plain values and how they cross from one process to another: JSON and safetensors, no pickle."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

# None | bool | int | float | str | torch.Tensor | list | tuple | dict[str, Value]
Value = Any

MOST_BITS = 4096  # of an integer: Python refuses to write much longer ones in decimal

_HEADER = struct.Struct("<Q")


@dataclass(frozen=True)
class Limits:
    """How much a packed value may hold before it is refused."""

    total_bytes: int = 64 * 2**20
    tree_bytes: int = 4 * 2**20
    nodes: int = 100_000
    depth: int = 32


DEFAULT_LIMITS = Limits()


def plain(value: Value) -> Value:
    """Return a copy of ``value`` made of plain types only: tensors detached, contiguous, on the CPU.

    Raises:
        TypeError: something in it is not a Value.

    """
    if type(value) is int and value.bit_length() > MOST_BITS:
        raise TypeError(f"an integer of {value.bit_length()} bits")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"a {value.layout} tensor, where a dense one is needed")
        if value.is_meta:
            raise TypeError("a tensor on the device meta, which holds no numbers")
        copied = torch.Tensor.detach(value).resolve_conj().resolve_neg().cpu()
        return copied.as_subclass(torch.Tensor).clone(memory_format=torch.contiguous_format)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a dictionary whose keys are not all strings")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (bool, int, float, str)):
        raise TypeError(f"of type {type(value).__name__}, where a plain one is needed")
    raise TypeError(f"of type {type(value).__name__}")


def pack(value: Value) -> bytes:
    """Return ``value`` as bytes: a length, a JSON tree, and a safetensors blob for its tensors.

    Raises:
        TypeError: something in it is not a Value.

    """
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}

    def encode(item: Value) -> Any:
        if isinstance(item, torch.Tensor):
            key = str(len(tensors))
            tensors[key] = item
            return {"t": key}
        if isinstance(item, float):
            return {"f": item.hex() if math.isfinite(item) else repr(item)}
        if isinstance(item, list):
            return [encode(each) for each in item]
        if isinstance(item, tuple):
            return {"u": [encode(each) for each in item]}
        if isinstance(item, dict):
            return {"d": {key: encode(each) for key, each in item.items()}}
        return item

    tree = json.dumps(encode(plain(value)), separators=(",", ":")).encode()
    return _HEADER.pack(len(tree)) + tree + save(tensors)


def unpack(blob: bytes, limits: Limits = DEFAULT_LIMITS) -> Value:
    """Return the value that ``pack`` wrote.

    Nothing in ``blob`` is trusted: sizes, types and depth are checked and no code can run.

    Raises:
        ValueError: the bytes are no packed value, or exceed ``limits``.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if len(blob) > limits.total_bytes:
        raise ValueError(f"{len(blob)} bytes, more than the {limits.total_bytes} allowed")
    if len(blob) < _HEADER.size:
        raise ValueError("too short to be a packed value")
    (tree_size,) = _HEADER.unpack_from(blob)
    if tree_size > min(limits.tree_bytes, len(blob) - _HEADER.size):
        raise ValueError("its tree is longer than allowed")
    begin = _HEADER.size + tree_size
    try:
        tree = json.loads(blob[_HEADER.size : begin])
        tensors = load(blob[begin:])
    except (ValueError, RecursionError, SafetensorError, KeyError, AttributeError) as error:
        raise ValueError("not a packed value") from error
    budget = [limits.nodes]

    def decode(item: Any, depth: int) -> Value:
        budget[0] -= 1
        if budget[0] < 0 or depth > limits.depth:
            raise ValueError("a packed value with too many or too deeply nested parts")
        if item is None or isinstance(item, (bool, int, str)):
            return item
        if isinstance(item, list):
            return [decode(each, depth + 1) for each in item]
        if isinstance(item, dict) and len(item) == 1:
            ((kind, content),) = item.items()
            if kind == "t" and isinstance(content, str) and content in tensors:
                return tensors[content]
            if kind == "f" and isinstance(content, str):
                return (
                    float(content) if content in ("inf", "-inf", "nan") else float.fromhex(content)
                )
            if kind == "u" and isinstance(content, list):
                return tuple(decode(each, depth + 1) for each in content)
            if kind == "d" and isinstance(content, dict):
                return {key: decode(each, depth + 1) for key, each in content.items()}
        raise ValueError("a packed value with a part of an unknown kind")

    try:
        return decode(tree, 0)
    except OverflowError as error:
        raise ValueError("a packed value with a number out of range") from error
