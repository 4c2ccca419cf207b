"""How much memory this process holds, and how much it may."""

import os
from pathlib import Path

#: share of the machine's or container's memory that one worker process may hold where no limit is set
DEFAULT_SHARE = 0.75

_STATM = Path("/proc/self/statm")
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def resident_bytes() -> int:
    """Return the memory of this process in RAM; 0 where the system does not tell (no /proc)."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def memory_limit(wanted: int) -> int:
    """Return `wanted` bytes, or for 0 the default share of what the machine or its container has."""
    return wanted or int(DEFAULT_SHARE * _available_bytes())


def _available_bytes() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():  # "max" where there is none
            return min(machine, int(text))
    return machine
