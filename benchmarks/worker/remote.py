"""Measure how fast a worker tags a catalog of URLs with different numbers of fetch threads.

`PYTHONPATH=tests python -m benchmarks.worker.remote --images 600 --latency 0.1` serves photos by HTTP on this machine
and delays each answer by `--latency` seconds. One worker has one fetch thread per core, the other one the default
number.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.comparing import compare, table
from benchmarks.support.contenders import Tagmill
from benchmarks.support.job import Job
from benchmarks.support.machine import CORES, machine, tell
from tagmill.settings import Settings


class Late(SimpleHTTPRequestHandler):
    """A handler that answers with a file of its folder after `latency` seconds."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *args: object, latency: float, **options: object) -> None:
        self._latency = latency
        super().__init__(*args, **options)  # type: ignore[arg-type]  # the server passes these

    def do_GET(self) -> None:
        """Wait `latency` seconds, then answer."""
        time.sleep(self._latency)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def serve(folder: Path, latency: float, port: Connection) -> None:
    """Send the port through `port`, then serve a folder until the process ends."""
    handler = partial(Late, latency=latency, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        port.send(server.server_address[1])
        server.serve_forever()


@contextmanager
def site(folder: Path, latency: float) -> Iterator[str]:
    """Serve a folder from a separate process; yield its URL."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=serve, args=(folder, latency, sender), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        process.terminate()
        process.join()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds before each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images and bundles")
    options = parser.parse_args()
    print(machine(), flush=True)
    photos = write_set("photos", options.work, options.images)
    bundle = str(make_bundle("mobilenet", options.work / "bundles", photos[0].parent).resolve())
    default = Settings.model_fields["fetch_threads"].default
    with ExitStack() as stack:
        url = stack.enter_context(site(photos[0].parent.resolve(), options.latency))
        contenders = [
            stack.enter_context(
                Tagmill(f"{threads} at a time", [bundle], fetch_threads=threads, allow_private_hosts=True)
            )
            for threads in (default, CORES)
        ]
        job = Job([f"{url}/{photo.name}" for photo in photos], [bundle], CORES)
        title = f"MobileNetV3-small, {len(photos)} JPEGs of 800x800, {1000 * options.latency:.0f} ms away"
        done = compare(title, contenders, job, options.images // 4, options.rounds, tell)
    print(table(done, contenders[0].name))


if __name__ == "__main__":
    main()
