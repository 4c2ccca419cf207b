"""Put the entries of a run into batches: those that repeat an earlier entry apart from the others, and behind them.

A batch of repeated entries waits for others, and no other batch does. So no two batches ever wait for each other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from tagmill.db.bulk import insert_rows
from tagmill.db.schema import BatchStatus, batch, repeated_entry
from tagmill.ledger.batches.positions import stored_positions
from tagmill.ledger.repeats.outcomes import first_positions

if TYPE_CHECKING:  # NumPy takes longer to import than most commands take
    from tagmill.ledger.repeats.find import RepeatedEntries

#: rows inserted by one statement
CHUNK = 1024
_BATCH = (
    *("seq", "run_id", "queue", "priority", "status", "attempts", "images"),
    *("positions", "first_position", "last_position"),
)
_REPEATED = ("run_id", "position", "first_position")

_Item = TypeVar("_Item")


def insert_batches(
    connection: Connection, run_id: int, queue: str, priority: int, first_seq: int, parts: Iterable[Sequence[int]]
) -> int:
    """Insert a queued batch for each list of positions, numbered from `first_seq`; return the number behind the last.

    Memory does not depend on their number.
    """
    same, seq = (run_id, queue, int(priority), BatchStatus.QUEUED.value, 0), first_seq
    for chunk in chunks(parts, CHUNK):
        numbered = enumerate(chunk, seq)
        rows = [(number, *same, len(found), *stored_positions(found).values()) for number, found in numbered]
        insert_rows(connection, batch, _BATCH, rows)
        seq += len(rows)
    return seq


def insert_whole_run(
    connection: Connection, run_id: int, queue: str, priority: int, repeats: "RepeatedEntries", batch_size: int
) -> bool:
    """Insert the batches of all entries of a run, and its repeated entries; return whether there are any."""
    if not repeats.find():
        images = repeats.entries
        whole = (range(start, min(start + batch_size, images)) for start in range(0, images, batch_size))
        insert_batches(connection, run_id, queue, priority, 0, whole)
        return False
    seq = insert_batches(connection, run_id, queue, priority, 0, chunks(repeats.firsts(), batch_size))
    for pairs in chunks(repeats.repeats(), CHUNK):
        insert_rows(connection, repeated_entry, _REPEATED, [(run_id, *pair) for pair in pairs])
    positions = (position for position, _ in repeats.repeats())
    insert_batches(connection, run_id, queue, priority, seq, chunks(positions, batch_size))
    return True


def insert_again(
    connection: Connection,
    run_id: int,
    queue: str,
    priority: int,
    seq: int,
    positions: Sequence[int],
    parameters: Mapping[str, Any],
) -> int:
    """Insert batches of entries that were in others before, numbered from `seq`; return the number behind the last.

    `parameters` are those of the run.
    """
    repeated = first_positions(connection, run_id, positions) if parameters.get("repeats") else {}
    for some in ([at for at in positions if at not in repeated], [at for at in positions if at in repeated]):
        parts = map(sorted, chunks(some, int(parameters["batch_size"])))
        seq = insert_batches(connection, run_id, queue, priority, seq, parts)
    return seq


def chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of `size` items; the last may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
