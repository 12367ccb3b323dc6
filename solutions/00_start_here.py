# %% [markdown]
r"""
# 00 · Start here

When you have worked through this notebook you can

- run a lesson, answer its predictions, write its exercises and read what a check says about them;
- measure how alike two things are by a **dot product**, a **cosine** and a **projection**;
- turn any scores into shares with a **softmax** that no number can break;
- read and write tensor code by its **shapes**, and compute a million dot products in one line.

That is the whole mathematical toolbox of attention, the idea at the heart of the transformer. It
fits into one lesson; what to do with it takes the other twenty-seven.

You need Python, and vectors and derivatives as a first university year teaches them. No machine
learning is assumed. Take about two hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"
DEVICE = "auto"
DATASET = "riverbank"

# %% tags=["setup"]
import difflib
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from course_lib import figures
from course_lib.data import registry
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict
from course_lib.figures.course_map import show_course_map
from course_lib.runtime import describe_device, median_time, start
from course_lib.widgets.vectors import arrow, draw_vectors, vectors_view

figures.use_course_style()
run = start(lesson=0, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)

# %%
show_course_map(here=0)

# %% [markdown]
r"""
## How a lesson works

A notebook is made of **cells**. Text cells, like this one, are read. Code cells are run: click into
one and press **Shift+Enter**. Its result appears below it, and the next cell is selected. The
number in the brackets on its left says in which order cells were run; a star means that it is still
running.

All cells share one memory, the **kernel**. A name that one cell defines is known to every cell that
runs later, so order matters. Run the cells from top to bottom, or all at once with *Run → Run All
Cells*. A lesson always runs to its end, even if you have solved nothing yet, so you can look at the
whole before you begin.

The two code cells at the top set the stage. The first holds four **parameters** that every lesson
has:

| Parameter | Says | Values |
|---|---|---|
| `SEED` | where random numbers start: the same seed gives the same numbers | 0, 1, 2, … |
| `SCALE` | how much is computed | `"smoke"` (seconds), `"standard"` (a laptop), `"full"` (a GPU) |
| `DEVICE` | where it is computed | `"auto"`, `"cpu"`, `"cuda"` (NVIDIA), `"mps"` (Apple) |
| `DATASET` | on which data | `"riverbank"`, or a public data set that the lesson names |

The second cell imports what the lesson uses and prints the line above the map: the parameters as
they are in force. Change `SEED` to 1, run everything again, and watch which results move and which
stay.
"""

# %% [markdown]
r"""
## The town of Riverbank

All lessons share one world, a town called **Riverbank**. It does not exist: a grammar writes its
texts. So where other courses must guess whether a model has understood something, here the truth is
known: the exact probability of every sentence, its right parse, every fact about every inhabitant.
You will meet the town's people as word vectors, translate its language, train a model on its
stories, and teach that model what its people prefer.

Here are four of its documents. A **token** is a word or a punctuation mark; tokens are separated by
spaces.
"""

# %%
town = Town()
for document in town.documents(4, seed=run.seed):
    print(f"[{document.register}] {document.text}\n")

# %% [markdown]
r"""
## Predict, run, explain

Before an experiment you are asked what will come out. Choose an answer *before* you run the next
cell: a surprise teaches more than a nod. Your choice is kept, and nobody marks it. When you have
seen the result, open the explanation and compare.

The first question is about the town's vocabulary.
"""

# %%
predict(
    "half-of-the-text",
    "Riverbank's texts use 1,684 different tokens. Put the most frequent first. How many "
    "are needed to make up half of everything that is written there?",
    options=["about 40", "about 170, a tenth", "about 420, a quarter", "about 840, a half"],
    answer=0,
    because="Thirty-nine. “the” alone is one token in eight. Word frequencies fall off "
    "steeply in every natural language (Zipf 1949), and the town was built to share"
    " that.",
)

# %% tags=["experiment", "nbval-check-output"]
frequency = town.word_frequencies  # exact: computed from the grammar, not counted in a sample
words = sorted(frequency, key=frequency.get, reverse=True)
share = torch.tensor([frequency[word] for word in words], dtype=torch.float64).cumsum(dim=0)  # (V,)
n_common = int((share < 0.5).sum()) + 1
print(f"{len(words)} different tokens; the first {n_common} make up half of the text:")
print(" ".join(words[:n_common]))

# %% [markdown]
r"""
## Claims

Where the text states a result, a cell measures it and calls `claim`. The card shows the figure, the
bound that it must keep, and what the same measurement gives when the thing that matters is taken
away: a claim that nothing could break would say nothing. If a claim is false on your machine, the
card is red. Please believe the card and not the text.
"""

# %% tags=["claim"]
claim(
    "39 of the town's 1,684 tokens make up half of its text",
    measured=n_common,
    equals=39,
    breaks_when={"if all tokens were equally frequent": len(words) // 2},
)

# %% [markdown]
r"""
## Exercises

An exercise is a function or class that you write. Its cell holds a **stub**: the name, the inputs,
a description, and `raise NotImplementedError()` where your code belongs. The cell after it
**checks** what you wrote. A check can say three things. Here they are, live, for the smallest
exercise of the course: `dot_product(a, b)` is to multiply two vectors place by place and add up the
products. (`demonstration()` only means that these three do not count.)

First, the stub as you find it.
"""

# %%
from course_lib.exercises.demonstration import demonstration

with demonstration():

    def dot_product(a, b):
        raise NotImplementedError()

    check("dot_product")

# %% [markdown]
r"""
*Not attempted.* Nothing is wrong; the lesson goes on with the course's own version. Next, a wrong
answer.
"""

# %%
with demonstration():

    def dot_product(a, b):
        return a * b

    check("dot_product")

# %% [markdown]
r"""
*Not right yet.* The check ran your function on ten drawn inputs and compared the results with those
of an independent library. This answer equals a known mistake, so the check says in a sentence what
went wrong. It also names the smallest input that fails; open the lines below it to see that input,
what was expected and what came out. If the sentence does not help, `hint` gives the next of three
hints or more, from a nudge to nearly the answer.
"""

# %%
with demonstration():
    hint("dot_product")

# %% [markdown]
r"""
Last, a right answer. It goes through the numbers one by one, which is slow but correct.
"""

# %%
with demonstration():

    def dot_product(a, b):
        return sum(x * y for x, y in zip(a, b))

    check("dot_product")

# %% [markdown]
r"""
*Right.* From here on the lesson would use this function, yours. That is the rule of every exercise:
**what follows takes your version if it passes, and the course's finished one if not**, and the card
says which. So you can skip an exercise and come back to it.

