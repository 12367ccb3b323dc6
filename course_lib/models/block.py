"""The transformer block and its parts: norms, feed-forward, residual connections, dropout, counts (lesson 10)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.models.attention import attention
from course_lib.models.multi_head import KVCache, MultiHeadAttention, copy_from_torch


class LayerNorm(nn.Module):
    """Give each vector mean 0 and variance 1, then a learnt scale and shift for each of its numbers.

    Ba, Kiros & Hinton 2016, "Layer Normalization", section 3. The variance is the mean of the squared
    deviations (biased: divided by d, not d − 1).

    Args:
        d_model: the width d of the vectors.
        eps: added to the variance, so that a vector of equal numbers can be divided.

    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))  # (d,)
        self.bias = nn.Parameter(torch.zeros(d_model))  # (d,)
        self.eps = eps

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Return the normalised vectors, scaled by ``weight`` and shifted by ``bias``."""
        ### BEGIN SOLUTION
        centred = x - x.mean(dim=-1, keepdim=True)  # (..., d)
        variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
        return centred / (variance + self.eps).sqrt() * self.weight + self.bias  # (..., d)
        ### END SOLUTION


class RMSNorm(nn.Module):
    """Divide each vector by the root of its mean square, then scale each of its numbers.

    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", section 3: LayerNorm without the mean.

    Args:
        d_model: the width d of the vectors.
        eps: added to the mean square.

    """

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))  # (d,)
        self.eps = eps

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Return the vectors with mean square 1, scaled by ``weight``."""
        mean_square = x.square().mean(dim=-1, keepdim=True)  # (..., 1)
        return x / (mean_square + self.eps).sqrt() * self.weight  # (..., d)


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exactly: x · Φ(x), Φ being the normal distribution (BERT's).

    Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The GELU's approximation by tanh (GPT-2's); the two differ by less than 0.0005."""
    return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """Sigmoid linear unit, or Swish: x / (1 + e⁻ˣ)."""
    return x * torch.sigmoid(x)


# The bend of a feed-forward network by its name, and whether it is applied to a gate.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "relu": (torch.relu, False),  # Vaswani et al. 2017, T5 1.0
    "gelu": (gelu, False),  # BERT
    "gelu_tanh": (gelu_tanh, False),  # GPT-2
    "geglu": (gelu_tanh, True),  # T5 1.1
    "swiglu": (silu, True),  # Llama
}


class FeedForward(nn.Module):
    """Two layers for each position by itself: widen, bend, narrow.

    Vaswani et al. 2017, section 3.3 (ReLU); Shazeer 2020, "GLU Variants Improve Transformer", section 2
    (SwiGLU, whose hidden numbers are multiplied by a gate).

    Args:
        d_model: the width of input and output.
        d_ff: the number of hidden units.
        activation: a name of ACTIVATIONS.
        bias: whether the layers have one.

    Raises:
        ValueError: there is no activation of this name.

    """

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "relu", *, bias: bool = True
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f'There is no activation "{activation}": use one of {known}.')
        self.bend, gated = ACTIVATIONS[activation]
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.gate = nn.Linear(d_model, d_ff, bias=bias) if gated else None
        self.down = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Return down(bend(up(x))), or with a gate down(bend(gate(x)) · up(x))."""
        ### BEGIN SOLUTION
        if self.gate is None:
            hidden = self.bend(self.up(x))  # (..., d_ff)
        else:
            hidden = self.bend(self.gate(x)) * self.up(x)  # (..., d_ff)
        return self.down(hidden)  # (..., d_model)
        ### END SOLUTION


class Dropout(nn.Module):
    """In training, set each number to zero with probability p and divide the others by 1 − p.

    So the mean of every number stays what it was. In evaluation nothing happens. Srivastava et al. 2014,
    "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 4.

    Args:
        p: the share of numbers that is dropped, from 0 to 1.

    Raises:
        ValueError: p is no share.

    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"A share lies between 0 and 1: {p} does not.")
        self.p = p

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return ``x`` with some of its numbers dropped, if this module is in training."""
        if not self.training or self.p == 0:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p)  # as x: 1 where a number is kept, else 0
        return x * kept / (1 - self.p) if self.p < 1 else x * kept


