"""Lesson 11, the transformer: what is drawn, what is right, what often goes wrong."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.probes import lesson_11 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import DEFAULT_TOLERANCES, Case, Exercise, Mistake, Tolerance
from course_lib.models import transformer as finished
from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.transformer import Encoded

FINISHED = "course_lib.models.transformer"
f64 = torch.float64
# A gradient passes through dozens of roundings, and right answers round in different orders.
MANY_ROUNDINGS = {**DEFAULT_TOLERANCES, torch.float32: Tolerance(3e-5, 3e-4)}

# --- label_smoothing_loss --------------------------------------------------------------------


def draw_label_smoothing_loss(seed: int) -> list[Case]:
    """Draw logits and targets, with and without padding."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, ...],
        words: int,
        dtype: torch.dtype = torch.float32,
        padded: int = 0,
        size: float = 1.0,
        **options: Any,
    ) -> Case:
        padding = options.get("padding", 0)
        logits = size * torch.randn(*shape, words, generator=g, dtype=dtype)
        target = torch.randint(1, words, shape, generator=g)
        target[target == padding] = 1 if padding != 1 else 2
        if padded:
            target[..., -padded:] = padding
        return Case(label, {"logits": logits, "target": target, "options": options})

    uneven = case("sentences of unequal length", (3, 4), 5, f64)
    for row, length in enumerate((4, 1, 2)):
        uneven.inputs["target"][row, length:] = 0
    strided = case("non-contiguous logits", (2, 3), 6)
    strided.inputs["logits"] = strided.inputs["logits"].transpose(0, 1).contiguous().transpose(0, 1)
    return [
        case("one position, three words", (1, 1), 3, f64, smoothing=0.3),
        case("two positions, smoothing not given", (1, 2), 4, f64),
        case("a batch", (2, 3), 5, smoothing=0.2),
        case("smoothing 0", (2, 3), 4, smoothing=0.0),
        case("smoothing 1", (2, 2), 5, f64, smoothing=1.0),
        case("padding at the end", (2, 4), 6, f64, padded=2, smoothing=0.1),
        case("another number for padding", (2, 4), 6, padded=1, smoothing=0.1, padding=3),
        case("large logits", (2, 3), 5, size=500.0, smoothing=0.1),
        case("no axis for a batch", (4,), 7, f64, padded=1, smoothing=0.2),
        uneven,
        strided,
    ]


def oracle_label_smoothing_loss(
    logits: Tensor, target: Tensor, options: dict[str, Any]
) -> dict[str, Tensor]:
    """Ask PyTorch's own cross_entropy."""
    leaf = logits.detach().double().requires_grad_()
    loss = F.cross_entropy(
        leaf.flatten(0, -2),
        target.flatten(),
        label_smoothing=options.get("smoothing", 0.1),
        ignore_index=options.get("padding", 0),
    )
    found = {"loss": loss, **gradients(loss, torch.ones_like(loss), {"logits": leaf})}
    return {name: each.detach().to(logits.dtype) for name, each in found.items()}


def _parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of the right word, and the mean over all words, at each position."""
    log_p = logits.log_softmax(-1)
    return -log_p.gather(-1, target[..., None]).squeeze(-1), -log_p.mean(-1)


def _smoothed(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    right, even = _parts(logits, target)
    return (1 - smoothing) * right + smoothing * even


def not_smoothed(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Take the plain cross-entropy."""
    return _parts(logits, target)[0][target != padding].mean()


def others_only(logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0) -> Tensor:
    """Spread the share over the wrong words."""
    right, even = _parts(logits, target)
    words = logits.shape[-1]
    wrong = (even * words - right) / (words - 1)
    return ((1 - smoothing) * right + smoothing * wrong)[target != padding].mean()


