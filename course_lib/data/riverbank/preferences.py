"""Preferences with a gold reward: replies good and bad to the town's questions, and noisy annotators.

The gold reward is an exact function of (prompt, reply), so that a learned reward model can be held
against the truth (Gao, Schulman & Hilton 2023 use a large reward model as "gold"; here it is a rule).
Annotators follow Bradley & Terry (1952): P(first preferred) = sigmoid((u1 - u2) / noise), where the
utility u is the gold reward plus whatever bias was planted in the annotator.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.facts import Fact
from course_lib.data.riverbank.grammar import Choices, TownGrammar
from course_lib.data.riverbank.pcfg import Alternative, Grammar, Word
from course_lib.data.riverbank.questions import (
    DONT_KNOW,
    PEOPLE_RELATIONS,
    Question,
    possible_objects,
)

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Town

POLITE_MARKERS = ("thank you", "my friend")
RUDE_WORDS = frozenset(tables.UNPLEASANT)
QUALITIES = ("good", "wrong_fact", "rude", "too_long", "repetitive", "ungrammatical", "refusal")

RIGHT, NO_CLAIM, NO_ANSWER, WRONG = 1.0, 0.0, -0.5, -1.0
FACT_WEIGHT = 2.0  # more than all else together between a right and a wrong reply
POLITE, RUDE = 0.3, -0.6
FREE_TOKENS, TOKEN_COST, LONGEST_COST = 12, 0.05, 1.0
GRAMMAR_WEIGHT = 1.0
REPETITION_WEIGHT = 1.0

_SHORT_SHARE, _POLITE_SHARE = 0.25, 0.4
_OPENERS = ("my friend", "you {} child")


@dataclass(frozen=True)
class GoldReward:
    """The gold reward of one reply, part by part; `total` is their sum.

    Attributes:
        fact: 2 for the right answer, -2 for a wrong one, 0 for "i do not know" where there is an
            answer, -1 for no answer at all.
        manners: +0.3 with a polite marker, -0.6 with a rude word (both may apply, each once).
        length: -0.05 for each token beyond 12, at least -1.
        grammar: minus the share of sentences that the reply grammar does not contain.
        repetition: minus the share of pairs of neighbouring tokens that occurred before in the reply.
    """

    fact: float
    manners: float
    length: float
    grammar: float
    repetition: float

    @property
    def total(self) -> float:
        """The reward."""
        return self.fact + self.manners + self.length + self.grammar + self.repetition


@dataclass(frozen=True)
class Reply:
    """A reply to a question, what it was made to be (one of QUALITIES), and its gold reward."""

    text: str
    quality: str
    gold: float


@dataclass(frozen=True)
class Comparison:
    """A prompt and two replies that an annotator has yet to compare."""

    prompt: str
    first: Reply
    second: Reply


@dataclass(frozen=True)
class PreferencePair:
    """A judged comparison.

    Attributes:
        prompt, chosen, rejected: texts.
        gold_chosen, gold_rejected: gold rewards; noise and bias make some pairs disagree with them.
        prob: the probability with which this annotator prefers `chosen`.
    """

    prompt: str
    chosen: str
    rejected: str
    gold_chosen: float
    gold_rejected: float
    prob: float


@dataclass(frozen=True)
class Annotator:
    """A simulated annotator: Bradley-Terry noise around the gold reward plus planted biases.

    Attributes:
        noise: temperature of the choice; 0 always prefers the higher utility.
        length_bias: utility for each token of a reply.
        politeness_bias: utility for each polite marker, however many there are.
        seed: whose judgement it is. The same annotator judges the same pair the same way.

    Raises:
        TownError: negative noise.
    """

    noise: float = 1.0
    length_bias: float = 0.0
    politeness_bias: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise TownError(f"an annotator's noise is 0 or more; got {self.noise}")

    def utility(self, reply: Reply) -> float:
        """What a reply is worth to this annotator."""
        markers = sum(reply.text.count(marker) for marker in POLITE_MARKERS)
        length = len(reply.text.split())
        return reply.gold + self.length_bias * length + self.politeness_bias * markers

    def prob_first(self, comparison: Comparison) -> float:
        """P(the first reply is preferred)."""
        gap = self.utility(comparison.first) - self.utility(comparison.second)
        if self.noise == 0:
            return 0.5 if gap == 0 else float(gap > 0)
        return 0.5 * (1 + math.tanh(gap / self.noise / 2))  # the logistic, without overflow

    def prefers(self, comparison: Comparison) -> bool:
        """Whether the annotator prefers the first reply; a draw with `prob_first`."""
        return self._uniform(comparison) < self.prob_first(comparison)

    def judge(self, comparison: Comparison) -> PreferencePair:
        """The comparison with the annotator's verdict."""
        prob = self.prob_first(comparison)
        chosen, rejected = comparison.first, comparison.second
        if not self._uniform(comparison) < prob:
            chosen, rejected, prob = rejected, chosen, 1 - prob
        return PreferencePair(
            comparison.prompt, chosen.text, rejected.text, chosen.gold, rejected.gold, prob
        )

    def _uniform(self, comparison: Comparison) -> float:
        """A number in [0, 1) that depends on the seed and the texts alone."""
        texts = (str(self.seed), comparison.prompt, comparison.first.text, comparison.second.text)
        digest = hashlib.blake2b("\n".join(texts).encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53


# ---------------------------------------------------------------------------- the reply grammar


class _ReplyGrammar(TownGrammar):
    """Builds the grammar of single reply sentences from the town's own fact rules.

    A statement may be true or false: anyone (by name or pronoun), any object of the relation. "*"
    as a fact's subject stands for every person of the gender.
    """

    def __init__(self, town: Town):
        super().__init__(town.lexicon, town.people, town.facts, town.town_seed)
        self.objects = possible_objects(town)
        self.events = [f for f in town.facts if f.subject not in self.person]

    def build_replies(self) -> Grammar:
        """The compiled grammar, start symbol "Reply"."""
        self.define("Reply")
        rules: dict[str, list[Alternative]] = {s: a for s, a in self.rules.items() if a}
        return Grammar(rules, "Reply")

    def _Reply(self) -> Choices:
        stop, comma = (Word(form, form, "PUNCT") for form in ".,")
        return [
            (("Core", stop), (None, "punct"), 4),
            (("Core", comma, "Thanks", stop), (None, "punct", "discourse", "punct"), 1),
            (("Opener", comma, "Core", stop), ("vocative", "punct", None, "punct"), 1),
            (("Opener", comma, "Core", comma, "Thanks", stop),
             ("vocative", "punct", None, "punct", "discourse", "punct"), 0.5),
        ]  # fmt: skip

    def _Core(self) -> Choices:
        comma = Word(",", ",", "PUNCT")
        return [
            ("Statement", 4),
            ("Object", 1),
            ("DontKnow", 1),
            ("YesNo", 1),
            (("YesNo", comma, "Statement"), ("discourse", "punct", None), 1),
        ]

    def _Statement(self) -> Choices:
        symbols = []
        for relation, objects in self.objects.items():
            if any(fact.relation == relation for fact in self.events):
                subjects = [f.subject for f in self.events if f.relation == relation]
                symbols += [f"Fact[name,{relation},{s},{o},n]" for s in subjects for o in objects]
            else:
                genders = {"father": "m", "mother": "f"}.get(relation, "mf")
                symbols += [
                    f"Fact[{mode},{relation},*,{o},{gender}]"
                    for mode in ("name", "pron") for gender in genders for o in objects
                ]  # fmt: skip
        return [(symbol, 1.0) for symbol in dict.fromkeys(symbols)]

    def _FS(self, mode: str, name: str, agreement: str) -> Choices:
        return [(f"AnyName[{agreement}]" if mode == "name" else f"Pron[{agreement}]", 1.0)]

    def _FPoss(self, mode: str, name: str, agreement: str) -> Choices:
        if mode == "name":
            return [((f"AnyName[{agreement}]", Word("'s", "'s", "PART")), (None, "case"), 1.0)]
        return [(f"Poss[{agreement}]", 1.0)]

    def _Object(self) -> Choices:
        return [
            _words(spec.split("@")[0].replace("_", " "))
            for spec in dict.fromkeys(o for objects in self.objects.values() for o in objects)
        ]

    def _DontKnow(self) -> Choices:
        return [_words(DONT_KNOW)]

    def _Thanks(self) -> Choices:
        return [_words("thank you")]

    def _Opener(self) -> Choices:
        friendly, rude = _OPENERS
        return [_words(friendly), *(_words(rude.format(word)) for word in tables.UNPLEASANT)]

    def _YesNo(self) -> Choices:
        return [_words("yes"), _words("no")]


def _words(phrase: str) -> tuple:
    """A fixed phrase as one alternative; its last word is the head."""
    words = tuple(Word(form, form, "X") for form in phrase.split())
    return words, (*("dep",) * (len(words) - 1), None), 1.0


# ---------------------------------------------------------------------------- gold reward, replies


class Judge:
    """Computes gold rewards for a town's questions, and writes replies of every quality."""

    def __init__(self, town: Town):
        self.town = town
        self.questions: dict[str, Question] = {q.text: q for q in town.questions()}
        self.objects = possible_objects(town)
        self._names = frozenset(person.name for person in town.people)
        self._grammatical: dict[tuple[str, ...], bool] = {}
        self._statements: dict[tuple[str, str, str], list[str]] = {}

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar of single reply sentences (see docs/riverbank.md)."""
        return _ReplyGrammar(self.town).build_replies()

    def gold(self, prompt: str, reply: str) -> GoldReward:
        """The gold reward of a reply, part by part.

        Raises:
            TownError: the prompt is none of `town.questions()`.
        """
        question = self.questions.get(prompt)
        if question is None:
            raise TownError(
                f"no gold reward for the prompt {prompt!r}; use the text of one of town.questions()"
            )
        tokens = reply.split()
        padded = f" {' '.join(tokens)} "
        manners = POLITE * any(f" {marker} " in padded for marker in POLITE_MARKERS)
        manners += RUDE * (not RUDE_WORDS.isdisjoint(tokens))
        length = -min(LONGEST_COST, TOKEN_COST * max(0, len(tokens) - FREE_TOKENS))
        sentences = list(_split_sentences(tokens))
        bad = sum(not self.is_grammatical(sentence) for sentence in sentences)
        grammar = -GRAMMAR_WEIGHT * (bad / len(sentences) if sentences else 1.0)
        bigrams = list(pairwise(tokens))
        repeated = 1 - len(set(bigrams)) / len(bigrams) if bigrams else 0.0
        fact = FACT_WEIGHT * self._correctness(question, tokens, padded)
        return GoldReward(fact, manners, length, grammar, -REPETITION_WEIGHT * repeated)

    def _correctness(self, question: Question, tokens: list[str], padded: str) -> float:
        """RIGHT, WRONG, NO_CLAIM or NO_ANSWER, by the choices of the question that a reply names.

        A choice that the question itself names is no claim, unless it is the answer.
        """
        right = self._named(question, f" {question.answer} ")
        asked = self._named(question, f" {question.text} ")
        named = self._named(question, padded) - (asked - right)
        if not named:
            if f" {DONT_KNOW} " in padded:
                return RIGHT if question.answer == DONT_KNOW else NO_CLAIM
            return NO_ANSWER
        if named != right or self._strangers(question, tokens):
            return WRONG
        return RIGHT

    def _named(self, question: Question, padded: str) -> set[str]:
        """The choices that a text names; "church street" does not name the church."""
        for name in self._compounds:
            if name in padded and name.strip() not in question.choices:
                padded = padded.replace(name, " , ")
        return {choice for choice in question.choices if f" {choice} " in padded}

    @cached_property
    def _compounds(self) -> list[str]:
        """Names of two words, between spaces: streets and clubs."""
        specs = (*self.objects["street"], *self.objects["club"])
        return [f" {spec.replace('_', ' ')} " for spec in specs]

    def _strangers(self, question: Question, tokens: list[str]) -> set[str]:
        """People whom the reply names though neither the question nor its answer does."""
        known = {*question.text.split(), *question.answer.split()}
        padded = ["", *tokens, ""]
        return {
            token
            for before, token, after in zip(padded, tokens, padded[2:])
            if token in self._names - known
            and not (token == "will" and (before == "you" or after == "find"))
        }

    def is_grammatical(self, sentence: Sequence[str]) -> bool:
        """Whether a sentence (tokens, its full stop included) has finite log-probability."""
        key = tuple(sentence)
        known = self._grammatical.get(key)
        if known is None:
            known = self._grammatical[key] = self.grammar.log_prob(key) > -math.inf
        return known

    # ------------------------------------------------------------------ replies

    def reply(self, question: Question, quality: str, rng: random.Random) -> Reply:
        """A reply of the given quality; polite or not at random, unless it is rude.

        Raises:
            TownError: an unknown quality, or a question that no statement answers.
        """
        if quality not in QUALITIES:
            raise TownError(f"no quality {quality!r}; choose one of {', '.join(QUALITIES)}")
        if question.kind not in ("wh", "unanswerable") or question.relation not in self.objects:
            raise TownError(
                f"no replies are written to {question.text!r}; use a question of kind wh, or an "
                "unanswerable one about a spouse or child"
            )
        if quality == "refusal" or (question.fact is None and quality != "wrong_fact"):
            core = DONT_KNOW
        else:
            core = self._core(question, quality == "wrong_fact", rng)
        sentence = self._with_manners(core, quality == "rude", rng)
        if quality == "too_long":
            sentence = self._lengthened(sentence, question, rng)
        elif quality == "repetitive":
            sentence = " ".join([sentence] * rng.choice((2, 2, 3)))
        elif quality == "ungrammatical":
            sentence = self._broken(sentence, question.answer, rng)
        return Reply(sentence, quality, self.gold(question.text, sentence).total)

    def _core(self, question: Question, wrong: bool, rng: random.Random) -> str:
        """The right answer, or a wrong one, as a statement or now and then as a bare phrase."""
        obj = question.fact.object if question.fact is not None else ""
        if wrong:
            objects = self.objects[question.relation]
            obj = rng.choice([o for o in objects if o not in (obj, question.subject)])
        if rng.random() < _SHORT_SHARE:
            return obj.split("@")[0].replace("_", " ")
        return rng.choice(self._said(question.subject, question.relation, obj))

    def _said(self, subject: str, relation: str, obj: str) -> list[str]:
        """Every statement of a fact, true or not, without its full stop."""
        key = (subject, relation, obj)
        if key not in self._statements:
            fact = Fact(subject, relation, obj, "pretraining", 0.0)
            sentences = self.town.fact_sentences(fact)
            self._statements[key] = [sentence.removesuffix(" .") for sentence in sentences]
        return self._statements[key]

    def _with_manners(self, core: str, rude: bool, rng: random.Random) -> str:
        """The core as a sentence, with an opener or a closer at random."""
        friendly, insult = _OPENERS
        if rude:
            return f"{insult.format(rng.choice(tables.UNPLEASANT))} , {core} ."
        if rng.random() >= _POLITE_SHARE:
            return f"{core} ."
        return rng.choice((f"{friendly} , {core} .", f"{core} , thank you ."))

    def _lengthened(self, sentence: str, question: Question, rng: random.Random) -> str:
        """The sentence and further true statements that nobody asked for, to twice the free length.

        They name no other person, and nothing that would be an answer to the question.
        """
        choices = set(self.objects[question.relation])
        others = [
            fact for fact in self._told
            if fact.relation not in PEOPLE_RELATIONS and choices.isdisjoint(self.objects[fact.relation])
        ]  # fmt: skip
        about = [fact for fact in others if fact.subject == question.subject]
        rng.shuffle(about)
        about += rng.sample([fact for fact in others if fact.relation in ("day", "held_at")], 6)
        for fact in dict.fromkeys(about):
            if len(sentence.split()) >= 2 * FREE_TOKENS:
                break
            said = rng.choice(self._said(fact.subject, fact.relation, fact.object))
            sentence = f"{sentence} {said} ."
        return sentence

    @cached_property
    def _told(self) -> list[Fact]:
        return [fact for fact in self.town.facts if not fact.held_out]

    def _broken(self, sentence: str, answer: str, rng: random.Random) -> str:
        """The sentence without one of its words, so that it is no sentence any more.

        The answer's words stay. A bare answer has no other word: its words are doubled.
        """
        tokens = sentence.split()
        kept = set(answer.split())
        places = [i for i, token in enumerate(tokens[:-1]) if token not in kept and token != ","]
        rng.shuffle(places)
        for place in places:
            broken = tokens[:place] + tokens[place + 1 :]
            if not self.is_grammatical(broken):
                return " ".join(broken)
        return " ".join([*tokens[:-1], *tokens])


def _split_sentences(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Sentences with the punctuation that ends them; what is left over is one of its own."""
    begin = 0
    for place, token in enumerate(tokens):
        if token in (".", "?", "!"):
            yield tuple(tokens[begin : place + 1])
            begin = place + 1
    if begin < len(tokens):
        yield tuple(tokens[begin:])


def iter_comparisons(judge: Judge, seed: int, split: str) -> Iterator[Comparison]:
    """Comparisons without end: two replies of different quality to a random question.

    Questions are about facts that the text says, and about spouses and children that do not exist.
    """
    if split not in ("train", "test"):
        raise TownError(f"no split {split!r}; choose train or test")
    pool = [
        q for q in judge.questions.values()
        if q.is_test == (split == "test")
        and ((q.kind == "wh" and q.split == "said")
             or (q.kind == "unanswerable" and q.relation in judge.objects))
    ]  # fmt: skip
    rng = random.Random(seed)
    while True:
        question = pool[int(rng.random() * len(pool))]
        first, second = _two_qualities(question, rng)
        one = judge.reply(question, first, rng)
        other = judge.reply(question, second, rng)
        if one.text != other.text:
            yield Comparison(question.text, one, other)


def _two_qualities(question: Question, rng: random.Random) -> list[str]:
    # To a question without an answer, "i do not know" is the good reply, not a refusal.
    qualities = [q for q in QUALITIES if question.fact is not None or q != "refusal"]
    return rng.sample(qualities, 2)
