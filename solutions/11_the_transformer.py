# %% [markdown]
r"""
# 11 · The Transformer

**Attention is all you need.**

All the parts lie on the table: attention (07), heads and a cache (08), positions (09), the block (10). In this lesson you put them together into the model of Vaswani et al. (2017), train it, and race it against the best translator of lesson 06. At the end you will

- build the decoder's block, and an encoder–decoder that agrees with PyTorch's `nn.Transformer`, masks and gradients included;
- count the parameters of the paper's base model by hand, compare with the paper's own figure, and say where the difference must lie;
- train with a smoothed loss and a rate that rises and falls, and know what each of the two is for;
- know who is ahead at equal training time, when, and on which sentences;
- read off the trained model which word was translated from which.

You need lessons 07 to 10, and from lesson 06 the task, beam search and BLEU. About two and a half hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import copy
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple  # noqa: F401

import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import traitlets
from IPython.display import display
from jaxtyping import Bool, Float, Int  # noqa: F401 - used by the code of the exercises
from torch import Tensor, nn

from course_lib import figures
from course_lib.data import registry
from course_lib.data.riverbank import Sentence, Town, Translation
from course_lib.exercises import check, claim, hint, predict, record, recorded  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.figures.transformer import draw_transformer
from course_lib.models.attention import attention, causal_mask, padding_mask  # noqa: F401
from course_lib.models.bleu import bleu
from course_lib.models.block import (  # noqa: F401
    Dropout, FeedForward, LayerNorm, PostNorm, PreNorm, TransformerBlock, attention_weights, count_parameters,
)
from course_lib.models.multi_head import KVCache, MultiHeadAttention  # noqa: F401
from course_lib.models.positions import SinusoidalPositions, apply_rope  # noqa: F401
from course_lib.models.seq2seq import AdditiveAttention, DotAttention, Translator, beam_search
from course_lib.models.translation import (
    END, PAD, START, Decoded, TranslationSet, Vocabulary, greedy_decode, train_translator, translation_loss, word_accuracy,
)
from course_lib.runtime import median_time, progress, start
from course_lib.widgets.heads_view import HeadsAsked, HeadsView

torch.set_num_threads(1)  # the steps of this lesson are small: a second thread would wait more than it works
run = start(lesson=11, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=11)

# %% [markdown]
r"""
## The question

Lesson 06 ended with an LSTM encoder, an LSTM decoder and attention between them. It translated sentences of up to 20 words almost without loss. So make it harder: stories about voyages again, but with sentences of **15 to 40 words**. They are long because clauses stand in clauses, and each clause ends with a verb (Tovian puts it last) that must agree with a subject many words back.
"""

# %%
town = Town()
COMMON = run.pick(smoke=300, standard=300, full=1400)  # how many Tovian forms are used
SHORTEST, LONGEST = 15, 40  # English words in a sentence
BINS = ((15, 19), (20, 24), (25, 29), (30, 34), (35, 40))  # lengths that are counted together


class Task(NamedTuple):
    """What there is to learn and to be tested on, numbered in two ways."""

    train: TranslationSet  # English and Tovian with a vocabulary each, as in lesson 06
    test: TranslationSet
    joint_train: TranslationSet  # both with one vocabulary
    joint_test: TranslationSet
    english: Vocabulary
    tovian: Vocabulary
    both: Vocabulary
    pairs: list[tuple[Sentence, Translation]]  # the test sentences with tags and gold alignment


def draw_task(seed: int, n_train: int, n_test: int) -> Task:
    """Draw sentences, keep those of common words, and number the words."""
    about = {"register": "story", "topic": "voyage", "min_words": SHORTEST, "max_words": LONGEST}
    drawn = town.parallel(n_train, seed=seed, **about)
    forms = Counter(form for _, t in drawn for form in t.target)
    common = {form for form, _ in forms.most_common(COMMON)}
    kept = [t for _, t in drawn if common.issuperset(t.target)]
    english, tovian = Vocabulary.of(t.source for t in kept), Vocabulary.of(t.target for t in kept)
    both = Vocabulary.of(words for t in kept for words in (t.source, t.target))
    seen = {t.source for t in kept}
    pairs = [
        (sentence, t)
        for sentence, t in town.parallel(n_test, seed=10_000 + seed, **about)
        if t.source not in seen and english.index.keys() >= set(t.source) and tovian.index.keys() >= set(t.target)
    ]
    lists = [(t.source, t.target) for t in kept], [(t.source, t.target) for _, t in pairs]
    sets = (TranslationSet(each, *numbered) for numbered in ((english, tovian), (both, both)) for each in lists)
    return Task(*sets, english, tovian, both, pairs)


n_train, n_test = run.pick(smoke=(700, 60), standard=(8000, 400), full=(200_000, 3000))
task = draw_task(run.seed, n_train, n_test)
sources = [list(t.source) for _, t in task.pairs]
references = [list(t.target) for _, t in task.pairs]
print(f"{len(task.train):,} training and {len(task.test):,} test sentences; {len(task.english)} English and {len(task.tovian)} Tovian words, {len(task.both)} in one vocabulary")
print(" ".join(sources[0]), "\n→", " ".join(references[0]))

# %% [markdown]
r"""
The rival is lesson 06's translator with additive attention, trained exactly as it was there: width 64, batches of 64, Adam with a peak rate of 0.01. Only the time is limited. **A fair race needs a fair clock**: on your machine, with whatever else is running on it, seconds are worth little. So the time of one step of each model was measured once, the models taking turns, in processor seconds of one thread, and recorded; every "second" below is a number of steps by this calibration.

Four models take part. Here only the first runs; the others come when you have built one.

- *lesson 06*: the rival;
- *lesson 06, tuned*: the same with **dot-product attention**, which costs less than additive, and **batches of 32**, so it makes more steps;
- *transformer*: the model of this lesson, with the paper's sinusoids;
- *transformer, rotary*: the same with rotary positions (lesson 09) beside them.
"""

# %% tags=["record"]
def milliseconds_a_step(contestants: dict[str, tuple[nn.Module, TranslationSet, int]], rounds: int) -> dict[str, float]:
    """Let the models take turns, a training step each; return the median processor time of a step."""
    spent, ready = defaultdict(list), {}
    for name, (model, data, size) in contestants.items():
        ready[name] = (model, torch.optim.Adam(model.parameters(), lr=1e-3), data.batches(size, torch.Generator().manual_seed(0)))
    for _ in progress(range(rounds), desc="calibration"):
        for name, (model, optimizer, batches) in ready.items():
            batch = next(batches)
            begin = time.process_time()
            loss = translation_loss(model(batch.source, batch.source_lengths, batch.target_in), batch.target_out)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            spent[name].append(1000 * (time.process_time() - begin))
    return {name: sorted(each)[len(each) // 2] for name, each in spent.items()}


from course_lib.models import transformer as finished  # the exercise comes below

lstms = {
    "lesson 06": (Translator(len(task.english), len(task.tovian), 64, AdditiveAttention(64, 32)), task.train, 64),
    "lesson 06, tuned": (Translator(len(task.english), len(task.tovian), 64, DotAttention(64)), task.train, 32),
}
ours = {
    "transformer": (finished.Transformer(len(task.both), 64, 2, 256, 1, norm=nn.LayerNorm), task.joint_train, 16),
    "transformer, rotary": (finished.Transformer(len(task.both), 64, 2, 256, 1, norm=nn.LayerNorm, rotate=apply_rope), task.joint_train, 16),
}
record("milliseconds a step", milliseconds_a_step(lstms | ours, rounds=60))

# %%
cost = recorded("milliseconds a step")
BATCH_SIZES = {"lesson 06": 64, "lesson 06, tuned": 32, "transformer": 16, "transformer, rotary": 16}
for name, each in cost.items():
    print(f"{name:<20}{each:5.1f} ms a step of {BATCH_SIZES[name]} sentences, {each / BATCH_SIZES[name]:.2f} ms a sentence")


def steps_in(seconds: float, name: str) -> int:
    """Return how many training steps a model gets for so many seconds."""
    return int(1000 * seconds / cost[name])


SECONDS = run.pick(smoke=0.1, standard=9, full=60)  # of training, for each model; change it


def new_rival(task: Task = task, seed: int = run.seed, dot: bool = False) -> Translator:
    """Return lesson 06's translator, untrained."""
    torch.manual_seed(seed)
    attend = DotAttention(64) if dot else AdditiveAttention(64, 32)
    return Translator(len(task.english), len(task.tovian), 64, attend).to(run.device)


def translate(model: nn.Module, task: Task = task) -> list[list[str]]:
    """Translate the test sentences freely, word by word."""
    data, words = (task.test, task.tovian) if isinstance(model, Translator) else (task.joint_test, task.both)
    batch = data.select(range(len(data))).to(run.device)
    return [words.sentence(each) for each in greedy_decode(model, batch.source, batch.source_lengths, 48)]


