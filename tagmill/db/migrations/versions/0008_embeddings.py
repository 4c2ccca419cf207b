"""Embeddings, duplicates, label sets, what is measured on pictures, and how far a run is from another one.

It only adds tables, which takes no time. Workers of the version before go on.
"""

from dataclasses import asdict, fields

import sqlalchemy as sa
from alembic import op

from tagmill.db.types import BigId, Vector
from tagmill.db.vectors.pgvector import create_pgvector
from tagmill.rules.read import built_in, read_rules
from tagmill.rules.rule import Rule

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "embedding",
        sa.Column("image_id", BigId, autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("vector", Vector(), nullable=False),
        sa.PrimaryKeyConstraint("image_id", "model_id", name=op.f("pk_embedding")),
    )
    op.create_table(
        "activation_map",
        sa.Column("image_id", BigId, autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("height", sa.SmallInteger(), nullable=False),
        sa.Column("width", sa.SmallInteger(), nullable=False),
        sa.Column("levels", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("image_id", "model_id", name=op.f("pk_activation_map")),
    )
    _create_drift()
    _create_label_sets()
    if op.get_bind().dialect.name == "postgresql" and create_pgvector(op.get_bind()):
        # The table is empty, so no value is converted.
        op.execute("ALTER TABLE embedding ALTER COLUMN vector TYPE halfvec USING NULL::halfvec")
    op.create_table(
        "duplicate_image",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("group_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("image_id", BigId, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("distance", sa.SmallInteger()),
        sa.Column("similarity", sa.Double()),
        sa.Column("found_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "group_id", "image_id", name=op.f("pk_duplicate_image")),
    )
    op.create_index(op.f("ix_duplicate_image_image_id"), "duplicate_image", ["image_id"])
    _add_pictures()


def _add_pictures() -> None:
    needed = ("white_border", "sharpness", "brightness", "contrast", "frame")
    optional = ("product_area", "product_extent", "box_left", "box_top", "box_right", "box_bottom", "text_share")
    op.create_table(
        "picture",
        sa.Column("image_id", BigId, autoincrement=False, nullable=False),
        sa.Column("phash", sa.BigInteger(), nullable=False),
        sa.Column("phash_mirrored", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in needed),
        *(sa.Column(name, sa.Double()) for name in optional),
        sa.Column("text_boxes", sa.Integer()),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("product_from", sa.String(length=12), nullable=False),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_picture")),
    )
    op.create_index(op.f("ix_picture_phash"), "picture", ["phash"])
    op.create_table(
        "picture_attribute",
        sa.Column("image_id", BigId, autoincrement=False, nullable=False),
        sa.Column("attribute_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("image_id", "attribute_id", "value_id", name=op.f("pk_picture_attribute")),
    )
    op.create_index(op.f("ix_picture_attribute_value_id_score"), "picture_attribute", ["value_id", "score"])
    op.create_table(
        "picture_rule",
        sa.Column("rule_set", sa.String(length=100), nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("measure", sa.String(length=40), nullable=False),
        sa.Column("comparison", sa.String(length=10), nullable=False),
        sa.Column("bound", sa.Double(), nullable=False),
        sa.Column("product", sa.String(length=200)),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rule_set", "rule", name=op.f("pk_picture_rule")),
    )
    # `catalog_violations` knows the built-in sets from the beginning; `tagmill check --save` replaces them.
    rules = sa.table("picture_rule", *(sa.column(field.name) for field in fields(Rule)))
    op.bulk_insert(rules, [asdict(rule) for name in built_in() for rule in read_rules(name).rules])


def _create_drift() -> None:
    """Add the table of comparisons."""
    figures = (
        *("unknown_share", "reference_unknown_share", "label_share", "reference_label_share"),
        *("label_psi", "label_chance", "score_psi", "score_chance", "failed_psi", "failed_chance"),
        *("distance", "distance_chance"),
    )
    op.create_table(
        "drift",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("reference_id", sa.Integer(), nullable=False),
        sa.Column("model_name", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reference_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("column_name", sa.Text()),
        sa.Column("group_value", sa.Text()),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("reference_images", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger()),
        sa.Column("reference_failed", sa.BigInteger()),
        *(sa.Column(name, sa.Double()) for name in figures),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("max_distance", sa.Double()),
        sa.Column("above", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_drift_run_id")),
        sa.ForeignKeyConstraint(["reference_id"], ["run.id"], name=op.f("fk_drift_reference_id")),
        sa.PrimaryKeyConstraint(
            *("run_id", "reference_id", "model_name", "version", "reference_version", "number"),
            name=op.f("pk_drift"),
        ),
    )


def _create_label_sets() -> None:
    op.create_table(
        "label_set",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_label_set_model_id")),
        sa.ForeignKeyConstraint(["base_id"], ["model.id"], name=op.f("fk_label_set_base_id")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_label_set")),
    )
    op.create_table(
        "label_set_run",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_label_set_run_run_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_label_set_run_model_id")),
        sa.PrimaryKeyConstraint("run_id", "model_id", name=op.f("pk_label_set_run")),
    )


def downgrade() -> None:
    """Refuse: embeddings would be lost."""
    raise NotImplementedError("schema 0008 cannot be downgraded; restore the backup")
