"""Lesson 10, the transformer block: what is drawn, what is right, what often goes wrong."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.probes import lesson_10 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import DEFAULT_TOLERANCES, Case, Exercise, Mistake, Tolerance
from course_lib.models import block as finished

f64 = torch.float64
# A gradient passes through dozens of roundings, and right answers round in different orders.
MANY_ROUNDINGS = {**DEFAULT_TOLERANCES, torch.float32: Tolerance(3e-5, 3e-4)}

# --- LayerNorm -------------------------------------------------------------------------------


def draw_layer_norm(seed: int) -> list[Case]:
    """Draw vectors of several shapes, among them equal numbers and numbers far from zero."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        eps: float | None = None,
        plain: bool = False,
        offset: float = 0.0,
    ) -> Case:
        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        width = shape[-1]
        weight = torch.ones(width, dtype=dtype) if plain else 1 + 0.5 * random(width)
        bias = torch.zeros(width, dtype=dtype) if plain else random(width)
        return Case(
            label,
            {
                "eps": eps,
                "weights": {"weight": weight, "bias": bias},
                "x": 2 * random(*shape) + random(*shape[:-1], 1) + offset,
                "cotangent": random(*shape),
            },
        )

    equal = case("vectors of equal numbers", (2, 4), f64)
    equal.inputs["x"] = equal.inputs["x"][:, :1].repeat(1, 4)
    strided = case("a non-contiguous input", (2, 4, 6))
    strided.inputs["x"] = strided.inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("one vector of three numbers, scale 1, shift 0", (1, 3), f64, plain=True),
        case("two vectors of four numbers, scale 1, shift 0", (2, 4), f64, plain=True),
        case("scale and shift", (2, 4)),
        case("as many vectors as numbers", (3, 3), f64),
        case("a batch of sequences", (2, 3, 5)),
        case("a large eps", (2, 4), f64, eps=0.5),
        equal,
        case("numbers far from zero", (2, 5), f64, offset=1e5),
        case("a batch of one, odd width, float64", (1, 5, 7), f64),
        case("a single vector, without a batch", (6,), f64),
        case("width 1", (2, 1), f64),
        strided,
    ]


def oracle_layer_norm(
    eps: float | None, weights: dict[str, Tensor], x: Tensor, cotangent: Tensor
) -> dict[str, Tensor]:
    """Ask PyTorch's own layer_norm, in float64."""
    leaves = {name: each.double().requires_grad_() for name, each in {"x": x, **weights}.items()}
    output = F.layer_norm(
        leaves["x"],
        (x.shape[-1],),
        leaves["weight"],
        leaves["bias"],
        1e-5 if eps is None else eps,
    )
    found = {"output": output, **gradients(output, cotangent.double(), leaves)}
    return {name: each.detach().to(x.dtype) for name, each in found.items()}


class _Norm(finished.LayerNorm):
    """A LayerNorm that goes wrong in one way, which its subclasses say."""

    axes: Any = -1

    def centre(self, x: Tensor) -> Tensor:
        """Return the mean."""
        return x.mean(self.axes, keepdim=True)

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the variance."""
        return (x - mean).square().mean(self.axes, keepdim=True)

    def divide(self, centred: Tensor, variance: Tensor) -> Tensor:
        """Divide by the standard deviation."""
        return centred / (variance + self.eps).sqrt()

    def finish(self, normalised: Tensor) -> Tensor:
        """Scale and shift."""
        return normalised * self.weight + self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        mean = self.centre(x)
        return self.finish(self.divide(x - mean, self.variance(x, mean)))


class Unbiased(_Norm):
    """Divide by d − 1."""

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Do what `.var()` does if nothing is said."""
        return (x - mean).square().sum(-1, keepdim=True) / (x.shape[-1] - 1)


class EpsOutside(_Norm):
    """Add eps to the standard deviation."""

    def divide(self, centred: Tensor, variance: Tensor) -> Tensor:
        """Add eps behind the root."""
        return centred / (variance.sqrt() + self.eps)


class NoEps(_Norm):
    """Forget eps."""

    def divide(self, centred: Tensor, variance: Tensor) -> Tensor:
        """Divide."""
        return centred / variance.sqrt()


class EpsOfItsOwn(_Norm):
    """Write 1e-5, whatever was asked for."""

    def divide(self, centred: Tensor, variance: Tensor) -> Tensor:
        """Divide."""
        return centred / (variance + 1e-5).sqrt()


class MeanStays(_Norm):
    """Divide without subtracting the mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale only."""
        return self.finish(self.divide(x, self.variance(x, self.centre(x))))


class RootMeanSquare(_Norm):
    """Write RMSNorm with a shift."""

    def centre(self, x: Tensor) -> Tensor:
        """Subtract nothing."""
        return torch.zeros_like(x[..., :1])


class SquaresNotCentred(_Norm):
    """Divide what was centred by the root of the mean square."""

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Forget the mean."""
        return x.square().mean(-1, keepdim=True)


class WholeTensor(_Norm):
    """Take mean and variance over everything."""

    axes = None

    def centre(self, x: Tensor) -> Tensor:
        """Return one mean."""
        return x.mean()

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return one variance."""
        return (x - mean).square().mean()


class OverVectors(_Norm):
    """Take mean and variance over the vectors."""

    axes = -2


class NoScale(_Norm):
    """Leave out scale and shift."""

    def finish(self, normalised: Tensor) -> Tensor:
        """Return it as it is."""
        return normalised


class ShiftFirst(_Norm):
    """Shift before scaling."""

    def finish(self, normalised: Tensor) -> Tensor:
        """Scale the shift as well."""
        return (normalised + self.bias) * self.weight


class ByVariance(_Norm):
    """Forget the root."""

    def divide(self, centred: Tensor, variance: Tensor) -> Tensor:
        """Divide by the variance."""
        return centred / (variance + self.eps)


