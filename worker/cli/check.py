"""`tagmill check`: which pictures break the rules of a marketplace or of the shop."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from tagmill.cli.commands import missing_extra
from tagmill.cli.param_types import DATABASE
from tagmill.cli.terminal.console import open_console
from tagmill.csv_cells import escape_cell
from tagmill.db.migrate import open_database
from tagmill.errors import ExitCode, InputError, NothingToDo
from tagmill.ledger.pictures.rules import store_rules
from tagmill.locations.schemes import url_scheme
from tagmill.rules.read import built_in, read_rules
from tagmill.rules.rule import Rule, Severity
from tagmill.search.violations import RuleCount, Violation, count_measured, count_violations, read_violations
from tagmill.settings import load_settings
from tagmill.text import legible

_COLUMNS = ("image_key", "uri", "rule_set", "rule", "severity", "measure", "measured", "bound", "detail")


@click.command()
@click.argument("subject", required=False, metavar="[RUN|FILE|FOLDER]")
@click.option("--rules", "wanted", multiple=True, metavar="NAME|FILE",
              help=f"A built-in set ({', '.join(built_in())}) or a file of the same form; may be repeated. "
              "[default: all built-in sets]")  # fmt: skip
@click.option("--text", "with_text", is_flag=True, help="With a file or folder: look for text on the pictures, too.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True,
              help="A summary, or every violation.")  # fmt: skip
@click.option("--save", is_flag=True, help="Store the rules, so that the view catalog_violations applies them.")
@click.option("--full-urls", is_flag=True, help="Show logins and signatures of URLs.")
@DATABASE
def check(
    subject: str | None,
    wanted: tuple[str, ...],
    with_text: bool,
    form: str,
    save: bool,
    full_urls: bool,
    database_url: str | None,
) -> int:
    """Check the pictures of the catalog, of a run, or of a file or folder against rules.

    The pictures of the catalog and of runs are those that a run with --measure tagged. A file or folder is measured
    here, with no servers. Exit code 3 if a picture breaks a rule that is an error.
    """
    sets = [read_rules(name) for name in wanted or built_in()]
    rules = [rule for found in sets for rule in found.rules]
    settings = load_settings(database_url=database_url)
    if subject is not None and not subject.isdecimal():
        if save:
            raise click.UsageError("--save stores rules in SQL: leave the file or folder out.")
        return _show_local(subject, rules, with_text, form)
    if with_text:
        raise click.UsageError("--text goes with a file or folder; for a run, submit it with --measure text.")
    engine = open_database(settings.database_url)
    run_id = None if subject is None else int(subject)
    if run_id is not None and run_id >= 2**31:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    for found in sets if save else ():
        store_rules(engine, found)
    measured, with_texts = count_measured(engine, run_id)
    if not measured:
        raise NothingToDo("no picture was measured; submit them with --measure pictures, or --measure text")
    counts = count_violations(engine, rules, run_id)
    if form == "table":
        _show_summary(counts, measured, with_texts)
    else:
        _show_all(read_violations(engine, rules, run_id, full_urls), form)
    return _exit_code(counts)


def _show_local(subject: str, rules: Sequence[Rule], with_text: bool, form: str) -> int:
    if url_scheme(subject) is None and not Path(subject).exists():
        raise InputError(f"{subject}: no such run, file or folder")
    try:
        from worker.local.check import check_pictures
    except ModuleNotFoundError as error:
        raise missing_extra("check FILE", error, "cpu") from error
    done = check_pictures(load_settings(), subject, rules, with_text)
    for key, reason in done.failed:
        click.echo(f"{legible(key)}: {legible(reason)}", err=True)
    counts = done.counts(rules)
    if form == "table":
        _show_summary(counts, done.measured, done.measured if with_text else 0)
    else:
        _show_all(done.violations, form)
    return ExitCode.FAILED_IMAGES if done.failed else _exit_code(counts)


def _show_summary(counts: Sequence[RuleCount], measured: int, with_texts: int) -> None:
    table = Table()
    for name in ("rules", "rule", "pictures", "share", "means", "such as"):
        table.add_column(name, overflow="fold")
    for found in counts:
        if found.pictures:
            rule = found.rule
            share, examples = f"{found.pictures / measured:.1%}", ", ".join(map(legible, found.examples))
            named = rule.rule if rule.severity is Severity.ERROR else f"{rule.rule} (warning)"
            table.add_row(rule.rule_set, named, f"{found.pictures:,}", share, rule.detail, examples)
    if table.row_count:
        open_console().print(table)
    broken = sum(1 for found in counts if found.pictures)
    click.echo(f"{measured:,} pictures, {broken} of {len(counts)} rules broken")
    if with_texts < measured and any(found.rule.measure.startswith("text") for found in counts):
        click.echo(f"text was looked for on {with_texts:,} of them; submit with --measure text for the others")


def _show_all(found: Iterable[Violation], form: str) -> None:
    if form == "json":
        for one in found:
            click.echo(json.dumps(asdict(one)))
        return
    _write_row(_COLUMNS)
    for one in found:
        _write_row([getattr(one, name) for name in _COLUMNS])


def _write_row(values: Sequence[object]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([escape_cell(one) if isinstance(one, str) else one for one in values])
    click.echo(line.getvalue())


def _exit_code(counts: Sequence[RuleCount]) -> int:
    broken = any(found.pictures and found.rule.severity is Severity.ERROR for found in counts)
    return ExitCode.FAILED_IMAGES if broken else ExitCode.DONE
