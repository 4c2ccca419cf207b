"""Ray Data with decoding and inference in one actor pool, its fastest setup for this job.

https://docs.ray.io/en/latest/data/batch_inference.html
"""

import time
from typing import Any

import numpy as np
import ray

from benchmarks.peers.plain import best, input_side, new_session, read_area
from benchmarks.support.job import Job, Timed, main


class Tagger:
    """An actor that decodes and infers."""

    def __init__(self, bundle: str) -> None:
        self._session = new_session(bundle)
        self._side = input_side(self._session)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Tag a batch of paths."""
        images = np.stack([read_area(str(file), self._side) for file in batch["item"]])
        return {"uri": batch["item"], "labels": best(self._session, images)}


def measure(job: Job) -> Timed:
    """Time the whole pipeline, including the start of its actors but not that of Ray."""
    ray.init(num_cpus=job.threads, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    tagged = ray.data.from_items(job.files, override_num_blocks=max(2, len(job.files) // 64)).map_batches(
        Tagger, fn_constructor_args=(job.bundles[0],), batch_size=32, num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=job.threads),
    )  # fmt: skip
    images = sum(len(batch["uri"]) for batch in tagged.iter_batches(batch_size=256))
    return Timed(images, time.perf_counter() - started)


if __name__ == "__main__":
    main(measure)
