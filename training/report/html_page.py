"""The page of a run: one HTML file that holds its figures and asks nothing of any server."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.files import write_whole
from tagmill.tasks.base import Headline
from tagmill.text import flatten
from training.annotations.types import short_name
from training.data.arrays import LabeledSet
from training.report.analysis import Analysis
from training.report.templating import duration, render

#: images that are named of those left out
NAMED = 20
#: labels up to which a table is open when the page is
OPEN = 30


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
    findings: Analysis,
    told: Sequence[str],
    drawn: Sequence[str],
) -> None:
    """Write report.html out of the figures that lie in the run folder."""
    alts = describe(findings, summary, use)
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    unreadable = [one for part in parts.values() if part for one in part.unreadable]
    values = {
        "name": run.absolute().name,
        "kind": findings.task.summary,
        "task": str(findings.task),
        "use": use,
        "summary": summary,
        "folders": summary.get("folders", {}),
        "headlines": headlines(findings, summary, use),
        "remarks": told,
        "pictures": {name: embed(run / f"{name}.png", alts[name]) for name in drawn},
        "labels": findings.weakest(len(findings.labels)) + [one for one in findings.labels if one.figure is None],
        "most": max(1, *(one.pictures["train"] for one in findings.labels)),
        "by_label": findings.labels,
        "figure": findings.task.label_figure,
        "open": len(findings.labels) <= OPEN,
        "hyperparameters": flatten(summary["hyperparameters"]),
        "duplicates": [
            (short_name(one.picture), str(one.use), short_name(one.copy), str(one.copy_use))
            for one in data.duplicates[:NAMED]
        ],
        "unreadable": [(short_name(one.path), one.reason) for one in unreadable[:NAMED]],
    }
    write_whole(run / "report.html", render("report.html.j2", values).encode())


def headlines(findings: Analysis, summary: Mapping[str, Any], use: str) -> list[Headline]:
    """Return the figures of the images shown, then what they cost."""
    figures = findings.figures
    shown = f"{figures['images']:,} {use} images"
    first = findings.task.headlines(figures, len(findings.labels), shown, findings.ece_before)
    epochs = f"{len(summary['history'])} epochs" if summary["history"] else ""
    return [
        *first,
        Headline("trained in", duration(summary["seconds"]), epochs),
        Headline("parameters", f"{summary['parameters']:,}"),
    ]


def describe(findings: Analysis, summary: Mapping[str, Any], use: str) -> dict[str, str]:
    """Return for each figure what it shows, for a reader who does not see it."""
    figures, names = findings.figures, [one.label for one in findings.labels]
    weakest = findings.weakest(1)
    worst = findings.pairs[0] if findings.pairs else None
    mixed = f" Most frequent: {names[worst.true]} taken for {names[worst.predicted]}." if worst else ""
    before = "" if findings.ece_before is None else f" The error before was {findings.ece_before:.3f}."
    return {
        "training_pictures": "A grid of up to 25 training images, each under its labels.",
        "curves": f"Loss and figure of {len(summary['history'])} epochs on training and validation images, and the "
        f"learning rate. Epoch {summary['epoch']} was kept.",
        "per_class": f"A bar a label with its {findings.task.label_figure}, the weakest first"
        + (f": {weakest[0].label}, {weakest[0].figure:.3f}." if weakest else "."),
        "confusion": f"Confusion matrix: what became of each true label, in shares of its row.{mixed}",
        "confused_pairs": f"The most frequent mix-ups, each with up to four of its images.{mixed}",
        "predictions": f"Up to 25 {use} images drawn at random, titled with the prediction; wrong ones are framed.",
        "masks": f"Up to eight {use} images drawn at random, each beside its true and its predicted mask.",
        "reliability": "How often a score is right against what it says, in 15 bins. The expected calibration error is "
        f"{figures.get('ece', 0):.3f}; chance alone makes {figures.get('ece_by_chance', 0):.3f}.{before}",
    }


def embed(path: Path, alt: str) -> EmbeddedImage:
    """Return a PNG as part of a page, with its size in CSS pixels."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return EmbeddedImage(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height, alt)
