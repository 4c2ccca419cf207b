"""What keeps a completion and the deletion of images apart.

A worker looks up which results are known, and writes what became of its batch seconds or minutes later. An image that
was deleted meanwhile must not be referred to. So:

- A completion and a deletion exclude each other (`completing`, `deleting`), so that a deletion sees every reference.
- Each deletion leaves a row in `image_pruning` with the largest id of an image at that moment. A completion that relies
  on a result it did not make looks for rows since its claim. Of an image that is younger than the first of them, which
  may have been stored again, it looks the result up. If that or the image is gone, nothing is written, and the batch is
  tagged again.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Double, Engine, bindparam, delete, func, insert, select, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from tagmill.db.any_of import any_of
from tagmill.db.connection import epoch_now, look_up_by_index
from tagmill.db.schema import image_content, image_pruning, result
from tagmill.errors import TagmillError
from tagmill.ledger.pictures.measures import measured_ids
from tagmill.measuring import Measuring

#: key of PostgreSQL's advisory lock: the letters "pruning"
_LOCK = int.from_bytes(b"pruning", "big")
#: milliseconds that a deletion waits for completions at a time; meanwhile, new ones wait behind it
_WAIT_MS = 300
#: seconds by which a deletion is dated later: a claim may come before it is committed
_COMMIT_SECONDS = 5.0
#: seconds after which no batch is in work any more that was claimed before a deletion
_KEPT_SECONDS = 86_400.0

_RESULTS = select(result.c.image_id, result.c.model_id).where(any_of(result.c.image_id, "images"))
#: the largest id of an image at the first deletion since the parameter `started`; NULL if there was none
FIRST_DELETION = (
    select(func.min(image_pruning.c.last_id))
    .where(image_pruning.c.at > bindparam("started", type_=Double()))
    .scalar_subquery()
)


class ResultsPrunedError(TagmillError):
    """A batch relied on results that were pruned since its claim: it must be tagged again."""

    def __init__(self) -> None:
        super().__init__("results that the batch relied on were pruned meanwhile; it is tagged again")


class Relied(NamedTuple):
    """What a batch needs of an image that it did not make itself."""

    #: ids of the models whose results it needs
    models: tuple[int, ...]
    #: whether it needs what was measured
    measures: bool


NOTHING = Relied((), measures=False)


def require_results(
    connection: Connection,
    relied: Mapping[str, Relied],
    ids: Mapping[str, int],
    suspects: Collection[str],
    measuring: Measuring | None,
) -> None:
    """Raise ResultsPrunedError if something was deleted that a batch relies on.

    `ids` are those of the images, and `suspects` those that may have been stored again since the batch was claimed.
    """
    if not relied.keys() <= ids.keys():
        raise ResultsPrunedError
    needed = {ids[sha256]: relied[sha256] for sha256 in suspects if sha256 in relied}
    found = connection.execute(_RESULTS, {"images": list(needed)}).all()
    wanted = {(image, model) for image, what in needed.items() for model in what.models}
    unmeasured = {image for image, what in needed.items() if what.measures}
    if not wanted <= {(row.image_id, row.model_id) for row in found}:
        raise ResultsPrunedError
    if measuring and measured_ids(connection, unmeasured, measuring) != unmeasured:
        raise ResultsPrunedError


class completing(FunctionElement[bool]):  # noqa: N801 - reads like an SQL condition
    """A condition that is true once no deletion of images is under way. No other begins before the transaction ends.

    It is for a WHERE, so that what the statement sets, such as the time, is set behind it.
    """

    inherit_cache = True


@compiles(completing, "postgresql")
def _completing_postgresql(element: completing, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(SELECT pg_advisory_xact_lock_shared({_LOCK})) IS NOT NULL"


@compiles(completing, "sqlite")
def _completing_sqlite(element: completing, compiler: SQLCompiler, **kw: Any) -> str:
    return "1 = 1"  # there is one writer at a time


@contextmanager
def deleting(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction in which no batch is completed. Raise OperationalError if completions take too long."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = {_WAIT_MS}"))
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        look_up_by_index(connection)
        yield connection


def leave_mark(connection: Connection) -> None:
    """Record that images were deleted in this transaction."""
    last = select(func.coalesce(func.max(image_content.c.id), 0)).scalar_subquery()
    connection.execute(insert(image_pruning).values(at=epoch_now() + _COMMIT_SECONDS, last_id=last))


def forget_marks(engine: Engine) -> None:
    """Delete the marks that no batch in work needs."""
    with engine.begin() as connection:
        connection.execute(delete(image_pruning).where(image_pruning.c.at < epoch_now() - _KEPT_SECONDS))
