"""The readers: on small files of each form, good and broken, and on the real sets where they are here.

The real sets are looked for in COURSE_DATA_DIR, else in shared/data beside the repository.
"""

import gzip
import hashlib
import io
import json
import lzma
import os
import re
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from course_lib.data import readers, registry
from course_lib.data.registry import DataFile, DataSet, DataUnavailable, MalformedData

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = Path(os.environ["COURSE_DATA_DIR"]) if os.environ.get("COURSE_DATA_DIR") else BESIDE


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A function that makes the data set ``name`` of the given contents and loads it."""

    def load(name, contents):
        contents = {f: c.encode() if isinstance(c, str) else c for f, c in contents.items()}
        (tmp_path / name).mkdir(exist_ok=True)
        for file, content in contents.items():
            (tmp_path / name / file).write_bytes(content)
        files = tuple(
            DataFile(file, "https://nowhere.invalid/" + file, len(c), hashlib.sha256(c).hexdigest())
            for file, c in contents.items()
        )
        row = DataSet(name, "", (), "", "", "", "", files)
        monkeypatch.setattr(registry, "table", lambda: (row,))
        monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
        return registry.load(name)

    return load


@pytest.fixture
def real(monkeypatch):
    """A function that loads a real data set, or skips the test with the registry's own sentence."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(REAL))

    def load(name):
        try:
            return registry.load(name)
        except DataUnavailable as reason:
            pytest.skip(str(reason))

    return load


def sizes(splits):
    return {split: len(records) for split, records in splits.items()}


# --- the real sets ---


def test_real_tinyshakespeare(real):
    text = real("tinyshakespeare")
    assert len(text) == 1_115_394
    assert len(set(text)) == 65
    assert text.startswith("First Citizen:\n")


def test_real_names(real):
    names = real("names")
    assert len(names) == 32_033
    assert names[:3] == ["emma", "olivia", "ava"]


def test_real_moby_dick(real):
    book = real("moby_dick")
    assert book.startswith("ETYMOLOGY.\n")
    assert book.endswith("only found another orphan.\n")
    assert "Call me Ishmael." in book
    assert "Gutenberg" not in book
    assert "\r" not in book


def test_real_wikitext2_has_the_published_counts(real):
    splits = real("wikitext2")
    assert sizes(splits) == {"validation": 60, "test": 60}
    assert sum(len(a.tokens) for a in splits["validation"]) == 217_646
    assert sum(len(a.tokens) for a in splits["test"]) == 245_569
    assert splits["validation"][0].title == "Homarus gammarus"
    assert splits["test"][1].tokens[:6] == ("<eos>", "=", "Du", "Fu", "=", "<eos>")


def test_real_multi30k(real):
    splits = real("multi30k")
    assert sizes(splits) == {"train": 29_000, "validation": 1_014, "test": 1_000}
    assert splits["train"][0].english == "Two young, White males are outside near many bushes."
    assert splits["train"][0].german.startswith("Zwei junge weiße Männer")


def test_real_ud_english_ewt(real):
    splits = real("ud_english_ewt")
    assert sizes(splits) == {"train": 12_544, "validation": 2_001, "test": 2_077}
    for sentence in splits["validation"]:
        n = len(sentence.tokens)
        assert len(sentence.upos) == len(sentence.heads) == len(sentence.deprels) == n
        assert sentence.heads.count(0) == 1
        assert sentence.deprels[sentence.heads.index(0)] == "root"
    tags = {tag for sentence in splits["train"] for tag in sentence.upos}
    assert len(tags) == 17  # the universal parts of speech
    first = splits["train"][0]
    assert first.tokens[:4] == ("Al", "-", "Zaman", ":")
    assert first.text.startswith("Al-Zaman : American forces killed")


def test_real_wnut17(real):
    splits = real("wnut17")
    assert sizes(splits) == {"train": 3_394, "validation": 1_009, "test": 1_287}
    kinds = {tag[2:] for s in splits["train"] for tag in s.tags if tag != "O"}
    assert kinds == {"person", "location", "corporation", "product", "creative-work", "group"}
    assert sum(len(s.tokens) for s in splits["train"]) == 62_730
    assert all(len(s.tokens) == len(s.tags) for split in splits.values() for s in split)


