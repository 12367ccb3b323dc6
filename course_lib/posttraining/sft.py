"""Instruction tuning: the loss on responses alone, and batches of conversations (lesson 18)."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.chat import pad, response_mask, special_ids


def sft_loss(
    logits: Float[Tensor, "batch n words"],
    ids: Int[Tensor, "batch n"],
    mask: Bool[Tensor, "batch n"],
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the marked tokens, in nats.

    Args:
        logits: those at a position are about the token behind it.
        ids: the tokens that were read.
        mask: which of them are learnt. The first token of a row is foretold by nothing and never counts.

    Returns:
        The mean over all marked tokens of the batch, each with the same weight; 0 if there is none.

    """
    ### BEGIN SOLUTION
    learnt = mask[:, 1:]  # (B, n - 1): the first of a row is foretold by nothing
    foretold = logits[:, :-1][learnt]  # (tokens, words)
    lost = F.cross_entropy(foretold, ids[:, 1:][learnt], reduction="sum")
    return lost / learnt.sum().clamp(min=1)
    ### END SOLUTION


class Chats:
    """Draw batches of conversations at random, without end, and mark what is learnt.

    Args:
        rows: conversations as ids.
        tokenizer: has the special tokens of the template.
        batch: the number B of conversations in a batch.
        seed: of the order; every conversation comes once before one comes again.

    """

    def __init__(
        self, rows: Sequence[Sequence[int]], tokenizer: Tokenizer, batch: int, seed: int = 0
    ) -> None:
        self.rows, self.batch = rows, batch
        self.special = special_ids(tokenizer)
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the ids and the mask, (B, n) each."""
        while True:
            order = torch.randperm(len(self.rows), generator=self.generator).tolist()
            for begin in range(0, max(1, len(order) - self.batch + 1), self.batch):
                ids = pad(
                    [self.rows[i] for i in order[begin : begin + self.batch]], self.special[-1]
                )
                yield ids, response_mask(ids, *self.special)


def chat_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the loss of a batch of `Chats`, for `Trainer`."""
    ids, mask = batch
    return sft_loss(model(ids), ids, mask)
