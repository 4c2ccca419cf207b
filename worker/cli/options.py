"""Options shared by several of these commands."""

from pathlib import Path

import click

from tagmill.cli.param_types import DEVICE

__all__ = ["AS_JSON", "BUNDLES", "DEVICE"]

BUNDLES = click.option(
    "--bundle", "bundles", multiple=True, required=True, type=click.Path(path_type=Path), metavar="FILE.onnx",
    help="May be repeated: each image is decoded once for all.",
)  # fmt: skip

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
