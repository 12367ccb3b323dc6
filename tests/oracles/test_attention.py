"""Lesson 07's attention, masks and SelfAttention against PyTorch's own."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from course_lib.models.attention import SelfAttention, attention, causal_mask, padding_mask

pytestmark = [
    pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled"),
    pytest.mark.filterwarnings("ignore:Lower right causal bias will produce NaNs"),
]

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@dataclass(frozen=True)
class Sizes:
    """Sizes of an attention, and which axes its mask keeps (a mask of size 1 there broadcasts)."""

    batch: tuple[int, ...]
    n_q: int
    n_k: int
    d_k: int
    d_v: int
    mask_axes: int | None  # how many of the batch axes the mask has; None for no mask
    ones: tuple[bool, ...]  # for each axis of the mask, whether it has size 1
    share: float  # of True in the mask
    seed: int

    def mask(self, generator: torch.Generator) -> Tensor | None:
        if self.mask_axes is None:
            return None
        full = (*self.batch[len(self.batch) - self.mask_axes :], self.n_q, self.n_k)
        shape = [1 if one else size for size, one in zip(full, self.ones)]
        return torch.rand(shape, generator=generator) < self.share


@st.composite
def sizes(draw: st.DrawFn) -> Sizes:
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3)]))
    mask_axes = draw(st.none() | st.integers(0, len(batch)))
    return Sizes(
        batch=batch,
        n_q=draw(st.integers(1, 9)),
        n_k=draw(st.integers(1, 9)),
        d_k=draw(st.integers(1, 17)),
        d_v=draw(st.integers(1, 11)),
        mask_axes=mask_axes,
        ones=tuple(draw(st.booleans()) for _ in range((mask_axes or 0) + 2)),
        share=draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])),
        seed=draw(st.integers(0, 2**31)),
    )


def close(got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@DTYPES
@given(size=sizes())
@example(Sizes((2,), 3, 5, 4, 7, 1, (False, False, False), 0.0, 0))  # every row fully masked
@example(Sizes((2, 3), 64, 33, 31, 65, 0, (False, False), 0.5, 1))
def test_attention_and_its_gradients_agree_with_sdpa(dtype: torch.dtype, size: Sizes) -> None:
    g = torch.Generator().manual_seed(size.seed)
    shapes = [(size.n_q, size.d_k), (size.n_k, size.d_k), (size.n_k, size.d_v)]
    q, k, v = (
        torch.randn(*size.batch, *shape, generator=g, dtype=dtype, requires_grad=True)
        for shape in shapes
    )
    mask = size.mask(g)
    cotangent = torch.randn(*size.batch, size.n_q, size.d_v, generator=g, dtype=dtype)
    reference = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    identity = torch.eye(size.n_k, dtype=dtype).expand(*size.batch, size.n_k, size.n_k)
    reference_weights = F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)

    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = attention(q, k, v, mask)
        found = torch.autograd.grad(output, (q, k, v), cotangent)

    close(output, reference, dtype)
    close(weights, reference_weights, dtype)
    for got, expected in zip(found, torch.autograd.grad(reference, (q, k, v), cotangent)):
        close(got, expected, dtype)


@DTYPES
def test_attention_agrees_with_sdpa_on(device: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 5, 37, 19, device=device, dtype=dtype) for _ in range(3))
    mask = torch.rand(2, 1, 37, 37, device=device) < 0.4
    output, weights = attention(q, k, v, mask)
    assert output.device.type == weights.device.type == device
    close(output, F.scaled_dot_product_attention(q, k, v, attn_mask=mask), dtype)


@given(size=sizes())
def test_weights_are_distributions_over_what_the_mask_shows(size: Sizes) -> None:
    g = torch.Generator().manual_seed(size.seed)
    q = torch.randn(*size.batch, size.n_q, size.d_k, generator=g, dtype=torch.float64) * 30
    k = torch.randn(*size.batch, size.n_k, size.d_k, generator=g, dtype=torch.float64)
    mask = size.mask(g)
    _, weights = attention(q, k, k, mask)
    shown = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    shown = shown.expand_as(weights)
    assert bool((weights >= 0).all())
    assert bool((weights[~shown] == 0).all())
    torch.testing.assert_close(weights.sum(-1), shown.any(-1).to(torch.float64))


def test_a_fully_masked_row_gives_zeros_and_no_gradient() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[0, 1] = False
    mask[1] = False
    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = attention(q, k, v, mask)
        dq, dk, dv = torch.autograd.grad((output**2).sum() + weights.square().sum(), (q, k, v))
    for hidden in (output[0, 1], weights[0, 1], dq[0, 1], output[1], weights[1]):
        assert torch.equal(hidden, torch.zeros_like(hidden))
    for nothing in (dq[1], dk[1], dv[1]):
        assert torch.equal(nothing, torch.zeros_like(nothing))
    for everywhere in (output, weights, dq, dk, dv):
        assert bool(everywhere.isfinite().all())
    assert bool((dq[0, [0, 2]] != 0).all())


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    k = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 3, 4) < 0.6
    mask[1, 1] = False
    assert torch.autograd.gradcheck(lambda *each: attention(*each, mask), (q, k, v))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_stays_finite(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 5, 8, dtype=dtype) for _ in range(3))
    mask = causal_mask(5).clone()
    mask[2] = False
    output, weights = attention(q, k, v, mask)
    assert output.dtype == weights.dtype == dtype
    assert bool(output.isfinite().all())
    assert torch.equal(output[:, 2], torch.zeros_like(output[:, 2]))


def test_large_scores_do_not_overflow() -> None:
    q = torch.tensor([[3e3, 0.0], [-3e3, 1.0]])
    k = torch.tensor([[3e3, 0.0], [1.0, 1.0], [-3e3, 5.0]])
    output, weights = attention(q, k, torch.eye(3))
    assert torch.equal(weights, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))
    assert torch.equal(output, weights)


# --- masks ---------------------------------------------------------------------------------------


@given(n_q=st.integers(1, 40), n_k=st.integers(1, 40))
def test_causal_mask_agrees_with_causal_lower_right(n_q: int, n_k: int) -> None:
    mask = causal_mask(n_q, n_k)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, causal_lower_right(n_q, n_k)._materialize())


@pytest.mark.parametrize("n", [1, 2, 7, 33])
def test_causal_mask_is_what_sdpa_calls_is_causal(n: int) -> None:
    torch.manual_seed(n)
    q, k, v = (torch.randn(3, n, 6, dtype=torch.float64) for _ in range(3))
    assert torch.equal(causal_mask(n), causal_mask(n, n))
    output, _ = attention(q, k, v, causal_mask(n))
    close(output, F.scaled_dot_product_attention(q, k, v, is_causal=True), torch.float64)


def test_masks_are_made_where_they_are_asked_for(device: str) -> None:
    assert causal_mask(3, 5, device=device).device.type == device
    assert padding_mask(torch.tensor([2, 3], device=device), 4).device.type == device


def test_masks_follow_the_device_of_their_arguments() -> None:
    assert causal_mask(3, device="meta").device.type == "meta"
    assert padding_mask(torch.empty(2, dtype=torch.long, device="meta"), 4).device.type == "meta"


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    extra=st.integers(0, 4),
    dtype=st.sampled_from([torch.int64, torch.int32, torch.uint8]),
)
def test_padding_mask_marks_the_real_tokens(
    lengths: list[int], extra: int, dtype: torch.dtype
) -> None:
    n_k = max([1, *lengths]) + extra
    mask = padding_mask(torch.tensor(lengths, dtype=dtype), n_k)
    assert mask.shape == (len(lengths), 1, n_k)
    assert mask.dtype == torch.bool
    assert mask[:, 0].tolist() == [[True] * length + [False] * (n_k - length) for length in lengths]


@given(seed=st.integers(0, 2**31), n=st.integers(2, 8), cached=st.integers(0, 4))
def test_under_a_causal_mask_the_future_changes_nothing(seed: int, n: int, cached: int) -> None:
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(2, n, 5, generator=g, dtype=torch.float64)
    k, v = (torch.randn(2, n + cached, 5, generator=g, dtype=torch.float64) for _ in range(2))
    v.requires_grad_()
    mask = causal_mask(n, n + cached)
    output, weights = attention(q, k, v, mask)
    for query in range(n):
        seen = query + cached + 1
        other_k, other_v = k.clone(), v.detach().clone()
        other_k[:, seen:] = 1e3 * torch.randn(2, n + cached - seen, 5, generator=g).double()
        other_v[:, seen:] = 1e3
        again, weights_again = attention(q, other_k, other_v, mask)
        assert torch.equal(again[:, : query + 1], output[:, : query + 1])
        assert torch.equal(weights_again[:, : query + 1], weights[:, : query + 1])
        (from_query,) = torch.autograd.grad(output[:, query].sum(), v, retain_graph=True)
        assert torch.equal(from_query[:, seen:], torch.zeros_like(from_query[:, seen:]))
        assert bool((from_query[:, :seen] != 0).any())
    # and what it may see does change it
    assert not torch.allclose(attention(q, k + 1e-1 * k.sign(), v, mask)[0], output)


# --- properties without positions ----------------------------------------------------------------


@given(seed=st.integers(0, 2**31), n=st.integers(1, 9))
def test_the_order_of_keys_does_not_matter(seed: int, n: int) -> None:
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(3, 4, generator=g, dtype=torch.float64)
    k, v = (torch.randn(n, 4, generator=g, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(3, n, generator=g) < 0.7
    order = torch.randperm(n, generator=g)
    output, weights = attention(q, k, v, mask)
    again, permuted = attention(q, k[order], v[order], mask[:, order])
    close(again, output, torch.float64)
    close(permuted, weights[:, order], torch.float64)


@given(seed=st.integers(0, 2**31), n=st.integers(1, 9))
def test_self_attention_is_permutation_equivariant(seed: int, n: int) -> None:
    g = torch.Generator().manual_seed(seed)
    module, x = some_module(g, d_model=6, d_k=5, d_v=3), random(g, 2, n, 6)
    order = torch.randperm(n, generator=g)
    output, weights = module(x)
    again, permuted = module(x[:, order])
    close(again, output[:, order], torch.float64)
    close(permuted, weights[:, order][:, :, order], torch.float64)


# --- SelfAttention -------------------------------------------------------------------------------


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def some_module(generator: torch.Generator, d_model: int, d_k: int, d_v: int) -> SelfAttention:
    """Return a module in float64 whose weights come from ``generator``."""
    module = SelfAttention(d_model, d_k, d_v).double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(random(generator, *weight.shape) / math.sqrt(d_model))
    return module


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@given(
    seed=st.integers(0, 2**31),
    lengths=st.none() | st.lists(st.integers(0, 7), min_size=3, max_size=3),
    causal=st.booleans(),
    d_model=st.integers(1, 9),
    d_k=st.integers(1, 9),
    d_v=st.integers(1, 9),
)
def test_self_attention_agrees_with_linear_and_sdpa(
    training: bool,
    seed: int,
    lengths: list[int] | None,
    causal: bool,
    d_model: int,
    d_k: int,
    d_v: int,
) -> None:
    g = torch.Generator().manual_seed(seed)
    n = 7
    module = some_module(g, d_model, d_k, d_v).train(training)
    x = random(g, 3, n, d_model).requires_grad_()
    mask = torch.ones(3, n, n, dtype=torch.bool)
    if causal:
        mask = mask.tril()
    if lengths is not None:
        for row, length in enumerate(lengths):
            mask[row, :, length:] = False
    q, k, v = (F.linear(x, layer.weight) for layer in (module.to_q, module.to_k, module.to_v))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autograd.detect_anomaly(check_nan=True):
        output, weights = module(x, None if lengths is None else torch.tensor(lengths), causal)
        wrt = (x, *module.parameters())
        cotangent = random(g, *output.shape)
        found = torch.autograd.grad(output, wrt, cotangent)
    close(output, expected, torch.float64)
    close(weights @ v, expected, torch.float64)
    for got, wanted in zip(found, torch.autograd.grad(expected, wrt, cotangent)):
        close(got, wanted, torch.float64)


def test_self_attention_has_three_matrices_and_no_bias() -> None:
    shapes = {name: tuple(each.shape) for name, each in SelfAttention(5, 3, 2).named_parameters()}
    assert shapes == {"to_q.weight": (3, 5), "to_k.weight": (3, 5), "to_v.weight": (2, 5)}


@given(seed=st.integers(0, 2**31), causal=st.booleans(), length=st.integers(1, 6))
def test_padding_changes_nothing(seed: int, causal: bool, length: int) -> None:
    """A sentence gives the same alone, and padded with anything in a batch."""
    g = torch.Generator().manual_seed(seed)
    module = some_module(g, d_model=4, d_k=3, d_v=5)
    sentence, longer = random(g, 1, length, 4), random(g, 1, 6, 4)
    lengths = torch.tensor([length, 6])
    alone, weights_alone = module(sentence, causal=causal)
    results = []
    for filling in (torch.zeros(1, 6 - length, 4).double(), 1e3 * random(g, 1, 6 - length, 4)):
        x = torch.cat([torch.cat([sentence, filling], dim=1), longer])
        output, weights = module(x, lengths, causal)
        close(output[:1, :length], alone, torch.float64)
        close(weights[:1, :length, :length], weights_alone, torch.float64)
        assert torch.equal(weights[0, :, length:], torch.zeros(6, 6 - length).double())
        results.append((output[0, :length], output[1]))
    assert all(torch.equal(one, other) for one, other in zip(*results))


@given(seed=st.integers(0, 2**31), position=st.integers(0, 5))
def test_a_causal_self_attention_does_not_see_the_future(seed: int, position: int) -> None:
    g = torch.Generator().manual_seed(seed)
    module, x = some_module(g, d_model=4, d_k=3, d_v=5), random(g, 2, 6, 4)
    changed = x.clone()
    changed[:, position:] = random(g, 2, 6 - position, 4)
    for layout in (None, torch.tensor([6, 4])):
        before, after = module(x, layout, causal=True)[0], module(changed, layout, causal=True)[0]
        assert torch.equal(before[:, :position], after[:, :position])
        assert not torch.allclose(before[:, position], after[:, position])
