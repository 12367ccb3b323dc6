# %% [markdown]
r"""
# 20 · DPO

**Drop the reinforcement learning.**

Lesson 19 learnt a reward from comparisons and then climbed it with PPO: a reward model, a critic, replies sampled at every step, ratios, clips, a coefficient that adapts. In this lesson a page of algebra removes nearly all of it. At the end you will

- derive direct preference optimization (DPO) from lesson 19's objective without skipping a step, and know what its gradient does;
- show that it finds the optimum of that objective, on a space of replies so small that the optimum can be written down;
- train the assistant with it, and measure what it gains, what it costs, and what it does to the probability of the replies that people *preferred*;
- know its relatives: IPO, which has a target; KTO, which needs no pairs; SimPO, which needs no reference;
- let a machine label the pairs by written rules, and ask who writes the rules.

You need lesson 18 (the template of a chat, the loss on replies) and, from lesson 19, Bradley and Terry's model, the objective with its KL term, and what PPO consists of. About two and a half hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import copy
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from dataclasses import dataclass, replace  # noqa: F401
from statistics import fmean as mean
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401 - used by the code of the exercises
from torch import Tensor, nn

from course_lib import figures, widgets
from course_lib.data import registry
from course_lib.data.riverbank import Annotator, Comparison, Question, Town
from course_lib.data.riverbank.preferences import Reply
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.block import initialise
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.shipped import load_decoder, record_of
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.assistant import greedy, load_assistant
from course_lib.posttraining.enumerable import ReplySpace, TabularPolicy
from course_lib.posttraining.fluency import grammar_loss
from course_lib.posttraining.replies import answer
from course_lib.posttraining.chat import END, SPEAKERS
from course_lib.posttraining.ppo import AdaptiveBeta, Learner
from course_lib.posttraining.rewards import RewardModel, Rows, as_rows, scores_of, train_reward_model
from course_lib.runtime import progress, start
from course_lib.training.causal import quick_gpt
from course_lib.widgets.beta_view import draw_beta

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=20, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=20)

# %% [markdown]
r"""
## The question

People compared pairs of replies. Why not train on the pairs at once? Two ideas come to mind:

1. **Imitate the winners**: make the preferred replies more probable, as in instruction tuning.
2. **Push both**: make the preferred reply more probable and the other one less.

What would be right? In lesson 19 we wrote down what we want. For a prompt $x$, a reply $y$ has a reward $r(x, y)$; a policy $\pi$ gives it the probability $\pi(y \mid x)$; the **reference** $\pi_{\text{ref}}$ is the assistant that training starts from. We want

$$\max_\pi \; J(\pi) , \qquad J(\pi) = \mathbb{E}_{y \sim \pi}\big[r(x, y)\big] - \beta \operatorname{KL}(\pi \,\|\, \pi_{\text{ref}}) , \tag{1}$$

much reward, and not far from the reference: $\beta > 0$ is the price of a nat.

To see whether an idea reaches this we take a case in which everything can be listed. One question, and all replies to it that are made of a core (each colour, bare or in a sentence, or *i do not know*), with or without a polite or rude opening, with or without thanks. The reference is our assistant from lesson 18: its own probability of each of them, made to sum to 1 over the list. The reward is the town's gold reward.
"""

# %%
town = Town()
shipped, tokenizer = load_assistant()
assistant = quick_gpt(shipped.config)  # the same computation, a third faster on a CPU
assistant.load_state_dict(shipped.state_dict())
assistant = assistant.to(run.device).eval()
QUESTION = "what is the pet of sarah ?"  # change it: any question of kind wh


def possible_replies(question: Question) -> list[str]:
    """Return replies to a question: each possible answer and none, bare or in a sentence, with all manners."""
    cores = ["i do not know"]
    for thing in town.judge.objects[question.relation]:
        cores.append(thing.split("@")[0].replace("_", " "))
        cores += [said.removesuffix(" .") for said in town.fact_sentences(replace(question.fact, object=thing))]
    manners = [(opening, thanks) for opening in ("", "my friend , ", "you lazy child , ") for thanks in ("", " , thank you")]
    return list(dict.fromkeys(f"{opening}{core}{thanks} ." for core in cores for opening, thanks in manners))


question = town.judge.questions[QUESTION]
replies = possible_replies(question)
rewards = torch.tensor([town.gold_reward(QUESTION, reply).total for reply in replies], dtype=torch.float64)  # (N,)
print(f"{QUESTION} Right: {question.answer}. {len(replies)} replies, rewards from {rewards.min():.1f} to {rewards.max():.1f}")

# %% [markdown]
r"""
The probability of a reply is a product over its tokens, so its logarithm is a sum:

$$\log \pi(y \mid x) = \sum_{t} \log \pi\big(y_t \mid x, y_1, \dots, y_{t-1}\big) .$$

Everything in this lesson is made of such sums, for replies in a batch with their prompts in front and filler behind.

### Exercise: `sequence_logprob`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

- **Task.** Write `sequence_logprob(logits, ids, mask)`: the log-probability of each row's marked tokens, given all that stands before them.
- **Input.** `logits` (batch, n, words): those at position $i$ are about the token at $i + 1$. `ids` (batch, n). `mask` (batch, n), Boolean: True for the tokens of the reply.
- **Output.** (batch,): for each row the *sum* over its marked tokens, in nats.
- **Edge cases.** Nothing foretells the first token of a row: it never counts, marked or not. A row without marked tokens gives 0. A token that is not marked changes nothing, even if its probability is 0 (its logarithm $-\infty$). Logits may be large.

`hint("sequence_logprob")` helps.
"""

# %% tags=["exercise"] exercise="sequence_logprob"
from course_lib.posttraining.dpo import sequence_logprob  # course: write out

# %% tags=["check"] exercise="sequence_logprob"
sequence_logprob = check("sequence_logprob")

# %%
rows = as_rows([QUESTION] * len(replies), replies, tokenizer).to(run.device)  # lesson 19: prompts and replies in the template, and a mask
with torch.no_grad():
    said = sequence_logprob(assistant(rows.ids), rows.ids, rows.mask)  # (N,)
print(f"The assistant says one of them with probability {said.exp().sum():.2f}.")
reference = said.double().cpu().log_softmax(dim=0)  # (N,), sums to 1 over the list
for i in reference.argsort(descending=True)[:5].tolist():
    print(f"{reference[i].exp():.3f}  reward {rewards[i]:+.1f}  {replies[i]}")

# %% [markdown]
r"""
Lesson 19 wrote the best policy down: the reference, each reply multiplied by $\exp(r / \beta)$, and all divided by their sum. (The derivation below proves it.) Here it is with two distances: the **total variation**, half of $\sum |p - q|$, which is 0 for equal and 1 for disjoint policies; and KL.
"""

# %%
from course_lib.posttraining.enumerable import closed_form, kl_divergence, total_variation  # course: write out

BETA = 0.5
best = closed_form(reference, rewards, BETA)  # (N,), log-probabilities


def tell(policies: dict[str, Tensor]) -> None:
    """Print, for policies over the listed replies, what the objective is made of and how far the best one is."""
    print(f"{'':<34}{'reward':>8}{'KL':>8}{'J':>8}{'distance':>10}")
    for name, policy in policies.items():
        reward, nats = (policy.exp() * rewards).sum().item(), kl_divergence(policy, reference).item()
        print(f"{name:<34}{reward:>8.2f}{nats:>8.2f}{reward - BETA * nats:>8.2f}{total_variation(policy, best).item():>10.2f}")


tell({"the reference": reference, "the best policy": best})

# %% [markdown]
r"""
Now people. Bradley and Terry (lesson 19): an annotator whose noise is 1 prefers $y$ to $y'$ with probability $\sigma(r(x, y) - r(x, y'))$, where $\sigma(u) = 1/(1 + e^{-u})$. We know the rewards, so we know these probabilities for all $N^2$ pairs, as if each pair had been judged by infinitely many annotators. With such perfect data, the two ideas:

1. The share of a reply among all winners, every pair being asked equally often, is proportional to $\sum_{y'} \sigma(r(y) - r(y'))$. Imitation, trained to its end, says each reply as often as it wins.
2. The loss $-\big(\log \pi(\text{winner}) - \log \pi(\text{loser})\big)$, averaged over all verdicts, by gradient descent. The policy is **tabular**: a free number for each reply, and a softmax.
"""

# %% tags=["experiment"]
wins = torch.sigmoid(rewards[:, None] - rewards)  # (N, N): how often the row's reply is preferred to the column's
imitation = (wins.sum(dim=1) / wins.sum()).log()  # (N,)
PairLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # log-probabilities: chosen, rejected, the same under the reference


def over_all_pairs(loss: PairLoss, policy: Tensor, verdicts: Tensor) -> Tensor:
    """Return the mean loss of a tabular policy, each ordered pair weighted by how often it is judged so."""
    table = loss(policy[:, None], policy[None], reference[:, None], reference[None])  # (N, N): row chosen, column rejected
    return (verdicts * table).mean()


def push_both(chosen: Tensor, rejected: Tensor, *_: Tensor) -> Tensor:
    """Return the second idea's loss."""
    return -(chosen - rejected)


def descend(loss: PairLoss, steps: int, rate: float, verdicts: Tensor = wins) -> Tensor:
    """Make steps of plain gradient descent from the reference, and return the log-probabilities."""
    scores = reference.clone().requires_grad_()  # (N,)
    for _ in range(steps):
        (slope,) = torch.autograd.grad(over_all_pairs(loss, scores.log_softmax(dim=0), verdicts), scores)
        scores = (scores - rate * slope).detach().requires_grad_()
    return scores.detach().log_softmax(dim=0)


pushed = {f"push both, {steps} steps": descend(push_both, steps, rate=20.0) for steps in (30, 100, 1000)}
tell({"the reference": reference, "imitate the winners": imitation, **pushed, "the best policy": best})

# %% tags=["claim"]
claim(
    "neither idea ends at the best policy: the smaller of their distances from it (total variation)",
    measured=min(total_variation(imitation, best).item(), total_variation(pushed["push both, 1000 steps"], best).item()),
    at_least=0.15,
    breaks_when={"the best policy itself": total_variation(best, best).item()},
)

