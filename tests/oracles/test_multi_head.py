"""Lesson 08's heads, MultiHeadAttention and KVCache against PyTorch's and einops' own."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.models.attention import SelfAttention, causal_mask, padding_mask
from course_lib.models.multi_head import (
    KVCache,
    MultiHeadAttention,
    copy_from_torch,
    copy_to_torch,
    merge_heads,
    split_heads,
)

pytestmark = pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def close(got: Tensor, expected: Tensor, dtype: torch.dtype = torch.float64) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def some_mask(batch: int, n_q: int, n_k: int, share: float = 0.6) -> Tensor:
    """Return a mask (batch, n_q, n_k) whose every row has a True."""
    mask = torch.rand(batch, n_q, n_k) < share
    return mask.scatter(-1, torch.randint(n_k, (batch, n_q, 1)), True)


# --- heads ---------------------------------------------------------------------------------------


@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 7),
    h=st.integers(1, 5),
    d=st.integers(1, 5),
)
def test_split_and_merge_agree_with_einops(batch: list[int], n: int, h: int, d: int) -> None:
    x = torch.randn(*batch, n, h * d)
    heads = split_heads(x, h)
    assert torch.equal(heads, rearrange(x, "... n (h d) -> ... h n d", h=h))
    assert torch.equal(merge_heads(heads), x)
    assert torch.equal(merge_heads(heads), rearrange(heads, "... h n d -> ... n (h d)"))
    again = torch.randn(*batch, h, n, d)
    assert torch.equal(split_heads(merge_heads(again), h), again)


def test_splitting_copies_nothing() -> None:
    x = torch.randn(2, 3, 8)
    assert split_heads(x, 4).data_ptr() == x.data_ptr()


# --- nn.MultiheadAttention -----------------------------------------------------------------------


@DTYPES
@given(
    training=st.booleans(),
    copy=st.sampled_from([copy_to_torch, copy_from_torch]),
    seed=st.integers(0, 2**31),
    h=st.integers(1, 5),
    d_head=st.integers(1, 7),
    n=st.integers(1, 7),
    n_context=st.none() | st.integers(1, 9),
    bias=st.booleans(),
    masked=st.booleans(),
)
def test_agrees_with_torch(
    dtype: torch.dtype,
    training: bool,
    copy: Callable[[MultiHeadAttention, nn.MultiheadAttention], None],
    seed: int,
    h: int,
    d_head: int,
    n: int,
    n_context: int | None,
    bias: bool,
    masked: bool,
) -> None:
    """Outputs, weights of each head and all gradients, with masks turned over."""
    torch.manual_seed(seed)
    d = h * d_head
    ours = MultiHeadAttention(d, h, bias=bias).to(dtype).train(training)
    theirs = nn.MultiheadAttention(d, h, bias=bias, batch_first=True).to(dtype).train(training)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=d**-0.5)
    copy(ours, theirs)
    x = torch.randn(3, n, d, dtype=dtype, requires_grad=True)
    context = None
    if n_context is not None:
        context = torch.randn(3, n_context, d, dtype=dtype, requires_grad=True)
    source = x if context is None else context
    mask, attn_mask, key_padding = None, None, None
    if masked:
        n_k = source.shape[1]
        lengths = torch.randint(1, n_k + 1, (3,))
        shown = some_mask(1, n, n_k)[0]
        shown[:, 0] = True  # so that no row is masked everywhere: PyTorch's layer gives NaN there
        mask = shown & padding_mask(lengths, n_k)
        attn_mask, key_padding = ~shown, ~padding_mask(lengths, n_k)[:, 0]
    output, weights = ours(x, context, mask)
    reference, reference_weights = theirs(
        x,
        source,
        source,
        attn_mask=attn_mask,
        key_padding_mask=key_padding,
        average_attn_weights=False,
    )
    close(output, reference, dtype)
    close(weights, reference_weights, dtype)
    inputs = [x] if context is None else [x, context]
    cotangent = torch.randn_like(output)
    mine = torch.autograd.grad(output, [*inputs, *ours.parameters()], cotangent)
    other = torch.autograd.grad(reference, [*inputs, *theirs.parameters()], cotangent)
    for got, expected in zip(mine, other[: len(inputs)]):
        close(got, expected, dtype)
    by_name = dict(zip([name for name, _ in ours.named_parameters()], mine[len(inputs) :]))
    names = [name for name, _ in theirs.named_parameters()]
    for name, expected in zip(names, other[len(inputs) :]):
        kind = "bias" if name.endswith("bias") else "weight"
        parts = ("to_q", "to_k", "to_v") if name.startswith("in_proj") else ("to_out",)
        got = torch.cat([by_name[f"{part}.{kind}"] for part in parts])
        close(got, expected, dtype)


def test_there_and_back_again() -> None:
    ours, other = (MultiHeadAttention(12, 3, bias=True) for _ in range(2))
    theirs = nn.MultiheadAttention(12, 3)
    copy_to_torch(ours, theirs)
    copy_from_torch(other, theirs)
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_layers_that_differ_are_refused() -> None:
    theirs = nn.MultiheadAttention(12, 3)
    for ours in (
        MultiHeadAttention(12, 3),
        MultiHeadAttention(12, 4, bias=True),
        MultiHeadAttention(6, 3, bias=True),
        MultiHeadAttention(12, 3, d_head=5, bias=True),
    ):
        for copy in (copy_to_torch, copy_from_torch):
            with pytest.raises(ValueError, match="must be equal"):
                copy(ours, theirs)
    with pytest.raises(ValueError, match="of its own for each head"):
        copy_from_torch(MultiHeadAttention(12, 3, 1, bias=True), theirs)


@pytest.mark.parametrize(("h", "g"), [(4, 2), (6, 3), (6, 2), (5, 1)])
def test_shared_key_heads_are_copies_in_torch(h: int, g: int) -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(5 * h, h, g, bias=True).double()
    theirs = nn.MultiheadAttention(5 * h, h, batch_first=True).double()
    copy_to_torch(ours, theirs)
    x = torch.randn(2, 4, 5 * h).double()
    close(ours(x)[0], theirs(x, x, x)[0])


# --- shared key heads ----------------------------------------------------------------------------


@DTYPES
@given(
    seed=st.integers(0, 2**31),
    g=st.integers(1, 4),
    askers=st.integers(1, 4),
    d_head=st.integers(1, 5),
    n=st.integers(1, 6),
    n_context=st.none() | st.integers(1, 6),
    d_model=st.integers(1, 9),
)
def test_agrees_with_sdpa_enable_gqa(
    dtype: torch.dtype,
    seed: int,
    g: int,
    askers: int,
    d_head: int,
    n: int,
    n_context: int | None,
    d_model: int,
) -> None:
    torch.manual_seed(seed)
    h = g * askers
    layer = MultiHeadAttention(d_model, h, g, d_head=d_head).to(dtype)
    x = torch.randn(2, n, d_model, dtype=dtype, requires_grad=True)
    source = x
    if n_context is not None:
        source = torch.randn(2, n_context, d_model, dtype=dtype, requires_grad=True)
    mask = torch.rand(2, n, source.shape[1]) < 0.6  # some rows are masked everywhere
    output, weights = layer(x, None if n_context is None else source, mask)
    q, k, v = (
        rearrange(F.linear(inputs, to.weight), "b n (h d) -> b h n d", h=count)
        for inputs, to, count in (
            (x, layer.to_q, h),
            (source, layer.to_k, g),
            (source, layer.to_v, g),
        )
    )
    said = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=True)
    expected = F.linear(rearrange(said, "b h n d -> b n (h d)"), layer.to_out.weight)
    close(output, expected, dtype)
    copied = repeat(v, "b g n d -> b (g a) n d", a=askers)
    close(weights @ copied, said, dtype)
    wrt = [x, *layer.parameters()]
    cotangent = torch.randn_like(output)
    for got, wanted in zip(
        torch.autograd.grad(output, wrt, cotangent), torch.autograd.grad(expected, wrt, cotangent)
    ):
        close(got, wanted, dtype)


def test_one_key_head_is_multi_query_attention() -> None:
    """Shazeer 2019: each query head asks the same keys and values, which have no axis for heads."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4, 1).double()
    x = torch.randn(2, 5, 8).double()
    q = rearrange(layer.to_q(x), "b n (h d) -> b h n d", h=4)
    k, v = layer.to_k(x), layer.to_v(x)
    logits = torch.einsum("bhnk,bmk->bhnm", q, k) / 2**0.5
    said = torch.einsum("bhnm,bmv->bhnv", logits.softmax(-1), v)
    close(layer(x)[0], layer.to_out(rearrange(said, "b h n d -> b n (h d)")))


