"""What the producer's commands share: options, and what they say when they are interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from kombu.exceptions import OperationalError

from tagmill.errors import ExitCode, OutputError, ServiceDown, first_line

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@contextmanager
def publishing(run_id: int) -> Iterator[None]:
    """Say of a broker that is down what became of the run: it is in SQL, and submitting it again would double it."""
    try:
        yield
    except OperationalError as error:
        raise ServiceDown(
            f"the broker does not answer ({first_line(error)}); run {run_id} is in SQL, do not submit it again: workers "
            "take it up once TAGMILL_BROKER_URL answers, or at once after `tagmill run reconcile`"
        ) from error


@contextmanager
def going_on(run_id: int) -> Iterator[None]:
    """Say on Ctrl-C or a full disk that the run needs this command no more: to submit it again would double it."""
    try:
        yield
    except OutputError as error:
        said = f"do not submit run {run_id} again; see `tagmill run status {run_id}`"
        raise OutputError(f"{error}, but {said}") from error
    except KeyboardInterrupt:
        said = f"interrupted; run {run_id} goes on, do not submit it again; follow it with: tagmill run watch {run_id}"
        click.echo(said, err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