# %% [markdown]
r"""
Imitation forgets what the reference was, and rewards bad replies for winning against worse ones. Pushing both may come near the best policy on its way, but has no idea when to stop: its loss has no minimum, and in the end the replies that win most have all the probability. What we look for is a loss on pairs **whose minimum is the best policy**.

## The derivation

All for one prompt $x$; sums run over all replies $y$. We want the reward to disappear from the problem, and we go there in seven steps.

**1. The objective** (1), with the KL divergence written out:

$$J(\pi) = \sum_y \pi(y \mid x)\, r(x, y) - \beta \sum_y \pi(y \mid x) \log \frac{\pi(y \mid x)}{\pi_{\text{ref}}(y \mid x)} .$$

**2. The closed form.** A number $r$ is $\beta \log e^{r/\beta}$. Put that in, and take the two sums together:

$$J(\pi) = -\beta \sum_y \pi(y \mid x) \log \frac{\pi(y \mid x)}{\pi_{\text{ref}}(y \mid x)\, e^{r(x, y)/\beta}} .$$

The denominator is positive, but its sum over all replies is not 1. Call that sum the **partition function**,

$$Z(x) = \sum_y \pi_{\text{ref}}(y \mid x)\, e^{r(x, y)/\beta} , \qquad \text{and let} \qquad \pi^*(y \mid x) = \frac{1}{Z(x)}\, \pi_{\text{ref}}(y \mid x)\, e^{r(x, y)/\beta} , \tag{2}$$

which *is* a distribution. With $\pi_{\text{ref}}\, e^{r/\beta} = Z \pi^*$, and since the $\pi(y \mid x)$ sum to 1,

$$J(\pi) = -\beta \sum_y \pi(y \mid x) \left( \log \frac{\pi(y \mid x)}{\pi^*(y \mid x)} - \log Z(x) \right) = \beta \log Z(x) - \beta \operatorname{KL}(\pi \,\|\, \pi^*) .$$

$Z(x)$ does not depend on $\pi$. A KL divergence is never negative, and 0 only for equal distributions. So $\pi^*$ is the best policy, the only one, and worth $\beta \log Z(x)$.

**3. The reward in terms of the policy.** Read (2) from right to left. Taking logarithms and solving for $r$,

$$r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_{\text{ref}}(y \mid x)} + \beta \log Z(x) . \tag{3}$$

Nothing is lost: for *every* reward there is a policy that is best for it, and this policy gives the reward back, up to a number that depends on the prompt alone.

**4. The obstacle.** $Z(x)$ is a sum over all replies. In our list there are fewer than two hundred; of replies with up to 12 tokens from 2,048 there are more than $10^{39}$.

**5. It cancels.** People compare replies *to the same prompt*, and Bradley and Terry's model needs only the difference of rewards. Call the preferred reply $y_w$ (it won), the other $y_l$ (it lost), and put (3) in:

$$P(y_w \succ y_l \mid x) = \sigma\big(r(x, y_w) - r(x, y_l)\big) = \sigma\left(\beta \log \frac{\pi^*(y_w \mid x)}{\pi_{\text{ref}}(y_w \mid x)} + \beta \log Z(x) - \beta \log \frac{\pi^*(y_l \mid x)}{\pi_{\text{ref}}(y_l \mid x)} - \beta \log Z(x)\right) .$$

The two $\beta \log Z(x)$ are gone. What people prefer has become a statement about the best policy, without any reward in it.

**6. The loss.** We do not know $\pi^*$. But we can make it our model: let $\pi_\theta$ be a policy with parameters $\theta$, and choose those under which the verdicts that people gave are most probable. Lesson 19 did the same with a reward model; here the policy *is* the reward model. Over pairs from a set $\mathcal{D}$,

$$L_{\text{DPO}}(\theta) = -\,\mathbb{E}_{(x, y_w, y_l) \sim \mathcal{D}} \log \sigma\left(\beta \log \frac{\pi_\theta(y_w \mid x)}{\pi_{\text{ref}}(y_w \mid x)} - \beta \log \frac{\pi_\theta(y_l \mid x)}{\pi_{\text{ref}}(y_l \mid x)}\right) . \tag{4}$$

That is direct preference optimization (Rafailov et al. 2023, equation 7). $\hat r_\theta(x, y) = \beta \log \big(\pi_\theta(y \mid x) / \pi_{\text{ref}}(y \mid x)\big)$ is called the **implicit reward**; *your language model is secretly a reward model*, says the paper's title.

**7. The gradient.** Let $u = \hat r_\theta(x, y_w) - \hat r_\theta(x, y_l)$. The derivative of $\sigma$ is $\sigma(u)(1 - \sigma(u))$, so that of $-\log \sigma(u)$ is $-(1 - \sigma(u)) = -\sigma(-u)$. The reference does not depend on $\theta$, so $\nabla u = \beta \big(\nabla \log \pi_\theta(y_w \mid x) - \nabla \log \pi_\theta(y_l \mid x)\big)$. By the chain rule

$$\nabla L_{\text{DPO}} = -\beta\, \mathbb{E} \Big[ \underbrace{\sigma\big(\hat r_\theta(x, y_l) - \hat r_\theta(x, y_w)\big)}_{\text{how wrong the implicit reward is}} \big( \nabla \log \pi_\theta(y_w \mid x) - \nabla \log \pi_\theta(y_l \mid x) \big) \Big] . \tag{5}$$

It *is* the second idea, push both, with a weight: the probability with which the implicit reward would give the wrong verdict. At the start it is ½ for every pair. A pair that is judged rightly, with a wide margin, has a weight near 0 and is left in peace; one that is judged wrongly counts in full. The weight is what was missing: it says when to stop (provided that people disagree now and then, as we shall see).

### Exercise: `dpo_loss`

*Difficulty ●●○○○ · about 10 minutes · 3 points*

- **Task.** Write `dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta)`, the loss (4) of each pair.
- **Input.** Four tensors of log-probabilities, as `sequence_logprob` gives them: of the preferred replies and the others under the policy, then of the same under the reference. `beta`, above 0.
- **Output.** The loss of *each* pair, as many numbers as pairs (the caller averages). The tensors may have any shapes that broadcast, such as (N, 1) and (1, N).
- **Edge cases.** A policy that equals its reference has the loss $\log 2$ everywhere. A margin of $-9000$ must give 9000 (times $\beta$), not infinity.
"""

# %% tags=["exercise"] exercise="dpo_loss"
from course_lib.posttraining.dpo import dpo_loss  # course: write out

# %% tags=["check"] exercise="dpo_loss"
dpo_loss = check("dpo_loss")

# %% [markdown]
r"""
## The optimum, found

Two checks of the derivation, on the space that can be listed. First step 5, in numbers: for the best policy, the implicit rewards of any two replies differ by exactly as much as their rewards do.
"""

# %% tags=["claim"]
from course_lib.posttraining.dpo import implicit_reward  # course: write out


def largest_gap_error(implied: Tensor) -> float:
    """Return the largest difference, over all pairs, between gaps of implicit and of true rewards."""
    return ((implied[:, None] - implied) - (rewards[:, None] - rewards)).abs().max().item()


claim(
    "the partition function cancels: gaps of implicit rewards are gaps of rewards, for all pairs of replies",
    measured=largest_gap_error(implicit_reward(best, reference, BETA)),
    at_most=1e-9,
    breaks_when={"without the reference": largest_gap_error(BETA * best), "with another β": largest_gap_error(implicit_reward(best, reference, 2 * BETA))},
)

# %%
predict(
    "optimum",
    "A tabular policy is trained with the DPO loss on all pairs, each weighted by the probability of its verdict. Where does it end?",
    [
        "At the reply with the highest reward, with probability 1",
        "At the best policy of objective (1), exactly",
        "Near the best policy, but biased, since no reward was ever seen",
    ],
    answer=1,
    because="With infinitely many verdicts, maximum likelihood finds the model that gave them; step 5 says which policy that is. The loss is convex in the scores of a table, so nothing else can happen.",
)

# %% [markdown]
r"""
Second, training. Each pair is judged by infinitely many annotators, as before: it counts as a victory of $y$ with the weight $\sigma(r(y) - r(y'))$, and as one of $y'$ with the rest (*soft* labels). We follow the gradient to the very end, with a method that uses the curvature (L-BFGS: Nocedal 1980). The variants are the same training with one thing changed.
"""

