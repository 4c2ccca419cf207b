"""How fast each host may be asked: full speed until it answers "too many", then at a rate that adapts.

A refusal cuts the rate of its host to a part of what the host let through; each later answer lets it grow again
(additive increase, multiplicative decrease, as in TCP). Near the rate at which the host last refused it grows slowly.
`Retry-After` pauses the whole host. All threads of a process share one `Paces`. Times are seconds of the monotonic
clock.
"""

import math
import threading
from dataclasses import dataclass

from worker.sources.limits.grants import OwnGrants
from worker.sources.limits.limiter import HostLimiter

#: part of the rate that is left after a refusal, and after one near the rate of the last refusal
DECREASE, SLIGHT_DECREASE = 0.7, 0.9
#: requests per second: the least after the first refusal of a host, and after any
FIRST_RATE, MIN_RATE = 1.0, 0.5
#: requests per second above which a host is no longer paced
FULL_SPEED = 1000.0
#: growth in a second: part of the rate, and requests per second; the larger one counts
GROWTH, LEAST_GROWTH = 0.15, 1.0
#: the same while the rate is near that of the last refusal
SLOW_GROWTH, LEAST_SLOW_GROWTH = 0.01, 0.05
#: what counts as near it, as parts of it
NEAR = (0.88, 1.12)
#: seconds for which a host is paused at most, whatever `Retry-After` says
MAX_PAUSE = 120.0
#: A status that may have other causes (503) counts as "too many" if the host is paced already; or from this share and
#: number of refusals in the last second on, if it gave an answer in the last seconds.
BUSY_SHARE, BUSY_REFUSALS, BUSY_SECONDS = 0.25, 3.0, 10.0
#: hosts that are remembered
MAX_HOSTS = 10_000

#: seconds by which a late thread may be ahead of the pace the next time
_CATCH_UP = 0.05
#: seconds after which an answer counts e times less in the measured rate
_WINDOW = 1.0


@dataclass
class _Host:
    """What is known of one host."""

    #: requests per second; None is full speed
    rate: float | None = None
    #: when the next request may begin
    next_turn: float = 0.0
    #: answers and refusals, those of long ago counting less; as of `measured_at`
    answers: float = 0.0
    refusals: float = 0.0
    measured_at: float = 0.0
    #: when the rate was last cut, and from which value
    cut_at: float = -math.inf
    refused_rate: float = math.inf
    #: when the rate last grew
    grown_at: float = -math.inf
    #: when the host last gave an answer that was no refusal
    answered_at: float = -math.inf
    #: whether it has only refused since
    refusing: bool = False
    #: end of the first pause that it asked for since then
    pause_end: float | None = None

    def measure(self, now: float) -> None:
        fading = math.exp((self.measured_at - now) / _WINDOW)
        self.answers, self.refusals, self.measured_at = self.answers * fading, self.refusals * fading, now

    def is_busy(self, now: float) -> bool:
        if self.rate is not None:
            return True
        often = self.refusals >= max(BUSY_REFUSALS, BUSY_SHARE * (self.answers + self.refusals))
        return often and now - self.answered_at < BUSY_SECONDS

    def is_near_limit(self, rate: float) -> bool:
        return NEAR[0] * self.refused_rate <= rate <= NEAR[1] * self.refused_rate

    def grow(self, now: float) -> None:
        assert self.rate is not None, "it is paced"
        share, least = (SLOW_GROWTH, LEAST_SLOW_GROWTH) if self.is_near_limit(self.rate) else (GROWTH, LEAST_GROWTH)
        self.rate += max(share * self.rate, least) * min(now - self.grown_at, 1.0)
        self.grown_at = now
        if self.rate > FULL_SPEED:
            self.rate, self.refused_rate = None, math.inf

    def cut(self, now: float) -> None:
        if self.rate is not None:
            left = SLIGHT_DECREASE if self.is_near_limit(self.rate) else DECREASE
            self.refused_rate, self.rate = self.rate, max(left * self.rate, MIN_RATE)
        else:
            measured = self.answers / _WINDOW
            self.refused_rate = measured if measured > FIRST_RATE else math.inf
            self.rate = max(DECREASE * measured, FIRST_RATE)
        self.next_turn = max(self.next_turn, now + 1 / self.rate)
        self.cut_at = self.grown_at = now


class Paces:
    """The pace of each host, shared by all threads of a process."""

    def __init__(self, limiter: HostLimiter | None = None) -> None:
        """`limiter` is asked before each request of a run that has limits."""
        self.limiter = limiter or HostLimiter(OwnGrants())
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def turn_at(self, name: str) -> float:
        """Return when the next request to a host may begin; it may be in the past."""
        found = self._hosts.get(name)
        return found.next_turn if found else 0.0

    def take_turn(self, name: str, now: float) -> bool:
        """Take the turn of a request that begins now. Return False if it has to wait until `turn_at`."""
        found = self._hosts.get(name)
        if found is None or (found.rate is None and found.next_turn <= now):
            return True
        with self._lock:
            if found.next_turn > now:
                return False
            if found.rate is not None:
                found.next_turn = max(found.next_turn, now - _CATCH_UP) + 1 / found.rate
            return True

    def answered(self, name: str, now: float) -> None:
        """Note an answer that is no refusal, whatever its status."""
        with self._lock:
            host = self._host(name)
            host.measure(now)
            host.answers += 1
            host.answered_at, host.refusing, host.pause_end = now, False, None
            if host.rate is not None:
                host.grow(now)

    def refused(self, name: str, sent: float, now: float, retry_after: float | None, *, certain: bool) -> bool:
        """Note that a host refused a request sent at `sent`. Return whether it is too busy.

        If the status is not `certain` to mean that, the host is too busy only if it refuses many of its requests.
        """
        with self._lock:
            host = self._host(name)
            host.measure(now)
            host.refusals += 1
            if not certain and not host.is_busy(now):
                return False
            host.refusing = True
            # Refusals of requests that were sent before the last cut say nothing about the rate since.
            if sent >= host.cut_at:
                host.cut(now)
            if retry_after:
                host.next_turn = max(host.next_turn, now + min(retry_after, MAX_PAUSE))
                if host.pause_end is None:
                    host.pause_end = host.next_turn
            return True

    def is_refusing(self, name: str) -> bool:
        """Return whether the last thing that a host did was to refuse."""
        found = self._hosts.get(name)
        return found is not None and found.refusing

    def hopeless_at(self, name: str, since: float, patience: float, *, tried: bool) -> float:
        """Return when an image that has waited since `since` is to be given up, if its host goes on as it does.

        That is `patience` seconds after the last answer that was no refusal; after the first pause that the host asked
        for since then, if it is one that answers (or the image was not `tried` yet).
        """
        found = self._hosts.get(name)
        if found is None or not found.refusing:
            return math.inf
        if found.pause_end is not None and (not tried or found.answered_at > -math.inf):
            since = max(since, found.pause_end)
        return max(since, found.answered_at) + max(patience, 2 / (found.rate or FULL_SPEED))

    def _host(self, name: str) -> _Host:
        found = self._hosts.get(name)
        if found is None:
            if len(self._hosts) >= MAX_HOSTS:
                del self._hosts[next(iter(self._hosts))]
            found = self._hosts[name] = _Host()
        return found
