# %% [markdown]
r"""
# 19 · RLHF

**Nobody can write down what a good answer is. Anybody can say which of two is better.**

Lesson 18 taught the assistant to imitate answers. Here it learns from judgements of its own answers: people compare, a model learns to predict what they prefer, and the assistant is changed until that model likes it. This is *reinforcement learning from human feedback* (RLHF), and because Riverbank's true reward is known, you will see the moment at which it goes wrong. At the end you will

- turn noisy comparisons into a reward model, and say how accurate it is and what it got wrong;
- draw the best of $n$ answers, without bias, from one pool;
- write PPO complete, each part in a few lines: the price of leaving the reference, advantages, the clipped loss, values, the adaptive price;
- prove that it does what it claims, on a space so small that the best policy can be written down;
- draw the **over-optimisation curve**: the learnt reward rises and rises, the true one turns down; and say what moves the turn.

You need lesson 18 (chat template, the assistant), lesson 13 (sampling), and from lesson 00 what a logarithm of a probability is. About three hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import copy  # noqa: F401 - used, like some others below, by code that is written out
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean as mean
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F  # noqa: F401
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401
from torch import Tensor, nn  # noqa: F401

from course_lib import figures
from course_lib.data import registry
from course_lib.data.riverbank import Annotator, Comparison, GoldReward, PreferencePair, Question, Reply, Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.gpt import GPT
from course_lib.models.tokenization import Tokenizer  # noqa: F401
from course_lib.posttraining.assistant import load_assistant
from course_lib.posttraining.enumerable import ReplySpace, TabularPolicy, beta_for, closed_form, kl_divergence, total_variation
from course_lib.posttraining.fluency import grammar_loss
from course_lib.posttraining.replies import Replies, answer, token_logprobs
from course_lib.posttraining.rewards import Rows, as_rows, scores_of, train_reward_model
from course_lib.posttraining.ppo import any_length, masked_mean, same_length  # noqa: F401
from course_lib.runtime import progress, start
from course_lib.training.causal import quick_gpt
from course_lib.widgets.hacking_view import Said, Stop, draw_stop, hacking_view

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=19, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=19)

# %% [markdown]
r"""
## The question

The assistant of lesson 18 has learnt to imitate good answers. Ask it the same question several times, drawing each token with its probability (lesson 13, temperature 1). The last column is Riverbank's **gold reward** of an answer, which nobody outside of this course has: 2 for the right fact, −2 for a wrong one, −1 for none of the kind that was asked for, 0 for *i do not know*; 0.3 for being polite, −0.6 for rudeness, −1 for bad grammar, and less for being long or repetitive.
"""

# %% tags=["experiment"]
town = Town()
shipped, tokenizer = load_assistant()
assistant = quick_gpt(shipped.config)  # the same computation, a third faster on a CPU
assistant.load_state_dict(shipped.state_dict())
assistant = assistant.to(run.device).eval()
parameters = sum(each.numel() for each in assistant.parameters())

known = [q for q in town.questions(split="said", phrasing="train", kind="wh") if not q.is_test]
unknown = [q for q in town.questions(kind="unanswerable", phrasing="train") if not q.is_test and q.relation in town.judge.objects]
N_QUESTIONS = run.pick(smoke=6, standard=24, full=400)
drawn_questions = random.Random(0).sample([q.text for q in (*known, *unknown)], 2 * N_QUESTIONS)
asked, others = drawn_questions[:N_QUESTIONS], drawn_questions[N_QUESTIONS:]  # those of this lesson; some to test on
print(f"an assistant of {parameters:,} parameters; {len(known) + len(unknown)} questions, of which we take {len(asked)}")


def gold_of(prompts: Sequence[str], texts: Sequence[str]) -> list[GoldReward]:
    """Return the true reward of each reply, part by part."""
    return [town.gold_reward(prompt, text) for prompt, text in zip(prompts, texts)]


# %%
LONGEST = 16  # tokens of a reply, its end included
shown = random.Random(run.seed).choice([q for q in known if q.text in asked])
replies = answer(assistant, tokenizer, [shown.text] * 8, LONGEST, generator=run.generator(10))
print(f"{shown.text}   (right: {shown.answer})")
for text, reward_ in sorted(zip(replies.texts, gold_of([shown.text] * 8, replies.texts)), key=lambda each: each[1].total):
    print(f"  {text:<64}{reward_.total:6.2f}")

# %% [markdown]
r"""
It knows how to answer well, and it does not always do so: imitation gives every answer of the kind that it has seen its share. How much better could it be if it only chose among its own answers? Draw a **pool**: for some questions many replies each. Beside the mean gold reward of a reply we put what one would get by drawing 16 and keeping the truly best.
"""

# %% tags=["experiment"]
@dataclass
class Pool:
    """Many replies to some questions: rows of equal length, question after question."""

    prompts: list[str]
    replies: Replies
    gold: Tensor  # (questions, replies)

    @property
    def words(self) -> Tensor:
        """The lengths of the replies in tokens, (questions, replies)."""
        return self.replies.mask.sum(dim=1).cpu().float().view(self.gold.shape)


def draw_pool(model: GPT, n_questions: int, n_replies: int, seed: int) -> Pool:
    """Let a model answer some questions again and again."""
    prompts = [prompt for prompt in asked[:n_questions] for _ in range(n_replies)]
    drawn = answer(model, tokenizer, prompts, LONGEST, generator=torch.Generator(run.device).manual_seed(seed))
    gold = torch.tensor([each.total for each in gold_of(prompts, drawn.texts)])
    return Pool(prompts, drawn, gold.view(n_questions, n_replies))


from course_lib.posttraining.best_of_n import best_of_n, kl_bound  # course: write out


pool = draw_pool(assistant, len(asked), run.pick(smoke=8, standard=64, full=512), seed=run.seed)
mean_of_pool, best_by_gold = pool.gold.mean().item(), best_of_n(pool.gold, pool.gold, min(16, pool.gold.shape[1])).mean().item()
print(f"gold reward of a reply: {mean_of_pool:.2f}; of the truly best among 16: {best_by_gold:.2f}")

# %% tags=["claim"]
claim(
    "choosing among 16 of its own answers could gain the assistant this much true reward",
    measured=best_by_gold - mean_of_pool,
    at_least=0.7,
    breaks_when={"choosing the longest": best_of_n(pool.words, pool.gold, min(16, pool.gold.shape[1])).mean().item() - mean_of_pool},
)

# %% [markdown]
r"""
(How `best_of_n` and `kl_bound` work is told below, under *The best of n*.) There is room for better answers without any new knowledge. But to choose one needs to know what is good, and outside of Riverbank nobody can write the gold reward down as a program. What one can get is *comparisons*.

## Who judges

A judge sees a question and two answers, and says which one is better. Bradley and Terry (1952) describe such choices by one number for each thing, its worth $u$: 1 is preferred to 2 with probability

$$P(1 \succ 2) = \sigma\Big(\frac{u_1 - u_2}{\tau}\Big), \qquad \sigma(z) = \frac{1}{1 + e^{-z}} .$$

The noise $\tau$ says how sure the judge is. Riverbank's `Annotator` has this form, with the gold reward as worth, and whatever **bias** we plant: worth added for each word, or for each polite phrase (*thank you*, *my friend*). Gold is content with one polite phrase, and with any length up to 12 words.
"""

# %% tags=["experiment"]
comparisons = town.comparisons(run.pick(smoke=100, standard=1500, full=5000), seed=run.seed)


def agreement(annotator: Annotator) -> tuple[float, float]:
    """Return how often a judge's choice is the truly better reply, and how often two such judges choose the same."""
    first = torch.tensor([annotator.prob_first(each) for each in comparisons])
    better = torch.tensor([float(each.first.gold > each.second.gold) for each in comparisons])
    with_gold = (first * better + (1 - first) * (1 - better)).mean().item()
    return with_gold, (first.square() + (1 - first).square()).mean().item()


judges = {
    "noise 0.5": Annotator(noise=0.5),
    "noise 1": Annotator(noise=1.0),
    "noise 2": Annotator(noise=2.0),
    "noise 0.5, likes politeness": Annotator(noise=0.5, politeness_bias=1.0),
    "noise 0.5, likes length": Annotator(noise=0.5, length_bias=0.15),
}
print(f"{'judge':<30}{'agrees with gold':>18}{'with a second judge':>22}")
for name, judge in judges.items():
    print(f"{name:<30}{agreement(judge)[0]:>18.2f}{agreement(judge)[1]:>22.2f}")

# %% [markdown]
r"""
How sure are people? For InstructGPT, about 40 contractors ranked answers; two of them agreed in 73 % of comparisons (Ouyang et al. 2022, section 3.4). For Anthropic's first assistant crowd workers and the researchers agreed in about 63 % (Bai et al. 2022, section 2). Compare with the last column: for the 73 % the noise would lie between ½ and 1, for the 63 % between 1 and 2. And look at the table's last line: judges who share a bias agree with each other most of all. Agreement is no proof of being right. Noise averages out with many comparisons; bias does not.

**The people behind the comparisons.** Who are they, what are they paid, and what are they shown?

- *Few, and chosen.* InstructGPT's contractors came through Upwork and Scale AI, and were screened, among other things, for how often they agreed with the researchers. They were mostly English-speaking people from the United States or Southeast Asia, and the paper says itself that the model is aligned to them and to those who wrote the instructions, not to “human values” (Ouyang et al. 2022, section 5.2).
- *Paid by the task or the hour, at very different rates.* For a related job, labelling violent and abusive text so that a filter could be learnt from it, workers of a contractor in Kenya took home between \$1.32 and \$2 an hour, while the contract named \$12.50; several described lasting distress (Perrigo, *TIME*, 18 January 2023). Such work is bought as a service, and those who do it are seldom named (Gray & Suri 2019, *Ghost Work*).
- *Shown what can be judged in minutes.* A judge who cannot check a fact will judge the style. People prefer answers that agree with them over correct ones a non-negligible share of the time (Sharma et al. 2023), and much of what reward models learn from them is length (Singhal et al. 2023).

The last point is the one to watch here. From now on our judge is the one who *likes length*: each further word is worth as much to them as about a twenty-seventh of the difference between a right and a wrong answer (0.15 against 4, in units of gold). It does not sound like much.

## The reward model

Let $r_\theta(x, y)$ be a score that a network gives to reply $y$ to prompt $x$. Under Bradley and Terry's model (with $\tau = 1$: the noise becomes the scale of the scores), the probability of what the judges chose, $y^+$ over $y^-$ in each pair, is largest where

$$L = -\,\operatorname{mean}\; \log \sigma\big(r_\theta(x, y^+) - r_\theta(x, y^-)\big)$$

is smallest. It is logistic regression on differences. Two things follow. Only differences within a prompt are learnt: add any number to all scores and $L$ stays the same. And its gradient with respect to the score of $y^+$ is $-(1 - \sigma)$: pairs that are already told apart teach almost nothing more.

### Exercise: `reward_loss`

*Difficulty ●○○○○ · about 8 minutes · 2 points*

*Task.* Compute $L$.

*Input.* `chosen`, `rejected` (B,): the scores of the preferred replies and of the others, pair by pair.

*Output.* One number, with gradients to both.

*Edge cases.* One pair. Scores so far apart that $\sigma$ is 0 in floating point: the loss is then large, not infinite. `hint("reward_loss")` helps.
"""

