"""The whole transformer: decoder block, encoder and decoder, label smoothing, the learning rate (lesson 11)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.models.attention import attention, causal_mask, padding_mask
from course_lib.models.block import (
    Dropout,
    FeedForward,
    LayerNorm,
    PreNorm,
    TransformerBlock,
    attention_weights,
    copy_encoder_layer,
    count_parameters,
)
from course_lib.models.multi_head import KVCache, MultiHeadAttention, copy_from_torch
from course_lib.models.positions import SinusoidalPositions
from course_lib.models.translation import PAD, Decoded

# --- what is minimised, and how fast -------------------------------------------------------------


def label_smoothing_loss(
    logits: Float[Tensor, "... words"],
    target: Int[Tensor, "..."],
    smoothing: float = 0.1,
    padding: int = PAD,
) -> Float[Tensor, ""]:
    """Cross-entropy with a target that is not quite sure of itself, in nats, averaged over the real words.

    A share ``smoothing`` of the target's probability is spread evenly over all words of the vocabulary,
    the right one among them. Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7;
    Vaswani et al. 2017, section 5.4.

    Args:
        logits: the scores of every word.
        target: the number of the right word at each position.
        smoothing: the share that is spread, from 0 to 1.
        padding: positions whose target is this number do not count.

    Returns:
        The mean loss over the positions that are not padding, a tensor without axes.

    """
    ### BEGIN SOLUTION
    log_p = logits.log_softmax(dim=-1)  # (..., words)
    right = -log_p.gather(-1, target[..., None]).squeeze(-1)  # (...)
    even = -log_p.mean(dim=-1)  # (...): each word with probability 1 / words
    loss = (1 - smoothing) * right + smoothing * even  # (...)
    return loss[target != padding].mean()
    ### END SOLUTION


def noam_rate(step: int, d_model: int, warmup: int, scale: float = 1.0) -> float:
    """Return the learning rate of a step: it rises in proportion to the step, then falls with its root.

    Vaswani et al. 2017, section 5.3, equation 3.

    Args:
        step: the number of the step; the first is 1.
        d_model: the width of the model.
        warmup: the number of steps for which the rate rises.
        scale: multiplies the whole schedule; 1 in the paper.

    Raises:
        ValueError: ``step`` is less than 1.

    """
    ### BEGIN SOLUTION
    if step < 1:
        raise ValueError(f"The first step has the number 1: there is no step {step}.")
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
    ### END SOLUTION


# --- the decoder's block -------------------------------------------------------------------------


class DecoderBlock(nn.Module):
    """Hear what was said, consult the source, compute: three sublayers, each in a residual connection.

    Vaswani et al. 2017, section 3.1, a decoder layer.

    Args:
        d_model: the width of input and output.
        n_heads: the number of heads of both attentions.
        d_ff: the number of hidden units.
        residual: how a sublayer is joined to the stream, as in `TransformerBlock`.
        norm: makes a norm for a width.
        activation: the feed-forward network's, a name of lesson 10's ACTIVATIONS.
        dropout: the share of each sublayer's output that is dropped in training.
        bias: whether the linear layers have one.
        rotate: turns queries and keys of the self-attention by their positions (lesson 09).
        attend: what the heads do, as in `MultiHeadAttention`.

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
        rotate: Callable[[Tensor, int], Tensor] | None = None,
        attend: Callable[..., tuple[Tensor, Tensor]] = attention,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(
            d_model, n_heads, bias=bias, rotate=rotate, attend=attend
        )
        self.cross_attention = MultiHeadAttention(d_model, n_heads, bias=bias, attend=attend)
        self.feed_forward = FeedForward(d_model, d_ff, activation, bias=bias)
        self.communicate = residual(norm(d_model), dropout)  # around the attention to what was said
        self.consult = residual(norm(d_model), dropout)  # around the attention to the source
        self.compute = residual(norm(d_model), dropout)  # around the feed-forward network

    def forward(
        self,
        x: Float[Tensor, "batch m d_model"],
        memory: Float[Tensor, "batch n d_model"],
        mask: Bool[Tensor, "... m m_k"] | None = None,
        memory_mask: Bool[Tensor, "... m n_k"] | None = None,
        cache: KVCache | None = None,
        memory_cache: KVCache | None = None,
    ) -> Float[Tensor, "batch m d_model"]:
        """Let the positions hear each other, then the source, then think by themselves.

        Args:
            x: the decoder's stream, one vector for each position of the target.
            memory: what the encoder made of the source.
            mask: True where a position may attend to another of the target.
            memory_mask: True where a position may attend to a position of the source.
            cache: keys and values of the target's positions before ``x``.
            memory_cache: keys and values of the source that have been computed; those of ``memory`` are added.

        Returns:
            The stream behind the block.

        """
        ### BEGIN SOLUTION
        # each time x is (B, m, d_model)
        x = self.communicate(x, lambda y: self.attention(y, mask=mask, cache=cache)[0])
        x = self.consult(x, lambda y: self.cross_attention(y, memory, memory_mask, memory_cache)[0])
        return self.compute(x, self.feed_forward)
        ### END SOLUTION


