"""How lesson 13's exercises are called."""

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probing import gradients


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attend to what the mask shows, and to everything without one."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


def gpt(
    cls: Callable[..., nn.Module],
    sizes: Mapping[str, Any],
    plain: bool,
    weights: Mapping[str, Tensor],
    ids: Tensor,
    changed: Tensor,
    parts: list[int] | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Make a ``GPT`` with given weights, in training mode, and run it.

    ``changed`` is ``ids`` with other tokens at the last places. With ``plain`` the heads hide only what the
    mask hides. ``parts`` cuts ``ids`` into pieces that are read one
    after the other with caches.
    """
    module: Any = cls(SimpleNamespace(**sizes), **({"attend": _attend} if plain else {}))
    module.to(device=ids.device, dtype=cotangent.dtype)
    module.load_state_dict(dict(weights))
    module.train()
    logits = module(ids)
    found: dict[str, Any] = {"logits": logits}
    if isinstance(logits, Tensor) and logits.shape == cotangent.shape:
        found |= gradients(logits, cotangent, dict(module.named_parameters()))
    with torch.no_grad():
        found["logits with other tokens at the end"] = module(changed)
        if parts is not None:
            caches = module.empty_caches(len(ids))
            pieces = [module(piece, caches) for piece in ids.split(parts, dim=1)]
            found["logits, read in pieces with caches"] = torch.cat(pieces, dim=1)
            found["positions in each cache"] = [cache.length for cache in caches]
        too_many = torch.zeros(1, sizes["max_len"] + 1, dtype=ids.dtype, device=ids.device)
        try:
            module(too_many)
            found["error of too many positions"] = "none"
        except (ValueError, IndexError, RuntimeError) as error:
            found["error of too many positions"] = type(error).__name__
    return found


def configure_optimizer(
    function: Callable[..., Any],
    shapes: Mapping[str, list[int]],
    frozen: list[str],
    tied: Mapping[str, str],
    options: Mapping[str, Any],
    numbers: list[Tensor],
) -> dict[str, Any]:
    """Make a model with parameters of given shapes, its optimiser, and two steps with given gradients."""
    model = nn.Module()
    names: dict[int, str] = {}
    stream = iter(numbers)
    for name, shape in shapes.items():
        *path, last = name.split(".")
        place = model
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        if name in tied:
            parameter = model.get_parameter(tied[name])
        else:
            parameter = nn.Parameter(next(stream).reshape(shape).clone(), name not in frozen)
            names[id(parameter)] = name
        place.register_parameter(last, parameter)
    optimizer = function(model, **options)
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = "None" if optimizer is None else f"a {type(optimizer).__name__}"
        raise TypeError(f"configure_optimizer returned {kind} and should return an optimiser.")
    found: dict[str, Any] = {
        "optimiser": type(optimizer).__name__,
        "groups": [
            {
                "parameters": sorted(names.get(id(each), "?") for each in group["params"]),
                "weight decay": float(group["weight_decay"]),
                "learning rate": float(group["lr"]),
                "betas": [float(beta) for beta in group.get("betas", ())],
            }
            for group in optimizer.param_groups
        ],
    }
    for _ in range(2):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = next(stream).reshape(parameter.shape).clone()
        optimizer.step()
    return found | {
        f"{name} after two steps": model.get_parameter(name).detach() for name in names.values()
    }


def lr_at(
    function: Callable[..., Any], steps: list[int], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Call ``lr_at(step, …)`` for each step."""
    return {"rates": [function(step, **options) for step in steps]}


def sample_top_p(
    function: Callable[..., Any], logits: Tensor, p: float, u: Tensor
) -> dict[str, Any]:
    """Call ``sample_top_p(logits, p, u)``."""
    return {"tokens": function(logits, p, u)}
