"""Low-rank adaptation: learn a small matrix beside each large one (lesson 18)."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize


class LoRALinear(nn.Module):
    """A linear layer that stays as it is, and a low-rank change beside it that learns.

    Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.

    Args:
        linear: the layer; its weights are frozen.
        rank: the number r of directions that the change reads and writes.
        alpha: the change is scaled by alpha / r, so that the rate need not change with r.

    Attributes:
        a: what the change reads, (r, d_in), drawn at random.
        b: what it writes, (d_out, r), zeros at first: so the layer begins as it was.

    Raises:
        ValueError: the rank is less than 1.

    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if rank < 1:
            raise ValueError(f"A change has a rank of at least 1: not {rank}.")
        self.linear = linear.requires_grad_(False)
        self.scale = alpha / rank
        like: dict[str, Any] = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.a = nn.Parameter(torch.empty(rank, linear.in_features, **like))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank, **like))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        ### END SOLUTION

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """Return what the layer says, and the change."""
        ### BEGIN SOLUTION
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.a), self.b)  # (..., d_out)
        ### END SOLUTION

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return one linear layer that computes the same; it costs what the layer alone did."""
        ### BEGIN SOLUTION
        merged = nn.Linear(
            self.linear.in_features, self.linear.out_features, self.linear.bias is not None,
            device=self.a.device, dtype=self.a.dtype,
        )  # fmt: skip
        merged.weight.copy_(self.linear.weight + self.scale * self.b @ self.a)
        if self.linear.bias is not None:
            merged.bias.copy_(self.linear.bias)
        return merged
        ### END SOLUTION


def add_lora(
    model: nn.Module, rank: int, alpha: float, names: Collection[str] | None = None
) -> nn.Module:
    """Freeze a model and put a `LoRALinear` in the place of its linear layers.

    Args:
        model: is changed itself.
        rank: of every change.
        alpha: as in `LoRALinear`.
        names: the last parts of the names of the layers that change, such as "to_q"; all if not given.

    Returns:
        The model.

    Raises:
        ValueError: no layer has such a name.

    """
    model.requires_grad_(False)
    chosen = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear) and (names is None or name in names)
    ]
    if not chosen:
        raise ValueError(f"No linear layer of the model is called {' or '.join(names or ('so',))}.")
    for parent, name, layer in chosen:
        setattr(parent, name, LoRALinear(layer, rank, alpha))
    return model


class ChangedRows(nn.Module):
    """A table in which a few rows have a learnt change.

    Args:
        rows: the numbers of the rows.
        d_model: their width.

    """

    def __init__(self, rows: Sequence[int], d_model: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", torch.tensor(list(rows)))
        self.change = nn.Parameter(torch.zeros(len(rows), d_model))  # (k, d)

    def forward(self, table: Float[Tensor, "words d"]) -> Float[Tensor, "words d"]:
        """Return the table with the change added."""
        return table.index_add(0, self.rows, self.change)  # (words, d)


def learn_rows(table: nn.Embedding, rows: Sequence[int]) -> nn.Embedding:
    """Freeze a table of words and let a few rows learn, such as those of new tokens.

    In pretraining a token that no text holds only becomes improbable; low-rank changes alone hardly undo that.

    Args:
        table: is changed itself; wherever its weight is used, the change is in it.
        rows: the numbers of the rows.

    Returns:
        The table.

    """
    table.requires_grad_(False)
    changed = ChangedRows(rows, table.embedding_dim).to(table.weight)
    parametrize.register_parametrization(table, "weight", changed)
    return table


def merge_lora(model: nn.Module) -> nn.Module:
    """Put plain layers and tables in the place of changed ones; the model itself is changed."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(parent, name, layer.merge())
            elif parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight")
    return model


def changes(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the names and parameters of a model's low-rank changes: what has to be kept of it."""
    for place, layer in model.named_modules():
        if isinstance(layer, LoRALinear):
            yield f"{place}.a", layer.a
            yield f"{place}.b", layer.b
