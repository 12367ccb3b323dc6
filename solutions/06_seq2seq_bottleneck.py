# %% [markdown]
r"""
# 06 · The seq2seq bottleneck

**One vector for a whole sentence?**

A recurrent network can read a sentence of any length and write one of any length. Put one behind the other and you have a translator. In this lesson you build it, find out where it breaks, and repair it with the idea that the rest of the course is made of. At the end you will

- train an LSTM encoder and decoder to translate English into Tovian, Riverbank's other language;
- see its accuracy fall with the length of the sentence, and know why;
- search for good translations with a beam, and know what that search promises and what it does not;
- score translations with BLEU, to the last digit as the standard tool does;
- add attention in two ways, Bahdanau's and Luong's, see the accuracy hold, and read off which word was translated from which;
- test that padding leaks nowhere: not into outputs, not into gradients.

You need softmax and broadcasting (lesson 00), cross-entropy (02, 04), and what an LSTM computes (05). About two hours.

Two helpers from earlier lessons: `run.pick(smoke=…, standard=…, full=…)` takes the value for the SCALE below, and `run.generator(i)` is a source of random numbers that depends on SEED and $i$ alone.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import copy
import itertools
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence  # noqa: F401 - used by code that is written out below
from typing import Any, NamedTuple  # noqa: F401

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401
from torch import Tensor, nn

from course_lib import figures
from course_lib.data import registry
from course_lib.data.riverbank import Sentence, Town, Translation
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.translation import (  # noqa: F401
    END, PAD, START, UNKNOWN, Decoded, Translating, TranslationSet, Vocabulary, edit_distance, translation_loss,
)
from course_lib.runtime import median_time, progress, start
from course_lib.widgets.translation_view import Translated, TranslationView

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=6, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=6)

# %% [markdown]
r"""
## The question

Across the river from Riverbank they speak **Tovian**. It has no articles, marks case and number by endings, and puts the verb last. Every sentence of the town has one right translation, and for each Tovian word the course knows which English word it translates: the **gold alignment**. Below, the third line takes the Tovian words apart (*sg* one, *pl* several; nominative for the subject, accusative for the object, genitive and dative for the rest), and the fourth says from which English word, counted from 0, each was translated.
"""

# %% tags=["nbval-check-output"]
town = Town()
for _, translation in town.parallel(3, seed=4, min_words=6, max_words=11, register="story", topic="voyage"):
    print("English  ", " ".join(translation.source))
    print("Tovian   ", translation.text)
    print("glossed  ", " ".join(town.tovian.gloss(translation.target)))
    print("from word", *(i for _, i in sorted((j, i) for i, j in translation.alignment)), "\n")

# %% [markdown]
r"""
Look at the last lines: the numbers jump. The verb waits for the end, an adjective follows its noun, and so does a word such as *in* or *by*. Two things are hard. The *order* is another one, and the *form* of a word depends on others: a noun's ending on what the verb or a preposition makes of it, a verb's ending on a subject that may stand far away.

The data: stories about voyages, made of the most frequent Tovian forms. Training sentences have 4 to 20 English words, the long ones no rarer than the short ones. Test sentences go on to 28, longer than anything that is trained on, and none of them occurs in training.
"""

# %%
COMMON = run.pick(smoke=300, standard=300, full=1400)  # how many Tovian forms are used
LONGEST = 20  # the longest training sentence, in English words
BINS = ((4, 8), (9, 12), (13, 16), (17, 20), (21, 24), (25, 28))  # lengths of test sentences that are counted together


class Task(NamedTuple):
    """What there is to learn, and to be tested on."""

    english: Vocabulary
    tovian: Vocabulary
    train: TranslationSet
    test: TranslationSet
    pairs: list[tuple[Sentence, Translation]]  # the test sentences with tags and gold alignment


def draw_task(seed: int, n_train: int, n_test: int) -> Task:
    """Draw sentences, keep those of common words, and number the words."""
    about = {"register": "story", "topic": "voyage", "min_words": 4}
    drawn = town.parallel(n_train, seed=seed, max_words=LONGEST, **about)
    forms = Counter(form for _, t in drawn for form in t.target)
    common = {form for form, _ in forms.most_common(COMMON)}
    kept = [t for _, t in drawn if common.issuperset(t.target)]
    english, tovian = Vocabulary.of(t.source for t in kept), Vocabulary.of(t.target for t in kept)
    seen = {t.source for t in kept}
    fresh = town.parallel(n_test, seed=10_000 + seed, max_words=BINS[-1][1], **about)
    pairs = [
        (sentence, t)
        for sentence, t in fresh
        if t.source not in seen and english.index.keys() >= set(t.source) and tovian.index.keys() >= set(t.target)
    ]
    sets = (TranslationSet([(t.source, t.target) for t in each], english, tovian) for each in (kept, [t for _, t in pairs]))
    return Task(english, tovian, *sets, pairs)


n_train, n_test = run.pick(smoke=(1500, 250), standard=(12_000, 1000), full=(200_000, 3000))
task = draw_task(run.seed, n_train, n_test)
sources = [list(t.source) for _, t in task.pairs]
references = [list(t.target) for _, t in task.pairs]
moved = sum(not t.is_monotone for _, t in task.pairs) / len(task.pairs)
print(f"{len(task.train):,} training and {len(task.test):,} test sentences; {len(task.english)} English and {len(task.tovian)} Tovian words")
print(f"in {moved:.1%} of the test sentences the order of the words changes")

# %% [markdown]
r"""
How good is a translation? For now we count words. The **edit distance** of two sentences is the smallest number of words that must be put in, taken out or replaced to turn one into the other; **word accuracy** is 1 minus the edits per word of the right translation. Silence scores 0, and much wrong text scores less than that.
"""

# %%
from course_lib.models.translation import word_accuracy  # course: write out

# %% [markdown]
r"""
How far do we get without looking ahead? Say for each English word the Tovian form that most often translates it, and nothing for *the* and *of*. This is the best such dictionary: it is read off the gold alignments of the test set itself, so it even cheats.
"""

# %%
dictionary = defaultdict(Counter)
for _, t in task.pairs:
    linked = dict(t.alignment)
    for i, word in enumerate(t.source):
        dictionary[word][t.target[linked[i]] if i in linked else ""] += 1
best_form = {word: forms.most_common(1)[0][0] for word, forms in dictionary.items()}
word_by_word = [[best_form[word] for word in source if best_form[word]] for source in sources]
dictionary_accuracy = word_accuracy(word_by_word, references)
known_forms = sum((Counter(said) & Counter(right)).total() for said, right in zip(word_by_word, references)) / sum(map(len, references))
print(f"share of the right words that the dictionary says somewhere: {known_forms:.2f}")
print(f"word accuracy of the dictionary: {dictionary_accuracy:.2f}")
print(" ".join(sources[0]), "→", " ".join(word_by_word[0]), "(right:", " ".join(references[0]) + ")")

# %% tags=["claim"]
claim(
    "translating word by word, even with the best dictionary, gets less than half of the words right",
    measured=dictionary_accuracy,
    at_most=0.5,
    breaks_when={"if order did not count: the words it has, in any place": known_forms},
)

# %% [markdown]
r"""
It knows most of the words and not their order. The LSTM of lesson 05, which says one thing for each word that it reads, could choose endings by what it has read, but cannot say a word that is still to come, and Tovian often begins with one. The sentence must be read *to its end* before the first word is said.

## Sentences side by side

