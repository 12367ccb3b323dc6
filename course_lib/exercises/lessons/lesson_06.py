"""Lesson 06, the seq2seq bottleneck: what is drawn, what is right, what often goes wrong."""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.probes import lesson_06 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import bleu as finished_bleu
from course_lib.models import seq2seq as finished
from course_lib.models.bleu import ngram_counts
from course_lib.models.seq2seq import masked_softmax

FINISHED = "course_lib.models.seq2seq"

# --- length_mask -----------------------------------------------------------------------------


def draw_length_mask(seed: int) -> list[Case]:
    """Draw lengths: full, short, empty, more columns than any sentence has words."""
    g = torch.Generator().manual_seed(seed)
    n = int(torch.randint(4, 9, (), generator=g))
    lengths = torch.randint(1, n, (4,), generator=g)
    lengths[0] = n
    return [
        Case("one sentence of one word", {"lengths": torch.tensor([1]), "n": 1}),
        Case("one short sentence", {"lengths": torch.tensor([2]), "n": 5}),
        Case("sentences of several lengths", {"lengths": lengths, "n": n}),
        Case("more columns than words", {"lengths": lengths[1:], "n": n + 2}),
        Case("an empty sentence", {"lengths": torch.tensor([0, 3]), "n": 3}),
        Case("lengths as int32", {"lengths": lengths.flip(0).int(), "n": n + 1}),
    ]


def oracle_length_mask(lengths: Tensor, n: int) -> dict[str, Tensor]:
    """Count, one sentence after the other."""
    rows = [[position < int(length) for position in range(n)] for length in lengths]
    return {"mask": torch.tensor(rows, dtype=torch.bool)}


def _positions(lengths: Tensor, n: int) -> Tensor:
    return torch.arange(n, device=lengths.device)


def one_too_many(lengths: Tensor, n: int) -> Tensor:
    """Use ≤."""
    return _positions(lengths, n) <= lengths[:, None]


def true_is_padding(lengths: Tensor, n: int) -> Tensor:
    """Mark the padding."""
    return _positions(lengths, n) >= lengths[:, None]


def padding_in_front(lengths: Tensor, n: int) -> Tensor:
    """Take the last columns for the real words."""
    return _positions(lengths, n) >= n - lengths[:, None]


def mask_as_numbers(lengths: Tensor, n: int) -> Tensor:
    """Return ones and zeros."""
    return (_positions(lengths, n) < lengths[:, None]).float()


def mask_transposed(lengths: Tensor, n: int) -> Tensor:
    """Let the sentences be columns."""
    return _positions(lengths, n)[:, None] < lengths


def n_ignored(lengths: Tensor, n: int) -> Tensor:
    """Make as many columns as the longest sentence has words."""
    return _positions(lengths, int(lengths.max())) < lengths[:, None]


LENGTH_MASK = Exercise(
    name="length_mask",
    lesson=6,
    points=2,
    probe=probes.length_mask,
    draw=draw_length_mask,
    oracle=oracle_length_mask,
    finished=(finished.length_mask,),
    forbidden=(FINISHED, "course_lib.models.attention"),
    minutes=6,
    difficulty=1,
    mistakes=(
        Mistake(
            "one too many",
            "Your mask lets one padding position through: positions count from 0, so compare with <, not ≤.",
            (one_too_many,),
        ),
        Mistake(
            "True is padding",
            "Your mask is True at the padding: True marks the real words.",
            (true_is_padding,),
        ),
        Mistake(
            "padding in front",
            "Your mask takes the last columns for the real words: here the padding comes after them.",
            (padding_in_front,),
        ),
        Mistake(
            "numbers instead of Booleans",
            "Your mask holds 1.0 and 0.0: make it Boolean (a comparison gives one).",
            (mask_as_numbers,),
        ),
        Mistake(
            "transposed",
            "Your mask has a column for each sentence: sentences are rows, (batch, n).",
            (mask_transposed,),
        ),
        Mistake(
            "n ignored",
            "Your mask is only as wide as the longest sentence: it must have n columns, as the batch has.",
            (n_ignored,),
        ),
    ),
    hints=(
        "The word at position p of a sentence is real if p is smaller than that sentence's length.",
        "`torch.arange(n, device=lengths.device)` holds the positions 0 … n − 1. Compare it with the lengths.",
        "`lengths[:, None]` is a column (batch, 1) and `positions[None, :]` a row (1, n): comparing them "
        "gives the table (batch, n).",
    ),
)

# --- additive_attention ----------------------------------------------------------------------


