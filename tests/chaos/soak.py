"""Many workers for a long time, while they are drained, killed and deployed: nothing is lost, and memory stays flat.

Run it with `PYTHONPATH=tests python -m chaos.soak --workers 24 --minutes 30 --seed 1`. Inference is a model of three
operations, so that the rest is what is measured. The first workers are never disturbed: their memory is followed.
"""

import argparse
import csv
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from chaos.audit import Audit, audit_run, lost_images
from chaos.cluster import Cluster, Services, SupervisedWorker
from chaos.display import Display
from chaos.injection import Fault, Injector
from PIL import Image
from sqlalchemy import text
from support.bundles import write_classifier
from support.processes import tagmill_json, wait_until

from tagmill.db.connection import reading
from tagmill.ledger.fleet.workers import WorkerState, ask_to_drain, list_workers
from tagmill.ledger.runs.progress import run_progress

#: images of one run, and of one message
RUN_IMAGES = 800
BATCH_SIZE = 8
#: seconds that each image takes longer, so that a worker that is hit has batches in work
DELAY = 1.0
#: seconds between two disturbances, two runs, and two looks at the memory of workers
DISTURB_SECONDS = 8.0
SUBMIT_SECONDS = 8.0
LOOK_SECONDS = 10.0
#: runs that may be unfinished before another one is submitted
MOST_RUNS = 6
#: seconds that unfinished runs get at the end
END_SECONDS = 180.0
#: share of the time after which a worker is warm: its memory is compared from then on
WARM_SHARE = 0.25
#: kinds of disturbance, by weight
KINDS = {"drain": 5, Fault.KILL_WORKER: 3, Fault.KILL_BOTH: 2, Fault.TERMINATE: 3, "deploy": 1}
_CONNECTIONS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")


@dataclass
class Soak:
    """What happened, and what was seen."""

    disturbances: dict[str, int] = field(default_factory=dict)
    #: name of an undisturbed worker -> (seconds since the start, bytes, open files, threads)
    seen: dict[str, list[tuple[float, int, int, int]]] = field(default_factory=dict)
    runs: int = 0
    lost: int = 0
    #: of the last run; its `doubled` and `redone` are those of all of them
    audit: Audit | None = None
    unfinished: int = 0
    #: most connections to PostgreSQL at one time
    connections: int = 0

    def growth(self, column: int, warm: float) -> tuple[float, float]:
        """Return the medians, over the workers, of a column when they were warm and of its last looks."""
        late = [[look for look in looks if look[0] >= warm] for looks in self.seen.values()]
        first = statistics.median(statistics.median(look[column] for look in looks[:6]) for looks in late)
        last = statistics.median(statistics.median(look[column] for look in looks[-6:]) for looks in late)
        return first, last


def main() -> int:
    """Print a summary line. Return 1 if an image was lost or stored twice, or if a run did not end."""
    options = _options()
    display = Display()
    with tempfile.TemporaryDirectory(prefix="tagmill-soak-") as folder, Services() as services:
        display.log_versions(services)
        bundle = write_classifier(Path(folder) / "colors.onnx")
        with Cluster(services, Path(folder) / "soak", bundle, options.workers, {"concurrency": 2}, DELAY) as cluster:
            display.log(f"{options.workers} workers are ready")
            soak = _disturb(cluster, Path(folder), options, display)
    assert soak.audit is not None, "a run was submitted"
    warm = 60.0 * WARM_SHARE * options.minutes
    (first, last), (files, files_last), (threads, threads_last) = (soak.growth(at, warm) for at in (1, 2, 3))
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.disturbances.items()))
    print(
        f"soak: workers={options.workers} minutes={options.minutes:g} runs={soak.runs} images={soak.runs * RUN_IMAGES} "
        f"lost={soak.lost} doubled={soak.audit.doubled} unfinished={soak.unfinished} "
        f"redone={soak.audit.redone}; {said}; "
        f"memory of {len(soak.seen)} undisturbed workers {first / 2**20:.1f} -> {last / 2**20:.1f} MiB, "
        f"open files {files:.0f} -> {files_last:.0f}, threads {threads:.0f} -> {threads_last:.0f}; "
        f"most connections to PostgreSQL {soak.connections}"
    )
    if options.plot:
        _plot(soak, warm, options.plot)
    return 1 if soak.lost or soak.audit.doubled or soak.unfinished else 0


