"""Options and interruption messages that the producer's commands share."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource

from tagmill.errors import ExitCode, OutputError
from tagmill.ledger.runs.rerun import Rerun

MAX_QUEUED = click.option(
    "--max-queued",
    type=click.IntRange(1, 2**31 - 1),
    metavar="BATCHES",
    help="Queue batches only while fewer wait in Redis, of all runs of the queue.",
)
RERUN = click.option(
    "--rerun",
    type=click.Choice([rerun.value for rerun in Rerun]),
    default=Rerun.ALL.value,
    show_default=True,
    help="Which entries are queued: those whose tags are missing in the catalog, those that failed last time, or all.",
)
RESUME = click.option(
    "--resume",
    type=click.IntRange(1, 2**31 - 1),
    metavar="RUN",
    help="Queue the rest of a run whose submit was interrupted. Takes no SOURCE and no --model.",
)
REASON = click.option("--reason", metavar="TEXT", help="Why; `tagmill audit` shows it.")
#: what may be given beside --resume
_BESIDE_RESUME = {"resume", "max_queued", "wait", "as_json"}


def require_nothing_else() -> None:
    """Raise click.UsageError if the command line has something that --resume has no use for."""
    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given - _BESIDE_RESUME or context.params.get("sources"):
        raise click.UsageError("--resume goes with --max-queued, --wait and --json alone: the run is in SQL already.")


@contextmanager
def explain_full_disk(run_id: int) -> Iterator[None]:
    """Say, if the output cannot be written, that the run is in SQL: submitting again doubles it."""
    try:
        yield
    except OutputError as error:
        advice = f"do not submit run {run_id} again; see `tagmill run status {run_id}`"
        raise OutputError(f"{error}, but {advice}") from error


@contextmanager
def explain_interruption(run_id: int) -> Iterator[None]:
    """Say on Ctrl-C or a full disk that the run continues without this command: submitting again doubles it."""
    try:
        with explain_full_disk(run_id):
            yield
    except KeyboardInterrupt:
        advice = f"run {run_id} goes on, do not submit it again; follow it with: tagmill run watch {run_id}"
        click.echo(f"interrupted; {advice}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
