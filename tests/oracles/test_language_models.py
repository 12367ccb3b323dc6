"""Lesson 04's language models against nltk.lm, brute force, and PyTorch's own layers.

What nltk's Kneser–Ney computes (nltk.lm.smoothing.KneserNey): plain counts in the longest contexts, continuation
counts below, interpolated with one discount, and *undiscounted* continuation counts at the bottom, so an unseen word
has probability 0. Ours is the same with a discount of 0 in the first table. Given nltk's own padding the two part
after contexts that begin a text: nltk also counts START as a word that can come, and takes the number of different
followers from the plain counts, but their counts from the continuation counts. The probabilities after such a
context then add up to more than 1. So the counters here hold n-grams that end in a real word, as ours do.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from nltk.lm import MLE, KneserNeyInterpolated, Laplace, Lidstone, NgramCounter, Vocabulary
from nltk.lm.models import InterpolatedLanguageModel
from nltk.lm.preprocessing import padded_everygram_pipeline
from nltk.lm.smoothing import KneserNey
from torch import Tensor, nn

from course_lib.data.riverbank import Town
from course_lib.models.language_models import (
    WindowLM,
    add_k_prob,
    bits_per_character,
    continuation_counts,
    count_ngrams,
    discount_of,
    em_weights,
    interpolated_prob,
    kneser_ney_prob,
    kneser_ney_sample,
    kneser_ney_tables,
    log_probs_of,
    order_probs,
    perplexity,
    window_lm_forward,
    windows_of,
)
from course_lib.models.ngrams import END, START, Context, Table

WORDS = "abcde"
VOCABULARY = (*WORDS, "unseen", END)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
texts = st.lists(st.text(WORDS, max_size=9), min_size=1, max_size=6)
orders = st.integers(1, 5)
discount = st.floats(0, 1)


def padded(text: Sequence[str], n: int) -> list[str]:
    return [START] * (n - 1) + [*text, END]


def ngrams(documents: Sequence[Sequence[str]], n: int, pad: int) -> Iterator[tuple[str, ...]]:
    """Yield the n-grams that end in a real word, of texts padded for ``pad``-grams."""
    for text in documents:
        tokens = padded(text, pad)
        for i in range(pad - 1, len(tokens)):
            yield tuple(tokens[i - n + 1 : i + 1])


def contexts_of(documents: Sequence[Sequence[str]], n: int) -> set[Context]:
    """Return every context that occurs, of every length, and some that do not."""
    found = {gram[:-1] for m in range(1, n + 1) for gram in ngrams(documents, m, n)}
    unseen = {("unseen",) * m for m in range(1, n + 1)}
    return found | unseen | {("unseen", *context) for context in found if len(context) < n}


def theirs_vocabulary() -> Vocabulary:
    return Vocabulary((*VOCABULARY, START))


def nltk_model(documents: Sequence[Sequence[str]], n: int, kind: type, **rest: object) -> object:
    counter = NgramCounter(list(ngrams(documents, m, n)) for m in range(1, n + 1))
    return kind(order=n, vocabulary=theirs_vocabulary(), counter=counter, **rest)


# --- counting ------------------------------------------------------------------------------------


@given(documents=texts, n=orders)
def test_counts_agree_with_nltk(documents: list[str], n: int) -> None:
    counter = NgramCounter([list(ngrams(documents, n, n))])
    table = count_ngrams(documents, n)
    for context, followers in table.items():
        reference = counter[n][context] if context else counter.unigrams
        assert dict(followers) == dict(reference)
    assert sum(f.total() for f in table.values()) == sum(len(text) + 1 for text in documents)


def test_tokens_may_be_words() -> None:
    table = count_ngrams([["the", "king"], ["the", "queen"]], 2)
    assert table == {
        (START,): Counter(the=2),
        ("the",): Counter(king=1, queen=1),
        ("king",): Counter({END: 1}),
        ("queen",): Counter({END: 1}),
    }


@given(documents=texts, n=st.integers(2, 5))
def test_continuation_counts_by_their_definition(documents: list[str], n: int) -> None:
    grams = set(ngrams(documents, n, n))
    shorter = continuation_counts(count_ngrams(documents, n))
    found = {(*context, w): c for context, some in shorter.items() for w, c in some.items()}
    assert found == {
        gram: len({longer[0] for longer in grams if longer[1:] == gram})
        for gram in {longer[1:] for longer in grams}
    }


@given(documents=texts, n=orders)
def test_every_table_of_kneser_ney_by_its_definition(documents: list[str], n: int) -> None:
    """Not only the first step down: each table counts the different words in front in the text itself."""
    tables = kneser_ney_tables(count_ngrams(documents, n))
    assert [len(next(iter(table))) for table in tables] == list(range(n))
    assert tables[-1] == count_ngrams(documents, n)
    for m, table in enumerate(tables[:-1]):
        longer = set(ngrams(documents, m + 2, n))
        for context, followers in table.items():
            for word, count in followers.items():
                assert count == sum(gram[1:] == (*context, word) for gram in longer)


@given(documents=texts, n=orders)
def test_discount_by_its_formula(documents: list[str], n: int) -> None:
    table = count_ngrams(documents, n)
    counts = [count for followers in table.values() for count in followers.values()]
    ones, twos = counts.count(1), counts.count(2)
    assert discount_of(table) == (ones / (ones + 2 * twos) if ones else 0.0)


# --- Kneser–Ney against nltk ---------------------------------------------------------------------


@given(documents=texts, n=orders, d=discount)
@example(documents=["abab", "", "aab"], n=3, d=0.75)
@example(documents=["", ""], n=4, d=1.0)
def test_kneser_ney_is_nltk_s_with_no_discount_at_the_bottom(
    documents: list[str], n: int, d: float
) -> None:
    if n == 1:
        return  # nltk takes continuation counts from pairs, which a model of single words does not have
    theirs = nltk_model(documents, n, KneserNeyInterpolated, discount=d)
    tables = kneser_ney_tables(count_ngrams(documents, n))
    for context in contexts_of(documents, n):
        for word in VOCABULARY:
            ours = kneser_ney_prob(word, context, tables, [0.0] + [d] * (n - 1), len(VOCABULARY))
            assert ours == pytest.approx(theirs.score(word, context), abs=1e-12)


class DownToUniform(KneserNey):
    """nltk's Kneser–Ney, whose single words are discounted too and interpolated with a uniform distribution."""

    def unigram_score(self, word: str) -> float:
        count, total = self._continuation_counts(word)
        seen = sum(self._continuation_counts(each)[0] > 0 for each in VOCABULARY)
        return (max(count - self.discount, 0) + self.discount * seen / len(VOCABULARY)) / total


