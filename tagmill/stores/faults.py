"""Errors of object stores and file systems as OSError: which kind it is says what to do.

| raised | means |
|---|---|
| FileNotFoundError | there is no such object, file or bucket |
| PermissionError | access is denied, or there are no credentials |
| ConnectionError | the store does not answer, or not now: it may in another attempt |
| OSError | anything else |
"""

import errno
import ftplib
from collections.abc import Iterator
from contextlib import contextmanager

from tagmill.errors import ConfigurationError
from tagmill.stores.file_system import words_for
from tagmill.stores.object_store import StoreFault, explain

_KINDS: dict[StoreFault, type[OSError]] = {
    StoreFault.NOT_FOUND: FileNotFoundError,
    StoreFault.DENIED: PermissionError,
    StoreFault.TIMED_OUT: ConnectionError,
    StoreFault.BUSY: ConnectionError,
    StoreFault.TRANSIENT: ConnectionError,
}
#: errors of a server's disk and paths, which another attempt does not change
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}


def object_store_error(error: Exception, *, writing: bool = False) -> OSError:
    """Return what an error of obstore means. With `writing`, it came from writing objects."""
    fault, said = explain(error, writing=writing)
    return _KINDS.get(fault, OSError)(said)


@contextmanager
def file_system_errors() -> Iterator[None]:
    """Raise what a library of fsspec raises in the block as OSError. ConfigurationError passes."""
    try:
        yield
    except ConfigurationError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError("no such file") from None
    except Exception as error:  # each library has errors of its own
        raise _kind_of(error)(words_for(error)) from None


def _kind_of(error: Exception) -> type[OSError]:
    if isinstance(error, (PermissionError, ftplib.error_perm)) or "Auth" in type(error).__name__:
        return PermissionError
    return OSError if getattr(error, "errno", None) in _LASTING else ConnectionError
