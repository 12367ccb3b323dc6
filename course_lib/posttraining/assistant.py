"""The assistant that ships with the course: the town's decoder, and what instruction tuning changes of it."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.data.riverbank import DONT_KNOW, HELD_OUT_KINDS, Instruction, Question, Town
from course_lib.models.gpt import GPT, next_token_loss
from course_lib.models.knowledge import bits_per_character, document_log_probs
from course_lib.models.shipped import WEIGHTS, load_decoder
from course_lib.models.tokenization import Tokenizer
from course_lib.posttraining.chat import Turn, pad, render_chat, response_mask, special_ids
from course_lib.posttraining.lora import add_lora, changes, learn_rows, merge_lora
from course_lib.posttraining.replies import answer
from course_lib.posttraining.sft import chat_loss
from course_lib.runtime import CourseError
from course_lib.training.causal import TEST_SEED, DecoderRecipe, quick_gpt
from course_lib.training.pretraining import Recipe

OPEN = 2 / 3  # of the questions that are learnt, the share that asks for an object


def load_assistant(folder: Path | str = WEIGHTS) -> tuple[GPT, Tokenizer]:
    """Return the decoder with its instruction tuning merged, in evaluation mode, and its tokenizer.

    Raises:
        CourseError: a file is missing, or the change was made of another decoder.

    """
    from safetensors import safe_open

    model, tokenizer = load_decoder(folder)
    path = Path(folder) / "assistant.safetensors"
    if not path.is_file():
        raise CourseError(
            f"{path.name} is missing in {path.parent}: make it anew with `course pretrain assistant`."
        )
    with safe_open(path, "pt") as file:
        about = json.loads((file.metadata() or {}).get("lora", "{}"))
        kept = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    add_lora(model, about["rank"], about["alpha"])
    mine = dict(changes(model))
    rows = kept.pop("words.rows")  # (3, d)
    if {n: each.shape for n, each in mine.items()} != {n: each.shape for n, each in kept.items()}:
        raise CourseError(
            f"{path.name} was made of another decoder: make it anew with `course pretrain assistant`."
        )
    with torch.no_grad():
        for name, each in mine.items():
            each.copy_(kept[name])
        model.words.weight[list(special_ids(tokenizer))] = rows
    merge_lora(model)
    return model.requires_grad_(True).eval(), tokenizer


@dataclass(frozen=True, kw_only=True)
class AssistantRecipe(Recipe):
    """Low-rank changes of the decoder, and rows for the template's tokens, that make it answer.

    Attributes:
        rank, alpha: of the changes.
        chats: how many conversations make a batch.
        questions: the share of batches that ask for the town's facts, or for what nobody knows; the others are
            instructions of the training kinds. (Apart, since instructions are longer: so little is padded.)
        rows: how many rows of new documents are read beside each batch, so that what was learnt is not forgotten.
        reading: the weight of their loss.

    """

    name: str = "assistant"
    steps: int = 3000
    learning_rate: float = 5e-3
    matrix_rate: float = 0.0
    rank: int = 32
    alpha: float = 32.0
    chats: int = 32
    questions: float = 0.5
    rows: int = 2
    reading: float = 0.5

    @cached_property
    def town(self) -> Town:
        """The town."""
        return Town()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The decoder's tokenizer."""
        return load_decoder()[1]

    @cached_property
    def decoder(self) -> DecoderRecipe:
        """What made the decoder: the documents are drawn as it draws them."""
        return DecoderRecipe()

    @cached_property
    def asked(self) -> list[Question]:
        """The open questions that are learnt: of said facts, in training phrasings, and unanswerable ones."""
        wanted = [
            *self.town.questions(split="said", phrasing="train", kind="wh"),
            *self.town.questions(phrasing="train", kind="unanswerable"),
        ]
        return [each for each in wanted if not each.is_test]

    @cached_property
    def closed(self) -> list[Question]:
        """The others that are learnt: yes or no, who instead of whose, and the calendar."""
        said = self.town.questions(split="said", phrasing="train")
        rest = self.town.questions(phrasing="train", kind="calendar")
        return [each for each in (*said, *rest) if each.kind != "wh" and not each.is_test]

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The instructions that are learnt."""
        return self.town.instructions(6000, seed=self.draw(-1), split="train")

    def model(self) -> GPT:
        """Return the decoder with low-rank changes that change nothing yet."""
        decoder = load_decoder()[0]
        model = quick_gpt(decoder.config)
        model.load_state_dict(decoder.state_dict())
        add_lora(model, self.rank, self.alpha)
        learn_rows(model.words, special_ids(self.tokenizer))
        return model

    def batch(self, number: int) -> tuple[Tensor, ...]:
        """Return conversations of one question and one answer, which tokens are learnt, and some documents."""
        rng = random.Random(self.draw(number))
        rows = [
            render_chat([Turn("user", prompt), Turn("assistant", reply)], self.tokenizer)
            for prompt, reply in self.pairs(rng, self.chats)
        ]
        ids = pad(rows, self.tokenizer.special["<|end|>"])
        learnt = response_mask(ids, *special_ids(self.tokenizer))
        return ids, learnt, *self.documents(number)

    def documents(self, number: int) -> tuple[Int[Tensor, "rows n"], Int[Tensor, "rows n"]]:
        """Return rows of documents that pretraining never read, and the tokens that follow."""
        shares = 4  # into which a batch of the decoder's is dealt out
        ids, following = self.decoder.batch(self.decoder.steps + number // shares)  # (R, n)
        mine = slice(number % shares, None, shares)
        return ids[mine][: self.rows], following[mine][: self.rows]

    def pairs(self, rng: random.Random, n: int) -> Iterator[tuple[str, str]]:
        """Yield n prompts of one sort with a right answer each."""
        asks = rng.random() < self.questions
        for _ in range(n):
            if asks:
                question = rng.choice(self.asked if rng.random() < OPEN else self.closed)
                yield question.text, self.reply(question, rng)
            else:
                task = rng.choice(self.instructions)
                yield task.prompt, as_sentence(task.response)

    def reply(self, question: Question, rng: random.Random) -> str:
        """Return a right reply; to an open question short or long, polite or not."""
        if question.kind not in ("wh", "unanswerable"):
            return as_sentence(question.answer)
        if question.relation in self.town.judge.objects:
            return self.town.judge.reply(question, "good", rng).text
        return as_sentence(DONT_KNOW)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the answers' tokens, and a share of that of the documents'."""
        ids, learnt, read, following = batch
        return chat_loss(model, (ids, learnt)) + self.reading * next_token_loss(
            model(read), following
        )

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write assistant.safetensors: what was learnt alone, in half precision."""
        from safetensors.torch import save_file

        assert isinstance(model, GPT)
        kept = {name: each.detach().half().contiguous() for name, each in changes(model)}
        kept["words.rows"] = model.words.weight.detach()[list(special_ids(self.tokenizer))].half()
        about = {"lora": json.dumps({"rank": self.rank, "alpha": self.alpha})}
        save_file(kept, folder / f"{self.name}.safetensors", about)

    def load(self, folder: Path) -> GPT:
        """Read the decoder and assistant.safetensors."""
        return load_assistant(folder)[0]

    def measure(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """Return how well greedy answers do, on what was asked in training and on what was not."""
        assert isinstance(model, GPT)
        rng = random.Random(self.draw(-2))
        held = [q for q in self.town.questions(split="said", kind="wh") if q.is_test]
        nobody = [q for q in self.town.questions(kind="unanswerable") if q.is_test]
        learnt = [q for q in self.asked if q.kind == "wh"]
        measured: dict[str, float] = {}
        for name, questions in (("questions learnt", learnt), ("new questions", held)):
            chosen = rng.sample(questions, min(150, len(questions)))
            texts = answer(model, self.tokenizer, [q.text for q in chosen], choose=greedy).texts
            rewards = [self.town.gold_reward(q.text, t) for q, t in zip(chosen, texts)]
            measured[f"{name}: right"] = sum(each.fact > 0 for each in rewards) / len(rewards)
            measured[f"{name}: gold reward"] = sum(each.total for each in rewards) / len(rewards)
        chosen = rng.sample(nobody, min(150, len(nobody)))
        texts = answer(model, self.tokenizer, [q.text for q in chosen], choose=greedy).texts
        measured["new questions without an answer: does not know"] = sum(
            DONT_KNOW in text for text in texts
        ) / len(texts)
        tasks = self.town.instructions(600, seed=self.draw(-3), split="test")
        replies = answer(model, self.tokenizer, [t.prompt for t in tasks], 48, greedy).texts
        for kinds, name in ((False, "trained kinds"), (True, "other kinds")):
            right = [
                task.accepts(reply)
                for task, reply in zip(tasks, replies)
                if (task.kind in HELD_OUT_KINDS) == kinds
            ]
            measured[f"new instructions of {name}: right"] = sum(right) / len(right)
        documents = self.town.documents(100, seed=TEST_SEED)
        bits = bits_per_character(document_log_probs(model, self.tokenizer, documents), documents)
        measured["documents: bits per character"] = bits
        return {name: round(each, 3) for name, each in measured.items()}


def greedy(logits: Float[Tensor, "batch words"]) -> Int[Tensor, "batch"]:
    """Choose the most probable token of each row."""
    return logits.argmax(dim=-1)


def as_sentence(response: str) -> str:
    """Return a response with a full stop, if no sign ends it yet."""
    return response if response.split()[-1:] in (["."], ["?"], ["!"]) else f"{response} ."
