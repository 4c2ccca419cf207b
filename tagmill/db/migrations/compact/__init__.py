"""The migration from schema 0004 to 0005: numbers instead of names and hashes, and one row per result.

It copies in chunks, beside workers of the version before. `prepare` creates the new tables, lets triggers log what
changes in the old ones from then on, and copies row by row of the old tables in short transactions, each with its mark
in `upgrade_progress`. Whatever interrupts it, the next `prepare` continues from the marks. `finish` is one transaction
with exclusive locks: it copies what the log still holds, drops the old tables, and gives the new ones their names.

Its statements and tables are frozen: a migration does not change with the code.
"""

from tagmill.db.migrations.compact.finish import finish, lock_all
from tagmill.db.migrations.compact.prepare import Pace, Progress, Report, catch_up, is_busy, prepare
from tagmill.db.migrations.compact.tables import OLD_TABLES, RENAMED

__all__ = [
    "OLD_TABLES",
    "RENAMED",
    "Pace",
    "Progress",
    "Report",
    "catch_up",
    "finish",
    "is_busy",
    "lock_all",
    "prepare",
]
