"""An encoder that learns by filling blanks: BERT's input, architecture, loss, sizes and weights (lesson 14)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.attention import padding_mask
from course_lib.models.block import Dropout, PostNorm, TransformerBlock, initialise
from course_lib.models.positions import LearnedPositions

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # the first words of every vocabulary
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL))
NOT_ASKED = -100  # the label of a place that does not count: PyTorch's own convention


class Words:
    """A vocabulary of whole words, the special ones first.

    Args:
        words: the others, in the order of their numbers.

    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = [*SPECIAL, *words]
        self.number_of = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        """Return how many there are, special ones included."""
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the numbers of words; that of [UNK] for one that is not known."""
        return [self.number_of.get(word, UNK) for word in words]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the words of numbers."""
        return [self.words[int(i)] for i in numbers]


def pack(
    firsts: Sequence[Sequence[int]],
    seconds: Sequence[Sequence[int]] | None = None,
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, "batch n"], Int[Tensor, "batch n"], Int[Tensor, "batch"]]:
    """Put texts, or pairs of texts, into a batch: [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    Devlin et al. 2019, section 3 and figure 2.

    Args:
        firsts: the numbers of each text's words.
        seconds: those of the text that goes with it.
        device: where the batch is made.

    Returns:
        The numbers, filled up with [PAD]; the segments, 0 up to the first [SEP] and 1 behind it; and how
        many places of each row are no filling.

    """
    rows = [[CLS, *first, SEP] for first in firsts]
    segments = [[0] * len(row) for row in rows]
    for row, segment, second in zip(rows, segments, seconds or ()):
        row += [*second, SEP]
        segment += [1] * (len(second) + 1)
    longest = max(map(len, rows))
    ids = [row + [PAD] * (longest - len(row)) for row in rows]
    sides = [segment + [0] * (longest - len(segment)) for segment in segments]
    made = (torch.tensor(each, device=device) for each in (ids, sides, [len(row) for row in rows]))
    return tuple(made)  # type: ignore[return-value]


def mask_tokens(
    ids: Int[Tensor, "batch n"],
    order: Float[Tensor, "batch n"],
    others: Int[Tensor, "batch n"],
    share: float = 0.15,
) -> tuple[Int[Tensor, "batch n"], Int[Tensor, "batch n"]]:
    """Hide some words of a batch: [MASK] in place of 80 % of them, another word of 10 %, 10 % as they are.

    Devlin et al. 2019, section 3.1 and appendix A.1. There each place is drawn by itself; here the shares
    are exact up to rounding.

    Args:
        ids: the numbers of the words; special ones (below ``len(SPECIAL)``) are never chosen.
        order: a random number for each place. The places with the smallest are chosen: first those that
            become [MASK], then those that get another word, then those that stay.
        others: a word for each place, to stand there if another word is needed.
        share: of the words that can be chosen; at least one is, if there is any.

    Returns:
        What the model reads, and the labels: the right word at chosen places, NOT_ASKED at all others.

    """
    ### BEGIN SOLUTION
    can_be = (ids >= len(SPECIAL)).flatten()  # (B·n,)
    n_words = int(can_be.sum())
    chosen = min(n_words, max(1, round(share * n_words)))
    places = order.flatten().masked_fill(~can_be, torch.inf).argsort()[:chosen]  # (chosen,)
    masked, changed = round(0.8 * chosen), round(0.9 * chosen)
    read, labels = ids.flatten().clone(), torch.full_like(ids, NOT_ASKED).flatten()  # (B·n,)
    labels[places] = read[places]
    read[places[:masked]] = MASK
    read[places[masked:changed]] = others.flatten()[places[masked:changed]]
    return read.view(ids.shape), labels.view(ids.shape)  # (B, n), (B, n)
    ### END SOLUTION


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a `BertEncoder`; those not given are BERT-base's (Devlin et al. 2019, section 3).

    Attributes:
        n_words: the number of words, special ones included.
        max_len: the most places that the model reads.
        d_model: the width of the stream.
        n_heads: the number of heads of each attention.
        n_layers: the number of blocks.
        dropout: the share that is dropped in training, of each sublayer's output and of the first vectors.

    """

    n_words: int = 30_522
    max_len: int = 512
    d_model: int = 768
    n_heads: int = 12
    n_layers: int = 12
    dropout: float = 0.0

    def but(self, **changes: Any) -> "BertConfig":
        """Return a configuration that differs in ``changes``."""
        return replace(self, **changes)


BERT_CONFIGS = {
    "tiny": BertConfig(d_model=128, n_heads=2, n_layers=2),
    "small": BertConfig(d_model=512, n_heads=8, n_layers=4),
    "base": BertConfig(),
    "large": BertConfig(d_model=1024, n_heads=16, n_layers=24),
}  # Devlin et al. 2019; the small ones: Turc et al. 2019, "Well-Read Students Learn Better"


def fused_attention(
    q: Float[Tensor, "... n_q d_k"],
    k: Float[Tensor, "... n_k d_k"],
    v: Float[Tensor, "... n_k d_v"],
    mask: Bool[Tensor, "... n_q n_k"] | None = None,
) -> tuple[Float[Tensor, "... n_q d_v"], None]:
    """Lesson 07's attention by PyTorch's fused kernel, which never writes the weights down.

    Returns:
        The outputs, and None for the weights.

    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None


