"""Lesson 06's translators, attention, beam search and BLEU against PyTorch, sacrebleu, nltk and brute force."""

import itertools
import math
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.models.bleu import bleu
from course_lib.models.seq2seq import (
    AdditiveAttention,
    DotAttention,
    Encoder,
    Memory,
    OneVector,
    Translator,
    additive_attention,
    beam_search,
    dot_attention,
    length_mask,
    masked_softmax,
)
from course_lib.models.translation import (
    END,
    PAD,
    START,
    UNKNOWN,
    TranslationSet,
    Vocabulary,
    edit_distance,
    greedy_decode,
    pad,
    train_translator,
    translation_loss,
    word_accuracy,
)
from course_lib.runtime import CourseError

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
ATTENDS = {
    "one vector": lambda d: OneVector(),
    "additive": lambda d: AdditiveAttention(d, 5),
    "dot": DotAttention,
}
every_attend = pytest.mark.parametrize("attend", ATTENDS.values(), ids=list(ATTENDS))
many_lengths = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def close(got: Tensor, expected: Tensor, dtype: torch.dtype = torch.float64) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def translator(attend, d: int = 6, n_source: int = 11, n_target: int = 9, seed: int = 0) -> Translator:
    """Return a translator in float64 whose outputs are far from uniform."""
    torch.manual_seed(seed)
    model = Translator(n_source, n_target, d, attend(d)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return model.eval()


def some_batch(lengths: list[int], seed: int = 0, m: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    rows = [torch.randint(4, 11, (length,), generator=g).tolist() for length in lengths]
    targets = torch.randint(4, 9, (len(lengths), m), generator=g)
    targets[:, 0] = START
    return pad(rows), torch.tensor(lengths), targets


# --- masks and attention -------------------------------------------------------------------------


@given(lengths=many_lengths, extra=st.integers(0, 3))
def test_length_mask_marks_the_real_words(lengths: list[int], extra: int) -> None:
    n = max([1, *lengths]) + extra
    for dtype in (torch.int64, torch.int32):
        mask = length_mask(torch.tensor(lengths, dtype=dtype), n)
        assert mask.dtype == torch.bool
        assert mask.tolist() == [[True] * each + [False] * (n - each) for each in lengths]


def test_masks_follow_the_device_of_the_lengths(device: str) -> None:
    assert length_mask(torch.tensor([2, 3], device=device), 4).device.type == device
    assert length_mask(torch.empty(2, dtype=torch.long, device="meta"), 4).device.type == "meta"


@DTYPES
@given(
    lengths=many_lengths,
    n_q=st.integers(1, 5),
    widths=st.tuples(*[st.integers(1, 9)] * 4),
    seed=st.integers(0, 2**31),
)
@example(lengths=[0, 0], n_q=2, widths=(3, 5, 2, 7), seed=1)
def test_additive_attention_agrees_with_scoring_pair_after_pair(
    dtype: torch.dtype, lengths: list[int], n_q: int, widths: tuple[int, ...], seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    d_q, d_k, d_v, d_a = widths
    batch, n_k = len(lengths), max([1, *lengths])
    shapes = [(batch, n_q, d_q), (batch, n_k, d_k), (batch, n_k, d_v), (d_q, d_a), (d_k, d_a), (d_a,)]
    inputs = [torch.randn(*shape, generator=g, dtype=dtype, requires_grad=True) for shape in shapes]
    mask = length_mask(torch.tensor(lengths), n_k)
    cotangent = torch.randn(batch, n_q, d_v, generator=g, dtype=dtype)

    output, weights = additive_attention(*inputs, mask)
    found = torch.autograd.grad(output, inputs, cotangent)

    leaves = [each.detach().double().requires_grad_() for each in inputs]
    q, k, x, w_q, w_k, v = leaves
    expected, shares = [], []
    for b, length in enumerate(lengths):
        for i in range(n_q):
            row = torch.zeros(n_k, dtype=torch.float64)
            heard = 0 * x[b].sum(0)
            if length:
                scores = [(torch.tanh(F.linear(q[b, i], w_q.T) + F.linear(k[b, j], w_k.T)) * v).sum()
                          for j in range(length)]  # fmt: skip
                row = torch.cat([F.softmax(torch.stack(scores), 0), row[length:]])
                heard = torch.einsum("j,jd->d", row, x[b])
            expected.append(heard)
            shares.append(row)
    reference = torch.stack(expected).view(batch, n_q, d_v)
    close(output, reference.to(dtype), dtype)
    close(weights, torch.stack(shares).view(batch, n_q, n_k).to(dtype), dtype)
    wanted = torch.autograd.grad(reference, leaves, cotangent.double(), allow_unused=True)
    for got, each, leaf in zip(found, wanted, leaves):
        scale = 1 if each is None else max(1.0, each.abs().max().item())
        close(got / scale, ((torch.zeros_like(leaf) if each is None else each) / scale).to(dtype), dtype)


@DTYPES
@given(
    lengths=many_lengths,
    n_q=st.integers(1, 5),
    d=st.integers(1, 9),
    d_v=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_dot_attention_agrees_with_sdpa_without_scaling(
    dtype: torch.dtype, lengths: list[int], n_q: int, d: int, d_v: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    batch, n_k = len(lengths), max([1, *lengths])
    shapes = [(batch, n_q, d), (batch, n_k, d), (batch, n_k, d_v)]
    q, k, v = (torch.randn(*s, generator=g, dtype=dtype, requires_grad=True) for s in shapes)
    mask = length_mask(torch.tensor(lengths), n_k)
    cotangent = torch.randn(batch, n_q, d_v, generator=g, dtype=dtype)
    output, weights = dot_attention(q, k, v, mask)
    reference = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], scale=1.0)
    identity = torch.eye(n_k, dtype=dtype).expand(batch, n_k, n_k)
    close(output, reference, dtype)
    close(weights, F.scaled_dot_product_attention(q, k, identity, mask[:, None], scale=1.0), dtype)
    wanted = torch.autograd.grad(reference, (q, k, v), cotangent)
    for got, each in zip(torch.autograd.grad(output, (q, k, v), cotangent), wanted):
        close(got, each, dtype)


def test_additive_attention_passes_gradcheck() -> None:
    torch.manual_seed(0)
    shapes = ((2, 3, 4), (2, 5, 3), (2, 5, 2), (4, 6), (3, 6), (6,))
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    mask = length_mask(torch.tensor([5, 2]), 5)
    assert torch.autograd.gradcheck(lambda *each: additive_attention(*each, mask), inputs)


def test_an_empty_sentence_gives_zeros_and_no_gradient() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = masked_softmax(scores, length_mask(torch.tensor([0, 4]), 4))
    (gradient,) = torch.autograd.grad(weights.square().sum(), scores)
    assert torch.equal(weights[0], torch.zeros_like(weights[0]))
    assert torch.equal(gradient[0], torch.zeros_like(gradient[0]))
    close(weights[1], scores[1].softmax(-1))


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3), extra=st.integers(1, 4))
def test_attention_does_not_feel_what_stands_in_the_padding(lengths: list[int], extra: int) -> None:
    torch.manual_seed(0)
    n, batch = max(lengths), len(lengths)
    q, k = torch.randn(batch, 3, 4).double(), torch.randn(batch, n, 4).double()
    w_q, w_k, v = torch.randn(4, 5).double(), torch.randn(4, 5).double(), torch.randn(5).double()
    mask, wider = (length_mask(torch.tensor(lengths), columns) for columns in (n, n + extra))
    noise = 1e3 * torch.randn(batch, n + extra, 4).double()
    longer = torch.where(wider[..., None], F.pad(k, (0, 0, 0, extra)), noise)
    for attend in (
        lambda keys, real: additive_attention(q, keys, keys, w_q, w_k, v, real),
        lambda keys, real: dot_attention(q, keys, keys, real),
    ):
        output, weights = attend(k, mask)
        again, weights_again = attend(longer, wider)
        close(again, output)
        close(weights_again[..., :n], weights)
        assert bool((weights_again[..., n:] == 0).all())


# --- encoder, decoder ----------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_the_encoder_agrees_with_a_packed_lstm(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    encoder = Encoder(11, 5).double()
    source, sizes, _ = some_batch(lengths, seed)
    memory = encoder(source, sizes)
    embedded = encoder.embedding(source)
    packed = nn.utils.rnn.pack_padded_sequence(embedded, sizes, batch_first=True, enforce_sorted=False)
    outputs, (last, _) = encoder.lstm(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    close(memory.summary, last[0])
    real = memory.mask
    assert torch.equal(real, length_mask(sizes, source.shape[1]))
    close(memory.words[real], torch.cat([states, embedded], -1)[real])
    cotangent = torch.randn_like(memory.words) * real[..., None]
    weights = list(encoder.parameters())
    ours = torch.autograd.grad((memory.words * cotangent).sum() + memory.summary.sum(), weights)
    reference = (torch.cat([states, embedded], -1) * cotangent).sum() + last.sum()
    for got, expected in zip(ours, torch.autograd.grad(reference, weights)):
        close(got, expected)


def test_one_vector_is_the_last_real_word() -> None:
    torch.manual_seed(0)
    memory = Encoder(11, 4)(*some_batch([5, 1, 3])[:2])
    context, weights = OneVector()(torch.randn(3, 2, 4), memory)
    last = torch.tensor([4, 0, 2])
    assert torch.equal(weights, F.one_hot(last, 5)[:, None].expand(3, 2, 5).float())
    assert torch.equal(context, memory.words[torch.arange(3), last][:, None].expand(3, 2, 8))
    assert torch.equal(context[:, 0, :4], memory.summary)


@every_attend
def test_a_translator_is_its_two_lstms_and_a_softmax(attend) -> None:
    """Recompute the logits a step at a time with LSTM cells that have the same weights."""
    model = translator(attend)
    source, lengths, target = some_batch([4])
    memory = model.encode(source, lengths)
    cell = nn.LSTMCell(6, 6).double()
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in model.lstm.state_dict().items()})
    state = (memory.summary, memory.summary)
    for t in range(target.shape[1]):
        state = cell(model.embedding(target[:, t]), state)
        context, _ = model.attend(state[0][:, None], memory)
        mixed = torch.tanh(model.combine(torch.cat([state[0], context[:, 0]], -1)))
        logits = F.linear(mixed, model.embedding.weight, model.bias)
        close(model(source, lengths, target)[:, t], logits)


