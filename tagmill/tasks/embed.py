"""`embed`: where an image lies among others, and no labels: the image tower of a CLIP-like model, for example."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.records import Mask
from tagmill.tasks.base import EMBEDDING, Described, Headline, Labels, Prediction, Task


class Embed(Task):
    """An embedding per image."""

    name = "embed"
    summary = "gives an embedding of an image"
    outputs = (EMBEDDING,)
    least_labels = most_labels = 0
    headline = "none"
    label_figure = "none"

    def prediction(self, outputs: Mapping[str, NDArray[Any]]) -> Prediction:
        vectors = outputs[EMBEDDING]
        return Prediction(np.zeros((len(vectors), 0), np.float32), embedding=vectors)

    def wanted_outputs(self, top_k: int) -> list[str]:
        return []  # a session adds the embedding

    def rows(
        self, bundle: Described, prediction: Prediction, number: int, width: int, height: int
    ) -> tuple[Labels, tuple[Mask, ...]]:
        return (), ()

    def main_labels(self, prediction: Prediction) -> NDArray[np.int64]:
        return np.zeros(len(prediction.scores), np.int64)

    def difference(self, expected: Prediction, found: Prediction) -> tuple[float, str]:
        return 0.0, "in a score"  # the embeddings are compared for every task

    def columns(self, model: str) -> tuple[str, ...]:
        return ()

    def values(self, labels: Sequence[tuple[str, float]], masks: Sequence[Any]) -> tuple[str, ...]:
        return ()

    def tally(self, labels: Sequence[str]) -> NoReturn:
        raise InputError("this bundle gives embeddings and no labels: there is nothing to measure")

    def headlines(
        self, measured: Mapping[str, Any], labels: int, shown: str, ece_before: float | None
    ) -> list[Headline]:
        return []


TASK = EMBED = Embed()
