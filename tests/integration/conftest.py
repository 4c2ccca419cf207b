"""Fixtures of the integration ring."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tagmill.database import connect, upgrade


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a new database with the tables in it; a test that takes it runs once on each backend."""
    engine = connect(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()
