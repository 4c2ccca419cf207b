"""`tagmill exporter`: serve metrics of all queues and workers together."""

import signal
import threading
from types import FrameType

import click

from tagmill.errors import ServiceDown
from tagmill.exporter.pages import Exporter
from tagmill.http.endpoints import serve
from tagmill.logs.configure import configure
from tagmill.settings import load_settings

#: TCP port unless TAGMILL_METRICS_PORT names one
PORT = 9809


@click.command("exporter")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Instead of TAGMILL_METRICS_PORT.  [default: {PORT}]")
@click.option("--host", help="Instead of TAGMILL_METRICS_HOST.")
@click.option("--once", is_flag=True, help="Print the metrics and end, such as for a textfile collector.")
def exporter(port: int | None, host: str | None, once: bool) -> None:
    """Serve metrics of what waits in all queues, of runs and of workers, for Prometheus.

    It reads SQL and Redis and changes nothing. If one is down, --once ends with 75 after what it could read. One is
    enough for an installation. SIGTERM ends it.
    """
    if not once:
        configure()
    settings = load_settings(metrics_port=port, metrics_host=host)
    if once:
        exported = Exporter(settings, about_itself=False)
        click.echo(exported.metrics(), nl=False)
        if down := exported.down():
            raise ServiceDown(f"{' and '.join(down)} could not be read; the metrics above lack them")
        return
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    endpoints = serve(settings.metrics_host, settings.metrics_port or PORT, Exporter(settings).pages)
    ended.wait()
    endpoints.close()
