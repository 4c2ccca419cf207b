"""Write the dashboards: `python deploy/monitoring/grafana/source`, or with another folder as the argument."""

import json
import sys
from pathlib import Path

import fleet
import model
import run


def main() -> None:
    """Write a file for each dashboard."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "dashboards"
    for module in (fleet, run, model):
        text = json.dumps(module.DASHBOARD, indent=1, ensure_ascii=False)
        (folder / f"{module.__name__}.json").write_text(f"{text}\n", encoding="utf-8")


main()
