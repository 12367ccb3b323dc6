"""Preferences without a reward model: DPO, IPO, KTO and SimPO (lesson 20)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def sequence_logprob(
    logits: Float[Tensor, "batch n words"],
    ids: Int[Tensor, "batch n"],
    mask: Bool[Tensor, "batch n"],
) -> Float[Tensor, "batch"]:
    """Return the log-probability of each row's marked tokens, given all that stands before them, in nats.

    Args:
        logits: those at a position are about the token behind it.
        ids: the tokens that were read.
        mask: which of them count: those of the reply. The first token of a row is foretold by nothing and
            never counts.

    Returns:
        The sum of the marked tokens' log-probabilities; 0 for a row without any. A token that is not marked
        changes nothing, even one of probability 0.

    """
    ### BEGIN SOLUTION
    log_p = logits[:, :-1].log_softmax(dim=-1)  # (B, n - 1, words)
    said = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (B, n - 1)
    return said.masked_fill(~mask[:, 1:], 0).sum(dim=1)  # (B,)
    ### END SOLUTION


def dpo_loss(
    chosen: Float[Tensor, "..."],
    rejected: Float[Tensor, "..."],
    reference_chosen: Float[Tensor, "..."],
    reference_rejected: Float[Tensor, "..."],
    beta: float,
) -> Float[Tensor, "..."]:
    """Return the loss of direct preference optimization for each pair of replies.

    Rafailov et al. 2023, "Direct Preference Optimization", equation 7: the negative log-probability, under
    Bradley and Terry, that the chosen reply is preferred, rewards being β · log(policy / reference).

    Args:
        chosen: the policy's log-probabilities of the preferred replies.
        rejected: those of the others.
        reference_chosen: the reference's log-probabilities of the preferred replies.
        reference_rejected: those of the others.
        beta: above 0.

    """
    ### BEGIN SOLUTION
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -F.logsigmoid(beta * margin)
    ### END SOLUTION


def implicit_reward(
    policy: Float[Tensor, "..."], reference: Float[Tensor, "..."], beta: float
) -> Float[Tensor, "..."]:
    """Return the reward for which the policy is best, up to a number of each prompt: β · log(policy / reference).

    Rafailov et al. 2023, equation 5 and theorem 1.
    """
    return beta * (policy - reference)


def ipo_loss(
    chosen: Float[Tensor, "..."],
    rejected: Float[Tensor, "..."],
    reference_chosen: Float[Tensor, "..."],
    reference_rejected: Float[Tensor, "..."],
    tau: float,
    average: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "..."]:
    """Return the loss of identity preference optimization for each pair of replies.

    Azar et al. 2024, "A General Theoretical Paradigm to Understand Learning from Human Preferences",
    equation 17: the squared distance of the margin of the log-ratios from 1 / (2τ).

    Args:
        chosen: the policy's log-probabilities of the preferred replies.
        rejected: those of the others.
        reference_chosen: the reference's log-probabilities of the preferred replies.
        reference_rejected: those of the others.
        tau: above 0; the larger, the nearer the policy stays to the reference.
        average: the numbers of tokens of the chosen and of the rejected replies; then each log-ratio is
            taken for each token, as the library trl does it. The paper sums.

    """
    ### BEGIN SOLUTION
    ratio_chosen, ratio_rejected = chosen - reference_chosen, rejected - reference_rejected
    if average is not None:
        ratio_chosen, ratio_rejected = ratio_chosen / average[0], ratio_rejected / average[1]
    return (ratio_chosen - ratio_rejected - 1 / (2 * tau)) ** 2
    ### END SOLUTION


def kto_loss(
    policy: Float[Tensor, "batch"],
    reference: Float[Tensor, "batch"],
    liked: Bool[Tensor, "batch"],
    policy_mismatched: Float[Tensor, "batch"],
    reference_mismatched: Float[Tensor, "batch"],
    beta: float,
    weight_liked: float = 1.0,
    weight_disliked: float = 1.0,
) -> Float[Tensor, "batch"]:
    """Return the loss of Kahneman–Tversky optimization for each reply, from thumbs up and down alone.

    Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", section 4.1.

    Args:
        policy: the policy's log-probabilities of the replies.
        reference: the reference's.
        liked: True for a thumb up.
        policy_mismatched: the policy's log-probabilities of replies that belong to other prompts.
        reference_mismatched: the reference's. The mean difference of the two, not below 0, is the point from
            which gains and losses are counted; no gradient goes through it.
        beta: how soon a gain or a loss is felt in full.
        weight_liked: the weight of liked replies.
        weight_disliked: the weight of the others.

    """
    ### BEGIN SOLUTION
    point = (policy_mismatched - reference_mismatched).mean().clamp(min=0).detach()  # ()
    gain = policy - reference - point  # (B,)
    lost = 1 - torch.sigmoid(beta * torch.where(liked, gain, -gain))  # (B,)
    return torch.where(liked, weight_liked * lost, weight_disliked * lost)  # (B,)
    ### END SOLUTION


def simpo_loss(
    chosen: Float[Tensor, "..."],
    rejected: Float[Tensor, "..."],
    n_chosen: Int[Tensor, "..."],
    n_rejected: Int[Tensor, "..."],
    beta: float,
    gamma: float,
) -> Float[Tensor, "..."]:
    """Return the loss of simple preference optimization for each pair of replies; it needs no reference.

    Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", equation 6: the
    reward is β times the mean log-probability of a token, and must differ by the margin γ.

    Args:
        chosen: the policy's log-probabilities of the preferred replies.
        rejected: those of the others.
        n_chosen: the numbers of tokens of the preferred replies.
        n_rejected: those of the others.
        beta: above 0.
        gamma: at least 0.

    """
    return -F.logsigmoid(beta * (chosen / n_chosen - rejected / n_rejected) - gamma)
