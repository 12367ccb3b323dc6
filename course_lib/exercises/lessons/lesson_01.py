"""Lesson 01, word vectors: what is drawn, what is right, what often goes wrong."""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.probes import lesson_01 as probes
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import word_vectors as finished

FINISHED = "course_lib.models.word_vectors"

# --- ppmi ------------------------------------------------------------------------------------


def draw_ppmi(seed: int) -> list[Case]:
    """Draw tables of counts: tiny, wide, with an empty row, not contiguous."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        rows: int,
        columns: int,
        alpha: float | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Case:
        # Zipf-like: columns differ much in size, and many pairs are never seen.
        rate = 8 / torch.arange(1, columns + 1) * torch.rand(rows, 1, generator=g) * 2
        counts = torch.poisson(rate, generator=g)
        counts[0, 0] += 1
        counts[-1, -1] += 2
        return Case(label, {"counts": counts.to(dtype), "alpha": alpha})

    unseen = case("a word and a context that were never seen", 5, 6)
    unseen.inputs["counts"][1] = 0
    unseen.inputs["counts"][:, 2] = 0
    strided = case("a non-contiguous table, float32", 6, 4, dtype=torch.float32)
    strided.inputs["counts"] = strided.inputs["counts"].t()
    return [
        case("two words, three contexts", 2, 3),
        case("one word, one context", 1, 1),
        case("one word, several contexts", 1, 4),
        case("a square table", 3, 3),
        case("no smoothing (alpha = 1)", 5, 7, 1.0),
        case("more words than contexts", 9, 4, 0.5),
        case("more contexts than words, float32", 4, 11, dtype=torch.float32),
        unseen,
        strided,
    ]


def oracle_ppmi(counts: Tensor, alpha: float | None) -> dict[str, Tensor]:
    """Apply the definition to one pair after another."""
    alpha = 0.75 if alpha is None else alpha
    table: list[list[float]] = counts.double().tolist()
    total = math.fsum(map(math.fsum, table))
    words = [math.fsum(row) / total for row in table]
    powers = [math.fsum(column) ** alpha for column in zip(*table)]
    contexts = [power / math.fsum(powers) for power in powers]
    found = [
        [
            max(0.0, math.log(count / total / words[i] / contexts[j])) if count else 0.0
            for j, count in enumerate(row)
        ]
        for i, row in enumerate(table)
    ]
    return {"PPMI": torch.tensor(found, dtype=torch.float64).to(counts.dtype)}


def _log_ratio(joint: Tensor, p_word: Tensor, p_context: Tensor) -> Tensor:
    """Finish a PPMI whose probabilities are given."""
    ratio = torch.where(joint > 0, joint / (p_word * p_context), torch.ones_like(joint))
    return ratio.log().clamp(min=0)


def _parts(counts: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    joint = counts / counts.sum()
    power = joint.sum(0, keepdim=True) ** alpha
    return joint, joint.sum(1, keepdim=True), power / power.sum()


def negative_kept(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Return PMI: forget the maximum with 0."""
    joint, p_word, p_context = _parts(counts, alpha)
    ratio = torch.where(joint > 0, joint / (p_word * p_context), torch.ones_like(joint))
    return ratio.log()


