"""The tables and views of 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

VIEWS = {
    "catalog_labels": """
        CREATE VIEW catalog_labels AS
        SELECT entry.image_key, entry.uri, entry.run_id, entry.sha256, model.name AS model, model.version,
               label.rank, label.label, label.score, inference.created_at AS tagged_at
        FROM newest_result AS entry
        JOIN model ON model.sha256 = entry.model_sha256
        JOIN inference ON inference.image_sha256 = entry.sha256 AND inference.model_sha256 = entry.model_sha256
        JOIN label ON label.inference_id = inference.id
    """,
    "catalog_masks": """
        CREATE VIEW catalog_masks AS
        SELECT entry.image_key, entry.uri, entry.run_id, entry.sha256, model.name AS model, model.version,
               mask.label, mask.score, mask.area_share, mask.box_left, mask.box_top, mask.box_right, mask.box_bottom,
               mask.rle, mask.height, mask.width, inference.created_at AS tagged_at
        FROM newest_result AS entry
        JOIN model ON model.sha256 = entry.model_sha256
        JOIN inference ON inference.image_sha256 = entry.sha256 AND inference.model_sha256 = entry.model_sha256
        JOIN mask ON mask.inference_id = inference.id
    """,
}

#: For each image_key and model name: the entry of the newest run that tagged it.
NEWEST_RESULT = """
    CREATE VIEW newest_result AS
    SELECT entry.image_key, entry.uri, entry.run_id, entry.sha256, chosen.model_sha256
    FROM run_image AS entry
    JOIN run_model AS chosen ON chosen.run_id = entry.run_id
    JOIN model ON model.sha256 = chosen.model_sha256
    WHERE entry.status = 'tagged' AND NOT EXISTS (
        SELECT 1
        FROM run_image AS newer
        JOIN run_model AS newer_chosen ON newer_chosen.run_id = newer.run_id
        JOIN model AS newer_model ON newer_model.sha256 = newer_chosen.model_sha256
        WHERE newer.image_key = entry.image_key AND newer.run_id > entry.run_id
          AND newer.status = 'tagged' AND newer_model.name = model.name
    )
"""


def upgrade() -> None:
    op.create_table(
        "image",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=10), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_image")),
    )
    op.create_table(
        "model",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(length=20), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_model")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_model_name_version")),
    )
    op.create_table(
        "run",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("queue", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_table(
        "batch",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("run_id", ROW_ID, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("published_at", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_batch_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("run_id", "seq", name=op.f("uq_batch_run_id_seq")),
    )
    op.create_index(op.f("ix_batch_status_lease_until"), "batch", ["status", "lease_until"], unique=False)
    op.create_table(
        "run_model",
        sa.Column("run_id", ROW_ID, nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["model_sha256"], ["model.sha256"], name=op.f("fk_run_model_model_sha256")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_model_run_id")),
        sa.PrimaryKeyConstraint("run_id", "model_sha256", name=op.f("pk_run_model")),
    )
    op.create_table(
        "inference",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=False),
        sa.Column("batch_id", ROW_ID, nullable=False),
        sa.Column("provider", sa.String(length=60), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_inference_batch_id")),
        sa.ForeignKeyConstraint(["image_sha256"], ["image.sha256"], name=op.f("fk_inference_image_sha256")),
        sa.ForeignKeyConstraint(["model_sha256"], ["model.sha256"], name=op.f("fk_inference_model_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference")),
        sa.UniqueConstraint("image_sha256", "model_sha256", name=op.f("uq_inference_image_sha256_model_sha256")),
    )
    op.create_index(op.f("ix_inference_batch_id"), "inference", ["batch_id"], unique=False)
    op.create_table(
        "run_image",
        sa.Column("run_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("batch_id", ROW_ID, nullable=False),
        sa.Column("image_key", sa.String(length=512), nullable=False),
        sa.Column("uri", sa.String(length=4096), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_run_image_batch_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_image_run_id")),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_run_image")),
    )
    op.create_index(op.f("ix_run_image_batch_id"), "run_image", ["batch_id"], unique=False)
    op.create_index(op.f("ix_run_image_image_key"), "run_image", ["image_key"], unique=False)
    op.create_index(
        op.f("ix_run_image_run_id_status_error_code"), "run_image", ["run_id", "status", "error_code"], unique=False
    )
    op.create_table(
        "label",
        sa.Column("inference_id", ROW_ID, nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["inference_id"], ["inference.id"], name=op.f("fk_label_inference_id")),
        sa.PrimaryKeyConstraint("inference_id", "rank", name=op.f("pk_label")),
    )
    op.create_table(
        "mask",
        sa.Column("inference_id", ROW_ID, nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("rle", sa.Text(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("area_share", sa.Double(), nullable=False),
        sa.Column("box_left", sa.Double(), nullable=False),
        sa.Column("box_top", sa.Double(), nullable=False),
        sa.Column("box_right", sa.Double(), nullable=False),
        sa.Column("box_bottom", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["inference_id"], ["inference.id"], name=op.f("fk_mask_inference_id")),
        sa.PrimaryKeyConstraint("inference_id", "label", name=op.f("pk_mask")),
    )
    op.execute(NEWEST_RESULT)
    for statement in VIEWS.values():
        op.execute(statement)


def downgrade() -> None:
    for view in (*VIEWS, "newest_result"):
        op.execute(f"DROP VIEW {view}")
    for table in ("mask", "label", "run_image", "inference", "run_model", "batch", "run", "model", "image"):
        op.drop_table(table)
