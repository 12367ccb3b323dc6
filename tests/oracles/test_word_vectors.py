"""Lesson 01's finished parts agree with autograd, gensim, SciPy and torch.optim."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from course_lib.data.riverbank import Town
from course_lib.models import word_vectors as wv
from course_lib.models.corpus import Corpus, Recipe, initial_vectors
from course_lib.models.plane import plane
from course_lib.runtime import CourseError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def texts():
    return [document.tokens for document in Town().documents(600, seed=3)]


@pytest.fixture(scope="module")
def corpus(texts):
    return Corpus.from_documents(texts)


@pytest.fixture(scope="module")
def keyed():
    """Random vectors of forty words, of many lengths, as gensim holds them."""
    from gensim.models import KeyedVectors

    g = generator(1)
    vectors = torch.randn(40, 7, generator=g) * 10 ** torch.rand(40, 1, generator=g)
    found = KeyedVectors(7)
    found.add_vectors([f"w{i}" for i in range(40)], vectors.numpy())
    return found, vectors


# --- text as numbers ---------------------------------------------------------------------------


def test_a_corpus_numbers_its_words_by_frequency():
    corpus = Corpus.from_documents([["a", "b", "b"], [], ["c", "b", "a"]])
    assert corpus.words == ("b", "a", "c")
    assert corpus.counts.tolist() == [3, 2, 1]
    assert [corpus.words[i] for i in corpus.ids] == ["a", "b", "b", "c", "b", "a"]
    assert corpus.document.tolist() == [0, 0, 0, 2, 2, 2]


def test_rare_words_are_left_out():
    corpus = Corpus.from_documents([["a", "b", "b"], ["c", "b", "a"]], min_count=2)
    assert corpus.words == ("b", "a")
    assert corpus.ids.tolist() == [1, 0, 0, 0, 1]
    assert corpus.document.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("documents", [[], [[]], [["a"], ["b"]]])
def test_a_corpus_without_words_is_an_error_in_words(documents):
    with pytest.raises(CourseError, match="smaller min_count"):
        Corpus.from_documents(documents, min_count=2)


def test_shuffling_keeps_every_count(corpus):
    shuffled = corpus.shuffled(generator())
    assert not torch.equal(shuffled.ids, corpus.ids)
    assert torch.equal(shuffled.ids.bincount(), corpus.ids.bincount())


# --- counting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("harmonic", [False, True])
@pytest.mark.parametrize("window", [1, 3, 20])
def test_cooccurrence_is_a_double_loop(window, harmonic):
    rng = np.random.default_rng(window)
    texts = [list(rng.choice(list("abcde"), size)) for size in (1, 7, 2, 12)]
    corpus = Corpus.from_documents(texts)
    expected = np.zeros((len(corpus.words),) * 2)
    for text in texts:
        for i, word in enumerate(text):
            for j, context in enumerate(text):
                if 0 < abs(i - j) <= window:
                    weight = 1 / abs(i - j) if harmonic else 1
                    expected[corpus.index[word], corpus.index[context]] += weight
    found = wv.cooccurrence(corpus, window, harmonic)
    assert isinstance(found, scipy.sparse.csr_array)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-12)


def test_unsmoothed_pmi_is_gensims():
    """Gensim's scorer gives ln(P(ab) / P(a)P(b)) / −ln P(ab), from counts of the two words and the pair."""
    from gensim.models.phrases import npmi_scorer

    counts = torch.randint(0, 9, (6, 6), generator=generator(), dtype=torch.float64)
    counts = counts + counts.T
    found, total = wv.ppmi(counts, alpha=1.0), float(counts.sum())
    sums = counts.sum(dim=0).tolist()
    for i in range(6):
        for j in range(6):
            pair = float(counts[i, j])
            if pair == 0:
                assert found[i, j] == 0
                continue
            normalised = npmi_scorer(sums[i], sums[j], pair, 0, 0, total)
            assert float(found[i, j]) == pytest.approx(
                max(0.0, normalised * -math.log(pair / total)), abs=1e-12
            )


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(9, 9), (7, 30), (30, 7)])
def test_svd_is_torchs(shape, power):
    matrix = torch.randn(*shape, generator=generator(), dtype=torch.float64).clamp(min=0)
    found = wv.svd_vectors(matrix, 5, power).double()
    u, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    expected = u[:, :5] * s[:5] ** power
    # The sign of a column is free, so compare the dot products of rows.
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=0), s[:5] ** power, rtol=1e-5, atol=1e-5)
    assert torch.equal(found, wv.svd_vectors(matrix, 5, power).double())


