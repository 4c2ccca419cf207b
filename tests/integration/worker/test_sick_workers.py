"""Workers that lack a folder, a bundle or something else: their faults cost no image its outcome."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, tagmill, wait_until

from tagmill.db.connection import connect
from tagmill.ledger.runs.progress import run_progress

Status = Callable[[object], dict[str, Any]]
Done = Callable[[object], dict[str, Any]]

COLORS = ("--model", "colors", "--batch-size", 3)


@pytest.fixture
def engine(site: Site) -> Iterator[Engine]:
    """An engine on the database of the site."""
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    yield engine
    engine.dispose()


@pytest.fixture
def status(engine: Engine) -> Status:
    """Return the progress of a run, as JSON values."""
    return lambda run: run_progress(engine, int(str(run))).to_json()


@pytest.fixture
def wait_done(status: Status) -> Done:
    """Return what waits for the end of a run and returns its progress."""

    def wait(run: object) -> dict[str, Any]:
        wait_until(lambda: status(run)["state"] == "done", 60, f"run {run} to be done")
        return status(run)

    return wait


def age_faults(engine: Engine, seconds: float) -> None:
    """Let what runs wait for have been missing for longer."""
    with engine.begin() as connection:
        changed = "since = since - :by, found_at = found_at - :by, held_until = held_until - :by"
        connection.execute(text(f"UPDATE run_fault SET {changed}"), {"by": seconds})
        connection.execute(text("UPDATE batch SET not_before = not_before - :by"), {"by": seconds})


def require_tagged_by_the_sound_one(site: Site, done: dict[str, Any], sick: Worker, images: int, reason: str) -> None:
    """Check that the sick worker cost nothing, said once what to do, and took no more than its first batches."""
    assert (done["tagged"], done["failed"]) == (images, 0)
    assert site.count("SELECT max(attempts) + max(crashes) FROM batch") == 1
    assert sick.log.count('"action": "worker_unfit"') == 1
    assert reason in sick.log
    assert sick.log.count("batch_given_back") <= 3
    assert "batch_failed" not in sick.log


def test_a_worker_without_the_model_store_costs_no_image_beside_a_sound_one(site: Site, wait_done: Done) -> None:
    write_folder(site.folder / "shop", 300)
    (site.folder / "unmounted").mkdir()
    env = site.env | {"TAGMILL_MODEL_STORE": str(site.folder / "unmounted")}
    with (
        Worker(env, site.folder / "sick.log") as sick,
        Worker.bare(site.env, site.folder / "sound.log", "sound") as sound,
    ):
        sick.wait_ready()
        sound.wait_ready()
        run = site.submit(site.folder / "shop", *COLORS)["run"]
        require_tagged_by_the_sound_one(site, wait_done(run), sick, 300, "share TAGMILL_MODEL_STORE with this worker")


def test_a_worker_without_the_catalog_costs_no_image_beside_a_sound_one(site: Site, wait_done: Done) -> None:
    shop = site.folder / "shop"
    write_folder(shop, 300)
    with (
        Worker.without(shop, site.env, site.folder / "sick.log") as sick,
        Worker.bare(site.env, site.folder / "sound.log", "sound") as sound,
    ):
        sick.wait_ready()
        sound.wait_ready()
        run = site.submit(shop, *COLORS)["run"]
        require_tagged_by_the_sound_one(site, wait_done(run), sick, 300, f"{shop}: is empty on this worker; mount it")


def test_with_sick_workers_alone_a_run_waits_says_why_and_goes_on_once_the_folder_is_back(
    site: Site, engine: Engine, status: Status, wait_done: Done
) -> None:
    shop, away = site.folder / "shop", site.folder / "away"
    write_folder(shop, 12)
    run = site.submit(shop, *COLORS)["run"]
    other = site.submit(write_other(site), *COLORS)["run"]
    shop.rename(away)
    with Worker(site.env, site.folder / "worker.log") as worker:
        wait_until(lambda: status(run)["unfit_workers"], 60, "the worker to be out")
        assert " ready." not in worker.log  # it was checked before it took a batch
        (out,), (lacking,) = status(run)["unfit_workers"], status(run)["waits_for"]
        assert (out["reason"], lacking["reason"], lacking["held_until"]) == ("folder", "folder", None)
        assert f"{shop}: there is no such folder on this worker" in out["detail"]
        assert "worker is out" in tagmill("run", "status", run, env=site.env).stdout
        age_faults(engine, 20)  # no worker says that it has it: other runs go on
        wait_done(other)
        wait_until(lambda: status(run)["waits_for"][0]["held_until"], 60, "the run to be held")
        assert (status(run)["failed"], status(run)["tagged"]) == (0, 0)
        away.rename(shop)
        wait_done(run)
        wait_until(lambda: "worker_fit" in worker.log, 60, "the worker to count as fit")
        assert worker.log.count('"action": "worker_unfit"') == 1
    assert status(run)["tagged"] == 12


def write_other(site: Site) -> Path:
    write_folder(site.folder / "other", 6)
    return site.folder / "other"


def test_a_folder_that_was_deleted_ends_as_not_found_when_it_was_waited_for(
    site: Site, engine: Engine, status: Status, wait_done: Done
) -> None:
    shop = site.folder / "shop"
    write_folder(shop, 12)
    run = site.submit(shop, *COLORS)["run"]
    shutil.rmtree(shop)
    with Worker(site.env, site.folder / "worker.log"):
        wait_until(lambda: status(run)["waits_for"], 60, "the worker to miss the folder")
        age_faults(engine, 20)
        wait_until(lambda: status(run)["waits_for"][0]["held_until"], 60, "the run to be held")
        age_faults(engine, 600)
        wait_done(run)
        assert status(run)["failures"] == {"not_found": 12}
        # Somebody brings it back: a retry begins anew.
        write_folder(shop, 12)
        tagmill("run", "retry", run, "--code", "not_found", env=site.env)
        wait_done(run)
    assert status(run)["tagged"] == 12


def test_a_deleted_file_and_a_deleted_subfolder_of_a_full_folder_are_not_found_at_once(
    site: Site, status: Status, wait_done: Done
) -> None:
    shop = site.folder / "shop"
    for name in ("hats", "shoes"):
        write_folder(shop / name, 9)
    run = site.submit(shop, *COLORS)["run"]
    (shop / "hats" / "00000.png").unlink()
    shutil.rmtree(shop / "shoes")
    with Worker.bare(site.env, site.folder / "worker.log") as worker:
        wait_done(run)
        assert "worker_unfit" not in worker.log
        assert "batch_given_back" not in worker.log
    done = status(run)
    assert (done["tagged"], done["failures"]) == (8, {"not_found": 10})


def test_a_bundle_that_is_damaged_for_all_workers_is_named_and_ends_in_dead_batches_in_the_end(
    site: Site, engine: Engine, status: Status, wait_done: Done
) -> None:
    write_folder(site.folder / "shop", 3)
    for bundle in (site.folder / "models").iterdir():
        bundle.write_bytes(bundle.read_bytes()[:-100])
    run = site.submit(site.folder / "shop", *COLORS)["run"]
    env = site.env | {"TAGMILL_MAX_ATTEMPTS": "1", "TAGMILL_HOLD_SECONDS": "0"}
    with Worker(env, site.folder / "worker.log"):
        wait_until(lambda: status(run)["waits_for"], 60, "the worker to miss the bundle")
        assert "sha256 differs from the registered one" in status(run)["waits_for"][0]["detail"]
        assert site.count("SELECT max(attempts) FROM batch") == 0
        age_faults(engine, 20)
        wait_done(run)
    assert status(run)["failures"] == {"batch_dead": 3}
    assert "add the model again" in tagmill("results", run, "--format", "jsonl", env=site.env).stdout


def test_plain_celery_ends_with_93_while_it_is_unfit(site: Site, wait_done: Done) -> None:
    write_folder(site.folder / "shop", 3)
    run = site.submit(site.folder / "shop", *COLORS)["run"]
    (site.folder / "models").rename(site.folder / "away")
    with Worker.bare(site.env, site.folder / "plain.log", "plain") as worker:
        assert worker.process.wait(60) == 93
        assert worker.log.count('"action": "worker_unfit"') == 1
        assert "Traceback" not in worker.log
    (site.folder / "away").rename(site.folder / "models")
    small = site.env | {"TAGMILL_MAX_WORKER_MEMORY": str(2**20)}
    with Worker.bare(small, site.folder / "small.log", "small") as worker:
        assert worker.process.wait(60) == 93
        assert "raise TAGMILL_MAX_WORKER_MEMORY" in worker.log
    with Worker.bare(site.env, site.folder / "plain.log", "plain"):
        wait_done(run)
    assert site.count("SELECT sum(attempts) FROM batch") == 1
