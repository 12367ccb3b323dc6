"""One function for each public data set, named as in the registry, that returns its typed records.

Every function reads what ``registry`` has checked and raises ``DataUnavailable`` where a file is missing or
damaged and ``MalformedData`` (one sentence with file and line) where its form is not the expected one.
Splits are called "train", "validation" and "test".
"""

import csv
import functools
import gzip
import hashlib
import io
import json
import lzma
import re
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from course_lib.data.registry import DataUnavailable, MalformedData, dataset, read_bytes

Record = TypeVar("Record")
Splits = dict[str, list[Record]]


# --- Plain text -------------------------------------------------------------------------------------


def tinyshakespeare() -> str:
    """Return the plays as one string (1,115,394 characters); by custom the last tenth is for validation."""
    return _text("tinyshakespeare", "input.txt")


def names() -> list[str]:
    """Return 32,033 first names in lower case, in the publisher's order."""
    lines = _text("names", "names.txt").split()
    for number, name in enumerate(lines, 1):
        if not re.fullmatch("[a-z]+", name):
            _malformed("names/names.txt", number, f"a name in lower-case letters, not {name!r}")
    return lines


def moby_dick() -> str:
    """Return the novel from "Etymology" to the epilogue, with Unix line ends.

    Project Gutenberg's header and footer, the table of contents and the transcriber's notes are left out.
    """
    text = _text("moby_dick", "2701-0.txt").replace("\r\n", "\n")
    book = re.search(
        r"^\*\*\* START OF .*(^[ ]*ETYMOLOGY\..*?)(^End of Project Gutenberg|^\*\*\* END OF )",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    if book is None:
        _malformed("moby_dick/2701-0.txt", 1, "the book between Project Gutenberg's START and END")
    return book.group(1).strip() + "\n"


@dataclass(frozen=True)
class Article:
    """One WikiText article: its tokens in order, with ``<eos>`` at the end of each line, headings included."""

    title: str
    tokens: tuple[str, ...] = field(repr=False)


def wikitext2() -> Splits[Article]:
    """Return WikiText-2's validation and test articles (60 and 60).

    Joined, the tokens of a split are the stream on which published perplexities are measured: 217,646 and
    245,569 tokens, ``<eos>`` included (Merity et al. 2017, table 1).
    """
    return {
        "validation": _articles("wikitext2", "valid.txt"),
        "test": _articles("wikitext2", "test.txt"),
    }


def _articles(name: str, file: str) -> list[Article]:
    lines = _text(name, file).splitlines()
    title = re.compile(r" = ([^=].*) = ")
    starts = []
    for number, line in enumerate(lines):
        found = title.fullmatch(line)
        # A formula in the text can look like a title, but only a title has blank lines around it.
        alone = all(
            not near.strip() for near in lines[max(0, number - 1) : number + 2] if near != line
        )
        if found and alone:
            starts.append((number, found.group(1)))
    if not starts:
        _malformed(f"{name}/{file}", 1, "a title line ' = Title = ' between blank lines")
    # The blank line before a title belongs to what follows it, so that no token is lost.
    edges = [0, *(number - 1 for number, _ in starts[1:]), len(lines)]
    return [
        Article(title, tuple(token for line in lines[a:b] for token in (*line.split(), "<eos>")))
        for (_, title), a, b in zip(starts, edges[:-1], edges[1:], strict=True)
    ]


# --- Sentence pairs ---------------------------------------------------------------------------------


class SentencePair(NamedTuple):
    """An image description in English and in German."""

    english: str
    german: str


def multi30k() -> Splits[SentencePair]:
    """Return 29,000, 1,014 and 1,000 pairs of sentences as published: not tokenised, case kept."""
    archives = {
        "train": ("training.tar.gz", "train"),
        "validation": ("validation.tar.gz", "val"),
        "test": ("mmt16_task1_test.tar.gz", "test"),
    }
    return {split: _pairs(*place) for split, place in archives.items()}


def _pairs(archive: str, stem: str) -> list[SentencePair]:
    where = f"multi30k/{archive}"
    sides = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(read_bytes("multi30k", archive))) as tar:
            for member in tar:
                language = member.name.removeprefix("./").removeprefix(f"{stem}.")
                content = tar.extractfile(member)
                if language in ("en", "de") and content is not None:
                    lines = _decode(content.read(), f"{where}:{member.name}").rstrip()
                    sides[language] = lines.split("\n")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise MalformedData(f"{where} is not a tar.gz archive.") from error
    if set(sides) != {"en", "de"}:
        raise MalformedData(f"{where} has no {stem}.en and {stem}.de.")
    if len(sides["en"]) != len(sides["de"]):
        line = min(map(len, sides.values())) + 1
        _malformed(where, line, f"as many lines in {stem}.de as in {stem}.en")
    return [
        SentencePair(e.strip(), d.strip()) for e, d in zip(sides["en"], sides["de"], strict=True)
    ]