def draw_additive_attention(seed: int) -> list[Case]:
    """Draw queries, keys, values, weights and masks of many shapes."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        lengths: list[int],
        n_q: int,
        n_k: int,
        widths: tuple[int, int, int, int],
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        d_q, d_k, d_v, d_a = widths
        batch = len(lengths)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        return Case(
            label,
            {
                "queries": normal(batch, n_q, d_q),
                "keys": normal(batch, n_k, d_k),
                "values": normal(batch, n_k, d_v),
                "w_query": normal(d_q, d_a),
                "w_key": normal(d_k, d_a),
                "v": normal(d_a),
                "mask": torch.arange(n_k) < torch.tensor(lengths)[:, None],
                "cotangent": normal(batch, n_q, d_v),
            },
        )

    strided = case("non-contiguous tensors", [5, 3], 4, 5, (6, 4, 3, 5), torch.float64)
    for name in ("queries", "keys", "values"):
        tensor = strided.inputs[name]
        strided.inputs[name] = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    return [
        case("one query, one key", [1], 1, 1, (2, 2, 2, 3), torch.float64),
        case("one query, three keys, no padding", [3], 1, 3, (3, 2, 4, 2), torch.float64),
        case("as many queries as keys, all widths equal", [4, 2], 4, 4, (3, 3, 3, 3)),
        case("odd widths and padding, float64", [5, 1, 3], 2, 5, (5, 7, 3, 9), torch.float64),
        case("more queries than keys", [2, 3], 6, 3, (4, 6, 5, 4)),
        case("an empty sentence in the batch", [0, 3], 2, 3, (4, 3, 2, 5), torch.float64),
        strided,
    ]


def oracle_additive_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    w_query: Tensor,
    w_key: Tensor,
    v: Tensor,
    mask: Tensor,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Score one pair after another, in float64, and leave padding out altogether."""
    dtype = cotangent.dtype
    given = {"queries": queries, "keys": keys, "values": values}
    given |= {"w_query": w_query, "w_key": w_key, "v": v}
    leaves = {name: each.detach().double().requires_grad_() for name, each in given.items()}
    q, k, x, w_q, w_k, v = leaves.values()
    outputs, weights = [], []
    for b in range(len(q)):
        real = [j for j in range(k.shape[1]) if bool(mask[b, j])]
        for i in range(q.shape[1]):
            row = torch.zeros(k.shape[1], dtype=torch.float64)
            if real:
                scores = [torch.dot(torch.tanh(w_q.T @ q[b, i] + w_k.T @ k[b, j]), v) for j in real]
                shares = torch.softmax(torch.stack(scores), 0)
                row = row.index_put((torch.tensor(real),), shares)
                outputs.append(sum(a * x[b, j] for a, j in zip(shares, real)))
            else:
                outputs.append(torch.zeros_like(x[b, 0]))
            weights.append(row)
    output = torch.stack(outputs).view(*q.shape[:2], x.shape[2])
    found = {"output": output, "weights": torch.stack(weights).view(*q.shape[:2], k.shape[1])}
    found |= gradients(output, cotangent.double(), leaves)
    return {name: tensor.detach().to(dtype) for name, tensor in found.items()}


def _added(q: Tensor, k: Tensor, w_query: Tensor, w_key: Tensor) -> Tensor:
    return (q @ w_query)[:, :, None] + (k @ w_key)[:, None]


