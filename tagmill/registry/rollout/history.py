"""What was done to the versions of models, by whom and why."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from tagmill.db.audit import AUDIT_LOG, Action
from tagmill.db.connection import reading
from tagmill.registry.models import resolve


@dataclass(frozen=True)
class Event:
    """A change of one model, or of what is shown of it."""

    #: Unix seconds
    at: float
    action: Action
    model: str
    from_version: int | None
    to_version: int | None
    user_name: str
    host: str
    reason: str | None
    #: share, checks that were overridden and so on
    details: dict[str, Any]


def history(engine: Engine, name: str | None = None) -> list[Event]:
    """Return what was done to the models of NAME, or to all, the oldest first. Raise InputError for an unknown NAME."""
    chosen = None if name is None else resolve(engine, name).name
    log = AUDIT_LOG.c
    statement = select(AUDIT_LOG).where(log.model.is_not(None)).order_by(log.at, log.id)
    if chosen is not None:
        statement = statement.where(log.model == chosen)
    with reading(engine) as connection:
        rows = connection.execute(statement).all()
    return [
        Event(
            *(row.at, Action(row.action), row.model, row.from_version, row.to_version, row.user_name, row.host),
            *(row.reason, row.details or {}),
        )
        for row in rows
    ]
