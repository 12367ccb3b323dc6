"""Tovian, Riverbank's other language: its lexicon, its grammar, and exact translation with alignment.

Tovian puts the verb last and marks case and number by endings; docs/riverbank.md has its grammar on
one page. A sentence is translated from its dependency tree, so the target is a function of the
parse: two parses of one English string that attach a phrase differently have different translations.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.pcfg import Word

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Sentence

# ---------------------------------------------------------------------------- morphology

CASES = ("nom", "acc", "gen", "dat")
_CASE_ENDINGS = {"nom": "a", "acc": "am", "gen": "os", "dat": "et"}
_NUMBER_ENDINGS = {"sg": "", "pl": "il"}
_DEGREE_ENDINGS = {"Pos": "", "Cmp": "uz", "Sup": "ast"}
_TENSE_ENDINGS = {
    "pres": "e", "past": "ov", "prog": "iv", "pastprog": "oviv", "passpres": "ak", "passpast": "ovak",
}  # fmt: skip
_VERB_NUMBER_ENDINGS = {"sg": "u", "pl": "or"}
_INFINITIVE, _IMPERATIVE = "ir", "ai"

# What a postposition asks of its noun; of those that vanish nothing but the case is left.
_GOVERNS = {
    "of": "gen", "to": "dat", "with": "gen", "for": "gen", "by": "gen", "than": "gen", "as": "nom",
}  # fmt: skip
_LOCAL_CASE = "dat"  # in, on, at, near, under, beside, from, into, off

_SILENT = frozenset(
    {("the", "DET"), ("a", "DET"), ("an", "DET"), ("'s", "PART"), ("to", "PART"), ("to", "ADP"),
     ("of", "ADP"), ("there", "PRON"), ("do", "AUX")}
)  # fmt: skip
_MODALS = frozenset({"will", "can", "must", "may", "should"})
_RELATIVE = frozenset({"who", "whom", "that"})
_WORD_CLASSES = {"NOUN": "noun", "PROPN": "noun", "VERB": "verb", "AUX": "verb", "ADJ": "adjective"}

# ---------------------------------------------------------------------------- phonology

_ONSETS = "p t k b d g m n s z v l r y h sh kr tr dr".split()  # noqa: SIM905
_VOWELS = "a e i o u".split()  # noqa: SIM905
_CODAS = "n l r s k t m sh nd rt lk st".split()  # noqa: SIM905
# Syllables of a stem: frequent classes of words are short.
_SYLLABLES = {"noun": (2, 2, 3), "verb": (1, 2, 2), "adjective": (2, 2, 3)}
_NAME_SPELLING = {"c": "k", "j": "y", "w": "v", "x": "ks", "y": "i", "f": "v"}


class Entry(NamedTuple):
    """One Tovian word: what it translates, and its stem.

    Attributes:
        lemma: the English lemma (a reflexive pronoun's is its form, "himself").
        sense: the English sense key ("bank.river"), or None.
        kind: "noun", "verb", "adjective", "name" (of a person), else a UD tag ("ADV", "PRON" ...).
        stem: the Tovian stem, unique to this entry.
    """

    lemma: str
    sense: str | None
    kind: str
    stem: str


class Analysis(NamedTuple):
    """What a Tovian form is: its entry and the features that its ending marks ("pl", "acc")."""

    entry: Entry
    features: tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """A sentence in Tovian with its gold word alignment.

    Attributes:
        source: the English tokens.
        target: the Tovian tokens.
        alignment: links (i, j): source[i] is translated by target[j], both 0-based. Every target
            token has exactly one link; source tokens that vanish (articles, "of", "do") have none.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    alignment: frozenset[tuple[int, int]]

    @property
    def text(self) -> str:
        """The Tovian tokens joined by single spaces."""
        return " ".join(self.target)

    @property
    def is_monotone(self) -> bool:
        """Whether no two links cross: the translation keeps the order of the words."""
        targets = [j for _, j in sorted(self.alignment)]
        return targets == sorted(targets)


def entry_key(word: Word) -> tuple[str, str | None, str] | None:
    """(lemma, sense, kind) of the Tovian entry that translates a word; None if it always vanishes."""
    lemma = word.lemma
    if (lemma, word.tag) in _SILENT or word.tag == "X":
        return None
    if word.tag == "PRON":
        if ("Case", "Acc") in word.feats:
            lemma = word.form
        elif lemma == "whom":
            lemma = "who"
    kind = "name" if word.entity == "B-PER" else _WORD_CLASSES.get(word.tag, word.tag)
    return lemma, word.sense, kind


class Tovian:
    """The language: a lexicon drawn from the town's seed, its inflection, and translation into it.

    Args:
        words: every English word that can occur.
        seed: fixes the stems.

    Attributes:
        entries: (lemma, sense, kind) -> entry.
    """

    def __init__(self, words: Iterable[Word], seed: int):
        attested: dict[tuple, set[Word]] = defaultdict(set)
        english = set()
        for word in words:
            english.add(word.form)
            key = entry_key(word)
            if key is not None:
                attested[key].add(word)
        self.entries: dict[tuple[str, str | None, str], Entry] = {}
        self._forms: dict[tuple[str, str | None, str], dict[tuple[str, ...], str]] = {}
        self._analyses: dict[str, Analysis] = {}
        self._stems: set[str] = set()
        for key in sorted(attested, key=lambda k: (k[2], k[0], k[1] or "")):
            self._add(key, attested[key], english, seed)

    def _add(self, key: tuple, words: set[Word], english: set[str], seed: int) -> None:
        """Draws stems until one is new, and no form of it is a form of an older word, or English."""
        lemma, sense, kind = key
        if kind == "PUNCT":
            stems = iter([lemma])
        elif kind == "name":
            stems = iter([_respell(lemma)])
        else:
            rng = random.Random(zlib.crc32(f"{seed} {lemma} {sense} {kind}".encode()))
            stems = (_draw_stem(kind, rng) for _ in range(1000))
        may_be_english = kind in ("PUNCT", "name")
        for stem in stems:
            forms = _paradigm(stem, kind, words)
            new = set(forms.values())
            if stem in self._stems or new & self._analyses.keys():
                continue
            if new & english and not may_be_english:
                continue
            self._stems.add(stem)
            entry = Entry(lemma, sense, kind, stem)
            self.entries[key], self._forms[key] = entry, forms
            for features, form in forms.items():
                self._analyses[form] = Analysis(entry, features)
            return
        raise TownError(f"Tovian has no free stem for {lemma!r}; choose another town seed")

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every form of every Tovian word, sorted."""
        return sorted(self._analyses)

    def entry(self, word: Word) -> Entry | None:
        """The entry that translates an English word, None for a word that always vanishes.

        Raises:
            TownError: a word that is not in the town's lexicon.
        """
        key = entry_key(word)
        if key is None:
            return None
        try:
            return self.entries[key]
        except KeyError:
            raise TownError(f"Tovian has no word for {word.form!r}; use the town's words") from None

    def analyse(self, form: str) -> Analysis:
        """What a Tovian form is; no form has two analyses.

        Raises:
            TownError: the form is not Tovian.
        """
        try:
            return self._analyses[form]
        except KeyError:
            raise TownError(f"{form!r} is not a word of Tovian; check its ending") from None

    def gloss(self, target: Sequence[str]) -> list[str]:
        """Word-by-word English gloss: ["king.pl.nom", "kingdom.sg.acc", "rule.pres.pl"]."""
        glosses = []
        for form in target:
            entry, features = self.analyse(form)
            glosses.append(".".join((entry.lemma, *features)))
        return glosses

    def translate(self, sentence: Sentence) -> Translation:
        """The translation of an annotated sentence, from its dependency tree.

        Raises:
            TownError: not a sentence of the town.
        """
        if not hasattr(sentence, "heads"):
            raise TownError(
                "only an annotated Sentence can be translated; town.sentences() gives some, "
                "town.annotate(tree, register) makes one of a parse"
            )
        placed = _Realiser(sentence, self._forms).run()
        alignment = frozenset((i, j) for j, (i, _) in enumerate(placed))
        return Translation(tuple(sentence.tokens), tuple(form for _, form in placed), alignment)


def _draw_stem(kind: str, rng: random.Random) -> str:
    """A pronounceable stem; stems that take endings end in a consonant."""
    syllables = rng.choice(_SYLLABLES.get(kind, (1, 1, 2)))
    stem = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables))
    return stem + rng.choice(_CODAS)


def _respell(name: str) -> str:
    """A person's name in Tovian spelling, with a consonant at its end: "clara" -> "klar"."""
    stem = "".join(_NAME_SPELLING.get(letter, letter) for letter in name)
    for vowel in "ae":
        stem = stem.removesuffix(vowel)
    return stem + "n" if stem[-1] in _VOWELS else stem


def _paradigm(stem: str, kind: str, words: set[Word]) -> dict[tuple[str, ...], str]:
    """All forms of a word by their features; numbers and degrees only where English has them."""
    forms: dict[tuple[str, ...], str] = {}
    if kind in ("noun", "name", "PRON"):
        number = {_number(word) for word in words}
        for n in ("sg", "pl"):
            for case in CASES if n in number else ():
                forms[n, case] = stem + _NUMBER_ENDINGS[n] + _CASE_ENDINGS[case]
    elif kind == "adjective":
        degrees = {dict(word.feats).get("Degree", "Pos") for word in words}
        for degree in ("Pos", "Cmp", "Sup"):
            for n in ("sg", "pl") if degree in degrees else ():
                for case in CASES:
                    features = (n, case) if degree == "Pos" else (degree.lower(), n, case)
                    ending = _DEGREE_ENDINGS[degree] + _NUMBER_ENDINGS[n] + _CASE_ENDINGS[case]
                    forms[features] = stem + ending
    elif kind == "verb":
        passive = any(word.tag == "VERB" and not word.feats for word in words)
        modal = all(word.lemma in _MODALS for word in words)
        for tense, ending in _TENSE_ENDINGS.items():
            if (passive or not tense.startswith("pass")) and (not modal or tense == "pres"):
                for n in ("sg", "pl"):
                    forms[tense, n] = stem + ending + _VERB_NUMBER_ENDINGS[n]
        if not modal:
            forms["inf",] = stem + _INFINITIVE
            forms["imp",] = stem + _IMPERATIVE
    else:
        forms[()] = stem
    return forms


def _number(word: Word) -> str:
    return "pl" if ("Number", "Plur") in word.feats else "sg"


# ---------------------------------------------------------------------------- syntax

# Order of a clause's parts. A part not named here belongs to the predicate's own phrase.
_SLOTS = {
    "mark": 0, "cc": 0, "parataxis": 2, "discourse": 3, "vocative": 4, "advcl": 5,
    "nsubj": 7, "expl": 7, "obl:tmod": 8, "obj": 9, "obl": 10, "xcomp": 11, "ccomp": 11, "advmod": 12,
}  # fmt: skip
_RELATIVE_SLOT, _FRONTED_SLOT, _NEGATION_SLOT = 1, 6, 13
_FRONTED = frozenset({"obl", "obl:tmod", "advmod"})
_VERB_GROUP = frozenset({"aux", "aux:pass", "cop", "punct", "conj"})
_SENTENCE_END = frozenset(".?!")


class _Realiser:
    """Writes one sentence in Tovian: walks the dependency tree and places each word once."""

    def __init__(self, sentence: Sentence, forms: Mapping[tuple, Mapping[tuple[str, ...], str]]):
        self.words = [leaf.word for leaf in sentence.leaves]
        self.labels = sentence.labels
        self.heads = [head - 1 for head in sentence.heads]
        self.forms = forms
        self.children: list[list[int]] = [[] for _ in self.words]
        for index, head in enumerate(self.heads):
            if head >= 0:
                self.children[head].append(index)
        self.placed: list[tuple[int, str]] = []

    def run(self) -> list[tuple[int, str]]:
        """(source index, form) in the order of the target."""
        root = self.heads.index(-1)
        if any(self.labels[k] == "appos" and self.heads[k] == root for k in self.children[root]):
            self.list_item(root)
        else:
            self.clause(root, "sg")
        for k in self.children[root]:
            if self.words[k].form in _SENTENCE_END:
                self.place(k)
        return self.placed

    def place(self, index: int, *features: str) -> None:
        """Puts a word with the given features at the end of what is written so far."""
        key = entry_key(self.words[index])
        if key is not None:
            self.placed.append((index, self.forms[key][features]))

    def find(self, index: int, *labels: str) -> int | None:
        """The first dependent with one of the labels."""
        return next((k for k in self.children[index] if self.labels[k] in labels), None)

    def number(self, index: int) -> str:
        """Number of a noun phrase; of a relative pronoun, that of its antecedent."""
        if self.labels[self.heads[index]] == "acl:relcl" and self.is_relative(index):
            return _number(self.words[self.heads[self.heads[index]]])
        return "pl" if self.find(index, "conj") is not None else _number(self.words[index])

    def is_relative(self, index: int) -> bool:
        """Whether a word is the relative pronoun of its clause."""
        return (
            self.labels[self.heads[index]] == "acl:relcl"
            and self.words[index].tag == "PRON"
            and self.words[index].form in _RELATIVE
        )

    # ------------------------------------------------------------------ clauses

    def clause(self, head: int, number: str) -> None:
        """A clause, its verb (or copula) last; `number` is the subject's if it stands elsewhere."""
        subject = self.find(head, "nsubj", "expl")
        if subject is not None and self.entry_exists(subject):
            number = self.number(subject)
        elif (noun := self.find(head, "nsubj")) is not None:  # "there is a concert"
            number = self.number(noun)
        parts = []
        for k in self.children[head]:
            slot = self.slot(k, head, subject)
            if slot is not None:
                parts.append((slot, k))
        for _, k in sorted(parts):
            self.part(k, head)
        if self.words[head].tag == "VERB":
            self.verb(head, number)
        else:
            self.predicate(head, number)
        conjunct = self.find(head, "conj")
        if conjunct is not None and self.words[conjunct].tag == "VERB":
            self.clause(conjunct, number)

    def entry_exists(self, index: int) -> bool:
        """Whether a word is ever translated."""
        return entry_key(self.words[index]) is not None

    def slot(self, k: int, head: int, subject: int | None) -> int | None:
        """Where a part of the clause stands; None if the verb or the predicate's phrase places it."""
        label = self.labels[k]
        if label in _VERB_GROUP or (label == "advmod" and self.words[head].tag == "ADJ"):
            return None
        if self.words[k].form == "not":
            return _NEGATION_SLOT
        if self.is_relative(k):
            return _RELATIVE_SLOT
        if label in _FRONTED and subject is not None and k < subject and k < head:
            return _FRONTED_SLOT
        return _SLOTS.get(label)

    def part(self, k: int, head: int) -> None:
        """One part of a clause, with the comma that goes with it."""
        label = self.labels[k]
        if label in ("advcl", "ccomp"):
            self.clause(k, "sg")
        elif label == "xcomp":
            if self.words[k].tag == "VERB":
                self.clause(k, "sg")
            else:  # "made the soup hotter" agrees with the object
                thing = self.find(head, "obj")
                self.adjective(k, self.number(head if thing is None else thing), "acc")
        elif label == "obj":
            self.phrase(k, "acc")
        elif label in ("obl", "obl:tmod"):
            self.phrase(k, self.stranded_case(head) or "dat")
        else:
            self.phrase(k, "nom")
            if label == "advmod" and (particle := self.find(head, "compound:prt")) is not None:
                self.place(particle)  # "where do you come from"
        self.comma(k)

    def stranded_case(self, head: int) -> str | None:
        """The case that a preposition left behind asks for: "which club do you belong to"."""
        particle = self.find(head, "case") if self.words[head].tag == "VERB" else None
        return None if particle is None else _governed(self.words[particle])

    def comma(self, k: int) -> None:
        """A comma belongs to the vocative after it, else to the part before it."""
        siblings = self.children[self.heads[k]]
        place = siblings.index(k)
        before = siblings[place - 1] if place else k
        after = siblings[place + 1] if place + 1 < len(siblings) else k
        if self.labels[k] == "vocative":
            if self.words[before].form == ",":
                self.place(before)
        elif self.words[after].form == ",":
            following = siblings[place + 2] if place + 2 < len(siblings) else after
            if self.labels[following] != "vocative":
                self.place(after)

    def verb(self, head: int, number: str) -> None:
        """The main verb and, behind it, the modal that then is the finite verb."""
        helpers = [k for k in self.children[head] if self.labels[k] in ("aux", "aux:pass")]
        modal = next((k for k in helpers if self.words[k].lemma in _MODALS), None)
        if modal is not None:
            self.place(head, "inf")
            self.place(modal, "pres", number)
            return
        word, helper = self.words[head], self.words[helpers[0]] if helpers else None
        tense = _tense(helper or word)
        if helper is not None and self.labels[helpers[0]] == "aux:pass":
            self.place(head, "pass" + tense, number)
        elif helper is not None and helper.lemma == "be":
            self.place(head, "pastprog" if tense == "past" else "prog", number)
        elif helper is None and ("VerbForm", "Inf") in word.feats:
            mark = self.find(head, "mark")
            self.place(head, "imp" if mark is None else "inf")
        else:
            self.place(head, tense, number)

    def predicate(self, head: int, number: str) -> None:
        """What is said of the subject, and the copula."""
        if self.words[head].tag == "ADJ":
            self.adjective(head, number, "nom")
        else:
            self.phrase(head, "nom")
        copula = self.find(head, "cop")
        if copula is not None:
            self.place(copula, _tense(self.words[copula]), number)

    # ------------------------------------------------------------------ noun phrases

    def phrase(self, head: int, case: str) -> None:
        """[relative clause] [possessor] [postpositional phrase] [determiner] noun [adjective] [postposition]."""
        children = self.children[head]
        preposition = self.find(head, "case")
        if preposition is not None and self.words[preposition].tag == "ADP":
            case = _governed(self.words[preposition])
        number = _number(self.words[head])
        for label, write in (
            ("cc", self.place),
            ("acl:relcl", lambda k: self.clause(k, number)),
            ("nmod:poss", lambda k: self.phrase(k, "gen")),
            ("nmod", lambda k: self.phrase(k, "gen")),
        ):
            self.each(head, label, write)
        for k in children:
            if self.labels[k] in ("det", "nummod", "amod") and self.words[k].tag != "ADJ":
                self.place(k)
                self.comma(k)
        self.each(head, "compound", lambda k: self.place(k, "sg", "nom"))
        self.noun(head, number, case)
        self.each(head, "flat", self.place)
        for k in children:
            if self.labels[k] in ("det", "amod", "appos") and self.words[k].tag == "ADJ":
                self.adjective(k, number, case)
        self.each(head, "nmod:npmod", lambda k: self.place(k, number, case))
        for k in children:
            if self.labels[k] == "conj" and self.words[k].tag == "PROPN":
                self.phrase(k, case)
            elif self.labels[k] == "advmod" and self.words[head].tag == "ADV":
                self.place(k)
        if preposition is not None:
            self.place(preposition)
        if self.labels[head] == "parataxis":
            self.each(head, "punct", self.place)

    def each(self, head: int, label: str, write: Callable[[int], None]) -> None:
        """Writes every dependent that bears the label."""
        for k in self.children[head]:
            if self.labels[k] == label:
                write(k)

    def noun(self, head: int, number: str, case: str) -> None:
        """The head of a phrase: only nouns, pronouns and adjectives are inflected."""
        tag = self.words[head].tag
        if tag == "ADJ" or tag in ("NOUN", "PROPN", "PRON"):
            self.place(head, number, case)
        else:
            self.place(head)

    def adjective(self, head: int, number: str, case: str) -> None:
        """An adjective that agrees with its noun, after its adverbs."""
        self.each(head, "advmod", self.place)
        degree = dict(self.words[head].feats).get("Degree", "Pos")
        self.place(head, *(() if degree == "Pos" else (degree.lower(),)), number, case)

    # ------------------------------------------------------------------ list items

    def list_item(self, root: int) -> None:
        """ "king : queen ." keeps its order; the words stand in their citation forms."""
        for k in sorted([root, *self.children[root]]):
            word = self.words[k]
            if word.form in _SENTENCE_END:
                continue
            if word.tag == "ADJ":
                self.adjective(k, "sg", "nom")
            elif word.tag != "VERB":
                self.place(k, *((_number(word), "nom") if word.tag != "PUNCT" else ()))
            elif ("VerbForm", "Inf") in word.feats:
                self.place(k, "inf")
            else:
                finite = ("VerbForm", "Fin") in word.feats
                self.place(k, _tense(word) if finite else "prog", "sg")


def _governed(preposition: Word) -> str:
    return _GOVERNS.get(preposition.lemma, _LOCAL_CASE)


def _tense(word: Word) -> str:
    return "past" if ("Tense", "Past") in word.feats else "pres"
