"""A conversation as one row of tokens, what of it is learnt, and many of them in a batch (lesson 18)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.tokenization import Tokenizer
from course_lib.training.causal import packed

END = "<|end|>"
SPEAKERS = {"user": "<|user|>", "assistant": "<|assistant|>"}


@dataclass(frozen=True)
class Turn:
    """What one speaker says.

    Attributes:
        speaker: "user" or "assistant".
        text: the words.

    """

    speaker: str
    text: str


def render_chat(turns: Sequence[Turn], tokenizer: Tokenizer, ask: bool = False) -> list[int]:
    """Return a conversation as ids: for each turn its speaker's token, the text, and the token of the end.

    Only the template makes special tokens. What a user types is ordinary text, even where it spells one, so
    nobody can speak in the assistant's name.

    Args:
        turns: who said what, in order.
        tokenizer: has the special tokens of ``SPEAKERS`` and ``END``.
        ask: add the assistant's token, behind which the model answers.

    Returns:
        The ids. A text stands behind a space, as words do in the middle of a text.

    Raises:
        ValueError: a turn has another speaker.

    """
    ### BEGIN SOLUTION
    ids: list[int] = []
    for turn in turns:
        if turn.speaker not in SPEAKERS:
            raise ValueError(f"A speaker is one of {', '.join(SPEAKERS)}: not {turn.speaker!r}.")
        ids.append(tokenizer.special[SPEAKERS[turn.speaker]])
        ids += tokenizer.encode(" " + turn.text)
        ids.append(tokenizer.special[END])
    if ask:
        ids.append(tokenizer.special[SPEAKERS["assistant"]])
    return ids
    ### END SOLUTION


def response_mask(
    ids: Int[Tensor, "batch n"], user: int, assistant: int, end: int
) -> Bool[Tensor, "batch n"]:
    """Mark the tokens that the assistant has to write: its texts, and the end of each.

    Args:
        ids: conversations as `render_chat` makes them, with any padding behind them.
        user: the id of the user's token.
        assistant: the id of the assistant's.
        end: the id of the token that ends a turn.

    Returns:
        True for the tokens behind an assistant's token, up to and with the next end. Neither the assistant's
        token itself, nor a user's turn with its end, nor what stands between turns is marked.

    """
    ### BEGIN SOLUTION
    opens = ids == assistant  # (B, n)
    closes = (ids == end) | (ids == user)  # (B, n)
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)  # (n,)
    last_open = (
        (opens * places).cummax(dim=1).values
    )  # (B, n): the latest opening up to here, 0 for none
    last_close = (closes * places).cummax(dim=1).values  # (B, n)
    ended_before = F.pad(
        last_close[:, :-1], (1, 0)
    )  # (B, n): the latest end in front of this token
    return (last_open > ended_before) & ~opens & (ids != user)  # (B, n)
    ### END SOLUTION


def special_ids(tokenizer: Tokenizer) -> tuple[int, int, int]:
    """Return the ids of the user's token, the assistant's, and the end of a turn."""
    user, assistant = (tokenizer.special[each] for each in SPEAKERS.values())
    return user, assistant, tokenizer.special[END]


def pad(rows: Sequence[Sequence[int]], filler: int) -> Int[Tensor, "batch n"]:
    """Return rows of ids as one tensor, the shorter ones filled up behind."""
    longest = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def pack(
    rows: Sequence[Sequence[int]], length: int, filler: int
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Lay conversations into rows of one length, the longest first, each into the first row with room.

    First-fit decreasing: Johnson 1973, "Near-optimal bin packing algorithms". It needs at most about 11/9
    of the rows that are needed at all.

    Args:
        rows: conversations as ids.
        length: of the rows.
        filler: the id behind the last conversation of a row.

    Returns:
        The ids, and for each place the number of its conversation in its row, from 1; 0 for filler.

    Raises:
        ValueError: a conversation is longer than a row.

    """
    longest = max(map(len, rows), default=0)
    if longest > length:
        raise ValueError(f"A conversation of {longest} tokens does not fit a row of {length}.")
    bins = packed([list(row) for row in rows], length)
    ids = torch.full((len(bins), length), filler)
    segments = torch.zeros(len(bins), length, dtype=torch.long)
    for i, together in enumerate(bins):
        begin = 0
        for number, row in enumerate(together, start=1):
            ids[i, begin : begin + len(row)] = torch.tensor(row)
            segments[i, begin : begin + len(row)] = number
            begin += len(row)
    return ids, segments


@contextmanager
def within_segments(model: nn.Module, segments: Int[Tensor, "batch n"]) -> Iterator[None]:
    """Let every token of a model look only at its own conversation, while the context lasts.

    Args:
        model: its attention layers have the place ``attend``, as `MultiHeadAttention` does. Positions count
            through the row: that is right for relative ones (rotary), whose scores see distances alone.
        segments: the number of each token's conversation, as `pack` gives them.

    """
    together = segments[:, None, :, None] == segments[:, None, None, :]  # (B, 1, n, n)

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        allowed = together if mask is None else together & mask  # (B, 1, n, n)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed), None

    layers: list[Any] = [each for each in model.modules() if hasattr(each, "attend")]
    before = [layer.attend for layer in layers]
    try:
        for layer in layers:
            layer.attend = attend
        yield
    finally:
        for layer, one in zip(layers, before):
            layer.attend = one