# --- skip-gram ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "k", "d"), [(1, 1, 1), (3, 5, 8), (64, 2, 33)])
def test_gradients_by_hand_are_autograds(batch, k, d, device):
    g = generator(batch)
    shapes = ((batch, d), (batch, d), (batch, k, d))
    inputs = [torch.randn(*s, generator=g, dtype=torch.float64).to(device) for s in shapes]
    leaves = [each.clone().requires_grad_() for each in inputs]
    v, u, n = leaves
    loss = -F.logsigmoid(torch.einsum("bd,bd->b", v, u)).sum()
    loss = loss - F.logsigmoid(-torch.einsum("bd,bkd->bk", v, n)).sum()
    found = wv.sgns_loss_and_grads(*inputs)
    expected = (loss.detach(), *torch.autograd.grad(loss, leaves))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.fixture(scope="module")
def gensims(texts):
    from gensim.models import Word2Vec

    return Word2Vec(
        texts, sg=1, negative=5, vector_size=32, window=5, min_count=1, epochs=8,
        sample=1e-3, alpha=0.05, min_alpha=1e-4, seed=1, workers=1,
    )  # fmt: skip


def test_the_noise_is_gensims(corpus, gensims):
    """Gensim keeps cumulative shares of 2³¹ − 1; its words are in another order where counts are equal."""
    shares = np.diff(gensims.cum_table.astype(np.float64), prepend=0) / gensims.cum_table[-1]
    theirs = dict(zip(gensims.wv.index_to_key, shares))
    table = wv.noise_table(corpus.counts)
    mine = torch.bincount(table, minlength=len(corpus.words)).double() / len(table)
    for word, share in zip(corpus.words, mine.tolist()):
        assert share == pytest.approx(theirs[word], abs=2e-6)


def test_subsampling_keeps_as_gensim_does(corpus, gensims):
    kept = torch.zeros(len(corpus.words))
    draws = 60
    for seed in range(draws):
        # with a window of 1 every kept token but a document's last is a centre for its right neighbour
        centre, _ = wv.skipgram_pairs(corpus, 1, 1e-3, generator(seed))
        kept += torch.bincount(centre, minlength=len(corpus.words))
    for word in corpus.words[:12]:
        probability = min(1.0, gensims.wv.get_vecattr(word, "sample_int") / 2**32)
        i = corpus.index[word]
        # A kept token is a centre once for each neighbour that it has: twice, but at a document's ends.
        share = float(kept[i]) / draws / 2 / int(corpus.counts[i])
        assert share == pytest.approx(probability, rel=0.12)


def test_pairs_stay_inside_windows_and_documents(corpus):
    n_words = len(corpus.words)
    centre, context = wv.skipgram_pairs(corpus, 4, 0, generator())
    seen = wv.cooccurrence(corpus, 4).toarray()
    drawn = torch.bincount(centre * n_words + context, minlength=n_words**2).numpy()
    assert (drawn <= seen.flatten()).all()


def test_every_neighbour_is_a_context_and_far_ones_less_often(corpus):
    """At distance δ a pair is drawn with probability (m − δ + 1) / m; at distance 1 always."""
    by_distance = [wv.cooccurrence(corpus, m).sum() for m in range(5)]
    expected = sum(
        (by_distance[delta] - by_distance[delta - 1]) * (4 - delta + 1) / 4 for delta in range(1, 5)
    )
    centre, _ = wv.skipgram_pairs(corpus, 4, 0, generator())
    assert len(centre) == pytest.approx(expected, rel=0.01)
    nearest, _ = wv.skipgram_pairs(corpus, 1, 0, generator())
    assert len(nearest) == by_distance[1]


