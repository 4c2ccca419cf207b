"""`tagmill sample`: draw a sample catalog of any size."""

from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tagmill.cli.terminal.console import open_console, text_column
from tagmill.errors import InputError
from tagmill.sample.catalog import write_catalog


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--images", default=300, show_default=True, type=click.IntRange(1), help="Images to draw.")
@click.option("--seed", default=7, show_default=True, help="The same seed draws the same catalog.")
@click.option("--broken", default=0, show_default=True, type=click.IntRange(0), help="Broken files among them.")
def sample(folder: Path, images: int, seed: int, broken: int) -> None:
    """Draw product images of ten clothing categories, with their true categories and masks.

    FOLDER gets images/CATEGORY/, masks/CATEGORY/, labels.json, manifest.csv and truth.csv. Run an interrupted command
    again to continue it.
    """
    click.echo(f"{draw(folder, images, seed, broken)}: {images} images, {broken} broken files")


def draw(folder: Path, images: int, seed: int, broken: int) -> Path:
    """Draw with a progress bar; return the path of the manifest. Raises InputError if the folder cannot be used."""
    console = open_console(stderr=True)
    columns = (text_column("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
            task = bar.add_task("drawing", total=images + broken)
            return write_catalog(folder, images, seed, broken, lambda drawn: bar.update(task, completed=drawn))
    except ValueError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}; name another folder") from error
