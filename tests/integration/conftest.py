"""Fixtures of the integration ring."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from support.installation import Site, new_site
from support.services import ExternalRedis, RedisServer

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a new database with the current schema; a test with this fixture runs once per backend."""
    engine = connect(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def site(request: pytest.FixtureRequest, redis_server: RedisServer | ExternalRedis, tmp_path: Path) -> Site:
    """An installation on PostgreSQL, or on the database that a test's parameter names."""
    database_url = request.getfixturevalue(getattr(request, "param", "postgres_url"))
    return new_site(tmp_path, database_url, redis_server.url)


@pytest.fixture(params=["sqlite", "halfvec", "bytea"])
def stored(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on a new database with each kind of column that embeddings are stored in."""
    kinds = {"sqlite": "sqlite_url", "halfvec": "pgvector_url", "bytea": "postgres_url"}
    engine = connect(request.getfixturevalue(kinds[request.param]))
    upgrade(engine)
    if request.param == "bytea":  # as in a database without pgvector, which this one may have
        with engine.begin() as connection:
            connection.execute(text("DROP VIEW catalog_embeddings"))
            connection.execute(text("ALTER TABLE embedding ALTER COLUMN vector TYPE bytea USING NULL::bytea"))
    yield engine
    engine.dispose()
