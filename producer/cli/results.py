"""`tagmill results`: write the labels and masks of a run."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
from sqlalchemy import Engine

from producer.results.formats import WRITERS, Format
from producer.results.mask_png_writer import require_segmenter, write_masks
from producer.results.read import is_ascii, read_results, run_models, unique_names
from tagmill.db.migrate import open_database
from tagmill.errors import InputError
from tagmill.files import open_atomic
from tagmill.registry.models import Model
from tagmill.settings import load_settings


@click.command()
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@click.option(
    "--format", "format_name", type=click.Choice([form.value for form in Format]), default="csv", show_default=True
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, writable=True), default="-", help="A file; - is stdout."
)
@click.option("--masks", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Also write each mask as a PNG at the size of its image.")  # fmt: skip
def results(run_id: int, format_name: str, output: str, masks: Path | None) -> None:
    """Write the labels and masks of a run, one row or JSON object per image, in the order of its manifest."""
    engine = open_database(load_settings().database_url)
    models = run_models(engine, run_id)
    names_by_sha256 = unique_names(models)
    names = [(names_by_sha256[model.sha256], model) for model in models]
    if masks is not None:
        require_segmenter(models)
    write = WRITERS[Format(format_name)]
    mark = _byte_order_mark(engine, run_id, models) if format_name == Format.CSV and _is_for_people(output) else ""
    if output == "-":
        out = _utf8_stdout()
        out.write(mark)
        count = write(read_results(engine, run_id, models), names, out)
        sys.stdout.flush()
    else:
        try:
            with open_atomic(Path(output)) as out:
                out.write(mark)
                count = write(read_results(engine, run_id, models), names, out)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror}") from error
    click.echo(f"run {run_id}: {count} images", err=True)
    if masks is not None:
        try:
            written = write_masks(read_results(engine, run_id, models), names, masks)
        except OSError as error:
            raise InputError(f"{error.filename or masks}: {error.strerror}; name another folder") from error
        click.echo(f"{written} masks in {masks}", err=True)


def _byte_order_mark(engine: Engine, run_id: int, models: Sequence[Model]) -> str:
    """Return the mark without which a spreadsheet takes a CSV for text in its country's old encoding."""
    return "" if is_ascii(engine, run_id, models) else "\ufeff"


def _is_for_people(output: str) -> bool:
    """Return whether a spreadsheet may open the output: a program reads a pipe or device that -o names."""
    return output == "-" or Path(output).is_file() or not Path(output).exists()


def _utf8_stdout() -> TextIO:
    """Return standard output with the encoding and line ends of a file, whatever the locale."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise InputError("standard output is closed; name a file with -o")
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    return sys.stdout
