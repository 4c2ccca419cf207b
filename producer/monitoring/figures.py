"""What is said of two runs: figures of each model, of all images and of each group."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from producer.monitoring.centroids import Distance
from producer.monitoring.psi import Psi


class Kind(StrEnum):
    """What a group is made of."""

    #: all images of the run
    ALL = "all"
    #: the images that a model gave a label
    LABEL = "label"
    #: the images with a value of a further column
    COLUMN = "column"


@dataclass(frozen=True)
class Limits:
    """From when on a figure is drift."""

    #: of PSI
    threshold: float = 0.2
    #: of the distance between centroids; None judges none: how far embeddings are apart depends on the model
    max_distance: float | None = None
    #: groups with fewer images in either run are not judged
    least_images: int = 200


@dataclass(frozen=True)
class Side:
    """What one run has of a group."""

    #: images that were tagged
    images: int = 0
    #: images that failed; None for a label, which failed images do not have
    failed: int | None = None
    #: share of the images that failed
    failed_share: float | None = None
    #: share of the images whose label is `unknown`; None if the model gives no labels
    unknown_share: float | None = None
    #: of a label: how often it was given, and its share of all that were given
    label_share: float | None = None


@dataclass(frozen=True)
class GroupDrift:
    """The figures of one group, or of all images."""

    kind: Kind
    #: name of the further column
    column: str | None
    #: the label, or the value of the column; None stands for all images, or for no value
    group: str | None
    now: Side
    before: Side
    #: PSI of the labels, of the scores, and of failed against tagged images; None where there is nothing to compare
    labels: Psi | None = None
    scores: Psi | None = None
    failed: Psi | None = None
    distance: Distance | None = None
    #: what a label adds to the PSI of all labels
    moved: float | None = None
    #: whether both runs have enough images of it
    judged: bool = True
    #: names of the figures that are above their limits
    above: tuple[str, ...] = ()

    @property
    def indexes(self) -> dict[str, Psi | None]:
        """The figures that the threshold is for, by name."""
        return {"labels": self.labels, "scores": self.scores, "failed": self.failed}

    @property
    def title(self) -> str:
        """What the group is, in words."""
        if self.kind is Kind.ALL:
            return "all images"
        value = "(no value)" if self.group is None else self.group
        return f"{self.column}={value}" if self.kind is Kind.COLUMN else value


@dataclass(frozen=True)
class ModelDrift:
    """One model in both runs."""

    name: str
    version: int
    reference_version: int
    #: all images first, then the labels and the groups of each column, the largest first
    groups: tuple[GroupDrift, ...]
    #: labels and groups that are not shown, by the column; None stands for labels
    left_out: Mapping[str | None, int] = field(default_factory=dict)

    @property
    def whole(self) -> GroupDrift:
        """The figures of all images."""
        return self.groups[0]

    @property
    def drifted(self) -> tuple[GroupDrift, ...]:
        """The groups with a figure above its limit."""
        return tuple(found for found in self.groups if found.above)

    @property
    def movers(self) -> tuple[GroupDrift, ...]:
        """The labels by how much each adds to the PSI of all labels."""
        labels = (found for found in self.groups if found.kind is Kind.LABEL and found.moved)
        return tuple(sorted(labels, key=lambda found: -(found.moved or 0.0)))


@dataclass(frozen=True)
class RunDrift:
    """A run against a reference run."""

    run: int
    reference: int
    limits: Limits
    models: tuple[ModelDrift, ...]
    #: what a reader must know, a sentence each
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether any figure is above its limit."""
        return any(found.drifted for found in self.models)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values of all figures."""
        return asdict(self) | {
            "drifted": self.drifted,
            "models": [asdict(found) | {"drifted": bool(found.drifted)} for found in self.models],
        }
