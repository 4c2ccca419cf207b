"""Draw the figures of predictions, after a training and for a bundle alike."""

from collections.abc import Sequence
from pathlib import Path

from training.report.analysis import Analysis, Evaluation
from training.report.charts import draw_confusion, draw_per_class, draw_reliability
from training.report.image_grids import draw_confused_pairs, draw_masks, draw_predictions


def draw_prediction_figures(
    folder: Path, labels: Sequence[str], evaluation: Evaluation, analysis: Analysis
) -> list[str]:
    """Write the figures that apply to the task as PNGs; return their names, without .png."""
    names = []

    def path(name: str) -> Path:
        names.append(name)
        return folder / f"{name}.png"

    task = analysis.task
    draw_per_class(analysis, evaluation.use, path("per_class"))
    if analysis.table is not None:
        draw_confusion(analysis.table, labels, path("confusion"))
    if task.gives_masks:
        draw_masks(evaluation, labels, path("masks"))
        return names
    draw_predictions(task, evaluation, labels, path("predictions"))
    draw_reliability(task, evaluation, path("reliability"))
    if analysis.pairs:
        draw_confused_pairs(evaluation, analysis.pairs, labels, path("confused_pairs"))
    return names
