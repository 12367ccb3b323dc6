"""How lesson 09's exercises are called."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.probing import device_of, gradients


def sinusoidal_encoding(
    rates: Callable[..., Any],
    encode: Callable[..., Any],
    positions: Tensor,
    d: int,
    base: float | None,
) -> dict[str, Any]:
    """Call ``frequencies(d[, base], dtype=…, device=…)`` and ``sinusoidal_encoding(positions, d[, base])``."""
    sizes = (d,) if base is None else (d, base)
    return {
        "result of frequencies": rates(*sizes, dtype=positions.dtype, device=positions.device),
        "result of sinusoidal_encoding": encode(positions, *sizes),
    }


def apply_rope(
    function: Callable[..., Any],
    x: Tensor,
    start: int | None,
    base: float | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``apply_rope(x[, start][, base=…])`` and return the result and its gradient."""
    x.requires_grad_()
    where = () if start is None else (start,)
    turned = function(x, *where) if base is None else function(x, *where, base=base)
    found = {"result": turned}
    if isinstance(turned, Tensor) and turned.shape == cotangent.shape:
        found |= gradients(turned, cotangent, {"x": x})
    return found


def relative_bucket(
    function: Callable[..., Any],
    offset: Tensor,
    sizes: tuple[int, int] | None,
    bidirectional: bool | None,
) -> dict[str, Any]:
    """Call ``relative_bucket(offset[, n_buckets, max_distance][, bidirectional=…])``."""
    direction = {} if bidirectional is None else {"bidirectional": bidirectional}
    return {"buckets": function(offset, *(sizes or ()), **direction)}


def alibi_bias(
    slopes_of: Callable[..., Any],
    function: Callable[..., Any],
    n_heads: int,
    n_q: int,
    n_k: int | None,
    x: Tensor,
) -> dict[str, Any]:
    """Call ``alibi_slopes(n_heads)`` and ``alibi_bias(n_heads, n_q[, n_k], device=…)``."""
    sizes = (n_heads, n_q) if n_k is None else (n_heads, n_q, n_k)
    slopes = slopes_of(n_heads)
    bias = function(*sizes, device=x.device)
    if isinstance(slopes, (list, tuple)):
        # 2 ** -8 is a float, and 1 an integer: both are numbers here
        slopes = [float(each) for each in slopes]
    return {
        "slopes": slopes,
        "result of alibi_bias": bias,
        "device of the bias": _device_of(function, *sizes),
    }


def _device_of(function: Callable[..., Any], *sizes: int) -> str:
    """Return where ``function`` makes its result when it is asked for the device "meta", which holds no numbers."""
    try:
        made = function(*sizes, device=torch.device("meta"))
    except NotImplementedError:  # it reads numbers one by one, which this device has not
        return "meta"
    except RuntimeError as error:
        if "device" not in str(error):
            raise
        return "two at once"
    return device_of(made)
