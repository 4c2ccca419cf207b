"""Check the fields of one manifest row, in any manifest format, and make its path absolute."""

import posixpath
import re
from urllib.parse import urlsplit

from producer.sources.base import Problem, Row, shorten
from tagmill.locations.disk_spelling import DiskSpelling
from tagmill.locations.schemes import SCHEMES, is_local, is_stored, parse_stored, url_scheme
from tagmill.text import normalize, trim

#: most URLs: nothing about them is wrong or changed, which takes a third of the time to tell
_USUAL_URL = re.compile(r"https?://[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?(?:[/?#][!-~]*)?")


def check_manifest_row(row: Row, source: str, folder: str, spelling: DiskSpelling | None = None) -> Row | Problem:
    """Return the row with its key in NFC and an absolute path or URL, without spaces around them.

    A relative path starts at `folder`, which holds the manifest. `spelling` finds files that the disk spells
    differently.
    """
    if _USUAL_URL.fullmatch(row.uri) and (key := normalize(row.image_key)):
        return row if key == row.image_key else row._replace(image_key=key)
    uri = trim(row.uri)
    checked = Row(row.line, normalize(row.image_key), uri, row.extra)
    if message := _problem_with_fields(checked):
        return Problem(f"{source}:{row.line}", message)
    if url_scheme(uri):
        return checked
    if is_stored(folder) and not is_local(uri):
        return _below_prefix(checked, source, folder)
    path = uri if is_local(uri) else f"{folder}/{uri}"
    # Another spelling is possible only for characters beyond ASCII, and for spaces that were cut off.
    if spelling and not (uri.isascii() and uri == row.uri):
        path = spelling.find(path)
    return checked._replace(uri=path)


def _below_prefix(row: Row, source: str, prefix: str) -> Row | Problem:
    """Return a row whose location is relative to a prefix of a store, with all of it."""
    base = parse_stored(prefix)
    key = posixpath.normpath(f"{base.key}/{row.uri}").removeprefix("/")
    found = row._replace(uri=str(base._replace(key=key)))
    message = _problem_with_stored(found)
    return Problem(f"{source}:{row.line}", message) if message else found


def _problem_with_fields(row: Row) -> str | None:
    if not row.image_key:
        return "image_key is empty"
    if not row.uri:
        return f"uri of {shorten(row.image_key)} is empty"
    scheme = url_scheme(row.uri)
    if scheme is None:
        return None
    if scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        return f"uri with {scheme!r} is not supported; write a path, or one of {known}"
    if is_stored(row.uri):
        return _problem_with_stored(row)
    return None if _has_host(row.uri) else f"uri of {shorten(row.image_key)} names no host"


def _problem_with_stored(row: Row) -> str | None:
    try:
        names_file = parse_stored(row.uri).is_file
    except ValueError as error:
        return f"uri of {shorten(row.image_key)} {error}"
    return None if names_file else f"uri of {shorten(row.image_key)} names a folder"


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False
