"""Lesson 11's transformer against nn.Transformer, its loss against F.cross_entropy, and what it promises."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from attention_properties import assert_padding_changes_nothing, assert_the_future_is_hidden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.block import PostNorm, PreNorm, attention_weights
from course_lib.models.multi_head import KVCache
from course_lib.models.positions import apply_rope
from course_lib.models.seq2seq import beam_search
from course_lib.models.transformer import (
    DecoderBlock,
    Transformer,
    copy_decoder_layer,
    copy_transformer,
    count_transformer,
    label_smoothing_loss,
    noam_rate,
)
from course_lib.models.translation import END, START, greedy_decode

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
seeds = st.integers(0, 2**31)
residuals = pytest.mark.parametrize("residual", [PreNorm, PostNorm])


def close(got: Tensor, expected: Tensor, dtype: torch.dtype = torch.float64) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@torch.no_grad()
def shaken(module: nn.Module, dtype: torch.dtype = torch.float64) -> Any:
    """Return the module with biases and norms that do something."""
    for each in module.parameters():
        each += 0.3 * torch.randn_like(each)
    return module.to(dtype)


def transformers(
    d_model: int,
    n_heads: int,
    d_ff: int,
    n_layers: int,
    residual: Callable[..., nn.Module] = PreNorm,
    dtype: torch.dtype = torch.float64,
    bias: bool = True,
) -> tuple[Transformer, nn.Transformer]:
    """Return ours and PyTorch's with the same random weights."""
    first = residual is PreNorm
    kinds = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    reading, writing = (
        kind(d_model, n_heads, d_ff, 0.0, batch_first=True, norm_first=first, bias=bias)
        for kind in kinds
    )
    norms = (nn.LayerNorm(d_model, bias=bias) for _ in range(2))
    theirs = nn.Transformer(
        d_model,
        n_heads,
        custom_encoder=nn.TransformerEncoder(
            reading, n_layers, next(norms), enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(writing, n_layers, next(norms)),
        batch_first=True,
    )
    shaken(theirs, dtype)
    ours = Transformer(13, d_model, n_heads, d_ff, n_layers, residual=residual, bias=bias).to(dtype)
    copy_transformer(ours, theirs)
    return ours, theirs


def gradient_pairs(ours: Transformer, theirs: nn.Transformer) -> list[tuple[Tensor, Tensor]]:
    """Return the gradients of the same weights in both; q, k, v of PyTorch's lie in one matrix."""
    pairs = []

    def same(one: nn.Module, other: nn.Module) -> None:
        pairs.append((one.weight.grad, other.weight.grad))
        if other.bias is not None:
            pairs.append((one.bias.grad, other.bias.grad))

    def attentions(one: Any, other: nn.MultiheadAttention) -> None:
        for kind in ("weight", "bias"):
            matrix = getattr(other, f"in_proj_{kind}")
            if matrix is None:
                continue
            mine = [getattr(each, kind).grad for each in (one.to_q, one.to_k, one.to_v)]
            pairs.append((torch.cat(mine), matrix.grad))
        same(one.to_out, other.out_proj)

    for stack, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for block, layer in zip(stack.blocks, other.layers, strict=True):
            attentions(block.attention, layer.self_attn)
            norms = [block.communicate.norm, block.compute.norm]
            if isinstance(block, DecoderBlock):
                attentions(block.cross_attention, layer.multihead_attn)
                norms.insert(1, block.consult.norm)
            same(block.feed_forward.up, layer.linear1)
            same(block.feed_forward.down, layer.linear2)
            for number, norm in enumerate(norms, start=1):
                same(norm, getattr(layer, f"norm{number}"))
        same(stack.norm, other.norm)
    return pairs


# --- parity --------------------------------------------------------------------------------------


@DTYPES
@residuals
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@settings(max_examples=20)
@given(
    seed=seeds,
    n=st.integers(1, 7),
    m=st.integers(1, 6),
    heads=st.integers(1, 4),
    width=st.integers(1, 5),
    d_ff=st.integers(1, 9),
    n_layers=st.integers(1, 3),
)
def test_the_transformer_and_its_gradients_agree_with_pytorchs(
    residual: Callable[..., nn.Module],
    dtype: torch.dtype,
    bias: bool,
    seed: int,
    n: int,
    m: int,
    heads: int,
    width: int,
    d_ff: int,
    n_layers: int,
) -> None:
    torch.manual_seed(seed)
    # a norm of one number is 0 whatever its input, and a norm of two is ±1: rounding then decides the sign
    d = heads * width if heads * width > 2 else 3 * heads
    ours, theirs = transformers(d, heads, d_ff, n_layers, residual, dtype, bias)
    source, target = (torch.randn(3, each, d, dtype=dtype, requires_grad=True) for each in (n, m))
    lengths = torch.randint(1, n + 1, (3,))
    real, past = padding_mask(lengths, n), causal_mask(m)
    output = ours.decoder(target, ours.encoder(source, real), past, real)
    expected = theirs(
        source,
        target,
        tgt_mask=~past,
        src_key_padding_mask=~real[:, 0],
        memory_key_padding_mask=~real[:, 0],
    )
    if dtype == torch.float64:
        close(output, expected)
    else:  # three layers of float32: rounding grows with what the layers amplify
        torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4)
        return
    cotangent = torch.randn_like(output)
    inputs = (source, target)
    mine = torch.autograd.grad(output, inputs, cotangent, retain_graph=True)
    for got, wanted in zip(
        mine, torch.autograd.grad(expected, inputs, cotangent, retain_graph=True)
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    output.backward(cotangent)
    expected.backward(cotangent)
    for got, wanted in gradient_pairs(ours, theirs):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@residuals
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_decoder_block_agrees_with_pytorchs_layer(
    residual: Callable[..., nn.Module], training: bool, activation: str
) -> None:
    torch.manual_seed(0)
    theirs = shaken(
        nn.TransformerDecoderLayer(
            15, 3, 11, 0.0, activation, batch_first=True, norm_first=residual is PreNorm
        )
    ).train(training)
    ours = DecoderBlock(15, 3, 11, residual=residual, activation=activation).double()
    copy_decoder_layer(ours.train(training), theirs)
    x, memory = (torch.randn(2, n, 15, dtype=torch.float64, requires_grad=True) for n in (4, 6))
    mask, real = causal_mask(4), padding_mask(torch.tensor([6, 3]), 6)
    pair = (
        ours(x, memory, mask, real),
        theirs(x, memory, tgt_mask=~mask, memory_key_padding_mask=~real[:, 0]),
    )
    close(*pair)
    grads = [torch.autograd.grad(each.square().sum(), (x, memory)) for each in pair]
    for got, wanted in zip(*grads):
        close(got, wanted)


def test_copying_refuses_what_does_not_fit() -> None:
    _, theirs = transformers(6, 2, 5, 2)
    for sizes in ((6, 2, 5, 1), (6, 3, 5, 2), (8, 2, 5, 2)):
        with pytest.raises(ValueError, match=r"blocks|equal"):
            copy_transformer(Transformer(9, *sizes).double(), theirs)


# --- loss and rate -------------------------------------------------------------------------------


@DTYPES
@given(
    seed=seeds,
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    words=st.integers(2, 9),
    smoothing=st.sampled_from([0.0, 0.1, 0.35, 1.0]),
    padding=st.integers(0, 1),
    size=st.sampled_from([1.0, 200.0]),
)
def test_label_smoothing_agrees_with_pytorchs(
    dtype: torch.dtype, seed: int, shape: list[int], words: int, smoothing: float, padding: int, size: float,
) -> None:  # fmt: skip
    g = torch.Generator().manual_seed(seed)
    logits = (size * torch.randn(*shape, words, generator=g, dtype=dtype)).requires_grad_()
    target = torch.randint(words, shape, generator=g)
    target[(0,) * len(shape)] = 1 - padding  # at least one real word
    ours = label_smoothing_loss(logits, target, smoothing, padding)
    theirs = F.cross_entropy(
        logits.flatten(0, -2), target.flatten(), ignore_index=padding, label_smoothing=smoothing
    )
    pairs = [(ours, theirs), tuple(torch.autograd.grad(each, logits)[0] for each in (ours, theirs))]
    for got, wanted in pairs:
        rtol = TOLERANCE[dtype]
        torch.testing.assert_close(got, wanted, rtol=rtol, atol=rtol)


def test_the_rate_rises_and_falls_as_the_paper_says() -> None:
    rates = [noam_rate(step, 512, 4000) for step in range(1, 20_001)]
    assert max(range(len(rates)), key=rates.__getitem__) + 1 == 4000
    assert rates[3999] == pytest.approx(512**-0.5 * 4000**-0.5)
    assert rates[1999] == pytest.approx(rates[3999] / 2)
    assert rates[15_999] == pytest.approx(rates[3999] / 2)  # four times the steps, half the rate
    assert noam_rate(10, 64, 5, scale=0.5) == pytest.approx(noam_rate(10, 64, 5) / 2)
    for step in (0, -3):
        with pytest.raises(ValueError, match="first step"):
            noam_rate(step, 64, 10)


# --- the model -----------------------------------------------------------------------------------


def small(**options: Any) -> Transformer:
    torch.manual_seed(1)
    return shaken(Transformer(11, 12, 3, 10, 2, **options))


def test_the_base_configuration_has_63_million_parameters() -> None:
    with torch.device("meta"):
        model = Transformer(37_000, residual=PostNorm, final_norm=nn.Identity)
    count = sum(each.numel() for each in model.parameters())
    assert count == count_transformer(37_000, 512, 8, 2048, 6) == 63_082_496
    # term by term, as on the page
    attention = 4 * (512 * 512 + 512)
    network = 512 * 2048 + 2048 + 2048 * 512 + 512
    encoder, decoder = attention + network + 2 * 1024, 2 * attention + network + 3 * 1024
    assert count == 37_000 * 512 + 6 * (encoder + decoder)


@given(
    words=st.integers(5, 30), heads=st.integers(1, 4), width=st.integers(1, 6),
    d_ff=st.integers(1, 20), n_layers=st.integers(0, 3), bias=st.booleans(),
)  # fmt: skip
def test_counting_agrees_with_pytorchs_count(
    words: int, heads: int, width: int, d_ff: int, n_layers: int, bias: bool
) -> None:
    sizes = (words, heads * width, heads, d_ff, n_layers)
    model = Transformer(*sizes, bias=bias, final_norm=nn.Identity)
    assert count_transformer(*sizes, bias=bias) == sum(each.numel() for each in model.parameters())


def test_one_table_embeds_and_scores() -> None:
    model = small()
    source, lengths, target = torch.tensor([[5, 6]]), torch.tensor([2]), torch.tensor([[1, 7]])
    logits = model(source, lengths, target)
    (gradient,) = torch.autograd.grad(logits.sum(), model.embedding.weight)
    assert gradient.abs().sum(dim=1).min() > 0  # every row scores, whether it was read or not
    x = model.decoder(
        model.embed(target),
        *model.encode(source, lengths)[:1],
        causal_mask(2),
        padding_mask(lengths, 2),
    )
    close(logits, x @ model.embedding.weight.T)


@residuals
def test_the_future_of_the_target_is_hidden(residual: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    block = shaken(DecoderBlock(12, 3, 10, residual=residual))
    memory = torch.randn(2, 4, 12, dtype=torch.float64)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    assert_the_future_is_hidden(lambda y: block(y, memory, causal_mask(5)), x)
    with pytest.raises(AssertionError, match="is seen before it"):
        assert_the_future_is_hidden(lambda y: block(y, memory), x)
    model = small(residual=residual)
    source, lengths = torch.randint(4, 11, (3, 6)), torch.tensor([6, 2, 4])
    target = torch.randint(4, 11, (3, 5))
    logits = model(source, lengths, target)
    for position in range(1, 5):
        other = target.clone()
        other[:, position:] = torch.randint(4, 11, (3, 5 - position))
        changed = model(source, lengths, other)
        torch.testing.assert_close(changed[:, :position], logits[:, :position], rtol=0, atol=0)


@given(seed=seeds, lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_padding_of_the_source_is_not_felt(seed: int, lengths: list[int]) -> None:
    torch.manual_seed(seed)
    block = shaken(DecoderBlock(12, 3, 10))
    asking = torch.randn(1, 3, 12, dtype=torch.float64)
    sentences = [torch.randn(length, 12, dtype=torch.float64) for length in lengths]

    def consult(memory: Tensor, real: Tensor) -> Tensor:
        said = block(
            asking.expand(len(memory), -1, -1), memory, None, padding_mask(real, memory.shape[1])
        )
        # a position of the source for each: what is said of the sentence as a whole
        return said.mean(1, keepdim=True).expand(-1, memory.shape[1], -1)

    assert_padding_changes_nothing(consult, sentences, n=7, tolerance=1e-10)
    model = small()
    source = torch.randint(4, 11, (len(lengths), 6))
    real, target = torch.tensor(lengths), torch.randint(4, 11, (len(lengths), 4))
    logits = model(source, real, target)
    padded = F.pad(source, (0, 3), value=9)
    torch.testing.assert_close(model(padded, real, target), logits, rtol=1e-10, atol=1e-10)
    hidden = source.masked_fill(torch.arange(6) >= real[:, None], 0)
    assert torch.equal(model(hidden, real, target), logits)


def test_padding_of_the_target_changes_no_gradient() -> None:
    model = small()
    source, lengths = torch.randint(4, 11, (2, 5)), torch.tensor([5, 3])
    target = torch.tensor([[START, 5, 6, 7], [START, 8, 0, 0]])
    due = torch.tensor([[5, 6, 7, END], [8, END, 0, 0]])
    grads = []
    for extra in (0, 4):
        logits = model(source, lengths, F.pad(target, (0, extra)))
        loss = label_smoothing_loss(logits, F.pad(due, (0, extra)))
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*grads):
        close(one, other)


# --- decoding ------------------------------------------------------------------------------------


@residuals
@pytest.mark.parametrize("rotate", [None, apply_rope], ids=["sinusoids", "and rotary"])
@settings(max_examples=20)
@given(seed=seeds, pieces=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_decoding_with_caches_equals_reading_everything(
    rotate: Any, residual: Callable[..., nn.Module], seed: int, pieces: list[int]
) -> None:
    torch.manual_seed(seed)
    model = small(residual=residual, max_len=12, rotate=rotate)
    source, lengths = torch.randint(4, 11, (3, 6)), torch.tensor([6, 1, 4])
    target = torch.randint(4, 11, (3, sum(pieces)))
    memory, state, logits, weights = model.encode(source, lengths), None, [], []
    for piece in target.split(pieces, dim=1):
        decoded = model.decode(memory, piece, state)
        state = decoded.state
        logits.append(decoded.logits)
        weights.append(decoded.weights)
    with torch.no_grad(), attention_weights(model.decoder) as maps:
        close(torch.cat(logits, dim=1), model(source, lengths, target))
    cross = torch.stack(maps[1::2])  # (layers, B, h, m, n)
    close(torch.cat(weights, dim=1), cross.mean(dim=(0, 2)))
    close(torch.cat(weights, dim=1).sum(-1), torch.ones(3, sum(pieces), dtype=torch.float64))
    own, of_source = state[0]
    assert isinstance(own, KVCache)
    assert own.length == sum(pieces)
    assert of_source.length == 6  # the source's keys and values were computed once


def test_the_cache_has_an_end() -> None:
    model = small(max_len=3)
    memory = model.encode(torch.tensor([[5, 6]]), torch.tensor([2]))
    state = model.decode(memory, torch.tensor([[1, 5, 6]])).state
    with pytest.raises(ValueError, match="room for 3"):
        model.decode(memory, torch.tensor([[7]]), state)


def test_lesson_06s_decoders_take_it() -> None:
    model = small()
    source, lengths = torch.randint(4, 11, (4, 6)), torch.tensor([6, 1, 4, 3])
    together = greedy_decode(model, source, lengths, 8)
    for i, said in enumerate(together):
        alone = source[i : i + 1, : lengths[i]]
        assert greedy_decode(model, alone, lengths[i : i + 1], 8) == [said]
        memory = model.encode(alone, lengths[i : i + 1])

        def step(prefixes: Tensor, memory: Any = memory) -> Tensor:
            wide = type(memory)(*(part.repeat_interleave(len(prefixes), 0) for part in memory))
            return model.decode(wide, prefixes).logits[:, -1].log_softmax(-1).float()

        found, _ = beam_search(step, START, END, beam=1, max_length=8)
        assert [word for word in found if word != END] == said
        _, better = beam_search(step, START, END, beam=4, max_length=8)
        assert better >= _score(step, found) - 1e-5


def _score(step: Callable[[Tensor], Tensor], tokens: list[int]) -> float:
    total = 0.0
    for i, word in enumerate(tokens):
        total += step(torch.tensor([[START, *tokens[:i]]]))[0, word].item()
    return total


@pytest.mark.cuda
def test_on_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    model = small().to("cuda")
    source, lengths = torch.randint(4, 11, (2, 6)), torch.tensor([6, 3])
    logits = model(source.cuda(), lengths.cuda(), torch.randint(4, 11, (2, 4)).cuda())
    assert logits.is_cuda
    assert len(greedy_decode(model, source.cuda(), lengths.cuda(), 5)) == 2
