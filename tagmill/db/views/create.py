"""All views: their names, and the statements that create them."""

from collections.abc import Iterator

from tagmill.db.views import audit, catalog, duplicates, entries, pictures, runs, shown

#: every view, in the order in which they can be dropped
VIEWS = (
    *pictures.PICTURE_VIEWS,
    *duplicates.DUPLICATE_VIEWS,
    *catalog.CATALOG_VIEWS,
    *shown.SHOWN_VIEWS,
    *audit.AUDIT_VIEWS,
    *runs.RUN_VIEWS,
    *entries.ENTRY_VIEWS,
)


def create_statements(dialect: str) -> Iterator[str]:
    """Yield the statements that create the views, for PostgreSQL or SQLite."""
    # SQLite's hex(NULL) is an empty text.
    in_sqlite = "CASE WHEN image_content.sha256 IS NOT NULL THEN lower(hex(image_content.sha256)) END"
    sha256 = "encode(image_content.sha256, 'hex')" if dialect == "postgresql" else in_sqlite
    yield from entries.create_statements(dialect, sha256)
    yield from runs.create_statements(dialect)
    yield from audit.create_statements()
    yield from shown.create_statements()
    yield from catalog.create_statements(dialect, sha256)
    yield from duplicates.create_statements(sha256)
    yield from pictures.create_statements(dialect, sha256)
