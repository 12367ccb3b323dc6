# %% [markdown]
r"""
# 09 · Positional encoding

**Order for a machine that has none.**

Attention takes a set of words and gives back a set of words. In this lesson you tell it where each word stands, in the five best-known ways. At the end you will

- know why attention cannot see order, by a proof and by a model that stays at chance, and why a causal model can;
- write the sinusoids of the original transformer, and know what is special about them: a shift is a rotation;
- derive RoPE, the rotation that most large language models use, from one wish: that scores depend on distances;
- write the biases of T5 and ALiBi, and put all of them into lesson 08's layer without changing a line of it;
- measure what happens to each of the five when the text is longer than any seen in training, and test an explanation.

You need `attention` and its masks (lesson 07), `MultiHeadAttention` (lesson 08), sine and cosine. Complex numbers help, and are not needed. About two hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import math
from collections.abc import Callable
from functools import partial

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401
from torch import Tensor, nn

from course_lib import figures, widgets
from course_lib.data import registry, text
from course_lib.exercises import check, claim, hint, predict  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.attention import attention, causal_mask
from course_lib.models.multi_head import KVCache, MultiHeadAttention
from course_lib.runtime import progress, start

torch.set_num_threads(1)  # the steps of this lesson are tiny: a second thread would wait more than it works
run = start(lesson=9, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=9)

# %% [markdown]
r"""
## The question

Eight of Riverbank's people stand in a queue at the baker's. A line names them from front to back:

> anna · ben · clara · … · hugo

and each of them is asked: **where do you stand?** The answer is a place, 1 to 8. For each line people and order are drawn afresh, out of 24 people in all. A child counts. What does attention do, which in lesson 07 looked up one pair among sixteen?

The model has two layers of two heads each. The line begins with a token of its own, the **start token**, the same in every line. Each position adds what it hears to what it knows (`x + heard`, as in lessons 07 and 08), and names its place at the end.
"""

# %%
PEOPLE, QUEUE, WIDTH = 24, 8, 32


def draw_queues(size: int, generator: torch.Generator) -> Tensor:
    """Return queues of eight people, the front first, no one twice: numbers from 1, (size, 8)."""
    return 1 + torch.rand(size, PEOPLE, generator=generator).argsort(dim=1)[:, :QUEUE].to(run.device)


class WhereStands(nn.Module):
    """Two layers that read a queue; each person names a place. `add` may add positions to the vectors."""

    def __init__(self, add: nn.Module, causal: bool) -> None:
        super().__init__()
        self.add, self.causal = add, causal
        self.person = nn.Embedding(1 + PEOPLE, WIDTH)  # number 0 is the start token
        self.layers = nn.ModuleList(MultiHeadAttention(WIDTH, 2) for _ in range(2))
        self.place = nn.Linear(WIDTH, QUEUE)

    def forward(self, queues: Tensor) -> Tensor:
        line = F.pad(queues, (1, 0))  # (B, 9): the start token in front
        x = self.add(self.person(line))  # (B, 9, 32)
        mask = causal_mask(x.shape[1], device=x.device) if self.causal else None
        for layer in self.layers:
            x = x + layer(x, mask=mask)[0]  # (B, 9, 32)
        return self.place(x[:, 1:])  # (B, 8, 8): for each person a score for each place


def train_queue(add: nn.Module, causal: bool, name: str) -> tuple[WhereStands, float]:
    """Train a model; return it and the share of people in new queues who name their place."""
    torch.manual_seed(run.seed)
    model = WhereStands(add, causal).to(run.device)
    steps, generator = run.pick(smoke=6, standard=200, full=2000), run.generator(1)
    places = torch.arange(QUEUE, device=run.device)  # (8,): the right answers, whoever stands there
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in progress(range(steps), desc=name):
        logits = model(draw_queues(64, generator))  # (64, 8, 8)
        loss = F.cross_entropy(logits.flatten(0, 1), places.repeat(64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model, (model(draw_queues(4000, generator)).argmax(-1) == places).float().mean().item()


# %%
predict(
    "no positions",
    "Two layers of attention without a mask, a few hundred steps of training. How often will a person name the right place?",
    ["Nearly always", "About half of the time", "One time in eight"],
    answer=2,
    because="A position sees who is in the queue, not in which order. Every place is as good a guess as any other, and there are eight.",
)

# %% tags=["experiment"]
blind, blind_right = train_queue(nn.Identity(), causal=False, name="without positions")  # Identity: adds nothing
print(f"without positions, everyone hears everyone: {blind_right:.3f} right; chance is {1 / QUEUE:.3f}")

# %% [markdown]
r"""
## Why it cannot know

It is at chance, and no training would help. The proof takes four lines. Let $X$ hold the vectors of the line as rows, and $P$ be a **permutation matrix**, so that $PX$ has the same rows in another order.

1. *A layer.* Lesson 07 showed for one head without a mask: $\operatorname{Attention}(PX) = P \operatorname{Attention}(X)$. The same holds for several heads, since each is one, and for the output projection, which acts on each row alone.
2. *A stack of layers.* If $f(PX) = P f(X)$, then $PX + f(PX) = P(X + f(X))$: adding what was heard keeps the property, and so does one such layer after another.
3. *The answers.* Let $P$ shuffle the people and leave the start token in front. Then the answers are shuffled along: clara's answer depends on who she is and who else is in the queue, and not on where anyone stands. She says *the same in all orders* of the same eight people.
4. *The score.* Of all $8!$ orders, clara stands in each place in one eighth. Whatever she says, it is right in one order out of eight. ∎

Nothing was said about weights, width or depth. So let us reverse the queues of the trained model. The answers should be reversed with them, up to rounding (the terms of each sum come in another order):
"""

# %% tags=["claim"]
def moved_by_reversing(model: WhereStands) -> float:
    """Return how far people's answers move when their queues are reversed (float64)."""
    queues = draw_queues(200, run.generator(2)).cpu()
    double = WhereStands(nn.Identity(), model.causal)
    double.load_state_dict(model.state_dict())
    double.double()
    with torch.no_grad():
        return (double(queues) - double(queues.flip(1)).flip(1)).abs().max().item()


torch.manual_seed(run.seed)
claim(
    "without positions nobody's answer depends on the order of the queue",
    measured=moved_by_reversing(blind),
    at_most=1e-10,
    breaks_when={"with a causal mask, even untrained": moved_by_reversing(WhereStands(nn.Identity(), causal=True))},
)

# %% [markdown]
r"""
## The mask gives order away

The proof needs a layer that treats all positions alike. With a causal mask it does not: the start token is position 0, and position $i$ hears $i$ others. Can a model turn that into knowledge of its own place? By hand, in one head:

- let all queries be zero. Then all scores are equal, and position $i$ gives each of the $i + 1$ positions that it hears the weight $\frac{1}{i+1}$;
- let the value be the number 1 for the start token, and 0 for everyone else. Then position $i$ hears $\frac{1}{i+1}$, from which $i$ can be read off.

No position was ever put in. The same head without the mask hears $\frac{1}{n}$ everywhere, with $n$ the number of positions.
"""

# %% tags=["claim"]
n = 10
keys = torch.randn(n, 4, dtype=torch.float64, generator=run.generator(3))  # (n, d_k): any
start_token = torch.eye(n, 1, dtype=torch.float64)  # (n, 1): 1 at the start token, 0 elsewhere
heard = attention(torch.zeros_like(keys), keys, start_token, causal_mask(n))[0]  # (n, 1)
heard_by_all = attention(torch.zeros_like(keys), keys, start_token)[0]  # (n, 1)
place = torch.arange(n)
print("heard under a causal mask:", [round(each, 3) for each in heard[:, 0].tolist()])
claim(
    "under a causal mask a head can work out where it stands: the largest error of 1 / heard − 1",
    measured=(1 / heard[:, 0] - 1 - place).abs().max().item(),
    at_most=1e-12,
    breaks_when={"without the mask": (1 / heard_by_all[:, 0] - 1 - place).abs().max().item()},
)

# %% [markdown]
r"""
So it can. Does it, when it is trained? The same model, the same number of steps, and a causal mask:
"""

