# %% [markdown]
r"""
# 07 · Self-attention

**Let every word look at every other word.**

A recurrent network reads from left to right and carries what it has read in one vector. In this lesson you
build the operation that replaced it: each word asks all the others, directly, in one step. At the end you will

- see scaled dot-product attention in three ways, as messages on a graph, as a soft dictionary and as matrix products, and
  check that they give the same numbers;
- know why the scores are divided by $\sqrt{d_k}$, from a variance that you compute, a gradient that shrinks, and a training that stalls;
- mask the future and the padding without leaking either, and prove it by experiment;
- say what attention costs, and where it breaks.

You need the dot product, softmax and broadcasting of lesson 00, the word vectors of lesson 01, and to know from lesson 05 what an LSTM is
used for (not how it works). Lesson 06 put attention *on top of* a recurrent network; here the network underneath goes. About 90 minutes.

Two helpers appear throughout: `run.pick(smoke=…, standard=…, full=…)` takes the value for the SCALE below, and `run.generator(i)` is a source of random
numbers that depends on SEED and $i$ alone. `Float[Tensor, "n d"]` in a signature is a type with a shape: a tensor of floats with $n$ rows and $d$ columns.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import math

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401 - used by the code of the exercises
from torch import Tensor, nn

from course_lib import figures, widgets
from course_lib.data import registry, text
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict  # noqa: F401
from course_lib.figures.course_map import course_map
from course_lib.runtime import median_time, progress, start

run = start(lesson=7, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
figures.show(
    course_map(here=7),
    caption="Where we are: the first lesson of Part 3. Part 2 ended with one vector that had to hold a whole sentence.",
    alt="A map of the course's twenty-eight lessons in seven parts; lesson 07, self-attention, is marked.",
)

# %% [markdown]
"""
## The question

Here is a small task with no grammar in it, only memory. A line says who has what, and then asks:

> anna: lamp · ben: rope · clara: bread · … · **ben: ?**

Each pair is one position, whose vector is the sum of a vector for the person and a vector for the thing. The last position has
the person and a question mark; the model must answer with the thing. There are 32 persons and 32 things. The number $n$ of pairs is 2, 4, 8 or 16, and everything is drawn afresh for every line, so nothing can be
learnt by heart but *how to look something up*.

The tool of Part 2 for this is an LSTM: it reads the pairs one after the other and answers from its last state. Beside it stands the laziest reader that
makes sense, a plain **average** of all positions. It knows which things occurred, but not whose they are, so it can only name one of them.
"""

# %%
N_WORDS = 32  # this many persons, and this many things
PAIRS = (2, 4, 8, 16)
ASK = N_WORDS  # the question mark's number among the things


def draw_lines(n_pairs: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return persons (size, n+1), things (size, n+1), the answer (size,) and where it stands (size,)."""
    persons = torch.rand(size, N_WORDS, generator=generator).argsort(dim=1)[:, :n_pairs]  # (size, n), no one twice
    things = torch.randint(N_WORDS, (size, n_pairs), generator=generator)  # (size, n)
    place = torch.randint(n_pairs, (size, 1), generator=generator)  # (size, 1)
    answer = things.gather(1, place)  # (size, 1)
    persons = torch.cat([persons, persons.gather(1, place)], dim=1)  # (size, n+1)
    things = torch.cat([things, torch.full_like(place, ASK)], dim=1)  # (size, n+1)
    return tuple(each.to(run.device) for each in (persons, things, answer[:, 0], place[:, 0]))


class Lookup(nn.Module):
    """Read a line with `reader`, answer from its last position."""

    def __init__(self, reader: nn.Module, d_model: int, d_out: int) -> None:
        super().__init__()
        self.person = nn.Embedding(N_WORDS, d_model)
        self.thing = nn.Embedding(N_WORDS + 1, d_model)
        self.reader = reader
        self.answer = nn.Linear(d_out, N_WORDS)

    def forward(self, persons: Tensor, things: Tensor) -> Tensor:
        x = self.person(persons) + self.thing(things)  # (B, n+1, d_model)
        y = self.reader(x)[0]  # (B, n+1, d_out)
        return self.answer(y[:, -1])  # (B, 32)


