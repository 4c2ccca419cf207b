"""Workers that are out, and what runs wait for. It only adds tables: workers of the version before go on."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "worker_fault",
        sa.Column("worker", sa.String(200), nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("reason", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_worker_fault")),
    )
    op.create_table(
        "run_fault",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("found_at", sa.Double()),
        sa.Column("held_until", sa.Double()),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_fault_run_id")),
        sa.PrimaryKeyConstraint("run_id", "subject", name=op.f("pk_run_fault")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("run_fault")
    op.drop_table("worker_fault")
