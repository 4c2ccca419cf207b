"""Models and label sets, and which versions are tried or shown."""

from sqlalchemy import JSON, Column, Double, ForeignKey, Integer, LargeBinary, String, Table, UniqueConstraint

from tagmill.db.tables.base import metadata
from tagmill.db.types import Sha256

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
