"""Write what a person looks at after a training: figures, a page, a model card, and the figures as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagmill.bundle import Task
from training.checkpoint import METRICS
from training.dataset import LabelledSet
from training.figures import draw_confusion, draw_curves, draw_per_class, draw_reliability
from training.findings import Findings, Shown, find
from training.galleries import draw_confused_pairs, draw_masks, draw_predictions, draw_training_pictures
from training.hardware import hardware
from training.model_card import write_card
from training.page import write_page
from training.remarks import FIGURE, remarks
from training.whole_file import write_whole

__all__ = ["Shown", "write_report"]

#: the figure that an epoch is judged by
JUDGED_BY = {Task.CLASSIFY: "accuracy", Task.MULTILABEL: "mean_ap", Task.SEGMENT: "mean_iou"}


def write_report(run: Path, summary: Mapping[str, Any], data: LabelledSet, shown: Shown) -> None:
    """Write the figures, report.html, MODEL_CARD.md and, last of all, metrics.json: a run that has it is finished.

    Raises ConfigurationError where the disk does not take a file. There is never half of one.
    """
    summary = {**summary, "hardware": hardware(summary["device"])}
    findings = find(Task(summary["task"]), data, shown, summary["thresholds"])
    told = remarks(findings, summary, shown.use)
    drawn = draw(run, summary, data, shown, findings)
    write_page(run, summary, data, shown.use, findings, told, drawn)
    write_card(run, summary, shown.use, findings, told)
    write_whole(run / METRICS, (json.dumps(summary, indent=2) + "\n").encode())


def draw(run: Path, summary: Mapping[str, Any], data: LabelledSet, shown: Shown, findings: Findings) -> list[str]:
    """Draw the figures that there is something to draw for; return their names, without .png."""
    labels, drawn = data.labels, []

    def path(name: str) -> Path:
        drawn.append(name)
        return run / f"{name}.png"

    draw_training_pictures(data.train, labels, path("training_pictures"))
    if summary["history"]:
        draw_curves(summary["history"], JUDGED_BY[findings.task], summary["epoch"], path("curves"))
    draw_per_class(findings, shown.use, FIGURE[findings.task], path("per_class"))
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
