"""What this machine has: cores and memory that this process may use, and the CPU's name and features.

No other module asks the operating system for these: os.cpu_count() names all cores of the host, even in a container
that may use one.
"""

import math
import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

_CPU_INFO = Path("/proc/cpuinfo")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MOUNTS = Path("/proc/self/mountinfo")


def usable_cores() -> int:
    """Return the cores that this process may use: those of its affinity, or fewer by a container's CPU quota.

    A quota of 1.5 cores counts as 2. https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    return max(1, math.ceil(min(_affinity(), _cpu_quota())))


def memory_bytes() -> int:
    """Return the memory of this machine, or of its container if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_read(group / "memory.max") for group in _own_groups("")]
    limits += [_read(group / "memory.limit_in_bytes") for group in _own_groups("memory")]
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
    found = [_read(group / "cpu.max").split() for group in _own_groups("")]
    found += [[_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")] for group in _own_groups("cpu")]
    # Without a limit the quota is "max" in cgroup v2 and -1 in v1.
    limits = [list(map(int, pair)) for pair in found if len(pair) == 2 and all(text.isdecimal() for text in pair)]
    return min((quota / period for quota, period in limits if period), default=math.inf)


def _own_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those above it, as far as they are mounted.

    `controller` is that of a cgroup v1 hierarchy, or empty for cgroup v2. A hybrid system mounts both.
    """
    for mount, root in _mounts(controller):
        group = mount / _below(root, _own_group(controller))
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _own_group(controller: str) -> PurePosixPath:
    """Return the path of this process's control group in its hierarchy."""
    lines = [line.split(":", 2) for line in _read(_OWN_CGROUPS).splitlines()]
    return PurePosixPath(next((path for _, names, path in lines if controller in names.split(",")), "/"))


def _mounts(controller: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Yield where a hierarchy is mounted, and which of its groups is there: in a container often not the topmost.

    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    for line in _read(_MOUNTS).splitlines():
        mounted, _, filesystem = line.partition(" - ")
        kind, *_, options = filesystem.split(" ")
        if (kind == "cgroup2" and not controller) or (kind == "cgroup" and controller in options.split(",")):
            root, mount = mounted.split(" ")[3:5]
            yield Path(mount), PurePosixPath(root)


def _below(root: PurePosixPath, group: PurePosixPath) -> PurePosixPath:
    """Return the path of a group below a mounted one; `.` if it is not below it, which a container may be told."""
    if ".." in group.parts or not group.is_relative_to(root):
        return PurePosixPath()
    return group.relative_to(root)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpu_info(name: str) -> str:
    lines = [line.partition(":") for line in _read(_CPU_INFO).splitlines()]
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
