"""Riverbank, the made-up town whose every truth is known: text, annotation, exact probabilities."""

from course_lib.data.riverbank.canaries import Canary, draw_canaries
from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.evaluation import Analogy, Bias
from course_lib.data.riverbank.facts import Fact, Person
from course_lib.data.riverbank.fewshot import UNLISTED_RELATIONS, FewShot
from course_lib.data.riverbank.grammar import END
from course_lib.data.riverbank.instructions import (
    HELD_OUT_KINDS,
    INSTRUCTION_KINDS,
    Instruction,
)
from course_lib.data.riverbank.preferences import (
    POLITE_MARKERS,
    QUALITIES,
    Annotator,
    Comparison,
    GoldReward,
    PreferencePair,
    Reply,
)
from course_lib.data.riverbank.questions import DONT_KNOW, Question
from course_lib.data.riverbank.tovian import Tovian, Translation
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
    "DONT_KNOW",
    "END",
    "HELD_OUT_KINDS",
    "INSTRUCTION_KINDS",
    "POLITE_MARKERS",
    "QUALITIES",
    "REGISTERS",
    "TOWN_SEED",
    "UNLISTED_RELATIONS",
    "Analogy",
    "Annotator",
    "Bias",
    "Canary",
    "Comparison",
    "Document",
    "Entropy",
    "Fact",
    "FewShot",
    "GoldReward",
    "Instruction",
    "Person",
    "PreferencePair",
    "Question",
    "Reply",
    "Sentence",
    "Tovian",
    "Town",
    "TownError",
    "Translation",
    "detokenise",
    "draw_canaries",
    "tokenise",
]