class EncoderStack(nn.Module):
    """Blocks of lesson 10, one after the other, and a norm.

    Args:
        blocks: the `TransformerBlock` modules.
        norm: what the stack ends with.

    """

    def __init__(self, blocks: list[TransformerBlock], norm: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self, x: Float[Tensor, "batch n d_model"], mask: Bool[Tensor, "... n n"] | None = None
    ) -> Float[Tensor, "batch n d_model"]:
        """Return the stream behind the last block, normalised."""
        for block in self.blocks:
            x = block(x, mask)  # (B, n, d_model)
        return self.norm(x)  # (B, n, d_model)


class DecoderStack(nn.Module):
    """Decoder blocks, one after the other, and a norm.

    Args:
        blocks: the `DecoderBlock` modules.
        norm: what the stack ends with.

    """

    def __init__(self, blocks: list[DecoderBlock], norm: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self,
        x: Float[Tensor, "batch m d_model"],
        memory: Float[Tensor, "batch n d_model"],
        mask: Bool[Tensor, "... m m_k"] | None = None,
        memory_mask: Bool[Tensor, "... m n_k"] | None = None,
        caches: "list[tuple[KVCache, KVCache]] | None" = None,
    ) -> Float[Tensor, "batch m d_model"]:
        """Return the stream behind the last block, normalised; every block consults the same memory."""
        for i, block in enumerate(self.blocks):
            own, of_memory = (None, None) if caches is None else caches[i]
            x = block(x, memory, mask, memory_mask, own, of_memory)  # (B, m, d_model)
        return self.norm(x)  # (B, m, d_model)


# --- the model -----------------------------------------------------------------------------------


class Encoded(NamedTuple):
    """What the encoder keeps of a batch of sentences.

    Attributes:
        words: (B, n, d_model), for each source word what the encoder made of it.
        mask: (B, 1, n), True at real words.

    """

    words: Tensor
    mask: Tensor


class Transformer(nn.Module):
    """The encoder–decoder of Vaswani et al. 2017, with one table of vectors for everything.

    Section 3; section 3.4 for the table, which embeds the source, embeds the target and scores the next
    word (Press & Wolf 2017). Source and target are numbered by one vocabulary.

    Args:
        n_words: the size of the vocabulary.
        d_model: the width of the stream.
        n_heads: the number of heads of every attention.
        d_ff: the number of hidden units of the feed-forward networks.
        n_layers: the number of blocks of the encoder, and of the decoder.
        dropout: the share that is dropped of each sublayer's output, and of words plus positions.
        residual: `PostNorm`, as in the paper, or `PreNorm`.
        final_norm: makes what each stack ends with: `LayerNorm`, which `PreNorm` needs, or ``nn.Identity``
            for nothing, as in the paper.
        max_len: the number of words up to which `decode` can write.
        block: what else `TransformerBlock` and `DecoderBlock` take: norm, activation, bias, rotate, attend.

    """

    def __init__(
        self,
        n_words: int,
        d_model: int = 512,
        n_heads: int = 8,
        d_ff: int = 2048,
        n_layers: int = 6,
        *,
        dropout: float = 0.0,
        residual: Callable[[nn.Module, float], nn.Module] = PreNorm,
        final_norm: Callable[[int], nn.Module] = LayerNorm,
        max_len: int = 256,
        **block: Any,
    ) -> None:
        super().__init__()
        sizes = (d_model, n_heads, d_ff)
        block = {"residual": residual, "dropout": dropout, **block}
        self.embedding = nn.Embedding(n_words, d_model)
        self.positions = SinusoidalPositions()
        self.dropout = Dropout(dropout)
        self.encoder = EncoderStack(
            [TransformerBlock(*sizes, **block) for _ in range(n_layers)], final_norm(d_model)
        )
        self.decoder = DecoderStack(
            [DecoderBlock(*sizes, **block) for _ in range(n_layers)], final_norm(d_model)
        )
        self.max_len = max_len
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # embed() multiplies by √d_model: then the numbers have size 1
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    def embed(
        self, words: Int[Tensor, "batch n"], start: int = 0
    ) -> Float[Tensor, "batch n d_model"]:
        """Return the words' vectors times √d_model, plus their positions from ``start`` on, with dropout."""
        ### BEGIN SOLUTION
        vectors = self.embedding(words) * math.sqrt(self.embedding.embedding_dim)  # (B, n, d_model)
        return self.dropout(self.positions(vectors, start))  # (B, n, d_model)
        ### END SOLUTION

    def encode(self, source: Int[Tensor, "batch n"], lengths: Int[Tensor, "batch"]) -> Encoded:
        """Read padded source sentences; what stands in the padding changes nothing."""
        ### BEGIN SOLUTION
        mask = padding_mask(lengths, source.shape[1])  # (B, 1, n)
        return Encoded(self.encoder(self.embed(source), mask), mask)
        ### END SOLUTION

    def forward(
        self,
        source: Int[Tensor, "batch n"],
        lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch m"],
    ) -> Float[Tensor, "batch m words"]:
        """Return the logits of the words that follow each word of ``target`` (teacher forcing)."""
        ### BEGIN SOLUTION
        memory = self.encode(source, lengths)
        mask = causal_mask(target.shape[1], device=target.device)  # (m, m)
        x = self.decoder(self.embed(target), memory.words, mask, memory.mask)  # (B, m, d_model)
        return x @ self.embedding.weight.T  # (B, m, words)
        ### END SOLUTION

    @torch.no_grad()
    def decode(
        self,
        memory: Encoded,
        target: Int[Tensor, "batch m"],
        state: "list[tuple[KVCache, KVCache]] | None" = None,
    ) -> Decoded:
        """Hear the words of ``target`` and say after each of them what comes next, without gradients.

        Args:
            memory: what was read.
            target: the words that have been said, from `START`; or, with ``state``, the newest ones.
            state: what the last call returned; None at the beginning.

        Returns:
            The logits, the caches of all blocks, and the weights of the cross-attention (B, m, n), the mean
            over blocks and heads.

        """
        words, mask = memory
        if state is None:
            state = self.empty_caches(words)
        else:
            words = words[:, :0]  # (B, 0, d_model): the caches hold the source's keys and values
        start = state[0][0].length  # the number of words that were heard before
        m = target.shape[1]
        seen = causal_mask(m, start + m, device=target.device)  # (m, start + m)
        with attention_weights(self.decoder) as maps:
            x = self.decoder(self.embed(target, start), words, seen, mask, state)  # (B, m, d_model)
        weights = torch.stack(maps[1::2])  # (blocks, B, h, m, n), of the cross-attentions
        return Decoded(x @ self.embedding.weight.T, state, weights.mean(dim=(0, 2)))

    def empty_caches(
        self, words: Float[Tensor, "batch n d_model"]
    ) -> list[tuple[KVCache, KVCache]]:
        """Return two caches for each block: one for the target, up to ``max_len`` words, one for the source."""
        batch, n, _ = words.shape
        blocks: Any = self.decoder.blocks
        return [
            (
                KVCache.for_layer(block.attention, batch, self.max_len),
                KVCache.for_layer(block.cross_attention, batch, n),
            )
            for block in blocks
        ]


