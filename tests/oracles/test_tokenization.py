"""Lesson 12's tokenizers against HF tokenizers, the published GPT-2 and BERT files, and brute force."""

import json
import math
import random
import unicodedata
from collections import Counter
from itertools import groupby, pairwise

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from course_lib.data import registry, text
from course_lib.data.riverbank import Town
from course_lib.models.bytes_and_words import (
    GPT2_SPLIT,
    count_words,
    merge_word,
    printable_bytes,
    split_words,
    token_table,
)
from course_lib.models.tokenization import (
    Tokenizer,
    WordPiece,
    bert_words,
    decode,
    encode,
    encode_word,
    expected_counts,
    train_bpe,
    train_unigram,
    viterbi_segment,
    wordpiece,
)
from course_lib.runtime import CourseError

SAMPLES = (
    "",
    " ",
    "a",
    "Hello, world! It's 2024 and we've paid $3.50 (or so they'd say).",
    "HE'S NOT; she'll DON'T 'tis ''s 'S",
    "   leading, trailing   \n\n\n  and\tbetween \r\n lines\u00a0\u2003wide  ",
    "def f(x):\n    if x >= 10:\n        return {'a': [1, 2]}  # ünï\n\n\n",
    "for i in range(10): print(f'{i:>3}', end='\\n')",
    "Größe, naïve façade, Ærøskøbing — “quotes” …",
    "Москва слезам не верит. Ελληνικά; ქართული",
    "今天天气很好。東京は晴れです。한국어 문장입니다.",
    "नमस्ते दुनिया، السلام عليكم، שלום עולם ไทยไม่มีช่องว่าง",
    "👩‍👩‍👧‍👦 🇩🇪🏳️‍🌈 👍🏽 zalgo: z̴͈̏a̶̘͌ e\u0301 vs é",
    "½ ² ٣٤ ௧ Ⅷ ① 12,345.678e-9 0x1F 007",
    "\x00\x01\x1c\x1f\x7f\x85\u200b\ufeff\ufffd\U0010ffff",
    "<|endoftext|> is text, unless it is allowed",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbb                                x",
)
# Characters on which tables of any version of Unicode agree: the libraries have tables of their own.
OLD = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.category(chr(code)) not in ("Cs", "Cn")
    and unicodedata.category(chr(code)) == unicodedata.ucd_3_2_0.category(chr(code))
]
KNOWN = st.sampled_from(OLD)


def manual(size: int) -> str:
    return text.python_manual().text[:size]


def riverbank(documents: int) -> str:
    return "\n".join(d.text for d in Town().documents(documents, seed=0))


# --- BPE -------------------------------------------------------------------------------------


def hf_bpe(training: str, n_words: int, min_frequency: int = 2) -> tokenizers.Tokenizer:
    """Train HF's byte-level BPE, as everybody uses it."""
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    peer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=n_words,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    peer.train_from_iterator([training], trainer)
    return peer


