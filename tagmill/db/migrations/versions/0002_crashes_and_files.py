"""Crashes of a batch, files that were hashed before, and whose turn it is to look for lost work."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("batch", sa.Column("crashes", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "file_seen",
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_file_seen")),
    )
    op.create_table(
        "reaper",
        sa.Column("queue", sa.String(length=100), nullable=False),
        sa.Column("next_look", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_reaper")),
    )


def downgrade() -> None:
    op.drop_table("reaper")
    op.drop_table("file_seen")
    with op.batch_alter_table("batch") as table:
        table.drop_column("crashes")