# %%
def train_lookup(model: Lookup, steps: int, name: str) -> dict[int, float]:
    """Train on lines of all lengths in turn; return the accuracy for each number of pairs."""
    generator = run.generator(1)
    optimizer = torch.optim.Adam(model.to(run.device).parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)  # the rate rises, then falls to 0
    for step in progress(range(steps), desc=name):
        persons, things, answer, _ = draw_lines(PAIRS[step % len(PAIRS)], 64, generator)
        loss = F.cross_entropy(model(persons, things), answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    accuracy = {}
    with torch.no_grad():
        for n_pairs in PAIRS:
            persons, things, answer, _ = draw_lines(n_pairs, 2000, generator)
            accuracy[n_pairs] = (model(persons, things).argmax(-1) == answer).float().mean().item()
    return accuracy


class Average(nn.Module):
    """Hear everyone equally: each position counts 1/n."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x.mean(dim=1, keepdim=True), None  # (B, 1, d)


steps = run.pick(smoke=8, standard=1200, full=6000)
torch.manual_seed(run.seed)
lstm = Lookup(nn.LSTM(64, 128, batch_first=True), d_model=64, d_out=128)
lstm_accuracy = train_lookup(lstm, steps, "LSTM")
average_accuracy = train_lookup(Lookup(Average(), d_model=64, d_out=64), steps // 2, "average")
for name, accuracy in (("LSTM", lstm_accuracy), ("average", average_accuracy)):
    print(f"{name:<8}", "  ".join(f"{n:>2} pairs {share:.2f}" for n, share in accuracy.items()))

# %% tags=["claim"]
claim(
    "the LSTM has learnt to look things up: with two pairs it is nearly always right",
    measured=lstm_accuracy[2],
    at_least=0.85,
    breaks_when={"the average, which only names a thing that occurred": average_accuracy[2]},
)
claim(
    "but it forgets: with sixteen pairs it is right less than half of the time",
    measured=lstm_accuracy[16],
    at_most=0.5,
    breaks_when={"with two pairs": lstm_accuracy[2]},
)

# %% [markdown]
r"""
The more there is to remember, the worse it gets, although the LSTM's state has 128 numbers and it has learnt the task. The reason: all pairs must be
packed into one vector *before* the network knows which of them will be asked for.

Now imagine that the last position could simply *look back* at all the others, find the one with the same person, and take its
thing. That is the whole idea of this lesson.

## Messages on a graph

Draw a node for each position. An edge from node $j$ to node $i$ means that $i$ may hear from $j$. Each node carries three vectors:

- a **query** $q_i$ of $d_k$ numbers: what it looks for;
- a **key** $k_j$ of $d_k$ numbers: what it offers to be found by;
- a **value** $v_j$ of $d_v$ numbers: what it says when it is found.

The **score** of an edge is the dot product $s_{ij} = q_i \cdot k_j$: large where what $i$ looks for and what $j$ offers point the same
way. A softmax over all $j$ that have an edge to $i$ turns the scores into **weights** $a_{ij}$, which are positive and sum to 1. Node $i$ then
hears the average of the values, $y_i = \sum_j a_{ij} v_j$.

Written as a loop over nodes and edges it reads just like that (for the moment without the scaling that we owe you):
"""

# %% tags=["nbval-check-output"]
def messages(q: Tensor, k: Tensor, v: Tensor, edges: list[list[int]]) -> Tensor:
    """Let each node hear from its neighbours: `edges[i]` lists the nodes that node i hears from."""
    outputs = []
    for i, heard in enumerate(edges):
        scores = torch.stack([q[i] @ k[j] for j in heard])  # (neighbours,)
        weights = scores.exp() / scores.exp().sum()  # (neighbours,), sums to 1
        outputs.append(sum(a * v[j] for a, j in zip(weights, heard)))  # (d_v,)
    return torch.stack(outputs)  # (n, d_v)


words = ["the", "miller", "sees", "the", "baker"]
n, d_k, d_v = len(words), 4, 3
generator = torch.Generator().manual_seed(0)
q = torch.randn(n, d_k, dtype=torch.float64, generator=generator)  # (n, d_k)
k = torch.randn(n, d_k, dtype=torch.float64, generator=generator)  # (n, d_k)
v = torch.randn(n, d_v, dtype=torch.float64, generator=generator)  # (n, d_v)
everyone = [list(range(n)) for _ in range(n)]
earlier = [list(range(i + 1)) for i in range(n)]
print(messages(q, k, v, everyone).shape, messages(q, k, v, earlier).shape)

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8))
weights = (q @ k.T).softmax(-1)  # (n, n)
figures.wiring(axes[0], weights, words, words, "Everyone hears everyone")
past = torch.ones(n, n).tril().bool()  # (n, n)
figures.wiring(axes[1], (q @ k.T).masked_fill(~past, -math.inf).softmax(-1), words, words, "Only the past is heard")
figures.show(
    fig,
    caption="The same nodes with two sets of edges. Thickness is the weight; the vectors are random, so the pattern means nothing yet. "
    "A mask, later, is nothing but the choice of edges.",
    alt="Two graphs over five words. Left, every query is joined to every key. Right, each query is joined only to its own and earlier keys.",
)

# %% [markdown]
"""
## A soft dictionary

Python's `dict` compares your query with its keys; one is equal, and you get its value. Here nothing is ever quite equal. Every key
matches a little, and you get the average of all values, weighted by how well their keys match. If one score is far above
the rest the average *is* that value, and attention is a dictionary. Turning the scores up shows it:
"""

# %%
stock = {"anna": "lamp", "ben": "rope", "clara": "bread"}
key_of = torch.eye(3, dtype=torch.float64)  # (3, 3): the three keys are orthogonal
query = key_of[1]  # we ask for ben
for sharpness in (0, 1, 3, 10):
    weights = (sharpness * key_of @ query).softmax(-1)  # (3,)
    print(f"sharpness {sharpness:>2}:", "  ".join(f"{thing} {a:.3f}" for thing, a in zip(stock.values(), weights)))

# %% [markdown]
r"""
What is gained by softness? A derivative. A `dict` cannot tell you how the answer would change if the query were a little different;
the soft one can, and so queries, keys and values can be *learnt* by gradient descent.

## Matrix products

Stack the queries as rows of $Q$ ($n_q \times d_k$), the keys as rows of $K$ ($n_k \times d_k$), the values as rows of $V$ ($n_k \times d_v$). Entry
$(i, j)$ of $QK^\top$ is $q_i \cdot k_j$: all scores in one product. Softmax along each row gives the weights $A$. Row $i$ of $AV$ is
$\sum_j a_{ij} v_j$: all outputs in one more. Two products and a softmax; the loop above is

$$Y = \operatorname{softmax}(QK^\top)\,V .$$

Is it the same? First by hand. Let there be two positions with one-dimensional queries $1, 0$, keys $1, 0$ and values $4, 8$. The scores are
$\begin{pmatrix}1 & 0\\ 0 & 0\end{pmatrix}$. Row 1 becomes $e^1/(e^1+e^0) \approx 0.73$ and $0.27$, so position 1 hears $0.73 \cdot 4 + 0.27 \cdot 8 \approx 5.08$. Row 2 has equal scores, so position 2 hears the plain
mean, $6$. Then by machine, for all three ways, on the words of the graph:
"""

# %% tags=["claim"]
loop = messages(q, k, v, everyone)  # (n, d_v)
products = (q @ k.T).softmax(-1) @ v  # (n, d_v)
dictionary = torch.stack([(k @ query).softmax(-1) @ v for query in q])  # (n, d_v): look up one query after the other
hand = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).softmax(-1) @ torch.tensor([[4.0], [8.0]])
print("by hand, 5.08 and 6:", [round(y, 2) for y in hand[:, 0].tolist()])
claim(
    "messages on a graph, a soft dictionary and matrix products give the same numbers",
    measured=max((loop - products).abs().max().item(), (dictionary - products).abs().max().item()),
    at_most=1e-12,
    breaks_when={"softmax over the wrong axis": (loop - (q @ k.T).softmax(0) @ v).abs().max().item()},
)

# %% [markdown]
"""
## Why divide by √d
"""

# %%
predict(
    "scaling",
    "Queries and keys have random entries of size about 1. Their width d_k grows from 4 to 1024. What happens to the softmax of 32 scores q·k?",
    ["It stays about the same", "It becomes flatter: every weight goes to 1/32", "It becomes sharper: one weight goes to 1"],
    answer=2,
    because="Scores of typical size √1024 = 32 lie far apart, and softmax turns differences of 10 into ratios of e¹⁰ ≈ 22,000",
)

# %% [markdown]
r"""
As a model of a layer that is not trained yet, let the entries of $q$ and $k$ be independent with mean 0 and variance 1. Then

$$q \cdot k = \sum_{m=1}^{d_k} q_m k_m , \qquad
\mathbb{E}[q_m k_m] = \mathbb{E}[q_m]\,\mathbb{E}[k_m] = 0 , \qquad
\operatorname{Var}[q_m k_m] = \mathbb{E}[q_m^2]\,\mathbb{E}[k_m^2] = 1 .$$

The variance of a sum of independent terms is the sum of their variances, so $\operatorname{Var}[q \cdot k] = d_k$ and a typical score has size $\sqrt{d_k}$.
"""

# %% tags=["experiment"]
widths = [4, 16, 64, 256, 1024]
samples = run.pick(smoke=64, standard=1000, full=20000)
N_KEYS = 32


def jacobian_norm(p: Tensor) -> Tensor:
    """Return the Frobenius norm of ∂softmax/∂scores = diag(p) − p pᵀ, for each row of weights p."""
    return (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]).flatten(1).norm(dim=1)


variance, gradient, largest = ({"q·k": [], "q·k / √d": []} for _ in range(3))
for d in widths:
    gen = run.generator(d)
    queries = torch.randn(samples, 1, d, generator=gen).to(run.device)  # (samples, 1, d)
    keys = torch.randn(samples, N_KEYS, d, generator=gen).to(run.device)  # (samples, 32, d)
    raw = (queries @ keys.transpose(1, 2))[:, 0]  # (samples, 32)
    for name, scores in (("q·k", raw), ("q·k / √d", raw / math.sqrt(d))):
        p = scores.softmax(-1)  # (samples, 32)
        variance[name].append(scores.var().item())
        gradient[name].append(jacobian_norm(p).mean().item())
        largest[name].append(p.max(dim=-1).values.mean().item())

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
figures.lines(axes[0], widths, variance, xlabel="width d", ylabel="variance of the scores", title="Scores", log="xy")
figures.lines(axes[1], widths, largest, xlabel="width d", ylabel="mean largest weight", title="Weights", log="x")
figures.lines(axes[2], widths, gradient, xlabel="width d", ylabel="mean norm of the Jacobian", title="Gradient", log="xy")
axes[1].set_ylim(0, 1)
figures.show(
    fig,
    caption="Without the scaling the variance of the scores grows like d (left), one key takes almost all the weight (middle), and the "
    "softmax's derivative shrinks (right). Divided by √d, none of the three depends on the width.",
    alt="Three line charts over widths from 4 to 1024. Without scaling, variance and largest weight rise and the gradient norm falls; with scaling all are flat.",
)

# %% tags=["claim"]
claim(
    "divided by √d, the scores have variance 1 at width 1024",
    measured=variance["q·k / √d"][-1],
    between=(0.9, 1.1),
    breaks_when={"without the division": variance["q·k"][-1]},
)
claim(
    "without the division the softmax's gradient at width 1024 is less than half of what it is with it",
    measured=gradient["q·k"][-1] / gradient["q·k / √d"][-1],
    at_most=0.5,
    breaks_when={"at width 4, where √d is only 2": gradient["q·k"][0] / gradient["q·k / √d"][0]},
)

# %% [markdown]
r"""
The derivative used here is worth a line. For $p = \operatorname{softmax}(s)$ we have $p_i = e^{s_i} / \sum_l e^{s_l}$, and the quotient rule gives
$\partial p_i / \partial s_j = p_i (\delta_{ij} - p_j)$, where $\delta_{ij}$ is 1 if $i = j$ and 0 otherwise. As a matrix it is $\operatorname{diag}(p) - p\,p^\top$. If one weight is 1 and the rest
are 0, then every entry is 0. The scores could be wrong by any amount and no gradient would reach them. (This softmax stands *inside* a network. At the output of a classifier the logarithm of the
cross-entropy cancels the factor, and the gradient is $p - y$; see lesson 02.)

**Look closer.** Move the slider. At which width does one key first take more than nine tenths of the weight without the scaling? (The scores are those of one draw, so both panels jump about; but only
the left one has a trend. The answer stands below the figure.)
"""

# %% tags=["widget", "nbval-ignore-output"]
one_draw = torch.randn(2, 9, 1024, generator=run.generator(2))  # queries and keys, far wider than needed


def draw_softmax(log2_d: int) -> plt.Figure:
    d = 2**log2_d
    scores = one_draw[0, :1, :d] @ one_draw[1, :, :d].T  # (1, 9)
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 2.6), sharey=True)
    for ax, p, title in ((axes[0], scores, "softmax(q·k)"), (axes[1], scores / math.sqrt(d), "softmax(q·k / √d)")):
        heights = p.softmax(-1)[0]
        ax.bar(range(9), heights, color=figures.PALETTE["vermillion" if "√" in title else "blue"])
        ax.set(xlabel="key", title=f"{title},  d = {d}", ylim=(0, 1.15), xticks=range(9))
        ax.text(8.4, 1.05, f"largest {heights.max():.2f}", ha="right")
    axes[0].set_ylabel("weight")
    return fig


SOFTMAX_ALT = "Two bar charts of nine attention weights: without and with the division by the root of d."
display(widgets.explorer(draw_softmax, SOFTMAX_ALT, log2_d=ipywidgets.IntSlider(value=4, min=0, max=10, description="log₂ d")))
figures.show(
    draw_softmax(8),
    caption="The same view at d = 256, for a page without sliders. With seed 0 one key first takes more than nine tenths at d = 128.",
    alt="Two bar charts of nine attention weights at width 256: without scaling one bar dominates, with scaling the weights are spread.",
)

# %% [markdown]
r"""
## Scaled dot-product attention

With the division the formula is complete (Vaswani et al. 2017, equation 1):

$$\operatorname{Attention}(Q, K, V) = \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right) V .$$

