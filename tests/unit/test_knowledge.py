"""What a model knows of the town, measured: against models whose answers are known, and by brute force."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from course_lib.data.riverbank import Town
from course_lib.models.agreement import agreement_questions
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.knowledge import (
    Recall,
    accepted,
    accuracy,
    agreement_accuracy,
    bits_per_character,
    blanks,
    chance,
    document_log_probs,
    log_probs_of,
    mentions,
    recall,
    write_documents,
)
from course_lib.models.shipped import END_OF_TEXT, SPECIAL, text_ids
from course_lib.models.tokenization import Tokenizer

TOWN = Town()
LENGTH = 32


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train((" " + each.text for each in TOWN.documents(60, 4)), 500, SPECIAL)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(tokenizer.n_words, LENGTH, 16, 2, 2, rotary=True)).eval()


def one_by_one(model: GPT, given: list[int], asked: list[int]) -> float:
    total = 0.0
    for k, token in enumerate(asked):
        ids = torch.tensor([given + asked[:k]])
        total += model(ids)[0, -1].log_softmax(-1)[token].item()
    return total


@torch.no_grad()
def test_rows_are_as_probable_as_token_by_token(model: GPT, tokenizer: Tokenizer) -> None:
    draw = torch.Generator().manual_seed(1)
    rows = []
    for a, b in ((1, 1), (5, 3), (LENGTH - 4, 5), (1, LENGTH), (9, 2)):
        ids = torch.randint(500, (a + b,), generator=draw).tolist()
        rows.append((ids[:a], ids[a:]))
    for batch in (1, 2, 64):
        found = log_probs_of(model, tokenizer, rows, batch)
        assert found == pytest.approx([one_by_one(model, *row) for row in rows], rel=1e-5)


@torch.no_grad()
def test_long_documents_are_read_in_windows(model: GPT, tokenizer: Tokenizer) -> None:
    documents = sorted(TOWN.documents(40, 9), key=lambda each: len(each.tokens))
    chosen = [documents[0], documents[-1]]
    found = document_log_probs(model, tokenizer, chosen)
    for document, score in zip(chosen, found):
        ids = [*text_ids(tokenizer, document.text), tokenizer.special[END_OF_TEXT]]
        total = 0.0
        end, scored = min(len(ids), LENGTH + 1), 1
        while scored < len(ids):
            window = [ids[0], *ids[max(1, end - LENGTH) : end]]
            n = end - scored
            total += one_by_one(model, window[:-n], window[-n:])
            assert len(window) <= LENGTH + 1
            scored, end = end, min(len(ids), end + LENGTH // 2)
        assert score == pytest.approx(total, rel=1e-5)
    assert len(ids) > 3 * LENGTH
    characters = sum(len(each.text) + 1 for each in chosen)
    assert bits_per_character([-2.0, -3.0], chosen) == pytest.approx(5 / math.log(2) / characters)


# --- facts ---------------------------------------------------------------------------------------


def test_blanks_are_sentences_of_the_facts() -> None:
    asked = blanks(TOWN, TOWN.facts)
    assert {each.fact for each in asked} == set(TOWN.facts)
    for blank in asked:
        objects = {each.object for each in TOWN.facts if each.relation == blank.fact.relation}
        assert set(blank.answers) == objects
        assert blank.before.split()[-1] not in ("a", "an")
        for each, answer in blank.answers.items():
            sentences = TOWN.fact_sentences(replace(blank.fact, object=each))
            assert any(s.startswith(f"{blank.before} {answer} ") for s in sentences)
    articles = {a.split()[0] for b in asked if b.fact.relation == "pet" for a in b.answers.values()}
    assert articles == {"a", "an"} or articles == {"a"}


class Table:
    """A stand-in for a model: after a text, the tokens of one continuation are certain but for a little."""

    def __init__(self, tokenizer: Tokenizer, sure: dict[str, str]) -> None:
        self.config = GPTConfig(tokenizer.n_words, 64, 1, 1, 1)
        self.tokenizer = tokenizer
        self.sure = [text_ids(tokenizer, f"{before} {after}") for before, after in sure.items()]

    def parameters(self):
        yield torch.zeros(1)

    def __call__(self, ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, self.tokenizer.n_words)
        for row, tokens in enumerate(ids.tolist()):
            for text in self.sure:
                for k in range(1, len(text)):
                    if tokens[:k] == text[:k]:
                        logits[row, k - 1, text[k]] += 20.0
        return logits


def test_a_model_that_knows_half_of_the_facts(tokenizer: Tokenizer) -> None:
    facts = [each for each in TOWN.facts if each.relation in ("pet", "street")][:12]
    asked = blanks(TOWN, facts)
    known = [each for each in asked if each.fact in facts[:6]]
    told = {each.before: each.answers[each.fact.object] for each in known}
    for each in asked:
        if each not in known:  # the others it believes to be something else
            told[each.before] = next(a for o, a in each.answers.items() if o != each.fact.object)
    found = recall(Table(tokenizer, told), tokenizer, asked)  # type: ignore[arg-type]
    assert [each.first for each in found] == [each in known for each in asked]
    assert accuracy(found) == pytest.approx(0.5)
    assert all((each.share > 0.9) == each.first for each in found)


def test_each_fact_counts_once() -> None:
    asked = blanks(TOWN, TOWN.facts[:2])
    one = [each for each in asked if each.fact == TOWN.facts[0]]
    other = [each for each in asked if each.fact == TOWN.facts[1]]
    found = [Recall(one[0], True, 1.0), Recall(one[1], False, 0.0), Recall(other[0], True, 1.0)]
    assert accuracy(found) == pytest.approx(0.75)
    assert chance(one) == pytest.approx(1 / len(one[0].answers))


def test_mentions_are_counted_exactly() -> None:
    often = mentions(TOWN)
    assert all((often[fact] == 0) == fact.held_out for fact in TOWN.facts)
    documents = TOWN.documents(1500, seed=3)
    counted = sum(len(s.facts) for each in documents for s in each.sentences) / 1500
    assert sum(often.values()) == pytest.approx(counted, abs=0.15)


# --- grammar -------------------------------------------------------------------------------------


def test_agreement_of_a_model_that_has_none(model: GPT, tokenizer: Tokenizer) -> None:
    class Deaf(Table):
        def __call__(self, ids: Tensor) -> Tensor:
            return self.scores.expand(*ids.shape, -1)

    deaf = Deaf(tokenizer, {})
    deaf.scores = torch.randn(tokenizer.n_words)
    questions = agreement_questions(TOWN, 60, 5, 10)
    found = agreement_accuracy(deaf, tokenizer, questions)  # type: ignore[arg-type]
    assert found
    assert set(found.values()) == {0.5}


def test_the_towns_own_text_is_accepted_and_other_text_is_not() -> None:
    documents = TOWN.documents(20, seed=6)
    own = [(each.text, True) for each in documents]
    verdict = accepted(TOWN, own)
    assert (verdict.sentences, verdict.documents) == (1.0, 1.0)
    assert verdict.n_documents == 20
    assert verdict.n_sentences == sum(t in (".", "?", "!") for d in documents for t in d.tokens)
    broken = "flora is a nurse . flora flora ."
    job = next(f for f in TOWN.facts if f.subject == "flora" and f.relation == "profession")
    assert job.object == "nurse"
    assert accepted(TOWN, [(broken, True)]).sentences == 0.5
    cut = accepted(TOWN, [(documents[0].text.rsplit(" ", 2)[0], False)])
    assert (cut.n_documents, cut.sentences) == (0, 1.0)


def test_documents_are_written_to_their_end(model: GPT, tokenizer: Tokenizer) -> None:
    written = write_documents(model, tokenizer, 30, seed=2)
    assert written == write_documents(model, tokenizer, 30, seed=2)
    assert {ended for _, ended in written} <= {True, False}
    assert all(END_OF_TEXT not in text for text, _ in written)
