"""Open the file systems of other machines that fsspec reads, such as sftp://, each with one connection per thread.

Logins come from the environment alone, as fsspec reads it: `FSSPEC_SFTP_USERNAME`, `FSSPEC_SFTP_PASSWORD`; of Hugging
Face, `HF_TOKEN`.
"""

import ftplib
import threading
from collections.abc import Mapping
from typing import Any

from tagmill.errors import ConfigurationError
from tagmill.locations.schemes import StoredLocation

#: scheme -> the package that fsspec needs for it; None if it needs none
PACKAGES: Mapping[str, str | None] = {
    "ftp": None,
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "webhdfs": "requests",
    "hf": "huggingface_hub",
}
#: schemes whose locations begin with a host, not with a part of the path
_WITH_HOST = frozenset({"ftp", "sftp", "smb", "webhdfs"})

#: of each thread: (scheme, root) -> file system. Most connections serve one thread at a time.
_opened = threading.local()


def open_file_system(scheme: str, root: str) -> Any:
    """Return the file system of a scheme and host, an `fsspec.AbstractFileSystem`, for this thread.

    Raise ConfigurationError if a package is not installed, and whatever the library raises if there is no connection.
    """
    opened: dict[tuple[str, str], Any] = _opened.__dict__.setdefault("file_systems", {})
    found = opened.get((scheme, root))
    if found is None:
        found = opened[scheme, root] = _open(scheme, root)
    return found


def forget_file_system(scheme: str, root: str) -> None:
    """Have the next call of this thread open a new connection."""
    _opened.__dict__.get("file_systems", {}).pop((scheme, root), None)


def path_of(location: StoredLocation) -> str:
    """Return the path of a location in its file system."""
    if location.scheme not in PACKAGES:  # a file system that fsspec knows and images are not read from
        return str(_class_of(location.scheme)._strip_protocol(str(location)))
    return f"/{location.key}" if location.scheme in _WITH_HOST else f"{location.root}/{location.key}"


def words_for(error: Exception) -> str:
    """Return why a file system failed; messages of libraries may hold a login."""
    if isinstance(error, ftplib.error_perm):
        return "access denied"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _open(scheme: str, root: str) -> Any:
    kind = _class_of(scheme)
    # Only the host is taken from the URL: chains of file systems, logins and options in URLs have no effect.
    with_host = scheme in _WITH_HOST or scheme not in PACKAGES
    options: dict[str, Any] = kind._get_kwargs_from_urls(f"{scheme}://{root}/") if with_host else {}
    if scheme != "sftp":  # it keeps no listings, and passes what it does not know on to paramiko
        options["use_listings_cache"] = False
    return kind(**options, skip_instance_cache=True)


def _class_of(scheme: str) -> Any:
    """Return the class of fsspec. Raise ConfigurationError if there is none, or a package of it is not installed."""
    packages = " ".join(filter(None, ("fsspec", PACKAGES.get(scheme))))
    try:
        import fsspec

        return fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise ConfigurationError(f"{scheme}:// is no file system that fsspec knows") from error
    except ImportError as error:
        raise ConfigurationError(f"{scheme}:// needs further packages; pip install {packages}") from error
