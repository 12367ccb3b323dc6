"""DPO, IPO, KTO and SimPO against trl's trainers and against the papers' formulas; the enumerable space."""

import copy
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from course_lib.models.block import initialise
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.chat import END, SPEAKERS, Turn, render_chat
from course_lib.posttraining.dpo import (
    dpo_loss,
    implicit_reward,
    ipo_loss,
    kto_loss,
    sequence_logprob,
    simpo_loss,
)
from course_lib.posttraining.enumerable import closed_form, kl_divergence, total_variation
from course_lib.posttraining.preferences import Article, Constitution, Pairs, Thumbs, tune

f64 = torch.float64
seeds = st.integers(0, 2**31)


def drawn(seed: int, n: int = 6) -> list[Tensor]:
    """Return log-probabilities of chosen, rejected, and both under the reference."""
    g = torch.Generator().manual_seed(seed)
    return [-1 - 9 * torch.rand(n, generator=g, dtype=f64) for _ in range(4)]


def derivative(loss: Callable[[float], float], x: float, step: float = 1e-5) -> float:
    """Return the slope at x by central differences."""
    return (loss(x + step) - loss(x - step)) / (2 * step)


def assert_losses_and_slopes(
    loss: Callable[[Tensor, Tensor], Tensor],
    by_hand: Callable[[float, float, int], float],
    chosen: Tensor,
    rejected: Tensor,
) -> None:
    c, r = chosen.clone().requires_grad_(), rejected.clone().requires_grad_()
    found = loss(c, r)
    found.sum().backward()
    for i, (x, y) in enumerate(zip(chosen.tolist(), rejected.tolist())):
        assert found[i].item() == pytest.approx(by_hand(x, y, i), rel=1e-12, abs=1e-13)
        for got, slope in (
            (c.grad, derivative(lambda z, y=y, i=i: by_hand(z, y, i), x)),
            (r.grad, derivative(lambda z, x=x, i=i: by_hand(x, z, i), y)),
        ):
            assert got is not None
            assert got[i].item() == pytest.approx(slope, rel=1e-6, abs=1e-7)


# --- the papers' formulas, number by number ------------------------------------------------------


@given(seed=seeds, beta=st.floats(0.01, 2.0))
@settings(max_examples=20, deadline=None)
def test_dpo_is_the_papers(seed: int, beta: float) -> None:
    chosen, rejected, reference_chosen, reference_rejected = drawn(seed)

    def by_hand(x: float, y: float, i: int) -> float:
        first = beta * math.log(math.exp(x) / math.exp(reference_chosen[i]))
        second = beta * math.log(math.exp(y) / math.exp(reference_rejected[i]))
        return -math.log(1 / (1 + math.exp(-(first - second))))

    assert_losses_and_slopes(
        lambda c, r: dpo_loss(c, r, reference_chosen, reference_rejected, beta),
        by_hand,
        chosen,
        rejected,
    )


@given(seed=seeds, beta=st.floats(0.05, 2.0))
@settings(max_examples=10, deadline=None)
def test_dpos_gradient_is_weighted_as_the_paper_says(seed: int, beta: float) -> None:
    chosen, rejected, reference_chosen, reference_rejected = drawn(seed)
    chosen.requires_grad_()
    dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta).sum().backward()
    rewards = [
        implicit_reward(*each, beta)
        for each in ((chosen, reference_chosen), (rejected, reference_rejected))
    ]
    weight = torch.sigmoid(rewards[1] - rewards[0])  # how wrong the implicit reward is
    assert chosen.grad is not None
    torch.testing.assert_close(chosen.grad, -beta * weight.detach(), rtol=1e-12, atol=1e-12)


