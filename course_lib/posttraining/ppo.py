"""Learn from a reward: REINFORCE, and PPO with all its parts (lesson 19).

All tensors of replies are (B, n): a row for each reply, a column for each token of prompt and reply, and a
mask that is True for the reply's tokens. What stands at a token is about the moment before it was chosen.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.gpt import GPT
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.replies import Replies, answer, token_logprobs
from course_lib.posttraining.rewards import read


def masked_mean(
    values: Float[Tensor, "batch n"], mask: Bool[Tensor, "batch n"]
) -> Float[Tensor, ""]:
    """Return the mean of the marked tokens, each with the same weight; the others may hold anything."""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def whiten(
    values: Float[Tensor, "batch n"], mask: Bool[Tensor, "batch n"]
) -> Float[Tensor, "batch n"]:
    """Give the marked tokens mean 0 and variance 1, the others 0."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    return ((values - mean) / (variance + 1e-8).sqrt()).masked_fill(~mask, 0)


def kl_penalty(
    score: Float[Tensor, "batch"],
    logprobs: Float[Tensor, "batch n"],
    reference: Float[Tensor, "batch n"],
    mask: Bool[Tensor, "batch n"],
    beta: float,
) -> Float[Tensor, "batch n"]:
    """Return the reward of each token: what it costs to leave the reference, and at the end the reply's score.

    Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences", section 2: the reward of a
    reply is r(x, y) − β log(π(y|x) / π_ref(y|x)). The logarithm is a sum over tokens, and each token pays
    its own part.

    Args:
        score: of each reply.
        logprobs: of the tokens under the policy that wrote them.
        reference: of the same tokens under the reference.
        mask: True for the tokens of the reply; they stand together.
        beta: the price of a nat.

    Returns:
        The rewards, 0 outside of the replies; the score is added at a reply's last token.

    """
    ### BEGIN SOLUTION
    rewards = (-beta * (logprobs - reference)).masked_fill(~mask, 0)  # (B, n)
    still = mask.flip(1).cumsum(dim=1).flip(1)  # (B, n): how many tokens of the reply are left
    last = mask & (still == 1)  # (B, n)
    return rewards + score[:, None] * last  # (B, n)
    ### END SOLUTION


