"""What a task must provide: all that differs between kinds of models is behind `Task`.

A task is one module of this package, named as bundles and SQL name the task, with its object in `TASK`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tagmill.images.preprocess import PreprocessSpec
from tagmill.records import Mask

#: Names of the graph's outputs.
SCORES = "scores"  # float32 [N, labels]
MASK = "mask"  # uint8 [N, height, width], index into labels
TOP_SCORES = "top_scores"  # float32 [N, K], best first; only if exported with --top-k
TOP_LABELS = "top_labels"  # int64 [N, K], index into labels
EMBEDDING = "embedding"  # float32 [N, D] of unit length; only of a bundle that gives one
ACTIVATION_MAP = "activation_map"  # uint8 [N, h, w] of the best label; only of a bundle that gives one

Labels = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Prediction:
    """The outputs of a graph for N images. `scores`: float32 [N, labels]; `mask`: uint8 [N, height, width] or None.

    With `labels`, int64 [N, K], `scores` holds the best K alone, best first, each of the label beside it. `embedding`,
    float32 [N, D], is of unit length. `activation_map`, uint8 [N, h, w], says where the best label comes from.
    """

    scores: NDArray[np.float32]
    mask: NDArray[np.uint8] | None = None
    labels: NDArray[np.int64] | None = None
    embedding: NDArray[np.float32] | None = None
    activation_map: NDArray[np.uint8] | None = None

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the predictions of several calls as one."""

        def joined(name: str) -> Any:
            found = [getattr(part, name) for part in parts]
            return None if found[0] is None else np.concatenate(found)

        return cls(joined("scores"), joined("mask"), joined("labels"), joined("embedding"), joined("activation_map"))

    def at(self, chosen: "slice | NDArray[np.int64]") -> "Prediction":
        """Return the predictions of some of the images."""

        def part(of: Any) -> Any:
            return None if of is None else of[chosen]

        further = (self.mask, self.labels, self.embedding, self.activation_map)
        return Prediction(self.scores[chosen], *map(part, further))


@dataclass(frozen=True)
class Measured:
    """How good predictions are. Lists have one entry per label, None for a label that nothing was measured of."""

    #: figures by name, those per label in a dictionary of their own
    figures: dict[str, Any]
    #: the figure of each label that has any, by label
    per_label: Mapping[str, float]
    #: int64 [true, predicted] images or pixels; None if an image has several labels
    confusion: NDArray[np.int64] | None
    #: share of what was given a label that has it
    precision: list[float | None]
    #: share of what has a label that was given it
    recall: list[float | None]


class Tally(Protocol):
    """Predictions that are measured together, added call by call."""

    def add(self, prediction: Prediction, targets: NDArray[Any]) -> None:
        """Add the predictions of some images, and what is true of them."""

    def measured(self) -> Measured:
        """Return the figures of all that was added."""


@dataclass(frozen=True)
class Headline:
    """A figure that people read first."""

    name: str
    value: str
    note: str = ""


