"""What this machine has: cores and memory that this process may use, and the CPU's name and features."""

import math
import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the cores that this process may use: those of its affinity, or fewer by a container's CPU quota.

    A quota of 1.5 cores counts as 2. https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    return max(1, math.ceil(min(_affinity(), _cpu_quota())))


def memory_bytes() -> int:
    """Return the memory of this machine, or of its container if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [*_settings("memory.max"), *_settings("memory/memory.limit_in_bytes")]
    return min([machine, *(int(limit) for limit in limits if limit.isdecimal())])  # "max" if there is none


@cache
def cpu_name() -> str:
    """Return the CPU's name as Linux gives it, elsewhere its architecture."""
    return _cpu_info("model name") or platform.machine()


@cache
def cpu_flags() -> frozenset[str]:
    """Return the features of the CPU by Linux's names; empty elsewhere."""
    return frozenset(_cpu_info("flags").split())


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_quota() -> float:
    """Return the least quota in cores of the control groups that this process is in; infinity without any."""
    quotas = [text.split() for text in _settings("cpu.max")]
    v1 = zip(_settings("cpu/cpu.cfs_quota_us"), _settings("cpu/cpu.cfs_period_us"), strict=False)
    pairs = [*((found[0], found[1]) for found in quotas if len(found) == 2), *v1]
    return min((int(quota) / int(period) for quota, period in pairs if quota.isdecimal()), default=math.inf)


def _settings(name: str) -> Iterator[str]:
    """Yield the contents of a control group's file: of the group of this process and of those above it."""
    controller, _, leaf = name.rpartition("/")
    top = _CGROUPS / controller
    group = top / _own_group(controller)
    for folder in (group, *group.parents):
        if folder == top or top in folder.parents:
            try:
                yield (folder / leaf).read_text().strip()
            except OSError:
                continue


def _own_group(controller: str) -> str:
    """Return the path of this process's group below the controller's, `.` if it is not known."""
    try:
        lines = [line.split(":", 2) for line in _OWN_CGROUPS.read_text().splitlines()]
    except OSError:
        return "."
    paths = (path for _, names, path in lines if controller in names.split(","))
    return next(paths, "/").lstrip("/") or "."


def _cpu_info(name: str) -> str:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