# --- Tagged and parsed sentences --------------------------------------------------------------------


@dataclass(frozen=True)
class ParsedSentence:
    """A sentence of a Universal Dependencies treebank; every field but the first two has one entry a word.

    ``heads`` holds positions from 1, with 0 for the root; ``deprels`` are the relations to the head.
    Multiword tokens appear as their syntactic words, and empty nodes are left out.
    """

    sent_id: str
    text: str
    tokens: tuple[str, ...]
    lemmas: tuple[str, ...]
    upos: tuple[str, ...]
    xpos: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]


def ud_english_ewt() -> Splits[ParsedSentence]:
    """Return 12,544, 2,001 and 2,077 parsed sentences (Silveira et al. 2014; release 2.16)."""
    return {
        "train": _conllu("en_ewt-ud-train.conllu"),
        "validation": _conllu("en_ewt-ud-dev.conllu"),
        "test": _conllu("en_ewt-ud-test.conllu"),
    }


def _conllu(file: str) -> list[ParsedSentence]:
    import conllu

    where = f"ud_english_ewt/{file}"
    columns = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel")
    # The features are not read, and parsing them would take a third of the time.
    as_is = {"feats": lambda line, column: line[column]}
    sentences = []
    for number, block in _blocks(_text("ud_english_ewt", file)):
        try:
            (parsed,) = conllu.parse("\n".join(block), fields=columns, field_parsers=as_is)
            words = [word for word in parsed if isinstance(word["id"], int)]
            heads = tuple(word["head"] for word in words)
            if not words or not all(isinstance(h, int) and 0 <= h <= len(words) for h in heads):
                raise ValueError
        except (conllu.exceptions.ParseException, KeyError, ValueError):
            _malformed(where, number, "a sentence in CoNLL-U with a head for each word")
        sentences.append(
            ParsedSentence(
                parsed.metadata.get("sent_id", ""),
                parsed.metadata.get("text", ""),
                tuple(word["form"] for word in words),
                tuple(word["lemma"] for word in words),
                tuple(word["upos"] for word in words),
                tuple(word["xpos"] for word in words),
                heads,
                tuple(word["deprel"] for word in words),
            )
        )
    return sentences


class TaggedSentence(NamedTuple):
    """A sentence with one tag a token; entities are marked B-type, I-type and O."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def wnut17() -> Splits[TaggedSentence]:
    """Return 3,394, 1,009 and 1,287 sentences with BIO tags of six types (Derczynski et al. 2017)."""
    return {
        "train": _bio("wnut17", "wnut17train.conll"),
        "validation": _bio("wnut17", "emerging.dev.conll"),
        "test": _bio("wnut17", "emerging.test.annotated"),
    }


def _bio(name: str, file: str) -> list[TaggedSentence]:
    sentences = []
    for start, block in _blocks(_text(name, file)):
        tokens, tags = [], []
        for number, line in enumerate(block, start):
            token, tab, tag = line.partition("\t")
            if not tab or not re.fullmatch(r"O|[BI]-\S+", tag):
                _malformed(f"{name}/{file}", number, f"token, tab, BIO tag, not {line!r}")
            tokens.append(token)
            tags.append(tag)
        sentences.append(TaggedSentence(tuple(tokens), tuple(tags)))
    return sentences


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the runs of lines between blank ones (white space counts as blank), each with its first number."""
    block: list[str] = []
    for number, line in enumerate((*text.split("\n"), ""), 1):
        if line.strip():
            block.append(line.rstrip("\r"))
        elif block:
            yield number - len(block), block
            block = []


