"""Instructions over the town with checkable responses: several kinds of task, some kept for testing."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal

from course_lib.data.riverbank import morphology
from course_lib.data.riverbank.errors import TownError
from course_lib.data.riverbank.lengths import sentences_of_length
from course_lib.data.riverbank.lexicon import lemma_of
from course_lib.data.riverbank.questions import Question, in_test, pair_content

if TYPE_CHECKING:
    from course_lib.data.riverbank.town import Sentence, Town

# Kinds that no training set contains; each has a near relative that is trained.
HELD_OUT_KINDS = ("last_word", "superlative", "rhyme")
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
_MISSES = 400  # draws without a new prompt after which a kind counts as used up


@dataclass(frozen=True)
class Instruction:
    """A prompt with a correct response and the way to check another one.

    Attributes:
        prompt, response: in the town's surface form (tokens joined by single spaces).
        kind: the kind of task (INSTRUCTION_KINDS).
        check: "exact" (the response itself), or "rhyme" (any of several words is right).
        accepted: every response that is right.
    """

    prompt: str
    response: str
    kind: str
    check: Literal["exact", "rhyme"]
    accepted: frozenset[str]

    def accepts(self, response: str) -> bool:
        """Whether a response is right; white space and a full stop at the end do not matter."""
        return _normal(response) in self.accepted


class _Task:
    """One drawn task: what it is about (which decides train or test), prompt, right responses."""

    __slots__ = ("accepted", "check", "content", "prompt", "response")

    def __init__(
        self, content: str, prompt: str, response: str, others: Sequence[str] = (),
        check: Literal["exact", "rhyme"] = "exact",
    ):  # fmt: skip
        self.content, self.prompt, self.response, self.check = content, prompt, response, check
        self.accepted = frozenset(_normal(r) for r in (response, *others))


def _normal(response: str) -> str:
    return " ".join(response.split()).removesuffix(" .")


class Workshop:
    """Draws tasks of every kind for a town; a method bears the name of the kind it draws."""

    def __init__(self, town: Town):
        self.town = town

    # ------------------------------------------------------------------ facts

    def answer(self, rng: random.Random, test: bool) -> _Task:
        """A question for the object of a fact that the text says."""
        return self._asked(rng, test, ("wh",))

    def yes_no(self, rng: random.Random, test: bool) -> _Task:
        """Whether a fact holds."""
        return self._asked(rng, test, ("yes_no",))

    def calendar(self, rng: random.Random, test: bool) -> _Task:
        """The days and what is on them."""
        return self._asked(rng, test, ("calendar",))

    def _asked(self, rng: random.Random, test: bool, kinds: tuple[str, ...]) -> _Task:
        pool = self._questions[kinds, test]
        question = pool[int(rng.random() * len(pool))]
        return _Task(f"{question.subject} {question.relation}", question.text, question.answer)

    @cached_property
    def _questions(self) -> dict[tuple[tuple[str, ...], bool], list[Question]]:
        pools: dict[tuple[tuple[str, ...], bool], list[Question]] = defaultdict(list)
        for question in self.town.questions(split="said"):
            if question.is_test or question.phrasing == "train":
                pools[(question.kind,), question.is_test].append(question)
        return pools

    # ------------------------------------------------------------------ sentences

    def translate(self, rng: random.Random, test: bool) -> _Task:
        """A short sentence in Tovian."""
        sentence = self._sentence(rng, 4, 9)
        how = rng.choice(("translate into tovian :", "say in tovian :"))
        return _Task(sentence.text, f"{how} {sentence.text}", self.town.translate(sentence).text)

    def names(self, rng: random.Random, test: bool) -> _Task:
        """The people named in a sentence, in order."""
        sentence = self._sentence(rng, 5, 14)
        people = [t for t, e in zip(sentence.tokens, sentence.entities) if e == "B-PER"]
        how = rng.choice(("name the people in :", "who is named in :"))
        return _Task(sentence.text, f"{how} {sentence.text}", " and ".join(people) or "nobody")

    def count_words(self, rng: random.Random, test: bool) -> _Task:
        """How many words a list has."""
        words = self._words(rng, 2, 9)
        how = rng.choice(("how many words are these :", "count the words :"))
        return self._about_words(words, how, _NUMBERS[len(words)])

    def _sentence(self, rng: random.Random, shortest: int, longest: int) -> Sentence:
        sentences = sentences_of_length(self.town, rng.getrandbits(48), shortest, longest)
        return next(sentences)

    # ------------------------------------------------------------------ lists of words

    def copy(self, rng: random.Random, test: bool) -> _Task:
        """The words again."""
        words = self._words(rng, 2, 7)
        return self._about_words(words, rng.choice(("repeat :", "say again :")), " ".join(words))

    def reverse(self, rng: random.Random, test: bool) -> _Task:
        """The words from last to first."""
        words = self._words(rng, 2, 6)
        how = rng.choice(("reverse :", "say from last to first :"))
        return self._about_words(words, how, " ".join(words[::-1]))

    def sort(self, rng: random.Random, test: bool) -> _Task:
        """The words in alphabetical order."""
        words = self._words(rng, 2, 6)
        how = rng.choice(("sort :", "put into the order of the alphabet :"))
        return self._about_words(words, how, " ".join(sorted(words)))

    def first_word(self, rng: random.Random, test: bool) -> _Task:
        """The first word."""
        words = self._words(rng, 2, 7)
        return self._about_words(words, "what is the first word of :", words[0])

    def last_word(self, rng: random.Random, test: bool) -> _Task:
        """The last word."""
        words = self._words(rng, 2, 7)
        return self._about_words(words, "what is the last word of :", words[-1])

    def _words(self, rng: random.Random, fewest: int, most: int) -> list[str]:
        return rng.sample(self._vocabulary, rng.randint(fewest, most))

    def _about_words(self, words: list[str], how: str, response: str) -> _Task:
        listed = " ".join(words)
        return _Task(listed, f"{how} {listed}", response)

    @cached_property
    def _vocabulary(self) -> list[str]:
        return [word for word in self.town.vocabulary if word.isalpha()]

    # ------------------------------------------------------------------ words and what they go with

    def plural(self, rng: random.Random, test: bool) -> _Task:
        """The plural of a noun."""
        return self._related(
            rng, "singular_plural", "what is the plural of {} ?", "{} in the plural :"
        )

    def past(self, rng: random.Random, test: bool) -> _Task:
        """The past tense of a verb."""
        return self._related(rng, "verb_past", "what is the past of {} ?", "{} in the past :")

    def comparative(self, rng: random.Random, test: bool) -> _Task:
        """The comparative of an adjective."""
        return self._related(rng, "comparative", "what is the comparative of {} ?")

    def superlative(self, rng: random.Random, test: bool) -> _Task:
        """The superlative of an adjective."""
        return self._related(rng, "superlative", "what is the superlative of {} ?")

    def capital(self, rng: random.Random, test: bool) -> _Task:
        """The capital of a country."""
        return self._related(
            rng,
            "country_capital",
            "what is the capital of {} ?",
            "which town is the capital of {} ?",
        )

    def young_animal(self, rng: random.Random, test: bool) -> _Task:
        """The name of an animal's young."""
        return self._related(
            rng, "young_animal", "what is a young {} ?", "name the young of the {} :"
        )

    def opposite(self, rng: random.Random, test: bool) -> _Task:
        """The opposite of an adjective."""
        return self._related(rng, "opposite", "what is the opposite of {} ?")

    def rhyme(self, rng: random.Random, test: bool) -> _Task:
        """A word that ends like another, from its last vowels on (as it is spelt)."""
        word, ending = rng.choice(self._rhyming)
        others = [other for other in self._endings[ending] if other != word]
        prompt = rng.choice(("give a rhyme for {} :", "which word ends like {} ?")).format(word)
        return _Task(word, prompt, others[0], others, "rhyme")

    def _related(self, rng: random.Random, relation: str, *prompts: str) -> _Task:
        pair = rng.choice(self.town.word_pairs[relation])
        prompt = rng.choice(prompts).format(pair[0])
        return _Task(pair_content(relation, pair), prompt, pair[1])

    @cached_property
    def _endings(self) -> dict[str, list[str]]:
        endings: dict[str, list[str]] = defaultdict(list)
        by_frequency = sorted(self._vocabulary, key=lambda w: (-self.town.word_frequencies[w], w))
        for word in by_frequency:
            endings[_ending(word)].append(word)
        return {e: words for e, words in endings.items() if len(e) >= 3 and len(words) > 1}

    @cached_property
    def _rhyming(self) -> list[tuple[str, str]]:
        return sorted((word, ending) for ending, words in self._endings.items() for word in words)


