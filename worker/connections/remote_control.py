"""Celery's remote control, reduced to questions: nobody who reaches the broker can stop or change a worker with it."""

import logging
from typing import Any

from celery import Celery
from kombu.pidbox import Node

from worker.connections.tally import Tally

log = logging.getLogger(__name__)

#: what `celery inspect`, Flower and a health check ask for
QUESTIONS = frozenset({
    *("ping", "report", "conf", "dump_conf", "clock", "stats", "hello", "query_task", "registered", "active_queues"),
    *("active", "dump_active", "reserved", "dump_reserved", "scheduled", "dump_schedule", "revoked", "dump_revoked"),
    # they have the worker send events, which it does anyway
    *("enable_events", "heartbeat"),
})  # fmt: skip
#: where answers may be sent
_ANSWERS_TO = "reply.celery.pidbox"


class QuestionsOnly(Node):
    """kombu's receiver of remote commands; it answers a command that is no question with an error."""

    _refused = Tally(log, logging.WARNING, "remote command refused", seconds=60.0)

    def handle_message(self, body: Any, message: Any = None) -> Any:
        """Execute a command for this worker; drop what has not the form of one."""
        if _is_command(body):
            return super().handle_message(body, message)  # type: ignore[no-untyped-call]  # kombu is partly typed
        self._refused.add("", action="remote_message_refused", reason="not a remote command")
        return None

    def handle(self, method: str, arguments: Any = None) -> Any:
        """Return the answer to a question, or an error."""
        if method in QUESTIONS:
            # A worker that starts without --without-mingle says hello with the tasks that it takes for revoked.
            arguments = {name: value for name, value in (arguments or {}).items() if name != "revoked"}
            return super().handle(method, arguments)  # type: ignore[no-untyped-call]
        known = method if method in (self.handlers or {}) else "an unknown command"
        self._refused.add(known, action="remote_control_refused", command=known)
        return {"error": f"refused: {known}; this worker only answers questions, stop it with SIGTERM on its machine"}


def allow_questions_only(app: Celery) -> None:
    """Have the workers of this application refuse every remote command that is no question."""
    app.control.mailbox.node_cls = QuestionsOnly


def _is_command(body: Any) -> bool:
    """Return whether kombu can read a command. One with a pattern for names of workers is none: it may take forever."""
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        return False
    destination, answer = body.get("destination"), body.get("reply_to")
    return (
        (destination is None or (isinstance(destination, list) and all(isinstance(name, str) for name in destination)))
        and isinstance(body.get("arguments") or {}, dict)
        and not (body.get("pattern") or body.get("matcher"))
        and (answer is None or _is_address(answer))
    )


def _is_address(answer: Any) -> bool:
    if not isinstance(answer, dict) or answer.get("exchange") != _ANSWERS_TO:
        return False
    return isinstance(answer.get("routing_key"), str)