One thing is missing: the choice of edges. It comes as a **mask**, a Boolean matrix that is **True where a query may attend to a key**.
That is the convention of `F.scaled_dot_product_attention`. Beware: the masks of `nn.MultiheadAttention` say the opposite (True = hidden). Where the mask
is False the score is replaced by something so negative that softmax gives it no weight.

A row of the mask may be False *everywhere*: a sentence that is nothing but padding, say. Then there is nobody to hear, and we want the output 0
and no gradient. With $-\infty$ as the replacement the row becomes $0/0$, which is NaN, and one NaN spoils the whole batch. With the most negative finite number it becomes $1/n$ everywhere: no
NaN, but not silence either. One more step is needed; find it.

### Exercise: `attention`

*Difficulty ●●●○○ · about 15 minutes · 4 points*

Write `attention(q, k, v, mask)`. Inputs: `q` (…, n_q, d_k), `k` (…, n_k, d_k), `v` (…, n_k, d_v), where … stands for any number of batch axes, and
`mask`, None or Boolean, whose shape broadcasts to (…, n_q, n_k). Return a pair: the outputs (…, n_q, d_v) and the weights (…, n_q, n_k). A fully
masked row gives zeros in both. `F.scaled_dot_product_attention` is not allowed: it is what the check compares you with.
"""

# %% tags=["exercise"] exercise="attention"
from course_lib.models.attention import attention  # course: write out

# %% tags=["check"] exercise="attention"
attention = check("attention")

# %% [markdown]
"""
If you want a nudge, run `hint("attention")` in a new cell (each run gives the next of three).

