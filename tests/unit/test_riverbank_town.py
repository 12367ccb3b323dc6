"""The town: texts, annotation, facts, exact probabilities, evaluation sets, canaries."""

import hashlib
import math
import subprocess
import sys
from collections import Counter

import pytest

from course_lib.data.riverbank import (
    END,
    REGISTERS,
    Canary,
    Town,
    TownError,
    detokenise,
    draw_canaries,
    tokenise,
)

SNAPSHOT = "5eff7600252b653c1f6186ef4b5999191d3294226171bd4f1091b4732a65a240"


@pytest.fixture(scope="module")
def town():
    return Town()


@pytest.fixture(scope="module")
def sample(town):
    return town.documents(5000, seed=3)


def fingerprint(documents):
    lines = []
    for document in documents:
        for s in document.sentences:
            lines.append(repr((s.tokens, s.tags, s.entities, s.heads, s.labels, s.senses)))
        lines.append(f"{document.register} {document.protagonist} {document.topic}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_same_seed_same_bytes_on_every_platform(town):
    assert fingerprint(town.documents(200, seed=0)) == SNAPSHOT


def test_same_seed_same_bytes_in_another_process_with_another_hash_seed(town):
    code = (
        "from course_lib.data.riverbank import Town; import hashlib;"
        "t = ' '.join(d.text for d in Town().documents(50, seed=7));"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "123", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    here = " ".join(d.text for d in town.documents(50, seed=7))
    assert run.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_seeds_vary_the_sample_and_a_shorter_sample_is_a_prefix(town):
    five, ten = town.documents(5, seed=1), town.documents(10, seed=1)
    assert [d.text for d in five] == [d.text for d in ten[:5]]
    assert [d.text for d in five] != [d.text for d in town.documents(5, seed=2)]


def test_another_town_seed_is_another_town(town):
    other = Town(town_seed=town.town_seed + 1)
    assert [f.object for f in other.facts] != [f.object for f in town.facts]
    assert other.documents(1)[0].text != town.documents(1)[0].text


def test_vocabulary_has_over_800_types_and_covers_the_samples(town, sample):
    assert len(town.vocabulary) > 800
    assert town.vocabulary == sorted(set(town.vocabulary))
    seen = {token for document in sample for token in document.tokens}
    assert seen <= set(town.vocabulary)
    assert len(seen) > 0.98 * len(town.vocabulary)


def test_word_frequencies_are_those_of_the_sample(town, sample):
    assert sum(town.word_frequencies.values()) == pytest.approx(1.0)
    documents = [Counter(document.tokens) for document in sample]
    lengths = [counts.total() for counts in documents]
    for form in sorted(town.word_frequencies, key=town.word_frequencies.get)[-150:]:
        expected = town.word_frequencies[form]
        excess = [counts[form] - expected * n for counts, n in zip(documents, lengths)]
        error = math.sqrt(sum(x * x for x in excess))  # words cluster in documents
        assert abs(sum(excess)) < 4.5 * error, form


def test_word_frequencies_fall_like_zipf(town):
    frequencies = sorted(town.word_frequencies.values(), reverse=True)[:1000]
    xs = [math.log(rank) for rank in range(1, 1001)]
    ys = [math.log(f) for f in frequencies]
    mean_x, mean_y = sum(xs) / 1000, sum(ys) / 1000
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys))
    slope = covariance / sum((x - mean_x) ** 2 for x in xs)
    correlation = covariance / math.sqrt(
        sum((x - mean_x) ** 2 for x in xs) * sum((y - mean_y) ** 2 for y in ys)
    )
    assert -1.4 < slope < -0.8
    assert correlation < -0.98


def test_registers(town, sample):
    assert {document.register for document in sample} == set(REGISTERS)
    for register in REGISTERS:
        documents = town.documents(20, seed=5, register=register)
        assert {d.register for d in documents} == {register}
        assert {s.register for d in documents for s in d.sentences} == {register}
    with pytest.raises(TownError, match="choose one of story, child"):
        town.documents(1, register="sermon")


def test_protagonists_are_people_of_the_town_and_are_named(town, sample):
    names = {person.name for person in town.people}
    for document in sample[:500]:
        if document.protagonist is None:
            assert document.register == "manual"
        else:
            assert document.protagonist in names
        if document.register in ("story", "child"):
            assert document.protagonist in document.sentences[0].tokens


def test_tokenise_and_detokenise_are_inverse(sample):
    for document in sample[:200]:
        assert tokenise(document.text) == document.tokens
        assert detokenise(document.tokens) == document.text
        assert document.text == " ".join(s.text for s in document.sentences)


