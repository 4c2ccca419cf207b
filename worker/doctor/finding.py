"""What a check found, and what checks are given."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from tagmill.db.migrate import open_database
from tagmill.errors import ConfigurationError
from tagmill.settings import Settings


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    #: it works, and may fail later or do something else than was meant
    WARNING = "warning"
    #: something does not work
    ERROR = "error"
    #: it could not be looked at, for example because a package is not installed here
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One sentence about what was found, and one about what to do; the second is empty if there is nothing to do."""

    level: Level
    what: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return asdict(self)


def ok(what: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(Level.OK, what)


def warning(what: str, advice: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(Level.WARNING, what, advice)


def error(what: str, advice: str) -> Finding:
    """Return a finding that somebody must mend."""
    return Finding(Level.ERROR, what, advice)


def skipped(what: str, advice: str = "") -> Finding:
    """Return why something was not looked at."""
    return Finding(Level.SKIPPED, what, advice)


class Subject:
    """What checks look at: an installation as its settings describe it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def runs_models(self) -> bool:
        """Whether an inference library is installed: a worker may run here."""
        return find_spec("onnxruntime") is not None

    def require_file(self) -> None:
        """Raise ConfigurationError if a SQLite file is not there: to open it would create it."""
        url = make_url(self.settings.database_url)
        if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
            raise ConfigurationError(f"there is no file {url.database}")

    def database(self) -> Engine:
        """Return an engine. Raise what `open_database` raises, and ConfigurationError if a SQLite file is not there."""
        self.require_file()
        return open_database(self.settings.database_url)


#: looks at one subject
Check = Callable[[Subject], Iterable[Finding]]
