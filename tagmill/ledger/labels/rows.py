"""The rows of `result` that a label set gives for embeddings."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, select

from tagmill.db.any_of import any_of
from tagmill.db.bulk import insert_new_returning, insert_rows
from tagmill.db.connection import database_time
from tagmill.db.names import ids_of
from tagmill.db.schema import LABELS, label_name, provider, result
from tagmill.db.schema import worker as worker_name
from tagmill.registry.label_sets import RegisteredLabelSet

#: what ran the inference, as the column `provider_id` names it
PROVIDER = "labelset"

_SAME = ("model_id", "created_at", "provider_id", "worker_id")
_EACH = (
    *("image_id", "batch_id"),
    *(f"label_{rank}" for rank in range(1, LABELS + 1)),
    *(f"score_{rank}" for rank in range(1, LABELS + 1)),
)
_RESULTS = select(result.c.image_id, result.c.model_id, result.c.batch_id).where(
    any_of(result.c.image_id, "images"), any_of(result.c.model_id, "models")
)


@dataclass(frozen=True)
class Answers:
    """Rows of `result`, and the images of those that are `unknown`."""

    rows: list[tuple[Any, ...]]
    unknown: frozenset[int]


@dataclass(frozen=True)
class Written:
    """How many rows were written, and how many of them are `unknown`."""

    labeled: int
    unknown: int


class ResultWriter:
    """Writes what a label set says of images. `writer` names this process, HOST:PID."""

    def __init__(self, engine: Engine, found: RegisteredLabelSet, writer: str) -> None:
        self._found = found
        names = ids_of(engine, label_name)
        #: the number of each label in SQL; the last one is that of a free place
        self._labels = np.array([*(names[label] for label in found.content.all_labels), None], object)
        self._same = (
            *(found.model.id, database_time(engine)),
            *(ids_of(engine, provider)[PROVIDER], ids_of(engine, worker_name)[writer]),
        )

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows."""
        return (*_EACH, *_SAME)

    def missing(self, connection: Connection, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[int, int]]:
        """Return the images without a result of the label set, and the batch of the embedding of each image."""
        mine, base = self._found.model.id, self._found.base_id
        done, batches = [], {}
        for row in connection.execute(_RESULTS, {"images": ids.tolist(), "models": [mine, base]}):
            if row.model_id == mine:
                done.append(row.image_id)
            else:
                batches[row.image_id] = row.batch_id
        return np.setdiff1d(ids, np.array(done, np.int64), assume_unique=True), batches

    def answers(self, images: NDArray[np.int64], vectors: NDArray[np.float32], batches: dict[int, int]) -> Answers:
        """Return the rows for embeddings float32 [N, D] of images int64 [N]."""
        if not len(images):
            return Answers([], frozenset())
        found = self._found.content.label(vectors, LABELS)
        labels, scores = self._labels[found.labels], found.scores.tolist()
        for number in np.flatnonzero(found.labels[:, -1] < 0):
            scores[number][-1] = None
        empty = (None,) * (LABELS - labels.shape[1])
        rows = [
            (image, batches.get(image, 0), *names, *empty, *values, *empty, *self._same)
            for image, names, values in zip(images.tolist(), labels.tolist(), scores, strict=True)
        ]
        unknown = images[found.labels[:, 0] == len(self._found.content.labels)]
        return Answers(rows, frozenset(unknown.tolist()))

    def write_new(self, connection: Connection, answers: Answers) -> Written:
        """Write rows that are certainly new. Raise IntegrityError if one is not."""
        insert_rows(connection, result, self.columns, answers.rows)
        return Written(len(answers.rows), len(answers.unknown))

    def write_missing(self, connection: Connection, answers: Answers) -> Written:
        """Write those rows that are not there yet."""
        new = insert_new_returning(connection, result, self.columns, answers.rows, ("image_id",))
        return Written(len(new), sum(image in answers.unknown for (image,) in new))
