"""A race on tinyshakespeare: how soon a small modern GPT reaches the final loss of the published CPU recipe.

Usage: python benchmarks/fast_gpt.py [--rounds 3] [--threads 2] [--ablation]

The baseline is nanoGPT's recipe for a small model on a CPU (Karpathy 2022, README): 4 layers, 4 heads, width
128, windows of 64 characters, batches of 12, 2000 steps of AdamW with warm-up and cosine. The rival is
`course_lib.models.fast_gpt`. Both train in turn in this process; only training is timed. The loss is that
of all non-overlapping windows of 64 characters of the last tenth of the text. Writes
benchmarks/fast_gpt.json. The text: `course data fetch tinyshakespeare`.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from course_lib.data import registry
from course_lib.models.fast_gpt import FastConfig, FastGPT
from course_lib.publishing.provenance import machine
from course_lib.training.loop import Windows
from course_lib.training.muon import Muon
from course_lib.training.optimiser import configure_optimizer, lr_at

HERE = Path(__file__).resolve().parent
LENGTH = 64


class Text:
    """A text's characters as numbers: nine tenths to learn from, the rest cut into windows."""

    def __init__(self, text: str) -> None:
        characters = sorted(set(text))
        number = {character: i for i, character in enumerate(characters)}
        ids = torch.tensor([number[character] for character in text])
        held_out = ids[int(0.9 * len(ids)) :]
        self.n_words, self.train = len(characters), ids[: int(0.9 * len(ids))]
        count = (len(held_out) - 1) // LENGTH
        self.seen = held_out[: count * LENGTH].view(count, LENGTH)
        self.following = held_out[1 : count * LENGTH + 1].view(count, LENGTH)

    @torch.no_grad()
    def loss_of(self, model: nn.Module) -> float:
        """Return the mean loss on all held-out windows, in nats per character."""
        model.eval()
        total = 0.0
        for seen, following in zip(self.seen.split(256), self.following.split(256)):
            logits = model(seen).flatten(0, 1)
            total += F.cross_entropy(logits, following.flatten(), reduction="sum").item()
        return total / self.following.numel()


