"""What is counted of batches that fail, are taken over, wait, or run in a process of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text
from support.bundles import write_classifier
from support.image_fixtures import write_folder
from support.shop import Shop

from tagmill.broker.message import BatchMessage
from tagmill.ledger import complete as complete_module
from tagmill.ledger.batches.leases import Claim, PinnedModel
from tagmill.ledger.trials import Trial
from tagmill.records import BatchResult, Entry, InferenceRow, Outcome
from tagmill.registry.rollout.running import Rollout, RolloutKind
from worker.batch import BatchFailedError
from worker.probes.batch_metrics import BatchMetrics

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Value = Callable[..., float]


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where the metrics of the test are."""
    return CollectorRegistry()


@pytest.fixture
def counted(engine: Engine, tmp_path: Path, registry: CollectorRegistry) -> Iterator[Shop]:
    """A worker in this process that counts, and a folder of 12 images."""
    write_folder(tmp_path / "shop", 12)
    bundle = write_classifier(tmp_path / "colors.onnx")
    shop = Shop(engine, tmp_path / "shop", bundle, metrics=BatchMetrics(registry))
    yield shop
    shop.batches.close()


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """Return what reads a sample; 0 if there is none."""
    return lambda name, **labels: registry.get_sample_value(f"tagmill_{name}", labels) or 0.0


def change(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_an_attempt_that_fails_is_a_retry_and_its_images_count_once(
    counted: Shop, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(sha256: str, name: str) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(counted.batches.tagger.sessions, "get", fail)
        with pytest.raises(BatchFailedError):
            counted.tag()
    assert value("retries_total", reason="failed") == 1
    assert value("images_total", model="colors@1", status="tagged") == 0
    assert counted.batches._metrics is not None
    assert counted.batches._metrics.in_work() == (0, 0)
    change(counted.engine, "UPDATE batch SET not_before = 0")
    counted.batches.process(BatchMessage(1, 1))
    counted.batches.process(BatchMessage(1, 1))  # a message that came twice
    assert value("images_total", model="colors@1", status="tagged") == 12
    assert [value("stage_duration_seconds_count", stage=stage) for stage in ("queue", "infer", "write")] == [1, 1, 1]


def test_a_batch_that_was_taken_over_counts_as_a_lost_lease_alone(
    counted: Shop, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = complete_module.complete

    def late(engine: Engine, *given: Any) -> bool:
        change(engine, "UPDATE batch SET owner = 'another'")
        return complete(engine, *given)

    monkeypatch.setattr(complete_module, "complete", late)
    counted.tag()
    assert (value("leases_lost_total"), value("batch_images_count")) == (1, 0)
    assert value("images_total", model="colors@1", status="tagged") == 0
    assert value("retries_total", reason="failed") == 0


def test_known_and_repeated_images_and_those_of_a_suspect_batch_count_as_tagged(counted: Shop, value: Value) -> None:
    counted.tag()
    same = [Entry(f"key-{number}", str(counted.folder / "00000.png")) for number in range(3)]
    counted.tag(same)  # a batch of the first one, and a batch of those that repeat it
    assert value("images_total", model="colors@1", status="tagged") == 15
    assert [value("stage_duration_seconds_count", stage=stage) for stage in ("infer", "write")] == [1, 3]
    write_folder(counted.folder, 14)
    change(
        counted.engine,
        "CREATE TRIGGER suspect AFTER INSERT ON batch BEGIN UPDATE batch SET crashes = 2 WHERE id = new.id; END",
    )
    counted.tag()
    assert value("images_total", model="colors@1", status="tagged") == 29
    assert [value("stage_duration_seconds_count", stage=stage) for stage in ("infer", "write")] == [1, 4]


def test_what_a_shadow_inferred_counts_for_it(counted: Shop, value: Value) -> None:
    found = counted.batches._metrics
    assert found is not None
    rollout = Rollout(RolloutKind.SHADOW, 2, "b" * 64, "colors", 1, 2, 0.5, None, 0.0)
    claimed = Claim(
        *(1, 1, "token", 1, False, (), (PinnedModel(1, "colors@1", "a" * 64, 1, 0),), ()),
        trials=(Trial(rollout, {0: 0.1}),),
    )
    rows = [InferenceRow("c" * 64, sha256, "CPU", (), ()) for sha256 in ("a" * 64, "b" * 64)]
    with found.batch(claimed):
        found.done(claimed, BatchResult([Outcome(at, sha256="c" * 64) for at in range(2)], [], rows), True, {})
    assert [value("images_total", model=f"colors@{version}", status="tagged") for version in (1, 2)] == [2, 1]
    assert found.models["b" * 64] == "colors@2"