# %% tags=["experiment"]
causal, causal_right = train_queue(nn.Identity(), causal=True, name="causal")
print(f"without positions: {blind_right:.3f} right if everyone hears everyone, {causal_right:.3f} under a causal mask")

# %% tags=["claim"]
claim(
    "without positions, an encoder in which everyone hears everyone stays at chance, one in eight",
    measured=blind_right,
    between=(0.10, 0.15),
    breaks_when={"under a causal mask": causal_right},
)
claim(
    "under a causal mask the same model names the place, though nobody told it a position",
    measured=causal_right,
    at_least=0.95,
    breaks_when={"without the mask": blind_right},
)

# %% [markdown]
r"""
Haviv et al. (2022) found the same at full size: language models *without any positional encoding* came close to those with one, and a small classifier could read the positions off their inner vectors. Models in which everyone hears everyone, trained to fill gaps in a text, did not learn without. But what the mask leaks has to be worked out, and with everyone hearing everyone there is nothing to leak. So say it.

## A vector for each position

The simplest way: give position $p$ a vector of its own and add it, $x_p \leftarrow x_p + e_p$, before the first layer. What the vectors should be is left to training, as with words. Lessons 07 and 08 did so already.
"""

# %%
from course_lib.models.positions import LearnedPositions  # course: write out

# %% [markdown]
r"""
`start` is the position of the first row; with a cache (lesson 08) it is the number of positions that were read before. BERT and GPT-2 have such a table, of 512 and 1024 rows. It costs a row of $d$ numbers for each position, each row is learnt separately from all others, and where the table ends the model ends.

## Sinusoids

Can the vectors be *computed*, for any position? Think of how a clock tells the time: with hands of different speeds. One fast hand tells neighbouring minutes apart and comes round again; a slow one tells which hour it is. Let there be $d/2$ hands. From one position to the next hand $i$ turns by the angle

$$\theta_i = 10{,}000^{-2i/d} , \qquad i = 0, 1, \dots, \tfrac{d}{2} - 1 ,$$

its **frequency**, in radians; the number 10,000 is called the **base**. The fastest hand turns by 1, once around in $2\pi \approx 6.3$ positions. The slowest takes $2\pi \cdot 10{,}000^{1 - 2/d}$ positions, 47,000 for $d = 64$. At position $p$ hand $i$ stands at the angle $p\,\theta_i$; write down where its tip is:

$$e_p = \big(\sin p\theta_0,\ \cos p\theta_0,\ \ \sin p\theta_1,\ \cos p\theta_1,\ \dots\big) , \qquad e_p[2i] = \sin p\theta_i , \quad e_p[2i+1] = \cos p\theta_i .$$

By hand, for $d = 4$: the frequencies are $1$ and $10{,}000^{-2/4} = 0.01$. Position 0 gets $(0, 1, 0, 1)$ and position 3 gets $(\sin 3, \cos 3, \sin 0.03, \cos 0.03) \approx (0.141, -0.990, 0.030, 1.000)$.

### Exercise: `sinusoidal_encoding`

●●○○○ · 15 minutes · 3 points

- **Task**: two functions. `frequencies(d, base, dtype, device)` gives $\theta_0, \theta_1, \dots$; `sinusoidal_encoding(positions, d, base)` gives $e_p$ for each position, with the help of the first.
- **Input**: `positions`, floats of any shape `(...)`; `d`, the width; `base`, 10,000 if not given.
- **Output**: frequencies `(⌈d/2⌉,)` of the given dtype, on the given device; encodings `(..., d)`, dtype and device as those of `positions`.
- **Edge cases**: an odd $d$, where the last sine stands without its cosine (there are $\lceil d/2 \rceil$ frequencies, and $d$ in the exponent stays as it is); a single position without axes.
- **Help**: `hint("sinusoidal_encoding")` in a new cell.
"""

# %% tags=["exercise"] exercise="sinusoidal_encoding"
from course_lib.models.positions import frequencies  # course: write out
from course_lib.models.positions import sinusoidal_encoding  # course: write out

# %% tags=["check"] exercise="sinusoidal_encoding"
frequencies, sinusoidal_encoding = check("sinusoidal_encoding")

# %%
by_hand = sinusoidal_encoding(torch.tensor([0.0, 3.0]), 4)  # (2, 4)
print("positions 0 and 3, width 4:", [[round(each, 3) for each in row] for row in by_hand.tolist()])
encodings = sinusoidal_encoding(torch.arange(64.0), 64)  # (64, 64)
fig, ax = plt.subplots(figsize=(7.4, 3.8))
figures.heatmap(ax, encodings, xlabel="column", ylabel="position", title="Sinusoidal encoding, width 64", diverging=True, bar="value")
ax.set_aspect("auto")
figures.show(
    fig,
    caption="A row is the vector of a position. The columns on the left swing fast and tell neighbours apart; those on the right hardly move over 64 positions, the sines (even columns) near 0, the cosines near 1.",
    alt="A heat map of 64 positions by 64 columns with values from minus one to one: fast vertical oscillation on the left, slower and slower to the right, vertical stripes of 0 and 1 at the right end.",
)

# %% [markdown]
r"""
Added to the vectors in the queue, without a mask:
"""

# %%
from course_lib.models.positions import SinusoidalPositions  # course: write out

# %% tags=["claim"]
_, told_right = train_queue(SinusoidalPositions(), causal=False, name="sinusoids")
claim(
    "with sinusoids added, the encoder in which everyone hears everyone names the right place",
    measured=told_right,
    at_least=0.95,
    breaks_when={"without positions": blind_right},
)

# %% [markdown]
r"""
### A shift is a rotation

Why sines and cosines, and not any other function with many speeds? Vaswani et al. (2017, section 3.5) chose them because $e_{p+\delta}$ is a linear function of $e_p$, so that a head may easily learn to look $\delta$ positions further on or back. Let us see. Going $\delta$ positions further turns hand $i$ by $\delta\theta_i$ more. The addition theorems say

$$\sin(p\theta + \delta\theta) = \sin p\theta \cos \delta\theta + \cos p\theta \sin \delta\theta , \qquad \cos(p\theta + \delta\theta) = \cos p\theta \cos \delta\theta - \sin p\theta \sin \delta\theta ,$$

or, with the pair as a row vector,

$$\big(\sin (p+\delta)\theta,\ \cos (p+\delta)\theta\big) = \big(\sin p\theta,\ \cos p\theta\big) \begin{pmatrix} \cos \delta\theta & -\sin \delta\theta \\ \sin \delta\theta & \cos \delta\theta \end{pmatrix} .$$

The matrix turns the pair by $\delta\theta$ (clockwise, since the sine stands first). It knows $\delta$ and not $p$. Put one such $2 \times 2$ block for each pair along the diagonal and call the whole $M_\delta$ ($d \times d$): then $e_{p+\delta} = e_p M_\delta$ *for every position $p$*. One fixed matrix moves every position by $\delta$.

A table of arbitrary vectors has no such matrix. To be fair to it, look for the best one there is, by least squares:
"""

# %% tags=["claim"]
def shift_matrix(delta: int, d: int) -> Tensor:
    """Return the matrix of a shift: a rotation by delta times its frequency for each pair, (d, d)."""
    matrix = torch.zeros(d, d, dtype=torch.float64)
    for i, angle in enumerate((delta * frequencies(d, dtype=torch.float64)).tolist()):
        c, s = math.cos(angle), math.sin(angle)
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return matrix


delta, d = 5, 16
sinusoids = sinusoidal_encoding(torch.arange(100, dtype=torch.float64), d)  # (100, d)
untrained = LearnedPositions(100, d, std=1.0).table.detach().double()  # (100, d)
fitted = torch.linalg.lstsq(untrained[:-delta], untrained[delta:]).solution  # (d, d): the best matrix for this table
claim(
    "one fixed matrix moves every sinusoidal position five places on (the largest error over 95 positions)",
    measured=(sinusoids[:-delta] @ shift_matrix(delta, d) - sinusoids[delta:]).abs().max().item(),
    at_most=1e-12,
    breaks_when={
        "with the matrix for four places": (sinusoids[:-delta] @ shift_matrix(4, d) - sinusoids[delta:]).abs().max().item(),
        "a table of random vectors, with the best matrix for it": (untrained[:-delta] @ fitted - untrained[delta:]).abs().max().item(),
    },
)

