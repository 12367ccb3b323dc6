"""Lesson 19's reward model and best-of-n against trl's loss, plain loops and all subsets of small pools."""

import math
from collections import defaultdict
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.best_of_n import best_of_n, kl_bound
from course_lib.posttraining.chat import Turn, render_chat, response_mask
from course_lib.posttraining.rewards import (
    RewardModel,
    Rows,
    as_rows,
    read,
    reward_loss,
    scores_of,
    train_reward_model,
)

f64 = torch.float64
SPECIAL = ["<|user|>", "<|assistant|>", "<|end|>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([" who lives on mill street ? anna lives there ."] * 3, 300, SPECIAL)


def tiny(n_words: int = 300, n_layers: int = 2) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(n_words, 48, 16, 2, n_layers, rotary=True)
    return GPT(config).eval()


# --- the loss --------------------------------------------------------------------------------


def trl_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Let trl's RewardTrainer compute the loss of scores that a stub of a model returns."""
    from trl import RewardTrainer

    accelerator = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer: Any = SimpleNamespace(
        args=SimpleNamespace(center_rewards_coefficient=None),
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    logits = torch.cat([chosen, rejected])[:, None]
    inputs = {"attention_mask": torch.ones(len(logits), 1)}
    loss: Tensor = RewardTrainer.compute_loss(
        trainer, lambda **_: SimpleNamespace(logits=logits), inputs
    )
    return loss


@pytest.mark.parametrize("n", [1, 2, 7, 33])
@pytest.mark.parametrize("size", [0.0, 1.0, 40.0, 1000.0])
def test_reward_loss_and_its_gradients_agree_with_trl(n: int, size: float) -> None:
    g = torch.Generator().manual_seed(n)
    chosen, rejected = (
        (size * torch.randn(n, generator=g, dtype=f64)).requires_grad_() for _ in range(2)
    )
    ours, theirs = reward_loss(chosen, rejected), trl_loss(chosen, rejected)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(ours, (chosen, rejected)),
        torch.autograd.grad(theirs, (chosen, rejected)),
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=9))
def test_reward_loss_agrees_with_a_loop(pairs: list[tuple[float, float]]) -> None:
    chosen, rejected = (torch.tensor(each, dtype=f64, requires_grad=True) for each in zip(*pairs))
    loss = reward_loss(chosen, rejected)
    expected = sum(math.log1p(math.exp(b - a)) for a, b in pairs) / len(pairs)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, chosen)
    wanted = [-1 / (1 + math.exp(a - b)) / len(pairs) for a, b in pairs]
    assert gradient.tolist() == pytest.approx(wanted, abs=1e-12)


# --- the model -------------------------------------------------------------------------------


def test_read_gives_what_the_logits_are_made_of_and_leaves_no_hook() -> None:
    model = tiny()
    ids = torch.randint(300, (2, 7))
    logits, states = read(model, ids)
    torch.testing.assert_close(states @ model.words.weight.T, logits)
    torch.testing.assert_close(model(ids), logits)
    assert not model.norm._forward_hooks


def test_rows_mark_what_the_assistant_says(tokenizer: Tokenizer) -> None:
    rows = as_rows(["who ?", "who lives there ?"], ["anna .", "anna"], tokenizer, [True, False])
    special = tokenizer.special
    ids = [special[each] for each in SPECIAL]
    marked = response_mask(rows.ids, *ids)
    assert torch.equal(rows.mask[0], marked[0])
    whole = render_chat([Turn("user", "who lives there ?"), Turn("assistant", "anna")], tokenizer)
    cut = rows.ids[1][rows.mask[1]].tolist()
    assert cut == tokenizer.encode(" anna")
    assert special["<|end|>"] not in cut
    assert rows.ids[1, : len(whole) - 1].tolist() == whole[:-1]


def test_a_score_reads_the_whole_reply_and_nothing_behind_it(tokenizer: Tokenizer) -> None:
    model = RewardModel(tiny(tokenizer.n_words))
    torch.nn.init.normal_(model.head.weight)
    rows = as_rows(["who ?", "who lives there ?"], ["anna .", "anna lives there ."], tokenizer)
    together = model(rows.ids, rows.mask)
    for i in range(2):
        alone = rows.take([i])
        torch.testing.assert_close(model(alone.ids, alone.mask)[0], together[i])
        last = int(alone.mask[0].nonzero().max())
        state = read(model.trunk, alone.ids)[1][0, last]
        torch.testing.assert_close(model.head(state)[0], together[i])
        for place in range(last + 1):
            other = alone.ids.clone()
            other[0, place] = (other[0, place] + 1) % tokenizer.n_words
            assert not torch.allclose(model(other, alone.mask)[0], together[i])
    assert torch.equal(scores_of(model, rows), together.detach())


