"""Lesson 14's encoder against Hugging Face's BERT: vectors, heads, gradients, sizes; its masks; exact blanks."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import BertConfig as TheirConfig
from transformers import BertForPreTraining, BertModel

from course_lib.data.riverbank import Town, TownError
from course_lib.models.attention import attention
from course_lib.models.bert import (
    BERT_CONFIGS,
    CLS,
    MASK,
    NOT_ASKED,
    PAD,
    SEP,
    SPECIAL,
    UNK,
    BertConfig,
    BertEncoder,
    MaskedModel,
    Words,
    classify,
    copy_bert,
    count_bert,
    fused_attention,
    load_bert,
    load_masked,
    mask_tokens,
    mlm_loss,
    pack,
)
from course_lib.models.blanks import exact_blank
from course_lib.models.shipped import WEIGHTS, load_encoder, record_of
from course_lib.training.masked import (
    TEST_SEED,
    TESTED,
    EncoderRecipe,
    blank_log_probs,
    document_pieces,
    draw_blanks,
    masked_test_loss,
    town_words,
)
from course_lib.training.pretraining import trainer_of

seeds = st.integers(0, 2**31)
SIZES = {  # (words, places, width, heads, blocks)
    "one place, one head": (6, 1, 1, 1, 1),
    "odd width": (11, 5, 9, 3, 2),
    "more words than width": (31, 12, 10, 5, 3),
    "one block, wide": (8, 7, 24, 2, 1),
}
Sizes = tuple[int, int, int, int, int]


def close(got: Tensor, expected: Tensor) -> None:
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10 * scale)


def their_config(sizes: Sizes) -> TheirConfig:
    words, places, width, heads, blocks = sizes
    return TheirConfig(
        vocab_size=words, max_position_embeddings=places, hidden_size=width, num_attention_heads=heads,
        num_hidden_layers=blocks, intermediate_size=4 * width, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=PAD,
    )  # fmt: skip


def shaken(model: nn.Module) -> nn.Module:
    """Change every weight, so that biases, norms and the row of [PAD] do something."""
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.3 * torch.randn_like(each))
    return model


def theirs_of(sizes: Sizes, seed: int) -> BertModel:
    torch.manual_seed(seed)
    return shaken(BertModel(their_config(sizes)).double())  # type: ignore[return-value]


def ours_of(sizes: Sizes, **told: object) -> BertEncoder:
    return BertEncoder(BertConfig(*sizes), **told).double()  # type: ignore[arg-type]


def batch_of(sizes: Sizes, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(sizes[0], (4, sizes[1]), generator=g)
    segments = torch.randint(2, ids.shape, generator=g)
    lengths = torch.randint(1, sizes[1] + 1, (4,), generator=g)
    lengths[0] = sizes[1]
    return ids, segments, lengths


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("attend", [fused_attention, attention])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_vectors_and_gradients_are_berts(
    sizes: Sizes, attend: object, training: bool, seed: int
) -> None:
    theirs, ours = theirs_of(sizes, seed).train(training), ours_of(sizes, attend=attend)
    ours.train(training)
    copy_bert(ours, theirs.state_dict())
    ids, segments, lengths = batch_of(sizes, seed)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    expected = theirs(ids, attention_mask=real.long(), token_type_ids=segments)
    vectors, pooled = ours(ids, segments, lengths)
    close(vectors[real], expected.last_hidden_state[real])
    close(pooled, expected.pooler_output)
    cotangents = torch.randn_like(vectors) * real[..., None], torch.randn_like(pooled)
    for pair in (
        (vectors, pooled),
        (expected.last_hidden_state, expected.pooler_output),
    ):
        sum((each * c).sum() for each, c in zip(pair, cotangents)).backward()
    # Put their gradients where their weights go, into an encoder of our own kind, and compare. Hugging
    # Face's table holds the gradient of [PAD]'s row at 0, where it is only ever filling; ours sees to it by
    # the mask alone, so where [PAD] is read as a word the two differ by design.
    holder = ours_of(sizes)
    copy_bert(holder, {name: each.grad for name, each in theirs.named_parameters()})
    for (name, got), wanted in zip(ours.named_parameters(), holder.parameters()):
        assert got.grad is not None, name
        first = 1 if name == "words.weight" else 0
        close(got.grad[first:], wanted.detach()[first:])


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_without_segments_and_lengths(sizes: Sizes) -> None:
    theirs, ours = theirs_of(sizes, 5).eval(), ours_of(sizes)
    copy_bert(ours, theirs.state_dict())
    ids = batch_of(sizes, 5)[0]
    with torch.no_grad():
        expected = theirs(ids)
        close(ours(ids)[0], expected.last_hidden_state)
        close(ours(ids)[1], expected.pooler_output)


def test_both_heads_are_berts() -> None:
    sizes = SIZES["more words than width"]
    torch.manual_seed(2)
    theirs = shaken(BertForPreTraining(their_config(sizes)).double())
    ours = MaskedModel(ours_of(sizes)).double()
    weights = theirs.state_dict()
    copy_bert(ours.encoder, weights)
    places = {
        "word.turn": "cls.predictions.transform.dense", "word.norm": "cls.predictions.transform.LayerNorm",
        "follows": "cls.seq_relationship",
    }  # fmt: skip
    with torch.no_grad():
        for name, other in places.items():
            for kind in ("weight", "bias"):
                ours.get_parameter(f"{name}.{kind}").copy_(weights[f"{other}.{kind}"])
        ours.word.bias.copy_(weights["cls.predictions.bias"])
    ids, segments, lengths = batch_of(sizes, 2)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    expected = theirs(ids, attention_mask=real.long(), token_type_ids=segments)
    close(ours(ids, segments, lengths)[real], expected.prediction_logits[real])
    close(ours.follows(ours.encoder(ids, segments, lengths)[1]), expected.seq_relationship_logits)


def test_a_wrong_copy_is_caught() -> None:
    sizes = SIZES["odd width"]
    theirs, ours = theirs_of(sizes, 0).eval(), ours_of(sizes)
    copy_bert(ours, theirs.state_dict())
    with torch.no_grad():
        ours.segments.weight.copy_(ours.segments.weight.flip(0))
        ids, segments, _ = batch_of(sizes, 0)
        expected = theirs(ids, token_type_ids=segments)
        assert (ours(ids, segments)[1] - expected.pooler_output).abs().max() > 1e-3


# --- sizes and files -----------------------------------------------------------------------------


def test_base_has_its_published_size() -> None:
    assert count_bert(BERT_CONFIGS["base"]) == 109_482_240
    with torch.device("meta"):
        theirs = BertModel(TheirConfig())
    assert sum(each.numel() for each in theirs.parameters()) == 109_482_240


@pytest.mark.parametrize("name", BERT_CONFIGS)
def test_the_sizes_are_hugging_faces(name: str) -> None:
    config = BERT_CONFIGS[name]
    with torch.device("meta"):
        theirs = BertModel(
            TheirConfig(
                hidden_size=config.d_model, num_attention_heads=config.n_heads,
                num_hidden_layers=config.n_layers, intermediate_size=4 * config.d_model,
            )
        )  # fmt: skip
    assert count_bert(config) == sum(each.numel() for each in theirs.parameters())


def test_a_saved_checkpoint_is_read(tmp_path: Path) -> None:
    sizes = SIZES["more words than width"]
    theirs = theirs_of(sizes, 3).float().eval()
    theirs.save_pretrained(tmp_path)
    ours = load_bert(tmp_path)
    assert ours.config == BertConfig(*sizes)
    assert not ours.training
    ids, segments, _ = batch_of(sizes, 3)
    with torch.no_grad():
        expected = theirs(ids, token_type_ids=segments).last_hidden_state
        torch.testing.assert_close(ours(ids, segments)[0], expected, rtol=1e-4, atol=1e-5)


def test_names_of_older_files_are_read() -> None:
    sizes = SIZES["odd width"]
    theirs, ours = theirs_of(sizes, 0).eval(), ours_of(sizes)
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): each
        for name, each in theirs.state_dict().items()
    }  # fmt: skip
    copy_bert(ours, old)
    ids = batch_of(sizes, 0)[0]
    close(ours(ids)[0], theirs(ids).last_hidden_state)


def test_what_is_no_bert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no config\.json"):
        load_bert(tmp_path)
    theirs = theirs_of((9, 4, 6, 2, 1), 0)
    theirs.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    for changed, says in (
        ({"model_type": "gpt2"}, "type gpt2, not bert"),
        ({"hidden_act": "relu"}, "bend otherwise"),
        ({"max_position_embeddings": 3}, "has the shape"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**described, **changed}))
        with pytest.raises(ValueError, match=says):
            load_bert(tmp_path)
    weights = theirs.state_dict()
    del weights["pooler.dense.bias"]
    with pytest.raises(ValueError, match=r"lack pooler\.dense\.bias"):
        copy_bert(ours_of((9, 4, 6, 2, 1)), weights)


def test_too_many_places_are_refused() -> None:
    with pytest.raises(ValueError, match="positions"):
        ours_of((9, 4, 6, 2, 1))(torch.zeros(1, 5, dtype=torch.long))


# --- what a text looks like ----------------------------------------------------------------------


def test_a_pair_is_packed_as_in_the_paper() -> None:
    ids, segments, lengths = pack([[7, 8], [9]], [[5], [6, 6, 6]])
    assert ids.tolist() == [[CLS, 7, 8, SEP, 5, SEP, PAD], [CLS, 9, SEP, 6, 6, 6, SEP]]
    assert segments.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert lengths.tolist() == [6, 7]
    ids, segments, lengths = pack([[], [9]])
    assert ids.tolist() == [[CLS, SEP, PAD], [CLS, 9, SEP]]
    assert segments.sum() == 0


def test_words_are_numbered_and_read_back() -> None:
    words = Words(["bank", "river"])
    assert words.words[: len(SPECIAL)] == list(SPECIAL)
    assert words.encode(["river", "sea", "bank"]) == [6, UNK, 5]
    assert words.decode(torch.tensor([6, UNK, MASK])) == ["river", "[UNK]", "[MASK]"]
    assert len(words) == 7


@given(batch=st.integers(1, 4), n=st.integers(1, 40), share=st.floats(0.01, 1.0), seed=seeds)
def test_padding_is_not_felt(batch: int, n: int, share: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed % 1000)
    model = ours_of((9, 44, 6, 2, 2))
    texts = [
        torch.randint(5, 9, (int(torch.randint(n, (), generator=g)) + 1,), generator=g).tolist()
        for _ in range(batch)
    ]
    ids, segments, lengths = pack(texts)
    with torch.no_grad():
        vectors, pooled = model(ids, segments, lengths)
        for i, text in enumerate(texts):
            alone, alone_pooled = model(*pack([text]))
            close(vectors[i, : len(text) + 2], alone[0])
            close(pooled[i], alone_pooled[0])


# --- hiding words --------------------------------------------------------------------------------


@given(batch=st.integers(1, 5), n=st.integers(1, 50), share=st.floats(0.01, 1.0), seed=seeds)
def test_shares_are_exact(batch: int, n: int, share: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, (batch, n), generator=g)
    order = torch.rand(ids.shape, generator=g)
    others = torch.randint(50, 60, ids.shape, generator=g)  # unlike any word that is there
    before = ids.clone(), order.clone(), others.clone()
    read, labels = mask_tokens(ids, order, others, share)
    assert all(torch.equal(a, b) for a, b in zip(before, (ids, order, others)))
    words = ids >= len(SPECIAL)
    asked = labels != NOT_ASKED
    n_words = int(words.sum())
    expected = min(n_words, max(1, round(share * n_words)))
    assert int(asked.sum()) == expected
    assert not (asked & ~words).any()
    assert torch.equal(labels[asked], ids[asked])
    assert torch.equal(read[~asked], ids[~asked])
    masked, changed, kept = (read == MASK) & asked, (read >= 50) & asked, (read == ids) & asked
    assert abs(int(masked.sum()) - 0.8 * expected) <= 0.5
    assert abs(int(masked.sum() + changed.sum()) - 0.9 * expected) <= 0.5
    assert int(masked.sum() + changed.sum() + kept.sum()) == expected
    assert torch.equal(read[changed], others[changed])


def test_every_word_is_as_likely_to_be_chosen() -> None:
    """Chi-square over the places of a batch: each is chosen as often as any other."""
    g = torch.Generator().manual_seed(0)
    ids = torch.full((4, 10), 7)
    counts = torch.zeros(ids.shape)
    draws = 5000
    for _ in range(draws):
        _, labels = mask_tokens(ids, torch.rand(ids.shape, generator=g), ids)
        counts += labels != NOT_ASKED
    expected = draws * 6 / 40
    statistic = ((counts - expected) ** 2 / (expected * (1 - 6 / 40))).sum().item()
    assert statistic < 74  # 39 degrees of freedom: exceeded once in 2,000 times


# --- losses --------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_asked_places() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(6, 9).double()
    labels = torch.full((3, 4), NOT_ASKED)
    labels[0, 1], labels[2, 3], labels[2, 0] = 4, 0, 8
    loss = mlm_loss(vectors, labels, head)
    close(loss, F.cross_entropy(head(vectors).flatten(0, 1), labels.flatten()))
    (got,) = torch.autograd.grad(loss, vectors)
    (wanted,) = torch.autograd.grad(
        F.cross_entropy(head(vectors).flatten(0, 1), labels.flatten()), vectors
    )
    close(got, wanted)
    nothing = mlm_loss(vectors, torch.full((3, 4), NOT_ASKED), head)
    assert nothing.item() == 0
    (none,) = torch.autograd.grad(nothing, vectors)
    assert none.abs().sum() == 0
    assert mlm_loss(vectors.bfloat16(), labels, nn.Linear(6, 9).bfloat16()).dtype == torch.float32


def test_classes_of_texts_and_of_words() -> None:
    torch.manual_seed(0)
    encoder, head = ours_of((9, 8, 6, 2, 1)), nn.Linear(6, 3).double()
    batch = pack([[5, 6], [7]], [[8], [5, 5]])
    vectors, pooled = encoder(*batch)
    close(classify(encoder, head, *batch), head(pooled))
    picked = classify(encoder, head, *batch, torch.tensor([2, 1]))
    close(picked, head(torch.stack([vectors[0, 2], vectors[1, 1]])))


# --- exact blanks --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town() -> Town:
    return Town()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("anna rested on the bank .", 5),
        ("anna rested on the bank .", 1),
        ("the kings rule the kingdom .", 4),
        ("look , anna ! the dog is small . she is", 5),
    ],
)
def test_a_blank_is_bayes_rule(town: Town, text: str, place: int) -> None:
    """The posterior is the probability of each filled text over the sum of all of them."""
    words = text.split()
    found = exact_blank(town, words, place)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-12)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    filled = {
        word: town.prefix_log_prob([*words[:place], word, *words[place + 1 :]])
        for word in town.next_word(words[:place])
    }
    total = math.fsum(math.exp(each) for each in filled.values())
    expected = {word: math.exp(each) / total for word, each in filled.items() if each > -math.inf}
    assert found.keys() == expected.keys()
    for word, prob in expected.items():
        assert found[word] == pytest.approx(prob, rel=1e-9)


def test_an_impossible_blank_is_a_sentence(town: Town) -> None:
    with pytest.raises(TownError, match="no text of Riverbank"):
        exact_blank(town, ["anna", "rested", "on", "the", "on", "."], 1)
    with pytest.raises(TownError, match="no text of Riverbank"):
        exact_blank(town, ["on", "on", "on"], 2)


# --- pretraining ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [False, True])
def test_pieces_are_documents_beginnings(town: Town, pairs: bool) -> None:
    documents, words = town.documents(40, seed=3), town_words()
    firsts, seconds, follows = document_pieces(documents, words, 30, random.Random(0), pairs)
    texts = [words.encode(each.tokens) for each in documents]
    assert set(follows) == ({0, 1} if pairs else {0})
    for text, first, second, other in zip(texts, firsts, seconds, follows):
        assert len(first) >= 1
        assert len(first) + len(second) <= 30
        assert first == text[: len(first)]
        assert UNK not in first + second
        goes_on = text[len(first) : len(first) + len(second)] == second
        assert goes_on or other
    swapped = sum(follows)
    assert not pairs or 8 <= swapped <= 32


def test_a_batch_is_a_function_of_its_number() -> None:
    recipe = EncoderRecipe(d_model=12, n_heads=2, n_layers=1, documents=3, short=2)
    for number in (0, 3, 7):
        one, other = recipe.batch(number), recipe.batch(number)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
        asked = one["labels"] != NOT_ASKED
        n_words = asked.sum().item() / recipe.share
        real = torch.arange(one["ids"].shape[1]) < one["lengths"][:, None]
        special = (one["ids"] < MASK) & real
        assert n_words == pytest.approx((real & ~special).sum().item(), abs=2)
        assert one["ids"].shape[1] <= recipe.max_len
    assert not torch.equal(recipe.batch(0)["labels"], recipe.batch(1)["labels"])


def test_the_recipe_learns_with_both_tasks() -> None:
    recipe = EncoderRecipe(
        steps=12, d_model=12, n_heads=2, n_layers=1, documents=4, short=2, next_sentence=True
    )
    assert set(recipe.batch(0)["follows"].tolist()) <= {0, 1}
    losses = trainer_of(recipe).run(12)
    assert losses[-1] < losses[0] - 0.5


def test_blanks_are_asked_at_their_places(town: Town) -> None:
    """What a batch of blanks says is what each says alone, and hangs on nothing behind the mask."""
    words = town_words()
    torch.manual_seed(0)
    model = EncoderRecipe(d_model=12, n_heads=2, n_layers=1).model().eval()
    blanks = draw_blanks(town.documents(12, seed=5), 61, 20, seed=1)
    together = blank_log_probs(model, words, blanks)
    assert together.exp().sum(1).tolist() == pytest.approx([1.0] * len(blanks), abs=1e-4)
    for each, row in zip(blanks, together):
        assert each.answer == each.words[each.place]
        numbers = words.encode(each.words)
        numbers[each.place] = MASK
        batch = pack([numbers[: each.cut]], [numbers[each.cut :]])
        (place,) = (batch[0][0] == MASK).nonzero()[:, 0]
        with torch.no_grad():
            logits = model.word(model.encoder(*batch)[0][0, place])
        torch.testing.assert_close(row[5:], logits[5:].log_softmax(-1), rtol=1e-4, atol=1e-4)


def test_a_saved_encoder_is_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = EncoderRecipe(d_model=12, n_heads=2, n_layers=1)
    model = recipe.model()
    recipe.save(model, tmp_path)
    again, words = load_masked(tmp_path / "encoder.safetensors")
    assert words.words == town_words().words
    assert again.encoder.config == model.encoder.config
    for one, other in zip(model.parameters(), again.parameters()):
        assert torch.equal(one.half().float(), other)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not written by save_masked"):
        load_masked(tmp_path / "other.safetensors")


# --- the encoder that ships ----------------------------------------------------------------------


def test_the_shipped_encoder_is_as_recorded(town: Town) -> None:
    assert (WEIGHTS / "encoder.safetensors").stat().st_size <= 1_700_000
    model, words = load_encoder()
    record = record_of("encoder")
    assert record["parameters"] == sum(each.numel() for each in model.parameters())
    documents = town.documents(TESTED, TEST_SEED)
    loss = masked_test_loss(model, words, documents)
    told = record["measured"]
    assert loss == pytest.approx(told["nats a hidden word, many hidden at once"], abs=0.01)
    assert told["nats a blank, one at a time"] > told["exact nats a blank"] > 0