Now it is your turn. The heading of an exercise gives its difficulty, from ●○○○○ (a line) to ●●●●●
(an hour), and the minutes it takes.

### Exercise: `dot_product`

●○○○○ · 2 minutes

- **Task**: the same function without a loop. Tensors can be multiplied whole: `a * b`.
- **Input**: `a` and `b`, two vectors of $d$ numbers, shape `(d,)`.
- **Output**: one number as a tensor, shape `()`.
- **Help**: `hint("dot_product")` in a new cell.

Replace the line `raise NotImplementedError()`, run the cell, then the check.
"""

# %% tags=["exercise"] exercise="dot_product"
from course_lib.models.basics import dot_product  # course: write out

# %% tags=["check"] exercise="dot_product"
dot_product = check("dot_product")

# %% [markdown]
r"""
## Your progress, and what to do when something breaks

What you have passed is kept in a small file outside the notebooks, so nothing is lost if you delete
or update them. `course status`, typed in a terminal (*File → New → Terminal*), shows it:

```
$ course status 00
┏━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┓
┃ Lesson ┃ Exercise          ┃ Points ┃ State         ┃ Attempts ┃ Hints ┃
┡━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━┩
│ 00     │ dot_product       │ 1      │ ✓ passed      │ 1        │       │
│ 00     │ cosine_similarity │ 2      │ not attempted │          │       │
```

When something goes wrong, it is nearly always one of these:

| What you see | What to do |
|---|---|
| `NameError: name … is not defined` | a cell above has not run: *Run → Run All Above Selected Cell* |
| a star that stays, `[*]` | the cell is still at work; the square button stops it |
| results that make no sense after many edits | *Kernel → Restart Kernel and Run All Cells* |
| an error about **shapes** | print the shapes of what goes in; the section on shapes below shows how to read it |
| missing packages, no widgets, no GPU | `course doctor` in a terminal says what is wrong with the machine, and the remedy |

An error message is read from its **last line** up: the last line says what happened, and the arrow
(`---->`) where.
"""

# %% [markdown]
r"""
## The question: is a king more like a queen or like bread?

You know the answer. A program does not: to it, words are strings of letters. The obvious
measurement compares the letters. Which of the town's words are spelled most like *king*?
"""

# %% tags=["experiment", "nbval-check-output"]
others = [word for word in words if word != "king"]
print(difflib.get_close_matches("king", others, n=6))
print("queen:", round(difflib.SequenceMatcher(None, "king", "queen").ratio(), 2))
print("bread:", round(difflib.SequenceMatcher(None, "king", "bread").ratio(), 2))

# %% [markdown]
r"""
Spelling finds *baking* and *ring*. For meaning it is no use: a *queen* shares one letter with a
*king*, a *ring* shares three.

A better idea is seventy years old: *words that keep the same company mean similar things* (Harris
1954). To use it, a word must become a list of numbers that describe its company, and two lists must
be compared. The first half is counting. The second half is the dot product.
"""

# %% [markdown]
r"""
## A word as a vector

A **vector** $a \in \mathbb{R}^d$ is a list of $d$ real numbers, $a = (a_1, \dots, a_d)$; $d$ is its
**width** or dimension. We make one for each word from the plainest fact there is: which sentences
it stands in. Take $n$ sentences of the town, and let

$$S_{iw} = 1 \text{ if sentence } i \text{ holds the word } w, \text{ else } 0 .$$

$S$ is a **matrix**, $n$ rows by $V$ columns ($V$ is the number of different words). A column of it
is a word, as a vector of width $n$. A **tensor** is the same thing with any number of axes: a
number has none, a vector one, a matrix two. Its **shape** lists the sizes of its axes.
"""

# %%
n_documents = run.pick(smoke=800, standard=2000, full=8000)
sentences = [s.tokens for d in town.documents(n_documents, seed=run.seed) for s in d.sentences]
column = {word: w for w, word in enumerate(words)}  # most frequent first

S = torch.zeros(len(sentences), len(words), device=run.device)  # (n, V)
rows = [i for i, tokens in enumerate(sentences) for _ in tokens]
S[rows, [column[token] for tokens in sentences for token in tokens]] = 1.0
print("S has shape", tuple(S.shape), "and dtype", S.dtype, "on", S.device)

# %% [markdown]
r"""
## The dot product

The **dot product** of two vectors of the same width is one number:

$$a \cdot b = \sum_{i=1}^{d} a_i\, b_i .$$

For columns of $S$ each term $a_i b_i$ is 1 where *both* words stand in sentence $i$, and 0
elsewhere. So the dot product **counts the sentences that two words share**. In general it adds up
agreement: a place where both numbers are large and of one sign adds much, a place where one of them
is 0 adds nothing, a place with opposite signs takes away.
"""

# %% tags=["experiment"]
for first, second in [
    ("king", "palace"),
    ("king", "bread"),
    ("princess", "castle"),
    ("soup", "food"),
]:
    shared = dot_product(S[:, column[first]], S[:, column[second]])  # ()
    print(f"{first:8} · {second:7} = {int(shared)} sentences")

# %% [markdown]
r"""
Now choose two words, *rode* and *danced*, and describe every other word by two numbers: how often
it shares a sentence with the one and with the other. Two numbers can be drawn, as an arrow from the
origin.
"""

# %%
drawn = ["stallion", "pony", "castle", "princess", "ball", "soup"]
pairs = [
    [dot_product(S[:, column[word]], S[:, column[other]]).item() for other in ("rode", "danced")]
    for word in drawn
]
company = torch.tensor(pairs, device=run.device)  # (6, 2)

fig, ax = plt.subplots(figsize=(5.2, 4.2))
for word, (x, y), colour in zip(drawn, pairs, figures.CYCLE):
    ax.plot(x, y, marker="o", color=colour, markersize=5, zorder=3)
    ax.plot([0, x], [0, y], color=colour, marker="")
    ax.annotate(
        f"{word} ({x:.0f}, {y:.0f})",
        (x, y),
        xytext=(5, 3 if y else -12),
        textcoords="offset points",
        color=colour,
    )
ax.set(xlabel="sentences shared with “rode”", ylabel="sentences shared with “danced”")
farthest = company.max().item()
ax.set(xlim=(-0.03 * farthest, 1.3 * farthest), ylim=(-0.1 * farthest, 1.1 * farthest))
figures.show(
    fig,
    caption="Six words as arrows. The horses lie along “rode”, the ball along “danced”; "
    "castle and princess lie between them, in about the same direction, and the "
    "arrow of the castle is far longer.",
    alt="Arrows from the origin. Stallion and pony point along the axis “rode”, ball along "
    "“danced”; castle and princess point between, castle much longer; soup lies near "
    "the origin.",
)

# %% [markdown]
r"""
Two things about an arrow can be told apart, and they mean different things. Its **direction** says
what kind of company the word keeps. Its **length** says, above all, how often the word occurs.
*Castle* and *princess* have about the same direction; there are just more castles in the text.

