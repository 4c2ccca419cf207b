"""Clock, cache folder and memory of a worker."""

from pathlib import Path

import pytest

from tagmill.settings import Settings
from worker.health.checks import cache_fault, clock_fault, memory_fault


@pytest.mark.parametrize(
    ("database", "said"),
    [(1000.0, ""), (1290.0, ""), (740.0, ""), (1400.0, "behind the database's"), (600.0, "ahead of the database's")],
)
def test_a_clock_may_be_five_minutes_off(database: float, said: str) -> None:
    found = clock_fault(1000.0, database, 1000.1)
    assert (said in found.detail) if said else (found is None), found


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert clock_fault(1000.0, 1500.0, 2000.0) is None


def test_the_cache_folder_must_be_writable_where_the_device_builds_engines(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for device in ("cpu", "auto", "cuda:0", "openvino"):
        assert cache_fault(Settings(device=device, cache_folder=tmp_path / "file")) is None
    found = cache_fault(Settings(device="tensorrt:0", cache_folder=tmp_path / "file"))
    assert found is not None
    assert "Not a directory; set TAGMILL_CACHE_FOLDER to a folder that can be written to" in found.detail
    assert cache_fault(Settings(device="tensorrt:0", cache_folder=tmp_path / "new")) is None
    assert list((tmp_path / "new" / "tensorrt").iterdir()) == []


def test_a_limit_below_what_the_process_holds_is_a_fault() -> None:
    found = memory_fault(Settings(max_worker_memory=2**20))
    assert found is not None
    assert found.detail.startswith("1 MB do not hold a worker without a model; raise TAGMILL_MAX_WORKER_MEMORY")
    assert memory_fault(Settings()) is None
