"""Tovian: its lexicon, inflection and translation, and sentences of a chosen length."""

import hashlib
import math
import random
import subprocess
import sys
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest

from course_lib.data.riverbank import Town, TownError
from course_lib.data.riverbank.pcfg import Word
from course_lib.data.riverbank.tovian import Tovian, entry_key

SNAPSHOT = "fbe8843643e080487b9ef4472ba1eb08363728f4d6e4448a1fdbf88514b79877"
MODALS = {"will", "can", "must", "may", "should"}


@pytest.fixture(scope="module")
def town():
    return Town()


@pytest.fixture(scope="module")
def pairs(town):
    return [(s, town.translate(s)) for s in town.sentences(12_000, seed=21)]


def fingerprint(pairs):
    lines = (repr((x.source, x.target, sorted(x.alignment))) for _, x in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def translation_of(town, text, symbol):
    return town.translate(town.annotate(town.parses(text, symbol)[0], "story"))


# ---------------------------------------------------------------- lexicon


def test_every_form_has_one_analysis_and_none_is_an_english_word(town):
    tovian = town.tovian
    assert len(tovian.vocabulary) == len(set(tovian.vocabulary)) > 5000
    english = set(town.vocabulary)
    for form in tovian.vocabulary:
        entry, _ = tovian.analyse(form)
        assert form.startswith(entry.stem)
        if entry.kind not in ("name", "PUNCT"):
            assert form not in english
    stems = [entry.stem for entry in tovian.entries.values()]
    assert len(stems) == len(set(stems))


def test_every_word_of_the_town_has_an_entry_or_always_vanishes(town):
    silent = set()
    for form in town.vocabulary:
        for word in town.readings(form):
            if town.tovian.entry(word) is None:
                silent.add(form)
    assert silent == {"the", "a", "an", "'s", "to", "of", "there", "do", "does", "did"}


def test_senses_are_different_words(town):
    stems = {}
    for word in town.readings("bank"):
        stems[word.sense] = town.tovian.entry(word).stem
    assert set(stems) == {"bank.river", "bank.money"}
    assert len(set(stems.values())) == 2
    for form in ("bat", "spring", "light", "ring", "match", "seal", "palm", "rose"):
        keys = {(word.sense, entry_key(word)[2]) for word in town.readings(form)}
        entries = {town.tovian.entry(word) for word in town.readings(form)}
        assert len(keys) == len({e.stem for e in entries}) >= 2, form


def test_names_are_respelt(town):
    tovian = town.tovian
    names = [town.tovian.entries[key] for key in tovian.entries if key[2] == "name"]
    assert len(names) == len(town.people)
    assert {e.stem for e in names if e.lemma == "clara"} == {"klar"}


def test_a_stem_that_is_taken_is_refused():
    """Two names that Tovian spells alike cannot both be had."""
    spelt = [
        Word(name, name, "PROPN", (("Number", "Sing"),), None, "B-PER") for name in ("carl", "karl")
    ]
    assert len(Tovian(spelt[:1], 0).entries) == 1
    with pytest.raises(TownError, match="no free stem for 'karl'"):
        Tovian(spelt, 0)


def test_the_town_seed_fixes_the_lexicon(town):
    again = Tovian((w for f in town.vocabulary for w in town.readings(f)), town.town_seed)
    other = Tovian((w for f in town.vocabulary for w in town.readings(f)), town.town_seed + 1)
    assert again.entries == town.tovian.entries
    common = {k for k, e in other.entries.items() if e.stem == town.tovian.entries[k].stem}
    assert {key[2] for key in common} <= {"name", "PUNCT", "CCONJ", "ADP", "DET", "NUM", "ADV"}


# ---------------------------------------------------------------- translation


@pytest.mark.parametrize(
    ("text", "symbol", "gloss"),
    [
        (
            "the kings who saw the girl with the telescope rule the kingdom",
            "Clause[court,pres]",
            "who.sg.nom girl.sg.acc telescope.sg.gen with see.past.pl king.pl.nom "
            "kingdom.sg.acc rule.pres.pl",
        ),
        (
            "anna said that clara thinks that the queen rules the kingdom",
            "Clause[court,past]",
            "anna.sg.nom that clara.sg.nom that queen.sg.nom kingdom.sg.acc rule.pres.sg "
            "think.pres.sg say.past.sg",
        ),
        (
            "anna will ride the new pony to the castle",
            "Clause[ball,mod]",
            "anna.sg.nom pony.sg.acc new.sg.acc castle.sg.dat ride.inf will.pres.sg",
        ),
        (
            "the princesses were riding the ponies",
            "Clause[ball,past]",
            "princess.pl.nom pony.pl.acc ride.pastprog.pl",
        ),
        (
            "the princesses did not ride the ponies",
            "Clause[ball,past]",
            "princess.pl.nom pony.pl.acc not ride.past.pl",
        ),
    ],
)
def test_glosses(town, text, symbol, gloss):
    assert " ".join(town.tovian.gloss(translation_of(town, text, symbol).target)) == gloss


def test_every_token_of_the_target_has_one_link_and_links_are_between_translations(town, pairs):
    for sentence, x in pairs:
        assert x.source == tuple(sentence.tokens)
        assert x.text.split() == list(x.target)
        assert sorted(j for _, j in x.alignment) == list(range(len(x.target)))
        assert len({i for i, _ in x.alignment}) == len(x.alignment)
        for i, j in x.alignment:
            entry = town.tovian.entry(sentence.leaves[i].word)
            assert town.tovian.analyse(x.target[j]).entry == entry


def test_only_function_words_vanish(pairs):
    vanished = Counter()
    for sentence, x in pairs:
        linked = {i for i, _ in x.alignment}
        for i, lemma in enumerate(sentence.lemmas):
            if i not in linked:
                vanished[lemma, sentence.tags[i]] += 1
    assert set(vanished) - {("there", "PRON")} == {
        ("the", "DET"), ("a", "DET"), ("an", "DET"), ("'s", "PART"), ("to", "PART"),
        ("to", "ADP"), ("of", "ADP"), ("do", "AUX"), ("be", "AUX"),
    }  # fmt: skip


def clause_tokens(sentence, head):
    """Indices of a clause without its conjoined clauses."""
    found, pending = [], [head]
    while pending:
        i = pending.pop()
        found.append(i)
        for k, parent in enumerate(sentence.heads):
            conjoined = sentence.labels[k] == "conj" and sentence.tags[k] == "VERB"
            if parent == i + 1 and not (i == head and conjoined):
                pending.append(k)
    return found


def test_the_verb_is_last_in_its_clause(pairs):
    clauses = 0
    for sentence, x in pairs[:6000]:
        if "appos" in sentence.labels and ":" in sentence.tokens and len(x.target) == 4:
            continue  # an item of a list: two words, no clause
        place = dict(x.alignment)
        for head in range(len(sentence.tokens)):
            helpers = {
                sentence.labels[k]: k
                for k, parent in enumerate(sentence.heads)
                if parent == head + 1
                and (
                    sentence.labels[k] == "cop"
                    or (sentence.labels[k] == "aux" and sentence.lemmas[k] in MODALS)
                )
            }
            verb = helpers.get("cop", helpers.get("aux", head))
            if verb == head and sentence.tags[head] != "VERB":
                continue
            clauses += 1
            inside = clause_tokens(sentence, head)
            last = max(
                place[i] for i in inside if i in place and sentence.tags[i] != "PUNCT"
            )  # fmt: skip
            assert place[verb] == last, (sentence.text, x.text)
    assert clauses > 6000


def test_verbs_agree_with_their_subjects_and_nouns_have_their_cases(town, pairs):
    seen = Counter()
    wanted = {"nsubj": "nom", "obj": "acc", "nmod:poss": "gen", "vocative": "nom"}
    for sentence, x in pairs:
        place = dict(x.alignment)

        def features(i, x=x, place=place):
            return town.tovian.analyse(x.target[place[i]]).features

        for k, (head, label) in enumerate(zip(sentence.heads, sentence.labels)):
            if label in wanted and k in place and sentence.tags[k] != "ADV":
                assert features(k)[-1] == wanted[label], (sentence.text, x.text)
                seen[label] += 1
            if label != "nsubj" or k not in place:
                continue
            kids = [i for i, parent in enumerate(sentence.heads) if parent == head]
            verb = next((i for i in kids if sentence.labels[i] == "cop"), None)
            modals = (i for i in kids if sentence.labels[i] == "aux")
            modals = (i for i in modals if sentence.lemmas[i] in MODALS)
            verb = next(modals, head - 1) if verb is None else verb
            joined = any(
                parent == k + 1 and sentence.labels[i] == "conj"
                for i, parent in enumerate(sentence.heads)
            )
            noun = k
            if sentence.lemmas[k] == "who" and sentence.labels[head - 1] == "acl:relcl":
                noun = sentence.heads[head - 1] - 1
            plural = joined or ("Number", "Plur") in sentence.leaves[noun].word.feats
            assert features(verb)[-1] == ("pl" if plural else "sg"), (sentence.text, x.text)
            seen["pl" if plural else "sg"] += 1
    assert min(seen[key] for key in (*wanted, "pl", "sg")) > 200


def test_adjectives_agree_with_their_noun_in_number_and_case(town, pairs):
    seen = Counter()
    for sentence, x in pairs:
        place = dict(x.alignment)
        for k, (head, label) in enumerate(zip(sentence.heads, sentence.labels)):
            if label == "amod" and sentence.tags[k] == "ADJ":
                adjective = town.tovian.analyse(x.target[place[k]]).features
                noun = town.tovian.analyse(x.target[place[head - 1]]).features
                assert adjective[-2:] == noun[-2:], (sentence.text, x.text)
                assert place[k] > place[head - 1]
                seen[noun] += 1
    assert {case for _, case in seen} == {"nom", "acc", "gen", "dat"}
    assert {number for number, _ in seen} == {"sg", "pl"}


def test_two_parses_of_one_string_have_two_translations(town):
    text = "the prince saw the girl with the telescope"
    targets = {
        " ".join(town.tovian.gloss(town.translate(town.annotate(tree, "story")).target))
        for tree in town.parses(text, "Clause[ball,past]")
    }
    assert targets == {
        "prince.sg.nom girl.sg.acc telescope.sg.gen with see.past.sg",
        "prince.sg.nom telescope.sg.gen with girl.sg.acc see.past.sg",
    }


def test_the_target_is_a_function_of_the_parse(town):
    """Parses with other heads have other targets; parses alike in all annotation have the same."""
    ambiguous = 0
    for sentence in town.sentences_of_length(400, seed=3, min_words=8, max_words=18):
        of_heads, of_parse = defaultdict(set), defaultdict(set)
        for tree in town.parses(sentence, sentence.tree.symbol)[:40]:
            parse = town.annotate(tree, sentence.register)
            target = town.translate(parse).target
            words = tuple(leaf.word for leaf in parse.leaves)
            of_heads[tuple(parse.heads)].add(target)
            of_parse[tuple(parse.heads), tuple(parse.labels), words].add(target)
        assert all(len(targets) == 1 for targets in of_parse.values())
        every = [target for targets in of_heads.values() for target in targets]
        assert len(every) == len(set(every)), sentence.text
        ambiguous += len(of_heads) > 1
    assert ambiguous > 40


def test_most_translations_reorder(pairs):
    assert sum(x.is_monotone for _, x in pairs) < 0.1 * len(pairs)
    copula = next(x for _, x in pairs if x.source[0] == "look" and "," not in x.source)
    assert not copula.is_monotone
    item = next(x for _, x in pairs if x.source[1] == ":" and len(x.source) == 4)
    assert item.is_monotone


def test_only_an_annotated_sentence_can_be_translated(town):
    with pytest.raises(TownError, match="only an annotated Sentence"):
        town.translate("the queen rules the kingdom .")
    with pytest.raises(TownError, match="is not a word of Tovian"):
        town.tovian.analyse("queen")
    with pytest.raises(TownError, match="Tovian has no word for 'xyzzy'"):
        town.tovian.entry(Word("xyzzy", "xyzzy", "NOUN"))
    with pytest.raises(TownError, match="only an annotated Sentence"):
        town.translate(SimpleNamespace(tokens=["a"]))


# ---------------------------------------------------------------- parallel text


def test_same_seed_same_bytes_on_every_platform(town):
    assert fingerprint(town.parallel(300, seed=0)) == SNAPSHOT


def test_same_bytes_in_another_process_with_another_hash_seed(town):
    code = (
        "from course_lib.data.riverbank import Town; import hashlib;"
        "t = ' '.join(x.text for _, x in Town().parallel(40, seed=7, max_words=30));"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "123", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    here = " ".join(x.text for _, x in town.parallel(40, seed=7, max_words=30))
    assert run.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_lengths_are_uniform_over_the_range(town):
    for low, high, seed in ((3, 20, 1), (15, 40, 2)):
        lengths = Counter(len(s.tokens) for s, _ in town.parallel(2600, seed, low, high))
        assert set(lengths) == set(range(max(4, low), high + 1))
        expected = 2600 / len(lengths)
        chi_square = sum((n - expected) ** 2 / expected for n in lengths.values())
        freedom = len(lengths) - 1  # beyond mean + 4 standard deviations: less than 1 in 1,000
        assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_a_sentence_of_given_length_is_drawn_with_the_grammars_own_probability(town):
    """Given the length, words are as frequent as in the text's sentences of that length."""
    text = [s for s in town.sentences(40_000, seed=22) if len(s.tokens) == 7]
    text = [s for s in text if not s.tree.symbol.startswith("SentItem")]
    drawn = town.sentences_of_length(len(text), seed=23, min_words=7, max_words=7)
    ours, theirs = (Counter(t for s in sample for t in s.tokens) for sample in (drawn, text))
    for token, n in theirs.most_common(60):
        # Sentences of a document share words, so the text's own spread exceeds a Poisson law's.
        assert abs(ours[token] - n) < 8 * math.sqrt(n + ours[token]), token
    kinds = [Counter(s.tree.symbol.split("[")[0] for s in sample) for sample in (drawn, text)]
    for kind in kinds[1]:
        assert abs(kinds[0][kind] - kinds[1][kind]) < 8 * math.sqrt(sum(k[kind] for k in kinds))


def test_length_probabilities_add_up_and_are_those_of_the_samples(town):
    symbol = "Clause[court,past]"
    sampler = town.length_sampler
    probs = {n: sampler.prob(symbol, n) for n in range(1, 80)}
    assert sum(probs.values()) == pytest.approx(1.0, abs=1e-6)
    rng, grammar = random.Random(0), town.grammar
    n = 4000
    counts = Counter(len(grammar.sample(symbol, rng).leaves) for _ in range(n))
    for length, prob in probs.items():
        error = math.sqrt(n * prob * (1 - prob)) + 1
        assert abs(counts[length] - n * prob) < 4.5 * error, length


def test_register_and_topic(town):
    for s, _ in town.parallel(50, seed=3, register="dialogue"):
        assert s.register == "dialogue"
    assert {s.register for s, _ in town.parallel(300, seed=3)} == set(
        ("story", "child", "manual", "dialogue")
    )
    narrow = {t for s, _ in town.parallel(1500, seed=4, topic="voyage") for t in s.tokens}
    wide = {t for s, _ in town.parallel(1500, seed=4) for t in s.tokens}
    assert len(narrow) < 0.7 * len(wide)
    with pytest.raises(TownError, match="no register 'sermon'"):
        town.parallel(1, register="sermon")
    with pytest.raises(TownError, match="no topic 'war'; choose one of court"):
        town.parallel(1, topic="war")
    with pytest.raises(TownError, match="no sentence has 1 to 3 words"):
        town.parallel(1, min_words=1, max_words=3)
    with pytest.raises(TownError, match="no sentence of 2 words"):
        town.length_sampler.sample("Clause[court,past]", 1 + 1, None)


def test_sentences_of_given_length_are_sentences_of_the_town(town):
    for s in town.sentences_of_length(60, seed=5, min_words=4, max_words=16):
        assert town.grammar.log_prob(s.tokens, s.tree.symbol) > -math.inf
        assert s.log_prob <= town.grammar.log_prob(s.tokens, s.tree.symbol) + 1e-9
