# %% [markdown]
r"""
# 15 · T5

**Encoder–decoders: everything is text to text.**

A decoder writes and sees only what is behind it. An encoder sees everything and cannot write. Lesson 11's model had one of each, for one purpose, translation. In this lesson it becomes a model for any purpose: whatever the task, a text goes in and a text comes out. At the end you will

- make pretraining data out of any text by taking spans out of it, and put them back without loss;
- build T5's attention, which divides by nothing, and say where the division went;
- have a model that is T5 1.0, with its published sizes and, where you have them, its weights;
- know what an encoder, a decoder and both together reach on three tasks with the same text and the same operations, and how far each is from the best that is possible.

You need lessons 08 to 11 (heads, T5's buckets, RMS norm, the encoder–decoder) and 13. About two hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace  # noqa: F401
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401 - used by the code of the exercises
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib import figures
from course_lib.data import text
from course_lib.data.riverbank import Sentence, Town
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.block import Dropout, FeedForward, PreNorm, RMSNorm  # noqa: F401
from course_lib.models.multi_head import KVCache, MultiHeadAttention, merge_heads, split_heads  # noqa: F401
from course_lib.models.positions import RelativeBias  # noqa: F401
from course_lib.models.transformer import Encoded  # noqa: F401
from course_lib.models.translation import END, PAD, START, Decoded, Vocabulary, greedy_decode, word_accuracy  # noqa: F401
from course_lib.runtime import progress, start
from course_lib.training.muon import Muon
from course_lib.widgets.explorer import explorer
from course_lib.widgets.spans_view import draw_spans

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=15, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=15)

# %% [markdown]
r"""
## The question

> the ▢ spotted a whale while he waited .

Lesson 13's decoder reads from left to right. Asked for the missing word it can use *the*, and nothing of what stands behind the gap. How much does that cost? Riverbank can say it exactly, without training anything. Its grammar gives the probability of any sentence and of any beginning of one, so of every word $w$ that may fill the gap we know

$$P(w \mid \text{left}) \qquad\text{and}\qquad P(w \mid \text{left}, \text{right}) = \frac{P(\text{left}, w, \text{right})}{\sum_{w'} P(\text{left}, w', \text{right})} .$$

Whoever names the most probable word is right with just that word's probability. So the mean of the largest probability is the best accuracy that anybody can have: in the first case **the perfect decoder's**, in the second that of a perfect reader of both sides.
"""

# %%
town = Town()


@cache
def before_any_sentence() -> Any:
    """Return the grammar's state before a sentence of a story about a voyage: of any kind, as often as there are such."""
    weights = {s: c for s, c in town.grammar.expected_counts.items() if s.startswith(("SentStory[", "SentOpen[")) and ",voyage," in s}
    begun = town.grammar.forward(next(iter(weights)))
    begun.stacks = {next(iter(town.grammar.forward(s).stacks)): c / sum(weights.values()) for s, c in weights.items()}
    return begun


def fillings(begun: Any, left: list[str], right: list[str], words: Callable[[str], bool] = lambda word: True) -> dict[str, float]:
    """Return the exact probability of every word that can stand between two sides.

    `begun` is the grammar's state before the first word; only what `words` accepts is taken.
    """
    begun = copy.copy(begun)
    for word in left:
        begun.advance(word)
    found = {word: p for word, p in begun.next_words().items() if words(word)}
    for word in found if right else ():
        state, log_p = copy.copy(begun), 0.0
        for i, each in enumerate((word, *right)):
            log_p += state.advance(each, right[i] if i < len(right) else None)
            if log_p == -math.inf:
                break
        found[word] = math.exp(log_p)
    total = sum(found.values())
    return {word: p / total for word, p in found.items() if p > 0}


# %% tags=["experiment"]
for name, right in {"from the left": [], "from both sides": ["spotted", "a", "whale", "while", "he", "waited", "."]}.items():
    likely = sorted(fillings(before_any_sentence(), ["the"], right).items(), key=lambda each: -each[1])
    print(f"{name:<16}{len(likely):>4} words can stand there: " + ", ".join(f"{word} {p:.2f}" for word, p in likely[:5]) + ", …")

# %% [markdown]
r"""
From the left anybody may come. Behind the gap stand *spotted*, which few but nephews and nieces do in these stories, and *he*. And a gap anywhere, in any sentence of a voyage?
"""

# %% tags=["experiment"]
rng, from_left, from_both = random.Random(run.seed), [], []
sentences = town.sentences(run.pick(smoke=300, standard=3000, full=20_000), seed=run.seed + 500, register="story")
sentences = [each.tokens for each in sentences if ",voyage," in each.tree.symbol][: run.pick(smoke=4, standard=40, full=1000)]
for tokens in progress(sentences, desc="gaps"):
    gap = rng.randrange(1, len(tokens) - 1)  # neither the first word nor the full stop
    left, right = tokens[:gap], tokens[gap + 1 :]
    from_left.append(max(fillings(before_any_sentence(), left, []).values()))
    from_both.append(max(fillings(before_any_sentence(), left, right).values()))
best_left, best_both = sum(from_left) / len(from_left), sum(from_both) / len(from_both)
print(f"the best accuracy that is possible in {len(sentences)} gaps: from the left {best_left:.2f}, from both sides {best_both:.2f}")

# %% tags=["claim"]
claim(
    "a perfect reader of both sides fills most gaps rightly; a perfect decoder, which sees the left side alone, cannot (the best possible accuracy)",
    measured=best_both,
    at_least=0.68,
    breaks_when={"from the left alone": best_left},
)

# %% [markdown]
r"""
So one wants to see both sides. BERT (lesson 14) does: it puts a mask into the gap and guesses there. But it guesses each masked word *by itself*. Where two words are missing, *the ▢ ▢ spotted a whale*, the left one may be guessed as in *the two brothers* and the right one as in *the little girl*, and what comes out is *the two girl*. And a text whose length is not known, a translation or an answer, has no masks to be put in.

**Read with an encoder, write with a decoder.** The encoder sees both sides. The decoder writes word after word, each one knowing what was written before. That is lesson 11's transformer. What is new in T5, the *Text-to-Text Transfer Transformer* (Raffel et al. 2020), is what it is used for.

## Everything is text to text

To translate is to turn a text into a text. So is answering a question; so is naming the class of a text, if the class is a word; so is filling gaps. T5 writes the task in front, as words, and uses one model, one loss and one way of decoding for all of them. (Even a number is a word: the paper's model says how alike two sentences are, from 1 to 5 in steps of 0.2, by writing “2.6”; section 2.4.) Five tasks of the town:
"""

# %% tags=["experiment"]
example_sentence, example_translation = town.parallel(1, seed=4, register="story", topic="voyage", min_words=7, max_words=9)[0]
question = next(each for each in town.questions("said", kind="wh"))
shown = [
    ("translate : " + example_sentence.text, " ".join(example_translation.target)),
    ("answer : " + question.text, question.answer),
    *((each.prompt, each.response) for kind in ("past", "plural", "count_words") for each in town.instructions(1, seed=2, kinds=[kind])),
]
for source, target in shown:
    print(f"{source:<75} →  {target}")

# %% [markdown]
r"""
No part of the model belongs to one task; a new task is a new word in front. The price: a class is now something that has to be *written*, and the model may write something that is no class at all.

## Take spans out

Labelled pairs are few, plain text is plenty. What is T5 pretrained on? It takes **spans** out of a text, a few words in a row each, and marks each place with a **sentinel**, a mark that occurs in no text. What has to be said is what was taken out, span after span, each behind its sentinel, and one more sentinel at the end (section 3.1.4 and figure 2 of the paper; ⟨0⟩ is a sentinel here, T5 calls it `<extra_id_0>`):

| | |
|---|---|
| text | thank you **for inviting** me to your party **last** week |
| input | thank you ⟨0⟩ me to your party ⟨1⟩ week |
| target | ⟨0⟩ for inviting ⟨1⟩ last ⟨2⟩ |

The model is not told how long a span was. And the target is short: what was *not* taken out need not be said, which saves much of the decoder's work.

### Exercise: `corrupt_spans`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

- **Task.** Write `corrupt_spans(tokens, mask, sentinels)`.
- **Input.** `tokens`, a list of words or numbers; `mask`, for each token whether it is taken out; `sentinels`, a list of marks in the order of their use. (T5's count *down*, from the largest number of the vocabulary. Use the list.)
- **Output.** A pair of new lists, input and target. A span is a longest run of tokens that are taken out: neighbours share one sentinel.
- **Edge cases.** Nothing taken out: the target is the first sentinel alone. A span may stand at the beginning or at the end of the text. Raise a `ValueError` if the text contains *any* of the sentinels, if there are too few of them ($k$ spans need $k + 1$), or if the mask is not as long as the text.

`hint("corrupt_spans")` helps.
"""