Two questions to ask of every new function: does it agree with an independent implementation, and what does it do at the edge?
"""

# %% tags=["claim"]
gen = run.generator(3)
q = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=gen)  # (B, 3, n_q, d_k)
k = torch.randn(2, 3, 6, 7, dtype=torch.float64, generator=gen)  # (B, 3, n_k, d_k)
v = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=gen)  # (B, 3, n_k, d_v)
mask = torch.rand(2, 3, 5, 6, generator=gen) < 0.5  # (B, 3, n_q, n_k)
mask[0, 0, 0] = False  # nobody to hear
ours, weights = attention(q, k, v, mask)
theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
unscaled = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
print("the fully masked row:", ours[0, 0, 0].tolist())
claim(
    "our attention equals PyTorch's, masked rows included",
    measured=(ours - theirs).abs().max().item(),
    at_most=1e-10,
    breaks_when={"without the scaling": (unscaled - theirs).abs().max().item()},
)

# %% [markdown]
r"""
## Masks: who may hear whom

### The future

A model that predicts the next word must not see it. Its edges run from the past to the future only: position $i$ hears positions $0 \dots i$, itself
included. The mask is a lower triangle.

When a model writes, it keeps the keys and values of what it has already read (lesson 08 builds this *cache*) and asks only for the newest position. Then there are
fewer queries than keys, and the question is where the triangle stands. The last query is the last position, so it must see *all* the keys: the triangle is
aligned at the **bottom right**. PyTorch's `is_causal=True` aligns it at the top left, which gives a lone query nothing but the very first key:
"""

# %% tags=["nbval-check-output"]
n_q, n_k = 2, 5
top_left = torch.ones(n_q, n_k, dtype=torch.bool).tril()
bottom_right = torch.ones(n_q, n_k, dtype=torch.bool).tril(n_k - n_q)
print("is_causal=True (top left):\n", top_left.int())
print("what a cache needs (bottom right):\n", bottom_right.int())

# %% [markdown]
"""
### Exercise: `causal_mask`

*Difficulty ●●○○○ · about 10 minutes · 2 points*

Write `causal_mask(n_q, n_k, device)`: a Boolean tensor (n_q, n_k), True where the query may attend, aligned at the bottom right. Query $i$ stands at the absolute
position $i + n_k - n_q$. If `n_k` is None there are as many keys as queries. Make it on `device`.
"""

# %% tags=["exercise"] exercise="causal_mask"
from course_lib.models.attention import causal_mask  # course: write out

# %% tags=["check"] exercise="causal_mask"
causal_mask = check("causal_mask")

# %% [markdown]
"""
### The padding

Sentences in a batch have different lengths; the short ones are filled up with a padding token, so that the batch is one rectangular tensor. Nobody must hear a padding token. This mask depends on
the key alone, so for each sentence it is one row of $n_k$ Booleans that holds for every query: shape (batch, 1, n_k), and broadcasting does the rest.

(The padding positions themselves still ask, and their outputs are nonsense that nobody reads.)

### Exercise: `padding_mask`

*Difficulty ●●○○○ · about 8 minutes · 2 points*

Write `padding_mask(lengths, n_k)`. `lengths` (batch,) holds the number of real tokens of each sentence, which stand first. Return a Boolean tensor (batch, 1, n_k), True at the real tokens.
"""

# %% tags=["exercise"] exercise="padding_mask"
from course_lib.models.attention import padding_mask  # course: write out

# %% tags=["check"] exercise="padding_mask"
padding_mask = check("padding_mask")

# %%
both = causal_mask(6) & padding_mask(torch.tensor([4]), 6)[0]  # (6, 6) & (1, 6) → (6, 6)
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for ax, mask, title in (
    (axes[0], causal_mask(6), "causal"),
    (axes[1], padding_mask(torch.tensor([4]), 6)[0].expand(6, 6), "padding, length 4"),
    (axes[2], both, "both: causal & padding"),
):
    figures.heatmap(ax, mask.float(), xlabel="key", ylabel="query", title=title, limits=(0, 1), numbers=".0f")
figures.show(
    fig,
    caption="1 = may attend. A key must pass both masks, so they are joined with “and”. Rows 4 and 5 of the right panel are padding that asks: harmless, since nobody hears them.",
    alt="Three six by six Boolean matrices: a lower triangle, four full columns, and the intersection of the two.",
)

# %% [markdown]
r"""
## Self-attention

Until now queries, keys and values fell from the sky. In **self-attention** they all come from the same words, by three learnt matrices: if row $i$ of $X$ ($n \times d_{model}$) is
the vector of word $i$, then $Q = XW_Q$, $K = XW_K$, $V = XW_V$. The matrices are the same for every position, so a sentence may have any length.

Why three and not one? With $W_Q = W_K$ the scores would be symmetric: a verb that looks for its subject would be looked for by its subject just as much. And with $V = X$ a
word could only say all that it is. Three matrices let a word *look for* one thing, *be found by* another, and *say* a third.

### Exercise: `SelfAttention`

*Difficulty ●●●○○ · about 15 minutes · 4 points*

