# %% [markdown]
r"""
# 01 · Word vectors

**Can meaning be a vector?**

A computer sees a word as a number in a list. In this lesson you turn that number into a point in space, from nothing but
text, so that words of like meaning lie close together and *king − man + woman* lands on *queen*. At the end you will

- build word vectors in four ways: by counting (PPMI and SVD), by predicting (skip-gram with negative sampling), by least
  squares on counts (GloVe), and from the parts of words (fastText);
- derive the gradients of skip-gram by hand and train with them, a million word pairs in a few seconds;
- measure how good word vectors are, by analogies and by similarity, against a truth that is known;
- see that counting and predicting meet in the same matrix;
- know where one vector for a word breaks.

You need the dot product, the cosine and the shape comments of lesson 00, and derivatives. About two hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping  # noqa: F401 - used by code that is written out below

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse  # noqa: F401
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int  # noqa: F401
from scipy.sparse.linalg import svds  # noqa: F401
from scipy.stats import rankdata  # noqa: F401
from torch import Tensor

from course_lib import figures
from course_lib.data import registry
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.basics import cosine_similarity
from course_lib.models.corpus import Corpus, Recipe, Trained, TrainedSubwords, initial_vectors  # noqa: F401
from course_lib.models.plane import plane
from course_lib.runtime import median_time, progress, start  # noqa: F401
from course_lib.widgets.word_map import WordMap, draw_word_map

torch.set_num_threads(1)  # the steps of this lesson are tiny: a second thread would wait more than it works
run = start(lesson=1, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=1)

# %% [markdown]
r"""
## The question

Give each of $V$ words a number. The plainest vector for word number $i$ is its **one-hot** vector: $V$ numbers, a 1 at place $i$
and 0 everywhere else. Lesson 00's tool for likeness is the cosine. Let us measure how alike words are.

The text comes from **Riverbank**, the course's made-up town. Since the course wrote it, it knows what its words mean: for 400 pairs
of words it can say how many of their attributes (royal, human, animal, found in a kitchen …) they share, from 0 to 1. That share is the *gold similarity*.
A handful of word forms, such as *louder* and *princes*, are hidden: each sentence that holds one is left out. They are needed later.

`Corpus` turns documents into numbers: `words` is the vocabulary, most frequent first; `index` gives each word's number, `counts` how often it occurs; `ids` is the whole text as one row of word numbers, and `document` says for each token in which document it stands.
"""

# %%
town = Town()
HIDDEN = {
    *("princes", "apples", "uncles", "fences", "treaties", "villages", "kites", "nurses"),
    *("learning", "ploughing", "hunting", "winning", "climbs", "draws", "milks", "rests", "dances"),
    *("darker", "louder", "quieter", "brighter", "slowest"),
}
n_tokens = run.pick(smoke=20_000, standard=300_000, full=3_000_000)
texts, senses = [], []  # per document: its tokens; the same with each token's sense where it has several
for document in town.iter_documents(seed=run.seed):
    kept = [s for s in document.sentences if not HIDDEN.intersection(s.tokens)]
    texts.append([token for s in kept for token in s.tokens])
    senses.append([sense or token for s in kept for token, sense in zip(s.tokens, s.senses)])
    n_tokens -= len(document.tokens)
    if n_tokens <= 0:
        break
corpus = Corpus.from_documents(texts)
n_words = len(corpus.words)
print(f"{len(corpus.ids):,} tokens, {n_words:,} words, for example: {' '.join(texts[0][:18])} …")

# %%
pairs = [(a, b, gold) for a, b, gold in town.similarities() if {a, b} <= corpus.index.keys()]
gold = torch.tensor([each for _, _, each in pairs])  # (n_pairs,)
first, second = (torch.tensor([corpus.index[pair[side]] for pair in pairs]) for side in (0, 1))


def pair_cosines(vectors: Tensor) -> Tensor:
    """Return the cosine of each pair of words that has a gold similarity, (n_pairs,)."""
    return cosine_similarity(vectors[first], vectors[second]).cpu()


one_hot = torch.eye(n_words)  # (n_words, n_words)
letters = torch.tensor([[word.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for word in corpus.words]).float()
for a, b, share in (pairs[-1], pairs[len(pairs) // 2], pairs[0]):
    i, j = corpus.index[a], corpus.index[b]
    print(f"{a:>10} – {b:<10} gold {share:.2f}   one-hot {cosine_similarity(one_hot[i], one_hot[j]):.2f}")

# %% tags=["claim"]
claim(
    "one-hot vectors say that every two words are equally different (the range of their cosines)",
    measured=(pair_cosines(one_hot).max() - pair_cosines(one_hot).min()).item(),
    equals=0.0,
    breaks_when={"vectors that count the word's letters": (pair_cosines(letters).max() - pair_cosines(letters).min()).item()},
)

# %% [markdown]
r"""
The cosine works; the vectors are empty. They say *which* word, and nothing about it. Counting letters gives different cosines, but spelling is not meaning
(*king* and *kind* against *king* and *queen*). Where should meaning come from, if all we have is text?

## A word's company

> You shall know a word by the company it keeps. (J. R. Firth, 1957)

This is the **distributional hypothesis** (Harris 1954): words that occur in similar surroundings mean similar things. Who reads *the ⟨?⟩ rules the kingdom* and
*the ⟨?⟩ wears a crown* knows much about ⟨?⟩ without knowing the word.

So let us count. The **window** of a token is the $m$ tokens to its left and the $m$ to its right, inside the same document. The **co-occurrence count** $\#(w, c)$ is how often
the word $c$ stands in a window of the word $w$. By the book it is a double loop:
"""

# %%
def count_by_loop(ids: list[int], document: list[int], n_words: int, window: int) -> Tensor:
    """Count each (word, context) pair, token after token."""
    counts = torch.zeros(n_words, n_words, dtype=torch.float64)  # (n_words, n_words)
    for here, word in enumerate(ids):
        for there in range(max(0, here - window), min(len(ids), here + window + 1)):
            if there != here and document[there] == document[here]:
                counts[word, ids[there]] += 1
    return counts


# %% [markdown]
r"""
Python takes a microsecond or more for each step of such a loop, and this one has $2m$ steps a token. The same can be said about whole rows of tokens: *at distance $\delta$, token $t$ meets token $t + \delta$*. So shift the text by $\delta$, and count all
meetings at once. Only the loop over $\delta$ remains. Few of the $V^2$ pairs ever meet, so the table is kept **sparse**: only the entries that are not 0 are stored.

The option `harmonic` counts a neighbour at distance $\delta$ as $1/\delta$ rather than 1: near words say more about a word than far ones. GloVe will use it.
"""

# %%
from course_lib.models.word_vectors import cooccurrence  # course: write out

# %%
WINDOW = 5
sparse_counts = cooccurrence(corpus, window=WINDOW)
counts = torch.from_numpy(sparse_counts.toarray()).to(run.device if run.device.type != "mps" else "cpu")  # (n_words, n_words)
print(f"{sparse_counts.nnz:,} of {n_words**2:,} pairs were ever seen together: {sparse_counts.nnz / n_words**2:.0%}")

# %% tags=["claim"]
beginning = Corpus(corpus.words, corpus.index, corpus.counts, corpus.ids[:1500], corpus.document[:1500])
by_loop = count_by_loop(beginning.ids.tolist(), beginning.document.tolist(), n_words, WINDOW)
by_shift = torch.from_numpy(cooccurrence(beginning, WINDOW).toarray())
without_edges = Corpus(corpus.words, corpus.index, corpus.counts, beginning.ids, torch.zeros_like(beginning.document))
across = torch.from_numpy(cooccurrence(without_edges, WINDOW).toarray())
claim(
    "shifting the text gives the same counts as the double loop",
    measured=(by_loop - by_shift).abs().max().item(),
    equals=0.0,
    breaks_when={"with windows that cross from one document into the next": (by_loop - across).abs().max().item()},
)

# %% [markdown]
r"""
A row of the table is a vector for a word, $V$ numbers long. Is it a good one? Two measures will follow us through the lesson. Here is the first.

