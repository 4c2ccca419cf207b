"""Daft with decoding and inference in one class UDF, its fastest setup for this job.

https://docs.daft.ai/en/stable/custom-code/cls/
"""

import time
from typing import Any

import daft
import numpy as np
from daft import DataType, Series, col

from benchmarks.peers.plain import best, input_side, new_session, read_area
from benchmarks.support.job import Job, Timed, main


class Tagger:
    """A class UDF that decodes and infers."""

    def __init__(self, bundle: str) -> None:
        self._session = new_session(bundle)
        self._side = input_side(self._session)

    @daft.method.batch(return_dtype=DataType.list(DataType.int64()), batch_size=32)
    def labels(self, files: Series) -> list[Any]:
        """Tag a batch of paths."""
        images = np.stack([read_area(file, self._side) for file in files.to_pylist()])
        return best(self._session, images).tolist()


def measure(job: Job) -> Timed:
    """Time the whole pipeline, including the start of its processes but not the import of Daft."""
    daft.set_runner_native()
    started = time.perf_counter()
    tagger = daft.cls(Tagger, max_concurrency=job.threads, use_process=True)(job.bundles[0])
    frame = daft.from_pydict({"file": job.files}).into_batches(64)
    tagged = frame.select(col("file"), tagger.labels(col("file")).alias("labels"))
    images = sum(len(part) for part in tagged.iter_partitions())
    return Timed(images, time.perf_counter() - started)


if __name__ == "__main__":
    main(measure)
