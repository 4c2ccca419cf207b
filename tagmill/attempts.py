"""How often a batch may be tried, and how a batch that ends its worker is told from those beside it.

Three batches share a worker process. When it dies, nobody knows which of them it was: each counts a crash, and the
first `FREE_CRASHES` of them cost no attempt. From then on a batch is a suspect: it is taken in a process of its own,
where a death has one cause, and an innocent batch simply goes through.
"""

from sqlalchemy import ColumnElement, case

from tagmill.tables import batch

#: crashes that cost a batch no attempt
FREE_CRASHES = 2


def attempts_left(max_attempts: int, crashes: ColumnElement[int] | None = None) -> ColumnElement[bool]:
    """Return the condition that a batch may be claimed once more; `crashes` where it is not yet the column's value."""
    counted = batch.c.crashes if crashes is None else crashes
    free = case((counted > FREE_CRASHES, FREE_CRASHES), else_=counted)
    return batch.c.attempts - free < max_attempts
