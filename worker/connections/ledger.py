"""The ledger as a worker uses it: every call is repeated while the database is away."""

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.message import BatchMessage
from tagmill.errors import DatabaseRefusedError
from tagmill.ledger import complete, known_results
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.pictures import measures
from tagmill.ledger.repeats import outcomes, waiting
from tagmill.measuring import Measuring
from tagmill.records import BatchResult, Mask, Outcome, SeenUrl
from worker.connections.availability import Services, StoppedError
from worker.connections.slow_calls import SlowCalls

_Result = TypeVar("_Result")


class Ledger:
    """The calls of a worker to `tagmill.ledger`. Each waits for a database that is away.

    All raise StoppedError if the process is to end meanwhile; then it is unknown whether the database got the call.
    They end the process if the database refuses connections, for example because the password was changed.
    """

    def __init__(self, engine: Engine, services: Services) -> None:
        self._engine = engine
        self._services = services
        self._slow = SlowCalls(services)

    def close(self) -> None:
        """End the thread that looks for slow claims."""
        self._slow.stop()

    def claim(self, message: BatchMessage, queue: str, lease: Lease) -> Claim | None:
        """Take the batch of a message; None if it is not free. See `tagmill.ledger.batches.leases.claim`.

        A claim that the database does not answer in time is logged: the whole fleet may be waiting.
        """
        return self.call(self._claim, message.run, message.batch, queue, lease)

    def exists(self, message: BatchMessage, queue: str) -> bool:
        """Return whether the batch of a message is in SQL."""
        return self.call(leases.exists, message.run, message.batch, queue)

    def unchanged_files(
        self, models: tuple[str, ...], identities: Iterable[str], measuring: Measuring | None = None
    ) -> dict[str, str]:
        """Return identity -> sha256 of the files that were hashed before, and lack no result of these models."""
        return self.call(known_results.unchanged_files, identities, models, measuring)

    def known_urls(
        self, models: tuple[str, ...], locations: Iterable[str], measuring: Measuring | None = None
    ) -> list[tuple[SeenUrl, bool]]:
        """Return the URLs that were hashed before, and whether they lack no result of these models."""
        return self.call(known_results.known_urls, locations, models, measuring)

    def measured_images(self, measuring: Measuring, shas: Iterable[str]) -> set[str]:
        """Return the sha256 of those images that lack no measure."""
        return self.call(measures.measured_images, shas, measuring)

    def stored_masks(self, models: tuple[str, ...], shas: Iterable[str]) -> dict[tuple[str, str], list[Mask]]:
        """Return (image sha256, model sha256) -> masks that are stored."""
        return self.call(measures.stored_masks, shas, models)

    def known_inferences(self, models: tuple[str, ...], shas: Iterable[str]) -> set[tuple[str, str]]:
        """Return the (image sha256, model sha256) pairs that have a result."""
        return self.call(known_results.known_inferences, shas, models)

    def first_outcomes(self, run_id: int, firsts: Collection[int]) -> dict[int, Outcome]:
        """Return position -> outcome of those entries of a run that have one and that others repeat."""
        return self.call(outcomes.first_outcomes, run_id, firsts)

    def wait_for_firsts(self, claim: Claim) -> None:
        """Give a batch back until the entries that it repeats have an outcome."""
        self.call(waiting.wait_for_firsts, claim)

    def complete(self, claim: Claim, result: BatchResult, worker: str) -> bool:
        """Write a batch's result; False if the batch was lost to another worker."""
        return self.call(complete.complete, claim, result, worker)

    def release(self, claim: Claim, reason: str, delay_seconds: float) -> None:
        """Give a batch back after a failed attempt."""
        self.call(leases.release, claim, reason, delay_seconds)

    def give_back(self, claim: Claim, reason: str, not_before: float | None, crashed: bool) -> None:
        """Give a batch back that this worker cannot tag. See `tagmill.ledger.batches.leases.give_back`."""
        self.call(partial(leases.give_back, crashed=crashed), claim, reason, not_before)

    def _claim(self, *given: Any) -> Claim | None:
        _, run_id, batch_id, *_ = given
        with self._slow.noticed(run=run_id, batch=batch_id):
            return leases.claim(*given)

    def call(self, function: Callable[..., _Result], *given: Any) -> _Result:
        """Call a function with the engine and `given`."""
        try:
            return self._repeat(function, *given)
        except DatabaseRefusedError as error:
            self._services.refused(error)
            raise StoppedError from error

    def _repeat(self, function: Callable[..., _Result], *given: Any) -> _Result:
        database, asked = self._services.database, time.monotonic()
        try:
            result = function(self._engine, *given)
        except SQLAlchemyError as error:
            return self._services.retry_after(error, partial(function, self._engine, *given))
        if database.down_since is not None:
            database.answered(asked)
        return result
