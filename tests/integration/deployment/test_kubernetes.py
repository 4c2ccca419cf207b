"""deploy/kubernetes renders, is accepted by Kubernetes' schemas, and names commands, settings and ports that exist."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import psycopg
import pytest
import yaml
from support.custom_resources import SCHEMAS
from support.documents import resolve
from support.kubectl import find_kubectl
from support.processes import environment
from support.services import libpq_url

from tagmill.broker.app import make_app
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.roles import READ_TABLES
from tagmill.secret_files import FILE_VARIABLES
from tagmill.settings import Settings

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("example", "cpu", "gpu", "mine")
#: an overlay that a reader of docs/kubernetes.md writes
MINE = """
namespace: tagmill
resources: [../cpu, ../../monitoring, ../../prune]
components: [../../autoscaling/cpu]
secretGenerator:
  - name: tagmill-keda
    files: [connection=secrets/keda_database_url]
    options: {disableNameSuffixHash: true}
"""
#: the newest version of Kubernetes that the validator knows, and the oldest one that docs/kubernetes.md names
VERSIONS = ("1.37", "1.30")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """The manifests of each overlay, with the secrets that the documents tell how to make."""
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("backup", "kubernetes"):
        shutil.copytree(ROOT / "deploy" / name, folder / name, ignore=shutil.ignore_patterns("secrets"))
    found = {}
    for overlay in OVERLAYS:
        path = folder / "kubernetes" / "overlays" / overlay
        if overlay == "mine":
            path.mkdir()
            (path / "kustomization.yaml").write_text(MINE)
        script = ROOT / "deploy" / "compose" / "secrets.sh"
        subprocess.run(["sh", str(script), str(path / "secrets")], check=True, capture_output=True)
        (path / "secrets" / "keda_database_url").write_text("postgresql://tagmill_reader:x@db.internal:5432/tagmill")
        done = subprocess.run([find_kubectl(), "kustomize", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        found[overlay] = list(yaml.safe_load_all(done.stdout))
    return found


def every(rendered: dict[str, list[Manifest]], *kinds: str) -> Iterator[Manifest]:
    """Yield the manifests of these kinds, or all, of all overlays."""
    for manifests in rendered.values():
        yield from (one for one in manifests if not kinds or one["kind"] in kinds)


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if (manifest["kind"], name_of(manifest)) == (kind, name)]
    return found


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def template(manifest: Manifest) -> Manifest:
    """Return the template of a workload's pods."""
    spec = manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]
    found: Manifest = spec["template"]
    return found


WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")


def containers(manifest: Manifest) -> list[Manifest]:
    pod = template(manifest)["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_every_manifest_is_accepted(rendered: dict[str, list[Manifest]]) -> None:
    kinds = set()
    different = {json.dumps(manifest, sort_keys=True) for manifest in every(rendered)}
    for manifest in map(json.loads, different):
        kinds.add(manifest["kind"])
        if manifest["kind"] in SCHEMAS:
            jsonschema.Draft202012Validator(SCHEMAS[manifest["kind"]]).validate(manifest)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "tagmill", name_of(manifest)
    assert set(SCHEMAS) <= kinds


def test_a_misspelled_field_is_refused(rendered: dict[str, list[Manifest]]) -> None:
    scaled = one(rendered["mine"], "ScaledObject", "tagmill-worker-cpu")
    with pytest.raises(jsonschema.ValidationError, match="pollInterval"):
        jsonschema.validate(scaled | {"spec": scaled["spec"] | {"pollInterval": 30}}, SCHEMAS["ScaledObject"])
    worker = one(rendered["cpu"], "Deployment", "tagmill-worker-cpu")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker | {"spec": worker["spec"] | {"replica": 1}}, VERSIONS[0], strict=True)


