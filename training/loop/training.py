"""What every recipe's loop shares: steps, averaging, the best checkpoint, early stopping, and going on after a stop.

A recipe keeps its own loop in sight:

    for epoch in training.epochs():
        for chosen in training.batches():
            loss = ...training.forward(batch)...
            training.step(loss, len(chosen), accuracy=right)
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

from tagmill.cli.progress import Display
from tagmill.errors import ConfigurationError, InputError
from tagmill.tasks.figures import rounded
from tagmill.text import flatten
from training.checkpoint import FILE, STATE, Checkpoint, copied_state, load, read, save, write
from training.evaluation.predict import fast_in_bf16
from training.loop.compile import Compiled, pays
from training.loop.ema import EMA
from training.loop.lr_schedule import one_cycle
from training.loop.sampling import batches


@dataclass(frozen=True)
class LoopConfig:
    """How a training runs, whatever it trains."""

    epochs: int
    batch_size: int
    seed: int
    #: share of the steps on which the rate rises
    rising: float = 0.25
    #: decay of the running mean of the weights at each step; 0 keeps the last weights
    average: float = 0.0
    #: epochs without a better figure after which the training ends early; 0 never
    patience: int = 0


class Training:
    """One training of one network: call `epochs`, `batches`, `step` and `end` in turn, then `finish`."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: LoopConfig,
        pictures: int,
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
        """`draft` is the checkpoint to do better than; `metric` names the figure of `end` that decides what is better.

        `weights` float [images] draws the images by weight, with replacement. A recipe of several stages names
        each, and hands the stage before on. Raises InputError where `resume` is asked for and the run was started with
        other parameters or images.
        """
        self.network, self._optimizer, self._config = network, optimizer, config
        self._pictures, self._weights, self._device = pictures, weights, device
        self._run, self._display, self._metric = run, display, metric
        self.generator = torch.Generator().manual_seed(config.seed)
        self._steps = len(batches(pictures, config.batch_size, weights, torch.Generator()))
        total = config.epochs * self._steps
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: one_cycle(s, total, config.rising))
        self._average = EMA(network, config.average) if config.average else None
        self._bf16 = fast_in_bf16(device)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all batches but the last have one shape
        self._answer = Compiled(network, config.batch_size) if pays(device, total) else network
        self.history: list[dict[str, float]] = list(before.history) if before else []
        self.seconds: float = before.seconds if before else 0.0
        self._before = len(self.history)
        self._done, self._without_better = 0, 0
        self._best = draft
        self._sums: dict[str, Tensor] = {}
        self._seen = 0
        self._stage = stage
        self._started_with = {
            "task": str(draft.task),
            "arch": str(draft.arch),
            "options": draft.options,
            "labels": list(draft.labels),
            "hyperparameters": draft.hyperparameters,
            "data": draft.data,
            "pictures": pictures,
        }
        if resume:
            self._take_up()

    @property
    def measured(self) -> nn.Module:
        """The network whose figures count: the running mean where there is one."""
        if self._average is None:
            return self.network
        module: nn.Module = self._average.module
        return module

    def epochs(self) -> Iterator[int]:
        """Give the epochs that are left, counted from 1, while the figure still gets better."""
        with self._display.training(self._config.epochs, self._steps, self._done) as self._stepped:
            for epoch in range(self._done + 1, self._config.epochs + 1):
                if self._config.patience and self._without_better >= self._config.patience:
                    self._display.say(f"no better {_words(self._metric)} in {self._without_better} epochs: ended early")
                    break
                self._epoch, self._since = epoch, time.perf_counter()
                self._sums, self._seen = {}, 0
                self.network.train()
                yield epoch

    def batches(self) -> Iterator[Tensor]:
        """Give the positions of the images of one epoch, int64 [batch]."""
        yield from batches(self._pictures, self._config.batch_size, self._weights, self.generator)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the network's answer to a batch to learn from, computed in bfloat16 where that is faster."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            answer: Tensor = self._answer(batch)
        return answer

    def step(self, loss: Tensor, pictures: int, **sums: Tensor | int) -> None:
        """Change the weights by the mean loss of some images; `sums` are figures summed over them."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        self._optimizer.step()
        self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self.network)
        for name, value in {"loss": loss.detach() * pictures, **sums}.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + torch.as_tensor(value)
        self._seen += pictures
        self._stepped(self._epoch, self._figures)

    def end(self, epoch: int, **held_out: float) -> None:
        """Take the figures of an epoch: keep the best weights, and all that is needed to go on from here."""
        means = {name: float(value) / self._seen for name, value in self._sums.items()}
        if not all(map(math.isfinite, (*means.values(), *held_out.values()))):
            rate = self._optimizer.param_groups[0]["initial_lr"]
            raise ConfigurationError(f"the loss left the numbers in epoch {epoch}; try a --lr below {rate:g}")
        entry = {"epoch": self._before + epoch} | {
            name: rounded(value) for name, value in {**means, **held_out}.items()
        }
        entry["lr"] = float(f"{self._optimizer.param_groups[0]['lr']:.3g}")
        took = time.perf_counter() - self._since
        entry["seconds"] = round(took, 2)
        self.seconds += took
        # What was written before the process ended may be newer than what it goes on from: the history is not.
        before = max((past[self._metric] for past in self.history if self._metric in past), default=-math.inf)
        self._without_better = 0 if entry[self._metric] > before else self._without_better + 1
        self.history.append(entry)
        self._done = epoch
        reached = self._best.metrics.get(self._metric, -math.inf)
        # With a rate that falls to zero the last epochs differ little: of equals the later one is kept.
        if entry[self._metric] >= reached:
            state = copied_state(self.measured)
            self._best = replace(
                self._best, state=state, epoch=int(entry["epoch"]), metrics={self._metric: entry[self._metric]}
            )
            save(self._best, self._run)
        write(self._state(), self._run / STATE)
        self._log(entry)
        shown = "  ".join(
            f"{_words(name)} {entry[name]:.3f}" for name in entry if name not in {"epoch", "seconds", "lr"}
        )
        self._display.say(f"epoch {epoch}/{self._config.epochs}  {shown}  {entry['seconds']:.0f} s")

    def finish(self) -> Checkpoint:
        """Return the best checkpoint; the network holds its weights and is in evaluation mode."""
        self.network.load_state_dict(self._best.state)
        self.network.eval()
        return self._best

    def _figures(self) -> str:
        return "  ".join(f"{_words(name)} {float(value) / self._seen:.3f}" for name, value in self._sums.items())

    def _log(self, entry: dict[str, float]) -> None:
        with SummaryWriter(self._run / "tensorboard") as writer:
            for name, value in entry.items():
                if name != "epoch":
                    group, _, rest = name.rpartition("validation_")
                    tag = f"validation/{rest}" if group or name.startswith("validation_") else f"training/{name}"
                    writer.add_scalar(tag, value, int(entry["epoch"]))

    def _state(self) -> dict[str, Any]:
        return {
            "started_with": self._started_with,
            "stage": self._stage,
            "epoch": self._done,
            "before": self._before,
            "without_better": self._without_better,
            "history": self.history,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": {k: v for k, v in self._schedule.state_dict().items() if k != "lr_lambdas"},
            "average": self._average.state_dict() if self._average is not None else None,
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
        }

    def _take_up(self) -> None:
        path = self._run / STATE
        if not path.exists():
            return  # stopped in its first epoch: it starts anew
        try:
            self._go_on_from(read(path))
        except torch.OutOfMemoryError:  # a RuntimeError, too, and not the fault of the file
            raise
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise _foreign(path) from error

    def _go_on_from(self, state: dict[str, Any]) -> None:
        for name, value in self._started_with.items():
            if (before := state["started_with"][name]) != value:
                differs = _difference(name, before, value)
                raise InputError(f"{self._run}: --resume takes what the run was started with; {differs}")
        if state["stage"] != self._stage:
            return  # of the stage before
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"] | {"lr_lambdas": [None] * len(self._optimizer.param_groups)})
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.generator.set_state(state["generator"])
        self._done, self._before = state["epoch"], state["before"]
        self._without_better = state["without_better"]
        self.history, self.seconds = state["history"], state["seconds"]
        if (self._run / FILE).exists():
            self._best = load(self._run)
        # Last of all: building a network draws random numbers.
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda" and isinstance(random := state["random_cuda"], Tensor):
            torch.cuda.set_rng_state(random, self._device)
        self._display.say(f"going on after epoch {self._done}")


def stage_of(run: Path, resume: bool) -> str:
    """Return which stage a stopped run was in, or nothing for one that starts anew."""
    path = run / STATE
    if not resume or not path.exists():
        return ""
    try:
        return str(read(path)["stage"])
    except (LookupError, TypeError) as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> InputError:
    return InputError(f"{path}: is not the state of this training; remove {path.parent}, or name another --out")


def _words(name: str) -> str:
    return name.replace("validation_", "held out ").replace("_", " ")


def _difference(name: str, before: Any, now: Any) -> str:
    """Return what of a value, or of nested ones, differs: NAME was A, is B; ..."""
    if isinstance(before, list) and isinstance(now, list) and set(before) != set(now):
        before, now = [one for one in before if one not in now], [one for one in now if one not in before]
    old, new = (dict(flatten(value if isinstance(value, dict) else {name: value})) for value in (before, now))
    names = [name for name in old | new if old.get(name, "none") != new.get(name, "none")]
    return "; ".join(f"{name} was {old.get(name, 'none')}, is {new.get(name, 'none')}" for name in names)
