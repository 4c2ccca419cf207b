"""Many lines of one place in the code in a short time become the first ones, and one line with the number of the rest.

A queue full of junk or a host that refuses everything must not fill the disk of a machine, nor hide what else is said.
"""

import logging
import re
import threading
from collections import Counter
from dataclasses import dataclass, field

from tagmill.logs.fields import further_fields

WINDOW_SECONDS = 10.0
#: lines of one place that are written in a window, and of these lines that say the same but for numbers
MOST_OF_PLACE = 20
MOST_ALIKE = 5
_NUMBERS = re.compile(r"\d+")


@dataclass
class _Window:
    written: int = 0
    held: int = 0
    alike: Counter[str] = field(default_factory=Counter)


class FloodGuard(logging.Filter):
    """A filter of a handler that lets a few lines of each place that logs warnings or errors through in a window.

    What it holds back is counted, and said in one line at the end of the window. Lines of the level INFO and below
    pass: there is one for each batch.
    """

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        #: (logger, file, line) -> what came from there
        self._windows: dict[tuple[str, str, int], _Window] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        if record.levelno < logging.WARNING or getattr(record, "action", None) == "log_flood":
            return True
        place = (record.name, record.pathname, record.lineno)
        text = _NUMBERS.sub("", f"{record.getMessage()} {further_fields(record)}")
        with self._lock:
            window = self._windows.get(place) or self._open(place, record.levelno)
            if window.written == MOST_OF_PLACE or window.alike[text] == MOST_ALIKE:
                window.held += 1
                return False
            window.written += 1
            window.alike[text] += 1
        return True

    def _open(self, place: tuple[str, str, int], level: int) -> _Window:
        timer = threading.Timer(WINDOW_SECONDS, self._close, (place, level))
        timer.daemon = True
        timer.start()
        return self._windows.setdefault(place, _Window())

    def _close(self, place: tuple[str, str, int], level: int) -> None:
        with self._lock:
            held = self._windows.pop(place).held
        if held:
            name, path, number = place
            said = f"{held} more lines like the last one of {name} were held back"
            summary = logging.LogRecord(name, level, path, number, said, None, None)
            summary.__dict__ |= {"action": "log_flood", "count": held}
            self._handler.handle(summary)
