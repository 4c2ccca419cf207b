"""`tagmill model`: register bundles, and bring versions into production."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from sqlalchemy import Engine

from export.cli import model_rollout
from export.cli.model_import import import_command
from export.cli.model_promote import promote_command
from export.cli.model_publish import publish_command
from export.mlflow_models.fetch import fetch_bundle, is_mlflow
from producer.cli.model_diff import diff_command
from tagmill.bundles.metadata import check_name
from tagmill.cli.param_types import AS_JSON, DEVICE
from tagmill.cli.terminal.console import open_console
from tagmill.db.migrate import open_database
from tagmill.registry.models import Model, list_models, models_by_sha256, register, resolve, resolve_bundle
from tagmill.registry.open_store import open_store
from tagmill.registry.rollout.running import Rollout, running_rollouts
from tagmill.settings import load_settings
from tagmill.text import normalize
from worker.inference.session import Session
from worker.inference.session_cache import SessionCache


@click.group()
def model() -> None:
    """Register bundles, and bring versions into production."""


@model.command("add")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="FILE.onnx|models:/NAME@ALIAS")
@click.option("--name", help="Instead of the name in the bundle.")
def add(bundle: Path, name: str | None) -> None:
    """Load a bundle, copy it into TAGMILL_MODEL_STORE and record it under the next version of its name.

    models:/NAME@ALIAS and models:/NAME/VERSION are bundles in MLflow's registry: extra mlflow, MLFLOW_TRACKING_URI.
    Until a version of a name is promoted, NAME alone means the newest one, so promote the first at once. Promoting
    affects runs that are submitted afterwards; workers need no restart. To tag a catalog with the new version, submit
    it again.
    """
    settings = load_settings()
    engine = _open()
    with _file_of(bundle) as file:
        session = Session(file, device="cpu")
        session.require_scores()
        if not models_by_sha256(engine, [session.sha256]):  # before the file is in the store
            check_name(name or session.spec.name)
        stored = open_store(settings).add(file, session.sha256)
    registered = register(engine, session.spec, session.sha256, name)
    if name and registered.name != normalize(name):
        click.echo(f"{bundle}: is already registered as {registered.title}, and keeps that name", err=True)
    click.echo(f"{registered.title}: {registered.task}, {len(registered.labels)} labels, {stored}")


@model.command("list")
@AS_JSON
def list_command(as_json: bool) -> None:
    """Show every registered model, the newest version of each name first."""
    engine = _open()
    models = list_models(engine)
    tried = {found.model_id: found for found in running_rollouts(engine)}
    if as_json:
        rows = [asdict(found) | {"rollout": _rollout_values(tried.get(found.id))} for found in models]
        click.echo(json.dumps(rows))
        return
    table = Table("model", "task", "labels", "stage", "sha256")
    for found in models:
        table.add_row(
            found.title, found.task, str(len(found.labels)), _stage(found, tried.get(found.id)), found.sha256[:12]
        )
    open_console().print(table if models else "no model is registered; see `tagmill model add`")


@model.command("show")
@click.argument("wanted", metavar="NAME[@VERSION]")
def show(wanted: str) -> None:
    """Print the record of one model as JSON."""
    click.echo(json.dumps(asdict(resolve(_open(), wanted)), indent=2))


@model.command("verify")
@click.argument("wanted", metavar="NAME[@VERSION]")
@DEVICE
def verify(wanted: str, device: str | None) -> None:
    """Check a model's file in the store, and its golden samples on this machine."""
    settings = load_settings(device=device)
    found = resolve_bundle(_open(), wanted)
    session = SessionCache(settings, open_store(settings)).get(found.sha256)
    if session.golden_difference is None:
        samples = "it has no golden samples; a bundle that is exported again has some"
    else:
        samples = f"its golden samples differ by at most {session.golden_difference:.1e}"
    click.echo(f"{found.title}: the file is the registered one; on {session.provider} {samples}")


for command in (import_command, diff_command, promote_command, publish_command, *model_rollout.COMMANDS):
    model.add_command(command)


def _stage(found: Model, tried: Rollout | None) -> str:
    """Return the stage of a version for people: with the share on which it is tried."""
    return found.stage if tried is None else f"{tried.kind} {model_rollout.percent(tried.share)}"


def _rollout_values(tried: Rollout | None) -> dict[str, Any] | None:
    if tried is None:
        return None
    return {"kind": tried.kind, "share": tried.share, "product": tried.product, "since": tried.since}


@contextmanager
def _file_of(bundle: Path) -> Iterator[Path]:
    """Yield the file of a bundle; one of MLflow is downloaded for as long."""
    if not is_mlflow(str(bundle)):
        yield bundle
        return
    with tempfile.TemporaryDirectory() as folder:
        yield fetch_bundle(str(bundle), Path(folder))


def _open() -> Engine:
    return open_database(load_settings().database_url)