def gae(
    rewards: Float[Tensor, "batch n"],
    values: Float[Tensor, "batch n"],
    mask: Bool[Tensor, "batch n"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"]]:
    """Return the advantage of each token, and what its value should have been.

    Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    equations 11 to 16: with the surprise δ_t = r_t + γ V_{t+1} − V_t the advantage is
    A_t = δ_t + γλ A_{t+1}. Behind a reply's last token there is nothing: V and A are 0.

    Args:
        rewards: of each token.
        values: what the critic expected before each token.
        mask: True for the tokens of the reply, which stand together; what stands elsewhere in ``rewards``
            and ``values`` means nothing.
        gamma: γ, how much a reward counts one token earlier.
        lam: λ: 1 trusts the rewards alone, 0 trusts the next value.

    Returns:
        The advantages A, and the returns A + V, both 0 outside of the replies.

    """
    ### BEGIN SOLUTION
    rewards, values = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)  # (B, n)
    advantages = torch.zeros_like(rewards)  # (B, n)
    after = next_value = torch.zeros_like(rewards[:, 0])  # (B,)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]  # (B,)
        after = (delta + gamma * lam * after) * mask[:, t]  # (B,): 0 outside of the reply
        advantages[:, t] = after
        next_value = values[:, t]
    return advantages, advantages + values
    ### END SOLUTION


def ppo_loss(
    logprobs: Float[Tensor, "batch n"],
    old_logprobs: Float[Tensor, "batch n"],
    advantages: Float[Tensor, "batch n"],
    values: Float[Tensor, "batch n"],
    old_values: Float[Tensor, "batch n"],
    returns: Float[Tensor, "batch n"],
    mask: Bool[Tensor, "batch n"],
    clip: float = 0.2,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss of the policy and the loss of the values.

    Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equation 7, with the minus of a loss. The
    values are clipped in the same manner, as in that paper's published code.

    Args:
        logprobs: of the tokens under the policy as it is now.
        old_logprobs: of the same tokens when they were written.
        advantages: of the tokens.
        values: as they are now.
        old_values: as they were when the tokens were written.
        returns: what the values should be.
        mask: True for the tokens of the replies. Elsewhere anything may stand, however large.
        clip: ε: how far from 1 the ratio of probabilities counts, and how far from its old one a value.

    Returns:
        Two means over all marked tokens: of −min(ρA, clip(ρ, 1 − ε, 1 + ε) A) with the ratio ρ, and of half
        the larger of the squared errors of the value and of the clipped value.

    """
    ### BEGIN SOLUTION
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0).exp()  # (B, n)
    clipped = ratio.clamp(1 - clip, 1 + clip)  # (B, n)
    gain = torch.minimum(ratio * advantages, clipped * advantages)  # (B, n)
    values, old_values, returns = (
        each.masked_fill(~mask, 0) for each in (values, old_values, returns)
    )
    near = old_values + (values - old_values).clamp(-clip, clip)  # (B, n)
    error = torch.maximum((values - returns).square(), (near - returns).square())  # (B, n)
    return -masked_mean(gain, mask), 0.5 * masked_mean(error, mask)
    ### END SOLUTION


def reinforce_loss(
    logprobs: Float[Tensor, "batch n"], gain: Float[Tensor, "batch"], mask: Bool[Tensor, "batch n"]
) -> Float[Tensor, ""]:
    """Return a loss whose gradient is minus REINFORCE's: the mean of −gain · log π(reply).

    Williams 1992, "Simple statistical gradient-following algorithms", equation 4. ``gain`` is the reward minus
    a baseline that does not depend on the reply.
    """
    return -(gain * logprobs.masked_fill(~mask, 0).sum(dim=1)).mean()


class AdaptiveBeta:
    """A price of KL that is raised while the policy is too far away, and lowered while it is too near.

    Ziegler et al. 2019, section 2.2.

    Args:
        beta: the first price.
        target: the KL wanted, in nats for a whole reply; None leaves the price as it is.
        gain: 0.2 times this is the largest relative change of the price in an update.

    """

    def __init__(self, beta: float, target: float | None = None, gain: float = 0.1) -> None:
        self.beta, self.target, self.gain = beta, target, gain

    def update(self, nats: float) -> float:
        """Take the KL that was measured, and return the new price."""
        if self.target is not None:
            error = max(-0.2, min(0.2, nats / self.target - 1))
            self.beta *= 1 + self.gain * error
        return self.beta


@dataclass(frozen=True)
class PPOSettings:
    """How PPO goes through a batch of replies.

    Attributes:
        gamma: γ of `gae`.
        lam: λ of `gae`.
        clip: ε of `ppo_loss`.
        epochs: how often the batch is gone through.
        minibatches: in how many parts, each with an update of its own.
        value_weight: of the values' loss.
        entropy_weight: of the entropy, which is a bonus.
        whiten: whether advantages get mean 0 and variance 1.
        max_norm: the largest norm of the gradients of each parameter group.

    """

    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    epochs: int = 2
    minibatches: int = 2
    value_weight: float = 0.1
    entropy_weight: float = 0.0
    whiten: bool = True
    max_norm: float = 1.0


def ppo_update(
    actor: Callable[[Any], tuple[Tensor, Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    take: Callable[[Tensor], Any],
    rewards: Float[Tensor, "batch n"],
    old_logprobs: Float[Tensor, "batch n"],
    old_values: Float[Tensor, "batch n"],
    mask: Bool[Tensor, "batch n"],
    settings: PPOSettings,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Improve a policy on a batch of its replies.

    Args:
        actor: returns log-probabilities, entropies and values, (B, n) each, of the replies that it is given.
        optimizer: of the actor's parameters.
        take: gives the actor's input for some rows of the batch.
        rewards: of each token, as `kl_penalty` makes them.
        old_logprobs: of the tokens when they were written.
        old_values: of the tokens when they were written.
        mask: True for the tokens of the replies.
        settings: as they say.
        generator: of the order.

    Returns:
        Means over the updates: both losses, the entropy, and the share of tokens whose ratio was clipped.

    """
    advantages, returns = gae(rewards, old_values, mask, settings.gamma, settings.lam)  # (B, n)
    if settings.whiten:
        advantages = whiten(advantages, mask)
    told = torch.zeros(4)
    parts = [
        part
        for _ in range(settings.epochs)
        for part in torch.randperm(len(mask), generator=generator).chunk(settings.minibatches)
    ]
    for part in parts:
        rows = part.to(mask.device)
        logprobs, entropy, values = actor(take(rows))  # (B', n)
        shown = mask[rows]
        policy_loss, value_loss = ppo_loss(
            logprobs, old_logprobs[rows], advantages[rows], values, old_values[rows], returns[rows],
            shown, settings.clip,
        )  # fmt: skip
        bonus = masked_mean(entropy, shown)
        loss = policy_loss + settings.value_weight * value_loss - settings.entropy_weight * bonus
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], settings.max_norm)
        optimizer.step()
        with torch.no_grad():
            moved = ((logprobs - old_logprobs[rows]).masked_fill(~shown, 0)).exp()
            outside = masked_mean(((moved - 1).abs() > settings.clip).float(), shown)
            told += torch.stack([policy_loss, value_loss, bonus, outside]).cpu()
    names = ("policy loss", "value loss", "entropy", "clipped")
    return dict(zip(names, (told / len(parts)).tolist()))


