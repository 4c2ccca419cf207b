"""PostgreSQL finds what a statement needs by an index, whatever its statistics say: the plans are read.

The tables are filled with a catalog and a queue of 30,000 batches, on every version of PostgreSQL that is found (see
`support.services.find_every_postgres`). Every statement of the ledger is run with its own values, and by the plan for
any values that a prepared statement may get.
"""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from support.calls import Catalog, calls
from support.filled import FilledRun, add_repeats, add_run, add_tagged_run, publish, without_autovacuum
from support.ledger import new_model
from support.plans import Explained, explain, recording
from support.services import MissingServiceError, PostgresServer, create_database, find_every_postgres, libpq_url

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.ledger.batches import leases
from tagmill.ledger.pruning.counts import Counts
from tagmill.ledger.pruning.old_runs import OldRun, delete_run, old_runs
from tagmill.registry.models import Model

#: images of the catalog, and those of a small run of it
IMAGES, FEW = 100_000, 128
#: batches of the queue; a statement must not take longer for the many
FEW_QUEUED, MANY_QUEUED = 1_500, 30_000
#: blocks that a statement may read more with many batches queued than with few: factor and constant
FACTOR, MORE_BLOCKS = 3, 40
#: tables that must not be read as a whole
LARGE = {"entry", "image_content", "result", "result_mask", "known_file", "catalog_entry", "batch", "batch_outcome"}
LARGE |= {"known_url", "repeated_entry", "repeated_image", "image_failure"}
#: the batches in work: as many as the fleet has threads, however long the queue is
BOUNDED_INDEXES = {"ix_batch_queue_lease_until"}

#: Calls that a command makes once, so that no plan is kept. The plan for any run may read all batches if runs are few.
ONCE = {
    "run_progress",
    "cancel_run",
    "pause_run",
    "waiting_messages",
    "resume_run",
    "set_priority",
    "requeue_images by code",
    "requeue_images, cancelled",
}


def postgres_versions() -> list[int]:
    try:
        return sorted(find_every_postgres())
    except MissingServiceError:
        return []  # `server` fails, and says what to install


@pytest.fixture(scope="module", params=postgres_versions() or [0], ids=lambda major: f"PostgreSQL {major}")
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of each version that is found."""
    with PostgresServer(find_every_postgres()[request.param]) as started:
        yield started


@pytest.fixture(scope="module")
def filled(server: PostgresServer) -> tuple[str, Model, FilledRun, FilledRun]:
    """The URL of a database with a catalog that was never analyzed, its model, its first run and a small second one."""
    url = create_database(server.url)
    engine = connect(url)
    upgrade(engine)
    without_autovacuum(engine)
    model = new_model(engine)
    with engine.begin() as connection:
        tagged = add_tagged_run(connection, model, IMAGES, failing=10)
        add_repeats(connection, tagged, IMAGES)
        connection.execute(text("UPDATE catalog_entry SET changed_at = changed_at - 86400"))
        small = add_tagged_run(connection, model, FEW, changed=50, failing=10)
    engine.dispose()
    return url, model, tagged, small


@pytest.fixture(autouse=True)
def rollouts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have claims look for shadows and canaries once, however long statements are explained meanwhile."""
    monkeypatch.setattr(leases, "ROLLOUT_SECONDS", 3600.0)


@pytest.mark.parametrize("statistics", ["fresh", "stale", "absent"])
def test_no_statement_of_the_ledger_reads_more_for_a_longer_queue(
    server: PostgresServer, filled: tuple[str, Model, FilledRun, FilledRun], statistics: str
) -> None:
    few = run_all(queued(server, filled, statistics, FEW_QUEUED))
    many = run_all(queued(server, filled, statistics, MANY_QUEUED))
    assert len(many) > 70
    problems = []
    for called, statements in many.items():
        in_pages = called == "rerun failed"  # of the entries that wait, and so with more statements for more of them
        for found, shorter in zip(statements, few[called], strict=not in_pages):
            reasons = [*scans(found), *(["locks for each row"] if locks_for_each_row(found) else [])]
            if found.generic and called in ONCE:
                continue
            if not in_pages and found.blocks > FACTOR * shorter.blocks + MORE_BLOCKS:
                reasons.append(f"{shorter.blocks} blocks if {FEW_QUEUED} batches are queued")
            if reasons:
                problems.append(f"{called}: {', '.join(reasons)}; {found}")
    assert not problems, "\n\n".join(problems)


def queued(
    server: PostgresServer, filled: tuple[str, Model, FilledRun, FilledRun], statistics: str, batches: int
) -> Catalog:
    """Copy the catalog and add a queue; statistics are from after that, from before it, or there are none."""
    url, model, tagged, small = filled
    engine = connect(copy_database(server, url))
    if statistics == "stale":
        analyze(engine)
    with engine.begin() as connection:
        waiting = add_run(connection, model, FEW, 64)
        queue = add_run(connection, model, 2 * batches, 2)
        connection.execute(text("UPDATE run SET publish_until = 0 WHERE id = :run"), {"run": queue.id})
        publish(connection, waiting)
    if statistics == "fresh":
        analyze(engine)
    return Catalog(engine, model, tagged, small, waiting, queue)


def copy_database(server: PostgresServer, url: str) -> str:
    return create_database(server.url, str(make_url(url).database))


def analyze(engine: Engine, command: str = "ANALYZE") -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(command))


def run_all(catalog: Catalog) -> dict[str, list[Explained]]:
    """Run every call of the ledger, and return its statements."""
    found = {}
    with recording(catalog.engine) as recorder:
        for name, call in calls(catalog):
            call()
            found[name] = recorder.take()
    catalog.engine.dispose()
    return found


