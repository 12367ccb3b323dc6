"""Lesson 19's PPO, part by part, against SciPy, trl, plain loops and the policy that is known to be best."""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.enumerable import (
    ReplySpace,
    TabularPolicy,
    beta_for,
    closed_form,
    kl_divergence,
    total_variation,
)
from course_lib.posttraining.ppo import (
    Actor,
    AdaptiveBeta,
    Learner,
    PPOSettings,
    any_length,
    gae,
    kl_penalty,
    masked_mean,
    ppo_loss,
    ppo_update,
    reinforce_loss,
    same_length,
    whiten,
)
from course_lib.posttraining.replies import token_logprobs

f64 = torch.float64


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Generator, Tensor]:
    """Draw a generator and a mask whose rows mark tokens that stand together, or none."""
    n = draw(st.integers(1, 9))
    rows = draw(st.lists(st.tuples(st.integers(0, n), st.integers(0, n)), min_size=1, max_size=5))
    place = torch.arange(n)
    mask = torch.stack([(place >= min(row)) & (place < max(row)) for row in rows])
    return torch.Generator().manual_seed(draw(st.integers(0, 2**31))), mask


def random(g: torch.Generator, mask: Tensor) -> Tensor:
    return torch.randn(mask.shape, generator=g, dtype=f64)


# --- the parts -------------------------------------------------------------------------------


@given(batch=batches(), gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_agrees_with_scipys_filter(
    batch: tuple[torch.Generator, Tensor], gamma: float, lam: float
) -> None:
    g, mask = batch
    rewards, values = random(g, mask), random(g, mask)
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row, marks in enumerate(mask):
        r, v = rewards[row][marks].numpy(), values[row][marks].numpy()
        after = [*v[1:], 0.0][: len(v)]
        surprise = r + gamma * torch.tensor(after, dtype=f64).numpy() - v
        expected = torch.tensor(lfilter([1.0], [1.0, -gamma * lam], surprise[::-1])[::-1].copy())
        torch.testing.assert_close(advantages[row][marks], expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            returns[row][marks], expected + values[row][marks], rtol=1e-10, atol=1e-10
        )
        assert not advantages[row][~marks].any()
        assert not returns[row][~marks].any()


@given(batch=batches(), gamma=st.floats(0, 1))
def test_gae_has_the_known_ends(batch: tuple[torch.Generator, Tensor], gamma: float) -> None:
    """λ = 1: discounted rewards minus the value; λ = 0: one surprise (Schulman et al. 2016, equations 17, 18)."""
    g, mask = batch
    rewards, values = random(g, mask), random(g, mask)
    for row, marks in enumerate(mask):
        places = marks.nonzero()[:, 0].tolist()
        far, near = (gae(rewards, values, mask, gamma, lam)[0][row] for lam in (1.0, 0.0))
        for i in places:
            coming = sum(gamma ** (j - i) * rewards[row, j].item() for j in places if j >= i)
            assert far[i].item() == pytest.approx(coming - values[row, i].item(), abs=1e-10)
            following = values[row, i + 1].item() if i + 1 in places else 0.0
            surprise = rewards[row, i] + gamma * following - values[row, i]
            assert near[i].item() == pytest.approx(surprise.item(), abs=1e-10)


@given(batch=batches(), beta=st.floats(0, 3))
def test_kl_penalty_agrees_with_a_loop(batch: tuple[torch.Generator, Tensor], beta: float) -> None:
    g, mask = batch
    p, q = random(g, mask), random(g, mask)
    score = torch.randn(len(mask), generator=g, dtype=f64)
    rewards = kl_penalty(score, p, q, mask, beta)
    for row, marks in enumerate(mask.tolist()):
        expected = [-beta * (p[row, i] - q[row, i]).item() * m for i, m in enumerate(marks)]
        if any(marks):
            expected[max(i for i, m in enumerate(marks) if m)] += score[row].item()
        assert rewards[row].tolist() == pytest.approx(expected, abs=1e-12)
        if any(marks):
            paid = beta * (p - q)[row][mask[row]].sum()
            torch.testing.assert_close(rewards[row].sum(), score[row] - paid)


def trl_policy_loss(
    p: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> Tensor:
    """Let trl's GRPOTrainer compute its clipped loss, with one advantage a token and a mean over all tokens."""
    from trl import GRPOTrainer

    def logps(*args: Any, **named: Any) -> tuple[Tensor, Tensor, None]:
        return p, torch.zeros_like(p), None

    accelerator = SimpleNamespace(
        gather=lambda x: x, reduce=lambda x, *a, **k: x, num_processes=1, sync_gradients=True
    )
    args = SimpleNamespace(
        delta=None, use_bias_correction_kl=False, steps_per_generation=1, entropy_target=0.0
    )
    trainer: Any = SimpleNamespace(
        _get_per_token_logps_and_entropies=logps, aux_loss_enabled=False, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, importance_sampling_level="token", beta=0.0,
        loss_type="bnpo", epsilon_low=clip, epsilon_high=clip, args=args, use_vllm=False,
        model=SimpleNamespace(training=True), current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False, accelerator=accelerator, _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip
    ids = torch.zeros(mask.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": mask.double(),
        "advantages": advantages, "old_per_token_logps": old,
    }  # fmt: skip
    loss: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss


@pytest.mark.parametrize("clip", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 33)])
def test_the_policys_loss_and_its_gradient_agree_with_trl(
    clip: float, shape: tuple[int, int]
) -> None:
    g = torch.Generator().manual_seed(shape[1])
    mask = torch.rand(shape, generator=g) < 0.7
    mask[0, 0] = True
    old = -torch.rand(shape, generator=g, dtype=f64) * 3
    p = (old + 0.4 * random(g, mask)).requires_grad_()
    advantages, v = random(g, mask), random(g, mask)
    ours = ppo_loss(p, old, advantages, v, v, v, mask, clip)[0]
    theirs = trl_policy_loss(p, old, advantages, mask, clip)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(ours, p), torch.autograd.grad(theirs, p)):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@given(batch=batches(), clip=st.floats(0.05, 0.9))
