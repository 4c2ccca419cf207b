"""`tagmill model diff`: how the answers of two models to the same images differ."""

import json
from pathlib import Path

import click

from tagmill.cli.param_types import AS_JSON
from tagmill.errors import InputError


@click.command("diff")
@click.argument("first", metavar="NAME@VERSION")
@click.argument("second", metavar="NAME@VERSION")
@click.option("--run", "run_id", type=click.IntRange(1, 2**31 - 1), metavar="RUN",
              help="Only the entries of this run  [default: every image with a result of both]")  # fmt: skip
@click.option("--where", "conditions", multiple=True, metavar="CONDITION",
              help="Only entries of the run that fulfill a condition, brand=Nike; may be repeated.")  # fmt: skip
@click.option("--by", metavar="COLUMN", help="Also by the values of a further column of the run's entries.")
@click.option("--truth", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="CSV or JSON lines with the columns image_key and label: adds the accuracy of both.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
              help="Also write a page, with pictures that the models do not agree on.")  # fmt: skip
@AS_JSON
def diff_command(
    first: str,
    second: str,
    run_id: int | None,
    conditions: tuple[str, ...],
    by: str | None,
    truth: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare what two versions, or two models, said of the images that both have a result of.

    Nothing is inferred: a shadow, a canary, or a run with both models has stored what is compared. The first one is
    what the second one is compared with, such as the version in production.
    """
    from producer.model_diff.compare import DiffOptions, compare_models
    from producer.model_diff.tables import diff_tables, said
    from producer.report.measure.truth import read_truth
    from tagmill.cli.terminal.console import open_console
    from tagmill.db.migrate import open_database
    from tagmill.registry.models import resolve
    from tagmill.settings import load_settings
    from tagmill.where import Where

    if output is not None and not output.absolute().parent.is_dir():
        raise InputError(f"{output.parent}: no such folder; make it, or name another file with -o")
    settings = load_settings()
    options = DiffOptions(
        run_id, Where.parse(conditions), by, read_truth(truth) if truth else {}, examples=output is not None
    )
    engine = open_database(settings.database_url)
    found = compare_models(engine, resolve(engine, first), resolve(engine, second), options)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        console = open_console(highlight=False)
        for table in diff_tables(found):
            console.print(table)
        for line in said(found):
            click.echo(line)
        for note in found.notes:
            click.echo(note, err=True)
    if output is not None:
        from producer.model_diff.page import write_page

        written = write_page(found, output, settings)
        click.echo(f"{output}: {written.pictures:,} pictures, {output.stat().st_size / 1e6:.1f} MB", err=as_json)
