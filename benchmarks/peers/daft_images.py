"""Daft as its guide to images shows: download, decode and resize as expressions, then a class UDF that infers.

https://docs.daft.ai/en/stable/modalities/images/
"""

import time
from typing import Any

import daft
import numpy as np
from daft import DataType, Series, col
from daft.functions import decode_image, download, resize

from benchmarks.peers.plain import best, input_side, new_session
from benchmarks.support.job import Job, Timed, main


class Tagger:
    """A class UDF that infers."""

    def __init__(self, bundle: str) -> None:
        self._session = new_session(bundle)

    @daft.method.batch(return_dtype=DataType.list(DataType.int64()), batch_size=32)
    def labels(self, images: Series) -> list[Any]:
        """Tag a batch of images."""
        return best(self._session, np.stack(images.to_pylist())).tolist()


def measure(job: Job) -> Timed:
    """Time the whole pipeline, including the start of its UDF but not the import of Daft."""
    daft.set_runner_native()
    side = input_side(new_session(job.bundles[0]))
    started = time.perf_counter()
    tagger = daft.cls(Tagger)(job.bundles[0])
    frame = daft.from_pydict({"file": job.files})
    frame = frame.with_column("image", resize(decode_image(download(col("file")), mode="RGB"), w=side, h=side))
    tagged = frame.select(col("file"), tagger.labels(col("image")).alias("labels"))
    images = sum(len(part) for part in tagged.iter_partitions())
    return Timed(images, time.perf_counter() - started)


if __name__ == "__main__":
    main(measure)
