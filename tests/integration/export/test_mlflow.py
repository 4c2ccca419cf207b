"""Bundles in a real registry of MLflow, which keeps it in a SQLite file and its artifacts in a folder."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.bundles import write_classifier, write_logits

from tagmill.cli.commands import cli
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import ConfigurationError, InputError, ServiceDown


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry of MLflow, which takes it seconds to make."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path) -> Path:
    """A folder with a database and a model store of Tagmill, and a registry of MLflow."""
    shutil.copyfile(empty_registry, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAGMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'tagmill.db'}")
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(tmp_path / "models"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    write_classifier(tmp_path / "colors.onnx")
    for name in ("tagmill", "other"):
        engine = connect(f"sqlite:///{tmp_path / name}.db")
        upgrade(engine)
        engine.dispose()
    return tmp_path


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, ["model", *map(str, arguments)], catch_exceptions=True)
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_a_bundle_goes_to_mlflow_and_comes_back_to_another_installation(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    run("add", "colors.onnx")
    first = run("publish", "colors@1", "--registered-name", "shop-colors", "--alias", "champion")
    assert first.output.endswith("colors@1: published as models:/shop-colors/1, alias champion\n")
    again = run("publish", "colors")
    assert again.output.endswith("published as models:/colors/1\n")
    twice = run("publish", "colors", "--registered-name", "shop-colors", "--alias", "challenger")
    assert twice.output == "colors@1: is already there as models:/shop-colors/1, alias challenger\n"
    version = MlflowClient().get_model_version_by_alias("shop-colors", "champion")
    assert (version.version, version.tags["tagmill.labels"]) == (1, '["red", "green", "blue"]')
    assert Path(download_artifacts("models:/shop-colors/1", dst_path=str(site / "out")), "colors.onnx").is_file()

    monkeypatch.setenv("TAGMILL_DATABASE_URL", f"sqlite:///{site / 'other.db'}")
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(site / "other"))
    for place in ("models:/shop-colors@champion", "models:/shop-colors/1"):
        added = run("add", place)
        assert added.output.startswith("colors@1: classify, 3 labels, ")
    (stored,) = (site / "other").iterdir()
    assert stored.read_bytes() == (site / "colors.onnx").read_bytes()
    assert stored.stem == version.tags["tagmill.sha256"]


def test_what_is_no_bundle_in_mlflow_is_refused_with_what_to_do(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    with pytest.raises(InputError, match="Registered Model with name=none not found"):
        run("add", "models:/none@champion")
    with pytest.raises(InputError, match="write models:/NAME@ALIAS or models:/NAME/VERSION"):
        run("add", "models:/shirts")
    client = MlflowClient()
    client.create_registered_model("foreign")
    graph = write_logits(site / "theirs.onnx")
    import onnx

    foreign = onnx.load(graph)
    del foreign.metadata_props[:]
    onnx.save(foreign, graph)
    logged = client.create_run(client.create_experiment("theirs"))  # the first one has its artifacts elsewhere
    client.log_artifact(logged.info.run_id, str(graph), "model")
    client.create_model_version("foreign", f"runs:/{logged.info.run_id}/model", logged.info.run_id)
    with pytest.raises(InputError, match=r"theirs\.onnx, which is no bundle: .*`tagmill model import theirs\.onnx -o"):
        run("add", "models:/foreign/1")
    with pytest.raises(InputError, match="alias"):
        run("add", "models:/foreign@champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceDown, match="MLflow"):
        run("add", "models:/foreign/1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigurationError, match="set MLFLOW_TRACKING_URI"):
        run("add", "models:/foreign/1")
