"""What a worker says of itself over HTTP: metrics that agree with SQL, and probes in each of its states."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text
from support.image_fixtures import write_folder
from support.installation import Site, new_site
from support.ledger import QUEUE, new_model, published_run
from support.processes import TAGMILL, Worker, children, wait_until
from support.scraped import Scraped
from support.services import RedisServer, free_port

from tagmill.broker.app import make_app
from tagmill.settings import Settings
from worker.connections.availability import Services
from worker.probes.batch_metrics import BatchMetrics
from worker.probes.checks import ready_checks


@pytest.fixture
def scraped() -> Scraped:
    """A port for the worker of the test."""
    return Scraped(free_port())


def health(port: int) -> subprocess.CompletedProcess[str]:
    """Run the health check of a container."""
    command = [sys.executable, "-P", "-m", "tagmill.http.health", str(port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_metrics_of_a_worker_agree_with_sql_and_its_probes_say_what_it_lacks(
    tmp_path: Path, sqlite_url: str, own_redis_server: type[RedisServer], scraped: Scraped
) -> None:
    redis = own_redis_server()
    shop, away = tmp_path / "shop", tmp_path / "away"
    site = new_site(tmp_path, sqlite_url, redis.url, metrics_port=scraped.port, allowed_roots=shop)
    write_folder(shop / "sound", 40)
    (shop / "page.jpg").write_text("<html>")
    with Worker(site.env, tmp_path / "worker.log") as worker:
        wait_until(lambda: scraped.status("/live") == 200, 60, "the port to be open")
        assert scraped.reasons() == {"process": "starting"}
        wait_until(lambda: not scraped.reasons(), 60, "the worker to be ready")
        site.wait_done(site.submit(shop, "--model", "colors", "--model", "color-masks", "--batch-size", 16)["run"])
        site.wait_done(site.submit(shop / "sound", "--model", "colors", "--batch-size", 16)["run"])  # of known results
        require_agreement(site, scraped)
        assert health(scraped.port).returncode == 0
        shop.rename(away)
        redis.kill()
        wait_until(lambda: {"folders", "broker"} <= scraped.reasons().keys(), 60, "both to be missed")
        assert f"{shop}: No such file or directory" in scraped.reasons()["folders"]
        assert (scraped.status("/live"), scraped.value("tagmill_service_up", service="broker")) == (200, 0)
        assert "broker: " in (said := health(scraped.port)).stdout
        assert said.returncode == 1
        assert scraped.value("tagmill_outages_total", service="broker") >= 1
        away.rename(shop)
        redis.start()
        (child,) = children(worker.process.pid)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: "process" in scraped.reasons(), 60, "the process to be missed")
        assert scraped.status("/live") == 200
        wait_until(lambda: not scraped.reasons(), 60, "the next process to be ready")
        assert scraped.value("tagmill_worker_restarts_total", code="SIGKILL") == 1
        assert worker.stop() == 0
    assert scraped.status("/live") == 0


def require_agreement(site: Site, scraped: Scraped) -> None:
    """Check the counts of two runs against SQL."""
    counted = "SELECT m.name || '@' || m.version, sum(b.tagged), sum(b.images - b.tagged) FROM batch b"
    of_model = "JOIN run_model r ON r.run_id = b.run_id JOIN model m ON m.id = r.model_id GROUP BY 1"
    rows = site.values(f"{counted} {of_model}")
    assert len(rows) == 2
    for model, tagged, failed in rows:
        assert scraped.value("tagmill_images_total", model=model, status="tagged") == tagged
        assert scraped.value("tagmill_images_total", model=model, status="failed") == failed
    failures = site.count("SELECT count(*) FROM image_failure")
    assert scraped.value("tagmill_image_errors_total", code="not_an_image") == failures
    batches = site.count("SELECT count(*) FROM batch")
    for stage in ("queue", "write"):
        assert scraped.value("tagmill_stage_duration_seconds_count", stage=stage) == batches
    assert scraped.value("tagmill_batch_images_sum") == site.count("SELECT sum(images) FROM batch")
    assert (scraped.value("tagmill_inflight_batches"), scraped.value("tagmill_leases_lost_total")) == (0, 0)
    assert {found["name"] for found in scraped.labels("tagmill_model_info")} == {"colors", "color-masks"}
    assert scraped.value("tagmill_device_busy_seconds_total") > 0
    assert scraped.value("tagmill_worker_ready") == 1


def test_a_busy_port_ends_the_command_with_one_line(site: Site, scraped: Scraped) -> None:
    env = site.env | {"TAGMILL_METRICS_PORT": str(scraped.port)}
    bare = [TAGMILL, "celery", "worker", "-P", "threads", "-c", "1"]
    import socket

    with socket.create_server(("127.0.0.1", scraped.port)):
        for command in ([TAGMILL, "worker", "start"], bare):
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 78
            said = f"127.0.0.1:{scraped.port}: Address already in use; set TAGMILL_METRICS_PORT to a free port"
            assert said in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_that_takes_nothing_while_work_waits_is_not_ready(engine: Engine, tmp_path: Path) -> None:
    batches = BatchMetrics(CollectorRegistry())
    settings = Settings(queue=QUEUE, concurrency=1, model_store=tmp_path)
    checks = ready_checks(settings, make_app(settings), engine, Services(), batches, dict)
    model = new_model(engine)
    assert checks["bundles"]() is None  # nothing is in production
    with engine.begin() as connection:
        connection.execute(text("UPDATE model SET stage = 'production'"))
    assert f"{model.title}: " in str(checks["bundles"]())
    (tmp_path / f"{model.sha256}.onnx").touch()
    assert checks["bundles"]() is None
    published_run(engine, model)
    with engine.begin() as connection:
        connection.execute(text("UPDATE batch SET published_at = published_at - 100"))
    assert checks["progress"]() is None  # it has just started
    batches.claimed_at -= 90
    reason = checks["progress"]()
    assert reason is not None
    assert reason.startswith("batches wait, and this worker has taken none for 90 s")
    batches._running["token"] = 3  # its only slot is in use
    assert checks["progress"]() is None
