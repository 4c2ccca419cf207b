"""A real Prometheus watches two real workers and the exporter: dashboards have answers, alerts fire and resolve."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from sqlalchemy import create_engine, text
from support.dashboards import MONITORING, queries
from support.image_fixtures import write_folder
from support.installation import Site, new_site
from support.processes import TAGMILL, wait_until
from support.services import ExternalRedis, RedisServer
from support.watched import WatchedFleet, quickly_watched_fleet


@pytest.fixture
def busy_site(tmp_path: Path, postgres_url: str, redis_server: RedisServer | ExternalRedis) -> Site:
    return new_site(tmp_path, postgres_url, redis_server.url, metrics_host="127.0.0.1")


def test_dashboards_are_filled_and_the_alert_of_a_killed_fleet_fires_and_resolves(
    busy_site: Site, tmp_path: Path
) -> None:
    site, shop = busy_site, tmp_path / "shop"
    write_folder(shop, 60)
    (shop / "page.jpg").write_text("<html>")
    with quickly_watched_fleet(site, tmp_path) as fleet:
        for _ in range(2):  # the first one makes the series, the second one their rates
            site.wait_done(tag(site, shop))
            fleet.prometheus.wait_scraped_again()
        fleet.wait_filled("colors@1", 60)
        require_known_metrics(set(fleet.prometheus.api("metadata")))
        # Not at once: a scrape that took too long leaves a gap.
        wait_value(fleet, 'sum(tagmill_images_total{model="colors@1"})', 122)
        wait_value(fleet, 'count(tagmill_worker_info{queue="tagmill"})', 2)
        assert "TagmillNoReadyWorker" not in fleet.prometheus.firing()
        fleet.kill_workers()
        age_reports(site)
        again = tag(site, shop)
        wait_until(lambda: "TagmillNoReadyWorker" in fleet.prometheus.firing(), 60, "the alert to fire")
        said = fleet.prometheus.firing()["TagmillNoReadyWorker"]
        assert said["summary"] == "No worker is ready for queue tagmill, and 61 images wait"
        assert "TAGMILL_QUEUE=tagmill" in said["description"]
        wait_value(fleet, 'sum(tagmill_queue_images{status="queued"})', 61)
        fleet.start_workers(1)
        site.wait_done(again)
        wait_until(lambda: "TagmillNoReadyWorker" not in fleet.prometheus.firing(), 60, "the alert to resolve")


def wait_value(fleet: WatchedFleet, expression: str, value: float) -> None:
    wait_until(lambda: fleet.prometheus.value(expression) == value, 60, f"{expression} to be {value}")


def tag(site: Site, shop: Path) -> object:
    command = [TAGMILL, "submit", shop, "--model", "colors", "--batch-size", "4", "--json"]
    done = subprocess.run(command, env=site.env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: the run, with its page, ended before the command
    return json.loads(done.stdout)["run"]


def age_reports(site: Site) -> None:
    """Have the last reports of workers be as old as a minute after their death, without waiting for it."""
    engine = create_engine(site.env["TAGMILL_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(text("UPDATE worker_state SET seen_at = seen_at - 60"))
    engine.dispose()


def require_known_metrics(exposed: set[str]) -> None:
    """Check that every metric that a dashboard or a rule names is one that a worker or the exporter has."""
    rules = [rule for path in (MONITORING / "prometheus/rules").glob("*.yml") for rule in rules_of(path)]
    texts = [
        re.sub(r"\w+:\w+:\w+", "", text)
        for text in (*(rule["expr"] for rule in rules), *(query.text for query in queries("promql")))
    ]
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for one in texts for name in re.findall(r"\btagmill_\w+", one)}
    missing = {name for name in named - exposed if not name.startswith("tagmill_drift_")}
    assert not missing, f"no worker and no exporter has {missing}"


def rules_of(path: Path) -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