@pytest.mark.parametrize("rows", [FEW, FEW // 3], ids=["at once", "in parts"])
def test_an_old_run_is_deleted_without_reading_the_catalog(
    server: PostgresServer, filled: tuple[str, Model, FilledRun, FilledRun], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmill.ledger.pruning.old_runs.ROWS", rows)
    url, model, tagged, small = filled
    engine = connect(copy_database(server, url))
    with engine.begin() as connection:
        # All entries are of one run: whoever looks for those of another one expects to meet them at once.
        connection.execute(text("UPDATE catalog_entry SET run_id = :run"), {"run": tagged.id})
        add_run(connection, model, FEW, 64)  # the newest run stays
    analyze(engine)
    before, counts = time.time() + 3600, Counts()
    with recording(engine) as recorder:
        shown = {old.id: old.shown for old in old_runs(engine, before)}
        delete_run(engine, OldRun(small.id, shown=False, images=FEW), before, counts)
        statements = recorder.take()
    engine.dispose()
    assert shown == {tagged.id: True, small.id: False}
    assert (counts.runs, counts.entries) == (1, FEW)
    # Of the key of batches, the last one alone is read.
    problems = [f"{read}; {found}" for found in statements for read in scans(found) if read != "all of pk_batch"]
    assert not problems, "\n\n".join(problems)


def scans(found: Explained) -> list[str]:
    """Return the large tables and the indexes that are read from one end to the other."""
    return [name for node in found.nodes if (name := _scanned(node)) is not None]


def _scanned(node: dict[str, Any]) -> str | None:
    kind, index = node["Node Type"], node.get("Index Name")
    if kind == "Seq Scan" and node["Relation Name"] in LARGE and node["Actual Loops"]:
        return f"all of {node['Relation Name']}"
    of_large = node.get("Relation Name") in LARGE or kind == "Bitmap Index Scan"
    if index and of_large and "Index Cond" not in node and index not in BOUNDED_INDEXES:
        return f"all of {index}"
    return None


def locks_for_each_row(found: Explained) -> bool:
    """Return whether a subquery that locks rows runs again for each row of another table."""
    return any(node["Node Type"] == "LockRows" and node["Actual Loops"] > 1 for node in found.nodes)


LABELS = "SELECT image_key, label, score FROM catalog_labels"
#: for each rank, and for the labels behind them
BY_LABEL = {f"ix_result_label_{rank}_score_{rank}" for rank in range(1, 6)} | {"ix_further_label_label_id_score"}
#: what people ask of the views, and the indexes that must be used for it
QUESTIONS = {
    "a key": (f"{LABELS} WHERE image_key = 'sku-000000777'", {"pk_catalog_entry"}),
    "a key and a model": (
        f"{LABELS} WHERE image_key = 'sku-000000777' AND model = 'shirts' ORDER BY rank",
        {"pk_catalog_entry"},
    ),
    "a list of keys": (
        f"{LABELS} JOIN (VALUES ('sku-000000777'), ('sku-000000778')) AS mine (image_key) USING (image_key)",
        {"pk_catalog_entry"},
    ),
    "some keys": (f"{LABELS} WHERE image_key IN ('sku-000000777', 'sku-000000778')", {"pk_catalog_entry"}),
    "the masks of a key": (
        "SELECT * FROM catalog_masks WHERE image_key = 'sku-000000777'",
        {"pk_catalog_entry", "ix_result_mask_image_id"},
    ),
    "a label and a score": (f"{LABELS} WHERE label = 'label_name 7' AND score >= 0.8", BY_LABEL),
    "the first of a label": (f"{LABELS} WHERE label = 'label_name 7' AND score >= 0.8 LIMIT 50", BY_LABEL),
    "the best label": (
        f"{LABELS} WHERE label = 'label_name 7' AND score >= 0.8 AND rank = 1",
        {"ix_result_label_1_score_1"},
    ),
    "a run": (f"{LABELS} WHERE run_id = {{small}}", {"ix_catalog_entry_run_id"}),
    "changed since": ("SELECT * FROM catalog_changes WHERE changed_at >= {since}", {"ix_catalog_entry_changed_at"}),
    "the labels of what changed": (
        f"{LABELS} JOIN catalog_changes USING (image_key, model) WHERE changed_at >= {{since}}",
        {"ix_catalog_entry_changed_at", "pk_catalog_entry"},
    ),
}
#: the query of README.md: a third of all images has such a label
FIRST_THOUSAND = f"{LABELS} WHERE model = 'shirts' AND rank = 1 AND score >= 0.8 LIMIT 1000"


def test_people_find_labels_and_masks_by_index(
    server: PostgresServer, filled: tuple[str, Model, FilledRun, FilledRun]
) -> None:
    engine = connect(copy_database(server, filled[0]))
    analyze(engine, "VACUUM ANALYZE")
    values = {"small": filled[3].id, "since": int(time.time()) - 3600}
    with psycopg.connect(libpq_url(engine.url.render_as_string())) as connection:
        for asked, (question, indexes) in QUESTIONS.items():
            (found,) = explain(connection, question.format(**values))
            about = f"{asked}: {found}"
            assert not scans(found), about
            assert indexes <= {node.get("Index Name") for node in found.nodes}, about
            assert found.plan["Actual Rows"], about
            assert found.blocks < 200 + 60 * found.plan["Actual Rows"], about
        (found,) = explain(connection, FIRST_THOUSAND)
        assert found.plan["Actual Rows"] == 1000
        assert found.blocks < 20_000, found
    engine.dispose()
