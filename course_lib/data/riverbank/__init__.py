"""Riverbank, the made-up town whose every truth is known: text, annotation, exact probabilities."""

from course_lib.data.riverbank.canaries import Canary, draw_canaries
from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.evaluation import Analogy, Bias
from course_lib.data.riverbank.facts import Fact, Person
from course_lib.data.riverbank.grammar import END
from course_lib.data.riverbank.town import (
    REGISTERS,
    TOWN_SEED,
    Document,
    Entropy,
    Sentence,
    Town,
    detokenise,
    tokenise,
)

__all__ = [
    "END",
    "REGISTERS",
    "TOWN_SEED",
    "Analogy",
    "Bias",
    "Canary",
    "Document",
    "Entropy",
    "Fact",
    "Person",
    "Sentence",
    "Town",
    "TownError",
    "detokenise",
    "draw_canaries",
    "tokenise",
]
