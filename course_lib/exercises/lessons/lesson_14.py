"""Lesson 14, encoders: what is drawn, what is right, what often goes wrong."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.exercises.probes import lesson_14 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import bert as finished
from course_lib.models.attention import causal_mask, padding_mask
from course_lib.models.bert import CLS, MASK, NOT_ASKED, PAD, SEP, SPECIAL

f64 = torch.float64
FORBIDDEN = ("course_lib.models.bert", "course_lib.training.masked")

# --- mask_tokens -----------------------------------------------------------------------------

_FIRST = len(SPECIAL)  # the first number that is a word's


def draw_mask_tokens(seed: int) -> list[Case]:
    """Draw batches of few and of many words, with filling, and of no words at all."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str, lengths: tuple[int, ...], share: float = 0.15, words: int = 60, split: int = 0
    ) -> Case:
        """Texts of so many words each; with ``split`` there is a second [SEP] inside."""
        longest = max(lengths) + 2
        ids = torch.full((len(lengths), longest), PAD)
        for row, length in enumerate(lengths):
            ids[row, 0] = CLS
            ids[row, 1 : length + 1] = torch.randint(_FIRST, words, (length,), generator=g)
            ids[row, length + 1] = SEP
            if split:
                ids[row, split] = SEP
        order = torch.rand(ids.shape, generator=g)
        others = torch.randint(words, 2 * words, ids.shape, generator=g)
        inputs = {"ids": ids, "order": order, "others": others, "share": share}
        return Case(label, inputs)

    turned = case("non-contiguous tensors", (9, 9, 9))
    for name in ("ids", "order", "others"):
        turned.inputs[name] = turned.inputs[name].T.contiguous().T
    return [
        case("two words, all of them hidden", (2,), 1.0),
        case("one text of ten words, half of them hidden", (10,), 0.5),
        case("one text of twenty words", (20,)),
        case("two texts with filling", (12, 21)),
        case("a single word and much filling", (1, 0, 0, 0)),
        case("no words at all", (0, 0, 0, 0)),
        case("a pair of texts: a [SEP] in the middle", (17, 16), split=6),
        case("thirty words: 15 % are 4.5", (10, 10, 10)),
        case("all of forty words", (10, 14, 16), 1.0),
        case("a large batch", (30, 31, 29, 12, 30)),
        turned,
    ]


def oracle_mask_tokens(
    ids: Tensor, order: Tensor, others: Tensor, share: float
) -> dict[str, Tensor]:
    """Sort the places of the words one by one, and go through them."""
    places = [
        (order[i, j].item(), i, j)
        for i in range(ids.shape[0])
        for j in range(ids.shape[1])
        if ids[i, j] >= _FIRST
    ]
    asked = sorted(places)[: max(1, round(share * len(places)))]
    read, labels = ids.clone(), torch.full_like(ids, NOT_ASKED)
    for rank, (_, i, j) in enumerate(asked):
        labels[i, j] = ids[i, j]
        if rank < round(0.8 * len(asked)):
            read[i, j] = MASK
        elif rank < round(0.9 * len(asked)):
            read[i, j] = others[i, j]
    return {"text to read": read, "labels": labels}


class _Masking:
    """Hides words; its subclasses go wrong in one way each."""

    def __call__(
        self, ids: Tensor, order: Tensor, others: Tensor, share: float = 0.15
    ) -> tuple[Tensor, Tensor]:
        can_be = self.can_be(ids).flatten()
        chosen = self.count(share, ids, int(can_be.sum()))
        places = self.places(order.flatten(), can_be, chosen)
        read, labels = ids.flatten().clone(), self.empty(ids)
        masked, changed, kept = self.groups(places)
        labels[places] = read[places]
        read[masked] = MASK
        read[changed] = self.other(others.flatten(), changed)
        self.label(labels, read, ids.flatten(), masked, changed, kept)
        return read.view(ids.shape), labels.view(ids.shape)

    def can_be(self, ids: Tensor) -> Tensor:
        """Tell words from special ones."""
        return ids >= _FIRST

    def count(self, share: float, ids: Tensor, n_words: int) -> int:
        """Say how many are chosen."""
        return min(n_words, max(1, round(share * n_words)))

    def places(self, order: Tensor, can_be: Tensor, chosen: int) -> Tensor:
        """Take those with the smallest numbers."""
        return order.masked_fill(~can_be, math.inf).argsort()[:chosen]

    def empty(self, ids: Tensor) -> Tensor:
        """Make labels that count nowhere."""
        return torch.full((ids.numel(),), NOT_ASKED)

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut them into masked, changed, kept."""
        first, second = round(0.8 * len(places)), round(0.9 * len(places))
        return places[:first], places[first:second], places[second:]

    def other(self, others: Tensor, changed: Tensor) -> Tensor:
        """Look up what stands there instead."""
        return others[changed]

    def label(
        self,
        labels: Tensor,
        read: Tensor,
        ids: Tensor,
        masked: Tensor,
        changed: Tensor,
        kept: Tensor,
    ) -> None:
        """Change nothing more."""


class SpecialChosen(_Masking):
    """Choose special ones too."""

    def can_be(self, ids: Tensor) -> Tensor:
        """Take every place."""
        return torch.ones_like(ids, dtype=torch.bool)


class OnlyPaddingSpared(_Masking):
    """Spare the filling and nothing else."""

    def can_be(self, ids: Tensor) -> Tensor:
        """Take [CLS] and [SEP] too."""
        return ids != PAD


class LargestChosen(_Masking):
    """Take the largest numbers."""

    def places(self, order: Tensor, can_be: Tensor, chosen: int) -> Tensor:
        """Sort the other way round."""
        return order.masked_fill(~can_be, -math.inf).argsort(descending=True)[:chosen]


class ShareOfPlaces(_Masking):
    """Take a share of all places."""

    def count(self, share: float, ids: Tensor, n_words: int) -> int:
        """Count special ones too."""
        return min(n_words, max(1, round(share * ids.numel())))


class RoundedDown(_Masking):
    """Cut off."""

    def count(self, share: float, ids: Tensor, n_words: int) -> int:
        """Use int."""
        return min(n_words, max(1, int(share * n_words)))


class RoundedUp(_Masking):
    """Take one more."""

    def count(self, share: float, ids: Tensor, n_words: int) -> int:
        """Use ceil."""
        return min(n_words, max(1, math.ceil(share * n_words)))


class MaybeNone(_Masking):
    """Choose none where the share is less than a half."""

    def count(self, share: float, ids: Tensor, n_words: int) -> int:
        """Forget the least."""
        return round(share * n_words)


class ChosenByChance(_Masking):
    """Compare each number with the share."""

    def places(self, order: Tensor, can_be: Tensor, chosen: int) -> Tensor:
        """Let chance say how many."""
        hit = (order < chosen / max(1, int(can_be.sum()))) & can_be
        at = hit.nonzero()[:, 0]
        return at[order[at].argsort()]


class AllMasked(_Masking):
    """Put [MASK] everywhere."""

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Change and keep nothing."""
        return places, places[:0], places[:0]


