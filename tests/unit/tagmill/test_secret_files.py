"""URLs with passwords may be in files; a file that cannot be used is one line that does not show what it holds."""

from pathlib import Path

import pytest

from tagmill.errors import ConfigurationError
from tagmill.settings import load_settings

URL = "postgresql://tagmill:hunter2@db/tagmill"


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_url_is_read_from_its_file_without_the_newline_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "database").write_text(f"{URL}\n")
    (tmp_path / "broker").write_text("redis://:hunter2@redis:6379/0")
    monkeypatch.setenv("TAGMILL_DATABASE_URL_FILE", str(tmp_path / "database"))
    (tmp_path / ".env").write_text(f"TAGMILL_BROKER_URL_FILE={tmp_path / 'broker'}\n")
    settings = load_settings()
    assert (settings.database_url, settings.broker_url) == (URL, "redis://:hunter2@redis:6379/0")
    assert load_settings(database_url="sqlite:///other.db").database_url == "sqlite:///other.db"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (f"{URL}\n{URL}\n".encode(), "more than one line"),
        (b"x" * 20_000, "more than one line"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("TAGMILL_SOURCE_URL_FILE", str(file))
    with pytest.raises(ConfigurationError, match=f"^TAGMILL_SOURCE_URL_FILE: {file}: .*{said}") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_a_wrong_url_in_a_file_is_refused_as_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("mysql://root:hunter2@db/tagmill")
    monkeypatch.setenv("TAGMILL_DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(ConfigurationError, match="TAGMILL_DATABASE_URL: names mysql"):
        load_settings()


def test_a_setting_and_its_file_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("TAGMILL_DATABASE_URL", URL)
    with pytest.raises(ConfigurationError, match="TAGMILL_DATABASE_URL and TAGMILL_DATABASE_URL_FILE are both set"):
        load_settings()


def test_a_variable_without_a_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_BROKER_URL_FILE", "")
    with pytest.raises(ConfigurationError, match="TAGMILL_BROKER_URL_FILE: is empty; name a file"):
        load_settings()
