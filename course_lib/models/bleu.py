"""BLEU, the usual yardstick of translations (lesson 06)."""

import math
from collections import Counter
from collections.abc import Sequence


def ngram_counts(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Return how often each run of n words occurs in a sentence."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]], max_n: int = 4
) -> float:
    """Return the BLEU of a whole corpus, from 0 to 100, with one reference for each hypothesis.

    Papineni, Roukos, Ward and Zhu 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation",
    section 2.3. No smoothing: 0 if for some n no n-gram of the hypotheses is right.

    Args:
        hypotheses: the translations to judge, as lists of words.
        references: the right translations, in the same order.
        max_n: the longest n-grams that count.

    Returns:
        100 · BP · exp of the mean, over n = 1 … max_n, of the logarithm of the n-gram precision.

    """
    ### BEGIN SOLUTION
    log_precisions = 0.0
    for n in range(1, max_n + 1):
        right = said = 0
        for hypothesis, reference in zip(hypotheses, references):
            counts = ngram_counts(hypothesis, n)
            right += (counts & ngram_counts(reference, n)).total()  # & keeps the smaller count of each
            said += counts.total()
        if right == 0:
            return 0.0
        log_precisions += math.log(right / said)
    length = sum(map(len, hypotheses))
    reference_length = sum(map(len, references))
    log_brevity = min(0.0, 1 - reference_length / length)
    return 100 * math.exp(log_brevity + log_precisions / max_n)
    ### END SOLUTION
