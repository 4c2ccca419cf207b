"""The price of a run follows from what it took and the prices of the settings."""

from dataclasses import replace

import pytest

from tagmill.errors import ConfigurationError
from tagmill.ledger.runs.cost import run_cost
from tagmill.ledger.runs.progress import RunProgress
from tagmill.settings import Settings, load_settings

RUN = RunProgress(
    run=1,
    source="catalog",
    queue="tagmill",
    cancelled=False,
    models=("a@1",),
    created_at=0.0,
    images=3000,
    tagged=1900,
    failed=100,
    failures={"not_found": 100},
    batches={"queued": 1, "running": 0, "cancelled": 0, "done": 2, "dead": 0},
    batch_errors=(),
    inferences=1900,
    started_at=100.0,
    finished_at=150.0,
    read_at=200.0,
    images_per_second=40.0,
    workers_waiting=0,
    cpu_seconds=7200.0,
    gpu_seconds=1800.0,
)


@pytest.mark.parametrize(("cpu", "gpu", "price"), [
    (None, None, None),
    (0.05, None, None),  # half of the price would mislead
    (None, 2.0, None),
    (0.05, 2.0, 1.1),
    (0.0, 2.0, 1.0),
])  # fmt: skip
def test_the_price_of_a_run_needs_the_price_of_everything_that_it_took(
    cpu: float | None, gpu: float | None, price: float | None
) -> None:
    cost = run_cost(RUN, Settings(price_cpu_hour=cpu, price_gpu_hour=gpu))
    assert cost.price == (price and pytest.approx(price))
    assert cost.price_per_1000_images == (price and pytest.approx(price / 2))
    assert (cost.images, cost.overall_images_per_second) == (2000, 20.0)


def test_a_run_without_gpu_time_needs_the_price_of_a_core_alone() -> None:
    cost = run_cost(replace(RUN, gpu_seconds=0.0), Settings(price_cpu_hour=0.05))
    assert cost.to_json() == {"overall_images_per_second": 20.0, "price": 0.1, "price_per_1000_images": 0.05}


def test_a_run_without_an_outcome_has_no_price_for_1000_images() -> None:
    waiting = replace(RUN, tagged=0, failed=0, started_at=None, cpu_seconds=0.0, gpu_seconds=0.0)
    cost = run_cost(waiting, Settings(price_cpu_hour=0.05))
    assert (cost.price, cost.price_per_1000_images, cost.overall_images_per_second) == (0.0, None, 0.0)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "5 cents"])
def test_a_price_that_is_no_number_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TAGMILL_PRICE_CPU_HOUR", value)
    with pytest.raises(ConfigurationError, match="TAGMILL_PRICE_CPU_HOUR"):
        load_settings()
