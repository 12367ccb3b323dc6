"""T5, the text-to-text transformer: attention without a scale, one bias for all layers, the model (lesson 15)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.block import Dropout, FeedForward, PreNorm, RMSNorm
from course_lib.models.multi_head import KVCache, merge_heads, split_heads
from course_lib.models.positions import RelativeBias
from course_lib.models.transformer import Encoded
from course_lib.models.translation import Decoded

# --- what is read, what is said ------------------------------------------------------------------


def shift_right(
    labels: Int[Tensor, "... m"], start: int = 0, padding: int = 0
) -> Int[Tensor, "... m"]:
    """Return what a decoder hears while it says ``labels``: the start mark, then all labels but the last.

    Args:
        labels: the tokens that are to be said; −100 where nothing counts.
        start: the mark that is heard first; T5 takes its padding for it.
        padding: is heard where the labels have −100, which is no token.

    Returns:
        A new tensor of the same shape.

    """
    ### BEGIN SOLUTION
    first = torch.full_like(labels[..., :1], start)  # (..., 1), nothing if there are no labels
    heard = torch.cat([first, labels[..., :-1]], dim=-1)  # (..., m)
    return heard.masked_fill(heard == -100, padding)
    ### END SOLUTION


# --- the parts -----------------------------------------------------------------------------------


class T5Attention(nn.Module):
    """Multi-head attention as T5 has it: no biases, no division by √d_head, positions added to the scores.

    Raffel et al. 2020, section 2.1; in its code the factor 1/√d_head is part of the first weights of
    ``to_q``. The width of a head is free: all heads together may be wider or narrower than the stream.

    Args:
        d_model: the width of input and output.
        n_heads: the number h of heads.
        d_head: the width of one head.

    """

    def __init__(self, d_model: int, n_heads: int, d_head: int) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.d_head = n_heads, n_heads, d_head
        self.to_q = nn.Linear(d_model, n_heads * d_head, bias=False)
        self.to_k = nn.Linear(d_model, n_heads * d_head, bias=False)
        self.to_v = nn.Linear(d_model, n_heads * d_head, bias=False)
        self.to_out = nn.Linear(n_heads * d_head, d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch n_q d_model"],
        context: Float[Tensor, "batch n_c d_model"] | None = None,
        mask: Bool[Tensor, "... n_q n_k"] | None = None,
        bias: Float[Tensor, "h n_q n_k"] | None = None,
        cache: KVCache | None = None,
    ) -> tuple[Float[Tensor, "batch n_q d_model"], Float[Tensor, "batch h n_q n_k"]]:
        """Let each position of ``x`` attend, with every head, to ``x`` itself or to ``context``.

        Args:
            x: what asks.
            context: what is asked (cross-attention); ``x`` itself if not given.
            mask: True where a query may attend to a key, without an axis for heads.
            bias: what each head adds to its scores; nothing if not given.
            cache: keys and values of earlier positions; the new ones are added to it, and n_k counts all.

        Returns:
            The outputs, and the weights of each head. A row of the mask without any True gives zeros in
            the weights.

        """
        ### BEGIN SOLUTION
        source = x if context is None else context
        q = split_heads(self.to_q(x), self.n_heads)  # (B, h, n_q, d_head)
        k = split_heads(self.to_k(source), self.n_heads)  # (B, h, n, d_head)
        v = split_heads(self.to_v(source), self.n_heads)  # (B, h, n, d_head)
        if cache is not None:
            k, v = cache.update(k, v)  # (B, h, n_k, d_head), with all earlier positions
        scores = q @ k.transpose(-2, -1)  # (B, h, n_q, n_k), not divided by anything
        if bias is not None:
            scores = scores + bias  # (B, h, n_q, n_k): the same for every text
        if mask is None:
            weights = scores.softmax(dim=-1)  # (B, h, n_q, n_k)
        else:
            mask = mask.unsqueeze(-3)  # (..., 1, n_q, n_k): the same for every head
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            weights = scores.softmax(dim=-1) * mask  # (B, h, n_q, n_k)
        return self.to_out(merge_heads(weights @ v)), weights  # (B, n_q, d_model), (B, h, n_q, n_k)
        ### END SOLUTION


@dataclass(frozen=True)
class T5Config:
    """The sizes of a `T5`; those not given are t5-small's.

    Attributes:
        n_words: the number of tokens in the vocabulary, sentinels among them.
        d_model: the width of the stream.
        n_heads: the number of heads of each attention.
        d_head: the width of one head.
        d_ff: the number of hidden units of the feed-forward networks.
        n_layers: the number of blocks of each stack.
        n_buckets: of the relative bias (lesson 09).
        max_distance: of the relative bias.
        dropout: the share that is dropped in training.

    """

    n_words: int = 32_128
    d_model: int = 512
    n_heads: int = 8
    d_head: int = 64
    d_ff: int = 2048
    n_layers: int = 6
    n_buckets: int = 32
    max_distance: int = 128
    dropout: float = 0.0

    def but(self, **changes: Any) -> "T5Config":
        """Return a configuration that differs in ``changes``."""
        return replace(self, **changes)


T5_CONFIGS = {
    "t5-small": T5Config(),
    "t5-base": T5Config(d_model=768, n_heads=12, d_ff=3072, n_layers=12),
    "t5-large": T5Config(d_model=1024, n_heads=16, d_ff=4096, n_layers=24),
    "t5-3b": T5Config(d_model=1024, n_heads=32, d_head=128, d_ff=16_384, n_layers=24),
    "t5-11b": T5Config(d_model=1024, n_heads=128, d_head=128, d_ff=65_536, n_layers=24),
}  # the published sizes: Raffel et al. 2020, section 3.7


class T5Block(nn.Module):
    """Hear the own sequence, consult the memory if there is one, compute; pre-norm by `RMSNorm`.

    Args:
        config: the sizes.
        consults: whether the block has a cross-attention, as a decoder's has.
        norm: makes a norm for a width.

    """

    def __init__(
        self,
        config: T5Config,
        consults: bool = False,
        norm: Callable[[int], nn.Module] = RMSNorm,
    ) -> None:
        super().__init__()
        d_model, heads = config.d_model, (config.d_model, config.n_heads, config.d_head)
        self.attention = T5Attention(*heads)
        self.communicate = PreNorm(norm(d_model), config.dropout)
        self.cross_attention = T5Attention(*heads) if consults else None
        self.consult = PreNorm(norm(d_model), config.dropout) if consults else None
        self.feed_forward = FeedForward(d_model, config.d_ff, "relu", bias=False)
        self.compute = PreNorm(norm(d_model), config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch n d_model"],
        mask: Bool[Tensor, "... n n_k"] | None = None,
        bias: Float[Tensor, "h n n_k"] | None = None,
        memory: Float[Tensor, "batch n_m d_model"] | None = None,
        memory_mask: Bool[Tensor, "... n n_m"] | None = None,
        cache: KVCache | None = None,
        memory_cache: KVCache | None = None,
    ) -> Float[Tensor, "batch n d_model"]:
        """Return the stream behind the block; the bias goes to the self-attention alone."""
        own, cross = self.attention, self.cross_attention
        x = self.communicate(x, lambda y: own(y, mask=mask, bias=bias, cache=cache)[0])
        if cross is not None and self.consult is not None:
            x = self.consult(x, lambda y: cross(y, memory, memory_mask, cache=memory_cache)[0])
        return self.compute(x, self.feed_forward)  # (B, n, d)


class T5Stack(nn.Module):
    """Blocks, one relative bias for all of them, and a norm at the end.

    Args:
        config: the sizes.
        causal: whether the bias is that of a stack which never hears later positions.
        consults: whether the blocks consult a memory.
        norm: makes a norm for a width.

    """

    def __init__(
        self,
        config: T5Config,
        causal: bool = False,
        consults: bool = False,
        norm: Callable[[int], nn.Module] = RMSNorm,
    ) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.bias = RelativeBias(
            config.n_heads, config.n_buckets, config.max_distance, bidirectional=not causal
        )
        self.blocks = nn.ModuleList(T5Block(config, consults, norm) for _ in range(config.n_layers))
        self.norm = norm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch n d_model"],
        mask: Bool[Tensor, "... n n_k"],
        memory: Float[Tensor, "batch n_m d_model"] | None = None,
        memory_mask: Bool[Tensor, "... n n_m"] | None = None,
        caches: "list[tuple[KVCache, KVCache]] | None" = None,
    ) -> Float[Tensor, "batch n d_model"]:
        """Return the stream behind the last block, normalised.

        Args:
            x: the words' vectors.
            mask: True where a position may attend to another.
            memory: what the blocks consult.
            memory_mask: True where a position may attend to a position of the memory.
            caches: for each block one for its own keys and values and one for the memory's.

        """
        bias = self.bias(x.shape[1], mask.shape[-1], x.device)  # (h, n, n_k), once for all blocks
        x = self.dropout(x)  # (B, n, d)
        for i, block in enumerate(self.blocks):
            own, of_memory = (None, None) if caches is None else caches[i]
            x = block(x, mask, bias, memory, memory_mask, own, of_memory)  # (B, n, d)
        return self.dropout(self.norm(x))  # (B, n, d)


# --- the model -----------------------------------------------------------------------------------


class T5(nn.Module):
    """The text-to-text transformer of Raffel et al. 2020, version 1.0: one table, two stacks.

    Section 2.1. There are no biases anywhere and no positions but the relative bias; norms divide by
    the root mean square and do not centre. The table's vectors have numbers of size 1 and go in as they
    are; on the way out the stream is multiplied by d_model^−½ before it meets the table.

    Args:
        config: the sizes.
        norm: makes a norm for a width; ``partial(nn.RMSNorm, eps=1e-6)`` is the same and faster.
        max_len: the number of tokens up to which `decode` can write.

    """

    def __init__(
        self,
        config: T5Config,
        norm: Callable[[int], nn.Module] = RMSNorm,
        max_len: int = 256,
    ) -> None:
        super().__init__()
        self.config, self.max_len = config, max_len
        self.words = nn.Embedding(config.n_words, config.d_model)
        self.encoder = T5Stack(config, norm=norm)
        self.decoder = T5Stack(config, causal=True, consults=True, norm=norm)
        initialise_t5(self)

    def encode(self, source: Int[Tensor, "batch n"], lengths: Int[Tensor, "batch"]) -> Encoded:
        """Read padded texts; what stands in the padding changes nothing."""
        mask = padding_mask(lengths, source.shape[1])  # (B, 1, n)
        return Encoded(self.encoder(self.words(source), mask), mask)

    def forward(
        self,
        source: Int[Tensor, "batch n"],
        lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch m"],
    ) -> Float[Tensor, "batch m words"]:
        """Return the logits of what is said behind each token of ``target``, which was shifted right."""
        memory = self.encode(source, lengths)
        mask = causal_mask(target.shape[1], device=target.device)  # (m, m)
        x = self.decoder(self.words(target), mask, memory.words, memory.mask)  # (B, m, d)
        return self.score(x)

    def score(self, x: Float[Tensor, "batch m d_model"]) -> Float[Tensor, "batch m words"]:
        """Return the products with all rows of the table, scaled by d_model^−½."""
        return x * self.config.d_model**-0.5 @ self.words.weight.T  # (B, m, words)

    @torch.no_grad()
    def decode(
        self,
        memory: Encoded,
        target: Int[Tensor, "batch m"],
        state: "list[tuple[KVCache, KVCache]] | None" = None,
    ) -> Decoded:
        """Hear the tokens of ``target`` and say what comes next, without gradients; as `Transformer.decode`.

        Args:
            memory: what was read.
            target: the tokens that were said; or, with ``state``, the newest ones.
            state: what the last call returned; None at the beginning.

        """
        words, mask = memory
        blocks: Any = self.decoder.blocks
        if state is None:
            batch, n, _ = words.shape
            state = [
                (
                    KVCache.for_layer(block.attention, batch, self.max_len),
                    KVCache.for_layer(block.cross_attention, batch, n),
                )
                for block in blocks
            ]
        else:
            words = words[:, :0]  # (B, 0, d): the caches hold the memory's keys and values
        start, m = state[0][0].length, target.shape[1]
        seen = causal_mask(m, start + m, device=target.device)  # (m, start + m)
        x = self.decoder(self.words(target), seen, words, mask, state)  # (B, m, d)
        return Decoded(self.score(x), state, None)


@torch.no_grad()
def initialise_t5(model: nn.Module) -> None:
    """Draw all weights anew as T5's code does: 1/√inputs everywhere, and less for queries.

    Queries get 1/√(d_model · d_head): the factor 1/√d_head that the scores lack is in their first weights.
    Tables of words get 1, relative biases 1/√d_model. (``_init_weights`` of the Hugging Face model, after
    Mesh TensorFlow.)
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for module in model.modules():
        if isinstance(module, T5Attention):
            d_model = module.to_q.in_features
            nn.init.normal_(module.to_q.weight, std=(d_model * module.d_head) ** -0.5)
        elif isinstance(module, T5Stack):
            nn.init.normal_(module.bias.table.weight, std=module.d_model**-0.5)
        elif isinstance(module, T5):
            nn.init.normal_(module.words.weight, std=1.0)


