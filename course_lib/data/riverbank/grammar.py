"""Builds the town's grammar: instantiates the rule templates from the lexicon, people and facts."""

from __future__ import annotations

import gc
import random
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import Any, TypeAlias

from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.facts import Fact, Person
from course_lib.data.riverbank.lexicon import Lexicon, Profession, lemma_of
from course_lib.data.riverbank.morphology import VOWELS
from course_lib.data.riverbank.pcfg import Alternative, Grammar, GrammarError, Word
from course_lib.data.riverbank.rules import DOMAINS, FUNCTION_WORDS, TEMPLATES

END = "<end>"
SENTENCE_PREFIX = "Sent"
# Symbols that carry a document's latents (protagonist, topic): many, and nearly alike.
_LATENT = (SENTENCE_PREFIX, "Turn[", "Story", "Child", "Manual", "Dialogue")

_PART = re.compile(r'(?:([a-z:]+):)?("[^"]+"(?:/\w+)*|[A-Z]\w*(?:\[[^\]]*\])?)$')
_SYMBOL = re.compile(r"([A-Z]\w*)(?:\[([^\]]*)\])?$")
_WEIGHT = re.compile(r"\s*\{([\d.]+)\}\s*$")
_SPACES = re.compile(r"\s+")

_PRONOUNS = {  # agreement: subject, object, possessive, reflexive
    "m": ("he", "him", "his", "himself"),
    "f": ("she", "her", "her", "herself"),
    "n": ("it", "it", "its", "itself"),
    "p": ("they", "them", "their", "themselves"),
    "i": ("i", "me", "my", "myself"),
    "y": ("you", "you", "your", "yourself"),
}
_PRONOUN_FEATS = {
    "m": (("Gender", "Masc"), ("Number", "Sing"), ("Person", "3")),
    "f": (("Gender", "Fem"), ("Number", "Sing"), ("Person", "3")),
    "n": (("Gender", "Neut"), ("Number", "Sing"), ("Person", "3")),
    "p": (("Number", "Plur"), ("Person", "3")),
    "i": (("Number", "Sing"), ("Person", "1")),
    "y": (("Number", "Sing"), ("Person", "2")),
}
_CASES = {"Pron": (0, "Nom"), "Poss": (2, "Gen"), "Refl": (3, "Acc")}

# Share of (animal, country, quality, profession) scenes by topic.
_SCENES = {
    "court": (0.5, 3, 4, 1),
    "home": (2, 0.5, 5, 1),
    "town": (0.5, 1, 4, 4),
    "stage": (0.7, 1.5, 5, 1.5),
    "farm": (5, 0.5, 3, 1),
    "voyage": (1.5, 5, 3, 1),
    "tales": (2.5, 1, 5, 1),
    "school": (2.5, 1.5, 5, 1.5),
}
# Themes without a gendered pair of their own borrow their usual subjects from another theme.
_BORROWED_PAIRS = {
    "kitchen": "parents", "fire": "siblings", "money": "lodging", "office": "party",
    "workshop": "couple", "surgery": "fireside", "music": "theatre", "circus": "party",
    "sport": "toys", "lesson": "toys", "garden": "visitors", "wood": "market", "field": "offspring",
    "yard": "presents", "river": "siblings", "sea": "presents",
}  # fmt: skip


# What a symbol can become: (part, weight), or (parts, labels, weight).
Choices: TypeAlias = list[tuple[Any, ...]]


