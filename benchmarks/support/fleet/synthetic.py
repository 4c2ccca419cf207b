"""Hashes and results of images that do not exist."""

import hashlib
import math
import random
from collections.abc import Collection, Sequence

import numpy as np

from benchmarks.database.sql import run_lengths
from tagmill.ledger.batches.leases import Claim
from tagmill.records import BatchResult, ImageRow, InferenceRow, Mask, Outcome, SeenFile

LABELS, VOCABULARY = 5, 60
#: different sets of labels and of masks, made before the first batch
POOL = 512


class SyntheticResults:
    """Hashes and results that depend on the URI of an image alone, so that a second run finds them."""

    def __init__(self, model: str, masks: int) -> None:
        self._model = model
        chance = random.Random(0)
        self._labels = [_labels(chance) for _ in range(POOL)]
        self._masks = [_masks(chance, masks) for _ in range(POOL)]

    def hashes(self, claimed: Claim) -> tuple[list[str], list[str]]:
        """Return the identities and the sha256 of the images of a batch."""
        return [found[:32] for found in _hashes("file", claimed)], _hashes("bytes", claimed)

    def result(
        self, claimed: Claim, identities: Sequence[str], shas: Sequence[str], known: Collection[str]
    ) -> BatchResult:
        """Return what the batch writes; of images whose sha256 is in `known` it writes only the outcomes."""
        outcomes = [Outcome(image.position, sha256) for image, sha256 in zip(claimed.images, shas, strict=True)]
        new = [(identity, sha256) for identity, sha256 in zip(identities, shas, strict=True) if sha256 not in known]
        return BatchResult(
            outcomes,
            [ImageRow(sha256, 800, 600, "JPEG", 88_000) for _, sha256 in new],
            [self._inference(sha256) for _, sha256 in new],
            [SeenFile(identity, sha256) for identity, sha256 in new],
        )

    def _inference(self, sha256: str) -> InferenceRow:
        place = int(sha256[:8], 16) % POOL
        return InferenceRow(sha256, self._model, "CPUExecutionProvider", self._labels[place], self._masks[place])


def _labels(chance: random.Random) -> tuple[tuple[str, float], ...]:
    """Return the best labels of a softmax, as a classifier gives them: in float32, the best first."""
    powers = [math.exp(chance.gauss(0, 2.5)) for _ in range(VOCABULARY)]
    whole = sum(powers)
    best = sorted(((power / whole, place) for place, power in enumerate(powers)), reverse=True)[:LABELS]
    return tuple((f"category {place}", _float32(score)) for score, place in best)


def _float32(number: float) -> float:
    return float(np.float32(number))


def _masks(chance: random.Random, masks: int) -> tuple[Mask, ...]:
    """Return drawn masks of different labels."""
    places = chance.sample(range(VOCABULARY), masks)
    return tuple(
        Mask(
            f"category {place}",
            chance.choice(run_lengths()),
            256,
            256,
            0.25,
            (1.0, 2.0, 3.0, 4.0),
            _float32(0.5 + chance.random() / 2),
        )
        for place in places
    )


def _hashes(of: str, claimed: Claim) -> list[str]:
    return [hashlib.sha256(f"{of} {image.uri}".encode()).hexdigest() for image in claimed.images]
