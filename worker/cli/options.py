"""Options that several commands of the worker take."""

from pathlib import Path

import click

from tagmill.device import DEVICES

DEVICE = click.option("--device", metavar=DEVICES, help="Where inference runs.  [default: auto]")


BUNDLES = click.option(
    "--bundle", "bundles", multiple=True, required=True, type=click.Path(path_type=Path), metavar="FILE.onnx",
    help="May be repeated: each image is decoded once for all.",
)  # fmt: skip


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