def count_transformer(
    n_words: int, d_model: int, n_heads: int, d_ff: int, n_layers: int, **block: Any
) -> int:
    """Return how many parameters a `Transformer` without final norms has, without making one.

    Args:
        n_words: the size of the vocabulary.
        d_model: the width of the stream.
        n_heads: the number of heads.
        d_ff: the number of hidden units.
        n_layers: the number of blocks of the encoder, and of the decoder.
        block: what else `count_parameters` takes.

    """
    encoder_block = count_parameters(d_model, n_heads, d_ff, **block)
    no_network = count_parameters(d_model, n_heads, 0, **block) - block.get("bias", True) * d_model
    one_norm = block.get("norm_vectors", 2) * d_model
    decoder_block = encoder_block + no_network - one_norm  # one attention and one norm more
    return n_words * d_model + n_layers * (encoder_block + decoder_block)


# --- PyTorch's weights ---------------------------------------------------------------------------


@torch.no_grad()
def copy_decoder_layer(ours: DecoderBlock, theirs: nn.TransformerDecoderLayer) -> None:
    """Give our decoder block the weights of PyTorch's.

    Raises:
        ValueError: the two differ in width, number of heads or biases.

    """
    copy_from_torch(ours.attention, theirs.self_attn)
    copy_from_torch(ours.cross_attention, theirs.multihead_attn)
    pairs: Any = (
        (ours.feed_forward.up, theirs.linear1),
        (ours.feed_forward.down, theirs.linear2),
        (ours.communicate.norm, theirs.norm1),
        (ours.consult.norm, theirs.norm2),
        (ours.compute.norm, theirs.norm3),
    )
    for one, other in pairs:
        _copy(one, other)


def copy_transformer(ours: Transformer, theirs: nn.Transformer) -> None:
    """Give our encoder and decoder the weights of PyTorch's `nn.Transformer`, which has no embeddings.

    PyTorch ends both stacks with a norm, whatever ``norm_first`` says: make ours with ``final_norm=LayerNorm``.

    Raises:
        ValueError: the two differ in sizes, biases, or number of blocks.

    """
    stacks: Any = (
        (ours.encoder, theirs.encoder, copy_encoder_layer),
        (ours.decoder, theirs.decoder, copy_decoder_layer),
    )
    for stack, other, copy in stacks:
        if len(stack.blocks) != len(other.layers):
            raise ValueError(f"{len(stack.blocks)} blocks of ours are not {len(other.layers)}.")
        for block, layer in zip(stack.blocks, other.layers):
            copy(block, layer)
        _copy(stack.norm, other.norm)


@torch.no_grad()
def _copy(ours: Any, theirs: Any) -> None:
    """Copy weight and bias of a linear layer or a norm; a bias that PyTorch's lacks becomes zeros."""
    ours.weight.copy_(theirs.weight)
    if ours.bias is not None:
        ours.bias.copy_(torch.zeros_like(ours.bias) if theirs.bias is None else theirs.bias)
