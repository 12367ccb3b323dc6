"""From text to numbers and back: byte-level BPE, WordPiece and Unigram (lesson 12)."""

import heapq
import json
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex

from course_lib.models.bytes_and_words import (
    GPT2_SPLIT,
    Pair,
    count_words,
    merge_word,
    printable_bytes,
    split_words,
    token_table,
)
from course_lib.runtime import CourseError

# --- Byte-pair encoding ----------------------------------------------------------------------


def train_bpe(
    words: Mapping[tuple[int, ...], int], n_merges: int, min_count: int = 2
) -> list[Pair]:
    """Learn byte-pair merges: again and again, make the most frequent pair of neighbours one token.

    Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with Subword Units",
    section 3.2, on bytes. Merge number k makes the token 256 + k.

    Args:
        words: how often each word occurs; a word is a tuple of ids below 256.
        n_merges: how many merges to learn at most.
        min_count: a pair that occurs less often is not merged; training ends where none is left.

    Returns:
        The pairs in the order in which they were merged. Of equally frequent pairs the smallest comes first.

    """
    ### BEGIN SOLUTION
    pieces = [list(word) for word in words]
    counts = list(words.values())
    total: defaultdict[Pair, int] = defaultdict(int)  # how often each pair occurs now
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # which words (may) hold it
    for i, (piece, count) in enumerate(zip(pieces, counts)):
        for pair in pairwise(piece):
            total[pair] += count
            holders[pair].add(i)
    queue = [(-count, pair) for pair, count in total.items()]  # most frequent first, then smallest
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < n_merges:
        count, pair = heapq.heappop(queue)
        if -count != total[pair]:  # it has become rarer since it was put there
            heapq.heappush(queue, (-total[pair], pair))
            continue
        if -count < min_count:
            break
        new = 256 + len(merges)
        merges.append(pair)
        created = set()
        for i in holders.pop(pair):
            before, after = pieces[i], merge_word(pieces[i], pair, new)
            pieces[i] = after
            for old in pairwise(before):
                total[old] -= counts[i]
            for now in pairwise(after):
                total[now] += counts[i]
                if new in now:
                    holders[now].add(i)
                    created.add(now)
        for now in created:
            heapq.heappush(queue, (-total[now], now))
    return merges
    ### END SOLUTION


def encode_word(word: Sequence[int], merges: Mapping[Pair, int]) -> list[int]:
    """Merge the ids of one word as far as the merges go, the one learned first before all others.

    Args:
        word: the ids of the word's bytes.
        merges: the token that each pair becomes; what was learned first has the smallest.

    Returns:
        The ids of the word's tokens. The time grows with the word's length times the number of different
        merges in it.

    """
    ### BEGIN SOLUTION
    ids = list(word)
    while len(ids) > 1:
        pair = min(pairwise(ids), key=lambda each: merges.get(each, math.inf))
        if pair not in merges:
            break
        ids = merge_word(ids, pair, merges[pair])
    return ids
    ### END SOLUTION


def encode(text: str, merges: Mapping[Pair, int], cache: dict[str, list[int]]) -> list[int]:
    """Turn a text into token ids: split it into words, and each word's bytes into tokens.

    Args:
        text: any string without lone surrogates.
        merges: the token that each pair becomes.
        cache: the ids of words that were met before; new words are added.

    Returns:
        The ids.

    Raises:
        UnicodeEncodeError: the text holds half of a surrogate pair, which has no UTF-8 bytes.

    """
    ### BEGIN SOLUTION
    ids: list[int] = []
    for word in split_words(text):
        known = cache.get(word)
        if known is None:
            known = cache[word] = encode_word(list(word.encode("utf-8")), merges)
        ids += known
    return ids
    ### END SOLUTION


def decode(ids: Iterable[int], tokens: Sequence[bytes]) -> str:
    """Turn token ids into text.

    Args:
        ids: the tokens' numbers.
        tokens: the bytes of every token.

    Returns:
        The text. Bytes that are no UTF-8, such as half a character, become U+FFFD, "�".

    Raises:
        ValueError: an id is negative or has no token.

    """
    ### BEGIN SOLUTION
    pieces = []
    for i in ids:
        if not 0 <= i < len(tokens):
            raise ValueError(f"{i} is no token: there are {len(tokens)}, from 0")
        pieces.append(tokens[i])
    return b"".join(pieces).decode("utf-8", errors="replace")
    ### END SOLUTION


