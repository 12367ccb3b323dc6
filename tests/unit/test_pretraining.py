"""Pretraining: recipes, exact resume, folders that do not fit, the decoder's batches, `course pretrain`."""

import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.cli import main
from course_lib.cli import pretrain as command
from course_lib.models.gpt import GPT
from course_lib.models.shipped import END_OF_TEXT, PAD, SPECIAL, load_decoder, record_of, text_ids
from course_lib.models.tokenization import Tokenizer
from course_lib.runtime import CourseError
from course_lib.training import causal
from course_lib.training.causal import DecoderRecipe, packed, quick_gpt
from course_lib.training.pretraining import (
    ABOUT,
    CHECKPOINT,
    Recipe,
    measure_again,
    pretrain,
    put_away,
)


@dataclass(frozen=True, kw_only=True)
class Pairs(Recipe):
    """A table and a matrix that learn which of 7 numbers follows which; one number is always 3 ahead."""

    name: str = "pairs"
    steps: int = 12
    dropout: float = 0.1
    falls_at: int = 999  # the batch that cannot be made, as if the power failed

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Embedding(7, 8), nn.Dropout(self.dropout), nn.Linear(8, 7))

    def batch(self, number: int) -> Any:
        if number == self.falls_at:
            raise KeyboardInterrupt
        draw = torch.Generator().manual_seed(self.draw(number))
        ids = torch.randint(7, (16,), generator=draw)
        return {"ids": ids, "more": ((ids + 3) % 7,)}

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch["ids"]), batch["more"][0])

    def save(self, model: nn.Module, folder: Path) -> None:
        from safetensors.torch import save_file

        half = {name: each.half() for name, each in model.state_dict().items()}
        save_file(half, folder / "pairs.safetensors")

    def load(self, folder: Path) -> nn.Module:
        from safetensors.torch import load_file

        model = self.model()
        model.load_state_dict(load_file(folder / "pairs.safetensors"))
        return model

    def measure(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        assert not model.training
        return {"loss": self.loss(model, self.batch(-1)).item()}


def silent(line: str) -> None:
    """Take a line and say nothing."""


def weights(model: nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in model.state_dict().values()]


@pytest.mark.parametrize("matrix_rate", [0.0, 0.1])
def test_a_recipe_is_learnt(tmp_path: Path, matrix_rate: float) -> None:
    recipe = Pairs(steps=150, learning_rate=0.03, matrix_rate=matrix_rate, dropout=0.0)
    trained = pretrain(recipe, tmp_path, say=silent)
    assert trained.losses[0] > 1.5
    assert trained.losses[-1] < 0.2
    assert not trained.model.training
    assert trained.seconds > 0


@pytest.mark.parametrize("at", [1, 7, 11])
@pytest.mark.parametrize("matrix_rate", [0.0, 0.1])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, at: int, matrix_rate: float) -> None:
    recipe = Pairs(matrix_rate=matrix_rate)
    whole = pretrain(recipe, tmp_path / "whole", say=silent)
    with pytest.raises(KeyboardInterrupt):
        pretrain(replace(recipe, falls_at=at), tmp_path / "cut", every=0, say=silent)
    about = json.loads((tmp_path / "cut" / ABOUT).read_text())
    assert about["step"] == at
    about["recipe"]["falls_at"] = 999
    (tmp_path / "cut" / ABOUT).write_text(json.dumps(about))
    torch.manual_seed(99)  # whatever was drawn in between
    resumed = pretrain(recipe, tmp_path / "cut", resume=True, say=silent)
    assert resumed.losses == whole.losses
    assert resumed.seconds > about["seconds"]
    assert all(map(torch.equal, weights(resumed.model), weights(whole.model)))


def test_a_finished_run_is_read_back(tmp_path: Path) -> None:
    whole = pretrain(Pairs(), tmp_path, say=silent)
    again = pretrain(Pairs(), tmp_path, resume=True, say=silent)
    assert again.losses == whole.losses
    assert all(map(torch.equal, weights(again.model), weights(whole.model)))


def test_the_seed_decides(tmp_path: Path) -> None:
    runs = [pretrain(Pairs(seed=s), tmp_path / str(i), say=silent) for i, s in enumerate((0, 0, 1))]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses != runs[2].losses


