"""Create, cancel and retry runs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, delete, func, insert, select, update

from tagmill.db.audit import Action, record
from tagmill.db.bulk import insert_rows
from tagmill.db.connection import epoch_now, insert_ignore, reading
from tagmill.db.schema import (
    BatchStatus,
    RunState,
    batch,
    batch_failure,
    entry,
    image_failure,
    run,
    run_fault,
    run_model,
)
from tagmill.errors import InputError, NothingToDo
from tagmill.fetch_options import FETCH_ALL, FetchOptions
from tagmill.ledger.batches.conditions import QUEUED_IN_RUN, has_status
from tagmill.ledger.batches.positions import positions_of
from tagmill.ledger.repeats.batches import chunks, insert_again, insert_whole_run
from tagmill.ledger.runs.publishing import PUBLISH_SECONDS
from tagmill.ledger.runs.submissions import SubmittedBefore
from tagmill.measuring import Measuring
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority
from tagmill.records import Entry

if TYPE_CHECKING:  # it reads bundles with NumPy, which takes longer to import than a status takes
    from tagmill.registry.models import Model

#: prefix of the queues of `tagmill tag`, which no worker serves: see worker/local/tag.py
LOCAL_QUEUE_PREFIX = "embedded-"
#: entries inserted by one statement
ENTRY_CHUNK = 2**13
#: cancelled batches that a retry takes at a time
CANCELLED_CHUNK = 64
#: failures that a retry takes at a time
TAKE_CHUNK = 8192

_ENTRY = ("run_id", "position", "image_key", "uri", "extra")

#: called with the number of images written so far
Progress = Callable[[int], None]


def create_run(
    engine: Engine,
    source: str,
    entries: Iterable[Entry],
    models: "Sequence[Model]",
    roots: Sequence[Path | str],
    batch_size: int,
    queue: str,
    progress: Progress = lambda images: None,
    priority: Priority = Priority.NORMAL,
    fetching: FetchOptions = FETCH_ALL,
    measuring: Measuring | None = None,
    submission: str | None = None,
    traceparent: str | None = None,
    following: "Sequence[Model]" = (),
) -> int:
    """Insert a run with its batches and images in one transaction; return its id.

    Of the models in `following`, shadows and canaries run beside the version of the run.
    Raise SubmittedBefore if another transaction wrote a run of this `submission`; nothing is written then.
    Entries that repeat the uri of an earlier one are in batches of their own, behind the others: a worker gives them
    the outcome of the first. If `entries` raises, nothing is written. Raise NothingToDo if there are no entries. Memory
    does not depend on their number. `traceparent` is that of the trace of its submission.
    """
    from tagmill.ledger.repeats.find import RepeatedEntries  # loads NumPy, see above

    with engine.begin() as connection, closing(RepeatedEntries()) as repeats:
        parameters = _parameters(batch_size, roots) | fetching.to_json() | (measuring.to_json() if measuring else {})
        if traceparent:
            parameters["traceparent"] = traceparent
        if following:
            parameters["following"] = [model.id for model in following]
        run_id = _insert_run(connection, source, models, parameters, queue, priority, submission)
        images = 0
        for chunk in chunks(entries, ENTRY_CHUNK):
            rows = [(run_id, at, *found) for at, found in enumerate(chunk, images)]
            insert_rows(connection, entry, _ENTRY, rows)
            repeats.add([found.uri for found in chunk])
            images += len(chunk)
            progress(images)
        if images == 0:
            raise NothingToDo(f"{source}: no images in it")
        changes: dict[str, Any] = {}
        if insert_whole_run(connection, run_id, queue, priority, repeats, batch_size):
            changes["parameters"] = parameters | {"repeats": True}
        # Other processes see the run from the commit on: reapers leave its publishing to the caller for a while.
        changes["publish_until"] = epoch_now() + PUBLISH_SECONDS
        connection.execute(update(run).where(run.c.id == run_id).values(**changes))
        record(connection, Action.SUBMIT, run_id=run_id, details={"images": images})
    return run_id


def set_fetching(engine: Engine, run_id: int, fetching: FetchOptions) -> None:
    """Have the images of a run fetched with these options from now on, by processes that have none of its batches."""
    with engine.begin() as connection:
        parameters = FetchOptions.without(_require(connection, run_id)) | fetching.to_json()
        connection.execute(update(run).where(run.c.id == run_id).values(parameters=parameters))


def cancel_run(engine: Engine, run_id: int, reason: str | None = None) -> int:
    """Cancel every queued batch of a run; return their number. Running batches are finished; results stay."""
    with engine.begin() as connection:
        _require(connection, run_id)
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.CANCELLED))
        waiting = and_(batch.c.run_id == run_id, QUEUED_IN_RUN)
        batches = connection.execute(update(batch).where(waiting).values(status=BatchStatus.CANCELLED)).rowcount
        record(connection, Action.CANCEL, run_id=run_id, reason=reason, details={"batches": batches})
    return batches


def cancelled_messages(engine: Engine, run_id: int) -> tuple[str, int]:
    """Return the queue of a run, and how many of its cancelled batches were published."""
    cancelled = and_(batch.c.run_id == run_id, has_status(BatchStatus.CANCELLED), batch.c.published_at.is_not(None))
    with reading(engine) as connection:
        published = int(connection.execute(select(func.count()).select_from(batch).where(cancelled)).scalar_one())
        return str(connection.execute(select(run.c.queue).where(run.c.id == run_id)).scalar_one()), published


def requeue_images(
    engine: Engine,
    run_id: int,
    codes: Sequence[ErrorCode],
    queue: str,
    *,
    failed_only: bool = False,
    reason: str | None = None,
) -> int:
    """Move failed images, and images that a cancelled run left untagged, to new batches; return their number.

    With `codes`, move only images that failed with one of them; with `failed_only`, only failed images. The run is open
    afterwards, on `queue`; one that is paused stays so. Raise NothingToDo if there is no such image.
    """
    failed = image_failure.c.run_id == run_id
    if codes:
        failed = and_(failed, image_failure.c.error_code.in_(codes))
    with engine.begin() as connection:
        parameters = _require(connection, run_id)
        taken = _take_failed(connection, run_id, failed)
        if not (failed_only or codes):
            taken = chain(taken, _take_cancelled(connection, run_id))
        images = _insert_rebatched(connection, run_id, queue, taken, parameters)
        if not images:
            raise NothingToDo(f"run {run_id}: no image to take again; see `tagmill run status {run_id}`")
        elsewhere = and_(batch.c.run_id == run_id, QUEUED_IN_RUN, batch.c.queue != queue)
        connection.execute(update(batch).where(elsewhere).values(queue=queue))
        connection.execute(delete(run_fault).where(run_fault.c.run_id == run_id))  # perhaps it was mended
        state = case((run.c.state == RunState.PAUSED, RunState.PAUSED), else_=RunState.OPEN)
        opened = {"state": state, "queue": queue, "publish_until": epoch_now() + PUBLISH_SECONDS}
        connection.execute(update(run).where(run.c.id == run_id).values(**opened))
        details = {"images": images} | ({"codes": [str(code) for code in codes]} if codes else {})
        record(connection, Action.RETRY, run_id=run_id, reason=reason, details=details)
    return images


def _insert_run(
    connection: Connection,
    source: str,
    models: "Sequence[Model]",
    parameters: dict[str, Any],
    queue: str,
    priority: Priority,
    submission: str | None,
) -> int:
    # A transaction that is writing a run of the same submission is waited for.
    statement = insert_ignore(connection, run).values(
        submission=submission,
        source=source,
        parameters=parameters,
        queue=queue,
        priority=int(priority),
        state=RunState.OPEN,
        created_at=epoch_now(),
    )
    run_id = connection.execute(statement.returning(run.c.id)).scalar_one_or_none()
    if run_id is None:
        raise SubmittedBefore
    connection.execute(insert(run_model), [{"run_id": run_id, "model_id": model.id} for model in models])
    return int(run_id)


def _parameters(batch_size: int, roots: Sequence[Path | str]) -> dict[str, Any]:
    return {"batch_size": batch_size, "roots": [str(root) for root in roots]}


def _require(connection: Connection, run_id: int) -> dict[str, Any]:
    """Return the parameters of a run and lock it. Raise InputError if there is no such run."""
    # With the lock, the second of two commands that change a run at the same time sees what the first one wrote.
    found = select(run.c.parameters).where(run.c.id == run_id).with_for_update(key_share=True)
    parameters = connection.execute(found).scalar_one_or_none()
    if parameters is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    return dict(parameters)


def _insert_rebatched(
    connection: Connection, run_id: int, queue: str, positions: Iterable[int], parameters: Mapping[str, Any]
) -> int:
    """Insert batches of these positions; return the number of positions. Memory does not depend on it."""
    seq = 1 + connection.execute(select(func.max(batch.c.seq)).where(batch.c.run_id == run_id)).scalar_one()
    priority = connection.execute(select(run.c.priority).where(run.c.id == run_id)).scalar_one()
    images = 0
    for chunk in chunks(positions, TAKE_CHUNK):
        seq = insert_again(connection, run_id, queue, priority, seq, chunk, parameters)
        images += len(chunk)
    return images


def _take_failed(connection: Connection, run_id: int, failed: ColumnElement[bool]) -> Iterator[int]:
    """Delete the failures of a run that a condition chooses, and yield their positions in order."""
    last = -1
    while True:
        left = and_(failed, image_failure.c.position > last)
        ordered = select(image_failure.c.position).where(left).order_by(image_failure.c.position)
        positions = connection.execute(ordered.limit(TAKE_CHUNK)).scalars().all()
        if not positions:
            return
        last = positions[-1]
        columns = (image_failure.c.position, image_failure.c.batch_id, image_failure.c.error_code)
        taken = connection.execute(
            delete(image_failure).where(left, image_failure.c.position <= last).returning(*columns)
        )
        moved = taken.all()
        _discount(connection, run_id, Counter((row.batch_id, row.error_code) for row in moved))
        yield from sorted(row.position for row in moved)


def _discount(connection: Connection, run_id: int, moved: Counter[tuple[int, str]]) -> None:
    """Take failed images that leave their batches off the counts: batch id and error code -> how many."""
    images: Counter[int] = Counter()
    of_codes: dict[tuple[str, int], list[int]] = defaultdict(list)
    for (batch_id, code), count in moved.items():
        images[batch_id] += count
        of_codes[code, count].append(batch_id)
    of_counts: dict[int, list[int]] = defaultdict(list)
    for batch_id, count in images.items():
        of_counts[count].append(batch_id)
    for count, ids in of_counts.items():
        connection.execute(update(batch).where(batch.c.id.in_(ids)).values(images=batch.c.images - count))
    for (code, count), ids in of_codes.items():
        of_batches = and_(batch_failure.c.run_id == run_id, batch_failure.c.batch_id.in_(ids))
        these = and_(of_batches, batch_failure.c.error_code == code)
        connection.execute(update(batch_failure).where(these).values(images=batch_failure.c.images - count))
        connection.execute(delete(batch_failure).where(these, batch_failure.c.images <= 0))


def _take_cancelled(connection: Connection, run_id: int) -> Iterator[int]:
    """Empty the cancelled batches of a run; yield the positions that were in them."""
    # A batch that was running when its run was cancelled, and then failed, is queued in a run that no worker serves.
    cancelled = select(run.c.id).where(run.c.id == run_id, run.c.state == RunState.CANCELLED)
    stranded = and_(batch.c.run_id == run_id, QUEUED_IN_RUN, cancelled.exists())
    connection.execute(update(batch).where(stranded).values(status=BatchStatus.CANCELLED))
    columns = (batch.c.seq, batch.c.positions, batch.c.first_position, batch.c.last_position)
    last = -1
    while True:
        left = and_(
            *(batch.c.run_id == run_id, batch.c.seq > last, has_status(BatchStatus.CANCELLED), batch.c.images > 0)
        )
        found = connection.execute(select(*columns).where(left).order_by(batch.c.seq).limit(CANCELLED_CHUNK)).all()
        if not found:
            return
        last = found[-1].seq
        connection.execute(update(batch).where(left, batch.c.seq <= last).values(images=0))
        for row in found:
            yield from positions_of(row)
