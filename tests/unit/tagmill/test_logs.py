"""JSON log lines: what each holds, and that warnings of Python are among them."""

import io
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tagmill.errors import ConfigurationError
from tagmill.logs import flood
from tagmill.logs.configure import log_format
from tagmill.logs.fields import log_fields
from tagmill.logs.flood import FloodGuard
from tagmill.logs.formats import LogFormat, formatter


def text_of(work: Any, form: LogFormat = LogFormat.JSON) -> str:
    """Return what `work` logs with the logger that it is given."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter(form))
    handler.addFilter(FloodGuard(handler))
    log = logging.getLogger("tested")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    work(log)
    return out.getvalue()


def lines_of(work: Any, form: LogFormat = LogFormat.JSON) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(work, form).splitlines()]


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
    script = "import warnings; from tagmill.logs.configure import configure; configure(); "
    script += "warnings.warn('two\\n\\nlines', UserWarning)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = json.loads(done.stderr)
    assert (line["level"], line["event"], line["category"]) == ("warning", "two lines", "UserWarning")


def failed(log: logging.Logger) -> None:
    with log_fields(run=7):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("batch\nfailed", extra={"action": "batch_failed", "reason": "no room"})


def test_a_line_by_the_elastic_common_schema_has_its_names() -> None:
    (line,) = lines_of(failed, LogFormat.ECS)
    expected = {
        "log.level": "error",
        "message": "batch\nfailed",
        "service.name": "tagmill",
        "event.action": "batch_failed",
        "event.reason": "no room",
        "tagmill.run": 7,
        "host.hostname": socket.gethostname(),
        "error.type": "ValueError",
        "error.message": "two\nlines",
    }
    assert expected.items() <= line.items()
    assert line["@timestamp"].endswith("+00:00")
    assert "Traceback" in line["error.stack_trace"]


def test_text_is_one_line_and_its_traceback() -> None:
    first, second, *_ = text_of(failed, LogFormat.TEXT).splitlines()
    assert first.endswith('ERROR   batch failed  run=7 action=batch_failed reason="no room"')
    assert second == "Traceback (most recent call last):"


def test_a_flood_is_a_few_lines_and_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Callable[[], None]] = []

    class Timer:
        """A timer whose time is over when the test says so."""

        def __init__(self, seconds: float, call: Callable[..., None], given: tuple[Any, ...]) -> None:
            ends.append(partial(call, *given))

        def start(self) -> None:
            """Wait for the test."""

    def work(log: logging.Logger) -> None:
        for _ in range(2):
            for number in range(300):
                log.info("batch tagged")
                log.warning("host %d refused", number)
                log.error("junk %s", "x" * number)
            while ends:
                ends.pop()()

    monkeypatch.setattr(flood.threading, "Timer", Timer)
    lines = lines_of(work)
    assert sum(line["event"] == "batch tagged" for line in lines) == 600
    assert sum("refused" in line["event"] for line in lines) == 2 * flood.MOST_ALIKE
    assert sum("junk" in line["event"] for line in lines) == 2 * flood.MOST_OF_PLACE
    counts = sorted(line["count"] for line in lines if line.get("action") == "log_flood")
    assert counts == sorted(2 * [300 - flood.MOST_ALIKE, 300 - flood.MOST_OF_PLACE])


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_LOG_FORMAT", "xml")
    with pytest.raises(ConfigurationError, match="TAGMILL_LOG_FORMAT: xml is none of json, ecs, text"):
        log_format()
