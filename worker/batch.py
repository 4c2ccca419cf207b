"""Process one batch, from its message to SQL: claim, skip known images, fetch, decode, infer, write."""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tagmill.broker.message import BatchMessage
from tagmill.db.connection import connect
from tagmill.errors import DeviceLostError, TagmillError, first_line
from tagmill.fetch_options import HostLimits
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.logs.fields import log_fields
from tagmill.settings import Settings
from tagmill.tracing import Tracing, ids_of
from worker.connections.availability import Services, StoppedError, StoppedWaitingError
from worker.connections.ledger import Ledger
from worker.connections.tally import Tally
from worker.health.folders import SUSPECT
from worker.health.health import Health
from worker.heartbeat import Heartbeat
from worker.pictures.text_detector import DETECTOR, is_loaded
from worker.pipeline.attempt import Attempt
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.decode import NO_SPECS, decode_images
from worker.pipeline.fetch import fetch_images
from worker.pipeline.infer import infer_images
from worker.pipeline.known import remember_files, skip_known, skip_unchanged
from worker.pipeline.known_urls import recall_urls, remember_urls
from worker.pipeline.measure import measure_images, specs_of
from worker.pipeline.repeated import take_first_outcomes
from worker.pipeline.tagger import Tagger
from worker.pipeline.trials import BatchTrials, TrialSessions
from worker.sources.terms import Terms
from worker.spending import Spending
from worker.supervision.draining import Draining
from worker.supervision.memory import memory_limit
from worker.supervision.process import process_name
from worker.supervision.quarantine import Quarantine
from worker.supervision.watchdog import RecycleReason, Watchdog

if TYPE_CHECKING:  # only a process that serves metrics loads prometheus-client
    from worker.probes.batch_metrics import BatchMetrics

log = logging.getLogger(__name__)

#: seconds until a batch that failed as a whole may be claimed again
RETRY_SECONDS = 2.0
#: RETRY_SECONDS doubles with each attempt, at most this often
DOUBLINGS = 7


class BatchFailedError(Exception):
    """Raised when an attempt failed as a whole: the batch was released or given back, and is tried again later."""


@dataclass(frozen=True)
class ProcessHooks:
    """What the process that runs a BatchProcessor provides."""

    services: Services
    #: asks the process to end after its running batches
    recycle: Callable[[RecycleReason], None]
    #: whether a supervisor restarts the process when it ends
    supervised: bool
    #: ends the process after its batches because this worker is unfit; None if no other worker could do its work
    unfit: Callable[[], object] | None = None
    #: counts the batches; None if this process serves no metrics
    metrics: "BatchMetrics | None" = None