# --- Words ------------------------------------------------------------------------------------------


class Analogy(NamedTuple):
    """A question "a is to b as c is to ?" with its answer ``d``, and the section it stands in."""

    section: str
    a: str
    b: str
    c: str
    d: str

    @property
    def is_syntactic(self) -> bool:
        """Whether the relation is one of grammar; the published scores give both kinds apart."""
        return self.section.startswith("gram")


def google_analogies() -> list[Analogy]:
    """Return 19,544 questions in 14 sections, case kept (Mikolov et al. 2013)."""
    section, questions = "", []
    for number, line in _lines("google_analogies", "questions-words.txt"):
        words = line.split()
        if words[0] == ":" and len(words) == 2:
            section = words[1]
        elif len(words) == 4 and section:
            questions.append(Analogy(section, *words))
        else:
            _malformed(
                "google_analogies/questions-words.txt",
                number,
                f"': section' or four words of a section, not {line!r}",
            )
    return questions


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Word vectors: row i of ``matrix``, (n_words, d) float32, belongs to ``words[i]``."""

    words: tuple[str, ...]
    matrix: np.ndarray

    def __repr__(self) -> str:
        return f"WordVectors({len(self.words)} words, {self.matrix.shape[1]} dimensions)"

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def __contains__(self, word: object) -> bool:
        return word in self.index

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, word: str) -> np.ndarray:
        """Return the vector of a word, (d,); KeyError if it has none."""
        return self.matrix[self.index[word]]


def glove_twitter_25d_subset() -> WordVectors:
    """Return GloVe vectors of 11,925 words, (11925, 25), trained on Twitter (Pennington et al. 2014)."""
    where = "glove_twitter_25d_subset/glove_twitter_25d.rda"
    raw = read_bytes("glove_twitter_25d_subset", "glove_twitter_25d.rda")
    try:
        matrix, attributes = _RData(lzma.decompress(raw)).first_value()
        words = attributes["dimnames"][0]
        rows, columns = attributes["dim"]
        # R stores a matrix column by column.
        values = np.asarray(matrix).reshape(int(columns), int(rows)).T
    except (lzma.LZMAError, struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise MalformedData(f"{where} is not an R matrix with row names ({error}).") from error
    if len(words) != len(values):
        raise MalformedData(f"{where} has {len(values)} vectors for {len(words)} words.")
    return WordVectors(tuple(words), np.ascontiguousarray(values, dtype=np.float32))


class _RData:
    """A reader of R's binary save format, as far as a matrix with names needs it.

    The format: an item is a big-endian 32-bit word of flags (low byte the type, bits 9 and 10 "has
    attributes" and "has a tag") and what its type says. Source: R Internals, section 1.8.
    """

    NIL, SYMBOL, PAIRS, CHARS, INTEGERS, DOUBLES, STRINGS, LIST = 254, 1, 2, 9, 13, 14, 16, 19

    def __init__(self, content: bytes) -> None:
        header = b"RDX2\nX\n"
        if not content.startswith(header):
            raise ValueError("the first bytes are not RDX2 in binary")
        self.content = content
        self.at = len(header) + 12  # three version numbers follow the header

    def first_value(self) -> tuple[Any, dict[str, Any]]:
        """Return the first saved object's value and its attributes."""
        flags = self._int()
        if flags & 0xFF != self.PAIRS or not flags & 0x400:
            raise ValueError("it does not begin with a named object")
        self._item()
        flags = self._int()
        value = self._value(flags & 0xFF)
        return value, self._attributes() if flags & 0x200 else {}

    def _attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        # What follows the names and sizes (an R environment with a hash table) is not needed.
        while not {"dim", "dimnames"} <= set(found):
            if self._int() & 0xFF != self.PAIRS:
                break
            name = self._item()
            found[name] = self._item()
        return found

    def _item(self) -> Any:
        flags = self._int()
        if flags & 0x200:
            raise ValueError("an inner object has attributes of its own")
        return self._value(flags & 0xFF)

    def _value(self, kind: int) -> Any:
        if kind == self.NIL:
            return None
        if kind == self.SYMBOL:
            return self._item()
        if kind == self.CHARS:
            return self._take(self._int()).decode("utf-8")
        count = self._int()
        if kind == self.INTEGERS:
            return np.frombuffer(self._take(4 * count), dtype=">i4")
        if kind == self.DOUBLES:
            return np.frombuffer(self._take(8 * count), dtype=">f8")
        if kind in (self.STRINGS, self.LIST):
            return [self._item() for _ in range(count)]
        raise ValueError(f"it holds an R type {kind} that is not expected")

    def _int(self) -> int:
        return struct.unpack(">i", self._take(4))[0]

    def _take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.content):
            raise ValueError("it ends too early")
        self.at += count
        return self.content[self.at - count : self.at]