Complete `forward(x, lengths, causal)`. `x` is (batch, n, d_model); `lengths` (batch,) or None; `causal` True or False. Use your `attention`, `causal_mask` and `padding_mask`
(if one of them did not pass, the course's is in its place, so you can go on). Return outputs (batch, n, d_v) and weights (batch, n, n).
"""

# %% tags=["exercise"] exercise="SelfAttention"
from course_lib.models.attention import SelfAttention  # course: write out

# %% tags=["check"] exercise="SelfAttention"
SelfAttention = check("SelfAttention")

# %% [markdown]
"""
## Back to the question

The same task, the same number of steps, the same optimiser. In place of the LSTM stands one `SelfAttention`, with a sixth of the parameters. The question's position makes a query out of the
person; each pair can be found by its person and say its thing.
"""

# %%
predict(
    "lookup",
    "The LSTM's share of right answers fell to less than a half as the pairs grew from 2 to 16. What will attention do?",
    ["Fall too, but more slowly", "Stay near 100 % whatever the number of pairs", "Be worse for few pairs and better for many"],
    answer=1,
    because="Each pair keeps a vector of its own; the question looks at all of them and takes one. Nothing is packed, so nothing is squeezed out.",
)

# %% tags=["experiment"]
torch.manual_seed(run.seed)
attentive = Lookup(SelfAttention(64, 64, 64), d_model=64, d_out=64)
attentive_accuracy = train_lookup(attentive, steps, "attention")
parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in (("LSTM", lstm), ("attention", attentive))}
print("parameters:", parameters)

fig, ax = plt.subplots()
figures.lines(
    ax, PAIRS, {"self-attention": list(attentive_accuracy.values()), "LSTM": list(lstm_accuracy.values()), "plain average": list(average_accuracy.values())},
    xlabel="pairs in the line", ylabel="share of right answers", log="x",
)
ax.set_ylim(0, 1.04)
figures.show(
    fig,
    caption="Looking things up. The LSTM's answers get worse with every pair that it must carry along; attention's do not. The plain average only names a thing that occurred: what it lacks is weights.",
    alt="Accuracy against number of pairs: self-attention stays near one, the LSTM and the plain average fall steadily.",
)

# %% tags=["claim"]
claim(
    "with sixteen pairs attention answers far more questions than the LSTM after the same number of steps",
    measured=attentive_accuracy[16] - lstm_accuracy[16],
    at_least=0.4,
    breaks_when={"with all weights equal": average_accuracy[16] - lstm_accuracy[16]},
)

# %% [markdown]
"""
Has it learnt to look, or has it found a trick? Look at whom the question asks.
"""

# %% tags=["claim"]
persons, things, answer, place = draw_lines(6, 500, run.generator(4))


def asked_rightly(model: Lookup) -> tuple[Tensor, float]:
    """Return all weights (500, 7, 7), and the question's mean weight on the pair that it should find."""
    with torch.no_grad():
        weights = model.reader(model.person(persons) + model.thing(things))[1]  # (500, 7, 7)
    return weights, weights[:, -1].gather(1, place[:, None]).mean().item()


weights, asked = asked_rightly(attentive)
_, asked_untrained = asked_rightly(Lookup(SelfAttention(64, 64, 64), 64, 64).to(run.device))
fig, ax = plt.subplots(figsize=(5.6, 4.6))
labels = [f"person {p}: {'?' if t == ASK else f'thing {t}'}" for p, t in zip(persons[0].tolist(), things[0].tolist())]
figures.attention_map(ax, weights[0].cpu(), labels, labels, "One line, trained model")
figures.show(
    fig,
    caption=f"The last row is the question. It puts nearly all its weight on the pair of the same person (here person {persons[0, -1]}). The other rows were never trained to ask for anything; they find the positions with the same person, themselves among them.",
    alt="An attention map of seven positions; the last row has one bright square, at the pair with the person that is asked about.",
)
claim(
    "the question asks the right person: the mean weight on that pair",
    measured=asked,
    at_least=0.9,
    breaks_when={"before training": asked_untrained},
)

# %% [markdown]
r"""
And the $\sqrt{d_k}$? Queries and keys of width 1024 whose entries really have variance 1 (the weights are scaled up so that they do), trained with the division and without:
"""

# %% tags=["experiment"]
class Unscaled(SelfAttention):
    """The same without the division: queries are made √d_k larger beforehand."""

    def forward(self, x: Tensor, lengths: Tensor | None = None, causal: bool = False) -> tuple[Tensor, Tensor]:
        q = self.to_q(x) * math.sqrt(self.to_q.out_features)  # (B, n, d_k), so that the division cancels
        return attention(q, self.to_k(x), self.to_v(x))


def first_losses(kind: type[SelfAttention], steps: int) -> list[float]:
    """Return the loss at each of the first steps of the lookup with eight pairs, at width 1024."""
    torch.manual_seed(run.seed)
    model = Lookup(kind(64, 1024, 64), 64, 64).to(run.device)
    for projection in (model.reader.to_q, model.reader.to_k):
        nn.init.normal_(projection.weight, std=1 / math.sqrt(2 * 64))  # x is a sum of two vectors: variance 2
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    gen, losses = run.generator(14), []
    for _ in progress(range(steps), desc=kind.__name__):
        persons, things, answer, _ = draw_lines(8, 64, gen)
        loss = F.cross_entropy(model(persons, things), answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


stall_steps = run.pick(smoke=4, standard=200, full=1000)
losses = {"q·k": first_losses(Unscaled, stall_steps), "q·k / √d": first_losses(SelfAttention, stall_steps)}
fig, ax = plt.subplots()
figures.lines(ax, range(stall_steps), losses, xlabel="training step", ylabel="loss (nats)", title="Lookup with eight pairs, width 1024")
for line in ax.lines:
    line.set_marker("")
figures.show(
    fig,
    caption="Training with and without the division by √d, from the same weights and with the same data.",
    alt="Two falling loss curves over training steps; the one with the scaling falls faster.",
)
last = {name: sum(values[-20:]) / len(values[-20:]) for name, values in losses.items()}

# %% tags=["claim"]
claim(
    "divided by √d the lookup at width 1024 is nearly learnt (loss in nats over the last steps)",
    measured=last["q·k / √d"],
    at_most=0.7,
    breaks_when={"without the division": last["q·k"]},
)

# %% [markdown]
r"""
## Four properties, each tested

**1. Without a mask, order does not exist.** Permute the words, and the outputs are permuted in the same way; nothing else changes. To see it, let $P$ be a permutation
matrix. Then $PX$ has queries $PQ$, keys $PK$, values $PV$, so the scores are $P\,QK^\top P^\top$, the weights are $PAP^\top$ (softmax works row by row, and reordering
columns reorders its results), and the output is $PAP^\top PV = P(AV)$, because $P^\top P$ is the identity. The sentences *dog bites man* and *man bites dog* look the same to it. Lesson 09 repairs this.
"""

# %% tags=["claim"]
torch.manual_seed(run.seed)
layer = SelfAttention(16, 16, 16).double()
x = torch.randn(1, 7, 16, dtype=torch.float64, generator=run.generator(5))  # (1, n, d)
order = torch.randperm(7, generator=run.generator(6))
with torch.no_grad():
    plain = (layer(x[:, order])[0] - layer(x)[0][:, order]).abs().max().item()
    causal = (layer(x[:, order], causal=True)[0] - layer(x, causal=True)[0][:, order]).abs().max().item()
claim(
    "without a mask, permuting the words permutes the outputs",
    measured=plain,
    at_most=1e-12,
    breaks_when={"with a causal mask, which knows the order": causal},
)

# %% [markdown]
"""
**2. Under a causal mask the future cannot be felt.** Do not trust a picture of a triangle: change the future and see whether the past moves. It must not move *at all*, so the bound is exactly 0.
"""

# %% tags=["claim"]
changed = x.clone()
changed[:, 4:] = torch.randn(1, 3, 16, dtype=torch.float64, generator=run.generator(7))  # another future
with torch.no_grad():
    moved = (layer(changed, causal=True)[0] - layer(x, causal=True)[0])[:, :4].abs().max().item()
    leaked = (layer(changed)[0] - layer(x)[0])[:, :4].abs().max().item()
claim("changing the future changes nothing in the past", measured=moved, equals=0.0, breaks_when={"without the mask": leaked})

# %% [markdown]
"""
**3. Padding cannot be felt.** A sentence in a padded batch must get what it gets alone.
"""

# %% tags=["claim"]
lengths = torch.tensor([7, 3, 5])
batch = torch.randn(3, 7, 16, dtype=torch.float64, generator=run.generator(8))  # (B, n, d), padding is noise here
with torch.no_grad():
    together, _ = layer(batch, lengths)
    unmasked, _ = layer(batch)
    alone = [layer(batch[i : i + 1, :length])[0][0] for i, length in enumerate(lengths)]
differ, differ_unmasked = (
    max((found[i, :length] - alone[i]).abs().max().item() for i, length in enumerate(lengths)) for found in (together, unmasked)
)
claim("a padded batch equals the sentences one by one", measured=differ, at_most=1e-12, breaks_when={"without the padding mask": differ_unmasked})

# %% [markdown]
"""
**4. A fully masked row is silent.** Its output is 0 and no gradient flows through it, so an empty sentence cannot spoil a batch.
"""

# %% tags=["claim"]
x = torch.randn(2, 4, 16, dtype=torch.float64, generator=run.generator(9)).requires_grad_()
output, _ = layer(x, lengths=torch.tensor([0, 4]))
output.sum().backward()
loud = x.detach().clone().requires_grad_()
scores = loud @ loud.transpose(1, 2)  # (2, 4, 4)
hidden = ~padding_mask(torch.tensor([0, 4]), 4)  # (2, 1, 4)
uniform = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1) @ loud  # (2, 4, 16), a finite number and nothing more
uniform.sum().backward()
claim(
    "an empty sentence gives neither output nor gradient",
    measured=output[0].abs().sum().item() + x.grad[0].abs().sum().item(),
    equals=0.0,
    breaks_when={"a large negative number and nothing more": uniform[0].abs().sum().item() + loud.grad[0].abs().sum().item()},
)

# %% [markdown]
r"""
## Another wiring: cross-attention

Nothing says that the nodes that ask and the nodes that are asked belong to the same sentence. In **cross-attention** the queries come from one sequence and the keys and values from another: a translator's half-written sentence
asks the source sentence. It is the same function with other inputs, and the matrix of weights is $n_q \times n_k$, no longer square. Lesson 11 uses it; here is its shape.
"""

# %% tags=["nbval-check-output"]
target, source = ["le", "chat", "dort"], ["the", "cat", "is", "sleeping"]
gen = torch.Generator().manual_seed(0)
asking = torch.randn(len(target), 8, generator=gen)  # (3, 8)
asked_for = torch.randn(len(source), 8, generator=gen)  # (4, 8)
output, weights = attention(asking, asked_for, asked_for)
print("outputs", tuple(output.shape), "weights", tuple(weights.shape))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.6))
figures.wiring(axes[0], torch.full((4, 4), 0.25), source, source, "Self-attention: one sentence, n × n")
figures.wiring(axes[1], torch.full((3, 4), 0.25), target, source, "Cross-attention: two sentences, n_q × n_k")
figures.show(
    fig,
    caption="Two wirings of the same operation. On the right, French words ask English ones; the edges run between two sets of nodes.",
    alt="Left, four English words joined with themselves; right, three French words joined with four English ones.",
)