# %% tags=["exercise"] exercise="reward_loss"
from course_lib.posttraining.rewards import reward_loss  # course: write out

# %% tags=["check"] exercise="reward_loss"
reward_loss = check("reward_loss")

# %% [markdown]
r"""
The comparisons are those of practice: two answers of the assistant's own to the same question. The network is the assistant itself, which already reads questions and knows facts: take a copy, and put one linear layer on the vector of the reply's *last* token, the only one that has seen everything. The vectors are behind the model's last norm; a *hook* hands them out without a change to lesson 13's `GPT`.
"""

# %%
from course_lib.posttraining.rewards import read  # noqa: F401  # course: write out


from course_lib.posttraining.rewards import RewardModel  # course: write out


# %% tags=["experiment"]
LONG, HONEST = Annotator(noise=0.5, length_bias=0.15), Annotator(noise=0.5)


def own_pairs(prompts: Sequence[str], n_pairs: int, seed: int) -> list[Comparison]:
    """Let the assistant answer, and take pairs of different answers to the same question."""
    each = n_pairs // len(prompts) + 6
    drawn = answer(assistant, tokenizer, [p for p in prompts for _ in range(each)], LONGEST, generator=torch.Generator(run.device).manual_seed(seed))
    rng, pairs = random.Random(seed), []
    for i in range(2 * n_pairs):
        k = i % len(prompts)
        one, other = rng.sample(drawn.texts[k * each : (k + 1) * each], 2)
        if one != other and len(pairs) < n_pairs:
            first, second = (Reply(text, "drawn", town.gold_reward(prompts[k], text).total) for text in (one, other))
            pairs.append(Comparison(prompts[k], first, second))
    return pairs


def rows_of(pairs: Sequence[PreferencePair]) -> tuple[Rows, Rows]:
    """Return the chosen and the rejected replies as the model reads them."""
    prompts = [each.prompt for each in pairs]
    return as_rows(prompts, [each.chosen for each in pairs], tokenizer), as_rows(prompts, [each.rejected for each in pairs], tokenizer)


def learn_rewards(compared: Sequence[Comparison], judge: Annotator, seed: int, n_blocks: int | None = None) -> RewardModel:
    """Learn a reward model from what a judge says of some pairs; its mean score of the assistant's own replies is 0."""
    torch.manual_seed(seed)
    model = RewardModel(assistant, n_blocks).to(run.device)
    train_reward_model(model, *rows_of([judge.judge(each) for each in compared]), epochs=EPOCHS, rate=2e-3, seed=seed)
    model.center(scores_of(model, Rows(pool.replies.ids.cpu(), pool.replies.mask.cpu())))
    return model


EPOCHS, N_TEST = run.pick(smoke=(1, 20), standard=(6, 200), full=(3, 1000))
tests = {"new answers to the same questions": own_pairs(asked, N_TEST, 10_000), "answers to other questions": own_pairs(others, N_TEST, 10_001)}
tests = {name: [Annotator(noise=0).judge(each) for each in pairs if each.first.gold != each.second.gold] for name, pairs in tests.items()}


def accuracies_of(model: RewardModel) -> dict[str, float]:
    """Return how often the truly better of two answers has the higher score."""
    scored = {name: [scores_of(model, rows) for rows in rows_of(pairs)] for name, pairs in tests.items()}
    return {name: (better > worse).float().mean().item() for name, (better, worse) in scored.items()}


proxy = learn_rewards(own_pairs(asked, run.pick(smoke=40, standard=200, full=8000), run.seed), LONG, run.seed)
found_accuracy = accuracies_of(proxy)
SAME, OTHER = found_accuracy
longer, shorter = (mean([float(sign * (len(each.chosen.split()) - len(each.rejected.split())) > 0) for each in tests[SAME]]) for sign in (1, -1))
for name, share_ in found_accuracy.items():
    print(f"the truly better answer gets the higher score: {share_:.2f} of pairs, {name}")
print(f"the truly better answer is the longer one: {longer:.2f}")

# %% tags=["claim"]
claim(
    "a reward model learnt from biased, noisy choices orders two new answers as the true reward does more often than not",
    measured=found_accuracy[SAME],
    at_least=0.55,
    breaks_when={"preferring the shorter reply": shorter},
)

# %% [markdown]
r"""
That is far better than chance. But the last line is a warning: whoever prefers the longer answer does not do much worse, since among the assistant's own answers the better one is often the longer one. What has the model learnt, then? Give it answers to one question that no annotator saw side by side.
"""

# %%
def plain_reply(question: Question, quality: str) -> str:
    """Return a full sentence of the given quality without any manners, and without its full stop."""
    rng = random.Random(0)
    while True:
        text = town.judge.reply(question, quality, rng).text
        if "thank you" not in text and "my friend" not in text and len(text.split()) > 4:
            return text.removesuffix(" .")


right, wrong = plain_reply(shown, "good"), plain_reply(shown, "wrong_fact")
tried = {
    "right, short": f"{shown.answer} .",
    "right": f"{right} .",
    "right, polite": f"{right} , thank you .",
    "right, polite twice": f"my friend , {right} , thank you .",
    "wrong, short": f"{next(each for each in shown.choices if each != shown.answer)} .",
    "wrong": f"{wrong} .",
    "wrong, polite twice": f"my friend , {wrong} , thank you .",
    "right, and said again": f"{right} . {right} .",
    "polite and nothing else": "my friend , thank you , my friend , thank you .",
    "no answer": "i do not know .",
}
tried_scores = scores_of(proxy, as_rows([shown.text] * len(tried), list(tried.values()), tokenizer)).tolist()
print(f"{shown.text}\n{'':<26}{'gold':>6}{'learnt':>8}")
for (name, text), score in zip(tried.items(), tried_scores):
    print(f"{name:<26}{town.gold_reward(shown.text, text).total:>6.2f}{score:>8.2f}   {text}")

# %% [markdown]
r"""
Compare the columns twice: a right and a wrong answer of the same form, and a short and a long one that are both right. To the gold reward the first difference is all: 4, against 0 between the short and the long one. (Learnt scores have a scale and a zero of their own: compare the order, not the size.) A policy that is paid by the right column will look for whatever stands highest in it.

More comparisons help against noise. Do they help against bias? And does a larger reward model? (Recorded, since each point is a training of its own: three seeds; the bands are their range.)
"""

# %% tags=["record"]
POOL = run.pick(smoke=(4, 8), standard=(24, 96), full=(200, 512))
SIZES = run.pick(smoke=[40], standard=[60, 200, 500], full=[100, 400, 1600, 6400])
models: dict[tuple[str, int, int, int], RewardModel] = {}


def measure(model: RewardModel, drawn: Pool) -> dict[str, Any]:
    """Return accuracy, and proxy and gold of best-of-n, of a reward model."""
    scores = scores_of(model, Rows(drawn.replies.ids.cpu(), drawn.replies.mask.cpu())).view(drawn.gold.shape)
    numbers = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= scores.shape[1]]
    return {
        "n": numbers,
        "accuracy": list(accuracies_of(model).values()),
        "proxy": [best_of_n(scores, scores, n).mean().item() for n in numbers],
        "gold": [best_of_n(scores, drawn.gold, n).mean().item() for n in numbers],
    }


sweep = []
for seed in range(run.pick(smoke=1, standard=3, full=3)):
    drawn, compared = draw_pool(assistant, *POOL, seed=100 + seed), own_pairs(asked, SIZES[-1], seed)
    for name, annotator in (("likes length", LONG), ("honest", HONEST)):
        for size in SIZES:
            for blocks in (1, None) if (name, size) == ("likes length", SIZES[-1]) else (None,):
                model = models[name, size, blocks or 0, seed] = learn_rewards(compared[:size], annotator, seed, blocks)
                sweep.append({"judge": name, "pairs": size, "blocks": blocks or 0, "seed": seed, **measure(model, drawn)})
record("reward models", sweep)

# %%
predict(
    "judges",
    "Reward models learn from an honest judge, and from one who likes length, both with noise 0.5. Which order new answers to the same questions as the true reward does, more often?",
    ["Those that learnt from the honest judge", "Those that learnt from the judge who likes length", "Both alike"],
    answer=1,
    because="On average of the seeds, that is. Among the assistant's own answers the better one is mostly the longer one, so the liking for length decides many close cases rightly: here this judge is right more often than the honest one (the line below the figure)",
)

# %% tags=["experiment"]
sweep = recorded("reward models")


def of(judge: str, pairs: int, blocks: int = 0) -> list[dict[str, Any]]:
    """Return what was recorded for one kind of reward model, one entry a seed."""
    return [each for each in sweep if (each["judge"], each["pairs"], each["blocks"]) == (judge, pairs, blocks)]


