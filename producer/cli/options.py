"""Options and interruption messages that the producer's commands share."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from kombu.exceptions import OperationalError

from tagmill.errors import BrokerRefusedError, ExitCode, OutputError, ServiceDown, first_line


@contextmanager
def explain_broker_outage(run_id: int) -> Iterator[None]:
    """Say, if the broker does not answer or refuses, that the run is in SQL: submitting again doubles it."""
    advice = (
        f"run {run_id} is in SQL, do not submit it again: "
        "workers take it up once TAGMILL_BROKER_URL answers, or at once after `tagmill run reconcile`"
    )
    try:
        yield
    except OperationalError as error:
        raise ServiceDown(f"the broker does not answer ({first_line(error)}); {advice}") from error
    except BrokerRefusedError as error:
        raise BrokerRefusedError(f"{error}; {advice}") from error


@contextmanager
def explain_interruption(run_id: int) -> Iterator[None]:
    """Say on Ctrl-C or a full disk that the run continues without this command: submitting again doubles it."""
    try:
        yield
    except OutputError as error:
        advice = f"do not submit run {run_id} again; see `tagmill run status {run_id}`"
        raise OutputError(f"{error}, but {advice}") from error
    except KeyboardInterrupt:
        advice = f"run {run_id} goes on, do not submit it again; follow it with: tagmill run watch {run_id}"
        click.echo(f"interrupted; {advice}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
