"""Audit a run in SQL: every image has one outcome, stored once, shown, and the same as without faults."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.injection import KILLS, InjectedFault
from chaos.journal import Step, read_journal, recovery_seconds, was_owned
from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.db.schema import BatchStatus
from tagmill.ledger.runs.progress import run_progress

_ENTRIES = "SELECT count(*) FROM entry WHERE run_id = :run"
#: what the catalog must show: for each key and name of a model, every version that the newest run with that name has
_EXPECTED = """
SELECT image_key, name_id, place, run_id, position, image_id, model_id FROM (
    SELECT entry.image_key, pinned.name_id, pinned.place, entry.run_id, entry.position, tagged.image_id, pinned.id,
        max(entry.run_id) OVER (PARTITION BY entry.image_key, pinned.name_id)
    FROM entry JOIN tagged_entry AS tagged USING (run_id, position) JOIN (
        SELECT run_id, id, name_id, count(*) OVER (PARTITION BY run_id, name_id ORDER BY version DESC) - 1
        FROM run_model JOIN model ON model.id = model_id
    ) AS pinned (run_id, id, name_id, place) ON pinned.run_id = entry.run_id
) AS found (image_key, name_id, place, run_id, position, image_id, model_id, newest) WHERE run_id = newest
"""
_SHOWN = "SELECT image_key, name_id, place, run_id, position, image_id, model_id FROM catalog_entry"
#: entries without an outcome, and tagged entries without their image or a result of one of the models
_LOST = """
SELECT (SELECT count(*) FROM run_image WHERE run_id = :run AND status NOT IN ('tagged', 'failed'))
     + (SELECT count(*) FROM tagged_entry e
         WHERE run_id = :run AND NOT EXISTS (SELECT FROM image_content i WHERE i.id = e.image_id))
     + (SELECT count(*) FROM tagged_entry e CROSS JOIN run_model m
         WHERE e.run_id = :run AND m.run_id = :run AND NOT EXISTS
         (SELECT FROM result r WHERE r.image_id = e.image_id AND r.model_id = m.model_id))
"""
_MISSING = f"SELECT count(*) FROM ({_EXPECTED} EXCEPT {_SHOWN}) AS missing"
#: second outcomes of an entry, second results of a model for the same bytes, second labels, ranks and masks of a
#: result, rows that the catalog must not show, and rows that were overwritten or deleted
_DOUBLED = f"""
SELECT (SELECT count(*) - count(DISTINCT (run_id, position)) FROM
         (SELECT run_id, position FROM tagged_entry UNION ALL SELECT run_id, position FROM image_failure) AS outcome)
     + (SELECT count(*) - count(DISTINCT (sha256, model_id)) FROM result JOIN image_content ON id = image_id)
     + (SELECT count(*) - count(DISTINCT (image_id, model_id, rank)) FROM result_label WHERE label_id IS NOT NULL)
     + (SELECT count(*) - count(DISTINCT (image_id, model_id, label_id)) FROM result_label WHERE label_id IS NOT NULL)
     + (SELECT count(*) - count(DISTINCT (image_id, model_id, label_id)) FROM result_mask)
     + (SELECT count(*) FROM ({_SHOWN} EXCEPT ALL ({_EXPECTED})) AS wrong)
     + (SELECT count(*) FROM chaos_rewritten)
