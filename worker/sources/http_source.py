"""Fetch one image over HTTP from a checked address, within a deadline and a size limit."""

import base64
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urljoin, urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3 import exceptions as http_errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util import parse_url
from urllib3.util.connection import create_connection

from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.url_schemes import FETCHED
from worker.sources.public_address import is_public

MAX_REDIRECTS = 5
#: further attempts after a 5xx or a broken connection
MAX_RETRIES = 2
#: seconds before the first retry; three times as long before the second
BACKOFF = 0.2

_CHUNK_BYTES = 64 * 2**10
_REDIRECTS = {301, 302, 303, 307, 308}
_GONE = {404, 410}

#: whether a numeric address may be connected to
MayConnect = Callable[[str], bool]


class _TransientFailure(ImageFailure):
    """A failure that may not happen again in another attempt."""


class HttpReader:
    """Reads URLs through pooled connections, without proxies, cookies or netrc. One instance serves all threads.

    The deadline covers everything except resolving a host name, which has the resolver's own timeouts.
    """

    def __init__(self, max_bytes: int, timeout: float, connections: int, *, allow_private_hosts: bool = False) -> None:
        """`connections` is how many may be open to one host."""
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._pools = PoolManager(num_pools=32, maxsize=connections, block=True)
        self._pools.pool_classes_by_scheme = _pool_classes((lambda _: True) if allow_private_hosts else is_public)

    def read(self, url: str) -> bytes:
        """Return the body. Raise ImageFailure; its detail contains neither the login nor the query of the URL."""
        deadline = time.monotonic() + self._timeout
        for attempt in range(MAX_RETRIES + 1):
            try:
                return self._follow(url, deadline)
            except _TransientFailure:
                # With jitter: otherwise all threads of a batch would retry an overloaded server at the same time.
                pause = BACKOFF * 3**attempt * random.uniform(0.75, 1.25)
                if attempt == MAX_RETRIES or time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _follow(self, url: str, deadline: float) -> bytes:
        first = url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get(url, deadline)
            complete = False
            try:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    body = self._body(response, url, deadline)
                    complete = True
                    return body
                url = _redirected(url, location)
            finally:
                if not complete:
                    response.close()
                response.release_conn()
        raise ImageFailure(ErrorCode.FETCH_FAILED, f"{without_secrets(first)}: more than {MAX_REDIRECTS} redirects")

    def _get(self, url: str, deadline: float) -> BaseHTTPResponse:
        with self._translated(url, deadline):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise http_errors.TimeoutError
            return self._pools.urlopen(
                "GET",
                url,
                headers=_request_headers(url),
                redirect=False,
                retries=False,
                timeout=Timeout(total=remaining),
                pool_timeout=remaining,
                preload_content=False,
                decode_content=False,
            )

    def _body(self, response: BaseHTTPResponse, url: str, deadline: float) -> bytes:
        _check_status(response, url)
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:19]) > self._max_bytes:
            raise self._too_many_bytes(url)
        chunks: list[bytes] = []
        size = 0
        with self._translated(url, deadline), _cut_after(deadline - time.monotonic(), response.shutdown):
            # Not `stream`: it accepts a chunk-size line of any length.
            while chunk := response.read(min(_CHUNK_BYTES, self._max_bytes + 1)):
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_many_bytes(url)
                chunks.append(chunk)
            if time.monotonic() >= deadline:  # a cut-off body without a length looks complete
                raise http_errors.TimeoutError
        return b"".join(chunks)

    def _too_many_bytes(self, url: str) -> ImageFailure:
        detail = f"{without_secrets(url)}: is larger than {self._max_bytes} bytes"
        return ImageFailure(ErrorCode.TOO_MANY_BYTES, detail)

    @contextmanager
    def _translated(self, url: str, deadline: float) -> Iterator[None]:
        """Raise urllib3's errors as ImageFailure, not chained: their messages contain the URL with its login."""
        try:
            yield
        except http_errors.HTTPError as error:
            late = time.monotonic() >= deadline
            failure, code, reason = _explain(http_errors.TimeoutError() if late else error, self._timeout)
        else:
            return
        raise failure(code, f"{without_secrets(url)}: {reason}") from None


