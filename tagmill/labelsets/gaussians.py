"""Categories as Gaussians of one covariance, from a few examples and unlabeled embeddings of the catalog.

A few examples say little about how images of a category differ among each other. The catalog does: its embeddings are
given to the categories in proportion to their likelihood, and then count in means and covariance (the
expectation-maximization of Nigam et al. 2000, Text Classification from Labeled and Unlabeled Documents using EM, which
also weighs what has no label less; prototypes refined in this way: Ren et al. 2018, Meta-Learning for Semi-Supervised
Few-Shot Classification, arXiv 1803.00676). The covariance is shrunk toward a sphere (Friedman 1989, Regularized
Discriminant Analysis).

The constants were chosen on validation images of clothing photos; see docs/label-sets.md.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tagmill.labelsets.label_set import softmax

#: examples that the catalog's part in the mean of a category weighs as much as
CATALOG_WEIGHT = 1.0
#: examples whose covariance weighs as much as that of the catalog
COVARIANCE_EXAMPLES = 200
#: share of a sphere in the covariance, with embeddings of the catalog and without
SPHERE, SPHERE_ALONE = 0.5, 0.8
#: rounds of expectation-maximization
ROUNDS = 3
#: temperature of the cosines by which the catalog is first divided among the categories
_FIRST_TEMPERATURE = 0.07

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Embeddings of examples, float32 [N, D], with the number of the category of each, int64 [N]."""

    vectors: NDArray[np.float32]
    targets: NDArray[np.int64]

    def at(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return some of the examples."""
        return Examples(self.vectors[chosen], self.targets[chosen])

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of examples of each category, int64 [labels]."""
        return np.bincount(self.targets)


@dataclass(frozen=True)
class Gaussians:
    """Gaussians of one covariance: `means` float64 [labels, D], `covariance` float64 [D, D]."""

    means: Floats
    covariance: Floats

    @cached_property
    def projection(self) -> NDArray[np.float32]:
        """Return float32 [D, D], after which the covariance is the identity."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray(vectors / np.sqrt(values), np.float32)

    @property
    def prototypes(self) -> NDArray[np.float32]:
        """Return the means after the projection, float32 [labels, D]."""
        return (self.means @ self.projection).astype(np.float32)


def fit_gaussians(examples: Examples, catalog: NDArray[np.float32]) -> Gaussians:
    """Return the Gaussians of the categories; `catalog`, float32 [M, D], may be empty. Each category has an example."""
    points, targets = examples.vectors.astype(np.float64), examples.targets
    counts = examples.counts[:, None].astype(np.float64)
    sums = np.stack([points[targets == number].sum(axis=0) for number in range(len(counts))])
    means = sums / counts
    if not len(catalog):
        several = bool((counts > 1).any())
        return Gaussians(means, _shrunk(_spread(points - means[targets] if several else points), SPHERE_ALONE))
    whole = catalog.astype(np.float64)
    share = len(points) / (len(points) + COVARIANCE_EXAMPLES)
    logits = _cosines(whole, means) / _FIRST_TEMPERATURE
    for _ in range(ROUNDS):
        shares = softmax(logits)
        mass = np.maximum(shares.sum(axis=0), 1e-9)[:, None]
        centers = shares.T @ whole / mass
        means = (sums + CATALOG_WEIGHT * centers) / (counts + CATALOG_WEIGHT)
        of_catalog = _soft_spread(whole, means, centers, mass)
        covariance = _shrunk(share * _spread(points - means[targets]) + (1 - share) * of_catalog, SPHERE)
        weights = np.linalg.solve(covariance, means.T)
        logits = whole @ weights - (means.T * weights).sum(axis=0) / 2
    return Gaussians(means, covariance)


def _cosines(points: Floats, means: Floats) -> Floats:
    """Return the cosines [N, labels] around the center of the points."""
    center = points.mean(axis=0)
    one, other = points - center, means - center
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return np.asarray(one @ other.T / np.maximum(lengths, 1e-12))


def _spread(differences: Floats) -> Floats:
    """Return the covariance of differences from means, [N, D]."""
    return np.asarray(differences.T @ differences / len(differences))


def _soft_spread(points: Floats, means: Floats, centers: Floats, mass: Floats) -> Floats:
    """Return the covariance of points around the means, each in proportion to its share in a category.

    `centers` are the means of the points of each category, and `mass`, [labels, 1], the sums of their shares.
    """
    crossed = (means * mass).T @ centers
    return np.asarray((points.T @ points - crossed - crossed.T + (means * mass).T @ means) / len(points))


def _shrunk(covariance: Floats, sphere: float) -> Floats:
    """Return the covariance with the share of a sphere of the same trace."""
    size = len(covariance)
    radius = max(float(np.trace(covariance)) / size, 1e-6)
    return (1 - sphere) * covariance + sphere * radius * np.eye(size)
