"""Positions agree with closed forms, with Hugging Face's rotary embeddings, T5's buckets and BLOOM's slopes."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from attention_properties import (
    assert_an_empty_sentence_is_silent,
    assert_padding_changes_nothing,
    assert_the_future_is_hidden,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, T5Config
from transformers.models.bloom import modeling_bloom
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.t5.modeling_t5 import T5Attention

from course_lib.models.attention import attention, causal_mask, padding_mask
from course_lib.models.multi_head import KVCache, MultiHeadAttention, merge_heads, split_heads
from course_lib.models.positions import (
    BiasedAttention,
    LearnedPositions,
    RelativeBias,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    apply_rope,
    biased_attention,
    frequencies,
    half_split_order,
    offsets,
    relative_bucket,
    sinusoidal_encoding,
)

pytestmark = pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
SEEDS = st.integers(0, 2**31)


def close(got: Tensor, expected: Tensor, dtype: torch.dtype = torch.float64) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- sinusoidal ----------------------------------------------------------------------------------


@DTYPES
@given(d=st.integers(1, 33), base=st.sampled_from([2.0, 100.0, 10_000.0]), first=st.integers(0, 90))
def test_sinusoidal_encoding_is_the_papers_formula(
    dtype: torch.dtype, d: int, base: float, first: int
) -> None:
    positions = torch.tensor([0, 1, first, 2.5, -3], dtype=dtype)
    expected = [
        [
            (math.cos if column % 2 else math.sin)(p / base ** (2 * (column // 2) / d))
            for column in range(d)
        ]
        for p in positions.tolist()
    ]
    close(sinusoidal_encoding(positions, d, base), torch.tensor(expected, dtype=dtype), dtype)


@pytest.mark.parametrize("d", [2, 8, 64])
def test_sinusoidal_encoding_has_gpt_js_numbers_in_another_order(d: int) -> None:
    theirs = modeling_gptj.create_sinusoidal_positions(50, d)  # all sines, then all cosines
    ours = sinusoidal_encoding(torch.arange(50.0), d)
    close(ours[:, half_split_order(d)], theirs, torch.float32)


def test_positions_may_be_whole_numbers_and_have_any_shape(device: str) -> None:
    table = torch.tensor([[0, 3], [7, 1]], device=device)
    found = sinusoidal_encoding(table, 6)
    assert found.shape == (2, 2, 6)
    assert found.device.type == device
    assert torch.equal(found, sinusoidal_encoding(table.float(), 6))


@given(d=st.integers(1, 40), base=st.floats(1.5, 1e6))
def test_frequencies_fall_from_one(d: int, base: float) -> None:
    rates = frequencies(d, base, torch.float64)
    assert rates.shape == ((d + 1) // 2,)
    assert rates[0] == 1
    assert bool((rates.diff() < 0).all())
    assert rates.min() > 1 / base or d == 1


@given(d=st.integers(1, 12).map(lambda pairs: 2 * pairs), shift=st.integers(-50, 50))
def test_a_shift_is_a_linear_map_whatever_the_position(d: int, shift: int) -> None:
    """Rotation by the shift's angle, pair by pair (row vectors: p M)."""
    matrix = torch.zeros(d, d, dtype=torch.float64)
    for i, angle in enumerate((shift * frequencies(d, dtype=torch.float64)).tolist()):
        c, s = math.cos(angle), math.sin(angle)
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor(
            [[c, -s], [s, c]], dtype=torch.float64
        )
    positions = torch.arange(0, 200, 7, dtype=torch.float64)
    shifted = sinusoidal_encoding(positions + shift, d)
    close(sinusoidal_encoding(positions, d) @ matrix, shifted)


# --- added positions -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SinusoidalPositions, partial(LearnedPositions, 12, 5)])
@DTYPES
def test_added_positions_in_pieces_are_those_of_the_whole(
    make: Callable[[], torch.nn.Module], dtype: torch.dtype
) -> None:
    add = make().to(dtype)
    x = random(0, 2, 12, 5, dtype=dtype)
    whole = add(x)
    pieces = [add(x[:, :7]), add(x[:, 7:8], start=7), add(x[:, 8:], start=8)]
    close(torch.cat(pieces, dim=1), whole, dtype)
    assert not torch.allclose(whole, x)
    added = (whole - x).detach()
    close(added[1], added[0], dtype)  # the same for every sentence of the batch


