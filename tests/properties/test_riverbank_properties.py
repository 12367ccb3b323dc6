"""Properties of every text of the town, over random seeds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data.riverbank import REGISTERS, Town

TOWN = Town()
seeds = st.integers(min_value=0, max_value=2**31)


def sentences(seed, register):
    return [s for d in TOWN.documents(3, seed=seed, register=register) for s in d.sentences]


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from(REGISTERS))
def test_every_parse_is_a_tree(seed, register):
    for s in sentences(seed, register):
        n = len(s.tokens)
        assert s.heads.count(0) == 1
        assert s.labels[s.heads.index(0)] == "root"
        assert s.labels.count("root") == 1
        assert all(0 <= head <= n and head != i for i, head in enumerate(s.heads, start=1))
        for start in range(1, n + 1):  # every token reaches the root: connected, no cycle
            seen, node = set(), start
            while node:
                assert node not in seen
                seen.add(node)
                node = s.heads[node - 1]


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from(REGISTERS))
def test_leaves_of_the_tree_are_the_tokens(seed, register):
    for s in sentences(seed, register):
        assert [leaf.word.form for leaf in s.tree.leaves()] == s.tokens
        assert s.log_prob <= 0


def agreeing_subjects(s):
    """(subject token, its number, finite verb or auxiliary) of each clause."""
    words = [leaf.word for leaf in s.leaves]
    for i, label in enumerate(s.labels):
        if label != "nsubj":
            continue
        head = s.heads[i]
        verbs = [
            j
            for j, w in enumerate(words)
            if ("VerbForm", "Fin") in w.feats
            and (j + 1 == head or (s.heads[j] == head and s.labels[j] in ("aux", "cop")))
        ]
        auxiliaries = [j for j in verbs if s.labels[j] in ("aux", "cop")]
        for j in auxiliaries or verbs:
            yield i, words[i], words[j]


@settings(max_examples=80, deadline=None)
@given(seeds, st.sampled_from(REGISTERS))
def test_subject_and_verb_agree(seed, register):
    for s in sentences(seed, register):
        for i, subject, verb in agreeing_subjects(s):
            number = dict(subject.feats).get("Number")
            if subject.form in ("who", "that", "whom", "what", "this", "there") or number is None:
                continue
            if any(h == i + 1 and lab == "conj" for h, lab in zip(s.heads, s.labels)):
                number = "Plur"
            if subject.form == "you":
                assert verb.form not in ("is", "was", "am", "has", "does"), s.text
                continue
            assert dict(verb.feats)["Number"] == number, s.text


@settings(max_examples=80, deadline=None)
@given(seeds, st.sampled_from(REGISTERS))
def test_reflexives_and_possessives_agree_in_gender_with_the_subject(seed, register):
    for s in sentences(seed, register):
        words = [leaf.word for leaf in s.leaves]
        for i, word in enumerate(words):
            feats = dict(word.feats)
            if not word.form.endswith(("self", "selves")):
                continue
            if s.labels[i] == "nmod:npmod":
                subject = words[s.heads[i] - 1]
            else:
                verb = s.heads[i]
                subjects = [
                    j
                    for j, (h, lab) in enumerate(zip(s.heads, s.labels))
                    if h == verb and lab == "nsubj"
                ]
                if not subjects or words[subjects[0]].form == "who":
                    continue
                subject = words[subjects[0]]
            theirs = dict(subject.feats)
            if "Gender" in theirs and "Gender" in feats and feats["Gender"] != "Neut":
                assert theirs["Gender"] == feats["Gender"], s.text


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_chain_rule_holds_and_the_string_is_at_least_as_likely_as_its_derivation(seed):
    for document in TOWN.documents(2, seed=seed):
        total = TOWN.log_prob(document)
        assert total >= document.log_prob - 1e-9
        assert sum(TOWN.token_log_probs(document)) == pytest.approx(total, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(seeds, st.floats(min_value=0, max_value=1))
def test_next_word_sums_to_one_after_any_prefix(seed, share):
    tokens = TOWN.documents(1, seed=seed)[0].tokens
    words = TOWN.next_word(tokens[: int(share * len(tokens))])
    assert sum(words.values()) == pytest.approx(1.0, abs=1e-9)
    assert min(words.values()) > 0


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_string_probability_of_a_sentence_is_the_sum_over_its_parses(seed):
    s = TOWN.sentences(1, seed=seed)[0]
    parses = TOWN.parses(s, s.tree.symbol)
    assert s.tree in parses
    total = math.log(math.fsum(math.exp(tree.log_prob) for tree in parses))
    exact = TOWN.grammar.log_prob(s.tokens, s.tree.symbol)
    assert total == pytest.approx(exact, abs=1e-9)