class Detached(_Norm):
    """Take mean and variance for constants."""

    def centre(self, x: Tensor) -> Tensor:
        """Cut the graph."""
        return super().centre(x).detach()

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Cut the graph."""
        return super().variance(x, mean).detach()


class SquareOfMeanSubtracted(_Norm):
    """Compute E[x²] − E[x]²."""

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Subtract two large numbers."""
        return x.square().mean(-1, keepdim=True) - mean.square()


class NoKeepdim(_Norm):
    """Lose the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Let shapes broadcast from the right."""
        centred = x - x.mean(-1)
        return self.finish(centred / (centred.square().mean(-1) + self.eps).sqrt())


class NoKeepdimOfEither(_Norm):
    """Lose the last axis of the mean and of the variance of x."""

    def forward(self, x: Tensor) -> Tensor:
        """Let both broadcast from the right."""
        variance = x.var(-1, correction=0)
        return self.finish((x - x.mean(-1)) / (variance + self.eps).sqrt())


LAYER_NORM = Exercise(
    name="LayerNorm",
    lesson=10,
    points=3,
    probe=probes.layer_norm,
    draw=draw_layer_norm,
    oracle=oracle_layer_norm,
    finished=(finished.LayerNorm,),
    forbidden=(
        "torch.nn.functional.layer_norm",
        "torch.layer_norm",
        "torch.native_layer_norm",
        "torch.nn.LayerNorm",
        "course_lib.models.block",
    ),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "variance over d − 1",
            "Your variance is divided by d − 1, which is what `.var()` and `.std()` do if nothing is said: "
            "here it is the plain mean of the squared deviations, divided by d.",
            (Unbiased,),
        ),
        Mistake(
            "eps outside the root",
            "You add eps to the standard deviation: it belongs under the root, √(variance + eps).",
            (EpsOutside,),
        ),
        Mistake(
            "eps forgotten",
            "You never use `self.eps`: a vector of equal numbers gives 0/0.",
            (NoEps,),
        ),
        Mistake(
            "an eps of its own",
            "You wrote 1e-5: take `self.eps`, which the caller may have set to something else.",
            (EpsOfItsOwn,),
        ),
        Mistake(
            "mean not subtracted",
            "You divide by the standard deviation and leave the mean where it is: subtract it first.",
            (MeanStays,),
        ),
        Mistake(
            "RMSNorm",
            "This is RMSNorm with a shift: LayerNorm subtracts the mean before it squares.",
            (RootMeanSquare,),
        ),
        Mistake(
            "mean square for the variance",
            "You subtract the mean and then divide by the root mean square of `x` itself: the variance is "
            "the mean square of the deviations x − mean.",
            (SquaresNotCentred,),
        ),
        Mistake(
            "one mean for all vectors",
            "You take one mean and one variance for all vectors together: each vector has its own, along "
            "the last axis (`dim=-1`).",
            (WholeTensor,),
        ),
        Mistake(
            "over the vectors",
            "You take mean and variance over the positions: LayerNorm works inside each vector, along the "
            "last axis (`dim=-1`).",
            (OverVectors,),
        ),
        Mistake(
            "scale and shift forgotten",
            "You never use `self.weight` and `self.bias`.",
            (NoScale,),
        ),
        Mistake(
            "shift before scale",
            "You shift and then scale, so the shift is scaled too: first times `self.weight`, then plus "
            "`self.bias`.",
            (ShiftFirst,),
        ),
        Mistake(
            "divided by the variance",
            "You divide by the variance: divide by its root, the standard deviation.",
            (ByVariance,),
        ),
        Mistake(
            "statistics detached",
            "Your output is right and the gradient of x is not: mean and variance depend on x, so do not "
            "cut them off (`detach`, `no_grad`, `.data`, `.item()`).",
            (Detached,),
        ),
        Mistake(
            "difference of two large numbers",
            "You compute the variance as mean(x²) − mean(x)²: far from zero these are two large numbers "
            "whose difference is mostly rounding. Subtract the mean first, then square.",
            (SquareOfMeanSubtracted,),
        ),
        Mistake(
            "axis lost",
            "Your mean and variance lose the last axis, so they broadcast against the wrong one: "
            "`keepdim=True` keeps it, with length 1.",
            (NoKeepdim,),
        ),
        Mistake(
            "both axes lost",
            "The mean of `x` and the variance of `x` each lose the last axis, so they broadcast against the "
            "wrong one: give both `keepdim=True`.",
            (NoKeepdimOfEither,),
        ),
    ),
    hints=(
        "Everything happens inside one vector. For x of shape (…, d) the mean and the variance have shape "
        "(…, 1): one number for each vector, in a form that broadcasts back over it.",
        "Three steps: subtract the mean; divide by the root of (variance + eps); scale and shift. What is "
        "left after the first step is all that the variance needs.",
        "The variance of the formula is divided by d, and `x.var(…)` divides by d − 1 unless you tell it "
        "otherwise. `centred.square().mean(dim=-1, keepdim=True)` leaves no doubt.",
        "`centred = x - x.mean(dim=-1, keepdim=True)`, then `variance` as in the last hint, then "
        "`centred / (variance + self.eps).sqrt() * self.weight + self.bias`.",
    ),
)

# --- FeedForward -----------------------------------------------------------------------------


