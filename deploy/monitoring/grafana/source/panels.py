"""Dashboards of Grafana as JSON: panels with their queries, laid out in rows of 24 columns."""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Json = dict[str, Any]

#: variables of the dashboards; a uid is that of provisioning/datasources/tagmill.yml
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${sql}"}
GREEN, ORANGE, RED = "green", "orange", "red"
#: colors of the words that mean the same on every dashboard
_COLORS = {"tagged": "green", "failed": "red", "queued": "blue", "running": "green", "dead": "dark-red"}
_SCHEMA_VERSION = 41


@dataclass(frozen=True)
class Panel:
    """A panel, `width` of 24 columns wide and `height` grid units high."""

    type: str
    title: str
    description: str
    targets: Sequence[Json]
    width: int
    height: int
    unit: str = "short"
    #: (from, color): the color of values from there on; the first one is from None
    thresholds: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    custom: Json = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    transformations: Sequence[Json] = ()
    overrides: Sequence[Json] = ()
    defaults: Json = field(default_factory=dict)

    def to_json(self, number: int, x: int, y: int) -> Json:
        """Return it at a place of the grid."""
        steps = [{"value": value, "color": color} for value, color in self.thresholds]
        targets = [
            target | {"refId": letter} for target, letter in zip(self.targets, string.ascii_uppercase, strict=False)
        ]
        return {
            "id": number,
            "type": self.type,
            "title": self.title,
            "description": self.description,
            "datasource": self.targets[0]["datasource"],
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": {"mode": "absolute", "steps": steps},
                    "custom": self.custom,
                    **self.defaults,
                },
                "overrides": list(self.overrides),
            },
            "options": self.options,
            "targets": targets,
            "transformations": list(self.transformations),
        }


def prom(expr: str, legend: str = "", *, table: bool = False, now: bool = False) -> Json:
    """Return a query of Prometheus: over the time range, or its last value (`now`), as a table if asked for."""
    instant = now or table
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": " ".join(expr.split()),
        "legendFormat": legend or "__auto",
        "format": "table" if table else "time_series",
        "instant": instant,
        "range": not instant,
    }


def sql(query: str, *, series: bool = False) -> Json:
    """Return a query of PostgreSQL: a table, or time series from a column `time`."""
    return {
        "datasource": POSTGRES,
        "editorMode": "code",
        "format": "time_series" if series else "table",
        "rawQuery": True,
        "rawSql": " ".join(query.split()),
    }


def stat(title: str, description: str, target: Json, unit: str = "short", width: int = 4, **more: Any) -> Panel:
    """Return one number."""
    is_text = more.pop("text", False)
    options = {
        "colorMode": "value",
        "graphMode": "none" if is_text or target.get("instant") or "rawSql" in target else "area",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False, **({"fields": "/.*/"} if is_text else {})},
    }
    return Panel("stat", title, description, [target], width, 4, unit, options=options, **more)


def graph(title: str, description: str, *targets: Json, unit: str = "short", width: int = 8, **more: Any) -> Panel:
    """Return lines over time, with the mean, the last and the largest value of each.

    `stack` puts them on each other; `by_status` gives those that end with a status its color.
    """
    stack = more.pop("stack", False)
    overrides = _colors_of_statuses() if more.pop("by_status", False) else []
    custom = {
        "drawStyle": more.pop("style", "line"),
        "lineWidth": 1,
        "fillOpacity": 30 if stack else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if more.get("thresholds") else "off"},
    }
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["mean", "lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"min": 0, **more.pop("defaults", {})}
    return Panel(
        "timeseries",
        title,
        description,
        targets,
        width,
        8,
        unit,
        custom=custom,
        options=options,
        defaults=defaults,
        overrides=overrides,
        **more,
    )


def table(title: str, description: str, *targets: Json, width: int = 24, height: int = 8, **more: Any) -> Panel:
    """Return a table."""
    options = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}
    return Panel("table", title, description, targets, width, height, custom={"align": "auto"}, options=options, **more)


def bars(title: str, description: str, target: Json, width: int = 8, **more: Any) -> Panel:
    """Return a bar for each row of a table whose first column is its name."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "values": True, "limit": 25},
        "valueMode": "color",
    }
    return Panel("bargauge", title, description, [target], width, 8, options=options, **more)


def columns(names: dict[str, str], units: dict[str, str]) -> dict[str, Any]:
    """Return what joins the instant queries of a table into one: the columns in this order, old name to new name."""
    organize = {
        "renameByName": names,
        "indexByName": {name: place for place, name in enumerate(names)},
        "includeByName": dict.fromkeys(names, True),
    }
    overrides = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, unit in units.items()
    ]
    return {
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
        "overrides": overrides,
    }


def data_source(name: str, label: str, kind: str, uid: str) -> Json:
    """Return a variable that chooses a data source; the provisioned one at first."""
    return {
        "type": "datasource",
        "name": name,
        "label": label,
        "query": kind,
        "current": {"selected": True, "text": uid, "value": uid},
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "hide": 0,
        "options": [],
    }


def choice(name: str, label: str, query: str, *, regex: str = "", every: bool = False) -> Json:
    """Return a variable whose values Prometheus knows, such as `label_values(METRIC, label)`."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "regex": regex,
        "sort": 1,
        "multi": every,
        "includeAll": every,
        "allValue": ".*" if every else None,
        "current": {"selected": True, "text": "All", "value": "$__all"} if every else {},
        "hide": 0,
        "options": [],
    }


def sql_choice(name: str, label: str, query: str) -> Json:
    """Return a variable whose values are the rows of a query, with columns `__value` and `__text`."""
    text = " ".join(query.split())
    return choice(name, label, text) | {"datasource": POSTGRES, "query": text, "sort": 0}


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Json], rows: Iterable[tuple[str, Sequence[Panel]]]
) -> Json:
    """Return a dashboard whose rows have a title and panels, from left to right."""
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["tagmill"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "links": [
            {"type": "dashboards", "title": "Tagmill", "tags": ["tagmill"], "asDropdown": True, "keepTime": True}
        ],
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "panels": list(_laid_out(rows)),
    }


def _laid_out(rows: Iterable[tuple[str, Sequence[Panel]]]) -> Iterable[Json]:
    numbers, y = count(1), 0
    for title, panels in rows:
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        yield {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        y, x, highest = y + 1, 0, 0
        for panel in panels:
            if x + panel.width > 24:
                y, x, highest = y + highest, 0, 0
            yield panel.to_json(next(numbers), x, y)
            x, highest = x + panel.width, max(highest, panel.height)
        y += highest


def _colors_of_statuses() -> list[Json]:
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/(^| ){word}$/"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for word, color in _COLORS.items()
    ]
