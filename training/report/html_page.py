"""The page of a run: one HTML file that contains its figures and loads nothing from any server."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.files import write_bytes_atomic
from tagmill.pages.templating import duration, render
from tagmill.tasks.base import Headline
from tagmill.text import flatten
from training.annotations.folders import short_name
from training.data.arrays import LabeledSet
from training.report.analysis import Analysis

TEMPLATES = Path(__file__).parent / "templates"
#: images that are listed of those left out
NAMED = 20
#: labels up to which a table is unfolded when the page opens
UNFOLDED = 30


@dataclass(frozen=True)
class EmbeddedImage:
    """A PNG inside the page."""

    source: str
    width: int
    height: int
    alt: str


def write_page(
    run: Path,
    summary: Mapping[str, Any],
    data: LabeledSet,
    use: str,
    analysis: Analysis,
    caveats: Sequence[str],
    drawn: Sequence[str],
) -> None:
    """Write report.html with the figures `drawn`, which are PNGs in the run folder."""
    alts = alt_texts(analysis, summary, use)
    unreadable = [one for arrays in data.splits.values() for one in arrays.unreadable]
    values = {
        "name": run.absolute().name,
        "task": analysis.task,
        "use": use,
        "summary": summary,
        "folders": summary.get("folders", {}),
        "headlines": headlines(analysis, summary, use),
        "caveats": caveats,
        "images": {name: embed(run / f"{name}.png", alts[name]) for name in drawn},
        "analysis": analysis,
        "labels": analysis.weakest(len(analysis.labels)) + [one for one in analysis.labels if one.figure is None],
        "most": max(1, *(one.images["train"] for one in analysis.labels)),
        # The accuracy of a label is its recall.
        "show_recall": analysis.task.multilabel or analysis.task.gives_masks,
        "unfolded": len(analysis.labels) <= UNFOLDED,
        "hyperparameters": flatten(summary["hyperparameters"]),
        "duplicates": [
            (short_name(one.image), str(one.use), short_name(one.copy), str(one.copy_use))
            for one in data.duplicates[:NAMED]
        ],
        "unreadable": [(short_name(one.path), one.reason) for one in unreadable[:NAMED]],
    }
    write_bytes_atomic(run / "report.html", render(TEMPLATES / "report.html.j2", values).encode())


def headlines(analysis: Analysis, summary: Mapping[str, Any], use: str) -> list[Headline]:
    """Return the most important figures of the predictions, then those of the training."""
    figures = analysis.figures
    measured_on = f"{figures['images']:,} {use} images"
    first = analysis.task.headlines(figures, len(analysis.labels), measured_on, analysis.ece_before)
    epochs = f"{len(summary['history'])} epochs" if summary["history"] else ""
    return [
        *first,
        Headline("trained in", duration(summary["seconds"]), epochs),
        Headline("parameters", f"{summary['parameters']:,}"),
    ]


def alt_texts(analysis: Analysis, summary: Mapping[str, Any], use: str) -> dict[str, str]:
    """Return the alternative text of each figure, by name."""
    figures, names = analysis.figures, [one.label for one in analysis.labels]
    weakest = analysis.weakest(1)
    worst = analysis.pairs[0] if analysis.pairs else None
    mixed = f" Most frequent: {names[worst.true]} predicted as {names[worst.predicted]}." if worst else ""
    before = "" if analysis.ece_before is None else f" Before calibration it was {analysis.ece_before:.3f}."
    return {
        "training_images": "A grid of up to 25 training images, each under its labels.",
        "curves": f"Loss and {analysis.task.headline.replace('_', ' ')} of {len(summary['history'])} epochs on "
        f"training and validation images, and the learning rate. Epoch {summary['epoch']} was kept.",
        "per_class": f"A bar per label with its {analysis.task.label_figure}, the weakest first"
        + (f": {weakest[0].label}, {weakest[0].figure:.3f}." if weakest else "."),
        "confusion": f"Confusion matrix: how the {analysis.task.unit} of each true label were predicted, in shares of "
        f"its row.{mixed}",
        "confused_pairs": f"The most frequent mix-ups, each with up to four of its images.{mixed}",
        "predictions": f"Up to 25 randomly chosen {use} images with their predicted labels; wrong ones are framed.",
        "masks": f"Up to eight randomly chosen {use} images, each beside its true and its predicted mask.",
        "reliability": "The share of right predictions against their score, in 15 bins. The expected calibration error "
        f"is {figures.get('ece', 0):.3f}; chance alone would cause {figures.get('ece_by_chance', 0):.3f}.{before}",
    }


def embed(path: Path, alt: str) -> EmbeddedImage:
    """Return a PNG as a data URL, with its size in CSS pixels."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return EmbeddedImage(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height, alt)
