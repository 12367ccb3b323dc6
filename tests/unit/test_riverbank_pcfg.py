"""The grammar engine against exhaustive enumeration on small grammars."""

import itertools
import math
import random

import pytest

from course_lib.data.riverbank.pcfg import (
    Alternative,
    Grammar,
    GrammarError,
    Tree,
    Word,
    annotate,
)


def word(form, tag="X"):
    return Word(form, form, tag)


def alternative(*parts, weight=1.0, head=0):
    labels = tuple(None if i == head else f"dep{i}" for i in range(len(parts)))
    return Alternative(tuple(parts), labels, weight)


def attachment_grammar():
    """ "the boy saw the girl with the telescope": PP attaches to verb or noun; PPs recurse."""
    return {
        "S": [alternative("NP", "VP", head=1)],
        "VP": [alternative("V", "NP", weight=3), alternative("V", "NP", "PP", weight=2)],
        "NP": [alternative("N", weight=7), alternative("N", "PP", weight=3)],
        "PP": [alternative(word("with"), "NP", head=1)],
        "V": [alternative(word("saw"), weight=2), alternative(word("met"))],
        "N": [alternative(word("boy"), weight=3), alternative(word("girl"), weight=2)],
    }


def enumerate_strings(rules, symbol, longest):
    """All strings of a symbol up to a length with their summed probability (brute force)."""
    total = sum(a.weight for a in rules[symbol])
    strings = {}
    for option in rules[symbol]:
        lists = []
        for part in option.parts:
            room = longest - (len(option.parts) - 1)
            if isinstance(part, Word):
                lists.append({(part.form,): 1.0})
            elif room < 1:
                lists.append({})
            else:
                lists.append(enumerate_strings(rules, part, room))
        for choice in itertools.product(*(options.items() for options in lists)):
            string = tuple(token for tokens, _ in choice for token in tokens)
            if len(string) <= longest:
                prob = option.weight / total * math.prod(p for _, p in choice)
                strings[string] = strings.get(string, 0.0) + prob
    return strings


@pytest.fixture(params=[False, True], ids=["tabulated", "unfolded"])
def grammar(request):
    return Grammar(attachment_grammar(), "S", unfold=lambda symbol: request.param)


def test_log_prob_equals_exhaustive_enumeration(grammar):
    strings = enumerate_strings(attachment_grammar(), "S", 9)
    assert len(strings) > 100
    for string, prob in strings.items():
        assert grammar.log_prob(string) == pytest.approx(math.log(prob), abs=1e-12)


def test_prefix_probability_is_the_mass_of_its_continuations(grammar):
    strings = enumerate_strings(attachment_grammar(), "S", 13)
    complete = sum(strings.values())
    prefix = ("boy", "saw", "girl", "with")
    listed = sum(p for s, p in strings.items() if s[:4] == prefix)
    measured = math.exp(sum(grammar.token_log_probs(prefix)))
    assert listed <= measured <= listed + (1 - complete)
    assert measured == pytest.approx(listed, rel=0.05)


def test_two_derivations_of_one_string_add_up(grammar):
    string = ["boy", "saw", "girl", "with", "boy"]
    parses = grammar.parses(string)
    assert len(parses) == 2
    assert len({annotate(tree).heads[3] for tree in parses} | {annotate(parses[0]).heads[4]}) > 1
    total = sum(math.exp(tree.log_prob) for tree in parses)
    assert math.log(total) == pytest.approx(grammar.log_prob(string), abs=1e-12)
    assert all(tree.log_prob < grammar.log_prob(string) for tree in parses)


def test_parses_sum_to_the_string_probability_on_longer_ambiguity(grammar):
    string = ["boy", "saw", "girl", "with", "boy", "with", "girl", "with", "boy"]
    parses = grammar.parses(string)
    assert len(parses) == 4
    total = math.log(sum(math.exp(tree.log_prob) for tree in parses))
    assert total == pytest.approx(grammar.log_prob(string), abs=1e-12)


def test_next_words_sum_to_one_and_agree_with_the_next_step(grammar):
    for prefix in ([], ["boy"], ["boy", "saw", "girl"], ["boy", "saw", "girl", "with", "boy"]):
        state = grammar.forward()
        for token in prefix:
            state.advance(token)
        words = state.next_words()
        done = math.exp(state.log_prob_complete())
        assert sum(words.values()) + done == pytest.approx(1.0, abs=1e-12)
        for form, prob in words.items():
            fresh = grammar.forward()
            for token in prefix:
                fresh.advance(token)
            assert fresh.advance(form) == pytest.approx(math.log(prob), abs=1e-12)


