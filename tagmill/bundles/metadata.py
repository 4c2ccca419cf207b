"""Read and write the metadata of a bundle, which is one self-describing `.onnx` file."""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self

from tagmill.errors import BundleError, InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Task, task_named
from tagmill.text import normalize

#: version of the metadata layout; a reader refuses any other
LAYOUT = "1"

#: metadata key of the golden samples, see `tagmill.bundles.golden`
GOLDEN = "golden"

#: most characters of a label and of a model's name, in SQL
LONGEST = 200
#: most numbers of an embedding
WIDEST = 512
_MISFIT = f"longer than {LONGEST} characters or holds one that SQL cannot store; rename it"

#: name of the graph's input: uint8 [N, height, width, 3], RGB
INPUT = "images"


class Precision(StrEnum):
    """How a bundle's weights are stored and its layers are computed."""

    #: float32 throughout
    FP32 = "fp32"
    #: float16 between the first and the last layer with weights; half the file
    FP16 = "fp16"
    #: 8-bit weights and activations, as QuantizeLinear and DequantizeLinear; a quarter of the file
    INT8 = "int8"


@dataclass(frozen=True)
class BundleSpec:
    """The metadata of a bundle, stored in ONNX `metadata_props`."""

    name: str
    task: Task
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    #: the label of a segmenter for which no mask is stored, or None
    background: str | None = None
    #: softmax temperature folded into the graph; 1.0 means not calibrated
    temperature: float = 1.0
    #: suggested threshold of the score, by label
    thresholds: dict[str, float] = field(default_factory=dict)
    #: measured on the test split, e.g. {"accuracy": 0.71, "images": 10000}
    metrics: dict[str, Any] = field(default_factory=dict)
    #: how it was made: recipe, command, data, seed, versions
    provenance: dict[str, Any] = field(default_factory=dict)
    precision: Precision = Precision.FP32
    #: width of the graph's output `embedding`; 0: it has none
    embedding: int = 0
    #: whether the graph has the output `activation_map`
    activation_map: bool = False

    def __post_init__(self) -> None:
        # Labels in their one spelling, whatever graph they come from: an exported one, or one that was made elsewhere.
        set_field = partial(object.__setattr__, self)
        set_field("labels", tuple(map(normalize, self.labels)))
        set_field("background", None if self.background is None else normalize(self.background))
        set_field("thresholds", {normalize(label): least for label, least in self.thresholds.items()})
        if not _fits(self.name):
            raise BundleError(f"bundle {_short(self.name)}: its name is {_MISFIT}")
        for label in self.labels:
            if not _fits(label):
                raise BundleError(f"bundle {self.name}: label {_short(label)} is {_MISFIT}")
        if len(self.labels) < self.task.least_labels or len(set(self.labels)) != len(self.labels):
            raise BundleError(
                f"bundle {self.name}: labels must be named, and each only once; labels that look the same are the same"
            )
        if self.task.most_labels is not None and len(self.labels) > self.task.most_labels:
            raise BundleError(f"bundle {self.name}: a mask is uint8 and holds at most {self.task.most_labels} labels")
        if not 0 <= self.embedding <= WIDEST:
            raise BundleError(f"bundle {self.name}: its embedding has {self.embedding} numbers; at most {WIDEST} fit")
        if self.background is not None and self.background not in self.labels:
            raise BundleError(f"bundle {self.name}: background {self.background!r} is not one of its labels")

    def to_metadata(self) -> dict[str, str]:
        """Return the strings for ONNX `metadata_props`, in a fixed order. Raise InputError if the name is not plain."""
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
            "embedding": self.embedding,
            "activation_map": self.activation_map,
        }
        return {"tagmill": LAYOUT} | {key: json.dumps(value, sort_keys=True) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Self:
        """Parse `metadata_props`. Raise BundleError if they are missing, of another layout, or hold unknown values."""
        if metadata.get("tagmill") != LAYOUT:
            raise BundleError(f"not a Tagmill bundle of layout {LAYOUT}")
        try:
            value = {key: _parse_json(text) for key, text in metadata.items() if key not in {"tagmill", GOLDEN}}
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
                # Older bundles lack it: they are float32.
                precision=Precision(value.get("precision", Precision.FP32)),
                embedding=int(value.get("embedding", 0)),
                activation_map=bool(value.get("activation_map", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"bundle metadata is not understood: {error!r}") from error


def check_name(name: str) -> None:
    """Raise InputError if the name of a new model is not plain (it may be a path) or does not fit into SQL.

    Only new names are checked: a model that was registered under another name before stays loadable.
    """
    if not (is_plain(name) and _fits(name)):
        raise InputError(
            f"model name {_short(name)} must begin with a letter or digit and hold only letters, digits, spaces, "
            f". _ and -, {LONGEST} at most; `model add --name` and `export --name` give another"
        )


def is_plain(name: str) -> bool:
    """Return whether a name begins with a letter or digit and holds only letters, digits, spaces, `.`, `_` and `-`.

    Letters and digits may be of any script.
    """
    # M: combining marks, such as accents (which macOS splits from their letters) and the vowel signs of Hindi
    return name[:1].isalnum() and all(
        character in " ._-" or unicodedata.category(character)[0] in "LMN" for character in name
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hex, which identifies a bundle. Raise BundleError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; name an .onnx bundle") from error


def _parse_json(text: str) -> Any:
    """Parse JSON; NaN and Infinity, which SQL cannot store, become None."""
    return json.loads(text, parse_constant=lambda _: None)


def _fits(text: str) -> bool:
    """Return whether PostgreSQL can store the text: not too long, no NUL, no lone surrogate (JSON may hold both)."""
    return re.fullmatch(rf"[^\0\ud800-\udfff]{{0,{LONGEST}}}", text) is not None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
