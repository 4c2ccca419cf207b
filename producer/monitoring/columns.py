"""Choose the values of a further column that are compared."""

from collections import Counter

from sqlalchemy import Connection

from producer.output.read.drift.groups import columns_of, largest_groups
from producer.output.read.drift.relations import Column
from tagmill.errors import InputError
from tagmill.text import normalize


def chosen_column(connection: Connection, runs: tuple[int, int], name: str, most: int) -> tuple[Column, int]:
    """Return the column with the values that the most entries of both runs have, and how many values it leaves out.

    Raise InputError if a run has no such column.
    """
    name = normalize(name)
    found = [largest_groups(connection, run_id, name, most) for run_id in runs]
    for run_id, largest in zip(runs, found, strict=True):
        if not largest.has_column:
            raise InputError(f"--by {name}: no entry of run {run_id} has such a column; {_has(connection, run_id)}")
    entries: Counter[str | None] = Counter()
    for largest in found:
        entries.update(largest.entries)
    ordered = sorted(entries, key=lambda value: (-entries[value], value is None, value or ""))
    groups = max(len(ordered), *(largest.groups for largest in found))
    return Column(name, tuple(ordered[:most])), groups - len(ordered[:most])


def _has(connection: Connection, run_id: int) -> str:
    names = columns_of(connection, run_id)
    if not names:
        return "it has no further columns: its manifest has none, or it was submitted with --no-extra"
    return f"it has {', '.join(names)}"
