"""What one worker process holds, and its way through one batch: claim, tag, write."""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tagmill.broker.message import BatchMessage
from tagmill.db.connection import connect
from tagmill.errors import DeviceLostError, TagmillError
from tagmill.ledger import leases
from tagmill.ledger.complete import complete
from tagmill.ledger.known_results import known_files, known_inferences
from tagmill.ledger.leases import Claim, Lease
from tagmill.records import BatchResult, Outcome
from tagmill.settings import Settings
from worker.connections.availability import Services, StoppedError
from worker.heartbeat import Heartbeat
from worker.inference.session_cache import SessionCache
from worker.pipeline.tagger import Tagged, Tagger
from worker.sources.stat_cache import identities, seen_files
from worker.supervision.memory import memory_limit
from worker.supervision.process import process_name
from worker.supervision.quarantine import Quarantine
from worker.supervision.watchdog import RecycleReason, Watchdog
from worker.threads.timeout_pool import TimeoutPool

log = logging.getLogger(__name__)

#: seconds before a batch that failed as a whole is tried again; doubled with each attempt, at most so often
RETRY_SECONDS = 2.0
DOUBLINGS = 7


@dataclass(frozen=True)
class ProcessHooks:
    """What the process around a Runtime does for it."""

    services: Services
    #: asks it to end after the batches in hand
    recycle: Callable[[RecycleReason], None]
    #: something starts the process again when it ends
    supervised: bool


class Runtime:
    """Built once a process, after any fork, and used from all its threads."""

    def __init__(self, settings: Settings, sessions: SessionCache, host: ProcessHooks) -> None:
        self.settings = settings
        self.engine = connect(settings.database_url, settings.lease_seconds)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._process = process_name()
        self._services = host.services
        self._recycle = host.recycle
        self._pool = TimeoutPool(settings.decode_threads or os.cpu_count() or 1)
        self._heartbeat = Heartbeat(self.engine, settings.lease_seconds, host.services)
        self._tagger = Tagger(settings, sessions, self._pool)
        self._quarantine = Quarantine(settings, sessions.files)
        limit = memory_limit(settings.max_worker_memory)
        pools, stall = [self._pool, self._tagger.fetchers], settings.stall_seconds
        self._watchdog = Watchdog(pools, sessions, stall, limit, host.recycle, last_resort=host.supervised)

    def process(self, message: BatchMessage) -> None:
        """Tag one batch. A message for a batch that is done or taken is dropped; that is normal on Redis.

        Waits for a database that is away. Raises StoppedError where the process is to end meanwhile.
        """
        settings = self.settings
        lease = Lease(f"{self._process}:{uuid.uuid4().hex}", settings.lease_seconds, settings.max_attempts)
        claimed = self._services.retry_until_available(
            lambda: leases.claim(self.engine, message.run, message.batch, settings.queue, lease)
        )
        if claimed is None:
            self._drop(message)
            return
        with self._heartbeat.holding(lease.token):
            try:
                self._work(claimed)
            except StoppedError:
                raise  # nobody knows whether the database took it: the lease ends by itself
            except Exception as error:
                self._give_back(claimed, error)
                if isinstance(error, DeviceLostError):
                    self._recycle(RecycleReason.DEVICE)  # what a new process finds of it is told there
                elif not isinstance(error, TagmillError):
                    raise

    def close(self) -> None:
        """End the threads and connections."""
        self._watchdog.stop()
        self._heartbeat.stop()
        self._pool.shutdown()
        self._tagger.close()
        self.engine.dispose()

    def _drop(self, message: BatchMessage) -> None:
        known = self._services.retry_until_available(
            lambda: leases.exists(self.engine, message.run, message.batch, self.settings.queue)
        )
        fields = {"run": message.run, "batch": message.batch}
        if known:
            log.info("batch not free", extra={"action": "batch_dropped", **fields})
        else:
            reason = f"no such batch in queue {self.settings.queue}"
            log.error("message refused", extra={"action": "message_refused", "reason": reason, **fields})

    def _give_back(self, claimed: Claim, error: Exception) -> None:
        delay = RETRY_SECONDS * 2 ** min(claimed.attempts - 1, DOUBLINGS)
        reason = f"{type(error).__name__}: {error}"
        self._services.retry_until_available(lambda: leases.release(self.engine, claimed, reason, delay))
        log.error("batch failed", extra={"action": "batch_failed", "batch": claimed.batch_id, "reason": str(error)})

    def _work(self, claimed: Claim) -> None:
        looked = time.time()
        before = identities(claimed.images, self._tagger.fetcher(claimed.roots).status, self._pool)
        unchanged = self._unchanged(claimed, before)
        rest = replace(claimed, images=tuple(image for image in claimed.images if image.position not in unchanged))
        tagged = self._tag(rest)
        files = seen_files(rest.images, before, tagged.statuses, tagged.result.outcomes, looked)
        outcomes = [*(Outcome(position, sha256) for position, sha256 in unchanged.items()), *tagged.result.outcomes]
        result = replace(tagged.result, outcomes=outcomes, files=files)
        started = time.perf_counter()
        written = self._services.retry_until_available(lambda: complete(self.engine, claimed, result, self.name))
        times = {"read_ms": tagged.read_ms, "infer_ms": tagged.infer_ms}
        times["write_ms"] = round(1000 * (time.perf_counter() - started), 1)
        _log_batch(claimed, result, written, times)

    def _unchanged(self, claimed: Claim, before: dict[int, str]) -> dict[int, str]:
        """Return position -> sha256 of the local files that were hashed before and lack no result."""
        hashed = (
            self._services.retry_until_available(lambda: known_files(self.engine, before.values())) if before else {}
        )
        if not hashed:
            return {}
        known = self._known(claimed, set(hashed.values()))
        whole = {sha256 for sha256 in hashed.values() if all((sha256, model) in known for model in claimed.models)}
        found = {position: hashed[identity] for position, identity in before.items() if identity in hashed}
        return {position: sha256 for position, sha256 in found.items() if sha256 in whole}

    def _tag(self, claimed: Claim) -> Tagged:
        if not claimed.images:
            return Tagged(BatchResult([], [], []), {}, 0.0, 0.0)
        if not claimed.suspect:
            return self._tagger.tag(
                claimed.images, claimed.models, claimed.roots, lambda shas: self._known(claimed, shas)
            )
        started = time.perf_counter()
        result = self._quarantine.tag(claimed)
        return Tagged(result, {}, 0.0, round(1000 * (time.perf_counter() - started), 1))

    def _known(self, claimed: Claim, shas: set[str]) -> set[tuple[str, str]]:
        return self._services.retry_until_available(lambda: known_inferences(self.engine, shas, claimed.models))


def _log_batch(claimed: Claim, result: BatchResult, written: bool, times: dict[str, float]) -> None:
    fields: dict[str, Any] = {
        "action": "batch_tagged" if written else "batch_lost",
        "run": claimed.run_id,
        "batch": claimed.batch_id,
        "images": len(result.outcomes),
        "failed": sum(1 for outcome in result.outcomes if outcome.error_code),
        "inferences": len(result.inferences),
        **times,
    }
    log.info("batch tagged" if written else "batch was taken over; results dropped", extra=fields)
