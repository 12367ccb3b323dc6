# %% [markdown]
r"""
# 10 · Transformer block

**Communicate, then compute.**

Attention lets words hear each other. A transformer is made of many layers of it, and if you simply put them one behind the other it does not learn. This lesson adds what is missing: a
stream that runs through all layers, a norm that keeps it in size, and a network in which each word thinks for itself. At the end you will

- know why a bare stack of attention fails, and what a residual connection does to the gradient, path by path;
- derive the Jacobian of LayerNorm, see that it is a projection, and say what it can and cannot feel;
- have a `TransformerBlock`, pre- and post-norm, that agrees with PyTorch's in outputs, masks and gradients;
- know from measurements why deep post-norm models do not train without care, which care they need, and what each part of the block is worth;
- count a block's parameters and operations without making one.

You need `MultiHeadAttention` and its masks (lesson 08) and the sinusoids of lesson 09; from lesson 02 the gradient of a composition. About two hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import math
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float  # noqa: F401
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib import figures, widgets
from course_lib.data import registry, text
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.block import draw_blocks
from course_lib.figures.course_map import show_course_map
from course_lib.models.attention import attention, causal_mask, padding_mask  # noqa: F401
from course_lib.models.multi_head import KVCache, MultiHeadAttention  # noqa: F401
from course_lib.models.positions import SinusoidalPositions, apply_rope
from course_lib.runtime import progress, start

run = start(lesson=10, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=10)

# %% [markdown]
r"""
## The question

One layer of attention is not much of a reader. The obvious next step is to put several one behind the other: the second layer hears what the first has heard. So take lesson 08's layer, stack it 1, 2, 4 and 8 times, and let each stack learn the texts of Riverbank,
character by character. A character's vector gets its position added (lesson 09), passes through the layers, and a last matrix turns it into a guess at the next character.

The measure is **bits per character**, the mean of $-\log_2$ of the probability given to the right one. Whoever knows only how often each character occurs needs the **unigram entropy** $-\sum_c p_c \log_2 p_c$, where $p_c$ is the share of character $c$. A model that gets stuck *there* has learnt nothing from what stands before.
"""

# %%
WINDOW = 32  # characters that a model sees
town_text = "\n".join(each.text for each in Town().documents(run.pick(smoke=60, standard=800, full=20_000), seed=run.seed))
alphabet = sorted(set(town_text))
town_ids = torch.tensor([alphabet.index(character) for character in town_text])  # (characters,)


def entropy_of(ids: Tensor) -> float:
    """Return the unigram entropy of a text in bits."""
    p = ids.bincount().double() / len(ids)  # (alphabet,)
    return -(p * p.clamp(min=1e-300).log2()).sum().item()


unigram = entropy_of(town_ids)
print(f"{len(town_ids):,} characters, {len(alphabet)} different ones, unigram entropy {unigram:.3f} bits; for example:")
print(town_text[:120])


# %%
class Writer(nn.Module):
    """Guess each next character: a vector and its position, some layers, perhaps a norm, a last matrix."""

    def __init__(self, layers: list[nn.Module], final: nn.Module | None = None, size: int = len(alphabet)) -> None:
        super().__init__()
        self.character, self.positions = nn.Embedding(size, 64), SinusoidalPositions()
        self.layers = nn.ModuleList(layers)
        self.final = nn.Identity() if final is None else final
        self.guess = nn.Linear(64, size)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.positions(self.character(ids))  # (B, n, d)
        mask = causal_mask(ids.shape[1], device=ids.device)  # (n, n)
        for layer in self.layers:
            x = layer(x, mask)  # (B, n, d)
        return self.guess(self.final(x))  # (B, n, size)


class JustAttention(nn.Module):
    """Lesson 08's layer and nothing else."""

    def __init__(self, d_model: int = 64, n_heads: int = 4) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, n_heads)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, mask=mask)[0]  # (B, n, d)


# %% [markdown]
r"""
How large should the weights be at the start? Let a layer of $m$ inputs compute $y = \sum_{i=1}^{m} w_i x_i$ with independent weights of mean 0 and variance $s^2$. Then $\operatorname{Var} y = s^2 \sum_i x_i^2$, so with $s = 1/\sqrt{m}$ the output is as large as the input. The function `initialise` draws all weights so (its code stands in the section *Initialisation*); all models of this lesson start from it.
"""

# %%
from course_lib.models.block import initialise


