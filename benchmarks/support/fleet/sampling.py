"""Sample the CPU time of servers and workers, and what PostgreSQL does, while `benchmarks.worker.fleet` runs."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
from support.processes import children

from tagmill.db.connection import WORKER

SAMPLE_SECONDS = 0.25
_WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_ACTIVITY = """
    SELECT state, coalesce(wait_event_type || ': ' || wait_event, 'CPU'), count(*)
    FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, %s) GROUP BY 1, 2
"""


@dataclass(frozen=True)
class Sample:
    """One moment of a round."""

    #: monotonic seconds
    at: float
    #: role -> seconds of CPU time since the sampler started
    cpu: Mapping[str, float]
    #: WAL bytes since the server was set up
    wal: int
    #: connections of workers
    connections: int
    #: what the connections that run a statement wait for -> connections
    waits: Mapping[str, int]


class Sampler(threading.Thread):
    """A thread that takes samples in a `with` block.

    `roots` names for each role its processes; the CPU time of a role includes their descendants.
    """

    def __init__(self, url: str, roots: Mapping[str, Sequence[int]]) -> None:
        super().__init__(name="sampler", daemon=True)
        self._connection = psycopg.connect(url, autocommit=True)
        self._roots = roots
        self._last: dict[int, float] = {}
        self._cpu = Counter[str]()
        self._stopped = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Take samples; the last one when the block ends."""
        ended = False
        while not ended:
            ended = self._stopped.wait(SAMPLE_SECONDS)
            self.samples.append(self._sample())

    def __enter__(self) -> Self:
        self.samples.append(self._sample())
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        self.join()
        self._connection.close()

    def _sample(self) -> Sample:
        rows = self._connection.execute(_ACTIVITY, (WORKER,)).fetchall()
        waits = {wait: count for state, wait, count in rows if state == "active"}
        wal = int(self._connection.execute(_WAL).fetchall()[0][0])
        self._read_clocks()
        return Sample(time.monotonic(), dict(self._cpu), wal, sum(row[2] for row in rows), waits)

    def _read_clocks(self) -> None:
        for role, roots in self._roots.items():
            for process in (found for root in roots for found in (root, *below(root))):
                with suppress(OSError):  # processes of PostgreSQL's autovacuum end at any time
                    seconds = cpu_seconds(process)
                    self._cpu[role] += seconds - self._last.get(process, 0.0)
                    self._last[process] = seconds


def cpu_seconds(process: int) -> float:
    """Return the CPU time of all threads of a process. Raise OSError if it has ended.

    Linux makes the number of the clock from the process id (`clock_getcpuclockid`); Python has no name for it.
    """
    return time.clock_gettime((~process << 3) | 2)


def below(process: int) -> list[int]:
    """Return all descendants of a process."""
    found = children(process)
    return found + [further for child in found for further in below(child)]