def test_every_pod_is_restricted_and_has_no_token_and_limits(rendered: dict[str, list[Manifest]]) -> None:
    for manifest in every(rendered, *WORKLOADS):
        pod = template(manifest)["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "the services would set variables that look like settings"
        security = pod["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {kind for volume in pod["volumes"] for kind in volume} <= {
            *("name", "secret", "configMap", "emptyDir", "persistentVolumeClaim"),
        }
        for container in containers(manifest):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    (namespace,) = [found for found in rendered["example"] if found["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_a_pod_mounts_and_reads_is_there(rendered: dict[str, list[Manifest]]) -> None:
    for overlay, manifests in rendered.items():
        named = {(found["kind"], name_of(found)): found for found in manifests}
        for manifest in every({overlay: manifests}, *WORKLOADS):
            pod = template(manifest)["spec"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            volumes |= {claim["metadata"]["name"]: claim for claim in manifest["spec"].get("volumeClaimTemplates", [])}
            files: dict[str, set[str]] = {}
            for name, volume in volumes.items():
                if "secret" in volume:
                    files[name] = set(named["Secret", volume["secret"]["secretName"]]["data"])
                    assert volume["secret"]["defaultMode"] == 0o444  # the mode that any user of a container can read
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in named
                if "persistentVolumeClaim" in volume:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in named
            for container in containers(manifest):
                mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
                assert set(mounts.values()) <= set(volumes)
                for path in set(re.findall(r"/run/secrets[\w/]*", str(container))) - set(mounts):
                    folder, _, file = path.rpartition("/")
                    assert file in files[mounts[folder]], f"{name_of(manifest)}: {path}"
                for source in container.get("envFrom", []):
                    if "configMapRef" in source:
                        assert ("ConfigMap", source["configMapRef"]["name"]) in named
        assert not [
            value for found in every({overlay: manifests}, "Secret") for value in found["data"].values() if not value
        ]
        for found in every({overlay: manifests}, "TriggerAuthentication"):
            (reference,) = found["spec"]["secretTargetRef"]
            assert reference["key"] in named["Secret", reference["name"]]["data"]


def test_every_command_and_setting_exists(rendered: dict[str, list[Manifest]]) -> None:
    known = {f"TAGMILL_{name.upper()}" for name in (*Settings.model_fields, *FILE_VARIABLES, "log_level", "log_format")}
    commands = set()
    for manifest in every(rendered, *WORKLOADS):
        for container in containers(manifest):
            text = " ".join(container.get("command", []))
            for line in (
                re.findall(r"(?<![-\w/])tagmill ([a-z][^;\n]*)", text) if "tagmill:" in container["image"] else ()
            ):
                command, rest = resolve(line.split())
                commands.add(line.split()[0])
                options = {option for parameter in command.params for option in parameter.opts}
                if not command.context_settings.get("ignore_unknown_options"):
                    assert {word for word in rest if word.startswith("-")} <= options, line
            variables = {variable["name"] for variable in container.get("env", [])}
            assert {name for name in variables if name.startswith("TAGMILL_")} <= known
    assert commands == {"db", "worker", "exporter", "celery", "prune"}
    for settings in every(rendered, "ConfigMap"):
        if name_of(settings).startswith("tagmill-settings"):
            assert set(settings["data"]) <= known
            Settings(
                **{name.removeprefix("TAGMILL_").lower(): value for name, value in settings["data"].items() if value}
            )


def test_probes_and_monitors_use_ports_and_pages_that_are_served(rendered: dict[str, list[Manifest]]) -> None:
    pages = {
        "worker": ("metrics", "/live", "/live", "/ready"),
        "exporter": ("metrics", None, "/live", "/ready"),
        "flower": ("http", None, "/healthcheck", "/healthcheck"),
    }
    for manifest in every(rendered, "Deployment"):
        (container,) = template(manifest)["spec"]["containers"]
        if container["name"] in pages:
            port, *wanted = pages[container["name"]]
            (open_port,) = container["ports"]
            assert open_port["name"] == port
            for probe, page in zip(("startupProbe", "livenessProbe", "readinessProbe"), wanted, strict=True):
                found = container.get(probe, {}).get("httpGet")
                assert found == (page and {"path": page, "port": port}), f"{container['name']}: {probe}"
            settings = {variable["name"]: variable["value"] for variable in container["env"]}
            if port == "metrics":
                assert settings["TAGMILL_METRICS_PORT"] == str(open_port["containerPort"])
                assert settings["TAGMILL_METRICS_HOST"] == "0.0.0.0"
            # a start may take five minutes, such as a device check that builds TensorRT's engine
            if "startupProbe" in container:
                probe = container["startupProbe"]
                assert probe["periodSeconds"] * probe["failureThreshold"] == 300
    prometheus = yaml.safe_load((ROOT / "deploy" / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in prometheus["scrape_configs"]}
    for monitor in every(rendered, "PodMonitor", "ServiceMonitor"):
        (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
        assert endpoint["relabelings"][0]["targetLabel"] == "job"
        assert endpoint["relabelings"][0]["replacement"] in jobs
        (name,) = monitor["spec"]["selector"]["matchLabels"].values()
        assert endpoint["port"] == pages[name][0]


def test_every_selector_finds_pods(rendered: dict[str, list[Manifest]]) -> None:
    for overlay, manifests in rendered.items():
        pods = [template(found)["metadata"]["labels"] for found in every({overlay: manifests}, *WORKLOADS)]
        names = {labels["app.kubernetes.io/name"] for labels in pods}
        for found in every({overlay: manifests}, *WORKLOADS, "PodDisruptionBudget", "Service", "PodMonitor"):
            selector = found["spec"].get("selector", {})
            wanted = selector.get("matchLabels", selector)
            if wanted:
                assert [labels for labels in pods if wanted.items() <= labels.items()], name_of(found)
        for policy in every({overlay: manifests}, "NetworkPolicy"):
            for expression in policy["spec"]["podSelector"].get("matchExpressions", []):
                assert set(expression["values"]) & names, name_of(policy)
        assert [name for name in names if name == "worker"]
        for scaled in every({overlay: manifests}, "ScaledObject"):
            target = one(manifests, "Deployment", scaled["spec"]["scaleTargetRef"]["name"])
            assert "replicas" not in target["spec"], "an apply would undo what KEDA chose"


def test_nothing_is_let_in_or_out_by_default_and_workers_reach_no_private_network(
    rendered: dict[str, list[Manifest]],
) -> None:
    deny = one(rendered["cpu"], "NetworkPolicy", "deny-all")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (rule,) = one(rendered["cpu"], "NetworkPolicy", "to-the-internet")["spec"]["egress"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(
        rule["to"][0]["ipBlock"]["except"]
    )


def test_a_worker_gets_as_long_to_end_as_with_compose_and_longer_than_a_batch_may_take(
    rendered: dict[str, list[Manifest]],
) -> None:
    limit = make_app(Settings(broker_url="memory://")).conf.task_time_limit
    compose = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text()))
    minutes = compose["services"]["worker"]["stop_grace_period"].removesuffix("m")
    for kind in ("cpu", "gpu"):
        pod = template(one(rendered[kind], "Deployment", f"tagmill-worker-{kind}"))["spec"]
        assert pod["terminationGracePeriodSeconds"] == 60 * int(minutes) > limit


def test_images_and_the_scripts_of_services_are_those_of_compose(rendered: dict[str, list[Manifest]]) -> None:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text())
    compose = yaml.safe_load(text.replace("$$", "$"))["services"]
    images = {service["image"] for service in compose.values()}
    used = {container["image"] for manifest in every(rendered, *WORKLOADS) for container in containers(manifest)}
    assert {image.removeprefix("registry.example.com/") for image in used} <= images
    for kind, name, service in (("StatefulSet", "redis", "redis"), ("Job", "tagmill-roles", "roles")):
        (container,) = containers(one(rendered["example"], kind, name))
        assert container["command"] == compose[service]["command"]
    for container in containers(one(rendered["example"], "Job", f"tagmill-migrate-{VERSION.replace('.', '-')}")):
        assert container["command"] == compose["migrate"]["command"]
    (gpu,) = template(one(rendered["gpu"], "Deployment", "tagmill-worker-gpu"))["spec"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_alerts_are_those_of_prometheus(rendered: dict[str, list[Manifest]]) -> None:
    spec = importlib.util.spec_from_file_location("prometheus_rule", KUBERNETES / "prometheus_rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus-rule.yaml").read_text())
    assert written == module.rule(), "run: python deploy/kubernetes/prometheus_rule.py"
    assert len(module.rule()["spec"]["groups"]) == len(list(module.RULES.glob("*.yml")))


def test_an_object_store_needs_no_volume(rendered: dict[str, list[Manifest]]) -> None:
    assert list(every({"gpu": rendered["gpu"]}, "PersistentVolumeClaim")) == []
    for manifest in every({"gpu": rendered["gpu"]}, "Deployment"):
        text = str(template(manifest))
        assert "persistentVolumeClaim" not in text
        assert "/models" not in text


def test_the_autoscaler_counts_queued_and_running_images_and_no_paused_run(
    rendered: dict[str, list[Manifest]], postgres_url: str
) -> None:
    upgrade(connect(postgres_url))
    queries = {found["spec"]["triggers"][0]["metadata"]["query"] for found in every(rendered, "ScaledObject")}
    (query,) = queries
    assert set(re.findall(r"(?:FROM|JOIN) (\w+)", query)) <= set(READ_TABLES), "not granted to readers"
    with psycopg.connect(libpq_url(postgres_url), autocommit=True) as connection:
        assert connection.execute(query.encode()).fetchone() == (0,)
        for run, queue, state in ((1, "tagmill", "open"), (2, "tagmill", "paused"), (3, "other", "open")):
            connection.execute(
                b"INSERT INTO run (id, source, parameters, queue, state, created_at) VALUES (%s, 's', '{}', %s, %s, 0)",
                (run, queue, state),
            )
            for seq, (status, images) in enumerate((("queued", 1), ("running", 10), ("done", 100), ("dead", 1000))):
                connection.execute(
                    b"INSERT INTO batch (run_id, seq, queue, status, attempts, first_position, last_position, images)"
                    b" VALUES (%s, %s, %s, %s, 0, 0, 0, %s)",
                    (run, seq, queue, status, images),
                )
        assert connection.execute(query.encode()).fetchone() == (1 + 10 + 10,)


def test_the_pod_of_a_worker_waits_until_the_tables_are_there(
    rendered: dict[str, list[Manifest]], sqlite_url: str, tmp_path: Path
) -> None:
    (waiting,) = template(one(rendered["cpu"], "Deployment", "tagmill-worker-cpu"))["spec"]["initContainers"]
    shell, option, script = waiting["command"]
    (tmp_path / "url").write_text(sqlite_url)
    folder = Path(sys.executable).parent
    env = environment(database_url_file=tmp_path / "url") | {"PATH": f"{folder}:/usr/bin:/bin"}
    with subprocess.Popen(
        [shell, option, script.replace("sleep 5", "sleep 0.1")],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        assert "tagmill db upgrade" in process.stderr.readline()
        upgrade(connect(sqlite_url))
        assert process.wait(120) == 0