class KneserNeyDownToUniform(InterpolatedLanguageModel):
    def __init__(self, order: int, discount: float, **rest: object) -> None:
        super().__init__(
            DownToUniform, order, params={"discount": discount, "order": order}, **rest
        )


@given(documents=texts, n=st.integers(2, 4), d=discount)
def test_kneser_ney_is_nltk_s_with_a_uniform_floor(
    documents: list[str], n: int, d: float
) -> None:
    theirs = nltk_model(documents, n, KneserNeyDownToUniform, discount=d)
    tables = kneser_ney_tables(count_ngrams(documents, n))
    for context in contexts_of(documents, n):
        for word in VOCABULARY:
            ours = kneser_ney_prob(word, context, tables, [d] * n, len(VOCABULARY))
            assert ours == pytest.approx(theirs.score(word, context), abs=1e-12)


def test_on_riverbank_kneser_ney_is_nltk_s() -> None:
    """A real text: every token of a few documents, three words of context."""
    documents = [document.tokens for document in Town().documents(40, seed=3)]
    training, test = documents[:36], documents[36:]
    vocabulary = sorted({word for tokens in documents for word in tokens} | {END})
    counter = NgramCounter(list(ngrams(training, m, 4)) for m in range(1, 5))
    theirs = KneserNeyInterpolated(
        4, discount=0.75, vocabulary=Vocabulary([*vocabulary, START]), counter=counter
    )
    tables = kneser_ney_tables(count_ngrams(training, 4))
    for gram in itertools.islice(ngrams(test, 4, 4), 120):
        ours = kneser_ney_prob(gram[-1], gram[:-1], tables, [0, 0.75, 0.75, 0.75], len(vocabulary))
        assert ours == pytest.approx(theirs.score(gram[-1], gram[:-1]), abs=1e-12)


