"""Check what every batch needs of this worker: clock, cache folder and memory."""

import time
from pathlib import Path

from tagmill.device import Device
from tagmill.ledger.faults.workers import Fault, FaultReason
from tagmill.settings import Settings
from worker.supervision.memory import memory_limit, resident_bytes

#: seconds that the clock of a worker may be away from the database's
CLOCK_SECONDS = 300.0
#: bytes that must fit into the cache folder
_PROBE_BYTES = 2**16


def clock_fault(before: float, database: float, after: float) -> Fault | None:
    """Return the fault if this clock is far from the database's, which was read between `before` and `after`.

    With such a clock, a file that was just changed would be taken for one that is long unchanged.
    """
    off = database - after if database > after else database - before if database < before else 0.0
    if abs(off) <= CLOCK_SECONDS:
        return None
    way = "behind" if off > 0 else "ahead of"
    return Fault(FaultReason.CLOCK, f"the clock is far {way} the database's; set both by NTP")


def cache_fault(settings: Settings) -> Fault | None:
    """Return the fault if the device needs a cache folder that cannot be written to: TensorRT builds its engines there.

    Other devices only read the folder, and do without it.
    """
    if Device.parse(settings.device).kind != "tensorrt":
        return None
    folder = settings.cache_folder / "tensorrt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_probe(folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        detail = f"{folder}: {reason}; set TAGMILL_CACHE_FOLDER to a folder that can be written to and has room"
        return Fault(FaultReason.CACHE, detail)
    return None


def memory_fault(settings: Settings) -> Fault | None:
    """Return the fault if this process has reached its memory limit before its first batch."""
    limit = memory_limit(settings.max_worker_memory)
    if resident_bytes() <= limit:
        return None
    detail = f"{limit / 2**20:.0f} MB do not hold a worker without a model; raise TAGMILL_MAX_WORKER_MEMORY"
    return Fault(FaultReason.MEMORY, f"{detail} or the container's memory")


def _write_probe(folder: Path) -> None:
    probe = folder / f".probe-{time.time_ns()}"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)