class Actor(nn.Module):
    """A language model that writes, and a value head that says what it expects of what it has written so far.

    Args:
        model: is copied.

    """

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(True)
        self.value = nn.Linear(model.config.d_model, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(
        self, ids: Int[Tensor, "batch n"]
    ) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"], Float[Tensor, "batch n"]]:
        """Return each token's log-probability, the entropy of its draw and the value before it; 0 for the first."""
        logits, states = read(self.model, ids)  # (B, n, words), (B, n, d)
        log_p = logits[:, :-1].float().log_softmax(dim=-1)  # (B, n - 1, words)
        said = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (B, n - 1)
        entropy = -(log_p.exp() * log_p).sum(dim=-1)  # (B, n - 1)
        values = self.value(states[:, :-1]).squeeze(-1)  # (B, n - 1)
        first, second, third = (F.pad(each, (1, 0)) for each in (said, entropy, values))
        return first, second, third  # (B, n) each


def same_length(
    prompts: Sequence[str], tokenizer: Tokenizer, size: int, generator: torch.Generator
) -> Iterator[list[str]]:
    """Draw batches of prompts without end, those of one batch equally long, so that they need no filler.

    A length is drawn as often as there are prompts that have it.
    """
    groups: dict[int, list[str]] = {}
    for prompt in prompts:
        groups.setdefault(len(tokenizer.encode(" " + prompt)), []).append(prompt)
    sizes = torch.tensor([float(len(group)) for group in groups.values()])
    while True:
        chosen = list(groups.values())[int(torch.multinomial(sizes, 1, generator=generator))]
        yield [chosen[i] for i in torch.randint(len(chosen), (size,), generator=generator).tolist()]


def any_length(
    prompts: Sequence[str], size: int, generator: torch.Generator
) -> Iterator[list[str]]:
    """Draw batches of prompts without end, each prompt as often as any other."""
    while True:
        chosen = torch.randint(len(prompts), (size,), generator=generator).tolist()
        yield [prompts[i] for i in chosen]


class Learner:
    """Let a language model answer, be scored, and learn from it, again and again.

    Args:
        model: where it begins, and the reference from which the KL is measured; it is not changed.
        tokenizer: its tokenizer.
        prompts: what it is asked.
        score: gives a number for each prompt and reply.
        beta: the price of KL, which may adapt.
        size: how many replies make a step.
        n_new: the most tokens of a reply.
        rate: Adam's learning rate; the value head, which begins with zeros, has ten times as much.
        settings: of `ppo_update`.
        seed: of draws and orders.
        alike: whether the prompts of one step are equally long, which needs no filler; if not, a step has
            prompts of all lengths, which costs more and learns more evenly.
        warm_up: how many steps come first in which only the value head learns, so that the first advantages
            are not those of a critic who knows nothing.

    Attributes:
        actor: what learns.
        seen: what was measured in each step: KL in nats and score (means over the replies), the price, and
            what `ppo_update` tells.

    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        score: Callable[[Sequence[str], Replies], Tensor],
        beta: AdaptiveBeta,
        size: int = 64,
        n_new: int = 16,
        rate: float = 2e-4,
        settings: PPOSettings | None = None,
        seed: int = 0,
        alike: bool = True,
        warm_up: int = 0,
    ) -> None:
        self.reference, self.tokenizer, self.score = model.eval(), tokenizer, score
        self.actor, self.beta, self.n_new = Actor(model), beta, n_new
        self.warm_up = warm_up
        self.settings = settings or PPOSettings()
        self.draws = torch.Generator(next(model.parameters()).device).manual_seed(seed)
        self.orders = torch.Generator().manual_seed(seed)
        self.batches = (
            same_length(prompts, tokenizer, size, self.orders)
            if alike
            else any_length(prompts, size, self.orders)
        )
        groups = [
            {"params": list(self.actor.model.parameters()), "lr": rate},
            {"params": list(self.actor.value.parameters()), "lr": 10 * rate},
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
        self.seen: list[dict[str, float]] = []

    def step(self) -> tuple[list[str], Replies]:
        """Answer some prompts, learn from the scores, and return the prompts and the answers."""
        prompts = next(self.batches)
        learns = len(self.seen) >= self.warm_up
        policy = self.actor.model.eval().requires_grad_(learns)
        replies = answer(policy, self.tokenizer, prompts, self.n_new, generator=self.draws)
        ids, mask = replies.ids, replies.mask  # (B, n)
        with torch.no_grad():
            logprobs, _, values = self.actor(ids)  # (B, n)
            reference = token_logprobs(self.reference(ids), ids)  # (B, n)
            scores = self.score(prompts, replies).to(ids.device)  # (B,)
        rewards = kl_penalty(scores, logprobs, reference, mask, self.beta.beta)  # (B, n)
        told = ppo_update(
            self.actor, self.optimizer, lambda rows: ids[rows], rewards, logprobs, values, mask,
            self.settings, self.orders,
        )  # fmt: skip
        nats = (logprobs - reference).masked_fill(~mask, 0).sum(dim=1).mean().item()
        told |= {"kl": nats, "score": scores.mean().item(), "beta": self.beta.beta}
        if learns:
            self.beta.update(nats)
        self.seen.append(told)
        return prompts, replies
