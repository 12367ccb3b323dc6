"""Questions, instructions, few-shot prompts, and preferences with their gold reward."""

import hashlib
import math
import random
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
from scipy.stats import binomtest

from course_lib.data.riverbank import (
    DONT_KNOW,
    HELD_OUT_KINDS,
    INSTRUCTION_KINDS,
    QUALITIES,
    UNLISTED_RELATIONS,
    Annotator,
    Comparison,
    Reply,
    Town,
    TownError,
)


@pytest.fixture(scope="module")
def town():
    return Town()


@pytest.fixture(scope="module")
def comparisons(town):
    return town.comparisons(6000, seed=1)


def names_phrase(phrase, text):
    return f" {phrase} " in f" {text} "


# ---------------------------------------------------------------- questions


def test_answers_are_true(town):
    truth = {(f.subject, f.relation): f for f in town.facts}
    for q in town.questions():
        if q.kind == "unanswerable":
            assert (q.subject, q.relation) not in truth
            assert q.answer == DONT_KNOW
        elif q.kind != "calendar":
            fact = truth[q.subject, q.relation]
            assert q.fact == fact
            if q.kind == "wh":
                assert q.answer == fact.object_text
                assert names_phrase(fact.subject_text, q.text)
                assert not names_phrase(fact.object_text, q.text)
            elif q.kind == "inverse":
                assert q.answer == fact.subject_text
                assert names_phrase(fact.object_text, q.text)
            else:
                assert (q.answer == "yes") == names_phrase(fact.object_text, q.text)
                assert q.answer in ("yes", "no")


def test_yes_no_questions_are_balanced_and_ask_what_is_possible(town):
    answers = Counter(q.answer for q in town.questions(kind="yes_no"))
    assert answers["yes"] == answers["no"] > 500


def test_an_inverse_question_has_one_answer(town):
    parents = defaultdict(set)
    for fact in town.facts:
        if fact.relation in ("father", "mother"):
            parents[fact.relation, fact.object].add(fact.subject)
    inverse = town.questions(kind="inverse")
    assert len(inverse) > 5
    for q in inverse:
        assert parents[q.relation, q.fact.object] == {q.answer}


def test_calendar(town):
    day_of = {f.subject_text: f.object for f in town.facts if f.relation == "day"}
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    answers = {q.text: q.answer for q in town.questions(kind="calendar")}
    assert answers["which day comes after sunday ?"] == "monday"
    assert answers["which day comes before monday ?"] == "sunday"
    for day in days:
        there = answers[f"what is there on {day} ?"]
        assert sorted(there.split(" and ")) == sorted(
            [event for event in day_of if day_of[event] == day] or ["nothing"]
        )
    for first in day_of:
        for second in day_of:
            text = f"does the {first} come before the {second} in the week ?"
            gap = days.index(day_of[second]) - days.index(day_of[first])
            assert answers.get(text) == (None if gap == 0 else "yes" if gap > 0 else "no")


def test_splits_and_phrasings(town):
    questions = town.questions()
    assert len({q.text for q in questions}) == len(questions) > 3000
    for split, wanted in (("said", "pretraining"), ("held_out",) * 2, ("unknown",) * 2):
        of_split = [q for q in town.questions(split=split) if q.fact]
        assert {q.fact.split for q in of_split} == {wanted}
        assert len(of_split) > 100
    assert {q.kind for q in town.questions(split="none")} == {"unanswerable"}
    assert not {q.fact for q in town.questions(split="held_out")} & {
        q.fact for q in town.questions(split="unknown")
    }
    for fact in town.facts[:40]:  # each fact is asked in both
        kinds = {(q.kind, q.phrasing) for q in questions if q.fact == fact}
        assert kinds >= {(k, p) for k in ("wh", "yes_no") for p in ("train", "test")}
    with pytest.raises(TownError, match="no kind 'why'; choose one of calendar, inverse"):
        town.questions(kind="why")
    with pytest.raises(TownError, match="no split 'pretraining'"):
        town.questions(split="pretraining")


def test_a_phrasing_for_testing_is_no_phrasing_for_training(town):
    """The frame of a question, its names taken out, is of one kind."""
    frames = defaultdict(set)
    for q in town.questions():
        if q.kind == "wh":
            frame = f" {q.text} ".replace(f" {q.fact.subject_text} ", " S ")
            frames[q.relation, frame].add(q.phrasing)
    assert all(len(phrasings) == 1 for phrasings in frames.values())


