"""Lesson 04, language models: what is drawn, what is right, what often goes wrong."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.probes import lesson_04 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import DEFAULT_TOLERANCES, Case, Exercise, Mistake, Tolerance
from course_lib.models import language_models as finished
from course_lib.models.ngrams import END, START, Context, Table

FINISHED = "course_lib.models.language_models"

# --- perplexity ------------------------------------------------------------------------------


def draw_perplexity(seed: int) -> list[Case]:
    """Draw log-probabilities of texts, padded with all kinds of things."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        lengths: list[int],
        extra: int = 0,
        padding: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> Case:
        n = max(lengths) + extra
        log_probs = -3 * torch.rand(len(lengths), n, generator=g, dtype=dtype) - 0.3
        for row, length in enumerate(lengths):
            log_probs[row, length:] = padding
        characters = torch.tensor(lengths) * 4 + torch.randint(1, 9, (len(lengths),), generator=g)
        inputs = {
            "log_probs": log_probs,
            "lengths": torch.tensor(lengths),
            "characters": characters,
        }
        return Case(label, inputs)

    strided = case("non-contiguous tensors", [5, 2, 4])
    strided.inputs["log_probs"] = strided.inputs["log_probs"].T.contiguous().T
    return [
        case("one text of three tokens", [3]),
        case("one text of one token", [1], dtype=torch.float32),
        case("two texts of the same length, float32", [4, 4], dtype=torch.float32),
        case("texts of different lengths", [2, 5, 3]),
        case("padding that is not 0", [6, 1, 2], extra=1, padding=-7.5),
        case("an empty text among others", [0, 4, 3], padding=-2.5),
        case("NaN as padding", [2, 7, 4], extra=2, padding=math.nan),
        case("−∞ as padding, float32", [8, 5, 3, 6], padding=-math.inf, dtype=torch.float32),
        strided,
    ]


def oracle_perplexity(log_probs: Tensor, lengths: Tensor, characters: Tensor) -> dict[str, Tensor]:
    """Add up the surprise of one token after the other, in bits."""
    bits = [
        -logarithm / math.log(2)
        for row, length in zip(log_probs.double().tolist(), lengths.tolist())
        for logarithm in row[:length]
    ]
    total = sum(bits)
    found = {
        "perplexity": 2.0 ** (total / len(bits)),
        "bits per character": total / sum(characters.tolist()),
    }
    return {name: torch.tensor(each, dtype=log_probs.dtype) for name, each in found.items()}


