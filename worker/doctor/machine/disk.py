"""Room on the disks that Tagmill writes to."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy.engine import make_url

from worker.doctor.finding import Finding, Subject, error, ok, warning
from worker.health.folders import ANSWER_SECONDS
from worker.health.time_limit import within

#: bytes that must be free, and below which or below which share somebody should look
_LEAST, _LOW, _LOW_SHARE = 200e6, 2e9, 0.05


def check(subject: Subject) -> Iterator[Finding]:
    """Yield how much room is left in the cache folder, the model store and beside a SQLite file."""
    settings = subject.settings
    places = {"TAGMILL_CACHE_FOLDER": settings.cache_folder}
    if isinstance(settings.model_store, Path):
        places["TAGMILL_MODEL_STORE"] = settings.model_store
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        places["the database"] = Path(str(url.database)).absolute().parent
    for name, place in places.items():
        try:
            yield within(ANSWER_SECONDS, partial(_room, name, place))
        except TimeoutError:
            yield error(f"{name}, {place}: does not answer", "mount it again")
        except OSError as failure:
            yield error(f"{name}, {place}: {failure.strerror}", "name a folder that can be read")


def _room(name: str, place: Path) -> Finding:
    folder = place.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    total, _, free = shutil.disk_usage(folder)
    what = f"{name}, {place}: {free / 1e9:,.1f} GB of {total / 1e9:,.0f} GB are free"
    if free < _LEAST:
        return error(what, "free some room: what does not fit is not written")
    return warning(what, "free some room") if free < min(_LOW, _LOW_SHARE * total) else ok(what)
