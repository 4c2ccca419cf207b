"""What a worker process and the one above it agree on: its name in the ledger, its exit codes, its end."""

import ctypes
import os
import signal
import sys
import uuid
from enum import IntEnum

#: environment variable by which a supervisor names its process, so that it can free what that leaves behind
NAME_VARIABLE = "TAGMILL_PROCESS"
#: of prctl(2)
PR_SET_PDEATHSIG = 1


class ProcessEnd(IntEnum):
    """Exit codes of a worker process besides those of `tagmill.errors.ExitCode`."""

    #: finished what it had in hand, to be started again at once: it grew too large, or lost a thread to a stuck image
    RECYCLED = 90
    #: an inference call did not end, and did not let itself be cut off
    STUCK = 91
    #: grew over its memory limit in the middle of an image; only a process of quarantine ends so
    OUT_OF_MEMORY = 92


def process_name() -> str:
    """Return the name that owns this process's batches, unique among all processes there ever were."""
    return os.environ.get(NAME_VARIABLE) or new_name()


def new_name() -> str:
    """Return a name for a process that is to be started."""
    return uuid.uuid4().hex


def end_with_parent(how: signal.Signals) -> None:
    """Ask Linux for a signal when the process above ends, so that none goes on alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)