def test_one_head_is_self_attention_with_an_output_projection() -> None:
    torch.manual_seed(0)
    layer, single = MultiHeadAttention(6, 1).double(), SelfAttention(6, 6, 6).double()
    for name in ("to_q", "to_k", "to_v"):
        getattr(single, name).load_state_dict(getattr(layer, name).state_dict())
    x, lengths = torch.randn(2, 5, 6).double(), torch.tensor([3, 5])
    output, weights = layer(x, mask=causal_mask(5) & padding_mask(lengths, 5))
    said, single_weights = single(x, lengths, causal=True)
    close(output, layer.to_out(said))
    close(weights[:, 0], single_weights)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="width of 10 cannot be cut into 3"):
        MultiHeadAttention(10, 3)
    with pytest.raises(ValueError, match="6 query heads cannot share 4"):
        MultiHeadAttention(12, 6, 4)
    assert MultiHeadAttention(10, 3, d_head=4).to_out.weight.shape == (10, 12)


def test_names_and_shapes_of_the_weights() -> None:
    shapes = {
        name: tuple(each.shape) for name, each in MultiHeadAttention(12, 6, 2).named_parameters()
    }
    assert shapes == {
        "to_q.weight": (12, 12),
        "to_k.weight": (4, 12),
        "to_v.weight": (4, 12),
        "to_out.weight": (12, 12),
    }
    biased = dict(MultiHeadAttention(12, 6, 2, bias=True).named_parameters())
    assert {name for name in biased if name.endswith("bias")} == {
        f"{each}.bias" for each in ("to_q", "to_k", "to_v", "to_out")
    }


