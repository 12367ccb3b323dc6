"""Span corruption: words that are taken out of a text, marked by sentinels, and put back (lesson 15)."""

import random
from collections.abc import Sequence
from typing import Any


def count_noise(n_tokens: int, rate: float = 0.15, mean_span: float = 3.0) -> tuple[int, int]:
    """Return how many tokens of a text are taken out, and in how many spans.

    Both are rounded, half to even, and both depend on the length alone. At least one token is taken out
    and one is kept, if there are two. As in the code of Raffel et al. 2020 (``random_spans_noise_mask``),
    with one addition: there are never more spans than tokens kept, which stand between them.

    Args:
        n_tokens: the length of the text.
        rate: the share of tokens that is taken out, between 0 and 1.
        mean_span: the mean length of a span, at least 1.

    Returns:
        The number of tokens and the number of spans; 1 and 1 for a text of one token or none, which
        `draw_mask` then shortens.

    Raises:
        ValueError: ``rate`` or ``mean_span`` is out of range.

    """
    if not 0 < rate < 1 or mean_span < 1:
        raise ValueError(
            f"The rate lies between 0 and 1, a span has 1 token or more: not {rate}, {mean_span}."
        )
    n_tokens = max(n_tokens, 2)
    taken = min(max(round(n_tokens * rate), 1), n_tokens - 1)
    spans = max(round(taken / mean_span), 1)
    return taken, min(spans, n_tokens - taken)


def cut_into_pieces(total: int, pieces: int, rng: random.Random) -> list[int]:
    """Return ``pieces`` lengths of at least 1 that add up to ``total``, each such division equally probable."""
    cuts = sorted(rng.sample(range(1, total), pieces - 1))
    return [end - begin for begin, end in zip([0, *cuts], [*cuts, total])]


def draw_mask(
    n_tokens: int, rng: random.Random, rate: float = 0.15, mean_span: float = 3.0
) -> list[bool]:
    """Draw which tokens of a text are taken out: kept and taken pieces take turns, a kept one first.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", section 3.3.4, as its code has it (``random_spans_noise_mask``).

    Args:
        n_tokens: the length of the text.
        rng: the source of random numbers.
        rate: the share of tokens that is taken out, rounded as in `count_noise`.
        mean_span: the mean length of a span, rounded likewise.

    Returns:
        For each token whether it is taken out.

    """
    taken, spans = count_noise(n_tokens, rate, mean_span)
    out = cut_into_pieces(taken, spans, rng)
    kept = cut_into_pieces(max(n_tokens, 2) - taken, spans, rng)
    mask: list[bool] = []
    for some, others in zip(kept, out):
        mask += [False] * some + [True] * others
    return mask[:n_tokens]


def corrupt_spans(
    tokens: Sequence[Any], mask: Sequence[bool], sentinels: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Take the marked tokens out of a text, and write what is to be read and what is to be said.

    In the input each span, a longest run of marked tokens, is replaced by one sentinel, the first span
    by the first sentinel and so on. The target holds each sentinel followed by the tokens of its span,
    and one more sentinel at the end. Raffel et al. 2020, section 3.1.4 and figure 2.

    Args:
        tokens: the text, as words or numbers.
        mask: for each token whether it is taken out.
        sentinels: marks that occur in no text, all different, in the order of their use.

    Returns:
        The input and the target.

    Raises:
        ValueError: the text contains a sentinel, there are too few sentinels (k spans need k + 1), or
            the mask has another length than the text.

    """
    ### BEGIN SOLUTION
    if len(mask) != len(tokens):
        raise ValueError(f"A mask of {len(mask)} for a text of {len(tokens)} tokens.")
    strange = set(sentinels).intersection(tokens)
    if strange:
        raise ValueError(f"The text itself contains {strange}: it could not be restored.")
    read, said, spans = [], [], 0
    before = False  # whether the token before was taken out
    for token, taken in zip(tokens, mask):
        if taken and not before:  # a span begins
            if spans + 1 >= len(sentinels):  # this span's sentinel, and the last one
                raise ValueError(
                    f"More than {max(0, len(sentinels) - 1)} spans: too few sentinels."
                )
            read.append(sentinels[spans])
            said.append(sentinels[spans])
            spans += 1
        (said if taken else read).append(token)
        before = taken
    if not sentinels:
        raise ValueError("Even a target without spans ends with a sentinel: there is none.")
    return read, [*said, sentinels[spans]]
    ### END SOLUTION


def restore_spans(read: Sequence[Any], said: Sequence[Any], sentinels: Sequence[Any]) -> list[Any]:
    """Put the spans of a target back into the input: the inverse of `corrupt_spans`.

    Args:
        read: an input, with the first k sentinels in it, in order.
        said: a target: each of these sentinels followed by its span, and sentinel number k + 1 at the end.
        sentinels: the marks, in the order of their use.

    Returns:
        The text. A span that has no tokens vanishes.

    Raises:
        ValueError: the sentinels of ``read`` are not the first k in order, each once, those of ``said``
            are not the first k + 1, ``said`` does not begin with the first or does not end with the last
            of them.

    """
    ### BEGIN SOLUTION
    known = set(sentinels)
    holes = [token for token in read if token in known]
    marks = [token for token in said if token in known]
    if holes != list(sentinels[: len(holes)]):
        raise ValueError(f"The input has the sentinels {holes}, which are not the first in order.")
    if len(sentinels) <= len(holes) or marks != list(sentinels[: len(holes) + 1]):
        raise ValueError(f"The target has the sentinels {marks}, and the input {holes}.")
    if said[0] != marks[0] or said[-1] != marks[-1]:
        raise ValueError("A target begins with the first sentinel and ends with the last.")
    spans: dict[Any, list[Any]] = {}
    for token in said:
        if token in known:
            spans[token] = span = []
        else:
            span.append(token)
    restored = []
    for token in read:
        restored += spans[token] if token in known else [token]
    return restored
    ### END SOLUTION