@given(seed=seeds, tau=st.floats(0.05, 3.0), averaged=st.booleans())
@settings(max_examples=20, deadline=None)
def test_ipo_is_the_papers(seed: int, tau: float, averaged: bool) -> None:
    chosen, rejected, reference_chosen, reference_rejected = drawn(seed)
    lengths = torch.randint(1, 20, (2, 6), generator=torch.Generator().manual_seed(seed))
    average = (lengths[0], lengths[1]) if averaged else None

    def by_hand(x: float, y: float, i: int) -> float:
        n, m = (lengths[0, i].item(), lengths[1, i].item()) if averaged else (1, 1)
        h = (x - reference_chosen[i].item()) / n - (y - reference_rejected[i].item()) / m
        return (h - 0.5 / tau) ** 2

    assert_losses_and_slopes(
        lambda c, r: ipo_loss(c, r, reference_chosen, reference_rejected, tau, average),
        by_hand,
        chosen,
        rejected,
    )


@given(seed=seeds, beta=st.floats(0.1, 3.0), gamma=st.floats(0.0, 2.0))
@settings(max_examples=20, deadline=None)
def test_simpo_is_the_papers(seed: int, beta: float, gamma: float) -> None:
    chosen, rejected, _, _ = drawn(seed)
    n, m = torch.randint(1, 20, (2, 6), generator=torch.Generator().manual_seed(seed))

    def by_hand(x: float, y: float, i: int) -> float:
        inside = beta / n[i].item() * x - beta / m[i].item() * y - gamma
        return -math.log(1 / (1 + math.exp(-inside)))

    assert_losses_and_slopes(
        lambda c, r: simpo_loss(c, r, n, m, beta, gamma), by_hand, chosen, rejected
    )


@given(seed=seeds, beta=st.floats(0.05, 2.0), shift=st.floats(-3.0, 3.0))
@settings(max_examples=30, deadline=None)
def test_kto_is_the_papers(seed: int, beta: float, shift: float) -> None:
    policy, reference, mismatched, away = drawn(seed)
    liked = torch.rand(6, generator=torch.Generator().manual_seed(seed)) < 0.5
    weights = (1.3, 0.7)
    other = mismatched + 0.3 * (away - away.mean()) + shift
    z = max(0.0, sum(other.tolist()) / 6 - sum(mismatched.tolist()) / 6)

    def by_hand(x: float, i: int) -> float:
        gain = beta * (x - reference[i].item() - z)
        weight, sign = (weights[0], 1) if liked[i] else (weights[1], -1)
        return weight - weight / (1 + math.exp(-sign * gain))

    p, o = policy.clone().requires_grad_(), other.clone().requires_grad_()
    loss = kto_loss(p, reference, liked, o, mismatched, beta, *weights)
    loss.sum().backward()
    assert o.grad is None
    for i, x in enumerate(policy.tolist()):
        assert loss[i].item() == pytest.approx(by_hand(x, i), rel=1e-9, abs=1e-12)
        slope = derivative(lambda y, i=i: by_hand(y, i), x)
        assert p.grad is not None
        assert p.grad[i].item() == pytest.approx(slope, rel=1e-6, abs=1e-7)


@given(seed=seeds, batch=st.integers(1, 4), n=st.integers(1, 7), words=st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_a_sequences_log_probability_is_a_product(
    seed: int, batch: int, n: int, words: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, n, words, generator=g, dtype=f64)
    ids = torch.randint(words, (batch, n), generator=g)
    mask = torch.rand(batch, n, generator=g) < 0.5
    found = sequence_logprob(logits, ids, mask)
    for b in range(batch):
        probability = 1.0
        for i in range(1, n):
            if mask[b, i]:
                powers = logits[b, i - 1].exp()
                probability *= (powers[ids[b, i]] / powers.sum()).item()
        assert found[b].item() == pytest.approx(math.log(probability), rel=1e-9, abs=1e-12)


def test_margins_far_from_zero_give_numbers() -> None:
    far = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    loss = dpo_loss(far, torch.zeros(3), torch.zeros(3), torch.zeros(3), 1.0)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), torch.tensor([0.0, 1e4, math.log(2)]))
    assert far.grad is not None
    torch.testing.assert_close(far.grad, torch.tensor([0.0, -1.0, -0.5]))


