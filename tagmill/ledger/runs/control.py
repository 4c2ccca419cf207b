"""Pause runs, resume them, and change their priority, while workers go on."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, func, or_, select, update

from tagmill.db.audit import Action, record
from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import BatchStatus, RunState, batch, run
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.batches.conditions import QUEUED_IN_RUN, UNPUBLISHED, has_status
from tagmill.ledger.runs.create import LOCAL_QUEUE_PREFIX
from tagmill.ledger.runs.publishing import PUBLISH_SECONDS
from tagmill.priority import Priority

#: batches of a run that are in work, found by the index over run and end
_RUNNING_IN_RUN = and_(batch.c.finished_at.is_(None), batch.c.owner.is_not(None))
#: those, and the queued ones
_UNFINISHED_IN_RUN = and_(
    batch.c.finished_at.is_(None), or_(has_status(BatchStatus.QUEUED), has_status(BatchStatus.RUNNING))
)


def pause_run(engine: Engine, run_id: int, reason: str | None = None) -> bool:
    """Let no worker claim the queued batches of a run. Return False if it was paused already.

    Batches in work finish. Raise NothingToDo if nothing of the run is left to do, InputError if there is no such run.
    """
    with engine.begin() as connection:
        found = _locked(connection, run_id)
        if found.state == RunState.PAUSED:
            return False
        _require_unfinished(connection, found)
        connection.execute(update(run).where(run.c.id == run_id).values(state=RunState.PAUSED))
        record(connection, Action.PAUSE, run_id=run_id, reason=reason)
    return True


def resume_run(engine: Engine, run_id: int, reason: str | None = None) -> bool:
    """Open a paused run again; the caller publishes its queued batches. Return False if it was not paused.

    Raise NothingToDo if the run was cancelled, and InputError if there is no such run.
    """
    with engine.begin() as connection:
        found = _locked(connection, run_id)
        if found.state == RunState.CANCELLED:
            raise NothingToDo(f"run {run_id} was cancelled; queue the rest of it with: tagmill run retry {run_id}")
        if found.state == RunState.OPEN:
            return False
        # Messages that were left on the queue were dropped meanwhile.
        connection.execute(update(batch).where(_published_of(run_id)).values(published_at=None))
        opened = {"state": RunState.OPEN, "publish_until": epoch_now() + PUBLISH_SECONDS}
        connection.execute(update(run).where(run.c.id == run_id).values(**opened))
        record(connection, Action.RESUME, run_id=run_id, reason=reason)
    return True


def set_priority(engine: Engine, run_id: int, priority: Priority, reason: str | None = None) -> Priority:
    """Change the priority of a run; the caller publishes its queued batches again. Return the priority that it had.

    Raise NothingToDo if nothing of the run is left to do, and InputError if there is no such run.
    """
    with engine.begin() as connection:
        found = _locked(connection, run_id)
        before = Priority(found.priority)
        if before is priority:
            return before
        if found.state != RunState.CANCELLED:
            _require_unfinished(connection, found)
        changed = {"priority": int(priority)}
        until = {"publish_until": epoch_now() + PUBLISH_SECONDS} if found.state == RunState.OPEN else {}
        connection.execute(update(run).where(run.c.id == run_id).values(**changed, **until))
        of_run = batch.c.run_id == run_id
        connection.execute(update(batch).where(of_run, QUEUED_IN_RUN).values(**changed, published_at=None))
        connection.execute(update(batch).where(of_run, _RUNNING_IN_RUN).values(**changed))
        words = {"from": before.word, "to": priority.word}
        record(connection, Action.PRIORITY, run_id=run_id, reason=reason, details=words)
    return before


def take_over_publishing(engine: Engine, run_id: int) -> None:
    """Leave the publishing of a run to the caller, after that of its producer was interrupted.

    Raise NothingToDo if the run is published, paused or cancelled, and InputError if there is no such run.
    """
    with engine.begin() as connection:
        state = _locked(connection, run_id).state
        if state == RunState.CANCELLED:
            raise NothingToDo(f"run {run_id} was cancelled; queue the rest of it with: tagmill run retry {run_id}")
        if state == RunState.PAUSED:
            raise NothingToDo(f"run {run_id} is paused; go on with: tagmill run resume {run_id}")
        left = select(batch.c.id).where(batch.c.run_id == run_id, UNPUBLISHED).order_by(batch.c.seq).limit(1)
        if connection.execute(left).one_or_none() is None:
            raise NothingToDo(f"run {run_id} is queued already; follow it with: tagmill run watch {run_id}")
        until = epoch_now() + PUBLISH_SECONDS
        connection.execute(update(run).where(run.c.id == run_id).values(publish_until=until))


def is_paused(engine: Engine, run_id: int) -> bool:
    """Return whether a run is paused."""
    with reading(engine, snapshot=False) as connection:
        state = connection.execute(select(run.c.state).where(run.c.id == run_id)).scalar_one_or_none()
    return state == RunState.PAUSED


def waiting_messages(engine: Engine, run_id: int) -> tuple[str, int]:
    """Return the queue of a run, and how many of its queued batches were published."""
    with reading(engine) as connection:
        queue = connection.execute(select(run.c.queue).where(run.c.id == run_id)).scalar_one()
        count = select(func.count()).select_from(batch).where(_published_of(run_id))
        return str(queue), int(connection.execute(count).scalar_one())


def _published_of(run_id: int) -> ColumnElement[bool]:
    return and_(batch.c.run_id == run_id, QUEUED_IN_RUN, batch.c.published_at.is_not(None))


def _locked(connection: Connection, run_id: int) -> Row[Any, Any, Any, Any]:
    """Return state, priority, queue and id of a run, and lock it. Raise InputError for one that is not for workers."""
    columns = (run.c.state, run.c.priority, run.c.queue, run.c.id)
    found = connection.execute(select(*columns).where(run.c.id == run_id).with_for_update(key_share=True)).one_or_none()
    if found is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    if found.queue.startswith(LOCAL_QUEUE_PREFIX):
        raise InputError(f"run {run_id} is of `tagmill tag`: end that command with Ctrl-C, and run it again to go on")
    return found


def _require_unfinished(connection: Connection, found: Row[Any, Any, Any, Any]) -> None:
    if found.state == RunState.CANCELLED:
        raise NothingToDo(f"run {found.id} was cancelled; see `tagmill run status {found.id}`")
    left = select(batch.c.id).where(batch.c.run_id == found.id, _UNFINISHED_IN_RUN).limit(1)
    if connection.execute(left).one_or_none() is None:
        raise NothingToDo(f"run {found.id} is done; see `tagmill run status {found.id}`")
