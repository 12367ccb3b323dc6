# %% [markdown]
r"""
# 05 · Recurrent networks

**One set of weights for any length.**

A window has an edge. In this lesson you build networks that have none: they read one token after the other and carry a **state**
along, which may hold anything from as long ago as it likes. Whether it *does* hold it is the other half of the lesson. At the end you will

- write a recurrent network, unroll it, and derive its gradients by hand (backpropagation through time);
- know why these gradients vanish or explode with distance, which number decides it, and what clipping repairs;
- build the LSTM and the GRU, equal to PyTorch's, and find out how an LSTM keeps what it keeps;
- train on a text of any length with truncated backpropagation;
- measure the price: steps that must wait for each other.

You need matrix products and the shape comments of lesson 00, the chain rule and the gradient of softmax and cross-entropy of lesson 02, and language models and
perplexity of lesson 04. About two hours.

Rows are vectors, as always in this course: a batch of states is a matrix with one row for each sequence, and is multiplied by a weight matrix *from the right*.
$B$ is the batch, $n$ the length, $d$ the width of the state, and $d_{in}$ that of what is read at each step.
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
from jaxtyping import Float  # noqa: F401 - used by the code of the exercises
from torch import Tensor, nn

from course_lib import figures, widgets
from course_lib.data import registry, text
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.figures.recurrent import draw_lstm_cell, draw_unrolled
from course_lib.runtime import median_time, progress, start
from course_lib.widgets.gradient_flow import draw_gradient_flow

torch.set_num_threads(1)  # the steps of this lesson are tiny: a second thread would wait more than it works
run = start(lesson=5, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=5)

# %% [markdown]
r"""
## The question

Lesson 04's neural language model saw a window of words and nothing before it. In *the kings who saw the girl with the telescope rule the kingdom* a window of five words before *rule* holds no king.

Here is the same trouble with the language taken away. Add two numbers on paper: from right to left, column by column. In binary, with the lowest digit first:

> column 0, 1, 2 …   first number **1 1 0 1**, second number **1 0 1 0**, sum **0 0 0 0** and carry 1

Each digit of the sum depends on its own column and on the **carry**, and that comes from the last column in which both digits were equal: 1 + 1 makes a carry, 0 + 0 ends one, and 0 + 1 passes on whatever arrives. In the
example the carry is born in column 0 and travels to the end. How far it travels is anybody's guess, so no fixed number of columns is enough.

Let us see it fail: a window over the last four columns, read by a layer of 32 units, as in lesson 04. We ask for a digit whose carry was decided $1, 2, 3, \dots$ columns before.
"""

# %%
def add(bits: Tensor) -> Tensor:
    """Return the sum (B, n) of pairs of numbers (B, n, 2), lowest digit first."""
    answer, carry = [], torch.zeros_like(bits[:, 0, 0])  # (B,)
    for column in bits.unbind(dim=1):  # n times (B, 2)
        total = column.sum(dim=1) + carry  # (B,), 0 to 3
        answer.append(total % 2)
        carry = (total >= 2).to(bits.dtype)
    return torch.stack(answer, dim=1)  # (B, n)


def draw_numbers(size: int, n: int, generator: torch.Generator) -> Tensor:
    """Return pairs of random numbers of n digits, (size, n, 2)."""
    return torch.randint(2, (size, n, 2), generator=generator).float().to(run.device)


def draw_chains(size: int, distance: int, generator: torch.Generator) -> Tensor:
    """Return pairs of numbers (size, distance + 1, 2) whose last carry was decided `distance` columns before."""
    first = torch.randint(2, (size, distance + 1), generator=generator).float()  # (size, distance + 1)
    second = 1 - first  # 0 + 1 or 1 + 0: passes the carry on
    second[:, 0] = first[:, 0]  # 0 + 0 or 1 + 1: decides it
    return torch.stack([first, second], dim=-1).to(run.device)  # (size, distance + 1, 2)


# %%
WINDOW = 4


class WindowAdder(nn.Module):
    """Guess each digit of the sum from the last few columns, like the window model of lesson 04."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * WINDOW, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, bits: Tensor) -> Tensor:
        padded = F.pad(bits, (0, 0, WINDOW - 1, 0))  # (B, n + 3, 2), zeros before the number
        windows = padded.unfold(1, WINDOW, 1).flatten(2)  # (B, n, 8)
        return self.layers(windows)[..., 0]  # (B, n), the logit of a 1


def right_by_distance(model, distances: list[int]) -> list[float]:
    """Return the share of right last digits for each distance of the column that decided the carry."""
    generator, shares = run.generator(1), []
    with torch.no_grad():
        for distance in distances:
            bits = draw_chains(2000, distance, generator)
            shares.append(((model(bits) > 0) == (add(bits) > 0))[:, -1].float().mean().item())
    return shares


adder_steps = run.pick(smoke=10, standard=600, full=3000)
torch.manual_seed(run.seed)
window_adder = WindowAdder().to(run.device)
optimizer = torch.optim.Adam(window_adder.parameters(), lr=0.02)
generator = run.generator(2)
for _ in progress(range(adder_steps), desc="window"):
    bits = draw_numbers(32, 12, generator)
    loss = F.binary_cross_entropy_with_logits(window_adder(bits), add(bits))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
distances = [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64]
by_window = right_by_distance(window_adder, distances)
print("  ".join(f"{distance}: {share:.2f}" for distance, share in zip(distances, by_window)))

# %% tags=["claim"]
claim(
    "the window tosses a coin where the carry was decided before its edge",
    measured=sum(by_window[3:]) / len(by_window[3:]),
    at_most=0.55,
    breaks_when={"where it was decided inside": sum(by_window[:3]) / 3},
)

# %% [markdown]
r"""
A wider window moves the edge, and each column more doubles the number of cases to be learnt. But you, with pencil and paper, need no window at all. You go through the columns and keep *one* thing in mind: the carry.

## A state

So give the network a memory: a vector $h_t$ of $d$ numbers, the **state** after step $t$. At each step it reads $x_t$ ($d_{in}$ numbers) and makes a new state from the old one,

$$h_t = \tanh(x_t W_x + h_{t-1} W_h + b) ,$$

with a matrix $W_x$ ($d_{in} \times d$) from what is read, a matrix $W_h$ ($d \times d$) from the old state, and a bias $b$ ($d$ numbers). The first state $h_0$ is given, mostly zeros. This is the **recurrent network** (RNN) of Elman (1990). What it answers at each step is read off the state, by one more matrix.

The weights are **the same at every step**. So their number does not depend on the length; what is learnt at one place holds at every place; and nothing in the formula says when to stop.

The tanh keeps every number of the state between −1 and 1, however long the sequence.

### Exercise: `rnn_step`

*Difficulty ●○○○○ · about 6 minutes · 2 points*

Write `rnn_step(x, h, w_x, w_h, b)`: one step for a batch. `x` is (B, d_in), `h` (B, d), `w_x` (d_in, d), `w_h` (d, d), `b` (d,). Return the new state (B, d). `hint("rnn_step")` in a new cell helps.
"""

# %% tags=["exercise"] exercise="rnn_step"
from course_lib.models.recurrent import rnn_step  # course: write out

# %% tags=["check"] exercise="rnn_step"
rnn_step = check("rnn_step")

# %% [markdown]
r"""
To read a sequence, take the step $n$ times. Drawn out, each step beside the last, the network looks like a feed-forward one with $n$ layers that happen to have equal weights: it is **unrolled**. `RNN` does it, with your step.

Where $W_h$ starts matters, as you will see soon. Here it starts as a random **orthogonal** matrix (one that turns or mirrors vectors and keeps their length) times a number, `recurrent_scale`.
"""

# %%
from course_lib.models.recurrent import RNN  # course: write out

# %% [markdown]
r"""
## Backpropagation through time

How does such a network learn? Unroll it, and it is an ordinary graph, so lesson 02's rules give its gradients. Let us derive them by hand once, because the formula that comes out explains everything that follows.

Name the sum inside the tanh: $a_t = x_t W_x + h_{t-1} W_h + b$, so $h_t = \tanh(a_t)$. The loss is a sum over steps, $L = \sum_t \ell_t$, where $\ell_t$ depends on $h_t$. The state $h_t$ influences $L$ in two ways:

- **directly**, through $\ell_t$. Call that gradient $e_t = \partial \ell_t / \partial h_t$, a row of $d$ numbers. It is the error signal of step $t$ itself.
- **through the next state** $h_{t+1}$, and so through all later ones.

Let $g_t = \partial L / \partial h_t$ be the whole gradient, both ways added. Let $\delta_t = \partial L / \partial a_t$ be the gradient inside the tanh.

*Through the tanh.* Its derivative is $1 - \tanh^2$, number by number, and $\tanh(a_t)$ is $h_t$. With $\odot$ for the product number by number,

$$\delta_t = g_t \odot (1 - h_t^2) .$$

*To the state before.* Number $j$ of $a_{t+1}$ contains $\sum_i h_{t,i} W_{h,ij}$, so $\partial a_{t+1,j} / \partial h_{t,i} = W_{h,ij}$, and the chain rule gives $\sum_j \delta_{t+1,j} W_{h,ij}$, which is number $i$ of the row $\delta_{t+1} W_h^\top$. So

$$g_t = e_t + \delta_{t+1} W_h^\top , \qquad g_n = e_n .$$

*To the weights.* They are used at every step, and each use adds its part (lesson 02: a value used twice gets the sum). At step $t$ we have $\partial a_{t,j} / \partial W_{h,ij} = h_{t-1,i}$, so the part of step $t$ is $h_{t-1,i}\,\delta_{t,j}$, an outer product:

$$\frac{\partial L}{\partial W_h} = \sum_{t=1}^n h_{t-1}^\top \delta_t , \qquad
\frac{\partial L}{\partial W_x} = \sum_{t=1}^n x_t^\top \delta_t , \qquad
\frac{\partial L}{\partial b} = \sum_{t=1}^n \delta_t , \qquad
\frac{\partial L}{\partial x_t} = \delta_t W_x^\top , \qquad
\frac{\partial L}{\partial h_0} = \delta_1 W_h^\top .$$

The picture shows both ways:
"""

# %%
figures.show(
    draw_unrolled(),
    caption="The unrolled network. Solid: forward, with the same two matrices at every step. Dashed: backward. Each state receives the error of its own step, e, and what the next step sends back through the recurrent matrix.",
    alt="Five states in a row, joined by solid arrows labelled W h to the right and dashed arrows labelled delta W h transposed to the left. Inputs stand below the states, losses above, with dashed arrows e from the losses to the states.",
)