# --- the enumerable space ------------------------------------------------------------------------


def optimum_of(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return the log-probabilities with the smallest loss, starting at ``start``."""
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=400,
        tolerance_grad=1e-14,
        tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(theta.log_softmax(0))
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[arg-type]
    return theta.detach().log_softmax(0)


def of_all_pairs(each: Callable[..., Tensor], reference: Tensor, wins: Tensor) -> Any:
    """Return the loss of a tabular policy: all pairs, each in both orders as often as it is judged so."""

    def loss(policy: Tensor) -> Tensor:
        table = each(policy[:, None], policy[None], reference[:, None], reference[None])
        return (wins * table).mean()

    return loss


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_dpo_finds_the_closed_form(beta: float) -> None:
    g = torch.Generator().manual_seed(0)
    reference = torch.randn(40, generator=g, dtype=f64).log_softmax(0)
    rewards = torch.randn(40, generator=g, dtype=f64)
    wins = torch.sigmoid(rewards[:, None] - rewards)  # Bradley and Terry

    def each(*given: Tensor) -> Tensor:
        return dpo_loss(*given, beta)

    found = optimum_of(of_all_pairs(each, reference, wins), reference)
    best = closed_form(reference, rewards, beta)
    assert total_variation(found, best) < 1e-7
    without = optimum_of(
        of_all_pairs(lambda c, r, *_: each(c, r, 0 * c, 0 * r), reference, wins), reference
    )
    assert total_variation(without, best) > 0.02
    values = [
        (p.exp() * rewards).sum() - beta * kl_divergence(p, reference)
        for p in (best, reference, without)
    ]
    assert values[0] > max(values[1:])
    torch.testing.assert_close(values[0], beta * (reference + rewards / beta).logsumexp(0))


@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_ipo_finds_its_own_closed_form(tau: float) -> None:
    """Azar et al. 2024, equation 7: the reward is the share of replies that a reply beats."""
    g = torch.Generator().manual_seed(1)
    reference = torch.randn(30, generator=g, dtype=f64).log_softmax(0)
    rewards = torch.randn(30, generator=g, dtype=f64)
    for wins in (torch.sigmoid(rewards[:, None] - rewards), (rewards[:, None] > rewards).double()):
        wins = wins.clone().fill_diagonal_(0.5)
        found = optimum_of(
            of_all_pairs(lambda *given: ipo_loss(*given, tau), reference, wins), reference
        )
        assert total_variation(found, closed_form(reference, wins.mean(1), tau)) < 1e-7


def test_divergences() -> None:
    p, q = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=f64).log()
    assert total_variation(p, q).item() == pytest.approx(0.5)
    assert kl_divergence(p, q).item() == pytest.approx(
        0.5 * math.log(2.5) + 0.5 * math.log(0.5 / 0.3)
    )
    assert kl_divergence(q, p).item() == math.inf
    assert total_variation(p, p).item() == 0.0


# --- pairs, thumbs and rules as a model reads them -----------------------------------------------

PROMPTS = ["where does anna live ?", "who is tom ?", "which colour ?"]
GOOD = ["mill street .", "tom is a baker , my friend .", "red ."]
BAD = ["hill street , thank you .", "i do not know .", "blue and red and blue ."]


@pytest.fixture(scope="module")
def small() -> tuple[GPT, Tokenizer]:
    tokenizer = Tokenizer.train([*PROMPTS, *GOOD, *BAD], 300, [*SPEAKERS.values(), END])
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.n_words, 64, 16, 2, 1))
    initialise(model, n_blocks=1, std=0.3)
    return model.eval(), tokenizer


def one_by_one(model: GPT, tokenizer: Tokenizer, prompt: str, reply: str) -> tuple[float, int]:
    """Return the log-probability of a reply and its number of tokens, without a batch, a mask or filler."""
    asked = render_chat([Turn("user", prompt)], tokenizer, ask=True)
    whole = render_chat([Turn("user", prompt), Turn("assistant", reply)], tokenizer)
    log_p = model(torch.tensor([whole])).log_softmax(-1)[0]
    said = [log_p[i - 1, whole[i]].item() for i in range(len(asked), len(whole))]
    return sum(said), len(said)


def test_pairs_are_compared_as_one_by_one(small: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = small
    pairs = Pairs(PROMPTS, GOOD, BAD, tokenizer, model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.words.weight += 0.3 * torch.randn_like(other.words.weight)
    some = torch.tensor([2, 0])
    found = pairs.compare(other, some)
    for row, i in enumerate(some.tolist()):
        for replies, ours, reference, count in (
            (GOOD, found.chosen, found.reference_chosen, found.n_chosen),
            (BAD, found.rejected, found.reference_rejected, found.n_rejected),
        ):
            value, n = one_by_one(other, tokenizer, PROMPTS[i], replies[i])
            assert ours[row].item() == pytest.approx(value, abs=1e-4)
            assert count[row].item() == n
            value, _ = one_by_one(model, tokenizer, PROMPTS[i], replies[i])
            assert reference[row].item() == pytest.approx(value, abs=1e-4)
    same = pairs.compare(model, some)
    loss = dpo_loss(same.chosen, same.rejected, same.reference_chosen, same.reference_rejected, 0.5)
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)), rtol=1e-4, atol=1e-4)


def test_thumbs_are_mismatched_with_another_prompts_reply(small: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = small
    thumbs = Thumbs(PROMPTS, GOOD, [True, False, True], tokenizer, model)
    policy, reference, liked, away, reference_away = thumbs.compare(model, torch.tensor([0, 1]))
    assert liked.tolist() == [True, False]
    assert away.grad_fn is None
    for i, reply in ((0, GOOD[2]), (1, GOOD[0])):  # the neighbour's reply
        value, _ = one_by_one(model, tokenizer, PROMPTS[i], reply)
        assert away[i].item() == pytest.approx(value, abs=1e-4)
        assert reference_away[i].item() == pytest.approx(value, abs=1e-4)
        assert policy[i].item() == pytest.approx(reference[i].item(), abs=1e-4)


def test_training_parts_the_pairs_and_sees_each_once_a_round(small: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = small
    pairs = Pairs(PROMPTS, GOOD, BAD, tokenizer, model)
    learner, seen, steps = copy.deepcopy(model), [], []

    def loss(policy: torch.nn.Module, some: Tensor) -> Tensor:
        seen.append(some.tolist())
        c = pairs.compare(policy, some)
        each = dpo_loss(c.chosen, c.rejected, c.reference_chosen, c.reference_rejected, 0.5)
        return each.mean()

    losses = tune(learner, len(pairs), loss, steps=9, batch=2, rate=1e-2, after=steps.append)
    flat = [i for some in seen for i in some]
    assert [sorted(flat[i : i + 3]) for i in range(0, 18, 3)] == [[0, 1, 2]] * 6
    assert steps == list(range(10))
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert not learner.training


def test_the_first_article_that_tells_replies_apart_decides() -> None:
    short = Article("Prefer the shorter.", lambda _, reply: -len(reply))
    kind = Article("Prefer the kinder.", lambda _, reply: "thank" in reply)
    both = Constitution((kind, short))
    assert both.verdict("", "thank you very much", "no") == (1.0, kind)
    assert both.verdict("", "yes", "no") == (0.0, short)
    assert both.verdict("", "on", "no") == (0.5, None)
    assert Constitution((short, kind)).verdict("", "thank you", "no") == (0.0, short)


# --- trl -----------------------------------------------------------------------------------------

PAIRS = [
    {"prompt": "where does anna live ?", "chosen": " mill street .", "rejected": " hill street , thank you ."},
    {"prompt": "who is tom ?", "chosen": " tom is a baker , my friend .", "rejected": " i do not know ."},
    {"prompt": "what is red ?", "chosen": " anna .", "rejected": " red red red ."},
    {"prompt": "when ?", "chosen": " on monday .", "rejected": " on monday on monday ."},
]  # fmt: skip


def in_float64(model: Any) -> None:
    """Let a model whose head trl has fused give log-probabilities in float64; trl's own are float32.

    All that trl makes of them, the losses, is then computed in float64 too.
    """
    fused = model.forward

    def forward(*given: Any, labels: Any = None, fused_lm_head: bool = False, **named: Any) -> Any:
        if not fused_lm_head:
            return (
                fused(*given, **named) if labels is None else fused(*given, labels=labels, **named)
            )
        outputs = fused(*given, labels=labels, fused_lm_head=True, **named)
        log_p = fused(*given, **named).logits[:, :-1].log_softmax(-1)
        said = log_p.gather(-1, labels[:, 1:].clamp(min=0)[..., None]).squeeze(-1)
        exact = said.masked_fill(labels[:, 1:] == -100, 0)
        torch.testing.assert_close(outputs.log_probs, exact.float(), rtol=1e-5, atol=1e-5)
        outputs.log_probs = exact
        return outputs

    model.forward = forward


class TRL:
    """A tiny random model, its reference, a tokenizer of words, and trl's trainers for them; all offline."""

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

        texts = " ".join(text for pair in PAIRS for text in pair.values()).split()
        words = ["<pad>", "<end>", "<unknown>", *dict.fromkeys(texts)]
        core = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unknown>")
        )
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
        )
        self.folder, self.data = folder, Dataset.from_list(PAIRS)

        def model(seed: int) -> Any:
            torch.manual_seed(seed)
            config = GPT2Config(
                vocab_size=len(words), n_positions=64, n_embd=12, n_head=2, n_layer=2,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                bos_token_id=1, eos_token_id=1, pad_token_id=0, initializer_range=0.4,
            )  # fmt: skip
            return GPT2LMHeadModel(config).double()

        self.policy, self.reference = model(0), model(1)

    def settings(self, config: Any, **options: Any) -> Any:
        """Return a configuration of trl's without anything that reaches out of this machine."""
        return config(
            output_dir=str(self.folder), use_cpu=True, bf16=False, report_to=[], max_length=64,
            per_device_train_batch_size=len(PAIRS), gradient_checkpointing=False,
            remove_unused_columns=False, disable_tqdm=True, **options,
        )  # fmt: skip

    def copies(self) -> dict[str, Any]:
        """Return the policy and its reference for a trainer, which changes their methods."""
        return {"model": copy.deepcopy(self.policy), "ref_model": copy.deepcopy(self.reference)}

    def loss(self, trainer: Any) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        """Return trl's loss of the only batch, its gradients, and the batch."""
        (batch,) = list(trainer.get_train_dataloader())
        model = trainer.model
        for each in (model, getattr(trainer, "ref_model", None)):
            if each is not None:
                in_float64(each)
        model.zero_grad(set_to_none=True)
        loss = trainer.compute_loss(model, batch)
        loss.backward()
        return loss.detach(), self.gradients(model), batch

    def gradients(self, model: Any) -> dict[str, Tensor]:
        """Return a model's gradients by name."""
        return {name: each.grad.clone() for name, each in model.named_parameters()}

    def logprob(self, model: Any, ids: Tensor, mask: Tensor, attention: Tensor) -> Tensor:
        """Return `sequence_logprob` of a Hugging Face model."""
        return sequence_logprob(model(input_ids=ids, attention_mask=attention).logits, ids, mask)

    def same(self, theirs: tuple[Tensor, dict[str, Tensor], Any], ours: Tensor) -> None:
        """Compare losses and the gradients of every parameter."""
        self.policy.zero_grad(set_to_none=True)
        ours.backward()
        torch.testing.assert_close(ours.detach(), theirs[0], rtol=1e-10, atol=1e-10)
        assert max(each.abs().max() for each in theirs[1].values()) > 1e-4
        for name, got in self.gradients(self.policy).items():
            torch.testing.assert_close(got, theirs[1][name], rtol=1e-9, atol=1e-10, msg=name)


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> TRL:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    return TRL(tmp_path_factory.mktemp("trl"))


