"""Measure what the embedding costs in the pass that tags.

`PYTHONPATH=tests python -m benchmarks.search.embedding --images 2000 --rounds 5` exports one network
(MobileNetV3-Small, random weights) with and without `--embedding 256`, and tags the same images with both in turns,
each time from the file to the last row in SQL: with a worker on Redis and PostgreSQL with pgvector, and in one process
on SQLite. A ratio is the images/s with the embedding over those without it, of one round. Beside other work, the CPU
time that the worker counts for its batches says more: decoding, inference and its side of SQL, without the servers.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from support.services import find_pgvector

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.comparing import spread, turns
from benchmarks.support.contenders import Contender, Script, Tagmill
from benchmarks.support.job import Job, Timed
from benchmarks.support.machine import CORES, machine, tell

WITH, WITHOUT = "with embedding", "without"
WIDTH = 256
HEAD = """
| database | images/s, with over without | images for a second of CPU, with over without |
|---|---|---|
""".strip()


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


def measure(database: str, job: Job, bundles: dict[str, str], rounds: int) -> tuple[list[float], list[float]]:
    """Return, for each round, the ratio of images/s, and the ratio of images per second of CPU."""
    both = contenders(database, bundles)
    found: dict[str, list[Timed]] = {WITH: [], WITHOUT: []}
    with both[0], both[1]:
        for number, contender in turns(both, rounds):
            timed = contender.measure(job)
            found[contender.name].append(timed)
            rate, cpu = timed.images / timed.seconds, 1000 * timed.cpu_seconds / timed.images
            tell(f"{database}, round {number + 1}/{rounds}: {contender.name} {rate:.0f} images/s, {cpu:.2f} ms of CPU")
    pairs = list(zip(found[WITH], found[WITHOUT], strict=True))
    return [b.seconds / a.seconds for a, b in pairs], [b.cpu_seconds / a.cpu_seconds for a, b in pairs]


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
    print(HEAD, flush=True)
    for database in options.database:
        rates, cpu = measure(database, Job(images, [], CORES), bundles, options.rounds)
        print(f"| {database} | {spread(rates)} | {spread(cpu)} |", flush=True)


if __name__ == "__main__":
    main()