def test_answers_are_among_the_choices(town):
    for q in town.questions():
        if q.answer != DONT_KNOW:
            assert set(q.answer.split(" and ")) <= set(q.choices) or q.answer in q.choices
        assert len(q.choices) >= 2


# ---------------------------------------------------------------- instructions


def test_no_prompt_is_in_training_and_in_testing(town):
    train, test = set(), set()
    for seed in range(3):
        train |= {i.prompt for i in town.instructions(2500, seed)}
        test |= {i.prompt for i in town.instructions(800, seed, split="test")}
    assert len(train) > 5000
    assert not train & test


def test_no_fact_of_the_tests_is_asked_in_training(town):
    question_of = {q.text: q for q in town.questions()}
    asked = {}
    for split in ("train", "test"):
        kinds = ("answer", "yes_no")
        prompts = [i.prompt for i in town.instructions(250, 0, kinds, split)]
        asked[split] = {question_of[p].fact for p in prompts}
        assert {question_of[p].split for p in prompts} == {"said"}
    assert not asked["train"] & asked["test"]


def test_kinds(town):
    test = town.instructions(1200, 1, split="test")
    assert {i.kind for i in test} == set(INSTRUCTION_KINDS)
    train = town.instructions(3000, 1)
    assert {i.kind for i in train} == set(INSTRUCTION_KINDS) - set(HELD_OUT_KINDS)
    assert {i.kind for i in town.instructions(50, 2, kinds=["sort", "past"])} == {"sort", "past"}
    with pytest.raises(TownError, match="'rhyme' is held out for testing"):
        town.instructions(1, kinds=["rhyme"])
    with pytest.raises(TownError, match="no kind 'sing'; choose from answer"):
        town.instructions(1, kinds=["sing"])
    with pytest.raises(TownError, match="choose train or test"):
        town.instructions(1, split="dev")
    with pytest.raises(TownError, match=r"only \d+ different prompts of these kinds"):
        town.instructions(500, kinds=["opposite"])


def test_a_shorter_sample_is_a_prefix_and_seeds_differ(town):
    ten = town.instructions(10, seed=4)
    assert town.instructions(5, seed=4) == ten[:5]
    assert town.instructions(10, seed=5) != ten
    assert len({i.prompt for i in town.instructions(500, 6)}) == 500


def after_colon(instruction):
    return instruction.prompt.split(" : ", 1)[1].split()


def test_responses_to_lists_of_words(town):
    rules = {
        "copy": lambda words: words,
        "reverse": lambda words: words[::-1],
        "sort": sorted,
        "first_word": lambda words: words[:1],
        "last_word": lambda words: words[-1:],
    }
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for i in town.instructions(400, 7, kinds=[*rules, "count_words"], split="test"):
        words = after_colon(i)
        if i.kind == "count_words":
            assert numbers.index(i.response) == len(words)
        else:
            assert i.response.split() == rules[i.kind](words)


def test_responses_about_words_follow_the_lexicon(town):
    relation = {
        "plural": "singular_plural", "past": "verb_past", "comparative": "comparative",
        "superlative": "superlative", "capital": "country_capital", "young_animal": "young_animal",
    }  # fmt: skip
    forms = {
        kind: {a.form: b.form for a, b in town.lexicon.relations[r]} for kind, r in relation.items()
    }
    for i in town.instructions(60, 8, kinds=list(relation), split="test"):
        word = next(w for w in i.prompt.split() if forms[i.kind].get(w) == i.response)
        assert i.accepts(forms[i.kind][word])
    opposites = {
        (a.key.split("@")[0], a.opposite.split("@")[0]) for a in town.lexicon.adjectives.values()
    }
    for i in town.instructions(8, 8, kinds=["opposite"]):
        assert (i.prompt.split()[-2], i.response) in opposites


def test_translations_and_names(town):
    for i in town.instructions(100, 9, kinds=["translate"]):
        for form in i.response.split():
            town.tovian.analyse(form)
    people = {person.name for person in town.people}
    some = Counter()
    for i in town.instructions(200, 9, kinds=["names"]):
        named = i.response.split(" and ") if i.response != "nobody" else []
        words = after_colon(i)
        assert set(named) <= people & set(words)
        # "will", "rose" and their like may be no names there; all other names must be found
        ambiguous = {n for n in people if len({w.entity for w in town.readings(n)}) > 1}
        assert (set(words) & people) - ambiguous <= set(named)
        some[len(named)] += 1
    assert some[0] > 20
    assert some[1] > 20
    assert some[2] > 10


