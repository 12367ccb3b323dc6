"""Lesson 09, positional encoding: what is drawn, what is right, what often goes wrong."""

import math
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.probes import lesson_09 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import positions as finished
from course_lib.models.positions import frequencies, offsets, sinusoidal_encoding

FORBIDDEN = ("course_lib.models.positions",)
BASE = 10_000.0

# --- sinusoidal_encoding ---------------------------------------------------------------------


def draw_sinusoidal_encoding(seed: int) -> list[Case]:
    """Draw positions and widths."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape: int, most: int = 200, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randint(1, most, shape, generator=g).to(dtype)

    def case(label: str, positions: Tensor, d: int, base: float | None = None) -> Case:
        return Case(label, {"positions": positions, "d": d, "base": base})

    return [
        case("position 1, one pair", torch.ones(1, dtype=torch.float64), 2),
        case("one position, two pairs", some(1, most=12), 4),
        case("the first positions", torch.arange(6, dtype=torch.float64), 8),
        case("float32", torch.arange(9, dtype=torch.float32), 6),
        case("another base", some(5), 6, 100.0),
        case("an odd width", some(4), 7),
        case("width 1", some(3), 1),
        case("positions that do not start at 0", 37 + some(1) + torch.arange(4.0).double(), 10),
        case("a table of positions (2, 3)", some(2, 3), 4),
        case("a single position without axes", some(1)[0], 6),
    ]


def oracle_sinusoidal_encoding(positions: Tensor, d: int, base: float | None) -> dict[str, Tensor]:
    """Apply the formula to one number after the other."""
    base = BASE if base is None else base
    rates = [base ** (-2 * i / d) for i in range((d + 1) // 2)]
    rows = [
        [(math.cos if column % 2 else math.sin)(p * rates[column // 2]) for column in range(d)]
        for p in positions.flatten().tolist()
    ]
    encoding = torch.tensor(rows, dtype=torch.float64).view(*positions.shape, d)
    return {
        "result of frequencies": torch.tensor(rates, dtype=torch.float64).to(positions.dtype),
        "result of sinusoidal_encoding": encoding.to(positions.dtype),
    }


def _pairs(angles: Tensor, d: int, *order: str) -> Tensor:
    """Put functions of the angles side by side, pair by pair."""
    columns = [getattr(angles, name)() for name in order or ("sin", "cos")]
    return torch.stack(columns, dim=-1).flatten(-2)[..., :d]


def _encoding(rates_of: Any, *order: str) -> Any:
    """Return a right encoding with the given frequencies and order of functions."""

    def encode(positions: Tensor, d: int, base: float = BASE) -> Tensor:
        rates = rates_of(d, base, positions.dtype, positions.device)
        return _pairs(positions[..., None] * rates, d, *order)

    return encode


def _rates(d: int, base: float, dtype: Any, device: Any, step: float, first: float = 0) -> Tensor:
    pairs = torch.arange((d + 1) // 2, dtype=dtype, device=device)
    return base ** (-(first + step * pairs) / d)


def rates_half(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Use i/d, not 2i/d."""
    return _rates(d, base, dtype, device, 1)


