"""`tagmill export`: make a bundle from a training run."""

from pathlib import Path

import click

from export.cli.options import FILE, FOLDER


@click.command()
@click.argument("run", type=FOLDER)
@click.option("-o", "--out", required=True, type=FILE, help="The bundle to write, FILE.onnx.")
@click.option("--name", help="Name in the bundle  [default: that of the file]")
@click.option("--samples", type=FOLDER, help="Images to prove the bundle on, if the run's own are gone.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True,
              help="Precision of the weights; the loss is measured.")  # fmt: skip
@click.option("--top-k", type=click.IntRange(1), help="Let the graph pick the best K labels of each image.")
@click.option("--embedding", type=click.IntRange(1), metavar="WIDTH",
              help="Also give an embedding of each image: so many numbers, for `tagmill similar`.")  # fmt: skip
@click.option("--activation-map", is_flag=True, help="Also give a small map of where the best label comes from.")
def export(
    run: Path, out: Path, name: str | None, samples: Path | None, precision: str, top_k: int | None,
    embedding: int | None, activation_map: bool,
) -> None:  # fmt: skip
    """Make a bundle out of a training run.

    RUN is the folder that `tagmill train` wrote. The bundle is compared with torch on up to 200 images,
    and is written only if both agree. With --precision fp16 or int8 it is written only if its accuracy, mean
    average precision or mean IoU on the run's test images falls by no more than 0.5 points.
    """
    from export.build import export_bundle
    from tagmill.bundles.metadata import Precision

    options = (Precision(precision), top_k or 0, embedding or 0, activation_map)
    done = export_bundle(run, out, name, samples, *options)
    spec, parity = done.spec, done.parity
    masks = "" if parity.mask_difference is None else f", masks by {parity.mask_difference:.4%} of the pixels"
    click.echo(
        f"{out}: {spec.task} bundle {spec.name}, {len(spec.labels)} labels, {out.stat().st_size / 2**20:.2f} MiB"
    )
    click.echo(f"scores differ from torch by at most {parity.max_score_difference:.1e}{masks} ({parity.images} images)")
    if done.comparison is not None:
        cost = done.comparison
        click.echo(
            f"{cost.metric.replace('_', ' ')} {cost.figure:.4f} in {spec.precision}, {cost.fp32:.4f} in fp32 "
            f"({cost.images} {cost.use} images); {done.size_ratio:.2f} of the size"
        )
