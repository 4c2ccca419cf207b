"""Errors a person can act on, each with the exit code the command ends with."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `tagmill` command."""

    DONE = 0
    USAGE = 2
    #: the run finished, and some of its images failed
    FAILED_IMAGES = 3
    #: there was nothing to do, for example an empty folder
    NOTHING_TO_DO = 4
    #: broker or database is down: try again later
    SERVICE_DOWN = 75
    #: a setting, an installation or a bundle does not fit
    CONFIGURATION = 78
    #: interrupted; running the same command again is safe
    INTERRUPTED = 130


class TagmillError(Exception):
    """Base of every error shown to a user as one line."""

    exit_code = ExitCode.USAGE


class InputError(TagmillError):
    """What the user named cannot be used: a path, a manifest, a run, a model name."""


class OutputError(InputError):
    """Standard output takes no more."""


class NothingToDo(TagmillError):
    """The input holds no work."""

    exit_code = ExitCode.NOTHING_TO_DO


class ServiceDown(TagmillError):
    """Broker or database does not answer."""

    exit_code = ExitCode.SERVICE_DOWN


class ConfigurationError(TagmillError):
    """A setting or the installation does not allow what was asked."""

    exit_code = ExitCode.CONFIGURATION


class BundleError(ConfigurationError):
    """A bundle is not what it should be: unreadable, unknown fields, wrong sha256."""


class DeviceLostError(TagmillError):
    """A device that has worked answers no more, whatever the image."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error, of the driver's own where SQLAlchemy wraps one; its type where it is mute."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
