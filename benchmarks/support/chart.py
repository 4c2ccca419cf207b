"""Draw a bar chart of the comparisons."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.support.comparing import Comparison

OWN, OTHER, INK = "#2563eb", "#cbd5e1", "#1d2433"


def draw(comparisons: Sequence[Comparison], own: str, out: Path) -> None:
    """Write a PNG with the steady images/s of each contender: the median as a bar, each round as a dot."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    heights = [len(comparison.steady) for comparison in comparisons]
    figure, axes = plt.subplots(
        len(comparisons), 1, figsize=(9, 0.42 * sum(heights) + 1.1 * len(heights)), squeeze=False,
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for axis, comparison in zip(axes[:, 0], comparisons, strict=True):
        names = list(comparison.steady)[::-1]
        medians = [float(np.median(comparison.steady[name])) for name in names]
        bars = axis.barh(names, medians, color=[OWN if name.startswith(own) else OTHER for name in names], height=0.7)
        axis.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=6, color=INK)
        for place, name in enumerate(names):
            rates = comparison.steady[name]
            axis.plot(rates, [place] * len(rates), "o", color=INK, markersize=3, alpha=0.6)
        axis.set_title(f"{comparison.title}, images/s", loc="left", color=INK)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.margins(x=0.12)
        axis.set_xlim(left=0)
        axis.xaxis.set_visible(False)
    figure.savefig(out, dpi=130)
    plt.close(figure)
