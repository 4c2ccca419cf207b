"""Prometheus' own promtool accepts and tests the rules; the dashboards are whole, and their SQL runs as a reader."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text
from support.dashboards import MONITORING, load, panels, queries
from support.debian import find_program
from support.ledger import batches, new_model, new_run, result_for, take

from tagmill.db.roles import READ_VIEWS, Kind, grant_role
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.progress import run_progress

ROOT = Path(__file__).parents[3]
PROMETHEUS = MONITORING / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def alerts() -> dict[str, dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def promtool(*words: object) -> str:
    command = find_program("promtool", "prometheus").command(*words)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_its_configuration_and_every_rule() -> None:
    assert "is valid prometheus config" in promtool("check", "config", "--lint=all", PROMETHEUS / "prometheus.yml")
    assert len(alerts()) >= 20


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_resolve_as_their_tests_say(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def test_every_alert_is_tested_to_fire_and_to_resolve() -> None:
    fires, resolves = set(), set()
    for case in (case for path in RULE_TESTS for case in yaml.safe_load(path.read_text())["tests"]):
        before: set[str] = set()
        for check in case["promql_expr_test"]:
            names = set(re.findall(r'alertname="(\w+)"', str(check["exp_samples"])))
            fires |= names
            resolves |= before - names
            before = names
    assert fires == resolves == set(alerts())


def test_every_alert_says_how_bad_it_is_what_to_do_and_where_that_is_explained() -> None:
    explained = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", explained, flags=re.M)
    }
    samples = " ".join(path.read_text() for path in RULE_TESTS)
    for name, rule in alerts().items():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, name
        assert rule["labels"]["severity"] in {"critical", "warning"}
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}, name
        page, _, anchor = notes["runbook_url"].partition("#")
        assert (page, anchor in anchors) == ("docs/monitoring.md", True), f"{name}: {anchor} is no section"
        assert f"`{name}`" in explained, f"{name} is not in docs/monitoring.md"
        # A label that an alert does not have is shown as nothing.
        fired = re.findall(rf'ALERTS{{alertname="{name}",([^}}]+)}}', samples)[0]
        for label in re.findall(r"\$labels\.(\w+)", str(notes)):
            assert f" {label}=" in fired, f"{name}: no label {label}"


def test_the_dashboards_are_what_their_source_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, MONITORING / "grafana" / "source", tmp_path], check=True)
    written = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert written == load(), "run: python deploy/monitoring/grafana/source"


def test_grafana_can_provision_the_dashboards() -> None:
    sources = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/tagmill.yml").read_text())["datasources"]
    uids = {source["uid"]: source["type"] for source in sources}
    assert set(load()) == {"fleet", "run", "model"}
    for name, board in load().items():
        assert (board["id"], board["uid"], "__inputs" in board) == (None, f"tagmill-{name}", False)
        assert board["schemaVersion"] >= 39
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        for variable in variables.values():
            if variable["type"] == "datasource":
                assert uids[variable["current"]["value"]] == variable["query"]
        numbers = [panel["id"] for panel in board["panels"]]
        assert len(set(numbers)) == len(numbers)
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            x, y, width, height = (panel["gridPos"][key] for key in "xywh")
            cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
            assert x + width <= 24
            assert not taken & cells, f"{name}: {panel['title']} covers another panel"
            taken |= cells
        for panel in panels(board):
            assert panel["description"].endswith("."), f"{name}: {panel['title']}"
            assert panel["fieldConfig"]["defaults"]["unit"]
            for target in panel["targets"]:
                assert target["datasource"] == panel["datasource"]
                assert target["datasource"]["uid"].strip("${}") in variables
                assert (
                    "rate(" not in target.get("expr", "")
                    or "[$__rate_interval]" in target["expr"]
                    or "[5m]" in target["expr"]
                )


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


def test_the_queries_of_the_dashboards_run_as_a_reader_and_show_the_run(engine: Engine) -> None:
    model = new_model(engine)
    run = new_run(engine, model, images=9, batch_size=3)
    for batch in batches(engine, run)[:2]:
        claimed = take(engine, batch)
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed), "worker")
    found: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE dashboards"))  # of a transaction that is never committed
        grant_role(connection, Kind.READER, "dashboards")
        connection.execute(text("SET LOCAL ROLE dashboards"))
        for query in queries("sql"):
            for chosen in (str(run), "", "404"):
                filled = query.filled({"run": chosen, "name": model.name})
                rows = [tuple(row) for row in connection.exec_driver_sql(filled.replace("%", "%%"))]
                if chosen == str(run):
                    found[query.dashboard, query.panel] = rows
    progress = run_progress(engine, run)
    assert found["run", "Run"][0][:4] == (progress.state, "normal", progress.queue, "shirts@1")
    assert found["run", "Images"] == [(9, progress.tagged, 0, progress.pending)] == [(9, 6, 0, 3)]
    assert found["run", "Progress"][-1][1] == 6
    assert dict(found["run", "Batches"]) == {"queued": 1, "running": 0, "done": 2, "dead": 0, "cancelled": 0}
    empty = {panel for (name, panel), rows in found.items() if name == "run" and not rows}
    assert empty == {"Failures by code", "Drift"}


def test_dashboards_name_no_table_and_no_view_that_readers_may_not_read() -> None:
    for query in queries("sql"):
        named = set(re.findall(r"(?:FROM|JOIN) (\w+)", query.text)) - {"LATERAL"}
        assert named <= set(READ_VIEWS), query
