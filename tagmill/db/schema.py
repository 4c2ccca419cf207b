"""The SQL tables. Times are Unix seconds by the database's own clock; see `tagmill.db.connection.epoch_now`.

Columns that every image has are ordered by size and hold numbers instead of names: a row of PostgreSQL has 24 bytes of
header, and its columns are aligned. The tables of images and results have no foreign keys: one transaction writes a
row together with those that it names, nothing deletes them singly, and checking them took half of PostgreSQL's time.
People read the views (`tagmill/db/views.py`), which show names and hashes as text.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from tagmill.db.types import BigId, Hash128, Integers, Rle, Sha256, Vector, hash_head

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: condition on the batches of a run that its producer has not published yet
UNPUBLISHED = "status = 'queued' AND published_at IS NULL AND not_before IS NULL"
#: labels that a row of `result` holds, best first
LABELS = 5
#: least score with which a label that is not the best is in the index of its rank
INDEXED_SCORE = 0.2


class RunState(StrEnum):
    """The values of `run.state`. Whether a run is finished follows from its batches and is never stored."""

    #: workers may claim its batches
    OPEN = "open"
    #: its queued batches wait until it is resumed
    PAUSED = "paused"
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


def _partial(*columns: Any, where: str, name: str | None = None) -> Index:
    """Return an index of the rows that fulfill a condition."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


#: A registered bundle, or a label set.
model = Table(
    "model",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", Sha256, nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    #: id of the first model of this name, which stands for the name in `catalog_entry`
    Column("name_id", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("task", String(20), nullable=False),
    Column("labels", JSON, nullable=False),
    #: tagmill.images.preprocess.PreprocessSpec, background label, precision, suggested threshold of each label
    Column("spec", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    #: tagmill.registry.models.Stage: candidate, production or retired; NAME without @VERSION means the version in
    #: production, else the newest
    Column("stage", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("name", "version"),
)


def _names(table: str) -> Table:
    """Return a table of names, so that rows of other tables hold a number instead; see `tagmill.db.names`."""
    return Table(
        table,
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(200), nullable=False, unique=True),
    )


#: The labels that models gave.
label_name = _names("label_name")
#: What ran an inference, such as CUDAExecutionProvider.
provider = _names("provider")
#: The processes that ran inferences, HOST:PID.
worker = _names("worker")

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
    _partial("publish_until", where="publish_until IS NOT NULL"),
    Index("uq_run_submission", "submission", unique=True),
)

#: The models of a run, pinned at submit.
run_model = Table(
    "run_model",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True),
)

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
    _partial("queue", "priority", "published_at", where="status = 'queued'"),
    _partial("queue", "priority", "not_before", where="status = 'queued' AND not_before IS NOT NULL"),
    _partial("queue", "lease_until", where="status = 'running'"),
    _partial("run_id", "seq", where=UNPUBLISHED, name="ix_batch_unpublished"),
    # What monitoring counts.
    _partial("queue", where="status = 'dead'", name="ix_batch_dead"),
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

#: One entry of a manifest. It is never changed; what became of it is in `batch_outcome` or `image_failure`.
entry = Table(
    "entry",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("image_key", String(512), nullable=False),
    Column("uri", String(4096), nullable=False),
    #: the further columns of its manifest, as a JSON object
    Column("extra", Text),
)

#: An entry whose uri an earlier entry of its run has, too: its batch waits for the outcome of the first one.
repeated_entry = Table(
    "repeated_entry",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("first_position", Integer, nullable=False),
    Index(None, "run_id", "first_position"),
)

#: The image of an entry that others repeat, once it was tagged.
repeated_image = Table(
    "repeated_image",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("first_position", Integer, primary_key=True, autoincrement=False),
    Column("image_id", BigId, nullable=False),
)

#: Why an entry failed.
image_failure = Table(
    "image_failure",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("batch_id", BigId, nullable=False),
    #: tagmill.outcomes.ErrorCode
    Column("error_code", String(40), nullable=False),
    Column("error_detail", Text),
)

#: Distinct image bytes.
image_content = Table(
    "image_content",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    #: in pixels, once the image is upright
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", String(10), nullable=False),
    Column("sha256", Sha256, nullable=False),
)
# PostgreSQL finds an image by the first half of its hash, in a type that takes half as much room in the index: 128 bits
# are beyond accident and attack. It must be the same expression as `HASH_HEAD` in `tagmill.db.types`.
Index("uq_image_content_sha256", hash_head(image_content.c.sha256), unique=True)