def _random_state(module: nn.Module, g: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return random weights for a module: matrices that keep the size, everything else near its default."""
    state = {}
    for name, each in module.state_dict().items():
        random = torch.randn(each.shape, generator=g, dtype=dtype)
        if each.dim() == 2:
            random = random / math.sqrt(each.shape[1])
        elif "norm" in name and name.endswith("weight"):
            random = 1 + 0.3 * random
        state[name] = random
    return state


def draw_feed_forward(seed: int) -> list[Case]:
    """Draw networks with and without gates and biases."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, ...],
        d_ff: int,
        activation: str | None = None,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        sizes: dict[str, Any] = {"d_model": shape[-1], "d_ff": d_ff}
        if activation is not None:
            sizes["activation"] = activation
        if not bias:
            sizes["bias"] = False
        return Case(
            label,
            {
                "sizes": sizes,
                "weights": _random_state(finished.FeedForward(**sizes), g, dtype),
                "x": 2 * torch.randn(shape, generator=g, dtype=dtype),
                "cotangent": torch.randn(shape, generator=g, dtype=dtype),
            },
        )

    strided = case("a non-contiguous input", (2, 4, 6), 8, "gelu")
    strided.inputs["x"] = strided.inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("one vector, ReLU, no biases", (1, 2), 3, bias=False, dtype=f64),
        case("one vector, SwiGLU, no biases", (1, 3), 4, "swiglu", bias=False, dtype=f64),
        case("a batch of sequences, ReLU", (2, 3, 4), 16),
        case("GELU", (2, 3), 5, "gelu", dtype=f64),
        case("GELU by tanh", (2, 3), 5, "gelu_tanh", dtype=f64),
        case("SwiGLU with biases", (2, 3, 4), 6, "swiglu"),
        case("a gate with GELU, odd widths, float64", (1, 5, 7), 9, "geglu", dtype=f64),
        case("fewer hidden units than inputs", (3, 6), 2, "relu", dtype=f64),
        strided,
    ]


_BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "geglu": lambda x: F.gelu(x, approximate="tanh"),
    "swiglu": F.silu,
}


def _feed(x: Tensor, leaves: dict[str, Tensor], activation: str, prefix: str = "") -> Tensor:
    """Compute a feed-forward network by PyTorch's own functions."""

    def linear(name: str, inputs: Tensor) -> Tensor:
        name = f"{prefix}{name}"
        return F.linear(inputs, leaves[f"{name}.weight"], leaves.get(f"{name}.bias"))

    hidden = linear("up", x)
    if f"{prefix}gate.weight" in leaves:
        hidden = _BENDS[activation](linear("gate", x)) * hidden
    else:
        hidden = _BENDS[activation](hidden)
    return linear("down", hidden)


def oracle_feed_forward(
    sizes: dict[str, Any], weights: dict[str, Tensor], x: Tensor, cotangent: Tensor
) -> dict[str, Tensor]:
    """Compose F.linear and PyTorch's own activations, in float64."""
    leaves = {name: each.double().requires_grad_() for name, each in {"x": x, **weights}.items()}
    output = _feed(leaves["x"], leaves, sizes.get("activation", "relu"))
    found = {"output": output, **gradients(output, cotangent.double(), leaves)}
    return {name: each.detach().to(x.dtype) for name, each in found.items()}


class _Feed(finished.FeedForward):
    """A FeedForward that goes wrong in one way, which its subclasses say."""

    def hidden(self, x: Tensor) -> Tensor:
        """Return the hidden units."""
        if self.gate is None:
            return self.bend(self.up(x))
        return self.bend(self.gate(x)) * self.up(x)

    def forward(self, x: Tensor) -> Tensor:
        """Narrow."""
        return self.down(self.hidden(x))


class NoBend(_Feed):
    """Leave out the activation."""

    def hidden(self, x: Tensor) -> Tensor:
        """Stay linear."""
        return self.up(x) if self.gate is None else self.gate(x) * self.up(x)


class BendAtTheEnd(_Feed):
    """Bend what comes out."""

    def forward(self, x: Tensor) -> Tensor:
        """Bend behind the second layer."""
        hidden = self.up(x) if self.gate is None else self.gate(x) * self.up(x)
        return self.bend(self.down(hidden))


class BendAtBothEnds(_Feed):
    """Bend what comes out as well."""

    def forward(self, x: Tensor) -> Tensor:
        """Bend twice."""
        return self.bend(super().forward(x))


class AlwaysReLU(_Feed):
    """Write ReLU, whatever was asked for."""

    def hidden(self, x: Tensor) -> Tensor:
        """Bend by ReLU."""
        if self.gate is None:
            return self.up(x).relu()
        return self.gate(x).relu() * self.up(x)


class GateForgotten(_Feed):
    """Never ask the gate."""

    def hidden(self, x: Tensor) -> Tensor:
        """Use the first layer alone."""
        return self.bend(self.up(x))


class GateAndUpSwapped(_Feed):
    """Bend the wrong one of the two."""

    def hidden(self, x: Tensor) -> Tensor:
        """Bend up."""
        hidden = self.bend(self.up(x))
        return hidden if self.gate is None else hidden * self.gate(x)


class BothBent(_Feed):
    """Bend gate and up."""

    def hidden(self, x: Tensor) -> Tensor:
        """Bend both."""
        hidden = self.bend(self.up(x))
        return hidden if self.gate is None else hidden * self.bend(self.gate(x))


class GateAdded(_Feed):
    """Add where it should multiply."""

    def hidden(self, x: Tensor) -> Tensor:
        """Add the gate."""
        if self.gate is None:
            return self.bend(self.up(x))
        return self.bend(self.gate(x)) + self.up(x)


class ProductBent(_Feed):
    """Multiply first, then bend."""

    def hidden(self, x: Tensor) -> Tensor:
        """Bend the product."""
        hidden = self.up(x)
        return self.bend(hidden if self.gate is None else hidden * self.gate(x))


class GateAlways(_Feed):
    """Call the gate, whether there is one or not."""

    def hidden(self, x: Tensor) -> Tensor:
        """Do not ask."""
        gate: Any = self.gate
        return self.bend(gate(x)) * self.up(x)