class _Template:
    """One template line: the left-hand pattern and its alternatives, still with variables."""

    def __init__(self, line: str):
        left, right = (side.strip() for side in line.split("->", 1))
        self.name, self.arguments = _split_symbol(left)
        self.alternatives = []
        for rank, text in enumerate(right.split(" | "), start=1):
            weight = _WEIGHT.search(text)
            parts, labels = [], []
            for token in _SPACES.split(_WEIGHT.sub("", text).strip()):
                match = _PART.match(token)
                if match is None:
                    raise GrammarError(f"{left}: cannot read the part {token!r}")
                labels.append(match[1])
                part = match[2]
                parts.append(_literal(part) if part.startswith('"') else _split_symbol(part))
            if labels.count(None) != 1:
                raise GrammarError(f"{left}: exactly one part must have no label in {text!r}")
            value = float(weight[1]) if weight else 1 / rank
            self.alternatives.append((tuple(parts), tuple(labels), value))

    def bind(self, arguments: tuple[str, ...]) -> dict[str, str] | None:
        """The variables' values if the pattern fits, else None."""
        if len(arguments) != len(self.arguments):
            return None
        values: dict[str, str] = {}
        for pattern, value in zip(self.arguments, arguments):
            if pattern.startswith("$"):
                values[pattern[1:]] = value
            elif pattern != value:
                return None
        return values

    def instantiate(self, values: dict[str, str]) -> list[tuple[tuple, tuple, float]]:
        """Alternatives with variables replaced; free ones range over their domains."""
        result = []
        for parts, labels, weight in self.alternatives:
            arguments = (a for p in parts if p.__class__ is tuple for a in p[1])
            used = [a.partition("$")[2] for a in arguments if "$" in a]
            free = [name for name in dict.fromkeys(used) if name not in values]
            for choice in product(*(DOMAINS[name].items() for name in free)):
                bound, share = dict(values), weight
                for name, (value, domain_weight) in zip(free, choice):
                    bound[name] = value
                    share *= domain_weight / sum(DOMAINS[name].values())
                result.append((tuple(_fill(part, bound) for part in parts), labels, share))
        return result


def _split_symbol(text: str) -> tuple[str, tuple[str, ...]]:
    match = _SYMBOL.match(text)
    if match is None:
        raise GrammarError(f"cannot read the symbol {text!r}")
    return match[1], tuple(match[2].split(",")) if match[2] else ()


def _fill(part: tuple | Word, values: dict[str, str]) -> str | Word:
    if isinstance(part, Word):
        return part
    name, arguments = part
    if not arguments:
        return name
    filled = []
    for argument in arguments:
        prefix, dollar, variable = argument.partition("$")
        filled.append(prefix + values[variable] if dollar else argument)
    return f"{name}[{','.join(filled)}]"


def _literal(text: str) -> Word:
    """Reads "bank@bank.river"/NOUN/bank: form, optional sense, tag and lemma."""
    body, _, behind = text[1:].partition('"')
    rest = behind.split("/")[1:]
    form, _, sense = body.partition("@")
    tag = rest[0] if rest else FUNCTION_WORDS.get(form)
    if tag is None:
        raise GrammarError(f"the word {form!r} needs a tag: write {text}/NOUN or the like")
    lemma = rest[1] if len(rest) > 1 else form
    feats: tuple[tuple[str, str], ...] = ()
    if tag == "NOUN":
        feats = (("Number", "Plur" if lemma != form else "Sing"),)
    elif tag == "VERB" and form not in ("born", "held"):
        feats = (("VerbForm", "Inf"),)
    return Word(form, lemma, tag, feats, sense or None)


