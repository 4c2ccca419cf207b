"""Whether a worker can take batches: checks that a thread repeats, and what they found last."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from tagmill.errors import first_line
from tagmill.http.endpoints import Answer

#: returns why the worker cannot take batches; None if it can
Check = Callable[[], str | None]

#: seconds between two rounds of checks
CHECK_SECONDS = 5.0
#: seconds that the checks of a round may take together
ROUND_SECONDS = 5.0
#: seconds after which what was found last counts no more
STALE_SECONDS = 30.0


class Readiness:
    """Repeats `checks` with `look`, and answers with what they found and what `state` says at that moment."""

    def __init__(self, state: Callable[[], Mapping[str, str]]) -> None:
        """`state` returns what is known without asking anything: name -> why the worker cannot take batches."""
        self._state = state
        self._checks: dict[str, _BoundedCheck] = {}
        #: name -> reason, None if there is none
        self._found: dict[str, str | None] = {}
        self._looked_at = time.monotonic()

    def begin(self, checks: Mapping[str, Check]) -> None:
        """Take up these checks; `look` runs them. Before that, nothing but `state` counts."""
        self._checks = {name: _BoundedCheck(check) for name, check in checks.items()}
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Run every check once, at the same time. One that does not end in time is not started again until it has."""
        end = time.monotonic() + ROUND_SECONDS
        for check in self._checks.values():
            check.start()
        self._found = {name: check.result(end - time.monotonic()) for name, check in self._checks.items()}
        self._looked_at = time.monotonic()

    def found(self) -> dict[str, str | None]:
        """Return name -> why the worker cannot take batches, None if that is no reason."""
        found: dict[str, str | None] = dict(self._found)
        if self._checks and time.monotonic() - self._looked_at > STALE_SECONDS:
            found["checks"] = "the last ones are too old; the process is overloaded or stuck"
        return {**found, **self._state()}

    def is_ready(self) -> bool:
        """Return whether there is no reason."""
        return not any(self.found().values())

    def answer(self) -> Answer:
        """Return the page /ready."""
        return ready_answer(self.found())


def ready_answer(found: Mapping[str, str | None]) -> Answer:
    """Return the page /ready: 200 or 503, and each check with its reason."""
    ready = not any(found.values())
    checks = {name: {"ok": reason is None, "reason": reason} for name, reason in found.items()}
    body = json.dumps({"ready": ready, "checks": checks}, indent=2).encode() + b"\n"
    return Answer(body, "application/json", HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


class _BoundedCheck:
    """A check that may hang, as every access to a network drive may: it has at most one thread."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._found: str | None = None

    def start(self) -> None:
        """Start the check in a thread, unless the last one still runs."""
        if self._thread is None:
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="readiness check", daemon=True)
            self._thread.start()

    def result(self, seconds: float) -> str | None:
        """Return what the check found, or that it does not answer."""
        assert self._thread is not None, "it was started"
        self._thread.join(max(seconds, 0.0))
        if self._thread.is_alive():
            return f"no answer for {time.monotonic() - self._began:.0f} s"
        self._thread = None
        return self._found

    def _run(self) -> None:
        try:
            self._found = self._check()
        except Exception as error:
            self._found = first_line(error)
