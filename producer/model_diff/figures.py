"""What is said of two models: agreement, scores, what is confused with what, accuracy, examples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from producer.monitoring.psi import Psi
from tagmill.comparison.agreement import Agreement
from tagmill.comparison.paired import Paired


@dataclass(frozen=True)
class Group:
    """Some of the images: those that A gave a label, or those with a value of a further column."""

    #: None stands for images without a label or a value
    name: str | None
    agreement: Agreement
    #: of the label, with which A and B gave it; None for a group of a column
    mean_a: float | None = None
    mean_b: float | None = None
    #: images that B gave the label; None for a group of a column
    given_b: int | None = None


@dataclass(frozen=True)
class Confusion:
    """Images that A gave one label, and B another one."""

    label_a: str
    label_b: str
    images: int
    #: of the images that A gave its label
    share: float


@dataclass(frozen=True)
class ScoreDrift:
    """How the scores of B are away from those of A, over what both gave a score."""

    #: scores that are compared image by image
    scores: int
    mean_a: float | None
    mean_b: float | None
    #: B less A
    difference: float | None
    #: 95 % confidence interval of the difference
    interval: tuple[float, float] | None
    #: population stability index of the scores of B against those of A
    psi: Psi | None
    #: scores of each model by bins of equal width
    bins_a: tuple[int, ...]
    bins_b: tuple[int, ...]


@dataclass(frozen=True)
class Truth:
    """How often each model is right, where the truth is known."""

    figures: Paired
    #: keys of the truth that have no result of both
    missing: int


@dataclass(frozen=True)
class Example:
    """An image that the models do not agree on."""

    image_key: str
    uri: str
    sha256: str
    #: label and score, best first
    a: tuple[tuple[str, float], ...]
    b: tuple[tuple[str, float], ...]
    truth: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelDiff:
    """Two models over the images that both have a result of."""

    #: NAME@VERSION
    a: str
    b: str
    #: the run whose entries were compared; None: every image of the database, once
    run: int | None
    #: what is compared, in words
    compared: str
    #: whether an image has one label; else it has a set of labels
    one_label: bool
    agreement: Agreement
    #: by the label of A, the most frequent first
    labels: tuple[Group, ...]
    #: by the value of the column `by`, the most frequent first
    columns: tuple[Group, ...]
    by: str | None
    #: the most frequent first; of sets of labels there are none
    confusions: tuple[Confusion, ...]
    #: labels, and images by label of A and of B; None of sets, and of too many labels
    matrix: tuple[tuple[str, ...], tuple[tuple[int, ...], ...]] | None
    scores: ScoreDrift
    #: population stability index of the labels of B against those of A
    label_psi: Psi | None
    truth: Truth | None = None
    examples: tuple[Example, ...] = ()
    #: what a reader must know, a sentence each
    notes: tuple[str, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values of all figures."""
        found = asdict(self)
        found["agreement"] = _agreement(self.agreement)
        for name in ("labels", "columns"):
            groups: tuple[Group, ...] = getattr(self, name)
            found[name] = [asdict(one) | {"agreement": _agreement(one.agreement)} for one in groups]
        if self.truth is not None:
            figures = self.truth.figures
            found["truth"] |= {
                "difference": figures.difference,
                "interval": figures.interval,
                "chance": figures.chance,
            }
        return found


def _agreement(found: Agreement) -> Mapping[str, Any]:
    return {"images": found.images, "same": found.same, "share": found.share, "interval": found.interval}
