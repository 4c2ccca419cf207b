"""The figures as tables and lines on a terminal."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from producer.model_diff.figures import Group, ModelDiff
from producer.monitoring.psi import Psi
from tagmill.comparison.agreement import Agreement
from tagmill.text import legible

#: rows of each table
MOST = 20


def diff_tables(found: ModelDiff) -> Iterator[Table]:
    """Yield the tables: labels, the values of a column, and confusions."""
    yield _labels(found)
    if found.by:
        yield _columns(found)
    if found.confusions:
        yield _confusions(found)


def said(found: ModelDiff) -> Iterator[str]:
    """Yield what is said of all images, a line each."""
    scores, whole = found.scores, found.agreement
    of_run = "" if found.run is None else f" of run {found.run}"
    yield f"{found.b} against {found.a}: {whole.images:,} images{of_run} that both have a result of"
    yield f"agreement, by {found.compared}: {share(whole)}"
    if scores.difference is not None and scores.interval is not None:
        low, high = scores.interval
        yield (
            f"mean score {scores.mean_a:.3f} → {scores.mean_b:.3f}, difference {scores.difference:+.3f} "
            f"({low:+.3f} to {high:+.3f}); PSI of scores {index(scores.psi)}, of labels {index(found.label_psi)}"
        )
    if found.truth is not None:
        yield truth_line(found)


def truth_line(found: ModelDiff) -> str:
    """Return how often both are right."""
    assert found.truth is not None
    figures = found.truth.figures
    if not figures.images:
        return "accuracy: the truth of no image that both have a result of is known"
    low, high = figures.interval
    return (
        f"accuracy on {figures.images:,} images: {figures.right_a / figures.images:.1%} to "
        f"{figures.right_b / figures.images:.1%}, difference {100 * figures.difference:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}); right only by {found.a}: {figures.only_a:,}, "
        f"only by {found.b}: {figures.only_b:,} (p = {figures.chance:.3g})"
    )


def share(found: Agreement) -> str:
    """Return a share with its 95 % interval."""
    if found.share is None:
        return "–"
    low, high = found.interval
    return f"{found.share:.1%} ({low:.1%} to {high:.1%})"


def index(found: Psi | None) -> str:
    """Return an index, with what chance alone makes of it in brackets."""
    return "–" if found is None else f"{found.value:.3f} ({found.chance:.3f})"


def _labels(found: ModelDiff) -> Table:
    first = "label of A" if found.one_label else "label"
    table = _empty(f"A is {found.a}, B is {found.b}", first, "given by A", "by B", "B says the same", "mean score")
    for group in found.labels[:MOST]:
        table.add_row(
            legible(group.name or ""),
            f"{group.agreement.images:,}",
            f"{group.given_b:,}",
            share(group.agreement),
            _means(group),
        )
    return _with_rest(table, len(found.labels))


def _columns(found: ModelDiff) -> Table:
    table = _empty(f"by {found.by}", found.by or "", "images", "same answer")
    for group in found.columns[:MOST]:
        name = "(no value)" if group.name is None else legible(group.name)
        table.add_row(name, f"{group.agreement.images:,}", share(group.agreement))
    return _with_rest(table, len(found.columns))


def _confusions(found: ModelDiff) -> Table:
    table = _empty("where they differ", "A says", "B says", "images", "of A's label")
    for one in found.confusions[:MOST]:
        table.add_row(legible(one.label_a), legible(one.label_b), f"{one.images:,}", f"{one.share:.1%}")
    return _with_rest(table, len(found.confusions))


def _with_rest(table: Table, rows: int) -> Table:
    if rows > MOST:
        table.caption = f"and {rows - MOST:,} more; all are in --json and -o"
    return table


def _empty(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name == "B says" else "right")
    return table


def _means(group: Group) -> str:
    return " → ".join("–" if mean is None else f"{mean:.3f}" for mean in (group.mean_a, group.mean_b))