def test_learned_positions_are_learnt_and_end() -> None:
    add = LearnedPositions(6, 4)
    x = torch.zeros(3, 5, 4)
    add(x).sum().backward()
    assert torch.equal(add.table.grad, torch.tensor([3.0] * 5 + [0.0])[:, None].expand(6, 4))
    with pytest.raises(ValueError, match="for 6 positions, not for 7"):
        add(x, start=2)


# --- rotary --------------------------------------------------------------------------------------


@DTYPES
@given(
    seed=SEEDS,
    batch=st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3)]),
    n=st.integers(1, 9),
    pairs=st.integers(1, 9),
    start=st.integers(0, 70),
    base=st.sampled_from([10.0, 10_000.0]),
)
def test_rope_multiplies_complex_numbers(
    dtype: torch.dtype,
    seed: int,
    batch: tuple[int, ...],
    n: int,
    pairs: int,
    start: int,
    base: float,
) -> None:
    x = random(seed, *batch, n, 2 * pairs, dtype=dtype).requires_grad_()
    cotangent = random(seed + 1, *batch, n, 2 * pairs, dtype=dtype)
    z = torch.view_as_complex(x.double().unflatten(-1, (pairs, 2)).contiguous())
    angles = torch.tensor(
        [[p / base ** (i / pairs) for i in range(pairs)] for p in range(start, start + n)],
        dtype=torch.float64,
    )
    expected = torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    found = apply_rope(x, start, base)
    close(found, expected.to(dtype), dtype)
    (got,) = torch.autograd.grad(found, x, cotangent)
    (wanted,) = torch.autograd.grad(expected, x, cotangent.double())
    close(got, wanted, dtype)


def their_angles(n: int, d: int, base: float = 10_000.0) -> Tensor:
    return torch.arange(n, dtype=torch.float64)[:, None] * frequencies(d, base, torch.float64)


@given(seed=SEEDS, n=st.integers(1, 30), pairs=st.integers(1, 20))
def test_rope_agrees_with_llamas_half_split_pairs_through_the_permutation(
    seed: int, n: int, pairs: int
) -> None:
    d = 2 * pairs
    q, k = (random(seed + i, 2, 3, n, d) for i in (0, 1))
    order = half_split_order(d)
    angles = their_angles(n, d).repeat(1, 2)[None]  # (1, n, d): the frequencies twice, as Llama has them
    theirs = modeling_llama.apply_rotary_pos_emb(
        q[..., order], k[..., order], angles.cos(), angles.sin()
    )
    for mine, other in zip((apply_rope(q), apply_rope(k)), theirs):
        close(mine[..., order], other)
    scores = apply_rope(q) @ apply_rope(k).transpose(-2, -1)
    close(scores, theirs[0] @ theirs[1].transpose(-2, -1))  # scores need no permutation


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_rope_agrees_with_llamas_own_module(base: float) -> None:
    d, n = 16, 40
    config = LlamaConfig(
        hidden_size=2 * d,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    q = random(0, 1, 2, n, d, dtype=torch.float32)
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(q, torch.arange(n)[None])
    order = half_split_order(d)
    theirs, _ = modeling_llama.apply_rotary_pos_emb(q[..., order], q[..., order], cos, sin)
    close(apply_rope(q, base=base)[..., order], theirs, torch.float32)


@given(seed=SEEDS, n=st.integers(1, 30), pairs=st.integers(1, 20))
def test_rope_agrees_with_gpt_js_interleaved_pairs_as_they_are(
    seed: int, n: int, pairs: int
) -> None:
    q = random(seed, 2, n, 3, 2 * pairs)  # (B, n, h, d_head)
    angles = their_angles(n, 2 * pairs)[None]  # (1, n, pairs)
    theirs = modeling_gptj.apply_rotary_pos_emb(q, angles.sin(), angles.cos())
    close(apply_rope(q.transpose(1, 2)).transpose(1, 2), theirs)


@given(seed=SEEDS, m=st.integers(0, 100), n=st.integers(0, 100), shift=st.integers(0, 1000))
def test_scores_of_turned_vectors_depend_on_the_offset_alone(
    seed: int, m: int, n: int, shift: int
) -> None:
    q, k = random(seed, 1, 8), random(seed + 1, 1, 8)

    def score(at: int, other: int) -> Tensor:
        return apply_rope(q, at) @ apply_rope(k, other).T

    close(score(m + shift, n + shift), score(m, n))
    close(apply_rope(q, m).norm(dim=-1), q.norm(dim=-1))
    # turning by m and then by n is turning by m + n
    close(apply_rope(apply_rope(q, m), n), apply_rope(q, m + n))


def test_rope_refuses_odd_widths() -> None:
    with pytest.raises(ValueError, match="width of 5"):
        apply_rope(torch.zeros(3, 5))


def test_rope_tells_neighbours_apart_in_bfloat16() -> None:
    x = torch.ones(300, 2, dtype=torch.bfloat16)
    turned = apply_rope(x)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned.float(), apply_rope(x.float()), rtol=0, atol=0.02)
    assert not torch.equal(turned[256], turned[257])


