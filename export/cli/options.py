"""Options and types of arguments that several commands of this package take."""

from tagmill.cli.param_types import DEVICE, NonEmptyPath

__all__ = ["DEVICE", "FILE", "FOLDER"]

FILE = FOLDER = NonEmptyPath()
