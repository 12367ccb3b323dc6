"""Lesson 07, self-attention: what is drawn, what is right, what often goes wrong."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.probes import lesson_07 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import attention as finished
from course_lib.models.attention import causal_mask, padding_mask

FORBIDDEN = (
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "course_lib.models.attention",
)

# --- attention -------------------------------------------------------------------------------


def draw_attention(seed: int) -> list[Case]:
    """Draw queries, keys, values and masks of many shapes."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: tuple[int, ...],
        n_q: int,
        n_k: int,
        d_k: int,
        d_v: int,
        dtype: torch.dtype = torch.float32,
        mask: Tensor | None = None,
        scale: float = 1.0,
    ) -> Case:
        q = torch.randn(*batch, n_q, d_k, generator=g, dtype=dtype) * scale
        k = torch.randn(*batch, n_k, d_k, generator=g, dtype=dtype)
        v = torch.randn(*batch, n_k, d_v, generator=g, dtype=dtype)
        cotangent = torch.randn(*batch, n_q, d_v, generator=g, dtype=dtype)
        return Case(label, {"q": q, "k": k, "v": v, "mask": mask, "cotangent": cotangent})

    def some(*shape: int) -> Tensor:
        """Return a mask in which each row lets at least one key through, and hides at least one."""
        mask = torch.rand(*shape, generator=g) < 0.5
        order = torch.rand(*shape, generator=g).argsort(dim=-1)
        return mask.scatter(-1, order[..., :1], True).scatter(-1, order[..., 1:2], False)

    one_row_hidden = some(2, 3, 4)
    one_row_hidden[1, 2] = False
    strided = case("non-contiguous tensors with two batch axes", (2, 3), 4, 5, 6, 3)
    for name in ("q", "k", "v"):
        # the same numbers in another memory layout, as a reshape into heads gives them
        tensor = strided.inputs[name]
        strided.inputs[name] = tensor.transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("one query, one key", (), 1, 1, 3, 2, torch.float64),
        case("two queries, three keys, no mask", (), 2, 3, 4, 2),
        case("a batch of one, odd widths, float64", (1,), 5, 7, 5, 3, torch.float64),
        case("a mask", (2,), 3, 4, 5, 6, mask=some(2, 3, 4)),
        case("a mask for a whole batch", (3,), 2, 5, 4, 4, torch.float64, some(2, 5)),
        case("a fully masked row", (2,), 3, 4, 4, 3, torch.float64, one_row_hidden),
        case("large scores", (2,), 3, 4, 16, 2, torch.float64, scale=3000.0),
        strided,
    ]


def oracle_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, cotangent: Tensor
) -> dict[str, Tensor]:
    """Ask PyTorch's own scaled_dot_product_attention; with the identity as values it gives the weights."""
    q, k, v = (each.detach().double().requires_grad_() for each in (q, k, v))
    dtype = cotangent.dtype
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    identity = torch.eye(k.shape[-2], dtype=torch.float64).expand(*k.shape[:-1], k.shape[-2])
    weights = F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)
    found = {"output": output, "weights": weights}
    found |= gradients(output, cotangent.double(), {"q": q, "k": k, "v": v})
    return {name: tensor.detach().to(dtype) for name, tensor in found.items()}


