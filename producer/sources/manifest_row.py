"""Check the fields of one manifest row, in any manifest format, and make its path absolute."""

from pathlib import Path
from urllib.parse import urlsplit

from producer.sources.base import Problem, Row, shorten
from tagmill.url_schemes import FETCHED, is_local, url_scheme


def check_manifest_row(row: Row, source: str, folder: Path) -> Row | Problem:
    """Return the row with an absolute path or URL. A relative path starts at `folder`, which holds the manifest."""
    if message := _problem_with_fields(row):
        return Problem(f"{source}:{row.line}", message)
    if is_local(row.uri) or url_scheme(row.uri):
        return row
    return row._replace(uri=f"{folder}/{row.uri}")


def _problem_with_fields(row: Row) -> str | None:
    if not row.image_key.strip():
        return "image_key is empty"
    if not row.uri.strip():
        return f"uri of {shorten(row.image_key)} is empty"
    scheme = url_scheme(row.uri)
    if scheme is None:
        return None
    if scheme not in FETCHED:
        return f"uri with {scheme!r} is not supported; write a path, http:// or https://"
    return None if _has_host(row.uri) else f"uri of {shorten(row.image_key)} names no host"


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False
