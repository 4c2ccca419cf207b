"""The benchmarks of the catalog views and of large submits find what they measure."""

from pathlib import Path

import pytest

from benchmarks.database import catalog
from benchmarks.producer import submit
from benchmarks.worker import waiting


def test_each_question_about_a_catalog_has_its_rows(postgres_url: str) -> None:
    measured = catalog.measure(postgres_url, keys=2000, runs=3, images=640, times=1)
    rows = {found.name: found.rows for found in measured}
    assert rows["one key"] == 5
    assert rows["one label, first 50"] <= 50
    assert 400 < rows["README's query, all rows"] < 900  # a third of them
    assert 20 < rows["changed since"] <= 4000
    assert rows["a run of 10,000 keys"] > 5 * 1900
    assert rows["tagmill run list"] == 3 * 10
    assert all(found.least <= found.median <= found.most for found in measured)
    assert catalog.line(measured[0]).startswith("| README's query, first 1,000 rows | ")


@pytest.mark.timeout(120)
def test_workers_claim_beside_a_submit() -> None:
    found = waiting.measure(batches=60, workers=2, seconds=0.01, afterwards=2.0)
    assert found["claims"] == 60
    assert found["queued afterwards"] == 0
    assert 0 < found["first claim, s"] < 20
    assert found["look afterwards, longest ms"] > 0


def test_a_submit_is_measured(postgres_server_url: str, tmp_path: Path) -> None:
    found = submit.measure_manifest(postgres_server_url, tmp_path, "parquet", rows=3000, repeated=10)
    assert (found.rows, found.batches) == (3000, 47)
    assert found.seconds > found.write_seconds > 0
    assert 50 < found.megabytes < 500
    assert submit.line(found).startswith("| parquet | 3,000 | 10 | ")
    assert list(tmp_path.iterdir()) == []
