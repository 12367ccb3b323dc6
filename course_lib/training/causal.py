"""The Riverbank decoder's recipe: lesson 13's GPT on the town's text, cut by lesson 12's tokenizer."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from statistics import stdev
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data.riverbank import Fact, Town
from course_lib.models.agreement import agreement_questions
from course_lib.models.block import initialise
from course_lib.models.gpt import GPT, GPTConfig, load_gpt, next_token_loss, save_gpt
from course_lib.models.knowledge import (
    accepted,
    accuracy,
    agreement_accuracy,
    bits_per_character,
    blanks,
    chance,
    document_log_probs,
    mentions,
    recall,
    write_documents,
)
from course_lib.models.positions import apply_rope, frequencies
from course_lib.models.shipped import END_OF_TEXT, PAD, SPECIAL
from course_lib.models.tokenization import Tokenizer
from course_lib.training.pretraining import Recipe

TEST_SEED, TESTED = (
    12345,
    300,
)  # the documents on which the Kneser-Ney models of docs/riverbank.md are measured
WRITTEN = 200  # how many documents the model writes for the grammar to judge


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(Recipe):
    """A GPT that goes on with the town's documents.

    Attributes:
        n_words: the most tokens of the vocabulary.
        tokenizer_documents: how many documents the tokenizer is learnt from.
        documents: how many documents are packed into rows together, each whole and never seen again.
        parts: into how many batches these rows are dealt out.
        length: the tokens in a row, which holds as many documents as fit.
        d_model, n_heads, n_layers: sizes of the model.

    """

    name: str = "decoder"
    steps: int = 5000
    warmup: float = 0.032
    cooldown: float = 0.35
    n_words: int = 2048
    tokenizer_documents: int = 4000
    documents: int = 48
    parts: int = 3
    length: int = 256
    d_model: int = 128
    n_heads: int = 4
    n_layers: int = 4

    @cached_property
    def town(self) -> Town:
        """The town."""
        return Town()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, learnt from documents of its own."""
        return _tokenizer(self.n_words, self.tokenizer_documents, self.draw(-1))

    @cached_property
    def _words(self) -> dict[str, list[int]]:
        return {}

    def ids_of(self, words: Iterable[str]) -> list[int]:
        """Return the tokens of a document; each word has a space before it, the first one too."""
        known, ids = self._words, []
        for word in words:
            if word not in known:
                known[word] = self.tokenizer.encode(" " + word)
            ids += known[word]
        return ids

    def model(self) -> GPT:
        """Return a new GPT whose weights are as large for its width as GPT-2's; see `quick_gpt`."""
        config = GPTConfig(
            self.tokenizer.n_words,
            self.length,
            self.d_model,
            self.n_heads,
            self.n_layers,
            rotary=True,
        )
        model = quick_gpt(config)
        initialise(model, n_blocks=self.n_layers, std=0.02 * (768 / self.d_model) ** 0.5)
        return model

    def batch(self, number: int) -> tuple[Int[Tensor, "rows n"], Int[Tensor, "rows n"]]:
        """Return tokens and those that follow them; −100 where nothing follows."""
        end, pad = (self.tokenizer.special[each] for each in (END_OF_TEXT, PAD))
        rows = _rows(self, number // self.parts)[number % self.parts :: self.parts]
        ids = torch.full((len(rows), self.length + 1), pad)  # (B, n + 1)
        for row, texts in zip(ids, rows):
            tokens = [end, *(token for text in texts for token in text)]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids[:, :-1], ids[:, 1:].masked_fill(ids[:, 1:] == pad, -100)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the tokens that follow."""
        ids, following = batch
        return next_token_loss(model(ids), following)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write decoder.safetensors and tokenizer.json."""
        assert isinstance(model, GPT)
        save_gpt(model, folder / f"{self.name}.safetensors")
        self.tokenizer.save(folder / "tokenizer.json")

    def load(self, folder: Path) -> GPT:
        """Read decoder.safetensors."""
        return load_gpt(folder / f"{self.name}.safetensors")

    def measure(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """Return what the decoder knows of the town, beside the truth."""
        assert isinstance(model, GPT)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        seen = self.documents * self.steps // self.parts
        written = accepted(self.town, write_documents(model, tokenizer, WRITTEN))
        questions = agreement_questions(self.town, n_documents=4000, seed=TEST_SEED, most=100)
        return {
            "documents read": seen,
            **text_measures(model, tokenizer, self.town),
            "facts": fact_measures(model, tokenizer, self.town, seen),
            "agreement": {
                distance: {"questions": len(questions[distance]), "right": round(share, 3)}
                for distance, share in agreement_accuracy(model, tokenizer, questions).items()
            },
            "written": {name: round(value, 3) for name, value in asdict(written).items()},
        }


def text_measures(model: GPT, tokenizer: Tokenizer, town: Town) -> dict[str, Any]:
    """Return bits per character on documents that were never trained on, beside the exact ones."""
    documents = town.documents(TESTED, seed=TEST_SEED)
    ours = document_log_probs(model, tokenizer, documents)
    exact = [town.log_prob(each) for each in documents]
    lost = [b - a for a, b in zip(ours, exact)]  # nats, on average not below 0
    spread = stdev(lost) / math.log(2) * TESTED**0.5 / sum(len(d.text) + 1 for d in documents)
    return {
        "bits per character": round(bits_per_character(ours, documents), 4),
        "of the first 20": round(bits_per_character(ours[:20], documents[:20]), 4),
        "exact bits per character": round(bits_per_character(exact, documents), 4),
        "standard error of the difference": round(spread, 4),
        "on documents": TESTED,
    }


def fact_measures(model: GPT, tokenizer: Tokenizer, town: Town, seen: int) -> dict[str, Any]:
    """Return how many facts the model completes rightly: those it read, by how often, and the others.

    Args:
        model: the decoder.
        tokenizer: its tokenizer.
        town: whose facts they are.
        seen: how many documents the model read.

    """
    often = mentions(town)
    said = sorted((each for each in town.facts if not each.held_out), key=lambda each: often[each])
    bands = [said[i * len(said) // 4 : (i + 1) * len(said) // 4] for i in range(4)]

    def of(facts: list[Fact]) -> dict[str, Any]:
        asked = blanks(town, facts)
        found = recall(model, tokenizer, asked)
        return {
            "facts": len(facts),
            "right": round(accuracy(found), 3),
            "chance": round(chance(asked), 3),
        }

    measured: dict[str, Any] = {"said": of(said)}
    for name, band in zip(("rarest", "rare", "frequent", "most frequent"), bands):
        ends = [round(seen * often[each]) for each in (band[0], band[-1])]
        measured[f"said, the {name} quarter"] = {"mentions": ends, **of(band)}
    measured["held out"] = of(town.held_out_facts)
    measured["unknown"] = of(town.unknown_facts)
    return measured


@lru_cache(maxsize=4)
def _tokenizer(n_words: int, n_documents: int, seed: int) -> Tokenizer:
    documents = Town().documents(n_documents, seed)
    return Tokenizer.train((" " + each.text for each in documents), n_words, SPECIAL)


@lru_cache(maxsize=2)
def _rows(recipe: DecoderRecipe, number: int) -> list[list[list[int]]]:
    end = recipe.tokenizer.special[END_OF_TEXT]
    source = recipe.town.iter_documents(recipe.draw(number))
    texts = [[*recipe.ids_of(each.tokens), end] for each in islice(source, recipe.documents)]
    return packed(texts, recipe.length)


def packed(texts: list[list[int]], room: int) -> list[list[list[int]]]:
    """Put texts into rows of at most ``room`` tokens: the longest first, each into the first row it fits.

    A text that is longer than a row is cut, and its parts are treated as texts.
    """
    parts = [text[i : i + room] for text in texts for i in range(0, len(text), room)]
    rows: list[list[list[int]]] = []
    free: list[int] = []
    for part in sorted(parts, key=len, reverse=True):
        for i, left in enumerate(free):
            if len(part) <= left:
                rows[i].append(part)
                free[i] -= len(part)
                break
        else:
            rows.append([part])
            free.append(room - len(part))
    return rows


def quick_gpt(config: GPTConfig) -> GPT:
    """Return a GPT whose norms, GELU and turns are PyTorch's fused operations.

    It computes what ``GPT(config)`` computes up to rounding, and their weights fit each other; a step takes
    about two thirds of the time on a CPU.
    """
    model = GPT(config, norm=nn.LayerNorm, rotate=quick_rope)
    blocks: Any = model.blocks
    for block in blocks:
        block.feed_forward.bend = quick_gelu
    return model


def quick_gelu(x: Tensor) -> Tensor:
    """`gelu_tanh` in one operation."""
    return F.gelu(x, approximate="tanh")


def quick_rope(x: Float[Tensor, "... n d"], start: int = 0) -> Float[Tensor, "... n d"]:
    """`apply_rope` by complex numbers: a pair is a number, a turn is a product."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return apply_rope(x, start)
    n, d = x.shape[-2:]
    turns = _turns(start, n, d)  # (n, d/2)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))  # (..., n, d/2)
    return torch.view_as_real(pairs * turns).flatten(-2)  # (..., n, d)


@lru_cache(maxsize=64)
def _turns(start: int, n: int, d: int) -> Tensor:
    positions = torch.arange(start, start + n)  # (n,)
    angles = positions[:, None] * frequencies(d, 10_000.0, torch.float32, "cpu")  # (n, d/2)
    return torch.polar(torch.ones_like(angles), angles)
