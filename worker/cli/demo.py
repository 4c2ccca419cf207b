"""`tagmill demo`: tag a drawn catalog end to end."""

from pathlib import Path

import click

from tagmill.cli.param_types import AS_JSON
from tagmill.settings import load_settings
from worker.cli.tag import tag_with_bar


@click.command()
@click.option("--images", default=300, show_default=True, type=click.IntRange(10), help="Images to draw.")
@click.option("--seed", default=7, show_default=True, help="The same seed draws the same catalog.")
@click.option("--out", default="demo", show_default=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the catalog and everything made of it.")  # fmt: skip
@AS_JSON
def demo(images: int, seed: int, out: Path, as_json: bool) -> None:
    """Draw a sample catalog and tag it end to end with the starter bundles: no servers, no GPU, no network."""
    from worker.local.demo import (
        run_demo,
    )  # imported here: the code that draws images would slow down the start of other commands

    run_demo(load_settings(), images, seed, out, as_json, tag_with_bar)
