"""How lesson 10's exercises are called."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probing import gradients


def layer_norm(
    cls: Callable[..., nn.Module],
    eps: float | None,
    weights: Mapping[str, Tensor],
    x: Tensor,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Make a ``LayerNorm`` with given weights and call it on ``x``."""
    width = len(weights["weight"])
    module = cls(width) if eps is None else cls(width, eps)
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    x.requires_grad_()
    output = module(x)
    found: dict[str, Any] = {"output": output}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, {"x": x, **dict(module.named_parameters())})
    return found


def feed_forward(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    x: Tensor,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Make a ``FeedForward`` with given weights and call it on ``x``."""
    module = cls(**sizes)
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    x.requires_grad_()
    output = module(x)
    found: dict[str, Any] = {"output": output}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, {"x": x, **dict(module.named_parameters())})
    return found


class _Recorder:
    """Stands for a cache: keeps what it is given, and gives back what was prepared."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.length = keys.shape[-2]
        self.prepared = (keys, values)
        self.calls = 0

    def update(self, k: Any, v: Any) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.prepared


def _called(name: str, kind: Callable[..., nn.Module], x: Tensor) -> dict[str, Any]:
    """Call a connection whose norm and sublayer keep what they are given.

    The norm gives 10 + 2·x and the sublayer 0.5·x² − 1, which no order of the two can hide.
    """
    seen: dict[str, Any] = {}

    class Norm(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            seen[f"input of the norm in {name}"] = given.clone()
            return 10 + 2 * given

    def sublayer(given: Tensor) -> Tensor:
        seen[f"input of the sublayer in {name}"] = given.clone()
        return 0.5 * given.square() - 1

    with torch.no_grad():
        return {f"result of {name}": kind(Norm(), 0.0)(x, sublayer), **seen}


def transformer_block(
    pre_norm: Callable[..., nn.Module],
    post_norm: Callable[..., nn.Module],
    cls: Callable[..., nn.Module],
    residual: str,
    sizes: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    x: Tensor,
    mask: Tensor | None,
    cached: list[Tensor] | None,
    training: bool,
    cotangent: Tensor,
    changed: Tensor,
) -> dict[str, Any]:
    """Call a connection by itself; make a ``TransformerBlock`` with given weights and call it on ``x``.

    ``changed`` is ``x`` with other values at its last positions: what a causal block says about the
    positions before them must stay the same. ``cached`` is what a cache would give back.
    """
    kind = {"PreNorm": pre_norm, "PostNorm": post_norm}[residual]
    alone = _called(residual, kind, x.clone())
    module = cls(**sizes, residual=kind)
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    module.train(training)
    x.requires_grad_()
    recorder = None if cached is None else _Recorder(*cached)
    output = module(x, mask, recorder)
    found: dict[str, Any] = {**alone, "output": output}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, {"x": x, **dict(module.named_parameters())})
    if recorder is not None:
        found["number of calls of cache.update"] = recorder.calls
    else:
        with torch.no_grad():
            found["output after the last positions changed"] = module(changed, mask)
    return found


def count_parameters(function: Callable[..., Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Call ``count_parameters(**sizes)``."""
    return {"count": function(**sizes)}
