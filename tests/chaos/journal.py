"""What happened to each batch and image, in order: two triggers in the test's database write it down."""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.db.schema import BatchStatus

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

CREATE TABLE chaos_rewritten (run_id bigint NOT NULL, position integer NOT NULL, was text NOT NULL, became text);
CREATE FUNCTION chaos_note_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_rewritten VALUES (OLD.run_id, OLD.position, OLD.status, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_rewritten AFTER UPDATE ON run_image FOR EACH ROW
    WHEN (OLD.status <> 'pending') EXECUTE FUNCTION chaos_note_rewritten();
"""


@dataclass(frozen=True)
class Step:
    """A batch came to a status. `at` is Unix seconds; `owner` the token of the claim while it is running."""

    at: float
    status: BatchStatus
    owner: str | None


def keep_journal(engine: Engine) -> None:
    """Begin; the database is a PostgreSQL of the test's own."""
    with engine.begin() as connection:
        connection.exec_driver_sql(_TRIGGERS)


def read_journal(engine: Engine) -> dict[int, list[Step]]:
    """Return the steps of each batch since it was queued."""
    steps: dict[int, list[Step]] = defaultdict(list)
    with reading(engine) as connection:
        for row in connection.execute(text("SELECT batch_id, at, status, owner FROM chaos_step ORDER BY id")):
            steps[row.batch_id].append(Step(row.at, BatchStatus(row.status), row.owner))
    return dict(steps)


def in_hand(steps: list[Step], process: str, at: float) -> bool:
    """Return whether the process of that name owned the batch at that moment."""
    before = [step for step in steps if step.at <= at]
    return bool(before) and (before[-1].owner or "").startswith(f"{process}:")


def recovery(steps: list[Step], process: str, at: float) -> float | None:
    """Return the seconds until another claim of a batch that a process had in hand when it died.

    None where it had not, or where its last word, the commit, still reached the database.
    """
    after = [step for step in steps if step.at > at]
    if not in_hand(steps, process, at) or (after and after[0].status is BatchStatus.DONE):
        return None
    return next((step.at - at for step in after if step.status is BatchStatus.RUNNING), float("inf"))
