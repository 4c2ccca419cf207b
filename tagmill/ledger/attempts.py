"""How often a batch may be tried, and how a batch that ends its worker is told from those beside it.

Three batches share a worker process. When it dies, nobody knows which of them it was, or whether it was any: each
counts a crash. After `SUSPECT_CRASHES` of them a batch is a suspect: it is taken in a process of its own, whose death
has one cause. If the worker dies beside that process, it was for another reason, or by somebody's hand; such crashes
cost no attempt, either, until there are more than `FREE_CRASHES`: everything has an end.
"""

from sqlalchemy import ColumnElement, case

from tagmill.db.schema import batch

#: crashes that make a batch a suspect
SUSPECT_CRASHES = 2
#: crashes that cost a batch no attempt
FREE_CRASHES = 10


def attempts_left(max_attempts: int, crashes: ColumnElement[int] | None = None) -> ColumnElement[bool]:
    """Return the condition that a batch may be claimed once more; `crashes` where it is not yet the column's value."""
    counted = batch.c.crashes if crashes is None else crashes
    free = case((counted > FREE_CRASHES, FREE_CRASHES), else_=counted)
    return batch.c.attempts - free < max_attempts