def test_both_losses_and_their_gradients_agree_with_a_loop(
    batch: tuple[torch.Generator, Tensor], clip: float
) -> None:
    g, mask = batch
    old, advantages, old_values, returns = (random(g, mask) for _ in range(4))
    p = (old + 0.5 * random(g, mask)).requires_grad_()
    v = (old_values + random(g, mask)).requires_grad_()
    policy, value = ppo_loss(p, old, advantages, v, old_values, returns, mask, clip)
    n = max(1, int(mask.sum()))
    gain = error = 0.0
    slope_p, slope_v = torch.zeros_like(p), torch.zeros_like(v)
    for i, j in mask.nonzero().tolist():
        a, ratio = advantages[i, j].item(), math.exp(p[i, j].item() - old[i, j].item())
        held = min(max(ratio, 1 - clip), 1 + clip)
        gain += min(ratio * a, held * a)
        if ratio * a <= held * a:
            slope_p[i, j] = -a * ratio / n
        value_now, target = v[i, j].item(), returns[i, j].item()
        near = min(max(value_now, old_values[i, j].item() - clip), old_values[i, j].item() + clip)
        error += max((value_now - target) ** 2, (near - target) ** 2)
        if abs(value_now - near) < 1e-12 or (value_now - target) ** 2 >= (near - target) ** 2:
            slope_v[i, j] = (value_now - target) / n
    assert policy.item() == pytest.approx(-gain / n, abs=1e-10)
    assert value.item() == pytest.approx(0.5 * error / n, abs=1e-10)
    torch.testing.assert_close(torch.autograd.grad(policy, p)[0], slope_p, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(torch.autograd.grad(value, v)[0], slope_v, rtol=1e-9, atol=1e-10)


@given(batch=batches())
def test_whitened_tokens_have_mean_0_and_variance_1(
    batch: tuple[torch.Generator, Tensor],
) -> None:
    g, mask = batch
    white = whiten(3 * random(g, mask) + 5, mask)
    assert not white[~mask].any()
    if mask.sum() > 1:
        assert white[mask].mean().item() == pytest.approx(0, abs=1e-9)
        assert white[mask].var(unbiased=False).item() == pytest.approx(1, abs=1e-3)


def test_what_stands_outside_of_the_replies_never_counts() -> None:
    mask = torch.tensor([[False, True, True, False]])
    clean = torch.tensor([[0.0, -1.0, -2.0, 0.0]], dtype=f64)
    for anything in (math.nan, math.inf, -math.inf, 1e30):
        wild = clean.masked_fill(~mask, anything)
        assert masked_mean(wild, mask) == masked_mean(clean, mask) == -1.5
        for one, other in zip(gae(wild, wild, mask), gae(clean, clean, mask)):
            assert torch.equal(one, other)
        score = torch.ones(1, dtype=f64)
        assert torch.equal(
            kl_penalty(score, wild, clean, mask, 0.1), kl_penalty(score, clean, clean, mask, 0.1)
        )
        p = wild.clone().requires_grad_()
        loss = sum(ppo_loss(p, clean, clean, p, clean, clean, mask))
        assert isinstance(loss, Tensor)
        assert loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, p)
        assert gradient.isfinite().all()
        assert not gradient[~mask].any()


