"""A reward model: a language model's trunk with one number at its end, learnt from comparisons (lesson 19)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.gpt import GPT
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.chat import END, Turn, pad, render_chat
from course_lib.runtime import progress
from course_lib.training.optimiser import lr_at


def reward_loss(
    chosen: Float[Tensor, "pairs"], rejected: Float[Tensor, "pairs"]
) -> Float[Tensor, ""]:
    """Return how badly scores explain which of two replies was preferred, in nats.

    Under Bradley & Terry's model (1952) reply 1 is preferred to reply 2 with probability σ(r₁ − r₂); this is
    the mean of −log of the probability of what was chosen. Stiennon et al. 2020, "Learning to summarize from
    human feedback", section 3.4; Ouyang et al. 2022, equation 1.

    Args:
        chosen: the scores of the preferred replies.
        rejected: the scores of the others.

    Returns:
        The mean over the pairs, finite however far the scores are apart.

    """
    ### BEGIN SOLUTION
    return -F.logsigmoid(chosen - rejected).mean()
    ### END SOLUTION


def read(
    model: nn.Module, ids: Int[Tensor, "batch n"]
) -> tuple[Float[Tensor, "batch n words"], Float[Tensor, "batch n d"]]:
    """Let a GPT read, and return its logits and the vectors that they are made of, behind its last norm."""
    kept: list[Tensor] = []
    norm: Any = model.norm
    handle = norm.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        logits = model(ids)  # (B, n, words)
    finally:
        handle.remove()
    return logits, kept[0]


class RewardModel(nn.Module):
    """Score a prompt and its reply with one number.

    The trunk is a copy of a language model; a linear layer reads the vector of the last token, which has seen
    everything. It begins with zeros, so that no reply is better than another before training.

    Args:
        model: the language model; it is not changed.
        n_blocks: how many of its blocks are kept, from the first; all if not given.

    Attributes:
        shift: is subtracted from every score. Comparisons say nothing about it; see `center`.

    """

    def __init__(self, model: GPT, n_blocks: int | None = None) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(model).requires_grad_(True)
        if n_blocks is not None:
            self.trunk.blocks = self.trunk.blocks[:n_blocks]
        self.head = nn.Linear(model.config.d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(()))

    def forward(
        self, ids: Int[Tensor, "batch n"], mask: Bool[Tensor, "batch n"]
    ) -> Float[Tensor, "batch"]:
        """Return the scores.

        Args:
            ids: prompt and reply of each row, then filler.
            mask: True for the tokens of the reply.

        """
        states = read(self.trunk, ids)[1]  # (B, n, d)
        places = torch.arange(ids.shape[1], device=ids.device)  # (n,)
        last = (mask * places).argmax(dim=1)  # (B,)
        rows = torch.arange(len(ids), device=ids.device)  # (B,)
        return self.head(states[rows, last]).squeeze(-1) - self.shift  # (B,)

    @torch.no_grad()
    def center(self, scores: Float[Tensor, "replies"]) -> None:
        """Shift all scores so that replies which have these scores now have 0 on average."""
        self.shift += scores.mean()


@dataclass(frozen=True)
class Rows:
    """Replies to prompts as a model reads them: ids (B, n), and True for the reply's tokens (B, n)."""

    ids: Int[Tensor, "batch n"]
    mask: Bool[Tensor, "batch n"]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """How many tokens prompt and reply have together."""
        places = torch.arange(1, self.mask.shape[1] + 1, device=self.mask.device)  # (n,)
        return (self.mask * places).amax(dim=1)  # (B,)

    def take(self, rows: Any) -> "Rows":
        """Return some rows, without the columns that all of them leave empty."""
        ids, mask = self.ids[rows], self.mask[rows]
        n = int(mask.any(dim=0).nonzero().max()) + 1
        return Rows(ids[:, :n], mask[:, :n])

    def to(self, device: torch.device) -> "Rows":
        """Return the rows on a device."""
        return Rows(self.ids.to(device), self.mask.to(device))


def as_rows(
    prompts: Sequence[str],
    replies: Sequence[str],
    tokenizer: Tokenizer,
    ended: Sequence[bool] | None = None,
) -> Rows:
    """Return prompts with their replies in the template of a chat.

    Args:
        prompts: what users say.
        replies: what was answered to each.
        tokenizer: has the special tokens.
        ended: whether each reply came to its end; all did if not given.

    """
    ids, begins = [], []
    for i, (prompt, reply) in enumerate(zip(prompts, replies)):
        asked = render_chat([Turn("user", prompt)], tokenizer, ask=True)
        whole = render_chat([Turn("user", prompt), Turn("assistant", reply)], tokenizer)
        ids.append(whole if ended is None or ended[i] else whole[:-1])
        begins.append(len(asked))
    rows = pad(ids, tokenizer.special[END])  # (B, n)
    place = torch.arange(rows.shape[1])  # (n,)
    ends = torch.tensor([len(row) for row in ids])
    return Rows(rows, (place >= torch.tensor(begins)[:, None]) & (place < ends[:, None]))


@torch.no_grad()
def scores_of(model: RewardModel, rows: Rows, batch: int = 256) -> Float[Tensor, "replies"]:
    """Return the scores of many replies on the CPU: equal ones are read once, those of like length together."""
    model.eval()
    device = model.head.weight.device
    both = torch.cat([rows.ids, rows.mask.long()], dim=1).cpu()  # (B, 2n)
    different, back = both.unique(dim=0, return_inverse=True)
    ids, mask = different.chunk(2, dim=1)
    once = Rows(ids, mask.bool())
    scores = torch.empty(len(once))
    for some in once.lengths.argsort().split(batch):
        taken = once.take(some).to(device)
        scores[some] = model(taken.ids, taken.mask).float().cpu()
    return scores[back]


def _alike(
    lengths: Int[Tensor, "pairs"], batch: int, generator: torch.Generator
) -> list[Int[Tensor, "batch"]]:
    """Return all numbers once, in batches of like length and random order: little filler, and still a mixture."""
    order = torch.randperm(len(lengths), generator=generator)
    batches = [
        some
        for chunk in order.split(8 * batch)
        for some in chunk[lengths[chunk].argsort()].split(batch)
    ]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def train_reward_model(
    model: RewardModel,
    chosen: Rows,
    rejected: Rows,
    *,
    epochs: int = 1,
    batch: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
    desc: str = "reward model",
) -> list[float]:
    """Train a reward model on pairs, and return the loss of each step.

    Args:
        model: is changed.
        chosen: the preferred replies.
        rejected: the other reply of each pair.
        epochs: how often every pair is seen.
        batch: pairs in a step.
        rate: AdamW's learning rate at its peak; it rises for a tenth of the steps and falls to 0.
        seed: of the order.
        desc: stands at the progress bar.

    """
    device = model.head.weight.device
    generator = torch.Generator().manual_seed(seed)
    batches = [
        some
        for _ in range(epochs)
        for some in _alike(torch.maximum(chosen.lengths, rejected.lengths), batch, generator)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps, warmup = len(batches), max(1, len(batches) // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: lr_at(i, 1.0, warmup, steps))
    losses = []
    model.train()
    for some in progress(batches, desc=desc):
        scores = [
            model(each.ids, each.mask)
            for each in (chosen.take(some).to(device), rejected.take(some).to(device))
        ]
        loss = reward_loss(*scores)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses
