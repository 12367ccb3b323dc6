"""Lesson 10's parts against PyTorch's: norms, feed-forward, dropout, the block, initialisation, counts."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from attention_properties import assert_padding_changes_nothing, assert_the_future_is_hidden
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.block import (
    ACTIVATIONS,
    Dropout,
    FeedForward,
    LayerNorm,
    PostNorm,
    PreNorm,
    RMSNorm,
    TransformerBlock,
    attention_weights,
    copy_encoder_layer,
    count_flops,
    count_parameters,
    gelu,
    gelu_tanh,
    initialise,
    silu,
)
from course_lib.models.multi_head import KVCache
from course_lib.models.positions import apply_rope

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
seeds = st.integers(0, 2**31)


def close(got: Tensor, expected: Tensor, dtype: torch.dtype = torch.float64) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    # rounding is as large as the largest terms of a sum, however small the sum itself
    largest = max(1.0, expected.abs().max().item())
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * largest)


def same_outputs_and_gradients(
    ours: Tensor, theirs: Tensor, wrt: list[Tensor], wrt_theirs: list[Tensor], dtype: torch.dtype
) -> None:
    close(ours, theirs, dtype)
    cotangent = torch.randn_like(ours)
    found = torch.autograd.grad(ours, wrt, cotangent)
    for got, expected in zip(found, torch.autograd.grad(theirs, wrt_theirs, cotangent)):
        close(got, expected, dtype)


def shaken(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return the module with random parameters, so that no scale is 1 and no shift is 0."""
    with torch.no_grad():
        for each in module.parameters():
            size = 1 / math.sqrt(each.shape[-1]) if each.dim() == 2 else 0.5
            each.copy_(torch.randn(each.shape) * size + (each.dim() == 1))
    return module.to(dtype)


