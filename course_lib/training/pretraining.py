"""Pretraining: a recipe says what is trained on what, and `pretrain` does it, stopping and going on at will."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course_lib.runtime import CourseError
from course_lib.training.loop import Batch, Trainer
from course_lib.training.muon import configure_muon
from course_lib.training.optimiser import configure_optimizer

CHECKPOINT, ABOUT = "checkpoint.pt", "run.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, on what text, for how long.

    A recipe is a frozen dataclass that inherits this one. Its fields are the declaration: numbers and
    strings, which are written into the record of what was trained, so whatever changes the result belongs
    there. Its methods say how the parts are made::

        @dataclass(frozen=True, kw_only=True)
        class DecoderRecipe(Recipe):
            name: str = "decoder"
            steps: int = 1000
            d_model: int = 128

            def model(self): ...            # new weights; torch's generator was seeded with `seed`
            def batch(self, number): ...    # batch number 0, 1, 2, …: always the same for a number
            def loss(self, model, batch): ...       # the mean loss of a batch
            def save(self, model, folder): ...      # the files that ship, in half precision
            def load(self, folder): ...             # the model that those files hold
            def measure(self, model, folder): ...   # what is recorded about the model that was read back

    ``batch`` is a function of its number: seed every draw with it, say ``self.draw(number)``, and give tensors
    on the CPU. So a run that was killed goes on exactly, and no state of the text is ever saved.

    Attributes:
        name: of the model and of its files.
        steps: how many updates; each reads one batch.
        learning_rate: AdamW's, at its peak.
        matrix_rate: Muon's, at its peak, for the matrices of linear layers; 0 leaves everything to AdamW.
        warmup: the share of steps in which both rates rise.
        cooldown: the share of steps, at the end, in which both fall to zero in a straight line.
        weight_decay: AdamW's, of tables and matrices.
        betas: AdamW's two averages.
        clip: the largest norm of all gradients together.
        seed: of the first weights and of the text.

    """

    name: str
    steps: int
    learning_rate: float = 3e-3
    matrix_rate: float = 0.02
    warmup: float = 0.02
    cooldown: float = 0.5
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    seed: int = 0

    def model(self) -> nn.Module:
        """Return the untrained model."""
        raise NotImplementedError

    def batch(self, number: int) -> Batch:
        """Return batch ``number``, counted from 0, on the CPU: a tensor, or a tuple or dict of tensors."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, in nats."""
        raise NotImplementedError

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the files that ship."""
        raise NotImplementedError

    def load(self, folder: Path) -> nn.Module:
        """Read the model that `save` wrote."""
        raise NotImplementedError

    def measure(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """Return what is to be recorded about a model that was read back from ``folder``."""
        raise NotImplementedError

    def draw(self, number: int) -> int:
        """Return the seed of batch ``number``: no seed of another batch, of another recipe's seed or of a test."""
        return 1_000_000_000 * (self.seed + 1) + number

    def share_of_rate(self, step: int) -> float:
        """Return the share of the peak rate at a step: up, level, down."""
        rising = (step + 1) / max(1.0, self.warmup * self.steps)
        falling = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        return max(0.0, min(1.0, rising, falling))


class Numbered:
    """The batches of a recipe in order, as `Trainer` takes them; where they stand is one number."""

    def __init__(self, recipe: Recipe, device: torch.device | str) -> None:
        self.recipe, self.device, self.number = recipe, device, 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without end."""
        while True:
            batch = self.recipe.batch(self.number)
            self.number += 1
            yield _moved(batch, self.device)

    def state(self) -> int:
        """Return the number of the next batch."""
        return self.number

    def set_state(self, state: int) -> None:
        """Go on with batch ``state``."""
        self.number = state


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser that a recipe asks for."""
    adam: Any = {"weight_decay": recipe.weight_decay, "betas": recipe.betas}
    if not recipe.matrix_rate:
        return configure_optimizer(model, recipe.learning_rate, **adam)
    times = recipe.matrix_rate / recipe.learning_rate
    return configure_muon(model, recipe.learning_rate, times, **adam)


def trainer_of(recipe: Recipe, device: torch.device | str = "cpu") -> Trainer:
    """Return what trains a recipe's model, at its first step."""
    device = torch.device(device)
    torch.manual_seed(recipe.seed)
    model = recipe.model().to(device)
    return Trainer(
        model,
        optimizer_of(recipe, model),
        Numbered(recipe, device),
        recipe.loss,
        rate=lambda step: recipe.learning_rate * recipe.share_of_rate(step),
        clip=recipe.clip,
        autocast=lambda: (
            torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()
        ),
    )


def first_losses(recipe: Recipe, steps: int = 4) -> list[float]:
    """Return the losses of the first steps on the CPU: what text, weights, loss and optimiser come to.

    They tell whether the code still begins the same run, however it was rewritten.
    """
    return trainer_of(recipe).run(steps)


@dataclass(frozen=True)
class Pretrained:
    """What `pretrain` gives.

    Attributes:
        model: the model, in evaluation mode, where it was trained.
        losses: the loss of each step.
        seconds: the time that the steps took, those before an interruption too.

    """

    model: nn.Module
    losses: list[float]
    seconds: float


