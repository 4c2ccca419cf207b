"""What the loops of all recipes share: steps, EMA, the best checkpoint, early stopping, and resuming.

Each recipe writes its own loop:

    for epoch in training.epochs():
        for chosen in training.batches():
            loss = ...training.forward(batch)...
            training.step(loss, len(chosen), accuracy=correct)
        training.end(epoch, validation_accuracy=...)
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tagmill.cli.terminal.progress import Display
from tagmill.errors import ConfigurationError, InputError
from tagmill.tasks.metrics import rounded
from training.checkpoint import FILE, STATE, Checkpoint, copied_state, load, read, save, write
from training.evaluation.predict import fast_in_bf16
from training.loop.compile import Compiled, worth_compiling
from training.loop.ema import EMA
from training.loop.lr_schedule import one_cycle
from training.loop.resume import difference, foreign_state
from training.loop.sampling import batches


@dataclass(frozen=True)
class LoopConfig:
    """The settings of the loop that every recipe has."""

    epochs: int
    batch_size: int
    seed: int
    #: share of the steps on which the learning rate rises
    rising: float = 0.25
    #: decay of the EMA of the weights; 0 turns the EMA off
    average: float = 0.0
    #: epochs without a better metric after which the training ends early; 0 never
    patience: int = 0


class Training:
    """One training of one network: call `epochs`, `batches`, `step` and `end` in turn, then `finish`."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: LoopConfig,
        images: int,
        draft: Checkpoint,
        run: Path,
        display: Display,
        *,
        metric: str,
        device: torch.device,
        weights: Tensor | None = None,
        resume: bool = False,
        stage: str = "",
        before: "Training | None" = None,
    ) -> None:
        """Prepare a training, or restore one that was stopped if `resume` is true.

        `images` is the number of training images. `draft` is the checkpoint to improve on; `metric` names the argument
        of `end` that decides which epoch is best. `weights` float [images] draws the images by weight, with
        replacement. A recipe with several stages names each `stage` and passes the training of the stage `before`.
        Raise InputError if `resume` is true and the run was started with other settings or images.
        """
        self.network, self._optimizer, self._config = network, optimizer, config
        self._images, self._weights, self._device = images, weights, device
        self._run, self._display, self._metric = run, display, metric
        self.generator = torch.Generator().manual_seed(config.seed)
        self._steps = len(batches(images, config.batch_size, weights, torch.Generator()))
        total = config.epochs * self._steps
        self._lr_schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: one_cycle(s, total, config.rising))
        self._ema = EMA(network, config.average) if config.average else None
        self._bf16 = fast_in_bf16(device)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all batches but the last have one shape
        self._forward = Compiled(network, config.batch_size) if worth_compiling(device, total) else network
        self.history: list[dict[str, float]] = list(before.history) if before else []
        self.seconds: float = before.seconds if before else 0.0
        self._epochs_before = len(self.history)
        self._epochs_done, self._epochs_without_gain = 0, 0
        self._best = draft
        self._sums: dict[str, Tensor] = {}
        self._images_seen = 0
        self._stage = stage
        self._started_with = {
            "task": str(draft.task),
            "arch": str(draft.arch),
            "options": draft.options,
            "labels": list(draft.labels),
            "hyperparameters": draft.hyperparameters,
            "data": draft.data,
            "images": images,
        }
        if resume:
            self._resume()

    @property
    def evaluated(self) -> nn.Module:
        """The network to validate and save: the EMA if there is one."""
        if self._ema is None:
            return self.network
        module: nn.Module = self._ema.module
        return module

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs, counted from 1, until the metric stops improving."""
        with self._display.training(self._config.epochs, self._steps, self._epochs_done) as self._show_step:
            for epoch in range(self._epochs_done + 1, self._config.epochs + 1):
                if self._config.patience and self._epochs_without_gain >= self._config.patience:
                    self._display.say(
                        f"no better {_words(self._metric)} in {self._epochs_without_gain} epochs: ended early"
                    )
                    break
                self._epoch, self._epoch_started = epoch, time.perf_counter()
                self._sums, self._images_seen = {}, 0
                self.network.train()
                yield epoch

    def batches(self) -> Iterator[Tensor]:
        """Yield the batches of one epoch: indices of images, int64 [batch]."""
        yield from batches(self._images, self._config.batch_size, self._weights, self.generator)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the output of the network for a training batch, computed in bfloat16 if that is faster."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            output: Tensor = self._forward(batch)
        return output

    def step(self, loss: Tensor, images: int, **sums: Tensor | int) -> None:
        """Update the weights with the mean loss of a batch of `images`; `sums` are metrics summed over the batch."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        self._optimizer.step()
        self._lr_schedule.step()
        if self._ema is not None:
            self._ema.update_parameters(self.network)
        for name, value in {"loss": loss.detach() * images, **sums}.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + torch.as_tensor(value)
        self._images_seen += images
        self._show_step(self._epoch, self._figures)

    def end(self, epoch: int, **validation: float) -> None:
        """End an epoch: log its metrics, save the best weights and the state to resume from.

        Raise ConfigurationError if a metric is not finite.
        """
        means = {name: float(value) / self._images_seen for name, value in self._sums.items()}
        if not all(map(math.isfinite, (*means.values(), *validation.values()))):
            rate = self._optimizer.param_groups[0]["initial_lr"]
            raise ConfigurationError(f"the loss left the numbers in epoch {epoch}; try a --lr below {rate:g}")
        entry = {"epoch": self._epochs_before + epoch} | {
            name: rounded(value) for name, value in {**means, **validation}.items()
        }
        entry["lr"] = float(f"{self._optimizer.param_groups[0]['lr']:.3g}")
        seconds = time.perf_counter() - self._epoch_started
        entry["seconds"] = round(seconds, 2)
        self.seconds += seconds
        # After a resume checkpoint.pt may be newer than state.pt; the history matches state.pt.
        best_before = max((past[self._metric] for past in self.history if self._metric in past), default=-math.inf)
        self._epochs_without_gain = 0 if entry[self._metric] > best_before else self._epochs_without_gain + 1
        self.history.append(entry)
        self._epochs_done = epoch
        self._save_if_best(entry)
        write(self._state(), self._run / STATE)
        self._log(entry)
        metrics = "  ".join(
            f"{_words(name)} {entry[name]:.3f}" for name in entry if name not in {"epoch", "seconds", "lr"}
        )
        self._display.say(f"epoch {epoch}/{self._config.epochs}  {metrics}  {entry['seconds']:.0f} s")

    def finish(self) -> Checkpoint:
        """Return the best checkpoint; the network gets its weights and is put in evaluation mode."""
        self.network.load_state_dict(self._best.state)
        self.network.eval()
        return self._best

    def _save_if_best(self, entry: dict[str, float]) -> None:
        # The last epochs differ little, as the learning rate falls to zero: of equal ones the later is kept.
        if entry[self._metric] >= self._best.metrics.get(self._metric, -math.inf):
            self._best = replace(
                self._best,
                state=copied_state(self.evaluated),
                epoch=int(entry["epoch"]),
                metrics={self._metric: entry[self._metric]},
            )
            save(self._best, self._run)

    def _figures(self) -> str:
        return "  ".join(f"{_words(name)} {float(value) / self._images_seen:.3f}" for name, value in self._sums.items())

    def _log(self, entry: dict[str, float]) -> None:
        with SummaryWriter(self._run / "tensorboard") as writer:
            for name, value in entry.items():
                if name != "epoch":
                    in_validation = name.startswith("validation_")
                    tag = name.replace("validation_", "validation/") if in_validation else f"training/{name}"
                    writer.add_scalar(tag, value, int(entry["epoch"]))

    def _state(self) -> dict[str, Any]:
        return {
            "started_with": self._started_with,
            "stage": self._stage,
            "epochs_done": self._epochs_done,
            "epochs_before": self._epochs_before,
            "epochs_without_gain": self._epochs_without_gain,
            "history": self.history,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "lr_schedule": {k: v for k, v in self._lr_schedule.state_dict().items() if k != "lr_lambdas"},
            "ema": self._ema.state_dict() if self._ema is not None else None,
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
        }

    def _resume(self) -> None:
        path = self._run / STATE
        if not path.exists():
            return  # stopped in its first epoch: start from the beginning
        try:
            self._restore(read(path))
        except torch.OutOfMemoryError:  # a RuntimeError that is not the fault of the file
            raise
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise foreign_state(path) from error

    def _restore(self, state: dict[str, Any]) -> None:
        for name, value in self._started_with.items():
            if (before := state["started_with"][name]) != value:
                differs = difference(name, before, value)
                raise InputError(f"{self._run}: --resume takes what the run was started with; {differs}")
        if state["stage"] != self._stage:
            return  # stopped in an earlier stage: this one starts from the beginning
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._lr_schedule.load_state_dict(
            state["lr_schedule"] | {"lr_lambdas": [None] * len(self._optimizer.param_groups)}
        )
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        self.generator.set_state(state["generator"])
        self._epochs_done, self._epochs_before = state["epochs_done"], state["epochs_before"]
        self._epochs_without_gain = state["epochs_without_gain"]
        self.history, self.seconds = state["history"], state["seconds"]
        if (self._run / FILE).exists():
            self._best = load(self._run)
        # Last: `load` builds a network, which draws random numbers.
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda" and isinstance(random := state["random_cuda"], Tensor):
            torch.cuda.set_rng_state(random, self._device)
        self._display.say(f"going on after epoch {self._epochs_done}")


def _words(name: str) -> str:
    return name.replace("validation_", "held out ").replace("_", " ")
