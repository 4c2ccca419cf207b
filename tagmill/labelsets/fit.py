"""Make a label set of examples, or of vectors that were made elsewhere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmill.labelsets.gaussians import Examples, fit_gaussians
from tagmill.labelsets.held_out import DEFAULT_TEMPERATURE, hold_out
from tagmill.labelsets.label_set import LabelSet, Threshold, squared_distances

#: 1 over the factor that CLIP scales cosines with before its softmax
CLIP_TEMPERATURE = 0.01
#: least embeddings of the catalog that a threshold is fitted on
LEAST_CATALOG = 100


def fit_examples(
    name: str,
    labels: tuple[str, ...],
    base: str,
    examples: Examples,
    catalog: NDArray[np.float32],
    unknown_rate: float,
    provenance: Mapping[str, Any],
) -> LabelSet:
    """Return the label set of examples; each label has one at least.

    `catalog`, float32 [M, D], are embeddings of images without labels, and `unknown_rate`, 0 to 0.5, is the share of
    known images that may be `unknown`. There is no threshold if no category has two examples.
    """
    fitted = fit_gaussians(examples, catalog)
    held_out = hold_out(examples, catalog)
    counts = examples.counts
    found = {
        "examples": {"count": int(counts.sum()), "least": int(counts.min()), "most": int(counts.max())},
        "catalog_embeddings": len(catalog),
        "held_out": {"count": len(held_out), "accuracy": held_out.accuracy if len(held_out) else None},
    }
    return LabelSet(
        name,
        labels,
        base,
        fitted.prototypes,
        fitted.projection,
        held_out.temperature() if len(held_out) else DEFAULT_TEMPERATURE,
        held_out.threshold(unknown_rate) if len(held_out) and unknown_rate else None,
        {**provenance, **found},
    )


def use_vectors(
    name: str,
    labels: tuple[str, ...],
    base: str,
    vectors: NDArray[np.float32],
    catalog: NDArray[np.float32],
    unknown_rate: float,
    temperature: float,
    provenance: Mapping[str, Any],
) -> LabelSet:
    """Return the label set of one vector a label, float32 [labels, D], which is compared by its cosine.

    Nothing is known to belong to a label, so the threshold is the distance that a share `unknown_rate` of the catalog
    is beyond. There is none for a catalog of fewer than `LEAST_CATALOG` embeddings.
    """
    prototypes = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    threshold = None
    if unknown_rate and len(catalog) >= LEAST_CATALOG:
        nearest = squared_distances(catalog, prototypes).min(axis=1)
        threshold = Threshold(float(np.quantile(nearest, 1 - unknown_rate, method="higher")), unknown_rate)
    about = {**provenance, "catalog_embeddings": len(catalog)}
    return LabelSet(name, labels, base, prototypes, None, temperature, threshold, about)
