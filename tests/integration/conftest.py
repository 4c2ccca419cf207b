"""Fixtures of the integration ring."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
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