def rates_doubled(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Multiply by 2 what already counts in twos."""
    return _rates(d, base, dtype, device, 4)


def rates_rising(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Forget the minus sign."""
    return 1 / _rates(d, base, dtype, device, 2)


def rates_to_the_end(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Let the slowest frequency be exactly 1/base."""
    count = (d + 1) // 2
    return base ** (-torch.arange(count, dtype=dtype, device=device) / max(1, count - 1))


def rates_from_one(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Count pairs from 1."""
    return _rates(d, base, dtype, device, 2, first=2)


def rates_fixed_base(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Write 10000 where base belongs."""
    return _rates(d, BASE, dtype, device, 2)


def rates_fixed_dtype(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Never look at dtype."""
    return _rates(d, base, torch.float32, device, 2)


def rates_linear(
    d: int, base: float = BASE, dtype: Any = torch.float32, device: Any = None
) -> Tensor:
    """Multiply where a power belongs."""
    pairs = torch.arange((d + 1) // 2, dtype=dtype, device=device)
    return 1 / base * (2 * pairs / d)


def encode_in_halves(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Put all sines first and all cosines after them."""
    angles = positions[..., None] * frequencies(d, base, positions.dtype, positions.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :d]


def encode_in_float32(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Ask for frequencies without saying of which dtype."""
    return _pairs(positions[..., None] * frequencies(d, base), d).to(positions.dtype)


def encode_fixed_base(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Keep the base for oneself."""
    return sinusoidal_encoding(positions, d)


def encode_each_column(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Give every column a frequency of its own."""
    columns = torch.arange(d, dtype=positions.dtype, device=positions.device)
    angles = positions[..., None] * base ** (-columns / d)
    return torch.where(columns % 2 == 0, angles.sin(), angles.cos())


def encode_from_one(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Count positions from 1."""
    return sinusoidal_encoding(positions + 1, d, base)


def encode_sines_only(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Write the sine twice."""
    return _encoding(frequencies, "sin", "sin")(positions, d, base)


def encode_not_cut(positions: Tensor, d: int, base: float = BASE) -> Tensor:
    """Keep the cosine that an odd width has no room for."""
    return sinusoidal_encoding(positions, d + d % 2, base ** ((d + d % 2) / d))


SINUSOIDAL_ENCODING = Exercise(
    name="sinusoidal_encoding",
    lesson=9,
    points=3,
    probe=probes.sinusoidal_encoding,
    draw=draw_sinusoidal_encoding,
    oracle=oracle_sinusoidal_encoding,
    defines=("frequencies", "sinusoidal_encoding"),
    finished=(finished.frequencies, finished.sinusoidal_encoding),
    forbidden=FORBIDDEN,
    minutes=15,
    difficulty=2,
    mistakes=(
        Mistake(
            "i/d in the exponent",
            "Your frequencies fall too slowly: pair i has the exponent −2i/d, and yours has −i/d.",
            (rates_half, _encoding(rates_half)),
        ),
        Mistake(
            "2i doubled",
            "Your frequencies fall too fast: `torch.arange(0, d, 2)` counts 0, 2, 4, …, which is 2i already; with "
            "another 2 the exponent is −4i/d.",
            (rates_doubled, _encoding(rates_doubled)),
        ),
        Mistake(
            "frequencies rise",
            "Your frequencies rise from pair to pair: the exponent is negative, base^(−2i/d).",
            (rates_rising, _encoding(rates_rising)),
        ),
        Mistake(
            "the last frequency is 1/base",
            "Your slowest frequency is exactly 1/base: the exponents are 0, 2/d, 4/d, … and stop short of 1.",
            (rates_to_the_end, _encoding(rates_to_the_end)),
        ),
        Mistake(
            "pairs counted from 1",
            "You count pairs from 1: the first pair is i = 0, and its frequency is 1.",
            (rates_from_one, _encoding(rates_from_one)),
        ),
        Mistake(
            "product for power",
            "You multiply by 2i/d where base is to be raised to the power −2i/d.",
            (rates_linear, _encoding(rates_linear)),
        ),
        Mistake(
            "base ignored",
            "You wrote 10000 where `base` belongs.",
            (rates_fixed_base, _encoding(rates_fixed_base)),
        ),
        Mistake(
            "dtype ignored",
            "Your frequencies are float32 whatever `dtype` says, so float64 positions lose half their digits: "
            "hand `dtype` on, as in `torch.arange(…, dtype=dtype, device=device)`.",
            (rates_fixed_dtype, _encoding(rates_fixed_dtype)),
        ),
        Mistake(
            "base not handed on",
            "Your `frequencies` are right, but `sinusoidal_encoding` does not tell them its `base`.",
            (frequencies, encode_fixed_base),
        ),
        Mistake(
            "dtype not handed on",
            "Your `frequencies` are right, but `sinusoidal_encoding` does not tell them the dtype of the positions, "
            "and so gets float32: `frequencies(d, base, positions.dtype, positions.device)`.",
            (frequencies, encode_in_float32),
        ),
        Mistake(
            "sine and cosine swapped",
            "You swapped sine and cosine: each pair begins with the sine.",
            (frequencies, _encoding(frequencies, "cos", "sin")),
        ),
        Mistake(
            "only sines",
            "Your pairs hold the sine twice: the second number of each is the cosine.",
            (frequencies, encode_sines_only),
        ),
        Mistake(
            "all sines first",
            "Your encoding has all sines first and then all cosines: the two of a pair stand side by side "
            "(`torch.stack(…, dim=-1)`, then `.flatten(-2)`; `torch.cat` makes halves).",
            (frequencies, encode_in_halves),
        ),
        Mistake(
            "a frequency for each column",
            "Each of your columns has a frequency of its own: the two of a pair share one.",
            (frequencies, encode_each_column),
        ),
        Mistake(
            "positions counted from 1",
            "You added 1 to the positions: they are to be used as they come.",
            (frequencies, encode_from_one),
        ),
        Mistake(
            "odd width not cut",
            "With an odd d your encoding is one column too wide: drop the last cosine.",
            (frequencies, encode_not_cut),
        ),
    ),
    hints=(
        "`torch.arange(0, d, 2)` gives the numbers 0, 2, 4, …, that is, 2i for each pair: ⌈d/2⌉ numbers, for an odd "
        "d, too.",
        "`positions[..., None] * rates` has an angle for each position and pair, whatever the shape of the "
        "positions. Sine and cosine of it have the same shape.",
        "`torch.stack([angles.sin(), angles.cos()], dim=-1)` puts the two side by side on a new last axis, "
        "(..., pairs, 2). `.flatten(-2)` makes one axis of the last two.",
        "For an odd d there is one cosine too many at the end: `[..., :d]` cuts it off and changes nothing where d "
        "is even. The frequencies: `base ** (-torch.arange(0, d, 2, dtype=dtype, device=device) / d)`.",
    ),
)

# --- apply_rope ------------------------------------------------------------------------------


def draw_apply_rope(seed: int) -> list[Case]:
    """Draw queries, with none to two batch axes, at several first positions."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        *shape: int,
        start: int | None = None,
        base: float | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Case:
        x = torch.randn(*shape, generator=g, dtype=dtype)
        cotangent = torch.randn(*shape, generator=g, dtype=dtype)
        return Case(label, {"x": x, "start": start, "base": base, "cotangent": cotangent})

    far = int(torch.randint(20, 300, (), generator=g))
    strided = case("a non-contiguous tensor", 2, 3, 4, 6)
    strided.inputs["x"] = strided.inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("two positions, one pair", 2, 2),
        case("position 0 alone", 1, 4),
        case("three positions, two pairs", 3, 4),
        case("a batch with heads, float32", 2, 3, 5, 8, dtype=torch.float32),
        case("as many heads as positions", 2, 4, 4, 6),
        case("one row that stands at position 3", 1, 4, start=3),
        case("one row far into the text, as with a cache", 1, 2, 1, 6, start=far),
        case("several rows far into the text", 2, 3, 4, start=far),
        case("another base", 4, 8, base=50.0),
        strided,
    ]


def oracle_apply_rope(
    x: Tensor, start: int | None, base: float | None, cotangent: Tensor
) -> dict[str, Tensor]:
    """Multiply complex numbers: a pair (a, b) is a + ib, and turning it is a factor of length 1."""
    n, d = x.shape[-2:]
    first, base = start or 0, BASE if base is None else base
    leaf = x.detach().double().contiguous().requires_grad_()
    numbers = torch.view_as_complex(leaf.unflatten(-1, (d // 2, 2)))
    angles = torch.tensor(
        [[p * base ** (-2 * i / d) for i in range(d // 2)] for p in range(first, first + n)],
        dtype=torch.float64,
    )
    turned = torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    found = {"result": turned, **gradients(turned, cotangent.double(), {"x": leaf})}
    return {name: each.detach().to(x.dtype) for name, each in found.items()}


def _angles(x: Tensor, start: int, base: float) -> Tensor:
    """Return the right angles, (n, d/2)."""
    n, d = x.shape[-2:]
    positions = torch.arange(start, start + n, device=x.device)
    return positions[:, None] * frequencies(d, base, x.dtype, x.device)


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring numbers by given angles."""
    a, b, cos, sin = x[..., 0::2], x[..., 1::2], angles.cos(), angles.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def rope_halves(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Pair each number with the one half the width away."""
    (a, b), angles = x.chunk(2, dim=-1), _angles(x, start, base)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def rope_other_way(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Turn clockwise."""
    return _turned(x, -_angles(x, start, base))


def rope_ignores_start(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Begin at position 0 whatever start says."""
    return _turned(x, _angles(x, 0, base))


def rope_from_one(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Count positions from 1."""
    return _turned(x, _angles(x, start + 1, base))


def rope_not_woven(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Leave the turned pairs in two halves."""
    a, b, angles = x[..., 0::2], x[..., 1::2], _angles(x, start, base)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def rope_one_frequency(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Turn every pair by the position itself."""
    angles = torch.arange(start, start + x.shape[-2], dtype=x.dtype, device=x.device)
    return _turned(x, angles[:, None].expand(-1, x.shape[-1] // 2))


def rope_along_heads(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Take the axis before the positions for the positions."""
    if x.dim() == 2:
        return _turned(x, _angles(x, start, base))
    swapped = x.transpose(-3, -2)
    return _turned(swapped, _angles(swapped, start, base)).transpose(-3, -2)


def rope_ignores_base(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Never look at base."""
    return _turned(x, _angles(x, start, BASE))


def rope_both_signs_plus(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Forget the minus sign of the rotation."""
    a, b, angles = x[..., 0::2], x[..., 1::2], _angles(x, start, base)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([a * cos + b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def rope_uses_new_first(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Compute the second number of a pair from the first one that was turned already."""
    a, b, angles = x[..., 0::2], x[..., 1::2], _angles(x, start, base)
    a = a * angles.cos() - b * angles.sin()
    return torch.stack([a, a * angles.sin() + b * angles.cos()], dim=-1).flatten(-2)


def rope_adds(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Add the sinusoids instead of turning by them."""
    n, d = x.shape[-2:]
    positions = torch.arange(start, start + n, dtype=x.dtype, device=x.device)
    return x + sinusoidal_encoding(positions, d, base)


def rope_in_float32(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Ask for frequencies without saying of which dtype."""
    n, d = x.shape[-2:]
    positions = torch.arange(start, start + n, device=x.device)
    return _turned(x, positions[:, None] * frequencies(d, base, device=x.device))


def rope_with_frequencies_in_float32(x: Tensor, start: int = 0, base: float = BASE) -> Tensor:
    """Write positions in x's dtype, and forget it where frequencies are asked for."""
    n, d = x.shape[-2:]
    positions = torch.arange(start, start + n, dtype=x.dtype, device=x.device)
    return _turned(x, positions[:, None] * frequencies(d, base, device=x.device))


APPLY_ROPE = Exercise(
    name="apply_rope",
    lesson=9,
    points=4,
    probe=probes.apply_rope,
    draw=draw_apply_rope,
    oracle=oracle_apply_rope,
    finished=(finished.apply_rope,),
    needs=("sinusoidal_encoding",),
    forbidden=FORBIDDEN,
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "halves paired",
            "You paired x[i] with x[i + d/2], as some libraries do: here, as in the paper, neighbours are a "
            "pair, x[2i] and x[2i + 1].",
            (rope_halves,),
        ),
        Mistake(
            "turned the other way",
            "You turn the other way: (a, b) becomes (a cos − b sin, a sin + b cos).",
            (rope_other_way,),
        ),
        Mistake(
            "start ignored",
            "You never use `start`: the first row stands at that position, the next one at start + 1.",
            (rope_ignores_start,),
        ),
        Mistake(
            "positions counted from 1",
            "You count positions from 1: the first row stands at `start`, and position 0 is not turned.",
            (rope_from_one,),
        ),
        Mistake(
            "pairs not put back",
            "You turned the right pairs and left them in two halves: put the two numbers of a pair side by "
            "side again (`torch.stack(…, dim=-1)`, then `.flatten(-2)`).",
            (rope_not_woven,),
        ),
        Mistake(
            "one frequency for all pairs",
            "You turn every pair by the position itself: pair i turns by position · frequency i.",
            (rope_one_frequency,),
        ),
        Mistake(
            "positions on the wrong axis",
            "You counted positions along the axis of heads (or sentences): they are the last but one, "
            "`x.shape[-2]`.",
            (rope_along_heads,),
        ),
        Mistake("base ignored", "You never use `base`.", (rope_ignores_base,)),
        Mistake(
            "no minus sign",
            "Your pairs are not turned, since their lengths change: one of the four products has a minus sign, "
            "a cos − b sin.",
            (rope_both_signs_plus,),
        ),
        Mistake(
            "the new a used for b",
            "You computed the new b from the new a: both come from the old pair.",
            (rope_uses_new_first,),
        ),
        Mistake(
            "added instead of turned",
            "You added the sinusoids to x: RoPE turns each pair by its angle and adds nothing.",
            (rope_adds,),
        ),
        Mistake(
            "angles in float32",
            "Your angles are float32 although x is float64, which costs half the digits: hand the dtype on, "
            "`frequencies(d, base, x.dtype, x.device)`.",
            (rope_in_float32,),
        ),
        Mistake(
            "frequencies in float32",
            "Your positions have x's dtype and your frequencies are float32, so float64 angles are right to half "
            "their digits: `frequencies(d, base, x.dtype, x.device)`.",
            (rope_with_frequencies_in_float32,),
        ),
    ),
    hints=(
        "Positions are `torch.arange(start, start + n, device=x.device)` with `n, d = x.shape[-2:]`. Times your "
        "`frequencies`, with x's dtype and device, they give the angles, (n, d/2).",
        "`x[..., 0::2]` takes the first number of each pair and `x[..., 1::2]` the second: (..., n, d/2) each. The "
        "angles broadcast over everything in front.",
        "With a and b the two numbers, the new ones are a·cos − b·sin and a·sin + b·cos. Both are made of the old a "
        "and b. Make new tensors; writing into x changes the input.",
        "To weave the two back: `torch.stack([first, second], dim=-1)` is (..., n, d/2, 2), and `.flatten(-2)` makes "
        "it (..., n, d), with partners side by side.",
    ),
)

# --- relative_bucket -------------------------------------------------------------------------


def draw_relative_bucket(seed: int) -> list[Case]:
    """Draw offsets in both directions, near and far."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape: int, reach: int = 200) -> Tensor:
        return torch.randint(-reach, reach + 1, shape, generator=g)

    def case(
        label: str,
        offset: Tensor,
        sizes: tuple[int, int] | None = None,
        bidirectional: bool | None = None,
    ) -> Case:
        return Case(label, {"offset": offset, "sizes": sizes, "bidirectional": bidirectional})

    table = torch.arange(9)[None, :] - torch.arange(6)[:, None]
    everything = torch.arange(-150, 151)
    return [
        case("causal, one step back", torch.tensor([-1]), bidirectional=False),
        case("causal, the position itself and behind", torch.tensor([0, -2, -3]), (8, 16), False),
        case("one step ahead, one back", torch.tensor([1, 0, -1]), (8, 16)),
        case("causal, far behind", -some(6).abs() - 20, None, False),
        case("causal, and some keys ahead", torch.tensor([5, 1, 0, -1, -40]), (16, 64), False),
        case("both directions, default sizes", some(8)),
        case("beyond the largest distance", torch.tensor([-5000, -128, -20, 0, 20, 128, 5000])),
        case("a table of offsets", table, (8, 20), True),
        case("every offset from −150 to 150", everything[torch.randperm(301, generator=g)]),
        case("every offset, causal", everything, (16, 64), False),
        case("few buckets", some(5, 3, reach=40), (12, 50), True),
        case("a single offset without axes", -some(1).abs()[0] - 1, (20, 77), False),
    ]


def oracle_relative_bucket(
    offset: Tensor, sizes: tuple[int, int] | None, bidirectional: bool | None
) -> dict[str, Tensor]:
    """Find each offset's bucket by whole numbers alone: compare powers instead of taking logarithms."""
    n_buckets, max_distance = sizes or (32, 128)
    both = True if bidirectional is None else bidirectional
    count = n_buckets // 2 if both else n_buckets
    exact = count // 2

    def bucket(value: int) -> int:
        distance = abs(value) if both else max(-value, 0)
        first = count if both and value > 0 else 0
        if distance < exact:
            return first + distance
        wide = count - exact
        # the i-th wide bucket begins where (distance / exact)^wide reaches (max_distance / exact)^i
        reached = [
            i for i in range(wide) if max_distance**i * exact ** (wide - i) <= distance**wide
        ]
        return first + exact + max(reached)

    found = [bucket(int(each)) for each in offset.flatten()]
    return {"buckets": torch.tensor(found, dtype=torch.int64).view(offset.shape)}


def _buckets(
    offset: Tensor,
    *sizes: int,
    bidirectional: bool = True,
    ahead: Any = lambda offset: offset > 0,
    behind: Any = lambda offset: (-offset).clamp(min=0),
    halve: bool = True,
    first_ahead_of: Any = lambda n_buckets: n_buckets // 2,
    wide_of: Any = lambda count, exact: count - exact,
    last: bool = True,
    exact_of: Any = lambda count: count // 2,
    rounding: Any = torch.floor,
    scale: Any = lambda ratio: math.log(ratio),
    compare: Any = torch.lt,
) -> Tensor:
    """Compute buckets with one part replaced."""
    n_buckets, max_distance = sizes or (32, 128)
    if bidirectional:
        count = n_buckets // 2 if halve else n_buckets
        first, distance = ahead(offset).long() * first_ahead_of(n_buckets), offset.abs()
    else:
        count, first, distance = n_buckets, torch.zeros_like(offset), behind(offset)
    exact = exact_of(count)
    along = (distance.clamp(min=exact) / exact).log() / scale(max_distance / exact)
    wide = exact + rounding(along * wide_of(count, exact)).long()
    if last:
        wide = wide.clamp(max=count - 1)
    return first + torch.where(compare(distance, exact), distance, wide)


def directions_swapped(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Give the upper half to what lies behind."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, ahead=lambda each: each < 0)


def itself_ahead(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Count the position itself among those ahead."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, ahead=lambda each: each >= 0)


def future_by_distance(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Take the absolute value in the causal case, too."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, behind=torch.abs)


def wrong_side(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Take what lies ahead for what lies behind."""
    return _buckets(
        offset, *sizes, bidirectional=bidirectional, behind=lambda each: each.clamp(min=0)
    )


def direction_ignored(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Compute the bidirectional buckets always."""
    return _buckets(offset, *sizes)


def not_halved(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Give each direction all the buckets."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, halve=False)


def never_halved(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Give each direction all the buckets, and those ahead as many again."""
    return _buckets(
        offset, *sizes, bidirectional=bidirectional, halve=False, first_ahead_of=lambda each: each
    )


def times_all(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Spread the far distances over as many buckets as a direction has in all."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, wide_of=lambda count, exact: count)


def no_last_bucket(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Let far offsets run beyond the last bucket."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, last=False)


def rounded_up(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Round to the nearest bucket."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, rounding=torch.round)


def not_to_scale(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Forget to divide by the logarithm of the whole range."""
    return _buckets(offset, *sizes, bidirectional=bidirectional, scale=lambda ratio: 1.0)


def whole_range(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Divide by log(max_distance), as if the scale began at 1."""
    exact_half = (sizes[0] if sizes else 32) // (4 if bidirectional else 2)
    return _buckets(
        offset,
        *sizes,
        bidirectional=bidirectional,
        scale=lambda ratio: math.log(ratio * exact_half),
    )


def linear_only(
    offset: Tensor, n_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
) -> Tensor:
    """Give each distance a bucket of its own until there are no more."""
    count = n_buckets // 2 if bidirectional else n_buckets
    distance = offset.abs() if bidirectional else (-offset).clamp(min=0)
    first = (offset > 0).long() * count if bidirectional else 0
    return first + distance.clamp(max=count - 1)


def wide_from_zero(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Number the wide buckets from 0 again."""
    n_buckets = sizes[0] if sizes else 32
    count = n_buckets // 2 if bidirectional else n_buckets
    distance = offset.abs() if bidirectional else (-offset).clamp(min=0)
    right = _buckets(offset, *sizes, bidirectional=bidirectional)
    return right - (distance >= count // 2).long() * (count // 2)


def as_floats(offset: Tensor, *sizes: int, bidirectional: bool = True) -> Tensor:
    """Return floats."""
    return _buckets(offset, *sizes, bidirectional=bidirectional).float()


RELATIVE_BUCKET = Exercise(
    name="relative_bucket",
    lesson=9,
    points=3,
    probe=probes.relative_bucket,
    draw=draw_relative_bucket,
    oracle=oracle_relative_bucket,
    finished=(finished.relative_bucket,),
    forbidden=FORBIDDEN,
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "directions swapped",
            "You gave the upper half of the buckets to keys behind the query: it belongs to those ahead, "
            "offset > 0.",
            (directions_swapped,),
        ),
        Mistake(
            "the position itself ahead",
            "You count the position itself among those ahead: offset 0 belongs to bucket 0 (>, not ≥).",
            (itself_ahead,),
        ),
        Mistake(
            "causal: the future by its distance",
            "In the causal case you gave keys ahead the bucket of their distance: they all count as distance 0 "
            "(a minimum of 0, not an absolute value).",
            (future_by_distance,),
        ),
        Mistake(
            "causal: the wrong side",
            "In the causal case you counted keys ahead: a key behind the query has a negative offset, so its "
            "distance is −offset.",
            (wrong_side,),
        ),
        Mistake(
            "bidirectional ignored",
            "You never use `bidirectional`: where it is False, all buckets belong to the keys behind.",
            (direction_ignored,),
        ),
        Mistake(
            "buckets not halved",
            "Each of your directions uses all the buckets, so they run into each other: with two directions "
            "each has n_buckets // 2.",
            (not_halved,),
        ),
        Mistake(
            "twice as many buckets",
            "Your keys ahead begin at bucket n_buckets, where there is none left: n_buckets counts both "
            "directions, so each has n_buckets // 2, and those ahead begin there.",
            (never_halved,),
        ),
        Mistake(
            "wide buckets too many",
            "You multiplied the logarithm by all c buckets of the direction: only the c − ε wide ones are left for it.",
            (times_all,),
        ),
        Mistake(
            "no last bucket",
            "Offsets beyond max_distance run past the last bucket of their direction: clamp them to it.",
            (no_last_bucket,),
        ),
        Mistake(
            "rounded to the nearest",
            "You rounded to the nearest bucket: round down, as `.long()` does.",
            (rounded_up,),
        ),
        Mistake(
            "not divided by the whole range",
            "Your logarithm is not brought to the scale from 0 to 1: divide by log(max_distance / exact).",
            (not_to_scale,),
        ),
        Mistake(
            "scale from 1",
            "You divided by log(max_distance): the wide buckets begin at `exact`, so the whole range is "
            "log(max_distance / exact).",
            (whole_range,),
        ),
        Mistake(
            "no wide buckets",
            "All your buckets hold one distance each: from half of them on they should grow wider, by the "
            "logarithm.",
            (linear_only,),
        ),
        Mistake(
            "wide buckets start at 0 again",
            "Your wide buckets begin at number 0 again: they come after the `exact` narrow ones.",
            (wide_from_zero,),
        ),
        Mistake(
            "floats",
            "Your buckets are floats: they number the rows of a table, so they must be whole numbers (`.long()`).",
            (as_floats,),
        ),
    ),
    hints=(
        "Do the direction first. Both ways: halve the number of buckets; the distance is `offset.abs()`; what lies "
        "ahead begins at half, `(offset > 0).long() * n_buckets`. Causal: the distance is `(-offset).clamp(min=0)`.",
        "Then forget the direction. With `exact = n_buckets // 2` (after halving): a distance below `exact` is its own "
        "bucket, and `torch.where(distance < exact, distance, wide)` chooses.",
        "For `wide`: log(distance / exact) / log(max_distance / exact) goes from 0 to 1 as the distance goes from "
        "`exact` to `max_distance`. Times the number of wide buckets, rounded down, plus `exact`.",
        "Two traps: log 0 (so `distance.clamp(min=exact)` before the logarithm), and distances beyond max_distance "
        "(so `.clamp(max=n_buckets - 1)` after it).",
    ),
)

# --- alibi_bias ------------------------------------------------------------------------------


def draw_alibi_bias(seed: int) -> list[Case]:
    """Draw numbers of heads, powers of two and others, and sizes with and without a cache."""
    g = torch.Generator().manual_seed(seed)
    n = int(torch.randint(3, 8, (), generator=g))
    extra = int(torch.randint(1, 5, (), generator=g))
    odd = int(torch.randint(0, 3, (), generator=g)) * 2 + 9
    x = torch.zeros(1)

    def case(label: str, n_heads: int, n_q: int, n_k: int | None = None) -> Case:
        return Case(label, {"n_heads": n_heads, "n_q": n_q, "n_k": n_k, "x": x})

    return [
        case("one head, two positions", 1, 2),
        case("one head, one position", 1, 1),
        case("two heads", 2, 3),
        case("eight heads", 8, n),
        case("sixteen heads", 16, 3),
        case("three heads, not a power of two", 3, 2),
        case("six heads", 6, n),
        case("more than eight heads, not a power of two", odd, 3),
        case("as many keys as queries, both given", 4, n, n),
        case("one query and a cache of keys", 4, 1, n),
        case("more keys than queries", 4, n, n + extra),
    ]


def oracle_alibi_bias(n_heads: int, n_q: int, n_k: int | None, x: Tensor) -> dict[str, Any]:
    """Fill the table one number after the other; slopes as geometric sequences, by repeated products."""

    def geometric(count: int) -> list[float]:
        return [2.0 ** (-8.0 * (i + 1) / count) for i in range(count)]

    power = 1
    while 2 * power <= n_heads:
        power *= 2
    slopes = (geometric(power) + geometric(2 * power)[0::2])[:n_heads]
    keys = n_q if n_k is None else n_k
    bias = [
        [[-slope * abs(j - (i + keys - n_q)) for j in range(keys)] for i in range(n_q)]
        for slope in slopes
    ]
    return {
        "slopes": slopes,
        "result of alibi_bias": torch.tensor(bias, dtype=torch.float32),
        "device of the bias": "meta",
    }


def _bias(slopes_of: Any, change: Any = lambda slope, offset: -slope * offset.abs()) -> Any:
    """Return a bias made of given slopes and a function of slope and offset."""

    def bias(n_heads: int, n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
        slopes = torch.tensor(slopes_of(n_heads), dtype=torch.float32, device=device)
        return change(slopes[:, None, None], offsets(n_q, n_k, device))

    return bias


def slopes_without_8(n_heads: int) -> list[float]:
    """Halve from head to head, however many there are."""
    return [2.0**-i for i in range(1, n_heads + 1)]


def slopes_from_one(n_heads: int) -> list[float]:
    """Begin with the slope 1."""
    first = finished.alibi_slopes(n_heads)
    ratio = 2.0 ** (-8 / 2 ** (n_heads.bit_length() - 1))
    return [each / ratio for each in first]


def slopes_one_sequence(n_heads: int) -> list[float]:
    """Use the formula for powers of two whatever the number."""
    return [2.0 ** (-8 * i / n_heads) for i in range(1, n_heads + 1)]


def slopes_every_one(n_heads: int) -> list[float]:
    """Take the first of the finer sequence, not every other one."""
    power = 2 ** (n_heads.bit_length() - 1)
    more = [2.0 ** (-8 * i / (2 * power)) for i in range(1, 2 * power + 1)]
    return slopes_one_sequence(power) + more[: n_heads - power]


def slopes_other_half(n_heads: int) -> list[float]:
    """Take the second, fourth, … of the finer sequence, which are there already."""
    power = 2 ** (n_heads.bit_length() - 1)
    return slopes_one_sequence(power) + slopes_one_sequence(2 * power)[1::2][: n_heads - power]


def slopes_next_power(n_heads: int) -> list[float]:
    """Take the first slopes of the next power of two."""
    power = 2 ** (n_heads - 1).bit_length()
    return slopes_one_sequence(power)[:n_heads]


def slopes_sorted(n_heads: int) -> list[float]:
    """Put all slopes in order."""
    return sorted(finished.alibi_slopes(n_heads), reverse=True)


def slopes_reversed(n_heads: int) -> list[float]:
    """Begin with the smallest slope."""
    return finished.alibi_slopes(n_heads)[::-1]


def bias_top_left(n_heads: int, n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Let the first query stand at the first key."""
    keys = torch.arange(n_q if n_k is None else n_k, device=device)
    distance = (keys[None, :] - torch.arange(n_q, device=device)[:, None]).abs()
    slopes = torch.tensor(finished.alibi_slopes(n_heads), device=device)
    return -slopes[:, None, None] * distance


def bias_device_ignored(
    n_heads: int, n_q: int, n_k: int | None = None, device: Any = None
) -> Tensor:
    """Make the bias where PyTorch makes tensors if nothing is said."""
    return finished.alibi_bias(n_heads, n_q, n_k)


def bias_with_a_mask(n_heads: int, n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Hide keys ahead."""
    ahead = offsets(n_q, n_k, device) > 0
    return finished.alibi_bias(n_heads, n_q, n_k, device).masked_fill(ahead, -math.inf)


def bias_of_two_devices(
    n_heads: int, n_q: int, n_k: int | None = None, device: Any = None
) -> Tensor:
    """Hand the device on to the distances and not to the slopes."""
    slopes = torch.tensor(finished.alibi_slopes(n_heads))
    return -slopes[:, None, None] * offsets(n_q, n_k, device).abs()


def bias_heads_last(n_heads: int, n_q: int, n_k: int | None = None, device: Any = None) -> Tensor:
    """Put the heads on the last axis."""
    return finished.alibi_bias(n_heads, n_q, n_k, device).movedim(0, -1)


_SLOPES = finished.alibi_slopes

ALIBI_BIAS = Exercise(
    name="alibi_bias",
    lesson=9,
    points=3,
    probe=probes.alibi_bias,
    draw=draw_alibi_bias,
    oracle=oracle_alibi_bias,
    defines=("alibi_slopes", "alibi_bias"),
    finished=(finished.alibi_slopes, finished.alibi_bias),
    forbidden=FORBIDDEN,
    minutes=15,
    difficulty=2,
    mistakes=(
        Mistake(
            "far keys preferred",
            "Your bias grows with the distance: it is to be subtracted, so that far keys count less.",
            (_SLOPES, _bias(_SLOPES, lambda slope, offset: slope * offset.abs())),
        ),
        Mistake(
            "signed distance",
            "Your bias has the sign of the offset, so keys ahead are pushed up: the distance is the absolute value.",
            (_SLOPES, _bias(_SLOPES, lambda slope, offset: slope * offset)),
        ),
        Mistake(
            "no absolute value",
            "You subtract slope times the signed offset, so keys behind, whose offset is negative, are pushed up: "
            "the distance is the absolute value.",
            (_SLOPES, _bias(_SLOPES, lambda slope, offset: -slope * offset)),
        ),
        Mistake(
            "keys ahead for nothing",
            "Your keys ahead cost nothing: they are as far as those behind.",
            (_SLOPES, _bias(_SLOPES, lambda slope, offset: slope * offset.clamp(max=0))),
        ),
        Mistake(
            "keys ahead hidden",
            "You put −∞ on keys ahead: they are as far as those behind, and hiding them is the mask's business.",
            (_SLOPES, bias_with_a_mask),
        ),
        Mistake(
            "slopes halve",
            "Your slopes halve from head to head whatever their number: between neighbours the factor is "
            "2^(−8/h), which is a half only for eight heads.",
            (slopes_without_8, _bias(slopes_without_8)),
        ),
        Mistake(
            "the first slope is 1",
            "Your first slope is 1: the sequence begins at 2^(−8/h) and ends at 2^(−8).",
            (slopes_from_one, _bias(slopes_from_one)),
        ),
        Mistake(
            "powers of two only",
            "For a number of heads that is not a power of two you used the formula all the same: take the slopes "
            "of the largest power of two below, then every other one of twice that power.",
            (slopes_one_sequence, _bias(slopes_one_sequence)),
        ),
        Mistake(
            "not every other slope",
            "The slopes that you add beyond the power of two are the first of the finer sequence: take every "
            "other one (`[::2]`), since those between are there already.",
            (slopes_every_one, _bias(slopes_every_one)),
        ),
        Mistake(
            "slopes twice",
            "Some of your slopes occur twice: of the finer sequence take the 1st, 3rd, 5th, … (`[::2]`); the others "
            "are there already.",
            (slopes_other_half, _bias(slopes_other_half)),
        ),
        Mistake(
            "the next power of two",
            "For other numbers of heads you took the first slopes of the next power of two: begin with all of "
            "the largest power of two below.",
            (slopes_next_power, _bias(slopes_next_power)),
        ),
        Mistake(
            "slopes sorted",
            "You sorted the slopes: those beyond the power of two come at the end, in the order in which they "
            "were taken.",
            (slopes_sorted, _bias(slopes_sorted)),
        ),
        Mistake(
            "slopes reversed",
            "Your slopes begin with the smallest: head 0 has the steepest slope.",
            (slopes_reversed, _bias(slopes_reversed)),
        ),
        Mistake(
            "aligned top left",
            "With more keys than queries your first query stands at the first key: the last query stands at the "
            "last key. `offsets(n_q, n_k, device)` knows that.",
            (_SLOPES, bias_top_left),
        ),
        Mistake(
            "heads on the last axis",
            "Your bias has shape (n_q, n_k, h): heads come first, so that it can be added to scores (B, h, n_q, n_k).",
            (_SLOPES, bias_heads_last),
        ),
        Mistake(
            "ignores device",
            "Your bias is made on the CPU whatever `device` says: hand it on, to `torch.tensor` and to `offsets`.",
            (_SLOPES, bias_device_ignored),
        ),
        Mistake(
            "two devices",
            "Your slopes and your distances are on two devices where `device` is not the CPU: hand it on to "
            "`torch.tensor(…, device=device)` as well as to `offsets`.",
            (_SLOPES, bias_of_two_devices),
        ),
    ),
    hints=(
        "Slopes first. For a power of two h: 2 ** (−8·i/h) for i = 1 … h, as a list. "
        "`2 ** (n_heads.bit_length() - 1)` is the largest power of two that is not above n_heads.",
        "For other numbers call the function itself: the slopes of the power below, `alibi_slopes(power)`, then of "
        "`alibi_slopes(2 * power)` every other one, `[::2]`, as many as are missing. (The ones that you skip are "
        "those of `power` again.)",
        "The bias is minus slope times distance, and the distance is `offsets(n_q, n_k, device).abs()`, (n_q, n_k).",
        "`torch.tensor(alibi_slopes(n_heads), device=device)[:, None, None]` has shape (h, 1, 1) and broadcasts "
        "against (n_q, n_k) to (h, n_q, n_k).",
    ),
)

EXERCISES = (SINUSOIDAL_ENCODING, APPLY_ROPE, RELATIVE_BUCKET, ALIBI_BIAS)
