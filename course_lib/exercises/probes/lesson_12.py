"""How lesson 12's exercises are called."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Of the looks at letters that a text needs per letter, how many are still called few.
MOST_LOOKS = 85


class _Watched(int):
    """A letter that counts how often any letter is hashed or compared."""

    looks = 0

    def __hash__(self) -> int:
        _Watched.looks += 1
        return int.__hash__(self)

    def __eq__(self, other: object) -> bool:
        _Watched.looks += 1
        return int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        _Watched.looks += 1
        return int.__ne__(self, other)


def train_bpe(
    function: Callable[..., Any],
    words: Mapping[str, int],
    n_merges: int,
    min_count: int | None,
    watched: bool,
) -> dict[str, Any]:
    """Call ``train_bpe(words, n_merges[, min_count])``, the words as tuples of their bytes.

    Where ``watched`` is set, the letters count how often they are looked at.
    """
    letter = _Watched if watched else int
    given = {tuple(letter(byte) for byte in word.encode()): n for word, n in words.items()}
    before = [(tuple(map(int, word)), n) for word, n in given.items()]
    _Watched.looks = 0
    merges = (
        function(given, n_merges) if min_count is None else function(given, n_merges, min_count)
    )
    looks = _Watched.looks
    if [(tuple(map(int, word)), n) for word, n in given.items()] != before:
        raise RuntimeError("train_bpe changed `words`: work on lists of your own.")
    if not isinstance(merges, list) or not all(_is_pair(each) for each in merges):
        raise TypeError(
            "train_bpe should return a list of pairs of ids, such as [(116, 104), (256, 101)]."
        )
    found: dict[str, Any] = {"merges": [(int(left), int(right)) for left, right in merges]}
    if watched:
        size = sum(map(len, words))
        found["looks at letters"] = "few" if looks <= MOST_LOOKS * size else "too many"
    return found


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(x, int) for x in value)


def _ids(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise TypeError(f"{name} should return a list of ids.")
    return list(value)


def encode(
    encode_word: Callable[..., Any],
    function: Callable[..., Any],
    word: str,
    text: str,
    merges: Sequence[tuple[int, int]],
    cache: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Call ``encode_word(ids, merges)`` on one word's bytes, and ``encode(text, merges, cache)`` twice.

    Once more it is given half a surrogate pair, which has no UTF-8 bytes.
    """
    table = {tuple(pair): 256 + k for k, pair in enumerate(merges)}
    bytes_of_word = list(word.encode())
    alone = _ids("encode_word", encode_word(bytes_of_word, table))
    if bytes_of_word != list(word.encode()):
        raise RuntimeError("encode_word changed the list that it was given: work on a copy.")
    remembered = {known: list(ids) for known, ids in cache.items()}
    first = _ids("encode", function(text, table, remembered))
    again = _ids("encode", function(text, table, remembered))
    if not all(isinstance(known, str) for known in remembered):
        raise TypeError("The cache has words, as strings, for keys.")
    kept = {known: [int(i) for i in ids] for known, ids in remembered.items()}
    return {"ids of one word": alone, "ids of the text": first, "ids the second time": again,
            "cache": dict(sorted(kept.items())), "half a surrogate pair": _half_a_pair(function, table)}  # fmt: skip


def _half_a_pair(function: Callable[..., Any], table: Mapping[tuple[int, ...], int]) -> str:
    """Say what becomes of a text that has no bytes."""
    try:
        function("\ud83d", dict(table), {})
    except UnicodeEncodeError:
        return "refused"
    return "encoded"


def decode(
    function: Callable[..., Any], ids: Sequence[int], tokens: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Call ``decode(ids, tokens)``; say where it refuses the ids."""
    try:
        returned = function(list(ids), [bytes(token) for token in tokens])
    except UnicodeError:
        raise
    except ValueError:
        return {"text": None, "ids refused": True}
    if not isinstance(returned, str):
        raise TypeError(f"decode should return a string, not {type(returned).__name__}.")
    return {"text": returned, "ids refused": False}


def viterbi_segment(
    function: Callable[..., Any], word: str, scores: Mapping[str, float], unknown: float | None
) -> dict[str, Any]:
    """Call ``viterbi_segment(word, scores[, unknown])``."""
    given = (word, dict(scores)) if unknown is None else (word, dict(scores), unknown)
    pieces = function(*given)
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise TypeError("viterbi_segment should return a list of strings.")
    return {"pieces": list(pieces)}