def hf_merges(peer: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    return [tuple(each) for each in json.loads(peer.to_str())["model"]["merges"]]


def in_hf_order(words: Counter) -> tuple[Counter, bytes]:
    """Number the bytes as HF does, by the code of their printable character; return the order too."""
    shown = printable_bytes()
    order = bytes(sorted(range(256), key=shown.__getitem__))
    place = {byte: i for i, byte in enumerate(order)}
    return Counter({tuple(place[b] for b in word): n for word, n in words.items()}), order


def multilingual(size: int) -> str:
    """A text in which ties are common and every byte of UTF-8's longer forms has a chance."""
    rng = random.Random(0)
    scripts = ["etaoin shrdlu", "абвгд ежз", "日本語中文字", "😀🎉👍🏽", "0123456789", " \n\t.,;'"]
    return "".join(rng.choice(rng.choice(scripts)) for _ in range(size))


@pytest.mark.parametrize(
    ("training", "n_merges"),
    [
        ("low low lower newest newest widest " * 3, 50),
        ("aaaa aaa aaaaaaaa baaab " * 2, 40),
        (" ".join(SAMPLES), 300),
        (multilingual(20_000), 800),
        (manual(120_000), 1500),
        (riverbank(150), 1000),
    ],
    ids=["toy", "runs", "samples", "multilingual", "manual", "riverbank"],
)
def test_merges_and_ids_equal_hf(training, n_merges):
    peer = hf_bpe(training, 256 + n_merges)
    words, order = in_hf_order(count_words([training]))
    merges = train_bpe(words, n_merges)
    shown = printable_bytes()
    symbols = [shown[byte] for byte in order]
    for left, right in merges:
        symbols.append(symbols[left] + symbols[right])
    assert [(symbols[a], symbols[b]) for a, b in merges] == hf_merges(peer)
    assert len(symbols) == peer.get_vocab_size()
    place = {order[i]: i for i in range(256)}
    numbered = {pair: 256 + k for k, pair in enumerate(merges)}
    for sample in (*SAMPLES, training[:5000]):
        ids = [
            i
            for word in split_words(sample)
            for i in encode_word([place[b] for b in word.encode()], numbered)
        ]
        assert ids == peer.encode(sample).ids


@pytest.mark.parametrize("min_frequency", [1, 2, 5])
def test_a_tokenizer_numbered_by_bytes_equals_hf_with_that_alphabet(min_frequency):
    """HF sorts its alphabet by character: U+0100 + byte puts it into our order, special tokens come first."""
    training = manual(60_000)
    ours = Tokenizer.train(training, 1256, min_count=min_frequency)
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=1256, min_frequency=min_frequency, show_progress=False,
        initial_alphabet=[chr(256 + byte) for byte in range(256)],
    )  # fmt: skip

    def shown(part: str) -> str:
        return " ".join("".join(chr(256 + byte) for byte in w.encode()) for w in split_words(part))

    peer.train_from_iterator([shown(training)], trainer)
    assert ours.n_words == peer.get_vocab_size()
    for sample in (*SAMPLES, training[:20_000]):
        assert ours.encode(sample) == peer.encode(shown(sample)).ids


def rescanning(words: Counter, n_merges: int, min_count: int) -> list[tuple[int, int]]:
    """Count everything anew for each merge."""
    pieces = {word: list(word) for word in words}
    merges: list[tuple[int, int]] = []
    while len(merges) < n_merges:
        total: Counter = Counter()
        for word, ids in pieces.items():
            for pair in pairwise(ids):
                total[pair] += words[word]
        if not total:
            break
        pair = min(total, key=lambda each: (-total[each], each))
        if total[pair] < min_count:
            break
        new = 256 + len(merges)
        merges.append(pair)
        pieces = {word: merge_word(ids, pair, new) for word, ids in pieces.items()}
    return merges


letters = st.lists(st.sampled_from([97, 98, 99]), min_size=1, max_size=12).map(tuple)


@given(
    st.dictionaries(letters, st.integers(1, 4), max_size=12), st.integers(0, 30), st.integers(1, 4)
)
def test_incremental_training_equals_counting_anew(words, n_merges, min_count):
    assert train_bpe(words, n_merges, min_count) == rescanning(Counter(words), n_merges, min_count)


@given(st.dictionaries(letters, st.integers(1, 4), max_size=12))
def test_no_two_merges_make_the_same_bytes(words):
    table = token_table(train_bpe(words, 60, 1))
    assert len(set(table)) == len(table)


def test_training_changes_nothing_and_stops_where_nothing_is_left():
    words = {(97, 98): 3, (97,): 2}
    assert train_bpe(words, 10) == [(97, 98)]
    assert words == {(97, 98): 3, (97,): 2}
    assert train_bpe({}, 5) == []
    assert train_bpe({(97, 98): 1}, 5) == []
    assert train_bpe({(97, 98): 1}, 5, min_count=1) == [(97, 98)]


@given(st.lists(st.sampled_from([97, 98]), max_size=14))
def test_merges_apply_in_the_order_of_training(word):
    """Sennrich's way: every merge in turn over the whole word."""
    merges = train_bpe({(97, 98, 97, 98, 98): 3, (97, 97, 97, 98): 2, (98, 98, 98): 4}, 8, 1)
    expected = list(word)
    for k, pair in enumerate(merges):
        expected = merge_word(expected, pair, 256 + k)
    assert encode_word(word, {pair: 256 + k for k, pair in enumerate(merges)}) == expected


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(
        [manual(100_000), " ".join(SAMPLES)], 1500, special=("<|end|>", "<|end|>er")
    )


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
@example("\r\n\u2028 \x00")
@example("<|end|>er <|end|>")
def test_any_text_comes_back(tokenizer, string):
    ids = tokenizer.encode(string)
    assert tokenizer.decode(ids) == string
    assert all(0 <= i < 256 + len(tokenizer.merges) for i in ids), "a special token from plain text"
    assert tokenizer.decode(tokenizer.encode(string, special="all")) == string