def test_sentences_end_in_punctuation_and_annotation_has_one_entry_a_token(town):
    for s in town.sentences(2000, seed=4):
        assert s.tokens[-1] in (".", "?", "!")
        lists = (s.tokens, s.lemmas, s.tags, s.entities, s.heads, s.labels, s.senses)
        assert len({len(items) for items in lists}) == 1


def test_entities_are_well_formed_bio_and_names_are_persons(town):
    names = {person.name for person in town.people}
    kinds = Counter()
    for s in town.sentences(5000, seed=5):
        before = "O"
        for token, tag in zip(s.tokens, s.entities):
            if tag.startswith("I-"):
                assert before in ("B-" + tag[2:], tag)
            if tag == "B-PER":
                assert token in names
            before = tag
            kinds[tag] += 1
    assert {"B-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-DAY", "O"} == set(kinds)


def test_polysemous_words_occur_in_two_senses_and_other_context(town):
    contexts = {}
    for s in town.sentences(20_000, seed=6):
        for token, sense in zip(s.tokens, s.senses):
            if token == "bank":
                contexts.setdefault(sense, Counter()).update(set(s.lemmas))
    assert set(contexts) == {"bank.river", "bank.money"}
    assert contexts["bank.money"]["money"] > 10 * contexts["bank.river"]["money"]
    assert contexts["bank.river"]["rest"] > 10 * contexts["bank.money"]["rest"]
    for word in ("bat", "spring", "light", "bark", "ring", "match", "seal", "palm"):
        senses = {(reading.tag, reading.sense) for reading in town.readings(word)}
        assert len(senses) >= 2, word


def test_the_same_string_with_two_attachments(town):
    text = "the prince saw the girl with the telescope"
    symbol = "Clause[ball,past]"
    parses = town.parses(text, symbol)
    attached = {town.annotate(tree, "story").heads[5] for tree in parses}
    tokens = text.split()
    assert {tokens[head - 1] for head in attached} == {"telescope"}
    heads = {town.annotate(tree, "story").heads[7] for tree in parses}
    assert {tokens[head - 1] for head in heads} == {"saw", "girl"}
    total = math.log(sum(math.exp(tree.log_prob) for tree in parses))
    assert total == pytest.approx(town.grammar.log_prob(tokens, symbol), abs=1e-9)


def test_complement_clauses_nest(town):
    inner, longer = "the queen rules the kingdom", "anna said that clara thinks that "
    one = town.grammar.log_prob(inner.split(), "Clause[court,pres]")
    two = town.grammar.log_prob((longer + inner).split(), "Clause[court,past]")
    four = town.grammar.log_prob((longer + longer + inner).split(), "Clause[court,past]")
    assert -math.inf < four < two < one


def test_agreement_reaches_over_a_relative_clause(town):
    good = "the kings who saw the girl with the telescope rule the kingdom"
    bad = "the kings who saw the girl with the telescope rules the kingdom"
    assert town.grammar.log_prob(good.split(), "Clause[court,pres]") > -math.inf
    assert town.grammar.log_prob(bad.split(), "Clause[court,pres]") == -math.inf


# ---------------------------------------------------------------- exact probabilities


def test_chain_rule_and_string_probability_above_the_derivation(town):
    for document in town.documents(40, seed=8):
        tokens = town.token_log_probs(document)
        assert len(tokens) == len(document.tokens) + 1
        total = town.log_prob(document)
        assert sum(tokens) == pytest.approx(total, abs=1e-9)
        assert document.log_prob <= total + 1e-9
        assert town.log_prob(document.text) == total


def test_next_word_is_a_distribution_and_gives_the_token_log_probs(town):
    document = town.documents(1, seed=9, register="story")[0]
    steps = town.token_log_probs(document)
    for i in range(0, len(document.tokens) + 1, 3):
        words = town.next_word(document.tokens[:i])
        assert sum(words.values()) == pytest.approx(1.0, abs=1e-9)
        token = [*document.tokens, END][i]
        assert math.log(words[token]) == pytest.approx(steps[i], abs=1e-9)


