"""The figures as tables on a terminal."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from producer.monitoring.figures import GroupDrift, Kind, ModelDrift, RunDrift
from producer.monitoring.notes import verdict
from producer.monitoring.psi import Psi


def drift_tables(found: RunDrift) -> Iterator[Table]:
    """Yield the tables of each model: all images, labels, and the groups of each column."""
    for model in found.models:
        for kind, column in dict.fromkeys((group.kind, group.column) for group in model.groups):
            groups = [group for group in model.groups if (group.kind, group.column) == (kind, column)]
            yield _labels(groups) if kind is Kind.LABEL else _table(_title(model, found, column), column, groups)


def _title(model: ModelDrift, found: RunDrift, column: str | None) -> str:
    """Return the words above a table."""
    by = f", by {column}" if column else ""
    now, before = f"{model.name}@{model.version} in run {found.run}", f"run {found.reference}"
    return f"{now} against @{model.reference_version} in {before}{by}"


def _table(title: str, column: str | None, groups: list[GroupDrift]) -> Table:
    table = _empty(title, column or "images", ("before", "now", *("labels PSI", "scores PSI", "failed", "unknown")))
    for found in groups:
        table.add_row(
            _name(found),
            *(f"{found.before.images:,}", f"{found.now.images:,}"),
            *(_index(found.labels), _index(found.scores)),
            _shares(found.before.failed_share, found.now.failed_share),
            _shares(found.before.unknown_share, found.now.unknown_share),
            *_last(found),
        )
    return table


def _labels(groups: list[GroupDrift]) -> Table:
    table = _empty(None, "label", ("before", "now", "share", "adds to PSI", "scores PSI"))
    for found in groups:
        table.add_row(
            _name(found),
            *(f"{found.before.images:,}", f"{found.now.images:,}"),
            _shares(found.before.label_share, found.now.label_share),
            "–" if found.moved is None else f"{found.moved:.3f}",
            _index(found.scores),
            *_last(found),
        )
    return table


def _empty(title: str | None, first: str, numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in (*numbers, "distance"):
        table.add_column(name, justify="right")
    table.add_column("")
    return table


def _name(found: GroupDrift) -> str:
    return "(no value)" if found.kind is Kind.COLUMN and found.group is None else found.group or "all"


def _last(found: GroupDrift) -> tuple[str, str]:
    """Return the last two cells of a row: the distance, and what the figures say."""
    return "–" if found.distance is None else f"{found.distance.value:.4f}", verdict(found)


def _index(found: Psi | None) -> str:
    return "–" if found is None else f"{found.value:.3f} ({found.chance:.3f})"


def _shares(before: float | None, now: float | None) -> str:
    return "–" if before is None or now is None else f"{before:.1%} → {now:.1%}"
