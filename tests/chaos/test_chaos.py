"""Real workers on real servers, killed, stopped and frozen at random moments: every image is there, once, as ever."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos.account import settle
from chaos.catalog import Catalog, chosen_catalog, drawn_catalog, poisoned
from chaos.cluster import Services
from chaos.display import Display
from chaos.experiment import Setup, Tagged, tag_catalog
from chaos.injection import Fault, Injected, draw_plan
from chaos.journal import Step, keep_journal, recovery
from sqlalchemy import Engine, text
from support.bundles import write_classifier

from tagmill.bundles.spec import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import BatchStatus
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger import leases
from tagmill.ledger.complete import complete
from tagmill.ledger.leases import Lease
from tagmill.ledger.runs import create_run
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import register
from tagmill.tasks.classify import CLASSIFY

#: short, so that a test need not wait for a lease
SETTINGS = {"lease_seconds": 3, "reap_seconds": 0.5, "queued_grace_seconds": 2, "decode_threads": 2}


@dataclass(frozen=True)
class Shop:
    """A catalog, what tags it, and the results that it has if nothing disturbs them."""

    setup: Setup
    catalog: Catalog
    services: Services
    calm: Tagged


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    catalog = drawn_catalog(folder / "catalog", 240, seed=7)
    setup = Setup(write_classifier(folder / "colors.onnx"), 2, batch_size=4, settings=SETTINGS, slowness=0.03)
    with Services() as services:
        calm = tag_catalog(setup, catalog, services, folder / "undisturbed", Display())
        assert calm.account.tagged == 240
        yield Shop(setup, catalog, services, calm)


def disturbed(shop: Shop, folder: Path, faults: dict[Fault, int], catalog: Catalog | None = None) -> Tagged:
    found = tag_catalog(shop.setup, catalog or shop.catalog, shop.services, folder / "run", Display(), faults, seed=7)
    assert Counter(hit.fault for hit in found.injected) == faults
    assert (found.account.lost, found.account.doubled) == (0, 0)
    return found


def test_workers_killed_and_redis_emptied_lose_nothing_and_write_nothing_twice(shop: Shop, tmp_path: Path) -> None:
    wild = disturbed(shop, tmp_path, {Fault.KILL_WORKER: 2, Fault.KILL_BOTH: 1, Fault.EMPTY_REDIS: 1})
    assert wild.results.read_bytes() == shop.calm.results.read_bytes()
    assert len(wild.account.recoveries) == 3
    assert not any(math.isinf(found.seconds) for found in wild.account.recoveries)


def test_postgresql_and_redis_restarted_beside_a_poison_image_cost_that_image_alone(shop: Shop, tmp_path: Path) -> None:
    catalog = poisoned(shop.catalog, seed=7)
    wild = disturbed(shop, tmp_path, {Fault.RESTART_DATABASE: 1, Fault.RESTART_REDIS: 1, Fault.TERMINATE: 1}, catalog)
    assert wild.account.failures == {ErrorCode.CRASHED_WORKER: 1}
    place = catalog.pictures.index(catalog.manifest.with_name("poison.jpg"))
    rows, calm_rows = (found.results.read_text().splitlines() for found in (wild, shop.calm))
    assert rows[:place] + rows[place + 1 :] == calm_rows[:place] + calm_rows[place + 1 :]


def test_a_worker_that_wakes_up_after_its_lease_writes_nothing_twice(shop: Shop, tmp_path: Path) -> None:
    wild = disturbed(shop, tmp_path, {Fault.FREEZE: 1})
    assert wild.results.read_bytes() == shop.calm.results.read_bytes()
    assert wild.account.redone > 0
    assert any('"action": "batch_lost"' in path.read_text() for path in (tmp_path / "run").glob("*.log"))


def test_the_same_seed_gives_the_same_catalog_and_the_same_faults(tmp_path: Path) -> None:
    one, two = (poisoned(drawn_catalog(tmp_path / name, 20, 5), 5) for name in ("one", "two"))
    pictures = [[path.read_bytes() for path in catalog.pictures] for catalog in (one, two)]
    assert pictures[0] == pictures[1]
    assert len(set(pictures[0])) == 20
    faults = {Fault.KILL_WORKER: 5, Fault.EMPTY_REDIS: 2}
    plan = draw_plan(1000, faults, 5)
    assert plan == draw_plan(1000, faults, 5) != draw_plan(1000, faults, 6)
    assert plan == sorted(plan, key=lambda planned: planned[0])
    assert Counter(fault for _, fault in plan) == faults


def test_images_of_a_folder_are_taken_each_once(tmp_path: Path) -> None:
    drawn_catalog(tmp_path / "drawn", 30, 1)
    catalog = chosen_catalog(tmp_path / "catalog", 10, 1, tmp_path / "drawn")
    assert len(set(catalog.pictures)) == 10
    assert len(catalog.manifest.read_text().splitlines()) == 11
    with pytest.raises(SystemExit, match="30 JPEG images, 31 are needed"):
        chosen_catalog(tmp_path / "more", 31, 1, tmp_path / "drawn")


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """An engine on a new PostgreSQL database that keeps the journal."""
    engine = connect(postgres_url)
    upgrade(engine)
    keep_journal(engine)
    yield engine
    engine.dispose()


def tagged_run(engine: Engine) -> int:
    """Tag four images in two batches; the second is claimed by a worker that dies, then by another."""
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red",), PreprocessSpec(8, 8)), "f" * 64)
    entries = [Entry(f"key-{number}", f"/{number}.jpg") for number in range(4)]
    run = create_run(engine, "test", entries, [model], [], 2, "tagmill")
    with engine.connect() as connection:
        first, second = connection.execute(text("SELECT id FROM batch ORDER BY seq")).scalars()
    assert leases.claim(engine, run, second, "tagmill", Lease("dead:1", -1.0, 3))
    for number in (first, second):
        claimed = leases.claim(engine, run, number, "tagmill", Lease(f"alive:{number}", 30.0, 3))
        assert claimed is not None
        shas = {entry.position: f"{entry.position:064d}" for entry in claimed.images}
        result = BatchResult(
            [Outcome(position, sha256) for position, sha256 in shas.items()],
            [ImageRow(sha256, 8, 8, "JPEG", 100) for sha256 in shas.values()],
            [InferenceRow(sha256, model.sha256, "CPU", (("red", 1.0),), ()) for sha256 in shas.values()],
        )
        assert complete(engine, claimed, result, "alive")
    return run


def test_the_account_of_a_good_run_is_clean(engine: Engine) -> None:
    found = settle(engine, tagged_run(engine), 4)
    assert (found.images, found.tagged, found.lost, found.doubled, found.redone) == (4, 4, 0, 0, 2)


TWICE_INFERRED = """
ALTER TABLE inference DROP CONSTRAINT uq_inference_image_sha256_model_sha256;
INSERT INTO inference SELECT id + 100, image_sha256, model_sha256, batch_id, provider, worker, 0
FROM inference WHERE id = 1
"""


@pytest.mark.parametrize(
    ("damage", "lost", "doubled"),
    [
        ("UPDATE run_image SET status = 'pending' WHERE position = 2", 1, 1),
        ("DELETE FROM run_image WHERE position = 2", 1, 0),
        ("DELETE FROM label; DELETE FROM inference", 4, 0),
        ("UPDATE run_image SET status = 'failed' WHERE position = 2", 0, 1),
        ("INSERT INTO label SELECT inference_id, 2, label, score FROM label", 0, 4),
        ("UPDATE batch SET status = 'running'; UPDATE batch SET status = 'done'", 0, 2),
        (TWICE_INFERRED, 0, 1),
    ],
)
def test_the_account_sees_what_is_lost_or_doubled(engine: Engine, damage: str, lost: int, doubled: int) -> None:
    run = tagged_run(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(damage)
    found = settle(engine, run, 4)
    assert (found.lost, found.doubled) == (lost, doubled)


def test_a_recovery_lasts_from_the_kill_until_the_batch_is_claimed_again() -> None:
    running, queued, done = BatchStatus.RUNNING, BatchStatus.QUEUED, BatchStatus.DONE
    steps = [Step(10.0, running, "dead:1"), Step(13.0, queued, None), Step(15.5, running, "alive:1")]
    assert recovery(steps, "dead", 11.0) == 4.5
    assert recovery(steps, "alive", 11.0) is None
    assert recovery(steps[:2], "dead", 11.0) == float("inf")
    assert recovery([steps[0], Step(11.2, done, None)], "dead", 11.0) is None


def test_a_process_killed_with_two_batches_in_hand_has_recovered_with_the_second(engine: Engine) -> None:
    run = tagged_run(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "TRUNCATE chaos_step; INSERT INTO chaos_step (at, batch_id, status, owner) VALUES "
            "(100, 1, 'running', 'p:1'), (100, 2, 'running', 'p:2'), "
            "(104, 1, 'running', 'q:1'), (107, 2, 'running', 'q:2')"
        )
    kill = Injected(Fault.KILL_WORKER, 101.0, "worker1", "p")
    found = settle(engine, run, 4, [kill])
    assert [(hit.batches, hit.seconds, hit.outage) for hit in found.recoveries] == [(2, 6.0, False)]
    assert (found.worst_recovery(outage=False), found.worst_recovery(outage=True)) == (6.0, 0.0)


@pytest.mark.parametrize(
    ("away", "back", "outage"), [(90, 100, False), (90, 102, True), (106, 109, True), (108, 109, False)]
)
def test_a_recovery_while_a_service_was_away_is_known_as_one(
    engine: Engine, away: float, back: float, outage: bool
) -> None:
    run = tagged_run(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "TRUNCATE chaos_step; INSERT INTO chaos_step (at, batch_id, status, owner) VALUES "
            "(100, 1, 'running', 'p:1'), (107, 1, 'running', 'q:1')"
        )
    kill, gone = Injected(Fault.KILL_WORKER, 101.0, "worker1", "p"), Injected(Fault.EMPTY_REDIS, away, back=back)
    assert [hit.outage for hit in settle(engine, run, 4, [kill, gone]).recoveries] == [outage]