def test_reading_ahead_does_not_change_the_probabilities(grammar):
    string = ["boy", "saw", "girl", "with", "boy", "with", "girl"]
    blind = grammar.forward()
    one_by_one = [blind.advance(token) for token in string]
    assert grammar.token_log_probs(string) == pytest.approx(one_by_one, abs=1e-12)


def test_strings_outside_the_language_are_impossible(grammar):
    for string in (["boy"], [], ["saw", "boy"], ["boy", "saw", "girl", "girl"], ["dog"]):
        assert grammar.log_prob(string) == -math.inf


def test_sampled_frequencies_match_the_exact_probabilities(grammar):
    rng = random.Random(0)
    n = 20_000
    counts = {}
    for _ in range(n):
        string = tuple(leaf.word.form for leaf in grammar.sample("S", rng).leaves)
        counts[string] = counts.get(string, 0) + 1
    for string in sorted(counts, key=counts.get)[-8:]:
        prob = math.exp(grammar.log_prob(string))
        error = math.sqrt(prob * (1 - prob) / n)
        assert abs(counts[string] / n - prob) < 4.5 * error


def test_monte_carlo_entropy_agrees_with_the_analytic_one():
    rules = {
        "S": [alternative(word("a"), "S", weight=3), alternative(word("b"), "T", weight=2)],
        "T": [alternative(word("c")), alternative(word("d"), "T", "T", weight=0.6)],
    }
    grammar = Grammar(rules, "S")  # each string has one derivation: both entropies are the same
    rng = random.Random(1)
    n = 20_000
    losses = []
    for _ in range(n):
        parse = grammar.sample("S", rng)
        losses.append(-parse.tree.log_prob)
        string = [leaf.word.form for leaf in parse.leaves]
        if len(losses) <= 50:
            assert grammar.log_prob(string) == pytest.approx(parse.tree.log_prob, abs=1e-12)
    mean = sum(losses) / n
    error = math.sqrt(sum((x - mean) ** 2 for x in losses) / (n - 1) / n)
    assert abs(mean - grammar.derivation_entropy()) < 4 * error


def test_expected_words_match_a_closed_form():
    rules = {"S": [alternative(word("a"), "S", weight=3), alternative(word("b"), weight=1)]}
    expected = Grammar(rules, "S").expected_words()
    assert expected["a"] == pytest.approx(3.0, rel=1e-6)  # geometric with p = 3/4
    assert expected["b"] == pytest.approx(1.0, rel=1e-6)


def test_a_long_string_does_not_underflow():
    rules = {"S": [alternative(word("a"), "S", weight=1), alternative(word("b"), weight=1)]}
    string = ["a"] * 5000 + ["b"]
    assert Grammar(rules, "S").log_prob(string) == pytest.approx(5001 * math.log(0.5), rel=1e-12)


def test_annotate_agrees_with_sampling():
    grammar = Grammar(attachment_grammar(), "S")
    rng = random.Random(2)
    for _ in range(50):
        parse = grammar.sample("S", rng)
        again = annotate(parse.tree)
        assert again.heads == parse.heads
        assert again.labels == parse.labels
        assert [leaf.word for leaf in parse.tree.leaves()] == [leaf.word for leaf in parse.leaves]
        assert isinstance(next(parse.tree.subtrees()), Tree)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"S": [alternative("T")]}, "no rule"),
        ({"S": [alternative("S", word("a")), alternative(word("a"))]}, "left recursion"),
        ({"S": [alternative("T", word("a"))], "T": [alternative("S")]}, "left recursion"),
        ({"S": []}, "no alternative"),
        ({"S": [alternative(word("a"), weight=0)]}, "positive weight"),
        ({"T": [alternative(word("a"))]}, "start symbol"),
    ],
)
def test_bad_grammars_are_refused_with_a_reason(rules, says):
    with pytest.raises(GrammarError, match=says):
        Grammar(rules, "S")


@pytest.mark.parametrize(
    "rules",
    [
        {"S": [alternative(word("a"), "S", "S", weight=3), alternative(word("b"))]},
        {
            "S": [alternative(word("a"), "T", "T", weight=3), alternative(word("b"))],
            "T": [alternative(word("c"), "S")],
        },
    ],
)
def test_recursion_that_need_not_end_is_refused_where_expectations_are_asked(rules):
    with pytest.raises(GrammarError, match="need not end"):
        Grammar(rules, "S").expected_words()
