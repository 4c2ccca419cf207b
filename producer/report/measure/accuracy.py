"""How often a model is right, where the truth is known: accuracy with its interval, and what is confused with what."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tagmill.tasks.metrics import interval

#: labels up to which the whole matrix is shown
MATRIX_LABELS = 60
#: confused pairs that are listed
PAIRS = 12


@dataclass(frozen=True)
class Share:
    """A share of images with its 95 % confidence interval (Wilson 1927)."""

    right: int
    of: int

    @property
    def value(self) -> float | None:
        """0 to 1; None of no image."""
        return self.right / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper end, 0 to 1."""
        return interval(self.right / self.of, self.of) if self.of else (0.0, 1.0)


@dataclass(frozen=True)
class Pair:
    """A label that was given to images of another one."""

    true: str
    given: str
    images: int
    #: of the images that are truly of the label `true`
    share: float


class Accuracy:
    """The answers of one model compared with the truth, image by image."""

    def __init__(self, labels: Collection[str], *, multilabel: bool) -> None:
        self.multilabel = multilabel
        self._known = set(labels)
        self._right = self._images = 0
        #: images whose true label the model does not have
        self.unknown = 0
        self._true: Counter[str] = Counter()
        self._given: Counter[str] = Counter()
        self._hits: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()

    def add(self, given: list[str], truth: Sequence[str]) -> bool:
        """Add an image; return whether it is right: given exactly the true labels, or the one of a classifier's."""
        right = set(given) == set(truth) if self.multilabel else given[:1] != [] and given[0] in truth
        self._images += 1
        self._right += right
        self.unknown += not self._known.issuperset(truth)
        self._true.update(truth if self.multilabel else [given[0] if right else truth[0]])
        self._given.update(given)
        self._hits.update(set(given) & set(truth))
        if not self.multilabel:
            self._pairs[given[0] if right else truth[0], given[0] if given else ""] += 1
        return right

    @property
    def share(self) -> Share:
        """Return the share of images that are right."""
        return Share(self._right, self._images)

    def by_label(self) -> list[tuple[str, Share, Share]]:
        """Return label, recall and precision of each label that is true or was given, the lowest recall first."""
        found = [
            (label, Share(self._hits[label], self._true[label]), Share(self._hits[label], self._given[label]))
            for label in self._true.keys() | self._given.keys()
        ]
        return sorted(found, key=lambda one: (one[1].value is None, one[1].value, one[0]))

    def pairs(self) -> list[Pair]:
        """Return the labels that were given in place of others, the most frequent pair first."""
        wrong = ((true, given, images) for (true, given), images in self._pairs.items() if true != given)
        ordered = sorted(wrong, key=lambda one: (-one[2], one[0], one[1]))
        return [Pair(true, given, images, images / self._true[true]) for true, given, images in ordered]

    def matrix(self) -> tuple[list[str], list[list[int]]] | None:
        """Return labels, and images by true and given label; None of several labels an image, or of too many labels."""
        labels = sorted(self._true.keys() | self._given.keys())
        if self.multilabel or len(labels) > MATRIX_LABELS:
            return None
        return labels, [[self._pairs[true, given] for given in labels] for true in labels]
