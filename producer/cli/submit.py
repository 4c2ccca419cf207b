"""`tagmill submit`: check folders and manifests, and queue them as one run."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from producer.broker_outage import explain_broker_outage
from producer.cli.interruption import interruptible
from producer.cli.options import (
    MAX_QUEUED,
    RERUN,
    RESUME,
    explain_full_disk,
    explain_interruption,
    require_nothing_else,
)
from producer.cli.read_options import read_options
from producer.publish import publish_run
from producer.sources.open import check, roots_of
from producer.sources.options import ReadOptions
from producer.submission import Submission, WrittenRun, find_targets, write_run
from producer.traced import traced_submit
from tagmill.broker.app import make_app, require_shared_broker
from tagmill.cli.fetch_options import fetch_options
from tagmill.cli.param_types import AS_JSON, MEASURE, PRIORITY, Root
from tagmill.cli.terminal.console import open_console
from tagmill.cli.terminal.run_display import all_failed, ending, exit_code, progress_bar, watch
from tagmill.db.migrate import open_database
from tagmill.errors import ConfigurationError, ExitCode, ServiceDown, first_line
from tagmill.fetch_options import FetchOptions
from tagmill.images.file_names import SkippedFiles
from tagmill.ledger.runs.control import take_over_publishing
from tagmill.ledger.runs.progress import RunProgress, run_progress
from tagmill.ledger.runs.rerun import Rerun
from tagmill.measuring import Measuring
from tagmill.priority import Priority
from tagmill.registry.models import resolve_for_run
from tagmill.settings import Settings, load_settings
from tagmill.text import legible, utc_time


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--model", "models", multiple=True, metavar="NAME[@VERSION]", help="May be repeated.")
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1, 4096), help="Images per message.")
@click.option(
    "--allow-root",
    "extra_roots",
    multiple=True,
    type=Root(),
    help="A further folder, or prefix such as s3://bucket/2026/, that this run's manifest may point into.",
)
@click.option(
    "--priority",
    type=PRIORITY,
    default=Priority.NORMAL.word,
    show_default=True,
    help="Whose batches are taken first: an urgent run overtakes the others, a backfill waits for them.",
)
@MEASURE
@RERUN
@MAX_QUEUED
@RESUME
@click.option(
    "--id",
    "submission_id",
    metavar="TEXT",
    help="What the run is found by if this command is repeated: it then queues nothing twice.",
)
@click.option("--wait", is_flag=True, help="Watch until the run is done; exit code 3 if images failed.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check the sources, list every problem, queue nothing. Needs no server and no model.",
)
@read_options
@fetch_options
@AS_JSON
def submit(
    sources: tuple[str, ...],
    models: tuple[str, ...],
    batch_size: int,
    extra_roots: tuple[str, ...],
    priority: str,
    measure: tuple[str, ...],
    rerun: str,
    max_queued: int | None,
    resume: int | None,
    submission_id: str | None,
    wait: bool,
    dry_run: bool,
    read: ReadOptions,
    fetching: FetchOptions,
    as_json: bool,
) -> int:
    """Enqueue folders, images and manifests as one run.

    A manifest is a CSV, TSV, JSON Lines or Parquet file, a query such as sql:SELECT ..., or - for standard input.
    Folders and the manifests' own folders may be read by the workers for this run.
    """
    if resume is not None:
        require_nothing_else()
        return _publish_rest(resume, max_queued, wait, as_json)
    if not sources:
        raise click.UsageError("Missing argument 'SOURCE...'.")
    measuring = Measuring.parse(measure)
    if dry_run:
        if rerun != Rerun.ALL:
            raise click.UsageError("--dry-run checks every entry: leave --rerun out.")
        _check_models(models)
        return _check_sources(sources, read, as_json)
    if not models:
        raise click.UsageError("Missing option '--model'.")
    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    wanted = Submission(
        sources,
        models,
        batch_size=batch_size,
        allow_roots=extra_roots,
        priority=Priority.parse(priority),
        rerun=Rerun(rerun),
        read=read,
        fetch=fetching,
        measure=measuring,
        id=submission_id,
    )
    targets = find_targets(engine, wanted)
    shown_bar, traced = progress_bar(open_console(stderr=True)), traced_submit(settings)
    with interruptible(engine, max_queued) as submission, shown_bar as bar, traced as describe:
        task = bar.add_task("submit", total=None, note="writing to SQL")
        shown = partial(bar.update, task)
        written = write_run(engine, wanted, targets, settings.queue, lambda images: shown(completed=images))
        submission.written(written.run)
        batches = _publish(settings, engine, written.run, max_queued, lambda note: shown(note=note))
        describe({"run": written.run, "batches": batches, "repeated": written.repeated})
    return _show(engine, written, batches, wait, as_json)


def _publish_rest(run_id: int, max_queued: int | None, wait: bool, as_json: bool) -> int:
    """Publish what an interrupted submit left, and return the exit code of the command."""
    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    take_over_publishing(engine, run_id)
    with interruptible(engine, max_queued) as submission, progress_bar(open_console(stderr=True)) as bar:
        submission.written(run_id)
        task = bar.add_task("submit", total=None, note="")
        batches = _publish(settings, engine, run_id, max_queued, lambda note: bar.update(task, note=note))
    return _show(engine, WrittenRun(run_id, SkippedFiles(), 0, ""), batches, wait, as_json)


def _publish(
    settings: Settings, engine: Engine, run_id: int, max_queued: int | None, tell: Callable[[str], None]
) -> int:
    """Publish a run with notes of its progress; return how many messages were sent."""

    def note(sent: int, waiting: int | None) -> None:
        full = "" if waiting is None else f"; {waiting} wait, going on below {max_queued}"
        tell(f"run {run_id}: {sent} batches queued{full}")

    tell("publishing")
    with explain_full_disk(run_id), explain_broker_outage(run_id):
        batches = publish_run(make_app(settings), engine, run_id, max_queued, note)
    note(batches, None)
    return batches


def _show(engine: Engine, written: WrittenRun, batches: int, wait: bool, as_json: bool) -> int:
    """Show a run that is queued, or watch it to its end; return the exit code."""
    with explain_interruption(written.run):
        progress = watch(engine, written.run) if wait else run_progress(engine, written.run)
        if as_json:
            further = {"left_out": written.left_out, "repeated": written.repeated}
            click.echo(json.dumps(progress.to_json() | written.skipped.to_json() | further))
        else:
            if written.repeated:
                when = utc_time(progress.created_at)
                click.echo(f"run {written.run} was submitted under this id at {when} UTC; nothing is queued twice")
            for line in (*written.skipped.lines(), *filter(None, [written.reason])):
                click.echo(line)
            queued = "" if written.repeated and not batches else f" in {batches} batches"
            click.echo(f"run {progress.run}: {progress.images} images{queued}, {ending(progress)}")
            click.echo(_next_step(progress))
    return exit_code(progress)


def _next_step(progress: RunProgress) -> str:
    if not progress.ended:
        return f"follow it with: tagmill run watch {progress.run}"
    if all_failed(progress):
        return f"see why with: tagmill run status {progress.run}"
    return f"read it with: tagmill results {progress.run}"


def _check_models(models: tuple[str, ...]) -> None:
    """Raise InputError for a model that is not registered. If no database answers, say so: a dry run needs none."""
    if not models:
        return
    try:
        engine = _existing_database()
        for wanted in models:
            resolve_for_run(engine, wanted)
    except (ConfigurationError, ServiceDown, SQLAlchemyError) as error:
        click.echo(f"the models were not checked: {first_line(error)}", err=True)


def _existing_database() -> Engine:
    """Return the database of the settings. Raise ConfigurationError for a SQLite file that opening would create."""
    url = load_settings().database_url
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise ConfigurationError(f"there is no database {parsed.database}; set TAGMILL_DATABASE_URL")
    return open_database(url)


def _check_sources(sources: tuple[str, ...], read: ReadOptions, as_json: bool) -> int:
    """Show every problem. Return the exit code that the submission would end with at the first."""
    report = check(sources, read)
    if not report.problems:
        roots_of(sources, read)  # raises for a folder whose name SQL cannot store
    if as_json:
        listed = [str(problem) for problem in report.problems]
        found = {"images": report.entries, "problem_count": report.problem_count, "problems": listed}
        click.echo(json.dumps(found | report.skipped.to_json()))
    else:
        for problem in report.problems:
            click.echo(legible(str(problem)))
        for line in report.skipped.lines():
            click.echo(line)
        click.echo(f"{report.entries} images, {report.problem_count} problems; nothing was queued")
    if not report.problems:
        return ExitCode.DONE
    return ExitCode.NOTHING_TO_DO if report.problems[0].empty else ExitCode.USAGE
