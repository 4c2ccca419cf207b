"""Measure a promotion and a rollback of a catalog: the transaction, and what readers then see.

`PYTHONPATH=tests python -m benchmarks.database.rollback --labels 1000000 [--times 5] [--json FILE]` starts its own
PostgreSQL. It has keys of five labels each, which two versions of a model have tagged. The second version is promoted
and rolled back in turn. Each time it also reads a key, the best labels of a thousand keys, all labels, and what
changed, and checks that they are of the version in production.
"""

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psycopg
from sqlalchemy import Engine, text
from support.filled import add_tagged_run
from support.services import PostgresServer, create_database, libpq_url

from benchmarks.support.machine import tell
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import LABELS
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import register
from tagmill.registry.rollout.production import promote, rollback
from tagmill.tasks.classify import CLASSIFY

BATCH = 64

#: what is read after each change, with the version of each row first
QUESTIONS = {
    "one key": "SELECT version, * FROM catalog_labels WHERE image_key = 'sku-000000777'",
    "best label of 1,000 keys": "SELECT version, label FROM catalog_labels WHERE rank = 1 LIMIT 1000",
    "all labels": "SELECT version, count(*) FROM catalog_labels GROUP BY version",
    "changed since": "SELECT version, count(*) FROM catalog_changes WHERE changed_at >= {since} GROUP BY version",
}
_OF_SECOND = """
INSERT INTO result
SELECT (jsonb_populate_record(result, jsonb_build_object('model_id', {second}, 'label_1', label_2))).*
FROM result WHERE model_id = {first}
"""


def fill(engine: Engine, keys: int) -> None:
    """Have two versions tag all keys; the first is in production."""
    spec = BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
    first = register(engine, spec, "1" * 64)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        add_tagged_run(connection, first, keys, BATCH, failing=keys + 1, masks=0)
        connection.execute(text("DELETE FROM further_label"))
        second = register(engine, spec, "2" * 64)  # behind the names of labels, whose numbers follow each other
        connection.execute(text(_OF_SECOND.format(first=first.id, second=second.id)))
        connection.execute(text("UPDATE catalog_entry SET changed_at = changed_at - 86400"))
        connection.execute(text("VACUUM ANALYZE"))
    promote(engine, first.title)


def measure(url: str, labels: int, times: int) -> dict[str, list[float]]:
    """Return the milliseconds of each change and question."""
    engine = connect(url)
    upgrade(engine)
    fill(engine, labels // LABELS)
    tell(f"{labels:,} labels of {labels // LABELS:,} keys, tagged by two versions")
    taken: dict[str, list[float]] = defaultdict(list)
    with psycopg.connect(libpq_url(url), autocommit=True) as reader:
        for _ in range(times):
            for name, change, version in (
                ("promote", lambda: promote(engine, "shirts@2"), 2),
                ("rollback", lambda: rollback(engine, "shirts"), 1),
            ):
                since = int(time.time())
                taken[name].append(_timed(change))
                for asked, question in QUESTIONS.items():
                    statement = question.format(since=since).encode()
                    rows: list[tuple[object, ...]] = []
                    taken[f"{asked}, after {name}"].append(
                        _timed(lambda statement=statement, rows=rows: rows.extend(reader.execute(statement).fetchall()))
                    )
                    assert {row[0] for row in rows} == {version}, f"{asked}: shows another version"
                    if asked == "all labels":
                        assert rows == [(version, labels)], f"{rows} and not {labels} labels"
    engine.dispose()
    return taken


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with PostgresServer() as server:
        taken = measure(create_database(server.url), options.labels, options.times)
        version = server.version
    print(f"PostgreSQL {version}, Python {platform.python_version()}, n = {options.times}; ms, median [least-most]")
    for name, found in taken.items():
        print(f"| {name} | {statistics.median(found):,.1f} [{min(found):,.1f}-{max(found):,.1f}] |")
    if options.json:
        options.json.write_text(json.dumps(taken, indent=2))


if __name__ == "__main__":
    main()
