"""The forms of TAGMILL_BROKER_URL: one Redis, several behind Sentinel, or a broker inside this process."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

#: Parameters that a URL with TLS may have behind its `?`. kombu passes each name on as an argument, and fails on an
#: unknown one only when it connects. redis:// takes none: with one of these, kombu would use TLS.
_TLS_PARAMETERS = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"}
    | {"ssl_check_hostname", "ssl_ciphers"}
)
_SENTINEL_PARAMETERS = frozenset({"master_name", "sentinel_username", "sentinel_password"})
#: what a URL may have behind its `?`, by its scheme
_PARAMETERS = {"redis": frozenset[str](), "rediss": _TLS_PARAMETERS, "sentinel": _SENTINEL_PARAMETERS | _TLS_PARAMETERS}
_FORM = "must be redis://:PASSWORD@HOST:PORT/NUMBER, the password percent-encoded"
_SENTINEL_FORM = (
    "must be sentinel://USER:PASSWORD@HOST:PORT;HOST:PORT;HOST:PORT/NUMBER?master_name=NAME with the hosts of the "
    "sentinels, the password percent-encoded"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:;,@/\[\]]+)(:(?P<port>[0-9]{1,5}))?")
SENTINEL_PORT = 26379


@dataclass(frozen=True)
class SentinelUrl:
    """A master that Sentinel knows, and how to log in to it and to the sentinels."""

    #: host and port of each sentinel
    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: the sentinels' own login; without one they need none
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    #: redis-py's ssl_... arguments for Redis and sentinels; none: no TLS
    tls: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    @property
    def first(self) -> str:
        """The URL of the first sentinel, with the login for Redis, as kombu and Flower take it."""
        login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        host, port = self.hosts[0]
        return f"sentinel://{login}{f'[{host}]' if ':' in host else host}:{port}/{self.database}"


def is_sentinel(url: str) -> bool:
    """Return whether a broker URL names sentinels."""
    return url.startswith("sentinel://")


def shown_hosts(url: str) -> str:
    """Return host and port of a valid URL of Redis, or those of its sentinels, without the login."""
    if is_sentinel(url):
        found = parse_sentinel_url(url)
        return f"{found.master} behind Sentinel at {', '.join(f'{host}:{port}' for host, port in found.hosts)}"
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def check_broker_url(url: str) -> str:
    """Return the URL. Raise ValueError, with what is wrong but no part of a password, if it is none of the forms."""
    scheme = url.partition("://")[0]
    if scheme == "sentinel":
        parse_sentinel_url(url)
        return url
    if scheme not in {"redis", "rediss", "memory"}:
        raise ValueError("must start with redis://, rediss://, sentinel:// or memory://")
    try:
        parts = urlsplit(url)
        wrong = scheme != "memory" and not re.fullmatch(r"/?[0-9]*", parts.path)
        _ = parts.port
    except ValueError:
        wrong = True
    # kombu would read what follows a `;` as another server, and drop what follows a `#`.
    if wrong or ";" in url or "#" in url:
        raise ValueError(_FORM)
    _parameters(scheme, parts, tls=scheme == "rediss")
    return url


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Return what a URL of sentinels says. Raise ValueError as `check_broker_url`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_SENTINEL_FORM) from None
    login, _, hosts = parts.netloc.rpartition("@")
    found = [_HOST.fullmatch(host) for host in hosts.split(";")]
    ports = [int(match["port"] or SENTINEL_PORT) for match in found if match]
    if "#" in url or not all(found) or max(ports) > 65535 or not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError(_SENTINEL_FORM)
    names = [match["host"].strip("[]") for match in found if match]
    given = _parameters("sentinel", parts, tls="ssl_" in parts.query)
    if not given.get("master_name"):
        raise ValueError("names no master; add ?master_name=NAME, the name in `sentinel monitor NAME ...`")
    username, _, password = (unquote(part) for part in login.partition(":"))
    tls = {name: value for name, value in given.items() if name in _TLS_PARAMETERS}
    return SentinelUrl(
        tuple(zip(names, ports, strict=True)),
        given["master_name"],
        int(parts.path.strip("/") or 0),
        username or None,
        password or None,
        given.get("sentinel_username") or None,
        given.get("sentinel_password") or None,
        tuple((name, _flag(value) if name == "ssl_check_hostname" else value) for name, value in tls.items()),
    )


def _parameters(scheme: str, parts: SplitResult, *, tls: bool) -> dict[str, str]:
    """Return what is behind the `?`. With `tls`, it must have certificates checked."""
    given = parse_qsl(parts.query, keep_blank_values=True)
    known: frozenset[str] = _PARAMETERS.get(scheme, frozenset())
    if {name for name, _ in given} - known:  # not named: it may be the rest of a password
        takes = "takes " + ", ".join(sorted(known)) if known else "takes none; TLS is rediss://"
        raise ValueError(f"has an unknown parameter behind its `?`; {scheme}:// {takes}")
    # By default redis-py does not check the certificate. Of a name given twice, it is undefined which one counts.
    if tls and _values(given, "ssl_cert_reqs") != ["required"]:
        start, mark = (f"{scheme}://", "?") if scheme == "rediss" else (f"{scheme}:// with TLS", "&")
        raise ValueError(f"is {start} without certificate checking; add {mark}ssl_cert_reqs=required&ssl_ca_certs=FILE")
    return dict(given)


def _values(given: Sequence[tuple[str, str]], name: str) -> list[str]:
    return [text for other, text in given if other == name]


def _flag(value: str) -> bool:
    return value.lower() not in {"0", "false", "no", "off"}
