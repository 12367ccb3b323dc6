"""How lesson 11's exercises are called."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probing import gradients


def label_smoothing_loss(
    function: Callable[..., Any], logits: Tensor, target: Tensor, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Call ``label_smoothing_loss(logits, target, …)`` and return the loss and its gradient."""
    logits.requires_grad_()
    loss = function(logits, target, **options)
    found: dict[str, Any] = {"loss": loss}
    if isinstance(loss, Tensor) and loss.shape == ():
        found |= gradients(loss, torch.ones_like(loss), {"logits": logits})
    return found


def noam_rate(
    function: Callable[..., Any], steps: list[int], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Call ``noam_rate(step, …)`` for each step, and for a step that does not exist."""
    found: dict[str, Any] = {"rates": [function(step, **options) for step in steps]}
    try:
        function(0, **options)
        found["error of step 0"] = ""
    except (ValueError, ZeroDivisionError, TypeError) as error:
        found["error of step 0"] = type(error).__name__
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


def decoder_block(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, Any],
    post_norm: bool,
    weights: Mapping[str, Tensor],
    x: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    memory_mask: Tensor | None,
    cached: list[list[Tensor]] | None,
    cotangent: Tensor,
    changed: Tensor,
) -> dict[str, Any]:
    """Make a ``DecoderBlock`` with given weights and call it on ``x``, and on ``changed``.

    ``changed`` is ``x`` with other values at its last positions: what a causal block says about the
    positions before them must stay the same. ``cached`` is what the two caches would give back.
    """
    options: dict[str, Any] = {"residual": _Post} if post_norm else {}
    module = cls(**sizes, **options)
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    module.train()
    x.requires_grad_()
    memory.requires_grad_()
    caches = [None, None] if cached is None else [_Recorder(*each) for each in cached]
    output = module(x, memory, mask, memory_mask, *caches)
    found: dict[str, Any] = {"output": output}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        wrt = {"x": x, "memory": memory, **dict(module.named_parameters())}
        found |= gradients(output, cotangent, wrt)
    if cached is None:
        with torch.no_grad():
            found["output after the last positions changed"] = module.eval()(
                changed, memory, mask, memory_mask
            )
    else:
        for name, cache in zip(("cache", "memory_cache"), caches):
            found[f"number of calls of {name}.update"] = 0 if cache is None else cache.calls
    return found


class _Post(nn.Module):
    """norm(x + sublayer(x)): lesson 10's PostNorm, without dropout."""

    def __init__(self, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Any:
        return self.norm(x + sublayer(x))


def transformer(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    source: Tensor,
    lengths: Tensor,
    target: Tensor,
    cotangent: Tensor,
    other_source: Tensor,
    other_target: Tensor,
) -> dict[str, Any]:
    """Make a ``Transformer`` with given weights; embed, encode, and run it.

    ``other_source`` differs from ``source`` in its padding alone, ``other_target`` from ``target`` in its
    last word alone.
    """
    module: Any = cls(**sizes)
    dtype = cotangent.dtype
    module.to(device=source.device, dtype=dtype)
    module.load_state_dict(dict(weights))
    module.train()
    with torch.no_grad():
        found: dict[str, Any] = {
            "embedded source": module.embed(source),
            "embedded target, from position 3 on": module.embed(target, 3),
        }
        memory = module.encode(source, lengths)
        if not isinstance(memory, tuple) or len(memory) != 2:
            kind = "None" if memory is None else f"a {type(memory).__name__}"
            raise TypeError(f"encode returned {kind} and should return Encoded(words, mask).")
        # what stands in the padding of the encoder's output is nobody's business
        real = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        words = memory[0]
        if isinstance(words, Tensor) and words.shape[:2] == source.shape:
            words = words * real[..., None].to(words.dtype)
        found |= {"encoded words": words, "mask of the encoded words": memory[1]}
    logits = module(source, lengths, target)
    found["logits"] = logits
    if isinstance(logits, Tensor) and logits.shape == cotangent.shape:
        found |= gradients(logits, cotangent, dict(module.named_parameters()))
    with torch.no_grad():
        found["logits with other padding in the source"] = module(other_source, lengths, target)
        found["logits with another last word"] = module(source, lengths, other_target)
    return found