@given(st.text())
def test_words_joined_are_the_text(string):
    assert "".join(split_words(string)) == string


@given(st.lists(st.integers(0, 1499)))
def test_any_ids_give_some_text(tokenizer, ids):
    expected = b"".join(tokenizer.tokens[i] for i in ids).decode("utf-8", errors="replace")
    assert tokenizer.decode(ids) == expected


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        tokenizer.encode("half a 😀: \ud83d")


def test_ids_without_a_token_are_refused(tokenizer):
    for wrong in (-1, -100, tokenizer.n_words):
        with pytest.raises(ValueError, match="is no token"):
            tokenizer.decode([97, wrong])


def test_special_tokens_come_only_where_they_are_allowed(tokenizer):
    string = "a<|end|>er b<|end|>"
    end, longer = tokenizer.special["<|end|>"], tokenizer.special["<|end|>er"]
    assert (end, longer) == (1498, 1499)
    assert tokenizer.n_words == 1500
    plain = tokenizer.encode(string)
    assert end not in plain
    assert longer not in plain
    a, b, er = (tokenizer.encode(each) for each in ("a", " b", "er"))
    assert tokenizer.encode(string, special="all") == [*a, longer, *b, end]
    assert tokenizer.encode(string, special=["<|end|>"]) == [*a, end, *er, *b, end]
    assert tokenizer.encode(string, special="<|end|>er") == [
        *a, longer, *tokenizer.encode(" b<|end|>")
    ]  # fmt: skip
    assert tokenizer.decode([*a, longer, *b, end]) == string
    with pytest.raises(CourseError, match="no special token <pad>"):
        tokenizer.encode(string, special=["<pad>"])


def test_the_cache_changes_nothing(tokenizer):
    merges = tokenizer.merges
    cache: dict[str, list[int]] = {}
    string = "the the theatre, the theory"
    first = encode(string, merges, cache)
    first.append(-1)
    first[0] = -1
    assert encode(string, merges, cache) == encode(string, merges, {})
    assert set(cache) == set(split_words(string))


def test_saved_and_loaded(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    again = Tokenizer.load(path)
    assert (again.merges, again.special, again.tokens) == (
        tokenizer.merges, tokenizer.special, tokenizer.tokens,
    )  # fmt: skip
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert "Ġ t" in content["merges"][:20]


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        "{}",
        '{"format": "something else", "split": ""}',
        "merges",
        "bytes",
        "special",
    ],
)
def test_a_broken_file_is_one_sentence(tokenizer, tmp_path, broken):
    path = tmp_path / "broken.json"
    tokenizer.save(path)
    if broken.isalpha():
        content = json.loads(path.read_text(encoding="utf-8"))
        content[broken] = content[broken][1:] if broken != "special" else [1]
        broken = json.dumps(content)
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(CourseError, match=r"broken.json is no saved tokenizer"):
        Tokenizer.load(path)


def test_what_cannot_be_a_tokenizer_is_refused():
    for arguments, words in (
        (([(97, 256)],), "does not exist yet"),
        (([(97, 98), (97, 98)],), "all different"),
        (([], ["a", "a"]), "different, non-empty"),
        (([], [""]), "different, non-empty"),
        (([], [], bytes(256)), "each of the 256 bytes once"),
    ):
        with pytest.raises(CourseError, match=words):
            Tokenizer(*arguments)
    with pytest.raises(CourseError, match="too few"):
        Tokenizer.train("abc", 256, special=["<|end|>"])


def test_half_a_character_is_replaced_and_two_halves_are_whole():
    table = token_table([])
    assert decode("é".encode(), table) == "é"
    assert decode("é".encode()[:1], table) == "\ufffd"
    assert decode([], table) == ""


# --- GPT-2's own files -----------------------------------------------------------------------

needs_gpt2 = pytest.mark.skipif(
    not registry.available("gpt2_bpe"),
    reason="GPT-2's files are not here: `course data fetch gpt2_bpe`, or set COURSE_DATA_DIR",
)


@pytest.fixture(scope="module")
def published() -> tuple[str, str]:
    return tuple(
        registry.read_bytes("gpt2_bpe", name).decode() for name in ("vocab.bpe", "encoder.json")
    )


@pytest.fixture(scope="module")
def gpt2(published) -> Tokenizer:
    return Tokenizer.from_gpt2(*published)


