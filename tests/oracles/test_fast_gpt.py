"""The small modern GPT: it hides the future, its parts can be switched off, its parameters can be counted."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from attention_properties import assert_the_future_is_hidden
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from course_lib.models.fast_gpt import FastBlock, FastConfig, FastGPT, rms_norm, turn
from course_lib.models.positions import apply_rope

SMALL = FastConfig(n_words=11, max_len=16, d_model=12, n_heads=3, pairs=121, triples=64)
PARTS: dict[str, dict[str, Any]] = {
    "all": {},
    "no tables": {"pairs": 0, "triples": 0},
    "no triples": {"triples": 0},
    "learnt positions": {"rotary": False},
    "queries as they are": {"norm_queries": False},
    "GELU": {"squared": False},
    "not silent": {"start_silent": False},
    "no cap": {"cap": 0.0},
    "four blocks": {"n_layers": 4},
}
every_part = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())


def made(seed: int = 0, **parts: Any) -> FastGPT:
    """Return a model whose weights are all random, so that every part is felt."""
    torch.manual_seed(seed)
    model = FastGPT(dataclasses.replace(SMALL, **parts)).double()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=each.shape[-1] ** -0.5)
    return model


def some_ids(seed: int = 0, batch: int = 2, n: int = 12) -> Tensor:
    return torch.randint(SMALL.n_words, (batch, n), generator=torch.Generator().manual_seed(seed))


# --- the future ----------------------------------------------------------------------------------


@every_part
@given(seed=st.integers(0, 2**31), place=st.integers(1, 11))
def test_later_tokens_change_nothing(parts: dict[str, Any], seed: int, place: int) -> None:
    model, ids = made(seed, **parts), some_ids(seed)
    other = ids.clone()
    other[:, place:] = (other[:, place:] + 1 + seed % 9) % SMALL.n_words
    with torch.no_grad():
        before, after = model(ids), model(other)
    assert torch.equal(before[:, :place], after[:, :place])
    assert (before[:, place:] - after[:, place:]).abs().max() > 1e-6


def test_a_block_hides_the_future() -> None:
    torch.manual_seed(0)
    block = FastBlock(dataclasses.replace(SMALL, start_silent=False)).double()
    model = made()
    assert_the_future_is_hidden(
        lambda x: block(x, model.cos[: x.shape[1]], model.sin[: x.shape[1]]),
        torch.randn(2, 7, SMALL.d_model).double(),
    )


def test_the_tables_look_back_one_and_two_tokens() -> None:
    """Without blocks a logit depends on the token, the one before, and with triples the one before that."""
    for parts, reach in (({"pairs": 0, "triples": 0}, 0), ({"triples": 0}, 1), ({}, 2)):
        model, ids = made(n_layers=0, **parts), some_ids(3, 1, 9)
        with torch.no_grad():
            logits = model(ids)
            felt = []
            for back in range(4):
                other = ids.clone()
                other[0, 8 - back] = (other[0, 8 - back] + 1) % SMALL.n_words
                felt.append(not torch.equal(model(other)[0, 8], logits[0, 8]))
        assert felt == [back <= reach for back in range(4)]


# --- switched off is off -------------------------------------------------------------------------


def test_each_part_changes_the_logits_and_only_where_it_is() -> None:
    """With equal weights, a model without a part gives other logits; weights of switched-off parts are gone."""
    whole, ids = made(), some_ids()
    names = dict(whole.named_parameters())
    for name, parts in PARTS.items():
        if name in ("all", "four blocks", "not silent"):
            continue
        other = FastGPT(dataclasses.replace(SMALL, **parts)).double()
        own = {key: each for key, each in other.state_dict().items() if key in names}
        other.load_state_dict({key: names[key].detach() for key in own}, strict=False)
        assert (other(ids) - whole(ids)).abs().max() > 1e-6, name
    assert len(FastGPT(dataclasses.replace(SMALL, pairs=0, triples=0)).tables) == 0
    assert len(FastGPT(dataclasses.replace(SMALL, triples=0)).tables) == 1
    assert whole.positions is None
    assert FastGPT(dataclasses.replace(SMALL, rotary=False)).positions is not None


def test_silent_blocks_add_nothing_and_the_first_loss_is_ln_v() -> None:
    model = FastGPT(SMALL)
    x = torch.randn(2, 5, SMALL.d_model)
    for block in model.blocks:
        assert torch.equal(block(x, model.cos[:5], model.sin[:5]), x)
    ids = some_ids()
    loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(SMALL.n_words))
    torch.manual_seed(0)
    loud = FastGPT(dataclasses.replace(SMALL, start_silent=False))
    assert not torch.allclose(loud.blocks[0](x, loud.cos[:5], loud.sin[:5]), x)


def test_the_cap_holds_and_leaves_small_logits_alone() -> None:
    model, free, ids = made(cap=15.0), made(cap=0.0), some_ids()
    with torch.no_grad():
        for each in (model, free):
            each.guess.weight *= 1000
        assert free(ids).abs().max() > 15
        assert model(ids).abs().max() <= 15
        for each in (model, free):
            each.guess.weight *= 1e-6
        torch.testing.assert_close(model(ids), free(ids), rtol=1e-6, atol=1e-9)


def test_normed_queries_do_not_grow_with_their_weights() -> None:
    ids = some_ids()
    for norm_queries, changed in ((True, False), (False, True)):
        model = made(norm_queries=norm_queries)
        with torch.no_grad():
            before = model(ids)
            for name, each in model.named_parameters():
                if name.endswith("to_qkv.weight"):
                    each[: 2 * SMALL.d_model] *= 10
            assert ((model(ids) - before).abs().max().item() > 1e-3) is changed


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    model = made()
    q, k = torch.randn(2, 1, 4).double()
    cos, sin = model.cos, model.sin  # (16, 2)

    def score(m: int, n: int) -> float:
        turned = turn(q, cos[m : m + 1], sin[m : m + 1]) @ turn(k, cos[n : n + 1], sin[n : n + 1]).T
        return turned.item()

    for m, n, shift in ((3, 1, 4), (9, 2, 6), (5, 5, 10)):
        assert score(m, n) == pytest.approx(score(m + shift, n + shift))
    assert score(3, 1) != pytest.approx(score(3, 2))


def test_turning_is_lesson_09s_with_the_pairs_elsewhere() -> None:
    """Halves are paired here, neighbours in lesson 09: one order of the numbers makes them equal."""
    n, d = 6, 8
    x = torch.randn(1, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    speeds = 1000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angles = torch.arange(n)[:, None] * speeds
    order = torch.cat([torch.arange(0, d, 2), torch.arange(1, d, 2)])
    expected = apply_rope(x, base=1000.0)
    torch.testing.assert_close(
        turn(x[..., order], angles.cos(), angles.sin()), expected[..., order]
    )


def test_rms_norm_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(rms_norm(x), x / math.sqrt(12.5))


# --- counts --------------------------------------------------------------------------------------


@every_part
def test_parameters_are_counted(parts: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **parts)
    d, v = config.d_model, config.n_words
    expected = 2 * v * d + (config.pairs + config.triples) * d + config.n_layers * 12 * d * d
    expected += 0 if config.rotary else config.max_len * d
    model = FastGPT(config)
    assert sum(each.numel() for each in model.parameters()) == expected
    inside = model.matrices()
    assert len(inside) == 4 * config.n_layers
    assert all(each.ndim == 2 for each in inside)
