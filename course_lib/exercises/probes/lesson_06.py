"""How lesson 06's exercises are called."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.probing import gradients, pair


def length_mask(function: Callable[..., Any], lengths: Tensor, n: int) -> dict[str, Any]:
    """Call ``length_mask(lengths, n)``."""
    return {"mask": function(lengths, n)}


def additive_attention(
    function: Callable[..., Any],
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    w_query: Tensor,
    w_key: Tensor,
    v: Tensor,
    mask: Tensor,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``additive_attention`` and return outputs, weights and gradients."""
    wrt = {
        "queries": queries.requires_grad_(),
        "keys": keys.requires_grad_(),
        "values": values.requires_grad_(),
        "w_query": w_query.requires_grad_(),
        "w_key": w_key.requires_grad_(),
        "v": v.requires_grad_(),
    }
    returned = function(queries, keys, values, w_query, w_key, v, mask)
    output, weights = pair("additive_attention", returned)
    found = {"output": output, "weights": weights}
    if isinstance(output, Tensor) and output.shape == cotangent.shape:
        found |= gradients(output, cotangent, wrt)
    return found


def table_step(table: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a ``step`` that reads a table of log-probabilities.

    Args:
        table: (number of prefixes, words): row r belongs to the prefix whose tokens after the start, read as
            digits, number it (the empty prefix first, then those of one token, of two …).

    """
    words = table.shape[1]

    def step(prefixes: Tensor) -> Tensor:
        if prefixes.ndim != 2:
            raise ValueError(
                f"step was given a tensor of shape {tuple(prefixes.shape)} and takes prefixes (k, t)"
            )
        number = torch.zeros(len(prefixes), dtype=torch.long, device=prefixes.device)
        for column in range(1, prefixes.shape[1]):
            number = number * words + prefixes[:, column] + 1
        if bool((number >= len(table)).any()):
            raise ValueError("step was given a prefix that already has max_length tokens")
        return table.to(prefixes.device)[number]

    return step


def beam_search(
    function: Callable[..., Any],
    table: Tensor,
    end: int,
    beam: int,
    max_length: int,
    alpha: float,
) -> dict[str, Any]:
    """Call ``beam_search(step, start, end, beam, max_length, alpha)`` on a model that is a table."""
    returned = function(table_step(table), table.shape[1] - 1, end, beam, max_length, alpha)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"beam_search returned {type(returned).__name__} and should return a pair: tokens, score."
        )
    tokens, score = returned
    if isinstance(tokens, Tensor):
        tokens = tokens.tolist()
    if isinstance(score, Tensor) and score.numel() == 1:
        score = score.item()
    return {"tokens": [*tokens], "score": score}


def bleu(
    function: Callable[..., Any],
    hypotheses: list[list[str]],
    references: list[list[str]],
    max_n: int | None,
) -> dict[str, Any]:
    """Call ``bleu(hypotheses, references[, max_n])``."""
    rest = () if max_n is None else (max_n,)
    return {"BLEU": function(hypotheses, references, *rest)}