def test_rope_stays_on_its_device(device: str) -> None:
    x = random(0, 2, 5, 6, dtype=torch.float32)
    close(apply_rope(x.to(device), 3).cpu(), apply_rope(x, 3), torch.float32)


# --- relative buckets ----------------------------------------------------------------------------


SIZES = [(32, 128), (8, 16), (16, 64), (8, 20), (12, 50), (6, 30), (4, 8), (64, 256), (20, 77)]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), SIZES)
def test_relative_buckets_are_t5s(n_buckets: int, max_distance: int, bidirectional: bool) -> None:
    offset = torch.arange(-3 * max_distance, 3 * max_distance + 1)
    theirs = T5Attention._relative_position_bucket(offset, bidirectional, n_buckets, max_distance)
    ours = relative_bucket(offset, n_buckets, max_distance, bidirectional)
    assert ours.dtype == torch.int64
    assert torch.equal(ours, theirs)
    assert torch.equal(relative_bucket(offset.view(1, -1, 1), n_buckets, max_distance, bidirectional),
                       theirs.view(1, -1, 1))  # fmt: skip


@pytest.mark.parametrize(("n_buckets", "max_distance"), SIZES)
def test_relative_buckets_are_right_in_exact_arithmetic(n_buckets: int, max_distance: int) -> None:
    """No rounding error moves a distance over a border: compared with fractions, without logarithms."""
    exact = n_buckets // 2
    for distance in range(4 * max_distance):
        expected = distance
        if distance >= exact:
            wide = n_buckets - exact
            share = Fraction(distance, exact) ** wide
            step = Fraction(max_distance, exact)
            expected = exact + max(i for i in range(wide) if step**i <= share)
        offset = torch.tensor(-distance)
        assert relative_bucket(offset, n_buckets, max_distance, False) == expected


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_relative_bias_is_t5s(bidirectional: bool) -> None:
    config = T5Config(d_model=8, d_kv=2, num_heads=4, relative_attention_num_buckets=12,
                      relative_attention_max_distance=50, is_decoder=not bidirectional)  # fmt: skip
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double()
    ours = RelativeBias(4, 12, 50, bidirectional).double()
    with torch.no_grad():
        ours.table.weight.copy_(theirs.relative_attention_bias.weight)
    close(ours(70), theirs.compute_bias(70, 70)[0])
    close(ours(1, 70), theirs.compute_bias(1, 70, past_seen_tokens=69)[0])
    close(ours(5, 70), theirs.compute_bias(5, 70, past_seen_tokens=65)[0])


def test_offsets_stand_at_the_bottom_right(device: str) -> None:
    found = offsets(2, 4, device)
    assert found.device.type == device
    assert found.tolist() == [[-2, -1, 0, 1], [-3, -2, -1, 0]]
    assert torch.equal(offsets(5), offsets(5, 5))
    assert torch.equal(offsets(3, 7) <= 0, causal_mask(3, 7))


# --- ALiBi ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_heads", range(1, 65))
def test_alibi_slopes_are_blooms(n_heads: int) -> None:
    theirs = modeling_bloom._get_alibi_slopes(n_heads, torch.device("cpu"))
    close(torch.tensor(alibi_slopes(n_heads)), theirs.float().reshape(-1), torch.float32)


