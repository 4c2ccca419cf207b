"""A worker's statements, one batch after the other, and how long each call waits."""

import hashlib
import random
import threading
import time
from collections import defaultdict

from sqlalchemy import select
from support.filled import QUEUE

from benchmarks.database.sql import result_of
from benchmarks.upkeep.fill import Filled
from tagmill.db.connection import connect
from tagmill.db.schema import batch
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.known_results import known_inferences
from tagmill.ledger.pruning.fence import ResultsPrunedError
from tagmill.records import BatchResult, Outcome

#: known images of a batch of 64; the others are new
KNOWN = 32


class Writer(threading.Thread):
    """Claims and completes the batches that wait, until it is stopped. Half of their images are known."""

    def __init__(self, url: str, filled: Filled) -> None:
        super().__init__(name="writer")
        self._engine = connect(url)
        self._filled = filled
        self._done = threading.Event()
        self.failure: BaseException | None = None
        #: call -> seconds that each took
        self.seconds: dict[str, list[float]] = defaultdict(list)
        #: batches that relied on what was pruned meanwhile
        self.refused = 0

    def stop(self) -> None:
        """End, and raise what went wrong."""
        self._done.set()
        self.join()
        self._engine.dispose()
        if self.failure:
            raise self.failure

    def run(self) -> None:
        try:
            with self._engine.connect() as connection:
                waits = select(batch.c.id).where(batch.c.run_id == self._filled.waiting, batch.c.status == "queued")
                ids = connection.execute(waits.order_by(batch.c.seq)).scalars().all()
            for batch_id in ids:
                if self._done.is_set():
                    return
                self._work(batch_id)
        except BaseException as error:
            self.failure = error

    def _work(self, batch_id: int) -> None:
        filled = self._filled
        began = time.perf_counter()
        claimed = leases.claim(self._engine, filled.waiting, batch_id, QUEUE, Lease(f"writer:{batch_id}", 3600.0, 3))
        self.seconds["claim"].append(time.perf_counter() - began)
        assert claimed is not None
        ids = (filled.keys + random.randint(1, filled.keys // 2) for _ in range(KNOWN))  # of the second run
        shas = [hashlib.sha256(number.to_bytes(8)).hexdigest() for number in ids]
        began = time.perf_counter()
        found = known_inferences(self._engine, shas, [filled.first.sha256])
        self.seconds["look up"].append(time.perf_counter() - began)
        known = sorted({sha for sha, _ in found})
        positions = [entry.position for entry in claimed.images]
        made = result_of(positions[len(known) :], filled.first.sha256, masks=0)
        outcomes = [Outcome(position, sha) for position, sha in zip(positions, known, strict=False)]
        result = BatchResult([*outcomes, *made.outcomes], made.images, made.inferences, made.files)
        began = time.perf_counter()
        try:
            complete(self._engine, claimed, result, "writer")
        except ResultsPrunedError:
            self.refused += 1
        self.seconds["complete"].append(time.perf_counter() - began)
        time.sleep(0.01)
