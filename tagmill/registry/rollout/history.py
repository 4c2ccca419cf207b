"""What was done to the versions of models, by whom and why."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text

from tagmill.db.audit import Action
from tagmill.db.connection import reading
from tagmill.registry.models import resolve

_EVENTS = """
SELECT at, action, model, from_version, to_version, user_name, host, reason, details FROM audit_log
WHERE model IS NOT NULL {of_name} ORDER BY at, id
"""


@dataclass(frozen=True)
class Event:
    """A change of one model, or of what is shown of it."""

    #: Unix seconds
    at: float
    action: Action
    model: str
    from_version: int | None
    to_version: int | None
    user: str
    host: str
    reason: str | None
    #: share, checks that were overridden and so on
    details: dict[str, Any]


def history(engine: Engine, name: str | None = None) -> list[Event]:
    """Return what was done to the models of NAME, or to all, the oldest first. Raise InputError for an unknown NAME."""
    chosen = None if name is None else resolve(engine, name).name
    statement = text(_EVENTS.format(of_name="" if chosen is None else "AND model = :model"))
    with reading(engine) as connection:
        rows = connection.execute(statement, {} if chosen is None else {"model": chosen}).all()
    return [
        Event(
            *(row.at, Action(row.action), row.model, row.from_version, row.to_version, row.user_name, row.host),
            *(row.reason, _details(row.details)),
        )
        for row in rows
    ]


def _details(found: Any) -> dict[str, Any]:
    """Return the details of a row: a view's column of JSON is a text for SQLite."""
    if isinstance(found, str):
        found = json.loads(found)
    return dict(found or {})
