"""Lesson 08, multi-head attention: what is drawn, what is right, what often goes wrong."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.probes import lesson_08 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import multi_head as finished
from course_lib.models.attention import attention, causal_mask
from course_lib.models.multi_head import merge_heads, split_heads

FORBIDDEN = (
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.functional.multi_head_attention_forward",
    "torch.nn.MultiheadAttention",
    "course_lib.models.multi_head",
)

# --- split_heads, merge_heads ----------------------------------------------------------------


def draw_split_heads(seed: int) -> list[Case]:
    """Draw sequences and numbers of heads, with none to two batch axes."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: tuple[int, ...],
        n: int,
        n_heads: int,
        d_head: int,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        return Case(
            label,
            {
                "x": torch.randn(*batch, n, n_heads * d_head, generator=g, dtype=dtype),
                "n_heads": n_heads,
                "heads": torch.randn(*batch, n_heads, n, d_head, generator=g, dtype=dtype),
                "cotangent": torch.randn(*batch, n_heads, n, d_head, generator=g, dtype=dtype),
            },
        )

    strided = case("non-contiguous tensors", (2,), 3, 2, 4)
    for name in ("x", "heads"):
        tensor = strided.inputs[name]
        strided.inputs[name] = tensor.transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("one position, two heads", (1,), 1, 2, 2),
        case("three positions, two heads", (2,), 3, 2, 4),
        case("one head", (2,), 4, 1, 3),
        case("as many heads as numbers", (2,), 3, 5, 1, torch.float64),
        case("odd sizes, float64", (1,), 7, 3, 5, torch.float64),
        case("as many positions as heads", (2,), 4, 4, 3),
        case("no batch axis", (), 4, 2, 3),
        case("two batch axes", (2, 3), 4, 2, 3, torch.float64),
        strided,
    ]


def oracle_split_heads(
    x: Tensor, n_heads: int, heads: Tensor, cotangent: Tensor
) -> dict[str, Tensor]:
    """Cut and join, head after head."""
    leaf = x.detach().clone().requires_grad_()
    pieces = torch.stack(leaf.chunk(n_heads, dim=-1), dim=-3)
    return {
        "result of split_heads": pieces.detach(),
        "result of merge_heads": torch.cat(heads.unbind(dim=-3), dim=-1),
        **gradients(pieces, cotangent, {"x": leaf}),
    }


def _width(x: Tensor, n_heads: int) -> int:
    return x.shape[-1] // n_heads


def split_by_view(x: Tensor, n_heads: int) -> Tensor:
    """Reshape straight to the right shape."""
    return x.reshape(*x.shape[:-2], n_heads, x.shape[-2], _width(x, n_heads))


def split_interleaved(x: Tensor, n_heads: int) -> Tensor:
    """Deal the numbers out to the heads like cards."""
    return x.unflatten(-1, (-1, n_heads)).movedim(-1, -3)


def split_not_transposed(x: Tensor, n_heads: int) -> Tensor:
    """Cut, and leave the heads behind the positions."""
    return x.unflatten(-1, (n_heads, -1))


def split_by_width(x: Tensor, n_heads: int) -> Tensor:
    """Take the number of heads for the width of one."""
    return x.unflatten(-1, (-1, n_heads)).transpose(-3, -2)


def split_reversed(x: Tensor, n_heads: int) -> Tensor:
    """Swap the last two axes as well."""
    return split_heads(x, n_heads).transpose(-2, -1)


def merge_by_view(x: Tensor) -> Tensor:
    """Reshape without moving the heads back."""
    return x.reshape(*x.shape[:-3], x.shape[-2], x.shape[-3] * x.shape[-1])


def merge_interleaved(x: Tensor) -> Tensor:
    """Put the first numbers of all heads first."""
    return x.movedim(-3, -1).flatten(-2)


def merge_mean(x: Tensor) -> Tensor:
    """Average the heads."""
    return x.mean(dim=-3)


def merge_wrong_axes(x: Tensor) -> Tensor:
    """Join the positions of all heads one after the other."""
    return x.flatten(-3, -2)