class NothingKept(_Masking):
    """Change a fifth."""

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep nothing."""
        first = round(0.8 * len(places))
        return places[:first], places[first:], places[:0]


class NothingChanged(_Masking):
    """Keep a fifth."""

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Change nothing."""
        first = round(0.8 * len(places))
        return places[:first], places[:0], places[first:]


class KeptBeforeChanged(_Masking):
    """Exchange the last two groups."""

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the second, change the third."""
        masked, changed, kept = super().groups(places)
        return masked, kept, changed


class GroupsCutOff(_Masking):
    """Cut the groups' sizes off."""

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Use int."""
        first, second = int(0.8 * len(places)), int(0.9 * len(places))
        return places[:first], places[first:second], places[second:]


class TenthByItself(_Masking):
    """Round the second group by itself."""

    def groups(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add two rounded numbers."""
        first = round(0.8 * len(places))
        second = first + round(0.1 * len(places))
        return places[:first], places[first:second], places[second:]


class OthersByRank(_Masking):
    """Take the first of the others."""

    def other(self, others: Tensor, changed: Tensor) -> Tensor:
        """Ignore where the words stand."""
        return others[: len(changed)]


class LabelsAfter(_Masking):
    """Take labels from what is read."""

    def label(self, labels: Tensor, read: Tensor, ids: Tensor, *groups: Tensor) -> None:
        """Ask for [MASK]."""
        at = torch.cat(groups)
        labels[at] = read[at]


class LabelsEverywhere(_Masking):
    """Ask for every word."""

    def empty(self, ids: Tensor) -> Tensor:
        """Begin with the words."""
        return ids.flatten().clone()


class LabelsZero(_Masking):
    """Mark what does not count with 0."""

    def empty(self, ids: Tensor) -> Tensor:
        """Begin with zeros."""
        return torch.zeros(ids.numel(), dtype=ids.dtype)


class KeptNotAsked(_Masking):
    """Do not ask for words that stayed."""

    def label(self, labels: Tensor, read: Tensor, ids: Tensor, *groups: Tensor) -> None:
        """Take their labels away."""
        labels[groups[2]] = NOT_ASKED


class OnlyMaskedAsked(_Masking):
    """Ask at [MASK] alone."""

    def label(self, labels: Tensor, read: Tensor, ids: Tensor, *groups: Tensor) -> None:
        """Take the other labels away."""
        labels[torch.cat(groups[1:])] = NOT_ASKED