def draw_windows(ids: Tensor, batch: int, window: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random windows of a text, and the characters that follow each of theirs, (batch, window) each."""
    begin = torch.randint(len(ids) - window, (batch, 1), generator=generator)
    windows = ids[begin + torch.arange(window + 1)].to(run.device)  # (batch, window + 1)
    return windows[:, :-1], windows[:, 1:]


def learn(model: nn.Module, steps: int, name: str, rate: float = 1e-3, warm_up: int = 0, seed: int = run.seed) -> list[float]:
    """Train on Riverbank with Adam; return the bits per character at each step. The rate rises over `warm_up` steps."""
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.Adam(model.to(run.device).parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warm_up)))
    bits = []
    for _ in progress(range(steps), desc=name):
        seen, following = draw_windows(town_ids, 8, WINDOW, generator)
        loss = F.cross_entropy(model(seen).flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bits.append(loss.item() / math.log(2))
    return bits


def last(bits: list[float]) -> float:
    """Return the mean over the last fifth of a training."""
    fifth = bits[-max(1, len(bits) // 5) :]
    return sum(fifth) / len(fifth)


# %%
predict(
    "stack",
    "One, two, four and eight layers of attention, one behind the other, after the same number of steps: which needs the fewest bits per character?",
    ["One", "Two", "Four", "Eight: the deeper, the better"],
    answer=0,
    because="Each layer replaces every vector by averages of the vectors before it. Averages of averages of averages are all alike: what a character was is soon forgotten.",
)

# %% tags=["experiment"]
bare_steps, depths_bare = run.pick(smoke=4, standard=120, full=2000), (1, 2, 4, 8)
bare_bits = {}
for depth in depths_bare:
    torch.manual_seed(run.seed)
    model = Writer([JustAttention() for _ in range(depth)])
    initialise(model)
    bare_bits[depth] = last(learn(model, bare_steps, f"{depth} layers"))
print("bits per character by number of layers:", {depth: round(bits, 2) for depth, bits in bare_bits.items()})


# %% tags=["claim"]
claim(
    "eight bare layers of attention do not get away from the unigram entropy (bits above or below it)",
    measured=abs(bare_bits[8] - unigram),
    at_most=0.15,
    breaks_when={"one layer": abs(bare_bits[1] - unigram)},
)

# %% [markdown]
"""
More layers, worse guesses. To see what happens inside, look at eight layers before any training: how alike are the vectors of different positions, layer by layer? (Cosine 1: they point the same way.)
"""


# %%
def alike(x: Tensor) -> float:
    """Return the mean cosine between the vectors of different positions, after subtracting each vector's mean."""
    unit = F.normalize(x - x.mean(-1, keepdim=True), dim=-1)  # (B, n, d)
    cosines = unit @ unit.transpose(1, 2)  # (B, n, n)
    n = x.shape[1]
    return ((cosines.sum((1, 2)) - n) / (n * (n - 1))).mean().item()


def inside(model: Writer, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Return the stream before the first and behind each layer, and the gradient of the loss for each of them."""
    seen, following = draw_windows(town_ids, 8, WINDOW, torch.Generator().manual_seed(seed))
    model.to(run.device)
    stream = [model.positions(model.character(seen))]  # (B, n, d) each
    mask = causal_mask(WINDOW, device=run.device)
    for layer in model.layers:
        stream.append(layer(stream[-1], mask))
    loss = F.cross_entropy(model.guess(model.final(stream[-1])).flatten(0, 1), following.flatten())
    return stream, list(torch.autograd.grad(loss, stream))


torch.manual_seed(run.seed)
model = Writer([JustAttention() for _ in range(8)])
initialise(model)
stream, _ = inside(model)
print("behind layer ", "  ".join(f"{i:>4}" for i in range(9)))
print("mean cosine  ", "  ".join(f"{alike(x):4.2f}" for x in stream))

# %% tags=["claim"]
claim(
    "behind eight bare layers all positions say nearly the same (mean cosine between them)",
    measured=alike(stream[-1]),
    at_least=0.9,
    breaks_when={"before the first layer": alike(stream[0])},
)

# %% [markdown]
r"""
Behind the last layer all positions of a text hold *one* vector. (Dong et al. 2021 prove, for weights of bounded size, that pure attention goes there doubly exponentially with depth.) What a character was, and where it stood, has been averaged away, and from a vector that is the same everywhere one can only guess the same everywhere: by frequency.

## The residual stream

The cure is one plus sign. Let a layer not *replace* the vectors but *add* to them:

$$x_{l+1} = x_l + f_l(x_l) .$$

This is a **residual connection** (He et al. 2016), and $x_0, x_1, x_2, \dots$ is called the **residual stream**: it runs from the first embedding to the last guess, and every layer reads from it and writes to it. What a character was stays in the stream until something subtracts it.

What happens to the gradient? Let $g_l = \partial \text{loss} / \partial x_l$ be the gradient at depth $l$, a row vector, and $J_l$ the Jacobian of $f_l$ (vectors are rows, and $\delta$ stands for a small change: $\delta f_l = \delta x_l\, J_l^\top$, so $\delta x_{l+1} = \delta x_l\,(I + J_l^\top)$). The chain rule goes backwards through both summands, so $g_l = g_{l+1}(I + J_l)$ and over $L$ layers

$$g_0 = g_L\,(I + J_{L-1}) \cdots (I + J_1)(I + J_0) = g_L\Big(I + \sum_l J_l + \sum_{k > l} J_k J_l + \dots + J_{L-1} \cdots J_0\Big) .$$

Multiply out: each bracket offers the way *around* a layer ($I$) or *through* it ($J_l$), so there are $2^L$ paths (Veit et al. 2016). Without the plus sign only the last one exists, the path through everything. If each $J_l$ shrinks a gradient by the factor $c < 1$, that path leaves $c^L$. With the plus sign the first one exists as well: the gradient at the end arrives at the beginning *as it is*.

There is a price. If $f_l(x_l)$ is about as large as $x_l$ and points elsewhere, the variances add, $\operatorname{Var} x_{l+1} \approx 2 \operatorname{Var} x_l$: twice as large with every layer. After 48 layers that is a factor of $2^{48}$. Something has to keep the stream in size.

## LayerNorm

**LayerNorm** (Ba et al. 2016) takes each vector by itself. For a row $x = (x_1, \dots, x_d)$ let

$$\mu = \frac1d \sum_{i=1}^d x_i , \qquad \sigma^2 = \frac1d \sum_{i=1}^d (x_i - \mu)^2 , \qquad \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} , \qquad y_i = w_i\,\hat x_i + b_i .$$

$\hat x$ has mean 0 and variance 1, whatever $x$ was. The learnt **scale** $w$ and **shift** $b$ (one number for each of the $d$ places, 1 and 0 at the start) can undo that where it is useful. The small $\varepsilon$ is for vectors whose numbers are all equal. Nothing is averaged over positions or sentences, so padding and the future cannot leak, and training and evaluation do the same.

By hand: $x = (1, 3)$ has $\mu = 2$ and $\sigma^2 = \frac12(1 + 1) = 1$, so $\hat x = (-1, 1)$. Beware of `x.var()`: it divides by $d - 1$, not $d$.

### Exercise: `LayerNorm`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

- **Task**: complete `forward`.
- **Input**: `x` (…, d), where … stands for any number of axes, none among them. `self.weight` (d,), `self.bias` (d,), `self.eps`.
- **Output**: (…, d): each vector normalised along the last axis, then scaled and shifted.
- **Edge cases**: a vector of equal numbers gives the shift; numbers far from zero (100,000 plus a little) must not lose their digits; the gradient flows through mean and variance too. Not allowed: `F.layer_norm`, `nn.LayerNorm`. `hint("LayerNorm")` helps.
"""

# %% tags=["exercise"] exercise="LayerNorm"
from course_lib.models.block import LayerNorm  # course: write out

# %% tags=["check"] exercise="LayerNorm"
LayerNorm = check("LayerNorm")

# %% tags=["claim"]
x = torch.randn(3, 5, 7, dtype=torch.float64, generator=run.generator(2)).requires_grad_()  # (B, n, d)
ours, theirs = LayerNorm(7).double(), nn.LayerNorm(7).double()


def gap(one: Tensor, other: Tensor) -> float:
    """Return the largest difference between two results, and between their gradients for x."""
    (grad_one,), (grad_other,) = (torch.autograd.grad(each.pow(3).sum(), x, retain_graph=True) for each in (one, other))
    return max((one - other).abs().max().item(), (grad_one - grad_other).abs().max().item())


unbiased = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt()
claim(
    "our LayerNorm equals PyTorch's, in outputs and gradients",
    measured=gap(ours(x), theirs(x)),
    at_most=1e-10,
    breaks_when={"with the variance divided by d − 1": gap(unbiased, theirs(x))},
)

# %% [markdown]
r"""
### What does LayerNorm feel?

Take its Jacobian. Write $\mathbf 1$ for the row of $d$ ones and leave $\varepsilon$, $w$ and $b$ aside. With the centred row $c = x - \mu \mathbf 1$ we have $\hat x = c/\sigma$ and $\sigma^2 = \frac1d\, c \cdot c$. For a small change $\delta x$ ($d$ is the width, $\delta$ the change):

1. $\delta\mu = \frac1d\, \delta x \cdot \mathbf 1$, so $\delta c = \delta x - \frac1d (\delta x \cdot \mathbf 1)\,\mathbf 1$.
2. $2\sigma\, \delta\sigma = \frac2d\, c \cdot \delta c$, so $\delta\sigma = \frac1d\, \frac{c}{\sigma} \cdot \delta c = \frac1d\, \hat x \cdot \delta c = \frac1d\, \hat x \cdot \delta x$. (The last step: $\hat x \cdot \mathbf 1 = 0$, so what $\delta c$ lacks, $\hat x$ would not have seen.)
3. The quotient rule gives $\delta\hat x = \frac{1}{\sigma}\, \delta c - \frac{1}{\sigma^2}\, c\, \delta\sigma = \frac1\sigma \big( \delta c - \hat x\, \delta\sigma \big)$.

Put 1 and 2 into 3:

$$\delta\hat x = \frac1\sigma\, \delta x \,\Big( I - \underbrace{\tfrac1d \mathbf 1^\top \mathbf 1}_{\text{away from } \mathbf 1} - \underbrace{\tfrac1d\, \hat x^\top \hat x}_{\text{away from } \hat x} \Big) = \frac1\sigma\, \delta x\, P .$$

Both $\mathbf 1$ and $\hat x$ have the squared length $d$ and are orthogonal, so $\mathbf 1/\sqrt d$ and $\hat x/\sqrt d$ are unit vectors, and $P$ is the **orthogonal projection** that removes these two directions ($P P = P = P^\top$) and leaves the other $d - 2$ as they are. Three things follow.

- **Blind to shift and scale.** LayerNorm does not feel a change along $\mathbf 1$ or along $\hat x$: $\operatorname{LN}(a x + s \mathbf 1) = \operatorname{LN}(x)$ for $a > 0$. A stream that has grown a thousandfold is read like any other.
- **No gradient along them.** $P$ is symmetric, so the gradient for $x$ is orthogonal to $\mathbf 1$ and $\hat x$ too.
- **The larger the vector, the smaller the gradient.** It is divided by $\sigma$. Remember this one.

**RMSNorm** (Zhang & Sennrich 2019) leaves out the mean: $x / \sqrt{\frac1d \sum_i x_i^2 + \varepsilon} \cdot w$, one projection and one learnt vector less. Llama and T5 use it.
"""

# %%
from course_lib.models.block import RMSNorm  # course: write out

# %% tags=["claim"]
x = torch.randn(6, dtype=torch.float64, generator=run.generator(3))  # (d,)
jacobian = torch.autograd.functional.jacobian(LayerNorm(6, eps=0.0).double(), x)  # (d, d)
one = torch.ones(6, dtype=torch.float64) / math.sqrt(6)  # (d,), of length 1
unit = (x - x.mean()) / (x - x.mean()).norm()  # (d,), x̂/√d
projection = torch.eye(6, dtype=torch.float64) - torch.outer(one, one) - torch.outer(unit, unit)  # (d, d)
sigma = (x - x.mean()).square().mean().sqrt()
claim(
    "the Jacobian of LayerNorm is the projection away from 1 and x̂, divided by σ",
    measured=(jacobian - projection / sigma).abs().max().item(),
    at_most=1e-10,
    breaks_when={"the projection away from 1 alone": (jacobian - (projection + torch.outer(unit, unit)) / sigma).abs().max().item()},
)
for name, norm in (("LayerNorm", LayerNorm(6, eps=0.0)), ("RMSNorm", RMSNorm(6, eps=0.0))):
    stretches = torch.linalg.svdvals(torch.autograd.functional.jacobian(norm.double(), x))  # (d,), largest first
    print(f"{name}: the Jacobian stretches by", [round(each, 3) for each in (stretches / stretches[0]).tolist()], f"times {stretches[0]:.3f}")


# %% [markdown]
r"""
The singular values, divided by the largest: LayerNorm leaves four of six directions as they are and removes two, RMSNorm removes one. (Multiply `x` by 100 and run the cell again: what happens to the number behind *times*?)

## Where to put the norm

Two places suggest themselves, and the difference between them will occupy us for the rest of the lesson.

- **PostNorm**, $x \leftarrow \operatorname{norm}(x + f(x))$: the original transformer, and BERT. The norm stands *on* the stream.
- **PreNorm**, $x \leftarrow x + f(\operatorname{norm}(x))$: GPT-2, and most language models since. Only what a layer *reads* is normalised; nothing stands on the stream, which may grow. Behind the last layer it is normalised once, before the guess.

We give the layer in the middle, $f$, its usual name, **sublayer**, since a block will have two of them.
"""

# %%
figures.show(
    draw_blocks(),
    caption="Two residual connections make a block. The thick line is the stream. In PreNorm nothing stands on it but plus signs; in PostNorm a norm follows each of them.",
    alt="Above, a block with PreNorm: the stream runs straight; branches through norm and attention, and through norm and feed-forward, are added to it. Below, PostNorm: branches have no norm, and a norm stands on the stream behind each plus sign.",
)

# %% [markdown]
r"""
## Compute

Attention lets positions *communicate*. What does a position do with what it has heard? So far: a weighted average of $xW_V$, times $W_O$, added to the stream. Think of a position that hears only itself. A softmax of one score is 1, so its layer is $x \mapsto x + x W_V W_O = x(I + W_V W_O)$: a matrix. A hundred such layers are a hundred matrices, which are one (lesson 02; leave the norms aside for a moment). **By itself a position can only turn and stretch what it knows; it cannot combine.**

And with others? Let two positions say one bit each, $a, b \in \{0, 1\}$, and let a third answer whether exactly one of them is 1 (XOR: two switches, one lamp). It has *one head*, with keys and values made of the bits. Let the answer be *yes* where some linear function of the third position's vector, after attention, is positive. For the two positions and the third itself, let

- $e_a$, $e_b$, $e_0$ be the exponentials of their scores, and $r_a$, $r_b$, $r_0$ what the linear function makes of their values;
- $r$ be what it makes of the third position's own vector, bias included.

Then

$$\text{yes} \iff r + \frac{e_a r_a + e_b r_b + e_0 r_0}{e_a + e_b + e_0} > 0 \iff \underbrace{e_a (r_a + r)}_{\text{depends on } a} + \underbrace{e_b (r_b + r)}_{\text{depends on } b} + \underbrace{e_0 (r_0 + r)}_{\text{constant}} > 0 ,$$

for multiplying by the positive denominator changes no sign. So the answer is the sign of a sum $\alpha(a) + \beta(b)$. XOR asks for $\alpha(0) + \beta(1) > 0$ and $\alpha(1) + \beta(0) > 0$, but $\alpha(0) + \beta(0) \le 0$ and $\alpha(1) + \beta(1) \le 0$. The first two add up to something positive, the last two to something that is not, and both sums are the same, $\alpha(0) + \alpha(1) + \beta(0) + \beta(1)$. One head is wrong at least once in four. ∎

This is what lesson 07 meant by *a sum cannot look up a pair*. (Several heads can, since their denominators differ. But then heads are used up for computing, which were meant for choosing whom to hear.) What is missing is an ordinary network with a bend in it: with $\operatorname{ReLU}(z) = \max(z, 0)$,

$$\operatorname{XOR}(a, b) = \operatorname{ReLU}(a + b) - 2 \operatorname{ReLU}(a + b - 1) .$$

Try the four cases. Two hidden units do what no sum can. The **feed-forward network** gives every position, by itself and with the same weights, a few hundred of these:

$$\operatorname{FFN}(x) = \operatorname{bend}(x W_{up} + b_{up})\, W_{down} + b_{down} ,$$

from $d$ to $d_{ff}$ numbers (usually $4d$) and back. One may read it as a memory: column $m$ of $W_{up}$ asks whether $x$ has some property, and where it has, row $m$ of $W_{down}$ is written to the stream (Geva et al. 2021; lesson 25 looks into it).

**Which bend?** ReLU in the original. **GELU**, $x\,\Phi(x)$ with $\Phi$ the normal distribution function, is ReLU with a round corner: BERT's is exact, by the error function; GPT-2's is an approximation by tanh. **SwiGLU** (Shazeer 2020; Llama) has two layers going up, and one opens and closes the other: $\big(\operatorname{SiLU}(x W_{gate}) \odot x W_{up}\big) W_{down}$, with $\operatorname{SiLU}(z) = z / (1 + e^{-z})$ and $\odot$ for the product number by number. That is a third matrix; with $d_{ff} = \frac83 d$ instead of $4d$ the number of parameters stays.
"""

# %%
from course_lib.models.block import gelu, gelu_tanh, silu, ACTIVATIONS  # noqa: F401  # course: write out

# %%
z = torch.linspace(-4, 4, 161, dtype=torch.float64)  # (161,)
fig, axes = plt.subplots(1, 2, figsize=(9, 2.9), width_ratios=(3, 2))
figures.lines(axes[0], z, {"ReLU": z.relu(), "GELU": gelu(z), "SiLU": silu(z)}, xlabel="z", ylabel="bend(z)", title="Three bends")
figures.lines(axes[1], z, {"": 1e4 * (gelu_tanh(z) - gelu(z))}, xlabel="z", ylabel="difference (1/10,000)", title="GELU: tanh − exact")
for line in (*axes[0].lines, *axes[1].lines):
    line.set_marker("")
for line, style in zip(axes[0].lines, ("-", "--", ":")):
    line.set_linestyle(style)
axes[0].legend()
figures.show(
    fig,
    caption="Left: all three are 0 far to the left and z far to the right; they differ at the corner. Right: the two forms of GELU differ by less than 5 in 10,000, too little to matter, and enough to spoil a comparison with the wrong library.",
    alt="Left, ReLU with its sharp corner, GELU and SiLU with round ones that dip below zero. Right, the small difference between the two forms of GELU, of both signs.",
)

# %% [markdown]
r"""
### Exercise: `FeedForward`

*Difficulty ●●○○○ · about 10 minutes · 3 points*

- **Task**: complete `forward`.
- **Input**: `x` (…, d_model). The layers are `self.up`, `self.down` and, where the activation is gated, `self.gate` (else None); `self.bend` is the function of the activation's name.
- **Output**: (…, d_model): down(bend(up(x))), or with a gate down(bend(gate(x)) · up(x)).
- **Edge cases**: any number of axes in front; d_ff may be smaller than d_model; no residual connection in here.
"""

# %% tags=["exercise"] exercise="FeedForward"
from course_lib.models.block import FeedForward  # course: write out

# %% tags=["check"] exercise="FeedForward"
FeedForward = check("FeedForward")

# %% [markdown]
r"""
Does it look up pairs? A table says for each of $16 \times 16$ pairs of symbols which of 16 answers is right, drawn at random, so there is nothing to understand, only to look up. One position holds the first symbol, one the second, and a third, which hears both, must answer. It is trained on all 256 pairs; we ask how many it can hold.
"""

# %% tags=["experiment"]
SYMBOLS = 16
table = torch.randint(SYMBOLS, (SYMBOLS**2,), generator=run.generator(4)).to(run.device)  # (256,)
first, second = torch.arange(SYMBOLS).repeat_interleave(SYMBOLS), torch.arange(SYMBOLS).repeat(SYMBOLS)  # (256,) each
lines = torch.stack([first, SYMBOLS + second, torch.full_like(first, 2 * SYMBOLS)], dim=1).to(run.device)  # (256, 3)


class Table(nn.Module):
    """Answer for a pair of symbols: attention, and a feed-forward network if asked for."""

    def __init__(self, n_heads: int, computes: bool) -> None:
        super().__init__()
        self.symbol = nn.Embedding(2 * SYMBOLS + 1, 32)
        self.attention = MultiHeadAttention(32, n_heads)
        self.feed_forward = FeedForward(32, 128) if computes else None
        self.answer = nn.Linear(32, SYMBOLS)

    def forward(self, lines: Tensor) -> Tensor:
        x = self.symbol(lines)  # (256, 3, 32)
        x = x + self.attention(x)[0]  # (256, 3, 32)
        if self.feed_forward is not None:
            x = x + self.feed_forward(x)  # (256, 3, 32)
        return self.answer(x[:, -1])  # (256, 16)


def looked_up(n_heads: int, computes: bool) -> float:
    """Return the share of the table that a model holds after training."""
    torch.manual_seed(run.seed)
    model = Table(n_heads, computes).to(run.device)
    optimizer, steps = torch.optim.Adam(model.parameters(), lr=2e-2), run.pick(smoke=3, standard=200, full=1000)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=steps)
    for _ in range(steps):
        loss = F.cross_entropy(model(lines), table)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return (model(lines).argmax(-1) == table).float().mean().item()


held = {name: looked_up(*kind) for name, kind in {"one head": (1, False), "four heads": (4, False), "one head and a network": (1, True)}.items()}
print({name: round(share, 2) for name, share in held.items()})

# %% tags=["claim"]
claim(
    "one head with a feed-forward network behind it holds nearly the whole table",
    measured=held["one head and a network"],
    at_least=0.95,
    breaks_when={"one head without": held["one head"]},
)

# %% [markdown]
r"""
As the proof promised for two symbols each, one head alone cannot hold a table of pairs; with a network behind it, it can. (Four heads manage as well, as said: the weights of attention are a bend, too. What the network is worth in a real model we measure below.)

## Dropout

One part is small and simple. In training, **dropout** (Srivastava et al. 2014) sets each number to zero with probability $p$, at random and anew at each step, so that no unit can rely on a single other one. In evaluation it does nothing. For the two to fit together the numbers that are kept are divided by $1 - p$: then each has the expected value $(1 - p) \cdot \frac{x}{1 - p} + p \cdot 0 = x$.

In a block what is dropped is what a sublayer *says*, before it is added: the stream itself gets no holes (Vaswani et al. 2017, section 5.4).
"""

# %%
from course_lib.models.block import Dropout  # course: write out

# %% tags=["claim"]
torch.manual_seed(run.seed)
ones, dropout = torch.ones(100_000), Dropout(0.2)
print("training: ", dropout(ones)[:10].tolist())
print("evaluation:", dropout.eval()(ones)[:10].tolist())
dropout.train()
claim(
    "dropout leaves the mean as it was",
    measured=dropout(ones).mean().item(),
    between=(0.98, 1.02),
    breaks_when={"without dividing by 1 − p": 0.8 * dropout(ones).mean().item()},
)

# %% [markdown]
r"""
## The block

Now all parts are there. A block is two residual connections: in the first, attention; in the second, the feed-forward network. **Communicate, then compute.**

A connection is a module of its own. It is made with a norm and a dropout share, and called with the stream and a *function*: `connection(x, sublayer)`. So the same two classes will serve the decoder of lesson 11, which has three sublayers, and a block takes whichever of them it is given.

### Exercise: `TransformerBlock`

*Difficulty ●●●○○ · about 20 minutes · 5 points*

- **Task**: complete three `forward`s: those of `PreNorm`, `PostNorm` and `TransformerBlock`.
- **Input**: a connection: `x` (…, d) and `sublayer`, a function from (…, d) to (…, d); it has `self.norm` and `self.dropout`. The block: `x` (B, n, d_model), and `mask` and `cache` for the attention, each of which may be None.
- **Output**: the stream, in the shape of `x`. A connection returns x + f(norm(x)) or norm(x + f(x)), with dropout around what f says. The block lets the stream go through `self.communicate` with the attention, then through `self.compute` with the feed-forward network. (`self.attention` returns a pair, outputs and weights.)
- **Edge cases**: with everything dropped (p = 1) PreNorm returns x itself. The mask and the cache go to the attention by name.
"""

# %% tags=["exercise"] exercise="TransformerBlock"
from course_lib.models.block import PreNorm, PostNorm, TransformerBlock  # course: write out

# %% tags=["check"] exercise="TransformerBlock"
PreNorm, PostNorm, TransformerBlock = check("TransformerBlock")

# %% [markdown]
r"""
### Against PyTorch's own

`nn.TransformerEncoderLayer` is the same block: `norm_first` says which. Its masks are turned over (True = hidden), and with dropout it also drops attention weights and hidden units. Copy the weights, and compare outputs and gradients under a causal and a padding mask.
"""

# %%
from course_lib.models.block import copy_encoder_layer


def block_gap(residual: type[nn.Module], norm_first: bool, hear_all: bool = False) -> float:
    """Return the largest difference to PyTorch's layer, in outputs and in the gradient for x."""
    torch.manual_seed(run.seed)
    theirs = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=norm_first).double()
    for each in theirs.parameters():
        nn.init.normal_(each, std=0.5)  # scales that are not 1, shifts that are not 0
    ours = TransformerBlock(12, 3, 20, residual=residual).double()
    copy_encoder_layer(ours, theirs)
    x = torch.randn(2, 5, 12, dtype=torch.float64).requires_grad_()  # (B, n, d)
    real = padding_mask(torch.tensor([5, 3]), 5)  # (B, 1, n)
    output = ours(x, real if hear_all else causal_mask(5) & real)
    other = theirs(x, src_mask=~causal_mask(5), src_key_padding_mask=~real[:, 0])
    (gradient,), (other_gradient,) = (torch.autograd.grad(each.pow(3).sum(), x) for each in (output, other))
    return max((output - other).abs().max().item(), (gradient - other_gradient).abs().max().item() / gradient.abs().max().item())