def test_real_google_analogies(real):
    questions = real("google_analogies")
    assert len(questions) == 19_544
    assert len({q.section for q in questions}) == 14
    assert sum(not q.is_syntactic for q in questions) == 8_869  # the published semantic count
    assert questions[0][1:] == ("Athens", "Greece", "Baghdad", "Iraq")


def test_real_sentence_polarity(real):
    splits = real("sentence_polarity")
    assert sizes(splits) == {"train": 8_487, "validation": 1_065, "test": 1_110}
    labels = [record.label for split in splits.values() for record in split]
    assert labels.count("positive") == labels.count("negative") == 5_331
    texts = [{record.text for record in split} for split in splits.values()]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_real_banking77(real):
    splits = real("banking77")
    assert sizes(splits) == {"train": 10_003, "test": 3_080}
    assert len({record.label for record in splits["train"]}) == 77
    assert {r.label for r in splits["test"]} == {r.label for r in splits["train"]}


def test_real_hh_rlhf_shows_none_of_its_text(real):
    pairs = real("hh_rlhf")["test"]
    assert len(pairs) == 2_312
    for pair in pairs:
        assert pair.chosen[0].role == pair.rejected[0].role == "human"
        assert pair.chosen[-1].role == pair.rejected[-1].role == "assistant"
        assert pair.prompt == pair.chosen[: len(pair.prompt)] == pair.rejected[: len(pair.prompt)]
    shown = repr(pairs[:200])
    long_texts = [turn.text for pair in pairs[:200] for turn in pair.chosen if len(turn.text) > 30]
    assert not any(text in shown for text in long_texts)


def test_real_llms_from_scratch(real):
    both = real("llms_from_scratch")
    assert len(both.instructions) == len(both.preferences) == 1_100
    for plain, preferred in zip(both.instructions, both.preferences, strict=True):
        assert plain == preferred[:3]
        assert preferred.chosen
        assert preferred.rejected


def test_real_gsm8k(real):
    splits = real("gsm8k")
    assert sizes(splits) == {"train": 7_473, "test": 1_319}
    first = splits["train"][0]
    assert first.answer == "72"
    assert first.calculations == (("48/2", "24"), ("48+24", "72"))
    assert "<<48/2=24>>" in first.annotated
    for problem in splits["train"] + splits["test"]:
        float(problem.answer)
        assert not re.search("<<|>>|####", problem.reasoning)


def test_real_gpt2_bpe(real):
    bpe = real("gpt2_bpe")
    assert len(bpe.encoder) == 50_257
    assert len(bpe.merges) == 50_000
    # Each merge makes a token: 256 bytes, then the merges in order, then the end of text.
    assert all(bpe.encoder[a + b] == 256 + i for i, (a, b) in enumerate(bpe.merges))
    assert bpe.encoder["<|endoftext|>"] == 50_256


def test_real_bert_uncased_vocab(real):
    pieces = real("bert_uncased_vocab")
    assert len(pieces) == 30_522
    assert [pieces[i] for i in (0, 100, 101, 102, 103)] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    assert pieces[7592] == "hello"


def test_real_weat_reproduces_the_published_first_test(real):
    weat = real("weat")
    assert len(weat.word_sets) == 31
    assert weat.vectors.matrix.shape == (347, 300)
    assert "Greenwald" in weat.references

    def unit(name):
        rows = np.array([weat.vectors[w] for w in weat.word_sets[name] if w in weat.vectors])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def association(words):
        pleasant, unpleasant = unit("pleasant_5"), unit("unpleasant_5a")
        return (words @ pleasant.T).mean(1) - (words @ unpleasant.T).mean(1)

    flowers, insects = association(unit("flowers")), association(unit("insects"))
    spread = np.concatenate([flowers, insects]).std(ddof=1)
    # Caliskan et al. 2017, supplement: flowers and insects, word2vec, d = 1.54.
    assert (flowers.mean() - insects.mean()) / spread == pytest.approx(1.54, abs=0.02)


