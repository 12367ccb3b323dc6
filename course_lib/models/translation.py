"""What every translator of the course shares: numbered words, batches, training, free decoding, accuracy.

Lesson 06 trains recurrent translators with it, lesson 11 a transformer; `Translating` says what they have
in common.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.runtime import CourseError, progress

PAD, START, END, UNKNOWN = 0, 1, 2, 3
_MARKS = ("<pad>", "<start>", "<end>", "<unknown>")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of one language and their numbers.

    Attributes:
        words: word number i is ``words[i]``; the first four are padding, start, end and unknown word.
        index: the number of each word.

    """

    words: tuple[str, ...]
    index: dict[str, int]

    @classmethod
    def of(
        cls, sentences: Iterable[Sequence[str]], most: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Number the words of ``sentences``, most frequent first.

        Args:
            sentences: lists of words.
            most: how many words are numbered at most; the others are unknown.
            min_count: how often a word must occur to be numbered.

        """
        counts = Counter(word for sentence in sentences for word in sentence)
        known = [word for word, count in counts.most_common(most) if count >= min_count]
        words = (*_MARKS, *known)
        return cls(words, {word: number for number, word in enumerate(words)})

    def __len__(self) -> int:
        return len(self.words)

    def numbers(self, sentence: Iterable[str]) -> list[int]:
        """Return the numbers of a sentence's words."""
        return [self.index.get(word, UNKNOWN) for word in sentence]

    def sentence(self, numbers: Iterable[int]) -> list[str]:
        """Return the words with these numbers."""
        return [self.words[number] for number in numbers]


@dataclass(frozen=True, eq=False)
class Batch:
    """Sentences side by side, the short ones filled up with `PAD` at the end.

    Attributes:
        source: the words to translate, each sentence closed by `END`.
        source_lengths: how many of them are real, `END` included.
        target_in: what the decoder is given: `START` and the words of the translation.
        target_out: what it must say: the words of the translation and `END`.

    """

    source: Int[Tensor, "batch n"]
    source_lengths: Int[Tensor, "batch"]
    target_in: Int[Tensor, "batch m"]
    target_out: Int[Tensor, "batch m"]

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on ``device``."""
        parts = (self.source, self.source_lengths, self.target_in, self.target_out)
        return Batch(*(part.to(device) for part in parts))


class TranslationSet:
    """Pairs of sentences as numbers, dealt out in batches of like length.

    Args:
        pairs: source and target sentence, as lists of words.
        source_vocabulary: numbers the source words.
        target_vocabulary: numbers the target words.

    Attributes:
        source: (N, n) all source sentences with `END`, padded.
        source_lengths: (N,) the number of real tokens, `END` included.
        target: (N, m + 1) all targets from `START` to `END`, padded.
        target_lengths: (N,) the number of tokens that have to be said: the words and `END`.

    Raises:
        CourseError: there is no pair.

    """

    def __init__(
        self,
        pairs: Iterable[tuple[Sequence[str], Sequence[str]]],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
    ) -> None:
        sources, targets = [], []
        for source, target in pairs:
            sources.append([*source_vocabulary.numbers(source), END])
            targets.append([START, *target_vocabulary.numbers(target), END])
        if not sources:
            raise CourseError("A TranslationSet needs at least one pair of sentences.")
        self.source = pad(sources)
        self.source_lengths = torch.tensor([len(each) for each in sources])
        self.target = pad(targets)
        self.target_lengths = torch.tensor([len(each) - 1 for each in targets])

    def __len__(self) -> int:
        return len(self.source)

    def select(self, rows: Int[Tensor, "batch"] | Sequence[int]) -> Batch:
        """Return some sentences, cut to the longest of them."""
        rows = torch.as_tensor(rows)
        lengths = self.source_lengths[rows]  # (B,)
        source = self.source[rows, : int(lengths.max())]  # (B, n)
        target = self.target[rows, : int(self.target_lengths[rows].max()) + 1]  # (B, m + 1)
        return Batch(source, lengths, target[:, :-1], target[:, 1:])

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield batches for ever: each sentence once, in random order of batches, then all over again.

        Sentences of about the same length go together, so that little is computed for padding.
        """
        while True:
            lengths = self.source_lengths + 2 * torch.rand(len(self), generator=generator)  # (N,)
            groups = lengths.argsort().split(size)
            for group in torch.randperm(len(groups), generator=generator).tolist():
                yield self.select(groups[group])


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "rows longest"]:
    """Return lists of numbers as one tensor, filled up with `PAD` at the end."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD)


# --- training ------------------------------------------------------------------------------------


def translation_loss(
    logits: Float[Tensor, "batch m words"], target: Int[Tensor, "batch m"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy, in nats, over the real words of the target; padding does not count."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


def train_translator(
    model: nn.Module,
    data: TranslationSet,
    steps: int,
    generator: torch.Generator,
    *,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    loss: Callable[[Tensor, Tensor], Tensor] = translation_loss,
    desc: str = "training",
) -> list[float]:
    """Train by teacher forcing with Adam; the learning rate rises, then falls to 0.

    Args:
        model: a translator; it is trained where its parameters are.
        data: the pairs.
        steps: how many batches.
        generator: decides the order of the batches.
        batch_size: pairs in a batch.
        learning_rate: the highest rate.
        loss: takes logits (B, m, words) and targets (B, m).
        desc: the name of the progress bar.

    Returns:
        The loss of each step.

    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.2
    )
    losses = []
    model.train()
    for _, batch in zip(progress(range(steps), desc=desc), data.batches(batch_size, generator)):
        batch = batch.to(device)
        logits = model(batch.source, batch.source_lengths, batch.target_in)  # (B, m, words)
        value = loss(logits, batch.target_out)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # lesson 05: long sentences can explode
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    model.eval()
    return losses


