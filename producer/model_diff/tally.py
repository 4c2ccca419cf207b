"""Count what two models said, image by image or as SQL counted it, in memory that does not grow with the images."""

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt

from producer.model_diff.figures import ScoreDrift
from producer.monitoring.psi import psi
from tagmill.comparison.counts import BINS, PairCount, bin_of
from tagmill.comparison.images import SharedImage


@dataclass
class LabelCount:
    """How often a label was given, and with which scores."""

    given_a: int = 0
    given_b: int = 0
    #: images that got the label of both
    both: int = 0
    sum_a: float = 0.0
    sum_b: float = 0.0


@dataclass
class ScoreSums:
    """The scores that are compared image by image, and those of each model by bins."""

    scores: int = 0
    sum_a: float = 0.0
    sum_b: float = 0.0
    squares: float = 0.0
    bins_a: Counter[int] = field(default_factory=Counter)
    bins_b: Counter[int] = field(default_factory=Counter)

    def drift(self) -> ScoreDrift:
        """Return the figures."""
        bins = tuple(tuple(found[number] for number in range(BINS)) for found in (self.bins_a, self.bins_b))
        index = psi(self.bins_b, self.bins_a)
        if not self.scores:
            return ScoreDrift(0, None, None, None, None, index, *bins)
        n = self.scores
        mean_a, mean_b = self.sum_a / n, self.sum_b / n
        difference = mean_b - mean_a
        margin = 1.96 * sqrt(max(0.0, self.squares / n - difference**2) / n)
        return ScoreDrift(n, mean_a, mean_b, difference, (difference - margin, difference + margin), index, *bins)


class Tally:
    """The counts of all images. Labels are ids of `label_name`."""

    def __init__(self) -> None:
        self.images = self.same = 0
        #: label of A, label of B -> images; only of models that give an image one label
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.labels: dict[int, LabelCount] = {}
        #: value of a column -> images, and those of them with the same answer
        self.groups: dict[str | None, list[int]] = {}
        self.scores = ScoreSums()

    def add_count(self, found: PairCount) -> None:
        """Add images with one label each that SQL has counted."""
        same, images = found.label_a == found.label_b, found.images
        self.images += images
        self.same += images * same
        self.pairs[found.label_a, found.label_b] += images
        of_a, of_b = self._label(found.label_a), self._label(found.label_b)
        of_a.given_a += images
        of_a.sum_a += found.sum_a
        of_b.given_b += images
        of_b.sum_b += found.sum_b
        of_a.both += images * same
        scores = self.scores
        scores.scores += images
        scores.sum_a += found.sum_a
        scores.sum_b += found.sum_b
        scores.squares += found.squares
        scores.bins_a[found.bin_a] += images
        scores.bins_b[found.bin_b] += images

    def add_image(self, found: SharedImage, group: str | None = None, *, one_label: bool) -> bool:
        """Add an image; return whether both models gave the same."""
        if one_label and found.a and found.b:
            ((label_a, score_a),), ((label_b, score_b),) = found.a.items(), found.b.items()
            squares = (score_b - score_a) ** 2
            bins = (bin_of(score_a), bin_of(score_b))
            self.add_count(PairCount(label_a, label_b, *bins, 1, score_a, score_b, squares))
        else:
            self._add_sets(found)
        same = found.a.keys() == found.b.keys()
        counted = self.groups.setdefault(group, [0, 0])
        counted[0] += 1
        counted[1] += same
        return same

    def _add_sets(self, found: SharedImage) -> None:
        self.images += 1
        self.same += found.a.keys() == found.b.keys()
        scores = self.scores
        for label, score in found.a.items():
            counted = self._label(label)
            counted.given_a += 1
            counted.sum_a += score
            scores.bins_a[bin_of(score)] += 1
        for label, score in found.b.items():
            counted = self._label(label)
            counted.given_b += 1
            counted.sum_b += score
            scores.bins_b[bin_of(score)] += 1
        for label in found.a.keys() & found.b.keys():
            self._label(label).both += 1
            score_a, score_b = found.a[label], found.b[label]
            scores.scores += 1
            scores.sum_a += score_a
            scores.sum_b += score_b
            scores.squares += (score_b - score_a) ** 2

    def _label(self, label: int) -> LabelCount:
        return self.labels.setdefault(label, LabelCount())