Sentences have different lengths, a tensor has one. So the short ones of a batch are filled up with a **padding** token, number 0. `Vocabulary` numbers the words (0 padding, 1 start, 2 end, 3 unknown); `TranslationSet` holds all pairs as numbers and deals them out in batches of like length:
"""

# %% tags=["nbval-check-output"]
tiny = [("look at the sea", "see water"), ("swim", "swim fish now")]
tiny = [(source.split(), target.split()) for source, target in tiny]
batch = TranslationSet(tiny, Vocabulary.of(s for s, _ in tiny), Vocabulary.of(t for _, t in tiny)).select([0, 1])
print("source, closed by 2 (end), padded with 0:\n", batch.source, "\nlengths", batch.source_lengths)
print("what the decoder hears, from 1 (start):\n", batch.target_in)
print("what it must say, up to 2 (end):\n", batch.target_out)

# %% [markdown]
r"""
Padding is not language. Nothing may depend on how much of it there is, and there are three places where it can leak: what the encoder keeps, what the loss counts, and, later, whom attention asks. All three must know which positions are real.

### Exercise: `length_mask`

*Difficulty ●○○○○ · about 6 minutes · 2 points*

Write `length_mask(lengths, n)`. `lengths` (batch,) holds the number of real words of each sentence, which stand first; `n` is the padded length. Return a Boolean tensor (batch, n), True at the real words. It stands on the device of `lengths`. `hint("length_mask")` helps.
"""

# %% tags=["exercise"] exercise="length_mask"
from course_lib.models.seq2seq import length_mask  # course: write out

# %% tags=["check"] exercise="length_mask"
length_mask = check("length_mask")

# %% [markdown]
r"""
## Encoder and decoder

Let $x = (x_1, \dots, x_n)$ be the English words and $y = (y_1, \dots, y_m)$ the Tovian ones; $x_n$ and $y_m$ are the end tokens. By the product rule of probability, without any assumption,

$$P(y \mid x) = \prod_{t=1}^{m} P(y_t \mid y_1, \dots, y_{t-1}, x) .$$

Each factor is a language model's question, *what comes next?*, with the English sentence known. Cho et al. (2014) and Sutskever, Vinyals and Le (2014) answer it with two recurrent networks.

The **encoder** reads $x$. Let $e_j$ be the embedding of $x_j$; from its state $h_{j-1}$ and $e_j$ an LSTM makes $h_j$, a vector of $d$ numbers. At the end stands $h_n$: the **summary**, the one vector that has read everything.