## Length, angle, cosine

By Pythagoras the length, or **norm**, of a vector is

$$\lVert a \rVert = \sqrt{a_1^2 + \dots + a_d^2} = \sqrt{a \cdot a} ,$$

so the dot product of a vector with itself is its squared length. What is it for two different
vectors? Expand the squared length of the difference, which is the third side of the triangle that
$a$ and $b$ span:

$$\lVert a-b \rVert^2 = (a-b)\cdot(a-b) = \lVert a \rVert^2 + \lVert b \rVert^2 - 2\, a\cdot b .$$

The law of cosines says of the same side $\lVert a-b \rVert^2 = \lVert a \rVert^2 + \lVert b
\rVert^2 - 2 \lVert a \rVert \lVert b \rVert \cos\theta$, where $\theta$ is the angle between $a$
and $b$. Compare the two:

$$a \cdot b = \lVert a \rVert \, \lVert b \rVert \, \cos\theta , \qquad\qquad \cos\theta = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert} .$$

The **cosine similarity** is 1 for the same direction, 0 for a right angle, −1 for opposite
directions. The lengths are divided out.
"""

# %%
from course_lib.models.basics import norm  # course: write out

for word, length in zip(drawn, norm(company).tolist()):  # (6, 2) -> (6,)
    print(f"‖{word}‖ = {length:.1f}")

# %% [markdown]
r"""
Two conventions of this course stand in that cell.

- **Axes are read from the end.** `dim=-1` is the last axis. A function that works on the last axis
  and leaves the ones before alone serves one vector, a batch of them, and a batch of batches.
- **Shapes are written down.** Every line that makes a tensor ends in a comment with its shape, `#
  (6, 2)`. Annotations say the same of inputs and outputs: `Float[Tensor, "... d"]` is read aloud as
  *a tensor of floats, any number of axes, then one of size d*. The same letter means the same size
  wherever it stands in a signature. (The notation is that of the library jaxtyping.)

### Exercise: `cosine_similarity`

●●○○○ · 8 minutes

- **Task**: the cosine of the angle between vectors, $a \cdot b / (\lVert a \rVert \lVert b
  \rVert)$.
- **Input**: `a` and `b`, shape `(..., d)`: a pair of vectors, a batch of pairs, or one vector
  `(d,)` against many `(n, d)`.
- **Output**: one number for each pair, shape `(...)`.
- **Edge case**: a vector of zeros has no direction; its cosine with anything is to be 0, not NaN
  ("not a number").
- **Help**: `hint("cosine_similarity")`. PyTorch's own function of this name is not allowed here,
  for once.
"""

# %% tags=["exercise"] exercise="cosine_similarity"
from course_lib.models.basics import cosine_similarity  # course: write out

# %% tags=["check"] exercise="cosine_similarity"
cosine_similarity = check("cosine_similarity")

# %% [markdown]
r"""
The check compares your function with PyTorch's. What it cannot show you is why the division is
worth it. Make a vector a thousand times longer and see what each measure says.
"""

# %% tags=["claim"]
a, b = torch.randn(2, 100, 64, generator=run.generator()).to(run.device)  # (100, 64) each
cosine_moves = (cosine_similarity(1000 * a, b) - cosine_similarity(a, b)).abs().max().item()
dot_moves = ((1000 * a * b).sum(dim=-1) - (a * b).sum(dim=-1)).abs().max().item()
claim(
    "the cosine does not change when a vector is made a thousand times longer",
    measured=cosine_moves,
    at_most=1e-5,
    breaks_when={"the dot product": dot_moves},
)

# %% [markdown]
r"""
## Projection

Drop a perpendicular from the tip of $a$ onto the line through $b$. The point where it lands is the
**projection** of $a$ onto $b$: the part of $a$ that lies along $b$. It is some multiple $t\,b$, and
what is left, $a - t\,b$, must be at a right angle to $b$:

$$(a - t\,b)\cdot b = 0 \quad\Longrightarrow\quad t = \frac{a \cdot b}{b \cdot b}, \qquad \operatorname{proj}_b(a) = \frac{a \cdot b}{b \cdot b}\, b .$$

Its length along $b$ is $a \cdot b / \lVert b \rVert = \lVert a \rVert \cos\theta$. So the dot
product is *the length of the shadow of $a$ on $b$, times the length of $b$*.
"""

# %%
from course_lib.models.basics import projection  # course: write out

# %% tags=["claim"]
a, b = torch.randn(2, 100, 64, generator=run.generator(1), dtype=torch.float64)  # (100, 64) each
rest = a - projection(a, b)  # (100, 64)
careless = a - (a * b).sum(dim=-1, keepdim=True) * b  # (100, 64), without dividing by b·b
claim(
    "what a projection leaves over is at a right angle to what was projected onto",
    measured=(rest * b).sum(dim=-1).abs().max().item(),
    at_most=1e-10,
    breaks_when={"without dividing by b·b": (careless * b).sum(dim=-1).abs().max().item()},
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.8, 4.8))
functions = {"dot": dot_product, "cosine": cosine_similarity, "project": projection}
draw_vectors(arrow(75, 2.5), arrow(20, 2.4), **functions, ax=axes[0])
draw_vectors(arrow(150, 2.5), arrow(20, 2.4), **functions, ax=axes[1])
figures.show(
    fig,
    caption="Left: an acute angle, the shadow of a falls on b and the dot product is "
    "positive. Right: an obtuse angle, the shadow falls behind the origin and the "
    "dot product is negative.",
    alt="Two panels with vectors a and b and the projection of a onto b drawn as a thick "
    "bar: on the left it lies along b, on the right on the other side of the origin.",
)

# %% [markdown]
r"""
**Move the arrows** and answer, with your own functions doing the computing:

