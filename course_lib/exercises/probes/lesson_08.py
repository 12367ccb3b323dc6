"""How lesson 08's exercises are called."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probing import gradients, pair


def split_heads(
    split: Callable[..., Any],
    merge: Callable[..., Any],
    x: Tensor,
    n_heads: int,
    heads: Tensor,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``split_heads(x, n_heads)`` and ``merge_heads(heads)``, which need not belong together.

    Results may be views of what went in, so copies go in.
    """
    x.requires_grad_()
    pieces = split(x.clone(), n_heads)
    found = {"result of split_heads": pieces, "result of merge_heads": merge(heads.clone())}
    if isinstance(pieces, Tensor) and pieces.shape == cotangent.shape:
        found |= gradients(pieces, cotangent, {"x": x})
    return found


class _Recorder:
    """Stands for a cache: keeps what it is given, and gives back what was prepared."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.length = keys.shape[-2]
        self.prepared = (keys, values)
        self.given: list[tuple[Any, Any]] = []

    def update(self, k: Any, v: Any) -> tuple[Tensor, Tensor]:
        self.given.append((k, v))
        return self.prepared


def multi_head_attention(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    x: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    cached: list[Tensor] | None,
    cotangent: Tensor,
    changed: Tensor,
) -> dict[str, Any]:
    """Make a ``MultiHeadAttention`` with given weights and call it on ``x``, and on ``changed``.

    ``changed`` is ``x`` with other values at its last positions: what a causal layer says about the
    positions before them must stay the same. ``cached`` is what a cache would give back.
    """
    module: Any = cls(**sizes)
    module.to(device=x.device, dtype=x.dtype)
    module.load_state_dict(dict(weights))
    module.train()
    x.requires_grad_()
    wrt = {"x": x, **dict(module.named_parameters())}
    if context is not None:
        wrt["context"] = context.requires_grad_()
    recorder = None if cached is None else _Recorder(*cached)
    calls, attend = [], module.attend

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(args)
        return attend(*args, **named)

    module.attend = counted
    output, attended = pair("MultiHeadAttention", module(x, context, mask, recorder))
    found: dict[str, Any] = {"output": output, "weights": attended}
    found["number of calls of self.attend"] = len(calls)
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, wrt)
    if recorder is not None:
        found["number of calls of cache.update"] = len(recorder.given)
        if recorder.given:
            keys, values = recorder.given[0]
            found |= {"keys given to the cache": keys, "values given to the cache": values}
    else:
        with torch.no_grad():
            again, _ = pair("MultiHeadAttention", module.eval()(changed, context, mask))
        found["output after the last positions changed"] = again
    return found


def kv_cache(
    cls: Callable[..., Any],
    sizes: Mapping[str, int],
    chunks: list[list[Tensor]],
    too_many: list[Tensor],
    x: Tensor,
) -> dict[str, Any]:
    """Make a ``KVCache``, update it with each chunk of keys and values, and then with one too large."""
    cache = cls(**sizes, dtype=x.dtype, device=x.device)
    room = [each.untyped_storage().data_ptr() for each in (cache.keys, cache.values)]
    found: dict[str, Any] = {}
    in_place = True
    for number, (k, v) in enumerate(chunks, start=1):
        returned = cache.update(k, v)
        if not isinstance(returned, tuple) or len(returned) != 2:
            kind = "None" if returned is None else f"a {type(returned).__name__}"
            raise TypeError(f"update returned {kind} and should return a pair: keys, values.")
        for name, each, start in zip(("keys", "values"), returned, room):
            found[f"{name} after update {number}"] = (
                each.clone() if isinstance(each, Tensor) else each
            )
            in_place &= not isinstance(each, Tensor) or each.untyped_storage().data_ptr() == start
        found[f"length after update {number}"] = cache.length
    place = "the room made at the start" if in_place else "new tensors"
    found["place of keys and values"] = place
    try:
        cache.update(*too_many)
        found["error of an update that does not fit"] = ""
    except (ValueError, RuntimeError, IndexError) as error:
        found["error of an update that does not fit"] = type(error).__name__
    found["length after an update that does not fit"] = cache.length
    return found
