"""Store the figures of a comparison in SQL."""

from typing import Any

from sqlalchemy import Engine

from producer.monitoring.figures import GroupDrift, Limits, ModelDrift, RunDrift
from tagmill.ledger.drift import write_drift


def store_drift(engine: Engine, found: RunDrift) -> None:
    """Write all figures to the table that the view `run_drift` shows, instead of those of an earlier comparison."""
    rows = [
        _row(model, number, group, found.limits) for model in found.models for number, group in enumerate(model.groups)
    ]
    write_drift(engine, found.run, found.reference, rows)


def _row(model: ModelDrift, number: int, group: GroupDrift, limits: Limits) -> dict[str, Any]:
    now, before, distance = group.now, group.before, group.distance
    row = {
        "model_name": model.name,
        "number": number,
        "version": model.version,
        "reference_version": model.reference_version,
        "kind": group.kind.value,
        "column_name": group.column,
        "group_value": group.group,
        "images": now.images,
        "reference_images": before.images,
        "failed": now.failed,
        "reference_failed": before.failed,
        "unknown_share": now.unknown_share,
        "reference_unknown_share": before.unknown_share,
        "label_share": now.label_share,
        "reference_label_share": before.label_share,
        "distance": distance and distance.value,
        "distance_chance": distance and distance.chance,
        "threshold": limits.threshold,
        "max_distance": limits.max_distance,
        "above": ",".join(group.above) if group.judged else None,
    }
    for name, index in zip(("label", "score", "failed"), group.indexes.values(), strict=True):
        row[f"{name}_psi"] = index and index.value
        row[f"{name}_chance"] = index and index.chance
    return row
