"""Best-of-n: draw n replies and keep the one with the highest score (lesson 19)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def best_of_n(
    scores: Float[Tensor, "... pool"], values: Float[Tensor, "... pool"], n: int
) -> Float[Tensor, "..."]:
    """Return the mean value of the best-scored reply among n, over all choices of n replies from a pool.

    Without bias, and with far less noise than drawing n replies once (Nakano et al. 2021, "WebGPT", appendix I;
    Gao, Schulman & Hilton 2023, appendix). Of all sets of n replies out of N, C(i − 1, n − 1) have the i-th
    lowest as their best. Replies of equal score share what falls to them.

    Args:
        scores: what the best is chosen by.
        values: what is wanted of the best: the score itself, or the gold reward.
        n: how many are drawn, at most the size of the pool.

    Raises:
        ValueError: the pool is too small.

    """
    pool = scores.shape[-1]
    if not 1 <= n <= pool:
        raise ValueError(f"Of {pool} replies no {n} can be drawn.")
    ranked, order = scores.sort(dim=-1)  # (..., N)
    value = values.double().gather(-1, order)  # (..., N)
    i = torch.arange(1, pool + 1, dtype=torch.float64, device=scores.device)  # (N,)
    ways = torch.lgamma(i) - torch.lgamma((i - n + 1).clamp(min=1)) - math.lgamma(n)
    ways = ways - (math.lgamma(pool + 1) - math.lgamma(n + 1) - math.lgamma(pool - n + 1))
    share = ways.exp().masked_fill(i < n, 0)  # (N,): how often the i-th lowest is the best
    flat = ranked.reshape(-1, pool)
    tied = torch.stack([row.unique_consecutive(return_inverse=True)[1] for row in flat])  # (M, N)
    sums = torch.zeros(flat.shape, dtype=torch.float64, device=scores.device)
    count = sums.scatter_add(1, tied, torch.ones_like(sums))
    total = sums.scatter_add(1, tied, value.reshape(-1, pool))
    weight = sums.scatter_add(1, tied, share.expand_as(sums))
    best: Tensor = (weight * total / count.clamp(min=1)).sum(dim=1)
    return best.reshape(scores.shape[:-1])


def kl_bound(n: int) -> float:
    """Return log n − (n − 1)/n: best-of-n is at most so far from what it draws from, in nats.

    It is exact where no two replies are alike, and too large where they are (Beirami et al. 2024,
    "Theoretical guarantees on the best-of-n alignment policy").
    """
    return math.log(n) - (n - 1) / n
