"""What the catalog shows for each key."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
)

from tagmill.db.tables.base import metadata, partial_index
from tagmill.db.types import BigId

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
    partial_index("image_key", where="place > 0"),
)


def _shown(view: str) -> Table:
    """Return a view over `catalog_entry`, with its columns: see `tagmill.db.views.shown`."""
    return Table(view, MetaData(), *(Column(found.name, found.type) for found in catalog_entry.columns))


#: `catalog_entry` with the version that is shown: what people's views and results read.
shown_entry = _shown("shown_entry")

#: The same for those who ask what changed since a time.
shown_change = _shown("shown_change")

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