# %% [markdown]
r"""
For a batch all of these hold row by row; the products $h_{t-1}^\top \delta_t$, of $(d \times B)$ and $(B \times d)$, then sum over the batch too. That is **backpropagation through time** (BPTT; Werbos 1990): walk from the last step to the first, carry $\delta_{t+1} W_h^\top$ with you, and add up as you go. It needs all states $h_1, \dots, h_n$ of the way forward: memory grows with $n$.

### By hand, once

One unit, two steps, no input: $w_h = 2$, $h_0 = 0.5$, $b = 0$. Forward: $h_1 = \tanh(1) \approx 0.762$ and $h_2 = \tanh(1.523) \approx 0.909$. Let the loss be $h_2$ itself, so $e_2 = 1$ and $e_1 = 0$. Backward: $\delta_2 = 1 - 0.909^2 \approx 0.173$. Then $g_1 = 2 \cdot 0.173 \approx 0.346$ and
$\delta_1 = 0.346\,(1 - 0.762^2) \approx 0.145$. The gradient of $w_h$ is $h_0 \delta_1 + h_1 \delta_2 \approx 0.073 + 0.132 = 0.205$. Increase $w_h$ by a thousandth, and $h_2$ should grow by 0.000205:
"""

# %% tags=["nbval-check-output"]
def two_steps(w: float) -> float:
    """Return h₂ for the recurrent weight w."""
    return math.tanh(w * math.tanh(w * 0.5))


print(f"h2 grows by {two_steps(2.001) - two_steps(2.0):.6f}")

# %% [markdown]
r"""
### Exercise: `bptt_grad`

*Difficulty ●●●●○ · about 25 minutes · 5 points*

Write `bptt_grad(x, h0, h, grad_h, w_x, w_h)`. Given are the input `x` (B, n, d_in), the state before the first step `h0` (B, d), the states after each step `h` (B, n, d) as the forward pass gave them (so `h[:, 0]` is $h_1$), and the direct gradients `grad_h` (B, n, d), so `grad_h[:, 0]` is $e_1$. Return five tensors:
the gradients for `x`, `h0`, `w_x`, `w_h` and the bias, in this order, each of its tensor's shape. Sum over the batch; the bias itself is not needed. No autograd: it is what the check compares you with. `hint("bptt_grad")` helps.
"""

# %% tags=["exercise"] exercise="bptt_grad"
from course_lib.models.recurrent import bptt_grad  # course: write out

# %% tags=["check"] exercise="bptt_grad"
bptt_grad = check("bptt_grad")

# %% tags=["claim"]
reader = RNN(3, 5).double()
x = torch.randn(4, 9, 3, dtype=torch.float64, generator=run.generator(5)).requires_grad_()  # (B, n, d_in)
h0 = torch.randn(4, 5, dtype=torch.float64, generator=run.generator(6)).tanh().requires_grad_()  # (B, d)
target = torch.randn(4, 9, 5, dtype=torch.float64, generator=run.generator(7))  # (B, n, d)
h, _ = reader(x, h0)  # (B, n, d)
loss = 0.5 * (h - target).square().sum()  # its direct gradient is h − target
by_autograd = torch.autograd.grad(loss, (x, h0, reader.w_x, reader.w_h, reader.b))
with torch.no_grad():
    by_hand = bptt_grad(x, h0, h, h - target, reader.w_x, reader.w_h)
    nothing_back = sum((torch.cat([h0[:, None], h[:, :-1]], dim=1)[:, t].T @ ((h - target) * (1 - h**2))[:, t]) for t in range(9))
claim(
    "backpropagation through time by hand equals autograd",
    measured=max((a - b).abs().max().item() for a, b in zip(by_hand, by_autograd)),
    at_most=1e-10,
    breaks_when={"with nothing sent back through the recurrent matrix": (nothing_back - by_autograd[3]).abs().max().item()},
)

# %% [markdown]
r"""
### Long gradients

One more tool before we train. Sometimes a gradient is very long (soon you will see why), and a step along it leads nowhere good. The remedy is crude: if the gradient is longer than a bound $\theta$, shorten it to $\theta$, and **keep its direction** (Pascanu, Mikolov and Bengio 2013):

$$\hat g = g \cdot \min\!\Big(1, \frac{\theta}{\lVert g \rVert}\Big) .$$

Here $g$ is *all* gradients of *all* parameters as one long vector, and $\lVert g \rVert$ is the root of the sum of the squares of all its numbers. Clipping each tensor, or each number, on its own would change the direction.

### Exercise: `clip_gradients`

*Difficulty ●●○○○ · about 10 minutes · 3 points*

Write `clip_gradients(gradients, max_norm)`. `gradients` is a list of tensors of any shapes. Return a list of *new* tensors, all multiplied by the same factor, and the norm *before* clipping, a tensor without axes. To agree with PyTorch to the last digit, and to survive gradients that are all zero,
the factor is `max_norm / (norm + 1e-6)`, and never more than 1. `hint("clip_gradients")` helps.
"""

# %% tags=["exercise"] exercise="clip_gradients"
from course_lib.models.recurrent import clip_gradients  # course: write out

# %% tags=["check"] exercise="clip_gradients"
clip_gradients = check("clip_gradients")

# %% [markdown]
r"""
### An adder without an edge

Now all gradients are yours. The answer at step $t$ is a logit $y_t = h_t \cdot u + c$ with $d$ numbers $u$ and a bias $c$, and the loss is the binary cross-entropy. As in lesson 02, its gradient for the logit is *what was said minus what is true*, $\sigma(y_t) - \text{digit}_t$, so $e_t = (\sigma(y_t) - \text{digit}_t)\,u$, with the sigmoid $\sigma(a) = 1 / (1 + e^{-a})$. There is no `backward()` in this cell:
"""

# %%
predict(
    "lengths",
    "The adder is trained on numbers of 12 digits. What will it do with numbers of 100 digits?",
    ["Fail: it has never seen such long numbers", "Get the first 12 digits right and guess the rest", "Add them as well as short ones"],
    answer=2,
    because="A step does not know where it stands. If the carry is handed on rightly from each column to the next, the hundredth step is like the tenth",
)

# %% tags=["experiment"]
class RecurrentAdder:
    """Add two numbers column by column, with a state of 16 numbers; its gradients are derived by hand."""

    def __init__(self) -> None:
        self.rnn = RNN(2, 16).to(run.device)
        self.u = nn.Parameter(0.25 * torch.randn(16, generator=run.generator(8)).to(run.device))  # (d,)
        self.c = nn.Parameter(torch.zeros((), device=run.device))
        self.parameters = [self.rnn.w_x, self.rnn.w_h, self.rnn.b, self.u, self.c]

    def __call__(self, bits: Tensor) -> Tensor:
        return self.rnn(bits)[0] @ self.u + self.c  # (B, n)

    @torch.no_grad()
    def gradients(self, bits: Tensor, digits: Tensor) -> list[Tensor]:
        """Return the gradients of the mean loss for the parameters."""
        h, _ = self.rnn(bits)  # (B, n, d)
        error = ((h @ self.u + self.c).sigmoid() - digits) / digits.numel()  # (B, n)
        h0 = torch.zeros_like(h[:, 0])  # (B, d)
        _, _, *of_rnn = bptt_grad(bits, h0, h, error[..., None] * self.u, self.rnn.w_x, self.rnn.w_h)
        return [*of_rnn, (error[..., None] * h).sum(dim=(0, 1)), error.sum()]


torch.manual_seed(run.seed)
adder = RecurrentAdder()
optimizer = torch.optim.Adam(adder.parameters, lr=0.02)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=adder_steps)  # the rate rises, then falls to 0
generator = run.generator(2)
for _ in progress(range(adder_steps), desc="RNN"):
    bits = draw_numbers(32, 12, generator)
    clipped, _ = clip_gradients(adder.gradients(bits, add(bits)), max_norm=1.0)
    for parameter, gradient in zip(adder.parameters, clipped):
        parameter.grad = gradient
    optimizer.step()
    schedule.step()
by_state = right_by_distance(adder, distances)

# %%
fig, ax = plt.subplots()
figures.lines(
    ax, distances, {"RNN, 16 numbers of state": by_state, f"window of {WINDOW} columns": by_window},
    xlabel="columns since the carry was decided", ylabel="share of right digits", title="Addition, trained on numbers of 12 digits", log="x",
)
ax.set_ylim(0, 1.04)
figures.show(
    fig,
    caption="The window is perfect up to its edge and tosses a coin beyond it. The recurrent network carries, also much further than the twelve columns that it was trained on.",
    alt="Share of right digits against distance: the window's line is at one for distances up to three and falls to one half; the recurrent network's stays at one.",
)

# %% tags=["claim"]
def sums_right(model, n: int) -> float:
    """Return the share of sums of n digits in which every digit is right."""
    bits = draw_numbers(1000, n, run.generator(9))
    with torch.no_grad():
        return ((model(bits) > 0) == (add(bits) > 0)).all(dim=1).float().mean().item()


claim(
    "trained on numbers of 12 digits, the RNN adds numbers of 100 digits: the share with every digit right",
    measured=sums_right(adder, 100),
    at_least=0.9,
    breaks_when={"the window": sums_right(window_adder, 100)},
)

# %% [markdown]
r"""
Has it found the carry? The state has 16 numbers; the mean state with a carry and the mean state without differ by some direction. Project the states of one long sum onto it, on a scale where the two means are 0 and 1:
"""

# %%
bits = draw_numbers(200, 40, run.generator(10))
with torch.no_grad():
    states = adder.rnn(bits)[0]  # (200, 40, d)
digits = add(bits)  # (200, 40)
carries = torch.zeros_like(digits)  # (200, 40), the carry that goes out of each column
for t in range(40):
    carries[:, t] = (bits[:, t].sum(dim=1) + (carries[:, t - 1] if t else 0) >= 2).float()
without = states[carries == 0].mean(dim=0)  # (d,)
direction = states[carries == 1].mean(dim=0) - without  # (d,)
along = ((states - without) @ direction / direction.square().sum()).cpu()  # (200, 40)
fig, ax = plt.subplots(figsize=(8, 2.8))
ax.step(range(40), carries[0].cpu(), where="mid", color=figures.PALETTE["grey"], marker="", label="true carry")
ax.plot(range(40), along[0], label="state along one direction")
ax.axhline(0.5, color=figures.PALETTE["black"], linestyle=":", linewidth=1, marker="", label="half-way")
ax.set(xlabel="column", ylabel="carry, or state", title="What the state keeps in mind", ylim=(-0.8, 2))
ax.legend(ncol=3, loc="upper left")
figures.show(
    fig,
    caption="Nobody told the network what a carry is. One direction of its state has become it: above the dotted line where a carry goes out of the column, below it where none does.",
    alt="Over forty columns, a grey step line for the true carry and a blue line for the state's projection, which lies above a half wherever there is a carry and below it elsewhere.",
)

# %% tags=["claim"]
def carry_read_off(net: RNN) -> float:
    """Return the share of columns whose carry can be read off the state with one direction and one threshold."""
    with torch.no_grad():
        states = net(bits)[0]  # (200, 40, d)
    with_carry, without = states[carries == 1].mean(dim=0), states[carries == 0].mean(dim=0)  # (d,), (d,)
    high = (states - (with_carry + without) / 2) @ (with_carry - without) > 0  # (200, 40)
    return (high == (carries == 1)).float().mean().item()


