"""Says what a chaos run does while it does it, on stderr."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from chaos.account import Verdict, seconds_or_never
from chaos.cluster import Services
from chaos.injection import Injected
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tagmill.cli.run_display import progress_bar


class Display:
    """Lines with the seconds since the start, a progress bar, and two tables at the end."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._started = time.monotonic()
        self._show: Callable[[int], None] = lambda done: None

    def say(self, words: str) -> None:
        """Print a line."""
        self._console.print(f"{time.monotonic() - self._started:7.1f} s  {words}", soft_wrap=True)

    def facts(self, services: Services) -> None:
        """Say what it runs on."""
        packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "redis", "sqlalchemy", "onnxruntime"))
        servers = f"Redis {services.redis.version}, PostgreSQL {services.database.version}"
        self.say(f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {servers}, {packages}")

    @contextmanager
    def progress(self, name: str, images: int) -> Iterator[None]:
        """Show a bar until the block ends."""
        with progress_bar(self._console) as bar:
            task = bar.add_task(name, total=images, note="")
            self._show = lambda done: bar.update(task, completed=done)
            yield

    def show(self, done: int) -> None:
        """Move the bar to so many images."""
        self._show(done)

    def fault(self, hit: Injected, done: int) -> None:
        """Say that a fault was done."""
        self.say(f"{done:7d} images done: {hit.fault}{f' of {hit.target}' if hit.target else ''}")

    def verdict(self, verdict: Verdict) -> None:
        """Print what each SIGKILL cost, and what became of the images."""
        kills = Table("SIGKILL to", "of", "batches in hand", "running again after", "service away", box=SIMPLE_HEAD)
        for found in verdict.disturbed.recoveries:
            waited = seconds_or_never(found.seconds) if found.batches else "-"
            away = "yes" if found.outage else ""
            kills.add_row(
                found.kill.fault.removeprefix("SIGKILL to "), found.kill.target, str(found.batches), waited, away
            )
        self._console.print(kills)
        outcomes = Table("run", "tagged", "failed", "redone", "seconds", box=SIMPLE_HEAD)
        for name, account in (("undisturbed", verdict.undisturbed), ("disturbed", verdict.disturbed)):
            failed = ", ".join(f"{code} {count}" for code, count in account.failures.items()) or "0"
            outcomes.add_row(name, str(account.tagged), failed, str(account.redone), f"{account.seconds:.1f}")
        self._console.print(outcomes)
        if verdict.missed:
            self.say(f"{verdict.missed} faults came too late to disturb anything: take more images")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
