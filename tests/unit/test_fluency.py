"""Fluency under the town's grammar of replies."""

import math

import pytest

from course_lib.data.riverbank import Town
from course_lib.posttraining.fluency import grammar_loss


@pytest.fixture(scope="module")
def grammar():
    return Town().judge.grammar


def test_a_sentence_costs_its_surprise_divided_by_its_tokens(grammar):
    words = ("i", "do", "not", "know", ".")
    assert grammar_loss(grammar, "i do not know .") == -grammar.log_prob(words) / 5


def test_of_two_sentences_every_token_counts_alike(grammar):
    short, long = "i do not know .", "i do not know , thank you ."
    both = (5 * grammar_loss(grammar, short) + 8 * grammar_loss(grammar, long)) / 13
    assert grammar_loss(grammar, f"{short} {long}") == pytest.approx(both, rel=1e-12)
    assert grammar_loss(grammar, short) != grammar_loss(grammar, long)


def test_what_the_grammar_has_not_is_infinite(grammar):
    assert grammar_loss(grammar, "not i know do .") == math.inf
    assert grammar_loss(grammar, "i do not know . not i know do .") == math.inf
