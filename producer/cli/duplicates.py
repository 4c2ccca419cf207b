"""`tagmill duplicates`: images that show the same, and look-alikes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import Engine

from producer.duplicate_groups import write_duplicates
from tagmill.cli.param_types import AS_JSON, DATABASE, Finite
from tagmill.cli.terminal.console import open_console, text_column
from tagmill.db.migrate import open_database
from tagmill.errors import ExitCode, InputError
from tagmill.registry.models import Model
from tagmill.search.duplicates.find import Found, Report, Search
from tagmill.search.duplicates.read import DuplicateGroup, DuplicateImage, read_duplicates
from tagmill.search.models import embedding_model
from tagmill.settings import load_settings
from tagmill.text import legible


@click.command()
@click.argument("run_id", required=False, type=click.IntRange(1, 2**31 - 1), metavar="[RUN]")
@click.option("--model", "wanted", metavar="NAME[@VERSION]",
              help="Whose embeddings are compared; needed if several models give one.")  # fmt: skip
@click.option("--look-alike", type=Finite(0.8, 1.0), default=0.95, show_default=True,
              help="Least similarity of look-alikes.")  # fmt: skip
@click.option("--only-copies", is_flag=True, help="Look for no look-alikes.")
@click.option("--show", type=click.IntRange(0), default=20, show_default=True, metavar="GROUPS",
              help="How many groups are printed. SQL has all of them.")  # fmt: skip
@click.option("--full-urls", is_flag=True, help="Show logins and signatures of URLs.")
@DATABASE
@AS_JSON
def duplicates(
    run_id: int | None,
    wanted: str | None,
    look_alike: float,
    only_copies: bool,
    show: int,
    full_urls: bool,
    database_url: str | None,
    as_json: bool,
) -> int:
    """Find images that show the same in the catalog, or in a run: the same bytes, the same picture, look-alikes.

    The groups are in the views catalog_duplicates and run_duplicates until the command runs again. The same picture in
    other bytes is found by the hashes that `tagmill submit --measure pictures` adds, look-alikes by embeddings.
    """
    engine = open_database(load_settings(database_url=database_url).database_url)
    search = Search(run_id, _model(engine, wanted), 2.0 if only_copies else look_alike)
    with _bar(open_console(stderr=True, highlight=False)) as report:
        found = write_duplicates(engine, search, report)
    groups = read_duplicates(engine, run_id, full_urls)
    if as_json:
        click.echo(json.dumps([asdict(group) for group in groups]))
    else:
        for group in islice(groups, show):
            _print(group)
    _summarize(found, search)
    return ExitCode.DONE if found.images else ExitCode.NOTHING_TO_DO


def _model(engine: Engine, wanted: str | None) -> Model | None:
    """Return the model to compare; None if no model gives embeddings and none was asked for."""
    try:
        return embedding_model(engine, wanted)
    except InputError as error:
        if wanted is not None or "name a model" in str(error):
            raise
        return None


def _print(group: DuplicateGroup) -> None:
    for image in group.images:
        click.echo(f"{group.id}  {_evidence(image):36}  {legible(image.key)}  {legible(image.uri)}")


def _evidence(image: DuplicateImage) -> str:
    words = [image.kind.value.replace("_", "-")]
    if image.distance is not None:
        words.append(f"{image.distance} bits")
    if image.similarity is not None:
        words.append(f"similarity {image.similarity:.3f}")
    return ", ".join(words)


def _summarize(found: Found, search: Search) -> None:
    alike = sum(any(member.kind == "look_alike" for member in group) for group in found.groups)
    click.echo(
        f"images: {found.images:,}; groups of copies: {len(found.groups) - alike:,}, of look-alikes: {alike:,}",
        err=True,
    )
    if found.images and not found.hashed:
        click.echo("no image has a hash; `tagmill submit --measure pictures` adds them", err=True)
    if found.images and not found.embedded:
        title = f" of {search.model.title}" if search.model else ""
        click.echo(f"no image has an embedding{title}: no look-alikes were looked for", err=True)


@contextmanager
def _bar(console: Console) -> Iterator[Report]:
    columns = (text_column("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)
