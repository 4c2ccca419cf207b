"""The database: whether it answers, fits this version, keeps the time, and has room for connections."""

import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import InterfaceError, OperationalError

from tagmill.db.connection import connect, database_time, reading
from tagmill.db.migrate import newest_version, schema_version
from tagmill.db.roles import Kind, missing_rights, owns_tables
from tagmill.errors import ConfigurationError, first_line
from tagmill.ledger.fleet.workers import list_workers
from worker.doctor.finding import Finding, Subject, error, ok, warning
from worker.doctor.machine.mounts import NETWORK, file_system
from worker.health.checks import clock_fault

#: seconds between two clocks that are worth a look
_CLOCK_SECONDS = 5.0
#: connections that one worker takes beside those of its batches, and the share of all that may be in use
_FURTHER, _BUSY_SHARE = 5, 0.8
_USE = text("""
    SELECT current_setting('max_connections')::int,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
""")


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the database."""
    engine = connect(subject.settings.database_url)
    shown = engine.url.render_as_string(hide_password=True)
    if engine.dialect.name == "sqlite":
        yield from _file(Path(str(engine.url.database)).absolute())
    try:
        subject.require_file()
        found = schema_version(engine)
    except ConfigurationError as failure:
        yield error(first_line(failure), "correct TAGMILL_DATABASE_URL, or create it: tagmill db upgrade")
        return
    except (OperationalError, InterfaceError) as failure:
        yield error(f"{shown} does not answer: {first_line(failure)}", "start it, or correct TAGMILL_DATABASE_URL")
        return
    yield ok(f"{shown} answers")
    if found != newest_version():
        yield _other_schema(found)
        return
    yield ok(f"schema {found}, which Tagmill {version('tagmill')} needs")
    yield _clock(engine)
    if engine.dialect.name == "postgresql":
        with reading(engine) as connection:
            yield ok(f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}")
            yield _role(connection)
            used = [int(value) for value in connection.execute(_USE).one()]
        yield _connections(engine, *used, concurrency=subject.settings.concurrency)


def _file(path: Path) -> Iterator[Finding]:
    kind = file_system(path)
    if kind in NETWORK:
        advice = "move the file to a local disk, or use PostgreSQL: several machines would damage it"
        yield error(f"{path} is on a network file system ({kind})", advice)


def _other_schema(found: str | None) -> Finding:
    if found is not None and found > newest_version():
        return error(f"schema {found}; this Tagmill knows {newest_version()}", "install the newer Tagmill")
    state = "there are no tables" if found is None else f"schema {found}, {newest_version()} is needed"
    return error(state, "run: tagmill db upgrade (first: tagmill db upgrade --check)")


def _clock(engine: Engine) -> Finding:
    before = time.time()
    now = database_time(engine)
    after = time.time()
    if fault := clock_fault(before, now, after):
        return error(f"the clocks differ: {fault.detail}", "set both clocks by NTP")
    apart = max(before - now, now - after, 0.0)
    if apart > _CLOCK_SECONDS:
        return warning(f"this machine's clock is {apart:.0f} s away from the database's", "set both by NTP")
    return ok(f"clocks differ by {apart:.1f} s")


def _role(connection: Connection) -> Finding:
    role = connection.execute(text("SELECT current_user")).scalar_one()
    if owns_tables(connection):
        return ok(f"the role {role} owns the tables")
    lacking = {kind: missing_rights(connection, kind) for kind in (Kind.WORKER, Kind.PRODUCER)}
    enough = [kind.value for kind, missing in lacking.items() if not missing]
    if enough:
        return ok(f"the role {role} has the rights of a {' and a '.join(enough)}")
    kind, missing = min(lacking.items(), key=lambda found: len(found[1]))
    some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    advice = f"let the tables' owner run: tagmill db upgrade --{kind} {role}"
    return error(f"the role {role} lacks rights of a {kind}: {some}", advice)


def _connections(engine: Engine, most: int, used: int, *, concurrency: int) -> Finding:
    workers = sum(worker.alive for worker in list_workers(engine))
    wanted = workers * (concurrency + _FURTHER)
    what = f"{used} of {most} connections are in use; {workers} workers take up to {wanted}"
    if max(used, wanted) > _BUSY_SHARE * most:
        return warning(what, "raise max_connections, or put PgBouncer in front (docs/operations/postgresql.md)")
    return ok(what)
