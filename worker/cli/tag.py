"""`tagmill tag`: tag folders and manifests in this process."""

import json
import shlex
from pathlib import Path

import click
from sqlalchemy.engine import make_url

from producer.cli.read_options import read_options
from producer.sources.options import READ_ALL, ReadOptions
from tagmill.cli.fetch_options import fetch_options
from tagmill.cli.param_types import AS_JSON, DATABASE, DEVICE, MEASURE, error_codes
from tagmill.cli.terminal.console import open_console
from tagmill.cli.terminal.run_display import exit_code, note, progress_bar, status_table
from tagmill.database_url import sqlalchemy_url
from tagmill.fetch_options import FETCH_ALL, FetchOptions
from tagmill.ledger.runs.progress import RunProgress
from tagmill.measuring import Measuring
from tagmill.outcomes import ErrorCode
from tagmill.settings import Settings, load_settings
from worker.cli.options import BUNDLES
from worker.local.tag import TaggedRun, local_settings, tag_locally
from worker.pictures.text_detector import require_measuring


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@BUNDLES
@DATABASE
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1, 4096), help="Images a batch.")
@DEVICE
@MEASURE
@click.option("--retry-failed", is_flag=True, help="Tag only the failed images of the last run of the same command.")
@error_codes("With --retry-failed: only images that failed with this code; may be repeated.")
@read_options
@fetch_options
@AS_JSON
def tag(
    sources: tuple[str, ...],
    bundles: tuple[Path, ...],
    database_url: str | None,
    batch_size: int,
    device: str | None,
    measure: tuple[str, ...],
    retry_failed: bool,
    codes: tuple[str, ...],
    read: ReadOptions,
    fetching: FetchOptions,
    as_json: bool,
) -> int:
    """Tag folders and manifests in this process, with no servers.

    Run the same command again to continue after an interruption, and with --retry-failed to try failed images again.
    """
    if codes and not retry_failed:
        raise click.UsageError("--code needs --retry-failed")
    retry = [ErrorCode(code) for code in codes] if retry_failed else None
    settings = load_settings(database_url=database_url, device=device)
    settings = local_settings(settings, settings.database_url)
    measuring = Measuring.parse(measure)
    if measuring:
        require_measuring(measuring)
    done = tag_with_bar(settings, sources, bundles, batch_size, retry, read, fetching, measuring)
    if as_json:
        click.echo(json.dumps(done.progress.to_json() | done.skipped.to_json()))
    else:
        open_console().print(status_table(done.progress))
        for line in done.skipped.lines():
            click.echo(line)
        click.echo(f"read it with: {how_to_read(done.progress.run, database_url)}")
    return exit_code(done.progress)


def how_to_read(run: int, database_url: str | None) -> str:
    """Return the shell command that shows the results. It names the database only if --db did; never a password."""
    command = f"tagmill results {run}"
    if database_url is None:
        return command
    url = make_url(sqlalchemy_url(database_url))
    if url.password is not None or "password" in url.query:
        return f"{command}, with TAGMILL_DATABASE_URL set to what --db was given"
    return f"TAGMILL_DATABASE_URL={shlex.quote(database_url)} {command}"


def tag_with_bar(
    settings: Settings,
    sources: tuple[str, ...],
    bundles: tuple[Path, ...],
    batch_size: int,
    retry: list[ErrorCode] | None = None,
    read: ReadOptions = READ_ALL,
    fetching: FetchOptions = FETCH_ALL,
    measuring: Measuring | None = None,
) -> TaggedRun:
    """Run `tag_locally` under a progress bar."""
    with progress_bar(open_console(stderr=True)) as bar:
        shown = bar.add_task("tagging", total=None, note="loading bundles")

        def show(progress: RunProgress) -> None:
            bar.update(shown, total=progress.images, completed=progress.images - progress.pending, note=note(progress))

        return tag_locally(settings, sources, bundles, batch_size, show, retry, read, fetching, measuring)
