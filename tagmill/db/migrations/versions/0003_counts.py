"""Counts of images, failures and inferences by batch, so that a run's status does not count its images.

The two indexes that only this count read are gone, and images keep room in their pages for their outcome.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

COUNTED = """
    UPDATE batch SET
        images = (SELECT count(*) FROM run_image WHERE run_image.batch_id = batch.id),
        tagged = (SELECT count(*) FROM run_image WHERE run_image.batch_id = batch.id AND run_image.status = 'tagged'),
        inferences = (SELECT count(*) FROM inference WHERE inference.batch_id = batch.id)
"""
FAILED = """
    INSERT INTO batch_failure (run_id, batch_id, error_code, images)
    SELECT run_id, batch_id, error_code, count(*) FROM run_image WHERE status = 'failed'
    GROUP BY run_id, batch_id, error_code
"""


def upgrade() -> None:
    for name in ("images", "tagged", "inferences"):
        op.add_column("batch", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "batch_failure",
        sa.Column("run_id", ROW_ID, nullable=False),
        sa.Column("batch_id", ROW_ID, nullable=False),
        sa.Column("error_code", sa.String(length=40), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_batch_failure_batch_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_batch_failure_run_id")),
        sa.PrimaryKeyConstraint("run_id", "batch_id", "error_code", name=op.f("pk_batch_failure")),
    )
    op.execute(COUNTED)
    op.execute(FAILED)
    op.drop_index(op.f("ix_inference_batch_id"), table_name="inference")
    op.drop_index(op.f("ix_run_image_run_id_status_error_code"), table_name="run_image")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE run_image SET (fillfactor = 40)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE run_image RESET (fillfactor)")
    op.create_index(op.f("ix_inference_batch_id"), "inference", ["batch_id"], unique=False)
    op.create_index(
        op.f("ix_run_image_run_id_status_error_code"), "run_image", ["run_id", "status", "error_code"], unique=False
    )
    op.drop_table("batch_failure")
    for name in ("images", "tagged", "inferences"):
        op.drop_column("batch", name)
