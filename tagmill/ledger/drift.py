"""Write how far the results of a run are from those of a reference run."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from tagmill.db.connection import epoch_now
from tagmill.db.schema import drift, run


def write_drift(engine: Engine, run_id: int, reference: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store the figures of some models, and replace those that the two runs have of these models.

    Each row has the columns of the table but the runs and the time.
    """
    if not rows:
        return
    names = sorted({str(row["model_name"]) for row in rows})
    ids = {"run_id": run_id, "reference_id": reference}
    of_these = (drift.c.run_id == run_id) & (drift.c.reference_id == reference) & drift.c.model_name.in_(names)
    with engine.begin() as connection:
        # Two comparisons of the same run take turns: the second would not see the rows that the first is about to add.
        connection.execute(select(run.c.id).where(run.c.id == run_id).with_for_update(key_share=True))
        connection.execute(delete(drift).where(of_these))
        connection.execute(insert(drift).values(created_at=epoch_now()), [{**row, **ids} for row in rows])
