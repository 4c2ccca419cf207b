"""The distance between the mean embeddings of two sets of images, and what chance alone makes of it."""

from dataclasses import dataclass

import numpy as np

from producer.output.read.drift.centroids import VectorSum


@dataclass(frozen=True)
class Distance:
    """A cosine distance, 0 to 2, and what it is compared with."""

    value: float
    #: its mean if both sets were drawn from the same images
    chance: float


def centroid_distance(now: VectorSum | None, before: VectorSum | None) -> Distance | None:
    """Return the cosine distance of two means; None if one has no image, no direction, or another width.

    Embeddings are of unit length, so those of a set vary by 1 - |mean|^2, and the square of the distance between two
    means of n and m images is (1 - |a|^2) / n + (1 - |b|^2) / m by chance. Half of it is the cosine distance of the
    directions, once it is divided by both lengths.
    """
    if now is None or before is None or now.total.shape != before.total.shape:
        return None
    a, b = now.total / now.images, before.total / before.images
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths < 1e-12:
        return None
    variance = max(0.0, 1 - float(a @ a)) / now.images + max(0.0, 1 - float(b @ b)) / before.images
    # The difference of directions, not 1 - cosine, which loses the digits of small distances.
    difference = a / np.linalg.norm(a) - b / np.linalg.norm(b)
    return Distance(float(difference @ difference) / 2, variance / 2 / lengths)