def pretrain(
    recipe: Recipe,
    folder: Path | str,
    device: torch.device | str = "cpu",
    *,
    resume: bool = False,
    every: float = 60.0,
    say: Callable[[str], None] = lambda line: tqdm.write(line, file=sys.stderr),
) -> Pretrained:
    """Train the model of a recipe; what was begun and interrupted can be gone on with, to the same result.

    On a CUDA device it computes in bfloat16 (weights and optimiser stay in float32).

    Args:
        recipe: what is trained, and how.
        folder: where checkpoints are kept; made if missing. At the end the last one lies there.
        device: where it is trained.
        resume: go on with the run in ``folder``. On the same machine with the same number of threads the
            result is, bit for bit, that of a run that was never stopped.
        every: seconds between two checkpoints.
        say: is given a line at each checkpoint.

    Raises:
        CourseError: the folder cannot be written, holds a run that ``resume`` does not ask for, holds none
            or another one; or the loss is no number any more.

    """
    folder, device = Path(folder), torch.device(device)
    seconds = _open(folder, recipe, resume)
    trainer = trainer_of(recipe, device)
    if resume:
        trainer.load(folder / CHECKPOINT)

    before, begin = seconds, time.perf_counter()
    kept = begin

    def keep() -> None:
        trainer.save(folder / CHECKPOINT)
        about = {"recipe": asdict(recipe), "step": trainer.step, "seconds": seconds}
        _write(folder / ABOUT, about)

    def after(step: int) -> None:
        nonlocal kept, seconds
        if not math.isfinite(trainer.losses[-1]):
            raise CourseError(
                f"The loss of step {step} is {trainer.losses[-1]}: the rates of {recipe.name} are too high."
            )
        now = time.perf_counter()
        seconds = before + now - begin
        if now - kept >= every and step < recipe.steps:
            keep()
            kept = now
            recent = trainer.losses[-100:]
            mean = sum(recent) / len(recent)
            say(
                f"{recipe.name}: step {step} of {recipe.steps}, loss {mean:.3f}, {seconds / 60:.1f} minutes"
            )

    trainer.run(recipe.steps - trainer.step, recipe.name, after)
    keep()
    return Pretrained(trainer.model.eval(), trainer.losses, seconds)


def _open(folder: Path, recipe: Recipe, resume: bool) -> float:
    """Make the folder ready and return the seconds that the run in it has taken."""
    there = (folder / CHECKPOINT).is_file()
    if resume and not there:
        raise CourseError(f"There is no run to go on with in {folder}: begin one without resume.")
    if there and not resume:
        raise CourseError(
            f"{folder} holds a run that was begun: go on with it (resume), or delete {CHECKPOINT} there."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ABOUT).touch()
    except OSError as error:
        raise CourseError(
            f"{folder} cannot be written ({error.strerror}): choose a folder that you may write."
        ) from error
    if not resume:
        return 0.0
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        begun, seconds = about["recipe"], float(about["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise CourseError(
            f"{folder / ABOUT} does not say what was begun there: delete {CHECKPOINT} to begin anew."
        ) from error
    mine = _plain(asdict(recipe))
    if begun != mine:
        other = sorted(key for key in begun.keys() | mine.keys() if begun.get(key) != mine.get(key))
        raise CourseError(
            f"{folder} holds a run of another recipe ({', '.join(other)}): choose another folder."
        )
    return seconds


# --- what ships ----------------------------------------------------------------------------------


def put_away(
    recipe: Recipe, trained: Pretrained, folder: Path | str, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a trained model's files and its record, ``NAME.json``; measured is what the files hold.

    Args:
        recipe: that of the model.
        trained: the model.
        folder: where the files go; made if missing.
        told: what else the record shall say (command, machine, source).

    Returns:
        The record.

    Raises:
        CourseError: the folder cannot be written.

    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recipe.save(trained.model.cpu(), folder)
        weights = folder / f"{recipe.name}.safetensors"
        weights.chmod(0o644)  # safetensors makes it readable by its owner alone
    except OSError as error:
        raise CourseError(
            f"{folder} cannot be written ({error.strerror}): choose a folder that you may write."
        ) from error
    model = recipe.load(folder).eval()
    record = {
        "name": recipe.name,
        "recipe": asdict(recipe),
        "parameters": sum(each.numel() for each in model.parameters()),
        "bytes": weights.stat().st_size,
        "first losses": first_losses(recipe),
        "losses": _thinned(trained.losses),
        "minutes": round(trained.seconds / 60, 1),
        "measured": recipe.measure(model, folder),
        **told,
    }
    _write(folder / f"{recipe.name}.json", record)
    return record


def measure_again(recipe: Recipe, folder: Path | str) -> dict[str, Any]:
    """Measure a model's files anew and write that into the record, which keeps what it says of the training.

    Raises:
        CourseError: there is no record.

    """
    path = Path(folder) / f"{recipe.name}.json"
    if not path.is_file():
        raise CourseError(f"There is no {path.name} in {folder}: train the model first.")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    model = recipe.load(Path(folder)).eval()
    record["measured"] = recipe.measure(model, Path(folder))
    _write(path, record)
    return record


def _thinned(losses: list[float], n: int = 50) -> list[float]:
    """Return the means of n stretches of equal length, in order."""
    width = max(1, math.ceil(len(losses) / n))
    parts = [losses[i : i + width] for i in range(0, len(losses), width)]
    return [round(sum(part) / len(part), 4) for part in parts]


def _moved(batch: Batch, device: torch.device | str) -> Batch:
    move: Callable[[Any], Any] = lambda each: _moved(each, device)  # noqa: E731
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: move(each) for name, each in batch.items()}
    return tuple(move(each) for each in batch)


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
