"""What is said when the collector of traces is down, and that the end of a command does not wait for it."""

import os
import socket
import subprocess
import sys

SCRIPT = """
from tagmill.tracing import Tracing
traces = Tracing("test")
with traces.submit():
    pass
traces.close()
"""
DROPPED = "traces are dropped; see OTEL_EXPORTER_OTLP_ENDPOINT: "


def trace(port: int) -> str:
    """Trace a submit in a process of its own, with the collector at a port; return what it says."""
    env = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    return done.stderr


def test_the_end_does_not_wait_for_a_collector_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert trace(listening.getsockname()[1]) == f"{DROPPED}the collector does not answer in 1.5 s\n"


def test_a_collector_that_refuses_is_one_line_for_all_attempts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (line,) = trace(port).splitlines()
    assert line.startswith(DROPPED)
    assert "Connection refused" in line
