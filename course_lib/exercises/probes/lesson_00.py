"""How lesson 00's exercises are called."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def dot_product(function: Callable[..., Any], a: Tensor, b: Tensor) -> dict[str, Any]:
    """Call ``dot_product(a, b)``."""
    return {"result": function(a, b)}


def cosine_similarity(function: Callable[..., Any], a: Tensor, b: Tensor) -> dict[str, Any]:
    """Call ``cosine_similarity(a, b)``."""
    return {"result": function(a, b)}


def softmax(function: Callable[..., Any], x: Tensor, dim: int | None) -> dict[str, Any]:
    """Call ``softmax(x[, dim])``."""
    return {"result": function(x) if dim is None else function(x, dim=dim)}


def batched_scores(function: Callable[..., Any], queries: Tensor, keys: Tensor) -> dict[str, Any]:
    """Call ``batched_scores(queries, keys)``."""
    return {"result": function(queries, keys)}
