"""A small GPT that learns in a fraction of the time: what has changed since GPT-2 (lesson 13)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class FastConfig:
    """The sizes of a `FastGPT`, and which of its parts it has.

    Attributes:
        n_words: the number of tokens in the vocabulary.
        max_len: the most positions that the model reads.
        d_model: the width of the stream.
        n_heads: the number of heads.
        n_layers: the number of blocks.
        pairs: rows of the table for the last two tokens; 0 for none.
        triples: rows of the table for the last three tokens, shared by those that fall into one; 0 for none.
        rotary: turn queries and keys by their positions; otherwise learnt positions are added.
        norm_queries: give queries and keys the same length before they meet.
        squared: square the ReLU of the feed-forward network; otherwise it has GPT-2's GELU.
        start_silent: let every block add nothing at the start.
        cap: the largest magnitude of a logit; 0 for no limit.

    """

    n_words: int
    max_len: int = 64
    d_model: int = 128
    n_heads: int = 4
    n_layers: int = 2
    pairs: int = 65 * 65
    triples: int = 1 << 14
    rotary: bool = True
    norm_queries: bool = True
    squared: bool = True
    start_silent: bool = True
    cap: float = 15.0


def rms_norm(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Divide each vector by the root of its mean square; nothing is learnt."""
    return F.rms_norm(x, x.shape[-1:])


class FastBlock(nn.Module):
    """Communicate, then compute, with pre-norm and no biases."""

    def __init__(self, config: FastConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.to_qkv = nn.Linear(d, 3 * d, bias=False)
        self.to_out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 4 * d, bias=False)
        self.down = nn.Linear(4 * d, d, bias=False)
        for layer in (self.to_qkv, self.up):
            nn.init.normal_(layer.weight, std=d**-0.5)
        for layer in (self.to_out, self.down):
            if config.start_silent:
                nn.init.zeros_(layer.weight)
            else:
                size = (2 * config.n_layers * layer.in_features) ** -0.5
                nn.init.normal_(layer.weight, std=size)

    def forward(
        self, x: Float[Tensor, "batch n d"], cos: Tensor, sin: Tensor
    ) -> Float[Tensor, "batch n d"]:
        """Return the stream behind the block."""
        batch, n, d = x.shape
        heads = self.to_qkv(rms_norm(x)).view(batch, n, 3, self.config.n_heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, h, n, d_head) each
        if self.config.norm_queries:
            q, k = rms_norm(q), rms_norm(k)  # (B, h, n, d_head) each
        if self.config.rotary:
            q, k = turn(q, cos, sin), turn(k, cos, sin)  # (B, h, n, d_head) each
        said = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, h, n, d_head)
        x = x + self.to_out(said.transpose(1, 2).reshape(batch, n, d))  # (B, n, d)
        hidden = self.up(rms_norm(x))  # (B, n, 4d)
        hidden = hidden.relu().square() if self.config.squared else F.gelu(hidden)  # (B, n, 4d)
        return x + self.down(hidden)  # (B, n, d)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of numbers, the first half of a head with its second, by each position's angles."""
    one, other = x.chunk(2, dim=-1)  # (..., n, d_head / 2) each
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)


class FastGPT(nn.Module):
    """A decoder-only model with tables for pairs and triples of tokens beside its blocks.

    Zhang & Sennrich 2019 (RMS norm); Su et al. 2021 (rotary positions); Henry et al. 2020 (query-key
    norm); So et al. 2021 (squared ReLU); Bachlechner et al. 2021 (blocks that start silent); Gemma Team
    2024 (capped logits); Huang et al. 2025 (tables for neighbouring tokens).

    Args:
        config: the sizes and the parts.

    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: FastConfig) -> None:
        super().__init__()
        self.config = config
        d, d_head = config.d_model, config.d_model // config.n_heads
        self.words = nn.Embedding(config.n_words, d)
        self.tables = nn.ModuleList(
            nn.Embedding(rows, d) for rows in (config.pairs, config.triples) if rows
        )
        for table in self.tables:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        self.positions = None if config.rotary else nn.Embedding(config.max_len, d)
        self.blocks = nn.ModuleList(FastBlock(config) for _ in range(config.n_layers))
        self.guess = nn.Linear(d, config.n_words, bias=False)
        nn.init.zeros_(self.guess.weight)
        speeds = 1000.0 ** (-torch.arange(0, d_head, 2) / d_head)  # (d_head / 2,)
        angles = torch.arange(config.max_len)[:, None] * speeds  # (max_len, d_head / 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch n words"]:
        """Return, for each position, the logits of the token that follows."""
        config, n = self.config, ids.shape[1]
        before = F.pad(ids, (1, 0))[
            :, :-1
        ]  # (B, n): the token one place back, 0 where there is none
        earlier = F.pad(ids, (2, 0))[:, :-2]  # (B, n): two places back
        pair = before * config.n_words + ids  # (B, n): a number for each pair of tokens
        triple = earlier * config.n_words**2 + pair  # (B, n)
        x = self.words(ids)  # (B, n, d)
        tables = iter(self.tables)
        if config.pairs:
            x = x + next(tables)(pair % config.pairs)  # (B, n, d)
        if config.triples:
            x = x + next(tables)(triple * 2_654_435_761 % config.triples)  # (B, n, d)
        if self.positions is not None:
            x = x + self.positions.weight[:n]  # (B, n, d)
        x = rms_norm(x)
        for block in self.blocks:
            x = block(x, self.cos[:n], self.sin[:n])  # (B, n, d)
        logits = self.guess(rms_norm(x))  # (B, n, words)
        return config.cap * (logits / config.cap).tanh() if config.cap else logits

    def matrices(self) -> list[nn.Parameter]:
        """Return the matrices inside the blocks, which `Muon` updates; all else is for Adam."""
        return [each for block in self.blocks for each in block.parameters()]