# %% [markdown]
"""
## A sentence from Riverbank

Now a model that reads words. It is as small as can be: word vectors plus a vector for each position (why that works is lesson 09), one `SelfAttention`, one matrix back to words. We hide words of sentences from Riverbank, the
course's made-up town, and the model must guess them. A hidden word is replaced by a blank, so its position knows nothing but where it stands: what it guesses beyond that, it has *asked* for. (`x + heard` keeps what the position knew and adds what it heard; lesson 10 calls this a residual connection.)
"""

# %%
town = Town()
count = run.pick(smoke=600, standard=12_000, full=100_000)
sentences = [s.tokens for s in town.sentences(count, seed=run.seed) if 4 <= len(s.tokens) <= 14]
vocabulary = sorted({word for sentence in sentences for word in sentence})
PAD, BLANK = 0, 1
number_of = {word: i + 2 for i, word in enumerate(vocabulary)}
lengths = torch.tensor([len(s) for s in sentences])  # (N,)
tokens = nn.utils.rnn.pad_sequence([torch.tensor([number_of[w] for w in s]) for s in sentences], batch_first=True)  # (N, 14)
held_out = len(sentences) // 10
print(f"{len(sentences):,} sentences, {len(vocabulary):,} words, for example: {' '.join(sentences[0])}")


class Guesser(nn.Module):
    """Read a sentence with one layer of self-attention; `guess` turns what a position has heard into words."""

    def __init__(self, n_words: int, n_positions: int, d_model: int = 64) -> None:
        super().__init__()
        self.word = nn.Embedding(n_words, d_model)
        self.position = nn.Embedding(n_positions, d_model)
        self.ask = SelfAttention(d_model, d_model, d_model)
        self.guess = nn.Linear(d_model, n_words)
        for table in (self.word, self.position):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.word(tokens) + self.position.weight[: tokens.shape[1]]  # (B, n, d)
        heard, weights = self.ask(x, lengths)  # (B, n, d), (B, n, n)
        return x + heard, weights  # (B, n, d), (B, n, n)


# %% tags=["experiment"]
def train_guesser(steps: int, listens: bool) -> tuple[Guesser, float]:
    """Train a guesser; one that does not listen has lengths of 0, so it hears nobody. Return its accuracy too."""
    gen = run.generator(10)
    torch.manual_seed(run.seed)
    model = Guesser(len(vocabulary) + 2, tokens.shape[1]).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in progress(range(steps), desc="guessing"):
        rows = torch.randint(held_out, len(sentences), (128,), generator=gen)
        x, y, hidden, real = hide(tokens[rows], lengths[rows], gen)
        heard, _ = model(x, real * listens)  # (128, 14, d)
        loss = F.cross_entropy(model.guess(heard[hidden]), y)  # hidden words only: (hidden, words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    x, y, hidden, real = hide(tokens[:held_out], lengths[:held_out], run.generator(11))
    with torch.no_grad():
        guesses = model.guess(model(x, real * listens)[0][hidden]).argmax(-1)  # (hidden,)
    return model, (guesses == y).float().mean().item()


