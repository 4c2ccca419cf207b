"""The gate of agreement: where the version in production has a result, too, the answers must mostly be the same."""

from sqlalchemy import Engine

from export.promotion.gate import Gate, failed, not_checked, passed
from tagmill.comparison.agreement import agreement
from tagmill.errors import InputError
from tagmill.registry.models import Model

AGREEMENT = "agreement"
#: least share of images with the same answer, unless --min-agreement says otherwise
FLOOR = 0.9
#: images below which the gate is checked only if --min-agreement asks for it
LEAST_IMAGES = 100


def agreement_gate(engine: Engine, chosen: Model, production: Model | None, floor: float | None) -> Gate:
    """Return whether a version agrees with the one in production. `floor` is what was asked for; None: the default."""
    if production is None:
        return not_checked(AGREEMENT, "no version is in production to compare it with")
    try:
        found = agreement(engine, production, chosen)
    except InputError as error:
        return not_checked(AGREEMENT, str(error)) if floor is None else failed(AGREEMENT, str(error))
    if found.share is None or (floor is None and found.images < LEAST_IMAGES):
        has = f"only {found.images:,} images have" if found.images else "no image has"
        said = f"{has} a result of both; try `tagmill model shadow {chosen.title} --share 10%` first"
        return not_checked(AGREEMENT, said) if floor is None else failed(AGREEMENT, said)
    least, (low, high) = FLOOR if floor is None else floor, found.interval
    said = f"{found.share:.1%} ({low:.1%} to {high:.1%}) of {found.images:,} images get what {production.title} gave"
    values = {"share": found.share, "images": found.images, "interval": [low, high], "floor": least}
    if found.share < least:
        said += f", below {least:.1%}; see `tagmill model diff {production.title} {chosen.title}`"
        return failed(AGREEMENT, said, **values)
    return passed(AGREEMENT, f"{said}, at least {least:.1%}", **values)
