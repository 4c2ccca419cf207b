"""Claims that the database does not answer: the worker's log and `tagmill run status` say so."""

import json
from pathlib import Path
from typing import Any

import psycopg
from support.image_fixtures import write_folder
from support.installation import new_site
from support.processes import Worker, tagmill, tagmill_json, wait_until
from support.services import ExternalRedis, RedisServer, libpq_url

WAITING = "workers are waiting for the database"


def actions(worker: Worker) -> list[str]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return [str(found.get("action")) for found in lines]


def test_claims_that_wait_for_a_lock_are_logged_and_shown(
    redis_server: RedisServer | ExternalRedis, postgres_url: str, tmp_path: Path
) -> None:
    site = new_site(tmp_path, postgres_url, redis_server.url, lease_seconds=60)
    write_folder(site.folder / "shop", 8)
    run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4)["run"]
    assert WAITING not in tagmill("run", "status", run, env=site.env).stdout
    with psycopg.connect(libpq_url(postgres_url)) as other:
        other.execute("LOCK TABLE batch IN EXCLUSIVE MODE")  # batches can be read, but not claimed
        with Worker.bare(site.env, site.folder / "worker.log") as worker:
            wait_until(lambda: actions(worker).count("claim_waits") == 2, 60, "the worker to log that its claims wait")
            assert WAITING in tagmill("run", "status", run, env=site.env).stdout
            assert tagmill_json("run", "status", run, env=site.env)["workers_waiting"] >= 2
            other.rollback()
            site.wait_done(run)
            wait_until(lambda: actions(worker).count("claim_answered") == 2, 60, "the worker to log the answers")
            assert worker.stop() == 0
    assert actions(worker).count("claim_waits") == actions(worker).count("claim_answered") == 2
    assert tagmill_json("run", "status", run, env=site.env)["workers_waiting"] == 0
