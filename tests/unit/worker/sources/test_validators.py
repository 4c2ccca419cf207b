"""What an answer may be recognized by later on, and what could hide a change."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.sources.validators import Validators

DATE = "Mon, 30 Nov 2026 20:00:00 GMT"
OLD, YOUNG = "Mon, 30 Nov 2026 19:58:00 GMT", "Mon, 30 Nov 2026 19:59:30 GMT"


@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', '"abc-gzip"', '"a, b"', "5f-3a2", '"\xe9"'])
def test_an_etag_is_sent_back_as_it_came(etag: str) -> None:
    found = Validators.of_answer({"ETag": f" {etag}"})
    assert found.conditions() == {"If-None-Match": etag}


@pytest.mark.parametrize("etag", ["*", '""', '"a", "b"', '"a\r\n b"', '"' + 600 * "x" + '"', '"a', "w/abc, *", ""])
def test_what_is_no_single_etag_is_not_used(etag: str) -> None:
    assert not Validators.of_answer({"ETag": etag})


def test_last_modified_is_used_if_it_is_older_than_the_answer_by_a_minute() -> None:
    assert Validators.of_answer({"Last-Modified": OLD, "Date": DATE}).conditions() == {"If-Modified-Since": OLD}
    assert not Validators.of_answer({"Last-Modified": YOUNG, "Date": DATE})
    now = datetime.now(UTC)
    assert not Validators.of_answer({"Last-Modified": format_datetime(now, usegmt=True)})
    assert Validators.of_answer({"Last-Modified": format_datetime(now - timedelta(hours=1), usegmt=True)})


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Tue, 01 Jan 1980 00:00:00 GMT", "0", "yesterday"])
def test_a_date_that_says_nothing_is_not_used(date: str) -> None:
    assert not Validators.of_answer({"Last-Modified": date, "Date": DATE})


def test_an_answer_that_varies_by_anything_is_never_the_same() -> None:
    assert not Validators.of_answer({"ETag": '"abc"', "Vary": "Accept, *"})
    assert Validators.of_answer({"ETag": '"abc"', "Vary": "Accept"})
