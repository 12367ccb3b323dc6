"""What byte-level tokenizers are made of: bytes, words, merges and the table of tokens (lesson 12)."""

from collections import Counter
from collections.abc import Iterable, Sequence

import regex

Pair = tuple[int, int]  # two neighbouring ids

# Radford et al. 2019; the expression is that of the published encoder.py. \p{L} is any letter of any
# script, \p{N} any number, and a word takes the one space before it along.
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split_words(text: str) -> list[str]:
    """Cut a text where no token may reach across, by GPT-2's rule; joined, the words are the text.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """
    return regex.findall(GPT2_SPLIT, text)


def count_words(texts: Iterable[str]) -> Counter[tuple[int, ...]]:
    """Return how often each word occurs, a word being the tuple of its bytes."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_words(text))
    return Counter({tuple(word.encode("utf-8")): count for word, count in counts.items()})


def printable_bytes() -> list[str]:
    """Return a character that can be seen for each byte, as GPT-2's files write them.

    A byte that is a visible character in Latin-1 stands for itself. The other 68, in order, are written as
    the characters from U+0100 on: the space becomes "Ġ", the line feed "Ċ".
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]


def merge_word(word: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Return the word with ``new`` in place of each occurrence of ``pair``, found from the left.

    Occurrences do not overlap: of three equal ids the first two are merged.
    """
    left, right = pair
    merged, i, last = [], 0, len(word) - 1
    while i <= last:
        if i < last and word[i] == left and word[i + 1] == right:
            merged.append(new)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def token_table(merges: Iterable[Pair]) -> list[bytes]:
    """Return the bytes of every token: the 256 bytes first, then a token for each merge."""
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return tokens