# %% [markdown]
r"""
In the same way the dot product of two encodings knows the distance alone, since $\sin a \sin b + \cos a \cos b = \cos(a - b)$:

$$e_p \cdot e_t = \sum_i \big(\sin p\theta_i \sin t\theta_i + \cos p\theta_i \cos t\theta_i\big) = \sum_i \cos\big((t - p)\,\theta_i\big) .$$

It is largest, $d/2$, for $t = p$. And with the query moved by a shift, $e_p M_\delta$, it is largest at $t = p + \delta$: that is how a head can ask for "five back".

**Move the sliders.** Left, the encoding; right, the dot product of $e_p M_\delta$ with $e_t$ against the offset $t - p$. Three questions:

1. With aim 0 and the base 10,000, at which offset does the dot product first fall below half of its largest value? Does that depend on the width?
2. Set the aim to 0 and the width to 2. Which offsets other than 0 look almost the same as 0?
3. Set the aim to −5 at any width. What has changed, apart from the place of the peak?
"""

# %% tags=["widget", "nbval-ignore-output"]
def draw_encoding(d: int, log10_base: float, aim: int) -> plt.Figure:
    """Draw the encoding of 96 positions, and the dot product by offset of a query that aims at an offset."""
    base, around = 10**log10_base, torch.arange(-60, 61, dtype=torch.float64)  # (121,): offsets
    rates = frequencies(d, base, torch.float64)  # (d/2,)
    products = torch.cos((around[:, None] - aim) * rates).sum(-1)  # (121,)
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.3), width_ratios=(1, 1.25))
    figures.heatmap(
        axes[0], sinusoidal_encoding(torch.arange(96.0), d, base), xlabel="column", ylabel="position",
        title=f"width {d}, base {base:,.0f}", diverging=True, limits=(-1, 1),
    )
    axes[0].set_aspect("auto")
    axes[0].images[0].set_interpolation("nearest")
    axes[1].plot(around, products, marker="", color=figures.PALETTE["blue"])
    axes[1].axhline(d / 4, color=figures.PALETTE["grey"], linestyle="--", marker="", linewidth=1, label="half of the largest")
    axes[1].axvline(aim, color=figures.PALETTE["vermillion"], linestyle=":", marker="", linewidth=1.4, label="aim")
    axes[1].set(xlabel="offset t − p", ylabel="dot product", title=f"query aimed at offset {aim}".replace("-", "−"), ylim=(None, 0.62 * d))
    axes[1].legend(loc="upper right", ncols=2, fontsize=8)
    return fig


ENCODING_ALT = "Left, a heat map of the encoding of 96 positions. Right, the dot product of two encodings against their offset, with its peak at the aim."
display(
    widgets.explorer(
        draw_encoding,
        ENCODING_ALT,
        d=ipywidgets.IntSlider(value=64, min=2, max=128, step=2, description="width d"),
        log10_base=ipywidgets.FloatSlider(value=4, min=0.3, max=6, step=0.1, description="log₁₀ base"),
        aim=ipywidgets.IntSlider(value=0, min=-50, max=50, description="aim δ"),
    )
)
figures.show(
    draw_encoding(64, 4, -5),
    caption="The same view for a page without sliders: width 64, base 10,000, aim −5. The peak stands where the query aims. On both sides the product falls, in waves.",
    alt=ENCODING_ALT,
)

# %% [markdown]
r"""
*Answers.* (1) At 28 for width 64; at 3 for width 8 and 46 for width 128: it depends on the width. A wider encoding has more hands between the fastest and the slowest, and their waves cancel later. (2) Those near a multiple of $2\pi$, since width 2 has one hand: 6, 19, 25 places away, and best of all 44 ($\approx 7 \cdot 2\pi$). (3) Nothing. The whole curve has moved: rotation by a shift changes no length and no angle between encodings.

## What the scores see

All of this was about encodings alone. In a layer they are added to word vectors, and both go through the projections. Let $x_p$ be the word vector at position $p$ (a row), and $W = W_Q W_K^\top$. The score of query $p$ and key $t$, without the scaling, is

$$(x_p + e_p)\, W\, (x_t + e_t)^\top = \underbrace{x_p W x_t^\top}_{\text{word, word}} + \underbrace{x_p W e_t^\top}_{\text{word, place}} + \underbrace{e_p W x_t^\top}_{\text{place, word}} + \underbrace{e_p W e_t^\top}_{\text{place, place}} .$$

Three of the four terms hold a position, and each depends on *where* it is, not only on how far apart the two are: between $e_p$ and $e_t$ stands a matrix. A model must learn from examples that "the word before" means the same at place 7 and at place 70. One would rather have it built in:

> Let the score depend on the two words and on the offset $t - p$ alone.

Encodings that do so are called **relative**; a vector for each position is **absolute**. Three relative ones follow.

## RoPE: turn, do not add

The sinusoids know how to be relative: they turn. **Rotary position embedding** (Su et al. 2021) turns the queries and keys themselves, and the wish hardly leaves another choice. Take one pair of numbers of each. Let a $2 \times 2$ matrix $R_p$ change the query's at position $p$, and $R_t$ the key's at $t$; position 0 changes nothing, $R_0 = I$. Their dot product is $(q R_p)(k R_t)^\top = q\, R_p R_t^\top\, k^\top$, so $R_p R_t^\top$ has to depend on $p - t$ (minus the offset) alone:

- for $t = p$: $R_p R_p^\top = R_0 R_0^\top = I$. So $R_p$ is orthogonal, it changes no lengths;
- for $t = p - 1$: $R_p R_{p-1}^\top = R_1 R_0^\top = R_1$, hence $R_p = R_1 R_{p-1} = R_1^{\,p}$. Each position does once more what position 1 does.

In the plane that is a rotation by an angle $\theta$ for each position (or a reflection, for which position 2 is position 0 again). Counter-clockwise:

$$(a,\ b)\, R_p = (a \cos p\theta - b \sin p\theta,\ \ a \sin p\theta + b \cos p\theta) , \qquad R_p = \begin{pmatrix} \cos p\theta & \sin p\theta \\ -\sin p\theta & \cos p\theta \end{pmatrix} .$$

And it grants the wish: turning by $p\theta$ and then back by $t\theta$ is turning by $(p - t)\theta$, so $R_p R_t^\top = R_{p-t}$ and

$$(q R_p)(k R_t)^\top = q\, R_{p-t}\, k^\top .$$

A whole vector has $d/2$ pairs, each with its own frequency $\theta_i = 10{,}000^{-2i/d}$, and the score is the sum over the pairs: a function of $q$, $k$ and $p - t$.

*With complex numbers* it is one line. Write the pair as $z = a + \mathrm{i} b$. Turning by an angle $\varphi$ is multiplication by $e^{\mathrm{i}\varphi}$, and the dot product of two pairs is $\operatorname{Re}(z_q \overline{z_k})$, where the bar turns $\mathrm{i}$ into $-\mathrm{i}$. So

$$\operatorname{Re}\big(z_q e^{\mathrm{i} p\theta}\ \overline{z_k e^{\mathrm{i} t\theta}}\big) = \operatorname{Re}\big(z_q \overline{z_k}\, e^{\mathrm{i}(p - t)\theta}\big) .$$

Nothing is added to the words, and the values are not turned: what a word *says* does not depend on its place, only who listens to it. A rotation changes no lengths, so $\sqrt{d_k}$ stays the right scaling.
"""

# %%
def turned(pair: Tensor, angle: float) -> Tensor:
    """Turn a pair of numbers counter-clockwise."""
    (a, b), c, s = pair, math.cos(angle), math.sin(angle)
    return torch.stack([a * c - b * s, a * s + b * c])  # (2,)


