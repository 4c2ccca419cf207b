"""Who did what."""

from sqlalchemy import JSON, Column, Double, Index, Integer, String, Table, Text

from tagmill.db.tables.base import metadata, partial_index
from tagmill.db.types import BigId

#: What a person or a job did to runs and models. Rows are only added. See `tagmill.db.audit`.
audit_event = Table(
    "audit_event",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", Double, nullable=False),
    #: tagmill.db.audit.Action
    Column("action", String(20), nullable=False),
    #: who did it: the user of the operating system, or TAGMILL_USER, and the machine
    Column("user_name", String(200), nullable=False),
    Column("host", String(200), nullable=False),
    Column("run_id", Integer),
    #: of a model: `model.name_id`, and the versions before and after
    Column("name_id", Integer),
    Column("from_id", Integer),
    Column("to_id", Integer),
    Column("reason", Text),
    #: what else is known of it, as a JSON object
    Column("details", JSON),
    Index(None, "at"),
    partial_index("run_id", where="run_id IS NOT NULL"),
    partial_index("name_id", "at", where="name_id IS NOT NULL"),
)