**Similarity.** Compute the cosine for each of the 400 pairs and compare with the gold similarity. The two have different scales, so only their *order* is compared: replace each value by its rank and take the correlation of the ranks.
This is **Spearman's** $\rho$: 1 for the same order, 0 for none, −1 for the reverse. Equal values share the mean of their ranks.
"""

# %%
from course_lib.models.word_vectors import spearman  # course: write out

# %%
shown = ["king", "queen", "man", "woman", "dog", "cat"]
contexts = ["the", ".", "is", "kingdom", "throne", "wears", "bold", "beautiful", "barks", "meows", "kennel"]
contexts = [word for word in contexts if word in corpus.index]
rows, columns = (torch.tensor([corpus.index[word] for word in each]) for each in (shown, contexts))
print(f"raw counts: half of all pairs have a cosine above {pair_cosines(counts).median():.2f}, "
      f"rank correlation with gold similarity {spearman(pair_cosines(counts), gold):.3f}")
fig, ax = plt.subplots(figsize=(7, 3.4))
figures.heatmap(
    ax, counts[rows][:, columns].cpu(), rows=shown, columns=contexts, ylabel="word", xlabel="context",
    title=f"Counts within {WINDOW} tokens", numbers=".0f", bar="times seen together",
)
figures.show(
    fig,
    caption="The columns “the” and “.” drown the rest. Every row points their way, so most words look alike: the counts measure how frequent a context is, not what it says.",
    alt="A heat map of co-occurrence counts of six words with eleven contexts; the columns of the and the full stop are far larger than all others.",
)

# %% [markdown]
r"""
## Surprise: pointwise mutual information

That *king* stands near *the* hundreds of times is no news: everything does. That it stands near *kingdom* ten times is, because *kingdom* is rare. What matters is not how often a pair is seen but how much *more often than by chance*.

Let $N = \sum_{w,c} \#(w,c)$ be the total of the table, and

