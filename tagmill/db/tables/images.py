"""Distinct images, and the files and URLs whose images are known."""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table, Text

from tagmill.db.tables.base import metadata
from tagmill.db.types import BigId, Hash128, Sha256, hash_head

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

#: When images were deleted, and the largest id of an image then. See `tagmill.ledger.pruning.fence`.
image_pruning = Table(
    "image_pruning",
    metadata,
    Column("at", Double, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
)

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
