"""What the parts of lesson 04 agree on: the marks of a text's ends, and what a table and a model are."""

from collections import Counter
from collections.abc import Callable

START, END = "<s>", "<end>"  # stand before and behind each document; START is never predicted

Context = tuple[str, ...]
Table = dict[Context, Counter[str]]  # which words followed each context, and how often
Model = Callable[[str, Context], float]  # the probability of a word after a context
