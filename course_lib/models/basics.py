"""Dot product, norm, cosine, projection, softmax, and many dot products at once (lesson 00)."""

import torch
from jaxtyping import Float
from torch import Tensor


def dot_product(a: Float[Tensor, "d"], b: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    """Return the dot product of two vectors: Σᵢ aᵢ bᵢ.

    Args:
        a: a vector of d numbers.
        b: another one, as wide.

    Returns:
        One number, as a tensor without axes.

    """
    return (a * b).sum()  # ()


def norm(a: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    """Return the length of each vector: ‖a‖ = √(a·a)."""
    return (a * a).sum(dim=-1).sqrt()  # (...)


def cosine_similarity(a: Float[Tensor, "... d"], b: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
    """Return the cosine of the angle between vectors: a·b / (‖a‖ ‖b‖), from −1 to 1.

    Args:
        a: vectors, one on each last axis.
        b: vectors as wide; the axes before the last broadcast against those of ``a``.

    Returns:
        One number for each pair. A vector of zeros has no direction: its cosine with anything is 0.

    """
    ### BEGIN SOLUTION
    shortest = 1e-8  # stands in for a length of 0, so that 0/0 cannot arise, forward or backward
    length_a = (a * a).sum(dim=-1).clamp(min=shortest**2).sqrt()  # (...)
    length_b = (b * b).sum(dim=-1).clamp(min=shortest**2).sqrt()  # (...)
    return (a * b).sum(dim=-1) / (length_a * length_b)  # (...)
    ### END SOLUTION


def projection(a: Float[Tensor, "... d"], b: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Return the part of ``a`` along ``b``: (a·b / b·b) b. No vector of ``b`` may be zero."""
    share = (a * b).sum(dim=-1, keepdim=True) / (b * b).sum(dim=-1, keepdim=True)  # (..., 1)
    return share * b  # (..., d)


def matrix_product(a: Float[Tensor, "n d"], b: Float[Tensor, "d m"]) -> Float[Tensor, "n m"]:
    """Return the matrix product as what it means: entry (i, j) is row i of ``a`` · column j of ``b``.

    One dot product after another: to be read, not to be used. ``a @ b`` gives the same at once.
    """
    rows = [torch.stack([dot_product(row, column) for column in b.T]) for row in a]  # n × (m,)
    return torch.stack(rows)  # (n, m)


def softmax(x: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Turn scores into shares: exp(xᵢ) / Σⱼ exp(xⱼ), along one axis.

    Args:
        x: scores of any size and sign.
        dim: the axis along which the shares add up to 1.

    Returns:
        Positive numbers in the shape of ``x``; no score is too large for it.

    """
    ### BEGIN SOLUTION
    # Taking the same number from all scores changes no share, and no power of e can exceed 1 now.
    powers = (x - x.amax(dim=dim, keepdim=True)).exp()  # as x
    return powers / powers.sum(dim=dim, keepdim=True)  # as x
    ### END SOLUTION


def batched_scores(
    queries: Float[Tensor, "batch n_q d"], keys: Float[Tensor, "batch n_k d"]
) -> Float[Tensor, "batch n_q n_k"]:
    """Return every dot product of a query with a key of the same batch entry.

    Args:
        queries: n_q vectors in each batch entry.
        keys: n_k vectors in each batch entry, as wide as the queries.

    Returns:
        Scores: a row for each query, a column for each key.

    """
    ### BEGIN SOLUTION
    return queries @ keys.transpose(-2, -1)  # (batch, n_q, d) @ (batch, d, n_k)
    ### END SOLUTION