1. Turn $a$ all the way round. At which angles between the arrows does the dot product change its
   sign?
2. Make $b$ longer. Which of the four numbers changes, and which do not?
3. Can the dot product be larger than the product of the two lengths?
"""

# %% tags=["widget", "nbval-ignore-output"]
vectors_view(dot=dot_product, cosine=cosine_similarity, project=projection)

# %% [markdown]
r"""
<details><summary>Answers</summary>

1. At 90° and 270°, where the cosine passes through 0. Acute means positive, obtuse negative.
2. Only the dot product. Angle and cosine know nothing of lengths; the shadow falls on the *line*
   through $b$, however long $b$ is.
3. No. It is that product times a cosine, which is at most 1. This is the Cauchy–Schwarz inequality,
   $|a \cdot b| \le \lVert a \rVert \lVert b \rVert$.
</details>

## A matrix product is many dot products

To compare every word with every word, $V^2$ dot products are needed, almost three million. Nobody
writes that loop, since it has a name. For matrices $A$ of shape $(n, d)$ and $B$ of shape $(d, m)$
the **matrix product** $C = AB$ has shape $(n, m)$ and

$$C_{ij} = \sum_{k=1}^{d} A_{ik} B_{kj} \;=\; (\text{row } i \text{ of } A) \cdot (\text{column } j \text{ of } B) .$$

Written out, it is a loop over rows and columns with a dot product inside:
"""

# %%
from course_lib.models.basics import matrix_product  # course: write out

# %% tags=["claim"]
A = torch.randn(6, 6, generator=run.generator(2), dtype=torch.float64)  # (n, d)
B = torch.randn(6, 6, generator=run.generator(3), dtype=torch.float64)  # (d, m)
product = matrix_product(A, B)  # (n, m)
claim(
    "every entry of a matrix product is a dot product of a row and a column",
    measured=(product - A @ B).abs().max().item(),
    at_most=1e-12,
    breaks_when={"rows of B in place of its columns": (product - A @ B.T).abs().max().item()},
)

# %% [markdown]
r"""
In Python the operator is `@`. Columns of $S$ are words, so the table of all dot products of words
is $S^\top S$: turn $S$ on its side, so that its columns become rows, and multiply. One line gives
the **co-occurrence counts** of the whole town. (A word shares every one of its sentences with
itself; that says nothing, so the diagonal is set to 0.)
"""

# %%
together = S.T @ S  # (V, n) @ (n, V) -> (V, V)
together.fill_diagonal_(0)
print(
    f"{together.numel():,} dot products of width {len(sentences):,}: shape {tuple(together.shape)}"
)
company_of_king = together[column["king"]]  # (V,)
print(
    "king:", {words[w]: int(company_of_king[w]) for w in company_of_king.topk(12).indices.tolist()}
)

# %% [markdown]
r"""
Row *king* of this table describes a king by his company: 1,684 numbers instead of two. But see
which they are. The largest belong to the thirty-nine common tokens from the beginning, which keep
everyone's company and so tell nobody apart. We leave their columns out. What remains is our word
vectors.
"""

# %%
vectors = together[:, n_common:]  # (V, V − 39)
print(tuple(vectors.shape))

# %%
predict(
    "nearest-to-king",
    "Take the dot product of king's vector with every other word's. Which word has the largest?",
    options=["queen", "kingdom", "bread", "the full stop"],
    answer=3,
    because="The full stop's vector is not much like the king's, but it is enormous: it "
    "stands in most sentences. The dot product rewards length as much as direction.",
)

# %% tags=["experiment"]
king = vectors[column["king"]]  # (d,)
dots = vectors @ king  # (V, d) @ (d,) -> (V,)
cosines = cosine_similarity(vectors, king)  # (V, d), (d,) -> (V,)


def ranking(scores: Float[Tensor, "V"]) -> list[str]:
    """Return the words by falling score, king left out."""
    order = scores.argsort(descending=True).tolist()
    return [words[w] for w in order if words[w] != "king"]


print("by dot product:", ranking(dots)[:8])
print("by cosine:     ", ranking(cosines)[:8])

# %% tags=["claim"]
claim(
    "by the cosine of their company the word most like king is queen",
    measured=ranking(cosines).index("queen") + 1,
    equals=1,
    breaks_when={"queen's rank by the dot product": ranking(dots).index("queen") + 1},
)

# %% [markdown]
r"""
There is the answer to our question, and no one told the program what a king is. One pair may be
luck, so here is a test on 400. The town's lexicon knows the attributes of each word (a queen is a
person, royal, female), and the share of attributes that two words have in common is their true
similarity. The **Spearman correlation** compares two orderings of the same pairs: 1 if they agree
entirely, 0 if they have nothing to do with each other.
"""

# %% tags=["claim"]
judged = town.similarities()  # (word, word, true similarity)
left = vectors[[column[one] for one, _, _ in judged]]  # (400, d)
right = vectors[[column[other] for _, other, _ in judged]]  # (400, d)
truth = [similarity for _, _, similarity in judged]
by_cosine = spearmanr(cosine_similarity(left, right).cpu(), truth).statistic
by_dot = spearmanr((left * right).sum(dim=-1).cpu(), truth).statistic
claim(
    "the cosine of two words' company orders 400 pairs much as their true similarity does",
    measured=by_cosine,
    at_least=0.68,
    breaks_when={"the dot product": by_dot},
)

# %%
shown = [
    "king",
    "queen",
    "princess",
    "prince",
    "stallion",
    "pony",
    "bread",
    "soup",
    "nurse",
    "doctor",
]
rows = vectors[[column[word] for word in shown]]  # (10, d)
table = cosine_similarity(rows[:, None], rows[None, :])  # (10, 1, d), (1, 10, d) -> (10, 10)

fig, ax = plt.subplots(figsize=(5.6, 4.6))
figures.heatmap(
    ax, table.cpu(), rows=shown, columns=shown, limits=(0, 1), numbers=".2f", bar="cosine"
)
figures.show(
    fig,
    caption="The cosine of ten words with each other, from nothing but shared sentences. King "
    "finds queen, bread soup, nurse doctor; prince and princess stand near each other and near "
    "the horses they ride: company tells both who is alike and who belongs together.",
    alt="Heat map of cosines between ten words. King and queen form a bright block, prince, "
    "princess, stallion and pony another, then bread and soup, nurse and doctor; the rest is dark.",
)

# %% [markdown]
r"""
## Broadcasting