@dataclass(frozen=True, eq=False)
class Weat:
    """The lists of words of the Word Embedding Association Test, their sources, and vectors for them."""

    word_sets: dict[str, tuple[str, ...]] = field(repr=False)
    vectors: WordVectors
    references: str = field(repr=False)


def weat() -> Weat:
    """Return 31 word lists (Caliskan et al. 2017, WEAT 1 to 10) and GoogleNews vectors, (347, 300)."""
    where = "weat/weat_w2v____old.txt"
    sets = _json("weat", "WEAT.json")
    if not isinstance(sets, dict) or not all(isinstance(s, list) for s in sets.values()):
        raise MalformedData("weat/WEAT.json is not a JSON object of lists of words.")
    lines = _lines("weat", "weat_w2v____old.txt")
    try:
        rows, columns = map(int, next(lines)[1].split())
    except (ValueError, StopIteration):
        _malformed(where, 1, "the number of words and of dimensions")
    words, vectors = [], []
    for number, line in lines:
        word, *values = line.split(" ")
        try:
            vectors.append(np.array(values, dtype=np.float32))
        except ValueError:
            _malformed(where, number, "a word and numbers")
        if len(values) != columns:
            _malformed(where, number, f"{columns} numbers, not {len(values)}")
        words.append(word)
    if len(words) != rows:
        _malformed(where, 1, f"the true number of words ({len(words)}), not {rows}")
    return Weat(
        {name: tuple(list_) for name, list_ in sets.items()},
        WordVectors(tuple(words), np.stack(vectors)),
        _text("weat", "references.txt"),
    )


# --- Tokenizers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpt2Bpe:
    """GPT-2's tokenizer files: ``encoder`` maps a token, in printable bytes, to its id; ``merges`` in order."""

    encoder: dict[str, int] = field(repr=False)
    merges: tuple[tuple[str, str], ...] = field(repr=False)


def gpt2_bpe() -> Gpt2Bpe:
    """Return 50,257 vocabulary entries and 50,000 merges (Radford et al. 2019)."""
    encoder = _json("gpt2_bpe", "encoder.json")
    if not isinstance(encoder, dict):
        raise MalformedData("gpt2_bpe/encoder.json is not a JSON object from token to id.")
    merges = []
    for number, line in _lines("gpt2_bpe", "vocab.bpe"):
        pair = line.split(" ")
        if number == 1 and line.startswith("#version"):
            continue
        if len(pair) != 2:
            _malformed("gpt2_bpe/vocab.bpe", number, f"two symbols, not {line!r}")
        merges.append((pair[0], pair[1]))
    return Gpt2Bpe(encoder, tuple(merges))


def bert_uncased_vocab() -> list[str]:
    """Return BERT's 30,522 uncased WordPieces; the position is the id (Devlin et al. 2019)."""
    # Not splitlines(): some pieces are characters that it takes for line ends.
    return _text("bert_uncased_vocab", "google_uncased_en_vocab.txt").removesuffix("\n").split("\n")


# --- Labelled sentences -----------------------------------------------------------------------------


class LabelledText(NamedTuple):
    """A text and the name of its class."""

    text: str
    label: str