def test_real_glove_neighbours_make_sense(real):
    glove = real("glove_twitter_25d_subset")
    assert len(glove) == 11_925
    assert glove.matrix.shape == (11_925, 25)
    assert glove.matrix.dtype == np.float32
    unit = glove.matrix / np.linalg.norm(glove.matrix, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit[glove.index["king"]]))[:4]
    assert {"king", "prince", "queen"} <= {glove.words[i] for i in near}
    assert "no such word" not in glove


def test_real_chinchilla(real):
    runs = real("chinchilla")
    assert len(runs) == 245
    assert all(1 < run.loss < 6 and run.parameters > 1e7 for run in runs)
    assert runs[0].tokens == pytest.approx(runs[0].flops / 6 / runs[0].parameters)


def test_real_whisper_fixtures(real):
    whisper = real("whisper_fixtures")
    assert whisper.mel_80.shape == (80, 201)
    assert whisper.mel_128.shape == (128, 201)
    assert whisper.mel_80.min() >= 0
    pytest.importorskip("soundfile", reason="soundfile, which decodes FLAC, is not installed")
    clip = whisper.clip()
    assert clip.rate == 44_100
    assert clip.seconds == pytest.approx(11.0)
    assert clip.samples.ndim == 1
    assert 0.1 < np.abs(clip.samples).max() <= 1


def test_real_free_spoken_digits(real):
    splits = real("free_spoken_digits")
    assert sizes(splits) == {"train": 300, "test": 300}
    for split in splits.values():
        assert len({(d.label, d.speaker) for d in split}) == 60
        assert all(0.1 < d.audio.seconds < 3 and d.audio.rate == 8_000 for d in split)
    assert {d.take for d in splits["test"]} == {0, 1, 2, 3, 4}


# --- forms that the real sets on this machine do not cover ---


