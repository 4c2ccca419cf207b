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
    """An engine on a new database with the tables in it; a test that takes it runs once on each backend."""
    engine = connect(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def site(request: pytest.FixtureRequest, redis_server: RedisServer | ExternalRedis, tmp_path: Path) -> Site:
    """An installation on PostgreSQL, or on what a test asks for by parameter."""
    database_url = request.getfixturevalue(getattr(request, "param", "postgres_url"))
    return new_site(tmp_path, database_url, redis_server.url)
