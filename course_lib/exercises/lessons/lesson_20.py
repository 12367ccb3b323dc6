"""Lesson 20, direct preference optimization: what is drawn, what is right, what often goes wrong."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.probes import lesson_20 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.posttraining import dpo as finished

f64 = torch.float64

# --- sequence_logprob ------------------------------------------------------------------------


def draw_sequence_logprob(seed: int) -> list[Case]:
    """Draw logits, tokens and masks: prompts and replies of several lengths."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        mask: list[list[int]],
        words: int,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
    ) -> Case:
        marked = torch.tensor(mask, dtype=torch.bool)
        batch, n = marked.shape
        inputs = {
            "logits": scale * torch.randn(batch, n, words, generator=g, dtype=dtype),
            "ids": torch.randint(words, (batch, n), generator=g),
            "mask": marked,
            "cotangent": torch.randn(batch, generator=g, dtype=dtype),
        }
        return Case(label, inputs)

    impossible = case("an unmarked token of probability 0", [[0, 0, 1, 1]], 5, f64)
    logits, ids = impossible.inputs["logits"], impossible.inputs["ids"]
    ids[0, 1], ids[0, 2:] = 0, ids[0, 2:].clamp(min=1)
    logits[0, 0, 0] = -torch.inf  # token 1, which belongs to the prompt, is foretold with 0
    strided = case("non-contiguous logits", [[0, 0, 1, 1], [0, 1, 1, 0]], 7)
    strided.inputs["logits"] = strided.inputs["logits"].transpose(0, 1).contiguous().transpose(0, 1)
    return [
        case("one row, one token of reply", [[0, 1]], 3, f64),
        case("a prompt of two tokens, a reply of three", [[0, 0, 1, 1, 1]], 4, f64),
        case("replies of several lengths, filler behind", [[0, 1, 1, 0, 0], [0, 0, 1, 1, 1]], 6),
        case("a row whose first token is marked", [[1, 1, 1], [0, 0, 1]], 4, f64),
        case("a row with no marked token", [[0, 0, 0], [0, 1, 1]], 4, f64),
        case("two replies in a row", [[0, 1, 0, 0, 1, 1]], 9),
        case("large logits", [[0, 1, 1, 1], [0, 0, 0, 1]], 5, f64, 400.0),
        impossible,
        strided,
    ]


def oracle_sequence_logprob(
    logits: Tensor, ids: Tensor, mask: Tensor, cotangent: Tensor
) -> dict[str, Tensor]:
    """Add up cross-entropies, token by token."""
    dtype = cotangent.dtype
    logits = logits.detach().double().requires_grad_()
    sums = []
    for row, tokens, marked in zip(logits, ids, mask):
        places = [i for i in range(1, len(tokens)) if marked[i]]
        each = [-F.cross_entropy(row[i - 1][None], tokens[i][None]) for i in places]
        sums.append(torch.stack(each).sum() if each else row.nan_to_num(0, 0, 0).sum() * 0)
    total = torch.stack(sums)
    found = {"log-probability": total, **gradients(total, cotangent.double(), {"logits": logits})}
    return {name: each.detach().to(dtype) for name, each in found.items()}


