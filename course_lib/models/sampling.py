"""Choose the next token: temperature, top-k, top-p, min-p, and generation with a cache (lesson 13)."""

from collections.abc import Callable, Collection

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.models.gpt import GPT

Choose = Callable[[Tensor], Tensor]  # logits (B, words) -> tokens (B,)


def keep_top_k(logits: Float[Tensor, "... words"], k: int) -> Float[Tensor, "... words"]:
    """Set all but the k largest logits to −∞. Fan et al. 2018, "Hierarchical Neural Story Generation".

    Raises:
        ValueError: k is less than 1.

    """
    if k < 1:
        raise ValueError(f"At least one token must be kept: k = {k} keeps none.")
    kept = logits.topk(min(k, logits.shape[-1]), dim=-1)  # (..., k)
    return torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)


def keep_top_p(logits: Float[Tensor, "... words"], p: float) -> Float[Tensor, "... words"]:
    """Keep the fewest most probable tokens whose probabilities reach p together; the rest become −∞.

    The token that reaches p is kept, so that one remains for any p. Holtzman et al. 2020, "The Curious
    Case of Neural Text Degeneration", section 3.1.

    Raises:
        ValueError: p is not above 0 and at most 1.

    """
    if not 0 < p <= 1:
        raise ValueError(f"A share above 0 and at most 1 can be kept: not {p}.")
    probabilities = logits.softmax(dim=-1)  # (..., words)
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)  # (..., words)
    late = ranked.cumsum(dim=-1) - ranked >= p  # (..., words): p was reached before them
    dropped = late.scatter(-1, order, late)  # (..., words), in the tokens' own order
    return logits.masked_fill(dropped, -torch.inf)


def keep_min_p(logits: Float[Tensor, "... words"], p: float) -> Float[Tensor, "... words"]:
    """Keep tokens at least p times as probable as the most probable one; the rest become −∞.

    Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs".

    Raises:
        ValueError: p does not lie between 0 and 1.

    """
    if not 0 <= p <= 1:
        raise ValueError(f"p lies between 0 and 1: {p} does not.")
    most = logits.max(dim=-1, keepdim=True).values  # (..., 1)
    return logits.masked_fill(logits - most < torch.tensor(p).log(), -torch.inf)


def sample_top_p(
    logits: Float[Tensor, "batch words"], p: float, u: Float[Tensor, "batch"]
) -> Int[Tensor, "batch"]:
    """Draw a token for each row from the fewest most probable tokens whose probabilities reach p together.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1, drawn by the inverse
    of the distribution function: the kept tokens stand side by side, the most probable first, each as wide
    as its share of what was kept, from 0 to 1; the one above u is the token.

    Args:
        logits: one row for each text.
        p: above 0 and at most 1. The token that reaches p is kept, so that at least one is.
        u: uniform random numbers, at least 0 and below 1.

    Returns:
        The tokens' numbers. A token of probability 0 is never drawn.

    """
    ### BEGIN SOLUTION
    ranked, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)  # (B, words)
    before = ranked.cumsum(dim=-1) - ranked  # (B, words): what those in front add up to
    kept = (before < p) & (ranked > 0)  # (B, words)
    total = (ranked * kept).sum(dim=-1, keepdim=True)  # (B, 1)
    begun = kept & (before <= u[:, None] * total)  # (B, words): tokens that begin at or below u
    place = begun.sum(dim=-1, keepdim=True) - 1  # (B, 1): the last of them lies above u
    return order.gather(-1, place).squeeze(-1)  # (B,)
    ### END SOLUTION


def draw(
    logits: Float[Tensor, "batch words"], generator: torch.Generator | None = None
) -> Int[Tensor, "batch"]:
    """Draw a token for each row, each with its softmax probability."""
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)


@torch.no_grad()
def generate(
    model: GPT,
    ids: Int[Tensor, "batch n"],
    n_new: int,
    choose: Choose,
    *,
    stop: Collection[int] = (),
    cached: bool = True,
) -> Int[Tensor, "batch n_all"]:
    """Write ``n_new`` tokens behind each row of ``ids``.

    Args:
        model: the model, in evaluation mode.
        ids: what stands there already; all rows have the same length.
        n_new: how many tokens are written at most.
        choose: makes a token of each row of logits, such as `draw`.
        stop: tokens that end a row; what follows one repeats it. Writing ends when all rows have.
        cached: keep keys and values, instead of reading everything again for each token. The same
            tokens are chosen either way.

    Raises:
        ValueError: a cached model has no room for so many positions. (Without a cache it reads the last
            ``max_len`` of them.)

    """
    room = model.config.max_len
    caches = model.empty_caches(len(ids)) if cached else None
    unread = ids  # (B, n), later (B, 1)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)  # (B,)
    stops = torch.tensor(sorted(stop), dtype=ids.dtype, device=ids.device)
    for _ in range(n_new):
        logits = model(unread if cached else ids[:, -room:], caches)[:, -1]  # (B, words)
        chosen = choose(logits)  # (B,)
        chosen = torch.where(ended, ids[:, -1], chosen)
        ids = torch.cat([ids, chosen[:, None]], dim=1)  # (B, n + 1)
        unread = ids[:, -1:]
        ended = ended | torch.isin(chosen, stops)
        if len(stops) and bool(ended.all()):
            break
    return ids