torch.manual_seed(run.seed)
claim(
    "one direction of the state tells the carry: the share of columns where it is right",
    measured=carry_read_off(adder.rnn),
    at_least=0.97,
    breaks_when={"an RNN before training": carry_read_off(RNN(2, 16).to(run.device))},
)

# %% [markdown]
r"""
The untrained network's share is less of a feat than it looks. In half of all columns the two digits are equal and decide the carry there and then; a toss gets half of the others right, which makes three quarters.

## Vanishing and exploding

The adder had to remember one bit. Before trusting the idea with more, look at the gradient that teaches it. From $g_t = e_t + \delta_{t+1} W_h^\top$ and $\delta_t = g_t \odot (1 - h_t^2)$: let the only loss stand at step $n$. Then, going back $k$ steps,

$$g_{n-k} = g_n\, D_n W_h^\top\, D_{n-1} W_h^\top \cdots D_{n-k+1} W_h^\top , \qquad D_t = \operatorname{diag}(1 - h_t^2) .$$

A product of $k$ matrices, all of which contain the *same* $W_h$. What does such a product do to the length of a vector?

**Without the tanh** (all $D_t$ the identity) it is $g_n (W_h^\top)^k$. Suppose that there are $d$ linearly independent rows $v_i$, possibly of complex numbers, with $v_i W_h^\top = \lambda_i v_i$ (left eigenvectors of $W_h^\top$). Write $g_n = \sum_i c_i v_i$; then

$$g_n (W_h^\top)^k = \sum_i c_i \lambda_i^k\, v_i .$$

For large $k$ the eigenvalue of largest absolute value wins. That value, $\rho = \max_i |\lambda_i|$, is the **spectral radius** of $W_h$, and the gradient's norm goes like $\rho^k$: it **vanishes** for $\rho < 1$, it **explodes** for $\rho > 1$, and only at $\rho = 1$ does it keep its size. (In the first steps other things count. Eigenvalues well below $\rho$ have yet to die out; and a matrix whose eigenvectors are far from orthogonal can stretch some vectors at first although $\rho < 1$.)

**With the tanh** each factor $D_t$ has entries between 0 and 1. With $\lVert \cdot \rVert_2$ for a matrix's largest singular value (how much it can stretch a vector at most), every step satisfies

$$\lVert g_{t-1} \rVert \le \max_i (1 - h_{t,i}^2)\; \lVert W_h \rVert_2\; \lVert g_t \rVert ,$$

so at each step the tanh can only shorten the gradient: where states are near ±1, by a lot. If $\lVert W_h \rVert_2 < 1$ the gradient *must* vanish; for it to explode, $\lVert W_h \rVert_2 > 1$ is necessary and not sufficient (Pascanu et al. 2013, section 2.1).
"""

# %%
predict(
    "radius",
    "Without a tanh the gradient's norm goes like ρᵏ. How large is it 60 steps back, for ρ = 0.8 and for ρ = 1.25?",
    ["About a half, and about two", "About a hundredth, and about a hundred", "About a millionth, and several hundred thousand"],
    answer=2,
    because="0.8⁶⁰ ≈ 1.5·10⁻⁶ and 1.25⁶⁰ is its inverse, 650,000. Small differences in one step are all that a long product knows",
)

# %% tags=["experiment"]
D, STEPS = 64, 100
torch.manual_seed(run.seed)
random_matrix = torch.randn(D, D, dtype=torch.float64)  # (d, d)
unit_radius = (random_matrix / torch.linalg.eigvals(random_matrix).abs().max()).to(run.device if run.device.type != "mps" else "cpu")  # spectral radius 1
inputs = torch.randn(32, 2 * STEPS, 8, dtype=torch.float64, generator=run.generator(11)).to(unit_radius)  # (B, n, d_in)
at_loss = F.normalize(torch.randn(32, D, dtype=torch.float64, generator=run.generator(12)), dim=1).to(unit_radius)  # (B, d), length 1
w_x = (torch.randn(8, D, dtype=torch.float64, generator=run.generator(13)) / math.sqrt(8)).to(unit_radius)  # (d_in, d)


def gradient_norms(radius: float, loudness: float | None, steps: int = STEPS) -> list[float]:
    """Return the gradient's norm 0 … `steps` steps back from the loss (the geometric mean over a batch).

    `loudness` is the typical size of what the input adds to the sum inside the tanh; None leaves the tanh out.
    """
    w_h = radius * unit_radius  # (d, d)
    h, states = torch.zeros_like(at_loss), []
    if loudness is not None:
        for x_t in inputs.unbind(dim=1):
            h = rnn_step(x_t, h, loudness * w_x, w_h, torch.zeros_like(h[0]))  # (B, d)
            states.append(h)
    gradient, norms = at_loss, [1.0]
    for k in range(steps):
        delta = gradient if loudness is None else gradient * (1 - states[-1 - k] ** 2)  # (B, d)
        gradient = delta @ w_h.T  # (B, d)
        norms.append(gradient.norm(dim=1).log().mean().exp().item())
    return norms


radii = [0.8, 1.0, 1.25]
linear = {f"ρ = {radius:g}": gradient_norms(radius, None) for radius in radii}
quiet = {f"ρ = {radius:g}": gradient_norms(radius, 0.1) for radius in (*radii, 2.0)}
loud = {f"ρ = {radius:g}": gradient_norms(radius, 3.0) for radius in (*radii, 2.0)}

# %%
fig, axes = plt.subplots(1, 3, figsize=(11.5, 3.6), sharey=True)
for ax, norms, title in ((axes[0], linear, "no tanh"), (axes[1], quiet, "tanh, quiet input (0.1)"), (axes[2], loud, "tanh, loud input (3.0)")):
    figures.lines(ax, range(STEPS + 1), norms, xlabel="distance from the loss (steps back)", ylabel="gradient norm" if ax is axes[0] else "", title=title, log="y")
    for line in ax.lines:
        line.set_markevery(10)
    ax.axhline(1, color=figures.PALETTE["grey"], linewidth=0.8, linestyle=":")
axes[0].set_ylim(1e-12, 1e12)
figures.show(
    fig,
    caption="The gradient's norm against distance, for spectral radii below, at and above 1. The matrix is random, all its numbers drawn independently. Without the tanh the line is straight after the first steps, of slope log ρ. The tanh bends every line down; with loud input states sit near ±1, and the gradient vanishes at each of these radii.",
    alt="Three panels of gradient norm against steps back on a logarithmic axis. Without tanh the line for radius one is nearly level, the others rise and fall steeply. With tanh and quiet input only radius two rises. With loud input all fall.",
)


def growth(norms: list[float]) -> float:
    """Return the factor per step, from 40 steps back to the end."""
    return (norms[-1] / norms[40]) ** (1 / (len(norms) - 1 - 40))


rates = {name: growth(norms) for name, norms in linear.items()}
print({name: round(rate, 3) for name, rate in rates.items()})

# %% tags=["claim"]
for name, radius in zip(linear, radii):
    claim(
        f"without the tanh the gradient's norm changes by the spectral radius at each step back, {name}",
        measured=rates[name],
        between=(radius - 0.04, radius + 0.04),
        breaks_when={f"with {other}": rates[other] for other in linear if other != name},
    )
claim(
    "the tanh makes the gradient vanish even at radius 1: the logarithm (base 10) of its norm 60 steps back",
    measured=math.log10(quiet["ρ = 1"][60]),
    at_most=-1.3,
    breaks_when={"without the tanh": math.log10(linear["ρ = 1"][60])},
)
claim(
    "with the tanh it can still explode: the logarithm of its norm 60 steps back at radius 2, quiet input",
    measured=math.log10(quiet["ρ = 2"][60]),
    at_least=0.5,
    breaks_when={"at radius 1": math.log10(quiet["ρ = 1"][60]), "with loud input": math.log10(loud["ρ = 2"][60])},
)

# %% [markdown]
r"""
What a vanished gradient means is easily misread. The *sum* over all steps, which moves the weights, does not vanish: the near steps see to that. What vanishes is the share of the far ones. The network learns, but what it learns is to look at what was said just now (Bengio, Simard and Frasconi 1994).

**Look closer.** Move the recurrent scale (the spectral radius), and how loud the input is. *Question:* with the tanh, is there a radius at which the gradient arrives 60 steps back in about its old size, for quiet input? And does that radius still work when the input gets louder? (Answers below the figure.)
"""

# %% tags=["widget", "nbval-ignore-output"]
def draw_flow(scale: float, loudness: float, shown: str = "tanh") -> plt.Figure:
    """Compute both kinds of gradient for these settings, and draw them."""
    norms = {"tanh": gradient_norms(scale, loudness, steps=60), "no tanh": gradient_norms(scale, None, steps=60)}
    return draw_gradient_flow(norms, shown, f"The gradient on its way back ({shown}): scale {scale:.2f}, input {loudness:.1f}")


display(
    widgets.explorer(
        draw_flow,
        alt="The gradient on its way back through sixty steps, as arrows between boxes and as curves, for the chosen scale and input.",
        scale=ipywidgets.FloatSlider(value=1.0, min=0.5, max=2.5, step=0.05, description="scale ρ", continuous_update=False),
        loudness=ipywidgets.FloatSlider(value=0.1, min=0.0, max=3.0, step=0.1, description="input", continuous_update=False),
        shown=ipywidgets.Dropdown(options=["tanh", "no tanh"], description="arrows"),
    )
)
figures.show(
    draw_flow(1.3, 0.1),
    caption="The same view at scale 1.3 with quiet input, for a page without sliders: the arrows' thickness is the logarithm of the gradient's norm (dotted: below 10⁻⁴). Somewhere between 1.2 and 1.6, depending on the draw, the tanh's shrinking and the matrix's stretching cancel. Turn the input up, and the balance is gone.",
    alt="Boxes from sixty steps before the loss to the loss, joined by arrows; below, the gradient norm against distance with the tanh and without it.",
)

# %% [markdown]
r"""
A balance that depends on the input is no balance: no choice of $W_h$ fixes it. Two ways out remain. One deals with explosions, and you have it already.

## The cliff

Where do explosions come from? The smallest recurrent network shows it: one unit, no input, $h_t = \tanh(w\,h_{t-1} + b)$, started at $h_0 = -0.5$. Let it run 50 steps and ask for $h_{50} = 0.3$; the loss is $(h_{50} - 0.3)^2$. With two parameters we can draw the loss as a landscape (after Pascanu et al. 2013, figure 6, who use a sigmoid).

For $w > 1$ and small $b$ the iteration has three fixed points (states with $h = \tanh(w h + b)$, which the step leaves alone): a negative and a positive one, to which states near by are drawn, and one between them, from which they are driven away. If $h_0$ lies just below the middle one the state runs down, if just above, it runs up. So the final state jumps as $(w, b)$ crosses a line: the loss has a **cliff**. On it the gradient is a product of fifty factors, most of them above 1.
"""

# %%
def final_loss(w: Tensor, b: Tensor) -> Tensor:
    """Return the loss after 50 steps, for each pair of parameters."""
    h = torch.full_like(w, -0.5)
    for _ in range(50):
        h = torch.tanh(w * h + b)
    return (h - 0.3).square()


