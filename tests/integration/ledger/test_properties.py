"""In any order of claims, deaths, expiries, cancels and retries, every image gets one outcome, written once."""

import sqlite3
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, text, update
from support.ledger import digest

from producer.runs import reconcile, retry_run
from tagmill.broker.app import make_app
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import BatchStatus, batch, batch_failure, image_failure
from tagmill.db.schema import result as result_table
from tagmill.errors import NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.attempts import FREE_CRASHES
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.batches.positions import positions_of
from tagmill.ledger.batches.reaper import mark_dead, reclaim_due, reclaim_lost, requeue_expired, requeue_owned
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import cancel_run, create_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.outcomes import ErrorCode, ImageStatus
from tagmill.priority import Priority
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import register
from tagmill.settings import Settings
from tagmill.tasks.classify import CLASSIFY

QUEUE = "tagmill"
MODEL = "f" * 64
MAX_ATTEMPTS = 2
IMAGES, BATCH_SIZE = 8, 2
#: distinct bytes: the same bytes occur under several keys, in several batches
DISTINCT = 5
PROCESSES = ("one", "two", "three")
FAILURES = (None, None, ErrorCode.TRUNCATED, ErrorCode.NOT_FOUND)

#: the labels that models gave to images; SQLite shows bytes as hexadecimal digits in upper case
ANSWERS = """
SELECT lower(hex(image.sha256)), name.name FROM result_label AS found
JOIN image_content AS image ON image.id = found.image_id JOIN label_name AS name ON name.id = found.label_id
"""

#: how an image ended: its sha256 or its code
Ending = str
Row = tuple[int, int, str, Ending | None]


def open_catalog(path: Path) -> None:
    """Create a database with one open run."""
    engine = connect(f"sqlite:///{path}")
    upgrade(engine)
    model = register(engine, BundleSpec("shirts", CLASSIFY, ("red",), PreprocessSpec(8, 8)), MODEL)
    entries = [Entry(f"key-{number}", f"/{number}.jpg") for number in range(IMAGES)]
    create_run(engine, "test", entries, [model], [], BATCH_SIZE, QUEUE)
    engine.dispose()