class BatchProcessor:
    """Processes batches from message to SQL. It is built once per process, after any fork, and used by all threads."""

    def __init__(self, settings: Settings, tagger: Tagger, hooks: ProcessHooks) -> None:
        self.settings = settings
        self.tagger = tagger
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._process = process_name()
        self._recycle = hooks.recycle
        self._metrics = hooks.metrics
        self._tracing = Tracing("tagmill-worker") if settings.traces else None
        self._spending = Spending()
        self._dropped = Tally(log, logging.INFO, "batch not free")
        self._waiting = Tally(log, logging.INFO, "batch waits for the entries that it repeats")
        self._refused = Tally(log, logging.ERROR, "message refused")
        self._ceiling = HostLimits.of(settings.per_host, settings.per_host_rate)
        self._engine = connect(settings.database_url, worker=True)
        self._ledger = Ledger(self._engine, hooks.services)
        self._health = hooks.unfit and Health(settings, self._ledger.call, hooks.unfit, self._loaded)
        self._heartbeat = Heartbeat(self._engine, settings.lease_seconds, hooks.services)
        self._trials = TrialSessions(tagger.sessions.get)
        self._quarantine = Quarantine(settings, tagger.sessions.files)
        tagger.pools.limiter.failed = partial(self._not_granted, hooks.services)
        self._watchdog = Watchdog(
            tagger.pools.watched,
            tagger.sessions,
            settings.stall_seconds,
            memory_limit(settings.max_worker_memory),
            hooks.recycle,
            last_resort=hooks.supervised,
        )
        # A local run ends its waits itself.
        pools = (tagger.pools.fetch, tagger.pools.stores)
        self._draining = Draining(pools, hooks.services) if hooks.supervised else None

    def process(self, message: BatchMessage) -> dict[str, Any]:
        """Tag one batch; return what it was and what became of its images, as JSON values.

        Drop a message whose batch is done or claimed by another worker, which is normal on Redis. Wait while the
        database is down; raise StoppedError if the process has to end before it is back. Raise BatchFailedError if the
        attempt failed.
        """
        if self._health and self._health.out:
            raise StoppedError  # another worker takes it
        settings, ledger = self.settings, self._ledger
        lease = Lease(f"{self._process}:{uuid.uuid4().hex}", settings.lease_seconds, settings.max_attempts)
        claimed = ledger.claim(message, settings.queue, lease)
        if claimed is None:
            return self._drop(message)
        with self._attempt(claimed) as attempt:
            images = [BatchImage(image.position, image.uri) for image in claimed.images]
            if not claimed.repeated:
                images = self._tag(attempt, images)
                if self._health and any(image.code in SUSPECT and image.local for image in images):
                    self._health.require_folders(claimed, images)
            elif not take_first_outcomes(images, claimed.repeated, partial(ledger.first_outcomes, claimed.run_id)):
                return self._wait(claimed)
            written = attempt.write(images, partial(ledger.complete, worker=self.name))
            if self._metrics:
                self._metrics.done(claimed, written.result, written.stored, attempt.stages)
            return written.report

    def _tag(self, attempt: Attempt, images: list[BatchImage]) -> list[BatchImage]:
        """Take images through the stages. Those of which enough is known are not read, decoded or inferred."""
        began, ledger = time.time(), self._ledger
        claimed, terms, trials = attempt.claimed, attempt.terms, attempt.trials
        models, measuring, refetch = claimed.models, claimed.measuring, claimed.fetching.refetch
        tagger, pools, source = self.tagger, self.tagger.pools, self.tagger.fetcher(claimed.roots)

        unchanged_files = None if refetch else partial(ledger.unchanged_files, models, measuring=measuring)
        images = skip_unchanged(images, source.state, pools.decode, unchanged_files)
        if claimed.suspect:
            return self._quarantine.tag(claimed, images, terms)
        remote = not all(image.local for image in images)
        if remote:
            images = recall_urls(images, partial(ledger.known_urls, models, measuring=measuring), refetch=refetch)
        if trials:
            trials.read_again(images)
        if all(image.unchanged for image in images):
            return images

        images = fetch_images(images, source, pools.decode, pools.fetch, pools.stores, terms)
        attempt.stages["fetch"] = time.perf_counter() - attempt.started
        if trials:
            trials.keep_unread(images)
        if all(image.unchanged for image in images):
            return images  # no bundle needs to be loaded

        sessions = [tagger.sessions.get(model.sha256, model.name) for model in claimed.pinned]
        images = remember_urls(images) if remote else images
        images = remember_files(images, began)
        specs = specs_of(measuring) if measuring else NO_SPECS
        measured = partial(ledger.measured_images, measuring) if measuring else None
        images = skip_known(images, sessions, partial(ledger.known_inferences, models), measured)
        loaded = time.perf_counter()
        if trials:
            trials.add(images)
        fetch = partial(source.fetch, terms=terms)
        images = decode_images(images, fetch, tagger.decode_limits, pools.decode, tagger.decoder, specs)
        attempt.decoded = time.perf_counter()
        images = infer_images(images, sessions, pools.infer)
        if trials:
            trials.infer(images, pools.infer)
        if any(image.facts for image in images):  # else all results were known
            attempt.stages |= {"decode": attempt.decoded - loaded, "infer": time.perf_counter() - attempt.decoded}
        if measuring:
            images = measure_images(images, sessions, measuring, pools.decode, partial(ledger.stored_masks, models))
        return images

    def watched_at(self) -> float:
        """Return when the watchdog last checked, in monotonic seconds."""
        return self._watchdog.checked_at

    def close(self) -> None:
        """End the threads and connections."""
        if self._draining:
            self._draining.stop()
        self._watchdog.stop()
        self._heartbeat.stop()
        self._ledger.close()
        if self._tracing:
            self._tracing.close()
        self.tagger.close()
        self._engine.dispose()

    def _loaded(self) -> frozenset[str]:
        """Return what this process has loaded, of what other workers may lack: bundles, and the detector of text."""
        return self.tagger.sessions.loaded() | ({DETECTOR} if is_loaded() else frozenset())

    def _not_granted(self, services: Services, error: Exception) -> None:
        """Note that nobody says what hosts with limits may be asked. A process that is ending does not wait for it."""
        if not services.note(error):
            log.error("host limits failed", extra={"action": "host_limits_failed"}, exc_info=error)
        if services.stopping():
            self.tagger.pools.fetch.stop_waiting()

    def _drop(self, message: BatchMessage) -> dict[str, Any]:
        fields: dict[str, Any] = {"run": message.run, "batch": message.batch}
        if self._ledger.exists(message, self.settings.queue):
            self._dropped.add(message.run, action="batch_dropped", **fields)
            return fields | {"dropped": "done, cancelled, or claimed by another worker"}
        reason = f"no such batch in queue {self.settings.queue}"
        self._refused.add("", action="message_refused", reason=reason, **fields)
        return fields | {"dropped": reason}

    def _wait(self, claimed: Claim) -> dict[str, Any]:
        fields: dict[str, Any] = {"run": claimed.run_id, "batch": claimed.batch_id}
        self._ledger.wait_for_firsts(claimed)
        self._waiting.add(claimed.run_id, action="batch_waits", **fields)
        return fields | {"waits": "for the entries that it repeats"}

    @contextmanager
    def _attempt(self, claimed: Claim) -> Iterator[Attempt]:
        """Keep the lease, count and trace what happens inside the block; release the batch if the block raises."""
        limits = claimed.fetching.limits
        with (
            log_fields(run=claimed.run_id, batch=claimed.batch_id, model=claimed.model),
            self._spending.of_batch(claimed.run_id) as taken,
            self._heartbeat.holding(claimed.token),
            self._metrics.batch(claimed) if self._metrics else nullcontext(),
        ):
            tried = claimed.trials and not claimed.suspect
            attempt = Attempt(
                claimed,
                # Of two limits, those of the run and of the settings, the lower one counts.
                Terms(limits=limits.lower(self._ceiling) if limits else self._ceiling),
                BatchTrials(claimed.trials, self._trials, self._ledger.known_inferences) if tried else None,
                taken,
            )
            with self._traced(attempt), self._released_on_error(claimed):
                attempt.started = time.perf_counter()
                yield attempt

    @contextmanager
    def _traced(self, attempt: Attempt) -> Iterator[None]:
        """Trace what happens inside the block, if this process traces."""
        tracing, claimed = self._tracing, attempt.claimed
        if tracing is None:
            yield
            return
        known = {"run": claimed.run_id, "batch": claimed.batch_id, "model": claimed.model, "attempt": claimed.attempts}
        with tracing.batch(claimed.traceparent, known) as span, log_fields(**ids_of(span)):
            yield
            if attempt.written:
                tracing.finish(span, attempt.written.times, attempt.written.report)

    @contextmanager
    def _released_on_error(self, claimed: Claim) -> Iterator[None]:
        """Release the batch, or give it back, and raise BatchFailedError if the block raises."""
        try:
            yield
        except StoppedWaitingError as error:
            self._ledger.give_back(claimed, str(error), None, crashed=False)
            log.info("batch given back", extra={"action": "batch_given_back", "reason": str(error)})
            raise
        except StoppedError:
            raise  # it is unknown whether the database got the last call: the lease expires
        except Exception as error:
            reason = first_line(error)
            if self._health and (back := self._health.give_back(claimed, error)):
                self._ledger.give_back(claimed, back.reason, back.not_before, back.crashed)
                log.info("batch given back", extra={"action": "batch_given_back", "reason": reason})
            else:
                delay = RETRY_SECONDS * 2 ** min(claimed.attempts - 1, DOUBLINGS)
                self._ledger.release(claimed, f"{type(error).__name__}: {reason}", delay)
                trace = None if isinstance(error, TagmillError) else error
                log.error("batch failed", extra={"action": "batch_failed", "reason": reason}, exc_info=trace)
            if isinstance(error, DeviceLostError):
                self._recycle(RecycleReason.DEVICE)  # the next process reports the state of the device
            what = f"run {claimed.run_id}, batch {claimed.batch_id}, {claimed.model}"
            raise BatchFailedError(f"{what}: {reason}") from error