def descend(start: Tensor, max_norm: float | None, rate: float = 0.05, steps: int = 150) -> tuple[Tensor, Tensor, Tensor]:
    """Descend from starts (s, 2); return the paths (steps+1, s, 2), gradient norms (steps, s), the last losses (s,)."""
    path, norms = [start], []
    for _ in range(steps):
        place = path[-1].clone().requires_grad_()  # (s, 2)
        (gradient,) = torch.autograd.grad(final_loss(place[:, 0], place[:, 1]).sum(), place)  # (s, 2)
        norms.append(gradient.norm(dim=1))
        if max_norm is not None:  # each start is a training of its own
            gradient = torch.stack([clip_gradients([each], max_norm)[0][0] for each in gradient])
        path.append(path[-1] - rate * gradient)
    return torch.stack(path), torch.stack(norms), final_loss(*path[-1].T)


# %% tags=["experiment"]
one_start = torch.tensor([[1.4, 0.368]], dtype=torch.float64)
paths = {"without clipping": descend(one_start, None), "clipped to length 0.5": descend(one_start, 0.5)}
ws, bs = torch.meshgrid(torch.linspace(0.6, 1.7, 221).double(), torch.linspace(-0.4, 0.8, 241).double(), indexing="xy")
landscape = final_loss(ws, bs)  # (241, 221)
fig, axes = plt.subplots(1, 2, figsize=(10.5, 4), gridspec_kw={"width_ratios": [1.25, 1]})
image = axes[0].pcolormesh(ws, bs, landscape, cmap="cividis", shading="auto", rasterized=True)
fig.colorbar(image, ax=axes[0]).ax.set_title("loss", fontsize=9)
for (name, (path, _, _)), colour, marker in zip(paths.items(), ("vermillion", "sky"), ("s", "o")):
    axes[0].plot(*path[:, 0].T, color=figures.PALETTE[colour], marker=marker, markersize=2.5, linewidth=0.8, label=name)
    axes[1].plot(final_loss(*path[:, 0].T), color=figures.PALETTE[colour], marker=marker, markevery=10, label=name)
axes[0].set(xlim=(0.6, 1.7), ylim=(-0.4, 0.8), xlabel="recurrent weight w", ylabel="bias b", title="The landscape and two descents")
axes[0].legend(loc="lower right", fontsize=8, frameon=True, facecolor="white", framealpha=1)
axes[1].set(xlabel="step", ylabel="loss", title="Loss on the way")
axes[1].legend(fontsize=8)
figures.show(
    fig,
    caption="Both descents start at the same place and are one until they come to the foot of the cliff, where the gradient is about a hundred times as long as before. The step without clipping flies off the picture, to a plain where nothing has a slope. The clipped one takes short steps only: it slips over the edge again and again (the spikes on the right), comes back each time, and arrives.",
    alt="Left, a loss landscape with a sharp diagonal edge between a low and a high plain, and two paths: one leaves the picture in a straight line, the other zigzags along the edge's foot down to the valley. Right, the two losses over 150 steps: one jumps up and stays, the other falls to zero.",
)

# %% [markdown]
r"""
One path may be luck. So start a hundred descents at random places above the edge:
"""

# %% tags=["claim"]
count = run.pick(smoke=10, standard=100, full=1000)
spread = torch.rand(count, 2, dtype=torch.float64, generator=run.generator(14))  # (s, 2)
some_w = 1.2 + 0.6 * spread[:, 0]  # (s,)
starts = torch.stack([some_w, 0.42 * (some_w - 1) + 0.1 + 0.2 * spread[:, 1]], dim=1)  # (s, 2), above the edge
descents = run.pick(smoke=20, standard=300, full=300)
free, held = descend(starts, None, steps=descents), descend(starts, 0.5, steps=descents)
longest = {name: (0.05 * norms).max(dim=0).values for name, (_, norms, _) in (("free", free), ("held", held))}
arrived = {name: (final < 0.01).double().mean().item() for name, (_, _, final) in (("free", free), ("held", held))}
print(f"longest step without clipping: median {longest['free'].median():.2f}, largest {longest['free'].max():.1f}; with clipping never more than 0.025")
print(f"share that arrived in the valley: {arrived['free']:.2f} without clipping, {arrived['held']:.2f} with it")
claim(
    "with clipping nearly all descents arrive in the valley (loss below 0.01)",
    measured=arrived["held"],
    at_least=0.95,
    breaks_when={"without clipping": arrived["free"]},
)
claim(
    "without clipping the median descent has a step many times as long as the longest clipped one",
    measured=longest["free"].median().item() / (0.05 * 0.5),
    at_least=8.0,
    breaks_when={"with clipping": 1.0},
)

# %% [markdown]
r"""
Most descents survive their flight: where they land, something still has a slope. The others end on a plain for good, and that is what clipping insures against.

It cures explosions. It cannot cure vanishing: what is lost in rounding cannot be scaled up, and scaling up the *sum* would scale up the near steps too. For that the network itself must change.

## Gates: the LSTM

Look at the product again: $\cdots D_t W_h^\top \cdots$. Trouble comes from multiplying the state by a matrix at every step. The idea of the **long short-term memory**, LSTM (Hochreiter and Schmidhuber 1997): keep a second vector, the **memory** $c_t$, that is *not* multiplied by a matrix. Leave it alone, and add to it when there is something to keep:

$$c_t = f_t \odot c_{t-1} + i_t \odot g_t .$$

Everything here is a vector of $d$ numbers, and the products are number by number, so each **cell** (each number of $c$) minds its own business:

| | | computed as |
|---|---|---|
| **input gate** $i_t$ | how much is written into each cell, 0 to 1 | $\sigma(x_t W_{xi} + h_{t-1} W_{hi} + b_i)$ |
| **forget gate** $f_t$ | how much of each cell is *kept*, 0 to 1 | $\sigma(x_t W_{xf} + h_{t-1} W_{hf} + b_f)$ |
| **candidate** $g_t$ | what would be written, −1 to 1 | $\tanh(x_t W_{xg} + h_{t-1} W_{hg} + b_g)$ |
| **output gate** $o_t$ | how much of each cell is shown, 0 to 1 | $\sigma(x_t W_{xo} + h_{t-1} W_{ho} + b_o)$ |

The candidate is called $g$ as in `nn.LSTM`; it is not the gradient $g_t$ from above. What the network shows, and what the next step's gates see, is $h_t = o_t \odot \tanh(c_t)$. (The forget gate came later: Gers, Schmidhuber and Cummins 2000. It would better be called the keep gate.)

Here $x_t W_{xi}$ and so on are the four blocks of two large matrices. The picture shows why it is called a *memory*: a straight line leads from $c_{t-1}$ to $c_t$, and only two things happen on it.
"""

# %%
figures.show(
    draw_lstm_cell(),
    caption="One step of an LSTM. The thick line is the memory: multiplied by the forget gate, added to by what the input gate lets in, and otherwise left alone. All four boxes in the middle row read the same inputs.",
    alt="A thick horizontal line from the old memory to the new one, with a multiplication by the forget gate and an addition of input gate times candidate on it. A branch leads through a tanh and a multiplication by the output gate to the output.",
)

# %% [markdown]
r"""
Now take the gradient along the memory. If we hold the gates fixed, then $\partial c_t / \partial c_{t-1} = \operatorname{diag}(f_t)$, and over $k$ steps

$$\frac{\partial c_n}{\partial c_{n-k}} = \operatorname{diag}\big(f_n \odot f_{n-1} \odot \cdots \odot f_{n-k+1}\big) .$$

No matrix, no tanh. A cell whose forget gate stays at 1 passes its gradient back unchanged, over any distance; a cell whose gate closes forgets *on purpose*. The network decides, for each cell at each step, and it learns to. (There are further paths through the gates, with matrices and all; they may vanish, since this one is enough.)

The three gates and the candidate have the same inputs, so their weights are stored side by side: $W_x$ is $(d_{in} \times 4d)$ and $W_h$ is $(d \times 4d)$, with the blocks in the order **i, f, g, o**, as in `nn.LSTM`. Other libraries use other orders; a model with the gates swapped does not complain, it is merely wrong.

### Exercise: `lstm_step`

*Difficulty ●●●○○ · about 15 minutes · 4 points*

Write `lstm_step(x, h, c, w_x, w_h, b)`. `x` is (B, d_in), `h` and `c` are (B, d), `w_x` (d_in, 4d), `w_h` (d, 4d), `b` (4d,), blocks in the order i, f, g, o. Return the pair (new h, new c), each (B, d). `hint("lstm_step")` helps.
"""

# %% tags=["exercise"] exercise="lstm_step"
from course_lib.models.recurrent import lstm_step  # course: write out

# %% tags=["check"] exercise="lstm_step"
lstm_step = check("lstm_step")

# %% [markdown]
r"""
The module around it is the loop that you know, with a state of two parts. One detail is worth a paragraph: `forget_bias`. With a bias of 0 the untrained gates stand near $\sigma(0) = \tfrac12$: half of the memory is gone at each step, and after twenty steps a millionth is left. An LSTM that starts so must first *learn to remember*, with gradients that vanish. So start the forget gates open: $\sigma(1) \approx 0.73$, $\sigma(3) \approx 0.95$, $\sigma(5) \approx 0.993$ (Gers et al. 2000; Jozefowicz, Zaremba and Sutskever 2015).
"""

# %%
from course_lib.models.recurrent import LSTM  # course: write out

# %% [markdown]
r"""
### The GRU

The **gated recurrent unit** (Cho et al. 2014) makes do with one vector and three blocks. An **update gate** $z$ says how much of the old state is kept, and what is not kept is written: $h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}$. A **reset gate** $r$ says how much the candidate $n$ sees of the old state.

Both gates are sigmoids of sums like the LSTM's. ($n_t$ is PyTorch's name too; it has nothing to do with the length $n$.)

*Where* it resets differs between versions, which has cost many people an afternoon. Cho et al. reset the state and then multiply by the matrix; PyTorch multiplies and then resets the product, so that all three products with $h_{t-1}$ can be made at once:

$$\text{Cho: } \; n_t = \tanh\!\big(x_t W_{xn} + b_n + (r_t \odot h_{t-1})\, W_{hn}\big) , \qquad
\text{PyTorch: } \; n_t = \tanh\!\big(x_t W_{xn} + b_{xn} + r_t \odot (h_{t-1} W_{hn} + b_{hn})\big) .$$

They are different functions, and weights cannot be carried from one to the other. Ours is PyTorch's; it is also why the GRU needs its two biases, one inside the reset and one outside.
"""

# %%
from course_lib.models.recurrent import gru_step  # course: write out

# %%
from course_lib.models.recurrent import GRU  # course: write out

# %% [markdown]
"""
### Equal to PyTorch's?

Copy the weights, run many steps on a batch, start from a state that is not zero, and compare *everything*: outputs, last states, and the gradients for input, first state and all weights.
"""

# %%
from course_lib.models.recurrent import copy_from_torch  # course: write out

