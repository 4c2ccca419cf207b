"""`tagmill train svc`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tagmill.cli.param_types import Finite
from training.cli.options import LABELED, SEED, find_folders, places
from training.cli.result import print_result, training_run


@click.command()
@LABELED
@places
@click.option("--features", type=click.Choice(["pixels", "hog"]), help="What of an image is seen  [default: pixels]")
@click.option("--size", type=click.IntRange(4, 512), help="Pixels of both sides  [default: 28]")
@click.option("--c", type=Finite(0, min_open=True), help="Cost of an image on the wrong side  [default: 10]")
@click.option("--limit", type=click.IntRange(2), help="Images to train on, evenly of each category  [default: all]")
@SEED
def svc(data: tuple[Path, ...], validation: tuple[Path, ...], test: tuple[Path, ...], out: Path, **given: Any) -> None:
    """Train a support vector classifier on pixels or HOG features: a baseline to beat."""
    from training.models.svm import Features
    from training.recipes.svc import DEFAULTS, train_svc

    values = {name: value for name, value in given.items() if value is not None}
    hyper = replace(DEFAULTS, **values | {"features": Features(values.get("features", DEFAULTS.features))})
    folders = find_folders(data, validation, test)
    with training_run(out, "to train again, remove it or name another --out"):
        print_result(out, train_svc(folders, out, hyper))