def accuracy_by_length(said: list[list[str]], task: Task = task) -> list[float]:
    """Return the word accuracy in each bin of lengths."""
    found = []
    for low, high in BINS:
        rows = [i for i, (_, t) in enumerate(task.pairs) if low <= len(t.source) <= high]
        found.append(word_accuracy([said[i] for i in rows], [task.pairs[i][1].target for i in rows]) if rows else math.nan)
    return found


def judged(said: list[list[str]], task: Task = task) -> dict[str, float]:
    """Return word accuracy, BLEU and the share of whole sentences that are right."""
    right = [list(t.target) for _, t in task.pairs]
    whole = sum(one == other for one, other in zip(said, right)) / len(right)
    return {"word accuracy": word_accuracy(said, right), "BLEU": bleu(said, right), "whole sentences": whole}


# %% tags=["experiment"]
rival = new_rival()
train_translator(rival, task.train, steps_in(SECONDS, "lesson 06"), run.generator(1), desc="lesson 06's model")
said_rival = translate(rival)
score_rival = judged(said_rival)
print(f"after {SECONDS} seconds ({steps_in(SECONDS, 'lesson 06')} steps):", {name: round(each, 3) for name, each in score_rival.items()})

# %% [markdown]
r"""
A few seconds are too few for it: hardly a sentence is right from beginning to end.

What did attention do in that model? It fetched from the source. Everything else, reading the source and keeping track of what has been said, was the LSTMs' work, one word after the other. Lessons 07 to 10 have shown another way to do both: let every word look at every other. So take the LSTMs out.
"""

# %% [markdown]
r"""
## The plan of the model
"""

# %%
figures.show(
    draw_transformer(),
    caption="The model of Vaswani et al. (2017), with the norms where lesson 10 puts them: inside each connection (not drawn), and once at the end of each stream. The streams run upwards; sublayers read from them and add to them. Only the memory goes from one side to the other.",
    alt="A diagram. Left, the encoder: source words, table, positions, then N blocks of self-attention and feed-forward, a norm, and the memory. Right, the decoder: target words so far, table, positions, N blocks of self-attention, cross-attention and feed-forward, a norm, the table again, logits of the next word. An arrow leads from the memory to the cross-attention.",
)

# %% [markdown]
r"""
| | reads | consists of | may hear |
|---|---|---|---|
| **encoder** | the source, all at once | lesson 10's blocks: self-attention, feed-forward | every real word of the source |
| **decoder** | what has been said so far | blocks with *three* sublayers: self-attention, **cross-attention**, feed-forward | what was said so far; and every real word of the source |

No state is handed from word to word. In training all source positions are computed at once, and so are all target positions, since the words that were said are known (teacher forcing, lesson 06).

The encoder's output, one vector for each source word, is called the **memory**. It is computed once, and *every* decoder block consults the same memory: in its second sublayer the queries come from the decoder's stream, the keys and values from the memory. This is lesson 07's other wiring, and it does what attention did in lesson 06.

Let $n$ be the length of the source, $m$ that of the target, $B$ the number of sentences. Three attentions need three masks (True = may attend):

| attention | queries | keys | mask | shape |
|---|---|---|---|---|
| encoder | source | source | padding of the source | $(B, 1, n)$ |
| decoder | target | target | causal | $(m, m)$ |
| cross | target | source | padding of the source | $(B, 1, n)$ |

And the padding of the *target*? It stands behind the real words. The causal mask hides everything that is behind, so no real word hears it, and what padding itself says the loss does not count. No fourth mask is needed; below you can watch that it changes no gradient.
"""

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), width_ratios=(5, 4, 5))
lengths, n, m = torch.tensor([4]), 5, 4  # three words and the end, padded to five; the start and two words, padded to four
english, tovian = ["the", "girl", "sings", "⟨end⟩", "⟨pad⟩"], ["⟨start⟩", "girl", "sings", "⟨pad⟩"]
masks = {
    "encoder: padding": (padding_mask(lengths, n)[0].expand(n, n), english, english),
    "decoder: causal": (causal_mask(m), tovian, tovian),
    "cross: padding": (padding_mask(lengths, n)[0].expand(m, n), tovian, english),
}
for ax, (title, (mask, asking, asked)) in zip(axes, masks.items()):
    figures.heatmap(ax, mask.float(), rows=asking, columns=asked, xlabel="key", ylabel="query", title=title, limits=(0, 1), numbers=".0f")
figures.show(
    fig,
    caption="1 = may attend. The two attentions to the source hide its padding; the decoder's own hides what comes later, the target's padding with it. Rows of padding ask, too, and nobody hears what they find. (Tovian words are shown by what they mean.)",
    alt="Three Boolean matrices. Encoder: four full columns and an empty one. Decoder: a lower triangle. Cross: four rows with four full columns and an empty one.",
)

# %% [markdown]
r"""
## The decoder's block

Lesson 10's block has two sublayers, each in a residual connection: *communicate*, then *compute*. A decoder's block puts one between them, *consult*. With pre-norm, the connection is $x + f(\operatorname{norm}(x))$; with post-norm, the paper's way, $\operatorname{norm}(x + f(x))$. Which of the two is decided by `residual`, so the code is the same for both:

1. `communicate`: hear the target's words so far (`self.attention`, with `mask` and `cache`);
2. `consult`: hear the source (`self.cross_attention`, with `memory_mask` and `memory_cache`);
3. `compute`: each position by itself (`self.feed_forward`).

The encoder normalises its own output at its end; the memory does not go through the decoder's norms again.

### Exercise: `DecoderBlock`

*Difficulty ●●●○○ · about 15 minutes · 4 points*

- **Task.** Write the body of `forward(x, memory, mask, memory_mask, cache, memory_cache)`.
- **Input.** `x` (batch, m, d_model), the decoder's stream; `memory` (batch, n, d_model); the two masks, Boolean or None; the two caches, each a `KVCache` or None.
- **Output.** The stream behind the block, (batch, m, d_model).
- **Edge cases.** A connection is called as `self.communicate(x, sublayer)`, where `sublayer` is a function of *one* tensor: the connection calls it, with the stream or the normalised stream, and it reads nothing else of the target. `MultiHeadAttention` is called as `(x, context, mask, cache)` and returns a pair. Hand the caches on; you need not look into them.

`hint("DecoderBlock")` helps.
"""

# %% tags=["exercise"] exercise="DecoderBlock"
from course_lib.models.transformer import DecoderBlock  # course: write out

# %% tags=["check"] exercise="DecoderBlock"
DecoderBlock = check("DecoderBlock")

# %% [markdown]
r"""
### Two stacks

Blocks, one behind the other, and a norm at the end. Why the norm? With pre-norm the stream itself is never normalised: each block adds to it, so it grows, and somebody has to bring it to size before it is read (lesson 10). Post-norm blocks end with a norm anyway, and the paper has none behind the stack. PyTorch's `nn.Transformer` adds one in either case. So what stands at the end is an argument.
"""

# %%
from course_lib.models.transformer import EncoderStack  # noqa: F401  # course: write out

# %%
from course_lib.models.transformer import DecoderStack  # course: write out

# %%
from course_lib.models.transformer import Encoded  # course: write out

# %% [markdown]
r"""
### One table for three

What is left is to get from words to vectors and back. The paper uses **one table** $E$, with a row of $d$ numbers for each word, in three places (section 3.4, after Press and Wolf 2017): it embeds the source, it embeds the target, and it scores the next word, whose logits are the dot products of the decoder's vector with all rows, $x E^\top$. For this both languages need *one* vocabulary.

One number has to be minded. (*Size* means root mean square here.) As a scoring matrix $E$ should have entries of size $1/\sqrt d$: a normalised vector $x$ has entries of size 1, so $x \cdot e = \sum_i x_i e_i$, a sum of $d$ terms of random signs, then has size $\sqrt{d} \cdot 1/\sqrt d = 1$ (lesson 07), and the softmax starts out soft. As an embedding such a row would be tiny beside the position that is added to it, whose sines and cosines have size 1. So on the way in, and only there, it is multiplied by $\sqrt d$: the vectors of words then have entries of size 1, too.

### Exercise: `Transformer`

*Difficulty ●●●●○ · about 25 minutes · 5 points*

- **Task.** Write three methods. `embed(words, start)`: vectors times $\sqrt{d}$, plus positions from `start` on (`self.positions(vectors, start)` adds them), through `self.dropout`. `encode(source, lengths)`: read the source. `forward(source, lengths, target)`: the logits of the words that follow each word of `target`.
- **Input.** `source` (batch, n) and `target` (batch, m) are numbers of words, `lengths` (batch,) the real lengths of the sources.
- **Output.** `embed`: (batch, n, d_model). `encode`: `Encoded(words, mask)` with the words (batch, n, d_model) and the padding mask (batch, 1, n). `forward`: logits (batch, m, n_words), no softmax.
- **Edge cases.** The masks are yours to make: `padding_mask` and `causal_mask` of lesson 07 (the latter on the target's device). The width $d$ is `self.embedding.embedding_dim`. `decode`, which goes on from where it stopped, is given.
"""

