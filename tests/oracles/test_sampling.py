"""Lesson 13's samplers: what they keep against Hugging Face's, what they draw by chi-square, generation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from course_lib.models.gpt import GPT, GPTConfig, copy_gpt2
from course_lib.models.sampling import (
    draw,
    generate,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    sample_top_p,
)

LEVEL = 1e-3  # of a chi-square test
N_DRAWS = 20_000
seeds = st.integers(0, 2**31)


def random_logits(seed: int, rows: int = 4, words: int = 11) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, words, generator=g, dtype=torch.float64)


# --- what is kept --------------------------------------------------------------------------------


@given(seed=seeds, k=st.integers(1, 13))
def test_top_k_is_hugging_faces(seed: int, k: int) -> None:
    logits = random_logits(seed)
    expected = TopKLogitsWarper(k)(torch.zeros(4, 1), logits.clone())
    torch.testing.assert_close(keep_top_k(logits, k), expected, rtol=0, atol=0)


@given(seed=seeds, p=st.floats(0.01, 0.99))
def test_top_p_is_hugging_faces(seed: int, p: float) -> None:
    logits = random_logits(seed)
    expected = TopPLogitsWarper(p)(torch.zeros(4, 1), logits.clone())
    torch.testing.assert_close(keep_top_p(logits, p), expected, rtol=0, atol=0)


@given(seed=seeds, p=st.floats(0.0, 0.99))
def test_min_p_is_hugging_faces(seed: int, p: float) -> None:
    logits = random_logits(seed)
    expected = MinPLogitsWarper(p)(torch.zeros(4, 1), logits.clone())
    torch.testing.assert_close(keep_min_p(logits, p), expected, rtol=0, atol=0)


def test_edges_of_what_is_kept() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert keep_top_p(logits, 1e-9).isfinite().tolist() == [[True, False, False]]
    assert keep_top_p(logits, 0.7).isfinite().tolist() == [[True, True, False]]
    assert torch.equal(keep_top_p(logits, 1.0), logits)
    assert torch.equal(keep_top_k(logits, 99), logits)
    assert torch.equal(keep_min_p(logits, 0.0), logits)
    assert keep_min_p(logits, 1.0).isfinite().sum() == 1
    equal = torch.zeros(1, 4)
    assert keep_top_k(equal, 2).isfinite().sum() == 2
    assert keep_top_p(equal, 0.5).isfinite().tolist() == [[True, True, False, False]]
    assert keep_min_p(equal, 1.0).isfinite().all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: keep_top_k(x, 0), "keeps none"),
        (lambda x: keep_top_p(x, 0.0), "above 0"),
        (lambda x: keep_top_p(x, 1.1), "above 0"),
        (lambda x: keep_min_p(x, -0.1), "between 0 and 1"),
        (lambda x: keep_min_p(x, 1.5), "between 0 and 1"),
    ],
)
def test_what_cannot_be_kept_is_refused(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(torch.zeros(1, 3))


# --- what is drawn -------------------------------------------------------------------------------

SHARES = torch.tensor([0.05, 0.4, 0.02, 0.2, 0.25, 0.08], dtype=torch.float64)
LOGITS = SHARES.log()


def wanted(kept: Tensor) -> Tensor:
    shares = SHARES * kept
    return shares / shares.sum()


def fits(tokens: Tensor, shares: Tensor) -> bool:
    """Tell whether tokens look drawn from these shares: none outside, and a chi-square test not rejected."""
    counts = torch.bincount(tokens, minlength=len(shares)).double()
    if counts[shares == 0].any():
        return False
    inside = shares > 0
    if inside.sum() == 1:
        return True
    expected = shares[inside] * len(tokens)
    return chisquare(counts[inside].numpy(), expected.numpy()).pvalue > LEVEL


def rows() -> Tensor:
    return LOGITS.expand(N_DRAWS, -1)


def by_u(p: float, g: torch.Generator) -> Tensor:
    return sample_top_p(rows(), p, torch.rand(N_DRAWS, generator=g, dtype=torch.float64))


TOP = torch.tensor([False, True, False, True, True, False])  # 0.4 + 0.25 + 0.2
SAMPLERS = {
    "plain": (lambda g: draw(rows(), g), torch.ones(6)),
    "top-k, 3": (lambda g: draw(keep_top_k(rows(), 3), g), TOP),
    "top-p, 0.8": (lambda g: draw(keep_top_p(rows(), 0.8), g), TOP),
    "min-p, 0.4": (lambda g: draw(keep_min_p(rows(), 0.4), g), TOP),
    "sample_top_p, 0.8": (lambda g: by_u(0.8, g), TOP),
    "sample_top_p, 1": (lambda g: by_u(1.0, g), torch.ones(6)),
    "sample_top_p, 0.1": (lambda g: by_u(0.1, g), torch.arange(6) == 1),
}
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_samplers_draw_what_they_say(name: str, seed: int) -> None:
    sampler, kept = SAMPLERS[name]
    assert fits(sampler(torch.Generator().manual_seed(seed)), wanted(kept))


@pytest.mark.parametrize("seed", SEEDS)
def test_temperature_is_a_power_of_the_probabilities(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    shares = SHARES**2 / (SHARES**2).sum()
    assert fits(draw(rows() / 0.5, g), shares)
    assert not fits(draw(rows(), g), shares)


def softmax_of_kept(p: float, g: torch.Generator) -> Tensor:
    """Draw from the softmax of the kept probabilities, a common slip."""
    kept = SHARES.masked_fill(~TOP, -torch.inf).softmax(-1)
    return torch.multinomial(kept, N_DRAWS, replacement=True, generator=g)


def by_u_without_total(p: float, g: torch.Generator) -> Tensor:
    """Look u up in shares that add up to less than 1."""
    ranked, order = SHARES.sort(descending=True)
    u = torch.rand(N_DRAWS, generator=g, dtype=torch.float64)
    place = (ranked.cumsum(0) <= u[:, None]).sum(-1).clamp(max=2)
    return order[place]


WRONG = {
    "not cut at all": lambda g: draw(rows(), g),
    "cut one token too early": lambda g: draw(keep_top_k(rows(), 2), g),
    "cut one token too late": lambda g: draw(keep_top_k(rows(), 4), g),
    "a little too warm": lambda g: draw(keep_top_p(rows(), 0.8) / 1.15, g),
    "softmax of what was kept": lambda g: softmax_of_kept(0.8, g),
    "u not stretched": lambda g: by_u_without_total(0.8, g),
    "greedy": lambda g: rows().argmax(-1),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("seed", SEEDS)
def test_wrong_samplers_are_caught(name: str, seed: int) -> None:
    assert not fits(WRONG[name](torch.Generator().manual_seed(seed)), wanted(TOP))


@given(seed=seeds, p=st.floats(0.05, 1.0), words=st.integers(1, 40))
def test_sample_top_p_draws_only_what_top_p_keeps(seed: int, p: float, words: int) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(50, words, generator=g)
    u = torch.rand(50, generator=g)
    u[:2] = torch.tensor([0.0, 1 - 2**-24])
    tokens = sample_top_p(logits, p, u)
    assert tokens.dtype == torch.int64
    assert keep_top_p(logits, p).gather(1, tokens[:, None]).isfinite().all()


def test_a_forbidden_token_is_never_drawn() -> None:
    logits = torch.tensor([[0.1, -torch.inf, 0.3, -torch.inf]]).expand(3, -1)
    tokens = sample_top_p(logits, 1.0, torch.tensor([0.0, 0.5, 1 - 2**-24]))
    assert set(tokens.tolist()) <= {0, 2}


# --- generation ----------------------------------------------------------------------------------


def model(rotary: bool = False, max_len: int = 24) -> GPT:
    torch.manual_seed(0)
    made = GPT(GPTConfig(17, max_len, 12, 3, 2, rotary=rotary)).double().eval()
    with torch.no_grad():
        for each in made.parameters():
            each += 0.3 * torch.randn_like(each)
    return made


def greedy(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_cached_generation_is_uncached_generation(rotary: bool, seed: int) -> None:
    writer, begun = model(rotary), torch.randint(17, (3, 4))
    written = []
    for cached in (True, False):
        g = torch.Generator().manual_seed(seed)
        written.append(generate(writer, begun, 20, lambda x: draw(x / 0.8, g), cached=cached))  # noqa: B023
    assert written[0].shape == (3, 24)
    assert torch.equal(*written)
    assert torch.equal(written[0][:, :4], begun)


def test_greedy_generation_is_hugging_faces() -> None:
    config = GPT2Config(
        vocab_size=17, n_positions=24, n_embd=12, n_head=3, n_layer=2, bos_token_id=0,
        eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for each in theirs.parameters():
            each += 0.3 * torch.randn_like(each)
    ours = model()
    copy_gpt2(ours, theirs.state_dict())
    begun = torch.randint(1, 17, (2, 5))
    expected = theirs.generate(
        begun, attention_mask=torch.ones_like(begun), max_new_tokens=15, do_sample=False,
        pad_token_id=0,
    )  # fmt: skip
    assert torch.equal(generate(ours, begun, 15, greedy), expected)


def test_a_row_that_ended_repeats_its_end() -> None:
    writer = model()
    script = iter([[3, 5], [9, 5], [4, 9], [1, 1]])
    written = generate(
        writer,
        torch.zeros(2, 1, dtype=torch.long),
        10,
        lambda x: torch.tensor(next(script)),
        stop=[9],
    )
    assert written.tolist() == [[0, 3, 9, 9], [0, 5, 5, 9]]


def test_without_a_cache_the_oldest_are_forgotten() -> None:
    writer = model(max_len=6)
    long = generate(writer, torch.zeros(1, 3, dtype=torch.long), 9, greedy, cached=False)
    assert long.shape == (1, 12)
    with torch.no_grad():
        assert long[0, -1] == writer(long[:, -7:-1])[0, -1].argmax()
    with pytest.raises(ValueError, match="reads 6 positions"):
        generate(writer, torch.zeros(1, 3, dtype=torch.long), 9, greedy)
