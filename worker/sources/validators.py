"""What a server recognizes bytes by, and an answer that says whether they changed (RFC 9110, section 13)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.sources.retry_after import moment_of

#: least time between `Last-Modified` and the answer: a second change within its one second would not be noticed, and
#: the two times may come from different clocks
RACY = timedelta(seconds=60)
#: Some servers give all files one date, such as 1970 or 1980: it says nothing.
OLDEST = datetime(1990, 1, 1, tzinfo=UTC)
#: characters of a validator
LONGEST = 512

#: a quoted ETag, strong or weak, or one without the quotes that it should have; not `*`, which means any
_ETAG = re.compile(r"""(W/)?"[\x20\x21\x23-\x7e\x80-\xff]+"|[\w.:+/=-]+""", re.ASCII)


@dataclass(frozen=True)
class Validators:
    """An `ETag` and a `Last-Modified` as the server wrote them. Without either, nothing can be asked."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return self.etag is not None or self.last_modified is not None

    def conditions(self) -> dict[str, str]:
        """Return the request headers that ask for the bytes only if they are not those with these validators."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value is not None}

    def without_date(self) -> "Validators":
        """Return the ETag alone."""
        return Validators(self.etag)

    @classmethod
    def of_answer(cls, headers: Mapping[str, str]) -> "Validators":
        """Return what may be asked with later on: nothing that could hide a change."""
        if "*" in headers.get("Vary", ""):
            return cls()
        return cls(_etag(headers.get("ETag", "")), _last_modified(headers))


@dataclass(frozen=True)
class Answer:
    """The bytes of a location, or None if they have the validators that were asked with; and what they have now."""

    data: bytes | None
    validators: Validators = Validators()

    def without_date(self) -> "Answer":
        """Return the answer with its ETag alone."""
        return Answer(self.data, self.validators.without_date())


def _etag(text: str) -> str | None:
    text = text.strip()
    return text if len(text) <= LONGEST and _ETAG.fullmatch(text) else None


def _last_modified(headers: Mapping[str, str]) -> str | None:
    text = headers.get("Last-Modified", "").strip()
    modified = moment_of(text) if len(text) <= LONGEST and text.isascii() and text.isprintable() else None
    answered = moment_of(headers.get("Date", "")) or datetime.now(UTC)
    return text if modified is not None and OLDEST <= modified <= answered - RACY else None
