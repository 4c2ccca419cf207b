"""Measure what the embedding costs in the pass that tags.

`PYTHONPATH=tests python -m benchmarks.embedding --images 2000 --rounds 5` exports one network (MobileNetV3-Small,
random weights) with and without `--embedding 256`, and tags the same images with both in turns, each time from the
file to the last row in SQL: with a worker on Redis and PostgreSQL with pgvector, and in one process on SQLite. A ratio
is the images/s with the embedding over those without it, of one round.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from support.services import find_pgvector

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.comparing import compare, spread
from benchmarks.support.contenders import Contender, Script, Tagmill
from benchmarks.support.job import Job, Timed
from benchmarks.support.machine import CORES, machine, tell

WITH, WITHOUT = "with embedding", "without"
WIDTH = 256


class Local(Script):
    """`tagmill tag` with a bundle of its own."""

    def __init__(self, name: str, bundle: str) -> None:
        super().__init__(name, "support.embedded")
        self._bundle = bundle

    def measure(self, job: Job) -> Timed:
        """Tag the images of the job with the bundle of this contender."""
        return super().measure(replace(job, bundles=[self._bundle]))


def contenders(database: str, bundles: dict[str, str]) -> list[Contender]:
    """Return what takes turns on a database."""
    if database == "SQLite":
        return [Local(name, bundle) for name, bundle in bundles.items()]
    return [Tagmill(name, [bundle], postgres=find_pgvector()) for name, bundle in bundles.items()]


def measure(database: str, job: Job, bundles: dict[str, str], rounds: int) -> Sequence[float]:
    """Return the ratio of the steady rates of each round."""
    both = contenders(database, bundles)
    with both[0], both[1]:
        found = compare(database, both, job, len(job.files) // 4, rounds, tell)
    return found.ratios(WITH, WITHOUT)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--database", choices=("PostgreSQL", "SQLite"), nargs="+", default=["PostgreSQL", "SQLite"])
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images and bundles")
    options = parser.parse_args()
    print(machine(), flush=True)
    images = [str(path.resolve()) for path in write_set("photos", options.work, options.images)]
    samples, folder = Path(images[0]).parent, options.work / "bundles"
    bundles = {
        WITH: str(make_bundle(options.model, folder / "embedding", samples, WIDTH).resolve()),
        WITHOUT: str(make_bundle(options.model, folder, samples).resolve()),
    }
    print("| database | images/s with the embedding over those without |\n|---|---|", flush=True)
    for database in options.database:
        ratios = measure(database, Job(images, [], CORES), bundles, options.rounds)
        print(f"| {database} | {spread(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
