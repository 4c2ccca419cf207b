"""`tagmill results`: write the labels and masks of runs, or of the catalog."""

from pathlib import Path

import click

from producer.output.destinations.write import write_results
from producer.output.formats import WRITERS, Format
from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import ResultSet, select_results
from producer.output.writers.base import MasksAs, WriteOptions
from producer.output.writers.mask_png_writer import require_segmenter, write_masks
from tagmill.cli.param_types import Finite
from tagmill.db.migrate import open_database
from tagmill.errors import InputError
from tagmill.settings import load_settings
from tagmill.where import SYNTAX, Where

MAX_RUN = 2**31 - 1


@click.command()
@click.argument("runs", type=click.IntRange(1, MAX_RUN), nargs=-1, metavar="[RUN]...")
@click.option(
    "--format", "format_name", type=click.Choice([form.value for form in Format]), default="csv", show_default=True
)
@click.option("-o", "--output", default="-", metavar="FILE|FOLDER/",
              help="A file, a folder, or both at s3://, gs:// or az://; - is standard output.")  # fmt: skip
@click.option("--shard-rows", type=click.IntRange(1), metavar="N",
              help="Write files part-00000 and so on of N images each into the folder that -o names.")  # fmt: skip
@click.option("--masks", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Also write each mask as a PNG at the size of its image.")  # fmt: skip
@click.option("--since", metavar="TIME|RUN",
              help="Only what changed since a time (ISO 8601), an age such as 2d, or the start of a run.")  # fmt: skip
@click.option("--model", "models", multiple=True, metavar="NAME[@VERSION]", help="Only this model; may be repeated.")
@click.option("--label", "labels", multiple=True, metavar="LABEL",
              help="Only images with this label; may be repeated: with one of them.")  # fmt: skip
@click.option("--min-score", type=Finite(0, 1), metavar="S", help="Leave out labels and masks of a lower score.")
@click.option("--thresholds", is_flag=True, help="Leave out labels below the threshold that training suggested.")
@click.option("--failed", is_flag=True, help="Only images that failed, with code and explanation.")
@click.option("--where", "conditions", multiple=True, metavar="CONDITION",
              help=f"Only images of which this holds, such as brand=Acme; may be repeated. {SYNTAX}.")  # fmt: skip
@click.option("--long", is_flag=True, help="csv: one row per label and mask.")
@click.option("--masks-as", type=click.Choice([kind.value for kind in MasksAs]), default="brush", show_default=True,
              help="label-studio: masks pixel by pixel, or as outlines to edit.")  # fmt: skip
@click.option("--image-prefix", metavar="OLD=NEW",
              help="coco, label-studio, fiftyone, hf: begin locations of images with NEW, not OLD.")  # fmt: skip
@click.option("--full-urls", is_flag=True,
              help="Leave logins and signatures in URLs, so that other programs can fetch them.")  # fmt: skip
def results(
    runs: tuple[int, ...],
    format_name: str,
    output: str,
    shard_rows: int | None,
    masks: Path | None,
    since: str | None,
    models: tuple[str, ...],
    labels: tuple[str, ...],
    min_score: float | None,
    thresholds: bool,
    failed: bool,
    conditions: tuple[str, ...],
    long: bool,
    masks_as: str,
    image_prefix: str | None,
    full_urls: bool,
) -> None:
    """Write the labels and masks of runs or of the catalog.

    The images of runs are in the order of their manifests. Without RUN, they are the newest of every image_key, in the
    order of their keys.
    """
    form = Format(format_name)
    if long and form is not Format.CSV:
        raise InputError(f"--long is of csv; {form} has all labels of an image")
    if failed and not WRITERS[form].shows_failures:
        raise InputError(f"{form} has no place for failed images; choose csv, jsonl or parquet")
    query = ResultQuery(runs, models, labels, Where.parse(conditions), since, min_score, thresholds, failed, full_urls)
    about = select_results(open_database(load_settings().database_url), query)
    if masks is not None:
        if len(about.runs) > 1:
            raise InputError("--masks takes one run, or none for the catalog: two runs may have the same image_key")
        require_segmenter(model for _, model in about.models)
    options = WriteOptions(long=long, masks_as=MasksAs(masks_as), image_prefix=_prefix(image_prefix))
    count = write_results(about, WRITERS[form], output, options, shard_rows)
    click.echo(f"{about.title}: {count} images", err=True)
    if masks is not None:
        _write_masks(about, masks)


def _prefix(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    old, equals, new = text.partition("=")
    if not old or not equals:
        raise InputError(f"--image-prefix {text}: write OLD=NEW, such as /srv/catalog/=https://cdn.example/")
    return old, new


def _write_masks(about: ResultSet, folder: Path) -> None:
    try:
        written = write_masks(about, about.models, folder)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}; name another folder") from error
    click.echo(f"{written} masks in {folder}", err=True)
