"""Check the fields of one manifest row, in any manifest format, and make its path absolute."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from producer.sources.base import Problem, Row, shorten

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{,30})://|(data):", re.IGNORECASE)


def check_manifest_row(row: Row, source: str, folder: Path) -> Row | Problem:
    """Return the row with an absolute path or URL. A relative path starts at `folder`, which holds the manifest."""
    if message := _problem_with_fields(row):
        return Problem(f"{source}:{row.line}", message)
    if row.uri.startswith("/") or _SCHEME.match(row.uri):
        return row
    return row._replace(uri=f"{folder}/{row.uri}")


def _problem_with_fields(row: Row) -> str | None:
    if not row.image_key.strip():
        return "image_key is empty"
    if not row.uri.strip():
        return f"uri of {shorten(row.image_key)} is empty"
    scheme = _SCHEME.match(row.uri)
    if scheme is None:
        return None
    name = (scheme[1] or scheme[2]).lower()
    if name not in {"http", "https"}:
        return f"uri with {name!r} is not supported; write a path, http:// or https://"
    return None if _has_host(row.uri) else f"uri of {shorten(row.image_key)} names no host"


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False
