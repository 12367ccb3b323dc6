"""How lesson 20's exercises are called."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.probing import gradients


def _returned(name: str, value: Any) -> Tensor:
    """Return what came back if it is a tensor.

    Raises:
        TypeError: it is none.

    """
    if value is None:
        raise TypeError(f"{name} returned None: is there a `return` at its end?")
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} returned a {type(value).__name__} and should return a tensor.")
    return value


def sequence_logprob(
    function: Callable[..., Any], logits: Tensor, ids: Tensor, mask: Tensor, cotangent: Tensor
) -> dict[str, Any]:
    """Call ``sequence_logprob(logits, ids, mask)``."""
    logits = logits.requires_grad_()
    sums = _returned("sequence_logprob", function(logits, ids, mask))
    found = {"log-probability": sums}
    if sums.shape == cotangent.shape:
        found |= gradients(sums, cotangent, {"logits": logits})
    return found


def _of_pairs(
    name: str,
    function: Callable[..., Any],
    policy: tuple[Tensor, Tensor],
    rest: tuple[Any, ...],
    cotangent: Tensor,
) -> dict[str, Any]:
    chosen, rejected = (each.requires_grad_() for each in policy)
    loss = _returned(name, function(chosen, rejected, *rest))
    found = {"loss": loss}
    if loss.shape == cotangent.shape:
        found |= gradients(loss, cotangent, {"chosen": chosen, "rejected": rejected})
    return found


def dpo_loss(
    function: Callable[..., Any],
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta)``."""
    rest = (reference_chosen, reference_rejected, beta)
    return _of_pairs("dpo_loss", function, (chosen, rejected), rest, cotangent)


def ipo_loss(
    function: Callable[..., Any],
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    tau: float,
    average: tuple[Tensor, Tensor] | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``ipo_loss(chosen, rejected, reference_chosen, reference_rejected, tau, average)``."""
    rest: tuple[Any, ...] = (reference_chosen, reference_rejected, tau)
    if average is not None:
        rest = (*rest, average)
    return _of_pairs("ipo_loss", function, (chosen, rejected), rest, cotangent)


def kto_loss(
    function: Callable[..., Any],
    policy: Tensor,
    reference: Tensor,
    liked: Tensor,
    policy_mismatched: Tensor,
    reference_mismatched: Tensor,
    beta: float,
    weights: tuple[float, float] | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``kto_loss``, with weights of the two kinds or without."""
    policy, policy_mismatched = policy.requires_grad_(), policy_mismatched.requires_grad_()
    loss = _returned(
        "kto_loss",
        function(
            policy,
            reference,
            liked,
            policy_mismatched,
            reference_mismatched,
            beta,
            *(weights or ()),
        ),
    )
    found = {"loss": loss}
    if loss.shape == cotangent.shape:
        wrt = {"policy": policy, "policy_mismatched": policy_mismatched}
        found |= gradients(loss, cotangent, wrt)
    return {name: torch.as_tensor(each) for name, each in found.items()}
