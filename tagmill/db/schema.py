"""The SQL tables. Times are Unix seconds by the database's own clock; see `tagmill.db.connection.epoch_now`."""

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite generates ids only if the type of the key is exactly INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")
Sha256 = String(64)


class RunState(StrEnum):
    """The values of `run.state`. Whether a run is finished follows from its batches and is never stored."""

    #: workers may claim its batches
    OPEN = "open"
    #: its queued batches were cancelled
    CANCELLED = "cancelled"


class BatchStatus(StrEnum):
    """The values of `batch.status`."""

    #: waits for a worker; its message is on the queue, or the reaper will publish it
    QUEUED = "queued"
    #: a worker owns it until `lease_until`
    RUNNING = "running"
    #: every image has an outcome
    DONE = "done"
    #: out of attempts; `error` says why the last one failed
    DEAD = "dead"
    #: its run was cancelled before a worker claimed it
    CANCELLED = "cancelled"


#: A registered bundle.
model = Table(
    "model",
    metadata,
    Column("sha256", Sha256, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("task", String(20), nullable=False),
    Column("labels", JSON, nullable=False),
    #: tagmill.images.preprocess.PreprocessSpec, background label, precision, suggested threshold of each label
    Column("spec", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    #: candidate or production; NAME without @VERSION means the version in production, else the newest
    Column("stage", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("name", "version"),
)

#: One submission.
run = Table(
    "run",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source", Text, nullable=False),
    #: batch_size, and roots: the folders that workers may read for this run
    Column("parameters", JSON, nullable=False),
    #: the queue of its messages; each run of `tagmill tag` has a separate one, which no worker serves
    Column("queue", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
)

#: The models of a run, pinned at submit.
run_model = Table(
    "run_model",
    metadata,
    Column("run_id", RowId, ForeignKey("run.id"), primary_key=True),
    Column("model_sha256", Sha256, ForeignKey("model.sha256"), primary_key=True),
)

#: The images of one message. It also keeps the counts of `tagmill run status`, which sums batches instead of images.
#: They are written in the transaction that changes what they count, in a row that it locks anyway.
batch = Table(
    "batch",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("run_id", RowId, ForeignKey("run.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    #: how often a worker claimed it
    Column("attempts", Integer, nullable=False, default=0),
    #: how often its worker died; see tagmill.ledger.attempts
    Column("crashes", Integer, nullable=False, server_default="0"),
    #: token of the claim that may write its results; None unless the batch is running
    Column("owner", String(200)),
    Column("lease_until", Double),
    #: earliest time of the next claim; None until the batch was released or lost its worker
    Column("not_before", Double),
    #: when its message was last put on the queue; None before that, and once it was released or lost its worker
    Column("published_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    #: why the last attempt failed
    Column("error", Text),
    #: rows of `run_image` in it
    Column("images", Integer, nullable=False, server_default="0"),
    #: those of them with status tagged
    Column("tagged", Integer, nullable=False, server_default="0"),
    #: rows of `inference` that it computed
    Column("inferences", Integer, nullable=False, server_default="0"),
    UniqueConstraint("run_id", "seq"),
    Index(None, "status", "lease_until"),
)

#: How many images of a batch failed with a code; no row if none did. Written like the counts in `batch`.
batch_failure = Table(
    "batch_failure",
    metadata,
    Column("run_id", RowId, ForeignKey("run.id"), primary_key=True),
    Column("batch_id", RowId, ForeignKey("batch.id"), primary_key=True),
    #: tagmill.outcomes.ErrorCode
    Column("error_code", String(40), primary_key=True),
    Column("images", Integer, nullable=False),
)

#: One entry of a manifest.
run_image = Table(
    "run_image",
    metadata,
    Column("run_id", RowId, ForeignKey("run.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("batch_id", RowId, ForeignKey("batch.id"), nullable=False),
    Column("image_key", String(512), nullable=False),
    Column("uri", String(4096), nullable=False),
    #: sha256 of the bytes that were tagged
    Column("sha256", Sha256),
    #: tagmill.outcomes.ImageStatus
    Column("status", String(20), nullable=False),
    #: tagmill.outcomes.ErrorCode
    Column("error_code", String(40)),
    Column("error_detail", Text),
    # No index covers a column that an outcome changes: with room in its page, PostgreSQL updates the row without
    # touching the indexes.
    Index(None, "batch_id"),
    Index(None, "image_key"),
    postgresql_with={"fillfactor": 40},
)

#: Distinct image bytes.
image = Table(
    "image",
    metadata,
    Column("sha256", Sha256, primary_key=True),
    #: in pixels, once the image is upright
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", String(10), nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

#: One model's result for one image's bytes. It is written once and never replaced.
inference = Table(
    "inference",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("image_sha256", Sha256, ForeignKey("image.sha256"), nullable=False),
    Column("model_sha256", Sha256, ForeignKey("model.sha256"), nullable=False),
    #: the batch that computed it
    Column("batch_id", RowId, ForeignKey("batch.id"), nullable=False),
    Column("provider", String(60), nullable=False),
    Column("worker", String(200), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("image_sha256", "model_sha256"),
)

#: The best labels of an inference, rank 1 first, with the model's scores.
label = Table(
    "label",
    metadata,
    Column("inference_id", RowId, ForeignKey("inference.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("label", String(200), nullable=False),
    Column("score", Double, nullable=False),
)

#: The masks of an inference, one per label that the model found.
mask = Table(
    "mask",
    metadata,
    Column("inference_id", RowId, ForeignKey("inference.id"), primary_key=True),
    Column("label", String(200), primary_key=True),
    #: COCO run-length encoding, compressed `counts`, at the model's resolution
    Column("rle", Text, nullable=False),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    #: 0 to 1, of the part of the image that the model saw
    Column("area_share", Double, nullable=False),
    #: bounding box in pixels of the image
    Column("box_left", Double, nullable=False),
    Column("box_top", Double, nullable=False),
    Column("box_right", Double, nullable=False),
    Column("box_bottom", Double, nullable=False),
    #: mean probability over the mask's pixels
    Column("score", Double, nullable=False),
)

#: A local file whose bytes were hashed. It is not read again while its identity is the same.
file_seen = Table(
    "file_seen",
    metadata,
    #: sha256 of path, size, times and inode; see worker.pipeline.known
    Column("identity", Sha256, primary_key=True),
    #: sha256 of its bytes
    Column("sha256", Sha256, nullable=False),
)

#: The reaper's lock, one per queue: the first worker that asks after `next_look` gets it.
reaper = Table(
    "reaper",
    metadata,
    Column("queue", String(100), primary_key=True),
    Column("next_look", Double, nullable=False),
)
