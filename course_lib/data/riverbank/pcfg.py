"""Probabilistic context-free grammars: sampling annotated trees, exact string probabilities, parses.

The engine knows nothing of the town. A grammar maps each nonterminal (a string) to weighted rules;
a rule's right-hand side mixes nonterminals with leaves (words with their annotation). Exact string
probabilities come from a left-to-right forward pass over the *stacks* of leftmost derivations
(Jelinek & Lafferty 1991 compute the same prefix probabilities with a chart): the grammar has no
left recursion and no empty rule, so each next word has finitely many derivations.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Word(NamedTuple):
    """A word form with everything that is known about it.

    Attributes:
        form: the surface token.
        lemma: the dictionary form.
        tag: Universal Dependencies part of speech (UPOS).
        feats: UD morphological features, as sorted (name, value) pairs.
        sense: sense key such as "bank.river", or None for a word with one sense.
        entity: BIO entity tag, "O" outside.
    """

    form: str
    lemma: str
    tag: str
    feats: tuple[tuple[str, str], ...] = ()
    sense: str | None = None
    entity: str = "O"


class Leaf(NamedTuple):
    """A word as it stands in a rule: the preterminal that chose it and the choice's log-probability."""

    symbol: str
    word: Word
    log_prob: float = 0.0


class Tree(NamedTuple):
    """A derivation: the rule applied, and one child (Tree or Leaf) per right-hand symbol."""

    rule: Rule
    children: tuple[Tree | Leaf, ...]

    @property
    def symbol(self) -> str:
        """The nonterminal at the root, with its features: "VP[court,past,m]"."""
        return self.rule.lhs

    def leaves(self) -> Iterator[Leaf]:
        """The leaves from left to right."""
        for child in self.children:
            if isinstance(child, Leaf):
                yield child
            else:
                yield from child.leaves()

    def subtrees(self) -> Iterator[Tree]:
        """This tree and all trees below it, top down, left to right."""
        yield self
        for child in self.children:
            if isinstance(child, Tree):
                yield from child.subtrees()

    @property
    def log_prob(self) -> float:
        """Natural log of the derivation's probability, given its root symbol."""
        lhs = self.rule.lhs  # a leaf that this very rule wrote has its probability in the rule
        below = (c.log_prob for c in self.children if not (isinstance(c, Leaf) and c.symbol == lhs))
        return self.rule.log_prob + sum(below)


class Rule:
    """lhs -> parts, with its probability, its head child and the other children's dependency labels.

    `parts` holds leaves and expansions (the compiled nonterminals); `labels[i]` is None for the head.
    `tail` is all parts but the first, with word forms in place of leaves.
    """

    __slots__ = ("head", "index", "labels", "lhs", "log_prob", "parts", "prob", "tail")

    def __init__(
        self, lhs: str, parts: tuple, labels: tuple[str | None, ...], prob: float, index: int
    ):
        self.lhs, self.parts, self.labels, self.prob, self.index = lhs, parts, labels, prob, index
        self.tail = tuple(p.word.form if p.__class__ is Leaf else p for p in parts[1:])
        self.head = labels.index(None)
        self.log_prob = math.log(prob)

    @property
    def rhs(self) -> tuple[str, ...]:
        """Right-hand side as symbols; words stand in double quotes."""
        return tuple(f'"{p.word.form}"' if isinstance(p, Leaf) else p.symbol for p in self.parts)

    def __repr__(self) -> str:
        return f"{self.lhs} -> {' '.join(self.rhs)}"