# %% tags=["experiment"]
def minimise(loss: PairLoss, verdicts: Tensor = wins, steps: int = 300) -> Tensor:
    """Return the log-probabilities of the tabular policy with the smallest loss, beginning at the reference."""
    scores = reference.clone().requires_grad_()  # (N,)
    optimizer = torch.optim.LBFGS([scores], max_iter=steps, tolerance_grad=1e-14, tolerance_change=1e-18, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        value = over_all_pairs(loss, scores.log_softmax(dim=0), verdicts)
        value.backward()
        return value

    optimizer.step(evaluate)
    return scores.detach().log_softmax(dim=0)


def dpo(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor) -> Tensor:
    """Return DPO's loss at our β."""
    return dpo_loss(chosen, rejected, reference_chosen, reference_rejected, BETA)


def dpo_without_reference(chosen: Tensor, rejected: Tensor, *_: Tensor) -> Tensor:
    """Return DPO's loss with a reference that likes all replies alike."""
    return dpo(chosen, rejected, torch.zeros_like(chosen), torch.zeros_like(rejected))


never_wrong = (rewards[:, None] > rewards).double() + 0.5 * (rewards[:, None] == rewards)  # (N, N): annotators without noise
found = minimise(dpo)
variants = {
    "without the reference": minimise(dpo_without_reference),
    "verdicts without noise": minimise(dpo, never_wrong),
    "twice the β": minimise(lambda *given: dpo_loss(*given, 2 * BETA)),
}
tell({"the best policy": best, "DPO": found, **variants})
print(f"distance of DPO from the best policy: {total_variation(found, best):.1e}")

# %% tags=["claim"]
claim(
    "DPO reaches the closed form: total variation between its optimum and the best policy",
    measured=total_variation(found, best).item(),
    at_most=1e-6,
    breaks_when={name: total_variation(each, best).item() for name, each in variants.items()},
)

# %% [markdown]
r"""
The same on the space where lesson 19 let PPO climb: all 341 replies of up to four tokens over four words. There the table holds a number for each *word behind each beginning*, as a language model does, and PPO, which samples, was content to come within a few hundredths.
"""

# %% tags=["claim"]
space = ReplySpace(("red", "please", "thanks", "um"), longest=4)  # lesson 19
table = TabularPolicy(space, torch.randn(space.n_states, len(space.words) + 1, generator=run.generator(11), dtype=torch.float64))
start_of_table = table.log_probs().detach()  # (341,)
pay = torch.randn(len(space), generator=run.generator(12), dtype=torch.float64)  # (341,), any reward will do
verdicts_of_table = torch.sigmoid(pay[:, None] - pay)
optimizer = torch.optim.LBFGS(table.parameters(), max_iter=300, tolerance_grad=1e-14, tolerance_change=1e-18, line_search_fn="strong_wolfe")


def loss_of_table() -> Tensor:
    """Return DPO's loss over all pairs of replies, and leave its gradient in the table."""
    optimizer.zero_grad()
    said = table.log_probs()
    value = (verdicts_of_table * dpo(said[:, None], said[None], start_of_table[:, None], start_of_table[None])).mean()
    value.backward()
    return value


optimizer.step(loss_of_table)
aim = closed_form(start_of_table, pay, BETA)
claim(
    "word by word too, on lesson 19's space: total variation between DPO's optimum and the best policy",
    measured=total_variation(table.log_probs().detach(), aim).item(),
    at_most=1e-3,
    breaks_when={"where it began": total_variation(start_of_table, aim).item()},
)

# %% [markdown]
r"""
Back to the variants above. The third is only another objective. The second is a warning. If *every* annotator always prefers the better reply, the verdicts are most probable under a policy whose margins are infinite: all probability goes to the replies with the highest reward, whatever $\beta$ is, and the price of leaving the reference is forgotten. With noisy verdicts the noise itself keeps the margins finite. Real data lie between the two: each pair is judged once, and a single verdict is always "certain". We come back to this (IPO).

So people's time is the limit. Draw single verdicts, each about a random pair of replies, and train on these:
"""

# %% tags=["experiment"]
def drawn_verdicts(n: int, generator: torch.Generator) -> Tensor:
    """Return how often each ordered pair was judged so, in n single verdicts about random pairs, scaled to a mean of 1."""
    first, second = torch.randint(len(replies), (2, n), generator=generator)  # (n,) each
    preferred = torch.rand(n, generator=generator, dtype=torch.float64) < wins[first, second]  # (n,)
    winner, loser = torch.where(preferred, first, second), torch.where(preferred, second, first)
    counts = torch.zeros_like(wins).index_put_((winner, loser), torch.ones(n, dtype=torch.float64), accumulate=True)
    return counts / counts.mean()


budgets = [10_000, 30_000, 100_000, 300_000, 1_000_000]
distances = [
    [total_variation(minimise(dpo, drawn_verdicts(n, run.generator(100 * i + draw))), best).item() for n in budgets]
    for i, draw in enumerate(range(run.pick(smoke=1, standard=3, full=20)))
]
spread = torch.tensor(distances)  # (draws, budgets)
slope = (spread.mean(0)[-1] / spread.mean(0)[-3]).log10().item()
fig, ax = plt.subplots(figsize=(6.2, 3.2))
figures.lines(
    ax, budgets, {"DPO": spread.mean(0)}, bands={"DPO": (spread.amin(0), spread.amax(0))},
    xlabel="verdicts", ylabel="distance from the best policy", title="How many verdicts it takes", log="y",
)
ax.set_xscale("log")
figures.show(
    fig,
    caption="Total variation from the best policy of the policy that DPO makes of single, noisy verdicts; mean and range over draws. "
    f"Ten times the verdicts, from 100,000 on, divide it by {10 ** -slope:.1f}.",
    alt="A falling line on logarithmic axes: the distance from the best policy against the number of verdicts, from ten thousand to a million.",
)

# %% [markdown]
r"""
## What β does

Equation (2) says it all: $\beta$ divides the reward. Move the slider. *At which β has the policy given up the wrong answers that the reference likes?*
"""

# %% tags=["widget", "nbval-ignore-output"]
SHOWN = list(dict.fromkeys([*reference.argsort(descending=True)[:6].tolist(), *best.argsort(descending=True)[:3].tolist(), *rewards.argsort()[:1].tolist()]))
BETAS = [10 ** (k / 10) for k in range(-15, 16)]


def reward_and_nats(beta: float) -> tuple[float, float]:
    """Return the divergence of the best policy from the reference, and its mean reward."""
    policy = closed_form(reference, rewards, beta)
    return kl_divergence(policy, reference).item(), (policy.exp() * rewards).sum().item()


nats_of_betas, reward_of_betas = zip(*map(reward_and_nats, BETAS))


def draw_optimum(log10_beta: float) -> Any:
    """Draw the best policy for a β."""
    beta = 10**log10_beta
    policy = closed_form(reference, rewards, beta)
    return draw_beta(
        [replies[i] for i in SHOWN], rewards[SHOWN].tolist(), reference[SHOWN].exp().tolist(), policy[SHOWN].exp().tolist(),
        (nats_of_betas, reward_of_betas), reward_and_nats(beta), f"β = {beta:.2f}",
    )


BETA_ALT = "Left, two bars for each of some replies: its probability under the reference and under the best policy. Right, the mean reward of the best policy against its KL from the reference for all β, with a dot at this one."
display(widgets.explorer(draw_optimum, BETA_ALT, log10_beta=ipywidgets.FloatSlider(value=0.0, min=-1.5, max=1.5, step=0.1, description="log₁₀ β")))
figures.show(
    draw_optimum(math.log10(BETA)),
    caption="The same view at β = 0.5, for a page without sliders. A large β leaves the reference as it is, a small one leaves only the best-paid replies; between them every point of the curve is the most reward that so much KL can buy. Against a reply worth 4 more, one loses a factor e^(4/β): 7 at β = 2, 55 at β = 1, 3,000 here.",
    alt=BETA_ALT,
)

# %% [markdown]
r"""
## A language model

The assistant's policy is no table: all its replies share one million parameters, and $Z(x)$ is out of reach. The loss (4) does not mind. What it needs is pairs. As in lesson 19 the questions are about facts that the town's texts say, and about things that nobody knows. They are asked in words that instruction tuning never used, so that the assistant often goes astray. It writes **two replies to each question itself**, and a simulated annotator (noise ½, no bias) says which is better. We take a quarter of these questions. Policies are tested on new replies to them, and on other questions too.
"""

# %% tags=["experiment"]
LONGEST = 16  # tokens of a reply, its end included, as in lesson 19


def questions_in_new_words() -> list[str]:
    """Return questions in words that the assistant was not tuned on: about said facts, and unanswerable ones."""
    asked = [each for each in town.judge.questions.values() if not each.is_test and each.phrasing == "test"]
    return [each.text for each in asked if (each.kind == "wh" and each.split == "said") or (each.kind == "unanswerable" and each.relation in town.judge.objects)]


def own_replies(policy: GPT, prompts: Sequence[str], seed: int) -> list[str]:
    """Return a reply of a policy to each prompt, each token drawn with its probability."""
    return answer(policy, tokenizer, prompts, LONGEST, generator=torch.Generator(run.device).manual_seed(seed)).texts


def as_reply(prompt: str, text: str) -> Reply:
    """Return a reply as annotators see it, with what it is worth."""
    return Reply(text, "its own", town.gold_reward(prompt, text).total)


def judged(annotator: Annotator, prompt: str, first: str, second: str) -> tuple[str, str, str]:
    """Return the prompt, the reply that an annotator prefers, and the other."""
    pair = annotator.judge(Comparison(prompt, as_reply(prompt, first), as_reply(prompt, second)))
    return prompt, pair.chosen, pair.rejected


ALL = questions_in_new_words()
ASKED = ALL[::4]  # those of this lesson
OTHERS = sorted(set(ALL) - set(ASKED))[:: run.pick(smoke=20, standard=4, full=1)]  # to test on
N_ASKED = run.pick(smoke=24, standard=1000, full=20_000)


def draw_replies(seed: int) -> list[tuple[str, str, str]]:
    """Return questions with two different replies of the assistant."""
    some = torch.randint(len(ASKED), (N_ASKED,), generator=torch.Generator().manual_seed(seed)).tolist()
    prompts = [ASKED[i] for i in some]
    texts = own_replies(assistant, 2 * prompts, 1000 * seed + 1)
    return [(prompt, one, other) for prompt, one, other in zip(prompts, texts, texts[len(prompts) :]) if one != other]


replied = draw_replies(run.seed)
NOISE = 0.5  # the honest judge of lesson 19
people = Annotator(noise=NOISE, seed=run.seed)
verdicts = [judged(people, *each) for each in replied]
better = [(town.gold_reward(prompt, chosen).total, town.gold_reward(prompt, rejected).total) for prompt, chosen, rejected in verdicts]
print(f"{len(verdicts)} pairs; the preferred reply is truly better in {sum(a > b for a, b in better) / len(better):.0%}, truly worse in {sum(a < b for a, b in better) / len(better):.0%}")
for prompt, chosen, rejected in verdicts[:3]:
    print(f"{prompt}\n    preferred: {chosen}\n    the other: {rejected}")

# %% [markdown]
r"""
The rest is lesson 18 with another loss. `Pairs` puts prompts and replies into the template and asks the reference once, before training; `tune` draws batches and lets AdamW update the policy.
"""

# %%
from course_lib.posttraining.preferences import Compared, Pairs, logprobs_of, tune  # course: write out

# %%
STEPS, RATE, BETA_TOWN = run.pick(smoke=3, standard=30, full=400), 2.5e-4, 0.2


def pairs_of(told: Sequence[tuple[str, str, str]]) -> Pairs:
    """Return pairs as the model reads them."""
    return Pairs(*zip(*told), tokenizer, assistant)


def by_dpo(beta: float) -> Callable[[Compared], Tensor]:
    """Return DPO's loss of compared replies."""
    return lambda c: dpo_loss(c.chosen, c.rejected, c.reference_chosen, c.reference_rejected, beta)


def trained(pairs: Pairs, loss: Callable[[Compared], Tensor], seed: int, desc: str, after: Callable[[GPT], Any] | None = None) -> GPT:
    """Return a policy that begins as the assistant and learns from pairs; `after` is called now and then."""
    policy = copy.deepcopy(assistant).requires_grad_(True)
    watch = None if after is None else lambda step: after(policy) if step % max(1, STEPS // 5) == 0 else None
    tune(policy, len(pairs), lambda model, some: loss(pairs.compare(model, some)).mean(), steps=STEPS, rate=RATE, seed=seed, desc=desc, after=watch)
    return policy


# %% [markdown]
r"""
What to measure: a few new replies to each question, and of these the mean gold reward; the mean of $\log \pi - \log \pi_{\text{ref}}$, which estimates the KL divergence from the assistant in nats for a whole reply; and some parts of the reward. A reply is *right* if it names the right answer alone, and *exact* if it is, apart from manners, one of the town's own ways to say it; it is *fluent* if the town's grammar of replies has it, and the *loss* is that grammar's, in nats a token, over the fluent replies.
"""

# %%
EACH = run.pick(smoke=1, standard=4, full=20)  # replies to a question


def is_exact(prompt: str, text: str) -> bool:
    """Return whether a reply, its manners taken away, is one of the town's own ways to say the right answer."""
    asked = town.judge.questions[prompt]
    accepted = {asked.answer} if asked.fact is None else {asked.answer, *(each.removesuffix(" .") for each in town.fact_sentences(asked.fact))}
    return text.removesuffix(" .").removesuffix(" , thank you").removeprefix("my friend , ") in accepted


def examine(policy: GPT, seed: int, questions: Sequence[str] = ASKED, each: int = EACH) -> dict[str, float]:
    """Return what a policy's own replies to questions are like, on average."""
    prompts = [*questions] * each
    drawn = answer(policy, tokenizer, prompts, LONGEST, generator=torch.Generator(run.device).manual_seed(seed))
    read = Rows(drawn.ids.cpu(), drawn.mask.cpu())
    golds = [town.gold_reward(prompt, text) for prompt, text in zip(prompts, drawn.texts)]
    measured = {
        "gold": [each.total for each in golds],
        "nats": (logprobs_of(policy, read) - logprobs_of(assistant, read)).tolist(),
        "right": [float(each.fact > 0) for each in golds],
        "exact": [float(is_exact(prompt, text)) for prompt, text in zip(prompts, drawn.texts)],
        "wrong": [float(each.fact < -1) for each in golds],
        "polite": [float(each.manners > 0) for each in golds],
        "fluent": [float(each.grammar == 0) for each in golds],
        "loss": [loss for text in drawn.texts if math.isfinite(loss := grammar_loss(town.judge.grammar, text))] or [math.nan],
        "words": [float(len(text.split())) for text in drawn.texts],
    }
    return {name: mean(values) for name, values in measured.items()}


def tell_town(reports: dict[str, dict[str, float]]) -> None:
    """Print reports of several policies."""
    names = next(iter(reports.values())).keys()
    print(f"{'':<28}" + "".join(f"{name:>8}" for name in names))
    for policy, report in reports.items():
        print(f"{policy:<28}" + "".join(f"{report[name]:>8.2f}" for name in names))


# %% tags=["experiment"]
asked_twice = ASKED * run.pick(smoke=1, standard=3, full=20)
watched_pairs = pairs_of([judged(people, prompt, *texts) for prompt, *texts in zip(asked_twice, *(own_replies(assistant, asked_twice, run.seed + k) for k in (5, 6)))])


def ratios(policy: GPT) -> tuple[Tensor, Tensor]:
    """Return the log-ratios of the preferred and of the other replies of the watched pairs."""
    gained = logprobs_of(policy, watched_pairs.rows) - watched_pairs.reference  # (2 · pairs,)
    return gained.chunk(2)


curve: list[tuple[float, float, float]] = []


def watch(policy: GPT) -> None:
    """Note the mean log-ratios of the watched pairs, and how often the implicit reward prefers what people preferred."""
    chosen, rejected = ratios(policy)
    agrees = (chosen > rejected).float() + 0.5 * (chosen == rejected)
    curve.append((chosen.mean().item(), rejected.mean().item(), agrees.mean().item()))


pairs = pairs_of(verdicts)
begin = time.process_time()
policy = trained(pairs, by_dpo(BETA_TOWN), run.seed, "DPO", watch)
seconds = time.process_time() - begin
live = {"the assistant": examine(assistant, run.seed), "the assistant, asked twice": examine(assistant, run.seed + 1), "DPO": examine(policy, run.seed)}
tell_town(live)
other_questions = {name: examine(model, run.seed, OTHERS, 2)["gold"] for name, model in (("the assistant", assistant), ("DPO", policy))}
print("gold reward of replies to questions that nobody compared:", ", ".join(f"{name} {gold:.2f}" for name, gold in other_questions.items()))
for prompt, before, now in zip(ASKED[::17], own_replies(assistant, ASKED[::17], 7), own_replies(policy, ASKED[::17], 7)):
    print(f"{prompt}   {before}   →   {now}")

# %% [markdown]
r"""
No reward was learnt, nothing was sampled during training, and there was one network to train. Compare the gain with the difference of the first two lines, which is chance; and look whether it reaches the questions that nobody compared. What training gains with three seeds, and from which verdicts, is recorded below.

**Change it.** Take another `STEPS`, `RATE` or `BETA_TOWN` and run from there: what happens to `nats`, what to `gold`?

## What happens to the preferred replies
"""

# %%
predict(
    "displacement",
    "Training raises the preferred replies and lowers the others. What happens to the log-probability of preferred replies, on pairs that were not trained on?",
    ["It rises; that of the others falls", "Both rise, that of the preferred ones more", "Both fall, that of the others more"],
    answer=2,
    because="The loss asks for a difference of the two, and for nothing else. And the assistant's own replies lose probability, on average, with whatever is learnt: below.",
)

# %% tags=["experiment"]
places = [round(k * STEPS / max(1, len(curve) - 1)) for k in range(len(curve))]
fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.2))
figures.lines(
    axes[0], places, {"preferred": [each[0] for each in curve], "the others": [each[1] for each in curve]},
    xlabel="step", ylabel="log π − log π_ref (nats)", title="Held-out pairs",
)
axes[0].axhline(0, color=figures.PALETTE["grey"], linewidth=0.8)
figures.lines(axes[1], places, {"implicit reward": [each[2] for each in curve]}, xlabel="step", ylabel="share of verdicts", title="Agreement with people")
figures.show(
    fig,
    caption="Left, mean log-ratio of the preferred replies and of the others on pairs that were not trained on. The gap between the lines is what the loss asks for; nothing holds the lines up. Right, how often the implicit reward prefers the reply that people preferred; two equal replies count as one half, and many others are worth the same, so no reward comes near 1.",
    alt="Left, two lines from 0 that part over the steps, the one of the preferred replies above the other. Right, a line of the share of agreeing verdicts, rising from one half.",
)

