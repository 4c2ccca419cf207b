"""`tagmill audit`: who did what to runs and models."""

import json
from dataclasses import asdict

import click
from rich.table import Table

from tagmill.cli.param_types import AS_JSON
from tagmill.cli.terminal.console import open_console
from tagmill.db.audit import AuditEvent, read_events
from tagmill.db.migrate import open_database
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.models import resolve
from tagmill.settings import load_settings
from tagmill.text import legible, normalize, person, utc_time


@click.command()
@click.option("--run", "run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN", help="Only of this run.")
@click.option("--model", "model_name", metavar="NAME", help="Only of this model.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="Newest to show.")
@AS_JSON
def audit(run_id: int | None, model_name: str | None, limit: int, as_json: bool) -> None:
    """Show who submitted, cancelled, retried, promoted or pruned what, and when; the newest first.

    Exit code 2: there is no such run or model.
    """
    engine = open_database(load_settings().database_url)
    events = read_events(engine, limit, run_id, None if model_name is None else normalize(model_name))
    if not events:
        # A run that was pruned still has events.
        if run_id is not None:
            run_progress(engine, run_id)
        if model_name is not None:
            resolve(engine, model_name)
    if as_json:
        click.echo(json.dumps([asdict(event) for event in events]))
        return
    table = Table("when (UTC)", "who", "what", "of", "why", "details")
    for event in events:
        when, who, why = utc_time(event.at), person(event.user_name, event.host), legible(event.reason or "")
        table.add_row(when, who, event.action, _subject(event), why, _details(event))
    open_console().print(table if events else "nothing was done yet")


def _subject(event: AuditEvent) -> str:
    if event.run_id is not None:
        return f"run {event.run_id}"
    if event.model is None:
        return ""
    before = "" if event.from_version is None else f"@{event.from_version}"
    after = "" if event.to_version is None else f"@{event.to_version}"
    return f"{event.model}{before}{' to ' if before and after else ''}{after}"


def _details(event: AuditEvent) -> str:
    return ", ".join(f"{key}: {legible(_short(value))}" for key, value in (event.details or {}).items())


def _short(value: object) -> str:
    """Return the gates of a promotion without their figures, which `--json` has."""
    if isinstance(value, dict):
        return str(value.get("status") or ", ".join(f"{key} {_short(each)}" for key, each in value.items()))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
