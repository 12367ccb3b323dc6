"""Language models with a fixed window: n-gram counts, smoothing, Kneser–Ney, and Bengio's neural model (lesson 04)."""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.models.ngrams import END, START, Context, Model, Table

# --- Counting ---------------------------------------------------------------------------------


def count_ngrams(documents: Iterable[Sequence[str]], n: int) -> Table:
    """Count which words follow each context of n − 1 words.

    Args:
        documents: each a sequence of tokens (a string is one of characters). START is put before it as
            often as the context is long, END behind it.
        n: the length of the n-grams, at least 1.

    Returns:
        For each context that occurs, how often each word follows it.

    """
    table: Table = {}
    for tokens in documents:
        padded = [START] * (n - 1) + [*tokens, END]
        for i in range(n - 1, len(padded)):
            context, word = tuple(padded[i - n + 1 : i]), padded[i]
            table.setdefault(context, Counter())[word] += 1
    return table


def last_words(context: Context, length: int) -> Context:
    """Return the last ``length`` words of a context, also where that is none at all."""
    return context[len(context) - length :]


# --- How good is a model? ---------------------------------------------------------------------


def log_probs_of(
    model: Model, documents: Iterable[Sequence[str]], window: int
) -> tuple[Float[Tensor, "batch n"], Int[Tensor, "batch"]]:
    """Ask a model for the log-probability of each token of each document, its END included.

    Args:
        model: gives the probability of a word after a context of ``window`` words.
        documents: the texts.
        window: how many words before it the model may look at; START stands before the first.

    Returns:
        Natural logarithms, padded with 0 at the end (float64), and the number of tokens of each document,
        END included. A word of probability 0 gets −∞.

    """
    rows = []
    for tokens in documents:
        padded = [START] * window + [*tokens, END]
        probs = [
            model(padded[i], tuple(padded[i - window : i])) for i in range(window, len(padded))
        ]
        rows.append(torch.tensor(probs, dtype=torch.float64).log())  # (tokens + 1,)
    lengths = torch.tensor([len(row) for row in rows])  # (batch,)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def perplexity(
    log_probs: Float[Tensor, "batch n"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, ""]:
    """Return the perplexity per token, exp(−mean log-probability over all tokens of all texts).

    Args:
        log_probs: natural logarithms of the probabilities that a model gave to the tokens that came. What
            stands behind a text's length is padding and may be anything, −∞ and NaN included.
        lengths: the number of tokens of each text.

    Returns:
        A tensor without axes, of the log-probabilities' dtype; infinite if a token had probability 0.

    """
    ### BEGIN SOLUTION
    places = torch.arange(log_probs.shape[1], device=log_probs.device)  # (n,)
    real = places < lengths[:, None]  # (batch, n)
    # `where` and not `*`: 0 · NaN would be NaN.
    total = torch.where(real, log_probs, 0.0).sum()  # ()
    return torch.exp(-total / lengths.sum())  # ()
    ### END SOLUTION


