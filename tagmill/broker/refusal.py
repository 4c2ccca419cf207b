"""Tell a Redis that refuses this user or database, which waiting cannot mend, from one that is down or busy."""

import ssl
from collections.abc import Iterator

#: what to do about a refusal
_LOGIN = "check user and password in TAGMILL_BROKER_URL"
_RIGHTS = "give the user the rights in docs/operations/redis.md"
_DATABASE = "correct the database number in TAGMILL_BROKER_URL"
TLS_ADVICE = "correct ssl_ca_certs in TAGMILL_BROKER_URL, or the server's certificate"
#: advice by a part of Redis's text, where redis-py has no class for it
_TEXTS = {
    "DB index is out of range": _DATABASE,
    "invalid DB index": _DATABASE,
    "SELECT is not allowed": _DATABASE,
    "protected mode": _LOGIN,
}


def broker_refusal(error: BaseException) -> str | None:
    """Return what happened and what to do if no connection will succeed with these settings; else None.

    `error` is kombu's or redis-py's. What redis-py raised may be the cause of it.
    """
    for seen in _causes(error):
        if advice := _advice(seen):
            return f"the broker refuses ({str(seen).strip().partition(chr(10))[0]}); {advice}"
    return None


def tls_refusal(error: BaseException) -> str | None:
    """Return what is wrong with the certificates, if that is why there is no connection; else None."""
    return next((str(seen) for seen in _causes(error) if _is_tls(seen)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_tls(error: BaseException) -> bool:
    # A connection opens no file but those of the certificates.
    return isinstance(error, ssl.SSLCertVerificationError | FileNotFoundError)


def _advice(error: BaseException) -> str | None:
    # Imported here: a broker in memory needs no redis-py.
    from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

    from tagmill.broker.sentinel import SentinelRefusedError

    if isinstance(error, SentinelRefusedError):
        return error.advice
    if isinstance(error, AuthenticationError):
        return _LOGIN
    if isinstance(error, NoPermissionError):
        return _RIGHTS
    if _is_tls(error):
        return TLS_ADVICE
    if isinstance(error, RedisError):
        return next((advice for text, advice in _TEXTS.items() if text in str(error)), None)
    return None
