"""How the course's small encoder is pretrained: documents of the town, masked words, the recipe (lesson 14)."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.data.riverbank import Document, Town
from course_lib.models.bert import (
    MASK,
    NOT_ASKED,
    SPECIAL,
    BertConfig,
    BertEncoder,
    MaskedModel,
    Words,
    load_masked,
    mask_tokens,
    mlm_loss,
    pack,
    save_masked,
)
from course_lib.models.blanks import exact_blank
from course_lib.models.block import initialise
from course_lib.training.pretraining import Recipe

TEST_SEED, TESTED, BLANKS = 12345, 300, 400  # documents that are tested on, and blanks in them
MaskedBatch = dict[str, Tensor]  # ids, segments, lengths, labels; and follows, for pairs


@cache
def town_words() -> Words:
    """Return the encoder's vocabulary: the special words, then every word of the town in its order."""
    return Words(Town().vocabulary)


def beginning(document: Document, room: int) -> list[list[str]]:
    """Return as many of a document's first sentences as there is room for; one that is too long is cut off."""
    kept: list[list[str]] = []
    for sentence in document.sentences:
        if sum(map(len, kept)) + len(sentence.tokens) > room:
            break
        kept.append(sentence.tokens)
    return kept or [document.sentences[0].tokens[:room]]