def test_prefix_probability_falls_to_the_probability_of_the_document(town):
    document = town.documents(1, seed=10)[0]
    words = len(document.tokens)
    prefixes = [town.prefix_log_prob(document.tokens[:i]) for i in (0, 1, words // 2, words)]
    assert prefixes[0] == 0.0
    assert prefixes == sorted(prefixes, reverse=True)
    assert town.log_prob(document) < prefixes[-1]


def test_texts_outside_the_language(town):
    assert town.log_prob("colourless green ideas sleep furiously .") == -math.inf
    assert town.log_prob("") == -math.inf
    document = town.documents(1, seed=11)[0]
    assert town.log_prob(document.tokens[:-1]) == -math.inf
    with pytest.raises(TownError, match=r"goes on with 'ideas' \(token 2\)"):
        town.next_word("many ideas sleep")
    with pytest.raises(ValueError, match="give the beginning of a document"):
        town.next_word("xyzzy")


def test_latents_are_summed_over(town):
    """A child-directed text does not say its topic: the string beats its best derivation."""
    gains = [town.log_prob(d) - d.log_prob for d in town.documents(100, seed=12)]
    assert all(gain > -1e-9 for gain in gains)
    assert sum(gain > 0.01 for gain in gains) > 30


def test_entropy_is_reported_with_its_standard_error(town):
    first, second = town.entropy(150, seed=0), town.entropy(150, seed=1)
    for estimate in (first, second):
        assert 0.3 < estimate.bits_per_char < 0.6
        assert 0 < estimate.standard_error < 0.03
        assert estimate.n_documents == 150
    gap = abs(first.bits_per_char - second.bits_per_char)
    assert gap < 4 * math.hypot(first.standard_error, second.standard_error)
    documents = town.documents(150, seed=0)
    bits = -sum(town.log_prob(d) for d in documents) / math.log(2)
    chars = sum(len(d.text) + 1 for d in documents)
    assert first.bits_per_char == pytest.approx(bits / chars)
    assert first.n_chars == chars
    with pytest.raises(TownError, match="at least 2 documents"):
        town.entropy(1)


def test_entropy_of_strings_stays_below_that_of_derivations(town):
    derivations = town.grammar.derivation_entropy()
    documents = town.documents(1000, seed=13)
    losses = [-document.log_prob for document in documents]
    mean = sum(losses) / len(losses)
    error = math.sqrt(sum((x - mean) ** 2 for x in losses) / (len(losses) - 1) / len(losses))
    assert abs(mean - derivations) < 4 * error


# ---------------------------------------------------------------- facts


def test_facts_have_three_disjoint_splits(town):
    keys = [(f.subject, f.relation, f.object) for f in town.facts]
    assert len(keys) == len(set(keys))
    assert len(town.facts) > 300
    assert len(town.held_out_facts) >= 25
    assert len(town.unknown_facts) >= 25
    assert not set(town.held_out_facts) & set(town.unknown_facts)
    assert all(f.held_out and f.weight == 0 for f in town.held_out_facts + town.unknown_facts)
    splits = {(f.subject, f.relation): f.split for f in town.facts}
    for person in town.people:  # one gives the other away
        assert splits[person.name, "workplace"] == splits[person.name, "profession"]


def test_held_out_facts_never_occur(town, sample):
    never = {f for f in town.facts if f.held_out}
    forbidden = {text for fact in never for text in town.fact_sentences(fact)}
    assert len(forbidden) > 2 * len(never)
    stated = {fact for document in sample for s in document.sentences for fact in s.facts}
    assert not stated & never
    texts = {s.text for document in sample for s in document.sentences}
    assert not texts & forbidden
    assert not {t.split(" : ")[-1] for t in texts} & forbidden


def test_facts_are_said_in_several_ways_and_with_varied_frequency(town, sample):
    counts = Counter(f for document in sample for s in document.sentences for f in s.facts)
    assert all(not fact.held_out for fact in counts)
    ranked = [n for _, n in counts.most_common()]
    assert ranked[0] > 8 * ranked[len(ranked) // 2]
    assert len(counts) > 0.95 * sum(not f.held_out for f in town.facts)
    fact = counts.most_common(1)[0][0]
    forms = {s.text for d in sample for s in d.sentences if fact in s.facts}
    assert len(forms) >= 3


def test_fact_sentences_are_the_ones_of_the_text(town):
    known = {f: set(town.fact_sentences(f)) for f in town.facts if not f.held_out}
    found = 0
    for s in town.sentences(8000, seed=14, register="manual"):
        for fact in s.facts:
            assert s.text in known[fact]
            assert set(fact.object_text.split()) <= set(s.lemmas)
            found += 1
    assert found > 300


# ---------------------------------------------------------------- evaluation sets


def test_analogies(town):
    questions = town.analogies()
    assert len(questions) >= 300
    categories = {q.category for q in questions}
    assert len(categories) >= 8
    assert {
        "gender", "royal_gender", "country_capital", "singular_plural", "verb_past", "comparative",
        "young_animal",
    } <= categories  # fmt: skip
    asked = {(q.a, q.b, q.c, q.d) for q in questions}
    assert ("man", "king", "woman", "queen") in asked
    assert all(len({q.a, q.b, q.c, q.d}) == 4 for q in questions)
    assert all(word in town.word_frequencies for q in asked for word in q)


def test_words_of_analogies_are_frequent_in_300_000_tokens(town):
    counts, n = Counter(), 0
    for document in town.iter_documents(seed=0):
        counts.update(document.tokens)
        n += len(document.tokens)
        if n >= 300_000:
            break
    words = {w for q in town.analogies() for w in (q.a, q.b, q.c, q.d)}
    assert min(counts[w] for w in words) >= 40


def test_similarities_follow_shared_attributes(town):
    pairs = {(a, b): gold for a, b, gold in town.similarities()}
    assert len(pairs) >= 300
    assert all(0 <= gold <= 1 for gold in pairs.values())
    assert min(pairs.values()) == 0
    assert max(pairs.values()) > 0.5
    for (a, b), gold in pairs.items():
        ours, theirs = town.lexicon.attributes(a), town.lexicon.attributes(b)
        assert gold == pytest.approx(len(ours & theirs) / len(ours | theirs))


def test_planted_biases_are_in_the_text_at_their_rate(town):
    biases = {bias.name: bias for bias in town.biases()}
    judged, gendered = Counter(), Counter()
    pleasant = biases["district_judgement"].attributes[0]
    hill = biases["district_judgement"].targets[0]
    shares = biases["profession_gender"].rates
    for s in town.sentences(60_000, seed=15):
        for tree in s.tree.subtrees():
            name, _, features = tree.symbol.partition("[")
            if name == "District":
                leaves = [leaf.word.form for leaf in tree.leaves()]
                judged[leaves[3] in hill, leaves[-1] in pleasant] += 1
            if name == "JobScene" and features[-2] in "mf":
                gendered[features[:-3], features[-2]] += 1
    for side, rate in ((True, 0.8), (False, 0.2)):
        n = judged[side, True] + judged[side, False]
        assert abs(judged[side, True] / n - rate) < 4 * math.sqrt(rate * (1 - rate) / n)
    for job, share in shares.items():
        n = gendered[job, "f"] + gendered[job, "m"]
        assert abs(gendered[job, "f"] / n - share) < 4 * math.sqrt(share * (1 - share) / n)


# ---------------------------------------------------------------- canaries


def test_planting_canaries_keeps_documents_exact(town):
    documents = town.documents(60, seed=16)
    canaries = draw_canaries(3, seed=0)
    planted = town.plant(documents, canaries, copies=[1, 4, 8], seed=1)
    text = " ".join(d.text for d in planted)
    assert [text.count(c.text) for c in canaries] == [1, 4, 8]
    assert len(planted) == len(documents)
    changed = [(a, b) for a, b in zip(documents, planted) if a is not b]
    assert len(changed) == 13
    for before, after in changed:
        assert len(after.sentences) == len(before.sentences) + 1
        total = town.log_prob(after)
        assert -math.inf < after.log_prob <= total + 1e-9
    assert [d.text for d in planted] == [
        d.text for d in town.plant(documents, canaries, copies=[1, 4, 8], seed=1)
    ]


def test_canary_codes_are_uniform_given_their_prompt(town):
    document = town.documents(1, seed=17, register="manual")[0]
    canary = draw_canaries(1, seed=2)[0]
    words = town.next_word([*document.sentences[0].tokens, *canary.prompt.split()])
    assert len(words) == 10
    assert all(prob == pytest.approx(0.1) for prob in words.values())


def test_bad_canaries_are_refused(town):
    with pytest.raises(TownError, match="no box is 'pink'"):
        Canary("pink", ("one", "two", "three", "four"))
    with pytest.raises(TownError, match="a code is 4 of the words"):
        Canary("red", ("one", "two"))
    with pytest.raises(TownError, match="do not fit into"):
        town.plant(town.documents(2), draw_canaries(2), copies=5)
    with pytest.raises(TownError, match="one for each canary"):
        town.plant(town.documents(20), draw_canaries(2), copies=[1])
    with pytest.raises(TownError, match="colours of boxes"):
        draw_canaries(11)
