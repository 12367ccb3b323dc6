"""What can stand in a blank of a text of Riverbank, and how probable it is: exactly (lesson 14)."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from course_lib.data.riverbank import Town, TownError
from course_lib.data.riverbank.pcfg import Forward


def exact_blank(town: Town, words: Sequence[str], place: int) -> dict[str, float]:
    """Return the exact probability of each word in a blank, given all the words around it.

    By Bayes' rule it is P(before, word, after) divided by the sum of that over all words; both are sums
    over all derivations of the town's grammar.

    Args:
        town: whose text it is.
        words: the beginning of a document, or a whole one; what stands at ``place`` is not looked at.
        place: where the blank is, counted from 0.

    Returns:
        The words that can stand there, the most probable first, with probabilities that add up to 1.

    Raises:
        TownError: no text of the town has these words around a blank.

    """
    after = list(words[place + 1 :])
    scores: dict[str, float] = {}
    for word, fork in _continuations(town.forward(words[:place])):
        total = fork.advance(word, after[0] if after else None)
        for token, following in zip(after, [*after[1:], None]):
            if not fork.stacks:  # nothing can go on here
                break
            total += fork.advance(token, following)
        if fork.stacks:
            scores[word] = total
    if not scores:
        raise TownError(
            f"no text of Riverbank has a blank between {' '.join(words[:place][-4:])!r} and "
            f"{' '.join(after[:4])!r}; give the beginning of a document"
        )
    best = max(scores.values())
    weights = {word: math.exp(score - best) for word, score in scores.items()}
    total = math.fsum(weights.values())
    return {word: w / total for word, w in sorted(weights.items(), key=lambda each: -each[1])}


def _continuations(state: Forward) -> Iterator[tuple[str, Forward]]:
    """Yield each word that can come next, with a pass of its own that is ready to read it.

    Each pass keeps those stacks of pending symbols alone that can go on with its word.
    """
    stacks_of: dict[str, dict[Any, float]] = {}
    for stack, prob in state.stacks.items():
        if stack is not None:
            firsts = [stack.top] if isinstance(stack.top, str) else stack.top.next_words()
            for word in firsts:
                stacks_of.setdefault(word, {})[stack] = prob
    for word, stacks in stacks_of.items():
        fork = Forward(state.symbol)
        fork._interned, fork.stacks = state._interned, stacks
        yield word, fork
