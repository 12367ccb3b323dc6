"""Word vectors beside gensim's: analogy accuracy on Riverbank, and pairs per second in the same run.

Usage: python benchmarks/word_vectors.py [--seeds 3] [--epochs 6] [--tokens 300000]

Prints a table and writes benchmarks/word_vectors.json. Every method has 64 numbers a word and the same text;
gensim has the same window, noise words, subsampling and epochs; its learning rate is its own default,
0.025, and in a second row ours.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from gensim.models import FastText, Word2Vec
from rich.console import Console
from rich.table import Table
from torch import Tensor

from course_lib.data.riverbank import Town
from course_lib.models.corpus import Corpus, Recipe
from course_lib.models.word_vectors import (
    analogy,
    analogy_mul,
    cooccurrence,
    ppmi,
    skipgram_pairs,
    spearman,
    svd_vectors,
    train_fasttext,
    train_glove,
    train_sgns,
)
from course_lib.publishing.provenance import machine

HERE = Path(__file__).resolve().parent
D, WINDOW, NOISE, SAMPLE = 64, 5, 5, 1e-3


def read_town(n_tokens: int, seed: int) -> list[list[str]]:
    texts, total = [], 0
    for document in Town().iter_documents(seed=seed):
        texts.append(document.tokens)
        total += len(document.tokens)
        if total >= n_tokens:
            break
    return texts


def measure(corpus: Corpus, vectors: Tensor) -> dict[str, float]:
    """Return accuracy by 3CosAdd and 3CosMul, and the rank correlation with gold similarity."""
    town, index = Town(), corpus.index
    asked = [(q.a, q.b, q.c, q.d) for q in town.analogies()]
    rows = torch.tensor([[index[w] for w in each] for each in asked if set(each) <= index.keys()])
    pairs = [pair for pair in town.similarities() if {pair[0], pair[1]} <= index.keys()]
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    left, right = (torch.tensor([index[pair[side]] for pair in pairs]) for side in (0, 1))
    cosines = (unit[left] * unit[right]).sum(-1)
    found = {
        name: (answer(vectors, *rows[:, :3].T) == rows[:, 3]).double().mean().item()
        for name, answer in (("3CosAdd", analogy), ("3CosMul", analogy_mul))
    }
    return {**found, "Spearman": spearman(cosines, torch.tensor([gold for _, _, gold in pairs]))}


def gensims(
    texts: list[list[str]], corpus: Corpus, epochs: int, seed: int, kind: type, rate: float
) -> Tensor:
    options = {"bucket": 200_000} if kind is FastText else {}
    model = kind(
        texts, sg=1, negative=NOISE, vector_size=D, window=WINDOW, min_count=1, epochs=epochs,
        sample=SAMPLE, alpha=rate, seed=seed + 1, workers=1, **options,
    )  # fmt: skip
    return torch.from_numpy(np.stack([model.wv[word] for word in corpus.words]))


def run_seed(seed: int, epochs: int, n_tokens: int) -> dict[str, dict[str, float]]:
    """Train every method once on the text of a seed."""
    texts = read_town(n_tokens, seed)
    corpus = Corpus.from_documents(texts)
    recipe = Recipe(d=D, epochs=epochs, window=WINDOW, k=NOISE, sample=SAMPLE)
    shuffled = corpus.shuffled(torch.Generator().manual_seed(seed + 1000))

    def counted(text: Corpus) -> Tensor:
        return svd_vectors(ppmi(torch.from_numpy(cooccurrence(text, WINDOW).toarray())), D)

    def glove(text: Corpus) -> Tensor:
        counts = cooccurrence(text, window=10, harmonic=True)
        return train_glove(counts, generator(), D, epochs=14, learning_rate=0.2).vectors

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    methods = {
        "PPMI + SVD": counted,
        "skip-gram": lambda text: train_sgns(text, generator(), recipe).vectors,
        "GloVe": glove,
        "fastText": lambda text: train_fasttext(text, generator(), recipe).vectors,
    }
    peers = {
        f"gensim {name}, rate {rate}": (kind, rate)
        for rate in (0.025, 0.05)
        for name, kind in (("skip-gram", Word2Vec), ("fastText", FastText))
    }
    results = {}
    for name, train in methods.items():
        begin = time.perf_counter()
        vectors = train(corpus)
        seconds = time.perf_counter() - begin
        broken = measure(corpus, train(shuffled))["3CosAdd"]
        results[name] = {**measure(corpus, vectors), "seconds": seconds, "shuffled 3CosAdd": broken}
    for name, (kind, rate) in peers.items():
        begin = time.perf_counter()
        vectors = gensims(texts, corpus, epochs, seed, kind, rate)
        seconds = time.perf_counter() - begin
        results[name] = {**measure(corpus, vectors), "seconds": seconds}
    # Both draw pairs by the same rule, so the expected number of pairs is the same: count ours.
    pairs = sum(len(skipgram_pairs(corpus, WINDOW, SAMPLE, generator())[0]) for _ in range(epochs))
    for name in results:
        if "skip-gram" in name or "fastText" in name:
            results[name]["pairs per second"] = pairs / results[name]["seconds"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=300_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [run_seed(seed, options.epochs, options.tokens) for seed in range(options.seeds)]
    columns = ("3CosAdd", "3CosMul", "Spearman", "shuffled 3CosAdd", "seconds", "pairs per second")
    table = Table(
        title=f"Riverbank, {options.tokens:,} tokens, {D} dimensions, {options.epochs} epochs"
    )
    table.add_column("method")
    for column in columns:
        table.add_column(column, justify="right")
    for name in runs[0]:
        cells = []
        for column in columns:
            values = [run[name][column] for run in runs if column in run[name]]
            if not values:
                cells.append("")
            elif column == "pairs per second":
                cells.append(f"{statistics.median(values):,.0f}")
            elif column == "seconds":
                cells.append(f"{statistics.median(values):.1f}")
            else:
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        table.add_row(name, *cells)
    Console(width=130).print(table)
    record = {
        "command": f"python benchmarks/word_vectors.py --seeds {options.seeds} --epochs {options.epochs} "
        f"--tokens {options.tokens}",
        "machine": machine(),
        "runs": runs,
    }
    target = HERE / "word_vectors.json"
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
