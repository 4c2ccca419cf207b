"""Locations as people see them: without logins, signatures and tokens. SQL keeps what a worker needs to fetch them."""

import re
from urllib.parse import unquote

#: what stands in place of a secret
HIDDEN = "***"

#: parts of the names of query parameters that hold secrets, such as X-Amz-Signature or access_token
_PARTS = re.compile(
    r"signature|credential|token|secret|passw|access-?_?key|accessid|api-?_?key|session-?_?id|private-?_?key"
)
#: whole names: `sig` is Azure's, `hdnea` Akamai's, `Policy` and `Key-Pair-Id` are CloudFront's, `q-ak` is Tencent's
_NAMES = frozenset(
    {"sig", "hmac", "auth", "authorization", "jwt", "pwd", "pass", "policy", "key-pair-id", "q-ak", "session"}
    | {"hdnea", "hdnts", "hdntl", "bearer", "ticket", "phpsessid"}
)
#: values that are secrets under any name: JSON Web Tokens, and keys of Google and AWS
_VALUES = re.compile(r"eyJ[\w-]{10,}\.[\w-]+|AIza[\w-]{30,}|(?:AKIA|ASIA)[A-Z0-9]{12,}")
_PARAMETER = re.compile(r"([?&;#])([^?&;#=]+)=([^?&;#]+)")
_AUTHORITY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#\\]*)(.*)", re.DOTALL)
_PORT = re.compile(r"[^:]*|.*:[0-9]*|\[[^\]]*\](?::[0-9]*)?")


def shown_uri(uri: str) -> str:
    """Return a location with `***` for its login and for secret values of its query. A path is returned as it is."""
    found = _AUTHORITY.fullmatch(uri)
    if found is None:
        return uri
    scheme, authority, rest = found.groups()
    login, at, host = authority.rpartition("@")
    if not at and not _PORT.fullmatch(authority) and "@" in rest:
        # An unquoted slash or question mark in a password moved the `@` out of the authority.
        return f"{scheme}{HIDDEN}@{_without_secrets(rest.rpartition('@')[2])}"
    return f"{scheme}{HIDDEN if login else ''}{at}{host}{_without_secrets(rest)}"


def _without_secrets(rest: str) -> str:
    return _PARAMETER.sub(_hide, rest)


def _hide(parameter: re.Match[str]) -> str:
    mark, name, value = parameter.groups()
    plain = unquote(name).strip().lower()
    secret = plain in _NAMES or _PARTS.search(plain) or _VALUES.search(unquote(value))
    return f"{mark}{name}={HIDDEN}" if secret else parameter[0]