# %% tags=["claim"]
claim(
    "with weights copied, our post-norm block equals PyTorch's encoder layer, masks and gradients included",
    measured=block_gap(PostNorm, norm_first=False),
    at_most=1e-10,
    breaks_when={"our pre-norm block": block_gap(PreNorm, norm_first=False), "when ours forgets the causal mask": block_gap(PostNorm, False, hear_all=True)},
)
claim(
    "and our pre-norm block equals PyTorch's with norm_first=True",
    measured=block_gap(PreNorm, norm_first=True),
    at_most=1e-10,
    breaks_when={"our post-norm block": block_gap(PostNorm, norm_first=True)},
)

# %% [markdown]
r"""
## Gradients by depth

Now the question can be asked properly: how much gradient reaches the first block of a stack of $L$? Beside the two connections we need the stack *without* any, once with a norm before each sublayer and once bare; and the residual connection without a norm.
"""

# %%
class Bare(nn.Module):
    """No connection at all: f(x)."""

    def __init__(self, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return sublayer(x)


class NoResidual(PreNorm):
    """PreNorm without its plus sign: f(norm(x))."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return sublayer(self.norm(x))


class NoNorm(Bare):
    """A residual connection alone: x + f(x)."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + sublayer(x)


KINDS = {"no residual, no norm": Bare, "no residual": NoResidual, "residual, no norm": NoNorm, "PostNorm": PostNorm, "PreNorm": PreNorm}


def make_writer(residual: type[nn.Module], depth: int, seed: int, scaled: bool = False) -> Writer:
    """Return an untrained model of `depth` blocks of width 64; `scaled` as explained under Initialisation."""
    torch.manual_seed(seed)
    blocks = [TransformerBlock(64, 4, 256, residual=residual) for _ in range(depth)]
    model = Writer(blocks, LayerNorm(64) if issubclass(residual, PreNorm) else None)
    initialise(model, n_blocks=depth if scaled else None)
    return model.to(run.device)


# %%
predict(
    "gradients",
    "Untrained stacks of 24 blocks: in which of these does (nearly) no gradient reach the first block?",
    ["Without residual connections and norms", "With PostNorm", "In both", "In none of them"],
    answer=0,
    because="One often reads that PostNorm's gradient vanishes. Before training it does not. What is wrong with it, the next sections show.",
)

# %% tags=["experiment"]
depths = run.pick(smoke=(2, 4), standard=(2, 6, 12, 18, 24), full=(2, 6, 12, 18, 24, 48))
reaches = {name: [] for name in KINDS}  # the gradient at the first block's input
ends = {name: [] for name in KINDS}  # the gradient behind the last block
grows = {name: [] for name in KINDS}  # the size of the stream behind the last block
for name, kind in KINDS.items():
    for depth in depths:
        stream, gradients = inside(make_writer(kind, depth, run.seed))
        reaches[name].append(gradients[0].norm().item())
        ends[name].append(gradients[-1].norm().item())
        grows[name].append(stream[-1].std().item())

fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharex=True)
figures.lines(axes[0], depths, reaches, xlabel="blocks", ylabel="norm of the gradient", title="At the input of the first block", log="y")
figures.lines(axes[1], depths, grows, xlabel="blocks", ylabel="standard deviation", title="Stream behind the last block", log="y")
axes[1].get_legend().remove()
axes[0].set_xticks(depths)
axes[0].legend(fontsize=8)
figures.show(
    fig,
    caption="Untrained stacks, width 64. Left: bare layers lose the gradient, a residual connection without a norm lets it explode, everything with a norm keeps it in size. Right: the stream. PostNorm holds its size at 1, PreNorm lets it grow slowly.",
    alt="Two charts over 2 to 24 blocks on logarithmic axes. Gradient at the first block: falls by orders of magnitude for bare layers, rises by orders of magnitude for residual without norm, stays level for the rest. Size of the stream: the same, with PreNorm rising slowly.",
)

