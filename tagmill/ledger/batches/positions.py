"""The positions of a batch's entries in their run's manifest."""

from collections.abc import Sequence
from typing import Any


def positions_of(row: Any) -> list[int]:
    """Return the positions of a row with a batch's `positions`, `first_position` and `last_position`, in order."""
    if row.positions is not None:
        return list(row.positions)
    return list(range(row.first_position, row.last_position + 1))


def stored_positions(positions: Sequence[int]) -> dict[str, Any]:
    """Return the columns of a batch of these positions, which are in order: a list only if there are gaps."""
    first, last = positions[0], positions[-1]
    whole = last - first + 1 == len(positions)
    return {"positions": None if whole else list(positions), "first_position": first, "last_position": last}