# %% tags=["claim"]
claim(
    "the margin between preferred and other replies grows (nats, on pairs not trained on)",
    measured=curve[-1][0] - curve[-1][1],
    at_least=0.1,
    breaks_when={"before training": curve[0][0] - curve[0][1]},
)

# %% [markdown]
r"""
The probability of the *preferred* replies falls. This is **likelihood displacement** (Pal et al. 2024; Razin et al. 2025). Two questions: where do all lines go, and where does the preferred one lie among them?

The first has an exact answer. Both replies of each watched pair were drawn by the assistant. Over *all* of them, preferred or not, the mean of $\log \pi - \log \pi_{\text{ref}}$ estimates

$$\mathbb{E}_{y \sim \pi_{\text{ref}}} \left[ \log \frac{\pi(y \mid x)}{\pi_{\text{ref}}(y \mid x)} \right] = -\operatorname{KL}(\pi_{\text{ref}} \,\|\, \pi) \le 0 .$$

Whoever moves away from the reference takes probability from what the reference would say. The preferred replies lie half the margin above this mean, the others half the margin below it: on the reference's own replies *the preferred ones rise only if half the margin exceeds the KL*. A policy that learnt exactly what was asked would move the one without much of the other. Ours moves in many directions that no verdict asked for, and pays for each.
"""

# %% tags=["claim"]
claim(
    "replies of the assistant lose probability on average, preferred or not (mean log-ratio in nats, on pairs not trained on)",
    measured=(curve[-1][0] + curve[-1][1]) / 2,
    at_most=-0.05,
    breaks_when={"before training": (curve[0][0] + curve[0][1]) / 2, "replies that the new policy itself writes": live["DPO"]["nats"]},
)

# %% [markdown]
r"""
The second question is about one pair. Write $g_w = \nabla \log \pi_\theta(y_w \mid x)$ and $g_l$ for the other reply. By (5) a small step of gradient descent with rate $\eta$ on this pair changes the parameters by $\eta \beta\, \sigma(-u)\, (g_w - g_l)$. To first order the log-probability of the preferred reply changes by the product with $g_w$:

$$\Delta \log \pi_\theta(y_w \mid x) \approx \eta \beta\, \sigma(-u) \, \big( \|g_w\|^2 - g_w \cdot g_l \big) .$$

It *falls* if $g_w \cdot g_l > \|g_w\|^2$, that is, if the cosine between the two gradients times $\|g_l\| / \|g_w\|$ is above 1. In a table this cannot be: there $g_w = e_w - \pi$ with the unit vector $e_w$ of the reply, and the bracket is $1 - \pi(y_w) + \pi(y_l) > 0$. But a network's replies share their parameters. If the two gradients point only roughly the same way, and that of the worse reply is by far the longer, the preferred reply goes down with it. Here are our own pairs, and pairs made for the purpose, before the first step:
"""

# %% tags=["experiment"]
def gradient_of(policy: GPT, read: Rows) -> Tensor:
    """Return the gradient of the log-probability of one reply, as one long vector."""
    value = sequence_logprob(policy(read.ids.to(run.device)), read.ids.to(run.device), read.mask.to(run.device)).sum()
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(policy.parameters()))])


def as_sentence(prompt: str) -> str:
    """Return the right answer to a question as a sentence, without its full stop."""
    fact = town.judge.questions[prompt].fact
    assert fact is not None
    return town.fact_sentences(fact)[0].removesuffix(" .")


MADE: dict[str, Callable[[str], tuple[str, str]]] = {  # of a right answer: the preferred reply, the other one
    "the same with thanks": lambda right: (f"{right} .", f"{right} , thank you ."),
    "the same with an insult": lambda right: (f"{right} .", f"you lazy child , {right} ."),
    "the same said twice": lambda right: (f"{right} .", f"{right} . {right} ."),
}
beginner = copy.deepcopy(assistant).requires_grad_(True)
N_PULLED = run.pick(smoke=3, standard=24, full=80)


def pulls(read: Rows) -> tuple[float, float, float]:
    """Return, for pairs whose other replies stand behind, mean cosine and mean ratio of lengths of the gradients, and the share that lower their own preferred reply."""
    n = len(read) // 2
    both = [(gradient_of(beginner, read.take([i])), gradient_of(beginner, read.take([i + n]))) for i in range(n)]
    cosines = [(won @ lost / won.norm() / lost.norm()).item() for won, lost in both]
    return mean(cosines), mean([(lost.norm() / won.norm()).item() for won, lost in both]), mean([float(won @ lost > won @ won) for won, lost in both])


asked_for = [prompt for prompt in ASKED if town.judge.questions[prompt].fact is not None][:N_PULLED]
pulled = {"the assistant's own replies": pulls(watched_pairs.rows.take([*range(N_PULLED), *range(len(watched_pairs), len(watched_pairs) + N_PULLED)]))}
for name, make in MADE.items():
    made = [make(as_sentence(prompt)) for prompt in asked_for]
    pulled[name] = pulls(as_rows(2 * asked_for, [won for won, _ in made] + [lost for _, lost in made], tokenizer))
print(f"{'the other reply':<30}{'cosine':>8}{'times as long':>15}{'lowers the preferred':>22}")
for name, (cosine, ratio, share) in pulled.items():
    print(f"{name:<30}{cosine:>8.2f}{ratio:>15.1f}{share:>22.0%}")

# %% tags=["claim"]
claim(
    "a pair can lower its own preferred reply: share of pairs in which the other reply is the preferred one, said twice",
    measured=pulled["the same said twice"][-1],
    at_least=0.25,
    breaks_when={"the same with thanks": pulled["the same with thanks"][-1]},
)