def halves(batch: dict[str, Tensor], model: Any, trl: TRL) -> tuple[Tensor, Tensor]:
    mask = batch["completion_mask"].bool()
    both = trl.logprob(model, batch["input_ids"], mask, batch["attention_mask"])
    chosen, rejected = both.chunk(2)
    return chosen, rejected


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_losses_and_gradients_are_trls_dpo(trl: TRL, kind: str, beta: float) -> None:
    from trl import DPOConfig, DPOTrainer

    theirs = trl.loss(
        DPOTrainer(
            **trl.copies(),
            args=trl.settings(DPOConfig, loss_type=kind, beta=beta),
            train_dataset=trl.data,
            processing_class=trl.tokenizer,
        )
    )
    batch = theirs[2]
    policy = halves(batch, trl.policy, trl)
    with torch.no_grad():
        reference = halves(batch, trl.reference, trl)
    if kind == "sigmoid":
        ours = dpo_loss(*policy, *reference, beta).mean()
        broken = dpo_loss(*policy, *(0 * each for each in reference), beta).mean()
    else:
        n_chosen, n_rejected = batch["completion_mask"].sum(1).chunk(2)
        ours = ipo_loss(*policy, *reference, beta, average=(n_chosen, n_rejected)).mean()
        broken = ipo_loss(*policy, *reference, beta).mean()  # the paper's sum is another number
    assert (broken - theirs[0]).abs() > 1e-3
    trl.same(theirs, ours)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 1.4)])
