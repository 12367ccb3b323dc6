"""Conversations as tokens: the template, what is learnt of it, packing, and the loss."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.shipped import SPECIAL
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.chat import (
    END,
    Turn,
    pack,
    render_chat,
    response_mask,
    special_ids,
    within_segments,
)
from course_lib.posttraining.replies import answer, token_logprobs
from course_lib.posttraining.sft import Chats, chat_loss, sft_loss

f64 = torch.float64
TOKENIZER = Tokenizer.train(
    "the mill on mill street is old . who lives there ? " * 20, 300, SPECIAL
)
texts = st.one_of(
    st.text(max_size=12), st.sampled_from(["<|end|>", "a <|assistant|> b", " <|user|>"])
)
speakers = st.sampled_from(["user", "assistant"])


@given(said=st.lists(st.tuples(speakers, texts), max_size=5), ask=st.booleans())
@settings(max_examples=60, deadline=None)
def test_only_the_template_makes_special_tokens(said: list[tuple[str, str]], ask: bool) -> None:
    said = [(speaker, text.encode(errors="ignore").decode()) for speaker, text in said]
    ids = render_chat([Turn(*each) for each in said], TOKENIZER, ask)
    special = [i for i in ids if i in TOKENIZER.special.values()]
    assert len(special) == 2 * len(said) + ask
    expected = "".join(f"<|{speaker}|> {text}{END}" for speaker, text in said)
    assert TOKENIZER.decode(ids) == expected + "<|assistant|>" * ask


def test_an_unknown_speaker_is_refused() -> None:
    with pytest.raises(ValueError, match="system"):
        render_chat([Turn("system", "obey")], TOKENIZER)


@given(
    said=st.lists(st.tuples(speakers, st.text("ab ", max_size=6)), max_size=6),
    filler=st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_the_mask_marks_answers_and_their_ends(said: list[tuple[str, str]], filler: int) -> None:
    user, assistant, end = special_ids(TOKENIZER)
    row: list[int] = []
    marked: list[bool] = []
    for speaker, text in said:
        words = [*TOKENIZER.encode(" " + text), end]
        row += [user if speaker == "user" else assistant, *words]
        marked += [False] + [speaker == "assistant"] * len(words)
    ids = torch.tensor([row + [end] * filler], dtype=torch.long)
    assert response_mask(ids, user, assistant, end)[0].tolist() == marked + [False] * filler


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40), room=st.integers(12, 30))
@settings(max_examples=60, deadline=None)
def test_packing_keeps_every_conversation_once(lengths: list[int], room: int) -> None:
    rows = [[i] * n for i, n in enumerate(lengths, start=1)]
    ids, segments = pack(rows, room, 0)
    found = [
        ids[r, segments[r] == s].tolist()
        for r in range(len(ids))
        for s in range(1, int(segments[r].max()) + 1)
    ]
    assert sorted(found) == sorted(rows)
    assert ((segments == 0) == (ids == 0)).all()
    least = -(-sum(lengths) // room)
    assert len(ids) <= 2 * least  # half-empty rows would have been joined
    with pytest.raises(ValueError, match="does not fit"):
        pack([[1] * (room + 1)], room, 0)


def tiny() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(
        n_words=TOKENIZER.n_words, max_len=40, d_model=12, n_heads=3, n_layers=2, rotary=True
    )
    return GPT(config).eval()


def test_packed_is_unpacked() -> None:
    model = tiny().to(f64)
    rng = random.Random(0)
    rows = [[rng.randrange(TOKENIZER.n_words) for _ in range(n)] for n in (9, 5, 7, 3, 12, 1)]
    ids, segments = pack(rows, 20, 0)
    attends = [each.attend for each in model.modules() if hasattr(each, "attend")]
    with within_segments(model, segments):
        together = model(ids)
    assert [each.attend for each in model.modules() if hasattr(each, "attend")] == attends
    for r in range(len(ids)):
        for s in range(1, int(segments[r].max()) + 1):
            here = segments[r] == s
            alone = model(ids[r, here][None])[0]
            torch.testing.assert_close(together[r, here], alone, rtol=1e-10, atol=1e-12)


def by_hand(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    lost = [
        -logits[i, j - 1].log_softmax(-1)[ids[i, j]]
        for i in range(len(ids))
        for j in range(1, ids.shape[1])
        if mask[i, j]
    ]
    return torch.stack(lost).mean() if lost else 0 * logits.sum()


@given(seed=st.integers(0, 2**31), batch=st.integers(1, 4), n=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_the_loss_is_the_formulas(seed: int, batch: int, n: int) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, n, 5, generator=g, dtype=f64, requires_grad=True)
    ids = torch.randint(5, (batch, n), generator=g)
    mask = torch.rand(batch, n, generator=g) < 0.5
    found, expected = sft_loss(logits, ids, mask), by_hand(logits, ids, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(found, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(slope, wanted, rtol=1e-12, atol=1e-12)
    assert slope[:, :-1][~mask[:, 1:]].abs().sum() == 0  # no token outside is learnt


def test_the_loss_is_hf_transformers_with_the_prompt_ignored() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)
    logits = torch.randn(2, 4, 6, dtype=f64, generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(~mask, -100)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(sft_loss(logits, ids, mask), expected, rtol=1e-12, atol=1e-12)


def test_every_conversation_comes_once_before_one_comes_again() -> None:
    rows = [render_chat([Turn("user", w), Turn("assistant", w)], TOKENIZER) for w in "abcdef"]
    stream = iter(Chats(rows, TOKENIZER, 2, seed=3))
    seen = [ids for _ in range(3) for ids in next(stream)[0].tolist()]
    assert sorted(seen) == sorted(rows)
    model: nn.Module = tiny()
    assert chat_loss(model, next(stream)).item() > 0


def test_answers_carry_their_own_tokens() -> None:
    model = tiny()
    prompts = ["who lives there ?", "who ?", "the mill ?"]
    said = answer(model, TOKENIZER, prompts, 6, generator=torch.Generator().manual_seed(1))
    end = TOKENIZER.special[END]
    for prompt, text, ids, mask, ended in zip(prompts, said.texts, said.ids, said.mask, said.ended):
        asked = render_chat([Turn("user", prompt)], TOKENIZER, ask=True)
        assert ids[: len(asked)].tolist() == asked
        assert not mask[: len(asked)].any()
        written = ids[mask].tolist()
        assert 1 <= len(written) <= 6
        assert ended == (written[-1] == end)
        words = [i for i in written if i not in TOKENIZER.special.values()]
        assert TOKENIZER.decode(words).strip() == text
    with torch.no_grad():
        logits = model(said.ids)
    log_p = token_logprobs(logits, said.ids)
    assert log_p[:, 0].eq(0).all()
    expected = logits.log_softmax(-1)[0, 0, said.ids[0, 1]]
    torch.testing.assert_close(log_p[0, 1], expected)
