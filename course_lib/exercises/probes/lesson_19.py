"""How lesson 19's exercises are called."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from course_lib.exercises.probing import gradients


def reward_loss(function: Callable[..., Any], chosen: Tensor, rejected: Tensor) -> dict[str, Any]:
    """Call ``reward_loss(chosen, rejected)``."""
    chosen.requires_grad_()
    rejected.requires_grad_()
    loss = function(chosen, rejected)
    found: dict[str, Any] = {"loss": loss}
    if isinstance(loss, Tensor) and loss.dim() == 0:
        found |= gradients(
            loss, loss.new_ones(()), {"the chosen": chosen, "the rejected": rejected}
        )
    return found


def kl_penalty(
    function: Callable[..., Any],
    score: Tensor,
    logprobs: Tensor,
    reference: Tensor,
    mask: Tensor,
    beta: float,
) -> dict[str, Any]:
    """Call ``kl_penalty(score, logprobs, reference, mask, beta)``."""
    return {"rewards": function(score, logprobs, reference, mask, beta)}


def _two(name: str, returned: Any, what: str) -> tuple[Any, Any]:
    if returned is None:
        raise TypeError(f"{name} returned None: is there a `return` at its end?")
    if not isinstance(returned, tuple) or len(returned) != 2:
        kind = type(returned).__name__
        raise TypeError(f"{name} returned a {kind} and should return a pair: {what}.")
    return returned


def gae(
    function: Callable[..., Any],
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lam: float,
) -> dict[str, Any]:
    """Call ``gae(rewards, values, mask, gamma, lam)``."""
    advantages, returns = _two(
        "gae", function(rewards, values, mask, gamma, lam), "advantages, returns"
    )
    return {"advantages": advantages, "returns": returns}


def ppo_loss(
    function: Callable[..., Any],
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip: float,
) -> dict[str, Any]:
    """Call ``ppo_loss`` with everything in its order."""
    logprobs.requires_grad_()
    values.requires_grad_()
    policy_loss, value_loss = _two(
        "ppo_loss",
        function(logprobs, old_logprobs, advantages, values, old_values, returns, mask, clip),
        "the policy's loss, the values' loss",
    )
    found: dict[str, Any] = {"policy's loss": policy_loss, "values' loss": value_loss}
    for loss, name, wrt in (
        (policy_loss, "log-probabilities", logprobs),
        (value_loss, "values", values),
    ):
        if isinstance(loss, Tensor) and loss.dim() == 0:
            found |= gradients(loss, loss.new_ones(()), {name: wrt})
    return found
