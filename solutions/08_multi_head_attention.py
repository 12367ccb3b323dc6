# %% [markdown]
r"""
# 08 · Multi-head attention

**Several lenses at once.**

In lesson 07 each word asked one question. Here it asks several at the same time. You will see a task that one question cannot solve, with a proof, and
build the layer that every transformer since 2017 consists of. At the end you will

- know what one attention head cannot do, why, and how far short it falls, to the decimal;
- run any number of heads without a loop, as one reshape, at no extra cost;
- have a `MultiHeadAttention` that agrees with PyTorch's, masks and gradients included, and whose heads may share their keys and values (grouped-query and multi-query attention);
- keep what was read in a cache, get the same numbers for a fraction of the work, and say how many bytes that takes.

You need lesson 07: `attention`, its masks (True = may attend), and queries, keys and values. About two hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float  # noqa: F401
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib import figures
from course_lib.data import registry, text
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.attention import attention, causal_mask, padding_mask
from course_lib.runtime import median_time, progress, start
from course_lib.widgets.heads_view import HeadsAsked, HeadsView

run = start(lesson=8, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=8)

# %% [markdown]
r"""
## The question

Six people of Riverbank have been shopping. A basket holds 16 kinds of goods, so it is a vector of 16 numbers (each kind measured against its usual amount: positive is more, negative is less). Then someone asks about two of them:

> anna's basket, ben's basket, … · **how does anna's differ from ben's?**

The answer is the difference of two baskets, 16 numbers. Which people are there, who is asked about, and every number is drawn afresh for each line. There are 24 people in all.

The model is lesson 07's attention, and nothing else. The question makes one query out of its two people; each basket can be found by its owner (the key) and says its contents (the value). To keep what follows provable, keys are made of owners only, values of contents only, and no layer has a bias.
"""

# %%
PEOPLE, SHOPPERS, GOODS, WIDTH = 24, 6, 16, 32


def draw_lines(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return owners (size, 6), their baskets (size, 6, 16), and the two asked about: who and where (size, 2)."""
    owners = torch.rand(size, PEOPLE, generator=generator).argsort(dim=1)[:, :SHOPPERS]  # (size, 6), no one twice
    baskets = torch.randn(size, SHOPPERS, GOODS, generator=generator)  # (size, 6, 16)
    place = torch.rand(size, SHOPPERS, generator=generator).argsort(dim=1)[:, :2]  # (size, 2), not the same twice
    return tuple(each.to(run.device) for each in (owners, baskets, owners.gather(1, place), place))


