"""`tagmill submit`, `tagmill run` and `tagmill results`."""

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click
from kombu.exceptions import OperationalError

from producer.control import cancel_run, reconcile, retry_run
from producer.display import exit_code, progress_bar, runs_table, status_table, watch
from producer.formats import Format, write_csv, write_jsonl
from producer.manifest import check, open_sources, roots_of
from producer.mask_files import require_segmenter, write_masks
from producer.progress import list_runs, run_progress
from producer.results import ImageResult, read_results, run_models, unique_names
from producer.results_file import whole_file
from producer.submit import create_run, publish_run
from tagmill.broker import make_app, require_shared_broker
from tagmill.console import open_console
from tagmill.database import open_database
from tagmill.errors import ExitCode, InputError, OutputError, ServiceDown
from tagmill.outcome import ErrorCode
from tagmill.reason import reason_of
from tagmill.registry import Model, resolve
from tagmill.settings import load_settings

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@contextmanager
def publishing(run_id: int) -> Iterator[None]:
    """Say of a broker that is down what became of the run: it is in SQL, and submitting it again would double it."""
    try:
        yield
    except OperationalError as error:
        raise ServiceDown(
            f"the broker does not answer ({reason_of(error)}); run {run_id} is in SQL, do not submit it again: workers "
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


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--model", "models", multiple=True, required=True, metavar="NAME[@VERSION]", help="May be repeated.")
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1, 4096), help="Images a message.")
@click.option(
    "--allow-root",
    "extra_roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A further folder that this run's manifest may point into.",
)
@click.option("--wait", is_flag=True, help="Watch until the run is done; exit code 3 if images failed.")
@click.option("--dry-run", is_flag=True, help="Check the sources, list every problem, queue nothing.")
@AS_JSON
def submit(
    sources: tuple[str, ...],
    models: tuple[str, ...],
    batch_size: int,
    extra_roots: tuple[Path, ...],
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Enqueue folders and CSV manifests (columns image_key, uri) as one run.

    Folders and the manifests' own folders may be read by the workers for this run.
    """
    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    chosen = list({found.sha256: found for found in (resolve(engine, wanted) for wanted in models)}.values())
    if dry_run:
        return _check_sources(sources, as_json)
    roots = [*roots_of(sources), *(root.resolve() for root in extra_roots)]
    with progress_bar(open_console(stderr=True)) as bar:
        task = bar.add_task("submit", total=None, note="writing to SQL")
        run_id = create_run(
            *(engine, " ".join(sources), open_sources(sources), chosen, roots, batch_size, settings.queue),
            progress=lambda images: bar.update(task, completed=images),
        )
        bar.update(task, note="publishing")
        with going_on(run_id), publishing(run_id):
            batches = publish_run(make_app(settings), engine, run_id)
        bar.update(task, note=f"run {run_id}: {batches} batches queued")
    with going_on(run_id):
        progress = watch(engine, run_id) if wait else run_progress(engine, run_id)
        if as_json:
            click.echo(json.dumps(progress.to_json()))
        else:
            click.echo(f"run {run_id}: {progress.images} images in {batches} batches, {progress.state}")
            click.echo(
                f"follow it with: tagmill run watch {run_id}" if not wait else f"read it with: tagmill results {run_id}"
            )
    return exit_code(progress)


def _check_sources(sources: tuple[str, ...], as_json: bool) -> int:
    """Show every problem; end as the run itself would, which stops at the first."""
    report = check(sources)
    if not report.problems:
        roots_of(sources)  # raises for a folder whose name SQL cannot store
    if as_json:
        listed = [str(problem) for problem in report.problems]
        click.echo(json.dumps({"images": report.entries, "problem_count": report.problem_count, "problems": listed}))
    else:
        for problem in report.problems:
            click.echo(str(problem))
        click.echo(f"{report.entries} images, {report.problem_count} problems; nothing was queued")
    if not report.problems:
        return ExitCode.DONE
    return ExitCode.NOTHING_TO_DO if report.problems[0].empty else ExitCode.USAGE


@click.group()
def run() -> None:
    """List runs, show and watch their progress, cancel them, take failed images again."""


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
    """Show how far one run is, and its failures by code."""
    progress = run_progress(open_database(load_settings().database_url), run_id)
    if as_json:
        click.echo(json.dumps(progress.to_json()))
    else:
        open_console().print(status_table(progress))


@run.command("watch")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@AS_JSON
def watch_command(run_id: int, as_json: bool) -> int:
    """Show a live progress bar until the run is done. Ctrl-C ends the watching, not the run."""
    engine = open_database(load_settings().database_url)
    with going_on(run_id):
        progress = watch(engine, run_id)
    if as_json:
        click.echo(json.dumps(progress.to_json()))
    else:
        open_console().print(status_table(progress))
    return exit_code(progress)


@run.command("cancel")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
def cancel_command(run_id: int) -> None:
    """Take the waiting batches of a run off. Batches in work are finished, results stay; `retry` takes the rest up."""
    cancelled = cancel_run(open_database(load_settings().database_url), run_id)
    click.echo(f"run {run_id}: {cancelled} waiting batches cancelled")


@run.command("retry")
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@click.option(
    "--code",
    "codes",
    multiple=True,
    type=click.Choice([code.value for code in ErrorCode]),
    metavar="CODE",
    help="Only images that failed with this code; may be repeated.",
)
@click.option("--failed", "failed_only", is_flag=True, help="Only failed images, not what a cancelled run left.")
@click.option("--wait", is_flag=True, help="Watch until the run is done; exit code 3 if images failed.")
def retry_command(run_id: int, codes: tuple[str, ...], failed_only: bool, wait: bool) -> int:
    """Take failed images again, and what a cancelled run left."""
    settings = require_shared_broker(load_settings())
    engine = open_database(settings.database_url)
    with publishing(run_id):
        app, chosen = make_app(settings), [ErrorCode(code) for code in codes]
        images = retry_run(app, engine, run_id, chosen, settings.queue, failed_only=failed_only)
    with going_on(run_id):
        click.echo(f"run {run_id}: {images} images queued again")
        return exit_code(watch(engine, run_id)) if wait else ExitCode.DONE


@run.command("reconcile")
def reconcile_command() -> None:
    """Publish what waits or lost its worker, after Redis was emptied. Workers do it by themselves, later."""
    settings = require_shared_broker(load_settings())
    batches = reconcile(make_app(settings), open_database(settings.database_url), settings.queue, settings.max_attempts)
    click.echo(f"{batches} batches published")


@click.command()
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@click.option("--format", "form", type=click.Choice([form.value for form in Format]), default="csv", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, writable=True), default="-", help="A file; - is stdout."
)
@click.option("--masks", "masks", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Also write each mask as a PNG at its picture's own size.")  # fmt: skip
def results(run_id: int, form: str, output: str, masks: Path | None) -> None:
    """Write the labels and masks of a run, one row or JSON object an image, in the order of its manifest."""
    engine = open_database(load_settings().database_url)
    models = run_models(engine, run_id)
    names = [(unique_names(models)[model.sha256], model) for model in models]
    if masks is not None:
        require_segmenter(models)
    if output == "-":
        count = _write_stdout(read_results(engine, run_id, models), names, form)
    else:
        try:
            with whole_file(Path(output)) as out:
                count = _write(read_results(engine, run_id, models), names, form, out)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror}") from error
    click.echo(f"run {run_id}: {count} images", err=True)
    if masks is not None:
        try:
            written = write_masks(read_results(engine, run_id, models), names, masks)
        except OSError as error:
            raise InputError(f"{error.filename or masks}: {error.strerror}; name another folder") from error
        click.echo(f"{written} masks in {masks}", err=True)


def _write_stdout(rows: Iterable[ImageResult], names: Sequence[tuple[str, Model]], form: str) -> int:
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise InputError("standard output is closed; name a file with -o")
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # as a file has it, whatever the locale
    count = _write(rows, names, form, sys.stdout)
    sys.stdout.flush()
    return count


def _write(rows: Iterable[ImageResult], names: Sequence[tuple[str, Model]], form: str, out: TextIO) -> int:
    return write_jsonl(rows, out) if form == Format.JSONL else write_csv(rows, names, out)
