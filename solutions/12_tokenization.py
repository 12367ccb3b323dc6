# %% [markdown]
r"""
# 12 · Tokenization

**What is a token?**

Every model of this course so far was given its words ready-made. Real text has no last word: names, numbers, misspellings, other languages. In this lesson you build what stands between a string and a language model. At the end you will

- turn any text of any language into ids and back, with not one unknown word, and know why that must be so;
- train a byte-level BPE fast: the same merges, id by id, as the tokenizers that large models use, in plain Python;
- know WordPiece (BERT) and Unigram (T5) as well, and where each cuts a word;
- say who pays for a tokenizer's choices: numbers, capitals, other languages.

You need to know what a vocabulary is (lesson 04) and what its size costs (lesson 11); no neural network is trained here. About two and a half hours.
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"  # "smoke": seconds, for tests; "standard": a laptop; "full": a GPU
DEVICE = "auto"  # "cuda", "mps", "cpu", or "auto": the first of them that is there
DATASET = "riverbank"

# %% tags=["setup"]
import heapq  # noqa: F401 - used by the code of the exercises
import math  # noqa: F401
import random
import tempfile
from collections import Counter, defaultdict  # noqa: F401
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence  # noqa: F401
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import regex
from IPython.display import display

from course_lib import figures
from course_lib.data import registry, text
from course_lib.data.riverbank import Town
from course_lib.exercises import check, claim, hint, predict  # noqa: F401
from course_lib.figures.course_map import show_course_map
from course_lib.models.bytes_and_words import Pair, count_words
from course_lib.runtime import median_time, start
from course_lib.widgets.token_view import Cut, TokenView, draw_cuts, shown

run = start(lesson=12, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)
figures.use_course_style()

# %%
show_course_map(here=12)

# %% [markdown]
r"""
## The question

Lesson 11 read words. Its vocabulary was a list, made from the training text; what was not on the list became one symbol, *unknown*. In Riverbank that costs next to nothing: the town has 1,684 words and no more. How is it with text that people wrote? We take what every machine has: Python's manual and the docstrings of its standard library. Whole documents are held out; a word is a run of letters and digits or a single mark, in lower case.
"""

# %%
town = Town()
n_documents = run.pick(smoke=40, standard=1500, full=6000)
riverbank = "\n".join(d.text for d in town.documents(n_documents, seed=run.seed))
riverbank_test = "\n".join(d.text for d in town.documents(n_documents // 6, seed=10_000 + run.seed))
if run.pick(smoke=True, standard=False, full=False):
    parts = text.python_manual().split((0.8, 0.1, 0.1))
    python, python_test = parts[0].text[:60_000], parts[2].text[:10_000]
else:
    parts = text.python_docs().split((0.8, 0.1, 0.1))
    python, python_test = parts[0].text, parts[2].text
print(f"Riverbank: {len(riverbank):,} and {len(riverbank_test):,} characters; Python: {len(python):,} and {len(python_test):,}")


# %% tags=["experiment"]
def plain_words(string: str) -> list[str]:
    """Cut a text into lower-case words and single marks."""
    return regex.findall(r"\w+|[^\w\s]", string.lower())


def unknown_share(train: str, test: str, size: int | None = None) -> float:
    """Return the share of the test's words that are not among the training text's `size` most frequent ones."""
    known = {word for word, _ in Counter(plain_words(train)).most_common(size)}
    words = plain_words(test)
    return sum(word not in known for word in words) / len(words)


SIZES = (500, 1000, 2000, 5000, None)
for name, train, test in (("Riverbank", riverbank, riverbank_test), ("Python", python, python_test)):
    shares = {size or "all": unknown_share(train, test, size) for size in SIZES}
    print(f"{name:<10}{len(set(plain_words(train))):>6,} different words; unknown in new text:", "  ".join(f"{size}: {each:.2%}" for size, each in shares.items()))
seen, met = set(plain_words(python)), set(plain_words(python_test))
unseen_types = len(met - seen) / len(met)
print(f"of the different words in the new Python text {unseen_types:.0%} are unknown, such as", ", ".join([word for word in sorted(met - seen) if word.isalpha() and len(word) > 6][5::60]))
print(f"characters for each word in the new Python text: {len(python_test) / len(plain_words(python_test)):.1f}")

# %% tags=["claim"]
claim(
    "even with every word of the training text in the vocabulary, more than two in a hundred words of new Python text are unknown",
    measured=unknown_share(python, python_test),
    at_least=0.02,
    breaks_when={"in Riverbank, whose words are a closed list": unknown_share(riverbank, riverbank_test)},
)

# %% [markdown]
r"""
Two in a hundred does not sound like much. But the unknown words are those that carry the sentence: names, terms, anything new; and a model that has written *unknown* cannot take it back. Nor does a longer list cure it: *all* is the share with *every* word that there was.

The other extreme is to read **characters**. Hardly any is unknown, and the price is length: *characters for each word*, above, says how many times longer the row gets. Attention pays for length with its square (lesson 07).

So we want *pieces*: whole words where words are frequent, parts of words where they are rare, single bytes if nothing else fits.
"""

# %% [markdown]
r"""
## What text is made of

A Python string is a sequence of **code points**: the numbers that Unicode gives to characters, from 0 to 1,114,111 (hexadecimal 10FFFF). About 150,000 of them are assigned, so even a table of characters would be large and never complete. **UTF-8** writes each code point as one to four **bytes**, numbers from 0 to 255:

| code points | bytes |
|---|---|
| up to 7F: ASCII | `0xxxxxxx` |
| up to 7FF: most of Europe, the Near East | `110xxxxx` `10xxxxxx` |
| up to FFFF: most of Asia, symbols | `1110xxxx` `10xxxxxx` `10xxxxxx` |
| up to 10FFFF: emoji, rare scripts | `11110xxx` `10xxxxxx` `10xxxxxx` `10xxxxxx` |

The x are the binary digits of the code point, left to right. For *é*, code point E9, eleven of them are 000 1110 1001, so its bytes are `11000011` `10101001`, in hexadecimal c3 a9. The first byte says how many follow, and a following byte always begins with `10`, so a reader that starts in the middle finds the next character.
"""

# %% tags=["nbval-check-output"]
def utf8(code: int) -> bytes:
    """Write a code point as bytes, by the table."""
    if code < 0x80:
        return bytes([code])
    n_following = 1 if code < 0x800 else 2 if code < 0x10000 else 3
    following = [0b10_000000 | code >> 6 * i & 0b111111 for i in range(n_following)]  # the last six digits first
    mark = {1: 0b110_00000, 2: 0b1110_0000, 3: 0b11110_000}[n_following]
    return bytes([mark | code >> 6 * n_following, *reversed(following)])


for character in "aéЖ日😀":
    print(f"{character}  U+{ord(character):04X}  {utf8(ord(character)).hex(' ')}")
codes = [*range(0, 0xD800, 7), 0xD7FF, *range(0xE000, 0x110000, 101), 0x10FFFF]
print(all(utf8(code) == chr(code).encode("utf-8") for code in codes), "for", len(codes), "code points")

# %% [markdown]
r"""
(The code points D800 to DFFF are left out: they are **surrogates**, halves that UTF-16 needs and that are no characters. A Python string can hold one by accident, and then has no UTF-8.)

Here is the whole answer to unknown words: **take the 256 bytes as the vocabulary's first 256 tokens.** Every text is a row of bytes, so every text can be written. What remains is to make the rows shorter.

## Where a token must end

Before pieces are learnt the text is cut into "words", and no token may reach across a cut. Without that rule a frequent phrase such as *of the* would become one token, and *dog.*, *dog!* and *dog?* three that share nothing. GPT-2's rule (Radford et al. 2019) is one regular expression. The text is read from the left and the first alternative that fits is taken:

| alternative | takes |
|---|---|
| `'s` `'t` `'re` `'ve` `'m` `'ll` `'d` | English endings after an apostrophe, in lower case |
| ` ?\p{L}+` | letters of any script, with the one space before them |
| ` ?\p{N}+` | digits and other numbers, with the space before them |
| ` ?[^\s\p{L}\p{N}]+` | anything else that is visible, with the space before it |
| `\s+(?!\S)` | white space that is not followed by something visible: all but the last character of a gap |
| `\s+` | what white space is left |

