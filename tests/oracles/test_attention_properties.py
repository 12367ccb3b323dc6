"""Every attention of course_lib keeps the future hidden, padding unfelt, and empty sentences silent.

A new attention gets a row in LAYERS: how it is called with and without a causal mask, and with lengths. One that
is causal always has its row in ALWAYS_CAUSAL, one of a source in OF_A_SOURCE.
"""

import inspect
import pkgutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from attention_properties import (
    assert_an_empty_sentence_is_silent,
    assert_padding_changes_nothing,
    assert_the_future_is_hidden,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import course_lib.models
from course_lib.models.attention import SelfAttention, attention, causal_mask, padding_mask
from course_lib.models.bert import fused_attention
from course_lib.models.gpt import fused_causal_attention
from course_lib.models.multi_head import MultiHeadAttention
from course_lib.models.positions import (
    BiasedAttention,
    RelativeBias,
    alibi_bias,
    apply_rope,
    biased_attention,
)
from course_lib.models.seq2seq import (
    AdditiveAttention,
    DotAttention,
    Memory,
    additive_attention,
    dot_attention,
)
from course_lib.models.t5 import T5Attention

pytestmark = pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")

D = 12
Layer = Callable[[Tensor, Tensor | None, bool], Tensor]


def mask_for(x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
    mask = torch.ones(1, x.shape[1], x.shape[1], dtype=torch.bool)
    if causal:
        mask = mask & causal_mask(x.shape[1])
    return mask if lengths is None else mask & padding_mask(lengths, x.shape[1])


def plain() -> Layer:
    to_q, to_k, to_v = (nn.Linear(D, D, bias=False).double() for _ in range(3))
    return lambda x, lengths, causal: attention(
        to_q(x), to_k(x), to_v(x), mask_for(x, lengths, causal)
    )[0]


def fused() -> Layer:
    to_q, to_k, to_v = (nn.Linear(D, D, bias=False).double() for _ in range(3))
    return lambda x, lengths, causal: fused_causal_attention(to_q(x), to_k(x), to_v(x))[0]


def single() -> Layer:
    module = SelfAttention(D, 7, 5).double()
    return lambda x, lengths, causal: module(x, lengths, causal)[0]


def biased() -> Layer:
    to_q, to_k, to_v = (nn.Linear(D, D, bias=False).double() for _ in range(3))
    return lambda x, lengths, causal: biased_attention(
        to_q(x), to_k(x), to_v(x), alibi_bias(1, x.shape[1]), mask_for(x, lengths, causal)
    )[0]


def multi(n_heads: int, n_kv_heads: int, **told: Any) -> Callable[[], Layer]:
    def make() -> Layer:
        module = MultiHeadAttention(D, n_heads, n_kv_heads, **told).double()
        return lambda x, lengths, causal: module(x, mask=mask_for(x, lengths, causal))[0]

    return make


def t5() -> Layer:
    module, bias = T5Attention(D, 4, 5).double(), RelativeBias(4, 8, 10).double()
    return lambda x, lengths, causal: module(
        x, mask=mask_for(x, lengths, causal), bias=bias(x.shape[1])
    )[0]


def additive() -> Layer:
    w_query, w_key, v = (
        torch.randn(D, 5).double(),
        torch.randn(D, 5).double(),
        torch.randn(5).double(),
    )
    return lambda x, lengths, causal: additive_attention(
        x, x, x, w_query, w_key, v, mask_for(x, lengths, causal)[:, 0]
    )[0]


def dot() -> Layer:
    return lambda x, lengths, causal: dot_attention(x, x, x, mask_for(x, lengths, causal)[:, 0])[0]


def of_memory(module: nn.Module) -> Layer:
    """Let the first half of each vector ask; a decoder's states are half as wide as the source's words."""
    module.double()

    def layer(x: Tensor, lengths: Tensor | None, causal: bool) -> Tensor:
        memory = Memory(x, mask_for(x, lengths, causal)[:, 0].expand(x.shape[:2]), x[:, 0])
        output: Tensor = module(x[..., : D // 2], memory)[0]
        return output

    return layer


LAYERS: dict[str, Callable[[], Layer]] = {
    "attention": plain,
    "SelfAttention": single,
    "MultiHeadAttention, one head": multi(1, 1),
    "MultiHeadAttention, four heads": multi(4, 4),
    "MultiHeadAttention, grouped": multi(6, 2),
    "MultiHeadAttention, one key head": multi(4, 1),
    "MultiHeadAttention, rotary": multi(3, 3, rotate=apply_rope),
    "biased_attention": biased,
    "BiasedAttention, T5": multi(4, 4, attend=BiasedAttention(RelativeBias(4, 8, 10))),
    "BiasedAttention, ALiBi": multi(4, 4, attend=BiasedAttention(partial(alibi_bias, 4))),
    "T5Attention": t5,
    "fused_attention": multi(4, 4, attend=fused_attention),
}
# Lesson 06's attentions ask a source sentence that is known in full: they hide padding and no future.
OF_A_SOURCE: dict[str, Callable[[], Layer]] = {
    "additive_attention": additive,
    "dot_attention": dot,
    "AdditiveAttention": lambda: of_memory(AdditiveAttention(D // 2, 5)),
    "DotAttention": lambda: of_memory(DotAttention(D // 2)),
}
# Lesson 13's hides the future whatever it is told, and knows no padding but what stands behind the text.
ALWAYS_CAUSAL: dict[str, Callable[[], Layer]] = {
    "fused_causal_attention": fused,
    "fused_causal_attention, four heads": multi(4, 4, attend=fused_causal_attention),
    "fused_causal_attention, rotary": multi(3, 3, attend=fused_causal_attention, rotate=apply_rope),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def made(make: Callable[[], Layer], seed: int) -> Layer:
    torch.manual_seed(seed)
    return make()


@every_layer
@pytest.mark.parametrize("seed", range(5))
def test_the_future_is_hidden(make: Callable[[], Layer], seed: int) -> None:
    layer = made(make, seed)
    assert_the_future_is_hidden(lambda x: layer(x, None, True), torch.randn(2, 7, D).double())
    lengths = torch.tensor([7, 4])
    x = torch.randn(2, 7, D).double()
    output = layer(x, lengths, True)
    changed = x.clone()
    changed[:, 3:] = 1e3
    assert torch.equal(layer(changed, lengths, True)[:, :3], output[:, :3])


@every_layer
@pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])
@given(seed=st.integers(0, 2**31), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_padding_is_not_felt(
    make: Callable[[], Layer], causal: bool, seed: int, lengths: list[int]
) -> None:
    layer = made(make, seed)
    sentences = [torch.randn(length, D).double() for length in lengths]
    assert_padding_changes_nothing(lambda x, real: layer(x, real, causal), sentences, n=7)


@pytest.mark.parametrize("make", ALWAYS_CAUSAL.values(), ids=ALWAYS_CAUSAL.keys())
@given(seed=st.integers(0, 2**31), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_what_is_always_causal(make: Callable[[], Layer], seed: int, lengths: list[int]) -> None:
    layer = made(make, seed)
    assert_the_future_is_hidden(lambda x: layer(x, None, False), torch.randn(2, 7, D).double())
    sentences = [torch.randn(length, D).double() for length in lengths]
    assert_padding_changes_nothing(lambda x, real: layer(x, real, False), sentences, n=7)


@pytest.mark.parametrize("make", OF_A_SOURCE.values(), ids=OF_A_SOURCE.keys())
@given(seed=st.integers(0, 2**31), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_padding_of_a_source_is_not_felt(
    make: Callable[[], Layer], seed: int, lengths: list[int]
) -> None:
    layer = made(make, seed)
    sentences = [torch.randn(length, D).double() for length in lengths]
    assert_padding_changes_nothing(lambda x, real: layer(x, real, False), sentences, n=7)


@every_layer
@pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])
def test_an_empty_sentence_is_silent(make: Callable[[], Layer], causal: bool) -> None:
    layer = made(make, 0)
    x = torch.randn(3, 5, D).double()
    assert_an_empty_sentence_is_silent(lambda x, real: layer(x, real, causal), x, empty=1)


# --- the tests themselves must be able to fail ---------------------------------------------------


def test_what_sees_the_future_is_caught() -> None:
    layer = made(single, 0)
    with pytest.raises(AssertionError, match="is seen before it"):
        assert_the_future_is_hidden(lambda x: layer(x, None, False), torch.randn(2, 5, D).double())
    with pytest.raises(AssertionError, match="does not see itself"):
        assert_the_future_is_hidden(lambda x: x[:, :1].expand_as(x), torch.randn(2, 5, D))


def test_what_feels_padding_is_caught() -> None:
    layer = made(single, 0)
    sentences = [torch.randn(n, D).double() for n in (3, 5)]
    with pytest.raises(AssertionError):
        assert_padding_changes_nothing(lambda x, real: layer(x, None, False), sentences, n=6)


def test_an_empty_sentence_that_speaks_is_caught() -> None:
    layer = made(single, 0)
    with pytest.raises(AssertionError, match="says something"):
        assert_an_empty_sentence_is_silent(
            lambda x, real: layer(x, None, False), torch.randn(2, 4, D).double()
        )


def test_no_attention_is_left_out() -> None:
    """Each class or function of course_lib.models that is an attention by name has a row above."""
    names = set()
    for found in pkgutil.iter_modules(course_lib.models.__path__):
        module = import_module(f"course_lib.models.{found.name}")
        for name, each in vars(module).items():
            own = getattr(each, "__module__", None) == module.__name__
            if own and not name.startswith("_") and name.lower().endswith("attention"):
                assert inspect.isfunction(each) or inspect.isclass(each)
                names.add(name)
    covered = {label.split(",")[0] for label in LAYERS | ALWAYS_CAUSAL | OF_A_SOURCE}
    assert names <= covered, f"not in LAYERS: {sorted(names - covered)}"
