"""The model card of a run: what the model does, how good it is, and what not to use it for.

After Mitchell et al. 2019, Model Cards for Model Reporting (arXiv 1810.03993), section by section.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagmill.files import write_bytes_atomic
from tagmill.pages.templating import render
from tagmill.tasks.metrics import DESCRIPTIONS
from training.report.analysis import Analysis
from training.report.html_page import TEMPLATES, headlines

#: labels and mix-ups that the card lists
NAMED = 8


def write_card(run: Path, summary: Mapping[str, Any], use: str, analysis: Analysis, caveats: Sequence[str]) -> None:
    """Write MODEL_CARD.md; `caveats` are sentences about the figures."""
    labels = [one.label for one in analysis.labels]
    name = run.absolute().name
    values = {
        "name": name,
        "task": analysis.task,
        "use": use,
        "summary": summary,
        "folders": summary.get("folders", {}),
        # A line of backticks in the command would end its fenced block, so the command stays on one line.
        "command": " ".join(summary["command"].split()),
        "analysis": analysis,
        "figures": analysis.figures,
        "descriptions": [text for figure, text in DESCRIPTIONS.items() if figure in analysis.figures],
        "headlines": headlines(analysis, summary, use),
        "weakest": analysis.weakest(NAMED),
        "pairs": [(labels[pair.true], labels[pair.predicted], pair) for pair in analysis.pairs[:NAMED]],
        "caveats": caveats,
        "run": shlex.quote(str(run)),
        "bundle": shlex.quote(f"{name}.onnx"),
    }
    write_bytes_atomic(run / "MODEL_CARD.md", render(TEMPLATES / "model_card.md.j2", values).encode())