SPLIT_HEADS = Exercise(
    name="split_heads",
    lesson=8,
    points=2,
    probe=probes.split_heads,
    draw=draw_split_heads,
    oracle=oracle_split_heads,
    defines=("split_heads", "merge_heads"),
    finished=(finished.split_heads, finished.merge_heads),
    forbidden=FORBIDDEN,
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "split by a reshape alone",
            "Your split_heads reshapes straight to (…, h, n, d_head): the shape is right, but a head gets "
            "whole positions instead of a piece of each. Cut the last axis first, then swap two axes.",
            (split_by_view, merge_heads),
        ),
        Mistake(
            "heads interleaved",
            "Your split_heads deals the numbers out like cards: head 0 must get the first d_head numbers "
            "of each vector, so the axis of heads stands before that of d_head.",
            (split_interleaved, merge_heads),
        ),
        Mistake(
            "both by a reshape alone",
            "Both of yours only reshape, and undo each other, but a head gets whole positions instead of a "
            "piece of each. Cut the last axis first, then swap two axes; and back.",
            (split_by_view, merge_by_view),
        ),
        Mistake(
            "both like cards",
            "Both of yours deal the numbers out like cards, and undo each other: head 0 must get the "
            "*first* d_head numbers of each vector, so the axis of heads stands before that of d_head.",
            (split_interleaved, merge_interleaved),
        ),
        Mistake(
            "heads not moved",
            "Your split_heads gives (…, n, h, d_head): swap positions and heads, so that each head has a "
            "sequence of its own.",
            (split_not_transposed, merge_heads),
        ),
        Mistake(
            "number taken for width",
            "Your split_heads makes heads of width n_heads: n_heads says how many there are, and each is "
            "width / n_heads wide.",
            (split_by_width, merge_heads),
        ),
        Mistake(
            "last axes swapped",
            "Your split_heads gives (…, h, d_head, n): each head is a sequence of n vectors of width d_head, "
            "so the positions come first.",
            (split_reversed, merge_heads),
        ),
        Mistake(
            "merge by a reshape alone",
            "Your merge_heads reshapes without moving the heads back behind the positions: its shape is "
            "right, but a position gets numbers of other positions.",
            (split_heads, merge_by_view),
        ),
        Mistake(
            "merged like cards",
            "Your merge_heads mixes the heads number by number: the pieces stand side by side, all of "
            "head 0 first.",
            (split_heads, merge_interleaved),
        ),
        Mistake(
            "heads averaged",
            "Your merge_heads averages the heads: it should put them side by side, so that nothing is lost.",
            (split_heads, merge_mean),
        ),
        Mistake(
            "heads one after the other",
            "Your merge_heads joins the heads along the positions: (…, h·n, d_head) instead of "
            "(…, n, h·d_head).",
            (split_heads, merge_wrong_axes),
        ),
    ),
    hints=(
        "Two steps each way. Splitting: the last axis becomes two, (…, n, h, d_head); then two axes change "
        "places. Merging: the same steps backwards.",
        "`x.unflatten(-1, (n_heads, -1))` cuts the last axis; `.transpose(-3, -2)` swaps the third and the "
        "second axis from the end, however many batch axes stand before them.",
        "`merge_heads` is `x.transpose(-3, -2).flatten(-2)`. (`.view` fails here: after a transpose the "
        "numbers do not lie in order any more.)",
    ),
)

# --- MultiHeadAttention ----------------------------------------------------------------------