class Expansion:
    """A nonterminal compiled for speed: its rules with cumulative probabilities, and memo tables."""

    __slots__ = (
        "_first_words",
        "_next_words",
        "_steps",
        "cumulative",
        "leaves",
        "rules",
        "symbol",
        "unfolded",
    )

    def __init__(self, symbol: str, unfolded: bool = False):
        self.symbol = symbol
        self.unfolded = unfolded  # nothing about it is remembered: its rules are tried each time
        self.rules: tuple[Rule, ...] = ()
        self.leaves: tuple[Leaf, ...] | None = None  # set when every rule is one word
        self.cumulative: list[float] = []
        self._first_words: frozenset[str] | None = None
        self._next_words: dict[str, float] | None = None
        self._steps: dict[str, Step] = {}

    def __repr__(self) -> str:
        return self.symbol

    def can_begin(self, form: str) -> bool:
        """Whether a string of this symbol can begin with the word `form`."""
        if self.unfolded:
            return any(_begins(rule.parts[0], form) for rule in self.rules)
        return form in self.first_words()

    def first_words(self) -> frozenset[str]:
        """Every word that a string of this symbol can begin with."""
        if self._first_words is None:
            self._first_words = frozenset(self.next_words())
        return self._first_words

    def next_words(self) -> dict[str, float]:
        """Distribution of the first word of a string of this symbol."""
        if self._next_words is not None:
            return self._next_words
        words: dict[str, float] = {}
        for rule in self.rules:
            first = rule.parts[0]
            if isinstance(first, Leaf):
                words[first.word.form] = words.get(first.word.form, 0.0) + rule.prob
            else:
                for form, prob in first.next_words().items():
                    words[form] = words.get(form, 0.0) + rule.prob * prob
        if not self.unfolded:
            self._next_words = words
        return words

    def step(self, form: str) -> Step:
        """All ways to begin with the word `form`."""
        found = self._steps.get(form)
        if found is None:
            ways: dict[tuple, float] = {}
            for rule in self.rules:
                first = rule.parts[0]
                tail = rule.tail
                if isinstance(first, Leaf):
                    if first.word.form == form:
                        ways[tail] = ways.get(tail, 0.0) + rule.prob
                elif form in first.first_words():
                    for _, group in first.step(form).groups:
                        for suffix, prob in group:
                            key = suffix + tail
                            ways[key] = ways.get(key, 0.0) + rule.prob * prob
            groups: dict[Expansion | str | None, list[tuple[tuple, float]]] = {}
            for suffix, prob in ways.items():
                groups.setdefault(suffix[0] if suffix else None, []).append((suffix, prob))
            found = self._steps[form] = Step(math.fsum(ways.values()), list(groups.items()))
        return found


def _begins(part: Leaf | Expansion, form: str) -> bool:
    return part.word.form == form if isinstance(part, Leaf) else part.can_begin(form)


class Step(NamedTuple):
    """The ways in which a symbol begins with one word.

    Attributes:
        prob: their total probability.
        groups: (first symbol of what must follow, [(what must follow, probability), ...]) pairs;
            the first symbol is None where nothing must follow.
    """

    prob: float
    groups: list[tuple[Expansion | str | None, list[tuple[tuple, float]]]]


class Alternative(NamedTuple):
    """One uncompiled right-hand side: symbols or Words, dependency labels (None = head), weight."""

    parts: tuple[str | Word, ...]
    labels: tuple[str | None, ...]
    weight: float


class GrammarError(ValueError):
    """A grammar that cannot be used, with the symbol that is at fault."""


class Parse(NamedTuple):
    """What sampling or parsing a sentence yields: tree, leaves, heads (1-based, 0 = root), labels."""

    tree: Tree
    leaves: list[Leaf]
    heads: list[int]
    labels: list[str]


def annotate(tree: Tree) -> Parse:
    """Leaves, heads and labels of a derivation."""
    leaves: list[Leaf] = []
    heads: list[int] = []
    labels: list[str] = []

    def walk(node: Tree) -> int:
        positions = []
        for child in node.children:
            if isinstance(child, Tree):
                positions.append(walk(child))
            else:
                leaves.append(child)
                heads.append(0)
                labels.append("root")
                positions.append(len(leaves))
        head = positions[node.rule.head]
        for position, label in zip(positions, node.rule.labels):
            if label is not None:
                heads[position - 1], labels[position - 1] = head, label
        return head

    walk(tree)
    return Parse(tree, leaves, heads, labels)


