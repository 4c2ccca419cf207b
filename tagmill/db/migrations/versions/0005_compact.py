"""Draft."""

from alembic import op

from tagmill.db import views
from tagmill.db.schema import metadata

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for view in ("catalog_labels", "catalog_masks", "newest_result"):
        op.execute(f"DROP VIEW {view}")
    for table in (
        "mask",
        "label",
        "run_image",
        "inference",
        "run_model",
        "batch_failure",
        "batch",
        "run",
        "model",
        "image",
        "file_seen",
        "reaper",
    ):
        op.drop_table(table)
    metadata.create_all(op.get_bind())
    for statement in views.create_statements(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