@pytest.fixture(scope="module")
def reference(published):
    """tiktoken's Encoding of the published files, or HF's where tiktoken is not installed."""
    vocab_bpe, encoder_json = published
    encoder = json.loads(encoder_json)
    try:
        import tiktoken
    except ImportError:
        merges = [tuple(line.split(" ")) for line in vocab_bpe.split("\n")[1:] if line]
        peer = tokenizers.Tokenizer(models.BPE(encoder, merges))
        peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        return lambda string: peer.encode(string).ids
    byte_of = {character: byte for byte, character in enumerate(printable_bytes())}
    ranks = {
        bytes(byte_of[c] for c in symbol): i
        for symbol, i in encoder.items()
        if i < len(encoder) - 1
    }
    peer = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )
    return peer.encode_ordinary


@needs_gpt2
def test_gpt2_gives_the_published_ids(gpt2, reference):
    assert gpt2.n_words == 50257
    assert gpt2.special == {"<|endoftext|>": 50256}
    # Known from the published model's examples.
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("<|endoftext|>", special="all") == [50256]
    for sample in (*SAMPLES, manual(200_000), riverbank(50), multilingual(5000)):
        ids = gpt2.encode(sample)
        assert ids == reference(sample)
        assert gpt2.decode(ids) == sample


@needs_gpt2
@settings(max_examples=200)
@given(string=st.text(alphabet=KNOWN, max_size=60))
def test_gpt2_gives_the_published_ids_of_any_text(gpt2, reference, string):
    assert gpt2.encode(string) == reference(string)


@needs_gpt2
def test_gpt2_saved_and_loaded_and_mismatched(gpt2, published, tmp_path):
    gpt2.save(tmp_path / "gpt2.json")
    again = Tokenizer.load(tmp_path / "gpt2.json")
    assert again.tokens == gpt2.tokens
    assert again.encode(SAMPLES[3]) == gpt2.encode(SAMPLES[3])
    vocab_bpe, encoder_json = published
    lines = vocab_bpe.split("\n")
    with pytest.raises(CourseError, match="do not belong together"):
        Tokenizer.from_gpt2("\n".join(lines[:1] + lines[2:]), encoder_json)
    with pytest.raises(CourseError, match="no table"):
        Tokenizer.from_gpt2(vocab_bpe, "{")


# --- WordPiece -------------------------------------------------------------------------------


def bert_peer(vocabulary: list[str]) -> tokenizers.Tokenizer:
    index = {piece: i for i, piece in enumerate(vocabulary)}
    peer = tokenizers.Tokenizer(models.WordPiece(index, unk_token="[UNK]"))
    peer.normalizer = normalizers.BertNormalizer(lowercase=True)
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return peer


SMALL = [
    "[UNK]", "un", "##aff", "##able", "##a", "##f", "b", "##b", "aff", "able", "a", "##un", "i", "'", "s", "l",
    ",", "##le",
]  # fmt: skip


@given(st.text(alphabet="unafble, '", max_size=20))
def test_wordpiece_cuts_as_hf_does_with_a_small_vocabulary(string):
    assert WordPiece(SMALL).pieces(string) == bert_peer(SMALL).encode(string).tokens


def test_wordpiece_edges():
    assert wordpiece("unaffable", SMALL) == ["un", "##aff", "##able"]
    assert wordpiece("unaffablex", SMALL) == ["[UNK]"]
    assert wordpiece("", SMALL) == []
    assert wordpiece("a" * 101, ["a", "##a", "[UNK]"]) == ["[UNK]"]
    assert len(wordpiece("a" * 100, ["a", "##a", "[UNK]"])) == 100


@pytest.mark.skipif(
    not registry.available("bert_uncased_vocab"),
    reason="BERT's vocabulary is not here: `course data fetch bert_uncased_vocab`, or set COURSE_DATA_DIR",
)
def test_bert_gives_the_published_ids():
    vocabulary = registry.load("bert_uncased_vocab")
    ours, peer = WordPiece(vocabulary), bert_peer(vocabulary)
    assert ours.n_words == 30522
    samples = [sample for sample in SAMPLES if "\U0010ffff" not in sample]  # which is no character
    for sample in (*samples, manual(100_000), riverbank(30)):
        assert ours.encode(sample) == peer.encode(sample).ids
    assert ours.decode(ours.encode("Unaffable tokenizers!")) == "unaffable tokenizers !"