def sentence_polarity() -> Splits[LabelledText]:
    """Return film-review sentences labelled "negative" or "positive" (Pang and Lee 2005).

    There is no official split. Here the SHA-256 of the sentence decides: of its first four bytes as a
    fraction of 2^32, below 0.8 is train, below 0.9 validation, the rest test. So equal sentences never
    stand in two splits, and the split is the same on every machine.
    """
    where = "sentence_polarity/sentence_polarity.zip"
    splits: Splits[LabelledText] = {"train": [], "validation": [], "test": []}
    try:
        archive = zipfile.ZipFile(
            io.BytesIO(read_bytes("sentence_polarity", "sentence_polarity.zip"))
        )
        halves = {
            "negative": archive.read("sentence_polarity/rt-polarity.neg"),
            "positive": archive.read("sentence_polarity/rt-polarity.pos"),
        }
    except (zipfile.BadZipFile, KeyError) as error:
        raise MalformedData(
            f"{where} is not a zip with rt-polarity.neg and .pos ({error})."
        ) from error
    for label, content in halves.items():
        for line in _decode(content, where).split("\n"):
            sentence = line.strip()
            if sentence:
                digest = hashlib.sha256(sentence.encode("utf-8")).digest()
                share = int.from_bytes(digest[:4], "big") / 2**32
                split = "train" if share < 0.8 else "validation" if share < 0.9 else "test"
                splits[split].append(LabelledText(sentence, label))
    return splits


def banking77() -> Splits[LabelledText]:
    """Return 10,003 and 3,080 customers' questions in 77 classes (Casanueva et al. 2020)."""
    intents = _json("banking77", "categories.json")
    if not isinstance(intents, list):
        raise MalformedData("banking77/categories.json is not a JSON list of classes.")
    known = set(intents)
    splits: Splits[LabelledText] = {}
    for split in ("train", "test"):
        rows = _csv("banking77", f"{split}.csv", ("text", "category"))
        splits[split] = []
        for number, row in rows:
            if row["category"] not in known:
                _malformed(
                    f"banking77/{split}.csv", number, f"a known class, not {row['category']!r}"
                )
            splits[split].append(LabelledText(row["text"], row["category"]))
    return splits


# --- Instructions and preferences -------------------------------------------------------------------


class Turn(NamedTuple):
    """One turn of a dialogue: ``role`` is "human" or "assistant"."""

    role: str
    text: str

    def __repr__(self) -> str:
        # The texts of hh_rlhf can hurt; what shows a record by accident must not show them.
        return f"Turn(role={self.role!r}, {len(self.text)} characters)"


@dataclass(frozen=True)
class DialoguePair:
    """Two dialogues of which people preferred the first; they part at some turn, mostly the last."""

    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns that both share, from the start."""
        shared = 0
        for a, b in zip(self.chosen, self.rejected, strict=False):
            if a != b:
                break
            shared += 1
        return self.chosen[:shared]


def hh_rlhf() -> Splits[DialoguePair]:
    """Return 2,312 pairs of dialogues, the harmlessness test part (Bai et al. 2022).

    The content is offensive: the records do not show their text when printed, and error messages do not
    quote it.
    """
    where = "hh_rlhf/test.jsonl.gz"
    pairs = []
    for number, row in _jsonl("hh_rlhf", "test.jsonl.gz", ("chosen", "rejected")):
        sides = []
        for side in ("chosen", "rejected"):
            head, *parts = re.split(r"\n\n(Human|Assistant):", row[side])
            if head.strip() or not parts:
                _malformed(where, number, "a dialogue that begins with 'Human:' or 'Assistant:'")
            sides.append(
                tuple(
                    Turn(role.lower(), text.strip())
                    for role, text in zip(parts[::2], parts[1::2], strict=True)
                )
            )
        pairs.append(DialoguePair(*sides))
    return {"test": pairs}


class Instruction(NamedTuple):
    """An instruction, its input (often empty) and the answer wanted."""

    instruction: str
    input: str
    output: str


class InstructionPreference(NamedTuple):
    """An instruction with a preferred and a dispreferred answer (the preference is a model's, on politeness)."""

    instruction: str
    input: str
    output: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Instructions:
    """The same 1,100 instructions, plain and with preferences, in the same order."""

    instructions: list[Instruction] = field(repr=False)
    preferences: list[InstructionPreference] = field(repr=False)


def llms_from_scratch() -> Instructions:
    """Return 1,100 instructions and the preferences on them (Raschka 2024, chapter 7)."""
    return Instructions(
        _records("instruction-data.json", Instruction),
        _records("instruction-data-with-preference.json", InstructionPreference),
    )


def _records(file: str, kind: Callable[..., Record]) -> list[Record]:
    where = f"llms_from_scratch/{file}"
    fields: Sequence[str] = kind._fields  # type: ignore[attr-defined]
    entries = _json("llms_from_scratch", file)
    if not isinstance(entries, list):
        raise MalformedData(f"{where} is not a JSON list.")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(f), str) for f in fields):
            raise MalformedData(f"{where}, entry {number}: expected the texts {', '.join(fields)}.")
    return [kind(*(entry[f] for f in fields)) for entry in entries]