class Tokenizer:
    """Byte-level BPE with special tokens: any text to ids and back, without unknown words.

    Ids: the 256 bytes, then a token for each merge, then the special tokens.

    Args:
        merges: the pairs in the order in which they were learned; byte b counts as b in them and merge k as
            256 + k, whatever ids the tokens have.
        special: tokens that stand for no text, such as "<|endoftext|>".
        byte_order: which byte has id 0, 1, 2 … 255; in the order of their values if not given.

    Raises:
        CourseError: a merge uses a token that does not exist yet, two merges or two special tokens are
            equal, or ``byte_order`` does not hold each byte once.

    """

    _MOST_REMEMBERED = 2**18  # words in the cache

    def __init__(
        self,
        merges: Sequence[Pair],
        special: Sequence[str] = (),
        byte_order: bytes = bytes(range(256)),
    ) -> None:
        if len(byte_order) != 256 or len(set(byte_order)) != 256:
            raise CourseError("The byte order of a tokenizer holds each of the 256 bytes once.")
        for k, pair in enumerate(merges):
            if not all(0 <= each < 256 + k for each in pair):
                raise CourseError(f"Merge {k}, {pair}, uses a token that does not exist yet.")
        if len(set(merges)) != len(merges):
            raise CourseError("A tokenizer's merges are all different, and these are not.")
        if len(set(special)) != len(special) or "" in special:
            raise CourseError("A tokenizer's special tokens are different, non-empty strings.")
        self.byte_order = byte_order
        self.merges = {pair: 256 + k for k, pair in enumerate(merges)}
        # What the merges number 0 … 255 is a byte's value: its id, and the way back.
        self._id_of = [byte_order.index(byte) for byte in range(256)]
        self._id_of += range(256, 256 + len(self.merges))
        table = token_table(merges)
        table[:256] = [table[byte] for byte in byte_order]
        self.special = {text: len(table) + k for k, text in enumerate(special)}
        self.tokens = table + [text.encode("utf-8") for text in special]
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        n_words: int,
        special: Sequence[str] = (),
        min_count: int = 2,
    ) -> "Tokenizer":
        """Learn a tokenizer of ``n_words`` tokens, or fewer if no pair is left that occurs ``min_count`` times.

        Raises:
            CourseError: ``n_words`` has no room for the 256 bytes and the special tokens.

        """
        n_merges = n_words - 256 - len(special)
        if n_merges < 0:
            raise CourseError(
                f"{n_words} tokens are too few: the bytes and special tokens are {256 + len(special)}."
            )
        words = count_words([texts] if isinstance(texts, str) else texts)
        return cls(train_bpe(words, n_merges, min_count), special)

    @classmethod
    def from_gpt2(cls, vocab_bpe_text: str, encoder_json_text: str) -> "Tokenizer":
        """Make a tokenizer from the two published files of GPT-2, or others of their form.

        Args:
            vocab_bpe_text: the content of vocab.bpe: a line with the version, then a merge in each line.
            encoder_json_text: the content of encoder.json: the id of every token.

        Raises:
            CourseError: the two do not belong together, or the ids are not those of bytes, merges and special
                tokens in this order.

        """
        lines = vocab_bpe_text.split("\n")
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        try:
            encoder = json.loads(encoder_json_text)
            symbols = sorted(encoder, key=encoder.__getitem__)
        except (ValueError, TypeError) as error:
            raise CourseError(f"encoder.json is no table from tokens to ids: {error}.") from error
        expected = symbols[:256] + ["".join(pair) for pair in pairs]
        if [encoder[each] for each in symbols] != list(range(len(symbols))) or (
            symbols[: len(expected)] != expected
        ):
            raise CourseError(
                "vocab.bpe and encoder.json do not belong together: ids are to count the bytes, then the "
                "merges in their order, then special tokens."
            )
        return cls._from_symbols(symbols[:256], pairs, symbols[len(expected) :])

    @classmethod
    def _from_symbols(
        cls, alphabet: Sequence[str], pairs: Iterable[Sequence[str]], special: Sequence[str]
    ) -> "Tokenizer":
        """Make a tokenizer of merges in printable characters; ``alphabet`` has them in the order of ids."""
        byte_of = {character: byte for byte, character in enumerate(printable_bytes())}
        if set(alphabet) != set(byte_of):
            raise CourseError("A tokenizer's first 256 tokens are the bytes, in printable form.")
        number: dict[str, int] = dict(byte_of)
        merges = []
        for k, pair in enumerate(pairs):
            if len(pair) != 2 or not all(each in number for each in pair):
                raise CourseError(
                    f"Merge {k}, {' '.join(pair)!r}, is not two tokens made before it."
                )
            merges.append((number[pair[0]], number[pair[1]]))
            number["".join(pair)] = 256 + k
        return cls(merges, special, bytes(byte_of[character] for character in alphabet))

    @property
    def n_words(self) -> int:
        """The number of tokens, special ones included."""
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Tokenizer(n_words={self.n_words}, special={list(self.special)})"

    def encode(self, text: str, special: Collection[str] = ()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any string without lone surrogates.
            special: the special tokens that are recognised in the text; "all" for every one. The others'
                names are ordinary text, so what a user types can never become a special token.

        Returns:
            The ids.

        Raises:
            CourseError: ``special`` names a token that this tokenizer has not.
            UnicodeEncodeError: the text holds half of a surrogate pair, which has no UTF-8 bytes.

        """
        if len(self._cache) > self._MOST_REMEMBERED:
            self._cache.clear()
        ids: list[int] = []
        for part in self._parts(text, self.special if special == "all" else special):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += encode(part, self.merges, self._cache)
        if self._id_of[:256] == list(range(256)):
            return ids
        last = len(self._id_of)
        return [self._id_of[i] if i < last else i for i in ids]

    def _parts(self, text: str, special: Collection[str]) -> Iterator[str | int]:
        """Yield the stretches of ordinary text and the ids of the special tokens between them."""
        allowed = {special} if isinstance(special, str) else set(special)
        if not allowed <= self.special.keys():
            unknown = ", ".join(sorted(allowed - self.special.keys()))
            raise CourseError(f"This tokenizer has no special token {unknown}.")
        if not allowed:
            yield text
            return
        longest_first = sorted(allowed, key=len, reverse=True)
        for part in regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text):
            if part in allowed:
                yield self.special[part]
            elif part:
                yield part

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; special tokens become their names.

        Raises:
            ValueError: an id is negative or has no token.

        """
        return decode(ids, self.tokens)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file that can be read by people too: a merge in each line."""
        shown = printable_bytes()
        symbols = ["".join(shown[byte] for byte in token) for token in token_table(self.merges)]
        content = {
            "format": _FORMAT,
            "split": GPT2_SPLIT,
            "bytes": "".join(shown[byte] for byte in self.byte_order),
            "special": list(self.special),
            "merges": [f"{symbols[left]} {symbols[right]}" for left, right in self.merges],
        }
        text = json.dumps(content, ensure_ascii=False, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer that ``save`` wrote.

        Raises:
            CourseError: the file is none.

        """
        try:
            content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT or content["split"] != GPT2_SPLIT:
                raise ValueError("it is of another format")
            pairs = [merge.split(" ") for merge in content["merges"]]
            return cls._from_symbols(list(content["bytes"]), pairs, content["special"])
        except (ValueError, TypeError, KeyError, AttributeError, CourseError) as error:
            raise CourseError(f"{Path(path).name} is no saved tokenizer: {error}.") from error


_FORMAT = "byte-level BPE, version 1"

# --- WordPiece -------------------------------------------------------------------------------


def bert_words(text: str, lower_case: bool = True) -> list[str]:
    """Cut a text as BERT does before it looks for pieces: at spaces, and around every punctuation mark.

    Control characters vanish, each CJK ideograph is a word of its own, and where ``lower_case`` is set
    letters lose capitals and accents. Devlin et al. 2019, the published tokenization.py.
    """
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if character in "\t\n\r" or category.startswith("Z"):
            kept.append(" ")
        elif category in ("Cc", "Cf", "Co") or character == "\ufffd":
            continue
        elif _is_ideograph(ord(character)):
            kept.append(f" {character} ")
        else:
            kept.append(character)
    text = "".join(kept)
    if lower_case:
        apart = unicodedata.normalize("NFD", text)
        text = "".join(each for each in apart if unicodedata.category(each) != "Mn")
        text = "".join(each.lower() for each in text)
    spaced = [f" {each} " if _is_punctuation(each) else each for each in text]
    return "".join(spaced).split()


def _is_ideograph(code: int) -> bool:
    return any(
        low <= code <= high
        for low, high in (
            *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
            *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
        )
    )


def _is_punctuation(character: str) -> bool:
    # All visible ASCII that is no letter or digit counts, "$" and "+" too.
    return unicodedata.category(character).startswith("P") or (
        character.isascii()
        and character.isprintable()
        and not character.isalnum()
        and character != " "
    )


def wordpiece(
    word: str, vocabulary: Collection[str], unknown: str = "[UNK]", longest: int = 100
) -> list[str]:
    """Cut a word into pieces, each the longest that the vocabulary has, from left to right.

    Pieces inside a word are written with "##" in front. Wu et al. 2016; Devlin et al. 2019.

    Args:
        word: a word without spaces.
        vocabulary: the pieces.
        unknown: what a word becomes that cannot be cut to its end.
        longest: a word of more characters is unknown too.

    """
    if len(word) > longest:
        return [unknown]
    pieces: list[str] = []
    begin = 0
    while begin < len(word):
        mark = "##" if begin else ""
        for end in range(len(word), begin, -1):
            if mark + word[begin:end] in vocabulary:
                break
        else:
            return [unknown]
        pieces.append(mark + word[begin:end])
        begin = end
    return pieces


class WordPiece:
    """BERT's tokenizer, with a vocabulary that is given.

    Args:
        vocabulary: the pieces; the position is the id.
        lower_case: whether capitals and accents go.

    Attributes:
        index: the id of each piece.

    """

    def __init__(self, vocabulary: Sequence[str], lower_case: bool = True) -> None:
        self.vocabulary = tuple(vocabulary)
        self.index = {piece: i for i, piece in enumerate(self.vocabulary)}
        self.lower_case = lower_case

    @property
    def n_words(self) -> int:
        """The number of pieces."""
        return len(self.vocabulary)

    def pieces(self, text: str) -> list[str]:
        """Cut a text into pieces."""
        words = bert_words(text, self.lower_case)
        return [piece for word in words for piece in wordpiece(word, self.index)]

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids."""
        return [self.index[piece] for piece in self.pieces(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; what was lost (capitals, accents, spaces, unknown words) stays lost."""
        return " ".join(self.vocabulary[i] for i in ids).replace(" ##", "")


# --- Unigram ---------------------------------------------------------------------------------


def viterbi_segment(word: str, scores: Mapping[str, float], unknown: float = -30.0) -> list[str]:
    """Cut a word into the pieces whose log-probabilities have the largest sum.

    Kudo 2018, "Subword Regularization", section 3.1, equation 3, by dynamic programming (Viterbi 1967).

    Args:
        word: what is to be cut.
        scores: the log-probability of each piece.
        unknown: the score of a single character that is no piece.

    Returns:
        The pieces, which joined are the word. Of equally good ways to reach a place, the one whose last piece
        is longest. The time grows with the square of the word's length.

    """
    ### BEGIN SOLUTION
    best = [0.0] + [-math.inf] * len(word)  # best[i]: the best score of word[:i]
    begin_of = [0] * (len(word) + 1)  # begin_of[i]: where the last piece of that way begins
    for end in range(1, len(word) + 1):
        for begin in range(end):
            score = scores.get(word[begin:end])
            if score is None:
                if end - begin > 1:
                    continue
                score = unknown
            if best[begin] + score > best[end]:
                best[end] = best[begin] + score
                begin_of[end] = begin
    pieces = []
    end = len(word)
    while end > 0:
        pieces.append(word[begin_of[end] : end])
        end = begin_of[end]
    return pieces[::-1]
    ### END SOLUTION


def expected_counts(
    words: Mapping[str, int], scores: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """Return how often each piece is expected to be used, over all ways to cut all words, and the log-likelihood.

    Kudo 2018, section 3.2 (the E step). The sum over all ways is taken by a pass forward and one backward.
    """
    expected: defaultdict[str, float] = defaultdict(float)
    likelihood = 0.0
    for word, count in words.items():
        n = len(word)
        edges = [
            (begin, end, score)
            for end in range(1, n + 1)
            for begin in range(end)
            if (score := scores.get(word[begin:end])) is not None
        ]
        forward, backward = [0.0] + [-math.inf] * n, [-math.inf] * n + [0.0]
        for begin, end, score in edges:  # sorted by where they end
            forward[end] = log_add(forward[end], forward[begin] + score)
        for begin, end, score in sorted(edges, reverse=True):
            backward[begin] = log_add(backward[begin], score + backward[end])
        likelihood += count * forward[n]
        for begin, end, score in edges:
            share = math.exp(forward[begin] + score + backward[end] - forward[n])
            expected[word[begin:end]] += count * share
    return expected, likelihood


def log_add(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    low, high = (a, b) if a < b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def train_unigram(
    words: Mapping[str, int], n_pieces: int, longest: int = 10, seeds: int = 4, shrink: float = 0.75
) -> dict[str, float]:
    """Learn a Unigram vocabulary: start with far too many pieces, and drop those that are missed least.

    Kudo 2018, section 3.2: EM for the probabilities, then a share of the pieces goes, and so on. Single
    characters stay, so every word of the training text can be cut.

    Args:
        words: how often each word occurs.
        n_pieces: how many pieces are wanted; at least the single characters remain.
        longest: the longest piece, in characters.
        seeds: how many times ``n_pieces`` there are at the start.
        shrink: the share of pieces that survives a round.

    Returns:
        The log-probability of each piece, likeliest first.

    """
    found: Counter[str] = Counter()
    for word, count in words.items():
        for begin in range(len(word)):
            for end in range(begin + 1, min(begin + longest, len(word)) + 1):
                found[word[begin:end]] += count
    single = {piece for piece in found if len(piece) == 1}
    seed = sorted(
        (piece for piece, count in found.items() if count > 1 and len(piece) > 1),
        key=lambda piece: (-found[piece] * len(piece), piece),
    )[: seeds * n_pieces]
    scores = normalised({piece: float(found[piece]) for piece in [*sorted(single), *seed]})
    while True:
        for _ in range(2):
            expected, _ = expected_counts(words, scores)
            scores = normalised({piece: max(expected[piece], 1e-3) for piece in scores})
        if len(scores) <= max(n_pieces, len(single)):
            return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
        losses = {
            piece: loss_without(piece, scores, expected[piece]) for piece in scores.keys() - single
        }
        n_kept = max(n_pieces, int(shrink * len(scores))) - len(single)
        kept = sorted(losses, key=lambda piece: (-losses[piece], piece))[: max(n_kept, 0)]
        scores = {piece: scores[piece] for piece in [*sorted(single), *kept]}


def normalised(counts: Mapping[str, float]) -> dict[str, float]:
    """Return the logarithm of each piece's share of the counts."""
    total = math.log(sum(counts.values()))
    return {piece: math.log(count) - total for piece, count in counts.items()}


def loss_without(piece: str, scores: Mapping[str, float], count: float) -> float:
    """Return how much log-likelihood is lost, about, if a piece must be made of others."""
    others = dict(pieces_inside(piece, scores))
    del others[piece]
    best = sum(others[each] for each in viterbi_segment(piece, others))
    return count * (scores[piece] - best)


def pieces_inside(piece: str, scores: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Yield the pieces that stand in a piece, with their scores."""
    for begin in range(len(piece)):
        for end in range(begin + 1, len(piece) + 1):
            if (score := scores.get(piece[begin:end])) is not None:
                yield piece[begin:end], score
