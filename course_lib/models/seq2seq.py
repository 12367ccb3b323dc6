"""An LSTM translator with one vector or with attention, and beam search (lesson 06)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.models.translation import PAD, Decoded

# --- masks and attention -------------------------------------------------------------------------


def length_mask(lengths: Int[Tensor, "batch"], n: int) -> Bool[Tensor, "batch n"]:
    """Return which positions of a padded batch are real words: True where they are.

    Args:
        lengths: the number of real words of each sentence; they stand first, the padding after them.
        n: the padded length.

    """
    ### BEGIN SOLUTION
    position = torch.arange(n, device=lengths.device)  # (n,)
    return position[None, :] < lengths[:, None]  # (batch, n)
    ### END SOLUTION


def masked_softmax(
    scores: Float[Tensor, "batch n_q n_k"], mask: Bool[Tensor, "batch n_k"]
) -> Float[Tensor, "batch n_q n_k"]:
    """Return a softmax over the keys that the mask shows; the others get exactly 0.

    Args:
        scores: how well each query likes each key.
        mask: True at the keys that are real.

    Returns:
        Weights that sum to 1 for each query; zeros for a sentence without any real key.

    """
    hidden = torch.finfo(scores.dtype).min  # finite, so that a row of nothing else gives no NaN
    weights = scores.masked_fill(~mask[:, None, :], hidden).softmax(dim=-1)  # (batch, n_q, n_k)
    return weights * mask[:, None, :]  # (batch, n_q, n_k)


def additive_attention(
    queries: Float[Tensor, "batch n_q d_q"],
    keys: Float[Tensor, "batch n_k d_k"],
    values: Float[Tensor, "batch n_k d_v"],
    w_query: Float[Tensor, "d_q d_a"],
    w_key: Float[Tensor, "d_k d_a"],
    v: Float[Tensor, "d_a"],
    mask: Bool[Tensor, "batch n_k"],
) -> tuple[Float[Tensor, "batch n_q d_v"], Float[Tensor, "batch n_q n_k"]]:
    """Additive attention: the score of query q and key k is v · tanh(q W_query + k W_key).

    Bahdanau, Cho and Bengio 2015, "Neural Machine Translation by Jointly Learning to Align and Translate",
    section 3.1 and appendix A.1.2.

    Args:
        queries: one row for each position that asks.
        keys: one row for each source word.
        values: what each source word says.
        w_query: turns a query into d_a numbers.
        w_key: turns a key into d_a numbers.
        v: weighs the d_a numbers.
        mask: True at the source words that are real.

    Returns:
        The weighted means of the values, and the weights. Padding has weight 0, and so has everything in a
        sentence without real words, whose outputs are zeros.

    """
    ### BEGIN SOLUTION
    asked = (queries @ w_query)[:, :, None, :]  # (batch, n_q, 1, d_a)
    offered = (keys @ w_key)[:, None, :, :]  # (batch, 1, n_k, d_a)
    scores = torch.tanh(asked + offered) @ v  # (batch, n_q, n_k)
    weights = masked_softmax(scores, mask)  # (batch, n_q, n_k)
    return weights @ values, weights  # (batch, n_q, d_v), (batch, n_q, n_k)
    ### END SOLUTION


def dot_attention(
    queries: Float[Tensor, "batch n_q d"],
    keys: Float[Tensor, "batch n_k d"],
    values: Float[Tensor, "batch n_k d_v"],
    mask: Bool[Tensor, "batch n_k"],
) -> tuple[Float[Tensor, "batch n_q d_v"], Float[Tensor, "batch n_q n_k"]]:
    """Dot-product attention: the score of query q and key k is q · k.

    Luong, Pham and Manning 2015, "Effective Approaches to Attention-based Neural Machine Translation",
    section 3.1. Arguments and results as in `additive_attention`; queries and keys are equally wide.
    """
    weights = masked_softmax(queries @ keys.transpose(1, 2), mask)  # (batch, n_q, n_k)
    return weights @ values, weights


# --- encoder and decoder -------------------------------------------------------------------------


class Memory(NamedTuple):
    """What the encoder keeps of a batch of sentences.

    Attributes:
        words: (B, n, 2 d), for each source word the state after reading it, and its embedding.
        mask: (B, n), True at real words.
        summary: (B, d), the state after the last real word: the one vector.

    """

    words: Tensor
    mask: Tensor
    summary: Tensor


class Encoder(nn.Module):
    """Read sentences with an LSTM, from left to right.

    Args:
        n_words: the size of the source vocabulary.
        d: the width of embeddings and states.

    """

    def __init__(self, n_words: int, d: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, d, padding_idx=PAD)
        self.lstm = nn.LSTM(d, d, batch_first=True)

    def forward(
        self, source: Int[Tensor, "batch n"], lengths: Int[Tensor, "batch"]
    ) -> Memory:
        """Read padded sentences; what stands in the padding changes nothing."""
        embedded = self.embedding(source)  # (B, n, d)
        states, _ = self.lstm(embedded)  # (B, n, d); padding comes last, so no real state has read any
        rows = torch.arange(len(source), device=source.device)  # (B,)
        summary = states[rows, lengths - 1]  # (B, d): after the last real word, not after the last column
        mask = length_mask(lengths, source.shape[1])  # (B, n)
        return Memory(torch.cat([states, embedded], dim=-1), mask, summary)


class OneVector(nn.Module):
    """Hear the same of the source at every step: what was kept after its last word."""

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the context (B, m, 2 d) and the weights (B, m, n): all on the last real word."""
        after = nn.functional.pad(memory.mask[:, 1:], (0, 1))  # (B, n), whether a real word follows
        last = (memory.mask & ~after).to(queries.dtype)  # (B, n), 1 at the last real word
        weights = last[:, None, :].expand(-1, queries.shape[1], -1)  # (B, m, n)
        return weights @ memory.words, weights  # (B, m, 2 d), (B, m, n)


