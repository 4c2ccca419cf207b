"""`Retry-After`, in seconds and as a date."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.sources.retry_after import seconds_to_wait

DATE = "Mon, 30 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Mon, 30 Nov 2026 12:00:07 GMT", 7.0),
        ("Monday, 30-Nov-26 12:00:07 GMT", 7.0),
        ("Mon Nov 30 12:00:07 2026", 7.0),
        ("Mon, 30 Nov 2026 13:00:07 +0100", 7.0),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("9" * 5000, None),
        ("Mon, 99 Nov 2026 12:00:07 GMT", None),
        ("Mon, 30 Nov 99999999999 12:00:07 GMT", None),
    ],
)
def test_what_a_server_asks_for(header: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(header, DATE) == seconds


def test_without_a_date_of_the_answer_the_own_clock_counts() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (seconds_to_wait(later) or 0) <= 60
