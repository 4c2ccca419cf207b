"""Migrations run while workers of the version before work: from the last two schemas, on both databases."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from support.ledger import batches as batches_of
from support.processes import environment, tagmill
from support.version_0004 import migrate
from support.version_0008 import OldWorker, fill

from tagmill.db.connection import connect
from tagmill.db.migrate import newest_version, schema_version, upgrade
from tagmill.db.upgrade_plan import plan_upgrade
from tagmill.ledger.runs.progress import run_progress

#: more than the workers tag before the upgrade ends
BATCHES = 600


@pytest.mark.parametrize("revision", ["0007", "0008"])
def test_old_workers_work_on_while_the_schema_is_upgraded_and_nothing_is_lost(database_url: str, revision: str) -> None:
    engine = connect(database_url)
    migrate(engine, revision)
    run = fill(engine, BATCHES)
    waiting = batches_of(engine, run)
    slowest, upgraded = 0.0, threading.Event()
    at_work = threading.Semaphore(0)

    def work() -> int:
        nonlocal slowest
        worker, done = OldWorker(engine, run), 0
        while waiting and not (upgraded.is_set() and done > 20):
            began = time.monotonic()
            done += worker.tag(waiting.pop())
            worker.reap()
            slowest = max(slowest, time.monotonic() - began)
            at_work.release()
        return done

    other = connect(database_url)
    with ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(work) for _ in range(2)]
        for _ in range(10):
            assert at_work.acquire(timeout=60)
        upgrade(other)
        upgraded.set()
        done = sum(worker.result(240) for worker in workers)
    assert schema_version(engine) == newest_version()
    assert slowest < 30  # the locks of the upgrade are held for a moment, and given up after one
    progress = run_progress(engine, run)
    assert progress.batches["done"] == done > 40
    assert progress.batches["running"] == progress.batches["dead"] == 0
    assert progress.tagged == 2 * done
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM catalog_labels")).scalar_one() == 2 * done
        assert connection.execute(text("SELECT max(attempts) FROM batch")).scalar_one() == 1
    for used in (engine, other):
        used.dispose()


def test_a_check_says_what_an_upgrade_would_do_and_changes_nothing(database_url: str) -> None:
    env = environment(database_url=database_url)
    assert "has no tables" in tagmill("db", "upgrade", "--check", env=env, expect=78).stdout
    engine = connect(database_url)
    migrate(engine, "0007")
    plan = plan_upgrade(engine)
    assert [step.revision for step in plan.steps] == ["0008", newest_version()]
    assert all("Workers of the version before go on" in step.what for step in plan.steps)
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM batch"))
        if engine.dialect.name == "postgresql":
            with engine.begin() as connection:
                connection.execute(
                    text("CREATE ROLE checking LOGIN; GRANT SELECT ON batch, run, alembic_version TO checking")
                )
            role = engine.url.set(username="checking").render_as_string(hide_password=False)
            shown = tagmill("db", "upgrade", "--check", env=environment(database_url=role), expect=78).stdout
            assert "It cannot run: log in as the owner" in shown
            assert "It would wait for a transaction: process " in shown
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY checking; DROP ROLE checking"))
    assert schema_version(engine) == "0007"
    upgrade(engine)
    assert plan_upgrade(engine).steps == []
    engine.dispose()
