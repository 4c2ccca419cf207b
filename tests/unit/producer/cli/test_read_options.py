"""The options that say how sources are read, as commands take them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producer.cli.submit import submit
from tagmill.errors import ExitCode

FEED = "id;bild;marke;price\n1;/1;Größe;5\n2;/2;Nike;50\n3;/3,/4;Nike;7\n"


@pytest.fixture
def feed(tmp_path: Path) -> str:
    """A feed in an encoding, with a delimiter and a column that must be named."""
    path = tmp_path / "feed.dat"
    path.write_bytes(FEED.replace(";", "|").encode("cp1252"))
    return str(path)


def dry_run(*words: str) -> Result:
    return CliRunner().invoke(submit, [*words, "--dry-run", "--json"], standalone_mode=False)


def test_all_options_reach_the_readers(feed: str) -> None:
    words = [
        feed,
        "--format",
        "csv",
        "--encoding",
        "cp1252",
        "--delimiter",
        "|",
        "--uri-column",
        "bild",
        "--split",
        ",",
    ]
    assert json.loads(dry_run(*words).stdout)["images"] == 4
    assert json.loads(dry_run(*words, "--where", "marke=Größe").stdout)["images"] == 1
    assert json.loads(dry_run(*words, "--where", "marke=Nike", "--where", "price>10").stdout)["images"] == 1
    assert json.loads(dry_run(*words, "--limit", "3").stdout)["images"] == 3
    assert json.loads(dry_run(*words, "--sample", "2", "--seed", "5").stdout)["images"] == 2
    assert dry_run(*words, "--key-column", "sku").return_value == ExitCode.USAGE


def test_a_tab_can_be_written_as_a_word(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id\turi,x\tnote\n1\t/1\tb\n")
    assert json.loads(dry_run(str(path), "--delimiter", "tab", "--uri-column", "uri,x").stdout)["images"] == 1


def test_what_a_reader_decides_is_told_once_on_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,uri,url\n1,/1,/2\n")
    done = dry_run(str(path), str(path))
    assert done.stderr == f"{path}: takes the column uri, not url; choose with --uri-column\n"
    assert json.loads(done.stdout)["problem_count"] == 1  # the key comes twice


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoding", "base64"], "is no encoding"),
        (["--encoding", "klingon"], "is no encoding"),
        (["--delimiter", ""], "is not one character"),
        (["--delimiter", "::"], "is not one character"),
        (["--split", ""], "is empty"),
        (["--limit", "0"], "0 is not in the range"),
        (["--format", "xlsx"], "is not one of"),
    ],
)
def test_what_cannot_be_meant_is_refused(feed: str, words: list[str], message: str) -> None:
    done = CliRunner().invoke(submit, [feed, "--dry-run", *words])
    assert done.exit_code == ExitCode.USAGE
    assert message in " ".join(done.stderr.split())
