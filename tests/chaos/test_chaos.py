"""Real workers on real servers, killed, stopped and frozen at random times: each image is tagged once."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos.audit import audit_run
from chaos.catalog import Catalog, add_poison_image, draw_catalog, sample_catalog
from chaos.cluster import Services
from chaos.display import Display
from chaos.experiment import Setup, TaggedCatalog, tag_catalog
from chaos.injection import Fault, InjectedFault, draw_plan
from chaos.journal import Step, install_journal, recovery_seconds
from sqlalchemy import Engine, text
from support.bundles import write_classifier
from support.ledger import digest

from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import BatchStatus
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import register
from tagmill.tasks.classify import CLASSIFY

#: short, so that a test does not wait long for a lease
SETTINGS = {"lease_seconds": 3, "reap_seconds": 0.5, "queued_grace_seconds": 2, "decode_threads": 2}


@dataclass(frozen=True)
class Shop:
    """A catalog, what tags it, and its results without faults."""

    setup: Setup
    catalog: Catalog
    services: Services
    undisturbed: TaggedCatalog


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    catalog = draw_catalog(folder / "catalog", 240, seed=7)
    setup = Setup(write_classifier(folder / "colors.onnx"), 2, batch_size=4, settings=SETTINGS, delay_per_image=0.03)
    with Services() as services:
        undisturbed = tag_catalog(setup, catalog, services, folder / "undisturbed", Display())
        assert undisturbed.audit.tagged == 240
        yield Shop(setup, catalog, services, undisturbed)


def tag_disturbed(shop: Shop, folder: Path, faults: dict[Fault, int], catalog: Catalog | None = None) -> TaggedCatalog:
    found = tag_catalog(shop.setup, catalog or shop.catalog, shop.services, folder / "run", Display(), faults, seed=7)
    assert Counter(hit.fault for hit in found.injected) == faults
    assert (found.audit.lost, found.audit.doubled) == (0, 0)
    return found


def test_killed_workers_and_an_emptied_redis_lose_nothing_and_write_nothing_twice(shop: Shop, tmp_path: Path) -> None:
    disturbed = tag_disturbed(shop, tmp_path, {Fault.KILL_WORKER: 2, Fault.KILL_BOTH: 1, Fault.EMPTY_REDIS: 1})
    assert disturbed.results.read_bytes() == shop.undisturbed.results.read_bytes()
    assert len(disturbed.audit.recoveries) == 3
    assert not any(math.isinf(found.seconds) for found in disturbed.audit.recoveries)


def test_restarts_of_postgresql_and_redis_with_a_poison_image_fail_only_that_image(shop: Shop, tmp_path: Path) -> None:
    catalog = add_poison_image(shop.catalog, seed=7)
    disturbed = tag_disturbed(
        shop, tmp_path, {Fault.RESTART_DATABASE: 1, Fault.RESTART_REDIS: 1, Fault.TERMINATE: 1}, catalog
    )
    assert disturbed.audit.failures == {ErrorCode.CRASHED_WORKER: 1}
    place = catalog.images.index(catalog.manifest.with_name("poison.jpg"))
    rows, undisturbed_rows = (found.results.read_text().splitlines() for found in (disturbed, shop.undisturbed))
    assert rows[:place] + rows[place + 1 :] == undisturbed_rows[:place] + undisturbed_rows[place + 1 :]


def test_a_worker_that_continues_after_its_lease_writes_nothing_twice(shop: Shop, tmp_path: Path) -> None:
    disturbed = tag_disturbed(shop, tmp_path, {Fault.FREEZE: 1})
    assert disturbed.results.read_bytes() == shop.undisturbed.results.read_bytes()
    assert disturbed.audit.redone > 0
    assert any('"action": "batch_lost"' in path.read_text() for path in (tmp_path / "run").glob("*.log"))


def test_a_catalog_that_is_gone_for_a_while_costs_no_image_its_outcome(shop: Shop, tmp_path: Path) -> None:
    disturbed = tag_disturbed(shop, tmp_path, {Fault.UNMOUNT: 1, Fault.KILL_WORKER: 1})
    assert disturbed.results.read_bytes() == shop.undisturbed.results.read_bytes()
    assert any('"action": "worker_unfit"' in path.read_text() for path in (tmp_path / "run").glob("*.log"))


def test_the_same_seed_gives_the_same_catalog_and_the_same_faults(tmp_path: Path) -> None:
    one, two = (add_poison_image(draw_catalog(tmp_path / name, 20, 5), 5) for name in ("one", "two"))
    contents = [[path.read_bytes() for path in catalog.images] for catalog in (one, two)]
    assert contents[0] == contents[1]
    assert len(set(contents[0])) == 20
    faults = {Fault.KILL_WORKER: 5, Fault.EMPTY_REDIS: 2}
    plan = draw_plan(1000, faults, 5)
    assert plan == draw_plan(1000, faults, 5) != draw_plan(1000, faults, 6)
    assert plan == sorted(plan, key=lambda planned: planned[0])
    assert Counter(fault for _, fault in plan) == faults


def test_each_image_of_a_folder_is_taken_once(tmp_path: Path) -> None:
    draw_catalog(tmp_path / "drawn", 30, 1)
    catalog = sample_catalog(tmp_path / "catalog", 10, 1, tmp_path / "drawn")
    assert len(set(catalog.images)) == 10
    assert len(catalog.manifest.read_text().splitlines()) == 11
    with pytest.raises(SystemExit, match="30 JPEG images, 31 are needed"):
        sample_catalog(tmp_path / "more", 31, 1, tmp_path / "drawn")


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """An engine on a new PostgreSQL database with a journal."""
    engine = connect(postgres_url)
    upgrade(engine)
    install_journal(engine)
    yield engine
    engine.dispose()


def tagged_run(engine: Engine) -> int:
    """Tag four images in two batches. The second is claimed by a worker that dies, then by another."""
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red",), PreprocessSpec(8, 8)), "f" * 64)
    entries = [Entry(f"key-{number}", f"/{number}.jpg") for number in range(4)]
    run = create_run(engine, "test", entries, [model], [], 2, "tagmill")
    with engine.connect() as connection:
        first, second = connection.execute(text("SELECT id FROM batch ORDER BY seq")).scalars()
    assert leases.claim(engine, run, second, "tagmill", Lease("dead:1", -1.0, 3))
    for number in (first, second):
        claimed = leases.claim(engine, run, number, "tagmill", Lease(f"alive:{number}", 30.0, 3))
        assert claimed is not None
        shas = {entry.position: digest(entry.position) for entry in claimed.images}
        result = BatchResult(
            [Outcome(position, sha256) for position, sha256 in shas.items()],
            [ImageRow(sha256, 8, 8, "JPEG", 100) for sha256 in shas.values()],
            [InferenceRow(sha256, model.sha256, "CPU", (("red", 1.0),), ()) for sha256 in shas.values()],
        )
        assert complete(engine, claimed, result, "alive")
    return run


def test_the_audit_of_a_good_run_is_clean(engine: Engine) -> None:
    found = audit_run(engine, tagged_run(engine), 4)
    assert (found.images, found.tagged, found.lost, found.doubled, found.redone) == (4, 4, 0, 0, 2)


TWICE_INFERRED = (
    "ALTER TABLE result DROP CONSTRAINT pk_result; INSERT INTO result SELECT * FROM result WHERE image_id = 1"
)
#: the bytes of image 1 under a second id, with a result of its own
TWICE_HASHED = """
DROP INDEX uq_image_content_sha256;
INSERT INTO image_content (id, sha256, width, height, format, bytes)
SELECT 100, sha256, width, height, format, bytes FROM image_content WHERE id = 1;
INSERT INTO result (image_id, model_id, provider_id, batch_id, created_at, worker_id)
SELECT 100, model_id, provider_id, batch_id, created_at, worker_id FROM result WHERE image_id = 1
"""
OUTCOME_TAKEN_BACK = """
CREATE TEMPORARY TABLE kept AS SELECT * FROM batch_outcome WHERE batch_id = 1;
DELETE FROM batch_outcome WHERE batch_id = 1;
INSERT INTO batch_outcome SELECT * FROM kept
"""
FAILED_TOO = "INSERT INTO image_failure (run_id, position, batch_id, error_code) VALUES (1, 2, 2, 'truncated')"
TAGGED_AGAIN = """
INSERT INTO batch (run_id, seq, queue, status, attempts, first_position, last_position)
VALUES (1, 2, 'tagmill', 'done', 1, 0, 1);
INSERT INTO batch_outcome SELECT max(id), ARRAY[1, 2] FROM batch
"""
FURTHER = """
INSERT INTO further_label (image_id, model_id, rank, label_id, score) SELECT image_id, model_id, {}, 0.1 FROM result
"""
MASKS = """
INSERT INTO result_mask (image_id, model_id, label_id, area_share, box_left, box_top, box_right, box_bottom, score,
    height, width, rle)
