"""Unknown TAGMILL_ variables are reported once; every variable that is read anywhere is accepted."""

import re
from pathlib import Path

import pytest

from tagmill.settings import Settings, load_settings, warn_of_unknown

ROOT = Path(__file__).parents[3]
CODE = [path for room in ("tagmill", "producer", "worker", "training", "export", "benchmarks", "tests")
        for path in (ROOT / room).rglob("*.py")]  # fmt: skip
OTHER_FILES = [ROOT / name for name in ("Dockerfile", "Makefile", "docker-compose.yml", ".env.example", ".ci/run")]


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_unknown_setting_is_reported_once_with_the_closest_known_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("tagmill_concurency", "4")
    assert load_settings() == load_settings(concurrency=3)
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("warning: ignored, ")
    assert line.endswith("CONCURENCY (did you mean TAGMILL_CONCURRENCY?)")
    assert output.out == ""


def test_several_unknown_settings_are_reported_in_one_line_without_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("tagmill_databse_url=postgresql://user:hunter2@host/db\nREDIS_PASSWORD=x\n")
    monkeypatch.setenv("tagmill_zzz", "hunter2")
    load_settings()
    (line,) = capsys.readouterr().err.splitlines()
    assert "DATABSE_URL (did you mean TAGMILL_DATABASE_URL?), " in line
    assert line.endswith("ZZZ")
    assert "hunter2" not in line
    assert "REDIS" not in line


def test_every_variable_that_is_read_anywhere_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*CODE, *OTHER_FILES])
    named = set(re.findall(r"TAGMILL_[A-Z_]*[A-Z]", text))
    assert {"TAGMILL_PROCESS", "TAGMILL_LOG_LEVEL", "TAGMILL_CATALOG", "TAGMILL_TEST_BROWSER"} <= named
    warn_of_unknown(map(str.lower, named), Settings.model_fields)
    assert capsys.readouterr().err == ""