class Calculation(NamedTuple):
    """A calculator annotation ``<<expression=result>>``."""

    expression: str
    result: str


class WordProblem(NamedTuple):
    """A GSM8K problem.

    ``reasoning`` is the published solution without annotations and final line, ``annotated`` the same with
    ``<<expression=result>>`` left in; ``answer`` is the final number as digits, without thousands commas.
    """

    question: str
    reasoning: str
    annotated: str
    calculations: tuple[Calculation, ...]
    answer: str


def gsm8k() -> Splits[WordProblem]:
    """Return 7,473 and 1,319 word problems (Cobbe et al. 2021)."""
    return {split: _problems(f"{split}.jsonl") for split in ("train", "test")}


def _problems(file: str) -> list[WordProblem]:
    problems = []
    for number, row in _jsonl("gsm8k", file, ("question", "answer")):
        annotated, marker, final = row["answer"].rpartition("####")
        answer = final.strip().replace(",", "")
        if not marker or not re.fullmatch(r"-?\d+(\.\d+)?", answer):
            _malformed(f"gsm8k/{file}", number, "a number after '####' at the end of the answer")
        annotated = annotated.strip()
        calculations = []
        for note in re.findall(r"<<(.*?)>>", annotated):
            expression, sign, result = note.rpartition("=")
            if not sign:
                _malformed(f"gsm8k/{file}", number, f"'<<expression=result>>', not {note!r}")
            calculations.append(Calculation(expression, result))
        reasoning = re.sub(r"<<.*?>>", "", annotated)
        problems.append(
            WordProblem(row["question"], reasoning, annotated, tuple(calculations), answer)
        )
    return problems


# --- Training runs ----------------------------------------------------------------------------------


class TrainingRun(NamedTuple):
    """A training run of the Chinchilla paper: parameters N, FLOP C, and the final loss in nats a token."""

    parameters: float
    flops: float
    loss: float

    @property
    def tokens(self) -> float:
        """Training tokens by D = C / 6N, as the replication takes them."""
        return self.flops / (6 * self.parameters)


def chinchilla() -> list[TrainingRun]:
    """Return 245 runs read off figure 4 of Hoffmann et al. 2022 by Besiroglu et al. 2024.

    The replication fits 240 of them, without the five of highest loss; that choice is left to the caller.
    """
    file, columns = "svg_extracted_data.csv", ("Model Size", "Training FLOP", "loss")
    runs = []
    for number, row in _csv("chinchilla", file, columns):
        try:
            runs.append(TrainingRun(*(float(row[column]) for column in columns)))
        except ValueError:
            _malformed(f"chinchilla/{file}", number, f"numbers under {', '.join(columns)}")
    return runs


# --- Sound ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Audio:
    """A recording: ``samples`` is (n,) float32 in [-1, 1], one channel; ``rate`` is in hertz."""

    samples: np.ndarray = field(repr=False)
    rate: int

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, eq=False)
class WhisperFixtures:
    """Whisper's mel filterbanks, (80, 201) and (128, 201) float32 for frames of 400 samples at 16 kHz."""

    mel_80: np.ndarray = field(repr=False)
    mel_128: np.ndarray = field(repr=False)
    flac: bytes = field(repr=False)

    def clip(self) -> Audio:
        """Decode the clip: 11 s of John F. Kennedy at 44,100 Hz, the two channels averaged.

        Raises:
            DataUnavailable: the package soundfile is missing.

        """
        try:
            import soundfile
        except (ImportError, OSError) as error:
            raise DataUnavailable(
                "The clip is in FLAC and the package soundfile, which decodes it, is missing: "
                "run `pip install soundfile`; until then the lesson uses its default data."
            ) from error
        samples, rate = soundfile.read(io.BytesIO(self.flac), dtype="float32", always_2d=True)
        return Audio(samples.mean(axis=1), rate)


