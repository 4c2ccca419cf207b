"""How commands end in a shell: odd names, closed pipes, full disks, Ctrl-C, and the next step they print."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.bundles import write_classifier
from support.image_fixtures import write_folder, write_image
from support.processes import TAGMILL, environment, tagmill, tagmill_json, wait_until
from support.services import ExternalRedis, RedisServer

ODD = "shots [summer] odd[/cat] :cat:"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two images, tagged as run 1: the folder's name is odd, and one key is not ASCII."""
    folder = tmp_path_factory.mktemp("exits")
    write_image(folder / ODD / "日本é.png", "red")
    write_image(folder / ODD / "plain.png", "green")
    env = environment(database_url=f"sqlite:///{folder / 'tags.db'}", model_store=folder / "models")
    bundle = write_classifier(folder / "c.onnx")
    output = tagmill("tag", folder / ODD, "--bundle", bundle, env=env, cwd=folder)
    assert str(folder / ODD) in output.stdout
    return folder


@pytest.fixture
def env(shop: Path) -> dict[str, str]:
    return environment(database_url=f"sqlite:///{shop / 'tags.db'}", model_store=shop / "models")


def shell(command: str, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; `tagmill` in it is the installed command."""
    command = f'tagmill() {{ {TAGMILL} "$@"; }}; {command}'
    done = subprocess.run(
        ["bash", "-c", command], env=env, cwd=cwd, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_odd_names_are_printed_unchanged(shop: Path, env: dict[str, str], tmp_path: Path) -> None:
    for command in (["run", "list"], ["run", "status", 1]):
        assert ODD in tagmill(*command, env=env).stdout
    tagmill("model", "add", write_classifier(tmp_path / "c.onnx", sharpness=3.0), "--name", "other", env=env)
    with closing(sqlite3.connect(shop / "tags.db")) as database, database:  # older versions allowed such a name
        database.execute("UPDATE model SET name = 'a[/b]' WHERE name = 'other'")
    assert "a[/b]@1" in tagmill("model", "list", env=env).stdout
    shutil.copytree(shop / ODD, tmp_path / "odd[" / "cat]")
    words = ("--data", tmp_path / "odd[", "--seconds", 1, "--device", "cpu")
    output = tagmill("bench", shop / "c.onnx", *words, env=env | {"TAGMILL_CACHE_FOLDER": str(tmp_path / "cache[/x]")})
    assert f"looking for images in {tmp_path / 'odd['}" in output.stderr
    assert "kept in " in output.stdout
    assert "cache[/x]" in output.stdout


def test_a_demo_is_written_to_a_folder_of_any_name(env: dict[str, str], tmp_path: Path) -> None:
    output = tagmill("demo", "--images", 10, "--out", tmp_path / "dm[" / "x]", env=env)
    assert f"masks: {tmp_path / 'dm[' / 'x]' / 'masks'}" in output.stdout


@pytest.mark.parametrize("command", ["results 1", "run list", "run status 1 --json", "model list", "--help"])
def test_a_closed_pipe_is_no_error_and_a_full_disk_is_one_line(command: str, env: dict[str, str]) -> None:
    done = shell(f"tagmill {command} | true; exit ${{PIPESTATUS[0]}}", env)
    assert done.returncode == 0
    assert "rror" not in done.stderr
    done = shell(f"tagmill {command} > /dev/full", env)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: standard output: No space left on device; write to another place"


def test_a_closed_standard_output_is_one_line(env: dict[str, str]) -> None:
    done = shell("tagmill results 1 >&-", env)
    assert (done.returncode, done.stderr) == (2, "error: standard output is closed; name a file with -o\n")


def test_results_are_utf8_in_any_locale(env: dict[str, str], tmp_path: Path) -> None:
    env = env | {"PYTHONIOENCODING": "ascii"}
    printed = subprocess.run([TAGMILL, "results", "1"], env=env, capture_output=True, check=True).stdout
    assert "日本é.png" in printed.decode()
    tagmill("results", 1, "-o", tmp_path / "tags.csv", env=env)
    assert (tmp_path / "tags.csv").read_bytes() == printed


def test_results_keep_the_earlier_file_if_the_disk_is_full(env: dict[str, str], tmp_path: Path) -> None:
    write_folder(tmp_path / "shop", 500)
    many = env | {"TAGMILL_DATABASE_URL": f"sqlite:///{tmp_path / 'tags.db'}"}
    tagmill("tag", tmp_path / "shop", "--bundle", write_classifier(tmp_path / "c.onnx"), env=many)
    (tmp_path / "tags.csv").write_text("earlier")
    # 40 KiB are enough for SQLite and for half of the results.
    done = shell("ulimit -f 40; tagmill results 1 -o tags.csv", many, tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: tags.csv: File too large\n")
    assert (tmp_path / "tags.csv").read_text() == "earlier"
    assert shell("tagmill results 1 -o /dev/full", env).stderr == "error: /dev/full: No space left on device\n"
    assert shell("tagmill results 1 -o /dev/stdout | head -1", env).stdout.startswith("image_key,uri")


def test_the_commands_that_tag_prints_work(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", "red")
    (tmp_path / "list.csv").write_text("image_key,uri\na,a.png\nb,b.png\n")
    write_classifier(tmp_path / "c.onnx")
    env = environment()
    command = ["tag", "list.csv", "--bundle", "c.onnx", "--db", "sqlite:///my tags.db"]
    output = tagmill(*command, env=env, cwd=tmp_path, expect=3).stdout
    line = output.splitlines()[-1].removeprefix("read it with: ")
    assert "a,a.png" in shell(line, env, tmp_path).stdout.replace(f"{tmp_path}/", "")
    assert "run retry" not in output
    assert "the same `tagmill tag` again" in output
    write_image(tmp_path / "b.png", "blue")
    again = json.loads(tagmill(*command, "--json", env=env, cwd=tmp_path).stdout)
    assert (again["tagged"], again["inferences"]) == (2, 1)
    assert tagmill("tag", "list.csv", "--bundle", "c.onnx", env=env, cwd=tmp_path).stdout.splitlines()[-1] == (
        "read it with: tagmill results 1"
    )


def test_arguments_that_are_not_utf8_are_one_line(env: dict[str, str]) -> None:
    for command in (r"model show $'\xff'", r"model promote $'\xff@1'", r"submit . --model $'\xff'"):
        done = shell(f"tagmill {command}", env | {"TAGMILL_BROKER_URL": "redis://127.0.0.1:1/0"})
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "is not UTF-8" in done.stderr
    done = shell("tagmill run list --limit 99999999999999999999", env)
    assert done.returncode == 2
    done = shell(r"tagmill predict $'\xff.png' --bundle c.onnx", env, Path(env["TAGMILL_MODEL_STORE"]).parent)
    assert (done.returncode, "not_found" in done.stdout) == (3, True)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_bench_of_infinite_length_is_refused(value: str, shop: Path, env: dict[str, str]) -> None:
    output = tagmill("bench", shop / "c.onnx", "--seconds", value, env=env, expect=2).stderr
    assert "not a finite number" in output


def test_a_bench_checks_its_folder_before_it_measures(shop: Path, env: dict[str, str]) -> None:
    env = env | {"TAGMILL_CACHE_FOLDER": str(shop / "c.onnx")}
    output = tagmill("bench", shop / "c.onnx", "--seconds", 600, env=env, expect=2).stderr
    assert output.splitlines() == [
        f"error: {shop / 'c.onnx' / 'tuned'}: cannot be written to; set TAGMILL_CACHE_FOLDER to another folder"
    ]


def test_predict_distinguishes_two_bundles_with_one_name(shop: Path, env: dict[str, str], tmp_path: Path) -> None:
    other = write_classifier(tmp_path / "other.onnx", sharpness=3.0)
    image = shop / ODD / "plain.png"
    words = ("predict", image, "--bundle", shop / "c.onnx", "--bundle")
    found = tagmill_json(*words, other, env=env)["models"]
    assert found["colors@1"]["labels"][0][1] > found["colors@2"]["labels"][0][1]
    assert "the same bundle is named twice" in tagmill(*words, shop / "c.onnx", env=env, expect=2).stderr


@pytest.mark.parametrize("seconds", [0.15, 0.3, 0.6])
def test_ctrl_c_during_startup_is_one_line(seconds: float, env: dict[str, str]) -> None:
    for later in range(60):
        process = subprocess.Popen([TAGMILL, "run", "watch", "1"], env=env, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds + later / 5)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=240)
        ours = "in main" in output or "Fatal Python error: init" not in output
        if ours and (process.returncode != -signal.SIGINT or "in main" in output):
            break  # otherwise it came before our first line, while Python itself started; try again later
    if process.returncode != 0:  # otherwise it had finished
        assert (process.returncode, len(output.strip().splitlines())) == (130, 1), output


def interrupt(
    command: list[str], env: dict[str, str], ready: Callable[[int], object], times: int = 1
) -> tuple[int, str]:
    """Press Ctrl-C `times` times once `ready`, given the process, holds; return the exit code and standard error."""
    process = subprocess.Popen([TAGMILL, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: ready(process.pid) or process.poll() is not None, 120, "the command to start its work")
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, output = process.communicate(timeout=240)
    return process.returncode, output


def test_ctrl_c_twice_ends_as_ctrl_c_does(tmp_path: Path) -> None:
    env = environment(database_url=f"sqlite:///{tmp_path / 'tags.db'}")
    write_folder(tmp_path / "shop", 3000)
    command = ["tag", str(tmp_path / "shop"), "--bundle", str(write_classifier(tmp_path / "c.onnx"))]
    code, output = interrupt(command, env, lambda _: (tmp_path / "tags.db-wal").exists(), times=3)
    assert (code, output.splitlines()[-1]) == (130, "interrupted; it is safe to run the command again")
    assert "Traceback" not in output


def test_ctrl_c_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    env = environment(database_url=f"sqlite:///{tmp_path / 'tags.db'}")
    write_folder(tmp_path / "shop", 2000)
    command = [TAGMILL, "tag", str(tmp_path / "shop"), "--bundle", str(write_classifier(tmp_path / "c.onnx"))]
    database, output = tmp_path / "tags.db", tmp_path / "output"

    def begun() -> bool:
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) FROM batch WHERE status = 'done'").fetchone()[0])
        return False

    with output.open("w") as out:
        process = subprocess.Popen([*command, "--batch-size", "4"], env=env, stdout=out, stderr=out)
    wait_until(begun, 240, "the command to tag")
    # The kernel refuses writes beyond this byte: for SQLite this is the same as a full disk.
    limit = max(path.stat().st_size for path in tmp_path.glob("tags.db*")) + 20_000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    wait_until(lambda: "is down" in output.read_text(), 240, "the disk to be full")
    process.send_signal(signal.SIGINT)
    assert process.wait(240) == 130
    *before, last = filter(None, output.read_text().splitlines())
    assert last == "interrupted; it is safe to run the command again"
    assert len(before) <= 2
    assert all("database is" in line for line in before), before


@pytest.fixture
def queued(env: dict[str, str], shop: Path, redis_server: RedisServer | ExternalRedis) -> dict[str, str]:
    """Return the environment of a producer with a Redis and the model `colors`."""
    env = env | {"TAGMILL_BROKER_URL": redis_server.url}
    tagmill("model", "add", shop / "c.onnx", env=env)
    return env


def sleeps(process: int) -> bool:
    """Return whether the main thread of a process sleeps all the time: it has started, and waits."""
    with suppress(OSError):  # it has ended
        for _ in range(5):
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "S":
                return False
            time.sleep(0.08)
        return True
    return False


def test_ctrl_c_while_waiting_names_the_run(shop: Path, queued: dict[str, str]) -> None:
    number = len(tagmill_json("run", "list", env=queued)) + 1

    def watches(process: int) -> bool:
        """Return whether the process sleeps between two looks at a run that is queued."""
        with closing(sqlite3.connect(shop / "tags.db")) as database:
            found = database.execute("SELECT count(*) FROM batch WHERE run_id = ? AND published_at > 0", [number])
            published = found.fetchone()[0]
        return bool(published) and sleeps(process)

    submit = ["submit", str(shop / ODD), "--model", "colors", "--wait"]
    code, output = interrupt(submit, queued, watches)
    assert code == 130
    assert output.splitlines()[-1] == (
        f"interrupted; run {number} goes on, do not submit it again; follow it with: tagmill run watch {number}"
    )
    code, output = interrupt(["run", "watch", str(number)], queued, sleeps)
    assert (code, f"tagmill run watch {number}" in output) == (130, True)


def test_a_full_disk_does_not_hide_that_the_run_is_queued(shop: Path, queued: dict[str, str]) -> None:
    number = len(tagmill_json("run", "list", env=queued)) + 1
    done = shell(f"tagmill submit '{shop / ODD}' --model colors > /dev/full", queued)
    output = f"write to another place, but do not submit run {number} again; see `tagmill run status {number}`"
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: standard output: No space left on device; {output}"
    assert tagmill_json("run", "status", number, env=queued)["state"] == "queued"


def test_a_refused_model_name_leaves_nothing_in_the_store(env: dict[str, str], tmp_path: Path) -> None:
    bundle, store = write_classifier(tmp_path / "c.onnx", sharpness=5.0), tmp_path / "store"
    env = env | {"TAGMILL_MODEL_STORE": str(store)}
    assert "model name 'a/b' must" in tagmill("model", "add", bundle, "--name", "a/b", env=env, expect=2).stderr
    assert not store.exists()
    tagmill("model", "add", bundle, "--name", "third", env=env)
    assert len(list(store.iterdir())) == 1


def test_a_wrong_password_or_database_of_redis_is_named(
    shop: Path, queued: dict[str, str], own_redis_server: Callable[..., RedisServer]
) -> None:
    server = own_redis_server(password="right")
    for url, reason in (
        (server.url.replace("right", "wrong"), "invalid username-password pair"),
        (f"{server.url.rsplit('/', 1)[0]}/99", "DB index is out of range"),
    ):
        env = queued | {"TAGMILL_BROKER_URL": url}
        output = tagmill("submit", shop / ODD, "--model", "colors", env=env, expect=78).stderr
        assert reason in output.splitlines()[-1]
        assert "do not submit it again" in output.splitlines()[-1]


def test_a_process_that_ignores_ctrl_c_continues_to_ignore_it() -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.argv = ['tagmill', '--version']\n"
        "from tagmill.cli.main import main\n"
        "try: main()\n"
        "finally: print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_a_ctrl_c_that_a_library_swallows_comes_again() -> None:
    code = (
        "import os, signal, time, tagmill.cli.exit\n"
        "from tagmill.cli.main import main\n"
        "def run_command():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        print('swallowed', flush=True)\n"
        "    time.sleep(60)\n"
        "tagmill.cli.exit.run_command = run_command\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (130, "swallowed\n")
    assert done.stderr == "interrupted; it is safe to run the command again\n"
