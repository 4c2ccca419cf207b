"""`tagmill labelset`: new categories with no training, and labels for what has embeddings with no inference."""

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from sqlalchemy import Engine

from export.cli.options import FILE
from tagmill.bundles.metadata import check_name
from tagmill.cli.param_types import AS_JSON, DEVICE, Finite
from tagmill.cli.terminal.console import open_console
from tagmill.cli.terminal.progress import Display
from tagmill.cli.terminal.run_display import progress_bar
from tagmill.db.migrate import open_database
from tagmill.ledger.labels.apply import apply_label_set
from tagmill.registry.label_sets import (
    RegisteredLabelSet,
    base_model,
    list_label_sets,
    load_label_set,
    register_label_set,
)
from tagmill.registry.models import LABEL_SET
from tagmill.settings import load_settings

MAX_RUN = 2**31 - 1


@click.group()
def labelset() -> None:
    """Make label sets of a few examples, and label with them what has embeddings."""


@labelset.command("create")
@click.argument("name")
@click.option("--model", "wanted", required=True, metavar="NAME[@VERSION]", help="Whose embeddings it labels.")
@click.option("--examples", type=FILE, metavar="DIR|FILE",
              help="A folder for each category, or other labeled images; or a CSV with key,label.")  # fmt: skip
@click.option("--vectors", type=FILE, metavar="FILE.npz", help="Instead: vectors of labels, such as those of texts.")
@click.option("--unknown-rate", type=Finite(0, 0.5), default=0.05, show_default=True, metavar="R",
              help="Share of known images that may become `unknown`; 0: none is.")  # fmt: skip
@click.option("--bundle", type=FILE, metavar="FILE.onnx",
              help="The model's bundle, if it is not in TAGMILL_MODEL_STORE.")  # fmt: skip
@DEVICE
def create(
    name: str,
    wanted: str,
    examples: Path | None,
    vectors: Path | None,
    unknown_rate: float,
    bundle: Path | None,
    device: str | None,
) -> None:
    """Make the next version of a label set.

    --examples takes any kind of labeled images that training takes (docs/data.md): five of a category suffice. A CSV
    with the columns key and label names images that the catalog holds: their embeddings are there already.
    """
    from export.labelset.create import from_examples, from_vectors

    if (examples is None) == (vectors is None):
        raise click.UsageError("Name either --examples or --vectors.")
    check_name(name)
    settings = load_settings(device=device)
    engine = open_database(settings.database_url)
    base = base_model(engine, wanted)
    if examples is not None:
        made = from_examples(engine, settings, name, base, examples, unknown_rate, Display(), bundle)
    else:
        assert vectors is not None
        made = from_vectors(engine, name, base, vectors, unknown_rate)
    registered = register_label_set(engine, made, base)
    found = load_label_set(engine, registered.title)
    click.echo(f"{found.model.title}: {len(made.labels)} labels for the embeddings of {found.base}")
    for line in _remarks(made.provenance, unknown=made.unknown is not None, wished=unknown_rate > 0):
        click.echo(line)
    click.echo(f"label the catalog with: tagmill labelset apply {found.model.name}")


@labelset.command("apply")
@click.argument("wanted", metavar="NAME[@VERSION]")
@click.option("--run", "runs", type=click.IntRange(1, MAX_RUN), multiple=True, metavar="RUN",
              help="Only images of this run; may be repeated.")  # fmt: skip
@AS_JSON
def apply(wanted: str, runs: tuple[int, ...], as_json: bool) -> None:
    """Label everything that has embeddings of the label set's model.

    What it labeled before stays, so run it again after each run of the model. Results and views show it under NAME.
    """
    engine = _open()
    found = load_label_set(engine, wanted)
    with progress_bar(open_console(stderr=True)) as bar:
        task = bar.add_task("label", total=None, note="")
        done = apply_label_set(
            engine,
            found,
            runs,
            f"{socket.gethostname()}:{os.getpid()}",
            lambda images, total: bar.update(task, completed=images, total=total),
        )
    if as_json:
        click.echo(json.dumps({"model": found.model.title, **asdict(done)}))
        return
    click.echo(
        f"{found.model.title}: {done.labeled:,} of {done.images:,} images are newly labeled, {done.unknown:,} of them "
        f"unknown; the catalog shows {done.shown:,} keys anew"
    )
    click.echo(f"read it with: tagmill results --model {_quoted(found.model.name)}")


@labelset.command("list")
@AS_JSON
def list_command(as_json: bool) -> None:
    """Show every label set, the newest version of each name first."""
    models = list_label_sets(_open())
    if as_json:
        click.echo(json.dumps([asdict(found) for found in models]))
        return
    table = Table("label set", "labels", "embeddings of", "stage", "sha256")
    for found in models:
        table.add_row(found.title, str(len(found.labels)), found.spec[LABEL_SET], found.stage, found.sha256[:12])
    open_console().print(table if models else "no label set is registered; see `tagmill labelset create`")


@labelset.command("show")
@click.argument("wanted", metavar="NAME[@VERSION]")
def show(wanted: str) -> None:
    """Print what a label set holds as JSON, without its vectors."""
    click.echo(json.dumps(_described(load_label_set(_open(), wanted)), indent=2))


def _described(found: RegisteredLabelSet) -> dict[str, Any]:
    content = found.content
    return {
        "name": found.model.name,
        "version": found.model.version,
        "stage": found.model.stage,
        "sha256": found.model.sha256,
        "model": found.base,
        "labels": list(content.labels),
        "temperature": content.temperature,
        "unknown": None if content.unknown is None else asdict(content.unknown),
        **content.provenance,
    }


def _remarks(provenance: Any, *, unknown: bool, wished: bool) -> list[str]:
    """Return what a person should know of a new label set."""
    lines = []
    if held_out := provenance.get("held_out", {}).get("count"):
        accuracy = provenance["held_out"]["accuracy"]
        lines.append(f"{accuracy:.1%} of {held_out} examples get their own label from the others")
    if not provenance["catalog_embeddings"]:
        lines.append(
            "the model has no embeddings yet: tag the catalog with it, and make the label set again, which helps"
        )
    if wished and not unknown:
        why = "no category has a second example" if "examples" in provenance else "the catalog has too few embeddings"
        lines.append(f"no image becomes unknown: {why}")
    return lines


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def _open() -> Engine:
    return open_database(load_settings().database_url)