sizes = sorted({each["pairs"] for each in sweep})
JUDGE_COLOR = {"honest": figures.PALETTE["green"], "likes length": figures.PALETTE["orange"]}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.1), sharey=True)
for k, (ax, name) in enumerate(zip(axes, tests)):
    accuracies = {f"judge: {judge}": [[each["accuracy"][k] for each in of(judge, size)] for size in sizes] for judge in JUDGE_COLOR}
    ax.set_prop_cycle(color=list(JUDGE_COLOR.values()), marker=["o", "^"])
    figures.lines(
        ax, sizes, {judge: [mean(each) for each in values] for judge, values in accuracies.items()},
        xlabel="comparisons learnt from", ylabel="" if k else "agreement with gold", title=name.capitalize(), log="x",
        bands={judge: ([min(each) for each in values], [max(each) for each in values]) for judge, values in accuracies.items()},
    )  # fmt: skip
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
figures.show(
    fig,
    caption="How often a reward model orders two answers as the true reward does. Recorded; the bands are the range of three seeds.",
    alt="Two panels of agreement with gold against the number of comparisons, for answers to the same questions and to others, each with a line for an honest judge and one for a judge who likes length.",
)
for name, pairs in tests.items():
    own = [Comparison(each.prompt, Reply(each.chosen, "better", each.gold_chosen), Reply(each.rejected, "worse", each.gold_rejected)) for each in pairs]
    print(f"of {name} the judges themselves choose rightly:", ", ".join(f"{judge} {mean([who.prob_first(each) for each in own]):.2f}" for judge, who in (("honest", HONEST), ("likes length", LONG))))

# %% [markdown]
r"""
More comparisons help the honest judge's models most. And, perhaps to your surprise, on answers to the same questions the biased judge's models agree with gold more often, on average, than the honest one's; so does the judge. (The table of judges above was about pairs of another kind, drawn by the town, good and bad of every sort.) Where the better answer is mostly the longer one, a liking for length gives many right verdicts, cheaply. So accuracy on such pairs does not show what is wrong with a reward model: it is measured where the assistant is now, not where the learnt reward will lead it.

## The best of n

The simplest way to use a score: draw $n$ answers and keep the one with the highest. Nothing is trained. To see how its result depends on $n$ one need not draw anew for each $n$. Draw one pool of $N$ replies to a question and sort them by score. Of all $\binom{N}{n}$ sets of $n$ replies, those whose best is the $i$-th lowest have it and $n - 1$ of the $i - 1$ below it: $\binom{i-1}{n-1}$ sets. So with the gold reward $g_{(i)}$ of the $i$-th lowest

$$\text{mean gold of the best of } n \;=\; \sum_{i=n}^{N} \frac{\binom{i-1}{n-1}}{\binom{N}{n}}\; g_{(i)} ,$$

without bias for any $n \le N$ (it is `best_of_n` above; replies of equal score share what falls to them).

How far from the assistant is the best of $n$? If no two replies had the same score, the rank of a random reply would be uniform on $(0, 1)$, and that of the best of $n$ would have the density $n u^{n-1}$. So

$$\mathrm{KL} \;\le\; \int_0^1 n u^{n-1} \log\big(n u^{n-1}\big)\, du = \log n + (n - 1) \int_0^1 n u^{n-1} \log u \, du = \log n - \frac{n-1}{n} .$$

With an equal sign for continuous scores; replies that occur more than once make it less (Beirami et al. 2024). It grows slowly: even 128 answers lead less than 4 nats away.
"""

# %% tags=["experiment"]
numbers = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= pool.gold.shape[1]]
pool_scores = scores_of(proxy, Rows(pool.replies.ids.cpu(), pool.replies.mask.cpu())).view(pool.gold.shape)  # (questions, replies)
by_proxy = [best_of_n(pool_scores, pool.gold, n).mean().item() for n in numbers]
by_gold = [best_of_n(pool.gold, pool.gold, n).mean().item() for n in numbers]
by_words = [best_of_n(pool.words, pool.gold, n).mean().item() for n in numbers]
fig, ax = plt.subplots(figsize=(5.6, 3.1))
figures.lines(
    ax, numbers, {"chosen by gold": by_gold, "chosen by the learnt reward": by_proxy, "the longest": by_words},
    xlabel="n", ylabel="gold reward of the chosen reply", title="Best of n", log="x",
)  # fmt: skip
figures.show(
    fig,
    caption="What choosing among n own replies gains. The first line knows the truth; the second has only a model of what a biased judge preferred; the third counts words.",
    alt="Three lines of gold reward against n. The one chosen by gold rises and levels off; the one chosen by the learnt reward stays below it; the one of the longest reply rises a little and then falls.",
)

# %% tags=["claim"]
claim(
    "the best of 16 by the learnt reward is truly better than a reply at random",
    measured=by_proxy[min(4, len(by_proxy) - 1)] - by_proxy[0],
    at_least=0.1,
    breaks_when={"the worst of 16": best_of_n(-pool_scores, pool.gold, min(16, pool.gold.shape[1])).mean().item() - by_proxy[0]},
)

# %% [markdown]
r"""
The third line needs no network at all. Of two answers the longer one is mostly the better one; but the longest of 64 is worse than one at random. A rule that is right on average is wrong at the extremes, and choosing leads to the extremes. The learnt reward has not turned yet; below you will see it turn.
"""

# %% [markdown]
r"""
## Learning by trial

Best-of-$n$ pays at every question, and it can only choose among what the assistant says anyway. Now change the assistant itself. A **policy** $\pi(y \mid x)$ is the probability of reply $y$ to prompt $x$: here, a language model. The assistant we start from is the **reference** $\pi_{ref}$. We want a high score, and we do not trust the score far from where it was learnt; so distance has a price $\beta > 0$:

$$J(\pi) = \mathbb{E}_{y \sim \pi}\big[r(x, y)\big] - \beta \, \mathrm{KL}(\pi \,\|\, \pi_{ref}), \qquad \mathrm{KL}(\pi \,\|\, \pi_{ref}) = \mathbb{E}_{y \sim \pi}\Big[\log \frac{\pi(y \mid x)}{\pi_{ref}(y \mid x)}\Big].$$

KL is 0 where the two are equal, and grows with the surprise of somebody who expects $\pi_{ref}$ and hears $\pi$; in nats a reply.

**The best policy can be written down.** Put $Z = \sum_y \pi_{ref}(y)\, e^{r(y)/\beta}$ and $\pi^*(y) = \frac1Z\, \pi_{ref}(y)\, e^{r(y)/\beta}$ (for one prompt, which we leave out). Then $r(y) = \beta \log \frac{\pi^*(y)}{\pi_{ref}(y)} + \beta \log Z$, and

$$J(\pi) = \sum_y \pi(y) \Big[\beta \log \frac{\pi^*(y)}{\pi_{ref}(y)} + \beta \log Z - \beta \log \frac{\pi(y)}{\pi_{ref}(y)}\Big] = \beta \log Z - \beta\, \mathrm{KL}(\pi \,\|\, \pi^*) .$$

The first part does not depend on $\pi$, and KL is never negative: $J$ is largest, $\beta \log Z$, at $\pi = \pi^*$ and nowhere else. ∎ (Keep $r = \beta \log \frac{\pi^*}{\pi_{ref}} + \beta \log Z$ in mind: lesson 20 reads it from right to left.) For a language model this helps little, since nobody can sum over all replies; that is why we need reinforcement learning. But in a small world we can sum, and so *check* the learning before we trust it.

### A world of 341 replies

Four words, and a reply has at most four tokens, its end included. `ReplySpace` lists them all; `TabularPolicy` has a table with a row of logits for each of the 85 beginnings, so it can be any distribution whatsoever, and writes token by token like a language model. The reward: 2 if *red* is said, ½ for each *please* or *thanks*, −½ for each *um*, and to each reply some random taste of its own.
"""

# %% tags=["nbval-check-output"]
space = ReplySpace(("red", "please", "thanks", "um"), longest=4)
print(len(space), "replies,", space.n_states, "beginnings; the first, some in the middle, the last:")
print([space.text(row) for row in (0, 1, 5, 30, 84, 85, 340)])

# %%
generator = run.generator(1)
reference_table = torch.randn(space.n_states, len(space.words) + 1, generator=generator)  # (states, words + 1)
reference = TabularPolicy(space, reference_table)
reference_log = reference.log_probs().detach()  # (S,)


def count(*words: str) -> Tensor:
    """Return how often some words occur in each reply, (S,)."""
    wanted = torch.tensor([space.words.index(word) for word in words])
    return (torch.isin(space.ids, wanted) & space.mask).sum(dim=1)


taste = 0.5 * torch.randn(len(space), generator=generator)  # (S,)
reward = 2.0 * (count("red") > 0) + 0.5 * count("please", "thanks") - 0.5 * count("um") + taste  # (S,)
BETA = 0.5
best = closed_form(reference_log, reward, BETA)  # (S,), log π*


def objective(log_p: Tensor) -> float:
    """Return J of a policy that is given by the log-probabilities of all replies."""
    return ((log_p.exp() * reward).sum() - BETA * kl_divergence(log_p, reference_log)).item()


log_z = (reference_log + reward / BETA).logsumexp(0).item()
print(f"J of the reference {objective(reference_log):.3f}, of π* {objective(best):.3f}; β log Z {BETA * log_z:.3f}")
print(f"KL(π* ‖ π_ref) = {kl_divergence(best, reference_log):.2f} nats")

