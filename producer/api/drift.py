"""Compare two runs, as `tagmill drift` does."""

from collections.abc import Sequence

from producer.api.database import database
from producer.monitoring.compare import Comparison, compare_runs
from producer.monitoring.figures import Limits, RunDrift
from producer.monitoring.store import store_drift
from tagmill.errors import InputError

_LIMITS = Limits()


def drift(
    run: int,
    reference: int,
    *,
    models: Sequence[str] = (),
    by: Sequence[str] = (),
    threshold: float = _LIMITS.threshold,
    max_distance: float | None = None,
    least_images: int = _LIMITS.least_images,
    groups: int = 20,
) -> RunDrift:
    """Compare a run with a reference run, store the figures in SQL, and return them.

    The arguments are the options of `tagmill drift`. `drifted` of what is returned says whether a figure is above its
    limit. Raise InputError for an unknown run, model or column, NothingToDo if a run has no tagged image.
    """
    if isinstance(models, str) or isinstance(by, str):
        raise InputError("drift takes models and columns as lists: drift(12, 9, by=['seller'])")
    if not threshold >= 0 or groups < 1 or least_images < 1:
        raise InputError("threshold must be 0 or more, groups and least_images 1 or more")
    limits = Limits(threshold, max_distance, least_images)
    with database() as engine:
        found = compare_runs(engine, Comparison(run, reference, tuple(models), tuple(by), limits, groups))
        store_drift(engine, found)
    return found