def right_word_left_out(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Give the right word 1 − ε alone, and ε/V to each of the others."""
    right, _ = _parts(logits, target)
    loss = _smoothed(logits, target, smoothing) - smoothing * right / logits.shape[-1]
    return loss[target != padding].mean()


def on_top(logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0) -> Tensor:
    """Leave the right word its whole weight."""
    right, even = _parts(logits, target)
    return (right + smoothing * even)[target != padding].mean()


def shares_swapped(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Give the right word the small share."""
    return _smoothed(logits, target, 1 - smoothing)[target != padding].mean()


def padding_counts(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Average over all positions."""
    return _smoothed(logits, target, smoothing).mean()


def divided_by_all(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Set padding to zero, and divide by all positions."""
    return (_smoothed(logits, target, smoothing) * (target != padding)).mean()


def zero_is_padding(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Take 0 for padding whatever is said."""
    return _smoothed(logits, target, smoothing)[target != 0].mean()


def summed_over_words(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Give every word the whole share."""
    right, even = _parts(logits, target)
    loss = (1 - smoothing) * right + smoothing * even * logits.shape[-1]
    return loss[target != padding].mean()


def summed_over_positions(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Add the positions up."""
    return _smoothed(logits, target, smoothing)[target != padding].sum()


def sentence_by_sentence(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Average each sentence, then the sentences."""
    real = target != padding
    loss = _smoothed(logits, target, smoothing) * real
    return (loss.sum(-1) / real.sum(-1)).mean()


def divergence(logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0) -> Tensor:
    """Subtract the target's own entropy."""
    words = logits.shape[-1]
    wanted = torch.full_like(logits, smoothing / words).detach()
    wanted.scatter_(-1, target[..., None], 1 - smoothing + smoothing / words)
    kl = F.kl_div(logits.log_softmax(-1), wanted, reduction="none").sum(-1)
    return kl[target != padding].mean()


def prediction_smoothed(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Mix the model's probability, not the target's."""
    p = logits.softmax(-1).gather(-1, target[..., None]).squeeze(-1)
    mixed = (1 - smoothing) * p + smoothing / logits.shape[-1]
    return -mixed.log()[target != padding].mean()


def log_of_softmax(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Take the logarithm after the softmax."""
    log_p = logits.softmax(-1).log()
    right = -log_p.gather(-1, target[..., None]).squeeze(-1)
    loss = (1 - smoothing) * right - smoothing * log_p.mean(-1)
    return loss[target != padding].mean()


def sign_forgotten(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, padding: int = 0
) -> Tensor:
    """Return the mean log-probability."""
    return -_smoothed(logits, target, smoothing)[target != padding].mean()


LABEL_SMOOTHING_LOSS = Exercise(
    name="label_smoothing_loss",
    lesson=11,
    points=3,
    probe=probes.label_smoothing_loss,
    draw=draw_label_smoothing_loss,
    oracle=oracle_label_smoothing_loss,
    finished=(finished.label_smoothing_loss,),
    forbidden=(
        "torch.nn.functional.cross_entropy",
        "torch.nn.CrossEntropyLoss",
        "torch.nn.functional.nll_loss",
        "torch.nn.functional.kl_div",
        FINISHED,
    ),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "not smoothed",
            "You never use `smoothing`: that is the plain cross-entropy.",
            (not_smoothed,),
        ),
        Mistake(
            "spread over the wrong words",
            "You spread the share over the wrong words only: here every word of the vocabulary gets "
            "ε/V of it, the right one too.",
            (others_only,),
        ),
        Mistake(
            "right word left out",
            "Your target sums to less than 1: the right word gets its ε/V too, 1 − ε + ε/V together.",
            (right_word_left_out,),
        ),
        Mistake(
            "share added on top",
            "Your target sums to 1 + ε: what is spread must be taken from the right word, so that one counts "
            "1 − ε.",
            (on_top,),
        ),
        Mistake(
            "shares swapped",
            "You swapped the two shares: the right word counts 1 − ε, the even part ε.",
            (shares_swapped,),
        ),
        Mistake(
            "padding counts",
            "Padding counts in your mean: average over the positions whose target is not `padding`.",
            (padding_counts,),
        ),
        Mistake(
            "divided by all positions",
            "You set the loss of padding to zero and then divide by all positions: divide by the number of "
            "real ones.",
            (divided_by_all,),
        ),
        Mistake(
            "zero taken for padding",
            "You take 0 for padding whatever the argument `padding` says.",
            (zero_is_padding,),
        ),
        Mistake(
            "summed over words",
            "Every word gets the whole share in your loss: the share ε is divided among the V words, so take "
            "the mean over the vocabulary, not the sum.",
            (summed_over_words,),
        ),
        Mistake(
            "summed over positions",
            "You added the positions up: average them.",
            (summed_over_positions,),
        ),
        Mistake(
            "sentence by sentence",
            "You averaged each sentence first, so that a word of a short sentence counts more: average over "
            "all real words at once.",
            (sentence_by_sentence,),
        ),
        Mistake(
            "divergence",
            "That is the Kullback–Leibler divergence: it subtracts the target's own entropy. The gradient is "
            "the same, the number is not; here the cross-entropy is asked for.",
            (divergence,),
        ),
        Mistake(
            "prediction smoothed",
            "You smoothed the model's probability inside the logarithm: smooth the target, and keep the "
            "logarithm of the model's own probabilities.",
            (prediction_smoothed,),
        ),
        Mistake(
            "logarithm of a softmax",
            "With large logits your loss is infinite or NaN: a probability rounds to 0, and its logarithm is "
            "−∞. `log_softmax` computes both at once without that.",
            (log_of_softmax,),
        ),
        Mistake(
            "sign forgotten",
            "The sign is missing: a loss is minus a log-probability.",
            (sign_forgotten,),
        ),
    ),
    hints=(
        "The cross-entropy with a target q is −Σ q(w) log p(w). Put q = (1 − ε)·(all on the right word) + "
        "ε·(1/V on every word) into it: it falls apart into two terms.",
        "The first term needs log p of the right word: `log_p.gather(-1, target[..., None]).squeeze(-1)`. The "
        "second is ε times minus the *mean* of log p over the vocabulary.",
        "The trap is the mean over positions: padding must count neither above the line nor below it. "
        "`loss[target != padding]` holds the real positions of all sentences in one row.",
        "`log_p = logits.log_softmax(dim=-1)`, then `(1 - smoothing) * right + smoothing * even` with "
        "`even = -log_p.mean(dim=-1)`, then the mean over the real positions.",
    ),
)

# --- noam_rate -------------------------------------------------------------------------------


def draw_noam_rate(seed: int) -> list[Case]:
    """Draw widths and warm-ups."""
    g = torch.Generator().manual_seed(seed)
    width = int(torch.randint(5, 300, (), generator=g))
    warmup = int(torch.randint(30, 900, (), generator=g))
    return [
        Case(
            "width 1, warm-up 4", {"steps": [1, 2, 4, 16], "options": {"d_model": 1, "warmup": 4}}
        ),
        Case("width 16, warm-up 4", {"steps": [1, 4, 9], "options": {"d_model": 16, "warmup": 4}}),
        Case(
            "no warm-up to speak of", {"steps": [1, 2, 3], "options": {"d_model": 9, "warmup": 1}}
        ),
        Case(
            "the paper's numbers",
            {"steps": [1, 100, 4000, 100_000], "options": {"d_model": 512, "warmup": 4000}},
        ),
        Case(
            "a scale",
            {"steps": [1, 5, 50], "options": {"d_model": 64, "warmup": 10, "scale": 0.3}},
        ),
        Case(
            "any numbers",
            {
                "steps": [1, warmup // 2, warmup - 1, warmup, warmup + 1, 7 * warmup],
                "options": {"d_model": width, "warmup": warmup, "scale": 1.7},
            },
        ),
    ]


def oracle_noam_rate(steps: list[int], options: dict[str, Any]) -> dict[str, Any]:
    """Write the two pieces apart: linear up to the warm-up's end, then the root."""
    warmup = options["warmup"]
    peak = options.get("scale", 1.0) / math.sqrt(options["d_model"] * warmup)
    rates = [peak * (s / warmup if s <= warmup else math.sqrt(warmup / s)) for s in steps]
    return {"rates": rates, "error of step 0": "ValueError"}


def _rate(formula: Callable[..., float]) -> Callable[..., float]:
    """Return a wrong schedule that at least refuses step 0."""

    def rate(step: int, d_model: int, warmup: int, scale: float = 1.0) -> float:
        if step < 1:
            raise ValueError("no such step")
        return formula(step, d_model, warmup, scale)

    return rate


def step_zero_accepted(step: int, d_model: int, warmup: int, scale: float = 1.0) -> float:
    """Compute step 0 like any other."""
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def step_zero_is_one(step: int, d_model: int, warmup: int, scale: float = 1.0) -> float:
    """Treat step 0 as step 1."""
    return step_zero_accepted(max(step, 1), d_model, warmup, scale)


NOAM_RATE = Exercise(
    name="noam_rate",
    lesson=11,
    points=2,
    probe=probes.noam_rate,
    draw=draw_noam_rate,
    oracle=oracle_noam_rate,
    finished=(finished.noam_rate,),
    forbidden=(FINISHED,),
    minutes=8,
    difficulty=1,
    mistakes=(
        Mistake(
            "maximum",
            "You took the larger of the two: the rate follows whichever is smaller.",
            (_rate(lambda s, d, w, c: c * d**-0.5 * max(s**-0.5, s * w**-1.5)),),
        ),
        Mistake(
            "no width",
            "The width is missing: the whole is divided by √d_model.",
            (_rate(lambda s, d, w, c: c * min(s**-0.5, s * w**-1.5)),),
        ),
        Mistake(
            "divided by the width",
            "You divided by d_model, not by its root.",
            (_rate(lambda s, d, w, c: c / d * min(s**-0.5, s * w**-1.5)),),
        ),
        Mistake(
            "multiplied by the root of the width",
            "You multiplied by √d_model: wider models take smaller steps, the exponent is −0.5.",
            (_rate(lambda s, d, w, c: c * d**0.5 * min(s**-0.5, s * w**-1.5)),),
        ),
        Mistake(
            "warm-up to the power −0.5",
            "Your two pieces do not meet at the end of the warm-up: the rise is step · warmup^−1.5.",
            (_rate(lambda s, d, w, c: c * d**-0.5 * min(s**-0.5, s * w**-0.5)),),
        ),
        Mistake(
            "rises to 1",
            "Your rise is step / warmup, which reaches 1 where it should meet the falling piece, "
            "warmup^−0.5: divide by warmup^1.5.",
            (_rate(lambda s, d, w, c: c * d**-0.5 * min(s**-0.5, s / w)),),
        ),
        Mistake(
            "falls in proportion",
            "Your rate falls like 1/step: it falls like 1/√step.",
            (_rate(lambda s, d, w, c: c * d**-0.5 * min(w**0.5 / s, s * w**-1.5)),),
        ),
        Mistake(
            "counted from 0",
            "Your rate is one step ahead: the first step has the number 1 already, so nothing is added.",
            (_rate(lambda s, d, w, c: c * d**-0.5 * min((s + 1) ** -0.5, (s + 1) * w**-1.5)),),
        ),
        Mistake(
            "scale forgotten",
            "You never use `scale`.",
            (_rate(lambda s, d, w, c: d**-0.5 * min(s**-0.5, s * w**-1.5)),),
        ),
        Mistake(
            "no error for step 0",
            "Step 0 should raise a ValueError: your formula divides by zero there, and that error does not "
            "say what was wrong.",
            (step_zero_accepted,),
        ),
        Mistake(
            "step 0 taken for step 1",
            "You give step 0 a rate: steps count from 1, so it should raise a ValueError.",
            (step_zero_is_one,),
        ),
    ),
    hints=(
        "Two pieces: one rises in proportion to the step, one falls with its root. Which is smaller, before "
        "the end of the warm-up and after it?",
        "At step = warmup both are warmup^−0.5, so the rise must be step · warmup^−1.5.",
        "`scale * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)`; before that, the trap: `step < 1` "
        "raises a ValueError.",
    ),
)

# --- DecoderBlock ----------------------------------------------------------------------------


def _random_state(module: nn.Module, g: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return random weights for a module: matrices that keep sizes, norms that do something."""
    state = {}
    for name, each in module.state_dict().items():
        drawn = torch.randn(each.shape, generator=g, dtype=dtype)
        if each.dim() == 2:
            drawn = drawn / math.sqrt(each.shape[1])
        elif "norm" in name and name.endswith("weight"):
            drawn = 1 + 0.3 * drawn
        state[name] = drawn
    return state


def draw_decoder_block(seed: int) -> list[Case]:
    """Draw blocks, pre- and post-norm, with masks of both kinds and with caches."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        m: int,
        n: int,
        batch: int = 2,
        d_model: int = 4,
        n_heads: int = 2,
        d_ff: int = 6,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        post_norm: bool = False,
        n_cached: int | None = None,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> Case:
        sizes = {"d_model": d_model, "n_heads": n_heads, "d_ff": d_ff, **options}

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        x = random(batch, m, d_model)
        changed = x.clone()
        last = max(1, m // 3)
        changed[:, -last:] = random(batch, last, d_model)
        d_head = d_model // n_heads
        cached = None
        if n_cached is not None:
            cached = [
                [random(batch, n_heads, length, d_head) for _ in range(2)]
                for length in (n_cached + m, n)
            ]
        return Case(
            label,
            {
                "sizes": sizes,
                "post_norm": post_norm,
                "weights": _random_state(finished.DecoderBlock(**sizes), g, dtype),
                "x": x,
                "memory": random(batch, n, d_model),
                "mask": mask,
                "memory_mask": memory_mask,
                "cached": cached,
                "cotangent": random(batch, m, d_model),
                "changed": changed,
            },
        )

    def real(n: int, *lengths: int) -> Tensor:
        return padding_mask(torch.tensor(lengths), n)

    strided = case("non-contiguous inputs", 3, 5, mask=causal_mask(3))
    for name in ("x", "memory"):
        tensor = strided.inputs[name]
        strided.inputs[name] = tensor.transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("one target word, one source word", 1, 1, 1, 3, 1, 4, dtype=f64),
        case("two target words, three source words, no masks", 2, 3, 1, dtype=f64),
        case("a causal mask", 4, 3, mask=causal_mask(4), dtype=f64),
        case("a padded source", 2, 4, memory_mask=real(4, 4, 2)),
        case(
            "both masks, as many target as source words", 4, 4,
            mask=causal_mask(4), memory_mask=real(4, 3, 2), dtype=f64,
        ),
        case(
            "both masks, odd sizes", 3, 5, 2, 9, 3, 7,
            mask=causal_mask(3), memory_mask=real(5, 5, 1), dtype=f64,
        ),
        case("post-norm", 3, 4, mask=causal_mask(3), post_norm=True, dtype=f64),
        case("post-norm, a padded source", 2, 4, memory_mask=real(4, 1, 3), post_norm=True),
        case("everything dropped", 2, 3, dropout=1.0, dtype=f64),
        case("GELU, no biases", 3, 4, 1, 6, 2, 5, mask=causal_mask(3), activation="gelu", bias=False),
        case("caches, one new word", 1, 3, n_cached=2),
        case("caches, two new words, a padded source", 2, 4, n_cached=3, memory_mask=real(4, 2, 4), dtype=f64),
        strided,
    ]  # fmt: skip


def oracle_decoder_block(
    sizes: dict[str, Any],
    post_norm: bool,
    weights: dict[str, Tensor],
    x: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    memory_mask: Tensor | None,
    cached: list[list[Tensor]] | None,
    cotangent: Tensor,
    changed: Tensor,
) -> dict[str, Any]:
    """Compose F.layer_norm, F.linear and F.scaled_dot_product_attention, in float64."""
    dtype = x.dtype
    h = sizes["n_heads"]
    leaves = {name: each.double().requires_grad_() for name, each in weights.items()}
    leaf, source = (each.detach().double().requires_grad_() for each in (x, memory))
    passes = 0.0 if sizes.get("dropout") == 1 else 1.0  # dropout is all or nothing here

    def linear(name: str, inputs: Tensor) -> Tensor:
        return F.linear(inputs, leaves[f"{name}.weight"], leaves.get(f"{name}.bias"))

    def attend(
        name: str, asking: Tensor, asked: Tensor, seen: Tensor | None, kept: list[Tensor] | None
    ) -> Tensor:
        q, k, v = (
            torch.stack(linear(f"{name}.to_{each}", inputs).chunk(h, dim=-1), dim=1)
            for each, inputs in (("q", asking), ("k", asked), ("v", asked))
        )
        if kept is not None:
            k, v = (each.double() for each in kept)
        if seen is not None:
            seen = seen.expand(len(x), q.shape[2], k.shape[2])[:, None]
        said = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return linear(f"{name}.to_out", torch.cat(said.unbind(1), dim=-1))

    def feed(y: Tensor) -> Tensor:
        up = linear("feed_forward.up", y)
        bent = F.gelu(up) if sizes.get("activation") == "gelu" else up.relu()
        return linear("feed_forward.down", bent)

    own, of_memory = (None, None) if cached is None else cached

    def block(stream: Tensor) -> Tensor:
        sublayers = (
            ("communicate", lambda y: attend("attention", y, y, mask, own)),
            ("consult", lambda y: attend("cross_attention", y, source, memory_mask, of_memory)),
            ("compute", feed),
        )
        for name, sublayer in sublayers:
            scale, shift = (leaves[f"{name}.norm.{each}"] for each in ("weight", "bias"))
            width = (stream.shape[-1],)
            if post_norm:
                stream = F.layer_norm(stream + passes * sublayer(stream), width, scale, shift)
            else:
                stream = stream + passes * sublayer(F.layer_norm(stream, width, scale, shift))
        return stream

    output = block(leaf)
    found = {
        "output": output,
        **gradients(output, cotangent.double(), {"x": leaf, "memory": source, **leaves}),
    }
    if cached is None:
        passes = 1.0  # evaluation
        found["output after the last positions changed"] = block(changed.double())
    expected: dict[str, Any] = {name: each.detach().to(dtype) for name, each in found.items()}
    if cached is not None:
        expected["number of calls of cache.update"] = 1
        expected["number of calls of memory_cache.update"] = 1
    return expected


class _Block(finished.DecoderBlock):
    """A DecoderBlock that goes wrong in one way, which its subclasses say."""

    def hear(self, y: Tensor, mask: Any, cache: Any) -> Tensor:
        """Attend to the target."""
        return self.attention(y, mask=mask, cache=cache)[0]

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Attend to the source."""
        return self.cross_attention(y, memory, mask, cache)[0]

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Run the three sublayers."""
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        x = self.consult(x, lambda y: self.ask(y, memory, memory_mask, memory_cache))
        return self.compute(x, self.feed_forward)


class ConsultsFirst(_Block):
    """Ask the source before the target."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Swap the first two sublayers."""
        x = self.consult(x, lambda y: self.ask(y, memory, memory_mask, memory_cache))
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        return self.compute(x, self.feed_forward)


class ComputesBetween(_Block):
    """Compute before asking the source."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Swap the last two sublayers."""
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        x = self.compute(x, self.feed_forward)
        return self.consult(x, lambda y: self.ask(y, memory, memory_mask, memory_cache))


class StreamForgotten(_Block):
    """Let the second sublayer read the block's input."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Forget what was heard."""
        self.communicate(x, lambda y: self.hear(y, mask, cache))
        x = self.consult(x, lambda y: self.ask(y, memory, memory_mask, memory_cache))
        return self.compute(x, self.feed_forward)


class NoFeedForward(_Block):
    """Stop after two sublayers."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Forget to compute."""
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        return self.consult(x, lambda y: self.ask(y, memory, memory_mask, memory_cache))


class OneConnection(_Block):
    """Use the first connection again for the source."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Share a norm."""
        x = self.communicate(x, lambda y: self.hear(y, mask, cache))
        x = self.communicate(x, lambda y: self.ask(y, memory, memory_mask, memory_cache))
        return self.compute(x, self.feed_forward)


class NoConnections(_Block):
    """Call the sublayers one after the other."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Forget the residual connections."""
        x = self.hear(x, mask, cache)
        x = self.ask(x, memory, memory_mask, memory_cache)
        return self.feed_forward(x)


class PlainSums(_Block):
    """Add the sublayers to the stream without norms and dropout."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Write residual connections out, and forget the rest of them."""
        x = x + self.hear(x, mask, cache)
        x = x + self.ask(x, memory, memory_mask, memory_cache)
        return x + self.feed_forward(x)


class BareStreamAsked(_Block):
    """Let normalised queries meet keys of the bare stream."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Take the block's input for the context."""
        stream = self.communicate(x, lambda y: self.attention(y, x, mask, cache)[0])
        stream = self.consult(stream, lambda y: self.ask(y, memory, memory_mask, memory_cache))
        return self.compute(stream, self.feed_forward)


class AsksItself(_Block):
    """Attend to the target twice."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget the source."""
        return self.cross_attention(y)[0]


class OneAttention(_Block):
    """Use the same attention for both."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Take the wrong module."""
        return self.attention(y, memory, mask, cache)[0]


class SourceAsks(_Block):
    """Let the source ask the target."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Swap who asks and who is asked."""
        return self.cross_attention(memory, y, mask, cache)[0]


class MemoryNormed(_Block):
    """Normalise the memory as well."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Put the memory through the connection's norm."""
        norm: Any = self.consult.norm
        return self.cross_attention(y, norm(memory), mask, cache)[0]


class MaskForgotten(_Block):
    """Let the future be heard."""

    def hear(self, y: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget the mask."""
        return self.attention(y, cache=cache)[0]


class MaskAsContext(_Block):
    """Hand the mask on by position, where the context stands."""

    def hear(self, y: Tensor, mask: Any, cache: Any) -> Tensor:
        """Mistake the second argument."""
        return self.attention(y, mask, cache)[0]


class MemoryMaskForgotten(_Block):
    """Let the source's padding be heard."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget the mask."""
        return self.cross_attention(y, memory, cache=cache)[0]


class MasksSwapped(_Block):
    """Use each mask for the other attention."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Swap the masks."""
        return super().forward(x, memory, memory_mask, mask, cache, memory_cache)


class CacheForgotten(_Block):
    """Never hand on the cache of the target."""

    def hear(self, y: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget what was read."""
        return self.attention(y, mask=mask)[0]


class MemoryCacheForgotten(_Block):
    """Never hand on the cache of the source."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget what was computed."""
        return self.cross_attention(y, memory, mask)[0]


class BothCachesForgotten(_Block):
    """Never hand on a cache."""

    def hear(self, y: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget what was read."""
        return self.attention(y, mask=mask)[0]

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Tensor:
        """Forget what was computed."""
        return self.cross_attention(y, memory, mask)[0]


class OneCache(_Block):
    """Give both attentions the target's cache."""

    def forward(
        self, x: Tensor, memory: Tensor, mask: Any = None, memory_mask: Any = None,
        cache: Any = None, memory_cache: Any = None,
    ) -> Any:  # fmt: skip
        """Share a cache."""
        return super().forward(x, memory, mask, memory_mask, cache, cache)


class ReturnsPair(_Block):
    """Return the weights too."""

    def ask(self, y: Tensor, memory: Tensor, mask: Any, cache: Any) -> Any:
        """Forget to take the outputs out of the pair."""
        return self.cross_attention(y, memory, mask, cache)


DECODER_BLOCK = Exercise(
    name="DecoderBlock",
    lesson=11,
    points=4,
    probe=probes.decoder_block,
    draw=draw_decoder_block,
    oracle=oracle_decoder_block,
    finished=(finished.DecoderBlock,),
    forbidden=(
        "torch.nn.TransformerDecoderLayer",
        "torch.nn.MultiheadAttention",
        "torch.nn.functional.scaled_dot_product_attention",
        FINISHED,
    ),
    tolerances=MANY_ROUNDINGS,
    minutes=15,
    difficulty=3,
    mistakes=(
        Mistake(
            "source first",
            "You consult the source before the target's own words: first `communicate`, then `consult`.",
            (ConsultsFirst,),
        ),
        Mistake(
            "computes before consulting",
            "Your feed-forward network runs before the source is consulted: it comes last.",
            (ComputesBetween,),
        ),
        Mistake(
            "stream forgotten",
            "The result of `communicate` is lost: each sublayer reads the stream that the one before it left, "
            "so write `x = …`.",
            (StreamForgotten,),
        ),
        Mistake(
            "no feed-forward",
            "The third sublayer is missing: `self.compute(x, self.feed_forward)`.",
            (NoFeedForward,),
        ),
        Mistake(
            "one connection for two",
            "You used `self.communicate` for the source as well: each sublayer has a connection, and a norm, "
            "of its own.",
            (OneConnection,),
        ),
        Mistake(
            "no connections",
            "You call the sublayers one after the other, without their residual connections.",
            (NoConnections,),
        ),
        Mistake(
            "plain sums",
            "You add the sublayers to the stream yourself, so nothing is normalised or dropped: that is what "
            "`self.communicate`, `self.consult` and `self.compute` are for.",
            (PlainSums,),
        ),
        Mistake(
            "bare stream asked",
            "Your self-attention is asked by `y` and asks `x`: with pre-norm `y` is the normalised stream, and "
            "the sublayer reads nothing else. Give it no context.",
            (BareStreamAsked,),
        ),
        Mistake(
            "asks itself",
            "Your cross-attention never sees `memory`: it must be given as the context.",
            (AsksItself,),
        ),
        Mistake(
            "one attention for two",
            "You used `self.attention` for the source as well: the block has a `cross_attention`.",
            (OneAttention,),
        ),
        Mistake(
            "source asks",
            "Your source asks the target: queries come from the stream, keys and values from `memory`.",
            (SourceAsks,),
        ),
        Mistake(
            "memory normalised",
            "You put `memory` through the norm of the connection: only the stream goes through it; the encoder "
            "has normalised its output itself.",
            (MemoryNormed,),
        ),
        Mistake(
            "mask forgotten",
            "Later words of the target are heard: you never use `mask`.",
            (MaskForgotten,),
        ),
        Mistake(
            "mask given as context",
            "You gave the self-attention the mask as its second argument, which is the context: write `mask=mask`.",
            (MaskAsContext,),
        ),
        Mistake(
            "memory mask forgotten",
            "The source's padding is heard: you never use `memory_mask`.",
            (MemoryMaskForgotten,),
        ),
        Mistake(
            "masks swapped",
            "You swapped the masks: `mask` belongs to the attention to the target, `memory_mask` to that to "
            "the source.",
            (MasksSwapped,),
        ),
        Mistake(
            "cache forgotten",
            "With a cache the earlier words of the target are not heard: you never use `cache`.",
            (CacheForgotten,),
        ),
        Mistake(
            "memory cache forgotten",
            "With caches the source is not heard as it should be: you never use `memory_cache`.",
            (MemoryCacheForgotten,),
        ),
        Mistake(
            "both caches forgotten",
            "You never hand on the caches: the self-attention gets `cache`, the cross-attention `memory_cache`.",
            (BothCachesForgotten,),
        ),
        Mistake(
            "one cache for two",
            "You gave both attentions the same cache: the source's keys and values have their own, "
            "`memory_cache`.",
            (OneCache,),
        ),
        Mistake(
            "the pair returned",
            "This error has two usual causes. An attention returns a pair, outputs and weights: take the outputs, "
            "`[0]`. And a connection is given the sublayer itself, a function (`lambda y: …`), not its result.",
            (ReturnsPair,),
        ),
    ),
    hints=(
        "Three times the same pattern, `x = self.connection(x, sublayer)`, with the connections `communicate`, "
        "`consult`, `compute`, in this order. A sublayer is a function of one argument, `lambda y: …`, and reads that "
        "argument, not `x`: with pre-norm it is the normalised stream.",
        "`MultiHeadAttention` is called as `(x, context, mask, cache)` and returns outputs and weights. In "
        "`communicate` there is no context; in `consult` the context is `memory`. Each has its own mask and cache.",
        "The trap is who gets what: `self.attention(y, mask=mask, cache=cache)[0]` and "
        "`self.cross_attention(y, memory, memory_mask, memory_cache)[0]`.",
    ),
)

# --- Transformer -----------------------------------------------------------------------------


def draw_transformer(seed: int) -> list[Case]:
    """Draw models and sentences, with and without padding."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        n: int,
        m: int,
        lengths: list[int],
        d_model: int = 4,
        n_heads: int = 2,
        d_ff: int = 6,
        n_layers: int = 1,
        dtype: torch.dtype = torch.float32,
        words: int = 9,
        **options: Any,
    ) -> Case:
        sizes = {
            "n_words": words, "d_model": d_model, "n_heads": n_heads, "d_ff": d_ff, "n_layers": n_layers, **options,
        }  # fmt: skip
        batch = len(lengths)
        real = torch.arange(n) < torch.tensor(lengths)[:, None]

        def some(*shape: int) -> Tensor:
            return torch.randint(4, words, shape, generator=g)

        source, target = some(batch, n), some(batch, m)
        other = target.clone()
        other[:, -1] = 4 + (target[:, -1] - 3) % (words - 4)  # another word
        state = _random_state(finished.Transformer(**sizes), g, dtype)
        return Case(
            label,
            {
                "sizes": sizes,
                "weights": state,
                "source": source.masked_fill(~real, 0),
                "lengths": torch.tensor(lengths),
                "target": target,
                "cotangent": torch.randn(batch, m, words, generator=g, dtype=dtype),
                "other_source": torch.where(real, source, some(batch, n)),
                "other_target": other,
            },
        )

    return [
        case("one word in, one word out", 1, 1, [1], 2, 1, 3, dtype=f64, words=6),
        case("three words in, two out", 3, 2, [3], dtype=f64),
        case("two words in, four out", 2, 4, [2, 2], dtype=f64),
        case("padding in the source", 4, 3, [4, 2], dtype=f64),
        case("two layers, odd sizes, padding", 5, 3, [3, 5, 1], 9, 3, 7, 2, dtype=f64),
        case("two layers, float32", 4, 4, [4, 3], 8, 4, 5, 2),
        case("everything dropped", 3, 2, [3, 2], dropout=1.0, dtype=f64),
    ]


def _positions(n: int, d: int, start: int = 0) -> Tensor:
    """Return sines and cosines, number by number."""
    table = torch.zeros(n, d, dtype=f64)
    for row in range(n):
        for column in range(d):
            angle = (row + start) / 10_000 ** (2 * (column // 2) / d)
            table[row, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return table


def _as_torch(leaves: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """Return the weights of a Transformer under the names of nn.Transformer."""
    found = {}

    def attention(ours: str, theirs: str) -> None:
        for kind in ("weight", "bias"):
            found[f"{theirs}.in_proj_{kind}"] = torch.cat(
                [leaves[f"{ours}.to_{each}.{kind}"] for each in "qkv"]
            )
            found[f"{theirs}.out_proj.{kind}"] = leaves[f"{ours}.to_out.{kind}"]

    def layer(ours: str, theirs: str) -> None:
        for kind in ("weight", "bias"):
            found[f"{theirs}.{kind}"] = leaves[f"{ours}.{kind}"]

    for stack in ("encoder", "decoder"):
        norms = ["communicate", "consult", "compute"]
        for i in range(n_layers):
            ours, theirs = f"{stack}.blocks.{i}", f"{stack}.layers.{i}"
            attention(f"{ours}.attention", f"{theirs}.self_attn")
            if stack == "decoder":
                attention(f"{ours}.cross_attention", f"{theirs}.multihead_attn")
            layer(f"{ours}.feed_forward.up", f"{theirs}.linear1")
            layer(f"{ours}.feed_forward.down", f"{theirs}.linear2")
            present = [each for each in norms if stack == "decoder" or each != "consult"]
            for number, each in enumerate(present, start=1):
                layer(f"{ours}.{each}.norm", f"{theirs}.norm{number}")
        layer(f"{stack}.norm", f"{stack}.norm")
    return found


def oracle_transformer(
    sizes: dict[str, Any],
    weights: dict[str, Tensor],
    source: Tensor,
    lengths: Tensor,
    target: Tensor,
    cotangent: Tensor,
    other_source: Tensor,
    other_target: Tensor,
) -> dict[str, Any]:
    """Run nn.Transformer, norms first, with these weights, in float64."""
    d, dtype = sizes["d_model"], cotangent.dtype
    dropped = sizes.get("dropout") == 1
    leaves = {name: each.double().requires_grad_() for name, each in weights.items()}
    table = leaves["embedding.weight"]
    kinds: Any = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    drop, n_layers = (1.0 if dropped else 0.0), sizes["n_layers"]
    reading, writing = (
        kind(d, sizes["n_heads"], sizes["d_ff"], drop, batch_first=True, norm_first=True, dtype=f64)
        for kind in kinds
    )
    model = nn.Transformer(
        d,
        sizes["n_heads"],
        custom_encoder=nn.TransformerEncoder(
            reading, n_layers, nn.LayerNorm(d, dtype=f64), enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(writing, n_layers, nn.LayerNorm(d, dtype=f64)),
        batch_first=True,
    )
    as_torch = _as_torch(leaves, n_layers)
    hidden = torch.arange(source.shape[1]) >= lengths[:, None]  # PyTorch: True = hidden
    future = ~torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).tril()

    def embed(words: Tensor, start: int = 0) -> Tensor:
        found = table[words] * math.sqrt(d) + _positions(words.shape[1], d, start)
        return found * 0 if dropped else found

    def run(read: Tensor, heard: Tensor) -> Tensor:
        x = torch.func.functional_call(
            model,
            as_torch,
            (embed(read), embed(heard)),
            {"tgt_mask": future, "src_key_padding_mask": hidden, "memory_key_padding_mask": hidden},
        )
        return x @ table.T

    encoder = {
        name.removeprefix("encoder."): each
        for name, each in as_torch.items()
        if name.startswith("encoder.")
    }
    encoded = torch.func.functional_call(
        model.encoder, encoder, (embed(source),), {"src_key_padding_mask": hidden}
    )
    logits = run(source, target)
    found = {
        "embedded source": embed(source),
        "embedded target, from position 3 on": embed(target, 3),
        "encoded words": encoded * ~hidden[..., None],
        "logits": logits,
        **gradients(logits, cotangent.double(), leaves),
        "logits with other padding in the source": run(source, target),
        "logits with another last word": run(source, other_target),
    }
    expected: dict[str, Any] = {name: each.detach().to(dtype) for name, each in found.items()}
    return {**expected, "mask of the encoded words": ~hidden[:, None]}


class _Model(finished.Transformer):
    """A Transformer that goes wrong in one way, which its subclasses say."""

    def place(self, vectors: Tensor, start: int) -> Tensor:
        """Add positions."""
        return self.positions(vectors, start)

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Look up, scale, place, drop."""
        vectors = self.embedding(words) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(self.place(vectors, start))

    def source_mask(self, source: Tensor, lengths: Tensor) -> Tensor:
        """Hide padding."""
        return padding_mask(lengths, source.shape[1])

    def encode(self, source: Tensor, lengths: Tensor) -> Any:
        """Read."""
        mask = self.source_mask(source, lengths)
        return Encoded(self.encoder(self.embed(source), mask), mask)

    def target_mask(self, target: Tensor) -> Tensor | None:
        """Hide the future."""
        return causal_mask(target.shape[1], device=target.device)

    def score(self, x: Tensor) -> Tensor:
        """Turn vectors into logits."""
        return x @ self.embedding.weight.T

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Any:
        """Read and say."""
        words, mask = self.encode(source, lengths)
        return self.score(self.decoder(self.embed(target), words, self.target_mask(target), mask))


class NotScaled(_Model):
    """Leave out √d."""

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Forget the scale."""
        return self.dropout(self.place(self.embedding(words), start))


class DividedByRoot(_Model):
    """Divide by √d."""

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Scale the wrong way."""
        vectors = self.embedding(words) / math.sqrt(self.embedding.embedding_dim)
        return self.dropout(self.place(vectors, start))


class ScaledByD(_Model):
    """Multiply by d."""

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Forget the root."""
        return self.dropout(self.place(self.embedding(words) * self.embedding.embedding_dim, start))


class PositionsScaled(_Model):
    """Scale after the positions."""

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Multiply the positions too."""
        d = self.embedding.embedding_dim
        return self.dropout(self.place(self.embedding(words), start) * math.sqrt(d))


class NoPositions(_Model):
    """Leave the positions out."""

    def place(self, vectors: Tensor, start: int) -> Tensor:
        """Forget where words stand."""
        return vectors


class StartForgotten(_Model):
    """Count positions from 0 always."""

    def place(self, vectors: Tensor, start: int) -> Tensor:
        """Forget the start."""
        return self.positions(vectors)


class NoDropout(_Model):
    """Leave the dropout out."""

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Forget to drop."""
        return self.place(self.embedding(words) * math.sqrt(self.embedding.embedding_dim), start)


class DroppedTooEarly(_Model):
    """Drop before the positions are added."""

    def embed(self, words: Tensor, start: int = 0) -> Any:
        """Let no position be dropped."""
        vectors = self.embedding(words) * math.sqrt(self.embedding.embedding_dim)
        return self.place(self.dropout(vectors), start)


class TargetNotEmbedded(_Model):
    """Look the target's words up, and no more."""

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Any:
        """Forget scale and positions of the target."""
        words, mask = self.encode(source, lengths)
        heard = self.embedding(target)
        return self.score(self.decoder(heard, words, self.target_mask(target), mask))


class PaddingRead(_Model):
    """Let the encoder read padding."""

    def encode(self, source: Tensor, lengths: Tensor) -> Any:
        """Forget the mask in the encoder."""
        return Encoded(self.encoder(self.embed(source)), self.source_mask(source, lengths))


class PaddingConsulted(_Model):
    """Let the decoder hear the source's padding."""

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Any:
        """Forget the mask in the decoder."""
        words, _ = self.encode(source, lengths)
        return self.score(self.decoder(self.embed(target), words, self.target_mask(target)))


class MaskInverted(_Model):
    """Hide the real words."""

    def source_mask(self, source: Tensor, lengths: Tensor) -> Tensor:
        """Use PyTorch's other convention."""
        return ~padding_mask(lengths, source.shape[1])


class SourceIsCausal(_Model):
    """Let the encoder read from left to right."""

    def encode(self, source: Tensor, lengths: Tensor) -> Any:
        """Hide the future of the source."""
        mask = self.source_mask(source, lengths)
        seen = mask & causal_mask(source.shape[1], device=source.device)
        return Encoded(self.encoder(self.embed(source), seen), mask)


class FutureHeard(_Model):
    """Let the decoder hear what it must say."""

    def target_mask(self, target: Tensor) -> Tensor | None:
        """Forget the causal mask."""
        return None


class NotEncoded(_Model):
    """Give the decoder the embedded source."""

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Any:
        """Skip the encoder."""
        _, mask = self.encode(source, lengths)
        x = self.decoder(self.embed(target), self.embed(source), self.target_mask(target), mask)
        return self.score(x)


class LogProbabilities(_Model):
    """Return log-probabilities."""

    def score(self, x: Tensor) -> Tensor:
        """Take the softmax already."""
        return (x @ self.embedding.weight.T).log_softmax(-1)


class Probabilities(_Model):
    """Return probabilities."""

    def score(self, x: Tensor) -> Tensor:
        """Take the softmax already."""
        return (x @ self.embedding.weight.T).softmax(-1)


class LogitsScaled(_Model):
    """Scale the table on the way out as well."""

    def score(self, x: Tensor) -> Tensor:
        """Multiply by √d."""
        return x @ self.embedding.weight.T * math.sqrt(x.shape[-1])


class NoLogits(_Model):
    """Return the decoder's vectors."""

    def score(self, x: Tensor) -> Tensor:
        """Forget the table."""
        return x


TRANSFORMER = Exercise(
    name="Transformer",
    lesson=11,
    points=5,
    probe=probes.transformer,
    draw=draw_transformer,
    oracle=oracle_transformer,
    finished=(finished.Transformer,),
    needs=("DecoderBlock",),
    forbidden=(
        "torch.nn.Transformer",
        "torch.nn.TransformerEncoder",
        "torch.nn.TransformerDecoder",
        FINISHED,
    ),
    tolerances=MANY_ROUNDINGS,
    minutes=25,
    difficulty=4,
    mistakes=(
        Mistake(
            "not scaled",
            "The words' vectors are not scaled: multiply them by √d_model before positions are added.",
            (NotScaled,),
        ),
        Mistake(
            "divided by the root",
            "You divided the words' vectors by √d_model: multiply.",
            (DividedByRoot,),
        ),
        Mistake("scaled by d", "You multiplied by d_model, not by its root.", (ScaledByD,)),
        Mistake(
            "positions scaled",
            "You scaled the positions too: multiply the words' vectors, then add positions.",
            (PositionsScaled,),
        ),
        Mistake(
            "no positions",
            "Positions are missing: `self.positions(vectors, start)` adds them.",
            (NoPositions,),
        ),
        Mistake(
            "start forgotten",
            "Your positions always begin at 0: hand `start` on to `self.positions`.",
            (StartForgotten,),
        ),
        Mistake(
            "no dropout",
            "`embed` drops nothing: the sum of words and positions goes through `self.dropout`.",
            (NoDropout,),
        ),
        Mistake(
            "dropped too early",
            "You drop before positions are added: the sum of words and positions goes through `self.dropout`.",
            (DroppedTooEarly,),
        ),
        Mistake(
            "target looked up only",
            "You look the target's words up without scale and positions: use `self.embed` for the target as well.",
            (TargetNotEmbedded,),
        ),
        Mistake(
            "encoder reads padding",
            "The encoder hears padding: give it the padding mask.",
            (PaddingRead,),
        ),
        Mistake(
            "decoder hears padding",
            "The decoder hears the source's padding: give it the memory's mask too.",
            (PaddingConsulted,),
        ),
        Mistake(
            "mask inverted",
            "Your source mask is True at the padding: True means “may attend”.",
            (MaskInverted,),
        ),
        Mistake(
            "causal encoder",
            "Your encoder hides the future of the source: the source is known in full, only padding is hidden.",
            (SourceIsCausal,),
        ),
        Mistake(
            "future heard",
            "Your decoder hears the words that it is to say: the target needs a causal mask.",
            (FutureHeard,),
        ),
        Mistake(
            "source not encoded",
            "Your decoder consults the embedded source: it should consult what the encoder made of it.",
            (NotEncoded,),
        ),
        Mistake(
            "log-probabilities returned",
            "You return log-probabilities: logits are asked for, and the loss takes the softmax itself.",
            (LogProbabilities,),
        ),
        Mistake(
            "probabilities returned",
            "You return probabilities: logits are asked for, and the loss takes the softmax itself.",
            (Probabilities,),
        ),
        Mistake(
            "logits scaled",
            "You scaled the logits by √d_model: the scale is for the way in only.",
            (LogitsScaled,),
        ),
        Mistake(
            "no logits",
            "You return the decoder's vectors: their products with the rows of the table are the logits.",
            (NoLogits,),
        ),
    ),
    hints=(
        "`embed`: look the words up in `self.embedding`, multiply by √d_model (d_model is "
        "`self.embedding.embedding_dim`), let `self.positions(vectors, start)` "
        "add positions, and put the sum through `self.dropout`.",
        "`encode`: a `padding_mask` from the lengths; `self.encoder(x, mask)`; return `Encoded(words, mask)`. The "
        "source is known in full, so nothing but padding is hidden.",
        "`forward`: encode; embed the target; a `causal_mask` of m on the target's device; "
        "`self.decoder(x, memory.words, mask, memory.mask)`.",
        "Logits are dot products with the rows of the table that embeds: `x @ self.embedding.weight.T`. (No mask "
        "for padding of the target: it stands behind the real words, and the causal mask hides what is behind.)",
    ),
)

EXERCISES = (LABEL_SMOOTHING_LOSS, NOAM_RATE, DECODER_BLOCK, TRANSFORMER)
