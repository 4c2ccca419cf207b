"""Which results are wanted: of which runs and models, which images, and which of their labels."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tagmill.errors import InputError
from tagmill.where import Where

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class ResultQuery:
    """Which results are wanted. No runs: what the catalog shows now."""

    runs: tuple[int, ...] = ()
    #: NAME or NAME@VERSION; none: all models
    models: tuple[str, ...] = ()
    #: only images with one of these labels
    labels: tuple[str, ...] = ()
    #: only images whose entries fulfill these conditions
    where: Where = field(default_factory=Where)
    #: a run (its id as text), a time in ISO 8601, or an age such as 2d
    since: str | None = None
    #: leave out labels and masks of a lower score
    min_score: float | None = None
    #: leave out labels and masks below the threshold that training suggested for the label
    thresholds: bool = False
    #: only images that failed
    failed: bool = False
    #: leave logins and signatures in URLs, so that another program can fetch them
    full_urls: bool = False


def since_run(since: str) -> int | None:
    """Return the run that `--since` names, or None if it is a time."""
    return int(since) if since.isascii() and since.isdecimal() and len(since) < 10 else None


def since_time(since: str, now: float) -> float:
    """Return the time that `--since` names, in Unix seconds. Without an offset, it is in UTC. Raise InputError."""
    if ago := _AGO.fullmatch(since.strip().lower()):
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        found = datetime.fromisoformat(since.strip())
    except ValueError:
        raise InputError(
            f"--since {since}: give a run, an age such as 12h or 2d, or a time such as 2026-11-30T18:00:00+09:00"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def names_model(wanted: Iterable[str], name: str, version: int) -> bool:
    """Return whether a model is one of NAME or NAME@VERSION."""
    return any(one in {name, f"{name}@{version}"} for one in wanted)
