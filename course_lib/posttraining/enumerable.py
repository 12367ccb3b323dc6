"""All replies over a few words, so that the best policy can be written down and measured against (lessons 19, 20)."""

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ReplySpace:
    """Every reply of at most ``longest`` tokens over a few words and an end.

    A reply is some words and the end, or ``longest`` words, cut off before an end. With w words and longest 4
    there are 1 + w + w² + w³ ended ones and w⁴ that are cut off.

    Args:
        words: the words; the end has the number behind the last of them.
        longest: the most tokens of a reply, the end included.

    Attributes:
        ids: the tokens of every reply, then filler (the end's number), (S, longest).
        mask: True for the tokens of a reply, its end included, (S, longest).
        states: for each token the number of what stands before it, 0 for nothing, (S, longest).
        n_states: how many beginnings there are.

    """

    def __init__(self, words: Sequence[str], longest: int = 4) -> None:
        self.words, self.longest, self.end = tuple(words), longest, len(words)
        replies: list[tuple[int, ...]] = []
        for length in range(longest):
            replies += [(*said, self.end) for said in product(range(len(words)), repeat=length)]
        replies += product(range(len(words)), repeat=longest)
        numbers: dict[tuple[int, ...], int] = {}  # of what stands before a token
        for length in range(longest):
            for said in product(range(len(words)), repeat=length):
                numbers[said] = len(numbers)
        self.n_states = len(numbers)
        self.ids = torch.full((len(replies), longest), self.end)
        self.mask = torch.zeros(len(replies), longest, dtype=torch.bool)
        self.states = torch.zeros(len(replies), longest, dtype=torch.long)
        for row, reply in enumerate(replies):
            self.ids[row, : len(reply)] = torch.tensor(reply)
            self.mask[row, : len(reply)] = True
            self.states[row, : len(reply)] = torch.tensor(
                [numbers[reply[:i]] for i in range(len(reply))]
            )

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, row: int) -> str:
        """Return a reply as words; one that was cut off ends in an ellipsis."""
        said = [self.words[i] for i in self.ids[row][self.mask[row]].tolist() if i != self.end]
        ended = bool((self.ids[row][self.mask[row]] == self.end).any())
        return " ".join(said) + ("" if ended else " …")


class TabularPolicy(nn.Module):
    """A policy with a number for every word behind every beginning: it can be any distribution over replies.

    Args:
        space: the replies.
        logits: what the table holds at first, (states, words + 1); zeros if not given.

    Attributes:
        logits: the table.
        worth: a value for every beginning, for lesson 19's critic, (states,).

    """

    def __init__(self, space: ReplySpace, logits: Tensor | None = None) -> None:
        super().__init__()
        self.space = space
        shape = (space.n_states, len(space.words) + 1)
        first = torch.zeros(shape) if logits is None else logits.detach().clone()
        self.logits = nn.Parameter(first)
        self.worth = nn.Parameter(torch.zeros(space.n_states, dtype=first.dtype))

    def forward(
        self, rows: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"], Float[Tensor, "batch n"]]:
        """Return, for each token of some replies, its log-probability, the entropy of the draw, and the value.

        Args:
            rows: the numbers of the replies.

        Returns:
            Three tensors, 0 behind the end of a reply.

        """
        mask, states, ids = (
            each.to(rows.device)[rows]
            for each in (self.space.mask, self.space.states, self.space.ids)
        )  # (B, n)
        log_p = self.logits.log_softmax(dim=-1)[states]  # (B, n, words + 1)
        said = log_p.gather(-1, ids[..., None]).squeeze(-1)  # (B, n)
        entropy = -(log_p.exp() * log_p).sum(dim=-1)  # (B, n)
        return said * mask, entropy * mask, self.worth[states] * mask

    def log_probs(self) -> Float[Tensor, "replies"]:
        """Return the log-probability of every reply; together they make 1."""
        return self(torch.arange(len(self.space), device=self.logits.device))[0].sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Int[Tensor, "n"]:
        """Draw the numbers of n replies."""
        return torch.multinomial(self.log_probs().exp().cpu(), n, True, generator=generator)


def closed_form(
    reference: Float[Tensor, "... replies"], rewards: Float[Tensor, "... replies"], beta: float
) -> Float[Tensor, "... replies"]:
    """Return the log-probabilities of the policy that maximises E[reward] − β · KL(policy ‖ reference).

    It is π*(y) = π_ref(y) · exp(r(y)/β) / Z (Rafailov et al. 2023, "Direct Preference Optimization", equation 4;
    Korbak et al. 2022, "RL with KL penalties is better viewed as Bayesian inference", section 3).

    Args:
        reference: the log-probability of every reply under π_ref.
        rewards: the reward of every reply.
        beta: the price of a nat of KL, above 0.

    """
    return (reference + rewards / beta).log_softmax(dim=-1)


def total_variation(
    p: Float[Tensor, "... replies"], q: Float[Tensor, "... replies"]
) -> Float[Tensor, "..."]:
    """Return half the sum of |p − q|, both given by log-probabilities.

    It is the most by which the two can differ about the probability of any set of replies.
    """
    return 0.5 * (p.exp() - q.exp()).abs().sum(dim=-1)


def kl_divergence(
    p: Float[Tensor, "... replies"], q: Float[Tensor, "... replies"]
) -> Float[Tensor, "..."]:
    """Return KL(p ‖ q) in nats, both given by log-probabilities; a reply of probability 0 under p adds nothing."""
    each = p.exp() * (p - q)  # (..., S)
    return each.masked_fill(p == -torch.inf, 0).sum(dim=-1)


def beta_for(reference: Tensor, rewards: Tensor, nats: float) -> float:
    """Return the β at which the closed form lies ``nats`` from the reference: KL falls as β grows.

    Raises:
        ValueError: no β leads so far.

    """
    low, high = 1e-3, 1e3
    if not nats < float(kl_divergence(closed_form(reference, rewards, low), reference)):
        raise ValueError(f"No policy of this form lies {nats} nats from the reference.")
    for _ in range(100):
        middle = (low * high) ** 0.5
        far = float(kl_divergence(closed_form(reference, rewards, middle), reference)) > nats
        low, high = (middle, high) if far else (low, middle)
    return (low * high) ** 0.5
