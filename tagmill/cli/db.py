"""`tagmill db`: create and check the SQL tables."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import Engine, text

from tagmill.cli.param_types import DATABASE
from tagmill.cli.terminal.console import open_console, text_column
from tagmill.db.connection import connect
from tagmill.db.migrate import newest_version, open_database, upgrade
from tagmill.db.migrations.compact.prepare import Progress as Copied
from tagmill.db.migrations.compact.prepare import Report
from tagmill.db.roles import Kind, grant_role
from tagmill.db.upgrade_plan import plan_upgrade
from tagmill.errors import ExitCode
from tagmill.ledger import catalog
from tagmill.search.hnsw import Build, create_index, drop_index
from tagmill.search.models import embedding_model
from tagmill.settings import load_settings

#: seconds of copying after which an upgrade says how long it will take
ESTIMATE_SECONDS = 3.0
#: seconds between two lines of progress without a terminal
LINE_SECONDS = 60.0
#: free bytes of a SQLite file that are worth a hint
FREE_BYTES = 10_000_000


@click.group()
def db() -> None:
    """Create or check the SQL tables."""


@db.command("upgrade")
@DATABASE
@click.option("--worker", "workers", multiple=True, metavar="ROLE", help="A role that workers log in with.")
@click.option("--producer", "producers", multiple=True, metavar="ROLE", help="A role that runs are submitted with.")
@click.option("--reader", "readers", multiple=True, metavar="ROLE", help="A role that reads the views.")
@click.option("--check", "only_check", is_flag=True, help="Say what it would do and wait for; 78 if it is needed.")
def upgrade_tables(
    database_url: str | None,
    workers: tuple[str, ...],
    producers: tuple[str, ...],
    readers: tuple[str, ...],
    only_check: bool,
) -> int:
    """Create the tables, or upgrade them to this version.

    An upgrade may run beside workers of the version before. If it is interrupted, repeat the command: it continues.

    Roles of PostgreSQL that you name get the rights that they need, and no others. Name them at each upgrade.
    """
    engine = connect(load_settings(database_url=database_url).database_url)
    if only_check:
        return _show_plan(engine)
    with _display(open_console(stderr=True, highlight=False)) as report:
        upgrade(engine, report)
    roles = {Kind.WORKER: workers, Kind.PRODUCER: producers, Kind.READER: readers}
    if any(roles.values()):
        with engine.begin() as connection:
            for kind, named in roles.items():
                for role in named:
                    grant_role(connection, kind, role)
    _say_free_bytes(engine)
    click.echo(f"database {engine.url.render_as_string(hide_password=True)} is at schema {newest_version()}")
    return ExitCode.DONE


@db.command("check")
@DATABASE
def check_tables(database_url: str | None) -> None:
    """End with exit code 78 if the tables do not fit this version."""
    engine = open_database(load_settings(database_url=database_url).database_url)
    click.echo(f"database {engine.url.render_as_string(hide_password=True)} is at schema {newest_version()}")


@db.command("rebuild")
@DATABASE
def rebuild_catalog(database_url: str | None) -> None:
    """Make again what the views of the catalog show, from the runs.

    It changes nothing if nothing is wrong. Workers that finish a batch wait until it is done.
    """
    engine = open_database(load_settings(database_url=database_url).database_url)
    click.echo(f"the catalog has {catalog.rebuild(engine):,} rows")


@db.command("index-embeddings")
@click.argument("model", metavar="NAME[@VERSION]")
@click.option("--drop", is_flag=True, help="Remove the index.")
@click.option("--memory", metavar="SIZE", help="Memory of the build, such as 2GB; about 1 GB per million images.")
@click.option("--workers", type=click.IntRange(0, 64), help="Processes of PostgreSQL beside the first one.")
@DATABASE
def index_embeddings(model: str, drop: bool, memory: str | None, workers: int | None, database_url: str | None) -> None:
    """Make the index that finds similar images among very many in milliseconds. PostgreSQL with pgvector alone.

    Workers go on meanwhile. Afterwards each new embedding takes longer to store: make it once most images are
    tagged.
    """
    engine = open_database(load_settings(database_url=database_url).database_url)
    found = embedding_model(engine, model)
    if drop:
        removed = drop_index(engine, found)
        click.echo(f"{found.title}: {'its index is removed' if removed else 'has no index'}")
        return
    with _index_bar(open_console(stderr=True, highlight=False)) as report:
        built = create_index(engine, found, Build(memory, workers), report)
    click.echo(f"{found.title}: {'its embeddings have an index now' if built else 'its index is there already'}")


def _show_plan(engine: Engine) -> ExitCode:
    """Print what an upgrade would do; return 78 if there is one to do."""
    plan = plan_upgrade(engine)
    shown = f"database {engine.url.render_as_string(hide_password=True)}"
    if not plan.steps:
        click.echo(f"{shown} is at schema {plan.needed}: nothing to do")
        return ExitCode.DONE
    if plan.found is None:
        click.echo(f"{shown} has no tables; `tagmill db upgrade` creates them, in a moment")
        return ExitCode.CONFIGURATION
    click.echo(f"{shown} is at schema {plan.found}, {plan.needed} is needed. `tagmill db upgrade` would run:")
    for step in plan.steps:
        click.echo(f"  {step.revision}  {step.what}")
    click.echo(f"There are {plan.batches:,} batches; to read them once takes about a second for a million.")
    if plan.hindrance:
        click.echo(f"It cannot run: {plan.hindrance}.")
    for transaction in plan.waits_for:
        click.echo(f"It would wait for a transaction: {transaction}.")
    if not plan.waits_for:
        click.echo("No long transaction is in its way.")
    return ExitCode.CONFIGURATION


@contextmanager
def _index_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    columns = (text_column("building the index"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _display(console: Console) -> Iterator[Report]:
    """Show how far an upgrade is: a bar on a terminal, else a line each minute, unless it takes only a moment."""
    columns = (text_column("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("upgrading", total=None)
        first: tuple[float, float] | None = None
        next_line = ESTIMATE_SECONDS

        def report(progress: Copied) -> None:
            nonlocal first, next_line
            now = time.monotonic()
            first = first or (now, progress.done)
            bar.update(task, description=progress.stage, completed=progress.done, total=progress.total)
            seconds, done = now - first[0], progress.done - first[1]
            if seconds < next_line or done <= 0:
                return
            left = (progress.total - progress.done) * seconds / done
            if next_line == ESTIMATE_SECONDS:
                console.print(f"The upgrade takes about {_duration(seconds + left)}. Workers may go on meanwhile.")
            elif not console.is_terminal:
                share = progress.done / progress.total
                console.print(f"{progress.stage}: {share:.0%} of the upgrade, about {_duration(left)} to go")
            next_line = seconds + LINE_SECONDS

        yield report


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _say_free_bytes(engine: Engine) -> None:
    """Say how to shrink a SQLite file that keeps the room of dropped tables. PostgreSQL's files are gone with them."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect().execution_options(tagmill_read=True) as connection:
        pages = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
        free = int(connection.execute(text(pages)).scalar_one())
    if free > FREE_BYTES:
        click.echo(
            f"{free / 1e6:,.0f} MB of the file are free for new rows. To shrink it, stop everything that uses it and "
            f"run: sqlite3 {engine.url.database} VACUUM",
            err=True,
        )
