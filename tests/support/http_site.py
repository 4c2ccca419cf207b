"""A web server on 127.0.0.1 whose replies a test sets."""

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = Callable[[BaseHTTPRequestHandler], None]


class _Server(ThreadingHTTPServer):
    #: connections that wait to be accepted: with the usual five, clients of a busy machine wait seconds for another try
    request_queue_size = 128


class Site:
    """A web server on 127.0.0.1 with the replies of a test. It records the requests."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.replies: dict[str, Reply] = {}
        self.requests: list[BaseHTTPRequestHandler] = []
        self.connections = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                site.connections += 1

            def do_GET(self) -> None:
                site.requests.append(self)
                try:
                    site.replies.get(self.path.partition("?")[0], reply(404))(self)
                except OSError:
                    self.close_connection = True  # the client hung up

            def log_message(self, *_: object) -> None: ...

        self.server = _Server(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        # No tracebacks for clients that hang up, as they do in many tests.
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.socket.close()


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Reply:
    """Reply with a whole body. A header `Content_Length` replaces the correct one."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return send


def versioned(body: bytes, **headers: str) -> Reply:
    """Reply with a body and its validators, or 304 if the request names one of them. `ETag` and `Last_Modified`."""
    known = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last_Modified")}

    def send(request: BaseHTTPRequestHandler) -> None:
        # If-None-Match alone counts if there are both.
        asked = next((name for name in known if name in request.headers), None)
        same = asked is not None and request.headers[asked] == known[asked]
        (reply(304, **headers) if same else reply(body=body, **headers))(request)

    return send


def raw(*parts: bytes, pause: float = 0.0) -> Reply:
    """Write the parts unchanged and hang up."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        for part in parts:
            request.wfile.write(part)
            time.sleep(pause)

    return send


def in_turn(*replies: Reply) -> Reply:
    remaining = list(replies)
    return lambda request: remaining.pop(0)(request)
