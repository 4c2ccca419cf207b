"""`tagmill run`: list, show, watch, cancel, retry and reconcile runs."""

import json

import click
from kombu.exceptions import OperationalError

from producer.cli.options import explain_broker_outage, explain_interruption
from tagmill.cli.console import open_console
from tagmill.cli.param_types import AS_JSON, error_codes
from tagmill.cli.run_display import exit_code, runs_table, status_table, watch
from tagmill.db.migrate import open_database
from tagmill.errors import ExitCode, first_line
from tagmill.ledger.cost import run_cost
from tagmill.ledger.progress import RunProgress, list_runs, run_progress
from tagmill.ledger.runs import cancel_run
from tagmill.outcomes import ErrorCode
from tagmill.settings import Settings, load_settings


@click.group()
def run() -> None:
    """List runs, show and watch their progress, cancel and retry them."""


@run.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 2**31 - 1), help="Newest runs to show.")
@AS_JSON
def list_command(limit: int, as_json: bool) -> None:
    """Show the newest runs."""
    runs = list_runs(open_database(load_settings().database_url), limit)
    if as_json:
        click.echo(json.dumps([progress.to_json() for progress in runs]))
    else:
        open_console().print(runs_table(runs) if runs else "no runs yet; see `tagmill submit`")


@run.command("status")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@AS_JSON
def status_command(run_id: int, as_json: bool) -> None:
    """Show the progress of one run, its failures by code, and what it took."""
    settings = load_settings()
    progress = run_progress(open_database(settings.database_url), run_id)
    _show(progress, settings, as_json)


@run.command("watch")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@AS_JSON
def watch_command(run_id: int, as_json: bool) -> int:
    """Show a live progress bar until the run is done. Ctrl-C ends the watching, not the run."""
    settings = load_settings()
    engine = open_database(settings.database_url)
    with explain_interruption(run_id):
        progress = watch(engine, run_id)
    _show(progress, settings, as_json)
    return exit_code(progress)


@run.command("cancel")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
def cancel_command(run_id: int) -> None:
    """Cancel the waiting batches of a run. Batches in work finish, results stay; `retry` queues the rest again."""
    settings = load_settings()
    engine = open_database(settings.database_url)
    cancelled = cancel_run(engine, run_id)
    click.echo(f"run {run_id}: {cancelled} waiting batches cancelled")
    # Imported here: Celery takes longer to import than `run status` takes.
    from producer.runs import remove_cancelled
    from tagmill.broker.app import make_app

    try:
        removed = remove_cancelled(make_app(settings), engine, run_id)
    except OperationalError as error:
        reason = f"the broker does not answer ({first_line(error)})"
        click.echo(f"{reason}; workers will drop the messages that are left on the queue", err=True)
    else:
        if removed:
            click.echo(f"{removed} messages were taken off the queue")


@run.command("retry")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@error_codes("Only images that failed with this code; may be repeated.")
@click.option("--failed", "failed_only", is_flag=True, help="Only failed images, not what a cancelled run left.")
@click.option("--wait", is_flag=True, help="Watch until the run is done; exit code 3 if images failed.")
def retry_command(run_id: int, codes: tuple[str, ...], failed_only: bool, wait: bool) -> int:
    """Queue the failed images of a run again, and what a cancelled run left."""
    # Imported here: Celery takes longer to import than `run status` takes.
    from producer.runs import retry_run
    from tagmill.broker.app import make_app, require_shared_broker

    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    chosen = [ErrorCode(code) for code in codes]
    with explain_broker_outage(run_id):
        images = retry_run(make_app(settings), engine, run_id, chosen, settings.queue, failed_only=failed_only)
    with explain_interruption(run_id):
        click.echo(f"run {run_id}: {images} images queued again")
        return exit_code(watch(engine, run_id)) if wait else ExitCode.DONE


@run.command("reconcile")
def reconcile_command() -> None:
    """Publish batches that wait or lost their worker, after Redis was emptied. Workers do so by themselves, later."""
    from producer.runs import reconcile
    from tagmill.broker.app import make_app, require_shared_broker

    settings = require_shared_broker(load_settings())
    batches = reconcile(make_app(settings), open_database(settings.database_url), settings.queue, settings.max_attempts)
    click.echo(f"{batches} batches published")


def _show(progress: RunProgress, settings: Settings, as_json: bool) -> None:
    cost = run_cost(progress, settings)
    if as_json:
        click.echo(json.dumps(progress.to_json() | cost.to_json()))
    else:
        open_console().print(status_table(progress, cost))