class LedgerMachine(RuleBasedStateMachine):
    """Workers that claim, die and resume late, next to a reaper, an operator and the clock.

    Nothing sleeps: time passes because the times in SQL are moved into the past.
    """

    #: a database file with an open run
    template: Path
    app = make_app(Settings(broker_url="memory://localhost/"))
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.engine = connect("sqlite://")
        with sqlite3.connect(self.template) as template, self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            template.backup(raw)
        self.run = 1
        self.tokens = 0
        #: batch -> the claim that owns it
        self.owners: dict[int, str] = {}
        #: tokens whose lease has expired
        self.expired: set[str] = set()
        #: position -> how it ended
        self.endings: dict[int, Ending] = {}
        #: image sha256 -> the label of its first result
        self.answers: dict[str, str] = {}

    def teardown(self) -> None:
        """Let all leases expire, then work without failures: now every image must get an outcome."""
        for token in self.owners.values():
            self.end_lease(token)
        for _ in range(2):  # batches out of attempts are dead, and their images are retried
            self.reap(by_hand=False)
            self.retry([], failed_only=False)
        for number in self.batches():
            for claimed in self.take(number, "last"):
                self.finish(claimed, 0)
        assert set(self.endings) == set(range(IMAGES))
        self.everything_is_in_order()
        self.engine.dispose()

    # The rules of a worker.

    @initialize(target=claims)
    def begin(self) -> object:
        return multiple(*(claimed for number in self.batches()[:2] for claimed in self.take(number, PROCESSES[0])))

    @rule(target=claims, place=st.integers(0, 9), process=st.sampled_from(PROCESSES))
    def claim_what_waits(self, place: int, process: str) -> object:
        numbers = self.batches(BatchStatus.QUEUED) or self.batches()
        return multiple(*self.take(numbers[place % len(numbers)], process))

    @rule(target=claims, claimed=claims, process=st.sampled_from(PROCESSES))
    def claim_what_another_has_or_had(self, claimed: Claim, process: str) -> object:
        return multiple(*self.take(claimed.batch_id, process))

    @rule(target=claims, claimed=claims, process=st.sampled_from(PROCESSES))
    def oversleep(self, claimed: Claim, process: str) -> object:
        self.end_lease(claimed.token)
        taken = self.take(claimed.batch_id, process)
        self.finish(claimed, 0)
        return multiple(*taken)

    @rule(place=st.integers(0, 9))
    def fail(self, place: int) -> None:
        waiting = self.batches(BatchStatus.QUEUED)
        for claimed in self.take(waiting[place % len(waiting)], PROCESSES[0]) if waiting else []:
            self.give_back(claimed, 0)

    @rule(claimed=claims)
    def renew(self, claimed: Claim) -> None:
        before = self.leases()
        leases.renew(self.engine, [claimed.token], 30.0)
        after = self.leases()
        assert before.pop(claimed.token, 0) <= after.pop(claimed.token, 0)
        assert before == after
        self.expired.discard(claimed.token)

    @rule(claimed=claims, failure=st.integers(0, len(FAILURES) - 1))
    def complete(self, claimed: Claim, failure: int) -> None:
        self.finish(claimed, failure)

    @rule(claimed=consumes(claims), delay=st.sampled_from([0, 60]))
    def release(self, claimed: Claim, delay: float) -> None:
        self.give_back(claimed, delay)

    # The rules of a supervisor, a reaper and the clock.

    @rule(process=st.sampled_from(PROCESSES))
    def a_process_dies(self, process: str) -> None:
        lost = {number for number, token in self.owners.items() if token.startswith(f"{process}:")}
        assert requeue_owned(self.engine, process) == len(lost)
        for number in lost:
            del self.owners[number]

    @rule(claimed=claims)
    def a_lease_ends(self, claimed: Claim) -> None:
        self.end_lease(claimed.token)

    @rule(by_hand=st.booleans())
    def reap(self, by_hand: bool) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(batch).where(batch.c.not_before.is_not(None)).values(not_before=0.0))
        lost = {number for number, token in self.owners.items() if token in self.expired}
        for number in lost:
            del self.owners[number]
        if by_hand:
            reconcile(self.app, self.engine, QUEUE, MAX_ATTEMPTS)
        else:
            assert requeue_expired(self.engine, QUEUE) == len(lost)
            mark_dead(self.engine, QUEUE, MAX_ATTEMPTS)
            published = [
                *reclaim_due(self.engine, QUEUE, Priority.NORMAL),
                *reclaim_lost(self.engine, QUEUE, Priority.NORMAL, grace_seconds=0),
            ]
            assert not {number for _, number in published} & set(self.owners)
        dead = {position for position, _, _, ending in self.rows() if ending == ErrorCode.BATCH_DEAD}
        self.endings |= dict.fromkeys(dead, ErrorCode.BATCH_DEAD.value)

    # The rules of an operator.

    @rule()
    def cancel(self) -> None:
        cancel_run(self.engine, self.run)

    @rule(codes=st.sampled_from([[], [ErrorCode.TRUNCATED]]), failed_only=st.booleans())
    def retry(self, codes: list[ErrorCode], failed_only: bool) -> None:
        chosen = set(codes) or {*ErrorCode}
        wanted = {position for position, ending in self.endings.items() if ending in chosen}
        try:
            taken = retry_run(self.app, self.engine, self.run, codes, QUEUE, failed_only=failed_only)
        except NothingToDo:
            taken = 0
        assert taken >= len(wanted)
        if codes or failed_only:
            assert taken == len(wanted)
        for position in wanted:
            del self.endings[position]

    # What must hold after each rule.

    @invariant()
    def everything_is_in_order(self) -> None:
        rows = self.rows()
        assert {position: ending for position, _, _, ending in rows if ending is not None} == self.endings
        with self.engine.connect() as connection:
            batches = {row.id: row for row in connection.execute(select(batch))}
            answers = [tuple(row) for row in connection.execute(text(ANSWERS))]
            shown = connection.execute(text("SELECT image_key, sha256, label FROM catalog_labels")).all()
            failed = connection.execute(select(image_failure.c.position, image_failure.c.batch_id)).all()
        unfinished = {BatchStatus.QUEUED, BatchStatus.RUNNING, BatchStatus.CANCELLED}
        assert all(batches[number].status in unfinished for _, number, _, ending in rows if ending is None)
        running = {number: row.owner for number, row in batches.items() if row.status == BatchStatus.RUNNING}
        assert running == self.owners
        assert all(row.owner is None for row in batches.values() if row.status != BatchStatus.RUNNING)
        for row in batches.values():
            assert row.attempts - min(row.crashes, FREE_CRASHES) <= MAX_ATTEMPTS
            assert row.crashes <= row.attempts
        assert sorted(answers) == sorted(self.answers.items())
        tagged = {position: ending for position, ending in self.endings.items() if ending in self.answers}
        assert sorted(shown) == [(f"key-{at}", sha256, self.answers[sha256]) for at, sha256 in sorted(tagged.items())]
        assert set(failed) == {(position, number) for position, number, status, _ in rows if status == "failed"}

    @invariant()
    def the_counts_are_those_of_the_images(self) -> None:
        counts: dict[int, dict[str, int]] = {number: {} for number in self.batches()}
        for _, number, status, ending in self.rows():
            kind = str(ending) if status == ImageStatus.FAILED else status
            counts[number][kind] = counts[number].get(kind, 0) + 1
        with self.engine.connect() as connection:
            key = result_table.c.batch_id
            computed = dict(connection.execute(select(key, func.count()).group_by(key)).all())
            kept = connection.execute(select(batch.c.id, batch.c.images, batch.c.tagged, batch.c.inferences)).all()
            failures = {(row.batch_id, row.error_code): row.images for row in connection.execute(select(batch_failure))}
        for number, images, tagged, inferences in kept:
            found = counts[number]
            assert images == sum(found.values())
            assert tagged == found.pop(ImageStatus.TAGGED, 0)
            assert inferences == computed.get(number, 0)
            found.pop(ImageStatus.PENDING, 0)
        real = {(number, code): images for number, found in counts.items() for code, images in found.items()}
        assert failures == real
        progress = run_progress(self.engine, self.run)
        assert (progress.images, progress.tagged + progress.failed) == (IMAGES, len(self.endings))

    # Steps of the rules.

    def rows(self) -> list[Row]:
        """Return position, batch, status and ending of each image."""
        with self.engine.connect() as connection:
            batches = connection.execute(select(batch).order_by(batch.c.id)).all()
            found = connection.execute(
                text("SELECT position, status, sha256, error_code FROM run_image ORDER BY position")
            ).all()
        # A retry moves images to a later batch.
        last = {position: row.id for row in batches for position in positions_of(row)}
        assert [row.position for row in found] == list(range(IMAGES))
        for _, status, sha256, code in found:
            assert (status == ImageStatus.TAGGED) == (sha256 is not None)
            assert (status == ImageStatus.FAILED) == (code is not None)
        return [(position, last[position], status, sha256 or code) for position, status, sha256, code in found]

    def batches(self, *statuses: BatchStatus) -> list[int]:
        chosen = select(batch.c.id).where(batch.c.status.in_(statuses or tuple(BatchStatus)))
        with self.engine.connect() as connection:
            return list(connection.execute(chosen.order_by(batch.c.id)).scalars())

    def take(self, number: int, process: str) -> list[Claim]:
        self.tokens += 1
        lease = Lease(f"{process}:{self.tokens}", 30.0, MAX_ATTEMPTS)
        claimed = leases.claim(self.engine, self.run, number, QUEUE, lease)
        if claimed is None:
            return []
        former = self.owners.get(number)
        assert former is None or former in self.expired, "two workers own a batch"
        assert all(image.position not in self.endings for image in claimed.images)
        self.owners[number] = claimed.token
        return [claimed]

    def finish(self, claimed: Claim, failure: int) -> None:
        outcomes = [self.outcome(image.position, failure) for image in claimed.images]
        shas = {outcome.sha256 for outcome in outcomes if outcome.sha256}
        rows = [InferenceRow(sha256, MODEL, "CPU", ((claimed.token, 1.0),), ()) for sha256 in shas]
        result = BatchResult(outcomes, [ImageRow(sha256, 8, 8, "JPEG", 100) for sha256 in shas], rows)
        mine = self.owners.get(claimed.batch_id) == claimed.token
        assert complete(self.engine, claimed, result, "worker") == mine
        if mine:
            del self.owners[claimed.batch_id]
            for outcome in outcomes:
                assert outcome.position not in self.endings, "an image was tagged twice"
                self.endings[outcome.position] = str(outcome.sha256 or outcome.error_code)
            self.answers = dict.fromkeys(shas, claimed.token) | self.answers

    def outcome(self, position: int, failure: int) -> Outcome:
        code = FAILURES[(position + failure) % len(FAILURES)] if failure else None
        return Outcome(position, None if code else digest(position % DISTINCT), code)

    def give_back(self, claimed: Claim, delay: float) -> None:
        leases.release(self.engine, claimed, "BundleError: gone", delay)
        if self.owners.get(claimed.batch_id) == claimed.token:
            del self.owners[claimed.batch_id]

    def leases(self) -> dict[str, float]:
        with self.engine.connect() as connection:
            owned = select(batch.c.owner, batch.c.lease_until).where(batch.c.owner.is_not(None))
            return {row.owner: row.lease_until for row in connection.execute(owned)}

    def end_lease(self, token: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(batch).where(batch.c.owner == token).values(lease_until=0.0))
        self.expired.add(token)


def test_in_any_order_of_events_every_image_gets_one_outcome(tmp_path: Path) -> None:
    open_catalog(tmp_path / "template.db")
    machine = type("Machine", (LedgerMachine,), {"template": tmp_path / "template.db"})
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=40))
