"""Riverbank itself: the town with its documents, their annotation, exact probabilities and facts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice

from course_lib.data.riverbank.canaries import Canary, plant
from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.evaluation import (
    Analogy,
    Bias,
    analogies,
    biases,
    readings,
    similarities,
)
from course_lib.data.riverbank.facts import Fact, Person, make_facts, make_people
from course_lib.data.riverbank.fewshot import FewShot, few_shot
from course_lib.data.riverbank.grammar import END, SENTENCE_PREFIX, FactPhrasing, TownGrammar
from course_lib.data.riverbank.instructions import (
    Instruction,
    Workshop,
    draw_instructions,
    word_pairs,
)
from course_lib.data.riverbank.lengths import LengthSampler, sentences_of_length
from course_lib.data.riverbank.lexicon import Lexicon
from course_lib.data.riverbank.pcfg import Forward, Grammar, Leaf, Parse, Rule, Tree, Word, annotate
from course_lib.data.riverbank.preferences import (
    Annotator,
    Comparison,
    GoldReward,
    Judge,
    PreferencePair,
    iter_comparisons,
)
from course_lib.data.riverbank.questions import Question, make_questions
from course_lib.data.riverbank.tovian import Tovian, Translation

TOWN_SEED = 20
REGISTERS = ("story", "child", "manual", "dialogue")


def tokenise(text: str) -> list[str]:
    """Splits a text of the town into tokens; the inverse of `detokenise`."""
    return text.split()


def detokenise(tokens: Iterable[str]) -> str:
    """Joins tokens by single spaces: the one surface form of a text."""
    return " ".join(tokens)


class Sentence:
    """One sentence with its gold annotation; all lists have one entry a token.

    Attributes:
        tree: the derivation (symbols carry features, leaves carry words).
        leaves: the tree's leaves; `leaf.word` holds lemma, tag, feats, sense and entity.
        heads: 1-based index of each token's head, 0 for the root.
        labels: Universal Dependencies relation to the head, "root" for the root.
        register: "story", "child", "manual" or "dialogue".
        facts: the town's facts that the sentence states.
    """

    __slots__ = ("_facts_of_rules", "heads", "labels", "leaves", "register", "tree")

    def __init__(self, parse: Parse, register: str, facts_of_rules: dict[str, Fact]):
        self.tree, self.leaves, self.heads, self.labels = parse
        self.register = register
        self._facts_of_rules = facts_of_rules

    @property
    def tokens(self) -> list[str]:
        """The surface tokens, lower case; punctuation stands alone."""
        return [leaf.word.form for leaf in self.leaves]

    @property
    def text(self) -> str:
        """The tokens joined by single spaces."""
        return " ".join([leaf.word.form for leaf in self.leaves])

    @property
    def lemmas(self) -> list[str]:
        """Dictionary forms."""
        return [leaf.word.lemma for leaf in self.leaves]

    @property
    def tags(self) -> list[str]:
        """Universal Dependencies parts of speech."""
        return [leaf.word.tag for leaf in self.leaves]

    @property
    def entities(self) -> list[str]:
        """BIO entity tags: PER, LOC, ORG, DAY."""
        return [leaf.word.entity for leaf in self.leaves]

    @property
    def senses(self) -> list[str | None]:
        """Sense keys ("bank.river") of words that have several senses, else None."""
        return [leaf.word.sense for leaf in self.leaves]

    @property
    def facts(self) -> list[Fact]:
        """The facts that the sentence states."""
        return _facts_in(self.tree, self._facts_of_rules)

    @property
    def log_prob(self) -> float:
        """Log-probability (nats) of this derivation given its root symbol; not that of the string."""
        return self.tree.log_prob

    def __repr__(self) -> str:
        return f"Sentence({self.text!r})"


def _facts_in(tree: Tree, facts_of_symbols: dict[str, Fact]) -> list[Fact]:
    found: list[Fact] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        symbol = node.rule.lhs
        if symbol.startswith("Fact["):
            found.append(facts_of_symbols[symbol])
        else:
            pending += [child for child in node.children if child.__class__ is Tree]
    return found


@dataclass(frozen=True)
class Document:
    """A text of one register, most of them about one protagonist (who is a latent of the grammar).

    Attributes:
        sentences: its sentences in order.
        register: "story", "child", "manual" or "dialogue".
        protagonist: name of the person it is about; None for a manual.
        topic: the town's topic it stays near; None for a list document.
        log_prob: log-probability (nats) of its derivation; `Town.log_prob` sums over derivations.
    """

    sentences: tuple[Sentence, ...]
    register: str
    protagonist: str | None
    topic: str | None
    log_prob: float = field(compare=False)

    @property
    def tokens(self) -> list[str]:
        """All tokens; the end of the document is not among them."""
        return [token for sentence in self.sentences for token in sentence.tokens]

    @property
    def text(self) -> str:
        """The document's one surface form: tokens joined by single spaces."""
        return " ".join([sentence.text for sentence in self.sentences])