class Grammar:
    """A proper probabilistic context-free grammar without empty rules or left recursion.

    Args:
        rules: nonterminal -> alternatives. A string part that is no key is an error.
        start: the start symbol.
        unfold: tells which symbols the forward pass must not tabulate. Tables make it fast; for
            very many symbols that are nearly alike (the latent states of a document) they would
            be large. What begins with such a symbol is not tabulated either.

    Raises:
        GrammarError: an undefined symbol, an empty alternative, a weight that is not positive, left
            recursion, or recursion so frequent that derivations need not end.
    """

    def __init__(
        self,
        rules: Mapping[str, Sequence[Alternative]],
        start: str,
        unfold: Callable[[str], bool] = lambda symbol: False,
    ):
        if start not in rules:
            raise GrammarError(f"the start symbol {start!r} has no rule; add one")
        self.start = start
        self.expansions = {symbol: Expansion(symbol, unfold(symbol)) for symbol in rules}
        index = 0
        for symbol, alternatives in rules.items():
            index = self._compile(symbol, alternatives, index)
        self.n_rules = index
        self._check_left_recursion()

    def _compile(self, symbol: str, alternatives: Sequence[Alternative], index: int) -> int:
        if not alternatives:
            raise GrammarError(f"{symbol} has no alternative; give it a rule")
        if any(a.weight <= 0 or not a.parts for a in alternatives):
            raise GrammarError(f"{symbol}: every alternative needs a positive weight and a part")
        total = sum(a.weight for a in alternatives)
        expansion = self.expansions[symbol]
        compiled, running = [], 0.0
        for alternative in alternatives:
            prob = alternative.weight / total
            parts: list[Leaf | Expansion] = []
            for part in alternative.parts:
                if isinstance(part, Word):
                    log_prob = math.log(prob) if len(alternative.parts) == 1 else 0.0
                    parts.append(Leaf(symbol, part, log_prob))
                elif part in self.expansions:
                    parts.append(self.expansions[part])
                else:
                    raise GrammarError(f"{symbol} uses {part}, which has no rule; define it")
            compiled.append(Rule(symbol, tuple(parts), alternative.labels, prob, index))
            running += prob
            expansion.cumulative.append(running)
            index += 1
        expansion.cumulative[-1] = 1.0
        expansion.rules = tuple(compiled)
        if all(len(r.parts) == 1 and isinstance(r.parts[0], Leaf) for r in compiled):
            expansion.leaves = tuple(r.parts[0] for r in compiled)
        return index

    def _check_left_recursion(self) -> None:
        done: set[str] = set()
        for symbol in self.expansions:
            path: list[Expansion] = []
            self._visit(self.expansions[symbol], path, done)

    def _visit(self, expansion: Expansion, path: list[Expansion], done: set[str]) -> None:
        if expansion.symbol in done:
            return
        if expansion in path:
            raise GrammarError(
                f"left recursion through {expansion.symbol}; rewrite it to the right"
            )
        path.append(expansion)
        for rule in expansion.rules:
            if isinstance(rule.parts[0], Expansion):
                self._visit(rule.parts[0], path, done)
                expansion.unfolded |= rule.parts[0].unfolded
        path.pop()
        done.add(expansion.symbol)

    # ------------------------------------------------------------------ sampling

    def choose(self, symbol: str, rng: random.Random) -> Rule:
        """Draws one rule of a symbol."""
        expansion = self.expansions[symbol]
        return expansion.rules[bisect_right(expansion.cumulative, rng.random())]

    def sample(self, symbol: str, rng: random.Random) -> Parse:
        """Draws a derivation of `symbol` with its words and dependencies."""
        leaves: list[Leaf] = []
        heads: list[int] = []
        labels: list[str] = []
        random_ = rng.random

        def grow(expansion: Expansion) -> tuple[Tree, int]:
            rule = expansion.rules[bisect_right(expansion.cumulative, random_())]
            children: list = []
            positions: list[int] = []
            for part in rule.parts:
                if part.__class__ is not Leaf:
                    if part.leaves is None:
                        part, position = grow(part)
                        children.append(part)
                        positions.append(position)
                        continue
                    part = part.leaves[bisect_right(part.cumulative, random_())]
                children.append(part)
                leaves.append(part)
                heads.append(0)
                labels.append("root")
                positions.append(len(leaves))
            head = positions[rule.head]
            if len(positions) > 1:
                for position, label in zip(positions, rule.labels):
                    if label is not None:
                        heads[position - 1] = head
                        labels[position - 1] = label
            return Tree(rule, tuple(children)), head

        tree, _ = grow(self.expansions[symbol])
        return Parse(tree, leaves, heads, labels)

    # ------------------------------------------------------------------ exact probabilities

    def forward(self, symbol: str | None = None) -> Forward:
        """A fresh forward pass over strings of `symbol` (default: the start symbol)."""
        return Forward(self.expansions[symbol or self.start])

    def token_log_probs(self, tokens: Iterable[str], symbol: str | None = None) -> list[float]:
        """log P(token | tokens before it), in nats, summed over derivations; -inf once impossible."""
        return self._read(list(tokens), symbol)[0]

    def log_prob(self, tokens: Iterable[str], symbol: str | None = None) -> float:
        """log P(the whole string), in nats, summed over derivations; -inf outside the language."""
        log_probs, state = self._read(list(tokens), symbol)
        return math.fsum(log_probs) + state.log_prob_complete()

    def _read(self, tokens: list[str], symbol: str | None) -> tuple[list[float], Forward]:
        state = self.forward(symbol)
        following = [*tokens[1:], None]
        return [state.advance(token, after) for token, after in zip(tokens, following)], state

    def parses(
        self, tokens: Sequence[str], symbol: str | None = None, limit: int = 1000
    ) -> list[Tree]:
        """Every derivation of the string, most probable first (at most `limit` per span are kept)."""
        tokens = list(tokens)
        memo: dict[tuple[str, int], dict[int, list[Tree]]] = {}

        def trees(expansion: Expansion, start: int) -> dict[int, list[Tree]]:
            key = (expansion.symbol, start)
            if key not in memo:
                found: dict[int, list[Tree]] = {}
                memo[key] = found
                for rule in expansion.rules:
                    for end, children in sequences(rule.parts, start):
                        found.setdefault(end, []).append(Tree(rule, children))
                for options in found.values():
                    options.sort(key=lambda tree: -tree.log_prob)
                    del options[limit:]
            return memo[key]

        def sequences(parts: tuple, start: int) -> Iterator[tuple[int, tuple]]:
            if not parts:
                yield start, ()
                return
            first = parts[0]
            if start >= len(tokens):
                return
            options: dict[int, list]
            if isinstance(first, Leaf):
                options = {start + 1: [first]} if first.word.form == tokens[start] else {}
            elif not first.can_begin(tokens[start]):
                return
            elif first.leaves is not None:
                same = [leaf for leaf in first.leaves if leaf.word.form == tokens[start]]
                options = {start + 1: same}
            else:
                options = trees(first, start)
            for middle, firsts in options.items():
                for end, rest in sequences(parts[1:], middle):
                    for child in firsts:
                        yield end, (child, *rest)

        return trees(self.expansions[symbol or self.start], 0).get(len(tokens), [])

    # ------------------------------------------------------------------ exact expectations

    @cached_property
    def expected_counts(self) -> dict[str, float]:
        """Expected number of times each nonterminal is expanded in one string of the start symbol.

        Raises:
            GrammarError: the expectation is not finite, so derivations need not end.
        """
        order = self._topological_order()
        rank = {symbol: place for place, symbol in enumerate(order)}
        children = []  # rank -> {child's rank: expected number in one expansion}
        for symbol in order:
            numbers: dict[int, float] = {}
            for rule in self.expansions[symbol].rules:
                for part in rule.parts:
                    if part.__class__ is not Leaf:
                        child = rank[part.symbol]
                        numbers[child] = numbers.get(child, 0.0) + rule.prob
            children.append(numbers)
        counts = [0.0] * len(order)
        pending = [0.0] * len(order)
        pending[rank[self.start]] = 1.0
        for _ in range(200):  # one pass does everything but recursion, which goes on to the next
            for place, numbers in enumerate(children):
                mass, pending[place] = pending[place], 0.0
                again = numbers.get(place, 0.0)  # direct recursion: a geometric series
                if again >= 1.0:
                    raise GrammarError(f"{order[place]} recurs too often: derivations need not end")
                if mass:
                    mass /= 1.0 - again
                    counts[place] += mass
                    for child, number in numbers.items():
                        if child != place:
                            pending[child] += mass * number
            if sum(pending) < 1e-9:
                return dict(zip(order, counts))
        raise GrammarError("the grammar's recursion is too frequent: derivations need not end")

    def _topological_order(self) -> list[str]:
        """Reachable symbols, users before used (as far as recursion allows)."""
        done: list[str] = []
        seen = {self.start}
        pending: list[tuple[Expansion, Iterator]] = []

        def below(expansion: Expansion) -> Iterator[Expansion]:
            return (p for rule in expansion.rules for p in rule.parts if p.__class__ is not Leaf)

        pending.append((self.expansions[self.start], below(self.expansions[self.start])))
        while pending:
            expansion, children = pending[-1]
            child = next((c for c in children if c.symbol not in seen), None)
            if child is None:
                done.append(expansion.symbol)
                pending.pop()
            else:
                seen.add(child.symbol)
                pending.append((child, below(child)))
        return done[::-1]

    def expected_words(self) -> dict[str, float]:
        """Expected number of occurrences of each word form in one string of the start symbol."""
        words: dict[str, float] = {}
        for symbol, count in self.expected_counts.items():
            for rule in self.expansions[symbol].rules:
                for part in rule.parts:
                    if isinstance(part, Leaf):
                        form = part.word.form
                        words[form] = words.get(form, 0.0) + count * rule.prob
        return words

    def derivation_entropy(self) -> float:
        """Entropy of a derivation in nats: expected rule choices times the entropy of each choice.

        It equals the entropy of the strings when no string has two derivations (Grenander 1967).
        """
        return sum(
            -count * sum(rule.prob * rule.log_prob for rule in self.expansions[symbol].rules)
            for symbol, count in self.expected_counts.items()
        )