class SigmoidGate(_Feed):
    """Gate by a sigmoid, as in Dauphin et al. 2017."""

    def hidden(self, x: Tensor) -> Tensor:
        """Write GLU."""
        if self.gate is None:
            return self.bend(self.up(x))
        return self.gate(x).sigmoid() * self.up(x)


class AddsItsInput(_Feed):
    """Have a residual connection inside."""

    def forward(self, x: Tensor) -> Tensor:
        """Add x."""
        return x + super().forward(x)


FEED_FORWARD = Exercise(
    name="FeedForward",
    lesson=10,
    points=3,
    probe=probes.feed_forward,
    draw=draw_feed_forward,
    oracle=oracle_feed_forward,
    finished=(finished.FeedForward,),
    forbidden=("course_lib.models.block",),
    minutes=10,
    difficulty=2,
    mistakes=(
        Mistake(
            "no activation",
            "You never call `self.bend`: without it the two layers are one linear map (or, with a gate, a "
            "plain product).",
            (NoBend,),
        ),
        Mistake(
            "activation at the end",
            "You bend what comes out of `self.down`: the bend belongs between the two layers.",
            (BendAtTheEnd,),
        ),
        Mistake(
            "activation at both ends",
            "You bend once too often: what comes out of `self.down` is added to the stream as it is.",
            (BendAtBothEnds,),
        ),
        Mistake(
            "always ReLU",
            "You wrote ReLU: call `self.bend`, which is whatever function was asked for.",
            (AlwaysReLU,),
        ),
        Mistake(
            "gate forgotten",
            "You never use `self.gate`: where it is not None, the hidden numbers are "
            "bend(gate(x)) · up(x).",
            (GateForgotten,),
        ),
        Mistake(
            "gate and up swapped",
            "You bend `self.up(x)` and multiply it by the bare gate: the gate is what is bent.",
            (GateAndUpSwapped,),
        ),
        Mistake(
            "both bent",
            "You bend both the gate and `self.up(x)`: only the gate is bent.",
            (BothBent,),
        ),
        Mistake(
            "gate added",
            "You add the gate: it opens and closes by being multiplied.",
            (GateAdded,),
        ),
        Mistake(
            "product bent",
            "You multiply gate and `self.up(x)` first and bend the product: bend the gate, then multiply.",
            (ProductBent,),
        ),
        Mistake(
            "gate always called",
            "You call `self.gate` where there is none: it is None unless the activation is gated, so ask "
            "`if self.gate is None` first.",
            (GateAlways,),
        ),
        Mistake(
            "sigmoid gate",
            "Your gate is a bare sigmoid (that is GLU): here it is `self.bend` of the gate's numbers, for "
            "SwiGLU z · sigmoid(z).",
            (SigmoidGate,),
        ),
        Mistake(
            "adds its input",
            "You add `x`: the residual connection stands around this network, not inside it.",
            (AddsItsInput,),
        ),
    ),
    hints=(
        "Two situations: with a gate and without. `self.gate is None` tells them apart. Both end with "
        "`self.down(hidden)`.",
        "Without a gate: widen, then bend, `hidden = self.bend(self.up(x))`. The activation is not always "
        "ReLU: `self.bend` is the function that was asked for.",
        "With a gate two layers read x. One is bent and decides how much of the other passes: "
        "`hidden = self.bend(self.gate(x)) * self.up(x)`. The other is not bent.",
    ),
)

# --- TransformerBlock ------------------------------------------------------------------------


