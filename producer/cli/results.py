"""`tagmill results`: write the labels and masks of runs, or of the catalog."""

from pathlib import Path

import click

from producer.results.formats import WRITERS, Format
from producer.results.output import STDOUT, for_people, is_folder, local_folder, write_file, write_shards
from producer.results.query import ResultQuery
from producer.results.result_set import ResultSet, select_results
from producer.results.writers.base import WriteOptions
from producer.results.writers.mask_png_writer import require_segmenter, write_masks
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
@click.option("-o", "--output", default="-", metavar="FILE|FOLDER/", help="Where to write; - is standard output.")
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
    count = _write(about, form, output, shard_rows, WriteOptions(long=long, for_people=for_people(output)))
    click.echo(f"{about.title}: {count} images", err=True)
    if masks is not None:
        _write_masks(about, masks)


def _write(about: ResultSet, form: Format, output: str, shard_rows: int | None, options: WriteOptions) -> int:
    if not output:
        raise InputError("-o is empty; name a file or a folder")
    writer = WRITERS[form]
    if is_folder(output) or (shard_rows and output != STDOUT):
        with local_folder(Path(output)) as folder:
            return write_shards(about, writer, folder, options, shard_rows)
    if shard_rows:
        raise InputError("--shard-rows writes several files; name a folder: -o tags/")
    return write_file(about, writer, output, options)


def _write_masks(about: ResultSet, folder: Path) -> None:
    try:
        written = write_masks(about, about.models, folder)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}; name another folder") from error
    click.echo(f"{written} masks in {folder}", err=True)