# %%
def difference(ours: nn.Module, theirs: nn.Module, x: Tensor, *state: Tensor) -> float:
    """Return the largest difference between two readers in outputs, last state, and gradients for input, state and weights."""
    found = []
    for module, first in ((ours, state), (theirs, [each[None] for each in state])):
        leaves = [each.detach().clone().requires_grad_() for each in (x, *first)]
        outputs, last = module(leaves[0], leaves[1] if len(state) == 1 else tuple(leaves[1:]))
        parts = [outputs, *(last if isinstance(last, tuple) else (last,))]
        loss = sum((part.squeeze(0) * torch.linspace(-1, 1, part.numel(), dtype=x.dtype).view_as(part.squeeze(0))).sum() for part in parts)
        gradients = torch.autograd.grad(loss, [*leaves, *module.parameters()])
        of_leaves, of_weights = gradients[: len(leaves)], gradients[len(leaves) :]
        if module is theirs:  # its matrices are the transposes of ours; two equal gradients where we have one bias
            of_weights = [each.T if each.dim() == 2 else each for each in of_weights[: len(list(ours.parameters()))]]
        found.append([each.squeeze(0) for each in (*parts, *of_leaves, *of_weights)])
    return max((one - other).abs().max().item() for one, other in zip(*found))


torch.manual_seed(run.seed)
x = torch.randn(3, 11, 5, dtype=torch.float64)  # (B, n, d_in)
state = [torch.randn(3, 7, dtype=torch.float64) for _ in range(2)]  # h and c, (B, d)
pairs = {"RNN": (RNN(5, 7), nn.RNN), "LSTM": (LSTM(5, 7), nn.LSTM), "GRU": (GRU(5, 7), nn.GRU)}
differences = {}
for name, (ours, kind) in pairs.items():
    theirs = kind(5, 7, batch_first=True).double()
    copy_from_torch(ours.double(), theirs)
    differences[name] = difference(ours, theirs, x, *(state if name == "LSTM" else state[:1]))
print({name: f"{each:.1e}" for name, each in differences.items()})

# %% tags=["claim"]
swapped_order = torch.arange(4 * 7).view(4, 7)[[0, 1, 3, 2]].flatten()  # i, f, o, g
their_lstm, swapped = nn.LSTM(5, 7, batch_first=True).double(), LSTM(5, 7).double()
copy_from_torch(swapped, their_lstm)
with torch.no_grad():
    for weight in swapped.parameters():
        weight.copy_(weight[..., swapped_order])
their_rnn, one_bias = nn.RNN(5, 7, batch_first=True).double(), RNN(5, 7).double()
copy_from_torch(one_bias, their_rnn)
with torch.no_grad():
    one_bias.b.sub_(their_rnn.bias_hh_l0)
their_gru, our_gru = nn.GRU(5, 7, batch_first=True).double(), GRU(5, 7).double()
copy_from_torch(our_gru, their_gru)


def cho_step(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor) -> Tensor:
    """Take one step of the GRU of Cho et al. 2014: reset before the product."""
    a_r, a_z, a_n = (x @ w_x + b_x + b_h).chunk(3, dim=-1)  # three times (B, d)
    u_r, u_z, u_n = w_h.chunk(3, dim=-1)  # three times (d, d)
    r, z = (a_r + h @ u_r).sigmoid(), (a_z + h @ u_z).sigmoid()  # (B, d), (B, d)
    return (1 - z) * (a_n + (r * h) @ u_n).tanh() + z * h  # (B, d)


with torch.no_grad():
    step_of_both = [step(x[:, 0], state[0], *our_gru.parameters()) for step in (cho_step, gru_step)]
    cho = (step_of_both[0] - step_of_both[1]).abs().max().item()
claim("our RNN equals nn.RNN: outputs, states and all gradients over eleven steps", measured=differences["RNN"], at_most=1e-10,
      breaks_when={"with only one of its two biases copied": difference(one_bias, their_rnn, x, state[0])})
claim("our LSTM equals nn.LSTM: outputs, states and all gradients over eleven steps", measured=differences["LSTM"], at_most=1e-10,
      breaks_when={"with the last two gates swapped": difference(swapped, their_lstm, x, *state)})
claim("our GRU equals nn.GRU: outputs, states and all gradients over eleven steps", measured=differences["GRU"], at_most=1e-10,
      breaks_when={"the GRU of Cho et al., which resets before the product (one step)": cho})

# %% [markdown]
r"""
### How far a gradient gets

The same measurement as before, on whole networks before any training: start from some state, read $k$ more steps, and ask how strongly the last output depends on that state (for the LSTM, on $h$ and $c$ together). The simple theory says that the LSTM's gradient goes like $\sigma(b_f)^k$.
"""

# %% tags=["experiment"]
DISTANCES = [1, 2, 5, 10, 20, 40, 80]


def reach(net: nn.Module, x: Tensor) -> list[float]:
    """Return the norm of the gradient of a random sum of the last output for the state k steps before, for each k."""
    norms, pull = [], torch.randn(x.shape[0], net.w_h.shape[0], generator=run.generator(15)).to(x)  # (B, d)
    for k in DISTANCES:
        with torch.no_grad():
            _, state = net(x[:, : x.shape[1] - k])
        state = [each.clone().requires_grad_() for each in (state if isinstance(state, tuple) else (state,))]
        outputs, _ = net(x[:, x.shape[1] - k :], tuple(state) if len(state) == 2 else state[0])
        gradient = torch.cat(torch.autograd.grad((outputs[:, -1] * pull).sum(), state), dim=1)  # (B, d) or (B, 2d)
        norms.append(gradient.norm(dim=1).mean().item())
    return norms


torch.manual_seed(run.seed)
noise = torch.randn(16, 100, 8, generator=run.generator(16)).to(run.device)  # (B, n, d_in)
untrained = {"RNN, orthogonal": RNN(8, 32), **{f"LSTM, forget bias {bias}": LSTM(8, 32, forget_bias=bias) for bias in (0, 1, 3, 5)}}
reaches = {name: reach(net.to(run.device), noise) for name, net in untrained.items()}
fig, ax = plt.subplots(figsize=(7, 3.8))
figures.lines(ax, DISTANCES, reaches, xlabel="distance k (steps back)", ylabel="gradient norm", title="Before training, input of size 1", log="y")
figures.show(
    fig,
    caption="The bias of the forget gate sets how far an untrained LSTM's gradient gets; straight lines are a constant factor per step. The RNN starts with a perfectly balanced (orthogonal) matrix, and the tanh undoes it.",
    alt="Gradient norm on a logarithmic axis against distance. The LSTM's lines lie the higher the larger the forget bias; with bias five the line is nearly level. The RNN's falls steeply.",
)

# %% tags=["claim"]
def factor_per_step(norms: list[float]) -> float:
    """Return the factor per step between 20 and 80 steps back."""
    return (norms[DISTANCES.index(80)] / norms[DISTANCES.index(20)]) ** (1 / 60)


factors = {name: factor_per_step(norms) for name, norms in reaches.items()}
print({name: round(factor, 3) for name, factor in factors.items()})
claim(
    "with open forget gates (bias 3) the gradient of an untrained LSTM about keeps its size: its factor per step",
    measured=factors["LSTM, forget bias 3"],
    between=(0.95, 1.06),
    breaks_when={"with forget bias 0": factors["LSTM, forget bias 0"], "an RNN": factors["RNN, orthogonal"]},
)

# %% [markdown]
r"""
The order is as the theory says, the numbers are not quite: each factor lies above its $\sigma(b_f)$. The path along the memory is not the only one; those through $h$ and the gates add to it. With gates wide open the sum comes out a little above 1, so an LSTM's gradient can explode too, gently. LSTMs are clipped like all others.

## What is kept: a copy task

Gradients are a means; the end is memory. A line shows one of 8 symbols, then `lag` distracting ones from another set, then a question mark; the network must say the first symbol again:

> **C** · x q r r p x … z · **?** → **C**

It is a small relative of the tasks with long time lags on which Hochreiter and Schmidhuber (1997, section 5.2) showed the problem and its cure. All three networks get the same width, data, optimiser, number of steps and clipping (so the LSTM has about four times the RNN's weights, the GRU three times), and the gated ones start with open gates, a bias of 3. The lags in training are drawn from 1 to 40; the test goes to 80. Guessing gives 1/8.
"""

# %%
predict(
    "copy",
    "Which of the three will still know the first symbol after 40 distracting ones?",
    ["All of them: 8 symbols are only three bits", "LSTM and GRU, but not the RNN", "Only the LSTM: it alone has a memory apart"],
    answer=1,
    because="A GRU's update gate does for h what the forget gate does for c: where it is open, the old state is added, not multiplied by a matrix",
)

# %% tags=["experiment"]
N_SYMBOLS, LONGEST_LAG = 8, 40
QUESTION = 2 * N_SYMBOLS  # the question mark's number: after the symbols and the distractors