# %% tags=["exercise"] exercise="corrupt_spans"
from course_lib.models.spans import corrupt_spans  # course: write out

# %% tags=["check"] exercise="corrupt_spans"
corrupt_spans = check("corrupt_spans")

# %% [markdown]
r"""
### And put them back

Why refuse a text that contains a sentinel? Because then nobody could tell it from one that was put there, and the text would be lost. What is refused and what is not is decided by one demand: **input and target together must give the text back, whatever it is.** You will need the way back, too: a model's answer is a target, and putting it in shows the text that the model had in mind.

### Exercise: `restore_spans`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

- **Task.** Write `restore_spans(read, said, sentinels)`: the text.
- **Input.** `read`, an input with $k$ sentinels in it; `said`, a target; `sentinels` as before.
- **Output.** A new list in which each sentinel of `read` has given way to its span. A span without words vanishes; a model may say so.
- **Edge cases.** A model may say anything. Raise a `ValueError` unless the sentinels in `read` are the first $k$ of the list, in order, each once; those in `said` the first $k + 1$; and `said` begins with the first and ends with the last of these.
"""

# %% tags=["exercise"] exercise="restore_spans"
from course_lib.models.spans import restore_spans  # course: write out

# %% tags=["check"] exercise="restore_spans"
restore_spans = check("restore_spans")

# %% tags=["claim"]
def random_text(rng: random.Random) -> tuple[list[Any], list[bool]]:
    """Return a text of any tokens, with a mask of any kind."""
    n, share = rng.randrange(40), rng.random()
    return [rng.choice(["the", "boat", "", "<9", 7, -1]) for _ in range(n)], [rng.random() < share for _ in range(n)]


def share_restored(corrupt: Callable[..., Any], n_texts: int) -> float:
    """Return the share of random texts that come back as they were."""
    rng, marks, back = random.Random(run.seed), [f"<{i}>" for i in range(60)], 0
    for _ in range(n_texts):
        tokens, mask = random_text(rng)
        with suppress(ValueError):  # what is refused does not come back
            back += restore_spans(*corrupt(tokens, mask, marks), marks) == tokens
    return back / n_texts


def one_by_one(tokens: list[Any], mask: list[bool], marks: list[Any]) -> tuple[list[Any], list[Any]]:
    """Take words out as before, and say them in order without sentinels between."""
    read, said = corrupt_spans(tokens, mask, marks)
    return read, [said[0], *(each for each in said[1:-1] if each not in marks), said[-1]] if len(said) > 1 else said


claim(
    "what corrupt_spans takes out, restore_spans puts back: the share of random texts that come back as they were",
    measured=share_restored(corrupt_spans, run.pick(smoke=100, standard=3000, full=30_000)),
    equals=1.0,
    breaks_when={"with targets that hold the words without their sentinels": share_restored(one_by_one, 300)},
)

# %% [markdown]
r"""
### Which words?

Two numbers decide: the **corruption rate** $r$, the share of tokens that is taken out, and the **mean span length** $\mu$. T5's are $r = 0.15$ and $\mu = 3$. The paper's code does not toss a coin for each token. For a text of $n$ tokens it *counts*:

$$\text{taken} = \operatorname{round}(r\,n), \qquad \text{spans} = \operatorname{round}(\text{taken} / \mu),$$

(at least one of each, and at least one token is kept) and only then draws: the taken tokens are cut into that many pieces, so are the kept ones, each way of cutting being equally probable, and the pieces take turns, a kept one first. To cut a row of $t$ tokens into $s$ pieces one chooses $s - 1$ of the $t - 1$ places between them.
"""

# %%
from course_lib.models.spans import count_noise, cut_into_pieces, draw_mask  # noqa: F401  # course: write out

# %%
predict(
    "short texts",
    "The corruption rate is set to 15 %, the mean span length to 3. What are they on the town's sentences, taken one by one?",
    ["15 % and 3, as set", "About 15 %, and spans much shorter than 3", "Less than 15 %, and spans of 3"],
    answer=1,
    because="A sentence of 9 tokens loses round(1.35) = 1 token, in one span of 1. What rounding leaves decides, not the setting.",
)

# %% tags=["nbval-check-output"]
print("tokens   taken  spans   rate  mean span")
for n_tokens in (4, 9, 10, 30, 100, 568):
    taken, spans = count_noise(n_tokens)
    print(f"{n_tokens:>6}{taken:>8}{spans:>7}{taken / n_tokens:>7.3f}{taken / spans:>11.2f}")

# %% tags=["experiment"]
class Measured(NamedTuple):
    """What was taken out of many texts."""

    rate: float
    mean_span: float
    first: float  # share of texts whose first token is taken out
    last: float  # and whose last token is


def measure(lengths: Sequence[int], draw: Callable[[int, random.Random], list[bool]]) -> Measured:
    """Draw a mask for each text; return rate, mean span length, and how often the ends are taken."""
    rng = random.Random(run.seed)
    masks = [draw(n, rng) for n in lengths]
    spans = sum(taken and not before for mask in masks for before, taken in zip([False, *mask], mask))
    taken = sum(map(sum, masks))
    return Measured(taken / sum(lengths), taken / spans, sum(m[0] for m in masks) / len(masks), sum(m[-1] for m in masks) / len(masks))


WINDOW = 568  # tokens, so that 512 are read (below)
sentence_lengths = [len(each.tokens) for each in town.sentences(run.pick(smoke=200, standard=4000, full=20_000), seed=run.seed)]
windows = [WINDOW] * run.pick(smoke=5, standard=200, full=2000)
coin = partial(lambda n, rng, rate: [rng.random() < rate for _ in range(n)], rate=0.15)
found = {
    "windows of 568 tokens": measure(windows, draw_mask),
    "single sentences": measure(sentence_lengths, draw_mask),
    "windows, a coin for each token": measure(windows, coin),
    "windows, r = 0.5, μ = 10": measure(windows, partial(draw_mask, rate=0.5, mean_span=10.0)),
}
print(f"{'':<32}{'rate':>8}{'mean span':>11}{'first taken':>13}{'last taken':>12}")
for name, each in found.items():
    print(f"{name:<32}{each.rate:>8.4f}{each.mean_span:>11.2f}{each.first:>13.2f}{each.last:>12.2f}")

# %% tags=["claim"]
claim(
    "in T5's windows the corruption rate is as set, 15 % (the difference)",
    measured=abs(found["windows of 568 tokens"].rate - 0.15),
    at_most=0.001,
    breaks_when={"sentence by sentence": abs(found["single sentences"].rate - 0.15)},
)
claim(
    "and so is the mean length of a span, 3 (the difference)",
    measured=abs(found["windows of 568 tokens"].mean_span - 3),
    at_most=0.05,
    breaks_when={"sentence by sentence": abs(found["single sentences"].mean_span - 3), "with a coin for each token": abs(found["windows, a coin for each token"].mean_span - 3)},
)
claim(
    "the code always takes out the last token of a text (share of texts)",
    measured=found["windows of 568 tokens"].last,
    equals=1.0,
    breaks_when={"with a coin for each token": found["windows, a coin for each token"].last},
)

# %% [markdown]
r"""
Three things to see. *The settings hold for long texts*: T5 packs texts into windows. *With a coin* for each token the mean span is $1/(1 - r) \approx 1.18$, since a span goes on with probability $r$. And the paper's code has a habit that one does not see in its two settings: pieces take turns beginning with a kept one, so **the first token is never taken out and the last one always**. In a window of 568 tokens that is a trifle. In a sentence it is the full stop, every time; and where there is one span only, up to 30 tokens, nothing is left to chance: the end of the text is taken out.

Why 568? Input and target both end with the end mark. $\operatorname{round}(0.15 \cdot 568) = 85$ tokens in $\operatorname{round}(85/3) = 28$ spans are taken out, so $568 - 85 + 28 + 1 = 512$ are read and, without the last sentinel, which T5's *code* leaves out, $85 + 28 + 1 = 114$ are said. These are T5's two lengths.

**Look at it.** Move the sliders. *Question:* with which mean span length is input and target together shortest? Why?
"""

# %% tags=["widget", "nbval-ignore-output"]
def corruption(words: str, rate: float, mean_span: float, drawing: int, least: int = 9) -> plt.Figure:
    """Draw a text, its input and its target."""
    tokens = words.split()[:60]
    marks = [f"⟨{i}⟩" for i in range(len(tokens) + 2)]
    try:
        mask = draw_mask(len(tokens), random.Random(drawing), rate, mean_span)
        read, said = corrupt_spans(tokens, mask, marks)
    except ValueError as error:
        return draw_spans({}, note=str(error), least=least)
    kinds = {True: "taken", False: "kept"}
    rows = {
        "text": [(word, kinds[taken]) for word, taken in zip(tokens, mask)],
        "input": [(word, "mark" if word in marks else "kept") for word in read],
        "target": [(word, "mark" if word in marks else "taken") for word in said],
    }
    return draw_spans(rows, note=f"{sum(mask)} of {len(tokens)} tokens taken out in {len(said) - sum(mask) - 1} spans; {len(read) + len(said)} tokens to compute", least=least)