def draw_transformer_block(seed: int) -> list[Case]:
    """Draw blocks of both kinds, with masks, shared key heads, gates, a cache, and dropout."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        residual: str,
        shape: tuple[int, int, int],
        n_heads: int = 1,
        d_ff: int = 4,
        mask: Tensor | None = None,
        n_cached: int | None = None,
        training: bool = True,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> Case:
        batch, n, d_model = shape
        sizes = {"d_model": d_model, "n_heads": n_heads, "d_ff": d_ff, **options}

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        x = random(batch, n, d_model)
        changed = x.clone()
        last = max(1, n // 3)
        changed[:, -last:] = random(batch, last, d_model)
        key_heads = options.get("n_kv_heads", n_heads)
        cached = None
        if n_cached is not None:
            cached = [random(batch, key_heads, n_cached + n, d_model // n_heads) for _ in range(2)]
        return Case(
            label,
            {
                "residual": residual,
                "sizes": sizes,
                "weights": _random_state(finished.TransformerBlock(**sizes), g, dtype),
                "x": x,
                "mask": mask,
                "cached": cached,
                "training": training,
                "cotangent": random(batch, n, d_model),
                "changed": changed,
            },
        )

    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    real = (torch.arange(5) < torch.tensor([5, 3])[:, None])[:, None]
    strided = case("PreNorm, a non-contiguous input", "PreNorm", (2, 4, 6), 2)
    strided.inputs["x"] = strided.inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    pre, post = "PreNorm", "PostNorm"
    return [
        case("PreNorm, one position", pre, (1, 1, 3), dtype=f64),
        case("PostNorm, one position", post, (1, 1, 3), d_ff=5, dtype=f64),
        case("PreNorm, three positions, two heads", pre, (2, 3, 4), 2),
        case("PostNorm, three positions, two heads", post, (2, 3, 4), 2, 6),
        case("PreNorm, a causal mask", pre, (2, 4, 6), 3, 8, causal, dtype=f64),
        case("PostNorm, a causal mask", post, (2, 4, 6), 2, 5, causal),
        case("PreNorm, padding", pre, (2, 5, 4), 2, 4, real),
        case("PostNorm, padding, odd widths, float64", post, (2, 5, 9), 3, 7, real, dtype=f64),
        case("PreNorm, a cache that holds three positions", pre, (2, 2, 6), 2, n_cached=3),
        case("PreNorm, everything dropped", pre, (2, 3, 4), 2, dropout=1.0, dtype=f64),
        case("PostNorm, everything dropped", post, (2, 3, 4), 2, 5, dropout=1.0, dtype=f64),
        case("PreNorm, dropout in evaluation", pre, (1, 3, 4), 2, 6, training=False, dropout=0.5),
        case(
            "PreNorm, SwiGLU, shared key heads, no biases",
            pre,
            (2, 4, 8),
            4,
            5,
            causal,
            activation="swiglu",
            n_kv_heads=2,
            bias=False,
            dtype=f64,
        ),
        strided,
    ]


def oracle_transformer_block(
    residual: str,
    sizes: dict[str, Any],
    weights: dict[str, Tensor],
    x: Tensor,
    mask: Tensor | None,
    cached: list[Tensor] | None,
    training: bool,
    cotangent: Tensor,
    changed: Tensor,
) -> dict[str, Any]:
    """Compose F.layer_norm, F.linear and F.scaled_dot_product_attention, in float64."""
    dtype = x.dtype
    h = sizes["n_heads"]
    shared = sizes.get("n_kv_heads", h)
    leaves = {name: each.double().requires_grad_() for name, each in weights.items()}
    leaf = x.detach().double().requires_grad_()
    passes = (
        0.0 if training and sizes.get("dropout") == 1 else 1.0
    )  # dropout is all or nothing here
    if mask is not None:
        mask = mask.expand(x.shape[0], *mask.shape[-2:])[:, None]

    def heads(name: str, inputs: Tensor, count: int) -> Tensor:
        name = f"attention.{name}"
        projected = F.linear(inputs, leaves[f"{name}.weight"], leaves.get(f"{name}.bias"))
        return torch.stack(projected.chunk(count, dim=-1), dim=1)

    def attend(inputs: Tensor) -> Tensor:
        q, k, v = (
            heads("to_q", inputs, h),
            heads("to_k", inputs, shared),
            heads("to_v", inputs, shared),
        )
        if cached is not None:
            k, v = (each.double() for each in cached)
        said = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        out = "attention.to_out"
        joined = torch.cat(said.unbind(1), dim=-1)
        return F.linear(joined, leaves[f"{out}.weight"], leaves.get(f"{out}.bias"))

    def feed(inputs: Tensor) -> Tensor:
        return _feed(inputs, leaves, sizes.get("activation", "relu"), "feed_forward.")

    def block(stream: Tensor) -> Tensor:
        for name, sublayer in (("communicate", attend), ("compute", feed)):
            scale, shift = (leaves[f"{name}.norm.{each}"] for each in ("weight", "bias"))
            width = (stream.shape[-1],)
            if residual == "PreNorm":
                stream = stream + passes * sublayer(F.layer_norm(stream, width, scale, shift))
            else:
                stream = F.layer_norm(stream + passes * sublayer(stream), width, scale, shift)
        return stream

    alone = x.detach().double()

    def norm(given: Tensor) -> Tensor:
        return 10 + 2 * given

    def sublayer(given: Tensor) -> Tensor:
        return 0.5 * given.square() - 1

    output = block(leaf)
    if residual == "PreNorm":
        read, normed, result = norm(alone), alone, alone + sublayer(norm(alone))
    else:
        read, normed, result = alone, alone + sublayer(alone), norm(alone + sublayer(alone))
    found = {
        f"result of {residual}": result,
        f"input of the norm in {residual}": normed,
        f"input of the sublayer in {residual}": read,
        "output": output,
        **gradients(output, cotangent.double(), {"x": leaf, **leaves}),
    }
    if cached is None:
        found["output after the last positions changed"] = block(changed.double())
    expected: dict[str, Any] = {name: each.detach().to(dtype) for name, each in found.items()}
    if cached is not None:
        expected["number of calls of cache.update"] = 1
    return expected


class _Connection(nn.Module):
    """A residual connection, to be written by its subclasses."""

    def __init__(self, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = finished.Dropout(dropout)


class PreWithoutX(_Connection):
    """Replace the stream."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Forget x."""
        return self.dropout(sublayer(self.norm(x)))


class PreAddsNormed(_Connection):
    """Add to the normalised stream."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Overwrite x by its norm."""
        x = self.norm(x)
        return x + self.dropout(sublayer(x))


class PreWithoutNorm(_Connection):
    """Leave out the norm."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Forget the norm."""
        return x + self.dropout(sublayer(x))


class NormsWhatIsAdded(_Connection):
    """Normalise the sublayer's output."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Put the norm around the sublayer alone."""
        return x + self.norm(self.dropout(sublayer(x)))


class PostWithoutX(_Connection):
    """Normalise the sublayer's output, and replace the stream by it."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Forget x."""
        return self.norm(self.dropout(sublayer(x)))


class PreDropsSum(_Connection):
    """Drop from the stream itself."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Drop too much."""
        return self.dropout(x + sublayer(self.norm(x)))


class PostDropsSum(_Connection):
    """Drop from the sum."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Drop too much."""
        return self.norm(self.dropout(x + sublayer(x)))


class PreDropsNothing(_Connection):
    """Never use dropout."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Forget dropout."""
        return x + sublayer(self.norm(x))


class PostDropsNothing(_Connection):
    """Never use dropout."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Forget dropout."""
        return self.norm(x + sublayer(x))


class PostAddsToNormed(_Connection):
    """Normalise x alone."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Leave the sum as it is."""
        return self.norm(x) + self.dropout(sublayer(x))


class PostDropsLast(_Connection):
    """Drop from what the norm gives."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Drop too late."""
        return self.dropout(self.norm(x + sublayer(x)))


class PreDropsInput(_Connection):
    """Drop what the sublayer reads."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Drop too early."""
        return x + sublayer(self.dropout(self.norm(x)))