def _ending(word: str) -> str:
    """The word from its last group of vowels on; a silent last "e" does not count as one."""
    place = len(word) - 1
    if word.endswith("e"):
        place -= 1
    while place > 0 and word[place] not in morphology.VOWELS + "y":
        place -= 1
    while place > 0 and word[place - 1] in morphology.VOWELS + "y":
        place -= 1
    return word[place:]


INSTRUCTION_KINDS = tuple(
    name for name, value in vars(Workshop).items() if not name.startswith("_") and callable(value)
)


def word_pairs(town: Town) -> dict[str, list[tuple[str, str]]]:
    """Pairs of word forms by relation: those of the list documents, and the UNLISTED_RELATIONS.

    A first word that would have two partners is left out, and so is a word that is its own partner.
    """
    lexicon = town.lexicon
    forms = {
        name: [(a.form, b.form) for a, b in pairs] for name, pairs in lexicon.relations.items()
    }
    adjectives, animals = lexicon.adjectives.values(), lexicon.animals.values()
    forms["opposite"] = [(lemma_of(a.key), lemma_of(a.opposite)) for a in adjectives]
    forms["animal_food"] = [(lemma_of(a.adult), lemma_of(a.food)) for a in animals]
    forms["country_product"] = [(c.name, lemma_of(c.product)) for c in lexicon.countries.values()]
    clean = {}
    for name, pairs in forms.items():
        partners = defaultdict(set)
        for first, second in pairs:
            partners[first].add(second)
        clean[name] = [
            (first, second)
            for first, second in dict.fromkeys(pairs)
            if len(partners[first]) == 1 and first != second
        ]
    return clean