class AdditiveAttention(nn.Module):
    """Hear a weighted mean of all source words, by additive attention.

    Args:
        d: the width of the decoder's states; source words are 2 d wide.
        d_a: the width in which query and key are added.

    """

    def __init__(self, d: int, d_a: int) -> None:
        super().__init__()
        self.w_query = nn.Parameter(torch.randn(d, d_a) / d**0.5)
        self.w_key = nn.Parameter(torch.randn(2 * d, d_a) / (2 * d) ** 0.5)
        self.v = nn.Parameter(torch.randn(d_a) / d_a**0.5)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the context (B, m, 2 d) and the weights (B, m, n)."""
        words, mask, _ = memory
        return additive_attention(queries, words, words, self.w_query, self.w_key, self.v, mask)


class DotAttention(nn.Module):
    """Hear a weighted mean of all source words, by dot products with the projected words.

    Args:
        d: the width of the decoder's states; source words are 2 d wide.

    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.to_key = nn.Linear(2 * d, d, bias=False)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the context (B, m, 2 d) and the weights (B, m, n)."""
        words, mask, _ = memory
        return dot_attention(queries, self.to_key(words), words, mask)


class Translator(nn.Module):
    """An LSTM that reads, an LSTM that writes, and `attend` between them.

    Sutskever, Vinyals and Le 2014 for the two LSTMs; Luong et al. 2015, section 3, for the place of
    attention: after the decoder's LSTM, so that in training all steps attend at once.

    Args:
        n_source: the size of the source vocabulary.
        n_target: the size of the target vocabulary.
        d: the width of embeddings and states.
        attend: called with the decoder's states (B, m, d) and the memory; returns the context (B, m, 2 d)
            and the weights (B, m, n).

    """

    def __init__(self, n_source: int, n_target: int, d: int, attend: nn.Module) -> None:
        super().__init__()
        self.encoder = Encoder(n_source, d)
        self.embedding = nn.Embedding(n_target, d, padding_idx=PAD)
        self.lstm = nn.LSTM(d, d, batch_first=True)
        self.attend = attend
        self.combine = nn.Linear(3 * d, d)
        self.bias = nn.Parameter(torch.zeros(n_target))
        for embedding in (self.encoder.embedding, self.embedding):
            nn.init.normal_(embedding.weight, std=d**-0.5)

    def encode(self, source: Int[Tensor, "batch n"], lengths: Int[Tensor, "batch"]) -> Memory:
        """Read the source sentences."""
        memory: Memory = self.encoder(source, lengths)
        return memory

    def decode(
        self,
        memory: Memory,
        target: Int[Tensor, "batch m"],
        state: tuple[Tensor, Tensor] | None = None,
    ) -> Decoded:
        """Hear the words of ``target`` and say after each of them what comes next.

        Args:
            memory: what was read.
            target: the words that have been said, from `START`; or, with ``state``, the newest ones.
            state: what the last call returned; None at the beginning.

        """
        if state is None:
            summary = memory.summary[None]  # (1, B, d): nn.LSTM wants an axis for layers
            state = (summary, summary)
        states, state = self.lstm(self.embedding(target), state)  # (B, m, d)
        context, weights = self.attend(states, memory)  # (B, m, 2 d), (B, m, n)
        mixed = torch.tanh(self.combine(torch.cat([states, context], dim=-1)))  # (B, m, d)
        logits = mixed @ self.embedding.weight.T + self.bias  # (B, m, words): one table hears and says
        return Decoded(logits, state, weights)

    def forward(
        self,
        source: Int[Tensor, "batch n"],
        lengths: Int[Tensor, "batch"],
        target: Int[Tensor, "batch m"],
    ) -> Float[Tensor, "batch m words"]:
        """Return the logits of the words that follow each word of ``target`` (teacher forcing)."""
        logits: Tensor = self.decode(self.encode(source, lengths), target).logits
        return logits


# --- beam search ---------------------------------------------------------------------------------


def beam_search(
    step: Callable[[Int[Tensor, "k t"]], Float[Tensor, "k words"]],
    start: int,
    end: int,
    beam: int,
    max_length: int,
    alpha: float = 0.0,
) -> tuple[list[int], float]:
    """Look for the sentence of the highest score, log-probability / length^alpha.

    Sutskever et al. 2014, section 3.2 (beam); Wu et al. 2016, section 7 (length normalisation, there with
    ((5 + length) / 6)^alpha). The search goes on until nothing is left to extend: no early stopping.

    Args:
        step: takes k prefixes of t tokens, ``start`` among them, and returns for each the log-probability of
            every next token.
        start: the token that every prefix begins with; it is no part of the result.
        end: the token after which nothing comes.
        beam: how many continuations are kept at each step, of all prefixes together.
        max_length: a sentence of so many tokens is finished even without ``end``.
        alpha: 0 for plain log-probability; larger values favour longer sentences.

    Returns:
        The tokens of the best sentence, ``end`` included if it has one, and its score. The greedy sentence
        (a beam of 1) is always among the candidates, so the score is never below its.

    """
    ### BEGIN SOLUTION
    live = torch.tensor([[start]])  # (k, t), the prefixes that can go on
    totals = torch.zeros(1)  # (k,), their log-probabilities
    finished = []
    for length in range(1, max_length + 1):
        scores = totals[:, None] + step(live)  # (k, words)
        totals, places = scores.flatten().topk(min(beam, scores.numel()))  # (beam,), (beam,)
        rows, words = places // scores.shape[1], places % scores.shape[1]  # (beam,), (beam,)
        live = torch.cat([live[rows], words[:, None]], dim=1)  # (beam, t + 1)
        ended = (words == end) | (length == max_length)  # (beam,)
        for tokens, total in zip(live[ended].tolist(), totals[ended].tolist()):
            finished.append((tokens[1:], total / length**alpha))
        live, totals = live[~ended], totals[~ended]
        if len(live) == 0:
            break
    if beam > 1:
        finished.append(beam_search(step, start, end, 1, max_length, alpha))
    return max(finished, key=lambda candidate: candidate[1])
    ### END SOLUTION