def test_with_nltk_s_own_padding_its_probabilities_do_not_add_up() -> None:
    """Why the tests above give nltk our n-grams: see the head of this file."""
    sentences = [list("abc"), list("bcab"), list("cab")]
    grams, padded_text = padded_everygram_pipeline(3, sentences)
    theirs = KneserNeyInterpolated(3, discount=0.75)
    theirs.fit(grams, padded_text)
    after_start = sum(theirs.score(word, ("<s>",)) for word in theirs.vocab)
    inside = sum(theirs.score(word, ("a",)) for word in theirs.vocab)
    assert inside == pytest.approx(1, abs=1e-12)
    assert after_start > 1.01


# --- the other models against nltk ---------------------------------------------------------------


@given(documents=texts, n=orders, k=st.floats(0.001, 3))
def test_add_k_is_nltk_s_lidstone(documents: list[str], n: int, k: float) -> None:
    table = count_ngrams(documents, n)
    lidstone = nltk_model(documents, n, Lidstone, gamma=k)
    laplace, plain = nltk_model(documents, n, Laplace), nltk_model(documents, n, MLE)
    n_words = len(theirs_vocabulary())  # nltk counts START and its <UNK> among the words
    for context in contexts_of(documents, n):
        if len(context) != n - 1:
            continue
        for word in VOCABULARY:
            assert add_k_prob(word, context, table, k, n_words) == pytest.approx(
                lidstone.score(word, context), abs=1e-12
            )
            assert add_k_prob(word, context, table, 1, n_words) == pytest.approx(
                laplace.score(word, context), abs=1e-12
            )
            assert add_k_prob(word, context, table, 0, n_words) == pytest.approx(
                plain.score(word, context), abs=1e-12
            )


@given(documents=texts, n=orders, k=st.floats(0.001, 3), d=discount, seed=st.integers(0, 2**31))
def test_probabilities_add_up_to_one_after_every_context(
    documents: list[str], n: int, k: float, d: float, seed: int
) -> None:
    rng = random.Random(seed)
    plain = [count_ngrams(documents, m) for m in range(1, n + 1)]
    tables = kneser_ney_tables(count_ngrams(documents, n))
    discounts = [rng.random() for _ in range(n)]
    weights = [rng.random() + 1e-3 for _ in range(n + 1)]
    weights = [weight / sum(weights) for weight in weights]
    size = len(VOCABULARY)
    for context in contexts_of(documents, n):
        sums = {
            "Kneser–Ney": sum(kneser_ney_prob(w, context, tables, discounts, size) for w in VOCABULARY),
            "one discount": sum(kneser_ney_prob(w, context, tables, [d] * n, size) for w in VOCABULARY),
        }
        if len(context) == n - 1:
            sums["add k"] = sum(add_k_prob(w, context, plain[-1], k, size) for w in VOCABULARY)
            sums["interpolated"] = sum(
                interpolated_prob(w, context, plain, weights, size) for w in VOCABULARY
            )
        for name, total in sums.items():
            assert total == pytest.approx(1, abs=1e-12), (name, context)


def test_kneser_ney_by_hand() -> None:
    """"the king rules", "the queen rules", "the king sees": P(king | the) with discounts of ½."""
    documents = [s.split() for s in ("the king rules", "the queen rules", "the king sees")]
    tables = kneser_ney_tables(count_ngrams(documents, 2))
    # Pairs of words: START the, the king, the queen, king rules, queen rules, king sees, rules END, sees END.
    assert tables[0] == {(): Counter(rules=2, the=1, king=1, queen=1, sees=1) + Counter({END: 2})}
    lowest = (1 - 0.5) / 8 + 0.5 * 6 / 8 / 7
    by_hand = (2 - 0.5) / 3 + 0.5 * 2 / 3 * lowest
    assert kneser_ney_prob("king", ("the",), tables, [0.5, 0.5], 7) == pytest.approx(by_hand)