def test_a_fully_masked_row_gives_zeros() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4, 2).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[1, 2] = False
    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = layer(x, mask=mask)
        gradients = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
    assert not output[1, 2].any()
    assert not weights[1, :, 2].any()
    assert output[0].any()
    assert all(each.isfinite().all() for each in gradients)


def test_runs_on(device: str) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4, 2).to(device)
    x = torch.randn(2, 3, 8, device=device)
    cache = KVCache.for_layer(layer, 2, 3)
    with torch.no_grad():
        output, weights = layer(x, mask=causal_mask(3, device=device), cache=cache)
    assert output.device.type == weights.device.type == cache.keys.device.type == device


# --- the places for positions and for other ways to attend --------------------------------------


def turn(x: Tensor, start: int) -> Tensor:
    """Turn each pair of numbers by an angle that grows with the position: RoPE with one frequency."""
    angle = 0.3 * (start + torch.arange(x.shape[-2], dtype=x.dtype))[:, None]
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack(
        [even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()], -1
    ).flatten(-2)


def test_rotate_turns_queries_and_keys_and_knows_where_they_stand() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4, 2, d_head=6, rotate=turn).double().eval()
    x = torch.randn(2, 5, 8).double()
    whole, weights = layer(x, mask=causal_mask(5))
    q = turn(rearrange(layer.to_q(x), "b n (h d) -> b h n d", h=4), 0)
    k = turn(rearrange(layer.to_k(x), "b n (h d) -> b h n d", h=2), 0).repeat_interleave(2, 1)
    scores = (q @ k.mT / 6**0.5).masked_fill(~causal_mask(5), -torch.inf)
    close(weights, scores.softmax(-1))
    with torch.no_grad():
        cache = KVCache.for_layer(layer, 2, 5)
        parts = [layer(x[:, i : i + 1], cache=cache)[0] for i in range(5)]
    close(torch.cat(parts, 1), whole.detach())