A space belongs to the word *after* it. That is why tokens begin with a space, and why nothing is lost: joined, the pieces are the text.
"""

# %% tags=["nbval-check-output"]
from course_lib.models.bytes_and_words import GPT2_SPLIT  # noqa: F401 - the rule, as a regular expression
from course_lib.models.bytes_and_words import split_words  # course: write out

for sample in ("The dog didn't bark, it's true.", "DIDN'T   IT?", "x = f(3.14)\n    return x"):
    print(split_words(sample))
    assert "".join(split_words(sample)) == sample

# %% [markdown]
r"""
## Byte-pair encoding

**BPE** (Gage 1994 for compression, Sennrich et al. 2016 for translation) learns its pieces by one rule: *take the pair of neighbouring tokens that occurs most often, and make it one token; repeat.* Each such step is a **merge**. Merge number $k$ (from 0) makes the token with id $256 + k$.

The words with their counts are all that training needs. First the version that says what is meant. It counts all pairs anew for each merge; of equally frequent pairs it takes the smallest (compare the first id, then the second), so that there is one answer.
"""

# %%
from course_lib.models.bytes_and_words import merge_word  # course: write out


def count_pairs(words: Mapping[tuple[int, ...], int]) -> Counter:
    """Return how often each pair of neighbours occurs; in "aaa" the pair (a, a) occurs twice."""
    total = Counter()
    for word, count in words.items():
        for neighbours in pairwise(word):  # (w0, w1), (w1, w2), …
            total[neighbours] += count
    return total


def train_by_rescanning(words: Mapping[tuple[int, ...], int], n_merges: int) -> list[Pair]:
    """Learn merges, and count every word again for each."""
    words, learned = dict(words), []
    for k in range(n_merges):
        total = count_pairs(words)
        top = min(total, key=lambda neighbours: (-total[neighbours], neighbours))
        learned.append(top)
        words = {tuple(merge_word(word, top, 256 + k)): count for word, count in words.items()}
    return learned


# %% tags=["nbval-check-output"]
toy = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
toy_words = {tuple(word.encode()): count for word, count in toy.items()}
names = [bytes([byte]) for byte in range(256)]
for k, (left, right) in enumerate(train_by_rescanning(toy_words, 8)):
    names.append(names[left] + names[right])
    print(f"merge {k}: {names[left].decode():>4} + {names[right].decode():<3} → id {256 + k}, {names[-1].decode()}")

# %% [markdown]
r"""
The example is that of Sennrich et al. *es* occurs 6 + 3 = 9 times, in *newest* and *widest*, and so does *st*; the byte e is smaller than the byte s, so merge 0 is e + s. Within a few merges *est* and *low* are found, by counting alone. (Their words end in a mark; ours begin with a space in running text, which does the same work.)

Let $W$ be the number of bytes in all different words and $M$ the number of merges. Rescanning looks at up to $W \cdot M$ pairs; for our Python text and 8,000 merges that is several hundred million, and for a real corpus hopeless. But a merge changes only the words that hold its pair. So keep

- `total`: how often each pair occurs *now*;
- `holders`: for each pair, the numbers of the words that hold it (the **pair index**).

After the merge of $(a, b)$ visit only the words in `holders[a, b]`: their old pairs are taken out of `total`, their new ones are put in. A visit costs the length of one word, and each visit that finds the pair makes the word shorter by at least one token, so there are at most $W$ of them.

### Exercise: `train_bpe`

*Difficulty ●●●●○ · about 35 minutes · 5 points*

- **Task.** Learn merges incrementally.
- **Input.** `words`, a dictionary from a word (a tuple of ids below 256) to its count; `n_merges`, at most how many merges; `min_count`, how often a pair must occur to be merged.
- **Output.** A list of pairs, in the order in which they were merged. Merge $k$ makes the token $256 + k$. Of equally frequent pairs the smallest comes first.
- **Use** `merge_word(word, pair, new)`, above.
- **Edge cases.** No words; words of one letter; fewer pairs than merges; pairs that overlap themselves, as in *aaaa*. `words` itself stays as it is.
- **Speed.** The check counts how often your code looks at a letter. Searching all *pairs* for the most frequent one is allowed (`min(total, key=…)`); reading all *words* for each merge is not. A `heapq` makes even that search short: the third hint says how.
- **Help.** `hint("train_bpe")`.
"""

# %% tags=["exercise"] exercise="train_bpe"
from course_lib.models.tokenization import train_bpe  # course: write out

# %% tags=["check"] exercise="train_bpe"
train_bpe = check("train_bpe")

# %% tags=["experiment"]
python_words = count_words([python])
n_merges = run.pick(smoke=60, standard=7936, full=32_000)  # with the 256 bytes: 8,192 tokens
pairs: list[Pair] = []
seconds = median_time(lambda: pairs.extend(train_bpe(python_words, n_merges)), repeats=1, warmup=0, device=run.device).median
riverbank_pairs = train_bpe(count_words([riverbank]), n_merges)
print(f"{len(python_words):,} different words, {sum(map(len, python_words)):,} bytes in them; {len(pairs):,} merges in {seconds:.1f} s")

some = dict(python_words.most_common(run.pick(smoke=200, standard=3000, full=8000)))
few = run.pick(smoke=10, standard=60, full=300)
rescanned = []
slow = median_time(lambda: rescanned.extend(train_by_rescanning(some, few)), repeats=1, warmup=0, device=run.device).median
fast = median_time(lambda: train_bpe(some, few), repeats=3, warmup=0, device=run.device).median
print(f"{few} merges of the {len(some):,} commonest words: {slow:.2f} s by rescanning, {fast:.3f} s with the index")

# %% tags=["claim"]
indexed, uncounted = train_bpe(some, few), train_bpe(dict.fromkeys(some, 2), few)
claim(
    "the incremental training finds the same merges as the one that rescans",
    measured=sum(one == other for one, other in zip(rescanned, indexed)) / few,
    equals=1.0,
    breaks_when={"if each word counted equally": sum(one == other for one, other in zip(rescanned, uncounted)) / few},
)
claim("and takes less than a quarter of its time", measured=slow / fast, at_least=4, timing=True)

# %% [markdown]
r"""
How does this compare with the tool that everybody uses? A benchmark of the course, `benchmarks/bpe.py`, trains 8,000 merges on one megabyte with ours and with Hugging Face's *tokenizers*, written in Rust, in turn and on one thread, and stops if one merge, or one id of the encoded text, is not equal. In its last run ours took less than half as long again as theirs: the index matters more than the language.

Here is what was learnt. `·` is a space.
"""

# %%
from course_lib.models.bytes_and_words import token_table  # course: write out

tables = {"Python": token_table(pairs), "Riverbank": token_table(riverbank_pairs)}
for name, table in tables.items():
    print(f"{name}, first:  ", " ".join(shown(token) for token in table[256:286]))
    print(f"{' ' * len(name)}  longest:", " ".join(shown(token) for token in sorted((token for token in table if token.strip().isalpha()), key=len)[-6:]))

# %% [markdown]
r"""
## Encoding

Training left a list of merges. A new text is cut by `split_words`, each word is written as bytes, and the merges are applied to it **in the order in which they were learnt**: of all pairs in the word that are merges, the one with the smallest id first, wherever it stands. Any other order can end in other tokens, which a model trained on these has never seen in this place.

Words repeat, so each is worked out once and its ids are remembered in a **cache**.

### Exercise: `encode_word` and `encode`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

