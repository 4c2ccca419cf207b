"""`tagmill doctor`: look at everything that an installation needs."""

import json
from collections import Counter
from collections.abc import Sequence

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tagmill.cli.param_types import AS_JSON, DEVICE
from tagmill.cli.terminal.console import open_console
from tagmill.errors import ConfigurationError, ExitCode
from tagmill.settings import load_settings
from worker.doctor.examine import examine
from worker.doctor.finding import Finding, Level, Subject, error

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red", Level.SKIPPED: "dim"}

Found = Sequence[tuple[str, Finding]]


@click.command()
@click.option("--quick", is_flag=True, help="Load no bundle, and try no device.")
@DEVICE
@AS_JSON
def doctor(quick: bool, device: str | None, as_json: bool) -> int:
    """Look at settings, database, Redis, folders, disks, bundles, device, workers and runs.

    It changes nothing, and works while any of them is down. Exit code 78 if something does not work, 0 if there are
    only warnings.
    """
    try:
        subject = Subject(load_settings(device=device))
    except ConfigurationError as failure:
        found = [("settings", error(str(failure), "correct the variable; nothing else was looked at"))]
    else:
        found = []
        with open_console(stderr=True).status(Text("looking at settings")) as status:
            for name, findings in examine(subject, quick=quick):
                status.update(Text(f"looked at {name}"))
                found += [(name, finding) for finding in findings]
    counts = Counter(finding.level for _, finding in found)
    if as_json:
        rows = [{"check": name} | finding.to_json() for name, finding in found]
        click.echo(json.dumps({"findings": rows, "counts": {level.value: counts[level] for level in Level}}))
    else:
        console = open_console(highlight=False)
        console.print(_table(found))
        console.print(f"errors: {counts[Level.ERROR]}, warnings: {counts[Level.WARNING]}")
    return ExitCode.CONFIGURATION if counts[Level.ERROR] else ExitCode.DONE


def _table(found: Found) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("found", "what to do"):
        table.add_column(name, overflow="fold")
    before = ""
    for name, finding in found:
        state = Text(finding.level.value, style=_STYLES[finding.level])
        table.add_row(name if name != before else "", state, finding.what, finding.advice)
        before = name
    return table