def whisper_fixtures() -> WhisperFixtures:
    """Return Whisper's own mel filters and its test clip (Radford et al. 2023)."""
    try:
        with np.load(io.BytesIO(read_bytes("whisper_fixtures", "mel_filters.npz"))) as filters:
            mel_80, mel_128 = filters["mel_80"], filters["mel_128"]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise MalformedData(
            f"whisper_fixtures/mel_filters.npz does not hold mel_80 and mel_128 ({error})."
        ) from error
    return WhisperFixtures(mel_80, mel_128, read_bytes("whisper_fixtures", "jfk.flac"))


@dataclass(frozen=True, eq=False)
class SpokenDigit:
    """A recording of one digit: which digit, by whom, and which of the speaker's takes."""

    label: int
    speaker: str
    take: int
    audio: Audio


def free_spoken_digits() -> Splits[SpokenDigit]:
    """Return 300 and 300 recordings at 8 kHz: takes 0 to 4 are the test set, as the publisher has it."""
    splits: Splits[SpokenDigit] = {"train": [], "test": []}
    for file in (row.name for row in dataset("free_spoken_digits").files):
        where = f"free_spoken_digits/{file}"
        named = re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", file)
        if named is None:
            raise MalformedData(f"{where} is not named DIGIT_SPEAKER_TAKE.wav.")
        try:
            with wave.open(io.BytesIO(read_bytes("free_spoken_digits", file))) as sound:
                if (sound.getnchannels(), sound.getsampwidth()) != (1, 2):
                    raise MalformedData(f"{where} is not mono with 16 bits a sample.")
                rate, frames = sound.getframerate(), sound.readframes(sound.getnframes())
        except (wave.Error, EOFError) as error:
            raise MalformedData(f"{where} is not a WAV file ({error}).") from error
        samples = np.frombuffer(frames, dtype="<i2").astype(np.float32) / 2**15
        label, speaker, take = int(named[1]), named[2], int(named[3])
        record = SpokenDigit(label, speaker, take, Audio(samples, rate))
        splits["test" if take < 5 else "train"].append(record)
    return splits


# --- What the readers share -------------------------------------------------------------------------


def _malformed(where: str, line: int, expected: str) -> NoReturn:
    raise MalformedData(f"{where}, line {line}: expected {expected}.")


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        _malformed(where, content.count(b"\n", 0, error.start) + 1, "text in UTF-8")


def _text(name: str, file: str) -> str:
    return _decode(read_bytes(name, file), f"{name}/{file}")


def _lines(name: str, file: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, each with its number from 1."""
    for number, line in enumerate(_text(name, file).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _json(name: str, file: str) -> Any:
    try:
        return json.loads(_text(name, file))
    except json.JSONDecodeError as error:
        _malformed(f"{name}/{file}", error.lineno, f"JSON ({error.msg})")


def _jsonl(name: str, file: str, keys: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the objects of a JSON-lines file (gzip or plain) that must hold texts under ``keys``."""
    content = read_bytes(name, file)
    if file.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise MalformedData(f"{name}/{file} is not a gzip file ({error}).") from error
    for number, line in enumerate(_decode(content, f"{name}/{file}").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            _malformed(f"{name}/{file}", number, f"JSON ({error.msg})")
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in keys):
            _malformed(f"{name}/{file}", number, f"an object with the texts {', '.join(keys)}")
        yield number, row


def _csv(name: str, file: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file that must have ``columns``, each with the line it ends on."""
    rows = csv.DictReader(io.StringIO(_text(name, file), newline=""))
    if not set(columns) <= set(rows.fieldnames or ()):
        _malformed(f"{name}/{file}", 1, f"the columns {', '.join(columns)}")
    try:
        for row in rows:
            if any(row[column] is None for column in columns):
                _malformed(f"{name}/{file}", rows.line_num, f"a value under {', '.join(columns)}")
            yield rows.line_num, row
    except csv.Error as error:
        _malformed(f"{name}/{file}", rows.line_num, f"CSV ({error})")