- **Task.** `encode_word(word, merges)` merges one word's ids as far as they go. `encode(text, merges, cache)` does it for a whole text.
- **Input.** `word`, a list of byte values; `text`, a string; `merges`, a dictionary from a pair to the id that it becomes; `cache`, a dictionary from words (strings) to lists of ids, which `encode` reads and fills.
- **Output.** A new list of ids each.
- **Use** `split_words` and `merge_word`, above.
- **Edge cases.** No text; a word of one byte; a letter of several bytes; a word that the cache knows already, which is not worked out again.
- **Help.** `hint("encode")`.
"""

# %% tags=["exercise"] exercise="encode"
from course_lib.models.tokenization import encode_word, encode  # course: write out

# %% tags=["check"] exercise="encode"
encode_word, encode = check("encode")

# %%
def numbered(learned: list[Pair], size: int | None = None) -> dict[Pair, int]:
    """Return the id that each pair becomes, for the first merges that make a vocabulary of `size` tokens."""
    return {neighbours: 256 + k for k, neighbours in enumerate(learned[: None if size is None else size - 256])}


merges = numbered(pairs)
table = tables["Python"]
example = "The iterator's unhashability isn't documentable: 8192 tokens!"
print(" | ".join(shown(table[i]) for i in encode(example, merges, {})))

# %% tags=["experiment"]
megabytes = len(python.encode()) / 1e6
whole = median_time(lambda: encode(python, merges, {}), repeats=3, warmup=0, device=run.device).median
part = python[: len(python) // 20]  # without a cache each word is worked out anew, so a twentieth must do
no_cache = median_time(lambda: [encode_word(list(word.encode()), merges) for word in split_words(part)], repeats=1, warmup=0, device=run.device).median
print(f"{megabytes / whole:.1f} MB a second with the cache, {len(part.encode()) / 1e6 / no_cache:.2f} without")

# %% tags=["claim"]
claim(
    "the cache makes encoding at least twice as fast",
    measured=(megabytes / whole) / (len(part.encode()) / 1e6 / no_cache),
    at_least=2,
    timing=True,
)

# %% [markdown]
r"""
## Decoding

The way back is shorter: look up each token's bytes, join them, read them as UTF-8. There is one trap. A token is a piece of a row of *bytes*, and need not end where a character ends.

### Exercise: `decode`

*Difficulty ●●○○○ · about 10 minutes · 2 points*

- **Task.** Turn ids into text.
- **Input.** `ids`, a sequence of ids; `tokens`, a list with the bytes of each token.
- **Output.** A string. Bytes that are no UTF-8 become `�` (U+FFFD): a model may write any ids in any order, and its user must see something.
- **Edge cases.** No ids; a character in two tokens; an id that is negative or has no token raises `ValueError`.
- **Help.** `hint("decode")`.
"""

# %% tags=["exercise"] exercise="decode"
from course_lib.models.tokenization import decode  # course: write out

# %% tags=["check"] exercise="decode"
decode = check("decode")

# %% [markdown]
r"""
**Does any text come back?** Three kinds are tried: new Python text; strings of characters drawn from all of Unicode; and sentences in many scripts, which come below. The comparison is a vocabulary of words, where unknown ones become `?`.
"""

# %%
predict(
    "round-trip",
    "Of 2,000 random Unicode strings, most of whose characters the training text never held, how many come back unchanged from the tokenizer that was trained on Python's English documentation?",
    options=["all", "about nine in ten", "about half", "almost none"],
    answer=0,
    because="All. A character that was never seen has no merges, so it stays the two, three or four bytes that it is, and those are in every byte-level vocabulary. Training decides how short the row of ids is, never whether there is one.",
)

# %% tags=["experiment"]
generator = random.Random(run.seed)


def random_string() -> str:
    """Draw up to 20 characters, from ASCII or from all of Unicode but the surrogates."""
    codes = (generator.choice((generator.randrange(128), generator.randrange(0xD800), generator.randrange(0xE000, 0x110000))) for _ in range(generator.randrange(20)))
    return "".join(map(chr, codes))


def through_words(string: str) -> str:
    """Write a text with the word-level vocabulary, and read it again."""
    return " ".join(word if word in seen else "?" for word in plain_words(string))


strings = [random_string() for _ in range(2000)] + python_test.split("\n\n")
back = sum(decode(encode(each, merges, {}), table) == each for each in strings) / len(strings)
back_words = sum(through_words(each) == each for each in strings) / len(strings)
alone = sum("".join(decode([i], table) for i in encode(each, merges, {})) == each for each in strings) / len(strings)
print(f"{len(strings):,} texts: {back:.1%} come back; token by token {alone:.1%}; through words {back_words:.1%}")

# %% tags=["claim"]
claim(
    "every text comes back from byte-level BPE as it was",
    measured=back,
    equals=1.0,
    breaks_when={"if each token is decoded alone": alone, "through a vocabulary of words": back_words},
)

# %% [markdown]
r"""
And the one exception, said out loud. Half of a surrogate pair is no character, so it has no bytes; instead of writing something that cannot be read back, `encode` lets Python's error through:
"""

# %% tags=["nbval-check-output"]
try:
    encode("\ud83d", merges, {})
except UnicodeEncodeError as error:
    print(error)

# %% [markdown]
r"""
## Special tokens, and a class to keep

A model needs marks that are no text: *a document ends here*, *now the assistant speaks*. They get ids of their own, behind the merges. One rule matters: **text must not be able to produce them.** If a user types `<|end|>`, that is seven characters; a tokenizer that turned them into the mark would let anyone who types forge it. So `Tokenizer.encode` recognises a special token only if the call allows it by name.

`Tokenizer` wraps what you have written: `train`, `encode`, `decode`, and a file to keep it in, readable JSON with one merge a line. Lessons 13 to 18 import it.
"""

# %% tags=["nbval-check-output"]
from course_lib.models.tokenization import Tokenizer

tokenizer = Tokenizer.train("the miller sees the baker . the baker sees the miller .", n_words=270, special=["<|end|>"])
print(tokenizer)
typed = "the baker<|end|>"
print("as text:", [shown(tokenizer.tokens[i]) for i in tokenizer.encode(typed)])
print("allowed:", [shown(tokenizer.tokens[i]) for i in tokenizer.encode(typed, special=["<|end|>"])])
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "tokenizer.json"
    tokenizer.save(path)
    print(path.read_text(encoding="utf-8").splitlines()[4:11])
    print("loaded again, same ids:", Tokenizer.load(path).encode(typed) == tokenizer.encode(typed))

# %% [markdown]
r"""
In the file a space reads `Ġ`. JSON holds text and not bytes, so each byte is written as a character that can be seen: itself where it is visible, else one from U+0100 on. The space, byte 32, becomes U+0120. You will meet `Ġ` wherever GPT-2's descendants are printed. It is a space.
"""

# %% tags=["claim"]
spies = ["<|end|>", "a <|end|> b", "<|<|end|>|>", "<|end|>" * 3]
marks = tokenizer.special.values()
claim(
    "text that spells a special token never becomes one",
    measured=sum(i in marks for spy in spies for i in tokenizer.encode(spy)),
    equals=0,
    breaks_when={"where the call allows it": sum(i in marks for spy in spies for i in tokenizer.encode(spy, special="all"))},
)

# %% [markdown]
r"""
## How large a vocabulary?

