"""The index that finds similar images among many in milliseconds: HNSW in PostgreSQL with pgvector.

An HNSW index is a graph of neighbors (Malkov and Yashunin 2018, Efficient and robust approximate nearest neighbor
search using Hierarchical Navigable Small World graphs, arXiv 1603.09320). Each insert looks up the neighbors of the
new row, so an index is only made when a person asks for it. It is of one model: partial, and by the model's width.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from tagmill.errors import ConfigurationError, InputError
from tagmill.registry.models import Model
from tagmill.search.halfvec import store_as_halfvec
from tagmill.search.models import width_of
from tagmill.search.storage import Storage, abilities_of

#: seconds between two looks at how far a build is
LOOK_SECONDS = 1.0
#: neighbors of a node, and candidates while it is inserted: pgvector's defaults
M, EF_CONSTRUCTION = 16, 64

#: told how many rows of how many are in the index
Report = Callable[[int, int], None]

_STATE = text("""
    SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = pg_index.indexrelid
    WHERE pg_class.relname = :name AND pg_index.indrelid = 'embedding'::regclass
""")
_PROGRESS = text("""
    SELECT tuples_done FROM pg_stat_progress_create_index WHERE relid = 'embedding'::regclass
""")


@dataclass(frozen=True)
class Build:
    """How an index is built."""

    #: memory of the build, such as 2GB: the graph of a million embeddings of 256 numbers takes about 1 GB. None: as the
    #: server is set
    memory: str | None = None
    #: processes beside the first one; None: as the server is set
    workers: int | None = None


def index_name(model: Model) -> str:
    """Return the name of the index of a model's embeddings."""
    return f"ix_embedding_hnsw_{model.id:d}"


def has_index(connection: Connection, model: Model) -> bool:
    """Return whether there is a complete index of the model's embeddings."""
    if abilities_of(connection).storage is not Storage.HALFVEC:
        return False
    return connection.execute(_STATE, {"name": index_name(model)}).scalar_one_or_none() is True


def create_index(engine: Engine, model: Model, build: Build, report: Report) -> bool:
    """Build the index of a model's embeddings; return False if it is there. Workers go on writing meanwhile.

    Embeddings that are plain bytes become pgvector's `halfvec` first, for which workers wait. What an interrupted build
    left is removed. Raise ConfigurationError without pgvector.
    """
    if engine.dialect.name == "postgresql":
        store_as_halfvec(engine)
    with _outside_transaction(engine) as connection:
        _require_halfvec(connection)
        if has_index(connection, model):
            return False
        connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {index_name(model)}"))
        rows = text("SELECT count(*) FROM embedding WHERE model_id = :model")
        total = connection.execute(rows, {"model": model.id}).scalar_one()
        statement = text(f"""
            CREATE INDEX CONCURRENTLY {index_name(model)} ON embedding
            USING hnsw ((vector::halfvec({width_of(model):d})) halfvec_cosine_ops)
            WITH (m = {M}, ef_construction = {EF_CONSTRUCTION}) WHERE model_id = {model.id:d}
        """)
        with _settings(connection, build), _watched(engine, total, report):
            connection.execute(statement)
    return True


def drop_index(engine: Engine, model: Model) -> bool:
    """Remove the index of a model's embeddings; return whether there was one."""
    with _outside_transaction(engine) as connection:
        _require_halfvec(connection)
        found = connection.execute(_STATE, {"name": index_name(model)}).first() is not None
        connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {index_name(model)}"))
    return found


@contextmanager
def _outside_transaction(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name != "postgresql":
        raise ConfigurationError("SQLite has no such index: embeddings are compared one by one")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def _require_halfvec(connection: Connection) -> None:
    if abilities_of(connection).storage is not Storage.HALFVEC:
        raise ConfigurationError(
            "this database has no pgvector 0.7 or newer; install it on the server, and let its administrator run: "
            "CREATE EXTENSION vector"
        )


@contextmanager
def _settings(connection: Connection, build: Build) -> Iterator[None]:
    """Set what the build may use, in this session alone."""
    chosen = {"maintenance_work_mem": build.memory, "max_parallel_maintenance_workers": build.workers}
    given = {name: value for name, value in chosen.items() if value is not None}
    for name, value in given.items():
        try:
            connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": str(value)})
        except Exception as error:
            raise InputError(f"{name} {value}: PostgreSQL does not take it; write for example 2GB") from error
    try:
        yield
    finally:
        for name in given:
            connection.execute(text(f"RESET {name}"))


@contextmanager
def _watched(engine: Engine, total: int, report: Report) -> Iterator[None]:
    """Tell how far the build is, from another connection. pgvector does not say how many rows there are."""
    ended = threading.Event()

    def look() -> None:
        with _outside_transaction(engine) as connection:
            while not ended.wait(LOOK_SECONDS):
                if (done := connection.execute(_PROGRESS).scalar()) is not None:
                    report(min(done, total), total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