def test_a_line_is_said_at_each_checkpoint(tmp_path: Path) -> None:
    lines: list[str] = []
    pretrain(Pairs(steps=3), tmp_path, every=0, say=lines.append)
    assert [line.partition(", loss")[0] for line in lines] == [
        "pairs: step 1 of 3",
        "pairs: step 2 of 3",
    ]


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = Pairs(steps=10, warmup=0.2, cooldown=0.4)
    shares = [recipe.share_of_rate(step) for step in range(10)]
    assert shares == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"^There is no run to go on with in .*: begin one"):
        pretrain(Pairs(), tmp_path, resume=True)
    pretrain(Pairs(steps=2), tmp_path, say=silent)
    with pytest.raises(CourseError, match=r"holds a run that was begun: go on with it \(resume\)"):
        pretrain(Pairs(), tmp_path)
    with pytest.raises(CourseError, match=r"holds a run of another recipe \(seed, steps\)"):
        pretrain(Pairs(steps=3, seed=4), tmp_path, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(CourseError, match="does not fit"):
        pretrain(Pairs(steps=2), tmp_path, resume=True)
    (tmp_path / ABOUT).write_text("nothing")
    with pytest.raises(CourseError, match=r"does not say what was begun there"):
        pretrain(Pairs(steps=2), tmp_path, resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(CourseError, match=r"cannot be written \(.*\): choose a folder"):
        pretrain(Pairs(), tmp_path / "file")


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    class Wild(Pairs):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * math.nan

    with pytest.raises(CourseError, match=r"The loss of step 1 is nan: the rates of pairs are too"):
        pretrain(Wild(), tmp_path)


def test_what_is_put_away_is_what_is_measured(tmp_path: Path) -> None:
    recipe = Pairs(steps=60, dropout=0.0)
    trained = pretrain(recipe, tmp_path / "run", say=silent)
    record = put_away(recipe, trained, tmp_path / "out", {"machine": "this one"})
    assert record == json.loads((tmp_path / "out" / "pairs.json").read_text()) | {
        "recipe": asdict(recipe)
    }
    half = recipe.load(tmp_path / "out").eval()
    assert record["measured"]["loss"] == recipe.loss(half, recipe.batch(-1)).item()
    assert record["parameters"] == 7 * 8 + 8 * 7 + 7
    assert record["machine"] == "this one"
    assert len(record["losses"]) == 30  # means of two steps each
    assert record["first losses"] == trained.losses[:4]
    place = tmp_path / "out" / "pairs.json"
    place.write_text(place.read_text().replace('"loss"', '"an older measure"'))
    assert measure_again(recipe, tmp_path / "out")["measured"] == record["measured"]
    assert json.loads(place.read_text())["measured"] == record["measured"]
    with pytest.raises(CourseError, match=r"There is no pairs\.json"):
        measure_again(recipe, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CourseError, match="cannot be written"):
        put_away(recipe, trained, tmp_path / "file", {})


# --- the decoder ---------------------------------------------------------------------------------

TINY = DecoderRecipe(
    steps=3, n_words=600, tokenizer_documents=60, documents=6, parts=1, length=96,
    d_model=16, n_heads=2, n_layers=1,
)  # fmt: skip


def test_rows_hold_every_text_and_no_row_too_much() -> None:
    texts = [list(range(n)) for n in (3, 40, 10, 7, 25, 1, 10)]
    rows = packed(texts, 20)
    assert all(sum(map(len, row)) <= 20 for row in rows)
    parts = sorted(part for row in rows for part in row)
    cut = [texts[1][:20], texts[1][20:], texts[4][:20], texts[4][20:]]
    assert parts == sorted([*cut, *(texts[i] for i in (0, 2, 3, 5, 6))])
    assert len(rows) == 5  # for 96 tokens


def test_a_batch_is_whole_documents_of_the_town() -> None:
    ids, following = TINY.batch(5)
    assert ids.shape == following.shape
    assert ids.shape[1] == TINY.length
    assert all(map(torch.equal, (ids, following), TINY.batch(5)))
    assert not torch.equal(ids[0], TINY.batch(6)[0][0])
    end, pad = TINY.tokenizer.special[END_OF_TEXT], TINY.tokenizer.special[PAD]
    expected = TINY.town.documents(TINY.documents, TINY.draw(5))
    found = []
    for row, due in zip(ids, following):
        assert row[0] == end
        counted = due >= 0
        assert torch.equal(row[1:][counted[:-1]], due[:-1][counted[:-1]])
        assert (row[1:][~counted[:-1]] == pad).all()
        texts = TINY.tokenizer.decode(due[counted].tolist()).split(END_OF_TEXT)
        found += [text for text in texts if text]
    # A document that is longer than a row stands in several.
    short = [each for each in expected if len(TINY.ids_of(each.tokens)) < TINY.length]
    assert {" " + each.text for each in short} <= set(found)
    assert sum(map(len, found)) == sum(len(each.text) + 1 for each in expected)


def test_rows_are_dealt_out_to_batches() -> None:
    whole = replace(TINY, documents=20)
    ids, _ = whole.batch(1)
    dealt = [replace(whole, parts=3).batch(number)[0] for number in (3, 4, 5)]
    assert [len(each) for each in dealt] == [len(ids[i::3]) for i in range(3)]
    assert all(torch.equal(ids[i::3], each) for i, each in enumerate(dealt))


def test_words_are_cut_as_in_the_whole_text() -> None:
    for document in TINY.town.documents(30, seed=8):
        ids = TINY.ids_of(document.tokens)
        assert ids == TINY.tokenizer.encode(" " + document.text)
        assert [TINY.tokenizer.special[END_OF_TEXT], *ids] == text_ids(
            TINY.tokenizer, document.text
        )
    assert text_ids(TINY.tokenizer, "") == [TINY.tokenizer.special[END_OF_TEXT]]


def test_the_quick_model_computes_the_same() -> None:
    torch.manual_seed(0)
    config = TINY.model().config.but(d_model=24, n_heads=3, n_layers=2)
    quick, plain = quick_gpt(config), GPT(config)
    plain.load_state_dict(quick.state_dict())
    ids, following = TINY.batch(0)
    one, other = TINY.loss(quick, (ids, following)), TINY.loss(plain, (ids, following))
    torch.testing.assert_close(one, other)
    one.backward()
    other.backward()
    for mine, theirs in zip(quick.parameters(), plain.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-3)
    caches = quick.empty_caches(1)
    torch.testing.assert_close(
        torch.cat([quick(ids[:1, :40], caches), quick(ids[:1, 40:50], caches)], dim=1),
        plain(ids[:1, :50]),
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip


# --- the command ---------------------------------------------------------------------------------


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["course", "pretrain", *words])
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the command's decoder tiny, and a folder in which it ships."""
    monkeypatch.setattr(command, "recipe_of", lambda model: TINY)
    monkeypatch.setattr(causal, "TESTED", 5)
    monkeypatch.setattr(causal, "WRITTEN", 3)
    monkeypatch.setattr("course_lib.models.shipped.WEIGHTS", tmp_path / "weights")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.slow
def test_the_command_trains_measures_and_ships(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "decoder", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "decoder: 3 steps on cpu" in said
    assert "bits per character" in said
    folder = tiny / "weights"
    assert not list((tiny / "home").rglob(CHECKPOINT))
    model, tokenizer = load_decoder(folder)
    assert model.config.n_words == tokenizer.n_words
    assert list(tokenizer.special) == list(SPECIAL)
    record = record_of("decoder", folder)
    assert record["parameters"] == sum(each.numel() for each in model.parameters())
    assert record["measured"]["facts"]["held out"]["facts"] == 34
    monkeypatch.setattr("course_lib.models.shipped.record_of", lambda name: record)
    assert run_main(monkeypatch, "--check") == 0
    monkeypatch.setattr(command, "recipe_of", lambda model: replace(TINY, seed=1))
    assert run_main(monkeypatch, "--check") == 1
    assert "The shipped decoder is of another recipe (seed)" in capsys.readouterr().out
    monkeypatch.setattr(command, "recipe_of", lambda model: TINY)
    record["source"]["code"] = "another"
    assert run_main(monkeypatch, "--check") == 0  # rewritten, but it begins the same run
    record["first losses"][2] += 0.01
    assert run_main(monkeypatch, "--check") == 1
    assert "The code that made the shipped decoder trains otherwise" in capsys.readouterr().out
    record["source"]["text"] = "another"
    assert run_main(monkeypatch, "--check") == 1
    assert "The text that the shipped decoder was trained on" in capsys.readouterr().out


def test_the_command_refuses_in_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    for words, sentence in (
        (("cook",), 'There is no model "cook": use decoder or encoder'),
        (("--steps", "5"), "A model of other steps than the recipe's must not replace"),
        (("--resume", "--output", str(tmp_path)), "There is no run to go on with"),
        (("--device", "toaster"), 'DEVICE is "toaster"'),
    ):
        assert run_main(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert error.startswith("course: ")
        assert sentence in error
        assert error.count("\n") == 1


def test_the_students_repository_has_no_publishing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = command.source_of("decoder", TINY)
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.source_of("decoder", TINY) == {"text": whole["text"]}
    assert "machine" not in command._told("decoder", TINY, torch.device("cpu"))


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        CourseError, match=r"decoder\.safetensors is missing .*`course pretrain dec"
    ):
        load_decoder(tmp_path)
    with pytest.raises(CourseError, match=r"encoder\.json is missing .*`course pretrain encoder`"):
        record_of("encoder", tmp_path)


def test_a_saved_tokenizer_is_the_recipes(tmp_path: Path) -> None:
    TINY.tokenizer.save(tmp_path / "tokenizer.json")
    read = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (read.tokens, read.special) == (TINY.tokenizer.tokens, TINY.tokenizer.special)
