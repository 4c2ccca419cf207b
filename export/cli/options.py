"""Types of arguments that several commands of this package take."""

from tagmill.cli.param_types import NonEmptyPath

FILE = FOLDER = NonEmptyPath()