def test_alibi_slopes_are_those_of_the_paper() -> None:
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]  # section 3: 1/2, 1/4, …, 1/256
    assert alibi_slopes(16) == [2.0 ** (-i / 2) for i in range(1, 17)]
    assert alibi_slopes(6) == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    assert alibi_slopes(1) == [2**-8]


@given(h=st.integers(1, 13), n_q=st.integers(1, 9), cached=st.integers(0, 5))
def test_alibi_bias_is_the_slope_times_the_distance(h: int, n_q: int, cached: int) -> None:
    n_k = n_q + cached
    expected = [
        [[-slope * abs(j - (i + cached)) for j in range(n_k)] for i in range(n_q)]
        for slope in alibi_slopes(h)
    ]
    close(alibi_bias(h, n_q, n_k), torch.tensor(expected), torch.float32)
    assert torch.equal(alibi_bias(h, n_q), alibi_bias(h, n_q, n_q))


@pytest.mark.parametrize("n_heads", [4, 6])
def test_alibi_gives_blooms_weights(n_heads: int) -> None:
    """BLOOM adds slope · key position: another bias, but a constant in each row apart, so the same softmax."""
    n = 11
    theirs = modeling_bloom.build_alibi_tensor(torch.ones(1, n), n_heads, torch.float32)
    hidden = ~causal_mask(n)
    weights = [
        bias.expand(n_heads, n, n).masked_fill(hidden, -math.inf).softmax(-1)
        for bias in (theirs, alibi_bias(n_heads, n))
    ]
    close(*weights, torch.float32)


def test_alibi_bias_is_made_where_it_is_asked_for(device: str) -> None:
    assert alibi_bias(3, 2, 4, device).device.type == device


# --- attention with a bias -----------------------------------------------------------------------


@DTYPES
@given(seed=SEEDS, n_q=st.integers(1, 7), n_k=st.integers(1, 7), masked=st.booleans())
def test_biased_attention_and_its_gradients_agree_with_sdpa(
    dtype: torch.dtype, seed: int, n_q: int, n_k: int, masked: bool
) -> None:
    q, k, v, bias = (
        random(seed + i, *shape, dtype=dtype).requires_grad_()
        for i, shape in enumerate([(2, 3, n_q, 5), (2, 3, n_k, 5), (2, 3, n_k, 4), (3, n_q, n_k)])
    )
    mask = random(seed + 4, 2, 1, n_q, n_k) > 0 if masked else None
    float_mask = bias.expand(2, 3, n_q, n_k)
    if mask is not None:
        float_mask = float_mask.masked_fill(~mask, torch.finfo(dtype).min)
    reference = F.scaled_dot_product_attention(q, k, v, attn_mask=float_mask)
    if mask is not None:
        reference = reference * mask.any(-1, keepdim=True)
    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = biased_attention(q, k, v, bias, mask)
        found = torch.autograd.grad(output, (q, k, v, bias), torch.ones_like(output))
    close(output, reference, dtype)
    close(weights @ v, reference, dtype)
    expected = torch.autograd.grad(reference, (q, k, v, bias), torch.ones_like(output))
    for got, wanted in zip(found, expected):
        close(got, wanted, dtype)


def test_without_a_bias_it_is_lesson_07s_attention() -> None:
    q, k, v = (random(i, 2, 3, 5, 4) for i in range(3))
    mask = causal_mask(5)
    for got, expected in zip(biased_attention(q, k, v, torch.zeros(5, 5), mask), attention(q, k, v, mask)):
        close(got, expected)


def test_biased_attention_works_in_bfloat16() -> None:
    q, k, v = (random(i, 1, 4, 6, 8).bfloat16() for i in range(3))
    output, weights = BiasedAttention(partial(alibi_bias, 4))(q, k, v, causal_mask(6))
    assert output.dtype == weights.dtype == torch.bfloat16
    assert bool(output.isfinite().all())


# --- in a layer ----------------------------------------------------------------------------------

