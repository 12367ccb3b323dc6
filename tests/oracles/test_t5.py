"""Lesson 15's T5 against Hugging Face's: logits, gradients, padding, caches, sizes."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import T5Config as TheirConfig
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention as TheirAttention
from transformers.models.t5.modeling_t5 import T5LayerNorm

from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.multi_head import KVCache
from course_lib.models.t5 import (
    T5,
    T5_CONFIGS,
    T5Attention,
    T5Config,
    copy_t5,
    count_t5,
    initialise_t5,
    shift_right,
    t5_places,
)
from course_lib.models.translation import END, START, greedy_decode

SIZES = {
    "one of everything": T5Config(5, 1, 1, 1, 1, 1, 4, 5),
    "odd widths": T5Config(37, 10, 3, 3, 17, 2, 8, 9),
    "heads wider than the stream": T5Config(23, 6, 2, 7, 5, 3, 32, 128),
    "heads narrower than the stream": T5Config(11, 16, 2, 3, 24, 2, 6, 20),
}


def close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype == torch.float64
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10 * scale)


def theirs_of(config: T5Config, seed: int = 0) -> T5ForConditionalGeneration:
    """Return Hugging Face's model with random weights, in float64.

    Its norm always computes the mean square in float32; PyTorch's own takes its place.
    """
    torch.manual_seed(seed)
    make: Any = TheirConfig
    told = make(
        vocab_size=config.n_words, d_model=config.d_model, d_kv=config.d_head, d_ff=config.d_ff,
        num_layers=config.n_layers, num_heads=config.n_heads, dropout_rate=0.0,
        relative_attention_num_buckets=config.n_buckets,
        relative_attention_max_distance=config.max_distance, attn_implementation="eager",
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(told).double()
    for name, module in list(model.named_modules()):
        if isinstance(module, T5LayerNorm):
            parent, _, last = name.rpartition(".")
            norm = nn.RMSNorm(config.d_model, eps=module.variance_epsilon, dtype=torch.float64)
            setattr(model.get_submodule(parent), last, norm)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.3 * torch.randn_like(each))  # so that norms and biases do something
    return model.eval()


def pair_of(config: T5Config, seed: int = 0) -> tuple[T5, T5ForConditionalGeneration]:
    theirs = theirs_of(config, seed)
    ours = T5(config).double()
    copy_t5(ours, theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_logits_and_all_gradients_agree(name: str, training: bool) -> None:
    config = SIZES[name]
    ours, theirs = pair_of(config)
    ours.train(training)
    theirs.train(training)
    g = torch.Generator().manual_seed(1)
    source = torch.randint(0, config.n_words, (3, 41), generator=g)
    target = torch.randint(0, config.n_words, (3, 29), generator=g)
    lengths = torch.tensor([41, 17, 1])
    shown = (torch.arange(41) < lengths[:, None]).long()
    logits = ours(source, lengths, target)
    expected = theirs(
        input_ids=source, attention_mask=shown, decoder_input_ids=target, use_cache=False
    ).logits
    close(logits, expected)
    cotangent = torch.randn(logits.shape, generator=g, dtype=torch.float64)
    mine, others = dict(ours.named_parameters()), dict(theirs.named_parameters())
    places = t5_places(config)
    assert set(places) == set(mine)
    assert set(places.values()) == set(others)
    got = torch.autograd.grad(logits, [mine[each] for each in places], cotangent)
    wanted = torch.autograd.grad(expected, [others[each] for each in places.values()], cotangent)
    for one, other in zip(got, wanted):
        close(one, other)


def test_the_loss_from_labels_is_theirs() -> None:
    config = SIZES["odd widths"]
    ours, theirs = pair_of(config)
    g = torch.Generator().manual_seed(2)
    source, labels = (torch.randint(2, 37, (4, n), generator=g) for n in (7, 6))
    labels[1, 3:] = labels[2, 1:] = -100
    heard = shift_right(labels, start=0, padding=0)
    assert torch.equal(heard, theirs.prepare_decoder_input_ids_from_labels(labels))
    logits = ours(source, torch.full((4,), 7), heard)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    close(loss, theirs(input_ids=source, labels=labels).loss)


@pytest.mark.parametrize("crossed", [False, True], ids=["self", "cross"])
@given(
    seed=st.integers(0, 2**31),
    d_model=st.integers(1, 9),
    h=st.integers(1, 4),
    d_head=st.integers(1, 6),
)
@settings(max_examples=15)
def test_the_attention_agrees(crossed: bool, seed: int, d_model: int, h: int, d_head: int) -> None:
    make: Any = TheirConfig
    config = make(
        d_model=d_model, d_kv=d_head, num_heads=h, dropout_rate=0.0, attn_implementation="eager"
    )
    torch.manual_seed(seed)
    theirs = TheirAttention(config, has_relative_attention_bias=False).double()
    ours = T5Attention(d_model, h, d_head).double()
    pairs = [
        (ours.to_q, theirs.q),
        (ours.to_k, theirs.k),
        (ours.to_v, theirs.v),
        (ours.to_out, theirs.o),
    ]
    with torch.no_grad():
        for one, other in pairs:
            one.weight.copy_(other.weight)
    x = torch.randn(2, 5, d_model, dtype=torch.float64, requires_grad=True)
    context = (
        torch.randn(2, 7, d_model, dtype=torch.float64, requires_grad=True) if crossed else None
    )
    n_k = 7 if crossed else 5
    bias = torch.randn(h, 5, n_k, dtype=torch.float64, requires_grad=True)
    shown = padding_mask(torch.tensor([n_k, 2]), n_k)
    hidden = torch.zeros(2, 1, 1, n_k, dtype=torch.float64).masked_fill(~shown[:, None], -math.inf)
    output, weights = ours(x, context, shown, bias)
    expected, _, their_weights = theirs(x, hidden, context, bias[None])
    close(output, expected)
    close(weights, their_weights)
    wrt = [x, bias] + ([] if context is None else [context])
    cotangent = torch.randn_like(output)
    got = torch.autograd.grad(output, [*wrt, *(one.weight for one, _ in pairs)], cotangent)
    wanted = torch.autograd.grad(expected, [*wrt, *(other.weight for _, other in pairs)], cotangent)
    for one_grad, other_grad in zip(got, wanted):
        close(one_grad, other_grad)


def test_a_fully_masked_row_gives_zeros_and_no_gradient() -> None:
    torch.manual_seed(0)
    layer = T5Attention(4, 2, 3).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[0, 1] = False
    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = layer(x, mask=mask, bias=torch.randn(2, 3, 3).double())
        output.sum().backward()
    assert torch.equal(output[0, 1], torch.zeros(4).double())
    assert torch.equal(weights[0, :, 1], torch.zeros(2, 3).double())
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("name", ["odd widths", "heads wider than the stream"])
def test_padding_changes_nothing(name: str) -> None:
    ours, _ = pair_of(SIZES[name])
    words = SIZES[name].n_words
    source, target = torch.randint(0, words, (1, 6)), torch.randint(0, words, (1, 5))
    alone = ours(source, torch.tensor([6]), target)
    for filling in (0, words - 1):
        padded = F.pad(source, (0, 4), value=filling)
        further = F.pad(target, (0, 3), value=filling)
        close(ours(padded, torch.tensor([6]), further)[:, :5], alone)


def test_the_decoder_does_not_hear_the_future() -> None:
    ours, _ = pair_of(SIZES["odd widths"])
    source, target = torch.randint(0, 37, (2, 6)), torch.randint(0, 37, (2, 9))
    other = target.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 37
    before, after = (ours(source, torch.tensor([6, 3]), each) for each in (target, other))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 1, 3, 1]], ids=str)
def test_decoding_in_pieces_with_caches_is_decoding_at_once(pieces: list[int]) -> None:
    ours, _ = pair_of(SIZES["odd widths"])
    source, target = torch.randint(0, 37, (3, 12)), torch.randint(0, 37, (3, 9))
    lengths = torch.tensor([12, 1, 7])
    with torch.no_grad():
        whole = ours(source, lengths, target)
        memory, state, logits = ours.encode(source, lengths), None, []
        for piece in target.split(pieces, dim=1):
            decoded = ours.decode(memory, piece, state)
            state = decoded.state
            logits.append(decoded.logits)
    close(torch.cat(logits, dim=1), whole)


def test_greedy_decoding_is_theirs() -> None:
    config = SIZES["odd widths"]
    ours, found = pair_of(config)
    theirs: Any = found
    theirs.generation_config.update(
        decoder_start_token_id=START,
        eos_token_id=END,
        pad_token_id=0,
        max_length=14,
        num_beams=1,
        do_sample=False,
    )
    source, lengths = torch.randint(3, 37, (5, 8)), torch.tensor([8, 3, 5, 1, 8])
    shown = (torch.arange(8) < lengths[:, None]).long()
    expected = theirs.generate(input_ids=source, attention_mask=shown)
    for got, row in zip(greedy_decode(ours, source, lengths, 13), expected.tolist()):
        said = row[1:]
        said = said[: said.index(END)] if END in said else said
        assert got == [each for each in said if each != 0]


PUBLISHED = {"t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_of_the_published_models(name: str) -> None:
    config = T5_CONFIGS[name]
    with torch.device("meta"):
        ours = T5(config)
        theirs = T5ForConditionalGeneration(
            TheirConfig(
                d_model=config.d_model,
                d_kv=config.d_head,
                d_ff=config.d_ff,
                num_layers=config.n_layers,
                num_heads=config.n_heads,
            )
        )
    counted = [sum(each.numel() for each in model.parameters()) for model in (ours, theirs)]
    assert counted == [PUBLISHED[name]] * 2
    assert count_t5(config) == PUBLISHED[name]


@pytest.mark.parametrize("name", SIZES)
def test_the_count_is_the_models_own(name: str) -> None:
    assert count_t5(SIZES[name]) == sum(each.numel() for each in T5(SIZES[name]).parameters())


def test_first_weights_have_the_sizes_of_theirs() -> None:
    config = T5Config(200, 64, 4, 16, 128, 1)
    ours, theirs = (
        T5(config),
        T5ForConditionalGeneration(
            TheirConfig(vocab_size=200, d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4)
        ),
    )
    others = dict(theirs.named_parameters())
    for place, name in t5_places(config).items():
        mine = dict(ours.named_parameters())[place]
        if mine.ndim > 1 and "bias" not in place:  # norms start at 1, biases are few
            assert mine.std().item() == pytest.approx(others[name].std().item(), rel=0.06), place
    initialise_t5(ours)


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = dict(theirs_of(SIZES["odd widths"]).state_dict())
    with pytest.raises(ValueError, match="shape"):
        copy_t5(T5(SIZES["odd widths"].but(d_ff=18)), weights)
    del weights["shared.weight"]
    with pytest.raises(ValueError, match="lack"):
        copy_t5(T5(SIZES["odd widths"]), weights)


def test_it_runs_on(device: str) -> None:
    config = SIZES["odd widths"]
    model = T5(config).to(device)
    source, target = (torch.randint(0, 37, (2, n), device=device) for n in (6, 5))
    lengths = torch.tensor([6, 2], device=device)
    logits = model(source, lengths, target)
    assert logits.device.type == device
    assert model.decode(model.encode(source, lengths), target).logits.device.type == device
    layer: Any = model.decoder.get_submodule("blocks.0.attention")
    assert KVCache.for_layer(layer, 2, 4).keys.shape == (2, 3, 4, 3)
    assert layer(torch.randn(2, 5, 10, device=device), mask=causal_mask(5, device=device))[
        0
    ].shape == (2, 5, 10)