def no_tanh(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Leave out the tanh, so that the query's part cancels in the softmax."""
    weights = masked_softmax(_added(q, k, w_q, w_k) @ v, mask)
    return weights @ x, weights


def tanh_of_each(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Take the tanh before adding."""
    scores = (torch.tanh(q @ w_q)[:, :, None] + torch.tanh(k @ w_k)[:, None]) @ v
    weights = masked_softmax(scores, mask)
    return weights @ x, weights


def tanh_last(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Take the tanh of the finished score."""
    weights = masked_softmax(torch.tanh(_added(q, k, w_q, w_k) @ v), mask)
    return weights @ x, weights


def sigmoid_instead(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Take the wrong squashing function."""
    weights = masked_softmax(torch.sigmoid(_added(q, k, w_q, w_k)) @ v, mask)
    return weights @ x, weights


def multiplied(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Multiply what should be added."""
    scores = torch.tanh((q @ w_q)[:, :, None] * (k @ w_k)[:, None]) @ v
    weights = masked_softmax(scores, mask)
    return weights @ x, weights


def additive_scaled(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Divide by √d_a."""
    scores = torch.tanh(_added(q, k, w_q, w_k)) @ v / math.sqrt(len(v))
    weights = masked_softmax(scores, mask)
    return weights @ x, weights


def _additive_scores(q: Tensor, k: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor) -> Tensor:
    return torch.tanh(_added(q, k, w_q, w_k)) @ v


def additive_mask_ignored(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Let padding be heard."""
    weights = _additive_scores(q, k, w_q, w_k, v).softmax(-1)
    return weights @ x, weights


def additive_mask_late(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Set weights to zero after the softmax."""
    weights = _additive_scores(q, k, w_q, w_k, v).softmax(-1) * mask[:, None]
    return weights @ x, weights


def additive_nan(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Fill with −∞ and leave it at that."""
    scores = _additive_scores(q, k, w_q, w_k, v).masked_fill(~mask[:, None], -math.inf)
    weights = scores.softmax(-1)
    return weights @ x, weights


def additive_mask_as_zero(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Set the scores of the padding to 0."""
    weights = (_additive_scores(q, k, w_q, w_k, v) * mask[:, None]).softmax(-1)
    return weights @ x, weights


def over_queries(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Normalise each column."""
    scores = _additive_scores(q, k, w_q, w_k, v)
    weights = scores.softmax(1) * mask[:, None]
    return weights @ x, weights


def keys_averaged(
    q: Tensor, k: Tensor, x: Tensor, w_q: Tensor, w_k: Tensor, v: Tensor, mask: Tensor
) -> Any:
    """Average the keys."""
    weights = masked_softmax(_additive_scores(q, k, w_q, w_k, v), mask)
    return weights @ k, weights


ADDITIVE_ATTENTION = Exercise(
    name="additive_attention",
    lesson=6,
    points=4,
    probe=probes.additive_attention,
    draw=draw_additive_attention,
    oracle=oracle_additive_attention,
    finished=(finished.additive_attention,),
    forbidden=(FINISHED, "course_lib.models.attention"),
    minutes=15,
    difficulty=3,
    mistakes=(
        Mistake(
            "no tanh",
            "You left out the tanh. Without it the query adds the same to all scores of its row, the softmax "
            "cancels it, and every query gets the same weights.",
            (no_tanh,),
        ),
        Mistake(
            "tanh of each part",
            "You took the tanh of query and key apart: add them first, or the query cancels in the softmax.",
            (tanh_of_each,),
        ),
        Mistake(
            "tanh of the score",
            "You took the tanh of the finished score: it belongs between the sum and v.",
            (tanh_last,),
        ),
        Mistake("sigmoid", "You took a sigmoid where the formula has tanh.", (sigmoid_instead,)),
        Mistake(
            "multiplied",
            "You multiplied query and key: additive attention adds them.",
            (multiplied,),
        ),
        Mistake(
            "scaled",
            "You divided the scores by √d_a: that belongs to dot products (lesson 07).",
            (additive_scaled,),
        ),
        Mistake(
            "mask ignored", "Padding gets weight: you never use `mask`.", (additive_mask_ignored,)
        ),
        Mistake(
            "mask after softmax",
            "You applied the mask after the softmax, so the weights of a padded sentence no longer sum to 1.",
            (additive_mask_late,),
        ),
        Mistake(
            "score 0 for padding",
            "You set the scores of the padding to 0: that still gives it weight, since exp(0) = 1.",
            (additive_mask_as_zero,),
        ),
        Mistake(
            "NaN in an empty sentence",
            "A sentence without real words gives NaN: `masked_softmax` gives it zeros.",
            (additive_nan,),
        ),
        Mistake(
            "softmax over queries",
            "Softmax over the wrong axis: each query's weights over the source words must sum to 1.",
            (over_queries,),
        ),
        Mistake(
            "keys averaged",
            "You averaged the keys: what is heard are the values.",
            (keys_averaged,),
        ),
    ),
    hints=(
        "Three steps: scores (batch, n_q, n_k), then `masked_softmax(scores, mask)`, then `weights @ values`.",
        "`queries @ w_query` is (batch, n_q, d_a) and `keys @ w_key` is (batch, n_k, d_a). Every query must "
        "meet every key: give each an axis of size 1 where the other has its positions.",
        "`(queries @ w_query)[:, :, None, :] + (keys @ w_key)[:, None, :, :]` is (batch, n_q, n_k, d_a); "
        "`torch.tanh(…) @ v` takes the last axis away.",
    ),
)

# --- beam_search -----------------------------------------------------------------------------

_Candidate = tuple[list[int], float]
_Row = Callable[[list[int]], list[float]]


def _rows_of(step: Callable[[Tensor], Tensor], start: int) -> _Row:
    """Return a function from the tokens after the start to the log-probabilities of the next one."""

    def row(tokens: list[int]) -> list[float]:
        found: list[float] = step(torch.tensor([[start, *tokens]]))[0].tolist()
        return found

    return row


def _search(
    row: _Row,
    end: int,
    beam: int,
    max_length: int,
    alpha: float,
    *,
    greedy_too: bool = True,
    stop_at_first_end: bool = False,
    extend_finished: bool = False,
    keep_per_prefix: bool = False,
    forget_past: bool = False,
    drop_unfinished: bool = False,
    add_probabilities: bool = False,
    multiply: bool = False,
    refill: bool = False,
    divide: Callable[[float, int], float] | None = None,
) -> _Candidate:
    """Search with Python lists; each option is a way to go wrong."""
    divide = divide or (lambda total, length: total / length**alpha)
    live: list[_Candidate] = [([], float(multiply))]
    finished_: list[_Candidate] = []
    for length in range(1, max_length + 1):
        grown: list[_Candidate] = []
        for tokens, total in live:
            logs = row(tokens)
            if multiply:
                totals = [total * math.exp(log) for log in logs]
            else:
                past = 0.0 if forget_past else total
                totals = [past + (math.exp(log) if add_probabilities else log) for log in logs]
            mine = [([*tokens, word], each) for word, each in enumerate(totals)]
            if keep_per_prefix:
                mine = sorted(mine, key=lambda each: -each[1])[:beam]
            grown += mine
        if refill:
            ended = [each for each in grown if each[0][-1] == end]
            going = [each for each in grown if each[0][-1] != end]
            grown = ended + sorted(going, key=lambda each: -each[1])[:beam]
        elif not keep_per_prefix:
            grown = sorted(grown, key=lambda each: -each[1])[:beam]
        live = []
        for tokens, total in grown:
            over = length == max_length
            if (tokens[-1] == end and not extend_finished) or over:
                if not (drop_unfinished and over and tokens[-1] != end):
                    finished_.append((tokens, divide(total, length)))
            else:
                live.append((tokens, total))
        if not live or (stop_at_first_end and finished_):
            break
    if greedy_too and beam > 1:
        finished_.append(_search(row, end, 1, max_length, alpha, multiply=multiply, divide=divide))
    if not finished_:
        finished_ = [(tokens, divide(total, len(tokens))) for tokens, total in grown]
    return max(finished_, key=lambda each: each[1])


def _table(g: torch.Generator, words: int, max_length: int, sharpness: float = 2.0) -> Tensor:
    """Return random log-probabilities for each prefix shorter than ``max_length``."""
    prefixes = sum(words**t for t in range(max_length))
    logits = sharpness * torch.randn(prefixes, words, generator=g, dtype=torch.float64)
    return logits.log_softmax(-1)


def _table_row(table: Tensor) -> _Row:
    rows: list[list[float]] = table.tolist()
    words = table.shape[1]

    def row(tokens: list[int]) -> list[float]:
        number = 0
        for token in tokens:
            number = number * words + token + 1
        return rows[number]

    return row


def _trap(g: torch.Generator) -> tuple[Tensor, int]:
    """Return a table of 4 words and 3 steps on which a beam of 2 loses the greedy sentence, and its end.

    After the first word of the greedy sentence all words are about equally probable, and after its second
    all is certain. The runner-up is the other way round: its two continuations crowd the greedy prefix out.
    """
    first, other, third, end = torch.randperm(4, generator=g).tolist()
    table = 0.02 * torch.randn(1 + 4 + 16, 4, generator=g, dtype=torch.float64)
    table[0, first] += 1.9
    table[0, other] += 1.75
    table[1 + first, first] += 0.3
    table[1 + other, [other, third]] += 2.5
    table[5 + 4 * first + first, third] += 3.0
    return table.log_softmax(-1), end


def _narrowed(g: torch.Generator) -> tuple[Tensor, int]:
    """Return a table of 4 words and 3 steps, and its end: a beam of 2 that is filled up again finds more.

    The sentence of nothing but the end is the most probable beginning, so one prefix goes on, and finds
    nothing better. A third beginning would, if sentences are normalised by their length.
    """
    end, other, third, last = torch.randperm(4, generator=g).tolist()
    table = 0.02 * torch.randn(1 + 4 + 16, 4, generator=g, dtype=torch.float64)
    table[0, [end, other, third, last]] += torch.tensor([0.45, 0.35, 0.15, 0.05]).double().log()
    table[1 + third, last] += 5.0
    table[5 + 4 * third + last, other] += 5.0
    return table.log_softmax(-1), end


def draw_beam_search(seed: int) -> list[Case]:
    """Draw models that are tables, so that each of the known ways to go wrong gives another answer."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        words: int,
        max_length: int,
        beam: int,
        alpha: float = 0.0,
        differs: Sequence[dict[str, Any]] = (),
        ends: float = 0.0,
        shortest: int = 1,
    ) -> Case:
        """Draw tables until the right answer differs from those of ``differs``."""
        for _ in range(2000):
            table = _table(g, words, max_length)
            end = int(torch.randint(words, (), generator=g))
            if ends:
                table[:, end] += ends
                table = table.log_softmax(-1)
            row = _table_row(table)
            right = _search(row, end, beam, max_length, alpha)[0]
            settings = {"beam": beam, "alpha": alpha}
            others = (
                _search(row, end, max_length=max_length, **{**settings, **each})[0]
                for each in differs
            )
            if len(right) >= shortest and all(other != right for other in others):
                break
        inputs = {
            "table": table,
            "end": end,
            "beam": beam,
            "max_length": max_length,
            "alpha": alpha,
        }
        return Case(label, inputs)

    trapped = case("a beam that loses the greedy sentence", 4, 3, 2)
    trapped.inputs["table"], trapped.inputs["end"] = _trap(g)
    narrowed = case("a sentence that ends leaves the beam narrower", 4, 3, 2, 1.0)
    narrowed.inputs["table"], narrowed.inputs["end"] = _narrowed(g)
    forbidden_words = case("words that cannot come (−∞)", 4, 3, 2)
    row = int(torch.randint(1, 5, (), generator=g))
    forbidden_words.inputs["table"][row, :2] = -math.inf
    return [
        case("one step", 3, 1, 2),
        case("a beam of 1", 3, 3, 1),
        case("a beam of 2 that beats greedy search", 3, 4, 2, differs=[{"beam": 1}]),
        case("the first sentence that ends is not the best", 4, 4, 3,
             differs=[{"stop_at_first_end": True}], ends=1.5),
        narrowed,
        trapped,
        case("a beam too narrow for the best sentence", 4, 4, 2, differs=[{"beam": 64}, {"keep_per_prefix": True}]),
        case("a beam wide enough for everything", 3, 4, 27, differs=[{"beam": 1}, {"beam": 2}]),
        case("the best sentence is cut off at max_length", 3, 3, 4,
             differs=[{"drop_unfinished": True}], ends=-1.5),
        case("length normalisation changes the winner", 4, 4, 4, 0.8,
             differs=[{"alpha": 0.0}], ends=1.0),
        case("length normalisation, a beam of 1", 3, 3, 1, 0.6, shortest=2),
        forbidden_words,
    ]  # fmt: skip


def oracle_beam_search(
    table: Tensor, end: int, beam: int, max_length: int, alpha: float
) -> dict[str, Any]:
    """Search with Python lists."""
    tokens, score = _search(_table_row(table), end, beam, max_length, alpha)
    return {"tokens": tokens, "score": score}


def _mistaken(
    change: Callable[[list[int], float], Any] | None = None, **options: Any
) -> Callable[..., Any]:
    """Return a beam search that goes wrong by an option of `_search`, or in what it returns."""

    def search(
        step: Callable[[Tensor], Tensor],
        start: int,
        end: int,
        beam: int,
        max_length: int,
        alpha: float = 0.0,
    ) -> Any:
        settings = {"beam": beam, "alpha": alpha, **options}
        if "divide_by" in settings:
            by = settings.pop("divide_by")
            settings["divide"] = lambda total, length: by(total, length, alpha)
        found = _search(_rows_of(step, start), end, max_length=max_length, **settings)
        if change is not None:
            tokens, score = found
            if change is _with_start:
                return [start, *tokens], score
            return ([each for each in tokens if each != end], score)
        return found

    return search


def _with_start(tokens: list[int], score: float) -> Any:
    """Mark the mistake of returning the start token."""


def _without_end(tokens: list[int], score: float) -> Any:
    """Mark the mistake of cutting the end token off."""


BEAM_SEARCH = Exercise(
    name="beam_search",
    lesson=6,
    points=5,
    probe=probes.beam_search,
    draw=draw_beam_search,
    oracle=oracle_beam_search,
    finished=(finished.beam_search,),
    forbidden=(FINISHED,),
    minutes=30,
    difficulty=4,
    mistakes=(
        Mistake(
            "greedy sentence lost",
            "The greedy sentence fell out of your beam and was better than all that stayed: search once more "
            "with a beam of 1 and let its result compete.",
            (_mistaken(greedy_too=False),),
        ),
        Mistake(
            "beam ignored",
            "You search greedily: keep the `beam` best continuations at each step, not the one best.",
            (_mistaken(beam=1),),
        ),
        Mistake(
            "no competition between prefixes",
            "You keep `beam` continuations of each prefix, so their number grows with every step: keep `beam` of "
            "all continuations together.",
            (_mistaken(keep_per_prefix=True),),
        ),
        Mistake(
            "stops at the first end",
            "You stop as soon as one sentence has ended: a better one may still be under way.",
            (_mistaken(stop_at_first_end=True),),
        ),
        Mistake(
            "extends finished sentences",
            "You go on after `end`: a sentence that has ended becomes a candidate and leaves the beam.",
            (_mistaken(extend_finished=True),),
        ),
        Mistake(
            "past forgotten",
            "You rank continuations by their last word alone: add its log-probability to that of its prefix.",
            (_mistaken(forget_past=True),),
        ),
        Mistake(
            "probabilities added",
            "You add probabilities: they multiply along a sentence, so add their logarithms, as `step` gives them.",
            (_mistaken(add_probabilities=True),),
        ),
        Mistake(
            "probability returned",
            "Your score is a probability: add the logarithms that `step` gives, and return their sum.",
            (_mistaken(multiply=True),),
        ),
        Mistake(
            "beam filled up again",
            "You fill the beam up again when a sentence has ended: the `beam` best continuations are taken first, "
            "and those of them that end leave it narrower.",
            (_mistaken(refill=True),),
        ),
        Mistake(
            "unfinished dropped",
            "You drop sentences that reach max_length without `end`: they are candidates as they stand.",
            (_mistaken(drop_unfinished=True),),
        ),
        Mistake(
            "alpha ignored",
            "You do not divide by length^alpha.",
            (_mistaken(divide_by=lambda total, length, alpha: total),),
        ),
        Mistake(
            "multiplied by the length",
            "You multiply by length^alpha: divide by it.",
            (_mistaken(divide_by=lambda total, length, alpha: total * length**alpha),),
        ),
        Mistake(
            "start counted",
            "You count the start token in the length: the length is that of what is returned.",
            (_mistaken(divide_by=lambda total, length, alpha: total / (length + 1) ** alpha),),
        ),
        Mistake(
            "start returned",
            "Your result begins with the start token: leave it out.",
            (_mistaken(_with_start),),
        ),
        Mistake(
            "end cut off",
            "Your result lacks the end token: a sentence that has ended keeps it.",
            (_mistaken(_without_end),),
        ),
    ),
    hints=(
        "Keep two things side by side: the live prefixes, a tensor (k, t) that begins as [[start]], and the total "
        "log-probability of each, (k,), which begins as [0].",
        "One step: `scores = totals[:, None] + step(live)` is (k, words). `scores.flatten().topk(min(beam, "
        "scores.numel()))` finds the best of all; place // words is the prefix, place % words the new token.",
        "Append the new tokens: `torch.cat([live[rows], words[:, None]], dim=1)`. Those whose token is `end`, and "
        "all of them at max_length, go to the list of candidates with total / length**alpha; the others stay live.",
        "At the end, if beam > 1, add `beam_search(step, start, end, 1, max_length, alpha)` to the candidates, and "
        "return the one with the highest score, as a list of tokens without the start.",
    ),
)

# --- bleu ------------------------------------------------------------------------------------


def draw_bleu(seed: int) -> list[Case]:
    """Draw references, and hypotheses that depart from them in many ways."""
    rng = random.Random(seed)
    words = ["a", "b", "c", "d", "e", "f", "g"]

    def sentence(length: int) -> list[str]:
        return [rng.choice(words) for _ in range(length)]

    def changed(reference: list[str], edits: int) -> list[str]:
        found = list(reference)
        for _ in range(edits):
            found[rng.randrange(len(found))] = rng.choice(words)
        return found

    def case(
        label: str,
        hypotheses: list[list[str]],
        references: list[list[str]],
        max_n: int | None = None,
    ) -> Case:
        return Case(label, {"hypotheses": hypotheses, "references": references, "max_n": max_n})

    several = [sentence(n) for n in (9, 6, 12, 7)]
    long_ones = [sentence(n) for n in (10, 8, 11)]
    a, b, *rest = rng.sample(words, 5)
    repeated = [a, b, *rest]
    return [
        case("a perfect translation", [repeated], [repeated]),
        case("nothing right", [["x"] * 5], [sentence(5)]),
        case("no four words in a row are right", [[a, b, rest[0], "x", rest[2]]], [repeated]),
        case("a repeated word", [[a, b, rest[0], rest[1], a, a]], [repeated]),
        case("nothing said", [[]], [sentence(4)]),
        case(
            "translations that are too short",
            [each[: 3 + len(each) // 3] for each in long_ones],
            long_ones,
        ),
        case(
            "translations that are too long",
            [[*each, *sentence(3)] for each in long_ones],
            long_ones,
        ),
        case("several sentences", [changed(each, 2) for each in several], several),
        case(
            "a sentence of two words and an empty one among others",
            [*(changed(each, 1) for each in several), [a, b], []],
            [*several, [a, b, a], [b]],
        ),
        case("n-grams up to 2", [changed(each, 3) for each in several], several, 2),
    ]


def oracle_bleu(
    hypotheses: list[list[str]], references: list[list[str]], max_n: int | None
) -> dict[str, float]:
    """Cross each n-gram of a hypothesis off against one of its reference, and multiply."""
    product, highest = 1.0, max_n or 4
    for n in range(1, highest + 1):
        right = said = 0
        for hypothesis, reference in zip(hypotheses, references):
            left = [reference[i : i + n] for i in range(len(reference) - n + 1)]
            for i in range(len(hypothesis) - n + 1):
                said += 1
                if hypothesis[i : i + n] in left:
                    left.remove(hypothesis[i : i + n])
                    right += 1
        product *= (right / said) ** (1 / highest) if said else 0.0
    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    return {"BLEU": 100 * product * (1.0 if c >= r else math.exp(1 - r / c) if c else 0.0)}


def _bleu(
    hypotheses: list[list[str]],
    references: list[list[str]],
    max_n: int = 4,
    *,
    right_of: Callable[[Counter, Counter], int] = lambda said, wanted: (said & wanted).total(),
    total_of: Callable[[Counter, Counter], int] = lambda said, wanted: said.total(),
    brevity: Callable[[int, int], float] = lambda c, r: min(1.0, math.exp(1 - r / c)) if c else 0.0,
    mean: Callable[[list[float]], float] = lambda p: math.prod(p) ** (1 / len(p)),
) -> float:
    """Return a BLEU in which one part may be wrong."""
    precisions = []
    for n in range(1, max_n + 1):
        pairs = [(ngram_counts(h, n), ngram_counts(r, n)) for h, r in zip(hypotheses, references)]
        right = sum(right_of(*pair) for pair in pairs)
        total = sum(total_of(*pair) for pair in pairs)
        precisions.append(right / total if total else 0.0)
    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    return 100 * brevity(c, r) * mean(precisions)


def mean_of_sentences(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Average the BLEUs of single sentences."""
    single = [_bleu([h], [r], max_n) for h, r in zip(hypotheses, references)]
    return sum(single) / len(single)


def not_clipped(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Count every n-gram that occurs in the reference, however often it was said."""
    return _bleu(
        hypotheses,
        references,
        max_n,
        right_of=lambda said, wanted: sum(count for gram, count in said.items() if gram in wanted),
    )


def pooled_references(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Throw the n-grams of all sentences together before clipping."""
    precisions = []
    for n in range(1, max_n + 1):
        said = sum((ngram_counts(each, n) for each in hypotheses), Counter())
        wanted = sum((ngram_counts(each, n) for each in references), Counter())
        precisions.append((said & wanted).total() / said.total() if said else 0.0)
    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    brevity = min(1.0, math.exp(1 - r / c)) if c else 0.0
    return 100 * brevity * math.prod(precisions) ** (1 / max_n)


def brevity_of_each(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Average the brevity penalties of single sentences."""
    single = [
        min(1.0, math.exp(1 - len(r) / len(h))) if h else 0.0
        for h, r in zip(hypotheses, references)
    ]
    return _bleu(hypotheses, references, max_n, brevity=lambda c, r: sum(single) / len(single))


def unique_ngrams(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Use sets."""
    return _bleu(
        hypotheses,
        references,
        max_n,
        right_of=lambda said, wanted: len(set(said) & set(wanted)),
        total_of=lambda said, wanted: len(said),
    )


def no_brevity(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Forget the brevity penalty."""
    return _bleu(hypotheses, references, max_n, brevity=lambda c, r: 1.0)


def brevity_rewards(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Leave out the minimum, so that long translations gain."""
    return _bleu(
        hypotheses, references, max_n, brevity=lambda c, r: math.exp(1 - r / c) if c else 0.0
    )


def brevity_reversed(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Punish long translations."""
    return _bleu(hypotheses, references, max_n, brevity=lambda c, r: min(1.0, math.exp(1 - c / r)))


def brevity_is_ratio(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Take the ratio of lengths."""
    return _bleu(hypotheses, references, max_n, brevity=lambda c, r: min(1.0, c / r))


def arithmetic_mean(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Average the precisions."""
    return _bleu(hypotheses, references, max_n, mean=lambda p: sum(p) / len(p))


def plain_product(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Forget the root."""
    return _bleu(hypotheses, references, max_n, mean=math.prod)


def recall_instead(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Divide by the n-grams of the reference."""
    return _bleu(hypotheses, references, max_n, total_of=lambda said, wanted: wanted.total())


def from_zero_to_one(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Return a share."""
    return _bleu(hypotheses, references, max_n) / 100


def always_four(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Ignore max_n."""
    return _bleu(hypotheses, references, 4)


def logarithm_of_zero(hypotheses: Any, references: Any, max_n: int = 4) -> float:
    """Take the logarithm of a precision of 0."""
    return _bleu(
        hypotheses, references, max_n, mean=lambda p: math.exp(sum(map(math.log, p)) / len(p))
    )


BLEU = Exercise(
    name="bleu",
    lesson=6,
    points=4,
    probe=probes.bleu,
    draw=draw_bleu,
    oracle=oracle_bleu,
    finished=(finished_bleu.bleu,),
    forbidden=(
        "course_lib.models.bleu",
        "sacrebleu",
        "nltk.translate",
        "torchmetrics",
        "evaluate",
    ),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "mean of sentences",
            "You averaged the BLEU of single sentences: add up the counts of all sentences first, and compute "
            "one precision for each n.",
            (mean_of_sentences,),
        ),
        Mistake(
            "not clipped",
            "You count an n-gram as right each time it is said: at most as often as the reference has it.",
            (not_clipped,),
        ),
        Mistake(
            "clipped against all references",
            "You throw the n-grams of all sentences together before clipping: compare each translation with its own "
            "reference, then add up.",
            (pooled_references,),
        ),
        Mistake(
            "sets of n-grams",
            "You count each n-gram once: one that reference and translation both have twice counts twice.",
            (unique_ngrams,),
        ),
        Mistake(
            "no brevity penalty",
            "Short translations are not punished: multiply by the brevity penalty.",
            (no_brevity,),
        ),
        Mistake(
            "brevity penalty of each sentence",
            "You average the brevity penalties of single sentences: there is one, from the lengths of all "
            "translations and all references together.",
            (brevity_of_each,),
        ),
        Mistake(
            "brevity penalty above 1",
            "Your brevity penalty rewards translations that are too long: it is at most 1.",
            (brevity_rewards,),
        ),
        Mistake(
            "brevity penalty reversed",
            "Your brevity penalty punishes long translations: it is exp(1 − reference length / own length), "
            "where that is below 1.",
            (brevity_reversed,),
        ),
        Mistake(
            "brevity penalty a ratio",
            "Your brevity penalty is the ratio of the lengths: it is exp(1 − reference length / own length).",
            (brevity_is_ratio,),
        ),
        Mistake(
            "arithmetic mean",
            "You averaged the precisions: BLEU takes their geometric mean, so that one 0 makes it 0.",
            (arithmetic_mean,),
        ),
        Mistake(
            "no root",
            "You multiplied the precisions and took no root: the mean of their logarithms is divided by max_n.",
            (plain_product,),
        ),
        Mistake(
            "recall",
            "You divide by the number of n-grams of the references: a precision divides by those of the "
            "translations.",
            (recall_instead,),
        ),
        Mistake(
            "from 0 to 1", "Your BLEU goes from 0 to 1: this one goes to 100.", (from_zero_to_one,)
        ),
        Mistake("max_n ignored", "You always go up to 4 words: go up to max_n.", (always_four,)),
        Mistake(
            "logarithm of zero",
            "Your code takes the logarithm of 0 where no n-gram is right: BLEU is 0 then.",
            (logarithm_of_zero,),
        ),
    ),
    hints=(
        "For each n from 1 to max_n add up two numbers over all sentences: n-grams said, and n-grams that are "
        "right. Only then divide.",
        "`ngram_counts` gives a Counter. For two Counters `a & b` keeps the smaller count of each key, which is the "
        "clipping, and `.total()` adds the counts up.",
        "Return 0.0 as soon as no n-gram of some n is right. Otherwise collect `math.log(right / said)`, divide the "
        "sum by max_n, and add the logarithm of the brevity penalty.",
        "That logarithm is `min(0.0, 1 - reference_length / length)` with the lengths of all sentences together. The "
        "result is 100 · exp of the sum.",
    ),
)

EXERCISES = (LENGTH_MASK, ADDITIVE_ATTENTION, BEAM_SEARCH, BLEU)
