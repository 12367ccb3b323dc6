"""Lesson 15's span corruption: it restores any text, refuses what it cannot restore, and takes out what it should."""

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from course_lib.models.spans import (
    corrupt_spans,
    count_noise,
    cut_into_pieces,
    draw_mask,
    restore_spans,
)

MARKS = [f"<{i}>" for i in range(200)]
# Words and numbers of any kind, among them empty strings, spaces, and what merely looks like a sentinel.
tokens_ = st.one_of(st.text(max_size=5).filter(lambda each: each not in MARKS), st.integers())


@st.composite
def marked_texts(draw: st.DrawFn) -> tuple[list[Any], list[bool]]:
    tokens = draw(st.lists(tokens_, max_size=60))
    mask = draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    return tokens, mask


def spans_in(mask: list[bool]) -> int:
    return sum(taken and not before for before, taken in zip([False, *mask], mask))


@given(marked=marked_texts(), spare=st.integers(0, 3))
@example(([], []), 0)
@example((["a"], [True]), 0)
@example((["a", "a", "a"], [True, False, True]), 0)
@example((["", "", ""], [False, True, True]), 0)
def test_whatever_is_taken_out_is_put_back(
    marked: tuple[list[Any], list[bool]], spare: int
) -> None:
    tokens, mask = marked
    sentinels = MARKS[: spans_in(mask) + 1 + spare]
    read, said = corrupt_spans(tokens, mask, sentinels)
    assert restore_spans(read, said, sentinels) == tokens
    # what is read and what is said are the text and the sentinels, and nothing else
    assert len(read) == len(tokens) - sum(mask) + spans_in(mask)
    assert len(said) == sum(mask) + spans_in(mask) + 1
    assert [each for each in said if each in MARKS] == sentinels[: spans_in(mask) + 1]
    assert [each for each in read if each in MARKS] == sentinels[: spans_in(mask)]


@given(marked=marked_texts(), place=st.integers(0, 60), mark=st.sampled_from(MARKS))
def test_a_text_that_contains_a_sentinel_is_refused(
    marked: tuple[list[Any], list[bool]], place: int, mark: str
) -> None:
    tokens, mask = marked
    place = min(place, len(tokens))
    tokens, mask = [*tokens[:place], mark, *tokens[place:]], [*mask[:place], False, *mask[place:]]
    with pytest.raises(ValueError, match="contains"):
        corrupt_spans(tokens, mask, MARKS)


@given(marked=marked_texts(), n=st.integers(0, 30))
def test_it_is_refused_exactly_when_there_are_too_few_sentinels(
    marked: tuple[list[Any], list[bool]], n: int
) -> None:
    tokens, mask = marked
    if spans_in(mask) + 1 > n:
        with pytest.raises(ValueError, match="sentinel"):
            corrupt_spans(tokens, mask, MARKS[:n])
    else:
        corrupt_spans(tokens, mask, MARKS[:n])


@given(
    read=st.lists(st.sampled_from("ab012"), max_size=8),
    said=st.lists(st.sampled_from("ab012"), max_size=8),
)
def test_what_is_restored_is_corrupted_into_the_same_or_refused(
    read: list[str], said: list[str]
) -> None:
    sentinels = ["0", "1", "2"]
    try:
        tokens = restore_spans(read, said, sentinels)
    except ValueError:
        return
    assert not set(tokens) & set(sentinels)
    kept, spans = [each for each in read if each not in sentinels], []
    for each in said[:-1]:
        if each not in sentinels:
            spans.append(each)
    assert sorted(tokens) == sorted(kept + spans)


@given(
    n=st.integers(0, 300),
    rate=st.floats(0.01, 0.99),
    mean=st.floats(1.0, 12.0),
    seed=st.integers(0, 2**31),
)
@example(1, 0.15, 3.0, 0)
@example(2, 0.5, 1.0, 0)
def test_a_drawn_mask_has_the_counted_tokens_and_spans(
    n: int, rate: float, mean: float, seed: int
) -> None:
    mask = draw_mask(n, random.Random(seed), rate, mean)
    assert len(mask) == n
    taken, spans = count_noise(n, rate, mean)
    if n >= 2:
        assert sum(mask) == taken
        assert spans_in(mask) == spans
        assert not mask[0]  # a kept piece comes first
        assert mask[-1]  # and a taken one last
    else:
        assert not any(mask)


def test_the_counts_are_those_of_the_papers_code() -> None:
    # 512 read and 114 said in T5's pretraining, the end mark on both sides, come from 568 tokens
    taken, spans = count_noise(568)
    assert (taken, spans) == (85, 28)
    assert 568 - taken + spans + 1 == 512
    assert taken + spans + 1 == 114
    assert count_noise(10) == (2, 1)  # 1.5 rounds to the even number
    assert count_noise(30) == (4, 1)  # 4.5 too


@pytest.mark.parametrize(("rate", "mean"), [(0.0, 3.0), (1.0, 3.0), (-0.1, 3.0), (0.15, 0.9)])
def test_rates_and_lengths_out_of_range_are_refused(rate: float, mean: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        count_noise(20, rate, mean)


def test_every_division_into_pieces_is_equally_probable() -> None:
    rng = random.Random(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        division = tuple(cut_into_pieces(5, 3, rng))
        counts[division] = counts.get(division, 0) + 1
    assert len(counts) == 6  # (1, 1, 3) and so on: 4 over 2
    expected = 6000 / len(counts)
    assert (
        sum((each - expected) ** 2 / expected for each in counts.values()) < 20.5
    )  # chi-square, 1 in 1,000
