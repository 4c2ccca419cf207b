"""The entries of runs: which images they name, which repeat others, and why they failed."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from tagmill.db.tables.base import metadata
from tagmill.db.types import BigId

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
