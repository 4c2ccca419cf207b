"""Measure the CPU time of an image in each thread of the worker and in its servers.

`PYTHONPATH=tests python -m benchmarks.worker.cpu --images 2000` tags images on Redis and PostgreSQL, in turns with the
raw limit. Linux counts the CPU time of each thread in nanoseconds (`/proc/PID/task/TID/schedstat`). py-spy reads
Python's names of the threads, which needs root or `kernel.yama.ptrace_scope=0`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from support.processes import children

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.comparing import spread, turns
from benchmarks.support.contenders import Script, Tagmill
from benchmarks.support.job import Job, Timed
from benchmarks.support.machine import CORES, machine, tell

#: first part of a thread's name -> its role
ROLES = {
    "decode": "worker: open, hash, decode",
    "infer": "worker: inference",
    "ThreadPoolExecutor": "worker: tasks, with its side of SQL",
    "MainThread": "worker: Celery's loop",
    "reaper": "worker: looking for lost work",
}
#: all other threads of the worker
REST = "worker: everything else"
#: command of a process -> name of the server
SERVERS = {"postgres": "PostgreSQL", "redis-server": "Redis"}
IDLE, RAW = "idle", "raw limit"
#: network -> set of images
SETS = {"mobilenet": "photos", "simple-cnn": "small"}

#: (role, thread) -> nanoseconds of CPU time
Clock = dict[tuple[str, int], int]


def read_clock(worker: int) -> Clock:
    """Return the CPU time so far of the threads of a worker and of the servers that this process started."""
    names = thread_names(worker)
    clock: Clock = {}
    for process in below(os.getpid()):
        for task in Path("/proc").glob(f"{process}/task/*"):
            with suppress(OSError):  # processes of PostgreSQL's autovacuum end at any time
                server = SERVERS.get(Path(f"/proc/{process}/comm").read_text().strip())
                if server or process == worker:
                    role = server or role_of(names.get(int(task.name), ""))
                    clock[role, int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return clock


def between(before: Clock, after: Clock) -> Counter[str]:
    """Return the nanoseconds of each role between two readings."""
    spent: Counter[str] = Counter()
    for (role, thread), nanoseconds in after.items():
        spent[role] += nanoseconds - before.get((role, thread), 0)
    return spent


def thread_names(process: int) -> dict[int, str]:
    """Return Python's names of the threads of a process. Raise RuntimeError if py-spy has no permission."""
    command = [str(Path(sys.executable).with_name("py-spy")), "dump", "--json", "--pid", str(process)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"py-spy: {done.stderr.strip()}")
    return {thread["os_thread_id"]: thread["thread_name"] or "" for thread in json.loads(done.stdout)}


def role_of(name: str) -> str:
    """Return the role of a thread by its name."""
    return next((role for start, role in ROLES.items() if name.startswith(start)), REST)


def below(process: int) -> list[int]:
    """Return all descendants of a process."""
    found = children(process)
    return found + [further for child in found for further in below(child)]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=list(SETS), default="mobilenet")
    parser.add_argument("--batch-size", type=int, default=64, help="images per message")
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images and bundles")
    options = parser.parse_args()
    print(machine(), flush=True)
    images = [str(path.resolve()) for path in write_set(SETS[options.model], options.work, options.images)]
    bundle = str(make_bundle(options.model, options.work / "bundles", Path(images[0]).parent).resolve())
    job = Job(images, [bundle], CORES)
    found: dict[str, list[float]] = {}
    with Tagmill("tagmill", [bundle], options.batch_size) as own, Script(RAW, "support.raw") as raw:
        own.measure(Job(images[:256], [bundle], CORES))
        for number, contender in turns([own, raw], options.rounds):
            spent = of_worker(own, job) if contender is own else {RAW: milliseconds(raw.measure(job))}
            for role, each in spent.items():
                found.setdefault(role, []).append(each)
            tell(f"round {number + 1}: {contender.name} {sum(spent.values()):.2f} ms an image on {CORES} cores")
    print(table(found))


def of_worker(own: Tagmill, job: Job) -> dict[str, float]:
    """Tag the images; return the milliseconds per image of each role, largest first, and the idle time."""
    worker = children(own.worker.process.pid)[0]
    before = read_clock(worker)
    timed = own.measure(job)
    spent = {role: total / 1e6 / timed.images for role, total in between(before, read_clock(worker)).most_common()}
    return spent | {IDLE: milliseconds(timed) - sum(spent.values())}


def milliseconds(timed: Timed) -> float:
    """Return the time of all cores per image, in milliseconds."""
    return 1000 * timed.seconds * CORES / timed.images


def table(found: dict[str, list[float]]) -> str:
    """Return a Markdown table of medians, ranges and shares. Shares are of everything but the raw limit."""
    whole = sum(statistics.median(values) for role, values in found.items() if role != RAW)
    lines = ["| CPU time of an image | ms | share |", "|---|---|---|"]
    for role, values in found.items():
        share = "" if role == RAW else f"{statistics.median(values) / whole:.1%}"
        lines.append(f"| {role} | {spread(values)} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
