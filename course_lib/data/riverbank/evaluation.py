"""Questions with known answers about the town's words: analogies, similarities, planted biases."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.lexicon import Lexicon, lemma_of
from course_lib.data.riverbank.pcfg import Grammar, Leaf, Word

# Analogies and similarities ask only about words expected this often: 60 times in 300,000 tokens,
# so that any sample of that length has them at least 40 times but for 1 word in 200.
MIN_FREQUENCY = 60 / 300_000
QUESTIONS_PER_CATEGORY = 60
PAIRS_PER_LEVEL = 80


@dataclass(frozen=True)
class Analogy:
    """a is to b as c is to d."""

    a: str
    b: str
    c: str
    d: str
    category: str


@dataclass(frozen=True)
class Bias:
    """A skew planted in the town's text on purpose.

    Attributes:
        name: "profession_gender", "gender_adjective" or "district_judgement".
        description: what is skewed and by how much.
        targets: two groups of words that the text treats differently.
        attributes: two groups of words; the first goes with the first group of targets.
        rates: per target word, the share of its gendered (or judging) mentions that use the first
            group of attributes.
    """

    name: str
    description: str
    targets: tuple[tuple[str, ...], tuple[str, ...]]
    attributes: tuple[tuple[str, ...], tuple[str, ...]]
    rates: dict[str, float]


def readings(grammar: Grammar) -> dict[str, set[Word]]:
    """Every way in which each word form occurs in the grammar: lemma, tag, features, sense."""
    found: dict[str, set[Word]] = defaultdict(set)
    for expansion in grammar.expansions.values():
        for rule in expansion.rules:
            for part in rule.parts:
                if isinstance(part, Leaf):
                    found[part.word.form].add(part.word)
    return found


def _clear_words(grammar: Grammar, frequencies: dict[str, float]) -> set[str]:
    """Frequent words with one part of speech and one sense."""
    return {
        form
        for form, words in readings(grammar).items()
        if frequencies.get(form, 0.0) >= MIN_FREQUENCY
        and len({(word.tag, word.sense) for word in words}) == 1
    }


def analogies(lexicon: Lexicon, grammar: Grammar, frequencies: dict[str, float]) -> list[Analogy]:
    """Analogy questions over the lexicon's relations, at most 60 a category, in a fixed order.

    Only words that are frequent (MIN_FREQUENCY) and unambiguous are asked about.
    """
    clear = _clear_words(grammar, frequencies)
    questions: list[Analogy] = []
    for category, pairs in lexicon.relations.items():
        forms = [(a.form, b.form) for a, b in pairs if a.form != b.form]
        kept = [(a, b) for a, b in forms if a in clear and b in clear]
        asked = [
            Analogy(a, b, c, d, category) for a, b in kept for c, d in kept if a != c and b != d
        ]
        if category == "gender":
            asked += _royal_questions(lexicon, clear)
        first = [q for q in asked if (q.a, q.b, q.c, q.d) == ("man", "king", "woman", "queen")]
        rest = [question for question in asked if question not in first]
        random.Random(len(questions)).shuffle(rest)
        questions += (first + rest)[:QUESTIONS_PER_CATEGORY]
    return questions


def _royal_questions(lexicon: Lexicon, clear: set[str]) -> list[Analogy]:
    """man : king :: woman : queen and its like: the same rank in both genders."""
    pairs = [(p.masculine, p.feminine) for p in lexicon.pairs.values() if "royal" in p.attributes]
    return [
        Analogy("man", him, "woman", her, "gender")
        for him, her in pairs
        if {"man", "woman", him, her} <= clear
    ]


def similarities(
    lexicon: Lexicon, grammar: Grammar, frequencies: dict[str, float]
) -> list[tuple[str, str, float]]:
    """Word pairs with their gold similarity: shared over all attributes (Jaccard), in [0, 1].

    Attributes are those of `Lexicon.attributes` (human, royal, feminine, in:court, land:france ...).
    Pairs are spread evenly over five levels of similarity.
    """
    clear = _clear_words(grammar, frequencies)
    words = [word for word in lexicon.described if word in clear]
    levels: list[list[tuple[str, str, float]]] = [[] for _ in range(5)]
    for first, second in combinations(words, 2):
        ours, theirs = lexicon.attributes(first), lexicon.attributes(second)
        gold = len(ours & theirs) / len(ours | theirs)
        levels[min(4, int(gold * 5 + 0.999))].append((first, second, gold))
    rng = random.Random(0)
    for level in levels:
        rng.shuffle(level)
    return [pair for level in levels for pair in level[:PAIRS_PER_LEVEL]]


def biases(lexicon: Lexicon) -> list[Bias]:
    """The skews that the text was given on purpose, with their size."""
    women = {job.name: job.women for job in lexicon.professions.values()}
    feminine = ("she", "her", "herself", "woman", "girl", "mother", "queen")
    masculine = ("he", "his", "himself", "man", "boy", "father", "king")
    streets = [street for street in tables.STREETS]
    hill = tuple(street for street in streets if street in tables.HILL_SIDE)
    river = tuple(street for street in streets if street not in tables.HILL_SIDE)
    looks = {g: tuple(map(lemma_of, words)) for g, words in tables.GENDER_ADJECTIVES.items()}
    return [
        Bias(
            "profession_gender",
            "each profession has its share of women, in the text and among the town's people",
            (
                tuple(job for job, share in women.items() if share > 0.5),
                tuple(job for job, share in women.items() if share < 0.5),
            ),
            (feminine, masculine),
            women,
        ),
        Bias(
            "gender_adjective",
            "women are called beautiful, men bold; the text never says the reverse",
            (feminine[3:], masculine[3:]),
            (looks["f"], looks["m"]),
            dict.fromkeys(feminine[3:], 1.0) | dict.fromkeys(masculine[3:], 0.0),
        ),
        Bias(
            "district_judgement",
            "the people of five streets are judged pleasantly 4 times in 5, those of the others once",
            (hill, river),
            (tuple(tables.PLEASANT), tuple(tables.UNPLEASANT)),
            dict.fromkeys(hill, 0.8) | dict.fromkeys(river, 0.2),
        ),
    ]
