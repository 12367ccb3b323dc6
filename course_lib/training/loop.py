"""The training loop of all language models of the course, and checkpoints from which it goes on exactly."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from course_lib.runtime import CourseError, progress

Batch = Any  # whatever the loss function takes: a tensor, a pair of tensors, …
Loss = Callable[[nn.Module, Batch], Tensor]


class Windows:
    """Draw windows of a text at random: the tokens that are read, and those that follow each of them.

    Args:
        ids: the numbers of a text's tokens, one after the other.
        batch: the number B of windows in a batch.
        length: the number n of tokens that are read in each.
        seed: of the places where windows begin.
        device: where the batches go.

    Raises:
        ValueError: the text is shorter than one window and the token behind it.

    """

    def __init__(
        self,
        ids: Int[Tensor, "tokens"],
        batch: int,
        length: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(ids) <= length:
            raise ValueError(f"A text of {len(ids)} tokens has no window of {length} and one more.")
        self.ids, self.batch, self.length, self.device = ids, batch, length, device
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pairs of (B, n) tensors without end."""
        offsets = torch.arange(self.length + 1)  # (n + 1,)
        while True:
            begin = torch.randint(
                len(self.ids) - self.length, (self.batch, 1), generator=self.generator
            )
            windows = self.ids[begin + offsets].to(self.device)  # (B, n + 1)
            yield windows[:, :-1], windows[:, 1:]

    def state(self) -> Tensor:
        """Return where the draw stands."""
        return self.generator.get_state()

    def set_state(self, state: Tensor) -> None:
        """Go on from where another draw of the same text stood."""
        self.generator.set_state(state)


class Trainer:
    """Train a model step by step; stop, save and go on at any step as if nothing had happened.

    A step adds up the gradients of ``accumulate`` batches, clips their norm, sets the learning rate, and
    lets the optimiser update the weights.

    Args:
        model: what is trained; it stands where the batches are.
        optimizer: made for this model.
        batches: an iterable without end, with ``state`` and ``set_state`` as `Windows` has them.
        loss: makes the mean loss of a batch: ``loss(model, batch)``.
        rate: gives the learning rate of each step, counted from 0; None leaves the optimiser's own.
        clip: the largest norm of all gradients together; None does not clip.
        accumulate: how many batches make a step.
        autocast: made anew around each forward pass, such as ``run.autocast``.

    Attributes:
        step: the number of steps that were made.
        losses: the mean loss of each of them.

    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Any,
        loss: Loss,
        *,
        rate: Callable[[int], float] | None = None,
        clip: float | None = 1.0,
        accumulate: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.model, self.optimizer, self.batches, self.loss = model, optimizer, batches, loss
        self.rate, self.clip, self.accumulate, self.autocast = rate, clip, accumulate, autocast
        self.step = 0
        self.losses: list[float] = []
        self._stream = iter(batches)

    def run(
        self, steps: int, desc: str = "", after: Callable[[int], None] | None = None
    ) -> list[float]:
        """Make ``steps`` more steps and return their losses.

        Args:
            steps: how many.
            desc: stands at the progress bar.
            after: called behind each step with its number, from 1.

        """
        self.model.train()
        for _ in progress(range(steps), desc=desc):
            if self.rate is not None:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate(self.step) * group.get("times", 1.0)
            self.optimizer.zero_grad(set_to_none=True)
            mean = torch.zeros(())
            for _ in range(self.accumulate):
                with self.autocast():
                    loss = self.loss(self.model, next(self._stream)) / self.accumulate
                loss.backward()
                mean = mean + loss.detach().cpu()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.step += 1
            self.losses.append(mean.item())
            if after is not None:
                after(self.step)
        self.model.eval()
        return self.losses[len(self.losses) - steps :]

    def save(self, path: Path | str) -> None:
        """Write weights, the optimiser's averages, the step, and all random states to a file.

        The file appears whole or not at all.
        """
        path = Path(path)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "batches": self.batches.state(),
            "random": torch.get_rng_state(),
            "random on CUDA": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        draft = path.with_name(path.name + ".part")
        torch.save(state, draft)
        draft.replace(path)

    def load(self, path: Path | str) -> None:
        """Go on from where `save` was called, on a trainer that was made in the same way.

        Raises:
            CourseError: the file cannot be read, or is of another model.

        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:
            raise CourseError(
                f"The checkpoint {path} does not fit ({type(error).__name__}): delete it to begin anew."
            ) from error
        self.step, self.losses = state["step"], list(state["losses"])
        self.batches.set_state(state["batches"])
        self._stream = iter(self.batches)
        torch.set_rng_state(state["random"])
        if state["random on CUDA"]:
            torch.cuda.set_rng_state_all(state["random on CUDA"])
