"""Lesson 15, T5: what is drawn, what is right, what often goes wrong."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.exercises.probes import lesson_15 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import spans as finished_spans
from course_lib.models import t5 as finished
from course_lib.models.attention import causal_mask
from course_lib.models.multi_head import merge_heads, split_heads

f64 = torch.float64
Pair = tuple[list[Any], list[Any]]

# --- corrupt_spans ---------------------------------------------------------------------------

MARKS = ["<0>", "<1>", "<2>", "<3>"]


def _runs(mask: Sequence[bool]) -> list[tuple[bool, int, int]]:
    """Return the longest runs of equal entries: which, from where, to where."""
    found, begin = [], 0
    for taken, group in groupby(mask):
        end = begin + len(list(group))
        found.append((bool(taken), begin, end))
        begin = end
    return found


def draw_corrupt_spans(seed: int) -> list[Case]:
    """Draw texts of words and of numbers, masks of every kind, and texts that must be refused."""
    rng = random.Random(seed)

    def case(
        label: str, tokens: list[Any], mask: str, sentinels: list[Any], refused: bool = False
    ) -> Case:
        marked = [each == "x" for each in mask]
        inputs = {
            "tokens": tokens,
            "mask": marked,
            "sentinels": list(sentinels),
            "refused": refused,
        }
        return Case(label, inputs)

    words = ["anna", "saw", "the", "red", "boat", "on", "the", "river"]
    numbers = [rng.randrange(50) for _ in range(12)]
    falling = list(
        range(99, 79, -1)
    )  # as T5 numbers them: the first sentinel has the largest number
    long = [rng.randrange(50) for _ in range(30)]
    anywhere = "".join(rng.choice(".x") for _ in long)
    return [
        case("one span of one word", words[:3], ".x.", MARKS),
        case("one span of two words", words[:4], ".xx.", MARKS),
        case("two spans", words[:6], ".x.xx.", MARKS),
        case("a span at the beginning", words[:4], "xx..", MARKS),
        case("a span at the end", words[:4], "..xx", MARKS),
        case("nothing taken out", words[:3], "...", MARKS),
        case("everything taken out", words[:3], "xxx", MARKS),
        case("a span at either end", words[:5], "x..xx", MARKS),
        case("a text of no words", [], "", MARKS),
        case("the same word kept and taken", ["the", "boat", "the", "river"], "..x.", MARKS),
        case("just enough sentinels", words[:6], ".x.xx.", MARKS[:3]),
        case("numbers, sentinels that count down", numbers, "..xxx.....x.", falling),
        case("a long text of numbers", long, anywhere, falling),
        case("one sentinel too few", words[:6], ".x.xx.", MARKS[:2], refused=True),
        case("far too few sentinels", words[:7], "x.x.x.x", MARKS[:1], refused=True),
        case("the text contains the first sentinel", ["a", "<0>", "b"], "..x", MARKS, refused=True),
        case("the text contains an unused sentinel", ["a", "<3>", "b"], "..x", MARKS, refused=True),
        case("the words taken contain a sentinel", ["a", "b", "<1>"], "..x", MARKS, refused=True),
        case("a mask that is too short", words[:4], ".x.", MARKS, refused=True),
        case("a mask that is too long", words[:3], ".x.x", MARKS, refused=True),
    ]


def oracle_corrupt_spans(
    tokens: list[Any], mask: list[bool], sentinels: list[Any], refused: bool
) -> dict[str, Any]:
    """Go through the runs of the mask."""
    if refused:
        return {"error": "ValueError"}
    read: list[Any] = []
    said: list[Any] = []
    marks = iter(sentinels)
    for taken, begin, end in _runs(mask):
        if taken:
            mark = next(marks)
            read.append(mark)
            said += [mark, *tokens[begin:end]]
        else:
            read += tokens[begin:end]
    return {"input": read, "target": [*said, next(marks)]}


def _guarded(
    wrong: Callable[[Sequence[Any], Sequence[bool], Sequence[Any]], Pair],
    *,
    text: bool = True,
    number: bool = True,
    length: bool = True,
    spare: int = 1,
) -> Callable[..., Pair]:
    """Return a wrong solution that refuses what it should, unless one of the guards is left out."""

    def corrupt(tokens: Sequence[Any], mask: Sequence[bool], sentinels: Sequence[Any]) -> Pair:
        spans = sum(taken for taken, _, _ in _runs(mask))
        if length and len(mask) != len(tokens):
            raise ValueError("another length")
        if text and set(tokens) & set(sentinels):
            raise ValueError("sentinels in the text")
        if number and spans + spare > len(sentinels):
            raise ValueError("too few sentinels")
        return wrong(tokens, mask, sentinels)

    return corrupt


def _right(tokens: Sequence[Any], mask: Sequence[bool], sentinels: Sequence[Any]) -> Pair:
    found = oracle_corrupt_spans(list(tokens), list(mask), [*sentinels, *sentinels[:1]], False)
    return found["input"], found["target"]


def _mark_for_each_word(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Use a sentinel for each word."""
    marks = [*sentinels] * (len(tokens) + 1)
    read, said, used = [], [], 0
    for token, taken in zip(tokens, mask):
        if taken:
            read.append(marks[used])
            said += [marks[used], token]
            used += 1
        else:
            read.append(token)
    return read, [*said, marks[used]]