# %% [markdown]
r"""
As a distance from $\pi^*$ we take the **total variation** $\tfrac12 \sum_y |\pi(y) - \pi^*(y)|$: the most by which the two can disagree about the probability of anything. 0 is equal, 1 is nothing in common.

### REINFORCE

How does one climb an expectation over replies that one can only sample? With $\nabla \pi = \pi\, \nabla \log \pi$:

$$\nabla\, \mathbb{E}_{y \sim \pi}[R(y)] = \sum_y R(y)\, \pi(y)\, \nabla \log \pi(y) = \mathbb{E}_{y \sim \pi}\big[R(y)\, \nabla \log \pi(y)\big] .$$

So: write replies, and make each more probable in proportion to what it got (Williams 1992). Since $\mathbb{E}[\nabla \log \pi] = \nabla \sum_y \pi(y) = \nabla 1 = 0$, any number $b$ may be subtracted from $R$ without changing the mean, as long as it does not depend on the reply: a **baseline**. With $b$ = the mean reward of the batch, replies above average become more probable, and those below less. (The batch's mean holds the reply itself, one part in $B$; that only shortens the mean gradient by the factor $1 - 1/B$.)

And the KL? Put it into the reward: $R(y) = r(y) - \beta \log \frac{\pi(y)}{\pi_{ref}(y)}$, with the $\pi$ of the moment as a constant. (It depends on the parameters, too, but that part of the gradient is $-\beta\, \mathbb{E}[\nabla \log \pi] = 0$.) The logarithm of a reply is a sum over its tokens, $\log \pi(y) = \sum_t \log \pi(y_t \mid y_{<t})$, so every token can pay its own part at once, and the score comes at the end.

### Exercise: `kl_penalty`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

*Task.* Make the rewards of all tokens of a batch of replies. Each token of a reply pays $\beta\,(\log \pi - \log \pi_{ref})$; at the reply's last token its score is added.

*Input.* `score` (B,): of each reply. `logprobs`, `reference` (B, n): log-probability of every token under the policy and under the reference. `mask` (B, n): True for the tokens of the reply (a prompt may stand in front of them, filler behind; they stand together). `beta`: a number.

*Output.* The rewards, (B, n).

*Edge cases.* Outside of the reply rewards are 0, whatever stands in `logprobs` there, even −∞. A token that has become *less* probable gets something back. A row without a reply is all zeros. `hint("kl_penalty")` helps.
"""

# %% tags=["exercise"] exercise="kl_penalty"
from course_lib.posttraining.ppo import kl_penalty  # course: write out

# %% tags=["check"] exercise="kl_penalty"
kl_penalty = check("kl_penalty")

# %%
from course_lib.posttraining.ppo import reinforce_loss  # course: write out


# %% tags=["experiment"]
Rewards = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # score, log-probabilities twice, mask -> (B, n)


def paying(beta: float) -> Rewards:
    """Return the rewards with a price of β."""
    return lambda *given: kl_penalty(*given, beta)


@dataclass
class Course:
    """Where a policy went: its distance from π* before each step, and itself at the end."""

    distance: list[float]
    policy: TabularPolicy


STEPS, SIZE = run.pick(smoke=12, standard=200, full=2000), 512


def learn_by_reinforce(rewards_of: Rewards, baseline: bool = True) -> Course:
    """Let a tabular policy learn from its own replies, 512 a step; the rate falls to 0."""
    policy, distance, draws = TabularPolicy(space, reference_table), [], run.generator(2)
    optimizer = torch.optim.Adam([policy.logits], lr=0.05, betas=(0.9, 0.99))
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / STEPS)
        rows = policy.sample(SIZE, draws)  # (B,)
        logprobs, mask = policy(rows)[0], space.mask[rows]  # (B, n)
        gain = rewards_of(reward[rows], logprobs.detach(), reference(rows)[0].detach(), mask).sum(dim=1)  # (B,)
        loss = reinforce_loss(logprobs, gain - gain.mean() if baseline else gain, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distance.append(total_variation(policy.log_probs().detach(), best).item())
    return Course(distance, policy)


reinforce = {
    "REINFORCE": learn_by_reinforce(paying(BETA)),
    "without a baseline": learn_by_reinforce(paying(BETA), baseline=False),
    "without a price": learn_by_reinforce(paying(0.0)),
    "paid for distance": learn_by_reinforce(paying(-BETA)),
}
for name, course in reinforce.items():
    print(f"{name:<20} total variation from π* {course.distance[-1]:.4f}")

# %% tags=["claim"]
claim(
    "REINFORCE with a price of KL reaches the policy that was written down (total variation)",
    measured=reinforce["REINFORCE"].distance[-1],
    at_most=0.06,
    breaks_when={
        "where it began": total_variation(reference_log, best).item(),
        "without a price": reinforce["without a price"].distance[-1],
        "with the wrong sign, paid for distance": reinforce["paid for distance"].distance[-1],
    },
)

# %% [markdown]
r"""
Without a price nothing holds it: it heaps its probability on very few replies of high reward, not always on the best one, and $\pi^*$ is something else. The baseline does not change the goal; without it the noise does not die out at the goal, and after as many steps the policy is several times as far away. And there is something peculiar about the goal: at $\pi^*$ every reply gets the *same*, $R(y) = r(y) - \beta \log \frac{\pi^*(y)}{\pi_{ref}(y)} = \beta \log Z$. Nothing is above average any more; the gain minus its mean is 0 for each reply, not only on average. So the noise dies out as the policy arrives.
"""

# %% tags=["claim"]
at_best = reward - BETA * (best - reference_log)  # (S,), R of each reply
claim(
    "at π* every reply has the same reward minus price: the largest deviation from β log Z",
    measured=(at_best - BETA * log_z).abs().max().item(),
    at_most=1e-4,
    breaks_when={"at the reference": (reward - BETA * log_z).abs().max().item()},
)

# %% [markdown]
r"""
## PPO, part by part

REINFORCE gives all tokens of a reply the same credit, and uses each reply for one step. **Proximal policy optimisation** (PPO; Schulman et al. 2017) improves both, and is what InstructGPT was trained with. One step of it, with all that takes part:

1. the **policy** answers a batch of questions;
2. the **reward model** scores the answers (frozen);
3. the policy and the **reference** (frozen) say how probable each token was: each pays its price;
4. the **critic**, which shares the policy's body, says what it expected at each token: advantages;
5. policy and critic are updated, several times on the same answers;
6. the price is adapted.

**A critic.** Let $V_t$ be an estimate, made *before* token $t$ is chosen, of what is still to come: a number that the model itself says, by a *value head*, one linear layer on the same vector that the logits are made of. Then we can say at each token how the outlook changed. With the reward $r_t$ of the token, the *surprise* is

$$\delta_t = r_t + \gamma V_{t+1} - V_t ,$$

where $V = 0$ behind the last token, and $\gamma \le 1$ discounts the future (for replies one takes $\gamma = 1$). One surprise trusts the critic's next word entirely. The other extreme is to wait for all rewards to come, which trusts nobody and is noisy. **Generalised advantage estimation** (GAE; Schulman et al. 2016) is between: a sum of surprises that fades by $\lambda$,

$$A_t = \delta_t + \gamma\lambda\, \delta_{t+1} + (\gamma\lambda)^2\, \delta_{t+2} + \dots = \delta_t + \gamma\lambda\, A_{t+1} .$$

By hand: three tokens, rewards $0, 0, 1$, values $0.5, 0.5, 0.5$, $\gamma = 1$, $\lambda = 0.5$. The surprises are $0$, $0$ and $1 + 0 - 0.5 = 0.5$. From behind: $A_3 = 0.5$, $A_2 = 0 + 0.5 \cdot 0.5 = 0.25$, $A_1 = 0.125$. The critic learns that it should have said $A_t + V_t$: the **returns** $0.625, 0.75, 1$.

### Exercise: `gae`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

*Task.* Compute advantages and returns of all tokens of a batch of replies.

*Input.* `rewards`, `values` (B, n): $r_t$ and $V_t$ of every token. `mask` (B, n): True for the tokens of the reply, which stand together. `gamma`, `lam`: numbers.

*Output.* A pair: the advantages $A$ and the returns $A + V$, (B, n) each, both 0 outside of the replies.

*Edge cases.* Prompts in front, filler behind, and what stands there in `rewards` and `values` means nothing, even NaN. Behind a reply's last token $V$ and $A$ are 0. A loop over columns is fine; one over rows is not needed. `hint("gae")` helps.
"""

# %% tags=["exercise"] exercise="gae"
from course_lib.posttraining.ppo import gae  # course: write out

# %% tags=["check"] exercise="gae"
gae = check("gae")

# %% tags=["nbval-check-output"]
by_hand = gae(torch.tensor([[0.0, 0.0, 1.0]]), torch.full((1, 3), 0.5), torch.ones(1, 3, dtype=torch.bool), 1.0, 0.5)
print("advantages", by_hand[0].tolist(), "returns", by_hand[1].tolist())

# %% [markdown]
r"""
**Several steps with the same replies.** Writing is the slow part, so PPO goes through a batch more than once. But after the first step the replies are those of an *old* policy. The ratio $\rho_t = \pi(y_t \mid y_{<t}) / \pi_{old}(y_t \mid y_{<t})$ corrects for that: $\mathbb{E}_{old}[\rho A]$ has, where $\pi = \pi_{old}$, just REINFORCE's gradient. Far from $\pi_{old}$ it is worth little: advantages, and the beginnings at which they were measured, are the old policy's. So the gain is cut off as soon as the ratio has moved by $\varepsilon$ in the direction that pays:

$$L_{policy} = -\,\operatorname{mean}_t\; \min\big(\rho_t A_t,\; \operatorname{clip}(\rho_t,\, 1 - \varepsilon,\, 1 + \varepsilon)\, A_t\big) .$$

Why a minimum? If $A_t > 0$ the gain grows with $\rho_t$ up to $1 + \varepsilon$ and then stays: no reason to go on. If $\rho_t$ fell *below* $1 - \varepsilon$ by accident, the unclipped term is the smaller one and its gradient brings the token back. For $A_t < 0$ it is the same upside down.

The values are treated with the same caution: $V_t$ as it is, and $V_t$ held within $\varepsilon$ of what it was, $V^{near}_t = V^{old}_t + \operatorname{clip}(V_t - V^{old}_t, -\varepsilon, \varepsilon)$; of the two squared errors against the returns $G_t = A_t + V^{old}_t$ the larger counts: once $V_t$ has moved more than $\varepsilon$ towards its return, the held one is the larger, which has no gradient, and that is enough for this batch; moved away from it, the other counts and brings it back. (This $\varepsilon$ is in units of reward.)

$$L_{value} = \tfrac12\, \operatorname{mean}_t\; \max\big((V_t - G_t)^2,\; (V^{near}_t - G_t)^2\big) .$$
"""

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), sharey=True)
ratios = torch.linspace(0.4, 1.6, 121)
for ax, advantage in zip(axes, (1.0, -1.0)):
    clipped = ratios.clamp(0.8, 1.2) * advantage
    ax.plot(ratios, ratios * advantage, marker="", linestyle=":", color=figures.PALETTE["grey"], label="ρA")
    ax.plot(ratios, clipped, marker="", linestyle="--", color=figures.PALETTE["orange"], label="clip(ρ) A")
    ax.plot(ratios, torch.minimum(ratios * advantage, clipped), marker="", label="the smaller one", linewidth=2.6)
    ax.set(xlabel="ratio ρ of new to old probability", title=f"advantage {advantage:+.0f}")