@given(documents=texts, n=orders)
def test_orders_by_their_definition(documents: list[str], n: int) -> None:
    tables = [count_ngrams(documents, m) for m in range(1, n + 1)]
    for context in contexts_of(documents, n):
        if len(context) != n - 1:
            continue
        for word in VOCABULARY:
            expected = [1 / len(VOCABULARY)]
            for m in range(n):
                followers = tables[m].get(context[len(context) - m :], Counter())
                total = followers.total()
                expected.append(followers[word] / total if total else expected[-1])
            assert order_probs(word, context, tables, len(VOCABULARY)) == expected


@given(seed=st.integers(0, 2**31), n_orders=st.integers(2, 5))
def test_em_makes_held_out_text_most_probable(seed: int, n_orders: int) -> None:
    g = torch.Generator().manual_seed(seed)
    probs = torch.rand(40, n_orders, generator=g, dtype=torch.float64) ** 3 + 1e-3
    scores = []
    for steps in (0, 1, 2, 5, 20, 500):
        weights = em_weights(probs, steps)
        assert weights.sum().item() == pytest.approx(1, abs=1e-12)
        assert bool((weights >= 0).all())
        scores.append((probs @ weights).log().mean().item())
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(scores))
    # At the best weights of a concave problem no direction leads uphill (Karush–Kuhn–Tucker).
    slope = (probs / (probs @ weights)[:, None]).mean(dim=0)
    assert slope.max().item() <= 1 + 2e-2


def test_samples_follow_the_probabilities() -> None:
    documents = ["abcab", "bca", "ccab", "ab"]
    tables, discounts = kneser_ney_tables(count_ngrams(documents, 3)), [0.4, 0.6, 0.8]
    rng, draws = random.Random(0), 20_000
    for context in (("a", "b"), ("unseen", "a"), ("unseen", "unseen"), (), ("c", "b", "c", "a")):
        found = Counter(
            kneser_ney_sample(context, tables, discounts, VOCABULARY, rng) for _ in range(draws)
        )
        for word in VOCABULARY:
            p = kneser_ney_prob(word, context, tables, discounts, len(VOCABULARY))
            assert abs(found[word] / draws - p) < 4.5 * math.sqrt(p * (1 - p) / draws) + 1e-9


# --- measures ------------------------------------------------------------------------------------