def test_adding_rows_adds_twice_where_a_row_stands_twice(device):
    table = torch.zeros(3, 2, device=device)
    rows = torch.tensor([2, 0, 2], device=device)
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], device=device)
    wv.add_rows(table, rows, values)
    assert table.tolist() == [[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]


@pytest.fixture(scope="module")
def trained(corpus):
    return wv.train_sgns(corpus, generator(), Recipe(d=32, epochs=8))


def pair_order(corpus, vectors):
    pairs = [p for p in Town().similarities() if {p[0], p[1]} <= corpus.index.keys()]
    unit = F.normalize(vectors, dim=-1)
    cosines = [float(unit[corpus.index[a]] @ unit[corpus.index[b]]) for a, b, _ in pairs]
    return cosines, [gold for _, _, gold in pairs]


def test_skip_gram_finds_what_gensim_finds(corpus, trained, gensims):
    """The same recipe on the same text: the two order word pairs alike, and serve as well."""
    theirs = torch.from_numpy(np.stack([gensims.wv[word] for word in corpus.words]))
    (mine_cosines, gold), (their_cosines, _) = (
        pair_order(corpus, each) for each in (trained.vectors, theirs)
    )
    assert spearmanr(mine_cosines, their_cosines).statistic > 0.8
    mine = spearmanr(mine_cosines, gold).statistic
    assert mine > spearmanr(their_cosines, gold).statistic - 0.05
    assert mine > 0.4


def test_training_follows_its_seed_and_lowers_the_loss(corpus, trained):
    recipe = Recipe(d=8, epochs=1)
    one, two = (wv.train_sgns(corpus, generator(5), recipe) for _ in range(2))
    assert torch.equal(one.vectors, two.vectors)
    assert not torch.equal(one.vectors, wv.train_sgns(corpus, generator(6), recipe).vectors)
    assert trained.vectors.shape == trained.contexts.shape == (len(corpus.words), 32)
    assert trained.losses[-20:].mean() < trained.losses[:20].mean() - 0.5
    assert trained.losses[0] == pytest.approx(6 * math.log(2), abs=0.01)  # contexts start at zero


# --- GloVe -------------------------------------------------------------------------------------


def test_glove_is_adagrad_on_weighted_squares(corpus):
    """With all pairs in one batch, training equals torch.optim.Adagrad on the loss, by autograd."""
    counts = wv.cooccurrence(corpus, 3, harmonic=True)[:50, :50]
    found = wv.train_glove(
        counts, generator(7), d=6, epochs=4, x_max=5, batch=10**6, learning_rate=0.3
    )
    g = generator(7)
    parameters = [initial_vectors(50, 7, g).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.Adagrad(parameters, lr=0.3, initial_accumulator_value=1.0, eps=0.0)
    x = torch.from_numpy(counts.toarray())
    i, j = x.nonzero(as_tuple=True)
    for _ in range(4):
        words, contexts = parameters
        model = (words[i, :-1] * contexts[j, :-1]).sum(-1) + words[i, -1] + contexts[j, -1]
        weight = torch.minimum(torch.ones(()), (x[i, j] / 5) ** 0.75)
        loss = (weight * (model - x[i, j].log()) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    words, contexts = (each.detach() for each in parameters)
    torch.testing.assert_close(
        found.vectors, words[:, :-1] + contexts[:, :-1], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found.contexts, contexts[:, :-1], rtol=1e-4, atol=1e-5)


# --- parts of words ----------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(3, 6), (1, 3), (2, 2), (5, 9)])
@pytest.mark.parametrize("word", ["a", "of", "banana", "Élan", "ploughing"])
def test_pieces_are_gensims(word, lengths):
    from gensim.models.fasttext_inner import compute_ngrams

    theirs = [piece for piece in compute_ngrams(word, *lengths)]
    mine = wv.character_ngrams(word, *lengths)
    if f"<{word}>" not in theirs:
        theirs.append(f"<{word}>")  # gensim holds the whole word apart
    assert sorted(mine) == sorted(theirs)


def test_known_words_are_the_means_of_their_pieces(corpus):
    trained = wv.train_fasttext(corpus, generator(), Recipe(d=16, epochs=1))
    for word in ("the", "a", *corpus.words[-3:]):
        expected = torch.stack([trained.table[p] for p in wv.character_ngrams(word)]).mean(0)
        torch.testing.assert_close(trained.vectors[corpus.index[word]], expected)
        torch.testing.assert_close(wv.subword_vector(word, trained.table), expected)


def test_a_fasttext_step_moves_each_piece_by_the_whole_gradient():
    """One document of two words and one batch: the pieces' move can be written down."""
    corpus = Corpus.from_documents([["ab", "cd"]])
    recipe = Recipe(d=4, epochs=2, window=1, k=1, sample=0, batch=10, learning_rate=0.5)
    trained = wv.train_fasttext(corpus, generator(2), recipe)
    g = generator(2)
    pieces = [wv.character_ngrams(word) for word in corpus.words]
    names = list(dict.fromkeys(piece for each in pieces for piece in each))
    z = {name: row for name, row in zip(names, initial_vectors(len(names), 4, g).double())}
    contexts = torch.zeros(2, 4, dtype=torch.float64)
    for c, o, n, rate in wv.training_batches(corpus, g, recipe):
        vectors = torch.stack([torch.stack([z[p] for p in each]).mean(0) for each in pieces])
        moves, context_moves = torch.zeros_like(vectors), torch.zeros_like(contexts)
        for i, j, noise in zip(c.tolist(), o.tolist(), n[:, 0].tolist()):
            v, u, other = vectors[i], contexts[j], contexts[noise]
            pull, push = torch.sigmoid(v @ u) - 1, torch.sigmoid(v @ other)
            moves[i] -= rate * (pull * u + push * other)
            context_moves[j] -= rate * pull * v
            context_moves[noise] -= rate * push * v
        contexts += context_moves
        for each, move in zip(pieces, moves):
            for piece in each:
                z[piece] = z[piece] + move
    for name in names:
        torch.testing.assert_close(trained.table[name].double(), z[name], rtol=1e-5, atol=1e-7)


# --- evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["add", "mul"])
def test_analogies_are_answered_as_gensim_does(keyed, method):
    found, vectors = keyed
    asked = torch.rand(60, 40, generator=generator(3)).argsort(dim=1)[:, :3]
    a, b, c = asked.T
    mine = wv.analogy(vectors, a, b, c) if method == "add" else wv.analogy_mul(vectors, a, b, c)
    for i in range(len(asked)):
        positive, negative = [f"w{b[i]}", f"w{c[i]}"], [f"w{a[i]}"]
        if method == "add":
            theirs = found.most_similar(positive, negative, topn=1)
        else:
            theirs = found.most_similar_cosmul(positive, negative, topn=1)
        assert f"w{mine[i]}" == theirs[0][0]


def test_nearest_words_are_gensims(keyed):
    found, vectors = keyed
    for row in range(0, 40, 7):
        cosines, rows = wv.nearest(vectors, vectors[row], 6)
        theirs = found.most_similar(f"w{row}", topn=5)
        assert [f"w{i}" for i in rows.tolist()] == [f"w{row}", *(name for name, _ in theirs)]
        np.testing.assert_allclose(cosines[1:], [cosine for _, cosine in theirs], atol=1e-6)


@pytest.mark.parametrize("levels", [3, 1000])
def test_rank_correlation_is_scipys(levels):
    x, y = torch.randint(levels, (2, 200), generator=generator(levels)).double()
    y = y + 0.5 * x.round()
    assert wv.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_the_plane_keeps_clusters_apart():
    g = generator(4)
    centres = torch.randn(3, 20, generator=g) * 4
    label = torch.arange(3).repeat_interleave(30)
    vectors = centres[label] + torch.randn(90, 20, generator=g)
    places = plane(vectors, g, perplexity=10)
    assert places.shape == (90, 2)
    assert places.isfinite().all()
    distance = torch.cdist(places, places).fill_diagonal_(math.inf)
    assert (label[distance.argmin(dim=1)] == label).all()