# %% tags=["exercise"] exercise="Transformer"
from course_lib.models.transformer import Transformer  # course: write out

# %% tags=["check"] exercise="Transformer"
Transformer = check("Transformer")

# %% [markdown]
r"""
Read `decode` once more. It is what makes writing cheap: the decoder's own keys and values are kept (lesson 08), and the source's are computed *once*, at the first call. Later calls hand in a memory of no words at all, and the cache gives back what it holds.

### Against PyTorch's own

`nn.Transformer` has the same two stacks, without the table and positions. Copy its weights, turn its masks over (PyTorch: True = hidden), and compare outputs and gradients in float64, pre-norm and post-norm.
"""

# %%
from course_lib.models.transformer import copy_decoder_layer, copy_transformer  # noqa: F401


def torch_transformer(norm_first: bool) -> nn.Transformer:
    """Return PyTorch's transformer: width 12, three heads, two blocks in each stack, no dropout."""
    layers = [kind(12, 3, 20, 0.0, batch_first=True, norm_first=norm_first) for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)]
    reader = nn.TransformerEncoder(layers[0], 2, nn.LayerNorm(12), enable_nested_tensor=False)
    writer = nn.TransformerDecoder(layers[1], 2, nn.LayerNorm(12))
    return nn.Transformer(12, 3, custom_encoder=reader, custom_decoder=writer, batch_first=True).double()


def parity(residual: type, final_norm: type = LayerNorm, hide: bool = True) -> float:
    """Return the largest difference to PyTorch's model in outputs and in the gradients of both inputs."""
    torch.manual_seed(run.seed)
    theirs, ours = torch_transformer(residual is PreNorm), Transformer(9, 12, 3, 20, 2, residual=residual).double()
    with torch.no_grad():
        for each in theirs.parameters():
            each += 0.3 * torch.randn_like(each)  # so that biases and norms do something
    copy_transformer(ours, theirs)
    if final_norm is nn.Identity:
        ours.encoder.norm = ours.decoder.norm = nn.Identity()
    gen = run.generator(2)
    x, y = (torch.randn(2, length, 12, dtype=torch.float64, generator=gen).requires_grad_() for length in (7, 5))  # (B, n, d), (B, m, d)
    real, past = padding_mask(torch.tensor([7, 4]), 7), causal_mask(5)  # (B, 1, n), (m, m)
    output = ours.decoder(y, ours.encoder(x, real), past, real if hide else None)  # (B, m, d)
    other = theirs(x, y, tgt_mask=~past, src_key_padding_mask=~real[:, 0], memory_key_padding_mask=~real[:, 0])
    cotangent = torch.randn(output.shape, dtype=torch.float64, generator=gen)
    grads, other_grads = (torch.autograd.grad(each, (x, y), cotangent) for each in (output, other))
    return max((one - two).abs().max().item() for one, two in zip((output, *grads), (other, *other_grads)))


# %% tags=["claim"]
for residual in (PreNorm, PostNorm):
    claim(
        f"with its weights our {residual.__name__} transformer is nn.Transformer: outputs, gradients, masks, final norms",
        measured=parity(residual),
        at_most=1e-10,
        breaks_when={
            "without the final norms": parity(residual, final_norm=nn.Identity),
            "when the cross-attention forgets the padding": parity(residual, hide=False),
        },
    )

# %% [markdown]
r"""
And the promises that a translator must keep, on a whole model this time: what comes later in the target moves nothing before it, *at all*; padding changes nothing, neither logits nor a gradient.
"""

# %% tags=["claim"]
class NoCausalMask(DecoderStack):
    """Let every position of the target hear all of it."""

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, memory_mask: Tensor, caches: list | None = None) -> Tensor:
        return super().forward(x, memory, None, memory_mask, caches)


class NoPaddingMask(Transformer):
    """Let the decoder hear the source's padding."""

    def encode(self, source: Tensor, lengths: Tensor) -> Encoded:
        words, mask = super().encode(source, lengths)
        return Encoded(words, torch.ones_like(mask))


def small(kind: type[Transformer] = Transformer, decoder: type[DecoderStack] = DecoderStack) -> Transformer:
    """Return an untrained model for the test sentences."""
    torch.manual_seed(run.seed)
    model = kind(len(task.both), 16, 4, 32, 2).double()
    model.decoder.__class__ = decoder
    return model


def future_felt(model: Transformer) -> float:
    """Return how much the logits before the last eight words move when those eight are replaced."""
    batch = task.joint_test.select(range(4))
    changed = batch.target_in.clone()
    changed[:, -8:] = torch.randint(4, len(task.both), changed[:, -8:].shape, generator=run.generator(3))
    with torch.no_grad():
        before, after = (model(batch.source, batch.source_lengths, heard) for heard in (batch.target_in, changed))
    return (before - after)[:, :-8].abs().max().item()


def padding_felt(model: Transformer, ignored: int = PAD) -> float:
    """Return the largest change of a logit or a gradient when a batch gets five columns of padding on both sides."""
    batch, results = task.joint_test.select(range(4)), []
    for extra in (0, 5):
        source, heard, due = (F.pad(each, (0, extra), value=PAD) for each in (batch.source, batch.target_in, batch.target_out))
        logits = model(source, batch.source_lengths, heard)  # (4, m + extra, words)
        loss = F.cross_entropy(logits.flatten(0, 1), due.flatten(), ignore_index=ignored)
        results.append([logits[:, : batch.target_in.shape[1]], *torch.autograd.grad(loss, list(model.parameters()))])
    return max((one - other).abs().max().item() for one, other in zip(*results))


claim("changing later words of the target changes nothing before them", measured=future_felt(small()), equals=0.0, breaks_when={"without the causal mask": future_felt(small(decoder=NoCausalMask))})
claim(
    "padding on either side changes nothing: logits and all gradients",
    measured=padding_felt(small()),
    at_most=1e-12,
    breaks_when={
        "when the decoder hears the source's padding": padding_felt(small(NoPaddingMask)),
        "when the loss counts the target's padding": padding_felt(small(), ignored=-1),
    },
)

# %% [markdown]
r"""
## How many parameters?

The paper's **base** model has $N = 6$ blocks in each stack, width $d = 512$, $h = 8$ heads, $d_{ff} = 2048$ hidden units, and a shared vocabulary of "about 37,000" (section 5.1). Count:

| part | formula | base |
|---|---|---:|
| one attention: four matrices with biases | $4(d^2 + d)$ | 1,050,624 |
| one feed-forward network | $2 d\, d_{ff} + d_{ff} + d$ | 2,099,712 |
| one norm | $2d$ | 1,024 |
| encoder block: attention, network, two norms | | 3,152,384 |
| decoder block: *two* attentions, network, three norms | | 4,204,032 |
| six of each | | 44,138,496 |
| the one table | $37{,}000\, d$ | 18,944,000 |
| **together** | | **63,082,496** |

The positions are computed, not learnt, and cost nothing. Does PyTorch count the same? (On the device "meta", tensors have shapes and no numbers, so the model takes no memory.)
"""

# %% tags=["nbval-check-output"]
from course_lib.models.transformer import count_transformer

with torch.device("meta"):
    base = Transformer(37_000, d_model=512, n_heads=8, d_ff=2048, n_layers=6, residual=PostNorm, final_norm=nn.Identity)
counted = sum(each.numel() for each in base.parameters())
print(f"counted by PyTorch {counted:,}, by the formula {count_transformer(37_000, 512, 8, 2048, 6):,}")
for name in ("embedding", "encoder", "decoder"):
    print(f"  {name:<10}{sum(each.numel() for each in getattr(base, name).parameters()):>12,}")

# %% [markdown]
r"""
The paper says **65 million** (table 3). Almost two million are missing. Have we forgotten a part?
"""

# %%
predict(
    "two million",
    "Where are the two million parameters that the paper has and the count has not?",
    ["In every block: a matrix or biases that were forgotten", "In the feed-forward networks", "In the table: it has more rows than 37,000"],
    answer=2,
    because="The next figure tells: what is missing does not grow with the number of blocks or with d_ff, only with the width.",
)

# %% [markdown]
r"""
The paper itself can tell: its table 3 gives the parameters of ten more models, in most of which one size was changed. Look at how the gap behaves:

- If a part *of the blocks* were missing, the gap would grow with the number of blocks $N$.
- If it were in the feed-forward network, it would grow with $d_{ff}$.
- If it were rows of the *table*, the gap would be proportional to $d$ and depend on nothing else.

So ask of each row: *how many rows would the table need* for the figure to come out? The figures are rounded to a million, so each answer is an interval.
"""

# %%
TABLE_3 = {  # name: sizes that differ from the base model's, and parameters in millions
    "base": ({}, 65), "d_k = 16": ({"d_k": 16}, 58), "d_k = 32": ({"d_k": 32}, 60),
    "N = 2": ({"n": 2}, 36), "N = 4": ({"n": 4}, 50), "N = 8": ({"n": 8}, 80),
    "d = 256": ({"d": 256, "d_k": 32, "d_v": 32}, 28), "d = 1024": ({"d": 1024, "d_k": 128, "d_v": 128}, 168),
    "d_ff = 1024": ({"d_ff": 1024}, 53), "d_ff = 4096": ({"d_ff": 4096}, 90), "big": ({"d": 1024, "d_ff": 4096, "h": 16}, 213),
}  # fmt: skip


