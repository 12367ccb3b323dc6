"""Lesson 13's GPT against Hugging Face's GPT-2: logits, gradients, published files, sizes, caches."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from attention_properties import assert_the_future_is_hidden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from course_lib.models.attention import attention, causal_mask
from course_lib.models.gpt import (
    CONFIGS,
    GPT,
    GPTConfig,
    copy_gpt2,
    count_gpt,
    fused_causal_attention,
    load_gpt,
    load_gpt2,
    next_token_loss,
    save_gpt,
)

seeds = st.integers(0, 2**31)
SIZES = {  # (words, positions, width, heads, blocks)
    "one token, one head": (2, 1, 1, 1, 1),
    "odd width": (7, 5, 9, 3, 2),
    "more words than width": (31, 12, 10, 5, 3),
    "one word": (1, 4, 6, 2, 1),
}


def close(got: Tensor, expected: Tensor) -> None:
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10 * scale)


def theirs_of(sizes: tuple[int, int, int, int, int], seed: int) -> GPT2LMHeadModel:
    words, positions, width, heads, blocks = sizes
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=words, n_positions=positions, n_embd=width, n_head=heads, n_layer=blocks,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).double()
    with torch.no_grad():
        for each in model.parameters():
            each += 0.3 * torch.randn_like(each)  # so that biases and norms do something
    return model


def ours_of(sizes: tuple[int, int, int, int, int], **told: object) -> GPT:
    words, positions, width, heads, blocks = sizes
    config = GPTConfig(words, positions, width, heads, blocks)
    return GPT(config, **told).double()


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("attend", [fused_causal_attention, attention])
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_and_gradients_are_gpt2s(
    sizes: tuple[int, int, int, int, int], attend: object, seed: int
) -> None:
    theirs, ours = theirs_of(sizes, seed), ours_of(sizes, attend=attend)
    copy_gpt2(ours, theirs.state_dict())
    ids = torch.randint(sizes[0], (3, sizes[1]))
    logits, expected = ours(ids), theirs(ids).logits
    close(logits, expected)
    cotangent = torch.randn_like(logits)
    (logits * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    # Put their gradients where their weights go, into a model of our own kind, and compare.
    holder = ours_of(sizes)
    copy_gpt2(holder, {name: each.grad for name, each in theirs.named_parameters()})
    for (name, got), wanted in zip(ours.named_parameters(), holder.parameters()):
        assert got.grad is not None, name
        close(got.grad, wanted.detach())


def test_a_wrong_copy_is_caught() -> None:
    sizes = SIZES["odd width"]
    theirs, ours = theirs_of(sizes, 0), ours_of(sizes)
    copy_gpt2(ours, theirs.state_dict())
    with torch.no_grad():
        attended = ours.blocks[0].attention
        attended.to_q.weight.copy_(attended.to_q.weight.T.clone())
    ids = torch.randint(sizes[0], (2, 5))
    assert (ours(ids) - theirs(ids).logits).abs().max() > 1e-3


def test_a_saved_checkpoint_is_read(tmp_path: Path) -> None:
    theirs = theirs_of((50, 16, 12, 3, 2), 3).float().eval()
    theirs.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path)
    assert ours.config == GPTConfig(50, 16, 12, 3, 2)
    ids = torch.randint(50, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)
    assert not ours.training


def test_names_without_the_prefix_are_read() -> None:
    sizes = SIZES["odd width"]
    theirs, ours = theirs_of(sizes, 0), ours_of(sizes)
    bare = {name.removeprefix("transformer."): each for name, each in theirs.state_dict().items()}
    copy_gpt2(ours, bare)
    ids = torch.randint(sizes[0], (2, 5))
    close(ours(ids), theirs(ids).logits)


def test_what_is_no_gpt2_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no config\.json"):
        load_gpt2(tmp_path)
    theirs = theirs_of((9, 4, 6, 2, 1), 0)
    theirs.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "model_type": "bert"}))
    with pytest.raises(ValueError, match="type bert, not gpt2"):
        load_gpt2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**described, "n_embd": 8}))
    with pytest.raises(ValueError, match="has the shape"):
        load_gpt2(tmp_path)
    weights = theirs.state_dict()
    for missing in ("transformer.wpe.weight", "transformer.h.0.attn.c_attn.bias"):
        some = {name: each for name, each in weights.items() if name != missing}
        with pytest.raises(ValueError, match="lack"):
            copy_gpt2(ours_of((9, 4, 6, 2, 1)), some)


# --- sizes ---------------------------------------------------------------------------------------

PUBLISHED = {  # counted by Hugging Face's models on the meta device
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes(name: str) -> None:
    config = CONFIGS[name]
    assert count_gpt(config) == PUBLISHED[name]
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(
            GPT2Config(n_embd=config.d_model, n_head=config.n_heads, n_layer=config.n_layers)
        )
    assert sum(each.numel() for each in theirs.parameters()) == PUBLISHED[name]


def test_a_configuration_is_changed_by_name() -> None:
    config = CONFIGS["nano"].but(n_words=11, rotary=True)
    assert (config.n_words, config.rotary, config.d_model) == (11, True, 64)
    assert count_gpt(config) == count_gpt(config.but(rotary=False)) - 64 * 64


def test_the_start_is_gpt2s() -> None:
    """Weights of size 0.02, those that write to the stream smaller by √(2 · blocks), and a loss near ln V."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(500, 16, 64, 4, 8))
    block = model.blocks[0]
    assert block.feed_forward.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.feed_forward.down.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert model.words.weight.std().item() == pytest.approx(0.02, rel=0.05)
    ids = torch.randint(500, (8, 17))
    loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
    assert loss.item() == pytest.approx(torch.tensor(500.0).log().item(), abs=0.1)


