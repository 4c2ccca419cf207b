"""Options and types of arguments that several commands of this package take."""

import click

from tagmill.cli.param_types import NonEmptyPath

FILE = FOLDER = NonEmptyPath()

DEVICE = click.option(
    "--device", metavar="auto|cpu|cuda:N|tensorrt:N|openvino", help="Where inference runs.  [default: auto]"
)
