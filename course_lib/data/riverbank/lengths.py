"""Sentences of a chosen length: exact sampling from the town's grammar, conditioned on the length."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.pcfg import Expansion, Grammar, Leaf, Rule, Tree

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Sentence, Town

# Which register writes each kind of sentence; the items of list documents are not sentences.
REGISTER_OF = {
    "SentOpen": "story", "SentStory": "story", "SentHello": "child", "SentChild": "child",
    "SentManual": "manual", "SentTurn": "dialogue", "SentAsk": "dialogue", "SentTell": "dialogue",
}  # fmt: skip


class LengthSampler:
    """Draws derivations of exactly n words, with the grammar's own conditional probabilities.

    P(symbol yields n words) follows from the same probabilities of the parts of its rules; every
    part has at least one word and no rule is left-recursive, so the recursion ends. All values are
    remembered.
    """

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        self._lengths: dict[Expansion, dict[int, float]] = {}
        self._tails: dict[int, float] = {}
        self._splits: dict[int, list[float]] = {}
        self._choices: dict[Expansion, dict[int, list[float]]] = {}
        self._spans: dict[Expansion, tuple[int, float]] = {}
        self._tail_spans: dict[Rule, list[tuple[int, float]]] = {}
        self._starts: dict[tuple, tuple[list[str], list[float]]] = {}

    def prob(self, symbol: str, n_words: int) -> float:
        """P(a string of the symbol has exactly n words)."""
        return self._prob(self.grammar.expansions[symbol], n_words)

    def start(
        self, n_words: int, register: str | None, topic: str | None, rng: random.Random
    ) -> str | None:
        """A sentence symbol, drawn as often as the text has its sentences of n words; None if none."""
        key = (n_words, register, topic)
        if key not in self._starts:
            symbols, weights = [], []
            for symbol, count in self.grammar.expected_counts.items():
                kind, _, features = symbol.partition("[")
                written_in = REGISTER_OF.get(kind)
                if written_in is None or register not in (None, written_in):
                    continue
                if topic is not None and topic not in features[:-1].split(","):
                    continue
                prob = self.prob(symbol, n_words)
                if prob > 0:
                    symbols.append(symbol)
                    weights.append(count * prob)
            self._starts[key] = (symbols, list(accumulate(weights)))
        symbols, cumulative = self._starts[key]
        return symbols[_pick(cumulative, rng)] if symbols else None

    def sample(self, symbol: str, n_words: int, rng: random.Random) -> Tree:
        """A derivation of the symbol with exactly n words.

        Raises:
            TownError: the symbol has no string of that length.
        """
        expansion = self.grammar.expansions[symbol]
        if self._prob(expansion, n_words) == 0:
            raise TownError(f"{symbol} has no sentence of {n_words} words; ask for another length")
        return self._grow(expansion, n_words, rng)

    def _grow(self, expansion: Expansion, n: int, rng: random.Random) -> Tree:
        known = self._choices.setdefault(expansion, {})
        cumulative = known.get(n)
        if cumulative is None:
            weights = (rule.prob * self._tail(rule, 0, n) for rule in expansion.rules)
            cumulative = known[n] = list(accumulate(weights))
        rule = expansion.rules[_pick(cumulative, rng)]
        children: list[Tree | Leaf] = []
        last = len(rule.parts) - 1
        for place, part in enumerate(rule.parts):
            if isinstance(part, Leaf):
                children.append(part)
                n -= 1
                continue
            size = n if place == last else self._split(rule, place, n, rng)
            if part.leaves is not None:
                children.append(part.leaves[bisect_right(part.cumulative, rng.random())])
            else:
                children.append(self._grow(part, size, rng))
            n -= size
        return Tree(rule, tuple(children))

    def _split(self, rule: Rule, place: int, n: int, rng: random.Random) -> int:
        """How many of n words go to a part, given that all later parts share the rest."""
        sizes = self._sizes(rule, place, n)
        if len(sizes) == 1:
            return sizes[0]
        key = _key(rule, place, n)
        cumulative = self._splits.get(key)
        if cumulative is None:
            part = rule.parts[place]
            weights = (
                self._prob(part, size) * self._tail(rule, place + 1, n - size) for size in sizes
            )
            cumulative = self._splits[key] = list(accumulate(weights))
        return sizes[_pick(cumulative, rng)]

    def _prob(self, expansion: Expansion, n: int) -> float:
        shortest, longest = self._span(expansion)
        if not shortest <= n <= longest:
            return 0.0
        if shortest == longest:
            return 1.0
        known = self._lengths.setdefault(expansion, {})
        found = known.get(n)
        if found is None:
            found = known[n] = sum(r.prob * self._tail(r, 0, n) for r in expansion.rules)
        return found

    def _tail(self, rule: Rule, place: int, n: int) -> float:
        """P(the parts of a rule from `place` on have n words together)."""
        spans = self._tail_spans.get(rule)
        if spans is None:
            spans = self._tail_spans[rule] = self._spans_of_tails(rule)
        shortest, longest = spans[place]
        if not shortest <= n <= longest:
            return 0.0
        if shortest == longest:
            return 1.0
        first = rule.parts[place]
        if place == len(rule.parts) - 1:
            return self._prob(first, n)
        if isinstance(first, Leaf):
            return self._tail(rule, place + 1, n - 1)
        key = _key(rule, place, n)
        found = self._tails.get(key)
        if found is None:
            found = self._tails[key] = sum(
                self._prob(first, size) * self._tail(rule, place + 1, n - size)
                for size in self._sizes(rule, place, n)
            )
        return found

    def _sizes(self, rule: Rule, place: int, n: int) -> range:
        """The lengths that a part can have when all later parts share the rest of n words."""
        shortest, longest = self._span(rule.parts[place])
        rest_shortest, rest_longest = self._tail_spans[rule][place + 1]
        return range(int(max(shortest, n - rest_longest)), int(min(longest, n - rest_shortest)) + 1)

    def _spans_of_tails(self, rule: Rule) -> list[tuple[int, float]]:
        """Shortest and longest length of the parts from each place on."""
        spans: list[tuple[int, float]] = [(0, 0.0)]
        for part in reversed(rule.parts):
            shortest, longest = self._span(part)
            spans.append((spans[-1][0] + shortest, spans[-1][1] + longest))
        return spans[:0:-1]

    def _span(self, part: Expansion | Leaf) -> tuple[int, float]:
        """Bounds of the length of a symbol's strings; what recurs has no upper bound."""
        if isinstance(part, Leaf) or part.leaves is not None:
            return 1, 1.0
        span = self._spans.get(part)
        if span is None:
            self._spans[part] = (1, math.inf)  # what recursion meets
            tails = [self._spans_of_tails(rule)[0] for rule in part.rules]
            span = self._spans[part] = (min(t[0] for t in tails), max(t[1] for t in tails))
        return span


