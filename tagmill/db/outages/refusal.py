"""Tell a connection that waiting cannot mend, for example a wrong password, from a database that is down or busy.

psycopg gives errors at connecting no SQLSTATE, because libpq keeps it to itself. So their text decides. PostgreSQL may
answer in another language: `_ask_again` then reads the SQLSTATE from a second attempt.
"""

import os
import re
import select
import sys
import time
from typing import Any

#: what to do about a refusal
_LOGIN = "check user and password in TAGMILL_DATABASE_URL"
_ACCESS = "let this user connect (pg_hba.conf, CONNECT privilege, the pooler's users), or correct TAGMILL_DATABASE_URL"
_DATABASE = "create the database, or correct TAGMILL_DATABASE_URL"
_PARAMETER = "correct or remove the parameter in TAGMILL_DATABASE_URL or in the PG... variables"
_TLS = "correct sslmode, sslrootcert or the server's certificate"
_SERVER = "correct host and port in TAGMILL_DATABASE_URL"
_POOLER = "set pool_mode = transaction in the pooler"
#: advice by text of libpq, PostgreSQL and PgBouncer (client.c); the first match counts
_REFUSALS = [
    (re.compile(pattern), advice)
    for pattern, advice in (
        # libpq says so before it connects; a host name without an address may get one
        (r"^connection is bad: (?!connection to server|could not translate host name|out of memory)", _PARAMETER),
        (r"^invalid connection option|^bad value for ", _PARAMETER),
        (r"no password supplied|empty password returned", _LOGIN),
        (r"password authentication failed|SASL authentication failed|password too long|username too long", _LOGIN),
        (r'role ".*" does not exist|no such user|no username supplied', _LOGIN),
        (r"authentication failed|login rejected|is not permitted to log in|bouncer config error", _ACCESS),
        (r"no pg_hba\.conf entry|pg_hba\.conf rejects|permission denied for database|wrong password type", _ACCESS),
        (r'database ".*" does not exist|no such database|cannot connect to invalid database', _DATABASE),
        (r"[Uu]nsupported (options )?startup parameter|unrecognized configuration parameter", _PARAMETER),
        (r"invalid value for parameter|permission denied to set parameter|parameter \".*\" cannot be", _PARAMETER),
        (r"authentication method .*(not supported|failed)|channel binding|requirepeer", _PARAMETER),
        (r"certificate (verify|file|for|present|chain)|valid client certificate|private key file|unknown ca", _TLS),
        (r"no shared cipher|alert handshake failure|SSL error: unsupported protocol", _TLS),
        (r"SSL( was)? required|does not support SSL|SSL connection is required", _TLS),
        (r"protocol .*not supported|unsupported frontend protocol|invalid response to SSL negotiation", _SERVER),
        (r"expected authentication request from server", _SERVER),
        (r"transaction blocks not allowed in statement pooling mode", _POOLER),
    )
]
#: texts of an outage: PostgreSQL is not asked again
_OUTAGES = re.compile(
    r"refused|timeout|timed out|unreachable|No such file|reset by peer|closed the connection|No route to host|EOF"
    r"|the database system is|too many|connection slots|server_login_retry|no more connections|shutting down"
    r"|translate host name|resolve host"
)
#: advice by SQLSTATE or its prefix
_STATES = {"28P01": _LOGIN, "28": _ACCESS, "3D": _DATABASE, "42501": _ACCESS, "42": _PARAMETER, "22": _PARAMETER}
#: one attempt of psycopg, if there were several hosts or addresses
_ATTEMPT = re.compile(r"^- (host: .*?, port: .*?), hostaddr: .*?: ", re.MULTILINE)
#: a line that libpq traces for an error of the server
_TRACED_STATE = re.compile(r'\tErrorResponse\t.*? C "([0-9A-Z]{5})"')
_ASK_SECONDS = 5.0


def refusal(error: BaseException) -> str | None:
    """Return what happened and what to do if no connection will succeed with these settings; else None.

    `error` is psycopg's. If the URL names several hosts, each of them must refuse: one that is down may come back.
    """
    found: dict[str, str | None] = {}
    for host, text in _attempts(str(error)):
        found[host] = found.get(host) or _by_text(text)
    if len(found) == 1 and not any(found.values()) and not _OUTAGES.search(str(error)):
        found = {"": _by_state(error)}
    reasons = list(found.values())
    return reasons[0] if all(reasons) else None


def _attempts(text: str) -> list[tuple[str, str]]:
    """Return host and text of each attempt to connect."""
    _, *parts = _ATTEMPT.split(text)
    return list(zip(parts[::2], parts[1::2], strict=True)) or [("", text)]


def _by_text(text: str) -> str | None:
    for pattern, advice in _REFUSALS:
        if match := pattern.search(text):
            start = text.rfind("\n", 0, match.end()) + 1
            return _sentence(text[start:].partition("\n")[0], advice)
    return None


def _by_state(error: BaseException) -> str | None:
    """Return the reason by the SQLSTATE that the server gives when it is asked again."""
    pgconn = getattr(error, "pgconn", None)
    state = "" if pgconn is None else _ask_again(pgconn)
    advice = next((advice for prefix, advice in _STATES.items() if state.startswith(prefix)), None)
    return advice and _sentence(str(error).partition("\n")[0], advice)


def _sentence(reason: str, advice: str) -> str:
    reason = reason.removeprefix("connection failed: ").removeprefix("connection is bad: ").strip()
    return f"the database refuses the connection ({reason}); {advice}"


def _ask_again(failed: Any) -> str:
    """Connect as the failed PGconn did, and return the SQLSTATE of the answer; "" if there is none.

    Only libpq's trace shows it, on Linux and from version 18 on, which psycopg[binary] has.
    """
    if sys.platform != "linux":
        return ""
    from psycopg import Error, pq
    from psycopg.conninfo import make_conninfo

    given = {option.keyword.decode(): option.val.decode() for option in failed.info if option.val}
    # In memory: the trace may hold a password.
    with os.fdopen(os.memfd_create("trace"), "rb") as trace:
        try:
            asked = pq.PGconn.connect_start(make_conninfo("", **given).encode())
            asked.trace(trace.fileno())
            _finish(asked, time.monotonic() + _ASK_SECONDS)
            asked.untrace()
        except Error:
            return ""
        trace.seek(0)
        state = _TRACED_STATE.search(trace.read().decode(errors="replace"))
    return state[1] if state else ""


def _finish(asked: Any, end: float) -> None:
    """Connect until the server has answered, or until `end` in monotonic seconds; then close."""
    from psycopg import pq

    while (left := end - time.monotonic()) > 0:
        status = asked.connect_poll()
        if status == pq.PollingStatus.READING:
            select.select([asked.socket], [], [], left)
        elif status == pq.PollingStatus.WRITING:
            select.select([], [asked.socket], [], left)
        else:
            return