def draw_multi_head_attention(seed: int) -> list[Case]:
    """Draw layers and inputs: masks, contexts, shared heads, biases, a cache."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, int, int],
        n_heads: int,
        n_kv_heads: int | None = None,
        dtype: torch.dtype = torch.float32,
        mask: Tensor | None = None,
        n_context: int | None = None,
        n_cached: int | None = None,
        bias: bool = False,
        d_head: int | None = None,
    ) -> Case:
        batch, n, d_model = shape

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        sizes: dict[str, Any] = {"d_model": d_model, "n_heads": n_heads}
        if n_kv_heads is not None:
            sizes["n_kv_heads"] = n_kv_heads
        if bias:
            sizes["bias"] = True
        if d_head is not None:
            sizes["d_head"] = d_head
        width = d_head or d_model // n_heads
        shared = (n_kv_heads or n_heads) * width
        widths = {
            "to_q": (n_heads * width, d_model),
            "to_k": (shared, d_model),
            "to_v": (shared, d_model),
            "to_out": (d_model, n_heads * width),
        }
        weights = {}
        for name, (out, into) in widths.items():
            weights[f"{name}.weight"] = random(out, into) / math.sqrt(into)
            if bias:
                weights[f"{name}.bias"] = random(out)
        x = random(batch, n, d_model)
        changed = x.clone()
        last = max(1, n // 3)
        changed[:, -last:] = random(batch, last, d_model)
        cached = None
        if n_cached is not None:
            cached = [random(batch, n_kv_heads or n_heads, n_cached + n, width) for _ in range(2)]
        return Case(
            label,
            {
                "sizes": sizes,
                "weights": weights,
                "x": x,
                "context": None if n_context is None else random(batch, n_context, d_model),
                "mask": mask,
                "cached": cached,
                "cotangent": random(batch, n, d_model),
                "changed": changed,
            },
        )

    def real(n_k: int, *lengths: int) -> Tensor:
        return (torch.arange(n_k) < torch.tensor(lengths)[:, None])[:, None]

    # A mask for a batch comes with as many sentences as heads: there a forgotten axis raises no error.
    hidden_row = causal_mask(4).repeat(2, 1, 1)
    hidden_row[1, 2] = False
    strided = case("a non-contiguous input", (2, 4, 6), 2)
    strided.inputs["x"] = strided.inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    f64 = torch.float64
    return [
        case("one position, one head", (1, 1, 2), 1, dtype=f64),
        case("two heads, no mask", (2, 3, 6), 2),
        case("odd widths, float64", (1, 5, 15), 3, dtype=f64),
        case("a causal mask", (2, 4, 8), 4, mask=causal_mask(4)),
        case("as many sentences as heads, padded", (3, 4, 6), 3, mask=real(4, 4, 1, 2)),
        case(
            "padding and a causal mask",
            (2, 5, 6),
            2,
            dtype=f64,
            mask=real(5, 5, 3) & causal_mask(5),
        ),
        case("cross-attention", (2, 3, 4), 2, n_context=5, dtype=f64),
        case("cross-attention to a padded context", (2, 4, 4), 2, n_context=4, mask=real(4, 2, 4)),
        case("six query heads share three key heads", (2, 3, 12), 6, 3, dtype=f64),
        case("four query heads share two key heads, causal", (1, 4, 8), 4, 2, mask=causal_mask(4)),
        case("all query heads share one key head", (2, 4, 6), 3, 1),
        case("biases", (2, 3, 4), 2, bias=True, dtype=f64),
        case("a fully masked row", (2, 4, 4), 2, mask=hidden_row),
        case("heads wider than d_model / h", (2, 3, 4), 2, d_head=5),
        case("a cache that holds three positions", (2, 2, 6), 2, n_cached=3),
        case("a cache, shared key heads, one new position", (1, 1, 8), 4, 2, n_cached=4, dtype=f64),
        strided,
    ]


def oracle_multi_head_attention(
    sizes: dict[str, Any],
    weights: dict[str, Tensor],
    x: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    cached: list[Tensor] | None,
    cotangent: Tensor,
    changed: Tensor,
) -> dict[str, Any]:
    """Compose F.linear, torch.chunk and F.scaled_dot_product_attention(enable_gqa=True) in float64."""
    dtype = x.dtype
    h = sizes["n_heads"]
    kv_heads = sizes.get("n_kv_heads", h)
    matrices = {name: each.detach().double().requires_grad_() for name, each in weights.items()}
    leaf = x.detach().double().requires_grad_()
    memory = None if context is None else context.detach().double().requires_grad_()
    if mask is not None:
        mask = mask.expand(x.shape[0], *mask.shape[-2:])[:, None]

    def project(name: str, inputs: Tensor) -> Tensor:
        return F.linear(inputs, matrices[f"{name}.weight"], matrices.get(f"{name}.bias"))

    def heads(name: str, inputs: Tensor, count: int) -> Tensor:
        return torch.stack(project(name, inputs).chunk(count, dim=-1), dim=1)

    def attend(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        source = inputs if memory is None else memory
        q = heads("to_q", inputs, h)
        new_k, new_v = (heads(name, source, kv_heads) for name in ("to_k", "to_v"))
        k, v = (new_k, new_v) if cached is None else (each.double() for each in cached)
        identity = torch.eye(k.shape[-2], dtype=torch.float64)
        identity = identity.expand(*k.shape[:2], k.shape[-2], k.shape[-2])
        said, attended = (
            F.scaled_dot_product_attention(q, k, each, attn_mask=mask, enable_gqa=True)
            for each in (v, identity)
        )
        return project("to_out", torch.cat(said.unbind(1), dim=-1)), attended, new_k, new_v

    output, attended, new_k, new_v = attend(leaf)
    wrt = {"x": leaf, **matrices}
    if memory is not None:
        wrt["context"] = memory
    found = {"output": output, "weights": attended}
    found |= gradients(output, cotangent.double(), wrt)
    if cached is None:
        found["output after the last positions changed"] = attend(changed.double())[0]
    else:
        found |= {"keys given to the cache": new_k, "values given to the cache": new_v}
    expected: dict[str, Any] = {name: each.detach().to(dtype) for name, each in found.items()}
    expected["number of calls of self.attend"] = 1
    if cached is not None:
        expected["number of calls of cache.update"] = 1
    return expected


class _Variant(finished.MultiHeadAttention):
    """A MultiHeadAttention that goes wrong in one way, which its subclasses say."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what queries, keys and values are made of."""
        source = x if context is None else context
        return x, source, source

    def cut(self, each: Tensor) -> Tensor:
        """Cut keys or values into heads."""
        return split_heads(each, self.n_kv_heads)

    def remember(self, cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange new keys and values for all of them."""
        return (k, v) if cache is None else cache.update(k, v)

    def share(self, each: Tensor) -> Tensor:
        """Give each query head its key head."""
        return each.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)

    def per_head(self, mask: Tensor) -> Tensor:
        """Make room in the mask for heads."""
        return mask.unsqueeze(-3)

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Attend."""
        return self.attend(q, k, v, mask)

    def finish(self, said: Tensor) -> Tensor:
        """Join the heads."""
        return self.to_out(merge_heads(said))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Any = None,
    ) -> Any:
        """Attend with every head."""
        asking, found, saying = self.sources(x, context)
        q = split_heads(self.to_q(asking), self.n_heads)
        k, v = self.cut(self.to_k(found)), self.cut(self.to_v(saying))
        k, v = self.remember(cache, k, v)
        mask = None if mask is None else self.per_head(mask)
        said, weights = self.attended(q, self.share(k), self.share(v), mask)
        return self.finish(said), weights


