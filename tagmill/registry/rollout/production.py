"""Promotion and rollback: which version NAME alone means, and which one the catalog shows.

Each is one transaction that changes a row for each version, whatever the size of the catalog, and needs no inference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, update

from tagmill.db.audit import Action, record
from tagmill.db.schema import audit_event, model, rollout
from tagmill.errors import InputError
from tagmill.registry.models import Stage, resolve
from tagmill.registry.rollout.running import RolloutKind
from tagmill.registry.rollout.shown import show_instead
from tagmill.registry.rollout.versions import Version, Versions, lock_versions, require_usable


@dataclass(frozen=True)
class Change:
    """What a promotion or a rollback did."""

    #: NAME@VERSION in production now, and before; None: none was
    now: str
    before: str | None
    #: shadow or canary of the version that ended with it, in words
    ended: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Return whether another version was in production before."""
        return self.now != self.before

    @property
    def text(self) -> str:
        """Return a line for people."""
        if not self.is_new:
            return f"{self.now} is in production already"
        before = f"; before: {self.before}" if self.before else ""
        return f"{self.now} is in production{before}{''.join(f'; its {kind} has ended' for kind in self.ended)}"


def promote(engine: Engine, wanted: str, reason: str | None = None, details: Mapping[str, Any] | None = None) -> Change:
    """Put NAME@VERSION into production: NAME alone means it, and the catalog shows it wherever it has a result.

    A shadow or canary of this version ends. The audit log gets the `reason`, and `details` such as the checks that it
    passed. Nothing changes if the version is in production already. Raise InputError for one that is retired.
    """
    chosen = resolve(engine, wanted)
    with engine.begin() as connection:
        versions = lock_versions(connection, chosen)
        wanted_version = versions.by_id[chosen.id]
        return _put_in_production(connection, versions, wanted_version, Action.PROMOTE, reason, dict(details or {}))


def rollback(engine: Engine, name: str, to: str | None = None, reason: str | None = None) -> Change:
    """Put the version into production that was there before the present one, or the one named by `to`.

    Raise InputError if there is none, if it is retired or was never in production, and while a canary runs unless `to`
    is given: what is wrong is most likely the canary.
    """
    chosen = resolve(engine, name)
    target = None if to is None else resolve(engine, to)
    with engine.begin() as connection:
        versions = lock_versions(connection, chosen)
        if versions.production is None:
            raise InputError(f"no version of {chosen.name} is in production; see `tagmill model history {chosen.name}`")
        if target is None:
            wanted = _before(connection, versions, versions.production)
        elif target.id not in versions.by_id:
            raise InputError(f"--to {target.title}: is no version of {chosen.name}")
        else:
            wanted = versions.by_id[target.id]
            _require_earlier(connection, versions, wanted)
        return _put_in_production(connection, versions, wanted, Action.ROLLBACK, reason, {})


def _before(connection: Connection, versions: Versions, production: Version) -> Version:
    """Return the version that was in production when this one was last promoted."""
    promoted = select(audit_event.c.from_id).where(
        audit_event.c.name_id == versions.name_id,
        audit_event.c.action == Action.PROMOTE,
        audit_event.c.to_id == production.id,
    )
    newest = promoted.order_by(audit_event.c.at.desc(), audit_event.c.id.desc()).limit(1)
    before = connection.execute(newest).scalar_one_or_none()
    canary = versions.tried.get(RolloutKind.CANARY)
    name = production.name
    running = stop = ""
    if canary is not None:
        running, stop = f"{versions.by_id[canary.model_id].title} is its canary", f"tagmill model canary {name} --stop"
    if before is None or before not in versions.by_id:
        others = _earlier(connection, versions) - {production.id}
        other = f"name one: tagmill model rollback {name} --to" if others else "promote one: tagmill model promote"
        raise InputError(
            f"no version of {name} is known to have been in production before {production.title}"
            f"{f', and {running}: stop it with {stop}, or ' if running else '; '}{other} {name}@VERSION"
        )
    if running:
        raise InputError(
            f"{production.title} stays in production, as {running}: stop it with {stop}, or roll production back "
            f"anyway with tagmill model rollback {name} --to {versions.by_id[before].title}"
        )
    return versions.by_id[before]


def _earlier(connection: Connection, versions: Versions) -> set[int]:
    """Return the versions that are, or are known to have been, in production."""
    event = audit_event.c
    changes = select(event.from_id, event.to_id).where(
        event.name_id == versions.name_id, event.action.in_((Action.PROMOTE, Action.ROLLBACK))
    )
    # The one that the oldest change replaced came into production before there was a history.
    known = {one for row in connection.execute(changes) for one in row if one is not None}
    return known | ({versions.production.id} if versions.production else set())


def _require_earlier(connection: Connection, versions: Versions, wanted: Version) -> None:
    """Raise InputError for a version that no gate let into production before."""
    require_usable(wanted)
    if wanted.id not in _earlier(connection, versions):
        raise InputError(f"{wanted.title} was never in production; promote it: tagmill model promote {wanted.title}")


def _put_in_production(
    connection: Connection,
    versions: Versions,
    chosen: Version,
    action: Action,
    reason: str | None,
    details: dict[str, Any],
) -> Change:
    before = versions.production
    if before == chosen:
        return Change(chosen.title, chosen.title)
    require_usable(chosen)
    if before is not None:
        connection.execute(update(model).where(model.c.id == before.id).values(stage=Stage.CANDIDATE))
    connection.execute(update(model).where(model.c.id == chosen.id).values(stage=Stage.PRODUCTION))
    if len(versions.by_id) > 1:
        show_instead(connection, versions.by_id, chosen.id)
    ended = tuple(kind for kind, found in versions.tried.items() if found.model_id == chosen.id)
    connection.execute(delete(rollout).where(rollout.c.name_id == versions.name_id, rollout.c.model_id == chosen.id))
    ids = {"name_id": versions.name_id, "from_id": None if before is None else before.id, "to_id": chosen.id}
    record(connection, action, reason=reason, details=details | ({"ended": list(ended)} if ended else {}), **ids)
    return Change(chosen.title, None if before is None else before.title, ended)