The line that made `table` put two tensors of different shapes together, `(10, 1, d)` and `(1, 10,
d)`. PyTorch **broadcasts**: it lines the shapes up *from the right*; two sizes fit if they are
equal or one of them is 1 (or missing), and an axis of size 1 is repeated as often as needed,
without copying. Indexing with `None` puts an axis of size 1 in. So `rows[:, None]` stands each word
in a row, `rows[None, :]` in a column, and the pair meets in every combination.
"""

# %% tags=["nbval-check-output"]
for shapes in [
    ((10, 1, 64), (1, 10, 64)),
    ((4, 5), (5,)),
    ((4, 5), (4, 1)),
    ((3, 1), (3,)),
    ((4, 5), (4,)),
]:
    try:
        print(*shapes, "->", tuple(torch.broadcast_shapes(*shapes)))
    except RuntimeError:
        print(*shapes, "-> they do not fit")

# %% [markdown]
r"""
The fourth line is the most frequent silent bug in tensor code. Someone subtracts predictions `(3,)`
from targets `(3, 1)`, expects three differences, and gets nine. No error is raised; the loss is
merely wrong. When a sum is to be divided by or subtracted from what it was taken from,
`keepdim=True` keeps its axis with size 1, and the shapes fit as intended.

When shapes do not fit, the message says which met which:
"""

# %% tags=["nbval-check-output"]
try:
    torch.ones(2, 3) @ torch.ones(2, 3)
except RuntimeError as error:
    print(error)

# %% [markdown]
r"""
Read it as a sentence: a table of two rows by three columns met another such table, and `@` needs
the *columns of the first* (3) to equal the *rows of the second* (2). The cure is to ask which of
the two should be turned.

From lesson 05 on nearly every tensor has three axes, `(B, T, d)`: a **batch** of $B$ sentences that
have nothing to do with each other, $T$ positions in each, $d$ numbers at each position. `@` works
on the last two axes and treats those before as a batch. There is also a notation that names the
axes, `einsum`: `torch.einsum("bqd,bkd->bqk", x, y)` is read aloud as *for every b, q and k, the sum
over d of x at (b, q, d) times y at (b, k, d)*. A letter that is missing after the arrow is summed
over.

### Exercise: `batched_scores`

●●○○○ · 6 minutes

- **Task**: in each batch entry, the dot product of every query with every key. (*Queries* ask and
  *keys* are asked; the names are those of lesson 07.)
- **Input**: `queries`, shape `(B, n_q, d)`; `keys`, shape `(B, n_k, d)`.
- **Output**: scores, shape `(B, n_q, n_k)`: a row for each query, a column for each key.
- **Edge cases**: $n_q \ne n_k$; one query; all sizes equal, where a forgotten transpose raises no
  error. No loop is needed.
- **Help**: `hint("batched_scores")`.
"""

# %% tags=["exercise"] exercise="batched_scores"
from course_lib.models.basics import batched_scores  # course: write out

# %% tags=["check"] exercise="batched_scores"
batched_scores = check("batched_scores")

# %% [markdown]
r"""
## Softmax

A score such as a dot product can be any number. Often we want **shares** instead: positive numbers
that add up to 1, larger for larger scores, so that "how much of my attention does each of you get"
has an answer. What should the shares depend on? Let us ask for one property: *the ratio of two
shares depends only on the difference of their scores*. So if share $p_i$ is $f(s_i)$ divided by the
sum of all $f(s_j)$, then

$$\frac{p_i}{p_j} = \frac{f(s_i)}{f(s_j)} = g(s_i - s_j) .$$

Put $s_j = 0$: $f(s) = f(0)\, g(s)$. Put that back: $g(s_i) = g(s_i - s_j)\, g(s_j)$, that is $g(x +
y) = g(x)\, g(y)$. The only continuous functions that turn sums into products are the exponentials,
$g(x) = e^{\beta x}$. With $\beta = 1$ this is the **softmax**:

$$\operatorname{softmax}(s)_i = \frac{e^{s_i}}{\sum_j e^{s_j}} .$$

By its making it has a strange and useful property.
"""

# %%
predict(
    "add-a-thousand",
    "The softmax of the scores (1, 2, 3) is about (0.09, 0.24, 0.67). What is that of "
    "(1001, 1002, 1003), in exact arithmetic?",
    options=["the same", "nearly (0, 0, 1)", "nearly (⅓, ⅓, ⅓)", "it is not defined"],
    answer=0,
    because="Each e^(s+1000) is e^1000 times e^s, and e^1000 cancels from the fraction. "
    "Shares depend on differences alone. A computer that does what the formula says"
    " fails all the same, as the next cell shows.",
)


# %% tags=["experiment", "nbval-check-output"]
def softmax_as_written(x: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """Compute the formula as it stands."""
    return x.exp() / x.exp().sum(dim=-1, keepdim=True)


print(softmax_as_written(torch.tensor([1.0, 2.0, 3.0])))
print(softmax_as_written(torch.tensor([1001.0, 1002.0, 1003.0])))
print(f"the largest float32 is e^{math.log(torch.finfo(torch.float32).max):.2f}")

# %% [markdown]
r"""
A number of type `float32` cannot be larger than about $3.4 \cdot 10^{38} = e^{88.72}$. Beyond that
it becomes `inf`, and `inf / inf` is NaN. A score of 89 is enough. The cure uses the property
itself. For any number $c$

$$\frac{e^{s_i - c}}{\sum_j e^{s_j - c}} = \frac{e^{-c}\, e^{s_i}}{e^{-c} \sum_j e^{s_j}} = \operatorname{softmax}(s)_i ,$$

so we may choose $c = \max_j s_j$. Then the largest exponent is 0, the largest power 1, and the sum
is at least 1: nothing can overflow, and nothing is divided by 0.

### Exercise: `softmax`

●●○○○ · 8 minutes

- **Task**: the softmax along one axis, safe for scores of any size.
- **Input**: `x`, scores of any shape; `dim`, the axis along which shares add up to 1 (the last, if
  not given).
