"""Muon: momentum whose update, for each matrix, is made orthogonal (lesson 13)."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# The odd polynomial a·x + b·x³ + c·x⁵, applied to the singular values again and again, brings those
# between 0 and 1 near to 1 quickly and not exactly. Jordan et al. 2024.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(
    matrices: Float[Tensor, "... rows columns"], steps: int = 5
) -> Float[Tensor, "... rows columns"]:
    """Return matrices with the same singular vectors, whose singular values are all near 1.

    Newton–Schulz iteration: only products, no decomposition. Jordan et al. 2024, "Muon: An optimizer for
    hidden layers in neural networks".

    Args:
        matrices: one or several.
        steps: how often the polynomial is applied; 5 bring all but the smallest between about 0.7 and 1.2.

    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # (..., r, k), r ≤ k
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # singular values between 0 and 1
    for _ in range(steps):
        gram = x @ x.mT  # (..., r, r)
        x = a * x + (b * gram + c * gram @ gram) @ x  # (..., r, k)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, for the matrices inside a model.

    Jordan et al. 2024. A step changes every direction of a matrix by about as much, also those in which
    the gradients are small. For tables of words and for vectors use Adam: they are no matrices in this
    sense. Matrices of equal shape are treated together, which is faster.

    Args:
        params: matrices.
        lr: the size of a step, as a share of an orthogonal matrix.
        momentum: how much of the last steps is kept.
        steps: of `orthogonalise`.

    Raises:
        ValueError: a parameter is no matrix.

    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        steps: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})
        for group in self.param_groups:
            for each in group["params"]:
                if each.ndim != 2:
                    raise ValueError(f"Muon is for matrices: {tuple(each.shape)} has other axes.")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step with the gradients that are there."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for each in group["params"]:
                if each.grad is not None:
                    by_shape.setdefault(tuple(each.shape), []).append(each)
            for (rows, columns), matrices in by_shape.items():
                moved = []
                for each in matrices:
                    gradient: Any = each.grad
                    average = self.state[each].setdefault("average", torch.zeros_like(each))
                    average.lerp_(gradient, 1 - group["momentum"])
                    ahead = gradient.lerp(average, group["momentum"])  # as Nesterov looks ahead
                    moved.append(ahead)
                turned = orthogonalise(torch.stack(moved), group["steps"])
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for each, change in zip(matrices, turned):
                    each.sub_(change, alpha=size)
