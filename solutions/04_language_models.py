# %% [markdown]
r"""
# 04 · Language models

**What comes next?**

*One day the king …* You know a good deal about the next word. In this lesson you build models that know it too, measure how much they know, and compare each of them
with what *could* be known, since Riverbank's texts come from a grammar whose probabilities are exact. At the end you will

- turn probabilities into perplexity and bits per character, and back, and know why no model can beat the entropy of the text;
- build n-gram models that do not break on what they have never seen: add-k, interpolation, and Kneser–Ney, with every formula derived;
- build the first neural language model (Bengio et al. 2003), and measure what its word vectors give it that counts cannot have;
- see why no window, however it is read, is the answer.

You need softmax and shape comments (lesson 00), word vectors (01), and to know that `loss.backward()` computes gradients (02). About two hours.

`run.pick(smoke=…, standard=…, full=…)` takes the value for the SCALE below, and `run.generator(i)` is a source of random numbers that depends on SEED and $i$ alone.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import lzma
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence  # noqa: F401 - used by code that is written out below

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Float, Int  # noqa: F401
from scipy.stats import spearmanr
from torch import Tensor, nn

from course_lib import figures, widgets
from course_lib.data import registry, text
from course_lib.data.riverbank import Document, Sentence, Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.ngrams import END, START, Context, Model, Table
from course_lib.runtime import progress, start

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=4, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=4)

# %% [markdown]
r"""
## The question

A **language model** gives every text a probability. Let a text be the tokens $w_1, w_2, \dots, w_T$. By the definition of conditional probability, applied $T$ times (the **chain rule**),

$$P(w_1, \dots, w_T) = P(w_1)\,P(w_2 \mid w_1)\,P(w_3 \mid w_1, w_2) \cdots P(w_T \mid w_1, \dots, w_{T-1}) ,$$

so it is enough to answer one question again and again: *given what was read so far, what comes next?* The last token of each text is an END mark, because where a text stops has to be predicted too.

Lesson 01's tool was counting. To know what follows *one day the king*, look up in the text what followed *one day the king*. Let us try that on documents of Riverbank. How often is the beginning of a *new* document one that we have read before?
"""

# %%
town = Town()
n_tokens = run.pick(smoke=8_000, standard=160_000, full=3_000_000)
training: list[list[str]] = []
for document in town.iter_documents(seed=run.seed):
    training.append(document.tokens)
    n_tokens -= len(document.tokens) + 1
    if n_tokens <= 0:
        break
tests: list[Document] = town.documents(run.pick(smoke=12, standard=120, full=1000), seed=run.seed + 1_000_000)
test = [document.tokens for document in tests]
characters = torch.tensor([len(document.text) + 1 for document in tests])  # (N,), the end counts as one character
vocabulary = [*town.vocabulary, END]
V = len(vocabulary)
print(f"{len(training):,} documents to learn from, {len(test)} to be tested on, {V:,} words, for example:")
print(" ".join(training[0][:24]), "…")

# %%
depths = [1, 2, 3, 4, 6, 8, 10, 12]
beginnings = {m: {tuple(tokens[:m]) for tokens in training} for m in depths}
known = [sum(tuple(tokens[:m]) in beginnings[m] for tokens in test) / len(test) for m in depths]
print("share of beginnings of m words that were read before:", {m: round(share, 2) for m, share in zip(depths, known)})

# %% tags=["claim"]
claim(
    "the first ten words of a new document were hardly ever read before: the share",
    measured=known[depths.index(10)],
    at_most=0.1,
    breaks_when={"the first word alone": known[0]},
)

# %% [markdown]
r"""
Counting whole pasts fails, although we have read thousands of documents: nearly every text is new after a few words. Nobody has *ever* counted what follows the sentence you are reading.

## N-grams

So give something up. Pretend that only the last $n - 1$ words matter (a **Markov assumption**, after A. A. Markov, who counted letters in *Eugene Onegin* in 1913):

$$P(w_t \mid w_1, \dots, w_{t-1}) \approx P(w_t \mid h), \qquad h = w_{t-n+1}, \dots, w_{t-1} .$$

The $n - 1$ words $h$ are the **context** (also *history*), and $h$ with its next word $w$ is an **n-gram**. Let $c(h, w)$ be how often $w$ followed $h$ in the text, and $c(h) = \sum_w c(h, w)$. Which probabilities $p_w = P(w \mid h)$ make the text that we
have read as probable as possible? Its logarithm holds $\sum_w c(h, w) \log p_w$, and we must keep $\sum_w p_w = 1$. With a Lagrange multiplier $\mu$,