def hide(x: Tensor, real: Tensor, gen: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blank out every seventh real word or so; return the sentences, the hidden words, where, and the lengths."""
    hidden = (torch.rand(x.shape, generator=gen) < 0.15) & (torch.arange(x.shape[1]) < real[:, None])  # (B, n)
    blanked = x.masked_fill(hidden, BLANK)
    return tuple(each.to(run.device) for each in (blanked, x[hidden], hidden, real))


guess_steps = run.pick(smoke=6, standard=600, full=8000)
guesser, listening = train_guesser(guess_steps, listens=True)
_, deaf = train_guesser(guess_steps // 2, listens=False)
print(f"hidden words guessed right: {listening:.1%}, and {deaf:.1%} from the position alone")

# %% tags=["claim"]
claim(
    "who may ask the other words guesses a hidden one at least one and a half times as often",
    measured=listening,
    at_least=1.5 * deaf,
    breaks_when={"without listening": deaf},
)

# %% [markdown]
"""
**Point at a word.** It is hidden from the model, and the others light up by how much its position asks them; below stand the model's guesses. Type sentences of your own (words that the town does not know become blanks).

*Question:* go through the sentence word by word. Whom does a hidden position ask: its neighbours, or words further away? What does a neighbour tell it?
(Mostly its neighbours: they narrow down what kind of word can stand here. Do not read more into the weights than that: who is asked is not yet who decides. Lesson 25 measures the difference.)
"""

# %% tags=["widget", "nbval-ignore-output"]
def ask(sentence: str) -> widgets.Asked:
    """Hide each word of a sentence in turn, and return whom its position asks and what it guesses."""
    words = sentence.lower().split()
    if not 2 <= len(words) <= tokens.shape[1]:
        raise ValueError(f"Type 2 to {tokens.shape[1]} words, with spaces around punctuation.")
    row = torch.tensor([number_of.get(word, BLANK) for word in words], device=run.device)  # (n,)
    x = row.repeat(len(words), 1).fill_diagonal_(BLANK)  # (n, n): line i hides word i
    with torch.no_grad():
        heard, weights = guesser(x, torch.full((len(words),), len(words), device=run.device))
        chosen = range(len(words))
        best = guesser.guess(heard[chosen, chosen]).softmax(-1).topk(3)  # (n, 3)
    notes = [
        f"{word} is hidden. Guesses: " + ", ".join(f"{vocabulary[i - 2] if i > 1 else '…'} {p:.2f}" for p, i in zip(ps, ids))
        for word, ps, ids in zip(words, best.values.tolist(), best.indices.tolist())
    ]
    return widgets.Asked(words, weights[chosen, chosen].tolist(), notes)


example = "athens is the capital of greece ."
display(widgets.AttentionView(ask, example))
asked_of = ask(example)
fig, ax = plt.subplots(figsize=(4.8, 4))
figures.attention_map(ax, asked_of.weights, asked_of.words, asked_of.words, "Whom a hidden word asks")
figures.show(
    fig,
    caption="Each row hides one word of the sentence and shows whom its position asks. The same numbers as in the view above, for a page that cannot be pointed at.",
    alt="An attention map of a seven-word sentence; most rows put their weight on one or two neighbouring words.",
)

# %% [markdown]
"""
## What it costs, and where it breaks

Count for a sentence of $n$ words and width $d$ (after Vaswani et al. 2017, table 1; constant factors left out, and the last column counts how many steps what one word says must take to reach the other end):

| layer | multiplications | steps that must wait for each other | longest way from word to word |
|---|---|---|---|
| self-attention | $n^2 d$ for the words to meet, $n d^2$ for the projections | 1 | 1 |
| recurrent (LSTM) | $n d^2$ | $n$ | $n$ |

For long sentences, $n > d$, attention computes more; at any length it waits for nothing. Which is faster depends on the length and the machine. So measure both, one sentence at a time, forward and backward:
"""

# %% tags=["experiment"]
repeats = run.pick(smoke=2, standard=9, full=20)
lengths_timed = run.pick(smoke=[16, 64], standard=[32, 128, 512, 1024], full=[64, 256, 1024, 4096, 8192])
times = {"self-attention": [], "LSTM": []}
readers = {"self-attention": SelfAttention(64, 64, 64).to(run.device), "LSTM": nn.LSTM(64, 64, batch_first=True).to(run.device)}
for n in lengths_timed:
    x = torch.randn(1, n, 64, device=run.device, requires_grad=True)  # (1, n, d)
    for name, reader in readers.items():
        timing = median_time(lambda: reader(x)[0].sum().backward(), repeats=repeats, device=run.device)  # noqa: B023
        times[name].append(1000 * timing.median)
ratio = [b / a for a, b in zip(times["self-attention"], times["LSTM"])]
print("LSTM time / attention time:", {n: round(r, 2) for n, r in zip(lengths_timed, ratio)})

# %% [markdown]
r"""
Memory is exact and needs no clock. For the backward pass attention keeps its $n \times n$ weights, and here, with a mask, a few more tensors of that size; we count the bytes of everything that autograd saves.
"""

# %%
def saved_bytes(layer: nn.Module, n: int) -> int:
    """Return how many bytes autograd keeps of a layer over n positions for the backward pass."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = layer(torch.randn(1, n, 16, requires_grad=True))  # noqa: F841 - lives until all is counted
    return sum(storages.values())


sizes = [256, 512, 1024, 2048]
layers = {"self-attention": SelfAttention(16, 16, 16), "two linear layers": nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))}
kept = {name: [saved_bytes(layer, n) / 2**20 for n in sizes] for name, layer in layers.items()}
slope = {name: math.log2(values[-1] / values[-2]) for name, values in kept.items()}
print({name: round(value, 3) for name, value in slope.items()})
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
figures.lines(axes[0], lengths_timed, times, xlabel="length n (words)", ylabel="time (ms)", title="One sentence, forward and backward", log="xy")
figures.lines(axes[1], sizes, kept, xlabel="length n (words)", ylabel="kept for backward (MiB)", title="Memory", log="xy")
figures.show(
    fig,
    caption="Left: on this machine; the ratio is printed above. At long lengths attention pays for n². Right: twice the length makes attention keep four times the memory, and two linear layers twice.",
    alt="Left, time against length on logarithmic axes: the LSTM's line rises in proportion, attention's starts lower and rises faster at long lengths. Right, attention's memory rises with the square of the length, that of linear layers in proportion.",
)

# %% tags=["claim"]
claim(
    "memory grows with the square of the length (the exponent, from 1024 to 2048 words)",
    measured=slope["self-attention"],
    between=(1.9, 2.05),
    breaks_when={"two linear layers": slope["two linear layers"]},
)
claim(
    "at 128 words and one sentence at a time the LSTM takes longer, since its steps wait for each other",
    measured=ratio[1],
    at_least=1.2,
    timing=True,
)

# %% [markdown]
r"""
Where it breaks: at long inputs. At $n = 100{,}000$ the weights of one sentence alone would have $10^{10}$ entries, 40 GB in float32. Lesson 22 computes the same output without ever storing them, and
shows cheaper relatives.

## Real text: Python's own manual

Does one layer learn anything about real text? Every Python carries its own manual. We predict its next character with one causal `SelfAttention` and compare with two counts: how often each character occurs
(unigram), and how often it follows the one before (bigram). The measure is **bits per character**: the mean of $-\log_2$ of the probability given to the right character; less is better. The last tenth of the manual is held out.
"""

# %%
WINDOW = 48  # characters that the layer sees


def split_text(corpus: str) -> tuple[Tensor, Tensor, int]:
    """Return the characters' numbers of the first nine tenths and of the last, and how many characters there are."""
    alphabet = {character: i for i, character in enumerate(sorted(set(corpus)))}
    ids = torch.tensor([alphabet[character] for character in corpus])  # (characters,)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(alphabet)


