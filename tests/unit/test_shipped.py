"""The models that ship: they load, they are small, and they are what their records say."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from course_lib.cli.pretrain import MODELS, staleness
from course_lib.data.riverbank import Question, Town
from course_lib.models.gpt import GPT
from course_lib.models.knowledge import (
    accuracy,
    bits_per_character,
    blanks,
    chance,
    document_log_probs,
    recall,
)
from course_lib.models.sampling import generate
from course_lib.models.shipped import END_OF_TEXT, WEIGHTS, load_decoder, record_of, text_ids
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.assistant import greedy, load_assistant
from course_lib.posttraining.replies import answer
from course_lib.runtime import CourseError
from course_lib.training.causal import TEST_SEED

MEGABYTE = 1_000_000
TOWN = Town()


@pytest.fixture(scope="module")
def decoder() -> tuple[GPT, Tokenizer]:
    return load_decoder()


def test_all_weights_together_are_below_6_megabytes() -> None:
    sizes = {path.name: path.stat().st_size for path in WEIGHTS.iterdir()}
    assert sum(sizes.values()) < 6 * MEGABYTE
    assert sizes["decoder.safetensors"] < 4 * MEGABYTE


@pytest.mark.parametrize("name", MODELS)
def test_the_record_is_fresh(name: str) -> None:
    assert staleness(name) is None


def test_the_decoder_is_of_the_recorded_size(decoder: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = decoder
    record = record_of("decoder")
    assert sum(each.numel() for each in model.parameters()) == record["parameters"]
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert not model.training
    assert model.config.n_words == tokenizer.n_words
    assert model.config.max_len >= 256


def test_bits_per_character_are_those_of_the_record(decoder: tuple[GPT, Tokenizer]) -> None:
    documents = TOWN.documents(20, seed=TEST_SEED)
    bits = bits_per_character(document_log_probs(*decoder, documents), documents)
    measured = record_of("decoder")["measured"]
    assert bits == pytest.approx(measured["of the first 20"], abs=5e-4)
    assert measured["exact bits per character"] < measured["bits per character"] < 0.7  # Kneser-Ney


def test_it_knows_what_it_read_and_nothing_else(decoder: tuple[GPT, Tokenizer]) -> None:
    said = [each for each in TOWN.facts if not each.held_out]
    facts = record_of("decoder")["measured"]["facts"]
    assert accuracy(recall(*decoder, blanks(TOWN, said[::6]))) == pytest.approx(
        facts["said"]["right"], abs=0.1
    )
    for name, never in (("held out", TOWN.held_out_facts), ("unknown", TOWN.unknown_facts)):
        asked = blanks(TOWN, never)
        found = accuracy(recall(*decoder, asked))
        assert found == pytest.approx(facts[name]["right"], abs=0.03)
        # Three standard errors of guessing at so many facts.
        assert found < chance(asked) + 3 * (0.1 * 0.9 / len(never)) ** 0.5


def test_it_goes_on_with_a_text(decoder: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = decoder
    ids = torch.tensor([text_ids(tokenizer, "look , anna ! the")])
    written = generate(model, ids, 40, lambda each: each.argmax(-1))[0].tolist()
    words = tokenizer.decode(written[1:]).split(END_OF_TEXT)[0].split()
    assert words[:5] == ["look", ",", "anna", "!", "the"]
    assert set(words) <= set(TOWN.vocabulary)


@pytest.fixture(scope="module")
def assistant() -> tuple[GPT, Tokenizer]:
    return load_assistant()


def share_right(model: GPT, tokenizer: Tokenizer, questions: list[Question]) -> float:
    """Return the share of greedy answers that state the fact."""
    texts = answer(model, tokenizer, [each.text for each in questions], choose=greedy).texts
    rewards = [TOWN.gold_reward(q.text, text) for q, text in zip(questions, texts, strict=True)]
    return sum(each.fact > 0 for each in rewards) / len(rewards)


def test_the_assistant_answers_as_its_record_says(
    assistant: tuple[GPT, Tokenizer], decoder: tuple[GPT, Tokenizer]
) -> None:
    measured = record_of("assistant")["measured"]
    questions = TOWN.questions(split="said", kind="wh")
    new = [each for each in questions if each.is_test][::4]
    learnt = [each for each in questions if each.phrasing == "train" and not each.is_test][::20]
    # Three standard errors of a share of about forty.
    assert share_right(*assistant, new) == pytest.approx(measured["new questions: right"], abs=0.22)
    assert share_right(*assistant, learnt) > 0.9
    assert share_right(*decoder, new) < 0.1


def test_the_assistant_of_another_decoder_is_refused(tmp_path: Path) -> None:
    for name in ("decoder.safetensors", "tokenizer.json"):
        shutil.copy(WEIGHTS / name, tmp_path)
    with pytest.raises(CourseError, match="is missing"):
        load_assistant(tmp_path)
    kept = load_file(WEIGHTS / "assistant.safetensors")
    first = next(name for name in kept if name != "words.rows")
    with safe_open(WEIGHTS / "assistant.safetensors", "pt") as file:
        about = file.metadata()
    save_file(
        {**kept, first: kept[first][:1].clone()}, tmp_path / "assistant.safetensors", about
    )
    with pytest.raises(CourseError, match="another decoder"):
        load_assistant(tmp_path)
