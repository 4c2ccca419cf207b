"""The contents of the wheel, and what its extras install."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from support.processes import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=240)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_rooms_and_the_starter_bundles_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"tagmill", "producer", "worker", "training", "export"}
    assert {"tagmill/starter/classifier.onnx", "tagmill/starter/segmenter.onnx"} <= set(names)
    assert "tagmill/db/migrations/versions/0001_first_tables.py" in names
    assert {"tagmill/pages/base.css", "producer/report/templates/page.html.j2"} <= set(names)


def test_an_installed_wheel_finds_its_starter_bundles(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, timeout=240)
    code = "from tagmill.bundles.starter import starter_bundles; print(*starter_bundles(), sep='\\n')"
    env = environment() | {"PYTHONPATH": str(target)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(line.startswith(str(target)) for line in found.stdout.split())


def test_the_starter_bundles_are_together_under_12_mib() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "starter").glob("*.onnx")) <= 12 * 2**20


@pytest.mark.parametrize(
    ("extra", "never"),
    [
        (None, {"torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "onnx", "matplotlib", "scikit-learn"}),
        ("cpu", {"torch", "torchvision", "onnxruntime-gpu", "onnx"}),
        ("gpu", {"torch", "torchvision", "onnxruntime", "onnx"}),
        ("gpu-decode", {"torch", "torchvision", "onnxruntime"}),
        ("postgres", {"torch", "onnxruntime"}),
        ("ops", {"torch", "onnxruntime"}),
        ("train", {"onnxruntime", "onnxruntime-gpu"}),
    ],
)
def test_extras_keep_installs_lean(extra: str | None, never: set[str]) -> None:
    names = set()
    for requirement in requires("tagmill") or []:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)
        assert name is not None
        marker = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if (marker[1] if marker else None) == extra:
            names.add(name[0].lower())
    assert names
    assert not names & never