def archive(files):
    """Return a .tar.gz of the given texts."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def multi30k(train):
    return {
        "training.tar.gz": archive(train),
        "validation.tar.gz": archive({"./val.de": "Ein Hund.\n", "./val.en": "A dog.\n"}),
        # The published archive holds a Mac's shadow file beside each text.
        "mmt16_task1_test.tar.gz": archive(
            {
                "._test.en": "\x00",
                "test.en": "A mill.\n",
                "test.de": "Eine Mühle.\n",
                "test.fr": "x",
            }
        ),
    }


def test_multi30k_pairs_the_lines_of_its_archives(given):
    splits = given(
        "multi30k", multi30k({"train.en": "One. \nTwo.\n", "train.de": "Eins.\nZwei.\n"})
    )
    assert splits["train"] == [("One.", "Eins."), ("Two.", "Zwei.")]
    assert splits["validation"] == [("A dog.", "Ein Hund.")]
    assert splits["test"] == [("A mill.", "Eine Mühle.")]


def test_multiword_tokens_and_empty_nodes_are_left_out(given):
    conllu = (
        "# sent_id = one\n# text = don't run\n"
        "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "1\tdo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_\n"
        "2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_\n"
        "2.1\tx\tx\tX\tX\t_\t_\t_\t_\t_\n"
        "3\trun\trun\tVERB\tVB\t_\t0\troot\t_\t_\n\n"
    )
    files = ("en_ewt-ud-train.conllu", "en_ewt-ud-dev.conllu", "en_ewt-ud-test.conllu")
    (sentence,) = given("ud_english_ewt", dict.fromkeys(files, conllu))["train"]
    assert sentence.tokens == ("do", "n't", "run")
    assert sentence.heads == (3, 3, 0)
    assert sentence.sent_id == "one"


def test_a_formula_between_text_lines_is_no_title(given):
    page = " \n = Mills = \n \n A mill turns . \n = 1 / s and 2 = \n More text . \n \n = Bells = \n \n Ring . \n"
    splits = given("wikitext2", {"valid.txt": page, "test.txt": page})
    assert [article.title for article in splits["test"]] == ["Mills", "Bells"]
    tokens = [token for article in splits["test"] for token in article.tokens]
    assert tokens == [t for line in page.splitlines() for t in (*line.split(), "<eos>")]


def test_sentences_split_by_lines_of_tabs(given):
    bio = "Ann\tB-person\nruns\tO\n\t\nmills\tO\r\n\n\n"
    files = dict.fromkeys(
        ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"), bio
    )
    assert given("wnut17", files)["train"] == [
        (("Ann", "runs"), ("B-person", "O")),
        (("mills",), ("O",)),
    ]


def test_the_clip_without_soundfile_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    whisper = readers.WhisperFixtures(np.zeros((80, 201)), np.zeros((128, 201)), b"")
    with pytest.raises(DataUnavailable, match="pip install soundfile"):
        whisper.clip()


# --- broken files ---


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def rda(*words):
    return lzma.compress(b"RDX2\nX\n" + b"\0" * 12 + struct.pack(f">{len(words)}i", *words))


def sound(channels):
    packed = io.BytesIO()
    with wave.open(packed, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0" * 8)
    return packed.getvalue()


CONLLU = {"en_ewt-ud-dev.conllu": "", "en_ewt-ud-test.conllu": ""}
WORD = "1\ta\ta\tX\tX\t_\t0\troot\t_\t_\n"
BROKEN = {
    "names: capitals": ("names", {"names.txt": "emma\nAva\n"}, "names/names.txt, line 2"),
    "names: bytes": ("names", {"names.txt": b"emma\nzo\xeb\n"}, "names/names.txt, line 2: .*UTF-8"),
    "moby_dick: no footer": (
        "moby_dick",
        {"2701-0.txt": "*** START OF THIS PROJECT GUTENBERG EBOOK ***\nCall me\n"},
        "moby_dick/2701-0.txt, line 1",
    ),
    "wikitext2: no title": (
        "wikitext2",
        {"valid.txt": "a\n", "test.txt": ""},
        "wikitext2/valid.txt",
    ),
    "multi30k: uneven": (
        "multi30k",
        multi30k({"train.en": "One.\nTwo.\n", "train.de": "Eins.\n"}),
        "multi30k/training.tar.gz, line 2",
    ),
    "multi30k: one side": (
        "multi30k",
        multi30k({"train.en": "One.\n"}),
        "no train.en and train.de",
    ),
    "multi30k: no tar": ("multi30k", {"training.tar.gz": b"nothing"}, "not a tar.gz archive"),
    "ud: few columns": (
        "ud_english_ewt",
        {"en_ewt-ud-train.conllu": WORD + "\n1\ta\ta\n", **CONLLU},
        "en_ewt-ud-train.conllu, line 3",
    ),
    "ud: head outside": (
        "ud_english_ewt",
        {"en_ewt-ud-train.conllu": WORD.replace("\t0\t", "\t7\t"), **CONLLU},
        "en_ewt-ud-train.conllu, line 1",
    ),
    "wnut17: no tag": ("wnut17", {"wnut17train.conll": "a\tO\nb\n"}, "wnut17train.conll, line 2"),
    "wnut17: odd tag": ("wnut17", {"wnut17train.conll": "a\tQ-x\n"}, "wnut17train.conll, line 1"),
    "analogies: three": (
        "google_analogies",
        {"questions-words.txt": ": s\na b c d\na b c\n"},
        "questions-words.txt, line 3",
    ),
    "analogies: no section": (
        "google_analogies",
        {"questions-words.txt": "a b c d\n"},
        "questions-words.txt, line 1",
    ),
    "glove: no xz": (
        "glove_twitter_25d_subset",
        {"glove_twitter_25d.rda": b"x"},
        "not an R matrix",
    ),
    "glove: cut": (
        "glove_twitter_25d_subset",
        {"glove_twitter_25d.rda": rda(0x402, 1, 9, 900)},
        "not an R matrix .*ends too early",
    ),
    "glove: no names": (
        "glove_twitter_25d_subset",
        {"glove_twitter_25d.rda": rda(0x402, 1, 9, 0, 14, 0)},
        "not an R matrix",
    ),
    "weat: list": ("weat", {"WEAT.json": "[]"}, "weat/WEAT.json"),
    "weat: width": (
        "weat",
        {"WEAT.json": "{}", "weat_w2v____old.txt": "2 3\na 1 2 3\nb 1 2\n"},
        "weat_w2v____old.txt, line 3: expected 3 numbers, not 2",
    ),
    "weat: word for number": (
        "weat",
        {"WEAT.json": "{}", "weat_w2v____old.txt": "1 2\na 1 x\n"},
        "weat_w2v____old.txt, line 2",
    ),
    "weat: count": (
        "weat",
        {"WEAT.json": "{}", "weat_w2v____old.txt": "9 1\na 1\n"},
        "weat_w2v____old.txt, line 1",
    ),
    "gpt2_bpe: JSON": ("gpt2_bpe", {"encoder.json": '{"a":\n1,,}'}, "encoder.json, line 2"),
    "gpt2_bpe: merge": (
        "gpt2_bpe",
        {"encoder.json": "{}", "vocab.bpe": "#version: 0.2\na b\nc\n"},
        "vocab.bpe, line 3",
    ),
    "polarity: no zip": ("sentence_polarity", {"sentence_polarity.zip": b"x"}, "is not a zip"),
    "polarity: other zip": (
        "sentence_polarity",
        {"sentence_polarity.zip": zipped({"a": "b"})},
        "is not a zip with rt-polarity.neg",
    ),
    "banking77: class": (
        "banking77",
        {"categories.json": '["card"]', "train.csv": 'text,category\n"Two\nlines",card\nHi,loan\n'},
        "banking77/train.csv, line 4: expected a known class, not 'loan'",
    ),
    "banking77: columns": (
        "banking77",
        {"categories.json": "[]", "train.csv": "text,label\n"},
        "banking77/train.csv, line 1",
    ),
    "banking77: short row": (
        "banking77",
        {"categories.json": '["card"]', "train.csv": "text,category\nHi\n"},
        "banking77/train.csv, line 2",
    ),
    "hh_rlhf: no gzip": ("hh_rlhf", {"test.jsonl.gz": b"x"}, "hh_rlhf/test.jsonl.gz is not a gzip"),
    "hh_rlhf: key": (
        "hh_rlhf",
        {"test.jsonl.gz": gzip.compress(b'{"chosen": "SECRET"}\n')},
        "hh_rlhf/test.jsonl.gz, line 1",
    ),
    "hh_rlhf: no turns": (
        "hh_rlhf",
        {"test.jsonl.gz": gzip.compress(b'{"chosen": "SECRET", "rejected": "SECRET"}\n')},
        "hh_rlhf/test.jsonl.gz, line 1",
    ),
    "instructions: key": (
        "llms_from_scratch",
        {"instruction-data.json": json.dumps([{"instruction": "Add."}])},
        "instruction-data.json, entry 1",
    ),
    "gsm8k: no answer": (
        "gsm8k",
        {"train.jsonl": '\n{"question": "?", "answer": "It is 4."}\n'},
        "gsm8k/train.jsonl, line 2",
    ),
    "gsm8k: note": (
        "gsm8k",
        {"train.jsonl": '{"question": "?", "answer": "<<2+2>>4\\n#### 4"}\n'},
        "gsm8k/train.jsonl, line 1: .*not '2\\+2'",
    ),
    "gsm8k: JSON": ("gsm8k", {"train.jsonl": "{\n"}, "gsm8k/train.jsonl, line 1"),
    "chinchilla: number": (
        "chinchilla",
        {"svg_extracted_data.csv": "Model Size,Training FLOP,loss\n1,2,3\n1,two,3\n"},
        "svg_extracted_data.csv, line 3",
    ),
    "whisper: no npz": ("whisper_fixtures", {"mel_filters.npz": b"x"}, "mel_filters.npz"),
    "digits: name": ("free_spoken_digits", {"zero.wav": sound(1)}, "zero.wav is not named"),
    "digits: stereo": ("free_spoken_digits", {"0_ann_0.wav": sound(2)}, "0_ann_0.wav is not mono"),
    "digits: no wave": ("free_spoken_digits", {"0_ann_0.wav": b"RIFF"}, "0_ann_0.wav is not a WAV"),
}


@pytest.mark.parametrize(("name", "files", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_sentence_with_its_place(given, name, files, message):
    with pytest.raises(MalformedData, match=message) as error:
        given(name, files)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    assert "SECRET" not in str(error.value)