def _real(log_probs: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(log_probs.shape[1], device=log_probs.device) < lengths[:, None]


def _sums(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Return each text's log-probability, (batch,)."""
    return torch.where(_real(log_probs, lengths), log_probs, 0.0).sum(1)


def _total(log_probs: Tensor, lengths: Tensor) -> Tensor:
    return _sums(log_probs, lengths).sum()


def sign_forgotten(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Leave out the minus."""
    return torch.exp(_total(log_probs, lengths) / lengths.sum())


def two_to_the_nats(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Mix natural logarithms with powers of two."""
    return 2.0 ** (-_total(log_probs, lengths) / lengths.sum())


def not_exponentiated(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Return the cross-entropy."""
    return -_total(log_probs, lengths) / lengths.sum()


def not_averaged(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Exponentiate the sum."""
    return torch.exp(-_total(log_probs, lengths))


def padding_counted(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Never look at the lengths."""
    return torch.exp(-log_probs.mean())


def divided_by_all(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Add up the real tokens and divide by all places."""
    return torch.exp(-_total(log_probs, lengths) / log_probs.numel())


def multiplied_mask(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Hide the padding by multiplying with 0."""
    return torch.exp(-(log_probs * _real(log_probs, lengths)).sum() / lengths.sum())


def mean_of_texts(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Take the mean of the texts' perplexities."""
    return torch.exp(-_sums(log_probs, lengths) / lengths.clamp(min=1)).mean()


def mean_of_means(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Give each text the same weight, however long it is."""
    return torch.exp((-_sums(log_probs, lengths) / lengths.clamp(min=1)).mean())


def end_left_out(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Leave out each text's last token."""
    shorter = (lengths - 1).clamp(min=0)
    return torch.exp(-_total(log_probs, shorter) / shorter.sum().clamp(min=1))


def bits_in_nats(log_probs: Tensor, lengths: Tensor, characters: Tensor) -> Tensor:
    """Forget the change of unit."""
    return -_total(log_probs, lengths) / characters.sum()


def times_ln_2(log_probs: Tensor, lengths: Tensor, characters: Tensor) -> Tensor:
    """Change the unit the wrong way."""
    return -_total(log_probs, lengths) * math.log(2) / characters.sum()


def bits_per_token(log_probs: Tensor, lengths: Tensor, characters: Tensor) -> Tensor:
    """Divide by the number of tokens."""
    return -_total(log_probs, lengths) / math.log(2) / lengths.sum()


def mean_of_rates(log_probs: Tensor, lengths: Tensor, characters: Tensor) -> Tensor:
    """Take the mean of the texts' bits per character."""
    return (-_sums(log_probs, lengths) / math.log(2) / characters).mean()


def log2_of_perplexity_per_character(
    log_probs: Tensor, lengths: Tensor, characters: Tensor
) -> Tensor:
    """Divide the bits per token by all characters."""
    return -_total(log_probs, lengths) / lengths.sum() / math.log(2) / characters.sum()


PERPLEXITY = Exercise(
    name="perplexity",
    lesson=4,
    points=3,
    probe=probes.perplexity,
    draw=draw_perplexity,
    oracle=oracle_perplexity,
    finished=(finished.perplexity, finished.bits_per_character),
    defines=("perplexity", "bits_per_character"),
    forbidden=(FINISHED,),
    # The quotient of two tensors of whole numbers is float32, and T / C · log2(perplexity) is a right answer.
    tolerances={**DEFAULT_TOLERANCES, torch.float64: Tolerance(1e-8, 1e-6)},
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "sign forgotten",
            "Your perplexity is below 1: the exponent is the mean of −log p, and you left out the minus.",
            (sign_forgotten, finished.bits_per_character),
        ),
        Mistake(
            "two to the nats",
            "You raised 2 to an average of natural logarithms: these go with `torch.exp`.",
            (two_to_the_nats, finished.bits_per_character),
        ),
        Mistake(
            "not exponentiated",
            "You returned the cross-entropy: the perplexity is its exponential.",
            (not_exponentiated, finished.bits_per_character),
        ),
        Mistake(
            "not averaged",
            "You exponentiated the sum over all tokens: divide it by their number first.",
            (not_averaged, finished.bits_per_character),
        ),
        Mistake(
            "padding counted",
            "You took the mean over all places, padding among them: only the first `lengths[i]` of row i are tokens.",
            (padding_counted, finished.bits_per_character),
        ),
        Mistake(
            "divided by all places",
            "You added up the tokens but divided by all places of the tensor: divide by `lengths.sum()`.",
            (divided_by_all, finished.bits_per_character),
        ),
        Mistake(
            "padding times zero",
            "You multiplied the padding by 0, and 0 · NaN and 0 · −∞ are NaN: choose with "
            "`torch.where(real, log_probs, 0.0)`.",
            (multiplied_mask, finished.bits_per_character),
        ),
        Mistake(
            "mean of perplexities",
            "You took the mean of the texts' perplexities: average −log p over all tokens of all texts, then "
            "exponentiate once.",
            (mean_of_texts, finished.bits_per_character),
        ),
        Mistake(
            "every text the same weight",
            "You averaged within each text and then over texts, so a token of a short text weighs more: "
            "take one mean over all tokens.",
            (mean_of_means, finished.bits_per_character),
        ),
        Mistake(
            "end left out",
            "You leave out each text's last token: the end of a text has to be predicted too.",
            (end_left_out, finished.bits_per_character),
        ),
        Mistake(
            "nats per character",
            "Your bits per character are nats: divide by ln 2.",
            (finished.perplexity, bits_in_nats),
        ),
        Mistake(
            "times ln 2",
            "You multiplied by ln 2: a nat is 1/ln 2 ≈ 1.44 bits, so divide.",
            (finished.perplexity, times_ln_2),
        ),
        Mistake(
            "bits per token",
            "You divided the bits by the number of tokens: divide by the number of characters.",
            (finished.perplexity, bits_per_token),
        ),
        Mistake(
            "mean of the texts' rates",
            "You averaged the texts' bits per character: add up all bits and divide by all characters.",
            (finished.perplexity, mean_of_rates),
        ),
        Mistake(
            "divided twice",
            "You divided the bits of one token by the characters of all texts: multiply by the number of tokens first.",
            (finished.perplexity, log2_of_perplexity_per_character),
        ),
    ),
    hints=(
        "First find out which places are tokens: `torch.arange(n) < lengths[:, None]` is a table (batch, n) of "
        "Booleans. Everything else is padding, and may be NaN.",
        "The sum of the tokens' log-probabilities is `torch.where(real, log_probs, 0.0).sum()`; multiplying by "
        "the mask would keep NaN. There are `lengths.sum()` tokens.",
        "Perplexity: `torch.exp(-total / lengths.sum())`. For the bits: the same total, once more with a minus, "
        "divided by `math.log(2)` and by `characters.sum()`.",
    ),
)

# --- kneser_ney_prob -------------------------------------------------------------------------

LETTERS = ("the", "king", "queen", "sees", "rules", "dog")


def plain_table(table: Table) -> dict[str, dict[str, int]]:
    """Return a table as plain values that can cross into another process and be read in a message."""
    return {" ".join(context): dict(followers) for context, followers in table.items()}


def draw_kneser_ney(seed: int) -> list[Case]:
    """Draw small texts, and contexts that were seen, not seen, too long and too short."""
    rng = random.Random(seed)

    def case(
        label: str,
        n: int,
        context: Sequence[str],
        words: Sequence[str] | None = None,
        discounts: Sequence[float] | None = None,
        texts: Sequence[str] | None = None,
    ) -> Case:
        if texts is None:
            texts = [" ".join(rng.choices(LETTERS[:5], (5, 3, 2, 2, 1), k=7)) for _ in range(4)]
        tables = finished.kneser_ney_tables(
            finished.count_ngrams([text.split() for text in texts], n)
        )
        inputs = {
            "tables": [plain_table(table) for table in tables],
            "discounts": [0.75] * n if discounts is None else list(discounts),
            "n_words": 9,
            "context": list(context),
            "words": [*LETTERS, END] if words is None else list(words),
        }
        return Case(label, inputs)

    few = ["the king rules", "the queen rules", "the king sees the queen"]
    return [
        case(
            "pairs of words, the word was seen after its context",
            2,
            ["the"],
            ["king"],
            [0.5, 0.5],
            few,
        ),
        case(
            "pairs of words, the word was not seen after its context",
            2,
            ["the"],
            ["rules"],
            [0.5, 0.5],
            few,
        ),
        case("pairs of words, the context was never seen", 2, ["dog"], ["king"], [0.5, 0.5], few),
        case("a word that was never seen", 2, ["the"], ["dog"], [0.5, 0.5], few),
        case("single words, no context", 1, []),
        case("triples, all words", 3, ["the", "king"]),
        case("a context whose beginning was never seen", 3, ["dog", "the"]),
        case("a context longer than the tables know", 3, ["sees", "dog", "king", "the", "king"]),
        case("a context shorter than the tables know", 4, ["king"]),
        case("no context, though the tables know some", 3, []),
        case("the beginning of a text", 3, [START, START]),
        case("a discount of its own for each table", 3, ["king", "the"], None, (0.3, 0.6, 0.9)),
        case("discounts of 0, 1 and ½", 3, ["the", "the"], None, (0.0, 1.0, 0.5)),
        case("five words at a time", 5, ["king", "the", "king", "the"]),
    ]


def oracle_kneser_ney(
    tables: Sequence[probes.PlainTable],
    discounts: Sequence[float],
    n_words: int,
    context: Sequence[str],
    words: Sequence[str],
) -> dict[str, Any]:
    """Apply the definition from the longest context down, and count predecessors as a set."""
    grams = [
        {(*ctx.split(), word): count for ctx, some in table.items() for word, count in some.items()}
        for table in tables
    ]

    def prob(word: str, ctx: tuple[str, ...]) -> float:
        seen = {g: c for g, c in grams[len(ctx)].items() if g[:-1] == ctx}
        if not ctx:
            shorter = 1 / n_words
        else:
            shorter = prob(word, ctx[1:])
        if not seen:
            return shorter
        total, discount = sum(seen.values()), discounts[len(ctx)]
        own = max(seen.get((*ctx, word), 0) - discount, 0) / total
        return own + discount * len(seen) / total * shorter

    most = len(tables) - 1
    cut = tuple(context)[max(0, len(context) - most) :]
    found: dict[str, Any] = {}
    if len(tables) > 1:
        predecessors: dict[tuple[str, ...], set[str]] = {}
        for gram in grams[-1]:
            predecessors.setdefault(gram[1:], set()).add(gram[0])
        found["continuation counts"] = {
            f"{' '.join(gram[:-1]) or '(no context)'} → {gram[-1]}": len(before)
            for gram, before in predecessors.items()
        }
    probs = torch.tensor([prob(word, cut) for word in words], dtype=torch.float64)
    return found | {"probabilities": probs}


def tokens_counted(table: Table) -> Table:
    """Add up how often, not before how many different words."""
    shorter: Table = {}
    for context, followers in table.items():
        for word, count in followers.items():
            shorter.setdefault(context[1:], Counter())[word] += count
    return shorter


def last_word_dropped(table: Table) -> Table:
    """Forget the word next to the one that follows."""
    shorter: Table = {}
    for context, followers in table.items():
        for word in followers:
            shorter.setdefault(context[:-1], Counter())[word] += 1
    return shorter


def always_one(table: Table) -> Table:
    """Set to 1 instead of adding 1."""
    shorter: Table = {}
    for context, followers in table.items():
        for word in followers:
            shorter.setdefault(context[1:], Counter())[word] = 1
    return shorter


def followers_counted(table: Table) -> Table:
    """Count what comes after instead of what stood before."""
    shorter: Table = {}
    for context, followers in table.items():
        for word in followers:
            shorter.setdefault(context[1:], Counter())[word] += len(followers)
    return shorter


class _Prob:
    """A kneser_ney_prob that goes wrong in one way, which its subclasses say."""

    first = 0

    def shorter(self, context: Context, m: int) -> Context:
        """Return the last m words."""
        return context[len(context) - m :]

    def start(self, n_words: int) -> float:
        """Return what is known before any word was seen."""
        return 1 / n_words

    def discount(self, discounts: Sequence[float], m: int) -> float:
        """Return the table's own."""
        return discounts[m]

    def kept(self, count: int, discount: float, total: int) -> float:
        """Return the discounted share."""
        return max(count - discount, 0) / total

    def freed(self, followers: Mapping[str, int], discount: float, total: int) -> float:
        """Return what the discounts took off."""
        return discount * len(followers) / total

    def join(self, kept: float, freed: float, prob: float, count: int) -> float:
        """Interpolate."""
        return kept + freed * prob

    def unseen(self, prob: float) -> float:
        """Return what a context that was never seen leaves."""
        return prob

    def __call__(
        self,
        word: str,
        context: Context,
        tables: Sequence[Table],
        discounts: Sequence[float],
        n_words: int,
    ) -> float:
        """Go from the shortest context to the longest."""
        prob = self.start(n_words)
        for m, table in enumerate(tables):
            if m < self.first:
                continue
            if m > len(context):
                break
            followers = table.get(self.shorter(context, m))
            if followers is None:
                return self.unseen(prob)
            discount, total = self.discount(discounts, m), sum(followers.values())
            kept = self.kept(followers[word], discount, total)
            freed = self.freed(followers, discount, total)
            prob = self.join(kept, freed, prob, followers[word])
        return prob


class NoDiscount(_Prob):
    """Take nothing off."""

    def kept(self, count: int, discount: float, total: int) -> float:
        """Return the plain share."""
        return count / total


class NegativeKept(_Prob):
    """Take the discount off a count of 0 too."""

    def kept(self, count: int, discount: float, total: int) -> float:
        """Forget the maximum with 0."""
        return (count - discount) / total


class NothingFreed(_Prob):
    """Throw away what the discounts took off."""

    def join(self, kept: float, freed: float, prob: float, count: int) -> float:
        """Keep the discounted share alone."""
        return kept


class FreedByTokens(_Prob):
    """Count the followers as often as they came."""

    def freed(self, followers: Mapping[str, int], discount: float, total: int) -> float:
        """Divide the total by the total."""
        return discount


class FreedOnce(_Prob):
    """Forget that every different follower gives something up."""

    def freed(self, followers: Mapping[str, int], discount: float, total: int) -> float:
        """Leave out the number of followers."""
        return discount / total


class FreedWithoutDiscount(_Prob):
    """Forget that each follower gave up the discount, not a whole count."""

    def freed(self, followers: Mapping[str, int], discount: float, total: int) -> float:
        """Leave out the discount."""
        return len(followers) / total


class BacksOff(_Prob):
    """Ask the shorter context only about words that were not seen after the longer one."""

    def join(self, kept: float, freed: float, prob: float, count: int) -> float:
        """Choose instead of adding."""
        return kept if count > 0 else freed * prob


class UnseenContextIsZero(_Prob):
    """Say 0 after a context that was never seen."""

    def unseen(self, prob: float) -> float:
        """Forget what the shorter contexts know."""
        return 0.0


class FirstWords(_Prob):
    """Shorten contexts at the wrong end."""

    def shorter(self, context: Context, m: int) -> Context:
        """Return the first m words."""
        return context[:m]


class MinusZero(_Prob):
    """Write context[-m:], which is the whole context where m is 0."""

    def shorter(self, context: Context, m: int) -> Context:
        """Fall into the trap."""
        return context[-m:]


def minus_zero_gone_on(
    word: str, context: Context, tables: Sequence[Table], discounts: Sequence[float], n_words: int
) -> float:
    """Write context[-m:], find no single words under it, and go on with the next table."""
    prob = 1 / n_words
    for m in range(min(len(context) + 1, len(tables))):
        followers = tables[m].get(context[-m:])
        if followers is not None:
            total = sum(followers.values())
            freed = discounts[m] * len(followers) / total
            prob = max(followers[word] - discounts[m], 0) / total + freed * prob
    return prob


class StartsFromZero(_Prob):
    """Leave nothing for words that were never seen."""

    def start(self, n_words: int) -> float:
        """Begin with 0."""
        return 0.0


class LastDiscount(_Prob):
    """Use one discount for all tables."""

    def discount(self, discounts: Sequence[float], m: int) -> float:
        """Take the last."""
        return discounts[-1]


def only_longest(
    word: str, context: Context, tables: Sequence[Table], discounts: Sequence[float], n_words: int
) -> float:
    """Mix the longest context that was seen with the uniform distribution, and nothing between."""
    for m in reversed(range(min(len(context) + 1, len(tables)))):
        followers = tables[m].get(context[len(context) - m :])
        if followers is not None:
            total = sum(followers.values())
            freed = discounts[m] * len(followers) / total
            return max(followers[word] - discounts[m], 0) / total + freed / n_words
    return 1 / n_words


def _with(prob: Any) -> tuple[Any, Any]:
    return finished.continuation_counts, prob


def _from(counts: Any) -> tuple[Any, Any]:
    return counts, finished.kneser_ney_prob


KNESER_NEY = Exercise(
    name="kneser_ney_prob",
    lesson=4,
    points=5,
    probe=probes.kneser_ney_prob,
    draw=draw_kneser_ney,
    oracle=oracle_kneser_ney,
    finished=(finished.continuation_counts, finished.kneser_ney_prob),
    defines=("continuation_counts", "kneser_ney_prob"),
    forbidden=(FINISHED, "nltk"),
    minutes=25,
    difficulty=4,
    mistakes=(
        Mistake(
            "tokens counted",
            "Your continuation counts say how often a word came: count each different word in front of it once.",
            _from(tokens_counted),
        ),
        Mistake(
            "last word of the context dropped",
            "You dropped the last word of each context: the one in front, `context[0]`, is what is counted and goes.",
            _from(last_word_dropped),
        ),
        Mistake(
            "always one",
            "All your continuation counts are 1: add 1 for each different word in front, do not set to 1.",
            _from(always_one),
        ),
        Mistake(
            "followers counted",
            "You added up how many words follow each context: what counts is how many contexts stand in front of "
            "the word.",
            _from(followers_counted),
        ),
        Mistake(
            "no discount",
            "You took no discount off the count, so your probabilities add up to more than 1.",
            _with(NoDiscount()),
        ),
        Mistake(
            "negative share",
            "Where a word was never seen after the context its share becomes negative: it is max(count − D, 0).",
            _with(NegativeKept()),
        ),
        Mistake(
            "freed mass lost",
            "What the discounts took off is lost: share it out by the probability after the shorter context.",
            _with(NothingFreed()),
        ),
        Mistake(
            "followers counted as often as they came",
            "Each *different* follower gives up D once: the freed share is D · len(followers) / total, not D.",
            _with(FreedByTokens()),
        ),
        Mistake(
            "freed once",
            "You freed D once: each *different* follower has given up D, so the freed share is "
            "D · len(followers) / total.",
            _with(FreedOnce()),
        ),
        Mistake(
            "freed without the discount",
            "Each follower gives up D, not a whole count: multiply the number of followers by the discount.",
            _with(FreedWithoutDiscount()),
        ),
        Mistake(
            "backs off",
            "You ask the shorter context only about unseen words (back-off): interpolation adds its share to "
            "every word.",
            _with(BacksOff()),
        ),
        Mistake(
            "unseen context",
            "After a context that was never seen you return 0: return what the shorter context says.",
            _with(UnseenContextIsZero()),
        ),
        Mistake(
            "shortened at the wrong end",
            "You kept the first words of the context: the last ones stand next to the word.",
            _with(FirstWords()),
        ),
        Mistake(
            "minus zero",
            "`context[-m:]` is the whole context where m is 0: write `context[len(context) - m:]`.",
            _with(MinusZero()),
        ),
        Mistake(
            "minus zero, gone on",
            "Your single words are never asked: where m is 0, `context[-m:]` is the whole context. Write "
            "`context[len(context) - m:]`.",
            _with(minus_zero_gone_on),
        ),
        Mistake(
            "starts from zero",
            "A word that was never seen gets 0: below the single words lies the uniform distribution, 1 / n_words.",
            _with(StartsFromZero()),
        ),
        Mistake(
            "one discount for all",
            "You used the last discount for every table: `discounts[m]` belongs to `tables[m]`.",
            _with(LastDiscount()),
        ),
        Mistake(
            "only the longest context",
            "You mixed the longest context with the uniform distribution: what was freed goes to the next shorter "
            "context, and so on down.",
            _with(only_longest),
        ),
    ),
    hints=(
        "`continuation_counts`: each entry (context, word) of the table is one different n-gram, however large its "
        "count. It adds 1 to the entry of `word` after `context[1:]`. `result.setdefault(shorter, Counter())` makes a "
        "Counter where there is none.",
        "`kneser_ney_prob`: start with `prob = 1 / n_words` and go through the tables from m = 0 upwards. At each, "
        "`prob` becomes the discounted share plus the freed share times the `prob` so far.",
        "The last m words are `context[len(context) - m:]`; beware of `context[-m:]`, which is everything where m "
        "is 0. Stop where m is larger than `len(context)` or the context is not in the table (`table.get` gives None).",
        "With `total = followers.total()`: the share kept is `max(followers[word] - D, 0) / total`, the share freed "
        "`D * len(followers) / total`.",
    ),
)

# --- window_lm_forward -----------------------------------------------------------------------


def draw_window_lm(seed: int) -> list[Case]:
    """Draw windows of word numbers and the weights of a small model."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        window: int,
        d: int,
        n_hidden: int,
        n_words: int,
        direct: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> Case:
        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        inputs = {
            "context": torch.randint(n_words + 1, (batch, window), generator=g),
            "C": normal(n_words + 1, d),
            "H": normal(window * d, n_hidden) / d**0.5,
            "a": normal(n_hidden),
            "U": normal(n_hidden, n_words),
            "b": normal(n_words),
            "W": normal(window * d, n_words) if direct else None,
            "cotangent": normal(batch, n_words),
        }
        return Case(label, inputs)

    twice = case("a word that stands twice in the window", 2, 3, 3, 2, 5)
    twice.inputs["context"][0] = 1
    strided = case("non-contiguous tensors, float32", 3, 3, 4, 5, 6, True, torch.float32)
    for name in ("context", "C", "H", "U", "W"):
        strided.inputs[name] = strided.inputs[name].T.contiguous().T
    return [
        case("a window of one word", 1, 1, 2, 2, 3),
        case("one window of two words", 1, 2, 2, 3, 4),
        case("a batch, odd widths", 3, 4, 3, 5, 7),
        case("a direct path", 2, 2, 3, 4, 5, direct=True),
        case("a batch with a direct path, float32", 4, 3, 5, 2, 6, True, torch.float32),
        twice,
        strided,
    ]


def oracle_window_lm(
    context: Tensor,
    C: Tensor,
    H: Tensor,
    a: Tensor,
    U: Tensor,
    b: Tensor,
    W: Tensor | None,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Compose F.embedding and F.linear in float64."""
    wrt = {"C": C, "H": H, "a": a, "U": U, "b": b} | ({} if W is None else {"W": W})
    leaves = {name: each.detach().double().requires_grad_() for name, each in wrt.items()}
    vectors = F.embedding(context, leaves["C"])
    x = torch.cat([vectors[:, i] for i in range(context.shape[1])], dim=-1)
    hidden = F.linear(x, leaves["H"].T, leaves["a"]).tanh()
    logits = F.linear(hidden, leaves["U"].T, leaves["b"])
    if W is not None:
        logits = logits + F.linear(x, leaves["W"].T)
    found = {"logits": logits, **gradients(logits, cotangent.double(), leaves)}
    return {name: each.detach().to(C.dtype) for name, each in found.items()}


class _Window:
    """A window_lm_forward that goes wrong in one way, which its subclasses say."""

    def vectors(self, context: Tensor, C: Tensor) -> Tensor:
        """Return the vectors side by side."""
        return C[context].flatten(1)

    def hidden(self, x: Tensor, H: Tensor, a: Tensor) -> Tensor:
        """Return the hidden layer."""
        return torch.tanh(x @ H + a)

    def logits(self, hidden: Tensor, U: Tensor, b: Tensor) -> Tensor:
        """Return what the hidden layer says."""
        return hidden @ U + b

    def direct(self, logits: Tensor, x: Tensor, W: Tensor | None) -> Tensor:
        """Add the direct path."""
        return logits if W is None else logits + x @ W

    def finish(self, logits: Tensor) -> Tensor:
        """Return the logits."""
        return logits

    def __call__(
        self, context: Tensor, C: Tensor, H: Tensor, a: Tensor, U: Tensor, b: Tensor,
        W: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Compute the model."""
        x = self.vectors(context, C)
        return self.finish(self.direct(self.logits(self.hidden(x, H, a), U, b), x, W))


class NewestFirst(_Window):
    """Turn the window round."""

    def vectors(self, context: Tensor, C: Tensor) -> Tensor:
        """Put the last word first."""
        return C[context].flip(1).flatten(1)


class Interleaved(_Window):
    """Put the words' first numbers side by side, then their second …"""

    def vectors(self, context: Tensor, C: Tensor) -> Tensor:
        """Flatten the axes in the wrong order."""
        return C[context].transpose(1, 2).flatten(1)


class AcrossTheBatch(_Window):
    """Mix the windows of a batch."""

    def vectors(self, context: Tensor, C: Tensor) -> Tensor:
        """Reshape (window, batch, d) as if it were (batch, window, d)."""
        return C[context.T].reshape(len(context), -1)


class Summed(_Window):
    """Give every place the same sum of the vectors."""

    def vectors(self, context: Tensor, C: Tensor) -> Tensor:
        """Lose the order."""
        return C[context].sum(1).repeat(1, context.shape[1])


class Linear(_Window):
    """Leave out the tanh."""

    def hidden(self, x: Tensor, H: Tensor, a: Tensor) -> Tensor:
        """Stay linear."""
        return x @ H + a


class Relu(_Window):
    """Take another nonlinearity."""

    def hidden(self, x: Tensor, H: Tensor, a: Tensor) -> Tensor:
        """Cut negative values off."""
        return torch.relu(x @ H + a)


class Sigmoid(_Window):
    """Take another nonlinearity."""

    def hidden(self, x: Tensor, H: Tensor, a: Tensor) -> Tensor:
        """Squash to 0 … 1."""
        return torch.sigmoid(x @ H + a)


class BiasOutside(_Window):
    """Add the bias after the tanh."""

    def hidden(self, x: Tensor, H: Tensor, a: Tensor) -> Tensor:
        """Put the bracket in the wrong place."""
        return torch.tanh(x @ H) + a


class HiddenBiasForgotten(_Window):
    """Leave out a."""

    def hidden(self, x: Tensor, H: Tensor, a: Tensor) -> Tensor:
        """Use no bias; its gradient is 0."""
        return torch.tanh(x @ H + 0 * a)


class OutputBiasForgotten(_Window):
    """Leave out b."""

    def logits(self, hidden: Tensor, U: Tensor, b: Tensor) -> Tensor:
        """Use no bias; its gradient is 0."""
        return hidden @ U + 0 * b


class DirectForgotten(_Window):
    """Leave out W."""

    def direct(self, logits: Tensor, x: Tensor, W: Tensor | None) -> Tensor:
        """Ignore the direct path; its gradient is 0."""
        return logits if W is None else logits + 0 * (x @ W)


class SoftmaxTaken(_Window):
    """Return probabilities."""

    def finish(self, logits: Tensor) -> Tensor:
        """Normalise."""
        return logits.softmax(-1)


class LogSoftmaxTaken(_Window):
    """Return log-probabilities."""

    def finish(self, logits: Tensor) -> Tensor:
        """Normalise."""
        return logits.log_softmax(-1)


WINDOW_LM = Exercise(
    name="window_lm_forward",
    lesson=4,
    points=4,
    probe=probes.window_lm_forward,
    draw=draw_window_lm,
    oracle=oracle_window_lm,
    finished=(finished.window_lm_forward,),
    forbidden=(FINISHED, "torch.nn.EmbeddingBag", "torch.nn.functional.embedding_bag"),
    minutes=15,
    difficulty=3,
    mistakes=(
        Mistake(
            "newest first",
            "You put the window's vectors in the wrong order: the oldest word comes first.",
            (NewestFirst(),),
        ),
        Mistake(
            "interleaved",
            "You laid out the first numbers of all words, then the second ones: each word's vector stays together, "
            "so flatten (batch, window, d) as it is.",
            (Interleaved(),),
        ),
        Mistake(
            "across the batch",
            "You mixed words of different windows: a reshape does not transpose, so keep the batch as the first axis.",
            (AcrossTheBatch(),),
        ),
        Mistake(
            "summed",
            "You added up the window's vectors: then the order of the words is lost. Lay them side by side.",
            (Summed(),),
        ),
        Mistake(
            "linear", "You left out the tanh: the model is linear in the word vectors.", (Linear(),)
        ),
        Mistake("relu", "You used a ReLU: Bengio's hidden layer has a tanh.", (Relu(),)),
        Mistake("sigmoid", "You used a sigmoid: Bengio's hidden layer has a tanh.", (Sigmoid(),)),
        Mistake(
            "bias outside",
            "You added `a` after the tanh: it belongs inside, tanh(xH + a).",
            (BiasOutside(),),
        ),
        Mistake(
            "hidden bias forgotten",
            "You never use `a`, the hidden layer's bias.",
            (HiddenBiasForgotten(),),
        ),
        Mistake(
            "output bias forgotten",
            "You never use `b`, the words' bias.",
            (OutputBiasForgotten(),),
        ),
        Mistake(
            "direct path forgotten",
            "You never use `W`: where it is given, add x @ W to the logits.",
            (DirectForgotten(),),
        ),
        Mistake(
            "softmax taken",
            "You returned probabilities: return the logits, the loss takes the softmax.",
            (SoftmaxTaken(),),
        ),
        Mistake(
            "log-softmax taken",
            "You returned log-probabilities: return the logits, the loss takes the softmax.",
            (LogSoftmaxTaken(),),
        ),
    ),
    hints=(
        "`C[context]` looks up all vectors at once, (batch, window, d). Write the shape of each line behind it.",
        "Side by side means (batch, window · d): `.flatten(1)` joins all axes from the first on and leaves the batch "
        "alone. The first d numbers are then the oldest word's.",
        "`hidden = torch.tanh(x @ H + a)`, then `hidden @ U + b`, and `x @ W` on top where `W` is not None.",
    ),
)

EXERCISES = (PERPLEXITY, KNESER_NEY, WINDOW_LM)
