"""The account after a run: is every image there, once, and the same as without any fault?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.injection import KILLS, Injected
from chaos.journal import Step, in_hand, read_journal, recovery
from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.db.schema import BatchStatus
from tagmill.ledger.progress import run_progress

_ENTRIES = "SELECT count(*) FROM run_image WHERE run_id = :run"
#: entries without an outcome, and tagged entries that lack an answer of a model
_LOST = """
SELECT (SELECT count(*) FROM run_image WHERE run_id = :run AND status NOT IN ('tagged', 'failed'))
     + (SELECT count(*) FROM run_image e CROSS JOIN run_model m
         WHERE e.run_id = :run AND m.run_id = :run AND e.status = 'tagged' AND NOT EXISTS
         (SELECT FROM inference i WHERE i.image_sha256 = e.sha256 AND i.model_sha256 = m.model_sha256))
"""
#: answers of a model for the same bytes, labels and ranks of an answer, and outcomes that were written over
_DOUBLED = """
SELECT (SELECT count(*) - count(DISTINCT (image_sha256, model_sha256)) FROM inference)
     + (SELECT count(*) - count(DISTINCT (inference_id, rank)) FROM label)
     + (SELECT count(*) - count(DISTINCT (inference_id, label)) FROM label)
     + (SELECT count(*) - count(DISTINCT (inference_id, label)) FROM mask)
     + (SELECT count(*) FROM chaos_rewritten)
"""


@dataclass(frozen=True)
class Recovery:
    """What a SIGKILL cost: the batches in hand, and the seconds until the last of them was running again."""

    kill: Injected
    batches: int
    seconds: float
    #: Redis or PostgreSQL was away for a part of them
    outage: bool


@dataclass(frozen=True)
class Account:
    """What a run looks like afterwards."""

    images: int
    tagged: int
    failures: Mapping[str, int]
    lost: int
    doubled: int
    #: images of batches that were claimed once more, each time counted
    redone: int
    recoveries: Sequence[Recovery]
    #: from the first claim to the last result
    seconds: float

    def worst_recovery(self, *, outage: bool) -> float:
        """Return seconds, of those with or without an outage; infinite where a batch never ran again, 0 for none."""
        return max((found.seconds for found in self.recoveries if found.outage is outage), default=0.0)


@dataclass(frozen=True)
class Verdict:
    """The account of a disturbed run beside that of an undisturbed one."""

    disturbed: Account
    undisturbed: Account
    #: faults done, the poison image among them
    faults: int
    #: faults that found no work to disturb
    missed: int
    #: the results are the same, byte for byte
    identical: bool

    @property
    def clean(self) -> bool:
        """Whether everything is as it should be."""
        return self.identical and not (self.disturbed.lost or self.disturbed.doubled or self.missed)

    def line(self) -> str:
        """Return the last line that a chaos run prints."""
        account = self.disturbed
        return (
            f"chaos: images={account.images} faults={self.faults} lost={account.lost} doubled={account.doubled} "
            f"identical={'yes' if self.identical else 'no'} redone={account.redone} "
            f"undisturbed={self.undisturbed.seconds:.0f}s disturbed={account.seconds:.0f}s "
            f"worst recovery={account.worst_recovery(outage=False):.1f}s "
            f"(with a service away {account.worst_recovery(outage=True):.1f}s)"
        )


def settle(engine: Engine, run: int, images: int, injected: Sequence[Injected] = ()) -> Account:
    """Read the account of a run of so many images, which ended or is given up."""
    progress = run_progress(engine, run)
    journal = read_journal(engine)
    with reading(engine) as connection:
        lost = int(connection.execute(text(_LOST), {"run": run}).scalar_one())
        doubled = int(connection.execute(text(_DOUBLED)).scalar_one())
        # The run's own counts are kept beside its images: this is who looks whether these are there.
        entries = int(connection.execute(text(_ENTRIES), {"run": run}).scalar_one())
        sizes = connection.execute(text("SELECT batch_id, count(*) AS images FROM run_image GROUP BY batch_id"))
        by_batch = {row.batch_id: int(row.images) for row in sizes}
    return Account(
        images=progress.images,
        tagged=progress.tagged,
        failures=progress.failures,
        lost=lost + max(0, images - entries),
        doubled=doubled + sum(max(0, _count(steps, BatchStatus.DONE) - 1) for steps in journal.values()),
        redone=sum(
            by_batch.get(number, 0) * max(0, _count(steps, BatchStatus.RUNNING) - 1)
            for number, steps in journal.items()
        ),
        recoveries=[_recovery(kill, journal, injected) for kill in injected if kill.fault in KILLS],
        seconds=progress.seconds,
    )


def _recovery(kill: Injected, journal: Mapping[int, list[Step]], injected: Sequence[Injected]) -> Recovery:
    held = [steps for steps in journal.values() if in_hand(steps, kill.process, kill.at)]
    seconds = [found for steps in held if (found := recovery(steps, kill.process, kill.at)) is not None]
    worst = max(seconds, default=0.0)
    outage = any(fault.at < kill.at + worst and kill.at < fault.back for fault in injected)
    return Recovery(kill, len(seconds), worst, outage)


def _count(steps: Sequence[Step], status: BatchStatus) -> int:
    return sum(1 for step in steps if step.status is status)


def seconds_or_never(seconds: float) -> str:
    """Return words for a recovery."""
    return "never" if math.isinf(seconds) else f"{seconds:.1f} s"
