"""Where a redirect leads, read as browsers read it."""

import re
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from tagmill.locations.schemes import FETCHED

#: statuses that lead elsewhere. The request is a GET, so they all mean the same
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: redirects of one image, as many as browsers follow
MAX_REDIRECTS = 20

_PORTS = {"http": 80, "https": 443}
_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))
#: bytes that a browser percent-encodes
_UNSAFE = re.compile(rb"[^!#-;=?-\]_a-z|~]")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NO_HOST = re.compile(r"[\x00- \"#%/:<>?@\[\\\]^`{|}\x7f]")
_ABSOLUTE = re.compile(r"(https?):(/*)", re.IGNORECASE)


def redirected(url: str, location: str) -> str:
    """Return the URL that a `Location` header leads to. Raise ValueError if it is not a URL.

    `location` is the header as `http.client` decodes it: one character for each byte. A fragment is dropped. The login
    in `url` is kept for the same server only.
    """
    base = urlsplit(url)
    text = re.sub(r"[\t\r\n]", "", location.strip(_CONTROL_OR_SPACE)).partition("#")[0]
    path, mark, query = text.partition("?")
    path = re.sub(r"^/{3,}", "//", path.replace("\\", "/"))
    if (absolute := _ABSOLUTE.match(path)) and (absolute[2] or absolute[1].lower() != base.scheme.lower()):
        path = f"{absolute[1]}://{path[absolute.end() :]}"
    escaped = _UNSAFE.sub(lambda byte: b"%%%02X" % byte[0][0], (path + mark + query).encode("latin-1", "replace"))
    target = urlsplit(urljoin(url, with_percents_escaped(escaped.decode())))
    if target.scheme not in FETCHED:
        return target.geturl()
    if not target.hostname:
        raise ValueError("no host")
    login = target.netloc.rpartition("@")[0] or (base.netloc.rpartition("@")[0] if _same_server(base, target) else "")
    host = f"[{target.hostname}]" if ":" in target.hostname else unquote(target.hostname, errors="strict")
    if ":" not in target.hostname and _NO_HOST.search(host):
        raise ValueError("not a host name")
    port = "" if target.port is None else f":{target.port}"
    return target._replace(netloc=f"{login}{'@' if login else ''}{host}{port}").geturl()


def with_percents_escaped(url: str) -> str:
    """Return a URL with `%25` for each percent sign that begins no percent-encoded byte."""
    return _BARE_PERCENT.sub("%25", url)


def _same_server(one: SplitResult, other: SplitResult) -> bool:
    """Return whether a login for one URL may be sent to the other: to the same server, or to its TLS port."""
    first, second = ((url.scheme, url.port or _PORTS.get(url.scheme)) for url in (one, other))
    return one.hostname == other.hostname and (first == second or (first, second) == (("http", 80), ("https", 443)))