class _Block(finished.TransformerBlock):
    """A TransformerBlock that goes wrong in one way, which its subclasses say."""

    def hear(self, y: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """Attend."""
        return self.attention(y, mask=mask, cache=cache)[0]

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Communicate, then compute."""
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        return self.compute(x, self.feed_forward)


class ComputesFirst(_Block):
    """Compute, then communicate."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Turn the order round."""
        x = self.compute(x, self.feed_forward)
        return self.communicate(x, lambda y: self.hear(y, mask, cache))


class ComputesFromTheStart(_Block):
    """Let the feed-forward network read the block's input."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Forget what was heard."""
        self.communicate(x, lambda y: self.hear(y, mask, cache))
        return self.compute(x, self.feed_forward)


class SideBySide(_Block):
    """Let both read the block's input, and add both."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Run the two in parallel."""
        heard = self.communicate(x, lambda y: self.hear(y, mask, cache))
        return heard + self.compute(x, self.feed_forward) - x


class OneConnection(_Block):
    """Use the first connection twice."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Share a norm."""
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        return self.communicate(x, self.feed_forward)


class MaskForgotten(_Block):
    """Never hand on the mask."""

    def hear(self, y: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """Let everyone be heard."""
        return self.attention(y, cache=cache)[0]


class MaskAsContext(_Block):
    """Hand the mask on by position, where the context stands."""

    def hear(self, y: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """Mistake the second argument."""
        return self.attention(y, mask, cache)[0]


class CacheForgotten(_Block):
    """Never hand on the cache."""

    def hear(self, y: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """Forget what was read."""
        return self.attention(y, mask=mask)[0]


class StreamAddedTwice(_Block):
    """Add x to what the connections return."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Have residual connections around the residual connections."""
        x = x + self.communicate(x, lambda y: self.hear(y, mask, cache))
        return x + self.compute(x, self.feed_forward)


class ReadsTheStream(_Block):
    """Let the attention read x, not what the connection hands it."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Pass the norm by."""
        heard = self.communicate(x, lambda y: self.hear(x, mask, cache))
        return self.compute(heard, self.feed_forward)


class AddsByHand(_Block):
    """Add what the sublayers say, without the connections."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Forget norms and dropout."""
        x = x + self.hear(x, mask, cache)
        return x + self.feed_forward(x)


class NoConnections(_Block):
    """Call the two sublayers one after the other."""

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Leave out the connections."""
        return self.feed_forward(self.hear(x, mask, cache))


_RIGHT = (finished.PreNorm, finished.PostNorm, finished.TransformerBlock)


def _with(
    pre: type[nn.Module] | None = None,
    post: type[nn.Module] | None = None,
    block: type[nn.Module] | None = None,
) -> tuple[Any, Any, Any]:
    """Return the right answer with some of its parts replaced."""
    return pre or _RIGHT[0], post or _RIGHT[1], block or _RIGHT[2]


TRANSFORMER_BLOCK = Exercise(
    name="TransformerBlock",
    lesson=10,
    points=5,
    probe=probes.transformer_block,
    draw=draw_transformer_block,
    oracle=oracle_transformer_block,
    defines=("PreNorm", "PostNorm", "TransformerBlock"),
    finished=_RIGHT,
    needs=("LayerNorm", "FeedForward"),
    forbidden=(
        "torch.nn.TransformerEncoderLayer",
        "torch.nn.TransformerDecoderLayer",
        "torch.nn.MultiheadAttention",
        "torch.nn.LayerNorm",
        "torch.nn.functional.layer_norm",
        "course_lib.models.block",
    ),
    tolerances=MANY_ROUNDINGS,
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "PreNorm without x",
            "Your PreNorm returns what the sublayer says and loses the stream: add it to `x`.",
            _with(pre=PreWithoutX),
        ),
        Mistake(
            "PreNorm adds to the normalised stream",
            "Your PreNorm adds to norm(x): only the sublayer reads the normalised stream; what it says is "
            "added to `x` itself.",
            _with(pre=PreAddsNormed),
        ),
        Mistake(
            "PreNorm without norm",
            "Your PreNorm has no norm: the sublayer reads `self.norm(x)`.",
            _with(pre=PreWithoutNorm),
        ),
        Mistake(
            "PreNorm normalises what is added",
            "Your PreNorm normalises what the sublayer says: the norm stands before the sublayer.",
            _with(pre=NormsWhatIsAdded),
        ),
        Mistake(
            "PreNorm is PostNorm",
            "Your PreNorm normalises the sum: that is PostNorm. In PreNorm nothing stands on the stream.",
            _with(pre=finished.PostNorm),
        ),
        Mistake(
            "PostNorm is PreNorm",
            "Your PostNorm normalises what the sublayer reads: that is PreNorm. In PostNorm the norm comes "
            "last, around the sum.",
            _with(post=finished.PreNorm),
        ),
        Mistake(
            "PostNorm normalises what is added",
            "Your PostNorm computes x + norm(f(x)): the norm goes around the whole sum, norm(x + f(x)).",
            _with(post=NormsWhatIsAdded),
        ),
        Mistake(
            "PostNorm normalises x alone",
            "Your PostNorm computes norm(x) + f(x): the norm goes around the sum, with f(x) in it.",
            _with(post=PostAddsToNormed),
        ),
        Mistake(
            "PostNorm drops last",
            "Your PostNorm drops from what the norm gives, so the stream itself gets holes: drop what the "
            "sublayer says, before it is added.",
            _with(post=PostDropsLast),
        ),
        Mistake(
            "PostNorm without x",
            "Your PostNorm loses the stream: add `x` before you normalise.",
            _with(post=PostWithoutX),
        ),
        Mistake(
            "dropout of the whole stream",
            "You drop from the sum, so the stream itself gets holes: drop only what the sublayer says, "
            "before it is added.",
            _with(PreDropsSum, PostDropsSum),
        ),
        Mistake(
            "PreNorm drops the sum",
            "Your PreNorm drops from the sum, so the stream itself gets holes: drop only what the sublayer "
            "says, before it is added.",
            _with(pre=PreDropsSum),
        ),
        Mistake(
            "dropout forgotten",
            "You never use `self.dropout`: it goes around what the sublayer says, in both connections.",
            _with(PreDropsNothing, PostDropsNothing),
        ),
        Mistake(
            "PostNorm forgets dropout",
            "Your PostNorm never uses `self.dropout`: it goes around what the sublayer says.",
            _with(post=PostDropsNothing),
        ),
        Mistake(
            "dropout too early",
            "Your PreNorm drops what the sublayer reads: it is what the sublayer says that is dropped.",
            _with(pre=PreDropsInput),
        ),
        Mistake(
            "compute, then communicate",
            "Your block computes before it communicates: attention comes first.",
            _with(block=ComputesFirst),
        ),
        Mistake(
            "what was heard is lost",
            "Your feed-forward network starts again from the block's input, so what was heard is lost: it "
            "reads what the first connection returns.",
            _with(block=ComputesFromTheStart),
        ),
        Mistake(
            "side by side",
            "Both your sublayers read the block's input: the feed-forward network must read the stream "
            "with what was heard already in it.",
            _with(block=SideBySide),
        ),
        Mistake(
            "one connection twice",
            "You use `self.communicate` for both sublayers: the feed-forward network has a connection of "
            "its own, `self.compute`, with a norm of its own.",
            _with(block=OneConnection),
        ),
        Mistake(
            "mask not handed on",
            "You never hand `mask` on to the attention.",
            _with(block=MaskForgotten),
        ),
        Mistake(
            "mask taken for the context",
            "You hand `mask` on as the attention's second argument, which is the context: write "
            "`mask=mask, cache=cache`.",
            _with(block=MaskAsContext),
        ),
        Mistake(
            "cache not handed on",
            "You never hand `cache` on to the attention.",
            _with(block=CacheForgotten),
        ),
        Mistake(
            "stream added twice",
            "Your block adds `x` to what a connection returns: the connection has added it already.",
            _with(block=StreamAddedTwice),
        ),
        Mistake(
            "the connection's tensor not used",
            "Your attention reads the block's `x`: it must read the tensor that the connection hands it, "
            "which with PreNorm is normalised.",
            _with(block=ReadsTheStream),
        ),
        Mistake(
            "added by hand",
            "Your block adds what the sublayers say by itself, so norms and dropout are never used: call "
            "`self.communicate` and `self.compute`.",
            _with(block=AddsByHand),
        ),
        Mistake(
            "no connections",
            "Your block calls the two sublayers bare: call them through `self.communicate` and "
            "`self.compute`, which add them to the stream.",
            _with(block=NoConnections),
        ),
    ),
    hints=(
        "A connection is given `sublayer`, a function of the stream: call it on a tensor. The two "
        "connections differ only in where `self.norm(…)` stands; `self.dropout(…)` stands around the "
        "sublayer's output in both.",
        "PreNorm: `x + self.dropout(sublayer(self.norm(x)))`. For PostNorm write the formula norm(x + f(x)) "
        "in the same way.",
        "The block is two lines. The second is `return self.compute(x, self.feed_forward)`. The first needs "
        "a function of one tensor; but the attention wants a mask and a cache as well, and returns a pair.",
        "`lambda y: self.attention(y, mask=mask, cache=cache)[0]` is such a function: it takes the tensor "
        "that the connection hands it and gives the outputs without the weights.",
    ),
)

# --- count_parameters ------------------------------------------------------------------------


def draw_count_parameters(seed: int) -> list[Case]:
    """Draw sizes: plain ones, and each option by itself and together."""
    g = torch.Generator().manual_seed(seed)

    def some(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=g))

    def case(label: str, heads: int, **options: Any) -> Case:
        d_model = heads * some(2, 9)
        if options.get("d_head") == 0:
            options["d_head"] = d_model // heads + some(1, 5)
        sizes = {"d_model": d_model, "n_heads": heads, "d_ff": some(5, 60), **options}
        return Case(label, {"sizes": sizes})

    return [
        case("no biases, no norms", 1, bias=False, norm_vectors=0),
        case("no norms", 2, norm_vectors=0),
        case("no biases", 2, bias=False),
        case("several heads", some(3, 6)),
        case("RMSNorm", 2, norm_vectors=1),
        case("SwiGLU without biases", 4, activation="swiglu", bias=False),
        case("SwiGLU with biases", 4, activation="swiglu"),
        case("shared key heads", 6, n_kv_heads=2),
        case("one key head, no biases", 4, n_kv_heads=1, bias=False),
        case("heads of another width", 3, d_head=0),
        case(
            "everything at once",
            8,
            n_kv_heads=2,
            d_head=0,
            activation="geglu",
            bias=True,
            norm_vectors=1,
        ),
    ]


def oracle_count_parameters(sizes: dict[str, Any]) -> dict[str, int]:
    """Make the block, without memory, and let PyTorch count."""
    options = {name: each for name, each in sizes.items() if name != "norm_vectors"}
    with torch.device("meta"):
        block = finished.TransformerBlock(**options)
    norms = [each for each in block.modules() if isinstance(each, finished.LayerNorm)]
    in_norms = sum(each.numel() for norm in norms for each in norm.parameters())
    others = sum(each.numel() for each in block.parameters()) - in_norms
    return {"count": others + len(norms) * sizes.get("norm_vectors", 2) * sizes["d_model"]}


def _count(
    d_model: int,
    n_heads: int,
    d_ff: int,
    *,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    activation: str = "relu",
    bias: bool = True,
    norm_vectors: int = 2,
    wrong: str = "",
) -> int:
    """Count, wrongly in one way."""
    if wrong == "shared heads":
        n_kv_heads = None
    if wrong == "d_head":
        d_head = None
    kv = n_heads if n_kv_heads is None else n_kv_heads
    width = d_model // n_heads if d_head is None else d_head
    asked, shared = n_heads * width, kv * width
    if wrong == "per head":
        asked, shared = n_heads * d_model, kv * d_model
    attention = [(d_model, asked), (d_model, shared), (d_model, shared), (asked, d_model)]
    if wrong == "no output":
        attention = attention[:3]
    if wrong == "values":
        attention.pop(2)
    ups = 1 if wrong == "gate" else 1 + finished.ACTIVATIONS[activation][1]
    network = [(d_model, d_ff)] * ups + [(d_ff, d_model)]
    if wrong == "down":
        network.pop()
    layers = attention + network
    total = sum(a * b for a, b in layers)
    if wrong == "biases of inputs":
        total += bias * sum(a for a, _ in layers)
    elif wrong == "attention biases":
        total += bias * sum(b for _, b in network)
    elif wrong == "always biases":
        total += sum(b for _, b in layers)
    elif wrong != "biases":
        total += bias * sum(b for _, b in layers)
    if wrong == "gate's biases":
        total -= bias * d_ff * (ups - 1)
    if wrong == "output's biases":
        total += bias * (asked - d_model)
    norms = {"no norms": 0, "one norm": 1, "three norms": 3}.get(wrong, 2)
    vectors = 2 if wrong == "norm vectors" else norm_vectors
    return total + norms * vectors * d_model


def _wrong(how: str) -> tuple[Callable[..., int]]:
    def count_parameters(d_model: int, n_heads: int, d_ff: int, **options: Any) -> int:
        return _count(d_model, n_heads, d_ff, **options, wrong=how)

    return (count_parameters,)


COUNT_PARAMETERS = Exercise(
    name="count_parameters",
    lesson=10,
    points=3,
    probe=probes.count_parameters,
    draw=draw_count_parameters,
    oracle=oracle_count_parameters,
    finished=(finished.count_parameters,),
    forbidden=("torch.Tensor.numel", "torch.Tensor.parameters", "course_lib.models.block"),
    minutes=15,
    difficulty=2,
    mistakes=(
        Mistake(
            "biases forgotten",
            "You leave out the biases: where `bias` is True, a layer has one for each of its outputs.",
            _wrong("biases"),
        ),
        Mistake(
            "a bias for each input",
            "You count a bias for each input: a layer has one for each of its outputs.",
            _wrong("biases of inputs"),
        ),
        Mistake(
            "biases always counted",
            "You count biases where `bias` is False: then no linear layer has any.",
            _wrong("always biases"),
        ),
        Mistake(
            "no biases in the attention",
            "You count the biases of the feed-forward network alone: the attention's four layers have them too.",
            _wrong("attention biases"),
        ),
        Mistake(
            "no norms",
            "You leave out the norms: there are two, one for each connection.",
            _wrong("no norms"),
        ),
        Mistake(
            "one norm",
            "You count one norm: there are two, one for each connection.",
            _wrong("one norm"),
        ),
        Mistake(
            "a norm too many",
            "You count three norms: the last one of a pre-norm stack belongs to the stack, not to the block.",
            _wrong("three norms"),
        ),
        Mistake(
            "norm_vectors not used",
            "You never use `norm_vectors`: RMSNorm learns one vector, LayerNorm two.",
            _wrong("norm vectors"),
        ),
        Mistake(
            "no output projection",
            "You count three projections in the attention: there are four, the last mixes what the heads say.",
            _wrong("no output"),
        ),
        Mistake(
            "keys and values counted once",
            "You count keys and values once: each has a projection of its own.",
            _wrong("values"),
        ),
        Mistake(
            "each head of full width",
            "You count a matrix of d_model × d_model for each head: the heads share the width, d_head each.",
            _wrong("per head"),
        ),
        Mistake(
            "shared key heads not seen",
            "You never use `n_kv_heads`: keys and values are made for that many heads only.",
            _wrong("shared heads"),
        ),
        Mistake(
            "d_head not used",
            "You never use `d_head`: where it is given, all heads together are n_heads · d_head wide.",
            _wrong("d_head"),
        ),
        Mistake(
            "gate not counted",
            "You count two matrices in every feed-forward network: one with a gate (`ACTIVATIONS[activation][1]` "
            "is True) has three.",
            _wrong("gate"),
        ),
        Mistake(
            "gate's biases not counted",
            "You count the gate's weights and not its biases: it has d_ff of them, as the way up has.",
            _wrong("gate's biases"),
        ),
        Mistake(
            "output's biases as wide as the heads",
            "You count n_heads · d_head biases for the attention's output: its layer goes back to d_model, and has "
            "that many.",
            _wrong("output's biases"),
        ),
        Mistake(
            "no way down",
            "You leave out the feed-forward network's last layer, from d_ff back to d_model.",
            _wrong("down"),
        ),
    ),
    hints=(
        "A linear layer from a to b has a · b weights, and b biases if it has biases. List the layers of a block "
        "as pairs (a, b), and add up.",
        "The attention has four: d_model → h·d_head for queries, d_model → g·d_head for keys and again for values, "
        "h·d_head → d_model for the output. The feed-forward network has d_model → d_ff (twice with a gate) and "
        "d_ff → d_model.",
        "What is left are two norms of `norm_vectors` vectors, each d_model wide. A default of None means: as many "
        "key heads as query heads; d_model // n_heads.",
        "`sum(a * b + bias * b for a, b in layers) + 2 * norm_vectors * d_model`; whether there is a gate says "
        "`ACTIVATIONS[activation][1]` (True counts as 1).",
    ),
)

EXERCISES = (LAYER_NORM, FEED_FORWARD, TRANSFORMER_BLOCK, COUNT_PARAMETERS)
