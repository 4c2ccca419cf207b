"""Write the alert rules of deploy/monitoring as the PrometheusRule of deploy/kubernetes/monitoring.

python deploy/kubernetes/prometheus_rule.py
"""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "monitoring" / "prometheus" / "rules"
TARGET = ROOT / "deploy" / "kubernetes" / "monitoring" / "prometheus-rule.yaml"
HEAD = "# Written by deploy/kubernetes/prometheus_rule.py from deploy/monitoring/prometheus/rules: change those.\n"


class Indented(yaml.SafeDumper):
    """Indents lists, as yamllint wants it, and writes texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Indented.add_representer(str, _text)


def rule() -> dict[str, Any]:
    """Return the PrometheusRule: the groups of all files, in the order of their names."""
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "tagmill"}}
    return head | {"spec": {"groups": groups}}


def main() -> None:
    TARGET.write_text(HEAD + yaml.dump(rule(), Dumper=Indented, sort_keys=False, width=200, allow_unicode=True))


if __name__ == "__main__":
    main()
