"""Why a request failed, as an image's outcome: without logins, and with what may succeed later told apart."""

from urllib.parse import urlsplit

from urllib3 import exceptions as http_errors

from tagmill.locations.redact import shown_uri
from tagmill.locations.schemes import is_stored
from tagmill.outcomes import ErrorCode, ImageFailure, printable


class TransientFailure(ImageFailure):
    """A failure that may not happen again in another attempt."""

    def __init__(self, code: ErrorCode, detail: str, retry_after: float | None = None) -> None:
        """`retry_after` is how many seconds the server asks to wait."""
        super().__init__(code, detail)
        self.retry_after = retry_after


class BusyFailure(TransientFailure):
    """A host refused because it is asked too much."""


def without_secrets(url: str) -> str:
    """Return scheme, host and path of a URL for messages: no login, no query, nothing that SQL cannot store.

    In a location of a store, a `?` or a `#` is part of the name.
    """
    if is_stored(url):
        return printable(shown_uri(url))
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError if an unquoted slash in a password moved the host
    except ValueError:
        return "the URL"
    return ascii(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300])[1:-1]


def explain(error: http_errors.HTTPError, url: str, timeout: float) -> ImageFailure:
    """Return the failure that an error of urllib3 means."""
    location = without_secrets(url)
    if isinstance(error, http_errors.LocationValueError):
        return ImageFailure(ErrorCode.UNSUPPORTED_LOCATION, f"{location}: is not a valid URL")
    if isinstance(error, http_errors.NameResolutionError):
        return ImageFailure(ErrorCode.FETCH_FAILED, f"{location}: the host name does not resolve")
    if isinstance(error, (http_errors.ProtocolError, http_errors.NewConnectionError)):
        return TransientFailure(ErrorCode.FETCH_FAILED, f"{location}: the connection failed: {_root_cause(error)}")
    # After NewConnectionError, which is a subclass of urllib3's TimeoutError.
    if isinstance(error, (http_errors.TimeoutError, http_errors.EmptyPoolError)):
        return ImageFailure(ErrorCode.FETCH_TIMEOUT, f"{location}: no complete answer within {timeout:g} s")
    if isinstance(error, http_errors.SSLError):
        return ImageFailure(ErrorCode.FETCH_FAILED, f"{location}: TLS failed: {_root_cause(error)}")
    return ImageFailure(ErrorCode.FETCH_FAILED, f"{location}: not valid HTTP: {type(error).__name__}")


def _root_cause(error: BaseException) -> str:
    """Return the innermost reason, without messages that could contain a URL."""
    for inner in (error.__cause__, *error.args):
        if isinstance(inner, BaseException):
            return _root_cause(inner)
    verify = getattr(error, "verify_message", None)
    return str(verify or getattr(error, "strerror", None) or type(error).__name__)