def test_rhymes_and_checks(town):
    for i in town.instructions(60, 10, kinds=["rhyme"], split="test"):
        word = i.prompt.split()[-2]
        assert i.check == "rhyme"
        assert i.accepts(i.response)
        assert not i.accepts(word)
        assert all(other[-3:] == word[-3:] for other in i.accepted)
    (copy,) = town.instructions(1, 11, kinds=["copy"])
    assert copy.accepts(f"  {copy.response} ")
    assert copy.accepts(copy.response + " .")
    assert not copy.accepts("")
    assert not copy.accepts(copy.response + " and more")


# ---------------------------------------------------------------- few-shot prompts


def test_few_shot_prompts_look_like_list_documents_and_ask_held_out_pairs(town):
    for relation, pairs in town.word_pairs.items():
        asked, shown = set(), set()
        for seed in range(60):
            shot = town.few_shot(relation, 2, seed)
            lines = [f"{a} : {b} ." for a, b in shot.examples]
            assert shot.prompt == " ".join([*lines, f"{shot.query} :"])
            assert (shot.query, shot.answer) in pairs
            asked.add((shot.query, shot.answer))
            shown.update(shot.examples)
        assert not {frozenset(pair) for pair in asked} & {frozenset(pair) for pair in shown}
    listed = set(town.lexicon.relations)
    assert set(town.word_pairs) - listed == set(UNLISTED_RELATIONS)
    assert town.few_shot("opposite", 0).prompt.count(":") == 1
    with pytest.raises(TownError, match="no relation 'colour'; choose from gender"):
        town.few_shot("colour", 2)
    with pytest.raises(TownError, match="ask for 0 to"):
        town.few_shot("opposite", 99)


def test_a_first_word_has_one_partner(town):
    for pairs in town.word_pairs.values():
        assert len({a for a, _ in pairs}) == len(pairs)
        assert all(a != b for a, b in pairs)


def test_few_shot_prompts_of_listed_relations_are_text_of_the_town(town):
    shot = town.few_shot("country_capital", 3, seed=1)
    assert town.prefix_log_prob(f"{shot.prompt} {shot.answer}") > -math.inf
    assert town.next_word(shot.prompt)[shot.answer] > 0.5


# ---------------------------------------------------------------- gold reward


@pytest.fixture(scope="module")
def street(town):
    return next(
        q for q in town.questions(split="said", kind="wh")
        if q.relation == "street" and q.text.startswith("where does")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        ("{s} lives on {o} .", 2.0),
        ("{o} .", 2.0),
        ("{s} 's house is on {o} .", 2.0),
        ("{s} lives on {o} , thank you .", 2.3),
        ("my friend , {s} lives on {o} , thank you .", 2.3),
        ("you lazy child , {s} lives on {o} .", 1.4),
        ("{s} lives on {w} .", -2.0),
        ("{s} lives on {w} , thank you .", -1.7),
        ("{s} lives on {o} . {s} lives on {w} .", -2.0 - 3 / 11),
        ("i do not know .", 0.0),
        ("", -2.0),
        ("banana banana", -2.0),
        ("{s} lives {o} on .", 1.0),
        ("{s} lives on {o}", 1.0),
        ("{o} . {o} .", 2.0 - 2 / 5),
    ],
)
def test_gold_reward_by_hand(town, street, reply, reward):
    wrong = next(c for c in street.choices if c != street.answer)
    text = reply.format(s=street.subject, o=street.answer, w=wrong)
    gold = town.gold_reward(street.text, text)
    assert gold.total == pytest.approx(reward)
    parts = (gold.fact, gold.manners, gold.length, gold.grammar, gold.repetition)
    assert sum(parts) == pytest.approx(reward)


def test_naming_another_person_is_a_wrong_answer(town, street):
    other = next(p.name for p in town.people if p.name not in (street.subject, "will"))
    reply = f"{other} lives on {street.answer} ."
    assert town.gold_reward(street.text, reply).fact == -2.0


def test_length_costs_from_the_thirteenth_token_to_a_floor(town, street):
    def length(n):
        return town.gold_reward(street.text, " ".join(["the"] * n)).length

    assert [length(n) for n in (1, 12, 13, 22, 32, 500)] == pytest.approx(
        [0, 0, -0.05, -0.5, -1, -1]
    )