query, key, theta = torch.tensor([1.0, 0.2]), torch.tensor([0.75, 0.55]), 0.35
fig, axes = plt.subplots(1, 3, figsize=(10, 3.3), sharex=True, sharey=True)
for ax, (p, t) in zip(axes, ((0, 0), (1, 3), (6, 8))):
    at_p, at_t = turned(query, p * theta), turned(key, t * theta)
    for pair, at, name, colour in ((query, at_p, f"q at {p}", "blue"), (key, at_t, f"k at {t}", "vermillion")):
        ax.plot([0, pair[0]], [0, pair[1]], color=figures.PALETTE[colour], marker="", linestyle=":", linewidth=1)
        ax.annotate("", at.tolist(), (0, 0), arrowprops={"arrowstyle": "-|>", "color": figures.PALETTE[colour], "linewidth": 2})
        ax.text(*(1.28 * at).tolist(), name, color=figures.PALETTE[colour], ha="center", va="center")
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.2, 1.5), aspect="equal", title=f"q · k = {at_p @ at_t:.2f}", xlabel="first number of the pair")
axes[0].set_ylabel("second number")
figures.show(
    fig,
    caption="One pair of a query and of a key, with frequency 0.35. Dotted: before turning. Left, both at position 0. Middle and right, the key stands two positions further on: other places, the same angle between them, the same score.",
    alt="Three planes with two arrows each. In the middle and on the right the arrows point elsewhere but enclose the same angle, and the dot products in the titles are equal.",
)

# %% [markdown]
r"""

By hand: width 2 has one pair with $\theta_0 = 1$. The row $(1, 0)$ at position 0 stays $(1, 0)$; at position 3 it becomes $(\cos 3, \sin 3) \approx (-0.990, 0.141)$.

### Exercise: `apply_rope`

●●●○○ · 20 minutes · 4 points

- **Task**: turn each pair of *neighbouring* numbers, $(x[0], x[1])$, $(x[2], x[3])$, …, by position times frequency, as above.
- **Input**: `x`, queries or keys, `(..., n, d)` with even $d$, where … stands for any number of batch axes; `start`, the position of the first row, 0 if not given (the next row stands at `start + 1`); `base`.
- **Output**: the turned rows, `(..., n, d)`, each pair where it was.
- **Edge cases**: a single row far into the text (a cache); as many heads as positions. Take the old $a$ and $b$ for both new numbers, and write nothing into `x`.
- **Help**: `hint("apply_rope")`. Your `frequencies` is what you need.
"""

# %% tags=["exercise"] exercise="apply_rope"
from course_lib.models.positions import apply_rope  # course: write out

# %% tags=["check"] exercise="apply_rope"
apply_rope = check("apply_rope")

# %% [markdown]
r"""
Is the wish granted? Put the *same* word at 40 positions. Then a score can depend on nothing but the two places, and if it depends on the offset alone, the table of scores is constant along each diagonal.
"""

# %%
torch.manual_seed(run.seed)
n, d = 40, 32
word = torch.randn(1, d, dtype=torch.float64).expand(n, d)  # (n, d): the same word everywhere
to_q, to_k = (nn.Linear(d, d, bias=False).double() for _ in range(2))
with torch.no_grad():
    placed = SinusoidalPositions()(word)  # (n, d)
    tables = {
        "sinusoids added": to_q(placed) @ to_k(placed).T,  # (n, n)
        "RoPE": apply_rope(to_q(word)) @ apply_rope(to_k(word)).T,  # (n, n)
    }


def along_diagonals(scores: Tensor) -> float:
    """Return by how much the scores of one offset differ at most."""
    diagonals = [scores.diagonal(offset) for offset in range(1 - len(scores), len(scores))]
    return max((each.max() - each.min()).item() for each in diagonals)


fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.5))
for ax, (name, scores) in zip(axes, tables.items()):
    figures.heatmap(ax, scores, xlabel="position t of the key", ylabel="position p of the query", title=name, diverging=True, bar="score")
figures.show(
    fig,
    caption="Scores of one word with itself at 40 positions, with random projections. Added sinusoids (left): the same offset means different scores at different places. RoPE (right): stripes, each offset has one score.",
    alt="Two heat maps of scores. Left, an irregular pattern; right, stripes parallel to the diagonal.",
)

# %% tags=["claim"]
claim(
    "with RoPE the score depends on the offset alone (the largest difference within a diagonal)",
    measured=along_diagonals(tables["RoPE"]),
    at_most=1e-12,
    breaks_when={
        "with sinusoids added": along_diagonals(tables["sinusoids added"]),
        "when only the queries are turned": along_diagonals((apply_rope(to_q(word)) @ to_k(word).T).detach()),
    },
)

# %% [markdown]
r"""
The exercise's pairs are neighbours, as in the paper. Some libraries, among them Hugging Face's Llama, pair $x[i]$ with $x[i + d/2]$ instead: the first half of the vector with the second. It is the same rotation for columns in another order: first all the first numbers of our pairs, then all the second. Weights trained for one order are nonsense in the other, unless the rows of $W_Q$ and $W_K$ are put in order, head by head. Here are both, and the order:
"""

# %%
from course_lib.models.positions import half_split_order  # course: write out


def rope_in_halves(x: Tensor) -> Tensor:
    """RoPE as Llama has it: x · cos + rotate_half(x) · sin, the frequencies written twice."""
    angles = torch.arange(x.shape[-2])[:, None] * frequencies(x.shape[-1], dtype=x.dtype).repeat(2)  # (n, d)
    a, b = x.chunk(2, dim=-1)  # (..., n, d/2) each
    return x * angles.cos() + torch.cat([-b, a], dim=-1) * angles.sin()  # (..., n, d)


# %% tags=["claim"]
print("width 8, order:", half_split_order(8).tolist())
x = torch.randn(2, 3, 20, 8, dtype=torch.float64, generator=run.generator(4))  # (B, h, n, d_head)
order = half_split_order(8)
claim(
    "pairs in halves are pairs of neighbours in another order of the columns",
    measured=(rope_in_halves(x[..., order]) - apply_rope(x)[..., order]).abs().max().item(),
    at_most=1e-12,
    breaks_when={"without the new order": (rope_in_halves(x) - apply_rope(x)).abs().max().item()},
)

# %% [markdown]
r"""
## T5: a number for each distance

If the score is to depend on the offset, one can also just say *how*. Raffel et al. (2020) leave queries and keys as they are and add to the score a learnt number for each head $h$ and offset:

$$s_{pt} = \frac{q_p \cdot k_t}{\sqrt{d_k}} + \beta_{h,\, \text{bucket}(t - p)} .$$

(T5 itself leaves the division out; lesson 15 comes back to that. What is new here is $\beta$.) A number for every offset would be too many, and most would be seen too rarely to be learnt. So offsets are sorted into **buckets**, by default 32 in all. The rule, for one direction with $c$ buckets:

- the first $\varepsilon = \lfloor c/2 \rfloor$ buckets hold one distance each, $0, 1, \dots, \varepsilon - 1$. Near words are told apart exactly;
- the rest divide the distances from $\varepsilon$ to `max_distance` evenly on a *logarithmic* scale: distance $r$ gets bucket

$$\varepsilon + \left\lfloor \frac{\log (r / \varepsilon)}{\log (\text{max\_distance} / \varepsilon)}\, (c - \varepsilon) \right\rfloor ;$$

- the last bucket, $c - 1$, also takes whatever is further away. (With $c = 16$ and `max_distance` 128 it begins at 91.)

In a bidirectional encoder each direction has $c = 16$ of the 32 buckets: keys behind the query and the position itself (offset $\le 0$) the lower half, keys ahead (offset $> 0$) the upper half, from 16 on. Under a causal mask nobody looks ahead, so all $c = 32$ belong to what is behind, and keys ahead count as distance 0.

By hand, bidirectional with the default sizes, $c = 16$, $\varepsilon = 8$: offset $-3$ is bucket 3. Offset $+3$ is bucket $16 + 3 = 19$. Offset $-20$: $\log(20/8) / \log(128/8) \approx 0.330$, times 8 is $2.64$, rounded down 2, so bucket $8 + 2 = 10$.

### Exercise: `relative_bucket`

●●●○○ · 20 minutes · 3 points

- **Task**: the bucket of each offset.
- **Input**: `offset`, whole numbers of any shape `(...)`: position of the key minus position of the query; `n_buckets`, `max_distance`, and `bidirectional`.
- **Output**: whole numbers (int64) in the shape of `offset`.
- **Edge cases**: offset 0; distances beyond `max_distance`; keys ahead in the causal case. The logarithm of 0 is $-\infty$, which is no whole number.
- **Help**: `hint("relative_bucket")`.
"""