def test_losses_and_gradients_are_trls_kto(trl: TRL, weights: tuple[float, float]) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    thumbs = [
        {"prompt": pair["prompt"], "completion": pair[kind], "label": kind == "chosen"}
        for pair, kind in zip(PAIRS, ("chosen", "rejected", "rejected", "chosen"))
    ]
    beta = 0.3
    args = trl.settings(
        KTOConfig, beta=beta, desirable_weight=weights[0], undesirable_weight=weights[1]
    )
    theirs = trl.loss(
        KTOTrainer(
            **trl.copies(),
            args=args,
            train_dataset=Dataset.from_list(thumbs),
            processing_class=trl.tokenizer,
        )
    )
    batch = theirs[2]

    def both(model: Any) -> tuple[Tensor, Tensor]:
        found = []
        for prefix in ("", "KL_"):
            ids, attention = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
            found.append(
                trl.logprob(model, ids, batch[f"{prefix}completion_mask"].bool(), attention)
            )
        return found[0], found[1]

    policy, mismatched = both(trl.policy)
    with torch.no_grad():
        reference, reference_mismatched = both(trl.reference)
    liked = torch.as_tensor(batch["label"]).bool()
    assert 0 < liked.sum() < len(liked)
    assert (mismatched - reference_mismatched).mean() != 0
    ours = kto_loss(policy, reference, liked, mismatched, reference_mismatched, beta, *weights)
    trl.same(theirs, ours.mean())


@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_losses_and_gradients_are_trls_simpo(trl: TRL, gamma: float) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    beta = 2.0
    theirs = trl.loss(
        CPOTrainer(
            model=copy.deepcopy(trl.policy),
            args=trl.settings(
                CPOConfig, loss_type="simpo", cpo_alpha=0.0, beta=beta, simpo_gamma=gamma
            ),
            train_dataset=trl.data,
            processing_class=trl.tokenizer,
        )
    )
    batch = theirs[2]

    def half(kind: str) -> tuple[Tensor, Tensor]:
        ids, labels = batch[f"{kind}_input_ids"], batch[f"{kind}_labels"]
        mask = labels != -100
        return trl.logprob(trl.policy, ids, mask, batch[f"{kind}_attention_mask"]), mask.sum(1)

    (chosen, n_chosen), (rejected, n_rejected) = half("chosen"), half("rejected")
    trl.same(theirs, simpo_loss(chosen, rejected, n_chosen, n_rejected, beta, gamma).mean())