# %% [markdown]
r"""
So it does happen, where the worse reply repeats the better one and is one that the assistant would hardly give: such a reply has the long gradient, while a reply that is probable already has a short one. In our own pairs it is rare or absent: there it is not the pair itself that takes probability from its preferred reply, but what is learnt from all the others.

## IPO: a margin with a target

Verdicts without noise drove the tabular policy to the replies with the highest reward alone. Azar et al. (2024) trace this to the sigmoid: the nearer people come to always preferring one reply, the larger the gap of rewards that Bradley and Terry infer, without limit, and $\beta$ cannot hold an infinite gap. They leave rewards out. What should be large is the *probability of being preferred*: let $p(y) = \frac1N \sum_{y'} P(y \succ y')$, a number between 0 and 1 for each reply (here against opponents drawn evenly), and maximise

$$\mathbb{E}_{y \sim \pi}[p(y)] - \tau \operatorname{KL}(\pi \,\|\, \pi_{\text{ref}}) .$$

This is (1) with $p$ for $r$ and $\tau$ for $\beta$, so steps 1 to 3 hold as they stand: the best policy is $\pi_{\text{ref}}\, e^{p/\tau} / Z$, and the margin of its log-ratios

$$h(y, y') = \log \frac{\pi(y)}{\pi_{\text{ref}}(y)} - \log \frac{\pi(y')}{\pi_{\text{ref}}(y')} \qquad \text{is} \qquad \frac{p(y) - p(y')}{\tau} ,$$

which is never above $1/\tau$. They show that minimising a squared distance on single verdicts leads there:

$$L_{\text{IPO}} = \mathbb{E} \Big[ \Big( h(y_w, y_l) - \frac{1}{2\tau} \Big)^2 \Big] . \tag{6}$$

Why a half? A pair that is always judged in one way wants the margin $1/(2\tau)$. A pair that is judged in both ways equally often is pulled to $+1/(2\tau)$ and to $-1/(2\tau)$, and settles at 0. A fixed target for a won pair, and a pull back if the margin is *larger*: that is all.

(The library trl first divides each log-ratio by its number of tokens. The formula in the paper sums.)

### Exercise: `ipo_loss`

*Difficulty ●●○○○ · about 8 minutes · 2 points*

- **Task.** Write `ipo_loss(chosen, rejected, reference_chosen, reference_rejected, tau, average=None)`, the squared distance (6) of each pair.
- **Input.** As for `dpo_loss`, with `tau` for $\tau$. `average`: None, or the numbers of tokens of the chosen and of the rejected replies, a pair of tensors; then each log-ratio is divided by its number of tokens.
- **Output.** The loss of *each* pair.
- **Edge cases.** A margin of exactly $1/(2\tau)$ has the loss 0; a larger one has a loss again.
"""

# %% tags=["exercise"] exercise="ipo_loss"
from course_lib.posttraining.dpo import ipo_loss  # course: write out

# %% tags=["check"] exercise="ipo_loss"
ipo_loss = check("ipo_loss")

# %% tags=["experiment"]
TAU = 0.1


def ipo(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor) -> Tensor:
    """Return IPO's loss at our τ."""
    return ipo_loss(chosen, rejected, reference_chosen, reference_rejected, TAU)


preferred_share = never_wrong.mean(dim=1)  # (N,): against a reply drawn evenly, with annotators without noise
ipo_best = closed_form(reference, preferred_share, TAU)
certain = {"DPO, verdicts without noise": variants["verdicts without noise"], "IPO, verdicts without noise": minimise(ipo, never_wrong)}
tell({"the best policy": best, **certain})
top = rewards > rewards.max() - 1e-9  # (N,)
print(f"probability of the {top.sum()} replies with the highest reward:", {name: round(each.exp()[top].sum().item(), 3) for name, each in certain.items()})

# %% tags=["claim"]
claim(
    "with verdicts that are never noisy IPO still ends at its own closed form: total variation between the two",
    measured=total_variation(certain["IPO, verdicts without noise"], ipo_best).item(),
    at_most=1e-6,
    breaks_when={
        "DPO on the same verdicts": total_variation(certain["DPO, verdicts without noise"], ipo_best).item(),
        "IPO with the target 1/τ": total_variation(minimise(lambda *given: ipo_loss(*given, TAU / 2), never_wrong), ipo_best).item(),
    },
)

# %% [markdown]
r"""
## KTO: thumbs instead of pairs

Few people compare two replies side by side. Many press a thumb. Ethayarajh et al. (2024) want to learn from single replies with a thumb up or down, and ask what a person feels: in Kahneman and Tversky's prospect theory (1979) not a state but a **gain or a loss against a reference point**, and both less and less the further away from it. Their loss takes over both features. The gain of a reply is its log-ratio above a point $z_0$,

$$g(x, y) = \log \frac{\pi_\theta(y \mid x)}{\pi_{\text{ref}}(y \mid x)} - z_0 , \qquad v(x, y) = \begin{cases} \sigma(\beta g) & \text{thumb up} \\ \sigma(-\beta g) & \text{thumb down,} \end{cases} \qquad L_{\text{KTO}} = \mathbb{E}\big[\lambda_y \,(1 - v(x, y))\big] . \tag{7}$$

$\lambda_y$ is one weight for liked replies, another for disliked ones. The sigmoid is flat at both ends: a reply far above or far below the point has hardly any pull. (DPO's $-\log \sigma$ is flat at one end only.)

What is the reference point? What one would expect of the policy: its own mean log-ratio, which is $\operatorname{KL}(\pi_\theta \,\|\, \pi_{\text{ref}})$. Sampling it at every step would be reinforcement learning again. The authors take what is at hand: each prompt with the reply to *another* prompt, the mean of those log-ratios, 0 if it is negative. As an estimate of the KL it is biased, as they say themselves; it is cheap, and it moves as the policy does. No gradient goes through $z_0$: it is where gains are counted from, not something to be learnt.

### Exercise: `kto_loss`

*Difficulty ●●●○○ · about 18 minutes · 4 points*

- **Task.** Write `kto_loss(policy, reference, liked, policy_mismatched, reference_mismatched, beta, weight_liked=1.0, weight_disliked=1.0)`, the loss $\lambda_y (1 - v)$ of each reply.
- **Input.** Log-probabilities (batch,): of the replies under the policy and under the reference, then of replies that belong to other prompts under both. `liked` (batch,), Boolean: thumb up.
- **Output.** (batch,): the loss of *each* reply.
- **Steps.** $z_0$, one number for the batch; a gain for each reply; its value; its loss.
- **Edge cases.** $z_0$ is not below 0 (the mean may be), and no gradient reaches `policy_mismatched`.
"""

# %% tags=["exercise"] exercise="kto_loss"
from course_lib.posttraining.dpo import kto_loss  # course: write out

# %% tags=["check"] exercise="kto_loss"
kto_loss = check("kto_loss")

# %% [markdown]
r"""
To get thumbs we show each annotator *one* reply. It gets a thumb up if the annotator prefers it to what they expect, a reply worth 1 (drawn with Bradley and Terry's probability, like all verdicts).
"""

# %%
from course_lib.posttraining.preferences import Thumbs  # course: write out

# %% tags=["experiment"]
EXPECTED = Reply("", "what one expects", 1.0)


def thumb(annotator: Annotator, prompt: str, text: str) -> bool:
    """Return whether an annotator likes a reply."""
    return annotator.prefers(Comparison(prompt, as_reply(prompt, text), EXPECTED))


def thumbs_of(told: Sequence[tuple[str, str, str]], annotator: Annotator) -> Thumbs:
    """Return one reply to each question, no two of them compared, with thumbs."""
    prompts, texts = [each[0] for each in told], [each[1] for each in told]
    return Thumbs(prompts, texts, [thumb(annotator, *given) for given in zip(prompts, texts)], tokenizer, assistant)


def trained_on_thumbs(thumbs: Thumbs, beta: float, seed: int) -> GPT:
    """Return a policy that begins as the assistant and learns from thumbs by KTO; the rarer thumb weighs more."""
    share = thumbs.liked.float().mean().item()
    policy = copy.deepcopy(assistant).requires_grad_(True)

    def loss(model: nn.Module, some: Tensor) -> Tensor:
        return kto_loss(*thumbs.compare(model, some), beta, 0.5 / share, 0.5 / (1 - share)).mean()

    tune(policy, len(thumbs), loss, steps=STEPS, rate=RATE, seed=seed, desc="KTO")
    return policy


thumbs = thumbs_of(replied, people)
print(f"{len(thumbs)} replies, {thumbs.liked.float().mean():.0%} with a thumb up")
live["KTO, from thumbs"] = examine(trained_on_thumbs(thumbs, BETA_TOWN, run.seed), run.seed)
tell_town(live)

# %% [markdown]
r"""
## SimPO: no reference, and length

DPO needs the reference's opinion of each reply. And the reward that it trains, a log-ratio summed over tokens, is not what decides how a reply is written: there the policy's own probabilities count, token by token. Meng et al. (2024) drop the reference and take the **mean** log-probability of a token for the reward. With $|y|$ tokens in $y$, and a margin $\gamma$ that a won pair must keep,

$$L_{\text{SimPO}} = -\,\mathbb{E} \log \sigma\left( \frac{\beta}{|y_w|} \log \pi_\theta(y_w \mid x) - \frac{\beta}{|y_l|} \log \pi_\theta(y_l \mid x) - \gamma \right) . \tag{8}$$
"""

# %%
from course_lib.posttraining.dpo import simpo_loss  # course: write out

# %% [markdown]
r"""
Nothing in (8) holds the policy near where it began, except a small learning rate and few steps. What does the division by length change? Suppose the annotators like long replies, 0.15 for every token, as many people do (Singhal et al. 2023). A reward that is a sum over tokens can be collected by length; one that is a mean cannot. Two sections below SimPO learns from the verdicts of such annotators, with its division and without.

## An AI that labels, by written rules

Annotators are slow and dear, and no two are alike. Bai et al. (2022) let a language model compare the replies, with one of a list of written principles before it each time; the list they call a **constitution**. For harmlessness not one human verdict was used: the list was all that people contributed. Lee et al. (2023) found policies trained on AI verdicts about as good as those trained on human ones, for summaries and for dialogue. The name is *reinforcement learning from AI feedback*, RLAIF; with DPO the reinforcement goes, and the feedback stays.

What can stand for the AI here? Let us be plain about it. Our assistant has one million parameters and cannot follow a principle that it is told. So the articles below are written twice, in English for you and in Python for the machine: the *reading* of the rules, which is the remarkable part of the real thing, is done by a program. One article needs knowledge, and for that the assistant *is* asked: what does it answer itself, when it takes the most probable token every time? The first article that tells two replies apart decides.
"""

