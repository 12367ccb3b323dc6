"""Properties of translation and of sentences of a chosen length, for any seed."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data.riverbank import Town


@pytest.fixture(scope="module")
def town():
    return Town()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**40), length=st.integers(4, 45))
def test_alignment_maps_words_to_their_translations(town, seed, length):
    ((sentence, x),) = town.parallel(1, seed, length, length)
    assert len(x.source) == length
    assert sorted(j for _, j in x.alignment) == list(range(len(x.target)))
    assert len(dict(x.alignment)) == len(x.target)
    for i, j in x.alignment:
        word, (entry, features) = sentence.leaves[i].word, town.tovian.analyse(x.target[j])
        assert x.target[j].startswith(entry.stem)
        assert entry == town.tovian.entry(word)
        assert entry.sense == word.sense
        if word.tag in ("NOUN", "PROPN"):
            assert features[0] == ("pl" if ("Number", "Plur") in word.feats else "sg")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), length=st.integers(4, 30))
def test_a_sentence_of_any_length_is_a_sentence_of_the_town(town, seed, length):
    (sentence,) = town.sentences_of_length(1, seed, length, length)
    exact = town.grammar.log_prob(sentence.tokens, sentence.tree.symbol)
    assert -math.inf < sentence.log_prob <= exact + 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), n=st.integers(1, 12))
def test_a_shorter_sample_is_a_prefix_of_a_longer_one(town, seed, n):
    longer = [x.target for _, x in town.parallel(12, seed)]
    assert [x.target for _, x in town.parallel(n, seed)] == longer[:n]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_translation_keeps_the_number_of_sentences_and_their_punctuation(town, seed):
    for _, x in town.parallel(5, seed):
        marks = [[t for t in side if t in ".,?!:"] for side in (x.source, x.target)]
        assert sorted(marks[0]) == sorted(marks[1])
        assert x.target[-1] == x.source[-1]