def _said(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probabilities of all tokens but the first."""
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def _marked(said: Tensor, mask: Tensor) -> Tensor:
    return said.masked_fill(~mask[:, 1:], 0).sum(1)


def not_shifted(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Read each token's probability at its own position."""
    said = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    return said.masked_fill(~mask, 0).sum(1)


def mask_not_shifted(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Cut the last column of the mask instead of the first."""
    return _said(logits, ids).masked_fill(~mask[:, :-1], 0).sum(1)


def shifted_backwards(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Let a position foretell the token before it."""
    said = logits[:, 1:].log_softmax(-1).gather(-1, ids[:, :-1, None]).squeeze(-1)
    return said.masked_fill(~mask[:, :-1], 0).sum(1)


def mean_of_tokens(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Divide by the number of marked tokens."""
    return _marked(_said(logits, ids), mask) / mask[:, 1:].sum(1).clamp(min=1)


def mean_of_positions(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Divide by the length of the row."""
    return _said(logits, ids).masked_fill(~mask[:, 1:], 0).mean(1)


def mask_ignored(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Count the prompt too."""
    return _said(logits, ids).sum(1)


def mask_inverted(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Count what is not marked."""
    return _marked(_said(logits, ids), ~mask)


def no_softmax(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Add up logits."""
    return _marked(logits[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1), mask)


def wrong_axis(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Normalise over positions."""
    said = logits[:, :-1].log_softmax(1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return _marked(said, mask)


def log_underflows(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Take the logarithm of a probability that is rounded to 0."""
    said = logits[:, :-1].softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1).log()
    return _marked(said, mask)


def no_logarithm(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Add up probabilities."""
    return _marked(_said(logits, ids).exp(), mask)


def product(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Return the probability of the reply."""
    return _marked(_said(logits, ids), mask).exp()


def whole_batch(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Add up over the batch too."""
    return _marked(_said(logits, ids), mask).sum()


def by_token(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Do not add up."""
    return _said(logits, ids).masked_fill(~mask[:, 1:], 0)


def likeliest_token(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Take the largest log-probability, whatever the token is."""
    return _marked(logits[:, :-1].log_softmax(-1).max(-1).values, mask)


def loss_returned(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Return the negative log-probability."""
    return -_marked(_said(logits, ids), mask)


def times_the_mask(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Multiply by the mask, so that −∞ · 0 is NaN."""
    return (_said(logits, ids) * mask[:, 1:]).sum(1)


def graph_cut(logits: Tensor, ids: Tensor, mask: Tensor) -> Any:
    """Compute without gradient."""
    return _marked(_said(logits, ids), mask).detach()


SEQUENCE_LOGPROB = Exercise(
    name="sequence_logprob",
    lesson=20,
    points=3,
    probe=probes.sequence_logprob,
    draw=draw_sequence_logprob,
    oracle=oracle_sequence_logprob,
    finished=(finished.sequence_logprob,),
    forbidden=("course_lib.posttraining.dpo", "course_lib.posttraining.replies"),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "not shifted",
            "You read each token's probability at its own position: the logits at position i are about token "
            "i + 1.",
            (not_shifted,),
        ),
        Mistake(
            "mask not shifted",
            "Your tokens begin with the second, your mask with the first: shift the mask as you shift the ids.",
            (mask_not_shifted,),
        ),
        Mistake(
            "shifted backwards",
            "You compare each position's logits with the token before it: they are about the token behind it.",
            (shifted_backwards,),
        ),
        Mistake(
            "mean of the tokens",
            "You return the mean of the marked tokens: the log-probability of a reply is their sum.",
            (mean_of_tokens,),
        ),
        Mistake(
            "mean of the positions",
            "You take the mean over the whole row: the log-probability of a reply is a sum.",
            (mean_of_positions,),
        ),
        Mistake(
            "mask ignored",
            "You count every token, the prompt's and the filler's too: only marked ones belong to the reply.",
            (mask_ignored,),
        ),
        Mistake(
            "mask inverted",
            "You count what is not marked: the mask is True for the tokens of the reply.",
            (mask_inverted,),
        ),
        Mistake(
            "no softmax",
            "You add up logits: `log_softmax` over the vocabulary makes log-probabilities of them.",
            (no_softmax,),
        ),
        Mistake(
            "softmax over positions",
            "Your softmax runs over the positions: at each position the probabilities of all words must sum to 1.",
            (wrong_axis,),
        ),
        Mistake(
            "logarithm of a rounded 0",
            "A small probability is rounded to 0 before you take its logarithm: use `log_softmax`, which does "
            "both at once.",
            (log_underflows,),
        ),
        Mistake(
            "no logarithm",
            "You add up probabilities: multiply them, that is, add up their logarithms.",
            (no_logarithm,),
        ),
        Mistake(
            "probability returned",
            "You return the probability of the reply: its logarithm is asked for, which does not vanish for long "
            "replies.",
            (product,),
        ),
        Mistake(
            "summed over the batch",
            "You return one number for the whole batch: each row has its own sum.",
            (whole_batch,),
        ),
        Mistake(
            "not summed",
            "You return a number for each token: add them up along each row.",
            (by_token,),
        ),
        Mistake(
            "the likeliest token",
            "You take each position's largest log-probability: `gather` picks that of the token which stands there.",
            (likeliest_token,),
        ),
        Mistake(
            "the loss",
            "You return the negative log-probability: log-probabilities are 0 or less, and so is their sum.",
            (loss_returned,),
        ),
        Mistake(
            "minus infinity times 0",
            "You multiply by the mask, and −∞ · 0 is NaN: an unmarked token may have probability 0. "
            "`masked_fill(~mask, 0)` forgets it.",
            (times_the_mask,),
        ),
        Mistake(
            "graph cut",
            "The right numbers, but no gradient reaches the logits: do not use `detach`, `item` or `no_grad` here.",
            (graph_cut,),
        ),
    ),
    hints=(
        "How many tokens of a row of n are foretold by something? Which logits are about the first of them, and "
        "which logits are about nothing that you have?",
        "`logits[:, :-1]` foretell `ids[:, 1:]`; the mask is cut like the ids. `log_softmax(dim=-1)`, then "
        "`gather` along the last axis with `ids[:, 1:, None]` picks the log-probability of each token.",
        "Put 0 where the mask is False (`masked_fill(~mask[:, 1:], 0)`; a product with the mask would make NaN of "
        "−∞) and add up along each row.",
    ),
)

# --- dpo_loss --------------------------------------------------------------------------------


def _pairs(
    g: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype, scale: float
) -> dict[str, Tensor]:
    """Draw log-probabilities of a policy and of its reference for pairs of replies."""
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    found = {
        name: -scale * (1 + 2 * torch.rand(*shape, generator=g, dtype=dtype)) for name in names
    }
    return {**found, "cotangent": torch.randn(*shape, generator=g, dtype=dtype)}


def draw_dpo_loss(seed: int) -> list[Case]:
    """Draw pairs: alone, in batches, and in a table of all with all."""
    g = torch.Generator().manual_seed(seed)
    at_reference = _pairs(g, (2,), f64, 5.0)
    at_reference["chosen"] = at_reference["reference_chosen"].clone()
    at_reference["rejected"] = at_reference["reference_rejected"].clone()
    far = _pairs(g, (4,), f64, 20.0)
    far["chosen"] = far["chosen"] + 9000.0 * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=f64)
    table = _pairs(g, (3, 4), f64, 2.0)
    for name in ("chosen", "reference_chosen"):
        table[name] = table[name][:, :1]
    for name in ("rejected", "reference_rejected"):
        table[name] = table[name][:1]
    strided = {name: each.T for name, each in _pairs(g, (2, 3), torch.float32, 8.0).items()}
    return [
        Case("one pair", {**_pairs(g, (1,), f64, 3.0), "beta": 1.0}),
        Case("one pair, β a half", {**_pairs(g, (1,), f64, 3.0), "beta": 0.5}),
        Case("five pairs", {**_pairs(g, (5,), torch.float32, 10.0), "beta": 0.1}),
        Case("a policy that is the reference", {**at_reference, "beta": 0.3}),
        Case("margins far from 0", {**far, "beta": 0.7}),
        Case("a table of all chosen with all rejected", {**table, "beta": 0.4}),
        Case("non-contiguous tensors", {**strided, "beta": 2.0}),
    ]


def oracle_dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Take the cross-entropy between two replies whose logits are their implicit rewards."""
    dtype = cotangent.dtype
    chosen, rejected = (each.detach().double().requires_grad_() for each in (chosen, rejected))
    first = beta * (chosen - reference_chosen.double())
    second = beta * (rejected - reference_rejected.double())
    first, second = torch.broadcast_tensors(first, second)
    logits = torch.stack([first, second], dim=-1)
    loss = logits.logsumexp(-1) - first
    wrt = {"chosen": chosen, "rejected": rejected}
    found = {"loss": loss, **gradients(loss, cotangent.double(), wrt)}
    return {name: each.detach().to(dtype) for name, each in found.items()}


def _margin(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor) -> Tensor:
    return (c - rc) - (r - rr)


def no_reference(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Leave the reference out."""
    return -F.logsigmoid(beta * (c - r + 0 * (rc - rr)))


def reference_added(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Add the reference's margin."""
    return -F.logsigmoid(beta * ((c - r) + (rc - rr)))


def brackets_lost(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Subtract the reference's log-probability of the rejected reply too."""
    return -F.logsigmoid(beta * (c - rc - r - rr))


def swapped(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Prefer what was rejected."""
    return -F.logsigmoid(-beta * _margin(c, r, rc, rr))


def log_of_sigmoid(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Take the logarithm of a sigmoid that is rounded to 0."""
    return -torch.sigmoid(beta * _margin(c, r, rc, rr)).log()


def beta_outside(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Multiply the loss by β."""
    return -beta * F.logsigmoid(_margin(c, r, rc, rr))


def beta_forgotten(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Leave β out."""
    return -F.logsigmoid(_margin(c, r, rc, rr))


def beta_divides(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Divide by β."""
    return -F.logsigmoid(_margin(c, r, rc, rr) / beta)


def beta_on_policy(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Scale the policy's margin alone."""
    return -F.logsigmoid(beta * (c - r) - (rc - rr))


def sign_forgotten(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Return the log-likelihood."""
    return F.logsigmoid(beta * _margin(c, r, rc, rr))


def no_log(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Return a probability."""
    return 1 - torch.sigmoid(beta * _margin(c, r, rc, rr))


def no_sigmoid(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Return the negative margin."""
    return -beta * _margin(c, r, rc, rr)


def hinge(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Let the loss end at a margin of 1."""
    return torch.relu(1 - beta * _margin(c, r, rc, rr))


def quotient_of_logs(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Divide log-probabilities."""
    return -F.logsigmoid(beta * (c / rc - r / rr))


def quotient_of_probabilities(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Forget to take the logarithm of the ratios."""
    return -F.logsigmoid(beta * ((c - rc).exp() - (r - rr).exp()))


def each_alone(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Judge both replies alone, not against each other."""
    return -F.logsigmoid(beta * (c - rc)) - F.logsigmoid(-beta * (r - rr))


def averaged(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Return the mean."""
    return -F.logsigmoid(beta * _margin(c, r, rc, rr)).mean()


def summed(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Return the sum."""
    return -F.logsigmoid(beta * _margin(c, r, rc, rr)).sum()


def rejected_cut(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Any:
    """Let no gradient through the rejected reply."""
    return -F.logsigmoid(beta * _margin(c, r.detach(), rc, rr))


DPO_LOSS = Exercise(
    name="dpo_loss",
    lesson=20,
    points=3,
    probe=probes.dpo_loss,
    draw=draw_dpo_loss,
    oracle=oracle_dpo_loss,
    finished=(finished.dpo_loss,),
    forbidden=("course_lib.posttraining.dpo", "trl"),
    minutes=10,
    difficulty=2,
    mistakes=(
        Mistake(
            "no reference",
            "You left the reference out: the reward of a reply is β · (log π − log π_ref).",
            (no_reference,),
        ),
        Mistake(
            "reference added",
            "You add the reference's margin: it is subtracted, since the reward is a log-ratio.",
            (reference_added,),
        ),
        Mistake(
            "brackets lost",
            "You subtract `reference_rejected`: a whole log-ratio is subtracted, rejected − reference_rejected, "
            "so its reference is added.",
            (brackets_lost,),
        ),
        Mistake(
            "swapped",
            "Your loss falls when the rejected reply gains: the chosen one's log-ratio comes first.",
            (swapped,),
        ),
        Mistake(
            "logarithm of a rounded 0",
            "For a margin far below 0 your loss is infinite: the sigmoid is rounded to 0, or e to the minus margin is "
            "too large for a float. `F.logsigmoid` computes log σ safely.",
            (log_of_sigmoid,),
        ),
        Mistake(
            "β outside",
            "β stands before your logarithm: it belongs inside, to the margin.",
            (beta_outside,),
        ),
        Mistake("β forgotten", "You never use β.", (beta_forgotten,)),
        Mistake("divided by β", "You divide the margin by β: it is multiplied.", (beta_divides,)),
        Mistake(
            "β on the policy alone",
            "β multiplies your policy's margin and not the reference's: it belongs to both.",
            (beta_on_policy,),
        ),
        Mistake(
            "sign forgotten",
            "You return log σ, which is to be large: the loss is its negative.",
            (sign_forgotten,),
        ),
        Mistake(
            "no logarithm",
            "You return the probability that the pair is judged wrongly: the loss is −log of the probability that "
            "it is judged rightly.",
            (no_log,),
        ),
        Mistake(
            "no sigmoid",
            "You return the margin with its sign turned: without log σ nothing ever stops it from growing.",
            (no_sigmoid,),
        ),
        Mistake(
            "hinge",
            "Your loss is a hinge, max(0, 1 − x): DPO's is −log σ(x), from Bradley and Terry.",
            (hinge,),
        ),
        Mistake(
            "quotient of logarithms",
            "You divide log-probabilities: the logarithm of a ratio is their difference.",
            (quotient_of_logs,),
        ),
        Mistake(
            "quotient of probabilities",
            "You compare ratios of probabilities: the reward is the logarithm of the ratio.",
            (quotient_of_probabilities,),
        ),
        Mistake(
            "each alone",
            "You judge the two replies each by itself: log σ is taken once, of the difference of their rewards.",
            (each_alone,),
        ),
        Mistake(
            "averaged",
            "You return the mean: return the loss of each pair, and let the caller average.",
            (averaged,),
        ),
        Mistake(
            "summed",
            "You return the sum: return the loss of each pair, and let the caller average.",
            (summed,),
        ),
        Mistake(
            "rejected reply cut off",
            "No gradient reaches the rejected replies: both log-probabilities of the policy are learnt.",
            (rejected_cut,),
        ),
    ),
    hints=(
        "Write down the reward of each of the two replies first. What does the partition function do in their "
        "difference?",
        "The reward of a reply is β · (log π − log π_ref). Bradley and Terry: P(chosen is preferred) is σ of the "
        "difference of the rewards. The loss is −log of that.",
        "A sigmoid that is rounded to 0 has no logarithm. `F.logsigmoid(x)` computes log σ(x) for any x; give it "
        "β times (chosen − reference_chosen) − (rejected − reference_rejected), and turn the sign.",
    ),
)

# --- ipo_loss --------------------------------------------------------------------------------


def draw_ipo_loss(seed: int) -> list[Case]:
    """Draw pairs, some with the numbers of their tokens."""
    g = torch.Generator().manual_seed(seed)

    def lengths(n: int) -> tuple[Tensor, Tensor]:
        first = torch.randint(1, 9, (n,), generator=g)
        return first, first + torch.randint(1, 9, (n,), generator=g)

    settled = _pairs(g, (3,), f64, 4.0)
    margin = settled["rejected"] - settled["reference_rejected"]
    settled["chosen"] = settled["reference_chosen"] + margin + 1 / (2 * 0.5)
    strided = {name: each.T for name, each in _pairs(g, (2, 3), torch.float32, 3.0).items()}
    return [
        Case("one pair", {**_pairs(g, (1,), f64, 3.0), "tau": 1.0, "average": None}),
        Case("one pair, τ a quarter", {**_pairs(g, (1,), f64, 3.0), "tau": 0.25, "average": None}),
        Case("five pairs", {**_pairs(g, (5,), torch.float32, 5.0), "tau": 0.1, "average": None}),
        Case("margins that are as wanted", {**settled, "tau": 0.5, "average": None}),
        Case(
            "one pair, averaged over tokens",
            {**_pairs(g, (1,), f64, 9.0), "tau": 0.5, "average": lengths(1)},
        ),
        Case(
            "four pairs, averaged over tokens",
            {**_pairs(g, (4,), f64, 9.0), "tau": 0.2, "average": lengths(4)},
        ),
        Case("non-contiguous tensors", {**strided, "tau": 2.0, "average": None}),
    ]


def oracle_ipo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    tau: float,
    average: tuple[Tensor, Tensor] | None,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Multiply the square out, and write its derivative down."""
    dtype = cotangent.dtype
    c, r, rc, rr = (
        each.double() for each in (chosen, rejected, reference_chosen, reference_rejected)
    )
    ones = torch.ones_like(c)
    n_c, n_r = (ones, ones) if average is None else (each.double() for each in average)
    margin = c / n_c - rc / n_c - r / n_r + rr / n_r
    slope = cotangent.double() * (2 * margin - 1 / tau)
    found = {
        "loss": margin * margin - margin / tau + 1 / (4 * tau * tau),
        "gradient of chosen": slope / n_c,
        "gradient of rejected": -slope / n_r,
    }
    return {name: each.detach().to(dtype) for name, each in found.items()}


def _ratios(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, average: Any) -> tuple[Tensor, Tensor]:
    first, second = c - rc, r - rr
    return (first, second) if average is None else (first / average[0], second / average[1])


def ipo_no_reference(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Leave the reference out."""
    first, second = _ratios(c, r, 0 * rc, 0 * rr, average)
    return (first - second - 1 / (2 * tau)) ** 2


def ipo_target_doubled(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Aim at 1/τ."""
    first, second = _ratios(c, r, rc, rr, average)
    return (first - second - 1 / tau) ** 2


def ipo_target_half_tau(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Read 1/2τ from left to right."""
    first, second = _ratios(c, r, rc, rr, average)
    return (first - second - 1 / 2 * tau) ** 2


def ipo_margin_scaled(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Multiply the margin by τ and aim at a half."""
    first, second = _ratios(c, r, rc, rr, average)
    return (tau * (first - second) - 1 / 2) ** 2


def ipo_margin_only_scaled(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Multiply the margin by τ, as DPO does by β, and aim at 1/(2τ) all the same."""
    first, second = _ratios(c, r, rc, rr, average)
    return (tau * (first - second) - 1 / (2 * tau)) ** 2


def ipo_one_sided(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Forgive margins above the target."""
    first, second = _ratios(c, r, rc, rr, average)
    return torch.relu(1 / (2 * tau) - (first - second)) ** 2


def ipo_absolute(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Take the absolute distance."""
    first, second = _ratios(c, r, rc, rr, average)
    return (first - second - 1 / (2 * tau)).abs()


def ipo_swapped(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Prefer what was rejected."""
    first, second = _ratios(c, r, rc, rr, average)
    return (second - first - 1 / (2 * tau)) ** 2


def ipo_sigmoid(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Write DPO's loss."""
    first, second = _ratios(c, r, rc, rr, average)
    return -F.logsigmoid(tau * (first - second))


def ipo_never_averaged(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Ignore the numbers of tokens."""
    return ((c - rc) - (r - rr) - 1 / (2 * tau)) ** 2


def ipo_reference_not_averaged(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Average the policy alone."""
    if average is not None:
        c, r = c / average[0], r / average[1]
    return ((c - rc) - (r - rr) - 1 / (2 * tau)) ** 2


def ipo_averaged_by_chosen(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Divide both by the length of the chosen reply."""
    first, second = _ratios(c, r, rc, rr, average and (average[0], average[0]))
    return (first - second - 1 / (2 * tau)) ** 2


def ipo_lengths_swapped(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Divide each by the other's length."""
    first, second = _ratios(c, r, rc, rr, average and average[::-1])
    return (first - second - 1 / (2 * tau)) ** 2


def ipo_margin_averaged(
    c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None
) -> Any:
    """Divide the margin by all tokens of the pair."""
    margin = (c - rc) - (r - rr)
    if average is not None:
        margin = margin / (average[0] + average[1])
    return (margin - 1 / (2 * tau)) ** 2


def ipo_mean(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, tau: float, average: Any = None) -> Any:
    """Return the mean over pairs."""
    first, second = _ratios(c, r, rc, rr, average)
    return ((first - second - 1 / (2 * tau)) ** 2).mean()


IPO_LOSS = Exercise(
    name="ipo_loss",
    lesson=20,
    points=2,
    probe=probes.ipo_loss,
    draw=draw_ipo_loss,
    oracle=oracle_ipo_loss,
    finished=(finished.ipo_loss,),
    forbidden=("course_lib.posttraining.dpo", "trl"),
    minutes=8,
    difficulty=2,
    mistakes=(
        Mistake(
            "no reference",
            "You left the reference out: IPO too compares log-ratios, log π − log π_ref.",
            (ipo_no_reference,),
        ),
        Mistake(
            "target 1/τ",
            "Your margin is drawn to 1/τ: the target is half of that, 1 / (2τ).",
            (ipo_target_doubled,),
        ),
        Mistake(
            "margin alone times τ",
            "You multiply the margin by τ, as DPO does by β: here τ stands in the target alone.",
            (ipo_margin_only_scaled,),
        ),
        Mistake(
            "no loss above the target",
            "You forgive margins above the target: a margin that is too large has a loss again, and is pulled back.",
            (ipo_one_sided,),
        ),
        Mistake(
            "target τ/2",
            "`1 / 2 * tau` is τ/2 in Python: write `1 / (2 * tau)`.",
            (ipo_target_half_tau,),
        ),
        Mistake(
            "margin times τ",
            "You multiply the margin by τ and aim at 1/2: the smallest loss is at the same place, but the loss is "
            "τ² times what it should be.",
            (ipo_margin_scaled,),
        ),
        Mistake(
            "absolute",
            "You take the absolute distance from the target: it is squared.",
            (ipo_absolute,),
        ),
        Mistake(
            "swapped",
            "Your loss is smallest where the margin is −1 / (2τ): the margin is the chosen reply's log-ratio minus the "
            "rejected one's, and the target is subtracted from it.",
            (ipo_swapped,),
        ),
        Mistake(
            "DPO's loss",
            "This is DPO's −log σ: IPO squares the distance of the margin from its target.",
            (ipo_sigmoid,),
        ),
        Mistake(
            "never averaged",
            "You never use `average`: where it is given, each log-ratio is divided by its number of tokens.",
            (ipo_never_averaged,),
        ),
        Mistake(
            "reference not averaged",
            "You divide the policy's log-probabilities by the numbers of tokens, and not the reference's: divide the "
            "log-ratios.",
            (ipo_reference_not_averaged,),
        ),
        Mistake(
            "one length for both",
            "You divide both log-ratios by the chosen reply's number of tokens: `average[1]` is the rejected one's.",
            (ipo_averaged_by_chosen,),
        ),
        Mistake(
            "lengths swapped",
            "You divide each log-ratio by the other reply's number of tokens: the chosen one's comes first.",
            (ipo_lengths_swapped,),
        ),
        Mistake(
            "margin averaged",
            "You divide the margin by the tokens of both replies together: each log-ratio is divided by its own "
            "number, before they are subtracted.",
            (ipo_margin_averaged,),
        ),
        Mistake(
            "mean over pairs",
            "You return the mean over pairs: return the loss of each.",
            (ipo_mean,),
        ),
    ),
    hints=(
        "Only the last step differs from DPO: the same margin of two log-ratios, and another function of it. For "
        "which margin is the loss 0?",
        "The loss is the squared distance of the margin from 1 / (2τ). Mind Python's order: `1 / 2 * tau` is τ/2.",
        "Name the two log-ratios first: `ratio_chosen = chosen - reference_chosen`, and the same for the rejected. If "
        "`average` is given, divide the first by `average[0]` and the second by `average[1]`. Then subtract, "
        "subtract the target, square.",
    ),
)

# --- kto_loss --------------------------------------------------------------------------------


def draw_kto_loss(seed: int) -> list[Case]:
    """Draw replies with thumbs, and replies that belong to other prompts."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        liked: list[int],
        beta: float,
        away: float = 1.0,
        weights: tuple[float, float] | None = None,
        dtype: torch.dtype = f64,
    ) -> Case:
        n = len(liked)
        reference = -2 - 4 * torch.rand(n, generator=g, dtype=dtype)
        mismatched = -5 - 9 * torch.rand(n, generator=g, dtype=dtype)
        return Case(
            label,
            {
                "policy": reference + 2 * torch.randn(n, generator=g, dtype=dtype),
                "reference": reference,
                "liked": torch.tensor(liked, dtype=torch.bool),
                # the differences lie on both sides of 0, and their mean has the sign of `away`
                "policy_mismatched": mismatched
                + away
                + (2 * torch.linspace(-1, 1, n, dtype=dtype) if n > 1 else 0),
                "reference_mismatched": mismatched,
                "beta": beta,
                "weights": weights,
                "cotangent": torch.randn(n, generator=g, dtype=dtype),
            },
        )

    strided = case("non-contiguous tensors", [1, 0, 1, 0, 0, 1], 0.2)
    for name in ("policy", "reference", "liked", "policy_mismatched", "reference_mismatched"):
        strided.inputs[name] = torch.stack([strided.inputs[name]] * 2, dim=1)[:, 0]
    return [
        case("one reply, liked, reference point 0", [1], 1.0, -1.0),
        case("one reply, disliked, reference point 0", [0], 1.0, -1.0),
        case("one reply, liked, reference point above 0", [1], 0.5),
        case("three replies", [1, 0, 1], 0.5),
        case("three replies, mean difference below 0", [0, 1, 0], 0.5, -0.7),
        case("six replies, float32", [1, 1, 0, 0, 1, 0], 0.1, 0.4, None, torch.float32),
        case("two weights", [1, 0, 0, 1], 0.3, 0.6, (1.0, 2.5)),
        case("all disliked, two weights", [0, 0], 0.8, 0.5, (3.0, 0.5)),
        strided,
    ]


def oracle_kto_loss(
    policy: Tensor,
    reference: Tensor,
    liked: Tensor,
    policy_mismatched: Tensor,
    reference_mismatched: Tensor,
    beta: float,
    weights: tuple[float, float] | None,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Go through the replies one by one, and write the derivative of the sigmoid down."""
    dtype = cotangent.dtype
    ratios = (policy.double() - reference.double()).tolist()
    away = (policy_mismatched.double() - reference_mismatched.double()).tolist()
    point = max(sum(away) / len(away), 0.0)
    loss, slope = [], []
    for ratio, good in zip(ratios, liked.tolist()):
        weight = (weights or (1.0, 1.0))[0 if good else 1]
        sign = 1.0 if good else -1.0
        wrong = torch.sigmoid(torch.tensor(-sign * beta * (ratio - point), dtype=f64)).item()
        loss.append(weight * wrong)
        slope.append(-weight * sign * beta * wrong * (1 - wrong))
    found = {
        "loss": torch.tensor(loss, dtype=f64),
        "gradient of policy": torch.tensor(slope, dtype=f64) * cotangent.double(),
        "gradient of policy_mismatched": torch.zeros_like(policy_mismatched),
    }
    return {name: each.to(dtype) for name, each in found.items()}


def _kto(
    p: Tensor, r: Tensor, liked: Tensor, point: Any, beta: float, up: float, down: float
) -> Tensor:
    gain = p - r - point
    value = torch.sigmoid(beta * torch.where(liked, gain, -gain))
    return torch.where(liked, up, down) * (1 - value)


def _point(pm: Tensor, rm: Tensor) -> Tensor:
    return (pm - rm).mean().clamp(min=0).detach()


def kto_no_point(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Count gains from 0."""
    return _kto(p, r, liked, 0.0, beta, up, down)


def kto_point_not_clamped(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Let the estimate fall below 0."""
    return _kto(p, r, liked, (pm - rm).mean().detach(), beta, up, down)


def kto_point_absolute(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Take the mean without its sign."""
    return _kto(p, r, liked, (pm - rm).mean().abs().detach(), beta, up, down)


def kto_clamped_first(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Clamp each difference before the mean."""
    return _kto(p, r, liked, (pm - rm).clamp(min=0).mean().detach(), beta, up, down)


def kto_point_summed(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Add the differences up."""
    return _kto(p, r, liked, (pm - rm).sum().clamp(min=0).detach(), beta, up, down)


def kto_point_of_each(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Give each reply a point of its own."""
    return _kto(p, r, liked, (pm - rm).clamp(min=0).detach(), beta, up, down)


def kto_point_learnt(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Let the gradient go through the point."""
    return _kto(p, r, liked, (pm - rm).mean().clamp(min=0), beta, up, down)


def kto_point_of_the_pairs(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Estimate the point with the replies themselves."""
    return _kto(p, r, liked, _point(p, r), beta, up, down)


def kto_point_added(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Add the point."""
    return _kto(p, r, liked, -_point(pm, rm), beta, up, down)


def kto_point_outside_beta(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Subtract the point after scaling."""
    return _kto(p, r, liked, _point(pm, rm) / beta, beta, up, down)


def kto_all_liked(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Turn no sign for disliked replies."""
    value = torch.sigmoid(beta * (p - r - _point(pm, rm)))
    return torch.where(liked, up, down) * (1 - value)


def kto_sign_of_ratio_only(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Turn the ratio's sign and not the point's."""
    ratio = torch.where(liked, p - r, r - p)
    return torch.where(liked, up, down) * (1 - torch.sigmoid(beta * (ratio - _point(pm, rm))))


def kto_swapped(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Return the value."""
    gain = p - r - _point(pm, rm)
    return torch.where(liked, up, down) * torch.sigmoid(beta * torch.where(liked, gain, -gain))


def kto_constant_dropped(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Return minus the value."""
    gain = p - r - _point(pm, rm)
    return -torch.where(liked, up, down) * torch.sigmoid(beta * torch.where(liked, gain, -gain))


def kto_logarithm(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Take −log σ, as DPO does."""
    gain = p - r - _point(pm, rm)
    return -torch.where(liked, up, down) * F.logsigmoid(beta * torch.where(liked, gain, -gain))


def kto_beta_forgotten(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Leave β out."""
    return _kto(p, r, liked, _point(pm, rm), 1.0, up, down)


def kto_no_reference(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Leave the reference out."""
    return _kto(p, 0 * r, liked, _point(pm, rm), beta, up, down)


def kto_weights_ignored(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Weigh all replies alike."""
    return _kto(p, r, liked, _point(pm, rm), beta, 1.0, 1.0)


def kto_weights_swapped(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Give each kind the other's weight."""
    return _kto(p, r, liked, _point(pm, rm), beta, down, up)


def kto_mean(
    p: Tensor, r: Tensor, liked: Tensor, pm: Tensor, rm: Tensor, beta: float,
    up: float = 1.0, down: float = 1.0,
) -> Any:  # fmt: skip
    """Return the mean over replies."""
    return _kto(p, r, liked, _point(pm, rm), beta, up, down).mean()


KTO_LOSS = Exercise(
    name="kto_loss",
    lesson=20,
    points=4,
    probe=probes.kto_loss,
    draw=draw_kto_loss,
    oracle=oracle_kto_loss,
    finished=(finished.kto_loss,),
    forbidden=("course_lib.posttraining.dpo", "trl"),
    minutes=18,
    difficulty=3,
    mistakes=(
        Mistake(
            "no reference point",
            "You count gains from 0: subtract the reference point z₀ from the log-ratio.",
            (kto_no_point,),
        ),
        Mistake(
            "point below 0",
            "Your reference point may fall below 0: it estimates a KL divergence, so a negative mean becomes 0.",
            (kto_point_not_clamped,),
        ),
        Mistake(
            "sign of the point dropped",
            "You take the absolute value of the mean: where it is below 0 the reference point is 0.",
            (kto_point_absolute,),
        ),
        Mistake(
            "clamped before the mean",
            "You clamp each difference before the mean: take the mean first, then clamp it.",
            (kto_clamped_first,),
        ),
        Mistake(
            "point summed",
            "You add the mismatched differences up: the reference point is their mean.",
            (kto_point_summed,),
        ),
        Mistake(
            "a point for each reply",
            "You subtract from each reply a mismatched difference of its own: there is one reference point for the "
            "batch, their mean.",
            (kto_point_of_each,),
        ),
        Mistake(
            "point learnt",
            "A gradient goes through your reference point: `.detach()` it.",
            (kto_point_learnt,),
        ),
        Mistake(
            "point from the replies",
            "You estimate the reference point with the replies themselves: that is what `policy_mismatched` and "
            "`reference_mismatched` are for.",
            (kto_point_of_the_pairs,),
        ),
        Mistake(
            "point added",
            "You add the reference point to the log-ratio: gains are what lies above it, so subtract.",
            (kto_point_added,),
        ),
        Mistake(
            "point outside β",
            "You subtract the reference point from β times the log-ratio: β multiplies their difference.",
            (kto_point_outside_beta,),
        ),
        Mistake(
            "disliked as liked",
            "Your disliked replies are treated like liked ones: for them the sign inside σ turns.",
            (kto_all_liked,),
        ),
        Mistake(
            "sign of the ratio only",
            "For disliked replies you turn the sign of the log-ratio and not that of the reference point: the whole "
            "gain turns, z₀ − (log π − log π_ref).",
            (kto_sign_of_ratio_only,),
        ),
        Mistake(
            "value returned",
            "You return the value, which is to grow: the loss is weight · (1 − σ(…)).",
            (kto_swapped,),
        ),
        Mistake(
            "constant dropped",
            "You return −weight · σ(…): its gradient is right, but the loss is weight · (1 − σ(…)), which is never "
            "negative.",
            (kto_constant_dropped,),
        ),
        Mistake(
            "logarithm taken",
            "You take −log σ, as in DPO: KTO's value is σ itself, so that no single reply can cost more than its "
            "weight.",
            (kto_logarithm,),
        ),
        Mistake("β never used", "You leave β out: it multiplies the gain.", (kto_beta_forgotten,)),
        Mistake(
            "no reference policy",
            "You leave the reference's log-probabilities out: the gain is of a log-ratio.",
            (kto_no_reference,),
        ),
        Mistake(
            "weights ignored",
            "You never use `weight_liked` and `weight_disliked`.",
            (kto_weights_ignored,),
        ),
        Mistake(
            "weights swapped",
            "Your weights are swapped: liked replies have `weight_liked`.",
            (kto_weights_swapped,),
        ),
        Mistake(
            "mean over replies",
            "You return the mean over replies: return the loss of each.",
            (kto_mean,),
        ),
    ),
    hints=(
        "Three steps: one number for the whole batch (the reference point z₀), a gain for each reply, a loss for each "
        "reply. Begin with z₀; it is a measuring mark, and nothing is to be learnt from it.",
        "z₀ is the mean of policy_mismatched − reference_mismatched; then `.clamp(min=0)`, then `.detach()`. The gain "
        "is policy − reference − z₀. What does a disliked reply want to do with its gain?",
        "`torch.where(liked, gain, -gain)` turns the sign for disliked replies. With σ of β times that, the loss is "
        "the reply's weight times (1 − σ): once more `torch.where(liked, …, …)`.",
    ),
)

EXERCISES = (SEQUENCE_LOGPROB, DPO_LOSS, IPO_LOSS, KTO_LOSS)
