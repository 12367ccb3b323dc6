"""Let a model answer prompts, and say how probable each token of an answer is (lessons 18 to 20)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.models.gpt import GPT
from course_lib.models.sampling import Choose, draw, generate
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.chat import END, Turn, pad, render_chat


@dataclass(frozen=True)
class Replies:
    """Prompts and what a model answered.

    Attributes:
        texts: the answers, without special tokens; what was not ended within the limit stays as it is.
        ids: prompt and answer of each row, then filler, (B, n).
        mask: True for the tokens of the answer, its end included, (B, n).
        ended: whether the answer came to its end.

    """

    texts: list[str]
    ids: Int[Tensor, "batch n"]
    mask: Bool[Tensor, "batch n"]
    ended: list[bool]


def token_logprobs(
    logits: Float[Tensor, "batch n words"], ids: Int[Tensor, "batch n"]
) -> Float[Tensor, "batch n"]:
    """Return each token's log-probability given those before it, in nats; 0 for the first of a row."""
    log_p = logits[:, :-1].log_softmax(dim=-1)  # (B, n - 1, words)
    said = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (B, n - 1)
    return torch.nn.functional.pad(said, (1, 0))  # (B, n)


@torch.no_grad()
def answer(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    n_new: int = 32,
    choose: Choose | None = None,
    generator: torch.Generator | None = None,
) -> Replies:
    """Let a model answer each prompt.

    Args:
        model: a tuned model, in evaluation mode.
        tokenizer: its tokenizer.
        prompts: what the user says, one turn each.
        n_new: the most tokens of an answer.
        choose: chooses tokens, as in `generate`; drawn with their probabilities if not given.
        generator: of the draws.

    Returns:
        The answers, in the order of the prompts.

    """
    choose = choose or (lambda logits: draw(logits, generator))
    end = tokenizer.special[END]
    device = next(model.parameters()).device
    asked = [render_chat([Turn("user", prompt)], tokenizer, ask=True) for prompt in prompts]
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(asked):
        by_length[len(row)].append(i)
    said: dict[int, list[int]] = {}
    for length, places in by_length.items():
        read = torch.tensor([asked[i] for i in places], device=device)  # (B', length)
        written = generate(model, read, n_new, choose, stop=[end])[:, length:].tolist()
        for i, row in zip(places, written):
            said[i] = row[: row.index(end) + 1] if end in row else row
    rows = [[*asked[i], *said[i]] for i in range(len(asked))]
    ids = pad(rows, end).to(device)  # (B, n)
    place = torch.arange(ids.shape[1], device=device)  # (n,)
    begins = torch.tensor([[len(row)] for row in asked], device=device)  # (B, 1)
    ends = torch.tensor([[len(row)] for row in rows], device=device)  # (B, 1)
    special = set(tokenizer.special.values())
    texts = [
        tokenizer.decode([t for t in said[i] if t not in special]).strip() for i in range(len(rows))
    ]
    ended = [bool(said[i]) and said[i][-1] == end for i in range(len(rows))]
    return Replies(texts, ids, (place >= begins) & (place < ends), ended)