def test_the_loss_leaves_out_what_is_marked() -> None:
    logits, ids = torch.randn(2, 3, 5), torch.tensor([[1, 2, -100], [-100, 0, 4]])
    kept = ids != -100
    expected = F.cross_entropy(logits[kept], ids[kept])
    torch.testing.assert_close(next_token_loss(logits, ids), expected)
    assert next_token_loss(logits.bfloat16(), ids).dtype == torch.float32


# --- the fused kernel, the future, caches --------------------------------------------------------


@given(
    n_k=st.integers(1, 9), cached=st.integers(0, 8), heads=st.integers(1, 3), d=st.integers(1, 7),
    seed=seeds,
)  # fmt: skip
def test_the_fused_kernel_is_lesson_07s_attention(
    n_k: int, cached: int, heads: int, d: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    n_q = max(1, n_k - cached)
    shapes = [(2, heads, n_q, d), (2, heads, n_k, d), (2, heads, n_k, d + 1)]
    q, k, v = (torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True) for s in shapes)
    mask = causal_mask(n_q, n_k)
    ours, expected = fused_causal_attention(q, k, v, mask)[0], attention(q, k, v, mask)[0]
    close(ours, expected)
    cotangent = torch.randn(ours.shape, generator=g, dtype=torch.float64)
    for got, wanted in zip(
        torch.autograd.grad(ours, (q, k, v), cotangent),
        torch.autograd.grad(expected, (q, k, v), cotangent),
    ):
        close(got, wanted)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("attend", [fused_causal_attention, attention])
def test_the_future_is_hidden(rotary: bool, attend: object) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(11, 8, 12, 3, 2, rotary=rotary), attend=attend).double()

    def from_vectors(x: Tensor) -> Tensor:
        mask = causal_mask(x.shape[1])
        for block in model.blocks:
            x = block(x, mask)
        return x

    assert_the_future_is_hidden(from_vectors, torch.randn(2, 7, 12).double())
    ids = torch.randint(11, (2, 8))
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 11
    assert torch.equal(model(ids)[:, :5], model(other)[:, :5])


@settings(max_examples=30)
@given(pieces=st.lists(st.integers(1, 4), min_size=1, max_size=4), rotary=st.booleans(), seed=seeds)
def test_read_in_pieces_is_read_at_once(pieces: list[int], rotary: bool, seed: int) -> None:
    torch.manual_seed(seed)
    model = GPT(GPTConfig(13, 16, 12, 2, 3, rotary=rotary)).double().eval()
    ids = torch.randint(13, (2, sum(pieces)))
    caches = model.empty_caches(2)
    with torch.no_grad():
        parts = [model(each, caches) for each in ids.split(pieces, dim=1)]
        close(torch.cat(parts, dim=1), model(ids))
    assert {cache.length for cache in caches} == {sum(pieces)}


@pytest.mark.parametrize("rotary", [False, True])
def test_too_many_positions_are_refused(rotary: bool) -> None:
    model = GPT(GPTConfig(5, 4, 4, 1, 1, rotary=rotary))
    with pytest.raises(ValueError, match="reads 4 positions, not 5"):
        model(torch.zeros(1, 5, dtype=torch.long))
    caches = model.empty_caches(1)
    model(torch.zeros(1, 3, dtype=torch.long), caches)
    with pytest.raises(ValueError, match="reads 4 positions, not 5"):
        model(torch.zeros(1, 2, dtype=torch.long), caches)
    assert caches[0].length == 3


def test_other_parts_can_be_put_in() -> None:
    torch.manual_seed(0)
    config = GPTConfig(9, 6, 8, 2, 2)
    plain, fast = GPT(config), GPT(config, norm=nn.LayerNorm)
    fast.load_state_dict(plain.state_dict())
    ids = torch.randint(9, (2, 6))
    torch.testing.assert_close(plain(ids), fast(ids), rtol=1e-5, atol=1e-5)


# --- our own files -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_our_own_files(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(9, 6, 8, 2, 2, rotary=True)).eval()
    save_gpt(model, tmp_path / "model.safetensors", dtype, about="a test")
    again = load_gpt(tmp_path / "model.safetensors")
    assert again.config == model.config
    ids = torch.randint(9, (2, 6))
    with torch.no_grad():
        torch.testing.assert_close(
            again(ids), model(ids), rtol=0, atol=2e-3 if dtype == torch.float16 else 0
        )


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="names no configuration"):
        load_gpt(tmp_path / "other.safetensors")
