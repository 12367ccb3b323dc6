"""Canaries: sentences with a random code, planted in documents to measure what a model memorises.

The town writes such sentences itself now and then ("the code of the green box is four one one nine
."), so a planted one is an ordinary sentence of the language and every probability stays exact
(Carlini et al. 2019, "The Secret Sharer").
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.lexicon import lemma_of

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Document, Town

CODE_LENGTH = 4
_BODY_OF = {"SentOpen": "Story", "SentHello": "Child", "SentManual": "Manual"}


@dataclass(frozen=True)
class Canary:
    """A box's code: a colour and four digits (words), all 10,000 codes equally likely in the text.

    Raises:
        TownError: a colour or a digit that the town does not know, or not four digits.
    """

    colour: str
    code: tuple[str, ...]

    def __post_init__(self) -> None:
        colours = [lemma_of(colour) for colour in tables.COLOURS]
        if self.colour not in colours:
            raise TownError(f"no box is {self.colour!r}; choose one of {', '.join(colours)}")
        if len(self.code) != CODE_LENGTH or not set(self.code) <= set(tables.DIGITS):
            digits = ", ".join(tables.DIGITS)
            raise TownError(f"a code is {CODE_LENGTH} of the words {digits}; got {self.code!r}")

    @property
    def prompt(self) -> str:
        """What stands before the code: "the code of the green box is"."""
        return f"the code of the {self.colour} box is"

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.prompt} {' '.join(self.code)} ."


def draw_canaries(n: int, seed: int = 0) -> list[Canary]:
    """n canaries with different colours and uniformly random codes.

    Raises:
        TownError: more canaries than colours.
    """
    colours = [lemma_of(colour) for colour in tables.COLOURS]
    if not 0 <= n <= len(colours):
        raise TownError(f"there are {len(colours)} colours of boxes; ask for at most as many")
    rng = random.Random(seed)
    rng.shuffle(colours)
    return [
        Canary(colour, tuple(rng.choice(tables.DIGITS) for _ in range(CODE_LENGTH)))
        for colour in colours[:n]
    ]


def plant(
    town: Town,
    documents: Sequence[Document],
    canaries: Sequence[Canary],
    copies: int | Sequence[int],
    seed: int = 0,
) -> list[Document]:
    """The documents with each canary's sentence put into `copies` of them (one number, or one each).

    Canaries go into stories, child-directed texts and manuals, after a random sentence; the given
    documents stay as they are.

    Raises:
        TownError: more copies asked for than documents that can take one.
    """
    numbers = [copies] * len(canaries) if isinstance(copies, int) else list(copies)
    if len(numbers) != len(canaries):
        raise TownError("give one number of copies, or one for each canary")
    hosts = [
        index
        for index, document in enumerate(documents)
        if document.sentences[0].tree.symbol.partition("[")[0] in _BODY_OF
    ]
    if sum(numbers) > len(hosts):
        raise TownError(
            f"{sum(numbers)} copies do not fit into {len(hosts)} documents that can take one; "
            "plant fewer or give more documents"
        )
    rng = random.Random(seed)
    rng.shuffle(hosts)
    planted = list(documents)
    for canary, number in zip(canaries, numbers):
        for _ in range(number):
            index = hosts.pop()
            planted[index] = _insert(town, planted[index], canary, rng)
    return planted


def _insert(town: Town, document: Document, canary: Canary, rng: random.Random) -> Document:
    name, _, features = document.sentences[0].tree.symbol.partition("[")
    register = _BODY_OF[name]
    tree = town.parses(canary.text, f"Sent{register}[{features}")[0]
    body = town.grammar.expansions[f"{register}Body[{features}"]
    place = rng.randint(1, len(document.sentences))
    sentences = list(document.sentences)
    sentences.insert(place, town.annotate(tree, document.register))
    goes_on = body.rules[0].log_prob
    log_prob = document.log_prob + goes_on + tree.log_prob
    return replace(document, sentences=tuple(sentences), log_prob=log_prob)