# %% tags=["claim"]
claim(
    "pre-norm, 24 blocks: the gradient that reaches the first block is of the size that it has with two (ratio)",
    measured=reaches["PreNorm"][-1] / reaches["PreNorm"][0],
    between=(0.3, 3.0),
    breaks_when={"without residual and norm": reaches["no residual, no norm"][-1] / reaches["no residual, no norm"][0]},
)
claim(
    "post-norm, too, before training",
    measured=reaches["PostNorm"][-1] / reaches["PostNorm"][0],
    between=(0.1, 10.0),
    breaks_when={"a residual connection without a norm": reaches["residual, no norm"][-1] / reaches["residual, no norm"][0]},
)
claim(
    "behind the last block pre-norm's gradient is the smaller the deeper the stack: the final norm divides it by the size of the stream (ratio)",
    measured=ends["PreNorm"][-1] / ends["PreNorm"][0],
    at_most=0.5,
    breaks_when={"post-norm": ends["PostNorm"][-1] / ends["PostNorm"][0]},
)

# %% [markdown]
r"""
So it is not the first block that suffers. Even the stack with norms and *without* residual connections keeps its gradient in size; that a gradient arrives does not yet mean that something is learnt, as we shall see. The third claim is LayerNorm's division by $\sigma$ at work. Xiong et al. (2020) derive it: near the output, pre-norm's gradients shrink like $1/\sqrt L$ with the number $L$ of blocks (from 2 to 24 to $\sqrt{2/24} = 0.29$ of the size; compare), and post-norm's do not.

### By which way does it come?

At the first block the two are alike; but remember the paths. With PreNorm the way *around* all sublayers is free, $g_0 = g_L + \dots$, and only the final norm stands in it. With PostNorm a LayerNorm stands behind each plus sign, and its Jacobian divides by $\sigma$. The sum $x + f(x)$ of two parts of variance 1 has $\sigma \approx \sqrt 2$. Two connections a block, so over $L$ blocks the way around is damped by

$$\Big(\tfrac{1}{\sqrt 2}\Big)^{2L} = 2^{-L} ,$$

about $4 \cdot 10^{-6}$ for 18 blocks. (An average of values has a smaller variance than each of them, so attention adds less than 1, and the factor per block is a little above a half; over many blocks that is a good deal.) The gradient does arrive, but *through* the sublayers. The shortcut that residual connections were invented for is closed. To measure it, cut the sublayers' gradient off (`detach`) and see what comes around them:
"""

# %% tags=["experiment"]
class PreNormAround(PreNorm):
    """PreNorm, the gradient of whose sublayers is cut off."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return super().forward(x, lambda y: sublayer(y).detach())


class PostNormAround(PostNorm):
    """PostNorm, the gradient of whose sublayers is cut off."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return super().forward(x, lambda y: sublayer(y).detach())


around, unchanged = {}, {}
for name, kind in (("PreNorm", PreNormAround), ("PostNorm", PostNormAround)):
    ways = [inside(make_writer(kind, depth, run.seed))[1] for depth in depths]  # the gradients behind all blocks
    around[name] = [gradients[0].norm().item() for gradients in ways]
    unchanged[name] = max((gradients[0] - gradients[-1]).abs().max().item() for gradients in ways)
share_around = {name: [a / b for a, b in zip(around[name], reaches[name])] for name in around}
print("share of the gradient that comes around the sublayers, by depth")
for name, shares in share_around.items():
    print(f"{name:<9}", "  ".join(f"{depth} blocks {share:.1e}" for depth, share in zip(depths, shares)))

# %% tags=["claim"]
claim(
    "pre-norm: around the sublayers the gradient arrives at the first block exactly as it was behind the last",
    measured=unchanged["PreNorm"],
    equals=0.0,
    breaks_when={"post-norm": unchanged["PostNorm"]},
)
claim(
    "post-norm: with each block the gradient that comes around the sublayers shrinks to little more than a half (factor per block)",
    measured=(around["PostNorm"][-1] / around["PostNorm"][0]) ** (1 / (depths[-1] - depths[0])),
    between=(0.5, 0.7),
    breaks_when={"pre-norm": (around["PreNorm"][-1] / around["PreNorm"][0]) ** (1 / (depths[-1] - depths[0]))},
)

# %% [markdown]
r"""
**Look closer.** Choose a connection and a number of blocks. The left panel shows the gradient at each block's input, from the first to the last, the right one the size of the stream.

*Question:* from how many blocks on does the bare stack leave its first block less than a thousandth of the gradient of the last? And with PostNorm, around the sublayers? (The answers stand below the figure.)
"""

