"""The bundle: one self-describing `.onnx` file. This module reads and writes what it says of itself."""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from tagmill.errors import BundleError, InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task, task_named

#: Version of the metadata layout; a reader refuses any other.
LAYOUT = "1"

#: The metadata key of the golden samples, see `tagmill.bundles.golden`.
GOLDEN = "golden"

#: characters that SQL has room for in a label and in a model's name
LONGEST = 200
_MISFIT = f"longer than {LONGEST} characters or holds one that SQL cannot store; rename it"

#: Name of the graph's input: uint8 [N, height, width, 3], RGB.
INPUT = "images"


class Precision(StrEnum):
    """How a bundle's weights are stored and its layers computed."""

    #: float32 throughout
    FP32 = "fp32"
    #: float16 between the first and the last layer with weights; half the file
    FP16 = "fp16"
    #: 8-bit weights and activations, as QuantizeLinear and DequantizeLinear; a quarter of the file
    INT8 = "int8"


@dataclass(frozen=True)
class BundleSpec:
    """What a bundle says of itself in `metadata_props`."""

    name: str
    task: Task
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    #: the label of a segmenter that is not stored as a mask, or None
    background: str | None = None
    #: softmax temperature folded into the graph; 1.0 means not calibrated
    temperature: float = 1.0
    #: suggested least score for each label
    thresholds: dict[str, float] = field(default_factory=dict)
    #: measured on the test split, e.g. {"accuracy": 0.71, "images": 10000}
    metrics: dict[str, Any] = field(default_factory=dict)
    #: where it came from: recipe, command, data, seed, versions
    provenance: dict[str, Any] = field(default_factory=dict)
    precision: Precision = Precision.FP32

    def __post_init__(self) -> None:
        if not _fits(self.name):
            raise BundleError(f"bundle {_short(self.name)}: its name is {_MISFIT}")
        for label in self.labels:
            if not _fits(label):
                raise BundleError(f"bundle {self.name}: label {_short(label)} is {_MISFIT}")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise BundleError(f"bundle {self.name}: labels must be named, and each only once")
        if self.task.most_labels is not None and len(self.labels) > self.task.most_labels:
            raise BundleError(f"bundle {self.name}: a mask is uint8 and holds at most {self.task.most_labels} labels")
        if self.background is not None and self.background not in self.labels:
            raise BundleError(f"bundle {self.name}: background {self.background!r} is not one of its labels")

    def to_metadata(self) -> dict[str, str]:
        """Return the strings for ONNX `metadata_props`, in a fixed order. Raises InputError for its name."""
        check_name(self.name)
        values: dict[str, Any] = {
            "name": self.name,
            "task": self.task.name,
            "labels": self.labels,
            "preprocess": self.preprocess.to_dict(),
            "background": self.background,
            "temperature": self.temperature,
            "thresholds": self.thresholds,
            "metrics": self.metrics,
            "provenance": self.provenance,
            "precision": self.precision,
        }
        return {"tagmill": LAYOUT} | {key: json.dumps(value, sort_keys=True) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Self:
        """Raise BundleError where the metadata is missing, of another layout, or holds unknown values."""
        if metadata.get("tagmill") != LAYOUT:
            raise BundleError(f"not a Tagmill bundle of layout {LAYOUT}")
        try:
            value = {key: _parsed(text) for key, text in metadata.items() if key not in {"tagmill", GOLDEN}}
            return cls(
                name=str(value["name"]),
                task=task_named(value["task"]),
                labels=tuple(str(label) for label in value["labels"]),
                preprocess=PreprocessSpec.from_dict(value["preprocess"]),
                background=value["background"],
                temperature=float(value["temperature"]),
                thresholds={str(label): float(least) for label, least in value["thresholds"].items()},
                metrics=dict(value["metrics"]),
                provenance=dict(value["provenance"]),
                # bundles of before there was a choice do not say it
                precision=Precision(value.get("precision", Precision.FP32)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"bundle metadata is not understood: {error!r}") from error


def check_name(name: str) -> None:
    """Raise InputError for a new model's name that SQL cannot store, or that is more than a plain name, such as a path.

    New ones alone are held to it: what was registered under another before stays loadable.
    """
    if not (is_plain(name) and _fits(name)):
        raise InputError(
            f"model name {_short(name)} must begin with a letter or digit and hold only letters, digits, spaces, "
            f". _ and -, {LONGEST} at most; `model add --name` and `export --name` give another"
        )


def is_plain(name: str) -> bool:
    """Return whether a name begins with a letter or digit and holds only these of any script, spaces, `.`, `_`, `-`."""
    # M: the marks that letters are written with, such as accents (as macOS splits them) and the vowels of Hindi
    return name[:1].isalnum() and all(
        character in " ._-" or unicodedata.category(character)[0] in "LMN" for character in name
    )


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file: a bundle's identity."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; name an .onnx bundle") from error


def _parsed(text: str) -> Any:
    """Return JSON without the NaN and Infinity that Python writes for a figure that there is none of: SQL has none."""
    return json.loads(text, parse_constant=lambda _: None)


def _fits(text: str) -> bool:
    """Return whether PostgreSQL takes the text: not too long, no NUL, no half of a surrogate pair (JSON has both)."""
    return re.fullmatch(rf"[^\0\ud800-\udfff]{{0,{LONGEST}}}", text) is not None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
