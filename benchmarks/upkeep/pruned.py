"""A prune in a process of its own, with the time of each of its statements and transactions."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event

from benchmarks.producer.scale import peak_megabytes
from tagmill.db.connection import connect
from tagmill.ledger.pruning.prune import prune

DAYS = 90


@dataclass
class Pruned:
    """What a prune deleted, and what it took. Times are seconds."""

    counts: dict[str, Any]
    seconds: float
    #: peak of the process
    megabytes: float
    #: what it was at -> seconds
    stages: dict[str, float]
    statements: int
    longest_statement: float
    #: the first words of that statement
    longest: str
    transactions: int
    longest_transaction: float


def measure_prune(url: str, meanwhile: Callable[[], object] = lambda: None) -> Pruned:
    """Prune in a new process; call `meanwhile` again and again until it has ended."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_prune, args=(url, theirs))
    process.start()
    theirs.close()
    try:
        while not ours.poll(0.2):
            meanwhile()
        return Pruned(**ours.recv())
    finally:
        process.join()


class _Clock:
    """Measures the statements and transactions of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.statements = self.transactions = 0
        self.longest_statement = self.longest_transaction = 0.0
        self.longest = ""
        self._asked = self._began = 0.0
        for name, call in (
            ("begin", self._on_begin),
            ("commit", self._on_end),
            ("rollback", self._on_end),
            ("before_cursor_execute", self._on_ask),
            ("after_cursor_execute", self._on_answer),
        ):
            event.listen(engine, name, call)

    def _on_begin(self, connection: Connection) -> None:
        self._began = time.perf_counter()

    def _on_end(self, connection: Connection) -> None:
        self.transactions += 1
        self.longest_transaction = max(self.longest_transaction, time.perf_counter() - self._began)

    def _on_ask(self, *_: Any) -> None:
        self._asked = time.perf_counter()

    def _on_answer(self, connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        taken = time.perf_counter() - self._asked
        self.statements += 1
        if taken > self.longest_statement:
            self.longest_statement, self.longest = taken, " ".join(statement.split())[:80]


def _prune(url: str, answer: Any) -> None:
    engine = connect(url)
    clock, stages, last = _Clock(engine), {}, ["beginning", time.perf_counter()]

    def report(what: str, done: int, total: int) -> None:
        if what != last[0]:
            now = time.perf_counter()
            stages[last[0]] = stages.get(last[0], 0.0) + now - last[1]
            last[:] = [what, now]

    began = time.perf_counter()
    counts = prune(engine, DAYS * 86_400.0, report)
    seconds = time.perf_counter() - began
    report("", 0, 0)
    measured = {name: value for name, value in vars(clock).items() if not name.startswith("_")}
    answer.send(asdict(Pruned(counts.to_json(), seconds, peak_megabytes("self"), stages, **measured)))
    engine.dispose()
