"""`tagmill results`: write the labels and masks of a run."""

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

import click

from producer.results.csv_writer import Format, write_csv
from producer.results.jsonl_writer import write_jsonl
from producer.results.mask_png_writer import require_segmenter, write_masks
from producer.results.read import ImageResult, read_results, run_models, unique_names
from tagmill.db.migrate import open_database
from tagmill.errors import InputError
from tagmill.files import whole_file
from tagmill.registry.models import Model
from tagmill.settings import load_settings


@click.command()
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@click.option("--format", "form", type=click.Choice([form.value for form in Format]), default="csv", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, writable=True), default="-", help="A file; - is stdout."
)
@click.option("--masks", "masks", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Also write each mask as a PNG at its picture's own size.")  # fmt: skip
def results(run_id: int, form: str, output: str, masks: Path | None) -> None:
    """Write the labels and masks of a run, one row or JSON object an image, in the order of its manifest."""
    engine = open_database(load_settings().database_url)
    models = run_models(engine, run_id)
    names = [(unique_names(models)[model.sha256], model) for model in models]
    if masks is not None:
        require_segmenter(models)
    if output == "-":
        count = _write_stdout(read_results(engine, run_id, models), names, form)
    else:
        try:
            with whole_file(Path(output)) as out:
                count = _write(read_results(engine, run_id, models), names, form, out)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror}") from error
    click.echo(f"run {run_id}: {count} images", err=True)
    if masks is not None:
        try:
            written = write_masks(read_results(engine, run_id, models), names, masks)
        except OSError as error:
            raise InputError(f"{error.filename or masks}: {error.strerror}; name another folder") from error
        click.echo(f"{written} masks in {masks}", err=True)


def _write_stdout(rows: Iterable[ImageResult], names: Sequence[tuple[str, Model]], form: str) -> int:
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise InputError("standard output is closed; name a file with -o")
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # as a file has it, whatever the locale
    count = _write(rows, names, form, sys.stdout)
    sys.stdout.flush()
    return count


def _write(rows: Iterable[ImageResult], names: Sequence[tuple[str, Model]], form: str, out: TextIO) -> int:
    return write_jsonl(rows, out) if form == Format.JSONL else write_csv(rows, names, out)
