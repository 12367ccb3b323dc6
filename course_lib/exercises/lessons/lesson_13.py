"""Lesson 13, decoders: what is drawn, what is right, what often goes wrong."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.probes import lesson_13 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import gpt as finished
from course_lib.models import sampling
from course_lib.models.attention import causal_mask
from course_lib.models.positions import LearnedPositions
from course_lib.training import optimiser

f64 = torch.float64

# --- GPT -------------------------------------------------------------------------------------


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


def draw_gpt(seed: int) -> list[Case]:
    """Draw models with learnt and with rotary positions, whole texts and texts in pieces."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        n: int,
        d_model: int = 4,
        n_heads: int = 1,
        n_layers: int = 1,
        words: int = 5,
        parts: list[int] | None = None,
        plain: bool = False,
        rotary: bool = False,
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        room: int = 2,
    ) -> Case:
        sizes: dict[str, Any] = {
            "n_words": words, "max_len": n + room, "d_model": d_model, "n_heads": n_heads,
            "n_layers": n_layers, "dropout": dropout, "rotary": rotary,
        }  # fmt: skip
        ids = torch.randint(words, (batch, n), generator=g)
        changed = ids.clone()
        last = max(1, n // 3)
        changed[:, -last:] = (changed[:, -last:] + 1) % words
        return Case(
            label,
            {
                "sizes": sizes,
                "plain": plain,
                "weights": _random_state(finished.GPT(finished.GPTConfig(**sizes)), g, dtype),
                "ids": ids,
                "changed": changed,
                "parts": parts,
                "cotangent": torch.randn(batch, n, words, generator=g, dtype=dtype),
            },
        )

    return [
        case("one token", 1, 1, 2, words=3, dtype=f64),
        case("three tokens", 1, 3, 2, words=3, dtype=f64),
        case("a batch, two heads, two blocks", 2, 4, 6, 2, 2, 7),
        case("lesson 07's attention", 2, 4, 4, 2, 2, plain=True, dtype=f64),
        case("rotary positions", 2, 4, 4, 2, 1, rotary=True, dtype=f64),
        case("as many tokens as the model reads", 1, 5, 4, 1, 2, 6, room=0, dtype=f64),
        case("everything dropped", 2, 3, 4, 2, 1, dropout=1.0, dtype=f64),
        case("caches, token by token", 2, 3, 4, 2, 2, 5, parts=[1, 1, 1], dtype=f64),
        case("caches, in pieces of several tokens", 2, 6, 6, 3, 2, 7, parts=[3, 2, 1], dtype=f64),
        case("caches and rotary positions", 1, 5, 4, 2, 2, 6, [2, 3], rotary=True, dtype=f64),
        case("caches and lesson 07's attention", 1, 5, 5, 1, 2, 6, [2, 3], plain=True, dtype=f64),
    ]


def _turn(x: Tensor) -> Tensor:
    """Turn pairs of neighbouring numbers by position, as complex numbers."""
    n, d = x.shape[-2:]
    rates = 10_000.0 ** (-torch.arange(0, d, 2, dtype=f64) / d)
    angles = torch.arange(n, dtype=f64)[:, None] * rates
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.view_as_real(turned).flatten(-2)


def oracle_gpt(
    sizes: dict[str, Any],
    plain: bool,
    weights: dict[str, Tensor],
    ids: Tensor,
    changed: Tensor,
    parts: list[int] | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Write the model down with PyTorch's functions, in float64."""
    w = {name: each.double().requires_grad_() for name, each in weights.items()}
    d, h, rotary = sizes["d_model"], sizes["n_heads"], sizes["rotary"]
    keep = 0.0 if sizes["dropout"] == 1 else 1.0

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (d,), w[f"{name}.weight"], w[f"{name}.bias"])

    def run(ids: Tensor) -> Tensor:
        x = F.embedding(ids, w["words.weight"])
        if not rotary:
            x = x + w["positions.table"][: ids.shape[1]]
        x = x * keep
        for i in range(sizes["n_layers"]):
            block = f"blocks.{i}."

            def linear(x: Tensor, name: str, block: str = block) -> Tensor:
                return F.linear(x, w[f"{block}{name}.weight"], w[f"{block}{name}.bias"])

            y = norm(x, f"{block}communicate.norm")
            q, k, v = (
                linear(y, f"attention.to_{each}").unflatten(-1, (h, -1)).transpose(1, 2)
                for each in "qkv"
            )
            if rotary:
                q, k = _turn(q), _turn(k)
            said = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + keep * linear(said.transpose(1, 2).flatten(-2), "attention.to_out")
            y = linear(norm(x, f"{block}compute.norm"), "feed_forward.up")
            x = x + keep * linear(F.gelu(y, approximate="tanh"), "feed_forward.down")
        return norm(x, "norm") @ w["words.weight"].T

    logits = run(ids)
    found: dict[str, Any] = {"logits": logits, **gradients(logits, cotangent.double(), w)}
    found["logits with other tokens at the end"] = run(changed)
    if parts is not None:
        found["logits, read in pieces with caches"] = logits
    found = {name: each.detach().to(cotangent.dtype) for name, each in found.items()}
    if parts is not None:
        found["positions in each cache"] = [ids.shape[1]] * sizes["n_layers"]
    return found | {"error of too many positions": "ValueError"}


class _GPT(finished.GPT):
    """A GPT whose forward goes wrong in one way, which its subclasses say."""

    def check(self, end: int) -> None:
        """Refuse too many positions."""
        if end > self.config.max_len:
            raise ValueError("too many positions")

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Look up, place, drop."""
        return self.dropout(self.place(self.words(ids), start))

    def place(self, x: Tensor, start: int) -> Tensor:
        """Add learnt positions."""
        learnt = isinstance(self.positions, LearnedPositions)
        return self.positions(x, start) if learnt else x

    def mask(self, n: int, start: int) -> Tensor | None:
        """Hide the future."""
        return causal_mask(n, start + n)

    def run(self, x: Tensor, mask: Tensor | None, caches: Any) -> Tensor:
        """Go through the blocks."""
        for i, block in enumerate(self.blocks):
            x = block(x, mask, None if caches is None else caches[i])
        return x

    def score(self, x: Tensor) -> Tensor:
        """Turn vectors into logits."""
        return self.norm(x) @ self.words.weight.T

    def start(self, caches: Any) -> int:
        """Return how many positions were read."""
        return 0 if caches is None else caches[0].length

    def forward(self, ids: Tensor, caches: Any = None) -> Any:
        """Read."""
        start, n = self.start(caches), ids.shape[1]
        self.check(start + n)
        return self.score(self.run(self.embed(ids, start), self.mask(n, start), caches))


class NoPositions(_GPT):
    """Leave the positions out."""

    def place(self, x: Tensor, start: int) -> Tensor:
        """Forget where tokens stand."""
        return x


class PositionsAlways(_GPT):
    """Add positions that a rotary model has not."""

    def place(self, x: Tensor, start: int) -> Tensor:
        """Do not ask whether there are any."""
        return self.positions(x, start)


class StartForgotten(_GPT):
    """Count positions from 0 always."""

    def place(self, x: Tensor, start: int) -> Tensor:
        """Forget the start."""
        return super().place(x, 0)


class ScaledByRoot(_GPT):
    """Multiply words by √d, as lesson 11 does."""

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Scale."""
        vectors = self.words(ids) * math.sqrt(self.config.d_model)
        return self.dropout(self.place(vectors, start))


class NoDropout(_GPT):
    """Drop nothing of the first vectors."""

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Forget to drop."""
        return self.place(self.words(ids), start)


class DroppedTooEarly(_GPT):
    """Drop before positions are added."""

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Let no position be dropped."""
        return self.place(self.dropout(self.words(ids)), start)


class NoMask(_GPT):
    """Give the blocks no mask."""

    def mask(self, n: int, start: int) -> Tensor | None:
        """Hide nothing."""
        return None


class MaskTopLeft(_GPT):
    """Align the mask at the top left."""

    def mask(self, n: int, start: int) -> Tensor | None:
        """Forget that earlier keys are in the cache."""
        return torch.ones(n, start + n, dtype=torch.bool).tril()


class MaskOfNewOnly(_GPT):
    """Make a mask for the new positions alone."""

    def mask(self, n: int, start: int) -> Tensor | None:
        """Forget the cached keys."""
        return causal_mask(n)


class MaskInverted(_GPT):
    """Hide what may be heard."""

    def mask(self, n: int, start: int) -> Tensor | None:
        """Use PyTorch's other convention."""
        return ~causal_mask(n, start + n)


class CachesIgnored(_GPT):
    """Read every piece as if nothing had been read before."""

    def run(self, x: Tensor, mask: Tensor | None, caches: Any) -> Tensor:
        """Hand no cache on."""
        return super().run(x, causal_mask(x.shape[1]), None)


class OneCacheForAll(_GPT):
    """Give every block the first block's cache."""

    def run(self, x: Tensor, mask: Tensor | None, caches: Any) -> Tensor:
        """Use caches[0]."""
        return super().run(x, mask, None if caches is None else [caches[0]] * len(self.blocks))


class BlocksNotChained(_GPT):
    """Give every block the same input."""

    def run(self, x: Tensor, mask: Tensor | None, caches: Any) -> Tensor:
        """Keep what the last one says."""
        y = x
        for i, block in enumerate(self.blocks):
            y = block(x, mask, None if caches is None else caches[i])
        return y


class NoFinalNorm(_GPT):
    """Score the stream as it is."""

    def score(self, x: Tensor) -> Tensor:
        """Forget the norm."""
        return x @ self.words.weight.T


class NormFirst(_GPT):
    """Normalise before the blocks."""

    def run(self, x: Tensor, mask: Tensor | None, caches: Any) -> Tensor:
        """Put the norm in front."""
        return super().run(self.norm(x), mask, caches)

    def score(self, x: Tensor) -> Tensor:
        """Score the stream as it is."""
        return x @ self.words.weight.T


class NoLogits(_GPT):
    """Return vectors."""

    def score(self, x: Tensor) -> Tensor:
        """Forget the table."""
        return self.norm(x)


class Probabilities(_GPT):
    """Return probabilities."""

    def score(self, x: Tensor) -> Tensor:
        """Take the softmax already."""
        return super().score(x).softmax(-1)


class LogProbabilities(_GPT):
    """Return log-probabilities."""

    def score(self, x: Tensor) -> Tensor:
        """Take the softmax already."""
        return super().score(x).log_softmax(-1)


class LastOnly(_GPT):
    """Return the last position's logits."""

    def score(self, x: Tensor) -> Tensor:
        """Keep one position."""
        return super().score(x)[:, -1]


class LengthNotChecked(_GPT):
    """Read as many positions as come."""

    def check(self, end: int) -> None:
        """Refuse nothing."""


GPT = Exercise(
    name="GPT",
    lesson=13,
    points=5,
    probe=probes.gpt,
    draw=draw_gpt,
    oracle=oracle_gpt,
    finished=(finished.GPT,),
    forbidden=("course_lib.models.gpt",),
    minutes=25,
    difficulty=3,
    mistakes=(
        Mistake(
            "no positions",
            "Positions are missing: where `self.positions` is a `LearnedPositions`, it adds them.",
            (NoPositions,),
        ),
        Mistake(
            "positions always",
            "You call `self.positions` in a model with rotary positions, which has none to add: ask "
            "`isinstance(self.positions, LearnedPositions)` first.",
            (PositionsAlways,),
        ),
        Mistake(
            "start forgotten",
            "With a cache your positions begin at 0 again: the first new token stands behind all that were "
            "read, at `caches[0].length`.",
            (StartForgotten,),
        ),
        Mistake(
            "scaled by √d",
            "You multiplied the words by √d, as lesson 11's model does: GPT-2 takes them as they are.",
            (ScaledByRoot,),
        ),
        Mistake(
            "no dropout",
            "You drop nothing of the first vectors: words plus positions go through `self.dropout`.",
            (NoDropout,),
        ),
        Mistake(
            "dropped too early",
            "You drop before positions are added: the sum of words and positions goes through `self.dropout`.",
            (DroppedTooEarly,),
        ),
        Mistake(
            "no mask",
            "Your blocks get no mask. The fused kernel hides the future without one as long as no cache is "
            "there; lesson 07's attention does not, and a cached piece of several tokens needs it anyway.",
            (NoMask,),
        ),
        Mistake(
            "mask at the top left",
            "Your mask is aligned at the top left: with a cache the new tokens stand last, so the last query "
            "must hear every key. `causal_mask(n, start + n)` is aligned at the bottom right.",
            (MaskTopLeft,),
        ),
        Mistake(
            "mask of the new tokens alone",
            "Your mask has n columns: with a cache there are start + n keys, `causal_mask(n, start + n)`.",
            (MaskOfNewOnly,),
        ),
        Mistake(
            "mask inverted",
            "Your mask is True where a position may not attend: True means “may attend”.",
            (MaskInverted,),
        ),
        Mistake(
            "caches not handed on",
            "You never hand the caches to the blocks: block i takes `caches[i]`.",
            (CachesIgnored,),
        ),
        Mistake(
            "one cache for all blocks",
            "All your blocks write into the first block's cache: block i takes `caches[i]`.",
            (OneCacheForAll,),
        ),
        Mistake(
            "blocks not chained",
            "Each of your blocks reads the same stream: a block reads what the one before it wrote.",
            (BlocksNotChained,),
        ),
        Mistake(
            "no final norm",
            "You score the stream as it is: `self.norm` comes behind the last block.",
            (NoFinalNorm,),
        ),
        Mistake(
            "norm in front",
            "You normalise before the blocks: `self.norm` comes behind the last one.",
            (NormFirst,),
        ),
        Mistake(
            "no logits",
            "You return vectors: their products with the rows of `self.words.weight` are the logits.",
            (NoLogits,),
        ),
        Mistake(
            "probabilities",
            "You return probabilities: logits are asked for, the loss takes the softmax itself.",
            (Probabilities,),
        ),
        Mistake(
            "log-probabilities",
            "You return log-probabilities: logits are asked for, the loss takes the softmax itself.",
            (LogProbabilities,),
        ),
        Mistake(
            "the last position alone",
            "You return the logits of the last position alone: in training every position predicts.",
            (LastOnly,),
        ),
        Mistake(
            "length not checked",
            "Where more positions come than `self.config.max_len`, raise a ValueError: a model with rotary "
            "positions would go on without a word, where it was never trained.",
            (LengthNotChecked,),
        ),
    ),
    hints=(
        "Three stages: from numbers to vectors (words, positions, dropout), through the blocks, from vectors "
        "to logits (norm, then the table of words again).",
        "Where does the text stand? Without caches at 0, with them at `caches[0].length`. Call it `start`: "
        "the check of the length, the learnt positions and the mask all need it.",
        "A mask for n new tokens that hear start + n keys is `causal_mask(n, start + n, device=ids.device)`; "
        "a block is called as `block(x, mask, cache)`, with its own cache or None.",
        "The end: `self.norm(x) @ self.words.weight.T`. The beginning: `x = self.words(ids)`; if "
        "`isinstance(self.positions, LearnedPositions)`, then `x = self.positions(x, start)`; then "
        "`self.dropout(x)`.",
    ),
)

# --- configure_optimizer ---------------------------------------------------------------------


def draw_configure_optimizer(seed: int) -> list[Case]:
    """Draw models by the shapes of their parameters."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shapes: dict[str, list[int]],
        frozen: tuple[str, ...] = (),
        tied: dict[str, str] | None = None,
        **options: Any,
    ) -> Case:
        tied = tied or {}
        own = {name: shape for name, shape in shapes.items() if name not in tied}
        learnt = [shape for name, shape in own.items() if name not in frozen]
        sizes = [math.prod(shape) for shape in (*own.values(), *learnt, *learnt)]
        return Case(
            label,
            {
                "shapes": shapes,
                "frozen": list(frozen),
                "tied": tied,
                "options": {"learning_rate": 0.01, **options},
                "numbers": [torch.randn(size, generator=g, dtype=f64) for size in sizes],
            },
        )

    linear = {"weight": [3, 2], "bias": [3]}
    block = {
        "norm.weight": [4], "norm.bias": [4], "up.weight": [6, 4], "up.bias": [6],
        "down.weight": [4, 6], "down.bias": [4],
    }  # fmt: skip
    model = {"words.weight": [5, 4], "positions.table": [3, 4], **block}
    return [
        case("one linear layer", linear),
        case("a linear layer without decay", linear, weight_decay=0.0),
        case("a block", block, learning_rate=0.003, weight_decay=0.2),
        case("a small model", model, weight_decay=0.3),
        case("other averages", linear, betas=(0.8, 0.99)),
        case("a frozen table", model, frozen=("words.weight",)),
        case("a frozen bias", block, frozen=("up.bias",), weight_decay=0.05),
        case(
            "a table that stands in two places",
            {**model, "head.weight": [5, 4]},
            tied={"head.weight": "words.weight"},
        ),
        case("a convolution, with three axes", {"kernel.weight": [2, 3, 3], "kernel.bias": [2]}),
        case("a scale of one number, a matrix of one row", {"gain": [1], "row": [1, 4]}),
    ]


def _named(shapes: dict[str, list[int]], frozen: list[str], tied: dict[str, str]) -> list[str]:
    return [name for name in shapes if name not in frozen and name not in tied]


def oracle_configure_optimizer(
    shapes: dict[str, list[int]],
    frozen: list[str],
    tied: dict[str, str],
    options: dict[str, Any],
    numbers: list[Tensor],
) -> dict[str, Any]:
    """Say which group each parameter belongs to, and write AdamW's two steps down."""
    rate, decay = options["learning_rate"], options.get("weight_decay", 0.1)
    b1, b2 = options.get("betas", (0.9, 0.95))
    own = [name for name in shapes if name not in tied]
    learnt = _named(shapes, frozen, tied)
    groups = [
        {
            "parameters": sorted(name for name in learnt if (len(shapes[name]) >= 2) is matrix),
            "weight decay": float(decay if matrix else 0.0),
            "learning rate": float(rate),
            "betas": [float(b1), float(b2)],
        }
        for matrix in (True, False)
    ]
    stream = iter(numbers)
    values = {name: next(stream).reshape(shapes[name]).clone() for name in own}
    first = {name: torch.zeros_like(values[name]) for name in learnt}
    second = {name: torch.zeros_like(values[name]) for name in learnt}
    for t in (1, 2):
        for name in learnt:
            gradient = next(stream).reshape(shapes[name])
            values[name] -= rate * (decay if len(shapes[name]) >= 2 else 0.0) * values[name]
            first[name] = b1 * first[name] + (1 - b1) * gradient
            second[name] = b2 * second[name] + (1 - b2) * gradient**2
            size = (second[name] / (1 - b2**t)).sqrt() + 1e-8
            values[name] -= rate * first[name] / (1 - b1**t) / size
    after = {f"{name} after two steps": value for name, value in values.items()}
    return {"optimiser": "AdamW", "groups": groups, **after}


def _split(
    decays: Callable[[str, nn.Parameter], bool],
) -> Callable[..., torch.optim.Optimizer]:
    """Return an optimiser's maker that splits parameters in another way."""

    def make(
        model: nn.Module,
        learning_rate: float,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> torch.optim.Optimizer:
        learnt = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in learnt if decays(name, p)], "weight_decay": weight_decay},
            {"params": [p for name, p in learnt if not decays(name, p)], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

    return make


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    learnt = [each for each in model.parameters() if each.requires_grad]
    return [
        {"params": [each for each in learnt if each.ndim >= 2], "weight_decay": weight_decay},
        {"params": [each for each in learnt if each.ndim < 2], "weight_decay": 0.0},
    ]


def one_group(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Let everything decay, in one group."""
    learnt = [each for each in model.parameters() if each.requires_grad]
    return torch.optim.AdamW(learnt, lr=learning_rate, betas=betas, weight_decay=weight_decay)


def groups_in_the_other_order(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Put the group without decay first."""
    groups = _groups(model, weight_decay)
    return torch.optim.AdamW(groups[::-1], lr=learning_rate, betas=betas)


def second_decay_not_given(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Leave the second group AdamW's own decay, 0.01."""
    groups = _groups(model, weight_decay)
    del groups[1]["weight_decay"]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


def decay_of_its_own(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Write 0.1, whatever was asked for."""
    return torch.optim.AdamW(_groups(model, 0.1), lr=learning_rate, betas=betas)


def adam(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Take Adam, which adds the decay to the gradient."""
    return torch.optim.Adam(_groups(model, weight_decay), lr=learning_rate, betas=betas)


def betas_forgotten(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Leave AdamW its own averages."""
    return torch.optim.AdamW(_groups(model, weight_decay), lr=learning_rate)


def rate_forgotten(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Leave AdamW its own rate."""
    return torch.optim.AdamW(_groups(model, weight_decay), betas=betas)


def frozen_included(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Take parameters that need no gradient, too."""
    every = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [each for each in every if each.ndim >= 2], "weight_decay": weight_decay},
        {"params": [each for each in every if each.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


def decay_times_rate(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Multiply the decay by the rate, which AdamW does itself."""
    groups = _groups(model, weight_decay * learning_rate)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


CONFIGURE_OPTIMIZER = Exercise(
    name="configure_optimizer",
    lesson=13,
    points=3,
    probe=probes.configure_optimizer,
    draw=draw_configure_optimizer,
    oracle=oracle_configure_optimizer,
    finished=(optimiser.configure_optimizer,),
    forbidden=("course_lib.training.optimiser",),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "everything decays",
            "You have one group, and everything decays: biases and the scales and shifts of norms must not.",
            (one_group,),
        ),
        Mistake(
            "groups exchanged",
            "Your matrices do not decay and your biases do: it is the parameters with two axes or more that "
            "decay.",
            (_split(lambda name, p: p.ndim < 2),),
        ),
        Mistake(
            "order of the groups",
            "Your groups are right and stand in the other order: the decaying one comes first.",
            (groups_in_the_other_order,),
        ),
        Mistake(
            "whatever is called weight",
            "You let every parameter called `weight` decay: the scale of a norm is called so, too, and a "
            "table may have another name. Ask for the number of axes, `ndim`.",
            (_split(lambda name, p: name.endswith("weight")),),
        ),
        Mistake(
            "all but biases",
            "You spare what is called `bias` alone: the scale of a norm has one axis, and must not decay "
            "either. Ask for the number of axes, `ndim`.",
            (_split(lambda name, p: not name.endswith("bias")),),
        ),
        Mistake(
            "tables spared",
            "You spare the tables of words and positions: here whatever has two axes or more decays.",
            (
                _split(
                    lambda name, p: p.ndim >= 2 and "words" not in name and "positions" not in name
                ),
            ),
        ),
        Mistake(
            "exactly two axes",
            "A parameter with three axes does not decay in your first group: two axes or *more*.",
            (_split(lambda name, p: p.ndim == 2),),
        ),
        Mistake(
            "more than two axes",
            "You ask for more than two axes, so no matrix decays: two or more, `ndim >= 2`.",
            (_split(lambda name, p: p.ndim > 2),),
        ),
        Mistake(
            "more than one number",
            "You ask how many numbers a parameter has: a bias has many, and does not decay. Ask for the "
            "number of axes, `ndim`.",
            (_split(lambda name, p: p.numel() >= 2),),
        ),
        Mistake(
            "second decay not given",
            "Your second group has AdamW's own decay, 0.01: set its `weight_decay` to 0.",
            (second_decay_not_given,),
        ),
        Mistake(
            "a decay of its own",
            "You wrote 0.1: take the argument `weight_decay`.",
            (decay_of_its_own,),
        ),
        Mistake(
            "decay times rate",
            "You multiplied the decay by the learning rate: AdamW does that itself.",
            (decay_times_rate,),
        ),
        Mistake(
            "Adam",
            "You took Adam, which adds the decay to the gradient, where it is divided by the gradient's "
            "size: AdamW takes it from the weight directly.",
            (adam,),
        ),
        Mistake(
            "betas forgotten",
            "You never use `betas`: AdamW's own are (0.9, 0.999).",
            (betas_forgotten,),
        ),
        Mistake(
            "learning rate forgotten",
            "You never use `learning_rate`: AdamW's own is 0.001.",
            (rate_forgotten,),
        ),
        Mistake(
            "frozen ones included",
            "Your groups hold parameters that need no gradient: leave out those whose `requires_grad` is "
            "False.",
            (frozen_included,),
        ),
    ),
    hints=(
        "PyTorch's optimisers take a list of groups: dictionaries with `params` and whatever shall differ "
        "between them. What is not in a group is taken from the other arguments.",
        "What has two axes or more is told by `parameter.ndim >= 2`, not by its name. `model.parameters()` "
        "gives a parameter that stands in two places once.",
        "`groups = [{'params': […], 'weight_decay': weight_decay}, {'params': […], 'weight_decay': 0.0}]`, "
        "made from the parameters with `requires_grad`; then "
        "`torch.optim.AdamW(groups, lr=learning_rate, betas=betas)`.",
    ),
)

# --- lr_at -----------------------------------------------------------------------------------


def draw_lr_at(seed: int) -> list[Case]:
    """Draw peaks, warm-ups and lengths."""
    g = torch.Generator().manual_seed(seed)
    warmup = int(torch.randint(5, 40, (), generator=g))
    total = warmup + int(torch.randint(30, 300, (), generator=g))
    peak = float(torch.rand((), generator=g, dtype=f64)) + 0.1

    def case(label: str, steps: list[int], **options: Any) -> Case:
        return Case(label, {"steps": steps, "options": options})

    return [
        case("the first steps", [0, 1], peak=1.0, warmup=4, total=12),
        case("the whole way", list(range(13)), peak=1.0, warmup=4, total=12),
        case("no warm-up", [0, 1, 4, 7, 8], peak=0.5, warmup=0, total=8),
        case("a floor", [0, 1, 2, 3, 6, 9, 10, 11], peak=1.0, warmup=2, total=10, floor=0.1),
        case("beyond the end", [10, 11, 13, 19, 28], peak=1.0, warmup=2, total=10),
        case("beyond the end, with a floor", [9, 10, 15, 40], peak=2.0, warmup=3, total=10, floor=0.5),
        case("warm-up alone", [0, 2, 4, 5, 6], peak=1.0, warmup=5, total=5),
        case(
            "any numbers",
            [0, 1, warmup - 1, warmup, warmup + 1, (warmup + total) // 2, total - 1, total],
            peak=peak,
            warmup=warmup,
            total=total,
            floor=peak / 7,
        ),
    ]  # fmt: skip


def oracle_lr_at(steps: list[int], options: dict[str, Any]) -> dict[str, Any]:
    """Interpolate: a straight line to the peak, then by the square of a cosine of half the angle."""
    peak, warmup, total = options["peak"], options["warmup"], options["total"]
    floor = options.get("floor", 0.0)
    rates = []
    for step in steps:
        if step < warmup:
            rates.append(peak * (step + 1) / warmup)
        elif step >= total:
            rates.append(floor)
        else:
            angle = math.pi / 2 * (step - warmup) / (total - warmup)
            rates.append(floor + (peak - floor) * math.cos(angle) ** 2)
    return {"rates": [float(rate) for rate in rates]}


def _schedule(
    fall: Callable[[float], float] = lambda x: 0.5 * (1 + math.cos(math.pi * x)),
    rise: Callable[[int, int], float] = lambda s, w: (s + 1) / w,
    done: Callable[[int, int, int], float] = lambda s, w, t: (s - w) / (t - w),
    join: Callable[[float, float, float], float] = lambda y, p, f: f + (p - f) * y,
    join_rise: Callable[[float, float, float], float] = lambda y, p, f: p * y,
    clamp: bool = True,
) -> Callable[..., float]:
    """Return a schedule made of other parts."""

    def lr_at(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
        if step < warmup:
            return join_rise(rise(step, warmup), peak, floor)
        if clamp and step >= total:
            return floor
        return join(fall(done(step, warmup, total)), peak, floor)

    return lr_at


def rises_beyond(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Go on with the cosine behind the end."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * done))


def no_end(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Never ask whether the end was reached."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (total - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * done))


def zero_at_the_end(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Return 0 behind the end."""
    return 0.0 if step >= total else optimiser.lr_at(step, peak, warmup, total, floor)


def always_divides(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Divide by the warm-up before asking whether there is one."""
    rising = peak * (step + 1) / warmup
    return rising if step < warmup else optimiser.lr_at(step, peak, warmup, total, floor)


LR_AT = Exercise(
    name="lr_at",
    lesson=13,
    points=2,
    probe=probes.lr_at,
    draw=draw_lr_at,
    oracle=oracle_lr_at,
    finished=(optimiser.lr_at,),
    forbidden=("torch.optim.lr_scheduler", "course_lib.training.optimiser"),
    minutes=10,
    difficulty=2,
    mistakes=(
        Mistake(
            "rate 0 at step 0",
            "Your first step has the rate 0, and is lost: steps count from 0, so step 0 has peak / warmup.",
            (_schedule(rise=lambda s, w: s / w),),
        ),
        Mistake(
            "warm-up one step too long",
            "You divide by warmup + 1: the last step of the warm-up, number warmup − 1, has the peak.",
            (_schedule(rise=lambda s, w: (s + 1) / (w + 1)),),
        ),
        Mistake(
            "rise from the floor",
            "Your warm-up rises from the floor: it rises from 0, and only the fall ends at the floor.",
            (_schedule(join_rise=lambda y, p, f: f + (p - f) * y),),
        ),
        Mistake(
            "floor forgotten",
            "Your cosine falls to 0: it falls to `floor`.",
            (_schedule(join=lambda y, p, f: p * y),),
        ),
        Mistake(
            "floor added",
            "You add the floor to the whole fall, which then begins above the peak: what falls is "
            "peak − floor.",
            (_schedule(join=lambda y, p, f: f + p * y),),
        ),
        Mistake(
            "floor as a lower bound",
            "You fall to 0 and stop at the floor (a maximum): the half cosine itself ends at the floor.",
            (_schedule(join=lambda y, p, f: max(f, p * y)),),
        ),
        Mistake(
            "floor as a share",
            "You take the floor for a share of the peak: it is a learning rate itself.",
            (_schedule(join=lambda y, p, f: p * (f + (1 - f) * y)),),
        ),
        Mistake(
            "progress from step 0",
            "You count the fall from step 0, so the rate jumps behind the warm-up: the part that is done is "
            "(step − warmup) / (total − warmup).",
            (_schedule(done=lambda s, w, t: s / t),),
        ),
        Mistake(
            "progress over all steps",
            "You divide by total: the fall lasts total − warmup steps, or it does not reach its end.",
            (_schedule(done=lambda s, w, t: (s - w) / t),),
        ),
        Mistake(
            "a straight fall",
            "Your rate falls in a straight line: half a cosine is asked for.",
            (_schedule(fall=lambda x: 1 - x),),
        ),
        Mistake(
            "half forgotten",
            "1 + cos goes from 2 to 0: halve it.",
            (_schedule(fall=lambda x: 1 + math.cos(math.pi * x)),),
        ),
        Mistake(
            "cosine alone",
            "You take the cosine itself, which falls to −1: (1 + cos) / 2 goes from 1 to 0.",
            (_schedule(fall=lambda x: math.cos(math.pi * x)),),
        ),
        Mistake(
            "quarter of a cosine",
            "Your cosine runs over a quarter of its period, so the rate falls steeply at the end: half a "
            "period, π, and (1 + cos) / 2.",
            (_schedule(fall=lambda x: math.cos(math.pi * x / 2)),),
        ),
        Mistake(
            "whole cosine",
            "Your cosine runs over its whole period and the rate rises again: half a period is π.",
            (_schedule(fall=lambda x: 0.5 * (1 + math.cos(2 * math.pi * x))),),
        ),
        Mistake(
            "π forgotten",
            "π is missing: the angle runs from 0 to π.",
            (_schedule(fall=lambda x: 0.5 * (1 + math.cos(x))),),
        ),
        Mistake(
            "sign",
            "You wrote 1 − cos: the rate rises where it should fall.",
            (_schedule(fall=lambda x: 0.5 * (1 - math.cos(math.pi * x))),),
        ),
        Mistake(
            "rises beyond the end",
            "Behind step `total` your cosine goes on and the rate rises again: it stays at the floor.",
            (rises_beyond,),
        ),
        Mistake(
            "no end",
            "You never ask whether `total` is reached: behind it the cosine goes on and the rate rises again, "
            "and with nothing but warm-up you divide by 0. From step `total` on return the floor.",
            (no_end,),
        ),
        Mistake(
            "zero at the end",
            "From step `total` on your rate is 0: it is the floor.",
            (zero_at_the_end,),
        ),
        Mistake(
            "no warm-up not allowed",
            "With a warm-up of 0 steps you divide by zero: ask whether the step is in the warm-up first.",
            (always_divides,),
        ),
    ),
    hints=(
        "Three pieces, each an `if`: the rise (step < warmup), behind the end (step ≥ total), and the fall "
        "between them.",
        "The rise: peak · (step + 1) / warmup. Put the numbers in: step 0 gives peak / warmup, step "
        "warmup − 1 gives the peak.",
        "The fall: let `done` go from 0 at step `warmup` to 1 at step `total`. Then (1 + cos(π · done)) / 2 "
        "goes from 1 to 0, and floor + (peak − floor) times that from the peak to the floor.",
    ),
)

# --- sample_top_p ----------------------------------------------------------------------------

_APART = 1e-3  # no u and no p lies so near to an edge that rounding could decide


def _edges(logits: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for one row in float64, the ranked tokens, where each ends, and how many are kept."""
    share, order = logits.double().softmax(-1).sort(descending=True, stable=True)
    ends = share.cumsum(-1)
    n_kept = int((ends < p - 1e-12).sum()) + 1
    return order, ends, torch.tensor(min(n_kept, int((share > 0).sum())))


def _safe(logits: Tensor, p: float, u: Tensor) -> bool:
    """Tell whether every choice is clear: p far from each edge, u far from each edge of what is kept."""
    for row, point in zip(logits, u.double()):
        _, ends, n_kept = _edges(row, p)
        if p < 1 and (ends - p).abs().min() < _APART:
            return False
        total = ends[n_kept - 1]
        inner = ends[: n_kept - 1] / total
        near = point < 0.999  # a u at the very end is safe: the last kept token is meant
        if near and len(inner) and (inner - point).abs().min() < _APART:
            return False
    return True


def draw_sample_top_p(seed: int) -> list[Case]:
    """Draw logits and uniform numbers; none lies near an edge."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        words: int,
        p: float,
        dtype: torch.dtype = torch.float32,
        size: float = 1.5,
        last: bool = False,
        banned: int = 0,
        equal: bool = False,
        beyond: bool = False,
    ) -> Case:
        while True:
            logits = size * torch.randn(batch, words, generator=g, dtype=dtype)
            if banned:
                logits[:, :: words // banned] = -torch.inf
            if equal:
                logits[:, words // 2 :] = logits[:, :1]
            u = torch.rand(batch, generator=g, dtype=dtype)
            if last:
                u = torch.full_like(u, 1 - 2**-24)
            # `beyond`: so much more than p is kept that its sum, and not p, decides a row.
            right = oracle_sample_top_p(logits, p, u)["tokens"]
            decides = not torch.equal(stretched_by_p(logits, p, u), right)
            if _safe(logits, p, u) and (decides or not beyond):
                return Case(label, {"logits": logits, "p": p, "u": u})

    def given(label: str, shares: list[float], p: float, u: list[float], order: list[int]) -> Case:
        logits = torch.empty(len(shares), dtype=f64)
        logits[order] = torch.tensor(shares, dtype=f64).log()
        rows = logits.repeat(len(u), 1)
        return Case(label, {"logits": rows, "p": p, "u": torch.tensor(u, dtype=f64)})

    strided = case("non-contiguous logits", 4, 9, 0.8)
    strided.inputs["logits"] = strided.inputs["logits"].T.contiguous().T
    return [
        given("three tokens, the two best kept", [0.5, 0.3, 0.2], 0.7, [0.1], [0, 1, 2]),
        given("the same, another u", [0.5, 0.3, 0.2], 0.7, [0.9], [0, 1, 2]),
        given("the best token is not the first", [0.5, 0.3, 0.2], 0.7, [0.1, 0.9], [2, 0, 1]),
        given("one token is enough", [0.6, 0.3, 0.1], 0.5, [0.05, 0.5, 0.95], [1, 2, 0]),
        given("p = 1", [0.4, 0.3, 0.2, 0.1], 1.0, [0.2, 0.5, 0.8, 0.95], [3, 1, 0, 2]),
        given("a very small p", [0.4, 0.35, 0.25], 1e-6, [0.0, 0.5, 0.99], [1, 0, 2]),
        given("u = 0", [0.4, 0.35, 0.25], 0.9, [0.0], [2, 1, 0]),
        case("a batch", 6, 5, 0.6, beyond=True),
        case("many tokens", 8, 40, 0.6, f64),
        case("a batch of one", 1, 7, 0.8, f64),
        case("as many rows as tokens", 6, 6, 0.85, f64),
        case("equal logits: the smaller number first", 5, 6, 0.9, f64, equal=True),
        case("large logits", 5, 8, 0.95, size=60.0),
        case("tokens that are forbidden (−∞), p = 1, u near 1", 3, 9, 1.0, banned=3, last=True),
        case("u near 1", 4, 12, 0.7, last=True),
        strided,
    ]


def oracle_sample_top_p(logits: Tensor, p: float, u: Tensor) -> dict[str, Any]:
    """Walk along the ranked tokens, row by row, in float64."""
    tokens = []
    for row, point in zip(logits, u.double().tolist()):
        order, ends, n_kept = _edges(row, p)
        kept = ends[:n_kept] / ends[n_kept - 1]
        place = next((i for i, end in enumerate(kept.tolist()) if end > point), int(n_kept) - 1)
        tokens.append(int(order[place]))
    return {"tokens": torch.tensor(tokens)}


def _parts(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    ranked, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    return ranked, order, ranked.cumsum(-1)


def _pick(weights: Tensor, order: Tensor, u: Tensor, normalise: bool = True) -> Tensor:
    """Draw from weights that stand side by side."""
    ends = weights.cumsum(-1)
    point = u[:, None] * ends[:, -1:] if normalise else u[:, None]
    place = (ends <= point).sum(-1, keepdim=True)
    most = ((weights > 0).long() * torch.arange(1, weights.shape[-1] + 1)).amax(-1, keepdim=True)
    return order.gather(-1, torch.minimum(place, (most - 1).clamp(min=0))).squeeze(-1)


def _kept(logits: Tensor, p: float) -> tuple[Tensor, Tensor]:
    ranked, order, ends = _parts(logits)
    return ranked * (ends - ranked < p), order


def crossing_left_out(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Drop the token that reaches p."""
    ranked, order, ends = _parts(logits)
    return _pick(ranked * (ends <= p), order, u)


def one_too_many(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Keep one token behind the one that reaches p."""
    ranked, order, ends = _parts(logits)
    before = F.pad((ends - ranked)[:, :-1], (1, 0))
    return _pick(ranked * (before < p), order, u)


def not_renormalised(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Compare u with the shares of the whole."""
    weights, order = _kept(logits, p)
    return _pick(weights, order, u, normalise=False)


def ranks_returned(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Return the place in the ranking."""
    weights, order = _kept(logits, p)
    return _pick(weights, torch.arange(order.shape[-1]).expand_as(order), u)


def stretched_by_p(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Multiply u by p in place of the sum of what was kept."""
    weights, order = _kept(logits, p)
    return _pick(weights, order, p * u, normalise=False)


def not_sorted(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Keep the first tokens in the order of their numbers until they reach p."""
    share = logits.softmax(-1)
    order = torch.arange(share.shape[-1]).expand_as(share)
    return _pick(share * (share.cumsum(-1) - share < p), order, u)


def p_ignored(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Draw from the whole distribution."""
    ranked, order, _ = _parts(logits)
    return _pick(ranked, order, u)


def greedy(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Take the most probable token."""
    return logits.argmax(-1)


def least_probable_first(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Sort in ascending order."""
    ranked, order = logits.softmax(-1).sort(dim=-1, stable=True)
    return _pick(ranked * (ranked.cumsum(-1) - ranked < p), order, u)


def in_order_of_numbers(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Let the kept tokens stand in the order of their numbers."""
    weights, order = _kept(logits, p)
    back = torch.zeros_like(weights).scatter(-1, order, weights)
    return _pick(back, torch.arange(order.shape[-1]).expand_as(order), u)


def min_p_instead(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Compare each probability with p times the largest."""
    ranked, order, _ = _parts(logits)
    return _pick(ranked * (ranked >= p * ranked[:, :1]), order, u)


def softmax_again(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Take the softmax of the kept probabilities."""
    ranked, order, ends = _parts(logits)
    again = ranked.masked_fill(ends - ranked >= p, -torch.inf).softmax(-1)
    return _pick(again, order, u)


def all_kept_alike(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Give every kept token the same share."""
    weights, order = _kept(logits, p)
    return _pick((weights > 0).to(weights.dtype), order, u)


def first_u_for_all(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Use one number for all rows."""
    weights, order = _kept(logits, p)
    return _pick(weights, order, u[:1].expand_as(u))


def from_the_other_end(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Look for 1 − u."""
    weights, order = _kept(logits, p)
    return _pick(weights, order, 1 - u)


def drawn_with_torch(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Draw with random numbers of its own."""
    weights, order = _kept(logits, p)
    return order.gather(-1, torch.multinomial(weights, 1)).squeeze(-1)


def forbidden_drawn(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Take the last token where u lies near 1."""
    ranked, order, ends = _parts(logits)
    weights = ranked * (ends - ranked < p)
    sums = weights.cumsum(-1)
    place = (sums <= (u * sums[:, -1]).clamp(max=1)[:, None]).sum(-1, keepdim=True)
    place = torch.where(u[:, None] > 0.999, torch.full_like(place, order.shape[-1] - 1), place)
    return order.gather(-1, place.clamp(max=order.shape[-1] - 1)).squeeze(-1)


def axis_kept(logits: Tensor, p: float, u: Tensor) -> Tensor:
    """Return (B, 1)."""
    return sampling.sample_top_p(logits, p, u)[:, None]


SAMPLE_TOP_P = Exercise(
    name="sample_top_p",
    lesson=13,
    points=4,
    probe=probes.sample_top_p,
    draw=draw_sample_top_p,
    oracle=oracle_sample_top_p,
    finished=(sampling.sample_top_p,),
    forbidden=("torch.multinomial", "torch.distributions", "course_lib.models.sampling"),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "the token that reaches p left out",
            "You drop the token that reaches p, and with a small p you keep none: the kept ones must reach p "
            "together, so it stays.",
            (crossing_left_out,),
        ),
        Mistake(
            "one token too many",
            "You keep one token too many: keep a token if those *before* it add up to less than p.",
            (one_too_many,),
        ),
        Mistake(
            "not renormalised",
            "You compare u with shares of the whole: what was kept adds up to less than 1, so multiply u by "
            "its sum (or divide the kept probabilities by it).",
            (not_renormalised,),
        ),
        Mistake(
            "stretched by p",
            "You multiply u by p: the kept tokens add up to p or more, so multiply u by their own sum.",
            (stretched_by_p,),
        ),
        Mistake(
            "not sorted",
            "You take tokens in the order of their numbers until they reach p: sort them first, the most "
            "probable in front.",
            (not_sorted,),
        ),
        Mistake(
            "places for tokens",
            "You return the place in the ranking: `order` says which token stands there.",
            (ranks_returned,),
        ),
        Mistake("p ignored", "You draw from all tokens: p is never used.", (p_ignored,)),
        Mistake(
            "the most probable token always",
            "You always take the most probable token: that is greedy decoding, u must decide.",
            (greedy,),
        ),
        Mistake(
            "least probable first",
            "You sorted in ascending order, and keep the least probable tokens: `descending=True`.",
            (least_probable_first,),
        ),
        Mistake(
            "in the order of their numbers",
            "You keep the right tokens and let them stand in the order of their numbers: the most probable "
            "stands first.",
            (in_order_of_numbers,),
        ),
        Mistake(
            "compared with the largest",
            "You compare each probability with p times the largest: that is min-p. Here probabilities are "
            "added up, from the largest down.",
            (min_p_instead,),
        ),
        Mistake(
            "softmax again",
            "You take a softmax of probabilities, which makes them nearly equal: divide them by their sum.",
            (softmax_again,),
        ),
        Mistake(
            "all kept tokens alike",
            "Each kept token gets the same share: it keeps its own probability, divided by their sum.",
            (all_kept_alike,),
        ),
        Mistake(
            "one u for all rows",
            "You use the first number of u for all rows: each row has its own, `u[:, None]`.",
            (first_u_for_all,),
        ),
        Mistake(
            "from the other end",
            "You look for 1 − u: the most probable token begins at 0.",
            (from_the_other_end,),
        ),
        Mistake(
            "random numbers of its own",
            "You draw random numbers of your own: take those in u, so that the same u gives the same tokens.",
            (drawn_with_torch,),
        ),
        Mistake(
            "the last token where u is near 1",
            "With u near 1 you take the last of all tokens, which was not kept: rounding may leave u beyond "
            "the last edge, so stop at the last token that was kept.",
            (forbidden_drawn,),
        ),
        Mistake(
            "axis kept",
            "Your tokens have shape (B, 1): `squeeze(-1)` takes the last axis off.",
            (axis_kept,),
        ),
    ),
    hints=(
        "Two questions, one after the other: which tokens are kept, and which of them lies above u? Both are "
        "answered by running sums (`cumsum`) over the sorted probabilities.",
        "`ranked, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)`. What stands in "
        "front of each token is `before = ranked.cumsum(-1) - ranked`. A token is kept if that is still "
        "below p.",
        "The kept tokens add up to `total`, not to 1: stretch u to `u[:, None] * total` instead. The token "
        "that you want is the last kept one that begins at or below it.",
        "Count them: `begun = kept & (before <= u[:, None] * total)`; the place is `begun.sum(-1, "
        "keepdim=True) - 1`, and `order.gather(-1, place)` says which token stands there.",
    ),
)

EXERCISES = (GPT, CONFIGURE_OPTIMIZER, LR_AT, SAMPLE_TOP_P)