# --- norms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
@DTYPES
@given(
    shape=st.lists(st.integers(1, 5), max_size=3),
    d=st.integers(1, 33),
    eps=st.sampled_from([1e-5, 1e-3, 0.1]),
    seed=seeds,
)
@example([2, 3], 33, 1e-12, 0)
def test_norms_and_their_gradients_agree_with_torch(
    kind: str, dtype: torch.dtype, shape: list[int], d: int, eps: float, seed: int
) -> None:
    torch.manual_seed(seed)
    if dtype == torch.float32:
        eps = max(eps, 1e-2)  # 1/√eps multiplies rounding where all numbers of a vector are equal
    ours = shaken({"LayerNorm": LayerNorm, "RMSNorm": RMSNorm}[kind](d, eps), dtype)
    theirs = {"LayerNorm": nn.LayerNorm, "RMSNorm": nn.RMSNorm}[kind](d, eps, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    x = (3 * torch.randn(*shape, d, dtype=dtype) + 1).requires_grad_()
    same_outputs_and_gradients(
        ours(x), theirs(x), [x, *ours.parameters()], [x, *theirs.parameters()], dtype
    )


def test_layer_norm_divides_by_d_and_not_by_d_minus_1() -> None:
    x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    assert torch.allclose(LayerNorm(2, eps=0.0).double()(x), torch.tensor([[-1.0, 1.0]]).double())


def test_a_vector_of_equal_numbers_gives_the_shift_and_finite_gradients() -> None:
    norm = shaken(LayerNorm(4))
    x = torch.full((2, 4), 3.0, dtype=torch.float64, requires_grad=True)
    output = norm(x)
    assert torch.equal(output, norm.bias.expand(2, 4))
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    assert bool(gradient.isfinite().all())


def test_layer_norm_agrees_with_finite_differences() -> None:
    norm = shaken(LayerNorm(5))
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


@given(seed=seeds, d=st.integers(2, 9))
def test_the_jacobian_of_layer_norm_is_a_projection_over_sigma(seed: int, d: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(d, dtype=torch.float64)
    norm = LayerNorm(d, eps=0.0).double()
    jacobian = torch.autograd.functional.jacobian(norm, x)
    one, unit = torch.ones(d).double() / math.sqrt(d), norm(x).detach() / math.sqrt(d)
    projection = torch.eye(d).double() - torch.outer(one, one) - torch.outer(unit, unit)
    close(jacobian * x.std(correction=0), projection)
    close(projection @ projection, projection)
    close(norm(7 * x + 3), norm(x))


# --- feed-forward, activations, dropout ----------------------------------------------------------


def test_activations_agree_with_torch() -> None:
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    for ours, theirs in (
        (gelu, F.gelu),
        (gelu_tanh, partial(F.gelu, approximate="tanh")),
        (silu, F.silu),
    ):
        close(ours(x), theirs(x))
    assert (gelu(x) - gelu_tanh(x)).abs().max() < 5e-4


@DTYPES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward_is_what_it_says(activation: str, bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = shaken(FeedForward(7, 11, activation, bias=bias), dtype)
    theirs = {
        "relu": F.relu,
        "gelu": F.gelu,
        "gelu_tanh": partial(F.gelu, approximate="tanh"),
        "geglu": partial(F.gelu, approximate="tanh"),
        "swiglu": F.silu,
    }[activation]
    x = torch.randn(2, 3, 7, dtype=dtype, requires_grad=True)
    up = F.linear(x, module.up.weight, module.up.bias)
    if module.gate is None:
        hidden = theirs(up)
    else:
        hidden = theirs(F.linear(x, module.gate.weight, module.gate.bias)) * up
    expected = F.linear(hidden, module.down.weight, module.down.bias)
    wrt = [x, *module.parameters()]
    same_outputs_and_gradients(module(x), expected, wrt, wrt, dtype)
    assert (module.gate is not None) == (activation in ("geglu", "swiglu"))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="no activation"):
        FeedForward(2, 3, "sigmoid")


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_draws_what_torch_draws(p: float) -> None:
    x = torch.randn(40, 50, dtype=torch.float64, requires_grad=True)
    outputs = []
    for module in (Dropout(p), nn.Dropout(p)):
        torch.manual_seed(3)
        outputs.append(module(x))
    same_outputs_and_gradients(*outputs, [x], [x], torch.float64)
    assert Dropout(p).eval()(x) is x


def test_dropout_keeps_the_mean_and_refuses_what_is_no_share() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.3)(torch.ones(100_000, dtype=torch.float64))
    assert abs(dropped.mean() - 1) < 0.01
    assert abs((dropped == 0).double().mean() - 0.3) < 0.01
    with pytest.raises(ValueError, match="share"):
        Dropout(1.5)


# --- the block -----------------------------------------------------------------------------------


def pair_of_blocks(
    residual: type[nn.Module],
    d_model: int,
    n_heads: int,
    d_ff: int,
    activation: str = "relu",
    bias: bool = True,
    dropout: float = 0.0,
    eps: float = 1e-5,
    dtype: torch.dtype = torch.float64,
) -> tuple[TransformerBlock, nn.TransformerEncoderLayer]:
    """Return our block and PyTorch's layer with the same random weights."""
    theirs = nn.TransformerEncoderLayer(
        d_model,
        n_heads,
        d_ff,
        dropout,
        {"gelu_tanh": partial(F.gelu, approximate="tanh")}.get(activation, activation),
        eps,
        batch_first=True,
        norm_first=residual is PreNorm,
        bias=bias,
    )
    shaken(theirs, dtype)
    # PyTorch also drops attention weights and hidden units: here only what is added to the stream
    theirs.self_attn.dropout = 0.0
    theirs.dropout.p = 0.0
    ours = TransformerBlock(
        d_model,
        n_heads,
        d_ff,
        residual=residual,
        norm=partial(LayerNorm, eps=eps),
        activation=activation,
        dropout=dropout,
        bias=bias,
    ).to(dtype)
    copy_encoder_layer(ours, theirs)
    return ours, theirs


def in_order(ours: TransformerBlock, theirs: nn.TransformerEncoderLayer) -> list[tuple]:
    """Return pairs of parameters that must have the same gradient; q, k, v of PyTorch's lie in one matrix."""
    pairs = [
        (ours.attention.to_out, theirs.self_attn.out_proj),
        (ours.feed_forward.up, theirs.linear1),
        (ours.feed_forward.down, theirs.linear2),
        (ours.communicate.norm, theirs.norm1),
        (ours.compute.norm, theirs.norm2),
    ]
    return [
        (getattr(one, name), getattr(other, name))
        for one, other in pairs
        for name in ("weight", "bias")
        if getattr(other, name) is not None
    ]


residuals = pytest.mark.parametrize("residual", [PreNorm, PostNorm], ids=lambda each: each.__name__)


@residuals
@DTYPES
@given(
    seed=seeds,
    heads=st.integers(1, 4),
    d_head=st.integers(1, 5),
    d_ff=st.integers(1, 17),
    n=st.integers(1, 7),
    activation=st.sampled_from(["relu", "gelu", "gelu_tanh"]),
    causal=st.booleans(),
    lengths=st.none() | st.lists(st.integers(1, 7), min_size=3, max_size=3),
    bias=st.booleans(),
    training=st.booleans(),
)
@example(0, 3, 5, 17, 7, "gelu", True, [7, 2, 4], True, True)
def test_the_block_and_its_gradients_agree_with_torch(
    residual: type[nn.Module],
    dtype: torch.dtype,
    seed: int,
    heads: int,
    d_head: int,
    d_ff: int,
    n: int,
    activation: str,
    causal: bool,
    lengths: list[int] | None,
    bias: bool,
    training: bool,
) -> None:
    torch.manual_seed(seed)
    eps = 1e-5 if dtype == torch.float64 else 1e-2  # narrow vectors have small variances
    ours, theirs = pair_of_blocks(
        residual, heads * d_head, heads, d_ff, activation, bias, 0.0, eps, dtype
    )
    ours.train(training)
    theirs.train(training)
    x = torch.randn(3, n, heads * d_head, dtype=dtype, requires_grad=True)
    mask, options = None, {}
    if causal:
        mask = causal_mask(n)
        options["src_mask"] = ~mask
    if lengths is not None:
        real = padding_mask(torch.tensor(lengths).clamp(max=n), n)
        mask = real if mask is None else mask & real
        options["src_key_padding_mask"] = ~real[:, 0]
    output, other = ours(x, mask), theirs(x, **options)
    close(output, other, dtype)
    cotangent = torch.randn_like(output)
    pairs = in_order(ours, theirs)
    found = torch.autograd.grad(
        output, [x, *(one for one, _ in pairs)], cotangent, retain_graph=True
    )
    expected = torch.autograd.grad(
        other, [x, *(one for _, one in pairs)], cotangent, retain_graph=True
    )
    for got, wanted in zip(found, expected):
        close(got, wanted, dtype)
    names = ("weight", "bias") if bias else ("weight",)
    for name in names:
        parts = [
            getattr(each, name)
            for each in (ours.attention.to_q, ours.attention.to_k, ours.attention.to_v)
        ]
        joined = torch.cat(torch.autograd.grad(output, parts, cotangent, retain_graph=True))
        (whole,) = torch.autograd.grad(
            other, getattr(theirs.self_attn, f"in_proj_{name}"), cotangent, retain_graph=True
        )
        close(joined, whole, dtype)


@residuals
def test_the_block_agrees_with_torchs_fast_path(residual: type[nn.Module]) -> None:
    torch.manual_seed(0)
    ours, theirs = pair_of_blocks(residual, 8, 2, 12)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        close(ours.eval()(x), theirs.eval()(x))


@residuals
def test_the_block_drops_what_torch_drops(residual: type[nn.Module]) -> None:
    torch.manual_seed(0)
    ours, theirs = pair_of_blocks(residual, 12, 3, 20, dropout=0.4)
    # a batch of one: in a larger one PyTorch's attention lies otherwise in memory, and noise follows that
    x = torch.randn(1, 7, 12, dtype=torch.float64, requires_grad=True)
    outputs = []
    for layer in (ours, theirs):
        torch.manual_seed(5)
        outputs.append(layer(x))
    same_outputs_and_gradients(*outputs, [x], [x], torch.float64)
    assert not torch.allclose(ours(x), outputs[0])
    close(ours.eval()(x), theirs.eval()(x))
    assert torch.equal(ours(x), ours(x))


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_stack_agrees_with_nn_transformer_encoder(norm_first: bool) -> None:
    torch.manual_seed(0)
    residual = PreNorm if norm_first else PostNorm
    ours, layers = zip(*(pair_of_blocks(residual, 12, 3, 20) for _ in range(3)))
    encoder = nn.TransformerEncoder(layers[0], 3, norm=None, enable_nested_tensor=False).double()
    encoder.layers = nn.ModuleList(layers)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    stream, mask = x, causal_mask(5)
    for block in ours:
        stream = block(stream, mask)
    close(stream, encoder(x, mask=~mask))


def test_copying_refuses_what_does_not_fit() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    for other in (
        TransformerBlock(8, 2, 12, activation="swiglu"),
        TransformerBlock(8, 4, 12),
        TransformerBlock(8, 2, 12, bias=False),
        TransformerBlock(8, 2, 12, n_kv_heads=1),
    ):
        with pytest.raises(ValueError, match=r"gate|equal|shares|mismatch"):
            copy_encoder_layer(other, layer)


@residuals
@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
@given(seed=seeds, lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_the_block_hides_the_future_and_does_not_feel_padding(
    residual: type[nn.Module], norm: type[nn.Module], seed: int, lengths: list[int]
) -> None:
    torch.manual_seed(seed)
    block = shaken(
        TransformerBlock(12, 4, 10, residual=residual, norm=norm, activation="swiglu", n_kv_heads=2)
    )
    assert_the_future_is_hidden(lambda x: block(x, causal_mask(5)), torch.randn(2, 5, 12).double())
    sentences = [torch.randn(length, 12).double() for length in lengths]
    assert_padding_changes_nothing(
        lambda x, real: block(x, padding_mask(real, x.shape[1])), sentences, n=7, tolerance=1e-10
    )


@residuals
@pytest.mark.parametrize("rotate", [None, apply_rope], ids=["plain", "rotated"])
def test_a_stack_with_caches_equals_reading_at_once(residual: type[nn.Module], rotate) -> None:
    torch.manual_seed(0)
    blocks = [
        shaken(TransformerBlock(12, 3, 10, residual=residual, n_kv_heads=1, rotate=rotate))
        for _ in range(3)
    ]
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    with torch.no_grad():
        at_once = x
        for block in blocks:
            at_once = block(at_once, causal_mask(9))
        caches = [KVCache.for_layer(block.attention, 2, 9) for block in blocks]
        chunks = []
        for start, end in ((0, 4), (4, 5), (5, 9)):
            stream = x[:, start:end]
            for block, cache in zip(blocks, caches):
                stream = block(stream, causal_mask(end - start, end), cache)
            chunks.append(stream)
    close(torch.cat(chunks, dim=1), at_once)


def test_attention_weights_are_collected_layer_by_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(TransformerBlock(8, 2, 6), TransformerBlock(8, 4, 6))
    x = torch.randn(3, 5, 8)
    with attention_weights(model) as weights:
        model(x)
    assert [tuple(each.shape) for each in weights] == [(3, 2, 5, 5), (3, 4, 5, 5)]
    assert torch.equal(weights[0], model[0].attention(model[0].communicate.norm(x))[1])
    model(x)
    assert len(weights) == 2


# --- initialisation and counts -------------------------------------------------------------------


def test_initialise_draws_the_sizes_that_it_says() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(400, 96), *(TransformerBlock(96, 4, 384) for _ in range(8)))
    initialise(model, n_blocks=8, std=0.02)
    block = model[3]
    small = 0.02 / math.sqrt(16)
    for weight, std in (
        (model[0].weight, 0.02),
        (block.attention.to_q.weight, 0.02),
        (block.feed_forward.up.weight, 0.02),
        (block.attention.to_out.weight, small),
        (block.feed_forward.down.weight, small),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(weight.mean().item()) < 0.05 * std
    for name, each in model.named_parameters():
        if name.endswith("bias"):
            assert not each.any()
        elif "norm" in name:
            assert bool((each == 1).all())
    initialise(model)
    assert block.feed_forward.down.weight.std().item() == pytest.approx(
        1 / math.sqrt(384), rel=0.03
    )
    assert block.attention.to_out.weight.std().item() == pytest.approx(1 / math.sqrt(96), rel=0.03)
    assert model[0].weight.std().item() == pytest.approx(1, rel=0.03)


@given(
    heads=st.sampled_from([(1, None), (4, None), (4, 2), (6, 1)]),
    d_head=st.integers(1, 9),
    own=st.none() | st.integers(1, 9),
    d_ff=st.integers(1, 40),
    activation=st.sampled_from(list(ACTIVATIONS)),
    bias=st.booleans(),
    rms=st.booleans(),
    n=st.integers(1, 9),
    cached=st.integers(0, 5),
)
def test_counts_are_what_torch_counts(
    heads: tuple[int, int | None],
    d_head: int,
    own: int | None,
    d_ff: int,
    activation: str,
    bias: bool,
    rms: bool,
    n: int,
    cached: int,
) -> None:
    h, g = heads
    sizes = {"n_kv_heads": g, "d_head": own, "activation": activation}
    block = TransformerBlock(
        h * d_head, h, d_ff, norm=RMSNorm if rms else LayerNorm, bias=bias, **sizes
    )
    counted = count_parameters(
        h * d_head, h, d_ff, bias=bias, norm_vectors=1 if rms else 2, **sizes
    )
    assert counted == sum(each.numel() for each in block.parameters())
    cache = None
    with torch.no_grad():
        if cached:
            cache = KVCache.for_layer(block.attention, 1, cached + n)
            block(torch.randn(1, cached, h * d_head), cache=cache)
        with FlopCounterMode(display=False) as counter:
            block(torch.randn(1, n, h * d_head), cache=cache)
    flops = count_flops(n, h * d_head, h, d_ff, n_k=cached + n, **sizes)
    assert flops == counter.get_total_flops()


def test_a_backward_pass_takes_twice_as_many_flops() -> None:
    block = TransformerBlock(24, 3, 50)
    x = torch.randn(2, 7, 24, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        block(x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * count_flops(7, 24, 3, 50)


def test_counts_agree_with_torchs_own_layer() -> None:
    layer = nn.TransformerEncoderLayer(512, 8, 2048)
    assert count_parameters(512, 8, 2048) == sum(each.numel() for each in layer.parameters())
    assert count_parameters(512, 8, 2048) == 3_152_384
