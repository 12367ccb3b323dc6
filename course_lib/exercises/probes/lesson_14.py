"""How lesson 14's exercises are called."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.probing import gradients


def _two(name: str, returned: Any, what: str) -> tuple[Any, Any]:
    """Return the two things that ``name`` must return."""
    if returned is None:
        raise TypeError(f"{name} returned None: is there a `return` at its end?")
    if not isinstance(returned, tuple) or len(returned) != 2:
        kind = type(returned).__name__
        raise TypeError(f"{name} returned a {kind} and should return a pair: {what}.")
    return returned


def mask_tokens(
    function: Callable[..., Any], ids: Tensor, order: Tensor, others: Tensor, share: float
) -> dict[str, Any]:
    """Call ``mask_tokens(ids, order, others, share)``."""
    read, labels = _two(
        "mask_tokens", function(ids, order, others, share), "what is read, and labels"
    )
    return {"text to read": read, "labels": labels}


class _Head:
    """A linear layer that counts the vectors it was given; without weights it gives them back."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None) -> None:
        self.weight, self.bias, self.given = weight, bias, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.given += x[..., 0].numel()
        return x if self.weight is None else F.linear(x, self.weight, self.bias)


def mlm_loss(
    function: Callable[..., Any],
    vectors: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
) -> dict[str, Any]:
    """Call ``mlm_loss(vectors, labels, head)`` with a linear head."""
    learnt = {}
    if (
        weight is not None and bias is not None
    ):  # else half precision, whose gradients are too coarse
        learnt = {
            "vectors": vectors.requires_grad_(),
            "the head's weight": weight.requires_grad_(),
            "the head's bias": bias.requires_grad_(),
        }
    head = _Head(weight, bias)
    loss = function(vectors, labels, head)
    found: dict[str, Any] = {"loss": loss}
    if isinstance(loss, Tensor) and loss.shape == ():
        found |= gradients(loss, torch.ones_like(loss), learnt)
    return found | {"vectors that the head was given": head.given}


def bert_encoder(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    ids: Tensor,
    segments: Tensor | None,
    lengths: Tensor | None,
    cotangents: list[Tensor],
) -> dict[str, Any]:
    """Make a ``BertEncoder`` with given weights, in training mode, and run it; vectors of filling become 0."""
    module: Any = cls(SimpleNamespace(**sizes))
    module.to(device=ids.device, dtype=cotangents[0].dtype)
    module.load_state_dict(dict(weights))
    module.train()
    given = {} if segments is None else {"segments": segments}
    given |= {} if lengths is None else {"lengths": lengths}
    vectors, pooled = _two("forward", module(ids, **given), "the vectors, and the pooled ones")
    shapes = [each.shape if isinstance(each, Tensor) else None for each in (vectors, pooled)]
    found: dict[str, Any] = {"pooled": pooled}
    if shapes != [each.shape for each in cotangents]:
        return {"vectors": vectors, **found}
    if lengths is not None:
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        vectors = torch.where(real[..., None], vectors, torch.zeros_like(vectors))
    both = torch.cat([vectors.flatten(), pooled.flatten()])
    cotangent = torch.cat([each.flatten() for each in cotangents])
    return {"vectors": vectors, **found} | gradients(
        both, cotangent, dict(module.named_parameters())
    )


class _Encoder(nn.Module):
    """Stands in for an encoder: its vectors know segments, and its pooled one knows lengths."""

    def __init__(self, table: Tensor, sides: Tensor) -> None:
        super().__init__()
        self.table, self.sides = nn.Parameter(table), nn.Parameter(sides)

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        x = self.table[ids] + self.sides[torch.zeros_like(ids) if segments is None else segments]
        places = torch.arange(ids.shape[1], device=ids.device)
        ends = torch.full_like(ids[:, 0], ids.shape[1]) if lengths is None else lengths
        real = (places < ends[:, None]).to(x.dtype)[..., None]
        around = (x * real).sum(1) / real.sum(1)
        return x + 0.5 * around[:, None], torch.tanh(2 * around)


def classify(
    function: Callable[..., Any],
    table: Tensor,
    sides: Tensor,
    weight: Tensor,
    ids: Tensor,
    segments: Tensor,
    lengths: Tensor,
    places: Tensor | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``classify(encoder, head, ids, segments, lengths, places)`` with a stand-in for the encoder."""
    encoder, weight = _Encoder(table, sides), weight.requires_grad_()

    def head(x: Tensor) -> Tensor:
        return F.linear(x, weight)

    told = () if places is None else (places,)
    logits = function(encoder, head, ids, segments, lengths, *told)
    found: dict[str, Any] = {"logits": logits}
    if isinstance(logits, Tensor) and logits.shape == cotangent.shape:
        learnt = {"the head's weight": weight, "the encoder's table": encoder.table}
        found |= gradients(logits, cotangent, learnt)
    return found