# %% tags=["widget", "nbval-ignore-output"]
CHOICES = {**KINDS, "PreNorm, around the sublayers": PreNormAround, "PostNorm, around the sublayers": PostNormAround}


def draw_inside(connection: str, blocks: int) -> plt.Figure:
    stream, gradients = inside(make_writer(CHOICES[connection], blocks, run.seed))
    norms = [each.norm().item() for each in gradients]
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), sharex=True)
    figures.lines(axes[0], range(blocks + 1), {"": norms}, xlabel="behind block", ylabel="norm of the gradient", title=f"First / last: {norms[0] / norms[-1]:.1e}", log="y")
    sizes = [each.std().item() for each in stream]
    figures.lines(axes[1], range(blocks + 1), {"": sizes}, xlabel="behind block", ylabel="standard deviation", title="Stream", log="y")
    axes[1].set_ylim(min(0.05, 0.5 * min(sizes)), max(20, 2 * max(sizes)))
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
    return fig


INSIDE_ALT = "Two line charts over the blocks of an untrained stack: norm of the gradient, and size of the stream."
display(
    widgets.explorer(
        draw_inside,
        INSIDE_ALT,
        connection=ipywidgets.Dropdown(options=list(CHOICES), value="PostNorm, around the sublayers", description="connection"),
        blocks=ipywidgets.IntSlider(value=8, min=1, max=24, description="blocks"),
    )
)
figures.show(
    draw_inside("PostNorm, around the sublayers", 18),
    caption="The same view for PostNorm with 18 blocks, around the sublayers, for a page without sliders: a straight line on a logarithmic axis is a constant factor per block. With seed 0 the bare stack falls below a thousandth at 19 blocks, PostNorm around the sublayers at 15, PreNorm around them never.",
    alt="Left, the gradient's norm falls in a straight line on a logarithmic axis towards the first block; right, the stream's size is level at one.",
)

# %% [markdown]
r"""
## Deep training: pre against post

Eighteen blocks of width 64, Adam at a constant rate of $10^{-3}$, no warm-up, the same data. Nothing differs but the place of the norms.
"""

# %%
predict(
    "deep",
    "Both stacks get gradient in their first block. After 80 steps, which of them guesses better than by how often each character occurs?",
    ["Both", "PreNorm only", "PostNorm only", "Neither: eighty steps are too few"],
    answer=1,
    because="With two blocks both do. What depth does to PostNorm is taken apart below.",
)

# %% tags=["experiment"]
DEEP = run.pick(smoke=3, standard=18, full=18)
deep_steps = run.pick(smoke=3, standard=80, full=3000)
deep_bits, deep_models = {}, {}
for name in ("PostNorm", "PreNorm"):
    deep_models[name] = make_writer(KINDS[name], DEEP, run.seed)
    deep_bits[name] = learn(deep_models[name], deep_steps, f"{name}, {DEEP} blocks")
fig, ax = plt.subplots(figsize=(7, 3.4))
figures.lines(ax, range(1, deep_steps + 1), deep_bits, xlabel="training step", ylabel="bits per character", title=f"{DEEP} blocks, width 64, no warm-up")
for line in ax.lines:
    line.set_marker("")
ax.lines[0].set_linestyle("--")
ax.axhline(unigram, color=figures.PALETTE["grey"], linestyle=":", marker="", label="unigram entropy")
ax.set_ylim(2.5, 5.8)
ax.legend()
figures.show(
    fig,
    caption="Post-norm falls to the unigram entropy, which a model without any layer would reach, and stays there. Pre-norm goes through it.",
    alt="Bits per character over training steps. The post-norm curve falls to a dotted line at the unigram entropy and stays on it; the pre-norm curve keeps falling below it.",
)
print({name: round(last(bits), 2) for name, bits in deep_bits.items()}, f"unigram entropy {unigram:.2f}")

# %% tags=["claim"]
claim(
    "deep post-norm without warm-up sticks at the unigram entropy (bits above or below it)",
    measured=abs(last(deep_bits["PostNorm"]) - unigram),
    at_most=0.15,
    breaks_when={"pre-norm": abs(last(deep_bits["PreNorm"]) - unigram)},
)
claim(
    "where pre-norm trains (bits below the unigram entropy)",
    measured=unigram - last(deep_bits["PreNorm"]),
    at_least=0.4,
    breaks_when={"post-norm": unigram - last(deep_bits["PostNorm"])},
)

# %% [markdown]
r"""
### What went wrong?

Not the gradient of the first block: it arrives. But look at what a sublayer adds. In PreNorm the stream is a sum, and each sublayer is a small share of it: about $1/l$ of the variance at depth $l$. In PostNorm the newest sublayer always makes up about *half* of what comes out of the norm, the one before a quarter. Two things follow.

**1. Everything is alike from the start.** In each block half of the stream behind the attention is an average over positions, so they draw together, more slowly than in the bare stack, but as far. And where all are alike, attention cannot learn whom to hear. It hears $\sum_j a_j v_j$ with weights $a_j$ that add up to 1, so a change of the weights has $\sum_j \delta a_j = 0$. If all values are the same $v$, what is heard changes by $\sum_j \delta a_j\, v = 0$. $W_Q$ and $W_K$ act through the weights alone, so they get no gradient (Noci et al. 2022).

**2. Each step shakes the whole stack.** All sublayers change at once, and a change in an early one is passed on, and changed again, by every later one. So the same small step in the weights moves the output of a post-norm model further: the *amplification effect* of Liu et al. (2020).

For the first, compare the positions behind each block, and the gradients of $W_Q$ and $W_K$ with that of $W_V$. For the second, take one step of Adam at a tenth of the rate above, and measure how far the last vectors move, relative to their size:
"""

# %% tags=["experiment"]
def first_step(kind: type[nn.Module], depth: int, seed: int, scaled: bool = False) -> tuple[float, list[float]]:
    """Return how far one small step of Adam moves what the last matrix reads, and by block the gradient of W_Q and W_K beside W_V's."""
    model = make_writer(kind, depth, seed, scaled)
    seen, following = draw_windows(town_ids, 8, WINDOW, torch.Generator().manual_seed(seed))
    read = []
    model.guess.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].detach()))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    F.cross_entropy(model(seen).flatten(0, 1), following.flatten()).backward()
    layers = [block.attention for block in model.layers]
    sizes = [[each.weight.grad.norm().item() for each in (layer.to_q, layer.to_k, layer.to_v)] for layer in layers]
    optimizer.step()
    model(seen)
    return ((read[1] - read[0]).norm() / read[0].norm()).item(), [math.hypot(q, k) / v for q, k, v in sizes]


