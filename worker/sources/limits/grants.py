"""What a process asks for a host, and what it is granted; and grants of one process that is alone.

A process asks about once a second and host, whatever the number of its requests. It gets slots, which are requests that
it may have under way until the next answer, and turns, which are moments at which it may begin one.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tagmill.fetch_options import HostLimits

#: seconds for which a slot is granted; those of a process that died come free then
LEASE_SECONDS = 5.0
#: seconds of a host's rate that all processes together reserve at a time
BLOCK_SECONDS = 1.0


@dataclass(frozen=True)
class Ask:
    """What a process asks for one host. With nothing under way and nothing wanted it leaves."""

    host: str
    limits: HostLimits
    #: requests that it has under way
    under_way: int
    #: requests that it has under way or would begin
    wanted: int
    #: turns that it needs besides those that it has
    turns: int


@dataclass(frozen=True)
class Grant:
    """What a process may do with one host."""

    #: requests that it may have under way; it begins none while it has more
    slots: int
    #: whether it has its part: it need not ask again soon
    settled: bool
    #: seconds from now until its first turn, between two turns, and how many there are
    first: float = 0.0
    step: float = 0.0
    turns: int = 0


class Grants(Protocol):
    """What splits the limits of hosts among processes."""

    def ask(self, asked: Sequence[Ask]) -> list[Grant]:
        """Return what is granted, in the order of what was asked. Raise the errors of the service behind it."""


class OwnGrants:
    """Grants of a process that is alone, such as `tagmill tag`."""

    def __init__(self) -> None:
        #: host -> when its next turn may be, in seconds of the monotonic clock
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def ask(self, asked: Sequence[Ask]) -> list[Grant]:
        """Return the limits themselves, and turns at their rate."""
        with self._lock:
            return [self._grant(one) for one in asked]

    def _grant(self, one: Ask) -> Grant:
        slots = min(one.wanted, one.limits.concurrent or one.wanted)
        if not one.limits.rate or not one.turns:
            return Grant(slots, True)
        now, step = time.monotonic(), 1 / one.limits.rate
        turns = min(one.turns, max(1, round(BLOCK_SECONDS / step)))
        first = max(now, self._next.get(one.host, now))
        self._next[one.host] = first + turns * step
        return Grant(slots, True, first - now, step, turns)
