"""Further columns of an entry as JSON text."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tagmill.extra import MAX_EXTRA_BYTES, make_extra, parse_extra, problem_with_extra, text_of


def test_values_keep_their_types_and_what_json_lacks_is_converted() -> None:
    columns = {
        "text": "é\0\udce9",
        "count": 3,
        "flag": True,
        "share": 0.5,
        "nan": float("nan"),
        "bytes": b"x",
        "day": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "took": timedelta(seconds=90),
        "price": Decimal("12.50"),
        "pieces": Decimal("3.00"),
        "list": [1, float("inf"), {"a": None}],
    }
    assert parse_extra(make_extra(columns)) == {
        "text": "é\ufffd\ufffd\ufffd",
        "count": 3,
        "flag": True,
        "share": 0.5,
        "day": "2026-01-02",
        "at": "2026-01-02T03:00:00+00:00",
        "took": 90.0,
        "price": 12.5,
        "pieces": 3,
        "list": [1, None, {"a": None}],
    }


def test_no_columns_are_no_text() -> None:
    assert make_extra({}) is None
    assert make_extra({"a": None}) is None
    assert parse_extra(None) == {}


def test_too_much_is_a_problem_that_names_the_option() -> None:
    assert problem_with_extra(make_extra({"a": "x" * 1000})) is None
    assert problem_with_extra(None) is None
    message = problem_with_extra(make_extra({"a": "é" * (MAX_EXTRA_BYTES // 2)}))
    assert message is not None
    assert "16392 bytes" in message
    assert "--no-extra" in message


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "true"), ("a", "a"), (1, "1"), (0.5, "0.5"), ([1, "é"], '[1,"é"]')]
)
def test_a_value_as_text(value: object, text: str) -> None:
    assert text_of(value) == text