class BaselineBlock(nn.Module):
    """GPT-2's block as nanoGPT has it, without biases."""

    def __init__(self, d: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.to_qkv, self.to_out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, d = x.shape
        heads = self.to_qkv(self.norm_1(x)).view(batch, n, 3, self.n_heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        said = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.to_out(said.transpose(1, 2).reshape(batch, n, d))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Baseline(nn.Module):
    """nanoGPT: learnt positions, tied table."""

    def __init__(self, n_words: int, d: int = 128, n_heads: int = 4, n_layers: int = 4) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(n_words, d), nn.Embedding(LENGTH, d)
        self.blocks = nn.ModuleList(BaselineBlock(d, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("to_out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * n_layers) ** 0.5 if writes else 1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.words.weight.T


def train(
    text: Text, model: nn.Module, steps: int, seed: int, step_of: Callable[[int], None], desc: str
) -> float:
    """Train, and return the seconds that it took. ``step_of`` updates the weights after each backward pass."""
    batches = iter(Windows(text.train, 12, LENGTH, seed))
    model.train()
    begin = time.perf_counter()
    for step in tqdm(range(steps), desc=desc, leave=False, miniters=50):
        seen, following = next(batches)
        loss = F.cross_entropy(model(seen).flatten(0, 1), following.flatten())
        model.zero_grad()
        loss.backward()
        step_of(step)
    return time.perf_counter() - begin


def run_baseline(text: Text, seed: int, steps: int = 2000) -> dict[str, float]:
    """Train the published recipe; return its seconds and its loss."""
    torch.manual_seed(seed)
    model = Baseline(text.n_words)
    optimizer = configure_optimizer(model, 1e-3, betas=(0.9, 0.99))

    def step_of(step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, 1e-3, 100, 2000, 1e-4)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    seconds = train(text, model, steps, seed, step_of, "baseline")
    return {"seconds": seconds, "loss": text.loss_of(model), "parameters": _size(model)}


def run_fast(
    text: Text, seed: int, steps: int, *, muon: bool = True, desc: str = "fast", **parts: object
) -> dict[str, float]:
    """Train the rival; return its seconds and its loss."""
    torch.manual_seed(seed)
    config = dataclasses.replace(FastConfig(text.n_words), **parts)
    model = FastGPT(config)
    groups = [
        {"params": [model.words.weight], "lr": 0.02},
        {"params": [table.weight for table in model.tables], "lr": 0.06},
        {"params": [model.guess.weight], "lr": 0.005},
    ]
    if model.positions is not None:
        groups.append({"params": [model.positions.weight], "lr": 0.02})
    if not muon:
        groups.append({"params": model.matrices(), "lr": 0.004})
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam([each for each in groups if each["params"]], betas=(0.9, 0.95), fused=True)
    ]
    if muon:
        optimizers.append(Muon(model.matrices(), lr=0.02, steps=3))
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def step_of(step: int) -> None:
        share = min(1.0, (steps - step) / (0.5 * steps))  # level, then in a straight line to 0
        for optimizer, rates in zip(optimizers, peaks):
            for group, peak in zip(optimizer.param_groups, rates):
                group["lr"] = peak * share
            optimizer.step()

    seconds = train(text, model, steps, seed, step_of, desc)
    return {"seconds": seconds, "loss": text.loss_of(model), "parameters": _size(model)}


ABLATION: dict[str, dict[str, object]] = {
    "all parts": {},
    "without the tables for pairs and triples": {"pairs": 0, "triples": 0},
    "without the table for triples": {"triples": 0},
    "Adam in place of Muon": {"muon": False},
    "learnt positions in place of rotary": {"rotary": False},
    "queries and keys as they are": {"norm_queries": False},
    "GELU in place of squared ReLU": {"squared": False},
    "blocks that speak from the start": {"start_silent": False},
    "logits without a limit": {"cap": 0.0},
    "four blocks": {"n_layers": 4},
    "one block": {"n_layers": 1},
}


def _size(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=160, help="of the fast model")
    parser.add_argument("--ablation", action="store_true", help="leave out one part at a time, too")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that all works")
    options = parser.parse_args()
    found = registry.load_or_none("tinyshakespeare")
    if found is None:
        sys.exit("The race needs the text: run `course data fetch tinyshakespeare` while online.")
    torch.set_num_threads(options.threads)
    text = Text(found)
    baseline_steps, fast_steps = (5, 5) if options.quick else (2000, options.steps)
    rounds = []
    for seed in range(options.rounds):
        one = run_baseline(text, seed, baseline_steps)
        rounds.append({"baseline": one, "fast": run_fast(text, seed, fast_steps)})
        print(json.dumps(rounds[-1]), flush=True)
    ablation = {}
    if options.ablation:
        seeds = range(1 if options.quick else 3)
        for name, parts in ABLATION.items():
            ablation[name] = [run_fast(text, s, fast_steps, desc=name, **parts) for s in seeds]
            print(name, [round(each["loss"], 4) for each in ablation[name]], flush=True)
    console = Console()
    table = Table(title=f"{options.threads} threads, {len(rounds)} rounds")
    for column in ("", "parameters", "loss, nats per character", "seconds, median"):
        table.add_column(column)
    middle = {}
    for name in ("baseline", "fast"):
        runs = [each[name] for each in rounds]
        middle[name] = statistics.median(each["seconds"] for each in runs)
        losses = ", ".join(f"{each['loss']:.4f}" for each in runs)
        table.add_row(name, f"{runs[0]['parameters']:,}", losses, f"{middle[name]:.1f}")
    console.print(table)
    reached = [each["fast"]["loss"] <= each["baseline"]["loss"] for each in rounds]
    ratio = statistics.median(
        each["baseline"]["seconds"] / each["fast"]["seconds"] for each in rounds
    )
    console.print(
        f"The fast model reaches the baseline's loss in {sum(reached)} of {len(rounds)} rounds, in 1/{ratio:.1f} "
        "of its time (median of the rounds)."
    )
    if options.quick:
        return
    report = {
        "command": f"python benchmarks/fast_gpt.py --rounds {options.rounds} --threads {options.threads}"
        f" --steps {options.steps}" + (" --ablation" if options.ablation else ""),
        "machine": machine(),
        "baseline steps": baseline_steps,
        "fast steps": fast_steps,
        "ratio": ratio,
        "rounds": rounds,
        "ablation": ablation,
    }
    (HERE / "fast_gpt.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