axes[0].set_ylabel("gain")
axes[1].legend()
figures.show(
    fig,
    caption="PPO's gain for one token, ε = 0.2. It is flat, without a gradient, only where the policy has already gone far enough in the direction that pays.",
    alt="Two panels. Advantage plus one: the gain rises with the ratio and is flat from 1.2 on. Advantage minus one: the gain is flat below a ratio of 0.8 and falls beyond.",
)

# %% [markdown]
r"""
### Exercise: `ppo_loss`

*Difficulty ●●●○○ · about 20 minutes · 5 points*

*Task.* Compute both losses of a batch.

*Input.* `logprobs`, `old_logprobs`, `advantages`, `values`, `old_values`, `returns`: (B, n) each, as above. `mask` (B, n): True for the tokens of the replies. `clip`: $\varepsilon$, for both.

*Output.* A pair of numbers: the policy's loss and the values' loss, with gradients to `logprobs` and to `values`. Every marked token of the batch has the same weight, whichever reply it stands in.

*Edge cases.* Outside of the replies anything may stand, also numbers whose exponential is infinite; neither loss nor gradient may notice. `hint("ppo_loss")` helps.
"""

# %% tags=["exercise"] exercise="ppo_loss"
from course_lib.posttraining.ppo import ppo_loss  # course: write out

# %% tags=["check"] exercise="ppo_loss"
ppo_loss = check("ppo_loss")

# %% [markdown]
r"""
Three smaller parts. **Whitening**: the advantages of a batch are given mean 0 and variance 1, so that the size of the rewards does not matter for the step. **An entropy bonus** pays the policy for being undecided; it is subtracted from the loss with a weight that is often 0, as here, because it changes what is optimal. **A loop** puts it together: compute advantages once, then several times cut the batch in parts and make a step with each. Note what is *not* differentiated: rewards, advantages and returns are numbers.
"""

# %%
from course_lib.posttraining.ppo import whiten  # noqa: F401  # course: write out


from course_lib.posttraining.ppo import PPOSettings  # course: write out


from course_lib.posttraining.ppo import ppo_update  # course: write out


# %% [markdown]
r"""
Finally **the price that adapts** (Ziegler et al. 2019, section 2.2). Which $\beta$ leads how far depends on the reward's scale, which nobody knows beforehand. It is easier to say how far we want to go, in nats, and let a controller find the price: raise $\beta$ by at most 2 % a step while the policy is too far, lower it while it is too near.
"""

# %%
from course_lib.posttraining.ppo import AdaptiveBeta  # course: write out


# %% tags=["experiment"]
def learn_by_ppo(price: AdaptiveBeta, settings: PPOSettings, steps: int = STEPS, falling: bool = True, sign: int = 1) -> tuple[Course, list[tuple[float, float]]]:
    """Let a tabular policy learn by PPO; return its way, and (β, KL) at each step."""
    policy, distance, seen, draws = TabularPolicy(space, reference_table), [], [], run.generator(3)
    groups = [{"params": [policy.logits], "lr": 0.05}, {"params": [policy.worth], "lr": 0.1}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps if falling else 1.0)
    for _ in range(steps):
        rows = policy.sample(SIZE, draws)  # (B,)
        mask = space.mask[rows]  # (B, n)
        with torch.no_grad():
            logprobs, _, values = policy(rows)  # (B, n) each
            before = reference(rows)[0]  # (B, n)
        nats = (logprobs - before).sum(dim=1).mean().item()
        rewards = kl_penalty(reward[rows], logprobs, before, mask, sign * price.beta)  # (B, n)
        seen.append((price.beta, nats))
        price.update(nats)
        ppo_update(policy, optimizer, lambda part: rows[part], rewards, logprobs, values, mask, settings, draws)  # noqa: B023
        rates.step()
        distance.append(total_variation(policy.log_probs().detach(), best).item())
    return Course(distance, policy), seen


