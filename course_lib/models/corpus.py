"""What the training of word vectors starts from and gives: a text as word numbers, a recipe, the vectors."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.runtime import CourseError


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents as one long row of word numbers.

    Attributes:
        words: the vocabulary, most frequent first; word number i is ``words[i]``.
        index: the number of each word.
        counts: how often each word occurs, (n_words,).
        ids: the word number of each token, all documents one after the other, (n_tokens,).
        document: the number of each token's document, (n_tokens,); windows stay inside a document.

    """

    words: tuple[str, ...]
    index: dict[str, int]
    counts: Int[Tensor, "n_words"]
    ids: Int[Tensor, "n_tokens"]
    document: Int[Tensor, "n_tokens"]

    @classmethod
    def from_documents(cls, documents: Iterable[Sequence[str]], min_count: int = 1) -> "Corpus":
        """Number the words of ``documents``; words seen fewer than ``min_count`` times are left out.

        Raises:
            CourseError: no word is left.

        """
        documents = list(documents)
        seen = Counter(token for tokens in documents for token in tokens)
        words = tuple(word for word, count in seen.most_common() if count >= min_count)
        if not words:
            raise CourseError(
                f"No word occurs {min_count} times or more: give more text or a smaller min_count."
            )
        index = {word: number for number, word in enumerate(words)}
        numbered = [[index[token] for token in tokens if token in index] for tokens in documents]
        lengths = torch.tensor([len(each) for each in numbered])
        return cls(
            words,
            index,
            torch.tensor([seen[word] for word in words]),
            torch.tensor([number for each in numbered for number in each]),
            torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        )

    def shuffled(self, generator: torch.Generator) -> "Corpus":
        """Return the same tokens in random order: every count stays, every context is destroyed."""
        order = torch.randperm(len(self.ids), generator=generator)
        return Corpus(self.words, self.index, self.counts, self.ids[order], self.document)


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gives.

    Attributes:
        vectors: one for each word, (n_words, d): "the word vectors".
        contexts: each word's vector in its other role, (n_words, d).
        losses: the mean loss of a pair at each step, (n_steps,).
        n_pairs: how many pairs were learned from, over all epochs.

    """

    vectors: Float[Tensor, "n_words d"]
    contexts: Float[Tensor, "n_words d"]
    losses: Float[Tensor, "n_steps"]
    n_pairs: int


@dataclass(frozen=True)
class Recipe:
    """How skip-gram is trained.

    Attributes:
        d: the width of the vectors.
        epochs: how often the text is read.
        window: the largest distance of a context word.
        k: how many noise words each pair is set against.
        sample: words more frequent than this share of the text are thinned.
        batch: pairs in one step; a frequent word's steps add up, so it must stay small.
        learning_rate: the rate at the start; it falls in a straight line to 0.

    """

    d: int = 64
    epochs: int = 6
    window: int = 5
    k: int = 5
    sample: float = 1e-3
    batch: int = 1536
    learning_rate: float = 0.05


@dataclass(frozen=True, eq=False)
class TrainedSubwords(Trained):
    """A training of piece vectors; ``vectors`` holds the mean of each word's pieces.

    Attributes:
        table: the vector of each piece.

    """

    table: dict[str, Float[Tensor, "d"]]


def initial_vectors(
    n_rows: int, d: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Float[Tensor, "n_rows d"]:
    """Return small random vectors, uniform in ±1/(2d)."""
    return ((torch.rand(n_rows, d, generator=generator) - 0.5) / d).to(device)
