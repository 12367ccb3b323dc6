"""Multi-head, multi-query and grouped-query attention, and the cache of keys and values (lesson 08)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.models.attention import attention


def split_heads(x: Float[Tensor, "... n width"], n_heads: int) -> Float[Tensor, "... h n d_head"]:
    """Cut each vector into ``n_heads`` pieces, and give each head its own sequence of pieces.

    Vaswani et al. 2017, section 3.2.2.

    Args:
        x: one vector for each position; its width is a multiple of ``n_heads``.
        n_heads: the number h of heads.

    Returns:
        For each head, in order, a sequence of vectors of width d_head = width / h. Head 0 has the first
        d_head numbers of each vector.

    """
    ### BEGIN SOLUTION
    pieces = x.unflatten(-1, (n_heads, -1))  # (..., n, h, d_head)
    return pieces.transpose(-3, -2)  # (..., h, n, d_head)
    ### END SOLUTION


def merge_heads(x: Float[Tensor, "... h n d_head"]) -> Float[Tensor, "... n width"]:
    """Put the pieces of all heads side by side again: the inverse of `split_heads`.

    Args:
        x: for each head a sequence of vectors.

    Returns:
        One sequence of vectors of width h · d_head.

    """
    ### BEGIN SOLUTION
    pieces = x.transpose(-3, -2)  # (..., n, h, d_head)
    return pieces.flatten(-2)  # (..., n, h·d_head)
    ### END SOLUTION


class MultiHeadAttention(nn.Module):
    """Attention with several heads that share their keys and values in groups.

    Vaswani et al. 2017, section 3.2.2 (as many key heads as query heads); Shazeer 2019 (one key head:
    multi-query attention); Ainslie et al. 2023, "GQA", section 2.2 (anything between).

    Args:
        d_model: the width of input and output.
        n_heads: the number h of query heads.
        n_kv_heads: the number g of key and value heads, a divisor of h; h if not given.
        d_head: the width of one head; d_model / h if not given.
        bias: whether the four projections have one.
        rotate: where given, queries and keys become ``rotate(q, start)`` and ``rotate(k, start)`` before
            they meet; ``start`` is the position of their first row (lesson 09).
        attend: what the heads do: ``attend(q, k, v, mask)`` gives outputs and weights, as `attention`
            does. Another function, or a module, may add a bias to the scores (lesson 09) or be faster.

    Raises:
        ValueError: the numbers do not divide each other.

    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        *,
        d_head: int | None = None,
        bias: bool = False,
        rotate: Callable[[Tensor, int], Tensor] | None = None,
        attend: Callable[..., tuple[Tensor, Tensor]] = attention,
    ) -> None:
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_head is None and d_model % n_heads:
            raise ValueError(f"A width of {d_model} cannot be cut into {n_heads} equal heads.")
        if n_heads % n_kv_heads:
            raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key heads equally.")
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        self.d_head = d_model // n_heads if d_head is None else d_head
        self.to_q = nn.Linear(d_model, n_heads * self.d_head, bias=bias)
        self.to_k = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.to_v = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.to_out = nn.Linear(n_heads * self.d_head, d_model, bias=bias)
        self.rotate = rotate
        self.attend = attend

    def forward(
        self,
        x: Float[Tensor, "batch n_q d_model"],
        context: Float[Tensor, "batch n_c d_model"] | None = None,
        mask: Bool[Tensor, "... n_q n_k"] | None = None,
        cache: "KVCache | None" = None,
    ) -> tuple[Float[Tensor, "batch n_q d_model"], Float[Tensor, "batch h n_q n_k"]]:
        """Let each position of ``x`` attend, with every head, to ``x`` itself or to ``context``.

        Args:
            x: what asks.
            context: what is asked (cross-attention); ``x`` itself if not given.
            mask: True where a query may attend to a key, without an axis for heads: (n_q, n_k),
                (batch, n_q, n_k), or anything that broadcasts to the latter.
            cache: for self-attention, the keys and values of the positions before ``x``; those of
                ``x`` are added to it, and n_k counts them all.

        Returns:
            The outputs, and the weights of each head. A row of the mask without any True gives zeros in
            the weights and in what each head says.

        """
        ### BEGIN SOLUTION
        source = x if context is None else context
        q = split_heads(self.to_q(x), self.n_heads)  # (B, h, n_q, d_head)
        k = split_heads(self.to_k(source), self.n_kv_heads)  # (B, g, n, d_head)
        v = split_heads(self.to_v(source), self.n_kv_heads)  # (B, g, n, d_head)
        ### END SOLUTION
        if self.rotate is not None:  # lesson 09
            start = 0 if cache is None else cache.length
            q, k = self.rotate(q, start), self.rotate(k, start)
        ### BEGIN SOLUTION
        if cache is not None:
            k, v = cache.update(k, v)  # (B, g, n_k, d_head), with all earlier positions
        askers = self.n_heads // self.n_kv_heads  # query heads that share one key head
        k, v = (each.repeat_interleave(askers, dim=1) for each in (k, v))  # (B, h, n_k, d_head)
        if mask is not None:
            mask = mask.unsqueeze(-3)  # (..., 1, n_q, n_k): the same for every head
        said, weights = self.attend(q, k, v, mask)  # (B, h, n_q, d_head), (B, h, n_q, n_k)
        return self.to_out(merge_heads(said)), weights  # (B, n_q, d_model), (B, h, n_q, n_k)
        ### END SOLUTION


