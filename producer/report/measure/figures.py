"""The figures of a run from all of its images, in memory that does not grow with them."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from producer.output.image_result import ImageResult
from producer.report.measure.accuracy import Accuracy
from tagmill.locations.redact import shown_uri
from tagmill.registry.models import Model
from tagmill.tasks.base import Task, task_named

#: bins of a histogram of scores, each as wide as the others
BINS = 20
#: images that are shown of each error code
EXAMPLES = 5


@dataclass
class LabelFigures:
    """What a model gave of one label."""

    images: int = 0
    scores: float = 0.0
    #: images with at least the suggested threshold of the label
    above: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def mean_score(self) -> float | None:
        """The mean score with which it was given."""
        return self.scores / self.images if self.images else None


class ModelFigures:
    """The labels that one model gave, and how often it is right."""

    def __init__(self, name: str, model: Model, true_labels: Collection[str]) -> None:
        """`true_labels` are those of all images."""
        self.name, self.model = name, model
        self.task: Task = task_named(model.task)
        self.thresholds: dict[str, float] = model.spec.get("thresholds") or {}
        #: whether the truth is about this model: it has one of the true labels
        self.judged = not self.task.gives_masks and not set(true_labels).isdisjoint(model.labels)
        self.accuracy = Accuracy(model.labels, multilabel=self.task.multilabel)
        self.images = self.nothing = 0
        self._labels: dict[str, LabelFigures] = {}

    def add(self, result: ImageResult, truth: Sequence[str]) -> bool | None:
        """Add an image; return whether the model is right, None if that is not known."""
        labels, masks = result.labels.get(self.name, []), result.masks.get(self.name, [])
        given = self.task.given(labels, masks)
        self.images += 1
        self.nothing += not given
        for label, score in given:
            found = self._labels.setdefault(label, LabelFigures())
            found.images += 1
            found.scores += score
            found.above += score >= self.thresholds.get(label, 2.0)
            found.histogram[bin_of(score)] += 1
        if not truth or not self.judged:
            return None
        return self.accuracy.add([label for label, _ in given], truth)

    @property
    def by_label(self) -> list[tuple[str, LabelFigures]]:
        """Return each label that was given, the most frequent first."""
        return sorted(self._labels.items(), key=lambda one: (-one[1].images, one[0]))

    @property
    def never_given(self) -> list[str]:
        """Return the labels that were given to no image, the background aside."""
        unused = {self.model.spec.get("background")} | self._labels.keys()
        return [label for label in self.model.labels if label not in unused]

    @property
    def histogram(self) -> list[int]:
        """Return how many labels were given with a score of each bin."""
        return [sum(found.histogram[number] for found in self._labels.values()) for number in range(BINS)]

    @property
    def above(self) -> int:
        """Return how many labels were given with at least their suggested threshold."""
        return sum(found.above for found in self._labels.values())


@dataclass(frozen=True)
class FailureExample:
    """An image that failed, as people may see it."""

    image_key: str
    uri: str
    detail: str


class RunFigures:
    """Everything that the page says of all images."""

    def __init__(self, names: Sequence[tuple[str, Model]], truth: Mapping[str, tuple[str, ...]]) -> None:
        true_labels = {label for labels in truth.values() for label in labels}
        self.models = [ModelFigures(name, model, true_labels) for name, model in names]
        self.images = 0
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.examples: dict[str, list[FailureExample]] = {}
        #: images with a truth, and keys that the truth has
        self.with_truth, self.truths = 0, len(truth)
        self._truth = truth

    def add(self, result: ImageResult) -> list[bool | None]:
        """Add an image; return for each model whether it is right, None if that is not known."""
        self.images += 1
        self.statuses[result.status] += 1
        truth = self._truth.get(result.image_key, ())
        self.with_truth += bool(truth)
        if code := result.error_code:
            self.failures[code] += 1
            shown = self.examples.setdefault(code, [])
            if len(shown) < EXAMPLES:
                shown.append(FailureExample(result.image_key, shown_uri(result.uri), result.error_detail or ""))
        if result.sha256 is None:
            return [None] * len(self.models)
        return [model.add(result, truth) for model in self.models]


def bin_of(score: float) -> int:
    """Return the number of the bin that a score belongs to; a score that is not a number belongs to the first."""
    return min(BINS - 1, int(score * BINS)) if score > 0 else 0
