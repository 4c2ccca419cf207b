"""Which errors at connecting waiting cannot mend, by the texts of libpq, PostgreSQL and PgBouncer."""

import pytest
from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as DatabaseDown
from support.fake_postgres import RefusingServer

from tagmill.db.connection import connect
from tagmill.db.outages.outage import is_outage
from tagmill.db.outages.refusal import refusal
from tagmill.errors import DatabaseRefusedError

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
BAD = "connection is bad: "
REFUSED = [
    f'{AT}FATAL:  password authentication failed for user "app"',
    f"{AT}fe_sendauth: no password supplied",
    f'{AT}FATAL:  role "app" does not exist',
    f'{AT}FATAL:  role "app" is not permitted to log in',
    f'{AT}FATAL:  Peer authentication failed for user "app"',
    f'{AT}FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "app", database "shop", no encryption',
    f'{AT}FATAL:  pg_hba.conf rejects connection for host "10.0.0.2", user "app", database "shop", SSL encryption',
    f'{AT}FATAL:  database "shop" does not exist',
    f'{AT}FATAL:  permission denied for database "shop"\nDETAIL:  User does not have CONNECT privilege.',
    f'{AT}FATAL:  unrecognized configuration parameter "nosuch"',
    f'{AT}FATAL:  invalid value for parameter "work_mem": "abc"',
    f'{AT}FATAL:  parameter "wal_level" cannot be changed without restarting the server',
    f"{AT}FATAL:  unsupported frontend protocol 3.9: server supports 3.0 to 3.0",
    f"{AT}FATAL:  unsupported startup parameter: options",
    f"{AT}FATAL:  Unsupported startup parameter: options",
    f"{AT}FATAL:  unsupported startup parameter in options: idle_in_transaction_session_timeout",
    f"{AT}FATAL:  no such database: shop",
    f"{AT}FATAL:  no such user",
    f"{AT}FATAL:  SASL authentication failed",
    f"{AT}FATAL:  bouncer config error",
    f"{AT}FATAL:  SSL required",
    "transaction blocks not allowed in statement pooling mode",
    'server login has been failing, cached error: role "app" does not exist (server_login_retry)',
    f"{AT}server does not support SSL, but SSL was required",
    f'{AT}server certificate for "db" does not match host name "10.0.0.1"',
    f"{AT}SSL error: certificate verify failed",
    f'{AT}root certificate file "/nope" does not exist\nEither provide the file, or change sslmode.',
    f"{AT}expected authentication request from server, but received H",
    f'{BAD}connection to server on socket "/run/.s.PGSQL.5432" failed: requirepeer specifies "a", but actual is "b"',
    f'{BAD}invalid sslmode value: "foo"',
    f'{BAD}invalid port number: "99999"',
    f'{BAD}definition of service "nosuch" not found',
    'invalid connection option "nosuch"',
    "bad value for connect_timeout: 'soon'",
]
OUTAGES = [
    f"{AT}Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
    f'{BAD}connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory',
    "connection timeout expired",
    f"{AT}server closed the connection unexpectedly",
    f"{AT}SSL SYSCALL error: EOF detected",
    f"{AT}FATAL:  the database system is starting up",
    f"{AT}FATAL:  the database system is shutting down",
    f"{AT}FATAL:  sorry, too many clients already",
    f"{AT}FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    f'{AT}FATAL:  too many connections for role "app"',
    f"{AT}FATAL:  could not write init file: No space left on device",
    f"{AT}session is read-only",
    f"{AT}FATAL:  no more connections allowed (max_client_conn)",
    f"{AT}FATAL:  query_wait_timeout",
    f"{AT}FATAL:  client_login_timeout (server down)",
    f"{AT}FATAL:  pgbouncer is shutting down",
    f"{AT}FATAL:  server login has been failing, try again later (server_login_retry)",
    f"{AT}FATAL:  server login has been failing, cached error: connect failed (server_login_retry)",
    "failed to resolve host 'certificate.example': [Errno -2] Name or service not known",
    f'{BAD}could not translate host name "db" to address: Temporary failure in name resolution',
    f"{AT}FATAL:  words that nobody knows",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_says_what_happened_and_what_to_do(text: str) -> None:
    found = refusal(OperationalError(text))
    assert found is not None
    assert found.startswith("the database refuses the connection (")
    assert "); " in found
    assert "\n" not in found


@pytest.mark.parametrize("text", OUTAGES)
def test_a_database_that_is_down_or_busy_does_not_refuse(text: str) -> None:
    assert refusal(OperationalError(text)) is None


def attempts(*failures: tuple[str, str, str]) -> str:
    """Return psycopg's text for several attempts: host, address and error of each."""
    lines = [f"- host: {host!r}, port: '5432', hostaddr: {address!r}: {text}" for host, address, text in failures]
    return "\n".join([failures[-1][2], "Multiple connection attempts failed. All failures were:", *lines])


def test_one_address_of_a_host_that_refuses_is_enough_but_each_of_several_hosts_must_refuse() -> None:
    wrong, down = REFUSED[0], OUTAGES[0]
    for order in ([wrong, down], [down, wrong]):
        one = attempts(("localhost", "::1", order[0]), ("localhost", "127.0.0.1", order[1]))
        assert 'password authentication failed for user "app")' in str(refusal(OperationalError(one)))
        two = attempts(("first", "10.0.0.1", order[0]), ("second", "10.0.0.2", order[1]))
        assert refusal(OperationalError(two)) is None
    both = attempts(("first", "10.0.0.1", wrong), ("second", "10.0.0.2", wrong))
    assert refusal(OperationalError(both))


@pytest.mark.parametrize(
    ("state", "message", "advice"),
    [
        ("28P01", "Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen", "check user and password"),
        ("28000", "кодировка pg_hba.conf", "let this user connect"),
        ("3D000", "la base de données « shop » n'existe pas", "create the database"),
        ("42704", "Parameter »nosuch« unbekannt", "correct or remove the parameter"),
    ],
)
def test_a_refusal_in_another_language_is_known_by_its_sqlstate(state: str, message: str, advice: str) -> None:
    with RefusingServer(state, message) as server, pytest.raises(DatabaseRefusedError, match=advice) as caught:
        connect(server.url).connect()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("state", "message"),
    [("57P03", "das Datenbanksystem wird hochgefahren"), ("53300", "tut mir leid, schon zu viele Verbindungen")],
)
def test_an_outage_in_another_language_is_one(state: str, message: str) -> None:
    with RefusingServer(state, message) as server, pytest.raises(DatabaseDown, match=message) as caught:
        connect(server.url).connect()
    assert is_outage(caught.value)


def test_a_pooler_that_refuses_the_first_statement_refuses_the_connection() -> None:
    cached = 'server login has been failing, cached error: database "shop" does not exist (server_login_retry)'
    with (
        RefusingServer("08P01", cached, after_login=True) as server,
        pytest.raises(DatabaseRefusedError, match="create the database"),
    ):
        connect(server.url).connect()
    with (
        RefusingServer("08P01", "query_wait_timeout", after_login=True) as server,
        pytest.raises(DatabaseDown) as caught,
    ):
        connect(server.url).connect()
    assert is_outage(caught.value)


def test_an_invalid_parameter_of_the_url_is_refused() -> None:
    for parameter in ("nosuch=red", "sslmode=foo", "connect_timeout=soon"):
        with pytest.raises(DatabaseRefusedError, match="correct or remove the parameter"):
            connect(f"postgresql://127.0.0.1:1/shop?{parameter}").connect()
