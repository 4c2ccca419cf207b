"""Images and models that kill their worker, block it or fill its memory: real workers that really die."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import support.faults.sitecustomize as faults
from PIL import Image
from support.bundles import BAD_RED, write_classifier, write_endless_classifier
from support.image_fixtures import write_folder, write_image
from support.installation import Site
from support.processes import TAGMILL, Worker, environment, tagmill, wait_until

from tagmill.settings import Settings

FAULTS = str(Path(faults.__file__).parent)
#: makes reading an image take 0.3 s; time during which the process is suspended does not count
SLOW = """
import hashlib, time
sha256 = hashlib.sha256

def slowly(data=b"", **options):
    for _ in range(30 * data.startswith(b"\\x89PNG")):
        time.sleep(0.01)
    return sha256(data, **options)

hashlib.sha256 = slowly
"""


def append_mark(image: Path, mark: bytes) -> None:
    with image.open("ab") as file:
        file.write(mark)


def faulty(site: Site, **settings: object) -> dict[str, str]:
    """Return the environment of a worker with the injected faults."""
    return (
        site.env | {"PYTHONPATH": FAULTS} | {f"TAGMILL_{name.upper()}": str(value) for name, value in settings.items()}
    )


@pytest.mark.parametrize("site", ["sqlite_url", "postgres_url"], indirect=True)
def test_an_image_that_kills_its_worker_is_found_and_fails_alone(site: Site) -> None:
    truth = write_folder(site.folder / "shop", 60)
    append_mark(site.folder / "shop" / "00030.png", faults.KILLS)
    # An hour: the batches of a dead worker do not wait for their leases.
    with Worker(faulty(site, lease_seconds=3600), site.folder / "worker.log") as worker:
        done = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4, "--wait", expect=3)
        assert worker.log.count('"action": "worker_ended"') == 2
        assert '"action": "batches_freed"' in worker.log
        assert "poison_found" in worker.log
    assert (done["tagged"], done["failures"]) == (59, {"crashed_worker": 1})
    del truth["00030.png"]
    assert {row["image_key"]: row["colors.label"] for row in site.rows(done["run"]) if row["colors.label"]} == truth
    # A death counts as a crash, not as an attempt: each batch has only its one completed attempt.
    assert set(site.values("SELECT attempts - crashes FROM batch")) == {1}
    assert site.count("SELECT max(crashes) FROM batch") == 2
    assert site.count("SELECT count(*) FROM batch WHERE status = 'done'") == 15


def test_by_default_a_lease_and_a_reaper_pass_take_less_than_fifteen_seconds() -> None:
    assert Settings().lease_seconds + Settings().reap_seconds <= 13


def test_a_stuck_image_times_out_and_its_worker_is_restarted(site: Site) -> None:
    write_folder(site.folder / "shop", 30)
    append_mark(site.folder / "shop" / "00007.png", faults.STICKS)
    with Worker(faulty(site, stall_seconds=4), site.folder / "worker.log") as worker:
        done = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4, "--wait", expect=3)
        assert (done["tagged"], done["failures"]) == (29, {"timed_out": 1})
        wait_until(lambda: worker.log.count(" ready.") == 2, 60, "the worker to be restarted")
        assert '"action": "worker_recycling", "reason": "stuck_thread"' in worker.log
    assert set(site.values("SELECT attempts FROM batch")) == {1}


def test_a_suspended_command_continues_and_fails_no_image(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    write_folder(tmp_path / "shop", 16)
    env = environment(database_url=sqlite_url, device="cpu", stall_seconds=4) | {"PYTHONPATH": str(tmp_path)}
    tagmill("db", "upgrade", env=env)
    bundle = write_classifier(tmp_path / "c.onnx")
    command = [TAGMILL, "tag", tmp_path / "shop", "--bundle", bundle, "--batch-size", "4", "--json"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = "SELECT count(*) FROM batch WHERE status = 'done'"
    wait_until(lambda: Site(env, tmp_path).count(done), 60, "the first batch")
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)  # longer than an image may take, and shorter than the leases
    process.send_signal(signal.SIGCONT)
    output, log = process.communicate(timeout=240)
    assert process.returncode == 0, output + log
    assert json.loads(output)["tagged"] == 16


def test_an_inference_that_does_not_end_is_cancelled_and_the_worker_survives(site: Site) -> None:
    tagmill("model", "add", write_endless_classifier(site.folder / "endless.onnx"), env=site.env)
    write_folder(site.folder / "shop", 20)
    Image.new("RGB", (20, 20), (BAD_RED, 0, 0)).save(site.folder / "shop" / "endless.png")
    with Worker.bare(site.env | {"TAGMILL_STALL_SECONDS": "2"}, site.folder / "worker.log") as worker:
        done = site.submit(site.folder / "shop", "--model", "endless", "--batch-size", 7, "--wait", expect=3)
        assert worker.log.count(" ready.") == 1
        assert "calls_cancelled" in worker.log
    assert (done["tagged"], done["failures"]) == (20, {"timed_out": 1})
    assert set(site.values("SELECT attempts FROM batch")) == {1}


def test_a_worker_over_its_memory_limit_is_restarted_between_batches(site: Site) -> None:
    write_folder(site.folder / "shop", 40)
    append_mark(write_image(site.folder / "shop" / "large.png", "red"), faults.FILLS)
    with Worker(faulty(site, max_worker_memory=400 * 2**20), site.folder / "worker.log") as worker:
        done = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4, "--wait")
        wait_until(lambda: worker.log.count(" ready.") == 2, 60, "the worker to be restarted")
        assert '"action": "worker_recycling", "reason": "memory"' in worker.log
    assert done["tagged"] == 41
    assert set(site.values("SELECT attempts FROM batch")) == {1}
