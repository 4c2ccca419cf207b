"""Measure how fast a worker tags images in an object store, against the same images on the disk.

`PYTHONPATH=tests python -m benchmarks.worker.stores --images 2000 --latency 0.05` starts moto's S3 server, which
answers each request `--latency` seconds later. The server has a core of its own: the worker has the others, in both
cases.
"""

import argparse
import os
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from support.s3_server import S3Server

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.comparing import compare, table
from benchmarks.support.contenders import Tagmill
from benchmarks.support.job import Job, Timed
from benchmarks.support.machine import machine, tell

BUCKET = "shop"


class InStore(Tagmill):
    """A worker whose images are objects with the names of the files."""

    def measure(self, job: Job) -> Timed:
        """Tag the objects in place of the files."""
        return super().measure(replace(job, files=[f"s3://{BUCKET}/{Path(file).name}" for file in job.files]))


@contextmanager
def on_cores(cores: Set[int]) -> Iterator[None]:
    """Have the processes that the block starts run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images and bundles")
    options = parser.parse_args()
    print(machine(), flush=True)
    photos = write_set("photos", options.work, options.images)
    bundle = str(make_bundle("mobilenet", options.work / "bundles", photos[0].parent).resolve())
    *workers, server_core = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        server = S3Server(options.latency)
        with on_cores({server_core}):
            stack.enter_context(server)
        server.put(BUCKET, {photo.name: photo.read_bytes() for photo in photos})
        os.environ.update(server.environment)
        with on_cores({*workers} or {server_core}):
            contenders = [
                stack.enter_context(InStore("S3", [bundle], allowed_locations=f"s3://{BUCKET}/")),
                stack.enter_context(Tagmill("disk", [bundle])),
            ]
        job = Job([str(photo.resolve()) for photo in photos], [bundle], len(workers))
        title = f"MobileNetV3-small, {len(photos)} JPEGs of 800x800, {1000 * options.latency:.0f} ms for each request"
        done = compare(title, contenders, job, options.images // 4, options.rounds, tell)
    print(table(done, "disk"))


if __name__ == "__main__":
    main()
