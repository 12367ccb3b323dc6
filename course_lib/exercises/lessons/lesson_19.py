"""Lesson 19, RLHF: what is drawn, what is right, what often goes wrong."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import lfilter
from torch import Tensor

from course_lib.exercises.probes import lesson_19 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.posttraining import ppo, rewards

f64 = torch.float64
Two = tuple[Tensor, Tensor]

# --- reward_loss -----------------------------------------------------------------------------


def draw_reward_loss(seed: int) -> list[Case]:
    """Draw scores of pairs: near and far apart, equal, one pair and many."""
    g = torch.Generator().manual_seed(seed)

    def case(label: str, chosen: Tensor, rejected: Tensor) -> Case:
        return Case(label, {"chosen": chosen, "rejected": rejected})

    def scores(n: int, dtype: torch.dtype = f64, size: float = 1.0) -> Tensor:
        return size * torch.randn(n, generator=g, dtype=dtype)

    strided = scores(14)[::2]
    return [
        case("one pair", scores(1), scores(1)),
        case("one pair with equal scores", torch.zeros(1), torch.zeros(1)),
        case("two pairs", scores(2), scores(2)),
        case("seven pairs", scores(7), scores(7)),
        case("single precision", scores(5, torch.float32), scores(5, torch.float32)),
        case("every second score of a longer row", strided, scores(7)),
        case("scores far apart", scores(6, size=30.0), scores(6, size=30.0)),
        case(
            "scores very far apart",
            torch.tensor([-900.0, 900.0, 2.0], dtype=f64),
            torch.tensor([900.0, -900.0, 0.5], dtype=f64),
        ),
    ]


def oracle_reward_loss(chosen: Tensor, rejected: Tensor) -> dict[str, Any]:
    """Read every pair as a choice between two classes: cross-entropy, in float64."""
    c, r = (each.double().requires_grad_() for each in (chosen, rejected))
    first = torch.zeros(len(c), dtype=torch.long)
    loss = F.cross_entropy(torch.stack([c, r], dim=1), first)
    found = {
        "loss": loss,
        **gradients(loss, loss.new_ones(()), {"the chosen": c, "the rejected": r}),
    }
    return {name: each.detach().to(chosen.dtype) for name, each in found.items()}


def sign_turned(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Prefer the rejected."""
    return -F.logsigmoid(rejected - chosen).mean()