# %% tags=["exercise"] exercise="relative_bucket"
from course_lib.models.positions import relative_bucket  # course: write out

# %% tags=["check"] exercise="relative_bucket"
relative_bucket = check("relative_bucket")

# %%
print("offsets −20, −3, 0, 3:", relative_bucket(torch.tensor([-20, -3, 0, 3])).tolist())
reach = torch.arange(-150, 151)
fig, ax = plt.subplots(figsize=(7, 3.2))
for both, name, style in ((True, "bidirectional", "-"), (False, "causal", "--")):
    ax.step(reach, relative_bucket(reach, bidirectional=both), where="mid", marker="", linestyle=style, label=name)
ax.set(xlabel="offset: key position − query position", ylabel="bucket", title="T5's 32 buckets, max_distance 128", yticks=range(0, 33, 8))
ax.legend(loc="center right")
figures.show(
    fig,
    caption="Which bucket an offset falls into. Near 0 each offset has its own; further away the steps grow longer. Causal: all 32 buckets for what is behind.",
    alt="Two step functions of the offset from −150 to 150. The bidirectional one has a fine staircase on both sides of zero that flattens outwards; the causal one falls from 31 to 0 on the left and stays at 0 on the right.",
)

# %% [markdown]
r"""
Now the parts around it. `offsets` is the table of $t - p$; as with causal masks, the last query stands at the last key (the bottom right), so that a cache works. `RelativeBias` holds the numbers. `biased_attention` is lesson 07's `attention` with a sum before the softmax, and `BiasedAttention` fits it into lesson 08's layer: that was what its `attend` was for.
"""

# %%
from course_lib.models.positions import offsets  # course: write out

# %%
from course_lib.models.positions import RelativeBias  # course: write out

# %%
from course_lib.models.positions import biased_attention  # course: write out

# %%
from course_lib.models.positions import BiasedAttention  # course: write out

# %% [markdown]
r"""
A mask is nothing but a bias, of $-\infty$ where a key is hidden and 0 elsewhere; so with such a bias the new function must give what the old one gives with a mask. (It keeps its mask all the same, for rows in which everything is hidden.)
"""

# %% tags=["claim"]
gen = run.generator(7)
q, k, v = (torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=gen) for _ in range(3))  # (B, h, n, d_head) each
mask = causal_mask(7)
forbidding = torch.zeros(7, 7).masked_fill(~mask, -math.inf)  # (n, n)
expected, _ = attention(q, k, v, mask)
claim(
    "a mask is a bias of minus infinity",
    measured=(biased_attention(q, k, v, forbidding)[0] - expected).abs().max().item(),
    at_most=1e-12,
    breaks_when={"a bias of −1 where keys are hidden": (biased_attention(q, k, v, -1.0 * ~mask)[0] - expected).abs().max().item()},
)

# %% [markdown]
r"""
## ALiBi: the further, the fainter

Press et al. (2022) ask for less still: no table, nothing to learn. Each head subtracts from its scores the distance, times a fixed **slope** $\mu_h$:

$$s_{pt} = \frac{q_p \cdot k_t}{\sqrt{d_k}} - \mu_h\, |t - p| .$$

After the softmax that is a factor $e^{-\mu_h |t - p|}$ on every weight (before the row is brought back to sum 1): hearing fades with distance. "Attention with linear biases" has the slopes form a geometric sequence, so that some heads listen to the neighbourhood and some far away. For $h$ heads, $h$ a power of two,

$$\mu_1, \mu_2, \dots, \mu_h = 2^{-8/h},\ 2^{-16/h},\ \dots,\ 2^{-8} .$$

With 8 heads: $\frac12, \frac14, \dots, \frac1{256}$. For a number of heads that is no power of two the authors' code takes all slopes of the largest power of two below, and fills up with the 1st, 3rd, 5th, … slope of twice that power, which lie between. By hand, for 6 heads: the four slopes of 4 heads, $2^{-2}, 2^{-4}, 2^{-6}, 2^{-8}$, then of the eight slopes $2^{-1}, 2^{-2}, 2^{-3}, \dots$ the first and the third, $2^{-1}$ and $2^{-3}$.

### Exercise: `alibi_bias`

●●○○○ · 15 minutes · 3 points

- **Task**: two functions. `alibi_slopes(n_heads)` gives the slopes, in the order of the text; `alibi_bias(n_heads, n_q, n_k, device)` what is added to the scores.
- **Input**: the number of heads, of queries and of keys (as many as queries if `n_k` is None), and the device.
- **Output**: a list of floats; a float32 tensor `(h, n_q, n_k)` on `device`.
- **Edge cases**: one head; numbers of heads that are no powers of two; more keys than queries (`offsets` knows where the queries stand). Keys ahead are as far as keys behind: hiding them is the mask's business.
- **Help**: `hint("alibi_bias")`. `alibi_slopes` may call itself.
"""

# %% tags=["exercise"] exercise="alibi_bias"
from course_lib.models.positions import alibi_slopes  # course: write out
from course_lib.models.positions import alibi_bias  # course: write out

# %% tags=["check"] exercise="alibi_bias"
alibi_slopes, alibi_bias = check("alibi_bias")

# %%
print("slopes of 6 heads:", alibi_slopes(6))
fading = torch.exp(alibi_bias(8, 1, 513)[:, 0, :-1].flip(-1))  # (8, 512): head, distance 1, 2, …
fig, ax = plt.subplots(figsize=(7, 3.2))
for head, slope in enumerate(alibi_slopes(8)):
    ax.plot(range(1, 513), fading[head], marker="", color=figures.PALETTE["blue"])
    ax.text(math.log(2) / slope, 0.5, f" {head + 1}", va="bottom", weight="bold")  # where half is left
ax.set_xscale("log", base=2)
ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
ax.axhline(0.5, color=figures.PALETTE["grey"], linestyle="--", marker="", linewidth=1)
ax.set(xlabel="distance |t − p| (positions)", ylabel="factor on the weight", title="ALiBi with 8 heads", ylim=(0, 1.05), xlim=(1, 512))
figures.show(
    fig,
    caption="By which factor the bias fades a key, heads 1 to 8. Every head reaches twice as far as the one before: head 1 hears half as loudly (dashed) at 1.4 positions, head 8 at 177.",
    alt="Eight falling curves over distance on a logarithmic axis, equally spaced and of the same shape.",
)

# %% [markdown]
r"""
## Five encodings, one layer

| | what it changes | parameters | knows | beyond the trained length |
|---|---|---|---|---|
| learned | adds a row to each vector, before the first layer | $d$ for each position | the place | no row, or one that was never trained |
| sinusoidal | adds $e_p$ to each vector, before the first layer | 0 | the place | defined, never seen |
| RoPE | turns queries and keys, in each layer | 0 | the offset | defined, offsets never seen |
| T5 bias | adds $\beta$ to the scores, in each layer | $h$ for each bucket | the offset's bucket | the last bucket |
| ALiBi | subtracts $\mu_h$ · distance from the scores, in each layer | 0 | the distance | the same rule |

Lesson 08's layer has a place for each relative one: `rotate` changes queries and keys, `attend` is what the heads do. Absolute positions are added before it.
"""

