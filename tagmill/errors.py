"""Errors that a user can act on, each with the exit code of the command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `tagmill` command."""

    DONE = 0
    USAGE = 2
    #: the run finished, and some of its images failed; or pictures break a rule that is an error
    FAILED_IMAGES = 3
    #: the input holds no work, for example an empty folder
    NOTHING_TO_DO = 4
    #: a run is further from its reference than a threshold allows
    DRIFTED = 5
    #: a model is not promoted, because a gate failed
    GATE_FAILED = 6
    #: broker or database is down: try again later
    SERVICE_DOWN = 75
    #: a setting, the installation or a bundle must be corrected
    CONFIGURATION = 78
    #: interrupted; running the same command again is safe
    INTERRUPTED = 130


class TagmillError(Exception):
    """Base of every error that is shown to the user as one line."""

    exit_code = ExitCode.USAGE


class InputError(TagmillError):
    """An argument that cannot be used: a path, a manifest, a run, a model name."""


class OutputError(InputError):
    """A failed write to standard output."""


class NothingToDo(TagmillError):
    """An input that holds no work."""

    exit_code = ExitCode.NOTHING_TO_DO


class ServiceDown(TagmillError):
    """A broker or database that does not answer."""

    exit_code = ExitCode.SERVICE_DOWN


class ConfigurationError(TagmillError):
    """A setting or an installation that does not allow the command."""

    exit_code = ExitCode.CONFIGURATION


class DatabaseRefusedError(ConfigurationError):
    """A database that refuses every connection with these settings: waiting changes nothing."""


class BrokerRefusedError(ConfigurationError):
    """A broker that refuses every connection with these settings: waiting changes nothing."""


class BundleError(ConfigurationError):
    """A bundle that cannot be used: unreadable, unknown fields, wrong sha256."""

    #: of the registered bundle, if it is one
    sha256 = ""


class DeviceLostError(TagmillError):
    """A device that worked before and now fails on every image."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error, or its type if it has no message; SQLAlchemy's errors are unwrapped."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
