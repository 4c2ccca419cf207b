"""The figures and images of what a model answers, the same after a training and for a bundle."""

from collections.abc import Sequence
from pathlib import Path

from training.report.analysis import Analysis, Shown
from training.report.charts import draw_confusion, draw_per_class, draw_reliability
from training.report.image_grids import draw_confused_pairs, draw_masks, draw_predictions


def draw_answers(folder: Path, labels: Sequence[str], shown: Shown, findings: Analysis) -> list[str]:
    """Write what there is something to draw for as PNGs; return their names, without .png."""
    drawn = []

    def path(name: str) -> Path:
        drawn.append(name)
        return folder / f"{name}.png"

    draw_per_class(findings, shown.use, findings.task.label_figure, path("per_class"))
    if findings.table is not None:
        draw_confusion(findings.table, labels, path("confusion"))
    if shown.masks is not None:
        draw_masks(shown, labels, path("masks"))
    if shown.scores is not None:
        draw_predictions(shown, labels, path("predictions"))
        draw_reliability(shown.scores, shown.uncalibrated, shown.arrays.targets, path("reliability"))
        if findings.pairs:
            draw_confused_pairs(shown, findings.pairs, labels, path("confused_pairs"))
    return drawn