- **Output**: shares in the shape of `x`.
- **Edge cases**: scores in the thousands; rows that lie thousands apart, so each needs its own
  maximum; a score of −∞, whose share is 0.
- **Help**: `hint("softmax")`. Ready-made softmax functions are not allowed in this one.
"""

# %% tags=["exercise"] exercise="softmax"
from course_lib.models.basics import softmax  # course: write out

# %% tags=["check"] exercise="softmax"
softmax = check("softmax")

# %% tags=["claim"]
steps = torch.arange(0, 200, 10, device=run.device).float()  # (20,) scores from 0 to 190
scores = steps[:, None] + torch.tensor([0.0, 1.0, 2.0], device=run.device)  # (20, 3)
claim(
    "as the formula is written, softmax gives NaN for scores of 90 and more",
    measured=(~softmax_as_written(scores).isfinite()).any(dim=-1).sum().item(),
    at_least=1,
    breaks_when={
        "rows with NaN after subtracting the maximum": (~softmax(scores).isfinite())
        .any(dim=-1)
        .sum()
        .item()
    },
)

# %% tags=["claim"]
scores = torch.randn(100, 16, generator=run.generator(4), dtype=torch.float64)  # (100, 16)
claim(
    "adding the same number to all scores changes no share",
    measured=(softmax(scores + 100) - softmax(scores)).abs().max().item(),
    at_most=1e-12,
    breaks_when={"doubling all scores": (softmax(2 * scores) - softmax(scores)).abs().max().item()},
)

# %% [markdown]
r"""
Adding changes nothing; *multiplying* does. That is a dial: divide the scores by a **temperature**
$\tau$ before the softmax. A low temperature gives nearly everything to the largest score, a high
one gives equal shares. Here five words each divide their attention among eight others, by the
cosine of their company. Divide a vector by its length and the dot product *is* the cosine, so your
`batched_scores` does the work, with a batch of one.
"""

# %%
asking = ["king", "princess", "pony", "bread", "doctor"]
asked = ["queen", "prince", "stallion", "castle", "soup", "butter", "nurse", "fever"]
unit = vectors / norm(vectors).clamp(min=1e-8)[:, None]  # (V, d), every row of length 1
queries = unit[[column[word] for word in asking]][None]  # (1, 5, d)
keys = unit[[column[word] for word in asked]][None]  # (1, 8, d)
scores = batched_scores(queries, keys)  # (1, 5, 8)

fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), sharey=True)
for ax, temperature in zip(axes, (1.0, 0.1)):
    shares = softmax(scores / temperature)[0]  # (5, 8)
    figures.heatmap(ax, shares.cpu(), rows=asking, columns=asked, limits=(0, 1), numbers=".2f")
    ax.set_title(f"temperature {temperature:g}")
figures.show(
    fig,
    caption="Each row adds up to 1. At temperature 1 cosines between 0 and 1 give nearly "
    "equal shares; at 0.1 the same cosines single out the word most alike.",
    alt="Two heat maps of shares. At temperature 1 all squares are close to one eighth; at "
    "0.1 most rows have one or two large squares, such as king for queen.",
)

# %% [markdown]
r"""
Remember this picture. Queries meet keys by dot products, a softmax makes shares of the scores.
Average something with these shares as weights and you have **attention**; lesson 07 begins exactly
here.

## Directions in many dimensions

Two random arrows in the plane can make any angle. Word vectors have hundreds of dimensions, and
there intuition from the plane misleads.
"""

# %%
predict(
    "random-directions",
    "Draw two directions at random in a space of 512 dimensions. What angle do they make?",
    options=[
        "any angle, all equally likely",
        "mostly small, near 0°",
        "mostly about 45°",
        "nearly always close to 90°",
    ],
    answer=3,
    because="The squared cosine is 1/512 on average, so a typical cosine is 0.044, an angle"
    " within 2.5° of a right angle.",
)

# %% tags=["experiment"]
widths = [2**k for k in range(1, 12)]  # 2 … 2048
n_pairs = run.pick(smoke=500, standard=4000, full=20000)


def random_cosines(d: int, common: float = 0.0) -> Float[Tensor, "n_pairs"]:
    """Return the cosines of pairs of random vectors, to each of which the same vector may be added."""
    a, b = torch.randn(2, n_pairs, d, generator=run.generator(d)).to(run.device) + common
    return cosine_similarity(a, b)


def root_mean_square(x: Tensor) -> float:
    """Return the typical size of numbers of either sign."""
    return x.square().mean().sqrt().item()


independent = [root_mean_square(random_cosines(d)) for d in widths]
shared = [root_mean_square(random_cosines(d, common=1.0)) for d in widths]

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.5))
for d, colour in zip((2, 8, 64, 512), figures.CYCLE):
    axes[0].hist(
        random_cosines(d).tolist(),
        bins=60,
        range=(-1, 1),
        density=True,
        histtype="step",
        color=colour,
        label=f"d = {d}",
    )
axes[0].set(xlabel="cosine", ylabel="density", title="Cosines of random pairs")
axes[0].legend()
series = {"independent": independent, "with a common part": shared}
figures.lines(axes[1], widths, series, xlabel="width d", ylabel="typical |cosine|", log="xy")
axes[1].plot(widths, [d**-0.5 for d in widths], "--", color="black", marker="", label="1/√d")
axes[1].set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])
axes[1].minorticks_off()
axes[1].set_title("The wider, the more orthogonal")
axes[1].legend()
figures.show(
    fig,
    caption="Left: in the plane every angle is equally likely, and cosines pile up at −1 and 1; in "
    "512 dimensions nearly all are close to 0. Right: the typical cosine falls like 1/√d, unless "
    "all vectors have a part in common.",
    alt="Left, histograms of cosines for widths 2, 8, 64 and 512: two horns at −1 and 1 for width 2, "
    "ever narrower peaks around 0 for the others. Right, on logarithmic axes, the typical cosine "
    "follows the line 1/√d; with a common part it stays near one half.",
)

# %% [markdown]
r"""
The reason takes three lines. Turn the space so that one of the two directions is the first axis.
The cosine is then the first coordinate $u_1$ of the other, a random direction $u$ of length 1. Its
squared coordinates add up to 1, and by symmetry all have the same mean:

$$u_1^2 + \dots + u_d^2 = 1 \quad\Longrightarrow\quad \mathbb{E}[\cos^2\theta] = \mathbb{E}[u_1^2] = \frac1d .$$

