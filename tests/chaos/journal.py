"""A journal of every change of a batch's status and every overwritten outcome or result, by database triggers."""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.db.schema import BatchStatus

#: tables whose rows are written once; only `tagmill run retry` deletes some of `image_failure`
WRITTEN_ONCE = ("entry", "batch_outcome", "image_failure", "image_content", "result", "further_label", "result_mask")

_TRIGGERS = """
CREATE TABLE chaos_step (
    id bigserial PRIMARY KEY, at double precision NOT NULL, batch_id bigint NOT NULL, status text NOT NULL, owner text
);
CREATE FUNCTION chaos_note_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_step (at, batch_id, status, owner)
    VALUES (extract(epoch FROM clock_timestamp()), NEW.id, NEW.status, NEW.owner);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_step AFTER UPDATE OF status ON batch FOR EACH ROW EXECUTE FUNCTION chaos_note_step();

CREATE TABLE chaos_rewritten (name text NOT NULL, how text NOT NULL, was text NOT NULL);
CREATE FUNCTION chaos_note_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_rewritten VALUES (TG_TABLE_NAME, TG_OP, OLD::text);
    RETURN NULL;
END $$;
"""
_ON_EACH = """
CREATE TRIGGER chaos_rewritten AFTER UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION chaos_note_rewritten();
"""


@dataclass(frozen=True)
class Step:
    """A batch got a status. `at` is Unix seconds; `owner` is the token of the claim while it is running."""

    at: float
    status: BatchStatus
    owner: str | None


def install_journal(engine: Engine) -> None:
    """Create the tables and triggers in a PostgreSQL that only this test uses."""
    with engine.begin() as connection:
        connection.exec_driver_sql(_TRIGGERS + "".join(_ON_EACH.format(table=table) for table in WRITTEN_ONCE))


def read_journal(engine: Engine) -> dict[int, list[Step]]:
    """Return the steps of each batch, in order, since it was queued."""
    steps: dict[int, list[Step]] = defaultdict(list)
    with reading(engine) as connection:
        for row in connection.execute(text("SELECT batch_id, at, status, owner FROM chaos_step ORDER BY id")):
            steps[row.batch_id].append(Step(row.at, BatchStatus(row.status), row.owner))
    return dict(steps)


def was_owned(steps: list[Step], process: str, at: float) -> bool:
    """Return whether the process of that name owned the batch at that time."""
    before = [step for step in steps if step.at <= at]
    return bool(before) and (before[-1].owner or "").startswith(f"{process}:")


def recovery_seconds(steps: list[Step], process: str, at: float) -> float | None:
    """Return the seconds until the next claim of a batch that a process owned when it died.

    None if it did not own the batch, or if its commit still reached the database.
    """
    after = [step for step in steps if step.at > at]
    if not was_owned(steps, process, at) or (after and after[0].status is BatchStatus.DONE):
        return None
    return next((step.at - at for step in after if step.status is BatchStatus.RUNNING), float("inf"))
