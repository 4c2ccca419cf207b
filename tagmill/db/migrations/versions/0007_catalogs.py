"""Further columns of entries, repeated and known locations, priorities, and what a batch took.

It adds nullable columns and columns with a constant default, which takes PostgreSQL no time, and tables. Two indexes
over the batches that wait are made again, with the priority in them: that reads the batches of all runs once. Workers
of the version before go on.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from tagmill.db.types import BigId, Hash128

revision = "0007"
down_revision = "0006"

#: time for which the transaction waits for a table that others use, before it is tried again
_LOCK_TIMEOUT = "2s"
#: columns of the indexes over the batches that wait -> their condition
_WAITING = {
    "published_at": "status = 'queued'",
    "not_before": "status = 'queued' AND not_before IS NOT NULL",
}
#: further columns of `batch`
_COUNTS: dict[str, TypeEngine[Any]] = {
    "waits": sa.SmallInteger(),
    "requests": sa.Integer(),
    "not_modified": sa.Integer(),
    "bytes_fetched": sa.BigInteger(),
    "cpu_seconds": sa.Double(),
    "gpu_seconds": sa.Double(),
}


def upgrade() -> None:
    """Add the columns and tables."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    op.add_column("entry", sa.Column("extra", sa.Text()))
    op.add_column("run", sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="6"))
    for name, kind in _COUNTS.items():
        op.add_column("batch", sa.Column(name, kind, nullable=False, server_default="0"))
    op.add_column("batch", sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="6"))
    for column, condition in _WAITING.items():
        where = sa.text(condition)
        columns = ["queue", "priority", column]
        name = f"ix_batch_queue_priority_{column}"
        op.create_index(op.f(name), "batch", columns, postgresql_where=where, sqlite_where=where)
        op.drop_index(op.f(f"ix_batch_queue_{column}"), "batch")
    op.create_table(
        "repeated_entry",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_repeated_entry")),
    )
    op.create_index(op.f("ix_repeated_entry_run_id_first_position"), "repeated_entry", ["run_id", "first_position"])
    op.create_table(
        "repeated_image",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("image_id", BigId, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "first_position", name=op.f("pk_repeated_image")),
    )
    op.create_table(
        "known_url",
        sa.Column("location", Hash128(), nullable=False),
        sa.Column("image_id", BigId, nullable=False),
        sa.Column("etag", sa.Text()),
        sa.Column("last_modified", sa.Text()),
        sa.PrimaryKeyConstraint("location", name=op.f("pk_known_url")),
    )


def downgrade() -> None:
    """Refuse: the views use the columns."""
    raise NotImplementedError("schema 0007 cannot be downgraded; restore the backup")
