"""Write what a person looks at after a training: figures, a page, a model card, and the figures as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagmill.files import write_whole
from tagmill.tasks.base import task_named
from training.checkpoint import METRICS
from training.data.arrays import LabeledSet
from training.data.segmentation import label_pixels, mask_remarks
from training.report.analysis import Analysis, Shown, find
from training.report.caveats import remarks
from training.report.charts import draw_curves
from training.report.hardware import hardware
from training.report.html_page import write_page
from training.report.image_grids import draw_training_pictures
from training.report.model_card import write_card
from training.report.prediction_figures import draw_answers
from training.report.style import listed, without_font

__all__ = ["Shown", "write_report"]


def write_report(run: Path, summary: Mapping[str, Any], data: LabeledSet, shown: Shown) -> None:
    """Write the figures, report.html, MODEL_CARD.md and, last of all, metrics.json: a run that has it is finished.

    Raises ConfigurationError where the disk does not take a file. There is never half of one.
    """
    summary = {**summary, "hardware": hardware(summary["device"])}
    findings = find(task_named(summary["task"]), data.labels, data.parts, shown, summary["thresholds"])
    told = remarks(findings, summary, shown.use)
    if findings.task.gives_masks:
        told += mask_remarks(data.labels, label_pixels(data.train.targets))
    drawn = draw(run, summary, data, shown, findings)
    boxed = without_font(data.labels)
    fonts = [f"Figures show boxes in {listed(boxed, 60)}: no font here has all of its letters."] if boxed else []
    write_page(run, summary, data, shown.use, findings, [*told, *fonts], drawn)
    write_card(run, summary, shown.use, findings, told)
    write_whole(run / METRICS, (json.dumps(summary, indent=2) + "\n").encode())


def draw(run: Path, summary: Mapping[str, Any], data: LabeledSet, shown: Shown, findings: Analysis) -> list[str]:
    """Draw the figures that there is something to draw for; return their names, without .png."""
    names = ["training_pictures"]
    draw_training_pictures(data.train, data.labels, run / "training_pictures.png")
    if summary["history"]:
        names.append("curves")
        draw_curves(summary["history"], findings.task.headline, summary["epoch"], run / "curves.png")
    return [*names, *draw_answers(run, data.labels, shown, findings)]
