"""The cores and the memory that a process may use, on a machine and in containers of several kinds."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tagmill import machine

ROOT = Path(__file__).parents[3]
ROOMS = ("tagmill", "producer", "worker", "training", "export")
GIB = 2**30
#: what cgroup v1 says if there is no limit
UNLIMITED_V1 = 9223372036854771712

Container = Callable[..., None]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Return a function that makes a /proc and a /sys/fs/cgroup of 8 cores and 16 GiB, for this process."""

    def make(own: str, mounts: Mapping[str, str], files: Mapping[str, object]) -> None:
        """Take the text of /proc/self/cgroup, the root and kind of each mount, and the files below the mounts."""
        lines = [f"31 23 0:28 {kind[0]} {tmp_path / name} rw - {kind[1]}" for name, kind in split(mounts).items()]
        (tmp_path / "mountinfo").write_text("22 1 0:21 / / rw - overlay overlay rw\n" + "\n".join(lines) + "\n")
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")

    def split(mounts: Mapping[str, str]) -> dict[str, list[str]]:
        return {name: text.split(" ", 1) for name, text in mounts.items()}

    monkeypatch.setattr(machine, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    return make


V2 = {"cgroup": "/ cgroup2 cgroup rw,nsdelegate"}
V1 = {"cpu": "/ cgroup cgroup rw,cpu,cpuacct", "memory": "/ cgroup cgroup rw,memory"}


def test_the_affinity_of_a_process_counts_not_the_cores_of_the_host() -> None:
    code = """
import os
os.cpu_count = lambda: 64
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tagmill.machine import usable_cores
print(usable_cores())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_without_affinity_all_cores_count(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    container("", {}, {})
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert machine.usable_cores() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.usable_cores() == 1


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("6400000 100000", 8),
        ("max 100000", 8),
        ("max", 8),
        ("200000 0", 8),
        ("", 8),
    ],
)
def test_a_cpu_quota_of_cgroup_v2_is_rounded_up(container: Container, limit: str, cores: int) -> None:
    container("0::/shop/worker\n", V2, {"cgroup/shop/worker/cpu.max": limit})
    assert machine.usable_cores() == cores


def test_the_least_limit_of_a_group_and_those_above_it_counts(container: Container) -> None:
    container(
        "0::/shop/worker\n",
        V2,
        {
            "cgroup/shop/worker/cpu.max": "400000 100000",
            "cgroup/shop/cpu.max": "300000 100000",
            "cgroup/other/cpu.max": "100000 100000",
            "cgroup/shop/worker/memory.max": "max",
            "cgroup/shop/memory.max": 4 * GIB,
            "cgroup/memory.max": 8 * GIB,
            "cgroup/other/memory.max": GIB,
        },
    )
    assert machine.usable_cores() == 3
    assert machine.memory_bytes() == 4 * GIB


@pytest.mark.parametrize(
    ("quota", "period", "cores"), [(150000, 100000, 2), (100000, 50000, 2), (-1, 100000, 8), (200000, "", 8)]
)
def test_a_cpu_quota_of_cgroup_v1_is_rounded_up(
    container: Container, quota: int, period: int | str, cores: int
) -> None:
    files = {"cpu/shop/cpu.cfs_quota_us": quota, "cpu/shop/cpu.cfs_period_us": period}
    container("4:cpu,cpuacct:/shop\n3:memory:/\n", V1, files)
    assert machine.usable_cores() == cores


def test_a_quota_of_a_group_is_not_divided_by_the_period_of_another(container: Container) -> None:
    files = {
        "cpu/shop/cpu.cfs_quota_us": 100000,  # its period is missing
        "cpu/cpu.cfs_quota_us": 90000,
        "cpu/cpu.cfs_period_us": 30000,
    }
    container("4:cpu,cpuacct:/shop\n", V1, files)
    assert machine.usable_cores() == 3


@pytest.mark.parametrize(
    ("own", "above", "expected"),
    [(2 * GIB, UNLIMITED_V1, 2), (UNLIMITED_V1, 3 * GIB, 3), (UNLIMITED_V1, UNLIMITED_V1, 16), (64 * GIB, "", 16)],
)
def test_the_memory_limit_of_cgroup_v1(container: Container, own: int, above: int | str, expected: int) -> None:
    files = {"memory/shop/memory.limit_in_bytes": own, "memory/memory.limit_in_bytes": above}
    container("4:cpu,cpuacct:/\n3:memory:/shop\n", V1, files)
    assert machine.memory_bytes() == expected * GIB


def test_without_control_groups_the_whole_machine_is_usable(container: Container, tmp_path: Path) -> None:
    container("", {}, {})
    assert (machine.usable_cores(), machine.memory_bytes()) == (8, 16 * GIB)
    (tmp_path / "own").unlink()
    (tmp_path / "mountinfo").unlink()
    assert (machine.usable_cores(), machine.memory_bytes()) == (8, 16 * GIB)


def test_groups_without_files_have_no_limit(container: Container) -> None:
    container("0::/shop\n", V2 | V1, {})
    assert (machine.usable_cores(), machine.memory_bytes()) == (8, 16 * GIB)


def test_a_hybrid_system_limits_by_either_hierarchy(container: Container) -> None:
    hybrid = V1 | {"unified": "/ cgroup2 cgroup2 rw"}
    own = "4:cpu,cpuacct:/shop\n3:memory:/\n0::/shop.slice\n"
    container(own, hybrid, {"cpu/shop/cpu.cfs_quota_us": 300000, "cpu/shop/cpu.cfs_period_us": 100000})
    assert machine.usable_cores() == 3
    container(own, hybrid, {"unified/shop.slice/memory.max": 5 * GIB, "unified/shop.slice/cpu.max": "200000 100000"})
    assert machine.usable_cores() == 2
    assert machine.memory_bytes() == 5 * GIB


def test_a_container_finds_its_group_where_it_is_mounted(container: Container) -> None:
    """Without a cgroup namespace it reads a path of the host, while only its own groups are mounted."""
    mounts = {"cpu": "/docker/a1 cgroup cgroup rw,cpu,cpuacct", "memory": "/docker/a1 cgroup cgroup rw,memory"}
    files = {
        "cpu/cpu.cfs_quota_us": 300000,
        "cpu/cpu.cfs_period_us": 100000,
        "memory/memory.limit_in_bytes": 4 * GIB,
        "memory/inner/memory.limit_in_bytes": 2 * GIB,
    }
    container("4:cpu,cpuacct:/docker/a1\n3:memory:/docker/a1/inner\n", mounts, files)
    assert machine.usable_cores() == 3
    assert machine.memory_bytes() == 2 * GIB


@pytest.mark.parametrize("own", ["0::/\n", "0::/../b2\n", "0::/../../system.slice\n", "0::/elsewhere\n", ""])
@pytest.mark.parametrize("root", ["/", "/..", "/docker/a1"])
def test_a_group_that_is_not_below_the_mounted_one_counts_as_that(
    container: Container, tmp_path: Path, own: str, root: str
) -> None:
    (tmp_path / "b2").mkdir()
    (tmp_path / "b2" / "memory.max").write_text(str(GIB))
    container(own, {"cgroup": f"{root} cgroup2 cgroup rw"}, {"cgroup/memory.max": 3 * GIB})
    assert machine.memory_bytes() == 3 * GIB


def test_this_machine_answers() -> None:
    assert 1 <= machine.usable_cores() <= len(os.sched_getaffinity(0))
    assert 2**27 < machine.memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.cpu_name()


@pytest.fixture
def cpu_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that takes the place of /proc/cpuinfo."""
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


def test_the_cpu_is_described_by_the_first_of_its_entries(cpu_info: Path) -> None:
    cpu_info.write_text(
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R): 8488C\nflags\t\t: fpu avx2 amx_bf16\n\n"
        "processor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n"
    )
    assert machine.cpu_name.__wrapped__() == "Intel(R) Xeon(R): 8488C"
    assert machine.cpu_flags.__wrapped__() == {"fpu", "avx2", "amx_bf16"}


def test_a_system_without_cpuinfo_names_its_architecture(cpu_info: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert machine.cpu_name.__wrapped__() == "arm64"
    assert machine.cpu_flags.__wrapped__() == frozenset()


def test_no_other_module_asks_the_operating_system() -> None:
    asks = re.compile(r"cpu_count|sched_getaffinity|SC_PHYS_PAGES|/proc/(cpuinfo|meminfo)|/sys/fs/cgroup")
    modules = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(modules) > 200
    found = [str(path.relative_to(ROOT)) for path in modules if asks.search(path.read_text(encoding="utf-8"))]
    assert found == ["tagmill/machine.py"]