def document_pieces(
    documents: Sequence[Document], words: Words, room: int, rng: random.Random, pairs: bool = False
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Cut each document's beginning, as many whole sentences as there is room for, into two texts.

    Args:
        documents: at least two if ``pairs``.
        words: the vocabulary.
        room: for how many words there is room in both texts together.
        rng: where to cut, and which second texts to exchange.
        pairs: exchange every second text in two for that of another document (Devlin et al. 2019, task 2).

    Returns:
        The first texts, the second texts, and for each 0 if it follows and 1 if not.

    """
    cut: list[tuple[list[int], list[int]]] = []
    for document in documents:
        kept = [words.encode(sentence) for sentence in beginning(document, room)]
        at = rng.randrange(1, len(kept)) if len(kept) > 1 else 1
        halves = ([i for each in part for i in each] for part in (kept[:at], kept[at:]))
        cut.append(tuple(halves))  # type: ignore[arg-type]
    firsts, seconds = [first for first, _ in cut], [second for _, second in cut]
    follows = [0] * len(cut)
    if pairs:
        exchanged = [i for i in range(len(cut)) if rng.random() < 0.5]
        for i, other in zip(exchanged, [*exchanged[1:], *exchanged[:1]]):
            if i != other:
                firsts[i], follows[i] = firsts[i][: room - len(cut[other][1])], 1
                seconds[i] = cut[other][1]
    return firsts, seconds, follows


def masked_batch(
    ids: Tensor, segments: Tensor, lengths: Tensor, n_words: int, seed: int, share: float = 0.15
) -> MaskedBatch:
    """Return a batch with words hidden; ``seed`` says which, and what stands in their place."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(ids.shape, generator=generator)
    others = torch.randint(len(SPECIAL), n_words, ids.shape, generator=generator)
    read, labels = mask_tokens(ids, order, others, share)
    return {"ids": read, "segments": segments, "lengths": lengths, "labels": labels}


def masked_loss(model: MaskedModel, batch: MaskedBatch) -> Tensor:
    """Return the mean loss of the hidden words; with pairs, plus that of saying whether the second follows."""
    vectors, pooled = model.encoder(batch["ids"], batch["segments"], batch["lengths"])
    loss = mlm_loss(vectors, batch["labels"], model.word)
    if "follows" in batch:
        loss = loss + nn.functional.cross_entropy(model.follows(pooled).float(), batch["follows"])
    return loss


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """The course's small encoder: masked words of Riverbank, whole words as tokens.

    Three batches in four hold the beginnings of documents, as [CLS] some sentences [SEP] more [SEP]; the
    fourth holds single sentences. All text is fresh: no document is read twice.

    Attributes:
        d_model: the width.
        n_heads: the number of heads.
        n_layers: the number of blocks.
        max_len: the most places that the model reads.
        documents: how many a batch of beginnings holds.
        short: how many documents the sentences of the other batches come from.
        share: of the words that are hidden.
        next_sentence: exchange half of the second texts and learn to tell which, as BERT did.

    """

    name: str = "encoder"
    steps: int = 3200
    d_model: int = 120
    n_heads: int = 4
    n_layers: int = 3
    max_len: int = 64
    documents: int = 32
    short: int = 12
    share: float = 0.3
    next_sentence: bool = False

    def config(self) -> BertConfig:
        """Return the encoder's sizes."""
        return BertConfig(
            len(town_words()), self.max_len, self.d_model, self.n_heads, self.n_layers
        )

    def model(self) -> MaskedModel:
        """Return the untrained model, its weights as large for its width as BERT's."""
        model = MaskedModel(BertEncoder(self.config()))
        initialise(model, std=0.02 * math.sqrt(768 / self.d_model))
        return model

    def batch(self, number: int) -> MaskedBatch:
        """Return batch ``number``."""
        seed, words = self.draw(number), town_words()
        rng = random.Random(seed)
        if number % 4 == 3:
            documents = Town().documents(self.short, seed)
            texts = [words.encode(s.tokens) for each in documents for s in each.sentences]
            packed = pack([each[: self.max_len - 2] for each in texts])
            follows = None
        else:
            documents = Town().documents(self.documents, seed)
            firsts, seconds, said = document_pieces(
                documents, words, self.max_len - 3, rng, self.next_sentence
            )
            packed = pack(firsts, seconds)
            follows = torch.tensor(said) if self.next_sentence else None
        batch = masked_batch(*packed, len(words), seed, self.share)
        return batch if follows is None else {**batch, "follows": follows}

    def loss(self, model: nn.Module, batch: MaskedBatch) -> Tensor:
        """Return the mean loss of a batch."""
        return masked_loss(model, batch)  # type: ignore[arg-type]

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write encoder.safetensors: encoder, heads and vocabulary."""
        assert isinstance(model, MaskedModel)
        save_masked(model, town_words(), folder / f"{self.name}.safetensors")

    def load(self, folder: Path) -> MaskedModel:
        """Read encoder.safetensors."""
        return load_masked(folder / f"{self.name}.safetensors")[0]

    def measure(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """Return how well it fills blanks of documents that were never trained on, beside the truth."""
        assert isinstance(model, MaskedModel)
        town, words = Town(), town_words()
        documents = town.documents(TESTED, TEST_SEED)
        blanks = draw_blanks(documents, self.max_len - 3, BLANKS, TEST_SEED)
        exact = [exact_blank(town, each.words, each.place)[each.answer] for each in blanks]
        guessed = blank_log_probs(model, words, blanks)  # (blanks, words)
        right = torch.tensor(words.encode(each.answer for each in blanks))
        return {
            "nats a hidden word, many hidden at once": round(
                masked_test_loss(model, words, documents), 4
            ),
            "nats a blank, one at a time": round(
                -guessed[range(len(blanks)), right].mean().item(), 4
            ),
            "exact nats a blank": round(-sum(map(math.log, exact)) / len(exact), 4),
            "blanks filled rightly": round((guessed.argmax(1) == right).float().mean().item(), 3),
            "blanks": len(blanks),
            "documents": len(documents),
        }


@dataclass(frozen=True)
class Blank:
    """A word that is asked about, in the beginning of a document.

    Attributes:
        words: the sentences that are read, the word itself among them.
        place: where it stands among them.
        cut: how many of them belong to the first text of the pair; the others to the second.

    """

    words: tuple[str, ...]
    place: int
    cut: int

    @property
    def answer(self) -> str:
        """The word itself."""
        return self.words[self.place]


def draw_blanks(documents: Sequence[Document], room: int, n: int, seed: int) -> list[Blank]:
    """Draw n words of documents' beginnings, every place as probable as any other.

    Args:
        documents: where they come from.
        room: for how many words there is room.
        n: how many.
        seed: of the draw.

    """
    rng = random.Random(seed)
    begun = [beginning(each, room) for each in documents]
    places = [(i, j) for i, each in enumerate(begun) for j in range(sum(map(len, each)))]
    blanks = []
    for i, place in rng.sample(places, n):
        words = tuple(word for sentence in begun[i] for word in sentence)
        half = max(1, len(begun[i]) // 2)
        blanks.append(Blank(words, place, cut=sum(map(len, begun[i][:half]))))
    return blanks


@torch.no_grad()
def blank_log_probs(model: MaskedModel, words: Words, blanks: Sequence[Blank]) -> Tensor:
    """Return the log-probability that a model gives each word of its vocabulary in each blank, (blanks, words).

    Special words are left out: no text holds them.
    """
    rows = []
    device = next(model.parameters()).device
    for some in (blanks[i : i + 64] for i in range(0, len(blanks), 64)):
        numbers = [words.encode(each.words) for each in some]
        for row, each in zip(numbers, some):
            row[each.place] = MASK
        firsts = [row[: each.cut] for row, each in zip(numbers, some)]
        seconds = [row[each.cut :] for row, each in zip(numbers, some)]
        batch = pack(firsts, seconds, device)
        places = [
            each.place + 1 + (each.place >= each.cut) for each in some
        ]  # behind [CLS], and a [SEP]
        vectors = model.encoder(*batch)[0][torch.arange(len(some)), places]  # (b, d)
        logits = model.word(vectors)  # (b, words)
        logits[:, : len(SPECIAL)] = -torch.inf
        rows.append(logits.log_softmax(-1).cpu())
    return torch.cat(rows)


@torch.no_grad()
def masked_test_loss(
    model: MaskedModel, words: Words, documents: Sequence[Document], share: float = 0.15
) -> float:
    """Return the mean loss of hidden words, as in training: 80 % masked, 10 % changed, 10 % as they were."""
    rng, total, asked = random.Random(0), 0.0, 0
    room = model.encoder.config.max_len - 3
    for i in range(0, len(documents), 32):
        firsts, seconds, _ = document_pieces(documents[i : i + 32], words, room, rng)
        batch = masked_batch(*pack(firsts, seconds), len(words), seed=i, share=share)
        count = int((batch["labels"] != NOT_ASKED).sum())
        total, asked = total + count * masked_loss(model, batch).item(), asked + count
    return total / asked
