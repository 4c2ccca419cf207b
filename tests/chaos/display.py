"""Show the progress and the outcome of a chaos run on stderr."""

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from chaos.audit import Verdict, seconds_or_never
from chaos.cluster import Services
from chaos.injection import InjectedFault
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tagmill.cli.terminal.run_display import progress_bar
from tagmill.machine import cpu_name, usable_cores


class Display:
    """Lines with the seconds since the start, a progress bar, and two tables at the end."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._started = time.monotonic()
        self._show: Callable[[int], None] = lambda done: None

    def log(self, message: str) -> None:
        """Print a line with the seconds since the start."""
        self._console.print(f"{time.monotonic() - self._started:7.1f} s  {message}", soft_wrap=True)

    def log_versions(self, services: Services) -> None:
        """Print the machine and the versions of servers and packages."""
        packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "redis", "sqlalchemy", "onnxruntime"))
        servers = f"Redis {services.redis.version}, PostgreSQL {services.database.version}"
        self.log(f"{cpu_name()}, {usable_cores()} cores; Python {platform.python_version()}, {servers}, {packages}")

    @contextmanager
    def progress(self, name: str, images: int) -> Iterator[None]:
        """Show a progress bar until the block ends."""
        with progress_bar(self._console) as bar:
            task = bar.add_task(name, total=images, note="")
            self._show = lambda done: bar.update(task, completed=done)
            yield

    def show_progress(self, done: int) -> None:
        """Move the bar to that many images."""
        self._show(done)

    def log_fault(self, hit: InjectedFault, done: int) -> None:
        """Print a fault that was injected."""
        self.log(f"{done:7d} images done: {hit.fault}{f' of {hit.target}' if hit.target else ''}")

    def show_verdict(self, verdict: Verdict) -> None:
        """Print a table of what each SIGKILL cost, and a table of the outcomes."""
        kills = Table("SIGKILL to", "of", "batches owned", "running again after", "service down", box=SIMPLE_HEAD)
        for found in verdict.disturbed.recoveries:
            recovered = seconds_or_never(found.seconds) if found.batches else "-"
            down = "yes" if found.outage else ""
            kills.add_row(
                found.kill.fault.removeprefix("SIGKILL to "), found.kill.target, str(found.batches), recovered, down
            )
        self._console.print(kills)
        outcomes = Table("run", "tagged", "failed", "redone", "seconds", box=SIMPLE_HEAD)
        for name, audit in (("undisturbed", verdict.undisturbed), ("disturbed", verdict.disturbed)):
            failed = ", ".join(f"{code} {count}" for code, count in audit.failures.items()) or "0"
            outcomes.add_row(name, str(audit.tagged), failed, str(audit.redone), f"{audit.seconds:.1f}")
        self._console.print(outcomes)
        if verdict.missed:
            self.log(f"{verdict.missed} faults came too late to disturb anything: take more images")