def test_the_price_moves_as_ziegler_and_others_say() -> None:
    control = AdaptiveBeta(0.2, target=4.0, gain=0.1)
    assert control.update(4.0) == 0.2
    assert control.update(4.4) == pytest.approx(0.2 * 1.01)
    assert control.update(400.0) == pytest.approx(0.2 * 1.01 * 1.02)  # at most 0.2 of the gain
    assert control.update(0.0) == pytest.approx(0.2 * 1.01 * 1.02 * 0.98)
    assert AdaptiveBeta(0.3).update(1e9) == 0.3


# --- a space where everything is known -------------------------------------------------------


@pytest.fixture(scope="module")
def space() -> ReplySpace:
    return ReplySpace(("red", "please", "um"), 3)


@pytest.fixture(scope="module")
def rewards(space: ReplySpace) -> Tensor:
    return torch.randn(len(space), generator=torch.Generator().manual_seed(1), dtype=f64)


def reference_of(space: ReplySpace) -> TabularPolicy:
    g = torch.Generator().manual_seed(2)
    return TabularPolicy(space, torch.randn(space.n_states, 4, generator=g, dtype=f64))


def test_the_space_holds_every_reply_once(space: ReplySpace) -> None:
    assert len(space) == 1 + 3 + 9 + 27
    assert space.n_states == 1 + 3 + 9
    texts = [space.text(row) for row in range(len(space))]
    assert len(set(texts)) == len(texts)
    assert texts[0] == ""
    assert "red please" in texts
    assert "um um red …" in texts
    log_p = reference_of(space).log_probs()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_tabular_policy_can_be_any_distribution_and_is_drawn_from_rightly(
    space: ReplySpace,
) -> None:
    reference = reference_of(space)
    rows = reference.sample(40_000, torch.Generator().manual_seed(0))
    expected = 40_000 * reference.log_probs().exp().detach()
    counted = torch.bincount(rows, minlength=len(space))
    chi2 = ((counted - expected).square() / expected).sum().item()
    assert chi2 < 100  # 39 degrees of freedom: exceeded once in 10⁷ draws
    wanted = torch.randn(len(space), dtype=f64, generator=torch.Generator().manual_seed(5))
    policy = TabularPolicy(space, torch.zeros(space.n_states, 4, dtype=f64))
    optimizer = torch.optim.LBFGS(
        policy.parameters(), max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-12
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        far = kl_divergence(wanted.log_softmax(0), policy.log_probs())
        far.backward()
        return far

    optimizer.step(loss)
    assert total_variation(policy.log_probs(), wanted.log_softmax(0)) < 1e-5


def test_the_closed_form_is_the_best_there_is(space: ReplySpace, rewards: Tensor) -> None:
    reference, beta = reference_of(space).log_probs().detach(), 0.4

    def objective(log_p: Tensor) -> Tensor:
        return (log_p.exp() * rewards).sum() - beta * kl_divergence(log_p, reference)

    best = closed_form(reference, rewards, beta)
    worth = beta * (reference + rewards / beta).logsumexp(0)
    torch.testing.assert_close(objective(best), worth, rtol=1e-12, atol=1e-12)
    logits = best.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(logits.log_softmax(0)), logits)
    assert slope.abs().max() < 1e-12
    g = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = (best + 0.3 * torch.randn(len(best), generator=g, dtype=f64)).log_softmax(0)
        gap = worth - objective(other)
        torch.testing.assert_close(gap, beta * kl_divergence(other, best), rtol=1e-9, atol=1e-12)


def test_the_price_for_a_distance_is_found(space: ReplySpace, rewards: Tensor) -> None:
    reference = reference_of(space).log_probs().detach()
    beta = beta_for(reference, rewards, 0.7)
    far = kl_divergence(closed_form(reference, rewards, beta), reference)
    assert far.item() == pytest.approx(0.7, abs=1e-9)
    with pytest.raises(ValueError, match="50"):
        beta_for(reference, rewards, 50.0)


