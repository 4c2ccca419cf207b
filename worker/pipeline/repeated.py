"""Give images that repeat an earlier entry's location the outcome of that entry."""

from collections.abc import Callable, Collection, Mapping, Sequence

from tagmill.records import Outcome
from worker.pipeline.batch_image import BatchImage

#: returns position -> outcome of those entries that have one
FirstOutcomes = Callable[[Collection[int]], Mapping[int, Outcome]]


def take_first_outcomes(
    images: Sequence[BatchImage], repeated: Mapping[int, int], first_outcomes: FirstOutcomes
) -> bool:
    """Fill in the outcomes of images whose position is in `repeated`, which maps it to that of the first entry.

    Return False if a first entry has no outcome yet.
    """
    outcomes = first_outcomes(set(repeated.values())) if images else {}
    for image in images:
        outcome = outcomes.get(repeated[image.position])
        if outcome is None:
            return False
        image.sha256, image.code, image.detail = outcome.sha256, outcome.error_code, outcome.error_detail
    return True
