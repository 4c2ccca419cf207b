"""Write many rows with one statement: errors are raised as SQLAlchemy raises them."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from support.ledger import SHA, count
from support.services import libpq_url

from tagmill.db.bulk import insert_new, insert_rows
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.outages.outage import is_outage
from tagmill.db.schema import entry, image_content


def test_a_connection_that_breaks_inside_a_copy_is_an_outage(postgres_url: str) -> None:
    engine = connect(postgres_url)
    upgrade(engine)

    class Rows(list[tuple[object, ...]]):
        def __iter__(self) -> Iterator[tuple[object, ...]]:
            yield (1, 0, "key", "/0.jpg")
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %'"
            with psycopg.connect(libpq_url(postgres_url)) as other:
                assert other.execute(end).fetchall() == [(True,)]
            yield from ((1, number, f"key-{number}", "/1.jpg") for number in range(1, 100_000))

    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        insert_rows(connection, entry, ("run_id", "position", "image_key", "uri"), Rows([()]))
    assert is_outage(caught.value)
    assert count(engine, entry) == 0
    engine.dispose()


def test_an_existing_key_and_a_too_long_value_are_refused_and_are_not_outages(engine: Engine) -> None:
    facts = ("sha256", "width", "height", "format", "bytes")
    with pytest.raises(IntegrityError) as known, engine.begin() as connection:
        insert_rows(connection, image_content, facts, [(SHA[0], 1, 1, "PNG", 1)] * 2)
    assert not is_outage(known.value)
    if engine.dialect.name == "postgresql":
        for write in (insert_rows, insert_new):
            with pytest.raises(DataError, match="too long") as long, engine.begin() as connection:
                write(connection, entry, ("run_id", "position", "image_key", "uri"), [(1, 1, "x" * 513, "/1.jpg")])
            assert not is_outage(long.value)
    assert (count(engine, image_content), count(engine, entry)) == (0, 0)
