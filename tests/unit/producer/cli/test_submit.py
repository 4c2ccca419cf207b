"""`tagmill submit --dry-run` ends with the exit code and the message of the submission."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.image_fixtures import write_folder

from producer.cli.submit import submit
from tagmill.errors import ExitCode, InputError, NothingToDo, TagmillError


def dry_run(*words: object) -> Result:
    """Run `tagmill submit --dry-run`."""
    return CliRunner().invoke(submit, [*map(str, words), "--dry-run"], standalone_mode=False)


@pytest.mark.usefixtures("registered")
def test_sources_without_a_problem_end_with_exit_code_0(tmp_path: Path) -> None:
    write_folder(tmp_path / "shop", 3)
    done = dry_run(tmp_path / "shop", "--model", "colors")
    assert (done.return_value, done.stdout) == (ExitCode.DONE, "3 images, 0 problems; nothing was queued\n")


@pytest.mark.usefixtures("registered")
def test_an_unknown_model_gives_the_error_of_the_submission(tmp_path: Path) -> None:
    write_folder(tmp_path / "shop", 3)
    real = CliRunner().invoke(submit, [str(tmp_path / "shop"), "--model", "shirts"])
    dry = dry_run(tmp_path / "shop", "--model", "shirts")
    assert isinstance(real.exception, InputError)
    assert str(dry.exception) == str(real.exception) == "no model shirts; registered are: colors"


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("manifest", "error"),
    [("", NothingToDo), ("image_key,uri\n", NothingToDo), ("image_key,uri\na,\n", InputError), (None, InputError)],
)
def test_a_source_with_a_problem_ends_with_the_exit_code_of_the_submission(
    tmp_path: Path, manifest: str | None, error: type[TagmillError]
) -> None:
    source = tmp_path / "shop.csv"
    if manifest == "":
        source = tmp_path / "empty"
        source.mkdir()
    elif manifest is not None:
        source.write_text(manifest)
    real = CliRunner().invoke(submit, [str(source), "--model", "colors"])
    assert isinstance(real.exception, error)
    assert dry_run(source, "--model", "colors").return_value == error.exit_code


@pytest.mark.usefixtures("registered")
def test_a_folder_whose_name_sql_cannot_store_gives_the_error_of_the_submission(tmp_path: Path) -> None:
    manifest = tmp_path / "sh\udcffp" / "shop.csv"
    manifest.parent.mkdir()
    manifest.write_text("image_key,uri\na,https://shop/a.jpg\n")
    real = CliRunner().invoke(submit, [str(manifest), "--model", "colors"])
    dry = dry_run(manifest, "--model", "colors")
    assert isinstance(real.exception, InputError)
    assert str(dry.exception) == str(real.exception)
    assert "its name is not UTF-8, rename it" in str(real.exception)


@pytest.fixture
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with no setting."""
    for name in ("DATABASE_URL", "BROKER_URL", "MODEL_STORE"):
        monkeypatch.delenv(f"TAGMILL_{name}", raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    write_folder(tmp_path / "shop", 3)
    return tmp_path / "shop"


def test_a_dry_run_needs_no_redis_no_database_and_no_model(unset: Path) -> None:
    done = dry_run(unset)
    assert (done.return_value, done.stdout) == (ExitCode.DONE, "3 images, 0 problems; nothing was queued\n")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("url", [None, "postgresql://nobody@127.0.0.1:1/none", "sqlite:////no/such/folder/tags.db"])
def test_a_dry_run_says_that_models_are_not_checked_without_a_database(
    unset: Path, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url:
        monkeypatch.setenv("TAGMILL_DATABASE_URL", url)
    done = dry_run(unset, "--model", "colors")
    assert (done.return_value, done.stdout) == (ExitCode.DONE, "3 images, 0 problems; nothing was queued\n")
    assert done.stderr.startswith("the models were not checked: ")
    assert not list(Path().iterdir())


def test_a_submission_needs_a_model(unset: Path) -> None:
    done = CliRunner().invoke(submit, [str(unset)])
    assert (done.exit_code, "Missing option '--model'" in done.stderr) == (2, True)


def test_a_dry_run_counts_and_names_what_it_skips(unset: Path) -> None:
    (unset / "a.jxl").write_bytes(b"x")
    (unset / "notes.txt").write_bytes(b"x")
    lines = dry_run(unset).stdout.splitlines()
    assert lines[:2] == ["skipped 1 .jxl file, images that are not read: a.jxl", "skipped 1 .txt file: notes.txt"]
    found = json.loads(dry_run(unset, "--json").stdout)
    assert (found["images"], found["skipped_count"]) == (3, 2)
    assert found["skipped"][0] == {"kind": ".jxl", "count": 1, "examples": ["a.jxl"]}


@pytest.mark.parametrize(("words", "message"), [
    ((), "Missing argument 'SOURCE...'."),
    (("shop.csv",), "Missing option '--model'."),
    (("shop.csv", "--resume", "7"), "--resume goes with --max-queued, --wait and --json alone"),
    (("--resume", "7", "--model", "colors"), "--resume goes with --max-queued, --wait and --json alone"),
    (("--resume", "7", "--priority", "normal"), "--resume goes with --max-queued, --wait and --json alone"),
    (("--resume", "7", "--dry-run"), "--resume goes with --max-queued, --wait and --json alone"),
    (("--max-queued", "0"), "0 is not in the range"),
    (("shop.csv", "--dry-run", "--rerun", "failed"), "--dry-run checks every entry: leave --rerun out."),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(words: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(submit, words)
    assert done.exit_code == ExitCode.USAGE
    assert message in done.output


@pytest.mark.usefixtures("registered")
def test_an_unknown_run_is_not_resumed() -> None:
    done = CliRunner().invoke(submit, ["--resume", "7", "--max-queued", "5", "--json"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "no run 7; see `tagmill run list`"
