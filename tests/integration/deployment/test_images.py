"""What the container images install is locked by hash, fits this version, and holds no torch."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "deploy" / "image"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: what markers of requirements see in the images
MACHINE = {"python_version": "3.12", "python_full_version": "3.12.14", "sys_platform": "linux"}


def locked(name: str) -> dict[str, str]:
    """Return the version of each package of a lock, by its canonical name."""
    text = (IMAGE / f"requirements-{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, flags=re.M))


def constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def wanted(kind: str) -> list[Requirement]:
    """Return what pyproject.toml asks for with the extras that `make lock` names for an image."""
    makefile = (ROOT / "Makefile").read_text()
    (common,) = re.findall(r"^IN_IMAGES := (.+)$", makefile, flags=re.M)
    (own,) = re.findall(rf"foreach extra,({kind}[a-z -]*) \$\(IN_IMAGES\)", makefile)
    project = PROJECT["project"]
    lines = [*project["dependencies"]]
    for extra in (*own.split(), *common.split()):
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_lock_of_an_image_fits_pyproject_and_the_versions_that_were_tried(kind: str) -> None:
    lock = locked(kind)
    for requirement in wanted(kind):
        name = canonicalize_name(requirement.name)
        if requirement.marker is None or requirement.marker.evaluate(MACHINE):
            assert name in lock, f"make lock: {requirement}"
            assert requirement.specifier.contains(lock[name]), f"make lock: {requirement}, not {lock[name]}"
    tried = constraints()
    assert {name: version for name, version in lock.items() if tried.get(name) != version} == {}


def test_the_lock_of_the_build_fits_pyproject() -> None:
    lock = locked("build")
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(lock[requirement.name])
        assert str(requirement) in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", ["cpu", "gpu", "build"])
def test_every_package_of_a_lock_has_hashes(name: str) -> None:
    text = (IMAGE / f"requirements-{name}.txt").read_text()
    packages = re.split(r"^(?=\S)", "\n".join(text.splitlines()[2:]), flags=re.M)[1:]
    assert len(packages) == len(locked(name))
    for package in packages:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), package
    assert "://" not in text, "an address of a package index"


def test_images_hold_no_torch_and_one_onnx_runtime() -> None:
    for kind, runtime in (("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu")):
        names = set(locked(kind))
        assert {"celery", "flower", "psycopg", "redis", "prometheus-client", "obstore"} <= names
        assert {name for name in names if name.startswith("onnxruntime")} == {runtime}
        assert not {"torch", "torchvision", "scikit-learn", "matplotlib", "pytest", "hatchling"} & names


def test_the_dockerfile_installs_by_hash_in_a_layer_of_its_own_and_runs_as_no_root() -> None:
    stages = dict(re.findall(r"^FROM (?:\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.M | re.S))
    assert list(stages)[-2:] == ["gpu", "cpu"]
    for kind in ("cpu", "gpu"):
        dependencies = stages[f"dependencies-{kind}"]
        assert f"COPY deploy/image/requirements-{kind}.txt " in dependencies
        assert dependencies.count("COPY") == 1, "code in the layer of the dependencies"
        assert "--require-hashes --only-binary :all:" in dependencies
        assert f"COPY --from=dependencies-{kind} /opt/tagmill /opt/tagmill\n" in stages[kind]
        assert "install --no-cache-dir --no-index --no-deps /wheel/*.whl" in stages[kind]
        assert "\nUSER 10001:10001\n" in stages[kind]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "!tests" not in ignored
    for path in re.findall(r"^COPY (?!--)(\S+)", DOCKERFILE, flags=re.M):
        assert (ROOT / path).exists(), path


def test_hadolint_accepts_the_dockerfile_and_yamllint_the_yaml() -> None:
    for command in (["hadolint", "Dockerfile"], ["yamllint", "--strict", "."]):
        program = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_bill_of_materials_names_what_is_locked(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("cyclonedx-py"))
    command = [program, "requirements", "deploy/image/requirements-cpu.txt", "--pyproject", "pyproject.toml"]
    subprocess.run([*command, "--output-reproducible", "-o", str(tmp_path / "sbom.json")], cwd=ROOT, check=True)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "tagmill")
    assert {found["name"]: found["version"] for found in bill["components"]} == locked("cpu")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make digests` reads and writes, and a docker that answers what the variable ANSWER holds."""
    (tmp_path / "deploy" / "image").mkdir(parents=True)
    for path in ("Dockerfile", "docker-compose.yml", "deploy/image/pin.py"):
        shutil.copy(ROOT / path, tmp_path / path)
    shutil.copytree(ROOT / "deploy/kubernetes/services", tmp_path / "deploy/kubernetes/services")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(
        '#!/bin/sh\n[ -z "$ANSWER" ] && { echo "no such host" >&2; exit 1; }\necho "$ANSWER"\n'
    )
    (tmp_path / "bin" / "docker").chmod(0o755)
    return tmp_path


def pin(checkout: Path, answer: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ANSWER": answer, "PATH": path or f"{checkout / 'bin'}:{os.environ['PATH']}"}
    command = [sys.executable, str(checkout / "deploy" / "image" / "pin.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_digests_are_written_behind_the_tags_and_replace_those_of_before(checkout: Path) -> None:
    for digit in "12":
        digest = f"sha256:{digit * 64}"
        done = pin(checkout, digest)
        assert done.returncode == 0, done.stderr
        text = (checkout / "Dockerfile").read_text() + (checkout / "docker-compose.yml").read_text()
        assert re.sub(r"@sha256:\w+", "", text) == DOCKERFILE + (ROOT / "docker-compose.yml").read_text()
        assert set(re.findall(r"@(sha256:\w+)", text)) == {digest}
        pulled = set(re.findall(r"^(?:ARG BASE=| +image: )(\S+)@", text, flags=re.M))
        assert {line.partition("@")[0] for line in done.stdout.splitlines()} == pulled
        assert len(re.findall(r"^ +image: (?!tagmill:)\S+$", text, flags=re.M)) == text.count("@sha256:") - 1


def test_without_a_registry_or_docker_nothing_is_written(checkout: Path) -> None:
    for answer, path, said in (("", None, "no such host"), ("x", str(checkout / "nowhere"), "docker is not installed")):
        done = pin(checkout, answer, path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert said in line
    assert (checkout / "Dockerfile").read_text() == DOCKERFILE
