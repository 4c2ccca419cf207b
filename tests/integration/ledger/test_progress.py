"""The progress of a run, on SQLite and PostgreSQL."""

import time

from sqlalchemy import Engine, update
from support.ledger import new_run

from tagmill.db.schema import batch
from tagmill.ledger.progress import run_progress
from tagmill.registry.models import Model


def test_times_are_by_the_databases_clock(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    with engine.begin() as connection:
        connection.execute(update(batch).values(started_at=None))
    progress = run_progress(engine, run_id)
    assert abs(progress.read_at - time.time()) < 5
    assert (progress.state, progress.seconds, progress.eta_seconds) == ("queued", 0.0, None)
