"""The report of a run as a whole: figures of all images, a part of them shown, and what becomes of the file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine
from support.ledger import new_model, new_run
from support.reported import KINDS, Reported, add_reported_run

from producer.cli.report import report as command
from producer.report.advice import ADVICE, retry_command
from producer.report.write import Report, ReportOptions, write_report
from tagmill.errors import InputError
from tagmill.ledger.runs.cost import RunCost
from tagmill.ledger.runs.create import cancel_run
from tagmill.outcomes import ErrorCode
from tagmill.settings import Settings

IMAGES = 60


@contextmanager
def no_bar(title: str, total: int) -> Iterator[Any]:
    yield lambda: None


@pytest.fixture(scope="module")
def run(database: Engine, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """A run in which every tenth image failed, and the folder of its images."""
    folder = tmp_path_factory.mktemp("run")
    images = [Reported(f"key-{n}", None if n % 10 == 0 else KINDS[n % 2], 0.6 + n / 200) for n in range(IMAGES)]
    return add_reported_run(database, folder, images), folder


def written(engine: Engine, run_id: int, out: Path, **options: Any) -> tuple[Report, str]:
    found = write_report(engine, run_id, out, Settings(), ReportOptions(**options), no_bar)
    return found, out.read_text(encoding="utf-8")


def texts(page: str) -> str:
    """Return the words of a page, without its data."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition('<script type="')[0]).split())


def test_a_part_of_the_images_is_shown_and_the_figures_are_of_all(
    database: Engine, run: tuple[int, Path], tmp_path: Path
) -> None:
    found, page = written(database, run[0], tmp_path / "report.html", images=20)
    assert (found.images, found.shown, found.unreadable) == (60, 20, 0)
    said = texts(page)
    assert (
        "Figures and charts are of all 60 images. The grid shows 20 of them: 2 that failed, 4 that are the least"
        in said
    )
    assert "6 of 60 images could not be tagged" in said
    assert re.search(r"hat 24 44\.4%", said)
    assert re.search(r"shoe 30 55\.6%", said)
    assert "cost of" not in said


def test_the_cost_is_shown_if_the_settings_have_prices(
    database: Engine, run: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.report.write.run_cost", lambda *_: RunCost(60, 90.0, 0.0, 20.0, 0.00015))
    _, page = written(database, run[0], tmp_path / "report.html", images=0)
    assert "cost of 1,000 images 0.0025 0.00015 in all" in texts(page)


def test_a_run_without_results_is_a_page_that_says_so(database: Engine, tmp_path: Path) -> None:
    run_id = new_run(database, new_model(database))
    found, page = written(database, run_id, tmp_path / "report.html")
    assert (found.images, found.shown, found.unreadable) == (3, 3, 0)
    said = texts(page)
    assert "The run is queued: 3 images had no outcome when this page was written. Write it again" in said
    assert "This model gave no label to any image." in said
    cancel_run(database, run_id)
    assert "The run is cancelled: 3 images had no outcome" in texts(written(database, run_id, tmp_path / "b.html")[1])


def test_an_image_that_changed_or_is_gone_is_on_the_page_without_a_preview(
    database: Engine, run: tuple[int, Path], tmp_path: Path
) -> None:
    changed, gone = run[1] / "1.png", run[1] / "2.png"
    kept = {path: path.read_bytes() for path in (changed, gone)}
    changed.write_bytes(b"others")
    gone.unlink()
    try:
        found, page = written(database, run[0], tmp_path / "report.html")
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    assert (found.shown, found.unreadable) == (60, 2)
    assert "changed since it was tagged" in page
    assert "no file at its path on this machine" in page


def test_the_old_page_stays_if_the_new_one_cannot_be_written(
    database: Engine, run: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")

    def fail(*_: Any) -> bytes:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("producer.report.preview.previews.thumbnail", fail)
    with pytest.raises(RuntimeError):
        written(database, run[0], out)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_the_command_says_what_it_wrote(
    database: Engine, run: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    out, truth = tmp_path / "page.html", tmp_path / "truth.csv"
    truth.write_text("image_key,label\nkey-2,hat\nkey-3,hat\nnone,hat\n")
    words = [str(run[0]), "-o", str(out), "--truth", str(truth), "--images", "30"]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.exception is None
    assert done.stdout.startswith(f"{out}: run {run[0]}, 60 images, 30 of them shown, 0.")
    said = texts(out.read_text(encoding="utf-8"))
    assert "50.0% (9.5% to 90.5%) of 2 images are right" in said
    assert "Of the truth, 1 key is not in this run." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [(["999"], "no run 999; see `tagmill run list`"), (["1", "-o", "none/page.html"], "none: no such folder; make it")],
)
def test_a_mistake_of_the_user_is_one_line(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAGMILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def test_every_code_has_a_meaning_and_advice_and_those_worth_it_a_command() -> None:
    assert set(ADVICE) == set(ErrorCode)
    named = set(re.findall(r"TAGMILL_\w+", str(ADVICE)))
    assert named <= {f"TAGMILL_{name.upper()}" for name in Settings.model_fields}
    assert retry_command(7, "fetch_failed", local=False) == "tagmill run retry 7 --code fetch_failed"
    assert (
        retry_command(7, "fetch_failed", local=True) == "the same tagmill tag with --retry-failed --code fetch_failed"
    )
    assert retry_command(7, "corrupt", local=False) is None
