"""Prove that a bundle answers as its origin does, through the session that workers use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tagmill.bundles.spec import BundleSpec
from tagmill.errors import BundleError
from tagmill.tasks.base import Prediction
from training.evaluation.predict import logits
from worker.inference.session import Session

#: largest difference of one score
SCORE_TOLERANCE = 1e-4
#: largest share of mask pixels that may differ: there two labels are equally likely
MASK_TOLERANCE = 1e-3
#: images of one call; the last call is a smaller one, so that the batch size is seen to be free
BATCH = 16

#: from uint8 [N, H, W, 3] to the probabilities float32 [N, labels], of a segmenter [N, labels, H, W]
Reference = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Parity:
    """How far a bundle is from its origin, over a number of images."""

    images: int
    max_score_difference: float
    #: share of mask pixels with another label; None for a classifier
    mask_difference: float | None = None
    #: share of images with the same best label; None for a segmenter
    label_agreement: float | None = None

    def check(self) -> None:
        """Raise BundleError where the bundle is not what was trained."""
        if not self.max_score_difference <= SCORE_TOLERANCE:
            raise BundleError(
                f"the exported graph differs from torch by {self.max_score_difference:.2g} in a score "
                f"({SCORE_TOLERANCE:g} allowed, {self.images} images): no bundle written"
            )
        if self.mask_difference is not None and self.mask_difference > MASK_TOLERANCE:
            raise BundleError(
                f"the exported graph gives another label than torch to {self.mask_difference:.2%} of the pixels "
                f"({MASK_TOLERANCE:.1%} allowed, {self.images} images): no bundle written"
            )


def torch_reference(network: nn.Module, spec: BundleSpec) -> Reference:
    """Return the way that training measured the network, which is not the way through the exported module."""

    def probabilities(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = (part / spec.temperature for part in logits(network, images))
        several = spec.task.multilabel
        return np.concatenate([(part.sigmoid() if several else part.softmax(1)).numpy() for part in scaled])

    return probabilities


def compare(session: Session, reference: Reference, images: NDArray[np.uint8]) -> Parity:
    """Run both on uint8 [N, H, W, 3]. Raises BundleError where scores are no numbers, or top-k is not of them."""
    worst, other, pixels, same = 0.0, 0, 0, 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        found = session.run(batch)
        if not np.isfinite(found.scores).all():
            raise BundleError("the exported graph gives scores that are no numbers; look at the run's report.html")
        expected = reference(batch)
        if found.mask is not None:
            mask = expected.argmax(1).astype(np.uint8)
            other += int((mask != found.mask).sum())
            pixels += mask.size
            difference = _label_differences(expected, mask, found.mask, found.scores)
        else:
            difference = np.abs(expected - found.scores)
            same += int((expected.argmax(1) == found.scores.argmax(1)).sum())
            _check_top(found, session.run(batch, best_only=True))
        worst = max(worst, float(difference.max(initial=0.0)))
    if pixels:
        return Parity(len(images), worst, mask_difference=other / pixels)
    return Parity(len(images), worst, label_agreement=same / len(images))


def _check_top(whole: Prediction, best: Prediction) -> None:
    """Raise BundleError where the labels that a graph picks out are not the best of its own scores."""
    if best.labels is None:
        return
    order = np.argsort(-whole.scores, axis=1, kind="stable")[:, : best.labels.shape[1]]
    if not ((order == best.labels).all() and (np.take_along_axis(whole.scores, order, 1) == best.scores).all()):
        raise BundleError("the exported graph's top-k is not the best of its own scores: no bundle written")


def _label_differences(
    probabilities: NDArray[np.float32], mask: NDArray[np.uint8], found: NDArray[np.uint8], scores: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how far each label's score is off, [N, labels]; 0 for labels whose pixels differ.

    One pixel that changes sides between two equally likely labels moves the mean of a label of few pixels by much more
    than the arithmetic does. Such pixels are counted as mask difference, so their labels are left out here.
    """
    top = probabilities.max(1)
    differences = np.zeros(scores.shape)
    for label in range(scores.shape[1]):
        own = mask == label
        same = (own == (found == label)).all(axis=(1, 2))
        areas = own.sum(axis=(1, 2))
        means = np.where(own, top, 0.0).sum(axis=(1, 2), dtype=np.float64) / np.maximum(areas, 1)
        differences[:, label] = np.where(same, np.abs(means - scores[:, label]), 0.0)
    return differences
