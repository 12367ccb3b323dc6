"""A decoder-only language model: GPT-2's architecture, its sizes and its published weights (lesson 13)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.attention import causal_mask
from course_lib.models.block import Dropout, LayerNorm, TransformerBlock, initialise
from course_lib.models.multi_head import KVCache
from course_lib.models.positions import LearnedPositions, apply_rope


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a `GPT`; those not given are GPT-2's smallest.

    Attributes:
        n_words: the number of tokens in the vocabulary.
        max_len: the most positions that the model reads.
        d_model: the width of the stream.
        n_heads: the number of heads of each attention.
        n_layers: the number of blocks.
        dropout: the share that is dropped in training, of each sublayer's output and of the first vectors.
        rotary: turn queries and keys by their positions (lesson 09) instead of adding a learnt vector.

    """

    n_words: int = 50_257
    max_len: int = 1024
    d_model: int = 768
    n_heads: int = 12
    n_layers: int = 12
    dropout: float = 0.0
    rotary: bool = False

    def but(self, **changes: Any) -> "GPTConfig":
        """Return a configuration that differs in ``changes``."""
        return replace(self, **changes)


CONFIGS = {
    "nano": GPTConfig(max_len=64, d_model=64, n_heads=4, n_layers=2),
    "micro": GPTConfig(max_len=64, d_model=128, n_heads=4, n_layers=4),
    "mini": GPTConfig(max_len=256, d_model=384, n_heads=6, n_layers=6),
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(d_model=1024, n_heads=16, n_layers=24),
    "gpt2-large": GPTConfig(d_model=1280, n_heads=20, n_layers=36),
    "gpt2-xl": GPTConfig(d_model=1600, n_heads=25, n_layers=48),
}  # the published sizes: Radford et al. 2019, table 2


def fused_causal_attention(
    q: Float[Tensor, "... n_q d_k"],
    k: Float[Tensor, "... n_k d_k"],
    v: Float[Tensor, "... n_k d_v"],
    mask: Bool[Tensor, "... n_q n_k"] | None = None,
) -> tuple[Float[Tensor, "... n_q d_v"], None]:
    """Causal attention by PyTorch's fused kernel, which never writes the weights down.

    Dao et al. 2022, "FlashAttention"; `torch.nn.functional.scaled_dot_product_attention`.

    Args:
        q: queries.
        k: keys, those of earlier positions first; the last query stands at the last key.
        v: values, one row for each key.
        mask: the causal mask, which is read only where there are more keys than queries.

    Returns:
        The outputs, and None for the weights.

    """
    whole = q.shape[-2] == k.shape[-2]
    said = F.scaled_dot_product_attention(
        q, k, v, attn_mask=None if whole else mask, is_causal=whole
    )
    return said, None


class GPT(nn.Module):
    """Words and positions, blocks with pre-norm under a causal mask, a norm, the words again.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3: the last
    matrix is the table of words (Press & Wolf 2017), and matrices that write to the stream start smaller
    the deeper the model is.

    Args:
        config: the sizes.
        attend: what the heads do, as in `MultiHeadAttention`; the fused kernel if not given. Give lesson
            07's `attention` to look at the weights.
        block: what else `TransformerBlock` takes: norm, activation, bias, rotate, …

    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        attend: Callable[..., tuple[Tensor, Any]] = fused_causal_attention,
        **block: Any,
    ) -> None:
        super().__init__()
        self.config = config
        if config.rotary:
            block = {"rotate": apply_rope, **block}
        block = {"activation": "gelu_tanh", "dropout": config.dropout, **block}
        norm = block.get("norm", LayerNorm)
        d_model = config.d_model
        self.words = nn.Embedding(config.n_words, d_model)
        turned = block.get("rotate") is not None
        self.positions = nn.Identity() if turned else LearnedPositions(config.max_len, d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, config.n_heads, 4 * d_model, attend=attend, **block)
            for _ in range(config.n_layers)
        )
        self.norm = norm(d_model)
        initialise(self, n_blocks=config.n_layers, std=0.02)

    def forward(
        self, ids: Int[Tensor, "batch n"], caches: "list[KVCache] | None" = None
    ) -> Float[Tensor, "batch n words"]:
        """Return, for each position, the logits of the token that follows.

        Args:
            ids: the numbers of the tokens.
            caches: one for each block, with the positions that were read before ``ids``; those of ``ids``
                are added to them.

        Returns:
            The logits. Those of a position depend on no later one.

        Raises:
            ValueError: there are more positions than the model reads.

        """
        ### BEGIN SOLUTION
        start = 0 if caches is None else caches[0].length
        n = ids.shape[1]
        if start + n > self.config.max_len:
            raise ValueError(f"The model reads {self.config.max_len} positions, not {start + n}.")
        x = self.words(ids)  # (B, n, d)
        if isinstance(self.positions, LearnedPositions):
            x = self.positions(x, start)  # (B, n, d)
        x = self.dropout(x)  # (B, n, d)
        mask = causal_mask(n, start + n, device=ids.device)  # (n, start + n)
        for i, block in enumerate(self.blocks):
            x = block(x, mask, None if caches is None else caches[i])  # (B, n, d)
        return self.norm(x) @ self.words.weight.T  # (B, n, words)
        ### END SOLUTION

    def empty_caches(self, batch: int) -> list[KVCache]:
        """Return an empty cache for each block."""
        blocks: Any = self.blocks
        return [KVCache.for_layer(b.attention, batch, self.config.max_len) for b in blocks]


@cache
def count_gpt(config: GPTConfig) -> int:
    """Return how many parameters a `GPT` of these sizes has, without making one."""
    with torch.device("meta"):
        return sum(each.numel() for each in GPT(config).parameters())


def next_token_loss(
    logits: Float[Tensor, "batch n words"], following: Int[Tensor, "batch n"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the tokens that follow, in nats; −100 marks one that does not count."""
    return F.cross_entropy(logits.float().flatten(0, 1), following.flatten(), ignore_index=-100)