class Comparer(nn.Module):
    """Answer a question about two people; `attend(q, k, v)` gives outputs and weights."""

    def __init__(self, attend: Callable[..., tuple[Tensor, Tensor]] = attention) -> None:
        super().__init__()
        self.attend = attend
        self.first, self.second, self.owner = (nn.Embedding(PEOPLE, WIDTH) for _ in range(3))
        self.to_q, self.to_k = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.to_v, self.to_out = nn.Linear(GOODS, WIDTH, bias=False), nn.Linear(WIDTH, GOODS, bias=False)

    def forward(self, owners: Tensor, baskets: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        q = self.to_q(self.first(asked[:, :1]) + self.second(asked[:, 1:]))  # (B, 1, 32)
        k = self.to_k(self.owner(owners))  # (B, 6, 32)
        v = self.to_v(baskets)  # (B, 6, 32)
        said, weights = self.attend(q, k, v)  # (B, 1, 32)
        return self.to_out(said)[:, 0], weights  # (B, 16)


# %%
def two_baskets(baskets: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return the baskets of the first and of the second person asked about, (B, 16) each."""
    return baskets.gather(1, place[:, :, None].expand(-1, -1, GOODS)).unbind(1)


def explained(answer: Tensor, right: Tensor) -> float:
    """Return 1 − squared error / squared size of the right answer: 1 is perfect, always answering 0 gets 0."""
    return (1 - (answer - right).square().sum() / right.square().sum()).item()


def train_comparer(model: Comparer, combine: Callable[[Tensor, Tensor], Tensor], name: str) -> float:
    """Train a model to answer combine(x, y); return the share that it explains on new lines."""
    steps = run.pick(smoke=8, standard=200, full=5000)
    generator = run.generator(1)
    optimizer = torch.optim.Adam(model.to(run.device).parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=steps)
    for _ in progress(range(steps), desc=name):
        owners, baskets, asked, place = draw_lines(128, generator)
        loss = F.mse_loss(model(owners, baskets, asked)[0], combine(*two_baskets(baskets, place)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    owners, baskets, asked, place = draw_lines(4000, generator)
    with torch.no_grad():
        return explained(model(owners, baskets, asked)[0], combine(*two_baskets(baskets, place)))


# %% [markdown]
"""
Three questions of growing difficulty, one model each: the first person's basket; both together; the difference.
"""

# %%
predict(
    "difference",
    "One attention head answers three kinds of question about two baskets x and y. Which will it learn?",
    ["All three", "x and x + y, but not x − y", "Only x", "x and x − y, but not x + y"],
    answer=1,
    because="Weights are positive. They can choose x, or mix x and y; but whatever matrix comes after the mixing treats both baskets alike.",
)

# %% tags=["experiment"]
questions = {"x": lambda x, y: x, "x + y": lambda x, y: x + y, "x − y": lambda x, y: x - y}
one_head = {}
for name, combine in questions.items():
    torch.manual_seed(run.seed)
    one_head[name] = train_comparer(Comparer(), combine, name)
    print(f"one head, asked for {name:<6} explains {one_head[name]:.3f}")

# %% tags=["claim"]
claim(
    "one head explains no more than half of the difference of two baskets",
    measured=one_head["x − y"],
    at_most=0.52,
    breaks_when={"asked for their sum": one_head["x + y"], "asked for the first alone": one_head["x"]},
)

# %% [markdown]
r"""
The number is suspiciously close to one half. It is not for want of training: more it *cannot* be, and two short proofs say why.

## Why one head cannot

Let $x_j$ be basket $j$ as a row of $G$ numbers (here $G = 16$), and $a_j$ its weight. The value of basket $j$ is $x_j W_V$, the head says $\sum_j a_j x_j W_V$, and the output projection $W_O$ makes the answer

$$\Big(\sum_j a_j x_j\Big) M , \qquad M = W_V W_O \ \ (G \times G), \qquad a_j \ge 0 , \quad \sum_j a_j = 1 .$$

Everything a head can do is in this line: a *weighted average* of contents, with weights that are never negative, and one matrix $M$ for all. Call the two baskets asked about $x$ and $y$, their weights $\alpha$ and $\beta$, and let the others be empty (all zeros). The answer is $(\alpha x + \beta y) M$.

**It cannot be right.** Suppose it were $x - y$ for all $x$ and $y$. The weights may even depend on the contents. Take any $u \ne 0$.

1. Let $x = u$ and $y = 0$. Then $\alpha\, u M = u$, so $\alpha > 0$ and $uM = \frac{1}{\alpha} u$: a *positive* multiple of $u$.
2. Let $x = 0$ and $y = u$. Then $\beta'\, u M = -u$ with some $\beta' > 0$, so $uM = -\frac{1}{\beta'} u$: a *negative* multiple of $u$.

The same $uM$ cannot be both. ∎

**It cannot be more than half right.** Let all numbers in the baskets be independent, with mean 0 and variance 1, and let the weights depend on who is asked about and who is there, not on the contents (as in our model): for given people $\alpha$ and $\beta$ are fixed numbers. The expected squared error of the answer is

$$\mathbb{E}\,\big\|(\alpha x + \beta y)M - (x - y)\big\|^2 = \mathbb{E}\,\|x(\alpha M - I)\|^2 + \mathbb{E}\,\|y(\beta M + I)\|^2 = \|\alpha M - I\|^2 + \|\beta M + I\|^2 ,$$

where $I$ is the identity and $\|\cdot\|$ of a matrix is the root of the sum of its squared entries. (The mixed term vanishes because $x$ and $y$ are independent with mean 0. In $\mathbb{E}\,\|xA\|^2$ only the squares survive for the same reason, each with $\mathbb{E}\,x_i^2 = 1$, so it is $\|A\|^2$. Weight on other baskets only adds error.) Write $\operatorname{tr} M$ for the sum of the diagonal of $M$ and expand:

$$\|\alpha M - I\|^2 = \alpha^2 \|M\|^2 - 2\alpha \operatorname{tr} M + G , \qquad \|\beta M + I\|^2 = \beta^2 \|M\|^2 + 2\beta \operatorname{tr} M + G .$$

If $\operatorname{tr} M \ge 0$ the second is at least $G$; if $\operatorname{tr} M < 0$ the first is. So the error is at least $G$, while the right answer itself has the squared size $\mathbb{E}\|x - y\|^2 = 2G$. At best half is explained. ∎ (Equality: $\alpha = 1$, $\beta = 0$, $M = I$. The best answer is to name one basket and be silent about the other.)

**Two heads can.** Let head 1 put its weight on $x$ with $M_1 = I$, head 2 on $y$ with $M_2 = -I$, and add what they say: $x - y$. Two averages, *each with a matrix of its own*, is all that was missing.

## Two heads, then many

A **head** is an attention with its own projections. To keep the cost, cut the width: $h$ heads of width $d_{head} = d / h$ each, instead of one of width $d$. Cut $W_Q$, $W_K$ and $W_V$ into $h$ blocks of $d_{head}$ columns; head $i$ has the $i$-th of each, and says, for vectors $X$ (one a row),

$$s_i = \operatorname{attention}\big(X W_Q^{(i)},\; X W_K^{(i)},\; X W_V^{(i)}\big) , \qquad \text{the output is} \quad [\,s_1 \; s_2 \; \cdots \; s_h\,]\, W_O .$$

The scores are now divided by $\sqrt{d_{head}}$. And since $X\,[\,W_Q^{(1)} \cdots W_Q^{(h)}] = [\,X W_Q^{(1)} \cdots X W_Q^{(h)}]$, one product with the whole of $W_Q$ makes the queries of all heads, side by side: a head only has to take its slice. By the book it is a loop:
"""

# %% tags=["nbval-check-output"]
def heads_by_loop(q: Tensor, k: Tensor, v: Tensor, n_heads: int) -> Tensor:
    """Run one attention after the other, each on its own share of the width."""
    said = []
    for q_i, k_i, v_i in zip(*(each.chunk(n_heads, dim=-1) for each in (q, k, v))):
        said.append(attention(q_i, k_i, v_i)[0])  # (B, n_q, d_head)
    return torch.cat(said, dim=-1)  # (B, n_q, d)


generator = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(2, 5, 12, dtype=torch.float64, generator=generator) for _ in range(3))  # (B, n, d)
print(tuple(heads_by_loop(q, k, v, 3).shape))

# %% [markdown]
r"""
The heads know nothing of each other, so they need not wait for each other. Lesson 07's `attention` takes any number of batch axes; so let the *heads be a batch axis*. Cut the last axis in two, $d = h \cdot d_{head}$, and swap positions with heads, so that each head has a sequence of its own:

$$(B,\, n,\, d) \;\xrightarrow{\text{cut}}\; (B,\, n,\, h,\, d_{head}) \;\xrightarrow{\text{swap}}\; (B,\, h,\, n,\, d_{head}) .$$

After the attention the same steps lead back. No number is changed, and the way there copies nothing. Beware of the tempting shortcut, one reshape from $(B, n, d)$ to $(B, h, n, d_{head})$: the shape is right and the numbers are not.
"""

# %% tags=["nbval-check-output"]
line = torch.tensor([[11, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]])  # (n, d): 3 positions, width 4; tens = position
print("head 0 should get the first half of each position:\n", line[:, :2])
print("head 0 of line.reshape(2, 3, 2) gets position 1 and half of position 2:\n", line.reshape(2, 3, 2)[0])

# %% [markdown]
"""
### Exercise: `split_heads` and `merge_heads`

*Difficulty ●●○○○ · about 12 minutes · 2 points*

Write both. `split_heads(x, n_heads)`: `x` (…, n, width) becomes (…, h, n, width / h), where … stands for any number of batch axes; head 0 gets the first width / h numbers of each vector, head 1 the next, and so on.
`merge_heads(x)`: (…, h, n, d_head) becomes (…, n, h · d_head), its inverse. The memory may lie in any order. `hint("split_heads")` helps.
"""

# %% tags=["exercise"] exercise="split_heads"
from course_lib.models.multi_head import split_heads  # course: write out


from course_lib.models.multi_head import merge_heads  # course: write out

# %% tags=["check"] exercise="split_heads"
split_heads, merge_heads = check("split_heads")


# %% tags=["claim"]
def heads_at_once(q: Tensor, k: Tensor, v: Tensor, n_heads: int) -> tuple[Tensor, Tensor]:
    """Run all heads in one attention; return what they say, side by side, and the weights of each."""
    said, weights = attention(*(split_heads(each, n_heads) for each in (q, k, v)))  # (B, h, n_q, d_head), (B, h, n_q, n_k)
    return merge_heads(said), weights  # (B, n_q, d), (B, h, n_q, n_k)


by_loop = heads_by_loop(q, k, v, 3)
shortcut = attention(*(each.reshape(2, 3, 5, 4) for each in (q, k, v)))[0].reshape(2, 5, 12)
claim(
    "heads as a reshape give the same numbers as a loop over heads",
    measured=(heads_at_once(q, k, v, 3)[0] - by_loop).abs().max().item(),
    at_most=1e-12,
    breaks_when={"one reshape without the swap": (shortcut - by_loop).abs().max().item()},
)

# %% [markdown]
r"""
## Back to the question

The same baskets, the same width of 32, the same number of parameters and steps, cut into 2, 4 and 8 heads. That two heads *can* solve the task does not mean that training always finds how: if at the start both lean towards the same person, they may stay there, and are then no better than one. So each number of heads is trained from several starts. (No start helps the single head: its bound is proved.)
"""

# %% tags=["experiment"]
def train_heads(n_heads: int, begin: int) -> tuple[float, Comparer]:
    """Train one model with this many heads from the given start; return the share it explains, and the model."""
    torch.manual_seed(100 * run.seed + begin)
    model = Comparer(lambda q, k, v: heads_at_once(q, k, v, n_heads))
    return train_comparer(model, questions["x − y"], f"{n_heads} heads"), model


STARTS = run.pick(smoke=2, standard=4, full=8)
trained_heads = {h: [train_heads(h, begin) for begin in range(STARTS)] for h in (2, 4, 8)}
share = {1: [one_head["x − y"]]} | {h: [each for each, _ in runs] for h, runs in trained_heads.items()}
print("share explained, one start after the other:")
for h, each in share.items():
    print(f"h = {h}: ", "  ".join(f"{value:.3f}" for value in each))
print("parameters:", {sum(p.numel() for p in model.parameters()) for runs in trained_heads.values() for _, model in runs})

# %%
fig, ax = plt.subplots(figsize=(7, 3))
for i, each in enumerate(share.values()):
    at = [i + 0.8 / STARTS * (j - (len(each) - 1) / 2) for j in range(len(each))]
    ax.bar(at, each, width=0.7 / STARTS, color=figures.PALETTE["blue"])
    for place, value in zip(at, each):
        ax.text(place, value + 0.02, f"{value:.2f}", ha="center", fontsize=8)
ax.axhline(0.5, color=figures.PALETTE["vermillion"], linestyle="--", marker="", label="proved: one head cannot pass this")
ax.set_xticks(range(len(share)), share)
ax.set(xlabel="heads (width 32 in all)", ylabel="share of the difference", ylim=(0, 1.35))
ax.legend(loc="upper left", fontsize=8)
figures.show(
    fig,
    caption="The same width and the same parameters, cut differently; each bar is one start. One head reaches its bound of one half and stays there. More heads can solve the task, and from some starts do; from others they stop short.",
    alt="A bar chart of the share explained by 1, 2, 4 and 8 heads, one bar for each start, with a dashed line at one half that the first bar just reaches; most of the others reach one, and some stop lower.",
)

# %% tags=["claim"]
claim(
    "two heads of half the width can explain nearly all of the difference",
    measured=max(share[2]),
    at_least=0.97,
    breaks_when={"one head of the whole width": share[1][0]},
)

# %% [markdown]
r"""
Why do some starts stop short? Look at whom the heads ask.

## Do heads specialise?

Nobody told the heads who should ask for whom. How much weight does each put on the first person of the question, on the second, and on the four others?
"""

# %% tags=["experiment"]
def weight_on(model: Comparer) -> Tensor:
    """Return for each head its mean weight on the first person, the second, and the others together, (h, 3)."""
    owners, baskets, asked, place = draw_lines(2000, run.generator(2))
    with torch.no_grad():
        weights = model.to(run.device)(owners, baskets, asked)[1][:, :, 0]  # (B, h, 6)
    on_two = weights.gather(2, place[:, None].expand(-1, weights.shape[1], -1))  # (B, h, 2)
    return torch.cat([on_two, 1 - on_two.sum(-1, keepdim=True)], dim=-1).mean(0).cpu()  # (h, 3)


def division(table: Tensor) -> float:
    """Return how well two heads share the work: the smaller weight of either on 'its' person, at the better assignment."""
    return max(min(table[0, 0], table[1, 1]), min(table[0, 1], table[1, 0])).item()


torch.manual_seed(run.seed)
untrained = weight_on(Comparer(lambda q, k, v: heads_at_once(q, k, v, 2)))
by_start = {h: sorted(runs, key=lambda each: each[0]) for h, runs in trained_heads.items()}  # worst start first
two_heads = by_start[2][-1][1]
trained = weight_on(two_heads)
asked_for = {"2 heads,\nuntrained": untrained, "2 heads,\nbest start": trained}
asked_for |= {f"{h} heads, worst start": weight_on(by_start[h][0][1]) for h in (4, 8)}
fig, axes = plt.subplots(1, 4, figsize=(11, 2.7), width_ratios=(2, 2, 4, 8))
for ax, (title, table) in zip(axes, asked_for.items()):
    columns = [str(i + 1) for i in range(len(table))]
    rows = ["first", "second", "others"] if ax is axes[0] else []
    figures.heatmap(ax, table.T, columns=columns, xlabel="head", limits=(0, 1), numbers=".2f")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_title(title, fontsize=9)
figures.show(
    fig,
    caption="Mean weight of each head on the two people of the question and on all others. Before training two heads do nothing in particular; after it, each has a person of its own. More heads, from the start that explains least: each decides for one person, too, but more of them for the one than for the other.",
    alt="Four tables of attention weights: untrained heads spread theirs evenly; of two trained heads one asks the first person and one the second; four and eight trained heads are divided between the two, not equally.",
)

# %% tags=["claim"]
claim(
    "the two heads divide the work: each puts its weight on a person of its own",
    measured=division(trained),
    at_least=0.9,
    breaks_when={"before training": division(untrained)},
)

# %% [markdown]
r"""
Every head has made up its mind, and how they are divided explains the bars. A head of width $d_{head}$ says $d_{head}$ numbers, and a basket has 16. If $m$ of the $h$ heads ask for the first person and $h - m$ for the second, then at most

$$\frac{\min(16,\, m\, d_{head}) + \min(16,\, (h - m)\, d_{head})}{32}$$

of the difference can get through: all of it for a fair division, $\frac{8 + 16}{32} = 0.75$ for one of four heads against three. Count the heads of every model, and compare with what was measured:
"""

# %% tags=["claim"]
def by_counting(table: Tensor) -> float:
    """Return the share that can get through, from the weights of each head on the first, the second and the others."""
    first = int((table.argmax(dim=1) == 0).sum())
    return sum(min(GOODS, m * WIDTH // len(table)) for m in (first, len(table) - first)) / (2 * GOODS)


counted = {h: [by_counting(weight_on(model)) for _, model in runs] for h, runs in trained_heads.items()}
for h, each in counted.items():
    print(f"h = {h}, counted: ", "  ".join(f"{value:.3f}" for value in each))
pairs = [(h, value, found) for h in counted for value, found in zip(counted[h], share[h])]
claim(
    "counting who asks for whom predicts what each model of two, four and eight heads explains (the largest deviation)",
    measured=max(abs(value - found) for _, value, found in pairs),
    at_most=0.05,
    breaks_when={"counting one head for each person": max(abs(2 / h - found) for h, _, found in pairs)},
)

# %% [markdown]
r"""
Nobody deals the work out: training ends in a fair division from some starts and in an unfair one from others. **The number of heads is a trade**: more questions at a time, each answered in fewer numbers. In the original transformer (width 512, English to German, on the development set) 1, 4, 8, 16 and 32 heads gave a BLEU (lesson 06's score of translations; more is better) of 24.9, 25.5, 25.8, 25.8 and 25.4 (Vaswani et al. 2017, table 3, rows A and base).

Weights show who is *asked*; to see what a head *contributes*, take it away. Cut $W_O$ into $h$ blocks of $d_{head}$ rows, $W_O^{(1)}, \dots, W_O^{(h)}$. Then

$$[\,s_1 \; s_2 \; \cdots \; s_h\,]\, W_O = s_1 W_O^{(1)} + s_2 W_O^{(2)} + \dots + s_h W_O^{(h)} .$$

*The heads' contributions are simply added.* Setting $s_i$ to zero removes head $i$ and leaves the rest as it was. Without the head that asks for the first person, the answer should be $-y$, exactly the other half:
"""

# %% tags=["claim"]
def without_head(model: Comparer, head: int) -> Comparer:
    """Return the model with one of its two heads silent."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        said, weights = heads_at_once(q, k, v, 2)
        kept = torch.arange(WIDTH, device=said.device) // (WIDTH // 2) != head  # (32,)
        return said * kept, weights

    silenced = Comparer(attend).to(run.device)
    silenced.load_state_dict(model.state_dict())
    return silenced


owners, baskets, asked, place = draw_lines(2000, run.generator(3))
x, y = two_baskets(baskets, place)  # (B, 16) each
asks_first = int(trained[1, 0] > trained[0, 0])  # which of the two heads
with torch.no_grad():
    rest, whole = (model(owners, baskets, asked)[0] for model in (without_head(two_heads, asks_first), two_heads))
print(f"without the head that asks for x, the answer explains {explained(rest, -y):.3f} of −y and {explained(rest, x - y):.3f} of x − y")
claim(
    "take away the head that asks for x, and what remains is −y",
    measured=explained(rest, -y),
    at_least=0.9,
    breaks_when={"with both heads": explained(whole, -y)},
)

# %% [markdown]
r"""
## What heads cost: nothing

Count parameters and multiplications for a sentence of $n$ positions, width $d$ and $h$ heads of width $d/h$. Four projections of $d \times d$: $4d^2$ parameters, $4nd^2$ multiplications. Scores: $h$ matrices of $n \times n$ dot products of length $d/h$, so $h \cdot n^2 \cdot d/h = n^2 d$; the same for the averages. The number of heads cancels everywhere but in the softmax, which has $hn^2$ entries (and so has the memory for the weights). Let PyTorch count:
"""

# %% tags=["nbval-check-output"]
def count_multiplications(call: Callable[[], object]) -> int:
    """Return how many multiplications the matrix products of a call take."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2  # PyTorch counts a multiplication and an addition as two


x = torch.randn(1, 50, 64)  # (B, n, d)
print("n²d, twice:", 2 * 50**2 * 64)
for n_heads in (1, 2, 8, 64):
    print(f"h = {n_heads:>2}:       ", count_multiplications(lambda: heads_at_once(x, x, x, n_heads)))  # noqa: B023

# %% [markdown]
r"""
## The layer

Now the whole layer, the one that the lessons to come are built on. It has everything of lesson 07, and four additions.

**Projections.** $Q = XW_Q$, $K = CW_K$, $V = CW_V$, and at the end the output projection $W_O$. Here $C$ is the **context**: $X$ itself in self-attention, another sequence in cross-attention.

**The mask has no axis for heads.** A mask is (n_q, n_k) or (B, n_q, n_k), and the scores are (B, h, n_q, n_k). Broadcasting lines shapes up *from the right*, so a mask for a batch would meet the heads with its batch axis. If there happen to be as many heads as sentences nothing warns you. The mask needs an axis of size 1 in the heads' place.

**Shared keys and values.** The heads need different *questions*; must they also have different keys and values? In **multi-query attention** (MQA, Shazeer 2019) all heads share one set of keys and values. In **grouped-query attention** (GQA, Ainslie et al. 2023) $h$ query heads share $g$ key heads, $h/g$ neighbours each: query heads $0, \dots, h/g - 1$ have key head 0, and so on. $g = h$ is what we had. Why one would want this, the section on the cache will show.
"""

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 2.3))
asking = [f"q{i}" for i in range(6)]  # the query heads
for ax, g, title in zip(axes, (6, 2, 1), ("Multi-head: g = h = 6", "Grouped-query: g = 2", "Multi-query: g = 1")):
    served = torch.eye(g).repeat_interleave(6 // g, dim=0)  # (h, g)
    figures.wiring(ax, served, asking, [f"k{i}" for i in range(g)], title)
figures.show(
    fig,
    caption="Which key head serves which query head (values go with their keys). The heads keep their own queries; what is shared is what they look at.",
    alt="Three wirings of six query heads with six, two and one key heads; in the second, neighbours share.",
)

# %% [markdown]
r"""
**Three places to plug in.** `cache` keeps keys and values of earlier calls: where it is given, `cache.update(k, v)` takes the new ones and returns all so far (what for, and how, comes below; here it is one line). `rotate` and `attend` are for later: lesson 09 turns queries and keys by their position before they meet, and replaces `attention` by one that adds a bias to the scores. The lines for `rotate` are given.

### Exercise: `MultiHeadAttention`

*Difficulty ●●●●○ · about 25 minutes · 5 points*

Complete `forward` in two places. First: queries (batch, h, n_q, d_head) from `x`; keys and values (batch, g, n, d_head) from `context`, or from `x` where it is None. Then: hand keys and values to the `cache`, if there is one, and go on with what it returns; only then give each query head its keys and values (`repeat_interleave` along the axis of heads), so that the cache stays small. Give the mask its axis for heads, call `self.attend(q, k, v, mask)`, merge the heads and project.

Return the outputs (batch, n_q, d_model) and the weights of each head (batch, h, n_q, n_k). No loop over heads. `split_heads` and `merge_heads` are yours.
"""

# %% tags=["exercise"] exercise="MultiHeadAttention"
from course_lib.models.multi_head import MultiHeadAttention  # course: write out

# %% tags=["check"] exercise="MultiHeadAttention"
MultiHeadAttention = check("MultiHeadAttention")

# %% [markdown]
r"""
`each.repeat_interleave(…)` copies keys and values for the moment of the product. A fast kernel reads the shared ones in place; the numbers are the same.

### Against PyTorch's own

`nn.MultiheadAttention` is the same layer with two differences. It keeps the three input projections as one matrix, one below the other; and **its masks say the opposite**: True = hidden. So copy the weights, turn the masks over, and compare outputs, the weights of each head, and the gradient.
"""

# %%
from course_lib.models.multi_head import copy_to_torch, copy_from_torch

ours = MultiHeadAttention(12, 3, bias=True).double()
theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
copy_to_torch(ours, theirs)
generator = run.generator(4)
x = torch.randn(2, 5, 12, dtype=torch.float64, generator=generator).requires_grad_()  # (B, n_q, d)
context = torch.randn(2, 7, 12, dtype=torch.float64, generator=generator)  # (B, n_k, d)
real = padding_mask(torch.tensor([4, 6]), 7)  # (B, 1, n_k), True = may attend


def difference(theirs_hidden: Tensor, source: Tensor, mask: Tensor, attn_mask: Tensor | None = None) -> float:
    """Return the largest difference to PyTorch's layer in outputs, weights and the gradient of x."""
    output, weights = ours(x, source, mask)
    other, other_weights = theirs(
        x, source, source, key_padding_mask=theirs_hidden, attn_mask=attn_mask, average_attn_weights=False
    )
    (gradient,), (other_gradient,) = (torch.autograd.grad(each.square().sum(), x) for each in (output, other))
    pairs = ((output, other), (weights, other_weights), (gradient, other_gradient))
    return max((one - two).abs().max().item() for one, two in pairs)


# %% tags=["claim"]
claim(
    "with weights copied and masks turned over, our layer equals nn.MultiheadAttention (cross-attention with padding)",
    measured=difference(~real[:, 0], context, real),
    at_most=1e-12,
    breaks_when={"with the mask as it is": difference(real[:, 0], context, real)},
)
short = padding_mask(torch.tensor([5, 3]), 5)  # (B, 1, n)
both = causal_mask(5) & short  # (B, n, n)
claim(
    "and in self-attention, causal and padded",
    measured=difference(~short[:, 0], x, both, ~causal_mask(5)),
    at_most=1e-12,
    breaks_when={"when ours forgets the causal mask": difference(~short[:, 0], x, short, ~causal_mask(5))},
)
nn.init.normal_(theirs.in_proj_weight)
apart = difference(~real[:, 0], context, real)
copy_from_torch(ours, theirs)
claim(
    "weights can be copied back as well",
    measured=difference(~real[:, 0], context, real),
    at_most=1e-12,
    breaks_when={"before they are copied": apart},
)

# %% [markdown]
r"""
For shared keys the reference is `F.scaled_dot_product_attention(..., enable_gqa=True)`. And with one key head the axis of heads disappears from keys and values altogether, so multi-query attention is two lines of `einsum`, as in Shazeer's paper:
"""

# %% tags=["claim"]
def by_sdpa(layer: MultiHeadAttention, x: Tensor, mask: Tensor, in_turns: bool = False) -> Tensor:
    """Return the layer's output as PyTorch's own attention computes it; or with key heads dealt out in turns."""
    q = split_heads(layer.to_q(x), layer.n_heads)  # (B, h, n, d_head)
    k, v = (split_heads(to(x), layer.n_kv_heads) for to in (layer.to_k, layer.to_v))  # (B, g, n, d_head)
    if in_turns:
        k, v = (each.repeat(1, layer.n_heads // layer.n_kv_heads, 1, 1) for each in (k, v))  # (B, h, n, d_head)
    said = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=not in_turns)  # (B, h, n, d_head)
    return layer.to_out(merge_heads(said))  # (B, n, d)


torch.manual_seed(run.seed)
grouped, single = (MultiHeadAttention(12, 6, g).double() for g in (2, 1))
mask = causal_mask(5)
with torch.no_grad():
    ours, in_turns = grouped(x, mask=mask)[0], by_sdpa(grouped, x, mask, in_turns=True)
    claim(
        "grouped-query attention equals PyTorch's enable_gqa",
        measured=(ours - by_sdpa(grouped, x, mask)).abs().max().item(),
        at_most=1e-12,
        breaks_when={"with key heads dealt out in turns": (ours - in_turns).abs().max().item()},
    )
    q = split_heads(single.to_q(x), 6)  # (B, h, n, d_head)
    scores = torch.einsum("bhqd,bkd->bhqk", q, single.to_k(x)) / math.sqrt(2)  # (B, h, n, n): the keys have no heads
    said = torch.einsum("bhqk,bkd->bhqd", scores.softmax(-1), single.to_v(x))  # (B, h, n, d_head)
    claim(
        "one key head is multi-query attention",
        measured=(single(x)[0] - single.to_out(merge_heads(said))).abs().max().item(),
        at_most=1e-12,
        breaks_when={"with two key heads": (grouped(x)[0] - single.to_out(merge_heads(said))).abs().max().item()},
    )

# %% [markdown]
r"""
## Not reading twice: the cache

A model that writes makes one token at a time: read all tokens so far, predict the next, append it, read *all of it again*. Look at what is computed anew for token $n$. Its query is new. But the keys and values of tokens $1, \dots, n - 1$ are projections of *those* tokens, and under a causal mask nothing that comes later changes them. (In a stack of layers too: the input of a layer at position $i$ depends on positions up to $i$ only.) And the old queries have been answered.

So keep keys and values, and per new token project one row and let one query attend:

| per new token, with $n$ tokens so far | projections | scores and averages |
|---|---|---|
| read everything again | $4nd^2$ | $2n^2d$ |
| with a cache | $4d^2$ | $2nd$ |

A factor of $n$ in each column. The price is memory for the **KV cache**: the keys and values of every position, in every layer.

The simplest cache concatenates: it makes new tensors at each step and copies all that was there. Better: make room for the longest text once, and write into it.

### Exercise: `KVCache.update`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

Complete `update(k, v)`. `k` and `v` (batch, g, n, d_head) are the keys and values of n new positions, n = 1 or more. Write them into `self.keys` and `self.values` behind the `self.length` positions that are there, move `self.length`, and return keys and values of all positions so far, (batch, g, length, d_head). If there is no room, raise `ValueError` and leave the cache as it was.
"""

# %% tags=["exercise"] exercise="KVCache.update"
from course_lib.models.multi_head import KVCache  # course: write out

# %% tags=["check"] exercise="KVCache.update"
KVCache = check("KVCache.update")

# %% [markdown]
r"""
Now read a text of 24 positions three ways: at once; one position at a time; and in chunks of 7, 7, 7 and 3. A chunk has fewer queries than there are keys, and its last query stands at the last key. That is why lesson 07 aligned the causal mask at the **bottom right**. With the triangle at the top left, as `is_causal=True` has it, the first query of each chunk sees the very first key and nothing else.
"""

# %% tags=["claim"]
torch.manual_seed(run.seed)
layer = MultiHeadAttention(24, 6, 2).double()
x = torch.randn(2, 24, 24, dtype=torch.float64, generator=run.generator(5))  # (B, n, d)


def read_in_chunks(sizes: list[int], aligned: str = "bottom right") -> Tensor:
    """Return the layer's outputs when x comes in chunks of these sizes, with a cache."""
    cache, outputs, end = KVCache.for_layer(layer, batch=2, max_len=24), [], 0
    for size in sizes:
        start, end = end, end + size
        mask = causal_mask(size, end)  # (size, end)
        if aligned == "top left":
            mask = torch.ones(size, end, dtype=torch.bool).tril()
        outputs.append(layer(x[:, start:end], mask=mask, cache=cache)[0])  # (B, size, d)
    return torch.cat(outputs, dim=1)  # (B, n, d)


with torch.no_grad():
    at_once, _ = layer(x, mask=causal_mask(24))  # (B, n, d)
    one_by_one = read_in_chunks([1] * 24)
    chunked, askew = read_in_chunks([7, 7, 7, 3]), read_in_chunks([7, 7, 7, 3], aligned="top left")
    forgetful = torch.cat([layer(x[:, i : i + 1])[0] for i in range(24)], dim=1)  # each position alone
claim(
    "token by token with a cache equals reading everything at once",
    measured=(one_by_one - at_once).abs().max().item(),
    at_most=1e-12,
    breaks_when={"token by token without a cache": (forgetful - at_once).abs().max().item()},
)
claim(
    "and so do chunks, with the causal mask aligned at the bottom right",
    measured=(chunked - at_once).abs().max().item(),
    at_most=1e-12,
    breaks_when={"aligned at the top left": (askew - at_once).abs().max().item()},
)

# %% [markdown]
"""
### How much faster?
"""

# %%
predict(
    "cache speed",
    "A layer of width 256 has read 63 tokens; the next one comes. By the table the cache needs 64 times fewer multiplications than reading all 64 again. And on the clock?",
    ["It is slower: all those small steps", "A few times faster", "About 64 times faster"],
    answer=1,
    because="At 64 tokens a good part of a call is its fixed price: to start a dozen operations takes about as long as their few multiplications. The longer the text, the less that weighs.",
)

# %% tags=["experiment"]
read_lengths = run.pick(smoke=[16, 64], standard=[64, 256, 1024], full=[256, 1024, 4096, 16384])
layer = MultiHeadAttention(256, 8).to(run.device)
times, counts = {"read everything again": [], "with a cache": []}, []
with torch.no_grad():
    for n in read_lengths:
        x = torch.randn(1, n, 256, device=run.device)  # (B, n, d)
        mask, cache = causal_mask(n, device=run.device), KVCache.for_layer(layer, 1, n)
        layer(x[:, :-1], cache=cache)  # n − 1 positions have been read

        def again():
            return layer(x, mask=mask)  # noqa: B023

        def cached():
            cache.length = n - 1  # noqa: B023 - forget the last position, to read it once more
            return layer(x[:, -1:], cache=cache)  # noqa: B023

        for name, call in zip(times, (again, cached)):
            times[name].append(1000 * median_time(call, repeats=run.pick(smoke=2, standard=5, full=20), device=run.device).median)
        counts.append((count_multiplications(again), count_multiplications(cached)))
for n, (all_again, one), *ms in zip(read_lengths, counts, *times.values()):
    print(f"token {n:>5}: {all_again:>13,} and {one:>9,} multiplications, {all_again / one:6.0f} times fewer; {ms[0] / ms[1]:5.1f} times less time")

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.2))
figures.lines(ax, read_lengths, times, xlabel="tokens so far, n", ylabel="time for the next token (ms)", title="One layer, width 256", log="xy")
figures.show(
    fig,
    caption="Time for one more token. Reading everything again grows with n and, once the n² scores weigh, faster; with a cache it hardly grows at all at these lengths.",
    alt="Two lines over the number of tokens on logarithmic axes: reading everything again rises steeply, the cached line stays almost flat.",
)

# %% tags=["claim"]
claim(
    "at the longest text the cache saves exactly the factor n in multiplications",
    measured=counts[-1][0] / counts[-1][1] / read_lengths[-1],
    equals=1.0,
    breaks_when={"reading everything again": 1 / read_lengths[-1]},
)
claim(
    "on the clock, too, the next token comes many times sooner at the longest text",
    measured=times["read everything again"][-1] / times["with a cache"][-1],
    at_least=20.0,
    breaks_when={"at the shortest text": times["read everything again"][0] / times["with a cache"][0]},
    timing=True,
)

# %% [markdown]
r"""
### How many bytes?

A cache holds a key and a value of width $d_{head}$ for each of $B$ texts, $L$ layers, $g$ key heads and $n$ positions. With $b$ bytes per number that is

$$\text{bytes} = 2 \cdot B \cdot L \cdot g \cdot n \cdot d_{head} \cdot b .$$

The number of *query* heads does not occur. Here is the reason to share keys: with 8 query heads and 2 key heads the cache is a quarter as large. Check the formula against the memory that is really taken:
"""

# %% tags=["nbval-check-output"]
def cache_bytes(batch: int, layers: int, kv_heads: int, positions: int, d_head: int, each: int) -> int:
    """Return the size of a KV cache by the formula; `each` is the bytes of one number."""
    return 2 * batch * layers * kv_heads * positions * d_head * each


def stored_bytes(cache: KVCache) -> int:
    """Return how much memory the cache's two tensors really hold."""
    return sum(each.untyped_storage().nbytes() for each in (cache.keys, cache.values))


print("width 256, 8 query heads, 4 texts of 1000 positions, one layer, float32:")
for g, name in ((8, "multi-head"), (4, "grouped"), (2, "grouped"), (1, "multi-query")):
    cache = KVCache.for_layer(MultiHeadAttention(256, 8, g), batch=4, max_len=1000)
    print(f"{name:<12} g = {g}   formula {cache_bytes(4, 1, g, 1000, 32, 4):>9,}   stored {stored_bytes(cache):>9,}")

# %% tags=["claim"]
stored = {g: stored_bytes(KVCache.for_layer(MultiHeadAttention(256, 8, g), 4, 1000)) for g in (8, 2, 1)}
claim(
    "two key heads for eight query heads take a quarter of the cache",
    measured=stored[2] / stored[8],
    equals=0.25,
    breaks_when={"one key head": stored[1] / stored[8]},
)

# %% [markdown]
r"""
In large models this decides what fits on a card. By the formula, for one text of 4096 tokens in half precision (2 bytes), with the sizes that Touvron et al. (2023) give for Llama 2:
"""

# %% tags=["nbval-check-output"]
for name, layers, h, g in (("Llama 2, 7 B", 32, 32, 32), ("Llama 2, 70 B, as it is", 80, 64, 8), ("Llama 2, 70 B, if each head had its own keys", 80, 64, 64), ("Llama 2, 70 B, if all shared one", 80, 64, 1)):
    print(f"{name:<46} h = {h}, g = {g:>2}: {cache_bytes(1, layers, g, 4096, 128, 2) / 2**30:6.2f} GiB")

# %% [markdown]
r"""
Each of these bytes must be *read* once per new token, and reading memory, not multiplying, is what writing waits for on a GPU. Shazeer's paper derives multi-query attention from this ratio. What does sharing cost in quality? In the published comparison (T5-XXL, trained further for 5 % of its steps; Ainslie et al. 2023, table 1) a mean score of 47.2 with keys for every head became 46.6 with one key head and 47.1 with eight, while the seconds for a sample fell from 1.51 to 0.24 and 0.28. On a smaller scale we measure it below.

## Real text: Python's own manual

Lesson 07 predicted the next character of Python's manual with one head, which spent most of its weight on the character *before*. The same experiment at the same width, with one head and with eight:
"""

# %%
WINDOW = 48  # characters that the layer sees


def split_text(corpus: str) -> tuple[Tensor, Tensor, list[str]]:
    """Return the characters' numbers of the first nine tenths and of the last, and the alphabet."""
    alphabet = sorted(set(corpus))
    number = {character: i for i, character in enumerate(alphabet)}
    ids = torch.tensor([number[character] for character in corpus])  # (characters,)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], alphabet


class NextCharacter(nn.Module):
    """Guess the next character with one causal layer; with a cache, `ids` are the characters not yet read."""

    def __init__(self, size: int, n_heads: int, n_kv_heads: int | None = None) -> None:
        super().__init__()
        self.character, self.position = nn.Embedding(size, 128), nn.Embedding(WINDOW, 128)
        self.ask, self.guess = MultiHeadAttention(128, n_heads, n_kv_heads), nn.Linear(128, size)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> tuple[Tensor, Tensor]:
        begin = 0 if cache is None else cache.length
        end = begin + ids.shape[1]
        x = self.character(ids) + self.position.weight[begin:end]  # (B, n, 128)
        heard, weights = self.ask(x, mask=causal_mask(ids.shape[1], end, device=ids.device), cache=cache)
        return self.guess(x + heard), weights  # (B, n, size), (B, h, n, n_k)


# %%
def train_characters(train: Tensor, size: int, n_heads: int, n_kv_heads: int, steps: int, seed: int = run.seed) -> NextCharacter:
    """Train a model on random windows."""
    torch.manual_seed(seed)
    model = NextCharacter(size, n_heads, n_kv_heads).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    gen = torch.Generator().manual_seed(seed)
    for _ in progress(range(steps), desc=f"characters, {n_heads} heads"):
        begin = torch.randint(len(train) - WINDOW, (32, 1), generator=gen)
        window = train[begin + torch.arange(WINDOW + 1)].to(run.device)  # (32, n+1)
        with run.autocast():
            logits, _ = model(window[:, :-1])  # (32, n, size)
        loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def held_out_bits(model: NextCharacter, test: Tensor) -> tuple[float, Tensor]:
    """Return the bits per character on held-out windows, and each head's mean weight 0 to 5 characters back, (h, 6)."""
    count = min(600, (len(test) - 1) // WINDOW)
    at, after = (test[shift : shift + count * WINDOW].view(count, WINDOW).to(run.device) for shift in (0, 1))
    with torch.no_grad():
        logits, weights = model(at)
    bits = F.cross_entropy(logits.flatten(0, 1), after.flatten()).item() / math.log(2)
    back = [weights.diagonal(offset=-k, dim1=2, dim2=3).mean(dim=(0, 2)) for k in range(6)]  # (h,) each
    return bits, torch.stack(back, dim=1).cpu()


# %% tags=["experiment"]
train, test, alphabet = split_text(text.python_manual().text)
character_steps = run.pick(smoke=5, standard=400, full=5000)
kinds = {"1 head": (1, 1), "8 heads": (8, 8)}
writers = {name: train_characters(train, len(alphabet), *sizes, character_steps) for name, sizes in kinds.items()}
manual = {name: held_out_bits(model, test) for name, model in writers.items()}
for name, (bits, _) in manual.items():
    print(f"{name:<8}{bits:.3f} bits per character, {sum(p.numel() for p in writers[name].parameters()):,} parameters")

# %%
fig, axes = plt.subplots(1, 2, figsize=(5.6, 3.2), width_ratios=(1, 8))
offsets = ["itself", *(f"−{k}" for k in range(1, 6))]
for ax, name in zip(axes, ("1 head", "8 heads")):
    table = manual[name][1].T  # (6, h)
    figures.heatmap(ax, table, columns=[str(i + 1) for i in range(table.shape[1])], xlabel="head", title=name, limits=(0, 1), numbers=".2f")
axes[0].set_yticks(range(6), offsets)
axes[1].set_yticks([])
axes[0].set_ylabel("characters back")
figures.show(
    fig,
    caption="Mean weight on the character itself and on the five before it. One head must choose, and chooses the previous character. Eight heads differ: some ask as it does, others look further back or spread their weight.",
    alt="Two tables of mean attention weights by distance: the single head puts most on the previous character; the eight heads differ in how sharply they look at it and how far back.",
)

# %% tags=["claim"]
claim(
    "on Python's manual eight heads need fewer bits per character than one head of the same total width",
    measured=manual["8 heads"][0] - manual["1 head"][0],
    at_most=-0.12,
    breaks_when={"one head": 0.0},
)

# %% [markdown]
r"""
One head has one question, and the most useful one is: what came just before? Eight heads need not all ask it in the same way: the columns of the table differ. And each adds what it heard through its own block of $W_O$, so what stood one character back and what stood two back need not be mixed into one average. (A sum still cannot look up a *pair* of characters. That takes the network of lesson 10.)

### What does sharing keys cost?

One training run tells little about a small difference. So here is a record: the same model with 8, 2 and 1 key heads, three seeds each, made by `course record 08` with the cell shown. You are looking at its figures, not at a live run.
"""

# %% tags=["record"]
record(
    "bits by key heads",
    {
        g: [held_out_bits(train_characters(train, len(alphabet), 8, g, character_steps, seed), test)[0] for seed in (0, 1, 2)]
        for g in (8, 2, 1)
    },
)

# %% tags=["experiment"]
by_key_heads = {int(g): bits for g, bits in recorded("bits by key heads").items()}
mean_bits = {g: sum(bits) / len(bits) for g, bits in by_key_heads.items()}
print("recorded, mean bits per character:", {f"g = {g}": round(bits, 3) for g, bits in mean_bits.items()})
cache_sizes = [cache_bytes(1, 1, g, WINDOW, 16, 4) / 1024 for g in by_key_heads]
fig, ax = plt.subplots(figsize=(6.4, 3.2))
label = "8 heads, mean of three seeds"
band = ([min(bits) for bits in by_key_heads.values()], [max(bits) for bits in by_key_heads.values()])
figures.lines(
    ax, cache_sizes, {label: list(mean_bits.values())}, bands={label: band},
    xlabel="cache for 48 characters (KiB)", ylabel="bits per character", title="Sharing keys", log="x",
)
for size, (g, bits) in zip(cache_sizes, mean_bits.items()):
    ax.annotate(f"g = {g}", (size, bits), textcoords="offset points", xytext=(5, 6))
ax.axhline(manual["1 head"][0], color=figures.PALETTE["vermillion"], linestyle="--", marker="", label="one head altogether (live)")
ax.set_xlim(4.5, 70)
ax.legend(loc="center right")
figures.show(
    fig,
    caption="Recorded. From eight key heads to one the cache shrinks eightfold, and the bits per character rise by a few hundredths, far less than what eight heads gain over one (dashed). The band spans the three seeds.",
    alt="Bits per character against cache size for eight, two and one key heads: an almost flat line that falls slowly as the cache grows, well below a dashed line for one head.",
)

# %% tags=["claim"]
claim(
    "recorded: one key head for all eight costs less than a tenth of a bit per character",
    measured=mean_bits[1] - mean_bits[8],
    at_most=0.1,
    breaks_when={"one head altogether": manual["1 head"][0] - mean_bits[8]},
)

# %% [markdown]
r"""
### Writing with the cache

Let the model write, character by character, from the same random numbers: once reading everything again for each character, once with a cache.
"""

# %% tags=["claim"]
def write(model: NextCharacter, begin: str, how: str) -> str:
    """Continue a text up to 48 characters: "again" reads all of it for each, "cached" keeps, "newest" forgets the rest."""
    gen = run.generator(13)
    ids = new = torch.tensor([[alphabet.index(character) for character in begin]], device=run.device)  # (1, n)
    cache = KVCache.for_layer(model.ask, 1, WINDOW) if how == "cached" else None
    while ids.shape[1] < WINDOW:
        with torch.no_grad():
            logits, _ = model(ids if how == "again" else new, cache=cache)  # (1, n, size)
        chosen = torch.multinomial((logits[0, -1] / 0.7).softmax(-1).cpu(), 1, generator=gen)
        new = chosen.to(run.device)[None]  # (1, 1)
        ids = torch.cat([ids, new], dim=1)  # (1, n+1)
    return "".join(alphabet[i] for i in ids[0].tolist())


beginnings = ("The ", "If the ", "An object ")
with_cache, without_cache, forgetting = (
    [write(writers["8 heads"], begin, how) for begin in beginnings] for how in ("cached", "again", "newest")
)
for line in with_cache:
    print(repr(line))


def agreement(texts: list[str]) -> float:
    """Return the share of the written characters that are those written without a cache."""
    pairs = [pair for *two, begin in zip(texts, without_cache, beginnings) for pair in zip(*(each[len(begin) :] for each in two))]
    return sum(a == b for a, b in pairs) / len(pairs)


claim(
    "a text written with the cache is the same, character by character",
    measured=agreement(with_cache),
    equals=1.0,
    breaks_when={"when only the newest character is read, without a cache": agreement(forgetting)},
)

# %% [markdown]
r"""
The same on Shakespeare (Karpathy's *tinyshakespeare*), if you have fetched it with `course data fetch tinyshakespeare`. For comparison: nanoGPT's published recipe for a small GPT on a CPU, four layers of four heads, ends near 1.88 nats $= 2.71$ bits per character (Karpathy 2022).
"""

# %% tags=["nbval-ignore-output"]
plays = registry.load_or_none("tinyshakespeare")
if plays is not None:
    train, test, letters = split_text(plays[:400_000])
    for name, sizes in kinds.items():
        bits, _ = held_out_bits(train_characters(train, len(letters), *sizes, character_steps), test)
        print(f"{name:<8}{bits:.3f} bits per character")

# %% [markdown]
r"""
## Looking through the heads

Back to Riverbank and its sentences. As in lesson 07 words are hidden, and a model of one layer must guess them from the others; now it has four heads.
"""

# %%
town = Town()
count = run.pick(smoke=600, standard=8000, full=100_000)
sentences = [s.tokens for s in town.sentences(count, seed=run.seed) if 4 <= len(s.tokens) <= 14]
vocabulary = sorted({word for sentence in sentences for word in sentence})
PAD, BLANK = 0, 1
number_of = {word: i + 2 for i, word in enumerate(vocabulary)}
lengths = torch.tensor([len(s) for s in sentences])  # (N,)
tokens = nn.utils.rnn.pad_sequence([torch.tensor([number_of[w] for w in s]) for s in sentences], batch_first=True)  # (N, 14)
held_out = len(sentences) // 10


class Guesser(nn.Module):
    """Read a sentence with one layer; `guess` turns what a position knows and has heard into words."""

    def __init__(self, n_heads: int, d_model: int = 64) -> None:
        super().__init__()
        self.word = nn.Embedding(len(vocabulary) + 2, d_model)
        self.position = nn.Embedding(tokens.shape[1], d_model)
        self.ask = MultiHeadAttention(d_model, n_heads)
        self.guess = nn.Linear(d_model, len(vocabulary) + 2)
        for table in (self.word, self.position):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.word(tokens) + self.position.weight[: tokens.shape[1]]  # (B, n, d)
        heard, weights = self.ask(x, mask=padding_mask(lengths, tokens.shape[1]))  # (B, n, d), (B, h, n, n)
        return x + heard, weights


def hide(x: Tensor, real: Tensor, gen: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blank out every seventh real word or so; return the sentences, the hidden words, where, and the lengths."""
    hidden = (torch.rand(x.shape, generator=gen) < 0.15) & (torch.arange(x.shape[1]) < real[:, None])  # (B, n)
    return tuple(each.to(run.device) for each in (x.masked_fill(hidden, BLANK), x[hidden], hidden, real))


# %% tags=["experiment"]
torch.manual_seed(run.seed)
guesser, gen = Guesser(n_heads=4).to(run.device), run.generator(10)
untrained_guesser = Guesser(n_heads=4).to(run.device)
optimizer = torch.optim.Adam(guesser.parameters(), lr=2e-2)
guess_steps = run.pick(smoke=6, standard=400, full=8000)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=guess_steps)
for _ in progress(range(guess_steps), desc="guessing"):
    rows = torch.randint(held_out, len(sentences), (96,), generator=gen)
    blanked, words, hidden, real = hide(tokens[rows], lengths[rows], gen)
    loss = F.cross_entropy(guesser.guess(guesser(blanked, real)[0][hidden]), words)  # hidden words only
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %%
test_lines = hide(tokens[:held_out], lengths[:held_out], run.generator(11))
REACH = 3


def asked_words(model: Guesser) -> tuple[Tensor, Tensor, Tensor]:
    """Return each head's weights at the hidden words (hidden, h, n), where these stand, and how long their sentences are."""
    blanked, _, hidden, real = test_lines
    with torch.no_grad():
        weights = model(blanked, real)[1]  # (B, h, n, n)
    line, at = hidden.nonzero(as_tuple=True)  # (hidden,), (hidden,)
    return weights[line, :, at], at, real[line]


def by_distance(model: Guesser) -> Tensor:
    """Return each head's mean weight on the words 3 before to 3 after the hidden one, (h, 7)."""
    weights, at, real = asked_words(model)
    columns = []
    for distance in range(-REACH, REACH + 1):
        there = at + distance
        inside = (there >= 0) & (there < real)
        columns.append(weights[inside, :, there[inside]].mean(0))  # (h,)
    return torch.stack(columns, dim=1).cpu()  # (h, 7)


def overlap(model: Guesser) -> float:
    """Return how much two heads ask the same words: the mean of Σ min(a, b) over all pairs; 1 is the same, 0 is disjoint."""
    weights, _, _ = asked_words(model)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    return sum(torch.minimum(weights[:, i], weights[:, j]).sum(-1).mean().item() for i, j in pairs) / len(pairs)


def guessed(silent: int | None = None) -> float:
    """Return the share of hidden words that the model guesses right, with one head silent if asked."""
    blanked, words, hidden, real = test_lines
    block = guesser.ask.to_out.weight.data.view(64, 4, 16)  # (d, h, d_head): the columns of W_Oᵀ that each head meets
    kept = block.clone()
    if silent is not None:
        block[:, silent] = 0
    with torch.no_grad():
        right = guesser.guess(guesser(blanked, real)[0][hidden]).argmax(-1) == words
    block.copy_(kept)
    return right.float().mean().item()


whole, without = guessed(), [guessed(silent=head) for head in range(4)]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 2.9), width_ratios=(3, 2))
names = [f"head {i + 1}" for i in range(4)]
offsets = [f"{d:+d}".replace("-", "−") if d else "itself" for d in range(-REACH, REACH + 1)]
figures.heatmap(axes[0], by_distance(guesser), rows=names, columns=offsets, xlabel="distance to the word asked", title="Whom a hidden word asks", limits=(0, 1), numbers=".2f")
axes[1].barh(names[::-1], without[::-1], color=figures.PALETTE["blue"])
axes[1].axvline(whole, color=figures.PALETTE["vermillion"], linestyle="--", marker="")
axes[1].text(1.02 * whole, 3.4, "all four", va="center", fontsize=8)
axes[1].set(xlabel="hidden words guessed right", title="Without one head", xlim=(0, 1.25 * whole))
figures.show(
    fig,
    caption="Left: the heads look to different sides and at different distances. Right: what the model still guesses when one head is silenced. Each time something is lost that the other three do not make good.",
    alt="Left, a table of mean weights of four heads by distance, with peaks at different distances. Right, bars of accuracy with each head silenced in turn, all below a line for all four.",
)

# %% tags=["claim"]
claim(
    "the heads ask different words: less than two thirds of their weight overlaps",
    measured=overlap(guesser),
    at_most=0.65,
    breaks_when={"before training": overlap(untrained_guesser)},
)
claim(
    "the heads need each other: without the most important one at least a twentieth of the right answers is lost",
    measured=min(without) / whole,
    at_most=0.95,
    breaks_when={"silencing none": 1.0},
)

# %% [markdown]
"""
In deep models *positional heads*, which look one word back or ahead, are found again and again, beside heads that follow syntax and heads that look for rare words; and many heads can be removed after training at little cost (Voita et al. 2019; Michel et al. 2019).

**Point at a word.** It is hidden from the model; each row of the table is a head, and shows whom it asks. Type sentences of your own (words that the town does not know become blanks).

*Question:* which heads look left, which right? What does a head do when the word that it likes to ask does not exist, at the beginning or the end of the sentence? (The weights must sum to 1, so it has to go somewhere: to the nearest word, to the full stop, or to the blank itself.)
"""

# %% tags=["widget", "nbval-ignore-output"]
def ask(sentence: str) -> HeadsAsked:
    """Hide each word of a sentence in turn, and return whom each head of its position asks and what the model guesses."""
    words = sentence.lower().split()
    if not 2 <= len(words) <= tokens.shape[1]:
        raise ValueError(f"Type 2 to {tokens.shape[1]} words, with spaces around punctuation.")
    row = torch.tensor([number_of.get(word, BLANK) for word in words], device=run.device)  # (n,)
    x = row.repeat(len(words), 1).fill_diagonal_(BLANK)  # (n, n): line i hides word i
    with torch.no_grad():
        known, weights = guesser(x, torch.full((len(words),), len(words), device=run.device))
        chosen = range(len(words))
        best = guesser.guess(known[chosen, chosen]).softmax(-1).topk(3)  # (n, 3)
    notes = [
        f"{word} is hidden. Guesses: " + ", ".join(f"{vocabulary[i - 2] if i > 1 else '…'} {p:.2f}" for p, i in zip(ps, ids))
        for word, ps, ids in zip(words, best.values.tolist(), best.indices.tolist())
    ]
    per_head = weights[chosen, :, chosen].transpose(0, 1)  # (h, n, n)
    return HeadsAsked(words, words, [f"head {i + 1}" for i in range(len(per_head))], per_head.tolist(), notes)


example = "athens is the capital of greece ."
display(HeadsView(ask, example))
asked_of = ask(example)
fig, axes = plt.subplots(1, 4, figsize=(12, 3.3), sharey=True)
for ax, name, weights in zip(axes, asked_of.heads, asked_of.weights):
    figures.attention_map(ax, weights, asked_of.queries, asked_of.keys, name, bar="weight" if ax is axes[-1] else None)
    ax.set_ylabel("query: who asks" if ax is axes[0] else "")
figures.show(
    fig,
    caption="Each row hides one word of the sentence and shows whom its position asks, head by head. The same numbers as in the view above, for a page that cannot be pointed at.",
    alt="Four attention maps of a seven-word sentence, one for each head; each is bright in other places.",
)

# %% [markdown]
r"""
## What it costs, and where it breaks

- **Narrow heads.** A head says $d_{head}$ numbers, as the baskets showed, and it asks with $d_{head}$ numbers: its scores $Q_i K_i^\top$ are a matrix of rank $d_{head}$ at most, however long the text (Bhojanapalli et al. 2020 call it the low-rank bottleneck). In practice $d_{head}$ is 64 or 128, and larger models get more heads, not wider ones.
- **Memory for weights.** The weights have $h \cdot n^2$ entries, $h$ times those of lesson 07. Lesson 22 never stores them.
- **The cache grows with every token.** It is what limits how many texts a GPU can write at a time. Sharing keys divides it by $h/g$; keeping only the newest positions bounds it (lesson 22).
- **A cache belongs to one reading.** Change a token in the middle: its own key and value are stale, and so are, in every layer but the first, those of all later positions. And it is for causal layers: where everyone hears everyone, a new token changes what the old ones say.

## Recap

- One head takes one weighted average. It explains at most half of a difference of two contents; two heads solve it. Both proved, both measured.
- Heads are a batch axis: cut the width, swap two axes, attend once. Parameters and multiplications stay the same.
- The output projection adds up what the heads say, each through a matrix of its own.
- Masks get an axis of size 1 for the heads. PyTorch's `nn.MultiheadAttention` turns masks over (True = hidden).
- Query heads may share key heads: grouped-query attention, with multi-query attention as its extreme. The cache shrinks by $h/g$.
- Under a causal mask old keys and values never change. A cache keeps them: same numbers, $n$ times fewer multiplications for the next token.

**If you want more.** (1) Ask the baskets for $2x - y$, or for $x - y + z$ of three people: how many heads does each need, and what is the bound for fewer? (2) Give the single head a bias in $W_V$ and keys that see the contents. The first proof's values are no longer linear; can it now cheat? (3) Let the guesser share one key head. Can its heads still look left and right at once? Why?

## Glossary

| word | meaning |
|---|---|
| head | an attention with its own projections, on a share of the width |
| $d_{head}$ | the width of one head, usually $d / h$ |
| output projection | the matrix $W_O$ that mixes what the heads say |
| context | what is asked: the sequence itself, or another (cross-attention) |
| multi-head, grouped-query, multi-query | as many key heads as query heads; fewer; one |
| KV cache | keys and values of all positions read so far |
| prompt, chunk | positions that are read together, before or while writing |

## Sources

- A. Vaswani et al. (2017), *Attention Is All You Need*, NeurIPS. Section 3.2.2 (multi-head attention), table 3 (number of heads).
- N. Shazeer (2019), *Fast Transformer Decoding: One Write-Head is All You Need*. Sections 2.4 (incremental) and 3 (multi-query attention).
- J. Ainslie et al. (2023), *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints*, EMNLP. Section 2.2, table 1.
- H. Touvron et al. (2023), *Llama 2: Open Foundation and Fine-Tuned Chat Models*. Table 1 and appendix A.2.1 (grouped-query attention).
- E. Voita et al. (2019), *Analyzing Multi-Head Self-Attention: Specialized Heads Do the Heavy Lifting, the Rest Can Be Pruned*, ACL.
- P. Michel, O. Levy, G. Neubig (2019), *Are Sixteen Heads Really Better than One?*, NeurIPS.
- S. Bhojanapalli et al. (2020), *Low-Rank Bottleneck in Multi-head Attention Models*, ICML.
- PyTorch documentation, `torch.nn.MultiheadAttention` (masks) and `scaled_dot_product_attention` (`enable_gqa`).
- A. Karpathy (2022), *nanoGPT*, readme: the small-CPU recipe and its loss.
"""
