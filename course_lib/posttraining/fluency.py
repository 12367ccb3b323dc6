"""How fluent a reply is, by the town's own grammar of replies (lessons 19 and 20)."""

from functools import cache

from course_lib.data.riverbank.pcfg import Grammar


@cache
def grammar_loss(grammar: Grammar, text: str) -> float:
    """Return the nats a token of a reply under a grammar of single sentences; infinite where it has none such.

    Args:
        grammar: of sentences that end in a full stop.
        text: sentences, one after the other, words and full stops apart.

    """
    sentences = [(*sentence.split(), ".") for sentence in text.split(" .") if sentence.strip()]
    return -sum(map(grammar.log_prob, sentences)) / max(1, sum(map(len, sentences)))