SELECT 1, 1, 1, 0.5, 0, 0, 1, 1, 0.9, 8, 8, '' FROM generate_series(1, {})
"""
SHOWN_TWICE = """
INSERT INTO catalog_entry (image_key, name_id, place, run_id, position, image_id, model_id, changed_at)
SELECT image_key, name_id, 1, run_id, position, image_id, model_id, changed_at FROM catalog_entry
"""


@pytest.mark.parametrize(
    ("damage", "lost", "doubled"),
    [
        # what is lost: an outcome, an entry, an image, results, a row of the catalog
        ("UPDATE batch_outcome SET image_ids[1] = NULL WHERE batch_id = 2", 1, 2),  # and it is still shown
        ("DELETE FROM batch_outcome WHERE batch_id = 2", 2, 3),
        ("DELETE FROM entry WHERE position = 2", 1, 2),
        ("DELETE FROM image_content WHERE id = 1", 1, 1),
        ("DELETE FROM result", 4, 4),
        ("TRUNCATE result", 4, 0),
        ("DELETE FROM catalog_entry WHERE position = 2", 1, 0),
        # what is there twice: an outcome, a result, a label, a rank, a mask, a finished batch, a row of the catalog
        ("UPDATE batch_outcome SET image_ids = image_ids WHERE batch_id = 2", 0, 1),
        (OUTCOME_TAKEN_BACK, 0, 1),
        (f"{FAILED_TOO}; UPDATE image_failure SET error_code = 'corrupt'", 0, 2),
        (FAILED_TOO, 0, 1),
        (TAGGED_AGAIN, 0, 2),
        ("UPDATE entry SET uri = 'other' WHERE position = 2", 0, 1),
        (TWICE_INFERRED, 0, 3),
        (TWICE_HASHED, 0, 1),
        (FURTHER.format("6, label_1"), 0, 4),
        (FURTHER.format("1, label_1 + 1"), 0, 4),
        ("UPDATE result SET score_1 = 0.5 WHERE image_id = 1", 0, 1),
        (MASKS.format(2), 0, 1),
        (MASKS.format(1), 0, 0),
        ("UPDATE batch SET status = 'running'; UPDATE batch SET status = 'done'", 0, 2),
        ("UPDATE catalog_entry SET image_id = 3 WHERE position = 0", 1, 1),
        ("UPDATE catalog_entry SET run_id = 2", 4, 4),
        (SHOWN_TWICE, 0, 4),
    ],
)
def test_the_audit_counts_what_is_lost_or_stored_twice(engine: Engine, damage: str, lost: int, doubled: int) -> None:
    run = tagged_run(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(damage)
    found = audit_run(engine, run, 4)
    assert (found.lost, found.doubled) == (lost, doubled)


def test_a_recovery_lasts_from_the_kill_until_the_batch_is_claimed_again() -> None:
    running, queued, done = BatchStatus.RUNNING, BatchStatus.QUEUED, BatchStatus.DONE
    steps = [Step(10.0, running, "dead:1"), Step(13.0, queued, None), Step(15.5, running, "alive:1")]
    assert recovery_seconds(steps, "dead", 11.0) == 4.5
    assert recovery_seconds(steps, "alive", 11.0) is None
    assert recovery_seconds(steps[:2], "dead", 11.0) == float("inf")
    assert recovery_seconds([steps[0], Step(11.2, done, None)], "dead", 11.0) is None


def test_a_process_killed_with_two_batches_has_recovered_when_the_second_runs_again(engine: Engine) -> None:
    run = tagged_run(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "TRUNCATE chaos_step; INSERT INTO chaos_step (at, batch_id, status, owner) VALUES "
            "(100, 1, 'running', 'p:1'), (100, 2, 'running', 'p:2'), "
            "(104, 1, 'running', 'q:1'), (107, 2, 'running', 'q:2')"
        )
    kill = InjectedFault(Fault.KILL_WORKER, 101.0, "worker1", "p")
    found = audit_run(engine, run, 4, [kill])
    assert [(hit.batches, hit.seconds, hit.outage) for hit in found.recoveries] == [(2, 6.0, False)]
    assert (found.worst_recovery(outage=False), found.worst_recovery(outage=True)) == (6.0, 0.0)


@pytest.mark.parametrize(
    ("down", "back", "outage"), [(90, 100, False), (90, 102, True), (106, 109, True), (108, 109, False)]
)
def test_a_recovery_while_a_service_was_down_is_marked_as_an_outage(
    engine: Engine, down: float, back: float, outage: bool
) -> None:
    run = tagged_run(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "TRUNCATE chaos_step; INSERT INTO chaos_step (at, batch_id, status, owner) VALUES "
            "(100, 1, 'running', 'p:1'), (107, 1, 'running', 'q:1')"
        )
    kill = InjectedFault(Fault.KILL_WORKER, 101.0, "worker1", "p")
    outage_fault = InjectedFault(Fault.EMPTY_REDIS, down, back=back)
    assert [hit.outage for hit in audit_run(engine, run, 4, [kill, outage_fault]).recoveries] == [outage]