def _can_begin(symbol: Expansion | str | None, form: str) -> bool:
    """Whether a string of `symbol` can begin with `form`; None stands for an unknown symbol."""
    if symbol is None:
        return True
    return symbol == form if isinstance(symbol, str) else symbol.can_begin(form)


class _Stack:
    """A hash-consed linked list of pending symbols: equal stacks are the same object."""

    __slots__ = ("rest", "top")

    def __init__(self, top: Expansion | str, rest: _Stack | None):
        self.top, self.rest = top, rest


@dataclass
class Forward:
    """The forward pass: P(stack | words so far) for every stack of a leftmost derivation.

    Probabilities are renormalised at each word, so long documents do not underflow.
    """

    symbol: Expansion

    def __post_init__(self) -> None:
        self._interned: dict[tuple, _Stack] = {}
        self.stacks: dict[_Stack | None, float] = {self._push(self.symbol, None): 1.0}

    def _push(self, top: Expansion | str, rest: _Stack | None) -> _Stack:
        key = (top, rest)
        stack = self._interned.get(key)
        if stack is None:
            stack = self._interned[key] = _Stack(top, rest)
        return stack

    def advance(self, form: str, following: str | None = None) -> float:
        """Reads one word and returns its log-probability given the words before it, in nats.

        Args:
            form: the word.
            following: the word that will be read next, if known: only stacks that can go on with
                it are then kept, which is much faster. Their probabilities stay exact.
        """
        after: dict[_Stack | None, float] = {}
        total = 0.0
        for stack, prob in self.stacks.items():
            if stack is None:
                continue
            top, rest = stack.top, stack.rest
            if isinstance(top, str):
                if top == form:
                    total += prob
                    after[rest] = after.get(rest, 0.0) + prob
                continue
            total += self._expand(top, rest, prob, form, following, after)
        if total == 0.0:
            self.stacks = {}
            return -math.inf
        self.stacks = {stack: prob / total for stack, prob in after.items()}
        return math.log(total)

    def _expand(
        self,
        top: Expansion,
        rest: _Stack | None,
        prob: float,
        form: str,
        following: str | None,
        after: dict[_Stack | None, float],
    ) -> float:
        """Adds to `after` what `top` leaves on `rest` once `form` is read; returns all its mass."""
        if not top.can_begin(form):
            return 0.0
        if top.unfolded:
            total = 0.0
            for rule in top.rules:
                first, pending = rule.parts[0], rest
                if not _begins(first, form):
                    continue
                for symbol in reversed(rule.tail):
                    pending = self._push(symbol, pending)
                if first.__class__ is Leaf:
                    total += prob * rule.prob
                    after[pending] = after.get(pending, 0.0) + prob * rule.prob
                else:
                    share = prob * rule.prob
                    total += self._expand(first, pending, share, form, following, after)
            return total
        step = top.step(form)
        for first, ways in step.groups:
            if following is None or _can_begin(first, following):
                for suffix, weight in ways:
                    pending = rest
                    for symbol in reversed(suffix):
                        pending = self._push(symbol, pending)
                    after[pending] = after.get(pending, 0.0) + prob * weight
        return prob * step.prob

    def log_prob_complete(self) -> float:
        """log P(the string ends here | the words read), in nats."""
        done = self.stacks.get(None, 0.0)
        return math.log(done) if done else -math.inf

    def next_words(self) -> dict[str, float]:
        """Exact distribution of the next word given that the string goes on."""
        words: dict[str, float] = {}
        for stack, prob in self.stacks.items():
            if stack is None:
                continue
            if isinstance(stack.top, str):
                words[stack.top] = words.get(stack.top, 0.0) + prob
            else:
                for form, weight in stack.top.next_words().items():
                    words[form] = words.get(form, 0.0) + prob * weight
        return words
