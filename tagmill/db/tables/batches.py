"""Batches: their state, what became of their entries, and who looks for those that were lost."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tagmill.db.tables.base import metadata, partial_index
from tagmill.db.types import BigId, Integers

#: condition on the batches of a run that its producer has not published yet
UNPUBLISHED = "status = 'queued' AND published_at IS NULL AND not_before IS NULL"


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


#: The entries of one message. It also keeps the counts of `tagmill run status`, which sums batches instead of images.
#: They are written in the transaction that changes what they count, in a row that it locks anyway.
batch = Table(
    "batch",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    #: `run.queue`, so that a reaper finds the batches of its queue in one index
    Column("queue", String(100), nullable=False),
    Column("status", String(20), nullable=False),
    #: how often a worker claimed it
    Column("attempts", Integer, nullable=False, default=0),
    #: how often its worker died; see tagmill.ledger.batches.attempts
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
    #: positions of its entries; None if these are all from `first_position` to `last_position`
    Column("positions", Integers),
    Column("first_position", Integer, nullable=False),
    Column("last_position", Integer, nullable=False),
    #: entries in it; a retry moves failed ones to another batch
    Column("images", Integer, nullable=False, server_default="0"),
    #: those of them that were tagged
    Column("tagged", Integer, nullable=False, server_default="0"),
    #: rows of `result` that it computed
    Column("inferences", Integer, nullable=False, server_default="0"),
    #: how often it was given back because what its entries repeat had no outcome yet; see tagmill.ledger.repeats
    Column("waits", SmallInteger, nullable=False, server_default="0"),
    #: requests for its images, those of them that were answered with 304, and the bytes of all bodies
    Column("requests", Integer, nullable=False, server_default="0"),
    Column("not_modified", Integer, nullable=False, server_default="0"),
    Column("bytes_fetched", BigInteger, nullable=False, server_default="0"),
    #: seconds of all cores, and of a GPU, that it took
    Column("cpu_seconds", Double, nullable=False, server_default="0"),
    Column("gpu_seconds", Double, nullable=False, server_default="0"),
    #: `run.priority`, for the same reason as the queue
    Column("priority", SmallInteger, nullable=False, server_default="6"),
    UniqueConstraint("run_id", "seq"),
    Index(None, "run_id", "first_position"),
    Index(None, "run_id", "finished_at"),
    # What the reaper looks for, and what a producer has yet to publish; each in the order in which it is taken.
    partial_index("queue", "priority", "published_at", where="status = 'queued'"),
    partial_index("queue", "priority", "not_before", where="status = 'queued' AND not_before IS NOT NULL"),
    partial_index("queue", "lease_until", where="status = 'running'"),
    partial_index("run_id", "seq", where=UNPUBLISHED, name="ix_batch_unpublished"),
    # What monitoring counts.
    partial_index("queue", where="status = 'dead'", name="ix_batch_dead"),
)

#: What became of the entries of a batch that is done.
batch_outcome = Table(
    "batch_outcome",
    metadata,
    Column("batch_id", BigId, primary_key=True, autoincrement=False),
    #: for each position of the batch the id of its image if it was tagged, else None
    Column("image_ids", Integers(BigInteger), nullable=False),
)

#: How many images of a batch failed with a code; no row if none did. Written like the counts in `batch`.
batch_failure = Table(
    "batch_failure",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("batch_id", BigId, ForeignKey("batch.id"), primary_key=True),
    #: tagmill.outcomes.ErrorCode
    Column("error_code", String(40), primary_key=True),
    Column("images", Integer, nullable=False),
)

#: The reaper's lock, one per queue: the first worker that asks after `next_look` gets it.
reaper = Table(
    "reaper",
    metadata,
    Column("queue", String(100), primary_key=True),
    Column("next_look", Double, nullable=False),
)
