"""`tagmill bench`: find the batch size and threads that a bundle runs fastest with."""

import math
from pathlib import Path

import click

from tagmill.settings import load_settings
from worker.cli.options import AS_JSON, DEVICE


def _finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse nan and inf, which no FloatRange stops."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
              help="Images to measure with; else some are drawn.")  # fmt: skip
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1), callback=_finite,
              help="How long to measure.")  # fmt: skip
@DEVICE
@AS_JSON
def bench(bundle: Path, data: Path | None, seconds: float, device: str | None, as_json: bool) -> None:
    """Find the batch size and threads that a bundle runs fastest with here, and have workers use them.

    What is set by TAGMILL_INFERENCE_BATCH and TAGMILL_INFERENCE_THREADS wins over the choice.
    """
    from worker.bench.run import run_bench  # what draws images is not for a worker's start

    run_bench(load_settings(device=device), bundle, data, seconds, as_json)
