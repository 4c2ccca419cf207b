"""The dashboards of deploy/monitoring: their panels, and queries with Grafana's variables and macros filled in."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARDS = MONITORING / "grafana" / "dashboards"


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    dashboard: str
    panel: str
    #: promql or sql
    language: str
    text: str
    legend: str
    unit: str
    kind: str

    def filled(self, values: Mapping[str, str], seconds: int = 60) -> str:
        """Return it as Grafana sends it, for values of its variables and points that are so many seconds apart."""
        text = re.sub(
            r"\$__unixEpochGroupAlias\((\w+), \$__interval(?:, 0)?\)",
            rf'floor(\1 / {seconds}) * {seconds} AS "time"',
            self.text,
        )
        text = re.sub(r"\$__unixEpochFilter\((\w+)\)", r"\1 > 0", text)
        for name, value in {
            "__rate_interval": f"{4 * seconds}s",
            "__interval_ms": f"{1000 * seconds}",
            **values,
        }.items():
            text = text.replace(f"${{{name}:sqlstring}}", f"'{value}'").replace(f"${{{name}:regex}}", re.escape(value))
            text = text.replace(f"${name}", value)
        assert "$" not in text.replace('"$1"', ""), f"{self.panel}: a variable is left in {text}"
        return text


def load() -> dict[str, dict[str, Any]]:
    """Return each dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that are no rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(language: str) -> Iterator[Query]:
    """Yield the queries of all panels in a language."""
    for name, dashboard in load().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                text = target.get("expr" if language == "promql" else "rawSql")
                if text:
                    unit = panel["fieldConfig"]["defaults"]["unit"]
                    legend = target.get("legendFormat", "")
                    yield Query(name, panel["title"], language, text, legend, unit, panel["type"])