def bits_per_character(
    log_probs: Float[Tensor, "batch n"],
    lengths: Int[Tensor, "batch"],
    characters: Int[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """Return how many bits a model needs for one character of the texts, on average over all characters.

    Args:
        log_probs: as in ``perplexity``.
        lengths: the number of tokens of each text.
        characters: the number of characters of each text.

    Returns:
        A tensor without axes, of the log-probabilities' dtype.

    """
    ### BEGIN SOLUTION
    nats = perplexity(log_probs, lengths).log() * lengths.sum()  # (), for all the texts together
    return nats / math.log(2) / characters.sum()  # ()
    ### END SOLUTION


# --- Smoothing --------------------------------------------------------------------------------


def add_k_prob(word: str, context: Context, table: Table, k: float, n_words: int) -> float:
    """Return P(word | context) with k added to each count (k = 1: Laplace).

    Args:
        word: the word.
        context: as long as the table's contexts.
        table: the counts of n-grams.
        k: what is added; 0 gives the plain relative frequency, or 0 after a context never seen.
        n_words: how many different words can follow, END included.

    """
    followers = table.get(context, Counter())
    total = followers.total() + k * n_words
    return (followers[word] + k) / total if total > 0 else 0.0


def order_probs(word: str, context: Context, tables: Sequence[Table], n_words: int) -> list[float]:
    """Return P(word | the last m words of the context) by relative frequency, for m = 0, 1, 2 …

    The first entry is 1/n_words. Where the last m words were never seen, the entry before is repeated.
    """
    probs = [1 / n_words]
    for m, table in enumerate(tables):
        followers = table.get(last_words(context, m))
        probs.append(followers[word] / followers.total() if followers else probs[-1])
    return probs


def interpolated_prob(
    word: str, context: Context, tables: Sequence[Table], weights: Sequence[float], n_words: int
) -> float:
    """Return the weighted mean of all orders' relative frequencies (Jelinek and Mercer 1980).

    Args:
        word: the word.
        context: at least as long as the longest context of the tables.
        tables: ``tables[m]`` counts what followed contexts of m words.
        weights: one for 1/n_words and one for each table, which add up to 1.
        n_words: how many different words can follow, END included.

    """
    probs = order_probs(word, context, tables, n_words)
    return sum(weight * prob for weight, prob in zip(weights, probs))


def em_weights(
    probs: Float[Tensor, "n_tokens n_orders"], steps: int = 30
) -> Float[Tensor, "n_orders"]:
    """Return the weights of a mixture that make held-out tokens most probable, by expectation–maximisation.

    Args:
        probs: for each held-out token, the probability that each order gives to it.
        steps: how often the weights are improved.

    """
    weights = torch.full((probs.shape[1],), 1 / probs.shape[1], dtype=probs.dtype)  # (n_orders,)
    for _ in range(steps):
        share = weights * probs  # (n_tokens, n_orders)
        share = share / share.sum(dim=1, keepdim=True)  # how far each order answers for each token
        weights = share.mean(dim=0)  # (n_orders,)
    return weights


# --- Kneser–Ney -------------------------------------------------------------------------------


def continuation_counts(table: Table) -> Table:
    """Count, for each n-gram without its first word, how many different words stood in front of it.

    Kneser and Ney 1995, "Improved Backing-off for M-gram Language Modeling".

    Args:
        table: counts of n-grams, n ≥ 2; a context has n − 1 words.

    Returns:
        A table whose contexts have n − 2 words: ``result[context][word]`` is the number of different words
        v such that ``word`` was seen after ``(v, *context)``.

    """
    ### BEGIN SOLUTION
    shorter: Table = {}
    for context, followers in table.items():
        for word in followers:  # each word once, however often it followed
            shorter.setdefault(context[1:], Counter())[word] += 1
    return shorter
    ### END SOLUTION


def kneser_ney_tables(table: Table) -> list[Table]:
    """Return the tables of a Kneser–Ney model: plain counts of n-grams last, continuation counts before.

    Args:
        table: the counts of n-grams; it becomes the last table.

    Returns:
        n tables; ``tables[m]`` has contexts of m words.

    """
    tables = [table]
    while tables[0] and () not in tables[0]:
        tables.insert(0, continuation_counts(tables[0]))
    return tables


def discount_of(table: Table) -> float:
    """Return the discount that suits a table, n₁ / (n₁ + 2 n₂), nᵣ being how many entries are r.

    Ney, Essen and Kneser 1994, "On Structuring Probabilistic Dependences in Stochastic Language Modelling",
    by leaving one out. Where the table has no entry of 1 it is 0.
    """
    size = Counter(count for followers in table.values() for count in followers.values())
    return size[1] / (size[1] + 2 * size[2]) if size[1] else 0.0


def kneser_ney_prob(
    word: str,
    context: Context,
    tables: Sequence[Mapping[Context, Counter[str]]],
    discounts: Sequence[float],
    n_words: int,
) -> float:
    """Interpolated Kneser–Ney: P(word | context), from the shortest context to the longest.

    Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 2.7
    and, for a uniform distribution below the unigrams, section 2.3.

    Args:
        word: the word; it need not have been seen.
        context: the words before it, any number; more than the tables know are not looked at.
        tables: ``tables[m]`` holds, for contexts of m words, the counts of what follows (plain counts in the
            last table, continuation counts in the others).
        discounts: what is taken off each count of each table, from 0 to 1.
        n_words: how many different words can follow, END included.

    Returns:
        The probability. A context that was never seen changes nothing: its shorter end speaks for it.

    """
    ### BEGIN SOLUTION
    prob = 1 / n_words  # knowing nothing
    for m, (table, discount) in enumerate(zip(tables, discounts)):
        followers = table.get(context[len(context) - m :]) if m <= len(context) else None
        if followers is None:
            break  # never seen, so neither was anything longer
        total = followers.total()
        kept = max(followers[word] - discount, 0) / total
        freed = discount * len(followers) / total  # what the discounts took off
        prob = kept + freed * prob
    return prob
    ### END SOLUTION


def kneser_ney_sample(
    context: Context,
    tables: Sequence[Table],
    discounts: Sequence[float],
    words: Sequence[str],
    rng: random.Random,
) -> str:
    """Draw a word from interpolated Kneser–Ney: keep to the context's own followers, or forget its first word.

    Args:
        context: the words before it.
        tables: as in ``kneser_ney_prob``.
        discounts: as in ``kneser_ney_prob``.
        words: all words that can follow, END included.
        rng: the source of chance.

    """
    for m in reversed(range(min(len(context) + 1, len(tables)))):
        followers = tables[m].get(last_words(context, m))
        if followers is None:
            continue
        freed = discounts[m] * len(followers) / followers.total()
        if rng.random() >= freed:
            kept = [count - discounts[m] for count in followers.values()]
            return rng.choices(list(followers), kept)[0]
    return rng.choice(words)


# --- Bengio's neural language model -----------------------------------------------------------


def window_lm_forward(
    context: Int[Tensor, "batch window"],
    C: Float[Tensor, "n_inputs d"],
    H: Float[Tensor, "window_d n_hidden"],
    a: Float[Tensor, "n_hidden"],
    U: Float[Tensor, "n_hidden n_words"],
    b: Float[Tensor, "n_words"],
    W: Float[Tensor, "window_d n_words"] | None = None,
) -> Float[Tensor, "batch n_words"]:
    """The neural language model of Bengio et al. 2003: logits b + xW + tanh(a + xH)U of the next word.

    "A Neural Probabilistic Language Model", JMLR 3, section 2, equation 1, with row vectors (their d is a).

    Args:
        context: the numbers of the last words, oldest first.
        C: the word vectors.
        H: weights from the window's vectors, one after the other, to the hidden layer (window_d = window · d).
        a: the hidden layer's bias.
        U: weights from the hidden layer to the words.
        b: the words' bias.
        W: weights from the window's vectors straight to the words; None leaves this path out.

    Returns:
        The logits: no softmax.

    """
    ### BEGIN SOLUTION
    x = C[context].flatten(1)  # (batch, window · d): the vectors side by side, oldest first
    hidden = torch.tanh(x @ H + a)  # (batch, n_hidden)
    logits = hidden @ U + b  # (batch, n_words)
    return logits if W is None else logits + x @ W  # (batch, n_words)
    ### END SOLUTION


class WindowLM(nn.Module):
    """Bengio's neural language model with its parameters.

    Args:
        n_words: how many words can be predicted.
        n_inputs: how many tokens can stand in the window (the words and START).
        window: how many tokens it sees.
        d: the width of a word vector.
        n_hidden: the width of the hidden layer.
        direct: whether the window's vectors also go straight to the words.

    """

    def __init__(
        self,
        n_words: int,
        n_inputs: int,
        window: int,
        d: int,
        n_hidden: int,
        direct: bool = False,
    ) -> None:
        super().__init__()

        def normal(n_in: int, n_out: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(n_in, n_out) / n_in**0.5)

        self.C = nn.Parameter(0.1 * torch.randn(n_inputs, d))
        self.H, self.a = normal(window * d, n_hidden), nn.Parameter(torch.zeros(n_hidden))
        self.U, self.b = normal(n_hidden, n_words), nn.Parameter(torch.zeros(n_words))
        self.W = nn.Parameter(torch.zeros(window * d, n_words)) if direct else None

    def forward(self, context: Int[Tensor, "batch window"]) -> Float[Tensor, "batch n_words"]:
        """Return the logits of the next word."""
        return window_lm_forward(context, self.C, self.H, self.a, self.U, self.b, self.W)


def windows_of(
    documents: Iterable[Sequence[str]], window: int, number_of: Mapping[str, int]
) -> tuple[Int[Tensor, "n_tokens window"], Int[Tensor, "n_tokens"]]:
    """Cut documents into windows of word numbers, each with the number of the word that follows it.

    Args:
        documents: the texts; START stands before each, END behind it.
        window: how many tokens a window has.
        number_of: the number of each word, of START and of END.

    """
    stream: list[int] = []
    for tokens in documents:
        stream += [number_of[token] for token in ([START] * window + [*tokens, END])]
    pieces = torch.tensor(stream).unfold(0, window + 1, 1)  # (…, window + 1)
    # A window that reaches over the end of a document ends in START, which is never predicted.
    pieces = pieces[pieces[:, -1] != number_of[START]]  # (n_tokens, window + 1)
    return pieces[:, :-1], pieces[:, -1]