"""
#: entries that a batch was made with
_SIZES = "SELECT id, coalesce(cardinality(positions), last_position - first_position + 1) AS images FROM batch"


@dataclass(frozen=True)
class Recovery:
    """What a SIGKILL cost: the batches that the process owned, and the seconds until the last of them ran again."""

    kill: InjectedFault
    batches: int
    seconds: float
    #: Redis or PostgreSQL was down for a part of these seconds
    outage: bool


@dataclass(frozen=True)
class Audit:
    """What SQL holds about a run that has ended."""

    images: int
    tagged: int
    failures: Mapping[str, int]
    lost: int
    doubled: int
    #: images of batches that were claimed again, counted each time
    redone: int
    recoveries: Sequence[Recovery]
    #: from the first claim to the last result
    seconds: float

    def worst_recovery(self, *, outage: bool) -> float:
        """Return the most seconds, with or without an outage: infinite if a batch never ran again, 0 for none."""
        return max((found.seconds for found in self.recoveries if found.outage is outage), default=0.0)


@dataclass(frozen=True)
class Verdict:
    """The audits of a disturbed and an undisturbed run of the same catalog."""

    disturbed: Audit
    undisturbed: Audit
    #: injected faults, including the poison image
    faults: int
    #: planned faults that were not injected because the run had ended
    missed: int
    #: the results are the same byte for byte
    identical: bool

    @property
    def clean(self) -> bool:
        """Whether no image was lost, stored twice or tagged differently, and every planned fault was injected."""
        return self.identical and not (self.disturbed.lost or self.disturbed.doubled or self.missed)

    def line(self) -> str:
        """Return the summary line of a chaos run."""
        audit = self.disturbed
        return (
            f"chaos: images={audit.images} faults={self.faults} lost={audit.lost} doubled={audit.doubled} "
            f"identical={'yes' if self.identical else 'no'} redone={audit.redone} "
            f"undisturbed={self.undisturbed.seconds:.0f}s disturbed={audit.seconds:.0f}s "
            f"worst recovery={audit.worst_recovery(outage=False):.1f}s "
            f"(with a service away {audit.worst_recovery(outage=True):.1f}s)"
        )


def audit_run(engine: Engine, run: int, images: int, injected: Sequence[InjectedFault] = ()) -> Audit:
    """Audit a run of that many images, which has ended or was given up."""
    progress = run_progress(engine, run)
    journal = read_journal(engine)
    with reading(engine) as connection:
        missing = int(connection.execute(text(_MISSING)).scalar_one())
        doubled = int(connection.execute(text(_DOUBLED)).scalar_one())
        by_batch = {row.id: int(row.images) for row in connection.execute(text(_SIZES))}
    return Audit(
        images=progress.images,
        tagged=progress.tagged,
        failures=progress.failures,
        lost=lost_images(engine, run, images) + missing,
        doubled=doubled + sum(max(0, _count(steps, BatchStatus.DONE) - 1) for steps in journal.values()),
        redone=sum(
            by_batch.get(number, 0) * max(0, _count(steps, BatchStatus.RUNNING) - 1)
            for number, steps in journal.items()
        ),
        recoveries=[_recovery(kill, journal, injected) for kill in injected if kill.fault in KILLS],
        seconds=progress.seconds,
    )


def lost_images(engine: Engine, run: int, images: int) -> int:
    """Return how many of that many images of a run are lost."""
    with reading(engine) as connection:
        lost = int(connection.execute(text(_LOST), {"run": run}).scalar_one())
        # The counts of the run are stored apart from its entries, so count the entries themselves.
        entries = int(connection.execute(text(_ENTRIES), {"run": run}).scalar_one())
    return lost + max(0, images - entries)


def _recovery(kill: InjectedFault, journal: Mapping[int, list[Step]], injected: Sequence[InjectedFault]) -> Recovery:
    held = [steps for steps in journal.values() if was_owned(steps, kill.process, kill.at)]
    seconds = [found for steps in held if (found := recovery_seconds(steps, kill.process, kill.at)) is not None]
    worst = max(seconds, default=0.0)
    outage = any(fault.at < kill.at + worst and kill.at < fault.back for fault in injected)
    return Recovery(kill, len(seconds), worst, outage)


def _count(steps: Sequence[Step], status: BatchStatus) -> int:
    return sum(1 for step in steps if step.status is status)


def seconds_or_never(seconds: float) -> str:
    """Return the seconds of a recovery as text."""
    return "never" if math.isinf(seconds) else f"{seconds:.1f} s"
