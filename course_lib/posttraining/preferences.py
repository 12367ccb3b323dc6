"""Pairs and thumbs as a model reads them, learning from them, and annotators that follow written rules (lesson 20)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.dpo import sequence_logprob
from course_lib.posttraining.rewards import Rows, as_rows
from course_lib.runtime import progress


@torch.no_grad()
def logprobs_of(model: nn.Module, rows: Rows, batch: int = 128) -> Float[Tensor, "replies"]:
    """Return the log-probabilities of many replies, those of like length together, on the CPU."""
    device = next(model.parameters()).device
    found = torch.empty(len(rows))
    places = torch.arange(rows.mask.shape[1])  # (n,)
    for some in (rows.mask * places).amax(dim=1).argsort().split(batch):
        taken = rows.take(some).to(device)
        found[some] = sequence_logprob(model(taken.ids), taken.ids, taken.mask).float().cpu()
    return found


@dataclass(frozen=True)
class Compared:
    """What the losses of lesson 20 are made of, for a batch of pairs: a tensor (B,) each.

    Attributes:
        chosen: the policy's log-probabilities of the preferred replies.
        rejected: those of the others.
        reference_chosen: the reference's log-probabilities of the preferred replies.
        reference_rejected: those of the others.
        n_chosen: the numbers of tokens of the preferred replies.
        n_rejected: those of the others.

    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    n_chosen: Tensor
    n_rejected: Tensor


class Pairs:
    """Prompts with two replies each, the preferred one first, and what the reference thinks of them.

    Args:
        prompts: what users say.
        chosen: the preferred replies.
        rejected: the others.
        tokenizer: has the special tokens of the template.
        reference: the policy that training starts from; it is asked once.

    """

    def __init__(
        self,
        prompts: Sequence[str],
        chosen: Sequence[str],
        rejected: Sequence[str],
        tokenizer: Tokenizer,
        reference: nn.Module,
    ) -> None:
        self.n = len(prompts)
        self.rows = as_rows([*prompts, *prompts], [*chosen, *rejected], tokenizer)  # 2 · pairs
        self.reference = logprobs_of(reference, self.rows)  # (2 · pairs,)

    def __len__(self) -> int:
        return self.n

    def compare(self, model: nn.Module, some: Int[Tensor, "batch"]) -> Compared:
        """Ask a policy about some pairs; both replies go through it in one pass."""
        device = next(model.parameters()).device
        both = torch.cat([some, some + self.n])  # (2B,)
        taken = self.rows.take(both).to(device)
        policy = sequence_logprob(model(taken.ids), taken.ids, taken.mask)  # (2B,)
        reference, lengths = self.reference[both].to(device), taken.mask.sum(dim=1)  # (2B,)
        return Compared(*policy.chunk(2), *reference.chunk(2), *lengths.chunk(2))


class Thumbs:
    """Prompts with one reply each, and whether it was liked.

    Args:
        prompts: what users say.
        replies: what was answered.
        liked: True for a thumb up.
        tokenizer: has the special tokens of the template.
        reference: the policy that training starts from.

    """

    def __init__(
        self,
        prompts: Sequence[str],
        replies: Sequence[str],
        liked: Sequence[bool],
        tokenizer: Tokenizer,
        reference: nn.Module,
    ) -> None:
        self.liked = torch.tensor(liked)
        self.rows = as_rows(prompts, replies, tokenizer)
        others = [*replies[-1:], *replies[:-1]]  # each prompt with its neighbour's reply
        self.mismatched = as_rows(prompts, others, tokenizer)
        self.reference = logprobs_of(reference, self.rows)  # (replies,)
        self.reference_mismatched = logprobs_of(reference, self.mismatched)  # (replies,)

    def __len__(self) -> int:
        return len(self.liked)

    def compare(
        self, model: nn.Module, some: Int[Tensor, "batch"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the first five arguments of `kto_loss` for some replies."""
        device = next(model.parameters()).device
        rows, others = self.rows.take(some).to(device), self.mismatched.take(some).to(device)
        policy = sequence_logprob(model(rows.ids), rows.ids, rows.mask)  # (B,)
        with torch.no_grad():
            away = sequence_logprob(model(others.ids), others.ids, others.mask)  # (B,)
        known = (self.reference, self.liked, self.reference_mismatched)
        reference, liked, reference_away = (each[some].to(device) for each in known)
        return policy, reference, liked, away, reference_away


def tune(
    model: nn.Module,
    n: int,
    loss: Callable[[nn.Module, Tensor], Tensor],
    *,
    steps: int,
    batch: int = 32,
    rate: float = 1e-4,
    seed: int = 0,
    desc: str = "",
    after: Callable[[int], Any] | None = None,
) -> list[float]:
    """Train a policy on preferences, and return the loss of each step.

    Args:
        model: is changed.
        n: how many pairs (or thumbs) there are.
        loss: makes the mean loss of the pairs with the numbers that it is given: ``loss(model, some)``.
        steps: how many; every pair is seen once before one is seen again.
        batch: pairs in a step.
        rate: AdamW's learning rate: it rises over the first tenth of the steps, and falls to 0 in a line.
        seed: of the order.
        desc: stands at the progress bar.
        after: is called before the first step and behind each with the number of steps made.

    """
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-steps * batch // n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(rounds)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    losses = []
    model.train()
    if after is not None:
        after(0)
    for step in progress(range(steps), desc=desc):
        value = loss(model, order[step * batch : (step + 1) * batch])
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
        if after is not None:
            after(step + 1)
    model.eval()
    return losses


# --- written rules -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Article:
    """One article of a constitution.

    Attributes:
        text: what is to be preferred, in words.
        merit: how well a reply to a prompt keeps it: ``merit(prompt, reply)``; only the order counts.

    """

    text: str
    merit: Callable[[str, str], float]


@dataclass(frozen=True)
class Constitution:
    """Articles in the order of their rank: the first that tells two replies apart decides.

    Bai et al. 2022, "Constitutional AI: Harmlessness from AI Feedback", let a large language model read such
    articles; what reads them here the lesson says.
    """

    articles: tuple[Article, ...]

    def verdict(self, prompt: str, first: str, second: str) -> tuple[float, Article | None]:
        """Return whether the first reply is preferred (1 or 0, ½ where no article decides), and which decided."""
        for article in self.articles:
            one, other = article.merit(prompt, first), article.merit(prompt, second)
            if one != other:
                return float(one > other), article
        return 0.5, None
