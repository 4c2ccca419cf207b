"""The tables of schema 0005, and those of the migration itself."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

#: the tables of 0004 that 0005 replaces, in the order in which they can be dropped
OLD_TABLES = (
    *("mask", "label", "run_image", "inference", "run_model", "batch_failure", "batch", "run", "model"),
    *("image", "file_seen"),
)
#: the tables that exist in both schemas; a new one has the prefix until the old one is dropped
RENAMED = ("model", "run", "run_model", "batch", "batch_failure")
PREFIX = "upgrade_"

_LABELS = 5
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SHA256 = sa.LargeBinary()
_HASH128 = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")
_POSITIONS = sa.Text().with_variant(postgresql.ARRAY(sa.Integer()), "postgresql")
_IMAGE_IDS = sa.Text().with_variant(postgresql.ARRAY(sa.BigInteger()), "postgresql")
_RLE = sa.LargeBinary().with_variant(sa.Text(), "sqlite")


def new_tables(dialect: str, prefix: str = "") -> sa.MetaData:
    """Return the tables of 0005; those that 0004 has, too, with a prefix."""

    def final_name(constraint: Any, table: sa.Table) -> str:
        return table.name.removeprefix(PREFIX)

    # In PostgreSQL an old table's key and a new one's cannot have the same name: the new one's is changed at the end.
    # In SQLite they can, and it cannot be changed.
    key = "table_name" if dialect == "postgresql" else "final_name"
    metadata = sa.MetaData(
        naming_convention={
            "final_name": final_name,
            "ix": "ix_%(final_name)s_%(column_0_N_name)s",
            "uq": f"uq_%({key})s_%(column_0_N_name)s",
            "fk": "fk_%(final_name)s_%(column_0_N_name)s",
            "pk": f"pk_%({key})s",
        }
    )
    _runs(metadata, prefix)
    _batches(metadata, prefix)
    _entries(metadata)
    _results(metadata, dialect)
    return metadata


def _partial(*columns: str, where: str, name: str | None = None) -> sa.Index:
    return sa.Index(name, *columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def _runs(metadata: sa.MetaData, prefix: str) -> None:
    sa.Table(
        f"{prefix}model",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sha256", _SHA256, nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("name_id", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("task", sa.String(20), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("stage", sa.String(20), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("name", "version"),
    )
    for name in ("label_name", "provider", "worker"):
        sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String(200), nullable=False, unique=True),
        )
    sa.Table(
        f"{prefix}run",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("publish_until", sa.Double),
        _partial("publish_until", where="publish_until IS NOT NULL"),
    )
    sa.Table(
        f"{prefix}run_model",
        metadata,
        sa.Column("run_id", sa.Integer, sa.ForeignKey(f"{prefix}run.id"), primary_key=True),
        sa.Column("model_id", sa.Integer, sa.ForeignKey(f"{prefix}model.id"), primary_key=True),
    )


def _batches(metadata: sa.MetaData, prefix: str) -> None:
    unpublished = "status = 'queued' AND published_at IS NULL AND not_before IS NULL"
    sa.Table(
        f"{prefix}batch",
        metadata,
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey(f"{prefix}run.id"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("owner", sa.String(200)),
        sa.Column("lease_until", sa.Double),
        sa.Column("not_before", sa.Double),
        sa.Column("published_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("error", sa.Text),
        sa.Column("positions", _POSITIONS),
        sa.Column("first_position", sa.Integer, nullable=False),
        sa.Column("last_position", sa.Integer, nullable=False),
        sa.Column("images", sa.Integer, nullable=False, server_default="0"),
        sa.Column("tagged", sa.Integer, nullable=False, server_default="0"),
        sa.Column("inferences", sa.Integer, nullable=False, server_default="0"),
        sa.UniqueConstraint("run_id", "seq"),
        sa.Index(None, "run_id", "first_position"),
        sa.Index(None, "run_id", "finished_at"),
        _partial("queue", "published_at", where="status = 'queued'"),
        _partial("queue", "not_before", where="status = 'queued' AND not_before IS NOT NULL"),
        _partial("queue", "lease_until", where="status = 'running'"),
        _partial("run_id", "seq", where=unpublished, name="ix_batch_unpublished"),
    )
    sa.Table(
        f"{prefix}batch_failure",
        metadata,
        sa.Column("run_id", sa.Integer, sa.ForeignKey(f"{prefix}run.id"), primary_key=True),
        sa.Column("batch_id", _ROW_ID, sa.ForeignKey(f"{prefix}batch.id"), primary_key=True),
        sa.Column("error_code", sa.String(40), primary_key=True),
        sa.Column("images", sa.Integer, nullable=False),
    )
    sa.Table(
        "batch_outcome",
        metadata,
        sa.Column("batch_id", _ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("image_ids", _IMAGE_IDS, nullable=False),
    )


def _entries(metadata: sa.MetaData) -> None:
    sa.Table(
        "entry",
        metadata,
        sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("image_key", sa.String(512), nullable=False),
        sa.Column("uri", sa.String(4096), nullable=False),
    )
    sa.Table(
        "image_failure",
        metadata,
        sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("batch_id", _ROW_ID, nullable=False),
        sa.Column("error_code", sa.String(40), nullable=False),
        sa.Column("error_detail", sa.Text),
    )
    sa.Table(
        "catalog_entry",
        metadata,
        sa.Column("image_id", _ROW_ID, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name_id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("place", sa.SmallInteger, nullable=False),
        sa.Column("image_key", sa.String(512), nullable=False),
        sa.PrimaryKeyConstraint("image_key", "name_id", "place"),
        sa.Index(None, "image_id"),
        sa.Index(None, "run_id"),
        sa.Index(None, "changed_at"),
        _partial("image_key", where="place > 0"),
    )


def _results(metadata: sa.MetaData, dialect: str) -> None:
    found_by = "(encode(substr(sha256, 1, 16), 'hex')::uuid)" if dialect == "postgresql" else "sha256"
    sa.Table(
        "image_content",
        metadata,
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("format", sa.String(10), nullable=False),
        sa.Column("sha256", _SHA256, nullable=False),
        sa.Index("uq_image_content_sha256", sa.text(found_by), unique=True),
    )
    sa.Table(
        "result",
        metadata,
        sa.Column("image_id", _ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("model_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("provider_id", sa.Integer, nullable=False),
        sa.Column("batch_id", _ROW_ID, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        *(sa.Column(f"score_{rank}", sa.Double) for rank in range(1, _LABELS + 1)),
        *(sa.Column(f"label_{rank}", sa.Integer) for rank in range(1, _LABELS + 1)),
        sa.Column("worker_id", sa.Integer, nullable=False),
        sa.Index(None, "label_1", "score_1"),
        *(_partial(f"label_{rank}", f"score_{rank}", where=f"score_{rank} >= 0.2") for rank in range(2, _LABELS + 1)),
    )
    sa.Table(
        "further_label",
        metadata,
        sa.Column("image_id", _ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("model_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("label_id", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Index(None, "label_id", "score"),
    )
    sa.Table(
        "result_mask",
        metadata,
        sa.Column("image_id", _ROW_ID, nullable=False),
        sa.Column("area_share", sa.Double, nullable=False),
        sa.Column("box_left", sa.Double, nullable=False),
        sa.Column("box_top", sa.Double, nullable=False),
        sa.Column("box_right", sa.Double, nullable=False),
        sa.Column("box_bottom", sa.Double, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("label_id", sa.Integer, nullable=False),
        sa.Column("height", sa.SmallInteger, nullable=False),
        sa.Column("width", sa.SmallInteger, nullable=False),
        sa.Column("rle", _RLE, nullable=False),
        sa.Index(None, "image_id"),
    )
    sa.Table(
        "known_file",
        metadata,
        sa.Column("identity", _HASH128, primary_key=True),
        sa.Column("image_id", _ROW_ID, nullable=False),
    )


def own_tables() -> sa.MetaData:
    """Return the tables that the migration needs until it is finished."""
    metadata = sa.MetaData()
    sa.Table(
        "upgrade_progress",
        metadata,
        sa.Column("stage", sa.String(20), primary_key=True),
        #: key of the last row that was copied; NULL before the first
        sa.Column("mark", sa.Text),
        #: key up to which rows are copied: the log has those behind it; NULL for all
        sa.Column("goal", sa.Text),
        sa.Column("copied", sa.BigInteger, nullable=False),
        #: about how many rows there are
        sa.Column("expected", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
    )
    sa.Table(
        "upgrade_change",
        metadata,
        sa.Column("id", _ROW_ID, primary_key=True),
        #: see `watch.Kind`
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("row_key", sa.Text, nullable=False),
        sa.Index("ix_upgrade_change_kind_id", "kind", "id"),
    )
    return metadata
