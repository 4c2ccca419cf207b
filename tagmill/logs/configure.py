"""Send every log line and every warning of Python to stderr, for processes that run unattended."""

import logging
import os
import sys
import warnings
from typing import TextIO

from tagmill.errors import ConfigurationError
from tagmill.logs.fields import name_worker
from tagmill.logs.flood import FloodGuard
from tagmill.logs.formats import LogFormat, formatter

#: read from the environment alone: a line may be written before the settings are read
LEVEL_VARIABLE = "TAGMILL_LOG_LEVEL"
FORMAT_VARIABLE = "TAGMILL_LOG_FORMAT"


def configure(worker: str | None = None) -> None:
    """Write log lines of the level and in the format of the environment to stderr, and no other ones.

    `worker` is the name, NAME@HOST, that every line has from now on. Raise ConfigurationError for an unknown format.
    """
    if worker is not None:
        name_worker(worker)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format()))
    handler.addFilter(FloodGuard(handler))
    level = os.environ.get(LEVEL_VARIABLE, "INFO").upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    warnings.showwarning = _log_warning


def is_configured() -> bool:
    """Return whether this process writes its log by `configure`."""
    return any(isinstance(found, FloodGuard) for handler in logging.getLogger().handlers for found in handler.filters)


def log_format() -> LogFormat:
    """Return the format of the environment. Raise ConfigurationError if there is none of this name."""
    name = os.environ.get(FORMAT_VARIABLE, "").lower() or LogFormat.JSON.value
    if name not in list(LogFormat):
        raise ConfigurationError(f"{FORMAT_VARIABLE}: {name} is none of {', '.join(LogFormat)}")
    return LogFormat(name)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    fields = {"action": "python_warning", "category": category.__name__, "at": f"{filename}:{lineno}"}
    logging.getLogger("py.warnings").warning("%s", " ".join(str(message).split()), extra=fields)
