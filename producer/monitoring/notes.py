"""What a reader must know before the figures, and what they say, in sentences."""

from collections.abc import Iterable, Sequence

from producer.monitoring.figures import GroupDrift, Kind, Limits, ModelDrift
from producer.monitoring.psi import Psi
from tagmill.ledger.runs.progress import RunProgress

#: indexes up to which people say that nothing or little changed (Siddiqi 2006)
STABLE, SOME = 0.1, 0.2
#: what a PSI up to `STABLE`, up to `SOME` and above is called; the last is said only with a higher threshold
_SIZES = ("stable", "some change", "large change")


def of_runs(runs: Iterable[RunProgress]) -> list[str]:
    """Return a note on each run that has images without an outcome."""
    return [
        f"run {found.run} is {found.state}: {found.pending:,} of {found.images:,} images have no outcome, "
        "and the figures are of the others"
        for found in runs
        if found.pending
    ]


def of_models(models: Sequence[ModelDrift], limits: Limits) -> list[str]:
    """Return what is left out or not judged."""
    said = []
    for found in models:
        for column, count in found.left_out.items():
            what = "labels" if column is None else f"values of {column}"
            said.append(
                f"{found.name}: {count:,} less frequent {what} are not shown; tagmill drift --groups N shows more"
            )
        small = [one for one in found.groups if not one.judged]
        if small:
            few = "group has" if len(small) == 1 else "groups have"
            said.append(
                f"{found.name}: {len(small):,} {few} fewer than {limits.least_images:,} images in one of the runs "
                "and no verdict; tagmill drift --least-images N changes that"
            )
    return said


def verdict(found: GroupDrift) -> str:
    """Return what the figures of a group say, in a few words."""
    if not found.judged:
        return "too few images"
    if found.above:
        return f"drift: {', '.join(found.above)}"
    indexes = [one for one in found.indexes.values() if one is not None]
    return max(map(_size, indexes), key=_SIZES.index, default="")


def lines(model: ModelDrift, limits: Limits) -> list[str]:
    """Return what moved, the most first, in sentences."""
    said = [f"{model.name}, {found.title}: {'; '.join(_reasons(found, limits))}" for found in model.drifted]
    if model.whole.labels is not None and "labels" in model.whole.above:
        moved = [found for found in model.movers if found.kind is Kind.LABEL][:3]
        shares = ", ".join(
            f"{found.title} {_share(found.before.label_share)} to {_share(found.now.label_share)}" for found in moved
        )
        said.append(f"{model.name}: the labels that moved most are {shares}")
    return said


def _reasons(found: GroupDrift, limits: Limits) -> Iterable[str]:
    for name in found.above:
        index = found.indexes.get(name)
        if index is not None:
            yield f"PSI of {name} is {index.value:.3f}, above {max(limits.threshold, index.chance):.3f}"
        elif found.distance is not None:
            yield f"the mean embedding moved by {found.distance.value:.4f}, above {limits.max_distance}"


def _size(index: Psi) -> str:
    if index.value <= STABLE or index.value <= index.chance:
        return _SIZES[0]
    return _SIZES[1] if index.value <= SOME else _SIZES[2]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
