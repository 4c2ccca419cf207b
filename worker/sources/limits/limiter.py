"""How much this process asks of each host that has limits: the slots and turns that it was granted.

One thread asks for all hosts, about once a second. Threads that fetch never wait for it: they are told whether a
request may begin now. If nothing is granted in time, because Redis is down, nothing begins.
"""

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tagmill.fetch_options import HostLimits
from worker.sources.limits.grants import LEASE_SECONDS, Ask, Grant, Grants

log = logging.getLogger(__name__)

#: seconds between two questions for a host; while it has less than its part, or few turns; and at least
PERIOD, SOON, LEAST = 1.0, 0.15, 0.05
#: seconds after a failed question
AGAIN = 1.0
#: seconds for which slots are used after they were asked for: less than they are granted for
USED_SECONDS = 0.8 * LEASE_SECONDS
#: A turn is lost if it is not taken in so many seconds, or in this part of the time between two turns: requests that
#: catch up would exceed the rate.
LATE_SECONDS, LATE_PART = 0.1, 0.25


@dataclass
class _Host:
    """What is wanted of one host, and what is granted."""

    #: limits -> requests that wait for it or are under way
    limits: Counter[HostLimits] = field(default_factory=Counter)
    waiting: int = 0
    #: those of them whose threads wait, and which begin before the others
    ahead: int = 0
    under_way: int = 0
    slots: int = 0
    #: until when they may be used
    ends: float = -math.inf
    #: when requests may begin
    turns: deque[float] = field(default_factory=deque)
    late: float = LATE_SECONDS
    #: when it was last asked for, with how many wanted, and whether all was granted
    asked_at: float = -math.inf
    asked_for: int = 0
    settled: bool = True
    #: turns of the last grant
    block: int = 0

    @property
    def wanted(self) -> int:
        return self.waiting + self.under_way

    def lowest(self) -> HostLimits:
        lowest = HostLimits()
        for limits in self.limits:
            lowest = lowest.lower(limits)
        return lowest

    def drop_late(self, now: float) -> None:
        while self.turns and self.turns[0] < now - self.late:
            self.turns.popleft()

    def turns_needed(self, now: float) -> int:
        """Return how many turns to ask for: none before half of the last ones are gone."""
        self.drop_late(now)
        return max(0, self.waiting - len(self.turns)) if len(self.turns) <= self.block // 2 else 0

    def ask_at(self, now: float) -> float:
        """Return when to ask for it next."""
        few_turns = self.lowest().rate and self.turns_needed(now)
        if self.wanted > self.asked_for or few_turns or (not self.wanted and self.asked_for):
            return self.asked_at + LEAST
        return self.asked_at + (PERIOD if self.settled else SOON)

    def take(self, grant: Grant, asked_at: float, now: float) -> None:
        self.slots, self.settled, self.ends = grant.slots, grant.settled, asked_at + USED_SECONDS
        if grant.turns:
            self.block = grant.turns
            self.late = max(LATE_SECONDS, LATE_PART * grant.step)
            self.turns.extend(now + grant.first + number * grant.step for number in range(grant.turns))


class HostLimiter:
    """Says for all threads of a process whether a request may begin. Hosts without limits never come here."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self._hosts: dict[str, _Host] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        #: called when more may begin
        self.granted: list[Callable[[], object]] = []
        #: called with the error if nothing can be granted now
        self.failed: Callable[[Exception], object] = lambda error: log.warning("no host limits: %s", error)

    def expect(self, host: str, limits: HostLimits) -> None:
        """Note a request that waits to begin."""
        with self._changed:
            found = self._hosts.setdefault(host, _Host())
            found.limits[limits] += 1
            found.waiting += 1
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._ask_on, name="host-limits", daemon=True)
                self._thread.start()
            self._changed.notify()

    def leave(self, host: str, limits: HostLimits) -> None:
        """Note that a request waits no more: it begins, or it is given up."""
        with self._changed:
            found = self._hosts[host]
            found.waiting -= 1
            self._forget(found, limits)

    @contextmanager
    def ahead(self, host: str, limits: HostLimits) -> Iterator[None]:
        """Note a request whose thread waits during the block: others begin after it."""
        self.expect(host, limits)
        with self._changed:
            self._hosts[host].ahead += 1
        try:
            yield
        finally:
            with self._changed:
                self._hosts[host].ahead -= 1
            self.leave(host, limits)
            for call in self.granted:
                call()

    def begin(self, host: str, limits: HostLimits, now: float, *, ahead: bool = False) -> bool:
        """Take a slot and a turn for a request that begins now. Return False if there is none."""
        with self._changed:
            found = self._hosts.get(host)
            if found is None or self._begins_at(found, now, ahead) > now:
                return False
            if found.lowest().rate:
                found.turns.popleft()
            found.under_way += 1
            found.limits[limits] += 1
            return True

    def end(self, host: str, limits: HostLimits) -> None:
        """Give back the slot of a request that has ended."""
        with self._changed:
            found = self._hosts[host]
            found.under_way -= 1
            self._forget(found, limits)

    def begins_at(self, host: str, now: float) -> float:
        """Return when a request may begin that waits; infinity if that is not known yet: `granted` is called then."""
        with self._changed:
            found = self._hosts.get(host)
            return math.inf if found is None else self._begins_at(found, now, ahead=False)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _begins_at(self, found: _Host, now: float, ahead: bool) -> float:
        if found.ahead and not ahead:
            return math.inf
        if found.under_way >= found.slots or now >= found.ends:
            return math.inf
        if not found.lowest().rate:
            return now
        found.drop_late(now)
        if len(found.turns) <= found.block // 2:
            self._changed.notify()
        return found.turns[0] if found.turns else math.inf

    def _forget(self, found: _Host, limits: HostLimits) -> None:
        found.limits[limits] -= 1
        if not found.limits[limits]:
            del found.limits[limits]
        self._changed.notify()

    def _ask_on(self) -> None:
        while True:
            with self._changed:
                asked = self._next_asked()
                if asked is None:
                    return
            asked_at = time.monotonic()
            try:
                grants = self._grants.ask(asked)
            except Exception as error:  # redis-py's errors; whatever it is, the next question may be answered
                self.failed(error)
                time.sleep(AGAIN)
                continue
            with self._changed:
                now = time.monotonic()
                for one, grant in zip(asked, grants, strict=True):
                    self._hosts[one.host].take(grant, asked_at, now)
            for call in self.granted:
                call()

    def _next_asked(self) -> list[Ask] | None:
        """Wait until it is time to ask for a host, and return what to ask; None at the end."""
        while not self._closed:
            now = time.monotonic()
            for host in [host for host, found in self._hosts.items() if not found.wanted and not found.asked_for]:
                del self._hosts[host]
            times = {host: found.ask_at(now) for host, found in self._hosts.items()}
            if asked := [self._asked(host, now) for host, at in times.items() if at <= now]:
                return asked
            self._changed.wait(min(times.values()) - now if times else None)
        return None

    def _asked(self, host: str, now: float) -> Ask:
        found = self._hosts[host]
        found.asked_at, found.asked_for = now, found.wanted
        return Ask(host, found.lowest(), found.under_way, found.wanted, found.turns_needed(now))
