"""Who did what: a row for each change that a person or a job makes to runs and models.

It is written in the transaction of the change, so that there is no change without its row. The view `audit_log` shows
the rows with the names of models.
"""

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Connection, Engine, column, insert, null, select, table

from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import audit_event
from tagmill.outcomes import printable

#: who is named instead of the user of the operating system: a job, or the person behind a shared account
USER_VARIABLE = "TAGMILL_USER"
#: characters of a name that are stored
_LONGEST = 200


class Action(StrEnum):
    """What was done."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    PRIORITY = "priority"
    #: a model was registered
    ADD = "add"
    SHADOW = "shadow"
    CANARY = "canary"
    #: a shadow or a canary was ended
    STOP = "stop"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    PRUNE = "prune"
    DRAIN = "drain"


def record(
    connection: Connection,
    action: Action,
    *,
    run_id: int | None = None,
    name_id: int | None = None,
    from_id: int | None = None,
    to_id: int | None = None,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add a row for what this process does in the transaction of `connection`.

    Of a model, `name_id` stands for its name, and `from_id` and `to_id` are the versions before and after.
    """
    row: dict[str, Any] = {"run_id": run_id, "name_id": name_id, "from_id": from_id, "to_id": to_id}
    row |= {"reason": reason and printable(reason), "details": dict(details) if details else null()}
    who = {"user_name": user_name(), "host": socket.gethostname()[:_LONGEST]}
    connection.execute(insert(audit_event).values(at=epoch_now(), action=action, **who, **row))


@dataclass(frozen=True)
class AuditEvent:
    """What was done, by whom and when: a row of the view `audit_log`. Times are Unix seconds."""

    at: float
    action: str
    user_name: str
    host: str
    run_id: int | None
    model: str | None
    from_version: int | None
    to_version: int | None
    reason: str | None
    details: dict[str, Any] | None


#: the view, for queries: `details` is read as JSON, which a view of SQLite holds as text
AUDIT_LOG = table(
    "audit_log", column("id"), *(column(field.name) for field in fields(AuditEvent)[:-1]), column("details", JSON)
)


def read_events(
    engine: Engine, limit: int, run_id: int | None = None, model_name: str | None = None
) -> list[AuditEvent]:
    """Return the newest events, of one run or of one name of models if one is given, the newest first."""
    found = select(*(AUDIT_LOG.c[field.name] for field in fields(AuditEvent)))
    found = found.order_by(AUDIT_LOG.c.at.desc(), AUDIT_LOG.c.id.desc()).limit(limit)
    if run_id is not None:
        found = found.where(AUDIT_LOG.c.run_id == run_id)
    if model_name is not None:
        found = found.where(AUDIT_LOG.c.model == model_name)
    with reading(engine) as connection:
        return [AuditEvent(**row) for row in connection.execute(found).mappings()]


def user_name() -> str:
    """Return who this process acts for: TAGMILL_USER, or the user of the operating system."""
    named = os.environ.get(USER_VARIABLE, "").strip()
    try:
        return printable(named or getpass.getuser())[:_LONGEST]
    except (KeyError, OSError):  # a container runs as a number that has no name
        return f"uid {os.getuid()}"