@every_attend
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 2**31),
)
def test_padding_never_leaks_into_outputs_or_gradients(
    attend, training: bool, lengths: list[int], extra: tuple[int, int], seed: int
) -> None:
    model = translator(attend, seed=seed).train(training)
    source, sizes, target = some_batch(lengths, seed)
    due = torch.roll(target, -1, dims=1)
    due[:, -1] = END
    results = []
    for more_source, more_target in ((0, 0), extra):
        padded = F.pad(source, (0, more_source), value=PAD)
        heard, said = (F.pad(each, (0, more_target), value=PAD) for each in (target, due))
        logits = model(padded, sizes, heard)
        loss = translation_loss(logits, said)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        results.append([logits[:, : target.shape[1]], loss, *gradients])
    for one, other in zip(*results):
        close(one, other)


@every_attend
def test_a_batch_equals_its_sentences_one_by_one(attend) -> None:
    model = translator(attend)
    source, lengths, target = some_batch([5, 2, 4])
    together = model(source, lengths, target)
    for i, length in enumerate(lengths.tolist()):
        close(together[i : i + 1], model(source[i : i + 1, :length], lengths[i : i + 1], target[i : i + 1]))


@every_attend
def test_later_target_words_change_nothing_before_them(attend) -> None:
    model = translator(attend)
    source, lengths, target = some_batch([5, 3])
    before = model(source, lengths, target)
    for position in range(1, target.shape[1]):
        changed = target.clone()
        changed[:, position:] = (changed[:, position:] - 3) % 5 + 4
        after = model(source, lengths, changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.allclose(after[:, position], before[:, position])


@every_attend
def test_models_run_where_they_are(attend, device: str) -> None:
    model = Translator(11, 9, 4, attend(4)).to(device)
    source, lengths, target = (each.to(device) for each in some_batch([3, 2]))
    assert model(source, lengths, target).device.type == device
    assert len(greedy_decode(model, source, lengths, 4)) == 2


# --- loss and training ---------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_real_words() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    target = torch.tensor([[4, 3, END], [4, END, PAD]])
    real = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    expected = -sum(logits[b, t].log_softmax(-1)[target[b, t]] for b, t in real) / 5
    close(translation_loss(logits, target), expected)


def copying(count: int, seed: int = 0) -> TranslationSet:
    rng = random.Random(seed)
    rows = [[rng.choice("abcdef") for _ in range(rng.randint(1, 5))] for _ in range(count)]
    words = Vocabulary.of(rows)
    return TranslationSet([(row, row) for row in rows], words, words)


def test_training_is_repeatable_and_learns() -> None:
    data = copying(200)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Translator(10, 10, 16, DotAttention(16))
        losses.append(train_translator(model, data, 60, torch.Generator().manual_seed(1), batch_size=32))
        assert not model.training
    assert losses[0] == losses[1]
    assert sum(losses[0][-5:]) < 0.6 * sum(losses[0][:5])


# --- vocabulary and batches ----------------------------------------------------------------------


def test_a_vocabulary_numbers_the_most_frequent_words_first() -> None:
    words = Vocabulary.of([["b", "a", "b"], ["c", "b", "a"]])
    assert words.words == ("<pad>", "<start>", "<end>", "<unknown>", "b", "a", "c")
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    assert words.numbers(["a", "x", "b"]) == [5, UNKNOWN, 4]
    assert words.sentence([4, 5, 3]) == ["b", "a", "<unknown>"]
    assert len(Vocabulary.of([["b", "a", "b"]], most=1)) == 5
    assert len(Vocabulary.of([["b", "a", "b"]], min_count=2)) == 5


def test_a_batch_holds_what_the_sentences_say() -> None:
    english, other = Vocabulary.of([["a", "b", "c"]]), Vocabulary.of([["x", "y"]])
    data = TranslationSet([(["a", "b"], ["x"]), (["c"], ["y", "x", "x"])], english, other)
    batch = data.select([0, 1])
    assert batch.source.tolist() == [[4, 5, END], [6, END, PAD]]
    assert batch.source_lengths.tolist() == [3, 2]
    assert batch.target_in.tolist() == [[START, 4, END, PAD], [START, 5, 4, 4]]
    assert batch.target_out.tolist() == [[4, END, PAD, PAD], [5, 4, 4, END]]
    assert data.select([1]).source.shape == (1, 2)
    with pytest.raises(CourseError):
        TranslationSet([], english, other)


@given(count=st.integers(1, 60), size=st.integers(1, 16), seed=st.integers(0, 2**31))
def test_an_epoch_deals_every_sentence_once(count: int, size: int, seed: int) -> None:
    data = copying(count, seed)
    batches = data.batches(size, torch.Generator().manual_seed(seed))
    for _ in range(2):
        epoch = list(itertools.islice(batches, math.ceil(count / size)))
        rows = [row[:n].tolist() for b in epoch for row, n in zip(b.source, b.source_lengths.tolist())]
        expected = [row[:n].tolist() for row, n in zip(data.source, data.source_lengths.tolist())]
        assert sorted(rows) == sorted(expected)
        assert all(int(b.source_lengths.max()) == b.source.shape[1] for b in epoch)


# --- decoding ------------------------------------------------------------------------------------


def step_of(model: Translator, source: Tensor, lengths: Tensor):
    memory = model.encode(source, lengths)

    @torch.no_grad()
    def step(prefixes: Tensor) -> Tensor:
        wide = Memory(*(part.repeat_interleave(len(prefixes), 0) for part in memory))
        return model.decode(wide, prefixes).logits[:, -1].log_softmax(-1)

    return step


@every_attend
def test_greedy_decoding_takes_the_most_probable_word_of_each_prefix(attend) -> None:
    for seed in range(4):
        model = translator(attend, seed=seed)
        source, lengths, _ = some_batch([5, 1, 3], seed)
        together = greedy_decode(model, source, lengths, 7)
        for i, length in enumerate(lengths.tolist()):
            alone = (source[i : i + 1, :length], lengths[i : i + 1])
            step, prefix = step_of(model, *alone), [START]
            while len(prefix) < 8 and prefix[-1] != END:
                prefix.append(int(step(torch.tensor([prefix]))[0].argmax()))
            words = [word for word in prefix[1:] if word not in (END, PAD)]
            assert together[i] == words
            assert greedy_decode(model, *alone, 7) == [words]
            tokens, _ = beam_search(step, START, END, 1, 7)
            assert [word for word in tokens if word not in (END, PAD)] == words


def table_language(words: int, max_length: int, seed: int):
    """Return a `step` that has random log-probabilities for each prefix, and the table behind it."""
    g = torch.Generator().manual_seed(seed)
    prefixes = [row for t in range(max_length) for row in itertools.product(range(words), repeat=t)]
    logits = 2 * torch.randn(len(prefixes), words, generator=g, dtype=torch.float64)
    table = dict(zip(prefixes, logits.log_softmax(-1)))
    return lambda rows: torch.stack([table[tuple(row[1:])] for row in rows.tolist()]), table


def all_sentences(table, words: int, end: int, max_length: int):
    """Yield every sentence with its log-probability."""
    for length in range(1, max_length + 1):
        for tokens in itertools.product(range(words), repeat=length):
            if end in tokens[:-1] or (tokens[-1] != end and length < max_length):
                continue
            yield list(tokens), sum(table[tokens[:t]][w].item() for t, w in enumerate(tokens))


@given(
    words=st.integers(2, 4),
    max_length=st.integers(1, 4),
    alpha=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    seed=st.integers(0, 2**31),
)
def test_a_wide_beam_finds_what_exhaustive_search_finds(
    words: int, max_length: int, alpha: float, seed: int
) -> None:
    step, table = table_language(words, max_length, seed)
    end = seed % words
    candidates = list(all_sentences(table, words, end, max_length))
    assert math.isclose(sum(math.exp(total) for _, total in candidates), 1, rel_tol=1e-9)
    best, total = max(candidates, key=lambda each: each[1] / len(each[0]) ** alpha)
    for beam in (words ** (max_length - 1), words**max_length + 3):
        tokens, score = beam_search(step, words, end, beam, max_length, alpha)
        assert tokens == best
        assert math.isclose(score, total / len(best) ** alpha, rel_tol=1e-12)


@given(
    words=st.integers(2, 5),
    max_length=st.integers(1, 4),
    beam=st.integers(2, 4),
    alpha=st.sampled_from([0.0, 0.7, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_no_beam_scores_below_greedy_search(
    words: int, max_length: int, beam: int, alpha: float, seed: int
) -> None:
    step, _ = table_language(words, max_length, seed)
    greedy = beam_search(step, words, 0, 1, max_length, alpha)[1]
    assert beam_search(step, words, 0, beam, max_length, alpha)[1] >= greedy


@every_attend
def test_beam_search_on_a_translator_scores_as_the_model_does(attend) -> None:
    model = translator(attend)
    source, lengths, _ = some_batch([4])
    tokens, score = beam_search(step_of(model, source, lengths), START, END, 3, 6, 0.6)
    target = torch.tensor([[START, *tokens[:-1]]])
    logs = model(source, lengths, target).log_softmax(-1)[0]
    total = sum(logs[t, word].item() for t, word in enumerate(tokens))
    assert math.isclose(score, total / len(tokens) ** 0.6, rel_tol=1e-9)


# --- BLEU and word accuracy ----------------------------------------------------------------------

sentences = st.lists(st.sampled_from("abcde"), max_size=14)


def sacrebleu_of(hypotheses, references, **settings_) -> float:
    import sacrebleu

    spoken = [" ".join(each) for each in hypotheses]
    written = [" ".join(each) for each in references]
    found = sacrebleu.corpus_bleu(spoken, [written], tokenize="none", force=True, **settings_)
    return found.score


@given(pairs=st.lists(st.tuples(sentences, sentences.filter(bool)), min_size=1, max_size=6))
@example(pairs=[([], ["a"])])
@example(pairs=[(list("aaaaaa"), list("aab"))])
def test_bleu_is_sacrebleus(pairs) -> None:
    hypotheses, references = zip(*pairs)
    expected = sacrebleu_of(hypotheses, references, smooth_method="none")
    assert bleu(hypotheses, references) == pytest.approx(expected, abs=1e-9)


def test_bleu_is_sacrebleus_on_a_corpus_with_its_own_settings() -> None:
    from course_lib.data.riverbank import Town

    rng = random.Random(0)
    references = [list(t.target) for _, t in Town().parallel(120, seed=1, max_words=24)]
    words = [word for each in references for word in each]
    hypotheses = [[w if rng.random() < 0.85 else rng.choice(words) for w in each] for each in references]
    hypotheses = [each[: rng.randint(len(each) // 2, len(each) + 3)] for each in hypotheses]
    score = bleu(hypotheses, references)
    assert 20 < score < 90
    assert score == pytest.approx(sacrebleu_of(hypotheses, references), abs=1e-9)
    assert bleu(references, references) == pytest.approx(100)
    assert bleu([each[:2] for each in references], references) == 0.0


@pytest.mark.parametrize("max_n", [1, 2, 3, 5])
def test_bleu_of_other_orders_is_sacrebleus(max_n: int) -> None:
    from sacrebleu.metrics import BLEU

    hypotheses, references = [list("abcdefgab"), list("bcd")], [list("abcdeggab"), list("bcda")]
    metric = BLEU(tokenize="none", force=True, smooth_method="none", max_ngram_order=max_n)
    theirs = metric.corpus_score([" ".join(h) for h in hypotheses], [[" ".join(r) for r in references]])
    assert bleu(hypotheses, references, max_n) == pytest.approx(theirs.score, abs=1e-9)


@given(one=sentences, other=sentences)
def test_edit_distance_is_nltks(one: list[str], other: list[str]) -> None:
    from nltk.metrics.distance import edit_distance as theirs

    assert edit_distance(one, other) == theirs(one, other)


def test_word_accuracy_counts_edits_per_reference_word() -> None:
    assert word_accuracy([["a", "b"]], [["a", "b"]]) == 1
    assert word_accuracy([[]], [["a", "b"]]) == 0
    assert word_accuracy([["a", "x"], ["c"]], [["a", "b"], ["c", "d"]]) == 0.5
    assert word_accuracy([["x"] * 6], [["a", "b"]]) == -2
