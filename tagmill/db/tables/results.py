"""What models gave for images, and the names that results hold as numbers."""

from sqlalchemy import Column, Double, Index, Integer, LargeBinary, SmallInteger, String, Table

from tagmill.db.tables.base import metadata, partial_index
from tagmill.db.types import BigId, Rle, Vector

#: labels that a row of `result` holds, best first
LABELS = 5

#: least score with which a label that is not the best is in the index of its rank
INDEXED_SCORE = 0.2


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
        partial_index(f"label_{rank}", f"score_{rank}", where=f"score_{rank} >= {INDEXED_SCORE}")
        for rank in range(2, LABELS + 1)
    ),
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
