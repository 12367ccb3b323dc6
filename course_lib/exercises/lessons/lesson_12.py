"""Lesson 12, tokenization: what is drawn, what is right, what often goes wrong."""

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from course_lib.exercises.probes import lesson_12 as probes
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import tokenization as finished
from course_lib.models.bytes_and_words import Pair, merge_word, split_words

FINISHED = "course_lib.models.tokenization"
Words = Mapping[tuple[int, ...], int]

# --- train_bpe -------------------------------------------------------------------------------


def draw_train_bpe(seed: int) -> list[Case]:
    """Draw words with their counts."""
    rng = random.Random(f"train_bpe {seed}")

    def case(
        label: str,
        words: dict[str, int],
        n_merges: int,
        min_count: int | None = None,
        watched: bool = False,
    ) -> Case:
        inputs = {"words": words, "n_merges": n_merges, "min_count": min_count, "watched": watched}
        return Case(label, inputs)

    def drawn(alphabet: str, longest: int, n: int) -> dict[str, int]:
        made = ("".join(rng.choices(alphabet, k=rng.randint(1, longest))) for _ in range(n))
        return {word: rng.randint(1, 6) for word in made}

    # Each word has two letters of its own, so a merge concerns one word among many.
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    apart = {
        "".join(rng.choices(letters[i : i + 2], k=40)): rng.randint(1, 9)
        for i in range(0, len(letters), 2)
    }
    return [
        case("one word, one merge", {"ab": 2}, 1),
        case("a word that counts more often", {"ab": 2, "cd": 5}, 1),
        case("two words, three merges", {"low": 5, "lowest": 2}, 3),
        case("two pairs equally frequent", {"ba": 3, "ab": 3}, 1),
        case("a pair that overlaps itself", {"aaaa": 2, "baaab": 3}, 4),
        case("a pair twice in a word", {"xabyab": 2, "ab": 1}, 3),
        case("more merges asked for than there are pairs", {"abc": 4}, 10),
        case("a pair that occurs once", {"ab": 1, "abc": 1, "cd": 1}, 5),
        case("min_count given", {"ab": 3, "cd": 2, "ef": 1}, 5, 3),
        case("min_count 1", {"abc": 1, "de": 1}, 5, 1),
        case("letters of several bytes", {"né": 2, "été": 3, "日本": 2}, 6),
        case("no words", {}, 3),
        case("no merges asked for", {"ab": 4}, 0),
        case("many words of few letters", drawn("abc", 9, 30), 25),
        case("many words of more letters", drawn("abcdefgh", 12, 60), 50, 1),
        case("long words that share no letter", apart, 90, watched=True),
    ]


def oracle_train_bpe(
    words: Mapping[str, int], n_merges: int, min_count: int | None, watched: bool
) -> dict[str, Any]:
    """Count all pairs anew for each merge: slow, plain, and independent of any index."""
    pieces = {word: list(word.encode()) for word in words}
    merges: list[Pair] = []
    while len(merges) < n_merges:
        total: Counter[Pair] = Counter()
        for word, ids in pieces.items():
            for pair in pairwise(ids):
                total[pair] += words[word]
        if not total:
            break
        best = min(total, key=lambda pair: (-total[pair], pair))
        if total[best] < (2 if min_count is None else min_count):
            break
        pieces = {word: _merged(ids, best, 256 + len(merges)) for word, ids in pieces.items()}
        merges.append(best)
    return {"merges": merges} | ({"looks at letters": "few"} if watched else {})


def _merged(ids: list[int], pair: Pair, new: int) -> list[int]:
    done: list[int] = []
    for each in ids:
        done.append(each)
        if tuple(done[-2:]) == pair:
            done[-2:] = [new]
    return done


def _train(
    words: Words,
    n_merges: int,
    min_count: int = 2,
    *,
    order: Callable[[int, Pair], Any] = lambda count, pair: (-count, pair),
    weight: Callable[[int], int] = lambda count: count,
    first: int = 256,
    enough: Callable[[int, int], bool] = lambda count, least: count >= least,
    merge: Callable[[Sequence[int], Pair, int], list[int]] = merge_word,
    lower: bool = True,
    index_new: bool = True,
) -> list[Pair]:
    """Train incrementally; each argument after the star is a way to go wrong."""
    pieces = [list(word) for word in words]
    counts = [weight(count) for count in words.values()]
    total: defaultdict[Pair, int] = defaultdict(int)
    holders: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, piece in enumerate(pieces):
        for pair in pairwise(piece):
            total[pair] += counts[i]
            holders[pair].add(i)
    queue = [(order(count, pair), count, pair) for pair, count in total.items()]
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < n_merges:
        _, count, pair = heapq.heappop(queue)
        if count != total[pair]:
            heapq.heappush(queue, (order(total[pair], pair), total[pair], pair))
            continue
        if not enough(count, min_count):
            break
        new = first + len(merges)
        merges.append(pair)
        created: dict[Pair, None] = {}
        for i in sorted(holders.pop(pair, ())):
            before, after = pieces[i], merge(pieces[i], pair, new)
            pieces[i] = after
            if lower:
                for old in pairwise(before):
                    total[old] -= counts[i]
            for now in pairwise(after):
                if lower or new in now:
                    total[now] += counts[i]
                if new in now:
                    created[now] = None
                    if index_new:
                        holders[now].add(i)
        for now in created:
            heapq.heappush(queue, (order(total[now], now), total[now], now))
    return merges