story = " ".join(word for each in town.sentences(5, seed=8, register="story") for word in each.tokens)
display(
    explorer(
        corruption,
        "Rows of words: a text with some words marked as taken out, the input with sentinels in their place, the target with sentinels and these words.",
        words=ipywidgets.Text(story, description="text", layout=ipywidgets.Layout(width="52em")),
        rate=ipywidgets.FloatSlider(0.15, min=0.05, max=0.95, step=0.05, description="rate r", continuous_update=False),
        mean_span=ipywidgets.FloatSlider(3.0, min=1.0, max=10.0, step=0.5, description="mean span μ", continuous_update=False),
        drawing=ipywidgets.IntSlider(0, min=0, max=20, description="drawing", continuous_update=False),
    )
)
figures.show(
    corruption(story, 0.15, 3.0, 0, least=0),
    caption="The same for a page that cannot be moved: a text, what is read and what is said. Blue, underlined words are taken out; yellow, bold marks are sentinels. Numbers in brackets count the tokens.",
    alt="Three rows of words. The text with a few underlined words; the input, in which each run of them is one sentinel; the target, with sentinels and the words taken out.",
)

# %% [markdown]
r"""
### How long is that?

$n$ tokens become an input of $n - rn + rn/\mu$ and a target of $rn + rn/\mu + 1$. Both shrink as spans get longer, since fewer sentinels are needed. BERT's way, a text as long as before with masks in it, would make the decoder of an encoder–decoder say all $n$ tokens again.
"""

# %% tags=["experiment"]
spans_shown = [1, 2, 3, 5, 10]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.1), sharey=True)
for ax, part in zip(axes, ("input", "target")):
    series = {}
    for rate in (0.15, 0.3, 0.5):
        counts = [count_noise(WINDOW, rate, mean) for mean in spans_shown]
        series[f"r = {rate}"] = [(WINDOW - t + s if part == "input" else t + s + 1) / WINDOW for t, s in counts]
    figures.lines(ax, spans_shown, series, xlabel="mean span length μ (tokens)", ylabel="length / length of the text" if part == "input" else "", title=part)
    ax.set_ylim(0, 1.1)
    ax.axhline(1, color=figures.PALETTE["grey"], linestyle=":", marker="")
    ax.plot(3, series["r = 0.15"][spans_shown.index(3)], marker="o", markersize=13, fillstyle="none", color=figures.PALETTE["black"])
axes[1].legend().remove()
figures.show(
    fig,
    caption="Lengths of input and target, as shares of the text's. Dotted: the text itself, which is what a decoder would say if it had to repeat everything. Ringed: T5's setting. At r = 0.5 and μ = 1 there are as many sentinels as kept words.",
    alt="Two panels of length against mean span length, three lines each for rates 0.15, 0.3 and 0.5. Lines fall steeply from span length 1 to 3 and then flatten; targets at rate 0.15 stay near a fifth of the text.",
)

# %% [markdown]
r"""
## What the decoder hears

The decoder is asked for the **labels**, the target with the end mark. To say label $i$ it may hear labels $0 \dots i - 1$, so what it hears are the labels, shifted to the right by one place, with a mark in front to begin with. (T5 uses its padding for that mark, we use lesson 06's `START`.) Labels that do not count, behind the end of a short target, have the number $-100$ by PyTorch's convention: `F.cross_entropy` leaves them out.

### Exercise: `shift_right`

*Difficulty ●○○○○ · about 8 minutes · 2 points*

- **Task.** Write `shift_right(labels, start=0, padding=0)`.
- **Input.** `labels` (…, m), whole numbers, −100 where nothing counts.
- **Output.** A new tensor of the same shape: `start`, then all labels but the last.
- **Edge cases.** −100 is no token: where it would be heard, `padding` is heard. Any number of axes before the last, none included. No labels at all ($m = 0$).
"""

# %% tags=["exercise"] exercise="shift_right"
from course_lib.models.t5 import shift_right  # course: write out

# %% tags=["check"] exercise="shift_right"
shift_right = check("shift_right")

# %% [markdown]
r"""
## T5's attention

T5 is lesson 11's transformer with pre-norm and five changes (section 2.1 of the paper, and its code):

| | lesson 11 | T5 1.0 |
|---|---|---|
| positions | added to the words | a bias $\beta$ on the scores, by bucket (lesson 09); one table for all layers of a stack |
| scores | $q \cdot k / \sqrt{d_{head}}$ | $q \cdot k + \beta$ |
| norm | centre and divide (LayerNorm) | divide by the root mean square (RMSNorm, lesson 10) |
| biases of linear layers | yes | none |
| table of words | entries of size $1/\sqrt d$, times $\sqrt d$ on the way in | entries of size 1, the stream times $1/\sqrt d$ on the way out |

(T5 1.1, on which Flan-T5 stands, has gated networks, and a table of its own for the way out.)

**Where did the division go?** Lesson 07 divided because the scores of a layer that is not trained yet have the variance $d_{head}$. T5 reaches the same in another way: it makes the *queries* smaller. With $x$ of size 1, weights of $W_Q$ drawn with standard deviation $\sigma_Q = 1/\sqrt{d\, d_{head}}$ and those of $W_K$ with $1/\sqrt d$,

$$\operatorname{Var}[q_m] = d\,\sigma_Q^2 = \frac{1}{d_{head}}, \qquad \operatorname{Var}[k_m] = 1, \qquad \operatorname{Var}[q \cdot k] = d_{head} \cdot \frac{1}{d_{head}} \cdot 1 = 1 .$$

Any attention with the division is one without it whose $W_Q$ was divided by $\sqrt{d_{head}}$; as functions the two can do the same. (Adam's steps do not shrink with the weights, so training differs: relative to its size, $W_Q$ moves faster.)

### Exercise: `T5Attention`

*Difficulty ●●●○○ · about 20 minutes · 5 points*

- **Task.** Write `forward(x, context, mask, bias, cache)`. The four projections are given.
- **Input.** `x` (batch, n_q, d_model) asks; `context` (batch, n_c, d_model) is asked, or `x` itself if it is None; `mask` (…, n_q, n_k), True = may attend, without an axis for heads; `bias` (h, n_q, n_k) is added to the scores; `cache`, a `KVCache`, takes the new keys and values, cut into heads, and gives back those of all positions so far, in the same shape: `cache.update(k, v)`. The last four may be None.
- **Output.** The outputs (batch, n_q, d_model), and the weights (batch, h, n_q, n_k).
- **Edge cases.** `split_heads` and `merge_heads` are lesson 08's. All heads together may be wider than `d_model`. A row of the mask without any True gives zero weights, and no NaN. No `F.scaled_dot_product_attention`.
"""

# %% tags=["exercise"] exercise="T5Attention"
from course_lib.models.t5 import T5Attention  # course: write out

# %% tags=["check"] exercise="T5Attention"
T5Attention = check("T5Attention")

# %% tags=["claim"]
def difference_to_lesson_08(divide: bool) -> float:
    """Return how much our layer differs from lesson 08's with the same weights, its queries divided or not."""
    torch.manual_seed(run.seed)
    theirs, ours = MultiHeadAttention(24, 4, d_head=9).double(), T5Attention(24, 4, 9).double()
    weights = theirs.state_dict()
    weights["to_q.weight"] = weights["to_q.weight"] / (math.sqrt(9) if divide else 1)
    ours.load_state_dict(weights)
    x = torch.randn(2, 7, 24, dtype=torch.float64, generator=run.generator(1))
    return (ours(x, mask=causal_mask(7))[0] - theirs(x, mask=causal_mask(7))[0]).abs().max().item()


claim(
    "lesson 08's layer is T5's with smaller queries: the largest difference when W_Q is divided by √d_head",
    measured=difference_to_lesson_08(True),
    at_most=1e-12,
    breaks_when={"with the same W_Q": difference_to_lesson_08(False)},
)

# %% [markdown]
r"""
## The model

Sizes first, then a block, a stack and the whole. The bias is computed once in a stack and handed to every block, so all layers share one table of 32 numbers for each head. The decoder's bias knows only what is behind; the cross-attention has none, since a position of the target has no distance to one of the source.
"""

# %%
from course_lib.models.t5 import T5Config, T5_CONFIGS  # course: write out

# %%
from course_lib.models.t5 import T5Block  # noqa: F401  # course: write out

# %%
from course_lib.models.t5 import T5Stack  # course: write out

