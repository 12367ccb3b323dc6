"""How lesson 18's exercises are called."""

from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probing import gradients


class Letters:
    """A tokenizer whose tokens are bytes, and a few special ones."""

    def __init__(self, special: dict[str, int]) -> None:
        self.special = special

    def encode(self, text: str, special: Collection[str] = ()) -> list[int]:
        """Return the ids of a text; the special tokens that are named are recognised in it."""
        known = (
            list(self.special)
            if special == "all"
            else [each for each in self.special if each in special]
        )
        for name in known:
            if name in text:
                before, after = text.split(name, 1)
                return [
                    *self.encode(before, special),
                    self.special[name],
                    *self.encode(after, special),
                ]
        return list(text.encode())


def render_chat(
    function: Callable[..., Any], turns: list[list[str]], special: dict[str, int], ask: bool | None
) -> dict[str, Any]:
    """Call ``render_chat(turns, tokenizer)``, with ``ask`` where it is given."""
    tokenizer = Letters(dict(special))
    said = [SimpleNamespace(speaker=speaker, text=text) for speaker, text in turns]
    more = {} if ask is None else {"ask": ask}
    if not {speaker for speaker, _ in turns} <= {"user", "assistant"}:
        try:
            function(said, tokenizer, **more)
        except (ValueError, KeyError) as error:
            return {"error of an unknown speaker": type(error).__name__}
        return {"error of an unknown speaker": "none"}
    ids = function(said, tokenizer, **more)
    if ids is None:
        raise TypeError("render_chat returned None: is there a `return` at its end?")
    return {"ids": ids}


def response_mask(
    function: Callable[..., Any], ids: Tensor, user: int, assistant: int, end: int
) -> dict[str, Any]:
    """Call ``response_mask(ids, user, assistant, end)``."""
    return {"mask": function(ids, user, assistant, end)}


def lora_linear(
    cls: Callable[..., nn.Module],
    weight: Tensor,
    bias: Tensor | None,
    rank: int,
    alpha: float,
    a: Tensor,
    b: Tensor,
    x: Tensor,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Make a ``LoRALinear`` around a layer, look at it, give its matrices numbers, run and merge it."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None).to(weight)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    torch.manual_seed(0)
    module: Any = cls(linear, rank, alpha)
    with torch.no_grad():
        before = module(x.clone())  # a copy: whoever changes it fails below
        unlike = cotangent.numel()
        if isinstance(before, Tensor) and before.shape == cotangent.shape:
            moved = (before - nn.functional.linear(x, weight, bias)).abs()
            unlike = int((~(moved <= 1e-4)).sum())  # NaN counts too
        # Counts, since what is drawn at random by mistake is drawn otherwise by everyone.
        found: dict[str, Any] = {
            "list of parameters that learn": sorted(
                name for name, each in module.named_parameters() if each.requires_grad
            ),
            "number of outputs that differ from the layer's before training": unlike,
            "number of places of b that are not zero before training": int((module.b != 0).sum()),
            "number of places of a that are zero before training": int((module.a == 0).sum()),
        }
        module.a.copy_(a)
        module.b.copy_(b)
    x = x.requires_grad_()
    output = module(x)
    found["output"] = output
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, {"x": x, "a": module.a, "b": module.b})
    merged: Any = module.merge()
    found["merged weight"] = merged.weight.detach()
    if merged.bias is not None:
        found["merged bias"] = merged.bias.detach()
    found["layer's own weight after merging"] = linear.weight.detach()
    try:
        cls(linear, 0, alpha)
        found["error of rank 0"] = "none"
    except (ValueError, ZeroDivisionError) as error:
        found["error of rank 0"] = type(error).__name__
    return found


def sft_loss(
    function: Callable[..., Any], logits: Tensor, ids: Tensor, mask: Tensor
) -> dict[str, Any]:
    """Call ``sft_loss(logits, ids, mask)``."""
    logits = logits.requires_grad_()
    loss = function(logits, ids, mask)
    if loss is None:
        raise TypeError("sft_loss returned None: is there a `return` at its end?")
    found = {"loss": loss}
    if isinstance(loss, Tensor) and loss.shape == ():
        found |= gradients(loss, torch.ones_like(loss), {"logits": logits})
    return found