# %%
def positions_for(encoding: str, d_model: int, n_heads: int, max_len: int, trained: int) -> tuple[nn.Module, dict]:
    """Return what adds positions to the vectors, and what a MultiHeadAttention is told about positions."""
    if encoding == "none":
        return nn.Identity(), {}
    if encoding == "learned":
        return LearnedPositions(max_len, d_model, std=1.0), {}  # of the size of the character vectors
    if encoding == "sinusoidal":
        return SinusoidalPositions(), {}
    if encoding == "RoPE":
        return nn.Identity(), {"rotate": apply_rope}
    if encoding == "T5 bias":
        bias = RelativeBias(n_heads, n_buckets=16, max_distance=trained // 2, bidirectional=False)
        return nn.Identity(), {"attend": BiasedAttention(bias)}  # one table for all layers, as in T5
    if encoding == "ALiBi":
        return nn.Identity(), {"attend": BiasedAttention(partial(alibi_bias, n_heads))}
    raise ValueError(f"There is no encoding called {encoding}.")


# %% [markdown]
r"""
All must work with a cache, which hands the layer one row at a time: the row's position is no longer its number in the tensor. The layer tells `rotate` where the first row stands, and `offsets` counts from the bottom right. Read a text at once and token by token, and compare:
"""

# %% tags=["claim"]
def cached_difference(**told: Callable) -> float:
    """Return how far a layer's outputs with a cache, token by token, are from those of the whole text."""
    torch.manual_seed(run.seed)
    layer = MultiHeadAttention(24, 6, 2, **told).double()
    x = torch.randn(2, 20, 24, dtype=torch.float64, generator=run.generator(5))  # (B, n, d)
    cache = KVCache.for_layer(layer, batch=2, max_len=20)
    with torch.no_grad():
        at_once, _ = layer(x, mask=causal_mask(20))  # (B, n, d)
        one_by_one = torch.cat([layer(row, mask=causal_mask(1, i + 1), cache=cache)[0] for i, row in enumerate(x.split(1, dim=1))], dim=1)
    return (one_by_one - at_once).abs().max().item()


told = {name: positions_for(name, 24, 6, 20, 20)[1] for name in ("RoPE", "T5 bias", "ALiBi")}
claim(
    "RoPE, T5's bias and ALiBi give the same with a cache, token by token, as at once (the largest difference)",
    measured=max(cached_difference(**each) for each in told.values()),
    at_most=1e-12,
    breaks_when={"RoPE that begins at position 0 each time": cached_difference(rotate=lambda x, start: apply_rope(x))},
)

# %% [markdown]
r"""
## Beyond the trained length

Training on long texts is dear: the cost grows with $n^2$. Can one train on short ones and read long ones? Here is one small causal language model for each encoding, and one without positions, the same in everything else: two layers of four heads, width 64, on the characters of Python's own manual (lessons 07 and 08 used it, too). All are trained on windows of 32 characters and nothing longer. Then they read windows of 32, 48, 64 and 128.

To compare like with like, all windows *end at the same places*, and only their last 16 characters are scored, in **bits per character** (the mean of $-\log_2$ of the probability given to the right one; less is better). So the same characters are predicted at each length, and a longer window gives more text before them. A model that can use it should not get worse.

The learned table has rows for all 128 positions; those from 32 on are never trained and stay as they were drawn, with the size of the character vectors. T5's bias gets 16 buckets and a `max_distance` of 16, so that its last bucket was trained on distances up to 31. (T5 itself was trained on 512 tokens, with a `max_distance` of 128.)
"""

# %%
predict(
    "extrapolation",
    "RoPE is computed for any position and knows offsets only. It is trained on 32 characters. What happens at 128?",
    ["It stays as good: only offsets matter", "It gets a little worse", "It gets much worse"],
    answer=2,
    because="Only offsets matter, but at 128 characters there are offsets from 32 to 127, which no query and key ever had in training.",
)

# %%
TRAINED, SCORED = 32, 16
LENGTHS = (32, 48, 64, 128)
ENCODINGS = ("learned", "sinusoidal", "RoPE", "T5 bias", "ALiBi")


def split_text(corpus: str) -> tuple[Tensor, Tensor, int]:
    """Return the characters' numbers of the first nine tenths and of the last, and how many characters there are."""
    alphabet = {character: i for i, character in enumerate(sorted(set(corpus)))}
    ids = torch.tensor([alphabet[character] for character in corpus])  # (characters,)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(alphabet)


class NextCharacter(nn.Module):
    """Guess the next character with two causal layers and one of the encodings."""

    def __init__(self, size: int, encoding: str, d_model: int = 64, n_heads: int = 4) -> None:
        super().__init__()
        self.character = nn.Embedding(size, d_model)  # entries of size 1
        self.add, told = positions_for(encoding, d_model, n_heads, max(LENGTHS), TRAINED)
        self.layers = nn.ModuleList(MultiHeadAttention(d_model, n_heads, **told) for _ in range(2))
        self.guess = nn.Linear(d_model, size)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = causal_mask(ids.shape[1], device=ids.device) if mask is None else mask  # (n, n)
        x = self.add(self.character(ids))  # (B, n, d)
        for layer in self.layers:
            x = x + layer(x, mask=mask)[0]  # (B, n, d)
        return self.guess(x)  # (B, n, size)


def train_characters(train: Tensor, size: int, encoding: str, steps: int) -> NextCharacter:
    """Train a model on random windows of 32 characters."""
    torch.manual_seed(run.seed)
    model = NextCharacter(size, encoding).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    generator = run.generator(6)
    for _ in progress(range(steps), desc=encoding):
        begin = torch.randint(len(train) - TRAINED, (32, 1), generator=generator)
        window = train[begin + torch.arange(TRAINED + 1)].to(run.device)  # (32, 33)
        with run.autocast():
            logits = model(window[:, :-1])  # (32, 32, size)
        loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def bits_at_the_end(model: NextCharacter, test: Tensor, length: int, hears: Callable[[Tensor], Tensor] | None = None) -> float:
    """Return the bits per character of the last 16 of windows of a length; `hears` tells by distance which keys are heard."""
    ends = torch.linspace(max(LENGTHS), len(test) - 2, run.pick(smoke=20, standard=400, full=2000)).long()
    windows = test[ends[:, None] - length + torch.arange(length + 1)].to(run.device)  # (windows, length + 1)
    mask = causal_mask(length, device=run.device)
    if hears is not None:
        mask = mask & hears(-offsets(length, device=run.device))  # (n, n)
    losses = []
    with torch.no_grad():
        for some in windows.split(50):
            logits = model(some[:, :-1], mask)[:, -SCORED:]  # (50, 16, size)
            losses.append(F.cross_entropy(logits.transpose(1, 2), some[:, -SCORED:], reduction="none"))
    return torch.cat(losses).mean().item() / math.log(2)


# %% tags=["experiment"]
train, test, size = split_text(text.python_manual().text)
character_steps = run.pick(smoke=4, standard=300, full=4000)
readers = {name: train_characters(train, size, name, character_steps) for name in (*ENCODINGS, "none")}
bits = {name: [bits_at_the_end(model, test, n) for n in LENGTHS] for name, model in readers.items()}
print("window      " + "".join(f"{n:>8}" for n in LENGTHS))
for name, values in bits.items():
    print(f"{name:<12}" + "".join(f"{each:8.2f}" for each in values))


# %%
def pair_bits(train: Tensor, test: Tensor, size: int) -> float:
    """Return the bits per character, on the same characters, of counts of pairs (0.1 added to each)."""
    counts = torch.full((size, size), 0.1)  # (size, size): the character before, the character
    counts.index_put_((train[:-1], train[1:]), torch.ones(len(train) - 1), accumulate=True)
    ends = torch.linspace(max(LENGTHS), len(test) - 2, run.pick(smoke=20, standard=400, full=2000)).long()
    at = ends[:, None] - SCORED + torch.arange(SCORED)  # (windows, 16)
    return -(counts / counts.sum(-1, keepdim=True))[test[at], test[at + 1]].log2().mean().item()


bigram = pair_bits(train, test, size)
print(f"bigram counts: {bigram:.2f} bits per character")
# %%
fig, ax = plt.subplots(figsize=(7, 3.8))
figures.lines(ax, LENGTHS, bits, xlabel="length of the window (characters)", ylabel="bits per character", title="Trained on 32 characters", log="x")
ax.axhline(bigram, color=figures.PALETTE["grey"], linestyle=":", marker="", linewidth=1.4, label="bigram counts")
ax.axvline(TRAINED, color=figures.PALETTE["grey"], linestyle="--", marker="", linewidth=1)
ax.set_xticks(LENGTHS)
ax.minorticks_off()
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figures.show(
    fig,
    caption="The same characters predicted from windows of different lengths. Dashed: the length of training. There each encoding is worth something: without positions the model does worse. Beyond it learned rows, sinusoids and RoPE break; at 128 characters they do worse than counts of pairs, which know one character back. T5's bias rises a little, ALiBi hardly at all.",
    alt="Bits per character against window length from 32 to 128 for five encodings and none. Learned, sinusoidal and RoPE rise steeply beyond 32, above the dotted line of bigram counts; T5 bias and ALiBi stay nearly flat below it; without positions the line lies between.",
)

# %%
rise = {name: values[-1] - values[0] for name, values in bits.items()}
print("from 32 to 128 characters:", {name: round(each, 2) for name, each in rise.items()})

# %% tags=["claim"]
claim(
    "ALiBi reads four times the trained length almost as well as the trained one (rise in bits per character)",
    measured=rise["ALiBi"],
    at_most=0.1,
    breaks_when={name: rise[name] for name in ("learned", "sinusoidal", "RoPE")},
)
claim(
    "T5's bias gets worse only a little",
    measured=rise["T5 bias"],
    at_most=0.3,
    breaks_when={name: rise[name] for name in ("learned", "sinusoidal", "RoPE")},
)
claim(
    "at four times the trained length learned rows, sinusoids and RoPE do worse than counting pairs of characters (the best of them minus the counts)",
    measured=min(bits[name][-1] for name in ("learned", "sinusoidal", "RoPE")) - bigram,
    at_least=0.3,
    breaks_when={name: bits[name][-1] - bigram for name in ("T5 bias", "ALiBi")},
)
claim(
    "at the trained length each of the five is better than no positions (no positions minus the worst of the five)",
    measured=bits["none"][0] - max(bits[name][0] for name in ENCODINGS),
    at_least=0.2,
    breaks_when={"counts of pairs, in place of the five": bits["none"][0] - bigram},
)
claim(
    "at the trained length RoPE needs fewer bits than ALiBi (RoPE minus ALiBi)",
    measured=bits["RoPE"][0] - bits["ALiBi"][0],
    at_most=-0.2,
    breaks_when={"at four times that length": bits["RoPE"][-1] - bits["ALiBi"][-1]},
)

# %% [markdown]
r"""
ALiBi *prescribes* how hearing fades with distance, T5 leaves it to training. What did it learn? Here are the numbers $\beta$ that each of the four heads adds to its scores, next to what ALiBi's four heads subtract:
"""

# %%
far = torch.arange(25)
with torch.no_grad():
    learnt = readers["T5 bias"].layers[0].attend.bias(1, 25)[:, 0].flip(-1).cpu()  # (h, 25): head, distance
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, table, title in ((axes[0], learnt, "T5 bias, learnt"), (axes[1], alibi_bias(4, 1, 25)[:, 0].flip(-1), "ALiBi, prescribed")):
    figures.lines(ax, far, {f"head {i + 1}": row for i, row in enumerate(table)}, xlabel="distance (characters)", ylabel="added to the score", title=title)
    for line, style in zip(ax.lines, ("-", "--", "-.", ":")):
        line.set(marker="", linestyle=style)
    ax.get_legend().remove()
axes[1].set_ylabel("")
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
figures.show(
    fig,
    caption="What is added to the scores by distance. T5's heads have chosen curves of their own, which favour the nearest characters; from distance 15 on they are flat, since all further distances share a bucket. ALiBi's are straight and go on falling.",
    alt="Left, four irregular curves over distance, highest at a few characters and constant from 15 on. Right, four straight falling lines of different slopes.",
)


# %% tags=["claim"]
def prefers_near(table: Tensor) -> float:
    """Return by how much the bias at distances 1 to 3 exceeds that of the last bucket, on average over the heads."""
    return (table[:, 1:4].mean() - table[:, -1].mean()).item()


with torch.no_grad():
    torch.manual_seed(run.seed)
    as_drawn = RelativeBias(4, 16, 16, bidirectional=False)(1, 25)[:, 0].flip(-1)  # (h, 25)
claim(
    "nobody told T5's heads so, but they learn to favour near characters (bias at 1 to 3 minus that from 15 on)",
    measured=prefers_near(learnt),
    at_least=1.0,
    breaks_when={"before training": prefers_near(as_drawn)},
)

# %% [markdown]
r"""
The learned table fails for a plain reason: its new rows are noise. Sinusoids are defined at place 100, and the network has never met such a vector. RoPE's failure is less plain: its scores depend on the offset alone, so where is the problem? The answer given in *predict* was a guess about the cause. Test it.

### A test of the explanation

If the cause is unseen *offsets*, then hide them: let each query hear only the 31 keys before it and itself, whatever the length. No retraining, just a mask, a band along the diagonal:

$$\text{may attend} \iff 0 \le p - t < 32 .$$

For RoPE every offset is then one that training has seen. For sinusoids and learned rows it should help nothing: their *places* are still new.
"""

# %%
predict(
    "band",
    "Keys 32 or more positions away are hidden. Who is repaired at 128 characters?",
    ["All three that broke", "RoPE alone", "Nobody: the damage is in the weights"],
    answer=1,
    because="Within the band RoPE meets no offset that it was not trained on. Places beyond 32 stay unknown to the absolute encodings.",
)

# %% tags=["experiment"]
banded = {name: [bits_at_the_end(model, test, n, hears=lambda distance: distance < TRAINED) for n in LENGTHS] for name, model in readers.items()}
still = {name: values[-1] - bits[name][0] for name, values in banded.items()}
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
for ax, series, title in ((axes[0], bits, "All keys are heard"), (axes[1], banded, "Only the last 32 keys are heard")):
    figures.lines(ax, LENGTHS, series, xlabel="length of the window (characters)", ylabel="bits per character", title=title, log="x")
    ax.set_xticks(LENGTHS)
    ax.minorticks_off()
    ax.get_legend().remove()
axes[1].set_ylabel("")
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
figures.show(
    fig,
    caption="Left, as above. Right, the same models behind a band: RoPE is repaired, learned rows and sinusoids are not. T5's small rise is gone, too.",
    alt="Two panels of bits per character against window length. Left, learned, sinusoidal and RoPE rise steeply. Right, all but learned and sinusoidal are flat, and these rise as before.",
)

# %% tags=["claim"]
claim(
    "behind the band RoPE is as good at 128 characters as at 32 (rise in bits)",
    measured=still["RoPE"],
    at_most=0.05,
    breaks_when={"RoPE without the band": rise["RoPE"], "sinusoids behind the band": still["sinusoidal"], "learned rows behind the band": still["learned"]},
)

# %% [markdown]
r"""
The band has changed two things, though: no offset is new, and no query hears more than 32 keys. More keys to spread the weights over are a change, too. So give RoPE 32 keys again, but half of them new: the nearest 16, and the 16 at distances 32 to 47.
"""

# %% tags=["experiment"]
def half_of_them_new(distance: Tensor) -> Tensor:
    """Hear 32 keys: 16 nearby, and 16 further away than any in training."""
    return (distance < 16) | ((distance >= TRAINED) & (distance < TRAINED + 16))


exchanged = {name: bits_at_the_end(readers[name], test, 128, half_of_them_new) - bits[name][0] for name in ("RoPE", "T5 bias")}
nearest = bits_at_the_end(readers["RoPE"], test, 128, lambda distance: distance < 16) - bits["RoPE"][0]
print("rise in bits with 16 new offsets among 32:", {name: round(each, 2) for name, each in exchanged.items()})
print(f"RoPE with the nearest 16 alone: {nearest:.2f}")

# %% tags=["claim"]
claim(
    "it is the unseen offsets: with no more keys than in training, half of them at new distances, RoPE breaks (rise in bits)",
    measured=exchanged["RoPE"],
    at_least=0.6,
    breaks_when={"RoPE with the 32 nearest keys": still["RoPE"], "RoPE with the 16 nearest alone": nearest, "T5's bias with the same keys": exchanged["T5 bias"]},
)

# %% [markdown]
r"""
**Your turn.** Choose an encoding and a band. How wide may it be before RoPE breaks? How narrow may it be before RoPE suffers at 32 characters?
"""

# %%
which, width = "RoPE", 40  # change these: one of ENCODINGS, and a number from 1 to 128
print(which, "band", width, {n: round(bits_at_the_end(readers[which], test, n, lambda distance: distance < width), 2) for n in LENGTHS})

# %% tags=["claim"]
narrow = {width: bits_at_the_end(readers["RoPE"], test, TRAINED, lambda distance, width=width: distance < width) - bits["RoPE"][0] for width in (2, 8)}
claim(
    "at 32 characters a band of 8 keys costs RoPE little (rise in bits)",
    measured=narrow[8],
    at_most=0.15,
    breaks_when={"a band of 2 keys": narrow[2]},
)

# %% [markdown]
r"""
*Answers.* RoPE bears a few positions more than 32, and soon after that it breaks. And even 8 keys are nearly enough: models this small, trained this briefly, live on the last few characters. So the band costs them nothing, and a longer window could hardly help them. To extrapolate, here, means not to break.

A larger model would pay for the band: nobody hears what lies further back (with two layers, 62 characters back, through a go-between). Models that must use all of a long text are therefore trained again, briefly, on longer ones. For RoPE one first slows the rotation, so that the new positions fall between the old angles (Chen et al. 2023: *position interpolation*).

And at full size? Press et al. (2022, figure 1) trained on WikiText-103 with 512 and 1024 tokens: with longer inputs sinusoids got worse at once, RoPE and T5's bias later, ALiBi did not. Their ALiBi model of 1.3 billion parameters, trained on 1024 tokens, was as good on 2048 as one with sinusoids that was trained on 2048.

Extrapolating is not everything, though: at the length of training our RoPE is better than our ALiBi. GPT-2 and BERT have learned rows; T5 its bias; BLOOM ALiBi; GPT-J, GPT-NeoX and the Llama models RoPE.

## What it costs, and where it breaks

Nothing here is dear. For a text of $n$ positions, width $d$, $h$ heads and $L$ layers: added positions take $nd$ additions once; RoPE $4nd$ multiplications a layer for queries and keys together, against $4nd^2$ for the projections; a bias $hn^2$ additions a layer, as many as there are weights. A bias also keeps fast kernels from working unless they know about it (lesson 22). Parameters, for our five readers:
"""

# %% tags=["nbval-check-output"]
for name in ENCODINGS:
    added, told = positions_for(name, 64, 4, max_len=128, trained=32)
    modules = [added, *(each for each in told.values() if isinstance(each, nn.Module))]
    print(f"{name:<12}{sum(p.numel() for module in modules for p in module.parameters()):>6,} parameters")

# %% [markdown]
r"""
**Low precision.** Accelerators compute in bfloat16, which keeps 8 binary digits of a number. Whole numbers above 256 do not all fit:
"""

# %% tags=["nbval-check-output"]
print(torch.tensor([255, 256, 257, 258, 259]).bfloat16().tolist())

# %% [markdown]
r"""
Positions written in bfloat16 make neighbours equal, and at 1000 groups of four, and no error message tells you. That is why the course's `apply_rope` computes angles in float32 at least, whatever its input is, and only then rounds cosine and sine. (In very long texts even that rounding harms RoPE: Wang et al. 2024.)
"""

# %% tags=["claim"]
def hand_at(position: int, dtype: torch.dtype) -> Tensor:
    """Return (1, 0) turned by the position, in bfloat16; `dtype` is that of the angle."""
    angle = torch.tensor(position, dtype=dtype)
    return torch.stack([angle.cos(), angle.sin()]).bfloat16()  # (2,)


claim(
    "with angles in float32 a bfloat16 vector tells positions 256 and 257 apart (their distance)",
    measured=(hand_at(257, torch.float32) - hand_at(256, torch.float32)).float().norm().item(),
    at_least=0.9,
    breaks_when={"with angles in bfloat16": (hand_at(257, torch.bfloat16) - hand_at(256, torch.bfloat16)).float().norm().item()},
)

# %% [markdown]
r"""
**Padding in front.** Positions count from the first row of the tensor. Pad short texts at the *end*, as this course does; with padding in front every absolute place is shifted by another number in each text. Relative encodings do not mind.

**Absolute or relative to what?** All five know the order of *tokens*. A picture has two directions and a molecule none; lessons 23 and 24 come back to that.

## Real text: Shakespeare

The manual was real text already. If you have fetched Karpathy's *tinyshakespeare* with `course data fetch tinyshakespeare`, the same experiment runs on plays, for RoPE and ALiBi. For comparison, nanoGPT's published recipe for a small GPT on a CPU, four layers of four heads with learned positions, trained and tested on windows of 64 characters, ends near 1.88 nats $= 2.71$ bits per character (Karpathy 2022).
"""

# %% tags=["nbval-ignore-output"]
plays = registry.load_or_none("tinyshakespeare")
if plays is not None:
    acts, last_act, letters = split_text(plays[:400_000])
    print(f"bigram counts {pair_bits(acts, last_act, letters):.2f}")
    for name in ("RoPE", "ALiBi"):
        model = train_characters(acts, letters, name, character_steps)
        print(name, {n: round(bits_at_the_end(model, last_act, n), 2) for n in LENGTHS}, "bits per character")

# %% [markdown]
r"""
## Recap

- Without positions and without a mask, attention answers the same for every order: chance, proved and measured. A causal mask leaks order, through the number of keys heard.
- Sinusoids are hands of clocks with frequencies $10{,}000^{-2i/d}$. A shift turns every hand by a fixed angle: one matrix for all positions.
- Added positions mix with words in the scores. RoPE turns queries and keys by their positions, so that only the difference is left: $R_p R_t^\top = R_{p-t}$.
- T5 adds a learnt number for each bucket of offsets, ALiBi subtracts a slope times the distance. Both go into lesson 08's layer as `attend`, RoPE as `rotate`.
- Trained on 32 characters and read at 128: ALiBi holds, T5's bias nearly does, learned rows, sinusoids and RoPE break. Behind a band of 32 keys RoPE holds, too: its trouble is offsets that it has never seen.

**If you want more.** (1) In `positions_for`, let T5's `max_distance` be 128, so that some buckets are never trained. What happens at 128 characters, and at which length does it begin? (2) Draw the learned rows with `std=0.02`. They break less. Why? And how good are they at 32? (3) Divide all frequencies by 4 when a RoPE model reads 128 characters (position interpolation, without the retraining that belongs to it). Which offsets has it now seen, and which not? (4) In `half_of_them_new`, move the 16 far keys further away. Do all unseen offsets harm alike?

## Glossary

| word | meaning |
|---|---|
| permutation matrix | reorders the rows of what it is multiplied with |
| absolute, relative encoding | knows where a token stands; knows how far apart two tokens are |
| frequency $\theta_i$, base | the angle by which pair $i$ turns from one position to the next, $\text{base}^{-2i/d}$; the base, 10,000 in the papers, sets the slowest |
| offset | position of the key minus position of the query |
| RoPE | rotary position embedding: queries and keys turned by their positions |
| bucket | a group of offsets that share a learnt number (T5) |
| slope $\mu_h$ | how much head $h$'s scores fall with each step of distance (ALiBi) |
| length extrapolation | reading texts longer than those of training |
| band | a mask that shows the nearest keys only (also: sliding window) |

## Sources

- A. Vaswani et al. (2017), *Attention Is All You Need*, NeurIPS. Section 3.5 (sinusoids, the linear shift).
- J. Gehring et al. (2017), *Convolutional Sequence to Sequence Learning*, ICML. Section 3.1 (learned positions).
- J. Su et al. (2021), *RoFormer: Enhanced Transformer with Rotary Position Embedding*. Sections 3.2 and 3.4.
- C. Raffel et al. (2020), *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer*, JMLR. Section 2.1 (relative bias); the rule for buckets is that of its code.
- O. Press, N. Smith, M. Lewis (2022), *Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation*, ICLR. Section 3, figure 1; slopes for other numbers of heads as in its code.
- A. Haviv et al. (2022), *Transformer Language Models without Positional Encodings Still Learn Positional Information*, Findings of EMNLP.
- S. Chen et al. (2023), *Extending Context Window of Large Language Models via Positional Interpolation*.
- H. Wang et al. (2024), *When Precision Meets Position: BFloat16 Breaks Down RoPE in Long-Context Training*.
- A. Karpathy (2022), *nanoGPT*, readme: the small-CPU recipe and its loss.
"""
