"""Checkpoints: the weights of a network, how to build it, and how it was trained."""

import pickle
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tagmill.errors import BundleError, ConfigurationError, InputError, NothingToDo
from tagmill.files import atomic_write
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task, task_named
from training.annotations.folders import Folders, require_outside
from training.models.build import build

#: the best weights so far
FILE = "checkpoint.pt"
#: the state that --resume needs; removed when the training is finished
STATE = "state.pt"
#: written last: a run with this file is finished
METRICS = "metrics.json"
#: version of the file layout; `load` refuses any other
LAYOUT = 3


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, as stored in a run folder."""

    recipe: str
    task: Task
    #: name of the network in `training.models.build`
    arch: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    hyperparameters: dict[str, Any]
    #: the folders of "train", "validation" and "test"
    data: dict[str, list[str]]
    #: arguments of the network, e.g. {"head": 256}
    options: dict[str, Any] = field(default_factory=dict)
    #: weights and buffers
    state: dict[str, Tensor] = field(default_factory=dict)
    #: the epoch of these weights, counted from 1
    epoch: int = 0
    #: divisor of the logits before softmax or sigmoid
    temperature: float = 1.0
    #: suggested minimum score of each label
    thresholds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of the training, which also decided which images were held out."""
        return int(self.hyperparameters.get("loop", self.hyperparameters).get("seed", 0))

    def network(self) -> nn.Module:
        """Return the network in evaluation mode, on the CPU."""
        network = build(self.arch, self.preprocess.width, len(self.labels), **self.options)
        network.load_state_dict(self.state)
        return network.eval()


def claim_run(run: Path, folders: Folders, resume: bool = False, resumable: bool = True) -> None:
    """Create the folder of a run; with `resume` it may hold a run that was stopped.

    Raise InputError if the folder lies inside a data folder, or holds a run and `resume` is false. Raise NothingToDo if
    the run to resume is finished. A recipe that is not `resumable` has no --resume option to suggest.
    """
    require_outside(run, (*folders.data, *folders.validation, *folders.test))
    try:
        if resume and (run / METRICS).exists():
            raise NothingToDo(f"{run}: this run is finished; name another folder with --out to train again")
        if not resume and (run / FILE).exists():
            hint = "; --resume goes on with it" if resumable and not (run / METRICS).exists() else ""
            raise InputError(f"{run}: already holds a run{hint}; name another folder with --out, or remove this one")
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run}: {error.strerror}; name another folder with --out") from error


def save(checkpoint: Checkpoint, run: Path) -> Path:
    """Write checkpoint.pt atomically: the old one stays until the new one is complete."""
    values = {key: value for key, value in vars(checkpoint).items() if key != "state"}
    values |= {
        "task": str(checkpoint.task),
        "arch": str(checkpoint.arch),
        "labels": list(checkpoint.labels),
        "layout": LAYOUT,
    }
    values |= {"preprocess": plain(asdict(checkpoint.preprocess))}
    return write({"state": checkpoint.state, "meta": values}, run / FILE)


def write(values: dict[str, Any], path: Path) -> Path:
    """Write tensors and plain values atomically.

    Raise ConfigurationError if the disk is full or not writable, and KeyboardInterrupt on Ctrl-C.
    """
    try:
        # torch writes the name of a path into the file, but not that of a file object.
        with atomic_write(path) as temporary, temporary.open("wb") as out:
            torch.save(values, out)
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError on a full disk
        if isinstance(error.__context__, KeyboardInterrupt):  # and where Ctrl-C comes while it writes
            raise error.__context__ from None
        reason = getattr(error, "strerror", None) or "the file could not be written whole; is the disk full?"
        raise ConfigurationError(f"{path}: {reason}; make room, then the same command with --resume goes on") from error
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a file of `write`. Raise InputError if it is damaged."""
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        # torch has no error for a damaged file: zip and pickle raise all of these.
        raise InputError(f"{path}: is damaged or none of Tagmill's; train again, or name another run") from error
    return values


def load(run: Path) -> Checkpoint:
    """Read the checkpoint of a run folder, or a checkpoint file. Raise InputError if it is missing or damaged."""
    path = run / FILE if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint; name the --out folder of a `tagmill train` that went past one epoch")
    values = read(path)
    try:
        meta = values["meta"]
        if meta["layout"] != LAYOUT:
            raise InputError(f"{path}: is of layout {meta['layout']}, this Tagmill reads {LAYOUT}; train again")
        plain_fields = (
            "hyperparameters",
            "data",
            "options",
            "epoch",
            "temperature",
            "thresholds",
            "metrics",
            "versions",
        )
        checkpoint = Checkpoint(
            recipe=str(meta["recipe"]),
            task=task_named(meta["task"]),
            arch=str(meta["arch"]),
            labels=tuple(meta["labels"]),
            preprocess=PreprocessSpec.from_dict(meta["preprocess"]),
            state=values["state"],
            **{key: meta[key] for key in plain_fields},
        )
        checkpoint.network()
        _check_plain(checkpoint)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, BundleError) as error:
        raise InputError(f"{path}: is damaged or no Tagmill checkpoint; train again, or name another run") from error
    return checkpoint


def _check_plain(checkpoint: Checkpoint) -> None:
    """Raise TypeError if a field has the wrong type: torch.load returns whatever was written."""
    mappings = (checkpoint.hyperparameters, checkpoint.data, checkpoint.thresholds, checkpoint.metrics)
    if not all(isinstance(value, dict) for value in mappings):
        raise TypeError("a field is no mapping")
    for paths in checkpoint.data.values():
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise TypeError("the data of a use are no list of paths")


def versions() -> dict[str, str]:
    """Return the versions of the packages that a training uses."""
    try:
        tagmill_version = version("tagmill")
    except PackageNotFoundError:
        tagmill_version = "not installed"
    return {
        "tagmill": tagmill_version,
        "torch": str(torch.__version__),
        "numpy": str(np.__version__),
        "python": platform.python_version(),
    }


def copied_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights and buffers on the CPU."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with each StrEnum as a plain str, which torch.load(weights_only=True) can read."""
    return {key: str(value) if isinstance(value, str) else value for key, value in values.items()}
