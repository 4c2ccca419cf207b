"""The contract of a worker process and its parent: its name in the ledger, its exit codes, and its end."""

import ctypes
import os
import signal
import socket
import sys
import uuid
from enum import IntEnum

#: environment variable in which a supervisor names its process, so that it can free the batches of a dead one
NAME_VARIABLE = "TAGMILL_PROCESS"
#: environment variable in which a supervisor that serves metrics names the Unix socket that its process answers on
PROBES_VARIABLE = "TAGMILL_PROBES"
#: least seconds that an inference call has to end after it was cancelled, before its process is ended
GRACE_SECONDS = 5.0
#: of prctl(2)
PR_SET_PDEATHSIG = 1


class ProcessEnd(IntEnum):
    """Exit codes of a worker process besides those of `tagmill.errors.ExitCode`."""

    #: finished its batches and asks for a restart: it has a `worker.supervision.watchdog.RecycleReason`
    RECYCLED = 90
    #: an inference call did not end even after it was cancelled
    STUCK = 91
    #: exceeded its memory limit while it worked on an image; only a quarantine process ends with it
    OUT_OF_MEMORY = 92
    #: takes no batches because of a fault of this worker, see `worker.health`; a supervisor tries again with back-off
    UNFIT = 93
    #: finished its batches because `tagmill worker drain` asked for it: its supervisor ends, too
    DRAINED = 94


def grace_seconds(stall_seconds: float) -> float:
    """Return how long an inference call has to end after it was cancelled; then its process ends."""
    return max(GRACE_SECONDS, stall_seconds / 2)


def end_name(code: int) -> str:
    """Return how a process ended that `subprocess` returned `code` of: recycled, SIGKILL, exit_1 and so on."""
    if code < 0:
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal_{-code}"
    return ProcessEnd(code).name.lower() if code in set(ProcessEnd) else f"exit_{code}"


def process_name() -> str:
    """Return the name under which this process owns batches, unique among all processes ever."""
    return os.environ.get(NAME_VARIABLE) or new_name()


def worker_id(supervisor: int | None = None) -> str:
    """Return the name of this worker, HOST:PID of what starts its processes, so that it stays the same.

    `supervisor` is the process id of a supervisor, for itself.
    """
    return f"{socket.gethostname()}:{os.getppid() if supervisor is None else supervisor}"


def is_supervised() -> bool:
    """Return whether a supervisor started this process and starts it again when it ends."""
    return NAME_VARIABLE in os.environ


def new_name() -> str:
    """Return a unique name for a new process."""
    return uuid.uuid4().hex


def end_with_parent(how: signal.Signals) -> None:
    """Ask Linux for the signal `how` when the parent process ends, so that this process does not outlive it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)