# %%
from course_lib.models.t5 import T5, initialise_t5  # course: write out

# %% [markdown]
r"""
**The way out.** The table's entries have size 1, so the product of a normalised vector $x$ with a row, $\sum_i x_i e_i$, has variance $d$, and logits of size $\sqrt d$ would make the untrained model very sure of something wrong. Hence the factor $d^{-1/2}$. What does the first loss say?
"""

# %% tags=["claim"]
class Unscaled(T5):
    """Leave the stream as it is on the way out."""

    def score(self, x: Tensor) -> Tensor:
        return x @ self.words.weight.T


def first_logits(kind: type[T5]) -> tuple[Tensor, Tensor]:
    """Return what an untrained model of 512 words heard, and its logits behind it."""
    torch.manual_seed(run.seed)
    model = kind(T5Config(512, 128, 4, 32, 256, 2))
    source, heard = torch.randint(512, (2, 16, 20), generator=run.generator(2))  # (16, 20) each
    with torch.no_grad():
        return heard, model(source, torch.full((16,), 20), heard)  # (16, 20, 512)


def first_loss(kind: type[T5]) -> float:
    """Return its loss on random targets, minus that of a fair die."""
    logits = first_logits(kind)[1].flatten(0, 1)  # (320, 512)
    targets = torch.randint(512, (320,), generator=run.generator(3))
    return F.cross_entropy(logits, targets).item() - math.log(512)


heard, logits = first_logits(T5)
again = logits.gather(-1, heard[..., None]).mean()
print(f"logits of an untrained T5: standard deviation {logits.std():.2f}; that of the word just heard: {again:.2f} on average")

claim(
    "scaled by 1/√d on the way out, an untrained T5 is not much worse than a fair die (nats above it)",
    measured=first_loss(T5),
    at_most=2.0,
    breaks_when={"without the scale": first_loss(Unscaled)},
)

# %% [markdown]
r"""
Why not 0? Logits of variance 1 cost half a nat. And the same table stands at both ends: the stream still holds the word just heard, and the way out finds it again. An untrained T5 likes to repeat.

### How many parameters?

With the widths $d$ (stream), $a = h\, d_{head}$ (all heads) and $d_{ff}$: an attention has $4da$, a network $2 d\, d_{ff}$, a norm $d$. An encoder's block has one attention and two norms, a decoder's two and three. Each stack has one table of $32 h$ biases and a last norm; the words' table has $V d$, with $V = 32{,}128$: 32,000 pieces of text, 100 sentinels, and 28 rows that fill up to a multiple of 128.
"""

# %% tags=["nbval-check-output"]
from course_lib.models.t5 import count_t5  # course: write out

print(f"{'':<10}{'width':>6}{'heads':>6}{'d_head':>7}{'d_ff':>7}{'blocks':>7}{'parameters':>16}")
for name, config in T5_CONFIGS.items():
    print(f"{name:<10}{config.d_model:>6}{config.n_heads:>6}{config.d_head:>7}{config.d_ff:>7}{config.n_layers:>7}{count_t5(config):>16,}")
with torch.device("meta"):  # shapes without numbers
    small = T5(T5_CONFIGS["t5-small"])
print(f"counted by PyTorch: t5-small {sum(each.numel() for each in small.parameters()):,}")

# %% [markdown]
r"""
These are the published models (section 3.7 speaks of 60, 220 and 770 million, 3 and 11 billion; for t5-large the exact count is smaller, as you see). The course's tests copy the weights of Hugging Face's T5 into this class: logits and all gradients agree to ten digits, with padding, cross-attention, and heads wider than the stream. `copy_t5`, in `course_lib.models.t5`, takes the tensors of the published files by their names.

**Change it.** How large is a T5 of your own?
"""

# %% tags=["experiment"]
mine = T5Config(n_words=2048, d_model=256, n_heads=4, d_head=64, d_ff=1024, n_layers=4)  # change it
print(f"{count_t5(mine):,} parameters, {mine.n_words * mine.d_model / count_t5(mine):.0%} of them in the table of words")

# %% [markdown]
r"""
## Encoder, decoder, or both?

Now the comparison. Three tasks, all about sentences from stories of voyages:

| task | input | target | what it asks for |
|---|---|---|---|
| **number** | number : some nephews did not spot a whale . | many | one word about the whole text: is the subject one or many? |
| **fill** | fill 2 : some ⟨0⟩ not spot a whale . | ⟨0⟩ nephews did ⟨1⟩ | one to three words that fit *both sides*; how many stands in front |
| **translate** | translate : some nephews … | the Tovian sentence | a whole text that has to be *written* |

Each model learns all three tasks from the same examples. The tasks take turns, a batch each; the two harder ones have two turns of five:

- **encoder–decoder**: T5, two blocks in each stack;
- **decoder**: two blocks under a causal mask; it reads the input and goes on with the target, as lesson 13's GPT would;
- **encoder**: two blocks, everyone hears everyone. Each task is given in the way that suits it. It fills gaps *in place*, a slot for each missing word, as BERT does. For the other tasks slots stand behind the text, as many as the target has words (the others are not told), and each slot says its word without knowing what the others say.

The paper compares a fourth kind, the **prefix LM**: a decoder alone in which the input's words hear each other in both directions, and only the target is causal.
"""

# %%
N_READ, N_SAID = 4, 3
causal = causal_mask(N_READ + N_SAID)  # (7, 7)
patterns = {
    "encoder": torch.ones_like(causal),
    "decoder": causal,
    "encoder–decoder, prefix LM": causal | (torch.arange(N_READ + N_SAID) < N_READ),  # the input's columns are open to all
}
names = [*(f"in {i}" for i in range(N_READ)), *(f"out {i}" for i in range(N_SAID))]
fig, axes = plt.subplots(1, 3, figsize=(9.8, 4.0))
for ax, (title, mask) in zip(axes, patterns.items()):
    figures.heatmap(ax, mask.float(), rows=names, columns=names, xlabel="is heard", ylabel="hears" if title == "encoder" else "", title=title, limits=(0, 1), numbers=".0f")
figures.show(
    fig,
    caption="Who hears whom (1: may hear), with four words of input and three places of output; an encoder's places of output are its slots. Encoder–decoder and prefix LM have one pattern: the first has a stack, and weights, for each half, the second one stack for both.",
    alt="Three squares of 7 by 7 zeros and ones. Encoder: all ones. Decoder: ones on and below the diagonal. Encoder–decoder and prefix LM: the four columns of the input are all ones, the columns of the output are causal.",
)


# %%
COMMON, SHORTEST, LONGEST = 150, 4, 10  # English words that are used; tokens in a sentence
TASKS = ("number", "fill", "translate")
TURNS = ("number", "fill", "translate", "fill", "translate")  # whose batch is next; over and over
MARKS = ["<0>", "<1>"]
SLOTS = [f"<slot {i}>" for i in range(16)]  # of an encoder alone
ABOUT = {"register": "story", "topic": "voyage", "min_words": SHORTEST, "max_words": LONGEST}


@dataclass(frozen=True)
class Example:
    """A pair of texts, and how an encoder alone is asked.

    Attributes:
        source, target: what is read and what is to be said.
        slots: what an encoder says in its slots.
        place: where in the source its slots stand; None for behind the source.

    """

    source: list[str]
    target: list[str]
    slots: list[str]
    place: int | None = None


def number_of_subject(sentence: Sentence) -> str:
    """Return whether the subject of the main verb is one or many."""
    verb = sentence.heads.index(0) + 1
    subject = next(i for i, (head, label) in enumerate(zip(sentence.heads, sentence.labels)) if head == verb and label.startswith("nsubj"))
    return "many" if ("Number", "Plur") in sentence.leaves[subject].word.feats else "one"


def number_example(sentence: Sentence) -> Example:
    answer = [number_of_subject(sentence)]
    return Example(["number", ":", *sentence.tokens], answer, answer)


def fill_example(tokens: list[str], rng: random.Random) -> Example:
    """Take one span of one to three words out; the first word and the full stop stay."""
    k = rng.randint(1, min(3, len(tokens) - 2))
    begin = rng.randrange(1, len(tokens) - k)
    mask = [begin <= i < begin + k for i in range(len(tokens))]
    read, said = corrupt_spans(tokens, mask, MARKS)
    return Example(["fill", str(k), ":", *read], said, tokens[begin : begin + k], place=begin + 3)


def translate_example(tokens: list[str], target: tuple[str, ...]) -> Example:
    return Example(["translate", ":", *tokens], list(target), list(target))


# %%
class Drawn(NamedTuple):
    """Examples of each task."""

    train: dict[str, list[Example]]
    test: dict[str, list[Example]]
    vocabulary: Vocabulary
    common: set[str]  # the English words that are used
    seen: set[tuple[str, ...]]  # the training sentences
    fresh: list[list[str]]  # new sentences, all of them