plain = PPOSettings()
ppo = {
    "PPO": learn_by_ppo(AdaptiveBeta(BETA), plain)[0],
    "without a price": learn_by_ppo(AdaptiveBeta(0.0), plain)[0],
    "paid for distance": learn_by_ppo(AdaptiveBeta(BETA), plain, sign=-1)[0],
    "paid for entropy": learn_by_ppo(AdaptiveBeta(BETA), PPOSettings(entropy_weight=0.2, whiten=False))[0],
}
for name, course in ppo.items():
    print(f"{name:<20} total variation from π* {course.distance[-1]:.4f}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, courses, title in ((axes[0], reinforce, "REINFORCE"), (axes[1], ppo, "PPO")):
    for (name, course), color, style in zip(courses.items(), figures.CYCLE, ("-", "--", ":", "-.")):
        ax.plot(course.distance, label=name, marker="", color=color, linestyle=style)
    ax.set(xlabel=f"step, of {SIZE} replies", title=title, ylim=(0, 1.02))
    ax.legend(fontsize=8)
axes[0].set_ylabel("total variation from π*")
figures.show(
    fig,
    caption="The distance from the policy that is known to be best. Both methods arrive; what maximises something else arrives somewhere else.",
    alt="Two panels with total variation against steps. In each the complete method falls to nearly 0, and the variants without a price or with its sign turned end far away.",
)

# %%
print(f"π* gives its likeliest reply {best.exp().max():.2f}; the reply of the highest reward is “{space.text(int(reward.argmax()))}”")
print(f"{'at the end':<30}{'likeliest reply':<32}{'its π':>6}{'nearest to π*':>16}{'at step':>9}")
for method, courses in (("REINFORCE", reinforce), ("PPO", ppo)):
    for name, course in courses.items():
        said, nearest = course.policy.log_probs().detach(), min(range(STEPS), key=course.distance.__getitem__)
        print(f"{name if name == method else f'{method}, {name}':<30}{space.text(int(said.argmax())):<32}{said.exp().max():>6.2f}{course.distance[nearest]:>16.3f}{nearest + 1:>9}")

# %% tags=["claim"]
def visit(course: Course) -> float:
    """Return how much nearer to π* a course came than it began and than it ended, whichever is less."""
    return min(course.distance[0], course.distance[-1]) - min(course.distance)


claim(
    "without a price both methods come nearer to π* at first, and then leave it (total variation, the smaller way of the two methods)",
    measured=min(visit(each["without a price"]) for each in (reinforce, ppo)),
    at_least=0.1,
    breaks_when={"with a price": max(visit(reinforce["REINFORCE"]), visit(ppo["PPO"]))},
)

# %% [markdown]
r"""
Look at the dotted lines once more. Learning without a price *begins* like learning with one: what is gained first is what $\pi^*$ gains, too. Then it goes on, to a single reply. (In PPO's panel the lines *without a price* and *paid for distance* lie on each other: both end at one reply, and neither has anything in common with $\pi^*$.) Whoever had stopped early would have seen a good policy and a rising reward, and nothing of what comes. Keep that in mind for the town.
"""

# %% tags=["claim"]
claim(
    "PPO with a fixed price and no entropy bonus reaches the policy that was written down (total variation)",
    measured=ppo["PPO"].distance[-1],
    at_most=0.03,
    breaks_when={name: course.distance[-1] for name, course in ppo.items() if name != "PPO"},
)
TARGET = 1.0
adaptive, seen = learn_by_ppo(AdaptiveBeta(0.1, TARGET), plain, falling=False)
late = seen[len(seen) // 2 :]
found_beta, found_kl = (sum(each[k] for each in late) / len(late) for k in (0, 1))
exact_beta = beta_for(reference_log, reward, TARGET)
print(f"wanted {TARGET} nats: KL {found_kl:.3f} at β = {found_beta:.3f}; the closed form needs β = {exact_beta:.3f}")
claim(
    "the adaptive price finds the β whose best policy lies one nat away: ratio to the exact one",
    measured=found_beta / exact_beta,
    between=(0.8, 1.25),
    breaks_when={"the price it began with": 0.1 / exact_beta},
)

# %% [markdown]
r"""
## The town

Now with language. The policy is the assistant with a value head; its score is the reward model's; the KL is summed over the tokens of a reply, and measured on the policy's own replies. One step: answer 128 questions (drawn from our 24), score the answers, make the tokens' rewards, update.

Two things keep the noise of these steps small. The reward model has never compared answers to *different* questions, so whatever it adds to all answers to one question means nothing. To the policy it would be noise: an answer would look good because its question is rated high. So we subtract from each score the mean score of the assistant's own answers to that question, from the pool. It is one more baseline; $\pi^*$ stays where it is. And a critic who knows nothing yet makes advantages that mean little. So in the first four steps only the critic learns.
"""

# %%
from course_lib.posttraining.ppo import Actor  # noqa: F401  # course: write out


from course_lib.posttraining.ppo import Learner  # course: write out


# %% tags=["experiment"]
def scored_by(model: RewardModel) -> Callable[[Sequence[str], Replies], Tensor]:
    """Return a function that scores replies, relative to the mean of the assistant's own answers to the same question."""
    own = scores_of(model, Rows(pool.replies.ids.cpu(), pool.replies.mask.cpu())).view(pool.gold.shape).mean(dim=1)  # (questions,)
    usual = dict(zip(asked, own.tolist()))
    return lambda prompts, replies: model(replies.ids, replies.mask) - torch.tensor([usual[each] for each in prompts], device=replies.ids.device)


SIZE_OF_BATCH, EACH, RATE, WARM_UP = *run.pick(smoke=(8, 1), standard=(128, 10), full=(256, 4)), 1e-4, 4
by_length = sorted(asked, key=lambda prompt: len(tokenizer.encode(" " + prompt)))
watched = max((list(group) for _, group in groupby(by_length, key=lambda prompt: len(tokenizer.encode(" " + prompt)))), key=len)[:6]  # equally long


PARTS = ("fact", "manners", "length", "grammar", "repetition")


def parts_of(gold: GoldReward) -> dict[str, float]:
    """Return the parts of a gold reward by name."""
    return {name: getattr(gold, name) for name in PARTS}


@torch.no_grad()
def look(policy: GPT, model: RewardModel, n_new: int, each: int, seed: int) -> dict[str, Any]:
    """Ask a policy all of our questions, some times each; return means over the replies, and some replies."""
    prompts = [*watched, *asked * each]
    drawn = answer(policy.eval(), tokenizer, prompts, n_new, generator=torch.Generator(run.device).manual_seed(seed))
    scores, golds, losses = model(drawn.ids, drawn.mask).tolist(), gold_of(prompts, drawn.texts), [grammar_loss(town.judge.grammar, text) for text in drawn.texts]
    farther = token_logprobs(policy(drawn.ids), drawn.ids) - token_logprobs(assistant(drawn.ids), drawn.ids)  # (B, n)
    nats = farther.masked_fill(~drawn.mask, 0).sum(dim=1).tolist()
    said = [Said(*each) for each in zip(watched, drawn.texts, scores, map(parts_of, golds))]
    few = len(watched)
    return {
        "kl": mean(nats[few:]),
        "proxy": mean(scores[few:]),
        "gold": mean([gold.total for gold in golds[few:]]),
        "right": mean([float(gold.fact > 0) for gold in golds[few:]]),
        "fluent": mean([float(gold.grammar == 0) for gold in golds[few:]]),
        "grammar loss": mean([loss for loss in losses[few:] if math.isfinite(loss)] or [math.nan]),
        **{name: mean([parts_of(gold)[name] for gold in golds[few:]]) for name in PARTS},
        "said": said,
    }


def walk(model: RewardModel, price: AdaptiveBeta, points: int, group: int, seed: int, n_new: int = LONGEST, each: int = EACH, size: int = SIZE_OF_BATCH, rate: float = RATE) -> list[dict[str, Any]]:
    """Let PPO walk away from the assistant, and look at it before, and again after each group of steps."""
    learner = Learner(assistant, tokenizer, asked, scored_by(model), price, size, n_new, rate, PPOSettings(), seed, alike=False, warm_up=WARM_UP)
    found = [look(learner.actor.model, model, n_new, each, seed)]
    for _ in range(WARM_UP):
        learner.step()
    for _ in progress(range(points), desc="PPO"):
        for _ in range(group):
            learner.step()
        found.append(look(learner.actor.model, model, n_new, each, seed))
    return found


# %% [markdown]
r"""
A short walk, live, at a low price. It has only a few steps, so they are larger and rougher than those of the recorded walks further below: half the answers, of at most 12 tokens, and three times the learning rate. Afterwards change the price in the cell's first line (0.5, 2), and run it again:
"""

# %% tags=["experiment"]
live = walk(proxy, AdaptiveBeta(0.02), *run.pick(smoke=(2, 1), standard=(3, 2), full=(40, 5)), run.seed, n_new=12, each=4, size=SIZE_OF_BATCH // 2, rate=3 * RATE)
print(f"{'KL':>6}{'learnt':>9}{'gold':>7}{'right':>7}{'fluent':>8}   an answer to: {live[0]['said'][0].prompt}")
for point in live:
    print(f"{point['kl']:>6.2f}{point['proxy']:>9.2f}{point['gold']:>7.2f}{point['right']:>7.2f}{point['fluent']:>8.2f}   {point['said'][0].text}")

# %% tags=["claim"]
unmoved = answer(assistant, tokenizer, asked * 4, 12, generator=run.generator(12))  # the assistant, which has not learnt
claim(
    "PPO raises the learnt reward of the assistant's answers (last point minus first)",
    measured=live[-1]["proxy"] - live[0]["proxy"],
    at_least=0.2,
    breaks_when={"the assistant, asked again": proxy(unmoved.ids, unmoved.mask).mean().item() - live[0]["proxy"]},
)

# %% [markdown]
r"""
## The over-optimisation curve

In so short and rough a walk the true reward may well fall at once. Now the whole way, in smaller steps, recorded (the command and machine stand in the record; three seeds each): a price so low that it hardly holds and a higher one, reward models from many and from fewer comparisons, and one from an honest judge.
"""

# %%
SOME, MANY = sizes[len(sizes) // 2], sizes[-1]  # comparisons
MAIN, FEWER, DEARER, HONEST_ONE = "many comparisons", "fewer", "fewer, β = 0.5", "fewer, honest judge"
WALKS = {
    MAIN: ("likes length", MANY, 0.02), FEWER: ("likes length", SOME, 0.02),
    DEARER: ("likes length", SOME, 0.5), HONEST_ONE: ("honest", SOME, 0.02),
}  # fmt: skip
LOOK_OF = {  # colour and marker in the figures
    MAIN: (figures.PALETTE["blue"], "s"), FEWER: (figures.PALETTE["orange"], "o"),
    DEARER: (figures.PALETTE["purple"], "D"), HONEST_ONE: (figures.PALETTE["green"], "^"),
}  # fmt: skip

# %% tags=["record"]
def as_json(point: dict[str, Any]) -> dict[str, Any]:
    """Return a point as JSON has it."""
    said = [{"prompt": s.prompt, "text": s.text, "proxy": round(s.proxy, 3), "parts": {k: round(v, 3) for k, v in s.parts.items()}} for s in point["said"]]
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in point.items()} | {"said": said}


POINTS, STEPS_EACH = run.pick(smoke=(2, 1), standard=(8, 3), full=(40, 10))
walks = []
for seed in range(run.pick(smoke=1, standard=3, full=3)):
    for name, (judge, size, beta) in WALKS.items():
        points = [as_json(each) for each in walk(models[judge, size, 0, seed], AdaptiveBeta(beta), POINTS, STEPS_EACH, seed)]
        walks.append({"name": name, "seed": seed, "points": points if seed == 0 or name == MAIN else [each | {"said": []} for each in points]})
record("walks", walks)

# %%
predict(
    "lowest",
    "Four kinds of walk, three seeds each. One kind ends with the lowest true reward in every seed. Which?",
    [
        "The biased judge, many comparisons, a low price",
        "The biased judge, fewer comparisons, a low price",
        "The biased judge, fewer comparisons, a high price",
        "An honest judge, fewer comparisons, a low price",
    ],
    answer=0,
    because="The reward model that knows most about the assistant's own answers lets PPO go farthest away from them. What is known here of the causes is told behind the figures",
)

# %% tags=["experiment"]
walks = recorded("walks")
SEEDS = sorted({each["seed"] for each in walks})


def series(name: str, key: str) -> list[list[float]]:
    """Return a quantity along the walks of a name, one list a seed."""
    return [[point[key] for point in each["points"]] for each in walks if each["name"] == name]


def turn(name: str) -> list[int]:
    """Return the point of the highest gold reward, one a seed."""
    return [gold.index(max(gold)) for gold in series(name, "gold")]


def square_root(ax: Any, farthest: float) -> None:
    """Let the axis of KL show its square root, as Gao, Schulman and Hilton (2023) do, so that the first nat has room."""
    ax.set_xscale("function", functions=(lambda nats: abs(nats) ** 0.5, lambda root: root**2))
    ax.set(xlim=(0, 1.05 * farthest), xlabel="KL from the assistant (nats a reply)")
    ticks = [each for each in (0, 0.25, 1, 2, 4, 8, 16, 32) if each <= 1.05 * farthest]
    ax.set_xticks(ticks, [f"{each:g}" for each in ticks])


def farthest(names: Sequence[str]) -> float:
    """Return the largest KL of some walks."""
    return max(max(far) for name in names for far in series(name, "kl"))


def draw_walks(ax: Any, name: str) -> None:
    """Draw proxy and gold against KL, a line for each seed, and mark the highest gold of each."""
    for key, color, marker, label in (
        ("proxy", figures.PALETTE["blue"], "o", "learnt reward (proxy)"),
        ("gold", figures.PALETTE["vermillion"], "s", "true reward (gold)"),
    ):
        for k, (far, values) in enumerate(zip(series(name, "kl"), series(name, key))):
            ax.plot(far, values, color=color, linewidth=0.9, marker=marker, markersize=3, label=label if k == 0 else None)
    for k, (far, gold, at) in enumerate(zip(series(name, "kl"), series(name, "gold"), turn(name))):
        ax.plot(far[at], gold[at], "s", color=figures.PALETTE["black"], markersize=6, label="highest true reward" if k == 0 else None)
    square_root(ax, farthest([name]))


fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
for ax, name, pairs in ((axes[0], MAIN, MANY), (axes[1], FEWER, SOME)):
    draw_walks(ax, name)
    ax.set_title(f"PPO, {pairs} comparisons")
axes[0].set_ylabel("mean reward of a reply")
axes[0].legend(fontsize=8)
bounds = [kl_bound(n) for n in sweep[0]["n"]]
for each in of("likes length", SOME):
    axes[2].plot(bounds, each["proxy"], color=figures.PALETTE["blue"], marker="", linewidth=1.4)
    axes[2].plot(bounds, each["gold"], color=figures.PALETTE["vermillion"], linestyle="--", marker="", linewidth=1.4)
square_root(axes[2], bounds[-1])
axes[2].set(xlabel="bound on KL: log n − (n − 1)/n (nats)", title=f"Best of n, {SOME} comparisons")
figures.show(
    fig,
    caption="The over-optimisation curve, three seeds; the axes show the square root of KL. Left and middle, PPO at a low price, with reward models from many comparisons and from fewer, a point for each look; black marks the highest true reward of a seed. From many, it rises, turns and falls in every seed; from fewer it turns in two, and in the third it is highest at the end of the walk. Right, best of n. Recorded.",
    alt="Three panels of learnt and true reward. Left, PPO: the learnt one rises, the true one rises a little and turns within two nats and falls, in two seeds far down. Middle, the same from fewer comparisons: one seed falls, one falls a little, one only rises. Right, best of n: the true one rises at first, and stops rising or falls.",
)

# %% tags=["claim"]
def gained(name: str, key: str) -> list[float]:
    """Return by how much a quantity grew from the beginning of a walk to its end, one number a seed."""
    return [values[-1] - values[0] for values in series(name, key)]


def more_of_n(pairs: int, key: str, few: int, many: int) -> list[float]:
    """Return by how much the best of many is better than the best of few, one number a seed."""
    return [each[key][each["n"].index(many)] - each[key][each["n"].index(few)] for each in of("likes length", pairs)]


LARGEST = max(sweep[0]["n"])  # the largest n
claim(
    "PPO at a low price raises the learnt reward, in the seed where it rises least",
    measured=min(gained(MAIN, "proxy")),
    at_least=1.0,
    breaks_when={"the true reward": max(gained(MAIN, "gold"))},
)
claim(
    "on the way the true reward stands higher than at the start, in the seed where it rises least",
    measured=min(max(gold) - gold[0] for gold in series(MAIN, "gold")),
    at_least=0.05,
    breaks_when={"from there to the end": max(gold[-1] - max(gold) for gold in series(MAIN, "gold"))},
)
claim(
    "and it ends lower than that, in the seed where it falls least",
    measured=min(max(gold) - gold[-1] for gold in series(MAIN, "gold")),
    at_least=0.1,
    breaks_when={"the learnt reward": max(max(values) - values[-1] for values in series(MAIN, "proxy"))},
)
claim(
    "the best of 4 is truly better than a random reply, in the seed where it gains least",
    measured=min(more_of_n(SOME, "gold", 1, 4)),
    at_least=0.2,
    breaks_when={"the best of the largest n, by few comparisons": max(more_of_n(sizes[0], "gold", 1, LARGEST))},
)
claim(
    "by few comparisons the best of the largest n is truly worse than the best of 4, in the seed where it loses least",
    measured=-max(more_of_n(sizes[0], "gold", 4, LARGEST)),
    at_least=0.3,
    breaks_when={"the learnt reward": -min(more_of_n(sizes[0], "proxy", 4, LARGEST))},
)

# %% [markdown]
r"""
At first the two rewards rise together. (The rise is not large beside the noise of a look, which is a mean over ten answers to each question. Trust its sign in three seeds more than its size in one.) Then the true reward turns, in every seed on the left, each at its own distance. How far it falls differs as much: one walk stays near the assistant and loses little, one leaves the language, as you will see.

The best of $n$ chooses among what the assistant says anyway, and even the best of 64 is at most 3.2 nats away. PPO changes what is said, for all questions at once, and nothing but the price holds it.
"""

# %% [markdown]
r"""
### What it writes

Some questions, in the seed whose true reward falls farthest: before, at the turn, and at the end.
"""

# %%
deepest = max(SEEDS, key=lambda seed: max(series(MAIN, "gold")[seed]) - series(MAIN, "gold")[seed][-1])  # the seed that falls farthest
first = next(each for each in walks if each["name"] == MAIN and each["seed"] == deepest)["points"]
print(f"seed {deepest}")
for name, at in (("before", 0), ("at the turn", turn(MAIN)[deepest]), ("at the end", len(first) - 1)):
    print(f"{name}: KL {first[at]['kl']:.1f} nats, learnt {first[at]['proxy']:.2f}, gold {first[at]['gold']:.2f}")
    for said in first[at]["said"][:4]:
        print(f"   {said['prompt']:<44} {said['text']:<70} {sum(said['parts'].values()):6.2f}")

# %% [markdown]
r"""
### What moves the turn

The price, the data, the judge.
"""

# %% tags=["experiment"]
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.5), sharey=True)
for ax, names in ((axes[0], (FEWER, DEARER)), (axes[1], (FEWER, MAIN, HONEST_ONE))):
    for name in names:
        color, marker = LOOK_OF[name]
        for k, (far, gold) in enumerate(zip(series(name, "kl"), series(name, "gold"))):
            label = (f"{SOME} comparisons, biased judge, β = 0.02" if name == FEWER else f"{MANY} comparisons" if name == MAIN else name.split(", ")[-1]) if k == 0 else None
            ax.plot(far, gold, color=color, marker=marker, markersize=3, linewidth=0.7, label=label)
    square_root(ax, farthest(names))
    ax.legend(fontsize=8)
axes[0].set(ylabel="true reward of a reply", title="The price")
axes[1].set_title("Data and judge")
figures.show(
    fig,
    caption="The true reward along the way, three seeds. Left: the higher price keeps the policy near, and its true reward ends above where it began in every seed. Right: with more comparisons PPO ends farther away and lower, and an honest judge does not prevent the fall. Recorded.",
    alt="Two panels of true reward against KL, a line for each of three seeds. Left, two prices of KL. Right, biased comparisons, more of them, and those of an honest judge.",
)
print(f"{'':<22}{'KL at the end':>14}{'highest gold':>14}{'at KL':>8}{'gold at the end':>17}   (means of the seeds)")
for name in WALKS:
    top = mean([max(each) for each in series(name, "gold")])
    where = mean([far[at] for far, at in zip(series(name, "kl"), turn(name))])
    end, far = (mean([each[-1] for each in series(name, key)]) for key in ("gold", "kl"))
    print(f"{name:<22}{far:>14.1f}{top:>14.2f}{where:>8.1f}{end:>17.2f}")

# %% tags=["experiment"]
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.0))
for ax, key, title in zip(axes, ("right", "fluent", "grammar loss"), ("Right answers", "Grammatical replies", "Loss under the grammar")):
    for name in (MAIN, FEWER, HONEST_ONE):
        color, marker = LOOK_OF[name]
        for k, (far, values) in enumerate(zip(series(name, "kl"), series(name, key))):
            ax.plot(far, values, color=color, marker=marker, markersize=3, linewidth=0.7, label=name if k == 0 else None)
    square_root(ax, farthest((MAIN, FEWER, HONEST_ONE)))
    ax.set(xlabel="KL (nats a reply)", title=title)
