"""An empty database in a file, shared by the tests of a module."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path_factory.mktemp('database')}/tags.db")
    upgrade(engine)
    yield engine
    engine.dispose()