def _weighted(scores: Tensor, v: Tensor, mask: Tensor | None, dim: int = -1) -> Any:
    """Finish an attention whose scores are given: mask, softmax, average."""
    if mask is None:
        weights = scores.softmax(dim)
    else:
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim) * mask
    return weights @ v, weights


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def no_scaling(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Forget the √d."""
    return _weighted(q @ k.transpose(-2, -1), v, mask)


def scaled_by_d(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Divide by d."""
    return _weighted(q @ k.transpose(-2, -1) / q.shape[-1], v, mask)


def scaled_by_d_v(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Divide by the root of the values' width."""
    return _weighted(q @ k.transpose(-2, -1) / math.sqrt(v.shape[-1]), v, mask)


def softmax_over_queries(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Normalise each column."""
    return _weighted(_scores(q, k), v, mask, dim=-2)


def mask_inverted(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Hide what should be kept."""
    return _weighted(_scores(q, k), v, None if mask is None else ~mask)


def mask_ignored(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Never look at the mask."""
    return _weighted(_scores(q, k), v, None)


def mask_after_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Set weights to zero after the softmax, so that rows no longer sum to 1."""
    weights = _scores(q, k).softmax(-1)
    if mask is not None:
        weights = weights * mask
    return weights @ v, weights


def masked_row_nan(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Fill with −∞ and leave it at that."""
    scores = _scores(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights


def masked_row_uniform(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Fill with a large negative number and leave it at that."""
    scores = _scores(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = scores.softmax(-1)
    return weights @ v, weights


def exp_overflows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Write the softmax without subtracting the maximum."""
    powers = _scores(q, k).exp()
    if mask is not None:
        powers = powers * mask
    total = powers.sum(-1, keepdim=True)
    weights = powers / torch.where(total == 0, torch.ones_like(total), total)
    return weights @ v, weights


def weights_not_returned(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """Return the scores where the weights belong."""
    output, _ = _weighted(_scores(q, k), v, mask)
    return output, _scores(q, k)


ATTENTION = Exercise(
    name="attention",
    lesson=7,
    points=4,
    probe=probes.attention,
    draw=draw_attention,
    oracle=oracle_attention,
    finished=(finished.attention,),
    forbidden=FORBIDDEN,
    minutes=15,
    difficulty=3,
    mistakes=(
        Mistake(
            "no scaling",
            "You did not scale: divide the scores by √d_k before the softmax.",
            (no_scaling,),
        ),
        Mistake("scaled by d", "You scaled by d, not √d.", (scaled_by_d,)),
        Mistake(
            "scaled by the values' width",
            "You scaled by √d_v: the dot products are sums over the width of queries and keys, d_k.",
            (scaled_by_d_v,),
        ),
        Mistake(
            "softmax over queries",
            "Softmax over the wrong axis: each query's weights over the keys must sum to 1, "
            "and yours sum to 1 over the queries.",
            (softmax_over_queries,),
        ),
        Mistake(
            "mask inverted",
            "Your mask keeps what it should hide: True means “may attend”.",
            (mask_inverted,),
        ),
        Mistake("mask ignored", "You never use `mask`.", (mask_ignored,)),
        Mistake(
            "mask after softmax",
            "You applied the mask after the softmax, so the weights of a masked row no longer sum to 1: "
            "hide the scores before it.",
            (mask_after_softmax,),
        ),
        Mistake(
            "NaN in a masked row",
            "A row that is masked everywhere gives NaN (softmax of only −∞ is 0/0): it should give zeros.",
            (masked_row_nan,),
        ),
        Mistake(
            "uniform masked row",
            "A row that is masked everywhere attends to everything equally: it should give zeros.",
            (masked_row_uniform,),
        ),
        Mistake(
            "softmax overflows",
            "Your own softmax overflows for large scores: subtract each row's maximum first, "
            "or call `.softmax(dim=…)`.",
            (exp_overflows,),
        ),
        Mistake(
            "scores returned",
            "You return the scores where the weights belong: the second result is after the softmax.",
            (weights_not_returned,),
        ),
    ),
    hints=(
        "Work on the last two axes only: `k.transpose(-2, -1)` turns (…, n_k, d_k) into (…, d_k, n_k), "
        "so `q @ k.transpose(-2, -1)` holds all dot products, a row for each query.",
        "Scores → divide by √d_k → hide what `mask` forbids → softmax over the keys (the last axis) → "
        "`weights @ v`. `scores.masked_fill(~mask, number)` writes a number where the mask is False.",
        "With −∞ as that number a row that is masked everywhere becomes NaN. Take the most negative finite "
        "number, `torch.finfo(scores.dtype).min`, and multiply the weights by the mask after the softmax: a "
        "row that is masked everywhere holds equal numbers, so its softmax is 1/n_k each, and should be 0.",
    ),
)

# --- causal_mask -----------------------------------------------------------------------------


def draw_causal_mask(seed: int) -> list[Case]:
    """Draw sizes: square ones, and more keys than queries."""
    g = torch.Generator().manual_seed(seed)
    n = int(torch.randint(3, 8, (), generator=g))
    extra = int(torch.randint(1, 5, (), generator=g))
    x = torch.zeros(1)
    return [
        Case("one position", {"n_q": 1, "n_k": None, "x": x}),
        Case("as many keys as queries", {"n_q": n, "n_k": None, "x": x}),
        Case("as many keys as queries, both given", {"n_q": n, "n_k": n, "x": x}),
        Case("one query and a cache of keys", {"n_q": 1, "n_k": n, "x": x}),
        Case("more keys than queries", {"n_q": n, "n_k": n + extra, "x": x}),
    ]


def oracle_causal_mask(n_q: int, n_k: int | None, x: Tensor) -> dict[str, Tensor | str]:
    """Ask PyTorch's own bottom-right aligned bias."""
    from torch.nn.attention.bias import causal_lower_right

    bias = causal_lower_right(n_q, n_q if n_k is None else n_k)
    return {"mask": bias._materialize(), "device of the mask": "meta"}


def _ones(n_q: int, n_k: int | None, device: Any) -> Tensor:
    return torch.ones(n_q, n_q if n_k is None else n_k, dtype=torch.bool, device=device)


def _shift(n_q: int, n_k: int | None) -> int:
    return 0 if n_k is None else n_k - n_q


def cannot_see_itself(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Leave out the diagonal."""
    return _ones(n_q, n_k, device).tril(_shift(n_q, n_k) - 1)


def true_means_hidden(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Use the opposite convention."""
    return ~_ones(n_q, n_k, device).tril(_shift(n_q, n_k))


def sees_the_future(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Take the upper triangle."""
    return _ones(n_q, n_k, device).triu(_shift(n_q, n_k))


def aligned_top_left(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Forget the cached keys."""
    return _ones(n_q, n_k, device).tril()


def numbers_instead_of_booleans(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Return ones and zeros."""
    return _ones(n_q, n_k, device).tril(_shift(n_q, n_k)).float()


def additive(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Return zeros and −∞, to be added to the scores."""
    hidden = ~_ones(n_q, n_k, device).tril(_shift(n_q, n_k))
    return torch.zeros(hidden.shape, device=device).masked_fill(hidden, -math.inf)


def ignores_device(n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Make the mask where PyTorch makes tensors if nothing is said."""
    return _ones(n_q, n_k, None).tril(_shift(n_q, n_k))


CAUSAL_MASK = Exercise(
    name="causal_mask",
    lesson=7,
    points=2,
    probe=probes.causal_mask,
    draw=draw_causal_mask,
    oracle=oracle_causal_mask,
    finished=(finished.causal_mask,),
    forbidden=("torch.nn.attention.bias.causal_lower_right", "course_lib.models.attention"),
    minutes=10,
    difficulty=2,
    mistakes=(
        Mistake(
            "cannot see itself",
            "A position cannot see itself in your mask: the diagonal belongs to the past (≤, not <).",
            (cannot_see_itself,),
        ),
        Mistake(
            "True means hidden",
            "Your mask is True where it hides: in this course, as in SDPA, True means “may attend”.",
            (true_means_hidden,),
        ),
        Mistake(
            "sees the future",
            "Your mask shows the future and hides the past: you took the upper triangle.",
            (sees_the_future,),
        ),
        Mistake(
            "aligned top left",
            "With more keys than queries your mask starts at the first key: the last query stands at the "
            "last key, so query i has position i + n_k − n_q.",
            (aligned_top_left,),
        ),
        Mistake(
            "numbers instead of Booleans",
            "Your mask holds 1.0 and 0.0: make it Boolean (a comparison gives one).",
            (numbers_instead_of_booleans,),
        ),
        Mistake(
            "additive mask",
            "Your mask holds 0 and −∞, to be added to scores: this course's masks are Boolean.",
            (additive,),
        ),
        Mistake(
            "ignores device",
            "Your mask is made on the CPU whatever `device` says: hand it on, as in `torch.arange(n, device=device)`.",
            (ignores_device,),
        ),
    ),
    hints=(
        "Give every query and every key its absolute position. A query may see a key whose position is "
        "not larger than its own.",
        "`torch.arange(n)[:, None]` is a column and `torch.arange(n)[None, :]` a row: comparing them "
        "gives a whole table of Booleans.",
        "Keys have positions 0 … n_k − 1. The last query stands at the last key, so the queries have "
        "positions n_k − n_q … n_k − 1. Where `n_k` is not given (None), it is n_q: say so in the first line.",
    ),
)

# --- padding_mask ----------------------------------------------------------------------------


def draw_padding_mask(seed: int) -> list[Case]:
    """Draw lengths: full, short, empty, one sentence alone."""
    g = torch.Generator().manual_seed(seed)
    n_k = int(torch.randint(4, 9, (), generator=g))
    lengths = torch.randint(1, n_k, (4,), generator=g)
    lengths[0] = n_k
    return [
        Case("one sentence of one token", {"lengths": torch.tensor([1]), "n_k": 1}),
        Case("one short sentence", {"lengths": torch.tensor([2]), "n_k": 5}),
        Case("sentences of several lengths", {"lengths": lengths, "n_k": n_k}),
        Case("an empty sentence", {"lengths": torch.tensor([0, 3]), "n_k": 3}),
        Case("lengths as int32", {"lengths": lengths.flip(0).int(), "n_k": n_k + 1}),
    ]


def oracle_padding_mask(lengths: Tensor, n_k: int) -> dict[str, Tensor]:
    """Count, one sentence after the other."""
    rows = [[position < int(length) for position in range(n_k)] for length in lengths]
    return {"mask": torch.tensor(rows, dtype=torch.bool).unsqueeze(1)}


def _positions(lengths: Tensor, n_k: int) -> Tensor:
    return torch.arange(n_k, device=lengths.device)


def one_too_many(lengths: Tensor, n_k: int) -> Tensor:
    """Use ≤."""
    return (_positions(lengths, n_k) <= lengths[:, None])[:, None, :]


def true_is_padding(lengths: Tensor, n_k: int) -> Tensor:
    """Mark the padding."""
    return (_positions(lengths, n_k) >= lengths[:, None])[:, None, :]


def no_query_axis(lengths: Tensor, n_k: int) -> Tensor:
    """Leave out the axis of size 1."""
    return _positions(lengths, n_k) < lengths[:, None]


def hides_queries(lengths: Tensor, n_k: int) -> Tensor:
    """Put the axis of size 1 where keys belong."""
    return (_positions(lengths, n_k) < lengths[:, None])[:, :, None]


def padding_in_front(lengths: Tensor, n_k: int) -> Tensor:
    """Take the last tokens for the real ones."""
    return (_positions(lengths, n_k) >= n_k - lengths[:, None])[:, None, :]


def padding_as_numbers(lengths: Tensor, n_k: int) -> Tensor:
    """Return ones and zeros."""
    return (_positions(lengths, n_k) < lengths[:, None])[:, None, :].long()


PADDING_MASK = Exercise(
    name="padding_mask",
    lesson=7,
    points=2,
    probe=probes.padding_mask,
    draw=draw_padding_mask,
    oracle=oracle_padding_mask,
    finished=(finished.padding_mask,),
    forbidden=("course_lib.models.attention",),
    minutes=8,
    difficulty=2,
    mistakes=(
        Mistake(
            "one too many",
            "Your mask lets one padding token through: positions count from 0, so compare with <, not ≤.",
            (one_too_many,),
        ),
        Mistake(
            "True is padding",
            "Your mask is True at the padding: True means “may attend”, so it marks the real tokens.",
            (true_is_padding,),
        ),
        Mistake(
            "no axis for queries",
            "Your mask has shape (batch, n_k): it needs an axis of size 1 in the middle, "
            "(batch, 1, n_k), to broadcast over the queries.",
            (no_query_axis,),
        ),
        Mistake(
            "hides queries",
            "Your mask hides queries, not keys: keys stand on the last axis, (batch, 1, n_k).",
            (hides_queries,),
        ),
        Mistake(
            "padding in front",
            "Your mask takes the last tokens for the real ones: here the padding comes after them.",
            (padding_in_front,),
        ),
        Mistake(
            "numbers instead of Booleans",
            "Your mask holds 1 and 0: make it Boolean (a comparison gives one).",
            (padding_as_numbers,),
        ),
    ),
    hints=(
        "The key at position p of a sentence is real if p is smaller than that sentence's length.",
        "Make the positions with `torch.arange(n_k, device=lengths.device)` and compare them with the "
        "lengths, each on an axis of its own.",
        "The result has three axes: batch, queries, keys. `lengths[:, None, None]` has shape "
        "(batch, 1, 1) and `positions[None, None, :]` has shape (1, 1, n_k).",
    ),
)

# --- SelfAttention ---------------------------------------------------------------------------


def draw_self_attention(seed: int) -> list[Case]:
    """Draw modules and sentences, with and without padding and a causal mask."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, int, int],
        d_k: int,
        d_v: int,
        lengths: list[int] | None = None,
        causal: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        batch, n, d_model = shape
        x = torch.randn(batch, n, d_model, generator=g, dtype=dtype)
        changed = x.clone()
        last = max(1, n // 3)
        changed[:, -last:] = torch.randn(batch, last, d_model, generator=g, dtype=dtype)
        weights = {
            f"to_{name}.weight": torch.randn(width, d_model, generator=g, dtype=dtype)
            / math.sqrt(d_model)
            for name, width in (("q", d_k), ("k", d_k), ("v", d_v))
        }
        return Case(
            label,
            {
                "x": x,
                "lengths": None if lengths is None else torch.tensor(lengths),
                "causal": causal,
                "weights": weights,
                "cotangent": torch.randn(batch, n, d_v, generator=g, dtype=dtype),
                "x_with_another_end": changed,
            },
        )

    return [
        case("one sentence of one word", (1, 1, 3), 2, 2),
        case("everyone sees everyone", (2, 4, 5), 3, 7),
        case("a causal mask", (2, 5, 4), 6, 3, causal=True, dtype=torch.float64),
        case("padding", (3, 5, 4), 5, 4, lengths=[5, 2, 3]),
        case("padding and a causal mask", (2, 6, 7), 4, 5, [3, 6], True, torch.float64),
        case("an empty sentence in the batch", (2, 3, 4), 3, 2, lengths=[0, 3], causal=True),
    ]


def oracle_self_attention(
    x: Tensor,
    lengths: Tensor | None,
    causal: bool,
    weights: dict[str, Tensor],
    cotangent: Tensor,
    x_with_another_end: Tensor,
) -> dict[str, Tensor]:
    """Compose F.linear and F.scaled_dot_product_attention in float64."""
    dtype = x.dtype
    n = x.shape[1]
    mask = torch.ones(x.shape[0], n, n, dtype=torch.bool)
    if causal:
        mask = mask.tril()
    if lengths is not None:
        mask = mask & oracle_padding_mask(lengths, n)["mask"]
    leaf = x.detach().double().requires_grad_()
    matrices = {name: each.double().requires_grad_() for name, each in weights.items()}

    def attend(inputs: Tensor, identity: bool = False) -> Tensor:
        q, k, v = (F.linear(inputs, matrices[f"to_{name}.weight"]) for name in "qkv")
        if identity:
            v = torch.eye(n, dtype=torch.float64).expand(x.shape[0], n, n)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    output = attend(leaf)
    found = {"output": output, "weights": attend(leaf, identity=True)}
    found |= gradients(output, cotangent.double(), {"x": leaf, **matrices})
    found["output after the last positions changed"] = attend(x_with_another_end.double())
    return {name: tensor.detach().to(dtype) for name, tensor in found.items()}


class _Variant(finished.SelfAttention):
    """A SelfAttention that goes wrong in one way, which its subclasses say."""

    def mask(self, x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        """Return the right mask."""
        n = x.shape[1]
        mask = torch.ones(x.shape[0], n, n, dtype=torch.bool, device=x.device)
        if causal:
            mask = mask & causal_mask(n, device=x.device)
        if lengths is not None:
            mask = mask & padding_mask(lengths, n)
        return mask

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values."""
        return self.to_q(x), self.to_k(x), self.to_v(x)

    def forward(self, x: Tensor, lengths: Tensor | None = None, causal: bool = False) -> Any:
        """Attend."""
        return finished.attention(*self.project(x), self.mask(x, lengths, causal))


class IgnoresLengths(_Variant):
    """Let padding be attended to."""

    def mask(self, x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        """Forget the lengths."""
        return super().mask(x, None, causal)


class IgnoresCausal(_Variant):
    """Let the future be attended to."""

    def mask(self, x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        """Forget the causal mask."""
        return super().mask(x, lengths, False)


class OneMaskAtATime(_Variant):
    """Use either mask, never both."""

    def mask(self, x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        """Take the causal mask or, failing that, the padding mask."""
        return super().mask(x, None if causal else lengths, causal)


class EitherMaskSuffices(_Variant):
    """Join the masks with “or”."""

    def mask(self, x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        """Let through what either mask lets through."""
        if lengths is not None and causal:
            return super().mask(x, lengths, False) | super().mask(x, None, True)
        return super().mask(x, lengths, causal)


class QueriesAndKeysSwapped(_Variant):
    """Ask with keys."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Swap queries and keys."""
        return self.to_k(x), self.to_q(x), self.to_v(x)


class PaddingHidesQueries(_Variant):
    """Hide the rows of padding rather than the columns."""

    def mask(self, x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        """Transpose the padding mask."""
        mask = super().mask(x, None, causal)
        if lengths is None:
            return mask
        return mask & padding_mask(lengths, x.shape[1]).transpose(1, 2)


class ForgetsValues(nn.Module):
    """Average the inputs themselves, without projecting them to values."""

    def __init__(self, d_model: int, d_k: int, d_v: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(d_model, d_k, bias=False)
        self.to_k = nn.Linear(d_model, d_k, bias=False)
        self.to_v = nn.Linear(d_model, d_v, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None, causal: bool = False) -> Any:
        """Attend with x as values."""
        mask = _Variant.mask(self, x, lengths, causal)  # type: ignore[arg-type]
        return finished.attention(self.to_q(x), self.to_k(x), x, mask)


SELF_ATTENTION = Exercise(
    name="SelfAttention",
    lesson=7,
    points=4,
    probe=probes.self_attention,
    draw=draw_self_attention,
    oracle=oracle_self_attention,
    finished=(finished.SelfAttention,),
    needs=("attention", "causal_mask", "padding_mask"),
    forbidden=FORBIDDEN,
    minutes=15,
    difficulty=3,
    mistakes=(
        Mistake(
            "ignores lengths",
            "Padding is attended to: you do not use `lengths`.",
            (IgnoresLengths,),
        ),
        Mistake(
            "ignores causal",
            "The future is attended to: you do not use `causal`.",
            (IgnoresCausal,),
        ),
        Mistake(
            "one mask at a time",
            "Where a batch is both padded and causal you use the causal mask alone: a key must pass both.",
            (OneMaskAtATime,),
        ),
        Mistake(
            "masks joined with or",
            "You joined the masks with “or”: a key must pass both masks, so join them with `&`.",
            (EitherMaskSuffices,),
        ),
        Mistake(
            "queries and keys swapped",
            "You swapped queries and keys: `to_q` makes what asks, `to_k` what is asked.",
            (QueriesAndKeysSwapped,),
        ),
        Mistake(
            "padding hides queries",
            "Your padding mask hides rows (queries): it must hide columns (keys).",
            (PaddingHidesQueries,),
        ),
        Mistake(
            "forgets the values",
            "You average `x` itself: the values are `self.to_v(x)`.",
            (ForgetsValues,),
        ),
    ),
    hints=(
        "Queries, keys and values are three projections of the same `x`: `self.to_q(x)` and so on. Then "
        "call `attention` with a mask.",
        "Start from a mask that allows everything, `torch.ones(1, n, n, dtype=torch.bool, "
        "device=x.device)`, and narrow it with `&` for each reason to hide something.",
        "`mask & causal_mask(n, device=x.device)` if `causal`, and `mask & padding_mask(lengths, n)` if "
        "`lengths` is given: (1, n, n) and (batch, 1, n) broadcast to (batch, n, n).",
    ),
)

EXERCISES = (ATTENTION, CAUSAL_MASK, PADDING_MASK, SELF_ATTENTION)