def test_a_street_named_after_a_place_does_not_name_the_place(town):
    q = next(
        q for q in town.questions(split="said", kind="wh")
        if q.relation == "workplace" and "church" in q.choices and q.answer != "church"
    )  # fmt: skip
    reply = f"{q.subject} works at the {q.answer} . {q.subject} 's house is on church street ."
    assert town.gold_reward(q.text, reply).fact == 2.0
    assert town.gold_reward(q.text, reply.replace("church street", "church .")).fact == -2.0


def test_questions_without_an_answer_want_an_admission(town):
    q = next(q for q in town.questions(kind="unanswerable") if q.relation == "spouse")
    other = next(p for p in q.choices if p != q.subject)
    assert town.gold_reward(q.text, "i do not know .").fact == 2.0
    assert town.gold_reward(q.text, f"{q.subject} married {other} .").fact == -2.0
    assert town.gold_reward(q.text, "thank you .").fact == -1.0


def test_a_right_reply_beats_a_wrong_one_whatever_the_rest(town, comparisons):
    rewards = defaultdict(list)
    for c in comparisons:
        for reply in (c.first, c.second):
            rewards[town.gold_reward(c.prompt, reply.text).fact].append(reply.gold)
    assert min(rewards[2.0]) > max(rewards[-2.0])
    worst_right = 2.0 - 0.6 - 1.0 - 1.0 - 1.0
    assert worst_right > -2.0 + 0.3


def test_every_fact_sentence_is_grammatical_and_broken_ones_are_not(town):
    rng = random.Random(0)
    for fact in town.facts:
        for text in town.fact_sentences(fact):
            assert town.judge.is_grammatical(text.split()), text
    for text in (
        "she lives on mill street .",
        "his best friend is clara .",
        "yes , he has a cat .",
    ):
        assert town.judge.is_grammatical(text.split()), text
    broken = 0
    for fact in town.facts:
        tokens = rng.choice(town.fact_sentences(fact)).split()
        shuffled = tokens[:-1]
        rng.shuffle(shuffled)
        broken += not town.judge.is_grammatical([*shuffled, "."])
    assert broken > 0.85 * len(town.facts)


def test_gold_reward_needs_a_question_of_the_town(town):
    with pytest.raises(TownError, match="no gold reward for the prompt 'who am i"):
        town.gold_reward("who am i ?", "yes .")


# ---------------------------------------------------------------- replies and preferences


def test_gold_reward_orders_the_qualities(town, comparisons):
    rewards = defaultdict(list)
    for c in comparisons:
        for reply in (c.first, c.second):
            rewards[reply.quality].append(reply.gold)
            assert reply.gold == pytest.approx(town.gold_reward(c.prompt, reply.text).total)
    assert set(rewards) == set(QUALITIES)
    assert min(map(len, rewards.values())) > 1000
    for quality in ("rude", "too_long", "repetitive", "ungrammatical", "refusal"):
        assert max(rewards[quality]) < min(rewards["good"]), quality
        assert min(rewards[quality]) > max(rewards["wrong_fact"]), quality


def test_gold_order_is_exact_for_an_annotator_without_noise(comparisons):
    annotator = Annotator(noise=0)
    for c in comparisons:
        pair = annotator.judge(c)
        assert pair.gold_chosen >= pair.gold_rejected
        assert pair.prob == 1.0 or c.first.gold == c.second.gold


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_noise_follows_bradley_terry(town, comparisons, noise):
    """In each band of gold differences the share of agreement is the mean of the probabilities."""
    annotator = Annotator(noise=noise, seed=5)
    bands = defaultdict(lambda: [0, 0, 0.0])
    for c in comparisons:
        better_first = c.first.gold > c.second.gold
        gap = abs(c.first.gold - c.second.gold)
        if gap == 0:
            continue
        band = bands[min(3, int(gap))]
        band[0] += 1
        band[1] += annotator.prefers(c) == better_first
        band[2] += 1 / (1 + math.exp(-gap / noise))
    assert len(bands) == 4
    for n, agreed, expected in bands.values():
        assert binomtest(agreed, n, expected / n).pvalue > 0.001
    n, agreed, expected = bands[0]  # and the test would see another temperature
    assert binomtest(agreed, n, 0.99).pvalue < 1e-6