class NoOutputProjection(_Variant):
    """Return the heads side by side."""

    def finish(self, said: Tensor) -> Tensor:
        """Forget to_out."""
        return merge_heads(said)


class MaskMeetsHeads(_Variant):
    """Let the mask's batch axis meet the axis of heads."""

    def per_head(self, mask: Tensor) -> Tensor:
        """Leave the mask as it is."""
        return mask


class MaskSecondAxis(_Variant):
    """Put the axis for heads second, counted from the left."""

    def per_head(self, mask: Tensor) -> Tensor:
        """Take for granted that the mask has a batch axis."""
        return mask[:, None]


class MaskIgnored(_Variant):
    """Never look at the mask."""

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Let everyone attend to everyone."""
        return self.attend(q, k, v, None)


class MaskInverted(_Variant):
    """Read the mask as nn.MultiheadAttention does."""

    def per_head(self, mask: Tensor) -> Tensor:
        """Hide what may be attended to."""
        return ~mask.unsqueeze(-3)


class ContextIgnored(_Variant):
    """Always attend to x."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Forget the context."""
        return x, x, x


class ContextAsks(_Variant):
    """Let the context ask and x be asked."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Swap the two."""
        return (x if context is None else context), x, x


class HeadsTakeTurns(_Variant):
    """Give key head i to query heads i, i + g, i + 2g …"""

    def share(self, each: Tensor) -> Tensor:
        """Repeat the whole row of heads."""
        return each.repeat(1, self.n_heads // self.n_kv_heads, 1, 1)


class OneWideHead(_Variant):
    """Attend once over the whole width, and cut afterwards."""

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Use one set of weights for all heads."""
        q, k = merge_heads(q)[:, None], merge_heads(k)[:, None]
        _, weights = self.attend(q, k, k, mask)
        return weights @ v, weights.expand(-1, v.shape[1], -1, -1)


class ScaledByWholeWidth(_Variant):
    """Divide the scores by the root of the whole width."""

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Shrink the queries by √h."""
        return self.attend(q / math.sqrt(self.n_heads), k, v, mask)


class ScaledTwice(_Variant):
    """Divide the scores by √d_head before `attention` does."""

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Shrink the queries by √d_head."""
        return self.attend(q / math.sqrt(self.d_head), k, v, mask)


class AttendNotAsked(_Variant):
    """Call `attention` itself, whatever was plugged in."""

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Forget self.attend."""
        return attention(q, k, v, mask)


class WeightsAveraged(_Variant):
    """Return one matrix of weights for all heads, as nn.MultiheadAttention does."""

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Any = None,
    ) -> Any:
        """Average the weights over the heads."""
        output, weights = super().forward(x, context, mask, cache)
        return output, weights.mean(dim=1)


