"""Lesson 00, tensors and the dot product: what is drawn, what is right, what often goes wrong."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.probes import lesson_00 as probes
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import basics as finished

_MODULE = "course_lib.models.basics"

# --- dot_product -----------------------------------------------------------------------------


def draw_dot_product(seed: int) -> list[Case]:
    """Draw pairs of vectors: short, long, at right angles, float64, with gaps in memory."""
    g = torch.Generator().manual_seed(seed)

    def pair(label: str, d: int, dtype: torch.dtype = torch.float32) -> Case:
        a, b = torch.randn(2, d, generator=g, dtype=dtype).unbind()
        return Case(label, {"a": a, "b": b})

    whole = torch.randint(1, 6, (2, 2), generator=g).float()
    every_second = torch.randn(2, 10, generator=g, dtype=torch.float64)[:, ::2]
    return [
        pair("vectors of one number", 1),
        Case("two small whole numbers each", {"a": whole[0], "b": whole[1]}),
        Case(
            "vectors at right angles",
            {"a": torch.tensor([1.0, 2.0, -1.0]), "b": torch.tensor([2.0, 0.0, 2.0])},
        ),
        pair("seven numbers each, float64", 7, torch.float64),
        Case("vectors with gaps in memory", {"a": every_second[0], "b": every_second[1]}),
    ]


def oracle_dot_product(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Ask torch.dot."""
    return {"result": torch.dot(a, b)}


def products_not_added(a: Tensor, b: Tensor) -> Tensor:
    """Multiply place by place and stop."""
    return a * b


def product_of_sums(a: Tensor, b: Tensor) -> Tensor:
    """Add first, multiply then."""
    return a.sum() * b.sum()


def mean_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Average instead of adding."""
    return (a * b).mean()


def sum_of_sums(a: Tensor, b: Tensor) -> Tensor:
    """Add where it should multiply."""
    return (a + b).sum()


def python_number(a: Tensor, b: Tensor) -> float:
    """Leave the tensor behind."""
    return (a * b).sum().item()


def with_itself(a: Tensor, b: Tensor) -> Tensor:
    """Use one vector twice."""
    return (a * a).sum()


def one_number_in_brackets(a: Tensor, b: Tensor) -> Tensor:
    """Keep the axis that was summed over."""
    return (a * b).sum(dim=0, keepdim=True)


DOT_PRODUCT = Exercise(
    name="dot_product",
    lesson=0,
    points=1,
    probe=probes.dot_product,
    draw=draw_dot_product,
    oracle=oracle_dot_product,
    finished=(finished.dot_product,),
    forbidden=(_MODULE,),
    minutes=2,
    difficulty=1,
    mistakes=(
        Mistake(
            "products not added",
            "You multiplied place by place but did not add up: a dot product is one number.",
            (products_not_added,),
        ),
        Mistake(
            "product of sums",
            "You added first and multiplied then: multiply place by place, then add.",
            (product_of_sums,),
        ),
        Mistake(
            "mean of products",
            "You took the mean of the products: a dot product is their sum.",
            (mean_of_products,),
        ),
        Mistake(
            "sums, no products",
            "You added the vectors: multiply them place by place, then add up the products.",
            (sum_of_sums,),
        ),
        Mistake(
            "Python number",
            "You returned a Python number: keep it a tensor (no `.item()`, no `float(…)`), "
            "so that it stays on its device and in its precision.",
            (python_number,),
        ),
        Mistake(
            "with itself",
            "You multiplied `a` with itself and never used `b`.",
            (with_itself,),
        ),
        Mistake(
            "axis kept",
            "Your result is a vector that holds one number, shape (1,): sum without `keepdim`, "
            "so that its shape is ().",
            (one_number_in_brackets,),
        ),
    ),
    hints=(
        "`a * b` multiplies two tensors place by place: (1, 2) * (3, 4) is (3, 8).",
        "A tensor's method `.sum()` adds up all its numbers.",
        "Join the two: multiply, put brackets around the product, and sum what is inside.",
    ),
)

# --- cosine_similarity -----------------------------------------------------------------------


def draw_cosine_similarity(seed: int) -> list[Case]:
    """Draw vectors: alone, in batches, one against many, long, zero, with gaps in memory."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=dtype)

    def case(label: str, a: Tensor, b: Tensor) -> Case:
        return Case(label, {"a": a, "b": b})

    some_zero = draw(3, 4, dtype=torch.float64)
    some_zero[1] = 0.0
    turned = draw(5, 3).T  # (3, 5), laid out in memory column by column
    return [
        case("vectors of one number", draw(1), draw(1)),
        case("two vectors", draw(3), draw(3)),
        case("a batch of one, float64", draw(1, 7, dtype=torch.float64), draw(1, 7).double()),
        case("a batch of pairs", draw(4, 3), draw(4, 3)),
        case("as many pairs as numbers in each", draw(3, 3), draw(3, 3)),
        case("one vector against many", draw(5).double(), draw(4, 5).double()),
        case("two batch axes", draw(2, 3, 6), draw(2, 3, 6)),
        case("a vector of zeros", some_zero, draw(3, 4, dtype=torch.float64)),
        case("very long against very short", draw(4) * 1e6, draw(4) * 1e-3),
        case("a tensor laid out column by column", turned, draw(3, 5)),
    ]


