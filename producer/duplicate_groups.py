"""Find duplicates and write their groups to SQL."""

from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.errors import InputError
from tagmill.ledger.pictures.duplicates import Row, replace_duplicates
from tagmill.search.duplicates.find import Found, Report, Search, find_duplicates

_RUN = text("SELECT id FROM run WHERE id = :run")


def write_duplicates(engine: Engine, search: Search, report: Report) -> Found:
    """Replace the groups of the catalog, or of a run, by those that are there now. Raise InputError for no such run."""
    if search.run_id is not None:
        with reading(engine, snapshot=False) as connection:
            if connection.execute(_RUN, {"run": search.run_id}).first() is None:
                raise InputError(f"no run {search.run_id}; see `tagmill run list`")
    found = find_duplicates(engine, search, report)
    rows: list[Row] = [
        (number, member.image, member.kind.value, member.distance, member.similarity)
        for number, group in enumerate(found.groups, 1)
        for member in group
    ]
    replace_duplicates(engine, search.run_id, rows)
    return found