def minus_forgotten(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the log-likelihood."""
    return F.logsigmoid(chosen - rejected).mean()


def summed(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Add instead of averaging."""
    return -F.logsigmoid(chosen - rejected).sum()


def not_averaged(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return a loss for each pair."""
    return -F.logsigmoid(chosen - rejected)


def no_logarithm(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return minus the probability."""
    return -torch.sigmoid(chosen - rejected).mean()


def overflowing(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Take the logarithm of a probability that has become 0."""
    return -torch.sigmoid(chosen - rejected).log().mean()


def with_epsilon(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Add a small number before the logarithm."""
    return -(torch.sigmoid(chosen - rejected) + 1e-8).log().mean()


def _held_above(least: float) -> Any:
    def held(chosen: Tensor, rejected: Tensor) -> Tensor:
        return -torch.sigmoid(chosen - rejected).clamp(min=least).log().mean()

    return held


def logarithm_held(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Use PyTorch's cross-entropy of probabilities, which lets no logarithm fall below −100."""
    return F.binary_cross_entropy(torch.sigmoid(chosen - rejected), torch.ones_like(chosen))


def log_of_mean(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Average probabilities before the logarithm."""
    return -torch.sigmoid(chosen - rejected).mean().log()


def means_first(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Compare the mean scores."""
    return -F.logsigmoid(chosen.mean() - rejected.mean())


def each_alone(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Classify the replies one by one."""
    return -(F.logsigmoid(chosen) + F.logsigmoid(-rejected)).mean()


def hinge(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Ask for a margin of 1."""
    return F.relu(1 - (chosen - rejected)).mean()


def difference_alone(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Push the scores apart without end."""
    return (rejected - chosen).mean()


def absolute_difference(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Forget which of the two was preferred."""
    return -F.logsigmoid((chosen - rejected).abs()).mean()


def against_all(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Compare every chosen reply with every rejected one."""
    return -F.logsigmoid(chosen[:, None] - rejected[None, :]).mean()


def bits(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Take the logarithm to base 2."""
    return -F.logsigmoid(chosen - rejected).mean() / math.log(2)


def without_gradient(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Compute without gradient."""
    with torch.no_grad():
        return -F.logsigmoid(chosen - rejected).mean()


REWARD_LOSS = Exercise(
    name="reward_loss",
    lesson=19,
    points=2,
    probe=probes.reward_loss,
    draw=draw_reward_loss,
    oracle=oracle_reward_loss,
    finished=(rewards.reward_loss,),
    forbidden=("course_lib.posttraining.rewards",),
    minutes=8,
    difficulty=1,
    mistakes=(
        Mistake(
            "sign turned",
            "You reward the rejected reply: the probability of the choice is σ(chosen − rejected).",
            (sign_turned,),
        ),
        Mistake(
            "minus forgotten",
            "You return the mean log-probability, which is to be large: a loss is its negative.",
            (minus_forgotten,),
        ),
        Mistake("summed", "You add up the pairs: the loss is their mean.", (summed,)),
        Mistake(
            "not averaged",
            "You return a loss for each pair: the loss is their mean.",
            (not_averaged,),
        ),
        Mistake(
            "no logarithm",
            "The logarithm is missing: you return minus the mean probability of the choices.",
            (no_logarithm,),
        ),
        Mistake(
            "overflow",
            "Where the scores are far apart your sigmoid becomes exactly 0 and its logarithm infinite: "
            "`F.logsigmoid` computes both in one.",
            (overflowing,),
        ),
        Mistake(
            "a small number added",
            "You add a small number before the logarithm: the loss stays finite, but it is wrong where the "
            "scores are far apart, and its gradient vanishes there. `F.logsigmoid` needs no such number.",
            (with_epsilon,),
        ),
        *(
            Mistake(
                f"held above {least:g}",
                f"You hold the probability above {least:g}: the loss stays finite, but beyond that it no longer "
                "grows, and its gradient is 0 just where the scores are most wrong. `F.logsigmoid` needs no such "
                "bound.",
                (_held_above(least),),
            )
            for least in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
        ),
        Mistake(
            "logarithm held",
            "`F.binary_cross_entropy` lets no logarithm fall below −100: where the scores are far apart the loss is "
            "wrong and its gradient 0. Give it no probabilities; `F.logsigmoid` takes the difference itself.",
            (logarithm_held,),
        ),
        Mistake(
            "averaged too early",
            "You average the probabilities and then take the logarithm: each pair has a logarithm of its own.",
            (log_of_mean,),
        ),
        Mistake(
            "mean scores compared",
            "You compare the mean score of the chosen with that of the rejected: compare within each pair, "
            "and average last.",
            (means_first,),
        ),
        Mistake(
            "each reply alone",
            "You classify every reply by itself as good or bad: only the difference within a pair counts.",
            (each_alone,),
        ),
        Mistake(
            "a margin",
            "You ask for a margin of 1, as a support vector machine does: Bradley and Terry's loss is −log σ.",
            (hinge,),
        ),
        Mistake(
            "the difference alone",
            "You return the difference of the scores, which can fall without end: it goes through −log σ.",
            (difference_alone,),
        ),
        Mistake(
            "graph cut",
            "The right number, but no gradient reaches the scores: do not use `detach`, `item` or `no_grad` here.",
            (without_gradient,),
        ),
        Mistake(
            "absolute difference",
            "You take the absolute difference: then it no longer counts which of the two was preferred.",
            (absolute_difference,),
        ),
        Mistake(
            "against all",
            "You compare every chosen reply with every rejected one: only those of the same pair answer the "
            "same prompt.",
            (against_all,),
        ),
        Mistake("bits", "Your loss is in bits: the natural logarithm is asked for.", (bits,)),
    ),
    hints=(
        "What probability does Bradley and Terry's model give to the choice that was made? The loss of a pair "
        "is minus its logarithm.",
        "Only the difference of the two scores counts. What does float arithmetic make of σ(−900), and of its "
        "logarithm?",
        "`F.logsigmoid(x)` is log σ(x) for any x. Average over the pairs, and mind the sign.",
    ),
)

# --- what replies look like -------------------------------------------------------------------


def _mask(spans: list[tuple[int, int]], n: int) -> Tensor:
    """Mark the tokens from the first number up to the second, one span a row."""
    place = torch.arange(n)
    begin, end = (torch.tensor(each)[:, None] for each in zip(*spans))
    return (place >= begin) & (place < end)


# --- kl_penalty ------------------------------------------------------------------------------


def draw_kl_penalty(seed: int) -> list[Case]:
    """Draw replies with a prompt in front and filler behind."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        spans: list[tuple[int, int]],
        n: int,
        beta: float = 0.3,
        dtype: torch.dtype = f64,
        wild: bool = False,
    ) -> Case:
        mask = _mask(spans, n)
        logprobs, reference = (
            -torch.rand(len(spans), n, generator=g, dtype=dtype) * 4 for _ in range(2)
        )
        if wild:
            logprobs = logprobs.masked_fill(~mask, -math.inf)
            reference = reference.masked_fill(~mask, -math.inf)
        return Case(
            label,
            {
                "score": torch.randn(len(spans), generator=g, dtype=dtype) * 2,
                "logprobs": logprobs,
                "reference": reference,
                "mask": mask,
                "beta": beta,
            },
        )

    return [
        case("a reply of one token", [(0, 1)], 1),
        case("a reply of three tokens", [(0, 3)], 3),
        case("a prompt in front", [(2, 4)], 4),
        case("filler behind", [(0, 2)], 4),
        case("three replies of different lengths", [(2, 5), (2, 3), (1, 6)], 7),
        case("β = 0", [(1, 3), (2, 5)], 5, beta=0.0),
        case("β = 2", [(1, 3), (2, 5)], 6, beta=2.0),
        case("single precision", [(1, 4), (2, 5)], 6, dtype=torch.float32),
        case("one row without a reply", [(1, 3), (0, 0)], 4),
        case("−∞ outside of the replies", [(1, 3), (2, 4)], 5, wild=True),
    ]


def oracle_kl_penalty(
    score: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor, beta: float
) -> dict[str, Any]:
    """Go from token to token."""
    found = torch.zeros_like(logprobs)
    for row, marks in enumerate(mask.tolist()):
        places = [i for i, marked in enumerate(marks) if marked]
        for i in places:
            found[row, i] = -beta * (logprobs[row, i] - reference[row, i])
        if places:
            found[row, places[-1]] += score[row]
    return {"rewards": found}


def _last(mask: Tensor) -> Tensor:
    return mask & (mask.flip(1).cumsum(1).flip(1) == 1)


def _kl(p: Tensor, q: Tensor, mask: Tensor) -> Tensor:
    return (p - q).masked_fill(~mask, 0)


def kl_sign(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Pay for distance."""
    return beta * _kl(p, q, mask) + score[:, None] * _last(mask)


def kl_absolute(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Make every difference a cost."""
    return -beta * _kl(p, q, mask).abs() + score[:, None] * _last(mask)


def kl_never_negative(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Let a token that has become less probable pay nothing."""
    return -beta * _kl(p, q, mask).clamp(min=0) + score[:, None] * _last(mask)


def beta_forgotten(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Ask for one a nat."""
    return -_kl(p, q, mask) + score[:, None] * _last(mask)


def kl_third(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Use the estimator that is never negative."""
    d = -_kl(p, q, mask)
    return -beta * (d.exp() - d - 1) + score[:, None] * _last(mask)


def beta_single(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Make β in single precision."""
    return -float(torch.tensor(beta)) * _kl(p, q, mask) + score[:, None] * _last(mask)


def kl_weighted(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Multiply by the probability once more."""
    return -beta * _kl(p, q, mask) * p.exp().masked_fill(~mask, 0) + score[:, None] * _last(mask)


def kl_weighted_by_ratio(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Multiply by the ratio of the probabilities."""
    d = _kl(p, q, mask)
    return -beta * d.exp() * d + score[:, None] * _last(mask)


def kl_of_probabilities(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Subtract probabilities."""
    return -beta * _kl(p.exp(), q.exp(), mask) + score[:, None] * _last(mask)


def score_everywhere(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Give every token the score."""
    return -beta * _kl(p, q, mask) + score[:, None] * mask


def score_shared(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Share the score out."""
    shares = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return -beta * _kl(p, q, mask) + score[:, None] * shares


def score_in_last_column(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Forget the filler."""
    found = -beta * _kl(p, q, mask)
    return torch.cat([found[:, :-1], found[:, -1:] + score[:, None]], dim=1)


def score_first(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Give the first token the score."""
    return -beta * _kl(p, q, mask) + score[:, None] * (mask & (mask.cumsum(1) == 1))


def score_at_count(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Take the number of tokens for the place of the last, as if there were no prompt."""
    found = -beta * _kl(p, q, mask)
    place = (mask.sum(1, keepdim=True) - 1).clamp(min=0)
    return found.scatter_add(1, place, (score * mask.any(1))[:, None])


def _scored_at(
    score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float, place: Tensor
) -> Tensor:
    """Give each row its score at a place, whether it holds a reply or not."""
    found = -beta * _kl(p, q, mask)
    return found.scatter_add(1, (place % mask.shape[1])[:, None], score[:, None])


def empty_row_scored_first(
    score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """Look for the largest marked column, which is column 0 where none is marked."""
    column = torch.arange(mask.shape[1], device=mask.device)
    return _scored_at(score, p, q, mask, beta, (mask * column).argmax(1))


def empty_row_scored_last(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Look for the first marked column from behind, which is the last column where none is marked."""
    place = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return _scored_at(score, p, q, mask, beta, place)


def score_at_count_anyway(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Take the number of tokens minus one for the place of the last, also where it is −1."""
    return _scored_at(score, p, q, mask, beta, mask.sum(1) - 1)


def score_instead(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Let the last token pay nothing."""
    return torch.where(_last(mask), score[:, None], -beta * _kl(p, q, mask))


def score_scaled(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Multiply everything by β."""
    return beta * (score[:, None] * _last(mask) - _kl(p, q, mask))


def score_forgotten(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Pay, and get nothing."""
    return -beta * _kl(p, q, mask)


def mask_forgotten(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Let prompt and filler pay."""
    return -beta * (p - q) + score[:, None] * _last(mask)


def mask_multiplied(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Multiply by the mask."""
    return -beta * (p - q) * mask + score[:, None] * _last(mask)


def paid_at_the_end(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Let the last token pay for all."""
    whole = score - beta * _kl(p, q, mask).sum(1)
    return whole[:, None] * _last(mask)


def averaged_kl(score: Tensor, p: Tensor, q: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Divide by the reply's length."""
    length = mask.sum(1, keepdim=True).clamp(min=1)
    return -beta * _kl(p, q, mask) / length + score[:, None] * _last(mask)


KL_PENALTY = Exercise(
    name="kl_penalty",
    lesson=19,
    points=3,
    probe=probes.kl_penalty,
    draw=draw_kl_penalty,
    oracle=oracle_kl_penalty,
    finished=(ppo.kl_penalty,),
    forbidden=("course_lib.posttraining.ppo",),
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "sign turned",
            "You pay the policy for leaving the reference: a token that has become more probable costs, "
            "−β (log π − log π_ref).",
            (kl_sign,),
        ),
        Mistake(
            "absolute value",
            "You make every difference a cost: a token that has become less probable gives something back. "
            "Only so is the mean over the policy's own replies its KL.",
            (kl_absolute,),
        ),
        Mistake(
            "never negative",
            "In your code a token that has become less probable pays nothing: it should get something back. Only so "
            "is the mean over the policy's own replies its KL.",
            (kl_never_negative,),
        ),
        Mistake(
            "β forgotten",
            "β is missing: it is the price of a nat, so every token's penalty is multiplied by it.",
            (beta_forgotten,),
        ),
        Mistake(
            "β in single precision",
            "Right but for rounding: you made a tensor of β, and `torch.tensor` makes a constant in single precision "
            "of a Python number, with only seven digits. Use `beta` as the plain number that it is.",
            (beta_single,),
        ),
        Mistake(
            "another estimator",
            "You use exp(d) − d − 1, an estimator of the KL that is never negative (GRPO has it in its loss). As "
            "a reward the log-ratio itself is asked for.",
            (kl_third,),
        ),
        Mistake(
            "weighted once more",
            "You multiply the log-ratio by the probability: the tokens were drawn with these probabilities, so "
            "they are weighted already.",
            (kl_weighted,),
        ),
        Mistake(
            "weighted by the ratio",
            "You multiply the log-ratio by π / π_ref: the tokens were drawn from the policy, so the log-ratio "
            "alone has the KL as its mean.",
            (kl_weighted_by_ratio,),
        ),
        Mistake(
            "probabilities subtracted",
            "You subtract probabilities: KL is made of differences of log-probabilities.",
            (kl_of_probabilities,),
        ),
        Mistake(
            "the score everywhere",
            "You give every token the score: a reply gets it once, at its last token.",
            (score_everywhere,),
        ),
        Mistake(
            "the score shared out",
            "You share the score out over the tokens: all of it stands at the last one.",
            (score_shared,),
        ),
        Mistake(
            "the score in the last column",
            "You add the score in the last column, where shorter replies have filler: it belongs to the last "
            "token that the mask marks.",
            (score_in_last_column,),
        ),
        Mistake(
            "the score at the first token",
            "You add the score at the first token of the reply: it is known only when the last is written.",
            (score_first,),
        ),
        Mistake(
            "a row without a reply scored in front",
            "A row without a reply got its score, in column 0: there is no last token to add it to, and `argmax` "
            "says 0 where nothing is marked.",
            (empty_row_scored_first,),
        ),
        Mistake(
            "a row without a reply scored behind",
            "A row without a reply got its score, in the last column: there is no last token to add it to.",
            (empty_row_scored_last,),
        ),
        Mistake(
            "the prompt forgotten, and rows without a reply",
            "You look for the last token at the number of marked tokens minus one: that is its place only where no "
            "prompt stands in front. In a row without a reply it is −1, and the last column gets a score that belongs "
            "nowhere.",
            (score_at_count_anyway,),
        ),
        Mistake(
            "the prompt forgotten",
            "You look for the last token at the number of marked tokens minus one: that is its place only "
            "where no prompt stands in front.",
            (score_at_count,),
        ),
        Mistake(
            "the score in place of the penalty",
            "Your last token gets the score and pays nothing: add the score to its penalty.",
            (score_instead,),
        ),
        Mistake(
            "the score times β",
            "You multiply the score by β, too: β is the price of the KL alone.",
            (score_scaled,),
        ),
        Mistake(
            "the score forgotten",
            "The score is missing: add it at the last token of each reply.",
            (score_forgotten,),
        ),
        Mistake(
            "multiplied by the mask",
            "You multiply by the mask, and −∞ · 0 is not a number: `masked_fill(~mask, 0)` puts zeros there "
            "whatever stood there.",
            (mask_multiplied,),
        ),
        Mistake(
            "mask forgotten",
            "Prompt and filler pay: outside of the reply all rewards are 0.",
            (mask_forgotten,),
        ),
        Mistake(
            "paid at the end",
            "The last token pays for all: each token pays its own part, so that the credit is where the "
            "choice was made.",
            (paid_at_the_end,),
        ),
        Mistake(
            "averaged",
            "You divide the penalty by the reply's length: log π of a reply is the sum over its tokens, so "
            "no token's part is divided.",
            (averaged_kl,),
        ),
    ),
    hints=(
        "Two things are added: a cost at every token of the reply, and the score at one of them.",
        "The cost of a token is β times how much more probable it has become, in nats: "
        "`-beta * (logprobs - reference)`. Where the mask is False put zeros with `masked_fill`, since "
        "anything may stand there.",
        "Which token is the last? Counted from behind, it is the first that is marked: "
        "`mask.flip(1).cumsum(dim=1).flip(1)` says how many are left, itself included. "
        "A row without a reply has no such token.",
        "`last = mask & (left == 1)`; then add `score[:, None] * last`.",
    ),
)

# --- gae -------------------------------------------------------------------------------------


def draw_gae(seed: int) -> list[Case]:
    """Draw rewards and values, with anything in front of the replies and behind."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        spans: list[tuple[int, int]],
        n: int,
        gamma: float = 0.9,
        lam: float = 0.8,
        dtype: torch.dtype = f64,
        wild: bool = False,
    ) -> Case:
        mask = _mask(spans, n)
        rewards, values = (torch.randn(len(spans), n, generator=g, dtype=dtype) for _ in range(2))
        if wild:
            rewards, values = (each.masked_fill(~mask, math.nan) for each in (rewards, values))
        return Case(
            label,
            {"rewards": rewards, "values": values, "mask": mask, "gamma": gamma, "lam": lam},
        )

    return [
        case("one token", [(0, 1)], 1),
        case("two tokens", [(0, 2)], 2),
        case("four tokens", [(0, 4)], 4),
        case("γ = 1, λ = 0.95", [(0, 5)], 5, 1.0, 0.95),
        case("λ = 0", [(0, 4)], 4, 0.9, 0.0),
        case("λ = 1", [(0, 4)], 4, 0.9, 1.0),
        case("a prompt in front", [(2, 5)], 5),
        case("filler behind", [(0, 3)], 5),
        case("three replies of different lengths", [(2, 5), (1, 2), (3, 7)], 7),
        case("one row without a reply", [(1, 3), (0, 0)], 4),
        case("single precision", [(1, 4), (2, 6)], 6, dtype=torch.float32),
        case("NaN outside of the replies", [(1, 4), (2, 5)], 6, wild=True),
    ]


def oracle_gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> dict[str, Any]:
    """Filter the surprises of each reply from behind, with SciPy."""
    advantages, returns = torch.zeros(mask.shape, dtype=f64), torch.zeros(mask.shape, dtype=f64)
    for row, marks in enumerate(mask):
        if not marks.any():
            continue
        r, v = (each[row][marks].double().numpy() for each in (rewards, values))
        delta = r + gamma * np.append(v[1:], 0.0) - v
        found = lfilter([1.0], [1.0, -gamma * lam], delta[::-1])[::-1].copy()
        advantages[row, marks] = torch.from_numpy(found)
        returns[row, marks] = torch.from_numpy(found + v)
    return {"advantages": advantages.to(rewards.dtype), "returns": returns.to(rewards.dtype)}


def _backwards(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    decay: float,
    *,
    next_value: Any = None,
    delta: Any = None,
) -> Two:
    """Run the recursion from behind, with one of its parts exchanged."""
    r, v = (each.masked_fill(~mask, 0) for each in (rewards, values))
    ahead = F.pad(v[:, 1:], (0, 1)) if next_value is None else next_value(v)
    d = r + gamma * ahead - v if delta is None else delta(r, ahead, v)
    advantages, after = torch.zeros_like(r), torch.zeros_like(r[:, 0])
    for t in reversed(range(r.shape[1])):
        after = (d[:, t] + decay * after) * mask[:, t]
        advantages[:, t] = after
    return advantages, advantages + v


def _unclean(r: Tensor, v: Tensor, gamma: float, lam: float, stop: Any = None) -> Tensor:
    """Run the recursion through all columns, whatever stands in them; `stop` changes what is handed on."""
    advantages, after = torch.zeros_like(r), torch.zeros_like(r[:, 0])
    ahead = F.pad(v[:, 1:], (0, 1))
    for t in reversed(range(r.shape[1])):
        after = r[:, t] + gamma * ahead[:, t] - v[:, t] + gamma * lam * after
        after = after if stop is None else stop(after, t)
        advantages[:, t] = after
    return advantages


def lambda_forgotten(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Let advantages decay by γ alone."""
    return _backwards(r, v, m, gamma, gamma)


def gamma_forgotten(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Let advantages decay by λ alone."""
    return _backwards(r, v, m, gamma, lam)


def value_not_discounted(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Leave γ out of δ."""
    return _backwards(r, v, m, 1.0, gamma * lam)


def surprises_alone(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Return δ."""
    return _backwards(r, v, m, gamma, 0.0)


def lambda_on_the_value(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Put λ into δ as well."""
    return _backwards(r, v, m, gamma * lam, gamma * lam)


def own_value_kept(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Forget to subtract V."""
    return _backwards(r, v, m, gamma, gamma * lam, delta=lambda r, ahead, v: r + gamma * ahead)


def signs_exchanged(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Subtract the next value from this one."""
    return _backwards(r, v, m, gamma, gamma * lam, delta=lambda r, ahead, v: r + v - gamma * ahead)


def no_next_value(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Leave the next value out."""
    return _backwards(r, v, m, gamma, gamma * lam, delta=lambda r, ahead, v: r - v)


def value_before(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Take the value of the token before."""
    return _backwards(r, v, m, gamma, gamma * lam, next_value=lambda v: F.pad(v[:, :-1], (1, 0)))


def wrong_sign(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Subtract what came from what was expected."""
    return _backwards(r, v, m, gamma, gamma * lam, delta=lambda r, ahead, v: v - r - gamma * ahead)


def filler_valued(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Use the value of what stands behind the reply."""
    found = _unclean(r, v, gamma, lam, lambda after, t: after.masked_fill(~m[:, t], 0))
    return found, (found + v).masked_fill(~m, 0)


def filler_valued_and_multiplied(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Use the value of what stands behind the reply, and multiply by the mask."""
    found = _unclean(r, v, gamma, lam, lambda after, t: after * m[:, t])
    return found, (found + v) * m


def multiplied(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Multiply by the mask, and NaN stays."""
    r, v = r * m, v * m
    found = _unclean(r, v, gamma, lam, lambda after, t: after * m[:, t])
    return found, found + v


def multiplied_then_filled(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Multiply by the mask, and put zeros where NaN stays, too late."""
    r, v = r * m, v * m
    found = _unclean(r, v, gamma, lam)
    return found.masked_fill(~m, 0), (found + v).masked_fill(~m, 0)


def masked_afterwards(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Mask the result alone."""
    found = _unclean(r, v, gamma, lam)
    return found.masked_fill(~m, 0), (found + v).masked_fill(~m, 0)


def multiplied_afterwards(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Multiply the result alone by the mask."""
    found = _unclean(r, v, gamma, lam)
    return found * m, (found + v) * m


def advantages_masked_afterwards(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Mask the advantages alone, and those late."""
    found = _unclean(r, v, gamma, lam).masked_fill(~m, 0)
    return found, found + v


def last_value_again(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Use the last token's own value as what comes after it."""
    ahead = F.pad(v[:, 1:], (0, 1))
    return _backwards(
        r,
        v,
        m,
        gamma,
        gamma * lam,
        next_value=lambda v: torch.where(_last(m), v, ahead.masked_fill(~m, 0)),
    )


def forwards(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Run from the front."""
    r, v = (each.masked_fill(~m, 0) for each in (r, v))
    d = (r + gamma * F.pad(v[:, 1:], (0, 1)) - v) * m
    advantages, before = torch.zeros_like(r), torch.zeros_like(r[:, 0])
    for t in range(r.shape[1]):
        before = (d[:, t] + gamma * lam * before) * m[:, t]
        advantages[:, t] = before
    return advantages, advantages + v


def mask_ignored(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Treat prompt and filler as tokens of the reply."""
    return _backwards(r, v, torch.ones_like(m), gamma, gamma * lam)


def prompt_filled(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Let the advantage run on into the prompt."""
    r, v = (each.masked_fill(~m, 0) for each in (r, v))
    d = r + gamma * F.pad(v[:, 1:], (0, 1)) - v
    advantages, after = torch.zeros_like(r), torch.zeros_like(r[:, 0])
    for t in reversed(range(r.shape[1])):
        after = d[:, t] + gamma * lam * after
        advantages[:, t] = after
    return advantages, advantages + v


def monte_carlo(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Return the rewards that are still to come."""
    advantages, _ = _backwards(r, v, m, gamma, gamma * lam)
    zeros = torch.zeros_like(v)
    return advantages, _backwards(r, zeros, m, gamma, gamma)[0]


def no_returns(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Return the values themselves."""
    return _backwards(r, v, m, gamma, gamma * lam)[0], v.masked_fill(~m, 0)


def advantages_twice(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Return the advantages for the returns."""
    advantages, _ = _backwards(r, v, m, gamma, gamma * lam)
    return advantages, advantages.clone()


def value_subtracted_again(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Subtract the values where they are to be added."""
    advantages, _ = _backwards(r, v, m, gamma, gamma * lam)
    return advantages, advantages - v.masked_fill(~m, 0)


def exchanged(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Return the pair the other way round."""
    advantages, returns = _backwards(r, v, m, gamma, gamma * lam)
    return returns, advantages


def whitened(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Whiten already."""
    advantages, returns = _backwards(r, v, m, gamma, gamma * lam)
    return ppo.whiten(advantages, m), returns


def returns_everywhere(r: Tensor, v: Tensor, m: Tensor, gamma: float, lam: float) -> Two:
    """Add the values of prompt and filler, too."""
    advantages, _ = _backwards(r, v, m, gamma, gamma * lam)
    return advantages, advantages + v


GAE = Exercise(
    name="gae",
    lesson=19,
    points=4,
    probe=probes.gae,
    draw=draw_gae,
    oracle=oracle_gae,
    finished=(ppo.gae,),
    forbidden=("course_lib.posttraining.ppo", "scipy"),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "λ forgotten",
            "Your advantages decay by γ alone, which is λ = 1: A_t = δ_t + γλ A_{t+1}.",
            (lambda_forgotten,),
        ),
        Mistake(
            "γ forgotten",
            "Your advantages decay by λ alone: A_t = δ_t + γλ A_{t+1}.",
            (gamma_forgotten,),
        ),
        Mistake(
            "the value not discounted",
            "γ is missing in your δ: r_t + γ V_{t+1} − V_t.",
            (value_not_discounted,),
        ),
        Mistake(
            "surprises alone",
            "You return the surprises δ_t, which is λ = 0: each advantage also holds γλ times the next one.",
            (surprises_alone,),
        ),
        Mistake(
            "λ in the surprise",
            "You discount the next value by γλ: in δ stands γ alone.",
            (lambda_on_the_value,),
        ),
        Mistake(
            "V_t not subtracted",
            "You do not subtract V_t: a surprise is what came minus what was expected.",
            (own_value_kept,),
        ),
        Mistake(
            "sign of the surprise",
            "Your surprises have the wrong sign: δ is what came, r_t + γ V_{t+1}, minus what was expected, V_t.",
            (wrong_sign,),
        ),
        Mistake(
            "signs exchanged",
            "You subtract the next value and add this one: δ_t = r_t + γ V_{t+1} − V_t.",
            (signs_exchanged,),
        ),
        Mistake(
            "no next value",
            "V_{t+1} is missing in your δ: what may still be expected counts.",
            (no_next_value,),
        ),
        Mistake(
            "the value before",
            "You take the value of the token before, V_{t−1}: it is V_{t+1}.",
            (value_before,),
        ),
        Mistake(
            "the filler has a value",
            "Behind a reply's last token your δ uses the value that stands in the filler: there is nothing to "
            "come, so V is 0 there.",
            (filler_valued,),
        ),
        Mistake(
            "the filler has a value, and a product",
            "Behind a reply's last token your δ uses the value that stands in the filler, and multiplying by the mask "
            "comes too late: NaN · 0 is NaN. First put zeros there, in rewards and in values.",
            (filler_valued_and_multiplied,),
        ),
        Mistake(
            "the last value again",
            "Behind the last token you use that token's own value again: a reply that has ended is worth 0.",
            (last_value_again,),
        ),
        Mistake(
            "from the front",
            "You run from the front: an advantage is made of what comes after it, so begin with the last token.",
            (forwards,),
        ),
        Mistake(
            "multiplied by the mask",
            "You multiply by the mask, and NaN · 0 is NaN: `masked_fill(~mask, 0)` puts zeros there whatever stood "
            "there.",
            (multiplied,),
        ),
        Mistake(
            "multiplied by the mask, then filled",
            "You multiply rewards and values by the mask, and NaN · 0 is NaN: what you fill with zeros at the end has "
            "already spread into the replies. Fill before the recursion instead of multiplying.",
            (multiplied_then_filled,),
        ),
        Mistake(
            "masked afterwards",
            "You let the recursion run through the filler and mask afterwards: what it gathered there is already in "
            "the reply. Set rewards and values to 0 there first.",
            (masked_afterwards,),
        ),
        Mistake(
            "multiplied afterwards",
            "You let the recursion run through the filler and multiply by the mask afterwards: what it gathered there "
            "is already in the reply, and NaN · 0 is NaN. Fill rewards and values with zeros there first.",
            (multiplied_afterwards,),
        ),
        Mistake(
            "mask ignored",
            "You treat prompt and filler as part of the reply: only marked tokens have rewards, values and "
            "advantages.",
            (mask_ignored,),
        ),
        Mistake(
            "on into the prompt",
            "Your advantages run on into the prompt: outside of the reply they are 0.",
            (prompt_filled,),
        ),
        Mistake(
            "returns from rewards alone",
            "Your returns are the discounted rewards, which is λ = 1: they are A_t + V_t.",
            (monte_carlo,),
        ),
        Mistake(
            "values for returns",
            "You return the values themselves in second place: the returns are A_t + V_t.",
            (no_returns,),
        ),
        Mistake(
            "advantages twice",
            "You return the advantages in second place, too: the returns are A_t + V_t.",
            (advantages_twice,),
        ),
        Mistake(
            "values subtracted",
            "You subtract the values from the advantages: δ_t has done that already. The returns are A_t + V_t, what "
            "the values should have been.",
            (value_subtracted_again,),
        ),
        Mistake(
            "pair exchanged",
            "You return the returns first: the advantages come first.",
            (exchanged,),
        ),
        Mistake(
            "whitened already",
            "You whiten the advantages here: that is a later step, and the returns need them as they are.",
            (whitened,),
        ),
        Mistake(
            "returns everywhere",
            "Your returns hold the values of prompt and filler: outside of the reply they are 0.",
            (returns_everywhere,),
        ),
        Mistake(
            "advantages masked afterwards",
            "You let the recursion run through the filler and mask the advantages afterwards, the returns not at all: "
            "set rewards and values to 0 there first, and both are right.",
            (advantages_masked_afterwards,),
        ),
    ),
    hints=(
        "An advantage contains the next one, so go from the last column to the first, with one number for each row "
        "in hand: the advantage of the column behind.",
        "First make the filler harmless: zeros in rewards and values where the mask is False, with "
        "`masked_fill` (a product with the mask would keep a NaN).",
        "In column t: `delta = rewards[:, t] + gamma * next_value - values[:, t]`, then "
        "`delta + gamma * lam * after`.",
        "Multiply what you get by `mask[:, t]`: so nothing comes out of the filler, and nothing runs on into "
        "the prompt. The returns are advantages plus values.",
    ),
)

# --- ppo_loss --------------------------------------------------------------------------------


def draw_ppo_loss(seed: int) -> list[Case]:
    """Draw tokens whose probabilities and values moved little and much, up and down."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        spans: list[tuple[int, int]],
        n: int,
        clip: float = 0.2,
        moved: float = 0.5,
        dtype: torch.dtype = f64,
        wild: bool = False,
    ) -> Case:
        shape = (len(spans), n)
        mask = _mask(spans, n)

        def random(size: float = 1.0) -> Tensor:
            return size * torch.randn(shape, generator=g, dtype=dtype)

        old = -torch.rand(shape, generator=g, dtype=dtype) * 4
        old_values = random()
        tokens = {
            "logprobs": old + random(moved),
            "old_logprobs": old,
            "advantages": random(),
            "values": old_values + random(moved),
            "old_values": old_values,
            "returns": random(),
        }
        if wild:
            tokens["logprobs"] = tokens["logprobs"].masked_fill(~mask, 2000.0)
            tokens["returns"] = tokens["returns"].masked_fill(~mask, 2000.0)
            # so that the infinite gain is the smaller one
            tokens["advantages"] = tokens["advantages"].where(mask, -tokens["advantages"].abs())
        return Case(label, {**tokens, "mask": mask, "clip": clip})

    def two(label: str, ratios: list[float], values: list[float]) -> Case:
        """Draw a token that did better than expected and one that did worse."""
        size, more = (torch.rand(1, 2, generator=g, dtype=f64) for _ in range(2))
        old = -3 - more
        tokens = {
            "logprobs": old + torch.tensor([ratios], dtype=f64).log(),
            "old_logprobs": old,
            "advantages": torch.tensor([[1.0, -1.0]], dtype=f64) * (0.9 + 0.2 * size),
            "values": torch.tensor([values], dtype=f64),
            "old_values": torch.zeros(1, 2, dtype=f64),
            "returns": torch.tensor([[2.0, 0.0]], dtype=f64) + 0.1 * more,
        }
        return Case(label, {**tokens, "mask": torch.ones(1, 2, dtype=torch.bool), "clip": 0.2})

    return [
        case("one token that moved little", [(0, 1)], 1, moved=0.03),
        case("one token", [(0, 1)], 1),
        case("nothing has moved yet", [(0, 4)], 4, moved=0.0),
        case("six tokens", [(0, 6)], 6),
        case("thirty tokens", [(0, 10)] * 3, 10),
        case("replies of different lengths", [(2, 4), (1, 7), (3, 8)], 8),
        case("a wide clip", [(1, 7), (0, 6)], 7, clip=0.5, moved=1.0),
        case("single precision", [(1, 5), (2, 7)], 8, dtype=torch.float32),
        case("far away", [(0, 6), (0, 6)], 6, moved=4.0),
        case("huge numbers outside of the replies", [(1, 5), (2, 7)], 8, wild=True),
        two("two tokens, the worse one much more probable", [1.5, 2.0], [1.0, -3.0]),
        two("two tokens, the better one much more probable", [3.0, 1.5], [1.0, -0.5]),
    ]


def oracle_ppo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip: float,
) -> dict[str, Any]:
    """Go from token to token, in float64: a token whose ratio left the clip in its favour adds a constant."""
    p, v = (each.double().requires_grad_() for each in (logprobs, values))
    policy, value = p.sum() * 0, v.sum() * 0
    n = int(mask.sum())
    for i, j in mask.nonzero().tolist():
        a = float(advantages[i, j])
        ratio = (p[i, j] - float(old_logprobs[i, j])).exp()
        size = float(ratio.detach())
        if a >= 0:
            policy = policy - a * (ratio if size < 1 + clip else 1 + clip) / n
        else:
            policy = policy - a * (ratio if size > 1 - clip else 1 - clip) / n
        old, target = float(old_values[i, j]), float(returns[i, j])
        now = float(v[i, j].detach())
        near = max(old - clip, min(old + clip, now))
        free = (v[i, j] - target) ** 2
        held = (near - target) ** 2
        inside = old - clip <= now <= old + clip
        value = value + 0.5 * (free if inside or (now - target) ** 2 >= held else held) / n
    found = {
        "policy's loss": policy,
        "values' loss": value,
        **gradients(policy, policy.new_ones(()), {"log-probabilities": p}),
        **gradients(value, value.new_ones(()), {"values": v}),
    }
    return {name: each.detach().to(logprobs.dtype) for name, each in found.items()}


class _Loss:
    """A PPO loss that goes wrong in one way, which its subclasses say."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Return ρ."""
        return (p - old).masked_fill(~m, 0).exp()

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Return the smaller of two gains."""
        return torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Return the larger of two errors."""
        near = old + (v - old).clamp(-clip, clip)
        return torch.maximum((v - target).square(), (near - target).square())

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Average over the marked tokens."""
        return each.masked_fill(~m, 0).sum() / m.sum()

    def both(self, gain: Tensor, error: Tensor) -> Any:
        """Return two losses."""
        return -gain, 0.5 * error

    def __call__(
        self,
        p: Tensor,
        old_p: Tensor,
        a: Tensor,
        v: Tensor,
        old_v: Tensor,
        target: Tensor,
        m: Tensor,
        clip: float,
    ) -> Any:
        """Compute it."""
        gain = self.gain(self.ratio(p, old_p, m), a, clip)
        error = self.error(v, old_v, target, clip)
        return self.both(self.mean(gain, m), self.mean(error, m))


class GainsMaximum(_Loss):
    """Take the larger gain."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Be an optimist."""
        return torch.maximum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)


class NotClipped(_Loss):
    """Leave the ratio as it is."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Clip nothing."""
        return ratio * a


class GainClipped(_Loss):
    """Clip ρA."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Hold the product between 1 − ε and 1 + ε."""
        return torch.minimum(ratio * a, (ratio * a).clamp(1 - clip, 1 + clip))


class LogarithmClipped(_Loss):
    """Hold the logarithm of the ratio within ε of 0."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Clip between e^−ε and e^ε."""
        return torch.minimum(ratio * a, ratio.clamp(math.exp(-clip), math.exp(clip)) * a)


class SingleConstants(_Loss):
    """Make 1 ± ε in single precision."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Round 1 ± ε to seven digits."""
        low, high = (float(torch.tensor(each)) for each in (1 - clip, 1 + clip))
        return torch.minimum(ratio * a, ratio.clamp(low, high) * a)


class SingleClip(SingleConstants):
    """Make ε in single precision, for both losses."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Round ε to seven digits."""
        return super().error(v, old, target, float(torch.tensor(clip)))


class SingleReach(_Loss):
    """Make ε in single precision, for the values."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Round ε to seven digits."""
        return super().error(v, old, target, float(torch.tensor(clip)))


class ClipWritten(_Loss):
    """Write 0.2 for ε in the gain."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Ignore what was given."""
        return super().gain(ratio, a, 0.2)


class ClipWrittenTwice(ClipWritten):
    """Write 0.2 for ε everywhere."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Ignore what was given."""
        return super().error(v, old, target, 0.2)


class ReachWritten(_Loss):
    """Write 0.2 for ε in the error."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Ignore what was given."""
        return super().error(v, old, target, 0.2)


class ValuesDetached(_Loss):
    """Cut the values off."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Take a number for a function."""
        return super().error(v.detach(), old, target, clip)


class RatioDetached(_Loss):
    """Cut the ratio off."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Take a number for a function."""
        return super().ratio(p.detach(), old, m)


class NoGradient(_Loss):
    """Compute without gradient."""

    def both(self, gain: Tensor, error: Tensor) -> Any:
        """Cut both losses off."""
        return -gain.detach(), 0.5 * error.detach()


class _MeansCompared(_Loss):
    """Average before the minimum, before the maximum, or before both."""

    gains, errors = True, True

    def __call__(
        self,
        p: Tensor,
        old_p: Tensor,
        a: Tensor,
        v: Tensor,
        old_v: Tensor,
        target: Tensor,
        m: Tensor,
        clip: float,
    ) -> Any:
        """Compute it."""
        ratio = self.ratio(p, old_p, m)
        held = self.mean(ratio.clamp(1 - clip, 1 + clip) * a, m)
        gain = torch.minimum(self.mean(ratio * a, m), held)
        near = old_v + (v - old_v).clamp(-clip, clip)
        free, bound = (self.mean((each - target).square(), m) for each in (v, near))
        error = torch.maximum(free, bound)
        if not self.gains:
            gain = self.mean(self.gain(ratio, a, clip), m)
        if not self.errors:
            error = self.mean(self.error(v, old_v, target, clip), m)
        return self.both(gain, error)


class SmallerMeanGain(_MeansCompared):
    """Take the smaller of the mean gains."""

    errors = False


class LargerMeanError(_MeansCompared):
    """Take the larger of the mean errors."""

    gains = False


class BothMeansCompared(_MeansCompared):
    """Average first in both losses."""


class ClippedAlone(_Loss):
    """Take the clipped ratio always."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Forget the minimum."""
        return ratio.clamp(1 - clip, 1 + clip) * a


class ClippedAbove(_Loss):
    """Clip from above alone."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Forget the lower end."""
        return torch.minimum(ratio * a, ratio.clamp(max=1 + clip) * a)


class RatioFirst(_Loss):
    """Take the smaller ratio, then multiply."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Forget that advantages have signs."""
        return torch.minimum(ratio, ratio.clamp(1 - clip, 1 + clip)) * a


class RatioUpsideDown(_Loss):
    """Divide the old by the new."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Turn the ratio over."""
        return (old - p).masked_fill(~m, 0).exp()


class RatioOfLogarithms(_Loss):
    """Divide the logarithms."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Forget the exponential."""
        return (p / old).masked_fill(~m, 0)


class DifferenceForRatio(_Loss):
    """Use the difference of the logarithms."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Forget the exponential."""
        return (p - old).masked_fill(~m, 0)


class NewProbability(_Loss):
    """Use the new log-probability, as REINFORCE does."""

    def gain(self, ratio: Tensor, a: Tensor, clip: float) -> Tensor:
        """Do not look at the old ones."""
        return ratio * a

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Return log π."""
        return p.masked_fill(~m, 0)


class MaskedLate(_Loss):
    """Take the exponential of everything and multiply by the mask."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Let e^2000 happen."""
        return (p - old).exp() * m


class MaskMultiplied(_Loss):
    """Take the exponential of everything and multiply by the mask under the mean."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Let e^2000 happen."""
        return (p - old).exp()

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Multiply ∞ by 0."""
        return (each * m).sum() / m.sum()


class MinusForgotten(_Loss):
    """Return the gain."""

    def both(self, gain: Tensor, error: Tensor) -> Any:
        """Forget that a loss falls."""
        return gain, 0.5 * error


class HalfForgotten(_Loss):
    """Return the squared error."""

    def both(self, gain: Tensor, error: Tensor) -> Any:
        """Forget ½."""
        return -gain, error


class PairExchanged(_Loss):
    """Return the values' loss first."""

    def both(self, gain: Tensor, error: Tensor) -> Any:
        """Exchange them."""
        return 0.5 * error, -gain


class MeanOverAll(_Loss):
    """Divide by the number of all columns."""

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Count the filler."""
        return each.masked_fill(~m, 0).mean()


class MaskForgotten(_Loss):
    """Average over everything."""

    def ratio(self, p: Tensor, old: Tensor, m: Tensor) -> Tensor:
        """Do not look at the mask."""
        return (p - old).exp()

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Do not look at the mask."""
        return each.mean()


class Summed(_Loss):
    """Add up."""

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Do not divide."""
        return each.masked_fill(~m, 0).sum()


class MeanOfReplies(_Loss):
    """Average each reply first."""

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Give each reply the same weight."""
        return (each.masked_fill(~m, 0).sum(1) / m.sum(1)).mean()


class SumOfReplies(_Loss):
    """Sum over tokens, average over replies."""

    def mean(self, each: Tensor, m: Tensor) -> Tensor:
        """Divide by the number of replies."""
        return each.masked_fill(~m, 0).sum(1).mean()


class ValuesNotClipped(_Loss):
    """Leave the values as they are."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Clip nothing."""
        return (v - target).square()


class ValuesClippedAlone(_Loss):
    """Take the clipped value always."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Forget the maximum."""
        return (old + (v - old).clamp(-clip, clip) - target).square()


class SmallerError(_Loss):
    """Take the smaller error."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Be an optimist."""
        near = old + (v - old).clamp(-clip, clip)
        return torch.minimum((v - target).square(), (near - target).square())


class ValueClamped(_Loss):
    """Clip the value itself, as if it were a ratio."""

    def error(self, v: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
        """Keep the value near 1."""
        return torch.maximum((v - target).square(), (v.clamp(1 - clip, 1 + clip) - target).square())


PPO_LOSS = Exercise(
    name="ppo_loss",
    lesson=19,
    points=5,
    probe=probes.ppo_loss,
    draw=draw_ppo_loss,
    oracle=oracle_ppo_loss,
    finished=(ppo.ppo_loss,),
    forbidden=("course_lib.posttraining.ppo",),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "the larger gain",
            "You take the larger of the two gains: the smaller one is the cautious one, and it is what stops an "
            "update that went far enough.",
            (GainsMaximum(),),
        ),
        Mistake(
            "the product clipped",
            "You clip ρA: it is ρ alone that is held between 1 − ε and 1 + ε, and then multiplied by A.",
            (GainClipped(),),
        ),
        Mistake(
            "the logarithm clipped",
            "You hold the logarithm of the ratio within ε of 0: it is the ratio itself that stays between 1 − ε and "
            "1 + ε.",
            (LogarithmClipped(),),
        ),
        Mistake(
            "the smaller mean",
            "You average first and take the smaller of two means: the smaller gain is taken for each token, before "
            "the mean.",
            (SmallerMeanGain(),),
        ),
        Mistake(
            "the larger mean error",
            "You average first and take the larger of two mean errors: the larger error is taken for each token, "
            "before the mean.",
            (LargerMeanError(),),
        ),
        Mistake(
            "means compared in both",
            "In both losses you average first and compare the means: the smaller gain and the larger error are taken "
            "for each token, before the mean.",
            (BothMeansCompared(),),
        ),
        Mistake(
            "1 ± ε in single precision",
            "Right but for rounding: 1 − ε and 1 + ε are constants in single precision, with only seven digits. That "
            "is what `torch.tensor` makes of a Python number; `clamp` takes plain numbers, which lose nothing.",
            (SingleConstants(),),
        ),
        Mistake(
            "ε in single precision",
            "Right but for rounding, in both losses: you made a tensor of ε, and `torch.tensor` makes a constant in "
            "single precision of a Python number, with only seven digits. Use `clip` as the plain number that it is.",
            (SingleClip(),),
        ),
        Mistake(
            "the values' ε in single precision",
            "Right but for rounding, in the values' loss: ε is a constant in single precision there, which is what "
            "`torch.tensor` makes of a Python number, with only seven digits. Use `clip` as it is given.",
            (SingleReach(),),
        ),
        Mistake(
            "ε written down",
            "In the policy's loss you wrote 0.2 for ε: take the `clip` that is given.",
            (ClipWritten(),),
        ),
        Mistake(
            "the values' ε written down",
            "In the values' loss you wrote 0.2 for ε: the `clip` that is given is for both losses.",
            (ReachWritten(),),
        ),
        Mistake(
            "ε written down twice",
            "You wrote 0.2 for ε: take the `clip` that is given, in both losses.",
            (ClipWrittenTwice(),),
        ),
        Mistake(
            "not clipped",
            "Your ratio is never clipped: the gain is the smaller of ρA and clip(ρ, 1 − ε, 1 + ε) A.",
            (NotClipped(),),
        ),
        Mistake(
            "clipped alone",
            "You use the clipped ratio always: where the policy moved to its disadvantage the unclipped one must "
            "count, or nothing would bring it back. Take the minimum of both.",
            (ClippedAlone(),),
        ),
        Mistake(
            "clipped above alone",
            "You clip the ratio from above alone: for a negative advantage the lower end, 1 − ε, is what counts.",
            (ClippedAbove(),),
        ),
        Mistake(
            "the smaller ratio",
            "You take the smaller ratio and then multiply by the advantage: with a negative advantage that is the "
            "larger gain. Multiply first.",
            (RatioFirst(),),
        ),
        Mistake(
            "ratio upside down",
            "Your ratio is old over new: it is π_new / π_old.",
            (RatioUpsideDown(),),
        ),
        Mistake(
            "ratio of logarithms",
            "You divide log-probabilities: the ratio of probabilities is the exponential of their difference.",
            (RatioOfLogarithms(),),
        ),
        Mistake(
            "difference for ratio",
            "You use the difference of the log-probabilities as the ratio: the exponential is missing.",
            (DifferenceForRatio(),),
        ),
        Mistake(
            "REINFORCE",
            "You multiply the advantage by log π, as REINFORCE does: PPO has the ratio to the old policy, clipped.",
            (NewProbability(),),
        ),
        Mistake(
            "the ratio detached",
            "The right numbers, but no gradient reaches the log-probabilities: only the old ones are constants, so do "
            "not use `detach` on the ratio.",
            (RatioDetached(),),
        ),
        Mistake(
            "the values detached",
            "The right numbers, but no gradient reaches the values: only the old ones and the returns are constants, "
            "so do not use `detach` on `values`.",
            (ValuesDetached(),),
        ),
        Mistake(
            "graph cut",
            "The right numbers, but neither loss has a gradient: do not use `detach`, `item` or `no_grad` here.",
            (NoGradient(),),
        ),
        Mistake(
            "multiplied by the mask",
            "Outside of the replies your exponential is infinite, you multiply by the mask, and ∞ · 0 is not a number: "
            "put zeros there before `exp`, and again before you sum, with `masked_fill(~mask, 0)`.",
            (MaskMultiplied(),),
        ),
        Mistake(
            "masked too late",
            "Outside of the replies your exponential overflows, and in the backward pass ∞ · 0 is not a number: put "
            "zeros there before `exp`, with `masked_fill(~mask, 0)`.",
            (MaskedLate(),),
        ),
        Mistake(
            "minus forgotten",
            "Your policy's loss is the gain itself, so training would make it small: put a minus in front.",
            (MinusForgotten(),),
        ),
        Mistake(
            "½ forgotten",
            "The loss of the values is half of the mean squared error.",
            (HalfForgotten(),),
        ),
        Mistake(
            "pair exchanged",
            "You return the values' loss first: the policy's comes first.",
            (PairExchanged(),),
        ),
        Mistake(
            "divided by all columns",
            "You divide by the number of all columns: the mean is over the marked tokens alone.",
            (MeanOverAll(),),
        ),
        Mistake(
            "mask forgotten",
            "You average over prompt and filler, too: only marked tokens count.",
            (MaskForgotten(),),
        ),
        Mistake("summed", "You add up the tokens: both losses are means.", (Summed(),)),
        Mistake(
            "mean of means",
            "You average within each reply first, so that a token of a short reply counts more: here every "
            "marked token has the same weight.",
            (MeanOfReplies(),),
        ),
        Mistake(
            "divided by the replies",
            "You divide by the number of replies: both losses are means over tokens.",
            (SumOfReplies(),),
        ),
        Mistake(
            "values not clipped",
            "Your clipped values never count: the error is the larger of the value's and the clipped value's, and a "
            "value is held near its old value.",
            (ValuesNotClipped(),),
        ),
        Mistake(
            "values clipped alone",
            "You use the clipped value always, which has no gradient once it left the clip: take the larger of "
            "both errors.",
            (ValuesClippedAlone(),),
        ),
        Mistake(
            "the smaller error",
            "You take the smaller of the two errors: the larger one is the cautious one.",
            (SmallerError(),),
        ),
        Mistake(
            "the value taken for a ratio",
            "You clip the value between 1 − ε and 1 + ε, as if it were a ratio: it is held within ε of its old "
            "value.",
            (ValueClamped(),),
        ),
    ),
    hints=(
        "Two losses that are built alike: one quantity as it is, the same held near where it was, and of the two "
        "the one that is worse for us.",
        "The ratio is `(logprobs - old_logprobs).exp()`, but outside of the replies anything may stand: put zeros "
        "there first. The gain is the minimum of the ratio times the advantage and of "
        "`ratio.clamp(1 - clip, 1 + clip)` times the advantage.",
        "A value held near its old one is `old_values + (values - old_values).clamp(-clip, clip)`. Of the two "
        "squared errors take the maximum.",
        "Both results are sums over marked tokens divided by `mask.sum()`: minus the gain, and half of the error. "
        "Use `masked_fill(~mask, 0)` before summing, not a product.",
    ),
)

EXERCISES = (REWARD_LOSS, KL_PENALTY, GAE, PPO_LOSS)