@cache
def _templates() -> dict[str, list[_Template]]:
    by_name: dict[str, list[_Template]] = {}
    for line in TEMPLATES.splitlines():
        if line.strip():
            template = _Template(line)
            by_name.setdefault(template.name, []).append(template)
    return by_name


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Building makes only objects that stay: looking for garbage meanwhile doubles its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class TownGrammar:
    """Instantiates, from the start symbol, every rule that the town can reach.

    A symbol is defined by the first template that fits it, or else by the method that bears its
    name here (`_Name` for "Name[anna]"). An alternative that uses an empty symbol is left out (no
    plural in a class of mass nouns, say).
    """

    def __init__(self, lexicon: Lexicon, people: list[Person], facts: list[Fact], seed: int):
        self.lexicon, self.people, self.facts, self.seed = lexicon, people, facts, seed
        self.person = {person.name: person for person in people}
        self.names = {lemma_of(spec): spec for spec in (*tables.MEN, *tables.WOMEN)}
        self.pretraining = [fact for fact in facts if not fact.held_out]
        self.of_person: dict[str, list[Fact]] = {person.name: [] for person in people}
        for fact in self.pretraining:
            if fact.subject in self.of_person:
                self.of_person[fact.subject].append(fact)
        self.nouns_of_list = self._noun_lists()
        self.rules: dict[str, list[Alternative] | None] = {}

    def build(self) -> Grammar:
        """The compiled grammar of whole documents, start symbol "Doc"."""
        with _collector_paused():
            return self._build()

    def _build(self) -> Grammar:
        self.define("Doc")
        rules = {
            symbol: alternatives for symbol, alternatives in self.rules.items() if alternatives
        }
        return Grammar(rules, "Doc", unfold=lambda symbol: symbol.startswith(_LATENT))

    def define(self, symbol: str) -> bool:
        """Defines a symbol and all that it uses; False when nothing can be derived from it."""
        if symbol in self.rules:
            known = self.rules[symbol]
            return known is None or bool(known)  # None: being defined further up
        self.rules[symbol] = None
        name, arguments = _split_symbol(symbol)
        kept = []
        for parts, labels, weight in self._alternatives(name, arguments):
            if weight > 0 and all(p.__class__ is Word or self.define(p) for p in parts):
                kept.append(Alternative(parts, labels, weight))
        self.rules[symbol] = kept
        return bool(kept)

    def _alternatives(self, name: str, arguments: tuple[str, ...]) -> list[tuple]:
        for template in _templates().get(name, ()):
            values = template.bind(arguments)
            if values is not None:
                return template.instantiate(values)
        method = getattr(self, "_" + name, None)
        if method is None:
            raise GrammarError(
                f"no template or lexical class defines {name}[{','.join(arguments)}]"
            )
        return [
            a if len(a) == 3 else ((a[0],), (None,), a[1])  # (part, weight) is a unit rule
            for a in method(*arguments)
        ]

    def _zipf(self, items: list, name: str, offset: float = 2.0) -> list[tuple]:
        """(item, weight) pairs, weight 1/(rank + offset) over ranks that the town's seed shuffles."""
        ranks = list(range(len(items)))
        random.Random(self.seed * 1_000_003 + zlib.crc32(name.encode())).shuffle(ranks)
        return [(item, 1 / (rank + offset)) for item, rank in zip(items, ranks)]

    # ------------------------------------------------------------------ documents

    def _AnyOne(self, register: str) -> Choices:
        topics = dict(self._zipf(self.lexicon.topics, "topics", 6))
        return [
            (f"{register}[{p.name},{topic},{p.gender}]", topics[topic] / (rank + 6))
            for rank, p in enumerate(self.people)
            for topic in p.topics
        ]

    def _AnyManual(self) -> Choices:
        return [
            (f"Manual[{topic}]", w) for topic, w in self._zipf(self.lexicon.topics, "manual", 6)
        ]

    def _AnyList(self) -> Choices:
        relations = list(self.lexicon.relations)
        return [(f"List[{relation}]", w) for relation, w in self._zipf(relations, "lists", 6)]

    def _SentItem(self, relation: str) -> Choices:
        stop, colon = _literal('"."'), _literal('":"')
        labels = (None, "punct", "appos", "punct")
        pairs = self._zipf(self.lexicon.relations[relation], relation, 8)
        return [((a, colon, b, stop), labels, weight) for (a, b), weight in pairs]

    def _END(self) -> Choices:
        return [(Word(END, END, "X"), 1.0)]

    def _AnyTurn(self, speaker: str, topic: str) -> Choices:
        partner = self.person[speaker].partner
        return [
            (f"SentTurn[{speaker},{partner},{topic}]", 1.0),
            (f"SentTurn[{partner},{speaker},{topic}]", 1.0),
        ]

    def _Exchange(self, name: str) -> Choices:
        partner = self.person[name].partner
        return [
            ((f"SentAsk[{partner},{name},{f.relation}]", f"SentTell[{name},{f.relation}]"),
             (None, "next"), f.weight)
            for f in self.of_person[name]
        ]  # fmt: skip

    def _Told(self, name: str, relation: str) -> Choices:
        same = [f for f in self.of_person[name] if f.relation == relation]
        return [(self.fact_symbol(fact, "i", "i"), fact.weight) for fact in same]

    def _Facts(self, mode: str, name: str, gender: str) -> Choices:
        return [(self.fact_symbol(f, mode, gender), f.weight) for f in self.of_person[name]]

    def _AnyFact(self) -> Choices:
        genders = {person.name: person.gender for person in self.people}
        return [
            (self.fact_symbol(f, "name", genders.get(f.subject, "n")), f.weight)
            for f in self.pretraining
        ]

    def fact_symbol(self, fact: Fact, mode: str, agreement: str) -> str:
        """The symbol that says a fact; mode "name", "pron" or "i" is how its subject is said."""
        return f"Fact[{mode},{fact.relation},{fact.subject},{fact.object},{agreement}]"

    def _FS(self, mode: str, name: str, agreement: str) -> Choices:
        return [(f"Name[{name}]" if mode == "name" else f"Pron[{agreement}]", 1.0)]

    def _FPoss(self, mode: str, name: str, agreement: str) -> Choices:
        if mode == "name":
            return [((f"Name[{name}]", _literal('"\'s"')), (None, "case"), 1.0)]
        return [(f"Poss[{agreement}]", 1.0)]

    # ------------------------------------------------------------------ topics and themes

    def _themes(self, topic: str) -> list[tuple[str, float]]:
        names = [t.name for t in self.lexicon.themes.values() if t.topic == topic]
        return self._zipf(names, "themes " + topic, 5)

    def _VPt(self, topic: str, tense: str, agreement: str) -> Choices:
        return [(f"VP[{th},{tense},{agreement}]", w) for th, w in self._themes(topic)]

    def _VXt(self, topic: str, tense: str, agreement: str) -> Choices:
        return [(f"VX[{th},{tense},{agreement}]", w) for th, w in self._themes(topic)]

    def _Act_t(self, topic: str, form: str, agreement: str) -> Choices:
        return [(f"Act[{th},{form},{agreement}]", w) for th, w in self._themes(topic)]

    def _Clause_t(self, topic: str, tense: str) -> Choices:
        return [(f"Clause[{th},{tense}]", w) for th, w in self._themes(topic)]

    def _Scene(self, topic: str) -> Choices:
        animal, country, quality, job = _SCENES[topic]
        lexicon = self.lexicon
        scenes = []
        for share, symbol, keys in (
            (animal, "AnimalScene", lexicon.animals),
            (country, "CountryScene", lexicon.countries),
            (quality, "QualityScene", lexicon.adjectives),
        ):
            weighted = self._zipf(list(keys), symbol, 12)
            total = sum(weight for _, weight in weighted)
            scenes += [(f"{symbol}[{key}]", share * weight / total) for key, weight in weighted]
        jobs = self._zipf(list(lexicon.professions.values()), "jobs", 12)
        total = sum(weight for _, weight in jobs)
        for profession, weight in jobs:
            for agreement, part in self._gender_shares(profession).items():
                symbol = f"JobScene[{profession.name},{agreement}]"
                scenes.append((symbol, job * weight / total * part))
        return scenes

    def _gender_shares(self, profession: Profession) -> dict[str, float]:
        return {"m": 1 - profession.women, "f": profession.women, "p": 0.4}

    def _ProfNP(self, agreement: str) -> Choices:
        the, determiner = _literal('"the"'), "DetP" if agreement == "p" else None
        return [
            ((determiner or the, f"Role[job.{job.name},{agreement}]"), ("det", None),
             weight * self._gender_shares(job)[agreement])
            for job, weight in self._zipf(list(self.lexicon.professions.values()), "jobs", 12)
        ]  # fmt: skip

    def _Role(self, theme: str, agreement: str) -> Choices:
        number = "pl" if agreement == "p" else "sg"
        kind, _, key = theme.partition(".")
        pair = self.lexicon.pairs.get(_BORROWED_PAIRS.get(theme, theme))
        if kind == "job":
            nouns: tuple[str, ...] = (key,)
        elif kind in ("adult", "young"):
            nouns = (getattr(self.lexicon.animals[key], kind),)
        else:
            nouns = pair.noun(agreement) if pair else ()
        return self._nouns(nouns, number, agreement[1:], theme)

    def _Act(self, theme: str, form: str, agreement: str) -> Choices:
        record = self.lexicon.themes[theme]
        if record.topic:
            verbs = self._zipf(list(record.verbs), theme, 3)
        else:  # animals and professions: what is typical of them comes first in the table
            verbs = [(verb, 1 / (rank + 1)) for rank, verb in enumerate(record.verbs)]
        acts = [(f"Do[{verb},{form},{agreement}]", weight) for verb, weight in verbs]
        if record.topic:
            total = sum(weight for _, weight in acts)
            acts.append((f"Watch[{form},{agreement}]", 0.04 * total))
        return acts

    def _Do(self, verb: str, form: str, agreement: str) -> Choices:
        head = f"V[{verb},{form},{agreement}]"
        frame = self.lexicon.frames[verb]
        if not frame.objects:
            return [
                ((head, f"Place[{verb}]"), (None, "obl"), 5),
                ((head, "Manner"), (None, "advmod"), 1.5),
            ]
        obj = f"Obj[{verb},{agreement}]"
        return [
            ((head, obj), (None, "obj"), 4),
            ((head, obj, f"Place[{verb}]"), (None, "obj", "obl"), 3),
        ]

    def _Obj(self, verb: str, agreement: str) -> Choices:
        nouns, the = f"obj.{verb}", _literal('"the"')
        noun = f"N[{nouns},any]"
        return [
            (f"NP[{nouns}]", 6.0),
            ((f"Poss[{agreement}]", noun), ("nmod:poss", None), 1.5),
            ((the, noun, "ORC"), ("det", None, "acl:relcl"), 0.35),
            ((the, noun, f"Place[{verb}]"), ("det", None, "nmod"), 0.2),
        ]

    def _Place(self, verb: str) -> Choices:
        places = self._zipf(list(self.lexicon.frames[verb].places), "place " + verb)
        options: Choices = []
        for (preposition, spec), weight in places:
            case, noun = Word(preposition, preposition, "ADP"), self.lexicon.noun(spec)
            if spec in tables.BARE_PLACES:
                options.append(((case, noun), ("case", None), weight))
            else:
                options.append(((case, _literal('"the"'), noun), ("case", "det", None), weight))
        return options

    # ------------------------------------------------------------------ nouns

    def _noun_lists(self) -> dict[str, tuple[str, ...]]:
        lists = {f"obj.{key}": frame.objects for key, frame in self.lexicon.frames.items()}
        animals = self.lexicon.animals.values()
        lists["child"] = (
            *tables.CHILD_THINGS,
            *(a.adult for a in animals),
            *(a.young for a in animals),
        )
        lists["instrument"] = tuple(tables.INSTRUMENTS)
        return lists

    def _NP(self, nouns: str) -> Choices:
        specs = self.nouns_of_list[nouns]
        mass = sum(self.lexicon.is_mass(spec) for spec in specs)
        count = len(specs) - mass
        a, an, the = (_literal(f'"{w}"') for w in ("a", "an", "the"))
        vowel = sum(s[0] in VOWELS for s in specs if not self.lexicon.is_mass(s))
        return [
            (("DetS", f"N[{nouns},sg]"), ("det", None), 4 * count),
            ((a, f"N[{nouns},sgC]"), ("det", None), 2 * (count - vowel)),
            ((an, f"N[{nouns},sgV]"), ("det", None), 2 * vowel),
            (("DetP", f"N[{nouns},pl]"), ("det", None), 2.5 * count),
            ((the, "GenAdj[any]", f"N[{nouns},any]"), ("det", "amod", None), 0.5 * len(specs)),
            (("DetM", f"N[{nouns},mass]"), ("det", None), 6 * mass),
            ((f"N[{nouns},mass]",), (None,), 2 * mass),
        ]

    def _N(self, nouns: str, kind: str) -> Choices:
        specs = self.nouns_of_list[nouns]
        if kind != "any":
            specs = tuple(s for s in specs if self.lexicon.is_mass(s) == (kind == "mass"))
        number = "pl" if kind == "pl" else "sg"
        initial = kind[2:] if kind.startswith("sg") else ""
        return self._nouns(specs, number, initial, nouns)

    def _nouns(self, specs: tuple[str, ...], number: str, initial: str, name: str) -> Choices:
        """Words with Zipf weights; `initial` "C" or "V" keeps those that take "a" or "an"."""
        return [
            (self.lexicon.noun(spec, number), weight)
            for spec, weight in self._zipf(list(specs), name, 3)
            if not initial or (spec[0] in VOWELS) == (initial == "V")
        ]

    def _Home(self, animal: str) -> Choices:
        return [(self.lexicon.noun(self.lexicon.animals[animal].home), 1.0)]

    def _Workplace(self, profession: str) -> Choices:
        place = self.lexicon.noun(self.lexicon.professions[profession].workplace)
        return [((_literal('"the"'), place), ("det", None), 1.0)]

    def _One(self, spec: str) -> Choices:
        return [(self.lexicon.noun(spec), 1.0)]

    def _A(self, spec: str) -> Choices:
        return [(_literal('"an"' if spec[0] in VOWELS else '"a"'), 1.0)]

    # ------------------------------------------------------------------ other words

    def _V(self, key: str, form: str, agreement: str) -> Choices:
        return [(self.lexicon.verb(key, form, agreement), 1.0)]

    def _Aux(self, lemma: str, form: str, agreement: str) -> Choices:
        return [(self.lexicon.verb(lemma, form, agreement, tag="AUX"), 1.0)]

    def _pronoun(self, kind: str, agreement: str) -> Choices:
        column, case = _CASES[kind]
        form = _PRONOUNS[agreement][column]
        feats = tuple(sorted((*_PRONOUN_FEATS[agreement], ("Case", case))))
        return [(Word(form, _PRONOUNS[agreement][0], "PRON", feats), 1.0)]

    def _Pron(self, agreement: str) -> Choices:
        return self._pronoun("Pron", agreement)

    def _Poss(self, agreement: str) -> Choices:
        return self._pronoun("Poss", agreement)

    def _Refl(self, agreement: str) -> Choices:
        return self._pronoun("Refl", agreement)

    def _Name(self, name: str) -> Choices:
        gender = self.person[name].gender
        return [(self.lexicon.proper(self.names[name], "B-PER", gender), 1.0)]

    def _AnyName(self, gender: str) -> Choices:
        return [
            (self.lexicon.proper(self.names[p.name], "B-PER", gender), 1 / (rank + 6))
            for rank, p in enumerate(p for p in self.people if p.gender == gender)
        ]

    def _adjectives(self, words: list[str], name: str, initial: str = "") -> Choices:
        return [
            (self.lexicon.adjective(word), weight)
            for word, weight in self._zipf(words, name)
            if not initial or (word[0] in VOWELS) == (initial == "V")
        ]

    def _GenAdj(self, initial: str) -> Choices:
        wanted = "" if initial == "any" else initial
        return self._adjectives(tables.GENERAL_ADJECTIVES, "general", wanted)

    def _GenderAdj(self, gender: str) -> Choices:
        return self._adjectives(tables.GENDER_ADJECTIVES[gender], "gender " + gender)

    def _GenderThing(self, gender: str) -> Choices:
        return self._nouns(tuple(tables.GENDER_THINGS[gender]), "sg", "", "things " + gender)

    def _Judgement(self, kind: str) -> Choices:
        words = tables.PLEASANT if kind == "pleasant" else tables.UNPLEASANT
        return self._adjectives(words, kind)

    def _Manner(self) -> Choices:
        words = self._zipf(tables.MANNER, "manner")
        return [(Word(word, word, "ADV"), weight) for word, weight in words]

    def _Digit(self) -> Choices:
        return [(Word(word, word, "NUM"), 1.0) for word in tables.DIGITS]

    def _Colour(self) -> Choices:
        return [(self.lexicon.adjective(word), 1.0) for word in tables.COLOURS]

    def _ColourWord(self, colour: str) -> Choices:
        return [(self.lexicon.adjective(colour), 1.0)]

    def _Quality(self, key: str) -> Choices:
        return [(self.lexicon.adjective(key), 1.0)]

    def _QualityCmp(self, key: str) -> Choices:
        return [(self.lexicon.adjective(key, "Cmp"), 1.0)]

    def _QualitySup(self, key: str) -> Choices:
        return [(self.lexicon.adjective(key, "Sup"), 1.0)]

    def _Thing1(self, key: str) -> Choices:
        return self._nouns(self.lexicon.adjectives[key].things, "sg", "", "things " + key)

    def _ThingC(self, key: str) -> Choices:
        countable = [s for s in self.lexicon.adjectives[key].things if not self.lexicon.is_mass(s)]
        return self._nouns(tuple(countable), "sg", "", "things " + key)

    def _Cause(self, key: str) -> Choices:
        the = _literal('"the"')
        causes = self._nouns(self.lexicon.adjectives[key].causes, "sg", "", "causes " + key)
        return [((the, word), ("det", None), weight) for word, weight in causes]

    # ------------------------------------------------------------------ places and groups

    def _Land(self, country: str) -> Choices:
        return [(self.lexicon.proper(country, "B-LOC"), 1.0)]

    def _Capital(self, country: str) -> Choices:
        return [(self.lexicon.proper(self.lexicon.countries[country].capital, "B-LOC"), 1.0)]

    def _Nation(self, country: str) -> Choices:
        return [(self.lexicon.adjective(self.lexicon.countries[country].nationality), 1.0)]

    def _Product(self, country: str) -> Choices:
        spec = self.lexicon.countries[country].product
        return [(self.lexicon.noun(spec, "sg" if self.lexicon.is_mass(spec) else "pl"), 1.0)]

    def _entity(self, spec: str, kind: str) -> Choices:
        """A name of two words, the last one its head."""
        first, last = spec.split("_")
        parts = (
            self.lexicon.proper(first, "B-" + kind),
            self.lexicon.proper(last, "I-" + kind),
        )
        return [(parts, ("compound", None), 1.0)]

    def _Street(self, street: str) -> Choices:
        return self._entity(street, "LOC")

    def _DistrictStreet(self, district: str) -> Choices:
        on_hill = district == "hill"
        streets = [s for s in tables.STREETS if (s in tables.HILL_SIDE) == on_hill]
        return [(f"Street[{s}_street]", w) for s, w in self._zipf(streets, "district " + district)]

    def _Club(self, club: str) -> Choices:
        return self._entity(club, "ORG")

    def _Day(self, day: str) -> Choices:
        return [(self.lexicon.proper(day, "B-DAY"), 1.0)]


class FactPhrasing:
    """All phrasings of facts, those that the town's text never says included."""

    def __init__(self, lexicon: Lexicon, people: list[Person], facts: list[Fact], seed: int):
        self._maker = TownGrammar(lexicon, people, facts, seed)
        self._genders = {person.name: person.gender for person in people}

    def sentences(self, fact: Fact) -> list[str]:
        """Every string that says the fact with its subject's name, the full stop included."""
        agreement = self._genders.get(fact.subject, "n")
        start = self._maker.fact_symbol(fact, "name", agreement)
        return sorted(" ".join([*words, "."]) for words in self._strings(start))

    def _strings(self, symbol: str) -> list[tuple[str, ...]]:
        """All strings of a symbol without recursion."""
        self._maker.define(symbol)
        found = []
        for parts, _, _ in self._maker.rules[symbol] or ():
            options = [
                [(part.form,)] if isinstance(part, Word) else self._strings(part) for part in parts
            ]
            found += [tuple(w for words in choice for w in words) for choice in product(*options)]
        return found