def limits_by_chance(
    ids: Tensor, order: Tensor, others: Tensor, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Compare each number with fixed limits."""
    word = ids >= _FIRST
    masked, changed = word & (order < 0.8 * share), word & (order < 0.9 * share)
    read = torch.where(changed, others, ids).masked_fill(masked, MASK)
    return read, ids.masked_fill(~(word & (order < share)), NOT_ASKED)


def written_into_copies(
    ids: Tensor, order: Tensor, others: Tensor, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Write into what reshape gives, which is a copy where memory has gaps."""
    read, labels = _Masking()(ids, order, others, share)
    if ids.is_contiguous():
        return read, labels
    return ids.clone(), torch.full_like(ids, NOT_ASKED)


def each_row_by_itself(
    ids: Tensor, order: Tensor, others: Tensor, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Take the share of each text."""
    rows = [
        _Masking()(ids[i : i + 1], order[i : i + 1], others[i : i + 1], share)
        for i in range(len(ids))
    ]
    return torch.cat([read for read, _ in rows]), torch.cat([labels for _, labels in rows])


MASK_TOKENS = Exercise(
    name="mask_tokens",
    lesson=14,
    points=4,
    probe=probes.mask_tokens,
    draw=draw_mask_tokens,
    oracle=oracle_mask_tokens,
    finished=(finished.mask_tokens,),
    forbidden=FORBIDDEN,
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "special words chosen",
            "You choose among all places: [CLS], [SEP] and the filling are no words. Words have numbers of "
            "len(SPECIAL) and above.",
            (SpecialChosen(),),
        ),
        Mistake(
            "only the filling spared",
            "You spare [PAD] alone: [CLS] and [SEP] are never hidden either.",
            (OnlyPaddingSpared(),),
        ),
        Mistake(
            "the largest chosen",
            "You choose the places with the largest numbers in `order`: the smallest are meant.",
            (LargestChosen(),),
        ),
        Mistake(
            "a share of all places",
            "You take the share of all places: it is a share of the words, without special ones.",
            (ShareOfPlaces(),),
        ),
        Mistake(
            "rounded down",
            "You cut the number of chosen words off (`int` or `//`): it is rounded, with Python's `round`.",
            (RoundedDown(),),
        ),
        Mistake(
            "rounded up",
            "You round the number of chosen words up: it is rounded to the nearest, with Python's `round`.",
            (RoundedUp(),),
        ),
        Mistake(
            "none chosen",
            "Where the share is less than half a word you choose none: at least one word is hidden, if there is any.",
            (MaybeNone(),),
        ),
        Mistake(
            "chosen by chance",
            "You choose where the random number is below the share, so that chance says how many: sort them, "
            "and take as many as there should be.",
            (ChosenByChance(),),
        ),
        Mistake(
            "fixed limits",
            "You compare `order` with fixed limits (0.8 · share, 0.9 · share, share), so that chance says how many: "
            "sort it, and take as many as there should be.",
            (limits_by_chance,),
        ),
        Mistake(
            "written into copies",
            "You write into `x.reshape(-1)[…]`, which is a copy if x is not contiguous, and what you wrote is lost: "
            "make flat tensors first (`x.flatten().clone()`), and give them their shape at the end.",
            (written_into_copies,),
        ),
        Mistake(
            "each text by itself",
            "You take the share of each text by itself: it is a share of all words of the batch together.",
            (each_row_by_itself,),
        ),
        Mistake(
            "everything masked",
            "You put [MASK] in place of every chosen word: 10 % become another word, and 10 % stay.",
            (AllMasked(),),
        ),
        Mistake(
            "nothing kept",
            "You change all that do not become [MASK]: of these the second half stays as it is.",
            (NothingKept(),),
        ),
        Mistake(
            "nothing changed",
            "You leave all that do not become [MASK]: of these the first half becomes another word.",
            (NothingChanged(),),
        ),
        Mistake(
            "kept before changed",
            "You exchanged the last two groups: in the order of the random numbers first come those that "
            "become [MASK], then those that get another word, then those that stay.",
            (KeptBeforeChanged(),),
        ),
        Mistake(
            "groups cut off",
            "You cut the sizes of the groups off (`int` or `//`): 0.8 and 0.9 of the chosen are rounded, with "
            "Python's `round`.",
            (GroupsCutOff(),),
        ),
        Mistake(
            "the tenth rounded by itself",
            "You round the 10 % by themselves and add them: the second group ends at round(0.9 · chosen).",
            (TenthByItself(),),
        ),
        Mistake(
            "others by rank",
            "You take the first numbers of `others`: each place has its own, `others` at that place.",
            (OthersByRank(),),
        ),
        Mistake(
            "labels from what is read",
            "Your labels are taken from the changed text: they hold the words that stood there before.",
            (LabelsAfter(),),
        ),
        Mistake(
            "labels everywhere",
            "You ask for every word: where nothing was chosen the label is NOT_ASKED.",
            (LabelsEverywhere(),),
        ),
        Mistake(
            "zeros for labels",
            "You mark what does not count with 0, which is the number of [PAD]: use NOT_ASKED.",
            (LabelsZero(),),
        ),
        Mistake(
            "kept words not asked",
            "You do not ask for chosen words that stayed: they count too, or the model could tell that what it "
            "can read is right.",
            (KeptNotAsked(),),
        ),
        Mistake(
            "asked at [MASK] alone",
            "You ask where [MASK] stands alone: all chosen places count, those that were changed or stayed too.",
            (OnlyMaskedAsked(),),
        ),
    ),
    hints=(
        "Which places can be chosen? Those with `ids >= len(SPECIAL)`. How many of them? Of m words "
        "`max(1, round(share * m))`, and none if m is 0.",
        "Flatten everything: places are then single numbers. Put infinity into `order` where no word stands; "
        "`argsort()` then lists the words' places first, in their random order.",
        "Let `places` be the first k of them. The first round(0.8 k) become MASK, those up to round(0.9 k) "
        "`others` at the same place, the rest stay. The labels are taken from the text as it was.",
        "`read = ids.flatten().clone()`, `labels = torch.full_like(read, NOT_ASKED)`, then `labels[places] = "
        "read[places]` before anything is changed, `read[places[:a]] = MASK`, and `read[places[a:b]] = "
        "others.flatten()[places[a:b]]`. At the end `.view(ids.shape)`.",
    ),
)

# --- BertEncoder -----------------------------------------------------------------------------


def _random_state(module: nn.Module, g: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return random weights for a module: matrices that keep the size, norms near 1."""
    state = {}
    for name, each in module.state_dict().items():
        random = torch.randn(each.shape, generator=g, dtype=dtype)
        if each.dim() == 2:
            random = random / math.sqrt(each.shape[1])
        elif "norm" in name and name.endswith("weight"):
            random = 1 + 0.3 * random
        state[name] = random
    return state


def draw_bert_encoder(seed: int) -> list[Case]:
    """Draw encoders, texts alone and in pairs, with filling and without."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        n: int,
        d_model: int = 4,
        n_heads: int = 1,
        n_layers: int = 1,
        words: int = 8,
        pairs: bool = False,
        lengths: list[int] | None = None,
        dropout: float = 0.0,
        room: int = 1,
        dtype: torch.dtype = f64,
    ) -> Case:
        sizes: dict[str, Any] = {
            "n_words": words, "max_len": n + room, "d_model": d_model, "n_heads": n_heads,
            "n_layers": n_layers, "dropout": dropout,
        }  # fmt: skip
        ids = torch.randint(words, (batch, n), generator=g)
        cuts = torch.randint(1, max(2, n), (batch, 1), generator=g)
        model = finished.BertEncoder(finished.BertConfig(**sizes))
        return Case(
            label,
            {
                "sizes": sizes,
                "weights": _random_state(model, g, dtype),
                "ids": ids,
                "segments": (torch.arange(n) >= cuts).long() if pairs else None,
                "lengths": None if lengths is None else torch.tensor(lengths),
                "cotangents": [
                    torch.randn(batch, n, d_model, generator=g, dtype=dtype),
                    torch.randn(batch, d_model, generator=g, dtype=dtype),
                ],
            },
        )

    return [
        case("one place", 1, 1, 3, words=6),
        case("three places", 1, 3, 3, words=6),
        case("a pair of texts", 1, 4, 4, 2, pairs=True),
        case("a batch, two heads, two blocks", 2, 4, 6, 2, 2),
        case("with filling", 3, 5, 4, 2, 1, lengths=[5, 2, 3]),
        case("pairs with filling, two blocks", 2, 6, 6, 3, 2, pairs=True, lengths=[4, 6]),
        case("odd width, one word and filling", 2, 5, 5, 1, 2, pairs=True, lengths=[5, 1]),
        case("float32", 2, 4, 16, 4, 1, pairs=True, lengths=[4, 3], dtype=torch.float32),
        case("as many places as the model reads", 1, 5, 4, 2, 1, room=0),
        case("everything dropped", 2, 3, 4, 2, 1, pairs=True, dropout=1.0),
    ]


def oracle_bert_encoder(
    sizes: dict[str, Any],
    weights: dict[str, Tensor],
    ids: Tensor,
    segments: Tensor | None,
    lengths: Tensor | None,
    cotangents: list[Tensor],
) -> dict[str, Any]:
    """Write the encoder down with PyTorch's functions, in float64."""
    w = {name: each.double().requires_grad_() for name, each in weights.items()}
    n, d, h = ids.shape[1], sizes["d_model"], sizes["n_heads"]
    keep = 0.0 if sizes["dropout"] == 1 else 1.0
    ends = torch.full((len(ids),), n) if lengths is None else lengths
    real = torch.arange(n) < ends[:, None]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (d,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    sides = torch.zeros_like(ids) if segments is None else segments
    x = F.embedding(ids, w["words.weight"]) + F.embedding(sides, w["segments.weight"])
    x = keep * norm(x + w["positions.table"][:n], "norm")
    for i in range(sizes["n_layers"]):
        block = f"blocks.{i}."
        q, k, v = (
            linear(x, f"{block}attention.to_{each}").unflatten(-1, (h, -1)).transpose(1, 2)
            for each in "qkv"
        )
        said = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
        said = linear(said.transpose(1, 2).flatten(-2), f"{block}attention.to_out")
        x = norm(x + keep * said, f"{block}communicate.norm")
        wide = F.gelu(linear(x, f"{block}feed_forward.up"))
        x = norm(x + keep * linear(wide, f"{block}feed_forward.down"), f"{block}compute.norm")
    pooled = torch.tanh(linear(x[:, 0], "pool"))
    x = torch.where(real[..., None], x, torch.zeros_like(x))
    both = torch.cat([x.flatten(), pooled.flatten()])
    cotangent = torch.cat([each.double().flatten() for each in cotangents])
    found = {"vectors": x, "pooled": pooled, **gradients(both, cotangent, w)}
    return {name: each.detach().to(cotangents[0].dtype) for name, each in found.items()}


class _Encoder(finished.BertEncoder):
    """An encoder whose forward goes wrong in one way, which its subclasses say."""

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Look up, place, normalise, drop."""
        return self.dropout(self.norm(self.add(ids, segments)))

    def add(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Add words, segments and positions."""
        return self.positions(self.words(ids) + self.segments(segments))

    def mask(self, ids: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Hide filling."""
        return None if lengths is None else padding_mask(lengths, ids.shape[1])

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Go through the blocks."""
        for block in self.blocks:
            x = block(x, mask)
        return x

    def sum_up(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Pool."""
        return torch.tanh(self.pool(x[:, 0]))

    def side(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """Give segments that are not given."""
        return torch.zeros_like(ids) if segments is None else segments

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, lengths: Tensor | None = None
    ) -> Any:
        """Read."""
        x = self.run(self.embed(ids, self.side(ids, segments)), self.mask(ids, lengths))
        return x, self.sum_up(x, lengths)


class NoPositions(_Encoder):
    """Leave the positions out."""

    def add(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Forget where words stand."""
        return self.words(ids) + self.segments(segments)


class NoSegments(_Encoder):
    """Leave the segments out."""

    def add(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Forget which text a word belongs to."""
        return self.positions(self.words(ids))


class SegmentsOnlyIfGiven(_Encoder):
    """Add segments only where they are given."""

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, lengths: Tensor | None = None
    ) -> Any:
        """Add nothing for a text alone."""
        x = self.words(ids)
        if segments is not None:
            x = x + self.segments(segments)
        x = self.run(self.dropout(self.norm(self.positions(x))), self.mask(ids, lengths))
        return x, self.sum_up(x, lengths)


class SegmentsOfOnes(_Encoder):
    """Take segment 1 where none is given."""

    def side(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """Use ones."""
        return torch.ones_like(ids) if segments is None else segments


class ScaledByRoot(_Encoder):
    """Multiply words by √d, as lesson 11 does."""

    def add(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Scale."""
        scaled = self.words(ids) * math.sqrt(self.config.d_model)
        return self.positions(scaled + self.segments(segments))


class NoFirstNorm(_Encoder):
    """Leave the first norm out."""

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Drop only."""
        return self.dropout(self.add(ids, segments))


class NoDropout(_Encoder):
    """Drop nothing of the first vectors."""

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Normalise only."""
        return self.norm(self.add(ids, segments))


class DroppedBeforeNorm(_Encoder):
    """Drop, then normalise."""

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Exchange the two."""
        return self.norm(self.dropout(self.add(ids, segments)))


class NormAtTheEnd(_Encoder):
    """Normalise behind the blocks, as GPT does."""

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Drop only."""
        return self.dropout(self.add(ids, segments))

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Put the norm last."""
        return self.norm(super().run(x, mask))


class NormTwice(_Encoder):
    """Normalise in front of the blocks and behind them."""

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Put one more norm last."""
        return self.norm(super().run(x, mask))


class PositionsAddedTwice(_Encoder):
    """Add what the positions' part has added already."""

    def add(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Double words and segments."""
        x = self.words(ids) + self.segments(segments)
        return x + self.positions(x)


class NoMask(_Encoder):
    """Let filling be heard."""

    def mask(self, ids: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Hide nothing."""
        return None


class MaskInverted(_Encoder):
    """Hide what is no filling."""

    def mask(self, ids: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Use the other convention."""
        return None if lengths is None else ~padding_mask(lengths, ids.shape[1])


class MaskCausal(_Encoder):
    """Hide the future."""

    def mask(self, ids: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Make a decoder of it."""
        mask, past = super().mask(ids, lengths), causal_mask(ids.shape[1])
        return past if mask is None else mask & past


class BlocksNotChained(_Encoder):
    """Give every block the same input."""

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Keep what the last one says."""
        y = x
        for block in self.blocks:
            y = block(x, mask)
        return y


class PooledMean(_Encoder):
    """Pool the mean of all places."""

    def sum_up(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Average."""
        return torch.tanh(self.pool(x.mean(1)))


class PooledLast(_Encoder):
    """Pool the last place."""

    def sum_up(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Take the end."""
        return torch.tanh(self.pool(x[:, -1]))


class NoTanh(_Encoder):
    """Forget the bend."""

    def sum_up(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Use the layer alone."""
        return self.pool(x[:, 0])


class NoPool(_Encoder):
    """Return [CLS] as it is."""

    def sum_up(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Use no layer."""
        return x[:, 0]


class PooledFirst(_Encoder):
    """Return the pooled ones first."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Exchange the two results."""
        vectors, pooled = super().forward(*args, **kwargs)
        return pooled, vectors


BERT_ENCODER = Exercise(
    name="BertEncoder",
    lesson=14,
    points=5,
    probe=probes.bert_encoder,
    draw=draw_bert_encoder,
    oracle=oracle_bert_encoder,
    finished=(finished.BertEncoder,),
    forbidden=FORBIDDEN,
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "no positions", "Positions are missing: `self.positions(x)` adds them.", (NoPositions,)
        ),
        Mistake(
            "no segments",
            "Segments are missing: `self.segments(segments)` has a vector for each place, to be added.",
            (NoSegments,),
        ),
        Mistake(
            "segments only if given",
            "Where no segments are given you add nothing: a text alone is segment 0, and has its vector.",
            (SegmentsOnlyIfGiven,),
        ),
        Mistake(
            "segments of ones",
            "Where no segments are given you take segment 1: a text alone is segment 0.",
            (SegmentsOfOnes,),
        ),
        Mistake(
            "scaled by √d",
            "You multiplied the words by √d, as lesson 11's model does: BERT takes them as they are.",
            (ScaledByRoot,),
        ),
        Mistake(
            "no first norm",
            "The sum of words, positions and segments goes through `self.norm` before the first block.",
            (NoFirstNorm,),
        ),
        Mistake(
            "no dropout",
            "You drop nothing of the first vectors: behind the norm they go through `self.dropout`.",
            (NoDropout,),
        ),
        Mistake(
            "dropped before the norm",
            "You drop before the norm: `self.dropout` comes behind `self.norm`.",
            (DroppedBeforeNorm,),
        ),
        Mistake(
            "norm at the end",
            "Your norm stands behind the blocks, as GPT's does: with post-norm every block ends with a norm of its "
            "own, and `self.norm` belongs in front of the first.",
            (NormAtTheEnd,),
        ),
        Mistake(
            "a norm too many",
            "You use `self.norm` behind the blocks too: with post-norm every block ends with a norm of its own.",
            (NormTwice,),
        ),
        Mistake(
            "everything twice",
            "You add `self.positions(x)` to x: it has x in it already.",
            (PositionsAddedTwice,),
        ),
        Mistake(
            "filling heard",
            "Your blocks get no mask, so everyone hears the filling: `padding_mask(lengths, n)`.",
            (NoMask,),
        ),
        Mistake(
            "mask inverted",
            "Your mask is True at the filling: True means “may attend”.",
            (MaskInverted,),
        ),
        Mistake(
            "the future hidden",
            "Your mask hides the future: in an encoder everyone hears everyone, only filling is hidden.",
            (MaskCausal,),
        ),
        Mistake(
            "blocks not chained",
            "Each of your blocks reads the same stream: a block reads what the one before it wrote.",
            (BlocksNotChained,),
        ),
        Mistake(
            "the mean pooled",
            "You pool the mean of all places: the vector at [CLS], the first of each row, is meant.",
            (PooledMean,),
        ),
        Mistake(
            "the last pooled",
            "You pool the last place: the vector at [CLS], the first of each row, is meant.",
            (PooledLast,),
        ),
        Mistake("no tanh", "The tanh behind `self.pool` is missing.", (NoTanh,)),
        Mistake(
            "not pooled",
            "You return the vector at [CLS] as it is: it goes through `self.pool` and a tanh.",
            (NoPool,),
        ),
        Mistake(
            "the results exchanged",
            "You return the pooled vectors first: the vectors of all places come first, then the pooled ones.",
            (PooledFirst,),
        ),
    ),
    hints=(
        "Three vectors are added up at each place: its word's, its segment's, its position's. Where no segments are "
        "given, all places are in segment 0: `torch.zeros_like(ids)`.",
        "The sum goes through `self.norm` and `self.dropout`, then through the blocks, called as `block(x, mask)`. "
        "Which mask? Lesson 07's `padding_mask(lengths, n)`, and None where there is no filling.",
        "With post-norm nothing follows the last block. The second result is `torch.tanh(self.pool(x[:, 0]))`.",
        "`x = self.positions(self.words(ids) + self.segments(segments))`; `x = self.dropout(self.norm(x))`; the loop "
        "over `self.blocks`; `return x, torch.tanh(self.pool(x[:, 0]))`.",
    ),
)

# --- mlm_loss --------------------------------------------------------------------------------


def draw_mlm_loss(seed: int) -> list[Case]:
    """Draw vectors and labels: one asked place, several, all, none."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        n: int,
        asked: list[int],
        d: int = 3,
        words: int = 5,
        dtype: torch.dtype = f64,
        plain: bool = False,
        scale: float = 1.0,
    ) -> Case:
        """So many asked places in each row; with ``plain`` the head gives the vectors back."""
        labels = torch.full((batch, n), NOT_ASKED)
        for row, count in enumerate(asked):
            places = torch.randperm(n, generator=g)[:count]
            labels[row, places] = torch.randint(d if plain else words, (count,), generator=g)
        random = torch.randn(words, d + 1, generator=g, dtype=f64).to(dtype)
        vectors = (scale * torch.randn(batch, n, d, generator=g, dtype=f64)).to(dtype)
        weight, bias = (None, None) if plain else (random[:, :d].clone(), random[:, d].clone())
        return Case(label, {"vectors": vectors, "labels": labels, "weight": weight, "bias": bias})

    return [
        case("one place, asked", 1, 1, [1], 2, 3),
        case("one asked place of three", 1, 3, [1], 2, 3),
        case("a batch, one asked place in each row", 2, 3, [1, 1]),
        case("rows with different numbers of asked places", 3, 5, [4, 1, 2], 4, 7),
        case("a row without any", 3, 4, [2, 0, 1], 3, 6),
        case("all places asked", 2, 3, [3, 3]),
        case("no place asked", 2, 3, [0, 0]),
        case("float32", 2, 6, [2, 1], 5, 9, torch.float32),
        case(
            "bfloat16, a head that changes nothing",
            2,
            4,
            [2, 1],
            6,
            dtype=torch.bfloat16,
            plain=True,
        ),
        case("large logits", 2, 4, [2, 2], 4, 5, scale=300.0),
    ]


def oracle_mlm_loss(
    vectors: Tensor, labels: Tensor, weight: Tensor | None, bias: Tensor | None
) -> dict[str, Any]:
    """Score every place and let PyTorch leave out what is marked; 0 where all is."""
    wide = torch.promote_types(vectors.dtype, torch.float32)
    learnt = {"vectors": vectors.double().requires_grad_()}
    if weight is not None and bias is not None:
        learnt |= {
            "the head's weight": weight.double().requires_grad_(),
            "the head's bias": bias.double().requires_grad_(),
        }
    x = learnt["vectors"]
    logits = x if weight is None else F.linear(x, *list(learnt.values())[1:])
    count = int((labels != NOT_ASKED).sum())
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss = total / max(1, count)
    found = {"loss": loss.detach().to(wide)}
    if weight is not None:
        for name, each in gradients(loss, torch.ones_like(loss), learnt).items():
            found[name] = each.detach().to(vectors.dtype)
    return found | {"vectors that the head was given": count}


def _mlm(
    finish: Callable[[Tensor, Tensor], Tensor] | None = None,
    everywhere: bool = False,
    turn: Callable[[Tensor], Tensor] = lambda logits: logits,
    wide: bool = True,
) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return a loss that goes wrong in a given way; ``finish`` makes it of the losses and the mask."""

    def loss(vectors: Tensor, labels: Tensor, head: Any) -> Tensor:
        asked = labels != NOT_ASKED
        logits = head(vectors)[asked] if everywhere else head(vectors[asked])
        if wide:
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        each = F.cross_entropy(turn(logits), labels[asked], reduction="none")
        return each.sum() / asked.sum().clamp(min=1) if finish is None else finish(each, asked)

    return loss


def _row_means(each: Tensor, asked: Tensor) -> Tensor:
    rows = asked.nonzero()[:, 0]
    means = [each[rows == row].mean() for row in rows.unique()]
    return torch.stack(means).mean() if means else each.sum()


def _all_labels_as_words(vectors: Tensor, labels: Tensor, head: Any) -> Tensor:
    """Count places that are not asked as if [PAD] stood there."""
    logits = head(vectors).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels.clamp(min=0).flatten())


def _labels_above_zero(vectors: Tensor, labels: Tensor, head: Any) -> Tensor:
    """Take word 0 for a mark."""
    return _mlm()(vectors, labels.masked_fill(labels == 0, NOT_ASKED), head)


def _ignored(vectors: Tensor, labels: Tensor, head: Any) -> Tensor:
    """Score every place, and let the loss leave out what is marked."""
    logits = head(vectors).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels.flatten(), ignore_index=NOT_ASKED)


def _detached(vectors: Tensor, labels: Tensor, head: Any) -> Tensor:
    """Cut the vectors off."""
    return _mlm()(vectors.detach(), labels, head)


MLM_LOSS = Exercise(
    name="mlm_loss",
    lesson=14,
    points=3,
    probe=probes.mlm_loss,
    draw=draw_mlm_loss,
    oracle=oracle_mlm_loss,
    finished=(finished.mlm_loss,),
    forbidden=FORBIDDEN,
    minutes=12,
    difficulty=2,
    mistakes=(
        Mistake(
            "summed",
            "You return the sum: the loss is the mean over the chosen places.",
            (_mlm(lambda each, asked: each.sum()),),
        ),
        Mistake(
            "mean over all places",
            "You divide by the number of all places: divide by the number of chosen ones.",
            (_mlm(lambda each, asked: each.sum() / asked.numel()),),
        ),
        Mistake(
            "divided by the batch",
            "You divide by the number of texts: divide by the number of chosen places.",
            (_mlm(lambda each, asked: each.sum() / len(asked)),),
        ),
        Mistake(
            "mean of the rows' means",
            "You average each text first: every chosen place counts the same, whichever text it is in.",
            (_mlm(_row_means),),
        ),
        Mistake(
            "NaN without a chosen place",
            "Where no place is chosen your loss is NaN (0/0): it should be 0, with gradients of 0.",
            (_mlm(lambda each, asked: each.mean()),),
        ),
        Mistake(
            "every vector scored",
            "Your numbers are right, but you score every place with all words of the vocabulary, and throw most "
            "of it away: give `head` the vectors of the chosen places alone.",
            (_mlm(everywhere=True),),
        ),
        Mistake(
            "every vector scored, and NaN",
            "You score every place with all words of the vocabulary and let `ignore_index` throw most of it away: give "
            "`head` the vectors of the chosen places alone. And with no place chosen the mean is NaN (0/0).",
            (_ignored,),
        ),
        Mistake(
            "labels above 0",
            "You ask where labels are above 0: word 0 is a label too, and NOT_ASKED alone marks what does not count.",
            (_labels_above_zero,),
        ),
        Mistake(
            "unchosen places counted",
            "You count places that were not chosen, as if word 0 stood there: NOT_ASKED marks what does not count.",
            (_all_labels_as_words,),
        ),
        Mistake(
            "softmax twice",
            "You take a softmax before the cross-entropy, which takes one itself: give it the logits.",
            (_mlm(turn=lambda logits: logits.softmax(-1)),),
        ),
        Mistake(
            "in bits",
            "Your loss is in bits: nats are asked for, without a division by ln 2.",
            (_mlm(lambda each, asked: each.sum() / asked.sum().clamp(min=1) / math.log(2)),),
        ),
        Mistake(
            "sign",
            "Your loss has the wrong sign: it is the mean of −log of the right word's probability.",
            (_mlm(lambda each, asked: -each.sum() / asked.sum().clamp(min=1)),),
        ),
        Mistake(
            "a number added below",
            "You add a small number to the count so that it is never 0, which changes every loss: "
            "`.clamp(min=1)` changes none.",
            (_mlm(lambda each, asked: each.sum() / (asked.sum() + 1e-3)),),
        ),
        Mistake(
            "half precision",
            "You compute the loss in bfloat16, which keeps two or three digits: make float32 of the logits first.",
            (_mlm(wide=False),),
        ),
        Mistake(
            "the encoder cut off",
            "Your loss sends no gradient to the vectors: without `detach` the encoder learns too.",
            (_detached,),
        ),
    ),
    hints=(
        "`asked = labels != NOT_ASKED` says where words are asked for. `vectors[asked]` are the vectors of these "
        "places, one below the other, whatever rows they come from.",
        "Only these vectors go through `head`. Then cross-entropy with `labels[asked]`.",
        "Where nothing is asked a mean is 0/0. Take the sum, and divide by `asked.sum().clamp(min=1)`.",
        "Half precision: `logits.float()` would make float64 smaller; "
        "`logits.to(torch.promote_types(logits.dtype, torch.float32))` makes nothing smaller. Then "
        '`F.cross_entropy(logits, labels[asked], reduction="sum")`.',
    ),
)

# --- classify --------------------------------------------------------------------------------


def draw_classify(seed: int) -> list[Case]:
    """Draw texts and pairs of texts, to be classified whole or at one word."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        n: int,
        d: int = 3,
        classes: int = 2,
        pairs: bool = False,
        lengths: list[int] | None = None,
        places: bool = False,
        dtype: torch.dtype = f64,
    ) -> Case:
        ends = torch.tensor([n] * batch if lengths is None else lengths)
        at = 1 + (torch.rand(batch, generator=g) * (ends - 2)).long()
        cuts = torch.randint(1, n, (batch, 1), generator=g)
        inside = torch.arange(n) < ends[:, None]
        return Case(
            label,
            {
                "table": torch.randn(9, d, generator=g, dtype=dtype),
                "sides": torch.randn(2, d, generator=g, dtype=dtype),
                "weight": torch.randn(classes, d, generator=g, dtype=dtype),
                "ids": torch.randint(_FIRST, 9, (batch, n), generator=g) * inside,
                "segments": ((torch.arange(n) >= cuts) & inside).long() * pairs,
                "lengths": ends,
                "places": at if places else None,
                "cotangent": torch.randn(batch, classes, generator=g, dtype=dtype),
            },
        )

    return [
        case("one text", 1, 3, 2),
        case("two texts of one length", 2, 4),
        case("texts with filling", 3, 6, 4, 3, lengths=[4, 6, 3]),
        case("pairs of texts", 2, 5, 4, 3, pairs=True),
        case("one word", 1, 4, 2, places=True),
        case("a word in each text", 3, 5, 4, 3, places=True),
        case("a word in each text, filling", 3, 7, 4, 2, lengths=[4, 7, 5], places=True),
        case("a word in each pair", 2, 6, 3, 4, pairs=True, lengths=[6, 5], places=True),
        case("float32", 4, 6, 5, 3, True, [6, 5, 4, 3], dtype=torch.float32),
    ]


def oracle_classify(
    table: Tensor,
    sides: Tensor,
    weight: Tensor,
    ids: Tensor,
    segments: Tensor,
    lengths: Tensor,
    places: Tensor | None,
    cotangent: Tensor,
) -> dict[str, Tensor]:
    """Go through the rows one by one, each without its filling."""
    t, s, w = (each.double().requires_grad_() for each in (table, sides, weight))
    rows = []
    for i, length in enumerate(lengths.tolist()):
        x = t[ids[i, :length]] + s[segments[i, :length]]
        mean = x.mean(0)
        rows.append(torch.tanh(2 * mean) if places is None else x[int(places[i])] + 0.5 * mean)
    logits = torch.stack(rows) @ w.T
    learnt = {"the head's weight": w, "the encoder's table": t}
    found = {"logits": logits, **gradients(logits, cotangent.double(), learnt)}
    return {name: each.detach().to(cotangent.dtype) for name, each in found.items()}


class _Classify:
    """Classifies; its subclasses go wrong in one way each."""

    def __call__(
        self,
        encoder: Any,
        head: Any,
        ids: Tensor,
        segments: Tensor,
        lengths: Tensor,
        places: Tensor | None = None,
    ) -> Tensor:
        vectors, pooled = self.read(encoder, ids, segments, lengths)
        if places is None:
            return self.finish(head(self.text(vectors, pooled, lengths)))
        return self.finish(head(self.word(vectors, pooled, places)))

    def read(
        self, encoder: Any, ids: Tensor, segments: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode."""
        found: tuple[Tensor, Tensor] = encoder(ids, segments, lengths)
        return found

    def text(self, vectors: Tensor, pooled: Tensor, lengths: Tensor) -> Tensor:
        """Take what stands for a text."""
        return pooled

    def word(self, vectors: Tensor, pooled: Tensor, places: Tensor) -> Tensor:
        """Take what stands for a word."""
        return vectors[torch.arange(len(vectors)), places]

    def finish(self, logits: Tensor) -> Tensor:
        """Leave logits as they are."""
        return logits


class SegmentsForgotten(_Classify):
    """Do not say which text a word belongs to."""

    def read(
        self, encoder: Any, ids: Tensor, segments: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Leave segments out."""
        found: tuple[Tensor, Tensor] = encoder(ids, lengths=lengths)
        return found


class WordsAlone(_Classify):
    """Leave segments and lengths out."""

    def read(
        self, encoder: Any, ids: Tensor, segments: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give the numbers of the words and nothing more."""
        found: tuple[Tensor, Tensor] = encoder(ids)
        return found


class LengthsForgotten(_Classify):
    """Let filling be heard."""

    def read(
        self, encoder: Any, ids: Tensor, segments: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Leave lengths out."""
        found: tuple[Tensor, Tensor] = encoder(ids, segments)
        return found


class Frozen(_Classify):
    """Let the encoder learn nothing."""

    def read(
        self, encoder: Any, ids: Tensor, segments: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Use no_grad."""
        with torch.no_grad():
            return super().read(encoder, ids, segments, lengths)


class NotPooled(_Classify):
    """Take [CLS] as it is."""

    def text(self, vectors: Tensor, pooled: Tensor, lengths: Tensor) -> Tensor:
        """Leave the pooled one unused."""
        return vectors[:, 0]


class MeanOfAll(_Classify):
    """Average all places."""

    def text(self, vectors: Tensor, pooled: Tensor, lengths: Tensor) -> Tensor:
        """Count filling too."""
        return vectors.mean(1)


class PlacesIgnored(_Classify):
    """Classify the text where a word is meant."""

    def word(self, vectors: Tensor, pooled: Tensor, places: Tensor) -> Tensor:
        """Take the pooled one."""
        return pooled


class OneBefore(_Classify):
    """Count places from 1."""

    def word(self, vectors: Tensor, pooled: Tensor, places: Tensor) -> Tensor:
        """Take the place before."""
        return super().word(vectors, pooled, places - 1)


class OneBehind(_Classify):
    """Count [CLS] once more."""

    def word(self, vectors: Tensor, pooled: Tensor, places: Tensor) -> Tensor:
        """Take the place behind."""
        return super().word(vectors, pooled, places + 1)


class FirstPlaceForAll(_Classify):
    """Take the first row's place in each row."""

    def word(self, vectors: Tensor, pooled: Tensor, places: Tensor) -> Tensor:
        """Use places[0]."""
        return vectors[:, int(places[0])]


class EveryPlaceInEveryRow(_Classify):
    """Index the second axis alone."""

    def word(self, vectors: Tensor, pooled: Tensor, places: Tensor) -> Tensor:
        """Get (B, B, d)."""
        return vectors[:, places]


class Softmax(_Classify):
    """Return probabilities."""

    def finish(self, logits: Tensor) -> Tensor:
        """Take the softmax already."""
        return logits.softmax(-1)


class LogSoftmax(_Classify):
    """Return log-probabilities."""

    def finish(self, logits: Tensor) -> Tensor:
        """Take the softmax already."""
        return logits.log_softmax(-1)


class Decided(_Classify):
    """Return the best class."""

    def finish(self, logits: Tensor) -> Tensor:
        """Take the argmax."""
        return logits.argmax(-1)


CLASSIFY = Exercise(
    name="classify",
    lesson=14,
    points=2,
    probe=probes.classify,
    draw=draw_classify,
    oracle=oracle_classify,
    finished=(finished.classify,),
    forbidden=FORBIDDEN,
    minutes=8,
    difficulty=2,
    mistakes=(
        Mistake(
            "segments forgotten",
            "You do not give the encoder the segments: it cannot tell the second text from the first.",
            (SegmentsForgotten(),),
        ),
        Mistake(
            "lengths forgotten",
            "You do not give the encoder the lengths: every word hears the filling.",
            (LengthsForgotten(),),
        ),
        Mistake(
            "the words alone",
            "You give the encoder the words alone: it needs the segments and the lengths too.",
            (WordsAlone(),),
        ),
        Mistake(
            "encoder frozen",
            "No gradient reaches the encoder (`no_grad` or `detach`): fine-tuning changes all of it.",
            (Frozen(),),
        ),
        Mistake(
            "not pooled",
            "For a text you give the head the vector at [CLS] as it is: the pooled vector, the encoder's second "
            "result, is meant.",
            (NotPooled(),),
        ),
        Mistake(
            "mean of all places",
            "For a text you give the head the mean of all places: the pooled vector, the encoder's second result, "
            "is meant.",
            (MeanOfAll(),),
        ),
        Mistake(
            "places ignored",
            "You never look at `places`: where they are given, the vector of the word at that place is classified.",
            (PlacesIgnored(),),
        ),
        Mistake(
            "one place before",
            "You take the vector one place before: `places` count from 0, and [CLS] stands at 0.",
            (OneBefore(),),
        ),
        Mistake(
            "one place behind",
            "You take the vector one place behind: `places` count [CLS] already, which stands at 0.",
            (OneBehind(),),
        ),
        Mistake(
            "the first row's place",
            "You take the first row's place in every row: each row has its own.",
            (FirstPlaceForAll(),),
        ),
        Mistake(
            "every place in every row",
            "`vectors[:, places]` takes every row's place in every row, (batch, batch, width): give the rows' "
            "numbers too.",
            (EveryPlaceInEveryRow(),),
        ),
        Mistake(
            "probabilities",
            "You return probabilities: logits are asked for, the loss takes the softmax itself.",
            (Softmax(),),
        ),
        Mistake(
            "log-probabilities",
            "You return log-probabilities: logits are asked for, the loss takes the softmax itself.",
            (LogSoftmax(),),
        ),
        Mistake(
            "decided",
            "You return the number of the best class: logits are asked for, one for each class.",
            (Decided(),),
        ),
    ),
    hints=(
        "The encoder gives two things: a vector for each place, and a pooled one for the text. Which of them "
        "does the head need here? Give the encoder all that it can know about the batch.",
        "For a word in each row you need one vector a row: row 0's at `places[0]`, row 1's at `places[1]`, …",
        "Two lists of indices are read in pairs: `vectors[rows, places]` with `rows = torch.arange(len(ids))` gives "
        "(batch, width).",
    ),
)

EXERCISES = (MASK_TOKENS, BERT_ENCODER, MLM_LOSS, CLASSIFY)