So a typical cosine has size $1/\sqrt d$. A wide space has room for very many directions that are
almost at right angles: that is how a vector of a few hundred numbers can keep thousands of words
apart. And a cosine of 0.6 and more, as between *king* and *queen*, is far from chance: in 1,645
dimensions a random cosine has a size of about 0.025.
"""


# %% tags=["claim"]
def slope(y: list[float]) -> float:
    """Return the slope of log y against log d, by least squares."""
    x, y = torch.tensor(widths).log(), torch.tensor(y).log()
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


claim(
    "the cosine of random directions shrinks like one over the root of the width",
    measured=slope(independent),
    between=(-0.52, -0.48),
    breaks_when={"when all vectors share a common part": slope(shared)},
)

# %% [markdown]
r"""
The broken variant is worth a look. Vectors that share a common part do not become orthogonal,
however wide they are. That was the state of our word vectors before we took the thirty-nine common
columns out: every word's vector pointed towards *the*.
"""

# %% tags=["experiment"]
for name, table in (("all columns", together), ("without the common ones", vectors)):
    cosine = cosine_similarity(table[column["king"]], table[column["bread"]])  # ()
    print(f"cosine of king and bread, {name}: {cosine.item():.2f}")

# %% [markdown]
r"""
## One product or many

Why insist on writing everything as one matrix product? Because of what a processor does best. Below
are the same scores four ways: a dot product at a time, your `batched_scores` called for one pair at
a time, a matrix product for each batch entry, and one batched product. On a CPU all four get one
core, so that nothing but the batching differs.
"""

# %%
predict(
    "loop-or-product",
    "8 batch entries, 32 queries, 32 keys, width 64. How many times faster is one batched "
    "product than a Python loop over all dot products?",
    options=["about as fast", "2 times", "10 times", "more than 50 times"],
    answer=3,
    because="Each of the 8,192 dot products is tiny, so the loop spends nearly all its time"
    " in starting operations. One product starts one operation and keeps the "
    "arithmetic units busy.",
)

# %% tags=["experiment"]
queries = torch.randn(8, 32, 64, generator=run.generator(5)).to(run.device)  # (B, n_q, d)
keys = torch.randn(8, 32, 64, generator=run.generator(6)).to(run.device)  # (B, n_k, d)


def one_by_one() -> Float[Tensor, "B n_q n_k"]:
    """Take a dot product at a time."""
    return torch.stack(
        [
            torch.stack([torch.stack([dot_product(q, k) for k in ks]) for q in qs])
            for qs, ks in zip(queries, keys)
        ]
    )


def pair_by_pair() -> list[Float[Tensor, "1 1 1"]]:
    """Call the batched product for a single pair at a time."""
    return [
        batched_scores(q[None, None], k[None, None])
        for qs, ks in zip(queries, keys)
        for q in qs
        for k in ks
    ]


def entry_by_entry() -> Float[Tensor, "B n_q n_k"]:
    """Take a matrix product for each entry of the batch."""
    return torch.stack([qs @ ks.T for qs, ks in zip(queries, keys)])


ways = {
    "dot product by dot product": one_by_one,
    "the product, pair by pair": pair_by_pair,
    "entry by entry": entry_by_entry,
    "one product": lambda: batched_scores(queries, keys),
}


def fastest(function: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several calls: other work can only slow one down."""
    repeats = run.pick(smoke=2, standard=9, full=9)
    return min(median_time(function, warmup=1, repeats=repeats, device=run.device).repeats)


n_threads = torch.get_num_threads()
torch.set_num_threads(1)
seconds = {name: fastest(way) for name, way in ways.items()}
torch.set_num_threads(n_threads)
for name, time in seconds.items():
    print(f"{name:27} {1000 * time:8.3f} ms")

# %% tags=["claim"]
loop = seconds["dot product by dot product"]
claim(
    "one batched product is far faster than a loop over its dot products",
    measured=loop / seconds["one product"],
    at_least=50,
    breaks_when={
        "the same product called pair by pair": loop / seconds["the product, pair by pair"]
    },
    timing=True,
)

# %% [markdown]
r"""
## What this machine can do

A product of two $n \times n$ matrices takes $n^3$ multiplications and as many additions, $2n^3$
**floating-point operations** (FLOPs). Divided by the seconds it took, that is the speed of your
machine, in GFLOP/s (billions a second). Keep the figure in mind: training time is FLOPs divided by
it, and lesson 16 plans whole trainings that way.
"""

# %% tags=["experiment"]
sizes = run.pick(
    smoke=[32, 64, 128],
    standard=[32, 64, 128, 256, 512, 1024, 2048],
    full=[64, 256, 1024, 4096, 8192],
)


def gflops(n: int) -> float:
    """Return the speed of a product of two n × n matrices, in billions of operations a second."""
    a = torch.randn(n, n, device=run.device)  # (n, n)
    return 2 * n**3 / fastest(lambda: a @ a) / 1e9


speeds = [gflops(n) for n in sizes]
print(f"{describe_device(run.device)}: up to {max(speeds):,.0f} GFLOP/s in float32")
if run.device.type == "cuda":
    print(f"memory: {torch.cuda.get_device_properties(run.device).total_memory / 1e9:.0f} GB")
else:
    import psutil

    print(f"memory: {psutil.virtual_memory().total / 1e9:.0f} GB")

# %%
fig, ax = plt.subplots(figsize=(5.6, 3.2))
figures.lines(
    ax,
    sizes,
    {"measured": speeds},
    xlabel="side n of the matrices",
    ylabel="speed (GFLOP/s)",
    log="x",
)
ax.set_ylim(bottom=0)
figures.show(
    fig,
    caption="The speed of a matrix product on the machine that ran this notebook. Small "
    "products waste it: starting them takes longer than computing them.",
    alt="Line of speed against matrix size, rising steeply from small matrices to large ones.",
)

# %% [markdown]
r"""
## What it costs, and where it breaks

**Time and memory.** Scores of $n$ queries with $n$ keys of width $d$ take $2n^2 d$ operations and
$n^2$ numbers of memory. Twice the length is four times the cost. This is the bill of every
transformer, and lesson 22 is about paying less.

**Precision.** A number has a type, its *dtype*, which fixes its range and its precision: the
largest number there is, and the smallest step that can be made from 1.
"""