def no_logarithm(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Return the ratio itself."""
    return _log_ratio(*_parts(counts, alpha)).exp()


def binary_logarithm(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Measure in bits."""
    return _log_ratio(*_parts(counts, alpha)) / math.log(2)


def smoothing_ignored(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Never use alpha."""
    return _log_ratio(*_parts(counts, 1.0))


def words_smoothed(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Smooth the rows instead of the columns."""
    joint = counts / counts.sum()
    power = joint.sum(1, keepdim=True) ** alpha
    return _log_ratio(joint, power / power.sum(), joint.sum(0, keepdim=True))


def both_smoothed(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Smooth words and contexts."""
    joint, p_word, p_context = _parts(counts, alpha)
    return _log_ratio(joint, p_word**alpha / (p_word**alpha).sum(), p_context)


def smoothed_not_normalised(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Raise the contexts' probabilities to alpha and leave it at that."""
    joint, p_word, _ = _parts(counts, alpha)
    return _log_ratio(joint, p_word, joint.sum(0, keepdim=True) ** alpha)


def old_total(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Divide the smoothed counts by the total of the unsmoothed ones."""
    joint, p_word, _ = _parts(counts, alpha)
    return _log_ratio(joint, p_word, counts.sum(0, keepdim=True) ** alpha / counts.sum())


def joint_not_divided(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Use the count where the probability of the pair belongs."""
    _, p_word, p_context = _parts(counts, alpha)
    return _log_ratio(counts, p_word, p_context)


def unseen_nan(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Compute 0/0 for a word or context that was never seen."""
    joint, p_word, p_context = _parts(counts, alpha)
    return (joint / (p_word * p_context)).log().clamp(min=0)


def row_sums_without_axis(counts: Tensor, alpha: float = 0.75) -> Tensor:
    """Sum the rows without keepdim."""
    joint, p_word, p_context = _parts(counts, alpha)
    return _log_ratio(joint, p_word[:, 0], p_context)


def small_number_below(epsilon: float) -> Callable[..., Tensor]:
    """Guard the division by adding to the denominator."""

    def answer(counts: Tensor, alpha: float = 0.75) -> Tensor:
        joint, p_word, p_context = _parts(counts, alpha)
        return (joint / (p_word * p_context + epsilon)).log().clamp(min=0)

    return answer


def small_number_inside(epsilon: float) -> Callable[..., Tensor]:
    """Guard the logarithm by adding to the ratio."""

    def answer(counts: Tensor, alpha: float = 0.75) -> Tensor:
        joint, p_word, p_context = _parts(counts, alpha)
        return (joint / (p_word * p_context) + epsilon).log().clamp(min=0)

    return answer


_SMALL_NUMBER = (
    "You added {} {} to be safe, and it changes entries that needed no help: choose with `torch.where` "
    "before the logarithm, and only unseen pairs are touched."
)

PPMI = Exercise(
    name="ppmi",
    lesson=1,
    points=3,
    probe=probes.ppmi,
    draw=draw_ppmi,
    oracle=oracle_ppmi,
    finished=(finished.ppmi,),
    forbidden=(FINISHED,),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "negative values kept",
            "Your table has negative entries: positive PMI puts 0 in their place.",
            (negative_kept,),
        ),
        Mistake(
            "no logarithm",
            "You returned the ratio of the probabilities: take its logarithm, then the larger of it and 0.",
            (no_logarithm,),
        ),
        Mistake(
            "binary logarithm",
            "You took log₂: this course's logarithms are natural ones (`.log()`).",
            (binary_logarithm,),
        ),
        Mistake(
            "smoothing ignored",
            "You never use `alpha`: the contexts' counts are raised to it before they become probabilities.",
            (smoothing_ignored,),
        ),
        Mistake(
            "words smoothed",
            "You smoothed the words (rows): alpha belongs to the contexts (columns).",
            (words_smoothed,),
        ),
        Mistake(
            "both smoothed",
            "You smoothed words and contexts: alpha belongs to the contexts alone.",
            (both_smoothed,),
        ),
        Mistake(
            "smoothed, not normalised",
            "Your smoothed context probabilities do not sum to 1: divide by the sum of the powers.",
            (smoothed_not_normalised,),
        ),
        Mistake(
            "old total",
            "You divided the smoothed counts by the total of the plain ones: "
            "after the power, a new sum is needed.",
            (old_total,),
        ),
        Mistake(
            "pair counts not divided",
            "You used the pair's count where its probability belongs: divide `counts` by their total.",
            (joint_not_divided,),
        ),
        Mistake(
            "NaN for the unseen",
            "A word or context that was never seen gives 0/0, which is NaN: such entries should be 0.",
            (unseen_nan,),
        ),
        Mistake(
            "row sums without their axis",
            "Your row sums lost their axis, so they divide columns or do not fit: with `keepdim=True` they "
            "stay (n_words, 1) and each divides its own row.",
            (row_sums_without_axis,),
        ),
        *(
            Mistake(
                f"{epsilon:g} added below",
                _SMALL_NUMBER.format(f"{epsilon:g}", "below the fraction bar"),
                (small_number_below(epsilon),),
            )
            for epsilon in (1e-6, 1e-8, 1e-9, 1e-10)
        ),
        *(
            Mistake(
                f"{epsilon:g} added inside",
                _SMALL_NUMBER.format(f"{epsilon:g}", "inside the logarithm"),
                (small_number_inside(epsilon),),
            )
            for epsilon in (1e-6, 1e-8)
        ),
    ),
    hints=(
        "Write down one entry by hand first. Which sum is `total`? Which sums does the row need, which the "
        "column?",
        "Three probabilities: the pair's count, the row's sum and the column's sum, each made into a share. "
        "`counts.sum(dim=1, keepdim=True)` is (n_words, 1), `counts.sum(dim=0, keepdim=True)` is "
        "(1, n_contexts), and their product broadcasts to a table.",
        "The column sums are raised to `alpha` first; what makes them shares is the sum of these powers, not "
        "the old total.",
        "Never seen: log 0 is −∞ and 0/0 is NaN, so choose before the logarithm. `torch.where(seen, ratio, …)` "
        "takes a harmless number, one whose logarithm is 0, wherever nothing was seen.",
    ),
)

# --- sgns_loss_and_grads ---------------------------------------------------------------------


def draw_sgns(seed: int) -> list[Case]:
    """Draw batches of pairs with their noise words."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        k: int,
        d: int,
        dtype: torch.dtype = torch.float64,
        scale: float = 1.0,
    ) -> Case:
        centre = torch.randn(batch, d, generator=g, dtype=dtype)
        context = torch.randn(batch, d, generator=g, dtype=dtype) * scale
        negatives = torch.randn(batch, k, d, generator=g, dtype=dtype) * scale
        return Case(label, {"centre": centre, "context": context, "negatives": negatives})

    strided = case("non-contiguous tensors, float32", 4, 3, 6, torch.float32)
    for name, tensor in strided.inputs.items():
        strided.inputs[name] = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    large = case("large dot products, float32", 6, 4, 5, torch.float32, scale=200.0)
    # One true pair that points the wrong way, and one noise word that points the right one.
    large.inputs["context"][0] = -150 * large.inputs["centre"][0]
    large.inputs["negatives"][1, 2] = 150 * large.inputs["centre"][1]
    return [
        case("one pair, one noise word", 1, 1, 2),
        case("one pair, three noise words", 1, 3, 4),
        case("a batch, odd width", 5, 2, 7),
        case("a batch, float32", 8, 5, 16, torch.float32),
        strided,
        large,
    ]


def oracle_sgns(centre: Tensor, context: Tensor, negatives: Tensor) -> dict[str, Tensor]:
    """Ask F.binary_cross_entropy_with_logits for the loss and autograd for the gradients, in float64."""
    inputs = [each.detach().double().requires_grad_() for each in (centre, context, negatives)]
    v, u, n = inputs
    true, noise = torch.einsum("bd,bd->b", v, u), torch.einsum("bd,bkd->bk", v, n)
    loss = F.binary_cross_entropy_with_logits(true, torch.ones_like(true), reduction="sum")
    loss = loss + F.binary_cross_entropy_with_logits(
        noise, torch.zeros_like(noise), reduction="sum"
    )
    found = dict(zip(("centre", "context", "negatives"), torch.autograd.grad(loss, inputs)))
    values = {"loss": loss, **{f"gradient of {name}": each for name, each in found.items()}}
    return {name: each.detach().to(centre.dtype) for name, each in values.items()}


Four = tuple[Tensor, Tensor, Tensor, Tensor]


def _sgns(centre: Tensor, context: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return the dot products with the true context and with the noise."""
    return (centre * context).sum(-1), (centre[:, None] * negatives).sum(-1)


def _from_errors(
    loss: Tensor,
    g_true: Tensor,
    g_noise: Tensor,
    centre: Tensor,
    context: Tensor,
    negatives: Tensor,
) -> Four:
    """Finish from the derivatives of the loss for the dot products."""
    g_centre = g_true[:, None] * context + (g_noise[:, :, None] * negatives).sum(1)
    return loss, g_centre, g_true[:, None] * centre, g_noise[:, :, None] * centre[:, None]


def averaged(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Take the mean over the batch."""
    right = finished.sgns_loss_and_grads(centre, context, negatives)
    loss, *grads = (each / len(centre) for each in right)
    return (loss, *grads)  # type: ignore[return-value]


def noise_pulled(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Treat the noise words as true ones."""
    true, noise = _sgns(centre, context, negatives)
    loss = -F.logsigmoid(true).sum() - F.logsigmoid(noise).sum()
    return _from_errors(loss, true.sigmoid() - 1, noise.sigmoid() - 1, centre, context, negatives)


def true_without_minus_one(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Forget the label 1 in σ − 1."""
    true, noise = _sgns(centre, context, negatives)
    loss = -F.logsigmoid(true).sum() - F.logsigmoid(-noise).sum()
    return _from_errors(loss, true.sigmoid(), noise.sigmoid(), centre, context, negatives)


def centre_without_noise(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Let only the true context move the centre."""
    loss, _, g_context, g_negatives = finished.sgns_loss_and_grads(centre, context, negatives)
    true, _ = _sgns(centre, context, negatives)
    return loss, (true.sigmoid() - 1)[:, None] * context, g_context, g_negatives


def centre_without_context(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Let only the noise move the centre."""
    loss, _, g_context, g_negatives = finished.sgns_loss_and_grads(centre, context, negatives)
    _, noise = _sgns(centre, context, negatives)
    return loss, (noise.sigmoid()[:, :, None] * negatives).sum(1), g_context, g_negatives


def noise_averaged(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Take the mean over the noise words instead of the sum."""
    true, noise = _sgns(centre, context, negatives)
    k = noise.shape[1]
    loss = -F.logsigmoid(true).sum() - F.logsigmoid(-noise).sum() / k
    return _from_errors(loss, true.sigmoid() - 1, noise.sigmoid() / k, centre, context, negatives)


def ascent(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Return the gradients of the log-likelihood instead of the loss."""
    loss, *grads = finished.sgns_loss_and_grads(centre, context, negatives)
    return (loss, *(-each for each in grads))  # type: ignore[return-value]


def roles_swapped(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Return the gradient of the context first."""
    loss, g_centre, g_context, g_negatives = finished.sgns_loss_and_grads(
        centre, context, negatives
    )
    return loss, g_context, g_centre, g_negatives


def log_of_sigmoid(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Write log σ as a logarithm of a sigmoid, which is log 0 for large scores."""
    true, noise = _sgns(centre, context, negatives)
    loss = -true.sigmoid().log().sum() - (-noise).sigmoid().log().sum()
    return _from_errors(loss, true.sigmoid() - 1, noise.sigmoid(), centre, context, negatives)


def noise_not_in_loss(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Return the loss of the true pairs only."""
    _, *grads = finished.sgns_loss_and_grads(centre, context, negatives)
    true, _ = _sgns(centre, context, negatives)
    return (-F.logsigmoid(true).sum(), *grads)  # type: ignore[return-value]


def noise_sign_in_loss(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Forget the minus inside the noise terms of the loss."""
    _, *grads = finished.sgns_loss_and_grads(centre, context, negatives)
    true, noise = _sgns(centre, context, negatives)
    return (-F.logsigmoid(true).sum() - F.logsigmoid(noise).sum(), *grads)  # type: ignore[return-value]


def loss_alone_averaged(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Take the mean for the loss and the sum for the gradients."""
    loss, *grads = finished.sgns_loss_and_grads(centre, context, negatives)
    return (loss / len(centre), *grads)  # type: ignore[return-value]


def _with_errors(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Four]:
    """Keep the loss, and finish from other errors than e and e_j."""

    def answer(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
        loss = finished.sgns_loss_and_grads(centre, context, negatives)[0]
        e, e_j = change(*_sgns(centre, context, negatives))
        return _from_errors(loss, e, e_j, centre, context, negatives)

    return answer


def _by_hand(x: Tensor) -> Tensor:
    return x.exp() / (1 + x.exp())


def context_times_itself(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Use u where v belongs."""
    loss, g_centre, _, g_negatives = finished.sgns_loss_and_grads(centre, context, negatives)
    true, _ = _sgns(centre, context, negatives)
    return loss, g_centre, (true.sigmoid() - 1)[:, None] * context, g_negatives


def noise_times_itself(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Use n where v belongs."""
    loss, g_centre, g_context, _ = finished.sgns_loss_and_grads(centre, context, negatives)
    _, noise = _sgns(centre, context, negatives)
    return loss, g_centre, g_context, noise.sigmoid()[:, :, None] * negatives


def centre_averages_noise(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
    """Take the mean over the noise in the centre's gradient alone."""
    loss, _, g_context, g_negatives = finished.sgns_loss_and_grads(centre, context, negatives)
    true, noise = _sgns(centre, context, negatives)
    g_centre = (true.sigmoid() - 1)[:, None] * context
    return (
        loss,
        g_centre + (noise.sigmoid()[:, :, None] * negatives).mean(1),
        g_context,
        g_negatives,
    )


def small_number_in_loss(epsilon: float) -> Callable[..., Four]:
    """Guard the logarithm of the sigmoid by adding to it."""

    def answer(centre: Tensor, context: Tensor, negatives: Tensor) -> Four:
        _, *grads = finished.sgns_loss_and_grads(centre, context, negatives)
        true, noise = _sgns(centre, context, negatives)
        loss = -(true.sigmoid() + epsilon).log().sum() - ((-noise).sigmoid() + epsilon).log().sum()
        return (loss, *grads)  # type: ignore[return-value]

    return answer


SGNS = Exercise(
    name="sgns_loss_and_grads",
    lesson=1,
    points=4,
    probe=probes.sgns_loss_and_grads,
    draw=draw_sgns,
    oracle=oracle_sgns,
    finished=(finished.sgns_loss_and_grads,),
    forbidden=(
        FINISHED,
        "torch.autograd.grad",
        "torch.autograd.backward",
        "torch.autograd.functional",
        "torch.func.grad",
        "torch.func.vjp",
        "torch.func.jacrev",
        "torch.Tensor.backward",
    ),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "averaged over the batch",
            "You took the mean over the batch: loss and gradients are sums, so that the step does not "
            "depend on how many pairs are taken at once.",
            (averaged,),
        ),
        Mistake(
            "noise pulled",
            "You pull the noise words towards the centre: for them the loss is −log σ(−v·n).",
            (noise_pulled,),
        ),
        Mistake(
            "true pair without −1",
            "For the true context the derivative is σ(v·u) − 1, and yours is σ(v·u): it pushes the pair apart.",
            (true_without_minus_one,),
        ),
        Mistake(
            "centre without noise",
            "The noise words are missing from the gradient of the centre: v stands in every term of the loss.",
            (centre_without_noise,),
        ),
        Mistake(
            "centre without context",
            "The true context is missing from the gradient of the centre: v stands in every term of the loss.",
            (centre_without_context,),
        ),
        Mistake(
            "noise averaged",
            "You took the mean over the noise words: the loss is the sum over all k of them.",
            (noise_averaged,),
        ),
        Mistake(
            "ascent",
            "Your gradients have the wrong sign: they are those of the loss, which the training subtracts.",
            (ascent,),
        ),
        Mistake(
            "roles swapped",
            "You returned the gradients in the wrong order: centre first, then context, then negatives.",
            (roles_swapped,),
        ),
        Mistake(
            "log of sigmoid",
            "Your loss is infinite for large dot products: there σ rounds to 0, or the exponential overflows. "
            "`F.logsigmoid(x)` computes log σ(x) safely.",
            (log_of_sigmoid,),
        ),
        Mistake(
            "noise not in the loss",
            "The noise words are missing from your loss: add −log σ(−v·n) for each of them.",
            (noise_not_in_loss,),
        ),
        Mistake(
            "sign of the noise in the loss",
            "Your gradients are right; the loss is not: a noise word's term is −log σ(−v·n), with a minus "
            "inside.",
            (noise_sign_in_loss,),
        ),
        Mistake(
            "loss alone averaged",
            "Your gradients are those of a sum over the batch, and your loss is the mean: return the sum.",
            (loss_alone_averaged,),
        ),
        Mistake(
            "true error turned round",
            "The error of the true pair is e = σ(v·u) − 1; yours is 1 − σ(v·u), which pushes the pair apart.",
            (_with_errors(lambda true, noise: (1 - true.sigmoid(), noise.sigmoid())),),
        ),
        Mistake(
            "−1 for the noise too",
            "The error of a noise word is σ(v·n): nothing is subtracted, since the truth about it is 0.",
            (_with_errors(lambda true, noise: (true.sigmoid() - 1, noise.sigmoid() - 1)),),
        ),
        Mistake(
            "context times itself",
            "In the gradient of the context you multiplied by u: the derivative of v·u for u is v.",
            (context_times_itself,),
        ),
        Mistake(
            "noise times itself",
            "In the gradient of the negatives you multiplied by n: the derivative of v·n for n is v.",
            (noise_times_itself,),
        ),
        Mistake(
            "mean over the noise in the centre",
            "In the gradient of the centre you took the mean over the k noise words: it is their sum.",
            (centre_averages_noise,),
        ),
        Mistake(
            "sigmoid by hand",
            "Your sigmoid is eˣ / (1 + eˣ), which is inf/inf for large x: use `torch.sigmoid`, or 1 / (1 + e⁻ˣ).",
            (_with_errors(lambda true, noise: (_by_hand(true) - 1, _by_hand(noise))),),
        ),
        *(
            Mistake(
                f"{epsilon:g} added in the loss",
                f"You added {epsilon:g} inside the logarithm: that keeps the loss finite but wrong. "
                "`F.logsigmoid(x)` computes log σ(x) for any x.",
                (small_number_in_loss(epsilon),),
            )
            for epsilon in (1e-6, 1e-8, 1e-9, 1e-10)
        ),
    ),
    hints=(
        "Solve it for one pair and one noise word on paper: two dot products, two errors, three gradients. The "
        "text has all of it; the code only adds axes.",
        "`(centre * context).sum(dim=-1)` is (batch,). For the noise, `centre[:, None, :]` is (batch, 1, d) and "
        "broadcasts over the k noise words: multiply by `negatives`, sum over the last axis, and you have "
        "(batch, k).",
        "For the loss use `F.logsigmoid`, not `.sigmoid().log()`: σ(−200) rounds to 0, and log 0 is −∞. For the "
        "errors `torch.sigmoid` is safe: `e = torch.sigmoid(…) - 1` and `e_j = torch.sigmoid(…)`.",
        "An error is one number for each pair, a gradient has d: `e[:, None]` is (batch, 1) and `e_j[:, :, None]` is "
        "(batch, k, 1). The centre's gradient adds up over k; that of the negatives does not, and needs "
        "`centre[:, None, :]` again.",
    ),
)

# --- analogy ---------------------------------------------------------------------------------


def draw_analogy(seed: int) -> list[Case]:
    """Draw vectors of different lengths, and questions about them."""
    g = torch.Generator().manual_seed(seed)

    def case(label: str, n_words: int, d: int, n: int, dtype: torch.dtype = torch.float64) -> Case:
        vectors = torch.randn(n_words, d, generator=g, dtype=dtype)
        # Frequent words have longer vectors: lengths differ by up to a factor of 10.
        vectors = vectors * 10 ** torch.rand(n_words, 1, generator=g, dtype=dtype)
        words = torch.rand(n, n_words, generator=g).argsort(dim=1)[:, :3].T.contiguous()
        return Case(label, {"vectors": vectors, **dict(zip("abc", words.clone()))})

    # Small enough to work through by hand, and drawn until the common slips all show.
    plain = case("two questions, six words", 6, 2, 2)
    while not _tells_apart(plain):
        plain = case("two questions, six words", 6, 2, 2)
    below = case("one question, four words, a negative score", 4, 2, 1)
    if below.inputs["a"] < below.inputs["b"]:  # so that the first of the three is b or c
        below.inputs["a"], below.inputs["b"] = below.inputs["b"], below.inputs["a"]
    unit = _unit(below.inputs["vectors"])
    a, b, c = (below.inputs[name][0] for name in "abc")
    fourth = 6 - int(a + b + c)  # the only answer points away from the target
    below.inputs["vectors"][fourth] = -3 * (unit[b] - unit[a] + unit[c])
    zero = case("a word whose vector is zero", 12, 4, 20)
    zero.inputs["vectors"][3] = 0
    strided = case("non-contiguous vectors, float32", 30, 5, 20, torch.float32)
    strided.inputs["vectors"] = strided.inputs["vectors"].t().contiguous().t()
    return [
        plain,
        below,
        case("one question, many words", 40, 3, 1),
        case("many questions", 50, 6, 40),
        case("many questions, float32, odd width", 60, 7, 40, torch.float32),
        zero,
        strided,
    ]


def _tells_apart(case: Case) -> bool:
    """Tell whether each of the common slips gives another answer than the right one."""
    right = oracle_analogy(**case.inputs)["answers"]
    slips = (no_unit_length, unit_too_late, question_words_allowed, wrong_sign, third_subtracted,
             nothing_subtracted, all_questions_excluded)  # fmt: skip
    return not any(torch.equal(slip(**case.inputs), right) for slip in slips)


def oracle_analogy(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> dict[str, Tensor]:
    """Compare each question with each word by F.cosine_similarity, one after another.

    For unit vectors, cos(x, b) − cos(x, a) + cos(x, c) is x · (b − a + c).
    """
    vectors = vectors.double()
    answers = []
    for asked in zip(a.tolist(), b.tolist(), c.tolist()):
        to_a, to_b, to_c = (
            F.cosine_similarity(vectors, vectors[word : word + 1], dim=1).tolist() for word in asked
        )
        others = [word for word in range(len(vectors)) if word not in asked]
        answers.append(max(others, key=lambda word: to_b[word] - to_a[word] + to_c[word]))
    return {"answers": torch.tensor(answers)}


def _answer(scores: Tensor, *asked: Tensor) -> Tensor:
    return scores.scatter(1, torch.stack(asked, dim=1), -math.inf).argmax(dim=1)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


def no_unit_length(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Take dot products of vectors as they are."""
    return _answer((vectors[b] - vectors[a] + vectors[c]) @ vectors.T, a, b, c)


def unit_too_late(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Add raw vectors and normalise only what is compared."""
    return _answer((vectors[b] - vectors[a] + vectors[c]) @ _unit(vectors).T, a, b, c)


def question_words_allowed(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Exclude nobody."""
    unit = _unit(vectors)
    return ((unit[b] - unit[a] + unit[c]) @ unit.T).argmax(dim=1)


def only_c_excluded(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Exclude the third word alone."""
    unit = _unit(vectors)
    return _answer((unit[b] - unit[a] + unit[c]) @ unit.T, c)


def wrong_sign(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Compute a − b + c."""
    unit = _unit(vectors)
    return _answer((unit[a] - unit[b] + unit[c]) @ unit.T, a, b, c)


def nothing_subtracted(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Compute b + c."""
    unit = _unit(vectors)
    return _answer((unit[b] + unit[c]) @ unit.T, a, b, c)


def nearest_by_distance(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Find the nearest point instead of the nearest direction."""
    return _answer(-torch.cdist(vectors[b] - vectors[a] + vectors[c], vectors), a, b, c)


def score_returned(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the best score instead of the word that has it."""
    unit = _unit(vectors)
    scores = (unit[b] - unit[a] + unit[c]) @ unit.T
    return scores.scatter(1, torch.stack((a, b, c), dim=1), -math.inf).amax(dim=1)


def third_subtracted(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Compute a + b − c."""
    unit = _unit(vectors)
    return _answer((unit[a] + unit[b] - unit[c]) @ unit.T, a, b, c)


def only_two_excluded(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Let a be an answer."""
    unit = _unit(vectors)
    return _answer((unit[b] - unit[a] + unit[c]) @ unit.T, b, c)


def all_questions_excluded(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Exclude the words of all questions from each."""
    unit = _unit(vectors)
    scores = (unit[b] - unit[a] + unit[c]) @ unit.T
    scores[:, torch.cat([a, b, c])] = -math.inf
    return scores.argmax(dim=1)


def excluded_by_zero(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Put 0 where −∞ belongs."""
    unit = _unit(vectors)
    scores = (unit[b] - unit[a] + unit[c]) @ unit.T
    return scores.scatter(1, torch.stack((a, b, c), dim=1), 0.0).argmax(dim=1)


def multiplied(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Score by 3CosMul."""
    return finished.analogy_mul(vectors, a, b, c)


def question_for_each_word(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Take the argmax over the questions."""
    unit = _unit(vectors)
    scores = (unit[b] - unit[a] + unit[c]) @ unit.T
    return scores.scatter(1, torch.stack((a, b, c), dim=1), -math.inf).argmax(dim=0)


def zero_vector_nan(vectors: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Divide a vector of zeros by its length."""
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    return _answer((unit[b] - unit[a] + unit[c]) @ unit.T, a, b, c)


ANALOGY = Exercise(
    name="analogy",
    lesson=1,
    points=3,
    probe=probes.analogy,
    draw=draw_analogy,
    oracle=oracle_analogy,
    finished=(finished.analogy,),
    forbidden=(FINISHED,),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "no unit length",
            "You compare vectors of different lengths, so long ones win: scale all to length 1 first.",
            (no_unit_length,),
        ),
        Mistake(
            "unit length too late",
            "You add the vectors before you scale them to length 1, so the longest of the three decides: "
            "scale all vectors first.",
            (unit_too_late,),
        ),
        Mistake(
            "question words allowed",
            "Your answers are often words of the question itself: exclude a, b and c.",
            (question_words_allowed,),
        ),
        Mistake(
            "only c excluded",
            "You exclude c alone: a and b are no answers either.",
            (only_c_excluded,),
        ),
        Mistake(
            "wrong sign",
            "You computed a − b + c: the step from a to b is b − a, so the target is b − a + c.",
            (wrong_sign,),
        ),
        Mistake(
            "nothing subtracted",
            "You computed b + c: subtract a, so that only the difference between a and b is carried over.",
            (nothing_subtracted,),
        ),
        Mistake(
            "nearest by distance",
            "You looked for the smallest distance between vectors as they are: "
            "compare directions, by the cosine.",
            (nearest_by_distance,),
        ),
        Mistake(
            "score returned",
            "You returned the best score: return the row of the word that has it (`argmax`, not `max`).",
            (score_returned,),
        ),
        Mistake(
            "NaN from a zero vector",
            "A vector of zeros has length 0, and 0/0 is NaN, which `argmax` then takes for the best: "
            "keep the length above 0 with `.clamp(min=…)`.",
            (zero_vector_nan,),
        ),
        Mistake(
            "a + b − c",
            "You computed a + b − c: the first word is the one that is taken away, b − a + c.",
            (third_subtracted,),
        ),
        Mistake(
            "only b and c excluded",
            "You exclude b and c; the first word, a, is no answer either.",
            (only_two_excluded,),
        ),
        Mistake(
            "all questions' words excluded",
            "You exclude the words of every question from all of them, as `scores[:, torch.cat([a, b, c])]` does: "
            "each question has its own three.",
            (all_questions_excluded,),
        ),
        Mistake(
            "excluded by a 0",
            "You put 0 in the place of the question's words, but scores can be negative, and then 0 wins: put −∞.",
            (excluded_by_zero,),
        ),
        Mistake(
            "3CosMul",
            "You multiplied and divided the cosines (3CosMul, which comes next): 3CosAdd adds and subtracts them.",
            (multiplied,),
        ),
        Mistake(
            "a question for each word",
            "You took the best question for each word: take the best word for each question, along the last axis.",
            (question_for_each_word,),
        ),
    ),
    hints=(
        "Three steps: make all lengths 1, score every word for every question, forbid three words in each row.",
        "`vectors.norm(dim=-1, keepdim=True)` holds the lengths, (n_words, 1). Keep them above 0 with `.clamp(min=…)` "
        "before you divide. From then on a dot product is a cosine.",
        "`unit[b]` picks a row for each question, (n, d). So one sum of three such tables gives all targets, and one "
        "matrix product gives all scores, (n, n_words).",
        "`scores.scatter(1, words, -math.inf)` puts −∞ into row i at the places that row i of `words` lists. Stack "
        "a, b and c so that `words` is (n, 3).",
    ),
)

# --- subword_vector --------------------------------------------------------------------------

Table = Mapping[str, Tensor]
NGrams = Callable[[str, int, int], list[str]]


def draw_subwords(seed: int) -> list[Case]:
    """Draw words, and tables that know some of their pieces."""
    rng = random.Random(seed)
    g = torch.Generator().manual_seed(seed)

    def syllables(count: int) -> str:
        return "".join(rng.choice("bdgklmnprst") + rng.choice("aeiou") for _ in range(count))

    def case(
        label: str,
        word: str,
        n_min: int = 3,
        n_max: int = 6,
        known: float = 1.0,
        d: int = 5,
        dtype: torch.dtype = torch.float64,
    ) -> Case:
        pieces = dict.fromkeys(_pieces(word, n_min, n_max))
        kept = [piece for piece in pieces if rng.random() < known]
        # What careless versions ask for is in the table too, so that they give numbers, not errors.
        bare = [word[i : i + n] for n in range(n_min, n_max + 1) for i in range(len(word) - n + 1)]
        names = dict.fromkeys([*kept, *bare, word, "<zz", "zzz>"])
        table = {name: torch.randn(d, generator=g, dtype=dtype) for name in names}
        return Case(label, {"word": word, "table": table, "n_min": n_min, "n_max": n_max})

    twice = syllables(1)
    unknown = case("a word none of whose pieces is known", syllables(2))
    unknown.inputs["table"] = {"<zz": torch.randn(5, generator=g, dtype=torch.float64)}
    return [
        case("a word of one letter", rng.choice("aiou"), d=2),
        case("a word of two letters", syllables(1), d=2),
        case("a word whose pieces repeat", rng.choice("aeiou") + twice * 3),
        case("a longer word, float32", syllables(4), d=7, dtype=torch.float32),
        case("pieces of one length", syllables(3), n_min=2, n_max=2, d=3),
        case("a word shorter than its pieces", syllables(1), n_min=5, n_max=6, d=3),
        case("a word with an accent", syllables(2) + "é", n_min=2, n_max=4),
        case("some pieces are unknown", syllables(5), known=0.6),
        unknown,
    ]


def _pieces(word: str, n_min: int, n_max: int) -> list[str]:
    """Cut out every piece by its two ends."""
    marked = "<" + word + ">"
    ends = range(len(marked) + 1)
    pieces = [marked[i:j] for i in ends for j in ends if n_min <= j - i <= n_max]
    return pieces + [marked] * (not n_min <= len(marked) <= n_max)


def oracle_subwords(word: str, table: Table, n_min: int, n_max: int) -> dict[str, Any]:
    """Add up the known pieces as often as they occur, and divide, in float64."""
    pieces = _pieces(word, n_min, n_max)
    known = Counter(piece for piece in pieces if piece in table)
    some = next(iter(table.values()))
    total = torch.zeros(some.shape, dtype=torch.float64)
    for piece, count in known.items():
        total += count * table[piece].double()
    vector = total / max(1, sum(known.values()))
    return {"pieces": sorted(pieces), "vector": vector.to(some.dtype)}


def _mean_of(ngrams: NGrams) -> tuple[NGrams, Callable[..., Tensor]]:
    """Pair an n-gram function with the right vector of its pieces."""

    def vector(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
        known = [table[piece] for piece in ngrams(word, n_min, n_max) if piece in table]
        if not known:
            return torch.zeros_like(next(iter(table.values())))
        return torch.stack(known).mean(dim=0)

    return ngrams, vector


def _cut(marked: str, n_min: int, n_max: int) -> list[str]:
    return [marked[i : i + n] for n in range(n_min, n_max + 1) for i in range(len(marked) - n + 1)]


def no_marks(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Cut the bare word."""
    pieces = _cut(word, n_min, n_max)
    return pieces if word in pieces else [*pieces, word]


def longest_missing(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Stop the range before n_max."""
    marked = f"<{word}>"
    pieces = _cut(marked, n_min, n_max - 1)
    return pieces if marked in pieces else [*pieces, marked]


def last_missing(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Stop one start too early, so the piece with the end mark is lost at each length."""
    marked = f"<{word}>"
    pieces = [marked[i : i + n] for n in range(n_min, n_max + 1) for i in range(len(marked) - n)]
    return pieces if marked in pieces else [*pieces, marked]


def each_once(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Drop repeated pieces."""
    return list(dict.fromkeys(_pieces(word, n_min, n_max)))


def whole_missing(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Leave out the word itself."""
    return _cut(f"<{word}>", n_min, n_max)


def whole_twice(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Add the word itself even where it is an n-gram already."""
    return [*_cut(f"<{word}>", n_min, n_max), f"<{word}>"]


def whole_unmarked(word: str, n_min: int = 3, n_max: int = 6) -> list[str]:
    """Add the word itself without marks."""
    pieces = _cut(f"<{word}>", n_min, n_max)
    return pieces if f"<{word}>" in pieces else [*pieces, word]


def _known(word: str, table: Table, n_min: int, n_max: int) -> list[Tensor]:
    return [table[piece] for piece in _pieces(word, n_min, n_max) if piece in table]


def summed(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
    """Add the pieces and do not divide."""
    known = _known(word, table, n_min, n_max)
    return torch.stack(known).sum(0) if known else torch.zeros_like(next(iter(table.values())))


def divided_by_all(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
    """Divide by the number of all pieces, unknown ones included."""
    return summed(word, table, n_min, n_max) / len(_pieces(word, n_min, n_max))


def unknown_raises(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
    """Look every piece up."""
    return torch.stack([table[piece] for piece in _pieces(word, n_min, n_max)]).mean(dim=0)


def nothing_known_raises(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
    """Stack an empty list."""
    return torch.stack(_known(word, table, n_min, n_max)).mean(dim=0)


def nothing_known_nan(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
    """Divide zeros by 0."""
    known = _known(word, table, n_min, n_max)
    return summed(word, table, n_min, n_max) / torch.tensor(len(known))


def lengths_not_passed(word: str, table: Table, n_min: int = 3, n_max: int = 6) -> Tensor:
    """Call character_ngrams with its defaults."""
    return finished.subword_vector(word, table)


SUBWORDS = Exercise(
    name="subword_vector",
    lesson=1,
    points=3,
    probe=probes.subword_vector,
    draw=draw_subwords,
    oracle=oracle_subwords,
    finished=(finished.character_ngrams, finished.subword_vector),
    defines=("character_ngrams", "subword_vector"),
    forbidden=(FINISHED, "gensim"),
    minutes=15,
    difficulty=2,
    mistakes=(
        Mistake(
            "no boundary marks",
            "Your pieces lack the marks < and >: cut `<word>`, so that a beginning and an end can be told "
            "from a middle.",
            _mean_of(no_marks),
        ),
        Mistake(
            "longest pieces missing",
            "Pieces of length n_max are missing: `range(n_min, n_max)` stops before n_max.",
            _mean_of(longest_missing),
        ),
        Mistake(
            "last piece missing",
            "The last piece of each length is missing: a text of L characters has L − n + 1 pieces of length n.",
            _mean_of(last_missing),
        ),
        Mistake(
            "each piece once",
            "A piece that occurs twice counts twice: you dropped the repeats.",
            _mean_of(each_once),
        ),
        Mistake(
            "whole word missing",
            "`<word>` itself is missing: it is a piece too, however long it is.",
            _mean_of(whole_missing),
        ),
        Mistake(
            "whole word twice",
            "A short word's `<word>` is one of its n-grams already, and you add it a second time.",
            _mean_of(whole_twice),
        ),
        Mistake(
            "whole word without marks",
            "You add the bare word: the whole word is the piece with both marks, `<word>`.",
            _mean_of(whole_unmarked),
        ),
        Mistake(
            "summed",
            "You added up the pieces' vectors: take their mean, so that long words are not longer vectors.",
            (finished.character_ngrams, summed),
        ),
        Mistake(
            "divided by all pieces",
            "You divided by the number of all pieces: unknown ones take no part, so divide by the known ones.",
            (finished.character_ngrams, divided_by_all),
        ),
        Mistake(
            "unknown piece raises",
            "You look up pieces that the table does not have: skip those.",
            (finished.character_ngrams, unknown_raises),
        ),
        Mistake(
            "nothing known raises",
            "Where no piece is known your code stops: return zeros.",
            (finished.character_ngrams, nothing_known_raises),
        ),
        Mistake(
            "nothing known gives NaN",
            "Where no piece is known you divide 0 by 0, which is NaN: return zeros.",
            (finished.character_ngrams, nothing_known_nan),
        ),
        Mistake(
            "lengths not passed on",
            "Your `subword_vector` forgets `n_min` and `n_max`: pass them on to `character_ngrams`.",
            (finished.character_ngrams, lengths_not_passed),
        ),
    ),
    hints=(
        "Write the pieces of `<at>` (four characters) down by hand, for n = 3 and n = 4. How many are there of each "
        "length, and which one is the whole word?",
        'Put the marks on first: `marked = f"<{word}>"`. The piece of length n that starts at position i is '
        "`marked[i : i + n]`, and i runs from 0 to len(marked) − n.",
        "Two loops: over n from n_min to n_max (`range` stops before its end), and over i. Then the whole word, unless "
        "it is there already.",
        "`subword_vector` keeps the vectors of the pieces that are in `table`, and takes `torch.stack(…).mean(dim=0)`. "
        "Stacking an empty list is an error, so look before; `next(iter(table.values()))` is some vector of the table.",
    ),
)

EXERCISES = (PPMI, ANALOGY, SGNS, SUBWORDS)
