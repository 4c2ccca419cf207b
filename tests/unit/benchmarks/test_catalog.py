"""The benchmarks of the catalog views and of a large submit find what they measure."""

import pytest

from benchmarks import catalog, submit


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
    found = submit.measure(batches=60, workers=2, seconds=0.01, afterwards=2.0)
    assert found["claims"] == 60
    assert found["queued afterwards"] == 0
    assert 0 < found["first claim, s"] < 20
    assert found["look afterwards, longest ms"] > 0
