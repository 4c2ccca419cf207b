"""`tagmill model shadow`, `canary`, `rollback`, `retire` and `history`: bring versions into production."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click
from rich.table import Table
from sqlalchemy import Engine

from tagmill.cli.param_types import AS_JSON, Share
from tagmill.cli.terminal.console import open_console
from tagmill.db.migrate import open_database
from tagmill.errors import TagmillError, first_line
from tagmill.registry.models import resolve
from tagmill.registry.rollout import retirement, trials
from tagmill.registry.rollout.history import Event, history
from tagmill.registry.rollout.production import rollback as rollback_to
from tagmill.registry.rollout.running import RolloutKind
from tagmill.registry.rollout.stored import require_stored
from tagmill.settings import load_settings
from tagmill.text import legible, person, utc_time

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)

REASON = click.option("--reason", metavar="TEXT", help="Why, for `tagmill model history`.")
#: the further column that names the product of an entry, unless another one is named
PRODUCT = "sku"


def _tried(command: FC) -> FC:
    """Add the options of a shadow and a canary."""
    for option in (
        REASON,
        click.option("--stop", "is_stop", is_flag=True, help="End it. Needs no inference."),
        click.option("--product", metavar="COLUMN", default=PRODUCT, show_default=True,
                     help="The column of manifests that names the product: its images are in the share together. "
                     "An entry without it counts by its key."),
        click.option("--share", type=Share(), metavar="PERCENT", help="Of all products, such as 10%."),
        click.argument("wanted", metavar="NAME[@VERSION]"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@_tried
def shadow(wanted: str, share: float | None, product: str, is_stop: bool, reason: str | None) -> None:
    """Try NAME@VERSION beside the version in production, and show nothing of it.

    Workers store what it says of the share of the products, for runs that name no version: also of runs that go on.
    """
    _try(RolloutKind.SHADOW, wanted, share, product, is_stop, reason)


@click.command()
@_tried
def canary(wanted: str, share: float | None, product: str, is_stop: bool, reason: str | None) -> None:
    """Try NAME@VERSION beside the version in production, and show it for a share of the products.

    Runs that name no version tag the share with both versions, also those that go on. `--stop` shows the version in
    production again.
    """
    _try(RolloutKind.CANARY, wanted, share, product, is_stop, reason)


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--to", metavar="NAME@VERSION", help="Another that was in production, instead of the last one.")
@REASON
def rollback(name: str, to: str | None, reason: str | None) -> None:
    """Go back to the version that was in production before: the catalog shows its labels at once, without inference.

    While a canary runs, stop that, or name the version with `--to`.
    """
    engine = _open()
    change = rollback_to(engine, name, to, reason)
    click.echo(change.text)
    try:
        require_stored(load_settings(), resolve(engine, change.now))
    except TagmillError as error:  # what it said before is shown all the same
        click.echo(f"warning: no worker can tag with it: {first_line(error)}", err=True)


@click.command()
@click.argument("wanted", metavar="NAME@VERSION")
@click.option("--undo", is_flag=True, help="Take it back.")
@REASON
def retire(wanted: str, undo: bool, reason: str | None) -> None:
    """Refuse this version for new runs, and for production. Its results stay."""
    title = retirement.retire(_open(), wanted, reason, undo=undo)
    click.echo(f"{title} {'is a candidate again' if undo else 'is retired: no new run uses it, and its results stay'}")


@click.command("history")
@click.argument("name", metavar="[NAME]", required=False)
@AS_JSON
def history_command(name: str | None, as_json: bool) -> None:
    """Show what was done to the versions of a model, or of all: when, by whom and why."""
    events = history(_open(), name)
    if as_json:
        click.echo(json.dumps([asdict(event) for event in events]))
        return
    table = Table("when (UTC)", "who", "what", "model", "change", "why")
    for event in events:
        when, who, why = utc_time(event.at), person(event.user_name, event.host), legible(event.reason or "")
        table.add_row(when, who, event.action, event.model, _change(event), why)
    open_console().print(table if events else "nothing was done yet; see `tagmill model add`")


#: the commands of this module, which `tagmill model` has
COMMANDS = (shadow, canary, rollback, retire, history_command)


def percent(share: float) -> str:
    """Return a share as people write it: 10%."""
    return f"{100 * share:.6g}%"


def _try(kind: RolloutKind, wanted: str, share: float | None, product: str, is_stop: bool, reason: str | None) -> None:
    if is_stop == (share is not None):
        raise click.UsageError("give either --share, such as --share 10%, or --stop")
    if share is None:
        title = trials.stop(_open(), kind, wanted, reason)
        shown = "; the catalog shows the version in production again" if kind is RolloutKind.CANARY else ""
        click.echo(f"the {kind} of {title} is stopped{shown}")
        return
    engine = _open()
    require_stored(load_settings(), resolve(engine, wanted))
    found = trials.begin(engine, kind, wanted, share, product, reason)
    does = "stored and not shown" if kind is RolloutKind.SHADOW else "shown"
    click.echo(
        f"{found.title} is the {kind}: its results are {does} for {percent(share)} of the products, beside "
        f"{found.production} in production{_instead(found)}"
    )


def _instead(found: trials.Begun) -> str:
    ended = f"; its {found.ended} has ended" if found.ended else ""
    if found.before is None or found.share_before is None:
        return ended
    return f"; before: {found.before} for {percent(found.share_before)}{ended}"


def _change(event: Event) -> str:
    """Return what an event changed: versions, and the share of a shadow or canary."""
    versions = [str(found) for found in (event.from_version, event.to_version) if found is not None]
    share = event.details.get("share")
    taken_back = ", taken back" if event.details.get("undo") else ""
    return " → ".join(versions) + ("" if share is None else f", {percent(float(share))}") + taken_back


def _open() -> Engine:
    return open_database(load_settings().database_url)
