"""Where a token stands: positions that are added, turned into angles, or added to the scores (lesson 09)."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def frequencies(
    d: int,
    base: float = 10_000.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "pairs"]:
    """Return how far each pair of numbers turns from one position to the next, in radians.

    Pair i has the frequency base^(−2i/d). Vaswani et al. 2017, section 3.5.

    Args:
        d: the width that is cut into pairs; if it is odd, its last number is a pair of its own.
        base: sets the slowest frequency, which is near 1/base.
        dtype: of the result.
        device: where it is made.

    Returns:
        One frequency for each pair, ⌈d/2⌉ in all. The first is 1, and each is smaller than the one before.

    """
    ### BEGIN SOLUTION
    exponents = torch.arange(0, d, 2, dtype=dtype, device=device) / d  # (⌈d/2⌉,): 0, 2/d, 4/d, …
    return base**-exponents  # (⌈d/2⌉,)
    ### END SOLUTION


def sinusoidal_encoding(
    positions: Float[Tensor, "..."], d: int, base: float = 10_000.0
) -> Float[Tensor, "... d"]:
    """Return a vector of d numbers for each position: sine and cosine of its angle at each frequency.

    Column 2i holds the sine and column 2i + 1 the cosine of position · base^(−2i/d). Vaswani et al.
    2017, "Attention Is All You Need", section 3.5.

    Args:
        positions: any numbers, in any shape.
        d: the width of the encoding; if it is odd, the last column is a sine without its cosine.
        base: as in `frequencies`.

    Returns:
        The encodings, with the dtype and on the device of ``positions``.

    """
    ### BEGIN SOLUTION
    rates = frequencies(d, base, positions.dtype, positions.device)  # (⌈d/2⌉,)
    angles = positions[..., None] * rates  # (..., ⌈d/2⌉)
    pairs = torch.stack([angles.sin(), angles.cos()], dim=-1)  # (..., ⌈d/2⌉, 2)
    return pairs.flatten(-2)[..., :d]  # (..., d)
    ### END SOLUTION


class SinusoidalPositions(nn.Module):
    """Add the sinusoidal encoding of its position to each vector. There is nothing to learn.

    Vaswani et al. 2017, section 3.5.

    Args:
        base: as in `frequencies`.

    """

    def __init__(self, base: float = 10_000.0) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Float[Tensor, "... n d"], start: int = 0) -> Float[Tensor, "... n d"]:
        """Return ``x`` with positions ``start``, ``start`` + 1, … added to its rows."""
        n, d = x.shape[-2:]
        precise = torch.promote_types(x.dtype, torch.float32)  # bfloat16 cannot write 257
        positions = torch.arange(start, start + n, dtype=precise, device=x.device)  # (n,)
        return x + sinusoidal_encoding(positions, d, self.base).to(x.dtype)  # (..., n, d)


class LearnedPositions(nn.Module):
    """Add a learnt vector to each vector, one for each position.

    Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", section 3.1; used by BERT and GPT-2.

    Args:
        max_len: the number of positions that have a vector.
        d_model: the width.
        std: the size of the vectors' entries before training.

    """

    def __init__(self, max_len: int, d_model: int, std: float = 0.02) -> None:
        super().__init__()
        self.table = nn.Parameter(std * torch.randn(max_len, d_model))  # (max_len, d_model)

    def forward(self, x: Float[Tensor, "... n d"], start: int = 0) -> Float[Tensor, "... n d"]:
        """Return ``x`` with the vectors of positions ``start``, ``start`` + 1, … added to its rows.

        Raises:
            ValueError: there is no vector for the last of them.

        """
        end = start + x.shape[-2]
        if end > len(self.table):
            raise ValueError(f"There are vectors for {len(self.table)} positions, not for {end}.")
        return x + self.table[start:end]  # (..., n, d)


def apply_rope(
    x: Float[Tensor, "... n d"], start: int = 0, base: float = 10_000.0
) -> Float[Tensor, "... n d"]:
    """Turn each pair of neighbouring numbers by an angle in proportion to the position.

    At position p the pair (x[2i], x[2i + 1]) turns by p · base^(−2i/d), counter-clockwise. The dot
    product of a query and a key turned so depends on their positions through the difference alone.
    Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    (Some libraries pair x[i] with x[i + d/2] instead: see `half_split_order`.)

    Args:
        x: queries or keys, one row for each of n neighbouring positions.
        start: the position of the first row.
        base: as in `frequencies`.

    Returns:
        The turned rows. Their lengths are those of ``x``.

    Raises:
        ValueError: d is odd, so that a number has no partner.

    """
    ### BEGIN SOLUTION
    n, d = x.shape[-2:]
    if d % 2:
        raise ValueError(f"A width of {d} cannot be cut into pairs.")
    positions = torch.arange(start, start + n, device=x.device)  # (n,)
    # At least float32: the next number after 256 that bfloat16 can write is 258.
    exact = torch.promote_types(x.dtype, torch.float32)
    angles = positions[:, None] * frequencies(d, base, exact, x.device)  # (n, d/2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)  # (n, d/2) each
    a, b = x[..., 0::2], x[..., 1::2]  # (..., n, d/2) each: first and second of each pair
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1)  # (..., n, d/2, 2)
    return turned.flatten(-2)  # (..., n, d)
    ### END SOLUTION


def half_split_order(d: int) -> Int[Tensor, "d"]:
    """Return the order 0, 2, 4, …, 1, 3, 5, …: first the first of each pair, then the second of each.

    Libraries that pair x[i] with x[i + d/2] (GPT-NeoX, Llama as Hugging Face has it) compute the same as
    `apply_rope` on columns in this order: theirs(x[..., order]) equals apply_rope(x)[..., order].

    Args:
        d: the width of a head, even.

    """
    return torch.arange(d).view(d // 2, 2).t().flatten()  # (d,)


def offsets(
    n_q: int, n_k: int | None = None, device: torch.device | str | None = None
) -> Int[Tensor, "n_q n_k"]:
    """Return how far each key stands behind (negative) or ahead of (positive) each query.

    The last query stands at the last key, as in `causal_mask`: query i has the position i + n_k − n_q.

    Args:
        n_q: the number of queries.
        n_k: the number of keys, n_q if not given.
        device: where the table is made.

    """
    n_k = n_q if n_k is None else n_k
    position_q = torch.arange(n_q, device=device) + (n_k - n_q)  # (n_q,)
    position_k = torch.arange(n_k, device=device)  # (n_k,)
    return position_k[None, :] - position_q[:, None]  # (n_q, n_k)


def relative_bucket(
    offset: Int[Tensor, "..."],
    n_buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
) -> Int[Tensor, "..."]:
    """Sort offsets into buckets: one for each small distance, wider and wider ones for large distances.

    Of the buckets of one direction the first half holds one distance each, 0, 1, 2, …; the second half
    divides the distances up to ``max_distance`` evenly on a logarithmic scale, and the last bucket takes
    everything beyond. Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", section 2.1, as its code has it.

    Args:
        offset: key position minus query position, in any shape.
        n_buckets: how many buckets there are in all.
        max_distance: from here on all distances share the last bucket of their direction.
        bidirectional: whether keys ahead of the query (offset > 0) have the upper half of the buckets
            for themselves; if not, they count as distance 0 (a causal mask hides them anyway).

    Returns:
        The numbers of the buckets, from 0 to n_buckets − 1, in the shape of ``offset``.

    """
    ### BEGIN SOLUTION
    if bidirectional:
        n_buckets = n_buckets // 2  # for each direction
        first = (offset > 0).long() * n_buckets  # (...): where the direction's buckets begin
        distance = offset.abs()  # (...)
    else:
        first = torch.zeros_like(offset)  # (...)
        distance = (-offset).clamp(min=0)  # (...)
    exact = n_buckets // 2  # distances below have a bucket of their own
    # How far along the logarithmic scale from `exact` (0) to `max_distance` (1) the distance lies.
    along = (distance.clamp(min=exact) / exact).log() / math.log(max_distance / exact)  # (...)
    wide = exact + (along * (n_buckets - exact)).long()  # (...), rounded down
    wide = wide.clamp(max=n_buckets - 1)  # (...)
    return first + torch.where(distance < exact, distance, wide)  # (...)
    ### END SOLUTION


class RelativeBias(nn.Module):
    """A learnt number for each head and bucket of offsets, to be added to the scores.

    Raffel et al. 2020, section 2.1. T5 uses one such table for all layers of a stack.

    Args:
        n_heads: the number h of heads.
        n_buckets: as in `relative_bucket`.
        max_distance: as in `relative_bucket`.
        bidirectional: as in `relative_bucket`; False for causal layers.

    """

    def __init__(
        self,
        n_heads: int,
        n_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.n_buckets, self.max_distance = n_buckets, max_distance
        self.bidirectional = bidirectional
        self.table = nn.Embedding(n_buckets, n_heads)

    def forward(
        self, n_q: int, n_k: int | None = None, device: torch.device | str | None = None
    ) -> Float[Tensor, "h n_q n_k"]:
        """Return the bias of each head for each query and key; the last query stands at the last key."""
        buckets = relative_bucket(
            offsets(n_q, n_k, device), self.n_buckets, self.max_distance, self.bidirectional
        )  # (n_q, n_k)
        return self.table(buckets).movedim(-1, 0)  # (n_q, n_k, h) → (h, n_q, n_k)


def alibi_slopes(n_heads: int) -> list[float]:
    """Return by how much each head's score falls with each step of distance.

    For a power of two h the slopes are 2^(−8/h), 2^(−16/h), …, 2^(−8). For any other number they are
    those of the largest power of two below, followed by the first, third, fifth … of twice that power.
    Press et al. 2022, "Train Short, Test Long", section 3, and its code for other numbers of heads.

    Args:
        n_heads: the number h of heads.

    """
    ### BEGIN SOLUTION
    power = 2 ** (n_heads.bit_length() - 1)  # the largest power of two that is not above n_heads
    if power == n_heads:
        return [2 ** (-8 * i / n_heads) for i in range(1, n_heads + 1)]
    between = alibi_slopes(2 * power)[::2]  # these lie between those of `power` heads
    return alibi_slopes(power) + between[: n_heads - power]
    ### END SOLUTION


def alibi_bias(
    n_heads: int,
    n_q: int,
    n_k: int | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "h n_q n_k"]:
    """Return what ALiBi adds to the scores: minus the head's slope times the distance.

    Press et al. 2022, section 3. The paper's models are causal; here keys ahead of the query are as far as
    those behind it, and a causal mask hides them where it should.

    Args:
        n_heads: the number h of heads.
        n_q: the number of queries.
        n_k: the number of keys, n_q if not given; the last query stands at the last key.
        device: where the bias is made.

    Returns:
        The bias of each head for each query and key, float32: 0 where a query meets its own position.

    """
    ### BEGIN SOLUTION
    slopes = torch.tensor(alibi_slopes(n_heads), device=device)  # (h,)
    distance = offsets(n_q, n_k, device).abs()  # (n_q, n_k)
    return -slopes[:, None, None] * distance  # (h, n_q, n_k)
    ### END SOLUTION


def biased_attention(
    q: Float[Tensor, "... n_q d_k"],
    k: Float[Tensor, "... n_k d_k"],
    v: Float[Tensor, "... n_k d_v"],
    bias: Float[Tensor, "... n_q n_k"],
    mask: Bool[Tensor, "... n_q n_k"] | None = None,
) -> tuple[Float[Tensor, "... n_q d_v"], Float[Tensor, "... n_q n_k"]]:
    """Attention with something added to the scores: softmax(q kᵀ / √d_k + bias) v.

    Args:
        q: queries.
        k: keys.
        v: values.
        bias: what is added to the score of each query and key; it broadcasts to (..., n_q, n_k).
        mask: True where a query may attend to a key; None lets everyone attend to everyone.

    Returns:
        The outputs and the weights. A row of the mask without any True gives zeros in both, as in `attention`.

    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., n_q, n_k)
    scores = scores + bias.to(scores.dtype)  # (..., n_q, n_k)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)  # (..., n_q, n_k)
    if mask is not None:
        weights = weights * mask
    return weights @ v, weights  # (..., n_q, d_v), (..., n_q, n_k)


class BiasedAttention(nn.Module):
    """What heads do when positions enter the scores: give it to `MultiHeadAttention` as ``attend``.

    Args:
        bias: ``bias(n_q, n_k, device)`` gives (h, n_q, n_k): a `RelativeBias`, which is then trained
            with the layer and may be shared by several, or ``partial(alibi_bias, n_heads)``.

    """

    def __init__(self, bias: Callable[..., Tensor]) -> None:
        super().__init__()
        self.bias = bias

    def forward(
        self,
        q: Float[Tensor, "batch h n_q d_head"],
        k: Float[Tensor, "batch h n_k d_head"],
        v: Float[Tensor, "batch h n_k d_head"],
        mask: Bool[Tensor, "... n_q n_k"] | None = None,
    ) -> tuple[Float[Tensor, "batch h n_q d_head"], Float[Tensor, "batch h n_q n_k"]]:
        """Attend, with the bias of each head added to its scores."""
        bias = self.bias(q.shape[-2], k.shape[-2], q.device)  # (h, n_q, n_k)
        return biased_attention(q, k, v, bias, mask)
