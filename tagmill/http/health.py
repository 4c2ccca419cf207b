"""Ask a worker or the exporter of this machine whether it is ready: `python -m tagmill.http.health [PORT]`.

It prints why not, and exits with 1 then. It imports nothing but the standard library: a health check that runs twice a
minute must cost no more than starting Python. PORT is TAGMILL_METRICS_PORT unless it is given.
"""

import json
import os
import sys
from http import HTTPStatus
from http.client import HTTPException

from tagmill.http.ask import ask

#: seconds in which an answer has to come
ANSWER_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Print what is wrong; return 0 if nothing is, else 1."""
    port = arguments[0] if arguments else os.environ.get("TAGMILL_METRICS_PORT", "")
    host = os.environ.get("TAGMILL_METRICS_HOST", "127.0.0.1")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        _say("name a port, or set TAGMILL_METRICS_PORT")
        return 1
    try:
        answer = ask(({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)), "/ready", ANSWER_SECONDS)
        checks = json.loads(answer.body)["checks"]
    except (OSError, HTTPException, ValueError, KeyError) as error:
        _say(f"port {port} does not answer: {error}")
        return 1
    for name, check in checks.items():
        if not check["ok"]:
            _say(f"{name}: {check['reason']}")
    return 0 if answer.status == HTTPStatus.OK else 1


def _say(line: str) -> None:
    print(line)  # noqa: T201 - it is a program of its own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