class BertEncoder(nn.Module):
    """Words, positions and segments, a norm, blocks with post-norm in which everyone hears everyone.

    Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", section 3; Vaswani et al.
    2017 (the encoder). The norms add 1e-12 to the variance, the activation is the exact GELU.

    Args:
        config: the sizes.
        attend: what the heads do, as in `MultiHeadAttention`; the fused kernel if not given. Give lesson
            07's `attention` to look at the weights.
        block: what else `TransformerBlock` takes.

    """

    def __init__(
        self,
        config: BertConfig,
        *,
        attend: Callable[..., tuple[Tensor, Any]] = fused_attention,
        **block: Any,
    ) -> None:
        super().__init__()
        self.config = config
        norm = partial(nn.LayerNorm, eps=1e-12)
        block = {
            "residual": PostNorm, "norm": norm, "activation": "gelu", "dropout": config.dropout, **block,
        }  # fmt: skip
        d_model = config.d_model
        self.words = nn.Embedding(config.n_words, d_model)
        self.positions = LearnedPositions(config.max_len, d_model)
        self.segments = nn.Embedding(2, d_model)
        self.norm = block["norm"](d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, config.n_heads, 4 * d_model, attend=attend, **block)
            for _ in range(config.n_layers)
        )
        if block["activation"] == "gelu":
            blocks: Any = self.blocks
            for each in blocks:
                each.feed_forward.bend = F.gelu  # lesson 10's gelu, in one operation
        self.pool = nn.Linear(d_model, d_model)
        initialise(self, std=0.02)

    def forward(
        self,
        ids: Int[Tensor, "batch n"],
        segments: Int[Tensor, "batch n"] | None = None,
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch n d_model"], Float[Tensor, "batch d_model"]]:
        """Return a vector for each place, and one for the whole text.

        Args:
            ids: the numbers of the words; the first of each row is [CLS].
            segments: 0 where a place belongs to the first text, 1 for the second; all 0 if not given.
            lengths: how many places of each row are no filling; all of them if not given.

        Returns:
            The vectors behind the last block, and tanh(pool(the vector at [CLS])). Filling is not heard;
            its own vectors mean nothing.

        Raises:
            ValueError: there are more places than the model reads.

        """
        ### BEGIN SOLUTION
        if segments is None:
            segments = torch.zeros_like(ids)  # (B, n)
        x = self.positions(self.words(ids) + self.segments(segments))  # (B, n, d)
        x = self.dropout(self.norm(x))  # (B, n, d)
        mask = None if lengths is None else padding_mask(lengths, ids.shape[1])  # (B, 1, n)
        for block in self.blocks:
            x = block(x, mask)  # (B, n, d)
        return x, torch.tanh(self.pool(x[:, 0]))  # (B, n, d), (B, d)
        ### END SOLUTION


def count_bert(config: BertConfig) -> int:
    """Return how many parameters a `BertEncoder` of these sizes has, without making one."""
    with torch.device("meta"):
        return sum(each.numel() for each in BertEncoder(config).parameters())


class WordHead(nn.Module):
    """Say which word stands at a place: one more layer, then the products with the table of words.

    Devlin et al. 2019 and its published code: the table is that of the encoder (Press & Wolf 2017), with a
    bias for each word.

    Args:
        words: the encoder's table.

    """

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        n_words, d_model = words.weight.shape
        self.turn = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(n_words))
        self.table = [words]  # in a list, so that it is not counted as a part of the head too
        initialise(self, std=0.02)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... words"]:
        """Return the logits of all words for each vector."""
        return self.norm(F.gelu(self.turn(x))) @ self.table[0].weight.T + self.bias  # (..., words)