def _disturb(cluster: Cluster, folder: Path, options: argparse.Namespace, display: Display) -> Soak:
    """Submit runs and disturb workers until the time is over, then wait for the runs, and audit them."""
    soak, rng = Soak(), random.Random(options.seed)
    quiet, others = cluster.workers[: options.quiet], cluster.workers[options.quiet :]
    targets = SimpleNamespace(
        workers=others, engine=cluster.engine, services=cluster.services, restart_ended=cluster.restart_ended
    )
    injector = Injector(targets, folder, options.seed, 0.0)  # type: ignore[arg-type]  # the part of it that is used
    began = time.monotonic()
    due = {"disturb": 0.0, "submit": 0.0, "look": 0.0, "say": 60.0}
    runs: list[int] = []
    kind = _draw(rng)
    while (now := time.monotonic() - began) < 60 * options.minutes:
        injector.restore_due()
        if now >= due["submit"]:
            due["submit"] = now + SUBMIT_SECONDS
            open_runs = [run for run in runs[-2 * MOST_RUNS :] if not run_progress(cluster.engine, run).ended]
            if len(open_runs) < MOST_RUNS:
                runs.append(_submit(cluster, folder, len(runs)))
        if now >= due["disturb"] and _disturb_one(kind, cluster, injector, others, rng, soak):
            due["disturb"] = now + rng.uniform(0, 2 * DISTURB_SECONDS)
            kind = _draw(rng)
        if now >= due["look"]:
            due["look"] = now + LOOK_SECONDS
            for worker in quiet:
                _look(worker, now, soak)
            with reading(cluster.engine) as connection:
                soak.connections = max(soak.connections, connection.execute(_CONNECTIONS).scalar_one())
        if now >= due["say"]:
            due["say"] = now + 60.0
            display.log(f"{len(runs)} runs, {sum(soak.disturbances.values())} disturbances")
        time.sleep(0.1)
    _wait_for(cluster, injector, runs, soak)
    soak.audit = audit_run(cluster.engine, runs[-1], RUN_IMAGES)
    soak.lost = soak.audit.lost + sum(lost_images(cluster.engine, run, RUN_IMAGES) for run in runs[:-1])
    soak.runs = len(runs)
    return soak


def _submit(cluster: Cluster, folder: Path, number: int) -> int:
    """Submit a run of new images, each with other bytes, and return its id."""
    place = folder / "pictures" / f"{number:05d}"
    place.mkdir(parents=True)
    rng = np.random.default_rng(number)
    manifest = place / "manifest.csv"
    with manifest.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["image_key", "uri"])
        for image in range(RUN_IMAGES):
            path = place / f"{image}.jpg"
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path, quality=95)
            rows.writerow([f"run-{number}-{image}", path])
    options = ("--model", "chaos", "--batch-size", BATCH_SIZE)
    return int(tagmill_json("submit", manifest, *options, env=cluster.env)["run"])


def _draw(rng: random.Random) -> str:
    return str(rng.choices(list(KINDS), list(KINDS.values()))[0])


def _disturb_one(
    kind: str,
    cluster: Cluster,
    injector: Injector,
    others: list[SupervisedWorker],
    rng: random.Random,
    soak: Soak,
) -> bool:
    """Disturb a worker, or a third of them for a deploy. Return False if none of them has a batch just now."""
    if kind == "drain":
        name = rng.choice(others).name
        running = [found for found in list_workers(cluster.engine) if found.name.startswith(f"{name}@")]
        ask_to_drain(cluster.engine, [found for found in running if found.state is WorkerState.READY])
    elif kind == "deploy":
        for worker in rng.sample(others, len(others) // 3):
            worker.supervisor.terminate()
    else:
        hit = injector.inject(Fault(kind))
        if hit is None:
            return False
    soak.disturbances[kind] = soak.disturbances.get(kind, 0) + 1
    return True


def _look(worker: SupervisedWorker, now: float, soak: Soak) -> None:
    child = worker.child()
    if child is None:
        return
    process = Path(f"/proc/{child.pid}")
    words = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    files = len(list((process / "fd").iterdir()))
    look = (now, 1024 * int(words["VmRSS"].split()[0]), files, int(words["Threads"]))
    soak.seen.setdefault(worker.name, []).append(look)


def _wait_for(cluster: Cluster, injector: Injector, runs: list[int], soak: Soak) -> None:
    left = set(runs)

    def ended() -> bool:
        injector.restore_due()
        for run in sorted(left):
            if run_progress(cluster.engine, run).ended:
                left.discard(run)
        return not left

    try:
        wait_until(ended, END_SECONDS, "the runs to end")
    except AssertionError:
        soak.unfinished = len(left)


def _plot(soak: Soak, warm: float, path: Path) -> None:
    """Draw the memory of the undisturbed workers over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    for name, looks in soak.seen.items():
        axes.plot([look[0] / 60 for look in looks], [look[1] / 2**20 for look in looks], linewidth=1, label=name)
    axes.axvline(warm / 60, color="gray", linewidth=0.8, linestyle=":")
    axes.set(xlabel="minutes", ylabel="resident memory (MiB)", ylim=(0, None))
    axes.set_title("Workers that nobody disturbed, while the others were drained, killed and deployed")
    axes.legend(fontsize="small", ncols=4)
    figure.savefig(path, dpi=110)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos.soak", description=__doc__)
    parser.add_argument("--workers", type=int, default=24)
    parser.add_argument("--quiet", type=int, default=4, help="workers that are not disturbed")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="seed of the order and times of disturbances")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the memory of undisturbed workers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
