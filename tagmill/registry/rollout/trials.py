"""Begin, change and stop the shadow and the canary of a model."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert

from tagmill.db.audit import Action, record
from tagmill.db.connection import epoch_now
from tagmill.db.schema import rollout
from tagmill.errors import InputError, NothingToDo
from tagmill.registry.models import resolve
from tagmill.registry.rollout.running import RolloutKind
from tagmill.registry.rollout.shown import show_instead
from tagmill.registry.rollout.versions import Version, Versions, lock_versions, require_usable


@dataclass(frozen=True)
class Begun:
    """A shadow or canary that began, or whose share was changed."""

    #: NAME@VERSION that is tried, and the one in production
    title: str
    production: str
    #: NAME@VERSION that was tried in the same way before, and its share; None: none was
    before: str | None
    share_before: float | None
    #: the other kind, if the version was tried in that way before
    ended: RolloutKind | None = None


def begin(
    engine: Engine, kind: RolloutKind, wanted: str, share: float, product: str | None, reason: str | None = None
) -> Begun:
    """Try NAME@VERSION on a share of the products, instead of what was tried in this way before.

    `share` is above 0 to 1. A shadow that becomes the canary ends, and the other way round. Raise InputError for a
    label set, for a version that is in production or retired, and if no version is in production.
    """
    found = resolve(engine, wanted)
    with engine.begin() as connection:
        versions = lock_versions(connection, found)
        chosen = versions.by_id[found.id]
        production = _require(versions, chosen, kind)
        before = versions.tried.get(kind)
        others = (one for one, row in versions.tried.items() if one is not kind and row.model_id == chosen.id)
        other = next(others, None)
        for ending in (kind, other):
            if ending is not None:
                _delete(connection, versions, ending)
        row = {"name_id": versions.name_id, "kind": kind, "model_id": chosen.id, "share": share, "product": product}
        connection.execute(insert(rollout).values(**row, since=epoch_now()))
        if RolloutKind.CANARY in (kind, other):
            changed = {chosen.id} | ({before.model_id} if before is not None else set())
            show_instead(connection, changed, production.id)
        ids = {"name_id": versions.name_id, "from_id": production.id, "to_id": chosen.id}
        details: dict[str, Any] = {"share": share} | ({"product": product} if product else {})
        details |= {"ended": [other]} if other else {}
        record(connection, Action(kind.value), reason=reason, details=details, **ids)
    if before is None:
        return Begun(chosen.title, production.title, None, None, other)
    return Begun(chosen.title, production.title, versions.by_id[before.model_id].title, before.share, other)


def stop(engine: Engine, kind: RolloutKind, name: str, reason: str | None = None) -> str:
    """Stop the shadow or canary of NAME; return NAME@VERSION that was tried. Raise NothingToDo if there is none.

    What it said stays stored. The catalog shows the version in production again, which tagged the same images.
    """
    found = resolve(engine, name)
    with engine.begin() as connection:
        versions = lock_versions(connection, found)
        before = versions.tried.get(kind)
        if before is None:
            raise NothingToDo(f"{found.name} has no {kind}")
        tried = versions.by_id[before.model_id]
        if "@" in name and tried.id != found.id:
            raise InputError(f"the {kind} of {found.name} is {tried.title}, not {found.title}")
        _delete(connection, versions, kind)
        if kind is RolloutKind.CANARY and versions.production is not None:
            show_instead(connection, [tried.id], versions.production.id)
        ids = {"name_id": versions.name_id, "from_id": tried.id}
        record(connection, Action.STOP, reason=reason, details={"kind": kind.value, "share": before.share}, **ids)
    return tried.title


def _delete(connection: Connection, versions: Versions, kind: RolloutKind) -> None:
    connection.execute(delete(rollout).where(rollout.c.name_id == versions.name_id, rollout.c.kind == kind))


def _require(versions: Versions, chosen: Version, kind: RolloutKind) -> Version:
    """Return the version in production. Raise InputError if `chosen` cannot be tried beside it."""
    if versions.label_set:
        raise InputError(
            f"{chosen.title} is a label set, which no worker runs: compare it with `tagmill labelset apply`"
        )
    require_usable(chosen)
    production = versions.production
    if production is None:
        raise InputError(
            f"no version of {chosen.name} is in production; first promote the one that runs are to use: "
            f"tagmill model promote {chosen.name}@VERSION"
        )
    if production == chosen:
        raise InputError(f"{chosen.title} is in production; a {kind} is another version")
    return production