def test_divergences_know_impossible_replies() -> None:
    p, q = torch.tensor([0.0, -math.inf]), torch.tensor([0.5, 0.5]).log()
    assert kl_divergence(p, q).item() == pytest.approx(math.log(2))
    assert kl_divergence(q, p).item() == math.inf
    assert total_variation(p, q).item() == pytest.approx(0.5)


def exact_gradients(
    space: ReplySpace, policy: TabularPolicy, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return REINFORCE's expected gradient, over all replies, and that of the expected reward itself."""
    rows = torch.arange(len(space))
    log_p = policy(rows)[0]
    share = log_p.sum(1).exp().detach()
    gain = (wanted - (share * wanted).sum()) * share * len(space)
    loss = reinforce_loss(log_p, gain, space.mask)
    expected = -(policy.log_probs().exp() * wanted).sum()
    return (
        torch.autograd.grad(loss, policy.logits)[0],
        torch.autograd.grad(expected, policy.logits)[0],
    )


def test_reinforce_has_the_right_gradient_on_average(space: ReplySpace, rewards: Tensor) -> None:
    ours, exact = exact_gradients(space, reference_of(space), rewards)
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)


def test_per_token_rewards_and_gae_have_the_same_gradient_on_average(
    space: ReplySpace, rewards: Tensor
) -> None:
    """With γ = λ = 1 any values are a baseline: PPO's first gradient is that of reward − β KL."""
    reference, policy, beta = reference_of(space), reference_of(space), 0.3
    with torch.no_grad():
        g = torch.Generator().manual_seed(8)
        policy.logits += torch.randn(policy.logits.shape, generator=g, dtype=f64)
        policy.worth += torch.randn(policy.worth.shape, generator=g, dtype=f64)
    rows, mask = torch.arange(len(space)), space.mask
    log_p, _, values = policy(rows)
    with torch.no_grad():
        token_rewards = kl_penalty(rewards, log_p, reference(rows)[0], mask, beta)
        advantages, _ = gae(token_rewards, values, mask, 1.0, 1.0)
        share = log_p.sum(1).exp()[:, None]
    flat = ppo_loss(log_p, log_p.detach(), advantages * share, values, values, values, mask)[0]
    ours = torch.autograd.grad(flat * mask.sum(), policy.logits)[0]
    whole = policy.log_probs()
    far = kl_divergence(whole, reference.log_probs().detach())
    objective = (whole.exp() * rewards).sum() - beta * far
    exact = torch.autograd.grad(-objective, policy.logits)[0]
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("price", [0.5, 0.0, -0.5])
def test_ppo_reaches_the_closed_form_and_its_broken_variants_do_not(
    space: ReplySpace, rewards: Tensor, price: float
) -> None:
    reference = reference_of(space)
    policy, g = reference_of(space), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 150)
    for _ in range(150):
        rows = policy.sample(256, g)
        mask = space.mask[rows]
        with torch.no_grad():
            log_p, _, values = policy(rows)
            token_rewards = kl_penalty(rewards[rows], log_p, reference(rows)[0], mask, price)
        told = ppo_update(
            policy, optimizer, lambda part, rows=rows: rows[part], token_rewards, log_p, values, mask,
            PPOSettings(), g,
        )  # fmt: skip
        schedule.step()
    assert set(told) == {"policy loss", "value loss", "entropy", "clipped"}
    best = closed_form(reference.log_probs().detach(), rewards, 0.5)
    far = total_variation(policy.log_probs().detach(), best).item()
    assert far < 0.05 if price == 0.5 else far > 0.3


# --- language models -------------------------------------------------------------------------


def tiny(n_words: int = 300) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(n_words, 48, 16, 2, 2, rotary=True)).eval()


def test_an_actor_says_what_its_model_says_and_knows_nothing_of_what_comes() -> None:
    model = tiny()
    actor = Actor(model)
    torch.nn.init.normal_(actor.value.weight)
    ids = torch.randint(300, (3, 9))
    logprobs, entropy, values = actor(ids)
    expected = token_logprobs(actor.model(ids), ids)
    torch.testing.assert_close(logprobs, expected, rtol=1e-5, atol=1e-6)
    for i, t in ((0, 1), (2, 8)):
        share = actor.model(ids)[i, t - 1].softmax(-1)
        assert entropy[i, t].item() == pytest.approx(-(share * share.log()).sum().item(), abs=1e-5)
    for t in range(1, 9):
        other = ids.clone()
        other[:, t] = (other[:, t] + 1) % 300
        _, again, worth = actor(other)
        torch.testing.assert_close(worth[:, : t + 1], values[:, : t + 1])
        torch.testing.assert_close(again[:, : t + 1], entropy[:, : t + 1])
    assert all(a is not b for a, b in zip(actor.model.parameters(), model.parameters()))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    special = ["<|user|>", "<|assistant|>", "<|end|>"]
    return Tokenizer.train([" who lives there ? anna lives there ."] * 3, 280, special)