class PreNorm(nn.Module):
    """A residual connection whose sublayer reads the normalised stream: x + f(norm(x)).

    Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", table 1, right.

    Args:
        norm: a module that keeps the shape, such as LayerNorm(d_model).
        dropout: the share of the sublayer's output that is dropped in training.

    """

    def __init__(self, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "... d"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "... d"]:
        """Add to ``x`` what ``sublayer`` makes of it."""
        ### BEGIN SOLUTION
        return x + self.dropout(sublayer(self.norm(x)))  # (..., d)
        ### END SOLUTION


class PostNorm(nn.Module):
    """A residual connection that normalises the sum: norm(x + f(x)).

    Vaswani et al. 2017, sections 3.1 and 5.4; Xiong et al. 2020, table 1, left.

    Args:
        norm: a module that keeps the shape, such as LayerNorm(d_model).
        dropout: the share of the sublayer's output that is dropped in training.

    """

    def __init__(self, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "... d"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "... d"]:
        """Add to ``x`` what ``sublayer`` makes of it, and normalise the sum."""
        ### BEGIN SOLUTION
        return self.norm(x + self.dropout(sublayer(x)))  # (..., d)
        ### END SOLUTION


class TransformerBlock(nn.Module):
    """Communicate, then compute: attention and feed-forward, each inside a residual connection.

    Vaswani et al. 2017, section 3.1, an encoder layer; under a causal mask, a layer of a decoder-only
    model. After a stack of blocks with `PreNorm` one more norm is needed, which the stack adds.

    Args:
        d_model: the width of input and output.
        n_heads: the number of query heads.
        d_ff: the number of hidden units.
        residual: how a sublayer is joined to the stream: `PreNorm`, `PostNorm`, or anything else that is
            made by ``residual(norm, dropout)`` and called as ``(x, sublayer)``.
        norm: makes a norm for a width, such as `LayerNorm`, `RMSNorm` or ``partial(LayerNorm, eps=1e-12)``.
        activation: the feed-forward network's, a name of ACTIVATIONS.
        dropout: the share of each sublayer's output that is dropped in training.
        bias: whether the linear layers have one.
        n_kv_heads: the number of key heads, as in `MultiHeadAttention`.
        d_head: the width of one head, as there.
        rotate: turns queries and keys by their positions, as there.
        attend: what the heads do, as there.

    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        *,
        residual: Callable[[nn.Module, float], nn.Module] = PreNorm,
        norm: Callable[[int], nn.Module] = LayerNorm,
        activation: str = "relu",
        dropout: float = 0.0,
        bias: bool = True,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        rotate: Callable[[Tensor, int], Tensor] | None = None,
        attend: Callable[..., tuple[Tensor, Tensor]] = attention,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(
            d_model, n_heads, n_kv_heads, d_head=d_head, bias=bias, rotate=rotate, attend=attend
        )
        self.feed_forward = FeedForward(d_model, d_ff, activation, bias=bias)
        self.communicate = residual(norm(d_model), dropout)  # the connection around the attention
        self.compute = residual(norm(d_model), dropout)  # the connection around the feed-forward

    def forward(
        self,
        x: Float[Tensor, "batch n d_model"],
        mask: Bool[Tensor, "... n n_k"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch n d_model"]:
        """Let the positions hear each other, then let each think by itself.

        Args:
            x: the stream, one vector for each position.
            mask: True where a position may attend to another, without an axis for heads.
            cache: keys and values of the positions before ``x``; n_k counts them all.

        Returns:
            The stream behind the block.

        """
        ### BEGIN SOLUTION
        x = self.communicate(x, lambda y: self.attention(y, mask=mask, cache=cache)[0])  # (B, n, d)
        return self.compute(x, self.feed_forward)  # (B, n, d)
        ### END SOLUTION


@torch.no_grad()
def initialise(model: nn.Module, n_blocks: int | None = None, std: float | None = None) -> None:
    """Draw the weights of a model's linear layers and embeddings anew: normal, mean 0; biases become 0.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3 (the division
    for depth); GPT-2 has ``std=0.02``.

    Args:
        model: what is changed; its norms stay as they are.
        n_blocks: where given, the matrices that write to the stream, which are called ``to_out`` (attention)
            and ``down`` (feed-forward), are divided by √(2 · n_blocks).
        std: of each weight; if not given, 1/√inputs, so that a layer keeps the variance of what it reads
            (LeCun et al. 1998), and 1 for embeddings.

    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            size = std or 1 / math.sqrt(module.in_features)
            if n_blocks is not None and name.split(".")[-1] in ("to_out", "down"):
                size /= math.sqrt(2 * n_blocks)
            nn.init.normal_(module.weight, std=size)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std or 1.0)


