"""Log an event that may come thousands of times: the first at once, those that follow as one line with their number."""

import logging
import threading
from typing import Any

#: seconds between two lines about the same kind of event
TALLY_SECONDS = 10.0


class Tally:
    """Counts events by kind. Safe to use from any thread."""

    def __init__(self, log: logging.Logger, level: int, event: str, seconds: float = TALLY_SECONDS) -> None:
        self._log = log
        self._level = level
        self._event = event
        self._seconds = seconds
        #: kind -> events that no line has counted yet, and the fields of the last one
        self._waiting: dict[object, tuple[int, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def add(self, kind: object, **fields: Any) -> None:
        """Log an event with its fields, or count it if one of its kind was logged just now."""
        with self._lock:
            if kind in self._waiting:
                self._waiting[kind] = (self._waiting[kind][0] + 1, fields)
                return
            self._start(kind)
        self._write(1, fields)

    def _start(self, kind: object) -> None:
        self._waiting[kind] = (0, {})
        timer = threading.Timer(self._seconds, self._flush, (kind,))
        timer.daemon = True
        timer.start()

    def _flush(self, kind: object) -> None:
        with self._lock:
            count, fields = self._waiting.pop(kind)
            if count:
                self._start(kind)
        if count:
            self._write(count, fields)

    def _write(self, count: int, fields: dict[str, Any]) -> None:
        self._log.log(self._level, self._event, extra=fields | {"count": count})