def test_a_new_reward_model_prefers_nothing_and_leaves_the_language_model_alone(
    tokenizer: Tokenizer,
) -> None:
    language_model = tiny(tokenizer.n_words)
    before = {name: each.clone() for name, each in language_model.state_dict().items()}
    model = RewardModel(language_model, n_blocks=1)
    assert len(model.trunk.blocks) == 1
    assert len(language_model.blocks) == 2
    chosen = as_rows(["who ?"] * 24, ["anna ."] * 24, tokenizer)
    rejected = as_rows(["who ?"] * 24, ["mill street ."] * 24, tokenizer)
    assert scores_of(model, chosen).abs().max() == 0
    losses = train_reward_model(model, chosen, rejected, epochs=6, batch=4, rate=1e-2)
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-1] < 0.2
    scores = scores_of(model, rejected)
    model.center(scores)
    torch.testing.assert_close(scores_of(model, rejected), scores - scores.mean())
    for name, each in language_model.state_dict().items():
        assert torch.equal(each, before[name])


def test_rows_can_be_taken(tokenizer: Tokenizer) -> None:
    rows = as_rows(["who ?"] * 3, ["anna .", "anna lives there .", "who ?"], tokenizer)
    taken = rows.take(torch.tensor([2, 0]))
    assert isinstance(taken, Rows)
    assert len(taken) == 2
    assert taken.ids.shape[1] < rows.ids.shape[1]
    assert torch.equal(taken.mask, rows.mask[[2, 0], : taken.ids.shape[1]])


# --- best-of-n -------------------------------------------------------------------------------


def over_all_sets(scores: list[int], values: list[float], n: int) -> float:
    """Return the mean value of the best, over all sets of n; equal scores win alike."""
    total, sets = 0.0, 0
    for chosen in combinations(range(len(scores)), n):
        most = max(scores[i] for i in chosen)
        best = [values[i] for i in chosen if scores[i] == most]
        total, sets = total + sum(best) / len(best), sets + 1
    return total / sets


@given(
    data=st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1, max_size=7),
    draw=st.data(),
)
def test_best_of_n_is_the_mean_over_all_sets(data: list[tuple[int, float]], draw: Any) -> None:
    scores, values = ([each[k] for each in data] for k in (0, 1))
    n = draw.draw(st.integers(1, len(data)))
    found = best_of_n(torch.tensor(scores, dtype=f64), torch.tensor(values, dtype=f64), n)
    assert found.item() == pytest.approx(over_all_sets(scores, values, n), abs=1e-10)


def test_best_of_n_takes_many_pools_and_large_ones() -> None:
    g = torch.Generator().manual_seed(0)
    scores, values = (torch.randn(3, 2, 400, generator=g, dtype=f64) for _ in range(2))
    found = best_of_n(scores, values, 40)
    assert found.shape == (3, 2)
    one = best_of_n(scores[1, 0], values[1, 0], 40)
    torch.testing.assert_close(found[1, 0], one, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(best_of_n(scores, values, 1), values.mean(-1))
    most = values.gather(-1, scores.argmax(-1, keepdim=True)).squeeze(-1)
    torch.testing.assert_close(best_of_n(scores, values, 400), most)
    for n in (0, 401):
        with pytest.raises(ValueError, match=f"no {n} can be drawn"):
            best_of_n(scores, values, n)


@pytest.mark.parametrize("n", [1, 2, 4, 16, 100])
def test_the_bound_is_exact_for_a_continuous_score_and_an_upper_bound_otherwise(n: int) -> None:
    """The best of n uniform numbers has density n·xⁿ⁻¹; a few kinds of reply are nearer."""
    x = (torch.arange(1_000_000, dtype=f64) + 0.5) / 1_000_000
    density = n * x ** (n - 1)
    exact = (density * density.clamp(min=1e-300).log()).mean().item()
    assert kl_bound(n) == pytest.approx(exact, abs=1e-5)
    share = torch.tensor([0.5, 0.3, 0.2], dtype=f64)
    below = torch.cat([torch.zeros(1, dtype=f64), share.cumsum(0)])
    best = below[1:] ** n - below[:-1] ** n
    discrete = torch.special.xlogy(best, best / share).sum().item()
    assert -1e-12 <= discrete <= kl_bound(n) + 1e-12


def test_equal_replies_are_scored_alike_and_a_cut_one_is_not_an_ended_one(
    tokenizer: Tokenizer,
) -> None:
    model = RewardModel(tiny(tokenizer.n_words))
    torch.nn.init.normal_(model.head.weight)
    texts = ["anna .", "mill street", "anna .", "mill street", "anna lives there ."]
    rows = as_rows(["who ?"] * 5, texts, tokenizer, [True, True, True, False, True])
    scores = scores_of(model, rows, batch=2)
    expected = torch.cat([model(rows.take([i]).ids, rows.take([i]).mask) for i in range(5)])
    torch.testing.assert_close(scores, expected.detach())
    assert scores[0] == scores[2]
    assert scores[1] != scores[3]
    assert rows.lengths.tolist() == [int(row.nonzero().max()) + 1 for row in rows.mask]
