"""Workers as real processes on real Redis, with SQLite and with PostgreSQL."""

import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image
from support.bundles import write_fussy_classifier
from support.image_fixtures import write_folder, write_image
from support.installation import Site
from support.processes import Worker, children, logged_error, tagmill, tagmill_json, wait_until, waiting
from support.services import RedisServer

from tagmill.broker.app import make_app
from tagmill.broker.publish import publish
from tagmill.settings import Settings

on_both_databases = pytest.mark.parametrize("site", ["sqlite_url", "postgres_url"], indirect=True)

#: what a result has twice
TWICE = "SELECT 1 FROM {0} WHERE label_id IS NOT NULL GROUP BY image_id, model_id, {1} HAVING count(*) > 1"
BOTH = ("--model", "colors", "--model", "color-masks")


@on_both_databases
def test_a_catalog_goes_from_submit_to_sql_and_a_bad_image_fails_alone(site: Site) -> None:
    truth = write_folder(site.folder / "shop", 100)
    (site.folder / "shop" / "broken.jpg").write_bytes(b"not an image")
    with Worker(site.env, site.folder / "worker.log") as worker:
        done = site.submit(site.folder / "shop", *BOTH, "--batch-size", 8, "--wait", expect=3)
        assert (done["images"], done["tagged"], done["failed"], done["inferences"]) == (101, 100, 1, 200)
        assert done["failures"] == {"not_an_image": 1}
        second = site.submit(site.folder / "shop", *BOTH, "--wait", expect=3)
        assert (second["tagged"], second["inferences"]) == (100, 0)
        assert worker.stop() == 0
    rows = {row["image_key"]: row for row in site.rows(done["run"])}
    assert {key: row["colors.label"] for key, row in rows.items() if key != "broken.jpg"} == truth
    assert rows["broken.jpg"]["error_code"] == "not_an_image"
    assert site.count("SELECT count(*) FROM result_label WHERE label_id IS NOT NULL") == 300
    assert site.count("SELECT count(*) FROM result_mask") == 100


def test_plain_celery_works_as_its_users_expect(site: Site) -> None:
    write_folder(site.folder / "shop", 20)
    with Worker.bare(site.env, site.folder / "worker.log", "plain", "-E") as worker:
        done = site.submit(site.folder / "shop", "--model", "colors@1", "--wait")
        assert done["tagged"] == 20
        assert worker.stop() == 0


@on_both_databases
def test_after_kill_9_of_one_of_two_workers_every_image_has_one_result(site: Site) -> None:
    truth = write_folder(site.folder / "shop", 600)
    with (
        Worker.bare(site.env, site.folder / "one.log", "one") as one,
        Worker.bare(site.env, site.folder / "two.log", "two") as two,
    ):
        one.wait_ready()
        two.wait_ready()
        run = site.submit(site.folder / "shop", *BOTH, "--batch-size", 4)["run"]
        wait_until(lambda: one.log.count("batch_tagged") >= 5, 60, "the first worker to be at work")
        one.kill()
        site.wait_done(run)
        assert "batch_tagged" in two.log
    rows = site.rows(run)
    assert {row["image_key"]: row["colors.label"] for row in rows} == truth
    assert len(rows) == 600
    assert site.count("SELECT count(*) FROM result") == 1200
    assert site.count("SELECT count(*) FROM result WHERE label_1 IS NOT NULL") == 600
    assert site.count(f"SELECT count(*) FROM ({TWICE.format('result_label', 'rank')}) AS found") == 0
    assert site.count(f"SELECT count(*) FROM ({TWICE.format('result_label', 'label_id')}) AS found") == 0
    assert site.count(f"SELECT count(*) FROM ({TWICE.format('result_mask', 'label_id')}) AS found") == 0


def test_sigterm_finishes_the_current_batches_and_leaves_the_rest(site: Site) -> None:
    write_folder(site.folder / "shop", 400)
    with Worker(site.env, site.folder / "one.log") as worker:
        worker.wait_ready()
        run = site.submit(site.folder / "shop", *BOTH, "--batch-size", 4)["run"]
        wait_until(lambda: worker.log.count("batch_tagged") >= 3, 60, "the worker to be at work")
        assert worker.stop() == 0
    assert site.count("SELECT count(*) FROM batch WHERE status = 'running'") == 0
    assert site.count("SELECT count(*) FROM batch WHERE attempts > 1") == 0
    with Worker.bare(site.env, site.folder / "two.log"):
        site.wait_done(run)
    assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == 400


