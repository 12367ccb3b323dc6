"""Low-rank changes against peft, in float64: outputs, gradients, merging, counts."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_lib.models.gpt import GPT, GPTConfig
from course_lib.posttraining.lora import LoRALinear, add_lora, changes, learn_rows, merge_lora

f64 = torch.float64
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def tiny(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(GPTConfig(n_words=11, max_len=9, d_model=12, n_heads=3, n_layers=2, rotary=True)).to(
        f64
    )


def stirred(model: nn.Module, seed: int) -> nn.Module:
    """Give every change numbers that are not zero."""
    g = torch.Generator().manual_seed(seed)
    for _, each in changes(model):
        each.data.normal_(std=0.3, generator=g)
    return model


@pytest.mark.parametrize(
    ("rank", "alpha", "names"),
    [
        (1, 1.0, ["to_q", "to_v"]),
        (3, 16.0, ["to_q", "to_k", "to_v", "to_out", "up", "down"]),
        (5, 2.0, ["up"]),
    ],
)
def test_outputs_and_gradients_are_pefts(rank: int, alpha: float, names: list[str]) -> None:
    peft = pytest.importorskip("peft")
    model = tiny()
    theirs: Any = peft.inject_adapter_in_model(
        peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0), copy.deepcopy(model)
    )  # fmt: skip
    ours = stirred(add_lora(model, rank, alpha, names), 1)
    for place, layer in ours.named_modules():
        if isinstance(layer, LoRALinear):
            other = theirs.get_submodule(place)
            other.lora_A["default"].weight.data.copy_(layer.a)
            other.lora_B["default"].weight.data.copy_(layer.b)
    theirs.to(f64)
    ids = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(2))
    said, expected = ours(ids), theirs(ids)
    torch.testing.assert_close(said, expected, **EXACT)
    said.square().sum().backward()
    expected.square().sum().backward()
    for place, layer in ours.named_modules():
        if isinstance(layer, LoRALinear):
            other = theirs.get_submodule(place)
            torch.testing.assert_close(layer.a.grad, other.lora_A["default"].weight.grad, **EXACT)
            torch.testing.assert_close(layer.b.grad, other.lora_B["default"].weight.grad, **EXACT)
    learnt = sum(each.numel() for each in ours.parameters() if each.requires_grad)
    assert learnt == sum(each.numel() for each in theirs.parameters() if each.requires_grad)


@given(
    seed=st.integers(0, 2**31), rank=st.integers(1, 6), alpha=st.floats(0.1, 32), bias=st.booleans()
)
@settings(max_examples=20, deadline=None)
def test_merged_is_unmerged(seed: int, rank: int, alpha: float, bias: bool) -> None:
    torch.manual_seed(seed)
    layer = LoRALinear(nn.Linear(5, 3, bias=bias).to(f64), rank, alpha)
    x = torch.randn(2, 4, 5, dtype=f64)
    torch.testing.assert_close(layer(x), layer.linear(x), rtol=0, atol=0)  # nothing is changed yet
    layer.b.data.normal_()
    merged = layer.merge()
    assert type(merged) is nn.Linear
    torch.testing.assert_close(merged(x), layer(x), **EXACT)
    difference = (merged.weight - layer.linear.weight).detach()
    # What is left of the large weight is rounding, which is no direction.
    assert torch.linalg.matrix_rank(difference, atol=1e-12) <= min(rank, 3)


def test_a_whole_model_is_merged_and_keeps_its_form() -> None:
    model = tiny()
    names = set(model.state_dict())
    ids = torch.arange(8)[None]
    changed = stirred(add_lora(model, 2, 4.0), 3)
    before = changed(ids)
    merged = merge_lora(changed)
    assert set(merged.state_dict()) == names
    torch.testing.assert_close(merged(ids), before, **EXACT)


def test_only_the_changes_learn() -> None:
    model = add_lora(tiny(), 2, 4.0)
    learnt = {name for name, each in model.named_parameters() if each.requires_grad}
    assert learnt == {name for name, _ in changes(model)}
    assert len(learnt) == 2 * 6 * 2  # a and b of six layers in two blocks
    with pytest.raises(ValueError, match="nowhere"):
        add_lora(tiny(), 2, 4.0, ["nowhere"])
    with pytest.raises(ValueError, match="at least 1"):
        LoRALinear(nn.Linear(2, 2), 0, 1.0)


def test_chosen_rows_learn_and_no_other() -> None:
    model = tiny()
    before = model.words.weight.detach().clone()
    add_lora(model, 1, 1.0)
    learn_rows(model.words, [2, 9])
    assert model.words.weight.equal(before)
    optimizer = torch.optim.AdamW(
        [each for each in model.parameters() if each.requires_grad], lr=0.1, weight_decay=0.0
    )
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.arange(9)[None]).square().sum().backward()
        optimizer.step()
    moved = (model.words.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [2, 9]
    learnt = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert learnt["words.parametrizations.weight.0.change"].shape == (2, 12)
    ids = torch.arange(8)[None]
    said = model(ids)
    merged = merge_lora(model)
    assert set(merged.state_dict()) == set(tiny().state_dict())
    torch.testing.assert_close(merged(ids), said, **EXACT)
