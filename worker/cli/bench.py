"""`tagmill bench`: find the batch size and threads with which a bundle is fastest."""

from pathlib import Path

import click

from tagmill.cli.param_types import AS_JSON, DEVICE, Finite
from tagmill.settings import load_settings


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
              help="Images to measure with. By default some are drawn.")  # fmt: skip
@click.option("--seconds", default=30.0, show_default=True, type=Finite(1),
              help="How long to measure.")  # fmt: skip
@DEVICE
@AS_JSON
def bench(bundle: Path, data: Path | None, seconds: float, device: str | None, as_json: bool) -> None:
    """Find the batch size and threads with which a bundle is fastest on this machine. Workers on it then use them.

    TAGMILL_INFERENCE_BATCH and TAGMILL_INFERENCE_THREADS have priority over the choice.
    """
    from worker.bench.run import (
        run_bench,
    )  # imported here: the code that draws images would slow down the start of other commands

    run_bench(load_settings(device=device), bundle, data, seconds, as_json)
