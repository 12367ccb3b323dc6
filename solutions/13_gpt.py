# %% [markdown]
r"""
# 13 · GPT

**Decoders: pretrain, then write.**

The models that learnt from plain text, lessons 04 and 05, could not look back; those that can, lessons 07 to 11, were given pairs of question and answer. In this lesson the two come together: attention, trained on nothing but text, to guess the next token at every place at once. It can write, and its name is GPT, for *generative pretraining*. At the end you will

- build GPT-2 from lesson 10's block, in any size from nano to XL, and read its published weights;
- train it as it is done: batches of windows, AdamW with two groups and Muon, warm-up and cosine, clipping, accumulation, mixed precision; and stop and resume without changing one bit;
- say when it beats tables of counts and when it does not, on average and where a verb must agree with a subject far away;
- let it write, and know what temperature, top-k, top-p and min-p each do to a distribution and to a text.

You need lessons 08 to 10 (heads, caches, positions, blocks), from lesson 04 Kneser–Ney and bits per character, from lesson 12 the tokenizer. About two and a half hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator  # noqa: F401 - used by code that is written out below
from contextlib import AbstractContextManager, nullcontext  # noqa: F401
from dataclasses import dataclass, replace  # noqa: F401
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401
from scipy.stats import chi2
from torch import Tensor, nn

from course_lib import figures
from course_lib.data import registry, text
from course_lib.data.riverbank import Document, Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.agreement import Choice, agreement_questions
from course_lib.models.attention import attention, causal_mask
from course_lib.models.block import Dropout, LayerNorm, TransformerBlock, initialise  # noqa: F401
from course_lib.models.language_models import count_ngrams, discount_of, kneser_ney_prob, kneser_ney_tables, log_probs_of
from course_lib.models.multi_head import KVCache  # noqa: F401
from course_lib.models.ngrams import Model
from course_lib.models.positions import LearnedPositions, apply_rope  # noqa: F401
from course_lib.models.tokenization import Tokenizer
from course_lib.runtime import CourseError, median_time, progress, start  # noqa: F401
from course_lib.training.muon import configure_muon
from course_lib.widgets.sampler_view import SamplerView, Settings, Shares, draw_next

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=13, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=13)

# %% [markdown]
r"""
## The question

Lesson 04 ended with a proof. *The **brother** who rested under the palm **is** …*, *the **brothers** who rested under the palm **are** …*: a model that looks at the last four words sees the same four in both, so it is right in exactly one of the two. No amount of text helps. Lesson 05 read everything, one word after the other, through one state. What would a model do that can look back at any word, as lesson 07's attention can, and that learns from text alone?

First the two rivals, on documents of Riverbank: **Kneser–Ney** with 5-grams, so with four words of context (lesson 04), and an **LSTM** (lesson 05). The LSTM, and all that follows, reads *tokens*: a byte-level BPE trained on the town's text (lesson 12), in which nearly every word is one token. Behind each document stands `<|endoftext|>`, the end mark.
"""

# %% tags=["experiment"]
town = Town()
END_MARK = "<|endoftext|>"
n_words = run.pick(smoke=20_000, standard=300_000, full=8_000_000)  # of training text
documents: list[str] = []
for document in town.iter_documents(seed=run.seed):
    documents.append(document.text)
    n_words -= len(document.tokens)
    if n_words <= 0:
        break
tests: list[Document] = town.documents(run.pick(smoke=8, standard=100, full=1000), seed=run.seed + 1_000_000)
tokenizer = Tokenizer.train((" " + each for each in documents[:3000]), run.pick(smoke=600, standard=2048, full=2048), [END_MARK])
END, V = tokenizer.special[END_MARK], tokenizer.n_words


def numbers_of(string: str) -> list[int]:
    """Return a document's tokens; the space in front makes its first word a word like any other."""
    return tokenizer.encode(" " + string)


ids = torch.tensor([END, *(i for each in documents for i in (*numbers_of(each), END))])  # (tokens,), one long text
characters = sum(len(each.text) + 1 for each in tests)  # the end of a document counts as one character
print(f"{len(documents):,} documents, {len(ids):,} tokens of {V:,} kinds; {len(tests)} documents to test on")
print("one document:", " | ".join(tokenizer.decode([i]) for i in numbers_of(documents[0])[:16]), "…")

# %% [markdown]
r"""
The ruler is lesson 04's: **bits per character on whole documents**, the end mark included, so that models of words and of tokens can be compared. A token model reads a document in windows of $n$ tokens. So that no token is guessed from a short past alone, each window but the first overlaps the one before by half, and only its second half is counted.
"""

# %% tags=["experiment"]
LENGTH = run.pick(smoke=16, standard=64, full=256)  # n, the number of tokens in a window
Score = Callable[[Tensor], Tensor]  # tokens (B, n) -> logits (B, n, V)


