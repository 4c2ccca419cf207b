"""Options shared by several of these commands."""

from pathlib import Path

import click

BUNDLES = click.option(
    "--bundle", "bundles", multiple=True, required=True, type=click.Path(path_type=Path), metavar="FILE.onnx",
    help="May be repeated: each image is decoded once for all.",
)  # fmt: skip
