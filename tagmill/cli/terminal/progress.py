"""Show the progress of a training: bars on a terminal, one line per epoch everywhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from tagmill.cli.terminal.console import open_console, text_column
from tagmill.text import legible

#: seconds between two updates of a running epoch's figures
UPDATE_SECONDS = 0.5
#: unreadable images that are named; the rest are counted
NAMED = 5


class UnreadableImage(Protocol):
    """An image that was skipped, and why."""

    @property
    def path(self) -> Path:
        """The image file."""

    @property
    def reason(self) -> str:
        """The error in a few words."""


class Display:
    """Progress on standard error, so that standard output holds only the result."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or open_console(stderr=True, highlight=False)

    def say(self, line: str) -> None:
        """Write one line."""
        self.console.print(legible(line), markup=False, soft_wrap=True)

    @contextmanager
    def reading(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar of decoded images; yield the function to call with the number done so far."""
        with self._bar("{task.description}") as bar:
            task = bar.add_task(f"reading {name}", total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def training(self, epochs: int, steps: int, done: int = 0) -> Iterator[Callable[[int, Callable[[], str]], None]]:
        """Show a bar over all epochs, of which `done` are complete; yield the function to call after each step.

        Pass it the epoch and a function that returns the figures. That function is called twice a second at most,
        because reading figures from a GPU waits for it.
        """
        with self._bar("{task.description}") as bar:
            task = bar.add_task(f"epoch {done + 1}/{epochs}", total=epochs * steps, completed=done * steps)
            shown = 0.0

            def step(epoch: int, figures: Callable[[], str]) -> None:
                nonlocal shown
                bar.advance(task)
                if not bar.disable and (now := time.monotonic()) - shown > UPDATE_SECONDS:
                    shown = now
                    bar.update(task, description=f"epoch {epoch}/{epochs}  {figures()}")

            yield step

    def name_unreadable(self, unreadable: Sequence[UnreadableImage]) -> None:
        """Print which images were skipped, and why."""
        for entry in unreadable[:NAMED]:
            self.say(f"skipped {entry.path}: {entry.reason}")
        if len(unreadable) > NAMED:
            self.say(f"skipped {len(unreadable) - NAMED} more unreadable images")

    def _bar(self, text: str) -> Progress:
        columns = (text_column(text), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # Without a terminal there is no bar, only the lines.
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
