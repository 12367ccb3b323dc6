"""How lesson 04's exercises are called."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.probing import gradients


def perplexity(
    function: Callable[..., Any],
    bits_per_character: Callable[..., Any],
    log_probs: Tensor,
    lengths: Tensor,
    characters: Tensor,
) -> dict[str, Any]:
    """Call ``perplexity(log_probs, lengths)`` and ``bits_per_character(log_probs, lengths, characters)``."""
    # Copies, so that a change that one of the two makes in place does not spoil the other's answer.
    copies = [each.clone() for each in (log_probs, lengths, characters)]
    return {
        "perplexity": function(log_probs, lengths),
        "bits per character": bits_per_character(*copies),
    }


# A table as plain values: for each context, its words with spaces between, what followed it and how often.
PlainTable = Mapping[str, Mapping[str, int]]


def table_of(plain: PlainTable) -> dict[tuple[str, ...], Counter[str]]:
    """Return a table with tuples for contexts and Counters for what follows them."""
    return {tuple(context.split()): Counter(followers) for context, followers in plain.items()}


def kneser_ney_prob(
    continuation_counts: Callable[..., Any],
    function: Callable[..., Any],
    tables: Sequence[PlainTable],
    discounts: Sequence[float],
    n_words: int,
    context: Sequence[str],
    words: Sequence[str],
) -> dict[str, Any]:
    """Call ``continuation_counts(table)`` on the last table, if its contexts have words, and ask for ``words``.

    The counts come back by name, "context → word", the probabilities in one tensor.
    """
    ready = [table_of(each) for each in tables]
    found: dict[str, Any] = {}
    if len(ready) > 1:
        found["continuation counts"] = _named(continuation_counts(table_of(tables[-1])))
    probs = [function(word, tuple(context), ready, list(discounts), n_words) for word in words]
    if any(each is None for each in probs):
        raise TypeError("kneser_ney_prob returned None: is there a `return` at its end?")
    wrong = [each for each in probs if not isinstance(each, (int, float))]
    if wrong:
        raise TypeError(f"kneser_ney_prob should return a float, not a {type(wrong[0]).__name__}.")
    return found | {"probabilities": torch.tensor([float(p) for p in probs], dtype=torch.float64)}


def _named(table: Any) -> dict[str, int]:
    """Return a table's counts under names that can be read; counts of 0 are left out."""
    if table is None:
        raise TypeError("continuation_counts returned None: is there a `return` at its end?")
    if not isinstance(table, Mapping) or not all(
        isinstance(each, Mapping) for each in table.values()
    ):
        raise TypeError(
            "continuation_counts should return a dictionary that holds a Counter for each context."
        )
    if not all(isinstance(context, tuple) for context in table):
        raise TypeError(
            "The contexts of a table are tuples of words, also where one has one word or none."
        )
    return {
        f"{' '.join(map(str, context)) or '(no context)'} → {word}": int(count)
        for context, followers in sorted(table.items())
        for word, count in sorted(followers.items())
        if count
    }


def window_lm_forward(
    function: Callable[..., Any],
    context: Tensor,
    C: Tensor,
    H: Tensor,
    a: Tensor,
    U: Tensor,
    b: Tensor,
    W: Tensor | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``window_lm_forward(context, C, H, a, U, b[, W])``; return logits and gradients."""
    wrt = {"C": C, "H": H, "a": a, "U": U, "b": b} | ({} if W is None else {"W": W})
    for each in wrt.values():
        each.requires_grad_()
    logits = function(context, *wrt.values())
    found: dict[str, Any] = {"logits": logits}
    if isinstance(logits, Tensor) and logits.shape == cotangent.shape:
        found |= gradients(logits, cotangent, wrt)
    return found
