"""Muon: its iteration against a decomposition, its steps against PyTorch's, and what it refuses."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.models.gpt import GPT, GPTConfig
from course_lib.training.muon import Muon, Together, configure_muon, orthogonalise

seeds = st.integers(0, 2**31)


def with_singular_values(values: Tensor, rows: int, columns: int, seed: int) -> Tensor:
    """Return a matrix with random singular vectors and these singular values."""
    g = torch.Generator().manual_seed(seed)
    small = len(values)
    left, right = (
        torch.linalg.qr(torch.randn(size, small, dtype=torch.float64, generator=g)).Q
        for size in (rows, columns)
    )
    return (left * values) @ right.T


# --- the iteration -------------------------------------------------------------------------------


@given(
    seed=seeds, small=st.integers(1, 12), more=st.integers(0, 9), tall=st.booleans(),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
)  # fmt: skip
def test_singular_values_come_near_to_one_and_vectors_stay(
    seed: int, small: int, more: int, tall: bool, scale: float
) -> None:
    """U f(Σ) Vᵀ with f between 0.66 and 1.22, wherever a singular value is not tiny beside the norm."""
    g = torch.Generator().manual_seed(seed)
    values = scale * (0.1 + 0.9 * torch.rand(small, dtype=torch.float64, generator=g))
    shape = (small + more, small) if tall else (small, small + more)
    matrix = with_singular_values(values, *shape, seed)
    turned = orthogonalise(matrix)
    assert turned.shape == matrix.shape
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ turned @ vt.T
    assert (inside.diagonal() > 0.66).all()
    assert (inside.diagonal() < 1.22).all()
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), rtol=0, atol=1e-9)
    torch.testing.assert_close(turned, u @ inside @ vt, rtol=0, atol=1e-9)


def test_without_a_step_it_is_the_matrix_of_norm_one() -> None:
    matrix = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalise(matrix, 0), matrix / (matrix.norm() + 1e-7))


def test_several_at_once_are_each_alone() -> None:
    many = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = orthogonalise(many)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], orthogonalise(many[i, j]))


def test_a_gradient_of_zero_stays_zero() -> None:
    assert torch.equal(orthogonalise(torch.zeros(3, 2)), torch.zeros(3, 2))


# --- the optimiser -------------------------------------------------------------------------------


def layers(seed: int = 0) -> nn.ModuleList:
    torch.manual_seed(seed)
    return nn.ModuleList([nn.Linear(6, 6, False), nn.Linear(6, 24, False), nn.Linear(24, 6, False)])


def give_gradients(model: nn.Module, g: torch.Generator) -> None:
    for each in model.parameters():
        each.grad = torch.randn(each.shape, generator=g)


def test_steps_are_pytorchs() -> None:
    """`torch.optim.Muon` works in bfloat16, so the two agree to its two to three digits."""
    mine, yours = layers(), layers()
    start = [each.detach().clone() for each in mine.parameters()]
    my_optimizer = Muon(mine.parameters(), lr=0.02, momentum=0.9)
    your_optimizer = torch.optim.Muon(yours.parameters(), lr=0.02, momentum=0.9, weight_decay=0.0)
    for step in range(4):
        for model, optimizer in ((mine, my_optimizer), (yours, your_optimizer)):
            give_gradients(model, torch.Generator().manual_seed(step))
            optimizer.step()
    for begun, my_weight, your_weight in zip(start, mine.parameters(), yours.parameters()):
        moved = (your_weight - begun).norm()
        assert (my_weight - your_weight).norm() < 0.03 * moved


def test_the_first_step_is_the_gradient_made_orthogonal() -> None:
    weight = nn.Parameter(torch.zeros(8, 2, dtype=torch.float64))
    weight.grad = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    Muon([weight], lr=0.1).step()
    torch.testing.assert_close(
        weight.detach(), -0.1 * 4**0.5 * orthogonalise(weight.grad), rtol=1e-6, atol=1e-9
    )  # a tall matrix steps √(rows / columns) as far


def test_all_directions_move_alike() -> None:
    """A gradient of 100 in one direction and of 1 in another moves both by about as much."""
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
    Muon([weight], lr=1.0, steps=10).step()
    moved = -weight.detach().diagonal()
    assert 0.5 < moved[1] / moved[0] < 2


def test_it_learns() -> None:
    torch.manual_seed(0)
    x, aim = torch.randn(64, 6), torch.randn(6, 6)
    model = nn.Linear(6, 6, bias=False)
    optimizer = Muon(model.parameters(), lr=0.05)
    losses = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 200)
        loss = (model(x) - x @ aim).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.01 * losses[0]


def test_saved_and_loaded_it_goes_on_exactly() -> None:
    one, other = layers(), layers()
    first, second = Muon(one.parameters()), Muon(other.parameters())
    give_gradients(one, torch.Generator().manual_seed(0))
    first.step()
    other.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizer in ((one, first), (other, second)):
        give_gradients(model, torch.Generator().manual_seed(1))
        optimizer.step()
    for mine, yours in zip(one.parameters(), other.parameters()):
        assert torch.equal(mine, yours)


def test_a_parameter_without_a_gradient_stays() -> None:
    model = layers()
    before = [each.detach().clone() for each in model.parameters()]
    Muon(model.parameters()).step()
    for old, new in zip(before, model.parameters()):
        assert torch.equal(old, new)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Muon is for matrices"):
        Muon([nn.Parameter(torch.zeros(shape))])


# --- beside AdamW --------------------------------------------------------------------------------


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    model = GPT(GPTConfig(13, 8, 12, 2, 2))
    optimizer = configure_muon(model, 0.01, times=3.0, weight_decay=0.2, betas=(0.8, 0.9))
    muon, tables, vectors = optimizer.param_groups
    assert len(muon["params"]) == 2 * 6
    assert {id(each) for each in tables["params"]} == {
        id(model.words.weight),
        id(model.positions.table),
    }
    assert {each.ndim for each in vectors["params"]} == {1}
    held = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(held) == sorted(id(each) for each in model.parameters())
    assert (muon["lr"], muon["times"], tables["lr"]) == (0.03, 3.0, 0.01)
    assert (tables["weight_decay"], vectors["weight_decay"]) == (0.2, 0.0)
    assert tables["betas"] == (0.8, 0.9)


def test_recurrent_layers_have_matrices_too() -> None:
    model = nn.ModuleList([nn.Embedding(5, 4), nn.LSTM(4, 3), nn.Linear(3, 4)])
    model[2].weight.requires_grad_(False)
    muon, tables, vectors = configure_muon(model, 0.01).param_groups
    assert [tuple(each.shape) for each in muon["params"]] == [(12, 4), (12, 3)]
    assert [tuple(each.shape) for each in tables["params"]] == [(5, 4)]
    assert len(vectors["params"]) == 3


def test_together_is_each_alone_and_its_state_is_kept() -> None:
    one, other = layers(), layers()
    first_of = [[next(m.parameters())] for m in (one, other)]
    rest_of = [list(m.parameters())[1:] for m in (one, other)]
    both = Together(Muon(first_of[0]), torch.optim.AdamW(rest_of[0], lr=0.01))
    alone = [Muon(first_of[1]), torch.optim.AdamW(rest_of[1], lr=0.01)]
    for step in range(2):
        give_gradients(one, torch.Generator().manual_seed(step))
        give_gradients(other, torch.Generator().manual_seed(step))
        both.step()
        for each in alone:
            each.step()
    both.zero_grad()
    assert all(each.grad is None for each in one.parameters())
    third = layers()
    third.load_state_dict(one.state_dict())
    resumed = Together(
        Muon([next(third.parameters())]), torch.optim.AdamW(list(third.parameters())[1:])
    )
    resumed.load_state_dict(copy.deepcopy(both.state_dict()))
    assert [group["lr"] for group in resumed.param_groups] == [0.02, 0.01]
    for model, steppers in ((other, alone), (third, [resumed])):
        give_gradients(model, torch.Generator().manual_seed(9))
        for each in steppers:
            each.step()
    for mine, yours in zip(third.parameters(), other.parameters()):
        assert torch.equal(mine, yours)
