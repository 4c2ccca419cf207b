"""`tagmill predict`: tag single images."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from tagmill.cli.param_types import AS_JSON, DEVICE
from tagmill.errors import ExitCode
from tagmill.settings import load_settings
from worker.cli.options import BUNDLES
from worker.local.predict import predict_files


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@BUNDLES
@DEVICE
@AS_JSON
def predict(images: tuple[Path, ...], bundles: tuple[Path, ...], device: str | None, as_json: bool) -> int:
    """Tag single images with no queue and no database, with the worker's own code."""
    settings = load_settings(device=device)
    predictions = predict_files(settings, images, bundles)
    for found in predictions:
        if as_json:
            answers = {
                name: {"labels": row.labels, "masks": [asdict(m) for m in row.masks]} for name, row in found.answers
            }
            click.echo(json.dumps({"image": str(found.path), "failure": found.failure, "models": answers}))
        elif found.failure:
            click.echo(f"{found.path}: {found.failure}")
        for name, row in () if as_json else found.answers:
            words = [f"{label} {score:.2f}" for label, score in row.labels]
            words += [f"{mask.label} {mask.area_share:.0%} of the image" for mask in row.masks]
            click.echo(f"{found.path}: {name}: {', '.join(words) or 'nothing'}")
    return ExitCode.FAILED_IMAGES if any(found.failure for found in predictions) else ExitCode.DONE
