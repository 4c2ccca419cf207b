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

from tagmill.errors import BundleError, InputError
from tagmill.preprocess import PreprocessSpec
from training.networks import Arch, build

FILE = "checkpoint.pt"
#: version of the layout; a reader refuses any other
LAYOUT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as it lies in a run folder."""

    recipe: str
    arch: Arch
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    #: weights and buffers
    state: dict[str, Tensor]
    hyperparameters: dict[str, Any]
    #: which folders served as "train", "validation" and "test"
    data: dict[str, list[str]]
    #: the epoch these weights are from, counted from 1
    epoch: int
    metrics: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """Return the network in evaluation mode, on the CPU."""
        network = build(self.arch, self.preprocess.width, len(self.labels))
        network.load_state_dict(self.state)
        return network.eval()


def claim_run(run: Path) -> None:
    """Create the folder of a new run. Raises InputError where one is already."""
    if (run / FILE).exists():
        raise InputError(f"{run}: already holds a run; name another folder with --out, or remove this one")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run}: {error.strerror}; name another folder with --out") from error


def save(checkpoint: Checkpoint, run: Path) -> Path:
    """Write checkpoint.pt so that there is always a whole one, however the process ends."""
    values = {key: value for key, value in vars(checkpoint).items() if key != "state"}
    values |= {"arch": str(checkpoint.arch), "labels": list(checkpoint.labels), "layout": LAYOUT}
    values |= {"preprocess": plain(asdict(checkpoint.preprocess))}
    temporary = run / f".{FILE}.partial"
    torch.save({"state": checkpoint.state, "meta": values}, temporary)
    temporary.replace(run / FILE)
    return run / FILE


def load(run: Path) -> Checkpoint:
    """Read the checkpoint of a run folder, or the file itself. Raises InputError with what to do."""
    path = run / FILE if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint; name the --out folder of a `tagmill train` that went past one epoch")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        meta = stored["meta"]
        if meta["layout"] != LAYOUT:
            raise InputError(f"{path}: is of layout {meta['layout']}, this Tagmill reads {LAYOUT}; train again")
        checkpoint = Checkpoint(
            recipe=str(meta["recipe"]),
            arch=Arch(meta["arch"]),
            labels=tuple(meta["labels"]),
            preprocess=PreprocessSpec.from_dict(meta["preprocess"]),
            state=stored["state"],
            **{key: meta[key] for key in ("hyperparameters", "data", "epoch", "metrics", "versions")},
        )
        checkpoint.network()
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, BundleError,
            pickle.UnpicklingError) as error:  # fmt: skip
        # torch has no error of its own for a damaged file: zip, pickle and state dict raise all of these.
        raise InputError(f"{path}: is damaged or no Tagmill checkpoint; train again, or name another run") from error
    return checkpoint


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
