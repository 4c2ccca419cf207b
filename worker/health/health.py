"""Whether this worker can work: checks before and between batches, and what a failed batch says about the worker."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.db.connection import database_time
from tagmill.errors import BundleError, ConfigurationError, DatabaseRefusedError, DeviceLostError, first_line
from tagmill.ledger.batches.leases import Claim
from tagmill.ledger.faults import runs as run_faults
from tagmill.ledger.faults.runs import RunFault, Standing, subject_of
from tagmill.ledger.faults.workers import Fault, FaultReason, clear_fault, report_fault
from tagmill.locations.schemes import LOCAL
from tagmill.outcomes import ErrorCode, printable
from tagmill.registry.open_store import open_store
from tagmill.registry.store import BundleUnavailableError, StoreDownError
from tagmill.settings import Settings
from worker.health.checks import cache_fault, clock_fault, memory_fault
from worker.health.folders import SUSPECT, file_state, folder_fault
from worker.supervision.process import worker_id

if TYPE_CHECKING:  # a supervisor loads no decoders and no inference library
    from worker.pipeline.batch_image import BatchImage

log = logging.getLogger(__name__)

#: seconds between two looks at what others lack, and at this worker
LOOK_SECONDS = 5.0
#: seconds after which a worker that takes batches counts as working again
PROVEN_SECONDS = 10.0
#: seconds until a batch may be claimed again whose bundle could not be fetched, as the model store did not answer
OUTAGE_SECONDS = 10.0
#: files of a run that are tried if a folder alone does not tell
_TRIED = 16
_NO_THREAD = "can't start new thread"

_Result = TypeVar("_Result")


class Call(Protocol):
    """Calls a function with the engine and further arguments: `call_once`, or `Ledger.call`."""

    def __call__(self, function: Callable[..., _Result], *given: Any) -> _Result: ...


def call_once(engine: Engine, function: Callable[..., _Result], *given: Any) -> _Result:
    """Call a function with the engine and `given`, without waiting for a database that is down."""
    return function(engine, *given)


class FolderError(Exception):
    """Raised instead of outcomes, for images that cannot be read because this worker lacks a folder."""

    def __init__(self, faults: Sequence[RunFault], standings: Sequence[tuple[Standing, float]]) -> None:
        super().__init__(faults[0].detail)
        self.faults = faults
        self.standings = standings


@dataclass(frozen=True)
class GiveBack:
    """How a batch is given back: from when on it may be claimed, and whether it may be to blame."""

    reason: str
    #: Unix seconds by the database's clock; None for at once
    not_before: float | None = None
    crashed: bool = False


class Health:
    """The faults of one worker. `end` has its process end after its batches, with `ProcessEnd.UNFIT`."""

    def __init__(
        self,
        settings: Settings,
        call: Call,
        end: Callable[[], object] = lambda: None,
        loaded: Callable[[], Collection[str]] = frozenset,
        supervisor: int | None = None,
    ) -> None:
        """`loaded` returns the sha256 of the bundles that this process has loaded. See `worker_id` for `supervisor`."""
        self._settings = settings
        self._call = call
        self._end = end
        self._loaded = loaded
        self._store = open_store(settings)
        self._worker = worker_id(supervisor)
        self._roots = tuple(map(str, settings.allowed_roots))
        self._began = time.monotonic()
        self._proven = False
        self._held: set[tuple[int, str]] = set()
        #: whether this worker was taken out
        self.out = False

    def check(self, *, memory: bool = False) -> bool:
        """Return whether this worker can take batches now; log and record why not. Check before the first batch.

        `memory` checks this process, too. A database that is down says nothing about the worker.
        """
        try:
            fault = (memory_fault(self._settings) if memory else None) or self._fault() or self._first_of_runs()
            if fault is None:
                return True
            self.take_out(fault)
        except (SQLAlchemyError, DatabaseRefusedError):
            return True
        return False

    def look(self) -> None:
        """Take this worker out if it became unfit. Say of what other workers lack what this one has."""
        fault, queue = self._fault(), self._settings.queue
        for row in self._call(run_faults.run_faults, queue):
            if row.reason == FaultReason.BUNDLE:  # whether it can be loaded is known of a loaded one alone
                lacking, known = None, row.subject in self._loaded()
            else:
                lacking, known = self._lacking(row)
            if lacking is not None and row.held_until is None:
                fault = fault or self._out_for([lacking])
            elif lacking is None and known and self._call(run_faults.found_here, queue, row.run_id, row.subject):
                log.warning("what a run waits for is here", extra={"action": "run_released", "run": row.run_id})
        if fault is not None:
            self.take_out(fault)
        elif not self._proven and time.monotonic() - self._began > PROVEN_SECONDS:
            self._proven = True
            if self.clear():
                log.warning("this worker is fit again", extra={"action": "worker_fit"})

    def take_out(self, fault: Fault) -> None:
        """Take this worker out: record why, log it once, and end the process after its batches."""
        self.out = True
        try:
            new = self._call(report_fault, self._worker, self._settings.queue, fault)
        except (SQLAlchemyError, DatabaseRefusedError):
            new = True  # the database is down: the next check records it
        if new:
            fields = {"action": "worker_unfit", "fault": fault.reason.value, "reason": fault.detail}
            log.error("this worker takes no batches: %s", fault.detail, extra=fields)
        self._end()

    def clear(self) -> bool:
        """Record that this worker is not out, or no longer running; return whether it was out."""
        return bool(self._call(clear_fault, self._worker))

    def require_folders(self, claimed: Claim, images: Iterable["BatchImage"]) -> None:
        """Raise FolderError if images failed because this worker lacks their folder, and it is not final yet."""
        images = list(images)
        read = [image.uri for image in images if image.local and image.code is None][:_TRIED]
        found: dict[str, RunFault] = {}
        asked: set[tuple[str, bool]] = set()
        for image in images:
            folder = (image.uri.rpartition("/")[0], image.code is ErrorCode.NOT_FOUND)
            if image.local and image.code in SUSPECT and folder not in asked:
                asked.add(folder)
                fault = self._folder(claimed.run_id, image.uri, image.code, claimed.roots, read)
                if fault is not None:
                    found.setdefault(fault.subject, fault)
        standings = [self._report(fault) for fault in found.values()]
        if any(standing is not Standing.FINAL for standing, _ in standings):
            raise FolderError(list(found.values()), standings)

    def give_back(self, claimed: Claim, error: Exception) -> GiveBack | None:
        """Return how to give back a batch that failed through the worker's fault; None if the batch may be to blame.

        Take the worker out, unless the batch waits for what no worker has.
        """
        if isinstance(error, FolderError):
            return self._waiting(error.faults, error.standings)
        if isinstance(error, BundleError):
            if not error.sha256:
                return None
            reason = FaultReason.STORE if isinstance(error, BundleUnavailableError) else FaultReason.BUNDLE
            faults = [RunFault(reason, printable(str(error)), claimed.run_id, error.sha256)]
            return self._waiting(faults, [self._report(fault) for fault in faults])
        if isinstance(error, StoreDownError):
            return GiveBack(str(error), self._call(database_time) + OUTAGE_SECONDS)
        detail = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, DeviceLostError):
            return GiveBack(detail, crashed=True)  # the next process reports the state of the device
        if isinstance(error, ConfigurationError):
            reason, action = FaultReason.DEVICE, first_line(error)
        elif isinstance(error, MemoryError):
            reason, action = FaultReason.MEMORY, "no memory is left; give this worker more, or lower its concurrency"
        elif isinstance(error, OSError) or _NO_THREAD in str(error):
            reason, action = FaultReason.SYSTEM, f"{detail}; free what this machine has run out of"
        else:
            return None
        # A batch may be what takes the memory: after two times it runs in a process of its own.
        self.take_out(Fault(reason, printable(action)))
        return GiveBack(detail, crashed=True)

    def _waiting(self, faults: Sequence[RunFault], standings: Sequence[tuple[Standing, float]]) -> GiveBack | None:
        for fault, (standing, _) in zip(faults, standings, strict=True):
            if standing is Standing.OUT:
                self.take_out(fault)
                return GiveBack(fault.detail)
        held = [(until, fault) for fault, (standing, until) in zip(faults, standings, strict=True) if until]
        until, fault = max(held, key=lambda found: found[0])
        return None if all(standing is Standing.FINAL for standing, _ in standings) else GiveBack(fault.detail, until)

    def _fault(self) -> Fault | None:
        before = time.time()
        return clock_fault(before, self._call(database_time), time.time()) or cache_fault(self._settings)

    def _first_of_runs(self) -> RunFault | None:
        """Return what this worker lacks for the runs that wait, unless no worker has it."""
        rows = self._call(run_faults.run_faults, self._settings.queue)
        held = {row.run_id for row in rows if row.held_until is not None}
        lacking = [self._lacking(row)[0] for row in rows if row.held_until is None]
        for need in self._call(run_faults.waiting_needs, self._settings.queue):
            if need.run_id not in held:
                lacking += [self._bundle(need.run_id, sha256)[0] for sha256 in need.models]
                if need.uri is not None and need.uri.startswith(LOCAL):
                    lacking.append(self._folder_of(need.run_id, need.uri, need.roots))
        return self._out_for([fault for fault in lacking if fault is not None])

    def _out_for(self, faults: Iterable[RunFault]) -> RunFault | None:
        return next((fault for fault in faults if self._report(fault)[0] is Standing.OUT), None)

    def _report(self, fault: RunFault) -> tuple[Standing, float]:
        standing, until = self._call(run_faults.report_run_fault, fault, self._settings.hold_seconds)
        key = (fault.run_id, fault.subject)
        if standing is Standing.HELD and key not in self._held:
            self._held.add(key)
            fields = {"action": "run_waits", "run": fault.run_id, "fault": fault.reason.value, "reason": fault.detail}
            log.error("no worker has what run %d needs: %s", fault.run_id, fault.detail, extra=fields)
        return standing, until

    def _lacking(self, row: Any) -> tuple[RunFault | None, bool]:
        """Return the fault of a row of `run_fault` if this worker has it, too, and whether that is known."""
        if row.reason == FaultReason.STORE:
            return self._bundle(row.run_id, row.subject)
        if row.reason == FaultReason.FOLDER:
            return self._folder_of(row.run_id, row.path, tuple(row.parameters["roots"])), True
        return None, True

    def _bundle(self, run_id: int, sha256: str) -> tuple[RunFault | None, bool]:
        """Return the fault if a bundle is not in the store, and whether that is known: a store may be down."""
        try:
            self._store.verified(sha256)
        except BundleError as error:
            return RunFault(FaultReason.STORE, printable(str(error)), run_id, sha256), True
        except StoreDownError:
            return None, False
        return None, True

    def _folder_of(self, run_id: int, path: str, roots: tuple[str, ...]) -> RunFault | None:
        code = file_state(path)
        return None if code is None else self._folder(run_id, path, code, roots, ())

    def _folder(
        self, run_id: int, path: str, code: ErrorCode, roots: tuple[str, ...], read: Sequence[str]
    ) -> RunFault | None:
        fault = folder_fault(
            path, code, (*self._roots, *roots), lambda: [*read, *self._call(run_faults.some_files, run_id, _TRIED)]
        )
        if fault is None:
            return None
        subject, stored = subject_of(fault.root), printable(path)
        return RunFault(FaultReason.FOLDER, printable(fault.detail), run_id, subject, stored)