def test_attend_may_add_a_bias_and_have_weights_of_its_own() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.randn(4, 1, 1))

        def forward(
            self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
        ) -> tuple[Tensor, Tensor]:
            distance = torch.arange(k.shape[-2]) - torch.arange(q.shape[-2])[:, None]
            bias = (self.slope * distance).to(q.dtype)
            if mask is not None:
                bias = bias.masked_fill(~mask, -torch.inf)
            weights = (q @ k.mT / q.shape[-1] ** 0.5 + bias).softmax(-1)
            return weights @ v, weights

    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4, 2, attend=Biased()).double()
    assert "attend.slope" in dict(layer.named_parameters())
    x, mask = torch.randn(2, 5, 8).double(), some_mask(2, 5, 5)
    q = rearrange(layer.to_q(x), "b n (h d) -> b h n d", h=4)
    k, v = (rearrange(to(x), "b n (h d) -> b h n d", h=2) for to in (layer.to_k, layer.to_v))
    distance = torch.arange(5) - torch.arange(5)[:, None]
    bias = (layer.attend.slope * distance).masked_fill(~mask[:, None], -torch.inf)
    said = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
    close(layer(x, mask=mask)[0], layer.to_out(rearrange(said, "b h n d -> b n (h d)")))


# --- the cache -----------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**31),
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    sizes=st.sampled_from([(4, 4), (4, 2), (4, 1), (3, 3), (1, 1)]),
    spare=st.integers(0, 3),
)
def test_cached_equals_recomputed(
    seed: int, chunks: list[int], sizes: tuple[int, int], spare: int
) -> None:
    """In chunks of any size, each with lesson 07's causal mask, which is aligned at the bottom right."""
    torch.manual_seed(seed)
    layer = MultiHeadAttention(3 * sizes[0], *sizes, bias=True).double()
    n = sum(chunks)
    x = torch.randn(2, n, 3 * sizes[0]).double()
    with torch.no_grad():
        whole, whole_weights = layer(x, mask=causal_mask(n))
        cache = KVCache.for_layer(layer, 2, n + spare)
        end = 0
        for size in chunks:
            start, end = end, end + size
            output, weights = layer(x[:, start:end], mask=causal_mask(size, end), cache=cache)
            close(output, whole[:, start:end])
            close(weights, whole_weights[:, :, start:end, :end])
    assert cache.length == n


def test_a_cache_without_room_is_left_as_it_was() -> None:
    cache = KVCache(1, 2, 3, 4)
    k, v = torch.randn(2, 1, 2, 2, 4)
    cache.update(k, v)
    before = cache.keys.clone()
    with pytest.raises(ValueError, match="room for 3 positions, not for 4"):
        cache.update(k, v)
    assert cache.length == 2
    assert torch.equal(cache.keys, before)
    keys, values = cache.update(k[:, :, :1], v[:, :, :1])
    assert torch.equal(keys, torch.cat([k, k[:, :, :1]], 2))
    assert torch.equal(values, torch.cat([v, v[:, :, :1]], 2))


def test_a_cache_keeps_its_room() -> None:
    cache = KVCache(2, 3, 6, 4, dtype=torch.float64)
    start = cache.keys.data_ptr(), cache.values.data_ptr()
    for _ in range(3):
        keys, values = cache.update(*torch.randn(2, 2, 3, 2, 4).double())
        assert (keys.data_ptr(), values.data_ptr()) == start
    assert keys.dtype == torch.float64


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize(("h", "g"), [(8, 8), (8, 2), (8, 1)])
def test_bytes_are_those_of_the_formula(dtype: torch.dtype, h: int, g: int) -> None:
    layer = MultiHeadAttention(40, h, g).to(dtype)
    cache = KVCache.for_layer(layer, 3, 17)
    assert cache.keys.dtype == dtype
    stored = cache.keys.untyped_storage().nbytes() + cache.values.untyped_storage().nbytes()
    assert cache.n_bytes == stored == 2 * 3 * g * 17 * 5 * dtype.itemsize
