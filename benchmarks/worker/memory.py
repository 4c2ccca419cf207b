"""Measure whether the memory of a worker grows with the length of the run.

`PYTHONPATH=tests python -m benchmarks.worker.memory --images 100000` tags different images of 32x32 on Redis and
PostgreSQL. It prints the median resident size of the worker process in each quarter of the run.
"""

import argparse
import os
import statistics
import threading
from pathlib import Path

from support.processes import children

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.contenders import Tagmill
from benchmarks.support.job import Job
from benchmarks.support.machine import machine

LOOK_SECONDS = 0.2
MEGABYTE = 2**20


class Looker(threading.Thread):
    """A thread that samples the resident size of a process until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._file = Path(f"/proc/{pid}/statm")
        self._stopped = threading.Event()
        self.megabytes: list[float] = []

    def run(self) -> None:
        """Sample until `stop` is called."""
        while not self._stopped.wait(LOOK_SECONDS):
            pages = int(self._file.read_text().split()[1])
            self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE)

    def stop(self) -> list[float]:
        """Stop sampling and return the median of each quarter, in MB."""
        self._stopped.set()
        self.join()
        size = len(self.megabytes) // 4
        return [statistics.median(self.megabytes[quarter * size : (quarter + 1) * size]) for quarter in range(4)]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--model", choices=["simple-cnn", "mobilenet"], default="simple-cnn")
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images and bundles")
    options = parser.parse_args()
    print(machine(), flush=True)
    images = [str(path.resolve()) for path in write_set("small", options.work, options.images)]
    bundle = str(make_bundle(options.model, options.work / "bundles", Path(images[0]).parent).resolve())
    with Tagmill("tagmill", [bundle]) as tagmill:
        tagmill.measure(Job(images[:256], [bundle], 1))
        looker = Looker(children(tagmill.worker.process.pid)[0])
        looker.start()
        timed = tagmill.measure(Job(images, [bundle], 1))
        quarters = looker.stop()
    print("| images | images/s | MB in the first quarter | second | third | last | last / first |")
    print("|---|---|---|---|---|---|---|")
    cells = " | ".join(f"{megabytes:.0f}" for megabytes in quarters)
    print(f"| {timed.images:,} | {timed.images / timed.seconds:.0f} | {cells} | {quarters[3] / quarters[0]:.3f} |")


if __name__ == "__main__":
    main()