# %% tags=["nbval-check-output"]
print("dtype           bytes  largest    step after 1")
for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
    info = torch.finfo(kind)
    print(f"{kind!s:15} {info.bits // 8:5}  {info.max:8.1e}   {info.eps:.1e}")

# %% [markdown]
r"""
In `float16` a softmax without the maximum trick breaks at a score of 12 (its largest number is
$65{,}504 \approx e^{11.1}$). `bfloat16` has the range of `float32` and only two to three digits.
Lessons compute in `float32`; claims about exactness use `float64`.

**Long vectors win.** A dot product mixes direction with length. Sometimes that is wanted, since
length may carry importance; when it is not, divide by the lengths.

**Common parts.** Cosines near 1 everywhere mean that all vectors share a component. Take it out
before you compare.

**Counts are crude.** Our vectors have 1,645 numbers, most of them 0, and to drop exactly
thirty-nine columns was a choice. Lesson 01 puts a principle beside that choice (it is beaten on one
measure and wins on another) and shrinks the vectors to a few dozen numbers.

## Real words

Each lesson ends with data that nobody made up. `course data list` in a terminal shows the public
sets that lessons know, with size and licence; `course data fetch NAME` downloads one and verifies
it. Without the data the cell says so in a sentence, and nothing else happens.

Here we use word vectors of width 25 that were trained on two billion tweets (GloVe, Pennington et
al. 2014), 11,925 words of them. They are not counts, but the question stays the same: is a king
more like a queen or like bread, and does one measure the angle or the dot product?
"""

# %%
glove = registry.load_or_none("glove_twitter_25d_subset")
if glove is not None:
    matrix = torch.from_numpy(glove.matrix).to(run.device)  # (11925, 25)
    real_king = matrix[glove.index["king"]]  # (25,)
    measures = {"dot product": lambda a, b: (a * b).sum(dim=-1), "cosine": cosine_similarity}
    known = [(a, b, true) for a, b, true in judged if a in glove and b in glove]
    ones, others = (matrix[[glove.index[pair[i]] for pair in known]] for i in (0, 1))  # (n, 25)
    for name, measure in measures.items():
        order = measure(matrix, real_king).argsort(descending=True).tolist()
        near = [glove.words[w] for w in order if glove.words[w] != "king"]
        agreement = spearmanr(measure(ones, others).cpu(), [true for *_, true in known]).statistic
        rank = {word: near.index(word) + 1 for word in ("queen", "bread")}
        print(f"By {name}: queen is number {rank['queen']}, bread {rank['bread']} of {len(near)};")
        print(f"  nearest to king: {', '.join(near[:4])};")
        print(f"  Spearman with the town's truth on {len(known)} pairs: {agreement:.2f}")

# %% [markdown]
r"""
With the data at hand, the dot product puts *queen* at number 388 behind *the*, *and*, *of*; the
cosine puts her second, behind *prince*. Real vectors, the same lesson. On the 248 of Riverbank's
pairs that GloVe knows, its cosines agree with the town's truth at 0.44 and its dot products at
0.39: our made-up lexicon and the English of two billion tweets see words alike. For scale, the
paper reports 0.66 between the cosines of its larger vectors (300 numbers, six billion tokens) and
people's judgements on another list, WordSim-353 (Table 3).

## Recap

- A vector describes a thing by numbers; direction is kind, length is amount.
- $a \cdot b = \sum_i a_i b_i = \lVert a \rVert \lVert b \rVert \cos\theta$ measures agreement. The
  cosine leaves the lengths out; the projection $\frac{a \cdot b}{b \cdot b} b$ is the part of $a$
  along $b$.
- A matrix product is all dot products of rows with columns, at once and far faster than a loop.
- Softmax turns scores into shares; subtract the maximum, always.
- Random directions in $d$ dimensions have a typical cosine of $1/\sqrt d$.
- Write the shape at the end of the line. It is the cheapest test there is.

**Next**: lesson 01 asks whether meaning can be a vector, and makes vectors in which *king − man +
woman* lands on *queen*.

What you have passed so far in this lesson:
"""

# %% tags=["nbval-ignore-output"]
from course_lib.exercises import progress

for key, facts in sorted(progress.read().items()):
    if key.startswith("00/") and "status" in facts:
        print(f"{key[3:]:18} {facts['status']}")

# %% [markdown]
r"""
## Glossary

| Term | Meaning |
|---|---|
| token | a word or punctuation mark, the unit of text |
| tensor, axis, shape | numbers in a grid; its directions; their sizes |
| dot product | the sum of products, place by place |
| norm | the length of a vector, $\sqrt{a \cdot a}$ |
| cosine similarity | the dot product divided by both norms |
| projection | the part of one vector along another |
| orthogonal | at a right angle: dot product 0 |
| broadcasting | repeating axes of size 1 so that shapes fit |
| batch | independent entries computed together, on the first axis |
| query, key | the vector that asks, the vector that is asked |
| softmax | scores to shares, $e^{s_i} / \sum_j e^{s_j}$ |
| temperature | what scores are divided by before a softmax |
| FLOP | one floating-point addition or multiplication |
| NaN | "not a number", the result of 0/0 or inf/inf |

## Sources

- Z. Harris, *Distributional structure*, Word 10, 1954: words are known by their company.
- G. Zipf, *Human Behavior and the Principle of Least Effort*, 1949: how steeply word frequencies
  fall.
- G. Salton, A. Wong, C. Yang, *A vector space model for automatic indexing*, Communications of the
  ACM 18, 1975: texts as count vectors, compared by cosine.
- J. Bridle, *Probabilistic interpretation of feedforward classification network outputs*, 1990:
  where softmax got its name.
- P. Blanchard, D. Higham, N. Higham, *Accurately computing the log-sum-exp and softmax functions*,
  IMA Journal of Numerical Analysis 41, 2021: the maximum trick and its rounding errors.
- R. Vershynin, *High-Dimensional Probability*, 2018, section 3.2: why independent directions are
  almost orthogonal.
- J. Pennington, R. Socher, C. Manning, *GloVe: Global vectors for word representation*, 2014, Table
  3.
- A. Vaswani et al., *Attention Is All You Need*, 2017, section 3.2.1: where queries, keys, dot
  products and softmax come together.
- PyTorch documentation, *Broadcasting semantics* and *torch.einsum*; the documentation of jaxtyping
  for shape annotations.
"""