@given(documents=texts)
def test_perplexity_is_nltk_s(documents: list[str]) -> None:
    training = ["abcde", "edcba", "aabbccddee"]
    theirs = nltk_model(training, 2, Laplace)
    table = count_ngrams(training, 2)
    log_probs, lengths = log_probs_of(
        lambda word, context: add_k_prob(word, context, table, 1, len(theirs_vocabulary())), documents, 1
    )
    assert lengths.tolist() == [len(text) + 1 for text in documents]
    expected = theirs.perplexity(list(ngrams(documents, 2, 2)))
    assert perplexity(log_probs, lengths).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(any),
    padding=st.sampled_from([0.0, -3.0, math.nan, -math.inf, math.inf]),
)
def test_measures_agree_with_cross_entropy(
    dtype: torch.dtype, seed: int, lengths: list[int], padding: float
) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(lengths), 8, 5, generator=g, dtype=dtype)
    targets = torch.randint(5, (len(lengths), 8), generator=g)
    real = torch.arange(8) < torch.tensor(lengths)[:, None]
    loss = nn.functional.cross_entropy(logits[real], targets[real])
    log_probs = logits.log_softmax(-1).gather(2, targets[:, :, None])[:, :, 0]
    log_probs = log_probs.masked_fill(~real, padding)
    found = perplexity(log_probs, torch.tensor(lengths))
    assert found.dtype == dtype
    assert found.shape == ()
    torch.testing.assert_close(found, loss.exp(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    characters = torch.tensor(lengths) * 5 + 1
    bits = bits_per_character(log_probs, torch.tensor(lengths), characters)
    expected = loss / math.log(2) * sum(lengths) / characters.sum()
    torch.testing.assert_close(bits, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@given(text=st.text(WORDS, min_size=1, max_size=9), position=st.integers(0, 8), n=orders)
def test_what_comes_later_changes_nothing(text: str, position: int, n: int) -> None:
    tables = kneser_ney_tables(count_ngrams(["abcab", "bca", "ccab"], n))
    position = min(position, len(text) - 1)
    changed = text[:position] + "e" * (len(text) - position)

    def model(word: str, context: Context) -> float:
        assert len(context) == n - 1
        return kneser_ney_prob(word, context, tables, [0.75] * n, len(VOCABULARY))

    before, _ = log_probs_of(model, [text], n - 1)
    after, _ = log_probs_of(model, [changed], n - 1)
    assert torch.equal(before[0, :position], after[0, :position])


# --- Bengio's model ------------------------------------------------------------------------------


def reference(model: WindowLM, window: int, d: int) -> tuple[nn.Module, nn.Linear | None]:
    """Return PyTorch's own layers with the model's weights: the hidden path and the direct one."""
    n_inputs, (n_hidden, n_words) = len(model.C), model.U.shape
    path = nn.Sequential(
        nn.Embedding(n_inputs, d),
        nn.Flatten(),
        nn.Linear(window * d, n_hidden),
        nn.Tanh(),
        nn.Linear(n_hidden, n_words),
    ).to(model.C.dtype)
    direct = None
    if model.W is not None:
        direct = nn.Linear(window * d, n_words, bias=False).to(model.C.dtype)
    with torch.no_grad():
        path[0].weight.copy_(model.C)
        path[2].weight.copy_(model.H.T)
        path[2].bias.copy_(model.a)
        path[4].weight.copy_(model.U.T)
        path[4].bias.copy_(model.b)
        if direct is not None:
            direct.weight.copy_(model.W.T)
    return path, direct


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 4),
    window=st.integers(1, 5),
    d=st.integers(1, 6),
    n_hidden=st.integers(1, 7),
    n_words=st.integers(1, 9),
    direct=st.booleans(),
)
def test_window_lm_and_its_gradients_agree_with_torch_layers(
    training: bool,
    dtype: torch.dtype,
    seed: int,
    batch: int,
    window: int,
    d: int,
    n_hidden: int,
    n_words: int,
    direct: bool,
) -> None:
    torch.manual_seed(seed)
    model = WindowLM(n_words, n_words + 1, window, d, n_hidden, direct).to(dtype).train(training)
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(torch.randn_like(each) / 2)
    context = torch.randint(n_words + 1, (batch, window))
    cotangent = torch.randn(batch, n_words, dtype=dtype)
    path, straight = reference(model, window, d)
    expected = path(context)
    if straight is not None:
        expected = expected + straight(path[1](path[0](context)))
    logits = model(context)

    def close(got: Tensor, wanted: Tensor) -> None:
        assert got.dtype == wanted.dtype == dtype
        torch.testing.assert_close(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    close(logits, expected)
    (logits * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    close(model.C.grad, path[0].weight.grad)
    close(model.H.grad, path[2].weight.grad.T)
    close(model.a.grad, path[2].bias.grad)
    close(model.U.grad, path[4].weight.grad.T)
    close(model.b.grad, path[4].bias.grad)
    if straight is not None:
        close(model.W.grad, straight.weight.grad.T)


def test_window_lm_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    context = torch.tensor([[0, 2], [1, 1], [3, 0]])
    shapes = [(4, 3), (6, 5), (5,), (5, 4), (4,), (6, 4)]
    weights = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *each: window_lm_forward(context, *each), weights)


def test_window_lm_runs_on(device: str) -> None:
    model = WindowLM(7, 8, window=3, d=4, n_hidden=5, direct=True).to(device)
    logits = model(torch.randint(8, (2, 3), device=device))
    assert logits.shape == (2, 7)
    assert logits.device.type == device


@given(documents=texts, window=st.integers(1, 5))
def test_windows_are_the_contexts_of_ngrams(documents: list[str], window: int) -> None:
    number_of = {word: i for i, word in enumerate((*WORDS, END, START))}
    contexts, targets = windows_of(documents, window, number_of)
    names = list(number_of)
    found = [
        (*(names[i] for i in context), names[target])
        for context, target in zip(contexts.tolist(), targets.tolist())
    ]
    assert found == list(ngrams(documents, window + 1, window + 1))


def test_a_table_is_a_plain_dictionary() -> None:
    """Looking up a context that was never seen must not put it there."""
    table: Table = count_ngrams(["ab"], 2)
    size = len(table)
    add_k_prob("a", ("unseen",), table, 1, 4)
    kneser_ney_prob("a", ("unseen",), [continuation_counts(table), table], [0.5, 0.5], 4)
    assert len(table) == size