def learner(tokenizer: Tokenizer, model: GPT, **named: Any) -> Learner:
    return Learner(
        model, tokenizer, ["who lives there ?"], lambda prompts, replies: replies.mask.sum(1).float(),
        AdaptiveBeta(0.1), size=32, n_new=5, rate=1e-2, seed=3, **named,
    )  # fmt: skip


def test_a_learner_learns_the_same_again_and_leaves_the_reference_alone(
    tokenizer: Tokenizer,
) -> None:
    model = tiny(tokenizer.n_words)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    runs = []
    for _ in range(2):
        one = learner(tokenizer, model)
        texts = [one.step()[1].texts for _ in range(2)]
        runs.append((texts, one.seen, list(one.actor.parameters())))
    assert runs[0][:2] == runs[1][:2]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][2], runs[1][2]))
    assert runs[0][1][0]["kl"] == pytest.approx(0, abs=1e-6)
    assert runs[0][1][1]["kl"] != 0
    for name, each in model.state_dict().items():
        assert torch.equal(each, before[name])


def test_a_learner_comes_to_like_what_is_rewarded(tokenizer: Tokenizer) -> None:
    model = tiny(tokenizer.n_words)
    one = learner(tokenizer, model, settings=PPOSettings(epochs=3))
    one.score = lambda prompts, replies: ((replies.ids % 2 == 0) & replies.mask).sum(1).float()
    for _ in range(12):
        one.step()
    assert one.seen[-1]["score"] > one.seen[0]["score"] + 1
    assert one.seen[-1]["kl"] > 0


def test_batches_of_prompts_are_equally_long_and_all_come(tokenizer: Tokenizer) -> None:
    prompts = ["who ?", "there ?", "who lives ?", "anna lives ?", "lives there ?"]
    stream = same_length(prompts, tokenizer, 6, torch.Generator().manual_seed(0))
    seen = [next(stream) for _ in range(40)]
    for batch in seen:
        assert len(batch) == 6
        assert len({len(tokenizer.encode(" " + each)) for each in batch}) == 1
    assert {each for batch in seen for each in batch} == set(prompts)


def test_in_the_warm_up_the_critic_learns_and_nothing_else(tokenizer: Tokenizer) -> None:
    model = tiny(tokenizer.n_words)
    one = learner(tokenizer, model, warm_up=2)
    one.beta = AdaptiveBeta(0.1, target=1.0)
    begin = one.actor.value.bias.item()
    for _ in range(2):
        one.step()
    assert [each["kl"] for each in one.seen] == pytest.approx([0, 0], abs=1e-6)
    assert one.beta.beta == 0.1
    assert one.actor.value.bias.item() > begin
    policy = list(one.actor.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(policy, model.parameters()))
    one.step()
    assert not any(torch.equal(a, b) for a, b in zip(policy, model.parameters()))


def test_without_a_warm_up_the_policy_learns_at_once(tokenizer: Tokenizer) -> None:
    model = tiny(tokenizer.n_words)
    one = learner(tokenizer, model)
    one.step()
    pairs = zip(one.actor.model.parameters(), model.parameters())
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_batches_of_any_length_mix_all_prompts_equally(tokenizer: Tokenizer) -> None:
    prompts = ["who ?", "there ?", "who lives ?", "anna lives ?", "lives there ?"]
    stream = any_length(prompts, 6, torch.Generator().manual_seed(0))
    seen = [next(stream) for _ in range(200)]
    assert all(len(batch) == 6 for batch in seen)
    counts = [sum(batch.count(prompt) for batch in seen) for prompt in prompts]
    assert sum(counts) == 1200
    assert min(counts) > 190  # 240 each, with a standard deviation of 14
    assert max(counts) < 290
    assert any(len({len(tokenizer.encode(" " + each)) for each in batch}) > 1 for batch in seen)
    one = learner(tokenizer, tiny(tokenizer.n_words), alike=False)
    one.batches = any_length(prompts, 8, torch.Generator().manual_seed(0))
    asked, replies = one.step()
    assert len(asked) == len(replies.texts) == 8