def sentences_of_length(
    town: Town,
    seed: int,
    min_words: int,
    max_words: int,
    register: str | None = None,
    topic: str | None = None,
) -> Iterator[Sentence]:
    """Sentences without end whose lengths are uniform over those that exist in the range.

    Given its length, a sentence is drawn as the town's text draws it. Items of list documents are
    left out. See `Town.sentences_of_length` for the arguments.
    """
    sampler = town.length_sampler
    rng = random.Random(seed)
    lengths = [
        n for n in range(max(1, min_words), max_words + 1)
        if sampler.start(n, register, topic, rng) is not None
    ]  # fmt: skip
    if not lengths:
        raise TownError(
            f"no sentence has {min_words} to {max_words} words; the shortest has 4 "
            "(punctuation counts), so ask for a range that includes more"
        )
    while True:
        length = lengths[int(rng.random() * len(lengths))]
        symbol = sampler.start(length, register, topic, rng) or ""
        tree = sampler.sample(symbol, length, rng)
        yield town.annotate(tree, REGISTER_OF[symbol.partition("[")[0]])


def _key(rule: Rule, place: int, n: int) -> int:
    """An integer, since very many tuples would keep the garbage collector busy."""
    return (rule.index * 16 + place) * 65_536 + n


def _pick(cumulative: list[float], rng: random.Random) -> int:
    return min(bisect_right(cumulative, rng.random() * cumulative[-1]), len(cumulative) - 1)
