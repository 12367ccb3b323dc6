"""Few-shot prompts in the form of the town's list documents: examples of a relation, then a query."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.questions import in_test, pair_content

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Town

# Relations that no list document of the town treats: nothing but the examples says what is meant.
UNLISTED_RELATIONS = ("opposite", "animal_food", "country_product")


@dataclass(frozen=True)
class FewShot:
    """A few-shot prompt with its answer.

    Attributes:
        prompt: "king : queen . prince : princess . duke :".
        answer: "duchess".
        examples: the pairs in the prompt; none of them is held out.
        query: the first word of the held-out pair that is asked for.
        relation: key of `Town.word_pairs`.
    """

    prompt: str
    answer: str
    examples: tuple[tuple[str, str], ...]
    query: str
    relation: str


def few_shot(town: Town, relation: str, k: int, seed: int) -> FewShot:
    """k examples of a relation and a query; see `Town.few_shot`."""
    if relation not in town.word_pairs:
        raise TownError(f"no relation {relation!r}; choose from {', '.join(town.word_pairs)}")
    shown, asked = split_pairs(town, relation)
    if not 0 <= k <= len(shown):
        raise TownError(f"{relation} has {len(shown)} example pairs; ask for 0 to {len(shown)}")
    rng = random.Random(seed)
    examples = tuple(rng.sample(shown, k))
    query, answer = rng.choice(asked)
    lines = [f"{first} : {second} ." for first, second in examples]
    return FewShot(" ".join([*lines, f"{query} :"]), answer, examples, query, relation)


def split_pairs(town: Town, relation: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs that may be shown, and the held-out pairs that are asked for (at least one each)."""
    pairs = town.word_pairs[relation]
    asked = [pair for pair in pairs if in_test(pair_content(relation, pair))] or pairs[-1:]
    return [pair for pair in pairs if pair not in asked], asked