def oracle_cosine_similarity(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Ask PyTorch's own cosine_similarity, in float64."""
    return {"result": F.cosine_similarity(a.double(), b.double(), dim=-1).to(a.dtype)}


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _length(a: Tensor) -> Tensor:
    return a.norm(dim=-1).clamp(min=1e-8)


def no_lengths(a: Tensor, b: Tensor) -> Tensor:
    """Return the dot product."""
    return _dots(a, b)


def squared_lengths(a: Tensor, b: Tensor) -> Tensor:
    """Forget the roots."""
    return _dots(a, b) / (_length(a) ** 2 * _length(b) ** 2)


def one_length(a: Tensor, b: Tensor) -> Tensor:
    """Divide by the length of one vector alone."""
    return _dots(a, b) / _length(b)


def lengths_added(a: Tensor, b: Tensor) -> Tensor:
    """Divide by the sum of the lengths."""
    return _dots(a, b) / (_length(a) + _length(b))


def length_of_everything(a: Tensor, b: Tensor) -> Tensor:
    """Take one length for the whole batch."""
    return _dots(a, b) / (a.norm() * b.norm()).clamp(min=1e-8)


def first_axis(a: Tensor, b: Tensor) -> Tensor:
    """Sum over the first axis."""
    lengths = a.norm(dim=0).clamp(min=1e-8) * b.norm(dim=0).clamp(min=1e-8)
    return (a * b).sum(0) / lengths


def everything_summed(a: Tensor, b: Tensor) -> Tensor:
    """Return one number for a whole batch."""
    return (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-8)


def zero_gives_nan(a: Tensor, b: Tensor) -> Tensor:
    """Divide by a length that may be 0."""
    return _dots(a, b) / (a.norm(dim=-1) * b.norm(dim=-1))


def sums_of_absolutes(a: Tensor, b: Tensor) -> Tensor:
    """Measure length along the axes."""
    lengths = a.abs().sum(-1).clamp(min=1e-8) * b.abs().sum(-1).clamp(min=1e-8)
    return _dots(a, b) / lengths


def axis_kept(a: Tensor, b: Tensor) -> Tensor:
    """Keep the last axis."""
    return (_dots(a, b) / (_length(a) * _length(b))).unsqueeze(-1)


COSINE_SIMILARITY = Exercise(
    name="cosine_similarity",
    lesson=0,
    points=2,
    probe=probes.cosine_similarity,
    draw=draw_cosine_similarity,
    oracle=oracle_cosine_similarity,
    finished=(finished.cosine_similarity,),
    forbidden=(
        "torch.nn.functional.cosine_similarity",
        "torch.cosine_similarity",
        "torch.nn.CosineSimilarity",
        _MODULE,
    ),
    minutes=8,
    difficulty=2,
    mistakes=(
        Mistake(
            "no lengths",
            "This is the dot product: divide it by both lengths.",
            (no_lengths,),
        ),
        Mistake(
            "squared lengths",
            "You divided by the squared lengths: a length is √(a·a).",
            (squared_lengths,),
        ),
        Mistake(
            "one length",
            "You divided by the length of `b` alone: divide by both lengths.",
            (one_length,),
        ),
        Mistake(
            "lengths added",
            "You divided by the sum of the lengths: divide by their product.",
            (lengths_added,),
        ),
        Mistake(
            "one length for all",
            "You took one length for the whole batch: each vector has its own, `dim=-1`.",
            (length_of_everything,),
        ),
        Mistake(
            "first axis",
            "You summed over the first axis: a vector's numbers stand on the last, `dim=-1`.",
            (first_axis,),
        ),
        Mistake(
            "everything summed",
            "You return one number where a batch of pairs needs one for each pair: sum over `dim=-1`.",
            (everything_summed,),
        ),
        Mistake(
            "zero gives NaN",
            "A vector of zeros gives 0/0, which is NaN: keep the lengths away from 0, "
            "for instance with `.clamp(min=1e-8)`.",
            (zero_gives_nan,),
        ),
        Mistake(
            "sum of absolutes",
            "You measured length by the sum of absolute values: it is the root of the sum of squares.",
            (sums_of_absolutes,),
        ),
        Mistake(
            "axis kept",
            "Your result has an axis of size 1 too many at its end: sum without `keepdim`.",
            (axis_kept,),
        ),
    ),
    hints=(
        "Three sums over the last axis are needed: of a·b, of a·a, of b·b. "
        "`(a * b).sum(dim=-1)` is the first, for one pair or for a whole batch.",
        "The length of each vector is the root of its sum of squares: `(a * a).sum(dim=-1).sqrt()`.",
        "A length of 0 must not be divided by. `.clamp(min=…)` replaces what is smaller than a bound "
        "by the bound: put a tiny one, such as 1e-8, under each length. The numerator is 0 then, "
        "and so is the result.",
    ),
)

# --- softmax ---------------------------------------------------------------------------------


def draw_softmax(seed: int) -> list[Case]:
    """Draw scores: one, a row, tables along either axis, huge ones, −∞, float64."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        *shape: int,
        dim: int | None = None,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
    ) -> Case:
        return Case(label, {"x": torch.randn(*shape, generator=g, dtype=dtype) * scale, "dim": dim})

    far_apart = torch.randn(3, 4, generator=g)
    far_apart[0] += 2000.0
    far_apart[2] -= 2000.0
    one_excluded = torch.randn(2, 4, generator=g, dtype=torch.float64)
    one_excluded[0, 1] = -torch.inf
    return [
        case("one score", 1),
        case("a row of scores", 4),
        case("a table, along its rows", 2, 3),
        case("a square table, along its rows", 3, 3, dtype=torch.float64),
        case("a square table, down its columns", 3, 3, dim=0),
        case("three axes, along the middle one", 2, 4, 3, dim=1, dtype=torch.float64),
        case("scores in the thousands", 2, 5, scale=5000.0),
        Case("rows that lie far apart", {"x": far_apart, "dim": -1}),
        Case("a score of −∞", {"x": one_excluded, "dim": -1}),
    ]


def oracle_softmax(x: Tensor, dim: int | None) -> dict[str, Tensor]:
    """Ask PyTorch's own softmax, in float64."""
    return {"result": torch.softmax(x.double(), -1 if dim is None else dim).to(x.dtype)}


def _powers(x: Tensor, dim: int) -> Tensor:
    return (x - x.amax(dim, keepdim=True)).exp()


def overflows(x: Tensor, dim: int = -1) -> Tensor:
    """Take powers of the scores as they are."""
    return x.exp() / x.exp().sum(dim, keepdim=True)


def largest_of_all(x: Tensor, dim: int = -1) -> Tensor:
    """Subtract one maximum for the whole table."""
    powers = (x - x.max()).exp()
    return powers / powers.sum(dim, keepdim=True)


def last_axis_always(x: Tensor, dim: int = -1) -> Tensor:
    """Never look at dim."""
    powers = _powers(x, -1)
    return powers / powers.sum(-1, keepdim=True)


def first_axis_by_default(x: Tensor, dim: int = 0) -> Tensor:
    """Take the first axis where none is named."""
    powers = _powers(x, dim)
    return powers / powers.sum(dim, keepdim=True)


def first_axis_always(x: Tensor, dim: int = -1) -> Tensor:
    """Work down the columns whatever dim says."""
    powers = _powers(x, 0)
    return powers / powers.sum(0, keepdim=True)


def axis_lost(x: Tensor, dim: int = -1) -> Tensor:
    """Sum without keepdim."""
    powers = _powers(x, dim)
    return powers / powers.sum(dim)


def shares_of_everything(x: Tensor, dim: int = -1) -> Tensor:
    """Make the whole table add up to 1."""
    powers = _powers(x, dim)
    return powers / powers.sum()


def not_divided(x: Tensor, dim: int = -1) -> Tensor:
    """Stop after the powers."""
    return _powers(x, dim)


def no_powers(x: Tensor, dim: int = -1) -> Tensor:
    """Divide the scores by their sum."""
    return x / x.sum(dim, keepdim=True)


def maximum_above_only(x: Tensor, dim: int = -1) -> Tensor:
    """Subtract the maximum in the numerator alone."""
    return _powers(x, dim) / x.exp().sum(dim, keepdim=True)


def divided_by_maximum(x: Tensor, dim: int = -1) -> Tensor:
    """Divide by the maximum where it should be subtracted."""
    powers = (x / x.amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim, keepdim=True)


def logarithms(x: Tensor, dim: int = -1) -> Tensor:
    """Return the logarithms of the shares."""
    return x.log_softmax(dim)


SOFTMAX = Exercise(
    name="softmax",
    lesson=0,
    points=3,
    probe=probes.softmax,
    draw=draw_softmax,
    oracle=oracle_softmax,
    finished=(finished.softmax,),
    forbidden=(
        "torch.softmax",
        "torch.special.softmax",
        "torch.nn.functional.softmax",
        "torch.nn.Softmax",
        "torch.Tensor.softmax",
        "torch.log_softmax",
        "torch.special.log_softmax",
        "torch.nn.functional.log_softmax",
        "torch.nn.LogSoftmax",
        "torch.Tensor.log_softmax",
        "torch.nn.functional.softmin",
        "torch.nn.Softmin",
        "scipy.special.softmax",
        _MODULE,
    ),
    minutes=8,
    difficulty=2,
    mistakes=(
        Mistake(
            "overflows",
            "Your softmax overflows: e to a large score is inf, and inf/inf is NaN. "
            "Subtract the largest score first.",
            (overflows,),
        ),
        Mistake(
            "largest of all",
            "You subtracted the largest score of the whole table, so rows far below it become 0/0: "
            "each row needs its own maximum, `dim` and `keepdim=True`.",
            (largest_of_all,),
        ),
        Mistake(
            "dim ignored",
            "You work along the last axis whatever `dim` says.",
            (last_axis_always,),
        ),
        Mistake(
            "first axis always",
            "Your shares add up to 1 along the first axis whatever `dim` says: pass `dim` to the maximum and to "
            "the sum.",
            (first_axis_always,),
        ),
        Mistake(
            "first axis by default",
            "Where `dim` is not given your shares add up to 1 along the first axis: the default is −1, "
            "the last.",
            (first_axis_by_default,),
        ),
        Mistake(
            "axis lost",
            "You summed without `keepdim=True`, so the sums lost their axis and divide the wrong "
            "entries, or do not fit.",
            (axis_lost,),
        ),
        Mistake(
            "shares of everything",
            "All your shares together add up to 1: they must do so along `dim`, row by row.",
            (shares_of_everything,),
        ),
        Mistake(
            "not divided",
            "You stopped at the powers of e: divide by their sum, so that the shares add up to 1.",
            (not_divided,),
        ),
        Mistake(
            "no powers",
            "You divided the scores by their sum: take the powers of e first, "
            "or negative scores give negative shares.",
            (no_powers,),
        ),
        Mistake(
            "maximum above only",
            "You subtracted the maximum above the fraction bar and not below: "
            "it cancels only if both have it.",
            (maximum_above_only,),
        ),
        Mistake(
            "divided by the maximum",
            "You divided by the largest score: subtract it. Dividing changes the shares.",
            (divided_by_maximum,),
        ),
        Mistake(
            "logarithms",
            "These are the logarithms of the shares: return the shares.",
            (logarithms,),
        ),
    ),
    hints=(
        "`x.exp()` gives e to the power of each score. Divided by their sum along `dim`, the powers "
        "become shares. This much is right for small scores.",
        "A sum that is to divide what it was taken from must keep its axis: "
        "`.sum(dim=dim, keepdim=True)` has size 1 there and broadcasts.",
        "Before the powers, subtract `x.amax(dim=dim, keepdim=True)`, the largest score along `dim`: "
        "the shares stay the same and nothing can overflow.",
    ),
)

# --- batched_scores --------------------------------------------------------------------------


def draw_batched_scores(seed: int) -> list[Case]:
    """Draw queries and keys: one of each, unequal numbers, square ones, float64, gaps in memory."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str, batch: int, n_q: int, n_k: int, d: int, dtype: torch.dtype = torch.float32
    ) -> Case:
        queries = torch.randn(batch, n_q, d, generator=g, dtype=dtype)
        keys = torch.randn(batch, n_k, d, generator=g, dtype=dtype)
        return Case(label, {"queries": queries, "keys": keys})

    turned = case("tensors laid out in another order", 3, 4, 5, 6, torch.float64)
    for name, tensor in turned.inputs.items():
        assert isinstance(tensor, Tensor)
        turned.inputs[name] = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    return [
        case("one query, one key, one number each", 1, 1, 1, 1),
        case("a batch of one", 1, 2, 3, 4),
        case("more keys than queries, odd widths", 2, 3, 5, 7, torch.float64),
        case("more queries than keys", 2, 4, 2, 3),
        case("as many queries as keys as numbers in each", 2, 3, 3, 3),
        case("one query in each entry", 3, 1, 4, 2),
        turned,
    ]


def oracle_batched_scores(queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """Take one dot product after the other."""
    scores = [[[torch.dot(q, k) for k in ks] for q in qs] for qs, ks in zip(queries, keys)]
    return {
        "result": torch.stack([torch.stack([torch.stack(row) for row in each]) for each in scores])
    }


def keys_not_turned(queries: Tensor, keys: Tensor) -> Tensor:
    """Multiply without transposing."""
    return queries @ keys


def rows_for_keys(queries: Tensor, keys: Tensor) -> Tensor:
    """Make a row for each key."""
    return keys @ queries.transpose(-2, -1)


def batch_summed(queries: Tensor, keys: Tensor) -> Tensor:
    """Add the entries of the batch up."""
    return torch.einsum("bqd,bkd->qk", queries, keys)


def same_place_only(queries: Tensor, keys: Tensor) -> Tensor:
    """Pair query i with key i alone."""
    return (queries * keys).sum(-1)


def first_keys_for_all(queries: Tensor, keys: Tensor) -> Tensor:
    """Ask the keys of the first entry only."""
    return queries @ keys[0].T


def everyone_in_the_batch(queries: Tensor, keys: Tensor) -> Tensor:
    """Ask the keys of all entries."""
    return torch.einsum("bqd,ckd->bcqk", queries, keys)


def cosines(queries: Tensor, keys: Tensor) -> Tensor:
    """Divide by the lengths."""
    return F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).transpose(-2, -1)


def products_not_summed(queries: Tensor, keys: Tensor) -> Tensor:
    """Keep the axis of width d."""
    return queries[:, :, None] * keys[:, None]


def mean_over_width(queries: Tensor, keys: Tensor) -> Tensor:
    """Divide by d."""
    return queries @ keys.transpose(-2, -1) / queries.shape[-1]


def all_axes_turned(queries: Tensor, keys: Tensor) -> Tensor:
    """Turn the keys as `keys.T` does: every axis, the batch included."""
    return queries @ keys.permute(2, 1, 0)


def divided_by_root_of_width(queries: Tensor, keys: Tensor) -> Tensor:
    """Divide by √d, as attention does."""
    return queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5


BATCHED_SCORES = Exercise(
    name="batched_scores",
    lesson=0,
    points=2,
    probe=probes.batched_scores,
    draw=draw_batched_scores,
    oracle=oracle_batched_scores,
    finished=(finished.batched_scores,),
    forbidden=(_MODULE,),
    minutes=6,
    difficulty=2,
    mistakes=(
        Mistake(
            "keys not turned",
            "You multiplied without turning the keys: `@` takes rows on the left and columns on the "
            "right, so the keys need `.transpose(-2, -1)`.",
            (keys_not_turned,),
        ),
        Mistake(
            "rows for keys",
            "Your table has a row for each key: it needs a row for each query.",
            (rows_for_keys,),
        ),
        Mistake(
            "batch summed",
            "You added the entries of the batch up: the batch letter must stand in the result too, "
            "`…->bqk`.",
            (batch_summed,),
        ),
        Mistake(
            "same place only",
            "You paired query i with key i alone: every query meets every key of its entry.",
            (same_place_only,),
        ),
        Mistake(
            "first keys for all",
            "You used the keys of the first batch entry for all of them.",
            (first_keys_for_all,),
        ),
        Mistake(
            "everyone in the batch",
            "Your queries meet the keys of other batch entries too: entries must not see each other.",
            (everyone_in_the_batch,),
        ),
        Mistake(
            "cosines",
            "You divided by the lengths: these scores are dot products, not cosines.",
            (cosines,),
        ),
        Mistake(
            "products not summed",
            "You multiplied but did not add up over the last axis, so the width d is still there.",
            (products_not_summed,),
        ),
        Mistake(
            "mean over the width",
            "You divided by d: a dot product is a sum, not a mean.",
            (mean_over_width,),
        ),
        Mistake(
            "all axes turned",
            "`keys.T` turns all three axes round, the batch included: swap the last two alone, "
            "`keys.transpose(-2, -1)`.",
            (all_axes_turned,),
        ),
        Mistake(
            "divided by √d",
            "You divided by √d: attention will do that (lesson 07), but these scores are plain dot products.",
            (divided_by_root_of_width,),
        ),
    ),
    hints=(
        "For one batch entry this is a matrix product: rows of queries against rows of keys. "
        "`@` wants the second matrix's vectors as columns, so the keys must be turned on their side.",
        "`@` works on the last two axes and leaves the ones before alone, so the batch takes care of "
        "itself. `keys.transpose(-2, -1)` swaps the last two axes: (batch, d, n_k).",
        'In einsum, name each axis by a letter: "bqd,bkd->…". What stands after the arrow is kept, '
        "what does not is summed over. Which letters does the result have?",
    ),
)

EXERCISES = (DOT_PRODUCT, COSINE_SIMILARITY, SOFTMAX, BATCHED_SCORES)
