"""Download the bundle of a model version of MLflow."""

import re
from pathlib import Path

from export.mlflow_models.client import mlflow_errors, open_client
from export.mlflow_models.version import SCHEME, MlflowVersion
from tagmill.bundles.metadata import BundleSpec
from tagmill.bundles.onnx_file import read_metadata
from tagmill.errors import BundleError, InputError

_URI = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/([0-9]+))")


def is_mlflow(source: str) -> bool:
    """Return whether the argument of `tagmill model add` is a model of MLflow."""
    return source.startswith(SCHEME)


def fetch_bundle(uri: str, folder: Path) -> Path:
    """Download the ONNX file of `models:/NAME@ALIAS` or `models:/NAME/VERSION` into a folder; return the bundle.

    Raise InputError if there is no such version, or it holds no bundle, and ServiceDown if MLflow does not answer.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise InputError(f"{uri}: write {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION, such as {SCHEME}shirts@champion")
    name, alias, number = found.groups()
    client = open_client()
    with mlflow_errors():
        from mlflow.artifacts import download_artifacts

        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        place = Path(download_artifacts(f"{SCHEME}{name}/{version.version}", dst_path=str(folder)))
    model = MlflowVersion(name, str(version.version))
    files = sorted([place] if place.is_file() else place.rglob("*.onnx"))
    if not files:
        raise InputError(f"{model}: holds no .onnx file; publish a bundle with `tagmill model publish`")
    bundles = [path for path in files if _is_bundle(path)]
    if len(bundles) == 1:
        return bundles[0]
    if bundles:
        raise InputError(f"{model}: holds {len(bundles)} bundles; log each one as a version of its own")
    raise InputError(
        f"{model}: holds the graph {files[0].name}, which is no bundle: mlflow artifacts download -u {model} -d ., "
        f"then `tagmill model import {files[0].name} -o {name}.onnx` (it says what it needs), and `tagmill model add`"
    )


def _is_bundle(path: Path) -> bool:
    try:
        BundleSpec.from_metadata(read_metadata(path))
    except BundleError:
        return False
    return True
