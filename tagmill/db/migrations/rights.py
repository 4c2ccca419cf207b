"""Rights that people have on views and tables which an upgrade creates again (PostgreSQL)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text

_GRANTED = text("""
SELECT found.relation, found.privilege, found.grantable, found.column_name,
    CASE found.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(found.grantee)) END AS grantee
FROM (
    SELECT pg_class.relname AS relation, pg_class.relowner AS owner, granted.grantee,
        granted.privilege_type AS privilege, granted.is_grantable AS grantable, NULL::text AS column_name
    FROM pg_class CROSS JOIN LATERAL aclexplode(pg_class.relacl) AS granted
    WHERE pg_class.oid = ANY (CAST(:relations AS regclass[]))
    UNION ALL
    SELECT pg_class.relname, pg_class.relowner, granted.grantee, granted.privilege_type, granted.is_grantable,
        pg_attribute.attname::text
    FROM pg_class
    JOIN pg_attribute ON pg_attribute.attrelid = pg_class.oid
    CROSS JOIN LATERAL aclexplode(pg_attribute.attacl) AS granted
    WHERE pg_class.oid = ANY (CAST(:relations AS regclass[]))
) AS found
WHERE found.grantee <> found.owner ORDER BY 1, 2, 4, 5
""")
_COLUMNS = text("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:relation) AND attnum > 0")
_DEPENDENT = text("""
SELECT DISTINCT dependent.oid::regclass::text AS name
FROM pg_depend
JOIN pg_rewrite ON pg_depend.classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = pg_depend.objid
JOIN pg_class AS dependent ON dependent.oid = pg_rewrite.ev_class
WHERE pg_depend.refclassid = 'pg_class'::regclass AND pg_depend.refobjid = ANY (CAST(:relations AS regclass[]))
    AND dependent.oid <> ALL (CAST(:relations AS regclass[]))
ORDER BY 1
""")
_SQLITE_DEPENDENT = text("SELECT name, sql FROM sqlite_master WHERE type IN ('view', 'trigger') ORDER BY name")
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class Right:
    """A right of somebody who is not the owner."""

    relation: str
    privilege: str
    grantable: bool
    #: None for all columns
    column: str | None
    #: quoted as in SQL
    grantee: str


def rights_on(connection: Connection, names: Iterable[str]) -> list[Right]:
    """Return the rights on those of these views and tables that exist."""
    if connection.dialect.name != "postgresql":
        return []
    rows = connection.execute(_GRANTED, {"relations": _existing(connection, names)})
    return [Right(row.relation, row.privilege, row.grantable, row.column_name, row.grantee) for row in rows]


def grant(connection: Connection, rights: Iterable[Right]) -> None:
    """Grant rights again, as far as their views, tables and columns exist."""
    quote = connection.dialect.identifier_preparer.quote
    for right in rights:
        columns = connection.execute(_COLUMNS, {"relation": right.relation}).scalars().all()
        if columns and (right.column is None or right.column in columns):
            of_column = f" ({quote(right.column)})" if right.column is not None else ""
            option = " WITH GRANT OPTION" if right.grantable else ""
            connection.execute(
                text(f"GRANT {right.privilege}{of_column} ON {quote(right.relation)} TO {right.grantee}{option}")
            )


def dependents(connection: Connection, names: Iterable[str]) -> list[str]:
    """Return the views, and in SQLite triggers, of others that use one of these views or tables."""
    if connection.dialect.name == "postgresql":
        return list(connection.execute(_DEPENDENT, {"relations": _existing(connection, names)}).scalars())
    ours = set(names)
    found = connection.execute(_SQLITE_DEPENDENT).all()
    # The triggers of a migration that was interrupted are no one else's.
    others = [row for row in found if row.name not in ours and not row.name.startswith("upgrade_")]
    return [row.name for row in others if ours & set(_WORDS.findall(row.sql))]


def _existing(connection: Connection, names: Iterable[str]) -> list[str]:
    return [name for name in names if connection.dialect.has_table(connection, name)]
