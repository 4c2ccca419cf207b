"""What a training shows while it runs: bars on a terminal, a line an epoch everywhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.dataset import Unreadable

#: unreadable pictures that are named; the rest are counted
NAMED = 5


class Display:
    """Writes to standard error, so that standard output holds the result alone."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    def say(self, line: str) -> None:
        """Write one line."""
        self.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def reading(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar of pictures decoded; give the function that is told how many are done."""
        with self._bar("{task.description}") as bar:
            task = bar.add_task(f"reading {name}", total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def training(self, epochs: int, steps: int) -> Iterator[Callable[[int, str], None]]:
        """Show a bar over all epochs; give the function that is told of each step: its epoch and figures."""
        with self._bar("{task.description}") as bar:
            task = bar.add_task(f"epoch 1/{epochs}", total=epochs * steps)

            def step(epoch: int, figures: str) -> None:
                bar.update(task, advance=1, description=f"epoch {epoch}/{epochs}  {figures}")

            yield step

    def name_unreadable(self, unreadable: Sequence[Unreadable]) -> None:
        """Say which pictures were skipped, and why."""
        for entry in unreadable[:NAMED]:
            self.say(f"skipped {entry.path}: {entry.reason}")
        if len(unreadable) > NAMED:
            self.say(f"skipped {len(unreadable) - NAMED} more unreadable pictures")

    def _bar(self, text: str) -> Progress:
        columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # Where nobody watches, the bar is left out and the lines remain.
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
