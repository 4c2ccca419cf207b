"""Resident memory of this process, and its limit from the container or the machine."""

import os
from pathlib import Path

from tagmill.machine import memory_bytes

#: share of the machine's or container's memory that one worker process may hold if no limit is set
DEFAULT_SHARE = 0.75

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 without /proc."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def memory_limit(wanted: int) -> int:
    """Return `wanted` bytes or, if it is 0, the default share of the memory of the container or the machine."""
    return wanted or int(DEFAULT_SHARE * memory_bytes())
