"""Vectors laid out in the plane, to be looked at: t-SNE."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def plane(
    vectors: Float[Tensor, "n d"],
    generator: torch.Generator,
    perplexity: float = 30.0,
    steps: int = 300,
) -> Float[Tensor, "n 2"]:
    """Lay vectors out in the plane so that neighbours stay neighbours, by t-SNE.

    Van der Maaten and Hinton 2008, with the cosine distance. Each vector's chances p of naming each other
    one as its neighbour are matched by chances q between points of the plane; distances beyond the near
    ones mean little.

    Args:
        vectors: at least three times ``perplexity`` rows.
        generator: a CPU generator, for the starting places.
        perplexity: about how many neighbours each vector has.
        steps: of gradient descent; in the first third p is exaggerated, so that clusters form.

    """
    unit = F.normalize(vectors.float(), dim=-1)  # (n, d)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)  # (n, n)
    distance = (1 - unit @ unit.T).masked_fill(itself, math.inf)  # (n, n)
    # Each row's sharpness is found by bisection, on a log scale, so that its entropy is log(perplexity).
    low = torch.full((len(unit), 1), -5.0, device=unit.device)  # (n, 1)
    high = torch.full_like(low, 10.0)  # (n, 1)
    for _ in range(30):
        middle = (low + high) / 2  # (n, 1)
        p = torch.softmax(-distance * middle.exp(), dim=1)  # (n, n)
        entropy = -torch.xlogy(p, p).sum(dim=1, keepdim=True)  # (n, 1)
        too_flat = entropy > math.log(perplexity)  # (n, 1)
        low, high = torch.where(too_flat, middle, low), torch.where(too_flat, high, middle)
    p = (p + p.T) / (2 * len(p))  # (n, n), sums to 1
    y = (torch.randn(len(p), 2, generator=generator) * 1e-2).to(unit.device)  # (n, 2)
    speed = torch.zeros_like(y)  # (n, 2)
    for step in range(steps):
        near = (1 / (1 + torch.cdist(y, y) ** 2)).masked_fill(itself, 0)  # (n, n)
        exaggerated = 12 if step < steps // 3 else 1
        pull = (exaggerated * p - near / near.sum()) * near  # (n, n)
        gradient = 4 * (pull.sum(dim=1, keepdim=True) * y - pull @ y)  # (n, 2)
        speed = (0.5 if step < steps // 3 else 0.8) * speed - len(p) / 12 * gradient
        y = y + speed
        y = y - y.mean(dim=0)
    return y
