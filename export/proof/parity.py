"""Prove that a bundle predicts what its network predicts in torch, through the session that workers use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from export.graph.activation_map import LEVELS, FeatureMap, MapTap
from export.graph.embedding import FeatureTap, Projection
from export.proof.predict import predict
from tagmill.bundles.metadata import BundleSpec
from tagmill.errors import BundleError
from tagmill.tasks.base import Prediction
from training.evaluation.predict import logits
from worker.inference.session import Session

#: largest difference of one score
SCORE_TOLERANCE = 1e-4
#: largest share of mask pixels that may differ: those where two labels are about equally likely
MASK_TOLERANCE = 1e-3
#: levels of 255 that a cell of an activation map may be off
LEVEL_TOLERANCE = 2
#: images of one call; a smaller last call shows that the batch size is free
BATCH = 16

#: maps uint8 [N, H, W, 3] to probabilities, float32 [N, labels] or, of a segmenter, [N, labels, H, W]
Reference = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Parity:
    """How far the predictions of a bundle are from those in torch."""

    images: int
    max_score_difference: float
    #: share of mask pixels with another label; None for a classifier
    mask_difference: float | None = None
    #: share of images with the same best label; None for a segmenter
    label_agreement: float | None = None

    def check(self) -> None:
        """Raise BundleError if a difference is larger than allowed."""
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
    """Return a function that computes probabilities as training does, without the exported module."""

    def probabilities(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = (part / spec.temperature for part in logits(network, images))
        multilabel = spec.task.multilabel
        return np.concatenate([(part.sigmoid() if multilabel else part.softmax(1)).numpy() for part in scaled])

    return probabilities


def compare(session: Session, reference: Reference, images: NDArray[np.uint8]) -> Parity:
    """Return the differences on uint8 [N, H, W, 3].

    Raise BundleError if a score is not a number, or if the top-k labels are not those of the best scores.
    """
    largest, different_pixels, pixels, same_labels = 0.0, 0, 0, 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        found = session.run(batch)
        if not np.isfinite(found.scores).all():
            raise BundleError("the exported graph gives scores that are no numbers; look at the run's report.html")
        expected = reference(batch)
        if found.mask is not None:
            mask = expected.argmax(1).astype(np.uint8)
            different_pixels += int((mask != found.mask).sum())
            pixels += mask.size
            difference = _label_differences(expected, mask, found.mask, found.scores)
        else:
            difference = np.abs(expected - found.scores)
            same_labels += int((expected.argmax(1) == found.scores.argmax(1)).sum())
            _check_top_k(found, session.run(batch, best_only=True))
        largest = max(largest, float(difference.max(initial=0.0)))
    if pixels:
        return Parity(len(images), largest, mask_difference=different_pixels / pixels)
    return Parity(len(images), largest, label_agreement=same_labels / len(images))


def check_embedding(session: Session, network: nn.Module, projection: Projection, images: NDArray[np.uint8]) -> None:
    """Raise BundleError if the embeddings of uint8 [N, H, W, 3] differ from those that torch and NumPy give."""
    tap = FeatureTap(network)
    try:
        features = np.concatenate([tap.take().numpy() for _ in logits(network, images)])
    finally:
        tap.close()
    expected = (features - projection.mean) @ projection.components
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    found = predict(session, images).embedding
    assert found is not None, "the bundle says that it gives one"
    difference = float(np.abs(expected - found).max())
    if not difference <= SCORE_TOLERANCE:
        raise BundleError(
            f"the exported graph differs from torch by {difference:.2g} in an embedding ({SCORE_TOLERANCE:g} allowed, "
            f"{len(images)} images): no bundle written"
        )


def check_activation_map(session: Session, network: nn.Module, place: FeatureMap, images: NDArray[np.uint8]) -> None:
    """Raise BundleError if the activation maps of uint8 [N, H, W, 3] differ from those that torch and NumPy give.

    They are compared where both have the same best label: one of two labels that are equally likely has another map.
    """
    tap = MapTap(place)
    try:
        found = [(part.argmax(1).numpy(), tap.take().numpy()) for part in logits(network, images)]
    finally:
        tap.close()
    best, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
    weights = place.head.weight.detach().numpy()[best]
    evidence = np.maximum(np.einsum("nf,nfhw->nhw", weights, features), 0)
    expected = np.rint(LEVELS * evidence / np.maximum(evidence.max((1, 2), keepdims=True), 1e-12))
    answered = predict(session, images)
    assert answered.activation_map is not None, "the bundle says that it gives one"
    same = answered.scores.argmax(1) == best
    off = np.abs(expected - answered.activation_map)[same] > LEVEL_TOLERANCE
    if off.size and off.mean() > MASK_TOLERANCE:
        raise BundleError(
            f"the exported graph differs from torch in {off.mean():.2%} of the cells of its activation maps "
            f"({MASK_TOLERANCE:.1%} allowed, {len(images)} images): no bundle written"
        )


def _check_top_k(full: Prediction, best: Prediction) -> None:
    """Raise BundleError if the labels that a graph picks do not have the best of its own scores."""
    if best.labels is None:
        return
    order = np.argsort(-full.scores, axis=1, kind="stable")[:, : best.labels.shape[1]]
    if not ((order == best.labels).all() and (np.take_along_axis(full.scores, order, 1) == best.scores).all()):
        raise BundleError("the exported graph's top-k is not the best of its own scores: no bundle written")


def _label_differences(
    probabilities: NDArray[np.float32], mask: NDArray[np.uint8], found: NDArray[np.uint8], scores: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the difference of each label's score, [N, labels]; 0 for labels whose pixels differ.

    If one pixel changes between two equally likely labels, the mean of a label of few pixels changes much more than
    by rounding. Such pixels count as mask difference, so their labels are left out here.
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
