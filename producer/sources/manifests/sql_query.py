"""Read the rows of a query in another database: `sql:SELECT ...`. Nothing of its URL is shown or stored."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from producer.sources.base import Problem, Row
from producer.sources.manifests.columns import choose_columns
from producer.sources.manifests.manifest import Manifest, ManifestError
from producer.sources.manifests.rows import RowMaker
from tagmill.db.connection import LIBPQ_DEFAULTS
from tagmill.db.outages.outage import is_outage
from tagmill.db.outages.refusal import refusal
from tagmill.errors import ConfigurationError, ServiceDown, first_line
from tagmill.extra import clean, make_extra
from tagmill.text import normalize

#: how a source begins that is a query
PREFIX = "sql:"
#: rows that are fetched at once
_ROWS = 1000
#: what SQLAlchemy would take for a parameter in a query
_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w)")


def is_query(source: str) -> bool:
    """Return whether a source is a query."""
    return source.startswith(PREFIX)


def read_query(manifest: Manifest) -> Iterator[Row | Problem]:
    """Yield the rows of the query in `location`, in its order. Their numbers, from 1, are what problems name.

    The database keeps the result (a cursor of the server), in a transaction that cannot write.
    """
    url = manifest.options.source_url
    if not url:
        raise ManifestError("a query needs the URL of its database: --source-url or TAGMILL_SOURCE_URL")
    with _open(make_url(url)) as connection:
        try:
            result = connection.execute(text(_PARAMETER.sub(r"\\:", manifest.location.removeprefix(PREFIX))))
            if not result.returns_rows:
                raise ManifestError("the query returns no rows")
            yield from _read_rows(list(result.keys()), result, manifest)
        except SQLAlchemyError as error:
            if is_outage(error) and not _wants_to_write(error):
                raise ServiceDown(f"the database of the query went away: {first_line(error)}") from error
            raise ManifestError(f"the query failed: {first_line(error)}") from error


@contextmanager
def _open(url: URL) -> Iterator[Connection]:
    """Connect for reading. Raise ConfigurationError or ServiceDown, without the URL, if that fails."""
    options = {"stream_results": True, "yield_per": _ROWS}
    try:
        if url.get_backend_name() == "sqlite":
            path = _existing(url).absolute().as_uri()
            connect = partial(sqlite3.connect, f"{path}?mode=ro", uri=True)
            engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
        else:
            settings = {name: value for name, value in LIBPQ_DEFAULTS.items() if name not in url.query}
            url = url.set(drivername="postgresql+psycopg")
            engine = create_engine(url, poolclass=NullPool, connect_args=settings | {"prepare_threshold": None})
            options |= {"postgresql_readonly": True}
        connection = engine.connect()
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"PostgreSQL needs {error.name}; run: pip install 'tagmill[postgres]'") from error
    except (DBAPIError, TypeError, ValueError) as error:
        # Not chained: a driver may name what it was given.
        reason = refusal(error.orig) if isinstance(error, OperationalError) and error.orig else None
        if reason:
            raise ConfigurationError(reason.replace("TAGMILL_DATABASE_URL", "--source-url")) from None
        raise ServiceDown(f"the database of the query cannot be opened: {first_line(error)}") from None
    with connection.execution_options(**options):
        yield connection


def _existing(url: URL) -> Path:
    path = Path(url.database or "")
    if not path.is_file():  # opening it would make it
        raise ConfigurationError(f"--source-url: there is no SQLite database {path}")
    return path


def _wants_to_write(error: SQLAlchemyError) -> bool:
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_READONLY or getattr(cause, "sqlstate", "") == "25006"


def _read_rows(names: Sequence[str], rows: Any, manifest: Manifest) -> Iterator[Row | Problem]:
    columns = choose_columns([normalize(name) for name in names], manifest)
    maker = RowMaker(manifest)
    for number, row in enumerate(rows, 1):
        try:
            key = None if columns.key is None else _as_text(row[columns.key])
            uris = [_as_locations(row[at]) for at in columns.uris]
        except ManifestError as error:
            yield manifest.problem(number, str(error))
            continue
        extra = make_extra({name: row[at] for at, name in columns.extra})
        yield from maker.make_all(number, key, uris, extra)


def _as_text(value: Any) -> str:
    """Return a key as text. Numbers with a fraction are none, but whole ones and UUIDs are."""
    value = clean(value)
    if value is None:
        return ""
    if isinstance(value, bool | float | list | dict):
        raise ManifestError("image_key is neither text nor a whole number")
    return str(value)


def _as_locations(value: Any) -> str | list[str | None] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(item is None or isinstance(item, str) for item in value):
        return value
    raise ManifestError("uri is neither text nor a list of texts")
