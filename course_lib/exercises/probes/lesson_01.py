"""How lesson 01's exercises are called."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def ppmi(function: Callable[..., Any], counts: Tensor, alpha: float | None) -> dict[str, Any]:
    """Call ``ppmi(counts[, alpha])``."""
    return {"PPMI": function(counts) if alpha is None else function(counts, alpha)}


def sgns_loss_and_grads(
    function: Callable[..., Any], centre: Tensor, context: Tensor, negatives: Tensor
) -> dict[str, Any]:
    """Call ``sgns_loss_and_grads(centre, context, negatives)`` and name its four results."""
    returned = function(centre, context, negatives)
    if returned is None:
        raise TypeError("sgns_loss_and_grads returned None: is there a `return` at its end?")
    if not isinstance(returned, tuple) or len(returned) != 4:
        raise TypeError(
            "sgns_loss_and_grads should return four things: the loss and the gradients for centre, "
            f"context and negatives; it returned a {type(returned).__name__}."
        )
    names = ("loss", "gradient of centre", "gradient of context", "gradient of negatives")
    return dict(zip(names, returned))


def analogy(
    function: Callable[..., Any], vectors: Tensor, a: Tensor, b: Tensor, c: Tensor
) -> dict[str, Any]:
    """Call ``analogy(vectors, a, b, c)``."""
    return {"answers": function(vectors, a, b, c)}


def subword_vector(
    character_ngrams: Callable[..., Any],
    function: Callable[..., Any],
    word: str,
    table: dict[str, Tensor],
    n_min: int,
    n_max: int,
) -> dict[str, Any]:
    """Call ``character_ngrams(word, n_min, n_max)`` and ``subword_vector(word, table, n_min, n_max)``.

    The order of the pieces does not matter, so they come back sorted.
    """
    pieces = character_ngrams(word, n_min, n_max)
    if pieces is None:
        raise TypeError("character_ngrams returned None: is there a `return` at its end?")
    return {"pieces": sorted(pieces), "vector": function(word, table, n_min, n_max)}