def _no_last(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Forget the last sentinel."""
    read, said = _right(tokens, mask, sentinels)
    return read, said[:-1]


def _swapped(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Keep what should be taken out."""
    return _right(tokens, [not each for each in mask], [*sentinels, *sentinels])


def _one_mark(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Use the first sentinel for each span."""
    first = [sentinels[0]] * (len(tokens) + 2)
    return _right(tokens, mask, first)


def _words_stay(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Leave the words in the input behind their sentinel."""
    said, read, spans = _right(tokens, mask, sentinels)[1], [], 0
    for taken, begin, end in _runs(mask):
        if taken:
            read.append(sentinels[spans])
            spans += 1
        read += tokens[begin:end]
    return read, said


def _no_marks_in_target(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Write the words alone, and the last sentinel."""
    read, said = _right(tokens, mask, sentinels)
    return read, [each for each in said[:-1] if each not in set(sentinels)] + said[-1:]


def _no_marks_in_input(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Leave no trace in the input."""
    read, said = _right(tokens, mask, sentinels)
    return [each for each in read if each not in set(sentinels)], said


def _mark_behind(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Write each sentinel behind its span."""
    read, said, spans = _right(tokens, mask, sentinels)[0], [], 0
    for taken, begin, end in _runs(mask):
        if taken:
            said += [*tokens[begin:end], sentinels[spans]]
            spans += 1
    return read, [*said, sentinels[spans]]


def _span_at_end_lost(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Write a span only when a kept word follows."""
    read: list[Any] = []
    said: list[Any] = []
    span: list[Any] = []
    spans = 0
    for token, taken in zip(tokens, mask):
        if taken:
            span.append(token)
            continue
        if span:
            read.append(sentinels[spans])
            said += [sentinels[spans], *span]
            spans, span = spans + 1, []
        read.append(token)
    return read, [*said, sentinels[spans]]


def _looks_round(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Ask of the first token whether the last one was taken out."""
    read: list[Any] = []
    said: list[Any] = []
    spans = 0
    for i, (token, taken) in enumerate(zip(tokens, mask)):
        if taken and not mask[i - 1]:
            read.append(sentinels[spans])
            said.append(sentinels[spans])
            spans += 1
        (said if taken else read).append(token)
    return read, [*said, sentinels[spans]]


def _last_repeated(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """End with the sentinel of the last span once more."""
    read, said = _right(tokens, mask, sentinels)
    spans = sum(taken for taken, _, _ in _runs(mask))
    return read, [*said[:-1], sentinels[max(spans - 1, 0)]]


def _last_of_all(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """End with the last of all sentinels."""
    read, said = _right(tokens, mask, sentinels)
    return read, [*said[:-1], sentinels[-1]]


def _from_the_second(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Count the spans from 1."""
    return _right(tokens, mask, [*sentinels[1:], sentinels[0]])


def _end_in_input(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Put the last sentinel behind the input as well."""
    read, said = _right(tokens, mask, sentinels)
    return [*read, said[-1]], said


def _cut_to_fit(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Let `zip` decide."""
    return _right(tokens[: len(mask)], mask[: len(tokens)], sentinels)


def index_error(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Let a list that is too short raise its own error."""
    spans = sum(taken for taken, _, _ in _runs(mask))
    if len(mask) != len(tokens) or set(tokens) & set(sentinels):
        raise ValueError("refused")
    if spans + 1 > len(sentinels):
        raise IndexError("list index out of range")
    return _right(tokens, mask, sentinels)


def first_sentinel_only(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Look in the text for the sentinels that are used."""
    spans = sum(taken for taken, _, _ in _runs(mask))
    if set(tokens) & set(sentinels[: spans + 1]):
        raise ValueError("sentinels in the text")
    return _guarded(_right, text=False)(tokens, mask, sentinels)


def kept_words_only(tokens: Any, mask: Any, sentinels: Any) -> Pair:
    """Look for sentinels among the kept words."""
    kept = [each for each, taken in zip(tokens, mask) if not taken]
    if set(kept) & set(sentinels):
        raise ValueError("sentinels in the text")
    return _guarded(_right, text=False)(tokens, mask, sentinels)


CORRUPT_SPANS = Exercise(
    name="corrupt_spans",
    lesson=15,
    points=4,
    probe=probes.corrupt_spans,
    draw=draw_corrupt_spans,
    oracle=oracle_corrupt_spans,
    finished=(finished_spans.corrupt_spans,),
    forbidden=("course_lib.models.spans",),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "a sentinel for each word",
            "You use a sentinel for each word: neighbouring words that are taken out share one, since they "
            "are one span.",
            (_guarded(_mark_for_each_word),),
        ),
        Mistake(
            "last sentinel forgotten",
            "Your target lacks the sentinel at its end: one more than there are spans tells that all is said.",
            (_guarded(_no_last),),
        ),
        Mistake(
            "mask inverted",
            "You take out what should stay: True in the mask means “taken out”.",
            (_guarded(_swapped),),
        ),
        Mistake(
            "one sentinel for all spans",
            "Each span needs a sentinel of its own, the next one of the list: yours all have the first.",
            (_guarded(_one_mark),),
        ),
        Mistake(
            "words stay in the input",
            "The words that are taken out still stand in your input, behind their sentinel.",
            (_guarded(_words_stay),),
        ),
        Mistake(
            "target without sentinels",
            "In your target no sentinel stands before its span, so nobody knows which words belong where.",
            (_guarded(_no_marks_in_target),),
        ),
        Mistake(
            "input without sentinels",
            "Your input does not show where words were taken out: put the span's sentinel there.",
            (_guarded(_no_marks_in_input),),
        ),
        Mistake(
            "sentinel behind its span",
            "In your target each sentinel stands behind its span: it comes first, then the words.",
            (_guarded(_mark_behind),),
        ),
        Mistake(
            "span at the end lost",
            "A span at the very end of the text is lost: you write a span down only when a kept word follows.",
            (_guarded(_span_at_end_lost),),
        ),
        Mistake(
            "the last token before the first",
            "A span at the beginning gets no sentinel if the last token is taken out, too: mask[i − 1] of the "
            "first token is mask[−1], the last.",
            (_guarded(_looks_round),),
        ),
        Mistake(
            "last sentinel repeated",
            "Your target ends with the last span's sentinel once more: it ends with the next one of the list.",
            (_guarded(_last_repeated),),
        ),
        Mistake(
            "last of all sentinels",
            "Your target ends with the last sentinel of the list: it ends with the first that was not used.",
            (_guarded(_last_of_all),),
        ),
        Mistake(
            "counted from one",
            "Your first span has the second sentinel: begin with sentinels[0].",
            (_guarded(_from_the_second),),
        ),
        Mistake(
            "last sentinel in the input",
            "The sentinel that ends the target stands in your input too: there is nothing to fill in there.",
            (_guarded(_end_in_input),),
        ),
        Mistake(
            "sentinels in the text accepted",
            "You accept texts that contain a sentinel: nobody could tell it from one that you put there.",
            (_guarded(_right, text=False),),
        ),
        Mistake(
            "unused sentinels accepted",
            "You look in the text only for the sentinels that this text needs: any sentinel must be refused.",
            (first_sentinel_only,),
        ),
        Mistake(
            "sentinels among the taken words",
            "You look for sentinels among the kept words only: they could stand among the taken ones, too.",
            (kept_words_only,),
        ),
        Mistake(
            "too few sentinels accepted",
            "With too few sentinels you go on and use one twice: raise a ValueError.",
            (_guarded(_right, number=False),),
        ),
        Mistake(
            "the last one not counted",
            "k spans need k + 1 sentinels: you forgot the one that ends the target, and use one twice.",
            (_guarded(_right, spare=0),),
        ),
        Mistake(
            "one too many asked for",
            "You refuse a text for which there are just enough sentinels: k spans need k + 1.",
            (_guarded(_right, spare=2),),
        ),
        Mistake(
            "an IndexError",
            "With too few sentinels your code stops with an IndexError: count first, and raise a ValueError.",
            (index_error,),
        ),
        Mistake(
            "length of the mask not checked",
            "A mask that is shorter or longer than the text must be refused; `zip` cuts it silently.",
            (_guarded(_cut_to_fit, length=False),),
        ),
    ),
    hints=(
        "Walk through tokens and mask side by side, with two lists to append to. When does a new span begin? "
        "Where this token is taken and the one before was not.",
        "At the beginning of a span its sentinel goes into *both* lists. Then a taken token goes into the "
        "target, a kept one into the input.",
        "Keep the number of spans so far: it is the index of the next sentinel, and at the end that of the "
        "sentinel that closes the target. The trap: k spans need k + 1 sentinels, so even a text from which "
        "nothing is taken needs one.",
        "Refuse first: `len(mask) != len(tokens)`; `set(sentinels) & set(tokens)` not empty; and in the loop, "
        "before a span begins, `spans + 1 >= len(sentinels)`.",
    ),
)

# --- restore_spans ---------------------------------------------------------------------------


def draw_restore_spans(seed: int) -> list[Case]:
    """Draw pairs of input and target, and such as do not fit together."""
    rng = random.Random(seed)

    def case(
        label: str,
        read: str | list[Any],
        said: str | list[Any],
        sentinels: list[Any] | None = None,
        refused: bool = False,
    ) -> Case:
        read = read.split() if isinstance(read, str) else read
        said = said.split() if isinstance(said, str) else said
        marks = MARKS if sentinels is None else sentinels
        inputs = {"read": read, "said": said, "sentinels": list(marks), "refused": refused}
        return Case(label, inputs)

    falling = list(range(99, 79, -1))
    text = [rng.randrange(50) for _ in range(24)]
    mask = [rng.random() < 0.4 for _ in text]
    read, said = finished_spans.corrupt_spans(text, mask, falling)
    return [
        case("one span of one word", "anna <0> the boat", "<0> saw <1>"),
        case("one span of two words", "anna <0> boat", "<0> saw the <1>"),
        case("two spans", "anna <0> the <1> boat", "<0> saw <1> little red <2>"),
        case("a span at the beginning", "<0> the boat", "<0> anna saw <1>"),
        case("a span at the end", "anna saw <0>", "<0> the boat <1>"),
        case("two spans side by side", "anna <0> <1> boat", "<0> saw <1> the <2>"),
        case("nothing taken out", "anna saw", "<0>"),
        case("everything taken out", "<0>", "<0> anna saw <1>"),
        case("an empty text", [], "<0>"),
        case("a span without words", "anna saw <0> boats <1>", "<0> <1> . <2>"),
        case("the same word in the input and in a span", "the <0> the river", "<0> boat the <1>"),
        case("just enough sentinels", "anna <0> boat", "<0> saw <1>", MARKS[:2]),
        case("numbers, sentinels that count down", [5, 99, 7], [99, 3, 3, 98], falling),
        case("a long text of numbers", read, said, falling),
        case("the target lacks its last sentinel", "a <0> b", "<0> x", refused=True),
        case("an empty target", "a b", [], refused=True),
        case("the target lacks a span", "a <0> b <1>", "<0> x <1>", refused=True),
        case("the target has a span too many", "a <0> b", "<0> x <1> y <2>", refused=True),
        case("the spans are out of order", "a <0> b <1>", "<1> x <0> y <2>", refused=True),
        case("the input is out of order", "a <1> b <0>", "<0> x <1> y <2>", refused=True),
        case("a sentinel twice in the input", "a <0> b <0>", "<0> x <1>", refused=True),
        case("a sentinel twice in the target", "a <0> b", "<0> x <0> y <1>", refused=True),
        case("words before the first sentinel", "a <0> b", "y <0> x <1>", refused=True),
        case("words behind the last sentinel", "a <0> b", "<0> x <1> y", refused=True),
        case("the input begins with the second", "a <1> b", "<1> x <2>", refused=True),
        case("too few sentinels", "a <0> b", "<0> x", MARKS[:1], refused=True),
        case("no sentinel left to end with", "a <0> b", "<0>", MARKS[:1], refused=True),
    ]


def oracle_restore_spans(
    read: list[Any], said: list[Any], sentinels: list[Any], refused: bool
) -> dict[str, Any]:
    """Cut the target at its sentinels."""
    if refused:
        return {"error": "ValueError"}
    return {"text": _fill(read, said, sentinels)}


def _spans_of(said: Sequence[Any], sentinels: Sequence[Any]) -> dict[Any, list[Any]]:
    """Return the tokens behind each sentinel of a target, up to the next one."""
    spans: dict[Any, list[Any]] = {}
    last: Any = None
    for token in said:
        if token in set(sentinels):
            last = token
            spans.setdefault(last, [])
        elif last is not None:
            spans[last].append(token)
    return spans


def _fill(read: Sequence[Any], said: Sequence[Any], sentinels: Sequence[Any]) -> list[Any]:
    spans = _spans_of(said, sentinels)
    text: list[Any] = []
    for token in read:
        text += spans.get(token, []) if token in set(sentinels) else [token]
    return text


GUARDS = ("input", "target", "first", "last")


def _refuse(
    read: Sequence[Any], said: Sequence[Any], sentinels: Sequence[Any], without: Sequence[str] = ()
) -> None:
    """Raise a ValueError as `restore_spans` does; some of its guards may be left out."""
    known = set(sentinels)
    holes = [each for each in read if each in known]
    marks = [each for each in said if each in known]
    wrong = {
        "input": holes != list(sentinels[: len(holes)]),
        "target": len(holes) + 1 > len(sentinels) or marks != list(sentinels[: len(holes) + 1]),
        "first": bool(said) and said[0] not in known,
        "last": not said or said[-1] not in known,
    }
    if any(wrong[each] for each in GUARDS if each not in without):
        raise ValueError("they do not fit")


def _checked(
    wrong: Callable[..., list[Any]] = _fill, *without: str
) -> Callable[[Any, Any, Any], list[Any]]:
    """Return a wrong solution that refuses what it should, but for the guards left out."""

    def restore(read: Any, said: Any, sentinels: Any) -> list[Any]:
        _refuse(read, said, sentinels, without)
        return wrong(read, said, sentinels)

    return restore


def _marks_stay(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Put the span behind its sentinel."""
    spans, text = _spans_of(said, sentinels), []
    for token in read:
        text += [token, *spans.get(token, [])]
    return text


def _first_word_only(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Put back one word of each span."""
    spans = {mark: words[:1] for mark, words in _spans_of(said, sentinels).items()}
    return [x for each in read for x in spans.get(each, [each])]


def _spans_behind(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Take the words before a sentinel for its span."""
    known, spans = set(sentinels), {}
    words: list[Any] = []
    for token in said:
        if token in known:
            spans[token], words = words, []
        else:
            words.append(token)
    return [x for each in read for x in spans.get(each, [each])]


def _at_the_end(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Write all spans behind the kept words."""
    known = set(sentinels)
    return [each for each in [*read, *said] if each not in known]


def _last_span_lost(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Forget the span before the last sentinel."""
    spans = _spans_of(said, sentinels)
    lost = sentinels[len(spans) - 2] if len(spans) > 1 else None
    return [
        x for each in read for x in ([] if each == lost else spans.get(each, [each]))
    ]  # fmt: skip


def _nested(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Put each span back as a list."""
    spans, text = _spans_of(said, sentinels), []
    for token in read:
        text.append(spans.get(token, token))
    return text


def _end_kept(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Leave the sentinel that ends the target at the end of the text."""
    return [*_fill(read, said, sentinels), said[-1]]


def empty_refused(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Refuse a span without words."""
    _refuse(read, said, sentinels)
    if any(not _spans_of(said, sentinels)[each] for each in said[:-1] if each in set(sentinels)):
        raise ValueError("an empty span")
    return _fill(read, said, sentinels)


def key_error(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Refuse by whatever error comes along."""
    try:
        _refuse(read, said, sentinels)
    except ValueError:
        raise KeyError("no such span") from None
    return _fill(read, said, sentinels)


def slice_too_short(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Compare with slices, which may be shorter than asked for."""
    known = set(sentinels)
    marks = [each for each in said if each in known]
    k = sum(each in known for each in read)
    _refuse(read, said, sentinels, ("target",))
    if marks != list(sentinels[: k + 1]):
        raise ValueError("they do not fit")
    return _fill(read, said, sentinels)


def order_ignored(read: Any, said: Any, sentinels: Any) -> list[Any]:
    """Compare the sets of sentinels."""
    known = set(sentinels)
    holes = [each for each in read if each in known]
    marks = [each for each in said if each in known]
    wanted = set(sentinels[: len(holes) + 1])
    if len(sentinels) <= len(holes) or set(marks) != wanted or len(marks) != len(wanted):
        raise ValueError("they do not fit")
    if len(set(holes)) != len(holes) or said[0] not in known or said[-1] not in known:
        raise ValueError("they do not fit")
    if set(holes) != set(sentinels[: len(holes)]):
        raise ValueError("they do not fit")
    return _fill(read, said, sentinels)


RESTORE_SPANS = Exercise(
    name="restore_spans",
    lesson=15,
    points=4,
    probe=probes.restore_spans,
    draw=draw_restore_spans,
    oracle=oracle_restore_spans,
    finished=(finished_spans.restore_spans,),
    forbidden=("course_lib.models.spans",),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake(
            "sentinels stay",
            "The sentinels still stand in your text: the span takes the sentinel's place.",
            (_checked(_marks_stay),),
        ),
        Mistake(
            "first word only",
            "You put back only the first word of each span: it goes on to the next sentinel.",
            (_checked(_first_word_only),),
        ),
        Mistake(
            "words before the sentinel",
            "You take the words before a sentinel for its span: they stand behind it.",
            (_checked(_spans_behind),),
        ),
        Mistake(
            "all at the end",
            "Your spans stand behind the kept words: each belongs where its sentinel stands.",
            (_checked(_at_the_end),),
        ),
        Mistake(
            "last span lost",
            "The last span is lost: it stands between the last two sentinels of the target.",
            (_checked(_last_span_lost),),
        ),
        Mistake(
            "lists in the text",
            "Your text contains lists: add the tokens of a span one by one (`+=` or `extend`).",
            (_checked(_nested),),
        ),
        Mistake(
            "the end mark kept",
            "Your text ends with the sentinel that ends the target: it belongs to no span.",
            (_checked(_end_kept),),
        ),
        Mistake(
            "empty spans refused",
            "You refuse a span without words: it is allowed, and vanishes.",
            (empty_refused,),
        ),
        Mistake(
            "nothing refused",
            "You never check whether input and target fit together: compare the sentinels of both with the list.",
            (_checked(_fill, *GUARDS),),
        ),
        Mistake(
            "input not checked",
            "You check the target and not the input: its sentinels must be the first k, in order, each once.",
            (_checked(_fill, "input"),),
        ),
        Mistake(
            "target not checked",
            "You check the input and not the sentinels of the target: they must be the first k + 1, in order.",
            (_checked(_fill, "target"),),
        ),
        Mistake(
            "order ignored",
            "You check which sentinels there are and not their order: compare lists, not sets.",
            (order_ignored,),
        ),
        Mistake(
            "words before the first accepted",
            "You accept a target with words before its first sentinel: they belong to no span.",
            (_checked(_fill, "first"),),
        ),
        Mistake(
            "words behind the last accepted",
            "You accept a target with words behind its last sentinel: the text ends there.",
            (_checked(_fill, "last"),),
        ),
        Mistake(
            "words outside accepted",
            "You compare the sentinels and nothing else: a target must also begin with the first and end with "
            "the last of them.",
            (_checked(_fill, "first", "last"),),
        ),
        Mistake(
            "slice too short",
            "`sentinels[:k + 1]` is shorter than k + 1 if the list is: check that there is a sentinel number k + 1.",
            (slice_too_short,),
        ),
        Mistake(
            "another error",
            "What does not fit together must be refused with a ValueError: yours stops with another error.",
            (key_error,),
        ),
    ),
    hints=(
        "Cut the target first: walk through it and collect, in a dictionary, the tokens behind each sentinel up "
        "to the next one.",
        "Then walk through the input: a sentinel gives way to its span, `text += spans[token]`; any other token "
        "stays.",
        "Check before that. The sentinels of the input, in the order in which they stand, must equal "
        "`list(sentinels[:k])`; those of the target `list(sentinels[:k + 1])`. With slices the trap is a list "
        "that is too short: is there a sentinel number k + 1 at all?",
        "Two more things can be wrong with a target whose sentinels are right: words before the first "
        "(`said[0]` is no sentinel), and words behind the last (`said[-1]` is none).",
    ),
)

# --- shift_right -----------------------------------------------------------------------------


def draw_shift_right(seed: int) -> list[Case]:
    """Draw labels, with and without positions that do not count."""
    g = torch.Generator().manual_seed(seed)

    def case(label: str, shape: tuple[int, ...], hidden: int = 0, **options: int) -> Case:
        labels = torch.randint(3, 60, shape, generator=g)
        if hidden:
            labels[..., -hidden:] = -100
        return Case(label, {"labels": labels, "options": options})

    inner = case("−100 in the middle", (2, 5), start=1, padding=2)
    inner.inputs["labels"][0, 1] = inner.inputs["labels"][1, 0] = -100
    wide = case("a non-contiguous tensor", (6, 3), start=1)
    wide.inputs["labels"] = wide.inputs["labels"].t()
    return [
        case("one label", (1, 1), start=1),
        case("three labels", (1, 3), start=1),
        case("a batch", (3, 4), start=2),
        case("neither start nor padding given", (2, 4), hidden=2),
        case("−100 at the end", (2, 5), hidden=3, start=1, padding=0),
        case("another number for padding", (2, 4), hidden=2, start=1, padding=7),
        inner,
        case("no axis for a batch", (4,), start=1),
        case("two axes for batches", (2, 3, 4), hidden=1, start=1, padding=2),
        case("no labels at all", (2, 0), start=1),
        wide,
    ]


def oracle_shift_right(labels: Tensor, options: dict[str, int]) -> dict[str, Tensor]:
    """Pad on the left, cut on the right."""
    heard = F.pad(labels, (1, 0), value=options.get("start", 0))[..., : labels.shape[-1]]
    return {"heard": torch.where(heard == -100, options.get("padding", 0), heard)}


def shifted_left(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Drop the first label, and put the mark at the end."""
    heard = torch.cat([labels[..., 1:], torch.full_like(labels[..., :1], start)], dim=-1)
    return heard.masked_fill(heard == -100, padding)


def rolled(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Let the last label come first."""
    heard = labels.roll(1, dims=-1)
    return heard.masked_fill(heard == -100, padding)


def last_kept(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Put the mark in front, and keep all labels."""
    first = labels.new_full((*labels.shape[:-1], 1), start)
    heard = torch.cat([first, labels], dim=-1)
    return heard.masked_fill(heard == -100, padding)


def first_lost(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Write the mark over the first label."""
    heard = labels.clone()
    heard[..., :1] = start
    return heard.masked_fill(heard == -100, padding)


def hundred_stays(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Forget what does not count."""
    return torch.cat([torch.full_like(labels[..., :1], start), labels[..., :-1]], dim=-1)


def hundred_is_start(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Let the mark be heard where nothing counts."""
    heard = hundred_stays(labels, start)
    return heard.masked_fill(heard == -100, start)


def start_is_padding(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Begin with padding whatever is said."""
    heard = hundred_stays(labels, padding)
    return heard.masked_fill(heard == -100, padding)


def start_is_zero(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Begin with 0, as T5 does."""
    heard = hundred_stays(labels, 0)
    return heard.masked_fill(heard == -100, padding)


def padding_is_zero(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Fill with 0, as T5 does."""
    heard = hundred_stays(labels, start)
    return heard.masked_fill(heard == -100, 0)


def along_the_batch(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Shift along the first axis."""
    heard = torch.cat([torch.full_like(labels[:1], start), labels[:-1]], dim=0)
    return heard.masked_fill(heard == -100, padding)


def in_place(labels: Tensor, start: int = 0, padding: int = 0) -> Tensor:
    """Write into the labels."""
    labels[..., 1:] = labels[..., :-1].clone()
    labels[..., :1] = start
    labels[labels == -100] = padding
    return labels


SHIFT_RIGHT = Exercise(
    name="shift_right",
    lesson=15,
    points=2,
    probe=probes.shift_right,
    draw=draw_shift_right,
    oracle=oracle_shift_right,
    finished=(finished.shift_right,),
    forbidden=("course_lib.models.t5",),
    minutes=8,
    difficulty=1,
    mistakes=(
        Mistake(
            "shifted left",
            "You shifted to the left: the mark comes first, and the last label is what is never heard.",
            (shifted_left,),
        ),
        Mistake(
            "rolled",
            "Your last label comes first: the decoder would hear the end before it begins. Put the start mark there.",
            (rolled,),
        ),
        Mistake(
            "last label kept",
            "You put the mark in front and kept all labels: the last one is said and never heard, so drop it.",
            (last_kept,),
        ),
        Mistake(
            "first label lost",
            "You wrote the mark over the first label, and shifted nothing.",
            (first_lost,),
        ),
        Mistake(
            "−100 is heard",
            "−100 is no token and has no row in the table: let padding be heard there.",
            (hundred_stays,),
        ),
        Mistake(
            "the mark where nothing counts",
            "Where the labels have −100 you let the start mark be heard: padding belongs there.",
            (hundred_is_start,),
        ),
        Mistake(
            "padding for the mark",
            "You begin with `padding`: the first token is `start`.",
            (start_is_padding,),
        ),
        Mistake(
            "zero for the mark",
            "You begin with 0 whatever `start` is.",
            (start_is_zero,),
        ),
        Mistake(
            "zero for padding",
            "You fill with 0 whatever `padding` is.",
            (padding_is_zero,),
        ),
        Mistake(
            "along the batch",
            "You shifted along the first axis: each text is shifted by itself, along the last.",
            (along_the_batch,),
        ),
        Mistake(
            "in place",
            "You wrote into the labels themselves: the loss still needs them. Make a new tensor.",
            (in_place,),
        ),
    ),
    hints=(
        "What does the decoder hear before it says its first token? And before it says the second?",
        "`torch.cat` along the last axis: a column with `start`, then `labels[..., :-1]`. "
        "`torch.full_like(labels[..., :1], start)` is such a column.",
        "The trap is −100. It marks labels that the loss does not count, and no row of the table has this "
        "number: `masked_fill(heard == -100, padding)` makes a new tensor without it.",
    ),
)

# --- T5Attention -----------------------------------------------------------------------------


def draw_t5_attention(seed: int) -> list[Case]:
    """Draw layers and inputs: biases, masks, contexts, a cache."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, int, int],
        n_heads: int,
        d_head: int,
        dtype: torch.dtype = torch.float32,
        mask: Tensor | None = None,
        bias: bool = False,
        n_context: int | None = None,
        n_cached: int | None = None,
        size: float = 1.0,
    ) -> Case:
        batch, n, d_model = shape

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        width = n_heads * d_head
        weights = {f"to_{name}.weight": draw(width, d_model) / math.sqrt(d_model) for name in "qkv"}
        weights["to_q.weight"] = weights["to_q.weight"] * size
        weights["to_out.weight"] = draw(d_model, width) / math.sqrt(width)
        n_k = n if n_context is None else n_context
        cached = None
        if n_cached is not None:
            n_k += n_cached
            cached = [draw(batch, n_heads, n_k, d_head) for _ in range(2)]
        return Case(
            label,
            {
                "sizes": {"d_model": d_model, "n_heads": n_heads, "d_head": d_head},
                "weights": weights,
                "x": draw(batch, n, d_model),
                "context": None if n_context is None else draw(batch, n_context, d_model),
                "mask": mask,
                "bias": draw(n_heads, n, n_k) if bias else None,
                "cached": cached,
                "cotangent": draw(batch, n, d_model),
            },
        )

    def real(n_k: int, *lengths: int) -> Tensor:
        return (torch.arange(n_k) < torch.tensor(lengths)[:, None])[:, None]

    hidden_row = causal_mask(4).repeat(2, 1, 1)
    hidden_row[1, 2] = False
    strided = case("a non-contiguous input", (2, 4, 6), 2, 3, bias=True)
    strided.inputs["x"] = strided.inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    return [
        case("two positions, one head of width 2", (1, 2, 2), 1, 2, f64),
        case("a bias", (1, 3, 2), 1, 2, f64, bias=True),
        case("two heads, a bias for each", (2, 3, 4), 2, 2, bias=True),
        case("heads wider than d_model / h", (2, 3, 4), 2, 5, f64, bias=True),
        case("a causal mask and a bias", (2, 4, 6), 2, 3, mask=causal_mask(4), bias=True),
        case("as many texts as heads, padded", (3, 4, 6), 3, 2, mask=real(4, 4, 1, 2), bias=True),
        case("cross-attention, no bias", (2, 3, 4), 2, 3, f64, n_context=5),
        case(
            "cross-attention to a padded context", (2, 4, 4), 2, 2, mask=real(4, 2, 4), n_context=4
        ),
        case("a fully masked row", (2, 4, 4), 2, 2, f64, mask=hidden_row, bias=True),
        case(
            "a batch of one, odd widths, float64",
            (1, 5, 7),
            3,
            5,
            f64,
            mask=real(5, 3) & causal_mask(5),
            bias=True,
        ),
        case("large scores", (1, 3, 4), 2, 3, f64, bias=True, size=4000.0),
        case("a cache that holds three positions", (2, 2, 6), 2, 3, f64, bias=True, n_cached=3),
        strided,
    ]


def oracle_t5_attention(
    sizes: dict[str, int],
    weights: dict[str, Tensor],
    x: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    cached: list[Tensor] | None,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Compose F.linear and F.scaled_dot_product_attention(scale=1) with the bias as its mask, in float64."""
    dtype = x.dtype
    h, d_head = sizes["n_heads"], sizes["d_head"]
    matrices = {name: each.detach().double().requires_grad_() for name, each in weights.items()}
    leaf = x.detach().double().requires_grad_()
    wrt = {"x": leaf, **matrices}
    memory = leaf
    if context is not None:
        memory = wrt["context"] = context.detach().double().requires_grad_()

    def heads(name: str, inputs: Tensor) -> Tensor:
        made = F.linear(inputs, matrices[f"{name}.weight"])
        return torch.stack(made.split(d_head, dim=-1), dim=1)  # (B, h, n, d_head)

    q, new_k, new_v = heads("to_q", leaf), heads("to_k", memory), heads("to_v", memory)
    k, v = (new_k, new_v) if cached is None else (each.double() for each in cached)
    shape = (x.shape[0], h, x.shape[1], k.shape[-2])
    added = torch.zeros(shape, dtype=f64)
    if bias is not None:
        wrt["bias"] = bias.detach().double().requires_grad_()
        added = added + wrt["bias"]
    shown = torch.ones(shape, dtype=torch.bool)
    if mask is not None:
        shown = mask.expand(x.shape[0], *mask.shape[-2:])[:, None].expand(shape)
        added = added.masked_fill(~shown, -math.inf)
    silent = ~shown.any(-1, keepdim=True)  # rows that would become NaN
    added = added.masked_fill(silent, 0.0)
    identity = torch.eye(k.shape[-2], dtype=f64).expand(*k.shape[:2], -1, -1)
    said, attended = (
        F.scaled_dot_product_attention(q, k, each, attn_mask=added, scale=1.0) * ~silent
        for each in (v, identity)
    )
    output = F.linear(torch.cat(said.unbind(1), dim=-1), matrices["to_out.weight"])
    found = {"output": output, "weights": attended}
    found |= gradients(output, cotangent.double(), wrt)
    if cached is not None:
        found |= {"keys given to the cache": new_k, "values given to the cache": new_v}
    expected: dict[str, Any] = {name: each.detach().to(dtype) for name, each in found.items()}
    if cached is not None:
        expected["number of calls of cache.update"] = 1
    return expected


class _Variant(finished.T5Attention):
    """A T5Attention that goes wrong in one way, which its subclasses say."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what queries, keys and values are made of."""
        source = x if context is None else context
        return x, source, source

    def cut(self, each: Tensor) -> Tensor:
        """Cut into heads."""
        return split_heads(each, self.n_heads)

    def remember(self, cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange new keys and values for all of them."""
        return (k, v) if cache is None else cache.update(k, v)

    def scored(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the scores without a bias."""
        return q @ k.transpose(-2, -1)

    def biased(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Add the bias."""
        return scores + bias

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the weights."""
        if mask is None:
            return scores.softmax(-1)
        mask = self.per_head(mask)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask

    def per_head(self, mask: Tensor) -> Tensor:
        """Make room in the mask for heads."""
        return mask.unsqueeze(-3)

    def finish(self, said: Tensor) -> Tensor:
        """Join the heads."""
        return self.to_out(merge_heads(said))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        cache: Any = None,
    ) -> Any:
        """Attend with every head."""
        asking, found, saying = self.sources(x, context)
        q, k, v = (
            self.cut(layer(each))
            for layer, each in (
                (self.to_q, asking),
                (self.to_k, found),
                (self.to_v, saying),
            )
        )
        k, v = self.remember(cache, k, v)
        scores = self.scored(q, k)
        if bias is not None:
            scores = self.biased(scores, bias)
        weights = self.weighed(scores, mask)
        return self.finish(weights @ v), weights


class Scaled(_Variant):
    """Divide the scores by √d_head."""

    def scored(self, q: Tensor, k: Tensor) -> Tensor:
        """Scale as lesson 07 does."""
        return q @ k.transpose(-2, -1) / math.sqrt(self.d_head)


class ScaledWithBias(_Variant):
    """Divide scores and bias by √d_head."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Scale the sum."""
        return super().weighed(scores / math.sqrt(self.d_head), mask)


class BiasIgnored(_Variant):
    """Never add the bias."""

    def biased(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Forget the bias."""
        return scores


class BiasSubtracted(_Variant):
    """Subtract the bias."""

    def biased(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Take it for a penalty."""
        return scores - bias


class BiasMultiplied(_Variant):
    """Multiply by the bias."""

    def biased(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Take it for a factor."""
        return scores * bias


class OneBias(_Variant):
    """Give every head the bias of the first."""

    def biased(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Take the first head's."""
        return scores + bias[:1]


class MeanBias(_Variant):
    """Give every head the mean of all biases."""

    def biased(self, scores: Tensor, bias: Tensor) -> Tensor:
        """Average over heads."""
        return scores + bias.mean(0)


class BiasAfterSoftmax(_Variant):
    """Add the bias to the weights."""

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        cache: Any = None,
    ) -> Any:
        """Add it too late."""
        source = x if context is None else context
        q, k, v = self.cut(self.to_q(x)), self.cut(self.to_k(source)), self.cut(self.to_v(source))
        k, v = self.remember(cache, k, v)
        weights = self.weighed(self.scored(q, k), mask)
        if bias is not None:
            weights = weights + bias
        return self.finish(weights @ v), weights


class NoOutputProjection(_Variant):
    """Give the heads back one after the other, projected by nothing."""

    def finish(self, said: Tensor) -> Tensor:
        """Forget to_out."""
        return merge_heads(said)


class MaskIgnored(_Variant):
    """Never look at the mask."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Let everyone attend to everyone."""
        return scores.softmax(-1)


class MaskInverted(_Variant):
    """Hide what may be attended to."""

    def per_head(self, mask: Tensor) -> Tensor:
        """Turn the mask over."""
        return ~mask.unsqueeze(-3)


class InvertedUniform(_Variant):
    """Hide what may be attended to, and leave it at that."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Read True as "hide", as PyTorch's own layer does."""
        if mask is not None:
            scores = scores.masked_fill(self.per_head(mask), torch.finfo(scores.dtype).min)
        return scores.softmax(-1)


class InvertedNaN(_Variant):
    """Hide what may be attended to with −∞."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Read True as "hide", as PyTorch's own layer does."""
        if mask is not None:
            scores = scores.masked_fill(self.per_head(mask), -math.inf)
        return scores.softmax(-1)


class MaskMeetsHeads(_Variant):
    """Let the mask's batch axis meet the axis of heads."""

    def per_head(self, mask: Tensor) -> Tensor:
        """Leave the mask as it is."""
        return mask


class MaskAfterSoftmax(_Variant):
    """Set weights to zero after the softmax."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Hide too late."""
        weights = scores.softmax(-1)
        return weights if mask is None else weights * self.per_head(mask)


class NotANumber(_Variant):
    """Fill with −∞ and leave it at that."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Forget rows that are masked everywhere."""
        if mask is not None:
            scores = scores.masked_fill(~self.per_head(mask), -math.inf)
        return scores.softmax(-1)


class UniformRow(_Variant):
    """Fill with a large negative number and leave it at that."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Forget rows that are masked everywhere."""
        if mask is not None:
            scores = scores.masked_fill(~self.per_head(mask), torch.finfo(scores.dtype).min)
        return scores.softmax(-1)


class Overflows(_Variant):
    """Write the softmax without subtracting the maximum."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Take the exponential of large numbers."""
        powers = scores.exp()
        if mask is not None:
            powers = powers * self.per_head(mask)
        total = powers.sum(-1, keepdim=True)
        return powers / torch.where(total == 0, torch.ones_like(total), total)


class OverQueries(_Variant):
    """Let the weights of each key sum to 1."""

    def weighed(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Take the softmax over the wrong axis."""
        if mask is None:
            return scores.softmax(-2)
        mask = self.per_head(mask)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-2) * mask


class ContextIgnored(_Variant):
    """Always attend to x."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Forget the context."""
        return x, x, x


class ContextAsks(_Variant):
    """Let the context ask and x be asked."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Swap the two."""
        return (x if context is None else context), x, x


class KeysOfX(_Variant):
    """Take keys from x and values from the context."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Use the context for values alone."""
        return x, x, (x if context is None else context)


class ValuesOfX(_Variant):
    """Take values from x and keys from the context."""

    def sources(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Use the context for keys alone."""
        return x, (x if context is None else context), x


class CacheNotAsked(_Variant):
    """Attend to the new positions alone."""

    def remember(self, cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Forget the cache."""
        return k, v


class HeadsOfPositions(_Variant):
    """Cut into heads by a reshape alone."""

    def cut(self, each: Tensor) -> Tensor:
        """Mix positions and heads."""
        batch, n, _ = each.shape
        return each.reshape(batch, self.n_heads, n, self.d_head)


T5_ATTENTION = Exercise(
    name="T5Attention",
    lesson=15,
    points=5,
    probe=probes.t5_attention,
    draw=draw_t5_attention,
    oracle=oracle_t5_attention,
    finished=(finished.T5Attention,),
    forbidden=(
        "torch.nn.functional.scaled_dot_product_attention",
        "torch.nn.functional.multi_head_attention_forward",
        "torch.nn.MultiheadAttention",
        "course_lib.models.t5",
    ),
    minutes=20,
    difficulty=3,
    mistakes=(
        Mistake("scaled", "You divided the scores by √d_head: T5 does not.", (Scaled,)),
        Mistake(
            "scaled with the bias",
            "You divided scores and bias by √d_head: T5 divides neither.",
            (ScaledWithBias,),
        ),
        Mistake("bias ignored", "You never add `bias` to the scores.", (BiasIgnored,)),
        Mistake("bias subtracted", "You subtract the bias: add it.", (BiasSubtracted,)),
        Mistake(
            "bias multiplied", "You multiply the scores by the bias: add it.", (BiasMultiplied,)
        ),
        Mistake(
            "one bias for all heads",
            "All your heads add the first head's bias: each has its own.",
            (OneBias,),
        ),
        Mistake(
            "mean of the biases",
            "All your heads add the mean of the biases: each has its own.",
            (MeanBias,),
        ),
        Mistake(
            "bias after the softmax",
            "You add the bias to the weights, so that they no longer sum to 1: it belongs to the scores, before "
            "the softmax.",
            (BiasAfterSoftmax,),
        ),
        Mistake(
            "no output projection",
            "The heads' outputs do not go through `self.to_out`.",
            (NoOutputProjection,),
        ),
        Mistake("mask ignored", "You never use `mask`.", (MaskIgnored,)),
        Mistake(
            "mask inverted",
            "Your mask keeps what it should hide: True means “may attend”.",
            (MaskInverted,),
        ),
        Mistake(
            "mask inverted, equal rows",
            "Your mask hides where it says True: here True means “may attend”, so hide where it is False.",
            (InvertedUniform,),
        ),
        Mistake(
            "mask inverted, NaN",
            "You fill with −∞ where the mask is True: True means “may attend”, so hide where it is False.",
            (InvertedNaN,),
        ),
        Mistake(
            "mask meets heads",
            "The mask's batch axis meets the axis of heads: give it an axis of size 1 there, `mask.unsqueeze(-3)`.",
            (MaskMeetsHeads,),
        ),
        Mistake(
            "mask after the softmax",
            "You applied the mask after the softmax alone, so the weights no longer sum to 1: hide the scores "
            "before it.",
            (MaskAfterSoftmax,),
        ),
        Mistake(
            "NaN in a masked row",
            "A row that is masked everywhere gives NaN: it should give zeros.",
            (NotANumber,),
        ),
        Mistake(
            "uniform masked row",
            "A row that is masked everywhere attends to everything equally: multiply the weights by the mask.",
            (UniformRow,),
        ),
        Mistake(
            "softmax overflows",
            "Your own softmax overflows for large scores, common without the division: call `.softmax(dim=…)`.",
            (Overflows,),
        ),
        Mistake(
            "softmax over queries",
            "Softmax over the wrong axis: each query's weights over the keys must sum to 1.",
            (OverQueries,),
        ),
        Mistake(
            "context ignored",
            "You ignore `context`: keys and values come from it, if it is given.",
            (ContextIgnored,),
        ),
        Mistake(
            "context asks",
            "Your context asks and x is asked: queries come from x, keys and values from the context.",
            (ContextAsks,),
        ),
        Mistake(
            "keys of x",
            "Your keys come from x and your values from the context: both come from the context.",
            (KeysOfX,),
        ),
        Mistake(
            "values of x",
            "Your values come from x and your keys from the context: both come from the context.",
            (ValuesOfX,),
        ),
        Mistake(
            "cache not asked",
            "With a cache your keys and values do not fit: once they are cut into heads, replace both by what "
            "`cache.update(k, v)` returns, those of all positions so far.",
            (CacheNotAsked,),
        ),
        Mistake(
            "heads of positions",
            "Your heads are made of several positions: `split_heads` cuts each vector, then swaps two axes.",
            (HeadsOfPositions,),
        ),
    ),
    hints=(
        "Write lesson 08's MultiHeadAttention down from memory: project, split into heads, cache, attend, merge, "
        "project. Then change two things in *attend*.",
        "The two changes: the scores are `q @ k.transpose(-2, -1)` and nothing else, and `bias`, where given, is "
        "added to them before the mask. Its shape (h, n_q, n_k) fits as it is.",
        "The mask has no axis for heads: `mask.unsqueeze(-3)`. Hide with the most negative finite number, "
        "`torch.finfo(scores.dtype).min`.",
        "The trap is a row that is masked everywhere: after the softmax its weights are equal, not 0, so multiply "
        "the weights by the mask. Then `self.to_out(merge_heads(weights @ v)), weights`.",
    ),
)

EXERCISES = (CORRUPT_SPANS, RESTORE_SPANS, SHIFT_RIGHT, T5_ATTENTION)
