"""Draw the graphs of a dashboard from the answers of Prometheus, where no Grafana is at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

INK, GRID = "#1d2433", "#e2e8f0"
COLORS = ("#2563eb", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#84cc16", "#f472b6", "#64748b")
_PER_UNIT = {
    "percentunit": (100.0, " %"),
    "bytes": (1 / 2**20, " MiB"),
    "s": (1.0, " s"),
    "suffix: img/s": (1.0, " img/s"),
}
_COLUMNS = 3


@dataclass(frozen=True)
class Graph:
    """A panel: its lines as (name, times in seconds from the start, values)."""

    title: str
    unit: str
    lines: Sequence[tuple[str, np.ndarray, np.ndarray]]


def draw(graphs: Sequence[Graph], spans: Sequence[tuple[float, float, str]], out: Path) -> None:
    """Write a PNG with the graphs in three columns.

    `spans` (from, to, what; in seconds) are marked in each graph, and named in the first.
    """
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(graphs) // _COLUMNS)
    figure, grid = plt.subplots(rows, _COLUMNS, figsize=(16, 3.1 * rows), squeeze=False, layout="constrained")
    for axis, graph in zip(grid.flat, graphs, strict=False):
        factor, unit = _PER_UNIT.get(graph.unit, (1.0, ""))
        for number, (name, times, values) in enumerate(graph.lines):
            axis.plot(times / 60, values * factor, color=COLORS[number % len(COLORS)], linewidth=1.3, label=name)
        for number, (start, end, _) in enumerate(spans):
            axis.axvspan(start / 60, end / 60, color="#ef4444", alpha=0.07 * (1 + number), linewidth=0)
        axis.set_title(f"{graph.title}{f' ({unit.strip()})' if unit else ''}", loc="left", fontsize=10, color=INK)
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8, colors=INK)
        if 0 < len(graph.lines) <= len(COLORS):
            axis.legend(fontsize=7, frameon=False, loc="best", ncols=1 + (len(graph.lines) > 4))
    for axis in grid.flat[len(graphs) :]:
        axis.set_visible(False)
    for axis in grid[-1]:
        axis.set_xlabel("minutes", fontsize=8, color=INK)
    for start, _, what in spans:
        grid[0, 0].annotate(
            what,
            (start / 60, 1),
            xycoords=("data", "axes fraction"),
            fontsize=7,
            color="#b91c1c",
            va="top",
            rotation=90,
        )
    figure.savefig(out, dpi=100)
    plt.close(figure)
