"""What a training shows while it runs: bars on a terminal, a line an epoch everywhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from tagmill.cli.console import open_console, text_column
from tagmill.text import legible
from training.annotations.types import Unreadable

#: seconds between two looks at the figures of a running epoch
SECONDS_A_LOOK = 0.5
#: unreadable images that are named; the rest are counted
NAMED = 5


class Display:
    """Writes to standard error, so that standard output holds the result alone."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or open_console(stderr=True, highlight=False)

    def say(self, line: str) -> None:
        """Write one line."""
        self.console.print(legible(line), markup=False, soft_wrap=True)

    @contextmanager
    def reading(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar of images decoded; give the function that is told how many are done."""
        with self._bar("{task.description}") as bar:
            task = bar.add_task(f"reading {name}", total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def training(self, epochs: int, steps: int, done: int = 0) -> Iterator[Callable[[int, Callable[[], str]], None]]:
        """Show a bar over all epochs, `done` of them before; give the function that is told of each step.

        It takes the epoch and a function for the figures, which is called a few times a second at most: on a GPU
        figures have to be waited for.
        """
        with self._bar("{task.description}") as bar:
            task = bar.add_task(f"epoch {done + 1}/{epochs}", total=epochs * steps, completed=done * steps)
            shown = 0.0

            def step(epoch: int, figures: Callable[[], str]) -> None:
                nonlocal shown
                bar.advance(task)
                if not bar.disable and (now := time.monotonic()) - shown > SECONDS_A_LOOK:
                    shown = now
                    bar.update(task, description=f"epoch {epoch}/{epochs}  {figures()}")

            yield step

    def name_unreadable(self, unreadable: Sequence[Unreadable]) -> None:
        """Say which images were skipped, and why."""
        for entry in unreadable[:NAMED]:
            self.say(f"skipped {entry.path}: {entry.reason}")
        if len(unreadable) > NAMED:
            self.say(f"skipped {len(unreadable) - NAMED} more unreadable images")

    def _bar(self, text: str) -> Progress:
        columns = (text_column(text), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # Where nobody watches, the bar is left out and the lines remain.
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
