"""What commands that only read take, as whole processes, and what the exporter asks of the database."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text
from support.processes import environment

from benchmarks.producer.scale import Ran, run_command
from benchmarks.upkeep.fill import Filled
from tagmill.exporter.readings import read_ledger

_BLOCKS = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"


@dataclass(frozen=True)
class Scrapes:
    """What a scrape that reads SQL takes: seconds, and blocks of 8 kB that PostgreSQL looks at."""

    median: float
    p95: float
    longest: float
    blocks: float


def reading_commands(url: str, filled: Filled, folder: Path, times: int) -> dict[str, list[Ran]]:
    """Run each command several times; return its name -> what each took."""
    env = environment(database_url=url, model_store=folder / "models")
    a, b = filled.first.title, filled.second.title
    commands: dict[str, tuple[object, ...]] = {
        f"model diff {a} {b}": ("model", "diff", a, b),
        "model diff, as a page": ("model", "diff", a, b, "-o", folder / "diff.html"),
        "worker list": ("worker", "list"),
        "audit": ("audit",),
        "audit --model": ("audit", "--model", filled.first.name),
        "model history": ("model", "history"),
        "db upgrade --check": ("db", "upgrade", "--check"),
        "run list": ("run", "list"),
        "prune --dry-run": ("prune", "--older-than", "90d", "--dry-run"),
    }
    once = ("model diff, as a page", "prune --dry-run")
    return {
        name: [run_command(env, *command) for _ in range(1 if name in once else times)]
        for name, command in commands.items()
    }


def scrapes(engine: Engine, times: int) -> Scrapes:
    """Read what the exporter reads, without its cache."""
    seconds, before = [], _blocks(engine)
    for _ in range(times):
        began = time.perf_counter()
        read_ledger(engine)
        seconds.append(time.perf_counter() - began)
    found = sorted(seconds)
    blocks = (_blocks(engine) - before) / times
    return Scrapes(statistics.median(found), found[int(0.95 * (times - 1))], found[-1], blocks)


def _blocks(engine: Engine) -> int:
    engine.dispose()  # a process of PostgreSQL reports what it has counted when it ends
    time.sleep(0.3)
    with engine.connect() as connection:
        return int(connection.execute(text(_BLOCKS)).scalar_one())
