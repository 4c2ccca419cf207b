"""The ledger as a worker uses it: every call is repeated while the database is away."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.message import BatchMessage
from tagmill.errors import DatabaseRefusedError
from tagmill.ledger import complete, known_results, leases
from tagmill.ledger.leases import Claim, Lease
from tagmill.records import BatchResult
from worker.connections.availability import Services, StoppedError

log = logging.getLogger(__name__)

#: seconds after which a claim that is not answered is logged; usually it takes milliseconds
SLOW_SECONDS = 5.0

_Result = TypeVar("_Result")


class Ledger:
    """The calls of a worker to `tagmill.ledger`. Each waits for a database that is away.

    All raise StoppedError if the process is to end meanwhile; then it is unknown whether the database got the call.
    They end the process if the database refuses connections, for example because the password was changed.
    """

    def __init__(self, engine: Engine, services: Services) -> None:
        self._engine = engine
        self._services = services

    def claim(self, message: BatchMessage, queue: str, lease: Lease) -> Claim | None:
        """Take the batch of a message; None if it is not free. See `tagmill.ledger.leases.claim`.

        A claim that the database does not answer in time is logged: the whole fleet may be waiting.
        """
        return self._call(_noticed(leases.claim), message.run, message.batch, queue, lease)

    def exists(self, message: BatchMessage, queue: str) -> bool:
        """Return whether the batch of a message is in SQL."""
        return self._call(leases.exists, message.run, message.batch, queue)

    def unchanged_files(self, models: tuple[str, ...], identities: Iterable[str]) -> dict[str, str]:
        """Return identity -> sha256 of the files that were hashed before, and lack no result of these models."""
        return self._call(known_results.unchanged_files, identities, models)

    def known_inferences(self, models: tuple[str, ...], shas: Iterable[str]) -> set[tuple[str, str]]:
        """Return the (image sha256, model sha256) pairs that have a result."""
        return self._call(known_results.known_inferences, shas, models)

    def complete(self, claim: Claim, result: BatchResult, worker: str) -> bool:
        """Write a batch's result; False if the batch was lost to another worker."""
        return self._call(complete.complete, claim, result, worker)

    def release(self, claim: Claim, reason: str, delay_seconds: float) -> None:
        """Give a batch back after a failed attempt."""
        self._call(leases.release, claim, reason, delay_seconds)

    def _call(self, function: Callable[..., _Result], *given: Any) -> _Result:
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


def _noticed(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return `function` with a log line when it has waited for long, and one when it was answered after that."""

    def call(*given: Any) -> _Result:
        began, late = time.monotonic(), threading.Event()
        timer = threading.Timer(SLOW_SECONDS, _log_wait, (began, late))
        timer.daemon = True
        timer.start()
        try:
            return function(*given)
        finally:
            timer.cancel()
            if late.is_set():
                seconds = round(time.monotonic() - began, 1)
                log.warning("the database answered", extra={"action": "claim_answered", "seconds": seconds})

    return call


def _log_wait(began: float, late: threading.Event) -> None:
    late.set()
    fields = {"action": "claim_waits", "seconds": round(time.monotonic() - began, 1)}
    log.warning("a claim is waiting for the database", extra=fields)
