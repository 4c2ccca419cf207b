"""Checkpoints: the weights of a network with everything that says what it is and where it came from."""

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
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task, task_named
from training.annotations.folders import Folders, require_outside
from training.models.build import build

#: the best weights so far
FILE = "checkpoint.pt"
#: all that a training needs to go on; gone once it is finished
STATE = "state.pt"
#: written last: a run that has it is finished
METRICS = "metrics.json"
#: version of the layout; a reader refuses any other
LAYOUT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as it lies in a run folder."""

    recipe: str
    task: Task
    #: name of the network in `training.models.build`
    arch: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    hyperparameters: dict[str, Any]
    #: what served as "train", "validation" and "test"
    data: dict[str, list[str]]
    #: how this arch was shaped, e.g. {"head": 256}
    options: dict[str, Any] = field(default_factory=dict)
    #: weights and buffers
    state: dict[str, Tensor] = field(default_factory=dict)
    #: the epoch these weights are from, counted from 1
    epoch: int = 0
    #: what the logits are divided by before softmax or sigmoid
    temperature: float = 1.0
    #: suggested least score for each label
    thresholds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """Return the network in evaluation mode, on the CPU."""
        network = build(self.arch, self.preprocess.width, len(self.labels), **self.options)
        network.load_state_dict(self.state)
        return network.eval()


def claim_run(run: Path, folders: Folders, resume: bool = False, resumable: bool = True) -> None:
    """Create the folder of a new run, or take up one that was interrupted.

    Raises InputError where it lies among the images or a run is already that is not to be taken up, and NothingToDo
    where it is finished. A recipe that is not `resumable` has no --resume.
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
    """Write checkpoint.pt so that there is always a whole one, however the process ends."""
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
    """Write tensors and plain values in one step. Raises ConfigurationError where the disk does not take them."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        torch.save(values, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError on a full disk
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "the file could not be written whole; is the disk full?"
        raise ConfigurationError(f"{path}: {reason}; make room, then the same command with --resume goes on") from error
    return path


def read(path: Path) -> dict[str, Any]:
    """Return what `write` wrote. Raises InputError for a damaged file."""
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        # torch has no error of its own for a damaged file: zip and pickle raise all of these.
        raise InputError(f"{path}: is damaged or none of Tagmill's; train again, or name another run") from error
    return stored


def load(run: Path) -> Checkpoint:
    """Read the checkpoint of a run folder, or the file itself. Raises InputError with what to do."""
    path = run / FILE if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint; name the --out folder of a `tagmill train` that went past one epoch")
    stored = read(path)
    try:
        meta = stored["meta"]
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
            state=stored["state"],
            **{key: meta[key] for key in plain_fields},
        )
        checkpoint.network()
        _check_plain(checkpoint)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, BundleError) as error:
        raise InputError(f"{path}: is damaged or no Tagmill checkpoint; train again, or name another run") from error
    return checkpoint


def _check_plain(checkpoint: Checkpoint) -> None:
    """Raise TypeError where what is read of the data is of another kind: torch reads back whatever was written."""
    mappings = (checkpoint.hyperparameters, checkpoint.data, checkpoint.thresholds, checkpoint.metrics)
    if not all(isinstance(value, dict) for value in mappings):
        raise TypeError("a field is no mapping")
    for places in checkpoint.data.values():
        if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
            raise TypeError("a part of the data is no list of paths")


def versions() -> dict[str, str]:
    """Return what the weights were made with."""
    try:
        own = version("tagmill")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "tagmill": own,
        "torch": str(torch.__version__),
        "numpy": str(np.__version__),
        "python": platform.python_version(),
    }


def copied_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers as they are now, on the CPU."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return enums as the text they stand for, which is what weights_only can read."""
    return {key: str(value) if isinstance(value, str) else value for key, value in values.items()}
