"""Muon: momentum whose update, for each matrix, is made orthogonal (lesson 13)."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
    a, b, c = 3.4445, -4.7750, 2.0315  # a·x + b·x³ + c·x⁵ for each singular value x
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


class Together(torch.optim.Optimizer):
    """Several optimisers, each with parameters of its own, that step as one.

    Args:
        optimizers: they share no parameter.

    """

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        super().__init__(
            [each for one in optimizers for group in one.param_groups for each in group["params"]],
            {},
        )
        self.optimizers = optimizers
        self._collect()

    def _collect(self) -> None:
        self.param_groups = [group for one in self.optimizers for group in one.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Let each of them make its step."""
        for one in self.optimizers:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all of them."""
        return {"optimizers": [one.state_dict() for one in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from such states."""
        for one, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            one.load_state_dict(state)
        self._collect()


def configure_muon(
    model: nn.Module,
    learning_rate: float,
    times: float = 1.0,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> Together:
    """Return Muon for the matrices of linear and of recurrent layers, and AdamW for everything else.

    Args:
        model: whose parameters are updated.
        learning_rate: of AdamW's two groups.
        times: Muon's rate is as many times as large (`Trainer` keeps the ratio).
        weight_decay: of the tables; vectors and what Muon updates have 0.
        betas: Adam's two averages.

    """
    inside = [
        each
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.RNNBase)
        for each in module.parameters(recurse=False)
        if each.ndim == 2 and each.requires_grad
    ]
    taken = {id(each) for each in inside}
    others = [each for each in model.parameters() if each.requires_grad and id(each) not in taken]
    groups = [
        {"params": [each for each in others if each.ndim >= 2], "weight_decay": weight_decay},
        {"params": [each for each in others if each.ndim < 2], "weight_decay": 0.0},
    ]
    muon = Muon([{"params": inside, "times": times}], lr=times * learning_rate)  # type: ignore[list-item]
    return Together(muon, torch.optim.AdamW(groups, lr=learning_rate, betas=betas))