D, H = 12, 3
LAYERS: dict[str, Callable[[], MultiHeadAttention]] = {
    "RoPE": lambda: MultiHeadAttention(D, H, rotate=apply_rope),
    "RoPE, shared keys": lambda: MultiHeadAttention(D, H, 1, rotate=apply_rope),
    "T5": lambda: MultiHeadAttention(D, H, attend=BiasedAttention(RelativeBias(H, 8, 10, False))),
    "ALiBi": lambda: MultiHeadAttention(D, H, attend=BiasedAttention(partial(alibi_bias, H))),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


@every_layer
def test_a_layer_with_positions_keeps_the_future_hidden(
    make: Callable[[], MultiHeadAttention],
) -> None:
    torch.manual_seed(0)
    layer = make().double()
    assert_the_future_is_hidden(lambda x: layer(x, mask=causal_mask(6))[0], random(1, 2, 6, D))


@every_layer
def test_a_layer_with_positions_feels_no_padding(make: Callable[[], MultiHeadAttention]) -> None:
    torch.manual_seed(0)
    layer = make().double()

    def call(x: Tensor, lengths: Tensor) -> Tensor:
        return layer(x, mask=padding_mask(lengths, x.shape[1]))[0]

    assert_padding_changes_nothing(call, [random(i, 2 + i, D) for i in range(3)], 7)
    assert_an_empty_sentence_is_silent(call, random(4, 3, 5, D))


@every_layer
def test_a_layer_with_positions_reads_the_same_with_a_cache(
    make: Callable[[], MultiHeadAttention],
) -> None:
    torch.manual_seed(0)
    layer, x = make().double(), random(2, 2, 20, D)
    with torch.no_grad():
        at_once, _ = layer(x, mask=causal_mask(20))
        for sizes in ([1] * 20, [7, 6, 1, 6], [20]):
            cache, outputs = KVCache.for_layer(layer, 2, 20), []
            for chunk in x.split(sizes, dim=1):
                end = cache.length + chunk.shape[1]
                mask = causal_mask(chunk.shape[1], end)
                outputs.append(layer(chunk, mask=mask, cache=cache)[0])
            close(torch.cat(outputs, dim=1), at_once)


@every_layer
def test_a_layer_with_positions_tells_orders_apart(make: Callable[[], MultiHeadAttention]) -> None:
    torch.manual_seed(0)
    layer, x = make().double(), random(3, 1, 6, D)
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    with torch.no_grad():
        assert not torch.allclose(layer(x[:, order])[0], layer(x)[0][:, order], atol=1e-3)


@every_layer
def test_a_shift_of_the_whole_text_changes_nothing(make: Callable[[], MultiHeadAttention]) -> None:
    """All four know positions through offsets alone: what stands in front, unheard, does not matter."""
    torch.manual_seed(0)
    layer, x = make().double(), random(5, 1, 6, D)
    in_front = random(6, 1, 9, D)
    hidden = causal_mask(15).clone()
    hidden[:, :9] = False
    with torch.no_grad():
        alone, _ = layer(x, mask=causal_mask(6))
        behind, _ = layer(torch.cat([in_front, x], dim=1), mask=hidden)
    close(behind[:, 9:], alone)


def test_the_table_of_a_shared_bias_gets_gradients_of_both_layers() -> None:
    torch.manual_seed(0)
    bias = BiasedAttention(RelativeBias(H, 8, 10, False))
    first, second = (MultiHeadAttention(D, H, attend=bias).double() for _ in range(2))
    x = random(0, 1, 5, D)
    names = [name for name, _ in torch.nn.ModuleList([first, second]).named_parameters()]
    assert sum("bias.table" in name for name in names) == 1
    second(first(x, mask=causal_mask(5))[0], mask=causal_mask(5))[0].square().sum().backward()
    assert bool(bias.bias.table.weight.grad[:3].any())


def test_rotate_reaches_the_layer_by_hand() -> None:
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(D, H, rotate=apply_rope).double(), random(0, 2, 5, D)
    q, k, v = (split_heads(to(x), H) for to in (layer.to_q, layer.to_k, layer.to_v))
    said = F.scaled_dot_product_attention(apply_rope(q), apply_rope(k), v, is_causal=True)
    close(layer(x, mask=causal_mask(5))[0], layer.to_out(merge_heads(said)))
