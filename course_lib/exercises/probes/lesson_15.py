"""How lesson 15's exercises are called."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from course_lib.exercises.probing import gradients


def _refusal(call: Callable[[], Any]) -> str:
    """Return the type of the error by which a call refuses; nothing if it does not. Other errors pass."""
    try:
        call()
    except (ValueError, LookupError, TypeError) as error:
        return type(error).__name__
    return ""


def corrupt_spans(
    function: Callable[..., Any],
    tokens: list[Any],
    mask: list[bool],
    sentinels: list[Any],
    refused: bool,
) -> dict[str, Any]:
    """Call ``corrupt_spans`` and return input and target, or how it refused."""
    if refused:
        return {"error": _refusal(lambda: function(tokens, mask, sentinels))}
    returned = function(tokens, mask, sentinels)
    if not isinstance(returned, tuple) or len(returned) != 2:
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise TypeError(f"corrupt_spans returned {kind} and should return a pair: input, target.")
    return {"input": returned[0], "target": returned[1]}


def restore_spans(
    function: Callable[..., Any],
    read: list[Any],
    said: list[Any],
    sentinels: list[Any],
    refused: bool,
) -> dict[str, Any]:
    """Call ``restore_spans`` and return the text, or how it refused."""
    if refused:
        return {"error": _refusal(lambda: function(read, said, sentinels))}
    return {"text": function(read, said, sentinels)}


def shift_right(
    function: Callable[..., Any], labels: Tensor, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Call ``shift_right(labels, …)``."""
    return {"heard": function(labels, **options)}


class _Recorder:
    """Stands for a cache: keeps what it is given, and gives back what was prepared."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.prepared = (keys, values)
        self.length = keys.shape[-2]
        self.given: list[tuple[Any, Any]] = []

    def update(self, k: Any, v: Any) -> tuple[Tensor, Tensor]:
        self.given.append((k, v))
        return self.prepared


def t5_attention(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, int],
    weights: Mapping[str, Tensor],
    x: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    cached: list[Tensor] | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Make a ``T5Attention`` with given weights and call it; ``cached`` is what a cache would give back."""
    module = cls(**sizes)
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    module.train()
    wrt = {"x": x.requires_grad_(), **dict(module.named_parameters())}
    if context is not None:
        wrt["context"] = context.requires_grad_()
    if bias is not None:
        wrt["bias"] = bias.requires_grad_()
    cache = None if cached is None else _Recorder(*cached)
    returned = module(x, context, mask, bias, cache)
    if not isinstance(returned, tuple) or len(returned) != 2:
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise TypeError(f"T5Attention returned {kind} and should return a pair: outputs, weights.")
    output, attended = returned
    found: dict[str, Any] = {"output": output, "weights": attended}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, wrt)
    if cache is not None:
        found["number of calls of cache.update"] = len(cache.given)
        if cache.given:
            keys, values = cache.given[0]
            found |= {"keys given to the cache": keys, "values given to the cache": values}
    return found
