"""The town's people and the facts about them: (subject, relation, object) records with a frequency."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.lexicon import Lexicon, lemma_of

Split = Literal["pretraining", "held_out", "unknown"]

# Relations that give one another away share one split.
_TIED = {"workplace": "profession", "father": "parent", "mother": "parent", "spouse": "parent"}
TOPICS_PER_PERSON = 3
_SPLIT_CYCLE: tuple[Split, ...] = (*("pretraining",) * 8, "held_out", "unknown")


class Person(NamedTuple):
    """A named inhabitant; `name` is the word, `gender` "m" or "f", `topics` what their stories treat."""

    name: str
    gender: str
    profession: str
    partner: str
    street: str
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One true statement about the town.

    Attributes:
        subject, relation, object: words of the town; a street or club has an underscore
            ("mill_street"), a word with several senses its sense key ("bank@money").
        split: "pretraining" facts are said in the text; "held_out" and "unknown" ones never are
            (two disjoint sets: to test recall of what was never said, and to teach it later).
        weight: relative frequency with which the text says it (Zipfian; 0 when it never does).
    """

    subject: str
    relation: str
    object: str
    split: Split
    weight: float

    @property
    def subject_text(self) -> str:
        """The subject as it stands in the text: "anna", "bank"."""
        return lemma_of(self.subject).replace("_", " ")

    @property
    def object_text(self) -> str:
        """The object as it stands in the text: "mill street", "bank"."""
        return lemma_of(self.object).replace("_", " ")

    @property
    def held_out(self) -> bool:
        """True when no pretraining text says this fact."""
        return self.split != "pretraining"


def make_people(lexicon: Lexicon, rng: random.Random) -> list[Person]:
    """The inhabitants: professions follow the planted gender shares; everyone has a friend."""
    jobs = list(lexicon.professions.values())
    men, women = ([lemma_of(name) for name in names] for names in (tables.MEN, tables.WOMEN))
    couples = list(zip(_shuffled(men, rng), _shuffled(women, rng)))
    people = []
    for man, woman in couples:
        street = rng.choice(tables.STREETS) + "_street"
        for name, gender, partner in ((man, "m", woman), (woman, "f", man)):
            weights = [j.women if gender == "f" else 1 - j.women for j in jobs]
            job = jobs[_draw(weights, rng)].name
            topics = tuple(sorted(rng.sample(lexicon.topics, TOPICS_PER_PERSON)))
            people.append(Person(name, gender, job, partner, street, topics))
    return _shuffled(people, rng)


def make_facts(lexicon: Lexicon, people: list[Person], rng: random.Random) -> list[Fact]:
    """All facts of the town, in a fixed order; Zipfian weights over a shuffled ranking."""
    records: list[tuple[str, str, str, str]] = []  # subject, relation, object, tie
    names = [person.name for person in people]
    for number, person in enumerate(people):
        family = "-".join(sorted((person.name, person.partner)))
        married = number % 3 != 0 and names.index(person.partner) % 3 != 0
        for relation, obj in _person_facts(lexicon, people, person, married, rng):
            tie = _TIED.get(relation, relation)
            owner = family if tie == "parent" or relation == "street" else person.name
            records.append((person.name, relation, obj, f"{owner}/{tie}"))
    for line in tables.EVENTS.split("\n"):
        if line.strip():
            event, place = line.split()
            records.append((event, "day", rng.choice(tables.DAYS), ""))
            records.append((event, "held_at", place, ""))
    for job in lexicon.professions.values():
        records.append((job.workplace, "located", rng.choice(tables.STREETS) + "_street", ""))
    ties = _shuffled(sorted({tie for *_, tie in records if tie}), rng)
    splits = {tie: _SPLIT_CYCLE[i % len(_SPLIT_CYCLE)] for i, tie in enumerate(ties)}
    ranks = _shuffled(list(range(len(records))), rng)
    return [
        Fact(s, r, o, split, 1 / (rank + 10) if split == "pretraining" else 0.0)
        for rank, (s, r, o, tie) in zip(ranks, records)
        for split in (splits.get(tie, "pretraining"),)
    ]


def _person_facts(
    lexicon: Lexicon, people: list[Person], person: Person, married: bool, rng: random.Random
) -> list[tuple[str, str]]:
    others = [p.name for p in people if p.name not in (person.name, person.partner)]
    facts = [
        ("profession", person.profession),
        ("workplace", lexicon.professions[person.profession].workplace),
        ("street", person.street),
        ("pet", rng.choice(tables.PETS)),
        ("food", rng.choice(tables.FOODS)),
        ("colour", rng.choice(tables.COLOURS)),
        ("origin", rng.choice(list(lexicon.countries))),
        ("friend", rng.choice(others)),
        ("club", rng.choice(tables.CLUBS).replace(" ", "_")),
    ]
    if married:
        facts.append(("spouse", person.partner))
        facts.append(("father" if person.gender == "m" else "mother", _child(person, people)))
    return facts


def _child(person: Person, people: list[Person]) -> str:
    """The couple's child: the same for both parents, and neither of them."""
    couple = sorted((person.name, person.partner))
    names = sorted(p.name for p in people if p.name not in couple)
    return names[sum(map(ord, "".join(couple))) % len(names)]


def _draw(weights: list[float], rng: random.Random) -> int:
    target = rng.random() * sum(weights)
    for index, weight in enumerate(weights):
        target -= weight
        if target < 0:
            return index
    return len(weights) - 1


def _shuffled(items: list, rng: random.Random) -> list:
    items = list(items)
    rng.shuffle(items)
    return items
