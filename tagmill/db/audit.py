"""Who did what: a row for each change that a person or a job makes to runs and models.

It is written in the transaction of the change, so that there is no change without its row. The view `audit_log` shows
the rows with the names of models.
"""

import getpass
import os
import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, null

from tagmill.db.connection import epoch_now
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


def user_name() -> str:
    """Return who this process acts for: TAGMILL_USER, or the user of the operating system."""
    named = os.environ.get(USER_VARIABLE, "").strip()
    try:
        return printable(named or getpass.getuser())[:_LONGEST]
    except (KeyError, OSError):  # a container runs as a number that has no name
        return f"uid {os.getuid()}"
