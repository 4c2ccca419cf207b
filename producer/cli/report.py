"""`tagmill report`: one page about a run."""

from pathlib import Path

import click

from producer.report.measure.truth import read_truth
from producer.report.write import ReportOptions, write_report
from tagmill.cli.terminal.run_display import counting_bar
from tagmill.db.migrate import open_database
from tagmill.errors import InputError
from tagmill.settings import load_settings


@click.command()
@click.argument("run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html",
              show_default=True, help="The HTML file to write.")  # fmt: skip
@click.option("--truth", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="CSV or JSON lines with the columns image_key and label: adds accuracy and mix-ups.")  # fmt: skip
@click.option("--images", type=click.IntRange(0, 100_000), default=10_000, show_default=True,
              help="Most images on the page. Figures and charts are always of all images.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
              help="Chooses the images of a run that has more.")  # fmt: skip
@click.option("--reference", type=click.IntRange(1, 2**31 - 1), metavar="RUN",
              help="An earlier run: adds how far labels and scores are from it, as `tagmill drift` says.")  # fmt: skip
def report(run_id: int, output: Path, truth: Path | None, images: int, seed: int, reference: int | None) -> None:
    """Write one self-contained HTML page about a run: figures, charts, failures, and images to search and filter."""
    settings = load_settings()
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.parent}: no such folder; make it, or name another file with -o")
    engine = open_database(settings.database_url)
    options = ReportOptions(images, seed, read_truth(truth) if truth else {}, reference)
    written = write_report(engine, run_id, output, settings, options, counting_bar)
    shown = "" if written.shown == written.images else f", {written.shown:,} of them shown"
    click.echo(f"{output}: run {run_id}, {written.images:,} images{shown}, {output.stat().st_size / 1e6:.1f} MB")
    if written.unreadable:
        click.echo(f"{written.unreadable:,} images could not be read again; the page says why at each", err=True)
