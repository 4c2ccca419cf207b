"""The further columns of an entry, such as brand and price: one JSON object as text, stored in `entry.extra`."""

import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

#: bytes of the JSON text of one entry
MAX_EXTRA_BYTES = 16 * 2**10


def make_extra(columns: Mapping[str, Any]) -> str | None:
    """Return the JSON text of these columns, or None if all of them are null. What JSON lacks is converted: `clean`."""
    kept = {clean_text(name): value for name, found in columns.items() if (value := clean(found)) is not None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"), allow_nan=False) if kept else None


def parse_extra(text: str | None) -> dict[str, Any]:
    """Return the columns of an entry by name, in the order of its manifest; empty if it has none."""
    columns: dict[str, Any] = json.loads(text) if text else {}
    return columns


def problem_with_extra(text: str | None) -> str | None:
    """Return why the further columns of an entry are not stored, or None if they can be."""
    # A character has 4 bytes at most, and most texts are short.
    if text is None or len(text) <= MAX_EXTRA_BYTES // 4 or (size := len(text.encode())) <= MAX_EXTRA_BYTES:
        return None
    return f"its other columns have {size} bytes, allowed are {MAX_EXTRA_BYTES}: add --no-extra to leave them out"


def text_of(value: Any) -> str:
    """Return a JSON value as text for a cell or a comparison: null is empty, true is `true`, a list is its JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def clean(value: Any) -> Any:
    """Return the JSON value for a value of a table.

    NaN, infinity and bytes become None, dates and times ISO 8601, decimals and durations (in seconds) numbers. What
    JSON does not know becomes its text.
    """
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean_text(str(name)): clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item) for item in value]
    return _clean_scalar(value)


def clean_text(text: str) -> str:
    """Return the text without NUL, which SQL cannot store, and with U+FFFD for what UTF-8 cannot express."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _clean_scalar(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() and abs(value) < 2**63 else float(value)
    return clean_text(str(value))