The measure is **bytes per token** on new text: how much text one position of the model holds. Merges are learnt in order, so the first 744 of our 7,936 *are* the vocabulary of 1,000 tokens, and one training gives the whole curve. Two tokenizers, one trained on Python's documentation and one on Riverbank, each measured on both kinds of new text.
"""

# %%
predict(
    "other-register",
    "Both tokenizers have 2,048 tokens. On new Riverbank text the one trained on Riverbank holds more than four bytes in a token. What about the one trained on Python's documentation, which is English too?",
    options=["about the same", "about three quarters of it", "little more than half", "one byte: it knows nothing of the town"],
    answer=2,
    because="Common English (the, and, with) is shared; the town's words are not, and the town writes its punctuation apart. The ids are made for the text that they were trained on. The other way round it is the same.",
)

# %% tags=["experiment"]
sizes = run.pick(smoke=[256, 280, 300], standard=[256, 512, 1024, 2048, 4096, 8192], full=[256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768])


def bytes_per_token(string: str, learned: list[Pair], size: int | None = None) -> float:
    """Return how many bytes of a text one token holds on average."""
    return len(string.encode()) / len(encode(string, numbered(learned, size), {}))


tests = {"Python": python_test, "Riverbank": riverbank_test}
curves = {
    f"trained on {trained}, new {name} text": [bytes_per_token(string, learned, size) for size in sizes]
    for trained, learned in (("Python", pairs), ("Riverbank", riverbank_pairs))
    for name, string in tests.items()
}
print(" " * 44 + "".join(f"{size:>7,}" for size in sizes))
for name, values in curves.items():
    print(f"{name:<44}" + "".join(f"{each:7.2f}" for each in values))

# %%
fig, ax = plt.subplots(figsize=(7.4, 3.8))
figures.lines(ax, sizes, curves, xlabel="vocabulary (tokens)", ylabel="bytes per token", title="What one token holds", log="x")
ax.set_ylim(0, None)
figures.show(
    fig,
    caption="The curves flatten. Riverbank's tokenizer ends early: it runs out of pairs that occur twice. Dearest is text of a kind that the tokenizer was not trained on.",
    alt="Bytes per token against vocabulary size on a logarithmic axis, four rising curves. Riverbank on Riverbank is highest and levels off; Python on Python rises steadily; the two crossed ones stay below.",
)

# %% tags=["claim"]
own, other = (curves[f"trained on {each}, new Riverbank text"] for each in ("Riverbank", "Python"))
at_home = curves["trained on Python, new Python text"]
place = sizes.index(2048) if 2048 in sizes else 1
claim(
    "at 2,048 tokens a tokenizer trained on other English holds at most two thirds as much of the town's text in a token",
    measured=other[place] / own[place],
    at_most=0.667,
    breaks_when={"the town's own": own[place] / own[place]},
)
claim(
    "doubling the vocabulary the last time brings less than half of what doubling it the first time brought",
    measured=(at_home[-1] - at_home[-2]) / (at_home[1] - at_home[0]),
    at_most=0.5,
    breaks_when={"the second doubling": (at_home[2] - at_home[1]) / (at_home[1] - at_home[0])},
)

# %% [markdown]
r"""
**An id means nothing without its tokenizer.** The same sentence, cut by each of the two, and how much their vocabularies share:
"""

# %% tags=["experiment"]
sentence = "the miller returned an unexpected argument to his daughter ."
cuts = []
for name, learned in (("Riverbank", riverbank_pairs), ("Python", pairs)):
    ids = encode(sentence, numbered(learned, 2048), {})
    cuts.append((f"trained on {name}", Cut([tables[name][i] for i in ids], ids)))
figures.show(
    draw_cuts(cuts),
    caption="One sentence, two tokenizers of 2,048 tokens each. Below each token stands its id.",
    alt="Two rows of coloured boxes with the same sentence. Trained on Riverbank, miller and daughter are one token each and unexpected is cut up; trained on Python, argument is one token and miller is cut up.",
)
vocabularies = [set(each[256:2048]) for each in tables.values()]
shared = len(vocabularies[0] & vocabularies[1]) / len(vocabularies[0] | vocabularies[1])
same_id = sum(one == other for one, other in zip(*(each[256:2048] for each in tables.values())))
print(f"of all merged tokens in either vocabulary {shared:.1%} are in both, and {same_id} of them have the same id")

# %% tags=["claim"]
half = len(riverbank) // 2
two_halves = [set(token_table(train_bpe(count_words([each]), 1792))[256:]) for each in (riverbank[:half], riverbank[half:])]
claim(
    "two tokenizers trained on different English share less than a quarter of their tokens",
    measured=shared,
    at_most=0.25,
    breaks_when={"trained on two halves of the same text": len(two_halves[0] & two_halves[1]) / len(two_halves[0] | two_halves[1])},
)

# %% [markdown]
r"""
So a model and its tokenizer are one thing: with another tokenizer the same ids are other words. (It is also why lesson 04's *bits per character* is the measure to compare models by: a loss per token depends on how much a token holds.)

## See it cut

Type a text, and move the slider through the merges. *How many merges does it take until your name is one token, if it ever is, and which frequent word is first to be whole?* Try a number, a word in capitals, another script. Pointing at a token shows its bytes.
"""

# %% tags=["widget", "nbval-ignore-output"]
def cut_with(string: str, n: int) -> Cut:
    """Cut a text with the first n merges that were learnt from Python's documentation."""
    ids = encode(string, numbered(pairs, 256 + n), {})
    made = f"Merge {n}: {shown(table[pairs[n - 1][0]])} + {shown(table[pairs[n - 1][1]])} → {shown(table[255 + n])}" if n else "Bytes alone."
    return Cut([table[i] for i in ids], ids, made)


shown_text = "The iterator returns 1847 naïve values."
display(TokenView(cut_with, shown_text, n_merges=min(100, len(pairs)), most=len(pairs)))
steps = [n for n in (0, 20, 100, 500, 2000) if n <= len(pairs)] + [len(pairs)]
figures.show(
    draw_cuts([(f"{n:,} merges", cut_with(shown_text, n)) for n in steps]),
    caption="The same cuts for a page that cannot be moved. Frequent words become whole early; the number and the accented letter, in hexadecimal bytes, late or never.",
    alt="Six rows of boxes with the same sentence after 0 to 7,936 merges. The row of single bytes grows shorter step by step; in the last row iterator, returns and values are one token each, and 1847 and naïve are in pieces.",
)

# %% [markdown]
r"""
## Who pays?

Ids are what a model is charged by: its time, its memory, its length limit, and for hosted models its price. So the row of ids decides who pays. We use the 8,192 tokens of the Python documentation, an English text like most of what large tokenizers were trained on.

**Languages.** One sentence in eleven languages. UTF-8 alone makes some of them longer; the question is what training adds.
"""

# %%
sentences = {
    "English": "The weather is beautiful today, and we are walking along the river.",
    "German": "Das Wetter ist heute schön, und wir gehen am Fluss entlang.",
    "Finnish": "Sää on tänään kaunis, ja me kävelemme joen rantaa pitkin.",
    "Russian": "Сегодня прекрасная погода, и мы гуляем вдоль реки.",
    "Greek": "Ο καιρός είναι όμορφος σήμερα και περπατάμε δίπλα στο ποτάμι.",
    "Arabic": "الطقس جميل اليوم ونحن نمشي على طول النهر.",
    "Hindi": "आज मौसम बहुत सुंदर है और हम नदी के किनारे टहल रहे हैं।",
    "Thai": "วันนี้อากาศดีมาก และเรากำลังเดินเล่นริมแม่น้ำ",
    "Korean": "오늘은 날씨가 아름답고 우리는 강을 따라 걷고 있습니다.",
    "Japanese": "今日は天気がとてもよく、私たちは川沿いを歩いています。",
    "Chinese": "今天天气很好，我们正沿着河边散步。",
}
predict(
    "languages",
    "The Russian sentence has 50 characters, the English 67. How many tokens does it take, compared with the English one?",
    options=["about three quarters as many", "about as many", "about twice as many", "about four times as many"],
    answer=3,
    because="A Cyrillic letter is two bytes, and the training text taught hardly a merge of them, so nearly every byte is a token. English has its words whole. The bytes alone would cost a third more; the rest is what training did for English and not for Russian.",
)

# %% tags=["experiment"]
costs = {}
for language, string in sentences.items():
    n_tokens, n_bytes = len(encode(string, merges, {})), len(string.encode())
    costs[language] = (n_tokens / len(string), n_tokens / n_bytes, n_tokens, n_bytes)
english = costs["English"]
print(f"{'':<10}{'characters':>11}{'bytes':>7}{'tokens':>8}{'per character':>15}{'per byte':>10}{'tokens, English = 1':>21}")
for language, (per_character, per_byte, n_tokens, n_bytes) in costs.items():
    print(f"{language:<10}{len(sentences[language]):>11}{n_bytes:>7}{n_tokens:>8}{per_character:>15.2f}{per_byte:>10.2f}{n_tokens / english[2]:>21.2f}")

# %%
fig, ax = plt.subplots(figsize=(7.6, 3.6))
x = range(len(costs))
ax.bar([i - 0.2 for i in x], [each[3] / english[3] for each in costs.values()], width=0.38, label="bytes", color=figures.PALETTE["sky"], edgecolor="black", linewidth=0.6)
ax.bar([i + 0.2 for i in x], [each[2] / english[2] for each in costs.values()], width=0.38, label="tokens", color=figures.PALETTE["vermillion"], edgecolor="black", linewidth=0.6, hatch="//")
ax.axhline(1, color=figures.PALETTE["grey"], linewidth=0.8)
ax.set_xticks(list(x), costs, rotation=40, ha="right")
ax.set(ylabel="the English sentence = 1", title="The same sentence, by a tokenizer trained on English")
ax.grid(axis="x", visible=False)
ax.legend()
figures.show(
    fig,
    caption="Plain bars: what UTF-8 asks for. Hatched bars: what the tokenizer makes of it. By bytes the languages differ by a factor of three at most; training text that was nearly all English does the rest.",
    alt="Pairs of bars for eleven languages. Bytes lie between 0.8 and 2.1 times English; tokens between 1.2 for German and over 6 for Hindi.",
)

# %% tags=["claim"]
claim(
    "the sentence costs at least three times as many tokens in Russian as in English",
    measured=costs["Russian"][2] / english[2],
    at_least=3,
    breaks_when={"counted in bytes": costs["Russian"][3] / english[3]},
)
claim(
    "in every script but the Latin one nearly every byte is a token of its own (the smallest number of tokens per byte)",
    measured=min(costs[each][1] for each in costs if each not in ("English", "German", "Finnish")),
    at_least=0.9,
    breaks_when={"English": english[1]},
)

# %% [markdown]
r"""
**Numbers.** The split keeps a run of digits together, and merges then cut it wherever frequent digits met. Take all four-digit numbers, with the space before them, and look at the *places* of the cuts:
"""

# %% tags=["experiment"]
def digit_groups(number: int, learned: Mapping[Pair, int]) -> tuple[int, ...]:
    """Return how many digits each token of a number holds, from the left."""
    return tuple(size for i in encode(f" {number}", learned, {}) if (size := len(table[i].strip())))


four_digits = [digit_groups(number, merges) for number in range(1000, 10_000)]
for groups, count in Counter(four_digits).most_common(6):
    print(f"{' + '.join(map(str, groups)):<16}{count:>6}  {count / len(four_digits):6.1%}")
changed = sum(one != other for one, other in pairwise(four_digits)) / (len(four_digits) - 1)
print(f"from one number to the next the cuts change in {changed:.0%} of all cases")
five = Counter()  # what the token "5" stands for
for number in range(1000, 10_000):
    to_the_right = 4
    for i in encode(f" {number}", merges, {}):
        to_the_right -= len(table[i].strip())
        if table[i] == b"5":
            five[("units", "tens", "hundreds", "thousands")[to_the_right]] += 1
print("the token 5 stands for", ", ".join(f"{place} {count / five.total():.0%}" for place, count in five.most_common()))
for left, right in ((1024, 1025), (2019, 2020), (4099, 4100)):
    print(f"{left} → {'|'.join(shown(table[i]) for i in encode(f' {left}', merges, {}))}    {right} → {'|'.join(shown(table[i]) for i in encode(f' {right}', merges, {}))}")
letters_only = [word for word in split_words(python_test[:50_000]) if word.strip().isalpha()]


def per_character(words: Sequence[str], learned: Mapping[Pair, int]) -> float:
    """Return how many tokens a visible character of some words costs; a space in front is not counted."""
    return sum(len(encode(word, learned, {})) for word in words) / sum(len(word.strip()) for word in words)


spaced_numbers = [f" {number}" for number in range(1000, 10_000)]
dearer = per_character(spaced_numbers, merges) / per_character(letters_only, merges)
dearer_bytes = per_character(spaced_numbers, {}) / per_character(letters_only, {})
print(f"tokens per digit {per_character(spaced_numbers, merges):.2f}, per letter of a word in new text {per_character(letters_only, merges):.2f}")

# %% tags=["claim"]
claim(
    "a digit costs at least twice as many tokens as a letter",
    measured=dearer,
    at_least=2,
    breaks_when={"before any merge": dearer_bytes},
)
claim(
    "no one way to cut four digits covers even six numbers in ten",
    measured=Counter(four_digits).most_common(1)[0][1] / len(four_digits),
    at_most=0.6,
    breaks_when={"if every digit were a token of its own": max(Counter(digit_groups(number, {}) for number in range(1000, 10_000)).values()) / len(four_digits)},
)

# %% [markdown]
r"""
To add two numbers in columns one must know which digit is the tens. In these tokens it cannot be read off: the cuts differ from number to number, and one token stands now for hundreds, now for units. A model must learn for each token and place what a column would give for free. The remedy is cheap: let the split cut every digit off by itself, as LLaMA's does (Touvron et al. 2023, section 2.1), or in groups of three from the right. Lesson 21 trains arithmetic, on single digits.

**Capitals and spaces.** To us *river*, *River* and *RIVER* are one word. Take the 500 most frequent longer words of the training text in four dresses:
"""

# %% tags=["experiment"]
frequent = [w for w, _ in Counter(regex.findall(r"\p{L}+", python)).most_common() if w.isascii() and w.islower() and len(w) > 3][:500]
dresses: dict[str, Callable[[str], str]] = {
    "·word": lambda word: f" {word}",
    "word": lambda word: word,
    "·Word": lambda word: f" {word.capitalize()}",
    "·WORD": lambda word: f" {word.upper()}",
}
forms = {name: [dress(word) for word in frequent] for name, dress in dresses.items()}
lengths = {name: sum(len(encode(form, merges, {})) for form in each) / len(frequent) for name, each in forms.items()}
print("tokens for a frequent word:", {name: round(each, 2) for name, each in lengths.items()})


def all_different(rows: Iterable[Sequence[str]]) -> float:
    """Return the share of rows whose forms all have different ids."""
    rows = list(rows)
    return sum(len({tuple(encode(form, merges, {})) for form in row}) == len(row) for row in rows) / len(rows)


different = all_different(zip(*forms.values()))
print(f"words whose four forms have four different rows of ids: {different:.0%}")
for form in (" error", "error", " Error", " ERROR"):
    print(f"{form!r:<10}", [(shown(table[i]), i) for i in encode(form, merges, {})])

# %% tags=["claim"]
claim(
    "a frequent word in capitals costs at least three times as many tokens as in small letters",
    measured=lengths["·WORD"] / lengths["·word"],
    at_least=3,
    breaks_when={"with one capital": lengths["·Word"] / lengths["·word"]},
)
claim(
    "all four forms of a frequent word have different rows of ids",
    measured=different,
    at_least=0.99,
    breaks_when={"if capitals and the space were taken off first": all_different([form.strip().lower() for form in row] for row in zip(*forms.values()))},
)

# %% [markdown]
r"""
What a model knows of *error* it must therefore learn anew for *Error*, except where a merge leaves a common piece. And a prompt that ends with a space asks for a continuation that training never showed: there the space belonged to the *next* token.

**Tokens that nobody uses.** A merge is kept for ever, even if a later merge swallows every place where its token stood. Encode the tokenizer's own training text and count:
"""

# %% tags=["experiment"]
used = Counter(encode(python, merges, {}))
merged_ids = range(256, len(table))
never = [i for i in merged_ids if used[i] == 0]
rare = sum(used[i] < 5 for i in merged_ids)
print(f"of {len(merged_ids):,} merged tokens {len(never)} never occur in the text they were learnt from, {rare:,} fewer than five times")
print("never:", " ".join(shown(table[i]) for i in sorted((i for i in never if table[i].strip().isalpha()), key=lambda i: (-len(table[i]), i))[:10]))
small = numbered(pairs, sizes[-2])
used_small = Counter(encode(python, small, {}))
never_small = sum(used_small[i] == 0 for i in range(256, sizes[-2]))
print(f"with {sizes[-2]:,} tokens: {never_small} never, {sum(used_small[i] < 5 for i in range(256, sizes[-2])):,} fewer than five times")

# %% tags=["claim"]
claim(
    "more than three merged tokens in a hundred are never used in the text from which they were learnt",
    measured=len(never) / len(merged_ids),
    at_least=0.03,
    breaks_when={"with half the vocabulary": never_small / (sizes[-2] - 256)},
)

# %% [markdown]
r"""
They are scaffolding: needed on the way to a longer token. No text shows them to the model as an input, and what it does when one is given to it nobody has taught it. In large models such **glitch tokens** (Rumbelow & Watkins 2023; Land & Bartolo 2024) also come from text that trained the tokenizer and not the model.

## WordPiece

BERT's pieces are written the other way round: not the space before a word is marked but the *inside* of it, with `##`. Two things differ from BPE.

*Cutting* knows no merges, only the list of pieces. From the left, take the longest piece in the list, and go on behind it:
"""

# %%
from course_lib.models.tokenization import wordpiece  # course: write out

pieces = {"un", "##aff", "##able"}
for given in (pieces, pieces | {"##affa"}):
    print({each: wordpiece(each, given) for each in ("unaffable", "unable")})

# %% [markdown]
r"""
Greed has its price: one *more* piece, `##affa`, and *unaffable* is unknown, because behind it nothing in the list goes on with *ble*; the way by `##aff` is never tried. And with characters that are in no piece there *are* unknown words again.

How different are the two ways of cutting? Give WordPiece the very pieces that BPE learnt from Python's documentation (a piece that begins with a space may begin a word, any other gets `##`), and cut the words of the new text by both.
"""

# %% tags=["experiment"]
readable = [token.decode() for token in table if token.isascii()]
wordpieces = {token[1:] if token.startswith(" ") else f"##{token}" for token in readable} | set(map(chr, range(33, 127)))
new_words = sorted({word[1:] for word in split_words(python_test) if word.startswith(" ") and word[1:].isalpha() and word.isascii()})
both = [([table[i].decode().strip() for i in encode(f" {word}", merges, {})], [piece.removeprefix("##") for piece in wordpiece(word, wordpieces)], word) for word in new_words]
cut_up = [each for each in both if len(each[0]) > 1]  # (BPE's pieces, WordPiece's, the word)
otherwise = [each for each in cut_up if each[0] != each[1]]
print(f"{len(both):,} different words, {len(cut_up):,} of them more than one token; WordPiece cuts {len(otherwise) / len(cut_up):.0%} of these otherwise:")
for one, other, _ in sorted(otherwise, key=lambda each: (-len(each[2]), each[2]))[:5]:
    print(f"  BPE {'|'.join(one):<28} WordPiece {'|'.join(other)}")
lost = {language: sum(wordpiece(word, wordpieces) == ["[UNK]"] for word in string.split()) / len(string.split()) for language, string in sentences.items()}
print("unknown words:", {language: f"{each:.0%}" for language, each in lost.items()})

# %% tags=["claim"]
claim(
    "with the same pieces WordPiece cuts at least one in five of the words that are cut at all otherwise than BPE",
    measured=len(otherwise) / len(cut_up),
    at_least=0.2,
    breaks_when={"BPE a second time": sum(one != [table[i].decode().strip() for i in encode(f" {word}", merges, {})] for one, _, word in cut_up) / len(cut_up)},
)
claim(
    "with pieces of ASCII the Russian sentence is lost to WordPiece: every word is unknown",
    measured=lost["Russian"],
    equals=1.0,
    breaks_when={"the English one": lost["English"]},
)

# %% [markdown]
r"""
*Training* (Schuster & Nakajima 2012) merges not the most frequent pair but the one that makes the text likeliest. Let $c(\cdot)$ count tokens and pairs in a text of $N$ tokens, each token drawn independently with probability $c/N$. Merging one occurrence of $(a, b)$ replaces the factor $\frac{c(a)}{N} \cdot \frac{c(b)}{N}$ by about $\frac{c(ab)}{N}$. So what each merged place gains grows with

$$\frac{c(ab)}{c(a)\, c(b)} ,$$

which is large where $a$ and $b$ seldom occur *without* each other: lesson 01's PMI, but for the logarithm and a factor $N$. The usual description of WordPiece's training merges the pair with the largest such score. (Google did not publish its trainer; the one in Hugging Face's *tokenizers* is BPE with `##`.) The first merges by each rule on the town's text, among pairs that occur at least 200 times:
"""

# %% tags=["experiment"]
def first_merges(words: Mapping[tuple[int, ...], int], n: int, score: Callable[[int, int, int], float], least: int) -> list[bytes]:
    """Merge n times the pair with the largest score(c(ab), c(a), c(b)); return the tokens made."""
    words, made = dict(words), [bytes([byte]) for byte in range(256)]
    for k in range(n):
        total, single = count_pairs(words), Counter()
        for word, count in words.items():
            for each in word:
                single[each] += count
        allowed = [neighbours for neighbours, count in total.items() if count >= least]
        top = max(allowed, key=lambda ab: (score(total[ab], single[ab[0]], single[ab[1]]), -ab[0], -ab[1]))
        made.append(made[top[0]] + made[top[1]])
        words = {tuple(merge_word(word, top, 256 + k)): count for word, count in words.items()}
    return made[256:]


n_first, least = run.pick(smoke=3, standard=12, full=12), run.pick(smoke=5, standard=200, full=800)
town_words = count_words([riverbank])
by_count = first_merges(town_words, n_first, lambda ab, a, b: ab, least)
by_score = first_merges(town_words, n_first, lambda ab, a, b: ab / (a * b), least)
print("most frequent: ", " ".join(map(shown, by_count)))
print("largest score: ", " ".join(map(shown, by_score)))

# %% tags=["claim"]
claim(
    "of the first twelve tokens by score at most two are among the first twelve by frequency",
    measured=len(set(by_score) & set(by_count)),
    at_most=2,
    breaks_when={"by frequency again": len(set(by_count))},
)

# %% [markdown]
r"""
Counting begins with pairs of common letters. The score begins with *qu*: letters that hardly occur without each other.

## Unigram

**Unigram** (Kudo 2018; the default of SentencePiece, used by T5) turns the question round: given a vocabulary in which each piece $x$ has a probability $p(x)$, a way to cut a word into $x_1 \dots x_m$ has the probability $p(x_1) \cdots p(x_m)$, and the best way is the one with the largest. In logarithms, with scores $s(x) = \log p(x)$:

$$\max_{x_1 \dots x_m = \text{word}} \; \sum_{i=1}^{m} s(x_i) .$$

A word of $n$ characters can be cut in $2^{n-1}$ ways. But the best way to cut the first $e$ characters ends with *some* last piece, from $b$ to $e$, and what stands before it is cut in the best way too, or we could improve it. With $\text{best}(0) = 0$,

$$\text{best}(e) = \max_{0 \le b < e} \; \big( \text{best}(b) + s(\text{word}[b:e]) \big) .$$

Two loops instead of $2^{n-1}$ ways: the **Viterbi** algorithm. Take *abc* with $s(a) = s(b) = s(c) = -3$, $s(ab) = -2$ and $s(bc) = -1$:

| $e$ | ways to end there | $\text{best}(e)$ | last piece |
|---|---|---|---|
| 1 | *a*: $0 - 3$ | $-3$ | *a* |
| 2 | *b*: $-3 - 3$; *ab*: $0 - 2$ | $-2$ | *ab* |
| 3 | *c*: $-2 - 3$; *bc*: $-3 - 1$ | $-4$ | *bc* |

The pieces are read from the end: the last one is *bc*, before it stands place 1, whose last piece is *a*. So the cut is *a|bc*, though *ab* was the best way to begin.

### Exercise: `viterbi_segment`

*Difficulty ●●●○○ · about 20 minutes · 4 points*

- **Task.** Find the cut with the largest sum of scores.
- **Input.** `word`, a string; `scores`, a dictionary from a piece to its log-probability; `unknown`, the score of a single character that is no piece.
- **Output.** The list of pieces; joined, they are the word.
- **Edge cases.** An empty word gives an empty list. Only single characters may be unknown. Of equally good ways to reach a place take the one whose last piece is longest.
- **Help.** `hint("viterbi_segment")`.
"""

# %% tags=["exercise"] exercise="viterbi_segment"
from course_lib.models.tokenization import viterbi_segment  # course: write out

# %% tags=["check"] exercise="viterbi_segment"
viterbi_segment = check("viterbi_segment")

# %% [markdown]
r"""
Where do the scores come from? If we knew how often each piece is used, its probability would be its share. If we knew the probabilities, we could say how often each piece is expected to be used, over *all* ways to cut each word. Each needs the other; so start somewhere and alternate. This is **expectation–maximisation** (EM):

- **E step**: the expected count of each piece. Let $\alpha(b)$ be the summed probability of all ways to cut `word[:b]`, and $\beta(e)$ of all ways to cut `word[e:]`. The piece from $b$ to $e$ is used with probability $\alpha(b)\, p(x)\, \beta(e) / \alpha(n)$. Both come from a pass like Viterbi's, with sums in place of maxima.
- **M step**: each probability becomes the piece's share of the expected counts.

No step lowers the likelihood of the text, as the next output shows. The vocabulary starts with far too many substrings. After each EM, drop those that would be missed least: cut each piece by `viterbi_segment` *without itself*, see how much score is lost, times how often it is used. Repeat until the size is right.
"""

# %%
from course_lib.models.tokenization import expected_counts, log_add, normalised  # noqa: F401  # course: write out

trial = normalised({word[begin:end]: 1.0 for word in toy for begin in range(len(word)) for end in range(begin + 1, len(word) + 1)})  # equally likely
for step in range(4):
    expected, likelihood = expected_counts(toy, trial)
    print(f"after {step} steps: log-likelihood {likelihood:6.1f}, likeliest", " ".join(sorted(trial, key=lambda piece: -trial[piece])[:6] if step else ["(all alike)"]))
    trial = normalised(expected)

# %% [markdown]
r"""
Left alone, EM makes whole words of the toy text: nothing explains it better. Only because pieces must be dropped do words come to share some.
"""

# %%
from course_lib.models.tokenization import loss_without, pieces_inside, train_unigram  # noqa: F401  # course: write out

# %% [markdown]
r"""
**Which cuts words where they are made?** Nobody can say for English without argument. For Tovian, Riverbank's other language (lesson 06), we know: a form is a stem plus endings, and the stem is on record. *kitistilam*, "kings" as an object, is *kitist* + *il* + *am*. Give both methods the same list of forms, each counted once, and the same number of pieces, and look whether a cut stands where the stem ends. Who cuts more often hits more often, so two more figures are printed: the number of pieces, and the share that as many cuts at random places would hit.
"""

# %% tags=["experiment"]
translated = town.parallel(run.pick(smoke=60, standard=4000, full=20_000), seed=run.seed, min_words=5, max_words=16)
tovian = dict.fromkeys(sorted({form for _, each in translated for form in each.target if form.isalpha()}), 1)
letters = {letter for form in tovian for letter in form}
stems = {form: town.tovian.analyse(form).entry.stem for form in tovian}
inflected = {form: len(stem) for form, stem in stems.items() if form.startswith(stem) and len(form) > len(stem)}
print(f"{len(tovian):,} forms, {len(inflected):,} of them inflected, of {len({stems[form] for form in inflected}):,} stems")


def cut_places(pieces: Sequence[str]) -> set[int]:
    """Return after how many characters a form is cut."""
    places, at = set(), 0
    for piece in pieces[:-1]:
        at += len(piece)
        places.add(at)
    return places


def stems_found(cut: Callable[[str], list[str]]) -> tuple[float, float, float]:
    """Return the share of forms that are cut at the end of their stem, the share by chance, and the mean number of pieces."""
    places = {form: cut_places(cut(form)) for form in inflected}
    hit = sum(stem in places[form] for form, stem in inflected.items())
    by_chance = sum(len(cuts) / (len(form) - 1) for form, cuts in places.items())
    return hit / len(places), by_chance / len(places), 1 + sum(map(len, places.values())) / len(places)


# %%
predict(
    "stems",
    "Who cuts more forms at the end of their stem?",
    options=["BPE, with few pieces and with many", "Unigram, with few pieces and with many", "BPE with few pieces, Unigram with many", "Unigram with few pieces, BPE with many"],
    answer=2,
    because="With many pieces there is room for the stems, and Unigram gives it to them, for a stem helps to explain all its forms; BPE has by then merged across the seam wherever two letters met often. With few pieces neither has room for stems, and BPE, which cuts more often, also stays further above chance.",
)


# %% tags=["experiment"]
Cutter = Callable[[str], list[str]]


def train_both(size: int) -> tuple[dict[str, float], Cutter, Cutter]:
    """Train both methods to so many pieces; return Unigram's scores, and how each method cuts a form."""
    scores = train_unigram(tovian, size)
    learned = train_bpe({tuple(form.encode()): 1 for form in tovian}, size - len(letters))
    ids, tokens = numbered(learned), token_table(learned)

    def by_bpe(form: str) -> list[str]:
        return [tokens[i].decode() for i in encode_word(list(form.encode()), ids)]

    def by_unigram(form: str) -> list[str]:
        return viterbi_segment(form, scores)

    return scores, by_bpe, by_unigram


piece_sizes = run.pick(smoke=[60, 80], standard=[300, 600, 1000], full=[300, 600, 1000, 2000])
found: dict[str, list[tuple[float, float, float]]] = {"BPE": [], "Unigram": []}
for size in piece_sizes:
    scores, by_bpe, by_unigram = train_both(size)
    for name, cut in (("BPE", by_bpe), ("Unigram", by_unigram)):
        found[name].append(stems_found(cut))
        hit, by_chance, n_cut = found[name][-1]
        print(f"{size:>5} pieces, {name:<8} cut at the end of the stem in {hit:.1%} of the forms (by chance {by_chance:.1%}), {n_cut:.2f} pieces a form")
for form in list(inflected)[1::300]:
    print(f"{form[:inflected[form]] + '-' + form[inflected[form]:]:<18} BPE {'|'.join(by_bpe(form)):<18} Unigram {'|'.join(by_unigram(form))}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
titles = ("Forms cut at the end of the stem", "Pieces for a form")
for ax, which, title, unit in zip(axes, (0, 2), titles, ("share of inflected forms", "pieces")):
    series = {name: [each[which] for each in rows] for name, rows in found.items()}
    figures.lines(ax, piece_sizes, series, xlabel="vocabulary (pieces)", ylabel=unit, title=title)
    ax.set_ylim(0, None)
for line, rows in zip(list(axes[0].lines), found.values()):
    axes[0].plot(piece_sizes, [each[1] for each in rows], linestyle=":", color=line.get_color())
axes[0].set_ylim(0, 1)
figures.show(
    fig,
    caption="With few pieces BPE meets the seam between stem and ending more often, and cuts more often at all; with many, Unigram meets it more often with fewer cuts. Dotted: as many cuts at random places.",
    alt="Two panels against the number of pieces. Left, BPE's share falls from about two thirds to under a half while Unigram's rises from over a third to about three quarters; they cross near 600 pieces; dotted lines, by chance, fall from about three in ten to two in ten. Right, both fall, Unigram below BPE throughout.",
)

# %% tags=["claim"]
claim(
    "with 1,000 pieces Unigram cuts more forms at the end of their stem than BPE does, by ten in a hundred",
    measured=found["Unigram"][-1][0] - found["BPE"][-1][0],
    at_least=0.1,
    breaks_when={"with 300 pieces": found["Unigram"][0][0] - found["BPE"][0][0]},
)
claim(
    "at every size Unigram needs fewer pieces for a form (the smallest saving, in pieces)",
    measured=min(bpe[2] - unigram[2] for bpe, unigram in zip(found["BPE"], found["Unigram"])),
    at_least=0.05,
    breaks_when={"the other way round": min(unigram[2] - bpe[2] for bpe, unigram in zip(found["BPE"], found["Unigram"]))},
)

# %% [markdown]
r"""
BPE decides once and for all when it merges; Unigram drops a piece when others explain the words as well. With 1,000 pieces, room for most of the stems, Unigram meets the stem's end more often and with fewer cuts. With 300 BPE meets it more often, and not only because it cuts more: compare each line with its dotted one. (Bostrom & Durrett 2020 find Unigram closer to morphology in English and Japanese, at 20,000 pieces and more. At what size, we now see, belongs to the answer.)

And how much does it matter that the *best* cut is taken and not, as in WordPiece, the longest piece first? By Unigram's own scores:
"""

# %% tags=["experiment"]
def longest_first(form: str) -> list[str]:
    """Cut a form greedily; every letter is a piece, so this always ends."""
    cut, at = [], 0
    while at < len(form):
        end = next(end for end in range(len(form), at, -1) if form[at:end] in scores)
        cut.append(form[at:end])
        at = end
    return cut


def total(cut: Iterable[str]) -> float:
    """Return the log-probability of a way to cut a form."""
    return sum(scores[piece] for piece in cut)


missed = [form for form in tovian if total(longest_first(form)) < total(by_unigram(form)) - 1e-9]
print(f"longest piece first misses the likeliest cut of {len(missed) / len(tovian):.1%} of the forms, such as")
for form in missed[:3]:
    print(f"  {form}: {'|'.join(longest_first(form))} and not {'|'.join(by_unigram(form))}")

# %% tags=["claim"]
claim(
    "longest piece first misses the likeliest cut of at least one form in twenty",
    measured=len(missed) / len(tovian),
    at_least=0.05,
    breaks_when={"Viterbi": sum(total(by_unigram(form)) < total(by_unigram(form)) - 1e-9 for form in tovian) / len(tovian)},
)

# %% [markdown]
r"""
| | learns | cuts a word by | unknown words |
|---|---|---|---|
| byte-level BPE | merges, most frequent pair first | its merges, in order | never |
| WordPiece | merges, likeliest pair first | longest piece first | a word with a character in no piece, or where greed fails |
| Unigram | probabilities, and drops pieces | the likeliest cut | single characters that are no pieces (or their bytes) |

## What it costs, and where it breaks

A larger vocabulary makes texts shorter and the model's table longer. For a width of $d = 768$ (GPT-2's smallest) the table has $768\,V$ numbers, $V$ being the number of tokens; a text of $n$ tokens costs attention $n^2$ scores in each head. On new Python text:
"""

# %% tags=["experiment"]
print(f"{'vocabulary':>10}{'table (millions)':>18}{'tokens in 1,000 bytes':>23}{'scores, bytes = 1':>19}")
for size, per_token in zip(sizes, at_home):
    print(f"{size:>10,}{768 * size / 1e6:>18.1f}{1000 / per_token:>23.0f}{1 / per_token**2:>19.3f}")

# %% [markdown]
r"""
From bytes to 8,192 tokens the scores shrink to less than a tenth. The tokens that came last are rare, as you counted above, so their vectors see few examples. BERT has 30,522 tokens, GPT-2 50,257; models for many languages take several times as many.

Where it breaks you have measured: numbers, capitals, other scripts, tokens without training. None of it is a fault of a model; all of it is decided before the first step of training. A model that reads bytes has none of these troubles and pays with length (Xue et al. 2022).

**Your turn.** Put your own text here, in any language, and see what it costs. Which words of yours are whole?
"""

# %%
yours = "I live at 221B Baker Street, and my cat's name is Schrödinger."  # change it

ids = encode(yours, merges, {})
print(f"{len(yours)} characters, {len(yours.encode())} bytes, {len(ids)} tokens:", " | ".join(shown(table[i]) for i in ids))

# %% [markdown]
r"""
## The real ones: GPT-2 and BERT

The tokenizers that the published models use, from their own files, if you have fetched them (`course data fetch gpt2_bpe bert_uncased_vocab`). GPT-2's was trained on the web, ours on a megabyte of Python's documentation: who holds more of what in a token?
"""

# %% tags=["nbval-ignore-output"]
if registry.load_or_none("gpt2_bpe") is not None:
    gpt2 = Tokenizer.from_gpt2(*(registry.read_bytes("gpt2_bpe", name).decode() for name in ("vocab.bpe", "encoder.json")))
    print(gpt2.n_words, gpt2.special, gpt2.encode("Hello world"))
    print(f"{'bytes per token':<22}{'GPT-2':>8}{'ours':>8}")
    for name, string in (tests | sentences).items():
        print(f"{name:<22}{len(string.encode()) / len(gpt2.encode(string)):8.2f}{len(string.encode()) / len(encode(string, merges, {})):8.2f}")
    groups = Counter(tuple(size for i in gpt2.encode(f" {number}") if (size := len(gpt2.tokens[i].strip()))) for number in range(1000, 10_000))
    print("four digits:", {" + ".join(map(str, each)): count for each, count in groups.most_common(4)})

# %% tags=["nbval-ignore-output"]
from course_lib.models.tokenization import WordPiece

bert_vocabulary = registry.load_or_none("bert_uncased_vocab")
if bert_vocabulary is not None:
    bert = WordPiece(bert_vocabulary)
    for string in ("Unaffable tokenizers, naïvely built.", sentences["Russian"], sentences["Thai"]):
        print(bert.pieces(string))

# %% [markdown]
r"""
GPT-2's vocabulary has 50,257 tokens: 256 bytes, 50,000 merges (Radford et al. 2019) and `<|endoftext|>`. The course's tests hold these ids, on samples in many scripts and on random text, against an independent reader of the same files.

## Recap

- Text is code points, UTF-8 makes bytes of them, and 256 bytes as first tokens leave no text unknown.
- BPE merges the most frequent pair of neighbours, again and again; with a pair index a merge costs only the words that hold it. Encoding applies the merges in the order in which they were learnt.
- A token may hold part of a character: decode the bytes together, never token by token.
- Special tokens come from the program, not from the text.
- A tokenizer holds most of the text that it was trained on. Others pay: other languages, numbers, capitals.
- WordPiece cuts greedily and can fail; Unigram finds the likeliest cut by dynamic programming.

**If you want more.** (1) Train with the Russian sentence repeated 500 times in the text: what do the other scripts pay now? (2) Change `GPT2_SPLIT` so that every digit stands alone, train again, and repeat the experiment on numbers. (3) Leave out the split altogether and look at the longest tokens. (4) Draw one of the ways to cut a word at random, by its probability: that is Kudo's *subword regularisation*. (5) Train Unigram on the forms with their counts in place of 1: which pieces come, and what happens to the stems?

## Glossary

| word | meaning |
|---|---|
| token, id | a piece of text that a model reads as one; its number |
| code point, byte | Unicode's number of a character; a number from 0 to 255, of which UTF-8 takes one to four for a character |
| merge | two neighbouring tokens become one, for all of the text |
| pair index | which words hold which pair |
| special token | a mark that is no text, with an id of its own |
| round trip | encode, then decode: the text must come back |
| bytes per token | how much text one position holds; measured on new text |
| glitch token | a token whose vector was hardly trained |
| Viterbi | the best cut by the best cuts of all beginnings |
| expectation–maximisation | counts from probabilities, probabilities from counts, in turn |

## Sources

- P. Gage (1994), *A New Algorithm for Data Compression*, C Users Journal: byte-pair encoding.
- R. Sennrich, B. Haddow, A. Birch (2016), *Neural Machine Translation of Rare Words with Subword Units*, ACL, section 3.2 and algorithm 1.
- A. Radford et al. (2019), *Language Models are Unsupervised Multitask Learners*, section 2.2; the split and the printable bytes are those of the published `encoder.py`.
- M. Schuster, K. Nakajima (2012), *Japanese and Korean Voice Search*, ICASSP; Y. Wu et al. (2016), *Google's Neural Machine Translation System*, section 4.1; J. Devlin et al. (2019), *BERT*: WordPiece.
- T. Kudo (2018), *Subword Regularization*, ACL, section 3: Unigram; T. Kudo, J. Richardson (2018), *SentencePiece*, EMNLP.
- A. Viterbi (1967), *Error Bounds for Convolutional Codes and an Asymptotically Optimum Decoding Algorithm*, IEEE Transactions on Information Theory.
- K. Bostrom, G. Durrett (2020), *Byte Pair Encoding is Suboptimal for Language Model Pretraining*, Findings of EMNLP.
- A. Petrov et al. (2023), *Language Model Tokenizers Introduce Unfairness Between Languages*, NeurIPS: what other languages pay.
- J. Rumbelow, M. Watkins (2023), *SolidGoldMagikarp*; S. Land, M. Bartolo (2024), *Fishing for Magikarp*, EMNLP: glitch tokens.
- H. Touvron et al. (2023), *LLaMA: Open and Efficient Foundation Language Models*, section 2.1: numbers split into digits.
- L. Xue et al. (2022), *ByT5: Towards a Token-Free Future with Pre-trained Byte-to-Byte Models*, TACL.
- The Unicode Standard, chapter 3.9: UTF-8.
"""
