"""What the page says of a run beside a reference run."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from producer.monitoring.compare import Comparison, compare_runs
from producer.monitoring.figures import GroupDrift, Kind, ModelDrift, RunDrift
from producer.monitoring.notes import lines, verdict


@dataclass(frozen=True)
class ModelSection:
    """One model in both runs."""

    model: ModelDrift
    #: the labels, the most frequent first, each with what its figures say
    labels: tuple[tuple[GroupDrift, str], ...]
    #: the largest share of a label in either run, which its bar is as wide as the cell for
    most: float
    verdict: str
    #: what moved, in sentences
    said: tuple[str, ...]


def drift_values(engine: Engine, run_id: int, reference: int | None) -> dict[str, Any]:
    """Return the values of the section's template; without a reference run there is no section.

    Raise InputError and NothingToDo as `compare_runs` does.
    """
    if reference is None:
        return {"drift": None, "drift_models": ()}
    found = compare_runs(engine, Comparison(run_id, reference))
    return {"drift": found, "drift_models": [_section(model, found) for model in found.models]}


def _section(model: ModelDrift, found: RunDrift) -> ModelSection:
    labels = [group for group in model.groups if group.kind is Kind.LABEL]
    shares = [side.label_share or 0.0 for group in labels for side in (group.now, group.before)]
    return ModelSection(
        model,
        tuple((group, verdict(group)) for group in labels),
        max(shares, default=0.0),
        verdict(model.whole),
        tuple(lines(model, found.limits)),
    )