def counts_ignored(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Count each word once."""
    return _train(words, n_merges, min_count, weight=lambda count: 1)


def largest_of_equals(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Take `max` of (count, pair)."""
    return _train(
        words, n_merges, min_count, order=lambda count, pair: (-count, -pair[0], -pair[1])
    )


def first_met_of_equals(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Take the one of equally frequent pairs that was met first, as `max` over a dictionary does."""
    met: dict[Pair, int] = {}
    return _train(
        words,
        n_merges,
        min_count,
        order=lambda count, pair: (-count, met.setdefault(pair, len(met))),
    )


def ids_start_late(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Number the new token after the merge was appended."""
    return _train(words, n_merges, min_count, first=257)


def min_count_ignored(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Merge whatever is left."""
    return _train(words, n_merges, min_count, enough=lambda count, least: count > 0)


def never_stops(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Go on as long as there is a pair in the table, even one whose count has fallen to 0."""
    pieces, counts = [list(word) for word in words], list(words.values())
    total: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, piece in enumerate(pieces):
        for pair in pairwise(piece):
            total[pair] += counts[i]
            holders[pair].add(i)
    merges: list[Pair] = []
    while total and len(merges) < n_merges:
        best = min(total, key=lambda pair: (-total[pair], pair))
        new = 256 + len(merges)
        merges.append(best)
        for i in sorted(holders[best]):
            for old in pairwise(pieces[i]):
                total[old] -= counts[i]
                holders[old].discard(i)
            pieces[i] = merge_word(pieces[i], best, new)
            for now in pairwise(pieces[i]):
                total[now] += counts[i]
                holders[now].add(i)
    return merges


def min_count_too_strict(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Stop at a pair that occurs exactly min_count times."""
    return _train(words, n_merges, min_count, enough=lambda count, least: count > least)


def merges_first_occurrence_only(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Merge a pair once in each word."""

    def once(word: Sequence[int], pair: Pair, new: int) -> list[int]:
        for i, each in enumerate(pairwise(word)):
            if each == pair:
                return [*word[:i], new, *word[i + 2 :]]
        return list(word)

    return _train(words, n_merges, min_count, merge=once)


def old_pairs_stay(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Add the new pairs and never take away those that a merge destroyed."""
    return _train(words, n_merges, min_count, lower=False)


def new_pairs_not_indexed(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Forget to note which words hold the new pairs."""
    return _train(words, n_merges, min_count, index_new=False)


def counts_everything_anew(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Get it right, by reading all words again for each merge."""
    pieces, counts = [list(word) for word in words], list(words.values())
    merges: list[Pair] = []
    while len(merges) < n_merges:
        total: Counter[Pair] = Counter()
        for piece, count in zip(pieces, counts):
            for pair in pairwise(piece):
                total[pair] += count
        best = min(total, key=lambda pair: (-total[pair], pair), default=None)
        if best is None or total[best] < min_count:
            break
        pieces = [merge_word(piece, best, 256 + len(merges)) for piece in pieces]
        merges.append(best)
    return merges


def pairs_across_words(words: Words, n_merges: int, min_count: int = 2) -> list[Pair]:
    """Join all words into one text."""
    joined = tuple(byte for word, count in words.items() for _ in range(count) for byte in word)
    return _train({joined: 1}, n_merges, min_count)


TRAIN_BPE = Exercise(
    name="train_bpe",
    lesson=12,
    points=5,
    probe=probes.train_bpe,
    draw=draw_train_bpe,
    oracle=oracle_train_bpe,
    finished=(finished.train_bpe,),
    forbidden=(FINISHED, "tokenizers", "tiktoken"),
    minutes=35,
    difficulty=4,
    mistakes=(
        Mistake(
            "counts ignored",
            "You count each word once: a pair in a word that occurs 5 times counts 5.",
            (counts_ignored,),
        ),
        Mistake(
            "largest of equals",
            "Of equally frequent pairs you take the largest: take the smallest, as `min` over "
            "(−count, pair) does.",
            (largest_of_equals,),
        ),
        Mistake(
            "first met of equals",
            "Of equally frequent pairs you take the one that you met first: take the smallest pair.",
            (first_met_of_equals,),
        ),
        Mistake(
            "ids start late",
            "Your first new token is 257: merge number k makes 256 + k, and k counts from 0 (number it before "
            "you append the merge).",
            (ids_start_late,),
        ),
        Mistake(
            "min_count ignored",
            "You merge pairs that occur less often than `min_count`: stop where the most frequent one does.",
            (min_count_ignored,),
        ),
        Mistake(
            "never stops",
            "You merge pairs that are gone: a pair whose count has fallen to 0 is still in your table, so stop "
            "where the largest count is below `min_count`.",
            (never_stops,),
        ),
        Mistake(
            "min_count too strict",
            "You stop at a pair that occurs exactly `min_count` times: it is still to be merged.",
            (min_count_too_strict,),
        ),
        Mistake(
            "first occurrence only",
            "You merge a pair once in each word: all its occurrences are to go, as `merge_word` does it.",
            (merges_first_occurrence_only,),
        ),
        Mistake(
            "old pairs stay",
            "Your counts are outdated: a merge also destroys pairs (after l·o in “low” the pair o·w is gone), so "
            "lower their counts, and compare what a queue says with the count of now.",
            (old_pairs_stay,),
        ),
        Mistake(
            "new pairs not indexed",
            "You count the new pairs but do not note which words hold them, so a merge that builds on a merge "
            "changes nothing.",
            (new_pairs_not_indexed,),
        ),
        Mistake(
            "counts everything anew",
            "Your merges are right, but you look at every word again for each of them: keep the counts, and an "
            "index of which words hold which pair, and look only there.",
            (counts_everything_anew,),
        ),
        Mistake(
            "pairs across words",
            "You count pairs that reach from one word into the next: a token never crosses a word's end.",
            (pairs_across_words,),
        ),
    ),
    hints=(
        "Keep three things: the words as lists of ids, `total` (how often each pair occurs now, a word's count "
        "for each of its pairs), and `holders` (which words hold each pair). Fill the last two once. What does "
        "one merge change in them?",
        "A merge changes only the words in `holders[pair]`. For each: lower `total` by the word's count for all "
        "its old pairs, replace the word by `merge_word(word, pair, new)`, raise `total` for all its new pairs, "
        "and note the word in `holders` for the pairs that contain `new`. (Go over a copy, `list(holders[pair])`, "
        "if you change that set meanwhile.)",
        "The pair to merge: `min(total, key=lambda pair: (-total[pair], pair))`, which is right, and looks at all "
        "pairs. A `heapq` of (−count, pair) is faster: its smallest entry is the one wanted, unless the count "
        "in it is outdated (then push it again with the count of now).",
        "Stop where there is no pair, where the best count is below `min_count`, or after `n_merges`. Take "
        "`new = 256 + len(merges)` before you append. A pair whose count has fallen to 0 may stay in the table: "
        "it is below any `min_count`.",
    ),
)

# --- encode ----------------------------------------------------------------------------------


def draw_encode(seed: int) -> list[Case]:
    """Draw texts, and merges that were learned from others."""
    rng = random.Random(f"encode {seed}")
    t, h, e, r = b"ther"
    the = [(h, e), (t, 256)]  # he, t+he
    crossing = [(h, e), (t, h), (258, r), (e, r), (257, e)]  # he before th: “the” is t + he

    def case(
        label: str,
        text: str,
        merges: list[Pair],
        cache: dict[str, list[int]] | None = None,
        word: str | None = None,
    ) -> Case:
        word = split_words(text)[0] if word is None else word
        return Case(label, {"word": word, "text": text, "merges": merges, "cache": cache or {}})

    def learned(alphabet: str, n_merges: int) -> tuple[list[str], list[Pair]]:
        made = ["".join(rng.choices(alphabet, k=rng.randint(1, 9))) for _ in range(40)]
        words = {(" " if i else "") + word: rng.randint(1, 5) for i, word in enumerate(made)}
        return made, oracle_train_bpe(words, n_merges, 1, False)["merges"]

    few, few_merges = learned("abc", 25)
    many, many_merges = learned("abcdeé日", 80)
    return [
        case("one letter, no merges", "a", []),
        case("one word, one merge", "he", the),
        case("a merge of a merge", "the", the),
        case("the merge learned first stands on the right", "the", crossing),
        case("a merge that occurs twice", "hehe", the),
        case("a run of one letter", "aaaaa", [(97, 97), (256, 97)]),
        case("two words", "the he", the),
        case("a merge that would cross a space", "e h", [(ord("e"), ord(" ")), (ord(" "), h)]),
        case("a letter of two bytes", "né", [(0xC3, 0xA9)]),
        case("a word twice", "the the the", [*the, (ord(" "), 257)]),
        case("a cache that knows a word, with ids made up", "the he", the, {" he": [7, 8]}),
        case("a cache that knows the first word, with ids made up", "the he", the, {"the": [9]}),
        case("no text", "", the, word=""),
        case("spaces and lines", "  he\n\n he \t", the),
        case("many words", " ".join(rng.choices(few, k=25)), few_merges, word=max(few, key=len)),
        case("words with longer letters", " ".join(rng.choices(many, k=25)), many_merges, word=max(many, key=len)),
    ]  # fmt: skip


def oracle_encode(
    word: str, text: str, merges: Sequence[Pair], cache: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Apply every merge in the order of training, each to the whole word (Sennrich et al. 2016)."""

    def ids_of(one: str) -> list[int]:
        ids = list(one.encode())
        for k, pair in enumerate(merges):
            ids = _merged(ids, (pair[0], pair[1]), 256 + k)
        return ids

    known = {each: list(ids) for each, ids in cache.items()}
    for each in split_words(text):
        known.setdefault(each, ids_of(each))
    whole = [i for each in split_words(text) for i in known[each]]
    return {"ids of one word": ids_of(word), "ids of the text": whole, "ids the second time": whole,
            "cache": dict(sorted(known.items())), "half a surrogate pair": "refused"}  # fmt: skip


Merges = Mapping[Pair, int]
Cache = dict[str, list[int]]


def _encoder(word: Callable[[Sequence[int], Merges], list[int]]) -> Callable[..., list[int]]:
    """Return an `encode` around a (wrong) `encode_word`."""

    def encode(text: str, merges: Merges, cache: Cache) -> list[int]:
        ids: list[int] = []
        for each in split_words(text):
            if each not in cache:
                cache[each] = word(list(each.encode()), merges)
            ids = ids + cache[each]
        return ids

    return encode


def leftmost_first(word: Sequence[int], merges: Merges) -> list[int]:
    """Merge the first pair from the left that can be merged."""
    ids = list(word)
    while True:
        pair = next((each for each in pairwise(ids) if each in merges), None)
        if pair is None:
            return ids
        ids = merge_word(ids, pair, merges[pair])


def last_learned_first(word: Sequence[int], merges: Merges) -> list[int]:
    """Merge the pair with the largest id."""
    ids = list(word)
    while True:
        pair = max(pairwise(ids), key=lambda each: merges.get(each, -1), default=(-1, -1))
        if pair not in merges:
            return ids
        ids = merge_word(ids, pair, merges[pair])


def longest_match(word: Sequence[int], merges: Merges) -> list[int]:
    """Take the longest token from the left, as WordPiece does."""
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    index = {token: i for i, token in enumerate(tokens)}
    raw, ids = bytes(word), []
    while raw:
        end = next(end for end in range(len(raw), 0, -1) if raw[:end] in index)
        ids.append(index[raw[:end]])
        raw = raw[end:]
    return ids


def one_merge_only(word: Sequence[int], merges: Merges) -> list[int]:
    """Merge once and stop."""
    ids = list(word)
    pair = min(pairwise(ids), key=lambda each: merges.get(each, math.inf), default=(-1, -1))
    return ids if pair not in merges else merge_word(ids, pair, merges[pair])


def bytes_only(word: Sequence[int], merges: Merges) -> list[int]:
    """Never merge: `min` over pairs that are no merges, and a stop at the first of them."""
    ids = list(word)
    while len(ids) > 1:
        pair = min(pairwise(ids), key=lambda each: merges.get(each, -1))
        if pair not in merges:
            break
        ids = merge_word(ids, pair, merges[pair])
    return ids


def text_as_one_word(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Merge across words."""
    if not text:
        return []
    if text not in cache:
        cache[text] = finished.encode_word(list(text.encode()), merges)
    return list(cache[text])


def code_points(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Start from code points, not bytes."""
    ids: list[int] = []
    for each in split_words(text):
        if each not in cache:
            cache[each] = finished.encode_word([ord(character) for character in each], merges)
        ids = ids + cache[each]
    return ids


def split_at_spaces(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Lose the spaces."""
    ids: list[int] = []
    for each in text.split():
        if each not in cache:
            cache[each] = finished.encode_word(list(each.encode()), merges)
        ids = ids + cache[each]
    return ids


def cache_grows(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Append to the list that lies in the cache."""
    ids: Any = None
    for each in split_words(text):
        if each not in cache:
            cache[each] = finished.encode_word(list(each.encode()), merges)
        if ids is None:
            ids = cache[each]
        else:
            ids += cache[each]
    return [] if ids is None else ids


def cache_not_read(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Compute every word anew, and overwrite what the cache knows."""
    ids: list[int] = []
    for each in split_words(text):
        cache[each] = finished.encode_word(list(each.encode()), merges)
        ids = ids + cache[each]
    return ids


def cache_not_filled(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Look into the cache and never put anything there."""
    ids: list[int] = []
    for each in split_words(text):
        known = cache.get(each)
        ids = ids + (finished.encode_word(list(each.encode()), merges) if known is None else known)
    return ids


def cache_unused(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Leave the cache alone."""
    words = split_words(text)
    return [i for each in words for i in finished.encode_word(list(each.encode()), merges)]


def text_as_one_word_uncached(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Merge across words, and leave the cache alone."""
    return finished.encode_word(list(text.encode()), merges)


def errors_ignored(text: str, merges: Merges, cache: Cache) -> list[int]:
    """Let what has no bytes vanish."""
    ids: list[int] = []
    for each in split_words(text):
        if each not in cache:
            cache[each] = finished.encode_word(list(each.encode("utf-8", "ignore")), merges)
        ids = ids + cache[each]
    return ids


def _wrong_word(name: str, says: str, word: Callable[..., Any]) -> Mistake:
    return Mistake(name, says, (word, _encoder(word)))


def _wrong_text(name: str, says: str, text: Callable[..., Any]) -> Mistake:
    return Mistake(name, says, (finished.encode_word, text))


ENCODE = Exercise(
    name="encode",
    lesson=12,
    points=4,
    probe=probes.encode,
    draw=draw_encode,
    oracle=oracle_encode,
    finished=(finished.encode_word, finished.encode),
    defines=("encode_word", "encode"),
    forbidden=(FINISHED, "tokenizers", "tiktoken"),
    minutes=20,
    difficulty=3,
    mistakes=(
        _wrong_word(
            "leftmost first",
            "You merge the first pair from the left that can be merged: merge the one that was learned first "
            "(the smallest id), wherever it stands.",
            leftmost_first,
        ),
        _wrong_word(
            "last learned first",
            "You merge the pair that was learned last: the one that was learned first (the smallest id) comes first.",
            last_learned_first,
        ),
        _wrong_word(
            "longest match",
            "You take the longest token from the left, which is WordPiece's way: BPE applies its merges in the "
            "order in which they were learned.",
            longest_match,
        ),
        _wrong_word(
            "one merge only",
            "You merge one pair and stop: go on until no pair of the word is a merge.",
            one_merge_only,
        ),
        _wrong_word(
            "unknown pairs come first",
            "Pairs that are no merges come out smallest in your search, so you stop too early: give them the "
            "key `math.inf`.",
            bytes_only,
        ),
        _wrong_text(
            "text as one word",
            "You merge across words: cut the text with `split_words` first.",
            text_as_one_word,
        ),
        _wrong_text(
            "code points",
            'You start from code points (`ord`): the first ids are bytes, `word.encode("utf-8")`.',
            code_points,
        ),
        _wrong_text(
            "split at spaces",
            "You lose the spaces: `text.split()` drops them, `split_words` keeps every character.",
            split_at_spaces,
        ),
        _wrong_text(
            "cache grows",
            "You add to the list that lies in the cache, so the cached word gets longer with every call: start "
            "with a list of your own, `ids = []`.",
            cache_grows,
        ),
        _wrong_text(
            "cache not read",
            "You fill the cache and never look into it: take a word's ids from there if it is known.",
            cache_not_read,
        ),
        _wrong_text(
            "cache unused",
            "You leave the cache alone: take a word's ids from there if it is known, and put the ids of each new "
            "word there.",
            cache_unused,
        ),
        _wrong_text(
            "text as one word, no cache",
            "You encode the whole text as if it were one word: cut it with `split_words`, and look each word up "
            "in the cache.",
            text_as_one_word_uncached,
        ),
        _wrong_text(
            "errors ignored",
            "Half a surrogate pair vanishes from your text, or becomes another character: leave out `errors`, so "
            'that `.encode("utf-8")` raises UnicodeEncodeError.',
            errors_ignored,
        ),
        _wrong_text(
            "cache not filled",
            "You look into the cache and put nothing there: keep the ids of each new word.",
            cache_not_filled,
        ),
    ),
    hints=(
        "`encode_word`: among the neighbours `pairwise(ids)` find the pair that was learned first. What was "
        "learned first has the smallest id in `merges`.",
        "`min(…, key=…)` finds it, if pairs that are no merges count as infinitely large: "
        "`merges.get(pair, math.inf)`. Merge it with `merge_word`, and again, until even the best pair is "
        "no merge, or one id is left (`min` of nothing is an error).",
        "`encode`: for each word of `split_words(text)` look into the cache; if it is not there, put "
        '`encode_word(list(word.encode("utf-8")), merges)` there. Add the ids to a list of your own: a list from '
        "the cache that you extend would grow in the cache.",
    ),
)

# --- decode ----------------------------------------------------------------------------------


def draw_decode(seed: int) -> list[Case]:
    """Draw ids and small tables of tokens."""
    rng = random.Random(f"decode {seed}")
    table = [list(token) for token in (b"a", b"b", b" the", "é".encode(), b"\xc3", b"\xa9", b"\xa9s",
                                       b"\xf0\x9f", b"\x98", b"\x80", b"\n", b"\xe6\x97")]  # fmt: skip
    n = len(table)

    def case(label: str, ids: list[int], tokens: list[list[int]] = table) -> Case:
        return Case(label, {"ids": ids, "tokens": tokens})

    return [
        case("one token", [0], [[104, 105]]),
        case("two tokens", [1, 0], [[98], [97]]),
        case("no tokens", [], [[97]]),
        case("a letter of two bytes in one token", [3, 1]),
        case("a letter of two bytes in two tokens", [0, 4, 5, 1]),
        case("a letter that ends in the next token", [4, 6]),
        case("an emoji in three tokens", [2, 7, 8, 9]),
        case("half a letter at the end", [0, 4]),
        case("the second half alone", [5, 1]),
        case("a negative id", [0, -1]),
        case("an id as large as the table", [n]),
        case("an id far too large", [0, n + 900]),
        case("many tokens", [rng.randrange(n) for _ in range(30)]),
    ]


def oracle_decode(ids: Sequence[int], tokens: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Feed the bytes one by one to the standard library's incremental decoder."""
    import codecs

    if any(i not in range(len(tokens)) for i in ids):
        return {"text": None, "ids refused": True}
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    stream = [byte for i in ids for byte in tokens[i]]
    text = "".join(decoder.decode(bytes([byte])) for byte in stream)
    return {"text": text + decoder.decode(b"", final=True), "ids refused": False}


def _bytes(ids: Sequence[int], tokens: Sequence[bytes], checked: bool = True) -> list[bytes]:
    if checked and not all(0 <= i < len(tokens) for i in ids):
        raise ValueError("no token")
    return [tokens[i] for i in ids]


def each_token_alone(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Decode token by token."""
    return "".join(each.decode("utf-8", errors="replace") for each in _bytes(ids, tokens))


def bad_bytes_vanish(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Ignore what is no UTF-8."""
    return b"".join(_bytes(ids, tokens)).decode("utf-8", errors="ignore")


def bad_bytes_stop(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Leave `errors` at strict."""
    return b"".join(_bytes(ids, tokens)).decode("utf-8")


def as_latin_1(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Read each byte as a character."""
    return b"".join(_bytes(ids, tokens)).decode("latin-1")


def spaces_between(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Join with spaces."""
    return b" ".join(_bytes(ids, tokens)).decode("utf-8", errors="replace")


def no_check(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Let Python's indexing decide."""
    return b"".join(_bytes(ids, tokens, checked=False)).decode("utf-8", errors="replace")


def negative_ids_count_from_the_end(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Check only for ids that are too large."""
    if any(i >= len(tokens) for i in ids):
        raise ValueError("no token")
    return no_check(ids, tokens)


def wrong_ids_skipped(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Leave out ids without a token."""
    return no_check([i for i in ids if 0 <= i < len(tokens)], tokens)


def printed_bytes(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Call `str` on bytes."""
    return str(b"".join(_bytes(ids, tokens)))


def bound_too_large(ids: Sequence[int], tokens: Sequence[bytes]) -> str:
    """Let the id `len(tokens)` through."""
    if any(i < 0 or i > len(tokens) for i in ids):
        raise ValueError("no token")
    return no_check(ids, tokens)


DECODE = Exercise(
    name="decode",
    lesson=12,
    points=2,
    probe=probes.decode,
    draw=draw_decode,
    oracle=oracle_decode,
    finished=(finished.decode,),
    forbidden=(FINISHED, "tokenizers", "tiktoken"),
    minutes=10,
    difficulty=2,
    mistakes=(
        Mistake(
            "each token alone",
            "You decode each token alone: a letter's bytes may lie in two tokens, so join all bytes first.",
            (each_token_alone,),
        ),
        Mistake(
            "bad bytes vanish",
            "Bytes that are no UTF-8 vanish from your text: show that something was there, "
            'with `errors="replace"`.',
            (bad_bytes_vanish,),
        ),
        Mistake(
            "bad bytes stop",
            "Your code stops at bytes that are no UTF-8: a model may write any ids, so decode with "
            '`errors="replace"`.',
            (bad_bytes_stop,),
        ),
        Mistake(
            "as Latin-1",
            "You read each byte as a character of its own: the bytes are UTF-8.",
            (as_latin_1,),
        ),
        Mistake(
            "spaces between",
            "You put spaces between the tokens: a token holds its own space.",
            (spaces_between,),
        ),
        Mistake(
            "no check",
            "You do not check the ids: an id without a token is to raise ValueError (−1 would quietly take the "
            "last token).",
            (no_check,),
        ),
        Mistake(
            "negative ids",
            "A negative id takes a token from the end of your table: it is to raise ValueError.",
            (negative_ids_count_from_the_end,),
        ),
        Mistake(
            "wrong ids skipped",
            "You leave out ids that have no token: they are to raise ValueError, since something is wrong with them.",
            (wrong_ids_skipped,),
        ),
        Mistake(
            "printed bytes",
            "`str` of bytes writes b'…': call `.decode(\"utf-8\", …)` on them.",
            (printed_bytes,),
        ),
        Mistake(
            "bound too large",
            "The id `len(tokens)` passes your check and has no token: ids count from 0, so compare with <.",
            (bound_too_large,),
        ),
    ),
    hints=(
        "`tokens[i]` is a `bytes` object. Where must you decode: token by token, or once for all of them? Think of "
        "“é”, two bytes, cut into two tokens.",
        '`b"".join(…)` puts bytes together. `.decode("utf-8")` makes text of them, and its argument `errors` '
        "says what happens to bytes that are no UTF-8.",
        '`errors="replace"`. And before you look an id up: `if not 0 <= i < len(tokens): raise ValueError(…)`, '
        "because `tokens[-1]` is a token too.",
    ),
)

# --- viterbi_segment -------------------------------------------------------------------------


def draw_viterbi(seed: int) -> list[Case]:
    """Draw words, and log-probabilities of pieces."""
    rng = random.Random(f"viterbi {seed}")

    def case(label: str, word: str, scores: dict[str, float], unknown: float | None = None) -> Case:
        return Case(label, {"word": word, "scores": scores, "unknown": unknown})

    def drawn(alphabet: str, n: int) -> dict[str, float]:
        pieces = {"".join(rng.choices(alphabet, k=rng.randint(1, 4))) for _ in range(n)}
        # Multiples of 1/64 add up without rounding, so that "aa", "a" and "a", "aa" are equally good to the bit.
        scores = {piece: -rng.randrange(64, 576) / 64 for piece in sorted(pieces)}
        return {**{letter: -rng.randrange(320, 576) / 64 for letter in alphabet}, **scores}

    ab = {"a": -2.0, "b": -2.5, "ab": -3.0}
    likely = {"a": -1.0, "b": -6.0, "c": -2.0, "ab": -2.5, "bc": -7.0}
    few = {"a": -1.0, "b": -1.0, "c": -1.0, "d": -1.0, "abc": -6.0, "cd": -2.5}
    middle = "z".join("".join(rng.choices("abc", k=5)) for _ in range(2))
    greedy = {"u": -6.0, "n": -6.0, "d": -5.0, "o": -5.5, "und": -4.0, "un": -3.0, "do": -3.5}
    return [
        case("one letter", "a", {"a": -1.0}),
        case("two letters or one piece", "ab", ab),
        case("the two letters are better", "ab", {"a": -1.0, "b": -1.0, "ab": -3.0}),
        case("the longest first piece is not the best", "undo", greedy),
        case("the likeliest first piece is not the best", "abc", likely),
        case("fewest pieces is not the best", "abcd", few),
        case("equally good ways", "aaa", {"a": -1.5, "aa": -3.0}),
        case("a letter that is no piece", "axb", ab),
        case("only letters that are no pieces", "xyz", ab, -9.0),
        case("unknown cheaper than a piece", "xa", {"a": -7.0, "xa": -9.0}, -1.0),
        case("no letters", "", ab),
        case("a long word", "".join(rng.choices("abc", k=11)), drawn("abc", 30)),
        case("a long word with an unknown letter", middle, drawn("abc", 30), -25.0),
        case("another long word", "".join(rng.choices("abcd", k=12)), drawn("abcd", 60)),
    ]  # fmt: skip


def _ways(word: str) -> Iterator[list[str]]:
    """Yield all ways to cut a word."""
    for cuts in range(2 ** max(len(word) - 1, 0)):
        pieces, begin = [], 0
        for place in range(1, len(word)):
            if cuts >> (place - 1) & 1:
                pieces.append(word[begin:place])
                begin = place
        yield [*pieces, word[begin:]] if word else []


def _score(pieces: Sequence[str], scores: Mapping[str, float], unknown: float) -> float:
    return math.fsum(
        scores.get(piece, unknown if len(piece) == 1 else -math.inf) for piece in pieces
    )


def oracle_viterbi(word: str, scores: Mapping[str, float], unknown: float | None) -> dict[str, Any]:
    """Look at all ways to cut the word."""
    cost = -30.0 if unknown is None else unknown
    best = max(
        _ways(word),
        key=lambda way: (round(_score(way, scores, cost), 9), [len(piece) for piece in way[::-1]]),
    )
    return {"pieces": best}


Scores = Mapping[str, float]


def _best(word: str, key: Callable[[list[str]], Any], scores: Scores) -> list[str]:
    """Return the possible way with the largest key."""
    possible = [
        way for way in _ways(word) if all(len(piece) == 1 or piece in scores for piece in way)
    ]
    return max(possible, key=lambda way: (key(way), [len(piece) for piece in way[::-1]]))


def longest_piece_first(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Be greedy."""
    pieces = []
    while word:
        end = next(end for end in range(len(word), 0, -1) if end == 1 or word[:end] in scores)
        pieces.append(word[:end])
        word = word[end:]
    return pieces


def likeliest_piece_first(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Take the first piece with the best score of its own."""
    pieces = []
    while word:
        ends = [end for end in range(1, len(word) + 1) if end == 1 or word[:end] in scores]
        end = max(ends, key=lambda each: scores.get(word[:each], unknown))
        pieces.append(word[:end])
        word = word[end:]
    return pieces


def fewest_pieces(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Count pieces instead of adding scores."""
    return _best(word, lambda way: -len(way), scores)


def mean_score(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Take the mean, so that many cheap pieces cost nothing."""
    return _best(
        word, lambda way: round(_score(way, scores, unknown) / max(len(way), 1), 9), scores
    )


def worst_way(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Minimise."""
    return _best(word, lambda way: -round(_score(way, scores, unknown), 9), scores)


def product_of_scores(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Multiply log-probabilities."""
    best, begin_of = [1.0] + [-math.inf] * len(word), [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for begin in range(end):
            score = scores.get(word[begin:end], unknown if end - begin == 1 else None)
            if score is not None and best[begin] * score > best[end]:
                best[end], begin_of[end] = best[begin] * score, begin
    return _backwards(word, begin_of)[::-1]


def _table(
    word: str,
    scores: Scores,
    unknown: float,
    from_the_left: bool = True,
    long_unknown: bool = False,
) -> list[int]:
    """Return where each best piece begins."""
    best, begin_of = [0.0] + [-math.inf] * len(word), [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for begin in range(end) if from_the_left else reversed(range(end)):
            whole = long_unknown or end - begin == 1
            score = scores.get(word[begin:end], unknown if whole else None)
            if score is not None and best[begin] + score > best[end]:
                best[end], begin_of[end] = best[begin] + score, begin
    return begin_of


def _backwards(word: str, begin_of: Sequence[int]) -> list[str]:
    pieces, end = [], len(word)
    while end > 0:
        pieces.append(word[begin_of[end] : end])
        end = begin_of[end]
    return pieces


def pieces_backwards(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Forget to turn the pieces round."""
    return _backwards(word, _table(word, scores, unknown))


def shortest_last_piece(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Break ties the other way."""
    return _backwards(word, _table(word, scores, unknown, from_the_left=False))[::-1]


def unknown_of_any_length(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Let a whole stretch be one unknown piece."""
    return _backwards(word, _table(word, scores, unknown, long_unknown=True))[::-1]


def unknown_dropped(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Leave out letters that are no pieces."""
    begin_of = _table(word, scores, unknown)
    return [piece for piece in _backwards(word, begin_of)[::-1] if piece in scores]


def best_starts_at_zero(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Begin with 0 for every place, which no log-probability beats."""
    best, begin_of = [0.0] * (len(word) + 1), [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for begin in range(end):
            score = scores.get(word[begin:end], unknown if end - begin == 1 else -math.inf)
            if best[begin] + score > best[end]:
                best[end], begin_of[end] = best[begin] + score, begin
    return _backwards(word, begin_of)[::-1]


def unknown_unreachable(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Give characters that are no pieces no way at all."""
    return _backwards(word, _table(word, scores, -math.inf))[::-1]


def unknown_fixed(word: str, scores: Scores, unknown: float = -30.0) -> list[str]:
    """Never look at the argument `unknown`."""
    return _backwards(word, _table(word, scores, -30.0))[::-1]


VITERBI = Exercise(
    name="viterbi_segment",
    lesson=12,
    points=4,
    probe=probes.viterbi_segment,
    draw=draw_viterbi,
    oracle=oracle_viterbi,
    finished=(finished.viterbi_segment,),
    forbidden=(FINISHED, "tokenizers", "sentencepiece"),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "longest piece first",
            "You take the longest piece from the left: the way with the largest sum need not begin with it.",
            (longest_piece_first,),
        ),
        Mistake(
            "likeliest piece first",
            "You take the likeliest next piece: what is good now may leave a bad rest. Keep the best way to "
            "every place.",
            (likeliest_piece_first,),
        ),
        Mistake(
            "fewest pieces",
            "You look for the fewest pieces: it is the sum of the scores that counts.",
            (fewest_pieces,),
        ),
        Mistake(
            "mean score",
            "You divide by the number of pieces: the log-probability of a way is the sum of its scores.",
            (mean_score,),
        ),
        Mistake(
            "worst way",
            "You found the way with the smallest sum: look for the largest.",
            (worst_way,),
        ),
        Mistake(
            "product of scores",
            "You multiply the scores: they are logarithms, so the product of probabilities is their sum.",
            (product_of_scores,),
        ),
        Mistake(
            "pieces backwards",
            "Your pieces stand in reverse order: you read them from the end of the word, so turn the list round.",
            (pieces_backwards,),
        ),
        Mistake(
            "ties",
            "Of equally good ways you take the one whose last piece is shortest: try the beginnings from the left "
            "and replace only what is strictly worse.",
            (shortest_last_piece,),
        ),
        Mistake(
            "unknown of any length",
            "You let a stretch of several letters be one unknown piece: only single characters may be unknown.",
            (unknown_of_any_length,),
        ),
        Mistake(
            "unknown dropped",
            "You leave out characters that are no pieces: they are pieces of their own, so that joined the pieces "
            "are the word.",
            (unknown_dropped,),
        ),
        Mistake(
            "best starts at zero",
            "Your table of best sums begins with 0 everywhere, which no sum of log-probabilities beats: 0 is only for "
            "place 0, every other place begins with −∞.",
            (best_starts_at_zero,),
        ),
        Mistake(
            "unknown unreachable",
            "A character that is no piece ends your table, for nothing leads past it: it may stand alone, with the "
            "score `unknown`.",
            (unknown_unreachable,),
        ),
        Mistake(
            "unknown fixed",
            "You never use the argument `unknown`.",
            (unknown_fixed,),
        ),
    ),
    hints=(
        "Let `best[i]` be the best sum for the first i characters. The last piece of the best way to place `end` "
        "begins somewhere, at `begin`: its sum is `best[begin]` plus the score of `word[begin:end]`.",
        "Two loops: `end` from 1 to the word's length, `begin` from 0 to end − 1. Beside `best[end]` keep where "
        "that piece begins. A stretch that is no piece is skipped, unless it is one character: then its score "
        "is `unknown`.",
        "Ties: with `begin` from the left, replace only what is strictly smaller (>), so the earliest beginning, "
        "the longest last piece, stays. At the end walk back from the last place, `end = begin_of[end]`, "
        "and turn the list round.",
    ),
)

EXERCISES = (TRAIN_BPE, ENCODE, DECODE, VITERBI)
