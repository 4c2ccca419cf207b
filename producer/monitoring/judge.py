"""Make the figures of one group, and say which are drift."""

from collections import Counter
from dataclasses import replace

from producer.monitoring.centroids import centroid_distance
from producer.monitoring.figures import GroupDrift, Kind, Limits, Side
from producer.monitoring.psi import psi, term
from producer.output.read.drift.centroids import VectorSum
from producer.output.read.drift.counts import Counts
from producer.output.read.drift.groups import Outcomes

#: the label that label sets give where no category is near
UNKNOWN = "unknown"
#: the name of the distance among the figures above their limits
DISTANCE = "distance"


def group_drift(
    kind: Kind,
    column: str | None,
    group: str | None,
    counts: tuple[Counts, Counts],
    outcomes: tuple[Outcomes, Outcomes],
    sums: tuple[VectorSum | None, VectorSum | None],
    limits: Limits,
) -> GroupDrift:
    """Return the figures of all images or of a column's value. Each pair is of the run and of the reference."""
    now, before = counts
    failed = [Counter({"failed": found.failed, "tagged": found.tagged}) for found in outcomes]
    labels = psi(now.labels, before.labels) if now.scores or before.scores else None
    made = GroupDrift(
        kind,
        column,
        group,
        _side(now, outcomes[0]),
        _side(before, outcomes[1]),
        labels=labels,
        scores=psi(now.all_scores, before.all_scores),
        failed=psi(failed[0], failed[1]),
        distance=centroid_distance(*sums),
    )
    return judged(made, limits)


def label_drift(
    label: str,
    counts: tuple[Counts, Counts],
    sums: tuple[VectorSum | None, VectorSum | None],
    limits: Limits,
) -> GroupDrift:
    """Return the figures of the images of one label. Its share is judged with the other labels, as one PSI."""
    numbers = [found.labels[label] for found in counts]
    totals = [found.labels.total() for found in counts]
    sides = [
        Side(number, label_share=number / total if total else None)
        for number, total in zip(numbers, totals, strict=True)
    ]
    scores = [found.scores.get(label, Counter()) for found in counts]
    made = GroupDrift(
        Kind.LABEL,
        None,
        label,
        sides[0],
        sides[1],
        scores=psi(scores[0], scores[1]),
        distance=centroid_distance(*sums),
        moved=term(numbers[0], totals[0], numbers[1], totals[1]) if all(totals) else None,
    )
    return judged(made, limits)


def judged(made: GroupDrift, limits: Limits) -> GroupDrift:
    """Return the group with what is above the limits.

    A PSI must also exceed what chance alone makes of it, and a distance its mean by chance.
    """
    if min(made.now.images, made.before.images) < limits.least_images:
        return replace(made, judged=False)
    above = [
        name
        for name, found in made.indexes.items()
        if found is not None and found.value > max(limits.threshold, found.chance)
    ]
    apart, most = made.distance, limits.max_distance
    if apart is not None and most is not None and apart.value > max(most, apart.chance):
        above.append(DISTANCE)
    return replace(made, above=tuple(above))


def _side(counts: Counts, outcomes: Outcomes) -> Side:
    unknown = counts.labels[UNKNOWN] / counts.labels.total() if counts.scores else None
    return Side(outcomes.tagged, outcomes.failed, outcomes.failed_share, unknown)