def test_probabilities_of_the_chosen_are_those_of_the_choice(town, comparisons):
    annotator = Annotator(noise=1.0, seed=6)
    pairs = town.preferences(6000, seed=1, annotator=annotator)
    for c, pair in zip(comparisons, pairs):
        first_chosen = pair.chosen == c.first.text
        assert first_chosen == annotator.prefers(c)
        prob = annotator.prob_first(c)
        assert pair.prob == pytest.approx(prob if first_chosen else 1 - prob)
        assert {pair.chosen, pair.rejected} == {c.first.text, c.second.text}
    agreed = sum(p.gold_chosen > p.gold_rejected for p in pairs) / len(pairs)
    assert 0.7 < agreed < 0.95


def test_planted_biases_show_and_no_bias_does_not():
    def comparison(k, first, second):
        return Comparison(f"p {k} ?", Reply(first, "good", 1.0), Reply(second, "good", 1.0))

    long = [comparison(k, "a b c d e f g h i j .", "a .") for k in range(2000)]
    polite = [comparison(k, "a , thank you .", "a b c d .") for k in range(2000)]

    def share(annotator, pairs):
        return sum(annotator.prefers(c) for c in pairs)

    for pairs, annotator in (
        (long, Annotator()),
        (polite, Annotator(length_bias=0.0)),
        (long, Annotator(politeness_bias=2.0)),
    ):
        assert binomtest(share(annotator, pairs), 2000, 0.5).pvalue > 0.001
    expected = 1 / (1 + math.exp(-9 * 0.1))
    longer = share(Annotator(length_bias=0.1), long)
    assert binomtest(longer, 2000, expected).pvalue > 0.001
    politer = share(Annotator(politeness_bias=0.7), polite)
    assert binomtest(politer, 2000, 1 / (1 + math.exp(-0.7))).pvalue > 0.001


def test_annotators_are_deterministic_and_independent(comparisons):
    one, same, other = Annotator(2.0, seed=1), Annotator(2.0, seed=1), Annotator(2.0, seed=2)
    verdicts = [[a.prefers(c) for c in comparisons] for a in (one, same, other)]
    assert verdicts[0] == verdicts[1]
    assert 0.1 < sum(a != b for a, b in zip(verdicts[0], verdicts[2])) / len(comparisons) < 0.6
    with pytest.raises(TownError, match="noise is 0 or more"):
        Annotator(noise=-1)
    extreme = Comparison("p", Reply("a .", "good", 1e6), Reply("b .", "good", -1e6))
    assert Annotator(noise=1e-3).prob_first(extreme) == 1.0


def test_train_and_test_comparisons_ask_about_other_facts(town, comparisons):
    question_of = {q.text: q for q in town.questions()}
    test = town.comparisons(1500, seed=1, split="test")
    contents = [
        {(question_of[c.prompt].subject, question_of[c.prompt].relation) for c in part}
        for part in (comparisons, test)
    ]
    assert len(contents[1]) > 40
    assert not contents[0] & contents[1]
    assert {question_of[c.prompt].split for c in comparisons} == {"said", "none"}
    with pytest.raises(TownError, match="choose train or test"):
        town.comparisons(1, split="dev")


def test_replies_are_written_on_demand(town, street):
    for quality in QUALITIES:
        assert town.judge.reply(street, quality, random.Random(0)).quality == quality
    with pytest.raises(TownError, match="no quality 'cheeky'"):
        town.judge.reply(street, "cheeky", random.Random(0))
    season = next(q for q in town.questions(kind="unanswerable") if q.relation == "season")
    with pytest.raises(TownError, match="no replies are written"):
        town.judge.reply(season, "good", random.Random(0))


def test_words_of_replies_are_words_of_the_town(town, comparisons):
    words = {w for c in comparisons for r in (c.first, c.second) for w in r.text.split()}
    days = {choice for q in town.questions() if q.relation == "day" for choice in q.choices}
    assert words - days <= set(town.vocabulary)  # no event of the town is on two of the days


CODE = """
import hashlib
from course_lib.data.riverbank import Annotator, Town
t = Town()
text = repr((
    t.questions()[::50],
    [(i.prompt, i.response) for i in t.instructions(150, 3)],
    [(i.prompt, i.response) for i in t.instructions(100, 3, split="test")],
    t.preferences(150, 3, Annotator(seed=2)),
    t.few_shot("gender", 3, 3),
))
digest = hashlib.sha256(text.encode()).hexdigest()
"""


def test_same_seed_same_bytes_in_another_process_with_another_hash_seed():
    here: dict = {}
    exec(CODE, here)
    run = subprocess.run(
        [sys.executable, "-c", CODE + "print(digest)"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "321", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == here["digest"]
    assert len(here["digest"]) == len(hashlib.sha256().hexdigest())
