"""SIGTERM under load: what a worker has in hand is done or given back, and no lease is left to end."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http_site import Site as WebSite
from support.http_site import in_turn, reply
from support.image_fixtures import write_folder, write_image
from support.installation import Site
from support.processes import Worker, wait_until


@pytest.fixture
def busy_host(tmp_path: Path) -> Iterator[WebSite]:
    """A web server that gives one image, and tells everybody after that to come back in two minutes."""
    host, red = WebSite(), write_image(tmp_path / "red.png", "red").read_bytes()
    host.replies["/a.png"] = in_turn(reply(body=red), *[reply(429, Retry_After="120")] * 100)
    yield host
    host.close()


def test_a_stopped_worker_finishes_what_is_local_and_gives_back_what_waits_for_a_host(
    site: Site, busy_host: WebSite, tmp_path: Path
) -> None:
    write_folder(tmp_path / "shop", 64)
    urls = [f"{number},{busy_host.url}/a.png?{number}" for number in range(4)]
    (tmp_path / "urls.csv").write_text("\n".join(["key,url", *urls, ""]))
    env = site.env | {"TAGMILL_ALLOW_PRIVATE_HOSTS": "127.0.0.0/8", "TAGMILL_LEASE_SECONDS": "60"}
    with Worker(env, tmp_path / "one.log") as worker:
        worker.wait_ready()
        waits = site.submit(tmp_path / "urls.csv", "--model", "colors")["run"]
        wait_until(lambda: len(busy_host.requests) > 1, 60, "the host to be asked")
        site.submit(tmp_path / "shop", "--model", "colors", "--batch-size", 1)
        wait_until(lambda: worker.log.count("batch_tagged") >= 5, 60, "the worker to be at work")
        began = time.monotonic()
        worker.process.terminate()
        time.sleep(0.5)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert time.monotonic() - began < 45  # not the minute of its lease, nor the two of the host
        assert "batches_freed" not in worker.log  # nothing was left for the supervisor to free
        assert "Traceback" not in worker.log
        assert worker.log.count('"action": "batch_given_back"') == 1
    assert site.count("SELECT count(*) FROM batch WHERE status = 'running' OR owner IS NOT NULL") == 0
    assert site.count(f"SELECT max(attempts) FROM batch WHERE run_id = {waits}") == 0
    assert site.count("SELECT count(*) FROM image_failure") == 0
    busy_host.replies["/a.png"] = reply(body=(tmp_path / "red.png").read_bytes())
    with Worker.bare(env, tmp_path / "two.log"):
        for run in (1, 2):
            site.wait_done(run)
    assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == 64 + 4