$$\frac{\partial}{\partial p_w} \Big[ \sum_{w'} c(h, w') \log p_{w'} - \mu \Big( \sum_{w'} p_{w'} - 1 \Big) \Big] = \frac{c(h, w)}{p_w} - \mu = 0
\quad\Longrightarrow\quad p_w = \frac{c(h, w)}{\mu} = \frac{c(h, w)}{c(h)} ,$$

since the sum must be 1. The **relative frequency** is the maximum-likelihood estimate.

In code, a `Context` is a tuple of words, and a `Table` a dictionary from contexts to Counters of what followed. Before each text stand $n - 1$ START marks, `"<s>"`, so that the first word has a context too, and behind it the END mark, `"<end>"`. START itself is never predicted.
"""

# %%
from course_lib.models.language_models import count_ngrams, last_words  # course: write out

# %% tags=["nbval-check-output"]
tiny = [sentence.split() for sentence in ("the king rules", "the queen rules", "the king sees the queen")]
for context, followers in count_ngrams(tiny, 2).items():
    print(context, dict(followers), "→", {word: f"{count}/{followers.total()}" for word, count in followers.items()})

# %% [markdown]
r"""
## How good is a language model?

Ask it for the probability of a text that it has never seen. More is better, but a text of a thousand words has a tiny probability under any model, so we take logarithms and averages. Three measures are in use, and they are the same number in three dresses.

**Cross-entropy.** The mean surprise of a token, in **nats** (natural logarithm): $\displaystyle \mathcal{H} = -\frac{1}{T} \sum_{t=1}^{T} \ln P(w_t \mid w_1, \dots, w_{t-1}) .$

**Perplexity.** $\operatorname{PPL} = e^{\mathcal{H}} = P(w_1, \dots, w_T)^{-1/T}$. A model that throws a fair die with $V$ faces for each token has $\mathcal{H} = \ln V$ and so perplexity $V$. A model of perplexity 20 is as uncertain as a die with 20 faces, on (geometric) average.

**Bits per character.** $-\log_2 P$ is the length, in bits, of the code that a model makes best for the text (up to one bit for the whole text). Since $\log_2 P = \ln P / \ln 2$, a text of $C$ characters has

$$\operatorname{BPC} = \frac{T\,\mathcal{H}}{C \ln 2} = \frac{T}{C} \log_2 \operatorname{PPL} .$$

Perplexity depends on what a token is: a model of letters and a model of words cannot be compared by it. Bits per character can, because the number of characters does not depend on how the text was cut. From here on *bits per character on whole documents* is our ruler.

A `Model` is a function from a word and its context to a probability. This asks it for each token of each document:
"""

# %%
from course_lib.models.language_models import log_probs_of  # course: write out

# %% [markdown]
r"""
### Exercise: `perplexity`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

**Task.** Write `perplexity(log_probs, lengths)` and `bits_per_character(log_probs, lengths, characters)`.

**Input.** `log_probs` (batch, n): row $i$ holds the natural logarithms of the probabilities that a model gave to the tokens of text $i$; only its first `lengths[i]` places are tokens, the rest is padding. `lengths` (batch,) and `characters` (batch,) are whole numbers.

**Output.** Tensors without axes, of the dtype of `log_probs`: the perplexity per token over *all* tokens of all texts, and the bits per character over *all* characters of all texts.

**Edge cases.** The padding may be anything, NaN and $-\infty$ too. A text may have length 0. A token of probability 0 (a log-probability of $-\infty$) makes both results infinite.

`hint("perplexity")` helps.
"""

# %% tags=["exercise"] exercise="perplexity"
from course_lib.models.language_models import perplexity, bits_per_character  # course: write out

# %% tags=["check"] exercise="perplexity"
perplexity, bits_per_character = check("perplexity")

# %%
def uniform(word: str, context: Context) -> float:
    """Throw a die with V faces."""
    return 1 / V


log_probs, lengths = log_probs_of(uniform, test, window=0)  # (N, n), (N,)
die = perplexity(log_probs, lengths).item()
bits = bits_per_character(log_probs, lengths, characters).item()
print(f"a fair die: perplexity {die:.2f}, {bits:.3f} bits per character")

# %% tags=["claim"]
claim(
    "a fair die with one face for each word has a perplexity of exactly that many words: the difference",
    measured=abs(die - V),
    at_most=1e-6,
    breaks_when={"with 2 to the power of the nats": abs(2 ** math.log(V) - V)},
)

# %% [markdown]
r"""
## The floor

How good can a model become? Let $p$ be the true distribution of documents and $q$ a model. The expected surprise under $q$ of a document drawn from $p$ is the **cross-entropy** $H(p, q) = -\sum_x p(x) \ln q(x)$, and $H(p) = H(p, p)$ is the **entropy** of $p$ itself. Since $\ln y \le y - 1$,

$$H(p) - H(p, q) = \sum_x p(x) \ln \frac{q(x)}{p(x)} \;\le\; \sum_x p(x) \Big( \frac{q(x)}{p(x)} - 1 \Big) = \sum_x q(x) - 1 \;\le\; 0 ,$$

with equality only where $q = p$. **No model has less than the entropy, on average.** The last step needs $\sum_x q(x) \le 1$: a "model" whose probabilities add up to more than 1 can report any perplexity it likes. Texts add up to 1 or less if the next words do after every context, by the chain rule. That is why, for each model below, we shall check that sum.

Of English nobody knows the entropy. Of Riverbank we do, because the course wrote the grammar, and `town.token_log_probs` sums over all derivations of a text. (How: docs/riverbank.md.) Its mean over test documents estimates $H(p)$, and comes with the usual error of a mean over a sample. For a quotient of two sums, bits by characters, with rate $r$, it is

$$\text{standard error} = \frac{\sqrt{N}\; s}{\sum_i C_i}, \qquad s^2 = \frac{1}{N-1} \sum_{i=1}^{N} (b_i - r\,C_i)^2 ,$$

where $b_i$ and $C_i$ are the bits and characters of document $i$ of $N$.
"""

# %%
def rate(log_probs: Tensor, lengths: Tensor) -> tuple[float, float]:
    """Return the bits per character of the test documents, and the standard error."""
    bits = -log_probs.sum(dim=1) / math.log(2)  # (N,); padding is 0 here
    mean = bits_per_character(log_probs, lengths, characters).item()
    spread = (bits - mean * characters).std()  # ()
    return mean, (spread * math.sqrt(len(bits)) / characters.sum()).item()


rows = [torch.tensor(town.token_log_probs(tokens), dtype=torch.float64) for tokens in progress(test, desc="exact")]
exact = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (N, n)
bits_of = {"exact": rate(exact, lengths)}  # name → bits per character, standard error
print(f"Riverbank: {bits_of['exact'][0]:.3f} ± {bits_of['exact'][1]:.3f} bits per character, "
      f"perplexity {perplexity(exact, lengths):.2f}, where the die has {V}")

# %% [markdown]
r"""
## Never seen is not impossible

Now the n-grams. Two things grow with $n$: the table, and the share of what it does not know.
"""

# %%
predict(
    "unseen",
    "We have read 160,000 tokens of Riverbank, whose grammar is far simpler than English. Which share of the 5-grams of new documents was never read?",
    ["About 5 %", "About 25 %", "More than half"],
    answer=2,
    because="There are 1,685⁵ ≈ 10¹⁶ possible 5-grams; even the few that grammar allows are far more than anyone can read.",
)

# %% tags=["experiment"]
orders = [1, 2, 3, 4, 5]
plain = [count_ngrams(training, n) for n in progress(orders, desc="counting")]  # plain[n - 1]: n-grams
fewer = [count_ngrams(training[: len(training) // 8], n) for n in orders]


def size_of(table: Table) -> int:
    """Return the number of different n-grams in a table."""
    return sum(map(len, table.values()))


def unseen_share(table: Table, n: int) -> float:
    """Return the share of the test documents' n-grams that are not in the table."""
    new = count_ngrams(test, n)
    missing = sum(c for context, some in new.items() for word, c in some.items() if word not in table.get(context, ()))
    return missing / lengths.sum().item()


sizes = {"read: all": [size_of(t) for t in plain], "read: an eighth": [size_of(t) for t in fewer]}
unseen = {"read: all": [unseen_share(t, n) for t, n in zip(plain, orders)], "read: an eighth": [unseen_share(t, n) for t, n in zip(fewer, orders)]}
for n in orders:
    print(f"n = {n}: {sizes['read: all'][n - 1]:>8,} different n-grams in the table, {unseen['read: all'][n - 1]:6.1%} of the new ones unseen")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
figures.lines(axes[0], orders, sizes, xlabel="n", ylabel="different n-grams", title="The table", log="y")
figures.lines(axes[1], orders, unseen, xlabel="n", ylabel="share never seen", title="N-grams of new documents")
axes[1].set_ylim(0, 1)
for ax in axes:
    ax.set_xticks(orders)
figures.show(
    fig,
    caption="Longer contexts need larger tables (left) and find less of what they need in them (right). Eight times the text lowers the share of the unseen, and leaves it above one half at n = 5. There most n-grams of the table were read only once: it has become little less than a copy of the text.",
    alt="Left: the number of different n-grams rises from a thousand to a hundred thousand as n goes from 1 to 5. Right: the share of unseen n-grams rises from nearly zero to more than half.",
)

# %% tags=["claim"]
claim(
    "the table grows with n: 5-grams for each different word",
    measured=sizes["read: all"][4] / sizes["read: all"][0],
    at_least=40,
    breaks_when={"pairs of words": sizes["read: all"][1] / sizes["read: all"][0]},
)
claim(
    "more than half of the 5-grams of new documents were never seen",
    measured=unseen["read: all"][4],
    at_least=0.5,
    breaks_when={"of the single words": unseen["read: all"][0], "of the pairs": unseen["read: all"][1]},
)
once = {n: sum(c == 1 for followers in plain[n - 1].values() for c in followers.values()) / size_of(plain[n - 1]) for n in (1, 5)}
claim(
    "most 5-grams of the table were read only once: the share",
    measured=once[5],
    at_least=0.8,
    breaks_when={"of the single words": once[1]},
)

# %% [markdown]
r"""
Relative frequencies give an unseen n-gram probability 0, one such token makes the probability of the whole text 0, and the perplexity infinite. *Smoothing* takes some probability away from what was seen and gives it to what was not. The question is how much, and to whom.

## Add k

The oldest answer: pretend that you had seen everything $k$ more times. With $k = 1$ it is **Laplace**'s rule of succession (1814):

$$P(w \mid h) = \frac{c(h, w) + k}{c(h) + k V} .$$
"""

# %%
from course_lib.models.language_models import add_k_prob  # course: write out

# %% tags=["experiment"]
def measure(model: Model, window: int) -> tuple[float, float]:
    """Return a model's bits per character on the test documents, and the standard error."""
    return rate(*log_probs_of(model, test, window))


def add_k_model(n: int, k: float) -> Model:
    """Return the n-gram model with k added to each count."""
    return lambda word, context: add_k_prob(word, context, plain[n - 1], k, V)


add_k = {f"k = {k:g}": [measure(add_k_model(n, k), n - 1) for n in orders] for k in (1, 0.1, 0.01)}
for name, measured in add_k.items():
    print(f"{name:<9}" + "".join(f"   n = {n}: {bits:.2f}" for n, (bits, _) in zip(orders, measured)))

# %% tags=["claim"]
claim(
    "with k = 1 a longer context makes the model worse: bits per character lost from pairs to triples",
    measured=add_k["k = 1"][2][0] - add_k["k = 1"][1][0],
    at_least=0.1,
    breaks_when={"from single words to pairs": add_k["k = 1"][1][0] - add_k["k = 1"][0][0]},
)

# %% [markdown]
r"""
Look at the denominator. A context seen 20 times gets $c(h) = 20$ votes, and the words that were never seen after it get about $kV$, which for $k = 1$ is 1685: the model hardly listens to what it has read. A small $k$ is better, and still treats all unseen words alike: after *look , anna ! the* an unseen *boy* is as probable as an unseen *of*. But we know more: *of* never comes after *the*.

## Interpolation

Ask all orders at once. Let $\hat P_m(w \mid h)$ be the relative frequency after the last $m$ words of $h$ (and, where these were never seen, what $\hat P_{m-1}$ says), with $\hat P_{-1}(w) = 1/V$ for knowing nothing. **Jelinek and Mercer** (1980) mix them,

$$P(w \mid h) = \sum_{m=-1}^{n-1} \lambda_m \hat P_m(w \mid h), \qquad \lambda_m \ge 0, \quad \sum_m \lambda_m = 1 .$$

Which weights? On the training text the longest context always looks best, since it has seen everything there. So choose those that make *other* text, **held out**, most probable. Let $p_{tm} = \hat P_m(w_t \mid h_t)$ for the held-out tokens $t = 1, \dots, T$. As above, with a multiplier $\mu$,

$$\frac{\partial}{\partial \lambda_m} \Big[ \sum_t \ln \sum_{m'} \lambda_{m'} p_{tm'} - \mu \sum_{m'} \lambda_{m'} \Big] = 0 \quad\Longrightarrow\quad \sum_t \frac{p_{tm}}{\sum_{m'} \lambda_{m'} p_{tm'}} = \mu .$$

Multiply by $\lambda_m$ and sum over $m$: the left side becomes $T$, so $\mu = T$, and

$$\lambda_m = \frac{1}{T} \sum_{t=1}^{T} \frac{\lambda_m p_{tm}}{\sum_{m'} \lambda_{m'} p_{tm'}} :$$

each weight is the mean share with which its order answers for a token. The weights stand on both sides. Start anywhere inside and put the right side in place of the left, again and again: that is **expectation–maximisation** (EM), which never makes the held-out text less probable (Dempster, Laird and Rubin 1977).
"""

# %%
from course_lib.models.language_models import order_probs, interpolated_prob  # course: write out

# %%
from course_lib.models.language_models import em_weights  # course: write out

# %% tags=["experiment"]
held_out = [d.tokens for d in town.documents(run.pick(smoke=6, standard=60, full=400), seed=run.seed + 2_000_000)]


def fit_weights(n: int) -> list[float]:
    """Return the weights for contexts of up to n − 1 words that suit the held-out documents."""
    probs = [
        order_probs(padded[i], tuple(padded[i - n + 1 : i]), plain[:n], V)
        for padded in ([START] * (n - 1) + [*tokens, END] for tokens in held_out)
        for i in range(n - 1, len(padded))
    ]
    return em_weights(torch.tensor(probs, dtype=torch.float64)).tolist()


def interpolated_model(n: int) -> Model:
    """Return the mixture of all orders up to n."""
    return lambda word, context: interpolated_prob(word, context, plain[:n], weights[n], V)


weights = {n: fit_weights(n) for n in orders}
interpolated = [measure(interpolated_model(n), n - 1) for n in orders]
print("weights for n = 5, from 1/V to the longest context:", [round(weight, 3) for weight in weights[5]])
print("bits per character:", {n: round(bits, 3) for n, (bits, _) in zip(orders, interpolated)})

# %% [markdown]
r"""
## Kneser–Ney

Two observations lead to the family of models that came out best when Chen and Goodman (1999) compared those then known.

### First: counts are too large, large ones by little more than small ones

Church and Gale (1991) cut a text into halves. Take the pairs that were seen exactly $r$ times in the first half. How often are they seen in the second, on average? (Every other document goes into each half, so the two are alike.)
"""

# %% tags=["experiment"]
rng = random.Random(run.seed)
first, second = (count_ngrams(training[part::2], 2) for part in (0, 1))
mixed = count_ngrams([rng.sample(tokens, len(tokens)) for tokens in training[1::2]], 2)  # the second half, words in random order


def seen_again(r: int, elsewhere: Table) -> float:
    """Return how often, on average, the pairs that the first half has r times are in another table."""
    found = [
        elsewhere.get(context, Counter())[word]
        for context, followers in first.items() for word, count in followers.items() if count == r
    ]
    return sum(found) / max(1, len(found))


for r in range(1, 8):
    again = seen_again(r, second)
    print(f"in the first half {r}: in the second {again:.2f} on average, less by {r - again:.2f}")

# %% tags=["claim"]
claim(
    "pairs seen two to four times are seen less often in other text, by less than one: the mean loss",
    measured=sum(r - seen_again(r, second) for r in (2, 3, 4)) / 3,
    between=(0.4, 1.0),
    breaks_when={"other text with its words in random order": sum(r - seen_again(r, mixed) for r in (2, 3, 4)) / 3},
)

# %% [markdown]
r"""
A count of 7 does not lose seven times what a count of 1 loses: the losses lie between nothing and little more than one. So take a fixed **discount** $D$ between 0 and 1 off each count that is not 0 (**absolute discounting**). Let $N_{1+}(h\,\bullet)$ be the number of *different* words that followed $h$. Each of them has given up $D$, so $D\,N_{1+}(h\,\bullet)$ counts are free, and the next shorter context $h'$ (that is, $h$ without its first word) shares them out:

$$P(w \mid h) = \frac{\max\big(c(h, w) - D,\, 0\big)}{c(h)} + \frac{D\,N_{1+}(h\,\bullet)}{c(h)}\; P(w \mid h') .$$

It adds up to 1: the first terms to $1 - D N_{1+}(h\,\bullet)/c(h)$, the second to what is missing if $P(\cdot \mid h')$ adds up to 1, and so on down to the uniform distribution $1/V$ below the single words, which does. A context with many different followers gives much to the shorter one: after *saw the* anything may come. A context with few followers, seen often, gives little.

For $D$ the table itself suffices (Ney, Essen and Kneser 1994): leave out one token at a time, and ask what is left for it. Let $n_r$ be the number of entries equal to $r$. A token of an entry $r \ge 2$ leaves $r - 1$ behind, and gets a share in proportion to $r - 1 - D$. A token of an entry 1 leaves nothing, and lives on what is free, in proportion to $D$. There are $r\,n_r$ tokens of entries equal to $r$, so the logarithm to be made as large as possible is $n_1 \ln D + 2 n_2 \ln(1 - D) + 3 n_3 \ln(2 - D) + \dots$ Without the last terms, which feel $D$ less, its derivative is 0 where

$$\frac{n_1}{D} = \frac{2\,n_2}{1 - D} \quad\Longrightarrow\quad D = \frac{n_1}{n_1 + 2\,n_2} .$$

### Second: the shorter context must not count tokens

Riverbank's *bank* is a frequent word, and comes after hardly any word but *the*. So *(the, bank)* explains nearly all of its tokens. When we ask the single words, we do so *because the pair is unknown*, and there *bank* is a bad guess, however frequent. *often* is rarer and comes after dozens of different words. The lower order should ask not *how often was it seen?* but *after how many different words was it seen?*
"""

# %%
from course_lib.models.language_models import discount_of  # course: write out

# %% tags=["experiment"]
single, pairs_in_front = plain[0][()], Counter(word for followers in plain[1].values() for word in followers)
frequent = [word for word, count in single.items() if count >= run.pick(smoke=10, standard=60, full=1000) and word != END]
frequent.sort(key=lambda word: single[word] / pairs_in_front[word])
print("word            seen   after … different words")
for word in (*frequent[:5], *frequent[-5:]):
    print(f"{word:<14}{single[word]:>6}   {pairs_in_front[word]}")

# %% [markdown]
r"""
Kneser and Ney (1995) did not guess this, they derived it. Ask that the model of pairs, on average over the contexts as they came, gives each word its true share of the text:

$$\sum_v \frac{c(v)}{N}\,P(w \mid v) = \frac{c(w)}{N}, \qquad N = \sum_v c(v) .$$

Put the formula above in, with a lower order $P(w)$ yet unknown. Let $N_{1+}(\bullet\,w)$ be the number of different words seen *before* $w$, and $N_{1+}(\bullet\,\bullet)$ the number of different pairs. Each seen pair loses $D$, so $\sum_v \max(c(v, w) - D, 0) = c(w) - D\,N_{1+}(\bullet\,w)$, and

$$\sum_v \max\big(c(v, w) - D, 0\big) + D\,P(w) \sum_v N_{1+}(v\,\bullet) = c(w)
\;\Longrightarrow\; c(w) - D\,N_{1+}(\bullet\,w) + D\,P(w)\,N_{1+}(\bullet\,\bullet) = c(w)
\;\Longrightarrow\; P(w) = \frac{N_{1+}(\bullet\,w)}{N_{1+}(\bullet\,\bullet)} .$$

The **continuation counts** $N_{1+}(\bullet\,w)$ it is, and for longer contexts $N_{1+}(\bullet\,h'w)$, the number of different words seen before $h'w$. Only the longest context keeps plain counts.

Both kinds of count are tables of the same form, so one formula serves all levels, with the entries of the level's own table in the place of $c$. From the table of n-grams one gets the continuation table of $(n-1)$-grams; and since that holds every $(n-1)$-gram that was seen, the next one down can be made from *it* in the same way:
"""

# %% [markdown]
r"""
### Exercise: `kneser_ney_prob`

*Difficulty ●●●●○ · about 25 minutes · 5 points*

**Task.** Write two functions.

1. `continuation_counts(table)`. **Input:** a table of n-grams, $n \ge 2$, as `count_ngrams` makes it: `table[context][word]`, contexts of $n - 1$ words. **Output:** a table (a dictionary of Counters) with contexts of $n - 2$ words: `result[context][word]` is the number of different words $v$ for which `word` was seen after `(v, *context)`.
2. `kneser_ney_prob(word, context, tables, discounts, n_words)`. **Input:** `tables[m]` has contexts of $m$ words ($m = 0, 1, \dots$), `discounts[m]` is its $D$; `context` is a tuple. **Output:** the probability, a float.

**Edge cases.** The word may never have been seen. The context may be longer than any in the tables (its last words count), or shorter. A context that was never seen changes nothing: the next shorter one speaks for it. Below `tables[0]` lies the uniform distribution.

*By hand.* In the three sentences above, *the king rules · the queen rules · the king sees the queen*, with $D = \tfrac12$ and $V = 6$: *the* was followed by *king* 2 times, *queen* 2 times, so $c(the) = 4$ and $N_{1+} = 2$. The table printed above has 9 different pairs; 1 of them ends in *king*, and 6 different words end one. So
$P(king) = \frac{1 - 0.5}{9} + \frac{0.5 \cdot 6}{9} \cdot \frac16 = \frac19$ and $P(king \mid the) = \frac{2 - 0.5}{4} + \frac{0.5 \cdot 2}{4} \cdot \frac19 \approx 0.4028$.

`hint("kneser_ney_prob")` helps.
"""

# %% tags=["exercise"] exercise="kneser_ney_prob"
from course_lib.models.language_models import continuation_counts, kneser_ney_prob  # course: write out

# %% tags=["check"] exercise="kneser_ney_prob"
continuation_counts, kneser_ney_prob = check("kneser_ney_prob")

# %%
from course_lib.models.language_models import kneser_ney_tables  # course: write out

# %% tags=["nbval-check-output"]
tables = [continuation_counts(count_ngrams(tiny, 2)), count_ngrams(tiny, 2)]
print("P(king) =", round(kneser_ney_prob("king", (), tables, [0.5, 0.5], 6), 6))
print("P(king | the) =", round(kneser_ney_prob("king", ("the",), tables, [0.5, 0.5], 6), 6))

# %% [markdown]
r"""
**Now change something.** What is $P(sees \mid the)$, which was never seen? $P(king \mid dragon)$? What happens to the two numbers above with a discount of 1, and with 0? Run this cell with values of your own.
"""

# %%
word, context, D = "sees", ("the",), 0.5  # ← change these
print(f"P({word} | {' '.join(context)}) = {kneser_ney_prob(word, context, tables, [D, D], 6):.4f}")

# %% [markdown]
r"""
The discounts for each table are estimated, and the promise of the derivation is checked: with pairs, and no discount below, do the model's probabilities give each word its share of the text? (Summing over the contexts as they came, as above.)
"""

# %% tags=["experiment"]
kn_tables = {n: kneser_ney_tables(plain[n - 1]) for n in orders}
kn_discounts = {n: [discount_of(table) for table in tables] for n, tables in kn_tables.items()}


def kneser_ney_model(n: int) -> Model:
    """Return the Kneser–Ney model of n-grams."""
    return lambda word, context: kneser_ney_prob(word, context, kn_tables[n], kn_discounts[n], V)


print("discounts for n = 5:", [round(D, 2) for D in kn_discounts[5]])


def marginal(lowest: Table, word: str) -> float:
    """Return Σ c(v)/N · P(word | v) for pairs, with `lowest` as the table below them."""
    total = single.total()
    return sum(
        followers.total() / total * kneser_ney_prob(word, context, [lowest, plain[1]], [0.0, 0.75], V)
        for context, followers in plain[1].items()
    )


some = [*frequent[:20], *frequent[-20:]]
off = {
    name: max(abs(marginal(lowest, word) / (single[word] / single.total()) - 1) for word in some)
    for name, lowest in (("continuation counts", continuation_counts(plain[1])), ("plain counts", plain[0]))
}

# %% tags=["claim"]
claim(
    "with continuation counts below, pairs give each word its true share of the text: the largest relative error",
    measured=off["continuation counts"],
    at_most=1e-10,
    breaks_when={"with plain counts below": off["plain counts"]},
)

# %% [markdown]
r"""
### Do they add up to 1?

A model that does not is no model, and its perplexity means nothing. Here is one that is used and does not: **stupid backoff** (Brants et al. 2007) takes the relative frequency of the longest context in which the word was seen, times 0.4 for each word of context that it gave up. It was made for two trillion words, where Kneser–Ney would have cost too much, and its authors say *score*, not probability.
"""

# %%
def stupid_backoff(word: str, context: Context) -> float:
    """Return the score of a word: 0.4 for each word of context that had to be given up."""
    for given_up in range(len(context) + 1):
        followers = plain[len(context) - given_up].get(context[given_up:], Counter())
        if followers[word]:
            return 0.4**given_up * followers[word] / followers.total()
    return 0.4 ** (len(context) + 1) / V


models = {
    "add k, k = 0.01": add_k_model(4, 0.01),
    "interpolation": interpolated_model(4),
    "Kneser–Ney": kneser_ney_model(4),
    "stupid backoff": stupid_backoff,
}
rng = random.Random(run.seed)
contexts = [*rng.sample(sorted(plain[3]), 12), ("never", "seen", "before"), (START, START, START)]
contexts += [("never", *context[1:]) for context in contexts[:4]]
print(f"{len(contexts)} contexts of three words, seen and unseen; the sum of P(w | context) over all {V:,} words is")
wrong_by = {}
for name, model in models.items():
    sums = [sum(model(word, context) for word in vocabulary) for context in contexts]
    wrong_by[name] = max(abs(total - 1) for total in sums)
    print(f"{name:<16} between {min(sums):.12f} and {max(sums):.12f}")

# %% tags=["claim"]
claim(
    "add k, interpolation and Kneser–Ney add up to 1 after every context: the largest error",
    measured=max(wrong_by[name] for name in ("add k, k = 0.01", "interpolation", "Kneser–Ney")),
    at_most=1e-10,
    breaks_when={"stupid backoff": wrong_by["stupid backoff"]},
)

# %% [markdown]
r"""
### How good are they?
"""

# %% tags=["experiment"]
def absolute_model(n: int) -> Model:
    """Return the same as Kneser–Ney with plain counts in every table: absolute discounting."""
    discounts = [discount_of(table) for table in plain[:n]]
    return lambda word, context: kneser_ney_prob(word, context, plain[:n], discounts, V)


kneser_ney = [measure(kneser_ney_model(n), n - 1) for n in orders]
absolute = [measure(absolute_model(n), n - 1) for n in orders]
print("n                       " + "".join(f"{n:>8}" for n in orders))
for name, measured in (("add k, k = 0.01", add_k["k = 0.01"]), ("interpolation", interpolated), ("plain counts below", absolute), ("Kneser–Ney", kneser_ney)):
    print(f"{name:<24}" + "".join(f"{bits:>8.3f}" for bits, _ in measured))
print(f"the text itself: {bits_of['exact'][0]:.3f}")
per_token = (characters.sum() / lengths.sum()).item()  # characters; perplexity is 2 to the power of the bits per token
print("perplexity of Kneser–Ney" + "".join(f"{2 ** (bits * per_token):>8.1f}" for bits, _ in kneser_ney)
      + f"   of the text itself {perplexity(exact, lengths):.2f}")

# %% tags=["claim"]
best_simple = min(bits for measured in (*add_k.values(), interpolated) for bits, _ in measured)
claim(
    "Kneser–Ney at n = 4 beats every add-k and every interpolated model here: bits per character saved",
    measured=best_simple - kneser_ney[3][0],
    at_least=0.04,
    breaks_when={"Kneser–Ney at n = 2": best_simple - kneser_ney[1][0]},
)
claim(
    "counting different words in front beats counting tokens: bits per character saved at n = 4",
    measured=absolute[3][0] - kneser_ney[3][0],
    at_least=0.02,
    breaks_when={"at n = 1, where the two are the same model": absolute[0][0] - kneser_ney[0][0]},
)
claim(
    "discounts that look at the context beat weights that do not: bits per character saved at n = 4",
    measured=interpolated[3][0] - absolute[3][0],
    at_least=0.01,
    breaks_when={"at n = 1, where no context is": interpolated[0][0] - absolute[0][0]},
)

# %% [markdown]
r"""
So each idea pays: mixing the orders, leaving the mixture to the context, counting different words. The last line gives the same in perplexities: between how many words, on average, the model hesitates.

An independent judge: the course's tests compare these probabilities with those of `nltk.lm`, another implementation, on the same counts, for seen and unseen contexts. They agree to 12 decimals. nltk stops one step earlier: below its single words there is no uniform distribution, so an unseen word has probability 0. With `discounts[0] = 0` ours does the same.

## Writing

A model that says what comes next can write: draw a word, put it behind the text, ask again, until END comes. For Kneser–Ney there is a way to draw without computing all $V$ probabilities, and it reads like the formula: with probability $D N_{1+}(h\,\bullet)/c(h)$ **forget the first word of the context**, else draw one of its followers, each with its count minus $D$.
"""

# %%
from course_lib.models.language_models import kneser_ney_sample  # course: write out

# %%
def write(n: int, rng: random.Random, most: int = 60) -> list[str]:
    """Let the n-gram model write a document of at most so many words."""
    words = [START] * (n - 1)
    while len(words) < most + n - 1:
        word = kneser_ney_sample(tuple(words[len(words) - n + 1 :]), kn_tables[n], kn_discounts[n], vocabulary, rng)
        if word == END:
            break
        words.append(word)
    return words[n - 1 :]


rng = random.Random(run.seed)
written = {n: [write(n, rng) for _ in range(run.pick(smoke=2, standard=60, full=200))] for n in orders}
for n, documents in written.items():
    print(f"n = {n}:", " ".join(documents[0][:30]), "…\n")

# %% [markdown]
r"""
It looks better with more context. Riverbank can say how good it is: its grammar knows which strings are possible. We count how many words each document goes before the first that no text of the town could have there.
"""

# %% tags=["experiment"]
def right_words(tokens: list[str]) -> int:
    """Return how many words a document has before the first that the grammar does not allow, all if there is none."""
    return sum(logarithm > -math.inf for logarithm in town.token_log_probs(tokens)[:-1])


runs = {n: [right_words(tokens) for tokens in documents] for n, documents in written.items()}
mean_run = {n: sum(found) / len(found) for n, found in runs.items()}
print("words before the first impossible one, on average:", {n: round(mean, 1) for n, mean in mean_run.items()})
print("in the town's own documents all are possible:", right_words(test[0]), "of", len(test[0]))

# %% tags=["claim"]
claim(
    "with n = 5 the model writes more words before its first mistake, on average, than with n = 2",
    measured=mean_run[5] - mean_run[2],
    at_least=1,
    breaks_when={"with n = 1": mean_run[1] - mean_run[2]},
)

# %% [markdown]
r"""
## What counts cannot know

To a table, words are strangers. It may have read *the baker kneads the dough at the bakery* fifty times: that teaches it nothing about *the miller*, and nothing about *a baker*. Each context is a drawer of its own. You would carry over what you know, since a miller is a kind of baker.

Lesson 01 made words into vectors, and like words into near vectors. **Bengio, Ducharme, Vincent and Jauvin (2003)** put the two together: the context becomes *vectors*, and the probability of the next word a *smooth function* of them. If two words have nearly the same vectors, what is learnt about one holds for the other.

Let $k = n - 1$ be the number of words in the window, $d$ the width of a word vector, $m$ that of a hidden layer. Rows are vectors, as always in this course. ($k$, $m$ and $C$ are Bengio's from here on, no longer what they were above.)

$$x = [\,C_{w_{t-k}} \,;\, \dots \,;\, C_{w_{t-1}}\,], \qquad y = b + \tanh(a + xH)\,U \;(+\; xW), \qquad P(w_t = i \mid h) = \frac{e^{y_i}}{\sum_j e^{y_j}} .$$

- $C$ holds a vector of $d$ numbers for each word. They are looked up and laid **side by side**, oldest first: $x$ has $k\,d$ numbers. So the model knows which word stood where.
- $H$ ($kd \times m$) with the bias $a$, and tanh: the hidden layer. $U$ ($m \times V$) with the bias $b$: a score, or *logit*, for each word.
- $W$ ($kd \times V$) is an optional direct path from the vectors to the words; the paper found that it made training faster and the result no better.

Everything is learnt together, $C$ too, by descending the cross-entropy. Count the parameters: $(V + 1)\,d + kdm + m + mV + V$. A longer window adds $dm$ for each word, where it makes the possible n-grams $V$ times as many.

### Exercise: `window_lm_forward`

*Difficulty ●●●○○ · about 15 minutes · 4 points*

**Task.** Write `window_lm_forward(context, C, H, a, U, b, W=None)`.

**Input.** `context` (batch, window) holds word numbers, oldest first; `C` (n_inputs, d), `H` (window · d, n_hidden), `a` (n_hidden,), `U` (n_hidden, n_words), `b` (n_words,), and `W` (window · d, n_words) or None.

**Output.** The logits (batch, n_words). No softmax: the loss takes it.

**Edge cases.** A window of one word, a batch of one, a word that stands twice in a window. The gradients are checked too.

`hint("window_lm_forward")` helps.
"""

# %% tags=["exercise"] exercise="window_lm_forward"
from course_lib.models.language_models import window_lm_forward  # course: write out

# %% tags=["check"] exercise="window_lm_forward"
window_lm_forward = check("window_lm_forward")

# %%
from course_lib.models.language_models import WindowLM  # course: write out

# %%
from course_lib.models.language_models import windows_of  # course: write out

# %%
number_of = {word: i for i, word in enumerate([*vocabulary, START])}  # START can be read, but not predicted
WINDOW, D_MODEL, N_HIDDEN = 4, 32, 64


def train_window_lm(window: int, frozen: bool = False, documents: Sequence[Sequence[str]] = training) -> WindowLM:
    """Train a model that sees so many words; `frozen` leaves the word vectors as random as they began."""
    contexts, targets = windows_of(documents, window, number_of)  # (tokens, window), (tokens,)
    torch.manual_seed(run.seed)
    model = WindowLM(V, V + 1, window, D_MODEL, N_HIDDEN).to(run.device)
    if frozen:
        nn.init.normal_(model.C).requires_grad_(False)  # ten times as long as learnt ones begin, or they would hardly be felt
    epochs, batch, peak = run.pick(smoke=1, standard=2, full=10), 256, 1.2e-2
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=peak, fused=run.device.type in ("cpu", "cuda"))
    total = epochs * math.ceil(len(targets) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=total, pct_start=0.1)
    generator = run.generator(1)
    for _ in progress(range(epochs), desc=f"window of {window}, epochs"):
        for rows in torch.randperm(len(targets), generator=generator).split(batch):
            loss = F.cross_entropy(model(contexts[rows].to(run.device)), targets[rows].to(run.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def neural_log_probs(model: WindowLM, window: int) -> Tensor:
    """Return the log-probability of each token of the test documents, (N, n), padded with 0."""
    contexts, targets = windows_of(test, window, number_of)
    found = []
    with torch.no_grad():
        for context, target in zip(contexts.to(run.device).split(2000), targets.to(run.device).split(2000)):
            found.append(model(context).log_softmax(-1).gather(1, target[:, None])[:, 0])  # (2000,)
    return nn.utils.rnn.pad_sequence(torch.cat(found).cpu().double().split(lengths.tolist()), batch_first=True)


# %%
predict(
    "neural",
    "A window of four words, 32 numbers for each word. Its best rival is Kneser–Ney with the same four words, which remembers every 5-gram that it read. Which needs fewer bits on new documents?",
    ["Kneser–Ney: exact memory beats a blurred one", "The neural model: more than half of the 5-grams are new, and there it can generalise", "They are equal: they see the same four words"],
    answer=1,
    because="What was read often, both know. What was never read, the table can only answer from shorter contexts; the neural model still uses all four words.",
)

# %% tags=["experiment"]
window_lm = train_window_lm(WINDOW)
neural = neural_log_probs(window_lm, WINDOW)
bits_of["window of 4"] = rate(neural, lengths)
entries = sum(map(size_of, kn_tables[5]))
print(f"neural: {bits_of['window of 4'][0]:.3f} bits per character with {sum(p.numel() for p in window_lm.parameters()):,} numbers")
print(f"Kneser–Ney, n = 5: {kneser_ney[4][0]:.3f} with {entries:,} entries in its tables")

# %% tags=["claim"]
claim(
    "with the same four words of context the neural model needs fewer bits per character than Kneser–Ney: the difference",
    measured=kneser_ney[4][0] - bits_of["window of 4"][0],
    at_least=0.03,
    breaks_when={"Kneser–Ney with three words of context": kneser_ney[4][0] - kneser_ney[3][0]},
)

# %% [markdown]
r"""
### Does it share?

Two measurements. First, the words themselves. Nobody told the model which words are alike. Riverbank can say: the *gold similarity* of two words is the share of their attributes that both have (lesson 01).
"""

# %% tags=["experiment"]
golden = [(a, b, share) for a, b, share in town.similarities() if a in number_of and b in number_of]
sides = [torch.tensor([number_of[pair[side]] for pair in golden]) for side in (0, 1)]


def similarity(vectors: Tensor) -> float:
    """Return the rank correlation of the words' cosines with their gold similarity."""
    cosines = F.cosine_similarity(vectors[sides[0]], vectors[sides[1]])  # (n_pairs,)
    return spearmanr(cosines, [share for _, _, share in golden]).statistic


vectors = window_lm.C.detach().cpu()
for word in ("king", "baker", "monday", "rests", "red"):
    found = F.cosine_similarity(vectors, vectors[number_of[word]], dim=-1).topk(6).indices  # (6,), itself first
    print(f"{word:>7}, read {single[word]:>2} times:", ", ".join([*vocabulary, START][i] for i in found.tolist()[1:]))
torch.manual_seed(run.seed)
untrained = WindowLM(V, V + 1, WINDOW, D_MODEL, N_HIDDEN).C.detach()

# %% tags=["claim"]
claim(
    "words that mean similar things have got similar vectors: rank correlation with the gold similarity",
    measured=similarity(vectors),
    at_least=0.3,
    breaks_when={"before training": similarity(untrained)},
)

# %% [markdown]
r"""
A word's vector is as good as the number of places that it was read in. Second, what the vectors are good for. Take the tokens of the test documents that follow their neighbour for the *first time ever*: the pair $(w_{t-1}, w_t)$ was never read. Here a table knows nothing but single words. And train the same model once more with word vectors that stay as random as they began: then no two words are alike, and what is learnt about one says nothing about another. (That training is kept as a record, since it takes as long as the first.)
"""

# %% tags=["experiment"]
first_time = nn.utils.rnn.pad_sequence(
    [
        torch.tensor([word not in plain[1].get((before,), ()) for before, word in zip([START, *tokens], [*tokens, END])])
        for tokens in test
    ],
    batch_first=True,
)  # (N, n) Boolean, False where padded


def first_time_bits(log_probs: Tensor) -> float:
    """Return the mean bits of the tokens whose pair with the word before was never read."""
    return (-log_probs[first_time].mean() / math.log(2)).item()


counted, _ = log_probs_of(kneser_ney_model(5), test, 4)
print(f"{first_time.sum().item() / lengths.sum().item():.1%} of the tokens follow their neighbour for the first time. Bits for one of them:")
for name, found in (("Kneser–Ney, n = 5", counted), ("neural, window of 4", neural), ("Riverbank itself", exact)):
    print(f"{name:<20} {first_time_bits(found):6.2f}")

# %% tags=["record"]
frozen = neural_log_probs(train_window_lm(WINDOW, frozen=True), WINDOW)
record("frozen vectors", {"bits per character": rate(frozen, lengths)[0], "first time": first_time_bits(frozen)})

# %%
frozen_record = recorded("frozen vectors")
print(f"the same network with random vectors that stay so: {frozen_record['first time']:.2f} bits for one of these tokens, "
      f"{frozen_record['bits per character']:.3f} bits per character over all (as recorded)")

# %% tags=["claim"]
claim(
    "where a pair of words comes for the first time, shared vectors save bits: Kneser–Ney's bits minus the neural model's",
    measured=first_time_bits(counted) - first_time_bits(neural),
    at_least=2.5,
    breaks_when={"with random vectors that stay so, as recorded": first_time_bits(counted) - frozen_record["first time"]},
)

# %% [markdown]
r"""
Random vectors, too, save something there. The table falls back to single words; the network still has four vectors to go by. The learnt ones save more, since they say which words are alike. Over *all* tokens the network with random vectors needs more bits than Kneser–Ney: what beats the table is not the network alone, but the vectors that it learns.

## Every model against the truth
"""

# %% tags=["record"]
more = [document.tokens for _, document in zip(range(8 * len(training)), town.iter_documents(seed=run.seed))]
more_tables = kneser_ney_tables(count_ngrams(more, 5))
more_discounts = [discount_of(table) for table in more_tables]
more_counted, _ = measure(lambda word, context: kneser_ney_prob(word, context, more_tables, more_discounts, V), 4)
more_neural, _ = rate(neural_log_probs(train_window_lm(WINDOW, documents=more), WINDOW), lengths)
record("eight times the text", {"Kneser–Ney, n = 5": more_counted, "neural, window of 4": more_neural})

# %%
more_text = recorded("eight times the text")
for name, bits in (("Kneser–Ney, n = 5", kneser_ney[4][0]), ("neural, window of 4", bits_of["window of 4"][0])):
    print(f"{name:<20} {bits:.3f}, with eight times the text {more_text[name]:.3f} (as recorded)")

# %%
fig, ax = plt.subplots(figsize=(9, 4))
curves = {"add k, k = 1": add_k["k = 1"], "add k, k = 0.01": add_k["k = 0.01"], "interpolation": interpolated, "Kneser–Ney": kneser_ney}
figures.lines(
    ax, orders, {name: [bits for bits, _ in found] for name, found in curves.items()},
    xlabel="n (the model sees the n − 1 words before)", ylabel="bits per character",
    bands={name: ([b - e for b, e in found], [b + e for b, e in found]) for name, found in curves.items()},
)
wide = recorded("window of 8")
neural_points = [bits_of["window of 4"], (wide["bits per character"], wide["error"])]
ax.errorbar(
    [5, 9], [bits for bits, _ in neural_points], [error for _, error in neural_points],
    fmt="D", capsize=4, color=figures.PALETTE["black"], label="neural; n = 9 as recorded",
)
ax.plot(
    [5], [more_text["neural, window of 4"]], "D", markerfacecolor="none", color=figures.PALETTE["black"],
    label="neural, 8 times the text (recorded)",
)
floor, error = bits_of["exact"]
ax.axhline(floor, color=figures.PALETTE["black"], linestyle="--", marker="", linewidth=1.2, label="Riverbank itself")
ax.axhspan(floor - error, floor + error, color=figures.PALETTE["grey"], alpha=0.3, linewidth=0)
ax.set_xticks([*orders, 9])
ax.set_ylim(0, None)
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
figures.show(
    fig,
    caption="Whole documents, the same ones for all models. Bands and bars are one standard error, and narrow. Smoothing decides whether a longer context helps or harms. No window comes down to the dashed line, and twice the window helps the neural model less than eight times the text (hollow).",
    alt="Bits per character against n. Add-k falls and rises again, interpolation and Kneser-Ney fall and level off, the neural models lie below them at n = 5 and n = 9, the one with eight times the text lower still, and the exact entropy far below all as a dashed line.",
)

# %% tags=["claim"]
all_bits = [bits for found in (*add_k.values(), interpolated, kneser_ney) for bits, _ in found] + [bits_of["window of 4"][0]]
claim(
    "no model comes near the entropy of the text: the best one's bits per character, over the exact",
    measured=min(all_bits) / floor,
    at_least=1.3,
    breaks_when={"the grammar itself": 1.0},
)
claim(
    "eight times the text, as recorded, saves the neural model bits per character",
    measured=bits_of["window of 4"][0] - more_text["neural, window of 4"],
    at_least=0.06,
    breaks_when={"twice the window, as recorded": bits_of["window of 4"][0] - wide["bits per character"]},
)

# %% [markdown]
r"""
Where do the missing bits lie? In two places. Some lie in text that was not read: more of it helps. The others lie outside the window, where no text helps: who the story is about, which register it is in, what was said before. One such case can be pinned down to the word.

## Six words back

In English the verb agrees with its subject, however far away that is:

> the **brother** who rested under the palm **is** …  ·  the **brothers** who rested under the palm **are** …

Between *brother* and *is* stand five words: the subject is **six words back**. A model that looks at four words sees *rested under the palm* in both sentences. The same context, so the same probabilities, so the same choice between *is* and *are*: it is right in exactly one of the two. **No training, no amount of text and no cleverness changes that**: on such pairs of sentences every model with a window shorter than the distance is right in exactly half of the cases.

We measure it. From fresh sentences we take a subject and its verb, and make the twin with the other number. Only those pairs are kept of which the grammar allows both. Then we ask which of the verb's two forms is more probable. (The next two cells find the pairs in the grammar's trees. Nothing below needs their details.)
"""

# %%
other = {plural.form: singular.form for plural, singular in town.lexicon.relations["verb_third_person"]}
other |= {"are": "is", "were": "was", "have": "has"}
other |= {singular: plural for plural, singular in other.items()}  # a verb's other form
turned = {a.form: b.form for a, b in town.lexicon.relations["singular_plural"]}
turned |= {plural: singular for singular, plural in turned.items()}  # a noun in the other number


def subjects_of(sentence: Sentence) -> list[tuple[int, int]]:
    """Return the places of each finite verb with two forms and of its subject, a noun with two."""
    tokens, heads, labels = sentence.tokens, sentence.heads, sentence.labels
    found = []
    for i, verb in enumerate(tokens):
        if verb in other and ("VerbForm", "Fin") in sentence.leaves[i].word.feats:
            predicate = heads[i] if labels[i] in ("aux", "cop", "aux:pass") else i + 1
            found += [(i, j) for j in range(i) if heads[j] == predicate and labels[j] == "nsubj" and tokens[j] in turned]
    return found


def sentence_log_prob(sentence: Sentence, tokens: list[str]) -> float:
    """Return the exact log-probability that a sentence of this kind begins with these tokens."""
    return sum(town.grammar.token_log_probs(tokens, sentence.tree.symbol))


# %%
Question = tuple[list[str], str, str, bool]  # the words before; the right form; the wrong one; what the grammar prefers


def agreement_questions(n_documents: int, most: int) -> dict[int, list[Question]]:
    """Return, for each distance from the verb back to its subject, both questions of each pair."""
    found: dict[int, list[Question]] = {}
    for document in progress(town.documents(n_documents, seed=run.seed + 3_000_000), desc="pairs"):
        for sentence in document.sentences:
            for i, j in subjects_of(sentence):
                questions = found.setdefault(i - j, [])
                before, verb = sentence.tokens[:i], sentence.tokens[i]
                twin = [*before[:j], turned[before[j]], *before[j + 1 :]]
                if len(questions) >= 2 * most or sentence_log_prob(sentence, [*twin, other[verb]]) == -math.inf:
                    continue
                for words, right, wrong in ((before, verb, other[verb]), (twin, other[verb], verb)):
                    exact_one, other_one = (sentence_log_prob(sentence, [*words, each]) for each in (right, wrong))
                    questions.append((words, right, wrong, exact_one > other_one))
    return {distance: some for distance, some in sorted(found.items()) if len(some) >= run.pick(smoke=2, standard=8, full=8)}


questions = agreement_questions(run.pick(smoke=300, standard=2500, full=6000), most=run.pick(smoke=3, standard=40, full=40))
print("questions by distance:", {distance: len(some) for distance, some in questions.items()})
for distance in (1, 4, 6):
    for words, right, wrong, _ in questions.get(distance, [])[:2]:
        print(f"{distance} back: … {' '.join(words[-distance - 1:])} [{right} / {wrong}]")

# %%
def accuracy_by_distance(prob: Model, window: int) -> dict[int, float]:
    """Return the share of questions for which the right form is more probable; a tie counts one half."""
    share = {}
    for distance, some in questions.items():
        right = 0.0
        for words, good, bad, _ in some:
            context = tuple([*[START] * window, *words][len(words) :])  # the last words, START before the first
            p, q = prob(good, context), prob(bad, context)
            right += 1.0 if p > q else 0.5 if p == q else 0.0
        share[distance] = right / len(some)
    return share


def neural_prob(model: WindowLM) -> Model:
    """Return a model's logit of a word after a context: of two words, the larger one is more probable."""
    def logit(word: str, context: Context) -> float:
        with torch.no_grad():
            return model(torch.tensor([[number_of[each] for each in context]], device=run.device))[0, number_of[word]].item()
    return logit


# %%
predict(
    "window",
    "A neural model with a window of eight words can see a subject six words back. Trained on the same text as the window of four, how often will it get the verb right there?",
    ["Nearly always: it sees the subject", "In about three cases of four", "Hardly more often than in half of them"],
    answer=2,
    because="Seeing is not knowing. H has weights of its own for each place in the window, so what was learnt about a subject one word back must be learnt again for six words back, from the few sentences that have one there.",
)

# %% tags=["record"]
long_lm = train_window_lm(8)
long_bits, long_error = rate(neural_log_probs(long_lm, 8), lengths)
long_accuracy = accuracy_by_distance(neural_prob(long_lm), 8)
record("window of 8", {"bits per character": long_bits, "error": long_error, "accuracy": [[k, v] for k, v in long_accuracy.items()]})

# %% tags=["experiment"]
agreement = {
    "Riverbank itself": {k: sum(q[3] for q in some) / len(some) for k, some in questions.items()},
    "Kneser–Ney, 4 words": accuracy_by_distance(kneser_ney_model(5), 4),
    "neural, 4 words": accuracy_by_distance(neural_prob(window_lm), 4),
    "neural, 8 words (recorded)": {int(k): v for k, v in recorded("window of 8")["accuracy"]},
}
for name, share in agreement.items():
    print(f"{name:<27}" + "".join(f"  {distance}: {right:.2f}" for distance, right in share.items()))
fig, ax = plt.subplots(figsize=(9, 3.8))
for (name, share), size in zip(agreement.items(), (5, 10, 7, 4)):  # smaller markers lie on larger ones
    ax.plot(list(share), list(share.values()), label=name, markersize=size)
ax.axhline(0.5, color=figures.PALETTE["grey"], linewidth=0.8, linestyle=":", marker="")
ax.set(xlabel="distance from the verb back to its subject (words)", ylabel="right form more probable (share)", ylim=(0.4, 1.04))
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
figures.show(
    fig,
    caption="Beyond four words the models that see four stand at exactly one half. Inside their window the counts are best right next door and lose the subject one word further; the neural models lose it little by little. The window of eight sees the subject to the end of the axis, and from five words on makes nothing of it. (Riverbank has few subjects three words back.)",
    alt="Share of right verb forms against distance: the exact grammar stays at one; the n-gram model drops to about one half from the second word on, the neural models fall slowly and reach one half at the end of their window or near it.",
)

# %% tags=["claim"]
beyond = [agreement[name][k] for name in ("Kneser–Ney, 4 words", "neural, 4 words") for k in questions if k > 4]
claim(
    "with the subject more than four words back, models that see four words are right exactly half of the time",
    measured=max((abs(share - 0.5) for share in beyond), default=math.nan),
    equals=0.0,
    breaks_when={"the grammar itself": max((abs(agreement["Riverbank itself"][k] - 0.5) for k in questions if k > 4), default=math.nan)},
)
claim(
    "with the subject next to the verb the neural model mostly chooses the right form",
    measured=agreement["neural, 4 words"].get(1, math.nan),
    at_least=0.7,
    breaks_when={"the same model beyond its window": max(beyond, default=math.nan)},
)
claim(
    "counts lose the subject inside their window: right forms of Kneser–Ney with four words, two words back",
    measured=agreement["Kneser–Ney, 4 words"].get(2, math.nan),
    at_most=0.65,
    breaks_when={"one word back": agreement["Kneser–Ney, 4 words"].get(1, math.nan)},
)
far = [share for distance, share in agreement["neural, 8 words (recorded)"].items() if distance >= 5]
claim(
    "to see the subject is not to use it: right forms of the window of eight, as recorded, five to eight words back (mean share)",
    measured=sum(far) / len(far),
    at_most=0.6,
    breaks_when={"one word back": agreement["neural, 8 words (recorded)"][1]},
)

# %% [markdown]
r"""
## Look inside

Type the beginning of a document, with spaces around punctuation, and see what each model expects next. Each bar is a probability: its **dark** part is the discounted share of the longest context that was ever read, its **light** part comes from the shorter ones, to which that context passes on what its discounts freed. The last panel is the truth.

*Questions.* Which $n$ expects a verb after *the kings who saw the girl with the telescope*? What do they expect instead, and why? From which $n$ on does the longest context pass on more than a little? Try *look , anna ! the*, and *the dogs who barked in the kennel*, or something of your own. (Answers for the first stand below the figure.)
"""

# %% tags=["widget", "nbval-ignore-output"]
def speak_for(n: int, words: list[str]) -> tuple[dict[str, tuple[float, float]], str]:
    """Return the six most probable next words, each with its own share and what came from below, and a title."""
    context = tuple(([START] * n + words)[-(n - 1) :]) if n > 1 else ()
    longest = max(m for m in range(n) if last_words(context, m) in kn_tables[n][m])
    followers, D = kn_tables[n][longest][last_words(context, longest)], kn_discounts[n][longest]
    shares = {}
    for word in vocabulary:
        own = max(followers[word] - D, 0) / followers.total()
        shares[word] = (own, kneser_ney_prob(word, context, kn_tables[n], kn_discounts[n], V) - own)
    best = sorted(shares, key=lambda word: -sum(shares[word]))[:6]
    return {word: shares[word] for word in best}, f"n = {n}: knows the last {longest} of {n - 1}" if n > 1 else "n = 1: looks at nothing"


def draw_next(beginning: str) -> plt.Figure:
    words = beginning.lower().split()
    fig, axes = plt.subplots(2, 3, figsize=(10, 4.6))
    panels = [speak_for(n, words) for n in orders]
    try:
        truth = sorted(town.next_word(words).items(), key=lambda pair: -pair[1])[:6]
        panels.append(({word: (p, 0.0) for word, p in truth}, "Riverbank itself"))
    except ValueError:
        panels.append(({}, "no text of Riverbank begins like this"))
    for ax, (shares, title) in zip(axes.flat, panels):
        own, passed = ([share[i] for share in shares.values()] for i in (0, 1))
        ax.barh(range(len(shares)), own, color=figures.PALETTE["blue"])
        ax.barh(range(len(shares)), passed, left=own, color=figures.PALETTE["blue"], alpha=0.35)
        ax.set_yticks(range(len(shares)), list(shares))
        ax.set(title=title, xlim=(0, 1))
        ax.invert_yaxis()
    for ax in axes[1]:
        ax.set_xlabel("probability")
    return fig


NEXT_ALT = "Six bar charts of the most probable next words: under Kneser-Ney models of one to five words, and under the town's grammar."
beginning = ipywidgets.Text(value="the kings who saw the girl with the telescope", description="beginning", continuous_update=False, layout=ipywidgets.Layout(width="40em"))
display(widgets.explorer(draw_next, NEXT_ALT, beginning=beginning))
figures.show(
    draw_next("the kings who saw the girl with the telescope"),
    caption="The same view for a page that cannot be typed into. The sentence still lacks the verb of its subject, the kings. The grammar knows; the n-gram models have forgotten the kings.",
    alt=NEXT_ALT,
)

# %% [markdown]
r"""
None. The model of single words says the same after every beginning, from $n = 2$ on all expect a full stop: *with the telescope* is how sentences end, and that this one began with *the kings who* and is not over lies outside every window. The bars are dark up to $n = 4$; at $n = 5$ the context *girl with the telescope* was seen so rarely that it passes much of its probability on.

## What it costs, and where it breaks

| | numbers kept | time for one token | what it sees |
|---|---|---|---|
| table of n-grams | one for each n-gram read, at most as many as tokens | a few look-ups | $n - 1$ words |
| Kneser–Ney | the same for every order up to $n$ | $n$ look-ups | $n - 1$ words |
| neural window | $(V + 1)d + kdm + m + mV + V$, whatever was read | about $kdm + mV$ multiplications | $k$ words |

The neural model is small and slow: nearly all its time goes into the $m V$ multiplications of the output, and in 2003 five passes over 14 million words took three weeks on 40 processors. The table is large and fast.

Where both break is the same: at the **edge of the window**. Everything before it is gone; and a wider window needs new weights for each new place, which must learn anew what was already known a place further on. What is wanted is one set of weights for every place, and no edge. That is the next lesson.

## Real text

Riverbank is kind: it says the same kinds of things again and again. Here are the same models on real English, cut into *characters*, with nothing else changed: a document is a string, its tokens are its characters. Every Python carries its own manual; one tenth of its topics is held out.

Beside it stands a baseline that everyone has: a **compressor**. By Shannon a good predictor is a good compressor, and the reverse. `lzma` (the `.xz` format) compresses the training text alone, and then with the held-out text behind it; what comes on top are its bits for the held-out text. It does so by copying pieces that it has read before, from *anywhere*: it has no window of a few characters.
"""

# %%
def character_bits(model: Model, window: int, new: Sequence[str]) -> float:
    """Return the bits per character of a model of characters on new texts; each end is one character too."""
    log_probs, counts = log_probs_of(model, new, window)
    return bits_per_character(log_probs, counts, torch.tensor([len(each) + 1 for each in new])).item()


def alphabet_size(*texts: Sequence[str]) -> int:
    """Return how many different characters texts have, END included."""
    return len(set().union(*(each for some in texts for each in some))) + 1


def by_order(train: Sequence[str], new: Sequence[str]) -> dict[int, float]:
    """Return the bits per character of Kneser–Ney on new texts, for each n."""
    size, found = alphabet_size(train, new), {}
    for n in progress(character_orders, desc="n"):
        tables = kneser_ney_tables(count_ngrams(train, n))
        settings = (tables, [discount_of(table) for table in tables], size)
        found[n] = character_bits(lambda c, h, settings=settings: kneser_ney_prob(c, h, *settings), n - 1, new)
    return found


def lzma_bits(train: Sequence[str], new: Sequence[str]) -> float:
    """Return how many bits per character lzma needs for new texts when it has read the training texts before."""
    old, more = "\n".join(train), "\n".join(new)
    packed = [len(lzma.compress(each.encode(), preset=9)) for each in (old, old + "\n" + more)]
    return 8 * (packed[1] - packed[0]) / len(more)


# %% tags=["experiment"]
train_part, new_part = text.python_manual().split((0.9, 0.1))
manual_train = train_part.documents[: run.pick(smoke=2, standard=None, full=None)]
manual_new = new_part.documents[: run.pick(smoke=1, standard=None, full=None)]
character_orders = run.pick(smoke=[1, 2], standard=[1, 2, 3, 4, 6], full=[1, 2, 3, 4, 5, 6, 8, 10])
real = {"Python’s manual": by_order(manual_train, manual_new)}
packed = {"Python’s manual": lzma_bits(manual_train, manual_new)}
print("Kneser–Ney:", {n: round(bits, 2) for n, bits in real["Python’s manual"].items()}, f" lzma: {packed['Python’s manual']:.2f}")

# %% tags=["claim"]
manual, copied = real["Python’s manual"], packed["Python’s manual"]
sixes, size = count_ngrams(manual_train, 6), alphabet_size(manual_train, manual_new)
add_one = character_bits(lambda c, h: add_k_prob(c, h, sixes, 1, size), 5, manual_new)
claim(
    "on Python's manual longer contexts pay, well smoothed: bits per character that Kneser–Ney saves from pairs to the longest",
    measured=manual[2] - manual[max(manual)],
    at_least=1.2,
    breaks_when={"add one, at n = 6": manual[2] - add_one},
)
claim(
    "a compressor that copies from anywhere still needs fewer bits than the longest n-grams here: the difference",
    measured=manual[max(manual)] - copied,
    at_least=0.05,
    breaks_when={"the compressor without the training text": manual[max(manual)] - lzma_bits([], manual_new)},
)

# %% [markdown]
r"""
The same on Shakespeare (Karpathy's *tinyshakespeare*, the last tenth held out, as is the custom) and on *Moby-Dick*, if you have fetched them with `course data fetch tinyshakespeare moby_dick`.
"""

# %% tags=["nbval-ignore-output"]
def fetched_books() -> dict[str, dict]:
    """Return what the models and the compressor need for the books that are here."""
    books = {}
    for name, title in (("tinyshakespeare", "Shakespeare"), ("moby_dick", "Moby-Dick")):
        book = registry.load_or_none(name)
        if book is not None:
            book = book[: run.pick(smoke=5_000, standard=None, full=None)]
            cut = int(0.9 * len(book))
            found = by_order([book[:cut]], [book[cut:]])
            books[title] = {"Kneser–Ney": list(found.items()), "lzma": lzma_bits([book[:cut]], [book[cut:]])}
    return books


books = fetched_books()

# %% tags=["record"]
record("books", fetched_books())

# %% tags=["nbval-ignore-output"]
if len(books) < 2:
    print("So here is what was recorded where the books were:")
for title, each in {**recorded("books"), **books}.items():
    real[title], packed[title] = dict(each["Kneser–Ney"]), each["lzma"]
    print(f"{title}: Kneser–Ney", {n: round(bits, 2) for n, bits in real[title].items()}, f" lzma: {packed[title]:.2f}")

# %%
fig, ax = plt.subplots(figsize=(9, 3.8))
for name, found in real.items():
    (line,) = ax.plot(list(found), list(found.values()), label=f"{name}: Kneser–Ney")
    ax.axhline(packed[name], color=line.get_color(), linestyle="--", marker="", linewidth=1, label=f"{name}: lzma")
ax.set(xlabel="n (the model sees the n − 1 characters before)", ylabel="bits per character", ylim=(0, None))
ax.set_xticks(character_orders)
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
figures.show(
    fig,
    caption="Real English, character by character. Each further character of context helps, and less each time. On the manual, which repeats whole phrases, copying from afar beats a window of five characters; on the books it does not.",
    alt="Bits per character against n for the manual, Shakespeare and Moby-Dick: all fall from above four to about two; each compressor's figure is a dashed line.",
)

# %% [markdown]
r"""
For comparison, on Shakespeare: nanoGPT's published recipes end at a validation loss of 1.88 nats, which is $1.88 / \ln 2 \approx 2.71$ bits per character, for a small transformer trained in minutes on a CPU, and at 1.4697 nats, 2.12 bits, for a larger one on a GPU (Karpathy 2022). Put them beside the table of counts: on a megabyte of text it is a serious opponent.

## Recap

- A language model answers one question: what comes next? By the chain rule that is the probability of any text.
- Perplexity, cross-entropy and bits per character are one number in three dresses. Only the last can be compared across kinds of token.
- No model, if its probabilities add up to 1, has fewer bits on average than the entropy of the text.
- With $n$ the table grows into a copy of the text, and still the share of the unseen grows. Smoothing takes from what was seen and gives to what was not.
- Kneser–Ney takes a fixed discount off each count, and lets the shorter context count *different words in front*, so that the averages come out right.
- Bengio's model turns words into vectors, so that what is learnt of one holds for its like.
- Every window has an edge. Beyond it the verb's number is right in half of the cases, by proof.

**If you want more.** (1) Train on an eighth of the documents: by how much do Kneser–Ney and the neural model get worse, and which more? (2) Chen and Goodman use three discounts a table, for counts of 1, 2 and more. Estimate them as Church and Gale did, and try. (3) Mix Kneser–Ney and the neural model with EM. Why is the mixture better than both? (4) Give `WindowLM` the direct path. Does Bengio's remark hold here?

## Glossary

| word | meaning |
|---|---|
| language model | gives every text a probability; equivalently, the next token given those before |
| context, history $h$ | the words before, as far as the model looks |
| n-gram | a context of $n - 1$ words with its next word |
| cross-entropy | mean of $-\ln P$ over tokens, in nats |
| perplexity | its exponential: the faces of an equally uncertain die |
| bits per character | code length by characters, comparable across tokenisations |
| entropy | the cross-entropy of the true distribution: the floor |
| smoothing | giving probability to what was never seen |
| held-out text | kept from training, to choose weights and settings; not the test text |
| discount $D$ | what is taken off each count |
| continuation count | the number of different words seen in front |
| interpolation, back-off | always mixing in the shorter context; asking it only about the unseen |

## Sources

- A. A. Markov (1913), on the sequence of vowels and consonants in *Eugene Onegin*; C. E. Shannon (1948), *A Mathematical Theory of Communication*, Bell System Technical Journal 27, sections 2, 3 and 7: n-grams, entropy, codes.
- F. Jelinek, R. Mercer (1980), *Interpolated Estimation of Markov Source Parameters from Sparse Data*; A. Dempster, N. Laird, D. Rubin (1977), *Maximum Likelihood from Incomplete Data via the EM Algorithm*, JRSS B 39.
- K. Church, W. Gale (1991), *A Comparison of the Enhanced Good–Turing and Deleted Estimation Methods*, Computer Speech and Language 5.
- H. Ney, U. Essen, R. Kneser (1994), *On Structuring Probabilistic Dependences in Stochastic Language Modelling*, Computer Speech and Language 8: the discount.
- R. Kneser, H. Ney (1995), *Improved Backing-off for M-gram Language Modeling*, ICASSP.
- S. Chen, J. Goodman (1999), *An Empirical Study of Smoothing Techniques for Language Modeling*, Computer Speech and Language 13, section 2.
- T. Brants, A. Popat, P. Xu, F. Och, J. Dean (2007), *Large Language Models in Machine Translation*, EMNLP, section 4: stupid backoff.
- Y. Bengio, R. Ducharme, P. Vincent, C. Jauvin (2003), *A Neural Probabilistic Language Model*, JMLR 3, section 2 (the model), section 4 (times).
- A. Karpathy (2022), *nanoGPT*, readme: the losses on Shakespeare.
"""