$$P(w, c) = \frac{\#(w, c)}{N}, \qquad P(w) = \sum_c P(w, c), \qquad P(c) = \sum_w P(w, c).$$

If $w$ and $c$ had nothing to do with each other, we should have $P(w, c) = P(w)\,P(c)$. The **pointwise mutual information** is the logarithm of how far reality departs from that (Church and Hanks 1990):

$$\operatorname{PMI}(w, c) = \log \frac{P(w, c)}{P(w)\,P(c)} .$$

It is 0 by chance, positive for pairs that attract each other, negative for those that avoid each other, and $-\infty$ for pairs never seen. Two repairs make it useful.

**Positive PMI.** "Seen less often than by chance" needs a lot of text to be known: if chance predicts 0.3 meetings, then seeing none tells nothing. So all negative values become 0: $\operatorname{PPMI} = \max(0, \operatorname{PMI})$.

**Smoothing.** PMI is too fond of rare contexts. A context seen once in the whole text, beside a word with $P(w) = 0.001$, gets the PMI $\log 1000$, the largest value that this word can have, on the strength of one meeting. Remedy (Levy, Goldberg and Dagan 2015): raise the contexts' counts to a power $\alpha < 1$ before they are made into probabilities,

$$P_\alpha(c) = \frac{\#(c)^\alpha}{\sum_{c'} \#(c')^\alpha}, \qquad \#(c) = \sum_w \#(w, c),$$

which raises the probability of rare contexts, and so lowers their PMI. The usual $\alpha$ is 0.75; you will meet the same number again.
"""

# %% tags=["nbval-check-output"]
for alpha in (1.0, 0.75):
    frequent, rare = 1000**alpha, 1**alpha
    print(f"alpha {alpha:<4}: a context seen 1000 times is {frequent / rare:.0f} times as probable as one seen once")

# %% [markdown]
r"""
### In code

Counts in, PPMI out. This is your first part of the lesson, and everything in this half stands on it.

### Exercise: `ppmi`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

Write `ppmi(counts, alpha=0.75)`. `counts` is a float tensor (n_words, n_contexts), not negative, not all zero; words are rows. Return the table of $\max\!\big(0, \log \frac{P(w,c)}{P(w) P_\alpha(c)}\big)$, same shape and dtype. Where a pair was
never seen the entry is 0, also in the row of a word, or the column of a context, that was never seen at all (beware of 0/0). `hint("ppmi")` helps.
"""

# %% tags=["exercise"] exercise="ppmi"
from course_lib.models.word_vectors import ppmi  # course: write out

# %% tags=["check"] exercise="ppmi"
ppmi = check("ppmi")

# %%
surprise = ppmi(counts)  # (n_words, n_words)
fig, ax = plt.subplots(figsize=(7, 3.4))
figures.heatmap(
    ax, surprise[rows][:, columns].cpu(), rows=shown, columns=contexts, ylabel="word", xlabel="context",
    title="The same pairs, PPMI", numbers=".1f", bar="PPMI (nats)",
)
figures.show(
    fig,
    caption="Now the columns of “the” and “.” are no larger than others, and much the same for every word (smoothing lifts them all alike). What tells words apart stands out: the court's words, what men and women are called, the animals' sounds.",
    alt="A heat map of PPMI values of six words with eleven contexts; function words are alike for all, kingdom and throne stand out for king and queen, barks for dog, meows for cat.",
)

# %% tags=["claim"]
rho = {"raw counts": spearman(pair_cosines(counts), gold), "PPMI": spearman(pair_cosines(surprise), gold)}
print({name: round(value, 3) for name, value in rho.items()})
claim(
    "PPMI agrees with the gold similarity much better than raw counts do: its rank correlation",
    measured=rho["PPMI"],
    at_least=0.63,
    breaks_when={"raw counts": rho["raw counts"]},
)

# %% [markdown]
r"""
## Fewer numbers: the SVD

A PPMI row has as many numbers as there are words, most of them 0, and two contexts that mean the same (*crown*, *throne*) are different axes that know nothing of each other. We want few numbers, and shared axes.

Any matrix $M$ is a product $M = U \Sigma T^\top$ (**singular value decomposition**): $U$ and $T$ have orthonormal columns, and $\Sigma$ is diagonal with $\sigma_1 \ge \sigma_2 \ge \dots \ge 0$. Keep the first $d$ columns and you have $M_d = U_d \Sigma_d T_d^\top$, which of all matrices of rank $d$
is the one nearest to $M$, in the sum of squared differences (Eckart and Young 1936). Each word is now row $w$ of some $U_d \Sigma_d^p$: $d$ numbers.

- With $p = 1$ the dot products of these rows are exactly those of the rows of $M_d$, since $M_d M_d^\top = U_d \Sigma_d T_d^\top T_d \Sigma_d U_d^\top = (U_d \Sigma_d)(U_d \Sigma_d)^\top$.
- With $p = \tfrac12$ words, $U_d \Sigma_d^{1/2}$, and contexts, $T_d \Sigma_d^{1/2}$, share the singular values evenly, and $M_d$ is the product of the two: entry $(w, c)$ is the dot product of a word vector with a context vector. Remember this form.
- With $p = 0$ all $d$ axes weigh the same.

SciPy finds the $d$ largest singular values of a sparse matrix without ever computing the others.
"""

# %%
from course_lib.models.word_vectors import svd_vectors  # course: write out

# %%
D = run.pick(smoke=16, standard=64, full=200)
svd = svd_vectors(surprise, D)  # (n_words, d)
print(f"PPMI rows: {n_words:,} numbers, ρ = {rho['PPMI']:.3f};  SVD: {D} numbers, ρ = {spearman(pair_cosines(svd), gold):.3f}")

# %% [markdown]
r"""
## Analogies

The second measure is the famous one. If vectors hold meaning, then the step from *man* to *king* should be the step from *woman* to *queen*:

$$v_{king} - v_{man} \approx v_{queen} - v_{woman} \quad\Longrightarrow\quad v_{king} - v_{man} + v_{woman} \approx v_{queen} .$$

To answer "$a$ is to $b$ as $c$ is to …?", look for the word $x$ whose vector points most nearly the way of $b - a + c$. With all vectors scaled to length 1, the score is

$$x \cdot (b - a + c) = \cos(x, b) - \cos(x, a) + \cos(x, c) :$$

like $b$, like $c$, unlike $a$. This is **3CosAdd** (Mikolov, Yih and Zweig 2013; Levy and Goldberg 2014a). The three words of the question are no answers: without that rule the winner is nearly always $b$ or $c$ itself.

### Exercise: `analogy`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

Write `analogy(vectors, a, b, c)`. `vectors` is (n_words, d), of any lengths; `a`, `b`, `c` are (n,) row numbers, one question each. Return the (n,) row numbers of the answers by 3CosAdd, none of which may be one of its question's words. A vector of zeros counts as it is (cosine 0 with everything).
Answer all questions at once: a loop over questions is slow, a loop over words is hopeless. `hint("analogy")` helps.
"""

# %% tags=["exercise"] exercise="analogy"
from course_lib.models.word_vectors import analogy  # course: write out

# %% tags=["check"] exercise="analogy"
analogy = check("analogy")

# %% [markdown]
r"""
One sum hides a danger: a single large cosine can outweigh the other two. **3CosMul** (Levy and Goldberg 2014a) multiplies instead, so that all three must agree. The cosines are moved to $[0, 1]$, and a small $\varepsilon$ keeps the division safe:

$$\frac{\cos(x, b)\,\cos(x, c)}{\cos(x, a) + \varepsilon} .$$
"""

# %%
from course_lib.models.word_vectors import analogy_mul  # course: write out

# %% [markdown]
"""
Riverbank's exam has up to 586 questions in 13 categories. Accuracy is the share of questions whose answer is *exactly* the expected word, out of the whole vocabulary.
"""

# %%
questions = [q for q in town.analogies() if {q.a, q.b, q.c, q.d} <= corpus.index.keys()]
asked = torch.tensor([[corpus.index[word] for word in (q.a, q.b, q.c, q.d)] for q in questions])  # (n, 4)
category = [q.category for q in questions]


def right_answers(vectors: Tensor, answer=analogy, asked: Tensor = asked) -> Tensor:
    """Return for each question whether it is answered rightly, (n,), a few hundred questions at a time."""
    parts = [answer(vectors, *some[:, :3].T) == some[:, 3] for some in asked.to(vectors.device).split(500)]
    return torch.cat(parts).float().cpu()


def accuracy(vectors: Tensor, answer=analogy) -> float:
    """Return the share of Riverbank's questions that are answered rightly."""
    return right_answers(vectors, answer).mean().item()


for name, few in Counter(category).items():
    example = next(q for q in questions if q.category == name)
    print(f"{name:<22}{few:>3}   {example.a} : {example.b} :: {example.c} : {example.d}")

# %% tags=["experiment"]
shuffled = corpus.shuffled(run.generator(1))  # the same tokens in random order: every frequency stays, all company is lost
shuffled_counts = torch.from_numpy(cooccurrence(shuffled, WINDOW).toarray()).to(counts)
svd_shuffled = svd_vectors(ppmi(shuffled_counts), D)
widths = run.pick(smoke=[4, 8, 16], standard=[4, 8, 16, 32, 64], full=[12, 25, 50, 100, 200])
scaled = svd_vectors(surprise, D, power=1.0)  # (n_words, d) U Σ, strongest column first: a narrower SVD is its beginning
sigma = scaled.norm(dim=0)  # (d,), since the columns of U have length 1
by_width = {f"p = {p:g}": [accuracy((scaled * sigma ** (p - 1))[:, :width]) for width in widths] for p in (0, 0.5, 1)}
fig, ax = plt.subplots()
figures.lines(ax, widths, by_width, xlabel="dimensions d", ylabel="analogy accuracy", title="PPMI, then SVD", log="x")
ax.set_ylim(0, 1)
figures.show(
    fig,
    caption="A few dozen numbers for each word are enough to answer most questions. How the singular values are weighted matters little here.",
    alt="Analogy accuracy against the number of dimensions for three powers of the singular values; all three lines rise together.",
)

# %% tags=["claim"]
claim(
    "counting is enough: PPMI and SVD answer more than half of the analogies",
    measured=accuracy(svd),
    at_least=0.6,
    breaks_when={"the same on a shuffled text": accuracy(svd_shuffled)},
)

# %% [markdown]
r"""
## Predicting instead of counting

The other way to vectors begins with a task: *given a word, guess the words around it*. Give each word two vectors of $d$ numbers: $v_w$ for its role as the **centre** of a window, $u_w$ for its role as **context**. Two, because a word is rarely its own neighbour: with one vector, $v_w \cdot v_w$ would be large for
every word, and say that *dog* stands beside *dog*.

**Skip-gram** (Mikolov et al. 2013a) turns their dot products into probabilities by a softmax over the vocabulary:

$$P(c \mid w) = \frac{e^{v_w \cdot u_c}}{\sum_{c'} e^{v_w \cdot u_{c'}}} .$$

Its loss is $-\log P(c \mid w)$ summed over all pairs in the text. Its trouble is the sum in the denominator: $V$ dot products, and $V$ gradients, for *one* pair. A pair costs $O(Vd)$, and real vocabularies have $10^5$ words and more.

**Negative sampling** (Mikolov et al. 2013b) asks an easier question: *is this pair real, or did I make it up?* Take the real pair $(w, c)$, and $k$ made-up ones $(w, n_1), \dots, (w, n_k)$, where the **noise words** $n_j$ are drawn from a fixed distribution $P_n$. The probability that a pair with dot product $x$ is real is

$$\sigma(x) = \frac{1}{1 + e^{-x}}, \qquad \text{and that it is made up: } 1 - \sigma(x) = \frac{e^{-x}}{1 + e^{-x}} = \sigma(-x) .$$

Writing $v$ for the centre's vector, $u$ for the context's and $n_j$ for those of the noise words, the loss of one pair is the negative logarithm of the probability of judging all $1 + k$ rightly:

$$L = -\log \sigma(v \cdot u) - \sum_{j=1}^{k} \log \sigma(-v \cdot n_j) .$$

It costs $O(kd)$, whatever the size of the vocabulary.

### The gradients, by hand

First the derivative of one term. From $\sigma(x) = (1 + e^{-x})^{-1}$,

$$\sigma'(x) = \frac{e^{-x}}{(1 + e^{-x})^2} = \sigma(x)\,\sigma(-x), \qquad
\frac{d}{dx}\big[-\log \sigma(x)\big] = -\frac{\sigma'(x)}{\sigma(x)} = -\sigma(-x) = \sigma(x) - 1 ,$$

and by the chain rule with $-x$ in place of $x$

$$\frac{d}{dx}\big[-\log \sigma(-x)\big] = -\big(\sigma(-x) - 1\big) = \sigma(x) .$$

Both have the form *what was said minus what is true*: the model says $\sigma(x)$; the truth is 1 for the real pair and 0 for a made-up one. Call these numbers **errors**:

$$e = \sigma(v \cdot u) - 1 \;\le 0, \qquad e_j = \sigma(v \cdot n_j) \;\ge 0 .$$

Now the dot products. The derivative of $v \cdot u$ for $u$ is $v$, and for $v$ it is $u$. The vector $u$ stands in the first term only, $n_j$ in its own, and $v$ in all $1 + k$, so its gradient is a sum:

$$\frac{\partial L}{\partial u} = e\,v, \qquad \frac{\partial L}{\partial n_j} = e_j\,v, \qquad \frac{\partial L}{\partial v} = e\,u + \sum_{j=1}^{k} e_j\,n_j .$$

Read it as motion. Gradient descent moves $u$ by $-\eta e v$ ($\eta$ is the learning rate), *towards* $v$ since $e \le 0$; each noise word away from $v$; and $v$ towards its context and away from the noise. A pair that is already judged rightly has an error near 0 and moves nothing.

### Exercise: `sgns_loss_and_grads`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

Write `sgns_loss_and_grads(centre, context, negatives)` for a whole batch of pairs. Inputs: `centre` (batch, d), `context` (batch, d), `negatives` (batch, k, d). Return four things: the loss, **summed** over the batch, a tensor without axes; and its gradients for the three inputs, each of its input's shape. No autograd: it is what the check compares you with. Dot
products may be large (±1000), and neither loss nor gradients may become infinite or NaN. `hint("sgns_loss_and_grads")` helps.
"""

# %% tags=["exercise"] exercise="sgns_loss_and_grads"
from course_lib.models.word_vectors import sgns_loss_and_grads  # course: write out

# %% tags=["check"] exercise="sgns_loss_and_grads"
sgns_loss_and_grads = check("sgns_loss_and_grads")

# %% [markdown]
"""
Never trust a derivation. Autograd is an independent judge (lesson 02 builds it):
"""

# %% tags=["claim"]
gen = run.generator(2)
leaves = [torch.randn(*shape, dtype=torch.float64, generator=gen).requires_grad_() for shape in ((6, 9), (6, 9), (6, 4, 9))]
loss, *by_hand = sgns_loss_and_grads(*leaves)
v, u, n = leaves
direct = -F.logsigmoid((v * u).sum(-1)).sum() - F.logsigmoid(-torch.einsum("bd,bkd->bk", v, n)).sum()
by_autograd = torch.autograd.grad(direct, leaves)
claim(
    "the gradients by hand equal autograd's",
    measured=max((a - b).abs().max().item() for a, b in zip(by_hand, by_autograd)),
    at_most=1e-10,
    breaks_when={"without the noise in the centre's gradient": ((torch.sigmoid((v * u).sum(-1)) - 1)[:, None] * u - by_autograd[0]).abs().max().item()},
)

# %% [markdown]
r"""
### Which pairs

Three tricks of word2vec decide what the training sees.

**Subsampling.** *the* stands beside everything and teaches nothing. A word whose share of the text is $f(w)$ is kept with probability $\sqrt{t / f(w)} + t / f(w)$, at most 1, and dropped before windows are cut. With $t = 0.001$ a word that makes up a tenth of the text stays one time in nine.

**Random widths.** Each centre draws its own window width from $1 \dots m$. A neighbour at distance $\delta$ is then counted with probability $(m - \delta + 1) / m$, so near words count more, much as with $1/\delta$.

**Noise.** $P_n(w) \propto \#(w)^{0.75}$, between the words' true frequencies and all-equal. It is the smoothing of PPMI again, and that is no coincidence, as you will see.
"""

# %%
from course_lib.models.word_vectors import skipgram_pairs  # course: write out

# %%
from course_lib.models.word_vectors import noise_table  # course: write out

# %% [markdown]
r"""
### The training

A `Recipe` holds the settings: the width `d`, `epochs`, `window`, the number `k` of noise words, the threshold `sample`, `batch` and `learning_rate`. `training_batches` deals out pairs and noise, a batch at a time, and a learning rate that falls in a straight line to 0. `train_sgns` looks up the vectors, asks *your* function for the gradients, and takes a step.

Speed comes from three choices. A batch of fifteen hundred pairs is one tensor operation, not fifteen hundred Python steps. Looking rows up is `F.embedding`, and adding gradients back is `scatter_add_`, which adds twice where a row occurs twice (`table[rows] += …` would silently keep only the last one!). And nothing here has the size of the vocabulary.

One danger: a word that occurs thirty times in a batch gets thirty steps at once, all computed at the old place. That is why losses are summed, not averaged, and why the batch must stay small beside the text.
"""

# %%
from course_lib.models.word_vectors import add_rows  # course: write out

# %%
from course_lib.models.word_vectors import training_batches  # noqa: F401  # course: write out

# %%
from course_lib.models.word_vectors import train_sgns  # course: write out

# %%
predict(
    "shuffled",
    "We train twice: on the town's text, and on the same tokens in random order. What happens to the loss on the shuffled text?",
    [
        "It stays where it begins: there is nothing to learn.",
        "It falls at first, then stays high: frequencies can be learnt, company cannot.",
        "It falls just as far: the words are the same.",
    ],
    answer=1,
    because="Real contexts follow the words' frequencies and the noise their 0.75th power, so frequent words are a little likelier to be real. That much can be learnt from any text.",
)

# %% tags=["experiment"]
recipe = Recipe(d=D, epochs=run.pick(smoke=1, standard=6, full=10), window=WINDOW)
sgns = train_sgns(corpus, run.generator(3), recipe, run.device)
sgns_shuffled = train_sgns(shuffled, run.generator(3), recipe, run.device)
print(f"{sgns.n_pairs:,} pairs; accuracy {accuracy(sgns.vectors):.3f}, shuffled {accuracy(sgns_shuffled.vectors):.3f}")


def smooth(losses: Tensor, parts: int = 60) -> list[float]:
    """Return the means of equally many consecutive losses."""
    return [part.mean().item() for part in losses.chunk(parts)]


fig, ax = plt.subplots()
curves = {name: smooth(each.losses, parts=50) for name, each in (("Riverbank", sgns), ("shuffled", sgns_shuffled))}
shortest = min(map(len, curves.values()))
figures.lines(
    ax, np.linspace(0, recipe.epochs, shortest), {name: each[:shortest] for name, each in curves.items()},
    xlabel="epochs", ylabel="loss (nats per pair)", title="Skip-gram with negative sampling",
)
figures.show(
    fig,
    caption="On the shuffled text the loss falls only as far as the words' frequencies allow. The gap below it is what company teaches.",
    alt="Training loss against epochs: both curves fall quickly at first, then the shuffled one stays flat well above the real one.",
)

# %% tags=["claim"]
claim(
    "skip-gram with negative sampling answers more than half of the analogies",
    measured=accuracy(sgns.vectors),
    at_least=0.6,
    breaks_when={"the same on a shuffled text": accuracy(sgns_shuffled.vectors)},
)

# %% [markdown]
"""
And the famous question? `nearest` finds the words with the largest cosine.
"""

# %%
from course_lib.models.word_vectors import nearest  # course: write out

# %% tags=["claim"]
def rank_of(vectors: Tensor, a: str, b: str, c: str, d: str) -> int:
    """Return at which place, from 1, d stands among the answers to a : b :: c : ?"""
    unit = F.normalize(vectors, dim=-1)  # (n_words, d)
    i, j, l, right = (corpus.index[word] for word in (a, b, c, d))
    scores = unit @ (unit[j] - unit[i] + unit[l])  # (n_words,)
    scores[[i, j, l]] = -math.inf
    return int((scores > scores[right]).sum()) + 1


unit = F.normalize(sgns.vectors, dim=-1)
king, man, woman = (unit[corpus.index[word]] for word in ("king", "man", "woman"))
cosines, found = nearest(unit, king - man + woman, 8)
print("nearest to king − man + woman:", ", ".join(f"{corpus.words[i]} {cos:.2f}" for cos, i in zip(cosines, found)))
claim(
    "king − man + woman → queen: the rank of queen among all words but the three",
    measured=rank_of(sgns.vectors, "man", "king", "woman", "queen"),
    equals=1,
    breaks_when={"trained on the shuffled text": rank_of(sgns_shuffled.vectors, "man", "king", "woman", "queen")},
)

# %% [markdown]
r"""
The list shows *king* itself near the top: the vector of *king* is long in the sum, and *man* and *woman* differ by little. Excluding the question's words is part of the method, and a fair part of its fame.

How fast is it? Compare a batch of a thousand pairs with the same thousand, one after the other:
"""

# %% tags=["claim"]
gen = run.generator(4)
batch_rows = torch.randint(n_words, (1024, 7), generator=gen).to(run.device)  # centre, context, five noise words
some = [each.clone() for each in (sgns.vectors, sgns.contexts)]


def step(rows: Tensor) -> None:
    """Take one step of training on these pairs."""
    c, o, n = rows[:, 0], rows[:, 1], rows[:, 2:]
    _, g_c, g_o, g_n = sgns_loss_and_grads(F.embedding(c, some[0]), F.embedding(o, some[1]), F.embedding(n, some[1]))
    add_rows(some[0], c, -1e-6 * g_c)
    add_rows(some[1], o, -1e-6 * g_o)
    add_rows(some[1], n.flatten(), -1e-6 * g_n.flatten(0, 1))


together = median_time(lambda: step(batch_rows), device=run.device).median / 1024
alone = median_time(lambda: [step(row) for row in batch_rows[:64].split(1)], repeats=3, device=run.device).median / 64
print(f"{1 / together:,.0f} pairs a second in batches, {1 / alone:,.0f} one by one")
claim("batches of pairs train at least ten times as fast as pairs one by one", measured=alone / together, at_least=10, timing=True)

# %% [markdown]
r"""
## Counting in disguise

Counting and predicting look like two worlds. Levy and Goldberg (2014b) showed that they are one. Ask what $v_w \cdot u_c$ would be if nothing constrained it: if each pair $(w, c)$ had a number $x$ of its own.

Over the whole text the pair is seen $\#(w,c)$ times as real. The word $w$ is a centre $\#(w) = \sum_{c'} \#(w,c')$ times, and each time brings $k$ noise words, of which a share $P_n(c)$ is $c$. The part of the total loss that contains $x$ is

$$\ell(x) = -\#(w,c) \log \sigma(x) - k\,\#(w)\,P_n(c) \log \sigma(-x) .$$

With the derivatives from above, $\ell'(x) = \#(w,c)\,(\sigma(x) - 1) + k\,\#(w)\,P_n(c)\,\sigma(x)$. Set it to 0, and use $\sigma(x) / (1 - \sigma(x)) = e^x$:

$$e^x = \frac{\#(w,c)}{k\,\#(w)\,P_n(c)} \quad\Longrightarrow\quad x = \log \frac{P(w, c)}{P(w)\,P_n(c)} - \log k .$$

It is **PMI**, with the noise distribution as the smoothed context distribution, shifted down by $\log k$. So negative sampling with $d$ numbers a word looks for a low-rank $W U^\top \approx \operatorname{PMI} - \log k$, and so did the SVD with $p = \tfrac12$. They differ in what they count as near: the SVD weighs the squared error of all entries alike, skip-gram weighs
each pair by how often it is met. Frequent pairs should therefore fit best. Is it so?
"""

# %%
predict(
    "factorisation",
    "For the pairs that were met at least five times an epoch: how well does v·u correlate with PMI − log k?",
    ["Hardly: around 0.2.", "Somewhat: around 0.6.", "Closely: above 0.9."],
    answer=2,
    because="Those pairs are where the loss is: with 64 numbers a word the training can nearly reach their optimum.",
)

# %% tags=["experiment"]
gen = run.generator(5)
met = torch.zeros(n_words * n_words)  # how often each pair was met in six epochs
for _ in range(6):
    centre, context = skipgram_pairs(corpus, recipe.window, recipe.sample, gen)
    met += torch.bincount(centre * n_words + context, minlength=n_words * n_words)
met = met.view(n_words, n_words)
noise_share = corpus.counts.double() ** 0.75
noise_share = (noise_share / noise_share.sum()).float()
target = (met / met.sum(dim=1, keepdim=True) / noise_share).log() - math.log(recipe.k)  # (n_words, n_words)
learned = (sgns.vectors @ sgns.contexts.T).cpu()  # (n_words, n_words)


def agreement(at_least: int, values: Tensor = target) -> float:
    """Return the correlation of v·u with ``values`` over the pairs that were met often enough."""
    often = met >= at_least
    return torch.corrcoef(torch.stack([learned[often], values[often]]))[0, 1].item()


often = met >= 30
fig, ax = plt.subplots(figsize=(5.2, 4.4))
image = ax.hexbin(target[often], learned[often], gridsize=55, bins="log", cmap="cividis", mincnt=1)
low, high = target[often].min(), target[often].max()
ax.plot([low, high], [low, high], color=figures.PALETTE["vermillion"], marker="", linewidth=1.2)
ax.set(xlabel="PMI − log k, counted", ylabel="v · u, learnt", title="Pairs met five times an epoch or more")
fig.colorbar(image, label="pairs")
figures.show(
    fig,
    caption=f"Each point is a pair of words. The line is v·u = PMI − log k. Correlation {agreement(30):.2f}; over all pairs met at all it is {agreement(1):.2f}, since rare pairs weigh little in the loss. The largest PMI values are not reached: a few dozen numbers and a few epochs stop short of them.",
    alt="A density plot of learnt dot products against counted shifted PMI; the points lie close to the diagonal.",
)

# %% tags=["claim"]
claim(
    "skip-gram's dot products are shifted PMI: their correlation for pairs met often",
    measured=agreement(30),
    at_least=0.9,
    breaks_when={"the logarithm of the plain count instead of PMI": agreement(30, met.log())},
)

# %% [markdown]
r"""
## Least squares on counts: GloVe

If vectors are a factorisation of a table of logarithms, why not fit that table directly? That is **GloVe** (Pennington, Socher and Manning 2014). Its authors came to it from another side, which is worth following. Let $X_{ij}$ be the co-occurrence count of words $i$ and $j$, and $P(k \mid i) = X_{ik} / \sum_l X_{il}$.

What tells *king* from *queen* is not how often each meets *crown*, but the **ratio** $P(k \mid king) / P(k \mid queen)$: near 1 for $k = $ *crown* and for $k = $ *garden*, large for *he*, small for *she*. So vectors should produce ratios: we look for a function $G$ with

$$G(w_i - w_j,\; c_k) = \frac{P(k \mid i)}{P(k \mid j)} ,$$

where the *difference* stands because vector spaces are linear and a ratio compares two words. Let $G$ depend on the dot product only, $G\big((w_i - w_j) \cdot c_k\big)$. The dot product turns differences of vectors into differences of numbers; on the right stand quotients. A function that turns differences into quotients is the exponential:

$$e^{(w_i - w_j) \cdot c_k} = \frac{e^{w_i \cdot c_k}}{e^{w_j \cdot c_k}} \quad\Longrightarrow\quad w_i \cdot c_k = \log P(k \mid i) = \log X_{ik} - \log \textstyle\sum_l X_{il} .$$

The last term depends on $i$ alone, so a bias $b_i$ can carry it; a bias $\tilde b_k$ for the context restores the symmetry of the two roles. What remains is a **log-bilinear** model, fitted by weighted least squares over the pairs that were seen:

$$J = \sum_{X_{ij} > 0} f(X_{ij}) \big( w_i \cdot c_j + b_i + \tilde b_j - \log X_{ij} \big)^2, \qquad f(x) = \min\!\Big(1, \big(x / x_{max}\big)^{0.75}\Big) .$$

The weight $f$ keeps rare pairs, whose counts are mostly luck, from mattering as much as frequent ones, and keeps very frequent ones from mattering more and more. The paper's $x_{max} = 100$ is for billions of tokens; for our small text we take 10. Compare with PMI: where the biases come out as $\log \#(i)$ and $\log \#(j)$ (up to a constant), $w_i \cdot c_j$ *is* PMI.
The gradients are those of a square: with the error $\epsilon = w_i \cdot c_j + b_i + \tilde b_j - \log X_{ij}$,

$$\frac{\partial J}{\partial w_i} = 2 f \epsilon\, c_j, \qquad \frac{\partial J}{\partial c_j} = 2 f \epsilon\, w_i, \qquad \frac{\partial J}{\partial b_i} = \frac{\partial J}{\partial \tilde b_j} = 2 f \epsilon .$$

**AdaGrad** (Duchi, Hazan and Singer 2011) divides each number's step by the root of the sum of all its squared gradients so far: rows of frequent words, with many gradients, take smaller and smaller steps, rows of rare words keep theirs.
"""

# %%
from course_lib.models.word_vectors import glove_weight  # noqa: F401  # course: write out

# %%
from course_lib.models.word_vectors import adagrad_rows  # noqa: F401  # course: write out

# %%
from course_lib.models.word_vectors import train_glove  # course: write out

# %% tags=["experiment"]
weighted_counts = cooccurrence(corpus, window=10, harmonic=True)  # as in the paper: ten tokens, 1/δ
glove_settings = {"d": D, "epochs": run.pick(smoke=2, standard=14, full=40), "learning_rate": 0.2, "device": run.device}
glove = train_glove(weighted_counts, run.generator(6), **glove_settings)
print(f"{weighted_counts.nnz:,} counts; loss {glove.losses[:50].mean():.3f} → {glove.losses[-50:].mean():.3f}; accuracy {accuracy(glove.vectors):.3f}")

# %% tags=["record"]
glove_shuffled = train_glove(cooccurrence(shuffled, window=10, harmonic=True), run.generator(6), **glove_settings)
record("GloVe on a shuffled text: accuracy", accuracy(glove_shuffled.vectors))

# %% [markdown]
"""
A shuffled text has been tried once more, and the result kept (`recorded`), since every run of this lesson need not pay for it.
"""

# %% tags=["claim"]
claim(
    "GloVe answers more than half of the analogies",
    measured=accuracy(glove.vectors),
    at_least=0.6,
    breaks_when={"on a shuffled text, as recorded": recorded("GloVe on a shuffled text: accuracy")},
)

# %% [markdown]
r"""
GloVe never looks at text: it reads the table of counts, however long the text was, and only the entries that are not 0. (Skip-gram, by contrast, pays for every token, and hears about pairs that never meet, through the noise.)

## Parts of words

All vectors so far belong to whole words. *climb*, *climbs* and *climbing* are three strangers that must each be met often enough, and for a word that was never met there is no vector at all. Yet you know what *louder* means once you know *loud* and *darker*.

**fastText** (Bojanowski et al. 2017) gives vectors to *pieces* of words, and a word is the mean of its pieces. Put the marks < and > around the word, so that a beginning can be told from a middle; the pieces are all substrings of 3 to 6 characters of this, and the marked word itself. For *loud* they are

> `<lo` `lou` `oud` `ud>` · `<lou` `loud` `oud>` · `<loud` `loud>` · `<loud>`

If $z_p$ is the vector of piece $p$ and $G_w$ the list of the word's pieces, then $v_w = \frac{1}{|G_w|} \sum_{p \in G_w} z_p$. Everything else is skip-gram as you know it. (The published program keeps the pieces in a hash table of two million rows, so that different pieces may share one; our vocabulary is small enough for each to have its own.)

### Exercise: `subword_vector`

*Difficulty ●●○○○ · about 15 minutes · 3 points*

Write two functions.

- `character_ngrams(word, n_min=3, n_max=6)`: the list of pieces of `<word>`, each as often as it occurs, in any order. The whole `<word>` is always in the list, and not a second time if it is one of the n-grams already (short words).
- `subword_vector(word, table, n_min=3, n_max=6)`: the mean of the vectors (d,) of those pieces that are in the dictionary `table`. Pieces that are not there take no part, not even in the number that you divide by. If none is there, return zeros (d,), of the table's dtype.

`hint("subword_vector")` helps.
"""

# %% tags=["exercise"] exercise="subword_vector"
from course_lib.models.word_vectors import character_ngrams, subword_vector  # course: write out

# %% tags=["check"] exercise="subword_vector"
character_ngrams, subword_vector = check("subword_vector")

# %% [markdown]
r"""
Training needs all word vectors from all piece vectors, and back. Forward, `F.embedding_bag` takes the mean of each word's rows. Backward, every piece collects the steps of all words that hold it: another bag, over words this time.

A detail that matters: by the chain rule each piece of $w$ gets the gradient of $v_w$ divided by $|G_w|$. The fastText program leaves that division out, and so do we. A word of 20 pieces then moves by the mean of 20 full steps, one full step, as in skip-gram; with the division it would crawl.
"""

# %%
from course_lib.models.word_vectors import train_fasttext  # course: write out

# %%
predict(
    "unseen",
    "“louder” never stood in the text. Which words will be nearest to the vector made of its pieces?",
    ["Words that are spelt like it, whatever they mean (cloud, powder).", "Other comparatives (darker, slower).", "loud and loudest, and other words about loud things."],
    answer=2,
    because="Its pieces were trained inside loud and loudest, whose company is bells and thunder; the ending er> adds a touch of comparative.",
)

# %% tags=["experiment"]
fasttext = train_fasttext(corpus, run.generator(7), recipe, run.device)
print(f"{len(fasttext.table):,} pieces; accuracy {accuracy(fasttext.vectors):.3f}")


def neighbours(vectors: Tensor, query: Tensor, count: int = 8) -> list[tuple[str, float]]:
    """Return the words nearest to a vector, with their cosines."""
    cosines, found = nearest(vectors, query, count)
    return [(corpus.words[i], cos) for cos, i in zip(cosines.tolist(), found.tolist())]


for word in ("louder", "princes", "ploughing", "slowest"):
    near = neighbours(fasttext.vectors, subword_vector(word, fasttext.table), 6)
    print(f"{word:>10}:", ", ".join(f"{other} {cos:.2f}" for other, cos in near))

# %% [markdown]
"""
For each hidden form, is its **stem** (*loud* for *louder*) among the ten nearest of all words? Skip-gram has no vector for a word that it has never met, so it cannot even try.

Spelling alone would put the stem near: the two share pieces. So there is a second question: do the ten neighbours *mean* something like the stem? The town knows which words belong to the same theme (the court, the yard, the river …).
Compare with pieces whose vectors are random: there, spelling is all there is.
"""

# %% tags=["experiment"]
stem_of = {
    form.form: base.form for pairs_of_words in town.lexicon.relations.values() for base, form in pairs_of_words if form.form in HIDDEN
}
stems = {form: stem for form, stem in sorted(stem_of.items()) if stem in corpus.index}


def themes(word: str) -> set[str]:
    """Return the themes that a word belongs to, in any of its senses."""
    attributes = [town.lexicon.attributes(reading.lemma) for reading in town.readings(word)]
    return {each for some in attributes for each in some if each.startswith("in:")}


def unseen_forms(vectors: Tensor, table: dict[str, Tensor]) -> tuple[float, float]:
    """Return the share of hidden forms with their stem among the ten nearest, and of neighbours that share its theme."""
    found, related, total = 0, 0, 0
    for form, stem in stems.items():
        near = [word for word, _ in neighbours(vectors, subword_vector(form, table), 10)]
        found += stem in near
        if themes(stem):
            related += sum(bool(themes(word) & themes(stem)) for word in near if word != stem)
            total += sum(word != stem for word in near)
    return found / len(stems), related / total


random_table = dict(zip(fasttext.table, initial_vectors(len(fasttext.table), D, run.generator(8), run.device)))
spelling = torch.stack([subword_vector(word, random_table) for word in corpus.words])  # (n_words, d)
others = list(fasttext.table.values())
random.Random(run.seed).shuffle(others)
near_stem, near_theme = unseen_forms(fasttext.vectors, fasttext.table)
near_stem_wrong, _ = unseen_forms(fasttext.vectors, dict(zip(fasttext.table, others)))
near_stem_spelling, near_theme_spelling = unseen_forms(spelling, random_table)
with_vector = sum(form in corpus.index for form in stems)
print(f"{len(stems)} hidden forms; with a skip-gram vector: {with_vector}")
print(f"stem among the ten nearest: fastText {near_stem:.2f}, spelling alone {near_stem_spelling:.2f}")
print(f"neighbours of the stem's theme: fastText {near_theme:.2f}, spelling alone {near_theme_spelling:.2f}")

# %% tags=["claim"]
claim(
    "an unseen inflection has a fastText vector near its stem: the share with the stem among the ten nearest",
    measured=near_stem,
    at_least=0.6,
    breaks_when={
        "skip-gram, which has no vector for it": with_vector / len(stems),
        "with the piece vectors handed to other pieces": near_stem_wrong,
    },
)
claim(
    "and near its meaning: the share of its other neighbours that belong to the stem's theme",
    measured=near_theme,
    at_least=0.4,
    breaks_when={"with random piece vectors, that is, by spelling alone": near_theme_spelling},
)
claim("skip-gram has a vector for none of the hidden forms", measured=with_vector, equals=0, breaks_when={"their stems, which were in the text": len(stems)})

# %% [markdown]
"""
## Side by side

Four ways to vectors of the same width from the same text. Which is best depends on the question, so here is the exam by category.
"""

# %% tags=["experiment"]
methods = {"PPMI + SVD": svd.to(run.device), "skip-gram": sgns.vectors, "GloVe": glove.vectors, "fastText": fasttext.vectors}
INFLECTION = ("singular_plural", "verb_past", "verb_ing", "verb_third_person", "comparative", "superlative")
inflected = torch.tensor([each in INFLECTION for each in category])  # (n,)
table = {}
print(f"{'':<12}{'3CosAdd':>9}{'3CosMul':>9}{'inflection':>12}{'meaning':>9}{'Spearman':>10}")
for name, vectors in methods.items():
    right = right_answers(vectors)  # (n,)
    table[name] = {
        "add": right.mean().item(), "mul": accuracy(vectors, analogy_mul), "inflection": right[inflected].mean().item(),
        "meaning": right[~inflected].mean().item(), "rho": spearman(pair_cosines(vectors), gold),
    }
    print(f"{name:<12}" + "".join(f"{value:>{width}.3f}" for value, width in zip(table[name].values(), (9, 9, 12, 9, 10))))

# %%
names = list(dict.fromkeys(category))
grid = [[right_answers(v)[torch.tensor([c == name for c in category])].mean().item() for v in methods.values()] for name in names]
fig, ax = plt.subplots(figsize=(6.4, 5.4))
figures.heatmap(ax, grid, rows=[name.replace("_", " ") for name in names], columns=list(methods), numbers=".2f", limits=(0, 1), bar="share right (3CosAdd)")
ax.set_aspect("auto")
figures.show(
    fig,
    caption="Inflection (plural, past, comparative …) is where pieces of words help: fastText sees the ending. Facts about the world, such as capitals, have to come from company alone; GloVe, with its wider window, is best at those and worst at verbs.",
    alt="A heat map of analogy accuracy: thirteen categories in rows, four methods in columns.",
)

# %% tags=["record"]
record("fastText on a shuffled text: accuracy", accuracy(train_fasttext(shuffled, run.generator(7), recipe, run.device).vectors))

# %% tags=["claim"]
claim(
    "fastText answers more than half of the analogies",
    measured=table["fastText"]["add"],
    at_least=0.6,
    breaks_when={
        "by spelling alone, with random piece vectors": accuracy(spelling),
        "on a shuffled text, as recorded": recorded("fastText on a shuffled text: accuracy"),
    },
)
claim(
    "on inflections fastText beats skip-gram by (share of questions)",
    measured=table["fastText"]["inflection"] - table["skip-gram"]["inflection"],
    at_least=0.1,
    breaks_when={"PPMI + SVD, which sees no pieces either": table["PPMI + SVD"]["inflection"] - table["skip-gram"]["inflection"]},
)
claim(
    "multiplying or adding cosines makes little difference here: the mean gain of 3CosMul over the four methods",
    measured=sum(each["mul"] - each["add"] for each in table.values()) / len(table),
    between=(-0.03, 0.06),
    breaks_when={"leaving the question's words in": accuracy(sgns.vectors, lambda v, a, b, c: (F.normalize(v, dim=-1)[b] - F.normalize(v, dim=-1)[a] + F.normalize(v, dim=-1)[c]).matmul(F.normalize(v, dim=-1).T).argmax(1)) - table["skip-gram"]["add"]},
)

# %% [markdown]
r"""
## A map of the town

Vectors of 64 numbers cannot be seen. **t-SNE** (van der Maaten and Hinton 2008) lays them out in the plane so that near neighbours stay near; how far apart two distant groups lie then means nothing. So the map may lie, and the question to ask it is: **which of the dots that lie side by side are true neighbours?**

Click a word (or type one): lines go to its true nearest words, by the cosine of all the numbers, wherever these are on the map. Try *king*, *river*, *monday*, and then *bank* and *spring*. Whose lines are short, and whose run across the map?
"""

# %%
KINDS = {"human": "people", "animate": "animals", "place": "places", "action": "actions", "thing": "things"}


def kind_of(word: str) -> str | None:
    """Return what kind of thing a word is, by the town's lexicon."""
    attributes = {each for reading in town.readings(word) for each in town.lexicon.attributes(reading.lemma)}
    if any(each.startswith("land:") for each in attributes):
        return "countries"
    return next((name for mark, name in KINDS.items() if mark in attributes), None)


frequent = [word for word in corpus.words if word.isalpha()][: run.pick(smoke=150, standard=600, full=900)]
known = list(dict.fromkeys(["king", "bank", *frequent]))
rows = torch.tensor([corpus.index[word] for word in known], device=run.device)
places = plane(sgns.vectors[rows], run.generator(9), steps=run.pick(smoke=20, standard=300, full=500)).tolist()
points = {word: (x, y) for word, (x, y) in zip(known, places)}
groups = {word: kind for word in known if (kind := kind_of(word)) is not None}


def true_neighbours(word: str) -> list[tuple[str, float]]:
    """Return a word's ten nearest words by the cosine of all its numbers."""
    near = neighbours(sgns.vectors, sgns.vectors[corpus.index[word]], 11)
    return [(other, cos) for other, cos in near if other != word][:10]


# %% tags=["widget", "nbval-ignore-output"]
WordMap(points, groups, true_neighbours, word="king")

# %%
signposts = [word for word in ("queen", "dog", "london", "river", "bread", "friday", "teacher", "sings", "red", "dragon", "money", "garden") if word in points]
figures.show(
    draw_word_map(points, groups, "bank", true_neighbours, labelled=signposts),
    caption="The same map, for a page without clicks, with “bank” chosen. Kinds of words settle together, although nobody told the training what a person or a place is. Follow the lines of “bank”: do they stay in one quarter?",
    alt="A scatter plot of six hundred words in the plane, coloured by kind: people, animals, places, actions, things and countries form clusters. Lines join bank with its nearest words.",
)

# %% [markdown]
r"""
## Where it breaks: one vector, two meanings

In Riverbank, as in English, people *rest on the bank* and *save money in the bank*. The training sees one word, so it makes one vector. What becomes of two meanings in one vector?

Riverbank's text knows the sense of each token, so we can do what no real text allows: find out what the vectors *would* have been. Freeze all context vectors, and fit new centre vectors with your gradients: one for all the tokens *bank*, one for those that mean the river's, one for those that mean the money's. (This is also how one adds a new word to vectors that are already trained.)
"""

# %% tags=["experiment"]
with_senses = Corpus.from_documents(senses)
main_id = torch.tensor([corpus.index.get(word, corpus.index.get(word.split(".")[0], 0)) for word in with_senses.words])
gen = run.generator(10)
drawn = [skipgram_pairs(with_senses, recipe.window, recipe.sample, gen) for _ in range(3)]
centre, context = (torch.cat(each) for each in zip(*drawn))
noise = noise_table(corpus.counts)


def fit_vector(*names: str, steps: int = 300, rate: float = 0.3) -> Tensor:
    """Fit one centre vector for all tokens of these senses, the contexts staying as they are; return it, (d,)."""
    members = torch.tensor([with_senses.index[name] for name in names])
    observed = main_id[context[torch.isin(centre, members)]]  # (m,)
    v = torch.zeros(1, D, device=run.device)
    for step_number in range(steps):
        chosen = observed[torch.randint(len(observed), (1024,), generator=gen)].to(run.device)
        n = noise[torch.randint(len(noise), (1024, recipe.k), generator=gen)].to(run.device)
        _, g_v, _, _ = sgns_loss_and_grads(v.expand(1024, -1), F.embedding(chosen, sgns.contexts), F.embedding(n, sgns.contexts))
        v = v - rate * (1 - step_number / steps) * g_v.mean(dim=0)
    return v[0]


both, river, money = fit_vector("bank.river", "bank.money"), fit_vector("bank.river"), fit_vector("bank.money")


def mixture(vector: Tensor, count: int = 20) -> dict[str, float]:
    """Return the shares of a vector's nearest words (bank aside) that belong to the river's and the money's theme."""
    near = [word for word, _ in neighbours(sgns.vectors, vector, count + 1) if word != "bank"][:count]
    return {theme: sum(f"in:{theme}" in themes(word) for word in near) / count for theme in ("river", "money")}


trained_bank = sgns.vectors[corpus.index["bank"]]
print(f"fitted to all its tokens, bank has cosine {cosine_similarity(both, trained_bank):.2f} with its trained vector")
for name, vector in (("one vector", both), ("bank.river", river), ("bank.money", money)):
    near = [word for word, _ in neighbours(sgns.vectors, vector, 9) if word != "bank"][:8]
    share = mixture(vector)
    print(f"{name:<11} river {share['river']:.2f}  money {share['money']:.2f}   {', '.join(near)}")

# %% tags=["claim"]
claim(
    "the one vector of bank mixes both senses: the smaller of the two themes' shares among its neighbours",
    measured=min(mixture(both).values()),
    at_least=0.1,
    breaks_when={"a vector for the river's bank": min(mixture(river).values()), "a vector for the money's bank": min(mixture(money).values())},
)

# %% [markdown]
r"""
Not only do the neighbours mix: the vector itself is, nearly, a weighted sum of the vectors of the senses (Arora et al. 2018 explain why). Measure it: how much of the direction of $v_{bank}$ lies in the plane that $v_{river}$ and $v_{money}$ span?
"""

# %% tags=["claim"]
def cosine_with_plane(vector: Tensor, *spanning: Tensor) -> float:
    """Return the cosine between a vector and the nearest point of the plane that the others span."""
    basis = torch.stack([F.normalize(each, dim=0) for each in spanning], dim=1).cpu()  # (d, 2)
    weights = torch.linalg.lstsq(basis, F.normalize(vector, dim=0).cpu()[:, None]).solution  # (2, 1)
    print("weights of the senses:", [round(float(each), 2) for each in weights])
    return cosine_similarity((basis @ weights)[:, 0], vector.cpu()).item()


print(f"cosine of the two senses with each other: {cosine_similarity(river, money):.2f}")
claim(
    "one vector is a weighted sum of its senses' vectors: its cosine with the plane of the two",
    measured=cosine_with_plane(both, river, money),
    at_least=0.93,
    breaks_when={"the plane of two other words, king and dog": cosine_with_plane(both, *(sgns.vectors[corpus.index[word]] for word in ("king", "dog")))},
)

# %% [markdown]
r"""
A sum of two places is a place where nothing lives. *she rested on the bank* needs the river; the vector says *somewhere between a lake and a loan*. No better training repairs this: what is missing is the sentence. A vector that depends on the **context** does; lesson 14 builds one.

Other limits, in one line each: word order inside the window is lost; opposites (*hot*, *cold*) keep the same company and lie close together; and whatever is skewed in the text is skewed in the vectors. Riverbank's nurses are mostly women and its soldiers mostly men, on purpose: look at the neighbours of both.

### What it costs

| | memory | time | reads |
|---|---|---|---|
| PPMI + SVD | the seen pairs of $V^2$ | about (seen pairs) × $d$, a few dozen times | a table of counts |
| skip-gram | $2Vd$ | tokens × window × $kd$ an epoch | the text, again and again |
| GloVe | the seen pairs, and $2Vd$ | (seen pairs) × $d$ an epoch | a table of counts |
| fastText | (pieces + $V$) × $d$ | as skip-gram, and the pieces of each word | the text, again and again |

For a text of billions of tokens the table of counts grows (more and more pairs are seen at least once), while skip-gram needs no more memory than before. That, rather than accuracy, is why prediction won.

## Real text

Is English as kind as Riverbank? Two measurements, if the data are here (`course data fetch wikitext2`, `google_analogies`, `glove_twitter_25d_subset`). The questions are Google's 19,544 analogies (Mikolov et al. 2013a), those whose four words are all known.
"""

# %% tags=["nbval-ignore-output"]
wikitext, google, twitter = (registry.load_or_none(name) for name in ("wikitext2", "google_analogies", "glove_twitter_25d_subset"))


def google_accuracy(vectors: Tensor, index: dict[str, int]) -> tuple[int, float, float, float]:
    """Return how many questions can be asked, and the shares answered rightly: all, meaning, grammar."""
    kept = [(q, [index[word.lower()] for word in q[1:]]) for q in google if all(word.lower() in index for word in q[1:])]
    right = right_answers(vectors, asked=torch.tensor([rows for _, rows in kept]))  # (n,)
    grammar = torch.tensor([q.is_syntactic for q, _ in kept])  # (n,)
    return len(kept), right.mean().item(), right[~grammar].mean().item(), right[grammar].mean().item()


results = {}
if google and twitter:
    results["GloVe, 25 numbers, Twitter"] = google_accuracy(torch.from_numpy(twitter.matrix), twitter.index)
if google and wikitext:
    lines = [[t.lower() for t in article.tokens if t not in ("<eos>", "<unk>")] for split in wikitext.values() for article in split]
    english = Corpus.from_documents(lines[: run.pick(smoke=6, standard=120, full=120)], min_count=run.pick(smoke=2, standard=10, full=5))
    english_svd = svd_vectors(ppmi(torch.from_numpy(cooccurrence(english, WINDOW).toarray()).float()), D)
    english_sgns = train_sgns(english, run.generator(11), Recipe(d=D, epochs=run.pick(smoke=1, standard=4, full=15)), run.device)
    results[f"PPMI + SVD, WikiText-2, {len(english.ids):,} tokens"] = google_accuracy(english_svd, english.index)
    results[f"skip-gram, WikiText-2, {len(english.ids):,} tokens"] = google_accuracy(english_sgns.vectors, english.index)

# %% tags=["record"]
record("real text", results)

# %% tags=["nbval-ignore-output"]
if not results:
    print("The data are not here. What follows was recorded where they were, at standard scale:")
for name, (asked_count, share, meaning, grammar) in (results or recorded("real text")).items():
    print(f"{name:<48}{asked_count:>6} questions   right {share:.3f}   meaning {meaning:.3f}   grammar {grammar:.3f}")

# %% [markdown]
r"""
Beside it the published figures, over the whole vocabulary of each model: GloVe with 100 numbers on 1.6 billion tokens answers 60.3 % (meaning 67.5, grammar 54.3), with 300 numbers on 42 billion tokens 75.0 % (Pennington et al. 2014, table 2). Guessing is right less than once in a thousand.

Twenty-five numbers for Twitter's language and a vocabulary cut to twelve thousand words do some of it. Half a million tokens of Wikipedia do almost none: Riverbank's grammar says the same kinds of things again and again, and its exam asks about words seen sixty times or more; English repeats itself far less. What rescues word vectors on real text is nothing but *more text*, a thousand times more.

## Recap

- Meaning comes from company. A word's row of co-occurrence counts is a vector; PPMI asks how much more often than by chance; the SVD keeps a few dozen shared axes.
- Skip-gram learns to tell real pairs from made-up ones. The gradients are errors times vectors: pull the context, push the noise.
- At its optimum $v_w \cdot u_c = \operatorname{PMI}(w, c) - \log k$: predicting factorises the table that counting builds. GloVe fits its logarithms by least squares.
- fastText builds words from pieces and has a vector for words it has never met.
- One vector for each word adds up its senses. Meaning in context is what the rest of the course is about.

**If you want more.** (1) Train skip-gram with `window=1` and with `window=10`: which neighbours does *dog* have? Narrow windows find words that can *replace* it, wide ones words that belong to the same *topic*. (2) Set $\alpha = 1$ in `ppmi`, and the power of `noise_table` to 1: which measure suffers? (3) Add `contexts` to `vectors` in skip-gram, as GloVe does. Does it help? (4) Find the direction *woman − man*, and project the professions on it: do you find the shares of `town.biases()`?

## Glossary

| word | meaning |
|---|---|
| one-hot vector | a 1 at the word's own place, 0 elsewhere |
| window | the tokens up to a given distance on each side |
| co-occurrence count $\#(w,c)$ | how often $c$ stands in a window of $w$ |
| PMI, PPMI | log of how much more often than by chance a pair is seen; the same with negative values set to 0 |
| SVD | the factorisation $U \Sigma T^\top$; cut to $d$ columns, the best approximation of rank $d$ |
| 3CosAdd, 3CosMul | two scores for analogies: a sum, or a quotient, of cosines |
| Spearman's $\rho$ | the correlation of ranks |
| skip-gram | predict the context words from the centre word |
| negative sampling | tell the real context from $k$ drawn noise words |
| subsampling | dropping tokens of very frequent words |
| GloVe | weighted least squares on the logarithms of counts |
| AdaGrad | gradient descent that divides each step by the root of the summed squared gradients |
| character n-gram | a substring of n characters, boundary marks included |

## Sources

- J. R. Firth (1957), *A Synopsis of Linguistic Theory 1930–1955*; Z. Harris (1954), *Distributional Structure*, Word 10.
- K. Church, P. Hanks (1990), *Word Association Norms, Mutual Information, and Lexicography*, Computational Linguistics 16: PMI.
- C. Eckart, G. Young (1936), *The Approximation of One Matrix by Another of Lower Rank*, Psychometrika 1.
- T. Mikolov, K. Chen, G. Corrado, J. Dean (2013a), *Efficient Estimation of Word Representations in Vector Space*: skip-gram, the Google analogies.
- T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean (2013b), *Distributed Representations of Words and Phrases and their Compositionality*, NeurIPS, section 2.2 (negative sampling, equation 4), section 2.3 (subsampling).
- T. Mikolov, W. Yih, G. Zweig (2013), *Linguistic Regularities in Continuous Space Word Representations*, NAACL: analogies by vector offset.
- O. Levy, Y. Goldberg (2014a), *Linguistic Regularities in Sparse and Explicit Word Representations*, CoNLL, sections 3 and 6: 3CosAdd, 3CosMul.
- O. Levy, Y. Goldberg (2014b), *Neural Word Embedding as Implicit Matrix Factorization*, NeurIPS, section 3.
- O. Levy, Y. Goldberg, I. Dagan (2015), *Improving Distributional Similarity with Lessons Learned from Word Embeddings*, TACL 3, section 3: context smoothing, eigenvalue weighting.
- J. Pennington, R. Socher, C. Manning (2014), *GloVe: Global Vectors for Word Representation*, EMNLP, section 3 (the model), table 2.
- J. Duchi, E. Hazan, Y. Singer (2011), *Adaptive Subgradient Methods*, JMLR 12: AdaGrad.
- P. Bojanowski, E. Grave, A. Joulin, T. Mikolov (2017), *Enriching Word Vectors with Subword Information*, TACL 5, section 3.2.
- S. Arora, Y. Li, Y. Liang, T. Ma, A. Risteski (2018), *Linear Algebraic Structure of Word Senses, with Applications to Polysemy*, TACL 6.
- L. van der Maaten, G. Hinton (2008), *Visualizing Data using t-SNE*, JMLR 9.
"""
