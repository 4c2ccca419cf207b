"""`tagmill prune`: delete old runs, and what nothing shows any more."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn
from sqlalchemy import Engine

from tagmill.cli.param_types import AS_JSON, DATABASE
from tagmill.cli.terminal.console import open_console, text_column
from tagmill.db.migrate import open_database
from tagmill.ledger.pruning.counts import Counts, Report
from tagmill.ledger.pruning.prune import preview
from tagmill.ledger.pruning.prune import prune as delete_old
from tagmill.registry.open_store import open_store
from tagmill.settings import load_settings

_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


class Age(click.ParamType[float]):
    """A number of hours, days or weeks, as seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", str(value))
        if found is None:
            self.fail(f"{value} is not a number of hours, days or weeks such as 36h, 90d or 12w.", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


@click.command()
@click.option("--older-than", "seconds", required=True, type=Age(), metavar="90d", help="Since when runs have ended.")
@click.option("--bundles", is_flag=True, help="Also the bundles of models that nothing uses, in the model store.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@DATABASE
@AS_JSON
def prune(seconds: float, bundles: bool, dry_run: bool, database_url: str | None, as_json: bool) -> None:
    """Delete runs that ended long ago, and the images and results that nothing shows any more.

    What the catalog shows stays, and the entries that it comes from. Workers go on meanwhile. It may be interrupted;
    repeat it to go on. PostgreSQL: log in as the owner of the tables.
    """
    settings = load_settings(database_url=database_url)
    engine = open_database(settings.database_url)
    with _bar() as report:
        if dry_run:
            counts = preview(engine, seconds, report)
        else:
            counts = delete_old(engine, seconds, report, open_store(settings).remove if bundles else None)
    if as_json:
        click.echo(json.dumps(counts.to_json()))
        return
    lines = list(_lines(counts))
    click.echo("\n".join(["would be deleted:" if dry_run else "deleted:", *lines]) if lines else "nothing is that old")
    if lines and not dry_run:
        _say_room(engine)


def _lines(counts: Counts) -> Iterator[str]:
    if counts.runs:
        yield f"  {counts.runs:,} runs"
    if counts.entries:
        yield f"  {counts.entries:,} entries" + (
            f", some of {counts.thinned_runs:,} runs that stay" if counts.thinned_runs else ""
        )
    if counts.images:
        yield f"  {counts.images:,} images with their results"
    if counts.models:
        number = f": {counts.results:,}" if counts.results else ""
        yield f"  results of models that nothing uses{number} ({', '.join(counts.models)})"
    if counts.known:
        yield f"  {counts.known:,} known files and URLs"
    if counts.bundles:
        yield f"  {len(counts.bundles)} bundles, {counts.bundle_bytes / 1e6:,.1f} MB ({', '.join(counts.bundles)})"


def _say_room(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        click.echo("new rows use the room in the file; VACUUM shrinks it (docs/operations/prune.md)", err=True)


@contextmanager
def _bar() -> Iterator[Report]:
    """Show what is done on standard error: a bar on a terminal, else nothing."""
    console = open_console(stderr=True, highlight=False)
    columns = (text_column("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("looking", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)