The **decoder** is a second LSTM whose state $s_t$ begins with the summary (both vectors of it: the LSTM's cell too). It hears the words that have been said and says the next:

$$s_t = \operatorname{LSTM}(s_{t-1}, y_{t-1}), \qquad P(y_t \mid y_{<t}, x) = \operatorname{softmax}\big(\tanh([s_t ; c]\, W)\, E^\top + b\big) .$$

Here $c$ is the **context**, what the decoder is told of the source at step $t$; $[s_t; c]$ is the two side by side; $W$ mixes them into $d$ numbers; and $E$ has a row of $d$ numbers for each Tovian word, the same table that embeds the words it hears. In this first version the context is the same at every step: what the encoder kept at the end, $c = [h_n; e_n]$. (The embedding $e_n$ of the end token is the same for all sentences. It keeps a place that attention will use.) All that the decoder ever learns about the sentence is in these few numbers.

`Memory` is what the encoder hands over. It keeps more than we need yet: for each word its state and its embedding. `OneVector` picks the last real one.
"""

# %%
from course_lib.models.seq2seq import Memory  # course: write out

# %%
from course_lib.models.seq2seq import Encoder  # course: write out

# %% [markdown]
r"""
The first leak is stopped in one line: the summary is the state after the last *real* word. The LSTM runs on through the padding, but nobody looks at what it thinks there.
"""

# %%
from course_lib.models.seq2seq import OneVector  # course: write out

# %%
from course_lib.models.seq2seq import Translator  # course: write out

# %% [markdown]
r"""
### Teacher forcing

Training maximises $\log P(y \mid x)$, a sum over the words. Each term needs $y_{<t}$, the words *before*. In training we have them: the decoder hears the right words, whatever it would have said itself (**teacher forcing**; Williams and Zipser 1989). So all its inputs are known beforehand, the LSTM runs through the sentence in one call, and all $m$ predictions are judged at once. The loss is the mean cross-entropy over the real words. Padding in the target does not count (`ignore_index`): the second leak.
"""

# %%
from course_lib.models.translation import train_translator  # course: write out

# %% [markdown]
r"""
### Free decoding

When it translates, nobody tells it the right words: it hears its own. The simplest way is **greedy**: say the most probable word, hear it, go on until the end token. The decoder's state is carried from step to step, and the whole batch goes on until its last sentence has ended.
"""

# %%
from course_lib.models.translation import greedy_decode  # course: write out

# %%
D = run.pick(smoke=16, standard=64, full=256)  # the width of embeddings and states
STEPS = run.pick(smoke=6, standard=550, full=6000)
RATE = run.pick(smoke=1e-2, standard=1.4e-2, full=1e-2)  # the highest learning rate
MAX_LENGTH = 36  # of a translation, in tokens; no right one is that long


def new_translator(attend: Callable[[], nn.Module], d: int = D, seed: int = run.seed, task: Task = task) -> Translator:
    """Return an untrained translator; every one begins with the same encoder and decoder."""
    torch.manual_seed(seed)
    model = Translator(len(task.english), len(task.tovian), d, nn.Identity())
    model.attend = attend()
    return model.to(run.device)


def translate(model: Translator, task: Task = task) -> list[list[str]]:
    """Translate the test sentences freely."""
    batch = task.test.select(range(len(task.test))).to(run.device)
    return [task.tovian.sentence(each) for each in greedy_decode(model, batch.source, batch.source_lengths, MAX_LENGTH)]


def accuracy_by_length(said: list[list[str]], task: Task = task) -> list[float]:
    """Return the word accuracy in each bin of lengths."""
    found = []
    for low, high in BINS:
        rows = [i for i, (_, t) in enumerate(task.pairs) if low <= len(t.source) <= high]
        found.append(word_accuracy([said[i] for i in rows], [task.pairs[i][1].target for i in rows]))
    return found


# %%
predict(
    "bottleneck",
    "The encoder–decoder is trained on sentences of 4 to 20 words, the long ones no rarer than the short ones. How does its word accuracy depend on the length?",
    ["Long sentences are as good as short ones: it was trained on both", "The longer, the worse", "Short ones are worse: they give less context"],
    answer=1,
    because="A sentence of 20 words must pass through the same 64 numbers as one of 4.",
)

# %% tags=["experiment"]
untrained = accuracy_by_length(translate(new_translator(OneVector)))
one_vector = new_translator(OneVector)
one_vector_losses = train_translator(one_vector, task.train, STEPS, run.generator(1), learning_rate=RATE, desc="one vector")
said_one = translate(one_vector)
accuracy_one = accuracy_by_length(said_one)
print(f"loss {sum(one_vector_losses[:20]) / len(one_vector_losses[:20]):.2f} → {sum(one_vector_losses[-20:]) / len(one_vector_losses[-20:]):.2f} nats a word")
for (low, high), share in zip(BINS, accuracy_one):
    print(f"{low:>2}–{high} words: {share:.2f}")

tovian_forms = set(town.tovian.vocabulary)


def in_english(said: list[str]) -> str:
    """Return Tovian words glossed one by one, in Tovian order and without the endings."""
    return " ".join(town.tovian.gloss([form])[0].split(".")[0] or "." if form in tovian_forms else form for form in said)


for low, high in (BINS[0], BINS[3]):
    i = next(i for i, source in enumerate(sources) if low <= len(source) <= high)
    print("\n" + " ".join(sources[i]), "\n  says ", in_english(said_one[i]), "\n  right", in_english(references[i]))

# %% tags=["claim"]
claim(
    "the encoder–decoder has learnt to translate: word accuracy on sentences of up to 8 words",
    measured=accuracy_one[0],
    at_least=0.65,
    breaks_when={"before training": untrained[0], "the dictionary, on the same sentences": accuracy_by_length(word_by_word)[0]},
)
claim(
    "but it falls with the length: word accuracy lost between sentences of up to 8 and of 17 to 20 words",
    measured=accuracy_one[0] - accuracy_one[3],
    at_least=0.2,
    breaks_when={"between training lengths next to each other, 13 to 16 and 17 to 20": accuracy_one[2] - accuracy_one[3]},
)

# %% [markdown]
r"""
Read the examples (Tovian, glossed word by word in English). The short sentence is right or nearly so. The long one is fluent, of the right kind, and yet another story: people and things are exchanged for likely ones. It is a good language model that has forgotten what it was to say.

## Is it the vector?

It might be something else: too little training, or too few numbers. These runs are too long for a lesson, so they were made once and recorded: four times the steps, and twice the width with twice the steps.
"""

# %% tags=["record"]
found = {"64 numbers": accuracy_one}  # the run above
for name, width, times in (("64 numbers, four times the steps", 64, 4), ("128 numbers, twice the steps", 128, 2)):
    model = new_translator(OneVector, d=width)
    train_translator(model, task.train, times * STEPS, run.generator(1), learning_rate=RATE, desc=name)
    found[name] = accuracy_by_length(translate(model))
record("one vector, trained longer or wider", found)

# %%
MIDDLE = [(low + high) / 2 for low, high in BINS]


def draw_by_length(series: dict[str, list[float]], title: str, bands: dict | None = None) -> plt.Figure:
    """Draw word accuracy against the length of the sentence, with the untrained lengths shaded."""
    fig, ax = plt.subplots(figsize=(6.8, 3.8))
    figures.lines(ax, MIDDLE, series, xlabel="length of the English sentence (words)", ylabel="word accuracy", title=title, bands=bands)
    ax.axvspan(LONGEST + 0.5, BINS[-1][1] + 0.5, color=figures.PALETTE["grey"], alpha=0.12, linewidth=0)
    ax.text(LONGEST + 0.8, 1.03, "longer than in training", color=figures.PALETTE["grey"], fontsize=9)
    ax.set(ylim=(0, 1.1), xlim=(BINS[0][0] - 0.5, BINS[-1][1] + 0.5))
    ax.legend(loc="lower left")
    return fig


longer = recorded("one vector, trained longer or wider")
figures.show(
    draw_by_length(longer, "One vector, trained longer and made wider (recorded)"),
    caption="Seed 0. More training or a wider vector lift the whole curve, and it still falls from each group of lengths to the next, within the lengths of training and beyond.",
    alt="Three lines of word accuracy against sentence length for the one-vector model; all fall from short to long sentences, the better trained ones from a higher level.",
)

# %% [markdown]
r"""
More of everything helps: it pushes the fall towards longer sentences. It does not stop it. (Sutskever et al. used four layers of 1000 cells and ten days on eight GPUs. They also read the source *backwards*, so that its first words are close to the first words of the translation: a shorter way for the gradient to some words, at the price of a longer one to others.)

How long is the way? Between the source word $x_j$ and the target word $y_t$ lie $n - j$ steps of the encoder and $t$ steps of the decoder. What $y_t$ needs to know of $x_j$ has to survive them all, beside everything that the other words need; and the gradient has to come back the same way (lesson 05).

Before we repair it: we have judged single words of greedy translations. There is a standard yardstick, and there are better ways to decode.

## BLEU

A translation can be right in many ways, so counting words at their places is harsh. **BLEU** (Papineni et al. 2002) asks instead which runs of words are right, wherever they stand. An **n-gram** is a run of $n$ words. For $n = 1, \dots, 4$ the **precision** is

$$p_n = \frac{\text{n-grams of the translations that are in their reference}}{\text{n-grams of the translations}} ,$$

both added up over *all sentences of the corpus* before dividing. Two repairs make cheating hard.

**Clipping.** Say *the the the the* and every word is in the reference. So an n-gram counts as right at most as often as its reference has it.

**The brevity penalty.** Precision asks only what was said: who says nothing but one sure word is never wrong. Let $c$ be the number of words of all translations and $r$ that of all references. Then

$$\text{BLEU} = 100 \cdot \min\!\big(1, e^{1 - r/c}\big) \cdot \Big(\prod_{n=1}^{4} p_n\Big)^{1/4} .$$

The geometric mean makes BLEU 0 as soon as one $p_n$ is 0. (Tools for single sentences smooth that away; a corpus needs no smoothing.)

By hand: the translation *a b c d e x*, the reference *a b c d e f*. Five of six words are right, four of five pairs, three of four triples, two of three quadruples. So the product is $\frac56 \cdot \frac45 \cdot \frac34 \cdot \frac23 = \frac13$, both have six words, and BLEU is $100 \cdot (1/3)^{1/4} \approx 75.98$.
"""

# %%
from course_lib.models.bleu import ngram_counts  # noqa: F401  # course: write out

# %% [markdown]
r"""
### Exercise: `bleu`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

Write `bleu(hypotheses, references, max_n=4)`. Both are lists of sentences, a sentence is a list of words, and there is one reference for each hypothesis. Return a float from 0 to 100. It is 0.0 where some $p_n$ is 0 or nothing was said at all; no smoothing. `ngram_counts` is there to be used. `hint("bleu")` helps.
"""

# %% tags=["exercise"] exercise="bleu"
from course_lib.models.bleu import bleu  # course: write out

# %% tags=["check"] exercise="bleu"
bleu = check("bleu")

# %% [markdown]
r"""
The usual tool is **sacrebleu** (Post 2018). To see whether we agree, take sentences that never change, spoil some words, and compare with what sacrebleu said about the same tokens (recorded, since the course does not ask you to install it):
"""

# %%
rng = random.Random(6)
checked = [list(t.target) for _, t in town.parallel(200, seed=6, max_words=24, register="story", topic="voyage")]
every_form = sorted({form for sentence in checked for form in sentence})


def spoil(sentence: list[str]) -> list[str]:
    """Drop, replace, repeat or exchange a few words."""
    found = []
    for word in sentence:
        luck = rng.random()
        found += [] if luck < 0.08 else [rng.choice(every_form)] if luck < 0.2 else [word] * (1 + (luck > 0.95))
    if len(found) > 3 and rng.random() < 0.3:
        found[1], found[2] = found[2], found[1]
    return found


spoilt = [spoil(sentence) for sentence in checked]

# %% tags=["record"]
import sacrebleu

theirs = sacrebleu.corpus_bleu([" ".join(s) for s in spoilt], [[" ".join(r) for r in checked]], tokenize="none", force=True)
record("sacrebleu on spoilt sentences", theirs.score)

# %% tags=["claim"]
ours, theirs = bleu(spoilt, checked), recorded("sacrebleu on spoilt sentences")
mean_of_sentences = sum(bleu([s], [r]) for s, r in zip(spoilt, checked)) / len(checked)
print(f"our BLEU {ours:.6f}, sacrebleu {theirs:.6f}; mean over single sentences {mean_of_sentences:.2f}")
claim(
    "our BLEU equals sacrebleu's on the same tokens",
    measured=abs(ours - theirs),
    at_most=1e-6,
    breaks_when={"the mean of single sentences' BLEU": abs(mean_of_sentences - theirs)},
)

# %%
print(f"BLEU on the test sentences: dictionary {bleu(word_by_word, references):.1f}, one vector {bleu(said_one, references):.1f}")

# %% [markdown]
r"""
## Beam search

Greedy decoding says the most probable *next word*. What we want is the most probable *sentence*, $\arg\max_y \log P(y \mid x)$. They need not be the same. A language of four words, where 0 ends the sentence:

| said so far | next word and its probability | |
|---|---|---|
| (nothing) | *1*: 0.5 | *2*: 0.4 |
| 1 | *3*: 0.4 | 0, 1, 2: 0.2 each |
| 2 | *3*: 0.9 | |
| 1 3 and 2 3 | 0: 1.0 | |

Greedy begins with *1* and ends with the sentence *1 3*, of probability $0.5 \cdot 0.4 = 0.2$. It can never find *2 3*, of probability $0.4 \cdot 0.9 = 0.36$: its first word looked worse.

Trying all sentences is out of the question, since $V$ words and $T$ steps make $V^T$ of them. **Beam search** keeps the $k$ best prefixes instead of the one best:

1. Begin with one prefix, the start token, whose log-probability is 0.
2. Extend every prefix by every word. Of *all* these continuations together keep the $k$ most probable.
3. Those that end with the end token are candidates and leave the beam, which is narrower from then on; the others go on. After $T$ words all are candidates as they stand.
4. When no prefix is left, the candidate of the highest score wins.

**The score.** A log-probability is a sum of negative terms, so every further word costs, and long translations lose to short ones for no other reason. The remedy is to divide: $\operatorname{score}(y) = \log P(y \mid x) / |y|^\alpha$, where $|y|$ counts the end token, and $\alpha = 0$ changes nothing. (Wu et al. 2016 divide by $((5 + |y|)/6)^\alpha$, which is gentler to short sentences.)

What does the search promise? With $k \geq V^{T-1}$ nothing is ever thrown away that could still win, so it finds *the* best sentence. With smaller $k$ it promises nothing. Not even to be better than greedy: the greedy prefix can be crowded out of the beam by others that turn bad later. But that one promise is cheap to keep. Let the greedy sentence compete at the end.

### Exercise: `beam_search`

*Difficulty ●●●●○ · about 30 minutes · 5 points*

Write `beam_search(step, start, end, beam, max_length, alpha=0.0)`. `step` takes prefixes, an integer tensor (k, t) whose first column is `start`, and returns log-probabilities (k, words) of the next token. Return the best candidate's tokens (a list of integers without `start`; with `end`, if it ended) and its score (a float). The sentence that a beam of 1 finds is always a candidate. No early stopping. `hint("beam_search")` helps.
"""

# %% tags=["exercise"] exercise="beam_search"
from course_lib.models.seq2seq import beam_search  # course: write out

# %% tags=["check"] exercise="beam_search"
beam_search = check("beam_search")

# %%
def language(table: dict[tuple[int, ...], list[float]]) -> Callable[[Tensor], Tensor]:
    """Return the `step` of a language: after the words of a key come those probabilities, elsewhere all words alike."""
    n_words = len(table[()])
    even = [1 / n_words] * n_words

    def step(prefixes: Tensor) -> Tensor:
        rows = [table.get(tuple(row[1:]), even) for row in prefixes.tolist()]  # row[0] is the start
        return torch.tensor(rows, dtype=torch.float64).log()

    return step


sure = [1.0, 0.0, 0.0, 0.0]
toy = language({(): [0.05, 0.5, 0.4, 0.05], (1,): [0.2, 0.2, 0.2, 0.4], (2,): [0.03, 0.03, 0.04, 0.9], (1, 3): sure, (2, 3): sure})
for width in (1, 2):
    tokens, score = beam_search(toy, start=9, end=0, beam=width, max_length=4)
    print(f"beam of {width}: {tokens}, probability {math.exp(score):.2f}")

# %% [markdown]
"""
Is it right? On a small vocabulary we can afford to try every sentence, and compare.
"""

# %% tags=["claim"]
def exhaustive(step: Callable[[Tensor], Tensor], start: int, end: int, n_words: int, max_length: int, alpha: float) -> float:
    """Return the best score of all sentences: those that end with `end`, and those of max_length words without."""
    best = -math.inf
    for n in range(1, max_length + 1):
        for tokens in itertools.product(range(n_words), repeat=n):
            if end in tokens[:-1] or (tokens[-1] != end and n < max_length):
                continue
            prefixes = [torch.tensor([[start, *tokens[:t]]]) for t in range(n)]
            best = max(best, sum(step(p)[0, w].item() for p, w in zip(prefixes, tokens)) / n**alpha)
    return best


V, T = 4, 4
gaps = {"a beam of V^(T−1)": [], "a beam of 2": []}
for trial in range(run.pick(smoke=2, standard=60, full=200)):
    gen = run.generator(100 + trial)
    prefixes = [row for t in range(T) for row in itertools.product(range(V), repeat=t)]
    step = language(dict(zip(prefixes, torch.randn(len(prefixes), V, generator=gen).softmax(-1).tolist())))
    best = exhaustive(step, V, 0, V, T, alpha=0.7)
    for name, width in zip(gaps, (V ** (T - 1), 2)):
        gaps[name].append(best - beam_search(step, V, 0, width, T, alpha=0.7)[1])
claim(
    "a beam of V^(T−1) finds what trying all sentences finds (largest difference of scores)",
    measured=max(map(abs, gaps["a beam of V^(T−1)"])),
    at_most=1e-12,
    breaks_when={"a beam of 2": max(gaps["a beam of 2"])},
)

# %% [markdown]
"""
Now on our translator. The model reads the source once; each step of the search asks it about all prefixes of the beam. (It runs through each prefix from the start. A faster decoder would carry the states along, as `greedy_decode` does.)
"""

# %%
def step_of(model: Translator, source: list[str], task: Task = task) -> Callable[[Tensor], Tensor]:
    """Return the `step` of a translator for one English sentence."""
    numbers = torch.tensor([[*task.english.numbers(source), END]], device=run.device)  # (1, n)
    with torch.no_grad():
        memory = model.encode(numbers, torch.tensor([numbers.shape[1]], device=run.device))

    @torch.no_grad()
    def step(prefixes: Tensor) -> Tensor:
        wide = Memory(*(part.repeat_interleave(len(prefixes), dim=0) for part in memory))
        logits = model.decode(wide, prefixes.to(run.device)).logits[:, -1]  # (k, words)
        return logits.log_softmax(dim=-1).cpu()

    return step


def search_all(model: Translator, rows: list[int], beam: int, alpha: float = 0.0) -> tuple[list[list[str]], list[float]]:
    """Translate some test sentences with a beam; return the words and the scores."""
    found = [beam_search(step_of(model, sources[i]), START, END, beam, MAX_LENGTH, alpha) for i in progress(rows, desc=f"beam of {beam}")]
    return [task.tovian.sentence(word for word in tokens if word != END) for tokens, _ in found], [score for _, score in found]


# %% tags=["experiment"]
rows = [i for i, source in enumerate(sources) if 9 <= len(source) <= 20][: run.pick(smoke=3, standard=40, full=500)]
right = [references[i] for i in rows]
greedy_said, greedy_scores = search_all(one_vector, rows, beam=1)
beam_said, beam_scores = search_all(one_vector, rows, beam=5)
gains = [b - g for b, g in zip(beam_scores, greedy_scores)]
print(f"the beam finds a more probable sentence in {sum(gain > 1e-6 for gain in gains)} of {len(rows)} cases")
print(f"mean log-probability: greedy {sum(greedy_scores) / len(rows):.2f}, beam of 5 {sum(beam_scores) / len(rows):.2f}")
print(f"BLEU: greedy {bleu(greedy_said, right):.1f}, beam of 5 {bleu(beam_said, right):.1f}")

# %% tags=["claim"]
trap = language({(): [0.02, 0.45, 0.4, 0.13], (1,): [0.2, 0.33, 0.24, 0.23], (2,): [0.0, 0.5, 0.5, 0.0], (1, 1): sure})
trap_greedy, trap_beam = (beam_search(trap, 9, 0, width, 3)[1] for width in (1, 2))
crowded_out = math.log(0.4 * 0.5 * 0.25)  # the best that stays in a beam of 2: 2 1 or 2 2, then any word
claim(
    "beam search never scores below greedy search: the smallest gain over all sentences, and over a language made to trap it",
    measured=min([*gains, trap_beam - trap_greedy]),
    at_least=0.0,
    breaks_when={"in the trap, without the greedy sentence among the candidates": crowded_out - trap_greedy},
)

# %% [markdown]
r"""
The model's own score is never worse, by construction. BLEU may be: a more probable sentence is better only if the *model* is right about what is probable, and no search repairs a model that has forgotten the sentence. So BLEU is printed and nothing is claimed about it.

## Attention

What if the decoder were not told the same $c$ at each step? The encoder has a state after *every* word, and throws all but the last away. Keep them. At each step let the decoder choose which of them to hear.

Let $k_j = [h_j; e_j]$ be what is kept of source word $j$: the state after reading it, which knows the context, and its embedding, which knows nothing but the word. At step $t$ the decoder *asks* with its state $s_t$. A function gives each source word a **score** $f(s_t, k_j)$, a softmax turns the scores into **weights** that sum to 1, and the context is the weighted mean:

$$a_{tj} = \frac{\exp f(s_t, k_j)}{\sum_{l=1}^{n} \exp f(s_t, k_l)}, \qquad c_t = \sum_{j=1}^{n} a_{tj}\, k_j .$$

That is all. Every part can be differentiated, so the choice is learnt from translations alone; nobody says which word belongs to which. In the words of lesson 07, $s_t$ is the *query*, and $k_j$ both *key* and *value*. `OneVector` was the special case $a_{tn} = 1$.

And the way from $x_j$ to $y_t$ is now *one step*, however long the sentence.

### Bahdanau: additive

Which function $f$? Bahdanau, Cho and Bengio (2015) took a small network with one hidden layer of $d_a$ numbers. With $q$ a query, $k$ a key, $W_q$ ($d_q \times d_a$), $W_k$ ($d_k \times d_a$) and $v$ ($d_a$):

$$f(q, k) = \tanh(q W_q + k W_k) \cdot v .$$

Why the tanh? Without it the score falls apart into $(q W_q) \cdot v + (k W_k) \cdot v$. The first term is the same for all keys, and a softmax does not change when the same number is added to all its inputs: the query would have no say at all.

The third leak is here: a padding position has a state too, and must get no weight. `masked_softmax` sees to that, and gives zeros to a sentence in which nothing is real.
"""

# %%
from course_lib.models.seq2seq import masked_softmax  # course: write out

# %% [markdown]
r"""
### Exercise: `additive_attention`

*Difficulty ●●●○○ · about 15 minutes · 4 points*

Write `additive_attention(queries, keys, values, w_query, w_key, v, mask)`. `queries` (batch, n_q, d_q), `keys` (batch, n_k, d_k), `values` (batch, n_k, d_v), `w_query` (d_q, d_a), `w_key` (d_k, d_a), `v` (d_a,), and `mask` (batch, n_k), True at real words. Return the outputs (batch, n_q, d_v) and the weights (batch, n_q, n_k). No loop over positions. Use `masked_softmax`. `hint("additive_attention")` helps.
"""

# %% tags=["exercise"] exercise="additive_attention"
from course_lib.models.seq2seq import additive_attention  # course: write out

# %% tags=["check"] exercise="additive_attention"
additive_attention = check("additive_attention")

# %% tags=["claim"]
gen = run.generator(2)
q, k = (torch.randn(1, n, d, dtype=torch.float64, generator=gen) for n, d in ((4, 5), (6, 7)))
w_q, w_k, v = (torch.randn(*shape, dtype=torch.float64, generator=gen) for shape in ((5, 8), (7, 8), (8,)))
real = torch.ones(1, 6, dtype=torch.bool)
_, weights = additive_attention(q, k, k, w_q, w_k, v, real)  # (1, 4, 6)
without_tanh = masked_softmax(((q @ w_q)[:, :, None] + (k @ w_k)[:, None]) @ v, real)  # (1, 4, 6)
claim(
    "without the tanh every query gets the same weights (largest difference between two queries)",
    measured=(without_tanh - without_tanh[:, :1]).abs().max().item(),
    at_most=1e-12,
    breaks_when={"with the tanh": (weights - weights[:, :1]).abs().max().item()},
)

# %% [markdown]
r"""
### Luong: dot product

Luong, Pham and Manning (2015) asked whether something simpler will do: a plain dot product,

$$f(q, k) = q \cdot k ,$$

a matrix product for all pairs at once, where the additive score keeps $d_a$ numbers for each pair. Query and key must be equally wide for it, so the keys first go through a matrix (with the matrix it is the score that the paper calls *general*).
"""

# %%
from course_lib.models.seq2seq import dot_attention  # noqa: F401  # course: write out

# %% [markdown]
r"""
The two papers differ in one more thing. Bahdanau's decoder asks with $s_{t-1}$ and *then* makes its step, with $c_t$ among the inputs. So step $t$ must wait for $c_t$, which waits for step $t-1$. Luong's makes its step first and asks with $s_t$, and the context enters only after the LSTM. Under teacher forcing all $s_t$ can then be computed in one call, and all queries ask together. We take Luong's order for both scores: then nothing in training has to wait for attention.
"""

# %%
from course_lib.models.seq2seq import AdditiveAttention  # course: write out

# %%
from course_lib.models.seq2seq import DotAttention  # course: write out

# %% [markdown]
"""
## Back to the question

The same encoder, decoder, data, order of batches and number of steps. One line differs: who picks the context.
"""

# %%
predict(
    "attention",
    "With attention in place of the one vector, what will happen to the accuracy on sentences of 17 to 20 words?",
    ["It gains a little: the decoder forgets all the same", "It is nearly that of short sentences", "It falls: there are more words to choose the wrong one from"],
    answer=1,
    because="No word is further away than any other, and nothing needs to be packed. What remains hard is the forms.",
)

# %% tags=["experiment"]
D_A = D // 2  # the width in which query and key are added
attentive = new_translator(lambda: AdditiveAttention(D, D_A))
attentive_losses = train_translator(attentive, task.train, STEPS, run.generator(1), learning_rate=RATE, desc="attention")
said_attentive = translate(attentive)
accuracy_attentive = accuracy_by_length(said_attentive)
print("words      one vector   attention")
for (low, high), one, other in zip(BINS, accuracy_one, accuracy_attentive):
    print(f"{low:>2}–{high:<8}{one:>8.2f}{other:>12.2f}")
for name, said in (("dictionary", word_by_word), ("one vector", said_one), ("attention", said_attentive)):
    exact = sum(one == other for one, other in zip(said, references)) / len(references)
    print(f"{name:<12}BLEU {bleu(said, references):5.1f}, whole sentences right {exact:.0%}")

# %% [markdown]
"""
One seed is an anecdote. The same experiment with three seeds (which draw other sentences, other initial weights and another order), and with dot-product attention beside it, was recorded:
"""

# %% tags=["record"]
attends = {
    "one vector": OneVector,
    "additive attention": lambda: AdditiveAttention(D, D_A),
    "dot-product attention": lambda: DotAttention(D),
}
by_seed = {name: [] for name in attends}
for seed in range(3):
    drawn = draw_task(seed, n_train, n_test)
    for name, attend in attends.items():
        model = new_translator(attend, seed=seed, task=drawn)
        gen = torch.Generator().manual_seed(seed + 1)
        train_translator(model, drawn.train, STEPS, gen, learning_rate=RATE, desc=f"{name}, seed {seed}")
        by_seed[name].append(accuracy_by_length(translate(model, drawn), drawn))
record("accuracy by length, seeds 0 to 2", by_seed)

# %%
by_seed = recorded("accuracy by length, seeds 0 to 2")
means = {name: [sum(column) / len(column) for column in zip(*runs)] for name, runs in by_seed.items()}
spread = {name: ([min(column) for column in zip(*runs)], [max(column) for column in zip(*runs)]) for name, runs in by_seed.items()}
fig = draw_by_length(means, "The bottleneck, and without it (recorded)", bands=spread)
for accuracy, colour in ((accuracy_one, figures.CYCLE[0]), (accuracy_attentive, figures.CYCLE[1])):
    fig.axes[0].plot(MIDDLE, accuracy, linestyle=":", marker="x", color=colour, linewidth=1)
figures.show(
    fig,
    caption="Mean and range of three seeds; dotted with crosses: your own run above. One vector loses accuracy from each group of lengths to the next. With attention, additive or dot product, the line is nearly flat over all lengths of training, and bends only beyond them.",
    alt="Word accuracy against sentence length. The one-vector line falls steeply from short to long sentences. The lines of additive and dot-product attention stay near one up to twenty words and decline slowly beyond.",
)

# %% tags=["claim"]
claim(
    "with attention the accuracy holds on the longest sentences of training, 17 to 20 words",
    measured=accuracy_attentive[3],
    at_least=0.88,
    breaks_when={"one vector": accuracy_one[3]},
)
claim(
    "from sentences of up to 8 words to sentences of 17 to 20 words attention loses little",
    measured=accuracy_attentive[0] - accuracy_attentive[3],
    at_most=0.12,
    breaks_when={"one vector": accuracy_one[0] - accuracy_one[3]},
)
claim(
    "on sentences longer than any in training, 21 to 24 words, attention is far ahead of one vector",
    measured=accuracy_attentive[4] - accuracy_one[4],
    at_least=0.3,
    breaks_when={"on sentences of up to 8 words": accuracy_attentive[0] - accuracy_one[0]},
)

# %% [markdown]
r"""
This is the figure to remember from Part 2. On 17 to 20 words neither four times the training nor twice the width brought one vector near it. Both models have the same LSTMs. The one squeezes every sentence through one vector; the other leaves each word where it is, and looks.

## Who was translated from whom

The weights $a_{tj}$ are a map: a row for each Tovian word, a column for each English one. The course knows the true map, the gold alignment, which the model has never seen.
"""

# %%
def alignment_of(model: Translator) -> Tensor:
    """Return the weights (N, m, n) of all test sentences, when the right words are heard."""
    batch = task.test.select(range(len(task.test))).to(run.device)
    with torch.no_grad():
        memory = model.encode(batch.source, batch.source_lengths)
        return model.decode(memory, batch.target_in).weights.cpu()


def show_alignment(weights: Tensor, i: int, title: str, ax: plt.Axes) -> None:
    """Draw the map of one test sentence; a ring marks each gold link."""
    english, tovian = [*sources[i], "⟨end⟩"], [*references[i], "⟨end⟩"]
    figures.attention_map(ax, weights[i, : len(tovian), : len(english)], tovian, english, title)
    ax.set(xlabel="English word that is heard", ylabel="Tovian word that is said")
    for source, target in task.pairs[i][1].alignment:
        for colour, thickness in (("white", 3.5), (figures.PALETTE["vermillion"], 1.5)):
            ax.plot(source, target, marker="o", markersize=9, markerfacecolor="none", markeredgewidth=thickness, color=colour)


weights = alignment_of(attentive)
untrained_attention = new_translator(lambda: AdditiveAttention(D, D_A))
crossings = [len(t.source) in range(10, 15) and not t.is_monotone for _, t in task.pairs]
example = max((i for i, yes in enumerate(crossings) if yes), key=lambda i: sum(abs(s - t) for s, t in task.pairs[i][1].alignment), default=0)
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6))
show_alignment(alignment_of(untrained_attention), example, "Before training", axes[0])
show_alignment(weights, example, "After training", axes[1])
figures.show(
    fig,
    caption="One test sentence. Rings are the gold alignment. Before training everything is heard equally; after it most rows are brightest in their ring. Little words such as *was* and the full stop look elsewhere, or everywhere: they need no look-up of their own.",
    alt="Two attention maps of Tovian words by English words. The left one is uniform. In the right one each row has one or two bright squares, most of them at the marked gold links, which do not follow the diagonal.",
)

# %% [markdown]
r"""
To score the map, take **content words**: nouns, names, verbs, adjectives and adverbs. (Who is the source of a full stop?) For each Tovian content word, which English *content word* has the largest weight? And, more strictly, which English *word*? The second can miss for a good reason: for *in the river* the decoder needs the noun *and* the preposition, which decides the case, and may look harder at the latter.

A line that keeps the order is the baseline: Tovian content word number $t$ of $m$ is taken to come from English content word number $t$. And apart from all links look at those that *crossed* another, the words that really moved.
"""

# %%
CONTENT = {"NOUN", "PROPN", "VERB", "ADJ", "ADV"}


def alignment_scores(weights: Tensor) -> dict[str, float]:
    """Return the share of Tovian content words that hear the right English word most, in several ways."""
    hits = defaultdict(list)
    for i, (sentence, translation) in enumerate(task.pairs):
        content = [place for place, tag in enumerate(sentence.tags) if tag in CONTENT]
        links = sorted((j, s) for s, j in translation.alignment if s in content)
        for number, (j, s) in enumerate(links):
            row = weights[i, j, : len(sentence.tokens) + 1]  # (n,), the end token among them
            among = content[row[content].argmax()] == s
            crossed = any((other_s - s) * (other_j - j) < 0 for other_j, other_s in links)
            hits["among content words"].append(among)
            hits["among all words"].append(row.argmax().item() == s)
            hits["in order"].append(content[min(number, len(content) - 1)] == s)
            if crossed:
                hits["moved words"].append(among)
                hits["moved words, in order"].append(content[min(number, len(content) - 1)] == s)
    return {name: sum(each) / len(each) for name, each in hits.items()}


aligned = alignment_scores(weights)
aligned_untrained = alignment_scores(alignment_of(untrained_attention))
for name, share in aligned.items():
    print(f"{name:<24}{share:.2f}")

# %% tags=["claim"]
claim(
    "the alignment is recovered: content words that hear their own English word most, among content words",
    measured=aligned["among content words"],
    at_least=0.8,
    breaks_when={"before training": aligned_untrained["among content words"], "keeping the order": aligned["in order"]},
)
claim(
    "and it is the reordering that is recovered: the same for words that moved past another",
    measured=aligned["moved words"],
    at_least=0.77,
    breaks_when={"before training": aligned_untrained["moved words"], "keeping the order": aligned["moved words, in order"]},
)

# %% [markdown]
r"""
Nobody told the model that words correspond. It found out, because looking at the right word is the easiest way to say the right word. (Do not take every map for an explanation, though. Lesson 25 asks what a weight proves.)

**Look closer.** Type a sentence of your own, and point at a word of its translation. *Question:* English *spotted* does not say how many spotted; the Tovian verb does (*-u* one, *-or* several). Change *niece* to *brothers*. The verb changes with it, though the subject is far away. Where does the number come from: does the verb's row look at the subject, or has the decoder kept in mind that it said one?
"""

# %% tags=["widget", "nbval-ignore-output"]
def look_at(text: str) -> Translated:
    """Translate a sentence, with the weights and the three most probable words at each step."""
    words = text.lower().split()
    if not 1 <= len(words) <= 28:
        raise ValueError("Type 1 to 28 words, with spaces around punctuation.")
    strange = [word for word in words if word not in task.english.index]
    if strange:
        raise ValueError(f"The model has never read “{strange[0]}”. Words that it knows: {', '.join(task.english.words[4:40])} …")
    source = torch.tensor([[*task.english.numbers(words), END]], device=run.device)
    lengths = torch.tensor([source.shape[1]], device=run.device)
    (said,) = greedy_decode(attentive, source, lengths, MAX_LENGTH)
    (compared,) = greedy_decode(one_vector, source, lengths, MAX_LENGTH)
    with torch.no_grad():
        heard = torch.tensor([[START, *said]], device=run.device)
        decoded = attentive.decode(attentive.encode(source, lengths), heard)
    best = decoded.logits[0].softmax(-1).topk(3)  # (m, 3)
    notes = [", ".join(f"{task.tovian.words[w]} {p:.2f}" for p, w in zip(ps, ws)) for ps, ws in zip(best.values.tolist(), best.indices.tolist())]
    others = {"with one vector": " ".join(task.tovian.sentence(compared))}
    shown = [*task.tovian.sentence(said), "⟨end⟩"]
    return Translated([*words, "⟨end⟩"], shown, decoded.weights[0].tolist(), notes, others)


wished = "the niece from the valley spotted the crane on the beach ."
typed = wished if task.english.index.keys() >= set(wished.split()) else " ".join(sources[0])
display(TranslationView(look_at, typed))
found = look_at(typed)
fig, ax = plt.subplots(figsize=(6, 4))
figures.attention_map(ax, found.weights, found.target, found.source, "A sentence of your own")
ax.set(xlabel="English word that is heard", ylabel="Tovian word that is said")
figures.show(
    fig,
    caption="The same numbers as in the view above, for a page that cannot be pointed at.",
    alt="An attention map of a short sentence: the Tovian words in rows, the English ones in columns, one or two bright squares in each row.",
)

# %% [markdown]
"""
The map does not say. So intervene. Take test sentences with one subject and one verb in the past, which in English has no number. Exchange *one* and *several* at the subject, in one place at a time, and ask whether the verb that comes keeps its number:
"""

# %% tags=["experiment"]
@torch.no_grad()
def number_kept(model: Translator) -> dict[str, list[bool]]:
    """Return in which sentences a verb keeps its number when one and several are exchanged at its subject, in one place."""
    places = ("nowhere", "in the Tovian subject that is heard", "in the English subject that is read", "there, in the summary alone", "there, in the words alone")
    kept = {place: [] for place in places}
    form_of = {town.tovian.gloss([form])[0]: form for form in task.tovian.words[4:]}
    exchanged = {".sg": ".pl", ".pl": ".sg"}

    def read(words: list[str]) -> Memory:
        numbers = torch.tensor([[*task.english.numbers(words), END]], device=run.device)  # (1, n)
        return model.encode(numbers, torch.tensor([numbers.shape[1]], device=run.device))

    for _, t in task.pairs:
        glosses = town.tovian.gloss(t.target)
        subjects = [j for j, gloss in enumerate(glosses) if gloss.endswith(".nom")]
        verbs = [j for j, gloss in enumerate(glosses) if gloss.endswith((".sg", ".pl"))]
        if len(subjects) != 1 or len(verbs) != 1 or not re.search(r"(?<!^be)\.past\.", glosses[verbs[0]]):
            continue
        (subject,), (verb,) = subjects, verbs
        forms = [form_of.get(re.sub(r"\.(sg|pl)\b", lambda found: exchanged[found[0]], glosses[j])) for j in (subject, verb)]
        i = next(i for i, j in t.alignment if j == subject)
        noun = t.source[i].removesuffix("s") if t.source[i].endswith("s") else t.source[i] + "s"
        if None in forms or noun not in task.english.index or t.source[i - 1] not in {"the", "his", "her", "their"}:
            continue
        own, other = read(t.source), read([*t.source[:i], noun, *t.source[i + 1 :]])
        heard = [*t.target[:subject], forms[0], *t.target[subject + 1 :]]
        mixed = (own._replace(summary=other.summary), other._replace(summary=own.summary))
        right, wrong = task.tovian.numbers([t.target[verb], forms[1]])
        for place, memory, said in zip(places, (own, own, other, *mixed), (t.target, heard, *[t.target] * 3)):
            decoded = model.decode(memory, torch.tensor([[START, *task.tovian.numbers(said)]], device=run.device))
            logits = decoded.logits[0, verb]  # (words,), after all that was said before the verb
            kept[place].append((logits[right] > logits[wrong]).item())
    return kept


kept = number_kept(attentive)
number = {place: sum(each) / max(len(each), 1) for place, each in kept.items()}
print(f"{len(kept['nowhere'])} sentences: the verb keeps its number, when one and several are exchanged …")
for place, share in number.items():
    print(f"  {place:<36}{share:.2f}")

# %% tags=["claim"]
claim(
    "the number of the verb is not remembered from what was said: it stays when the Tovian subject that was heard is exchanged",
    measured=number["in the Tovian subject that is heard"],
    at_least=0.9,
    breaks_when={
        "when the English subject that is read is exchanged": number["in the English subject that is read"],
        "the same in the words alone, the summary left as it was": number["there, in the words alone"],
    },
)

# %% [markdown]
r"""
It is looked up, and not at the subject's own place alone: $k_j = [h_j; e_j]$ holds the state after reading word $j$, so what stands at the English verb has read the subject too. A bright square says where, not what.
"""

# %% [markdown]
r"""
## Padding never leaks

Promises are cheap; test them. Take a sentence, put padding behind it, and ask for *everything*: the logits, and the gradient of the loss with respect to every parameter. In exact arithmetic nothing changes, so in float64 nothing may change beyond the last digits. The broken variants leave one of the three doors open.
"""

# %% tags=["claim"]
class LastColumn(Encoder):
    """Take the state after the last column for the summary."""

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        memory = super().forward(source, lengths)
        return memory._replace(summary=memory.words[:, -1, : memory.summary.shape[1]])


class NoMask(Encoder):
    """Let attention hear the padding."""

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        memory = super().forward(source, lengths)
        return memory._replace(mask=torch.ones_like(memory.mask))


def padded_change(model: Translator, encoder: type[Encoder] = Encoder, ignored: int = PAD) -> float:
    """Return the largest change of a logit or a gradient when a batch gets five columns of padding on both sides."""
    model = copy.deepcopy(model).cpu().double()
    model.encoder.__class__ = encoder
    batch = task.test.select(range(8))
    results = []
    for extra in (0, 5):
        source, heard, due = (F.pad(each, (0, extra), value=PAD) for each in (batch.source, batch.target_in, batch.target_out))
        logits = model(source, batch.source_lengths, heard)  # (8, m + extra, words)
        loss = F.cross_entropy(logits.flatten(0, 1), due.flatten(), ignore_index=ignored)
        results.append([logits[:, : batch.target_in.shape[1]], *torch.autograd.grad(loss, list(model.parameters()))])
    return max((one - other).abs().max().item() for one, other in zip(*results))


claim(
    "padding changes nothing with one vector: logits and all gradients",
    measured=padded_change(one_vector),
    at_most=1e-12,
    breaks_when={
        "the state after the last column as summary": padded_change(one_vector, LastColumn),
        "a loss that counts padding": padded_change(one_vector, ignored=-1),
    },
)
claim(
    "padding changes nothing with attention: logits and all gradients",
    measured=padded_change(attentive),
    at_most=1e-12,
    breaks_when={
        "attention without the mask": padded_change(attentive, NoMask),
        "the state after the last column as summary": padded_change(attentive, LastColumn),
    },
)

# %% [markdown]
r"""
## What it costs, and where it breaks

**Cost.** For a source of $n$ and a target of $m$ words attention computes $n \cdot m$ scores. The additive score needs $d_a$ tanh for each, and keeps them for the backward pass; the dot product needs one multiplication for each of $d$ numbers, in one matrix product. How much is that beside the two LSTMs and the softmax over the vocabulary?
"""

# %% tags=["experiment"]
batch = task.train.select(range(64)).to(run.device)
repeats = run.pick(smoke=1, standard=3, full=30)
kinds = {"one vector": OneVector, "dot product": lambda: DotAttention(D), "additive": lambda: AdditiveAttention(D, D_A)}


def milliseconds(model: Translator) -> float:
    """Return how long a batch of 64 takes, forward and backward."""

    def work() -> None:
        translation_loss(model(batch.source, batch.source_lengths, batch.target_in), batch.target_out).backward()

    return 1000 * median_time(work, repeats=repeats, device=run.device).median


models = {name: new_translator(attend) for name, attend in kinds.items()}
rounds = [{name: milliseconds(model) for name, model in models.items()} for _ in range(3)]  # in turns, so that a busy moment hits no one alone
times = {name: min(each[name] for each in rounds) for name in kinds}
for name, attend in kinds.items():
    print(f"{name:<12}{times[name]:6.1f} ms a batch, {sum(p.numel() for p in attend().parameters()):,} parameters of its own")

# %% tags=["claim"]
claim(
    "attention costs less than twice the time of one vector (additive, a batch of 64)",
    measured=times["additive"] / times["one vector"],
    at_most=2.0,
    timing=True,
)

# %% [markdown]
r"""
**Where it breaks.** *Teacher forcing* has never shown the decoder its own mistakes: after a wrong word it is where training never was (**exposure bias**; Ranzato et al. 2016). The same yardstick, with the right words heard and with its own:
"""

# %%
def translate_forced(model: Translator) -> list[list[str]]:
    """Return what the model says when it hears the right words, whatever it said before."""
    batch = task.test.select(range(len(task.test))).to(run.device)
    with torch.no_grad():
        said = model(batch.source, batch.source_lengths, batch.target_in).argmax(-1).tolist()  # N rows of m words
    return [task.tovian.sentence(row[: len(right)]) for row, right in zip(said, references)]


for name, model, said in (("one vector", one_vector, said_one), ("attention", attentive, said_attentive)):
    print(f"{name:<12}teacher-forced {word_accuracy(translate_forced(model), references):.2f}, free {word_accuracy(said, references):.2f}")

# %% [markdown]
r"""
Not all of the gap is exposure bias: the right words before make the next one easier to guess, and a model that has lost the sentence lives on them. Two more limits:

- *Beyond the lengths of training* both fall. Attention can look anywhere, but the decoder's state must know what has been said and what is still to come, and it never had to keep track of so much.
- *It is still sequential.* Attention itself asks all words at once, but the states that it looks at are made one after the other, in the encoder and in the decoder. So the longest wait is still $n + m$ steps.

The last point is the door to Part 3. If looking is what does the work, do we need the LSTM at all?
"""

# %% [markdown]
r"""
## Real sentences: German to English

Multi30k (Elliott et al. 2016) has 29,000 descriptions of photographs in English and German. Its licence does not let us ship it; `course data fetch multi30k` gets it. We translate German into English, lower-cased, split at word boundaries, rare words unknown. For comparison stands a **translation memory**, which answers with the English side of the training sentence whose German words overlap most. At the scale *standard* only a taste of the training is run; *full* takes a few minutes on a GPU.
"""

# %%
def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def from_memory(train: list[tuple[list[str], list[str]]], source: list[str], rarity: dict[str, float]) -> list[str]:
    """Return the target of the training pair with the largest overlap of words, rare words counting more."""
    wanted = set(source)

    def overlap(pair: tuple[list[str], list[str]]) -> float:
        words = set(pair[0])
        return sum(rarity[word] for word in wanted & words) / math.sqrt(sum(rarity[word] for word in words))

    return max(train, key=overlap)[1]


def try_multi30k(splits: dict) -> dict[str, float]:
    """Train both models on German → English; return BLEU on the published test set."""
    sizes = run.pick(smoke=(200, 20), standard=(3000, 100), full=(29_000, 1000))
    train, test = ([(words_of(p.german), words_of(p.english)) for p in splits[name][:size]] for name, size in zip(("train", "test"), sizes))
    german, english = Vocabulary.of((s for s, _ in train), min_count=2), Vocabulary.of((t for _, t in train), min_count=2)
    data, asked = TranslationSet(train, german, english), TranslationSet(test, german, english)
    seen_in = Counter(word for source, _ in train for word in set(source))
    rarity = {word: math.log(len(train) / count) + 0.01 for word, count in seen_in.items()}
    targets = [target for _, target in test]
    scores = {"translation memory": bleu([from_memory(train, [w for w in s if w in rarity], rarity) for s, _ in test], targets)}
    batch = asked.select(range(len(asked))).to(run.device)
    for name, attend in (("one vector", OneVector), ("attention", lambda: AdditiveAttention(D, D_A))):
        torch.manual_seed(run.seed)
        model = Translator(len(german), len(english), D, attend()).to(run.device)
        rate = run.pick(smoke=1e-2, standard=1e-2, full=2e-3)
        train_translator(model, data, run.pick(smoke=3, standard=120, full=8000), run.generator(3), learning_rate=rate, desc=f"Multi30k, {name}")
        said = greedy_decode(model, batch.source, batch.source_lengths, 40)
        scores[name] = bleu([english.sentence(each) for each in said], targets)
    return scores


# %% tags=["nbval-ignore-output"]
multi30k = registry.load_or_none("multi30k")
if multi30k is not None:
    for name, score in try_multi30k(multi30k).items():
        print(f"{name:<20}BLEU {score:.1f}")

# %% [markdown]
r"""
## Recap

- An encoder reads, a decoder writes; the product rule makes translation a language model with a source.
- Teacher forcing trains all words at once. Free decoding hears its own words.
- One vector for a whole sentence: accuracy falls with the length; more training or width puts the fall off and does not stop it.
- Attention keeps a vector for each word and lets the decoder look. The accuracy holds, the way from word to word is one step, and the weights recover the alignment. What is looked up is a word *as read so far*: a verb finds its number there.
- Padding can leak in three places: the summary, the attention, the loss.
- Beam search is exact with $k \ge V^{T-1}$, never below greedy if the greedy sentence competes, and only as good as the model's own opinion.
- BLEU: clipped n-gram precisions of the corpus, geometric mean, brevity penalty.

**If you want more.** (1) Read the source backwards, as Sutskever et al. did: who gains, and on which lengths? (2) Let the keys be the states alone, without the embeddings, and score the alignment again. (3) Draw BLEU against $\alpha$ from 0 to 1.5 for the one-vector model: when do translations become too long? (4) Give the encoder a second LSTM that reads from right to left, as Bahdanau et al. did. Mind the padding: it would read that first.

## Glossary

| word | meaning |
|---|---|
| encoder, decoder | the network that reads the source; the one that writes the target |
| summary | the encoder's state after the last word: the one vector |
| context | what the decoder is told of the source at one step |
| teacher forcing | training with the right previous words as input |
| free decoding | translating with one's own previous words as input |
| greedy, beam | keeping the most probable prefix, or the $k$ most probable ones |
| BLEU | clipped n-gram precision of a corpus with a brevity penalty, 0 to 100 |
| additive, dot-product attention | score $\tanh(qW_q + kW_k) \cdot v$; score $q \cdot k$ |
| alignment | which target word translates which source word |
| padding | filling that makes the sentences of a batch equally long |

## Sources

- K. Cho et al. (2014), *Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine Translation*, EMNLP, section 2.2: a context that every step of the decoder hears.
- I. Sutskever, O. Vinyals, Q. Le (2014), *Sequence to Sequence Learning with Neural Networks*, NeurIPS: two LSTMs, beam search (3.2), reversing the source (3.3), size and time of the training (3.4, 3.5).
- D. Bahdanau, K. Cho, Y. Bengio (2015), *Neural Machine Translation by Jointly Learning to Align and Translate*, ICLR: additive attention (3.1, A.1.2), accuracy by length (figure 2), alignment maps (figure 3).
- T. Luong, H. Pham, C. Manning (2015), *Effective Approaches to Attention-based Neural Machine Translation*, EMNLP, section 3: attention after the LSTM, dot and general scores.
- R. Williams, D. Zipser (1989), *A Learning Algorithm for Continually Running Fully Recurrent Neural Networks*, Neural Computation 1(2): teacher forcing.
- M. Ranzato et al. (2016), *Sequence Level Training with Recurrent Neural Networks*, ICLR: exposure bias.
- K. Papineni, S. Roukos, T. Ward, W. Zhu (2002), *BLEU: a Method for Automatic Evaluation of Machine Translation*, ACL, section 2.
- M. Post (2018), *A Call for Clarity in Reporting BLEU Scores*, WMT: sacrebleu.
- Y. Wu et al. (2016), *Google's Neural Machine Translation System*, section 7: length normalisation.
- V. Levenshtein (1966), *Binary Codes Capable of Correcting Deletions, Insertions, and Reversals*, Soviet Physics Doklady 10(8): edit distance.
- D. Elliott, S. Frank, K. Sima'an, L. Specia (2016), *Multi30K: Multilingual English–German Image Descriptions*, Workshop on Vision and Language.
"""