def in_blocks(n: int = 6, d: int = 512, d_ff: int = 2048, h: int = 8, d_k: int = 64, d_v: int = 64) -> int:
    """Return the parameters of all blocks; queries and keys of a head are d_k wide, its values d_v."""
    attends = 2 * (d * h * d_k + h * d_k) + (d * h * d_v + h * d_v) + (h * d_v * d + d)
    computes = 2 * d * d_ff + d_ff + d
    return n * (3 * attends + 2 * computes + 5 * 2 * d)


rows_needed = {}
for name, (sizes, millions) in TABLE_3.items():
    low, high = ((millions + off) * 1e6 - in_blocks(**sizes) for off in (-0.5, 0.5))
    rows_needed[name] = (low / sizes.get("d", 512), high / sizes.get("d", 512))
fig, ax = plt.subplots(figsize=(7.2, 3.4))
for i, (low, high) in enumerate(rows_needed.values()):
    ax.plot([low / 1000, high / 1000], [i, i], color=figures.PALETTE["blue"], linewidth=5, marker="", solid_capstyle="butt")
ax.axvline(37, color=figures.PALETTE["vermillion"], linestyle="--", marker="", label="about 37,000, as section 5.1 says")
most = [each for name, each in rows_needed.items() if name != "big"]
common = (max(low for low, _ in most), min(high for _, high in most))
ax.axvspan(common[0] / 1000, common[1] / 1000, color=figures.PALETTE["green"], alpha=0.3, linewidth=0, label="what ten of the eleven have in common")
ax.set_yticks(range(len(rows_needed)), rows_needed)
ax.invert_yaxis()
ax.set(xlabel="rows of the table that the paper's figure implies (thousands)", xlim=(34.5, 51))
ax.legend(loc="lower right", fontsize=8)
figures.show(
    fig,
    caption="Each bar: the numbers of rows for which the model would have the paper's number of parameters, rounded to a million. Ten bars overlap in the green strip whatever N, d, d_ff and d_k are; the big model's bar lies lower.",
    alt="Eleven horizontal bars of implied vocabulary sizes. All but the last overlap near 41,000, to the right of a dashed line at 37,000; the bar of the big model lies near 36,000.",
)
print(f"ten rows of table 3 agree on {common[0]:,.0f} to {common[1]:,.0f} rows")

# %% tags=["claim"]
claim(
    "ten of the eleven models of table 3 are explained by one size of the table (width of the common interval, in rows)",
    measured=common[1] - common[0],
    at_least=0.0,
    breaks_when={"if the big model is asked, too": min(common[1], rows_needed["big"][1]) - max(common[0], rows_needed["big"][0])},
)

# %% [markdown]
r"""
So: not the depth, not the feed-forward network, not the width of the heads. What is missing grows with $d$ alone: about 1 million at $d = 256$, 2 at 512, 4 at 1024. **The gap of the base model, 1.9 million, is about 4,000 rows of width 512**; positions are computed, so rows for words are what is left, and in these experiments the table seems to have had near 41,000 of them, not the "about 37,000" of section 5.1. What the 4,000 are the paper does not say. (The eleventh model, *big*, would need only about 36,000. The one other vocabulary that section 5.1 names, 32,000 word pieces for English to French, fits neither.)

**Change it.** What share of the model is the table, if the model is narrower, wider, deeper?
"""

# %%
D, BLOCKS = 512, 6  # change them
total = count_transformer(37_000, D, 8, 4 * D, BLOCKS)
print(f"width {D}, {BLOCKS} blocks in each stack: {total / 1e6:.1f} million parameters, {37_000 * D / total:.0%} of them in the table")

# %% [markdown]
r"""
## What to minimise: a smoothed target

The decoder's logits become a distribution $p$ over the $V$ words of the vocabulary. Cross-entropy with the right word $y$ alone, $-\log p(y)$, is never content: it goes on falling as $p(y) \to 1$, which takes logits that grow without end. **Label smoothing** (Szegedy et al. 2016) asks for a little less. The target becomes a distribution, too:

$$q(w) = (1 - \varepsilon)\,[w = y] + \frac{\varepsilon}{V} ,$$

where $[w = y]$ is 1 for the right word and 0 otherwise, and $\varepsilon = 0.1$ in the paper. All $V$ words share $\varepsilon$, the right one among them. The loss is the cross-entropy with $q$:

$$-\sum_w q(w) \log p(w) = (1 - \varepsilon)\big(-\log p(y)\big) + \varepsilon \cdot \frac1V \sum_w \big(-\log p(w)\big) .$$

The first term is the old loss, the second the mean over the vocabulary. The gradient with respect to the logits is $p - q$ (lesson 02), so it vanishes at $p = q$: the right word's logit ends up above the others by

$$\log \frac{1 - \varepsilon + \varepsilon/V}{\varepsilon / V} = \log\Big(1 + \frac{(1-\varepsilon) V}{\varepsilon}\Big),$$

a finite number. There the loss is not 0 but the entropy of $q$; compare smoothed losses with each other only.

### Exercise: `label_smoothing_loss`

*Difficulty ●●○○○ · about 12 minutes · 3 points*

- **Task.** Write `label_smoothing_loss(logits, target, smoothing=0.1, padding=PAD)`.
- **Input.** `logits` (…, words) and `target` (…), whole numbers, with the same axes before the last; `smoothing` is $\varepsilon$.
- **Output.** A tensor without axes: the mean, in nats, over all positions whose target is not `padding`.
- **Edge cases.** Padding counts neither in the sum nor in the number it is divided by. Logits may be large: no logarithm of a softmax. PyTorch's own losses (`F.cross_entropy`, `F.nll_loss`, `F.kl_div`) are not allowed; the first is what the check compares you with.
"""

# %% tags=["exercise"] exercise="label_smoothing_loss"
from course_lib.models.transformer import label_smoothing_loss  # course: write out

# %% tags=["check"] exercise="label_smoothing_loss"
label_smoothing_loss = check("label_smoothing_loss")

# %% [markdown]
r"""
Does it do what the formula says? Let gradient descent find the best logits for one position with twenty words:
"""

