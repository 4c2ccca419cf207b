"""Publish a registered bundle as a version of a model in MLflow's registry."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.mlflow_models.client import mlflow_errors, open_client
from export.mlflow_models.version import MlflowVersion
from tagmill.bundles.metadata import BundleSpec
from tagmill.bundles.onnx_file import read_metadata
from tagmill.registry.models import Model

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: MLflow's experiment that the runs of published bundles are in
EXPERIMENT = "tagmill"
#: name of the tag that names a bundle; the others begin the same
SHA256 = "tagmill.sha256"
#: characters of a tag: MLflow allows 5,000
_MOST = 4_900
#: folder of the bundle in the artifacts of its run
_FOLDER = "bundle"


@dataclass(frozen=True)
class Published(MlflowVersion):
    """The version that has a bundle."""

    #: whether this call made it
    new: bool


def publish(model: Model, bundle: Path, name: str, alias: str | None) -> Published:
    """Write the bundle of a model as the next version of `name`, unless a version of it has the bundle already.

    `alias` then leads to that version. Raise InputError for what MLflow refuses, ServiceDown if it does not answer.
    """
    spec = BundleSpec.from_metadata(read_metadata(bundle))
    client = open_client()
    with mlflow_errors():
        version = _known_version(client, name, model.sha256)
        new = version is None
        if version is None:
            version = _add_version(client, model, spec, bundle, name)
        if alias:
            client.set_registered_model_alias(name, alias, version)
    return Published(name, version, new)


def _known_version(client: "MlflowClient", name: str, sha256: str) -> str | None:
    """Return the version with this bundle. Create the registered model if there is none of this name."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, description="Published by `tagmill model publish`.")
        return None
    quoted = name.replace("'", "''")
    found = client.search_model_versions(f"name = '{quoted}' and tag.`{SHA256}` = '{sha256}'")
    return str(found[0].version) if found else None


def _add_version(client: "MlflowClient", model: Model, spec: BundleSpec, bundle: Path, name: str) -> str:
    tags = dict(_tags(model, spec))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    in_experiment = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run = client.create_run(in_experiment, tags=tags, run_name=model.title)
    run_id = run.info.run_id
    try:
        with tempfile.TemporaryDirectory() as folder:
            # The store names it by its sha256.
            named = Path(shutil.copyfile(bundle, Path(folder) / f"{model.name}.onnx"))
            client.log_artifact(run_id, str(named), _FOLDER)
        for metric, value in _numbers(model.metrics):
            client.log_metric(run_id, metric, value)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    said = f"{model.title}: {model.task}, {len(model.labels)} labels"
    made = client.create_model_version(name, f"runs:/{run_id}/{_FOLDER}", run_id, tags=tags, description=said)
    return str(made.version)


def _tags(model: Model, spec: BundleSpec) -> Iterator[tuple[str, str]]:
    yield SHA256, model.sha256
    yield "tagmill.model", model.title
    yield "tagmill.task", model.task
    yield "tagmill.precision", str(spec.precision)
    for key, value in (("labels", list(model.labels)), ("metrics", dict(_numbers(model.metrics)))):
        text = json.dumps(value, ensure_ascii=False)
        yield f"tagmill.{key}", text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the metrics that are one number."""
    for name, value in metrics.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value)
