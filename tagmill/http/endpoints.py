"""A small HTTP server for metrics and probes: GET of a few paths, on a TCP port or a Unix socket."""

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

from tagmill.errors import ConfigurationError

log = logging.getLogger(__name__)

#: seconds that a client may take to send its request or to read the answer
CLIENT_SECONDS = 5.0
#: requests that are answered at the same time; more are closed
MOST_REQUESTS = 16
#: of the Prometheus text format
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What a path answers."""

    body: bytes
    content_type: str = METRICS_TYPE
    status: int = HTTPStatus.OK


#: path -> what makes its answer
Pages = Mapping[str, Callable[[], Answer]]


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = CLIENT_SECONDS
    server_version = "tagmill"
    sys_version = ""
    pages: ClassVar[Pages] = {}

    def do_GET(self) -> None:
        """Answer with the page of the path; 404 for others."""
        page = self.pages.get(self.path.partition("?")[0])
        self._send(Answer(b"no such page\n", "text/plain", HTTPStatus.NOT_FOUND) if page is None else _answer(page))

    def do_HEAD(self) -> None:
        """Answer without the page itself."""
        self.do_GET()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes come every few seconds."""


def _answer(page: Callable[[], Answer]) -> Answer:
    try:
        return page()
    except Exception:  # a bug in a page must not look like a server that is gone
        log.exception("a page failed", extra={"action": "page_failed"})
        return Answer(b"internal error; see the log\n", "text/plain", HTTPStatus.INTERNAL_SERVER_ERROR)


class _Threads(ThreadingMixIn):
    """A thread for each request, and a limit of them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *given: Any) -> None:
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or close the connection if too many are open."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)  # type: ignore[attr-defined]  # of the server that this is mixed into

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and count the thread as free again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _TcpServer(_Threads, TCPServer):
    """On a TCP port."""


class _TcpServer6(_TcpServer):
    """On a TCP port of an IPv6 address."""

    address_family = socket.AF_INET6


class _UnixServer(_Threads, UnixStreamServer):
    """On a Unix socket."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return a connection; clients of Unix sockets have no address, which the handler expects."""
        request, _ = super().get_request()
        return request, ("unix", 0)


class Endpoints:
    """Answers requests in threads of its own until `close`."""

    def __init__(self, server: TCPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="endpoints", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Answer no more, and free the address."""
        self._server.shutdown()
        self._server.server_close()


def serve(host: str, port: int, pages: Pages) -> Endpoints:
    """Answer on a TCP port; 0 is any that is free. Raise ConfigurationError if the port cannot be used."""
    server = _TcpServer6 if ":" in host else _TcpServer
    try:
        return Endpoints(server((host, port), _handler(pages)))
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"{host}:{port}: {reason}; set TAGMILL_METRICS_PORT to a free port, or TAGMILL_METRICS_HOST to an address"
            " of this machine"
        ) from error


def serve_socket(path: Path, pages: Pages) -> Endpoints:
    """Answer on a Unix socket, in place of one that an ended process left there."""
    path.unlink(missing_ok=True)
    return Endpoints(_UnixServer(str(path), _handler(pages)))


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"pages": pages})
