"""A fitted scikit-learn SVC as a network: features in torch, decisions by scikit-learn, a logit for each label.

The logit of a label is the least of its decision values against every other label, which is how clearly it wins against
its strongest opponent. scikit-learn's own one-vs-rest values count the pairs that a label wins and jump by one wherever
a pair changes sides, so that rounding alone can change a score, and a temperature hardly helps.
"""

import os
from concurrent.futures import ThreadPoolExecutor
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
    """What of an image the classifier sees."""

    #: the gray level of each pixel
    PIXELS = "pixels"
    #: histograms of oriented gradients
    HOG = "hog"


class Raw(nn.Module):
    """From pixels float32 [N, 3, size, size] of 0..255 to gray levels of 0..1 or HOG features, float32 [N, width]."""

    def __init__(self, kind: Features, size: int) -> None:
        super().__init__()
        self.gray = Gray()
        self.last = Hog(size) if kind is Features.HOG else nn.Flatten()
        self.width = hog_width(size) if kind is Features.HOG else size**2

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.last(self.gray(pixels) / 255.0)
        return found


class Extract(nn.Module):
    """From pixels to the principal components of their raw features, float32 [N, components]."""

    mean: Tensor
    axes: Tensor

    def __init__(self, kind: Features, size: int, components: int) -> None:
        super().__init__()
        self.kind, self.raw = kind, Raw(kind, size)
        self.register_buffer("mean", torch.zeros(self.raw.width))
        self.register_buffer("axes", torch.zeros(self.raw.width, components))

    def fit(self, raw: NDArray[np.float32], seed: int) -> None:
        """Find the components of raw features, [N, width]."""
        found = PCA(self.axes.shape[1], random_state=seed).fit(raw)
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.axes.copy_(torch.from_numpy(found.components_.T.copy()))

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = (self.raw(pixels) - self.mean) @ self.axes
        return found


class SupportVectors(nn.Module):
    """What an SVC with a Gaussian kernel has learned, and the features it takes."""

    vectors: Tensor
    coefficients: Tensor
    intercepts: Tensor
    counts: Tensor

    def __init__(self, size: int, labels: int, *, features: str, components: int, vectors: int, gamma: float) -> None:
        super().__init__()
        self.extract = Extract(Features(features), size, components)
        self.gamma = gamma
        # float32 holds the vectors exactly, because the features are float32; the rest is as scikit-learn has it.
        self.register_buffer("vectors", torch.zeros(vectors, components))
        self.register_buffer("coefficients", torch.zeros(labels - 1, vectors, dtype=torch.float64))
        self.register_buffer("intercepts", torch.zeros(labels * (labels - 1) // 2, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(labels, dtype=torch.int64))
        self.register_load_state_dict_post_hook(_check_counts)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @classmethod
    def of(cls, classifier: SVC, extract: Extract, size: int) -> Self:
        """Take over what a classifier of labels 0, 1, ... has learned of extracted features."""
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
        """What builds this network again, besides size and labels."""
        vectors, components = self.vectors.shape
        return {
            "features": str(self.extract.kind),
            "components": components,
            "vectors": vectors,
            "gamma": self.gamma,
        }

    def classifier(self) -> SVC:
        """Return the SVC again, as its `fit` left it."""
        svc = SVC(gamma=self.gamma, decision_function_shape="ovo")
        sign = -1.0 if len(self.counts) == 2 else 1.0  # of two labels scikit-learn shows the second's side
        vectors, coefficients = self.vectors.double().numpy(), self.coefficients.numpy()
        vars(svc).update({
            "classes_": np.arange(len(self.counts)),
            "support_": np.arange(len(vectors), dtype=np.int32),
            "support_vectors_": vectors,
            "dual_coef_": coefficients,
            "intercept_": self.intercepts.numpy(),
            "_n_support": self.counts.numpy().astype(np.int32),
            "_dual_coef_": sign * coefficients,
            "_intercept_": sign * self.intercepts.numpy(),
            "_probA": np.empty(0),
            "_probB": np.empty(0),
            "_gamma": self.gamma,
            "_sparse": False,
            "fit_status_": 0,
            "shape_fit_": vectors.shape,
            "n_features_in_": vectors.shape[1],
        })  # fmt: skip
        return svc

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32 [N, labels]. Runs on the CPU."""
        features: NDArray[np.float64] = self.extract(pixels).double().numpy()
        decide = self.classifier().decision_function
        with ThreadPoolExecutor() as pool:  # libsvm itself uses one core
            parts = np.array_split(features, min(os.cpu_count() or 1, len(features)))
            decisions = np.concatenate(list(pool.map(decide, parts)))
        if decisions.ndim == 1:
            decisions = -decisions[:, None]
        return least_margins(torch.from_numpy(decisions), len(self.counts)).float()


def opponents(labels: int) -> NDArray[np.int64]:
    """Return where each label's decisions against the others stand in [decisions, -decisions]: [labels, labels - 1].

    The decisions are in the order of libsvm: label 0 against 1, 0 against 2, ..., positive where the first one wins.
    """
    pairs = list(combinations(range(labels), 2))
    places = [[] for _ in range(labels)]  # type: list[list[int]]
    for place, (first, second) in enumerate(pairs):
        places[first].append(place)
        places[second].append(place + len(pairs))
    return np.array(places)


def least_margins(decisions: Tensor, labels: int) -> Tensor:
    """Return for each label the least decision value against another one, [N, labels]."""
    both = torch.cat([decisions, -decisions], 1)
    return both[:, torch.from_numpy(opponents(labels))].amin(2)


def _check_counts(network: nn.Module, _: Any) -> None:
    """Raise ValueError where the vectors of the labels are not all: libsvm would read past their end."""
    assert isinstance(network, SupportVectors)
    if int(network.counts.sum()) != len(network.vectors) or int(network.counts.min()) < 0:
        raise ValueError("the support vectors of the labels do not add up")
