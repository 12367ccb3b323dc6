"""Lesson 13's training: the optimiser's groups, the rate of each step, batches, and exact resume."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.models.gpt import GPT, GPTConfig, next_token_loss
from course_lib.runtime import CourseError
from course_lib.training.loop import Trainer, Windows
from course_lib.training.optimiser import configure_optimizer, lr_at

seeds = st.integers(0, 2**31)


def small(dropout: float = 0.1, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(GPTConfig(13, 8, 12, 2, 2, dropout=dropout))


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return next_token_loss(model(batch[0]), batch[1])


def text() -> Tensor:
    return torch.randint(13, (400,), generator=torch.Generator().manual_seed(7))


# --- the optimiser -------------------------------------------------------------------------------


def test_matrices_decay_and_nothing_else() -> None:
    model = small()
    optimizer = configure_optimizer(model, 0.01, 0.3, (0.8, 0.9))
    decaying, other = optimizer.param_groups
    assert (decaying["weight_decay"], other["weight_decay"]) == (0.3, 0.0)
    assert {each.ndim for each in decaying["params"]} == {2}
    assert {each.ndim for each in other["params"]} == {1}
    held = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(held) == sorted(id(each) for each in model.parameters())
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"]) == (0.01, (0.8, 0.9))


def test_shared_and_frozen_parameters() -> None:
    model = nn.Module()
    model.one, model.two = nn.Linear(3, 4), nn.Linear(3, 4)
    model.two.weight = model.one.weight
    model.one.bias.requires_grad_(False)
    groups = configure_optimizer(model, 0.1).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1]
    assert groups[1]["params"][0] is model.two.bias


def test_a_weight_without_gradient_shrinks_and_a_bias_does_not() -> None:
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.bias)
    before = layer.weight.detach().clone()
    optimizer = configure_optimizer(layer, 0.1, 0.5)
    for each in layer.parameters():
        each.grad = torch.zeros_like(each)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before * (1 - 0.1 * 0.5))
    assert torch.equal(layer.bias.detach(), torch.ones(2))


# --- the learning rate ---------------------------------------------------------------------------


@given(
    warmup=st.integers(1, 30), falling=st.integers(1, 50), peak=st.floats(1e-5, 10.0),
    share=st.floats(0.0, 1.0),
)  # fmt: skip
def test_the_rate_is_pytorchs(warmup: int, falling: int, peak: float, share: float) -> None:
    """`LinearLR`, then `CosineAnnealingLR`, as PyTorch computes them."""
    floor = share * peak
    total = warmup + falling
    parameter = [nn.Parameter(torch.zeros(1))]
    rising = torch.optim.SGD(parameter, lr=peak)
    linear = torch.optim.lr_scheduler.LinearLR(
        rising, 1 / warmup, 1.0, total_iters=max(1, warmup - 1)
    )
    sinking = torch.optim.SGD(parameter, lr=peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sinking, falling, eta_min=floor)
    expected = []
    for optimizer, schedule, steps in ((rising, linear, warmup), (sinking, cosine, falling + 1)):
        for _ in range(steps):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    found = [lr_at(step, peak, warmup, total, floor) for step in range(total + 1)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * peak)


def test_edges_of_the_rate() -> None:
    assert lr_at(0, 1.0, 0, 10) == 1.0
    assert lr_at(5, 1.0, 5, 5, 0.25) == lr_at(99, 1.0, 5, 5, 0.25) == 0.25
    assert lr_at(4, 1.0, 5, 5) == 1.0
    assert lr_at(6, 2.0, 2, 10, 1.0) == pytest.approx(1.5)
    rates = [lr_at(step, 1.0, 10, 100) for step in range(120)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert not any(map(math.isnan, rates))


# --- batches -------------------------------------------------------------------------------------


def test_windows_are_pieces_of_the_text() -> None:
    ids = torch.arange(30)
    seen = set()
    for _, (read, following) in zip(range(200), Windows(ids, 4, 5, seed=3)):
        assert read.shape == following.shape == (4, 5)
        assert torch.equal(following, read + 1)
        seen |= set(read[:, 0].tolist())
    assert seen == set(range(25))  # every place at which a window can begin
    whole = next(iter(Windows(torch.arange(6), 2, 5)))
    assert whole[1][0].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="no window of 6"):
        Windows(torch.arange(6), 2, 6)


def test_windows_go_on_from_where_they_stood() -> None:
    first, second = (Windows(torch.arange(100), 2, 3, seed=s) for s in (1, 2))
    stream = iter(first)
    next(stream)
    second.set_state(first.state())
    for mine, yours in zip(stream, iter(second)):
        assert torch.equal(mine[0], yours[0])
        break


# --- the loop ------------------------------------------------------------------------------------


def trainer(seed: int = 0, **told: Any) -> Trainer:
    model = small(seed=seed)
    options = {"rate": lambda step: lr_at(step, 0.01, 3, 20), **told}
    return Trainer(
        model, configure_optimizer(model, 0.01), Windows(text(), 4, 8), loss_of, **options
    )


def weights(of: Trainer) -> Tensor:
    return torch.cat([each.detach().flatten() for each in of.model.parameters()])


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_training_is_uninterrupted_training(
    tmp_path: Path, accumulate: int, stop: int
) -> None:
    """Bit for bit, dropout included: weights, the optimiser's averages, and every loss."""
    torch.manual_seed(5)
    whole = trainer(accumulate=accumulate)
    torch.manual_seed(6)
    whole.run(12)
    begun = trainer(accumulate=accumulate)
    torch.manual_seed(6)
    begun.run(stop)
    begun.save(tmp_path / "checkpoint.pt")
    torch.manual_seed(99)  # another process has another state
    resumed = trainer(seed=1, accumulate=accumulate)
    resumed.load(tmp_path / "checkpoint.pt")
    resumed.run(12 - stop)
    assert resumed.losses == whole.losses
    assert resumed.step == whole.step == 12
    assert torch.equal(weights(resumed), weights(whole))
    mine, yours = (each.optimizer.state_dict()["state"] for each in (resumed, whole))
    for number in yours:
        for name in yours[number]:
            assert torch.equal(mine[number][name], yours[number][name])
    assert not list(tmp_path.glob("*.part"))