def draw_examples(seed: int, n_train: int, n_test: int, most: int) -> Drawn:
    """Draw sentences of common words, and make examples of them; test sentences are new."""
    rng, pairs = random.Random(seed), town.parallel(n_train, seed=seed, **ABOUT)
    counts = Counter(word for sentence, _ in pairs for word in sentence.tokens)
    common = {word for word, _ in counts.most_common(COMMON)}
    pairs = [each for each in pairs if common.issuperset(each[0].tokens)]
    seen, tovian = {tuple(s.tokens) for s, _ in pairs}, {word for _, t in pairs for word in t.target}
    fresh = [(s, t) for s, t in town.parallel(n_test, seed=10_000 + seed, **ABOUT) if common.issuperset(s.tokens) and tuple(s.tokens) not in seen]

    def balanced(examples: list[Example], repeat: bool) -> list[Example]:
        """Let "many" be as frequent as "one"."""
        many, one = ([each for each in examples if each.target == [answer]] for answer in ("many", "one"))
        return many * (len(one) // max(1, len(many))) + one if repeat else many + one[: len(many)]

    train = {
        "number": balanced([number_example(s) for s, _ in pairs], repeat=True),
        "fill": [fill_example(s.tokens, rng) for s, _ in pairs],
        "translate": [translate_example(s.tokens, t.target) for s, t in pairs],
    }
    test = {
        "number": balanced([number_example(s) for s, _ in fresh], repeat=False)[:most],
        "fill": [fill_example(s.tokens, rng) for s, _ in fresh][:most],
        "translate": [translate_example(s.tokens, t.target) for s, t in fresh if tovian.issuperset(t.target)][:most],
    }
    texts = [words for some in train.values() for each in some for words in (each.source, each.target)]
    vocabulary = Vocabulary.of([*texts, MARKS, SLOTS])
    return Drawn(train, test, vocabulary, common, seen, [s.tokens for s, _ in fresh])

# %% [markdown]
r"""
### Batches

A batch holds everything twice, as text to text and as an encoder alone is asked: `read` has the slots in it, and `due` says what each slot must say.
"""

# %%
class Batch(NamedTuple):
    """Examples side by side. Labels are −100 where nothing counts."""

    source: Tensor  # (B, n), with END, padded
    lengths: Tensor  # (B,)
    labels: Tensor  # (B, m), with END
    read: Tensor  # (B, n'), with slots, padded
    read_lengths: Tensor  # (B,)
    due: Tensor  # (B, n'), what is said at the slots


class Numbered:
    """The examples of one task as numbers, dealt out in batches of like length."""

    def __init__(self, examples: list[Example], vocabulary: Vocabulary) -> None:
        columns: list[list[list[int]]] = [[], [], [], []]
        for each in examples:
            source, target, said = (vocabulary.numbers(words) for words in (each.source, each.target, each.slots))
            if each.place is None:  # slots 0, 1, 2 … behind the text
                before, slots, behind = source, vocabulary.numbers(SLOTS[: len(said)]), []
            else:  # in the place of the sentinel, all alike
                before, slots, behind = source[: each.place], vocabulary.numbers(SLOTS[:1]) * len(said), source[each.place + 1 :]
            nothing = [[-100] * len(some) for some in (before, behind)]
            for column, row in zip(columns, ([*source, END], [*target, END], [*before, *slots, *behind], [*nothing[0], *said, *nothing[1]])):
                column.append(row)
        self.lengths = [torch.tensor([len(row) for row in column]) for column in columns]
        self.rows = [nn.utils.rnn.pad_sequence([torch.tensor(row) for row in column], True, filling) for column, filling in zip(columns, (PAD, -100, PAD, -100))]

    def __len__(self) -> int:
        return len(self.rows[0])

    def select(self, chosen: Tensor) -> Batch:
        """Return some examples, cut to the longest of them."""
        source, labels, read, due = (rows[chosen, : int(lengths[chosen].max())].to(run.device) for rows, lengths in zip(self.rows, self.lengths))
        return Batch(source, self.lengths[0][chosen].to(run.device), labels, read, self.lengths[2][chosen].to(run.device), due)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield batches for ever; examples of about the same length go together."""
        while True:
            nearly = self.lengths[0] + self.lengths[1] + 2 * torch.rand(len(self), generator=generator)
            groups = nearly.argsort().split(size)
            for i in torch.randperm(len(groups), generator=generator).tolist():
                yield self.select(groups[i])


# %% tags=["experiment"]
n_train, n_test, MOST = run.pick(smoke=(600, 400, 20), standard=(14_000, 6000, 200), full=(200_000, 20_000, 2000))
drawn = draw_examples(run.seed, n_train, n_test, MOST)
print({task: (len(drawn.train[task]), len(drawn.test[task])) for task in TASKS}, f"{len(drawn.vocabulary)} words")
for task in TASKS:
    each = drawn.test[task][0]
    print(f"{' '.join(each.source):<62} →  {' '.join(each.target)}")

# %% [markdown]
r"""
### Models of the same parts

All are made of `T5Stack`, with words, first weights and logits as in `T5`. The decoder alone reads input and target in one row; the input is pushed to the right end of its columns, so that the target begins in the same column for the whole batch (with relative positions nothing else changes). If `prefix` is True, it is a prefix LM.
"""

# %%
FAST_NORM = partial(nn.RMSNorm, eps=1e-6)  # lesson 10's RMSNorm in one fused operation


class Alone(nn.Module):
    """One stack with its words: what an encoder and a decoder without each other have in common."""

    def __init__(self, config: T5Config, causal: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(config.n_words, config.d_model)
        self.stack = T5Stack(config, causal=causal, norm=FAST_NORM)
        initialise_t5(self)
        nn.init.normal_(self.words.weight, std=1.0)

    def score(self, x: Tensor) -> Tensor:
        return x * x.shape[-1] ** -0.5 @ self.words.weight.T  # (…, words)


class Encoder(Alone):
    """Everyone hears everyone; each slot says a word."""

    def __init__(self, config: T5Config) -> None:
        super().__init__(config, causal=False)

    def at_slots(self, batch: Batch) -> Tensor:
        """Return the logits of all slots of a batch, one after the other."""
        mask = padding_mask(batch.read_lengths, batch.read.shape[1])  # (B, 1, n')
        x = self.stack(self.words(batch.read), mask)  # (B, n', d)
        return self.score(x[batch.due != -100])  # (slots, words)


class Decoder(Alone):
    """Input and target in one row, from left to right; with `prefix`, all of the input is heard from everywhere."""

    def __init__(self, config: T5Config, prefix: bool = False) -> None:
        super().__init__(config, causal=not prefix)
        self.prefix = prefix

    def forward(self, source: Tensor, lengths: Tensor, heard: Tensor) -> Tensor:
        """Return the logits behind each token of `heard`: (B, m, words)."""
        n, m = source.shape[1], heard.shape[1]
        column = torch.arange(n + m, device=source.device)  # (n + m,)
        empty = (n - lengths)[:, None]  # (B, 1), columns of padding, now in front
        moved = source.gather(1, (column[:n] - empty) % n)  # (B, n)
        mask = causal_mask(n + m, device=source.device)  # (n + m, n + m)
        if self.prefix:
            mask = mask | (column < n)  # the input's columns are open to all
        mask = mask & (column >= empty)[:, None]  # (B, n + m, n + m)
        x = self.stack(self.words(torch.cat([moved, heard], dim=1)), mask)  # (B, n + m, d)
        return self.score(x[:, n:])  # (B, m, words)


# %%
WIDTH, HEADS, BLOCKS, HIDDEN = run.pick(smoke=(16, 2, 1, 32), standard=(64, 4, 2, 128), full=(256, 8, 4, 1024))
KINDS: dict[str, Callable[[T5Config], nn.Module]] = {
    "encoder–decoder": partial(T5, norm=FAST_NORM),
    "decoder": Decoder,
    "encoder": Encoder,
    "prefix LM": partial(Decoder, prefix=True),
}


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean loss of a batch in nats, over the tokens that have to be said."""
    if isinstance(model, Encoder):
        return F.cross_entropy(model.at_slots(batch), batch.due[batch.due != -100])
    logits = model(batch.source, batch.lengths, shift_right(batch.labels, START, PAD))  # (B, m, words)
    return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)