def draw_copies(size: int, lag: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return lines as one-hot rows (size, lag + 2, 17), and the symbols to be said again (size,)."""
    symbol = torch.randint(N_SYMBOLS, (size, 1), generator=generator)  # (size, 1)
    distractors = torch.randint(N_SYMBOLS, QUESTION, (size, lag), generator=generator)  # (size, lag)
    line = torch.cat([symbol, distractors, torch.full_like(symbol, QUESTION)], dim=1)  # (size, lag + 2)
    return F.one_hot(line, QUESTION + 1).float().to(run.device), symbol[:, 0].to(run.device)


def take_step(loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, max_norm: float = 1.0) -> None:
    """Take one step along the clipped gradients."""
    clipped, _ = clip_gradients(list(torch.autograd.grad(loss, parameters)), max_norm)
    for parameter, gradient in zip(parameters, clipped):
        parameter.grad = gradient
    optimizer.step()


def train_copy(net: nn.Module, steps: int, name: str) -> tuple[dict[int, float], nn.Module]:
    """Train a network on the copy task; return its accuracy at each lag, and what turns states into symbols."""
    say = nn.Linear(net.w_h.shape[0], N_SYMBOLS).to(run.device)
    parameters = [*net.to(run.device).parameters(), *say.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    generator = run.generator(17)
    for _ in progress(range(steps), desc=name):
        lag = int(torch.randint(1, LONGEST_LAG + 1, (), generator=generator))
        lines, symbols = draw_copies(64, lag, generator)
        take_step(F.cross_entropy(say(net(lines)[0][:, -1]), symbols), parameters, optimizer)
        schedule.step()
    accuracy = {}
    with torch.no_grad():
        for lag in DISTANCES:
            lines, symbols = draw_copies(1000, lag, generator)
            accuracy[lag] = (say(net(lines)[0][:, -1]).argmax(dim=-1) == symbols).float().mean().item()
    return accuracy, say


copy_steps = run.pick(smoke=4, standard=400, full=4000)
torch.manual_seed(run.seed)
readers = {"LSTM": LSTM(QUESTION + 1, 40, forget_bias=3.0), "GRU": GRU(QUESTION + 1, 40, update_bias=3.0), "RNN": RNN(QUESTION + 1, 40)}
trained = {name: train_copy(net, copy_steps, name) for name, net in readers.items()}
copied = {name: accuracy for name, (accuracy, _) in trained.items()}
for name, accuracy in copied.items():
    print(f"{name:<5}", "  ".join(f"lag {lag} {share:.2f}" for lag, share in accuracy.items()))

# %%
lines, _ = draw_copies(16, 98, run.generator(18))  # (16, 100, 17)
trained_reach = {name: reach(net, lines) for name, net in readers.items()}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6))
figures.lines(axes[0], DISTANCES, {name: list(each.values()) for name, each in copied.items()}, xlabel="lag (distracting symbols)", ylabel="share of right answers", title="Copying after a lag", log="x")
axes[0].axhline(1 / N_SYMBOLS, color=figures.PALETTE["grey"], linestyle=":", linewidth=1)
axes[0].axvline(LONGEST_LAG, color=figures.PALETTE["grey"], linestyle="--", linewidth=0.8)
axes[0].set_ylim(0, 1.04)
figures.lines(axes[1], DISTANCES, trained_reach, xlabel="distance k (steps back)", ylabel="gradient norm", title="After training: how far gradients get", log="xy")
axes[1].set_ylim(1e-12, 1e2)
figures.show(
    fig,
    caption="Left: the gated networks know the symbol after any lag (their lines cover each other), also beyond the longest of training (dashed); the RNN mixes symbols up. The dotted line is guessing. Right: what training has made of the gradients' reach.",
    alt="Left, share of right answers against lag: LSTM and GRU near one, RNN clearly below. Right, gradient norm against distance for the three trained networks.",
)

# %% tags=["claim"]
claim(
    "after 40 distracting symbols the LSTM still knows the first one",
    measured=copied["LSTM"][40],
    at_least=0.9,
    breaks_when={"the RNN": copied["RNN"][40]},
)
claim(
    "and so does the GRU",
    measured=copied["GRU"][40],
    at_least=0.9,
    breaks_when={"the RNN": copied["RNN"][40]},
)
at = DISTANCES.index(40)
far = {name: math.log10(max(norms[at], 1e-30)) for name, norms in trained_reach.items()}
print("logarithm of the gradient's norm 40 steps back:", {name: f"{each:.1f}" if each > -30 else "below −30" for name, each in far.items()})
claim(
    "the trained LSTM's gradient reaches 40 steps back: the logarithm (base 10) of its norm",
    measured=far["LSTM"],
    at_least=-5.0,
    breaks_when={"the trained RNN's": far["RNN"]},
)
claim(
    "what the RNN keeps over 20 distracting symbols it keeps over 80: the difference in accuracy",
    measured=abs(copied["RNN"][20] - copied["RNN"][80]),
    at_most=0.08,
    breaks_when={"between lags 1 and 20": abs(copied["RNN"][1] - copied["RNN"][20])},
)


def at_the_walls(net: RNN) -> float:
    """Return the share of the state's numbers beyond ±0.9 after 40 distracting symbols."""
    with torch.no_grad():
        return (net(draw_copies(1000, 40, run.generator(21))[0])[0][:, -2].abs() > 0.9).float().mean().item()


torch.manual_seed(run.seed)
claim(
    "training has driven the RNN's state to ±1: the share of its numbers beyond 0.9",
    measured=at_the_walls(readers["RNN"]),
    at_least=0.65,
    breaks_when={"before training": at_the_walls(RNN(QUESTION + 1, 40).to(run.device))},
)

# %% [markdown]
r"""
The RNN is far above guessing, though, and at a lag of 80 about as good as at 20. What it keeps, it keeps by force: most numbers of its state are driven to ±1, hold each other there, and stay whatever is read. That is robust, but it stores little, and it has a price. Where states are held near ±1, $1 - h_t^2$ is near 0 and
the gradient through them vanishes (right panel), so that the network cannot learn to put *more* there. Bengio, Simard and Frasconi (1994) proved that it must be so: a state that holds a bit against all disturbance has a gradient that vanishes.

### What the gates do

How does the LSTM hold its symbol? Rather than guess, tamper with the trained network: while the distractors pass, and only then, hold its input gates shut, hold its forget gates at one half, or hide $h$ from all gates and the candidate.
"""

# %%
predict(
    "gates",
    "The LSTM has learnt to keep the first symbol. What does it write into its memory while the distractors pass?",
    ["Nothing: its input gates are shut", "The distractors, and it can tell them apart from the symbol", "The symbol, again and again"],
    answer=2,
    because="Its input gates stay more open than shut, and its forget gates about where their bias put them. It reads in h which symbol it holds, and adds to the memory what is there already",
)

# %% tags=["experiment"]
lstm, (_, say) = readers["LSTM"], trained["LSTM"]
GATES = {"input": slice(0, 40), "forget": slice(40, 80)}  # their columns


def tamper(lines: Tensor, held: dict[str, float], hide: bool = False) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Read lines with some gates held while the distractors pass.

    Return the answers (B,), the memories (B, lag + 2, d), and how open each gate was on average.
    """
    w_x, w_h, b = (each.detach().clone() for each in lstm.parameters())
    for gate, openness in held.items():  # no input, and a bias that gives this value
        w_x[:, GATES[gate]], w_h[:, GATES[gate]] = 0, 0
        b[GATES[gate]] = torch.tensor(openness).logit(eps=1e-9)
    if hide:
        w_h.zero_()
    h = c = lines.new_zeros(len(lines), 40)  # (B, d)
    memories, opened = [], {gate: [] for gate in GATES}
    with torch.no_grad():
        for t, x_t in enumerate(lines.unbind(dim=1)):  # lag + 2 times (B, 17)
            distracting = 0 < t < lines.shape[1] - 1
            for gate, columns in GATES.items():
                if distracting:
                    opened[gate].append((torch.cat([x_t, h], dim=1) @ torch.cat([w_x, w_h]) + b)[:, columns].sigmoid().mean().item())
            h, c = lstm_step(x_t, h, c, *((w_x, w_h, b) if distracting else lstm.parameters()))  # (B, d), (B, d)
            memories.append(c)
        return say(h).argmax(dim=-1), torch.stack(memories, dim=1), {gate: sum(each) / len(each) for gate, each in opened.items()}


lines, symbols = draw_copies(1000, 40, run.generator(18))
ways = {
    "as trained": ({}, False), "input gates shut": ({"input": 0.0}, False), "forget gates at ½": ({"forget": 0.5}, False),
    "both": ({"input": 0.0, "forget": 0.5}, False), "h hidden": ({}, True),
}
tampered = {name: tamper(lines, *way) for name, way in ways.items()}
right = {name: (said == symbols).float().mean().item() for name, (said, _, _) in tampered.items()}
print("as trained, while distractors pass:", ", ".join(f"{gate} gates {each:.2f} open" for gate, each in tampered["as trained"][2].items()))

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), gridspec_kw={"width_ratios": [1.2, 1]})
axes[0].plot(range(42), tampered["as trained"][1][0].cpu(), color=figures.PALETTE["blue"], marker="", linewidth=0.8)
axes[0].axhline(0, color=figures.PALETTE["grey"], marker="", linewidth=0.8)
axes[0].set(xlabel="step", ylabel="memory c", title="The 40 cells, one line, as trained")
bars = axes[1].barh(range(len(right)), right.values(), color=figures.PALETTE["blue"])
axes[1].bar_label(bars, fmt="%.2f", padding=3)
axes[1].set_yticks(range(len(right)), right)
axes[1].invert_yaxis()
axes[1].axvline(1 / N_SYMBOLS, color=figures.PALETTE["grey"], linestyle=":", linewidth=1, marker="")
axes[1].set(xlim=(0, 1.15), xlabel="share of right answers", title="After tampering, lag 40")
figures.show(
    fig,
    caption="Left: the memory is not left alone, it grows in the direction in which it started. Right: with nothing written it holds for 40 steps all the same; with forget gates at one half, or with h hidden, it does not. The dotted line is guessing.",
    alt="Left, forty lines that fan out from zero to both sides over 42 steps. Right, bars: near one as trained and with the input gates shut, clearly lower with the forget gates at one half, near guessing with both and with h hidden.",
)

# %% tags=["claim"]
claim(
    "with nothing written, the LSTM's memory alone holds the symbol over 40 steps",
    measured=right["input gates shut"],
    at_least=0.9,
    breaks_when={"and the forget gates at one half": right["both"]},
)
sizes = {name: memories.abs().mean(dim=(0, 2)) for name, (_, memories, _) in tampered.items()}  # (lag + 2,) each
claim(
    "the trained LSTM writes on, and its memory grows: the mean size after the distractors over that after the symbol",
    measured=(sizes["as trained"][-2] / sizes["as trained"][0]).item(),
    at_least=20.0,
    breaks_when={"with the input gates shut": (sizes["input gates shut"][-2] / sizes["input gates shut"][0]).item()},
)
claim(
    "what to write, it reads in h: the accuracy with h hidden",
    measured=right["h hidden"],
    at_most=0.4,
    breaks_when={"as trained": right["as trained"]},
)

# %% [markdown]
r"""
So the forget gates keep, and $h$ tells the network what it keeps, so that it can write it again before it fades. (That large memory saturates the last tanh, which is why the LSTM's gradient falls too, in the right panel further up, though far more slowly than the RNN's. By then it has learnt what it needed: *before* training, the open gates let the gradient through.)

## Text without an end: truncated backpropagation

A language model's sequence is the whole text: a million steps. BPTT through all of it would keep a million states and take one step of training for a day's reading. So the text is cut into pieces of $k$ tokens, and

- the **state is carried** from each piece into the next: the memory has no edge;
- the **gradient stops** at the cut: the state that comes in is treated as a constant.

That is **truncated** BPTT (Williams and Peng 1990). In PyTorch the cut is one word, `detach()`.
"""

# %%
from course_lib.models.recurrent import detach_state  # course: write out

# %% [markdown]
r"""
Two things follow, and both can be measured. *Forward*, nothing changes: reading in pieces gives the same outputs as reading at once. *Backward*, something is lost: whatever the loss has to say to steps before the cut.
"""

# %% tags=["claim"]
torch.manual_seed(run.seed)
net = LSTM(8, 16, forget_bias=3.0).double()
x = torch.randn(2, 64, 8, dtype=torch.float64, generator=run.generator(19))  # (B, n, d_in)


def in_pieces(read, x: Tensor, k: int, carry: bool = True) -> Tensor:
    """Read x (B, n, …) in pieces of k steps, the state carried over each cut or not; return all outputs."""
    state, outputs = None, []
    for piece in x.split(k, dim=1):
        out, state = read(piece, state)
        state = detach_state(state) if carry else None
        outputs.append(out)
    return torch.cat(outputs, dim=1)  # (B, n, …)


claim(
    "reading in pieces with the state carried over gives the very outputs of reading at once",
    measured=max((in_pieces(net, x, k) - net(x)[0]).abs().max().item() for k in (1, 7, 16)),
    at_most=1e-12,
    breaks_when={"with the state set to zero at each cut": (in_pieces(net, x, 16, carry=False) - net(x)[0]).abs().max().item()},
)

# %% [markdown]
r"""
### The town's text

Now a language model that reads Riverbank: word vectors, an `LSTM`, one matrix back to words. The documents are joined to one long text, with a mark `<end>` behind each; the text is cut into 32 rows of equal length, read side by side. Each piece has 4 tokens, so few that the cut will show. Two models are trained alike, except that one starts each piece with a state of zeros, which is what a window would do.
"""

# %%
town = Town()
PIECE, ROWS = 4, 32


def read_town(n_tokens: int, seed: int) -> list[list[str]]:
    """Return documents as lists of tokens, with an end mark each, about n_tokens in all."""
    documents = []
    for document in town.iter_documents(seed=seed):
        documents.append([*document.tokens, "<end>"])
        n_tokens -= len(documents[-1])
        if n_tokens <= 0:
            return documents


training = read_town(run.pick(smoke=6_000, standard=80_000, full=2_000_000), run.seed)
held_out = read_town(run.pick(smoke=2_000, standard=8_000, full=50_000), run.seed + 1_000_000)
vocabulary = {word: i for i, word in enumerate(sorted({"<end>", *town.vocabulary}))}


def rows(documents: list[list[str]]) -> Tensor:
    """Return the text as ROWS rows of token numbers, (32, tokens / 32)."""
    ids = torch.tensor([vocabulary[word] for document in documents for word in document])  # (tokens,)
    return ids[: len(ids) // ROWS * ROWS].view(ROWS, -1)  # (32, tokens / 32)


train_rows, test_rows = rows(training), rows(held_out)
print(f"{train_rows.numel():,} tokens to learn from, {test_rows.numel():,} held out, {len(vocabulary):,} words")


# %%
class LanguageModel(nn.Module):
    """Guess the next token: a vector for each, a reader, and a matrix back to tokens."""

    def __init__(self, size: int, reader: nn.Module) -> None:
        super().__init__()
        d_in, d_hidden = reader.w_x.shape[0], reader.w_h.shape[0]
        self.token, self.reader, self.guess = nn.Embedding(size, d_in), reader, nn.Linear(d_hidden, size)

    def forward(self, tokens: Tensor, state=None) -> tuple[Tensor, object]:
        h, state = self.reader(self.token(tokens), state)  # (B, n, d)
        return self.guess(h), state  # (B, n, tokens)


def pieces_of(ids: Tensor, k: int):
    """Yield what is read and what follows it, (B, k) each, piece after piece."""
    for begin in range(0, ids.shape[1] - k, k):
        piece = ids[:, begin : begin + k + 1].to(run.device)  # (B, k + 1)
        yield piece[:, :-1], piece[:, 1:]


def train_on(model: LanguageModel, ids: Tensor, k: int, carry: bool, epochs: int, rate: float, name: str) -> LanguageModel:
    """Train with truncated backpropagation, the state carried over the cuts or not."""
    parameters = list(model.to(run.device).parameters())
    steps = epochs * len(range(0, ids.shape[1] - k, k))
    optimizer = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    bar = iter(progress(range(steps), desc=name))
    for _ in range(epochs):
        state = None
        for before, after in pieces_of(ids, k):
            next(bar)
            logits, state = model(before, state)  # (B, k, tokens)
            state = detach_state(state) if carry else None
            take_step(F.cross_entropy(logits.flatten(0, 1), after.flatten()), parameters, optimizer)
            schedule.step()
    return model


def bits_by_place(model: LanguageModel, ids: Tensor, k: int, carry: bool) -> Tensor:
    """Return the bits per token at each place of a piece, (k,), on held-out rows."""
    state, losses = None, []
    with torch.no_grad():
        for before, after in pieces_of(ids, k):
            logits, state = model(before, state)  # (B, k, tokens)
            state = state if carry else None
            losses.append(F.cross_entropy(logits.transpose(1, 2), after, reduction="none").mean(dim=0))  # (k,)
    return torch.stack(losses).mean(dim=0).cpu() / math.log(2)


# %% tags=["experiment"]
town_models = {}
for name, carry in (("state carried", True), ("state set to zero", False)):
    torch.manual_seed(run.seed)
    model = LanguageModel(len(vocabulary), LSTM(64, 64))
    town_models[name] = train_on(model, train_rows, PIECE, carry, epochs=run.pick(smoke=1, standard=1, full=4), rate=0.02, name=name)
by_place = {name: bits_by_place(model, test_rows, PIECE, carry=name == "state carried") for name, model in town_models.items()}
by_place["trained with zeros, read with the state carried"] = bits_by_place(town_models["state set to zero"], test_rows, PIECE, carry=True)
exact = [town.token_log_probs(document[:-1]) for document in held_out[: run.pick(smoke=4, standard=40, full=400)]]
exact_bits = -sum(map(sum, exact)) / sum(map(len, exact)) / math.log(2)
follows = torch.full((len(vocabulary), len(vocabulary)), 0.01).index_put_(
    (train_rows[:, :-1].flatten(), train_rows[:, 1:].flatten()), torch.ones(train_rows[:, 1:].numel()), accumulate=True
)  # (tokens, tokens), how often each follows each
bigram_bits = -(follows / follows.sum(dim=1, keepdim=True))[test_rows[:, :-1], test_rows[:, 1:]].log2().mean().item()
for name, bits in by_place.items():
    print(f"LSTM, {name:<50}{bits.mean():.2f} bits per token")
print(f"{'bigram counts':<56}{bigram_bits:.2f} bits per token")
print(f"{'exact, from the grammar':<56}{exact_bits:.2f} bits per token")

# %%
fig, ax = plt.subplots()
figures.lines(ax, range(PIECE), by_place, xlabel="place in the piece (tokens)", ylabel="bits per token", title="Riverbank, held out, pieces of 4 tokens")
ax.axhline(bigram_bits, color=figures.PALETTE["grey"], linestyle=":", marker="", label="bigram counts, on average")
ax.set_xticks(range(PIECE))
ax.legend()
figures.show(
    fig,
    caption="Bits per token by place in the piece. Who forgets at every cut knows but one token at the first place, and does no better there than bigram counts; who carries the state hardly notices the cut.",
    alt="Bits per token against place in the piece: the line with the state set to zero starts as high as bigram counts and falls; the lines with the state carried are about level.",
)

# %% tags=["claim"]
claim(
    "carrying the state over the cut saves bits on held-out text, per token on average",
    measured=(by_place["state set to zero"].mean() - by_place["state carried"].mean()).item(),
    at_least=0.1,
    breaks_when={"at the last place of the pieces, where both have context": (by_place["state set to zero"][-1] - by_place["state carried"][-1]).item()},
)
claim(
    "who was trained with zeros reads with a carried state about as well: the difference in bits per token",
    measured=abs((by_place["state carried"] - by_place["trained with zeros, read with the state carried"]).mean().item()),
    at_most=0.13,
    breaks_when={"reading with zeros": abs((by_place["state carried"] - by_place["state set to zero"]).mean().item())},
)
claim(
    "the LSTM predicts the town's text better than bigram counts (bits per token)",
    measured=by_place["state carried"].mean().item() - bigram_bits,
    at_most=-0.2,
    breaks_when={"at the first place after a forgotten past": by_place["state set to zero"][0].item() - bigram_bits},
)

# %% [markdown]
r"""
(All are far from the exact figure, the entropy of the town's grammar: 80,000 tokens, read once, teach little of it.)

The third line of the printout is worth a thought. A model that was trained with zeros and never met a carried state *reads* with one about as well as the model that was trained so. The gradients of both were cut at the same places, so both have learnt to keep what pays within four tokens; kept longer, it pays longer. What carrying cannot do is teach a network to keep something whose use comes only after the cut.

What does the cut falsify? Take the trained model, 16 stretches of 128 tokens, and the gradient of the recurrent matrix without any cut. Compare it with the one from pieces of $k$ tokens:
"""

# %% tags=["experiment"]
stretch = train_rows[:16, :129].to(run.device)  # (16, 129)
carried = town_models["state carried"]


def gradient_of_pieces(k: int) -> Tensor:
    """Return the gradient of the recurrent matrix from pieces of k tokens."""
    logits = in_pieces(carried, stretch[:, :-1], k)  # (16, 128, tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), stretch[:, 1:].flatten())
    return torch.autograd.grad(loss, carried.reader.w_h)[0]


uncut = gradient_of_pieces(128)
cut_at = [1, 2, 4, 8, 16, 32, 64]
lost = [((gradient_of_pieces(k) - uncut).norm() / uncut.norm()).item() for k in cut_at]
fig, ax = plt.subplots()
figures.lines(ax, cut_at, {"LSTM": lost}, xlabel="tokens in a piece", ylabel="relative error", title="The gradient of the recurrent matrix, cut against uncut", log="x")
ax.set_ylim(0, None)
figures.show(
    fig,
    caption="How far the truncated gradient lies from the true one, as a share of the true one's length. Short pieces see the wrong gradient; with a few dozen tokens little is missing, since this model, which was trained with cuts after four, makes little use of what stands further back.",
    alt="Relative error of the truncated gradient against the number of tokens in a piece; it falls steadily.",
)

# %% tags=["claim"]
claim(
    "a cut after every token falsifies much of the gradient: its relative error",
    measured=lost[0],
    at_least=0.3,
    breaks_when={"cuts after 64 tokens": lost[-1]},
)

# %% [markdown]
r"""
## What it costs, and where it breaks

To write $h_t$ you need $h_{t-1}$. A sentence of $n$ words takes $n$ steps that **wait for each other**, whatever the machine. Each is one small matrix product, $(B \times d)(d \times d)$. The same multiplications and additions in one piece, all $n$ rows at once, are one product $(Bn \times d)(d \times d)$: a feed-forward layer over the sentence, in which nobody waits. How much does the waiting cost?
"""

# %%
predict(
    "waiting",
    "How much longer does an RNN take for a sentence of 1024 tokens than one matrix product with the same multiplications?",
    ["Not longer: the work is the same", "About twice as long", "More than ten times as long"],
    answer=2,
    because="A product of one row of 64 numbers with a matrix is so little work that starting it takes longer than doing it, and 1024 of them have to be started one after the other",
)

# %% tags=["experiment"]
WIDTH = 64
lengths = run.pick(smoke=[16, 64], standard=[16, 64, 256, 1024], full=[64, 256, 1024, 4096])
layer = RNN(WIDTH, WIDTH).to(run.device)
library = nn.RNN(WIDTH, WIDTH, batch_first=True).to(run.device)
repeats = run.pick(smoke=2, standard=7, full=20)
per_token = {"RNN, step by step": [], "nn.RNN (compiled loop)": [], "the same products at once": []}
for n in lengths:
    x = torch.randn(1, n, WIDTH, device=run.device)  # (1, n, d)
    ways = (lambda: layer(x), lambda: library(x), lambda: torch.tanh(x @ layer.w_x + x @ layer.w_h + layer.b))  # noqa: B023
    with torch.no_grad():
        for name, way in zip(per_token, ways):
            per_token[name].append(1e6 * median_time(way, repeats=repeats, device=run.device).median / n)
ratios = {name: each[-1] / per_token["the same products at once"][-1] for name, each in per_token.items()}
print("at the longest length, time per token against the products at once:", {name: round(each, 1) for name, each in ratios.items()})
fig, ax = plt.subplots()
figures.lines(ax, lengths, per_token, xlabel="length n (tokens)", ylabel="time per token (µs)", title="One sentence, forward, width 64", log="xy")
figures.show(
    fig,
    caption="Time per token. The recurrent network's is the same at any length: nothing is shared, each token waits for the one before. At once, the cost per token falls with the length. All three lines do the same multiplications.",
    alt="Time per token against length on logarithmic axes: the two recurrent lines are level, that of the products at once falls and lies far below.",
)

# %% tags=["claim"]
claim(
    "step by step, a token takes many times as long as with the same products at once",
    measured=ratios["RNN, step by step"],
    at_least=10,
    breaks_when={"the products at once": ratios["the same products at once"]},
    timing=True,
)
claim(
    "a compiled loop does not remove the waiting",
    measured=ratios["nn.RNN (compiled loop)"],
    at_least=3,
    timing=True,
)

# %% [markdown]
r"""
Count for a sequence of $n$ tokens and a state of width $d$:

| | recurrent | window of $w$ |
|---|---|---|
| parameters | about $d_{in} d + d^2$ (LSTM: four times) | grow with $w$ |
| multiplications | $n(d_{in} d + d^2)$ | $n\,w\,d_{in}\,d$ |
| steps that wait for each other | $n$ | 1 |
| memory while writing | one state, whatever the length | one window |
| memory to train with one loss | $n$ states, kept for the way back | one window |
| sees back | any distance, if it can keep it | $w$ tokens |

One state, whatever the length, is the strength of recurrence, and it is coming back for it (lesson 22 meets recurrent layers that can be trained in parallel). It breaks in two places. The waiting you have just measured. The other is the state: **everything** that may be needed later must fit into $d$ numbers, and must be put there *before* it is known what will be asked. Lesson 06 asks an LSTM to hold a whole sentence.

## Real text: Python's own manual

Every Python carries its manual. An `LSTM` reads it character by character, with truncated BPTT and carried state; beside it stand counts of single characters, pairs and triples. The measure is bits per character on the last tenth, which is held out; less is better. And it may write: draw a character from what it predicts, let it read that one, draw the next.
"""

# %%
def split_text(corpus: str) -> tuple[Tensor, Tensor, list[str]]:
    """Return the characters' numbers of the first nine tenths and of the last, and the characters."""
    alphabet = sorted(set(corpus))
    number = {character: i for i, character in enumerate(alphabet)}
    ids = torch.tensor([number[character] for character in corpus])  # (characters,)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], alphabet


def count_bits(train: Tensor, test: Tensor, size: int, order: int) -> float:
    """Return the bits per character of counts of `order` characters in a row, 0.1 added to each."""
    table = torch.full((size,) * order, 0.1)
    table.index_put_(tuple(train[k : len(train) - order + 1 + k] for k in range(order)), torch.ones(len(train) - order + 1), accumulate=True)
    place = tuple(test[k : len(test) - order + 1 + k] for k in range(order))
    return -(table / table.sum(dim=-1, keepdim=True))[place].log2().mean().item()


def write(model: LanguageModel, alphabet: list[str], begin: str, n: int) -> str:
    """Let the model write n characters behind a beginning."""
    ids, state, generator = [alphabet.index(character) for character in begin], None, run.generator(20)
    tokens = torch.tensor([ids], device=run.device)  # (1, n)
    with torch.no_grad():
        for _ in range(n):
            logits, state = model(tokens, state)  # (1, n, characters)
            tokens = torch.multinomial(logits[:, -1].softmax(dim=-1).cpu(), 1, generator=generator).to(run.device)  # (1, 1)
            ids.append(tokens.item())
    return "".join(alphabet[i] for i in ids)


def read_characters(corpus: str, epochs: int) -> tuple[dict[str, float], str]:
    """Return the held-out bits per character of counts and of an LSTM, and what the LSTM writes."""
    train, test, alphabet = split_text(corpus)
    size = len(alphabet)
    bits = {f"counts of {order}": count_bits(train, test, size, order) for order in (1, 2, 3)}
    chunk = train[: run.pick(smoke=32 * 100, standard=32 * 32 * 250, full=len(train))]
    stripes, held = (ids[: len(ids) // count * count].view(count, -1) for ids, count in ((chunk, 32), (test[: run.pick(smoke=3200, standard=16_000, full=len(test))], 16)))
    torch.manual_seed(run.seed)
    model = LanguageModel(size, LSTM(32, 128))
    train_on(model, stripes, 32, carry=True, epochs=epochs, rate=0.01, name="characters")
    bits["LSTM, state carried"] = bits_by_place(model, held, 32, carry=True).mean().item()
    bits["the same, set to zero each time"] = bits_by_place(model, held, 1, carry=False).mean().item()
    return bits, write(model, alphabet, "The ", 240)


character_epochs = run.pick(smoke=1, standard=1, full=20)
manual, written = read_characters(text.python_manual().text, character_epochs)
for name, bits in manual.items():
    print(f"{name:<32}{bits:.2f} bits per character")
print(f"\nIt writes: {written}")

# %% tags=["claim"]
claim(
    "on Python's manual the LSTM needs fewer bits per character than counts of pairs",
    measured=manual["LSTM, state carried"],
    at_most=manual["counts of 2"] - 0.3,
    breaks_when={"the same LSTM with its state set to zero before each character": manual["the same, set to zero each time"]},
)

# %% [markdown]
r"""
Counts of triples are a hard opponent on a text as small as this, which repeats itself a lot. With its state taken away before every character the LSTM does worse than counts of single characters: it has never read like that, and relies on what it carries. It read 256,000 characters once. Reading them ten times takes a minute, too long for this page, so that was done beforehand and recorded:
"""

# %% tags=["record"]
ten_times, written = read_characters(text.python_manual().text, 10)
record("the manual, read ten times", ten_times["LSTM, state carried"])
record("written after ten times", written)

# %% tags=["claim"]
print(f"After ten times it writes: {recorded('written after ten times')}")
claim(
    "read ten times, the LSTM needs fewer bits per character than counts of triples (as recorded)",
    measured=recorded("the manual, read ten times"),
    at_most=manual["counts of 3"] - 0.3,
    breaks_when={"read once": manual["LSTM, state carried"]},
)

# %% [markdown]
r"""
The same on Shakespeare (Karpathy's *tinyshakespeare*, 1.1 MB), if you have fetched it with `course data fetch tinyshakespeare`:
"""

# %% tags=["nbval-ignore-output"]
shakespeare = registry.load_or_none("tinyshakespeare")
plays, played = (None, "") if shakespeare is None else read_characters(shakespeare, character_epochs)

# %% tags=["record"]
record("tinyshakespeare", plays)
record("written after Shakespeare", played)

# %% tags=["nbval-ignore-output"]
if plays is None:
    print("What follows was recorded where the plays were, at standard scale:")
for name, bits in (plays or recorded("tinyshakespeare")).items():
    print(f"{name:<32}{bits:.2f} bits per character")
print(f"\nIt writes: {played or recorded('written after Shakespeare')}")

# %% [markdown]
r"""
For comparison, on Shakespeare: nanoGPT's published recipe for a small GPT on a CPU ends near a validation loss of 1.88 nats, which is $1.88 / \ln 2 \approx 2.71$ bits per character (Karpathy 2022), after reading about six times as many characters as our LSTM.

## Recap

- A recurrent network carries a state through the sequence, with the same weights at every step: one set of weights for any length.
- Its gradients come from walking back: $g_t = e_t + \delta_{t+1} W_h^\top$, $\delta_t = g_t \odot (1 - h_t^2)$; the weights' gradients add up over the steps.
- Over distance these gradients go like powers of the spectral radius; the tanh shrinks them further. They vanish or explode, and no choice of the matrix prevents both.
- Clipping shortens a long gradient and keeps its direction. It cures explosions, not vanishing.
- An LSTM adds to its memory instead of multiplying it by a matrix. The forget gates decide what fades, and how fast; what is to be kept for long, it can learn to write again.
- Truncated backpropagation cuts the gradient, not the memory: carry the state, detach it.
- The steps wait for each other, and one state must hold everything.

**If you want more.** (1) Train the copy task with `forget_bias=-1`: how many steps until the LSTM notices the first symbol? (2) Give the adder 2 numbers of state instead of 16. Does it still learn to add, and what do its two numbers do? (3) Train the town's model with pieces of 2 tokens and carried state. The memory has no edge; what has the model still not learnt to keep?

## Glossary

| word | meaning |
|---|---|
| state $h_t$ | what is carried from step to step |
| unrolled | drawn out, a copy of the step for each token, all with the same weights |
| BPTT | backpropagation through time: the chain rule along the unrolled network |
| truncated BPTT | the gradient stops at each cut, the state does not |
| spectral radius $\rho$ | the largest absolute value of a matrix's eigenvalues |
| vanishing, exploding | gradients that shrink or grow exponentially with distance |
| clipping | shortening the gradient to a bound, with its direction kept |
| gate | a number between 0 and 1 that multiplies what passes |
| memory $c_t$, cell | the LSTM's second vector; one number of it |
| LSTM, GRU | recurrent units with input, forget and output gates; with reset and update gates |

## Sources

- J. Elman (1990), *Finding Structure in Time*, Cognitive Science 14: the simple recurrent network.
- P. Werbos (1990), *Backpropagation Through Time: What It Does and How to Do It*, Proceedings of the IEEE 78.
- R. Williams, J. Peng (1990), *An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories*, Neural Computation 2: truncation.
- Y. Bengio, P. Simard, P. Frasconi (1994), *Learning Long-Term Dependencies with Gradient Descent is Difficult*, IEEE Transactions on Neural Networks 5.
- R. Pascanu, T. Mikolov, Y. Bengio (2013), *On the Difficulty of Training Recurrent Neural Networks*, ICML: section 2.1 (spectral radius and singular values), section 2.3 and figure 6 (the cliff), algorithm 1 (clipping).
- S. Hochreiter, J. Schmidhuber (1997), *Long Short-Term Memory*, Neural Computation 9.
- F. Gers, J. Schmidhuber, F. Cummins (2000), *Learning to Forget: Continual Prediction with LSTM*, Neural Computation 12: the forget gate.
- R. Jozefowicz, W. Zaremba, I. Sutskever (2015), *An Empirical Exploration of Recurrent Network Architectures*, ICML: the forget gate's bias.
- K. Cho et al. (2014), *Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine Translation*, EMNLP, section 2.3: the GRU.
- A. Saxe, J. McClelland, S. Ganguli (2014), *Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural Networks*, ICLR: orthogonal initial weights.
- PyTorch documentation, `torch.nn.LSTM` and `torch.nn.GRU`: gate order, and the note on where the reset gate stands.
- A. Karpathy (2022), *nanoGPT*, readme, “i only have a macbook”: the small-CPU recipe and its loss.
"""
