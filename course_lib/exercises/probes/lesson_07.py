"""How lesson 07's exercises are called."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probing import device_of, gradients, pair


def attention(
    function: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``attention(q, k, v[, mask])`` and return output, weights and gradients."""
    wrt = {"q": q.requires_grad_(), "k": k.requires_grad_(), "v": v.requires_grad_()}
    returned = function(q, k, v) if mask is None else function(q, k, v, mask)
    output, weights = pair("attention", returned)
    found = {"output": output, "weights": weights}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, wrt)
    return found


def causal_mask(
    function: Callable[..., Any], n_q: int, n_k: int | None, x: Tensor
) -> dict[str, Any]:
    """Call ``causal_mask(n_q[, n_k], device=…)``, also for a device that holds no numbers."""
    sizes = (n_q,) if n_k is None else (n_q, n_k)
    elsewhere = function(*sizes, device=torch.device("meta"))
    return {
        "mask": function(*sizes, device=x.device),
        "device of the mask": device_of(elsewhere),
    }


def padding_mask(function: Callable[..., Any], lengths: Tensor, n_k: int) -> dict[str, Any]:
    """Call ``padding_mask(lengths, n_k)``."""
    return {"mask": function(lengths, n_k)}


def self_attention(
    cls: Callable[..., nn.Module],
    x: Tensor,
    lengths: Tensor | None,
    causal: bool,
    weights: Mapping[str, Tensor],
    cotangent: Tensor,
    x_with_another_end: Tensor,
) -> dict[str, Any]:
    """Make a ``SelfAttention`` with given weights and call it on ``x``, and on ``x_with_another_end``.

    ``x_with_another_end`` is ``x`` with other values at its last positions: what a causal model says about the
    positions before them must stay the same.
    """
    d_k, d_model = weights["to_q.weight"].shape
    module = cls(d_model, d_k, weights["to_v.weight"].shape[0])
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    module.train()
    x.requires_grad_()
    output, attended = pair("SelfAttention", module(x, lengths, causal))
    found = {"output": output, "weights": attended}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, {"x": x, **dict(module.named_parameters())})
    with torch.no_grad():
        again, _ = pair("SelfAttention", module.eval()(x_with_another_end, lengths, causal))
    return {**found, "output after the last positions changed": again}
