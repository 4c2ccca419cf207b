"""Rollouts of models, who did what, what workers run, and names of submissions.

It adds tables, a column without a default, which takes no time, and an index over the batches that were given up, for
which `batch` is read once. Workers of the version before go on.
"""

import sqlalchemy as sa
from alembic import op

from tagmill.db.types import BigId

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the tables, the column and the index."""
    op.add_column("run", sa.Column("submission", sa.String(200)))
    op.create_index(op.f("uq_run_submission"), "run", ["submission"], unique=True)
    dead = sa.text("status = 'dead'")
    op.create_index("ix_batch_dead", "batch", ["queue"], postgresql_where=dead, sqlite_where=dead)
    _create_rollouts()
    _create_audit()
    _create_workers()
    _create_pruning()


def _create_rollouts() -> None:
    op.create_table(
        "rollout",
        sa.Column("name_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("product", sa.String(200)),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_rollout_model_id")),
        sa.PrimaryKeyConstraint("name_id", "kind", name=op.f("pk_rollout")),
    )
    op.create_table(
        "shown_instead",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("shown_id", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_shown_instead_model_id")),
        sa.ForeignKeyConstraint(["shown_id"], ["model.id"], name=op.f("fk_shown_instead_shown_id")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_shown_instead")),
    )
    op.create_table(
        "canary_entry",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("point", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", "model_id", name=op.f("pk_canary_entry")),
    )


def _create_audit() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", BigId, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("user_name", sa.String(200), nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("run_id", sa.Integer()),
        sa.Column("name_id", sa.Integer()),
        sa.Column("from_id", sa.Integer()),
        sa.Column("to_id", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("details", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    op.create_index(op.f("ix_audit_event_at"), "audit_event", ["at"])
    for name, columns in (("run_id", ["run_id"]), ("name_id_at", ["name_id", "at"])):
        where = sa.text(f"{columns[0]} IS NOT NULL")
        op.create_index(
            op.f(f"ix_audit_event_{name}"), "audit_event", columns, postgresql_where=where, sqlite_where=where
        )


def _create_workers() -> None:
    op.create_table(
        "worker_state",
        sa.Column("worker", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("device", sa.String(40), nullable=False),
        sa.Column("provider", sa.String(200)),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("drain", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("last_batch_at", sa.Double()),
        sa.Column("batches", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("images", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("rate", sa.Double(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_worker_state")),
    )
    op.create_index(op.f("ix_worker_state_queue_seen_at"), "worker_state", ["queue", "seen_at"])


def _create_pruning() -> None:
    op.create_table(
        "image_pruning",
        sa.Column("at", sa.Double(), autoincrement=False, nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_image_pruning")),
    )


def downgrade() -> None:
    """Refuse: who did what would be lost."""
    raise NotImplementedError("schema 0009 cannot be downgraded; restore the backup")