FORGOTTEN: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "the optimiser": lambda state, fresh: state.update(optimizer=fresh["optimizer"]),
    "the place in the text": lambda state, fresh: state.update(batches=fresh["batches"]),
    "the random state": lambda state, fresh: state.update(random=fresh["random"]),
    "the step": lambda state, fresh: state.update(step=0),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_forgetting_a_part_is_noticed(tmp_path: Path, what: str) -> None:
    torch.manual_seed(6)
    whole = trainer()
    fresh_path, path = tmp_path / "fresh.pt", tmp_path / "checkpoint.pt"
    whole.save(fresh_path)
    whole.run(5)
    whole.save(path)
    whole.run(5)
    state, fresh = (torch.load(each, weights_only=True) for each in (path, fresh_path))
    FORGOTTEN[what](state, fresh)
    torch.save(state, path)
    resumed = trainer(seed=1)
    resumed.load(path)
    resumed.run(5)
    assert not torch.equal(weights(resumed), weights(whole))


def test_accumulated_batches_are_one_large_batch() -> None:
    torch.manual_seed(0)
    model = small(dropout=0.0).double()
    windows = Windows(text(), 12, 8)
    read, following = next(iter(windows))

    class Pieces:
        def __iter__(self) -> Any:
            while True:
                yield from zip(read.split(4), following.split(4))

    seen = []
    for batches, accumulate in (([(read, following)], 1), (Pieces(), 3)):
        model.zero_grad()
        made = Trainer(
            model, torch.optim.SGD(model.parameters(), lr=0.0), batches, loss_of,
            clip=None, accumulate=accumulate,
        )  # fmt: skip
        made.run(1)
        seen.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
    torch.testing.assert_close(*seen, rtol=1e-10, atol=1e-12)


def test_gradients_are_clipped_together() -> None:
    torch.manual_seed(0)
    norms = {}
    for clip in (None, 0.01):
        model = small(dropout=0.0)
        made = Trainer(
            model, torch.optim.SGD(model.parameters(), lr=0.0), Windows(text(), 4, 8), loss_of,
            clip=clip,
        )  # fmt: skip
        made.run(1)
        norms[clip] = torch.cat([each.grad.flatten() for each in model.parameters()]).norm().item()
    assert norms[None] > 0.1
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)


def test_the_rate_is_set_and_multiplied() -> None:
    made = trainer()
    made.optimizer.param_groups[1]["times"] = 0.5
    made.run(4)
    assert made.optimizer.param_groups[0]["lr"] == lr_at(3, 0.01, 3, 20)
    assert made.optimizer.param_groups[1]["lr"] == 0.5 * lr_at(3, 0.01, 3, 20)
    called: list[int] = []
    assert len(made.run(2, after=called.append)) == 2
    assert called == [5, 6]
    assert not made.model.training


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CourseError, match="does not fit"):
        trainer().load(tmp_path / "broken.pt")
    trainer().save(tmp_path / "small.pt")
    model = GPT(GPTConfig(13, 8, 16, 2, 2))
    other = Trainer(model, configure_optimizer(model, 0.01), Windows(text(), 4, 8), loss_of)
    with pytest.raises(CourseError, match="does not fit"):
        other.load(tmp_path / "small.pt")
