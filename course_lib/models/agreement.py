"""Questions of agreement: which form has a verb whose subject stands some words back? (lessons 04, 13)"""

import math
from dataclasses import dataclass
from typing import Any

from course_lib.data.riverbank import Sentence, Town


@dataclass(frozen=True)
class Choice:
    """A text up to a verb, and the verb's two forms.

    Attributes:
        before: the words before the verb, from the beginning of its document.
        right: the form that agrees with the subject.
        wrong: the other one.
        distance: how many words back the subject stands, 1 for the word in front of the verb.

    """

    before: tuple[str, ...]
    right: str
    wrong: str
    distance: int


def agreement_questions(
    town: Town, n_documents: int, seed: int, most: int
) -> dict[int, list[Choice]]:
    """Take subjects and verbs out of documents, each with its twin: the subject in the other number.

    The two questions of a pair have the same words between subject and verb, and opposite answers. So a
    model that looks at fewer words than the distance is right in exactly one of them. Only those pairs are
    taken of which the grammar allows both (Linzen, Dupoux & Goldberg 2016, and Marvin & Linzen 2018, for
    English).

    Args:
        town: whose documents they are.
        n_documents: how many documents are searched.
        seed: of the documents.
        most: how many pairs are kept of each distance.

    Returns:
        For each distance its questions, the two of a pair one after the other.

    """
    verbs, nouns = _two_forms(town)
    found: dict[int, list[Choice]] = {}
    for document in town.documents(n_documents, seed=seed):
        earlier: list[str] = []
        for sentence in document.sentences:
            for i, j in _subjects(sentence, verbs, nouns):
                kept = found.setdefault(i - j, [])
                before, verb = sentence.tokens[:i], sentence.tokens[i]
                twin = [*before[:j], nouns[before[j]], *before[j + 1 :]]
                symbol = sentence.tree.symbol
                if len(kept) >= 2 * most or not _allowed(town, [*twin, verbs[verb]], symbol):
                    continue
                for words, right, wrong in (
                    (before, verb, verbs[verb]),
                    (twin, verbs[verb], verb),
                ):
                    kept.append(Choice((*earlier, *words), right, wrong, i - j))
            earlier += sentence.tokens
    return dict(sorted(found.items()))


def _two_forms(town: Town) -> tuple[dict[str, str], dict[str, str]]:
    """Return each finite verb's other form, and each noun's other number."""
    relations = town.lexicon.relations
    verbs = {a.form: b.form for a, b in relations["verb_third_person"]}
    verbs |= {"are": "is", "were": "was", "have": "has"}
    nouns = {a.form: b.form for a, b in relations["singular_plural"]}
    for forms in (verbs, nouns):
        forms |= {other: one for one, other in forms.items()}
    return verbs, nouns


def _subjects(
    sentence: Sentence, verbs: dict[str, str], nouns: dict[str, str]
) -> list[tuple[int, int]]:
    """Return the places of each finite verb with two forms and of its subject, a noun with two."""
    tokens, heads, labels = sentence.tokens, sentence.heads, sentence.labels
    found = []
    for i, verb in enumerate(tokens):
        leaf: Any = sentence.leaves[i]
        if verb not in verbs or ("VerbForm", "Fin") not in leaf.word.feats:
            continue
        predicate = heads[i] if labels[i] in ("aux", "cop", "aux:pass") else i + 1
        found += [
            (i, j)
            for j in range(i)
            if heads[j] == predicate and labels[j] == "nsubj" and tokens[j] in nouns
        ]
    return found


def _allowed(town: Town, tokens: list[str], symbol: str) -> bool:
    """Tell whether a sentence of this kind can begin with these tokens."""
    return sum(town.grammar.token_log_probs(tokens, symbol)) > -math.inf