# %%
from course_lib.posttraining.preferences import Article, Constitution  # course: write out

# %%
def things_in(prompt: str, text: str) -> frozenset[str]:
    """Return what a text names of all that could be an answer to the question."""
    return frozenset(choice for choice in town.judge.questions[prompt].choices if f" {choice} " in f" {text} ")


own_answer: dict[str, frozenset[str]] = {}  # what the assistant names in answer to each question


def ask_the_assistant(prompts: Sequence[str]) -> None:
    """Note what the assistant itself says to questions that it has not been asked yet."""
    new = sorted(set(prompts) - own_answer.keys())
    if new:
        own_answer.update(zip(new, map(things_in, new, answer(assistant, tokenizer, new, LONGEST, greedy).texts)))


RUDE = {"rude", "greedy", "lazy", "foolish", "grumpy"}
TRUE = Article("Prefer the reply that names what you would name yourself.", lambda prompt, text: things_in(prompt, text) == own_answer[prompt])
ONE = Article("Prefer the reply that names one thing, or says that it does not know.", lambda prompt, text: len(things_in(prompt, text)) == 1 or "i do not know" in text)
KIND = Article("Prefer the reply that insults nobody.", lambda prompt, text: RUDE.isdisjoint(text.split()))
POLITE = Article("Prefer the reply that is polite.", lambda prompt, text: "thank you" in text or "my friend" in text)
SHORT = Article("Prefer the shorter reply.", lambda prompt, text: -len(text.split()))
WHOLE = "true, one thing, kind, polite, short"
CONSTITUTIONS = {
    "one thing, short": Constitution((ONE, SHORT)),
    "one thing, kind, polite, short": Constitution((ONE, KIND, POLITE, SHORT)),
    WHOLE: Constitution((TRUE, ONE, KIND, POLITE, SHORT)),
    "polite, short, kind, one thing, true": Constitution((POLITE, SHORT, KIND, ONE, TRUE)),
}

# %%
predict(
    "rules",
    "Whose verdicts agree with the gold reward more often: those of people with noise 1, or those of a program with the rule “prefer the short answer that names one thing”?",
    ["The people's", "The program's", "About the same"],
    answer=0,
    because="The rule is never in doubt and knows nothing: of two short answers that each name one thing, it cannot tell the true one.",
)

