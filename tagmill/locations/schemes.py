"""Where an image or a manifest may be: a path of this machine, or a URL of a scheme in the table here."""

import re
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote

#: how an absolute path begins: a file of this machine
LOCAL = "/"


class Kind(StrEnum):
    """What reads the locations of a scheme."""

    #: urllib3, see `worker.sources.http_source`
    WEB = "web"
    #: obstore, see `tagmill.stores.object_store`
    OBJECT_STORE = "object store"
    #: fsspec, see `tagmill.stores.file_system`
    FILE_SYSTEM = "file system"


#: The table of schemes. A new one is a line here; of a file system also one in `tagmill.stores.file_system.PACKAGES`.
SCHEMES: dict[str, Kind] = {
    "http": Kind.WEB,
    "https": Kind.WEB,
    "s3": Kind.OBJECT_STORE,
    "gs": Kind.OBJECT_STORE,
    "az": Kind.OBJECT_STORE,
    "ftp": Kind.FILE_SYSTEM,
    "sftp": Kind.FILE_SYSTEM,
    "smb": Kind.FILE_SYSTEM,
    "webhdfs": Kind.FILE_SYSTEM,
    "hf": Kind.FILE_SYSTEM,
}
#: schemes of the URLs that workers fetch over HTTP
FETCHED = frozenset(scheme for scheme, kind in SCHEMES.items() if kind is Kind.WEB)
#: schemes of object stores and file systems, which only those locations are read of that are allowed
STORED = frozenset(SCHEMES) - FETCHED

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{,30})://|(data):", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{,254}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{,252})|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
#: control characters: object stores refuse them, and so does SQL
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class StoredLocation(NamedTuple):
    """A location in an object store or a file system. The key is literal: a percent sign or a `?` is part of it."""

    scheme: str
    #: bucket, container or host
    root: str
    #: path below the root, without a slash at its start; may be empty or end in a slash if it is a prefix
    key: str

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the key between slashes."""
        return tuple(self.key.rstrip("/").split("/")) if self.key.rstrip("/") else ()

    @property
    def is_file(self) -> bool:
        """Whether the key may be that of a file or an object."""
        return bool(self.key) and not self.key.endswith("/")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.root}/{self.key}"


def is_local(uri: str) -> bool:
    """Return whether a location is an absolute path."""
    return uri.startswith(LOCAL)


def is_fetched(uri: str) -> bool:
    """Return whether a location is read over HTTP."""
    return scheme_of(uri) in FETCHED


def is_stored(uri: str) -> bool:
    """Return whether a location is in an object store or a file system of the table."""
    return SCHEMES.get(url_scheme(uri) or "", Kind.WEB) is not Kind.WEB


def scheme_of(uri: str) -> str | None:
    """Return what is before the first colon, in lower case, if it can be a scheme; else None."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else None


def url_scheme(text: str) -> str | None:
    """Return the scheme of a URL in lower case, None for a path: a relative path may hold a colon, but no `://`."""
    found = _URL.match(text)
    return (found[1] or found[2]).lower() if found else None


def parse_stored(uri: str) -> StoredLocation:
    """Split a location of an object store or a file system. Raise ValueError, which says in words what is wrong.

    The key has no part that is empty, `.` or `..`, also not percent-encoded: what is below a prefix stays below it.
    """
    scheme, _, rest = uri.partition("://")
    root, _, key = rest.partition("/")
    scheme = scheme.lower()
    if "@" in root:
        raise ValueError("holds a login; put credentials into the environment instead")
    is_bucket = SCHEMES[scheme] is Kind.OBJECT_STORE
    if not (_BUCKET if is_bucket else _HOST).fullmatch(root):
        raise ValueError(f"names no {'bucket' if is_bucket else 'host'}")
    found = StoredLocation(scheme, root if is_bucket or scheme == "hf" else root.lower(), key)
    if _CONTROL.search(key):
        raise ValueError("holds a control character")
    for text in (key, unquote(key)):
        if any(part in {".", ".."} for part in re.split(r"[/\\]", text)):
            raise ValueError("holds a part `.` or `..`")
    if "" in found.segments or key.endswith("//"):
        raise ValueError("holds an empty part, `//`")
    return found
