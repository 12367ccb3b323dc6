# ruff: noqa: E501  (templates on one line each read best as text)
"""Questions about the town with true answers: facts in several phrasings, the calendar, and what nobody knows."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.facts import Fact
from course_lib.data.riverbank.lexicon import lemma_of
from course_lib.data.riverbank.morphology import VOWELS

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Town

Kind = Literal["wh", "inverse", "yes_no", "calendar", "unanswerable"]
Split = Literal["said", "held_out", "unknown", "none"]
Phrasing = Literal["train", "test"]

DONT_KNOW = "i do not know"
PEOPLE_RELATIONS = frozenset({"spouse", "father", "mother", "friend"})
_SPLIT_OF: dict[str, Split] = {"pretraining": "said", "held_out": "held_out", "unknown": "unknown"}

# Each relation: questions for its object, then yes-no questions. The last one of each is for testing.
_TEMPLATES = {
    "profession": (("what does {s} do ?", "what does {s} work as ?", "what does {s} earn a living as ?"),
                   ("is {s} {a} {o} ?", "does {s} work as {a} {o} ?")),
    "workplace": (("where does {s} work ?", "where does {s} spend the day ?", "where does {s} go every day ?"),
                  ("does {s} work at the {o} ?", "does {s} spend the day at the {o} ?")),
    "street": (("where does {s} live ?", "on which street does {s} live ?", "on which street is the house of {s} ?"),
               ("does {s} live on {o} ?", "is the house of {s} on {o} ?")),
    "pet": (("which pet does {s} have ?", "what is the pet of {s} ?", "what does {s} keep at home ?"),
            ("does {s} have {a} {o} ?", "is the pet of {s} {a} {o} ?")),
    "food": (("what is the favourite food of {s} ?", "which food does {s} like best ?", "what does {s} always order ?"),
             ("is {o} the favourite food of {s} ?", "does {s} always order {o} ?")),
    "colour": (("what is the favourite colour of {s} ?", "which colour does {s} like best ?", "what is {s} 's favourite colour ?"),
               ("is {o} the favourite colour of {s} ?", "does {s} like the colour {o} best ?")),
    "origin": (("where does {s} come from ?", "where was {s} born ?", "where did the family of {s} come from ?"),
               ("does {s} come from {o} ?", "was {s} born in {o} ?")),
    "spouse": (("whom did {s} marry ?", "to whom is {s} married ?", "who is married to {s} ?"),
               ("did {s} marry {o} ?", "is {s} married to {o} ?")),
    "father": (("who is the child of {s} ?", "who is {s} 's child ?"),
               ("is {s} the father of {o} ?", "is {o} the child of {s} ?")),
    "mother": (("who is the child of {s} ?", "who is {s} 's child ?"),
               ("is {s} the mother of {o} ?", "is {o} the child of {s} ?")),
    "friend": (("who is the best friend of {s} ?", "whom does {s} trust most ?", "who is {s} 's best friend ?"),
               ("is {o} the best friend of {s} ?", "does {s} trust {o} most ?")),
    "club": (("which club does {s} belong to ?", "to which club does {s} belong ?", "which club is {s} a member of ?"),
             ("does {s} belong to the {o} ?", "is {s} a member of the {o} ?")),
    "day": (("on which day is the {s} ?", "when is the {s} ?", "on which day is there {b} {s} ?"),
            ("is the {s} on {o} ?", "is there {b} {s} every {o} ?")),
    "held_at": (("where is the {s} held ?", "where is the {s} ?", "where does the {s} take place ?"),
                ("is the {s} held at the {o} ?", "does the {s} take place at the {o} ?")),
    "located": (("on which street is the {s} ?", "where will you find the {s} ?", "on which street does the {s} stand ?"),
                ("is the {s} on {o} ?", "does the {s} stand on {o} ?")),
}  # fmt: skip
_INVERSE = {"father": "who is the father of {o} ?", "mother": "who is the mother of {o} ?"}
_SEASONS = ("spring", "summer", "autumn", "winter")


@dataclass(frozen=True)
class Question:
    """A question in the town's surface form, with its one true answer.

    Attributes:
        text: "where does anna live ?".
        answer: a short phrase ("mill street"), "yes", "no", or "i do not know".
        kind: "wh" (asks for a fact's object), "inverse" (for its subject), "yes_no", "calendar", or
            "unanswerable" (the town has no such fact).
        split: the fact's: "said" in the text, "held_out", "unknown"; "none" if unanswerable.
        phrasing: "train" or "test": a phrasing is of one kind for all facts of its relation.
        relation: the relation asked about; for the calendar "events", "order", "weekday_after" or
            "weekday_before"; "season" for a taste that no fact treats.
        subject: whom or what it is about, as in `Fact.subject`.
        choices: every answer that would fit the question; the answer is made of these alone.
        fact: the fact that answers it; None for the calendar and the unanswerable.
    """

    text: str
    answer: str
    kind: Kind
    split: Split
    phrasing: Phrasing
    relation: str
    subject: str
    choices: tuple[str, ...]
    fact: Fact | None = None

    @property
    def is_test(self) -> bool:
        """Whether exercises that learn from questions keep all questions of this content for testing."""
        return in_test(f"{self.subject} {self.relation}")


def in_test(content: str) -> bool:
    """One content in five is for testing: the same one on every platform and for every seed."""
    return zlib.crc32(content.encode()) % 5 == 0


def pair_content(relation: str, pair: tuple[str, str]) -> str:
    """The content of a task about two related words; hot : cold and cold : hot are one content."""
    return " ".join((relation, *sorted(pair)))


def make_questions(town: Town) -> list[Question]:
    """All questions about the town, in a fixed order."""
    objects = possible_objects(town)
    true = {(f.subject, f.relation, f.object) for f in town.facts}
    shared = Counter((f.relation, f.object) for f in town.facts)
    questions: list[Question] = []
    for fact in town.facts:
        questions += _about_fact(fact, objects[fact.relation], true)
        if fact.relation in _INVERSE and shared[fact.relation, fact.object] == 1:
            text = _INVERSE[fact.relation].format(o=fact.object_text)
            answer, people = fact.subject_text, _texts(objects[fact.relation])
            questions.append(_question(text, answer, "inverse", fact, "train", people))
    return questions + _calendar(town) + _unanswerable(town)


def possible_objects(town: Town) -> dict[str, tuple[str, ...]]:
    """What the object of each relation can be (as in `Fact.object`), true or not."""
    lexicon = town.lexicon
    people = tuple(sorted(person.name for person in town.people))
    streets = tuple(street + "_street" for street in tables.STREETS)
    places = tuple(line.split()[1] for line in tables.EVENTS.split("\n") if line.strip())
    return {
        "profession": tuple(lexicon.professions),
        "workplace": tuple(job.workplace for job in lexicon.professions.values()),
        "street": streets,
        "pet": tuple(tables.PETS),
        "food": tuple(tables.FOODS),
        "colour": tuple(tables.COLOURS),
        "origin": tuple(lexicon.countries),
        "spouse": people,
        "father": people,
        "mother": people,
        "friend": people,
        "club": tuple(club.replace(" ", "_") for club in tables.CLUBS),
        "day": tuple(tables.DAYS),
        "held_at": places,
        "located": streets,
    }


def _texts(objects: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(lemma_of(o).replace("_", " ") for o in objects)


def _question(
    text: str, answer: str, kind: Kind, fact: Fact, phrasing: Phrasing, choices: tuple[str, ...]
) -> Question:
    split = _SPLIT_OF[fact.split]
    return Question(text, answer, kind, split, phrasing, fact.relation, fact.subject, choices, fact)


def _about_fact(fact: Fact, objects: tuple[str, ...], true: set[tuple]) -> list[Question]:
    wh, yes_no = _TEMPLATES[fact.relation]
    subject, choices = fact.subject_text, _texts(objects)
    questions = []
    for template in wh:
        text = template.format(s=subject, b=_article(subject))
        phrasing: Phrasing = "test" if template == wh[-1] else "train"
        questions.append(_question(text, fact.object_text, "wh", fact, phrasing, choices))
    rng = random.Random(zlib.crc32(f"{fact.subject} {fact.relation}".encode()))
    false = [
        o for o in objects
        if (fact.subject, fact.relation, o) not in true and o != fact.subject
    ]  # fmt: skip
    for template in yes_no:
        phrasing = "test" if template == yes_no[-1] else "train"
        for answer, obj in (("yes", fact.object), ("no", rng.choice(false))):
            (said,) = _texts((obj,))
            text = template.format(s=subject, o=said, a=_article(said), b=_article(subject))
            questions.append(_question(text, answer, "yes_no", fact, phrasing, ("yes", "no")))
    return questions


def _article(noun: str) -> str:
    return "an" if noun[0] in VOWELS else "a"


def _calendar(town: Town) -> list[Question]:
    """What is on each day, the order of the days, and which event comes first in the week."""
    day_of = {f.subject_text: f.object for f in town.facts if f.relation == "day"}
    events, days = tuple(day_of), tuple(tables.DAYS)
    questions = []

    def ask(
        texts: tuple[str, str], answer: str, subject: str, relation: str, choices: tuple
    ) -> None:
        phrasings: tuple[Phrasing, Phrasing] = ("train", "test")
        for text, phrasing in zip(texts, phrasings):
            questions.append(
                Question(text, answer, "calendar", "said", phrasing, relation, subject, choices)
            )

    for place, day in enumerate(days):
        on_it = [event for event in events if day_of[event] == day]
        ask(
            (f"what is there on {day} ?", f"what takes place every {day} ?"),
            " and ".join(on_it) or "nothing",
            day,
            "events",
            (*events, "nothing"),
        )
        ask(
            (f"which day comes after {day} ?", f"what is the day after {day} ?"),
            days[(place + 1) % len(days)],
            day,
            "weekday_after",
            days,
        )
        ask((f"which day comes before {day} ?", f"what is the day before {day} ?"),
            days[place - 1], day, "weekday_before", days)  # fmt: skip
    for first in events:
        for second in events:
            if day_of[first] != day_of[second]:
                earlier = days.index(day_of[first]) < days.index(day_of[second])
                ask((f"does the {first} come before the {second} in the week ?",
                     f"is the {first} before the {second} in the week ?"),
                    "yes" if earlier else "no", f"{first} {second}", "order", ("yes", "no"))  # fmt: skip
    return questions


def _unanswerable(town: Town) -> list[Question]:
    """The marriages and children of those who have none, and tastes that nobody ever recorded."""
    known = {(f.subject, f.relation) for f in town.facts}
    people = tuple(sorted(person.name for person in town.people))
    questions = []
    for person in town.people:
        parent = "father" if person.gender == "m" else "mother"
        asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
            (relation, _TEMPLATES[relation][0], people)
            for relation in ("spouse", parent)
            if (person.name, relation) not in known
        ]
        seasons = ("which season does {s} like best ?", "what is the favourite season of {s} ?")
        asked.append(("season", seasons, _SEASONS))
        for relation, templates, choices in asked:
            for template in templates:
                phrasing: Phrasing = "test" if template == templates[-1] else "train"
                questions.append(
                    Question(
                        template.format(s=person.name), DONT_KNOW, "unanswerable", "none",
                        phrasing, relation, person.name, choices,
                    )
                )  # fmt: skip
    return questions
