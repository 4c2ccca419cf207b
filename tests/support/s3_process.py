"""Serve moto's S3 on a port of 127.0.0.1: `python s3_process.py PORT DELAY`. See `support.s3_server`."""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import waitress
from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app

#: requests under way at the same time
THREADS = 128
CONTROL = "/tests-control/"
Respond = Callable[[str, list[tuple[str, str]]], object]


class Application:
    """moto behind a delay, a list of requests, and answers that a test sets."""

    def __init__(self, delay: float) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._delay = delay
        self._lock = threading.Lock()
        #: path -> [times, status, code]
        self._refused: dict[str, list[Any]] = {}
        self._requests: list[str] = []
        self._meeting = threading.Barrier(1)
        #: client addresses of requests for objects: one for each connection
        self._clients: set[tuple[str, int]] = set()

    def __call__(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        if path.startswith(CONTROL):
            return self._control(path.removeprefix(CONTROL), environ, respond)
        time.sleep(self._delay)
        meeting = self._meeting
        meeting.wait(60)
        with self._lock:
            self._clients.add((environ["REMOTE_ADDR"], environ["REMOTE_PORT"]))
            answer = self._refused.get(path)
            if answer and answer[0] > 0:
                answer[0] -= 1
                return self._answer(f"{environ['REQUEST_METHOD']} {path}", answer, respond)

        def note(status: str, headers: list[tuple[str, str]], *more: object) -> object:
            with self._lock:
                self._requests.append(f"{environ['REQUEST_METHOD']} {path} {status.partition(' ')[0]}")
            return respond(status, headers, *more)

        # By this name moto finds the path as it was sent, with its percent signs.
        return self._moto(environ | {"RAW_URI": environ["REQUEST_URI"]}, note)

    def _part(self) -> None:
        self._meeting = threading.Barrier(1)

    def _answer(self, request: str, answer: list[Any], respond: Respond) -> Iterable[bytes]:
        _, status, code = answer
        self._requests.append(f"{request} {status}")
        body = f"<Error><Code>{code}</Code></Error>".encode()
        respond(f"{status} Refused", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    def _control(self, what: str, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        answer = b""
        with self._lock:
            if what == "refuse":
                times, status, code, path = body.split(" ", 3)
                self._refused[path] = [int(times), status, code]
            elif what == "meet":
                self._meeting = threading.Barrier(int(body), action=self._part)
            elif what == "connections":
                answer = str(len(self._clients)).encode()
            elif what == "requests":
                answer = "\n".join(self._requests).encode()
                self._requests.clear()
            elif what == "empty":
                self._refused.clear()
                self._requests.clear()
                get_backend("s3")["123456789012"]["aws"].reset()
        respond("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]


if __name__ == "__main__":
    # Not moto's own server, which closes each connection.
    options = {"host": "127.0.0.1", "port": int(sys.argv[1]), "threads": THREADS, "connection_limit": 2 * THREADS}
    waitress.serve(Application(float(sys.argv[2])), **options)
