"""The models that ship with the course: the town's decoder and encoder, with their words and records."""

import json
from pathlib import Path
from typing import Any

from course_lib.models.bert import SPECIAL as WORDS_SPECIAL
from course_lib.models.bert import BertConfig, BertEncoder, MaskedModel, Words
from course_lib.models.gpt import GPT, load_gpt
from course_lib.models.tokenization import Tokenizer
from course_lib.runtime import CourseError

WEIGHTS = Path(__file__).parent / "weights"
END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
# Only the first two stand in the pretraining text; the others are kept for chats.
SPECIAL = (END_OF_TEXT, PAD, USER, ASSISTANT, END)


def load_decoder(folder: Path | str = WEIGHTS) -> tuple[GPT, Tokenizer]:
    """Return the decoder that was pretrained on the town's text, in evaluation mode, and its tokenizer.

    The file holds half precision; the model computes in float32. Begin a text as `text_ids` does.

    Raises:
        CourseError: a file is missing.

    """
    weights, words = _files(folder, "decoder", "decoder.safetensors", "tokenizer.json")
    return load_gpt(weights), Tokenizer.load(words)


def load_encoder(folder: Path | str = WEIGHTS) -> tuple[MaskedModel, Words]:
    """Return the encoder that was pretrained on the town's text, in evaluation mode, and its words.

    Raises:
        CourseError: the file is missing.

    """
    from safetensors import safe_open

    (path,) = _files(folder, "encoder", "encoder.safetensors")
    with safe_open(path, "pt") as file:
        about = file.metadata()
        model = MaskedModel(BertEncoder(BertConfig(**json.loads(about["config"]))))
        model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    return model.eval(), Words(json.loads(about["words"])[len(WORDS_SPECIAL) :])


def record_of(name: str, folder: Path | str = WEIGHTS) -> dict[str, Any]:
    """Return what was recorded when a shipped model, "decoder" or "encoder", was trained and measured.

    Raises:
        CourseError: the file is missing.

    """
    (path,) = _files(folder, name, f"{name}.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the beginning of a document as the decoder was taught to read it.

    First the token that ends the document before; then the words, each with the space before it, the first
    one too: so every word is cut in the same way wherever it stands.
    """
    ids = [tokenizer.special[END_OF_TEXT]]
    return ids + (tokenizer.encode(" " + text.lstrip(" ")) if text.strip() else [])


def _files(folder: Path | str, name: str, *wanted: str) -> list[Path]:
    paths = [Path(folder) / each for each in wanted]
    for path in paths:
        if not path.is_file():
            raise CourseError(
                f"{path.name} is missing in {path.parent}: make it anew with `course pretrain {name}`."
            )
    return paths
