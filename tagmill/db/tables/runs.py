"""Runs, and what is said of a run as a whole."""

from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, Index, Integer, SmallInteger, String, Table, Text

from tagmill.db.tables.base import metadata, partial_index


class RunState(StrEnum):
    """The values of `run.state`. Whether a run is finished follows from its batches and is never stored."""

    #: workers may claim its batches
    OPEN = "open"
    #: its queued batches wait until it is resumed
    PAUSED = "paused"
    #: its queued batches were cancelled
    CANCELLED = "cancelled"


#: One submission.
run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    #: batch_size, and roots: the folders and prefixes of object stores that workers may read for this run; following:
    #: the models that were named without a version
    Column("parameters", JSON, nullable=False),
    #: the queue of its messages; each run of `tagmill tag` has a separate one, which no worker serves
    Column("queue", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    #: until when its producer is expected to go on publishing its batches; None once all were. Reapers publish the rest
    #: of a run whose producer is late.
    Column("publish_until", Double),
    #: tagmill.priority.Priority of its batches
    Column("priority", SmallInteger, nullable=False, server_default="6"),
    #: what its producer calls it (`tagmill submit --id`), so that a job that is repeated does not double it
    Column("submission", String(200)),
    partial_index("publish_until", where="publish_until IS NOT NULL"),
    Index("uq_run_submission", "submission", unique=True),
)

#: The models of a run, pinned at submit.
run_model = Table(
    "run_model",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True),
)

#: The label sets that runs show, one version of a name each. They are no models of the run: workers would load these.
label_set_run = Table(
    "label_set_run",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True),
    Column("applied_at", Double, nullable=False),
)

#: How far the results of a run are from those of a reference run, for a model and a group of images; see
#: `tagmill.ledger.drift`.
drift = Table(
    "drift",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("reference_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("model_name", String(200), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("reference_version", Integer, primary_key=True, autoincrement=False),
    #: in the order in which they are shown; 0 are all images
    Column("number", Integer, primary_key=True, autoincrement=False),
    #: all, label or column
    Column("kind", String(10), nullable=False),
    #: the further column of a group of the kind column
    Column("column_name", Text),
    #: the label, or the value of the column; None of all images, and of those without a value
    Column("group_value", Text),
    #: images that were tagged, and that failed; of a label, how often it was given
    Column("images", BigInteger, nullable=False),
    Column("reference_images", BigInteger, nullable=False),
    Column("failed", BigInteger),
    Column("reference_failed", BigInteger),
    #: shares of 0 to 1: images whose label is `unknown`, and of a label among all labels that were given
    Column("unknown_share", Double),
    Column("reference_unknown_share", Double),
    Column("label_share", Double),
    Column("reference_label_share", Double),
    #: population stability indexes, each with what chance alone exceeds once in 1,000 times
    Column("label_psi", Double),
    Column("label_chance", Double),
    Column("score_psi", Double),
    Column("score_chance", Double),
    Column("failed_psi", Double),
    Column("failed_chance", Double),
    #: cosine distance of the mean embeddings, and its mean by chance
    Column("distance", Double),
    Column("distance_chance", Double),
    #: limits, and the names of the figures above them, separated by commas; None if there were too few images
    Column("threshold", Double, nullable=False),
    Column("max_distance", Double),
    Column("above", Text),
    Column("created_at", Double, nullable=False),
)
