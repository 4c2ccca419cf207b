"""Measure `tagmill similar` on PostgreSQL with pgvector: the time of a search, and what the index misses.

`PYTHONPATH=tests python -m benchmarks.search.similar --photos FOLDER... --rows 200000 1000000` fills a database with
that many images, each with a key and an embedding of 256 numbers, builds the index as `tagmill db index-embeddings`
does, and searches by keys with k = 20: with the index and, for a part of the keys, exactly. A search is the whole
function that the command calls, with the look-up of the key, the keys and the locations of what is found. Recall is the
share of the 20 nearest images that the index finds, too.

The embeddings are like those of a catalog: features of photos (EfficientNet-Lite0 with ImageNet weights, projected to
their first 256 principal components), each plus Gaussian noise with the covariance of all of them times `--noise`,
scaled to unit length. Uniform noise would be harder than any catalog. With no `--photos`, clusters are drawn instead,
which is for trying it out.

The server is started for the benchmark with its default settings, and does not wait for the disk. On a machine
that does other work, too, the CPU time of a search says more than how long it took.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text
from support.embeddings import embedding_model
from support.services import PostgresServer, create_database, find_pgvector

from benchmarks.support.copies import shuffled
from benchmarks.support.machine import machine, tell
from tagmill.db.bulk import driver_cursor
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.vectors.vector_code import pack_halves
from tagmill.registry.models import Model
from tagmill.search.hnsw import Build, create_index, index_name
from tagmill.search.similar import Choice, SimilarImage, similar_to_key

WIDTH, K = 256, 20
#: embeddings that are made and copied at a time
CHUNK = 20_000


#: images 1 to `rows` of a run, each shown by a key
_ROWS = (
    """
    INSERT INTO run (id, source, parameters, queue, state, created_at)
    SELECT 1, 'benchmark', '{}', 'q', 'open', 0 WHERE :rows > 0 AND :model > 0
    """,
    """
    INSERT INTO image_content (id, sha256, width, height, format, bytes)
    SELECT n, sha256(n::text::bytea), 400, 500, 'JPEG', 40000 FROM generate_series(1, :rows) AS n WHERE :model > 0
    """,
    """
    INSERT INTO entry (run_id, position, image_key, uri)
    SELECT 1, n - 1, 'item-' || n, '/srv/catalog/' || n || '.jpg' FROM generate_series(1, :rows) AS n WHERE :model > 0
    """,
    """
    INSERT INTO catalog_entry (image_id, changed_at, run_id, position, name_id, model_id, place, image_key)
    SELECT n, 0, 1, n - 1, :model, :model, 0, 'item-' || n FROM generate_series(1, :rows) AS n
    """,
)


@dataclass(frozen=True)
class Measured:
    """What was measured with a number of rows."""

    rows: int
    build_seconds: float
    index_bytes: int
    #: milliseconds of each search
    indexed: Sequence[float]
    exact: Sequence[float]
    #: milliseconds of the CPU that a search with the index takes on average, of this process and of the server's
    cpu: float
    #: of each search that was done in both ways
    recall: Sequence[float]


def projected(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first 256 principal components of features [N, F], or all of them if there are fewer."""
    centered = features - features.mean(0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    found = centered @ axes[:WIDTH].T
    return np.pad(found, ((0, 0), (0, WIDTH - found.shape[1])))


def drawn(count: int) -> NDArray[np.float32]:
    """Return clusters in place of photos, float32 [N, 256]."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(max(4, count // 20), WIDTH)) / np.sqrt(1 + np.arange(WIDTH))
    return (np.repeat(centers, 20, axis=0) + random.normal(scale=0.02, size=(20 * len(centers), WIDTH))).astype("f4")


def like_a_catalog(base: NDArray[np.float32], rows: int, noise: float) -> Iterator[NDArray[np.float32]]:
    """Yield embeddings in chunks: rows of `base` plus noise of their covariance times `noise`, of unit length."""
    random = np.random.default_rng(1)
    deviation = base.std(0) * np.sqrt(noise)  # principal components are uncorrelated
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        found = base[random.integers(len(base), size=count)]
        found = found + random.normal(size=found.shape).astype(np.float32) * deviation
        yield (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def fill(engine: Engine, model: Model, vectors: Iterator[NDArray[np.float32]], rows: int) -> None:
    """Store images 1 to `rows`, each with a key, a location and an embedding."""
    with engine.begin() as connection:
        for statement in _ROWS:
            connection.execute(text(statement), {"rows": rows, "model": model.id})
        copied = "COPY embedding (image_id, model_id, vector) FROM STDIN (FORMAT BINARY)"
        with driver_cursor(connection, copied) as cursor, cursor.copy(copied) as copy:
            copy.set_types(["int8", "int4", "bytea"])
            image = 0
            for chunk in vectors:
                for vector in chunk:
                    image += 1
                    copy.write_row((image, model.id, pack_halves(vector)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def measure(
    engine: Engine, base: NDArray[np.float32], rows: int, noise: float, searches: int, build: Build
) -> Measured:
    """Fill a database, build the index, and search."""
    upgrade(engine)
    model = embedding_model(engine, WIDTH)
    began = time.perf_counter()
    fill(engine, model, like_a_catalog(base, rows, noise), rows)
    tell(f"{rows:,} rows in {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    create_index(engine, model, build, lambda done, total: None)
    seconds = time.perf_counter() - began
    tell(f"index in {seconds:.0f} s")
    with engine.connect() as connection:
        size = connection.execute(text(f"SELECT pg_relation_size('{index_name(model)}')")).scalar_one()
    keys = [f"item-{1 + number}" for number in np.random.default_rng(2).choice(rows, searches + 20, replace=False)]
    for key in keys[searches:]:  # the first ones of a connection read the index from the disk
        similar_to_key(engine, model, key, Choice(K))
    before = cpu_seconds(engine)
    found = [timed(engine, model, key, Choice(K)) for key in keys[:searches]]
    cpu = 1000 * (cpu_seconds(engine) - before) / searches
    exact = [timed(engine, model, key, Choice(K, exact=True)) for key in keys[: max(1, searches // 4)]]
    recall = [len(shas(ours) & shas(true)) / len(true) for (_, ours), (_, true) in zip(found, exact, strict=False)]
    return Measured(rows, seconds, size, [each for each, _ in found], [each for each, _ in exact], cpu, recall)


def cpu_seconds(engine: Engine) -> float:
    """Return the seconds of CPU that this process and the server's processes of its connections have taken."""
    of_clients = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    with engine.connect() as connection:
        servers = connection.execute(text(of_clients)).scalars().all()
    spent = [int(Path(f"/proc/{server}/schedstat").read_text().split()[0]) for server in servers]
    return time.process_time() + sum(spent) / 1e9


def timed(engine: Engine, model: Model, key: str, choice: Choice) -> tuple[float, list[SimilarImage]]:
    """Return the milliseconds of a search, and what it finds."""
    began = time.perf_counter()
    found = similar_to_key(engine, model, key, choice)
    return 1000 * (time.perf_counter() - began), found


def shas(found: Sequence[SimilarImage]) -> set[str]:
    """Return the hashes of the images that were found."""
    return {one.sha256 for one in found}


def line(found: Measured) -> str:
    """Return a row of the table."""
    late = np.quantile(found.indexed, 0.95)
    return (
        f"| {found.rows:,} | {found.build_seconds:,.0f} s | {found.index_bytes / 1e6:,.0f} MB "
        f"| {statistics.median(found.indexed):.1f} ms | {late:.1f} ms | {found.cpu:.1f} ms "
        f"| {statistics.mean(found.recall):.4f} | {statistics.median(found.exact):,.0f} ms |"
    )


HEAD = """
| rows | index built in | its size | search, median | 95 % below | CPU of a search | recall | exact search |
|---|---|---|---|---|---|---|---|
""".strip()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000])
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of JPEG files")
    parser.add_argument("--features", type=Path, help="in place of --photos: their features, float32 [N, F], as .npy")
    parser.add_argument("--noise", type=float, default=0.5, help="share of the photos' covariance")
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--memory", default="2GB", help="of the build of the index")
    options = parser.parse_args()
    print(machine(), flush=True)
    if options.features:
        base = projected(np.load(options.features))
    elif options.photos:
        from benchmarks.support.pretrained import Features  # loads torch

        tell("embedding photos")
        base = projected(Features().of_files(shuffled(options.photos, 0)))
    else:
        base = drawn(2000)
    print(f"{len(base):,} photos or drawn points, noise {options.noise:g}, {os.cpu_count()} cores", flush=True)
    print(HEAD, flush=True)
    with PostgresServer(find_pgvector()) as server:
        for rows in options.rows:
            engine = connect(create_database(server.url))
            print(line(measure(engine, base, rows, options.noise, options.searches, Build(options.memory))), flush=True)
            engine.dispose()


if __name__ == "__main__":
    main()
