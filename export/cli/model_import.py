"""`tagmill model import`: make a bundle of a graph that another tool exported."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from export.cli.options import FILE, FOLDER
from tagmill.errors import ConfigurationError, InputError


class Numbers(click.ParamType[Any]):
    """One number, or three separated by commas: red, green and blue."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            found = ()
        if len(found) not in {1, 3} or not all(map(math.isfinite, found)):
            self.fail(f"{value} is neither a number nor three, such as 0.485,0.456,0.406.", param, ctx)
        return found


class Size(click.ParamType[Any]):
    """Pixels of both sides, or HEIGHTxWIDTH."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        parts = str(value).lower().split("x")
        if not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts) or len(parts) > 2:
            self.fail(f"{value} is neither a number of pixels nor HEIGHTxWIDTH, 1 to 4096.", param, ctx)
        return int(parts[0]), int(parts[-1])


@click.command("import")
@click.argument("graph", type=FILE, metavar="FILE.onnx")
@click.option("-o", "--out", required=True, type=FILE, help="The bundle to write, FILE.onnx.")
@click.option("--labels", type=FILE, help="A label a line, or JSON; else what the graph, or a file beside it, says.")
@click.option("--name", help="Name in the bundle  [default: that of the file]")
@click.option(
    "--task",
    type=click.Choice(["classify", "multilabel", "segment", "embed"]),
    help="What the graph gives  [default: by its outputs]",
)
@click.option("--input-size", "size", type=Size(), help="Pixels of both sides, or HEIGHTxWIDTH.")
@click.option("--layout", type=click.Choice(["nchw", "nhwc"]), help="Where its input has the channels.")
@click.option("--scale", type=float, help="What levels of 0 to 255 are multiplied by first, such as 0.00392157.")
@click.option("--mean", type=Numbers(), help="Taken off then: one number, or three.")
@click.option("--std", type=Numbers(), help="What the rest is divided by: one number, or three.")
@click.option("--bgr/--rgb", default=None, help="Whether it takes blue first.")
@click.option(
    "--resize",
    "geometry",
    type=click.Choice(["stretch", "letterbox", "center-crop"]),
    help="How an image becomes its input.",
)
@click.option("--crop", type=click.FloatRange(0, 1, min_open=True), help="Share of the short side that is kept, 0.875.")
@click.option(
    "--activation", type=click.Choice(["softmax", "sigmoid", "none"]), help="What makes scores of its output."
)
@click.option("--output", metavar="NAME", help="The output with the scores, if there are several.")
@click.option(
    "--embedding", metavar="NAME", help="An output or inner value that is an embedding of at most 512 numbers."
)
@click.option("--samples", type=FOLDER, help="Pictures to prove it on  [default: 30 drawn ones]")
def import_command(graph: Path, out: Path, name: str | None, samples: Path | None, **given: Any) -> None:  # fmt: skip
    """Make a bundle of a graph that another tool exported, and prove it.

    FILE.onnx may come from timm, torchvision, Hugging Face, Ultralytics (classify), Keras, scikit-learn and others.
    Normalization and softmax become part of the graph. The bundle is run beside the original on pictures, and is
    written only if both answer the same. What is guessed is said. `tagmill model add` registers it then.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ConfigurationError("`tagmill model import` needs onnx; run: pip install 'tagmill[onnx]'")
    from export.foreign.bring import import_bundle

    done = import_bundle(graph, out, _options(given), name, samples)
    for note in done.notes:
        click.echo(note, err=True)
    spec = done.spec
    what = f"{len(spec.labels)} labels" if spec.labels else "no labels"
    what += f", an embedding of {spec.embedding} numbers" if spec.embedding else ""
    masks = "" if done.mask_difference is None else f" and {done.mask_difference:.4%} of the mask pixels"
    click.echo(f"{out}: {spec.task} bundle {spec.name}, {what}, {out.stat().st_size / 2**20:.2f} MiB")
    click.echo(f"differs from the original graph by at most {done.difference:.1e}{masks} ({done.pictures} pictures)")


def _options(given: dict[str, Any]) -> Any:
    from export.foreign.choices import Activation, Options
    from export.foreign.graph_facts import Layout
    from export.foreign.labels import read_labels
    from tagmill.images.preprocess import Geometry
    from tagmill.tasks.base import task_named

    labels = given.pop("labels")
    if given["scale"] is not None and not (math.isfinite(given["scale"]) and given["scale"] > 0):
        raise InputError(f"--scale {given['scale']:g}: must be a number above 0")
    if given["std"] is not None and not all(given["std"]):
        raise InputError("--std: no number may be 0")
    convert: dict[str, Callable[[str], Any]] = {"layout": Layout, "activation": Activation, "task": task_named}
    values = {name: convert[name](value) if value and name in convert else value for name, value in given.items()}
    geometry = values["geometry"]
    values["geometry"] = Geometry(geometry.replace("-", "_")) if geometry else None
    return Options(labels=read_labels(labels) if labels else (), **values)