def new_model(kind: str, hidden: int, n_words: int, seed: int = run.seed) -> nn.Module:
    """Return an untrained model; its feed-forward networks have so many hidden units."""
    torch.manual_seed(seed)
    sizes = T5Config(n_words, WIDTH, HEADS, WIDTH // HEADS, hidden, BLOCKS, max_distance=32)
    return KINDS[kind](sizes).to(run.device)


# %% [markdown]
r"""
### One budget

The same examples, in the same order: **the same tokens**. And **the same operations**: PyTorch's counter adds up the matrix products of a forward pass, and backward takes twice as many. Are models of the same width and depth equally dear?
"""

# %%
predict(
    "budget",
    "Two blocks in a decoder that reads input and target, or two in an encoder and two in a decoder. The encoder–decoder has nearly twice the parameters. How many operations does a training step take, compared with the decoder alone?",
    ["Nearly twice as many", "A little more", "About half as many"],
    answer=1,
    because="Each token goes through two blocks in either model: those of the input through the encoder's, those of the target through the decoder's. Only the cross-attention comes on top.",
)

# %% tags=["experiment"]
BATCH = run.pick(smoke=8, standard=32, full=128)


def operations(model: nn.Module, data: dict[str, Numbered]) -> float:
    """Return the floating-point operations of a training step, mean over the turns: counted forward, times 3 (lesson 10)."""
    batches = {task: each.batches(BATCH, torch.Generator().manual_seed(0)) for task, each in data.items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for task in 3 * TURNS:
            loss_of(model, next(batches[task]))
    return 3 * counter.get_total_flops() / (3 * len(TURNS))


numbered = {task: Numbered(drawn.train[task], drawn.vocabulary) for task in TASKS}
n_words = len(drawn.vocabulary)
same_sizes = {kind: operations(new_model(kind, HIDDEN, n_words), numbered) for kind in KINDS}
BUDGET = same_sizes["encoder–decoder"]
hidden_of = {}
for kind, each in same_sizes.items():  # operations grow in a straight line with the number of hidden units
    slope = (operations(new_model(kind, 2 * HIDDEN, n_words), numbered) - each) / HIDDEN
    hidden_of[kind] = round(HIDDEN + (BUDGET - each) / slope)
spent = {kind: operations(new_model(kind, hidden_of[kind], n_words), numbered) for kind in KINDS}
parameters = {kind: sum(p.numel() for p in new_model(kind, hidden_of[kind], n_words).parameters()) for kind in KINDS}
for kind in KINDS:
    print(f"{kind:<16} same sizes {same_sizes[kind] / 1e6:6.1f} million operations a step; in the race {hidden_of[kind]:>4} hidden units, {spent[kind] / 1e6:6.1f} million, {parameters[kind]:>8,} parameters")

# %% tags=["claim"]
claim(
    "in the race all models take the same number of operations for a step (largest over smallest, minus 1)",
    measured=max(spent.values()) / min(spent.values()) - 1,
    at_most=0.01,
    breaks_when={"with equal numbers of hidden units": max(same_sizes.values()) / min(same_sizes.values()) - 1},
)

# %% [markdown]
r"""
So a model with fewer parameters gets wider networks, until all cost the same. What cannot be made equal is the number of parameters itself: at one price an encoder–decoder has more of them, since no token uses all.

### What is the best that is possible?

For *number* and *translate* the answer follows from the text, but for a few ambiguous sentences: 100 % is possible, or just below. (Translations are counted whole, and by words: 1 minus the edits needed for each word of the right one, lesson 06's `word_accuracy`. It falls below 0 where more is wrong than there is to be said.) For a gap of *one* word the grammar gives the probability of every filling, as above; the best possible accuracy is the mean of the largest one. For longer gaps there is another exact judge: can the restored sentence occur in the town at all? A right filling always can.
"""

# %%
@cache
def can_occur(tokens: tuple[str, ...]) -> bool:
    """Tell whether the town can say this sentence."""
    state, rest = copy.copy(before_any_sentence()), [*tokens[1:], None]
    return all(state.advance(word, following) > -math.inf for word, following in zip(tokens, rest)) and state.log_prob_complete() > -math.inf


def best_filling(example: Example, given: Drawn) -> float:
    """Return the probability of the most probable filling of a gap of one word, given that the sentence is new."""
    gap = example.source.index(MARKS[0])
    left, right = example.source[3:gap], example.source[gap + 1 :]
    found = fillings(before_any_sentence(), left, right, lambda word: word in given.common and (*left, word, *right) not in given.seen)
    return max(found.values())


# %%
def answers_of(model: nn.Module, data: Numbered, examples: list[Example], words: Vocabulary) -> list[list[str]]:
    """Let a model answer; an encoder's slots are written as a target would be."""
    batch = data.select(torch.arange(len(data)))
    with torch.no_grad():
        if isinstance(model, Encoder):
            said = model.at_slots(batch).argmax(dim=-1).split((batch.due != -100).sum(dim=1).tolist())
            rows = [words.sentence(each.tolist()) for each in said]
            return [row if each.place is None else [MARKS[0], *row, MARKS[1]] for row, each in zip(rows, examples)]
        if isinstance(model, T5):
            return [words.sentence(each) for each in greedy_decode(model, batch.source, batch.lengths, 16)]
        heard = torch.full((len(data), 1), START, device=run.device)  # (N, 1)
        for _ in range(16):
            heard = torch.cat([heard, model(batch.source, batch.lengths, heard)[:, -1:].argmax(dim=-1)], dim=1)
    return [words.sentence(row[: row.index(END)] if END in row else row) for row in heard[:, 1:].tolist()]


def judge(model: nn.Module, given: Drawn) -> dict[str, float]:
    """Return what a model reaches on the test examples of each task."""
    found: dict[str, float] = {}
    for task in TASKS:
        examples = given.test[task]
        said = answers_of(model, Numbered(examples, given.vocabulary), examples, given.vocabulary)
        right = [each == example.target for each, example in zip(said, examples)]
        if task != "fill":
            found[task] = sum(right) / len(right)
            continue
        texts = []
        for each, example in zip(said, examples):
            try:
                texts.append(restore_spans(example.source[3:], each, MARKS))
            except ValueError:  # no target at all
                texts.append([])
        for name, few in (("one word", True), ("two or three", False)):
            rows = [i for i, each in enumerate(examples) if (len(each.slots) == 1) == few]
            found[f"fill, {name}: right"] = sum(right[i] for i in rows) / len(rows)
            found[f"fill, {name}: can occur"] = sum(right[i] or (bool(texts[i]) and can_occur(tuple(texts[i]))) for i in rows) / len(rows)
        found["fill: no target"] = sum(not each for each in texts) / len(texts)
    translated = answers_of(model, Numbered(given.test["translate"], given.vocabulary), given.test["translate"], given.vocabulary)
    found["translate, words"] = word_accuracy(translated, [each.target for each in given.test["translate"]])
    return found


def trained(kind: str, given: Drawn, data: dict[str, Numbered], steps: int, seed: int = run.seed) -> nn.Module:
    """Train a model of the race; the tasks take turns. The rates rise, then fall to 0."""
    model = new_model(kind, hidden_of[kind], len(given.vocabulary), seed)
    in_tables = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    matrices = [each for each in model.parameters() if each.ndim == 2 and id(each) not in in_tables]
    others = [each for each in model.parameters() if each.ndim == 1]
    tables = [each for each in model.parameters() if id(each) in in_tables]
    optimizers = [
        Muon(matrices, lr=RATE_OF_MATRICES),
        torch.optim.Adam([{"params": tables, "lr": RATE_OF_TABLES}, {"params": others, "lr": 0.01}], betas=(0.9, 0.98)),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: min(1, 10 * (step + 1) / steps, 2 * (steps - step) / steps)) for each in optimizers
    ]
    batches = {task: each.batches(BATCH, torch.Generator().manual_seed(seed)) for task, each in data.items()}
    for step in progress(range(steps), desc=kind):
        loss = loss_of(model, next(batches[TURNS[step % len(TURNS)]]))
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.step()
            schedule.step()
    return model.eval()


# %% [markdown]
r"""
### A short run

Muon moves the matrices, Adam the tables, norms and biases (lesson 13, *A faster small GPT*); the rates were found by trying, and are the same for all. Your own run is short; a longer one was recorded and comes next.
"""

# %%
predict(
    "three kinds",
    "A gap of one word: who fills it rightly most often, after the same tokens and the same operations?",
    ["The encoder–decoder: it has the most parameters", "The encoder: it fills in place", "The decoder: it writes"],
    answer=1,
    because="All it has to do is to look around from where the gap is. The other two must read, find the place again, and write sentinels around the word.",
)

# %% tags=["experiment"]
STEPS = run.pick(smoke=6, standard=200, full=20_000)  # for each model; change it
RATE_OF_MATRICES, RATE_OF_TABLES = run.pick(smoke=(0.01, 0.1), standard=(0.01, 0.1), full=(0.005, 0.02))
raced = {kind: trained(kind, drawn, numbered, STEPS) for kind in ("encoder–decoder", "decoder", "encoder")}
scores = {kind: judge(model, drawn) for kind, model in raced.items()}
untrained = judge(new_model("encoder–decoder", hidden_of["encoder–decoder"], n_words), drawn)
MEASURES = list(untrained)
print(f"{'after ' + str(STEPS) + ' steps':<30}" + "".join(f"{kind:>17}" for kind in raced))
for name in MEASURES:
    print(f"{name:<30}" + "".join(f"{scores[kind][name]:>17.2f}" for kind in raced))
n_short = sum(len(each.slots) == 1 for each in drawn.test["fill"])
print(f"test gaps: {n_short} of one word, {len(drawn.test['fill']) - n_short} of two or three")

# %% tags=["claim"]
claim(
    "one word about the whole text: all three can say it (the smallest share right)",
    measured=min(each["number"] for each in scores.values()),
    at_least=0.9,
    breaks_when={"before training": untrained["number"]},
)
claim(
    "a gap of one word: the encoder's restored sentences can occur more often than the encoder–decoder's (the difference of shares)",
    measured=scores["encoder"]["fill, one word: can occur"] - scores["encoder–decoder"]["fill, one word: can occur"],
    at_least=0.05,
    breaks_when={"translated words, which have to be written": scores["encoder"]["translate, words"] - scores["encoder–decoder"]["translate, words"]},
)
claim(
    "a text that has to be written: the encoder–decoder translates more words rightly than the encoder (the difference)",
    measured=scores["encoder–decoder"]["translate, words"] - scores["encoder"]["translate, words"],
    at_least=0.02,
    breaks_when={"before training": untrained["translate, words"] - scores["encoder"]["translate, words"]},
)

# %% [markdown]
r"""
### Words that do not know each other

Look at the longer gaps: there the encoder's lead is smaller. Is it because it fills all slots at once? That can be tested with the *same* encoder, by asking it in **rounds**: fill the leftmost slot, put the word in, and ask again for the rest (*fill 3*, *fill 2*, *fill 1*). Now each word is chosen with the words before it known. Nothing else changes. (Asked about 300 new gaps, not those of the table.)
"""

# %% tags=["experiment"]
def filled(model: nn.Module, examples: list[Example], in_rounds: bool = True, told: bool = True) -> list[list[str]]:
    """Return the sentences in which an encoder has filled gaps; if not `told`, it is not shown the words that it put in."""
    texts = [each.source[3 : each.place] for each in examples]
    behind, shown, missing = [each.source[each.place + 1 :] for each in examples], copy.deepcopy(texts), [len(each.slots) for each in examples]
    while any(missing):
        open_ones = [i for i, k in enumerate(missing) if k]
        asked = [Example(["fill", str(missing[i]), ":", *shown[i], MARKS[0], *behind[i]], [], ["."] * missing[i], len(shown[i]) + 3) for i in open_ones]
        for i, said in zip(open_ones, answers_of(model, Numbered(asked, drawn.vocabulary), asked, drawn.vocabulary)):
            new = said[1:2] if in_rounds else said[1:-1]
            texts[i] += new
            shown[i] += new if told else ["<unknown>"] * len(new)
            missing[i] -= len(new)
    return [text + rest for text, rest in zip(texts, behind)]


rng = random.Random(run.seed)
longer = [each for each in (fill_example(tokens, rng) for tokens in drawn.fresh) if len(each.slots) > 1][: run.pick(smoke=10, standard=300, full=3000)]
ways = {"all slots at once": {"in_rounds": False}, "in rounds": {}, "in rounds, words put in not shown": {"told": False}}
occurring = {name: sum(map(can_occur, map(tuple, filled(raced["encoder"], longer, **told)))) / len(longer) for name, told in ways.items()}
for name, each in occurring.items():
    print(f"{name:<36}{each:.2f} of {len(longer)} sentences can occur")

# %% tags=["claim"]
claim(
    "asked in rounds, the same encoder fills two or three words with something that can occur more often than all at once (the difference of shares)",
    measured=occurring["in rounds"] - occurring["all slots at once"],
    at_least=0.03,
    breaks_when={"in rounds, but without being shown the words put in": occurring["in rounds, words put in not shown"] - occurring["all slots at once"]},
)

# %% [markdown]
r"""
### The recorded race

Three and a half times as many steps, three seeds (of sentences, first weights and order), and the prefix LM beside the other three. This is a record, not your own run. The dashed line is the best that is possible, by the grammar.
"""

# %% tags=["record"]
LONG = run.pick(smoke=12, standard=700, full=50_000)
race: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
ceiling = []
for seed in range(3):
    given = draw_examples(seed, n_train, n_test, MOST)
    data = {task: Numbered(given.train[task], given.vocabulary) for task in TASKS}
    ceiling.append([best_filling(each, given) for each in given.test["fill"] if len(each.slots) == 1])
    for kind in KINDS:
        race[kind].append(judge(trained(kind, given, data, LONG, seed), given))
record("race", {"steps": LONG, "scores": race, "best": [sum(each) / len(each) for each in ceiling]})

# %% tags=["experiment"]
told = recorded("race")
race, best = told["scores"], sum(told["best"]) / len(told["best"])


def mean_of(kind: str, name: str) -> float:
    """Return the mean of a measure over the recorded seeds."""
    return sum(each[name] for each in race[kind]) / len(race[kind])


print(f"recorded, {told['steps']} steps, mean of three seeds")
print(f"{'':<30}" + "".join(f"{kind:>17}" for kind in KINDS))
print(f"{'parameters':<30}" + "".join(f"{parameters[kind]:>17,}" for kind in KINDS))
for name in MEASURES:
    print(f"{name:<30}" + "".join(f"{mean_of(kind, name):>17.2f}" for kind in KINDS))
print(f"best possible for a gap of one word: {best:.2f}")

# %% tags=["experiment"]
panels = {"number": "number: right", "fill, one word: right": "fill, one word: right", "fill, two or three: can occur": "fill, 2 or 3 words:\ncan occur", "translate": "translate:\nwhole sentences"}
ceilings = {"number": 1.0, "fill, one word: right": best, "fill, two or three: can occur": 1.0, "translate": 1.0}
fig, axes = plt.subplots(1, 4, figsize=(10.4, 3.2), sharey=True)
for ax, (name, title) in zip(axes, panels.items()):
    for i, kind in enumerate(KINDS):
        values = [each[name] for each in race[kind]]
        ax.bar(i, sum(values) / len(values), color=figures.CYCLE[i], width=0.7)
        ax.plot([i] * len(values), values, linestyle="", marker="o", markersize=3.5, color=figures.PALETTE["black"])
    ax.axhline(ceilings[name], color=figures.PALETTE["black"], linestyle="--", marker="", linewidth=1.2)
    ax.set(title=title, ylim=(0, 1.05))
    ax.set_xticks(range(len(KINDS)), ["both", "decoder", "encoder", "prefix LM"], rotation=40, ha="right")
axes[0].set_ylabel("share (3 seeds)")
figures.show(
    fig,
    caption="Recorded: the four models after equal tokens and equal operations, mean of three seeds; dots are the seeds. Dashed: the best that is possible, by the grammar. “Both” is the encoder–decoder.",
    alt="Four panels of four bars with dots: share of right numbers, of gaps of one word filled rightly, of longer gaps filled with something that can occur, and of sentences translated without a mistake, for the encoder–decoder, decoder, encoder and prefix LM.",
)

# %% tags=["claim"]
def lead(of: str, over: str, name: str) -> float:
    """Return by how much one kind is ahead of another, mean over the recorded seeds."""
    return mean_of(of, name) - mean_of(over, name)


claim(
    "recorded: in gaps of one word the encoder's fillings can occur more often than the encoder–decoder's (its mean lead, in shares)",
    measured=lead("encoder", "encoder–decoder", "fill, one word: can occur"),
    at_least=0.1,
    breaks_when={"in gaps of two or three words": lead("encoder", "encoder–decoder", "fill, two or three: can occur")},
)
claim(
    "recorded: the encoder–decoder translates more whole sentences rightly than the encoder (its mean lead, in shares)",
    measured=lead("encoder–decoder", "encoder", "translate"),
    at_least=0.15,
    breaks_when={"where the answer is one word, number": lead("encoder–decoder", "encoder", "number")},
)
claim(
    "recorded: in gaps of one word even the best of the four stays behind the best that is possible (by how much, in shares)",
    measured=best - max(mean_of(kind, "fill, one word: right") for kind in KINDS),
    at_least=0.05,
    breaks_when={"in the task number": 1 - max(mean_of(kind, "number") for kind in KINDS)},
)

# %% [markdown]
r"""
What wins where, and why?

- **One word about a text**: nobody. Any of the four can look at all of the text when it answers, and the task is easy: it shows that all can, not who is best.
- **One word in a gap**: the encoder, by far. It is asked at the place of the gap, and all it has to say is the word.
- **Two or three words**: the encoder's lead is nearly gone. The rounds above have shown the reason, with one encoder and without any training: its words do not know each other. (Rounds repair a part of it, at the price of reading the whole text again for each word.)
- **A text that has to be written**: the models that write. The encoder is told how long the translation is, and still gets far fewer sentences right. Among those that write, the encoder–decoder is ahead on average, and the dots of the others reach up to its own: three seeds are too few to rank them.
- **The prefix LM** was expected to gain from hearing its input in both directions, as it did in the paper (below). Here it gains nothing: it is level with the plain decoder at best, and behind it in longer gaps. We do not know why; the training is short.
- **The price.** At equal operations the encoder–decoder holds nearly twice the parameters of the decoder. Part of its lead may be theirs: this comparison cannot tell the two apart, since one budget fixes operations and tokens, not memory.

No kind is the best one. An encoder suits what has a place, a decoder what has to be written, and where there is much to be read *and* something to be written, one of each is a good way to spend the operations.

## Ask it

One model, one way of asking. **Change it**: other sentences (of words that it has read), other gaps, two sentinels, a task that does not exist.
"""

# %% tags=["experiment"]
ASK = [  # change them
    "number : some nephews did not spot a whale .",
    "number : a nephew did not spot some whales .",
    "fill 1 : the sister <0> a whale yesterday .",
    "fill 2 : the sister <0> a whale yesterday .",
    "fill 3 : the sister <0> a whale yesterday .",
    "translate : the sister spotted a whale yesterday .",
]


def ask(question: str) -> str:
    """Let the encoder–decoder of the short run answer."""
    strange = [word for word in question.split() if word not in drawn.vocabulary.index]
    if strange:
        return f"It has never read “{strange[0]}”."
    numbers = torch.tensor([[*drawn.vocabulary.numbers(question.split()), END]], device=run.device)
    (said,) = greedy_decode(raced["encoder–decoder"], numbers, torch.tensor([numbers.shape[1]], device=run.device), 20)
    answer = drawn.vocabulary.sentence(said)
    try:
        return f"{' '.join(answer):<44}  {' '.join(restore_spans(question.split()[3:], answer, MARKS))}" if MARKS[0] in question else " ".join(answer)
    except ValueError:
        return " ".join(answer) + "   (no target of this input)"


for question in ASK:
    print(f"{question:<52} →  {ask(question)}")

# %% [markdown]
r"""
## What it costs, and where it breaks

**Operations.** An input of $n$ and a target of $m$ tokens: the encoder–decoder with $L$ blocks in each stack takes about the operations of a *decoder with $L$ blocks* on $n + m$ tokens, and holds about twice the parameters, since each token goes through one of the two stacks only. That is the paper's own rule for comparing them (section 3.2).

**Writing.** The encoder reads once. For each word that is written only the decoder runs, with its caches, and its self-attention is over what has been said. A decoder alone carries the input in its cache instead.

**Pretraining.** Of a text of 568 tokens a decoder alone learns from 568 guesses. T5 learns from 114 and pays for about $512 + 114$. The guesses are harder, and see both sides.

**Where it breaks.**

- *Nothing but training keeps an answer in its class*, or in the form of a target: a class is written like anything else. What share of answers are none, after the short run and before it?
"""

# %% tags=["experiment"]
for kind, model in {**raced, "untrained": new_model("encoder–decoder", hidden_of["encoder–decoder"], n_words)}.items():
    examples = drawn.test["number"]
    said = answers_of(model, Numbered(examples, drawn.vocabulary), examples, drawn.vocabulary)
    strays = sum(each not in (["one"], ["many"]) for each in said) / len(said)
    no_target = {**scores, "untrained": untrained}[kind]["fill: no target"]
    print(f"{kind:<16} answers to “number” that are neither one nor many: {strays:.3f};  to “fill” that are no target: {no_target:.3f}")

# %% [markdown]
r"""
- *Sentinels are finite.* T5 has 100: a long text with many short spans is refused, or has to be cut.
- *It was not trained to go on.* A model of spans writes spans; to let it continue a text it must be trained further as a prefix LM (Lester et al. 2021).

## Real text

Python's own manual, which every machine has, in windows of 568 words, as T5 would read it:
"""

# %% tags=["experiment"]
words_of_manual = text.python_manual().text.split()
cut = [words_of_manual[i : i + WINDOW] for i in range(0, len(words_of_manual) - WINDOW, WINDOW)][: run.pick(smoke=5, standard=300, full=3000)]
T5_MARKS = [f"<extra_id_{i}>" for i in range(100)]
rng, lengths, back = random.Random(run.seed), [], 0
for window in cut:
    mask = draw_mask(WINDOW, rng)
    read, said = corrupt_spans(window, mask, T5_MARKS)
    lengths.append((len(read) + 1, len(said)))  # the end mark behind the input; in the target in place of the last sentinel
    back += restore_spans(read, said, T5_MARKS) == window
print(f"{len(cut)} windows, lengths of input and target: {sorted(set(lengths))}; restored: {back}")
sample, sample_target = corrupt_spans(cut[2][:40], draw_mask(40, random.Random(1)), T5_MARKS)
print("\n" + " ".join(sample), "\n→", " ".join(sample_target))

# %% tags=["claim"]
claim(
    "every window of Python's manual becomes an input of 512 and a target of 114 tokens, T5's own lengths, and comes back (share)",
    measured=sum(each == (512, 114) for each in lengths) / len(lengths) * back / len(cut),
    equals=1.0,
    breaks_when={"windows of 512 tokens": float(512 - count_noise(512)[0] + count_noise(512)[1] + 1 == 512)},
)

# %% [markdown]
r"""
What such pretraining is worth this lesson does not measure. The paper does (section 3.2, table 2; models of BERT-base's size, pretrained on web pages, then tuned on each task): at equal operations the encoder–decoder is ahead of the prefix LM, and that one of the decoder that reads from left to right, in understanding as in translation. An encoder whose weights the decoder *shares* has half of the parameters, and loses little.

## Recap

- Everything is text to text: the task stands in front, one loss, one way of decoding.
- Span corruption takes $\operatorname{round}(rn)$ tokens out in $\operatorname{round}(rn/\mu)$ spans; sentinels say where, $k$ spans need $k + 1$; input and target together are the text, without loss.
- The settings hold in long windows. In short texts rounding decides, and the last token is always taken out.
- T5's attention divides by nothing: the factor is in the first weights of the queries. Positions are one bias per head and bucket, shared by all layers. On the way out the stream is divided by $\sqrt d$.
- At equal operations an encoder–decoder has about twice the parameters of a decoder.
- At one budget an encoder alone is the best at filling a gap of one word, and far behind in writing a sentence; in longer gaps its words do not know each other. One word about a text all can say.

**If you want more.** (1) Give the short run three times as many steps (`STEPS`). (2) Let the encoder fill gaps in several rounds: say the surest slot, put it in, ask again. How much of its loss does that win back? (3) Share the weights of encoder and decoder. (4) Train on span corruption alone, with `draw_mask`, and then on a hundred examples of *number*: is it worth anything? (5) Draw the mask by coins instead of counts: which texts get no gap at all?

## Glossary

| word | meaning |
|---|---|
| text to text | every task as an input text and a target text |
| span | a longest run of neighbouring tokens that are taken out |
| sentinel | a mark that stands for a span, and occurs in no text |
| corruption rate | the share of tokens that is taken out |
| shift right | what a decoder hears: a mark, then the labels but the last |
| prefix LM | a decoder whose input may be heard in both directions |
| one budget | the same tokens, and the same counted operations |

## Sources

- C. Raffel et al. (2020), *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer*, JMLR 21. Sections 2.1 (model), 3.1.4 and figure 2 (objective), 3.2 and table 2 (architectures), 3.3 (rates and lengths), 3.7 (sizes). Its code: `t5/data/preprocessors.py`, `random_spans_noise_mask` (counts, order of pieces) and `random_spans_helper` (568 tokens).
- P. Shaw, J. Uszkoreit, A. Vaswani (2018), *Self-Attention with Relative Position Representations*, NAACL: positions inside the attention.
- B. Zhang, R. Sennrich (2019), *Root Mean Square Layer Normalization*, NeurIPS.
- J. Gu et al. (2018), *Non-Autoregressive Neural Machine Translation*, ICLR, section 3: what goes wrong when words are written without knowing each other.
- M. Joshi et al. (2020), *SpanBERT*, TACL: spans in an encoder.
- B. Lester, R. Al-Rfou, N. Constant (2021), *The Power of Scale for Parameter-Efficient Prompt Tuning*, EMNLP, section 2.2: T5 trained further to continue texts.
- Hugging Face, `transformers`, model T5: the reference of the course's tests.
"""
