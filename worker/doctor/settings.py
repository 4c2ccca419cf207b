"""Settings that are unknown, or that often surprise."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from tagmill.machine import usable_cores
from tagmill.settings import unknown_variables
from worker.devices.provider_options import has_gpu
from worker.doctor.finding import Finding, Subject, ok, warning

_LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the settings."""
    found = [*_unknown(), *_places(subject), *_risks(subject)]
    yield from found or [ok("all are known, and none is risky")]


def _unknown() -> Iterator[Finding]:
    if unknown := unknown_variables():
        yield warning(f"no such setting: {unknown}", "correct or remove it; it has no effect")


def _places(subject: Subject) -> Iterator[Finding]:
    """Yield the places that depend on the folder that a command is started in."""
    settings = subject.settings
    url = make_url(settings.database_url)
    named = [("TAGMILL_MODEL_STORE", str(settings.model_store)), ("TAGMILL_CACHE_FOLDER", str(settings.cache_folder))]
    if url.get_backend_name() == "sqlite":
        named.append(("TAGMILL_DATABASE_URL", str(url.database).removeprefix("file:")))
    relative = [name for name, place in named if not place.startswith("/") and "://" not in place]
    if relative:
        advice = "give absolute paths: a worker that is started in another folder uses other files"
        yield warning(f"relative to the working directory: {', '.join(relative)}", advice)


def _risks(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    broker = urlsplit(settings.broker_url)
    if broker.scheme == "redis" and broker.password is None and broker.hostname not in _LOCAL:
        advice = "give Redis users with passwords (docs/operations/redis.md): who reaches it can have batches tagged"
        yield warning(f"Redis at {broker.hostname} is used without a password", advice)
    if str(settings.allow_private_hosts).lower() == "true":
        advice = "list the networks and names that images come from: a URL in a manifest reaches every private host"
        yield warning("TAGMILL_ALLOW_PRIVATE_HOSTS allows all of them", advice)
    if settings.device == "auto" and has_gpu():
        advice = "set TAGMILL_DEVICE=cuda:0: a worker whose GPU fails then ends, where auto may run on the CPU"
        yield warning("TAGMILL_DEVICE is auto on a machine with a GPU", advice)
    if settings.concurrency > 4 * usable_cores():
        advice = "lower TAGMILL_CONCURRENCY: batches in work hold memory and a connection each"
        yield warning(f"{settings.concurrency} batches in work on {usable_cores()} cores", advice)
    if settings.lease_seconds < 3:
        advice = "set TAGMILL_LEASE_SECONDS to 10: a short pause of a worker costs its batches"
        yield warning(f"a lease lasts {settings.lease_seconds:g} s", advice)