def draw_instructions(
    town: Town, n: int, seed: int, kinds: Sequence[str] | None, split: str
) -> list[Instruction]:
    """n instructions with different prompts; see `Town.instructions`."""
    if split not in ("train", "test"):
        raise TownError(f"no split {split!r}; choose train or test")
    test = split == "test"
    allowed = [k for k in INSTRUCTION_KINDS if test or k not in HELD_OUT_KINDS]
    left = list(allowed if kinds is None else kinds)
    for kind in left:
        if kind not in INSTRUCTION_KINDS:
            raise TownError(f"no kind {kind!r}; choose from {', '.join(INSTRUCTION_KINDS)}")
        if kind not in allowed:
            raise TownError(f"{kind!r} is held out for testing; ask for it with split='test'")
    rng = random.Random(seed)
    found: dict[str, Instruction] = {}
    workshop = town.workshop
    while len(found) < n and left:
        kind = left[int(rng.random() * len(left))]
        draw: Callable[[random.Random, bool], _Task] = getattr(workshop, kind)
        tasks = (draw(rng, test) for _ in range(_MISSES))
        new = (t for t in tasks if in_test(t.content) == test and t.prompt not in found)
        task = next(islice(new, 1), None)
        if task is None:
            left.remove(kind)
        else:
            found[task.prompt] = Instruction(
                task.prompt, task.response, kind, task.check, task.accepted
            )
    if len(found) < n:
        raise TownError(
            f"there are only {len(found)} different prompts of these kinds; ask for at most as "
            "many, or for more kinds"
        )
    return list(found.values())