def test_the_supervisor_restarts_a_killed_worker(site: Site) -> None:
    write_folder(site.folder / "shop", 30)
    with Worker(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        for child in children(worker.process.pid):
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: worker.log.count(" ready.") == 2, 60, "the worker to be restarted")
        assert '"action": "worker_ended"' in worker.log
        assert site.submit(site.folder / "shop", "--model", "colors", "--wait")["tagged"] == 30


def test_no_worker_outlives_its_supervisor(site: Site) -> None:
    with Worker(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        (child,) = children(worker.process.pid)
        worker.kill()
        wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists(), 60, "the worker to end with its supervisor")


def test_a_flushed_redis_loses_nothing(site: Site, redis_server: RedisServer) -> None:
    write_folder(site.folder / "shop", 60)
    run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4)["run"]
    redis_server.flush()
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        site.wait_done(run)
        assert '"action": "messages_recovered", "batches": 15' in worker.log
    assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == 60


def test_each_batch_is_one_message(site: Site) -> None:
    write_folder(site.folder / "shop", 200)
    settings = Settings(broker_url=site.env["TAGMILL_BROKER_URL"])
    app = make_app(settings)
    site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 10)
    assert waiting(app, settings.queue) == 20


def test_a_message_of_an_unknown_run_or_a_foreign_batch_is_refused(site: Site) -> None:
    write_folder(site.folder / "shop", 4)
    settings = Settings(broker_url=site.env["TAGMILL_BROKER_URL"])
    app = make_app(settings)
    other = site.env | {"TAGMILL_QUEUE": "other"}
    elsewhere = tagmill_json("submit", site.folder / "shop", "--model", "colors", env=other)["run"]
    run = site.submit(site.folder / "shop", "--model", "colors")["run"]
    (theirs,), (ours,) = (site.values(f"SELECT id FROM batch WHERE run_id = {number}") for number in (elsewhere, run))
    # an unknown run, an unknown batch, a batch of another run, and one of another queue
    publish(app, [(999, ours), (run, 999), (run, theirs), (elsewhere, theirs)])
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        site.wait_done(run)
        wait_until(lambda: waiting(app, settings.queue) == 0, 60, "the messages to be refused")
        assert "no such batch in queue tagmill" in worker.log
    assert site.count("SELECT count(*) FROM batch WHERE status = 'queued'") == 1


def test_an_image_that_the_model_fails_on_is_found_and_the_rest_of_its_batch_is_tagged(site: Site) -> None:
    tagmill("model", "add", write_fussy_classifier(site.folder / "fussy.onnx"), env=site.env)
    truth = write_folder(site.folder / "shop", 30)
    Image.new("RGB", (20, 20), (77, 0, 0)).save(site.folder / "shop" / "bad.png")
    with Worker.bare(site.env, site.folder / "worker.log"):
        done = site.submit(site.folder / "shop", "--model", "fussy", "--wait", expect=3)
    assert done["failures"] == {"inference_failed": 1}
    assert {
        row["image_key"]: row["fussy.label"] for row in site.rows(done["run"]) if row["status"] == "tagged"
    } == truth


def test_a_file_outside_the_named_folders_is_refused(site: Site) -> None:
    write_folder(site.folder / "shop", 2)
    secret = write_image(site.folder / "private" / "secret.png", "red")
    manifest = site.folder / "shop" / "manifest.csv"
    manifest.write_text(f"image_key,uri\na,00000.png\nb,{secret}\nc,../private/secret.png\n")
    with Worker.bare(site.env, site.folder / "worker.log"):
        refused = site.submit(manifest, "--model", "colors", "--wait", expect=3)
        assert refused["failures"] == {"forbidden_location": 2}
        allowed = site.submit(manifest, "--model", "colors", "--allow-root", site.folder / "private", "--wait")
        assert allowed["tagged"] == 3


def test_asking_for_cuda_without_a_gpu_is_an_error(site: Site) -> None:
    refused = tagmill("worker", "start", "--device", "cuda:0", env=site.env, expect=78)
    assert logged_error(refused.stderr.splitlines()[-1]).startswith("error: device cuda:0")
    with Worker.bare(site.env | {"TAGMILL_DEVICE": "cuda:0"}, site.folder / "worker.log") as worker:
        assert worker.process.wait(60) == 78
        assert "Traceback" not in worker.log


def test_two_workers_share_a_run(site: Site) -> None:
    write_folder(site.folder / "shop", 900)
    with (
        Worker.bare(site.env, site.folder / "one.log", "one") as one,
        Worker.bare(site.env, site.folder / "two.log", "two") as two,
    ):
        one.wait_ready()
        two.wait_ready()
        time.sleep(0.5)
        site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 3, "--wait")
        assert one.log.count("batch_tagged") >= 5
        assert two.log.count("batch_tagged") >= 5
