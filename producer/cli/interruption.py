"""What Ctrl-C and SIGTERM leave of a submit: nothing, or a run that `tagmill submit --resume` finishes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from tagmill.errors import ExitCode
from tagmill.ledger.runs.publishing import hold_publishing

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Submission:
    """A submit that may be interrupted at any moment. A COMMIT is not: nobody would know if the run was written."""

    def __init__(self) -> None:
        #: the run, once it is in SQL
        self.run_id: int | None = None
        self._handlers: dict[int, Any] = {}
        self._interrupted = False

    def written(self, run_id: int) -> None:
        """Record that the run is in SQL. Raise KeyboardInterrupt if a signal came while it was committed."""
        self.run_id = run_id
        self.restore()
        if self._interrupted:
            raise KeyboardInterrupt

    def defer(self, *_: object) -> None:
        """Note signals from now on, instead of acting on them, until the run is in SQL."""
        if self.run_id is None and not self._handlers:
            self._handlers = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def restore(self) -> None:
        """Act on signals again."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True


@contextmanager
def interruptible(engine: Engine, max_queued: int | None) -> Iterator[Submission]:
    """Say on Ctrl-C and SIGTERM in one line what is left and how to go on.

    With `max_queued`, the rest of the run waits for `--resume`: reapers would publish it at once.
    """
    submission, on_sigterm = Submission(), signal.signal(signal.SIGTERM, _interrupt)
    event.listen(engine, "commit", submission.defer)
    try:
        yield submission
    except KeyboardInterrupt:
        if submission.run_id is not None and max_queued is not None:
            with suppress(SQLAlchemyError):
                hold_publishing(engine, submission.run_id)
        click.echo(f"interrupted; {_what_is_left(submission.run_id, max_queued)}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    finally:
        submission.restore()
        event.remove(engine, "commit", submission.defer)
        signal.signal(signal.SIGTERM, on_sigterm)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    raise KeyboardInterrupt


def _what_is_left(run_id: int | None, max_queued: int | None) -> str:
    if run_id is None:
        return "nothing was queued; it is safe to run the command again"
    resume = f"tagmill submit --resume {run_id}"
    if max_queued is None:
        return f"run {run_id} is in SQL, and workers queue the rest of it; to do it now: {resume}"
    return f"run {run_id} is queued in part; queue the rest with: {resume} --max-queued {max_queued}"