# --- published weights ---------------------------------------------------------------------------

_PLACES = {  # a block's parts: ours, and GPT-2's; those with True are stored the other way round
    "communicate.norm": ("ln_1", False),
    "attention.to_out": ("attn.c_proj", True),
    "compute.norm": ("ln_2", False),
    "feed_forward.up": ("mlp.c_fc", True),
    "feed_forward.down": ("mlp.c_proj", True),
}


@torch.no_grad()
def copy_gpt2(ours: GPT, weights: Mapping[str, Tensor]) -> None:
    """Give our model GPT-2's weights, as they are named in the published files.

    GPT-2 keeps its linear layers as (inputs, outputs), and queries, keys and values in one matrix.

    Args:
        ours: a model of the same sizes, with learnt positions.
        weights: the tensors by name, with or without the prefix ``transformer.``.

    Raises:
        ValueError: a tensor is missing or has another shape.

    """
    named = {name.removeprefix("transformer."): each for name, each in weights.items()}

    def put(parameter: Tensor, name: str, value: Tensor | None = None) -> None:
        value = named.get(name) if value is None else value
        if value is None:
            raise ValueError(f"The weights of GPT-2 lack {name}.")
        if value.shape != parameter.shape:
            sizes = f"{tuple(value.shape)}, and the model has {tuple(parameter.shape)}"
            raise ValueError(f"{name} has the shape {sizes}.")
        parameter.copy_(value)

    put(ours.words.weight, "wte.weight")
    put(ours.positions.table, "wpe.weight")  # type: ignore[arg-type]
    put(ours.norm.weight, "ln_f.weight")
    put(ours.norm.bias, "ln_f.bias")
    blocks: Any = ours.blocks
    for i, block in enumerate(blocks):
        for place, (theirs, turned) in _PLACES.items():
            part = block.get_submodule(place)
            for kind in ("weight", "bias"):
                name = f"h.{i}.{theirs}.{kind}"
                value = named.get(name)
                if value is not None and turned and kind == "weight":
                    value = value.T
                put(getattr(part, kind), name, value)
        for kind in ("weight", "bias"):
            name = f"h.{i}.attn.c_attn.{kind}"
            if name not in named:
                raise ValueError(f"The weights of GPT-2 lack {name}.")
            thirds = named[name].chunk(3, dim=-1)  # (d, d) or (d,) each
            for layer, third in zip(("to_q", "to_k", "to_v"), thirds):
                parameter = getattr(block.attention.get_submodule(layer), kind)
                put(parameter, name, third.T if kind == "weight" else third)


def load_gpt2(folder: Path | str) -> GPT:
    """Read a published GPT-2: ``config.json`` and ``model.safetensors`` in a folder.

    Raises:
        ValueError: a file is missing, is not GPT-2's, or does not fit.

    """
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"There is no {name} in {folder}: give a folder that holds GPT-2.")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if found.get("model_type") != "gpt2":
        raise ValueError(f"{folder} holds a model of type {found.get('model_type')}, not gpt2.")
    config = GPTConfig(
        n_words=found["vocab_size"],
        max_len=found["n_positions"],
        d_model=found["n_embd"],
        n_heads=found["n_head"],
        n_layers=found["n_layer"],
    )
    model = GPT(config)
    copy_gpt2(model, load_file(folder / "model.safetensors"))
    return model.eval()


# --- our own files -------------------------------------------------------------------------------


def save_gpt(model: GPT, path: Path | str, dtype: torch.dtype = torch.float16, **told: str) -> None:
    """Write a model to a safetensors file, in half precision if not told otherwise.

    Args:
        model: a model that was made from its configuration alone.
        path: the file.
        dtype: of the numbers on disk.
        told: what else the file shall say about the model.

    """
    from safetensors.torch import save_file

    tensors = {name: each.to(dtype).contiguous() for name, each in model.state_dict().items()}
    save_file(tensors, path, {"config": json.dumps(asdict(model.config)), **told})


def load_gpt(path: Path | str) -> GPT:
    """Read a model that `save_gpt` wrote; it computes in float32.

    Raises:
        ValueError: the file does not say how large the model is.

    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
        if "config" not in about:
            raise ValueError(f"{path} was not written by save_gpt: it names no configuration.")
        model = GPT(GPTConfig(**json.loads(about["config"])))
        model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    return model.eval()
