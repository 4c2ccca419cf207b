"""`tagmill worker`, `tagmill tag`, `tagmill predict`, `tagmill bench` and `tagmill demo`."""

import json
import logging
import math
import os
import shlex
from dataclasses import asdict
from pathlib import Path

import click
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from producer.display import exit_code, note, progress_bar, status_table
from producer.progress import RunProgress
from tagmill import logs
from tagmill.broker import require_shared_broker
from tagmill.console import open_console
from tagmill.database import open_database
from tagmill.errors import ExitCode
from tagmill.reaper import requeue_owned
from tagmill.settings import Settings, load_settings
from worker.device import require_device
from worker.embedded import TaggedRun, embedded_settings, tag_here
from worker.loading import card_options
from worker.predict import predict as predict_files
from worker.session import Session
from worker.supervisor import Supervisor, worker_command

log = logging.getLogger(__name__)

DEVICE = click.option(
    "--device", metavar="auto|cpu|cuda:N|tensorrt:N|openvino", help="Where inference runs.  [default: auto]"
)
BUNDLES = click.option(
    "--bundle", "bundles", multiple=True, required=True, type=click.Path(path_type=Path), metavar="FILE.onnx",
    help="May be repeated: each picture is decoded once for all.",
)  # fmt: skip
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group()
def worker() -> None:
    """Start a supervised worker."""


@worker.command("start")
@click.option("--queue", help="Instead of TAGMILL_QUEUE.")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Batches in work at the same time.  [default: 3]")
@click.option("--name", default="worker", show_default=True, help="Name shown in Flower, before the host's.")
@DEVICE
def start(queue: str | None, concurrency: int | None, name: str, device: str | None) -> int:
    """Run one worker process and start it again when it dies. SIGTERM finishes the batches in hand."""
    settings = load_settings(queue=queue, concurrency=concurrency, device=device)
    require_shared_broker(settings)
    logs.configure(os.environ.get("TAGMILL_LOG_LEVEL", "INFO"))
    engine = open_database(settings.database_url)
    require_device(settings.device, settings.decode_on_card)
    given = {"TAGMILL_QUEUE": settings.queue, "TAGMILL_DEVICE": settings.device}
    given["TAGMILL_CONCURRENCY"] = str(settings.concurrency)

    def free(process: str) -> int:
        try:
            freed = requeue_owned(engine, process)
        except SQLAlchemyError:
            return 0  # the database is away: their leases end by themselves
        if freed:
            log.info("batches of a dead worker are free", extra={"action": "batches_freed", "batches": freed})
        return freed

    return Supervisor(worker_command(settings, name), os.environ | given, free).run()


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@BUNDLES
@click.option("--db", "database_url", metavar="URL", help="Instead of TAGMILL_DATABASE_URL.")
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1, 4096), help="Images a batch.")
@DEVICE
@AS_JSON
def tag(
    sources: tuple[str, ...],
    bundles: tuple[Path, ...],
    database_url: str | None,
    batch_size: int,
    device: str | None,
    as_json: bool,
) -> int:
    """Tag folders and manifests here and now, with no servers.

    The same command again goes on where it was interrupted.
    """
    settings = load_settings(database_url=database_url, device=device)
    done = tag_with_bar(embedded_settings(settings, settings.database_url), sources, bundles, batch_size)
    if as_json:
        click.echo(json.dumps(done.progress.to_json()))
    else:
        open_console().print(status_table(done.progress))
        click.echo(f"read it with: {how_to_read(done.progress.run, database_url)}")
    return exit_code(done.progress)


def how_to_read(run: int, database_url: str | None) -> str:
    """Return a line for a shell. What the environment holds needs no word, and a password is never shown."""
    command = f"tagmill results {run}"
    if database_url is None:
        return command
    url = make_url(database_url)
    if url.password is not None or "password" in url.query:
        return f"{command}, with TAGMILL_DATABASE_URL set to what --db was given"
    return f"TAGMILL_DATABASE_URL={shlex.quote(database_url)} {command}"


def tag_with_bar(settings: Settings, sources: tuple[str, ...], bundles: tuple[Path, ...], batch_size: int) -> TaggedRun:
    """Run `tag_here` under a progress bar."""
    with progress_bar(open_console(stderr=True)) as bar:
        shown = bar.add_task("tagging", total=None, note="loading bundles")

        def show(progress: RunProgress) -> None:
            bar.update(shown, total=progress.images, completed=progress.images - progress.pending, note=note(progress))

        return tag_here(settings, sources, bundles, batch_size, show)


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@BUNDLES
@DEVICE
@AS_JSON
def predict(images: tuple[Path, ...], bundles: tuple[Path, ...], device: str | None, as_json: bool) -> int:
    """Tag single images with no queue and no database, through the worker's own code."""
    settings = load_settings(device=device)
    card, batch = card_options(settings), settings.inference_batch
    sessions = [Session(path, settings.device, batch=batch, card=card) for path in bundles]
    predictions = predict_files(settings, images, sessions)
    for found in predictions:
        if as_json:
            answers = {
                name: {"labels": row.labels, "masks": [asdict(m) for m in row.masks]} for name, row in found.answers
            }
            click.echo(json.dumps({"image": str(found.path), "failure": found.failure, "models": answers}))
        elif found.failure:
            click.echo(f"{found.path}: {found.failure}")
        for name, row in () if as_json else found.answers:
            words = [f"{label} {score:.2f}" for label, score in row.labels]
            words += [f"{mask.label} {mask.area_share:.0%} of the picture" for mask in row.masks]
            click.echo(f"{found.path}: {name}: {', '.join(words) or 'nothing'}")
    return ExitCode.FAILED_IMAGES if any(found.failure for found in predictions) else ExitCode.DONE


@click.command()
@click.option("--images", default=300, show_default=True, type=click.IntRange(10), help="Pictures to draw.")
@click.option("--seed", default=7, show_default=True, help="The same seed draws the same catalog.")
@click.option("--out", default="demo", show_default=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the catalog and everything made of it.")  # fmt: skip
@AS_JSON
def demo(images: int, seed: int, out: Path, as_json: bool) -> None:
    """Draw a sample catalog and tag it end to end with the starter bundles: no servers, no GPU, no network."""
    from worker.demo import run_demo  # what draws pictures is not for a worker's start

    run_demo(load_settings(), images, seed, out, as_json, tag_with_bar)


def _finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse nan and inf, which no FloatRange stops."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
              help="Pictures to measure with; else some are drawn.")  # fmt: skip
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1), callback=_finite,
              help="How long to measure.")  # fmt: skip
@DEVICE
@AS_JSON
def bench(bundle: Path, data: Path | None, seconds: float, device: str | None, as_json: bool) -> None:
    """Find the batch size and threads that a bundle runs fastest with here, and have workers use them.

    What is set by TAGMILL_INFERENCE_BATCH and TAGMILL_INFERENCE_THREADS wins over the choice.
    """
    from worker.bench_command import run_bench  # what draws pictures is not for a worker's start

    run_bench(load_settings(device=device), bundle, data, seconds, as_json)
