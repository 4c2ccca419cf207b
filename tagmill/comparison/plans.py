"""Have PostgreSQL plan what reads a page of images as lookups by index."""

from sqlalchemy import Connection


def look_up_by_index(connection: Connection) -> None:
    """Allow no scan of a whole table until the end of the transaction.

    Without statistics, as when a run has just ended, PostgreSQL expects tables of a few rows, and would read all of
    them for each page.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