class CacheNotAsked(_Variant):
    """Attend to the new positions alone."""

    def remember(self, cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Forget the cache."""
        return k, v


class CacheFilledAfterwards(_Variant):
    """Tell the cache, and attend to the new positions alone."""

    def remember(self, cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Forget what the cache gives back."""
        if cache is not None:
            cache.update(k, v)
        return k, v


class SharedBeforeCache(_Variant):
    """Copy shared keys for each query head before they are kept."""

    def remember(self, cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a copy for each query head."""
        k, v = super().share(k), super().share(v)
        return (k, v) if cache is None else cache.update(k, v)

    def share(self, each: Tensor) -> Tensor:
        """Take for granted that the cache holds copies."""
        return each


class KeyHeadsMiscounted(_Variant):
    """Cut keys and values into as many heads as there are query heads."""

    def cut(self, each: Tensor) -> Tensor:
        """Take n_heads for n_kv_heads."""
        return split_heads(each, self.n_heads)


MULTI_HEAD_ATTENTION = Exercise(
    name="MultiHeadAttention",
    lesson=8,
    points=5,
    probe=probes.multi_head_attention,
    draw=draw_multi_head_attention,
    oracle=oracle_multi_head_attention,
    finished=(finished.MultiHeadAttention,),
    needs=("split_heads",),
    forbidden=FORBIDDEN,
    minutes=25,
    difficulty=4,
    mistakes=(
        Mistake(
            "no output projection",
            "You return the heads side by side: `self.to_out` still has to mix them.",
            (NoOutputProjection,),
        ),
        Mistake(
            "mask without an axis for heads",
            "Your mask's first axis, sentences, meets the axis of heads, and with as many sentences as heads "
            "nothing warns you: give the mask an axis of size 1 for the heads, `mask.unsqueeze(-3)`.",
            (MaskMeetsHeads,),
        ),
        Mistake(
            "mask's axis counted from the left",
            "`mask[:, None]` is right for a mask with a batch axis only; a causal mask (n_q, n_k) has none. "
            "Count from the right: `mask.unsqueeze(-3)`.",
            (MaskSecondAxis,),
        ),
        Mistake("mask not used", "You never pass `mask` on.", (MaskIgnored,)),
        Mistake(
            "mask as in nn.MultiheadAttention",
            "Your mask hides what it should keep: here, as in lesson 07, True means “may attend”.",
            (MaskInverted,),
        ),
        Mistake(
            "context not used",
            "You never use `context`: where it is given, keys and values are made of it.",
            (ContextIgnored,),
        ),
        Mistake(
            "context asks",
            "Your queries come from the context: `x` asks, and `context` is asked.",
            (ContextAsks,),
        ),
        Mistake(
            "heads take turns",
            "Your key heads are dealt out in turns (`repeat`): neighbours share, so query heads 0 … h/g − 1 "
            "have key head 0 (`repeat_interleave`).",
            (HeadsTakeTurns,),
        ),
        Mistake(
            "one wide head",
            "All your heads have the same weights: the scores are summed over the whole width. Split "
            "queries and keys before they meet.",
            (OneWideHead,),
        ),
        Mistake(
            "scaled by the whole width",
            "You scaled by √d_model: a head's dot products are sums over d_head numbers.",
            (ScaledByWholeWidth,),
        ),
        Mistake(
            "scaled twice",
            "You divide by √d_head, and `attention` does so again: hand it the queries as they are.",
            (ScaledTwice,),
        ),
        Mistake(
            "attend not used",
            "You call `attention`, and what is plugged in as `attend` never gets its turn: call "
            "`self.attend`.",
            (AttendNotAsked,),
        ),
        Mistake(
            "key heads counted as query heads",
            "You cut keys and values into `n_heads` heads: they have `n_kv_heads`, which may be fewer.",
            (KeyHeadsMiscounted,),
        ),
        Mistake(
            "weights averaged",
            "You average the weights over the heads: return those of each head, (batch, h, n_q, n_k).",
            (WeightsAveraged,),
        ),
        Mistake(
            "cache not asked",
            "You never use `cache`: where it is given, `cache.update(k, v)` gives the keys and values of "
            "all positions so far.",
            (CacheNotAsked,),
        ),
        Mistake(
            "what the cache returns is not used",
            "You tell the cache about the new keys and values, and attend to these alone: go on with what "
            "`cache.update(k, v)` returns.",
            (CacheFilledAfterwards,),
        ),
        Mistake(
            "copies kept in the cache",
            "You repeat shared keys and values before they go into the cache, so it keeps every copy: "
            "update the cache first, then repeat what it returns.",
            (SharedBeforeCache,),
        ),
    ),
    hints=(
        "First half: `source = x if context is None else context`. Queries are "
        "`split_heads(self.to_q(x), self.n_heads)`; keys and values come from `source`, with "
        "`self.n_kv_heads` heads.",
        "Second half: if there is a cache, `k, v = cache.update(k, v)`. Then "
        "`each.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)` gives each query head its keys "
        "and its values.",
        "The mask needs an axis of size 1 where heads stand, `mask.unsqueeze(-3)` (unless it is None). Then "
        "`said, weights = self.attend(q, k, v, mask)`, and `self.to_out(merge_heads(said))` is the output.",
    ),
)

# --- KVCache ---------------------------------------------------------------------------------


def draw_kv_cache(seed: int) -> list[Case]:
    """Draw keys and values that come one by one or in chunks, and one chunk too large for the room."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, int, int],
        chunks: list[int],
        spare: int = 2,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        batch, n_heads, d_head = shape

        def pair(n: int) -> list[Tensor]:
            return [torch.randn(batch, n_heads, n, d_head, generator=g, dtype=dtype) for _ in "kv"]

        sizes = {
            "batch": batch,
            "n_heads": n_heads,
            "max_len": sum(chunks) + spare,
            "d_head": d_head,
        }
        return Case(
            label,
            {
                "sizes": sizes,
                "chunks": [pair(n) for n in chunks],
                "too_many": pair(spare + 2),
                "x": torch.zeros(1, dtype=dtype),
            },
        )

    strided = case("non-contiguous keys, as split_heads gives them", (2, 3, 4), [3, 2])
    strided.inputs["chunks"] = [
        [each.transpose(1, 2).contiguous().transpose(1, 2) for each in pair]
        for pair in strided.inputs["chunks"]
    ]
    return [
        case("one position", (1, 1, 2), [1]),
        case("one position at a time", (2, 2, 3), [1, 1, 1]),
        case("a prompt, then one position at a time", (2, 3, 4), [4, 1, 1]),
        case("chunks of several sizes, float64", (1, 2, 5), [2, 1, 3], dtype=torch.float64),
        case("the room is filled to the last position", (2, 1, 3), [2, 2], spare=0),
        strided,
    ]


def oracle_kv_cache(
    sizes: dict[str, int], chunks: list[list[Tensor]], too_many: list[Tensor], x: Tensor
) -> dict[str, Any]:
    """Concatenate."""
    found: dict[str, Any] = {}
    for number in range(1, len(chunks) + 1):
        keys, values = (torch.cat([pair[i] for pair in chunks[:number]], dim=2) for i in (0, 1))
        found[f"keys after update {number}"] = keys
        found[f"values after update {number}"] = values
        found[f"length after update {number}"] = keys.shape[2]
    return {
        **found,
        "place of keys and values": "the room made at the start",
        "error of an update that does not fit": "ValueError",
        "length after an update that does not fit": keys.shape[2],
    }


class _Cache(finished.KVCache):
    """A KVCache that goes wrong in one way, which its subclasses say."""

    def fit(self, n: int) -> int:
        """Return where n more positions end, if there is room."""
        end = self.length + n
        if end > self.keys.shape[2]:
            raise ValueError("no room")
        return end

    def write(self, k: Tensor, v: Tensor, start: int, end: int) -> None:
        """Write from start to end."""
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v


class Overwrites(_Cache):
    """Write at the beginning each time."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Forget where the others end."""
        self.fit(k.shape[2])
        self.write(k, v, 0, k.shape[2])
        self.length = k.shape[2]
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class LengthStays(_Cache):
    """Never move the length."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write and return, and do not count."""
        end = self.fit(k.shape[2])
        self.write(k, v, self.length, end)
        return self.keys[:, :, :end], self.values[:, :, :end]


class WholeRoom(_Cache):
    """Return the unfilled room as well."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return everything."""
        end = self.fit(k.shape[2])
        self.write(k, v, self.length, end)
        self.length = end
        return self.keys, self.values


class OnlyNew(_Cache):
    """Return what was just written."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new positions."""
        end = self.fit(k.shape[2])
        self.write(k, v, self.length, end)
        start, self.length = self.length, end
        return self.keys[:, :, start:end], self.values[:, :, start:end]


class Swapped(_Cache):
    """Return values and keys."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return them in the wrong order."""
        keys, values = super().update(k, v)
        return values, keys


class KeysTwice(_Cache):
    """Keep keys as values."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k into both."""
        return super().update(k, k)


class CountsOne(_Cache):
    """Move the length by one, however many positions came."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Count one."""
        end = self.fit(k.shape[2])
        self.write(k, v, self.length, end)
        self.length += 1
        return self.keys[:, :, :end], self.values[:, :, :end]


class Concatenates(_Cache):
    """Make a new tensor at each step."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Concatenate."""
        if not self.length:
            self.room = self.keys.shape[2]
        if self.length + k.shape[2] > self.room:
            raise ValueError("no room")
        self.keys = torch.cat([self.keys[:, :, : self.length], k], dim=2)
        self.values = torch.cat([self.values[:, :, : self.length], v], dim=2)
        self.length += k.shape[2]
        return self.keys, self.values


class ConcatenatesUnchecked(_Cache):
    """Make a new tensor at each step, and never run out of room."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Concatenate to what is filled."""
        self.keys = torch.cat([self.keys[:, :, : self.length], k], dim=2)
        self.values = torch.cat([self.values[:, :, : self.length], v], dim=2)
        self.length += k.shape[2]
        return self.keys, self.values


class ConcatenatesToRoom(_Cache):
    """Concatenate to the empty room."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Concatenate to all that is there, zeros included."""
        self.keys = torch.cat([self.keys, k], dim=2)
        self.values = torch.cat([self.values, v], dim=2)
        self.length += k.shape[2]
        return self.keys, self.values


class WritesOne(_Cache):
    """Take one position, however many came."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the first of them."""
        self.fit(k.shape[2])
        self.write(k[:, :, :1], v[:, :, :1], self.length, self.length + 1)
        self.length += 1
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class CountsHeads(_Cache):
    """Take the axis of heads for that of positions."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Count heads."""
        end = self.fit(k.shape[1])
        self.write(k, v, self.length, end)
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class RoomUnchecked(_Cache):
    """Write without looking whether there is room."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Leave it to PyTorch."""
        end = self.length + k.shape[2]
        self.write(k, v, self.length, end)
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class CountsBeforeLooking(_Cache):
    """Move the length before looking whether there is room."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Count first."""
        start, self.length = self.length, self.length + k.shape[2]
        if self.length > self.keys.shape[2]:
            raise ValueError("no room")
        self.write(k, v, start, self.length)
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


KV_CACHE = Exercise(
    name="KVCache.update",
    lesson=8,
    points=3,
    probe=probes.kv_cache,
    draw=draw_kv_cache,
    oracle=oracle_kv_cache,
    defines=("KVCache",),
    finished=(finished.KVCache,),
    forbidden=FORBIDDEN,
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "overwrites",
            "Each update overwrites the one before: write from `self.length` on, and add to it.",
            (Overwrites,),
        ),
        Mistake(
            "length not counted",
            "`self.length` stays 0, so the next update writes over this one: set it to where you stopped.",
            (LengthStays,),
        ),
        Mistake(
            "whole room returned",
            "You return the whole room: the positions beyond `length` hold nothing yet, and a query would "
            "attend to them.",
            (WholeRoom,),
        ),
        Mistake(
            "only the new returned",
            "You return only the new positions: a query must see all of them, from the first on.",
            (OnlyNew,),
        ),
        Mistake(
            "values and keys swapped",
            "You return values and keys in the wrong order: keys come first.",
            (Swapped,),
        ),
        Mistake("keys kept as values", "You write the keys into `self.values` too.", (KeysTwice,)),
        Mistake(
            "counts one",
            "`self.length` grows by 1 although a chunk may bring several positions: add `k.shape[-2]`.",
            (CountsOne,),
        ),
        Mistake(
            "concatenates",
            "You make new tensors at each update, which copies all that was kept: the room is there, so "
            "write into it, `self.keys[:, :, start:end] = k`.",
            (Concatenates,),
        ),
        Mistake(
            "concatenates without end",
            "You concatenate, which copies all that was kept and never runs out of room: write into the room "
            "that is there, `self.keys[:, :, start:end] = k`, and raise ValueError where it ends.",
            (ConcatenatesUnchecked,),
        ),
        Mistake(
            "concatenates to the empty room",
            "You put the new positions behind the whole room, zeros included: they belong at `self.length`, "
            "inside it.",
            (ConcatenatesToRoom,),
        ),
        Mistake(
            "writes one",
            "You write only the first of the new positions: a chunk may bring several.",
            (WritesOne,),
        ),
        Mistake(
            "heads counted",
            "You count heads (axis 1) as if they were positions: n is `k.shape[-2]`.",
            (CountsHeads,),
        ),
        Mistake(
            "room not checked",
            "You do not look whether there is room: PyTorch then speaks of shapes, or, with no room left and "
            "one new position, loses it without a word. Raise ValueError first.",
            (RoomUnchecked,),
        ),
        Mistake(
            "counts before looking",
            "You change `self.length` before you know that there is room: after the error the cache must be "
            "as it was.",
            (CountsBeforeLooking,),
        ),
    ),
    hints=(
        "The new positions belong between `self.length` and `self.length + n`, where n is `k.shape[-2]`.",
        "Compute that end first, compare it with `self.keys.shape[-2]`, and raise ValueError if it lies "
        "beyond. Only then write, and only then change `self.length`.",
        "`self.keys[:, :, self.length : end] = k` writes into the room; `self.keys[:, :, :end]` is a view of "
        "all positions so far.",
    ),
)

EXERCISES = (SPLIT_HEADS, MULTI_HEAD_ATTENTION, KV_CACHE)