def count_t5(config: T5Config) -> int:
    """Return how many parameters a `T5` of these sizes has, without making one."""
    d_model, heads = config.d_model, config.n_heads * config.d_head
    attends = 4 * d_model * heads
    computes = 2 * d_model * config.d_ff
    encoder_block = attends + computes + 2 * d_model  # a norm learns one vector
    decoder_block = 2 * attends + computes + 3 * d_model
    biases = config.n_buckets * config.n_heads
    stacks = config.n_layers * (encoder_block + decoder_block) + 2 * (biases + d_model)
    return config.n_words * d_model + stacks


# --- published weights ---------------------------------------------------------------------------

_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out"}


def t5_places(config: T5Config) -> dict[str, str]:
    """Return for each of our parameters the name that it has in the published files."""
    places = {"words.weight": "shared.weight"}
    for stack, parts in (
        ("encoder", (("attention", "communicate"), ("", "compute"))),
        (
            "decoder",
            (("attention", "communicate"), ("cross_attention", "consult"), ("", "compute")),
        ),
    ):
        places[f"{stack}.norm.weight"] = f"{stack}.final_layer_norm.weight"
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        places[f"{stack}.bias.table.weight"] = bias
        for i in range(config.n_layers):
            for j, (attends, connection) in enumerate(parts):
                ours, theirs = f"{stack}.blocks.{i}", f"{stack}.block.{i}.layer.{j}"
                places[f"{ours}.{connection}.norm.weight"] = f"{theirs}.layer_norm.weight"
                if attends:
                    kind = "SelfAttention" if attends == "attention" else "EncDecAttention"
                    for letter, layer in _ATTENTION.items():
                        place = f"{ours}.{attends}.{layer}.weight"
                        places[place] = f"{theirs}.{kind}.{letter}.weight"
                else:
                    for letters, layer in (("wi", "up"), ("wo", "down")):
                        place = f"{ours}.feed_forward.{layer}.weight"
                        places[place] = f"{theirs}.DenseReluDense.{letters}.weight"
    return places


@torch.no_grad()
def copy_t5(ours: T5, weights: Mapping[str, Tensor]) -> None:
    """Give our model T5's weights, as they are named in the published files (version 1.0, ReLU).

    Raises:
        ValueError: a tensor is missing or has another shape.

    """
    parameters = dict(ours.named_parameters())
    for place, name in t5_places(ours.config).items():
        if name not in weights:
            raise ValueError(f"The weights of T5 lack {name}.")
        if weights[name].shape != parameters[place].shape:
            sizes = (
                f"{tuple(weights[name].shape)}, and the model has {tuple(parameters[place].shape)}"
            )
            raise ValueError(f"{name} has the shape {sizes}.")
        parameters[place].copy_(weights[name])
