"""A fitted scikit-learn SVC as a torch module, built from the public attributes of the SVC.

The logit of a label is its smallest decision value against any other label: the margin by which it wins against its
strongest opponent. The one-vs-rest values of scikit-learn count the pairs that a label wins and jump by one where a
pair changes sides: rounding alone can change a score, and a temperature hardly helps.
"""

from enum import StrEnum
from itertools import combinations
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.svm import SVC
from torch import Tensor, nn

from training.models.classifiers import Gray
from training.models.hog import Hog, hog_width


class Features(StrEnum):
    """What the classifier sees of an image."""

    #: the gray level of each pixel
    PIXELS = "pixels"
    #: histograms of oriented gradients
    HOG = "hog"


class RawFeatures(nn.Module):
    """From pixels float32 [N, 3, size, size] of 0..255 to gray levels of 0..1 or HOG features, float32 [N, width]."""

    def __init__(self, kind: Features, size: int) -> None:
        super().__init__()
        self.gray = Gray()
        self.last = Hog(size) if kind is Features.HOG else nn.Flatten()
        self.width = hog_width(size) if kind is Features.HOG else size**2

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.last(self.gray(pixels) / 255.0)
        return features


class Extract(nn.Module):
    """From pixels to the principal components of their raw features, float32 [N, components]."""

    mean: Tensor
    axes: Tensor

    def __init__(self, kind: Features, size: int, components: int) -> None:
        super().__init__()
        self.kind, self.raw = kind, RawFeatures(kind, size)
        self.register_buffer("mean", torch.zeros(self.raw.width))
        self.register_buffer("axes", torch.zeros(self.raw.width, components))

    def fit(self, raw: NDArray[np.float32], seed: int) -> None:
        """Fit the components to raw features, [N, width]."""
        pca = PCA(self.axes.shape[1], random_state=seed).fit(raw)
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.axes.copy_(torch.from_numpy(pca.components_.T.copy()))

    def forward(self, pixels: Tensor) -> Tensor:
        components: Tensor = (self.raw(pixels) - self.mean) @ self.axes
        return components


class SupportVectors(nn.Module):
    """The support vectors of an SVC with an RBF kernel, and the features that they are compared in."""

    vectors: Tensor
    coefficients: Tensor
    intercepts: Tensor
    counts: Tensor

    def __init__(self, size: int, labels: int, *, features: str, components: int, vectors: int, gamma: float) -> None:
        super().__init__()
        self.extract = Extract(Features(features), size, components)
        self.gamma = gamma
        # float32 holds the vectors exactly because the features are float32; the rest is float64, as in scikit-learn.
        self.register_buffer("vectors", torch.zeros(vectors, components))
        self.register_buffer("coefficients", torch.zeros(labels - 1, vectors, dtype=torch.float64))
        self.register_buffer("intercepts", torch.zeros(labels * (labels - 1) // 2, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(labels, dtype=torch.int64))
        self.register_load_state_dict_post_hook(_check_counts)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @classmethod
    def of(cls, classifier: SVC, extract: Extract, size: int) -> Self:
        """Return the module of an SVC that was fitted to extracted features and the labels 0, 1, ..."""
        vectors, components = classifier.support_vectors_.shape
        network = cls(
            size,
            len(classifier.classes_),
            features=extract.kind,
            components=components,
            vectors=vectors,
            gamma=classifier.gamma,
        )
        network.extract = extract
        network.vectors.copy_(torch.from_numpy(classifier.support_vectors_))
        network.coefficients.copy_(torch.from_numpy(classifier.dual_coef_))
        network.intercepts.copy_(torch.from_numpy(classifier.intercept_))
        network.counts.copy_(torch.from_numpy(classifier.n_support_))
        return network.eval()

    @property
    def options(self) -> dict[str, Any]:
        """The arguments, besides size and labels, that build this network again."""
        vectors, components = self.vectors.shape
        return {
            "features": str(self.extract.kind),
            "components": components,
            "vectors": vectors,
            "gamma": self.gamma,
        }

    @property
    def sign(self) -> float:
        """The sign that turns scikit-learn's coefficients and intercepts into libsvm's.

        scikit-learn negates both for two labels, so that its decision is positive where the second label wins.
        """
        return -1.0 if len(self.counts) == 2 else 1.0

    def decisions(self, features: Tensor) -> Tensor:
        """Return the decision value of each pair of labels for float64 [N, components], float64 [N, pairs].

        The pairs are in libsvm's order: 0 against 1, 0 against 2, ..., positive if the first label wins.
        """
        distances = torch.cdist(features, self.vectors.double(), compute_mode="donot_use_mm_for_euclid_dist")
        kernel = torch.exp(-self.gamma * distances.square())
        return self.sign * (kernel @ self._pair_coefficients() + self.intercepts)

    def _pair_coefficients(self) -> Tensor:
        """Return the coefficient of each vector for each pair, float64 [vectors, pairs]; 0 if it is of neither label.

        The layout of `dual_coef_`: https://scikit-learn.org/stable/modules/svm.html#multi-class-classification
        """
        owner = torch.repeat_interleave(torch.arange(len(self.counts), device=self.counts.device), self.counts)
        columns = []
        for first, second in combinations(range(len(self.counts)), 2):
            against_second, against_first = self.coefficients[second - 1], self.coefficients[first]
            columns.append(against_second * (owner == first) + against_first * (owner == second))
        return torch.stack(columns, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 [N, labels]."""
        return least_margins(self.decisions(self.extract(pixels).double()), len(self.counts)).float()


def opponents(labels: int) -> NDArray[np.int64]:
    """Return the columns of each label's decisions against the others in [decisions, -decisions]: [labels, labels - 1].

    The decisions are in libsvm's order: label 0 against 1, 0 against 2, ..., positive if the first label wins.
    """
    pairs = list(combinations(range(labels), 2))
    columns: list[list[int]] = [[] for _ in range(labels)]
    for column, (first, second) in enumerate(pairs):
        columns[first].append(column)
        columns[second].append(column + len(pairs))
    return np.array(columns)


def least_margins(decisions: Tensor, labels: int) -> Tensor:
    """Return the smallest decision value of each label against any other one, [N, labels]."""
    both = torch.cat([decisions, -decisions], 1)
    return both[:, torch.from_numpy(opponents(labels))].amin(2)


def _check_counts(network: nn.Module, _: Any) -> None:
    """Raise ValueError if the vectors of the labels do not add up to all vectors."""
    assert isinstance(network, SupportVectors)
    if int(network.counts.sum()) != len(network.vectors) or int(network.counts.min()) < 0:
        raise ValueError("the support vectors of the labels do not add up")