def windows_of(tokens: list[int], length: int) -> list[tuple[list[int], int]]:
    """Cut a document, end marks around it, into overlapping windows; with the first place that counts in each."""
    whole, begin, cut = [END, *tokens, END], 0, []
    while True:
        cut.append((whole[begin : begin + length + 1], length // 2 if begin else 0))
        if begin + length + 1 >= len(whole):
            return cut
        begin += length // 2


@torch.no_grad()
def bits_per_character(score: Score, length: int = LENGTH, given: list[Document] = tests) -> float:
    """Return a token model's bits per character on whole documents."""
    pieces = sorted((piece for each in given for piece in windows_of(numbers_of(each.text), length)), key=lambda piece: len(piece[0]))
    nats = 0.0
    for some in (pieces[i : i + 32] for i in range(0, len(pieces), 32)):
        longest = max(len(tokens) for tokens, _ in some)
        read, due = torch.full((len(some), longest - 1), END), torch.full((len(some), longest - 1), -100)
        for row, (tokens, first) in enumerate(some):
            read[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
            due[row, first : len(tokens) - 1] = torch.tensor(tokens[first + 1 :])
        logits = score(read.to(run.device)).float().cpu()  # (B, n, V)
        nats += F.cross_entropy(logits.flatten(0, 1), due.flatten(), ignore_index=-100, reduction="sum").item()
    return nats / math.log(2) / sum(len(each.text) + 1 for each in given)


# %% tags=["experiment"]
ORDER = 5
KINDS = len(town.vocabulary) + 1  # words that can follow, the end among them


def count(texts: list[list[str]], n: int, n_kinds: int) -> Model:
    """Return lesson 04's Kneser–Ney model of n-grams of these texts."""
    tables = kneser_ney_tables(count_ngrams(texts, n))
    discounts = [discount_of(table) for table in tables]
    return lambda word, context: kneser_ney_prob(word, context, tables, discounts, n_kinds)


def counted_bits(model: Model, texts: list[list[str]], n: int) -> float:
    """Return how many bits such a model needs for these texts."""
    return -log_probs_of(model, texts, n - 1)[0].sum().item() / math.log(2)


kneser_ney = count([each.split() for each in documents], ORDER, KINDS)
exact_bits = -sum(map(town.log_prob, tests)) / math.log(2) / characters
bits_of = {"exact": exact_bits, "Kneser–Ney": counted_bits(kneser_ney, [each.tokens for each in tests], ORDER) / characters}
for name, each in bits_of.items():
    print(f"{name:<12}{each:.3f} bits per character")

# %% [markdown]
r"""
Now the place where Kneser–Ney cannot win. From fresh documents we take verbs with their subjects, and make each one's twin: the subject in the other number, all words between the same (`agreement_questions` is lesson 04's experiment, made a function). A model is right if the form that agrees is the more probable one; a tie counts one half.
"""

# %% tags=["experiment"]
def token_of(word: str) -> int | None:
    """Return a word's token, if it is one."""
    numbers = tokenizer.encode(" " + word)
    return numbers[0] if len(numbers) == 1 else None


def questions_of(n_documents: int, most: int, least: int) -> dict[int, list[Choice]]:
    """Return questions by distance; both forms are one token each, so that their probabilities can be compared."""
    found = agreement_questions(town, n_documents, run.seed + 3_000_000, most)
    whole = {distance: [each for each in some if token_of(each.right) is not None and token_of(each.wrong) is not None] for distance, some in found.items()}
    return {distance: some for distance, some in whole.items() if len(some) >= least}


questions = questions_of(*run.pick(smoke=(100, 4, 2), standard=(800, 30, 10), full=(6000, 100, 40)))
print("questions by distance:", {distance: len(some) for distance, some in questions.items()})
example = questions[max(questions)][0]
print(f"{max(questions)} back: … {' '.join(example.before[-max(questions) - 1 :])} [{example.right} / {example.wrong}]")

# %% tags=["experiment"]
Better = Callable[[tuple[str, ...], str, str], float]


def share_right(better: Better, asked: dict[int, list[Choice]]) -> dict[int, float]:
    """Return the share of right answers at each distance; `better` says by how much the first form is preferred."""
    gains = {distance: [better(each.before, each.right, each.wrong) for each in some] for distance, some in asked.items()}
    return {distance: sum(1.0 if gain > 0 else 0.5 if gain == 0 else 0.0 for gain in some) / len(some) for distance, some in gains.items()}


def far_share(share: dict[int, float], asked: dict[int, list[Choice]]) -> float:
    """Return the share right over all questions with the subject out of Kneser–Ney's sight."""
    counts = {distance: len(some) for distance, some in asked.items() if distance >= ORDER}
    return sum(share[distance] * n for distance, n in counts.items()) / sum(counts.values()) if counts else math.nan


def by_counting(model: Model) -> Better:
    """Return by how much a model of n-grams prefers one form to another."""
    return lambda before, right, wrong: model(right, before[1 - ORDER :]) - model(wrong, before[1 - ORDER :])


counted_right = share_right(by_counting(kneser_ney), questions)
print("Kneser–Ney, right forms by distance:", {distance: round(share, 2) for distance, share in counted_right.items()})

# %% tags=["claim"]
claim(
    "with the subject five words back or more, Kneser–Ney with four words of context is right in exactly half of the cases",
    measured=far_share(counted_right, questions),
    equals=0.5,
    breaks_when={"with the subject next to the verb": counted_right.get(1, math.nan)},
)

# %% [markdown]
r"""
The LSTM has no window. It is trained later, beside our model, for the same time.

## From translator to decoder

Lesson 11's decoder says word after word and hears two things: what it has said, and the memory of the source. **Take the memory away.** What is left of its three sublayers is *communicate* under a causal mask and *compute*: lesson 10's block. A stack of such blocks reads a text and says, at each position, what comes next. That is all of GPT (Radford et al. 2018, 2019):

| | lesson 11 | GPT-2 |
|---|---|---|
| reads | source and target | one text |
| mask | three | causal |
| positions | sinusoids | a learnt vector for each position |
| block | norms anywhere | pre-norm, one more norm at the end |
| feed-forward | ReLU | GELU (its tanh approximation) |
| word vectors | times $\sqrt d$ on the way in | as they are |
| logits | the one table, $x E^\top$ | the same |

No source, no pairs, no labels: any text is training data. A text of $n + 1$ tokens gives $n$ questions with answers, all computed in one pass: position $i$ has heard tokens $0 \dots i$ and is asked for token $i + 1$.

The sizes are kept in one place. `rotary` exchanges the learnt vectors for lesson 09's rotations.
"""

# %%
from course_lib.models.gpt import GPTConfig, CONFIGS  # course: write out

# %% [markdown]
r"""
In long texts attention is what costs: lesson 07's `attention` writes down all $n \times n$ weights of each head, and for a GPU moving them to memory and back takes longer than computing them. **Fused** kernels (FlashAttention, Dao et al. 2022) go through keys and values piece by piece, and keep for each query only the running maximum, the running sum of exponentials and the running average of values; when a new piece has a larger maximum, both sums are rescaled. The same numbers come out, and the $n^2$ weights are never stored. PyTorch has such kernels behind `F.scaled_dot_product_attention`. Two things need care. `is_causal=True` aligns the triangle at the top left (lesson 07), so it is right only where there are as many keys as queries. And weights that were never written cannot be returned.
"""

# %%
from course_lib.models.gpt import fused_causal_attention  # course: write out

# %% tags=["claim"]
gen = run.generator(1)
q, k, v = (torch.randn(2, 3, rows, 8, dtype=torch.float64, generator=gen) for rows in (4, 9, 9))  # (B, h, n, d_head), five keys cached
cached_mask = causal_mask(4, 9)
by_hand = attention(q, k, v, cached_mask)[0]
claim(
    "the fused kernel says what lesson 07's attention says, with keys from a cache too",
    measured=max((fused_causal_attention(q, k, v, cached_mask)[0] - by_hand).abs().max().item(), (fused_causal_attention(k, k, v)[0] - attention(k, k, v, causal_mask(9))[0]).abs().max().item()),
    at_most=1e-12,
    breaks_when={"with is_causal=True, aligned at the top left": (F.scaled_dot_product_attention(q, k, v, is_causal=True) - by_hand).abs().max().item()},
)

# %% [markdown]
r"""
### Exercise: `GPT`

*Difficulty ●●●○○ · about 25 minutes · 5 points*

- **Task.** Write the body of `forward(ids, caches)`. Everything else of the class is given.
- **Input.** `ids` (batch, n), numbers of tokens. `caches`: None, or a list with a `KVCache` for each block, which hold the keys and values of all positions before `ids`; `caches[0].length` says how many.
- **Output.** Logits (batch, n, words), no softmax: row $i$ is about the token behind position $i$.
- **Steps.** Words; positions, only if `self.positions` is a `LearnedPositions` (rotary ones are turned inside the attention): `self.positions(x, start)` adds those from place `start` on; `self.dropout`; the blocks, called as `block(x, mask, cache)`, with the mask of lesson 07's `causal_mask(n_queries, n_keys, device=…)`; `self.norm`; the products with all rows of `self.words.weight`.
- **Edge cases.** With caches the first of the new tokens stands behind those that were read, and hears them all: mind the positions and the mask. More positions than `self.config.max_len`, cached ones included, raise a `ValueError`.

`hint("GPT")` helps.
"""

# %% tags=["exercise"] exercise="GPT"
from course_lib.models.gpt import GPT  # course: write out

# %% tags=["check"] exercise="GPT"
GPT = check("GPT")

# %% [markdown]
r"""
### How many parameters?

GPT-2's smallest model: $V = 50{,}257$ tokens, 1,024 positions, $d = 768$, twelve blocks of twelve heads. Count:

| part | formula | |
|---|---|---:|
| table of words | $V d$ | 38,597,376 |
| table of positions | $1024\, d$ | 786,432 |
| a block's attention | $4(d^2 + d)$ | 2,362,368 |
| a block's network | $8 d^2 + 5d$ | 4,722,432 |
| a block's two norms | $4d$ | 3,072 |
| twelve blocks | | 85,054,464 |
| last norm | $2d$ | 1,536 |
| **together** | | **124,439,808** |

The paper says 117 million (its table 2), the files that were published have 124; the authors called their count an error. On the device "meta" tensors have shapes and no numbers, so even the largest model takes no memory:
"""

# %% tags=["nbval-check-output"]
from course_lib.models.gpt import count_gpt  # course: write out

print(f"{'':<14}{'width':>6}{'heads':>6}{'blocks':>7}{'positions':>10}{'parameters':>15}")
for name, config in CONFIGS.items():
    print(f"{name:<14}{config.d_model:>6}{config.n_heads:>6}{config.n_layers:>7}{config.max_len:>10}{count_gpt(config):>15,}")

# %% [markdown]
r"""
**Change it.** How large is a model of your own choice, and how much of it is the table of words?
"""

# %% tags=["experiment"]
mine = GPTConfig(n_words=2048, max_len=256, d_model=256, n_heads=8, n_layers=6)  # change it
print(f"{count_gpt(mine):,} parameters, {mine.n_words * mine.d_model / count_gpt(mine):.0%} of them in the table of words")

# %% [markdown]
r"""
The two promises of a decoder, on a whole model and before any training: the future is not felt, *at all*; and reading in pieces with caches gives the logits of reading at once.
"""

# %% tags=["claim"]
def hears_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
    """Attend to everything, whatever the mask says."""
    return F.scaled_dot_product_attention(q, k, v), None


def future_felt(**told: Any) -> float:
    """Return how much the logits of ten tokens move when the six behind them are changed."""
    torch.manual_seed(run.seed)
    model = GPT(GPTConfig(50, 16, 24, 3, 2), **told).double()
    initialise(model, n_blocks=2)  # larger weights than GPT-2's, so that everything is felt
    read = torch.randint(50, (2, 16), generator=run.generator(2))
    other = read.clone()
    other[:, 10:] = (other[:, 10:] + 7) % 50
    with torch.no_grad():
        return (model(read) - model(other))[:, :10].abs().max().item()


def cache_error(rotary: bool, keep: bool = True) -> float:
    """Return the largest difference between logits read in pieces and at once."""
    torch.manual_seed(run.seed)
    model = GPT(GPTConfig(50, 16, 24, 3, 2, rotary=rotary)).double()
    initialise(model, n_blocks=2)
    read = torch.randint(50, (2, 16), generator=run.generator(2))
    caches = model.empty_caches(2)
    with torch.no_grad():
        pieces = [model(piece, caches if keep else None) for piece in read.split([7, 1, 5, 3], dim=1)]
        return (torch.cat(pieces, dim=1) - model(read)).abs().max().item()


claim("changing the future changes no logit before it", measured=future_felt(), equals=0.0, breaks_when={"without a causal mask": future_felt(attend=hears_all)})
claim(
    "read in pieces with caches, the logits are those of the whole text: learnt positions and rotary ones",
    measured=max(cache_error(rotary=False), cache_error(rotary=True)),
    at_most=1e-10,
    breaks_when={"without handing on the caches": cache_error(rotary=True, keep=False)},
)

# %% [markdown]
r"""
That the class *is* GPT-2 the course's tests show: with copied weights its logits and all gradients are those of Hugging Face's `GPT2LMHeadModel`, to ten digits.

### Small weights for wide models

GPT-2 draws every weight with standard deviation 0.02 and divides the matrices that write to the stream by $\sqrt{2L}$, $L$ being the number of blocks, since $2L$ sublayers add up there. Where does 0.02 come from? A sum of $d$ products keeps its size if the weights have size $1/\sqrt d$ (lesson 07); for $d = 768$ that is 0.036, and 0.02 is about half of it. **For a narrow model 0.02 is too small**: at $d = 64$ it is a sixth of $1/\sqrt d$. So our small model keeps GPT-2's ratio instead of its number, $0.02 \sqrt{768/d}$. Whether that gains anything with our optimiser is measured below.

## The data

Training text is one long row of tokens, documents with an end mark between them. A batch is $B$ windows of $n$ tokens from random places. Windows do not care about documents: one may begin in the middle of a sentence and reach over an end mark. The model must learn what the mark says, that nothing before it matters; in exchange no position of a batch is wasted on padding.
"""

# %%
from course_lib.training.loop import Windows  # course: write out

# %% tags=["nbval-check-output"]
read, following = next(iter(Windows(torch.arange(100), batch=3, length=5, seed=0)))
print("read:     ", read.tolist())
print("following:", following.tolist())

# %% [markdown]
r"""
The loss is the mean cross-entropy over all $B \cdot n$ positions (in float32, whatever the model computes in). −100 marks a token that does not count, PyTorch's own convention; later lessons use it.
"""

# %%
from course_lib.models.gpt import next_token_loss  # course: write out


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss of a batch of windows."""
    return next_token_loss(model(batch[0]), batch[1])


# %% [markdown]
r"""
## The optimiser

**Adam** (Kingma & Ba 2015), which the course has used since lesson 04, divides a running mean $\mu$ of the gradient $g$ by the root of a running mean $\nu$ of its square. At step $t$, counted from 1, for each weight $w$ with the learning rate $\eta$,

$$\mu \leftarrow \beta_1 \mu + (1 - \beta_1)\, g, \qquad \nu \leftarrow \beta_2 \nu + (1 - \beta_2)\, g^2, \qquad w \leftarrow w - \eta\, \frac{\mu / (1 - \beta_1^t)}{\sqrt{\nu / (1 - \beta_2^t)} + \epsilon} .$$

(Both means begin at 0; the divisions by $1 - \beta^t$ make up for that. $\epsilon$ is tiny and keeps from dividing by 0.) To keep weights small one can add $\tfrac{\lambda}{2} w^2$ to the loss, so $\lambda w$ to $g$. But then the pull towards 0 is divided by $\sqrt \nu$ as well: weights with large gradients are hardly pulled. **AdamW** (Loshchilov & Hutter 2019) takes the pull out of the gradient and applies it to the weight itself, $w \leftarrow w - \eta \lambda w$, for every weight the same share.

Which weights? A matrix multiplies what it reads, and shrinking it makes the function smoother. The scale of a norm, pulled to 0, would silence its layer; a bias does no harm. So **what has two axes or more decays, what has one does not**. The default below, $\beta_2 = 0.95$, is GPT-3's (Brown et al. 2020): a memory of about 20 steps, where Adam's usual 0.999 remembers 1,000.

### Exercise: `configure_optimizer`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

- **Task.** Write `configure_optimizer(model, learning_rate, weight_decay=0.1, betas=(0.9, 0.95))`.
- **Output.** A `torch.optim.AdamW` with two groups: first the parameters with two axes or more, with `weight_decay`; then the others, with a decay of 0. Both have `learning_rate` and `betas`.
- **Edge cases.** A parameter that stands in two places of the model (a shared table) is in its group once. One that needs no gradient (`requires_grad` is False) is in neither.
"""

# %% tags=["exercise"] exercise="configure_optimizer"
from course_lib.training.optimiser import configure_optimizer  # course: write out

# %% tags=["check"] exercise="configure_optimizer"
configure_optimizer = check("configure_optimizer")

# %% [markdown]
r"""
### How fast

In the first steps Adam's means are made of few gradients, and a full step may throw the model off (lesson 11). So the rate $\eta$ rises in a straight line for the first $T_w$ steps (**warm-up**). Then it falls along half a cosine: slowly at first, fast in the middle, slowly at the end, where small steps settle what large ones stirred up. With $T$ steps in all, a peak $\eta_{\max}$, and a floor $\eta_{\min}$,

$$\eta(s) = \begin{cases} \eta_{\max}\,(s + 1)/T_w & s < T_w \\[2pt] \eta_{\min} + (\eta_{\max} - \eta_{\min})\,\tfrac12\Big(1 + \cos \pi\,\dfrac{s - T_w}{T - T_w}\Big) & T_w \le s < T \\[2pt] \eta_{\min} & s \ge T. \end{cases}$$

### Exercise: `lr_at`

*Difficulty ●●○○○ · about 10 minutes · 2 points*

- **Task.** Write `lr_at(step, peak, warmup, total, floor=0.0)`, a float.
- **Input.** `step` $s$, counted from 0; `peak`, `warmup` $T_w$, `total` $T$, `floor`.
- **Edge cases.** No warm-up at all (`warmup` 0); nothing but warm-up (`warmup` = `total`); steps behind the end.
"""

# %% tags=["exercise"] exercise="lr_at"
from course_lib.training.optimiser import lr_at  # course: write out

# %% tags=["check"] exercise="lr_at"
lr_at = check("lr_at")

# %% tags=["experiment"]
shown_steps = list(range(0, 1101, 5))
fig, ax = plt.subplots(figsize=(6.8, 3.0))
rates = {
    "warm-up 100, floor 0": [lr_at(s, 1.0, 100, 1000) for s in shown_steps],
    "warm-up 100, floor a tenth": [lr_at(s, 1.0, 100, 1000, 0.1) for s in shown_steps],
    "no warm-up": [lr_at(s, 1.0, 0, 1000) for s in shown_steps],
}
figures.lines(ax, shown_steps, rates, xlabel="step", ylabel="share of the peak rate")
for line, style in zip(ax.lines, ("-", "--", ":")):
    line.set(marker="", linestyle=style)
ax.legend()
figures.show(
    fig,
    caption="The learning rate of 1,000 steps: a straight rise, half a cosine, and behind the last step the floor.",
    alt="Three curves of learning rate by step. Two rise to the peak at step 100, one starts there; all fall along half a cosine to step 1000, one of them to a tenth of the peak, and stay there.",
)

# %% [markdown]
r"""
### An optimiser for matrices

Adam treats each weight for itself. But the weights of a layer are a matrix, and so is the running mean $M$ of their gradients, the *momentum*. Its singular value decomposition $M = U \Sigma V^\top$ says how far a step along $M$ would move the layer in each direction: far in a few, hardly at all in most. **Muon** (Jordan et al. 2024) takes the nearest matrix whose singular values are all 1, $U V^\top$, and so moves every direction equally far. No decomposition is needed: from $X = M / \lVert M \rVert$ a few rounds of

$$X \leftarrow aX + b\,(XX^\top)X + c\,(XX^\top)^2 X$$

come near. Why: put $X = U \Sigma V^\top$ in, and $U$ and $V^\top$ stay as they are, while each singular value $\sigma$ becomes $a\sigma + b\sigma^3 + c\sigma^5$. The numbers $a, b, c$ are chosen so that this lifts small values fast and holds those near 1 between about 0.7 and 1.2.
"""

# %%
from course_lib.training.muon import orthogonalise  # course: write out

# %% tags=["claim"]
torch.manual_seed(run.seed)
small_gpt = GPT(GPTConfig(V, 64, 64, 4, 2))
loss_of(small_gpt, next(iter(Windows(ids, 4, LENGTH)))).backward()
gradient = small_gpt.get_parameter("blocks.0.feed_forward.up.weight").grad  # (4d, d)
middle = {name: (values.median() / values.max()).item() for name, values in (("itself", torch.linalg.svdvals(gradient)), ("turned", torch.linalg.svdvals(orthogonalise(gradient))))}
claim(
    "made orthogonal, a gradient reaches about as far in its middle direction as in its largest (ratio of their singular values)",
    measured=middle["turned"],
    at_least=0.5,
    breaks_when={"the gradient as it is": middle["itself"]},
)

# %% [markdown]
r"""
Tables of words are no matrices in this sense (each step touches few rows), and vectors have no directions to balance: they stay with AdamW. `configure_muon` in the package makes the two optimisers and lets them step as one; `times` says how much larger Muon's rate is.

### The loop

The rest of a step, in order:

- **Accumulation.** If a batch does not fit into memory, take several small ones, *divide each loss by their number*, and let `backward()` add the gradients up.
- **Autocast.** On a GPU matrix products run in bfloat16: 8 binary digits of mantissa instead of 24, the same range as float32, several times as fast. Weights and optimiser stay in float32.
- **Clipping.** If the norm of all gradients together is above 1, shorten them to 1 (lesson 05): one odd batch must not undo a thousand good ones.
- **The rate** is set for all groups of the optimiser; a group with a number `times` gets as many times that.
"""

# %%
from course_lib.training.loop import Batch, Loss  # noqa: F401 - names of types
from course_lib.training.loop import Trainer  # course: write out

# %% tags=["claim"]
def gradients_of(accumulate: int, divide: bool = True) -> Tensor:
    """Return the gradient of one step on twelve windows, taken in so many batches, as one long vector."""
    torch.manual_seed(run.seed)
    model = GPT(GPTConfig(V, 16, 16, 2, 2)).double()
    read, following = next(iter(Windows(ids, 12, 16, seed=5)))

    class Parts:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(list(zip(read.chunk(accumulate), following.chunk(accumulate))))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(model, batch) * (1 if divide else accumulate)

    Trainer(model, torch.optim.SGD(model.parameters(), lr=0.0), Parts(), loss, clip=None, accumulate=accumulate).run(1)
    return torch.cat([each.grad.flatten() for each in model.parameters()])


whole_batch = gradients_of(1)
claim(
    "three small batches, accumulated, give the gradient of one large batch",
    measured=(gradients_of(3) - whole_batch).abs().max().item(),
    at_most=1e-12,
    breaks_when={"without dividing by their number": (gradients_of(3, divide=False) - whole_batch).abs().max().item()},
)

# %% [markdown]
r"""
## Stop and go on

Training runs for days, and machines fail. Going on must be *exact*, or every interruption is a different experiment. What belongs to the state of a training? The weights; Adam's two means for each of them and the step; where the draw of the windows stands; and the state of the random numbers that dropout uses. `save` and `load` above keep all of it. Is that everything, and is each part needed? Train twelve steps with dropout; then again, but after six write a checkpoint, and go on in a new trainer whose weights and random numbers begin elsewhere.
"""

# %% tags=["experiment"]
def new_trainer(seed: int) -> Trainer:
    """Return a trainer of a tiny model with dropout."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(V, 16, 16, 2, 1, dropout=0.2))
    return Trainer(model, configure_optimizer(model, 0.01), Windows(ids, 4, 16), loss_of, rate=lambda s: lr_at(s, 0.01, 3, 12))


def weights_after(forget: str | None = None) -> Tensor:
    """Return all weights after twelve steps with an interruption; `forget` leaves a part of the state behind."""
    with tempfile.TemporaryDirectory() as folder:
        first, path = new_trainer(run.seed), Path(folder) / "checkpoint.pt"
        first.run(6)
        first.save(path)
        second = new_trainer(run.seed + 1)
        torch.manual_seed(run.seed + 2)
        if forget is not None:
            second.save(Path(folder) / "fresh.pt")
            state, fresh = (torch.load(each, weights_only=True) for each in (path, Path(folder) / "fresh.pt"))
            torch.save({**state, forget: fresh[forget]}, path)
        second.load(path)
        second.run(6)
    return torch.cat([each.detach().flatten() for each in second.model.parameters()])


uninterrupted = new_trainer(run.seed)
uninterrupted.run(12)
whole = torch.cat([each.detach().flatten() for each in uninterrupted.model.parameters()])
drift = {part: (weights_after(part) - whole).abs().max().item() for part in (None, "optimizer", "batches", "random", "step")}
for part, each in drift.items():
    print(f"{'everything kept' if part is None else f'without its {part}':<24}largest difference of a weight {each:.2g}")

# %% tags=["claim"]
claim(
    "resumed training is uninterrupted training, bit for bit: the largest difference of a weight",
    measured=drift[None],
    equals=0.0,
    breaks_when={f"the state without its {part}": each for part, each in drift.items() if part is not None},
)

# %% [markdown]
r"""
## Pretraining

A race needs a fair clock. As in lesson 11 the processor time of one step of each model was measured once, the models taking turns, and recorded (that of a fast step, since a busy machine only makes steps slower); a "second" below is a number of steps by that calibration.

Our model is small: width 64, two blocks, four heads, windows of 64 tokens, eight in a batch. It has rotary positions and ReLU in place of learnt ones and GELU: at this size both learn faster for the same time. (`norm=nn.LayerNorm` computes what lesson 10's does, in one fused operation.) The LSTM has 128 units, vectors of width 96, and the same batches. Both are trained with Muon, and for comparison with AdamW alone. Rates were found by trying, for each of the four.
"""

# %% tags=["experiment"]
WIDTH, LAYERS, HEADS, BATCH = run.pick(smoke=(16, 1, 2, 4), standard=(64, 2, 4, 8), full=(384, 6, 6, 64))
BETAS = (0.9, 0.99)  # a batch of 8 windows is noisy: a longer memory than GPT's own 0.95
PEAK = run.pick(smoke=1e-2, standard=1.6e-2, full=2e-3)  # of AdamW
MUON_PEAK = 0.02


def new_gpt(seed: int = run.seed, std: float | None = None, **changes: Any) -> GPT:
    """Return an untrained model, its weights as large for its width as GPT-2's, or as given."""
    torch.manual_seed(seed)
    config = GPTConfig(V, 4 * LENGTH, WIDTH, HEADS, LAYERS, rotary=True).but(**changes)
    model = GPT(config, norm=nn.LayerNorm, activation="relu")
    initialise(model, n_blocks=config.n_layers, std=std or 0.02 * math.sqrt(768 / config.d_model))
    return model.to(run.device)


class LSTMModel(nn.Module):
    """Lesson 05's language model: vectors, an LSTM, the table of vectors again."""

    def __init__(self, n_words: int, d_model: int, d_hidden: int) -> None:
        super().__init__()
        self.words, self.reader = nn.Embedding(n_words, d_model), nn.LSTM(d_model, d_hidden, batch_first=True)
        self.narrow, self.bias = nn.Linear(d_hidden, d_model), nn.Parameter(torch.zeros(n_words))
        nn.init.normal_(self.words.weight, std=d_model**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.narrow(self.reader(self.words(ids))[0]) @ self.words.weight.T + self.bias  # (B, n, V)


def new_lstm(seed: int = run.seed) -> LSTMModel:
    """Return an untrained LSTM."""
    torch.manual_seed(seed)
    return LSTMModel(V, 3 * WIDTH // 2, 2 * WIDTH).to(run.device)


def trainer_of(model: nn.Module, steps: int, given: Tensor = ids, peak: float = PEAK, muon: bool = True) -> Trainer:
    """Return a trainer that will make so many steps on a text, with Muon for the matrices or with AdamW alone."""
    windows = Windows(given, BATCH, LENGTH, run.seed, run.device)
    optimizer = configure_muon(model, peak, MUON_PEAK / peak, betas=BETAS) if muon else configure_optimizer(model, peak, betas=BETAS)
    return Trainer(
        model, optimizer, windows, loss_of,
        rate=lambda step: lr_at(step, peak, steps // 10, steps), autocast=run.autocast,
    )  # fmt: skip


RUNNERS: dict[str, tuple[Callable[[], nn.Module], float, bool]] = {  # how each is made, AdamW's rate, and whether there is Muon
    "GPT": (new_gpt, PEAK, True),
    "LSTM": (new_lstm, PEAK, True),
    "GPT, AdamW alone": (new_gpt, PEAK, False),
    "LSTM, AdamW alone": (new_lstm, 2 * PEAK, False),
    "GPT, twice the blocks": (lambda: new_gpt(n_layers=2 * LAYERS), PEAK, True),
}


# %% tags=["record"]
def milliseconds_a_step(rounds: int) -> dict[str, float]:
    """Let the models take turns, a training step each; return the processor time of a fast step (one in ten is faster)."""
    trainers, spent = {name: trainer_of(make(), 1000, ids, peak, muon) for name, (make, peak, muon) in RUNNERS.items()}, {name: [] for name in RUNNERS}
    for _ in range(rounds):
        for name, each in trainers.items():
            begin = time.process_time()
            each.run(1)
            spent[name].append(1000 * (time.process_time() - begin))
    return {name: sorted(each)[len(each) // 10] for name, each in spent.items()}


record("milliseconds a step", milliseconds_a_step(rounds=60))

# %% tags=["experiment"]
cost = recorded("milliseconds a step")
SECONDS = run.pick(smoke=0.15, standard=10, full=600)  # of training; change it


def steps_in(seconds: float, name: str) -> int:
    """Return how many training steps a model gets for so many seconds."""
    return max(2, int(1000 * seconds / cost[name]))


for name, each in cost.items():
    print(f"{name:<22}{each:5.1f} ms a step of {BATCH * LENGTH} tokens: {steps_in(SECONDS, name)} steps in {SECONDS} seconds")

# %% [markdown]
r"""
### Writing, for a first look

To watch the model learn, let it write now and then: feed a text, draw a token from the softmax of the last logits, put it behind the text, repeat. `draw` draws; `generate` is the loop. With a cache each new token is read alone (lesson 08).
"""

# %%
from course_lib.models.sampling import Choose
from course_lib.models.sampling import draw, generate  # course: write out

# %% tags=["experiment"]
def write(model: GPT, choose: Choose, n_texts: int, n_new: int, begun: str = "") -> list[list[int]]:
    """Let a model write texts from an end mark on, each up to its own end mark; return their tokens."""
    start = torch.tensor([[END, *(numbers_of(begun) if begun else [])]], device=run.device).expand(n_texts, -1)  # (B, n)
    written = generate(model, start, n_new, choose, stop=[END])[:, 1:].tolist()
    return [row[: row.index(END)] if END in row else row for row in written]


losses_seen: dict[int, str] = {}
model = new_gpt()
steps = steps_in(SECONDS, "GPT")
QUARTER = max(1, steps // 4)
looks = sorted({1, steps // 20, QUARTER, steps})


def look(step: int) -> None:
    """At some steps, let the model write twenty tokens; measure it a quarter of the way."""
    if step in looks:
        torch.manual_seed(run.seed)
        model.eval()
        if step == QUARTER:
            bits_of["GPT, a quarter of the way"] = bits_per_character(model)
        losses_seen[step] = tokenizer.decode(write(model, draw, 1, 22)[0])
        model.train()


trainer = trainer_of(model, steps)
losses = trainer.run(steps, desc="GPT", after=look)
for step, string in losses_seen.items():
    print(f"after {step:>5} steps, loss {losses[step - 1]:.2f}:{string.replace(chr(10), ' ')}")

# %% tags=["experiment"]
bits_of["GPT"] = bits_per_character(model)
untrained_bits = bits_per_character(new_gpt())
for name, each in bits_of.items():
    print(f"{name:<26}{each:.3f} bits per character")

# %% tags=["experiment"]
fig, ax = plt.subplots(figsize=(7.0, 3.4))
smooth = F.avg_pool1d(torch.tensor(losses)[None], kernel_size=min(25, steps), stride=1)[0]  # (steps − 24,)
ax.plot([SECONDS * (i + steps - len(smooth)) / steps for i in range(len(smooth))], smooth, marker="", label="GPT")
ax.axhline(math.log(V), color=figures.PALETTE["grey"], linestyle=":", marker="", label="ln V: every token equally probable")
test_tokens = sum(len(numbers_of(each.text)) + 1 for each in tests)
for name, style in (("Kneser–Ney", "-."), ("exact", "--")):
    ax.axhline(bits_of[name] * math.log(2) * characters / test_tokens, color=figures.PALETTE["black"], linestyle=style, marker="", linewidth=1, label=f"{name}, on new text")
for step in looks[1:]:
    ax.axvline(SECONDS * step / steps, color=figures.PALETTE["grey"], linewidth=0.6, marker="")
ax.set(xlabel="training time (calibrated seconds)", ylabel="loss (nats per token)", ylim=(0, None))
ax.legend()
figures.show(
    fig,
    caption="The loss while the model learns, a mean over 25 steps. It begins at ln V. The thin upright lines are where the model wrote the samples above.",
    alt="A falling curve of loss against time, steep at first; it starts at the dotted line ln V and comes near the line of Kneser-Ney; the exact entropy lies below.",
)

# %% [markdown]
r"""
In the first seconds **counting wins**: the tables took one or two of them to read all of the text, and remember each word of it, while the network has seen a part of it once, and changes its weights a little at each step. What more time brings was recorded (with seed 0): each point is a run of its own with its own schedule, on fresh text. Kneser–Ney got as much text as the networks had read in the longest run.
"""

# %%
predict(
    "race",
    "Seventy seconds of training for GPT and for the LSTM, and as much text for Kneser–Ney. Who is worst then, with the most bits per character?",
    ["GPT", "The LSTM", "Kneser–Ney"],
    answer=2,
    because="Tables keep each run of words for itself: four words that were never seen together say nothing, however well each is known. The networks share what they learn between words and places.",
)

# %% tags=["experiment"]
def prefers(net: nn.Module) -> Callable[[tuple[str, ...], str, str], float]:
    """Return by how much a token model prefers one form of a verb to another."""

    def gain(before: tuple[str, ...], right: str, wrong: str) -> float:
        tokens = [END, *numbers_of(" ".join(before))][-LENGTH:]
        with torch.no_grad():
            logits = net(torch.tensor([tokens], device=run.device))[0, -1].float()  # (V,)
        return (logits[token_of(right)] - logits[token_of(wrong)]).item()

    return gain


# %% tags=["record"]
BUDGETS = [15, 70] if run.scale != "smoke" else [0.05, 0.1]  # seconds of training
many = questions_of(*((8000, 120, 40) if run.scale != "smoke" else (100, 4, 2)))
race = {"budgets": BUDGETS, "questions": {distance: len(some) for distance, some in many.items()}, "bits": {}, "right": {}, "far": {}}
n_read, more = steps_in(BUDGETS[-1], "LSTM, AdamW alone") * BATCH * LENGTH, []  # as much text as one of the networks reads at most
for document in town.iter_documents(seed=run.seed):
    more.append(document.text)
    n_read -= len(document.tokens)
    if n_read <= 0:
        break
more_ids = torch.tensor([END, *(i for each in more for i in (*numbers_of(each), END))])
for name, (make, peak, muon) in RUNNERS.items():
    for seconds in BUDGETS if make in (new_gpt, new_lstm) else BUDGETS[-1:]:
        net, n_steps = make(), steps_in(seconds, name)
        trainer_of(net, n_steps, more_ids, peak, muon).run(n_steps, desc=f"{name}, {seconds} s")
        share = share_right(prefers(net), many)
        race["bits"].setdefault(name, []).append(bits_per_character(net))
        race["far"].setdefault(name, []).append(far_share(share, many))
    race["right"][name] = list(share.items())
small, n_steps = new_gpt(std=0.02), steps_in(BUDGETS[0], "GPT")
trainer_of(small, n_steps, more_ids).run(n_steps, desc="weights of 0.02")
race["weights of 0.02"] = bits_per_character(small)

# %% tags=["record"]
race["counting"] = {"words": [], "seconds": [], "bits": []}
for some in (documents, more):
    begin = time.process_time()
    counted = count([each.split() for each in some], ORDER, KINDS)
    race["counting"]["seconds"].append(time.process_time() - begin)
    race["counting"]["bits"].append(counted_bits(counted, [each.tokens for each in tests], ORDER) / characters)
    race["counting"]["words"].append(sum(len(each.split()) for each in some))
share = share_right(by_counting(counted), many)
race["right"]["Kneser–Ney"], race["far"]["Kneser–Ney"] = list(share.items()), [far_share(share, many)]
record("race", race)

# %% tags=["experiment"]
race = recorded("race")
times, bits, counting = race["budgets"], race["bits"], race["counting"]
print(f"recorded: bits per character after {', '.join(map(str, times))} seconds of training")
for name, each in bits.items():
    print(f"{name:<22}" + "".join(f"{'':>8}" for _ in times[len(each) :]) + "".join(f"{value:8.3f}" for value in each))
for n, seconds, each in zip(counting["words"], counting["seconds"], counting["bits"]):
    print(f"{'Kneser–Ney':<22}{each:8.3f} with {n:,} words, counted in {seconds:.1f} seconds")
print(f"GPT, {times[0]} seconds, first weights of 0.02: {race['weights of 0.02']:.3f}")
fig, ax = plt.subplots(figsize=(7.2, 3.8))
colours = {"GPT": figures.PALETTE["blue"], "LSTM": figures.PALETTE["orange"], "Kneser–Ney": figures.PALETTE["green"]}
for name in ("GPT", "LSTM"):
    (line,) = ax.plot(times, bits[name], label=name, color=colours[name], marker="o" if name == "GPT" else "s")
    alone = f"{name}, AdamW alone"
    ax.plot(times[-len(bits[alone]) :], bits[alone], label=alone, color=colours[name], marker=line.get_marker(), fillstyle="none", linestyle=":", markersize=8)
ax.plot(counting["seconds"], counting["bits"], label="Kneser–Ney", marker="^", color=colours["Kneser–Ney"])
ax.axhline(bits_of["exact"], color=figures.PALETTE["black"], linestyle="--", marker="", linewidth=1.2, label="exact")
ax.plot([SECONDS], [bits_of["GPT"]], linestyle="", marker="x", markersize=8, color=figures.PALETTE["black"], label="GPT, your run")
ax.set(xscale="log", xlabel="training time (calibrated seconds, log scale)", ylabel="bits per character")
ax.set_xticks(ticks := sorted({*times, 2, 5}), labels=[f"{tick:g}" for tick in ticks])
ax.minorticks_off()
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
figures.show(
    fig,
    caption="Whole new documents; lower is better. The networks' points are recorded, each a training of its own; the cross is your own run. Kneser–Ney's time is that of counting: little and much text.",
    alt="Bits per character against time. Kneser-Ney's two points lie far left; the lines of GPT and LSTM come down from above and pass below them; a dashed line near 0.41 is the exact entropy.",
)

# %% tags=["claim"]
claim(
    "training has taught the model most of what separates it from a fair die (share of the way from its start to the exact entropy)",
    measured=(untrained_bits - bits_of["GPT"]) / (untrained_bits - bits_of["exact"]),
    at_least=0.7,
    breaks_when={"before training": 0.0},
)
claim(
    "in the first seconds counting wins: GPT's bits per character, a quarter of the way, minus Kneser–Ney's",
    measured=bits_of["GPT, a quarter of the way"] - bits_of["Kneser–Ney"],
    at_least=0.1,
    breaks_when={"after the longest recorded training": bits["GPT"][-1] - counting["bits"][-1]},
)
claim(
    "recorded: after the longest training both networks need fewer bits per character than Kneser–Ney on as much text (the smaller lead)",
    measured=counting["bits"][-1] - max(bits["GPT"][-1], bits["LSTM"][-1]),
    at_least=0.05,
    breaks_when={"your own run a quarter of the way, and Kneser–Ney on less text": bits_of["Kneser–Ney"] - bits_of["GPT, a quarter of the way"]},
)
claim(
    "recorded: there the two networks are close to each other (the larger difference, with Muon and without)",
    measured=max(abs(bits["GPT"][-1] - bits["LSTM"][-1]), abs(bits["GPT, AdamW alone"][-1] - bits["LSTM, AdamW alone"][-1])),
    at_most=0.03,
    breaks_when={"GPT and Kneser–Ney": counting["bits"][-1] - bits["GPT"][-1]},
)
claim(
    "recorded: after the shortest training GPT with Muon needs fewer bits per character than with AdamW alone",
    measured=bits["GPT, AdamW alone"][0] - bits["GPT"][0],
    at_least=0.01,
    breaks_when={"the other way round": bits["GPT"][0] - bits["GPT, AdamW alone"][0]},
)

# %% [markdown]
r"""
On average the two networks end close together, and well ahead of counting. Muon's lead for GPT is one of the first seconds: given longer, AdamW alone ends about where Muon does. (Each of them got the rate that suits it: with AdamW alone the LSTM wants twice GPT's, and at GPT's rate it would seem worse than it is. Who compares must give both sides the same care.) First weights of GPT-2's 0.02 cost little or nothing here: Muon's steps have the same size whatever the weights are.

### Out of sight

And where Kneser–Ney cannot win?
"""

# %% tags=["experiment"]
right_of = {name: {int(distance): share for distance, share in pairs} for name, pairs in race["right"].items()}
print(f"recorded, {times[-1]} seconds; questions by distance: {race['questions']}")
for name, share in right_of.items():
    print(f"{name:<22}" + "".join(f"  {distance}: {right:.2f}" for distance, right in share.items()) + f"   from {ORDER} on: {race['far'][name][-1]:.2f}")
print(f"{'GPT, your run':<22}" + "".join(f"  {distance}: {right:.2f}" for distance, right in share_right(prefers(model), questions).items()))
fig, ax = plt.subplots(figsize=(7.6, 3.6))
for name, marker in (("LSTM", "s"), ("GPT", "o"), ("Kneser–Ney", "^")):
    ax.plot(list(right_of[name]), list(right_of[name].values()), label=name, color=colours[name], marker=marker)
ax.axvline(ORDER - 0.5, color=figures.PALETTE["grey"], linestyle=":", marker="", linewidth=1)
ax.set(xlabel="distance from the verb back to its subject (words)", ylabel="right form more probable (share)", ylim=(0.45, 1.03))
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
figures.show(
    fig,
    caption="Which form has the verb? To the right of the dotted line the subject is out of Kneser–Ney's sight, and it is right exactly half of the time, whatever it has read.",
    alt="Share of right verb forms against distance. Kneser-Ney is at exactly one half from five words on; the networks trained with Muon lie above it.",
)

# %% tags=["claim"]
claim(
    "recorded: with the subject five words back or more the LSTM mostly chooses the right form (share, with AdamW alone)",
    measured=race["far"]["LSTM, AdamW alone"][-1],
    at_least=0.8,
    breaks_when={"Kneser–Ney": race["far"]["Kneser–Ney"][-1], "GPT, after as many seconds": race["far"]["GPT, AdamW alone"][-1], "the LSTM, after the shortest training": race["far"]["LSTM, AdamW alone"][0]},
)
claim(
    "recorded: GPT has begun to (share, with Muon)",
    measured=race["far"]["GPT"][-1],
    at_least=0.6,
    breaks_when={"Kneser–Ney": race["far"]["Kneser–Ney"][-1], "GPT, after the shortest training": race["far"]["GPT"][0]},
)

# %% [markdown]
r"""
Kneser–Ney *cannot* win there, and does not. But the winner is not the one you might have expected. On average the two networks need nearly the same bits; here the LSTM is ahead. It has learnt to carry the subject's number along. GPT could look straight at the subject, and in this time has only begun to. Why? The rows above, one run each, try some answers:

- *The optimiser?* With Muon GPT is right about as often as with AdamW alone, or a little more often; that does not close the gap.
- *The depth?* Twice the blocks help, at the same time and so with fewer steps, though the average over all tokens is no better for it.
- *The time?* After the shorter training nobody has learnt it, the LSTM neither: it comes late, when the average has long been good.

That fits what must be computed. At the verb GPT has to know that the clause between has come to its end before it can look for the noun in front of it, and two blocks are two looks. An LSTM changes its state at each word, and so computes as deep as the sentence is long. An average over all tokens hides all of this: ask a model about what you want to know.
"""

# %% [markdown]
r"""
## Writing

The model gives a distribution over all tokens; what to do with it is another question. Drawing from it as it is follows the model faithfully, its mistakes too: each single token of the long tail is improbable, but together the tail holds a good share, and one absurd token spoils the rest of the text. Always taking the most probable token (greedy) is safe and dull, and tends to run in circles. What lies between has four names. Let $z_i$ be the logits and $p_i = e^{z_i} / \sum_j e^{z_j}$.

**Temperature** $\tau > 0$ divides the logits:

$$p_i(\tau) = \frac{e^{z_i/\tau}}{\sum_j e^{z_j/\tau}} = \frac{p_i^{1/\tau}}{\sum_j p_j^{1/\tau}} .$$

For $\tau \to 0$ all goes to the largest logit, for $\tau \to \infty$ to the uniform distribution; ratios $p_i/p_j$ become $(p_i/p_j)^{1/\tau}$. No token is ever excluded.

The other three *cut* and renormalise what is left:

- **top-k** (Fan et al. 2018) keeps the $k$ most probable tokens. Where one token is certain, $k$ is too many; where a hundred are possible, too few.
- **top-p** or *nucleus* (Holtzman et al. 2020) keeps the fewest most probable tokens that reach the share $p$ together: few where the model is sure, many where it is not.
- **min-p** (Nguyen et al. 2024) keeps the tokens with $p_i \ge p_{\min} \cdot \max_j p_j$: the bar is relative to the best.
"""

# %%
from course_lib.models.sampling import keep_top_k, keep_top_p, keep_min_p  # course: write out

# %% [markdown]
r"""
### Drawing with a uniform number

`torch.multinomial` draws for us. How would you draw with nothing but a uniform random number $u$ between 0 and 1? Lay the tokens side by side on a line, each as wide as its probability; together they are 1 wide. The token that lies above $u$ is drawn, with exactly its probability. (The running sum is the distribution function, and looking up $u$ in it is its inverse.) For nucleus sampling sort first: then what is kept is the beginning of the line, and its length, less than 1, is stretched to 1.

By hand: probabilities 0.5, 0.3, 0.2 and $p = 0.7$. The first token has 0.5 < 0.7, so the second is needed; together 0.8, enough. Kept are 0.5 and 0.3, 0.8 in all. $u = 0.6$ points to $0.6 \cdot 0.8 = 0.48 < 0.5$: the first token. $u = 0.7$ points to 0.56: the second.

### Exercise: `sample_top_p`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

- **Task.** Write `sample_top_p(logits, p, u)`.
- **Input.** `logits` (batch, words); `p`, above 0 and at most 1; `u` (batch,), a uniform number for each row, at least 0 and below 1.
- **Output.** The drawn tokens, (batch,), whole numbers. The kept tokens lie side by side from the most probable to the least; of equal ones the smaller number first (`sort(dim=-1, descending=True, stable=True)` sees to it).
- **Edge cases.** The token that reaches p is kept, so one always is. Tokens with logit −∞ are never drawn, even with `p` = 1 and `u` near 1, where rounding may leave `u` beyond the last edge. No `torch.multinomial`: it has random numbers of its own.
"""

# %% tags=["exercise"] exercise="sample_top_p"
from course_lib.models.sampling import sample_top_p  # course: write out

# %% tags=["check"] exercise="sample_top_p"
sample_top_p = check("sample_top_p")

# %% [markdown]
r"""
A sampler is right if what it draws has the right *distribution*, and that one cannot see by looking at a few tokens. Let $q_i$ be the share that token $i$ should have. Draw $M$ tokens, of which $M q_i$ are expected to be token $i$, and compare with the counts $c_i$: $\chi^2 = \sum_i (c_i - M q_i)^2 / (M q_i)$. For a right sampler this is near the number of kept tokens minus 1, and exceeds a known critical value once in a thousand times.
"""

# %% tags=["claim"]
def misfit(tokens: Tensor, shares: Tensor) -> float:
    """Return chi-square divided by the value that a right sampler exceeds once in a thousand times."""
    expected = shares * len(tokens)
    counts = torch.bincount(tokens, minlength=len(shares)).double()
    statistic = ((counts - expected).square() / expected.clamp(min=1e-3)).sum().item()  # a token that is cut off counts a thousandfold
    return statistic / chi2.ppf(0.999, int((shares > 0).sum()) - 1)


N_DRAWS = run.pick(smoke=2000, standard=20_000, full=200_000)
zipf = (1 / torch.arange(1, 31, dtype=torch.float64))[torch.randperm(30, generator=run.generator(6))]  # (30,), in mixed order
logits = zipf.log().expand(N_DRAWS, -1)  # (N, 30)
kept = keep_top_p(zipf.log()[None], 0.8)[0].softmax(-1)  # (30,)
u = torch.rand(N_DRAWS, dtype=torch.float64, generator=run.generator(7))
fitting = misfit(sample_top_p(logits, 0.8, u), kept)
claim(
    "sample_top_p draws each token with its share of what was kept (chi-square over its critical value at 1 in 1,000)",
    measured=fitting,
    at_most=1.0,
    breaks_when={
        "with p a little larger": misfit(sample_top_p(logits, 0.83, u), kept),
        "drawn from the softmax of what was kept": misfit(draw(torch.where(kept > 0, kept, -torch.inf).expand_as(logits), run.generator(8)), kept),
        "drawn from all tokens": misfit(draw(logits, run.generator(8)), kept),
    },
)

# %% [markdown]
r"""
### What each does to one distribution
"""

# %% tags=["experiment"]
def cut(logits: Tensor, settings: Settings) -> Tensor:
    """Apply a temperature, then the cuts: (B, V) -> (B, V)."""
    logits = logits / settings.get("temperature", 1.0)
    if settings.get("k", 50) < 50:
        logits = keep_top_k(logits, int(settings["k"]))
    if settings.get("p", 1.0) < 1:
        logits = keep_top_p(logits, settings["p"])
    return keep_min_p(logits, settings.get("min_p", 0.0))


@torch.no_grad()
def next_shares(begun: str, settings: Settings, n: int = 12) -> Shares:
    """Return the n most probable next tokens, their probabilities, and those that are drawn from."""
    tokens = [END, *numbers_of(begun)] if begun.strip() else [END]
    logits = model(torch.tensor([tokens[-LENGTH:]], device=run.device))[:, -1].float().cpu()  # (1, V)
    best = logits[0].topk(n).indices.tolist()
    before, after = logits[0].softmax(-1), cut(logits, settings)[0].softmax(-1)  # (V,)
    names = [tokenizer.decode([i]).replace(" ", "·") for i in best]
    return names, before[best].tolist(), after[best].tolist()


BEGUN = "the king"  # change it
ways: dict[str, Settings] = {
    "temperature 0.5": {"temperature": 0.5}, "temperature 2": {"temperature": 2.0}, "top-k, k = 4": {"k": 4},
    "top-p, p = 0.5": {"p": 0.5}, "min-p, 0.2": {"min_p": 0.2}, "0.7 and top-p 0.9": {"temperature": 0.7, "p": 0.9},
}  # fmt: skip
fig, axes = plt.subplots(2, 3, figsize=(10.5, 6.2), sharex=True)
for ax, (name, settings) in zip(axes.flat, ways.items()):
    names, before, after = next_shares(BEGUN, settings)
    draw_next(names, before, after, name, ax)
    if ax not in axes[1]:
        ax.set_xlabel("")
    ax.set_xlim(0, 1.1 * max(0.1, *(share for each in ways.values() for share in next_shares(BEGUN, each)[2])))
axes[0, 0].legend(loc="lower right", fontsize=8)
figures.show(
    fig,
    caption=f"The twelve most probable tokens behind “{BEGUN}”, in the model (grey) and in what is drawn from (blue). Temperature changes all shares and cuts none; the other three cut the tail and share it out among those that stay.",
    alt="Six panels of horizontal bars for the same twelve tokens. Temperature 0.5 makes the first bars longer and the last shorter, temperature 2 makes all nearly equal; with the three cuts some tokens are marked cut off and the others grow.",
)

# %% [markdown]
r"""
Which of them suits a text, and which a single token? Try it: the view writes with your own model. *Question:* find a place where top-k with $k = 4$ keeps tokens that make no sense, and one where it cuts off tokens that do. What does top-p with 0.9 keep at either place?
"""

# %% tags=["widget", "nbval-ignore-output"]
def write_on(begun: str, settings: Settings, n_new: int) -> str:
    """Write some more tokens behind a text."""
    tokens = [END, *numbers_of(begun)] if begun.strip() else [END]
    start = torch.tensor([tokens[-LENGTH // 2 :]], device=run.device)
    written = generate(model, start, n_new, lambda logits: draw(cut(logits, settings)), stop=[END])[0, start.shape[1] :].tolist()
    return (begun + tokenizer.decode(each for each in written if each != END)).strip() or begun


display(SamplerView(next_shares, write_on, BEGUN))

# %% [markdown]
r"""
### What each does to a text

Riverbank can judge a text exactly. Let the model write the beginnings of documents, and ask the grammar of each first sentence whether any document of the town could begin so. Grammar here is strict, and knows facts: *carl is a doctor* is no sentence of the town if he is a baker. The measure of **correctness** is the share of sentences that are accepted (of the town's own, all are). The measure of **variety** is the number of different words among the first 500 that these sentences hold.
"""

# %% tags=["experiment"]
ENDERS = {".", "?", "!"}
N_TEXTS, N_NEW, N_WORDS = run.pick(smoke=(6, 12, 40), standard=(120, 24, 500), full=(1000, 40, 3000))


@cache
def can_begin(sentence: tuple[str, ...]) -> bool:
    """Tell whether some document of the town begins with this sentence."""
    return town.prefix_log_prob(list(sentence)) > -math.inf


def judge(texts: list[list[int]]) -> tuple[float, int]:
    """Return the share of first sentences that the grammar accepts, and the number of different words among their first."""
    accepted, written_words = [], []
    for tokens in texts:
        said = tokenizer.decode(tokens).split()
        end = next((i for i, word in enumerate(said) if word in ENDERS), None)
        if end is not None:  # else it did not come to its end
            accepted.append(can_begin(tuple(said[: end + 1])))
            written_words += said[: end + 1]
    return sum(accepted) / max(1, len(accepted)), len(set(written_words[:N_WORDS]))


settings_of: dict[str, Settings] = {
    "temperature 0.3": {"temperature": 0.3}, "temperature 0.7": {"temperature": 0.7}, "as it is": {}, "temperature 1.3": {"temperature": 1.3},
    "top-k, k = 3": {"k": 3}, "top-k, k = 20": {"k": 20}, "top-p, p = 0.5": {"p": 0.5}, "min-p, 0.3": {"min_p": 0.3}, "min-p, 0.05": {"min_p": 0.05},
}  # fmt: skip
judged: dict[str, tuple[float, int]] = {}
for name, settings in settings_of.items():
    torch.manual_seed(run.seed)
    texts = write(model, lambda logits: draw(cut(logits, settings)), N_TEXTS, N_NEW)  # noqa: B023
    judged[name] = judge(texts)
    print(f"{name:<16}{judged[name][0]:6.1%} accepted, {judged[name][1]:>4} words:{tokenizer.decode(texts[0][:14])} …")
greedy = write(model, lambda logits: logits.argmax(-1), 2, LENGTH - 2)
print(f"{'greedy':<16}the same text every time:{tokenizer.decode(greedy[0][:40])} …")
own = judge([numbers_of(each.text)[:60] for each in tests])
print(f"{'the town itself':<16}{own[0]:6.1%} accepted, {own[1]:>4} words")

# %% tags=["experiment"]
fig, ax = plt.subplots(figsize=(7.2, 4.2))
families = {"temperature": ["temperature 0.3", "temperature 0.7", "as it is", "temperature 1.3"], "top-k": ["top-k, k = 3", "top-k, k = 20", "as it is"], "top-p": ["top-p, p = 0.5", "as it is"], "min-p": ["min-p, 0.3", "min-p, 0.05", "as it is"]}
places = {"temperature": (6, 5), "top-k": (-16, -11), "top-p": (-4, -13), "min-p": (-12, 8)}  # of the numbers beside the points
for family, names in families.items():
    ax.plot([judged[name][1] for name in names], [judged[name][0] for name in names], label=family)
    for name in names:
        if name != "as it is" or family == "temperature":
            ax.annotate(name.split()[-1] if name != "as it is" else name, (judged[name][1], judged[name][0]), textcoords="offset points", xytext=places[family], fontsize=8)
ax.plot([own[1]], [own[0]], marker="*", markersize=13, linestyle="", color=figures.PALETTE["black"], label="the town itself")
ax.set(xlabel=f"variety: different words among the first {N_WORDS}", ylabel="sentences that the grammar accepts (share)")
ax.set_ylim(0, None)
ax.legend()
figures.show(
    fig,
    caption="Correctness is bought with variety, whichever of the four one turns. Each point is one setting, the number its value; the lines meet where nothing is changed. The star is the town: a model that has learnt all would need none of the four.",
    alt="Scatter of accepted sentences against different words, a line for each of temperature, top-k, top-p and min-p. From the point where nothing is changed all lines go up and to the left as the setting becomes stricter; a temperature of 1.3 lies below and to the right. A star for the town itself lies at the top.",
)

# %% tags=["claim"]
claim(
    "top-p with 0.5 makes the grammar accept more sentences than drawing as it is (share gained)",
    measured=judged["top-p, p = 0.5"][0] - judged["as it is"][0],
    at_least=0.05,
    breaks_when={"a temperature of 1.3": judged["temperature 1.3"][0] - judged["as it is"][0]},
)
claim(
    "and costs variety (different words lost of 500)",
    measured=judged["as it is"][1] - judged["top-p, p = 0.5"][1],
    at_least=30,
    breaks_when={"a temperature of 1.3": judged["as it is"][1] - judged["temperature 1.3"][1]},
)

# %% [markdown]
r"""
### What the cache saves

With a cache a new token is read alone; without, everything is read again. The same tokens must come out, given the same random numbers.
"""

# %% tags=["claim"]
def written_with(cached: bool, forgetful: bool = False) -> Tensor:
    """Write with the same random numbers, with a cache or without."""
    gen, start = run.generator(9), torch.full((8, 1), END, device=run.device)

    def choose(logits: Tensor) -> Tensor:
        return sample_top_p(logits.float().cpu(), 0.9, torch.rand(8, generator=gen)).to(run.device)

    if not forgetful:
        return generate(model, start, LENGTH - 2, choose, cached=cached)
    for _ in range(LENGTH - 2):  # the newest token alone, without what was before it
        with torch.no_grad():
            start = torch.cat([start, choose(model(start[:, -1:])[:, -1])[:, None]], dim=1)
    return start


with_cache, without = written_with(True), written_with(False)
claim(
    "with a cache the same tokens are written (share)",
    measured=(with_cache == without).float().mean().item(),
    at_least=1.0,
    breaks_when={"if only the newest token is read, and no cache": (written_with(True, forgetful=True) == without).float().mean().item()},
)
timed = {cached: median_time(lambda: written_with(cached), warmup=1, repeats=run.pick(smoke=1, standard=3, full=7), device=run.device).median for cached in (True, False)}  # noqa: B023
print(f"{8 * (LENGTH - 2)} tokens: {1000 * timed[True]:.0f} ms with a cache, {1000 * timed[False]:.0f} ms without")
claim("with a cache writing takes less time", measured=timed[False] / timed[True], at_least=1.3, timing=True)

# %% [markdown]
r"""
## What it costs

**Operations.** Let $N$ be the number of parameters, without the table of positions. A multiplication and an addition for each parameter and token make about $2N$ operations forward, and twice as many backward: $6N$ per token of training. Attention's meetings of queries and keys come on top, $12 L d n$ per token (forward and backward, the causal half not taken off). Chowdhery et al. (2022, appendix B) divide the operations *needed*, $(6N + 12Ldn) \times$ tokens per second, by the peak of the hardware, and call the quotient **model FLOPs utilisation**, MFU.

**Memory.** AdamW in float32 keeps four numbers for each parameter, 16 bytes: weight, gradient, two means.

The last column is for one GPU with a peak of 989 TFLOP/s (an H100 in bfloat16) at an MFU of 40 %.
"""

# %% tags=["experiment"]
def flops_per_token(config: GPTConfig, length: int) -> int:
    """Return the operations of training on one token, forward and backward."""
    without_positions = count_gpt(config) - config.max_len * config.d_model
    return 6 * without_positions + 12 * config.n_layers * config.d_model * length


print(f"{'':<14}{'training memory':>16}{'operations a token':>20}{'days for 10 billion tokens':>28}")
for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"):
    config = CONFIGS[name]
    each = flops_per_token(config, config.max_len)
    print(f"{name:<14}{16 * count_gpt(config) / 2**30:>12.1f} GiB{each / 1e9:>15.2f} G{each * 1e10 / (0.4 * 989e12) / 86_400:>28.1f}")

# %% [markdown]
r"""
On a GPU three things bring the utilisation up: bfloat16, `torch.compile` (which fuses number-by-number operations into few kernels), and large batches. On a CPU without matrix units for bfloat16 the first makes it slower, and compiling takes longer than our whole training.
"""

# %% tags=["nbval-ignore-output"]
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12, "4090": 165e12, "3090": 71e12}  # dense, 16 bits, by the makers' data sheets


def throughput(name: str, batch: int, steps: int) -> None:
    """Train GPT-2 on random tokens; print tokens a second and MFU, plain and with each of the three."""
    config = CONFIGS[name].but(n_words=50_304)  # a multiple of 64 suits the hardware
    device_name = torch.cuda.get_device_name(run.device)
    peak = next((each for key, each in PEAKS.items() if key in device_name), None)
    random_ids = torch.randint(config.n_words, (10_000_000,))
    for label, mixed, compiled in (("float32", False, False), ("bfloat16", True, False), ("bfloat16, compiled", True, True)):
        torch.manual_seed(run.seed)
        plain = GPT(config, norm=nn.LayerNorm).to(run.device)
        each = Trainer(
            torch.compile(plain) if compiled else plain, configure_optimizer(plain, 6e-4), Windows(random_ids, batch, config.max_len, device=run.device),
            loss_of, autocast=run.autocast if mixed else nullcontext,
        )  # fmt: skip
        each.run(3)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        each.run(steps)
        torch.cuda.synchronize()
        rate = steps * batch * config.max_len / (time.perf_counter() - begin)
        used = f", MFU {rate * flops_per_token(config, config.max_len) / peak:.0%} of {peak / 1e12:.0f} TFLOP/s" if peak else ""
        print(f"{label:<20}{rate:>10,.0f} tokens a second{used}")


if run.device.type == "cuda":
    try:
        throughput(*run.pick(smoke=("nano", 2, 2), standard=("gpt2", 8, 10), full=("gpt2", 32, 50)))
    except torch.cuda.OutOfMemoryError:
        print("This GPU's memory is too small for these batches: call throughput with a smaller one.")
else:
    print("No CUDA device here: with one, this cell trains GPT-2 (124M) for a few steps and prints tokens a second and MFU.")

# %% [markdown]
r"""
## A faster small GPT

GPT-2 is from 2019. What has been learnt since about training a small model in little time? `benchmarks/fast_gpt.py` takes a published recipe (tinyshakespeare, characters, four blocks of width 128, 2,000 steps of 12 × 64 characters) and reaches its loss in a fraction of its time. What the parts do, each in a few lines:

**Rotary positions** (Su et al. 2021; lesson 09). Queries and keys are turned by their position, $q_m^\top k_n = q^\top R^{\,n-m}\, k$, so the score depends on the distance, which need not be learnt for each position anew. Nothing is added to the stream.

**RMS norm without weights** (Zhang & Sennrich 2019). $x / \sqrt{\tfrac1d \sum_i x_i^2 + \epsilon}$: no mean, no scale, no shift. The matrix behind it can learn the scale; fewer small operations are left.

**QK norm** (Henry et al. 2020). Queries and keys are RMS-normalised before they meet, so that a score is $\sqrt{d_k}$ times a cosine at most, however large the weights become. The softmax cannot saturate early, and higher learning rates stay stable.

**Squared ReLU** (So et al. 2021). $\max(0, x)^2$ in the feed-forward network, as cheap as ReLU: one of the two changes to which its authors, who let a search find better architectures, trace most of their gain.

**Zero-initialised projections.** The matrices that write to the stream, and the one that makes logits, start at 0. Every block is the identity at first and the first loss is exactly $\ln V$; each block then grows from nothing, in the direction of its gradient.

**Muon**, as above.

**Logit soft-cap** (Gemma 2, 2024). $c \tanh(z / c)$ in place of $z$: no logit beyond $\pm c$, so no token's loss and gradient can run away; near 0 nothing changes.

**Bigram and trigram tables.** Vectors looked up by the last *two* and *three* tokens (three through a hash) are added to the word's own. What counting knows need not pass through attention. It is lesson 04 inside of lesson 13.

How much is each worth? The benchmark leaves out one at a time.
"""

# %% tags=["nbval-ignore-output"]
places = [Path(folder) / "benchmarks" / "fast_gpt.json" for folder in (".", "..", Path(figures.__file__).parents[2])]
fast_gpt = next((json.loads(each.read_text(encoding="utf-8")) for each in places if each.is_file()), None)
if fast_gpt is None:
    print("benchmarks/fast_gpt.json is not here: `python benchmarks/fast_gpt.py --ablation` in the course's repository writes it.")
else:
    fig, (ax, bars) = plt.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=[1, 1.25])
    for name, label, marker in (("baseline", f"published recipe, {fast_gpt['baseline steps']:,} steps", "o"), ("fast", f"this model, {fast_gpt['fast steps']:,} steps", "s")):
        spent, reached = (sorted(each[name][key] for each in fast_gpt["rounds"]) for key in ("seconds", "loss"))
        (points,) = ax.plot([each[name]["seconds"] for each in fast_gpt["rounds"]], [each[name]["loss"] for each in fast_gpt["rounds"]], linestyle="", marker=marker, label=label)
        ax.plot(spent[len(spent) // 2], reached[len(reached) // 2], linestyle="", marker=marker, markersize=13, fillstyle="none", color=points.get_color())
        print(f"{name:<9} median {spent[len(spent) // 2]:6.1f} seconds, loss {reached[len(reached) // 2]:.3f} nats per character")
    print(f"the same loss or less in 1/{fast_gpt['ratio']:.0f} of the time (median of the rounds)")
    ax.set(xscale="log", xlabel="seconds of training (log scale)", ylabel="validation loss (nats per character)", ylim=(1.8, 2.0))
    ax.set_xticks([10, 20, 50, 100, 200], labels=["10", "20", "50", "100", "200"])
    ax.minorticks_off()
    ax.legend(loc="upper center")
    whole = [each["loss"] for each in fast_gpt["ablation"]["all parts"]]
    lost = {name: [each["loss"] - base for each, base in zip(runs, whole)] for name, runs in fast_gpt["ablation"].items() if name != "all parts"}
    names = sorted(lost, key=lambda name: sum(lost[name]))
    for row, each in enumerate(lost[name] for name in names):
        mean = sum(each) / len(each)
        bars.barh(row, mean, color=figures.PALETTE["blue"], height=0.6)
        bars.plot(each, [row] * len(each), linestyle="", marker="o", markersize=3.5, color=figures.PALETTE["black"])
        bars.annotate(f"{mean:+.3f}", (max(*each, 0.0), row), textcoords="offset points", xytext=(6, -3.5), fontsize=8)
    bars.set_yticks(range(len(names)), names, fontsize=8)
    bars.set(xlabel="loss above that of all parts (same seed)", xlim=(-0.02, 0.27))
    bars.axvline(0, color=figures.PALETTE["black"], linewidth=0.8, marker="")
    bars.grid(visible=False, axis="y")
    figures.show(
        fig,
        caption="Left: three rounds of each, and the medians (large outlines). Right: what each change costs after the same number of steps. Bars are means of three seeds, dots the seeds.",
        alt="Left, loss against seconds: three points near ten seconds lie as low as or lower than three points between a hundred and two hundred. Right, bars: without both tables the loss rises by about 0.2, without the table for triples by 0.09, with learnt positions by 0.04, with Adam by 0.02; the other six bars are near zero.",
    )

# %% [markdown]
r"""
Most of the gain comes from the tables: on this small text, in this short time, counting inside of the network is worth more than everything else together. Rotary positions come next, then Muon. **QK norm, squared ReLU, silent starts and the logit cap brought nothing measurable here**, each less than the seeds differ among themselves; so did a second, third and fourth block. That says nothing against them at other sizes: they were made for larger models and longer training. It does say that a list of modern parts is no explanation, and that an ablation costs a few lines.
"""

# %% [markdown]
r"""
## Real text

The same cells on text that people wrote: **Python's manual**, which every machine has, in tokens of its own BPE. Whole topics are held out. The baselines are Kneser–Ney on the same tokens and, for the whole of the text, what lesson 05's LSTM reached on characters (as recorded there, after ten readings of it).
"""

# %% tags=["experiment"]
def read_real(train: str, test: str, n_tokens: int, seconds: float, desc: str) -> tuple[dict[str, float], str]:
    """Pretrain on a real text; return the held-out bits per character of GPT and of Kneser–Ney, and what GPT writes."""
    cutter = Tokenizer.train(train, n_tokens)
    numbers, held = (torch.tensor(cutter.encode(each)) for each in (train, test))
    net = new_gpt(n_words=cutter.n_words)
    n_steps = steps_in(seconds, "GPT")
    trainer_of(net, n_steps, numbers).run(n_steps, desc=desc)
    nats = 0.0
    half = LENGTH // 2
    with torch.no_grad():  # windows that overlap by half; the first half of each is not counted
        for begin in range(0, len(held) - LENGTH - 1, half * 32):
            starts = torch.arange(begin, min(begin + half * 32, len(held) - LENGTH - 1), half)  # (B,)
            window = held[starts[:, None] + torch.arange(LENGTH + 1)].to(run.device)  # (B, n + 1)
            nats += F.cross_entropy(net(window[:, :-1])[:, half:].float().flatten(0, 1), window[:, half + 1 :].flatten(), reduction="sum").item()
    counted = len(cutter.decode(held[half + 1 : half + 1 + half * len(range(0, len(held) - LENGTH - 1, half))].tolist()))
    pieces = [[str(each) for each in some.tolist()] for some in (numbers, held)]
    by_counting = counted_bits(count(pieces[:1], 3, cutter.n_words + 1), pieces[1:], 3)
    bits = {"GPT": nats / math.log(2) / counted, "Kneser–Ney, n = 3": by_counting / len(test)}
    torch.manual_seed(run.seed)
    start = torch.tensor([cutter.encode("The ")], device=run.device)
    return bits, cutter.decode(generate(net, start, run.pick(smoke=8, standard=60, full=200), lambda logits: draw(keep_top_p(logits / 0.8, 0.9)))[0].tolist())


# %% tags=["experiment"]
parts = text.python_manual().split((0.9, 0.1))
manual = [each.text[: run.pick(smoke=6000, standard=10**9, full=10**9)] for each in parts]
real_bits, sample = read_real(*manual, n_tokens=run.pick(smoke=300, standard=1024, full=2048), seconds=run.pick(smoke=0.1, standard=4, full=300), desc="Python's manual")
for name, each in real_bits.items():
    print(f"{name:<20}{each:.2f} bits per character")
lesson_05 = recorded("the manual, read ten times", lesson=5)
print(f"lesson 05's LSTM, ten readings, on another part of the manual: {lesson_05:.2f} (recorded)" if lesson_05 is not None else "")
print("\nIt writes:", " ".join(sample.split()))

# %% [markdown]
r"""
In a few seconds of training counting is ahead on real text as well.

**Tinyshakespeare**, a megabyte of plays by characters, is what small GPTs are compared on. The published recipe for a CPU (four blocks, width 128, 2,000 steps) ends near a validation loss of 1.88 nats per character, 2.71 bits. At *standard* a taste is run, if you have fetched the text (`course data fetch tinyshakespeare`); at *full* a good deal more than that recipe.
"""

# %% tags=["nbval-ignore-output"]
shakespeare = registry.load_or_none("tinyshakespeare")
if shakespeare is not None:
    cut_at = int(0.9 * len(shakespeare))
    plays = shakespeare[: run.pick(smoke=4000, standard=cut_at, full=cut_at)], shakespeare[cut_at:][: run.pick(smoke=2000, standard=40_000, full=10**9)]
    bits, sample = read_real(*plays, n_tokens=256 + run.pick(smoke=20, standard=768, full=768), seconds=run.pick(smoke=0.1, standard=4, full=300), desc="Shakespeare")
    for name, each in bits.items():
        print(f"{name:<20}{each:.2f} bits per character")
    print(sample)

# %% [markdown]
r"""
**GPT-2 itself.** Download a published GPT-2 once (the two files `config.json` and `model.safetensors`, 0.5 GB for the smallest) and name its folder. The tokenizer's files are `course data fetch gpt2_bpe`. The loader turns round what the files store the other way, and copies each tensor to its place:
"""

# %%
from course_lib.models.gpt import copy_gpt2, load_gpt2  # noqa: F401 - read them: `copy_gpt2??`

GPT2_FOLDER = os.environ.get("COURSE_GPT2", "")  # name the folder here

# %% tags=["nbval-ignore-output"]
if GPT2_FOLDER:
    real_gpt2 = load_gpt2(GPT2_FOLDER).to(run.device)
    gpt2_tokens = Tokenizer.from_gpt2(*(registry.read_bytes("gpt2_bpe", name).decode() for name in ("vocab.bpe", "encoder.json")))
    start = torch.tensor([gpt2_tokens.encode("The river behind the town")], device=run.device)
    print(gpt2_tokens.decode(generate(real_gpt2, start, 40, lambda logits: draw(keep_top_p(logits / 0.8, 0.9)))[0].tolist()))
else:
    print("No folder with GPT-2 is named: the course's tests read a file of the same form, written by another library.")

# %% [markdown]
r"""
## Where it breaks

- **Beyond its length.** A model has seen windows of $n$ tokens. Learnt positions have no vector beyond their table, rotary ones were never trained there (lesson 09). Longer texts are read through a window, and what falls out of it is forgotten.
- **Behind its own mistakes.** In training it always read what the town wrote; writing, it reads what it wrote itself. After its first mistake it stands where no training text ever stood.
- **It only goes on.** Ask it a question, and it continues the text, perhaps with another question. Part 5 makes an assistant of it.
- **It repeats what it read**, facts and prejudice alike, and has no notion of which is which.

## Recap

- A decoder is lesson 10's block under a causal mask, stacked, with one table for words in and out. Any text trains it, $n$ questions per window.
- GPT-2's smallest has 124,439,808 parameters.
- AdamW pulls matrices towards 0, and nothing else; Muon moves every direction of a matrix equally far; the rate rises in a line and falls along half a cosine; gradients are accumulated and clipped.
- A checkpoint holds weights, both means, the place in the text, the random state and the step. Without any of them resuming is another experiment.
- In the first seconds counting wins; after 70 seconds both networks are well ahead of it, and close to each other. Where the subject is out of the tables' sight no amount of counting helps; there the LSTM learns sooner than a GPT of two blocks, and more blocks help GPT.
- Temperature, top-k, top-p and min-p all buy correctness with variety.

**If you want more.** (1) Give your model 60 seconds (`SECONDS`): which of the samples' faults disappear first? (2) Use `rotary=False` and GELU, as GPT-2 has them: what do they cost at equal time? (3) Train with `Windows` that begin at document starts only. (4) Add a repetition penalty to `cut`. (5) Plot the loss by position in the window: how much does the fortieth token help to guess the forty-first?

## Glossary

| word | meaning |
|---|---|
| decoder-only | a stack of blocks under a causal mask, without a source |
| pretraining | learning from plain text to guess the next token |
| fused kernel | attention that never writes its weights down |
| decoupled weight decay | a pull towards 0 that is not divided by Adam's root |
| Muon | momentum whose step, for each matrix, has singular values near 1 |
| warm-up, cosine | the rate's rise and fall |
| accumulation | several small batches for one step |
| checkpoint | everything that training needs to go on exactly |
| temperature | divides the logits before the softmax |
| nucleus | the fewest most probable tokens that reach a share p |
| MFU | the share of the hardware's peak that the model's own operations use |

## Sources

- A. Radford et al. (2018), *Improving Language Understanding by Generative Pre-Training*, section 4.1; A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners*, sections 2.2, 2.3 and table 2; the parameters of the published files are counted in the course's tests.
- D. Kingma, J. Ba (2015), *Adam: A Method for Stochastic Optimization*, ICLR, algorithm 1.
- I. Loshchilov, F. Hutter (2019), *Decoupled Weight Decay Regularization*, ICLR; (2017), *SGDR*, ICLR, equation 5.
- T. Brown et al. (2020), *Language Models are Few-Shot Learners*, appendix B: $\beta_2 = 0.95$, clipping at 1, a decay of 0.1.
- T. Dao et al. (2022), *FlashAttention*, NeurIPS.
- P. Micikevicius et al. (2018), *Mixed Precision Training*, ICLR.
- A. Fan, M. Lewis, Y. Dauphin (2018), *Hierarchical Neural Story Generation*, ACL; A. Holtzman et al. (2020), *The Curious Case of Neural Text Degeneration*, ICLR, section 3.1; M. Nguyen et al. (2024), *Turning Up the Heat: Min-p Sampling*.
- T. Linzen, E. Dupoux, Y. Goldberg (2016), *Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies*, TACL; R. Marvin, T. Linzen (2018), *Targeted Syntactic Evaluation of Language Models*, EMNLP: agreement by pairs.
- A. Chowdhery et al. (2022), *PaLM*, appendix B: MFU.
- J. Su et al. (2021), *RoFormer*; B. Zhang, R. Sennrich (2019), *Root Mean Square Layer Normalization*; A. Henry et al. (2020), *Query-Key Normalization for Transformers*; D. So et al. (2021), *Primer* (squared ReLU); K. Jordan et al. (2024), *Muon: An optimizer for hidden layers in neural networks*; Gemma Team (2024), *Gemma 2*, section 2 (soft-cap).
- O. Press, L. Wolf (2017), *Using the Output Embedding to Improve Language Models*, EACL.
- A. Karpathy, *nanoGPT*: the recipe for tinyshakespeare on a CPU, and much of how such a loop is written.
"""
