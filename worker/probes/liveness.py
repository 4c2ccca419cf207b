"""The page /live: it fails only if a restart would help."""

from http import HTTPStatus

from tagmill.http.endpoints import Answer
from worker.supervision.process import grace_seconds

#: seconds beyond the watchdog's own deadlines after which the process counts as stuck
MARGIN_SECONDS = 30.0


def silence_limit(stall_seconds: float) -> float:
    """Return how many seconds a process may be silent: later, its watchdog would have ended it, so it is stuck."""
    return stall_seconds + grace_seconds(stall_seconds) + MARGIN_SECONDS


def live_answer(stuck: str = "") -> Answer:
    """Return 200, or 503 with why the process is stuck."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if stuck else HTTPStatus.OK
    return Answer(f"{stuck or 'alive'}\n".encode(), "text/plain; charset=utf-8", status)
