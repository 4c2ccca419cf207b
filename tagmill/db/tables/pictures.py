"""What was measured on pictures, the rules that they are checked with, and groups of duplicates."""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, SmallInteger, String, Table, Text

from tagmill.db.tables.base import metadata
from tagmill.db.types import BigId

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