# %% tags=["claim"]
def best_margin(smoothing: float, words: int = 20, steps: int = 4000) -> float:
    """Return how far the right word's logit is above the others after descending the loss from zero."""
    logits = torch.zeros(1, words, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([3])
    optimizer = torch.optim.SGD([logits], lr=2.0)
    for _ in range(run.pick(smoke=50, standard=steps, full=steps)):
        optimizer.zero_grad()
        label_smoothing_loss(logits, target, smoothing).backward()
        optimizer.step()
    others = logits.detach()[0, torch.arange(words) != 3]
    return (logits[0, 3] - others.mean()).item()


margins = {epsilon: best_margin(epsilon) for epsilon in (0.0, 0.1, 0.3)}
print("margin of the best logits:", {epsilon: round(each, 2) for epsilon, each in margins.items()})
x, y = torch.randn(4, 7, 30, dtype=torch.float64, generator=run.generator(4)), torch.randint(0, 30, (4, 7), generator=run.generator(5))
theirs = F.cross_entropy(x.flatten(0, 1), y.flatten(), ignore_index=PAD, label_smoothing=0.1)
claim(
    "our loss is F.cross_entropy(label_smoothing=…)",
    measured=abs(label_smoothing_loss(x, y) - theirs).item(),
    at_most=1e-12,
    breaks_when={"without smoothing": abs(label_smoothing_loss(x, y, 0.0) - theirs).item()},
)
claim(
    "smoothing sets an end to the logits: the best margin is the formula's (ε = 0.1, twenty words; the difference)",
    measured=abs(margins[0.1] - math.log(1 + 0.9 * 20 / 0.1)),
    at_most=1e-3,
    breaks_when={"without smoothing, whose margin still grows": abs(margins[0.0] - math.log(1 + 0.9 * 20 / 0.1))},
)

# %% [markdown]
r"""
What is it good for? The paper: it "hurts perplexity, as the model learns to be more unsure, but improves accuracy and BLEU score" (section 5.4). What it does here, in a few seconds, a record at the end of the race tells; the race itself is run without it.

## How fast: warm up, then slow down

Adam divides each gradient by a running root mean square. In the first steps this mean is made of few gradients, and the step can be far too large; a transformer that is thrown off then may take long to recover. (What the rise is worth here stands in the same record.) So the rate begins at 0 and rises in proportion to the step $s$. Later it falls with the root of $s$ (section 5.3, equation 3):

$$\text{rate}(s) = d^{-1/2} \cdot \min\!\big(s^{-1/2},\; s \cdot T^{-3/2}\big) ,$$

where $T$ is the number of **warm-up** steps (4000 in the paper). The two pieces meet at $s = T$, where both are $T^{-1/2}$, so the highest rate is $1/\sqrt{d\,T}$. The wider the model, the smaller its steps. The schedule is called after Noam Shazeer, one of the paper's authors.

### Exercise: `noam_rate`

*Difficulty ●○○○○ · about 8 minutes · 2 points*

- **Task.** Write `noam_rate(step, d_model, warmup, scale=1.0)`, a float.
- **Input.** `step`, counted from 1; `d_model`, the width $d$; `warmup`, $T$; `scale` multiplies the whole.
- **Edge case.** There is no step 0: for `step` below 1 raise a `ValueError`.
"""

# %% tags=["exercise"] exercise="noam_rate"
from course_lib.models.transformer import noam_rate  # course: write out

# %% tags=["check"] exercise="noam_rate"
noam_rate = check("noam_rate")

# %%
shown_steps = [1, *range(250, 20_001, 250)]
rates = {
    "width 512, warm-up 4000 (the paper)": [noam_rate(s, 512, 4000) for s in shown_steps],
    "width 512, warm-up 8000": [noam_rate(s, 512, 8000) for s in shown_steps],
    "width 1024, warm-up 4000": [noam_rate(s, 1024, 4000) for s in shown_steps],
}
fig, ax = plt.subplots(figsize=(6.8, 3.2))
figures.lines(ax, shown_steps, rates, xlabel="step", ylabel="learning rate")
for line in ax.lines:
    line.set(marker="")
for line, style in zip(ax.lines, ("-", "--", ":")):
    line.set(linestyle=style)
ax.legend()
figures.show(
    fig,
    caption="The rate rises in a straight line, then falls with the root of the step. A longer warm-up gives a lower peak, and after it the same rate; twice the width gives 1/√2 of it everywhere.",
    alt="Three curves of learning rate against step, each a straight rise to a peak and a slow fall; the one with the longer warm-up peaks later and lower and then joins the first.",
)

# %% [markdown]
r"""
## The race

The model is small: width 64, two heads, 256 hidden units, *one* block in the encoder and one in the decoder, pre-norm, no dropout. Its self-attentions have **rotary positions** (lesson 09) beside the paper's sinusoids; the record below tells what they are worth. `norm=nn.LayerNorm` computes what lesson 10's `LayerNorm` does, in one fused operation. Batches hold 16 sentences. (Depth, batch and rate were found by trying; the tuned rival's too.)

The rate follows `noam_rate`, with a tenth of the steps as warm-up. One addition: in the last 30 % of the steps it is brought down to 0 in a straight line. (The paper averages the weights of its last five checkpoints, section 6.1, which serves the same purpose: it takes the last large steps' noise out.)
"""

# %%
WIDTH, HEADS, HIDDEN, LAYERS, BATCH = 64, 2, 256, 1, 16
SCALE_OF_RATE = 0.5


def new_transformer(task: Task = task, seed: int = run.seed, layers: int = LAYERS, rotate: Callable | None = apply_rope) -> Transformer:
    """Return an untrained transformer; without `rotate` its positions are the paper's."""
    torch.manual_seed(seed)
    return Transformer(len(task.both), WIDTH, HEADS, HIDDEN, layers, norm=nn.LayerNorm, max_len=64, rotate=rotate).to(run.device)


def train_transformer(
    model: Transformer, data: TranslationSet, steps: int, generator: torch.Generator,
    smoothing: float = 0.0, rise: bool = True, desc: str = "transformer",
) -> list[float]:  # fmt: skip
    """Train by teacher forcing with Adam; return the loss of each step. Without `rise` the rate begins at its peak."""
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    warmup, losses = max(1, steps // 10), []
    model.train()
    for step, batch in zip(progress(range(1, steps + 1), desc=desc), data.batches(BATCH, generator)):
        batch = batch.to(run.device)
        falling = min(1.0, (steps - step) / (0.3 * steps))  # 1, and in the last 30 % down to 0
        for group in optimizer.param_groups:
            group["lr"] = noam_rate(step if rise else max(step, warmup), WIDTH, warmup, SCALE_OF_RATE) * falling
        logits = model(batch.source, batch.source_lengths, batch.target_in)  # (B, m, words)
        loss = label_smoothing_loss(logits, batch.target_out, smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


# %%
predict(
    "race",
    "Both models get the same few seconds. Which of them translates the test sentences better then?",
    ["The LSTMs with attention", "The transformer", "Neither: both are near perfect"],
    answer=1,
    because="It makes nearly twice as many steps, with smaller batches, and early on it is steps that count. Whether it stays ahead, and against a better rival, the next section asks.",
)

# %% tags=["experiment"]
untrained = judged(translate(new_transformer()))
translator = new_transformer()
losses = train_transformer(translator, task.joint_train, steps_in(SECONDS, "transformer, rotary"), run.generator(1))
said = translate(translator)
score = judged(said)
print(f"parameters: lesson 06 {sum(p.numel() for p in rival.parameters()):,}, transformer {sum(p.numel() for p in translator.parameters()):,}")
print(f"steps in {SECONDS} seconds: lesson 06 {steps_in(SECONDS, 'lesson 06')} of 64 sentences, transformer {steps_in(SECONDS, 'transformer, rotary')} of {BATCH}")
for name in score:
    print(f"{name:<16} lesson 06 {score_rival[name]:7.3f}   transformer {score[name]:7.3f}")
lengths_rival, lengths_ours = accuracy_by_length(said_rival), accuracy_by_length(said)
for (low, high), one, other in zip(BINS, lengths_rival, lengths_ours):
    print(f"{low}–{high} words      lesson 06 {one:7.3f}   transformer {other:7.3f}")
longest = max(range(len(sources)), key=lambda i: len(sources[i]))
print("\n" + " ".join(sources[longest]), "\n  transformer", " ".join(said[longest]), "\n  right      ", " ".join(references[longest]))

# %% tags=["claim"]
claim(
    "at equal training time, a few seconds, the transformer's BLEU is above that of lesson 06's model as it was (the difference)",
    measured=score["BLEU"] - score_rival["BLEU"],
    at_least=5.0,
    breaks_when={"before training": untrained["BLEU"] - score_rival["BLEU"]},
)

# %% [markdown]
r"""
### Is it a fair race?

A few seconds, one seed, and a rival that may be trained badly: three reasons to doubt. So the race was run at length and **recorded** (what follows is a record, not your own run): all four models, three seeds, and three times as long, 27 seconds by the same calibration. Your own model is the one called *transformer, rotary*.
"""

# %%
BUDGETS = run.pick(smoke=[0.05, 0.1, 0.15], standard=[3, 9, 27], full=[3, 9, 27])  # seconds of training in the record

# %% tags=["record"]
def trained(name: str, drawn: Task, seed: int, seconds: float) -> nn.Module:
    """Return one of the four contestants, trained for so many seconds by the calibration."""
    steps, generator = steps_in(seconds, name), torch.Generator().manual_seed(seed + 1)
    if name.startswith("lesson 06"):
        tuned = "tuned" in name
        model = new_rival(drawn, seed, dot=tuned)
        train_translator(model, drawn.train, steps, generator, batch_size=32 if tuned else 64, desc=f"{name}, seed {seed}")
    else:
        model = new_transformer(drawn, seed, rotate=apply_rope if "rotary" in name else None)
        train_transformer(model, drawn.joint_train, steps, generator, desc=f"{name}, seed {seed}")
    return model


race = {name: {"score": [], "by length": []} for name in cost}
for seed in range(3):
    drawn = draw_task(seed, n_train, n_test)
    for name in cost:
        model = trained(name, drawn, seed, BUDGETS[-1])
        said_then = translate(model, drawn)
        race[name]["score"].append(judged(said_then, drawn))
        race[name]["by length"].append(accuracy_by_length(said_then, drawn))
record("race", race)

# %% tags=["record"]
by_time = {name: [judged(translate(trained(name, task, run.seed, each)))["word accuracy"] for each in BUDGETS[:-1]] for name in cost}
record("accuracy by time", by_time)

variants = {"as in the race": {}, "label smoothing, ε = 0.1": {"smoothing": 0.1}, "no warm-up": {"rise": False}}
found = {name: [] for name in variants}
for seed in range(3):
    drawn = draw_task(seed, n_train, n_test)
    for name, options in variants.items():
        model = new_transformer(drawn, seed)
        train_transformer(model, drawn.joint_train, steps_in(BUDGETS[1], "transformer, rotary"), torch.Generator().manual_seed(seed + 1), desc=name, **options)
        found[name].append(judged(translate(model, drawn), drawn)["word accuracy"])
record("loss and rate", found)

# %%
race, by_time = recorded("race"), recorded("accuracy by time")
MIDDLE = [(low + high) / 2 for low, high in BINS]


def mean(numbers: list[float]) -> float:
    """Return the mean of some numbers."""
    return sum(numbers) / len(numbers)


average = {name: {kind: mean([each[kind] for each in found["score"]]) for kind in score} for name, found in race.items()}
print(f"{'recorded, mean of three seeds':<30}{'steps':>6}{'sentences read':>16}{'word accuracy':>15}{'BLEU':>7}{'whole sentences':>17}")
for name, each in average.items():
    steps = steps_in(BUDGETS[-1], name)
    print(f"{name:<30}{steps:>6}{steps * BATCH_SIZES[name]:>16,}{each['word accuracy']:>15.3f}{each['BLEU']:>7.1f}{each['whole sentences']:>17.2f}")

fig, axes = plt.subplots(1, 3, figsize=(11.4, 3.6))
errors = {name: [1 - each for each in (*by_time[name], race[name]["score"][0]["word accuracy"])] for name in race}
figures.lines(axes[0], BUDGETS, errors, xlabel="training time (calibrated seconds)", ylabel="word errors (share of words)", title="By time (seed 0)", log="xy")
read = {name: [steps_in(each, name) * BATCH_SIZES[name] for each in BUDGETS] for name in race}
for (name, each), line in zip(read.items(), axes[0].lines):
    axes[1].loglog(each, errors[name], color=line.get_color(), marker=line.get_marker())
axes[1].set(xlabel="sentences read in training", title="By sentences read (seed 0)")
by_length = {name: [1 - mean(column) for column in zip(*found["by length"])] for name, found in race.items()}
bands = {name: tuple([1 - extreme(column) for column in zip(*found["by length"])] for extreme in (max, min)) for name, found in race.items()}
figures.lines(axes[2], MIDDLE, by_length, bands=bands, xlabel="English words", ylabel="", title="By length, at the end (3 seeds)")
axes[2].set_ylim(bottom=0)
axes[0].set_xticks(BUDGETS)
for ax in axes[:2]:
    ax.set_yticks((0.02, 0.05, 0.1, 0.2, 0.5, 1), labels=("0.02", "0.05", "0.1", "0.2", "0.5", "1"))
    ax.minorticks_off()
axes[1].set_xticks((3000, 10_000, 30_000), labels=("3,000", "10,000", "30,000"))
axes[0].legend(loc="lower left", fontsize=8)
axes[2].legend().remove()
figures.show(
    fig,
    caption="Recorded; lower is better; the colours and marks of the left panel hold for all three. Left: word errors after 3, 9 and 27 seconds of training, each a run of its own (both axes logarithmic). Middle: the same runs by the number of sentences that they had read. Right: errors by length after 27 seconds, mean and range of three seeds.",
    alt="Three panels of word errors, four lines each. By time, the tuned LSTMs are lowest until three of the lines meet; that of the transformer without rotary positions ends above them. By sentences read, the two transformers stand left of the LSTMs: they need fewer for the same error. By length, three lines stay close together; that of the transformer without rotary positions lies above them and rises on the longest sentences.",
)

# %% tags=["claim"]
bleus = {name: each["BLEU"] for name, each in average.items()}
claim(
    "recorded, 27 seconds: lesson 06's model has overtaken the paper's transformer (mean lead in BLEU)",
    measured=bleus["lesson 06"] - bleus["transformer"],
    at_least=1.0,
    breaks_when={"the transformer with rotary positions": bleus["lesson 06"] - bleus["transformer, rotary"]},
)
claim(
    "recorded, 27 seconds: with rotary positions the transformer is level with both LSTM translators (larger distance in mean BLEU)",
    measured=max(abs(bleus["transformer, rotary"] - bleus[name]) for name in ("lesson 06", "lesson 06, tuned")),
    at_most=1.5,
    breaks_when={"with sinusoids alone": max(abs(bleus["transformer"] - bleus[name]) for name in ("lesson 06", "lesson 06, tuned"))},
)
sentences = {name: each[-1] for name, each in read.items()}
claim(
    "recorded: and it had read about half as many sentences as either, or fewer (share of the smaller number)",
    measured=sentences["transformer, rotary"] / min(sentences["lesson 06"], sentences["lesson 06, tuned"]),
    at_most=0.6,
    breaks_when={"lesson 06's two models, compared with each other": min(sentences["lesson 06"] / sentences["lesson 06, tuned"], sentences["lesson 06, tuned"] / sentences["lesson 06"])},
)

# %%
trials = recorded("loss and rate")
print(f"recorded: word accuracy of the transformer with rotary positions after {BUDGETS[1]} seconds")
print(f"{'':<28}" + "".join(f"{f'seed {seed}':>8}" for seed in range(3)) + f"{'mean':>8}")
for name, each in trials.items():
    print(f"{name:<28}" + "".join(f"{one:8.3f}" for one in (*each, mean(each))))

# %% [markdown]
r"""
So your model's lead was real, and it was a lead over lesson 06's model as it was, in the first seconds. What can be said, and what cannot:

- **Steps decide the first seconds.** After 9 seconds both transformers are ahead of lesson 06's model, which makes few steps of many sentences. Tuned to make more of them, the LSTMs are ahead of both.
- **At the end three of the four are level**, with differences no larger than those between seeds. The paper's transformer is not among them; rotary positions in the self-attentions make up what it lacks.
- **A sentence teaches the transformer more.** It is level when it has read about half as many sentences as either LSTM translator, or fewer (middle panel). What it lacks here is speed: on one thread a sentence costs it about twice as much.
- **Length.** From 20 words to 40 the LSTM translators lose less than a hundredth of their accuracy: attention took care of that in lesson 06 already. Both transformers lose more, the paper's most. A guess at the reason: order is built into recurrence; a transformer must learn it from its positions, and sinusoids tell it where a word stands, not how far two words are apart.
- **Rate and loss** (last table, after 9 seconds). Without the rise of the rate, accuracy is lower with each of the three seeds, by one to four hundredths. Label smoothing helps with two seeds and harms with one: too little to tell.
- What this race *cannot* show is why the field changed over. One thread does one thing at a time. But an LSTM translator that reads 30 words and says 30 is a chain of 60 steps, each of which waits for the one before; in training our transformer is a chain of five sublayers, however long the sentence. Hardware that multiplies thousands of numbers at once can use that, and depth, which these few seconds do not pay for, is what later lessons build on.

Vaswani et al. trained for twelve hours on eight GPUs. There the transformer beat the best recurrent and convolutional translators, at a fraction of their training cost (their table 2).
"""

# %% [markdown]
r"""
## Who was translated from whom

The cross-attention's weights are a map with a row for each Tovian word and a column for each English one, in every block and every head. The course knows the true map, the gold alignment. As in lesson 06 we score **content words** (nouns, names, verbs, adjectives, adverbs): for each Tovian content word, has the right English one the largest weight among the content words? Words that moved past another are counted apart, and a line that keeps the order is the baseline.
"""

# %%
CONTENT = {"NOUN", "PROPN", "VERB", "ADJ", "ADV"}


def cross_weights(model: Transformer) -> Tensor:
    """Return the weights (N, m, n) of the test sentences, mean over blocks and heads, when the right words are heard."""
    batch = task.joint_test.select(range(len(task.joint_test))).to(run.device)
    return model.decode(model.encode(batch.source, batch.source_lengths), batch.target_in).weights.cpu()


def alignment_scores(weights: Tensor) -> dict[str, float]:
    """Return the share of Tovian content words that hear their own English word most, in several ways."""
    hits = defaultdict(list)
    for i, (sentence, translation) in enumerate(task.pairs):
        content = [place for place, tag in enumerate(sentence.tags) if tag in CONTENT]
        links = sorted((j, s) for s, j in translation.alignment if s in content)
        for number, (j, s) in enumerate(links):
            found = content[weights[i, j, content].argmax()] == s
            kept = content[min(number, len(content) - 1)] == s
            crossed = any((other_s - s) * (other_j - j) < 0 for other_j, other_s in links)
            hits["content words"].append(found)
            hits["content words, in order"].append(kept)
            if crossed:
                hits["moved words"].append(found)
                hits["moved words, in order"].append(kept)
    return {name: sum(each) / len(each) for name, each in hits.items()}


weights, weights_untrained = cross_weights(translator), cross_weights(new_transformer())
aligned, aligned_untrained = alignment_scores(weights), alignment_scores(weights_untrained)
for name, share in aligned.items():
    print(f"{name:<26}{share:.2f}   before training {aligned_untrained[name]:.2f}")


# %%
def show_alignment(weights: Tensor, i: int, title: str, ax: plt.Axes, bar: str | None = None) -> None:
    """Draw the map of one test sentence; a ring marks each gold link."""
    english, tovian = [*sources[i], "⟨end⟩"], [*references[i], "⟨end⟩"]
    figures.attention_map(ax, weights[i, : len(tovian), : len(english)], tovian, english, title, bar=bar)
    ax.set(xlabel="English word that is heard", ylabel="Tovian word that is said")
    for source, target in task.pairs[i][1].alignment:
        ax.plot(source, target, marker="o", markersize=8, markerfacecolor="none", color=figures.PALETTE["vermillion"])


shortish = [i for i, (_, t) in enumerate(task.pairs) if len(t.source) <= 18 and not t.is_monotone]
example = max(shortish, key=lambda i: sum(abs(s - j) for s, j in task.pairs[i][1].alignment), default=0)
fig, axes = plt.subplots(1, 2, figsize=(12, 4.6))
show_alignment(weights_untrained, example, "Before training", axes[0])
show_alignment(weights, example, "After training, mean of the heads", axes[1], bar="weight")
figures.show(
    fig,
    caption="One test sentence; rings are the gold alignment. After training the bright squares mostly lie in or beside the rings, which do not follow the diagonal.",
    alt="Two maps of Tovian words by English words. Before training the weights are spread out; after it most rows have a bright square at or near the ring that marks the right word.",
)

# %% tags=["claim"]
claim(
    "cross-attention finds the right source word for most content words: the share whose own English word has the largest weight",
    measured=aligned["content words"],
    at_least=0.5,
    breaks_when={"before training": aligned_untrained["content words"], "keeping the order": aligned["content words, in order"]},
)
claim(
    "and the reordering: the same for words that moved past another",
    measured=aligned["moved words"],
    at_least=0.5,
    breaks_when={"before training": aligned_untrained["moved words"], "keeping the order": aligned["moved words, in order"]},
)

# %% [markdown]
r"""
### Look closer: every map of the model

The view has three tabs: the cross-attention, the decoder's attention to what it has said, the encoder's attention. Each has a row for every block and head. Type a sentence (of words that the model knows), and point at a word that asks. (In *cross* the words that ask are named by what they *say*, in *decoder* by what they have just *heard*.) Below the table stand the three words that are most probable next.

*Question:* go through the Tovian words in the tab *cross*. Which of the two heads finds the English word that is translated? What does the other look at?
"""

# %% tags=["widget", "nbval-ignore-output"]
def maps_of(text: str) -> dict[str, HeadsAsked]:
    """Translate a sentence; return every attention map of the model."""
    words = text.lower().split()
    if not 1 <= len(words) <= 40:
        raise ValueError("Type 1 to 40 words, with spaces around punctuation.")
    strange = [word for word in words if word not in task.english.index]
    if strange:
        raise ValueError(f"The model has never read “{strange[0]}”. Words that it knows: {', '.join(task.english.words[4:40])} …")
    source = torch.tensor([[*task.both.numbers(words), END]], device=run.device)
    lengths = torch.tensor([source.shape[1]], device=run.device)
    (found,) = greedy_decode(translator, source, lengths, 48)
    heard = torch.tensor([[START, *found]], device=run.device)
    with torch.no_grad(), attention_weights(translator) as maps:
        logits = translator(source, lengths, heard)
    best = logits[0].softmax(-1).topk(3)  # (m, 3)
    guesses = [
        "says next: " + ", ".join(f"{task.both.words[w]} {p:.2f}" for p, w in zip(ps, ws))
        for ps, ws in zip(best.values.tolist(), best.indices.tolist())
    ]
    english, tovian = [*words, "⟨end⟩"], ["⟨start⟩", *task.both.sentence(found)]
    parts = {
        "encoder": (english, english, maps[:LAYERS], [""] * len(english)),
        "decoder": (tovian, tovian, maps[LAYERS::2], guesses),
        "cross": ([*tovian[1:], "⟨end⟩"], english, maps[LAYERS + 1 :: 2], guesses),  # a row is named by what is said
    }
    names = [f"block {block}, head {head}" for block in range(1, LAYERS + 1) for head in range(1, HEADS + 1)]
    return {
        name: HeadsAsked(asking, asked, names, torch.cat([each[0] for each in layers]).tolist(), notes)
        for name, (asking, asked, layers, notes) in parts.items()
    }


typed = " ".join(sources[example])
tabs = [HeadsView(lambda text, part=part: maps_of(text)[part], typed) for part in ("cross", "decoder", "encoder")]
for other in tabs[1:]:
    traitlets.link((tabs[0], "text"), (other, "text"))  # one sentence for all three
view = ipywidgets.Tab(tabs)
for i, part in enumerate(("cross", "decoder", "encoder")):
    view.set_title(i, part)
display(view)

found = maps_of(typed)
fig, axes = plt.subplots(3, HEADS, figsize=(10, 11))
for row, part in zip(axes, ("cross", "decoder", "encoder")):
    for head, ax in enumerate(row):
        asked = found[part]
        last = head == HEADS - 1
        figures.attention_map(ax, asked.weights[head], asked.queries, asked.keys, f"{part}: {asked.heads[head]}", bar="weight" if last else None)
        ax.tick_params(labelsize=6.5)
figures.show(
    fig,
    caption="The same maps as in the view above, for a page that cannot be pointed at. Rows ask, columns are asked. In the decoder's maps the upper right triangle is empty: that is the future.",
    alt="Six attention maps of one sentence, two heads each for cross-attention, the decoder's and the encoder's self-attention; the decoder's have an empty upper right triangle.",
)

# %% [markdown]
r"""
The two heads share the work, differently for different words: for some both find the word that is translated, for some one of them, for some neither. A map that is averaged over heads hides this.

## Decoding

Greedy decoding was lesson 06's function; all it needs is `encode` and `decode`. So does lesson 06's beam search, which asks for the log-probabilities after each prefix. (A sentence's score is its log-probability divided by length$^{0.6}$; a beam of 1 is greedy decoding.)
"""

# %%
def step_of(model: Transformer, source: list[str]) -> Callable[[Tensor], Tensor]:
    """Return the `step` of a transformer for one English sentence."""
    numbers = torch.tensor([[*task.both.numbers(source), END]], device=run.device)  # (1, n)
    memory = model.encode(numbers, torch.tensor([numbers.shape[1]], device=run.device))

    def step(prefixes: Tensor) -> Tensor:
        wide = Encoded(*(part.repeat_interleave(len(prefixes), dim=0) for part in memory))
        return model.decode(wide, prefixes.to(run.device)).logits[:, -1].log_softmax(dim=-1).cpu()  # (k, words)

    return step


# %% tags=["experiment"]
rows = list(range(run.pick(smoke=2, standard=20, full=300)))
with torch.no_grad():
    beams = {k: [beam_search(step_of(translator, sources[i]), START, END, k, 40, alpha=0.6) for i in progress(rows, desc=f"beam of {k}")] for k in (1, 4)}
for k, results in beams.items():
    words = [task.both.sentence(word for word in tokens if word != END) for tokens, _ in results]
    print(f"beam of {k}: mean score {mean([each for _, each in results]):.3f}, BLEU {bleu(words, [references[i] for i in rows]):.1f} on {len(rows)} sentences")
gains = [four - one for (_, four), (_, one) in zip(beams[4], beams[1])]
print(f"the beam of 4 finds a better score in {sum(gain > 1e-6 for gain in gains)} of {len(rows)} sentences")

# %% [markdown]
r"""
A wider beam never finds a worse score. Whether the translation is better, too, depends on the model: where its first guess is mostly right, there is little to gain.

### What the caches save

Without caches, word number $t$ is said by running the decoder over all $t$ words again, and projecting the source's keys and values again in every block. With them, one position is run. The same words must come out; only the time differs. (Not by a factor of $t$: on so small a model, most of the time of a step goes into starting its operations.)
"""

# %% tags=["experiment"]
class ReadsAgain(nn.Module):
    """A transformer without caches: `decode` runs over all words said so far."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def encode(self, source: Tensor, lengths: Tensor) -> Encoded:
        return self.model.encode(source, lengths)

    def decode(self, memory: Encoded, target: Tensor, state: Tensor | None = None) -> Decoded:
        heard = target if state is None else torch.cat([state, target], dim=1)  # (B, t), all words so far
        return Decoded(self.model.decode(memory, heard).logits[:, -1:], heard, None)  # with new caches each time


few = task.joint_test.select(range(min(16, len(task.joint_test)))).to(run.device)
timed = {}
for name, model in (("again", ReadsAgain(translator)), ("cached", translator)):
    timed[name] = median_time(lambda: greedy_decode(model, few.source, few.source_lengths, 40), warmup=1, repeats=run.pick(smoke=1, standard=3, full=9), device=run.device).median  # noqa: B023
    print(f"{name:<8}{1000 * timed[name]:7.0f} ms for 16 sentences")
same = greedy_decode(ReadsAgain(translator), few.source, few.source_lengths, 40) == greedy_decode(translator, few.source, few.source_lengths, 40)

# %% tags=["claim"]
double, numbers = copy.deepcopy(translator).double(), task.joint_test.select(range(4)).to(run.device)
with torch.no_grad():
    memory = double.encode(numbers.source, numbers.source_lengths)
    whole = double(numbers.source, numbers.source_lengths, numbers.target_in)  # (4, m, words)
    state, one_by_one, forgetful = None, [], []
    for t in range(numbers.target_in.shape[1]):
        heard = numbers.target_in[:, t : t + 1]  # (4, 1)
        forgetful.append(double.decode(memory, heard).logits)
        decoded = double.decode(memory, heard, state)
        state = decoded.state
        one_by_one.append(decoded.logits)
claim(
    "word by word with caches the logits are those of the whole sentence at once",
    measured=(torch.cat(one_by_one, dim=1) - whole).abs().max().item(),
    at_most=1e-10,
    breaks_when={"without handing on the caches": (torch.cat(forgetful, dim=1) - whole).abs().max().item()},
)
claim("decoding with caches takes less time than reading everything again", measured=timed["again"] / timed["cached"], at_least=1.1, timing=True)

# %% [markdown]
r"""
## What it costs, and where it breaks

**Training** waits for nothing: all positions are computed at once. **Writing** does not get that gift. The decoder says one word after the other, as the LSTM did, and each new word attends to all before it.

**Experience.** Order and nearness are built into recurrence; a transformer knows of them only what positions tell it and training teaches. That may be why recurrence is so hard to beat in seconds, and why rotary positions, which put the distance of two words into their score, gained so much in the table above.

**Lengths that were never trained.** All training sentences had 15 to 40 words. What about shorter ones?
"""

# %%
predict(
    "short sentences",
    "The two models have been trained on 15 to 40 words. How well do they translate sentences of 5 to 8 words?",
    ["Better: a short sentence is an easier one", "As well as those of 15 words", "Far worse"],
    answer=2,
    because="Neither has ever heard a sentence that ends so early: they go on, and say words that nobody asked for.",
)

# %% tags=["experiment"]
about = {"register": "story", "topic": "voyage", "min_words": 5, "max_words": 14}
brief = [t for _, t in town.parallel(run.pick(smoke=30, standard=300, full=2000), seed=20_000 + run.seed, **about)]
brief = [t for t in brief if task.english.index.keys() >= set(t.source) and task.tovian.index.keys() >= set(t.target)]
by_bin = {"lesson 06's model": [], "transformer": []}
SHORT_BINS = ((5, 8), (9, 11), (12, 14))
for low, high in SHORT_BINS:
    chosen = [t for t in brief if low <= len(t.source) <= high]
    for name, model in zip(by_bin, (rival, translator)):
        numbered = (task.english, task.tovian) if model is rival else (task.both, task.both)
        data = TranslationSet([(t.source, t.target) for t in chosen], *numbered)
        batch = data.select(range(len(data))).to(run.device)
        out = [numbered[1].sentence(each) for each in greedy_decode(model, batch.source, batch.source_lengths, 48)]
        by_bin[name].append(word_accuracy(out, [t.target for t in chosen]))
for (low, high), *accuracies in zip(SHORT_BINS, *by_bin.values()):
    print(f"{low:>2}–{high} words: " + ", ".join(f"{name} {each:.2f}" for name, each in zip(by_bin, accuracies)))

# %% [markdown]
r"""
On the shortest sentences both are far below what they reach at 15 words and more, though a short sentence is an easier one to a reader. How far they fall depends much on the seed, so nothing is claimed. An accuracy below 0 means that more wrong words are said than there are right ones: the decoder has never seen a sentence end so early, and may go on. What a model has learnt about lengths holds for the lengths it has met. (Lesson 09 measured the other side, sentences longer than any in training.)

## Real sentences: German to English

Multi30k (Elliott et al. 2016) has 29,000 descriptions of photographs in English and German. Its licence does not let us ship it; `course data fetch multi30k` gets it. German to English, as in lesson 06: lower-cased, rare words unknown, BLEU on the published test set, with lesson 06's model beside the transformer. At the scale *standard* only a taste of the training is run; *full* takes minutes on a GPU.
"""

# %%
def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def try_multi30k(splits: dict) -> dict[str, float]:
    """Train lesson 06's model and a transformer on German → English; return BLEU on the published test set."""
    sizes = run.pick(smoke=(200, 20), standard=(3000, 100), full=(29_000, 1000))
    train, test = ([(words_of(p.german), words_of(p.english)) for p in splits[name][:size]] for name, size in zip(("train", "test"), sizes))
    german, english = Vocabulary.of((s for s, _ in train), min_count=2), Vocabulary.of((t for _, t in train), min_count=2)
    both = Vocabulary.of((words for pair in train for words in pair), min_count=2)
    width, steps = run.pick(smoke=16, standard=64, full=256), run.pick(smoke=3, standard=120, full=8000)
    torch.manual_seed(run.seed)
    models = {
        "lesson 06's model": (Translator(len(german), len(english), width, AdditiveAttention(width, width // 2)), german, english),
        "transformer": (Transformer(len(both), width, 4, 4 * width, run.pick(smoke=1, standard=1, full=3), dropout=0.1, norm=nn.LayerNorm), both, both),
    }
    scores = {}
    for name, (model, read, written) in models.items():
        data, asked = (TranslationSet(each, read, written) for each in (train, test))
        rate = run.pick(smoke=1e-2, standard=5e-3, full=1e-3)
        train_translator(model.to(run.device), data, steps, run.generator(3), learning_rate=rate, desc=f"Multi30k, {name}")
        batch = asked.select(range(len(asked))).to(run.device)
        found = greedy_decode(model, batch.source, batch.source_lengths, 40)
        scores[name] = bleu([written.sentence(each) for each in found], [target for _, target in test])
    return scores


# %% tags=["nbval-ignore-output"]
multi30k = registry.load_or_none("multi30k")
if multi30k is not None:
    for name, each in try_multi30k(multi30k).items():
        print(f"{name:<20}BLEU {each:.1f}")

# %% [markdown]
r"""
For comparison: in the other direction, English to German, Wu et al. (2021) report a BLEU of 41.02 on the test set of 2016 for a text-only transformer of four blocks of width 128, on subwords.

## Recap

- Encoder: lesson 10's blocks. Decoder: the same with a third sublayer, which consults the memory. The memory is computed once, and three attentions need three masks.
- One table embeds source and target and scores the next word; on the way in it is multiplied by $\sqrt d$.
- With copied weights it is `nn.Transformer`, final norms included, outputs and gradients to ten digits.
- The base model has 63,082,496 parameters. The paper's 65 million are explained by a table of about 41,000 rows: the gap depends on $d$ alone.
- A smoothed target sets an end to the logits; the Noam rate rises in a line and falls with the root.
- At equal time on one thread the transformer leads lesson 06's model at first. Against tuned LSTMs it never leads; at the end it is level with rotary positions, having read about half as many sentences, and behind with sinusoids alone.
- Cross-attention finds the words that are translated, moved ones among them. Caches make writing cheaper and change no number.

**If you want more.** (1) Give the live race 27 seconds (`SECONDS`), or your model the paper's positions (`rotate=None`). (2) Two blocks in each stack (`layers=2`): a step costs more; does it pay in the same time? (3) `residual=PostNorm`, with and without warm-up. (4) Train with `smoothing=0.1` for longer, with more seeds: does it help then, and what happens to the plain cross-entropy on the test sentences? (5) Train on 5 to 40 words: are short sentences saved?

## Glossary

| word | meaning |
|---|---|
| memory | the encoder's output, one vector for each source word |
| cross-attention | queries from the decoder's stream, keys and values from the memory |
| shared embeddings | one table that embeds source and target and scores the next word |
| label smoothing | a target that gives a share $\varepsilon$ evenly to all words |
| warm-up | the first steps, in which the learning rate rises |
| Noam schedule | linear warm-up, then a fall with the root of the step |
| calibration | the recorded time of one step, by which equal times become numbers of steps |

## Sources

- A. Vaswani et al. (2017), *Attention Is All You Need*, NeurIPS. Sections 3.1 (blocks), 3.4 (shared table, √d), 3.5 (positions), 5.1 (vocabulary), 5.3 (rate), 5.4 (dropout, label smoothing), 6.1 (averaged checkpoints, beam); table 3 (parameters).
- O. Press, L. Wolf (2017), *Using the Output Embedding to Improve Language Models*, EACL: one table for input and output.
- C. Szegedy et al. (2016), *Rethinking the Inception Architecture for Computer Vision*, CVPR, section 7: label smoothing.
- R. Xiong et al. (2020), *On Layer Normalization in the Transformer Architecture*, ICML: pre-norm, post-norm and warm-up.
- J. Su et al. (2021), *RoFormer: Enhanced Transformer with Rotary Position Embedding*: rotary positions.
- D. Bahdanau, K. Cho, Y. Bengio (2015); T. Luong, H. Pham, C. Manning (2015): the attention of lesson 06.
- Y. Wu et al. (2016), *Google's Neural Machine Translation System*, section 7: length normalisation of the beam.
- PyTorch documentation, `torch.nn.Transformer`: masks, `norm_first`, the final norms.
- Z. Wu, L. Kong, W. Bi, X. Li, B. Kao (2021), *Good for Misconceived Reasons: An Empirical Revisiting on the Need for Visual Context in Multimodal Machine Translation*, ACL: the "tiny" transformer on Multi30k.
- D. Elliott, S. Frank, K. Sima'an, L. Specia (2016), *Multi30K: Multilingual English–German Image Descriptions*, Workshop on Vision and Language.
"""
