"""A worker takes an urgent run before a backfill that waits, and writes what both took."""

from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, wait_until

from producer.publish import publish_run
from producer.sources.open import open_sources
from tagmill.broker.app import make_app
from tagmill.db.connection import connect
from tagmill.ledger.runs.cost import run_cost
from tagmill.ledger.runs.create import create_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.priority import Priority
from tagmill.registry.models import resolve
from tagmill.settings import Settings

BACKFILL = 300
#: batches that the worker has in hand, and those that it may take while the urgent run is published
IN_HAND = 50


def run_of(engine: Engine, folder: Path, priority: Priority) -> int:
    sources = open_sources([str(folder)])
    return create_run(engine, "test", sources, [resolve(engine, "colors")], [folder], 1, "tagmill", priority=priority)


def test_an_urgent_run_overtakes_a_backfill_and_what_each_took_is_written(site: Site, tmp_path: Path) -> None:
    write_folder(tmp_path / "backfill", BACKFILL)
    write_folder(tmp_path / "urgent", 4)
    engine, app = (
        connect(site.env["TAGMILL_DATABASE_URL"]),
        make_app(Settings(broker_url=site.env["TAGMILL_BROKER_URL"])),
    )
    backfill = run_of(engine, tmp_path / "backfill", Priority.BACKFILL)
    urgent = run_of(engine, tmp_path / "urgent", Priority.URGENT)
    publish_run(app, engine, backfill)
    done = f"SELECT count(*) FROM batch WHERE run_id = {backfill} AND status = 'done'"
    with Worker.bare(site.env, tmp_path / "worker.log"):
        wait_until(lambda: site.count(done), 60, "the backfill to begin")
        publish_run(app, engine, urgent)
        site.wait_done(urgent)
        overtaken = site.count(f"SELECT count(*) FROM batch WHERE run_id = {backfill} AND status = 'queued'")
    before = site.count(
        f"SELECT count(*) FROM batch WHERE run_id = {backfill} "
        f"AND started_at BETWEEN (SELECT min(published_at) FROM batch WHERE run_id = {urgent}) "
        f"AND (SELECT max(started_at) FROM batch WHERE run_id = {urgent})"
    )
    assert overtaken > 0
    assert before < IN_HAND
    progress = run_progress(engine, urgent)
    cost = run_cost(progress, Settings(price_cpu_hour=3600))
    engine.dispose()
    assert progress.priority is Priority.URGENT
    assert progress.cpu_seconds > 0 == progress.gpu_seconds
    assert cost.price == pytest.approx(progress.cpu_seconds)
    costs = {row[0]: row[1:] for row in site.values("SELECT run_id, images, cpu_seconds FROM run_cost")}
    assert costs[urgent] == (4, pytest.approx(progress.cpu_seconds))
    assert 0 < costs[backfill][0] <= BACKFILL
