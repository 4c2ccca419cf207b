"""Turn embeddings that PostgreSQL stores as plain bytes into pgvector's `halfvec`, once the extension is there."""

from sqlalchemy import Connection, Engine, text

from tagmill.db.bulk import driver_cursor
from tagmill.db.migrations.rights import grant, rights_on
from tagmill.db.vectors.pgvector import create_pgvector
from tagmill.db.views.create import create_statements
from tagmill.search.storage import Storage, abilities_of, forget_abilities

#: the view that shows the column
_VIEW = "catalog_embeddings"
_ROWS = "image_id, model_id, vector"


def store_as_halfvec(engine: Engine) -> bool:
    """Convert the column in one transaction, for which workers that complete a batch wait; return whether it changed.

    It does not if the column is a `halfvec`, or if the database has none.
    """
    with engine.begin() as connection:
        if abilities_of(connection).storage is not Storage.BYTES or not create_pgvector(connection):
            return False
        connection.execute(text("LOCK TABLE embedding IN SHARE MODE"))
        connection.execute(text("CREATE TEMPORARY TABLE moved (LIKE embedding) ON COMMIT DROP"))
        connection.execute(text("ALTER TABLE moved ALTER COLUMN vector TYPE halfvec USING NULL::halfvec"))
        with engine.connect() as reader:
            _move(reader, connection)
        rights = rights_on(connection, [_VIEW])
        connection.execute(text(f"DROP VIEW {_VIEW}"))
        connection.execute(text("TRUNCATE embedding"))
        connection.execute(text("ALTER TABLE embedding ALTER COLUMN vector TYPE halfvec USING NULL::halfvec"))
        connection.execute(text(f"INSERT INTO embedding ({_ROWS}) SELECT {_ROWS} FROM moved"))
        for statement in create_statements("postgresql"):
            if statement.lstrip().startswith(f"CREATE VIEW {_VIEW}"):
                connection.exec_driver_sql(statement)
        grant(connection, rights)
    forget_abilities(engine)
    return True


def _move(reader: Connection, writer: Connection) -> None:
    """Copy all rows. Nothing is decoded: their bytes are those of a `halfvec` already."""
    out, into = (
        f"COPY embedding ({_ROWS}) TO STDOUT (FORMAT BINARY)",
        f"COPY moved ({_ROWS}) FROM STDIN (FORMAT BINARY)",
    )
    with (
        driver_cursor(reader, out) as source,
        driver_cursor(writer, into) as target,
        source.copy(out) as read,
        target.copy(into) as write,
    ):
        for block in read:
            write.write(block)