#: One model's result for one image's bytes, with its best labels. It is written once and never replaced.
result = Table(
    "result",
    metadata,
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    Column("provider_id", Integer, nullable=False),
    #: the batch that computed it
    Column("batch_id", BigId, nullable=False),
    Column("created_at", Double, nullable=False),
    #: the model's scores
    *(Column(f"score_{rank}", Double) for rank in range(1, LABELS + 1)),
    *(Column(f"label_{rank}", Integer) for rank in range(1, LABELS + 1)),
    Column("worker_id", Integer, nullable=False),
    Index(None, "label_1", "score_1"),
    *(
        _partial(f"label_{rank}", f"score_{rank}", where=f"score_{rank} >= {INDEXED_SCORE}")
        for rank in range(2, LABELS + 1)
    ),
)

#: When images were deleted, and the largest id of an image then. See `tagmill.ledger.pruning.fence`.
image_pruning = Table(
    "image_pruning",
    metadata,
    Column("at", Double, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
)

#: The labels behind those in `result`.
further_label = Table(
    "further_label",
    metadata,
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("label_id", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Index(None, "label_id", "score"),
)

#: The masks of a result, one per label that the model found.
result_mask = Table(
    "result_mask",
    metadata,
    Column("image_id", BigId, nullable=False),
    #: 0 to 1, of the part of the image that the model saw
    Column("area_share", Double, nullable=False),
    #: bounding box in pixels of the image
    Column("box_left", Double, nullable=False),
    Column("box_top", Double, nullable=False),
    Column("box_right", Double, nullable=False),
    Column("box_bottom", Double, nullable=False),
    #: mean probability over the mask's pixels
    Column("score", Double, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("label_id", Integer, nullable=False),
    Column("height", SmallInteger, nullable=False),
    Column("width", SmallInteger, nullable=False),
    #: COCO run-length encoding, compressed `counts`, at the model's resolution
    Column("rle", Rle, nullable=False),
    # The masks of an image share one entry of this index; a result's labels differ, so nothing else keeps them unique.
    Index(None, "image_id"),
)

#: Where an image lies among others for a model: what its bundle's output `embedding` gave for it.
embedding = Table(
    "embedding",
    metadata,
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    #: of unit length; all of a model have the same width
    Column("vector", Vector, nullable=False),
)

#: Where in an image the evidence for its best label is: what its bundle's output `activation_map` gave for it.
activation_map = Table(
    "activation_map",
    metadata,
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    #: in cells; the map covers what the model saw of the image
    Column("height", SmallInteger, nullable=False),
    Column("width", SmallInteger, nullable=False),
    #: a byte for each cell, row by row: 0 none, 255 the strongest evidence in the image
    Column("levels", LargeBinary, nullable=False),
)

#: What was measured on distinct image bytes, for runs with --measure. See `tagmill.records.PictureRow`.
picture = Table(
    "picture",
    metadata,
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    #: perceptual hash, its first bit the sign, and that of the mirrored picture
    Column("phash", BigInteger, nullable=False),
    Column("phash_mirrored", BigInteger, nullable=False),
    *(Column(name, Double, nullable=False) for name in ("white_border", "sharpness", "brightness", "contrast")),
    #: width of the widest frame or bar around the picture, as a share of its shorter side
    Column("frame", Double, nullable=False),
    *(Column(name, Double) for name in ("product_area", "product_extent")),
    #: bounding box of the product in pixels of the image
    *(Column(f"box_{side}", Double) for side in ("left", "top", "right", "bottom")),
    Column("text_share", Double),
    Column("text_boxes", Integer),
    #: tagmill.measuring.VERSION
    Column("version", SmallInteger, nullable=False),
    #: mask, background or frame: what the product's pixels are
    Column("product_from", String(12), nullable=False),
    Index(None, "phash"),
)

#: What was found on a picture without a model that was trained for it, such as its colors.
picture_attribute = Table(
    "picture_attribute",
    metadata,
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    #: ids of `label_name`
    Column("attribute_id", Integer, primary_key=True, autoincrement=False),
    Column("value_id", Integer, primary_key=True, autoincrement=False),
    Column("score", Double, nullable=False),
    Index(None, "value_id", "score"),
)

#: A rule that pictures are checked with; `catalog_violations` applies it when it is read. See `tagmill.rules`.
picture_rule = Table(
    "picture_rule",
    metadata,
    Column("rule_set", String(100), primary_key=True),
    Column("rule", String(100), primary_key=True),
    #: error or warning
    Column("severity", String(10), nullable=False),
    #: a name of `tagmill.rules.measures`
    Column("measure", String(40), nullable=False),
    #: at_least or at_most
    Column("comparison", String(10), nullable=False),
    Column("bound", Double, nullable=False),
    #: of a rule that compares the pictures of a product: the column of the entries that names it
    Column("product", String(200)),
    #: what a person reads
    Column("detail", Text, nullable=False),
)

#: The groups that `tagmill duplicates` found last, in the catalog and in runs.
duplicate_image = Table(
    "duplicate_image",
    metadata,
    #: the run whose images were compared; 0: those that the catalog showed
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("group_id", Integer, primary_key=True, autoincrement=False),
    Column("image_id", BigId, primary_key=True, autoincrement=False),
    #: tagmill.search.duplicates.pairs.Kind
    Column("kind", String(12), nullable=False),
    #: bits by which its perceptual hash differs from that of the first image of the group, and cosine of the embeddings
    Column("distance", SmallInteger),
    Column("similarity", Double),
    Column("found_at", Double, nullable=False),
    Index(None, "image_id"),
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

#: A label set: a model that labels by the embeddings of another one. See `tagmill.ledger.labels.apply`.
label_set = Table(
    "label_set",
    metadata,
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True),
    #: the model whose embeddings it labels
    Column("base_id", Integer, ForeignKey("model.id"), nullable=False),
    #: tagmill.labelsets.label_set.LabelSet as bytes; their sha256 is that of the model
    Column("content", LargeBinary, nullable=False),
)

#: The label sets that runs show, one version of a name each. They are no models of the run: workers would load these.
label_set_run = Table(
    "label_set_run",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True),
    Column("applied_at", Double, nullable=False),
)

#: What the catalog shows for a key and the name of a model: the newest run that tagged the key. See
#: `tagmill.ledger.catalog`.
catalog_entry = Table(
    "catalog_entry",
    metadata,
    Column("image_id", BigId, nullable=False),
    #: when the key began to show this result, in whole seconds: an index holds equal numbers once, equal doubles not
    Column("changed_at", BigInteger, nullable=False),
    Column("run_id", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("name_id", Integer, nullable=False),
    Column("model_id", Integer, nullable=False),
    #: 0 for the newest version of the name in the run, 1 and more for its others
    Column("place", SmallInteger, nullable=False),
    Column("image_key", String(512), nullable=False),
    PrimaryKeyConstraint("image_key", "name_id", "place"),
    Index(None, "image_id"),
    Index(None, "run_id"),
    Index(None, "changed_at"),
    # Hardly ever has a row: few runs have two versions of a model.
    _partial("image_key", where="place > 0"),
)


def _shown(view: str) -> Table:
    """Return a view over `catalog_entry`, with its columns: see `tagmill.db.shown_views`."""
    return Table(view, MetaData(), *(Column(found.name, found.type) for found in catalog_entry.columns))


#: `catalog_entry` with the version that is shown: what people's views and results read.
shown_entry = _shown("shown_entry")
#: The same for those who ask what changed since a time.
shown_change = _shown("shown_change")

#: A local file whose bytes were hashed. It is not read again while its identity is the same.
known_file = Table(
    "known_file",
    metadata,
    #: hash of path, size, times and inode; see worker.sources.fetcher
    Column("identity", Hash128, primary_key=True),
    Column("image_id", BigId, nullable=False),
)

#: A URL or object whose bytes were hashed, with what its server recognizes them by: it is asked if they changed.
known_url = Table(
    "known_url",
    metadata,
    #: first half of the sha256 of the location
    Column("location", Hash128, primary_key=True),
    Column("image_id", BigId, nullable=False),
    #: of the answer that the bytes came with
    Column("etag", Text),
    Column("last_modified", Text),
)

#: The reaper's lock, one per queue: the first worker that asks after `next_look` gets it.
reaper = Table(
    "reaper",
    metadata,
    Column("queue", String(100), primary_key=True),
    Column("next_look", Double, nullable=False),
)

#: A worker that is out: it takes no batches until its fault is gone. See `tagmill.ledger.faults.workers`.
worker_fault = Table(
    "worker_fault",
    metadata,
    #: HOST:PID of what starts its processes: its supervisor, or another parent
    Column("worker", String(200), primary_key=True),
    Column("queue", String(100), nullable=False),
    #: tagmill.ledger.faults.workers.FaultReason
    Column("reason", String(20), nullable=False),
    #: what is wrong and what to do
    Column("detail", Text, nullable=False),
    Column("since", Double, nullable=False),
    #: when the worker last found the fault; one that was ended reports nothing any more
    Column("seen_at", Double, nullable=False),
)

#: What a run needs and a worker lacked: a folder of its images, or a bundle. See `tagmill.ledger.faults.runs`.
run_fault = Table(
    "run_fault",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    #: sha256 of the bundle, or of the folder's path
    Column("subject", String(64), primary_key=True),
    #: tagmill.ledger.faults.workers.FaultReason
    Column("reason", String(20), nullable=False),
    Column("detail", Text, nullable=False),
    #: a file that was not found below the folder
    Column("path", Text),
    #: when it was lacked first and last, and when a worker last had it
    Column("since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("found_at", Double),
    #: no worker has it: until then the batches that need it wait. After that, they fail.
    Column("held_until", Double),
)

#: A version of a model that is tried beside the one in production. See `tagmill.registry.rollout`.
rollout = Table(
    "rollout",
    metadata,
    #: `model.name_id`
    Column("name_id", Integer, primary_key=True, autoincrement=False),
    #: shadow: its results are stored and not shown; canary: they are shown
    Column("kind", String(10), primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    #: 0 to 1, of all products or keys
    Column("share", Double, nullable=False),
    #: the further column of entries that names their product; the key of an entry without it stands for the product
    Column("product", String(200)),
    Column("since", Double, nullable=False),
)

#: Which version the catalog shows instead of another one, for images that have a result of both: a promotion or a
#: rollback changes this table and no row of `catalog_entry`. A version may stand for itself, to say since when.
shown_instead = Table(
    "shown_instead",
    metadata,
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True),
    Column("shown_id", Integer, ForeignKey("model.id"), nullable=False),
    #: when a promotion, a rollback or a change of a canary last changed what is shown of this version
    Column("since", Double, nullable=False),
)

#: An entry of a run that a canary tagged, too, and that shows its result instead of that of the run's own version.
canary_entry = Table(
    "canary_entry",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    #: the canary
    Column("model_id", Integer, primary_key=True, autoincrement=False),
    #: where its product lies among all, 0 to 1: it is in every share above that
    Column("point", Double, nullable=False),
)

#: What a person or a job did to runs and models. Rows are only added. See `tagmill.db.audit`.
audit_event = Table(
    "audit_event",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", Double, nullable=False),
    #: tagmill.db.audit.Action
    Column("action", String(20), nullable=False),
    #: who did it: the user of the operating system, or TAGMILL_USER, and the machine
    Column("user_name", String(200), nullable=False),
    Column("host", String(200), nullable=False),
    Column("run_id", Integer),
    #: of a model: `model.name_id`, and the versions before and after
    Column("name_id", Integer),
    Column("from_id", Integer),
    Column("to_id", Integer),
    Column("reason", Text),
    #: what else is known of it, as a JSON object
    Column("details", JSON),
    Index(None, "at"),
    _partial("run_id", where="run_id IS NOT NULL"),
    _partial("name_id", "at", where="name_id IS NOT NULL"),
)

#: A worker that runs or ran: what `tagmill worker list` shows. See `tagmill.ledger.fleet.workers`.
worker_state = Table(
    "worker_state",
    metadata,
    #: HOST:PID as in `worker_fault`
    Column("worker", String(200), primary_key=True),
    #: NAME@HOST, as Flower shows it
    Column("name", String(200), nullable=False),
    Column("queue", String(100), nullable=False),
    #: TAGMILL_DEVICE, and what ONNX Runtime or OpenVINO run on it, once a bundle is loaded
    Column("device", String(40), nullable=False),
    Column("provider", String(200)),
    #: NAME@VERSION of the bundles that are loaded, as a JSON list
    Column("models", JSON, nullable=False),
    #: of Tagmill
    Column("version", String(40), nullable=False),
    #: tagmill.ledger.fleet.workers.WorkerState: starting, ready, draining, out, stopped
    Column("state", String(12), nullable=False),
    #: whether `tagmill worker drain` asked it to take no more batches and to end
    Column("drain", Boolean, nullable=False, server_default=false()),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("last_batch_at", Double),
    #: since it started
    Column("batches", Integer, nullable=False, server_default="0"),
    Column("images", BigInteger, nullable=False, server_default="0"),
    #: images per second of the last minute
    Column("rate", Double, nullable=False, server_default="0"),
    Index(None, "queue", "seen_at"),
)
