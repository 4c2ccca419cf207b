"""`tagmill drift`: how far the results of a run are from those of a reference run."""

import json
from pathlib import Path

import click

from producer.monitoring.compare import Comparison, compare_runs
from producer.monitoring.figures import Limits
from producer.monitoring.notes import lines
from producer.monitoring.store import store_drift
from producer.monitoring.tables import drift_tables
from producer.monitoring.textfile import write_textfile
from tagmill.cli.param_types import AS_JSON, Finite
from tagmill.cli.terminal.console import open_console
from tagmill.db.migrate import open_database
from tagmill.errors import ExitCode
from tagmill.settings import load_settings

RUN_ID = click.IntRange(1, 2**31 - 1)


@click.command()
@click.argument("run_id", type=RUN_ID, metavar="RUN")
@click.option("--reference", type=RUN_ID, required=True, metavar="RUN", help="The run that it is compared with.")
@click.option("--model", "models", multiple=True, metavar="NAME[@VERSION]",
              help="Only this model; may be repeated. Without it, every model that both runs have.")  # fmt: skip
@click.option("--by", "columns", multiple=True, metavar="COLUMN",
              help="Also by the values of a further column of the entries; may be repeated.")  # fmt: skip
@click.option("--threshold", type=Finite(0), default=0.2, show_default=True, metavar="PSI",
              help="A population stability index above it is drift.")  # fmt: skip
@click.option("--max-distance", type=Finite(0, 2), metavar="D",
              help="A cosine distance of mean embeddings above it is drift, too.")  # fmt: skip
@click.option("--least-images", type=click.IntRange(1), default=200, show_default=True, metavar="N",
              help="Groups with fewer images in either run get no verdict.")  # fmt: skip
@click.option("--groups", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N",
              help="Labels, and values of each column, that are shown: the most frequent.")  # fmt: skip
@click.option("--prometheus", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.prom",
              help="Also write metrics for the textfile collector of node_exporter.")  # fmt: skip
@AS_JSON
def drift(
    run_id: int,
    reference: int,
    models: tuple[str, ...],
    columns: tuple[str, ...],
    threshold: float,
    max_distance: float | None,
    least_images: int,
    groups: int,
    prometheus: Path | None,
    as_json: bool,
) -> int:
    """Compare the labels, scores and embeddings of a run with those of a reference run.

    The figures are stored in SQL, in the view run_drift. The exit code is 5 if one is above its limit.
    """
    limits = Limits(threshold, max_distance, least_images)
    engine = open_database(load_settings().database_url)
    found = compare_runs(engine, Comparison(run_id, reference, models, columns, limits, groups))
    store_drift(engine, found)
    if prometheus is not None:
        write_textfile(found, prometheus)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        console = open_console(highlight=False)
        for table in drift_tables(found):
            console.print(table)
        for line in (line for model in found.models for line in lines(model, limits)):
            click.echo(line)
        click.echo(f"run {run_id} has {'drifted' if found.drifted else 'not drifted'} from run {reference}")
    for note in found.notes:
        click.echo(note, err=True)
    return ExitCode.DRIFTED if found.drifted else ExitCode.DONE
