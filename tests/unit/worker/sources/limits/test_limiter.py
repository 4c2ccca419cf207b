"""The slots and turns of hosts: nobody begins more than was granted, and everybody gets a part."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from types import SimpleNamespace

import pytest
from support.http_site import Site, reply
from support.services import ExternalRedis, RedisServer

from tagmill.fetch_options import HostLimits
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.sources.host_pool import HostPool
from worker.sources.limits.grants import Ask, Grant, Grants, OwnGrants
from worker.sources.limits.limiter import USED_SECONDS, HostLimiter
from worker.sources.limits.redis_grants import RedisGrants
from worker.sources.terms import Terms

NONE = HostLimits()


def ask(grants: Grants, limits: HostLimits, under_way: int, wanted: int, turns: int = 0, host: str = "h") -> Grant:
    (grant,) = grants.ask([Ask(host, limits, under_way, wanted, turns)])
    return grant


@pytest.fixture
def processes(redis_server: RedisServer | ExternalRedis) -> Callable[[], RedisGrants]:
    return lambda: RedisGrants(redis_server.url, "tagmill")


def test_processes_share_the_slots_of_a_host(processes: Callable[[], RedisGrants]) -> None:
    first, second, four = processes(), processes(), HostLimits(concurrent=4)
    assert ask(first, four, 0, 64) == Grant(4, True)
    assert ask(second, four, 0, 64) == Grant(0, False)
    # The first has four requests under way, and begins none until it has two.
    assert ask(first, four, 4, 64) == Grant(2, False)
    assert ask(second, four, 0, 64) == Grant(0, False)
    assert ask(first, four, 3, 64) == Grant(2, False)
    assert ask(second, four, 0, 64) == Grant(1, False)
    assert ask(first, four, 2, 64) == Grant(2, True)
    assert ask(second, four, 1, 64) == Grant(2, True)
    assert ask(processes(), four, 0, 1, host="other") == Grant(1, True)
    assert ask(first, four, 0, 0).slots == 0  # it leaves
    assert ask(second, four, 2, 64) == Grant(4, True)


def test_processes_take_turns_if_there_are_fewer_slots(processes: Callable[[], RedisGrants]) -> None:
    shares, one = [processes() for _ in range(3)], HostLimits(concurrent=1)
    served: list[int] = []
    for _ in range(9):
        slots = [ask(share, one, 0, 9).slots for share in shares]
        assert sum(slots) <= 1
        served += [number for number, count in enumerate(slots) if count]
    assert min(served.count(number) for number in range(3)) >= 1


def test_the_slots_of_a_process_that_died_come_free(
    processes: Callable[[], RedisGrants], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sources.limits.redis_grants.LEASE_SECONDS", 0.3)
    dead, alive, two = processes(), processes(), HostLimits(concurrent=2)
    assert ask(dead, two, 0, 2).slots == 2
    while ask(alive, two, 0, 2).slots < 2:  # until the lease ends
        time.sleep(0.02)


def test_the_lower_limits_count_for_all_while_both_are_there(processes: Callable[[], RedisGrants]) -> None:
    strict, loose = processes(), processes()
    assert ask(strict, HostLimits(2, 10.0), 0, 9, 9).turns == 9
    grant = ask(loose, HostLimits(8, 50.0), 0, 9, 90)
    assert (grant.slots, grant.step) == (0, pytest.approx(0.1))
    ask(strict, HostLimits(2, 10.0), 0, 0)
    grant = ask(loose, HostLimits(8, 50.0), 0, 9, 90)
    assert (grant.slots, grant.step) == (8, pytest.approx(0.02))


def test_turns_of_all_processes_together_are_as_far_apart_as_the_rate_says(
    processes: Callable[[], RedisGrants],
) -> None:
    shares, limits = [processes(), processes()], HostLimits(rate=20.0)
    turns: list[float] = []
    for number in range(10):
        grant = ask(shares[number % 2], limits, 0, 99, 99)
        now = time.monotonic()
        turns += [now + grant.first + n * grant.step for n in range(grant.turns)]
    assert len(turns) == 20 + 9 * 10  # the first was alone, for one second
    gaps = [after - before for before, after in zip(sorted(turns), sorted(turns)[1:], strict=False)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.05, abs=0.005)


def test_what_else_is_in_the_key_and_an_emptied_redis_stop_nobody(
    processes: Callable[[], RedisGrants], redis_server: RedisServer | ExternalRedis
) -> None:
    import redis

    grants, key = processes(), processes().key_of("h")
    with redis.Redis.from_url(redis_server.url) as client:
        for junk in (b"x", b"[]", b'{"holders": {"a": 1, "b": {"held": "x"}}, "next": "y"}'):
            client.set(key, junk)
            assert ask(grants, HostLimits(2, 5.0), 0, 9, 1).slots == 2
        client.delete(key)
        client.lpush(key, "x")
        assert ask(grants, HostLimits(2), 0, 9).slots == 2
        client.script_flush()
        assert ask(grants, HostLimits(2), 0, 9).slots == 2
        assert 0 < client.pttl(key) <= 5000


def test_a_process_that_is_alone_has_the_limits_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sources.limits.grants.time", SimpleNamespace(monotonic=lambda: 50.0))
    grants = OwnGrants()
    assert ask(grants, HostLimits(4, 0.0), 0, 9) == Grant(4, True)
    first, second = (ask(grants, HostLimits(0, 20.0), 0, 99, 99) for _ in range(2))
    assert (first.slots, first.turns, first.step) == (99, 20, 0.05)
    assert first.first == 0
    assert second.first == pytest.approx(1.0)


class Once(OwnGrants):
    """Grants once, and then fails as if Redis were down."""

    asked = 0

    def ask(self, asked: Sequence[Ask]) -> list[Grant]:
        self.asked += 1
        if self.asked > 1:
            raise OSError("no route")
        return super().ask(asked)


@pytest.fixture
def limiter() -> Iterator[Callable[[Grants], HostLimiter]]:
    started: list[HostLimiter] = []

    def start(grants: Grants) -> HostLimiter:
        started.append(HostLimiter(grants))
        return started[-1]

    yield start
    for found in started:
        found.close()


def test_nothing_begins_without_a_grant_and_waiting_threads_are_told_of_one(
    limiter: Callable[[Grants], HostLimiter],
) -> None:
    found, two, granted = limiter(OwnGrants()), HostLimits(concurrent=2), threading.Event()
    found.granted.append(granted.set)
    assert not found.begin("h", two, time.monotonic())
    assert found.begins_at("h", time.monotonic()) == math.inf
    for _ in range(3):
        found.expect("h", two)
    assert granted.wait(60)
    while not found.begins_at("h", time.monotonic()) < math.inf:
        time.sleep(0.01)
    began = [found.begin("h", two, time.monotonic()) for _ in range(3)]
    assert began.count(True) <= 2
    found.end("h", two)
    assert began.count(True) < 2 or found.begin("h", two, time.monotonic())


def test_nothing_begins_once_what_was_granted_has_ended(limiter: Callable[[Grants], HostLimiter]) -> None:
    found, one, failures = limiter(Once()), HostLimits(concurrent=1), []
    found.failed = failures.append
    found.expect("h", one)
    while not found.begin("h", one, began := time.monotonic()):
        time.sleep(0.01)
    found.leave("h", one)
    found.end("h", one)
    found.expect("h", one)
    while not failures:
        time.sleep(0.01)
    assert found.begins_at("h", began) == began
    ended = time.monotonic() + USED_SECONDS
    assert found.begins_at("h", ended) == math.inf
    assert not found.begin("h", one, ended)


def test_a_thread_that_waits_is_ahead_of_images_in_the_pool(limiter: Callable[[Grants], HostLimiter]) -> None:
    with closing(Site()) as site:
        site.replies["/a.jpg"] = reply(body=b"picture")
        limits = FetchLimits(1000, 60.0, True)
        http = limits.http_reader(limiter(OwnGrants()))
        pool, terms = HostPool(4, http.paces), Terms(limits=HostLimits(1, 20.0))
        reader = Fetcher([], limits, http)
        waiting = pool.fetch(
            ((f"{site.url}/a.jpg?{n}", terms) for n in range(40)), lambda answer: answer, reader.remote
        )
        assert reader.fetch(f"{site.url}/a.jpg", terms).data == b"picture"
        assert sum(future.done() for future in waiting) < 40
        assert [future.result(60).data for future in waiting] == [b"picture"] * 40
        pool.shutdown()