def hf_bert_words(string: str) -> list[str]:
    normal = normalizers.BertNormalizer(lowercase=True).normalize_str(string)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal)]


@given(st.text(alphabet=KNOWN, max_size=40))
def test_bert_words_are_hfs(string):
    assert bert_words(string) == hf_bert_words(string)


def test_bert_words_are_hfs_around_every_character():
    bmp = [character for character in OLD if ord(character) < 0x10000]
    wrong = [each for each in bmp if bert_words(f"a{each}b") != hf_bert_words(f"a{each}b")]
    assert wrong == []


# --- Unigram ---------------------------------------------------------------------------------

piece_scores = st.dictionaries(
    st.text(alphabet="abc", min_size=1, max_size=4),
    st.floats(-12, -0.1).map(lambda x: round(64 * x) / 64),
    min_size=1,
    max_size=25,
)


def segmentations(word: str) -> list[list[str]]:
    if not word:
        return [[]]
    return [
        [word[:cut], *rest] for cut in range(1, len(word) + 1) for rest in segmentations(word[cut:])
    ]


@given(piece_scores, st.text(alphabet="abc", max_size=9))
def test_viterbi_finds_the_best_of_all(scores, word):
    def score(pieces: list[str]) -> float:
        return sum(scores.get(p, -30.0 if len(p) == 1 else -math.inf) for p in pieces)

    found = viterbi_segment(word, scores)
    assert "".join(found) == word
    assert score(found) == pytest.approx(max(map(score, segmentations(word))))


@given(piece_scores, st.text(alphabet="abc", max_size=14))
def test_viterbi_equals_hf(scores, word):
    pieces = sorted(scores)
    peer = tokenizers.Tokenizer(
        models.Unigram([("<unk>", 0.0), *((p, scores[p]) for p in pieces)], unk_id=0)
    )
    # HF: a character without a piece costs 10 more than the least likely piece; neighbours of this kind fuse.
    found = viterbi_segment(word, scores, unknown=min(0.0, *scores.values()) - 10)
    fused = []
    for unknown, group in groupby(found, key=lambda each: each not in scores):
        pieces = list(group)
        fused += ["".join(pieces)] if unknown else pieces
    assert fused == peer.encode(word).tokens


def test_viterbi_equals_hf_on_a_trained_vocabulary():
    words = Counter("▁" + word for word in riverbank(100).split())
    scores = train_unigram(words, 400)
    peer = tokenizers.Tokenizer(models.Unigram([("<unk>", -40.0), *scores.items()], unk_id=0))
    for word in words:
        assert viterbi_segment(word, scores) == peer.encode(word).tokens


@given(piece_scores, st.text(alphabet="abc", min_size=1, max_size=8))
def test_expected_counts_are_those_of_all_segmentations(scores, word):
    scores = {**dict.fromkeys("abc", -5.0), **scores}
    ways = [way for way in segmentations(word) if all(p in scores for p in way)]
    weights = [math.exp(sum(scores[p] for p in way)) for way in ways]
    expected: Counter = Counter()
    for way, weight in zip(ways, weights):
        for piece in way:
            expected[piece] += 3 * weight / sum(weights)
    found, likelihood = expected_counts({word: 3}, scores)
    assert likelihood == pytest.approx(3 * math.log(sum(weights)))
    assert {p: c for p, c in found.items() if c} == pytest.approx(dict(expected))


def test_unigram_training_keeps_its_promises():
    words = Counter(riverbank(60).split())
    scores = train_unigram(words, 200)
    assert len(scores) == 200
    assert sum(math.exp(score) for score in scores.values()) == pytest.approx(1)
    assert {c for word in words for c in word} <= scores.keys()
    assert all(
        joined == word for word in words for joined in ["".join(viterbi_segment(word, scores))]
    )
    single = len({c for word in words for c in word})
    assert len(train_unigram(words, 5)) == single


def test_em_never_loses_likelihood():
    words = Counter(riverbank(30).split())
    pieces = train_unigram(words, 150)
    uniform = {piece: -math.log(len(pieces)) for piece in pieces}
    scores, last = uniform, -math.inf
    for _ in range(6):
        expected, likelihood = expected_counts(words, scores)
        assert likelihood >= last - 1e-6
        last, total = likelihood, sum(expected.values())
        scores = {p: math.log(max(c, 1e-12) / total) for p, c in expected.items()}
