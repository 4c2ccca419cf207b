"""Ray Data as its guide to batch inference on images shows: read_images, then an actor pool.

https://docs.ray.io/en/latest/data/working-with-images.html
"""

import time
from typing import Any

import ray

from benchmarks.peers.plain import best, input_side, new_session
from benchmarks.support.job import Job, Timed, main


class Tagger:
    """An actor that infers."""

    def __init__(self, bundle: str) -> None:
        self._session = new_session(bundle)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Tag a batch of images."""
        return {"labels": best(self._session, batch["image"])}


def measure(job: Job) -> Timed:
    """Time the whole pipeline, including the start of its actors but not that of Ray."""
    ray.init(num_cpus=job.threads, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    side = input_side(new_session(job.bundles[0]))
    started = time.perf_counter()
    tagged = ray.data.read_images(job.files, size=(side, side), mode="RGB").map_batches(
        Tagger, fn_constructor_args=(job.bundles[0],), batch_size=32, num_cpus=1, concurrency=1
    )
    images = sum(len(batch["labels"]) for batch in tagged.iter_batches(batch_size=256))
    return Timed(images, time.perf_counter() - started)


if __name__ == "__main__":
    main(measure)