@dataclass(frozen=True)
class Entropy:
    """A Monte-Carlo estimate of the entropy of whole documents (a ratio estimate over documents).

    The end of a document counts as one character and one word (think of the line break).
    """

    bits_per_char: float
    standard_error: float
    bits_per_word: float
    n_chars: int
    n_documents: int


@lru_cache(maxsize=4)
def _inhabitants(town_seed: int) -> tuple[Lexicon, list[Person], list[Fact]]:
    lexicon, rng = Lexicon(), random.Random(town_seed)
    people = make_people(lexicon, rng)
    return lexicon, people, make_facts(lexicon, people, rng)


@lru_cache(maxsize=4)
def _grammar(town_seed: int) -> Grammar:
    return TownGrammar(*_inhabitants(town_seed), town_seed).build()


@lru_cache(maxsize=4)
def _length_sampler(town_seed: int) -> LengthSampler:
    return LengthSampler(_grammar(town_seed))


@lru_cache(maxsize=4)
def _tovian(town_seed: int) -> Tovian:
    found = readings(_grammar(town_seed))
    return Tovian((word for words in found.values() for word in words), town_seed)


class Town:
    """Riverbank. `town_seed` fixes people, facts and word ranks; the methods' `seed` varies samples."""

    def __init__(self, town_seed: int = TOWN_SEED):
        self.town_seed = town_seed
        self.lexicon: Lexicon
        self.people: list[Person]
        self.facts: list[Fact]
        self.lexicon, self.people, self.facts = _inhabitants(town_seed)
        self._facts_of_symbols = {
            f"Fact[{mode},{fact.relation},{fact.subject},{fact.object},{agreement}]": fact
            for fact in self.facts
            for mode in ("name", "pron", "i")
            for agreement in "mfni"
        }

    @cached_property
    def grammar(self) -> Grammar:
        """The compiled grammar of whole documents; a document's last symbol is END."""
        return _grammar(self.town_seed)

    # ------------------------------------------------------------------ samples

    def iter_documents(self, seed: int = 0, register: str | None = None) -> Iterator[Document]:
        """Documents without end; the n-th is the same however many are asked for.

        Args:
            seed: varies the sample.
            register: draw from this register alone ("story", "child", "manual", "dialogue").

        Raises:
            TownError: an unknown register.
        """
        if register is not None and register not in REGISTERS:
            raise TownError(f"no register {register!r}; choose one of {', '.join(REGISTERS)}")
        rng = random.Random(seed)
        while True:
            yield self._sample_document(rng, f"Doc[{register}]" if register else "Doc")

    def documents(self, n: int, seed: int = 0, register: str | None = None) -> list[Document]:
        """The first n documents of `iter_documents`."""
        return list(islice(self.iter_documents(seed, register), n))

    def sentences(self, n: int, seed: int = 0, register: str | None = None) -> list[Sentence]:
        """The first n sentences of those documents."""
        documents = self.iter_documents(seed, register)
        return list(islice((s for document in documents for s in document.sentences), n))

    def _sample_document(self, rng: random.Random, start: str) -> Document:
        grammar = self.grammar
        sentences: list[Sentence] = []
        register, protagonist, topic, log_prob = "", None, None, 0.0
        pending = [start]
        while pending:
            symbol = pending.pop()
            if symbol.startswith(SENTENCE_PREFIX):
                parse = grammar.sample(symbol, rng)
                log_prob += parse.tree.log_prob
                sentences.append(Sentence(parse, register, self._facts_of_symbols))
                continue
            rule: Rule = grammar.choose(symbol, rng)
            log_prob += rule.log_prob
            if symbol.startswith("Doc["):
                register = symbol[4:-1]
            elif symbol.startswith(("Story[", "Child[", "Dialogue[")):
                protagonist, topic, _ = symbol.partition("[")[2][:-1].split(",")
            elif symbol.startswith("Manual["):
                topic = symbol[7:-1]
            pending += [p.symbol for p in reversed(rule.parts) if p.__class__ is not Leaf]
        return Document(tuple(sentences), register, protagonist, topic, log_prob)

    # ------------------------------------------------------------------ exact probabilities

    def token_log_probs(self, document: Document | str | Sequence[str]) -> list[float]:
        """log P(token | all tokens before it) for every token and then for the end, in nats.

        Exact: summed over all derivations, latent register, topic and protagonist included. From
        the first token that the language does not allow, every entry is -inf.
        """
        return self.grammar.token_log_probs([*_tokens(document), END])

    def log_prob(self, document: Document | str | Sequence[str]) -> float:
        """log P(the whole document as a string, its end included), in nats; -inf if impossible."""
        return self.grammar.log_prob([*_tokens(document), END])

    def prefix_log_prob(self, prefix: str | Sequence[str]) -> float:
        """log P(a document begins with these tokens), in nats; -inf if none does."""
        return math.fsum(self.grammar.token_log_probs(_tokens(prefix)))

    def next_word(self, prefix: str | Sequence[str] = ()) -> dict[str, float]:
        """Exact distribution of the token after `prefix`; END ("<end>") means the document ends.

        Raises:
            TownError: no document of the town begins with `prefix`.
        """
        return self.forward(prefix).next_words()

    def forward(self, prefix: str | Sequence[str] = ()) -> Forward:
        """The forward pass after `prefix`, ready to `advance` word by word.

        Raises:
            TownError: no document of the town begins with `prefix`.
        """
        state = self.grammar.forward()
        tokens = _tokens(prefix)
        following = [*tokens[1:], None]
        for number, (token, after) in enumerate(zip(tokens, following)):
            if state.advance(token, after) == -math.inf:
                before = detokenise(tokens[max(0, number - 5) : number]) or "the start"
                raise TownError(
                    f"no text of Riverbank goes on with {token!r} (token {number + 1}) after "
                    f"{before!r}; give the beginning of a document"
                )
        return state

    def entropy(self, n_documents: int = 200, seed: int = 0) -> Entropy:
        """Estimates the exact entropy of documents from the exact probabilities of a sample.

        Raises:
            TownError: fewer than two documents.
        """
        if n_documents < 2:
            raise TownError("the entropy's standard error needs at least 2 documents")
        documents = self.documents(n_documents, seed)
        bits = [-self.log_prob(document) / math.log(2) for document in documents]
        chars = [len(document.text) + 1 for document in documents]
        words = sum(len(document.tokens) + 1 for document in documents)
        rate = sum(bits) / sum(chars)
        residuals = math.fsum((b - rate * c) ** 2 for b, c in zip(bits, chars))
        mean_chars = sum(chars) / n_documents
        error = math.sqrt(residuals / (n_documents - 1) / n_documents) / mean_chars
        return Entropy(rate, error, sum(bits) / words, sum(chars), n_documents)

    def parses(self, sentence: Sentence | str | Sequence[str], symbol: str) -> list[Tree]:
        """Every derivation of a sentence from a sentence symbol (`sentence.tree.symbol`), best first."""
        return self.grammar.parses(_tokens(sentence), symbol)

    def annotate(self, tree: Tree, register: str) -> Sentence:
        """The sentence that a derivation stands for."""
        return Sentence(annotate(tree), register, self._facts_of_symbols)

    # ------------------------------------------------------------------ words

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every word form that the grammar can write, sorted; END is not among them."""
        return sorted(set(self.word_frequencies) - {END})

    @cached_property
    def word_frequencies(self) -> dict[str, float]:
        """Exact expected relative frequency of each word form among all tokens (END left out)."""
        expected = self.grammar.expected_words()
        expected.pop(END)
        total = math.fsum(expected.values())
        return {form: count / total for form, count in sorted(expected.items())}

    def readings(self, form: str) -> list[Word]:
        """Every way in which the text uses a word form: lemma, part of speech, features, sense."""
        return sorted(self._readings.get(form, ()), key=repr)

    @cached_property
    def _readings(self) -> dict[str, set[Word]]:
        return readings(self.grammar)

    def analogies(self) -> list[Analogy]:
        """Several hundred analogy questions in 13 categories (see `evaluation.analogies`)."""
        return analogies(self.lexicon, self.grammar, self.word_frequencies)

    def similarities(self) -> list[tuple[str, str, float]]:
        """(word, word, gold similarity in [0, 1]) from shared attributes (see `evaluation`)."""
        return similarities(self.lexicon, self.grammar, self.word_frequencies)

    def biases(self) -> list[Bias]:
        """The skews planted in the text, with their size."""
        return biases(self.lexicon)

    # ------------------------------------------------------------------ facts and canaries

    @cached_property
    def held_out_facts(self) -> list[Fact]:
        """Facts that no text says, for testing what a model cannot have read."""
        return [fact for fact in self.facts if fact.split == "held_out"]

    @cached_property
    def unknown_facts(self) -> list[Fact]:
        """A second such set, disjoint from the first: facts to teach after pretraining."""
        return [fact for fact in self.facts if fact.split == "unknown"]

    def fact_sentences(self, fact: Fact) -> list[str]:
        """Every way in which the text would say a fact, with its subject's name, as strings.

        Facts that are never said have theirs too, made from the same templates.
        """
        return self._phrasing.sentences(fact)

    @cached_property
    def _phrasing(self) -> FactPhrasing:
        return FactPhrasing(self.lexicon, self.people, self.facts, self.town_seed)

    def plant(
        self,
        documents: Sequence[Document],
        canaries: Sequence[Canary],
        copies: int | Sequence[int] = 1,
        seed: int = 0,
    ) -> list[Document]:
        """The documents with canaries put into them (see `canaries.plant`)."""
        return plant(self, documents, canaries, copies, seed)

    # ------------------------------------------------------------------ Tovian

    @cached_property
    def tovian(self) -> Tovian:
        """Riverbank's other language: its lexicon and inflection."""
        return _tovian(self.town_seed)

    def translate(self, sentence: Sentence) -> Translation:
        """A sentence in Tovian, with its gold word alignment (see `tovian.Tovian.translate`)."""
        return self.tovian.translate(sentence)

    @cached_property
    def length_sampler(self) -> LengthSampler:
        """Samples derivations of a given number of words."""
        return _length_sampler(self.town_seed)

    def sentences_of_length(
        self,
        n: int,
        seed: int = 0,
        min_words: int = 3,
        max_words: int = 20,
        register: str | None = None,
        topic: str | None = None,
    ) -> list[Sentence]:
        """n sentences whose lengths are uniform over those that exist in the range.

        Given its length, a sentence is as the text would have it. Items of list documents are left out.

        Args:
            n: how many.
            seed: varies the sample.
            min_words, max_words: bounds of the number of tokens, punctuation included; 4 is the least
                that exists, and any greater number does.
            register: from this register alone.
            topic: from texts of this topic alone (`lexicon.topics`), which makes the vocabulary small.

        Raises:
            TownError: an unknown register or topic, or a range in which no sentence lies.
        """
        if register is not None and register not in REGISTERS:
            raise TownError(f"no register {register!r}; choose one of {', '.join(REGISTERS)}")
        if topic is not None and topic not in self.lexicon.topics:
            raise TownError(f"no topic {topic!r}; choose one of {', '.join(self.lexicon.topics)}")
        sentences = sentences_of_length(self, seed, min_words, max_words, register, topic)
        return list(islice(sentences, n))

    def parallel(
        self,
        n: int,
        seed: int = 0,
        min_words: int = 3,
        max_words: int = 20,
        register: str | None = None,
        topic: str | None = None,
    ) -> list[tuple[Sentence, Translation]]:
        """n sentences with their translations; arguments and errors as in `sentences_of_length`."""
        sentences = self.sentences_of_length(n, seed, min_words, max_words, register, topic)
        return [(sentence, self.translate(sentence)) for sentence in sentences]

    # ------------------------------------------------------------------ questions and tasks

    @cached_property
    def _all_questions(self) -> list[Question]:
        return make_questions(self)

    def questions(
        self, split: str | None = None, phrasing: str | None = None, kind: str | None = None
    ) -> list[Question]:
        """All questions about the town with their true answers, in a fixed order.

        Args:
            split: "said", "held_out", "unknown" or "none" (see `Question`).
            phrasing: "train" or "test".
            kind: "wh", "inverse", "yes_no", "calendar" or "unanswerable".

        Raises:
            TownError: no question has that split, phrasing or kind.
        """
        questions = self._all_questions
        for name, wanted in (("split", split), ("phrasing", phrasing), ("kind", kind)):
            known = sorted({getattr(question, name) for question in self._all_questions})
            if wanted is not None and wanted not in known:
                raise TownError(f"no {name} {wanted!r}; choose one of {', '.join(known)}")
            questions = [q for q in questions if wanted in (None, getattr(q, name))]
        return questions

    @cached_property
    def workshop(self) -> Workshop:
        """Draws single tasks for `instructions`."""
        return Workshop(self)

    def instructions(
        self, n: int, seed: int = 0, kinds: Sequence[str] | None = None, split: str = "train"
    ) -> list[Instruction]:
        """n instructions with checkable responses and different prompts, kinds mixed at random.

        Args:
            n: how many.
            seed: varies the sample.
            kinds: some of `INSTRUCTION_KINDS`; by default all that the split has.
            split: "train", or "test", which has other contents (words, sentences, facts) and the
                HELD_OUT_KINDS besides. No prompt of one is a prompt of the other, whatever the seeds.

        Raises:
            TownError: an unknown split or kind, a held-out kind asked for in training, or more
                instructions than there are.
        """
        return draw_instructions(self, n, seed, kinds, split)

    @cached_property
    def word_pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Pairs of word forms by relation (see `instructions.word_pairs`)."""
        return word_pairs(self)

    def few_shot(self, relation: str, k: int, seed: int = 0) -> FewShot:
        """A prompt with k example pairs of a relation, and a held-out pair to complete.

        Args:
            relation: key of `word_pairs`; the UNLISTED_RELATIONS stand in no list document.
            k: number of examples.
            seed: varies examples and query.

        Raises:
            TownError: an unknown relation, or more examples than it has.
        """
        return few_shot(self, relation, k, seed)

    # ------------------------------------------------------------------ preferences

    @cached_property
    def judge(self) -> Judge:
        """Computes gold rewards and writes replies."""
        return Judge(self)

    def gold_reward(self, prompt: str, reply: str) -> GoldReward:
        """The gold reward of any reply to a question of the town (see `preferences.GoldReward`).

        Raises:
            TownError: the prompt is not the text of one of `questions()`.
        """
        return self.judge.gold(prompt, reply)

    def comparisons(self, n: int, seed: int = 0, split: str = "train") -> list[Comparison]:
        """n prompts with two replies of different quality, to be judged by annotators.

        Raises:
            TownError: a split other than "train" and "test".
        """
        return list(islice(iter_comparisons(self.judge, seed, split), n))

    def preferences(
        self, n: int, seed: int = 0, annotator: Annotator | None = None, split: str = "train"
    ) -> list[PreferencePair]:
        """The same comparisons as judged by an annotator (by default `Annotator()`).

        Raises:
            TownError: a split other than "train" and "test".
        """
        annotator = annotator or Annotator()
        return [annotator.judge(comparison) for comparison in self.comparisons(n, seed, split)]


def _tokens(text: Document | Sentence | str | Sequence[str]) -> list[str]:
    if isinstance(text, str):
        return tokenise(text)
    return list(text.tokens if isinstance(text, (Document, Sentence)) else text)