axes[0].set_ylabel("share of replies")
axes[2].set_ylabel("nats a token")
axes[0].legend(fontsize=8)
figures.show(
    fig,
    caption="What the true reward is made of. Where it falls, right answers are lost, or grammatical ones, or both. Fluency twice: the share of replies all of whose sentences Riverbank's grammar of replies accepts, and, of these, how probable the grammar finds them. Recorded.",
    alt="Three panels against KL for many comparisons, fewer, and the honest judge: the share of right answers, the share of grammatical replies, and their loss under the grammar.",
)

# %% [markdown]
r"""
*The price.* At $\beta = 0.5$ the true reward ends above its start in every seed. It is not always the better choice: in one seed the walk at the low price is at its highest when it ends, and that is higher.

*The judge.* Did you expect that an honest judge would save it? From as few comparisons, the walk ends lower than with the biased one, in every seed. Without a bias there is still the model's ignorance to exploit: you saw above that from so few comparisons the honest judge's models agree with gold less often, on average. The bias shows in the form of the answers: with the judge who likes length they become such as the grammar finds far more probable (the right panel, "fewer"), with the honest one less so.

*The data.* With more comparisons PPO ends farther away, and truly lower, in every seed, though such models choose better among the assistant's own answers, on average (next figures). To be right about what the assistant says now is not to be right about what PPO will make it say.

One cause is left out of these figures: the noise of PPO's own steps. Each step follows an estimate from 128 answers, and may change what they say nothing about, facts among it; choosing the best of $n$ changes nothing. Number 5 of the things to try takes our precautions away.

### Best of n, with more data and a larger reward model

One pool of answers for all: only the reward models differ.
"""

# %% tags=["experiment"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, colors, kinds in (
    (axes[0], ("sky", "orange", "blue"), [(f"{size} comparisons", ("likes length", size, 0)) for size in sizes]),
    (axes[1], ("blue", "purple", "green"), [("whole trunk", ("likes length", sizes[-1], 0)), ("one block", ("likes length", sizes[-1], 1)), ("whole, honest judge", ("honest", sizes[-1], 0))]),
):
    ax.set_prop_cycle(color=[figures.PALETTE[each] for each in colors], marker=["o", "s", "^"])
    curves = {name: torch.tensor([each["gold"] for each in of(*kind)]) for name, kind in kinds}  # (seeds, n)
    figures.lines(
        ax, bounds, {name: each.mean(0) for name, each in curves.items()}, xlabel="bound on KL (nats)", ylabel="",
        bands={name: (each.amin(0), each.amax(0)) for name, each in curves.items()},
    )  # fmt: skip
    ax.legend(fontsize=8)
axes[0].set(ylabel="gold reward of the best of n", title="More comparisons")
axes[1].set_title("A larger model, an honest judge")
figures.show(
    fig,
    caption="The true reward of the best of n, chosen by different reward models from the same pools. Recorded; bands are the range of three seeds.",
    alt="Two panels of gold reward against the bound on KL of best of n. Left, one line for each number of comparisons; right, a whole trunk, a single block, and an honest judge.",
)

# %% tags=["experiment"]
print(f"{'':<28}{'highest gold':>13}{'at n':>6}{'gold at n = ' + str(LARGEST):>17}   (means of the seeds; likes length)")
for size, blocks in [*((size, 0) for size in sizes), (sizes[-1], 1)]:
    highest = [max(zip(each["gold"], each["n"])) for each in of("likes length", size, blocks)]
    at_most = mean([each["gold"][-1] for each in of("likes length", size, blocks)])
    kind = f"{size} comparisons" + (", one block" if blocks else "")
    print(f"{kind:<28}{mean([top for top, _ in highest]):>13.2f}{mean([n for _, n in highest]):>6.0f}{at_most:>17.2f}")

# %% [markdown]
r"""
Here more comparisons do help: the top is higher, it comes at a larger $n$, and less is lost behind it. Of the two sizes of model the larger loses less behind the turn, though its top is about as high. With far larger models Gao, Schulman and Hilton (2023) found that data and size both raise the top.

## A reward-hacking explorer

Walk along a recorded run yourself. Which right answer turns wrong on the way, and what has the learnt reward to say about that?
"""

# %% tags=["widget", "nbval-ignore-output"]
def stops_of(points: Sequence[dict[str, Any]]) -> list[Stop]:
    """Return a walk as the view reads it."""
    return [Stop(point["kl"], point["proxy"], point["gold"], [each if isinstance(each, Said) else Said(**each) for each in point["said"]]) for point in points]


views = {f"{each['name']}, seed {each['seed']}": stops_of(each["points"]) for each in walks if each["points"][0]["said"]} | {"the live walk above": stops_of(live)}
display(hacking_view(views))
figures.show(
    draw_stop(next(iter(views.values())), -1),
    caption="The same view at the end of the first run, for a page that cannot be moved.",
    alt="Left, learnt and true reward against KL with a mark at the end. Right, an answer from there and a bar for each part of its true reward.",
)

