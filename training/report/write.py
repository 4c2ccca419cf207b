"""Write the report of a training: figures, an HTML page, a model card, and the figures as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagmill.files import write_bytes_atomic
from tagmill.tasks.base import task_named
from training.checkpoint import METRICS
from training.data.arrays import LabeledSet
from training.data.segmentation import mask_caveats, pixels_per_value
from training.report.analysis import Analysis, Evaluation, analyze
from training.report.caveats import caveats
from training.report.charts import draw_curves
from training.report.hardware import hardware
from training.report.html_page import write_page
from training.report.image_grids import draw_training_images
from training.report.model_card import write_card
from training.report.prediction_figures import draw_prediction_figures
from training.report.style import join_names, labels_without_font

__all__ = ["Evaluation", "write_report"]


def write_report(run: Path, summary: Mapping[str, Any], data: LabeledSet, evaluation: Evaluation) -> None:
    """Write the figures, report.html, MODEL_CARD.md and, last, metrics.json: a run that has it is finished.

    Raise ConfigurationError if a file cannot be written, for example on a full disk. No file is left half written.
    """
    summary = {**summary, "hardware": hardware(summary["device"])}
    use = evaluation.use
    analysis = analyze(task_named(summary["task"]), data.labels, data.splits, evaluation, summary["thresholds"])
    sentences = caveats(analysis, summary, use)
    if analysis.task.gives_masks:
        sentences += mask_caveats(data.labels, pixels_per_value(data.train.targets))
    drawn = draw_figures(run, summary, data, evaluation, analysis)
    boxed = labels_without_font(data.labels)
    fonts = [f"Figures show boxes in {join_names(boxed, 60)}: no installed font has all letters."] if boxed else []
    write_page(run, summary, data, use, analysis, [*sentences, *fonts], drawn)
    write_card(run, summary, use, analysis, sentences)
    write_bytes_atomic(run / METRICS, (json.dumps(summary, indent=2) + "\n").encode())


def draw_figures(
    run: Path, summary: Mapping[str, Any], data: LabeledSet, evaluation: Evaluation, analysis: Analysis
) -> list[str]:
    """Write all figures of a run as PNGs; return their names, without .png."""
    names = ["training_images"]
    draw_training_images(analysis.task, data.train, data.labels, run / "training_images.png")
    if summary["history"]:
        names.append("curves")
        draw_curves(summary["history"], analysis.task.headline, summary["epoch"], run / "curves.png")
    return [*names, *draw_prediction_figures(run, data.labels, evaluation, analysis)]