# --- decoding ------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """What a decoder gives back.

    Attributes:
        logits: for each position, the scores of the next word, (B, m, words).
        state: what it must be given to go on from here; None for a decoder that keeps none.
        weights: how much each position attended to each source word, (B, m, n); None without attention.

    """

    logits: Tensor
    state: Any
    weights: Tensor | None


class Translating(Protocol):
    """What can be decoded: a module that reads with `encode` and writes with `decode`.

    Training also calls it: ``model(source, source_lengths, target)`` returns logits (B, m, words).
    """

    def encode(self, source: Tensor, source_lengths: Tensor) -> Any:
        """Return what is kept of padded source sentences (B, n)."""

    def decode(self, memory: Any, target: Tensor, state: Any = None) -> Decoded:
        """Return what is said after each of the words ``target`` (B, m); ``state`` is that of the last call."""


@torch.no_grad()
def greedy_decode(
    model: Translating,
    source: Int[Tensor, "batch n"],
    source_lengths: Int[Tensor, "batch"],
    max_length: int,
) -> list[list[int]]:
    """Translate freely: say the most probable word, hear it, say the next, until `END`.

    Args:
        model: a translator.
        source: sentences, padded.
        source_lengths: their real lengths.
        max_length: how many tokens are said at most.

    Returns:
        For each sentence the numbers of its words, without `START` and `END`.

    """
    memory = model.encode(source, source_lengths)
    said = torch.full_like(source[:, :1], START)  # (B, 1)
    ended = torch.zeros_like(said, dtype=torch.bool)  # (B, 1)
    words, state = [], None
    for _ in range(max_length):
        decoded = model.decode(memory, said, state)
        state = decoded.state
        said = decoded.logits[:, -1:].argmax(dim=-1)  # (B, 1)
        ended = ended | (said == END)
        words.append(said.masked_fill(ended, PAD))
        if bool(ended.all()):
            break
    rows = torch.cat(words, dim=1).tolist()
    return [[word for word in row if word != PAD] for row in rows]


# --- accuracy ------------------------------------------------------------------------------------


def edit_distance(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many words must be put in, taken out or replaced to turn one sentence into the other.

    Levenshtein 1966, by Wagner and Fischer's table (1974), a row at a time.
    """
    above = list(range(len(other) + 1))
    for i, word in enumerate(one, start=1):
        row = [i]
        for j, its in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != its)))
        above = row
    return above[-1]


def word_accuracy(
    hypotheses: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
) -> float:
    """Return 1 − (edits that turn hypotheses into references) / (words of the references).

    One minus the word error rate of speech recognition: 1 if all is right, 0 for silence, and below 0 for
    more wrong words than there are right ones.
    """
    edits = sum(edit_distance(each, right) for each, right in zip(hypotheses, references, strict=True))
    return 1 - edits / sum(len(right) for right in references)
