"""Connections to checked addresses, whose answers have to begin in time."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3 import exceptions as http_errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util.connection import create_connection

from tagmill.outcomes import ErrorCode, ImageFailure

#: interim answers (1xx) before the answer
MAX_INTERIM = 32

#: whether a host may be connected to at a numeric address
MayConnect = Callable[[str, str], bool]


class _FinalAnswer(http.client.HTTPResponse):
    """An answer that passes over the interim ones: 100 Continue, 102 Processing, 103 Early Hints, and unknown ones."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # typeshed does not list it
            # Nobody asked to switch protocols: 101 is an answer that cannot be read.
            if not 100 <= status < 200 or status == http.client.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {MAX_INTERIM} interim answers")


def pool_classes(may_connect: MayConnect) -> dict[str, type[HTTPConnectionPool]]:
    """Return connection pools whose connections check each address with `may_connect` before they connect to it."""

    class PlainConnection(HTTPConnection):
        response_class = _FinalAnswer

        def _new_conn(self) -> socket.socket:
            return _connect(self, may_connect)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
            return _headers_in_time(self, super().getresponse)

    class TlsConnection(PlainConnection, HTTPSConnection):
        """The same with TLS: `PlainConnection` comes first in the order of methods."""

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": PlainPool, "https": TlsPool}


@contextmanager
def cut_after(seconds: float, shutdown: Callable[[], object]) -> Iterator[None]:
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


def _connect(connection: HTTPConnection, may_connect: MayConnect) -> socket.socket:
    """Resolve the host once, check the addresses, and connect to one of them. TLS verifies the host name as usual."""
    deadline = time.monotonic() + float(connection.timeout or 0)
    addresses = _resolve(connection)
    refused = [address for address in addresses if not may_connect(connection.host, address)]
    if refused:
        detail = (
            f"{connection.host} is at {refused[0]}, no public address; list its network or name in"
            " TAGMILL_ALLOW_PRIVATE_HOSTS, or allow all with TAGMILL_ALLOW_PRIVATE_HOSTS=true"
        )
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
    with cut_after(float(connection.timeout or 0), lambda: shutdown(socket.SHUT_RDWR)):
        return getresponse()
