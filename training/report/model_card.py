"""The model card of a run: what the model is, how good, and what not to trust it with.

After Mitchell et al. 2019, Model Cards for Model Reporting (arXiv 1810.03993), section by section.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagmill.files import write_whole
from training.report.analysis import Analysis
from training.report.html_page import headlines
from training.report.templating import render

#: labels and mix-ups that the card names
NAMED = 8


def write_card(run: Path, summary: Mapping[str, Any], use: str, findings: Analysis, told: Sequence[str]) -> None:
    """Write MODEL_CARD.md; `told` are the remarks on the figures."""
    names = [one.label for one in findings.labels]
    name = run.absolute().name
    values = {
        "name": name,
        "kind": findings.task.summary,
        "task": str(findings.task),
        "use": use,
        "summary": summary,
        "folders": summary.get("folders", {}),
        # A fence ends at a line of backticks, so the command stays on one line.
        "command": " ".join(summary["command"].split()),
        "figures": findings.figures,
        "figure": findings.task.label_figure,
        "ece_before": findings.ece_before,
        "headlines": headlines(findings, summary, use),
        "weakest": findings.weakest(NAMED),
        "pairs": [(names[pair.true], names[pair.predicted], pair) for pair in findings.pairs[:NAMED]],
        "remarks": told,
        "run": shlex.quote(str(run)),
        "bundle": shlex.quote(f"{name}.onnx"),
    }
    write_whole(run / "MODEL_CARD.md", render("model_card.md.j2", values).encode())
