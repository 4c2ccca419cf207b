"""JSON log lines: what each holds, and that warnings of Python are among them."""

import io
import json
import logging
import socket
import subprocess
import sys
import threading
from typing import Any

from tagmill.logs import JsonLines, log_fields


def lines_of(work: Any) -> list[dict[str, Any]]:
    """Return what `work` logs with the logger that it is given."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    log = logging.getLogger("tested")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    work(log)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_names_the_host_and_the_batch_in_work() -> None:
    def work(log: logging.Logger) -> None:
        with log_fields(run=7, batch=12, model="colors@1"):
            log.info("inside", extra={"action": "done"})
            other = threading.Thread(target=lambda: log.info("another thread"))
            other.start()
            other.join()
        log.info("after")

    inside, other, after = lines_of(work)
    assert (inside["host"], inside["event"], inside["action"]) == (socket.gethostname(), "inside", "done")
    assert (inside["run"], inside["batch"], inside["model"]) == (7, 12, "colors@1")
    assert "run" not in other | after


def test_a_field_of_the_line_itself_has_priority() -> None:
    def work(log: logging.Logger) -> None:
        with log_fields(run=7, batch=12):
            log.info("line", extra={"batch": 13})

    (line,) = lines_of(work)
    assert (line["run"], line["batch"]) == (7, 13)


def test_a_warning_of_python_is_one_json_line() -> None:
    script = "import warnings\nfrom tagmill import logs\nlogs.configure()\nwarnings.warn('two\\n\\nlines', UserWarning)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = json.loads(done.stderr)
    assert (line["level"], line["event"], line["category"]) == ("warning", "two lines", "UserWarning")
