"""Time BPE training and encoding against Hugging Face's tokenizers, on the same text in the same run.

Both train the same number of merges on one megabyte of Python's documentation (the manual and the standard
library's docstrings, no text repeated), in turn, each on one thread, several times; both then encode it. The
merges and the ids must be equal. Writes benchmarks/bpe.json.

    python benchmarks/bpe.py [--rounds 5] [--merges 8000]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Before tokenizers is imported: one thread.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from rich.console import Console
from rich.table import Table
from tokenizers import models, pre_tokenizers, trainers

from course_lib.data import text
from course_lib.models.bytes_and_words import count_words, printable_bytes
from course_lib.models.tokenization import Tokenizer, train_bpe
from course_lib.publishing.provenance import machine

HERE = Path(__file__).resolve().parent
MEGABYTE = 1_000_000


def train_theirs(corpus: str, n_merges: int) -> tokenizers.Tokenizer:
    """Train the Rust library's byte-level BPE as everybody does."""
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator([corpus], trainer)
    return peer


def in_their_order(corpus: str, n_merges: int) -> Tokenizer:
    """Train ours with bytes numbered as HF does, by their printable characters; otherwise ties differ."""
    shown = printable_bytes()
    order = bytes(sorted(range(256), key=shown.__getitem__))
    place = {byte: i for i, byte in enumerate(order)}
    words = {tuple(place[b] for b in word): n for word, n in count_words([corpus]).items()}
    merges = train_bpe(words, n_merges)
    back = [order[i] for i in range(256)] + list(range(256, 256 + len(merges)))
    return Tokenizer([(back[a], back[b]) for a, b in merges], byte_order=order)


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    begin, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--merges", type=int, default=8000)
    options = parser.parse_args()
    source = text.python_docs()
    corpus = source.text.encode()[:MEGABYTE].decode(errors="ignore")
    size = len(corpus.encode()) / MEGABYTE

    rounds = []
    for _ in range(options.rounds):
        ours, train_ours = timed(lambda: Tokenizer.train(corpus, 256 + options.merges))
        peer, train_hf = timed(lambda: train_theirs(corpus, options.merges))
        ids, encode_ours = timed(partial(ours.encode, corpus))
        theirs, encode_hf = timed(partial(peer.encode, corpus))
        rounds.append(
            {
                "train": {"ours": train_ours, "tokenizers": train_hf},
                "encode": {"ours": encode_ours, "tokenizers": encode_hf},
            }
        )
    same = in_their_order(corpus, options.merges)
    shown = printable_bytes()
    symbols = ["".join(shown[byte] for byte in token) for token in same.tokens]
    number = {byte: i for i, byte in enumerate(same.byte_order)}
    ours_written = [(symbols[number.get(a, a)], symbols[number.get(b, b)]) for a, b in same.merges]
    theirs_written = [tuple(each) for each in json.loads(peer.to_str())["model"]["merges"]]
    assert ours_written == theirs_written, "the merges differ"
    assert same.encode(corpus) == theirs.ids, "the ids differ"
    assert ours.decode(ids) == corpus

    def median(what: str, whose: str, clock: str = "seconds") -> float:
        return statistics.median(each[what][whose][clock] for each in rounds)

    ratios = [each["train"]["ours"]["cpu"] / each["train"]["tokenizers"]["cpu"] for each in rounds]
    table = Table(
        title=f"{options.merges:,} merges on {size:.2f} MB, median of {options.rounds}, one thread; "
        "merges and ids equal"
    )
    for column in ("", "training, s", "training, CPU s", "encoding, MB/s"):
        table.add_column(column, justify="left" if not column else "right")
    for whose in ("ours", "tokenizers"):
        table.add_row(
            whose,
            f"{median('train', whose):.2f}",
            f"{median('train', whose, 'cpu'):.2f}",
            f"{size / median('encode', whose):.1f}",
        )
    Console(width=100).print(table)
    print(f"ratio of training times, ours / tokenizers {tokenizers.__version__}: "
          f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    record = {
        "command": f"python benchmarks/bpe.py --rounds {options.rounds} --merges {options.merges}",
        "machine": machine(),
        "tokenizers": tokenizers.__version__,
        "text": {"source": source.source, "sha256": source.sha256, "megabytes": size},
        "merges": options.merges,
        "ratio": statistics.median(ratios),
        "encode MB/s": size / median("encode", "ours"),
        "rounds": rounds,
    }
    (HERE / "bpe.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