def count_parameters(
    d_model: int,
    n_heads: int,
    d_ff: int,
    *,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    activation: str = "relu",
    bias: bool = True,
    norm_vectors: int = 2,
) -> int:
    """Return how many parameters a `TransformerBlock` of these sizes has, without making one.

    Args:
        d_model: the width of the stream.
        n_heads: the number h of query heads.
        d_ff: the number of hidden units.
        n_kv_heads: the number g of key heads; h if not given.
        d_head: the width of one head; d_model / h if not given.
        activation: a name of ACTIVATIONS; one with a gate has a third matrix.
        bias: whether the linear layers have one.
        norm_vectors: how many vectors of width d_model a norm learns: 2 for LayerNorm, 1 for RMSNorm.

    """
    ### BEGIN SOLUTION
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    d_head = d_model // n_heads if d_head is None else d_head
    asked = n_heads * d_head  # the width of all query heads together
    shared = n_kv_heads * d_head  # and of all key heads
    gated = ACTIVATIONS[activation][1]
    layers = [(d_model, asked), (d_model, shared), (d_model, shared)]  # to q, k and v
    layers += [(asked, d_model)]  # out of the attention
    layers += [(d_model, d_ff)] * (1 + gated) + [(d_ff, d_model)]  # up (and gate), down
    weights = sum(inputs * outputs + bias * outputs for inputs, outputs in layers)
    return weights + 2 * norm_vectors * d_model  # one norm for each of the two connections
    ### END SOLUTION


def count_flops(
    n: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    *,
    n_k: int | None = None,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    activation: str = "relu",
) -> int:
    """Return the floating-point operations of a `TransformerBlock`'s matrix products, forward, for one text.

    A multiplication and an addition count as two, as in `torch.utils.flop_counter`; what is done number by
    number (norms, softmax, biases) is left out, as there. A backward pass takes twice as many.

    Args:
        n: the number of positions that are read.
        d_model: the width of the stream.
        n_heads: the number h of query heads.
        d_ff: the number of hidden units.
        n_k: the number of keys, those in a cache among them; n if not given.
        n_kv_heads: the number g of key heads; h if not given.
        d_head: the width of one head; d_model / h if not given.
        activation: a name of ACTIVATIONS.

    """
    matrices = count_parameters(
        d_model, n_heads, d_ff, n_kv_heads=n_kv_heads, d_head=d_head, activation=activation,
        bias=False, norm_vectors=0,
    )  # fmt: skip
    width = d_model if d_head is None else n_heads * d_head  # of all heads together
    meetings = n * (n if n_k is None else n_k)  # of a query with a key
    return 2 * (n * matrices + 2 * meetings * width)  # they meet in the scores and in the averages


@contextmanager
def attention_weights(model: nn.Module) -> Iterator[list[Float[Tensor, "batch h n_q n_k"]]]:
    """Collect the weights of every `MultiHeadAttention` of a model, in the order of their computation.

    ``with attention_weights(model) as weights: model(x)`` leaves one tensor for each layer in ``weights``.
    """
    weights: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        weights.append(output[1].detach())

    layers = [each for each in model.modules() if isinstance(each, MultiHeadAttention)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield weights
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def copy_encoder_layer(ours: TransformerBlock, theirs: nn.TransformerEncoderLayer) -> None:
    """Give our block the weights of PyTorch's encoder layer.

    The norms' eps and the activation are not copied: make both layers with the same.

    Raises:
        ValueError: the two differ in width, number of heads or biases, or ours has shared key heads or a gate.

    """
    if ours.feed_forward.gate is not None:
        raise ValueError("PyTorch's layer has no gate.")
    copy_from_torch(ours.attention, theirs.self_attn)
    pairs: tuple[tuple[Any, Any], ...] = (
        (ours.feed_forward.up, theirs.linear1),
        (ours.feed_forward.down, theirs.linear2),
        (ours.communicate.norm, theirs.norm1),
        (ours.compute.norm, theirs.norm2),
    )
    for one, other in pairs:
        one.weight.copy_(other.weight)
        if one.bias is not None:
            one.bias.copy_(torch.zeros_like(one.bias) if other.bias is None else other.bias)
