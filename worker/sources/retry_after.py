"""How long a server asks to wait: `Retry-After`, in seconds or as a date."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"([0-9]{1,9})(\.[0-9]+)?")


def seconds_to_wait(retry_after: str | None, date: str | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None if there is none that can be read.

    `date` is the answer's own `Date`, from which a date counts: the server's clock may be wrong.
    """
    text = (retry_after or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    until = moment_of(text)
    if until is None:
        return None
    return max(0.0, (until - (moment_of(date or "") or datetime.now(UTC))).total_seconds())


def moment_of(text: str) -> datetime | None:
    """Return the moment that a date of HTTP names; None if it cannot be read."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
