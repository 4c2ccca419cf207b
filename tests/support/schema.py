"""Databases with the current schema to copy new ones from: an upgrade of each takes longer than many a test."""

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from support.services import create_database
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade


@cache
def postgres_template(server_url: str) -> str:
    """Return the name of an upgraded database on this server, which nobody else uses. It is made once per process."""
    url = create_database(server_url)
    _upgrade(url)
    return str(make_url(url).database)


@cache
def sqlite_file() -> bytes:
    """Return the bytes of an upgraded SQLite database."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "template.db"
        _upgrade(URL.create("sqlite", database=str(file)).render_as_string())
        return file.read_bytes()


def _upgrade(url: str) -> None:
    engine = connect(url)
    upgrade(engine)
    engine.dispose()  # SQLite then moves its WAL into the file
