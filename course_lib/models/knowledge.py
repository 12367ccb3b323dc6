"""What a language model knows of the town: its text, its facts, its grammar, each beside the known truth."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from course_lib.data.riverbank import Document, Fact, Town
from course_lib.models.agreement import Choice
from course_lib.models.gpt import GPT
from course_lib.models.sampling import draw, generate
from course_lib.models.shipped import END_OF_TEXT, PAD, text_ids
from course_lib.models.tokenization import Tokenizer

Row = tuple[
    list[int], list[int]
]  # the tokens that are given, and those whose probability is asked for


@torch.no_grad()
def log_probs_of(
    model: GPT, tokenizer: Tokenizer, rows: Sequence[Row], batch: int = 64
) -> list[float]:
    """Return, for each row, the log-probability in nats of its second part after its first.

    Of a text that is longer than the model reads, the first token and the end are read: without the token with
    which every text of its training begins, the model would be lost.
    """
    room, pad = model.config.max_len, tokenizer.special[PAD]
    device = next(model.parameters()).device
    lengths = [min(room, len(given) + len(asked) - 1) for given, asked in rows]
    found = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        longest = lengths[chosen[-1]]
        ids = torch.full((len(chosen), longest + 1), pad)  # (B, n + 1)
        due = torch.full((len(chosen), longest), -100)  # (B, n)
        for k, i in enumerate(chosen):
            given, asked = rows[i]
            tokens, n = given + asked, min(len(asked), room)
            if len(tokens) > room + 1:
                tokens = tokens[:1] + tokens[-room:]
            ids[k, : len(tokens)] = torch.tensor(tokens)
            due[k, len(tokens) - 1 - n : len(tokens) - 1] = torch.tensor(asked[-n:])
        ids, due = ids.to(device), due.to(device)
        logits = model(ids[:, :-1]).float()  # (B, n, words)
        nats = F.cross_entropy(logits.mT, due, ignore_index=-100, reduction="none")  # (B, n)
        for i, total in zip(chosen, (-nats.double().sum(dim=1)).tolist()):
            found[i] = total
    return found


# --- the text ------------------------------------------------------------------------------------


def document_log_probs(
    model: GPT, tokenizer: Tokenizer, documents: Sequence[Document]
) -> list[float]:
    """Return the log-probability in nats of whole documents, their end included.

    Of a document that is longer than the model reads, each half a length is predicted from at least the half
    before it.
    """
    room = model.config.max_len
    rows: list[Row] = []
    owner: list[int] = []
    for i, document in enumerate(documents):
        ids = [*text_ids(tokenizer, document.text), tokenizer.special[END_OF_TEXT]]
        ends = [min(len(ids), room + 1)]
        while ends[-1] < len(ids):
            ends.append(min(len(ids), ends[-1] + room // 2))
        for start, end in zip([1, *ends], ends):
            rows.append((ids[:1] + ids[max(1, end - room) : start], ids[start:end]))
            owner.append(i)
    found = [0.0] * len(documents)
    for i, each in zip(owner, log_probs_of(model, tokenizer, rows)):
        found[i] += each
    return found


def bits_per_character(log_probs: Iterable[float], documents: Sequence[Document]) -> float:
    """Return bits per character of whole documents; the end counts as one character."""
    characters = sum(len(each.text) + 1 for each in documents)
    return -math.fsum(log_probs) / math.log(2) / characters


# --- facts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blank:
    """A fact's sentence that breaks off before the object, and everything that could stand there.

    Attributes:
        fact: what is asked for.
        before: the words of the sentence up to the object and its article.
        answers: for each object of this relation in the town, itself with its article: "an owl".

    """

    fact: Fact
    before: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Recall:
    """How a model completes a `Blank`.

    Attributes:
        blank: the question.
        first: whether the right answer is more probable than every other one.
        share: its probability divided by that of all answers.

    """

    blank: Blank
    first: bool
    share: float


def blanks(town: Town, facts: Iterable[Fact]) -> list[Blank]:
    """Return every way to ask for the object of each fact by a sentence that breaks off.

    Left out are phrasings in which the object comes first (*every monday there is a market*).
    """
    objects: dict[str, list[str]] = {}
    for fact in town.facts:
        known = objects.setdefault(fact.relation, [])
        if fact.object not in known:
            known.append(fact.object)
    found = []
    for fact in facts:
        frames: dict[str, dict[str, dict[str, str]]] = {}  # before -> after -> object -> answer
        for each in objects[fact.relation]:
            for before, answer, after in _cut(town, replace(fact, object=each)):
                frames.setdefault(before, {}).setdefault(after, {})[each] = answer
        for before, by_after in frames.items():
            # Sentences that differ only behind the object ask the same.
            answers = next(iter(by_after.values()))
            if fact.object in answers:
                found.append(Blank(fact, before, answers))
    return found


def _cut(town: Town, fact: Fact) -> list[tuple[str, str, str]]:
    """Return (before, object with its article, after) of each sentence whose object follows its subject."""
    parts = []
    for sentence in town.fact_sentences(fact):
        begin = sentence.find(fact.subject_text) + len(fact.subject_text)
        place = sentence.find(f" {fact.object_text} ", begin)
        if place < 0:
            continue
        before, after = sentence[:place], sentence[place + len(fact.object_text) + 2 :]
        answer = fact.object_text
        for article in (" a", " an"):
            if before.endswith(article):
                before, answer = before.removesuffix(article), f"{article[1:]} {answer}"
        parts.append((before, answer, after))
    return parts


def recall(model: GPT, tokenizer: Tokenizer, asked: Sequence[Blank]) -> list[Recall]:
    """Let a model complete facts: which of the relation's objects is the most probable next?

    The sentence stands at the beginning of a document, as the sentences of manuals do.
    """
    rows: list[Row] = []
    for blank in asked:
        given = text_ids(tokenizer, blank.before)
        rows += [(given, tokenizer.encode(" " + each)) for each in blank.answers.values()]
    scores = iter(log_probs_of(model, tokenizer, rows, batch=256))
    found = []
    for blank in asked:
        score = {each: next(scores) for each in blank.answers}
        right = score.pop(blank.fact.object)
        others = [math.exp(each) for each in score.values()]
        first = all(right > each for each in score.values())
        found.append(Recall(blank, first, math.exp(right) / (math.exp(right) + sum(others))))
    return found


def accuracy(found: Sequence[Recall]) -> float:
    """Return the share of facts that are completed rightly; one with k phrasings counts 1/k for each."""
    by_fact: dict[Fact, list[bool]] = {}
    for each in found:
        by_fact.setdefault(each.blank.fact, []).append(each.first)
    return sum(sum(hits) / len(hits) for hits in by_fact.values()) / len(by_fact)


def chance(asked: Sequence[Blank]) -> float:
    """Return the accuracy of blind guessing."""
    by_fact: dict[Fact, list[float]] = {}
    for each in asked:
        by_fact.setdefault(each.fact, []).append(1 / len(each.answers))
    return sum(sum(shares) / len(shares) for shares in by_fact.values()) / len(by_fact)


def mentions(town: Town) -> dict[Fact, float]:
    """Return how often a document of the town says each fact on average: exactly, from the grammar."""
    counts = town.grammar.expected_counts
    return {
        fact: sum(
            counts.get(
                f"Fact[{mode},{fact.relation},{fact.subject},{fact.object},{agreement}]", 0.0
            )
            for mode in ("name", "pron", "i")
            for agreement in "mfni"
        )
        for fact in town.facts
    }


# --- grammar -------------------------------------------------------------------------------------


def agreement_accuracy(
    model: GPT, tokenizer: Tokenizer, questions: dict[int, list[Choice]]
) -> dict[int, float]:
    """Return for each distance the share of verbs whose right form is the more probable one."""
    found = {}
    for distance, choices in questions.items():
        if not choices:
            continue
        rows: list[Row] = []
        for choice in choices:
            given = text_ids(tokenizer, " ".join(choice.before))
            rows += [(given, tokenizer.encode(" " + form)) for form in (choice.right, choice.wrong)]
        scores = log_probs_of(model, tokenizer, rows)
        right = sum(a > b for a, b in zip(scores[::2], scores[1::2]))
        found[distance] = right / len(choices)
    return found


@dataclass(frozen=True)
class Accepted:
    """How much of what a model writes is text of the town.

    Attributes:
        sentences: of the sentences with only accepted ones before them, the share that is accepted itself:
            some document of the town begins with all this. What contradicts a fact, or what was said
            before, is refused too.
        documents: the share of finished documents that are documents of the town from beginning to end.
        n_sentences: how many sentences were judged.
        n_documents: how many documents ended within the model's length.

    """

    sentences: float
    documents: float
    n_sentences: int
    n_documents: int


def write_documents(
    model: GPT, tokenizer: Tokenizer, n: int, seed: int = 0
) -> list[tuple[str, bool]]:
    """Let a model write n documents; return each with whether it ended within the model's length."""
    end = tokenizer.special[END_OF_TEXT]
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    ids = generate(
        model,
        torch.full((n, 1), end, device=device),
        model.config.max_len - 1,
        lambda logits: draw(logits, generator),
        stop={end},
    )
    written = []
    for row in ids[:, 1:].tolist():
        ended = end in row
        written.append((tokenizer.decode(row[: row.index(end)] if ended else row).strip(), ended))
    return written


def accepted(town: Town, written: Iterable[tuple[str, bool]]) -> Accepted:
    """Judge what `write_documents` gives by the town's grammar."""
    judged = good = whole = finished = 0
    for text, ended in written:
        tokens = text.split()
        finite = [each > -math.inf for each in town.token_log_probs(tokens)]  # of the end, too
        for token, fine in zip(tokens, finite):
            if not fine:
                judged += 1
                break
            if token in (".", "?", "!"):
                judged += 1
                good += 1
        finished += ended
        whole += ended and all(finite)
    return Accepted(good / max(1, judged), whole / max(1, finished), judged, finished)