class MaskedModel(nn.Module):
    """An encoder with its two heads for pretraining: the word at a place, and whether two texts belong together.

    Devlin et al. 2019, section 3.1.

    Args:
        encoder: what reads.

    """

    def __init__(self, encoder: BertEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.word = WordHead(encoder.words)
        self.follows = nn.Linear(
            encoder.config.d_model, 2
        )  # 0: the second text follows; 1: it does not
        initialise(self.follows, std=0.02)

    def forward(
        self,
        ids: Int[Tensor, "batch n"],
        segments: Int[Tensor, "batch n"] | None = None,
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch n words"]:
        """Return the logits of the word at each place."""
        return self.word(self.encoder(ids, segments, lengths)[0])


def mlm_loss(
    vectors: Float[Tensor, "batch n d_model"],
    labels: Int[Tensor, "batch n"],
    head: Callable[[Float[Tensor, "asked d_model"]], Float[Tensor, "asked words"]],
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the words at chosen places, in nats.

    Devlin et al. 2019, section 3.1: only the chosen places count, those whose word stayed among them.

    Args:
        vectors: the encoder's.
        labels: the right word at chosen places, NOT_ASKED at all others.
        head: makes logits from vectors; it is called once, with the chosen vectors alone.

    Returns:
        The loss, in float32 at least; 0, from which gradients of 0 flow, if no place is chosen.

    """
    ### BEGIN SOLUTION
    asked = labels != NOT_ASKED  # (B, n)
    logits = head(vectors[asked])  # (asked, words)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (asked, words)
    total = F.cross_entropy(logits, labels[asked], reduction="sum")  # ()
    return total / asked.sum().clamp(min=1)  # ()
    ### END SOLUTION


def classify(
    encoder: Callable[..., tuple[Tensor, Tensor]],
    head: Callable[[Float[Tensor, "batch d_model"]], Float[Tensor, "batch classes"]],
    ids: Int[Tensor, "batch n"],
    segments: Int[Tensor, "batch n"],
    lengths: Int[Tensor, "batch"],
    places: Int[Tensor, "batch"] | None = None,
) -> Float[Tensor, "batch classes"]:
    """Return the logits of classes, of each text or of one word in it.

    Devlin et al. 2019, section 3.2: the pooled vector stands for a text, a place's own vector for a word.

    Args:
        encoder: gives vectors and a pooled one for ``(ids, segments, lengths)``.
        head: makes logits from one vector for each row.
        ids: a batch as `pack` makes it.
        segments: likewise.
        lengths: likewise.
        places: where in each row the word stands that is asked about; None asks about the whole text.

    """
    ### BEGIN SOLUTION
    vectors, pooled = encoder(ids, segments, lengths)  # (B, n, d), (B, d)
    if places is None:
        return head(pooled)  # (B, classes)
    rows = torch.arange(len(ids), device=ids.device)  # (B,)
    return head(vectors[rows, places])  # (B, classes)
    ### END SOLUTION


# --- published weights ---------------------------------------------------------------------------

_PARTS = {  # a block's parts: ours, and BERT's
    "attention.to_q": "attention.self.query",
    "attention.to_k": "attention.self.key",
    "attention.to_v": "attention.self.value",
    "attention.to_out": "attention.output.dense",
    "communicate.norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "compute.norm": "output.LayerNorm",
}
_TABLES = {"words": "word", "segments": "token_type"}


@torch.no_grad()
def copy_bert(ours: BertEncoder, weights: Mapping[str, Tensor]) -> None:
    """Give our encoder BERT's weights, as they are named in the published files.

    Args:
        ours: an encoder of the same sizes.
        weights: the tensors by name, with or without the prefix ``bert.``.

    Raises:
        ValueError: a tensor is missing or has another shape.

    """
    named = {name.removeprefix("bert."): each for name, each in weights.items()}
    # Files converted from TensorFlow say gamma and beta.
    named = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        ): each
        for name, each in named.items()
    }
    for name, parameter in ours.named_parameters():
        theirs = _their_name(name)
        if theirs not in named:
            raise ValueError(f"The weights of BERT lack {theirs}.")
        value = named[theirs]
        if value.shape != parameter.shape:
            sizes = f"{tuple(value.shape)}, and the model has {tuple(parameter.shape)}"
            raise ValueError(f"{theirs} has the shape {sizes}.")
        parameter.copy_(value)


def _their_name(name: str) -> str:
    """Return what the published files call one of our parameters."""
    part, _, kind = name.rpartition(".")
    if part in _TABLES:
        return f"embeddings.{_TABLES[part]}_embeddings.weight"
    if part == "positions":
        return "embeddings.position_embeddings.weight"
    if part == "norm":
        return f"embeddings.LayerNorm.{kind}"
    if part == "pool":
        return f"pooler.dense.{kind}"
    _, number, inside = part.split(".", 2)
    return f"encoder.layer.{number}.{_PARTS[inside]}.{kind}"


def load_bert(folder: Path | str) -> BertEncoder:
    """Read a published BERT: ``config.json`` and ``model.safetensors`` in a folder.

    Raises:
        ValueError: a file is missing, is not BERT's, or does not fit.

    """
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"There is no {name} in {folder}: give a folder that holds BERT.")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if found.get("model_type") != "bert":
        raise ValueError(f"{folder} holds a model of type {found.get('model_type')}, not bert.")
    if found["intermediate_size"] != 4 * found["hidden_size"] or found["hidden_act"] != "gelu":
        raise ValueError(
            f"{folder} holds a BERT whose networks are not four times as wide, or bend otherwise."
        )
    config = BertConfig(
        n_words=found["vocab_size"],
        max_len=found["max_position_embeddings"],
        d_model=found["hidden_size"],
        n_heads=found["num_attention_heads"],
        n_layers=found["num_hidden_layers"],
    )
    model = BertEncoder(config)
    copy_bert(model, load_file(folder / "model.safetensors"))
    return model.eval()


# --- our own files -------------------------------------------------------------------------------


def save_masked(
    model: MaskedModel, words: Words, path: Path | str, dtype: torch.dtype = torch.float16
) -> None:
    """Write an encoder with its heads and its vocabulary to a safetensors file, in half precision.

    Args:
        model: an encoder with its heads.
        words: its vocabulary.
        path: the file.
        dtype: of the numbers on disk.

    """
    from safetensors.torch import save_file

    tensors = {name: each.to(dtype).contiguous() for name, each in model.state_dict().items()}
    about = {"config": json.dumps(asdict(model.encoder.config)), "words": json.dumps(words.words)}
    save_file(tensors, path, about)


def load_masked(path: Path | str) -> tuple[MaskedModel, Words]:
    """Read a model and its vocabulary that `save_masked` wrote; it computes in float32.

    Raises:
        ValueError: the file does not say how large the model is, or which words it knows.

    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
        if not {"config", "words"} <= about.keys():
            raise ValueError(f"{path} was not written by save_masked: it names no configuration.")
        model = MaskedModel(BertEncoder(BertConfig(**json.loads(about["config"]))))
        model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    return model.eval(), Words(json.loads(about["words"])[len(SPECIAL) :])