class Described(Protocol):
    """What a task reads of a bundle: its labels and its input."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def background(self) -> str | None: ...

    @property
    def preprocess(self) -> PreprocessSpec: ...


class Task(ABC):
    """What a model gives for an image. Subclasses hold no state: there is one object per task."""

    #: in bundles, checkpoints and SQL
    name: ClassVar[str]
    #: what such a model does, as in "a model that ..."
    summary: ClassVar[str]
    #: outputs that its graph must have
    outputs: ClassVar[tuple[str, ...]]
    #: whether it gives a mask per image
    gives_masks: ClassVar[bool] = False
    #: whether an image may have any number of labels; its scores are sigmoids, else a softmax
    multilabel: ClassVar[bool] = False
    #: least and most labels of a bundle; None: any number
    least_labels: ClassVar[int] = 1
    most_labels: ClassVar[int | None] = None
    #: the figure that decides: which epoch is kept, and what fewer bits may cost
    headline: ClassVar[str]
    #: the figure of one label, in words
    label_figure: ClassVar[str]
    #: what is counted in its confusion table
    unit: ClassVar[str] = "images"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @abstractmethod
    def prediction(self, outputs: Mapping[str, NDArray[Any]]) -> Prediction:
        """Return the outputs of one call as a prediction."""

    @abstractmethod
    def wanted_outputs(self, top_k: int) -> list[str]:
        """Return the outputs that rows are made of; `top_k` is the number of labels that the graph picks, or 0."""

    @abstractmethod
    def rows(
        self, bundle: Described, prediction: Prediction, number: int, width: int, height: int
    ) -> tuple[Labels, tuple[Mask, ...]]:
        """Return what is stored of image `number`: labels with scores, best first, and masks.

        `width` and `height` are those of the image itself, in pixels.
        """

    @abstractmethod
    def main_labels(self, prediction: Prediction) -> NDArray[np.int64]:
        """Return the label that stands for each image, int64 [N]."""

    @abstractmethod
    def difference(self, expected: Prediction, found: Prediction) -> tuple[float, str]:
        """Return how far two predictions of the same images are apart, and of what that is a share or a difference."""

    @abstractmethod
    def columns(self, model: str) -> tuple[str, ...]:
        """Return the CSV columns of a model."""

    @abstractmethod
    def values(self, labels: Sequence[tuple[str, float]], masks: Sequence[Any]) -> tuple[str, ...]:
        """Return the CSV values of one image; empty strings if the model gave nothing."""

    @abstractmethod
    def tally(self, labels: Sequence[str]) -> Tally:
        """Return an empty tally over these labels."""

    @abstractmethod
    def headlines(
        self, measured: Mapping[str, Any], labels: int, shown: str, ece_before: float | None
    ) -> list[Headline]:
        """Return the figures that people read first.

        `measured` are figures of `measure`, `labels` their number of labels; `shown` says of which images they are.
        """

    def measure(self, prediction: Prediction, targets: NDArray[Any], labels: Sequence[str]) -> Measured:
        """Return how good predictions are.

        `targets` are int64 [N] of one label each, uint8 [N, labels] of 0 and 1, or masks uint8 [N, H, W] in which 255
        is ignored.
        """
        tally = self.tally(labels)
        tally.add(prediction, targets)
        return tally.measured()

    def given(self, labels: Sequence[tuple[str, float]], masks: Sequence[Mask]) -> list[tuple[str, float]]:
        """Return the labels that stored results give to an image, with their scores."""
        return list(labels[:1]) or [(found.label, found.score) for found in masks]

    def certainty(self, labels: Sequence[tuple[str, float]], masks: Sequence[Mask]) -> float | None:
        """Return how certain stored results are, 0 to 1; None if there are none.

        By default it is the margin: the best score less the second best (Scheffer et al. 2001; Settles 2009, Active
        Learning Literature Survey, section 3.1).
        """
        if not labels:
            return None
        return labels[0][1] - (labels[1][1] if len(labels) > 1 else 0.0)

    def background(self, labels: Sequence[str]) -> str | None:
        """Return the label that is not stored, or None."""
        return None


@cache
def task_named(name: str) -> Task:
    """Return the task of that name; raise ValueError if there is none."""
    if name not in task_names():
        raise ValueError(f"{name!r} is not a task; known are {', '.join(task_names())}")
    found: Task = import_module(f"tagmill.tasks.{name}").TASK
    return found


@cache
def task_names() -> tuple[str, ...]:
    """Return the names of all tasks: the modules of this package that are none of its shared ones."""
    package = import_module("tagmill.tasks")
    return tuple(sorted(found.name for found in iter_modules(package.__path__) if found.name not in _SHARED))


#: modules of this package that are no tasks
_SHARED = frozenset({"base", "masks", "metrics"})