def without_secrets(url: str) -> str:
    """Return scheme, host and path of a URL for messages: no login, no query, nothing that SQL cannot store."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError if an unquoted slash in a password moved the host
    except ValueError:
        return "the URL"
    return ascii(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300])[1:-1]


def _pool_classes(may_connect: MayConnect) -> dict[str, type[HTTPConnectionPool]]:
    """Return connection pools whose connections check each address with `may_connect` before they connect to it."""

    class PlainConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, may_connect)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
            return _headers_in_time(self, super().getresponse)

    class TlsConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, may_connect)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
            return _headers_in_time(self, super().getresponse)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": PlainPool, "https": TlsPool}


def _connect(connection: HTTPConnection, may_connect: MayConnect) -> socket.socket:
    """Resolve the host once, check the addresses, and connect to one of them. TLS verifies the host name as usual."""
    deadline = time.monotonic() + float(connection.timeout or 0)
    addresses = _resolve(connection)
    refused = [address for address in addresses if not may_connect(address)]
    if refused:
        detail = f"{connection.host} is at {refused[0]}, no public address; TAGMILL_ALLOW_PRIVATE_HOSTS=true allows it"
        raise ImageFailure(ErrorCode.FORBIDDEN_LOCATION, detail)
    reason: OSError = TimeoutError()
    for tried, address in enumerate(addresses):
        share = (deadline - time.monotonic()) / (len(addresses) - tried)
        try:
            target = (address, connection.port)
            connected = create_connection(target, max(share, 0.001), socket_options=connection.socket_options)
        except OSError as error:
            reason = error
        else:
            # The socket's timeout also limits the TLS handshake as a whole.
            connected.settimeout(max(deadline - time.monotonic(), 0.001))
            return connected
    if isinstance(reason, TimeoutError):
        raise http_errors.ConnectTimeoutError(connection, "timed out") from reason
    raise http_errors.NewConnectionError(connection, "no connection") from reason


def _resolve(connection: HTTPConnection) -> list[str]:
    try:
        found = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise http_errors.NameResolutionError(connection.host, connection, error) from error
    except (UnicodeError, OverflowError) as error:  # not a valid host name or port
        raise http_errors.LocationParseError(connection.host) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _headers_in_time(connection: HTTPConnection, getresponse: Callable[[], HTTPResponse]) -> HTTPResponse:
    shutdown = connection.sock.shutdown
    with _cut_after(float(connection.timeout or 0), lambda: shutdown(socket.SHUT_RDWR)):
        return getresponse()


@contextmanager
def _cut_after(seconds: float, shutdown: Callable[[], object]) -> Iterator[None]:
    """End the block's reads after `seconds`. A socket's own timeout restarts with every byte received."""

    def cut() -> None:
        try:
            shutdown()
        except (OSError, RuntimeError, ValueError):
            pass  # the connection is already closed

    timer = threading.Timer(max(seconds, 0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _request_headers(url: str) -> dict[str, str]:
    # Images are compressed already, and a body that is not decoded cannot be a decompression bomb.
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "tagmill"}
    if login := parse_url(url).auth:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(login).encode()).decode()}"
    return headers


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
    except ValueError:
        raise ImageFailure(ErrorCode.FETCH_FAILED, f"{without_secrets(url)}: redirects to no valid URL") from None
    if scheme not in FETCHED:
        detail = f"{without_secrets(url)}: redirects to {scheme[:30]!a}, not http or https"
        raise ImageFailure(ErrorCode.UNSUPPORTED_LOCATION, detail)
    return target


def _check_status(response: BaseHTTPResponse, url: str) -> None:
    location, status = without_secrets(url), response.status
    if status in _GONE:
        raise ImageFailure(ErrorCode.NOT_FOUND, f"{location}: HTTP {status}")
    if status >= 500:
        raise _TransientFailure(ErrorCode.FETCH_FAILED, f"{location}: HTTP {status}")
    if status != 200:
        raise ImageFailure(ErrorCode.FETCH_FAILED, f"{location}: HTTP {status}")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        detail = f"{location}: came with Content-Encoding {encoding[:30]!a}, asked was identity"
        raise ImageFailure(ErrorCode.FETCH_FAILED, detail)


def _explain(error: http_errors.HTTPError, timeout: float) -> tuple[type[ImageFailure], ErrorCode, str]:
    """Return exception class, error code and reason for an error of urllib3."""
    if isinstance(error, http_errors.LocationValueError):
        return ImageFailure, ErrorCode.UNSUPPORTED_LOCATION, "is not a valid URL"
    if isinstance(error, http_errors.NameResolutionError):
        return ImageFailure, ErrorCode.FETCH_FAILED, "the host name does not resolve"
    if isinstance(error, (http_errors.ProtocolError, http_errors.NewConnectionError)):
        return _TransientFailure, ErrorCode.FETCH_FAILED, f"the connection failed: {_root_cause(error)}"
    # After NewConnectionError, which is a subclass of urllib3's TimeoutError.
    if isinstance(error, (http_errors.TimeoutError, http_errors.EmptyPoolError)):
        return ImageFailure, ErrorCode.FETCH_TIMEOUT, f"no complete answer within {timeout:g} s"
    if isinstance(error, http_errors.SSLError):
        return ImageFailure, ErrorCode.FETCH_FAILED, f"TLS failed: {_root_cause(error)}"
    return ImageFailure, ErrorCode.FETCH_FAILED, f"not valid HTTP: {type(error).__name__}"


def _root_cause(error: BaseException) -> str:
    """Return the innermost reason, without messages that could contain a URL."""
    for inner in (error.__cause__, *error.args):
        if isinstance(inner, BaseException):
            return _root_cause(inner)
    verify = getattr(error, "verify_message", None)
    return str(verify or getattr(error, "strerror", None) or type(error).__name__)
