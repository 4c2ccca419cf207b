"""`tagmill run`: list, show, watch, pause, resume, cancel, retry and reconcile runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click
from kombu.exceptions import OperationalError

from producer.broker_outage import explain_broker_outage
from producer.cli.options import REASON, explain_interruption
from tagmill.cli.param_types import AS_JSON, PRIORITY, error_codes
from tagmill.cli.terminal.console import open_console
from tagmill.cli.terminal.run_display import exit_code, runs_table, status_table, watch
from tagmill.db.migrate import open_database
from tagmill.errors import ExitCode, first_line
from tagmill.ledger.runs.control import is_paused
from tagmill.ledger.runs.cost import run_cost
from tagmill.ledger.runs.create import cancel_run
from tagmill.ledger.runs.progress import RunProgress, list_runs, run_progress
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority
from tagmill.settings import Settings, load_settings


@click.group()
def run() -> None:
    """List runs, show and watch their progress, pause, cancel and retry them."""


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
@REASON
def cancel_command(run_id: int, reason: str | None) -> None:
    """Cancel the waiting batches of a run. Batches in work finish, results stay; `retry` queues the rest again."""
    settings = load_settings()
    engine = open_database(settings.database_url)
    cancelled = cancel_run(engine, run_id, reason)
    click.echo(f"run {run_id}: {cancelled} waiting batches cancelled")
    # Imported here: Celery takes longer to import than `run status` takes.
    from producer.runs import remove_cancelled
    from tagmill.broker.app import make_app

    with _leaving_messages():
        if removed := remove_cancelled(make_app(settings), engine, run_id):
            click.echo(f"{removed} messages were taken off the queue")


@run.command("pause")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@REASON
def pause_command(run_id: int, reason: str | None) -> None:
    """Let workers take no further batches of a run. Batches in work finish; `resume` goes on."""
    from producer.runs import pause
    from tagmill.broker.app import make_app

    settings = load_settings()
    engine = open_database(settings.database_url)
    removed: int | None = 0
    with _leaving_messages():
        removed = pause(make_app(settings), engine, run_id, reason)
    if removed is None:
        click.echo(f"run {run_id} is paused already")
        return
    click.echo(f"run {run_id} is paused; go on with: tagmill run resume {run_id}")


@run.command("resume")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@REASON
def resume_command(run_id: int, reason: str | None) -> None:
    """Go on with a paused run: its waiting batches are queued again."""
    from producer.runs import resume
    from tagmill.broker.app import make_app, require_shared_broker

    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    with explain_interruption(run_id), explain_broker_outage(run_id):
        batches = resume(make_app(settings), engine, run_id, reason)
    click.echo(f"run {run_id} is not paused" if batches is None else f"run {run_id}: {batches} batches queued again")


@run.command("priority")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@click.argument("priority", type=PRIORITY)
@REASON
def priority_command(run_id: int, priority: str, reason: str | None) -> None:
    """Change the priority of a run. Its waiting batches are queued again, before or behind those of other runs."""
    from producer.runs import change_priority
    from tagmill.broker.app import make_app, require_shared_broker

    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    with explain_interruption(run_id), explain_broker_outage(run_id):
        batches = change_priority(make_app(settings), engine, run_id, Priority.parse(priority), reason)
    if batches is None:
        click.echo(f"run {run_id} is {priority} already")
    else:
        click.echo(f"run {run_id} is {priority}; {batches} batches queued again")


@run.command("retry")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@error_codes("Only images that failed with this code; may be repeated.")
@click.option("--failed", "failed_only", is_flag=True, help="Only failed images, not what a cancelled run left.")
@click.option("--wait", is_flag=True, help="Watch until the run is done; exit code 3 if images failed.")
@REASON
def retry_command(run_id: int, codes: tuple[str, ...], failed_only: bool, wait: bool, reason: str | None) -> int:
    """Queue the failed images of a run again, and what a cancelled run left."""
    # Imported here: Celery takes longer to import than `run status` takes.
    from producer.runs import retry_run
    from tagmill.broker.app import make_app, require_shared_broker

    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    chosen = [ErrorCode(code) for code in codes]
    with explain_broker_outage(run_id):
        app, queue = make_app(settings), settings.queue
        images = retry_run(app, engine, run_id, chosen, queue, failed_only=failed_only, reason=reason)
    with explain_interruption(run_id):
        click.echo(f"run {run_id}: {images} images queued again")
        if is_paused(engine, run_id):
            click.echo(f"the run is paused; go on with: tagmill run resume {run_id}")
        return exit_code(watch(engine, run_id)) if wait else ExitCode.DONE


@run.command("reconcile")
def reconcile_command() -> None:
    """Publish batches that wait or lost their worker, after Redis was emptied. Workers do so by themselves, later."""
    from producer.runs import reconcile
    from tagmill.broker.app import make_app, require_shared_broker

    settings = require_shared_broker(load_settings())
    batches = reconcile(make_app(settings), open_database(settings.database_url), settings.queue, settings.max_attempts)
    click.echo(f"{batches} batches published")


@contextmanager
def _leaving_messages() -> Iterator[None]:
    """Go on without a broker that is down, and say what becomes of the messages that are left there."""
    try:
        yield
    except OperationalError as error:
        reason = f"the broker does not answer ({first_line(error)})"
        click.echo(f"{reason}; workers will drop the messages that are left on the queue", err=True)


def _show(progress: RunProgress, settings: Settings, as_json: bool) -> None:
    cost = run_cost(progress, settings)
    if as_json:
        click.echo(json.dumps(progress.to_json() | cost.to_json()))
    else:
        open_console().print(status_table(progress, cost))
