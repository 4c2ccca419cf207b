"""What the modules of the tables share: the metadata, and indexes of some rows."""

from typing import Any

from sqlalchemy import Index, MetaData, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def partial_index(*columns: Any, where: str, name: str | None = None) -> Index:
    """Return an index of the rows that fulfill a condition."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))
