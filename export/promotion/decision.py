"""Whether the gates of a promotion let a version into production."""

from collections.abc import Sequence

from export.promotion.accuracy import ACCURACY
from export.promotion.agreement import AGREEMENT
from export.promotion.gate import Gate, GateFailedError, GateStatus
from tagmill.registry.models import Model

#: the gates that compare a version with the one that it replaces: one of them must have been checked
COMPARISONS = (ACCURACY, AGREEMENT)


def decide(chosen: Model, production: Model | None, gates: Sequence[Gate], *, force: bool) -> list[str]:
    """Return the names of the gates that are overridden with `force`. Raise GateFailedError if one stops the promotion.

    A gate stops it that failed. Where a version is replaced, both comparisons do if neither was checked.
    """
    failed = [gate.name for gate in gates if gate.status is GateStatus.FAILED]
    checked = {gate.name for gate in gates if gate.status is not GateStatus.NOT_CHECKED}
    unchecked = [] if production is None or checked.intersection(COMPARISONS) else list(COMPARISONS)
    if force or not failed + unchecked:
        return failed + unchecked
    reasons = [f"{', '.join(failed)} failed; mend it"] if failed else []
    if unchecked and production is not None:
        trial = f"labelset apply {chosen.title}" if chosen.is_label_set else f"model shadow {chosen.title} --share 10%"
        test_set = "" if chosen.is_label_set else "name labeled images with --test-set, or "
        reasons.append(
            f"neither accuracy nor agreement with {production.title} was checked; {test_set}get results of it first: "
            f"tagmill {trial}"
        )
    raise GateFailedError(
        f"{chosen.title} is not promoted: {'; '.join(reasons)}, or override it with --force --reason TEXT"
    )