# %% [markdown]
r"""
## What it costs when nobody looks at the gold

Outside of Riverbank there is no gold column, and the turn is noticed, if at all, by those who use the thing.

- In April 2025 an update of GPT-4o flattered its users, agreed with doubts and fuelled anger; it was rolled back within days. OpenAI's own account names a cause that this lesson could have staged: an additional reward made of users' thumbs up and down had, in sum, weakened the primary reward, which had held such sycophancy in check, and the offline tests and A/B figures that were looked at seemed good (OpenAI, *Expanding on what we missed with sycophancy*, 2 May 2025).
- A robot hand trained from human comparisons learnt to hold itself between the camera and the object, so that it only *seemed* to grasp it (OpenAI, *Learning from human preferences*, 2017, on Christiano et al. 2017).
- A pleasing answer can be a wrong one, and somebody pays. Air Canada's website bot promised a bereavement refund that did not exist; a tribunal held the airline liable for negligent misrepresentation and rejected its defence that the bot answers for itself (*Moffatt v. Air Canada*, 2024 BCCRT 149). (What that bot had been trained on is not public: the case shows what a wrong answer costs, not how it came about.)

"When a measure becomes a target, it ceases to be a good measure" is Strathern's (1997) wording of Goodhart's law. What helped in your measurements: to stay near the reference, and, for the best of $n$, more comparisons. What is done besides: to ask judges again about what the *new* policy writes (try it: number 4 below), and to keep some judgement out of the loop to see the turn.

## Real comparisons

How far does the simplest reward model get on real preferences: no transformer, a score that adds up a weight for each word (the Bradley–Terry loss on counts)? And how much of that is length? Two sets: 1,100 answers to instructions beside a rewriting by a language model, more polite or less, of which the politer one counts as preferred (Raschka 2024, chapter 7), and 2,312 dialogues of Anthropic's harmlessness data, chosen by crowd workers (Bai et al. 2022). The latter are offensive by design, since workers were asked to provoke the assistant: we read them, print none of them, and look at figures alone. (Optional: `course data fetch llms_from_scratch hh_rlhf`.)
"""

# %% tags=["experiment", "nbval-ignore-output"]
def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[a-z']+|[?!]", text.lower())


def linear_rewards(pairs: Sequence[tuple[str, str]]) -> tuple[float, float, dict[str, float]]:
    """Learn a weight for each word; return the accuracy on held-out pairs, that of the longer reply, and the weights of one fold."""
    folds, texts = run.pick(smoke=2, standard=3, full=10), [[words_of(text) for text in pair] for pair in pairs]
    order = torch.randperm(len(pairs), generator=run.generator(20)).tolist()
    right = []
    for fold in range(folds):
        held = set(order[fold::folds])
        counted = Counter(word for i, pair in enumerate(texts) if i not in held for text in pair for word in set(text))
        number = {word: k for k, (word, count_) in enumerate(counted.most_common(1500)) if count_ > 2}
        difference = torch.zeros(len(pairs), len(number))  # counts in the chosen minus counts in the rejected
        for i, pair in enumerate(texts):
            for sign, text in zip((1.0, -1.0), pair):
                for word in text:
                    if word in number:
                        difference[i, number[word]] += sign
        difference = difference.sign() * difference.abs().log1p()  # (pairs, words)
        train = difference[[i for i in range(len(pairs)) if i not in held]]
        weights = torch.zeros(len(number), requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=15, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()  # noqa: B023
            worth = train @ weights  # noqa: B023
            value = reward_loss(worth, torch.zeros_like(worth)) + 0.01 * weights.square().sum()  # noqa: B023
            value.backward()
            return value

        optimizer.step(loss)
        scores = difference[sorted(held)] @ weights.detach()
        right += ((scores > 0).float() + 0.5 * (scores == 0)).tolist()
    length = [len(a) - len(b) for a, b in texts]
    by_length = mean([1.0 if each > 0 else 0.5 if each == 0 else 0.0 for each in length])
    return mean(right), by_length, dict(zip(number, weights.tolist()))


MOST = run.pick(smoke=200, standard=5000, full=5000)
polite, harmless = registry.load_or_none("llms_from_scratch"), registry.load_or_none("hh_rlhf")
if polite is not None:
    exact, by_length, weights = linear_rewards([(each.chosen, each.rejected) for each in polite.preferences[:MOST]])
    print(f"instructions: words {exact:.2f}, the longer reply {by_length:.2f}")
    print("  most liked:", ", ".join(sorted(weights, key=lambda word: weights[word], reverse=True)[:8]))
if harmless is not None:
    exact, by_length, _ = linear_rewards([(each.chosen[-1].text, each.rejected[-1].text) for each in harmless["test"][:MOST]])
    print(f"harmlessness: words {exact:.2f}, the longer reply {by_length:.2f} (0.5 is chance)")

# %% [markdown]
r"""
For comparison: InstructGPT's reward models predicted the choices of contractors whom they had not been trained on in 69.6 ± 0.9 % of comparisons (Ouyang et al. 2022, section 4.1), and people agree with each other hardly more often, as you saw. With the two sets and seed 0 we measured 0.61 for a weight for each word where judges weighed what is harmful (0.44 for the longer reply): far from that. Where the preference *is* a matter of a few polite words it was 0.89 (0.52), *indeed* and *kindly* among the most liked: counting is nearly enough.
"""

# %% [markdown]
r"""
## Recap

- Comparisons are turned into scores by logistic regression on differences. Noise averages out; bias is learnt.
- The best of $n$ needs no training, costs $n$ answers, and goes at most $\log n - (n-1)/n$ nats.
- The reward minus $\beta$ times KL is largest at $\pi^* \propto \pi_{ref}\, e^{r/\beta}$. REINFORCE and PPO reach it, where it can be checked; without the price, or with a bonus for entropy, they reach something else.
- PPO: a price for each token, advantages from a critic, a clipped ratio, clipped values, whitening, and a price that adapts.
- What is optimised is the model of the judge. The true reward rises with it at first, and turns down later; for PPO with many comparisons, within two nats here. The higher price held it above its start in every seed; more comparisons did not, nor did an honest judge.

**If you want more.** (1) Let the judge like politeness in place of length, `Annotator(noise=0.5, politeness_bias=1.0)`: what do the answers of the live walk become? (2) In the world of 341 replies, set `BETA` to 0.1: how does $\pi^*$ change? Does PPO still arrive, with 200 steps, with 400? (A reply that is no longer drawn cannot be learnt.) (3) Let `Learner` use a target of 3 nats with `AdaptiveBeta(0.02, 3.0)`: where does the walk stop? (4) Judge again: label answers of the *hacked* policy by an honest annotator, add them to the pairs, and train anew. (5) Take our precautions away: set `WARM_UP` to 0, let `scored_by` return the plain scores, and run `walk(proxy, AdaptiveBeta(0.02), 8, 3, run.seed, size=64, rate=4e-4)`. Does the true reward still rise before it falls? Look at more than one seed.

## Glossary

| word | meaning |
|---|---|
| policy, reference | the model that answers and learns; the one it began as |
| gold, proxy | the true reward; the learnt one that stands for it |
| reward model | a network that scores a prompt and its reply |
| KL | the mean of $\log \pi / \pi_{ref}$ over the policy's replies, in nats |
| price, $\beta$ | how much score a nat of KL costs |
| baseline, advantage | what is subtracted from a reward; how much better than expected a choice was |
| critic, value head | what says how much is still to come |
| GAE | advantages as a fading sum of surprises |
| ratio, clip | how much more probable a token is than when it was drawn; where its gain is cut off |
| return | what was still to come: advantage plus value |
| total variation | the most by which two policies disagree about anything |
| over-optimisation, reward hacking | the proxy rises and gold falls |

## Sources

- P. Christiano et al. (2017), *Deep Reinforcement Learning from Human Preferences*, NeurIPS; with OpenAI's post *Learning from human preferences* (2017).
- D. Ziegler et al. (2019), *Fine-Tuning Language Models from Human Preferences*, section 2: the KL reward, the adaptive price.
- N. Stiennon et al. (2020), *Learning to summarize from human feedback*, NeurIPS, section 3.4.
- L. Ouyang et al. (2022), *Training language models to follow instructions with human feedback*, NeurIPS, sections 3.4, 4.1, 5.2.
- Y. Bai et al. (2022), *Training a Helpful and Harmless Assistant with Reinforcement Learning from Human Feedback*, section 2.
- L. Gao, J. Schulman, J. Hilton (2023), *Scaling Laws for Reward Model Overoptimization*, ICML: the curves of this lesson, with a large model as gold.
- R. Nakano et al. (2021), *WebGPT*, appendix I: best-of-n without bias; A. Beirami et al. (2024), *Theoretical guarantees on the best-of-n alignment policy*.
- R. Bradley, M. Terry (1952), *Rank analysis of incomplete block designs*, Biometrika.
- R. Williams (1992), *Simple statistical gradient-following algorithms for connectionist reinforcement learning*, Machine Learning.
- J. Schulman et al. (2016), *High-Dimensional Continuous Control Using Generalized Advantage Estimation*, ICLR; (2017), *Proximal Policy Optimization Algorithms*, equation 7.
- T. Korbak et al. (2022), *RL with KL penalties is better viewed as Bayesian inference*, EMNLP Findings.
- M. Sharma et al. (2023), *Towards Understanding Sycophancy in Language Models*; P. Singhal et al. (2023), *A Long Way to Go: Investigating Length Correlations in RLHF*.
- B. Perrigo (2023), *OpenAI Used Kenyan Workers on Less Than \$2 Per Hour to Make ChatGPT Less Toxic*, TIME, 18 January; M. Gray, S. Suri (2019), *Ghost Work*.
- OpenAI (2025), *Expanding on what we missed with sycophancy*, 2 May; *Moffatt v. Air Canada* (2024), BCCRT 149; M. Strathern (1997), *Improving ratings*, European Review.
- S. Raschka (2024), *Build a Large Language Model (From Scratch)*, chapter 7.
"""