TWO = ("PostNorm", "PreNorm")
starts = range(100 * run.seed, 100 * run.seed + run.pick(smoke=2, standard=3, full=10))
steps_of = {name: [[first_step(KINDS[name], depth, seed) for depth in depths] for seed in starts] for name in TWO}
by_start = {name: [[moved for moved, _ in row] for row in steps_of[name]] for name in TWO}
moves = {name: [sum(each) / len(starts) for each in zip(*rows)] for name, rows in by_start.items()}  # for each depth
at_deep = depths.index(min(depths, key=lambda depth: abs(depth - DEEP)))
choosing = {name: [sum(each) / len(starts) for each in zip(*(row[at_deep][1] for row in steps_of[name]))] for name in TWO}  # for each block
late = slice(-(DEEP // 3), None)  # the last third of the blocks
untrained = {name: [alike(x) for x in inside(make_writer(KINDS[name], DEEP, run.seed))[0]] for name in TWO}
similarity = {name: [alike(x) for x in inside(deep_models[name])[0]] for name in TWO}  # after the training above

fig, axes = plt.subplots(1, 3, figsize=(12, 3.3))
figures.lines(axes[0], range(DEEP + 1), untrained, xlabel="behind block", ylabel="mean cosine of positions", title="1. How alike are the positions?")
for line, name in zip(list(axes[0].lines), TWO):
    axes[0].plot(range(DEEP + 1), similarity[name], color=line.get_color(), linestyle="--", marker="", label=f"{name}, trained")
axes[0].set_ylim(-0.05, 1.05)
axes[0].set_xticks(range(0, DEEP + 1, 3))
axes[0].legend(fontsize=8, loc="lower right")
figures.lines(axes[1], range(1, len(choosing["PreNorm"]) + 1), choosing, xlabel="block", ylabel="gradient of $W_Q, W_K$ / of $W_V$", title="1. Who learns whom to hear?", log="y")
axes[1].xaxis.get_major_locator().set_params(integer=True)
figures.lines(axes[2], depths, moves, xlabel="blocks", ylabel="relative change", title="2. What does one step move?")
axes[2].set_ylim(bottom=0)
axes[2].set_xticks(depths)
fig.tight_layout()
figures.show(
    fig,
    caption="Left: behind its last blocks an untrained post-norm stack holds one vector for all positions, and training does not lead out of it (dashed); a pre-norm stack starts below that and learns to tell positions apart. Middle: in those blocks of the untrained post-norm stack W_Q and W_K get hardly any gradient. Right: the same small step moves a post-norm stack further.",
    alt="Left, the mean cosine between positions behind each block: PostNorm rises to one, untrained and trained; PreNorm stays below, lower after training. Middle, on a logarithmic axis, the gradient of the query and key matrices beside that of the value matrix falls with the block, for PostNorm by orders of magnitude. Right, the relative change after a step over the number of blocks, higher for PostNorm at each depth.",
)

# %% tags=["claim"]
claim(
    "before any training eighteen post-norm blocks give all positions nearly the same vector (mean cosine)",
    measured=untrained["PostNorm"][-1],
    at_least=0.95,
    breaks_when={"pre-norm": untrained["PreNorm"][-1]},
)
claim(
    "in the last third of them W_Q and W_K get hardly any gradient (mean share of W_V's)",
    measured=sum(choosing["PostNorm"][late]) / len(choosing["PostNorm"][late]),
    at_most=0.03,
    breaks_when={"pre-norm": sum(choosing["PreNorm"][late]) / len(choosing["PreNorm"][late])},
)
claim(
    "training does not lead out of it (mean cosine behind the last block)",
    measured=similarity["PostNorm"][-1],
    at_least=0.9,
    breaks_when={"the pre-norm stack": similarity["PreNorm"][-1]},
)
claim(
    "from six blocks on the same small step moves a post-norm stack much further than a pre-norm one (ratio, over all depths together)",
    measured=sum(moves["PostNorm"][1:]) / sum(moves["PreNorm"][1:]),
    at_least=1.5,
    breaks_when={"pre-norm from one start against another": sum(by_start["PreNorm"][0][1:]) / sum(by_start["PreNorm"][1][1:])},
)

# %% [markdown]
r"""
### What helps?

Let each sublayer add little at the start: a **smaller start** divides the matrices that write to the stream, $W_O$ and $W_{down}$, by $\sqrt{2L}$ when they are drawn. What becomes of the three figures?
"""

# %% tags=["experiment"]
small = [first_step(PostNorm, DEEP, seed, scaled=True) for seed in starts]
small_choosing = [sum(each) / len(starts) for each in zip(*(shares for _, shares in small))]  # for each block
table = {
    "PostNorm": (untrained["PostNorm"][-1], choosing["PostNorm"], moves["PostNorm"][at_deep]),
    "PostNorm, smaller start": (alike(inside(make_writer(PostNorm, DEEP, run.seed, scaled=True))[0][-1]), small_choosing, sum(moved for moved, _ in small) / len(small)),
    "PreNorm": (untrained["PreNorm"][-1], choosing["PreNorm"], moves["PreNorm"][at_deep]),
}
for name, (cosine, shares, moved) in table.items():
    print(f"{name:<24} mean cosine {cosine:.2f}   gradient of W_Q, W_K / of W_V {sum(shares[late]) / len(shares[late]):.3f}   one step moves {moved:.2f}")

# %% tags=["claim"]
claim(
    "with the smaller start W_Q and W_K of the last third get their gradient (mean share of W_V's)",
    measured=sum(small_choosing[late]) / len(small_choosing[late]),
    at_least=0.15,
    breaks_when={"with the usual start": sum(choosing["PostNorm"][late]) / len(choosing["PostNorm"][late])},
)

# %% [markdown]
r"""
The positions differ again, and attention gets its gradient; a step still moves more than in pre-norm. Against that the original recipe has a **warm-up**: the rate rises from 0 over the first 4000 steps; here over the first half of the training. Is one of the two enough? That takes several depths and seeds: here is a record, made by `course record 10` with this cell. You are looking at its figures, not at a live run.
"""

# %% tags=["record"]
def deep_record(kind: type[nn.Module], depth: int, rate: float = 1e-3, warm_up: int = 0, scaled: bool = False, steps: int = 80) -> list[float]:
    """Return the bits at the end of three trainings."""
    name, steps = f"{kind.__name__}, {depth} blocks", run.pick(smoke=3, standard=steps, full=steps)
    return [last(learn(make_writer(kind, depth, seed, scaled), steps, name, rate, warm_up, seed)) for seed in (0, 1, 2)]


record("bits by depth", {name: {depth: deep_record(KINDS[name], depth) for depth in (2, 6, 18)} for name in ("PostNorm", "PreNorm")})
record(
    "post-norm, other recipes",
    {
        "a tenth of the rate": deep_record(PostNorm, 18, rate=1e-4),
        "warm-up": deep_record(PostNorm, 18, warm_up=40),
        "warm-up, 400 steps": deep_record(PostNorm, 18, warm_up=200, steps=400),
        "smaller start": deep_record(PostNorm, 18, scaled=True),
        "smaller start, warm-up": deep_record(PostNorm, 18, warm_up=40, scaled=True),
    },
)
record("unigram entropy", unigram)

# %% tags=["experiment"]
by_depth, recipes, recorded_unigram = recorded("bits by depth"), recorded("post-norm, other recipes"), recorded("unigram entropy")
record_depths = [int(depth) for depth in by_depth["PreNorm"]]
means = {name: [sum(bits) / len(bits) for bits in each.values()] for name, each in by_depth.items()}
bands = {name: ([min(bits) for bits in each.values()], [max(bits) for bits in each.values()]) for name, each in by_depth.items()}
rows = {"PostNorm": by_depth["PostNorm"]["18"], **{f"PostNorm, {name}": bits for name, bits in recipes.items()}, "PreNorm": by_depth["PreNorm"]["18"]}
fig, axes = plt.subplots(1, 2, figsize=(11.5, 3.3), width_ratios=(4, 5))
figures.lines(axes[0], record_depths, means, bands=bands, xlabel="blocks", ylabel="bits per character", title="By depth, after 80 steps")
axes[0].axhline(recorded_unigram, color=figures.PALETTE["grey"], linestyle=":", marker="", label="unigram entropy")
axes[0].set_xticks(record_depths)
axes[0].legend(loc="center right")
for i, bits in enumerate(rows.values()):
    colour = figures.PALETTE["vermillion" if i == len(rows) - 1 else "blue"]
    axes[1].plot(bits, [i] * len(bits), linestyle="", marker="o", markersize=7, alpha=0.7, color=colour)
axes[1].axvline(recorded_unigram, color=figures.PALETTE["grey"], linestyle=":", marker="")
axes[1].set_yticks(range(len(rows)), rows)
axes[1].invert_yaxis()
axes[1].set(xlabel="bits per character, a mark for each seed", title="Eighteen blocks")
fig.tight_layout()
figures.show(
    fig,
    caption="Recorded, three seeds. Left: two blocks train either way; from six on post-norm is at or near the unigram entropy (dotted), pre-norm as good as ever. Right: no warm-up and no small rate gets a post-norm stack with the usual start off the unigram entropy. A smaller start frees some seeds; with a warm-up it frees all.",
    alt="Left, bits per character for 2, 6 and 18 blocks: pre-norm is low throughout; post-norm is as low at 2 blocks and at the unigram entropy at 18. Right, a mark for each seed at 18 blocks: post-norm as it is, with a tenth of the rate and with a warm-up lies at the unigram entropy; with a smaller start some seeds lie below it; with smaller start and warm-up all are as low as pre-norm.",
)
for name, bits in rows.items():
    print(f"{name:<33}", [round(each, 2) for each in bits])

# %% tags=["claim"]
claim(
    "recorded: two blocks learn as well with post-norm as with pre-norm (difference in bits, mean of three seeds)",
    measured=abs(means["PostNorm"][0] - means["PreNorm"][0]),
    at_most=0.1,
    breaks_when={"eighteen blocks": abs(means["PostNorm"][-1] - means["PreNorm"][-1])},
)
behind_pre = {name: sum(bits) / len(bits) - means["PreNorm"][-1] for name, bits in recipes.items()}
claim(
    "recorded: with a smaller start and a warm-up eighteen post-norm blocks learn as well as pre-norm ones",
    measured=behind_pre["smaller start, warm-up"],
    at_most=0.1,
    breaks_when={"a warm-up alone": behind_pre["warm-up"], "a smaller start alone": behind_pre["smaller start"]},
)

# %% [markdown]
r"""
Depth does it: nothing is wrong with two blocks. From the usual start neither a small nor a rising rate led away, in five times as many steps either: hardly any gradient says whom to hear. The smaller start alone gives the positions back, and then, in some seeds, the first steps knock them together again. The two remedies together make post-norm as good as pre-norm, in this short training; and pre-norm needs neither, which is one reason why most large language models have it.

## Initialisation

How large is a pre-norm stream? Each sublayer reads something of variance 1 and writes something of variance $v$, roughly independent of what is there. Two sublayers a block, so behind $l$ blocks

$$\operatorname{Var} x_l \approx \operatorname{Var} x_0 + 2 l v .$$

A straight line: late blocks add ever smaller shares, and the final LayerNorm divides the gradient by $\sqrt{\operatorname{Var} x_L}$. Here, too, the division by $\sqrt{2L}$, the root of the number of sublayers, helps; GPT-2 has it (Radford et al. 2019). Each sublayer then writes $v / 2L$, and the variance behind all $L$ blocks is $\operatorname{Var} x_0 + v$, *for any depth*: the model starts near the identity. (The other weights of GPT-2 have standard deviation 0.02; for its largest model $1/\sqrt{d}$ is $1/\sqrt{1600} = 0.025$.)
"""

# %%
from course_lib.models.block import initialise  # course: write out

# %% tags=["experiment"]
variances = {}
for name, scaled in (("PreNorm", False), ("PreNorm, divided by √(2L)", True)):
    stream, _ = inside(make_writer(PreNorm, depths[-1], run.seed, scaled))
    variances[name] = [x.var().item() for x in stream]
fig, ax = plt.subplots(figsize=(6.4, 3.2))
figures.lines(ax, range(depths[-1] + 1), variances, xlabel="behind block", ylabel="variance of the stream", title=f"{depths[-1]} blocks, untrained")
ax.set_ylim(bottom=0)
figures.show(
    fig,
    caption="The stream's variance grows with each block, roughly in a straight line. With the writing matrices divided by √(2L) it hardly grows.",
    alt="Variance of the stream over 24 blocks: a rising, roughly straight line, and a nearly flat one below it.",
)

# %% tags=["claim"]
claim(
    "with the writing matrices divided by √(2L) the stream's variance does not even double over 24 blocks (ratio)",
    measured=variances["PreNorm, divided by √(2L)"][-1] / variances["PreNorm, divided by √(2L)"][0],
    at_most=2.0,
    breaks_when={"without the division": variances["PreNorm"][-1] / variances["PreNorm"][0]},
)

# %% [markdown]
r"""
## Counting

Count without making anything. A linear layer from $a$ to $b$ numbers has $ab$ weights and $b$ biases. For a plain block ($d_{ff} = 4d$, $h$ heads of width $d/h$): four projections of $d \times d$ and two of $d \times 4d$ make

$$4 d^2 + 8 d^2 = 12 d^2$$

weights, a third in the attention and two thirds in the feed-forward network, whatever the number of heads; biases and norms add $13 d$ (check it: $4d + 4d + d$ in the linear layers, $4d$ in two norms). GPT-2 small has 12 blocks of width 768, so $12 \cdot (12 \cdot 768^2 + 13 \cdot 768) \approx 85$ million parameters in its blocks.

### Exercise: `count_parameters`

*Difficulty ●●○○○ · about 15 minutes · 3 points*

- **Task**: write `count_parameters(d_model, n_heads, d_ff, …)`: how many parameters a `TransformerBlock` of these sizes has, by arithmetic alone (making a block and asking it is not allowed).
- **Input**: whole numbers, and: `n_kv_heads` (g key heads; None means n_heads), `d_head` (None means d_model // n_heads), `activation` (a name; `ACTIVATIONS[activation][1]` says whether it has a gate), `bias` (whether the linear layers have one), `norm_vectors` (how many vectors of width d_model a norm learns: 2 for LayerNorm, 1 for RMSNorm).
- **Output**: a whole number.
- **Edge cases**: with shared key heads, keys and values are g · d_head wide; with a `d_head` of its own, the heads together are not d_model wide. There are two norms.
"""

# %% tags=["exercise"] exercise="count_parameters"
from course_lib.models.block import count_parameters  # course: write out

# %% tags=["check"] exercise="count_parameters"
count_parameters = check("count_parameters")

# %% [markdown]
r"""
**Operations.** A product of a row with an $a \times b$ matrix takes $ab$ multiplications and as many additions: two **FLOPs** (floating-point operations) for each weight and each position. So the matrices of a block take $2 \cdot 12 d^2$ per position, and attention's scores and averages $2 \cdot 2 n d$ more, since each of $n$ queries meets $n$ keys twice, over a width of $d$ in all heads together:

$$\text{FLOPs} = 2n \cdot 12 d^2 + 4 n^2 d .$$

Norms, softmax, biases and bends are done number by number and are left out; they are small beside the products. A backward pass computes two products for each one of the forward pass (a gradient for the input and one for the weights), so training takes three times as much: the *6 N* of lesson 16 ($2 \times 3$ per parameter and token).
"""

# %%
from course_lib.models.block import count_flops  # course: write out

# %% tags=["claim"]
def counted_by_torch(batch: int, n: int, backward: bool, **sizes: object) -> tuple[int, int]:
    """Return the parameters and the FLOPs that PyTorch counts for a block."""
    block = TransformerBlock(**sizes)
    x = torch.randn(batch, n, sizes["d_model"], requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        output = block(x)
        if backward:
            output.sum().backward()
    return sum(each.numel() for each in block.parameters()), counter.get_total_flops()


plain = {"d_model": 96, "n_heads": 4, "d_ff": 384}
modern = {"d_model": 96, "n_heads": 8, "d_ff": 256, "n_kv_heads": 2, "activation": "swiglu"}
off_parameters, off_flops = [], []
for sizes in (plain, modern):
    by_torch = counted_by_torch(3, 20, backward=False, **sizes)
    off_parameters.append(abs(count_parameters(**sizes) - by_torch[0]))
    off_flops.append(abs(3 * count_flops(20, **sizes) - by_torch[1]))
    print(f"{count_parameters(**sizes):,} parameters, {count_flops(20, **sizes):,} FLOPs for 20 positions")
claim(
    "parameters counted by arithmetic are those that PyTorch counts (largest difference, two kinds of block)",
    measured=max(off_parameters),
    equals=0,
    breaks_when={"12 d² for the plain block": abs(12 * 96**2 - count_parameters(**plain))},
)
claim(
    "FLOPs counted by arithmetic are those that PyTorch counts",
    measured=max(off_flops),
    equals=0,
    breaks_when={"without attention's scores and averages": abs(2 * 20 * 12 * 96**2 - count_flops(20, **plain))},
)
claim(
    "with the backward pass it is three times as many",
    measured=counted_by_torch(3, 20, backward=True, **plain)[1] / (3 * count_flops(20, **plain)),
    equals=3.0,
    breaks_when={"forward alone": counted_by_torch(3, 20, backward=False, **plain)[1] / (3 * count_flops(20, **plain))},
)

# %% tags=["nbval-check-output"]
print("GPT-2 small, one block (d = 768, 12 heads):", f"{count_parameters(768, 12, 3072):,} parameters, in 12 blocks {12 * count_parameters(768, 12, 3072):,}")
for n in (256, 1024, 4608, 16384):
    total, pairs = count_flops(n, 768, 12, 3072), 4 * n**2 * 768
    print(f"n = {n:>6}: {total / 1e9:8.1f} GFLOPs a block, of which scores and averages {pairs / total:.0%}")
print("SwiGLU with d_ff = 8/3 d against GELU with 4 d:", f"{count_parameters(768, 12, 2048, activation='swiglu', bias=False):,} and {count_parameters(768, 12, 3072, activation='gelu', bias=False):,} parameters")

# %% [markdown]
r"""
The $n^2$ of attention catches up with everything else where $4n^2 d = 24 n d^2$, that is at $n = 6d$: 4608 positions for GPT-2 small. At the lengths it was trained on (1024), most of the work is in the matrices, and two thirds of that in the feed-forward networks.
"""

# %% [markdown]
r"""
## Real text: what is each part worth?

Back to Python's manual, where one layer of attention stood behind trigram counts (lessons 07 and 08). Two blocks of width 64, and the same model with one part taken out at a time. Positions come in by rotation, `rotate=apply_rope` (lesson 09).

Live you see the whole model and the one without feed-forward networks; the full table is a record.
"""

# %%
manual_alphabet = sorted(set(text.python_manual().text))


def split_text(corpus: str, letters: list[str]) -> tuple[Tensor, Tensor]:
    """Return the characters' numbers of the first nine tenths of a text, and of the last."""
    number = {character: i for i, character in enumerate(letters)}
    ids = torch.tensor([number[character] for character in corpus])  # (characters,)
    return ids.tensor_split([int(0.9 * len(ids))])


CHARACTERS = 64  # that the models of this section see


def held_out_windows(test: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return up to 400 windows of a text, one after the other, the characters before and the characters after each of theirs."""
    count = min(400, (len(test) - 2) // CHARACTERS)
    before, seen, following = (test[shift : shift + count * CHARACTERS].view(count, -1) for shift in (0, 1, 2))
    return seen, before, following


def trigram_bits(train: Tensor, test: Tensor, size: int) -> float:
    """Return the bits per character of trigram counts, 0.1 added to each, on the held-out windows."""
    counts = torch.full((size,) * 3, 0.1)
    counts.index_put_((train[:-2], train[1:-1], train[2:]), torch.ones(len(train) - 2), accumulate=True)
    seen, before, following = held_out_windows(test)
    p = counts / counts.sum(-1, keepdim=True)
    return -p[before, seen, following].log2().mean().item()


class Silent(nn.Module):
    """Stands for a sublayer that is taken out: it says nothing."""

    def forward(self, x: Tensor, **options: object) -> Tensor | tuple[Tensor]:
        return (torch.zeros_like(x),) if options else torch.zeros_like(x)  # only the attention is called with options


def blocks_without(part: str) -> list[TransformerBlock]:
    """Return two blocks from which one part is taken out."""
    residual = {"residual": NoResidual, "norms": NoNorm, "pre-norm": PostNorm}.get(part, PreNorm)
    count = 6 if part == "feed-forward (three times the attention)" else 2
    blocks = [TransformerBlock(64, 4, 256, residual=residual, rotate=apply_rope) for _ in range(count)]
    for block in blocks:
        if part.startswith("feed-forward"):
            block.feed_forward = Silent()
        elif part == "attention":
            block.attention = Silent()
    return blocks


# %%
def learn_text(part: str, train: Tensor, size: int, steps: int, seed: int = run.seed) -> Writer:
    """Train a model without one part."""
    torch.manual_seed(seed)
    blocks = blocks_without(part)
    model = Writer(blocks, LayerNorm(64) if isinstance(blocks[0].compute, PreNorm) else None, size)
    model.positions = nn.Identity()  # the blocks turn queries and keys instead
    initialise(model)
    optimizer = torch.optim.Adam(model.to(run.device).parameters(), lr=1.2e-2, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.2e-2, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in progress(range(steps), desc=f"without {part}"):
        seen, following = draw_windows(train, 12, CHARACTERS, generator)
        with run.autocast():
            logits = model(seen)  # (12, n, size)
        loss = F.cross_entropy(logits.float().flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def held_out_bits(model: Writer, test: Tensor) -> float:
    """Return the bits per character on the held-out windows."""
    seen, _, following = (each.to(run.device) for each in held_out_windows(test))
    with torch.no_grad():
        return F.cross_entropy(model(seen).flatten(0, 1), following.flatten()).item() / math.log(2)


# %% tags=["experiment"]
manual_train, manual_test = split_text(text.python_manual().text, manual_alphabet)
manual_steps = run.pick(smoke=3, standard=350, full=5000)
trigrams = trigram_bits(manual_train, manual_test, len(manual_alphabet))
live = {}
for part in ("nothing", "feed-forward"):
    live[part] = held_out_bits(learn_text(part, manual_train, len(manual_alphabet), manual_steps), manual_test)
print(f"trigram counts        {trigrams:.2f} bits per character")
print(f"two blocks            {live['nothing']:.2f}")
print(f"without feed-forward  {live['feed-forward']:.2f}")

# %% tags=["claim"]
claim(
    "on Python's manual two blocks need fewer bits per character than trigram counts",
    measured=live["nothing"] - trigrams,
    at_most=-0.02,
    breaks_when={"without the feed-forward networks": live["feed-forward"] - trigrams},
)

# %% [markdown]
r"""
What no layer of attention did in lessons 07 and 08, two blocks do in a few hundred steps: they look up pairs, and more.

Now every part. To be fair to attention, one model without feed-forward networks gets three times as many attention layers, and so the same number of parameters.
"""

# %%
predict(
    "worth",
    "From two blocks one part is taken out. Which of them is missed least?",
    ["The feed-forward networks", "The attention", "The residual connections", "The norms"],
    answer=3,
    because="Two blocks have four sublayers: the stream has no time to grow out of size. In 24 blocks without norms it grew by orders of magnitude.",
)

# %% tags=["record"]
PARTS = ("nothing", "feed-forward", "feed-forward (three times the attention)", "attention", "residual", "norms", "pre-norm")
record(
    "bits without",
    {
        part: [held_out_bits(learn_text(part, manual_train, len(manual_alphabet), min(manual_steps, 200), seed), manual_test) for seed in (0, 1, 2)]
        for part in PARTS
    },
)

# %% tags=["experiment"]
without = recorded("bits without")
mean_without = {part: sum(bits) / len(bits) for part, bits in without.items()}
names = {"nothing": "the whole block", "pre-norm": "post-norm in its place", "feed-forward (three times the attention)": "three attentions, no feed-forward"}
fig, ax = plt.subplots(figsize=(8, 3.2))
order = sorted(without, key=mean_without.get, reverse=True)
for i, part in enumerate(order):
    ax.plot(without[part], [i] * len(without[part]), linestyle="", marker="o", markersize=7, alpha=0.7, color=figures.PALETTE["blue"])
    ax.plot([mean_without[part]] * 2, [i - 0.3, i + 0.3], marker="", color=figures.PALETTE["black"])
ax.axvline(mean_without["nothing"], color=figures.PALETTE["grey"], linestyle=":", marker="", label="the whole block")
ax.axvline(trigrams, color=figures.PALETTE["vermillion"], linestyle="--", marker="", label="trigram counts")
ax.set_yticks(range(len(order)), [names.get(part, f"without {part}") for part in order])
ax.set(xlabel="bits per character on held-out text")
ax.legend(loc="upper right")
figures.show(
    fig,
    caption="Recorded. Two blocks of width 64 on Python's manual, with one part taken out at a time: a mark for each of three seeds, a line for their mean. After 200 steps, fewer than above, the whole block is still behind trigram counts; compare the models with each other.",
    alt="Marks of bits per character for the whole block and for blocks without one part, sorted, with dotted and dashed lines for the whole block and for trigram counts: post-norm, no norms and the whole block lie together, feed-forward is missed a little, attention and residual connections by far the most.",
)
for part in reversed(order):
    print(f"{names.get(part, f'without {part}'):<34}{mean_without[part]:.2f}  ({mean_without[part] - mean_without['nothing']:+.2f})")

# %% tags=["claim"]
costs = {part: bits - mean_without["nothing"] for part, bits in mean_without.items()}
claim(
    "recorded: taking out the feed-forward networks costs at least a tenth of a bit per character",
    measured=costs["feed-forward"],
    at_least=0.1,
    breaks_when={"taking out the norms": costs["norms"]},
)
claim(
    "recorded: and the same parameters in attention do not make up for it",
    measured=costs["feed-forward (three times the attention)"],
    at_least=0.03,
    breaks_when={"taking out the norms": costs["norms"]},
)
claim(
    "recorded: taking out the residual connections costs at least half a bit, even from two blocks",
    measured=costs["residual"],
    at_least=0.5,
    breaks_when={"taking out the feed-forward networks": costs["feed-forward"]},
)

# %% [markdown]
r"""
Without residual connections a model of two blocks falls back about as far as one that hears nobody. The feed-forward networks are worth more than attention of the same size. And the norms? At this depth they may go, and post-norm is even a little better than pre-norm: what norms and their place are for is depth, as the sections above have shown. An ablation of a small model would have missed that.

The same on Shakespeare (Karpathy's *tinyshakespeare*), if you have fetched it with `course data fetch tinyshakespeare`. For comparison: nanoGPT's published recipe for a small GPT on a CPU, four such blocks of width 128 and 2000 steps, ends near 1.88 nats $= 2.71$ bits per character (Karpathy 2022).
"""

# %% tags=["nbval-ignore-output"]
plays = registry.load_or_none("tinyshakespeare")
if plays is not None:
    letters = sorted(set(plays))
    train, test = split_text(plays[:400_000], letters)
    print(f"trigram counts  {trigram_bits(train, test, len(letters)):.2f} bits per character")
    print(f"two blocks      {held_out_bits(learn_text('nothing', train, len(letters), manual_steps), test):.2f} bits per character")

# %% [markdown]
r"""
## Where it breaks

- **Depth has a price.** In a deep pre-norm stack late blocks add ever smaller shares to a growing stream. Post-norm needs care at the start; with weights scaled for it, it has been trained to a thousand layers (Wang et al. 2022).
- **Norms hide things.** A layer that reads a normalised stream cannot know how large it was. Where size carries information (a count, a sum), it must be turned into a direction first.
- **$\varepsilon$ is part of the model.** BERT has $10^{-12}$, GPT-2 $10^{-5}$, T5 $10^{-6}$: with another one, loaded weights give slightly other outputs.
- **Two thirds of a block's weights** stand in the feed-forward network, and every one of them is used for every token. Mixtures of experts (lesson 22) use only some.

## Recap

- Attention layers one behind the other average until all positions are the same. A residual connection adds instead of replacing: of $2^L$ paths one is free.
- LayerNorm works inside one vector. Its Jacobian is a projection divided by $\sigma$: blind to shift and scale, and the gradient shrinks as the vector grows.
- A position by itself can only apply matrices. The feed-forward network lets it compute: communicate, then compute.
- At the start the gradient reaches the first block with pre- and with post-norm; but with post-norm only through the sublayers. A deep post-norm stack starts with all positions alike, so its attention learns nothing, and each step moves it further: it sticks at the unigram entropy. A smaller start with a warm-up frees it.
- GPT-2 divides the matrices that write to the stream by $\sqrt{2L}$, so that depth does not change its size.
- A plain block has $12 d^2 + 13 d$ parameters and takes $24 n d^2 + 4 n^2 d$ FLOPs forward, three times that in training.

**If you want more.** (1) Divide the writing matrices of 18 post-norm blocks by $2L$ instead of $\sqrt{2L}$ (`initialise(model, n_blocks=2 * 18**2)`): is a warm-up still needed? (2) Give the blocks of `make_writer` `norm=RMSNorm`; does anything change? (3) Write a block whose attention and feed-forward network read the same norm side by side, as some large models have it: what does that cost on the manual, and what could it save?

## Glossary

| word | meaning |
|---|---|
| residual connection, residual stream | $x + f(x)$; what runs through all of them |
| sublayer | what stands inside a connection: attention or feed-forward |
| block | two connections: communicate, then compute |
| LayerNorm, RMSNorm | mean 0 and variance 1 for each vector; mean square 1 |
| biased variance | divided by $d$, not $d - 1$ |
| pre-norm, post-norm | $x + f(\operatorname{norm}(x))$; $\operatorname{norm}(x + f(x))$ |
| feed-forward network | widen, bend, narrow, for each position by itself |
| GELU, SiLU, SwiGLU | round relatives of ReLU; a gate with SiLU |
| dropout | zeroing numbers at random in training, the rest divided by $1 - p$ |
| warm-up | letting the rate rise at the start of training |
| FLOP | one addition or multiplication |

## Sources

- A. Vaswani et al. (2017), *Attention Is All You Need*, NeurIPS. Sections 3.1 (post-norm), 3.3 (feed-forward), 5.3 (warm-up), 5.4 (dropout).
- K. He et al. (2016), *Deep Residual Learning for Image Recognition*, CVPR. Section 3.1.
- A. Veit, M. Wilber, S. Belongie (2016), *Residual Networks Behave Like Ensembles of Relatively Shallow Networks*, NeurIPS. Section 3 (paths).
- J. L. Ba, J. R. Kiros, G. Hinton (2016), *Layer Normalization*. Sections 3 and 5.1 (invariances).
- B. Zhang, R. Sennrich (2019), *Root Mean Square Layer Normalization*, NeurIPS. Section 3.
- R. Xiong et al. (2020), *On Layer Normalization in the Transformer Architecture*, ICML. Table 1 and section 3.
- L. Noci et al. (2022), *Signal Propagation in Transformers: Theoretical Perspectives and the Role of Rank Collapse*, NeurIPS. Section 3.
- L. Liu et al. (2020), *Understanding the Difficulty of Training Transformers*, EMNLP. Section 4 (amplification).
- H. Wang et al. (2022), *DeepNet: Scaling Transformers to 1,000 Layers*.
- Y. Dong, J.-B. Cordonnier, A. Loukas (2021), *Attention is Not All You Need: Pure Attention Loses Rank Doubly Exponentially with Depth*, ICML.
- D. Hendrycks, K. Gimpel (2016), *Gaussian Error Linear Units*. N. Shazeer (2020), *GLU Variants Improve Transformer*.
- M. Geva et al. (2021), *Transformer Feed-Forward Layers Are Key-Value Memories*, EMNLP.
- N. Srivastava et al. (2014), *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, JMLR 15. Y. LeCun et al. (1998), *Efficient BackProp*, section 4.6.
- A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners*, section 2.3, and its released code (standard deviation 0.02).
- A. Karpathy (2022), *nanoGPT*, readme: the small-CPU recipe and its loss.
"""
