"""The examples run as their schedulers run them: Airflow, Dagster and a shell, with a real worker."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundles import write_classifier
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, tagmill

EXAMPLES = Path(__file__).parents[3] / "examples"
BIN = Path(sys.executable).parent
#: runs commands of `airflow` in one process: to import it takes longer than most of them
AIRFLOW = """
import sys
from airflow.__main__ import main
for command in sys.argv[1:]:
    sys.argv = ["airflow", *command.split()]
    main()
"""


@pytest.fixture
def shop(site: Site) -> Iterator[Site]:
    """An installation with a worker, the model clothing, and CATALOG and TAGS in its environment."""
    tagmill("model", "add", write_classifier(site.folder / "clothing.onnx", name="clothing"), env=site.env)
    write_folder(site.folder / "shop", 6)
    site.env |= {
        "CATALOG": str(site.folder / "shop"),
        "TAGS": f"{site.folder}/tags/",
        "PATH": f"{BIN}:{site.env['PATH']}",
        "AIRFLOW_HOME": str(site.folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    with Worker(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        yield site


def run(site: Site, *command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env=site.env,
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_tagged(site: Site) -> None:
    """Check that the job made one run, and wrote its tags."""
    assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == 6
    assert [path.name for path in (site.folder / "tags").iterdir()] == ["part-00000.parquet"]


def test_airflow_runs_its_example(shop: Site) -> None:
    (shop.folder / "airflow" / "dags").mkdir(parents=True)
    shutil.copy(EXAMPLES / "airflow_dag.py", shop.folder / "airflow" / "dags")
    run(shop, sys.executable, "-c", AIRFLOW, "db migrate", "dags reserialize", "dags test tag_catalog")
    assert_tagged(shop)


def test_dagster_runs_its_example(shop: Site) -> None:
    run(shop, BIN / "dagster", "asset", "materialize", "-f", EXAMPLES / "dagster_job.py", "--select", "catalog_tags")
    assert_tagged(shop)


def test_cron_runs_its_example(shop: Site) -> None:
    assert run(shop, EXAMPLES / "nightly.sh", shop.env["CATALOG"], shop.env["TAGS"]).startswith("image_key,")
    assert_tagged(shop)