def held_out_windows(test: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return up to 600 windows (w, n) of the held-out text, the characters before, and the characters after each."""
    count = min(600, (len(test) - 2) // WINDOW)
    before, at, after = (test[shift : shift + count * WINDOW].view(count, WINDOW) for shift in (0, 1, 2))
    return at, before, after


def count_bits(train: Tensor, test: Tensor, size: int) -> dict[str, float]:
    """Return the bits per character of counts, 0.1 added to each: of one character, of pairs, of triples."""
    at, before, after = held_out_windows(test)
    bits = {}
    for name, context in (("unigram counts", ()), ("bigram counts", (at,)), ("trigram counts", (before, at))):
        table = torch.full((size,) * (len(context) + 1), 0.1)
        pieces = [train[k : len(train) - len(context) + k] for k in range(len(context) + 1)]
        table.index_put_(tuple(pieces), torch.ones(len(pieces[0])), accumulate=True)
        bits[name] = -(table / table.sum(-1, keepdim=True))[(*context, after)].log2().mean().item()
    return bits


# %%
class NextCharacter(nn.Module):
    """Guess the next character with one causal layer; `alone` lets each position hear itself and nobody else."""

    def __init__(self, size: int, alone: bool) -> None:
        super().__init__()
        self.alone = alone
        self.character, self.position = nn.Embedding(size, 128), nn.Embedding(WINDOW, 128)
        self.ask, self.guess = SelfAttention(128, 128, 128), nn.Linear(128, size)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.character(ids) + self.position.weight  # (B, n, 128)
        sentences = x.flatten(0, 1)[:, None] if self.alone else x  # (B·n, 1, 128): sentences of one word, or (B, n, 128)
        heard, weights = self.ask(sentences, causal=True)
        return self.guess(x + heard.view_as(x)), weights  # (B, n, size), (B, n, n)


def train_characters(train: Tensor, test: Tensor, size: int, steps: int, alone: bool = False) -> tuple[float, float]:
    """Return the bits per character on the held-out windows, and the mean weight on the previous character."""
    torch.manual_seed(run.seed)
    model = NextCharacter(size, alone).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    gen = run.generator(12)
    for _ in progress(range(steps), desc="characters"):
        begin = torch.randint(len(train) - WINDOW, (32, 1), generator=gen)
        window = train[begin + torch.arange(WINDOW + 1)].to(run.device)  # (32, n+1)
        with run.autocast():
            logits, _ = model(window[:, :-1])  # (32, n, size)
        loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    at, _, after = held_out_windows(test)
    with torch.no_grad():
        logits, weights = model(at.to(run.device))
    loss = F.cross_entropy(logits.flatten(0, 1), after.flatten().to(run.device)).item()
    return loss / math.log(2), weights.diagonal(offset=-1, dim1=1, dim2=2).mean().item()


# %%
train, test, size = split_text(text.python_manual().text)
character_steps = run.pick(smoke=5, standard=400, full=5000)
manual = count_bits(train, test, size)
manual["one layer, each alone"], _ = train_characters(train, test, size, character_steps, alone=True)
manual["one layer of attention"], previous = train_characters(train, test, size, character_steps)
for name, bits in manual.items():
    print(f"{name:<24}{bits:.2f} bits per character")
print(f"mean weight on the previous character: {previous:.2f}")

# %% tags=["claim"]
claim(
    "on Python's manual one layer of attention needs fewer bits per character than bigram counts",
    measured=manual["one layer of attention"],
    at_most=manual["bigram counts"] - 0.2,
    breaks_when={"the same layer when each position hears only itself": manual["one layer, each alone"]},
)
claim(
    "most of the weight goes to the previous character",
    measured=previous,
    at_least=0.5,
    breaks_when={"weights spread evenly over the past": 1 / WINDOW * sum(1 / n for n in range(2, WINDOW + 1))},
)

# %% [markdown]
r"""
A layer whose positions hear only themselves is a learnt bigram, and does no better than the bigram counts. What attention adds comes from asking, and it asks mostly for the character *before*, as the weight shows; nobody told it that
neighbours matter. Yet it stays behind the trigram counts, which use just these two characters: one layer *adds* what it heard to what it knew, and a sum cannot look up a pair. Lesson 10 puts a network
behind the sum that can.

The same on Shakespeare (Karpathy's *tinyshakespeare*, 1.1 MB), if you have fetched it with `course data fetch tinyshakespeare`:
"""

# %% tags=["nbval-ignore-output"]
shakespeare = registry.load_or_none("tinyshakespeare")
if shakespeare is not None:
    train, test, size = split_text(shakespeare[:400_000])
    plays = count_bits(train, test, size)
    plays["one layer of attention"], _ = train_characters(train, test, size, character_steps)
    for name, bits in plays.items():
        print(f"{name:<24}{bits:.2f} bits per character")

# %% [markdown]
r"""
For comparison, on Shakespeare: nanoGPT's published recipe for a small GPT on a CPU (four layers, four heads, 0.8 million parameters) ends near a validation loss of 1.88 nats, which is $1.88 / \ln 2 \approx 2.71$ bits per character
(Karpathy 2022). The next lessons build what lies between: several heads (08), a real sense of position (09), blocks (10), depth (11, 13).

## Recap

- Attention is message passing: queries look, keys are found, values are said; the weights are a softmax of dot products.
- Scores of width $d_k$ have variance $d_k$. Dividing by $\sqrt{d_k}$ keeps the softmax, and with it the gradient, alive.
- A mask is the choice of edges. True = may attend; causal masks align at the bottom right; a key must pass all masks; a fully masked row is silent.
- After the same number of steps one layer looked up among 16 pairs what an LSTM with six times its parameters no longer knew.
- Without positions order does not exist. Time and memory grow with $n^2$, but nothing waits.

**If you want more.** (1) Train the lookup with 32 pairs: who breaks first? (2) In the experiment on $\sqrt{d_k}$, go from width 1024 to 64: when does the division stop to matter? (3) Let $W_Q = W_K$ in the lookup; does it still work, and why is this task kind to it?

## Glossary

| word | meaning |
|---|---|
| query, key, value | what a position looks for; what it is found by; what it says |
| score | $q_i \cdot k_j / \sqrt{d_k}$, before the softmax (also: logit) |
| weight | the score after the softmax; each row sums to 1 |
| mask | Boolean, True where a query may attend to a key |
| causal mask | hides later positions |
| padding mask | hides the filling of short sentences |
| self-attention, cross-attention | queries from the same sequence as keys and values, or from another |
| permutation equivariant | permuting the input permutes the output and does nothing else |

## Sources

- A. Vaswani et al. (2017), *Attention Is All You Need*, NeurIPS. Section 3.2.1 (scaled dot-product attention and the footnote on variance), table 1 (costs).
- D. Bahdanau, K. Cho, Y. Bengio (2015), *Neural Machine Translation by Jointly Learning to Align and Translate*, ICLR: attention on a recurrent network.
- T. Luong, H. Pham, C. Manning (2015), *Effective Approaches to Attention-based Neural Machine Translation*, EMNLP, section 3.1: dot-product scores.
- J. Gilmer et al. (2017), *Neural Message Passing for Quantum Chemistry*, ICML, section 2: message passing.
- PyTorch documentation, `torch.nn.functional.scaled_dot_product_attention`: mask conventions and `is_causal`.
- A. Karpathy (2022), *nanoGPT*, readme, “i only have a macbook”: the small-CPU recipe and its loss.
"""
