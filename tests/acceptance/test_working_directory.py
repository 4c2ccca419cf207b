"""No command and no process of it runs code of the working directory, whatever the files there are called."""

import socket
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import support.faults.sitecustomize as faults
from support.bundles import write_classifier
from support.image_fixtures import draw_noisy, write_folder
from support.installation import new_site
from support.processes import TAGMILL, Worker, environment, tagmill, wait_until
from support.services import ExternalRedis, RedisServer, free_port, http

NODE = f"worker@{socket.gethostname()}"
#: files that programs look for by name, besides the modules that they import
CONFIGURATION = {"celeryconfig", "flowerconfig", "sitecustomize", "usercustomize", "conftest", "setup"}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a file for each module of Python and of every package installed here, and for each of ours.

    A file that is run writes its name to the file `ran`, and ends its process.
    """
    folder = tmp_path / "hostile"
    (folder / "worker").mkdir(parents=True)
    names = {
        name for name in {*sys.stdlib_module_names, *packages_distributions(), *CONFIGURATION} if name.isidentifier()
    }
    names |= {"tagmill", "producer", "training", "export", "redis", "celery", "kombu", "onnxruntime", "torch", "numpy"}
    for path in [folder / "worker" / "__init__.py", *(folder / f"{name}.py" for name in names - {"worker"})]:
        path.write_text(
            f"import os; os.write(os.open({str(folder / 'ran')!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND), "
            f"{path.name.encode() + b' '!r}); os._exit(99)\n"
        )
    return folder


def ran(folder: Path) -> str:
    return (folder / "ran").read_text() if (folder / "ran").exists() else ""


def test_a_worker_and_its_quarantine_run_nothing_of_it(
    sqlite_url: str, redis_server: RedisServer | ExternalRedis, hostile: Path, tmp_path: Path
) -> None:
    site = new_site(tmp_path, sqlite_url, redis_server.url)
    write_folder(site.folder / "shop", 6)
    with (site.folder / "shop" / "00003.png").open("ab") as image:
        image.write(faults.KILLS)
    env = site.env | {"PYTHONPATH": str(Path(faults.__file__).parent)}
    submit = ["submit", site.folder / "shop", "--model", "colors", "--wait"]
    with Worker(env, site.folder / "worker.log", cwd=hostile) as worker:
        tagmill(*submit, env=site.env, cwd=hostile, expect=3)
        assert "poison_found" in worker.log
        tagmill("celery", "inspect", "ping", "--timeout", 60, "--destination", NODE, env=site.env, cwd=hostile)
    assert ran(hostile) == ""


def test_flower_runs_nothing_of_it(redis_server: RedisServer | ExternalRedis, hostile: Path, tmp_path: Path) -> None:
    env, port = environment(broker_url=redis_server.url), free_port()
    command = [TAGMILL, "celery", "flower", "--address=127.0.0.1", f"--port={port}", "--read_only"]

    def answers() -> bool:
        try:
            return http(f"http://127.0.0.1:{port}/healthcheck")[0] == 200
        except OSError:
            return False

    with Worker(env, tmp_path / "flower.log", command, cwd=hostile) as flower:
        wait_until(lambda: answers() or flower.process.poll() is not None, 60, "Flower to answer")
        assert flower.process.poll() is None, flower.log
    assert ran(hostile) == ""


def test_commands_without_servers_run_nothing_of_it(sqlite_url: str, hostile: Path, tmp_path: Path) -> None:
    env, shop = environment(database_url=sqlite_url), tmp_path / "shop"
    write_folder(shop, 3)
    bundle = write_classifier(tmp_path / "c.onnx")
    for command in (
        ["tag", shop, "--bundle", bundle],
        ["predict", shop / "00000.png", "--bundle", bundle],
        ["results", 1, "-o", tmp_path / "tags.csv"],
    ):
        tagmill(*command, env=env, cwd=hostile)
        assert ran(hostile) == "", command


def test_training_and_its_processes_run_nothing_of_it(hostile: Path, tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=6)
    tagmill("train", "svc", "--data", data, "--out", tmp_path / "run", cwd=hostile)
    assert ran(hostile) == ""


def test_the_folder_would_be_noticed(hostile: Path) -> None:
    assert (
        subprocess.run([sys.executable, "-m", "celery", "-A", "worker", "status"], cwd=hostile, check=False).returncode
        == 99
    )
    assert ran(hostile)