class KVCache:
    """The keys and values of the positions that a layer has read so far.

    Room for all positions is made once; `update` fills it from the left. The cache is for generation,
    under ``torch.no_grad()``.

    Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All You Need", section 2.4.

    Args:
        batch: the number B of sequences.
        n_heads: the number g of heads that keys and values have.
        max_len: the number of positions that there is room for.
        d_head: the width of one head.
        dtype: of keys and values; PyTorch's default if not given.
        device: where they are kept.

    Attributes:
        keys: (B, g, max_len, d_head), of which the first ``length`` positions are filled.
        values: the same for values.
        length: how many positions were read.

    """

    def __init__(
        self,
        batch: int,
        n_heads: int,
        max_len: int,
        d_head: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.keys = torch.zeros(batch, n_heads, max_len, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def update(
        self, k: Float[Tensor, "batch g n d_head"], v: Float[Tensor, "batch g n d_head"]
    ) -> tuple[Float[Tensor, "batch g length d_head"], Float[Tensor, "batch g length d_head"]]:
        """Write the keys and values of n new positions behind the others.

        Args:
            k: the new keys.
            v: the new values.

        Returns:
            The keys and the values of all positions so far, the new ones last: views of the cache.

        Raises:
            ValueError: there is no room for n more positions; the cache stays as it was.

        """
        ### BEGIN SOLUTION
        end = self.length + k.shape[-2]
        room = self.keys.shape[-2]
        if end > room:
            raise ValueError(f"The cache has room for {room} positions, not for {end}.")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]  # (B, g, length, d_head) each
        ### END SOLUTION

    @property
    def n_bytes(self) -> int:
        """How many bytes keys and values take, filled or not."""
        return self.keys.nbytes + self.values.nbytes

    @classmethod
    def for_layer(cls, layer: MultiHeadAttention, batch: int, max_len: int) -> "KVCache":
        """Return an empty cache for a layer: its heads, its width, its dtype, its device."""
        weight = layer.to_k.weight
        return cls(batch, layer.n_kv_heads, max_len, layer.d_head, weight.dtype, weight.device)


@torch.no_grad()
def copy_to_torch(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    """Give PyTorch's layer the weights of ours; key heads that are shared are written once for each asker.

    PyTorch keeps the projections to queries, keys and values as one matrix, one below the other.

    Raises:
        ValueError: the two differ in width, number of heads, or biases.

    """
    _same_sizes(ours, theirs)
    askers = ours.n_heads // ours.n_kv_heads
    for name in ("weight", "bias") if theirs.in_proj_bias is not None else ("weight",):
        q, k, v = (getattr(layer, name) for layer in (ours.to_q, ours.to_k, ours.to_v))
        k, v = (
            each.unflatten(0, (ours.n_kv_heads, -1)).repeat_interleave(askers, dim=0).flatten(0, 1)
            for each in (k, v)
        )
        getattr(theirs, f"in_proj_{name}").copy_(torch.cat([q, k, v]))
        getattr(theirs.out_proj, name).copy_(getattr(ours.to_out, name))


@torch.no_grad()
def copy_from_torch(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    """Give our layer the weights of PyTorch's.

    Raises:
        ValueError: the two differ in width, number of heads, or biases, or ours shares key heads.

    """
    _same_sizes(ours, theirs)
    if ours.n_kv_heads != ours.n_heads:
        raise ValueError("PyTorch's layer has keys of its own for each head: ours shares them.")
    for name in ("weight", "bias") if theirs.in_proj_bias is not None else ("weight",):
        parts = getattr(theirs, f"in_proj_{name}").chunk(3)
        for layer, part in zip((ours.to_q, ours.to_k, ours.to_v), parts):
            getattr(layer, name).copy_(part)
        getattr(ours.to_out, name).copy_(getattr(theirs.out_proj, name))


def _same_sizes(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    mine = (ours.to_q.in_features, ours.n_heads, ours.d_head, ours.to_q.bias is not None)
    other = (theirs.embed_dim, theirs.num_heads, theirs.head_dim, theirs.in_proj_bias is not None)
    if mine != other or theirs.in_proj_weight is None:
        raise ValueError("Width, number of heads and biases of the two layers must be equal.")
