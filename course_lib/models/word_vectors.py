"""Word vectors: co-occurrence, PPMI and SVD, skip-gram, GloVe, character n-grams, and their evaluation (lesson 01)."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.sparse.linalg import svds
from scipy.stats import rankdata
from torch import Tensor

from course_lib.models.corpus import Corpus, Recipe, Trained, TrainedSubwords, initial_vectors
from course_lib.runtime import progress

# --- Counting ---------------------------------------------------------------------------------


def cooccurrence(corpus: Corpus, window: int = 5, harmonic: bool = False) -> scipy.sparse.csr_array:
    """Count how often each word stands near each other word.

    Args:
        corpus: the text.
        window: how many tokens to each side are near.
        harmonic: count a neighbour at distance δ as 1/δ (GloVe's weighting) instead of 1.

    Returns:
        A symmetric sparse matrix, (n_words, n_words), float64.

    """
    n_words = len(corpus.words)
    counts = scipy.sparse.csr_array((n_words, n_words))
    for distance in range(1, window + 1):
        together = corpus.document[:-distance] == corpus.document[distance:]
        left = corpus.ids[:-distance][together].numpy()  # (n_pairs,)
        right = corpus.ids[distance:][together].numpy()  # (n_pairs,)
        weight = np.full(len(left), 1 / distance if harmonic else 1.0)
        # Building the matrix adds up the weights of equal (left, right).
        counts = counts + scipy.sparse.coo_array((weight, (left, right)), shape=counts.shape)
    return (counts + counts.T).tocsr()


def ppmi(
    counts: Float[Tensor, "n_words n_contexts"], alpha: float = 0.75
) -> Float[Tensor, "n_words n_contexts"]:
    """Positive pointwise mutual information of a table of counts, max(0, log P(w, c) / (P(w) P_α(c))).

    Church and Hanks 1990; the smoothed context distribution P_α(c) ∝ count(c)^α is Levy, Goldberg and
    Dagan 2015, section 3.2.

    Args:
        counts: how often word w (row) was seen with context c (column); not negative, not all zero.
        alpha: the exponent of the contexts' counts; 1 leaves them as they are.

    Returns:
        A tensor of the same shape and dtype; 0 where a pair was never seen.

    """
    ### BEGIN SOLUTION
    total = counts.sum()  # ()
    p_word = counts.sum(dim=1, keepdim=True) / total  # (n_words, 1)
    smoothed = counts.sum(dim=0, keepdim=True) ** alpha  # (1, n_contexts)
    p_context = smoothed / smoothed.sum()  # (1, n_contexts)
    # log 0 = −∞ would be clamped to 0 as well, but 0/0 (an empty row) would stay NaN: so choose by hand.
    seen = counts > 0  # (n_words, n_contexts)
    ratio = torch.where(seen, counts / total / (p_word * p_context), torch.ones_like(counts))
    return ratio.log().clamp(min=0)  # (n_words, n_contexts)
    ### END SOLUTION


def svd_vectors(
    matrix: Float[Tensor, "n_words n_contexts"], d: int, power: float = 0.5
) -> Float[Tensor, "n_words d"]:
    """Return the d strongest directions of a matrix as word vectors, U_d Σ_d^power.

    Levy, Goldberg and Dagan 2015, section 3.3: ``power`` 1 keeps distances of the matrix's rows as well
    as d numbers can; ½ splits the singular values evenly between words and contexts; 0 drops them.
    """
    sparse = scipy.sparse.csr_array(matrix.cpu().numpy())
    # A fixed starting vector: the same matrix gives the same vectors, signs included.
    u, s, _ = svds(sparse, k=d, v0=np.ones(sparse.shape[0]), solver="propack")
    strongest = np.argsort(-s)
    vectors = u[:, strongest] * s[strongest] ** power  # (n_words, d)
    return torch.from_numpy(vectors).float().to(matrix.device)


# --- Skip-gram with negative sampling ---------------------------------------------------------


def skipgram_pairs(
    corpus: Corpus, window: int, sample: float, generator: torch.Generator
) -> tuple[Int[Tensor, "n_pairs"], Int[Tensor, "n_pairs"]]:
    """Draw one epoch of (centre, context) pairs, in random order.

    As in word2vec (Mikolov et al. 2013b, section 2.3, and its program): first frequent words are
    dropped, then each centre draws its own width from 1 to ``window``, so that near words count more.

    Args:
        corpus: the text.
        window: the largest width to each side.
        sample: words more frequent than this share of the text are thinned; 0 keeps every token.
        generator: decides what is kept, each width, and the order.

    Returns:
        The centre words and the context words.

    """
    ids, document = corpus.ids, corpus.document
    if sample > 0:
        ratio = sample * len(ids) / corpus.counts  # (n_words,)
        keep = ratio.sqrt() + ratio  # (n_words,) a probability where below 1
        kept = torch.rand(len(ids), generator=generator) < keep[ids]  # (n_tokens,)
        ids, document = ids[kept], document[kept]
    width = torch.randint(1, window + 1, (len(ids),), generator=generator)  # (n_kept,)
    centres: list[Tensor] = []
    contexts: list[Tensor] = []
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]  # (n_kept − distance,) each
        together = document[:-distance] == document[distance:]
        to_right = together & (width[:-distance] >= distance)
        to_left = together & (width[distance:] >= distance)
        centres += [left[to_right], right[to_left]]
        contexts += [right[to_right], left[to_left]]
    centre, context = torch.cat(centres), torch.cat(contexts)  # (n_pairs,) each
    order = torch.randperm(len(centre), generator=generator)
    return centre[order], context[order]


def noise_table(
    counts: Int[Tensor, "n_words"], power: float = 0.75, size: int = 1_000_000
) -> Int[Tensor, "size"]:
    """Return a long list in which each word stands in proportion to count^power.

    A random entry of the list is a draw from the noise distribution, which costs one look-up; word2vec's
    own program does the same.
    """
    share = counts.double() ** power
    edges = (share.cumsum(0) / share.sum() * size).round().long()  # (n_words,)
    return torch.searchsorted(edges, torch.arange(size), right=True)


def sgns_loss_and_grads(
    centre: Float[Tensor, "batch d"],
    context: Float[Tensor, "batch d"],
    negatives: Float[Tensor, "batch k d"],
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "batch d"],
    Float[Tensor, "batch d"],
    Float[Tensor, "batch k d"],
]:
    """Loss of skip-gram with negative sampling, summed over the batch, and its gradients by hand.

    Mikolov et al. 2013b, "Distributed Representations of Words and Phrases", equation 4, with the sign
    turned: −log σ(v·u) − Σⱼ log σ(−v·nⱼ).

    Args:
        centre: v, the vectors of the centre words.
        context: u, the context vectors of the words that were really there.
        negatives: n₁ … n_k for each pair, the context vectors of words drawn as noise.

    Returns:
        The loss, and its gradients for centre, context and negatives, each of its input's shape.

    """
    ### BEGIN SOLUTION
    true = (centre * context).sum(dim=-1)  # (batch,) v·u
    noise = (centre[:, None, :] * negatives).sum(dim=-1)  # (batch, k) v·n_j
    loss = -F.logsigmoid(true).sum() - F.logsigmoid(-noise).sum()  # ()
    e = torch.sigmoid(true) - 1  # (batch,) ≤ 0: pull together
    e_j = torch.sigmoid(noise)  # (batch, k) ≥ 0: push apart
    g_centre = e[:, None] * context + (e_j[:, :, None] * negatives).sum(dim=1)  # (batch, d)
    g_context = e[:, None] * centre  # (batch, d)
    g_negatives = e_j[:, :, None] * centre[:, None, :]  # (batch, k, d)
    return loss, g_centre, g_context, g_negatives
    ### END SOLUTION


def add_rows(
    table: Float[Tensor, "n_words d"], rows: Int[Tensor, "m"], values: Float[Tensor, "m d"]
) -> None:
    """Add ``values[i]`` to ``table[rows[i]]`` in place; a row that occurs twice gets both."""
    table.scatter_add_(0, rows[:, None].expand_as(values), values)


def training_batches(
    corpus: Corpus, generator: torch.Generator, recipe: Recipe, device: torch.device | str = "cpu"
) -> Iterator[tuple[Int[Tensor, "batch"], Int[Tensor, "batch"], Int[Tensor, "batch k"], float]]:
    """Yield each step's centre, context and noise words, and its learning rate."""
    table = noise_table(corpus.counts)  # (size,)
    for epoch in progress(range(recipe.epochs), desc="epochs"):
        centre, context = skipgram_pairs(corpus, recipe.window, recipe.sample, generator)
        draws = torch.randint(len(table), (len(centre), recipe.k), generator=generator)
        noise = table[draws]  # (n_pairs, k)
        parts = [each.to(device).split(recipe.batch) for each in (centre, context, noise)]
        for step, (c, o, n) in enumerate(zip(*parts)):
            done = (epoch + step / len(parts[0])) / recipe.epochs
            yield c, o, n, recipe.learning_rate * (1 - done)


def train_sgns(
    corpus: Corpus, generator: torch.Generator, recipe: Recipe, device: torch.device | str = "cpu"
) -> Trained:
    """Train word vectors by skip-gram with negative sampling.

    Plain gradient descent on sums over a batch, as if its pairs came one after the other.

    Args:
        corpus: the text.
        generator: a CPU generator; starting vectors, pairs and noise are the same on every device.
        recipe: sizes and rates.
        device: where the vectors live.

    """
    vectors = initial_vectors(len(corpus.words), recipe.d, generator, device)  # (n_words, d)
    contexts = torch.zeros_like(vectors)  # (n_words, d)
    losses, n_pairs = [], 0
    for c, o, n, rate in training_batches(corpus, generator, recipe, device):
        loss, g_c, g_o, g_n = sgns_loss_and_grads(
            F.embedding(c, vectors), F.embedding(o, contexts), F.embedding(n, contexts)
        )
        add_rows(vectors, c, -rate * g_c)
        add_rows(contexts, o, -rate * g_o)
        add_rows(contexts, n.flatten(), -rate * g_n.flatten(0, 1))
        losses.append(loss / len(c))
        n_pairs += len(c)
    return Trained(vectors, contexts, torch.stack(losses).cpu(), n_pairs)


# --- GloVe ------------------------------------------------------------------------------------


def glove_weight(
    counts: Float[Tensor, "m"], x_max: float, alpha: float = 0.75
) -> Float[Tensor, "m"]:
    """Return how much each count matters, min(1, (x / x_max)^α): Pennington et al. 2014, equation 9."""
    return (counts / x_max).clamp(max=1) ** alpha


def train_glove(
    counts: scipy.sparse.csr_array,
    generator: torch.Generator,
    d: int = 64,
    epochs: int = 25,
    x_max: float = 10.0,
    batch: int = 4096,
    learning_rate: float = 0.1,
    device: torch.device | str = "cpu",
) -> Trained:
    """Train GloVe vectors: weighted least squares on the logarithms of co-occurrence counts.

    Pennington, Socher and Manning 2014, equation 8, by AdaGrad (section 4.2) on the sum over a batch.

    Args:
        counts: how often each pair of words was seen together.
        generator: a CPU generator, for the starting vectors and the order of the pairs.
        d: the width of the vectors.
        epochs: how often the pairs are gone through.
        x_max: the count from which on a pair has full weight.
        batch: pairs in one step.
        learning_rate: AdaGrad's rate.
        device: where the vectors live.

    Returns:
        The training; a word's vector is the sum of its two roles, as in section 4.2.

    """
    pairs = counts.tocoo()
    row, column = (torch.from_numpy(each.astype(np.int64)).to(device) for each in pairs.coords)
    x = torch.from_numpy(pairs.data).float().to(device)  # (n_pairs,)
    target, weight = x.log(), glove_weight(x, x_max)  # (n_pairs,) each
    # The last number of each row is the bias.
    words = initial_vectors(counts.shape[0], d + 1, generator, device)  # (n_words, d + 1)
    contexts = initial_vectors(counts.shape[0], d + 1, generator, device)  # (n_words, d + 1)
    squares = torch.ones_like(words), torch.ones_like(contexts)  # AdaGrad's sums start at 1
    losses = []
    for _ in progress(range(epochs), desc="epochs"):
        for some in torch.randperm(len(x), generator=generator).to(device).split(batch):
            i, j = row[some], column[some]  # (batch,) each
            w, c = F.embedding(i, words), F.embedding(j, contexts)  # (batch, d + 1) each
            model = (w[:, :-1] * c[:, :-1]).sum(dim=-1) + w[:, -1] + c[:, -1]  # (batch,)
            error = model - target[some]  # (batch,)
            losses.append((weight[some] * error**2).mean())
            g = (2 * weight[some] * error)[:, None]  # (batch, 1)
            g_w = torch.cat([g * c[:, :-1], g], dim=1)  # (batch, d + 1); a bias enters as it is
            g_c = torch.cat([g * w[:, :-1], g], dim=1)  # (batch, d + 1)
            adagrad_rows(words, squares[0], i, g_w, learning_rate)
            adagrad_rows(contexts, squares[1], j, g_c, learning_rate)
    both = words[:, :-1] + contexts[:, :-1]  # (n_words, d)
    return Trained(both, contexts[:, :-1], torch.stack(losses).cpu(), epochs * len(x))


def adagrad_rows(
    table: Float[Tensor, "n_words d"],
    squares: Float[Tensor, "n_words d"],
    rows: Int[Tensor, "m"],
    grads: Float[Tensor, "m d"],
    learning_rate: float,
) -> None:
    """Take one AdaGrad step in place: each number is divided by the root of its summed squared gradients."""
    total = torch.zeros_like(table)  # (n_words, d)
    add_rows(total, rows, grads)
    squares += total**2
    table -= learning_rate * total / squares.sqrt()


# --- Parts of words ---------------------------------------------------------------------------


def character_ngrams(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Return the pieces of a word: its n-grams with the boundary marks < and >, and <word> itself.

    Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2.

    Args:
        word: at least one character.
        n_min: the length of the shortest pieces; the marks count as characters.
        n_max: the length of the longest.

    Returns:
        Every n-gram as often as it occurs, and ``<word>`` if it is not one of them already; in any order.

    """
    ### BEGIN SOLUTION
    marked = f"<{word}>"
    pieces = [
        marked[start : start + n]
        for n in range(n_min, n_max + 1)
        for start in range(len(marked) - n + 1)
    ]
    return pieces if marked in pieces else [*pieces, marked]
    ### END SOLUTION


def subword_vector(
    word: str, table: Mapping[str, Float[Tensor, "d"]], n_min: int = 3, n_max: int = 6
) -> Float[Tensor, "d"]:
    """Return a word's vector: the mean of the vectors of those of its pieces that have one.

    Bojanowski et al. 2017, section 3.2 (their program takes the mean where the paper writes a sum).

    Args:
        word: any word, seen in training or not.
        table: the vector of each known piece; not empty.
        n_min: the length of the shortest pieces.
        n_max: the length of the longest.

    Returns:
        The vector; zeros if no piece is known.

    """
    ### BEGIN SOLUTION
    known = [table[piece] for piece in character_ngrams(word, n_min, n_max) if piece in table]
    if not known:
        return torch.zeros_like(next(iter(table.values())))  # (d,)
    return torch.stack(known).mean(dim=0)  # (d,)
    ### END SOLUTION


def train_fasttext(
    corpus: Corpus, generator: torch.Generator, recipe: Recipe, device: torch.device | str = "cpu"
) -> TrainedSubwords:
    """Train skip-gram vectors that are means of piece vectors; the arguments are those of `train_sgns`.

    As in fastText's own program, each piece of a centre word moves by the whole gradient of the word's
    vector, not by its share 1/(number of pieces): so the word itself moves as far as in skip-gram.
    """
    pieces = [character_ngrams(word) for word in corpus.words]
    names = list(dict.fromkeys(piece for each in pieces for piece in each))
    number = {piece: i for i, piece in enumerate(names)}
    # Two lists of the same (word, piece) meetings: by word, to read a word from its pieces; and by
    # piece, to bring to a piece the steps of all words that hold it.
    part = torch.tensor([number[piece] for each in pieces for piece in each])  # (n_parts,)
    lengths = torch.tensor([len(each) for each in pieces])  # (n_words,)
    holder = torch.repeat_interleave(torch.arange(len(pieces)), lengths)[part.argsort()]
    uses = part.bincount()  # (n_pieces,)
    part_starts, holder_starts = lengths.cumsum(0) - lengths, uses.cumsum(0) - uses
    part, part_starts = part.to(device), part_starts.to(device)
    holder, holder_starts = holder.to(device), holder_starts.to(device)

    z = initial_vectors(len(names), recipe.d, generator, device)  # (n_pieces, d)
    contexts = torch.zeros(len(corpus.words), recipe.d, device=device)  # (n_words, d)
    losses, n_pairs = [], 0
    for c, o, n, rate in training_batches(corpus, generator, recipe, device):
        vectors = F.embedding_bag(part, z, part_starts, mode="mean")  # (n_words, d)
        loss, g_c, g_o, g_n = sgns_loss_and_grads(
            F.embedding(c, vectors), F.embedding(o, contexts), F.embedding(n, contexts)
        )
        step = torch.zeros_like(vectors)  # (n_words, d)
        add_rows(step, c, -rate * g_c)
        z += F.embedding_bag(holder, step, holder_starts, mode="sum")  # (n_pieces, d)
        add_rows(contexts, o, -rate * g_o)
        add_rows(contexts, n.flatten(), -rate * g_n.flatten(0, 1))
        losses.append(loss / len(c))
        n_pairs += len(c)
    vectors = F.embedding_bag(part, z, part_starts, mode="mean")  # (n_words, d)
    table = dict(zip(names, z))
    return TrainedSubwords(vectors, contexts, torch.stack(losses).cpu(), n_pairs, table)


# --- Looking at vectors -------------------------------------------------------------------------------


def nearest(
    vectors: Float[Tensor, "n_words d"], query: Float[Tensor, "d"], count: int
) -> tuple[Float[Tensor, "count"], Int[Tensor, "count"]]:
    """Return the largest cosines with ``query`` and the rows that have them, nearest first."""
    cosines = F.normalize(vectors, dim=-1) @ F.normalize(query, dim=-1)  # (n_words,)
    found = cosines.topk(count)
    return found.values, found.indices


def analogy(
    vectors: Float[Tensor, "n_words d"],
    a: Int[Tensor, "n"],
    b: Int[Tensor, "n"],
    c: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    """Answer "a is to b as c is to …?" by 3CosAdd: the word nearest to b − a + c, none of the three.

    Mikolov, Yih and Zweig 2013; Levy and Goldberg 2014a, section 3. All vectors are scaled to length 1
    first; a vector of zeros stays zeros.

    Args:
        vectors: the word vectors.
        a: the row of each question's first word.
        b: of its second.
        c: of its third.

    Returns:
        The row of each answer.

    """
    ### BEGIN SOLUTION
    unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # (n_words, d)
    scores = (unit[b] - unit[a] + unit[c]) @ unit.T  # (n, n_words)
    asked = torch.stack([a, b, c], dim=1)  # (n, 3)
    return scores.scatter(1, asked, -math.inf).argmax(dim=1)  # (n,)
    ### END SOLUTION


def analogy_mul(
    vectors: Float[Tensor, "n_words d"],
    a: Int[Tensor, "n"],
    b: Int[Tensor, "n"],
    c: Int[Tensor, "n"],
    epsilon: float = 1e-3,
) -> Int[Tensor, "n"]:
    """Answer analogies by 3CosMul: cos(x, b) cos(x, c) / (cos(x, a) + ε), cosines moved to [0, 1].

    Levy and Goldberg 2014a, "Linguistic Regularities in Sparse and Explicit Word Representations",
    section 6.
    """
    unit = F.normalize(vectors, dim=-1)  # (n_words, d)

    def cosines(words: Tensor) -> Tensor:
        return (unit[words] @ unit.T + 1) / 2  # (n, n_words)

    scores = cosines(b) * cosines(c) / (cosines(a) + epsilon)  # (n, n_words)
    for word in (a, b, c):
        scores[torch.arange(len(word)), word] = -math.inf
    return scores.argmax(dim=1)  # (n,)


def spearman(x: Float[Tensor, "n"], y: Float[Tensor, "n"]) -> float:
    """Return Spearman's rank correlation: the correlation of the ranks, equal values sharing a mean rank."""
    ranks = np.stack([rankdata(each.detach().cpu().numpy()) for each in (x, y)])  # (2, n)
    return float(np.corrcoef(ranks)[0, 1])
