"""The fleet benchmark: real workers' traffic on real servers, and the numbers that it makes of it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.services import ExternalRedis, RedisServer

from benchmarks.support.fleet.load import Load, Servers
from benchmarks.support.fleet.measured import WORKERS, growth, summary, table, to_json
from benchmarks.support.fleet.sampling import Sample
from benchmarks.support.fleet.site import Site
from benchmarks.support.fleet.synthetic import LABELS, SyntheticResults
from benchmarks.support.fleet.worker import Finished, Report
from benchmarks.worker.fleet import measure
from tagmill.ledger.batches.leases import Claim
from tagmill.records import PendingImage

#: two workers in one process, two batches in work each, 25 batches of 4 images in 2 runs
SMALL = Load(2, 1, 2, images=100, batch_size=4, runs=2, masks=1, think_ms=0)


@pytest.fixture
def site(postgres_server_url: str, redis_server: RedisServer | ExternalRedis) -> Iterator[Site]:
    """A small load on the servers of this session."""
    found = Site(Servers(postgres_server_url, redis_server.url, {}), "fleet", SMALL)
    yield found
    found.close()


def test_every_image_is_tagged_once_and_a_second_run_knows_them_all(site: Site) -> None:
    first, again = measure(site), measure(site)
    for found in (first, again):
        assert found.images_per_second > 0
        assert 0 < found.claim_ms <= found.claim_p99_ms
        assert found.deadlocks == 0
        assert found.postgresql_cpu_ms is None, "the server was not started by the benchmark"
        assert found.workers_cpu_ms is not None
    assert first.database_bytes > again.database_bytes, "labels were written once"
    assert to_json([first, again])["rounds"][1]["claim_ms"] == again.claim_ms


def test_a_worker_that_fails_ends_the_benchmark_with_its_error(site: Site) -> None:
    site.place = replace(site.place, broker_url="redis://127.0.0.1:1/0")
    with pytest.raises(RuntimeError, match=r"^0 of 26 batches were finished:\nTraceback (.|\n)*refused"):
        measure(site)


def test_a_result_depends_on_the_uri_alone() -> None:
    images = tuple(PendingImage(at, f"/{at}.jpg", f"key-{at}") for at in range(3))
    claimed = Claim(1, 1, "token", 1, False, images, (), ())
    made = []
    for _ in range(2):
        results = SyntheticResults("f", masks=2)
        made.append(results.result(claimed, *results.hashes(claimed), known=set()))
    assert made[0] == made[1]
    for row in made[0].inferences:
        scores = [score for _, score in row.labels]
        assert len(scores) == LABELS
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1
        assert len({mask.label for mask in row.masks}) == 2
    shas = results.hashes(claimed)[1]
    known = results.result(claimed, *results.hashes(claimed), known=shas[:2])
    assert len(known.outcomes) == 3
    assert [row.image_sha256 for row in known.inferences] == shas[2:]


def test_ramp_up_and_tail_are_not_measured() -> None:
    load = Load(1, 1, 1, images=70, batch_size=10, runs=1, masks=0, think_ms=0)
    slow, fast = Finished(0, 10, 9, 9, 9, 9), Finished(0, 10, 0.002, 0.003, 0.004, 0.005)
    finished = [slow._replace(at=10.0), slow._replace(at=11.0), *(fast._replace(at=12.0 + at) for at in range(4))]
    report = Report([slow._replace(at=90.0), *finished], dropped=1)
    samples = [Sample(at, {WORKERS: at / 10}, 1000 * int(at), 5, {}) for at in (0.0, 100.0)]
    found = summary(report, samples, load, deadlocks=2, grown=3.0)
    assert found.images_per_second == pytest.approx(40 / 4)
    assert found.claim_p99_ms == pytest.approx(2)
    assert found.workers_cpu_ms == pytest.approx(1000 * 0.4 / 40)
    assert found.wal_bytes == pytest.approx(4000 / 40)
    assert (found.redis_cpu_ms, found.deadlocks, found.dropped, found.connections) == (None, 2, 1, 5)
    assert growth(samples, 20, 30, WORKERS) == pytest.approx(1)
    lines = table({"first run": [found, found]}).splitlines()
    assert lines[2] == "| images/s | 10 |"
    assert "| CPU of Redis, ms an image |  |" in lines