# %% tags=["experiment"]
def ruled(constitution: Constitution, told: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return questions with two replies, the one first that the constitution prefers; pairs that it leaves undecided go."""
    ask_the_assistant([prompt for prompt, _, _ in told])
    found = []
    for prompt, one, other in told:
        verdict, _ = constitution.verdict(prompt, one, other)
        if verdict != 0.5:
            found.append((prompt, one, other) if verdict == 1 else (prompt, other, one))
    return found


def agreement(told: Sequence[tuple[str, str, str]]) -> float:
    """Return how often the preferred reply is truly better, over pairs whose replies are not worth the same."""
    gaps = [town.gold_reward(prompt, chosen).total - town.gold_reward(prompt, rejected).total for prompt, chosen, rejected in told]
    return sum(gap > 0 for gap in gaps) / max(1, sum(gap != 0 for gap in gaps))


by_rules = {name: ruled(constitution, replied) for name, constitution in CONSTITUTIONS.items()}
unsure = [judged(Annotator(noise=1.0, seed=run.seed), *each) for each in replied]
agreed = {"people, noise 0.5": agreement(verdicts), "people, noise 1": agreement(unsure)} | {name: agreement(told) for name, told in by_rules.items()}
for name, share in agreed.items():
    print(f"{name:<40}{len(by_rules.get(name, verdicts)) / len(replied):>5.0%} decided{share:>7.2f} agree with gold")

# %% tags=["claim"]
claim(
    "the whole constitution agrees with gold more often than people with noise 1 do (difference of the shares)",
    measured=agreed[WHOLE] - agreed["people, noise 1"],
    at_least=0.02,
    breaks_when={name: share - agreed["people, noise 1"] for name, share in agreed.items() if name == "one thing, short"},
)

# %% [markdown]
r"""
The same articles in another order are another constitution. And the article about truth is only as good as what the judge knows. Look at the questions that the assistant itself gets wrong:
"""

# %% tags=["claim"]
def knows(prompt: str) -> bool:
    """Return whether the assistant's own answer is right."""
    asked = town.judge.questions[prompt]
    return own_answer[prompt] == things_in(prompt, asked.answer)


by_knowledge = {known: agreement([each for each in by_rules[WHOLE] if knows(each[0]) == known]) for known in (True, False)}
print(f"questions that the assistant answers rightly: {sum(map(knows, {each[0] for each in replied})) / len({each[0] for each in replied}):.0%}")
print(f"agreement with gold where it is right {by_knowledge[True]:.2f}, where it is wrong {by_knowledge[False]:.2f}")
claim(
    "where the judge's own answer is wrong, its verdicts are worse: difference in agreement with gold",
    measured=by_knowledge[True] - by_knowledge[False],
    at_least=0.07,
    breaks_when={"the people's verdicts on the same questions": agreement([each for each in verdicts if knows(each[0])]) - agreement([each for each in verdicts if not knows(each[0])])},
)

# %% [markdown]
r"""
**Who writes the rules?** A constitution has a virtue that ten thousand verdicts have not: it can be read, criticised and changed. It also shows how few decide. The principles of Bai et al. were put together by the authors, researchers at one company, who write that this was done for research and that a larger set of people should choose and refine such lists. In 2023 the same company asked about a thousand adults in the United States to propose principles and to vote on each other's; the public's list shared about half of its ideas with the company's own, and laid more weight on being impartial and on access for everyone (Huang et al. 2024). One country, one platform; and somebody still had to turn votes into sentences that a model can be trained with.

Nor is a rule neutral because a machine applies it. *Polite* in our articles means two phrases, those that the makers of this town happened to think of. The order of the articles decides who loses when two of them disagree, as you have just measured. And a model that judges by what it believes hands its beliefs on, the wrong ones with the same confidence as the right.
"""

# %% [markdown]
r"""
## All of them, and PPO
"""

# %% tags=["record"]
SFT_WEIGHT, BIASED = 0.5, 0.15


def by_simpo(c: Compared) -> Tensor:
    """Return SimPO's loss of compared replies."""
    return simpo_loss(c.chosen, c.rejected, c.n_chosen, c.n_rejected, beta=2.0, gamma=0.5)


def by_simpo_without_lengths(c: Compared) -> Tensor:
    """Return SimPO's loss with sums for means, scaled so that a reply of typical length has as much."""
    typical = torch.full_like(c.n_chosen, 9)
    return simpo_loss(c.chosen, c.rejected, typical, typical, beta=2.0, gamma=0.5)


def by_dpo_and_imitation(c: Compared) -> Tensor:
    """Return DPO's loss, and that of instruction tuning on the preferred replies beside it."""
    return by_dpo(BETA_TOWN)(c) - SFT_WEIGHT * c.chosen / c.n_chosen


def looked_at(policy: GPT, seed: int) -> dict[str, float]:
    """Return what a policy says, and the mean log-ratios of the watched pairs' replies."""
    chosen, rejected = ratios(policy)
    return {**examine(policy, seed), "chosen": chosen.mean().item(), "rejected": rejected.mean().item()}


def all_methods(seed: int) -> list[dict[str, Any]]:
    """Train the methods from one draw of replies and verdicts."""
    told = DRAWN[seed]
    annotator, likes_length = Annotator(noise=NOISE, seed=seed), Annotator(noise=NOISE, length_bias=BIASED, seed=seed)
    coin = torch.rand(len(told), generator=torch.Generator().manual_seed(seed)).lt(0.5).tolist()
    data = {
        "people": pairs_of([judged(annotator, *each) for each in told]),
        "a coin": pairs_of([(p, a, b) if heads else (p, b, a) for (p, a, b), heads in zip(told, coin)]),
        "people who like length": pairs_of([judged(likes_length, *each) for each in told]),
        "rules": pairs_of(ruled(CONSTITUTIONS[WHOLE], told)),
    }
    plans: dict[str, tuple[str, Callable[[Compared], Tensor]]] = {
        "DPO, β = 0.05": ("people", by_dpo(0.05)), "DPO, β = 0.8": ("people", by_dpo(0.8)),
        "DPO and imitation": ("people", by_dpo_and_imitation),
        "DPO, a coin": ("a coin", by_dpo(BETA_TOWN)), "DPO, rules": ("rules", by_dpo(BETA_TOWN)),
        "SimPO, liking length": ("people who like length", by_simpo),
        "SimPO without lengths, liking length": ("people who like length", by_simpo_without_lengths),
    }  # fmt: skip
    found = [{"name": "the assistant", "seed": seed, "seconds": 0.0, **looked_at(assistant, seed)}]

    def keep(name: str, train: Callable[[], GPT]) -> None:
        begin = time.process_time()
        made = train()
        seconds = time.process_time() - begin
        found.append({"name": name, "seed": seed, "seconds": seconds, **looked_at(made, seed)})

    for name, (source, loss) in plans.items():
        keep(name, lambda: trained(data[source], loss, seed, name))  # noqa: B023 - called at once
    keep("KTO", lambda: trained_on_thumbs(thumbs_of(told, annotator), BETA_TOWN, seed))
    return found


SEEDS = range(run.pick(smoke=1, standard=3, full=3))
DRAWN, DRAWING = {}, {}  # of each seed: questions with two replies, and the seconds it took to draw them
for seed in SEEDS:
    begin = time.process_time()
    DRAWN[seed] = draw_replies(seed)
    DRAWING[seed] = time.process_time() - begin
record("methods", [each for seed in SEEDS for each in all_methods(seed)])

# %% [markdown]
r"""
PPO needs a reward model. It is trained on the very same pairs, by the same annotators; its scores and DPO's implicit rewards are fitted to the same verdicts by the same loss, so PPO at the price $\beta$ climbs the same hill (1) as DPO at that $\beta$. Everything else is lesson 19's: 64 questions a step, replies drawn afresh, a critic, clipped ratios. Both are looked at along the way, and the looking is not counted as time.
"""

# %% tags=["record"]
LOOKS = run.pick(smoke=1, standard=3, full=10)
PPO_STEPS = run.pick(smoke=1, standard=21, full=400)
Walk = list[dict[str, float]]  # what was found after so many steps and seconds


class Watch:
    """Look at a policy now and then, and do not count the time that looking takes.

    Args:
        policy: what learns.
        seed: of the replies that are looked at.
        already: processor seconds that were spent before.

    """

    def __init__(self, policy: GPT, seed: int, already: float) -> None:
        self.policy, self.seed, self.walk = policy, seed, Walk()
        self.begin = time.process_time() - already

    def look(self, step: int) -> None:
        """Note where the policy is."""
        now = time.process_time()
        self.walk.append({"step": step, "seconds": now - self.begin, **looked_at(self.policy.eval(), self.seed)})
        self.policy.train()
        self.begin += time.process_time() - now


def walk_by_dpo(seed: int) -> Walk:
    """Return how DPO went: replies judged, learnt from."""
    learner = copy.deepcopy(assistant).requires_grad_(True)
    watch = Watch(learner, seed, DRAWING[seed])
    annotator = Annotator(noise=NOISE, seed=seed)
    told = pairs_of([judged(annotator, *each) for each in DRAWN[seed]])
    every = max(1, STEPS // LOOKS)
    tune(
        learner, len(told), lambda model, some: by_dpo(BETA_TOWN)(told.compare(model, some)).mean(),
        steps=STEPS, rate=RATE, seed=seed, desc="DPO", after=lambda step: None if step % every else watch.look(step),
    )  # fmt: skip
    return watch.walk


def walk_by_ppo(seed: int) -> Walk:
    """Return how PPO went: the same replies and verdicts, a reward model, then the walk."""
    begin = time.process_time()
    annotator = Annotator(noise=NOISE, seed=seed)
    told = pairs_of([judged(annotator, *each) for each in DRAWN[seed]])
    torch.manual_seed(seed)
    model = RewardModel(assistant).to(run.device)
    n = len(told)
    train_reward_model(model, told.rows.take(slice(0, n)), told.rows.take(slice(n, 2 * n)), epochs=3, rate=2e-3, seed=seed)
    model.center(scores_of(model, told.rows))
    size = run.pick(smoke=8, standard=64, full=256)
    learner = Learner(assistant, tokenizer, ASKED, lambda _, said: model(said.ids, said.mask), AdaptiveBeta(BETA_TOWN), size, LONGEST, 4e-4, seed=seed)
    watch = Watch(learner.actor.model, seed, DRAWING[seed] + time.process_time() - begin)
    watch.look(0)
    for step in progress(range(1, PPO_STEPS + 1), desc="PPO"):
        learner.step()
        if step % max(1, PPO_STEPS // LOOKS) == 0:
            watch.look(step)
    return watch.walk


record("walks", {"DPO": [walk_by_dpo(seed) for seed in SEEDS], "PPO": [walk_by_ppo(seed) for seed in SEEDS]})
base = quick_gpt(shipped.config)
base.load_state_dict(load_decoder()[0].state_dict())
base = base.to(run.device).eval()
record("base", [{"seed": seed, **looked_at(base, seed)} for seed in SEEDS])

# %% tags=["experiment"]
methods, walks = recorded("methods"), recorded("walks")
MAIN = f"DPO, β = {BETA_TOWN}"
for seed, walk in enumerate(walks["DPO"]):
    methods.append({"name": MAIN, "seed": seed, **walk[-1]})


def over_seeds(name: str, key: str) -> Tensor:
    """Return a recorded figure of a method, one for each seed."""
    return torch.tensor([each[key] for each in methods if each["name"] == name], dtype=torch.float64)


def gain(name: str) -> Tensor:
    """Return how much more true reward than the assistant a method has, one figure for each seed."""
    return over_seeds(name, "gold") - over_seeds("the assistant", "gold")


KEYS = ("gold", "nats", "right", "wrong", "polite", "fluent", "words", "chosen", "rejected")
print(f"{'means over seeds':<38}{'gain':>7}{'± sd':>7}" + "".join(f"{key:>9}" for key in KEYS))
for name in sorted({each["name"] for each in methods}):
    print(f"{name:<38}{gain(name).mean():>7.2f}{gain(name).std():>7.2f}" + "".join(f"{over_seeds(name, key).mean():>9.2f}" for key in KEYS))

# %% [markdown]
r"""
`gain` is the gold reward above the assistant's, with its standard deviation over the seeds; `nats` the KL from the assistant; `chosen` and `rejected` are the mean log-ratios of the preferred and of the other replies on pairs that were not trained on.

Read it against two lines: *the assistant*, and *a coin*, where the same replies were learnt with verdicts that mean nothing. The coin's policy moves about as far and becomes worse: moving costs, and only what the verdicts say pays. All that learnt from people, from thumbs or from rules gained, in each seed; who gained more, three seeds do not say.

- **β.** A sixteenth of the price leads farther from the assistant, and buys no more reward in so short a training.
- **Displacement.** `chosen` is negative in every line but the assistant's. A high price of KL holds the preferred replies up. So does some imitation of them beside DPO (half of lesson 18's loss).
- **Rules.** What is written is what one gets: more than twice as many polite replies as the assistant gives, and fewer right ones than people's verdicts teach.
- **Length.** From annotators who like length SimPO learns to be longer, with its division too: it takes away only part of what the sum collects. (They gain gold all the same: their long replies are mostly polite ones, which gold likes as well.)
"""

# %% tags=["claim"]
claim(
    "it is the verdicts that teach: gain of true reward by DPO, in the seed where it is smallest",
    measured=gain(MAIN).min().item(),
    at_least=0.05,
    breaks_when={"the same with verdicts by a coin": gain("DPO, a coin").max().item()},
)
claim(
    "KTO raises the true reward from thumbs alone, in the seed where it does least",
    measured=gain("KTO").min().item(),
    at_least=0.05,
    breaks_when={"DPO with verdicts by a coin": gain("DPO, a coin").max().item()},
)
claim(
    "a smaller β goes further: KL at β = 0.05 over KL at β = 0.8, smallest over the seeds",
    measured=(over_seeds("DPO, β = 0.05", "nats") / over_seeds("DPO, β = 0.8", "nats")).min().item(),
    at_least=1.1,
    breaks_when={"with imitation in the place of the smaller β": (over_seeds("DPO and imitation", "nats") / over_seeds("DPO, β = 0.8", "nats")).max().item()},
)
claim(
    "a higher price holds the preferred replies up: log-ratio at β = 0.8 minus that at β = 0.05, smallest over the seeds",
    measured=(over_seeds("DPO, β = 0.8", "chosen") - over_seeds("DPO, β = 0.05", "chosen")).min().item(),
    at_least=0.06,
    breaks_when={"a coin at β = 0.2": (over_seeds("DPO, a coin", "chosen") - over_seeds("DPO, β = 0.05", "chosen")).min().item()},
)
claim(
    "from annotators who like length replies become longer without SimPO's division by it: difference in words, smallest over the seeds",
    measured=(over_seeds("SimPO without lengths, liking length", "words") - over_seeds("SimPO, liking length", "words")).min().item(),
    at_least=0.15,
    breaks_when={"DPO from annotators who do not": (over_seeds(MAIN, "words") - over_seeds("SimPO, liking length", "words")).max().item()},
)

# %% tags=["experiment"]
def gold_at(walk: Sequence[dict[str, float]], nats: float) -> float:
    """Return the true reward of a walk where it was so far from the assistant, on a line between two looks."""
    ordered = sorted(walk, key=lambda each: each["nats"])
    for one, other in pairwise(ordered):
        if one["nats"] <= nats <= other["nats"]:
            return one["gold"] + (other["gold"] - one["gold"]) * (nats - one["nats"]) / max(1e-9, other["nats"] - one["nats"])
    return ordered[-1]["gold"]


SAME = 0.95 * min(max(look["nats"] for look in walk) for kind in walks.values() for walk in kind)
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
for (name, kind), color, marker in zip(walks.items(), figures.CYCLE, "os"):
    for k, walk in enumerate(kind):
        axes[0].plot([each["nats"] for each in walk], [each["gold"] for each in walk], color=color, marker=marker, linewidth=1.3, label=name if k == 0 else None)
        axes[1].plot([each["seconds"] for each in walk], [each["gold"] for each in walk], color=color, marker=marker, linewidth=1.3)
axes[0].axvline(SAME, color=figures.PALETTE["grey"], linewidth=0.8, linestyle=":")
axes[0].set(xlabel="KL from the assistant (nats a reply)", ylabel="gold reward", title="What the way costs in KL")
axes[1].set(xlabel="processor time (s)", title="… and in time")
axes[0].legend()
figures.show(
    fig,
    caption="DPO and PPO from the same replies, verdicts and β, three seeds each; every dot is a look at the policy. Left, true reward against KL (dotted: the KL at which both are compared). Right, against processor time, beginning with the first reply that is drawn; PPO starts late because its reward model has to be trained. Recorded.",
    alt="Left, true reward against KL for three walks of DPO and three of PPO. Right, the same against seconds.",
)
same = {name: torch.tensor([gold_at(walk, SAME) for walk in kind]) for name, kind in walks.items()}
last = {name: torch.tensor([[walk[-1][key] for key in ("gold", "nats", "seconds")] for walk in kind]) for name, kind in walks.items()}
for name in walks:
    print(f"{name}: gold at {SAME:.2f} nats {', '.join(f'{each:.2f}' for each in same[name].tolist())} (a figure for each seed); at the end {last[name][:, 0].mean():.2f} ± {last[name][:, 0].std():.2f}, {last[name][:, 1].mean():.2f} nats, {last[name][:, 2].mean():.0f} s")

# %% tags=["claim"]
claim(
    "DPO takes less than half of PPO's processor time: ratio, largest over the seeds",
    measured=max(dpo_walk[-1]["seconds"] / ppo_walk[-1]["seconds"] for dpo_walk, ppo_walk in zip(walks["DPO"], walks["PPO"])),
    at_most=0.45,
    breaks_when={"PPO's first third alone": min(dpo_walk[-1]["seconds"] / ppo_walk[1]["seconds"] for dpo_walk, ppo_walk in zip(walks["DPO"], walks["PPO"]))},
)
claim(
    "at the same price PPO ends farther from the assistant: difference in KL (nats), smallest over the seeds",
    measured=(last["PPO"][:, 1] - last["DPO"][:, 1]).min().item(),
    at_least=0.05,
    breaks_when={"DPO at β = 0.05 in PPO's place": (over_seeds("DPO, β = 0.05", "nats") - last["DPO"][:, 1]).min().item()},
)

# %% [markdown]
r"""
From the same verdicts both gain, in each seed. DPO needs less time, and stops nearer to the assistant. At equal KL its true reward is the higher one in two seeds of three, and in one it is PPO's: too few to call it better. And both were stopped early. Fully trained at the same $\beta$ they would meet if the reward model and the implicit reward were the same.

### From document completer to aligned assistant

Part 5 in one table. Each model answers this lesson's questions, drawing each token with its probability; means and standard deviations over three seeds (of the drawing alone for the first two, which are one model each; of data, training and drawing for the others). KL is measured from the assistant, in nats a reply; the last column is what making it took *beyond the line that it starts from*: PPO and DPO both start from the assistant, and include drawing the replies that people compared.
"""

# %% tags=["experiment"]
stages = {
    "base model": (recorded("base"), 60 * record_of("decoder")["minutes"]),
    "SFT: the assistant": ([each for each in methods if each["name"] == "the assistant"], 60 * record_of("assistant")["minutes"]),
    "PPO from the assistant": ([walk[-1] for walk in walks["PPO"]], None),
    "DPO from the assistant": ([walk[-1] for walk in walks["DPO"]], None),
}
PRINTED = {"gold": "gold reward", "nats": "KL", "right": "right", "exact": "exact match", "fluent": "fluent", "loss": "grammar loss"}
print(f"{'':<24}" + "".join(f"{name:>15}" for name in PRINTED.values()) + f"{'seconds':>14}")
for name, (looks, seconds_known) in stages.items():
    columns = {key: torch.tensor([each.get(key, math.nan) for each in looks], dtype=torch.float64) for key in (*PRINTED, "seconds")}
    took = f"{columns['seconds'].mean():.0f} ± {columns['seconds'].std():.0f}" if seconds_known is None else f"{seconds_known:.0f}"
    shown = ["none" if columns[key].isnan().any() else f"{columns[key].mean():.2f} ± {columns[key].std():.2f}" for key in PRINTED]
    print(f"{name:<24}" + "".join(f"{each:>15}" for each in shown) + f"{took:>14}")

# %% [markdown]
r"""
The largest step by far is the first one, instruction tuning. Preferences add right answers to it, with each seed and by both ways; the share of fluent replies hardly changes, and the fluent ones become such as the grammar finds more probable. What the base model says in the template is no answer at all: it was never told what the template's tokens mean. (None of its replies was fluent, so there is no grammar loss.)

## What it takes, and where it breaks

| | PPO (lesson 19) | DPO |
|---|---|---|
| networks that are trained | reward model; policy with its critic | policy |
| networks that only answer | reward model, reference | reference, once for each pair before training |
| replies written during training | every one that it learns from | none |
| settings that had to be found | price, clip, λ, epochs, two rates, value weight, size of batch … | β, rate, steps |
| what it can learn from | anything with a number | comparisons |
| replies that it sees | those of the policy as it is *now* | those in the data, for ever |

The last line is the price. PPO finds out what is wrong with what it says today; DPO learns from replies that were drawn before it began, and where the data say nothing its implicit reward is a guess. The policy can leave the region that the verdicts are about, and there it is over-optimised too: the true reward turns down with growing KL as in lesson 19, without any reward model that could be blamed (Rafailov et al. 2024). One way out is to draw new replies from the policy, let them be judged, and train again; then DPO is a loop once more, and much of its simplicity is gone.
"""

# %% [markdown]
r"""
## Real preferences

The 1,100 instructions of lesson 18 exist with two answers each, one of them preferred (Raschka 2024, chapter 7). Nobody was asked: a language model was told to rewrite the given answer a little, at random *more polite* or *more impolite*, and the politer of the two counts as preferred. So here too an AI followed a rule. Can a policy learn it that has never read any English but these answers? It has two blocks, random weights and a vocabulary of its own, and is trained by DPO against its own random beginning. The measure is the agreement of its implicit reward with the labels of 218 pairs that were held out. Two baselines: *the longer answer is preferred*; and Bradley and Terry's model with a reward that is a sum of weights, one for each word.
"""

# %% tags=["nbval-ignore-output"]
Told = Sequence[tuple[str, str, str]]  # prompt, preferred answer, other answer


def word_weights(learnt: Told) -> dict[str, float]:
    """Return a weight for each word that stands in two answers or more, fitted to the verdicts."""
    kinds = Counter(word for _, *both in learnt for text in both for word in set(words_of(text)))
    place = {word: i for i, word in enumerate(word for word, times in kinds.items() if times > 1)}
    counts = torch.zeros(len(learnt), len(place))
    for row, (_, *both) in zip(counts, learnt):
        for text, sign in zip(both, (1, -1)):
            for word in words_of(text):
                if word in place:
                    row[place[word]] += sign
    weights = torch.zeros(len(place), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(run.pick(smoke=5, standard=150, full=500)):
        loss = -F.logsigmoid(counts @ weights).mean() + 1e-3 * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dict(zip(place, weights.tolist()))


def words_of(text: str) -> list[str]:
    """Return the words and marks of a text, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def policy_of_real(learnt: Told, held_out: Told) -> float:
    """Train a small new policy by DPO, and return how often its implicit reward agrees with held-out labels."""
    own = Tokenizer.train((" " + text for each in learnt for text in each), 1200, [*SPEAKERS.values(), END])
    torch.manual_seed(run.seed)
    small = quick_gpt(GPTConfig(own.n_words, 512, 64, 4, 2, rotary=True)).to(run.device)
    initialise(small, n_blocks=2, std=0.07)  # lesson 13: narrow models want larger weights
    pairs, others = (Pairs(*zip(*each), own, copy.deepcopy(small)) for each in (learnt, held_out))
    loss = by_dpo(0.1)
    tune(small, len(pairs), lambda model, some: loss(pairs.compare(model, some)).mean(), steps=max(1, len(pairs) // 16), batch=16, rate=2e-3, seed=run.seed, desc="real pairs")
    chosen, rejected = (logprobs_of(small, others.rows) - others.reference).chunk(2)
    return (chosen > rejected).float().mean().item()


published = registry.load_or_none("llms_from_scratch")
if published is not None:
    real = [(f"{each.instruction} {each.input}".strip(), each.chosen, each.rejected) for each in published.preferences if each.chosen != each.rejected]
    order = torch.randperm(len(real), generator=run.generator(9)).tolist()[: run.pick(smoke=60, standard=1100, full=1100)]
    held_out, learnt = [real[i] for i in order[: len(order) // 5]], [real[i] for i in order[len(order) // 5 :]]
    weight_of = word_weights(learnt)
    worth = [[sum(weight_of.get(word, 0.0) for word in words_of(text)) for text in both] for _, *both in held_out]
    shares = {
        "the longer answer": mean([float(len(a) > len(b)) + 0.5 * (len(a) == len(b)) for _, a, b in held_out]),
        "a weight for each word": mean([float(a > b) + 0.5 * (a == b) for a, b in worth]),
        "the implicit reward of DPO": policy_of_real(learnt, held_out),
    }
    for name, share in shares.items():
        print(f"{name:<30}{share:.2f}")
    ranked = sorted(weight_of, key=weight_of.__getitem__)
    print("words that count most against an answer, and for it:", ", ".join(ranked[:8]), "…", ", ".join(ranked[:-9:-1]))

# %% [markdown]
r"""
With these pairs and seed 0 we measured 0.51 for the longer answer, 0.91 for a weight for each word, and 0.89 for the implicit reward. So the rule can be learnt without knowing English, and hardly anything in it goes beyond single words: *obviously* and *stupid* against an answer, *kindly* and *indeed* for it. A preference as narrow as this one says little about what people want from an assistant.

## Recap

- RL with a KL price has a best policy that can be written down. Turned round, it gives the reward in terms of the policy, up to $\beta \log Z(x)$, which cancels between two replies to the same prompt.
- Put into Bradley and Terry's model this is a loss on pairs: DPO. Its gradient pushes both replies apart, with the weight with which the implicit reward would judge the pair wrongly.
- In a table, with enough verdicts, it finds the closed form to as many digits as one likes. Without the reference, or with verdicts that are never noisy, it does not.
- The loss asks for a difference. In a network the preferred replies may lose probability too.
- IPO gives the margin a target. KTO learns from thumbs. SimPO needs no reference and divides by length.
- An AI that labels by rules is as good as the rules and what it knows; who writes the rules decides what is preferred.

**If you want more.** (1) Choose another QUESTION, one that the assistant cannot answer: what does the best policy say at β = 0.5? (2) Train DPO twice as long: what happens to KL, to the log-ratio of the preferred replies, to gold? (3) Write an article of your own, put it first, and see what a policy becomes that is trained on its verdicts.

## Glossary

| word | meaning |
|---|---|
| reference | the policy that training starts from, and that KL is measured against |
| partition function $Z(x)$ | the sum over all replies that makes the best policy a distribution |
| implicit reward | $\beta \log (\pi / \pi_{\text{ref}})$: the reward for which a policy is best |
| margin | difference of the implicit rewards, or of the log-ratios, of the preferred reply and the other |
| soft label | the probability of a verdict in place of the verdict |
| likelihood displacement | preferred replies lose probability while their margin grows |
| on-policy | replies that come from the policy itself |
| reference point $z_0$ | from where KTO counts gains and losses |
| RLAIF | learning from the verdicts of a model instead of people |
| constitution | the written principles by which it judges |

## Sources

- R. Rafailov, A. Sharma, E. Mitchell, S. Ermon, C. Manning, C. Finn (2023), *Direct Preference Optimization: Your Language Model is Secretly a Reward Model*, NeurIPS. Section 4, appendices A.1 (closed form) and A.4 (gradient).
- M. G. Azar et al. (2024), *A General Theoretical Paradigm to Understand Learning from Human Preferences*, AISTATS. Sections 4.2 (why DPO overfits) and 5, equation 17 (IPO).
- K. Ethayarajh, W. Xu, N. Muennighoff, D. Jurafsky, D. Kiela (2024), *KTO: Model Alignment as Prospect Theoretic Optimization*, ICML. Section 4.1.
- D. Kahneman, A. Tversky (1979), *Prospect Theory: An Analysis of Decision under Risk*, Econometrica 47.
- Y. Meng, M. Xia, D. Chen (2024), *SimPO: Simple Preference Optimization with a Reference-Free Reward*, NeurIPS. Equation 6.
- A. Pal et al. (2024), *Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive*. N. Razin et al. (2025), *Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization*, ICLR (preprint 2024).
- R. Rafailov et al. (2024), *Scaling Laws for Reward Model Overoptimization in Direct Alignment Algorithms*, NeurIPS.
- Y. Bai et al. (2022), *Constitutional AI: Harmlessness from AI Feedback*. H. Lee et al. (2024), *RLAIF vs. RLHF*, ICML (preprint 2023). S. Huang et al. (2024), *Collective Constitutional AI: Aligning a Language Model with Public Input*, FAccT.
- P. Singhal, T. Goyal, J. Xu, G. Durrett (2023), *A Long Way to Go: Investigating Length Correlations in RLHF*.
- R. A. Bradley, M. E. Terry (1952), *Rank Analysis of Incomplete Block Designs*, Biometrika 39. J. Nocedal (1980), *Updating Quasi-Newton Matrices with Limited Storage*, Mathematics of Computation 35.
- S. Raschka (2024), *Build a Large Language Model (From Scratch)*, Manning, chapter 7: the real pairs.
"""
