"""The database of the settings, for one call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine

from tagmill.db.migrate import open_database
from tagmill.errors import InputError
from tagmill.settings import load_settings


@contextmanager
def database() -> Iterator[Engine]:
    """Open the database that TAGMILL_DATABASE_URL names, and close its connections at the end."""
    engine = open_database(load_settings().database_url)
    try:
        yield engine
    finally:
        engine.dispose()


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Return the value of an argument. Raise InputError if it is none of those that are known."""
    if value not in known:
        raise InputError(f"{name} {value!r}: choose one of {', '.join(known)}")
    return value
