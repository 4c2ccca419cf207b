"""The installed command: help, one-line errors, exit codes, interruption."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from support.bundles import write_classifier, write_segmenter
from support.image_fixtures import write_folder, write_image
from support.processes import TAGMILL, environment, tagmill, tagmill_json
from support.services import free_port

from tagmill.cli.commands import COMMANDS, cli


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    return environment(database_url=sqlite_url)


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1, stderr
    return lines[0]


def test_help_lists_every_command() -> None:
    shown = tagmill("--help").stdout
    assert all(f"  {name}" in shown for name in COMMANDS)
    for name in COMMANDS:
        # In this process: the imports of sixteen commands take a core ten seconds.
        assert (
            CliRunner().invoke(cli, [name, "--help"], prog_name="tagmill").output.startswith(f"Usage: tagmill {name}")
        )


def test_a_producer_loads_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, producer.cli.submit, tagmill.cli.exit, tagmill.registry.models, producer.output.image_grid; "
        "print(sorted({'torch', 'onnxruntime', 'onnx', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_worker_never_loads_torch_and_loads_onnx_runtime_only_after_a_fork(env: dict[str, str]) -> None:
    code = (
        "import sys, worker.celery, worker.cli.worker, worker.local.tag; "
        "print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "status", "7"], 2, "no run 7; see `tagmill run list`"),
        (["results", "7"], 2, "no run 7"),
        (["submit", "nowhere", "--model", "x"], 78, "TAGMILL_BROKER_URL is memory://"),
        (["tag", "nowhere", "--bundle", "missing.onnx"], 78, "missing.onnx: No such file or directory"),
        (["model", "show", "shirts"], 2, "no model shirts; none is registered"),
        (
            ["predict", "x.jpg", "--bundle", "x.jpg", "--device", "gpu"],
            78,
            "TAGMILL_DEVICE: must be auto, cpu, cuda:N, tensorrt:N or openvino",
        ),
    ],
)
def test_a_user_error_is_one_line_with_its_exit_code(
    arguments: list[str], code: int, words: str, env: dict[str, str], tmp_path: Path
) -> None:
    tagmill("db", "upgrade", env=env)
    assert words in one_line(tagmill(*arguments, env=env, cwd=tmp_path, expect=code).stderr)


def test_an_empty_database_names_the_command_to_run(env: dict[str, str]) -> None:
    assert "run: tagmill db upgrade" in one_line(tagmill("run", "list", env=env, expect=78).stderr)


def test_a_service_that_is_down_is_exit_code_75(env: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    down = env | {"TAGMILL_DATABASE_URL": f"postgresql://user:secret@127.0.0.1:{port}/db"}
    output = one_line(tagmill("run", "list", env=down, expect=75).stderr)
    assert "check TAGMILL_DATABASE_URL" in output
    assert "secret" not in output
    tagmill("db", "upgrade", env=env)
    tagmill("model", "add", write_classifier(tmp_path / "colors.onnx"), env=env, cwd=tmp_path)
    write_folder(tmp_path / "shop", 3)
    down = env | {"TAGMILL_BROKER_URL": f"redis://:secret@127.0.0.1:{port}/0"}
    output = tagmill("submit", tmp_path / "shop", "--model", "colors", env=down, expect=75).stderr
    assert "run 1 is in SQL, do not submit it again" in output
    assert "secret" not in output
    assert tagmill_json("run", "list", env=env)[0]["images"] == 3, (
        "the run is in SQL, and a worker's reaper will publish it"
    )


def test_an_invalid_setting_is_named(env: dict[str, str]) -> None:
    for name, value in (
        ("TAGMILL_DATABASE_URL", "mysql://x"),
        ("TAGMILL_BROKER_URL", "rediss://host/0"),
        ("TAGMILL_MAX_ATTEMPTS", "none"),
    ):
        assert name in one_line(tagmill("run", "list", env=env | {name: value}, expect=78).stderr)


def test_an_unknown_setting_is_named_once_and_the_command_continues(env: dict[str, str], tmp_path: Path) -> None:
    tagmill("db", "upgrade", env=env)
    env = env | environment(model_stor=tmp_path / "elsewhere", model_store=tmp_path / "models")
    done = tagmill("model", "add", write_classifier(tmp_path / "colors.onnx"), env=env)
    assert "MODEL_STOR (did you mean TAGMILL_MODEL_STORE?)" in one_line(done.stderr)
    assert done.stdout.startswith("colors@1")


def test_a_bad_broker_url_never_shows_its_password(env: dict[str, str]) -> None:
    command = [TAGMILL, "celery", "worker"]
    env = env | {"TAGMILL_BROKER_URL": "rediss://:hunter2@host/0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "TAGMILL_BROKER_URL: is rediss:// without certificate checking" in one_line(done.stderr)
    assert "hunter2" not in done.stdout + done.stderr


def test_a_closed_pipe_is_no_error(env: dict[str, str], tmp_path: Path) -> None:
    write_folder(tmp_path / "shop", 2000)
    tagmill("tag", tmp_path / "shop", "--bundle", write_classifier(tmp_path / "c.onnx"), env=env)
    command = f"{TAGMILL} results 1 | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("image_key,uri"), done.stderr) == (0, True, "")


def test_a_local_run_does_not_touch_other_runs(env: dict[str, str], tmp_path: Path) -> None:
    write_folder(tmp_path / "one", 800)
    write_folder(tmp_path / "two", 30)
    first = [TAGMILL, "tag", str(tmp_path / "one"), "--bundle", str(write_classifier(tmp_path / "a.onnx"))]
    process = subprocess.Popen([*first, "--batch-size", "4"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 240
    while time.monotonic() < end and not _tagged(env):
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=240)
    time.sleep(6)  # until its leases expire
    other = write_classifier(tmp_path / "b.onnx", name="other", sharpness=9.0)
    assert tagmill_json("tag", tmp_path / "two", "--bundle", other, env=env)["tagged"] == 30
    waiting = tagmill_json("run", "status", 1, env=env)
    assert waiting["pending"] > 0
    assert waiting["failed"] == 0
    assert tagmill_json(*first[1:], env=env)["tagged"] == 800


def test_a_dry_run_lists_every_problem_and_queues_nothing(env: dict[str, str], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("image_key,uri\na,a.jpg\na,b.jpg\n,c.jpg\nd,file://host/d.jpg\ne,e.jpg\n")
    tagmill("db", "upgrade", env=env)
    tagmill("model", "add", write_classifier(tmp_path / "colors.onnx"), env=env, cwd=tmp_path)
    env = env | {"TAGMILL_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    found = tagmill_json("submit", manifest, "--model", "colors", "--dry-run", env=env, expect=2)
    assert (found["images"], found["problem_count"]) == (2, 3)
    places = [problem.split(":")[1] for problem in found["problems"]]
    assert places == ["4", "5", "3"]  # a key that comes twice is known once all were read


def test_tag_needs_no_server_and_a_second_run_infers_nothing(env: dict[str, str], tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "shop", 50)
    bundles = ["--bundle", write_classifier(tmp_path / "c.onnx"), "--bundle", write_segmenter(tmp_path / "s.onnx")]
    first = tagmill_json("tag", tmp_path / "shop", *bundles, env=env)
    second = tagmill_json("tag", tmp_path / "shop", *bundles, env=env)
    assert (first["tagged"], first["inferences"], second["inferences"]) == (50, 100, 0)
    lines = tagmill("results", 1, "--format", "jsonl", "--masks", tmp_path / "masks", env=env).stdout.splitlines()
    found = {row["image_key"]: row["models"] for row in map(json.loads, lines)}
    assert {key: models["colors"]["labels"][0]["label"] for key, models in found.items()} == truth
    assert all(models["color-masks"]["masks"][0]["area_share"] == 1.0 for models in found.values())
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 50


def test_the_same_bytes_under_five_names_are_inferred_once(env: dict[str, str], tmp_path: Path) -> None:
    image = write_image(tmp_path / "shop" / "one.png", "green")
    for number in range(4):
        (tmp_path / "shop" / f"copy-{number}.png").write_bytes(image.read_bytes())
    done = tagmill_json("tag", tmp_path / "shop", "--bundle", write_classifier(tmp_path / "c.onnx"), env=env)
    assert (done["tagged"], done["inferences"]) == (5, 1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_continues_with_the_same_command(
    how: signal.Signals, env: dict[str, str], tmp_path: Path
) -> None:
    truth = write_folder(tmp_path / "shop", 800)
    bundle = write_classifier(tmp_path / "c.onnx")
    command = ["tag", str(tmp_path / "shop"), "--bundle", str(bundle), "--batch-size", "4"]
    process = subprocess.Popen([TAGMILL, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 240
    while time.monotonic() < end and not _tagged(env):
        time.sleep(0.02)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in stderr
    before = _tagged(env)
    assert 0 < before < 800
    done = tagmill_json(*command, env=env)
    assert (done["run"], done["tagged"]) == (1, 800)
    rows = [json.loads(line) for line in tagmill("results", 1, "--format", "jsonl", env=env).stdout.splitlines()]
    assert {row["image_key"]: row["models"]["colors"]["labels"][0]["label"] for row in rows} == truth


def _tagged(env: dict[str, str]) -> int:
    engine = create_engine(env["TAGMILL_DATABASE_URL"])
    try:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM run_image WHERE status = 'tagged'")).scalar_one())
    except OperationalError:
        return 0  # the tables do not exist yet
    finally:
        engine.dispose()


def test_predict_needs_only_a_file_and_a_bundle(env: dict[str, str], tmp_path: Path) -> None:
    bundle = write_classifier(tmp_path / "c.onnx")
    image = write_image(tmp_path / "anywhere" / "x.png", "blue")
    done = tagmill("predict", image, tmp_path / "none.png", "--bundle", bundle, env=env, expect=3)
    assert "x.png: colors: blue 1.00" in done.stdout
    assert "none.png: not_found" in done.stdout


def test_an_onnx_file_that_is_not_a_bundle_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    bundle = write_classifier(tmp_path / "c.onnx")
    model = onnx.load(bundle)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "plain.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"\x08noise")
    write_folder(tmp_path / "shop", 1)
    for name, words in (("plain.onnx", "not a Tagmill bundle"), ("noise.onnx", "it is no ONNX file")):
        output = tagmill("tag", tmp_path / "shop", "--bundle", tmp_path / name, env=env, expect=78).stderr
        assert words in output.splitlines()[-1]
