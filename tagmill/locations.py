"""Where an image may be: a path of this machine, or a URL of a scheme that workers fetch."""

import re

#: how an absolute path begins: a file of this machine
LOCAL = "/"
#: schemes of the URLs that workers fetch
FETCHED = frozenset({"http", "https"})

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{,30})://|(data):", re.IGNORECASE)


def is_local(uri: str) -> bool:
    """Return whether a location is an absolute path."""
    return uri.startswith(LOCAL)


def scheme_of(uri: str) -> str | None:
    """Return what is before the first colon, in lower case, if it can be a scheme; else None."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else None


def url_scheme(text: str) -> str | None:
    """Return the scheme of a URL in lower case, None for a path: a relative path may hold a colon, but no `://`."""
    found = _URL.match(text)
    return (found[1] or found[2]).lower() if found else None
