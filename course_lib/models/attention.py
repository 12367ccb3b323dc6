"""Scaled dot-product attention, its masks, and single-head self-attention (lesson 07)."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def attention(
    q: Float[Tensor, "... n_q d_k"],
    k: Float[Tensor, "... n_k d_k"],
    v: Float[Tensor, "... n_k d_v"],
    mask: Bool[Tensor, "... n_q n_k"] | None = None,
) -> tuple[Float[Tensor, "... n_q d_v"], Float[Tensor, "... n_q n_k"]]:
    """Scaled dot-product attention: softmax(q kᵀ / √d_k) v.

    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, equation 1.

    Args:
        q: queries, one row for each position that asks.
        k: keys, one row for each position that may be asked.
        v: values, one row for each key.
        mask: True where a query may attend to a key; None lets everyone attend to everyone.

    Returns:
        The outputs, and the weights that made them. A row of the mask without any True gives zeros in
        both, and no gradient.

    """
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., n_q, n_k)
    if mask is None:
        weights = scores.softmax(dim=-1)  # (..., n_q, n_k)
    else:
        # A finite stand-in for −∞: a row that is masked everywhere stays free of NaN, forward and backward.
        hidden = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~mask, hidden).softmax(dim=-1)  # (..., n_q, n_k)
        weights = weights * mask  # (..., n_q, n_k); a fully masked row becomes zeros
    return weights @ v, weights  # (..., n_q, d_v), (..., n_q, n_k)
    ### END SOLUTION


def causal_mask(
    n_q: int, n_k: int | None = None, device: torch.device | str | None = None
) -> Bool[Tensor, "n_q n_k"]:
    """Return the mask that hides the future: True where a query may attend to a key.

    The last query stands at the last key (the mask is aligned at the bottom right): query i has the
    absolute position i + n_k − n_q, and sees the keys up to that position.

    Args:
        n_q: the number of queries.
        n_k: the number of keys, n_q if not given; n_k > n_q when earlier keys are kept in a cache.
        device: where the mask is made.

    Returns:
        A Boolean tensor of n_q rows and n_k columns.

    """
    ### BEGIN SOLUTION
    if n_k is None:
        n_k = n_q
    position_q = torch.arange(n_q, device=device) + (n_k - n_q)  # (n_q,)
    position_k = torch.arange(n_k, device=device)  # (n_k,)
    return position_k[None, :] <= position_q[:, None]  # (n_q, n_k)
    ### END SOLUTION


def padding_mask(lengths: Int[Tensor, "batch"], n_k: int) -> Bool[Tensor, "batch 1 n_k"]:
    """Return the mask that hides padding: True where a key is a real token of its sentence.

    Args:
        lengths: the number of real tokens of each sentence; they stand first, the padding after them.
        n_k: the padded length.

    Returns:
        A Boolean tensor with an axis of size 1 where queries stand, so that it broadcasts over them.

    """
    ### BEGIN SOLUTION
    position_k = torch.arange(n_k, device=lengths.device)  # (n_k,)
    return position_k[None, None, :] < lengths[:, None, None]  # (batch, 1, n_k)
    ### END SOLUTION


class SelfAttention(nn.Module):
    """Single-head self-attention: every position asks every position of the same sentence.

    Vaswani et al. 2017, section 3.2, with one head and no output projection.

    Args:
        d_model: the width of the input.
        d_k: the width of queries and keys.
        d_v: the width of values, and so of the output.

    """

    def __init__(self, d_model: int, d_k: int, d_v: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(d_model, d_k, bias=False)
        self.to_k = nn.Linear(d_model, d_k, bias=False)
        self.to_v = nn.Linear(d_model, d_v, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch n d_model"],
        lengths: Int[Tensor, "batch"] | None = None,
        causal: bool = False,
    ) -> tuple[Float[Tensor, "batch n d_v"], Float[Tensor, "batch n n"]]:
        """Let the positions of each sentence attend to each other.

        Args:
            x: a batch of sentences, padded at the end to the same length n.
            lengths: the number of real tokens of each sentence; None if there is no padding.
            causal: whether a position is kept from looking at later ones.

        Returns:
            The outputs, and the weights.

        """
        ### BEGIN SOLUTION
        n = x.shape[1]
        mask = torch.ones(1, n, n, dtype=torch.bool, device=x.device)  # (1, n, n)
        if causal:
            mask = mask & causal_mask(n, device=x.device)  # (1, n, n)
        if lengths is not None:
            mask = mask & padding_mask(lengths, n)  # (batch, n, n)
        return attention(self.to_q(x), self.to_k(x), self.to_v(x), mask)
        ### END SOLUTION
