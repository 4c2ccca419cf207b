"""A label set: a vector for each category, and how near an embedding is to each."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import BundleError

#: the label of an image that no category is near
UNKNOWN = "unknown"
#: version of the bytes; a reader refuses any other
_LAYOUT = 1


@dataclass(frozen=True)
class Threshold:
    """From which distance on an image is `unknown`."""

    #: squared distance to the nearest category, in the space of the projection
    distance: float
    #: share of known images that are expected to be farther, up to 0.5
    rate: float

    def score(self, distances: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of `unknown` for squared distances [N]: 1 - rate at the threshold, 1 far beyond it."""
        return np.asarray(1 - self.rate * self.distance / np.maximum(distances, 1e-30), np.float32)


@dataclass(frozen=True)
class Labeled:
    """The best labels of N images, best first: `labels` int64 [N, K], `scores` float32 [N, K].

    A label is its number in `LabelSet.all_labels`. With fewer labels than places, the last place may be free: -1.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Categories in the space of a model's embedding.

    An embedding e becomes z = e P. Its logits are -|z - m_c|^2 / 2T for the vector m_c of each category; a softmax
    makes them scores. With P from the covariance within categories this is a linear discriminant analysis (Hastie,
    Tibshirani and Friedman, The Elements of Statistical Learning, section 4.3); without P, and with vectors of unit
    length, the logits are cosines over T, as in CLIP (Radford et al. 2021, arXiv 2103.00020).
    """

    #: of which it becomes a version
    name: str
    labels: tuple[str, ...]
    #: sha256 of the bundle whose embeddings it labels
    base: str
    #: float32 [labels, R]
    prototypes: NDArray[np.float32]
    #: float32 [D, R]; None: the embedding itself
    projection: NDArray[np.float32] | None = None
    temperature: float = 1.0
    #: None: no image is `unknown`
    unknown: Threshold | None = None
    #: how it was made: source, numbers of examples and of embeddings of the catalog, figures
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """The width of the embeddings that it labels."""
        return int((self.prototypes if self.projection is None else self.projection.T).shape[1])

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels that it gives, `unknown` last if it gives that one."""
        return self.labels if self.unknown is None else (*self.labels, UNKNOWN)

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared distances of embeddings [N, D] to the categories, float32 [N, labels]."""
        return squared_distances(vectors if self.projection is None else vectors @ self.projection, self.prototypes)

    def label(self, vectors: NDArray[np.float32], most: int) -> Labeled:
        """Return the best labels of embeddings [N, D], at most `most` of each; `unknown` comes first or not at all."""
        distances = self.distances(vectors)
        scores = softmax(-distances / (2 * self.temperature))
        count = min(most, len(self.labels))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        found = np.take_along_axis(scores, best, axis=1)
        if self.unknown is None:
            return Labeled(best, found)
        if count < most:
            best = np.pad(best, ((0, 0), (0, 1)), constant_values=-1)
            found = np.pad(found, ((0, 0), (0, 1)))
        nearest = distances.min(axis=1)
        far = nearest > self.unknown.distance
        score = self.unknown.score(nearest[far])[:, None]
        best[far] = np.concatenate([np.full_like(best[far, :1], len(self.labels)), best[far, :-1]], axis=1)
        found[far] = np.concatenate([score, found[far, :-1] * (1 - score)], axis=1)
        return Labeled(best, found)

    @cached_property
    def sha256(self) -> str:
        """Return the sha256 of its bytes as hex, which identifies it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return a line of JSON, and behind it the arrays as float32, least significant byte first."""
        header = {
            "tagmill_label_set": _LAYOUT,
            "name": self.name,
            "labels": self.labels,
            "base": self.base,
            "prototypes": self.prototypes.shape,
            "projection": None if self.projection is None else self.projection.shape,
            "temperature": self.temperature,
            "unknown": None if self.unknown is None else [self.unknown.distance, self.unknown.rate],
            "provenance": dict(self.provenance),
        }
        arrays = [self.prototypes] if self.projection is None else [self.prototypes, self.projection]
        parts = [array.astype("<f4").tobytes() for array in arrays]
        return b"".join([json.dumps(header, sort_keys=True).encode(), b"\n", *parts])

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Parse what `to_bytes` returned. Raise BundleError for another layout."""
        line, _, rest = content.partition(b"\n")
        try:
            header = json.loads(line)
            if header["tagmill_label_set"] != _LAYOUT:
                raise ValueError(f"layout {header['tagmill_label_set']}")
            rows, columns = header["prototypes"]
            numbers = np.frombuffer(rest, "<f4").astype(np.float32)
            projection = header["projection"] and numbers[rows * columns :].reshape(header["projection"])
            unknown = header["unknown"] and Threshold(*header["unknown"])
            return cls(
                header["name"],
                tuple(header["labels"]),
                header["base"],
                numbers[: rows * columns].reshape(rows, columns),
                projection,
                float(header["temperature"]),
                unknown,
                header["provenance"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"a label set is not understood ({error}); upgrade Tagmill on this machine") from error


def squared_distances(points: NDArray[np.float32], prototypes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return |z - m|^2 for points [N, R] and prototypes [labels, R], float32 [N, labels]."""
    # |z|^2 - 2 z m + |m|^2, of which rounding may leave less than nothing
    lengths = np.einsum("nr,nr->n", points, points)[:, None] + np.einsum("cr,cr->c", prototypes, prototypes)
    return np.asarray(np.maximum(lengths - 2 * (points @ prototypes.T), 0), np.float32)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
